"""Nodes with weights, their equations of motion, and their integration."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.finite import NotFiniteError, check_finite, place_of, response_culprit
from mfpde.equation.grid import moving
from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.schedules import Constant, PiecewiseLinear, invert_clock
from mfpde.lagrangian.bulk import Bulk
from mfpde.lagrangian.groups import Groups
from mfpde.lagrangian.tables import lobatto
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.saves import distinct_times

__all__ = [
    "Dynamics",
    "Engine",
    "FEWEST_STEPS",
    "Flow",
    "LIGHT",
    "OutOfTime",
    "RTOL_FLOOR",
    "Record",
    "Run",
    "STENCIL_STEP",
    "Stepping",
    "coordinates_of",
    "density_back",
    "energies_of",
    "integrate",
    "judged",
    "leeway",
    "method",
    "pieces",
    "run_of",
    "singular",
]

RTOL_FLOOR = 1e-13
MOST_STEPS = 10_000
"""Steps of a run, at most: smooth flows take hundreds."""

DEGREE = 7
"""Degree of the polynomial in time that a step's response is recorded by: that of the method's dense output."""
RECORD_LIMIT = 2**29
"""Bytes of recorded response above which a record of whole measures (energies without factorisation) is refused."""
LIGHT = 1e-6
"""Nodes lighter than this fraction of the average are integrated as accurately as if they were that heavy."""
FEWEST_STEPS = 0.5
"""Steps of the method of fifth order in a run, at least, times the fifth root of its tolerance. Where a handful of them
does, errors follow the tolerance by leaps; this way a hundredth of it leaves a hundredth of the error."""
STENCIL_STEP = 2e-3
"""Step of the differences for ``div(G grad V)``, as a fraction of the axis' length."""


class OutOfTime(Exception):
    """A run that reached its deadline."""


