"""The `Solver`: one problem on one mesh with one scheme, for `mfpde.solve` and for those who step by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import Constant, Schedule, invert_clock
from mfpde.mesh.algebra import Algebra
from mfpde.mesh.compiled.run_structures import R_ERROR
from mfpde.mesh.constants import DT_FLOOR
from mfpde.mesh.controllers import Controller, ErrorControl, FixedStep, step_doubling
from mfpde.mesh.defaults import default_method, default_scheme
from mfpde.mesh.flow import make_flow
from mfpde.mesh.kept import kept
from mfpde.mesh.kinds import PARTS
from mfpde.mesh.methods.base import Method
from mfpde.mesh.program import Program, program_of
from mfpde.mesh.record import Result, State
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, FreeEnergy
from mfpde.mesh.solution import Solution
from mfpde.support.arguments import NUMBER, floats, numbers, one_of, real, require, shown
from mfpde.support.arrays import Array
from mfpde.support.threads import one_blas_thread

__all__ = ["Solver", "StepInfo"]


EXAMPLES = {
    "scheme": "mf.Weno5()",
    "method": "mf.Strang()",
    "controller": "mf.ErrorControl()",
    "algebra": "mf.NumpyAlgebra()",
}
STEPS = ErrorControl()
"""What settles the length of steps where nothing else is named."""
MASS_GIVEN = 1e-6
"""How far the mass of a density that is handed in may be from 1: single precision, or a run of many steps."""


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
    shape : int or sequence of int, optional
        Cells along each axis, or along every axis; default: the problem's suggestion.
    scheme : Scheme, optional
        Transport: `Weno5`, `Muscl`, `Upwind`, or `ScharfetterGummel` for a temperature above 0. Default: see
        `default_scheme`.
    method : Method, optional
        `ExponentialSSPRK3`, `Strang`, `Lie`, a `Splitting`, or with `ScharfetterGummel` `ImplicitStrang` and
        `ImplicitEuler`. Default: see `default_method`; ``repr`` of the solver says what was chosen and why.
    controller : Controller, optional
        `ErrorControl` (default), `CourantControl` or `FixedStep`.
    t_end : float, optional
        Until when it is to step, a time above 0: the scheme and the method that are taken where none is named depend
        on it. Default: the problem's.
    algebra : Algebra, optional
        What the operations on arrays are done with: `CompiledAlgebra` (default), `NumpyAlgebra`.

    Notes
    -----
    Threads may share a solver. They take turns, step by step, and get what each would get alone; where they are to run
    at the same time, each needs a solver of its own.

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
        t_end: float | None = None,
        algebra: Algebra | None = None,
    ) -> None:
        if not isinstance(problem, Problem):
            what = "a file that holds none (load it with problem=)" if problem is None else shown(problem)
            raise TypeError(f"solve needs a Problem, not {what}; see mfpde.problems")
        for name, thing, kind in (
            ("scheme", scheme, Scheme),
            ("method", method, Method),
            ("controller", controller, Controller),
            ("algebra", algebra, Algebra),
        ):
            if thing is not None and not isinstance(thing, kind):
                article = "an" if kind is Algebra else "a"
                raise ValueError(
                    f"{name} must be {article} {kind.__name__} object such as {EXAMPLES[name]}, not {shown(thing)}"
                )
        if t_end is not None and not (real(t_end) and t_end > 0.0):
            raise ValueError(f"t_end = {shown(t_end)} must be finite and lie after the start, t = 0")
        require_capability(problem.bound_energy, "mesh", "solve")
        self.problem = problem
        self.grid: Grid = problem.grid(shape)
        self._reasons: dict[str, str] = {}
        if scheme is None:
            scheme, self._reasons["scheme"] = default_scheme(problem, self.grid, t_end)
        self.scheme: Scheme = scheme
        if method is None:
            method, self._reasons["method"] = default_method(problem, self.grid, scheme, t_end)
        method.check(problem, scheme)
        self.method: Method = method
        self.controller: Controller = STEPS if controller is None else controller
        with one_blas_thread():
            self.flow = make_flow(problem, self.grid, self.scheme, algebra)
        self._last: Evaluation | None = None
        self.program: Program | None = program_of(self.flow, self.method, self.controller)
        """What steps are made by on small meshes; None where Python goes from pass to pass."""
        self.coarser: Solver | None = None
        """That of the companion of a run that has done with both, see `mfpde.mesh.spare`."""

    def __repr__(self) -> str:
        algebra_is_default = self.flow.algebra.name == "compiled"

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
                *([] if algebra_is_default else [line("algebra", self.flow.algebra)]),
                *([f"  {'note':<11} {self.problem.caveat}"] if self.problem.caveat else []),
            ]
        )

    @functools.cached_property
    def words(self) -> dict[str, str]:
        """Scheme, method and controller as lines, see `mfpde.support.registry`."""
        return {name: PARTS[name].to_text(getattr(self, name)) for name in ("scheme", "method", "controller")}

    def init(self, initial: Measure | State | Solution | Array | None = None) -> State:
        """The first state: the problem's initial measure, or another start.

        Parameters
        ----------
        initial : Measure, State, Solution or array, optional
            A measure is restricted to the box and normalised; an array of cell values is taken as it is;
            a state or solution goes on where it ended.

        Raises
        ------
        ValueError
            For a density of another shape, with values that are negative (where the scheme keeps the sign) or not
            finite, without mass, or of a mass other than 1, by more than 1e-6, where the problem conserves mass.
        """
        if isinstance(initial, Solution):
            initial = initial.state
        if isinstance(initial, State):
            self._check_density(initial.mu)
            return initial
        restricted = self.law(initial)
        if initial is None:
            what = "start", self.scheme.point_values, self.scheme.positive
            return State(0.0, kept(self.problem, self.grid, what, self._own_start).copy())
        if restricted is not None:
            mu = self._values(restricted)
        else:
            mu = numbers(initial, "the initial density")
        self._check_density(mu)
        return State(0.0, mu)

    def _own_start(self) -> Array:
        mu = self._values(self.problem.mu_0)
        self._check_density(mu)
        return mu

    def _values(self, law: RestrictedMeasure) -> Array:
        return law.point_values(self.grid) if self.scheme.point_values else law.cells(self.grid)

    def law(self, initial: Measure | State | Solution | Array | None = None) -> RestrictedMeasure | None:
        """The probability measure on the box that a start is made of; None for densities on the mesh."""
        if initial is None:
            return self.problem.mu_0
        return initial.restrict(self.grid.axes) if isinstance(initial, Measure) else None

    def _check_density(self, mu: Array) -> None:
        floats(mu, "the initial density")
        if mu.shape != self.grid.shape:
            raise ValueError(f"the initial density has shape {mu.shape}, the mesh {self.grid.shape}")
        if not np.all(np.isfinite(mu)):
            raise ValueError("the initial density has entries that are not finite")
        if mu.min() < 0 and self.scheme.positive:
            raise ValueError(f"the initial density is negative somewhere (minimum {mu.min():.3g})")
        total = float(mu.sum())
        if not total > 0.0:
            raise ValueError("the initial density has no mass")
        self._check_mass(total)

    def _check_mass(self, total: float) -> None:
        """Refuse the mass of another problem: where mass is conserved, the equation is that of probabilities."""
        volume = self.grid.cell_volume
        mass = total * volume
        if not self.flow.balanced or abs(mass - 1.0) <= MASS_GIVEN:
            return
        if abs(total - 1.0) <= MASS_GIVEN:
            raise ValueError(
                f"the initial density has mass {mass:.6g}, and its values add up to 1: they are probabilities of "
                f"cells; divide them by grid.cell_volume = {volume:.6g}"
            )
        raise ValueError(
            f"the initial density has mass {mass:.6g}, and the problem conserves mass 1; normalise it, "
            'mu / (mu.sum() * grid.cell_volume), or take a problem with reaction="unbalanced"'
        )

    def evaluate(self, state: State) -> Evaluation:
        """The potential, energy and response of a state (kept from the step that made it)."""
        if not isinstance(state, State):
            require(state=(state, one_of(State)))
        last = self._last  # of the thread that was here last
        if last is None or last.mu is not state.mu:
            self._last = last = self._evaluated(state)
        return last

    def _evaluated(self, state: State) -> Evaluation:
        if self.program is None:
            return self.flow.evaluate(state.mu)
        with self.flow.turns:
            self.program.hold(state)
            return self.program.evaluation()

    def forget(self) -> None:
        """What has been evaluated counts no more."""
        self._last, self.flow.evaluations = None, 0

    def free_energy(self, at: Evaluation, temperature: float) -> FreeEnergy | None:
        """What a temperature adds to an evaluation; None at temperature 0."""
        if not (isinstance(at, Evaluation) and isinstance(temperature, float)):
            require(at=(at, one_of(Evaluation)), temperature=(temperature, NUMBER))
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
        if not (isinstance(state, State) and isinstance(until, float)):  # quick where all is well: this is every step
            require(state=(state, one_of(State)), until=(until, NUMBER))
        if not until > state.t:
            raise ValueError(f"until = {until:g} must lie after the state's time {state.t:g}")
        with self.flow.turns:  # the flow and the transport have one set of arrays to work on
            if self.program is not None:
                return self._by_program(self.program, state, until)
            problem, flow, controller, method = self.problem, self.flow, self.controller, self.method
            clock, alpha, temperature = problem.schedule, problem.alpha, problem.temperature(state.t)
            start = self.evaluate(state)
            outflow = flow.outflow(start, temperature)
            bound = method.bound(flow, start, temperature)
            stiffness = 0.0 if method.consistent else self._stiffness(state, start)
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
                    first_rate = flow.transport.rate(start.mu, start.V, None, euler, temperature, outflow=outflow)
                if length == 0.0 and dt > 0.0:  # the clock stands still, and so does the density
                    self._last = start
                    new = State(t_new, state.mu, state.n_steps + 1, state.length, state.memory)
                    return new, StepInfo(None, dt, 0.0, 0.0, 0, first_rate, bound, outflow.cell)
                # what is left to `until` may be as short as it is asked for
                if not (dt > floor or t_new == until):
                    result = Result.DT_MIN if finite and np.isfinite(first_rate).all() else Result.NOT_FINITE
                    return state, StepInfo(result, dt, None, 0.0, redone, first_rate, bound, outflow.cell)
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
                finite = end is None or self._finite(end)
                if not finite:
                    accepted, following = False, 0.25 * length
                if accepted and end is not None:
                    break
                redone += 1
                if fixed:
                    result = Result.STEP_TOO_LARGE if finite else Result.NOT_FINITE
                    return state, StepInfo(result, dt, None, 0.0, redone, first_rate, bound, outflow.cell)
                proposal = following
            if length < wanted:
                # cut short by a save time: the next step need not start from the cut length
                following = max(following, wanted)
            self._last = end
            new = State(t_new, end.mu, state.n_steps + 1, following, memory)
            return new, StepInfo(None, dt, outcome.error, outcome.leak, redone, first_rate, bound, outflow.cell)

    def _stiffness(self, state: State, start: Evaluation) -> float:
        """``alpha osc f(V)``: how fast the reaction can be."""
        return self.problem.alpha(state.t) * self.flow.reaction.range_of(start.survey.low, start.survey.high)

    def _by_program(self, program: Program, state: State, until: float) -> tuple[State, StepInfo]:
        """One step of the compiled program."""
        if not (state.t >= 0.0 and until < math.inf):
            self.problem.schedule.integral(state.t, until)  # says what times there are
        new, advanced = program.advance(state, [until], until, 1)
        last = program.last()
        if advanced.failed:
            return state, StepInfo(
                advanced.result, last.dt, None, 0.0, last.redone, last.first_rate, last.bound, last.cell
            )
        error = float(advanced.rows[0, R_ERROR])  # NaN where none was asked for
        known = None if math.isnan(error) else error
        return new, StepInfo(None, last.dt, known, last.leak, last.redone, last.first_rate, last.bound, last.cell)

    def _finite(self, end: Evaluation) -> bool:
        """Whether a step has led somewhere; a potential that belongs to no energy shows by its mean alone."""
        judged = end.energy if self.problem.bound_energy.lyapunov else end.mean
        return math.isfinite(judged) and math.isfinite(end.mass)

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
