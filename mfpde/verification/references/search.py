"""How a reference is found: which discretisation is refined next, until the bars are small or the budget is spent.

A `Job` refines three sequences for some observables: the one that gives the value, the same discretisation on other
nodes, which bears it out at the level of its bar, and an independent one, which confirms the implementation. A
`Search` has what the jobs share.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.lagrangian.nodes import OutOfTime
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.saves import nearest
from mfpde.verification.observables import DecayRate, Observable, as_times
from mfpde.verification.references.ahead import Ahead
from mfpde.verification.references.certified import CONFIRMED, ROUND_OFF, Certified, LevelRun
from mfpde.verification.references.level_cache import LevelCache
from mfpde.verification.references.refinement import FLOOR, SAFETY, SAFETY_IN_TIME, Ladder, Level, worst
from mfpde.verification.references.routes import (
    LEAST_LEVELS,
    SECOND_TO_COMPILED,
    MeshRoute,
    NodeRoute,
    Route,
    RouteError,
    another_mesh,
    routes,
)

__all__ = ["Disagreement", "Job", "Search"]


CONFIRMS = 100.0
"""How much wider than the tolerance the bars of the implementation's check may be, if that is not much work."""
NARROWEST, NARROWEST_OF_MESH = 1e-4, 1e-3
"""Relative bars below this are not asked of it; and of a mesh that confirms compiled nodes, and takes longer."""
DOUBT = 3.0
"""By how much more than both bars two routes may differ: bars hold nearly always, and that is not always."""
NEAR, NEAR_OF_MESH, FAR = 10.0, 0.5, 30.0
"""Work, in about seconds, that is little; little beside compiled nodes; and the most for a check of the implementation.
"""
LEAST_DISTANCE = 0.3
"""The least distance to differently placed nodes that is believed, as a share of the usual one."""
SHARES = (0.5, 0.8, 1.0)
"""Of the budget, when the value, its check and the check of the implementation have to be there."""


class Disagreement(RuntimeError):
    """Independent discretisations that differ by more than their bars: at least one bar is wrong."""


class Search:
    """What the jobs of one reference share: the problem, what may be spent, and the levels."""

    def __init__(
        self, problem: Problem, tolerance: float, budget: float, memory: float, cache: LevelCache | None
    ) -> None:
        self.problem, self.tolerance, self.memory, self.cache = problem, tolerance, memory, cache
        self.end = working_time() + budget
        self.deadline = self.end
        self.say: Callable[[str], None] = lambda text: None
        self.levels: list[LevelRun] = []
        self.ahead: Ahead | None = None
        """Who computes levels, where that is not this process."""

    def run(self, ladder: Ladder, level: int, step: float) -> Level:
        """A level of a route: from the disk, or computed, by the deadline of the present phase."""
        route = ladder.route
        route.prepare(self.deadline)
        cells = route.cells(level)
        key = self.cache.key(route, level, step, ladder.wanted, ladder.where) if self.cache is not None else ""
        found = self.cache.find(key) if self.cache is not None else None
        if found is None:
            if working_time() > self.deadline:
                raise OutOfTime
            self.say(f"{route.name}, {route.size(level)}")
            began = working_time()
            if self.ahead is not None:
                found = self.ahead.level(ladder, level, step, self.deadline)
            else:
                found = ladder.compute(level, step, self.deadline)
            self.levels.append(LevelRun(route.name, cells, working_time() - began))
            if self.cache is not None:
                self.cache.keep(key, found)
        else:
            self.levels.append(LevelRun(route.name, cells, 0.0))
        return found


