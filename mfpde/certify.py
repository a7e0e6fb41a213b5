"""`reference`: numbers with error bars, from independent discretisations that are refined until the bars are small."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.checks import real, shown
from mfpde.observables import (
    DecayRate,
    EnergyAt,
    Marginal,
    MassIn,
    Measured,
    Moment,
    Observable,
    OutputAt,
    as_times,
)
from mfpde.problem import Problem, Reaction
from mfpde.running import WORKING_ARRAYS, RunWarning

__all__ = [
    "Certified",
    "DecayRate",
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

Array = NDArray[np.float64]

SAFETY = 5.0
"""By how much a bar is wider than the estimated error of nodes or mesh."""
SAFETY_IN_TIME = 3.0
"""The same for what finer steps change: steps half as long, at second order, leave a quarter of the error."""
LEAST_SHARE = 0.1
"""The least change of an observable that is believed, as a share of the typical one: a change may vanish by chance."""
SLOWEST = 0.9
"""The largest ratio of successive changes that is believed."""
FIRST, FIRST_ON_MESH = 1e-2, 0.2
"""The smallest ratio that is believed of three levels alone, of routes that may be spectral and of others."""
GROWTH = 1.5
"""How many more nodes a level has along each axis."""
SHARE_IN_TIME = 0.05
"""What part of the goal the error in time may take."""
CONFIRMS = 100.0
"""How much wider than the tolerance the bars of the route that confirms may be, if the budget allows."""
LOOSE = 1e-2
"""Relative bars above this confirm little: more is spent on them than a forecast would allow."""
FLOOR = 1e-13
"""The smallest relative bar: round-off."""
DOUBT = 3.0
"""By how much more than both bars two routes may differ: bars hold nearly always, and that is not always."""


class Disagreement(RuntimeError):
    """Independent discretisations that differ by more than their bars: at least one bar is wrong."""


# ---------------------------------------------------------------------------------------------------------------------
# routes
# ---------------------------------------------------------------------------------------------------------------------


class _Route(ABC):
    """A discretisation that can be refined, level by level."""

    name: str
    fastest: float | None = None
    """The smallest ratio of successive changes that is believed; None where convergence may be spectral."""
    step, least_step = 1.0, 1.0
    """The tolerance in time, and the smallest that is tried."""
    finer = 1.0
    """By how much it is made smaller to see the error in time; 1 where there is none."""
    power = 0.0
    """Work grows like the number of cells, times this power of their number along an axis."""

    def __init__(self, problem: Problem, times: Array) -> None:
        self.problem, self.times = problem, times

    @abstractmethod
    def cells(self, level: int) -> tuple[int, ...]:
        """Cells or nodes along each axis."""

    @abstractmethod
    def bytes(self, level: int) -> float:
        """Memory of a level, about."""

    @abstractmethod
    def run(self, level: int, step: float) -> Iterator[Measured]:
        """The measure at each time."""

    def work(self, level: int) -> float:
        """The work of a level, in units of its own."""
        return math.prod(self.cells(level)) * max(self.cells(level)) ** self.power


class _Mesh(_Route):
    """A mesh with one scheme; cells by a half more each time."""

    power = 1.0
    step, least_step, finer = 1e-5, 1e-12, 1 / 8

    def __init__(self, problem: Problem, times: Array, scheme: Any, order: int) -> None:
        from mfpde.defaults import default_method

        super().__init__(problem, times)
        self.scheme = scheme
        self.name = f"mesh, {type(scheme).__name__}"
        self.ratio = (1.5, 1.5, 1.3, 1.2)[len(problem.axes) - 1]
        self.fastest = self.ratio ** -(order + 1)
        shape = problem.grid(None).shape
        smallest = (50, 24, 12, 8)[len(shape) - 1]
        self.start = tuple(max(smallest, round(n / 3)) for n in shape)
        # one method for all levels, of a fine one: where it changed on the way, so would the error in time
        self.method, _ = default_method(problem, problem.grid(self.cells(4)), scheme)

    def cells(self, level: int) -> tuple[int, ...]:
        """See `_Route`."""
        return tuple(round(n * self.ratio**level) for n in self.start)

    def bytes(self, level: int) -> float:
        """See `_Route`."""
        return 8.0 * WORKING_ARRAYS * math.prod(self.cells(level))

    def run(self, level: int, step: float) -> Iterator[Measured]:
        """See `_Route`."""
        from mfpde.integration import solve
        from mfpde.stepping import ErrorControl

        problem, grid = self.problem, self.problem.grid(self.cells(level))
        # steps that stability binds do not feel a tolerance: an eighth of it stands for half of any step
        controller = ErrorControl(tolerance=step, fraction=0.95 * (step / _Mesh.step) ** (1 / 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RunWarning)
            found = solve(
                problem, grid.shape, float(self.times[-1]), scheme=self.scheme, method=self.method,
                save=self.times.tolist(), controller=controller, progress=False,
            )  # fmt: skip
        for i in np.searchsorted(found.times, self.times):
            yield Measured(
                problem, tuple(grid.mesh()), found.density[i] * grid.cell_volume, float(found.energy[i]), grid,
                found.point_values,
            )  # fmt: skip


class _Nodes(_Route):
    """Quadrature nodes along characteristics, by a half more along each axis each time."""

    name = "characteristics"
    step, least_step, finer = 1e-6, 1e-13, 1e-3

    def __init__(self, problem: Problem, times: Array) -> None:
        from mfpde.lagrangian import START, along_characteristics

        super().__init__(problem, times)
        self._follow = along_characteristics
        self._follow(problem, (2,) * len(problem.axes), times, 1e-6)  # refuses what has none
        self.start = START[len(problem.axes)] // (4 if len(problem.axes) == 1 else 2)
        self.direct = problem.bound_energy.direct

    def cells(self, level: int) -> tuple[int, ...]:
        """See `_Route`."""
        return (round(self.start * GROWTH**level),) * len(self.problem.axes)

    def bytes(self, level: int) -> float:
        """See `_Route`."""
        nodes = math.prod(self.cells(level))
        return 8.0 * nodes * (40 + len(self.times)) * (len(self.problem.axes) + 1)

    def work(self, level: int) -> float:
        """See `_Route`."""
        return float(math.prod(self.cells(level)) ** (2 if self.direct else 1))

    def run(self, level: int, step: float) -> Iterator[Measured]:
        """See `_Route`."""
        for points, weights, energy in self._follow(self.problem, self.cells(level), self.times, step):
            yield Measured(self.problem, tuple(points.T), weights, energy)


class _Stationary(_Route):
    """The end state: the minimiser of the free energy on the centres of a mesh, or on Gauss nodes."""

    def __init__(self, problem: Problem, gauss: bool, mesh: bool) -> None:
        super().__init__(problem, np.array([math.inf]))
        self.gauss, self.mesh = gauss, mesh
        self.name = "end state, Gauss nodes" if gauss else "end state, mesh"
        self.start = (10, 8, 8, 6)[len(problem.axes) - 1]
        if mesh:
            # masses of regions come from cells, by interpolation of fourth order
            self.fastest = GROWTH**-5

    def cells(self, level: int) -> tuple[int, ...]:
        """See `_Route`."""
        return (round(self.start * GROWTH**level),) * len(self.problem.axes)

    def bytes(self, level: int) -> float:
        """See `_Route`."""
        return 8.0 * WORKING_ARRAYS * math.prod(self.cells(level))

    def run(self, level: int, step: float) -> Iterator[Measured]:
        """See `_Route`."""
        from mfpde.equilibrium import stationary, stationary_on_nodes

        problem = self.problem
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RunWarning)
            if not self.gauss:
                state = stationary(problem, self.cells(level))
                weights = state.mu * state.grid.cell_volume
                yield Measured(problem, tuple(state.grid.mesh()), weights, state.energy, state.grid, True)
                return
            points, weights, energy, density = stationary_on_nodes(problem, self.cells(level))
        if not self.mesh:
            yield Measured(problem, tuple(points.T), weights, energy)
            return
        # regions need a density that can be asked anywhere: the Gibbs formula, with the potential of the nodes
        grid = problem.grid(tuple(4 * n for n in self.cells(level)))
        values = density(grid.points()).reshape(grid.shape) * grid.cell_volume
        yield Measured(problem, tuple(grid.mesh()), values, energy, grid, True)


def _routes(problem: Problem, times: Array, mesh: bool) -> list[_Route]:
    """Two independent routes; `mesh` for observables that nodes cannot give."""
    from mfpde.transport import Muscl, ScharfetterGummel, Weno5

    if math.isinf(times[-1]):
        return [_Stationary(problem, False, mesh), _Stationary(problem, True, mesh)]
    if not problem.noiseless:
        return [_Mesh(problem, times, Weno5(), 4), _Mesh(problem, times, ScharfetterGummel(), 2)]
    weno = _Mesh(problem, times, Weno5(), 5)
    if not mesh:
        try:
            return [_Nodes(problem, times), weno]
        except ValueError:  # characteristics refuse this problem
            pass
    return [weno, _Mesh(problem, times, Muscl(), 2)]


# ---------------------------------------------------------------------------------------------------------------------
# bars
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spread(Observable):
    """First and second moments along all axes, from the lower end and in lengths of the box: a witness."""

    @property
    def name(self) -> str:
        """See `Observable`."""
        return "moments"

    def measure(self, at: Measured) -> Array:
        """See `Observable`."""
        found = []
        for axis, theta in zip(at.problem.axes, at.coordinates, strict=True):
            x = (theta - axis.lower) / axis.length
            found += [float((at.weights * x).sum()), float((at.weights * x**2).sum())]
        return np.array(found)


class _Ladder:
    """What a route has found so far, and what can be said of its errors."""

    def __init__(
        self, route: _Route, wanted: Sequence[Observable], where: Sequence[NDArray[np.intp]],
        note: Callable[[_Route, int, Callable[[], list[Array]]], list[Array]],
    ) -> None:  # fmt: skip
        self.route, self.note, self.count = route, note, len(wanted)
        # energy and moments are always watched: a single number may stand still by chance
        everywhere = np.arange(len(route.times))
        self.wanted = [*wanted, EnergyAt(), _Spread()]
        self.where = [*where, everywhere, everywhere]
        self.values: list[list[Array]] = []
        self.in_time: list[Array] = []
        """How much finer steps changed."""
        self.settled = 0
        """The level up to which that was seen, counted from 1."""
        self.seconds = 0.0

    def observe(self, level: int, step: float) -> list[Array]:
        """The observables on a level."""

        def run() -> list[Array]:
            values: list[list[Array]] = [[] for _ in self.wanted]
            for i, at in enumerate(self.route.run(level, step)):
                for k, observable in enumerate(self.wanted):
                    if i in self.where[k]:
                        values[k].append(np.asarray(observable.measure(at), dtype=float))
            return [
                o.combine(np.stack(v), self.route.times[at]) if isinstance(o, DecayRate) else np.stack(v)
                for o, v, at in zip(self.wanted, values, self.where, strict=True)
            ]

        return self.note(self.route, level, run)

    def refine(self, goal: float, end: float) -> None:
        """One more level."""
        began = time.perf_counter()
        self.values.append(self.observe(len(self.values), self.route.step))
        self.seconds = time.perf_counter() - began
        if len(self.values) == 1:
            self.settle(goal, end)

    def settle(self, goal: float, end: float) -> None:
        """See how much finer steps change on the last level, until that is a small part of the goal."""
        route, level = self.route, len(self.values) - 1
        self.settled = len(self.values)
        self.in_time = [np.zeros_like(v) for v in self.values[-1]]
        while route.finer < 1.0:
            began = time.perf_counter()
            finer = route.finer * route.step
            values = self.observe(level, finer)
            self.in_time = [np.abs(b - a) for a, b in zip(self.values[-1], values, strict=True)]
            now = time.perf_counter()
            # the same again takes twice as many steps or more, and so does the next level
            small = _worst(self.in_time[: self.count], self.scales) <= SHARE_IN_TIME * goal
            if small or finer <= route.least_step or now + 5.0 * (now - began) > end:
                break
            self.values[-1], route.step, self.seconds = values, finer, now - began

    @property
    def scales(self) -> list[Array]:
        """What bars are relative to: the largest value of the same time; for the witnesses, of all times."""
        values = self.values[-1]
        wanted = [_scale(v) for v in values[: self.count]]
        return wanted + [np.full(v.shape, np.abs(v).max()) for v in values[self.count :]]

    def ratios(self, changes: Sequence[Sequence[Array]]) -> tuple[float, float]:
        """What the last typical change is of the one before, and what the next one will be of it."""
        typical = [_typical(c) for c in changes]
        if not all(math.isfinite(c) for c in typical):
            return SLOWEST, SLOWEST
        found = [b / a if a > 0 else 0.0 for a, b in itertools.pairwise(typical)]
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
        if len(self.values) < 3:
            return [np.full(v.shape, np.inf) for v in self.values[-1][: self.count]], math.nan
        scales = self.scales
        changes = [
            [(y - x) / s for x, y, s in zip(a, b, scales, strict=True)] for a, b in itertools.pairwise(self.values)
        ]
        last, following = self.ratios(changes)
        typical, in_time = _typical(changes[-1]), [dt / s for dt, s in zip(self.in_time, scales, strict=True)]
        least, least_in_time = LEAST_SHARE * typical, LEAST_SHARE * _typical(in_time)
        bars = []
        for d1, d2, dt, s in zip(changes[-2], changes[-1], in_time, scales, strict=True):
            # a change may be small by chance: neither what the one before lets expect, nor the others, are forgotten
            size = np.maximum(np.maximum(np.abs(d2), last * np.abs(d1)), least)
            bar = SAFETY * following / (1.0 - following) * size + SAFETY_IN_TIME * np.maximum(dt, least_in_time)
            bars.append((bar + FLOOR) * s)
        return bars[: self.count], following

    def worst(self) -> float:
        """The largest relative bar."""
        return _worst(self.bars()[0], self.scales)

    @property
    def stuck(self) -> bool:
        """Whether the error in time is most of the bar, and cannot be made smaller."""
        scales = self.scales
        in_time = SAFETY_IN_TIME * _worst(self.in_time[: self.count], scales)
        return self.settled == len(self.values) and in_time > 0.5 * self.worst()

    def next_seconds(self) -> float:
        """How long the next level will take, from the last one."""
        level = len(self.values)
        return self.seconds * self.route.work(level) / self.route.work(level - 1)

    def forecast(self, goal: float) -> float:
        """How long it will take until the bars have reached a goal."""
        worst, ratio = self.worst(), self.bars()[1]
        level, total, seconds = len(self.values), 0.0, self.seconds
        while worst > goal and level < len(self.values) + 40:
            seconds *= self.route.work(level) / self.route.work(level - 1)
            total += seconds
            worst *= ratio
            level += 1
        return total if worst <= goal else math.inf


def _typical(changes: Sequence[Array]) -> float:
    """The root mean square over all observables, each counted once."""
    return math.sqrt(sum(float(np.mean(c**2)) for c in changes) / len(changes))


def largest(values: Array) -> Array:
    """The largest absolute value of the same time, in the shape of the values: what relative errors are relative to."""
    axes = tuple(range(1, values.ndim))
    found = np.abs(values).max(axis=axes, keepdims=True) if axes else np.abs(values)
    return np.asarray(np.broadcast_to(found, values.shape))


def _scale(values: Array) -> Array:
    """`largest`, but no zeros."""
    return np.maximum(largest(values), 1e-12 * max(float(np.abs(values).max()), 1e-300))


def _worst(bars: Sequence[Array], scales: Sequence[Array]) -> float:
    return max(float((bar / s).max()) for bar, s in zip(bars, scales, strict=False))


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
        The one that confirmed it; empty where there is none.
    other_value, other_bar : array
        What that one found. Its bar is at most its distance to `value` and the bar there together.
    observable : Observable
        What was measured: it can be measured on other measures, too.
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

    @property
    def relative(self) -> float:
        """The largest bar, relative to the largest value of the same time."""
        axes = tuple(range(1, self.value.ndim))
        return float((self.bar.max(axis=axes) / np.maximum(np.abs(self.value).max(axis=axes), 1e-300)).max())


@dataclass(frozen=True, eq=False)
class Reference:
    """The result of `mfpde.reference`.

    Attributes
    ----------
    problem : Problem
    tolerance : float
    observables : tuple of Certified
    levels : tuple of (str, tuple of int, float)
        Route, cells and seconds of every run that was made.
    reached : bool
        Whether all bars are within the tolerance.
    """

    problem: Problem
    tolerance: float
    observables: tuple[Certified, ...]
    levels: tuple[tuple[str, tuple[int, ...], float], ...]
    reached: bool

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.problem.name

    def __getitem__(self, name: str) -> Certified:
        for found in self.observables:
            if found.name == name:
                return found
        raise KeyError(f"no observable {name!r}; valid: {', '.join(found.name for found in self.observables)}")

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached within the budget; the bars are the best there are"
        lines = [f"Reference for {self.name!r}: relative tolerance {self.tolerance:g} {verdict}"]
        for found in self.observables:
            lines.append(f"  {found.name}  ({found.route}" + (f", confirmed by {found.other})" if found.other else ")"))
            for t, value, bar in zip(found.times, found.value, found.bar, strict=True):
                if value.ndim == 0:
                    lines.append(f"    t = {t:<8g} {float(value): .12g} +- {float(bar):.2g}")
                else:
                    lines.append(f"    t = {t:<8g} {value.size} values, largest bar {float(bar.max()):.2g}")
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
    progress: Callable[[str], None] | None = None,
) -> Reference:
    r"""Refine until every observable has an error bar within a tolerance.

    Two independent discretisations are refined: at temperature 0 quadrature nodes along characteristics and a mesh with
    `Weno5`; above, meshes with `Weno5` and with `ScharfetterGummel`. For masses of regions and marginals, and where
    characteristics do not apply or converge too slowly to confirm anything, `Muscl` takes the place of the nodes. The
    state in which a flow with a temperature ends, ``t = inf``, is the minimiser of the free energy on the centres of a
    mesh, and on Gauss nodes. The discretisation with the smaller bars gives the value; the other has to agree.

    Each level has half as many cells or nodes again along each axis. With :math:`d_1, d_2` the last two changes of a
    value :math:`v` and :math:`\rho` the ratio of typical changes of all observables, of the energy and of the moments,

    .. math::

       \text{bar} = 5\, \frac{\rho}{1 - \rho}\, \max(|d_2|, \rho |d_1|, \tfrac{1}{10} D) + 3\, |\delta|.

    The first part is the rest of a geometric series, five times: no order is assumed, but none above that of the
    scheme is believed. The ratio is the largest of those of one step, of two and (on meshes) of three; and as a change
    may be small by chance, a tenth of the typical one, :math:`D`, is the least. :math:`\delta` is what finer steps in
    time change on the last level: half of them on a mesh, a thousandth of the tolerance along characteristics.

    Where the two differ by more than both bars, although the budget was used up to refine them, the bar of the value
    reaches as far as the other one; beyond three times both bars it is an error.

    The route that confirms has bars of the same kind. Once it agrees, its error is known better from its distance to
    the value, and `Certified.other_bar` is that distance and the value's bar where this is less.

    Parameters
    ----------
    problem : Problem
    tolerance : float
        Largest bar, relative to the value (of several values at a time, to the largest).
    observables : sequence of Observable, optional
        Default: `EnergyAt` the times.
    times : sequence of float, optional
        When observables that name no times are measured, ``math.inf`` included; default: the problem's end.
    budget : float
        Seconds after which no further level is begun. The best bars so far are reported.
    memory : float
        Bytes that a level may take.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Reference

    Raises
    ------
    Disagreement
        If the discretisations differ by more than three times the sum of their bars.
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
    level is a third of the problem's own `shape`: it has to resolve the start.

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
    wanted = list(observables) if observables is not None else [EnergyAt()]
    if not wanted or not all(isinstance(observable, Observable) for observable in wanted):
        raise ValueError(f"observables must be a list of Observable, not {shown(observables)}")
    default = as_times(times) or (problem.t_end,)
    each = [as_times(observable.times) or default for observable in wanted]  # type: ignore[attr-defined]
    for observable, at in zip(wanted, each, strict=True):
        if isinstance(observable, DecayRate) and (len(at) < 2 or math.isinf(at[-1])):
            raise ValueError("a decay rate needs two finite times: DecayRate((t_0, t_1))")
    if not max(at[-1] for at in each) > 0:
        raise ValueError("some observable must be measured after t = 0")
    if any(math.isinf(at[-1]) for at in each):
        _check_end_state(problem)

    search = _Search(problem, tolerance, budget, memory, progress)
    parts: dict[int, list[Certified]] = {k: [] for k in range(len(wanted))}
    jobs = []
    for end in (False, True):
        for mesh in (False, True):
            chosen = [
                (k, tuple(t for t in at if math.isinf(t) is end))
                for k, (observable, at) in enumerate(zip(wanted, each, strict=True))
                if observable.needs_mesh is mesh
            ]
            chosen = [(k, at) for k, at in chosen if at]
            if chosen:
                jobs.append((chosen, mesh))
    for i, (chosen, mesh) in enumerate(jobs):
        found = search.certify([wanted[k] for k, _ in chosen], [at for _, at in chosen], mesh, len(jobs) - i)
        for (k, _), certified in zip(chosen, found, strict=True):
            parts[k].append(certified)
    # with their times, also where those were the default: so the same can be measured again
    wanted = [replace(observable, times=at) for observable, at in zip(wanted, each, strict=True)]  # type: ignore[call-arg]
    joined = tuple(replace(_joined(parts[k]), observable=observable) for k, observable in enumerate(wanted))
    return Reference(problem, tolerance, joined, tuple(search.levels), search.reached)


