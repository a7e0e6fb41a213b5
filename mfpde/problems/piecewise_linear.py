"""A bounded piecewise linear unit, and its means over Gaussian laws and over spheres."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mfpde.support.arrays import Array

__all__ = ["FAR", "TINY", "PiecewiseLinearUnit", "normal_cdf", "normal_density"]


FAR = 40.0
"""Standard deviations beyond which a Gaussian tail is 0 in floating point."""
TINY = 1e-300
"""What stands for a scale of 0 where something is divided by it."""


def normal_density(x: Array) -> Array:
    """``phi(x)``, the density of the standard normal law."""
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


def normal_cdf(x: Array) -> Array:
    """``Phi(x)``, the distribution function of the standard normal law."""
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


@dataclass(frozen=True)
class PiecewiseLinearUnit:
    r"""A bounded unit: linear between knots, constant beyond the first and the last.

    With the jumps ``m_k`` of its slope at the knots ``t_k``, ``sigma(t) = v_0 + sum_k m_k (t - t_k)_+``.

    Parameters
    ----------
    knots : sequence of float
        ``t_k``, increasing, at least two.
    values : sequence of float
        ``sigma(t_k)``.

    Raises
    ------
    ValueError
        If the lengths differ, the knots do not increase, or a number is not finite.

    Examples
    --------
    >>> unit = PiecewiseLinearUnit((0.5, 1.5), (-2.5, 7.5))
    >>> [float(value) for value in unit(np.array([0.0, 1.0, 2.0]))]
    [-2.5, 2.5, 7.5]
    >>> round(float(unit.gaussian_mean(np.array(1.0))), 9)
    -0.815102364
    """

    knots: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        knots, values = tuple(map(float, self.knots)), tuple(map(float, self.values))
        if len(knots) != len(values) or len(knots) < 2:
            raise ValueError(f"a unit needs as many values as knots, two at least, not {len(knots)} and {len(values)}")
        if not all(map(math.isfinite, knots + values)):
            raise ValueError(f"knots {knots} and values {values} must be finite")
        if not all(a < b for a, b in itertools.pairwise(knots)):
            raise ValueError(f"the knots must increase, not {knots}")
        object.__setattr__(self, "knots", knots)
        object.__setattr__(self, "values", values)

    @cached_property
    def jumps(self) -> Array:
        """``m_k``; their sum is 0."""
        return np.diff(np.diff(self.values) / np.diff(self.knots), prepend=0.0, append=0.0)

    def __call__(self, t: ArrayLike) -> Array:
        """``sigma(t)``."""
        return np.interp(np.asarray(t, dtype=float), self.knots, self.values)

    def _positive(self) -> tuple[float, Array]:
        """The unit is ``start + sum_k m_k (t - |t_k|)_+`` in the mean over a symmetric t: start and ``|t_k|``."""
        knots = np.array(self.knots)
        return self.values[0] - float(self.jumps @ np.minimum(knots, 0.0)), np.abs(knots)

    def gaussian_mean(self, r: ArrayLike) -> Array:
        r"""``q(r) = E sigma(r G)``, ``G`` standard normal: ``v_0 + sum_k m_k [r phi(t_k/r) - t_k Phi(-t_k/r)]``."""
        r = np.asarray(r, dtype=float)
        value, knots = self._positive()
        result = np.full(r.shape, value)
        for m, t in zip(self.jumps, knots, strict=True):
            x = np.minimum(t / np.maximum(r, TINY), FAR)
            # the jumps sum to 0, so phi(0) may be taken off: no cancellation at large r
            result += m * (r * (np.expm1(-0.5 * x * x) / math.sqrt(2 * math.pi)) - t * normal_cdf(-x))
        return result

    def gaussian_slope(self, r: ArrayLike) -> Array:
        """``q'(r) = sum_k m_k phi(t_k/r)``."""
        r = np.asarray(r, dtype=float)
        result = np.zeros(r.shape)
        for m, t in zip(self.jumps, self._positive()[1], strict=True):
            result += m * normal_density(np.minimum(t / np.maximum(r, TINY), FAR))
        return result

    def gaussian_square(self, r: ArrayLike) -> Array:
        """``p(r) = E sigma(r G)^2``: the mean over both classes is the overlap of a neuron with itself."""
        r = np.asarray(r, dtype=float)
        edges = [-math.inf, *self.knots, math.inf]
        slopes = [0.0, *(np.diff(self.values) / np.diff(self.knots)), 0.0]
        anchors = [0.0, *self.knots]
        heights = [self.values[0], *self.values]
        result = np.zeros(r.shape)
        scale = np.maximum(r, TINY)
        for low, high, m, t, v in zip(edges, edges[1:], slopes, anchors, heights, strict=False):
            # int (c + m r g)^2 over a < g < b, c the intercept
            a, b = np.clip(low / scale, -FAR, FAR), np.clip(high / scale, -FAR, FAR)
            c = v - m * t
            mass = normal_cdf(b) - normal_cdf(a)
            first = normal_density(a) - normal_density(b)
            second = mass + a * normal_density(a) - b * normal_density(b)
            result += c * c * mass + 2 * c * m * r * first + (m * r) ** 2 * second
        return result

    def sphere_mean(self, s: ArrayLike, d: float) -> Array:
        r"""``Q_d(s) = E sigma(s u)``, ``u`` a coordinate of a uniform point on the sphere ``S^{d-1}``.

        .. math::

           Q_d(s) = v_0 + \sum_k m_k \Big[\frac{s c_d}{d-1}(1-\tau_k^2)^{(d-1)/2}
                    - \frac{t_k}{2} I_{1-\tau_k^2}\big(\tfrac{d-1}{2}, \tfrac12\big)\Big], \quad
           \tau_k = \min(t_k/s, 1), \quad c_d = \frac{\Gamma(d/2)}{\sqrt\pi\,\Gamma((d-1)/2)},

        ``I`` the regularised incomplete beta function.
        """
        s = np.asarray(s, dtype=float)
        value, knots = self._positive()
        result = np.full(s.shape, value)
        half = 0.5 * (d - 1)
        for m, t in zip(self.jumps, knots, strict=True):
            tau = np.minimum(t / np.maximum(s, TINY), 1.0)
            with np.errstate(divide="ignore"):
                edge = np.expm1(half * np.log1p(-tau * tau))  # less 1, as the jumps sum to 0
            result += m * (s * _sphere_constant(d) * edge - 0.5 * t * _outside(tau, d))
        return result

    def sphere_slope(self, s: ArrayLike, d: float) -> Array:
        """``Q_d'(s) = c_d/(d-1) sum_k m_k (1 - tau_k^2)^{(d-1)/2}``."""
        s = np.asarray(s, dtype=float)
        result = np.zeros(s.shape)
        for m, t in zip(self.jumps, self._positive()[1], strict=True):
            result += m * (1.0 - np.minimum(t / np.maximum(s, TINY), 1.0) ** 2) ** (0.5 * (d - 1))
        return result * _sphere_constant(d)


