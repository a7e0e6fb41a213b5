"""A route's levels, and the error bars that their differences let expect."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arguments import floats, shown
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable
from mfpde.verification.observables import DecayRate, EnergyAt, Measured, Observable
from mfpde.verification.references.routes import LEAST_LEVELS, Route

__all__ = [
    "FLOOR",
    "SAFETY",
    "SAFETY_IN_TIME",
    "Ladder",
    "Level",
    "Spread",
    "largest",
    "typical",
    "worst",
]


SAFETY = 5.0
"""By how much a bar is wider than the estimated error of nodes or mesh."""
SAFETY_IN_TIME = 3.0
"""The same for the error in time that finer steps left."""
LEAST_SHARE = 0.1
"""The least change of an observable that is believed, as a share of the usual one: a change may vanish by chance."""
SLOWEST = 0.9
"""The largest ratio of successive changes that is believed."""
FIRST, FIRST_ON_MESH = 1e-2, 0.2
"""The smallest ratio that is believed of three levels alone, of routes that may be spectral and of others."""
SHARE_IN_TIME = 0.05
"""What part of the goal the error in time may take."""
FLOOR = 1e-13
"""The smallest relative bar: round-off."""


@dataclass(frozen=True)
class Level:
    """What one run of a route gave.

    Attributes
    ----------
    values : list of array
        The observables, one row a time.
    cost, blind : float
        See `Route`.
    ancestral : float, optional
        See `Route`.
    """

    values: list[Array]
    cost: float
    blind: float
    ancestral: float | None = None


class Runner(Protocol):
    """Runs a level of a route with a tolerance in time, or knows what it gave."""

    def __call__(self, ladder: Ladder, level: int, step: float) -> Level:
        """What the level gave."""


@dataclass(frozen=True)
class Spread(Observable):
    """First and second moments along all axes, from the lower end and in lengths of the box: a witness.

    Along periodic axes cosine and sine instead, from 0 to 1: a coordinate jumps at the seam, and no rule for what jumps
    converges fast.
    """

    @property
    def name(self) -> str:
        """What a level calls it."""
        return "moments"

    def measure(self, at: Measured) -> Array:
        """Two numbers for each axis, shape (2 d,)."""
        found = []
        for axis, theta in zip(at.problem.axes, at.coordinates, strict=True):
            x = (theta - axis.lower) / axis.length
            turn = 2.0 * math.pi * x
            pair = (0.5 + 0.5 * np.cos(turn), 0.5 + 0.5 * np.sin(turn)) if axis.periodic else (x, x**2)
            found += [float((at.weights * values).sum()) for values in pair]
        return np.array(found)


class Ladder(Portable):
    """What a route has found so far, and what can be said of its errors.

    Parameters
    ----------
    route : Route
    wanted : sequence of Observable
    where : sequence of array of int
        For each of them which of the route's times are its.
    runner : callable
        Runs a level.
    floors : sequence of float, optional
        Values of the observables below which bars are not relative to them, but to these.
    """

    def __init__(
        self, route: Route, wanted: Sequence[Observable], where: Sequence[NDArray[np.intp]], runner: Runner,
        floors: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        self.route, self.runner, self.count = route, runner, len(wanted)
        self.floors = list(floors) if floors is not None else [0.0] * len(wanted)
        # energy and moments are always watched: a single number may stand still by chance
        everywhere = np.arange(len(route.times))
        self.wanted = [*wanted, EnergyAt(), Spread()]
        self.where = [*where, everywhere, everywhere]
        self.levels: list[Level] = []
        self.finest: Level | None = None
        """The last level that was settled, with the finest steps."""
        self.in_time: list[Array] = []
        """How much finer steps changed; empty as long as that was not seen."""
        self.spent, self.most = 0.0, math.inf
        """What all runs cost, see `Route`, and what they may cost."""
        self.spent_out = False
        """Whether steps can not be made finer."""
        self.failed = ""
        """Why there can be no further level, if so."""
        self.settled = 0
        """The level up to which that was seen, counted from 1."""

    @property
    def values(self) -> list[list[Array]]:
        """The observables of each level."""
        return [level.values for level in self.levels]

    @property
    def best(self) -> list[Array]:
        """The observables as well as they are known."""
        return self.everything[: self.count]

    @property
    def everything(self) -> list[Array]:
        """The same, and the energy and the moments."""
        settled = self.settled == len(self.levels) and self.finest is not None
        return self.finest.values if settled and self.finest is not None else self.levels[-1].values

    def measure(self, level: int, step: float, deadline: float) -> list[Array]:
        """Run a level and measure the observables; see `Route.run`."""
        values: list[list[Array]] = [[] for _ in self.wanted]
        for i, at in enumerate(self.route.run(level, step, deadline)):
            for k, observable in enumerate(self.wanted):
                if i in self.where[k]:
                    values[k].append(_numbers(observable, at, values[k]))
        found = [
            o.combine(np.stack(v), self.route.times[at]) if isinstance(o, DecayRate) else np.stack(v)
            for o, v, at in zip(self.wanted, values, self.where, strict=True)
        ]
        for k, (o, v) in enumerate(zip(self.wanted, found, strict=True)):
            if not np.isfinite(v).all():  # no level is fine enough for it
                remedy = "leave it out" if k < self.count else "it is watched besides what is asked for: give a number"
                raise ValueError(f"{o.name} is not finite ({self.route.name} says {shown(v)}); {remedy}")
        return found

    def compute(self, level: int, step: float, deadline: float) -> Level:
        """`measure`, and what the route says of the run."""
        values = self.measure(level, step, deadline)
        return Level(values, self.route.cost, self.route.blind, self.route.ancestral)

    def portable(self) -> Ladder:
        """The same for a worker: without levels, nobody who runs them, and a route of its own for what a run leaves."""
        found = copy.copy(self)
        found.route = self.route.portable()
        found.levels, found.finest, found.in_time, found.runner = [], None, [], _nobody
        return found

    def advance(self, goal: float) -> None:
        """What brings the bars nearer to a goal: finer steps where they are unknown or missing, else one more level."""
        once = self.route.settles_once
        if len(self.levels) == (1 if once else LEAST_LEVELS) and not self.in_time:
            self.settle(math.inf)
        elif len(self.levels) >= LEAST_LEVELS and (self.time_bound or (self.unsettled and self.worst() <= goal)):
            # where finer steps were seen on the first level only, those of the last are made finer once to begin with
            self.settle(math.inf if once and self.settled < len(self.levels) else goal)
        else:
            self.levels.append(self.run(len(self.levels), self.route.step))

    def run(self, level: int, step: float) -> Level:
        """A level, its cost counted."""
        found = self.runner(self, level, step)
        self.spent += found.cost
        return found

    def settle(self, goal: float) -> None:
        """See how much finer steps change on the last level, until that is a small part of the goal.

        Once, and then again as long as that does not cost more than `most` in all.
        """
        route, level, before = self.route, len(self.levels) - 1, self.route.step
        if len(self.levels) >= LEAST_LEVELS:  # what is small beside the error in space is small enough
            goal = max(goal, worst(self._in_space()[0][: self.count], self.scales))
        if self.settled == len(self.levels) and self.finest is not None:
            route.step, self.levels[-1] = route.finer * route.step, self.finest
        found, in_time = self.levels[-1], [np.zeros_like(v) for v in self.levels[-1].values]
        while route.finer < 1.0:
            found = self.run(level, route.finer * route.step)
            in_time = [np.abs(b - a) for a, b in zip(self.levels[-1].values, found.values, strict=True)]
            small = worst(in_time[: self.count], self.scales) <= SHARE_IN_TIME * goal / max(route.left, 0.1)
            # half the steps are twice the work
            self.spent_out = route.finer**2 * route.step < route.least_step or self.spent + 2.0 * found.cost > self.most
            if small or self.spent_out:
                break
            route.step, self.levels[-1] = route.finer * route.step, found
        self.finest, self.in_time = found, in_time
        self.settled = len(self.levels)
        if route.step < before:
            # changes from level to level are those of one tolerance
            for coarser in range(max(level - 2, 0), level):
                self.levels[coarser] = self.run(coarser, route.step)

    @property
    def unsettled(self) -> bool:
        """Whether the error in time of the last level is still to be seen."""
        return self.settled < len(self.levels) and not (self.route.settles_once and self.in_time)

    @property
    def time_bound(self) -> bool:
        """Whether the error in time is most of the bar, or hides what levels change, and can be made smaller."""
        if not self.in_time or self.spent_out:
            return False
        hidden = len(self.levels) > LEAST_LEVELS and typical(self._changes()[-1]) <= typical(
            [dt / s for dt, s in zip(self.in_time, self.scales, strict=True)]
        )
        return hidden or self._in_time() > 0.5 * self.worst()

    def _in_time(self) -> float:
        """The part of the error in time in the largest bar."""
        missing = self.route.left + (0.0 if self.settled == len(self.levels) else 1.0)
        return SAFETY_IN_TIME * missing * worst(self.in_time[: self.count], self.scales)

    @property
    def scales(self) -> list[Array]:
        """What bars are relative to: the largest value of the same time; for the witnesses, of all times."""
        values = self.levels[-1].values
        wanted = [scale(v, floor) for v, floor in zip(values, self.floors, strict=False)]
        # moments in lengths of the box are 0 where all mass is at its lower end
        return wanted + [np.full(v.shape, max(float(np.abs(v).max()), 1e-12)) for v in values[self.count :]]

    def ratios(self, sizes: Sequence[float]) -> tuple[float, float]:
        """What the last of typical changes is of the one before, and what the next one will be of it."""
        if not all(math.isfinite(c) for c in sizes):
            return SLOWEST, SLOWEST
        found = [b / a if a > 0 else 0.0 for a, b in itertools.pairwise(sizes)]
        last, fastest = found[-1], self.route.fastest
        if fastest is not None:
            # one order: it shows in one step, in two and in three, and the worst of them is taken
            last = max(math.prod(found[-n:]) ** (1.0 / n) for n in range(1, min(3, len(found)) + 1))
            following = last = max(last, fastest if len(found) > 1 else FIRST_ON_MESH)
        elif len(found) == 1:
            following = last = max(last, FIRST)
        else:
            # spectral: the ratio falls from level to level, but not evenly: what two steps tell is believed
            following = last = max(last, math.sqrt(last * found[-2]))
        return min(last, SLOWEST), min(following, SLOWEST)

    def bars(self) -> tuple[list[Array], float]:
        """The bars of the last level, and the ratio that the next change is expected to have to the last."""
        if len(self.levels) < LEAST_LEVELS or not (self.in_time or self.route.finer == 1.0):
            shapes = [v.shape for v in self.levels[-1].values[: self.count]] if self.levels else []
            return [np.full(shape, np.inf) for shape in shapes], math.nan
        space, following = self._in_space()
        bars = [bar + dt for bar, dt in zip(space, self.time_bars(), strict=True)]
        return bars[: self.count], following

    def _in_space(self) -> tuple[list[Array], float]:
        """The part of the bars that comes from levels, of the witnesses as well; and the largest ratio, see `bars`."""
        scales, changes = self.scales, self._changes()
        by_level = [self._at_times(change) for change in changes]
        # each time converges at a pace of its own: what is narrow later takes more nodes, and not what was before
        ratios = {i: self.ratios([typical(found[i]) for found in by_level]) for i in by_level[-1]}
        lasts, followings = (self._in_rows({i: pair[k] for i, pair in ratios.items()}, changes[-1]) for k in (0, 1))
        usual = self.usual(changes[-1])
        blind = self.levels[-1].blind
        bars = []
        for d1, d2, d, s, last, following in zip(
            changes[-2], changes[-1], usual, scales, lasts, followings, strict=True
        ):
            # a change may be small by chance: neither what the one before lets expect, nor the others, are forgotten
            change = np.maximum(np.maximum(np.abs(d2), last * np.abs(d1)), LEAST_SHARE * d)
            bars.append((SAFETY * following / (1.0 - following) * change + blind + FLOOR) * s)
        return bars, max(following for _, following in ratios.values())

    def usual(self, parts: Sequence[Array]) -> list[Array]:
        """What numbers, one list for each observable and witness, are as a rule at their times.

        That is the median over all observables of a time: what is all but 0, and so badly known, is not the rule; and
        later times are not those that tell of earlier ones.
        """
        medians = {i: float(np.median([typical([one]) for one in found])) for i, found in self._at_times(parts).items()}
        return self._in_rows(medians, parts)

    def _rows(self, parts: Sequence[Array]) -> list[NDArray[np.intp]]:
        """The times of each observable and witness: decay rates belong to the later of two."""
        return [where[len(where) - len(part) :] for where, part in zip(self.where, parts, strict=True)]

    def _at_times(self, parts: Sequence[Array]) -> dict[int, list[Array]]:
        """For each time what there is of it, one entry an observable."""
        found: dict[int, list[Array]] = {}
        for where, part in zip(self._rows(parts), parts, strict=True):
            for i, one in zip(where, part, strict=True):
                found.setdefault(int(i), []).append(one)
        return found

    def _in_rows(self, values: dict[int, float], parts: Sequence[Array]) -> list[Array]:
        """Numbers of times, one row a time, for each observable and witness."""
        return [
            np.array([values[int(i)] for i in where]).reshape(-1, *(1,) * (part.ndim - 1))
            for where, part in zip(self._rows(parts), parts, strict=True)
        ]

    def _changes(self) -> list[list[Array]]:
        """From level to level, relative to `scales`."""
        scales = self.scales
        pairs = itertools.pairwise(self.values)
        return [[(y - x) / s for x, y, s in zip(a, b, scales, strict=True)] for a, b in pairs]

    def time_bars(self) -> list[Array]:
        """The part of the error in time in the bars: of the last level all that finer steps change, if it has none."""
        missing = self.route.left + (0.0 if self.settled == len(self.levels) else 1.0)
        scales = self.scales
        changed = self.in_time or [np.zeros_like(s) for s in scales]
        parts = [missing * dt / s for dt, s in zip(changed, scales, strict=True)]
        return [
            SAFETY_IN_TIME * np.maximum(part, LEAST_SHARE * d) * s
            for part, d, s in zip(parts, self.usual(parts), scales, strict=True)
        ]

    def worst(self) -> float:
        """The largest relative bar."""
        return worst(self.bars()[0], self.scales) if self.levels else math.inf

    def reached(self, goal: float) -> bool:
        """Whether the bars are within a goal, the error in time of the last level among them."""
        return self.worst() <= goal and not self.unsettled

    @property
    def stuck(self) -> bool:
        """Whether the error in time is most of the bar, and cannot be made smaller; or all of it is round-off."""
        if len(self.levels) < LEAST_LEVELS or self.unsettled:
            return False
        if self.worst() <= 2.0 * FLOOR:
            return True
        return self.spent_out and bool(self.in_time) and self._in_time() > 0.5 * self.worst()

    def next_cost(self) -> float:
        """What the next level will cost, see `Route`."""
        level = len(self.levels)
        if not level:
            return self.route.first_cost
        return self.levels[-1].cost * self.route.work(level) / self.route.work(level - 1)

    def forecast(self, goal: float) -> float:
        """What it will cost until the bars have reached a goal."""
        if len(self.levels) < LEAST_LEVELS:
            return math.inf
        reached, ratio = self.worst(), self.bars()[1]
        level, total, cost = len(self.levels), 0.0, self.levels[-1].cost
        while reached > goal and level < len(self.levels) + 40:
            cost *= self.route.work(level) / self.route.work(level - 1)
            total += cost
            reached *= ratio
            level += 1
        return total if reached <= goal else math.inf

    def work(self) -> float:
        """The work of the last level, in units of the route."""
        return self.route.work(len(self.levels) - 1)

    def size(self) -> str:
        """Cells or nodes of the last level, in words."""
        return self.route.size(len(self.levels) - 1)


def _nobody(ladder: Ladder, level: int, step: float) -> Level:
    """In a worker a ladder is told which level to compute."""
    raise AssertionError(f"level {level} of {ladder.route.name} is asked for in a worker")


def _numbers(observable: Observable, at: Measured, before: Sequence[Array]) -> Array:
    """What an observable, perhaps one of the user's, gives: numbers, and as many as before."""
    given = observable.measure(at)
    found = floats(given, observable.name)
    if before and found.shape != before[0].shape:
        raise ValueError(f"{observable.name} must have one shape at all times, not {before[0].shape} and {found.shape}")
    return found


def typical(changes: Sequence[Array]) -> float:
    """The root mean square over all observables, each counted once."""
    return math.sqrt(sum(float(np.mean(c**2)) for c in changes) / len(changes))


def largest(values: Array) -> Array:
    """The largest absolute value of the same time, in the shape of the values: what relative errors are relative to."""
    axes = tuple(range(1, values.ndim))
    found = np.abs(values).max(axis=axes, keepdims=True) if axes else np.abs(values)
    return np.asarray(np.broadcast_to(found, values.shape))


def scale(values: Array, floor: float = 0.0) -> Array:
    """`largest`, but no zeros."""
    return np.maximum(largest(values), max(1e-12 * float(np.abs(values).max()), floor, 1e-300))


def worst(bars: Sequence[Array], scales: Sequence[Array]) -> float:
    """The largest of some bars, relative to their scales."""
    return max(float((bar / s).max()) for bar, s in zip(bars, scales, strict=False))
