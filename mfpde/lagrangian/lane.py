"""Runs of nodes as one compiled program, where the potential is made of few functions of one coordinate.

The program reads what moves the nodes from tables (`mfpde.lagrangian.tables`), which are made once for a problem and
kept with it. What has no tables, because it does not factorise or is not smooth, moves by `mfpde.lagrangian.nodes` in
Python as before, with the same result to the tolerance; which it was is in the result.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.schedules import Constant
from mfpde.lagrangian import nodes as python
from mfpde.lagrangian.assembly import Lane, lane_of
from mfpde.lagrangian.nodes import FEWEST_STEPS, LIGHT, Dynamics, Engine, Flow, OutOfTime, Record, Run, Stepping
from mfpde.lagrangian.tables import RoughError, table_of
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.saves import distinct_times

if TYPE_CHECKING:
    from mfpde.lagrangian.compiled.stepping import Tableau

__all__ = ["FIFTH", "SLICE", "WIDENINGS", "Clock", "Counts", "LaneRun", "integrate", "rate_table", "tableau_of"]

FIFTH = 3e-7
"""Tolerance of the steps from which the method of order five takes fewer evaluations than that of order eight."""
SLICE = 0.05
"""Seconds of work, about, after which the program returns to Python."""
FIRST_SLICE = 2e6
"""Work, in products of functions, of the first call, before it is known how long that takes."""
MARGIN = 0.5
"""By how much of its length the table of f(V) is longer, on both sides, than the values that are known to be needed."""
_NO_RATE = np.zeros(5)
MOST_OF_RATE = 512
"""Pieces of the table of the birth-death rate: each of its values may take the inverse of the clock."""
FEWEST_BETWEEN = 3.0
"""Steps of a run with save times inside, at least."""
DIGITS = 3e-9
"""Tables of a better accuracy serve runs whose energies are to have all digits: these are found from the nodes."""
WIDENINGS = 40
"""How often a table of f(V) may be made anew."""


def integrate(
    dynamics: Dynamics,
    nodes: tuple[Array, Array],
    times: Array,
    stepping: Stepping,
    *,
    show: Callable[[float, float], None] | None = None,
    record: Record | None = None,
) -> Run:
    """Move nodes to the save times: `mfpde.lagrangian.nodes.integrate`, by a compiled program where there can be one.

    With a `record` that is done in Python. So is a run that the program cannot finish: what is wrong is said there.
    """
    lane = lane_of(dynamics, stepping.tables, bulk=stepping.bulk)
    if isinstance(lane, str) and stepping.bulk is not None:
        stepping = replace(stepping, bulk=None)
        lane = lane_of(dynamics, stepping.tables)
    if isinstance(lane, str):
        engine = Engine(False, lane)
    elif record is not None:
        engine = Engine(False, "the response is recorded")
    else:
        try:
            return LaneRun(lane, dynamics, nodes, times, stepping, show).complete()
        except RoughError as error:
            engine = Engine(False, str(error))
    return python.integrate(dynamics, nodes, times, stepping, show=show, record=record, engine=engine)


class Clock(enum.IntEnum):
    """The entries of the array of numbers that a run reads and writes."""

    NOW = 0
    """What the clock shows."""
    STEP = 1
    """The next step, 0 for none yet."""
    ERROR = 2
    """The error of the last step by what is allowed."""
    END = 3
    """Of the interval."""
    LONGEST = 4
    """The longest step."""
    RTOL = 5
    """The tolerance."""
    LIGHT = 6
    """The least weight of a node, relative to the average, with which its errors count."""
    LOW = 7
    """Between here..."""
    HIGH = 8
    """...and here the birth-death rate is asked for: it may jump at both ends."""
    BEYOND = 9
    """A V for which there is no f(V) in the table."""
    LENGTH = 10
    """Of the step within which a call ended."""
    FOUND = 11
    """Its error, where that is known, by what is allowed."""
    NEW = 12
    """Where it leads."""


class Counts(enum.IntEnum):
    """The entries of the array of counts."""

    SAVED = 0
    """Save times passed."""
    STEPS = 1
    EVALUATIONS = 2
    KNOWN = 3
    """Whether the rate at the clock is known."""
    STAGE = 4
    """With which stage the step goes on within which a call ended, 0 where it ended between two."""
    LAST = 5
    """The last stage before anything is done with these."""
    REJECTED = 6
    """Whether the step before was rejected."""


def tableau_of(stepping: Stepping) -> Tableau:
    """The Runge-Kutta method that a run is made with."""
    from mfpde.lagrangian.compiled.stepping import tableau

    return tableau(5 if stepping.other or (stepping.quick and stepping.rtol > FIFTH) else 8)


class _Interval(NamedTuple):
    """Clock values between which the birth-death rate may be asked for, its table, and parts that end at save times."""

    low: float
    high: float
    alpha: Array
    parts: list[tuple[float, float]]


class LaneRun:
    """One run by the program: what it is told, and what Python does between its calls."""

    def __init__(
        self, lane: Lane, dynamics: Dynamics, nodes: tuple[Array, Array], times: Array, stepping: Stepping,
        show: Callable[[float, float], None] | None,
    ) -> None:  # fmt: skip
        # nothing is compiled, and no compiler loaded, before there is a run
        from mfpde.lagrangian.compiled import stepping as program

        self.program: Any = program
        self.kind: Any = program.kind_of(lane.motion)
        self.began = time.perf_counter()
        self.lane, self.dynamics, self.times, self.stepping, self.show = lane, dynamics, times, stepping, show
        # compiled code takes arrays that may be written to
        self.start, self.log_mass = nodes[0], nodes[1].copy()
        self.n, self.d = self.start.shape
        self.clocks = dynamics.clocks(times)
        self.end = float(self.clocks[-1])
        self.states = np.zeros((len(times), self.n * (self.d + 1 if dynamics.reacts else self.d)))
        self.states[0, : self.n * self.d] = self.start.T.ravel()
        self.y = self.states[0].copy()
        method = tableau_of(stepping)
        self.method = method.packed
        self.clock, self.counts = np.empty(len(Clock)), np.empty(len(Counts), dtype=np.int64)
        self.space = np.zeros(lane.room(self.n, self.y.size, len(method.C)))
        self.by_tables = stepping.quick and lane.accuracy >= DIGITS
        """Whether energies and moments are those of the tables."""
        self.which = np.empty(len(times), dtype=bool)
        self.which[:] = stepping.judged
        self.asked = self.which.nonzero()[0]
        """The times that are judged."""
        self.last = int(self.asked[-1]) if len(self.asked) else len(times) - 1
        self.weights, self.found = np.empty((len(times), self.n)), np.zeros((len(times), 2 + lane.outputs))
        self.intervals, self.widened = list(self._intervals()), 0
        self.rate = self._first_rate()
        self.allowed = max(1, int(FIRST_SLICE / (lane.work * self.n + 2 * lane.entries)))
        self.begin()

    def begin(self) -> None:
        """Go to the start, where the run was made or completed."""
        rtol = self.stepping.rtol
        self.y[:] = self.states[0]
        self.clock[:] = 0.0
        self.clock[Clock.ERROR], self.clock[Clock.RTOL], self.clock[Clock.LIGHT] = 1.0, rtol, LIGHT
        self.clock[Clock.LONGEST] = self._longest()
        self.counts[:] = 0
        self.counts[Counts.SAVED] = 1

    def _longest(self) -> float:
        """The longest step: in the middle of one that crosses half of the run, errors are far above the tolerance."""
        if self.stepping.other:
            return float(self.end * self.stepping.rtol**0.2 / FEWEST_STEPS)
        fewest = max(self.stepping.fewest, FEWEST_BETWEEN if self.which[1:-1].any() else 0)
        return self.end / fewest if fewest else math.inf

    @cached_property
    def flow(self) -> Flow:
        """The same in Python."""
        return Flow(self.dynamics, self.start, self.log_mass, float(self.times[-1]))

    def _intervals(self) -> Iterator[_Interval]:
        """Where the birth-death rate is smooth, and in which parts the run goes there."""
        # as in Python: between its steps the method of fifth order is not as accurate as its tolerance says
        landings = [0.0, *(self.clocks.tolist() if self.stepping.other else [self.end])]
        breaks = self.dynamics.breaks(float(self.times[-1]))
        ends = distinct_times([*landings, *breaks], landings) if breaks or self.stepping.other else landings
        for low, high in pairwise([0.0, *(b for b in breaks if 0.0 < b < self.end), self.end]):
            hair, parts = 1e-13 * (high - low), [(a, b) for a, b in pairwise(ends) if low <= a and b <= high]
            yield _Interval(low + hair, high - hair, self._alpha(low, high), parts)

    def complete(self) -> Run:
        """All of it.

        Raises
        ------
        RoughError
            If a table of the birth-death rate or of f is not to be had, the steps fell below round-off, or an energy
            is not finite.
        """
        self.go()
        return self._run()

    def go(self) -> Array:
        """Move the nodes, and judge where they are; the energies by tables at the times at which these are asked."""
        for interval in self.intervals:
            self.alpha = interval.alpha
            self.clock[Clock.LOW], self.clock[Clock.HIGH] = interval.low, interval.high
            self.counts[Counts.KNOWN] = 0
            for a, b in interval.parts:
                self.clock[Clock.NOW], self.clock[Clock.END] = a, b
                self._go_on()
        by_program = self.which.copy()
        if not self.by_tables:  # what they leave out is asked for at the end
            by_program[: self.last] = False
        self.program.judged(
            self.kind, self.lane.packed, self.log_mass, self.states, by_program, self.weights, self.found, self.space
        )
        energy: Array = self.found[self.asked, 0]
        if not np.isfinite(energy).all():
            raise RoughError("the energy is not finite")
        return energy

    def _run(self) -> Run:
        """What the states at the save times are."""
        n, d, m, dynamics = self.n, self.d, len(self.times), self.dynamics
        placed, points = dynamics.place(self.states[:, : n * d].reshape(m, d, n)), np.empty((m, n, d))
        for i in range(d):  # a fifth of the time of a copy that goes from coordinate to coordinate
            points[..., i] = placed[..., i]
        own, weights = points, self.weights
        if 0 < len(self.asked) < m:
            own, weights = points[self.asked], weights[self.asked]
        energy, moments, coordinates = self._observables(own, weights)
        conserved = dynamics.reacts and dynamics.balanced
        return Run(
            start=self.start,
            points=own,
            weights=weights,
            energy=energy,
            moments=moments,
            coordinates=coordinates,
            evaluations=int(self.counts[Counts.EVALUATIONS]),
            steps=int(self.counts[Counts.STEPS]),
            seconds=time.perf_counter() - self.began,
            drift=float(np.abs(self.found[:, 1] - 1.0).max()) if conserved else 0.0,
            engine=Engine(True, self.lane.text),
            looked=(points, self.weights),
            tables=self.lane if self.by_tables else None,
            last=float(self.found[self.last, 0]),
            bulk=self.stepping.bulk,
        )

    def _observables(self, points: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Energies, moments, and moments of the coordinates, of the nodes at the times that are judged.

        Those of a quick run to a few digits are the program's; what tables leave out differs from node to node, which
        looks like an error where nodes are refined until nothing is left.
        """
        if not len(self.asked):
            return np.empty(0), np.empty((0, 0)), np.empty((0, 0))
        if not self.by_tables:
            return python.judged(self.dynamics, self.times[self.asked], points, weights)
        found = self.found[self.asked]
        return found[:, 0], found[:, 2:], python.coordinates_of(self.dynamics, points, weights)

    def _go_on(self) -> None:
        """To the end of an interval."""
        counts, before, start = self.counts, int(self.counts[Counts.EVALUATIONS]), time.perf_counter()
        while True:
            status = self.call(self.allowed)
            if status == self.program.FAILED:
                raise RoughError("the compiled steps fell below round-off")
            if status == self.program.BEYOND:
                self.rate = self._wider_rate(float(self.clock[Clock.BEYOND]))
            now, after = time.perf_counter(), int(counts[Counts.EVALUATIONS])
            self._between(now - start, after - before)
            if status == self.program.ARRIVED:
                return
            start, before = now, after

    def call(self, allowed: int) -> int:
        """Call the program; what ended the call, see `mfpde.lagrangian.compiled.stepping`."""
        return int(
            self.program.advance(
                self.kind, self.lane.packed, self.rate, self.alpha, self.method, self.y, self.log_mass, self.clock,
                self.counts, self.clocks, self.states, self.space, allowed,
            )
        )  # fmt: skip

    def _between(self, seconds: float, evaluations: int) -> None:
        """What Python does between two calls: limits, and the length of the next one."""
        dynamics, steps, now = self.dynamics, int(self.counts[Counts.STEPS]), float(self.clock[Clock.NOW])
        if seconds > 0.0 and evaluations:
            self.allowed = max(1, int(SLICE * evaluations / max(seconds, 1e-6)))
        if working_time() > self.stepping.deadline:
            raise OutOfTime
        if steps > self.stepping.most_steps:
            place, weights, _ = self.flow.unpack(self.y)
            raise RuntimeError(python.singular(dynamics, place, weights, steps, f"{now:g} of {self.end:g}"))
        if self.show is not None:
            place, weights, _ = self.flow.unpack(self.y)
            self.show(now / self.end * float(self.times[-1]), dynamics.bound.energy(place, weights))

    def _alpha(self, low: float, high: float) -> Array:
        """The birth-death rate between two clock values, as a table."""
        dynamics, alpha = self.dynamics, self.dynamics.problem.alpha
        if isinstance(alpha, Constant):
            return np.array([1.0, 1.0, low, high, alpha(0.0)])
        hair, t_end, kept = 1e-13 * (high - low), float(self.times[-1]), self.lane.rates

        def values(S: Array) -> Array:
            at = np.clip(S, low + hair, high - hair)
            return np.array([[dynamics.alpha(float(s), t_end) for s in at]])

        if (key := (low, high, t_end)) not in kept:
            try:
                kept[key] = _of_one(table_of(values, low, high, 0.1 * self.lane.accuracy, most=MOST_OF_RATE), low, high)
            except RoughError as error:
                kept[key] = f"the birth-death rate is {error}"
        found = kept[key]
        if isinstance(found, str):
            raise RoughError(found)
        return found

    def _first_rate(self) -> Array:
        """A table of f(V) for the V of the start; without pieces where there is no f."""
        dynamics = self.dynamics
        if dynamics.problem.rate is None or not dynamics.reacts:
            return _NO_RATE
        place, weights, _ = self.flow.unpack(self.y)
        V = dynamics.bound.potential(place, dynamics.bound.response(place, weights))
        return self._rate(float(V.min()), float(V.max()))

    def _wider_rate(self, beyond: float) -> Array:
        """A table of f(V) that reaches a V besides the values that it has."""
        self.widened += 1
        if self.widened > WIDENINGS:
            raise RoughError("V grows beyond any table of the rate")
        return self._rate(min(float(self.rate[2]), beyond), max(float(self.rate[3]), beyond))

    def _rate(self, low: float, high: float) -> Array:
        return rate_table(self.dynamics, low, high, min(self.lane.accuracy, self.stepping.rtol))


def rate_table(dynamics: Dynamics, low: float, high: float, accuracy: float) -> Array:
    """A table of f(V) for the V from `low` to `high` and half as many more on both sides, as compiled code reads it.

    Raises
    ------
    RoughError
        If f is not smooth there, or V is not finite.
    """
    rate = dynamics.problem.rate
    assert rate is not None
    if not math.isfinite(high - low):
        raise RoughError("V is not finite")
    more = MARGIN * (high - low) + 1e-3 * max(abs(low), abs(high), 1e-3)
    low, high = low - more, high + more
    return _of_one(table_of(lambda V: values_of(rate, V)[None], low, high, accuracy), low, high)


def _of_one(table: Array, low: float, high: float) -> Array:
    """A table of one function as compiled code reads it."""
    return np.concatenate([[float(len(table)), float(table.shape[1]), low, high], table[:, :, 0].ravel()])
