"""`solve`, and the `Solver` underneath it for those who step by hand."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.diagnostics import Recorder, Snapshot, StopCondition
from mfpde.flow import Evaluation, Flow, FreeEnergy
from mfpde.grid import Grid
from mfpde.implicit import ImplicitStrang, Potential
from mfpde.measures import Measure
from mfpde.problem import Problem, Reaction
from mfpde.running import RunWarning, interruptible, invert_clock, progress_bar, save_times, thread_limit
from mfpde.schedules import Constant, Schedule
from mfpde.solution import Result, Solution, State, run_stats
from mfpde.stepping import (
    Coefficients,
    Controller,
    ErrorControl,
    ExponentialSSPRK3,
    FixedStep,
    Method,
    Strang,
    step_doubling,
)
from mfpde.transport import ScharfetterGummel, Scheme, Weno5

if TYPE_CHECKING:
    from mfpde.streaming import Stream

__all__ = ["SolveError", "Solver", "StepInfo", "solve"]

Array = NDArray[np.float64]

ENERGY_TOLERANCE = 1e-13
END_MASS_WARN = 1e-6
DRIFT_WARN = 1e-12
DT_FLOOR = 1e-13
"""Smallest step relative to the run's length."""


class SolveError(RuntimeError):
    """A run that did not get where it should. ``solution`` holds what it computed."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What one accepted or failed step did.

    Attributes
    ----------
    result : Result or None
        None when the step was made; otherwise why it was not.
    dt : float
        Its length in time.
    error : float or None
        Its estimated L1 error.
    leak : float
        Relative mass the fluxes created (round-off).
    redone : int
        Attempts thrown away.
    first_rate : array
        The transport's rate of change at the start, diffusion included.
    bound : float
        The positivity bound at the start, in the clock ``S``.
    cell : int
        The cell that sets it.
    """

    result: Result | None
    dt: float
    error: float | None
    leak: float
    redone: int
    first_rate: Array
    bound: float
    cell: int


