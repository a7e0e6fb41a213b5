"""A single-index model learned by projected gradient descent on the sphere, reduced to one angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.energy import Features, SquaredLoss
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import positive
from mfpde.support.arrays import Array

__all__ = ["SphereAngle", "single_index"]


CITATION = """@article{glasgow2025propagation,
  title  = {Propagation of Chaos in One-hidden-layer Neural Networks beyond Logarithmic Time},
  author = {Glasgow, Margalit and Wu, Denny and Bruna, Joan},
  year   = {2025},
  eprint = {2504.13110}
}"""


@dataclass(frozen=True)
class SphereAngle:
    """The angle of a uniform point on the sphere ``S^{d-1}`` to a fixed direction: density ``~ sin^{d-2}``.

    A law with the interface of a frozen scipy.stats distribution, for real ``d >= 2``. The variable
    ``(1 - cos theta) / 2`` has a Beta law with both parameters ``(d - 1) / 2``.
    """

    d: float

    @property
    def _a(self) -> float:
        return 0.5 * (self.d - 1)

    def support(self) -> tuple[float, float]:
        """``(0, pi)``."""
        return 0.0, math.pi

    def median(self) -> float:
        """``pi / 2``."""
        return 0.5 * math.pi

    def logpdf(self, theta: ArrayLike) -> Array:
        """The logarithm of the density."""
        theta = np.asarray(theta, dtype=float)
        constant = math.lgamma(0.5 * self.d) - math.lgamma(0.5 * (self.d - 1)) - 0.5 * math.log(math.pi)
        inside = (theta >= 0) & (theta <= math.pi)
        sine = np.where(inside, np.sin(theta), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            power = np.zeros_like(sine) if self.d == 2 else (self.d - 2) * np.log(np.maximum(sine, 0.0))
        return np.where(inside, constant + power, -np.inf)

    def pdf(self, theta: ArrayLike) -> Array:
        """The density."""
        return np.exp(self.logpdf(theta))

    def cdf(self, theta: ArrayLike) -> Array:
        """The distribution function."""
        from scipy.special import betainc

        half = 0.5 * np.clip(np.asarray(theta, dtype=float), 0.0, math.pi)
        return np.asarray(betainc(self._a, self._a, np.sin(half) ** 2))

    def sf(self, theta: ArrayLike) -> Array:
        """One minus the distribution function."""
        return self.cdf(math.pi - np.asarray(theta, dtype=float))

    def ppf(self, p: ArrayLike) -> Array:
        """The quantile function."""
        from scipy.special import betaincinv

        return np.asarray(2 * np.arcsin(np.sqrt(betaincinv(self._a, self._a, p))))

    def isf(self, p: ArrayLike) -> Array:
        """The quantile function from above."""
        return math.pi - self.ppf(p)


@with_parameters
def single_index(k: int = 4, d: float = 16, alpha: float = 0.0, rate: float = 1.0, t_end: float = 10.0) -> Problem:
    r"""Neurons on ``S^{d-1}`` with Hermite unit ``He_k/sqrt(k!)`` learn one such neuron, by projected gradient descent.

    From the uniform start the law stays symmetric about the target direction, and the angle ``theta`` to it
    carries everything: with ``u = cos theta``,

    .. math::

       E = \tfrac{c}{2} \Big(1 - 2 \int u^k d\mu + \iint K\, d\mu\, d\mu\Big), \quad
       K(u, v) = \sum_{j \text{ even}} \tbinom{k}{j} M_j\, (uv)^{k-j} [(1-u^2)(1-v^2)]^{j/2},

    ``M_j = (j-1)!! / ((d-1)(d+1) .. (d+j-3))``, ``mu_0`` proportional to ``sin^{d-2} theta`` on ``[0, pi]``.
    ``K`` is a sum of ``k/2 + 1`` squares, so ``E = c/2 sum_j (int phi_j dmu - delta_{j0})^2``.

    Parameters
    ----------
    k : int
        Degree of the unit, 2 to 64. For odd ``k`` the neurons with ``u < 0`` stall; even ``k`` is the clean case.
    d : float
        Dimension of the inputs, ``>= 2``; a continuous parameter of the reduced problem.
    alpha : float
        Birth-death rate.
    rate : float
        ``c``: 1 for the loss ``1/2 E (f - y)^2``, 2 for ``E (f - y)^2``.
    t_end : float
        Half of the loss is gone after a time of order ``d^{k/2 - 1}`` (even ``k > 2``).

    Notes
    -----
    **Exact** (``problem.exact``), without birth-death. With ``m_j = E u^j`` at the start, ``(j-1)!!/(d (d+2) ..
    (d+j-2))`` for even ``j`` and 0 for odd, ``initial_energy = c/2 (1 - m_k)`` and
    ``initial_slope = dE/dt(0) = -c^2 k^2 (m_{2k-2} - m_{2k})``: the interaction is constant at the start, so that the
    velocity of ``u`` is ``c k u^{k-1} (1 - u^2)`` there.

    For ``k = 2`` the flow is ``cot theta -> e^{2s} cot theta`` at all times, with one scalar equation

    .. math:: \dot s = c\, F(s), \qquad F(s) = e^{-2s}\, {}_2F_1(\tfrac d2, \tfrac12; \tfrac d2 + 1; 1 - e^{-4s}),
              \qquad E = \tfrac c2\, \tfrac{d-1}{d}\, F^2,

    which gives ``energy(t)``, ``density(theta, t)`` and ``time_to_energy(E)``. In ``d = 2`` it is explicit: with
    ``r = e^{2s} = W(e^{1+4ct})`` (Lambert W) the energy is ``c / (1 + r)^2``, the density
    ``r / (pi (cos^2 + r^2 sin^2))``. In ``d = 3``, with ``G = e^{4s} - 1``, ``F = 3/2 (1 - e^{4s} (1 - arctan(sqrt G) /
    sqrt G) / G)``.

    **Good values.** 400 cells until the density at the poles is a few cells wide.

    **Times** to a loss ``2 E / c`` of 1/2: about ``d / 7`` for ``k = 4``, growing like ``sqrt d`` for ``k = 3`` and by
    ``(1/4) log 2`` a doubling of ``d`` for ``k = 2`` (``c = 1``). Tails are algebraic in time; with ``k = 3`` a
    quarter of the loss stays for very long.
    """
    if not (isinstance(k, (int, np.integer)) and 2 <= k <= 64):
        raise ValueError(f"k must be an integer from 2 to 64, not {k!r}")
    if not (math.isfinite(d) and d >= 2):
        raise ValueError(f"d must be at least 2, not {d!r}")
    positive(rate=rate)
    orders = list(range(0, k + 1, 2))
    scales = [math.sqrt(math.comb(k, j) * _even_moment(j, d - 1)) for j in orders]

    def features(theta: Array) -> Array:
        u, v = np.cos(theta), np.sin(theta)
        return np.stack([s * u ** (k - j) * v**j for s, j in zip(scales, orders, strict=True)])

    def gradient(theta: Array) -> tuple[Array]:
        u, v = np.cos(theta), np.sin(theta)
        columns = []
        for s, j in zip(scales, orders, strict=True):
            slope = np.zeros_like(u)
            if k > j:
                slope = slope - (k - j) * u ** (k - j - 1) * v ** (j + 1)
            if j > 0:
                slope = slope + j * u ** (k - j + 1) * v ** (j - 1)
            columns.append(s * slope)
        return (np.stack(columns),)

    aim = np.zeros(len(orders))
    aim[0] = 1.0
    moment = _even_moment(k, d) if k % 2 == 0 else 0.0
    exact: dict[str, object] = {"initial_energy": 0.5 * rate * (1.0 - moment)}
    if alpha == 0.0:
        exact["initial_slope"] = -((rate * k) ** 2) * (_even_moment(2 * k - 2, d) - _even_moment(2 * k, d))
    if alpha == 0.0 and k == 2:
        closed = _Quadratic(d, rate)
        exact |= {"energy": closed.energy, "density": closed.density, "time_to_energy": closed.time_to_energy}
    if k % 2 == 0:
        exact["minimum_energy"] = 0.0
    return Problem(
        energy=Features(features, SquaredLoss(aim, rate * np.ones(len(orders))), gradient),
        axes=[Axis("theta", 0.0, math.pi, End.NATURAL)],
        initial=Product(theta=SphereAngle(d)),
        alpha=alpha,
        t_end=t_end,
        name="single-index",
        citation=CITATION,
        shape=(400,),
        exact=exact,
    )


def _even_moment(j: int, n: float) -> float:
    """``E v_1^j`` for ``v`` uniform on the sphere in ``n`` dimensions, ``j`` even: ``(j-1)!!/(n (n+2) .. (n+j-2))``."""
    return math.prod((2 * i + 1) / (n + 2 * i) for i in range(j // 2))


@dataclass(frozen=True)
class _Quadratic:
    """The closed form for ``k = 2``; see `single_index`."""

    d: float
    rate: float

    def speed(self, s: float) -> float:
        """``F(s)``; all terms are positive, and it is 1 at 0."""
        from scipy.integrate import quad
        from scipy.special import hyp2f1

        value = math.exp(-2 * s) * float(hyp2f1(0.5 * self.d, 0.5, 0.5 * self.d + 1, -math.expm1(-4 * s)))
        if math.isfinite(value):
            return value
        # beyond d = 300 or so: the Euler integral of the same function, the other way round
        G = math.expm1(4 * s)

        def integrand(v: float) -> float:
            return max(1.0 - math.expm1(v) / G, 0.0) ** (0.5 * self.d - 1) * math.exp(0.5 * v)

        return 0.5 * self.d / G * float(quad(integrand, 0.0, 4 * s, epsabs=0.0, epsrel=1e-12, limit=200)[0])

    def clock(self, t: float) -> float:
        """``s`` at time `t`."""
        from scipy.optimize import brentq
        from scipy.special import lambertw, wrightomega

        if t == 0.0:
            return 0.0
        if self.d == 2:
            exponent = 1 + 4 * self.rate * t
            ratio = lambertw(math.exp(exponent)) if exponent < 500 else wrightomega(exponent)
            return 0.5 * math.log(float(ratio.real))
        low, high = (0.5 * math.log1p(2 * self.rate * factor * t) for factor in (1.0, self._most))
        return float(brentq(lambda s: self._time(s) - t, 0.999 * low, 1.001 * high, xtol=1e-14, rtol=1e-14))

    @property
    def _most(self) -> float:
        """``F e^{2s}`` grows from 1 to this."""
        return math.sqrt(math.pi) * math.exp(math.lgamma(0.5 * self.d + 1) - math.lgamma(0.5 * self.d + 0.5))

    def _time(self, s: float) -> float:
        from scipy.integrate import quad

        return float(quad(lambda x: 1.0 / self.speed(x), 0.0, s, epsabs=0.0, epsrel=1e-13)[0]) / self.rate

    def energy(self, t: float) -> float:
        """``E(t)``."""
        return 0.5 * self.rate * (1.0 - 1.0 / self.d) * self.speed(self.clock(t)) ** 2

    def time_to_energy(self, energy: float) -> float:
        """The time at which the energy has fallen to `energy`."""
        from scipy.optimize import brentq

        ratio = energy / (0.5 * self.rate * (1.0 - 1.0 / self.d))
        if not 0.0 < ratio <= 1.0:
            raise ValueError(f"the energy {energy!r} must be positive and at most the one at the start")
        least = math.sqrt(ratio)
        high = 0.5 * math.log(1.001 * self._most / least)
        return self._time(float(brentq(lambda s: self.speed(s) - least, 0.0, high, xtol=1e-15)))

    def density(self, theta: ArrayLike, t: float) -> Array:
        """``mu_t``: the start at the foot of the characteristic, times the flow's stretching."""
        theta = np.asarray(theta, dtype=float)
        r = math.exp(2 * self.clock(t))
        stretch = r / (np.cos(theta) ** 2 + (r * np.sin(theta)) ** 2)
        return SphereAngle(self.d).pdf(np.arctan2(r * np.sin(theta), np.cos(theta))) * stretch
