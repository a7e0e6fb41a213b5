"""The transport schemes: how the flux through a face is made and what it guarantees.

The fluxes here are plain NumPy and the definition of each scheme. Those that bring a structure for compiled code
(`Scheme.structure`) have the same ones in `mfpde.mesh.compiled`, which agree with these to round-off.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mfpde.mesh.compiled import structures
from mfpde.mesh.constants import EPSILON, SAFE, TAIL_WIDTH, TINY
from mfpde.mesh.faces import Faces, middle, stencil_weights
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["Limiter", "Muscl", "ScharfetterGummel", "Scheme", "Upwind", "Weno5", "is_compiled"]


class Limiter(enum.Enum):
    """The slope limiter of `Muscl`, from the most to the least cautious.

    With one-sided differences ``a`` and ``b`` of the same sign (otherwise the slope is zero)
    """

    MINMOD = "minmod"
    """``min(|a|, |b|)``."""
    VAN_LEER = "van-leer"
    """``2 |a b| / (|a| + |b|)``: smooth in the data, which keeps adaptive time steps quiet."""
    MC = "mc"
    """``min(2 |a|, 2 |b|, |a + b| / 2)``: the sharpest."""

    def __repr__(self) -> str:
        return str(self)


class Scheme:
    """A transport scheme: what it states about itself, and its fluxes. See `Upwind` for one, or write your own.

    A scheme of one's own is a frozen dataclass that derives from this class, sets the attributes and has `faces`. It
    runs on any mesh, in any dimension, and keeps mass to round-off whatever its fluxes are.

    Attributes
    ----------
    name : str
        For tables and files.
    order : int
        Order in space on smooth densities.
    ghost : int
        Rows that a flux reads on each side of its face.
    point_values : bool
        Whether the arrays hold values at the cell centres rather than cell averages (default).
    positivity : float
        Forward Euler keeps ``mu >= 0`` while ``dt`` times the outflow rate of every cell stays below this number, or
        where a scheme does not keep the sign, is stable. Default 1/2.
    positive : bool
        Whether it keeps ``mu >= 0`` at all. Where not, undershoots are recorded and a run warns of them, and what
        needs ``mu >= 0``, such as the optimality gap, is NaN. Default True.
    diffusion_share : float
        With what weight ``tau g / h`` of a face counts in the outflow rate. Default 1.
    limited : bool
        Whether the fluxes depend on the length of the step, for which they keep ``mu >= 0`` by forward Euler.
    row : callable or None
        The flux through one face, ``row(mu, V, g, h, tau)``, where nothing else is needed: `mu` and `V` are ``2 ghost``
        entries around the face, as in `Faces`.
    compiled : bool
        Whether `row` is to be compiled, as fast as the schemes of the package, for some seconds in every process. It is
        called with numbers then, else with arrays, and has to be written for both: ``np.where`` and ``np.maximum``
        instead of ``if``. Default False.

    Examples
    --------
    Donor cells as Rusanov writes them, a central flux and a dissipation:

    >>> from dataclasses import dataclass
    >>> import mfpde as mf
    >>> @dataclass(frozen=True)
    ... class Rusanov(mf.Scheme):
    ...     name, order, ghost = "rusanov", 1, 1
    ...
    ...     @staticmethod
    ...     def row(mu, V, g, h, tau):
    ...         v = -g * (V[1] - V[0]) / h
    ...         return v * (mu[0] + mu[1]) / 2 - (abs(v) / 2 + tau * g / h) * (mu[1] - mu[0])
    >>> mf.solve(mf.problems.quadratic_well(), shape=(50,), scheme=Rusanov()).result.name
    'SUCCESS'
    """

    name: ClassVar[str]
    order: ClassVar[int]
    ghost: ClassVar[int]
    point_values: ClassVar[bool] = False
    positivity: ClassVar[float] = 0.5
    positive: ClassVar[bool] = True
    diffusion_share: ClassVar[float] = 1.0
    limited: ClassVar[bool] = False
    row: ClassVar[Callable[..., Any] | None] = None
    compiled: ClassVar[bool] = False

    def faces(self, at: Faces) -> Array:
        """The fluxes ``J`` in the direction of the axis, by drift and, where ``at.temperature > 0``, diffusion.

        Parameters
        ----------
        at : Faces
            Rows of density and potential around all faces across an axis, which is the first axis of every array.

        Returns
        -------
        array
            One flux a face. Those through walls are set to 0 by the operator.
        """
        if self.row is None:
            raise TypeError(f"{type(self).__name__} has no fluxes: a scheme needs `row` or `faces`, see mfpde.Scheme")
        try:
            return np.asarray(self.row(at.mu, at.V, at.g, at.h, at.temperature))
        except ValueError as error:
            if "truth value" not in str(error):
                raise
            remedy = "it is called with arrays: write np.where and np.maximum instead of if"
            raise ValueError(f"the row of {self!r} asks whether an array is true; {remedy}") from error

    def velocity(self, at: Faces) -> Array:
        """``v = -g dV/dx`` at the faces, whose outflow bounds the step: by default from the two cells beside them."""
        lower, upper = middle(at.V, 2)
        return at.g * ((-1.0 / at.h) * (upper - lower))

    def conductance(self, at: Faces) -> Array | float:
        """What diffusion lets through the faces, times the share of it that counts as outflow."""
        return self.diffusion_share * at.temperature / at.h * at.g

    def structure(self) -> Any:
        """The scheme as a structure that the package's compiled code knows; None for any other."""
        return None


