"""Whether a density is smooth on its mesh, so that errors can be expected to be of the order of a scheme."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["divisors", "is_smooth"]

STEEP = 0.2
"""Change from cell to cell, in maxima of a density, up to which it is smooth: that of a normal law of 3 cells."""


def divisors(fine: Grid, coarse: Grid) -> tuple[float, float]:
    """The difference of two meshes over the error of the finer one, where errors are of first and of second order.

    With ``r`` times the cells it is ``r^p - 1``: 1 and 3 for twice as many. An odd number of cells has no half, and of
    less than 8 not even the half is taken. Where the axes differ, errors are taken to be as the powers of their cells;
    those that have the same cells on both meshes are not seen.
    """
    halved = [(n, n / m) for n, m in zip(fine.shape, coarse.shape, strict=True) if n > m]
    first, second = (_divisor(halved, order) for order in (1, 2))
    return first, second


def _divisor(halved: Sequence[tuple[int, float]], order: int) -> float:
    least = min(ratio for _, ratio in halved) ** order
    weights = [float(n) ** -order for n, _ in halved]
    more = [weight * (ratio**order - least) for weight, (_, ratio) in zip(weights, halved, strict=True)]
    return least - 1.0 + sum(more) / sum(weights)  # the sum is exactly 0 where all axes are halved


def is_smooth(mu: Array, grid: Grid) -> bool:
    """Whether a density changes by less than a fifth of its maximum from cell to cell: a normal law of 3 cells does.

    Jumps and narrow layers do not: there errors of any scheme are of first order. On a periodic axis the last cell has
    the first one as its neighbour.
    """
    most = STEEP * float(mu.max())
    for i, axis in enumerate(grid.axes):
        along = (slice(None),) * i
        change = mu[(*along, slice(1, None))] - mu[(*along, slice(None, -1))]
        inside = max(float(change.max()), -float(change.min()))
        across = float(np.abs(mu.take(0, axis=i) - mu.take(-1, axis=i)).max()) if axis.periodic else 0.0
        if max(inside, across) > most:
            return False
    return True