class Dynamics:
    """Velocity and birth-death rate at points, with the walls and the clock of a problem.

    The integration variable is the clock ``S = int s dt``, in which the schedule disappears (also where it is
    infinite or zero). A node beyond a wall counts as lying on it, with the velocity it has there, and is put back
    on the wall after each step: the right-hand side stays continuous, so that nodes at walls do not cut the step.
    """

    def __init__(self, problem: Problem, who: str = "characteristics") -> None:
        problem.refuse_terms("nodes")
        temperature = problem.temperature
        if not (isinstance(temperature, Constant) and temperature(0.0) == 0.0):
            raise ValueError(f"temperature {temperature!r}: characteristics exist at temperature 0 only")
        if problem.reinjection is not None:
            raise ValueError(
                "reinjection creates mass away from the nodes, so characteristics do not represent it; use solve()"
            )
        self.problem = problem
        self.stencil_step = STENCIL_STEP
        self.bound = problem.bound_energy
        require_capability(self.bound, "points", who)
        if self.bound.discontinuous_gradient:
            raise ValueError(
                f"the velocity of {problem.name!r} is discontinuous (a unit such as relu), so characteristics are not "
                "unique and quadrature does not converge; use solve(), or a smooth activation"
            )
        axes = tuple(problem.axes)
        self.dimension = len(axes)
        self.periodic = np.array([axis.periodic for axis in axes])
        self.circles = [i for i, axis in enumerate(axes) if axis.periodic]
        self.lower = np.array([axis.lower for axis in axes])
        self.upper = np.array([axis.upper for axis in axes])
        self.length = self.upper - self.lower
        self.scaled = [i for i, g in enumerate(problem.rates or ()) if g is not None]
        """Axes along which the metric is not 1."""
        # one bound for each axis: periodic ones have none
        self.floor = np.where(self.periodic, -np.inf, self.lower)[:, None]
        self.ceiling = np.where(self.periodic, np.inf, self.upper)[:, None]
        # at temperature 0 the free energy is the energy
        self.balanced = problem.reaction is not Reaction.UNBALANCED
        self.groups = Groups(problem)
        self.reacts = not (isinstance(problem.alpha, Constant) and problem.alpha(0.0) == 0.0)

    def __reduce__(self) -> Any:
        """As that of its problem."""
        return type(self), (self.problem,), {"stencil_step": self.stencil_step}

    def place(self, rows: Array) -> Array:
        """Coordinates (..., d, n) as points (..., n, d) of the box: walls hold, periodic axes wrap."""
        rows = np.maximum(rows, self.floor)
        np.minimum(rows, self.ceiling, out=rows)
        for i in self.circles:
            rows[..., i, :] = self.lower[i] + np.mod(rows[..., i, :] - self.lower[i], self.length[i])
        # columns of the result are contiguous, which is how energies read them
        return rows.swapaxes(-1, -2)

    def velocity(self, points: Array, response: Array) -> Array:
        """``-G grad V`` at points, shape ``(d, n)``."""
        velocity = np.negative(self.bound.gradient(points, response).T, order="C")
        for i in self.scaled:
            velocity[i] *= self.problem.mobility(i, *points.T)
        return self.finite(velocity, points, response, "the velocity")

    def rate(self, points: Array, response: Array) -> Array:
        """``f(V)`` at points."""
        V = self.bound.potential(points, response)
        rate = V if self.problem.rate is None else values_of(self.problem.rate, V)
        if self.problem.one_by_one is not None:
            position, species = self.problem.one_by_one
            rate = species.scale(points[:, position]) * rate
        return self.finite(rate, points, response, "the birth-death rate")

    def finite(self, values: Array, points: Array, response: Array, what: str) -> Array:
        """Values (..., n) at points, if they are finite; else an error that names the place."""
        if not math.isfinite(np.vdot(values, values)) and not np.isfinite(values).all():
            axes = tuple(self.problem.axes)
            culprit = response_culprit(self.bound, points)
            if culprit is not None:
                raise NotFiniteError("a feature of the energy", culprit[0], place_of(axes, culprit[1]), time=self.time)
            check_finite(values.T, points, axes, what, time=self.time)
        return values

    def stencil(self, points: Array, i: int) -> tuple[Array, Array]:
        """Seven neighbours along axis `i`, within the box: points (7 n, d), and weights (7, n) of the derivative."""
        n, d = points.shape
        h = self.stencil_step * self.length[i]
        shift = np.zeros(n, dtype=np.intp)
        if not self.periodic[i]:
            room_below = np.floor((points[:, i] - self.lower[i]) / h).astype(np.intp)
            room_above = np.floor((self.upper[i] - points[:, i]) / h).astype(np.intp)
            shift = np.clip(3 - room_below, 0, 3) - np.clip(3 - room_above, 0, 3)
        moved = np.repeat(points[None], 7, axis=0)
        moved[:, :, i] += h * (np.arange(-3, 4)[:, None] + shift)
        return self.place(moved.reshape(-1, d).T), _difference_weights()[shift + 3].T / h

    def divergence(self, points: Array, response: Array) -> Array:
        """``div(G grad V)`` at points by seven-point differences of ``g_i d_i V`` of order six, within the box."""
        n, d = points.shape
        axes = moving(self.problem.axes)
        stencils = [self.stencil(points, i) for i in axes]
        everywhere = np.concatenate([moved for moved, _ in stencils])
        gradient = self.bound.gradient(everywhere, response).reshape(len(axes), 7 * n, d)
        result = np.zeros(n)
        for i, (moved, weights), slopes in zip(axes, stencils, gradient, strict=True):
            flux = slopes[:, i]
            if i in self.scaled:
                flux = self.problem.mobility(i, *moved.T) * flux
            self.finite(flux, moved, response, "the velocity")
            result += (weights * flux.reshape(7, n)).sum(axis=0)
        return result

    # time

    def clock(self, t: float) -> float:
        """``S(t) = int_0^t s``."""
        return self.problem.schedule.integral(0.0, t)

    def clocks(self, times: Array) -> Array:
        """`clock` of several times."""
        schedule = self.problem.schedule
        if isinstance(schedule, Constant):
            return np.asarray(times * schedule(0.0))
        return np.array([self.clock(t) for t in times.tolist()])

    def time(self, S: float) -> float:
        """The first time at which the clock shows `S`."""
        schedule, until = self.problem.schedule, self.problem.t_end
        if isinstance(schedule, Constant):
            return S / schedule(0.0)
        for _ in range(64):  # a run may be longer than the problem's
            if schedule.integral(0.0, until) >= S:
                break
            until *= 2.0
        return invert_clock(schedule, 0.0, until, S) if S > 0 else 0.0

    def alpha(self, S: float, t_end: float) -> float:
        """The birth-death rate when the clock shows `S`."""
        alpha, schedule = self.problem.alpha, self.problem.schedule
        if isinstance(alpha, Constant):
            return alpha(0.0)
        if isinstance(schedule, Constant):
            return alpha(min(max(S / schedule(0.0), 0.0), t_end))
        return alpha(self._time_by(S, t_end))

    def _time_by(self, S: float, t_end: float) -> float:
        """The time in [0, t_end] at which the clock shows `S`, as `time` in a tenth of the steps."""
        from scipy.optimize import brentq

        clock = self.problem.schedule.integral
        if S <= 0.0:
            return 0.0
        if clock(0.0, t_end) <= S:
            return t_end
        return float(brentq(lambda t: clock(0.0, t) - S, 0.0, t_end, xtol=1e-300, rtol=1e-15))

    def breaks(self, t_end: float) -> list[float]:
        """Clock values inside the run at which the right-hand side is not smooth."""
        alpha = self.problem.alpha
        if not isinstance(alpha, PiecewiseLinear):
            return []
        knots = alpha.times
        return [self.clock(t) for t in distinct_times(knots, (0.0, t_end)) if 0.0 < t < t_end]


