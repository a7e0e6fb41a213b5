"""Distributional dynamics: one-pass SGD on two Gaussian classes, reduced by symmetry to one, two or four parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from mfpde.equation.energy import Confinement, Features, SquaredLoss
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Network, Problem, Reaction
from mfpde.equation.schedules import PowerLaw
from mfpde.problems.parameters import with_parameters
from mfpde.problems.piecewise_linear import FAR, TINY, PiecewiseLinearUnit, normal_cdf, normal_density
from mfpde.problems.ranges import not_negative, positive
from mfpde.support.arguments import MayBeInfinite
from mfpde.support.arrays import Array

__all__ = [
    "PiecewiseLinearUnit",
    "anisotropic_gaussians",
    "isotropic_gaussians",
    "predicting_failure",
    "relu_gaussians",
]

Dimension = Annotated[float, MayBeInfinite()]

CITATION = """@article{mei2018mean,
  title   = {A mean field view of the landscape of two-layer neural networks},
  author  = {Mei, Song and Montanari, Andrea and Nguyen, Phan-Minh},
  journal = {Proceedings of the National Academy of Sciences},
  volume  = {115},
  number  = {33},
  pages   = {E7665--E7671},
  year    = {2018},
  eprint  = {1804.06561}
}"""

STANDARD = PiecewiseLinearUnit((0.5, 1.5), (-2.5, 7.5))
NON_MONOTONE = PiecewiseLinearUnit((0.0, 0.5, 1.5), (-2.5, -4.0, 7.5))


def _chi_rule(d: float, n: int) -> tuple[Array, Array]:
    """Gauss nodes and weights of ``chi_d / sqrt(d)``: those of the Gamma law of ``chi^2/2``, by Golub and Welsch."""
    from scipy.linalg import eigh_tridiagonal

    if math.isinf(d):
        return np.ones(1), np.ones(1)
    k = np.arange(n)
    order = 0.5 * d - 1.0
    nodes, vectors = eigh_tridiagonal(2 * k + order + 1.0, np.sqrt(k[1:] * (k[1:] + order)))
    return np.sqrt(2.0 * nodes / d), vectors[0] ** 2


@dataclass(frozen=True, eq=False)
class _Radial:
    """The class mean of a neuron's response given ``|x|``, as a function of the neuron's radius."""

    unit: PiecewiseLinearUnit
    delta: float
    d: float
    nodes: int
    scales: Array = field(init=False)
    loss: SquaredLoss = field(init=False)

    def __post_init__(self) -> None:
        z, w = _chi_rule(self.d, self.nodes)
        targets = np.repeat([1.0, -1.0], len(z))
        object.__setattr__(self, "scales", np.concatenate([(1 + self.delta) * z, (1 - self.delta) * z]))
        object.__setattr__(self, "loss", SquaredLoss(targets, 0.5 * np.concatenate([w, w])))

    def mean(self, s: Array) -> Array:
        """The mean at ``|x| r = sqrt(d) s``."""
        if math.isinf(self.d):
            return self.unit.gaussian_mean(s)
        return self.unit.sphere_mean(math.sqrt(self.d) * s, self.d)

    def slope(self, s: Array) -> Array:
        if math.isinf(self.d):
            return self.unit.gaussian_slope(s)
        return math.sqrt(self.d) * self.unit.sphere_slope(math.sqrt(self.d) * s, self.d)

    def features(self, r: Array) -> Array:
        return self.mean(np.multiply.outer(self.scales, r))

    def gradient(self, r: Array) -> tuple[Array]:
        slopes = self.slope(np.multiply.outer(self.scales, r))
        return (slopes * self.scales.reshape((-1,) + (1,) * (slopes.ndim - 1)),)

    def energy(self, r: float) -> float:
        """``E`` of all mass at one radius."""
        return self.loss.value(self.features(np.array(r)))

    def optimum(self) -> tuple[float, float, bool]:
        """The best single radius, its energy, and whether nothing is better: ``V`` is least there."""
        from scipy.optimize import minimize_scalar

        x = np.linspace(0.0, 1.0, 401)[:-1]  # r = x / (1 - x), and infinity at the end
        r = np.append(x / (1 - x), 1e12)
        phi = self.features(r)
        energies = [self.loss.value(column) for column in phi.T]
        k = int(np.argmin(energies))
        low, high = float(r[max(k - 1, 0)]), float(r[min(k + 1, len(x) - 1)])
        best = minimize_scalar(self.energy, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
        slope = self.loss.gradient(self.features(np.array(best.x)))
        V, least = slope @ phi, float(slope @ self.features(np.array(best.x)))
        return float(best.x), float(best.fun), bool(V.min() >= least - 1e-9)


@with_parameters
def isotropic_gaussians(
    delta: float = 0.4,
    d: Dimension = 40,
    kappa: float = 0.8,
    start_d: Dimension | None = None,
    knots: Sequence[float] = STANDARD.knots,
    values: Sequence[float] = STANDARD.values,
    alpha: float = 0.0,
    temperature: float = 0.0,
    penalty: float = 0.0,
    radius: float = 4.0,
    t_end: float = 10.0,
) -> Problem:
    r"""SGD tells two centred isotropic Gaussians apart by their scale; the radius of the weights carries everything.

    Labels ``y = +-1`` with probability 1/2, ``x | y ~ N(0, (1 + y Delta)^2 I_d)``, network ``1/N sum sigma(<w_i, x>)``
    with a bounded piecewise linear unit, squared loss. From a rotation-invariant start the law of ``r = |w|`` solves

    .. math::

       \partial_t \mu = 2\,\partial_r(\mu\,\partial_r V), \qquad
       E = \tfrac12 R = \tfrac14 \sum_\pm \mathbb{E}_{\chi_d}
           \Big(\int Q_d((1\pm\Delta)\, r\, \chi_d)\, d\mu \mp 1\Big)^2,

    ``R`` the risk, ``Q_d`` the mean of the unit over the sphere (`PiecewiseLinearUnit.sphere_mean`) and ``chi_d``
    the length of a standard Gaussian vector. ``E`` has half of the risk so that ``V`` is the ``Psi`` of the paper; the
    schedule is its ``2 xi`` with ``xi = 1``. For ``d = inf``, ``Q`` becomes ``q(r) = E sigma(r G)`` and ``E`` has two
    terms.

    Parameters
    ----------
    delta : float
        ``Delta``, from 0 up to but not including 1.
    d : float
        Dimension of the inputs, ``>= 2``, or inf.
    kappa : float
        The start is ``w ~ N(0, kappa^2/d I)``, that is ``r = kappa chi_d / sqrt(d)``.
    start_d : float, optional
        Dimension in the law of the start; default `d`. With inf it is a Dirac at `kappa`, which belongs to
        `mfpde.characteristics`: on a mesh it is spread over two cells.
    knots, values : sequence of float
        The unit. Default: -2.5 up to 0.5, 7.5 from 1.5 on.
    alpha : float
        Birth-death rate; at a temperature the reaction is that of the free energy.
    temperature : float
        ``1/beta`` of noisy SGD: Brownian motion of the weights, in ``d`` dimensions, of which the base measure
        ``r^{d-1}`` tells the radius. Needs a finite ``d``.
    penalty : float
        ``lambda``, the weight of ``lambda/2 |w|^2``.
    radius : float
        End of the box.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``), without penalty and temperature: ``dirac_energy(r)``, the energy of all mass at one
    radius, ``energy_at_zero``, ``dirac_optimum``, the best single radius and its energy, and ``minimum_energy`` if
    that is the minimum over all measures. For ``d = inf`` and a monotone unit it is up to the ``threshold``,
    ``Delta = (r_+ - r_-)/(r_+ + r_-)`` with ``q(r_+-) = +-1``. Above, and for finite ``d`` above a smaller threshold,
    part of the mass tends to infinity.

    **Good values.** 400 cells. For ``Delta > 0.5`` mass travels outwards for ever: take ``radius=8``. A unit with a
    knot at 0 has a velocity that does not vanish at ``r = 0``: mass gets there in finite time and stays, in the
    first cell.
    """
    from scipy import stats

    unit = PiecewiseLinearUnit(knots, values)
    start_d = d if start_d is None else start_d
    _check(delta, kappa, d=d, start_d=start_d)
    not_negative(penalty=penalty)
    if temperature != 0.0 and math.isinf(d):
        raise ValueError("temperature at d = inf: noise of any size sends all radii to infinity; take a finite d")
    radial = _Radial(unit, delta, d, 16 if d >= 20 else 48)
    energy: Any = Features(radial.features, radial.loss, radial.gradient)
    if penalty:
        energy = energy + Confinement(r=penalty)
    return Problem(
        energy=energy,
        axes=[Axis("r", 0.0, radius, (End.NATURAL, End.TRUNCATION))],
        initial=Product(r=kappa if math.isinf(start_d) else stats.chi(start_d, scale=kappa / math.sqrt(start_d))),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY if temperature != 0.0 else Reaction.BALANCED,
        base=_sphere_area(d) if temperature != 0.0 else None,
        schedule=2.0,
        t_end=t_end,
        name="isotropic-gaussians",
        citation=CITATION,
        shape=(400,),
        # what the network says on average over directions, against |x| / sqrt(d)
        network=Network(lambda x, r: radial.mean(np.multiply.outer(x, r)), None, np.linspace(0.0, 2.0, 201)),
        exact={} if penalty or temperature != 0.0 else _radial_facts(radial),
        parameters={"start_d": start_d},
    )


def _radial_facts(radial: _Radial) -> dict[str, Any]:
    """What `isotropic_gaussians` tells exactly, without penalty and temperature."""
    unit = radial.unit
    place, lowest, global_minimum = radial.optimum()
    exact: dict[str, Any] = {
        "dirac_energy": radial.energy,
        "energy_at_zero": radial.energy(0.0),
        "dirac_optimum": (place, lowest),
    }
    if global_minimum:
        exact["minimum_energy"] = lowest
    if math.isinf(radial.d) and unit(0.0) < -1.0 < 1.0 < 0.5 * (unit.values[0] + unit.values[-1]) and _rises(unit):
        low, high = (_quantile(unit, level) for level in (-1.0, 1.0))
        exact["threshold"] = (high - low) / (high + low)
    return exact


def _sphere_area(d: float) -> Callable[[Array], Array]:
    """The area of a sphere in finite dimension d as a function of its radius."""
    log_area = math.log(2) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)

    def base(r: Array) -> Array:
        return np.asarray(np.exp(log_area + (d - 1) * np.log(r)))

    return base


@with_parameters
def predicting_failure(
    kappa: float = 0.1,
    delta: float = 0.5,
    d: Dimension = 320,
    start_d: Dimension | None = None,
    alpha: float = 0.0,
    radius: float = 3.0,
    t_end: float = 2.0,
) -> Problem:
    r"""A unit that is not monotone: whether training works depends on the size of the start, and the PDE knows.

    `isotropic_gaussians` with the unit through ``(0, -2.5), (0.5, -4), (1.5, 7.5)``, constant outside. Small weights
    shrink to 0 in finite time and stay there: the network is the constant -2.5 for ever. Large ones learn.

    Parameters
    ----------
    kappa : float
        Size of the start: 0.1 fails, 0.4 succeeds.
    delta, d, start_d, alpha, radius, t_end : float
        See `isotropic_gaussians`.

    Notes
    -----
    **Exact** (``problem.exact``): ``dirac_energy(r)`` and ``dirac_optimum``, see there; ``failed_energy``, half of the
    risk ``1 + 2.5^2``, with all mass at 0; ``absorption_speed``, the velocity with which the first mass arrives if all
    of it is close to 0, ``phi(0) m_0 (3.5 (1 + Delta) + 1.5 (1 - Delta))`` for every ``d``, ``m_0 = -3`` the jump of
    the slope at 0.

    **Good values.** 300 cells. The end at 0 lets no flux through, and the mass that arrives stays in the first cell,
    whose centre is ``h/2`` away from 0: on a mesh the failed state has the energy ``dirac_energy(h/2)``, off by the
    first order in ``h``. `mfpde.characteristics` stops its nodes at 0 exactly. In between, ``kappa = 0.2``, part of
    the mass is absorbed and the rest travels outwards for ever: take ``radius=8``.
    """
    problem = isotropic_gaussians(
        delta, d, kappa, start_d, NON_MONOTONE.knots, NON_MONOTONE.values, alpha, radius=radius, t_end=t_end
    )
    value = float(NON_MONOTONE(0.0))
    pull = (value - 1) * (1 + delta) + (value + 1) * (1 - delta)
    # the class means leave 0 with the slope m_0 phi(0), whatever d is
    speed = -pull * float(NON_MONOTONE.jumps[0]) / math.sqrt(2 * math.pi)
    return replace(
        problem,
        name="predicting-failure",
        shape=(300,),
        exact={
            **{name: problem.exact[name] for name in ("dirac_energy", "dirac_optimum")},
            "failed_energy": problem.exact["energy_at_zero"],
            "absorption_speed": speed,
        },
    )


@dataclass(frozen=True, eq=False)
class _Ellipse:
    """Radii in two blocks of coordinates, and the scale ``tau_+-`` of ``<w, x>`` in each class, given block norms."""

    delta: float
    scales: Array = field(init=False)  # (M, 2): what multiplies each radius
    loss: SquaredLoss = field(init=False)
    d: float
    gamma: float

    def __post_init__(self) -> None:
        first, u = _chi_rule(self.gamma * self.d, BLOCK_NODES[0])
        second, v = _chi_rule((1 - self.gamma) * self.d, BLOCK_NODES[1])
        z1, z2 = (z.ravel() for z in np.meshgrid(first, second, indexing="ij"))
        w = np.multiply.outer(u, v).ravel()
        blocks = [np.stack([(1 + sign * self.delta) * z1, z2], axis=1) for sign in (1, -1)]
        object.__setattr__(self, "scales", np.concatenate(blocks))
        object.__setattr__(self, "loss", SquaredLoss(np.repeat([1.0, -1.0], len(w)), 0.5 * np.concatenate([w, w])))

    def tau(self, r1: Array, r2: Array) -> tuple[Array, Array, Array]:
        """``tau`` and its derivatives by both radii, one row a sample."""
        shape = (-1,) + (1,) * np.broadcast(r1, r2).ndim
        s1, s2 = (column.reshape(shape) for column in self.scales.T)
        tau = np.maximum(np.sqrt((s1 * r1) ** 2 + (s2 * r2) ** 2), TINY)
        return tau, s1**2 * (r1 / tau), s2**2 * (r2 / tau)


BLOCK_NODES = (8, 6)
"""Gauss nodes for the norms of the two blocks of coordinates at finite d: the laws are narrow."""


@with_parameters
def anisotropic_gaussians(
    delta: float = 0.4,
    d: Dimension = math.inf,
    gamma: float = 60 / 320,
    kappa: float = 0.8,
    start_d: Dimension = 80,
    knots: Sequence[float] = STANDARD.knots,
    values: Sequence[float] = STANDARD.values,
    alpha: float = 0.0,
    radius: float = 2.5,
    t_end: float = 2.0,
) -> Problem:
    r"""Two centred Gaussians that differ in a fraction of the directions only: two radii.

    ``x | y ~ N(0, diag((1 + y Delta)^2 I_s, I_{d-s}))`` up to a rotation, ``s = gamma d``. With ``r_1`` the length of a
    weight vector in the first ``s`` coordinates, ``r_2`` in the others, and ``tau_+-^2 = (1+-Delta)^2 r_1^2 + r_2^2``,

    .. math:: E = \tfrac12 R = \tfrac14 \Big(\int q(\tau_+)\, d\mu - 1\Big)^2
              + \tfrac14 \Big(\int q(\tau_-)\, d\mu + 1\Big)^2, \qquad q(\tau) = \mathbb{E}\,\sigma(\tau G),

    for ``d = inf``. The schedule is 2. ``r_2 = 0`` and ``r_1 = 0`` are invariant; on ``r_2 = 0`` the problem is
    `isotropic_gaussians`.

    Parameters
    ----------
    delta : float
        ``Delta``, from 0 up to but not including 1.
    d : float
        Dimension in the energy. For a finite one ``q`` is averaged over the norms of the two blocks of ``x``, right
        up to ``O(1/(gamma d))``; then ``gamma d`` should be above 10.
    gamma : float
        Fraction of the directions that differ, between 0 and 1.
    kappa : float
        The start is ``w ~ N(0, kappa^2/d I)`` with `start_d` for ``d``.
    start_d : float
        Dimension in the law of the start; inf gives a Dirac at ``kappa (sqrt(gamma), sqrt(1-gamma))``.
    knots, values : sequence of float
        The unit, see `isotropic_gaussians`.
    alpha : float
        Birth-death rate.
    radius : float
        End of the box along both axes.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``dirac_energy(r1, r2)``.

    **Good values.** 96 x 96 cells for ``start_d = 80``, 192 x 192 for 320: the radii of the start have a standard
    deviation of ``kappa / sqrt(2 start_d)``.
    """
    from scipy import stats

    unit = PiecewiseLinearUnit(knots, values)
    _check(delta, kappa, d=d, start_d=start_d)
    _fraction(gamma)
    ellipse = _Ellipse(delta, d=d, gamma=gamma)

    def features(r1: Array, r2: Array) -> Array:
        return unit.gaussian_mean(ellipse.tau(r1, r2)[0])

    def gradient(r1: Array, r2: Array) -> tuple[Array, Array]:
        tau, along1, along2 = ellipse.tau(r1, r2)
        slope = unit.gaussian_slope(tau)
        return slope * along1, slope * along2

    def dirac_energy(r1: float, r2: float) -> float:
        return ellipse.loss.value(features(np.array(r1), np.array(r2)))

    ends = (End.NATURAL, End.TRUNCATION)
    return Problem(
        energy=Features(features, ellipse.loss, gradient),
        axes=[Axis("r1", 0.0, radius, ends), Axis("r2", 0.0, radius, ends)],
        initial=Product(**_block_start(stats.chi, gamma, kappa, start_d)),
        alpha=alpha,
        schedule=2.0,
        t_end=t_end,
        name="anisotropic-gaussians",
        citation=CITATION,
        shape=(96, 96),
        exact={"dirac_energy": dirac_energy},
    )


@dataclass(frozen=True)
class _ReluNeurons:
    """The class means of neurons ``a (<w, x> + b)_+``, given block norms."""

    ellipse: _Ellipse

    def features(self, a: Array, b: Array, r1: Array, r2: Array) -> Array:
        """``a h(b, tau)``, one row a sample."""
        tau = self.ellipse.tau(r1, r2)[0]
        above, density = self._normal(b, tau)
        return a * (b * above + tau * density)

    def gradient(self, a: Array, b: Array, r1: Array, r2: Array) -> tuple[Array, Array, Array, Array]:
        """Its derivatives."""
        tau, along1, along2 = self.ellipse.tau(r1, r2)
        above, density = self._normal(b, tau)
        return b * above + tau * density, a * above, a * density * along1, a * density * along2

    def dirac_energy(self, a: float, b: float, r1: float, r2: float) -> float:
        """``E`` of all mass at one neuron."""
        return self.ellipse.loss.value(self.features(*(np.array(x) for x in (a, b, r1, r2))))

    def _normal(self, b: Array, tau: Array) -> tuple[Array, Array]:
        """``Phi(b/tau)`` and ``phi(b/tau)``."""
        x = np.clip(b / tau, -FAR, FAR)
        return normal_cdf(x), normal_density(x)


@with_parameters
def relu_gaussians(
    delta: float = 0.4,
    d: Dimension = math.inf,
    gamma: float = 60 / 320,
    kappa: float = 0.8,
    start_d: Dimension = 40,
    spread: float = 0.2,
    exponent: float = -0.25,
    alpha: float = 0.0,
    radius: float = 2.8,
    t_end: float = 0.2,
) -> Problem:
    r"""ReLU units with an outer weight and a bias on the data of `anisotropic_gaussians`: four parameters.

    Neurons ``a (<w, x> + b)_+``. With ``h(b, tau) = E (tau G + b)_+ = b Phi(b/tau) + tau phi(b/tau)``,

    .. math:: E = \tfrac12 R = \tfrac14 \Big(\int a\, h(b, \tau_+)\, d\mu - 1\Big)^2
              + \tfrac14 \Big(\int a\, h(b, \tau_-)\, d\mu + 1\Big)^2, \qquad
              \tau_\pm^2 = (1\pm\Delta)^2 r_1^2 + r_2^2.

    The schedule is ``2 t^exponent``. Since ``a h`` is homogeneous of degree one in ``a`` and in ``(b, r)``, every
    neuron keeps its ``a^2 - b^2 - r_1^2 - r_2^2``, whatever the measure and the schedule.

    Parameters
    ----------
    delta, d, gamma, kappa, start_d
        See `anisotropic_gaussians`. With a finite `d` the energy has 96 features, too many for a mesh in four
        dimensions: it is for `mfpde.characteristics`.
    spread : float
        Standard deviation of the start of ``a`` and ``b`` about 1. With 0 both are atoms: for characteristics, as a
        mesh spreads them over two cells.
    exponent : float
        Of the learning rate, above -1. With 0 the time is the clock ``int xi dt``, in which all schedules agree.
    alpha : float
        Birth-death rate.
    radius : float
        The box is ``[-radius/2, radius]`` for a and b, ``[0, radius]`` for the radii.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``invariant(a, b, r1, r2)``; ``dirac_energy(a, b, r1, r2)``;
    ``plateau_energy = 1/4``, a lower bound as long as all neurons have ``a > 0`` (the response then has one sign).

    **Good values.** The default is a first look at short times on a mesh in four dimensions; 24^4 cells are right
    to 1e-3. The configuration after Figure 3 of the paper is ``spread=0, start_d=320, radius=60`` with
    `mfpde.characteristics`, which leaves its plateau when ``int xi dt`` is about 10.
    """
    from scipy import stats

    _check(delta, kappa, d=d, start_d=start_d)
    _fraction(gamma)
    if not (math.isfinite(spread) and 0.0 <= spread <= 0.3):
        raise ValueError(f"spread must be from 0 to 0.3, not {spread!r}; larger ones give neurons with a < 0")
    ellipse = _Ellipse(delta, d=d, gamma=gamma)

    neurons = _ReluNeurons(ellipse)
    law: Any = stats.norm(1.0, spread) if spread else 1.0
    ends = (End.NATURAL, End.TRUNCATION)
    axes = [Axis("a", -0.5 * radius, radius), Axis("b", -0.5 * radius, radius)]
    axes += [Axis("r1", 0.0, radius, ends), Axis("r2", 0.0, radius, ends)]
    return Problem(
        energy=Features(neurons.features, ellipse.loss, neurons.gradient),
        axes=axes,
        initial=Product(a=law, b=law, **_block_start(stats.chi, gamma, kappa, start_d)),
        alpha=alpha,
        schedule=PowerLaw(exponent, 2.0),
        t_end=t_end,
        name="relu-gaussians",
        citation=CITATION,
        shape=(16, 16, 16, 16),
        exact={
            "invariant": lambda a, b, r1, r2: a**2 - b**2 - r1**2 - r2**2,
            "dirac_energy": neurons.dirac_energy,
            "plateau_energy": 0.25,
        },
    )


def _block_start(chi: Callable[..., Any], gamma: float, kappa: float, d: float) -> dict[str, Any]:
    """Laws of the two radii of ``w ~ N(0, kappa^2/d I)``."""
    if math.isinf(d):
        return {"r1": kappa * math.sqrt(gamma), "r2": kappa * math.sqrt(1 - gamma)}
    scale = kappa / math.sqrt(d)
    return {"r1": chi(gamma * d, scale=scale), "r2": chi((1 - gamma) * d, scale=scale)}


def _quantile(unit: PiecewiseLinearUnit, level: float) -> float:
    """The radius at which ``q`` takes a value, for a unit whose ``q`` increases."""
    from scipy.optimize import brentq

    return float(brentq(lambda r: float(unit.gaussian_mean(np.array(r))) - level, 1e-9, 1e9, xtol=1e-14))


def _rises(unit: PiecewiseLinearUnit) -> bool:
    """Whether the unit never falls and is flat at 0."""
    return bool(np.all(np.diff(unit.values) >= 0)) and unit.knots[0] > 0.0


def _fraction(gamma: float) -> None:
    if not 0.0 < gamma < 1.0:
        raise ValueError(f"gamma must lie between 0 and 1, not {gamma!r}")


def _check(delta: float, kappa: float, **dimensions: float) -> None:
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta must be at least 0 and below 1, not {delta!r}")
    positive(kappa=kappa)
    for name, d in dimensions.items():
        if not d >= 2:
            raise ValueError(f"{name} must be at least 2 (inf is allowed), not {d!r}")
