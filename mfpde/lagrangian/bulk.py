"""Where the mass of a run is along each axis.

What moves nodes may be less accurate for those that hold little, by the inverse of what they hold: so many fewer
functions make a potential: for bumps on a plane 8 of each coordinate where 15 are as accurate on the whole box.

Nothing stops at the places that are noted here. Tables reach to the ends of the box, and what moves nodes beyond is no
more than less accurate; how much that matters is seen in the energies, which are those of the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mfpde.equation.energy.gradients import probe_points
from mfpde.equation.grid import Axis
from mfpde.support.arrays import Array

__all__ = ["Bulk", "bulk_of"]

LEVELS = 10.0 ** -np.arange(1.0, 8.0)
"""Masses on one side of a place by which it is told where the mass is."""
STEPS = 64
"""Places are rounded outward to such a part of the axis: runs that differ little have the same tables."""


class Bulk(NamedTuple):
    """How far out along each axis there is how much mass at any time of a run.

    Attributes
    ----------
    axes : tuple of Axis
    low, high : tuple of tuple of float
        Of each axis, the places below and above which there is less than each of `LEVELS`.
    """

    axes: tuple[Axis, ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]

    def share(self, i: int, x: Array) -> Array:
        """By what an error at coordinates x (n,) of an axis counts: the mass beyond, over the first of `LEVELS`."""
        logs = np.log(LEVELS[::-1] / LEVELS[0])
        # where a place is that of several levels, at a wall perhaps, that of the most mass counts
        below, above = np.interp(x, self.low[i][::-1], logs), np.interp(-x, -np.array(self.high[i][::-1]), logs)
        return np.exp(np.minimum(below, above))

    def shares(self, points: Array, which: Sequence[int]) -> Array:
        """The same at points (n, k), whose coordinates are those of `which` axes: the least along any of these."""
        return np.min([self.share(i, x) for i, x in zip(which, points.T, strict=True)], axis=0)

    def probes(self, n: int) -> Array:
        """Points (n, d) that lie as the mass does along each axis."""
        unit = (probe_points(self.axes, n) - [axis.lower for axis in self.axes]) / [axis.length for axis in self.axes]
        return np.stack([self._place(i, u) for i, u in enumerate(unit.T)], axis=1)

    def _place(self, i: int, u: Array) -> Array:
        """Where along an axis there is a mass of u (n,) below."""
        return np.interp(u, [*LEVELS[::-1], *(1.0 - LEVELS)], [*self.low[i][::-1], *self.high[i]])


def bulk_of(axes: Sequence[Axis], points: Array, weights: Array) -> Bulk:
    """Where the mass of nodes is that were at points (m, n, d) with weights (m, n) at some times.

    A node counts by the most that it holds at any time, wherever it is: what moves it before that matters as much.
    """
    most = (weights / weights.sum(axis=1, keepdims=True)).max(axis=0)
    low, high = [], []
    for i, axis in enumerate(axes):
        if axis.periodic:  # there is nothing beyond
            low.append((axis.lower,) * len(LEVELS))
            high.append((axis.upper,) * len(LEVELS))
            continue
        order = np.argsort(points[:, :, i], axis=1, kind="stable")
        x, w = np.take_along_axis(points[:, :, i], order, axis=1), most[order]
        unit = axis.length / STEPS
        from_low = _reached(x, w).min(axis=0) - axis.lower
        from_high = axis.upper + _reached(-x[:, ::-1], w[:, ::-1]).min(axis=0)
        low.append(tuple((axis.lower + unit * np.floor(from_low / unit)).tolist()))
        high.append(tuple((axis.upper - unit * np.floor(from_high / unit)).tolist()))
    return Bulk(tuple(axes), tuple(low), tuple(high))


def _reached(x: Array, w: Array) -> Array:
    """At which of ascending coordinates (m, n) their masses add up to each of `LEVELS`: shape (m, levels)."""
    at = (np.cumsum(w, axis=1)[:, None, :] >= LEVELS[:, None]).argmax(axis=2)
    return np.take_along_axis(x, at, axis=1)