class Solver:
    """One problem on one mesh with one scheme, ready to step.

    Parameters
    ----------
    problem : Problem
    shape : sequence of int, optional
        Cells along each axis; default: the problem's suggestion.
    scheme : Scheme, optional
        Transport: `Weno5`, `Muscl`, `Upwind`, or `ScharfetterGummel` for a temperature above 0. Default: see
        `default_scheme`.
    method : Method, optional
        `ExponentialSSPRK3`, `Strang`, `Lie`, a `Splitting`, or with `ScharfetterGummel` `ImplicitStrang` and
        `ImplicitEuler`. Default: see `default_method`; ``repr`` of the solver says what was chosen and why.
    controller : Controller, optional
        `ErrorControl` (default), `CourantControl` or `FixedStep`.

    Examples
    --------
    >>> import mfpde as mf
    >>> solver = mf.Solver(mf.problems.quadratic_well(), shape=(100,))
    >>> state = solver.init()
    >>> state, info = solver.step(state, until=1.0)
    >>> info.result is None and 0 < state.t <= 1.0
    True
    """

    def __init__(
        self,
        problem: Problem,
        shape: Sequence[int] | int | None = None,
        *,
        scheme: Scheme | None = None,
        method: Method | None = None,
        controller: Controller | None = None,
    ) -> None:
        if not isinstance(problem, Problem):
            what = "a file that holds none (load it with problem=)" if problem is None else repr(problem)
            raise TypeError(f"solve needs a Problem, not {what}; see mfpde.problems")
        self.problem = problem
        self.grid: Grid = problem.grid(shape)
        self._reasons: dict[str, str] = {}
        if scheme is None:
            scheme, self._reasons["scheme"] = default_scheme(problem, self.grid)
        self.scheme: Scheme = scheme
        if method is None:
            method, self._reasons["method"] = default_method(problem, self.grid, scheme)
        method.check(problem, scheme)
        self.method: Method = method
        self.controller: Controller = ErrorControl() if controller is None else controller
        self.flow = Flow(problem, self.grid, self.scheme)
        self._last: Evaluation | None = None

    def __repr__(self) -> str:
        def line(name: str, value: Any) -> str:
            reason = self._reasons.get(name)
            return f"  {name:<11} {value!r}" + (f"  ({reason})" if reason else "")

        return "\n".join(
            [
                f"Solver of {self.problem.name!r}",
                line("grid", self.grid),
                line("scheme", self.scheme),
                line("method", self.method),
                line("controller", self.controller),
            ]
        )

    def init(self, initial: Measure | State | Solution | Array | None = None) -> State:
        """The first state: the problem's initial measure, or another start.

        Parameters
        ----------
        initial : Measure, State, Solution or array, optional
            A measure is restricted to the box and normalised; an array of cell values is taken as it is;
            a state or solution goes on where it ended.
        """
        if isinstance(initial, Solution):
            initial = initial.state
        if isinstance(initial, State):
            self._check_density(initial.mu)
            return initial
        if initial is None or isinstance(initial, Measure):
            restricted = self.problem.mu_0 if initial is None else initial.restrict(self.grid.axes)
            mu = restricted.point_values(self.grid) if self.scheme.point_values else restricted.cells(self.grid)
        else:
            mu = np.ascontiguousarray(initial, dtype=float).copy()
        self._check_density(mu)
        return State(0.0, mu)

    def _check_density(self, mu: Array) -> None:
        if mu.shape != self.grid.shape:
            raise ValueError(f"the initial density has shape {mu.shape}, the mesh {self.grid.shape}")
        if not np.all(np.isfinite(mu)):
            raise ValueError("the initial density has entries that are not finite")
        if mu.min() < 0:
            raise ValueError(f"the initial density is negative somewhere (minimum {mu.min():.3g})")
        if not mu.sum() > 0:
            raise ValueError("the initial density has no mass")

    def evaluate(self, state: State) -> Evaluation:
        """The potential, energy and response of a state (kept from the step that made it)."""
        if self._last is None or self._last.mu is not state.mu:
            self._last = self.flow.evaluate(state.mu)
        return self._last

    def free_energy(self, at: Evaluation, temperature: float) -> FreeEnergy | None:
        """What a temperature adds to an evaluation; None at temperature 0."""
        return self.flow.free_energy(at, temperature) if temperature > 0.0 else None

    def step(self, state: State, until: float) -> tuple[State, StepInfo]:
        """One step, which ends at `until` at the latest.

        Parameters
        ----------
        state : State
        until : float
            A time after ``state.t``, hit exactly when the step reaches it.

        Returns
        -------
        state : State
            The new state; the old one if the step could not be made.
        info : StepInfo
        """
        if not until > state.t:
            raise ValueError(f"until = {until:g} must lie after the state's time {state.t:g}")
        problem, flow, controller, method = self.problem, self.flow, self.controller, self.method
        clock, alpha = problem.schedule, problem.alpha
        temperature = problem.temperature(state.t)
        start = self.evaluate(state)
        _, cell = flow.outflow(start, temperature)
        bound = method.bound(flow, start, temperature)
        stiffness = 0.0
        if not method.consistent:
            stiffness = alpha(state.t) * flow.reaction.range_of(start.survey.low, start.survey.high)
        fixed = isinstance(controller, FixedStep)

        proposal = controller.first(bound, stiffness) if state.length is None else state.length
        remaining = clock.integral(state.t, until)
        floor = DT_FLOOR * max(until - state.t, abs(until))
        first_rate: Array | None = None
        redone, finite = 0, True
        while True:
            wanted = min(proposal, controller.cap(bound, stiffness))
            length, t_new = self._length(clock, state.t, until, wanted, remaining, fixed)
            dt = t_new - state.t
            if first_rate is None:
                euler = length / method.ssp if math.isfinite(length) and length > 0 else None
                first_rate = flow.rate(start, temperature, euler)
            if length == 0.0 and dt > 0.0:  # the clock stands still, and so does the density
                self._last = start
                new = State(t_new, state.mu, state.n_steps + 1, state.length, state.memory)
                return new, StepInfo(None, dt, 0.0, 0.0, 0, first_rate, bound, cell)
            if not dt > floor:
                result = Result.DT_MIN if finite else Result.NOT_FINITE
                return state, StepInfo(result, dt, None, 0.0, redone, first_rate, bound, cell)
            at = Coefficients(
                _within(alpha, clock, state.t, t_new, length),
                _within(problem.temperature, clock, state.t, t_new, length),
            )
            # an overflow here is a step that failed, judged below
            with np.errstate(over="ignore", invalid="ignore"):
                if controller.needs_error and not method.embedded:
                    outcome = step_doubling(method, flow, start, length, at, first_rate)
                else:
                    outcome = method.step(flow, start, length, at, first_rate)
                end = None if outcome.mu is None else outcome.end or flow.evaluate(outcome.mu)
            accepted, following, memory = controller.after(length, outcome, state.memory)
            finite = end is None or (math.isfinite(end.energy) and math.isfinite(end.mass))
            if not finite:
                accepted, following = False, 0.25 * length
            if accepted and end is not None:
                break
            redone += 1
            if fixed:
                result = Result.STEP_TOO_LARGE if finite else Result.NOT_FINITE
                return state, StepInfo(result, dt, None, 0.0, redone, first_rate, bound, cell)
            proposal = following
        if length < wanted:
            # cut short by a save time: the next step need not start from the cut length
            following = max(following, wanted)
        self._last = end
        new = State(t_new, end.mu, state.n_steps + 1, following, memory)
        return new, StepInfo(None, dt, outcome.error, outcome.leak, redone, first_rate, bound, cell)

    @staticmethod
    def _length(
        clock: Schedule, t: float, until: float, wanted: float, remaining: float, fixed: bool
    ) -> tuple[float, float]:
        """The step in the clock S and the time it ends: save times exactly, the last two steps alike."""
        if fixed and not isinstance(clock, Constant):
            wanted = clock.integral(t, min(t + wanted, until))
        elif fixed:
            wanted *= clock(t)
        if wanted >= remaining * (1 - 1e-9):
            return remaining, until
        if wanted > 0.5 * remaining:
            wanted = 0.5 * remaining
        return wanted, invert_clock(clock, t, until, wanted)