@cache
def _difference_weights() -> Array:
    """Row ``s + 3``: weights of the derivative at 0 from values at ``s - 3 .. s + 3``, exact for degree six."""
    rows = []
    for shift in range(-3, 4):
        at = np.arange(-3, 4) + shift
        # the derivatives at 0 of the Lagrange polynomials, from their products: exact in small integers
        row = np.zeros(7)
        for j in range(7):
            others = np.delete(at, j)
            numerator = sum(float(np.prod(np.delete(-others, k))) for k in range(6))
            row[j] = numerator / float(np.prod(at[j] - others))
        rows.append(row)
    return np.array(rows)


class Record:
    """A vector function of the clock: polynomials between knots, by their values at Chebyshev-Lobatto points.

    Parameters
    ----------
    start : float
        The first knot.
    degree : int, optional
        Of the polynomials; default: as in a record of steps.
    """

    def __init__(self, start: float, degree: int = DEGREE) -> None:
        self.knots = [start]
        self.values: list[Array] = []
        self.nbytes = 0
        self.x, self.w = lobatto(degree)

    def places(self, a: float, b: float) -> Array:
        """The clock values, both ends included, at which the function is recorded between two knots."""
        return a + (b - a) * 0.5 * (1.0 + self.x)

    def append(self, end: float, values: Array) -> None:
        """Add the polynomial up to a knot, by its values (degree + 1, r) at `places`."""
        self.knots.append(end)
        self.values.append(values)
        self.nbytes += values.nbytes

    def __call__(self, S: float) -> Array:
        """The vector (r,) when the clock shows `S`."""
        i = int(np.searchsorted(self.knots, S, side="right")) - 1
        i = min(max(i, 0), len(self.values) - 1)
        distance = S - self.places(self.knots[i], self.knots[i + 1])
        hit = int(np.argmin(np.abs(distance)))
        if distance[hit] == 0.0:
            return self.values[i][hit].copy()
        share = self.w / distance
        return np.asarray(share @ self.values[i]) / share.sum()


class Engine(NamedTuple):
    """What moves the nodes.

    Attributes
    ----------
    compiled : bool
        Whether a compiled program does, see `mfpde.lagrangian.lane`.
    reason : str
        Of what its tables are; or why there is none.
    """

    compiled: bool
    reason: str

    def __str__(self) -> str:
        return f"{'compiled' if self.compiled else 'Python'}: {self.reason}"


ASKED = Engine(False, "asked for")


