r"""The density of a compiled run: points go back to the start, through what moved the nodes.

.. math::

   \dot\theta = -s\,G\nabla V, \qquad
   \frac{d}{dt}\log\mu_t(\theta_t) = s\,\{\nabla\cdot(G\nabla V) - \alpha (f(V) - \bar f)\}.

The coefficients of the potential, the mean rate and the birth-death rate are recorded as polynomials of the clock.
Tables of degree eleven (or seven) give second derivatives. `mfpde.lagrangian.nodes.density_back` does the same in
Python, by differences of gradients.
"""

from __future__ import annotations

import enum
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.schedules import Constant
from mfpde.lagrangian.assembly import Lane, lane_of
from mfpde.lagrangian.compiled.network_packing import NetworkMotion, UnitsSeen
from mfpde.lagrangian.compiled.packing import Evaluated, EvaluatedSeveral, Motion
from mfpde.lagrangian.lane import FIFTH, SLICE, WIDENINGS, LaneRun, integrate, rate_table, tableau_of
from mfpde.lagrangian.lane import Clock as RunClock
from mfpde.lagrangian.networks import given_potential, largest_units
from mfpde.lagrangian.nodes import RECORD_LIMIT, Dynamics, OutOfTime, Record, Stepping, density_back, pieces
from mfpde.lagrangian.tables import RoughError, lobatto
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.interpreted import COUNT

if TYPE_CHECKING:
    from mfpde.lagrangian.compiled.stepping import Tableau

__all__ = ["Backward", "Clock", "Counts", "Past", "packed", "past_of", "wider_rate"]

DEGREES = ((1e-6, 8), (1e-8, 10), (0.0, 12))
"""Of the polynomials, where relative errors are at least the number."""
FIRST_PANELS = 2
"""Between clock values where the motion is not smooth, to begin with."""
HALVINGS = 24
"""How often such a panel may be halved."""
ROUGH, STALLED = 1e-8, 2
"""What a panel may lack, times its share of the run, that has been halved so often without being smoother for it: nodes
that stop at walls make moments rough, which is an error of the run and not of its record."""
FINEST = 1e-12
"""No tolerance is smaller: rounding in second derivatives would set the steps."""
SMOOTHER = 0.1
"""How accurate tables are, relative to the tolerance: their second derivatives jump, and steps see that."""
OTHER = 0.1
"""The same of differently placed nodes, relative to that of the others: what bears them out has other tables."""
BLOCK = 256
"""Points that go back together."""
SLACK = 1e-8
"""How far out of a wall a point has to come, in lengths of the axis, that it has come out of it."""
FIRST_SLICE = 1e6
"""Work, in products of functions, of a call before it is known how long that takes."""


class Clock(enum.IntEnum):
    """The entries of the array of numbers that the way back reads and writes."""

    NOW = 0
    END = 1
    STEP = 2
    """The next step, 0 for none yet."""
    ERROR = 3
    """The error of the last step by what is allowed."""
    RTOL = 4
    BEYOND = 5
    """A V for which there is no f(V) in the table."""


class _Panel(NamedTuple):
    """Clock values between which there is one polynomial, what the panel that it is a half of lacks, and how often
    halving has not helped.
    """

    start: float
    end: float
    before: float = math.inf
    stalled: int = 0

    def places(self, degree: int) -> Array:
        return self.start + (self.end - self.start) * 0.5 * (1.0 + lobatto(degree)[0])

    def parts(self, count: int, lacks: float) -> list[_Panel]:
        ends = np.linspace(self.start, self.end, count + 1).tolist()
        stalled = self.stalled + 1 if lacks > 0.25 * self.before else 0
        return [_Panel(a, b, lacks, stalled) for a, b in itertools.pairwise(ends)]


class Counts(enum.IntEnum):
    """The entries of the array of counts."""

    EVALUATIONS = 0
    KNOWN = 1
    """Whether the rate at the clock is known."""
    ALLOWED = 2
    """Evaluations after which no step is begun."""


