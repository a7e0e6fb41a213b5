"""How many nodes and how short steps do: runs that are refined until they stop changing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.base import BoundEnergy
from mfpde.equation.energy.network import BoundNetwork
from mfpde.equation.measures.quadrature import Rule, log_total
from mfpde.lagrangian.ancestry import (
    LOST,
    Places,
    Watch,
    growth,
    looks_elsewhere,
    of_a_density,
    rule_of,
    watch_each,
    worst,
    worth_moving,
)
from mfpde.lagrangian.assembly import engine_of, lane_of
from mfpde.lagrangian.bulk import Bulk, bulk_of
from mfpde.lagrangian.lane import integrate
from mfpde.lagrangian.node_flow import SCOUT_TIMES, find_ancestors
from mfpde.lagrangian.nodes import RTOL_FLOOR, Dynamics, OutOfTime, Run, Stepping, energies_of
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.session import progress_bar, shows_progress
from mfpde.support.threads import one_blas_thread

__all__ = [
    "ENERGY_FLOOR",
    "FEWEST",
    "GROWTH",
    "ROUND_OFF",
    "Change",
    "Refinement",
    "Search",
    "fewer",
    "first_counts",
    "responses",
]


START = {1: 32, 2: 24, 3: 16, 4: 10}
"""Nodes along each axis to begin with, by dimension."""
LADDER = {1: 1.4, 2: 1.4, 3: 1.25, 4: 1.25}
"""Factor of the number of nodes along every axis in a refinement of all axes and of time together, by dimension."""
SCOUT, SCOUT_RTOL = 0.6, 1e-3
"""Nodes along each axis, as a share of those of the first run, and tolerance of steps with which it is found out, with
three axes or more, which of the nodes of this run are worth moving."""
BY_DIGIT = {1: 4.25, 2: 4.25, 3: 4.5, 4: 4.25}
"""Nodes along each axis that such refinements begin with, for each digit of the tolerance."""
FEW_DIGITS, OF_A_NETWORK = 5, 4
"""To so few digits there are so many more in the plane of a network's amplitude and weight: with fewer most networks
(tanh, erf, sine) need a third run, which costs as much as the first two. Beyond they do either way. In space there is
one more for each digit beyond, for the same reason."""
FIRST_RTOL, FINER_RTOL, LATER_RTOL = 0.25, 0.2, 0.5
"""The first tolerance of their steps, as a share of that of the result, and factors of the next ones: until tables are
no better, and then, so that the last change has the error in time in it."""
LEAST_RTOL = 0.1
"""Their last tolerance, as a share of the accuracy of tables."""
FEW_STEPS, MORE_STEPS = 8, 1.2
"""So few steps do not follow the tolerance, and what is the same in two runs is in no change: a run has at least so
many times the steps of the one before."""
ALIKE = 2.0
"""Error that two runs have in common, in tolerances of the finer one's steps: few steps are the same in both."""
PRUNED = 1e-3
"""Share of the tolerance that nodes may hold together, at any time, which are left out of such refinements after the
first run: half of the nodes of a plane and more."""
FEW_NODES = 200
"""So few nodes are not worth it."""
MOST_TOGETHER = {1: 3000, 2: 3000, 3: 60_000, 4: 100_000}
"""Nodes beyond which axes are refined one by one, by dimension: one of them may need far more than the others."""
MOST_LAID = 2_000_000
"""Nodes, those that are not worth moving included, of which it is found out which these are."""
FEWEST = 6
"""Nodes along an axis that a first run has at least, however few are allowed."""
GROWTH = 1.5
"""Factor of the number of nodes along an axis in a refinement."""
UNSEEN = 1e-2
"""Share of the tolerance by which the velocity may be off: more nodes and shorter steps would not show it."""
WORTH = 0.03
"""Seconds, about, that the next run but one takes, from which tables for where the mass is are made: with them it takes
a quarter to two thirds of that, and to make them takes some hundredths of a second."""
OFF = 0.1
"""Share of the tolerance by which energies of tables may be off those of the nodes."""
ROUND_OFF = 1e-11
"""Changes below this that no longer fall are round-off, and no more nodes are tried."""
NOTHING = 1e-13
"""Nor are they where the last ones changed less than this, and mass beyond them is what is wrong."""
ENERGY_FLOOR = 1e-3
"""Energies below this fraction of the largest one are compared with that fraction."""


