"""Wasserstein distances of measures on a line and on a circle, from quantile and distribution functions.

Between piecewise linear functions they are exact; directions give the sliced distance in several dimensions.
"""

from __future__ import annotations

import math

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["Quantile", "circle_distance", "directions"]

DIRECTIONS = 16
"""Projections of the sliced distance."""


class Quantile:
    """A quantile function: linear from `low` to `high` on each of the intervals between `c`, which runs 0 to 1."""

    def __init__(self, c: Array, low: Array, high: Array) -> None:
        self.c, self.low, self.high = c, low, high

    @classmethod
    def of_points(cls, x: Array, weights: Array | None) -> Quantile:
        """That of points with weights, or with equal ones: a step function."""
        if weights is None:
            x = np.sort(x)
            return cls(np.arange(len(x) + 1) / len(x), x, x)
        order = np.argsort(x, kind="stable")
        c = np.concatenate([[0.0], np.cumsum(weights[order])])
        x = x[order]
        return cls(c / c[-1], x, x)

    @classmethod
    def of_curve(cls, x: Array, c: Array) -> Quantile:
        """From a distribution function, piecewise linear through (x, c)."""
        c = np.maximum.accumulate(c)
        c = (c - c[0]) / (c[-1] - c[0])
        keep = np.diff(c) > 0
        knots = np.concatenate([c[:-1][keep], [1.0]])
        return cls(knots, x[:-1][keep], x[1:][keep])

    def distances(self, other: Quantile) -> tuple[float, float]:
        """``W1`` and the square of ``W2``, exactly: the difference is linear between the merged knots."""
        q = np.union1d(self.c, other.c)
        q[0], q[-1] = 0.0, 1.0
        length = np.diff(q)
        middle = 0.5 * (q[1:] + q[:-1])
        a, b = self._ends(q, middle), other._ends(q, middle)
        left, right = a[0] - b[0], a[1] - b[1]
        square = float(length @ (left * left + left * right + right * right)) / 3.0
        return float(length @ _absolute(left, right)), square

    def _ends(self, q: Array, middle: Array) -> tuple[Array, Array]:
        s = np.clip(np.searchsorted(self.c, middle, side="right") - 1, 0, len(self.low) - 1)
        slope = (self.high - self.low)[s] / (self.c[1:] - self.c[:-1])[s]
        return self.low[s] + (q[:-1] - self.c[s]) * slope, self.low[s] + (q[1:] - self.c[s]) * slope


def _absolute(left: Array, right: Array) -> Array:
    """The mean of ``|f|`` for f linear from `left` to `right`."""
    mean = 0.5 * np.abs(left + right)
    cross = left * right < 0
    if cross.any():
        a, b = left[cross], right[cross]
        mean[cross] = 0.5 * (a * a + b * b) / np.abs(a - b)
    return mean


def circle_distance(curve: tuple[Array, Array], other: tuple[Array, Array], *, steps: bool) -> float:
    """``W1`` along a circle, ``min_c int |F - G - c| dx``, of two distribution functions over one period.

    The first is piecewise linear; the second too, or with `steps` a sum of jumps at its (sorted) points.
    """
    x = np.union1d(curve[0], other[0])
    F = np.interp(x, *curve)
    if steps:
        at = np.searchsorted(other[0], 0.5 * (x[1:] + x[:-1]), side="right")
        left = right = np.concatenate([[0.0], other[1]])[at]
    else:
        G = np.interp(x, *other)
        left, right = G[:-1], G[1:]
    left, right = F[:-1] - left, F[1:] - right
    length = np.diff(x)
    # the best c is a median; a knot of the finely cut curve is one to second order
    middle = 0.5 * (left + right)
    order = np.argsort(middle)
    mass = np.cumsum(length[order])
    c = middle[order[np.searchsorted(mass, 0.5 * mass[-1])]]
    return float(length @ _absolute(left - c, right - c))


def directions(d: int) -> Array:
    """Unit vectors: evenly turned in the plane, fixed pseudo-random ones beyond."""
    if d == 2:
        angle = math.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    e = np.random.default_rng(20240101).standard_normal((DIRECTIONS, d))
    return np.asarray(e / np.linalg.norm(e, axis=1, keepdims=True))