@dataclass(frozen=True)
class Upwind(Scheme):
    """First-order donor cell: ``J = v^+ mu_i + v^- mu_(i+1)``, ``v = -g_f (V_(i+1) - V_i)/h``.

    Cell averages; positive under forward Euler up to an outflow number of 1; the discrete energy decays.

    Notes
    -----
    **Good values**: for bounds and for debugging only. Its diffusion, ``|v| h / 2``, spreads mass over empty
    cells and can fake escapes that the equation does not make.
    """

    name: ClassVar[str] = "upwind"
    order: ClassVar[int] = 1
    point_values: ClassVar[bool] = False
    positivity: ClassVar[float] = 1.0
    ghost: ClassVar[int] = 1
    compiled: ClassVar[bool] = True

    def faces(self, at: Faces) -> Array:
        """Upwind fluxes, and two-point diffusion."""
        return _upwind(self.velocity(at), *at.mu) + _diffusion(at)

    def structure(self) -> structures.Upwind:
        """The scheme as a structure that compiled code knows."""
        return structures.Upwind()


@dataclass(frozen=True)
class Muscl(Scheme):
    """Second order, structure-preserving: the upwind flux with limited linear face values.

    ``J = v^+ mu_left + v^- mu_right``, ``v = -g_f (V_(i+1) - V_i)/h``. The face values are non-negative, so in
    continuous time and without entropy the discrete energy obeys, face by face,
    ``dE_h/dt = - sum_f |v_f|^2 mu_f h^d / g_f``. Cell averages; positive under forward Euler up to an outflow
    number of 1/2.

    Parameters
    ----------
    limiter : Limiter
        Default van Leer.

    Raises
    ------
    TypeError
        If `limiter` is not a `Limiter`.

    Notes
    -----
    **Good values**: the default limiter. Choose this scheme when the energy law must hold on the mesh itself,
    when the density jumps, or once it has concentrated to a few cells; on smooth densities `Weno5` gives more
    digits for the same work.

    Examples
    --------
    >>> Muscl().limiter
    Limiter.VAN_LEER
    """

    limiter: Limiter = Limiter.VAN_LEER

    name: ClassVar[str] = "muscl"
    order: ClassVar[int] = 2
    point_values: ClassVar[bool] = False
    positivity: ClassVar[float] = 0.5
    diffusion_share: ClassVar[float] = 0.5  # a cell gives up to 2 mu to the drift, mu to the diffusion
    ghost: ClassVar[int] = 2
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.limiter, Limiter):
            names = ", ".join(f"Limiter.{limiter.name}" for limiter in Limiter)
            raise TypeError(f"limiter must be one of {names}, not {shown(self.limiter)}")

    def faces(self, at: Faces) -> Array:
        """Upwind fluxes of limited linear reconstructions, and two-point diffusion."""
        return _muscl(at, self.limiter) + _diffusion(at)

    def structure(self) -> structures.Muscl:
        """The scheme as a structure that compiled code knows."""
        return structures.Muscl(list(Limiter).index(self.limiter))