@dataclass(frozen=True, eq=False)
class Run:
    """One set of nodes integrated with one tolerance."""

    start: Array
    points: Array  # (m, N, d)
    weights: Array  # (m, N)
    energy: Array
    moments: Array  # (m, r)
    coordinates: Array  # first and second moments of the coordinates, in lengths of the axes
    evaluations: int
    steps: int
    seconds: float
    drift: float
    engine: Engine
    looked: tuple[Array, Array]  # points and weights at all times, judged or not
    tables: object = None  # in whose functions the moments are; without any they are those of the energy
    last: float = math.nan  # the last energy by tables, where a compiled program has made the run
    bulk: Bulk | None = None  # where these tables are accurate, if not everywhere


def method(
    function: Callable[[float, Array], Array],
    start: float,
    y: Array,
    end: float,
    rtol: float,
    scale: Array | float = 1.0,
    other: bool = False,
    longest: float = math.inf,
) -> Iterator[tuple[Any, float]]:
    """Steps of an eighth-order Runge-Kutta method from `start` to `end`; yields it, and the clock before each step.

    `other` takes one of fifth order; no step is longer than `longest`.

    The mean square of the errors over ``rtol * scale`` is kept below 1. A birth-death rate may jump at both ends: the
    function is asked a hair inside of them. Where it is not finite at the start that is an error; in the middle of a
    step the step is repeated, shorter, and it is an error once there is no shorter one.
    """
    from scipy.integrate import DOP853, RK45

    low, high = min(start, end), max(start, end)
    low, high = low + 1e-13 * (high - low), high - 1e-13 * (high - low)
    begun, trouble = False, None

    def within(S: float, y: Array) -> Array:
        nonlocal begun, trouble
        if trouble is not None and not np.isfinite(y).all():  # a stage after one that failed
            return np.full_like(y, np.nan)
        try:
            rates = function(min(max(S, low), high), y)
            if math.isfinite(rates @ rates) or np.isfinite(rates).all():
                begun = True
                return rates
            trouble = FloatingPointError(f"the motion of the nodes is not finite at clock {S:g}; shorten t_end")
        except NotFiniteError as error:
            trouble = error.at(S)
        if not begun:
            raise trouble
        return np.full_like(y, np.nan)

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step that fails is repeated, shorter
        kind = RK45 if other else DOP853
        solver = kind(within, start, y, end, rtol=2.3e-14, atol=rtol * scale, max_step=longest)
        if not math.isfinite(solver.h_abs):  # SciPy would try this step for ever
            raise FloatingPointError(f"the weights of the nodes are not finite at clock {start:g}; shorten t_end")
        while solver.status == "running":
            before, trouble = solver.t, None
            solver.step()
            if solver.status == "failed":
                if trouble is not None:
                    raise trouble
                raise RuntimeError(
                    f"the step of the characteristics fell below round-off at clock {solver.t:g} of {end:g}: "
                    "the velocity blows up or is not continuous there; shorten t_end, or use solve()"
                )
            yield solver, before


def leeway(weights: Array, fields: int) -> Array:
    """How much larger than average the errors of nodes may be, one number for each of their `fields`.

    With it the mean square of the errors is weighted with the measure. Otherwise nodes of no weight, which fly off
    fastest and are the first at the walls, would set the step.
    """
    share = np.maximum(weights * (len(weights) / weights.sum()), LIGHT)
    return np.tile(1.0 / np.sqrt(share), fields)


@dataclass(frozen=True)
class Stepping:
    """How nodes are integrated in time.

    Attributes
    ----------
    rtol : float
        The mean square of a step's errors, weighted with the measure, is kept below it.
    other : bool
        Take the method of fifth order instead of that of eighth, see `method`.
    deadline : float
        After which no step is begun any more, on the clock of `working_time`.
    most_steps : int
        After which the velocity counts as singular.
    accuracy : float, optional
        How far the velocity may be off, relative to the largest, where that is less than `rtol`, the default; see
        `mfpde.lagrangian.lane`.
    quick : bool
        A compiled run may take the method of fifth order, with its dense output, where the tolerance is so large that
        it takes fewer evaluations, and its energies and moments are those of the tables.
    judged : bool or array of bool
        Whether energies and moments are asked for, and not only where the nodes are; or at which of the times.
    fewest : int
        Steps of a compiled run, at least.
    bulk : Bulk, optional
        Where the mass is: tables are less accurate elsewhere. Default: as accurate everywhere.
    """

    rtol: float
    other: bool = False
    deadline: float = math.inf
    most_steps: int = MOST_STEPS
    accuracy: float | None = None
    quick: bool = False
    judged: bool | NDArray[np.bool_] = True
    fewest: int = 0
    bulk: Bulk | None = None

    @property
    def tables(self) -> float:
        """How far off tables may be: their slopes jump from piece to piece, by not much more than steps allow."""
        return self.rtol if self.accuracy is None else min(self.accuracy, 10.0 * self.rtol)


