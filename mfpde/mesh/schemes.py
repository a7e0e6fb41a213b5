"""The transport schemes: how a face value is made and what it guarantees."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from mfpde.support.arguments import real, shown

__all__ = ["Limiter", "Muscl", "ScharfetterGummel", "Scheme", "Upwind", "Weno5"]


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
    """What every transport scheme states about itself; see `Upwind`, `Muscl`, `Weno5`, `ScharfetterGummel`.

    Attributes
    ----------
    name : str
        For tables and files.
    order : int
        Order in space on smooth densities.
    point_values : bool
        Whether the arrays hold values at the cell centres rather than cell averages.
    positivity : float
        Forward Euler keeps ``mu >= 0`` while ``dt * Transport.outflow_rate`` stays below this number.
    diffusion_share : float
        With what weight ``tau g / h`` of a face counts in `Transport.outflow_rate`.
    ghost : int
        Cells needed on each side of a line.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    point_values: ClassVar[bool]
    positivity: ClassVar[float]
    diffusion_share: ClassVar[float] = 1.0
    ghost: ClassVar[int]


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

    def __post_init__(self) -> None:
        if not isinstance(self.limiter, Limiter):
            names = ", ".join(f"Limiter.{limiter.name}" for limiter in Limiter)
            raise TypeError(f"limiter must be one of {names}, not {shown(self.limiter)}")


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

    def __post_init__(self) -> None:
        ratio = self.tail_ratio
        if not (real(ratio) and ratio > 1):
            raise ValueError(f"tail_ratio must be a finite number above 1, not {shown(ratio)}; 1e4 is a good value")
        object.__setattr__(self, "tail_ratio", float(ratio))


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