def _check_end_state(problem: Problem) -> None:
    """Refuse t = infinity where the minimiser of the free energy is not known to be the end."""
    if not problem.temperature.constant or problem.noiseless:
        raise ValueError(f"t = inf needs a constant temperature above 0, not {problem.temperature!r}")
    if problem.reinjection is not None or (problem.reacts and problem.reaction is not Reaction.FREE_ENERGY):
        raise ValueError(f"t = inf needs alpha = 0 or reaction 'free-energy', not {problem.reaction.value!r}")


class _Search:
    """Refines two routes at a time, within a budget."""

    def __init__(
        self, problem: Problem, tolerance: float, budget: float, memory: float, progress: Callable[[str], None] | None
    ) -> None:
        self.problem, self.tolerance, self.memory, self.progress = problem, tolerance, memory, progress
        self.end = time.perf_counter() + budget
        self.levels: list[tuple[str, tuple[int, ...], float]] = []
        self.reached = True

    def note(self, route: _Route, level: int, run: Callable[[], list[Array]]) -> list[Array]:
        """Run, say so before, and write down how long it took."""
        cells = route.cells(level)
        if self.progress is not None:
            self.progress(f"{route.name}, {' x '.join(map(str, cells))}")
        began = time.perf_counter()
        found = run()
        self.levels.append((route.name, cells, time.perf_counter() - began))
        return found

    def certify(
        self, wanted: Sequence[Observable], each: Sequence[tuple[float, ...]], mesh: bool, left: int
    ) -> list[Certified]:
        """Some observables by the same two routes; `left` is among how many such groups the budget is shared."""
        tolerance = self.tolerance
        now = time.perf_counter()
        end = now + (self.end - now) / left
        every = np.array(sorted({t for at in each for t in at}))
        if every[-1] == 0.0:  # the start: a run has some length
            every = np.array([0.0, self.problem.t_end])
        where = [np.searchsorted(every, at) for at in each]
        ladders = [_Ladder(route, wanted, where, self.note) for route in _routes(self.problem, every, mesh)]

        def affordable(ladder: _Ladder, seconds: float) -> bool:
            in_time = time.perf_counter() + seconds <= end
            return in_time and ladder.route.bytes(len(ladder.values)) <= self.memory

        for ladder, goal in zip(ladders, (tolerance, CONFIRMS * tolerance), strict=True):
            for _ in range(3):
                ladder.refine(goal, end)
        while True:
            best = min(ladders, key=_Ladder.worst)
            if best.worst() <= tolerance:
                if best.settled == len(best.values):
                    break
                best.settle(tolerance, end)
                continue
            possible = [a for a in ladders if affordable(a, a.next_seconds()) and not a.stuck]
            if not possible:
                break
            # the one that is expected there first; else the one whose next level brings more
            min(possible, key=lambda a: (a.forecast(tolerance), a.worst() * a.bars()[1])).refine(tolerance, end)
        best, other = sorted(ladders, key=_Ladder.worst)
        goal = CONFIRMS * tolerance
        slow = isinstance(other.route, _Nodes) and not affordable(other, other.forecast(goal))
        if slow and time.perf_counter() < end:
            from mfpde.transport import Muscl

            # nodes converge slowly here: another mesh confirms more
            other = _Ladder(_Mesh(self.problem, every, Muscl(), 2), wanted, where, self.note)
            for _ in range(3):
                other.refine(goal, end)
        if best.settled < len(best.values):
            best.settle(tolerance, end)
        # wide bars confirm nothing; and the first levels may be too coarse for theirs: the finer ones decide
        while True:
            near = affordable(other, other.forecast(goal))
            enough = other.worst() <= (goal if near else LOOSE)
            if enough and other.settled < len(other.values):
                other.settle(goal, end)
                continue
            if enough and not _apart(self.problem, best, other, 1.0):
                break
            if other.stuck or not affordable(other, other.next_seconds()):
                break
            other.refine(goal, end)
        apart = _apart(self.problem, best, other, DOUBT)
        if apart:
            raise Disagreement(apart)
        bars, others = best.bars()[0], other.bars()[0]
        # in between nothing says which of the two is wrong: the bar reaches to the other one
        wide = [_reaching(*of) for of in zip(best.values[-1], bars, other.values[-1], others, strict=False)]
        self.reached &= _worst(wide, best.scales) <= tolerance
        found = []
        for k, (observable, at) in enumerate(zip(wanted, each, strict=True)):
            value, second = best.values[-1][k], other.values[-1][k]
            found.append(
                Certified(
                    name=observable.name,
                    times=np.array(at)[1 if isinstance(observable, DecayRate) else 0 :],
                    value=value,
                    bar=wide[k],
                    route=best.route.name,
                    other=other.route.name,
                    other_value=second,
                    other_bar=_seen_from(value, bars[k], second, others[k]),
                    observable=observable,
                )
            )
        return found