def _within(quantity: Schedule, clock: Schedule, t: float, t_new: float, length: float) -> Callable[[float], float]:
    """A schedule at a fraction of the step, which is a fraction in the clock S."""
    if isinstance(quantity, Constant):
        value = quantity(t)
        return lambda fraction: value
    if isinstance(clock, Constant):
        return lambda fraction: quantity(t + fraction * (t_new - t))
    return lambda fraction: quantity(
        invert_clock(clock, t, t_new, fraction * length) if 0 < fraction < 1 else (t, t_new)[fraction >= 1]
    )


DRIFT_DOMINATES = 1.0
"""Mean cell Peclet number from which Scharfetter-Gummel fluxes are no longer the default: they turn first order."""
DIFFUSION_IS_STIFF = 0.2
"""Mean cell Peclet number below which explicit steps bound by diffusion are a waste."""


def mean_peclet(problem: Problem, grid: Grid, temperature: float) -> float:
    """The mean over ``mu_0`` of the cell Peclet number ``max_axes |V_(i+1) - V_i| / tau``."""
    mu = problem.mu_0.cells(grid)
    V = problem.bound_energy.on(grid).evaluate(mu)[0]
    peclet = np.zeros(grid.shape)
    for i in range(grid.dimension):
        jump = np.abs(np.diff(V, axis=i)) / temperature
        for cells in (slice(None, -1), slice(1, None)):
            beside = peclet[(slice(None),) * i + (cells,)]
            np.maximum(beside, jump, out=beside)
    return float(np.vdot(mu, peclet)) * grid.cell_volume


def coldest(problem: Problem) -> float:
    """The lowest temperature of a run to the problem's end time, at nine times of it."""
    return min(problem.temperature(float(t)) for t in np.linspace(0.0, problem.t_end, 9))


def default_scheme(problem: Problem, grid: Grid) -> tuple[Scheme, str]:
    """The transport scheme for a problem, and why.

    `Weno5` at temperature 0, and above where drift dominates diffusion within a cell (`mean_peclet` above 1 at the
    lowest temperature of the run); else `ScharfetterGummel`, which is then of second order and keeps Gibbs states.
    """
    tau = coldest(problem)
    if tau == 0.0:
        return Weno5(), "temperature 0" if problem.noiseless else "the temperature falls to 0"
    mean = mean_peclet(problem, grid, tau)
    if mean <= DRIFT_DOMINATES:
        return ScharfetterGummel(), f"mean cell Peclet number {mean:.2g} <= {DRIFT_DOMINATES:g}"
    return Weno5(), f"drift dominates diffusion within a cell: mean cell Peclet number {mean:.2g}"


