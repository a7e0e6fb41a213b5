"""Steps on small meshes by a compiled program: what it is told, and what it gives.

`program_of` says for which solvers there is one. `Solver.step` and the runs of `mfpde.mesh.run` both go through
`Program.advance`, so that steps by hand have the bits of a run. What is compiled is `mfpde.mesh.compiled.stepping`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import Constant, ExponentialDecay, InverseLog, PiecewiseLinear, Schedule
from mfpde.mesh.algebra import Survey
from mfpde.mesh.compiled import run_structures as s
from mfpde.mesh.compiled.structures import Heat
from mfpde.mesh.constants import LARGEST
from mfpde.mesh.controllers import Controller, CourantControl, ErrorControl, FixedStep
from mfpde.mesh.kept import MOST_CELLS, kept
from mfpde.mesh.methods.base import Method
from mfpde.mesh.methods.exponential import ExponentialSSPRK3
from mfpde.mesh.methods.implicit import ImplicitEuler, ImplicitStrang, Potential
from mfpde.mesh.methods.splitting import Lie, Splitting, Strang
from mfpde.mesh.packing import Packed, numbers_of, packed
from mfpde.mesh.record import Result, State
from mfpde.mesh.recorder import end_layers
from mfpde.mesh.schemes import Muscl, Upwind, Weno5
from mfpde.mesh.semidiscrete import Evaluation, Flow, Operator
from mfpde.mesh.transport import Transport
from mfpde.support.arrays import Array

__all__ = ["UNBOUNDED", "Advanced", "Program", "program_of"]

RESULTS = {
    s.MADE: None,
    s.TOO_SHORT: Result.DT_MIN,
    s.NOT_FINITE: Result.NOT_FINITE,
    s.TOO_LARGE: Result.STEP_TOO_LARGE,
    s.NO_MASS: Result.EXTINCT,
    s.ROSE: Result.ENERGY_ROSE,
    s.DRIFTED: Result.MASS_DRIFTED,
    s.AT_ENDS: Result.END_MASS,
    s.STOPPED: Result.STOPPED,
}
_addresses: dict[tuple[type, bool | None, bool, int, bool], s.Addresses] = {}
WORK_OF_A_CELL = 64
"""Numbers of an energy that take as long as what a scheme does with a cell."""
UNBOUNDED = s.Bounds(*[math.nan] * 7)
"""Steps that nothing but their time ends."""


def program_of(flow: Flow, method: Method, controller: Controller) -> Program | None:
    """The program of steps of a flow; None where there is none, and Python goes from pass to pass.

    There is one on up to 5000 cells, for one measure and an energy that is made of tables, without functions of the
    user's in the reaction, where the common schedule is constant, and birth-death rate and temperature have a
    formula: for `ExponentialSSPRK3` and splittings with `Weno5`, `Muscl` or `Upwind`, and for `ImplicitStrang` and
    `ImplicitEuler` where the temperature is above 0 at all times.
    """
    problem, transport = flow.problem, flow.transport
    known = (
        type(controller) in (ErrorControl, CourantControl, FixedStep)
        and type(transport) is Transport
        and flow.grid.size <= MOST_CELLS
        and isinstance(problem.schedule, Constant)
        and not (problem.terms or problem.rate or problem.reinjection)
        and problem.bound_energy.lyapunov
        and problem.species is None
    )
    if not known:
        return None
    rates = _rates(problem)
    if rates is None or not _is_compiled(flow, method, noisy=_noisy(problem.temperature)):
        return None
    from mfpde.mesh.compiled.algebra import CompiledAlgebra  # numba came with the transport

    if type(flow.algebra) is not CompiledAlgebra:
        return None
    energy = kept(problem, flow.grid, "packed", lambda: _packed(flow))
    if energy is None:
        return None
    assert isinstance(transport, Transport)
    return Program(flow, transport, method, controller, energy, *rates)


def _noisy(temperature: Schedule) -> bool:
    """Whether there is a temperature."""
    return not (isinstance(temperature, Constant) and temperature.value == 0.0)


def _rates(problem: Problem) -> tuple[Array, Array] | None:
    """The numbers of the birth-death rate and of the temperature, if that is 0 at all times or never next to it."""
    alpha, temperature = problem.alpha, problem.temperature
    first, second = numbers_of(alpha), numbers_of(temperature)
    if first is None or second is None:
        return None
    return (first, second) if not _noisy(temperature) or _least(temperature) > 0.0 else None


def _least(schedule: Schedule) -> float:
    """A value that a schedule is not below at any time; 0 where none is known."""
    match schedule:
        case Constant():
            return schedule.value
        case PiecewiseLinear():
            return min(schedule.values)
        case ExponentialDecay():
            return min(schedule.initial, schedule.final)  # a final 0 is no number to divide by in the end
        case InverseLog():
            return schedule.scale / math.log(LARGEST)
    return 0.0


def _is_compiled(flow: Flow, method: Method, *, noisy: bool) -> bool:
    """Whether the steps of a method with the flow's scheme are compiled."""
    if type(method) in (ExponentialSSPRK3, Strang, Lie, Splitting):
        return type(flow.scheme) in (Weno5, Muscl, Upwind)
    return type(method) in (ImplicitStrang, ImplicitEuler) and noisy