class Flow:
    """The equation of motion of some nodes and its vector: coordinates, axis after axis, then logs of growth."""

    def __init__(self, dynamics: Dynamics, points: Array, log_mass: Array, t_end: float) -> None:
        self.dynamics, self.start, self.log_mass, self.t_end = dynamics, points, log_mass, t_end
        self.n, self.d = len(log_mass), dynamics.dimension
        self.moving = self.n * self.d
        """Entries that are coordinates."""
        self.fields = self.d + 1 if dynamics.reacts else self.d
        self.mass = np.exp(log_mass)
        self._group = dynamics.groups.of(points) if dynamics.groups.count > 1 else None
        self.evaluations = 0

    def initial(self) -> Array:
        """The vector at the start: nothing has grown yet."""
        y = np.zeros(self.n * self.fields)
        y[: self.moving] = self.start.T.ravel()
        return y

    def unpack(self, y: Array) -> tuple[Array, Array, float]:
        """Points, weights, and the mass before normalising (1 but for the error of integration)."""
        dynamics = self.dynamics
        place = dynamics.place(y[: self.moving].reshape(self.d, self.n))
        if not dynamics.reacts:
            return place, self.mass, 1.0
        # what was next to nothing at the start may be all there is later, and the other way round
        logs = self.log_mass + y[self.moving :]
        if not dynamics.balanced:
            return place, np.exp(logs), 1.0
        # mass is conserved by construction, and a large growth does not overflow
        if self._group is not None:
            return place, *dynamics.groups.weights(self._group, logs, self.mass)
        shift = float(logs.max())
        weights = np.exp(logs - shift)
        total = float(weights.sum())
        return place, weights / total, total * math.exp(min(shift, 700.0))

    def __call__(self, S: float, y: Array) -> Array:
        """The derivative of the vector by the clock."""
        dynamics = self.dynamics
        self.evaluations += 1
        place, weights, _ = self.unpack(y)
        response = dynamics.bound.response(place, weights)
        change = np.empty_like(y)
        change[: self.moving] = dynamics.velocity(place, response).ravel()
        if dynamics.reacts:
            rate = dynamics.rate(place, response)
            if dynamics.balanced:
                rate = rate - dynamics.groups.mean(place, weights, rate)
            np.multiply(rate, -dynamics.alpha(S, self.t_end), out=change[self.moving :])
        return change

    def driving(self, y: Array) -> Array:
        """What moves any other node: the response and, last, the mean birth-death rate of each part."""
        dynamics = self.dynamics
        place, weights, _ = self.unpack(y)
        response = dynamics.bound.response(place, weights)
        means = np.zeros(dynamics.groups.count)
        if dynamics.reacts and dynamics.balanced:
            means = dynamics.groups.means(place, weights, dynamics.rate(place, response))
        return np.append(response, means)

    def confine(self, y: Array) -> None:
        """Put nodes beyond a wall back onto it, in place."""
        rows = y[: self.moving].reshape(self.d, self.n)
        np.clip(rows, self.dynamics.floor, self.dynamics.ceiling, out=rows)


