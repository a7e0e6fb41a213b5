"""Sums over pairs of points of a product of Gaussians, by the near ones alone. Imported when first needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.support.arrays import Array
from mfpde.support.compiling import compiled

__all__ = ["GaussianSums"]


CUT = 40.0
"""Terms below ``exp(-CUT)`` of the largest possible one, 4e-18, are left out."""


@dataclass(frozen=True, eq=False)
class GaussianSums:
    """``V(x) = a sum_j w_j prod_i exp(-(x_i - y_ji)^2 / (2 v_i))`` and its gradient, at many points x at once.

    Parameters
    ----------
    amplitude : float
        ``a``.
    variances : array, shape (d,)
        ``v``; infinite along an axis on which the kernel does not depend.
    periods : array, shape (d,)
        Infinite along an axis that is not periodic. A term acts by its nearest image alone, see `fit`.
    """

    amplitude: float
    variances: Array
    periods: Array

    @staticmethod
    def fit(variances: Sequence[float], periods: Sequence[float]) -> bool:
        """Whether one image along each periodic axis is all that counts."""
        return all(math.isinf(v) or math.sqrt(2.0 * CUT * v) < 0.5 * p for v, p in zip(variances, periods, strict=True))

    def __call__(self, points: Array, others: Array, weights: Array) -> tuple[Array, Array]:
        """Values (n,) and gradients (n, d) at points (n, d), from the others (m, d) with their weights (m,)."""
        first = int(np.argmin(self.variances))
        order = np.argsort(others[:, first], kind="stable")
        values, slopes = np.empty(len(points)), np.empty(points.shape)
        _near_sums(
            np.ascontiguousarray(points), np.ascontiguousarray(others[order]), np.ascontiguousarray(weights[order]),
            -0.5 / self.variances, self.periods, first, values, slopes,
        )  # fmt: skip
        values *= self.amplitude
        slopes *= self.amplitude
        return values, slopes


@compiled(nogil=True, error_model="numpy")
def _near_sums(points, others, weights, rates, periods, first, values, slopes):  # type: ignore[no-untyped-def]
    """The others ascend along the axis `first`, on which those that count are an interval, or two round a seam."""
    n, d = points.shape
    line = np.ascontiguousarray(others[:, first])
    reach = np.sqrt(CUT / -rates[first])
    images = 0 if np.isinf(periods[first]) else 1
    apart = np.empty(d)
    for i in range(n):
        total = 0.0
        slope = np.zeros(d)
        for image in range(-images, images + 1):
            middle = points[i, first] + (image * periods[first] if image != 0 else 0.0)
            for j in range(np.searchsorted(line, middle - reach), np.searchsorted(line, middle + reach)):
                power = 0.0
                for k in range(d):
                    apart[k] = points[i, k] - others[j, k]
                    if periods[k] < np.inf:
                        apart[k] -= periods[k] * np.round(apart[k] / periods[k])
                    power += rates[k] * apart[k] * apart[k]
                if power > -CUT:
                    term = weights[j] * np.exp(power)
                    total += term
                    for k in range(d):
                        slope[k] += term * apart[k]
        values[i] = total
        for k in range(d):
            slopes[i, k] = 2.0 * rates[k] * slope[k]