@dataclass(frozen=True)
class Refinement:
    """One run on the way to the result.

    Attributes
    ----------
    refined : str
        What is finer than in the run before: the name of an axis, ``"time"``, or ``"all"`` for all axes and time;
        empty for the first.
    nodes : tuple of int
        Nodes along each axis.
    size : int
        Their number.
    rtol : float
        Tolerance of the time integration.
    change : float
        Relative change of the observables against the run before.
    evaluations, steps : int
        Evaluations of the velocity of all nodes, and steps.
    seconds : float
        Wall time.
    """

    refined: str
    nodes: tuple[int, ...]
    size: int
    rtol: float
    change: float
    evaluations: int
    steps: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Change:
    """How far two runs are apart: energies at the save times, and all observables relative to their size.

    Without runs nothing is known.
    """

    energy: Array
    relative: float
    runs: tuple[Run, Run] | None = None

    @staticmethod
    def between(coarse: Run, fine: Run, bound: BoundEnergy) -> Change:
        """What the observables of one run are from those of another."""
        one, other = coarse.moments, fine.moments
        if coarse.tables is not fine.tables:
            one, other = (responses(bound, run.points, run.weights) for run in (coarse, fine))
        # a potential of no energy may have none: then it is judged by where the nodes are
        energy = np.abs(fine.energy - coarse.energy)
        energy = energy if bound.lyapunov else np.nan_to_num(energy)
        scale = np.maximum(np.abs(fine.energy), ENERGY_FLOOR * np.abs(fine.energy).max())
        response = float(np.abs(other - one).max(initial=0.0))
        parts = [
            float(np.divide(energy, scale, out=np.zeros_like(energy), where=scale > 0).max()),
            response / (float(np.abs(other).max(initial=0.0)) or 1.0),
            float(np.abs(fine.coordinates - coarse.coordinates).max() / max(1.0, fine.coordinates[:, -1].max())),
        ]
        return Change(energy, max(parts), (coarse, fine))


def responses(bound: BoundEnergy, points: Array, weights: Array) -> Array:
    """The responses (m, r) of nodes at some times, in the energy's coordinates."""
    return np.stack([bound.response(x, w)[: bound.response_size] for x, w in zip(points, weights, strict=True)])


def first_counts(nodes: int | Sequence[int] | None, d: int) -> tuple[int, ...]:
    """Nodes along each of d axes to begin with: `nodes` where the caller says so, else as `START` has it."""
    counts = START[d] if nodes is None else nodes
    return (counts,) * d if isinstance(counts, (int, np.integer)) else tuple(counts)


def fewer(counts: Sequence[int]) -> tuple[int, ...]:
    """A tenth fewer nodes along each axis."""
    return tuple(max(FEWEST, int(0.9 * n)) for n in counts)


class Known(NamedTuple):
    """Where a search was when it went over from all axes together to one at a time."""

    best: Run
    blocks: Rule
    counts: tuple[int, ...]
    rtol: float
    together: Change | None
    kept: NDArray[np.intp] | None
    runs: int
    """How many had been made."""