def integrate(
    dynamics: Dynamics,
    nodes: tuple[Array, Array],
    times: Array,
    stepping: Stepping,
    *,
    show: Callable[[float, float], None] | None = None,
    record: Record | None = None,
    engine: Engine = ASKED,
) -> Run:
    """Move the nodes to the save times; with a `record`, also note the response and the mean rate at every time.

    Raises
    ------
    OutOfTime
        At the deadline.
    RuntimeError
        If the velocity blows up, or after the most steps there may be.
    """
    began = time.perf_counter()
    points, log_mass = nodes
    flow = Flow(dynamics, points, log_mass, float(times[-1]))
    clocks = np.array([dynamics.clock(t) for t in times])
    y = flow.initial()
    states = np.empty((len(times), y.size))
    states[0] = y
    saved, steps = 1, 0
    # between its steps the method of fifth order is worse than at their ends, and not by what its tolerance says
    landings = [0.0, *(clocks.tolist() if stepping.other else [float(clocks[-1])])]
    bounds = distinct_times([*landings, *dynamics.breaks(flow.t_end)], landings)
    longest = float(clocks[-1]) * stepping.rtol**0.2 / FEWEST_STEPS if stepping.other else math.inf
    for a, b in itertools.pairwise(bounds):
        slack = leeway(flow.unpack(y)[1], flow.fields)
        for solver, before in method(flow, a, y, b, stepping.rtol, slack, stepping.other, longest):
            steps += 1
            inside: Any = None
            if record is not None or (saved < len(clocks) and clocks[saved] < solver.t):
                inside = solver.dense_output()
                flow.evaluations += 3
            while saved < len(clocks) and clocks[saved] <= solver.t:
                states[saved] = inside(clocks[saved]) if clocks[saved] < solver.t else solver.y
                saved += 1
            if record is not None:
                _record_step(record, flow, solver, before, inside)
            flow.confine(solver.y)
            y = solver.y
            place, weights, _ = flow.unpack(y)
            if dynamics.reacts:
                solver.atol = stepping.rtol * leeway(weights, flow.fields)
            if show is not None:
                show(solver.t / clocks[-1] * flow.t_end, dynamics.bound.energy(place, weights))
            if working_time() > stepping.deadline:
                raise OutOfTime
            if steps > stepping.most_steps:
                raise RuntimeError(singular(dynamics, place, weights, steps, f"{solver.t:g} of {clocks[-1]:g}"))
    return run_of(flow, times, states, steps, began, engine, stepping.judged)


def _record_step(record: Record, flow: Flow, solver: Any, before: float, inside: Callable[[float], Array]) -> None:
    """Append to a record what moves other nodes in the step that a solver has made, by its dense output `inside`."""
    values = []
    for k, S in enumerate(record.places(before, solver.t)):
        if k == 0 and record.values:
            values.append(record.values[-1][-1])
        else:
            values.append(flow.driving(solver.y if k == DEGREE else inside(S)))
    record.append(float(solver.t), np.array(values))
    if record.nbytes > RECORD_LIMIT:
        raise ValueError(
            "this energy does not factorise: its response is the whole measure, and the record of that "
            f"exceeds {RECORD_LIMIT / 2**20:.0f} MiB; use save times, fewer nodes or a shorter run"
        )


def singular(dynamics: Dynamics, place: Array, weights: Array, steps: int, clock: str) -> str:
    """What is wrong where so many steps lead to no end: the place of the largest velocity."""
    speed = np.abs(dynamics.velocity(place, dynamics.bound.response(place, weights))).max(axis=0)
    where = place_of(tuple(dynamics.problem.axes), place[int(np.argmax(speed))])
    return (
        f"{steps} steps of the characteristics came to clock {clock}: the velocity is "
        f"singular or not smooth near {where}; shorten t_end, or use solve()"
    )


def run_of(
    flow: Flow, times: Array, states: Array, steps: int, began: float, engine: Engine,
    which: bool | NDArray[np.bool_] = True,
) -> Run:  # fmt: skip
    """The measures at the save times, with their energies and moments where these are asked for."""
    finals = [flow.unpack(state) for state in states]
    points = np.stack([np.ascontiguousarray(place) for place, _, _ in finals])
    weights = np.stack([w for _, w, _ in finals])
    asked = np.flatnonzero(np.broadcast_to(which, len(times)))
    nothing = np.empty(0), np.empty((0, 0)), np.empty((0, 0))
    energy, moments, coordinates = (
        judged(flow.dynamics, times[asked], points[asked], weights[asked]) if len(asked) else nothing
    )
    kept = asked if len(asked) else slice(None)
    return Run(
        start=flow.start,
        points=points[kept],
        weights=weights[kept],
        energy=energy,
        moments=moments,
        coordinates=coordinates,
        evaluations=flow.evaluations,
        steps=steps,
        seconds=time.perf_counter() - began,
        drift=max(abs(total - 1.0) for _, _, total in finals),
        engine=engine,
        looked=(points, weights),
    )