@dataclass(frozen=True)
class Weno5(Scheme):
    """Fifth order on point values: WENO-Z interpolation to the faces plus the conservative flux corrections.

    ``G = v mu_f`` with `mu` interpolated from the upwind side and `v` a six-point difference of the potential,
    then ``F = G - d^2 G / 24 + 3 d^4 G / 640`` along the line. Two protections:

    - **tail guard**: where max/min of `mu` over a six-cell stencil exceeds `tail_ratio`, and two faces to
      either side, the flux goes over to the van Leer `Muscl` flux, wholly where it exceeds ten times `tail_ratio`
      (linearly in min/max: a switch would be a jump, which collapses steps that follow an error estimate). So it does
      within four faces of a truncation end, where the potential need not continue evenly.
      Empty cells are reached no faster than with `Muscl`.
    - **positivity limiter**: with the step `dt` known, the flux out of a cell is cut so that forward Euler
      keeps ``mu >= 0`` for *every* `dt`; it does nothing on resolved densities below an outflow number of 1/2.

    Parameters
    ----------
    tail_ratio : float
        Largest max/min over a stencil for which the high-order flux alone is used, greater than 1.

    Raises
    ------
    ValueError
        If `tail_ratio` is not a finite number above 1.

    Notes
    -----
    **Good values**: ``tail_ratio=1e4``. Fifth order needs a smooth density that vanishes at truncation ends, is
    periodic, or extends evenly (with the potential) across natural ends; a density that jumps is first order
    whatever the scheme. The discrete energy decays to the accuracy of the scheme, not by an identity.

    References
    ----------
    Borges, Carmona, Costa, Don (2008), J. Comput. Phys. 227, 3191 (weights); Jiang, Shu, Zhang (2013),
    SIAM J. Sci. Comput. 35, A1137 (interpolation with flux corrections).
    """

    tail_ratio: float = 1e4

    name: ClassVar[str] = "weno5"
    order: ClassVar[int] = 5
    point_values: ClassVar[bool] = True
    positivity: ClassVar[float] = 1.0
    diffusion_share: ClassVar[float] = (149.0 / 120.0) ** 2
    ghost: ClassVar[int] = 5
    compiled: ClassVar[bool] = True
    limited: ClassVar[bool] = True

    def __post_init__(self) -> None:
        ratio = self.tail_ratio
        if not (real(ratio) and ratio > 1):
            raise ValueError(f"tail_ratio must be a finite number above 1, not {shown(ratio)}; 1e4 is a good value")
        object.__setattr__(self, "tail_ratio", float(ratio))

    def velocity(self, at: Faces) -> Array:
        """``v = -g dV/dx`` from six cells around the faces."""
        return at.g * ((-1.0 / at.h) * _staggered(middle(at.V, 6)))

    def faces(self, at: Faces) -> Array:
        """The fluxes of interpolated densities with their corrections, the tail guard, and the positivity limiter."""
        near = [at.shifted(k) for k in range(-2, 3)]
        points = [self._points(face) for face in near]
        shares = [np.where(face.truncated, 1.0, _tail(middle(face.mu, 6), self.tail_ratio)) for face in near]
        flux = _combined(CORRECTION, points)
        share = np.maximum.reduce(shares)
        low = _muscl(at, Limiter.VAN_LEER) + _diffusion(at)
        flux = np.where(share == 1.0, low, flux + share * (low - flux))
        return self._limited(at, flux) if at.dt > 0.0 else flux

    def _points(self, at: Faces) -> Array:
        """``v mu - tau g d(mu)/dx`` at the middle of the faces."""
        v, cells = self.velocity(at), middle(at.mu, 6)
        points = v * _weno(cells, v > 0.0)
        if at.temperature > 0.0:
            points = points + at.g * ((-at.temperature / at.h) * _staggered(cells))
        return points

    def _limited(self, at: Faces, flux: Array) -> Array:
        """The fluxes, cut so that no donor gives away more than it has in a forward Euler step.

        ``|F| <= mu (kappa |v_out| + slack)`` with ``kappa = min(2, 1/nu)``, ``slack = room (1 - kappa nu)``,
        ``nu = dt * outflow`` the donor's and ``room = h / (2 d dt)``: summed over the 2 d faces and times dt/h that is
        ``mu (kappa nu + 1 - kappa nu)``. With diffusion its conductance is part of ``v_out`` to both sides.
        """
        v, room = self.velocity(at), at.h / (2.0 * at.dimension * at.dt)
        spread = self.conductance(at) if at.temperature > 0.0 else 0.0

        def allowance(mu: Array, speed: Array, leaving: Array) -> Array:
            nu = at.dt * speed
            kappa = 1.0 / np.maximum(nu, 0.5)
            return SAFE * mu * (kappa * leaving + room * np.maximum(1.0 - kappa * nu, 0.0))

        (left, right), (near, far) = middle(at.mu, 2), middle(at.speeds, 2)
        most = allowance(left, near, np.maximum(v, 0.0) + spread)
        least = -allowance(right, far, spread - np.minimum(v, 0.0))
        return np.maximum(np.minimum(flux, most), least)

    def structure(self) -> structures.Weno:
        """The scheme as a structure that compiled code knows."""
        return structures.Weno(self.tail_ratio)


