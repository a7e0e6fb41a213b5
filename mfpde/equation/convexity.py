r"""Whether an energy is convex on a mesh: what every certificate rests on.

Both certificates, ``E[mu] - min E <= mass (Vbar - min V)`` and, with a temperature, ``<= tau KL(mu | p_mu)``, follow
from

.. math::  E[\nu] \ge E[\mu] + \int V[\mu]\, d(\nu - \mu),

which holds for all measures of one mass on the mesh if and only if the second variation ``K`` is not negative along
changes ``h`` of mass 0: ``-|x - y|`` is such a kernel. Where the mass is free, it must not be along any change.

The answer has three values. *True* and *False* are proofs, up to eigenvalues of 1e-10 of the largest entry of ``K``, by
which a certificate may be off; *None* says that neither was found, and there is no certificate then either. In order:

1. by construction (`mfpde.equation.energy.Energy.convex`): convex losses, and positive definite kernels of positive
   weight;
2. a kernel that is a product over the axes is positive where the matrices of its axes are, one of differences where its
   Fourier coefficients on a torus around the box are;
3. of energies that are quadratic in the measure, the eigenvalues of the second variation: in the space of the response
   where there is one, else by a Cholesky factorisation of the matrix of at most `MOST_CELLS` cells;
4. a direction of negative curvature, from a Lanczos process, refutes convexity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, BoundSum, GridEnergy
from mfpde.equation.energy.interaction import BoundDirect
from mfpde.equation.energy.kernels import BoundSeparable, BoundTranslationInvariant
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["NO_CERTIFICATE", "convex_on", "no_certificate", "second_variation"]


NO_CERTIFICATE = "no certificate:"
"""How it is said that an optimality gap would certify nothing."""
NEGATIVE = 1e-10
"""Size of a negative eigenvalue, relative to the largest entry of the second variation, that counts."""
ROUNDING = 1e-14
"""Round-off of an entry of the second variation, relative to the largest before the mean is taken out."""
LANCZOS_STEPS = 80
"""Steps of the process that looks for negative curvature."""
MOST_CELLS = 2048
"""Cells of a matrix that is factorised: a tenth of a second."""
MOST_FEATURES = 1024
MOST_WORK = 4 * 10**9
MOST_ENTRIES = 2**26
"""Multiplications for the eigenvalues in the space of the response, and features times cells."""
MOST_MODES = 2**22
"""Fourier coefficients of a torus around the box."""


def no_certificate(convex: bool | None) -> str:
    """Why there is no certificate; empty where there is one."""
    if convex:
        return ""
    kind = "not convex" if convex is False else "not known to be convex on this mesh"
    return f"{NO_CERTIFICATE} the energy is {kind}"


def convex_on(
    bound: BoundEnergy, grid: Grid, *, free_mass: bool, plan: GridEnergy | None = None, at: Array | None = None
) -> bool | None:
    """Whether an energy is convex among the measures on a mesh: True, False, or None where that is not known.

    Parameters
    ----------
    bound : BoundEnergy
        The energy on the box.
    grid : Grid
        The mesh.
    free_mass : bool
        Whether measures of different mass are compared; otherwise of one mass only.
    plan : GridEnergy, optional
        ``bound.on(grid)``, if there is one already.
    at : array, shape ``grid.shape``, optional
        Where curvature is looked for if it differs from measure to measure; default: the uniform measure.
    """
    unknown = [part for part in bound.parts if part.convex is not True]
    if all(_positive(part, grid, free_mass) for part in unknown):
        return True
    at = np.full(grid.shape, 1.0 / (grid.size * grid.cell_volume)) if at is None else at
    plan = bound.on(grid) if plan is None else plan
    # one step of the process is enough for a kernel that is negative by its construction
    hopeless = any(part.convex is False for part in unknown)
    if hopeless and _negative_curvature(plan, at, bound.quadratic, free_mass):
        return False
    if bound.quadratic and (convex := _by_eigenvalues(bound, grid, free_mass)) is not None:
        return convex
    if not hopeless and _negative_curvature(plan, at, bound.quadratic, free_mass):
        return False
    if not bound.quadratic and all(part.quadratic for part in unknown):
        # what is left out is convex: it is enough that the others are by themselves, though not necessary
        return _by_eigenvalues(unknown[0] if len(unknown) == 1 else BoundSum(unknown), grid, free_mass) or None
    return None


def second_variation(
    potential: Callable[[Array], Array], mu: Array, V: Array, volume: float, quadratic: bool
) -> Callable[[Array], Array]:
    """``h -> K h``, the derivative of the potential at `mu`, where it is `V`, along a change of density.

    Parameters
    ----------
    potential : callable
        ``V[mu]``.
    mu, V : array
    volume : float
        Of a cell.
    quadratic : bool
        Whether V is affine in mu: then one evaluation is exact.
    """
    if quadratic:
        return lambda h: potential(mu + h) - V

    def difference(h: Array) -> Array:
        size = float(np.abs(h).sum()) * volume
        if size == 0.0:
            return np.zeros_like(h)
        # third root of round-off: balances it against the third derivative of the loss
        h = h * (1e-5 / size)
        return (potential(mu + h) - potential(mu - h)) * (size / 2e-5)

    return difference


def _negative_curvature(plan: GridEnergy, mu: Array, quadratic: bool, free_mass: bool) -> bool:
    """Whether a Lanczos process finds a direction of negative curvature; its Ritz values lie within the spectrum."""

    def potential(density: Array) -> Array:
        return plan.evaluate(density)[0]

    grid, n, V = plan.grid, mu.size, potential(mu)
    K = second_variation(potential, mu, V, grid.cell_volume, quadratic)
    # what differences of V carry of round-off
    noise = (1e-14 if quadratic else 1e-10 * math.sqrt(n) * grid.cell_volume) * float(np.max(np.abs(V)))
    steps = min(n - 1, LANCZOS_STEPS, max(10, 2**25 // n))
    uniform = np.full(n, n**-0.5)
    scale = float(np.linalg.norm(K(uniform.reshape(grid.shape))))
    # the constant comes first, so that all others have mass 0
    basis = np.zeros((steps + 1, n))
    if not free_mass:
        basis[0] = uniform
    projected = np.zeros((steps, steps))
    vector = np.random.default_rng(0).standard_normal(n)
    for j in range(steps):
        before = float(np.linalg.norm(vector))
        for _ in range(2):
            vector -= basis[: j + 1].T @ (basis[: j + 1] @ vector)
        size = float(np.linalg.norm(vector))
        if size <= 1e-8 * before:  # an invariant subspace
            break
        basis[j + 1] = vector / size
        vector = K(basis[j + 1].reshape(grid.shape)).ravel()
        projected[: j + 1, j] = projected[j, : j + 1] = basis[1 : j + 2] @ vector
        values = np.linalg.eigvalsh(projected[: j + 1, : j + 1])
        scale = max(scale, float(np.max(np.abs(values))))
        if values[0] < -(1e-9 * scale + noise):
            return True
    return False


def _by_eigenvalues(bound: BoundEnergy, grid: Grid, free_mass: bool) -> bool | None:
    """Whether a quadratic energy is convex, from the eigenvalues of its second variation, where these can be had."""
    r, n = bound.response_size, grid.size
    if not bound.direct and r <= min(MOST_FEATURES, n) and r * r * n <= MOST_WORK and r * n <= MOST_ENTRIES:
        return _positive_in_response(bound, grid, free_mass)
    if n > MOST_CELLS or not all(isinstance(part, BoundDirect) or not part.direct for part in bound.parts):
        return None
    points = grid.points()
    matrix = np.zeros((n, n))
    for part in bound.parts:
        if isinstance(part, BoundDirect):
            matrix += part.weight * part.kernel.matrix(points, points)
        elif part.response_size:
            features = part.features(points)
            matrix += features.T @ _second_derivative(part) @ features
    return _positive_matrix(matrix, free_mass)


def _second_derivative(bound: BoundEnergy) -> Array:
    """The second derivative of a quadratic energy in its response."""
    r = bound.response_size
    at_zero = bound.slope(np.zeros(r))
    H = np.array([bound.slope(unit) - at_zero for unit in np.eye(r)]).reshape(r, r)
    return 0.5 * (H + H.T)


def _positive_in_response(bound: BoundEnergy, grid: Grid, free_mass: bool) -> bool:
    """``K = Phi' H Phi`` with the second derivative H of the energy in the response: eigenvalues of ``R H R'``."""
    if not bound.response_size:
        return True
    features = bound.features(grid.points()).T
    largest = float(np.max(np.abs(features)))
    if not free_mass:
        features = features - features.mean(axis=0)
    H = _second_derivative(bound)
    R = np.asarray(np.linalg.qr(features, mode="r"))
    least = float(np.linalg.eigvalsh(R @ H @ R.T)[0])
    entry = float(np.max(np.abs(np.einsum("ik,kl,il->i", features, H, features, optimize=True))))
    noise = ROUNDING * grid.size * largest**2 * float(np.max(np.abs(H)))
    return least >= -(NEGATIVE * entry + noise)


def _positive_matrix(matrix: Array, free_mass: bool = True) -> bool:
    """Whether a symmetric matrix is positive, but for round-off, along vectors that sum to 0 (or along all)."""
    n = len(matrix)
    rounding = ROUNDING * n * float(np.max(np.abs(matrix)))
    matrix = 0.5 * (matrix + matrix.T)
    if not free_mass:
        means = matrix.mean(axis=0)
        matrix += means.mean() - means[:, None] - means[None, :]
    matrix.flat[:: n + 1] += NEGATIVE * float(np.max(np.abs(matrix))) + rounding + 1e-300
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# proofs for any number of cells
# ---------------------------------------------------------------------------------------------------------------------


def _positive(part: BoundEnergy, grid: Grid, free_mass: bool) -> bool:
    """Whether the second variation of a part is known not to be negative along any change on the mesh."""
    if part.convex is True:
        return True
    if not isinstance(part, BoundDirect):
        return False
    kernel, sign = part.kernel, 0
    if isinstance(kernel, BoundSeparable):
        active = sum(on_axis is not None for on_axis in kernel.on_axes)
        # a constant that is added to a kernel does nothing to changes of mass 0; to a factor of a product it does
        level = free_mass or active > 1
        sign = math.prod(_sign_along(kernel, grid, i, level) for i in range(grid.dimension))
    elif isinstance(kernel, BoundTranslationInvariant):
        sign = _sign_of_differences(kernel, grid, free_mass)
    return sign * part.weight > 0.0


def _sign_along(kernel: BoundSeparable, grid: Grid, i: int, level: bool) -> int:
    """1 for a factor that is positive semidefinite on the mesh, -1 for the negative of one, 0 for not known."""
    on_axis, n, x = kernel.on_axes[i], grid.shape[i], grid.centres(i)
    if on_axis is None or on_axis.definite:
        return 1 if on_axis is None else on_axis.definite
    if on_axis.translation_invariant:
        last = n // 2 + 1 if grid.axes[i].periodic else n
        there = np.ravel(on_axis.value(x[:last], x[:1]))
        # around a circle of twice the length, which is as even as the kernel
        back = there[1 : n - last + 1] if grid.axes[i].periodic else there[1:-1]
        if sign := _sign_of_spectrum(np.concatenate([there, back[::-1]]), level):
            return sign
    if n > MOST_CELLS:
        return 0
    matrix = np.array(np.broadcast_to(on_axis.value(x[:, None], x[None, :]), (n, n)))
    return next((sign for sign in (1, -1) if _positive_matrix(sign * matrix, level)), 0)


def _sign_of_differences(kernel: BoundTranslationInvariant, grid: Grid, level: bool) -> int:
    """The sign of a kernel's Fourier coefficients on tori around the box: the mesh's matrix is a block of theirs."""
    # of length 2 n - 2 only along one axis: there a function is as even as its kernel
    for factor in (1, 2, 4, 8) if grid.dimension == 1 else (2, 4, 8):
        sizes = [
            n if axis.periodic else max(2 * n - 2, 1) if factor == 1 else factor * n
            for n, axis in zip(grid.shape, grid.axes, strict=True)
        ]
        if math.prod(sizes) > MOST_MODES:
            break
        steps = [np.where(np.arange(n) <= n // 2, np.arange(n), np.arange(n) - n) for n in sizes]
        with np.errstate(all="ignore"):  # it need not be defined beyond the box
            samples = kernel.at_differences(np.ix_(*(h * k for h, k in zip(grid.spacing, steps, strict=True))))
        if not np.all(np.isfinite(samples)):
            break
        if (sign := _sign_of_spectrum(samples, level)) or all(axis.periodic for axis in grid.axes):
            return sign
    return 0


def _sign_of_spectrum(samples: Array, level: bool) -> int:
    """The sign of all Fourier coefficients of an even function; that of its mean counts only if `level`."""
    import scipy.fft

    spectrum = scipy.fft.rfftn(samples).real.ravel()
    slack = NEGATIVE * float(np.abs(samples).max()) + ROUNDING * float(np.abs(spectrum).max())
    if not level:
        spectrum = spectrum[1:]
    return next((sign for sign in (1, -1) if np.all(sign * spectrum >= -slack)), 0)
