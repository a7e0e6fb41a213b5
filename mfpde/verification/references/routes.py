"""Routes: discretisations of one problem that can be refined level by level, and what each says of its own errors."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from mfpde.equation.finite import NotFiniteError
from mfpde.equation.grid import moving
from mfpde.equation.problem import Problem
from mfpde.lagrangian.node_flow import NodeFlow
from mfpde.lagrangian.nodes import OutOfTime
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.memory import Memory
from mfpde.support.saves import nearest
from mfpde.support.session import RunWarning, quiet
from mfpde.verification.observables import Measured

__all__ = ["LEAST_LEVELS", "MeshRoute", "NodeRoute", "Route", "RouteError", "StationaryRoute", "another_mesh", "routes"]

MINIMISER_ARRAYS = 20
"""Arrays of all cells that the search for an end state works with, those of the energy apart."""


LEAST_LEVELS = 3
"""Two changes, and so the first ratio."""
GROWTH = 1.5
"""How many more nodes a level has along each axis."""
MORE = 1.3
"""How many more nodes along each axis differently placed ones have: two rules as dense may have the same errors."""
FIRST_NODES = {1: 12, 2: 8, 3: 6, 4: 5}
"""Nodes along each axis of the first level, by dimension, for each place that needs nodes."""
MOST_PLACES = {1: 3, 2: 2, 3: 1, 4: 1}
"""Places that the first level is made for, at most, by dimension."""
FIRST_CELLS = {1: 50, 2: 24, 3: 12, 4: 8}
"""Cells along each axis of the first level, at least."""
MOST_NODES = 4000
"""Nodes along an axis: where that is not enough, more are no help."""
SECOND, SECOND_TO_COMPILED = 0.1, 1.0
"""Work, in about seconds, that the first candidate may put into a level before the second one begins; and where the
first is compiled nodes, which are there long before a mesh if they get there at all."""
ROUGH_STEP = 1e-4
"""The tolerance in time of a mesh that confirms no more than three digits."""
ROUNDING = 2e-15
"""Relative error that a step leaves of round-off, at most: sums over cells, and their mass."""
DEFAULT_CELLS = {1: 150, 2: 72, 3: 30, 4: 16}
"""Cells along each axis where a problem suggests no mesh: the first level has a third of them."""


class RouteError(RuntimeError):
    """A level that cannot be had: the run ended before its time."""


class Route(ABC):
    """A discretisation that can be refined, level by level.

    Attributes
    ----------
    name : str
    fastest : float, optional
        The smallest ratio of successive changes that is believed; None where convergence may be spectral.
    step, least_step : float
        The tolerance in time, and the smallest that is tried.
    finer : float
        By how much it is made smaller to see the error in time; 1 where there is none.
    left : float
        What part of the change that a finer step made is still missing after it.
    first_cost : float
        Work after which the other candidate may begin, see `cost`: it may be stiff, and not come to an end.
    power : float
        Work grows like the number of cells, times this power of their number along an axis.
    cost : float
        The last run's work, in about seconds: from counts, so that it does not depend on the machine.
    blind : float
        Relative error that the last run's nodes let expect beyond what refinement shows.
    """

    name: str
    fastest: float | None = None
    step, least_step, finer, left = 1.0, 1.0, 1.0, 0.0
    power = 0.0
    first_cost = 0.0
    cost = 0.0
    blind = 0.0
    settles_once = False
    """Whether the error in time that the first level shows stands for that of all."""
    ancestral: float | None = None
    """From how little of the start half of the mass descends, at the time when that is least; None where unknown."""

    def __init__(self, problem: Problem, times: Array) -> None:
        self.problem, self.times = problem, times

    def prepare(self, deadline: float) -> None:  # noqa: B027 - most have nothing to prepare
        """Find out what the levels depend on, before the first of them.

        Raises
        ------
        OutOfTime
            At the deadline, on the clock of `working_time`.
        """

    def portable(self) -> Self:
        """The same for another run at the same time."""
        return copy.copy(self)

    @abstractmethod
    def cells(self, level: int) -> tuple[int, ...]:
        """Cells or nodes along each axis."""

    @abstractmethod
    def bytes(self, level: int) -> float:
        """Memory of a level, about."""

    @abstractmethod
    def run(self, level: int, step: float, deadline: float) -> Iterator[Measured]:
        """The measure at each time.

        Raises
        ------
        OutOfTime
            At the deadline, on the clock of `working_time`.
        RouteError
            If the run ends before its time.
        """

    def other(self, level: int) -> Route | None:
        """The same discretisation on differently placed nodes or cells, to check a level; None where there is none."""
        return None

    def work(self, level: int) -> float:
        """The work of a level, in units of its own."""
        return math.prod(self.cells(level)) * max(self.cells(level)) ** self.power

    def size(self, level: int) -> str:
        """Cells or nodes, in words."""
        return " x ".join(map(str, self.cells(level)))


class MeshRoute(Route):
    """A mesh with one scheme; cells by a half more each time in 1-D and 2-D, by less above."""

    power = 1.0
    # half of a step, at second order, leaves a quarter of its error: a third of what it changed
    step, least_step, finer, left = 1e-5, 1e-12, 1 / 8, 1 / 3

    def __init__(
        self, problem: Problem, times: Array, scheme: Any, order: int, shifted: bool = False,
        rough: bool = False,
    ) -> None:  # fmt: skip
        from mfpde.mesh.defaults import default_method

        super().__init__(problem, times)
        self.scheme, self.order, self.shifted = scheme, order, shifted
        if rough:
            self.step, self.settles_once = ROUGH_STEP, True
        self.first_step = self.step
        self.name = f"mesh, {type(scheme).__name__}" + (", other cells" if shifted else "")
        d = len(moving(problem.axes))
        self.ratio = (1.5, 1.5, 1.3, 1.2)[d - 1]
        self.fastest = self.ratio ** -(order + 1)
        shape = (DEFAULT_CELLS[d],) * d if problem.shape is None else problem.grid(None).free_shape
        # no cells of the one sequence have the faces or the centres of the other's
        self.start = tuple(max(FIRST_CELLS[d], round(n / 3)) * (1.13 if shifted else 1.0) for n in shape)
        # one method for all levels, of a fine one: where it changed on the way, so would the error in time; of the
        # first where a matrix of all cells by all cells has to be made to ask
        dense = problem.bound_energy.direct and d > 1
        self.method, _ = default_method(problem, problem.grid(self.cells(0 if dense else 4)), scheme)

    def cells(self, level: int) -> tuple[int, ...]:
        """Cells along each axis: at least a few, then by the ratio of the route more each time."""
        return tuple(round(n * self.ratio**level) for n in self.start)

    def bytes(self, level: int) -> float:
        """Memory of a level: what a run on its mesh takes and grows with it."""
        from mfpde.mesh.memory import run_memory
        from mfpde.mesh.options import RunOptions

        options = RunOptions(
            scheme=self.scheme, method=self.method, save=self.times.tolist(), threads=1, estimate=False
        )
        found = run_memory(self.problem, options, self.problem.grid(self.cells(level)))
        return found.total - found.always

    def other(self, level: int) -> Route:
        """The same scheme on cells of which none has the faces or the centres of these."""
        return MeshRoute(self.problem, self.times, self.scheme, self.order, True)

    def rough(self) -> MeshRoute:
        """The same cells with longer steps, for a check: their error is seen on the first level only.

        It is about the same on all cells, and far below the tolerance; on coarse cells it takes least to see it.
        """
        return MeshRoute(self.problem, self.times, self.scheme, self.order, self.shifted, True)

    def run(self, level: int, step: float, deadline: float) -> Iterator[Measured]:
        """Solve on a mesh, with steps of which `step` bounds the error; the densities at each time.

        Raises
        ------
        OutOfTime
            At the deadline.
        RouteError
            If the run ends before its time, or the mesh is too fine for a dense kernel.
        """
        from mfpde.mesh.conclusion import uninterrupted
        from mfpde.mesh.controllers import ErrorControl
        from mfpde.mesh.record import Result
        from mfpde.mesh.run import solve

        problem, grid = self.problem, self.problem.grid(self.cells(level))
        # steps that stability binds do not feel a tolerance: an eighth of it stands for half of any step
        controller = ErrorControl(tolerance=step, fraction=0.95 * (step / self.first_step) ** (1 / 3))
        seconds = deadline - working_time()
        if not seconds > 0.0:
            raise OutOfTime
        try:
            with quiet(RunWarning):
                found = uninterrupted(solve(
                    problem, grid.shape, float(self.times[-1]), scheme=self.scheme, method=self.method,
                    save=self.times.tolist(), controller=controller, progress=False, throw=False, estimate=False,
                    time_limit=seconds if math.isfinite(seconds) else None,
                ))  # fmt: skip
        except (ValueError, MemoryError) as error:
            if not level:
                raise
            # a dense kernel, for which this mesh is too fine, or one that does not fit into what memory there is
            raise RouteError(f"{self.name}, {self.size(level)} cells: {error}") from None
        if found.result is Result.TIME_LIMIT:
            raise OutOfTime
        if not found.times[-1] >= self.times[-1]:
            raise RouteError(
                f"{self.name}, {self.size(level)} cells, ended at t = {found.times[-1]:g}: {found.result.value}"
            )
        self.cost = found.stats["steps"] * (3e-4 + 5e-8 * grid.size)
        self.blind = ROUNDING * found.stats["steps"]
        for i in nearest(found.times, self.times):
            yield Measured(
                problem, tuple(grid.mesh()), found.density[i] * grid.cell_volume, float(found.energy[i]), grid,
                found.point_values,
            )  # fmt: skip


class NodeRoute(Route):
    """Quadrature nodes along characteristics, by a half more along each axis each time."""

    # the error of the steps is proportional to the tolerance, or nearly
    step, least_step, finer, left = 1e-6, 1e-13, 1e-2, 0.03

    def __init__(self, problem: Problem, times: Array, elsewhere: bool = False, known: NodeFlow | None = None) -> None:
        super().__init__(problem, times)
        self.flow = NodeFlow(problem, times, elsewhere, known)  # refuses what has no characteristics
        self.name = "characteristics" + (", other nodes" if elsewhere else "")
        # no level of the one has as many nodes as one of the other
        self.start, self.places = FIRST_NODES[len(problem.axes)] - elsewhere, 1
        self.first: float | None = None
        """Nodes along each axis of the first level, where these are not those of its places."""
        blocks = problem.mu_0.blocks(2)
        self.atoms = 0 if any(block.placed for block in blocks) else sum(len(block.logs) for block in blocks)
        if elsewhere:  # of fifth order, its steps are the larger error else
            self.step = 1e-7
        self.compiled = self.flow.compiled(self.step)
        """Whether the nodes are moved by a compiled program, as far as its first tolerance tells."""
        self.direct = problem.bound_energy.direct

    def portable(self) -> Self:
        """The same with a flow of its own, which knows what this one has found."""
        route = super().portable()
        route.flow = copy.copy(self.flow)
        return route

    def prepare(self, deadline: float) -> None:
        """Look for the places that the mass descends from: along each axis every one of them gets nodes of its own."""
        self.places = min(self.flow.look(deadline), MOST_PLACES[len(self.problem.axes)])

    def size(self, level: int) -> str:
        """Nodes in words, or the points of a start that is made of some."""
        return f"{self.atoms} point{'s' * (self.atoms > 1)} of the start" if self.atoms else super().size(level)

    def cells(self, level: int) -> tuple[int, ...]:
        """Nodes along each axis: those of one place, for every place."""
        first = self.start * self.places if self.first is None else self.first
        return (round(first * GROWTH**level),) * len(self.problem.axes)

    def bytes(self, level: int) -> float:
        """Memory of a level; infinite beyond `MOST_NODES` along an axis."""
        nodes = math.prod(self.cells(level))
        if max(self.cells(level)) > MOST_NODES:
            return math.inf
        return 8.0 * nodes * (40 + len(self.times)) * (len(self.problem.axes) + 1)

    def work(self, level: int) -> float:
        """The work of a level: its nodes, or their pairs where the energy is a sum over pairs."""
        return float(math.prod(self.cells(level)) ** (2 if self.direct else 1))

    def other(self, level: int) -> Route:
        """The same flow from other nodes, by a method of another order.

        Compiled, it begins so that the third level has some more nodes than the value: with two levels there is no bar,
        and fewer nodes are no check. Their number is even where the value's is odd, and the other way round: symmetric
        rules then have nodes in between each other in the middle. Its steps are short enough where all that finer ones
        would change, as the first level shows, is within the bars.
        """
        route = NodeRoute(self.problem, self.times, True, self.flow)
        route.places = self.places
        if self.compiled:
            n = self.cells(level)[0]
            last = math.ceil(MORE * n)
            last += 1 - (last - n) % 2
            route.first, route.settles_once = last / GROWTH ** (LEAST_LEVELS - 1), True
        return route

    def run(self, level: int, step: float, deadline: float) -> Iterator[Measured]:
        """Follow the nodes; the measure that they are at each time.

        Raises
        ------
        OutOfTime
            At the deadline.
        RouteError
            If the nodes cannot be followed to the end.
        """
        try:
            for at in self.flow.run(self.cells(level), step, deadline):
                yield Measured(self.problem, tuple(at.points.T), at.weights, at.energy, evaluate=at.density)
        except NotFiniteError:  # a function of the user's: no other route makes that good
            raise
        except (RuntimeError, ArithmeticError) as error:
            raise RouteError(f"{self.name}, {self.size(level)} nodes: {error}") from None
        self.cost, self.blind, self.ancestral = self.flow.work, self.flow.watched.error, self.flow.ancestral


class StationaryRoute(Route):
    """The end state: the minimiser of the free energy on the centres of a mesh, or on Gauss nodes."""

    def __init__(self, problem: Problem, gauss: bool, mesh: bool) -> None:
        super().__init__(problem, np.array([math.inf]))
        self.gauss, self.mesh = gauss, mesh
        self.name = "end state, Gauss nodes" if gauss else "end state, mesh"
        self.start = (10, 8, 8, 6)[len(problem.axes) - 1]
        self.blind = 1e-12  # round-off of two minimisations
        if mesh:
            # masses of regions come from cells, by interpolation of fourth order
            self.fastest = GROWTH**-5

    def cells(self, level: int) -> tuple[int, ...]:
        """Cells or nodes along each axis, by the growth of all routes more each time."""
        return (round(self.start * GROWTH**level),) * len(self.problem.axes)

    def bytes(self, level: int) -> float:
        """Memory of a level: some arrays of all cells, and what the energy takes there."""
        array, energy = 8.0 * math.prod(self.cells(level)), Memory(0.0)
        if self.mesh:
            energy = self.problem.bound_energy.memory(self.problem.grid(self.cells(level)))
        return MINIMISER_ARRAYS * array + sum(energy)

    def run(self, level: int, step: float, deadline: float) -> Iterator[Measured]:
        """Minimise the free energy; the measure of the minimiser, once.

        Raises
        ------
        OutOfTime
            At the deadline.
        """
        from mfpde.equation.equilibrium import stationary, stationary_on_nodes

        problem, left = self.problem, deadline - working_time()
        if left <= 0.0:
            raise OutOfTime
        self.cost = 1e-3 + 1e-5 * math.prod(self.cells(level))
        with quiet(RunWarning):
            if self.gauss:
                points, weights, energy, density = stationary_on_nodes(problem, self.cells(level), deadline=deadline)
            else:
                limit = left if math.isfinite(left) else None
                state = stationary(problem, self.cells(level), time_limit=limit, estimate=False)
        if working_time() > deadline:  # it may have stopped half way
            raise OutOfTime
        if not self.gauss:
            weights = state.mu * state.grid.cell_volume
            yield Measured(problem, tuple(state.grid.mesh()), weights, state.energy, state.grid, True)
            return
        if not self.mesh:
            yield Measured(problem, tuple(points.T), weights, energy, evaluate=density)
            return
        # regions need a density that can be asked anywhere: the Gibbs formula, with the potential of the nodes
        grid = problem.grid(tuple(4 * n for n in self.cells(level)))
        values = density(grid.points()).reshape(grid.shape) * grid.cell_volume
        yield Measured(problem, tuple(grid.mesh()), values, energy, grid, True)


def routes(problem: Problem, times: Array, mesh: bool) -> list[Route]:
    """Two independent routes, the one that is the better as a rule first; `mesh` for what nodes cannot give."""
    from mfpde.mesh.schemes import ScharfetterGummel, Weno5

    if math.isinf(times[-1]):
        return [StationaryRoute(problem, False, mesh), StationaryRoute(problem, True, mesh)]
    weno = MeshRoute(problem, times, Weno5(), 5 if problem.noiseless else 4)
    first: Route | None
    if not problem.noiseless:
        first = MeshRoute(problem, times, ScharfetterGummel(), 2)  # however stiff it is, implicit steps come to an end
    else:
        first = None if mesh else _nodes(problem, times)
    if first is None:
        return [weno, another_mesh(problem, times)]
    weno.first_cost = SECOND_TO_COMPILED if isinstance(first, NodeRoute) and first.compiled else SECOND
    return [first, weno]


def _nodes(problem: Problem, times: Array) -> NodeRoute | None:
    """Characteristics, where they do not refuse the problem."""
    try:
        return NodeRoute(problem, times)
    except ValueError:
        return None


def another_mesh(problem: Problem, times: Array) -> MeshRoute:
    """The route that confirms where nodes do not: a mesh with a scheme of another kind."""
    from mfpde.mesh.schemes import Muscl

    return MeshRoute(problem, times, Muscl(), 2)
