"""The energy as a function of a density: on the cells of a mesh, or at quadrature nodes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from mfpde.equation.convexity import second_variation
from mfpde.equation.energy import BoundEnergy
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["Functional", "NodalFunctional"]


class Functional:
    """The energy on a mesh and on points, with its second variation from differences of V.

    Parameters
    ----------
    bound : BoundEnergy
    grid : Grid
    deadline : float
        When no step is begun any more, on the clock of `time.perf_counter`.
    """

    def __init__(self, bound: BoundEnergy, grid: Grid, deadline: float = math.inf) -> None:
        self.bound, self.grid, self.volume, self.deadline = bound, grid, grid.cell_volume, deadline
        self.plan = bound.on(grid)
        self.evaluations = 0
        self.quadratic = bound.quadratic

    def evaluate(self, mu: Array) -> tuple[Array, float]:
        """``V[mu]`` on the cells and ``E[mu]``, without the entropy, of a density."""
        self.evaluations += 1
        V, energy, _ = self.plan.evaluate(mu)
        return V, energy

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self.deadline

    def second_variation(self, mu: Array, V: Array) -> Callable[[Array], Array]:
        """``h -> K h``, the derivative of V at `mu` along a density of mass 0."""
        return second_variation(lambda density: self.evaluate(density)[0], mu, V, self.volume, self.quadratic)


class NodalFunctional(Functional):
    """The energy of densities at quadrature nodes (n, d), each of the same nominal volume."""

    def __init__(self, bound: BoundEnergy, points: Array, volume: float, deadline: float = math.inf) -> None:
        self.bound, self.points, self.volume, self.deadline = bound, points, volume, deadline
        self.evaluations = 0
        self.quadratic = bound.quadratic

    def evaluate(self, mu: Array) -> tuple[Array, float]:
        """``V[mu]`` at the nodes (n,) and ``E[mu]``, without the entropy, of a density."""
        self.evaluations += 1
        weights = mu * self.volume
        response = self.bound.response(self.points, weights)
        return self.bound.potential(self.points, response), self.bound.energy(self.points, weights, response)
