"""Inverses of increasing functions: quantiles from distribution functions, and where a flow took a point from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["inverse"]


def inverse(function: Callable[[Array], Array], values: Array, lower: float = 0.0, upper: float = 1.0) -> Array:
    """Where an increasing function of [lower, upper] takes values of its range, by bisection to round-off."""
    low, high = np.full_like(values, lower), np.full_like(values, upper)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = function(middle) < values
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)
