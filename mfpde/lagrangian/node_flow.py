"""Where mass descends from, and runs with so many nodes, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.lagrangian.ancestry import (
    Places,
    Watch,
    ancestral_mass,
    find_places,
    nodes_of,
    of_a_density,
    watch_each,
    worst,
)
from mfpde.lagrangian.assembly import Lane, engine_of, lane_of
from mfpde.lagrangian.backward import Backward
from mfpde.lagrangian.lane import integrate
from mfpde.lagrangian.nodes import STENCIL_STEP, Dynamics, Run, Stepping
from mfpde.support.arrays import Array
from mfpde.support.saves import distinct_times, nearest
from mfpde.support.threads import one_blas_thread

__all__ = ["SCOUT_TIMES", "NodeFlow", "find_ancestors"]

SCOUT = {1: 32, 2: 14, 3: 8, 4: 6}
"""Nodes along each axis of the coarse runs that look where the mass comes from."""
SCOUT_RTOL = 1e-4
SCOUT_STEPS = 150
"""After so many steps a coarse run has met something that is not smooth, and tells nothing."""
TABLES = 0.1
"""The accuracy of tables, as a share of the tolerance of steps: their error is no part of what more nodes change."""
COMPILED_RUN = 1.5e-3
"""What Python does before and after a compiled run, in about seconds."""
SCOUT_TIMES = np.array([0.0, 1 / 64, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0])
"""When they look, in parts of the run."""


def find_ancestors(
    dynamics: Dynamics, t_end: float, deadline: float = math.inf, accuracy: float | None = None
) -> Places | None:
    """Where nodes are needed besides the bulk of the start, see `find_places`; None where they are not.

    Raises
    ------
    OutOfTime
        At the deadline.
    """
    d = dynamics.dimension
    if not dynamics.reacts and d > 1:
        return None

    def follow(points: Array, logs: Array) -> tuple[Array, Array]:
        stepping = Stepping(
            SCOUT_RTOL, deadline=deadline, most_steps=SCOUT_STEPS, accuracy=accuracy, quick=True, judged=False
        )
        run = integrate(dynamics, (points, logs), SCOUT_TIMES * t_end, stepping)
        return run.points, run.weights

    try:
        with one_blas_thread():
            return find_places(dynamics.problem.mu_0, (SCOUT[d],) * d, follow)
    except (RuntimeError, ArithmeticError):  # what is wrong is for the run itself to say
        return None


class NodeFlow:
    """One problem's characteristics at given times, with as many nodes as asked for each time.

    Parameters
    ----------
    problem : Problem
    times : array
        Increasing.
    other : bool
        Take differently placed nodes, see `RestrictedMeasure.blocks`, and a Runge-Kutta method of another order:
        what does not depend on either bears them out.
    known : NodeFlow, optional
        Of the same problem and times: where its mass comes from is not looked for again.

    Attributes
    ----------
    watched : Watch
        Of the last run.
    work : float
        Evaluations of the last run, each counted with what it costs, in Python or compiled, in about seconds.
    ancestral : float
        The least ancestral mass of the last run, see `Characteristics.ancestral_mass`.

    Raises
    ------
    ValueError
        If the problem has no characteristics; see `characteristics`.
    """

    watched: Watch
    work: float
    ancestral: float

    def __init__(self, problem: Problem, times: Array, other: bool = False, known: NodeFlow | None = None) -> None:
        self.dynamics, self.times, self.other = Dynamics(problem), times, other
        if other:  # densities come from differences, of another step as well
            self.dynamics.stencil_step = 0.5 * STENCIL_STEP
        self.saves = np.array(distinct_times([0.0, *times.tolist()], (0.0, float(times[-1]))))
        self._looked: bool = known is not None and known._looked
        self._places: Places | None = known._places if known is not None else None
        self._recorded: tuple[int, float, Backward] | None = None

    def compiled(self, rtol: float) -> bool:
        """Whether a compiled program moves the nodes at a tolerance, see `mfpde.lagrangian.lane`."""
        return engine_of(self.dynamics, self._accuracy(rtol)).compiled

    def _accuracy(self, rtol: float) -> float:
        """How far the velocity of a run may be off."""
        return TABLES * rtol

    def look(self, deadline: float = math.inf) -> int:
        """How many places along an axis need nodes, the bulk of the start included.

        Raises
        ------
        OutOfTime
            At the deadline.
        """
        if not self._looked:
            self._places = find_ancestors(self.dynamics, float(self.saves[-1]), deadline)
            self._looked = True
        return 1 + max((len(axis) for component in self._places or [] for axis in component), default=0)

    def run(self, nodes: Sequence[int], rtol: float, deadline: float = math.inf) -> Iterator[NodesAt]:
        """The measure at each of the times.

        Raises
        ------
        OutOfTime
            At the deadline.
        """
        self.look(deadline)
        blocks = self.dynamics.problem.mu_0.blocks(tuple(nodes), self._places, self.other)
        start = nodes_of(blocks)
        with one_blas_thread():
            run = integrate(self.dynamics, start, self.saves, self._stepping(rtol, deadline))
        self.watched = worst(watch_each(blocks, run.weights))
        ancestral = [ancestral_mass(start[1], weights, of_a_density(blocks)) for weights in run.weights]
        self.ancestral = min(ancestral)
        self.work = self._work(run, rtol)
        for i in nearest(self.saves, self.times):
            density = partial(self._density, start, rtol, float(self.saves[i]), deadline)
            yield NodesAt(run.points[i], run.weights[i], float(run.energy[i]), ancestral[i], density)

    def _work(self, run: Run, rtol: float) -> float:
        """What a run costs, from counts."""
        n, bound = len(run.start), self.dynamics.bound
        lane = lane_of(self.dynamics, self._accuracy(rtol))
        if run.engine.compiled and isinstance(lane, Lane):
            return COMPILED_RUN + run.evaluations * lane.seconds(n)
        return run.evaluations * (1e-4 + 1e-9 * n * (n if bound.direct else 10 + bound.response_size))

    def _density(self, start: tuple[Array, Array], rtol: float, t: float, deadline: float, points: Array) -> Array:
        """The density of the nodes of a run, which is repeated to record the response."""
        dynamics, t_end = self.dynamics, float(self.saves[-1])
        dynamics.problem.mu_0.log_density(points[:1])  # a measure with atoms refuses here, before the work
        with one_blas_thread():
            if self._recorded is None or self._recorded[:2] != (len(start[1]), rtol):
                self._recorded = len(start[1]), rtol, Backward(dynamics, start, t_end, self._stepping(rtol, deadline))
            return self._recorded[2].density(points, dynamics.clock(t), deadline)

    def _stepping(self, rtol: float, deadline: float) -> Stepping:
        return Stepping(rtol, self.other, deadline, accuracy=self._accuracy(rtol))


@dataclass(frozen=True, eq=False)
class NodesAt:
    """The nodes at a time.

    Attributes
    ----------
    points : array, shape (N, d)
    weights : array, shape (N,)
    energy : float
    ancestral : float
        See `Characteristics.ancestral_mass`.
    density : callable
        ``density(points)`` at points (n, d), see `Characteristics.density_at`.
    """

    points: Array
    weights: Array
    energy: float
    ancestral: float
    density: Callable[[Array], Array]
