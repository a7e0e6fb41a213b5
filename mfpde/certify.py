"""`reference`: numbers with error bars, from independent discretisations that are refined until the bars are small."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.problem import Problem, Reaction
from mfpde.lagrangian.ancestry import descent_at
from mfpde.lagrangian.nodes import OutOfTime
from mfpde.level_cache import LevelCache, cache_folder
from mfpde.observables import (
    DecayRate,
    DensityAt,
    EnergyAt,
    Marginal,
    MassIn,
    Measured,
    Moment,
    Observable,
    OutputAt,
    as_times,
)
from mfpde.refinement import FLOOR, LEAST_LEVELS, SAFETY, SAFETY_IN_TIME, Ladder, Level, worst
from mfpde.routes import NodeRoute, Route, RouteError, another_mesh, routes
from mfpde.support.arguments import FLAG, FUNCTION, NONE, POSITIVE, entries, real, require, shown
from mfpde.support.arrays import Array
from mfpde.support.saves import nearest
from mfpde.support.session import budget_bar

if TYPE_CHECKING:
    import pandas

__all__ = [
    "Certified",
    "DecayRate",
    "DensityAt",
    "Disagreement",
    "EnergyAt",
    "Marginal",
    "MassIn",
    "Measured",
    "Moment",
    "Observable",
    "OutputAt",
    "Reference",
    "reference",
]


ROUND_OFF = 1e-13
"""A bar of this share of the largest possible value is narrow enough, however small the value is."""
CONFIRMS = 100.0
"""How much wider than the tolerance the bars of the implementation's check may be, if that is not much work."""
NARROWEST = 1e-4
"""Relative bars below this are not asked of it."""
CONFIRMED = 1e-2
"""What is not known to that by an independent discretisation is not confirmed."""
DOUBT = 3.0
"""By how much more than both bars two routes may differ: bars hold nearly always, and that is not always."""
NEAR, FAR = 10.0, 30.0
"""Work, in about seconds, that is little, and that is the most for a check of the implementation."""
LEAST_DISTANCE = 0.3
"""The least distance to differently placed nodes that is believed, as a share of the usual one."""
SHARES = (0.5, 0.8, 1.0)
"""Of the budget, when the value, its check and the check of the implementation have to be there."""


class Disagreement(RuntimeError):
    """Independent discretisations that differ by more than their bars: at least one bar is wrong."""


