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
2. by what the energy knows of itself on the mesh (`BoundEnergy.sign_on`): a kernel that is a product over the axes is
   positive where the matrices of its axes are, one of differences where its Fourier coefficients on a torus around the
   box are;
3. of energies that are quadratic in the measure, the eigenvalues of the second variation: in the space of the response
   where there is one, else by a Cholesky factorisation of the matrix of at most `MOST_CELLS` cells;
4. a direction of negative curvature, from a Lanczos process, refutes convexity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, BoundSum
from mfpde.equation.energy.definite import MOST_CELLS, NEGATIVE, ROUNDING, positive_matrix
from mfpde.equation.energy.kernels import MOST_MODES
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["NO_CERTIFICATE", "convex_on", "convexity_memory", "no_certificate", "second_variation"]


NO_CERTIFICATE = "no certificate:"
"""How it is said that an optimality gap would certify nothing."""
LANCZOS_STEPS = 80
"""Steps of the process that looks for negative curvature."""
LEAST_STEPS, MOST_NUMBERS = 10, 2**25
"""Steps that it takes on any mesh, and numbers that its vectors have in all beyond those."""
TRANSFORM = 4
"""Arrays of numbers that a transform of one takes, the samples and the spectrum included; of a line its differences
as well."""
FEW_CELLS = 8
"""Cells along each axis of the mesh that tells what will be known."""
ROWS = 8
"""Vectors of that process that room is made for at a time: a kernel that is negative shows in the first."""
MOST_COLUMNS = 512
"""Cells of a matrix that is made column by column, an evaluation on the mesh each."""
MOST_FEATURES = 1024
MOST_WORK = 4 * 10**9
MOST_ENTRIES = 2**26
"""Multiplications for the eigenvalues in the space of the response, and features times cells."""


