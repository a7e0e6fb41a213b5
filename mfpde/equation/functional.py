"""The energy as a function of a density: on the cells of a mesh, or at quadrature nodes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.convexity import second_variation
from mfpde.equation.energy import BoundEnergy, GridEnergy
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time

__all__ = ["CellMeasures", "Functional", "NodalFunctional"]


class Functional:
    """The energy on a mesh, on some of its cells, and its second variation.

    Parameters
    ----------
    bound : BoundEnergy
    grid : Grid
    deadline : float
        When no step is begun any more, on the clock of `working_time`.
    plan : GridEnergy, optional
        ``bound.on(grid)``, if there is one already.
    """

    def __init__(
        self, bound: BoundEnergy, grid: Grid, deadline: float = math.inf, plan: GridEnergy | None = None
    ) -> None:
        self.bound, self.grid, self.volume, self.deadline = bound, grid, grid.cell_volume, deadline
        self.plan = bound.on(grid) if plan is None else plan
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
        return working_time() > self.deadline

    def second_variation(self, mu: Array, V: Array) -> Callable[[Array], Array]:
        """``h -> K h``, the derivative of V at `mu` along a change of density.

        Of a quadratic energy that of V, which is affine; else the energy's own closed form; else differences of V.
        """
        closed = None if self.quadratic else self.closed_curvature(mu)
        if closed is not None:
            return closed
        return second_variation(lambda density: self.evaluate(density)[0], mu, V, self.volume, self.quadratic)

    def closed_curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """The second variation in closed form, each application counted as an evaluation; None where there is none."""
        closed = self.plan.curvature(mu)
        if closed is None:
            return None

        def counted(h: Array) -> Array:
            self.evaluations += 1
            return closed(h)

        return counted

    def on_cells(self, cells: NDArray[np.intp]) -> CellMeasures:
        """The energy of measures on a few cells, counted through the mesh."""
        return CellMeasures(self, cells)


class CellMeasures:
    """The energy of measures on some cells, by their masses: at points where the energy has those, else on the mesh.

    Parameters
    ----------
    functional : Functional
    cells : array of int, shape (k,)
    """

    def __init__(self, functional: Functional, cells: NDArray[np.intp]) -> None:
        self._functional, self._cells = functional, cells
        grid = functional.grid
        index = np.unravel_index(cells, grid.shape)
        self._points: Array | None = None
        if "points" in functional.bound.capabilities:
            self._points = np.stack([grid.centres(i)[index[i]] for i in range(grid.dimension)], axis=1)

    def _spread(self, masses: Array) -> Array:
        density = np.zeros(self._functional.grid.shape)
        density.flat[self._cells] = masses / self._functional.volume
        return density

    def potential(self, masses: Array) -> Array:
        """V at the cells (k,)."""
        if self._points is None:
            return np.asarray(self._functional.evaluate(self._spread(masses))[0].flat[self._cells])
        bound = self._functional.bound
        return bound.potential(self._points, bound.response(self._points, masses))

    def curvature(self, masses: Array, V: Array) -> Array:
        """The derivative of V at the cells, where it is `V`, by their masses: shape (k, k)."""
        functional, points = self._functional, self._points
        bound = functional.bound
        if points is not None and not functional.quadratic and {"response", "curvature"} <= bound.capabilities:
            features = bound.features(points)
            H = features.T @ bound.curvature(bound.response(points, masses), features)
        else:
            mass = max(float(masses.sum()), 1e-3)
            along = second_variation(self.potential, masses, V, 1.0, functional.quadratic, mass)
            H = np.array([along(unit) for unit in np.eye(len(masses))])
        return 0.5 * (H + H.T)

    def energy(self, masses: Array) -> float:
        """E, without the entropy."""
        if self._points is None:
            return self._functional.evaluate(self._spread(masses))[1]
        return self._functional.bound.energy(self._points, masses)


class NodalFunctional(Functional):
    """The energy of densities at quadrature nodes (n, d), each of the same nominal volume."""

    def __init__(self, bound: BoundEnergy, points: Array, volume: float, deadline: float = math.inf) -> None:
        self.bound, self.points, self.volume, self.deadline = bound, points, volume, deadline
        self.evaluations = 0
        self.quadratic = bound.quadratic

    def closed_curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """None: features of all nodes would be too many numbers."""
        return None

    def evaluate(self, mu: Array) -> tuple[Array, float]:
        """``V[mu]`` at the nodes (n,) and ``E[mu]``, without the entropy, of a density."""
        self.evaluations += 1
        weights = mu * self.volume
        response = self.bound.response(self.points, weights)
        return self.bound.potential(self.points, response), self.bound.energy(self.points, weights, response)