# ---------------------------------------------------------------------------------------------------------------------
# the result
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Certified:
    """An observable with its error bar.

    Attributes
    ----------
    name : str
    times : array, shape (m,)
        Infinity is the end state.
    value, bar : array, shape (m, ...)
        The true value is expected within ``value +- bar``: an estimate, not a proof.
    route : str
        The discretisation that gave it.
    other : str
        An independent one, which checks the implementation; empty where there is none.
    other_value, other_bar : array
        What that one found, with its own bar.
    observable : Observable
        What was measured: it can be measured on other measures, too.
    check : str
        What bears the value out at the level of its bar: the same discretisation on differently placed nodes; empty
        where there was no time for it.
    check_value, check_bar : array
        What that one found, with its own bar.
    sizes : tuple of str
        Nodes or cells of the three.
    floor : float
        Below it bars are not relative to the value but to this: what has a bar of 1e-13 of the largest value that is
        possible, as a moment that is 0 by symmetry, is known as well as numbers allow.
    """

    name: str
    times: Array
    value: Array
    bar: Array
    route: str
    other: str = ""
    other_value: Array | None = None
    other_bar: Array | None = None
    observable: Observable | None = None
    check: str = ""
    check_value: Array | None = None
    check_bar: Array | None = None
    sizes: tuple[str, str, str] = ("", "", "")
    floor: float = 0.0

    @property
    def relative(self) -> float:
        """The largest bar, relative to the largest value of the same time."""
        return self._relative(self.bar)

    @property
    def confirmed_to(self) -> float:
        """To how much of the value the independent discretisation confirms it: its own bar, or the distance."""
        if self.other_value is None or self.other_bar is None:
            return math.inf
        return self._relative(np.maximum(np.abs(self.other_value - self.value), self.other_bar))

    @property
    def confirmed(self) -> bool:
        """Whether that is 1e-2 or better."""
        return self.confirmed_to <= CONFIRMED

    def _relative(self, size: Array) -> float:
        axes = tuple(range(1, self.value.ndim))
        return float(
            (size.max(axis=axes) / np.maximum(np.abs(self.value).max(axis=axes), max(self.floor, 1e-300))).max()
        )

    def _agrees(self) -> bool:
        """Whether differently placed nodes or cells know the value, too, within both bars."""
        if self.check_value is None or self.check_bar is None or not np.all(np.isfinite(self.check_bar)):
            return False
        return bool(np.all(np.abs(self.check_value - self.value) <= self.bar + self.check_bar))

    def _means(self) -> str:
        """How it is known, in words."""
        size, check_size, other_size = (f" {size}" if size else "" for size in self.sizes)
        said = [f"{self.route}{size}"]
        agrees = f"agrees with {self.check}{check_size}"
        said.append(agrees if self._agrees() else "NOT borne out by other nodes or cells")
        if self.other and math.isfinite(self.confirmed_to):
            words = f"confirmed to {self.confirmed_to:.0e}" if self.confirmed else "NOT confirmed: only"
            said.append(
                f"{words} by {self.other}{other_size}"
                if self.confirmed
                else f"{words} {self.confirmed_to:.0e} is known by {self.other}{other_size}"
            )
        else:
            said.append("NOT confirmed by another discretisation")
        return "; ".join(said)


@dataclass(frozen=True, eq=False)
class Reference:
    """The result of `mfpde.reference`.

    Attributes
    ----------
    problem : Problem
    tolerance : float
    observables : tuple of Certified
    levels : tuple of (str, tuple of int, float)
        Route, cells and seconds of every run that was made; of those that were found on disk the seconds are 0.
    reached : bool
        Whether all bars are within the tolerance, and borne out by differently placed nodes or cells.
    ancestral_mass : float, optional
        From how little of the start half of the mass descends, at the time when that is least: a run of fewer
        particles than its inverse does not follow the limit. None where no characteristics were computed.
    """

    problem: Problem
    tolerance: float
    observables: tuple[Certified, ...]
    levels: tuple[tuple[str, tuple[int, ...], float], ...]
    reached: bool
    ancestral_mass: float | None = None

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.problem.name

    @property
    def confirmed(self) -> bool:
        """Whether an independent discretisation knows all values to 1e-2 or better, and agrees."""
        return all(found.confirmed for found in self.observables)

    def __getitem__(self, name: str) -> Certified:
        for found in self.observables:
            if isinstance(name, str) and found.name == name:
                return found
        raise KeyError(f"no observable {shown(name)}; valid: {', '.join(found.name for found in self.observables)}")

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each number: observable, time, index, value, bar, and how it is known.

        Raises
        ------
        ImportError
            Without pandas.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from None
        rows = []
        for found in self.observables:
            for k, t in enumerate(found.times):
                for index in np.ndindex(found.value.shape[1:]):
                    at = (k, *index)
                    row = {"observable": found.name, "time": float(t), "index": index[0] if len(index) == 1 else index}
                    row |= {"value": float(found.value[at]), "bar": float(found.bar[at]), "route": found.route}
                    row |= {"check": found.check, "other": found.other, "confirmed_to": found.confirmed_to}
                    row["index"] = row["index"] if index else 0
                    rows.append(row)
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        verdict = "reached" if self.reached else "not reached"
        names = ", ".join(found.name for found in self.observables)
        return f"<Reference for {self.name!r}: {names}; tolerance {self.tolerance:g} {verdict}>"

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached within the budget; the bars are the best there are"
        lines = [f"Reference for {self.name!r}: relative tolerance {self.tolerance:g} {verdict}"]
        for found in self.observables:
            lines.append(f"  {found.name}  ({found._means()})")
            for t, value, bar in zip(found.times, found.value, found.bar, strict=True):
                if value.ndim == 0:
                    lines.append(f"    t = {t:<8g} {float(value): .12g} +- {float(bar):.2g}")
                else:
                    lines.append(f"    t = {t:<8g} {value.size} values, largest bar {float(bar.max()):.2g}")
        if self.ancestral_mass is not None:
            times = np.concatenate([found.times for found in self.observables])
            last = float(times[np.isfinite(times)].max(initial=0.0))
            if said := descent_at(f"at some time up to t = {last:g}", self.ancestral_mass):
                lines.append(f"  {said}")
        seconds = sum(level[2] for level in self.levels)
        lines.append(f"  {len(self.levels)} runs, {seconds:.3g} s")
        return "\n".join(lines)