def no_certificate(convex: bool | None, lyapunov: bool = True) -> str:
    """Why there is no certificate; empty where there is one.

    Parameters
    ----------
    convex : bool or None
        Whether the energy is convex, as `convex_on` says it.
    lyapunov : bool
        Whether the potential is the first variation of an energy at all.
    """
    if not lyapunov:
        return f"{NO_CERTIFICATE} the potential is not said to be the first variation of an energy"
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
    if not bound.lyapunov:  # no value falls, so there is no minimum to be near to
        return None
    unknown = [part for part in bound.parts if part.convex is not True]
    if all(part.sign_on(grid, free_mass) > 0 for part in unknown):
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
    potential: Callable[[Array], Array], mu: Array, V: Array, volume: float, quadratic: bool, mass: float = 1.0
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
        Whether V is affine in mu: then one evaluation is exact; else central differences stand in.
    mass : float
        Of which the differences take 1e-5 as their step.
    """
    if quadratic:
        return lambda h: potential(mu + h) - V

    def difference(h: Array) -> Array:
        size = float(np.abs(h).sum()) * volume
        if size == 0.0:
            return np.zeros_like(h)
        # third root of round-off: balances it against the third derivative of the loss
        h = h * (1e-5 * mass / size)
        return (potential(mu + h) - potential(mu - h)) * (size / (2e-5 * mass))

    return difference


def convexity_memory(bound: BoundEnergy, grid: Grid, *, free_mass: bool) -> float:
    """The bytes that `convex_on` takes besides a plan, at most, as far as a coarse mesh tells.

    Whether the second variation is known to be positive is asked on a mesh of few cells; on the mesh itself that costs
    transforms of up to `MOST_MODES` numbers.
    """
    unknown = [part for part in bound.parts if part.convex is not True]
    if not bound.lyapunov or not unknown:
        return 0.0
    few = Grid(grid.axes, tuple(min(n, FEW_CELLS) for n in grid.shape))
    known = all(part.sign_on(few, free_mass) > 0 for part in unknown)
    # the first torus that is looked at has twice the cells along each axis, the last one eight times
    modes = min(MOST_MODES, (2 if known else 8) ** grid.dimension * grid.size)
    arrays = TRANSFORM + (3 if grid.dimension == 1 else 0)  # some lengths take one more
    transforms = 8.0 * arrays * modes if any(part.direct for part in unknown) else 0.0
    if known:
        return transforms
    rows = ROWS
    if not any(part.convex is False for part in unknown):
        rows = min(LANCZOS_STEPS, max(LEAST_STEPS, MOST_NUMBERS // grid.size)) + 1
    return max(transforms, 8.0 * (rows + 8) * grid.size + bound.memory(grid).working)


@np.errstate(all="ignore")
def _negative_curvature(plan: GridEnergy, mu: Array, quadratic: bool, free_mass: bool) -> bool:
    """Whether a Lanczos process finds a direction of negative curvature; its Ritz values lie within the spectrum."""

    def potential(density: Array) -> Array:
        return plan.evaluate(density)[0]

    grid, n, V = plan.grid, mu.size, potential(mu)
    closed = None if quadratic else plan.curvature(mu)
    K = second_variation(potential, mu, V, grid.cell_volume, quadratic) if closed is None else closed
    # what differences of V carry of round-off
    differences = closed is None and not quadratic
    noise = (1e-10 * math.sqrt(n) * grid.cell_volume if differences else 1e-14) * float(np.max(np.abs(V)))
    steps = min(n - 1, LANCZOS_STEPS, max(LEAST_STEPS, MOST_NUMBERS // n))
    uniform = np.full(n, n**-0.5)
    scale = float(np.linalg.norm(K(uniform.reshape(grid.shape))))
    if not np.isfinite(scale):
        return False
    # the constant comes first, so that all others have mass 0; there is room for as many as there are
    basis = np.zeros((min(steps + 1, ROWS), n))
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
        if j + 1 == len(basis):
            basis.resize((min(steps + 1, j + 1 + ROWS), n), refcheck=False)  # in place, as nothing else sees it
        basis[j + 1] = vector / size
        vector = K(basis[j + 1].reshape(grid.shape)).ravel()
        if not np.isfinite(vector).all():  # V has no values where the density is a little below 0: nothing is known
            break
        projected[: j + 1, j] = projected[j, : j + 1] = basis[1 : j + 2] @ vector
        values = np.linalg.eigvalsh(projected[: j + 1, : j + 1])
        scale = max(scale, float(np.max(np.abs(values))))
        if values[0] < -(1e-9 * scale + noise):
            return True
    return False


def _by_eigenvalues(bound: BoundEnergy, grid: Grid, free_mass: bool) -> bool | None:
    """Whether a quadratic energy is convex, from the eigenvalues of its second variation, where these can be had."""
    r, n = bound.response_size, grid.size
    factorised = "response" in bound.capabilities
    if factorised and r <= min(MOST_FEATURES, n) and r * r * n <= MOST_WORK and r * n <= MOST_ENTRIES:
        return _positive_in_response(bound, grid, free_mass)
    if n <= MOST_CELLS and "points" in bound.capabilities:
        return positive_matrix(bound.kernel_matrix(grid.points()), free_mass)
    if n <= MOST_COLUMNS:
        plan = bound.on(grid)
        zero = plan.evaluate(np.zeros(grid.shape))[0].copy()
        units = np.eye(n).reshape(n, *grid.shape)
        return positive_matrix(np.array([(plan.evaluate(unit)[0] - zero).ravel() for unit in units]), free_mass)
    return None


def _positive_in_response(bound: BoundEnergy, grid: Grid, free_mass: bool) -> bool:
    """``K = Phi' H Phi`` with the second derivative H of the energy in the response: eigenvalues of ``R H R'``."""
    if not bound.response_size:
        return True
    features = bound.features(grid.points()).T
    largest = float(np.max(np.abs(features)))
    if not free_mass:
        features = features - features.mean(axis=0)
    H = bound.curvature(np.zeros(bound.response_size))
    R = np.asarray(np.linalg.qr(features, mode="r"))
    least = float(np.linalg.eigvalsh(R @ H @ R.T)[0])
    entry = float(np.max(np.abs(np.einsum("ik,kl,il->i", features, H, features, optimize=True))))
    noise = ROUNDING * grid.size * largest**2 * float(np.max(np.abs(H)))
    return least >= -(NEGATIVE * entry + noise)