def default_method(problem: Problem, grid: Grid, scheme: Scheme) -> tuple[Method, str]:
    """The time stepping for a problem and a scheme, and why.

    `ImplicitStrang` for `ScharfetterGummel`. Otherwise `ExponentialSSPRK3` where it applies, unless diffusion is stiff:
    then, and for reinjection and the free-energy reaction, `Strang`.
    """
    tau = coldest(problem)
    if isinstance(scheme, ScharfetterGummel):
        return ImplicitStrang(), "steps of any length keep sign, mass and Gibbs states"
    if problem.reinjection is not None:
        return Strang(), "reinjection"
    if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
        return Strang(), "free-energy reaction"
    if tau > 0.0:
        mean = mean_peclet(problem, grid, tau)
        if mean < DIFFUSION_IS_STIFF:
            return Strang(), f"diffusion is stiff: mean cell Peclet number {mean:.2g}"
    return ExponentialSSPRK3(), "third order, unsplit"


def solve(
    problem: Problem,
    shape: Sequence[int] | int | None = None,
    t_end: float | None = None,
    *,
    scheme: Scheme | None = None,
    method: Method | None = None,
    controller: Controller | None = None,
    save: int | Sequence[float] = 11,
    initial: Measure | State | Solution | Array | None = None,
    stop: StopCondition | None = None,
    max_steps: int = 10_000_000,
    progress: bool | None = None,
    threads: int | None = None,
    throw: bool = True,
    output: str | os.PathLike[str] | Stream | None = None,
    overwrite: bool = False,
) -> Solution:
    """Integrate a problem on a mesh.

    Parameters
    ----------
    problem : Problem
        What to solve.
    shape : sequence of int, optional
        Cells along each axis; default: the problem's suggestion.
    t_end : float, optional
        Default: the problem's.
    scheme : Scheme, optional
        `Weno5` (fifth order where the density is smooth), `Muscl` (second order, the energy identity holds on
        the mesh), `Upwind` (first order), `ScharfetterGummel` (second order, exact Gibbs states). Default: `Weno5`
        at temperature 0, and above where drift dominates diffusion within a cell; else `ScharfetterGummel`.
    method : Method, optional
        Default: `ImplicitStrang` for `ScharfetterGummel`; else `ExponentialSSPRK3`, or `Strang` with reinjection, the
        free-energy reaction, or stiff diffusion. ``repr(Solver(...))`` says what was chosen and why.
    controller : Controller, optional
        `ErrorControl` (default), `CourantControl` or `FixedStep`.
    save : int or sequence of float, optional
        How many equally spaced save times, both ends included (default 11), or the times. The start and
        the end are always saved.
    initial : Measure, State, Solution or array, optional
        Another start than the problem's; a state or solution goes on at its own time.
    stop : callable, optional
        Called with a `Snapshot` after each step; True ends the run. See `EnergyBelow`, `GapBelow`, `SteadyState`.
    max_steps : int, optional
        Limit on the number of steps of this call.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    threads : int, optional
        Threads of the compiled sweeps and of BLAS; default: 1 below 1e5 cells, all cores above.
    throw : bool, optional
        Whether a run that fails raises `SolveError` (with the partial solution in it) or returns.
    output : path, optional
        A file, ``.h5`` or ``.hdf5``, that saved densities go to as they are made, so that they need no memory; in
        the end it is what `Solution.save` would write. However the run ends, `mfpde.load` reads it: after an
        interruption or a failure all that was computed, after a kill all up to the last save time. Worth it where
        the run is long or the saved densities are large.
    overwrite : bool, optional
        Whether a file that is there may be replaced, which happens once the first density is known.

    Returns
    -------
    Solution

    Raises
    ------
    SolveError
        If the run fails and `throw` is true. A keyboard interrupt is no failure: what was computed is
        returned with result ``INTERRUPTED``.
    ValueError
        For arguments that do not fit, each with the value and the remedy.
    OSError
        If `output` exists or cannot be written, before anything is computed; or if the disk is full later: then
        the file holds what was saved so far.

    Warns
    -----
    RunWarning
        When mass gathers at a truncation end, the energy rises by more than 1e-13 of its scale in a
        step, or mass drifts by more than 1e-12.

    Examples
    --------
    >>> import mfpde as mf
    >>> solution = mf.solve(mf.problems.linear_neuron(), shape=(200,), t_end=1.0, save=3)
    >>> solution.result.name, [float(t) for t in solution.times]
    ('SUCCESS', [0.0, 0.5, 1.0])
    """
    began = time.perf_counter()
    stream = _stream(output, overwrite=overwrite)
    solver = Solver(problem, shape, scheme=scheme, method=method, controller=controller)
    state = solver.init(initial)
    del initial
    t_end = problem.t_end if t_end is None else float(t_end)
    if not (math.isfinite(t_end) and t_end > state.t):
        raise ValueError(f"t_end = {t_end:g} must be finite and lie after the start, t = {state.t:g}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, not {max_steps}")
    targets = save_times(save, state.t, t_end)
    if stream is not None:
        stream.check_room(len(targets) + 1, solver.grid.shape)

    recorder = Recorder(solver.flow)
    times: list[float] = []
    energies: list[float] = []
    # room for the frames is claimed at once and filled as they come: they are never in memory twice
    frames = _room(len(targets) + 1, solver.grid) if stream is None else None
    notes: list[str] = []
    result = Result.SUCCESS
    redone = 0
    leak = 0.0
    balanced = solver.flow.reaction.balanced

    def so_far(result: Result, density: Array, diagnostics: dict[str, Array], seconds: float | None) -> Solution:
        stats = run_stats(diagnostics, balanced=balanced, evaluations=solver.flow.evaluations, leak=leak)
        return Solution(
            grid=solver.grid,
            times=np.array(times),
            density=density,
            energy=np.array(energies),
            diagnostics=diagnostics,
            response=np.array(recorder.responses),
            result=result,
            stats={**stats, "redone": redone},  # also those of a step that was given up
            warnings=notes,
            configuration={
                "problem": problem.name,
                "parameters": dict(problem.parameters or {}),
                "shape": list(solver.grid.shape),
                "t_end": t_end,
                "scheme": repr(solver.scheme),
                "method": repr(solver.method),
                "controller": repr(solver.controller),
                "save": [float(t) for t in targets],
                **({} if stream is None else stream.configuration),
            },
            provenance=_provenance(seconds),
            state=state,
            problem=problem,
            point_values=solver.scheme.point_values,
            name=problem.name,
            fingerprint=problem.fingerprint(),
        )

    def keep() -> None:
        times.append(state.t)
        energies.append(recorder.rows["energy"][-1])
        if frames is not None:
            frames[len(times) - 1] = state.mu
        if stream is None:
            return
        if len(times) == 1:
            stream.start(so_far(Result.UNFINISHED, state.mu[None], recorder.arrays(), None), len(targets) + 1)
        else:
            counts = {"evaluations": solver.flow.evaluations, "leak": leak}
            stream.add(state, recorder.rows, recorder.responses, counts)

    with (
        thread_limit(threads, solver.grid.size),
        progress_bar(progress, problem.name, state.t, t_end) as show,
        interruptible() as interrupted,
        contextlib.ExitStack() as leaving,
    ):
        if stream is not None:
            leaving.callback(stream.abandon)
        at = solver.evaluate(state)
        if not (math.isfinite(at.energy) and np.all(np.isfinite(at.V))):
            raise ValueError("the potential of the initial measure is not finite; look at the energy's functions")
        tau = problem.temperature(state.t)
        free = solver.free_energy(at, tau)
        recorder.state(state.t, at, free, tau, (0.0, None, 0))
        keep()
        euler: float | None = None
        for target in targets:
            while state.t < target and result is Result.SUCCESS:
                if len(recorder.rows["time"]) > max_steps:
                    result = Result.MAX_STEPS
                    break
                before = at
                new, info = solver.step(state, target)
                redone += info.redone
                if info.result is not None:
                    result = info.result
                    break
                speed, alpha = problem.schedule(state.t), problem.alpha(state.t)
                dissipation = recorder.departure(before, free, info.first_rate, speed, alpha, info.cell)
                euler, done = info.dt, (info.dt, info.error, info.redone)
                leak += info.leak
                state = new
                # of the step's arrays nothing is kept while the next ones are made
                del info, new
                at = solver.evaluate(state)
                tau = problem.temperature(state.t)
                free = None
                if at.mass > 0.0:
                    free = solver.free_energy(at, tau)
                else:
                    result = Result.EXTINCT
                gap = recorder.state(state.t, at, free, tau, done)
                energy = recorder.rows["energy"][-1]
                show(state.t, energy)
                if stop is not None and result is Result.SUCCESS:
                    change = _distance(state.mu, before.mu) / (euler * float(before.mu.sum()))
                    snapshot = Snapshot(state.t, state.n_steps, state.mu, at.V, energy, gap, dissipation, change)
                    if stop(snapshot):
                        result = Result.STOPPED
                    del snapshot
                del before
                if interrupted() and result is not Result.EXTINCT:
                    result = Result.INTERRUPTED
            if result is not Result.SUCCESS:
                break
            keep()
        if times[-1] < state.t:
            keep()
        last = solver.evaluate(state)
        _, cell = solver.flow.outflow(last, tau)
        rate = solver.flow.rate(last, tau, euler)
        recorder.departure(last, free, rate, problem.schedule(state.t), problem.alpha(state.t), cell)
        del at, last, free, rate
        diagnostics = recorder.arrays()
        density = np.empty((0, *solver.grid.shape)) if frames is None else frames[: len(times)]
        solution = so_far(result, density, diagnostics, time.perf_counter() - began)
        frozen = getattr(solver.method, "potential", None) is Potential.START
        remedy = "take Potential.AVERAGE, or shorter steps" if frozen else "refine the mesh"
        notes += _notes(diagnostics, solution.stats, rises=_decays(problem), remedy=remedy)
        if stream is not None:
            stream.finish(solution)

    for note in notes:
        warnings.warn(note, RunWarning, stacklevel=2)
    if throw and not result.ok and result is not Result.INTERRUPTED:
        raise SolveError(f"at t = {state.t:g}: {result.value}", solution)
    return solution