def _reaching(value: Array, bar: Array, other: Array, own: Array) -> Array:
    """The better bar, as far as the other value where the two do not overlap."""
    distance = np.abs(other - value)
    return np.where(distance <= bar + own, bar, distance)


def _seen_from(value: Array, bar: Array, other: Array, own: Array) -> Array:
    """The bar of the worse route: the better one and the distance to it may say more than it knows of itself."""
    distance = np.abs(other - value)
    return np.where(distance <= own + bar, np.minimum(own, distance + bar), distance + bar)


def _joined(parts: Sequence[Certified]) -> Certified:
    """Finite times and the end state of one observable."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts

    def both(a: Array | None, b: Array | None) -> Array:
        assert a is not None
        assert b is not None
        return np.concatenate([a, b])

    return Certified(
        name=first.name,
        times=both(first.times, second.times),
        value=both(first.value, second.value),
        bar=both(first.bar, second.bar),
        route=f"{first.route}; {second.route}",
        other=f"{first.other}; {second.other}",
        other_value=both(first.other_value, second.other_value),
        other_bar=both(first.other_bar, second.other_bar),
        observable=first.observable,
    )


def _apart(problem: Problem, best: _Ladder, other: _Ladder, doubt: float) -> str:
    """Where two routes differ by more than so many times their bars; empty if nowhere."""
    bars, others = best.bars()[0], other.bars()[0]
    for observable, a, b, x, y in zip(best.wanted, best.values[-1], other.values[-1], bars, others, strict=False):
        off = np.abs(a - b) - doubt * (x + y)
        if not off.max() <= 0:  # NaN included
            k = np.unravel_index(int(np.argmax(off)), off.shape)
            return (
                f"{problem.name!r}, {observable.name}: {best.route.name} says {a[k]:.10g} +- {x[k]:.2g}, "
                f"{other.route.name} {b[k]:.10g} +- {y[k]:.2g}; refine further (budget=), or look at the problem"
            )
    return ""
