"""An accuracy instead of a mesh: meshes and steps are refined until the estimated error is small enough.

A level is a whole run with its estimate. Runs on half the cells of one axis, and with longer steps, say where its error
comes from; the order that several levels show says what the next level needs. The level whose estimate is below the
tolerance at every save time is accepted once another level bears it out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfpde.equation.grid import moving
from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.mesh.box import Prepare, again_on_larger_boxes
from mfpde.mesh.companion import LOOSER
from mfpde.mesh.controllers import ErrorControl
from mfpde.mesh.defaults import default_method, default_scheme
from mfpde.mesh.energy_errors import ROUNDED, largest_share
from mfpde.mesh.first_mesh import FEWEST, first_mesh, multiple_of_four
from mfpde.mesh.options import RunOptions
from mfpde.mesh.record import Result
from mfpde.mesh.solution import Solution
from mfpde.mesh.stopping import Limits, OnEndMass
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.session import RunWarning, budget_bar, interruptible, quiet

if TYPE_CHECKING:
    from mfpde.mesh.stream import Stream

__all__ = ["BUDGET", "SEARCH", "judge", "solve_within"]


SEARCH = ("tolerance", "tried")
"""What the configuration of a run says of the search that found its mesh: the accuracy that was asked for, and the
levels with their cells, the errors of their steps and their estimates."""
BUDGET = 600.0
"""Seconds that a search may take where nothing is said."""
STEP = 1e-2
"""Error of a step, relative to the mass, that a search begins with, as a share of the accuracy asked for."""
LONGEST_STEP, SHORTEST_STEP = 1e-4, 1e-12
"""Between which errors of a step a search stays."""
TIME_SHARE = 0.1
"""Share of the accuracy that the steps may use up."""
ENOUGH = 0.8
"""The share of the accuracy from which on an estimate, which is none to the last digit, is accepted."""
AIM = 0.7
"""What the next level is to reach, as a share of the accuracy: a prediction is not sure."""
APART = 1.2
"""By what factor the cells of two levels differ that bear each other out."""
END_MASS = 1e-3
"""Share of the accuracy that the mass next to a truncation end may have: the energy of what is cut off is then small
against the accuracy unless the potential there is a thousand times its range elsewhere."""
HONEST = 2.0
"""By how much two levels may differ more than their errors say."""
LITTLE = 0.2
"""The share of the accuracy that two levels may differ by in any case."""
LEAST_FACTOR, MOST_FACTOR = 1.0 / 3.0, 10.0
"""By how much estimates are taken to be too large or too small at most."""
NEAR = 2.2
"""How much finer a level is at most from which another one learns that its estimate is too large."""
MOST_ORDER = 4.0
"""The order up to which the levels scale an estimate."""
MIXED = 0.85
"""Finer by less than that is coarser."""
ORDERS = (0.7, 4.0)
"""Between which orders an observed one is believed."""
FIRST_ORDER = 2.0
"""The order before any is observed."""
GROWTH = {1: 4.0, 2: 2.0, 3: 2.0, 4: 1.7}
"""By how much an axis may be refined from one level to the next, by dimension."""
LEAST_SHARE = 0.2
"""The least share that an estimate is taken to have of the changes along all axes, whose signs may differ."""
FINER = 1.4
"""How much finer the cells are that bear out a mesh that is accurate enough."""
WASTE = 0.4
"""The share of its cells that would do from which on a mesh that is accurate enough is not kept."""
MOST_COARSER, STEEPEST = 8.0, 5.0
"""By how much an axis with too many cells may be coarsened, and the order that its error then rises by."""
MOST_LEVELS = 16
"""Levels of a search at most."""
CELL_COST, STEP_COST = 5e-8, 3e-4
"""Seconds of a cell and of a step of a mesh, about: only their ratio matters, what a run took says the rest."""


def solve_within(problem: Problem, options: RunOptions, stream: Stream | None, prepare: Prepare) -> Solution:
    """The run of a problem whose estimated error is below ``options.tolerance`` of the scale at every save time.

    Parameters
    ----------
    problem : Problem
    options : RunOptions
        With a tolerance; its shape is where the search begins.
    stream : Stream, optional
        Where the densities of the last run go.
    prepare : Prepare
        Makes a run ready.

    Returns
    -------
    Solution
        With result ``NOT_REACHED`` where time or memory ended before: the run with the smallest estimate.
    """
    budget = BUDGET if options.time_limit is None else options.time_limit
    name = problem.name if isinstance(problem, Problem) else ""
    with interruptible() as interrupted, budget_bar(options.progress, name, budget) as tell:
        return _Search(problem, options, stream, prepare, interrupted, tell).outcome()


def judge(solution: Solution, tolerance: float | None) -> None:
    """Say of a whole run that its accuracy was not reached, where one was asked for and it was not."""
    if tolerance is None or solution.result is not Result.SUCCESS:
        return
    error = _error(solution)
    if not error <= tolerance:
        solution.result = Result.NOT_REACHED
        solution.warnings.append(
            f"tolerance = {tolerance:g} was not reached: the error of the energy is about {error:.1g} of its scale"
        )


def _changes(one: Solution, other: Solution) -> Array:
    """By how much the energy of a run differs from that of another, as a share of the other's scale."""
    apart = np.abs(one.energy - other.energy)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart > 0.0, apart / _scale(other), 0.0)