@dataclass(frozen=True)
class ScharfetterGummel(Scheme):
    """The exponentially fitted flux: drift and diffusion at once, exact for Gibbs states.

    Across a face, with ``d = (V_(i+1) - V_i)/tau - log(omega_(i+1)/omega_i)``,

        J = (tau g_f / h) (B(d) mu_i - B(-d) mu_(i+1)) ,    B(x) = x / (e^x - 1) ,

    the exact flux of the stationary equation with constant coefficients between the centres. ``omega e^(-V/tau)`` has
    no flux whatever `h`; at temperature 0 this is `Upwind` bit for bit. Cell averages.

    In space the order is 2 while the cell Peclet number ``|d|`` is moderate and 1 in the drift limit ``|d| >> 1``.
    Explicitly it is positive under forward Euler up to an outflow number of 1; implicitly, one axis at a time
    (`Transport.implicit`), for every step.

    Notes
    -----
    **Good values**: the scheme for temperature > 0. Keep ``|d|`` of order one where the mass is; at small temperatures
    on smooth densities `Weno5` gives more digits, without the exact Gibbs states and with explicit steps only.

    References
    ----------
    Scharfetter, Gummel (1969), IEEE Trans. Electron Devices 16, 64; Chatard (2011), FVCA 6, 235 (entropy).
    """

    name: ClassVar[str] = "scharfetter-gummel"
    order: ClassVar[int] = 2
    point_values: ClassVar[bool] = False
    positivity: ClassVar[float] = 1.0
    ghost: ClassVar[int] = 1
    compiled: ClassVar[bool] = True

    def conductance(self, at: Faces) -> Array:
        """``tau g / h`` times ``B(|d|)``: what flows besides the upwind drift."""
        lower, upper = at.V
        return (at.temperature / at.h) * at.g * _bernoulli(np.abs(upper - lower) / at.temperature)

    def faces(self, at: Faces) -> Array:
        """The exponentially fitted fluxes, upwind ones at temperature 0: ``tau B(-x) = tau B(x) + tau x``."""
        left, right = at.mu
        v = self.velocity(at)
        spread = self.conductance(at) if at.temperature > 0.0 else 0.0
        return (np.maximum(v, 0.0) + spread) * left + (np.minimum(v, 0.0) - spread) * right

    def structure(self) -> structures.Fitted:
        """The scheme as a structure that compiled code knows."""
        return structures.Fitted()


def is_compiled(scheme: Scheme) -> bool:
    """Whether compiled code has the fluxes of a scheme: those of a subclass with fluxes of its own it has not.

    Raises
    ------
    TypeError
        If a class asks for its `row` to be compiled and has more than that.
    """
    for kind in type(scheme).__mro__:
        more = [name for name in ("faces", "velocity", "conductance") if name in vars(kind)]
        if "structure" in vars(kind):
            break
        if vars(kind).get("compiled") and (more or scheme.limited):
            raise TypeError(
                f"{scheme!r}: what is compiled is a `row`, with the velocity and the conductance of mfpde.Scheme and "
                f"no limiter, not {', '.join(more) or 'limited'}; with compiled = False it runs in NumPy"
            )
        if more or ("row" in vars(kind) and "compiled" not in vars(kind) and scheme.structure() is not None):
            return False
    return scheme.compiled


# ---------------------------------------------------------------------------------------------------------------------
# the formulae
# ---------------------------------------------------------------------------------------------------------------------

CORRECTION = (3.0 / 640.0, -29.0 / 480.0, 1067.0 / 960.0, -29.0 / 480.0, 3.0 / 640.0)
"""``F = G - d^2 G/24 + 3 d^4 G/640``: from fluxes at the middle of faces to those whose differences are derivatives."""


def _combined(weights: Sequence[float], rows: Sequence[Array]) -> Array:
    """The sum of rows times weights."""
    return np.asarray(sum(weight * row for weight, row in zip(weights, rows, strict=True)))


def _staggered(rows: Sequence[Array]) -> Array:
    """The sixth-order difference of six rows at the middle, times the spacing; a constant drops out exactly."""
    p0, p1, p2, p3, p4, p5 = rows
    c1, c3, c5 = stencil_weights((-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), 1)[3:]
    return c1 * (p3 - p2) + c3 * (p4 - p1) + c5 * (p5 - p0)


