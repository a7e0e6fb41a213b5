"""`solve`: a run from save time to save time, what it records, and when it stops."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.convexity import no_certificate
from mfpde.equation.description.stored import description_for_file
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import Measure
from mfpde.equation.plain_attributes import plain_attributes
from mfpde.equation.problem import Problem
from mfpde.mesh.accuracy import SEARCH, judge, solve_within
from mfpde.mesh.algebra import Algebra
from mfpde.mesh.box import again_on_larger_boxes
from mfpde.mesh.companion import MOST_SAVES, Companion
from mfpde.mesh.compiled.run_structures import R_ENERGY, R_REACTION, R_REDONE, R_TIME, R_TRANSPORT, Bounds
from mfpde.mesh.conclusion import conclude, decays, notes_of
from mfpde.mesh.constants import ROUNDED
from mfpde.mesh.controllers import Controller
from mfpde.mesh.energy_errors import known_minimum
from mfpde.mesh.kept import kept
from mfpde.mesh.kinds import PARTS
from mfpde.mesh.memory import check_run
from mfpde.mesh.methods.base import Method
from mfpde.mesh.methods.implicit import Potential
from mfpde.mesh.options import RunOptions, end_time
from mfpde.mesh.outputs import stream_to
from mfpde.mesh.program import Program
from mfpde.mesh.record import Result, State, run_stats
from mfpde.mesh.recorder import Recorded, Recorder, StepMade
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Departure, Evaluation, FreeEnergy
from mfpde.mesh.solution import Solution
from mfpde.mesh.solver import Solver, StepInfo
from mfpde.mesh.spare import put_away, spare_solver
from mfpde.mesh.stopping import EnergyBelow, GapBelow, Limits, OnEndMass, Snapshot, SteadyState, StopCondition
from mfpde.mesh.watch import START, Watch, look_at_the_end, look_at_the_start
from mfpde.support.arguments import read_only
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.provenance import provenance, versions
from mfpde.support.saves import save_times
from mfpde.support.session import interruptible, progress_bar
from mfpde.support.threads import one_blas_thread, thread_limit

if TYPE_CHECKING:
    from mfpde.mesh.stream import Stream

__all__ = ["Integration", "solve"]


STRETCH = 0.05
"""Seconds after which a compiled run of steps comes back: to be interrupted, and to say where it is."""
FIRST_WORK, MOST_ROWS = 4e6, 4096
"""Work of the first such run, see `Program.work`: some milliseconds. Steps of any at most."""


def solve(
    problem: Problem,
    shape: Sequence[int] | int | None = None,
    t_end: float | None = None,
    *,
    tolerance: float | None = None,
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
    checkpoint: float | None = 60.0,
    time_limit: float | None = None,
    limits: Limits | None = None,
    on_end_mass: OnEndMass | str = OnEndMass.WARN,
    estimate: bool | None = None,
    algebra: Algebra | None = None,
) -> Solution:
    """Integrate a problem on a mesh.

    Parameters
    ----------
    problem : Problem
        What to solve.
    shape : int or sequence of int, optional
        Cells along each axis, or along every axis; default: the problem's suggestion.
    t_end : float, optional
        Default: the problem's.
    tolerance : float, optional
        An accuracy instead of a mesh, between 0 and 1: meshes and steps are refined until the estimated error of the
        energy is below this share of its scale at every save time (``docs/accuracy.md``); 1e-3 is a good value. The
        search begins at `shape`. The scheme and the method may be given, and of controllers an `ErrorControl`, whose
        tolerance is lowered where it has to be.
    scheme : Scheme, optional
        `Weno5` (fifth order where the density is smooth), `Muscl` (second order, the energy identity holds on
        the mesh), `Upwind` (first order), `ScharfetterGummel` (second order, exact Gibbs states). Default: `Weno5`
        at temperature 0, and above where drift dominates and explicit steps are few, whatever the mesh; else
        `ScharfetterGummel`.
    method : Method, optional
        Default: `ImplicitStrang` for `ScharfetterGummel`; else `ExponentialSSPRK3`, or `Strang` with reinjection, the
        free-energy reaction, or stiff diffusion. ``repr(Solver(...))`` says what was chosen and why.
    controller : Controller, optional
        `ErrorControl` (default), `CourantControl` or `FixedStep`.
    save : int or sequence of float, optional
        How many equally spaced save times, both ends included (default 11), or the times. The start and
        the end are always saved. Times that differ by rounding only, 1e-12 of the later one or 8 units of the last
        place of `t_end`, are one: the start, `t_end`, or else the earliest of them.
    initial : Measure, State, Solution or array, optional
        Another start than the problem's; a state or solution goes on at its own time. An array holds densities, not
        masses of cells: of mass 1 where the problem conserves mass.
    stop : callable, optional
        Called with a `Snapshot` after each step; True ends the run. See `EnergyBelow`, `GapBelow`, `SteadyState`.
    max_steps : int, optional
        Limit on the number of steps of this call.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    threads : int, optional
        Threads; default: 1 below 1e5 cells, all cores above. They do not change a bit of the result.
    throw : bool, optional
        Whether a run that fails raises `SolveError` (with the partial solution in it) or returns.
    output : path, optional
        A file, ``.h5`` or ``.hdf5``, that saved densities go to as they are made, so that they need no memory; in
        the end it is what `Solution.save` would write. However the run ends, `mfpde.load` reads it and
        `mfpde.resume` goes on: after an interruption or a failure from where it was, after a kill from the last
        checkpoint or save time. Worth it where the run is long or the saved densities are large.
    overwrite : bool, optional
        Whether a file that is there may be replaced, which happens once the first density is known.
    checkpoint : float, optional
        Seconds after which the state goes to `output` between save times; None: not at all. Has no effect on results.
    time_limit : float, optional
        Seconds after which the run ends with ``TIME_LIMIT``, between two steps. With a `tolerance` the seconds of the
        whole search (default 600), which ends with ``NOT_REACHED`` and the best run. Seconds in which functions are
        compiled, once an installation, do not count.
    limits : Limits, optional
        What ends a run with a named result: a rising energy, drifting mass. See `Limits`.
    on_end_mass : OnEndMass or str, optional
        What to do when more than ``limits.end_mass`` lies at truncation ends of the mesh: ``"warn"`` (default),
        ``"stop"`` with ``END_MASS``, or ``"extend"``: those axes get a quarter more cells of the same size there, and
        the run starts again.
    estimate : bool, optional
        Whether the run says how accurate it is (`Solution.energy_error`, `Solution.error`), from a companion on half
        the cells along each axis that goes along with it. It costs a quarter of the run in two axes and half of it in
        one, and changes nothing of what the run computes. Default: yes.
    algebra : Algebra, optional
        What arrays are worked on with: `CompiledAlgebra` (default), or `NumpyAlgebra`, which compiles nothing and is
        slow. They agree to round-off.

    Returns
    -------
    Solution

    Raises
    ------
    SolveError
        If the run fails and `throw` is true. A keyboard interrupt (or SIGTERM, in the main thread) and a time limit
        are no failures: what was computed is returned with result ``INTERRUPTED`` or ``TIME_LIMIT``.
    MemoryError
        If the mesh needs more memory than there is, before it is taken.
    ValueError
        For arguments that do not fit, each with the value and the remedy.
    OSError
        If `output` exists or cannot be written, before anything is computed, and a BlockingIOError if another run is
        writing it; or if the disk is full later: then the file holds what was saved so far.

    Warns
    -----
    RunWarning
        When the estimated error of the energy exceeds 1 % of its scale (`Solution.energy_scale`), or a `tolerance` is
        not reached; when mass gathers at a truncation end, the energy rises by more than 1e-13 of its scale in a step,
        or mass drifts by more than 1e-12; when the start has layers of less than three cells, or, with a temperature,
        the last density or the state that drift and diffusion lead to; or when birth-death makes the mass from a tail
        of the start that the mesh does not carry. Without noise a density that concentrates is a remark
        (`Solution.notes`). See ``docs/numerics.md``.

    Examples
    --------
    >>> import mfpde as mf
    >>> solution = mf.solve(mf.problems.linear_neuron(), shape=(200,), t_end=1.0, save=3)
    >>> solution.result.name, [float(t) for t in solution.times]
    ('SUCCESS', [0.0, 0.5, 1.0])
    """
    options = RunOptions.of(locals())
    with stream_to(output, overwrite=overwrite) as stream, one_blas_thread():  # once, and not for each of its parts
        if tolerance is None:
            solution = _prepared(problem, options, stream).complete()
            solution = again_on_larger_boxes(solution, problem, options, stream, _prepared)
        else:
            solution = solve_within(problem, options, stream, _prepared)
    return conclude(solution, throw=throw, stacklevel=3)


def _prepared(problem: Problem, options: RunOptions, stream: Stream | None, notes: Sequence[str] = ()) -> Integration:
    """One run on one mesh, ready to begin."""
    grid = problem.grid(options.shape) if isinstance(problem, Problem) else None  # the solver refuses anything else
    check_run(problem, options, grid)
    parts = {name: getattr(options, name) for name in ("scheme", "method", "controller", "t_end", "algebra")}
    with thread_limit(options.threads, 1 if grid is None else grid.size):
        shared = grid is not None and problem.noiseless and not options.with_parts and options.initial is None
        solver = spare_solver(problem, grid) if grid is not None and shared else None
        if solver is None:
            solver = Solver(problem, options.shape, **parts)
        state = solver.init(options.initial)
        targets = save_times(options.save, state.t, end_time(problem, options.t_end, state.t))
        found = _of_the_start(solver, options.initial, state)
        run = Integration(solver, state, targets, options, stream, notes=notes, found=found)
        run.shared = shared and solver.program is not None
        return run


def _of_the_start(solver: Solver, initial: Measure | State | Solution | Array | None, state: State) -> list[str]:
    """What the mesh does not carry of a start; of a run that goes on without noise it is said when it happens."""
    if isinstance(initial, (State, Solution)) and solver.problem.noiseless:
        return []
    problem, grid, point_values = solver.problem, solver.grid, solver.scheme.point_values

    def found() -> list[str]:
        return look_at_the_start(solver.law(initial), state.mu, grid, point_values=point_values)

    return kept(problem, grid, ("found", point_values), found) if initial is None else found()


class Integration:
    """One run of `solve`.

    Parameters
    ----------
    solver : Solver
    state : State
        Where it starts.
    targets : list of float
        The save times after the first, the end last.
    options : RunOptions
        How it is made, its solver and its targets apart.
    stream : Stream, optional
        Where saved densities go; default: memory.
    history : Solution, optional
        The run that this one goes on, up to `state`; the targets are then those of the whole run.
    notes : list of str, optional
        What is to be said besides.
    found : list of str, optional
        What the mesh does not carry of the start.
    """

    def __init__(
        self,
        solver: Solver,
        state: State,
        targets: list[float],
        options: RunOptions,
        stream: Stream | None = None,
        *,
        history: Solution | None = None,
        notes: Sequence[str] = (),
        found: Sequence[str] = (),
    ) -> None:
        self.began, self.worked = time.perf_counter(), working_time()
        self.solver, self.state, self.targets, self.options, self.stream = solver, state, targets, options, stream
        if stream is not None:
            stream.check_room(len(targets) + 1, solver.grid.shape)
        if isinstance(options.stop, GapBelow):
            if not solver.flow.convex:
                raise ValueError(options.stop.refusal(solver.flow.convex, solver.problem.bound_energy.lyapunov))
            if not solver.scheme.positive:
                raise ValueError(
                    f"GapBelow({options.stop.value:g}): {solver.scheme!r} does not keep mu >= 0, so there is no "
                    "gap; use SteadyState or EnergyBelow"
                )
        # whatever the end of the run will ask for is asked for now: what fails then would lose the run
        self.fingerprint, self.description = solver.problem.fingerprint(), description_for_file(solver.problem)
        self.configuration = self._configuration()
        versions()
        for schedule in (solver.problem.schedule, solver.problem.alpha, solver.problem.temperature):
            schedule(targets[-1])
        self.recorder = Recorder(solver.flow)
        self.companion = Companion(solver, targets, wanted=options.estimate is True)
        self.times: list[float] = []
        self.energies: list[float] = []
        # room for the frames is claimed at once and filled as they come: they are never in memory twice
        self.frames = _room(len(targets) + 1, solver.grid) if stream is None else None
        self.notes = list(notes)
        self.notes += found
        self.watch = Watch(solver.problem, solver.grid, compiled=solver.program is not None)
        self.steps = 0
        self.redone = 0
        self.leak = 0.0
        self.scale = 0.0
        # a checkpoint that comes sooner is not waited for
        often = self.stream is not None and options.checkpoint is not None and options.checkpoint < STRETCH
        self.within = options.checkpoint or 0.0 if often else STRETCH
        work = math.inf if often or solver.program is None else solver.program.work
        self.pace = int(min(max(FIRST_WORK / work, 1.0), MOST_ROWS))
        self.written = self.began
        self.before: dict[str, Any] = {}
        self.at: Evaluation  # of the present state, and the temperature with what it adds
        self.tau = 0.0
        self.free: FreeEnergy | None = None
        self.shared = False
        """Whether the solver may be another run's afterwards."""
        self.history = history
        if history is not None:
            self._go_on(history)

    def _go_on(self, history: Solution) -> None:
        """Take over what another run has recorded."""
        self.recorder.go_on(history.diagnostics, history.response)
        wanted = {float(history.times[0]), *self.targets}
        # what was saved where a run was cut short is no save time
        whole = [i for i, t in enumerate(history.times) if float(t) in wanted]
        assert whole == list(range(len(whole)))
        self.times = history.times[: len(whole)].tolist()
        self.energies = history.energy[: len(whole)].tolist()
        if self.frames is not None:
            for i in whole:
                self.frames[i] = history.density[i]
        self.companion.go_on(history.companion, history.errors, len(whole))
        self.notes += [text for text in history.warnings if text.startswith(START)]
        for t, mu in zip(self.times, history.density, strict=False):
            self.watch.see(t, np.asarray(mu), functools.partial(self._potential, State(t, np.asarray(mu))))
        self.configuration |= {name: history.configuration[name] for name in SEARCH if name in history.configuration}
        self.redone = int(history.diagnostics["redone"].sum())
        self.scale = float(np.abs(history.energy).max())
        self.leak = history.stats.get("leak", 0.0)
        # the state's own evaluation was counted, and is made again
        self.solver.flow.evaluations = history.stats["evaluations"] - 1
        volatile = history.provenance.get("volatile", {})
        self.before = {"seconds": volatile.get("seconds", 0.0), "resumed": volatile.get("resumed", 0) + 1}

    def _potential(self, state: State) -> Array:
        return self.solver.evaluate(state).V  # by the program, where the run before had it from there

    def _configuration(self) -> dict[str, Any]:
        """The settings, as plain values."""
        solver, problem, options = self.solver, self.solver.problem, self.options
        return {
            "problem": problem.name,
            "parameters": dict(problem.parameters or {}),
            "shape": list(solver.grid.shape),
            "t_end": self.targets[-1],
            **solver.words,
            "save": [float(t) for t in self.targets],
            **({} if solver.scheme.positive else {"positive": False}),
            **({} if options.estimate else {"estimate": False}),
            **({} if options.limits == Limits() else {"limits": PARTS["limits"].to_text(options.limits)}),
            **({} if options.on_end_mass is OnEndMass.WARN else {"on_end_mass": options.on_end_mass.value}),
            **({} if self.stream is None else self.stream.configuration),
        }

    # ----- what there is so far

    def _solution(self, result: Result, density: Any, diagnostics: dict[str, Array], seconds: float | None) -> Solution:
        solver, problem, flow = self.solver, self.solver.problem, self.solver.flow
        stats = run_stats(diagnostics, balanced=flow.balanced, evaluations=flow.evaluations, leak=self.leak)
        return Solution(
            grid=solver.grid,
            times=np.array(self.times),
            density=density,
            energy=np.array(self.energies),
            diagnostics=diagnostics,
            response=np.array(self.recorder.responses),
            result=result,
            stats={
                **stats,
                "redone": self.redone,  # also those of a step that was given up
                "narrowest_layer": self.watch.narrowest,
                "steepest_descent": self.watch.steepest,
                **known_minimum(problem),
            },
            warnings=list(self.notes),
            remarks=[text for text in (self._no_certificate(), problem.caveat, *self.watch.remarks) if text],
            configuration=dict(self.configuration),
            provenance=provenance(seconds, self.before),
            state=self.state,
            problem=problem,
            point_values=solver.scheme.point_values,
            name=problem.name,
            fingerprint=self.fingerprint,
            errors=self.companion.errors(),
            companion=self.companion.kept(self.state.t),
            plain=plain_attributes(problem, solver.grid, self.configuration),
            description=self.description,
        )

    def _no_certificate(self) -> str:
        return no_certificate(self.solver.flow.convex, self.solver.problem.bound_energy.lyapunov)

    def _counts(self) -> dict[str, float]:
        return {"evaluations": self.solver.flow.evaluations, "leak": self.leak}

    def _start_stream(self) -> None:
        """Make the file, with what there is: the first density, or all of the run before."""
        assert self.stream is not None
        density = self.state.mu[None] if self.history is None else self.history.density
        first = self._solution(Result.UNFINISHED, density, self.recorder.arrays(), None)
        self.stream.start(first, len(self.targets) + 1)
        self.history = None

    def _reach(self, t: float, energy: float, at: Evaluation, free: FreeEnergy | None) -> None:
        """Look at a state that is saved, which is where the frames have it."""
        self.times.append(t)
        self.energies.append(energy)
        self.watch.see(t, at.mu, lambda: at.V)
        self.companion.estimate(t, at, free, self.watch.steepest)

    def _keep(self) -> None:
        """Save the state's density."""
        if self.frames is not None:
            self.frames[len(self.times)] = self.state.mu
        self._reach(self.state.t, self.recorder.rows["energy"][-1], self.at, self.free)
        if self.stream is None:
            return
        if len(self.times) == 1:
            self._start_stream()
        else:
            rows, responses, beside = self.recorder.rows, self.recorder.responses, self.companion.beside(self.state.t)
            self.stream.add(self.state, rows, responses, self._counts(), beside)
        self.written = time.perf_counter()

    # ----- the run

    def complete(self) -> Solution:
        """Run to the end, whatever that is."""
        solver, problem = self.solver, self.solver.problem
        start = self.times[0] if self.times else self.state.t
        with (
            thread_limit(self.options.threads, solver.grid.size),
            progress_bar(self.options.progress, problem.name, start, self.targets[-1]) as show,
            interruptible() as interrupted,
            contextlib.ExitStack() as leaving,
        ):
            if self.stream is not None:
                leaving.callback(self.stream.abandon)
            self._begin()
            result = Result.SUCCESS
            for target in self.targets:
                while result is Result.SUCCESS and self.state.t < target:
                    if self.steps == self.options.max_steps:
                        result = Result.MAX_STEPS
                        break
                    if solver.program is None:
                        result = self._taken(*solver.step(self.state, target), show)
                    else:
                        result = self._stretch(solver.program, interrupted, show)
                    if result is Result.SUCCESS:
                        result = self._between_steps(target, interrupted)
                if result is not Result.SUCCESS:
                    break
                if self.times[-1] < target:
                    self._keep()
            solution = self._end(result)
        if self.shared:
            put_away(solver, None if self.companion.reason else self.companion.solver)
        return solution

    def _begin(self) -> None:
        """Evaluate the state that the run starts from, and record it unless it goes on from there."""
        solver, state = self.solver, self.state
        at = solver.evaluate(state)
        valued = math.isfinite(at.energy) or not solver.problem.bound_energy.lyapunov
        if not (valued and np.all(np.isfinite(at.V))):
            where = cell_not_finite(at.V, solver.grid)
            raise ValueError(
                "the potential of the initial measure is not finite; look at the energy's functions"
                + (f" (V is {where})" if where else f" (the energy is {at.energy:g})")
            )
        self.tau = tau = solver.problem.temperature(state.t)
        self.at, self.free = at, solver.free_energy(at, tau)
        if not self.times:
            self.recorder.arrive(state.t, at, self.free, tau)
            self.companion.begin(state, self.options.initial)
            self._keep()
        elif self.stream is not None:
            self._start_stream()

    def _taken(self, new: State, info: StepInfo, show: Any) -> Result:
        """Record a step: the state that it leaves, and the new one; how the run stands."""
        solver, problem, recorder = self.solver, self.solver.problem, self.recorder
        self.redone += info.redone
        if info.result is not None:
            return info.result
        before = self.at
        dissipation = self._leave(info.first_rate, info.cell)
        self.leak += info.leak
        self.steps += 1
        self.state = state = new
        at = solver.evaluate(state)
        if solver.flow.balanced:
            state, at = self._without_rounding(state, at)
        self.at, self.tau = at, problem.temperature(state.t)
        tau = self.tau
        self.free = solver.free_energy(at, tau) if at.mass > 0.0 else None
        recorded = recorder.arrive(state.t, at, self.free, tau, StepMade(info.dt, info.error, info.redone))
        self.companion.advance(state.t, state.n_steps)
        show(state.t, recorded.energy)
        if not at.mass > 0.0:
            return Result.EXTINCT
        result = self._within_limits()
        if result is Result.SUCCESS and self._stops(before, info.dt, recorded, dissipation):
            result = Result.STOPPED
        return result

    def _stops(self, before: Evaluation, dt: float, recorded: Recorded, dissipation: float) -> bool:
        """Whether the condition of the user's is met."""
        state, at, stop = self.state, self.at, self.options.stop
        if stop is None:
            return False
        change = _distance(state.mu, before.mu) / (dt * float(before.mu.sum()))
        mu, V = read_only(state.mu, at.V)
        return stop(Snapshot(state.t, state.n_steps, mu, V, *recorded, dissipation, change))

    def _stretch(self, program: Program, interrupted: Any, show: Any) -> Result:
        """Compiled steps from save time to save time, for about a twentieth of a second; how the run stands."""
        recorder, options, solver, began = self.recorder, self.options, self.solver, time.perf_counter()
        asks = options.stop is not None and type(options.stop) not in (EnergyBelow, GapBelow, SteadyState)
        one = asks or interrupted() or self._time_is_over()
        most = min(1 if one else self.pace, options.max_steps - self.steps)
        before, done, first = self.at, len(self.times), bisect_right(self.targets, self.state.t)
        # what goes to a file does so at each save time
        ahead = self.targets[first : first + (1 if self.frames is None or most == 1 else MOST_SAVES)]
        with solver.flow.turns:
            program.leak, program.scale = self.leak, self.scale
            room = None if self.frames is None else self.frames[done : done + len(ahead)]
            self.state, advanced = program.advance(self.state, ahead, ahead[-1], most, self._bounds(), room)
            self.leak, self.scale = program.leak, program.scale
            made = len(advanced.rows)
            self.redone += program.last().redone if advanced.failed else 0
            self.at = solver.evaluate(self.state)
        self.tau = solver.problem.temperature(self.state.t)
        self.free = solver.free_energy(self.at, self.tau) if self.at.mass > 0.0 else None
        self.steps += made
        if made:
            rows = recorder.rows
            recorder.extend(advanced.rows, advanced.responses)
            self.redone += int(advanced.rows[:, R_REDONE].sum())
            self.companion.follow(advanced.rows[:, R_TIME], self.state.n_steps)
            for t, (count, at) in zip(ahead, advanced.saved, strict=False):
                free = solver.free_energy(at, solver.problem.temperature(t))
                self._reach(t, float(advanced.rows[count - 1, R_ENERGY]), at, free)
            show(self.state.t, rows["energy"][-1])
            result = advanced.result or Result.SUCCESS
            if asks and result is Result.SUCCESS:
                recorded = Recorded(rows["energy"][-1], rows["optimality_gap"][-1])
                dissipation = float(advanced.rows[0, R_TRANSPORT] + advanced.rows[0, R_REACTION])
                if self._stops(before, rows["dt"][-1], recorded, dissipation):
                    return Result.STOPPED
            a_step = (time.perf_counter() - began) / made
            self.pace = int(min(max(self.within / a_step, 1.0), 2.0 * self.pace, MOST_ROWS))
        return advanced.result or Result.SUCCESS

    def _bounds(self) -> Bounds:
        """What ends a stretch of steps."""
        rows, limits, stop = self.recorder.rows, self.options.limits, self.options.stop
        ends = rows["end_mass"]
        return Bounds(
            rows["mass"][0],
            limits.energy_increase,
            limits.mass_drift,
            math.inf if self.options.on_end_mass is OnEndMass.WARN else max(limits.end_mass, 2.0 * ends[0]),
            float(stop.value) if type(stop) is EnergyBelow else math.nan,
            float(stop.value) if type(stop) is GapBelow else math.nan,
            float(stop.rate) if type(stop) is SteadyState else 0.0,
        )

    def _leave(self, rate: Array, cell: int) -> float:
        """Record what is known of the present state when it is left, with the transport's rate of change there."""
        problem, t = self.solver.problem, self.state.t
        departure = Departure(self.at, self.free, rate, problem.schedule(t), problem.alpha(t), self.tau, cell)
        return self.recorder.leave(departure)

    def _between_steps(self, target: float, interrupted: Any) -> Result:
        """What ends a run from outside, and checkpoints."""
        now = time.perf_counter()
        if interrupted():
            return Result.INTERRUPTED
        if self._time_is_over() and self.state.t < self.targets[-1]:
            return Result.TIME_LIMIT
        if self._checkpoint_is_due(now) and self.state.t < target:
            assert self.stream is not None
            rows, responses, beside = self.recorder.rows, self.recorder.responses, self.companion.beside(self.state.t)
            self.stream.checkpoint(self.state, rows, responses, self._counts(), beside)
            self.written = time.perf_counter()
        return Result.SUCCESS

    def _time_is_over(self) -> bool:
        limit = self.options.time_limit
        return limit is not None and working_time() - self.worked > limit

    def _without_rounding(self, state: State, at: Evaluation) -> tuple[State, Evaluation]:
        """The state with the mass that the fluxes left, once the rounding errors of its sums have become `ROUNDED`.

        A step rounds the mass by a unit of the last place, and a slow run does so the same way in every step: over
        10^6 steps 1e-11 of the mass. What a step loses by more than rounding is left as it is, to be seen.
        """
        kept = self.recorder.rows["mass"][0] * (1.0 + self.leak)
        if ROUNDED < abs(at.mass / kept - 1.0) < 1.05 * ROUNDED:
            self.state = state = dataclasses.replace(state, mu=state.mu * (kept / at.mass))
            at = self.solver.evaluate(state)
        return state, at

    def _note_undershoot(self) -> None:
        """Say so where a scheme has turned the density negative."""
        least = np.array(self.recorder.rows["minimum"])
        if self.solver.scheme.positive or not least.min() < 0.0:
            return
        k = int(np.argmin(least))
        t, mean = (
            self.recorder.rows["time"][k],
            self.recorder.rows["mass"][k] / (self.solver.grid.cell_volume * self.solver.grid.size),
        )
        self.notes.append(
            f"{self.solver.scheme!r} does not keep the sign: the density fell to {least[k]:.2g} at t = {t:g}, "
            f"where its mean over the box is {mean:.2g}"
        )

    def _checkpoint_is_due(self, now: float) -> bool:
        every = self.options.checkpoint
        return self.stream is not None and every is not None and now - self.written > every

    def _within_limits(self) -> Result:
        """Whether the last recorded state keeps to the limits."""
        rows, limits = self.recorder.rows, self.options.limits
        energy, mass, ends = rows["energy"], rows["mass"], rows["end_mass"]
        self.scale = max(self.scale, abs(energy[-1]), abs(energy[-2]))
        if energy[-1] - energy[-2] > limits.energy_increase * self.scale:
            return Result.ENERGY_ROSE
        if self.solver.flow.balanced and abs(mass[-1] / mass[0] - 1.0) > limits.mass_drift:
            return Result.MASS_DRIFTED
        if self.options.on_end_mass is not OnEndMass.WARN and ends[-1] > max(limits.end_mass, 2.0 * ends[0]):
            return Result.END_MASS
        return Result.SUCCESS

    def _end(self, result: Result) -> Solution:
        """What the run has come to."""
        solver, problem, recorder, state = self.solver, self.solver.problem, self.recorder, self.state
        if self.times[-1] < state.t:
            self._keep()
        flow, last, tau = solver.flow, self.at, self.tau
        outflow, dt = flow.outflow(last, tau), recorder.rows["dt"][-1] or None
        self._leave(flow.transport.rate(last.mu, last.V, None, dt, tau, outflow=outflow), outflow.cell)
        del last, self.at
        self.free = None
        self.notes += look_at_the_end(problem, solver.grid, state.t, state.mu, self.targets[-1])
        self.notes += self.watch.warnings
        self._note_undershoot()
        diagnostics = recorder.arrays()
        density = np.empty((0, *solver.grid.shape)) if self.frames is None else self.frames[: len(self.times)]
        seconds = time.perf_counter() - self.began + self.before.pop("seconds", 0.0)
        solution = self._solution(result, density, diagnostics, seconds)
        frozen = getattr(solver.method, "potential", None) is Potential.START
        remedy = "take Potential.AVERAGE, or shorter steps" if frozen else "refine the mesh"
        solution.warnings += notes_of(solution, self.options.limits, rises=decays(problem), remedy=remedy)
        judge(solution, self.options.tolerance)
        if self.stream is not None:
            self.stream.finish(solution)
        return solution


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