def _scale(solution: Solution) -> Array:
    """The scale of the energy; of one that does not fall but by rounding, there is no share to be right to."""
    return np.maximum(solution.energy_scale, ROUNDED * np.abs(solution.energy))


def _error(solution: Solution) -> float:
    """The largest estimate over the save times, as a share of the scale there; infinite where there is none."""
    share = largest_share(solution.energy_error, _scale(solution))[0]
    return share if np.isfinite(solution.energy_error).all() and not math.isnan(share) else math.inf


@dataclass(eq=False)
class _Level:
    """A run of the search that came to its end, with where its error comes from as far as that is known.

    Attributes
    ----------
    solution : Solution
    step : float
        Its tolerance for the error of a step.
    error : float
        The largest estimate over the save times, as a share of the scale there.
    seconds : float
        What it took, its companion included.
    by_axis : tuple of float
        By how much the energy changes, as a share of its scale, where an axis has half the cells.
    by_steps : float
        The same where steps may be `LOOSER` times as wrong.
    step_powers : tuple of float
        By what power of the cells of an axis the number of steps grows.
    kept : bool
        Whether its densities are there: those of a run that was not accurate enough are not.
    factor : float
        What the estimate is multiplied with, as it and another level have shown.
    """

    solution: Solution
    step: float
    error: float
    seconds: float
    by_axis: tuple[float, ...] = ()
    by_steps: float = 0.0
    step_powers: tuple[float, ...] = ()
    kept: bool = True
    factor: float = 1.0

    @property
    def judged(self) -> float:
        """The error as it is believed to be."""
        return self.factor * self.error

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis that moves."""
        return self.solution.grid.free_shape

    @property
    def divisor(self) -> float:
        """By what its difference from its companion is divided for the estimate, at the end."""
        errors = self.solution.errors
        return 1.0 if errors is None else float(errors.divisor[-1])

    def finer_than(self, other: _Level) -> list[float]:
        """How many times the other level's cells are as large along each axis that moves."""
        here, there = self.solution.grid, other.solution.grid
        return [there.spacing[i] / here.spacing[i] for i in moving(here.axes)]

    def difference(self, other: _Level) -> float:
        """By how much the energies of two levels differ at most, as a share of the scale."""
        one, two = self.solution, other.solution
        if not np.array_equal(one.times, two.times):
            return math.inf
        return float(_changes(two, one).max())

    def expected(self, other: _Level) -> float:
        """By how much two levels should differ, as a share of the scale, if the estimate of the better one is right.

        The estimate is a share of what changes where all cells are twice as large. Where the other mesh is `r` times as
        coarse, the change is `(r^p - 1) / (2^p - 1)` times that one, with the order `p` that the estimates show.
        """
        coarse, fine = sorted((self, other), key=lambda level: -level.error)
        ratios = fine.finer_than(coarse)
        if min(ratios) < MIXED:
            return 0.0  # finer along one axis and coarser along another: a difference says nothing of either
        if max(ratios) < 1.1 or not 0.0 < fine.error < coarse.error:
            return fine.error + coarse.error
        order = min(max(math.log(coarse.error / fine.error) / math.log(max(ratios)), ORDERS[0]), ORDERS[1])
        return fine.divisor * fine.error * (max(ratios) ** order - 1.0) / (2.0**order - 1.0)

    def bears_out(self, other: _Level, tolerance: float) -> bool:
        """Whether two levels on different meshes differ by no more than they say, or by little for a tolerance."""
        one, two = sorted((self.solution.grid.size, other.solution.grid.size))
        return two >= APART * one and self.difference(other) <= max(HONEST * self.expected(other), LITTLE * tolerance)