def _upwind(v: Array, left: Array, right: Array) -> Array:
    return np.maximum(v, 0.0) * left + np.minimum(v, 0.0) * right


def _diffusion(at: Faces) -> Array | float:
    """The two-point diffusive fluxes ``-tau g d(mu)/dx``."""
    left, right = middle(at.mu, 2)
    return at.g * ((-at.temperature / at.h) * (right - left)) if at.temperature > 0.0 else 0.0


def _half_slopes(before: Array, here: Array, after: Array, limiter: Limiter) -> Array:
    """Half the limited slope of cells, in units of the spacing."""
    a, b = here - before, after - here
    p, q = np.abs(a), np.abs(b)
    small, large = np.minimum(p, q), np.maximum(p, q)
    if limiter is Limiter.VAN_LEER:
        size = small * (large / (small + large + TINY))  # not a*b / (a + b): products of tails underflow
    elif limiter is Limiter.MINMOD:
        size = 0.5 * small
    else:
        size = np.minimum(small, 0.25 * (p + q))
    return np.where((a > 0.0) == (b > 0.0), np.where(a > 0.0, size, -size), 0.0)


def _muscl(at: Faces, limiter: Limiter) -> Array:
    """Upwind fluxes of limited linear reconstructions, with the two-point velocity."""
    u0, u1, u2, u3 = middle(at.mu, 4)
    left = u1 + _half_slopes(u0, u1, u2, limiter)
    right = u2 - _half_slopes(u1, u2, u3, limiter)
    return _upwind(Scheme.velocity(Upwind(), at), left, right)


def _tail(cells: Sequence[Array], ratio: float) -> Array:
    """The share of the fallback: 0 up to max/min of six cells of `ratio`, 1 from `TAIL_WIDTH` times that on."""
    high, low = np.maximum.reduce(cells), np.minimum.reduce(cells)
    share = (high - ratio * low) / (high + TINY) * (TAIL_WIDTH / (TAIL_WIDTH - 1.0))
    return np.where(high > ratio * low, np.clip(share, 0.0, 1.0), 0.0)


def _weno(cells: Sequence[Array], forward: NDArray[np.bool_]) -> Array:
    """WENO-Z interpolation (power 2) of five of six rows, from the left where `forward`.

    Candidates ``(3 u0 - 10 u1 + 15 u2)/8``, ``(-u1 + 6 u2 + 3 u3)/8``, ``(3 u2 + 6 u3 - u4)/8`` with linear weights
    1/16, 10/16, 5/16 and ``alpha_k = d_k (1 + t^2/b_k^2)``. Smoothness is measured on the stencil divided by a power of
    two near its largest value: squares of tails underflow, and no fixed epsilon fits all.
    """
    u = [np.where(forward, a, b) for a, b in zip(cells[:5], cells[:0:-1], strict=True)]
    exponent = np.frexp(np.maximum.reduce(cells) + TINY)[1]
    d10, d21, d32, d43 = (np.ldexp(u[k + 1] - u[k], -exponent) for k in range(4))
    c0, c1, c2 = d21 - d10, d32 - d21, d43 - d32
    g0, g1, g2 = 3.0 * d21 - d10, d32 + d21, 3.0 * d32 - d43
    b0, b1, b2 = (13.0 / 3.0 * c * c + (g * g + EPSILON) for c, g in ((c0, g0), (c1, g1), (c2, g2)))
    t = (b0 - b2) ** 2
    s0, s1, s2 = b0 * b0, b1 * b1, b2 * b2
    a0, a1, a2 = (s0 + t) * (s1 * s2), (s1 + t) * (s0 * s2), (s2 + t) * (s0 * s1)
    # candidates as u2 plus differences, the linear weights 1, 10, 5 with them
    q0, q1, q2 = 7.0 * d21 - 3.0 * d10, 30.0 * d32 + 10.0 * d21, 25.0 * d32 - 5.0 * d43
    return u[2] + np.ldexp(0.125 * (a0 * q0 + a1 * q1 + a2 * q2) / (a0 + 10.0 * a1 + 5.0 * a2), exponent)


def _bernoulli(x: Array) -> Array:
    """``B(x) = x / (e^x - 1)`` for ``x >= 0``."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.where(x == 0.0, 1.0, np.where(x > 700.0, 0.0, x / np.expm1(x)))