def judged(dynamics: Dynamics, times: Array, points: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Energies (m,), moments (m, r), and first and second moments of the coordinates, of measures at save times."""
    return *energies_of(dynamics, times, points, weights), coordinates_of(dynamics, points, weights)


def energies_of(dynamics: Dynamics, times: Array, points: Array, weights: Array) -> tuple[Array, Array]:
    """The first two of `judged`."""
    bound = dynamics.bound
    energy, moments = bound.each(points, weights)
    if bound.lyapunov and not np.isfinite(energy).all():
        i = int(np.argmin(np.isfinite(energy)))
        place, response = points[i], bound.response(points[i], weights[i])
        dynamics.finite(bound.potential(place, response), place, response, f"at t = {times[i]:g} V")
        raise FloatingPointError(f"the energy is {energy[i]:g} at t = {times[i]:g}; look at its loss")
    return energy, moments


def coordinates_of(dynamics: Dynamics, points: Array, weights: Array) -> Array:
    """First and second moments of coordinates (m, N, d) in lengths of the axes, and the mass: shape (m, 2 d + 1).

    Coordinates on a circle have none.
    """
    length = dynamics.length
    if dynamics.circles:
        points, length = np.delete(points, dynamics.circles, axis=2), np.delete(length, dynamics.circles)
    first, second = ((weights[:, None] @ powers)[:, 0] for powers in (points, points * points))
    return np.concatenate([first / length, second / length**2, weights.sum(axis=1, keepdims=True)], axis=1)


def pieces(dynamics: Dynamics, t_end: float, a: float, b: float) -> list[tuple[float, float]]:
    """From one clock value to another, in intervals on which the right-hand side is smooth."""
    low, high = min(a, b), max(a, b)
    inner = [S for S in dynamics.breaks(t_end) if low < S < high]
    ends = [low, *inner, high] if a <= b else [high, *reversed(inner), low]
    return list(itertools.pairwise(ends))


def density_back(
    dynamics: Dynamics, record: Record, rows: Array, S: float, t_end: float, rtol: float, deadline: float = math.inf
) -> Array:
    """The density at points (n, d) when the clock shows `S`: see `Characteristics.density_at`."""
    step = max(1, 2**17 // (7 * dynamics.dimension))
    if len(rows) > step:
        parts = [rows[i : i + step] for i in range(0, len(rows), step)]
        return np.concatenate([density_back(dynamics, record, p, S, t_end, rtol, deadline) for p in parts])
    n, d = rows.shape

    def flow(S: float, y: Array) -> Array:
        response, means = dynamics.groups.split(record(S))
        place = dynamics.place(y[: n * d].reshape(d, n))
        change = np.empty_like(y)
        change[: n * d] = dynamics.velocity(place, response).ravel()
        growth = dynamics.divergence(place, response)
        if dynamics.reacts:
            rate = dynamics.rate(place, response) - dynamics.groups.at(means, place)
            growth = growth - dynamics.alpha(S, t_end) * rate
        change[n * d :] = growth
        return change

    y = np.concatenate([rows.T.ravel(), np.zeros(n)])
    slack = 1e-8 * dynamics.length[:, None]
    at = rows.T
    foreign = np.any((at < dynamics.floor) | (at > dynamics.ceiling), axis=0)
    for a, b in pieces(dynamics, t_end, S, 0.0) if S > 0.0 else ():
        for solver, _ in method(flow, a, y, b, rtol):
            y = solver.y
            at = y[: n * d].reshape(d, n)
            foreign |= np.any((at < dynamics.floor - slack) | (at > dynamics.ceiling + slack), axis=0)
            if working_time() > deadline:
                raise OutOfTime
    feet = dynamics.place(y[: n * d].reshape(d, n))
    return np.where(foreign, 0.0, np.exp(dynamics.problem.mu_0.log_density(feet) - y[n * d :]))