class _Ended(Exception):
    """A run of the search did not come to its end: nothing more is begun."""

    def __init__(self, why: str, solution: Solution | None = None) -> None:
        super().__init__(why)
        self.solution = solution


class _Search:
    """One call of `solve_within`."""

    def __init__(
        self,
        problem: Problem,
        options: RunOptions,
        stream: Stream | None,
        prepare: Prepare,
        interrupted: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self.began = working_time()
        self.problem, self.options, self.stream, self.prepare = problem, options, stream, prepare
        self.interrupted, self.tell = interrupted, tell
        assert options.tolerance is not None
        self.tolerance = options.tolerance
        self.budget = BUDGET if options.time_limit is None else options.time_limit
        # the options have refused everything else
        given, initial = options.controller, options.initial
        self.clock = given if isinstance(given, ErrorControl) else ErrorControl(LONGEST_STEP)
        self.step = min(max(STEP * self.tolerance, SHORTEST_STEP), self.clock.tolerance)
        self.floor = self._floor(initial if isinstance(initial, Measure) else None)
        self.orders = [FIRST_ORDER] * len(moving(problem.axes))
        self.labels = 1 if problem.species is None else len(problem.species[1].labels)
        self.levels: list[_Level] = []
        self.rate = math.inf  # seconds of the work that `_work` counts
        self.streamed: Solution | None = None
        self.plain = self._plain_options()

    def _floor(self, initial: Measure | None) -> tuple[int, ...]:
        """The mesh to begin with, unless another is asked for; what a run would refuse is refused before the search."""
        problem, options = self.problem, dataclasses.replace(self.options, controller=self.clock)
        if options.shape is None and isinstance(problem, Problem):
            d = len(moving(problem.axes))
            options = dataclasses.replace(options, shape=(FEWEST[d],) * d)
        self.prepare(problem, options, None)
        return first_mesh(problem, initial)

    def _plain_options(self) -> RunOptions:
        """The options of all runs but the last: on any mesh by the same parts, and without what the user watches."""
        problem, options = self.problem, self.options
        fine = problem.grid(tuple(4 * n for n in self.floor))
        scheme = options.scheme or default_scheme(problem, fine, options.t_end)[0]
        method = options.method or default_method(problem, fine, scheme, options.t_end)[0]
        limits, on_end_mass = options.limits, options.on_end_mass
        if limits == Limits():
            limits = dataclasses.replace(limits, end_mass=min(limits.end_mass, END_MASS * self.tolerance))
        if on_end_mass is OnEndMass.WARN:
            on_end_mass = OnEndMass.EXTEND
        return dataclasses.replace(
            options, scheme=scheme, method=method, limits=limits, on_end_mass=on_end_mass, tolerance=None, stop=None,
            progress=False,
        )  # fmt: skip

    # ----- the search

    def outcome(self) -> Solution:
        """The run that is accurate enough, or the best one."""
        asked = self.options.shape
        shape, promising = self.floor if asked is None else self.problem.grid(asked).free_shape, False
        try:
            while len(self.levels) < MOST_LEVELS:
                self._begin_level(shape, promising)
                if (found := self._accepted()) is not None:
                    return self._as_asked(found)
                self._look_closer()
                shape, promising = self._next_shape()
        except _Ended as ended:
            return self._ended(str(ended), ended.solution)
        return self._ended(f"{MOST_LEVELS} meshes were not enough", None)

    def _begin_level(self, shape: tuple[int, ...], promising: bool) -> None:
        """Run on a mesh; into the file, if that run may be the last."""
        self.tell(" x ".join(map(str, shape)) + " cells")
        stream = self.stream if promising and self.options.stop is None else None
        if stream is not None:
            self._give_up_file(stream)
            stream.configuration |= self._account()
        began = working_time()
        solution = self._complete(self._with(shape, self.step), stream)
        if solution.result is Result.END_MASS and self.plain.on_end_mass is OnEndMass.EXTEND:
            # the box cannot be extended, or not far enough: that is said, and the run made as it can be
            self.plain = dataclasses.replace(self.plain, on_end_mass=OnEndMass.WARN)
            if stream is not None:
                stream.start_again()
            solution = self._complete(self._with(shape, self.step), stream)
        seconds = working_time() - began
        if stream is not None:
            self.streamed = solution
        if not solution.result.ok:
            raise _Ended("a run was cut short", solution)
        self.problem = solution.problem or self.problem
        self._note_cost(solution, seconds, 1.0)
        doubt = max(1.0, self.levels[-1].factor) if self.levels else 1.0
        self.levels.append(_Level(solution, self.step, _error(solution), seconds, factor=doubt))
        self._calibrate()
        self._forget()

    def _give_up_file(self, stream: Stream) -> None:
        """Let the next run have the file; large densities that are in it alone are lost."""
        if self.streamed is None:
            return
        for level in self.levels:
            if level.solution is self.streamed and not isinstance(self.streamed.density, np.ndarray):
                level.kept = False
        stream.start_again()

    def _forget(self) -> None:
        """Let go of the densities of all levels that will not be what comes back."""
        best = min(self.levels, key=lambda level: level.error)
        for level in self.levels:
            if level is not best and level.error > self.tolerance and level.solution is not self.streamed:
                level.solution.density, level.kept = level.solution.density[:0], False

    def _calibrate(self) -> None:
        """Learn from the last two levels by what factor estimates are too small or too large.

        Errors that fall by a factor ``r`` from a level to a finer one differ by ``r - 1`` times the smaller one: what
        the levels differ by says what the estimates should have been. So does the order ``p`` by which they fall, as
        the error is the change from twice as large cells over ``2^p - 1``. The larger of the two is believed.
        """
        if len(self.levels) < 2:
            return
        coarse, fine = sorted(self.levels[-2:], key=lambda level: -level.error)
        ratios = fine.finer_than(coarse)
        if not (0.0 < 1.3 * fine.error < coarse.error < math.inf and min(ratios) > MIXED and max(ratios) > 1.1):
            return
        shown = coarse.difference(fine) / (coarse.error - fine.error)
        order = min(math.log(coarse.error / fine.error) / math.log(max(ratios)), MOST_ORDER)
        by_order = fine.divisor / (2.0**order - 1.0)
        least = LEAST_FACTOR if max(ratios) <= NEAR else 1.0
        coarse.factor = fine.factor = min(max(shown, by_order, least), MOST_FACTOR)

    def _accepted(self) -> _Level | None:
        """The level with the fewest cells that is accurate enough and that another one bears out."""
        found = [
            level
            for level in self.levels
            if level.judged <= ENOUGH * self.tolerance
            and any(level.bears_out(other, self.tolerance) for other in self.levels if other is not level)
        ]
        return min(found, key=lambda level: level.solution.grid.size, default=None)

    def _look_closer(self) -> None:
        """Find where the error of the last level comes from, by runs on half the cells of an axis and longer steps.

        What counts is the save time at which all of these together change the energy most.
        """
        level, left = self.levels[-1], self.budget - (working_time() - self.began)
        # what is to be learnt here would then serve no further level; the first one may have had to be compiled
        if len(self.levels) > 1 and left < level.seconds:
            raise _Ended(f"a finer mesh would take longer than the {max(left, 0.0):.2g} s that are left")
        changes, powers = [], []
        for i, n in enumerate(level.shape):
            coarser = (*level.shape[:i], max(4, n // 2), *level.shape[i + 1 :])
            change, steps = self._probe(level, coarser, level.step)
            changes.append(change)
            powers.append(min(max(math.log2(max(level.solution.stats["steps"], 1) / max(steps, 1)), 0.0), 2.0))
        changes.append(self._probe(level, level.shape, LOOSER * level.step)[0])
        worst = int(np.argmax(np.sum(changes, axis=0)))
        *by_axis, level.by_steps = (float(change[worst]) for change in changes)
        level.by_axis, level.step_powers = tuple(by_axis), tuple(powers)
        if len(self.levels) > 1:
            self._observe_orders(self.levels[-2], level)

    def _observe_orders(self, before: _Level, level: _Level) -> None:
        """By which order the changes along an axis have fallen, or risen, from a level to the next."""
        for i, ratio in enumerate(level.finer_than(before)):
            finer = math.log(ratio)
            if abs(finer) > 0.15 and level.by_axis[i] > 0.0 and before.by_axis[i] > 0.0:
                order = math.log(before.by_axis[i] / level.by_axis[i]) / finer
                self.orders[i] = min(max(order, ORDERS[0]), ORDERS[1])

    def _probe(self, level: _Level, shape: tuple[int, ...], step: float) -> tuple[Array, int]:
        """By how much the energy of a level changes on another mesh or with other steps, and how many steps it took."""
        began = working_time()
        options = dataclasses.replace(
            self._with(shape, step), on_end_mass=OnEndMass.WARN, limits=Limits(), estimate=False
        )
        found = self._complete(options, None)
        if found.result.cut_short:
            raise _Ended("a run was cut short", found)
        if not np.array_equal(found.times, level.solution.times):  # it failed: all that is known is that it is coarse
            return np.full(len(level.solution.times), min(level.error, 1.0)), found.stats["steps"]
        self._note_cost(found, working_time() - began, 1.5)
        return _changes(found, level.solution), found.stats["steps"]

    # ----- what comes next

    def _next_shape(self) -> tuple[tuple[int, ...], bool]:
        """The mesh of the next level, with ``self.step`` its steps, and whether it should be accurate enough."""
        level = self.levels[-1]
        known = sum(level.by_axis) + level.by_steps
        # of the changes what is the estimate: changes of two axes may cancel, which the next mesh need not repeat
        share = max(level.judged / known, LEAST_SHARE) if known > 0.0 and math.isfinite(level.error) else 1.0
        of_steps, allowed = share * level.by_steps, TIME_SHARE * self.tolerance
        if of_steps > allowed:
            self.step = max(self.step * max(allowed / of_steps, 1e-3), SHORTEST_STEP)
            of_steps = allowed
        aim = AIM * self.tolerance - of_steps
        d = len(level.by_axis)
        parts = [1.0 / order for order in self.orders]  # what is least in all cells, as errors fall by these orders
        shape, predicted = [], 0.0
        for n, change, order, part in zip(level.shape, level.by_axis, self.orders, parts, strict=True):
            there = aim * part / sum(parts)
            factor = min((share * change / there) ** (1.0 / order), GROWTH[d])
            if factor < 0.5:  # from half the cells on, where the change is the error, by the highest order
                factor = max(0.5 * min((change / there) ** (1.0 / STEEPEST), 1.0), 1.0 / MOST_COARSER)
            shape.append(multiple_of_four(max(n * factor, min(n, FEWEST[d]))))
            finer = shape[-1] / n
            predicted += share * change / finer**order if finer >= 0.5 else change / (2.0 * finer) ** STEEPEST
        if level.judged <= ENOUGH * self.tolerance and (
            self.options.shape is None
            or len(self.levels) > 1
            or math.prod(shape) * self.labels > WASTE * level.solution.grid.size
        ):
            # accurate enough, and not borne out: a finer one is to say, as coarse ones may agree by chance
            shape = [multiple_of_four(FINER * n) for n in level.shape]
        elif tuple(shape) == level.shape and self.step == level.step:
            worst = int(np.argmax(level.by_axis))
            shape[worst] = multiple_of_four(1.15 * shape[worst] + 1)
        return self._affordable(tuple(shape)), predicted + of_steps <= self.tolerance

    def _affordable(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The mesh, or one between it and the last that the time left is enough for.

        Raises
        ------
        _Ended
            If it is enough for none that is worth it.
        """
        level = self.levels[-1]
        left = self.budget - (working_time() - self.began)
        finer = shape
        for part in (1.0, 0.8, 0.6, 0.4):
            finer = tuple(
                multiple_of_four(n * (m / n) ** part) if m > n else m for n, m in zip(level.shape, shape, strict=True)
            )
            if self._forecast(finer) <= 0.8 * left:
                return finer
        sizes = " x ".join(map(str, shape))
        raise _Ended(
            f"{sizes} cells would take about {self._forecast(shape):.2g} s, of which {max(left, 0.0):.2g} s are left"
        )

    def _forecast(self, shape: tuple[int, ...]) -> float:
        """Seconds that a level on a mesh will take."""
        level = self.levels[-1]
        steps = max(level.solution.stats["steps"], 1) * (level.step / self.step) ** (1.0 / 3.0)
        for n, m, power in zip(level.shape, shape, level.step_powers, strict=True):
            steps *= (m / n) ** power
        return self.rate * self._work(math.prod(shape) * self.labels, steps)

    def _note_cost(self, solution: Solution, seconds: float, factor: float) -> None:
        """Learn from a run what work costs; the least, as compiling is done once."""
        work = self._work(solution.grid.size, max(solution.stats["steps"], 1))
        self.rate = min(self.rate, factor * seconds / work)

    @staticmethod
    def _work(cells: int, steps: float) -> float:
        return steps * (STEP_COST + CELL_COST * cells)

    # ----- runs

    def _with(self, shape: tuple[int, ...], step: float) -> RunOptions:
        left = max(self.budget - (working_time() - self.began), 1e-3)
        controller = dataclasses.replace(self.clock, tolerance=step)
        return dataclasses.replace(self.plain, shape=shape, controller=controller, time_limit=left)

    def _complete(self, options: RunOptions, stream: Stream | None) -> Solution:
        """A run; its failure to begin, for want of memory or on a mesh that the energy refuses, ends the search."""
        if self.interrupted():
            raise _Ended("interrupted")
        try:
            with quiet(RunWarning):
                solution = self.prepare(self.problem, options, stream).complete()
                return again_on_larger_boxes(solution, self.problem, options, stream, self.prepare)
        except (MemoryError, ValueError, ArithmeticError) as error:
            if not self.levels:
                raise
            raise _Ended(" ".join(str(error).split())) from None

    # ----- the end

    def _account(self) -> dict[str, object]:
        """What the configuration says of the search: the accuracy asked for, and the levels with their errors."""
        tried = [
            {"shape": list(level.shape), "step": level.step, "error": float(f"{level.error:.2g}")}
            for level in self.levels
        ]
        return {"tolerance": self.tolerance, "tried": tried}

    def _as_asked(self, level: _Level) -> Solution:
        """The accepted run as the user wants it: with the stop condition, in the file."""
        if self.options.stop is None:
            return self._kept(level.solution, level.factor)
        if self.stream is not None:
            self.stream.configuration |= self._account()
        again = dataclasses.replace(self._with(level.shape, level.step), stop=self.options.stop)
        return self._kept(self._complete(again, self.stream), level.factor)

    def _kept(self, solution: Solution, factor: float = 1.0) -> Solution:
        """A run with the account of the search and its estimate as the levels show it, in the file if there is one."""
        solution.configuration |= self._account()
        if solution.errors is not None:
            solution.errors = dataclasses.replace(solution.errors, energy=factor * solution.errors.energy)
        if self.stream is not None:
            self.stream.keep(solution)
        return solution

    def _ended(self, why: str, cut: Solution | None) -> Solution:
        """What there is where the search has ended before its aim."""
        stopped = self.interrupted() or (cut is not None and cut.result is Result.INTERRUPTED)
        best = min((level for level in self.levels if level.kept), key=lambda level: level.judged, default=None)
        failed = cut is not None and not cut.result.cut_short
        if cut is not None and (failed or best is None or (stopped and cut is self.streamed)):
            return self._kept(cut)
        if best is None:
            raise KeyboardInterrupt
        solution = best.solution
        solution.result = Result.INTERRUPTED if stopped else Result.NOT_REACHED
        tried = ", ".join(f"{' x '.join(map(str, level.shape))} {level.judged:.1g}" for level in self.levels)
        unsure = ", which no other mesh has borne out" if best.judged <= self.tolerance else ""
        solution.warnings.append(
            f"tolerance = {self.tolerance:g} was not reached: the error of the energy is about {best.judged:.1g} of "
            f"its scale{unsure} (cells and errors of all meshes: {tried}); {why}"
        )
        return self._kept(solution, best.factor)