class Search:
    """Refines a run, in time and along each axis, until it stops changing or a limit is reached."""

    def __init__(
        self, dynamics: Dynamics, times: Array, tolerance: float, max_nodes: int, time_limit: float | None,
        progress: bool | None,
    ) -> None:  # fmt: skip
        self.dynamics, self.times, self.tolerance, self.max_nodes = dynamics, times, tolerance, max_nodes
        self.time_limit = time_limit
        self.accuracy = UNSEEN * tolerance
        self.deadline = working_time() + (math.inf if time_limit is None else time_limit)
        self.shown = shows_progress(progress)
        self.places: Places | None = None
        self.looked = dynamics.dimension > 1 and not dynamics.reacts
        """Whether it is known where the mass descends from: where none is born or dies, from where it was."""
        self._laid: tuple[tuple[int, ...], Places | None, Rule] | None = None
        self._watched: tuple[Run, list[Watch]] | None = None
        self.done: list[Refinement] = []
        self.limit = "tolerance"
        """What ended the search."""
        unknown = Change(np.full(len(times), np.inf), math.inf)
        self.in_time = unknown
        self.by_axis = [unknown] * dynamics.dimension
        self.blocks = Rule()
        """The nodes of the best run, all of them."""
        self.kept: NDArray[np.intp] | None = None
        """Which of them it has moved; None for all."""
        self._of_best: tuple[Rule, NDArray[np.intp] | None] = self.blocks, self.kept
        self.first: tuple[Rule, Array] | None = None
        """Nodes of a first run, and their weights at all times."""
        self.jointly = False
        """Whether all axes and steps are refined at once."""
        self.everywhere = False
        """Whether tables are as accurate everywhere, because those that are not have missed something."""
        self.seen: Run | None = None
        """A run that shows where the mass is."""
        self.bulk: Bulk | None = None
        """Where it is, once tables for it are worth making."""
        self.together: Change | None = None
        """Of the last refinement of all axes and of time, where these made the result."""

    @property
    def several(self) -> bool:
        """Whether there are so many axes that most nodes of a rule hold next to nothing."""
        return self.dynamics.dimension > 2

    @property
    def unseen(self) -> float:
        """Relative error that runs have in common: that of tables, and of steps that are refined with the nodes."""
        steps = ALIKE * self.rtol if self.together else 0.0
        pruned = 0.0 if self.kept is None else LOST * PRUNED * self.tolerance
        return steps + pruned + (self._tables(self.rtol) if self.best.engine.compiled else 0.0)

    def _tables(self, rtol: float) -> float:
        """How far off tables are; those of a refinement of steps alone are as good as its steps."""
        return self.accuracy if self.jointly else min(self.accuracy, rtol)

    def may_refine_together(self) -> bool:
        """Whether all axes and time are refined at once: runs of the compiled program are so short that it pays."""
        return self.accuracy >= RTOL_FLOOR and engine_of(self.dynamics, self.accuracy).compiled

    def nodes_by_tolerance(self) -> int:
        """Nodes along each axis that such refinements begin with."""
        digits, d = -math.log10(self.tolerance), self.dynamics.dimension
        count = math.ceil(BY_DIGIT[d] * digits)
        if d == 2 and digits <= FEW_DIGITS:
            return count + OF_A_NETWORK * any(isinstance(part, BoundNetwork) for part in self.dynamics.bound.parts)
        return count + math.ceil(digits - FEW_DIGITS) if d == 3 and digits > FEW_DIGITS else count

    def size(self, counts: tuple[int, ...]) -> int:
        """How many nodes a rule has; where that is far too many, about."""
        if (product := math.prod(counts)) > 1000 * self.max_nodes:  # they are not even laid
            return product
        return self.laid(counts).size

    def one_by_one(self, counts: tuple[int, ...]) -> float:
        """About how many nodes there are once each axis, one after the other, has been refined."""
        return self.size(counts) * math.prod(math.ceil(GROWTH * n) / n for n in counts)

    def laid(self, counts: tuple[int, ...]) -> Rule:
        """Nodes, the last ones kept: their size is asked for before they are."""
        if self._laid is None or self._laid[:2] != (counts, self.places):
            self._laid = counts, self.places, rule_of(self.dynamics.problem, counts, self.places)
        return self._laid[2]

    def start(self, blocks: Rule, kept: NDArray[np.intp] | None) -> tuple[Array, Array]:
        """Places and logarithms of weights of nodes that are moved."""
        points, logs = blocks.nodes
        return (points, logs) if kept is None else (points[kept], logs[kept] - log_total(logs[kept]))

    def whole(self, weights: Array) -> Array:
        """Weights (m, n) of the nodes that the best run has moved, as those of all its nodes."""
        if self.kept is None:
            return weights
        result = np.zeros((len(weights), self.blocks.size))
        result[:, self.kept] = weights
        return result

    def watched(self) -> list[Watch]:
        """How well the nodes of the best run carry the mass of each save time; looked at once for a run."""
        if self._watched is None or self._watched[0] is not self.best:
            self._watched = self.best, watch_each(self.blocks, self.whole(self.best.weights))
        return self._watched[1]

    def off(self, run: Run) -> float:
        """How far the last energy of a compiled run is off that of its nodes, relatively: what tables leave out."""
        if not run.engine.compiled:
            return 0.0
        last = float(run.energy[-1])
        if run.tables is not None:
            last = self.dynamics.bound.energy(run.points[-1], run.weights[-1])
        size = max(abs(last), ENERGY_FLOOR * float(np.abs(run.energy).max()))
        return abs(last - run.last) / size if size > 0.0 else 0.0

    @cached_property
    def energy(self) -> Array:
        """The energies of the best run, once the search is done: those of its nodes, not those of tables."""
        if self.best.tables is None:
            return self.best.energy
        return energies_of(self.dynamics, self.times, self.best.points, self.best.weights)[0]

    @cached_property
    def missed(self) -> float:
        """How far energies of tables are off those of the nodes, relatively, once the search is done.

        Tables are held against the problem at some points of the box, and what is narrow lies between these.
        """
        if self.best.tables is None:
            return self.off(self.best)
        size = np.maximum(np.abs(self.energy), ENERGY_FLOOR * np.abs(self.energy).max())
        apart = np.abs(self.energy - self.best.energy)
        return float(np.divide(apart, size, out=np.zeros_like(apart), where=size > 0.0).max())

    def worth_moving(self, blocks: Rule) -> NDArray[np.intp] | None:
        """Which of finer nodes to move, by what has grown in the first run; None for all."""
        if self.first is None or self.places is not None or blocks.size < FEW_NODES:
            return None
        return worth_moving(self.first[0], growth(*self.first), blocks, PRUNED * self.tolerance)

    def run(self, blocks: Rule, rtol: float, kept: NDArray[np.intp] | None = None, fewest: int = 0) -> Run:
        """One run, with a progress bar; as long as it is not known where the mass descends from, that is looked at."""
        nodes = self.start(blocks, kept)
        times, judged = (self.times, np.ones(len(self.times), dtype=bool)) if self.looked else self._looks
        label = f"{self.dynamics.problem.name}, {len(nodes[1])} nodes"
        with progress_bar(self.shown, label, 0.0, float(self.times[-1])) as show:
            stepping = Stepping(
                rtol, deadline=self.deadline, accuracy=self._tables(rtol), quick=True, judged=judged, fewest=fewest,
                bulk=self._bulk(len(nodes[1])),
            )  # fmt: skip
            shown = show if self.shown else None
            run = integrate(self.dynamics, nodes, times, stepping, show=shown)
            if run.bulk is not None and self.off(run) > OFF * self.tolerance:
                self.everywhere = True
                run = integrate(self.dynamics, nodes, times, replace(stepping, bulk=None), show=shown)
            return run

    def _bulk(self, size: int) -> Bulk | None:
        """Where the mass is, if runs of so many nodes and more save more by tables for it than these cost."""
        if self.everywhere or self.seen is None or not self.jointly:
            return None
        lane, d = lane_of(self.dynamics, self.accuracy), self.dynamics.dimension
        if self.bulk is None and not isinstance(lane, str):
            next_size = LADDER[d] ** d * size
            if self.seen.evaluations * lane.seconds(next_size) > WORTH:
                self.bulk = bulk_of(self.dynamics.problem.axes, *self.seen.looked)
        return self.bulk

    @cached_property
    def _looks(self) -> tuple[Array, NDArray[np.bool_]]:
        """Save times and those at which coarse runs look where the mass descends from, and which are the former."""
        every = np.concatenate([self.times, SCOUT_TIMES * self.times[-1]])
        order = np.argsort(every, kind="stable")
        return every[order], order < len(self.times)

    def _find_places(self) -> None:
        """Look where the mass descends from, with runs that do nothing else."""
        self.places = find_ancestors(self.dynamics, float(self.times[-1]), self.deadline, self.accuracy)
        self.looked = True

    def _elsewhere(self, blocks: Rule, run: Run) -> bool:
        """Whether a run on the bulk of the start shows that the mass of later times descends from elsewhere."""
        if self.looked or not looks_elsewhere(self.dynamics.problem.mu_0, blocks, *run.looked):
            return False
        self._find_places()
        return self.places is not None

    def note(self, what: str, counts: tuple[int, ...], run: Run, rtol: float, change: float) -> None:
        """Make a run the best one, and write down how it came about."""
        self.best, self.counts, self.rtol = run, counts, rtol
        self._of_best = self.blocks, self.kept
        size = len(run.start)
        self.done.append(Refinement(what, counts, size, rtol, change, run.evaluations, run.steps, run.seconds))

    def refine(self, counts: tuple[int, ...], rtol: float, together: bool = False) -> None:
        """All of it; what was found by the time limit stays.

        With `together` all axes and time are refined at once as long as that will do.
        """
        known = None
        try:
            with one_blas_thread():
                if together and self._refine_together(counts):
                    return
                if self.done:
                    counts = self.counts
                    known = Known(self.best, self.blocks, counts, self.rtol, self.together, self.kept, len(self.done))
                if not self.looked:
                    self._find_places()
                self.blocks = self.laid(counts)
                self._refine_time(counts, rtol)
                self._refine_axes()
        except OutOfTime:
            if not self.done:
                raise RuntimeError(
                    f"time_limit = {self.time_limit:g} s was over before the first run of "
                    f"{self.dynamics.problem.name!r} was; raise it, or begin with fewer nodes (nodes=)"
                ) from None
            self.limit = "clock"
            self.blocks, self.kept = self._of_best  # those of a run that was not finished are other ones
        unknown = not math.isfinite(self.in_time.relative + sum(change.relative for change in self.by_axis))
        if unknown and known and known.together:
            # not all axes were refined one by one, but all of them together had been
            self.best, self.blocks, self.counts, self.rtol, self.together, self.kept, runs = known
            self.jointly = True
            del self.done[runs:]

    def _refine_together(self, counts: tuple[int, ...]) -> bool:
        """The error of nodes and of steps at once; False where axes are better refined one by one."""
        if not of_a_density(self.laid(counts)):
            return False
        self.jointly = True
        self._begin_together(counts)
        while True:
            if (ahead := self._finer(self.counts)) is None:
                return False
            finer, kept = ahead
            trial, factor = self.laid(finer), FINER_RTOL if self.rtol > 1.5 * self.accuracy else LATER_RTOL
            rtol, before = max(factor * self.rtol, LEAST_RTOL * self.accuracy, RTOL_FLOOR), self.best
            fewest = math.ceil(MORE_STEPS * before.steps) if before.steps < FEW_STEPS else 0
            run = self.run(trial, rtol, kept, fewest)
            last, change = self.together, Change.between(before, run, self.dynamics.bound)
            self.together, self.blocks, self.kept = change, trial, kept
            self.note("all", finer, run, rtol, change.relative)
            stuck = change.relative < NOTHING or bool(last and self._falls_no_more(last, change))
            found = change.relative + self.unseen <= self.tolerance
            if found:
                found = change.relative + worst(self.watched()).error + self.unseen <= self.tolerance
            if (found or stuck) and kept is None and self._elsewhere(trial, run):
                self._begin_together(counts)
            elif found or stuck:
                self.limit = "tolerance" if found else "round-off"
                return True

    def _finer(self, counts: tuple[int, ...]) -> tuple[tuple[int, ...], NDArray[np.intp] | None] | None:
        """The nodes of a refinement along all axes, and which of them to move, None for all; None if too many."""
        finer = tuple(math.ceil(LADDER[self.dynamics.dimension] * n) for n in counts)
        limit = min(self.max_nodes, MOST_TOGETHER[self.dynamics.dimension])
        if self.size(finer) > (MOST_LAID if self.several else limit):
            return None
        kept = self.worth_moving(self.laid(finer))
        return None if (self.size(finer) if kept is None else len(kept)) > limit else (finer, kept)

    def _with_room(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """No more nodes than leave room for a refinement, along all axes at once or along one after the other."""
        while min(counts) > FEWEST and self.one_by_one(counts) > self.max_nodes and self._finer(counts) is None:
            counts = fewer(counts)
        return counts

    def _falls_no_more(self, last: Change, change: Change) -> bool:
        """Whether what still changes is round-off, or what tables leave out at some nodes and not at others."""
        # energies are asked for only where it falls no more
        return 0.5 * last.relative < change.relative < max(ROUND_OFF, self.unseen + self.off(self.best))

    def _begin_together(self, counts: tuple[int, ...]) -> None:
        """The first run, which shows from where the mass descends, and which of finer nodes have any.

        With few axes it has all nodes. With more of them a run of few nodes has shown before which have any.
        """
        self.together, self.kept, rtol = None, None, FIRST_RTOL * self.tolerance
        self.seen = self.bulk = None
        if self.several:
            self._scout(counts)
            counts = self._with_room(counts)  # how many of finer nodes have any mass was not known before
        self.blocks = self.laid(counts)
        self.kept = self.worth_moving(self.blocks) if self.several else None
        run = self.run(self.blocks, rtol, self.kept)
        if self.kept is None and self._elsewhere(self.blocks, run):
            self.blocks = self.laid(counts)
            run = self.run(self.blocks, rtol)
        if (off := self.off(run)) > OFF * self.tolerance:
            # what tables leave out is a share of what the energy begins with, and little of that is left
            self.accuracy = max(self.accuracy * OFF * self.tolerance / off, RTOL_FLOOR)
            run = self.run(self.blocks, rtol, self.kept)
        if not self.several:
            self.first = self.blocks, run.looked[1]
        self.seen = run
        self.note("", counts, run, rtol, math.nan)

    def _scout(self, counts: tuple[int, ...]) -> None:
        """See with few nodes from where the mass descends, and by how much it grows there."""
        few = self.laid(tuple(max(FEWEST, math.ceil(SCOUT * n)) for n in counts))
        run = self.run(few, SCOUT_RTOL)
        if not self._elsewhere(few, run):
            self.first, self.seen = (few, run.looked[1]), run

    def _refine_time(self, counts: tuple[int, ...], rtol: float) -> None:
        """The error in time, on the first nodes."""
        self.together, self.kept, self.jointly = None, None, False
        coarse = min(32 * rtol, 1e-3)
        self.note("", counts, self.run(self.blocks, coarse), coarse, math.nan)
        while True:
            before, run = self.best, self.run(self.blocks, rtol)
            self.in_time = Change.between(before, run, self.dynamics.bound)
            self.note("time", counts, run, rtol, self.in_time.relative)
            if self.in_time.relative <= 0.5 * self.tolerance:
                return
            if rtol <= RTOL_FLOOR:
                self.limit = "time"
                return
            rtol = max(0.1 * rtol, RTOL_FLOOR)

    def _refine_axes(self) -> None:
        """The error of the quadrature, one axis at a time, the worst first."""
        names = [axis.name for axis in self.dynamics.problem.axes]
        allowed = max(self.tolerance - self.in_time.relative, 0.5 * self.tolerance) - self.unseen
        while True:
            blind = worst(self.watched()).by_axis
            errors = [max(c.relative, b) for c, b in zip(self.by_axis, blind, strict=True)]
            if sum(errors) <= allowed:
                return
            i = int(np.argmax(errors))
            if self.by_axis[i].relative < NOTHING:
                self.limit = "round-off"
                return
            # rules that bring their own nodes (cells of a mesh) may have more than were asked for
            more = max(1.0, (len(self.best.start) / (len(self.blocks) * math.prod(self.counts))) ** (1 / len(names)))
            finer = tuple(math.ceil(GROWTH * more * n) if j == i else n for j, n in enumerate(self.counts))
            trial = self.laid(finer)
            points = trial.nodes[0]
            if points.shape == self.best.start.shape and np.array_equal(points, self.best.start):
                # atoms: there is nothing to refine
                self.by_axis[i] = Change(np.zeros(len(self.times)), 0.0, (self.best, self.best))
                continue
            if len(points) > self.max_nodes:
                self.limit = "nodes"
                return
            before, run = self.best, self.run(trial, self.rtol)
            last, self.by_axis[i] = self.by_axis[i], Change.between(before, run, self.dynamics.bound)
            self.blocks = trial
            self.note(names[i], finer, run, self.rtol, self.by_axis[i].relative)
            if self._falls_no_more(last, self.by_axis[i]):
                self.limit = "round-off"
                return