def _sphere_constant(d: float) -> float:
    """``c_d/(d-1) = Gamma(d/2) / (2 sqrt(pi) Gamma((d+1)/2))``."""
    return math.exp(math.lgamma(0.5 * d) - math.lgamma(0.5 * (d + 1))) / (2 * math.sqrt(math.pi))


MOST_TERMS = 200
"""Dimensions up to which a sum is faster than an incomplete beta function."""


def _outside(tau: Array, d: float) -> Array:
    r"""``P(|u| > tau)``, ``u`` a coordinate of a uniform point on ``S^{d-1}``: ``1 - I_{tau^2}(1/2, (d-1)/2)``.

    In whole dimensions it is a sum, by parts: with ``tau = sin phi`` and ``J_m`` the integral of ``cos^m`` up to
    ``pi/2``, ``F_m = int_0^phi cos^m / J_m = F_{m-2} + sin(phi) cos(phi)^{m-1} / (m J_m)``, for ``m = d - 2``.
    """
    if not (d == int(d) and d <= MOST_TERMS):
        from scipy.special import betainc

        return np.asarray(1.0 - betainc(0.5, 0.5 * (d - 1), tau * tau))
    m = int(d) - 2
    square = 1.0 - tau * tau
    total = np.zeros_like(square)
    for k in range(m, 1, -2):  # 1 / (k J_k), J_k = sqrt(pi) Gamma((k + 1)/2) / (2 Gamma(k/2 + 1))
        total *= square
        total += math.exp(math.lgamma(0.5 * k + 1.0) - math.lgamma(0.5 * (k + 1))) * 2.0 / (math.sqrt(math.pi) * k)
    if m % 2:
        return np.asarray(1.0 - tau * (1.0 + square * total))
    return np.asarray(1.0 - (2.0 / math.pi * np.arcsin(tau) + tau * np.sqrt(square) * total))