def reference(
    problem: Problem,
    tolerance: float = 1e-4,
    observables: Sequence[Observable] | None = None,
    *,
    times: Sequence[float] | None = None,
    budget: float = 120.0,
    memory: float = 2.0 * 2**30,
    progress: bool | Callable[[str], None] | None = None,
    cache: bool | str | os.PathLike[str] = False,
) -> Reference:
    r"""Refine until every observable has an error bar within a tolerance.

    Three things are computed, one after the other.

    1. **The value**, by the better of two independent discretisations: at temperature 0 quadrature nodes along
       characteristics or a mesh with `Weno5`; above, meshes with `Weno5` or with `ScharfetterGummel`. The state in
       which a flow with a temperature ends, ``t = inf``, is the minimiser of the free energy on the centres of a mesh,
       or on Gauss nodes. It comes from the finest run.
    2. **A check at the level of the bar**: the same by differently placed nodes (another rule on another interval,
       another method in time), or another sequence of meshes. Where the two differ by more than their bars, the bar
       of the value reaches to the other one.
    3. **A check of the implementation**: the other of the two discretisations. It is stated to how much it confirms
       the value; worse than 1e-2 is not confirmed. `Muscl` takes its place where characteristics do not apply
       or converge too slowly, and for masses of regions and marginals. Where it differs by more than three times both
       bars, that is an error.

    Each level has half as many cells or nodes again along each axis. With :math:`d_1, d_2` the last two changes of a
    value :math:`v` and :math:`\rho` the ratio of typical changes at its time, of all observables, of the energy and of
    the moments,

    .. math::

       \text{bar} = 5\, \frac{\rho}{1 - \rho}\, \max(|d_2|, \rho |d_1|, \tfrac{1}{10} D) + 3\, |\delta|.

    The first part is the rest of a geometric series, five times: no order is assumed, but none above that of the
    scheme is believed. The ratio is the largest of those of one step, of two and (on meshes) of three; and as a change
    may be small by chance, a tenth of the median of all at the time, :math:`D`, is the least. :math:`\delta` is what is
    left of the error in time after the finest steps: a third of what half the steps changed on a mesh, 3 % of what a
    hundredth of the tolerance changed along characteristics. What nodes let expect that do not carry the mass is added,
    see `Characteristics.watched`; and no bar is below the round-off of the constants that an energy cancels.

    Parameters
    ----------
    problem : Problem
    tolerance : float
        Largest bar, relative to the value (of several values at a time, to the largest). Of a moment or a mass 1e-13
        of the largest that is possible on the box is always enough.
    observables : sequence of Observable, optional
        Default: `EnergyAt` the times.
    times : sequence of float, optional
        When observables that name no times are measured, ``math.inf`` included; default: the problem's end.
    budget : float
        Seconds: what is not there by then is not waited for, and the best bars so far are reported. What has to be
        compiled, once an installation, may take ten more.
    memory : float
        Bytes that a level may take; the first three are made in any case.
    progress : bool or callable, optional
        Whether to show a progress bar (default: on a terminal), or a function that is told what is being done.
    cache : bool or path, optional
        Whether levels are kept on disk and found again, so that a second call with a larger budget or a smaller
        tolerance goes on (True: in the user's cache folder, or in ``$MFPDE_CACHE_DIR``); or the folder. Problems whose
        functions agree at the nodes of the start count as one, see `mfpde.level_cache`. Default: not kept.

    Returns
    -------
    Reference

    Raises
    ------
    Disagreement
        If the independent discretisations differ by more than three times the sum of their bars, and both know the
        value to 1e-2; one that does not confirms nothing.
    KeyboardInterrupt
        When interrupted, by SIGTERM too while it is on a mesh, with what is known so far as its attribute
        ``reference``, if anything is.
    RuntimeError
        If the budget is over before anything is known.
    ValueError
        For arguments that do not fit; for ``t = inf`` without a constant temperature above 0, or with a reaction
        other than that of the free energy, which ends elsewhere.

    Notes
    -----
    A bar is an estimate, not a proof: over random problems with known answers 97 % of the values or more lie within
    theirs, and half of the bars are less than 30 times the error (``validation/coverage.py``). A feature that all
    levels miss is not seen.

    **Good values.** Smooth starts at temperature 0: 1e-8 in seconds. Above, 1e-5, as steps are of second order in
    time. Masses and marginals 1e-5. A start with a jump takes its bars from characteristics; the mesh then converges
    at first order and confirms two or three digits. Where the law is torn apart, the mesh gives the value. The first
    mesh has a third of the problem's own `shape`; where it suggests none, 50, 24, 12 or 8 cells along each of one to
    four axes.

    Examples
    --------
    >>> import mfpde as mf
    >>> found = mf.reference(mf.problems.linear_neuron(), 1e-5)
    >>> exact = mf.problems.linear_neuron().exact["energy"](1.0)
    >>> bool(abs(found["energy"].value[0] - exact) <= found["energy"].bar[0])
    True
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"reference needs a Problem, not {shown(problem)}; see mfpde.problems")
    if not (real(tolerance) and 1e-12 <= tolerance < 1):
        raise ValueError(f"tolerance must lie between 1e-12 and 1, not {shown(tolerance)}")
    if not (real(budget) and budget > 0):
        raise ValueError(f"budget must be a positive number of seconds, not {shown(budget)}")
    require(memory=(memory, POSITIVE), progress=(progress, FUNCTION | FLAG | NONE))
    wanted = _timed(problem, observables, times)
    search = _Search(problem, tolerance, budget, memory, _cache(problem, cache))
    jobs = []
    for end in (False, True):
        for mesh in (False, True):
            chosen = [
                (k, tuple(t for t in observable.times if math.isinf(t) is end))  # type: ignore[attr-defined]
                for k, observable in enumerate(wanted)
                if observable.needs_mesh is mesh
            ]
            if chosen := [(k, at) for k, at in chosen if at]:
                jobs.append((_Job(search, [wanted[k] for k, _ in chosen], [at for _, at in chosen], mesh), chosen))
    try:
        with budget_bar(progress, f"reference of {problem.name}", budget) as search.say:
            for i, (job, _) in enumerate(jobs):
                job.refine(len(jobs) - i)
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(RuntimeError):  # nothing is there yet
            interrupt.reference = _collected(search, wanted, jobs)  # type: ignore[attr-defined]
        raise
    return _collected(search, wanted, jobs)


def _timed(
    problem: Problem, observables: Sequence[Observable] | None, times: Sequence[float] | None
) -> list[Observable]:
    """The observables, each with its times, also where those were the default: so the same can be measured again."""
    wanted = list(entries(observables, "observables")) if observables is not None else [EnergyAt()]
    if not wanted or not all(isinstance(observable, Observable) for observable in wanted):
        raise ValueError(f"observables must be a list of Observable, not {shown(observables)}")
    for observable in wanted:
        if not hasattr(observable, "times"):
            kind = type(observable).__name__
            raise ValueError(f"{kind} has no times: make it a frozen dataclass with a field `times: Any = None`")
    default = as_times(times) or (problem.t_end,)
    each = [as_times(observable.times) or default for observable in wanted]  # type: ignore[attr-defined]
    for observable, at in zip(wanted, each, strict=True):
        if isinstance(observable, DecayRate) and (len(at) < 2 or math.isinf(at[-1])):
            raise ValueError("a decay rate needs two finite times: DecayRate((t_0, t_1))")
    if not max(at[-1] for at in each) > 0:
        raise ValueError("some observable must be measured after t = 0")
    if any(math.isinf(at[-1]) for at in each):
        _check_end_state(problem)
    return [replace(observable, times=at) for observable, at in zip(wanted, each, strict=True)]  # type: ignore[call-arg]


def _check_end_state(problem: Problem) -> None:
    """Refuse t = infinity where the minimiser of the free energy is not known to be the end."""
    if not problem.temperature.constant or problem.noiseless:
        raise ValueError(f"t = inf needs a constant temperature above 0, not {problem.temperature!r}")
    if problem.reinjection is not None or (problem.reacts and problem.reaction is not Reaction.FREE_ENERGY):
        raise ValueError(f"t = inf needs alpha = 0 or reaction 'free-energy', not {problem.reaction.value!r}")


def _cache(problem: Problem, cache: bool | str | os.PathLike[str]) -> LevelCache | None:
    """Where levels are kept, if at all."""
    if isinstance(cache, (bool, np.bool_)):
        return LevelCache(problem, cache_folder()) if cache else None
    if not isinstance(cache, (str, os.PathLike)):
        raise ValueError(f"cache must be True, False or a folder, not {shown(cache)}")
    return LevelCache(problem, Path(cache))


def _collected(
    search: _Search, wanted: Sequence[Observable], jobs: Sequence[tuple[_Job, Sequence[tuple[int, tuple[float, ...]]]]]
) -> Reference:
    """All observables of all jobs, as far as they were refined."""
    parts: dict[int, list[Certified]] = {k: [] for k in range(len(wanted))}
    begun = [(job, chosen) for job, chosen in jobs if job.best.levels] or jobs[:1]
    for job, chosen in begun:
        for (k, _), certified in zip(chosen, job.result(), strict=True):
            parts[k].append(certified)
    every = tuple(replace(_joined(parts[k]), observable=observable) for k, observable in enumerate(wanted) if parts[k])
    masses = [job.ancestral for job, _ in jobs if job.ancestral is not None]
    return Reference(
        search.problem,
        search.tolerance,
        every,
        tuple(search.levels),
        all(job.reached for job, _ in jobs),
        min(masses, default=None),
    )


# ---------------------------------------------------------------------------------------------------------------------
# the search
# ---------------------------------------------------------------------------------------------------------------------


class _Search:
    """What the jobs of one reference share: the problem, what may be spent, and the levels."""

    def __init__(
        self, problem: Problem, tolerance: float, budget: float, memory: float, cache: LevelCache | None
    ) -> None:
        self.problem, self.tolerance, self.memory, self.cache = problem, tolerance, memory, cache
        self.end = time.perf_counter() + budget
        self.deadline = self.end
        self.say: Callable[[str], None] = lambda text: None
        self.levels: list[tuple[str, tuple[int, ...], float]] = []

    def run(self, ladder: Ladder, level: int, step: float) -> Level:
        """A level of a route: from the disk, or computed, by the deadline of the present phase."""
        route = ladder.route
        route.prepare(self.deadline)
        cells = route.cells(level)
        key = self.cache.key(route, level, step, ladder.wanted, ladder.where) if self.cache is not None else ""
        found = self.cache.find(key) if self.cache is not None else None
        if found is None:
            if time.perf_counter() > self.deadline:
                raise OutOfTime
            self.say(f"{route.name}, {route.size(level)}")
            began = time.perf_counter()
            values = ladder.measure(level, step, self.deadline)
            found = Level(values, route.cost, route.blind, route.ancestral)
            self.levels.append((route.name, cells, time.perf_counter() - began))
            if self.cache is not None:
                self.cache.keep(key, found)
        else:
            self.levels.append((route.name, cells, 0.0))
        return found


class _Job:
    """Some observables by the same routes.

    The path of refinement depends on what is found and on counted work, not on the clock, which only ends it.
    """

    def __init__(
        self, search: _Search, wanted: Sequence[Observable], each: Sequence[tuple[float, ...]], mesh: bool
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
        began = time.perf_counter()
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
        """See `Ladder.advance`; a route that cannot go on has failed."""
        try:
            ladder.advance(goal)
        except RouteError as error:
            ladder.failed = str(error)

    @staticmethod
    def settle(ladder: Ladder, goal: float) -> None:
        """See `Ladder.settle`, where that is still to be done."""
        if ladder.levels and ladder.settled < len(ladder.levels) and not ladder.failed:
            try:
                ladder.settle(goal)
            except RouteError as error:
                ladder.failed = str(error)

    def find_value(self) -> None:
        """Refine both candidates, with as much work for the one as for the other, until one is there."""
        tolerance = self.search.tolerance
        while not any(ladder.reached(tolerance) for ladder in self.candidates):
            able = [ladder for ladder in self.candidates if self.possible(ladder)]
            if not able:
                break
            self.advance(min(able, key=lambda ladder: ladder.spent + ladder.next_cost()), tolerance)
        self.settle(self.best, tolerance)

    def find_check(self) -> None:
        """Refine the same discretisation on other nodes until its bars are as small, and the two agree."""
        best, tolerance = self.best, self.search.tolerance
        self.checked = best
        route = best.route.other()
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

    def find_other(self) -> None:
        """Refine an independent discretisation until it says something."""
        best = self.best
        other = self.another(best)
        goal = min(max(CONFIRMS * self.search.tolerance, NARROWEST), CONFIRMED)
        other.most = other.spent + FAR
        while len(other.levels) < LEAST_LEVELS and self.possible(other):
            self.advance(other, goal)
        slow = isinstance(other.route, NodeRoute) and not other.forecast(CONFIRMED) <= NEAR
        self.other = other if other.levels else None
        if slow and isinstance(other.route, NodeRoute):
            # nodes converge slowly here: another mesh confirms more
            other = self.ladder(another_mesh(self.search.problem, self.times))
            other.most = FAR
        while self.possible(other) and other.spent + other.next_cost() <= other.most:
            if len(other.levels) > 4 and other.forecast(CONFIRMED) > FAR:
                break
            target = goal if other.forecast(goal) <= NEAR else CONFIRMED
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


def _joined(parts: Sequence[Certified]) -> Certified:
    """Finite times and the end state of one observable."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts

    def both(name: str) -> Array | None:
        a, b = getattr(first, name), getattr(second, name)
        if a is None and b is None:
            return None
        # what was not computed for the one is not known
        a = np.full(first.value.shape, np.nan) if a is None else a
        b = np.full(second.value.shape, np.nan) if b is None else b
        return np.concatenate([a, b])

    def words(name: str) -> str:
        said = [text for text in (getattr(first, name), getattr(second, name)) if text]
        return "; ".join(said) if len(said) == 2 or name == "route" else ""

    changed: dict[str, Any] = {name: both(name) for name in _ARRAYS} | {name: words(name) for name in _WORDS}
    changed["sizes"] = tuple("; ".join(filter(None, pair)) for pair in zip(first.sizes, second.sizes, strict=True))
    return replace(first, **changed)


_ARRAYS = ("times", "value", "bar", "other_value", "other_bar", "check_value", "check_bar")
_WORDS = ("route", "check", "other")


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
