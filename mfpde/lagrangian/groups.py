"""Nodes that keep their mass together: all of them, or those of each species."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array

__all__ = ["Groups"]


class Groups:
    """The groups of a problem's nodes.

    Attributes
    ----------
    count : int
        One, or the number of species that each keep their mass.
    """

    def __init__(self, problem: Problem) -> None:
        self._apart = problem.apart
        self.count = 1 if self._apart is None else len(self._apart[1].labels)

    def of(self, points: Array) -> NDArray[np.intp]:
        """The number of the group of each point, where there are several."""
        assert self._apart is not None
        position, species = self._apart
        return species.indices(points[:, position])

    def means(self, points: Array, weights: Array, values: Array) -> Array:
        """The mean of values at points in each group: shape ``(count,)``."""
        if self.count == 1:
            return np.array([weights @ values])
        group = self.of(points)
        return np.bincount(group, weights * values, self.count) / np.bincount(group, weights, self.count)

    def at(self, means: Array, points: Array) -> Array | float:
        """`means` of the group of each point."""
        return float(means[0]) if self.count == 1 else means[self.of(points)]

    def mean(self, points: Array, weights: Array, values: Array) -> Array | float:
        """The mean of values in the group of each point."""
        return self.at(self.means(points, weights, values), points)

    def split(self, recorded: Array) -> tuple[Array, Array]:
        """The response and the mean rates, of what `mfpde.lagrangian.nodes.Flow.driving` gives."""
        return recorded[: -self.count], recorded[-self.count :]

    def weights(self, group: NDArray[np.intp], logs: Array, mass: Array) -> tuple[Array, float]:
        """Weights by their logarithms, in each group as much as its nodes had, and the total that is farthest from 1.

        Parameters
        ----------
        group : (n,) array of int
        logs : (n,) array
        mass : (n,) array
            The masses at the start.
        """
        shift = np.full(self.count, -np.inf)
        np.maximum.at(shift, group, logs)
        weights = np.exp(logs - shift[group])
        whole = np.bincount(group, mass, self.count) / np.bincount(group, weights, self.count)
        totals = np.exp(np.minimum(shift, 700.0)) / whole
        return weights * whole[group], float(totals[np.argmax(np.abs(totals - 1.0))])
