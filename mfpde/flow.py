"""The semi-discrete flow: energy, transport and reaction of one problem on one mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.grid import Grid
from mfpde.problem import Problem
from mfpde.reaction import make_reaction
from mfpde.transport import Scheme, Transport

__all__ = ["Evaluation", "Flow"]

Array = NDArray[np.float64]


@dataclass(slots=True)
class Evaluation:
    """What is known about one density.

    Attributes
    ----------
    mu, V : array
        The density and its potential ``V[mu]`` on the cells.
    energy : float
        ``E[mu]``.
    response : array
        ``u = int Phi dmu`` in the energy's compressed coordinates.
    mass : float
        ``int dmu``.
    mean : float
        ``Vbar``, the mean of ``V`` under ``mu``.
    outflow : (float, int) or None
        The largest rate at which a cell empties and which cell, once `Flow.outflow` has been asked.
    """

    mu: Array
    V: Array
    energy: float
    response: Array
    mass: float
    mean: float
    outflow: tuple[float, int] | None = None


class Flow:
    """Everything that does not change during a run.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        A mesh on the problem's axes.
    scheme : Scheme
        The transport scheme.

    Attributes
    ----------
    evaluations : int
        How often the potential has been evaluated.
    """

    def __init__(self, problem: Problem, grid: Grid, scheme: Scheme) -> None:
        if grid.axes != tuple(problem.axes):
            raise ValueError("the grid's axes are not the problem's; use problem.grid(shape)")
        self.problem = problem
        self.grid = grid
        self.scheme = scheme
        self.energy = problem.bound_energy.on(grid)
        self.transport = Transport(grid, scheme, problem.metric)
        self.reaction = make_reaction(problem, grid, scheme.point_values)
        self.evaluations = 0

    def evaluate(self, mu: Array, out: Array | None = None) -> Evaluation:
        """The potential and what follows from it; ``V`` is written into `out` if given."""
        self.evaluations += 1
        V, energy, response = self.energy.evaluate(mu, out)
        volume = self.grid.cell_volume
        mass = float(mu.sum()) * volume
        mean = float(np.vdot(V, mu)) * volume / mass if mass > 0 else 0.0
        return Evaluation(mu, V, energy, response, mass, mean)

    def outflow(self, at: Evaluation) -> tuple[float, int]:
        """The largest rate at which a cell empties, ``max_i sum_faces v_out / h``, and which cell."""
        if at.outflow is None:
            at.outflow = self.transport.outflow_rate(at.V, at.mu)
        return at.outflow