class Job:
    """Some observables by the same routes.

    The path of refinement depends on what is found and on counted work, not on the clock, which only ends it.
    """

    def __init__(
        self, search: Search, wanted: Sequence[Observable], each: Sequence[tuple[float, ...]], mesh: bool
    ) -> None:
        self.search, self.wanted, self.each = search, wanted, each
        every = np.array(as_times([t for at in each for t in at]))
        if every[-1] == 0.0:  # the start: a run has some length
            every = np.array([0.0, search.problem.t_end])
        self.times = every
        self.where = [nearest(every, at) for at in each]
        self.floors = [ROUND_OFF * o.bound(search.problem) / search.tolerance for o in wanted]
        self.candidates = [self.ladder(route) for route in routes(search.problem, every, mesh)]
        self.checked: Ladder | None = None
        self.check: Ladder | None = None
        self.other: Ladder | None = None

    def ladder(self, route: Route) -> Ladder:
        """A route's levels, none yet."""
        return Ladder(route, self.wanted, self.where, self.search.run, self.floors)

    @property
    def best(self) -> Ladder:
        """The route that gives the value: once it is checked, it stays."""
        if self.checked is not None:
            return self.checked
        return min(self.candidates, key=lambda ladder: (ladder.worst(), -len(ladder.levels)))

    def refine(self, left: int) -> None:
        """The value, its check, and that of the implementation; `left` jobs share what time there is."""
        began = working_time()
        whole = max(self.search.end - began, 0.0) / left
        for share, phase in zip(SHARES, (self.find_value, self.find_check, self.find_other), strict=True):
            self.search.deadline = began + share * whole
            with contextlib.suppress(OutOfTime):
                phase()
            if not math.isfinite(self.best.worst()):
                # there is nothing to check yet: all the time is for the value
                self.search.deadline = began + whole
                with contextlib.suppress(OutOfTime):
                    self.find_value()

    def possible(self, ladder: Ladder) -> bool:
        """Whether another level would help, and fits into the memory; without the first there is nothing to say."""
        level = len(ladder.levels)
        fits = level < LEAST_LEVELS or ladder.route.bytes(level) <= self.search.memory
        return fits and not (ladder.stuck or ladder.failed)

    @staticmethod
    def advance(ladder: Ladder, goal: float) -> None:
        """Compute the next level of a route; one that cannot go on has failed."""
        try:
            ladder.advance(goal)
        except RouteError as error:
            ladder.failed = str(error)

    @staticmethod
    def settle(ladder: Ladder, goal: float) -> None:
        """Make the steps of the last level finer until they do not matter, where that is still to be done."""
        if ladder.levels and ladder.unsettled and not ladder.failed:
            try:
                ladder.settle(goal)
            except RouteError as error:
                ladder.failed = str(error)

    def find_value(self) -> None:
        """Refine both candidates, with as much work for the one as for the other, until one is there.

        Compiled nodes go first, and on as long as they are expected to be there with as much work again.
        """
        tolerance = self.search.tolerance
        while not any(ladder.reached(tolerance) for ladder in self.candidates):
            able = [ladder for ladder in self.candidates if self.possible(ladder)]
            if not able:
                break
            first = able[0]
            if not (_compiled(first) and first.forecast(tolerance) <= max(first.spent, SECOND_TO_COMPILED)):
                first = min(able, key=lambda ladder: ladder.spent + ladder.next_cost())
            self.advance(first, tolerance)
        self.settle(self.best, tolerance)

    def find_check(self) -> None:
        """Refine the same discretisation on other nodes until its bars are as small, and the two agree."""
        best, tolerance = self.best, self.search.tolerance
        self.checked = best
        if self.search.ahead is not None and best.levels:  # the implementation's check is going to be asked for, too
            _, other = self.independent(best)
            self.search.ahead.begin(other, range(len(other.levels), LEAST_LEVELS), other.route.step)
        route = best.route.other(len(best.levels) - 1)
        # two spectral quadratures of one functional bear each other out
        self.check = self.ladder(route) if route is not None else self.another(best)
        while self.possible(self.check):
            # with no fewer nodes than the value has, the distance is its error and not that of the check
            if self.check.reached(tolerance) and (not isinstance(route, NodeRoute) or self.check.work() >= best.work()):
                break
            self.advance(self.check, tolerance)
        self.settle(self.check, tolerance)
        # first levels may be too coarse for their bars: the finer ones decide
        for _ in range(2):
            if not _apart(self.search.problem, best, self.check, 1.0):
                break
            for ladder in (self.check, best):
                if self.possible(ladder):
                    self.advance(ladder, 0.0)
                    self.settle(ladder, tolerance)

    def another(self, best: Ladder) -> Ladder:
        """The candidate that does not give the value."""
        return next(ladder for ladder in self.candidates if ladder is not best)

    def independent(self, best: Ladder) -> tuple[float, Ladder]:
        """What is asked of the implementation's check, and its levels."""
        other = self.another(best)
        narrowest = NARROWEST_OF_MESH if _compiled(best) else NARROWEST
        goal = min(max(CONFIRMS * self.search.tolerance, narrowest), CONFIRMED)
        if _compiled(best) and isinstance(other.route, MeshRoute) and not other.levels:
            other = self.ladder(other.route.rough())
        return goal, other

    def find_other(self) -> None:
        """Refine an independent discretisation until it says something."""
        best = self.best
        goal, other = self.independent(best)
        other.most = other.spent + FAR
        while len(other.levels) < LEAST_LEVELS and self.possible(other):
            self.advance(other, goal)
        near = NEAR_OF_MESH if _compiled(best) else NEAR
        slow = isinstance(other.route, NodeRoute) and not other.forecast(CONFIRMED) <= NEAR
        self.other = other if other.levels else None
        if slow and isinstance(other.route, NodeRoute):
            # nodes converge slowly here: another mesh confirms more
            other = self.ladder(another_mesh(self.search.problem, self.times))
            other.most = FAR
        while self.possible(other) and other.spent + other.next_cost() <= other.most:
            if len(other.levels) > 4 and other.forecast(CONFIRMED) > FAR:
                break
            target = goal if other.forecast(goal) <= near else CONFIRMED
            if other.reached(target) and not _apart(self.search.problem, best, other, 1.0):
                break
            self.advance(other, target)
            if len(other.levels) >= LEAST_LEVELS:
                self.other = other
        self.settle(other, goal)
        self.other = other if other.levels else self.other

    @property
    def reached(self) -> bool:
        """Whether the bars are within the tolerance, those that reach to another value as well, and borne out."""
        best = self.best
        if self.check is None or not self.check.levels or not best.levels or best.settled != len(best.levels):
            return False
        checked = self.check.worst() <= DOUBT * self.search.tolerance
        return checked and worst(self.bars(), best.scales) <= self.search.tolerance

    @property
    def _knows(self) -> bool:
        """Whether the independent discretisation knows the value well enough to confirm it, or to contradict."""
        return self.other is not None and self.other.worst() <= CONFIRMED

    @property
    def ancestral(self) -> float | None:
        """The least ancestral mass that nodes found."""
        for ladder in self.candidates:
            if ladder.levels and ladder.levels[-1].ancestral is not None:
                return ladder.levels[-1].ancestral
        return None

    def bars(self) -> list[Array]:
        """The bars of the value, as far as values that do not agree with it."""
        best = self.best
        bars = best.bars()[0]
        if self.check is not None and self.check.levels and isinstance(best.route, NodeRoute):
            bars = _borne_out(best, self.check)
        for second in (self.check, self.other if self._knows else None):
            if second is not None and second.levels:
                theirs = zip(best.best, bars, second.best, second.bars()[0], strict=True)
                bars = [_reaching(*of) for of in theirs]
        problem = self.search.problem
        return [np.maximum(bar, o.rounding(problem)) for bar, o in zip(bars, self.wanted, strict=True)]

    def result(self) -> list[Certified]:
        """What is known.

        Raises
        ------
        Disagreement
            If the independent discretisation says something else.
        RuntimeError
            If nothing is known.
        """
        best = self.best
        failed = [ladder.failed for ladder in self.candidates if ladder.failed]
        if not best.levels and failed:
            raise RuntimeError(f"no discretisation of {self.search.problem.name!r} gets anywhere: {'; '.join(failed)}")
        if not best.levels:
            raise RuntimeError(
                f"the budget was over before the first run of {self.search.problem.name!r} was; give more (budget=)"
            )
        if self.other is not None and self._knows and (apart := _apart(self.search.problem, best, self.other, DOUBT)):
            raise Disagreement(apart)
        seconds = [self.check, self.other]
        bars = self.bars()
        found = []
        for k, (observable, at) in enumerate(zip(self.wanted, self.each, strict=True)):
            there = [
                (ladder.route.name, ladder.best[k], ladder.bars()[0][k], ladder.size())
                if ladder is not None and ladder.levels
                else ("", None, None, "")
                for ladder in seconds
            ]
            (check, check_value, check_bar, check_size), (other, other_value, other_bar, other_size) = there
            found.append(
                Certified(
                    name=observable.name,
                    times=np.array(at)[1 if isinstance(observable, DecayRate) else 0 :],
                    value=best.best[k],
                    bar=bars[k],
                    route=best.route.name,
                    other=other,
                    other_value=other_value,
                    other_bar=other_bar,
                    observable=observable,
                    check=check,
                    check_value=check_value,
                    check_bar=check_bar,
                    sizes=(best.size(), check_size, other_size),
                    floor=self.floors[k],
                )
            )
        return found


