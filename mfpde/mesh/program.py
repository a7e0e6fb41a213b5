"""Steps on small meshes by a compiled program: what it is told, and what it gives.

`program_of` says for which solvers there is one. `Solver.step` and the runs of `mfpde.mesh.run` both go through
`Program.advance`, so that steps by hand have the bits of a run. What is compiled is `mfpde.mesh.compiled.exponential`.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Grid
from mfpde.equation.schedules import Constant
from mfpde.mesh.algebra import Survey
from mfpde.mesh.compiled import structures as s
from mfpde.mesh.controllers import Controller, CourantControl, ErrorControl, FixedStep
from mfpde.mesh.kept import MOST_CELLS, kept
from mfpde.mesh.methods.base import Method
from mfpde.mesh.methods.exponential import ExponentialSSPRK3
from mfpde.mesh.packing import Packed, packed
from mfpde.mesh.record import Result, State
from mfpde.mesh.recorder import end_layers
from mfpde.mesh.schemes import Muscl, Upwind, Weno5
from mfpde.mesh.semidiscrete import Evaluation, Flow
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
_addresses: dict[tuple[type, bool | None], tuple[Any, Any, Any]] = {}
UNBOUNDED = s.Bounds(*[math.nan] * 7)
"""Steps that nothing but their time ends."""


def program_of(flow: Flow, method: Method, controller: Controller) -> Program | None:
    """The program of steps of a flow; None where there is none, and Python goes from pass to pass.

    There is one for `ExponentialSSPRK3` with `Weno5`, `Muscl` or `Upwind` on up to 5000 cells, at temperature 0, with
    rates that are constant, without functions of the user's in the reaction, of an energy that is made of tables.
    """
    problem, transport = flow.problem, flow.transport
    constant = all(isinstance(x, Constant) for x in (problem.schedule, problem.alpha, problem.temperature))
    known = (
        type(method) is ExponentialSSPRK3
        and type(controller) in (ErrorControl, CourantControl, FixedStep)
        and type(flow.scheme) in (Weno5, Muscl, Upwind)
        and type(transport) is Transport
        and flow.grid.size <= MOST_CELLS
    )
    plain = constant and problem.temperature(0.0) == 0.0 and not (problem.terms or problem.rate or problem.reinjection)
    if not (known and plain and problem.bound_energy.lyapunov and problem.species is None):
        return None
    from mfpde.mesh.compiled.algebra import CompiledAlgebra  # numba came with the transport

    if type(flow.algebra) is not CompiledAlgebra:
        return None
    energy = kept(problem, flow.grid, "packed", lambda: _packed(flow))
    if energy is None:
        return None
    assert isinstance(transport, Transport)
    return Program(flow, transport, method, controller, energy)


def _packed(flow: Flow) -> Packed | None:
    parts = flow.energy.parts
    return None if parts is None else packed(parts, flow.grid.size)


class Advanced(NamedTuple):
    """What a run of steps has come to.

    Attributes
    ----------
    rows : (taken, ROW) array
        A row for each step, see `mfpde.mesh.compiled.structures`.
    responses : (taken, r) array
        Of the states that steps lead to.
    result : Result or None
        What the last step came to; None where there is nothing to be said of it.
    failed : bool
        Whether a step could not be made.
    """

    rows: Array
    responses: Array
    result: Result | None
    failed: bool


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
    """

    def __init__(
        self, flow: Flow, transport: Transport, method: Method, controller: Controller, energy: Packed
    ) -> None:
        self._flow = flow
        cells, width = flow.grid.size, flow.energy.response_size
        self._fields, self._responses = np.zeros((s.FIELDS, cells)), np.zeros((2, width))
        self._numbers = np.zeros(s.NUMBERS)
        self._held: Array | None = None
        self._compiled: ModuleType | None = None
        problem, scheme, sweeps = flow.problem, flow.scheme, transport.sweeps
        rule = {FixedStep: s.FIXED, CourantControl: s.COURANT, ErrorControl: s.ERROR}[type(controller)]
        self._steps = s.Steps(
            None,
            None,
            None,
            *sweeps,
            energy.codes,
            energy.data,
            np.zeros(energy.room),
            self._fields,
            self._responses,
            np.zeros(6 * -(-cells // 2048)),
            np.zeros(7),
            _end_cells(flow.grid),
            flow.grid.cell_volume,
            scheme.positivity,
            method.ssp,
            scheme.limited,
            flow.balanced,
            problem.alpha(0.0),
            problem.schedule(0.0),
            rule,
            *(
                float(getattr(controller, name, math.nan))
                for name in ("dt", "tolerance", "fraction", "reaction", "growth")
            ),
        )

    # ----- steps

    def advance(
        self, state: State, until: float, beyond: float, most: int, bounds: s.Bounds = UNBOUNDED
    ) -> tuple[State, Advanced]:
        """Steps from a state towards `until`, which the last one hits exactly.

        Parameters
        ----------
        state : State
        until : float
            A time after the state's.
        beyond : float
            No step is made from here on.
        most : int
            Steps at most.
        bounds : structures.Bounds, optional
            What ends the run before; none by default.

        Returns
        -------
        state : State
            The new one; the old one if no step was made.
        advanced : Advanced
        """
        self.hold(state)
        rows, responses = np.empty((most, s.ROW)), np.empty((most, self._responses.shape[1]))
        # a number of another kind would have the program compiled once more, for ten seconds
        ends, given = s.Bounds(*map(float, bounds)), (float(until), float(beyond), int(most))
        taken, code = self._module().advance(self._steps, self._numbers, ends, *given, rows, responses)
        self._count()
        failed = code in (s.TOO_SHORT, s.NOT_FINITE, s.TOO_LARGE)
        if taken:
            state = self._state(s.DENSITY + self._current, s.TIME, state.n_steps + taken)
            self._held = state.mu
        return state, Advanced(rows[:taken], responses[:taken], RESULTS[code], failed)

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
        return vars(self) | {"_compiled": None, "_steps": self._steps._replace(evaluate=None, outflow=None, sweep=None)}

    def hold(self, state: State) -> None:
        """Go to a state, unless it is there: the array that it had, and nobody has written to it."""
        numbers = self._numbers
        if state.mu is not self._held or state.mu.tobytes() != self._fields[s.DENSITY + self._current].tobytes():
            if state.mu.shape != self._flow.grid.shape:
                raise ValueError(f"the density has shape {state.mu.shape}, the grid {self._flow.grid.shape}")
            self._fields[s.DENSITY + self._current] = state.mu.reshape(-1)
            self._held, numbers[s.KNOWN] = state.mu, 0.0
        numbers[s.TIME] = state.t
        numbers[s.LENGTH] = math.nan if state.length is None else state.length
        numbers[s.MEMORY] = state.memory[0] if state.memory else math.nan

    def evaluation(self) -> Evaluation:
        """What is known of the present density."""
        compiled, numbers, shape = self._module(), self._numbers, self._flow.grid.shape
        if numbers[s.KNOWN] == 0.0:
            compiled.evaluate(*self._to_evaluate(self._current), numbers[s.TOTAL : s.ENERGY + 1])
            numbers[s.KNOWN] = 1.0
            self._flow.evaluations += 1
        total, moment, low, high, held, least, energy = numbers[s.TOTAL : s.ENERGY + 1].tolist()
        assert self._held is not None
        return Evaluation(
            self._held,
            self._fields[s.POTENTIAL + self._current].reshape(shape).copy(),
            energy,
            self._responses[self._current].copy(),
            total * self._flow.grid.cell_volume,
            moment / total if total > 0.0 else 0.0,
            Survey(total, moment, low, high, held, least),
        )

    def _to_evaluate(self, k: int) -> tuple[Any, ...]:
        """The arguments of `exponential.evaluate` for one of the two densities, but the last."""
        steps, fields = self._steps, self._fields
        given = steps.codes, steps.data, steps.room, steps.volume
        return *given, fields[s.DENSITY + k], fields[s.POTENTIAL + k], self._responses[k], steps.sums

    def _module(self) -> ModuleType:
        """The compiled code, with the addresses of what it calls found when it is used first."""
        if self._compiled is None:
            from mfpde.mesh.compiled import exponential

            kind = type(self._steps.scheme), self._steps.wide
            if kind not in _addresses:  # of all that is handed over, these alone differ in their types
                _addresses[kind] = self._addresses()
            evaluate, outflow, sweep = _addresses[kind]
            self._steps = self._steps._replace(evaluate=evaluate, outflow=outflow, sweep=sweep)
            self._compiled = exponential
        return self._compiled

    def _addresses(self) -> tuple[Any, Any, Any]:
        """Where the functions are that `exponential.advance` calls."""
        from mfpde.mesh.compiled import exponential, kernels
        from mfpde.support.calls import address

        t, (mu, V, speeds) = self._steps, self._fields[:3]
        mesh = t.scheme, None, t.wide, t.ints, t.floats, t.metric, t.band
        return (
            address(exponential.evaluate, *self._to_evaluate(0), t.fresh),
            address(kernels.outflow, *mesh, V, speeds, t.buffers, 0, t.bands),
            address(kernels.sweep, *mesh, mu, V, speeds, 0.0, False, mu, t.buffers, 0, t.bands),
        )

    def _count(self) -> None:
        self._flow.evaluations += int(self._numbers[s.EVALUATIONS])
        self._numbers[s.EVALUATIONS] = 0.0


def _end_cells(grid: Grid) -> NDArray[np.int64]:
    """The flat indices of the cells next to truncation ends, those in corners once for each end."""
    cells = np.arange(grid.size).reshape(grid.shape)
    return np.concatenate([np.empty(0, dtype=np.int64), *(cells[layer].ravel() for layer in end_layers(grid))])