def _packed(flow: Flow) -> Packed | None:
    parts = flow.energy.parts
    return None if parts is None else packed(parts, flow.grid.size)


class Advanced(NamedTuple):
    """What a run of steps has come to.

    Attributes
    ----------
    rows : (taken, ROW) array
        A row for each step, see `mfpde.mesh.compiled.run_structures`.
    responses : (taken, r) array
        Of the states that steps lead to.
    result : Result or None
        What the last step came to; None where there is nothing to be said of it.
    failed : bool
        Whether a step could not be made.
    saved : list of (int, Evaluation)
        Of each save time that was passed how many steps had been made, and the state there.
    """

    rows: Array
    responses: Array
    result: Result | None
    failed: bool
    saved: list[tuple[int, Evaluation]]


class LastStep(NamedTuple):
    """What is known of a step besides its row: as in `mfpde.mesh.solver.StepInfo`."""

    dt: float
    leak: float
    redone: int
    first_rate: Array
    bound: float
    cell: int


class Program:
    """Compiled steps of one flow; they share its arrays, so that callers take turns (`Flow.turns`).

    Parameters
    ----------
    flow : Flow
    transport : Transport
        The flow's.
    method : Method
    controller : Controller
    energy : Packed
        The flow's energy.
    alpha, temperature : array
        The numbers of the birth-death rate and the temperature.
    """

    def __init__(
        self,
        flow: Flow,
        transport: Transport,
        method: Method,
        controller: Controller,
        energy: Packed,
        alpha: Array,
        temperature: Array,
    ) -> None:
        self._flow = flow
        cells, width = flow.grid.size, flow.energy.response_size
        problem, scheme, noisy = flow.problem, flow.scheme, _noisy(flow.problem.temperature)
        base = flow.log_base if noisy else None
        told = _told(method, flow, transport)
        self._fields = np.zeros(((s.FIELDS, s.IMPLICIT_FIELDS, s.SPLIT_FIELDS)[told.kind], cells))
        self._responses, self._numbers = np.zeros((2, width)), np.zeros(s.NUMBERS)
        self._held: Array | None = None
        self._compiled: ModuleType | None = None
        rule = {FixedStep: s.FIXED, CourantControl: s.COURANT, ErrorControl: s.ERROR}[type(controller)]
        sweeps = transport.sweeps
        self._structure, self._wide = sweeps.scheme, sweeps.wide
        self._steps = s.Steps(
            s.Addresses(),
            told,
            np.array([*self._structure, *[0] * (3 - len(self._structure)), scheme.diffusion_share], dtype=float),
            sweeps.ints,
            sweeps.floats,
            sweeps.metric,
            sweeps.band,
            sweeps.bands,
            sweeps.buffers,
            energy.codes,
            energy.data,
            np.zeros(energy.room),
            self._fields,
            self._responses,
            np.zeros(6 * -(-cells // 2048)),
            np.zeros(7),
            np.zeros(2),
            np.zeros(5),
            _end_cells(flow.grid),
            np.empty(0) if base is None else np.broadcast_to(base, flow.grid.shape).ravel(),
            flow.grid.cell_volume,
            scheme.positivity,
            scheme.limited,
            flow.balanced,
            noisy,
            noisy and flow.reaction.free_energy,
            alpha,
            temperature,
            problem.schedule(0.0),
            rule,
            *(
                float(getattr(controller, name, math.nan))
                for name in ("dt", "tolerance", "fraction", "reaction", "growth")
            ),
        )

    @property
    def work(self) -> float:
        """Numbers that a step goes through, about: those of the energy, and for each cell what the scheme takes."""
        return float(self._steps.data.size + WORK_OF_A_CELL * self._flow.grid.size)

    # ----- steps

    def advance(
        self,
        state: State,
        times: Sequence[float],
        beyond: float,
        most: int,
        bounds: s.Bounds = UNBOUNDED,
        room: Array | None = None,
    ) -> tuple[State, Advanced]:
        """Steps from a state through save times, each of which is where a step ends.

        Parameters
        ----------
        state : State
        times : sequence of float
            Later than the state's.
        beyond : float
            No step is made from here on.
        most : int
            Steps at most.
        bounds : run_structures.Bounds, optional
            What ends the run before; none by default.
        room : (k, *shape) array, optional
            For the densities at these times; without it nothing is kept of the states there.

        Returns
        -------
        state : State
            The new one; the old one if no step was made.
        advanced : Advanced
        """
        self.hold(state)
        rows, responses = np.empty((most, s.ROW)), np.empty((most, self._responses.shape[1]))
        # a number of another kind would have the program compiled once more, for ten seconds
        ends, saves = s.Bounds(*map(float, bounds)), self._saves(times, room)
        given = ends, saves, float(beyond), int(most), rows, responses
        taken, code, passed = self._module().advance(self._steps, self._numbers, *given)
        self._count()
        failed = code in (s.TOO_SHORT, s.NOT_FINITE, s.TOO_LARGE)
        if taken:
            state = self._state(s.DENSITY + self._current, s.TIME, state.n_steps + taken)
            self._held = state.mu
        counts = saves.counts[:passed].tolist()
        saved = [(count, self._saved(saves, k, responses[count - 1])) for k, count in enumerate(counts)]
        return state, Advanced(rows[:taken], responses[:taken], RESULTS[code], failed, saved)

    def _saves(self, times: Sequence[float], room: Array | None) -> s.Saves:
        """Save times, and room for what is kept of the states there."""
        cells, kept = self._flow.grid.size, 0 if room is None else len(times)
        densities = np.empty((0, cells)) if room is None else room.reshape(kept, cells)
        potentials, numbers = np.empty((kept, cells)), np.empty((kept, s.ENERGY + 1 - s.TOTAL))
        return s.Saves(np.array(times, dtype=float), densities, potentials, numbers, np.empty(kept, dtype=np.int64))

    def _saved(self, saves: s.Saves, k: int, response: Array) -> Evaluation:
        """The state that was kept at a save time."""
        shape = self._flow.grid.shape
        return self._evaluation(
            saves.densities[k].reshape(shape), saves.potentials[k].reshape(shape), response, saves.numbers[k]
        )

    def before(self, state: State) -> State:
        """The state that the last step has led from, to `state`."""
        return self._state(s.DENSITY + 1 - self._current, s.BEFORE_TIME, state.n_steps - 1)

    def _state(self, row: int, first: int, n_steps: int) -> State:
        """The state of a density, with the time, the length and the memory that stand from `first` on."""
        t, length, memory = self._numbers[first : first + 3].tolist()
        mu = self._fields[row].reshape(self._flow.grid.shape).copy()
        return State(t, mu, n_steps, None if math.isnan(length) else length, () if math.isnan(memory) else (memory,))

    def last(self) -> LastStep:
        """What the last attempt at a step has left behind, besides a new state."""
        bound, cell, leak, redone, dt = self._numbers[s.BOUND : s.STEP_DT + 1].tolist()
        rate = self._fields[s.RATE].reshape(self._flow.grid.shape).copy()
        return LastStep(dt, leak, int(redone), rate, bound, int(cell))

    @property
    def leak(self) -> float:
        """What the fluxes of the steps of a run have created; it may be set."""
        return float(self._numbers[s.LEAK])

    @leak.setter
    def leak(self, value: float) -> None:
        self._numbers[s.LEAK] = value

    @property
    def scale(self) -> float:
        """The largest absolute value of the energy; it may be set."""
        return float(self._numbers[s.SCALE])

    @scale.setter
    def scale(self, value: float) -> None:
        self._numbers[s.SCALE] = value

    # ----- where it is

    @property
    def _current(self) -> int:
        return int(self._numbers[s.CURRENT])

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: addresses are those of a process, which finds its own when it needs them."""
        return vars(self) | {"_compiled": None, "_steps": self._steps._replace(at=s.Addresses())}

    def hold(self, state: State) -> None:
        """Go to a state, unless it is there: the array that it had, and nobody has written to it."""
        numbers = self._numbers
        if state.mu is not self._held or state.mu.tobytes() != self._fields[s.DENSITY + self._current].tobytes():
            if state.mu.shape != self._flow.grid.shape:
                raise ValueError(f"the density has shape {state.mu.shape}, the grid {self._flow.grid.shape}")
            self._fields[s.DENSITY + self._current] = state.mu.reshape(-1)
            self._held, numbers[s.KNOWN], numbers[s.AT_TEMPERATURE] = state.mu, 0.0, math.nan
        numbers[s.TIME] = state.t
        numbers[s.LENGTH] = math.nan if state.length is None else state.length
        numbers[s.MEMORY] = state.memory[0] if state.memory else math.nan

    def evaluation(self) -> Evaluation:
        """What is known of the present density."""
        numbers = self._numbers
        if numbers[s.KNOWN] == 0.0:
            from mfpde.mesh.compiled.states import evaluate

            evaluate(*self._to_evaluate(self._current), numbers[s.TOTAL : s.ENERGY + 1])
            numbers[s.KNOWN] = 1.0
            self._flow.evaluations += 1
        assert self._held is not None
        V = self._fields[s.POTENTIAL + self._current].reshape(self._flow.grid.shape).copy()
        response = self._responses[self._current].copy()
        return self._evaluation(self._held, V, response, numbers[s.TOTAL : s.ENERGY + 1])

    def _evaluation(self, mu: Array, V: Array, response: Array, numbers: Array) -> Evaluation:
        total, moment, low, high, held, least, energy = numbers.tolist()
        mass, mean = total * self._flow.grid.cell_volume, moment / total if total > 0.0 else 0.0
        return Evaluation(mu, V, energy, response, mass, mean, Survey(total, moment, low, high, held, least))

    def _to_evaluate(self, k: int) -> tuple[Any, ...]:
        """The arguments of `states.evaluate` for one of the two densities, but the last."""
        steps, fields = self._steps, self._fields
        given = steps.codes, steps.data, steps.room, steps.volume
        return *given, fields[s.DENSITY + k], fields[s.POTENTIAL + k], self._responses[k], steps.sums

    def _module(self) -> ModuleType:
        """The compiled code, with the addresses of what it calls found when it is used first."""
        if self._compiled is None:
            from mfpde.mesh.compiled import stepping

            # of all that is handed over, these alone differ in their types
            steps = self._steps
            kind = type(self._structure), self._wide, steps.noisy, steps.method.kind, steps.rule == s.ERROR
            if kind not in _addresses:
                _addresses[kind] = self._addresses()
            self._steps, self._compiled = steps._replace(at=_addresses[kind]), stepping
        return self._compiled

    def _addresses(self) -> s.Addresses:
        """Where the functions are that `stepping.advance` calls."""
        from mfpde.mesh.compiled import clocks, kernels, moving, states
        from mfpde.support.calls import address

        t, (mu, V, speeds) = self._steps, self._fields[:3]
        mesh = t.ints, t.floats, t.metric, t.band
        heat = Heat(1.0, 1.0, 1.0) if t.noisy else None
        typed = self._structure, heat, self._wide, *mesh
        outflow = address(kernels.outflow, *typed, V, speeds, t.buffers, 0, t.bands)
        sweep = address(kernels.sweep, *typed, mu, V, speeds, 0.0, False, mu, t.buffers, 0, t.bands)
        kinds = (
            moving.SCHEMES[type(self._structure)],
            moving.HOT if t.noisy else moving.COLD,
            moving.WIDE if self._wide else moving.NARROW,
        )
        given, instead = (t.numbers, 1.0, *mesh), len(kinds)
        evaluate = address(states.evaluate, *self._to_evaluate(0), t.fresh)
        rates = address(clocks.rates, t.alpha, t.temperature, 0.0, t.fresh_rates)
        flow = address(moving.outflow, *kinds, outflow, *given, V, speeds, t.buffers, t.bands, instead=instead)
        move = address(moving.move, *kinds, sweep, *given, mu, V, speeds, 0.0, mu, t.buffers, t.bands, instead=instead)
        solve = evaluate
        if t.method.kind == s.IMPLICIT:
            solve = address(kernels.solve, t.method.stages, 0.0, 0.0, 0.0, *mesh[:3], 0, mu, V, 0, 0, mu)
        first = evaluate, rates, flow, move, outflow, sweep
        told = t._replace(at=s.Addresses(*first, *[evaluate] * 6))  # addresses are numbers, whatever begins there
        return s.Addresses(*first, *_of_entropy(told), _longest(told), solve, *_attempts(told))

    def _count(self) -> None:
        self._flow.evaluations += int(self._numbers[s.EVALUATIONS])
        self._numbers[s.EVALUATIONS] = 0.0


def _told(method: Method, flow: Flow, transport: Transport) -> s.Method:
    """The method as compiled code reads it."""
    room, parts = np.zeros((2 * s.REMEMBERED, s.REMEMBERED)), np.zeros((1, 2))
    kind, share, stages, convergence, corrector, stabilised = s.UNSPLIT, 0.0, 0, 0.0, False, False
    if isinstance(method, (ImplicitStrang, ImplicitEuler)):
        kind, convergence = s.IMPLICIT, float(method.convergence)
        share = {Potential.START: 0.0, Potential.AVERAGE: 0.5, Potential.END: 1.0}[method.potential]
        stages = 2 if isinstance(method, ImplicitStrang) else 1  # the order of the whole may be lower
    elif isinstance(method, Splitting):
        kind, corrector, stabilised = s.SPLIT, bool(method.corrector), bool(method.stabilised)
        which = {Operator.REACTION: 0.0, Operator.TRANSPORT: 1.0}
        parts = np.array([(which[part], fraction) for part, fraction in method.steps if part in which])
    of_all = kind, method.ssp, method.order, flow.scheme.positive
    of_splittings = parts, corrector, stabilised, float(transport.diffusion_rate)
    return s.Method(*of_all, *of_splittings, stages, share, convergence, transport.tiles, room)


def _of_entropy(steps: s.Steps) -> tuple[Any, Any]:
    """Where the functions are that a temperature asks for; anywhere without one."""
    from mfpde.mesh.compiled.entropy import free_energy, lost_by_reaction
    from mfpde.support.calls import address

    if not steps.noisy:
        return steps.at.evaluate, steps.at.evaluate
    mu, V, slope = steps.fields[:3]
    there = address(lost_by_reaction, steps, mu, V, slope, 1.0, steps.outcome)
    return address(free_energy, steps, np.zeros(s.NUMBERS), 1.0), there


def _longest(steps: s.Steps) -> Any:
    """Where the function is that bounds stabilised steps; anywhere where there are none."""
    from mfpde.mesh.compiled.splitting import longest
    from mfpde.support.calls import address

    if not (steps.noisy and steps.method.stabilised):
        return steps.at.evaluate
    return address(longest, steps, *steps.fields[:2], 1.0, steps.outcome)


def _attempts(steps: s.Steps) -> tuple[Any, Any]:
    """Where the functions are that attempt a step, see `Addresses`."""
    from mfpde.mesh.compiled.doubling import doubled
    from mfpde.mesh.compiled.exponential import unsplit
    from mfpde.mesh.compiled.implicit import implicit
    from mfpde.mesh.compiled.splitting import split
    from mfpde.support.calls import address

    mu, V, u = *steps.fields[:2], steps.responses[0]
    given = steps, mu, V, s.Known(*[0.0] * 9), s.Span(*[0.0] * 5), 0.0, mu, V, u, steps.outcome
    single = address((unsplit, implicit, split)[steps.method.kind], *given)
    embedded = steps.method.kind == s.UNSPLIT
    return single, single if embedded or steps.rule != s.ERROR else address(doubled, *given)


def _end_cells(grid: Grid) -> NDArray[np.int64]:
    """The flat indices of the cells next to truncation ends, those in corners once for each end."""
    cells = np.arange(grid.size).reshape(grid.shape)
    return np.concatenate([np.empty(0, dtype=np.int64), *(cells[layer].ravel() for layer in end_layers(grid))])