def _compiled(ladder: Ladder) -> bool:
    """Whether a route's levels are nodes that a compiled program moves."""
    return isinstance(ladder.route, NodeRoute) and ladder.route.compiled


def _borne_out(best: Ladder, check: Ladder) -> list[Array]:
    """Bars of nodes, from their distance to differently placed ones: between two and five times that.

    The errors of two spectral rules, and of two methods in time, have nothing in common, other than those of two
    meshes, and the larger of them is about the distance. As two numbers may be near each other by chance, a third of
    the usual distance, of energy and moments as well, is the least that is believed.
    """
    scales = best.scales
    pairs = zip(best.everything, check.everything, scales, strict=True)
    distances = [np.abs(a - b) / s for a, b, s in pairs]
    usual = best.usual(distances)
    blind = best.levels[-1].blind + FLOOR
    # two values are no nearer to the truth than their steps, however near to each other
    in_steps = [bar / SAFETY_IN_TIME for bar in check.time_bars()]
    known = [
        np.maximum(np.maximum(distance, LEAST_DISTANCE * d) * scale, steps)
        for distance, d, scale, steps in zip(distances, usual, scales, in_steps, strict=True)
    ]
    return [
        np.maximum(np.minimum(bar, SAFETY * far + blind * scale), 2.0 * far)
        for bar, far, scale in zip(best.bars()[0], known, scales, strict=False)
    ]


def _reaching(value: Array, bar: Array, second: Array, own: Array) -> Array:
    """The bar, as far as the other value where the two do not overlap."""
    distance = np.abs(second - value)
    return np.where(distance <= bar + own, bar, np.maximum(bar, distance))


def _apart(problem: Problem, best: Ladder, other: Ladder, doubt: float) -> str:
    """Where two routes differ by more than so many times their bars; empty if nowhere."""
    if not (best.levels and other.levels):
        return ""
    bars, others = best.bars()[0], other.bars()[0]
    for observable, a, b, x, y in zip(best.wanted, best.best, other.best, bars, others, strict=False):
        off = np.abs(a - b) - doubt * (x + y)
        if not off.max() <= 0:  # NaN included
            k = np.unravel_index(int(np.argmax(off)), off.shape)
            return (
                f"{problem.name!r}, {observable.name}: {best.route.name} says {a[k]:.10g} +- {x[k]:.2g}, "
                f"{other.route.name} {b[k]:.10g} +- {y[k]:.2g}; refine further (budget=), or look at the problem"
            )
    return ""