@dataclass(eq=False, repr=False)
class Past:
    """What moved the nodes of a run at all times, as compiled code reads it.

    Attributes
    ----------
    dynamics : Dynamics
    t_end : float
    lane : Lane
        Tables with second derivatives.
    record : Record
        Of the coefficients, the mean of f(V) and the birth-death rate; columns are padded to full vectors.
    rate : array
        A table of f(V), which grows when it has to.
    rtol : float
        The tolerance of the way back.
    """

    dynamics: Dynamics
    t_end: float
    lane: Lane
    record: Record
    rate: Array
    rtol: float

    def __post_init__(self) -> None:
        from mfpde.lagrangian.compiled.stepping import tableau

        method = tableau(5 if self.rtol > FIFTH else 8)
        dynamics, slack = self.dynamics, SLACK * self.dynamics.length
        bounds = np.stack([dynamics.floor[:, 0] - slack, dynamics.ceiling[:, 0] + slack], axis=1)
        self._packed, self._stages = packed(self.record, method, bounds), len(method.C)
        self._kind, self._tables, self._room = _traced(self.lane.motion)
        self._allowed = max(1, int(FIRST_SLICE / (self.lane.work * BLOCK)))

    def density(self, rows: Array, S: float, deadline: float = math.inf) -> Array:
        """The density at points (n, d) when the clock shows `S`: `mfpde.lagrangian.nodes.density_back`.

        Raises
        ------
        OutOfTime
            At the deadline.
        RoughError
            If steps fell below round-off, or there is no table of f(V).
        """
        dynamics = self.dynamics
        at = rows.T
        out = np.any((at < dynamics.floor) | (at > dynamics.ceiling), axis=0)
        feet, grown = np.empty_like(rows), np.empty(len(rows))
        for start in range(0, len(rows), BLOCK):
            part = slice(start, start + BLOCK)
            feet[part], grown[part], foreign = self._back(rows[part], S, deadline)
            out[part] |= foreign
        logs = dynamics.problem.mu_0.log_density(dynamics.place(feet.T)) - grown
        return np.where(out, 0.0, np.exp(logs))

    def _back(self, rows: Array, S: float, deadline: float) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Where some points come from, how the logarithms of their densities have grown, and which were outside."""
        from mfpde.lagrangian.compiled.tracing import tracing_room

        n, d = rows.shape
        points = np.zeros((d + 2, n))
        points[:d] = rows.T
        columns = self.record.values[0].shape[1]
        space = np.empty(tracing_room(n, (d + 1) * n, columns, self._room, self._stages))
        clock, counts = np.zeros(len(Clock)), np.zeros(len(Counts), dtype=np.int64)
        clock[Clock.ERROR], clock[Clock.RTOL] = 1.0, self.rtol
        for a, b in pieces(self.dynamics, self.t_end, S, 0.0) if S > 0.0 else ():
            counts[Counts.KNOWN] = 0
            clock[Clock.NOW], clock[Clock.END] = a, b
            self._go_back(points, clock, counts, space, deadline)
        return points[:d].T, points[d], points[d + 1] > 0.0

    def _go_back(self, points: Array, clock: Array, counts: NDArray[np.int64], space: Array, deadline: float) -> None:
        """To the start of an interval."""
        from mfpde.lagrangian.compiled.stepping import ARRIVED, BEYOND, FAILED
        from mfpde.lagrangian.compiled.tracing import trace

        status, widened = -1, 0
        while status != ARRIVED:
            began, before = time.perf_counter(), int(counts[Counts.EVALUATIONS])
            counts[Counts.ALLOWED] = self._allowed
            status = trace(self._kind, self._tables, self.rate, self._packed, points, clock, counts, space)
            if status == FAILED:
                raise RoughError("the compiled steps fell below round-off")
            if status == BEYOND:
                widened += 1
                if widened > WIDENINGS:
                    raise RoughError("V grows beyond any table of the rate")
                beyond = float(clock[Clock.BEYOND])
                self.rate = wider_rate(self.dynamics, self.rate, beyond, self.lane.accuracy)
            seconds, evaluations = time.perf_counter() - began, int(counts[Counts.EVALUATIONS]) - before
            if evaluations:
                self._allowed = max(1, int(SLICE * evaluations / max(seconds, 1e-6)))
            if working_time() > deadline:
                raise OutOfTime


def _traced(motion: Motion | NetworkMotion) -> tuple[Any, Array, int]:
    """By what the program is chosen that takes points back, what it reads, and how many numbers it keeps of a point."""
    from mfpde.lagrangian.compiled import motion as program
    from mfpde.lagrangian.compiled import network_tracing, several_tracing, stepping, tracing

    if isinstance(motion, NetworkMotion):
        return network_tracing.Network(), motion.packed(), network_tracing.room_of_units(motion)
    if motion.several:
        return stepping.kind_of(motion), motion.packed(), several_tracing.room_of_several(motion)
    return program.Products(), tracing.every_product(motion), tracing.room_of_products(motion)


def wider_rate(dynamics: Dynamics, rate: Array, beyond: float, accuracy: float) -> Array:
    """A table of f(V) that reaches a V besides the values that it has."""
    return rate_table(dynamics, min(float(rate[2]), beyond), max(float(rate[3]), beyond), accuracy)


class Backward:
    """The densities of one run, by the compiled program where that moves its nodes, else in Python.

    Parameters
    ----------
    dynamics : Dynamics
    nodes : (array, array)
        Places and logarithms of weights at the start.
    t_end : float
    stepping : Stepping
        How the run is made.
    """

    def __init__(self, dynamics: Dynamics, nodes: tuple[Array, Array], t_end: float, stepping: Stepping) -> None:
        self.dynamics, self.nodes, self.t_end, self.stepping = dynamics, nodes, t_end, stepping

    def density(self, rows: Array, S: float, deadline: float = math.inf) -> Array:
        """The density at points (n, d) when the clock shows `S`; see `Characteristics.density_at`.

        Raises
        ------
        OutOfTime
            At the deadline.
        """
        if self.past is not None:
            try:
                return self.past.density(rows, S, deadline)
            except RoughError:  # what is wrong is said in Python
                pass
        return density_back(self.dynamics, self.record, rows, S, self.t_end, self.stepping.rtol, deadline)

    @cached_property
    def past(self) -> Past | None:
        """What moves points at all times, as compiled code reads it."""
        return past_of(self.dynamics, self.nodes, self.t_end, self.stepping)

    @cached_property
    def record(self) -> Record:
        """The response and the mean rate at all times, from the run repeated in Python."""
        record = Record(0.0)
        integrate(self.dynamics, self.nodes, np.array([0.0, self.t_end]), self.stepping, record=record)
        return record


def packed(record: Record, method: Tableau, bounds: Array) -> Array:
    """What points go back by, in one array: where the method and the bounds begin, and then the record and these.

    The record: panels, points, columns, weights, points in [-1, 1], knots, and the values. The bounds are those between
    which points are in the box.
    """
    first = record.values[0]
    head = [len(record.values), *first.shape]
    what = np.concatenate([head, record.w, record.x, record.knots, *(values.ravel() for values in record.values)])
    steps = method.packed
    starts = [2.0 + what.size, 2.0 + what.size + steps.size]
    return np.concatenate([starts, what, steps, bounds.ravel()])


def past_of(dynamics: Dynamics, nodes: tuple[Array, Array], t_end: float, stepping: Stepping) -> Past | None:
    """What moved nodes up to a time, by the compiled program; None where it does not move them.

    Raises
    ------
    OutOfTime
        At the deadline.
    """
    smoother = OTHER * SMOOTHER if stepping.other else SMOOTHER
    lane = lane_of(dynamics, smoother * min(stepping.rtol, stepping.accuracy or math.inf), curved=True)
    if isinstance(lane, str):
        return None
    try:
        return _Recorder(dynamics, lane, nodes, t_end, stepping).complete()
    except RoughError:
        return None


def _largest(motion: Motion | NetworkMotion) -> Array:
    """How large are the functions whose coefficients are recorded: shape (outer or outputs, inner or inputs)."""
    if isinstance(motion, NetworkMotion):
        return largest_units(motion)
    outer, *inner = (np.abs(table).sum(axis=1).max(axis=0) for table in motion.tables)
    sizes = np.outer(outer, motion.of_products(inner))
    return motion.kept(sizes)[None] if motion.several else sizes


def _evaluated(
    motion: Motion | NetworkMotion, n: int, size: int, stages: int
) -> Evaluated | EvaluatedSeveral | UnitsSeen:
    """What reads coefficients from the room of a run."""
    if isinstance(motion, NetworkMotion):
        return UnitsSeen(motion, n, size, stages)
    return EvaluatedSeveral(motion, n, size, stages) if motion.several else Evaluated(motion, n, size, stages)


class _Recorder:
    """Repeats a run, with more and more save times."""

    def __init__(
        self, dynamics: Dynamics, lane: Lane, nodes: tuple[Array, Array], t_end: float, stepping: Stepping
    ) -> None:
        self.dynamics, self.lane, self.nodes, self.t_end, self.stepping = dynamics, lane, nodes, t_end, stepping
        largest = _largest(lane.motion)
        functions, self.width = largest.shape
        self.end, self.wide = dynamics.clock(t_end), self.width + -self.width % COUNT
        self.count = functions * self.wide
        self.columns = self.count + 2 + -(self.count + 2) % COUNT
        self.looker = LaneRun(lane, dynamics, nodes, np.array([0.0, t_end]), stepping, None)
        self.looker.clock[[RunClock.STEP, RunClock.END, RunClock.HIGH]] = 1.0
        self.looker.alpha = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
        stages = len(tableau_of(stepping).C)
        self.evaluated = _evaluated(lane.motion, len(nodes[1]), self.looker.y.size, stages)
        self.worth = np.ones(self.count + 2)
        self._by_functions(self.worth)[:] = largest
        self.degree = next(degree for least, degree in DEGREES if stepping.rtol >= least)
        self.to_series = _to_series(self.degree)

    def _by_functions(self, row: Array) -> Array:
        """Coefficients in a row of the record, by outer and inner functions."""
        return row[: self.count].reshape(-1, self.wide)[:, : self.width]

    def complete(self) -> Past:
        """All of it.

        Raises
        ------
        RoughError
            If nothing compiled makes the run, or it is not smooth.
        """
        wholes = [_Panel(a, b) for a, b in pieces(self.dynamics, self.t_end, 0.0, self.end)]
        todo = [half for whole in wholes for half in whole.parts(FIRST_PANELS, math.inf)]
        done: list[tuple[_Panel, Array]] = []
        for _ in range(HALVINGS):
            todo = self._halved(todo, done)
            if not todo:
                break
        else:
            raise RoughError("what moves the nodes is not smooth in time")
        record = Record(0.0, self.degree)
        for panel, values in sorted(done, key=lambda pair: pair[0].start):
            record.append(panel.end, values)
        return Past(self.dynamics, self.t_end, self.lane, record, self.looker.rate, max(self.stepping.rtol, FINEST))

    def _halved(self, todo: Sequence[_Panel], done: list[tuple[_Panel, Array]]) -> list[_Panel]:
        """Add the panels that are smooth to those that are done; the halves of the others."""
        clocks = np.unique(np.concatenate([[0.0, self.end], *(panel.places(self.degree) for panel in todo)]))
        values = self._values(clocks)
        size = np.abs(values[:, : self.count + 2] * self.worth)
        if not np.isfinite(size).all():
            raise RoughError("what moves the nodes is not finite")
        scale = np.full(self.count + 2, float(size[:, : self.count].max(initial=0.0)))
        scale[self.count] = max(scale[0], float(size[:, self.count].max()))
        rest, rtol = [], max(self.stepping.rtol, FINEST)
        for panel in todo:
            there = values[np.searchsorted(clocks, panel.places(self.degree))]
            there[:, self.count + 1] = self._alpha(panel)
            scale[self.count + 1] = float(np.abs(there[:, self.count + 1]).max())
            tails = np.abs(self.to_series @ there[:, : self.count + 2]) * self.worth
            lacks = float(np.divide(tails, scale, out=np.zeros_like(tails), where=scale > 0.0).max())
            halves = panel.parts(2, lacks)
            error = lacks * (panel.end - panel.start) / self.end
            if error <= rtol or (error <= ROUGH and halves[0].stalled >= STALLED):
                done.append((panel, there))
            else:
                rest += halves
        return rest

    def _alpha(self, panel: _Panel) -> Array | float:
        """The birth-death rate in a panel; it may jump at both ends."""
        alpha, hair = self.dynamics.problem.alpha, 1e-13 * (panel.end - panel.start)
        if isinstance(alpha, Constant):
            return alpha(0.0)
        at = np.clip(panel.places(self.degree), panel.start + hair, panel.end - hair)
        return np.array([self.dynamics.alpha(float(S), self.t_end) for S in at])

    def _values(self, clocks: Array) -> Array:
        """Coefficients and mean rates at clock values, the first 0 and the last that of the end."""
        times = np.array([self.dynamics.time(float(S)) for S in clocks])
        times[-1] = self.t_end
        n, d = self.nodes[0].shape
        if len(clocks) * n * (2 * d + 3) * 8 > RECORD_LIMIT:
            raise RoughError("the record is too large")
        run = integrate(self.dynamics, self.nodes, times, replace(self.stepping, judged=False))
        if not run.engine.compiled:
            raise RoughError(run.engine.reason)
        values = np.zeros((len(clocks), self.columns))
        with np.errstate(divide="ignore"):
            logs = np.log(run.weights)
        for row, points, log_mass in zip(values, run.points, logs, strict=True):
            self._look(points, log_mass, row)
            if working_time() > self.stepping.deadline:
                raise OutOfTime
        return values

    def _look(self, points: Array, log_mass: Array, row: Array) -> None:
        """Write what nodes move points by: one evaluation of the program, with a birth-death rate of 1."""
        from mfpde.lagrangian.compiled.stepping import BEYOND

        looker, (n, d) = self.looker, points.shape
        looker.y[: d * n] = points.T.ravel()
        looker.log_mass = log_mass
        looker.counts[:] = 0
        for _ in range(WIDENINGS):
            if looker.call(1) != BEYOND:
                break
            beyond = float(looker.clock[RunClock.BEYOND])
            looker.rate = wider_rate(self.dynamics, looker.rate, beyond, self.lane.accuracy)
        else:
            raise RoughError("V grows beyond any table of the rate")
        coefficients, values = self.evaluated.read(looker.space)
        self._by_functions(row)[:] = coefficients
        if self.dynamics.reacts:  # what is known of the first node is f(V) less its mean
            V, rate = float(np.vdot(coefficients, values)), self.dynamics.problem.rate
            if isinstance(self.lane.motion, NetworkMotion):
                V += float(given_potential(self.lane.motion, points[:1])[0])
            own = V if rate is None else float(values_of(rate, np.array([V]))[0])
            row[self.count] = own + looker.space[d * n]


def _to_series(degree: int) -> Array:
    """The last two coefficients of a Chebyshev series, from values at Lobatto points."""
    points = lobatto(degree)[0]
    series = np.linalg.inv(np.polynomial.chebyshev.chebvander(points, degree))
    return np.ascontiguousarray(series[-2:])