def _stream(output: str | os.PathLike[str] | Stream | None, *, overwrite: bool) -> Stream | None:
    if output is None:
        return None
    from mfpde.streaming import Stream

    return output if isinstance(output, Stream) else Stream(output, overwrite=overwrite)


def _room(saves: int, grid: Grid) -> Array:
    try:
        return np.empty((saves, *grid.shape))
    except (MemoryError, ValueError):  # the latter beyond what can be addressed
        raise MemoryError(
            f"{saves} saved densities of {grid.size} cells need {8 * saves * grid.size / 2**30:.3g} GiB of memory; "
            "write them to a file (output=), or use fewer save times or cells"
        ) from None


def _distance(one: Array, other: Array) -> float:
    difference = one - other
    return float(np.abs(difference, out=difference).sum())


def _notes(diagnostics: dict[str, Array], stats: dict[str, Any], *, rises: bool, remedy: str) -> list[str]:
    """What a run wants looked at; `rises`: whether an energy that rises is one of it, `remedy`: what to do then."""
    notes = []
    if stats["energy_increase"] > ENERGY_TOLERANCE and rises:
        t_at = diagnostics["time"][int(np.argmax(np.diff(diagnostics["energy"]))) + 1]
        rise = stats["energy_increase"]
        notes.append(f"the energy rose by {rise:.1e} of its scale in the step to t = {t_at:g}; {remedy}")
    ends = diagnostics["end_mass"]
    if ends.max() > max(END_MASS_WARN, 2 * ends[0]):
        notes.append(
            f"{ends.max():.1e} of the mass lies at a truncation end (t = {diagnostics['time'][int(ends.argmax())]:g}); "
            "enlarge the axes"
        )
    if stats["mass_drift"] > DRIFT_WARN:
        notes.append(f"mass drifted by {stats['mass_drift']:.1e}")
    return notes


def _decays(problem: Problem) -> bool:
    """Whether the energy of the equation cannot rise: with a temperature, not for every reaction or schedule."""
    if problem.noiseless:
        return True
    full = not problem.reacts or problem.reaction is Reaction.FREE_ENERGY
    return full and isinstance(problem.temperature, Constant)


@functools.cache
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {}
    for package in ("mfpde", "numpy", "scipy", "numba", "h5py"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _provenance(seconds: float | None) -> dict[str, Any]:
    return {
        "versions": dict(_versions()),
        "python": platform.python_version(),
        "volatile": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **({} if seconds is None else {"seconds": seconds}),
            "command": " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
            "machine": platform.machine(),
        },
    }
