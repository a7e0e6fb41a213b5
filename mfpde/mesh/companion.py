"""How accurate a run is: a companion with half the cells and longer steps goes along with it.

The companion is a run of its own, from save time to save time, on half the cells along each axis, with the same scheme
and method and a looser clock. At a save time the run's numbers (`functionals`) are held against its. What they differ
by, divided by 3 where the error of the run can be expected to be of second order or better, is the estimated error;
what the start has lost on the mesh is added. ``docs/accuracy.md`` says how good that is.

Its steps depend on the save times alone, not on where the run is: whatever interrupts a run, and wherever it goes on,
the estimates have the same bits.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np

from mfpde.equation.energy.capabilities import has_points
from mfpde.equation.grid import NO_HALF, Grid, half
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.problem import Problem
from mfpde.equation.smooth import divisors, is_smooth
from mfpde.mesh.compiled.run_structures import R_TIME
from mfpde.mesh.controllers import Controller, ErrorControl, FixedStep
from mfpde.mesh.kept import kept
from mfpde.mesh.program import Advanced, Program
from mfpde.mesh.record import Beside, Errors, Result, State
from mfpde.mesh.schemes import ScharfetterGummel
from mfpde.mesh.semidiscrete import Evaluation, FreeEnergy
from mfpde.mesh.solver import Solver
from mfpde.support.arrays import Array
from mfpde.support.words import one_line

__all__ = ["LOOSER", "MOST_SAVES", "NODES", "Companion", "coarsened", "functionals", "looser", "start_error"]

T = TypeVar("T")
LOOSER = 8.0
"""By what the tolerance of a step is multiplied: steps of third order then are twice as long."""
FADES = 0.1
"""By what an estimate may fall from one save time to the next: a difference that passes through 0 is no accuracy."""
MOST_STEPS, FREE_STEPS = 4, 50
"""How many times the steps of the run its companion may take, and how many besides."""
MOST_SAVES = 64
"""Save times that a compiled run passes at most before Python looks at the states there: these are kept till then."""
NODES = {1: 40, 2: 24, 3: 12, 4: 8}
"""Quadrature nodes along each axis, by dimension, that a start is looked at with."""
SURE = 0.1
"""Two rules of nodes may differ by this share of what they say that the start has lost on the mesh."""
ROUNDED = 1e-14
"""Or by this share of the energy."""
NEGLIGIBLE = 1e-9
"""What a start may have lost of its energy, as a share, and nobody asks a second rule whether that is so."""


def looser(controller: Controller) -> Controller:
    """A controller whose steps are about twice as long, on cells twice as large."""
    if isinstance(controller, ErrorControl):
        return dataclasses.replace(controller, tolerance=LOOSER * controller.tolerance)
    if isinstance(controller, FixedStep):
        return dataclasses.replace(controller, dt=2.0 * controller.dt)
    return controller  # steps that follow the cells are longer by themselves


class _Moments:
    """Where the first two moments of densities on a mesh are taken: centres and their squares, by axis."""

    def __init__(self, grid: Grid) -> None:
        d = grid.dimension
        self.grid, self._others = grid, [tuple(j for j in range(d) if j != i) for i in range(d)]
        self._powers = [(x, x**2) for x in map(grid.centres, range(d))]

    def functionals(self, at: Evaluation, free: FreeEnergy | None) -> Array:
        """See `functionals`."""
        r, d = at.response.size, self.grid.dimension
        found = np.empty(1 + r + 2 * d)
        found[0], found[1 : r + 1] = at.energy if free is None else free.energy, at.response
        for i, (others, (x, square)) in enumerate(zip(self._others, self._powers, strict=True)):
            marginal = (at.mu.sum(axis=others) if others else at.mu) * self.grid.cell_volume
            found[r + 1 + i], found[r + d + 1 + i] = (marginal @ x) / at.mass, marginal @ square
        return found


def functionals(at: Evaluation, free: FreeEnergy | None, grid: Grid) -> Array:
    """The numbers of a density that have estimated errors, in the order of `Errors`: ``1 + r + 2 d`` of them."""
    return _Moments(grid).functionals(at, free)


def start_error(
    problem: Problem,
    measure: RestrictedMeasure,
    found: Array,
    temperature: float,
    seen: float = 0.0,
    grid: Grid | None = None,
) -> Array | None:
    """What a start has lost on a mesh: its functionals there against those of quadrature nodes.

    Parameters
    ----------
    problem : Problem
    measure : RestrictedMeasure
        The start.
    found : array
        Its functionals on the mesh.
    temperature : float
        ``tau`` at the start.
    seen : float, optional
        An error of the energy up to which it is of no consequence whether the nodes can be believed.
    grid : Grid, optional
        The mesh, if runs of the problem on it are to share what nodes of its own start say.

    Returns
    -------
    array or None
        Absolute differences; None where no nodes tell: the energy has no values at points, a density has kinks between
        the nodes, or atoms have no entropy.
    """

    def shared(what: Hashable, make: Callable[[], T]) -> T:
        return make() if grid is None or measure is not problem.mu_0 else kept(problem, grid, what, make)

    def at_nodes(other: bool) -> Array:
        return shared(("nodes", temperature, other), lambda: _at_nodes(problem, measure, temperature, other))

    if not shared("points", lambda: has_points(problem.bound_energy)):
        return None
    with np.errstate(all="ignore"):
        try:
            one = at_nodes(other=False)
            lost = np.abs(found - one)
            if lost[0] > max(seen, NEGLIGIBLE * abs(float(found[0]))):
                unsure = np.abs(at_nodes(other=True) - one)
                if not unsure[0] <= max(SURE * lost[0], ROUNDED * abs(float(found[0]))):
                    return None
        except Exception:  # whatever an energy does at points that no mesh has
            return None
    return lost if np.isfinite(lost).all() else None


def _at_nodes(problem: Problem, measure: RestrictedMeasure, temperature: float, other: bool) -> Array:
    bound = problem.bound_energy
    blocks = measure.blocks(NODES[measure.dimension], other=other)
    points = np.concatenate([block.points for block in blocks])
    weights = np.exp(np.concatenate([block.logs for block in blocks]))
    weights /= weights.sum()
    response = bound.response(points, weights)
    energy = bound.energy(points, weights, response)
    if temperature > 0.0:
        logs = measure.log_density(points)
        if (base := problem.log_base(*points.T)) is not None:
            logs = logs - base
        energy += temperature * float(weights @ logs)
    return np.concatenate([[energy], response[: bound.response_size], weights @ points, weights @ points**2])


def coarsened(mu: Array, fine: Grid, coarse: Grid, point_values: bool) -> Array:
    """A density on a mesh with half the cells, of the same mass.

    Cell averages are those of the cells together. Of values at the centres those between two of them are interpolated,
    to sixth order where that is neither negative nor far from the average.
    """
    mass = float(mu.sum()) * fine.cell_volume
    least = min(float(mu.min()), 0.0)  # of a scheme that does not keep the sign, where no measure is negative
    above = mu - least
    averages = (
        float(above.sum()) * fine.cell_volume * GridMeasure(fine, above).restrict(fine.axes).cells(coarse) + least
    )
    if not point_values or any(n != 2 * m for n, m in zip(fine.shape, coarse.shape, strict=True)):
        return averages
    values = mu
    for i, axis in enumerate(fine.axes):
        wide = [(3, 3) if j == i else (0, 0) for j in range(fine.dimension)]
        padded = np.moveaxis(np.pad(values, wide, mode="wrap" if axis.periodic else "symmetric"), i, 0)
        pairs = [padded[k : k + fine.shape[i] + 1 - k % 2 : 2] for k in range(1, 7)]
        count = coarse.shape[i]
        p = [pair[:count] for pair in pairs]
        middle = (150.0 * (p[2] + p[3]) - 25.0 * (p[1] + p[4]) + 3.0 * (p[0] + p[5])) / 256.0
        values = np.moveaxis(middle, 0, i)
    near = (values > 0.5 * averages) & (values < 2.0 * averages)
    values = np.where(near, values, averages)
    return np.ascontiguousarray(values * (mass / (float(values.sum()) * coarse.cell_volume)))


class Companion:
    """The companion of a run.

    Parameters
    ----------
    solver : Solver
        The run's.
    targets : sequence of float
        Its save times after the first.
    wanted : bool, optional
        Whether there is to be one; if not, all estimates are NaN.

    Attributes
    ----------
    reason : str
        Why there are no estimates, or none any more; empty where there are.
    """

    def __init__(self, solver: Solver, targets: Sequence[float], *, wanted: bool = True) -> None:
        self._targets = list(targets)
        self._fine = solver
        self._width = Errors.width(solver.grid.dimension, solver.flow.energy.response_size)
        self._rows: list[Array] = []
        self._unseen, self._unknown = np.zeros(self._width - 1), np.full(self._width, np.nan)
        self._measure: RestrictedMeasure | None = None  # what the run starts from, where it is no array
        self._saved: dict[float, Evaluation] = {}  # its states at save times that the run has not reported yet
        self.reason = "" if wanted else "estimate = False"
        self._cells: tuple[int, ...] = ()
        self.solver: Solver | None = None
        self._second_order = _second_order(solver)
        grid = None if self.reason else half(solver.grid)
        if grid is None:
            self.reason = self.reason or NO_HALF
            return
        # filters of warnings are the whole process's: with several threads they would not be what they were
        with np.errstate(all="ignore"):
            try:
                self.solver = solver.coarser or Solver(
                    solver.problem,
                    grid.shape,
                    scheme=solver.scheme,
                    method=solver.method,
                    controller=looser(solver.controller),
                    algebra=solver.flow.algebra,
                )
                self._moments, self._its, self._divisors = kept(
                    solver.problem,
                    solver.grid,
                    "companion",
                    lambda: (_Moments(solver.grid), _Moments(grid), divisors(solver.grid, grid)),
                )
                self._cells = grid.shape
            except Exception as error:  # whatever an energy does on a mesh that it is not made for
                self._give_up(error)

    def _give_up(self, why: object) -> None:
        self.reason = self.reason or f"the run on half the cells ended: {one_line(why)}"

    # ----- where it starts

    def begin(self, state: State, initial: Measure | object | None) -> None:
        """Start where a run does: from a measure, or from the state's own values."""
        if self.solver is None:
            return
        solver, fine = self.solver, self._fine
        if initial is None or isinstance(initial, Measure):
            self._measure = fine.problem.mu_0 if initial is None else initial.restrict(fine.grid.axes)
        try:
            if initial is None or isinstance(initial, Measure):
                self._state = solver.init(initial)
            else:
                mu = coarsened(state.mu, fine.grid, solver.grid, fine.scheme.point_values)
                self._state = State(state.t, mu)
            self._behind = self._state
            at = solver.evaluate(self._state)
            if not np.isfinite(at.V).all():
                self._give_up("its potential is not finite")
        except Exception as error:  # whatever an energy does on a mesh that it is not made for
            self._give_up(error)

    def go_on(self, state: State | None, errors: Errors | None, frames: int) -> None:
        """Go on with what a run has kept: a state of its companion, and the first estimates; None where it has none."""
        if errors is None:
            why = "the run was begun by an early version"
            errors = Errors.missing(frames, self._fine.grid.dimension, self._fine.flow.energy.response_size, why)
        self._rows = list(errors.table()[:frames])
        self._unseen = errors.unseen
        if errors.reason or state is None:
            self.reason = self.reason or errors.reason or "the state of the companion was lost"
            self.solver, self._cells = None, errors.cells  # those that the first estimates come from
            return
        self._state = self._behind = state

    # ----- the run

    def advance(self, t: float, n_steps: int) -> None:
        """Step to the first state that is not before `t`, unless that takes many times the steps of the run so far."""
        while not self.reason and self._state.t < t:
            if self._state.n_steps > MOST_STEPS * n_steps + FREE_STEPS:
                self._give_up(f"at t = {self._state.t:g} it takes more than {MOST_STEPS} times the steps of the run")
                break
            self._behind = self._state
            self._state = self._stepped(self._state, self._targets[bisect_right(self._targets, self._state.t)])

    def follow(self, times: Array, n_steps: int) -> None:
        """The same after several steps of the run, which led to these times, the last of them its step `n_steps`."""
        if self.reason:
            return
        t, count = float(times[-1]), n_steps - len(times) + 1
        if self.solver is None or self.solver.program is None:
            for k, time in enumerate(times.tolist()):
                self.advance(time, count + k)
                self._save(time)
            return
        while not self.reason and self._state.t < t:
            self._stretch(self.solver.program, times, count)

    def _save(self, t: float) -> None:
        """Keep its state at a time of the run that is a save time, before it goes on from there."""
        if self.solver is not None and not self.reason and t == self._targets[bisect_left(self._targets, t)]:
            self._saved[t] = self.solver.evaluate(self._state)  # it hits save times, too

    def _stretch(self, program: Program, times: Array, count: int) -> None:
        """Steps up to the last of the times, if they are not too many for where the run was then."""
        assert self.solver is not None
        state, t, first = self._state, float(times[-1]), MOST_STEPS * count + FREE_STEPS
        next_one = bisect_right(self._targets, state.t)
        ahead = self._targets[next_one : min(bisect_left(self._targets, t), next_one + MOST_SAVES) + 1]
        room = np.empty((len(ahead), *self.solver.grid.shape))
        with self.solver.flow.turns:
            most = max(1, int(first + MOST_STEPS * (len(times) - 1)) + 1 - state.n_steps)
            new, advanced = program.advance(state, ahead, t, most, room=room)
            if len(advanced.rows):
                self._state, self._behind = new, program.before(new)
        made, trouble = self._judged(state, advanced, times, first)
        self._saved |= {time: at for time, (count, at) in zip(ahead, advanced.saved, strict=False) if count <= made}
        if trouble:
            self._give_up(trouble)

    @staticmethod
    def _judged(state: State, advanced: Advanced, times: Array, first: int) -> tuple[int, str]:
        """How many of the steps from a state count, and what is wrong with the next one, if anything."""
        made, extinct = len(advanced.rows), advanced.result is Result.EXTINCT
        if not (advanced.failed or extinct or state.n_steps + made >= first):
            return made, ""  # of so few steps none can be one too many
        passed = np.concatenate([[state.t], advanced.rows[:, R_TIME]])
        # a step from here was one too many
        here = passed[:-1] if made else passed
        allowed = first + MOST_STEPS * np.searchsorted(times, here, side="right")
        late = state.n_steps + np.arange(len(here)) > allowed
        if late.any():
            k = int(np.argmax(late))
            return k, f"at t = {here[k]:g} it takes more than {MOST_STEPS} times the steps of the run"
        if advanced.failed:
            assert advanced.result is not None
            return made, f"at t = {passed[-1]:g}, {advanced.result.value}"
        return made, f"at t = {passed[-2]:g} it has no mass left" if extinct else ""

    def _stepped(self, state: State, until: float) -> State:
        assert self.solver is not None
        try:
            new, info = self.solver.step(state, until)
        except Exception as error:  # whatever a function of the user's does with another density
            self._give_up(error)
            return state
        if info.result is not None:
            self._give_up(f"at t = {state.t:g}, {info.result.value}")
        elif not self.solver.evaluate(new).mass > 0.0:
            self._give_up(f"at t = {state.t:g} it has no mass left")
        return new

    def kept(self, t: float) -> State | None:
        """The last state at `t` or before, from which it can go on."""
        if self.solver is None or self.reason:
            return None
        return self._state if self._state.t <= t else self._behind

    def estimate(self, t: float, at: Evaluation, free: FreeEnergy | None, steepness: float = 0.0) -> None:
        """Estimate the errors of the state of the run that is saved next.

        Parameters
        ----------
        t : float
            Its time.
        at, free : Evaluation, FreeEnergy or None
            The state.
        steepness : float, optional
            ``|Delta log mu|`` from cell to cell of the tail that the mass descends from. Above 1 both meshes have more
            mass there than there is: estimates are wider by as much.
        """
        self._rows.append(self._unknown if self.solver is None else self._row(t, at, free, steepness))

    def _row(self, t: float, at: Evaluation, free: FreeEnergy | None, steepness: float) -> Array:
        mine, tau = self._at(t), self._fine.problem.temperature(t)
        if not at.mass > 0.0:
            self.reason, mine = self.reason or f"at t = {t:g} the run has no mass left", None
        if mine is None or self.solver is None:
            return self._unknown
        its = self._its.functionals(mine, self.solver.free_energy(mine, tau))
        found = self._moments.functionals(at, free)
        # what a jump has cost is not made good by a density that is smooth later
        first, second = self._divisors
        smooth = self._second_order and all(row[0] > first for row in self._rows[-1:])
        smooth = smooth and steepness <= 1.0 and is_smooth(at.mu, self._fine.grid)
        divisor = second if smooth else first / max(steepness, 1.0)
        difference = np.abs(found - its) / divisor
        if not self._rows:
            lost = None
            if self._measure is not None:
                seen = float(difference[0])
                lost = start_error(self._fine.problem, self._measure, found, tau, seen, self._fine.grid)
            if lost is not None:
                self._unseen = np.maximum(lost - difference, 0.0)
                difference = lost
            elif self._measure is None:  # values are what they are
                difference = 0.0 * difference
            return np.concatenate([[divisor], difference])
        before = self._rows[-1][1:] - self._unseen if len(self._rows) > 1 else 0.0
        return np.concatenate([[divisor], np.maximum(difference, FADES * before) + self._unseen])

    def _at(self, t: float) -> Evaluation | None:
        """Its state at a time; None where it has none."""
        if (saved := self._saved.pop(t, None)) is not None or self.solver is None:
            return saved
        state = self.kept(t)
        while state is not None and state.t < t and not self.reason:
            state = self._stepped(state, t)  # aside: where a run is cut short is no save time of the companion
        return None if self.reason or state is None else self.solver.evaluate(state)

    def beside(self, t: float) -> Beside:
        """What the file of the run keeps of it at a time `t` of the run."""
        return Beside(self._rows[-1], self.kept(t), self.reason)

    def errors(self) -> Errors:
        """The estimates so far."""
        r = self._fine.flow.energy.response_size
        table = np.array(self._rows).reshape(len(self._rows), self._width)
        return Errors.of(table, self._unseen, r, self._cells, self.reason)


def _second_order(solver: Solver) -> bool:
    """Whether scheme, method and kernel give errors of second order at least, where the density is smooth.

    A limiter makes a scheme of second order one of first order here and there.
    """
    scheme = solver.scheme
    space = scheme.order > 2 or isinstance(scheme, ScharfetterGummel)
    return space and solver.method.order >= 2 and not solver.problem.bound_energy.discontinuous_gradient
