"""Noisy training and sampling, with closed forms, exact end points or known rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.energy import CosineKernel, Energy, External, Interaction, LinearKernel, SeparableKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem, Reaction
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import not_negative, positive
from mfpde.support.arrays import Array

__all__ = ["double_well_sampling", "gaussian_langevin", "gaussian_sampling", "sphere_langevin", "torus_langevin"]


MEAN_FIELD_LANGEVIN = """@inproceedings{nitanda2022convex,
  title     = {Convex Analysis of the Mean Field Langevin Dynamics},
  author    = {Nitanda, Atsushi and Wu, Denny and Suzuki, Taiji},
  booktitle = {Proceedings of the 25th International Conference on Artificial Intelligence and Statistics},
  year      = {2022},
  eprint    = {2201.10469}
}
@article{chizat2022mean,
  title   = {Mean-Field Langevin Dynamics: Exponential Convergence and Annealing},
  author  = {Chizat, L{\\'e}na{\\"\\i}c},
  journal = {Transactions on Machine Learning Research},
  year    = {2022},
  eprint  = {2202.01009}
}"""

BIRTH_DEATH_LANGEVIN = """@article{lu2019accelerating,
  title  = {Accelerating Langevin Sampling with Birth-death},
  author = {Lu, Yulong and Lu, Jianfeng and Nolen, James},
  year   = {2019},
  eprint = {1905.09863}
}"""

SPLITTING = """@article{crucinio2025operator,
  title  = {An operator splitting analysis of Wasserstein--Fisher--Rao gradient flows},
  author = {Crucinio, Francesca Romana and Pathiraja, Sahani},
  year   = {2025},
  eprint = {2511.18060}
}"""


@with_parameters
def torus_langevin(
    temperature: float = 0.15,
    alpha: float = 0.0,
    harmonics: int = 4,
    weight: float = 1.0,
    t_end: float = 20.0,
) -> Problem:
    r"""Mean-field Langevin dynamics on the circle, two wells and a smooth repulsion.

    .. math:: F = -2\cos\theta - \tfrac32 \sin(2\theta + 0.3), \qquad
              K = w \sum_{k=1}^{n} \cos k(\theta - \theta'),

    from the uniform measure. With ``w > 0`` the energy is convex and, with ``mu*`` its minimiser and ``p_mu`` the Gibbs
    measure of ``V[mu]``,

    .. math:: \tau\,KL(\mu|\mu_*) \le E - E_* \le \tau\,KL(\mu|p_\mu).

    Parameters
    ----------
    temperature : float
        ``tau > 0``.
    alpha : float
        Birth-death rate; the reaction is that of the free energy.
    harmonics : int
        ``n``, 1 to 64.
    weight : float
        ``w``. A negative one makes the energy concave in the density's harmonics; then there are no exact facts.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``), for ``w > 0``: ``minimum_energy``, by Newton's method on the ``2 n`` harmonics of
    the minimiser. With the default arguments ``E* = -1.949098`` and ``E - E*`` decays at the rate 0.02892 in
    the end (0.02897 on 200 cells).

    **Good values.** 200 cells. The wells are far apart for ``tau = 0.15``: the last digits take a time of 500.
    """
    from scipy import stats

    positive(temperature=temperature)
    if not (isinstance(harmonics, (int, np.integer)) and 1 <= harmonics <= 64):
        raise ValueError(f"harmonics must be an integer from 1 to 64, not {harmonics!r}")
    if not (math.isfinite(weight) and weight != 0):
        raise ValueError(f"weight must be finite and not 0, not {weight!r}")

    def force(theta: Array) -> tuple[Array]:
        return (2 * np.sin(theta) - 3 * np.cos(2 * theta + 0.3),)

    exact: dict[str, Any] = {}
    if weight > 0:
        exact["minimum_energy"] = _torus_minimum(temperature, int(harmonics), weight)
    return Problem(
        energy=External(_torus_potential, force)
        + Interaction(SeparableKernel(theta=CosineKernel((1.0,) * int(harmonics))), weight),
        axes=[Axis("theta", 0.0, 2 * math.pi, End.PERIODIC)],
        initial=Product(theta=stats.uniform(0.0, 2 * math.pi)),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY,
        t_end=t_end,
        name="torus-langevin",
        citation=MEAN_FIELD_LANGEVIN,
        shape=(200,),
        exact=exact,
    )


def _torus_potential(theta: Array) -> Array:
    return -2 * np.cos(theta) - 1.5 * np.sin(2 * theta + 0.3)


def _torus_minimum(temperature: float, harmonics: int, weight: float) -> float:
    """The largest value of the dual ``-tau log int exp(-(F + w psi.u)/tau) - w |u|^2/2``, ``psi`` the harmonics."""
    n = 4096  # the trapezoidal rule on the circle: exact to round-off for tau above 1e-3
    theta = 2 * math.pi * np.arange(n) / n
    angles = np.multiply.outer(np.arange(1, harmonics + 1), theta)
    psi = np.concatenate([np.cos(angles), np.sin(angles)])
    F = _torus_potential(theta)

    def dual(u: Array) -> tuple[float, Array]:
        V = F + weight * (u @ psi)
        low = float(V.min())
        p = np.exp((low - V) / temperature)
        total = float(p.sum())
        value = low - temperature * math.log(2 * math.pi * total / n) - 0.5 * weight * float(u @ u)
        return value, p / total

    u = np.zeros(2 * harmonics)
    value, p = dual(u)
    for _ in range(200):
        mean = psi @ p
        slope = mean - u
        covariance = (psi * p) @ psi.T - np.outer(mean, mean)
        step = np.linalg.solve(np.eye(u.size) + weight / temperature * covariance, slope)
        length = 1.0
        while True:
            new, q = dual(u + length * step)
            if new >= value + 0.25 * length * weight * float(slope @ step) or length < 1e-8:
                break
            length *= 0.5
        done = abs(new - value) <= 1e-15 * max(1.0, abs(value)) and float(np.abs(slope).max()) < 1e-7
        u, value, p = u + length * step, max(new, value), q
        if done:
            break
    return value


@dataclass(frozen=True)
class _Spread:
    """A variance that obeys ``s' = -A s^2 + B s + C``.

    It is ``s = s_+ + (s_0 - s_+) E/(1 + r (1 - E))`` with ``E = e^{-decay t}``.

    Attributes
    ----------
    start, limit : float
        ``s_0``, and ``s_+``, the positive root.
    decay : float
        The distance of the roots times A.
    ratio : float
        ``r = A (s_0 - s_+) / decay``.
    """

    start: float
    limit: float
    decay: float
    ratio: float

    def denominator(self, t: float) -> float:
        """``1 + r (1 - E)``."""
        return 1 - self.ratio * math.expm1(-self.decay * t)

    def excess(self, t: float) -> float:
        """``s - s_+``: where s is near its limit, the difference of the two would have lost its digits."""
        return (self.start - self.limit) * math.exp(-self.decay * t) / self.denominator(t)

    def at(self, t: float) -> float:
        """``s(t)``."""
        return self.limit + self.excess(t)


class _GaussianPath:
    """The solution of `gaussian_langevin`."""

    def __init__(
        self,
        strength: float,
        coupling: float,
        temperature: float,
        alpha: float,
        free: bool,
        mean: float,
        variance: float,
    ) -> None:
        a, tau = strength, temperature
        self.a, self.b, self.tau, self.alpha, self.start = a, coupling, tau, alpha, mean
        # s' = -A s^2 + B s + 2 tau
        A, B = alpha * a, (alpha * tau if free else 0.0) - 2 * a
        decay = math.sqrt(B * B + 8 * A * tau)
        limit = 4 * tau / (decay - B) if B < 0 else (B + decay) / (2 * A)
        self.spread = _Spread(variance, limit, decay, A * (variance - limit) / decay)
        # p_mu = N(-b m/a, tau/a); without birth-death, and with that of the free energy, the limit is tau/a
        self.offset = 0.0 if free or alpha == 0.0 else a * limit / tau - 1

    def mean(self, t: float) -> float:
        """``m(t)``; ``int alpha (s - s_+) = log(1 + r (1 - E)) / a``."""
        grown = (1 + self.alpha * self.spread.limit) * t + math.log(self.spread.denominator(t)) / self.a
        return self.start * math.exp(-(self.a + self.b) * grown)

    def entropy(self, t: float) -> float:
        """``int log mu dmu``."""
        return -0.5 * math.log(2 * math.pi * math.e * self.spread.at(t))

    def energy(self, t: float) -> float:
        """The free energy."""
        a, b = self.a, self.b
        return 0.5 * a * self.spread.at(t) + 0.5 * (a + b) * self.mean(t) ** 2 + self.tau * self.entropy(t)

    def gap(self, t: float) -> float:
        """``tau KL(mu | p_mu)``."""
        a, b, tau = self.a, self.b, self.tau
        off = self.offset + a * self.spread.excess(t) / tau
        return 0.5 * tau * _minus_log1p(off) + 0.5 * ((a + b) * self.mean(t)) ** 2 / a


@with_parameters
def gaussian_langevin(
    strength: float = 1.3,
    coupling: float = 0.7,
    temperature: float = 0.4,
    alpha: float = 0.9,
    reaction: Reaction | str = Reaction.FREE_ENERGY,
    mean: float = 1.5,
    variance: float = 0.3,
    t_end: float = 1.0,
) -> Problem:
    r"""Drift, noise, interaction and birth-death all at once, solved by Gaussians.

    ``F = a x^2 / 2``, ``K = b x x'``. A Gaussian start ``N(m_0, s_0)`` stays Gaussian:

    .. math::

       m' = -(a + b)(1 + \alpha s)\,m, \qquad s' = -2 a s - \alpha a s^2 + 2\tau\ [\,+\,\alpha\tau s\,],

    the last term where the birth-death uses the free energy, ``V + tau log mu``. Both are solved in closed form.

    Parameters
    ----------
    strength : float
        ``a > 0``.
    coupling : float
        ``b > -a``; negative is attraction to the mean.
    temperature : float
        ``tau > 0``.
    alpha : float
    reaction : Reaction or str
        ``"free-energy"`` (default): the flow of ``E_0 + tau int mu log mu``, whose minimiser ``N(0, tau/a)`` is
        stationary. ``"balanced"``: birth-death on ``V`` alone, which shifts the stationary variance down to
        ``(sqrt(1 + 2 alpha tau/a) - 1)/alpha``; the free energy may then rise along the way.
    mean, variance : float
        ``m_0`` and ``s_0``.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``mean(t)``, ``variance(t)``, ``energy(t)`` (free energy), ``entropy(t)``,
    ``optimality_gap(t)`` (``tau KL(mu|p_mu)``, a bound for ``b >= 0``), ``stationary_variance``,
    ``minimum_energy = -(tau/2) log(2 pi tau/a)``.
    The box holds 7 standard deviations around the path of the mean.

    ``N`` Langevin particles (``alpha = 0``) have, exactly, the variance ``v = s_0/N e^{-2(a+b)t} + tau/(N(a+b))
    (1 - e^{-2(a+b)t})`` of their mean and ``E X^2 = m^2 + (1 - 1/N) s + v``: a bias of order ``1/N`` for all times,
    ``-tau b/(N a (a+b))`` in the end.

    **Good values.** 200 cells.
    """
    from scipy import stats

    positive(strength=strength, temperature=temperature, variance=variance)
    if not (math.isfinite(coupling) and coupling > -strength):
        raise ValueError(f"coupling must exceed -strength = {-strength:g} for a minimum to exist, not {coupling!r}")
    not_negative(alpha=alpha)
    if reaction not in (Reaction.FREE_ENERGY, Reaction.BALANCED, "free-energy", "balanced"):
        raise ValueError(f"unknown reaction {reaction!r} for a probability; valid: 'free-energy', 'balanced'")
    reaction = Reaction(reaction)
    path = _GaussianPath(strength, coupling, temperature, alpha, reaction is Reaction.FREE_ENERGY, mean, variance)
    low, high = min(mean, 0.0), max(mean, 0.0)
    reach = 7 * math.sqrt(max(variance, path.spread.limit))
    energy: Energy = _quadratic(strength)
    if coupling:
        energy = energy + Interaction(SeparableKernel(x=LinearKernel()), coupling)
    return Problem(
        energy=energy,
        axes=[Axis("x", low - reach, high + reach)],
        initial=Product(x=stats.norm(mean, math.sqrt(variance))),
        alpha=alpha,
        temperature=temperature,
        reaction=reaction,
        t_end=t_end,
        name="gaussian-langevin",
        citation=MEAN_FIELD_LANGEVIN,
        shape=(200,),
        exact={
            "mean": path.mean,
            "variance": path.spread.at,
            "entropy": path.entropy,
            "energy": path.energy,
            "optimality_gap": path.gap,
            "stationary_variance": path.spread.limit,
            "minimum_energy": -0.5 * temperature * math.log(2 * math.pi * temperature / strength),
        },
    )


def _minus_log1p(x: float) -> float:
    """``x - log(1 + x)``, with all its digits near 0, where it is ``x^2/2``."""
    if abs(x) > 0.2:
        return x - math.log1p(x)
    # log(1 + x) = 2 artanh r with r = x/(2 + x), and x - 2 r = x r; the first term left out is below 1e-17 of the sum
    r = x / (2 + x)
    return x * r - 2 * r**3 * sum(r ** (2 * k) / (2 * k + 3) for k in range(8))


def _quadratic(strength: float, centre: float = 0.0, constant: float = 0.0) -> External:
    return External(lambda x: 0.5 * strength * (x - centre) ** 2, lambda x: (strength * (x - centre),), constant)


@with_parameters
def gaussian_sampling(
    mean: float = 0.0,
    variance: float = 1.0,
    target_mean: float = 2.0,
    target_variance: float = 0.5,
    alpha: float = 1.0,
    t_end: float = 2.0,
) -> Problem:
    r"""Sampling a Gaussian by the Wasserstein-Fisher-Rao flow of ``KL(mu | pi)``, solved in closed form.

    ``pi = N(m_p, C_p)``, ``mu_0 = N(m_0, C_0)``, temperature 1, birth-death with the free energy:

    .. math::

       \partial_t\mu = \nabla\cdot(\mu\nabla\log\tfrac{\mu}{\pi}) - \alpha(\log\tfrac{\mu}{\pi} - KL)\,\mu, \quad
       C' = 2 + \alpha C - (2 C + \alpha C^2)/C_p, \quad m' = -(1 + \alpha C)(m - m_p)/C_p.

    With ``G = 1/C_p + alpha/2`` and ``r = (C_0 - C_p)/(2/alpha + C_p)``,

    .. math::

       C = C_p + (C_0 - C_p) \frac{e^{-2Gt}}{1 + r(1 - e^{-2Gt})}, \qquad
       m = m_p + (m_0 - m_p) \frac{e^{-(1/C_p + \alpha)t}}{1 + r(1 - e^{-2Gt})}.

    Parameters
    ----------
    mean, variance : float
        ``m_0`` and ``C_0``.
    target_mean, target_variance : float
        ``m_p`` and ``C_p``.
    alpha : float
        1 is the flow of the literature, 0 the Langevin (Ornstein-Uhlenbeck) dynamics.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``mean(t)``, ``variance(t)``, ``energy(t)`` which is ``KL(mu | pi)``,
    ``minimum_energy = 0``. The box holds 7 standard deviations of start and target, which alone limits the closed form
    (1e-11 of the mass).

    **Good values.** A mesh with two cells to the smaller standard deviation at the least. The pairs of the literature
    are (0, 1; 20, 100) and (0, 100; 20, 1).
    """
    from scipy import stats

    positive(variance=variance, target_variance=target_variance)
    ratio = alpha * (variance - target_variance) / (2 + alpha * target_variance)
    spread = _Spread(variance, target_variance, 2 * (1 / target_variance + 0.5 * alpha), ratio)

    # the distance to the target: the difference of mean and target would have lost its digits near it
    def shift(t: float) -> float:
        return (mean - target_mean) * math.exp(-(1 / target_variance + alpha) * t) / spread.denominator(t)

    def path(t: float) -> float:
        return target_mean + shift(t)

    def divergence(t: float) -> float:
        return 0.5 * _minus_log1p(spread.excess(t) / target_variance) + 0.5 * shift(t) ** 2 / target_variance

    start, end = math.sqrt(variance), math.sqrt(target_variance)
    low = min(mean - 7 * start, target_mean - 7 * end)
    high = max(mean + 7 * start, target_mean + 7 * end)
    return Problem(
        energy=_quadratic(1 / target_variance, target_mean, 0.5 * math.log(2 * math.pi * target_variance)),
        axes=[Axis("x", low, high)],
        initial=Product(x=stats.norm(mean, start)),
        alpha=alpha,
        temperature=1.0,
        reaction=Reaction.FREE_ENERGY,
        t_end=t_end,
        name="gaussian-sampling",
        citation=f"{SPLITTING}\n{BIRTH_DEATH_LANGEVIN}",
        shape=(min(max(200, math.ceil(4 * (high - low) / min(start, end))), 4000),),
        exact={"mean": path, "variance": spread.at, "energy": divergence, "minimum_energy": 0.0},
    )


@with_parameters
def double_well_sampling(
    barrier: float = 1.0,
    tilt: float = 0.05,
    temperature: float = 0.1,
    alpha: float = 10.0,
    std: float = 0.2,
    t_end: float = 6.0,
) -> Problem:
    r"""Sampling ``exp(-V/tau)`` of the double well ``V = h (x^2 - 1)^2 + tilt x``, from its right well.

    Langevin dynamics crosses the barrier at the rate of Kramers, exponentially small in ``h/tau``. Birth-death with the
    free energy ignores it: of a perturbation of ``log(mu/pi)``, it leaves ``e^{-alpha tau t}`` everywhere at once, and
    the two together leave ``e^{-(alpha tau + gap) t}``.

    Parameters
    ----------
    barrier : float
        ``h > 0``.
    tilt : float
        Below ``1.5 h`` in size, or one of the wells is gone.
    temperature : float
        ``tau > 0``.
    alpha : float
        ``1/tau`` makes the birth-death rate 1.
    std : float
        Standard deviation of the start, a Gaussian at the bottom of the right well.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``left``, ``right`` and ``top``, the stationary points of V; ``barriers``, their
    heights seen from the left and the right well; ``left_mass``, the equilibrium's mass left of the top;
    ``minimum_energy = -tau log Z``; ``kramers_gap``, the sum over the wells of
    ``sqrt(V''(well) |V''(top)|)/(2 pi) e^{-height/tau}``, which is the spectral gap of Langevin up to a factor
    ``1 + O(tau/h)``; ``reaction_rate = alpha tau``.

    **Good values.** 200 cells down to ``tau = 0.05 h``. The start's density in the left well is about
    ``e^{-2/std^2}``, and birth-death alone takes a time of ``log(2/std^2)/(alpha tau)`` to raise it.
    """
    from scipy import stats

    positive(barrier=barrier, temperature=temperature, std=std)
    if not abs(tilt) < 1.5 * barrier:
        raise ValueError(f"tilt must be below 1.5 barrier = {1.5 * barrier:g} in size for two wells, not {tilt!r}")
    left, top, right = (float(x) for x in np.sort(np.roots([4 * barrier, 0.0, -4 * barrier, tilt]).real))

    def potential(x: Array) -> Array:
        return barrier * (x**2 - 1) ** 2 + tilt * x

    def curvature(x: float) -> float:
        return barrier * (12 * x**2 - 4)

    # beyond the reach the equilibrium is below 1e-16 of its top
    reach = math.sqrt(1 + math.sqrt(40 * temperature / barrier) + abs(tilt) / barrier)
    low, high = -max(reach, 6 * std - right), max(reach, right + 6 * std)
    heights = tuple(float(potential(np.array(top)) - potential(np.array(x))) for x in (left, right))
    gap = sum(
        math.sqrt(curvature(x) * -curvature(top)) / (2 * math.pi) * math.exp(-height / temperature)
        for x, height in zip((left, right), heights, strict=True)
    )
    lowest = float(min(potential(np.array(x)) for x in (left, right)))

    left_mass, right_mass = (
        _integral(lambda x: np.exp((lowest - potential(x)) / temperature), *ends) for ends in ((low, top), (top, high))
    )
    return Problem(
        energy=External(potential, lambda x: (4 * barrier * x * (x**2 - 1) + tilt,)),
        axes=[Axis("x", low, high)],
        initial=Product(x=stats.norm(right, std)),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY,
        t_end=t_end,
        name="double-well-sampling",
        citation=BIRTH_DEATH_LANGEVIN,
        shape=(200,),
        exact={
            "left": left,
            "top": top,
            "right": right,
            "barriers": heights,
            "left_mass": left_mass / (left_mass + right_mass),
            "minimum_energy": lowest - temperature * math.log(left_mass + right_mass),
            "kramers_gap": gap,
            "reaction_rate": alpha * temperature,
        },
    )


def _integral(function: Callable[[Array], Array], a: float, b: float) -> float:
    """``int_a^b``, by 400 Gauss nodes."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    return 0.5 * (b - a) * float(weights @ function(0.5 * (a + b) + 0.5 * (b - a) * nodes))


@with_parameters
def sphere_langevin(
    d: float = 3,
    field: float = 1.0,
    temperature: float = 0.5,
    alpha: float = 0.0,
    concentration: float = -2.0,
    t_end: float = 3.0,
) -> Problem:
    r"""Langevin dynamics on the sphere ``S^{d-1}`` in a constant field, reduced to the angle to the field.

    ``V = -h cos theta`` on ``[0, pi]`` with the base measure ``omega = sin^{d-2} theta``, the area of the circles of
    latitude. The equilibrium is the von Mises-Fisher law ``~ omega e^{kappa cos theta}``, ``kappa = h/tau``; so is the
    start, with another concentration.

    Parameters
    ----------
    d : float
        Dimension of the space around the sphere, ``>= 2``; a continuous parameter of the reduced problem.
    field : float
        ``h``.
    temperature : float
        ``tau > 0``.
    alpha : float
        Birth-death rate; the reaction is that of the free energy.
    concentration : float
        ``kappa_0`` of the start; 0 is the uniform measure on the sphere.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``mean_cosine``, ``I_{d/2}(kappa)/I_{d/2-1}(kappa)`` of the equilibrium;
    ``minimum_energy = -tau log int omega e^{kappa cos theta}``; without field and birth-death, diffusion alone,
    ``cosine(t) = e^{-(d-1) tau t} cosine(0)``; without transport, birth-death alone keeps the family, with
    ``concentration(t) = kappa + (kappa_0 - kappa) e^{-alpha tau t}`` (a run has transport: this is for the reaction).

    **Good values.** 200 cells.
    """
    if not (math.isfinite(d) and d >= 2):
        raise ValueError(f"d must be at least 2, not {d!r}")
    positive(temperature=temperature)
    for name, value in (("field", field), ("concentration", concentration)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, not {value!r}")
    kappa, power = field / temperature, d - 2

    def base(theta: Array) -> Array:
        return np.sin(theta) ** power

    def start(theta: Array) -> Array:
        with np.errstate(divide="ignore"):
            area = power * np.log(np.maximum(np.sin(theta), 0.0)) if power else 0.0
        return area + concentration * np.cos(theta)

    first = _mean_cosine(d, concentration)
    exact: dict[str, Any] = {
        "mean_cosine": _mean_cosine(d, kappa),
        "minimum_energy": -temperature * _log_partition(d, kappa),
        "concentration": lambda t: kappa + (concentration - kappa) * math.exp(-alpha * temperature * t),
    }
    if field == 0 and alpha == 0:
        exact["cosine"] = lambda t: first * math.exp(-(d - 1) * temperature * t)
    return Problem(
        energy=External(lambda theta: -field * np.cos(theta), lambda theta: (field * np.sin(theta),)),
        axes=[Axis("theta", 0.0, math.pi, End.NATURAL)],
        initial=Density(start, log=True),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY,
        base=base,
        t_end=t_end,
        name="sphere-langevin",
        shape=(200,),
        exact=exact,
    )


def _log_partition(d: float, kappa: float) -> float:
    """``log int_0^pi sin^{d-2} e^{kappa cos} = log(sqrt(pi) Gamma((d-1)/2) (2/kappa)^{d/2-1} I_{d/2-1}(kappa))``."""
    from scipy.special import ive

    order, size = 0.5 * d - 1, abs(kappa)
    constant = 0.5 * math.log(math.pi) + math.lgamma(0.5 * (d - 1))
    if size < 1e-8:
        return constant - math.lgamma(0.5 * d)
    return constant + order * math.log(2 / size) + math.log(float(ive(order, size))) + size


def _mean_cosine(d: float, kappa: float) -> float:
    from scipy.special import ive

    if abs(kappa) < 1e-8:
        return kappa / d
    return math.copysign(float(ive(0.5 * d, abs(kappa)) / ive(0.5 * d - 1, abs(kappa))), kappa)
