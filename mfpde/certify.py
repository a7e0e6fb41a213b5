"""`reference`: numbers with error bars, from independent discretisations that are refined until the bars are small."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.checks import numbers, real, shown
from mfpde.grid import Grid
from mfpde.problem import Problem
from mfpde.running import WORKING_ARRAYS

__all__ = [
    "Certified",
    "DecayRate",
    "Disagreement",
    "EnergyAt",
    "Marginal",
    "MassIn",
    "Moment",
    "Observable",
    "OutputAt",
    "Reference",
    "reference",
]

Array = NDArray[np.float64]

SAFETY = 5.0
"""By how much a bar is wider than the estimated error."""
LEAST_SHARE = 0.2
"""The least change of an observable that is believed, as a share of the typical one: a change may vanish by chance."""
SLOWEST = 0.9
"""The largest ratio of successive changes that is believed; each route has its smallest."""
CONFIRMS = 100.0
"""How much wider than the tolerance the bars of the route that confirms may be, if the budget allows."""
FLOOR = 1e-10
"""The smallest relative bar: round-off, and what a box cuts off of a start."""


class Disagreement(RuntimeError):
    """Independent discretisations that differ by more than their bars: at least one bar is wrong."""


# ---------------------------------------------------------------------------------------------------------------------
# observables
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A measure at a time, on a mesh or as nodes.

    Attributes
    ----------
    problem : Problem
    coordinates : tuple of array
        One an axis, to be broadcast.
    weights : array
        The mass of each cell or node.
    energy : float
        With a temperature the free energy; without the entropy for nodes.
    grid : Grid or None
        The mesh; None for nodes.
    point_values : bool
        Whether the weights on a mesh are values at the centres times the volume, or masses of cells.
    """

    problem: Problem
    coordinates: tuple[Array, ...]
    weights: Array
    energy: float
    grid: Grid | None = None
    point_values: bool = False

    def axis(self, name: str) -> int:
        """The position of an axis."""
        names = [axis.name for axis in self.problem.axes]
        if name not in names:
            raise ValueError(f"no axis {name!r}; valid: {', '.join(names)}")
        return names.index(name)


@dataclass(frozen=True)
class Observable(ABC):
    """A number, or several, that a measure has at a time.

    Parameters
    ----------
    times : sequence of float
        When it is measured; None for the problem's end.
    """

    needs_mesh: ClassVar[bool] = False
    """Whether nodes cannot give it: a sum over nodes in a region jumps when one enters."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called."""

    @abstractmethod
    def measure(self, at: Measured) -> Array:
        """Its value or values."""


def _at(times: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if times is None:
        return None
    found = tuple(float(t) for t in np.atleast_1d(numbers(times, "the times of an observable")))
    if not found or not all(math.isfinite(t) and t >= 0 for t in found):
        raise ValueError(f"the times of an observable must be finite and not negative, not {shown(times)}")
    return found


@dataclass(frozen=True)
class EnergyAt(Observable):
    """``E[mu_t]``; with a temperature the free energy."""

    times: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return "energy"

    def measure(self, at: Measured) -> Array:
        """Its value."""
        return np.array(at.energy)


@dataclass(frozen=True)
class Moment(Observable):
    """``int theta_axis^power dmu_t``."""

    axis: str
    power: int = 1
    times: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"moment {self.axis}^{self.power}"

    def measure(self, at: Measured) -> Array:
        """Its value."""
        theta = at.coordinates[at.axis(self.axis)]
        return np.array(float((at.weights * theta**self.power).sum()))


@dataclass(frozen=True)
class OutputAt(Observable):
    """The network's output at inputs `x`, (m,) or (m, p)."""

    x: Any = field(repr=False)
    times: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"output at {len(np.atleast_1d(self.x))} inputs"

    def measure(self, at: Measured) -> Array:
        """Its values."""
        if at.problem.network is None:
            raise ValueError(f"problem {at.problem.name!r} names no network, so it has no output")
        return at.problem.network.output(self.x, at.coordinates, at.weights)


@dataclass(frozen=True)
class MassIn(Observable):
    """The mass in a box: ``MassIn({"c": (0, 1)})``; axes that are not named count whole."""

    box: Mapping[str, tuple[float, float]] = field(hash=False)
    times: Any = None
    needs_mesh: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What it is called."""
        return "mass in " + " x ".join(f"{k} [{a:g}, {b:g}]" for k, (a, b) in self.box.items())

    def measure(self, at: Measured) -> Array:
        """Its value."""
        mass = at.weights
        if at.grid is None:
            inside = np.ones(np.shape(mass), dtype=bool)
            for name, (low, high) in self.box.items():
                _edges(name, [low, high])
                theta = at.coordinates[at.axis(name)]
                inside &= (low <= theta) & (theta < high)
            return np.array(float(mass[inside].sum()))
        for name, (low, high) in self.box.items():
            mass = _contract(mass, at, name, [low, high])[..., 0]
            # the axis has gone to the end, as one bin, and is kept there for the next
            mass = np.expand_dims(mass, at.axis(name))
        return np.array(float(mass.sum()))


@dataclass(frozen=True)
class Marginal(Observable):
    """The marginal density over an axis, averaged over the intervals between `edges`."""

    axis: str
    edges: Any = field(repr=False)
    times: Any = None
    needs_mesh: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """What it is called."""
        return f"marginal over {self.axis}"

    def measure(self, at: Measured) -> Array:
        """Its values."""
        edges = _edges(self.axis, self.edges)
        if at.grid is None:
            found, _ = np.histogram(at.coordinates[at.axis(self.axis)], bins=edges, weights=at.weights)
            return np.asarray(found / np.diff(edges))
        binned = _contract(at.weights, at, self.axis, edges)
        return np.asarray(binned.sum(axis=tuple(range(binned.ndim - 1))) / np.diff(edges))


@dataclass(frozen=True)
class DecayRate(Observable):
    """``log(E(t_0)/E(t_1)) / (t_1 - t_0)`` between two times."""

    times: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return "decay rate of the energy"

    def measure(self, at: Measured) -> Array:
        """The logarithm of the energy; `combine` makes rates of two."""
        return np.array(math.log(at.energy) if at.energy > 0 else math.nan)

    def combine(self, values: Array, times: Array) -> Array:
        """Rates between successive times."""
        return np.asarray(-np.diff(values, axis=0) / np.diff(times))


def _edges(name: str, edges: ArrayLike) -> Array:
    found = np.asarray(edges, dtype=float)
    if not (found.ndim == 1 and len(found) > 1 and np.all(np.diff(found) > 0)):
        raise ValueError(f"edges along {name!r} must increase, not {shown(edges)}")
    return found


def _contract(mass: Array, at: Measured, name: str, edges: ArrayLike) -> Array:
    """Masses in intervals along an axis of a mesh; the intervals become the last axis."""
    assert at.grid is not None
    i, edges = at.axis(name), _edges(name, edges)
    axis, n, h = at.grid.axes[i], at.grid.shape[i], at.grid.spacing[i]
    if edges[0] < axis.lower - 1e-12 * axis.length or edges[-1] > axis.upper + 1e-12 * axis.length:
        raise ValueError(f"edges along {name!r} must lie in [{axis.lower:g}, {axis.upper:g}]")
    along = np.moveaxis(mass, i, -1)
    if at.point_values:
        # masses of cells from values at their centres, of fourth order; ends are even, or periodic
        wide = (
            np.concatenate([along[..., -1:], along, along[..., :1]], axis=-1)
            if axis.periodic
            else np.concatenate([along[..., :1], along, along[..., -1:]], axis=-1)
        )
        along = along + np.diff(wide, 2, axis=-1) / 24.0
    below = np.concatenate([np.zeros((*along.shape[:-1], 1)), np.cumsum(along, axis=-1)], axis=-1)
    # the distribution function at the faces, interpolated by the quintic through the six around
    x = (edges - axis.lower) / h
    start = np.clip(np.floor(x).astype(int) - 2, 0, max(n - 5, 0))
    points = min(6, n + 1)
    u = x - start
    at_edges = np.zeros((*below.shape[:-1], len(edges)))
    for k in range(points):
        weight = np.prod([(u - m) / (k - m) for m in range(points) if m != k], axis=0)
        at_edges += weight * below[..., start + k]
    return np.asarray(np.diff(at_edges, axis=-1))


# ---------------------------------------------------------------------------------------------------------------------
# routes
# ---------------------------------------------------------------------------------------------------------------------


class _Route(ABC):
    """A discretisation that can be refined, level by level."""

    name: str
    fastest: float
    """The smallest ratio of successive changes that is believed."""
    tolerances: tuple[float, ...] = (1.0,)
    """What each level is run with, in tolerances of the level."""

    def __init__(self, problem: Problem, times: Array) -> None:
        self.problem, self.times = problem, times
        self.level = 0
        self.seconds = 0.0

    @abstractmethod
    def cells(self, level: int) -> tuple[int, ...]:
        """Cells or nodes along each axis."""

    @abstractmethod
    def bytes(self, level: int) -> float:
        """Memory of a level, about."""

    @abstractmethod
    def _run(self, level: int, factor: float) -> Iterator[Measured]:
        """The measure at each time; `factor` makes the tolerance in time smaller."""

    def next(
        self, observables: Sequence[Observable], where: Sequence[NDArray[np.intp]]
    ) -> tuple[list[Array], list[Array]]:
        """The observables at their times on the next level, and how they depend on the tolerance in time."""
        began = time.perf_counter()
        runs = [self._observed(observables, where, factor) for factor in self.tolerances]
        self.level += 1
        self.seconds = time.perf_counter() - began
        return runs[-1], [np.abs(b - a) for a, b in zip(runs[0], runs[-1], strict=True)]

    def _observed(
        self, observables: Sequence[Observable], where: Sequence[NDArray[np.intp]], factor: float
    ) -> list[Array]:
        values: list[list[Array]] = [[] for _ in observables]
        for i, at in enumerate(self._run(self.level, factor)):
            for k, observable in enumerate(observables):
                if i in where[k]:
                    values[k].append(np.asarray(observable.measure(at), dtype=float))
        stacked = [np.stack(found) for found in values]
        return [
            o.combine(v, self.times[at]) if isinstance(o, DecayRate) else v
            for o, v, at in zip(observables, stacked, where, strict=True)
        ]


class _Mesh(_Route):
    """A mesh with one scheme; cells by a half more each time, the tolerance in time with them.

    Steps may be bound by stability, and then their error is not tied to the tolerance: each level is run twice.
    """

    tolerances = (1.0, 1e-2)

    def __init__(self, problem: Problem, times: Array, scheme: Any, order: int) -> None:
        super().__init__(problem, times)
        self.scheme, self.order = scheme, order
        self.name = f"mesh, {type(scheme).__name__}"
        self.ratio = (1.5, 1.5, 1.3, 1.2)[len(problem.axes) - 1]
        self.fastest = self.ratio ** -(order + 1)
        shape = problem.grid(None).shape
        smallest = (50, 24, 12, 8)[len(shape) - 1]
        self.start = tuple(max(smallest, round(n / 3)) for n in shape)

    def cells(self, level: int) -> tuple[int, ...]:
        """See `_Route`."""
        return tuple(round(n * self.ratio**level) for n in self.start)

    def bytes(self, level: int) -> float:
        """See `_Route`."""
        return 8.0 * WORKING_ARRAYS * math.prod(self.cells(level))

    def _run(self, level: int, factor: float) -> Iterator[Measured]:
        import warnings

        from mfpde.integration import solve
        from mfpde.running import RunWarning
        from mfpde.stepping import ErrorControl

        problem = self.problem
        grid = problem.grid(self.cells(level))
        tolerance = max(1e-5 * factor * self.ratio ** (-self.order * level), 1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RunWarning)
            found = solve(
                problem, grid.shape, float(self.times[-1]), scheme=self.scheme, save=self.times.tolist(),
                controller=ErrorControl(tolerance=tolerance), progress=False,
            )  # fmt: skip
        at = np.searchsorted(found.times, self.times)
        for i in at:
            yield Measured(
                problem, tuple(grid.mesh()), found.density[i] * grid.cell_volume, float(found.energy[i]), grid,
                found.point_values,
            )  # fmt: skip


class _Nodes(_Route):
    """Quadrature nodes along characteristics, by a half more along each axis each time."""

    fastest = 1e-3

    def __init__(self, problem: Problem, times: Array) -> None:
        from mfpde.lagrangian import START, along_characteristics

        super().__init__(problem, times)
        self._follow = along_characteristics
        self._follow(problem, (2,) * len(problem.axes), times, 1e-6)  # refuses what has none
        self.name = "characteristics"
        self.start = START[len(problem.axes)] // 2

    def cells(self, level: int) -> tuple[int, ...]:
        """See `_Route`."""
        return (round(self.start * 1.5**level),) * len(self.problem.axes)

    def bytes(self, level: int) -> float:
        """See `_Route`."""
        nodes = math.prod(self.cells(level))
        return 8.0 * nodes * (40 + len(self.times)) * (len(self.problem.axes) + 1)

    def _run(self, level: int, factor: float) -> Iterator[Measured]:
        rtol = max(1e-8 * factor * 0.01**level, 1e-13)
        for points, weights, energy in self._follow(self.problem, self.cells(level), self.times, rtol):
            yield Measured(self.problem, tuple(points.T), weights, energy)


def _routes(problem: Problem, times: Array) -> list[_Route]:
    from mfpde.transport import Muscl, ScharfetterGummel, Weno5

    if not problem.noiseless:
        return [_Mesh(problem, times, Weno5(), 4), _Mesh(problem, times, ScharfetterGummel(), 2)]
    routes: list[_Route] = []
    try:
        routes.append(_Nodes(problem, times))
    except ValueError:  # characteristics refuse this problem
        routes.append(_Mesh(problem, times, Muscl(), 2))
    return [*routes, _Mesh(problem, times, Weno5(), 5)]


@dataclass
class _Ladder:
    """What a route has found so far, and what can be said of its errors."""

    route: _Route
    values: list[list[Array]] = field(default_factory=list)
    in_time: list[Array] = field(default_factory=list)
    """How the last level depends on its tolerance in time."""

    def bars(self, scales: Sequence[Array]) -> tuple[list[Array], float]:
        """The bars of the last level, and the ratio of the last changes."""
        if len(self.values) < 3:
            return [np.full(v.shape, np.inf) for v in self.values[-1]], math.nan
        (a, b, c) = self.values[-3:]
        first = _typical([(y - x) / s for x, y, s in zip(a, b, scales, strict=True)])
        second = _typical([(y - x) / s for x, y, s in zip(b, c, scales, strict=True)])
        fastest = self.route.fastest
        ratio = min(max(second / first if first > 0 else fastest, fastest), SLOWEST)
        left = SAFETY * ratio / (1.0 - ratio)
        bars = []
        for x, y, z, dt, s in zip(a, b, c, self.in_time, scales, strict=True):
            # a change may be small by chance: neither what the one before lets expect, nor the others, are forgotten
            change = np.maximum(np.maximum(np.abs(z - y), ratio * np.abs(y - x)), LEAST_SHARE * second * s)
            bars.append(left * change + dt + FLOOR * s)
        return bars, ratio


def _typical(changes: Sequence[Array]) -> float:
    """The root mean square over all observables, each counted once."""
    return math.sqrt(sum(float(np.mean(c**2)) for c in changes) / len(changes))


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
    value, bar : array, shape (m, ...)
        The true value is expected within ``value +- bar``: an estimate, not a proof.
    route : str
        The discretisation that gave it.
    other : str
        The one that confirmed it; empty where there is none.
    other_value, other_bar : array
        What that one found.
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

    def __getitem__(self, name: str) -> Certified:
        for found in self.observables:
            if found.name == name:
                return found
        raise KeyError(f"no observable {name!r}; valid: {', '.join(found.name for found in self.observables)}")

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached within the budget; the bars are the best there are"
        lines = [f"Reference for {self.problem.name!r}: relative tolerance {self.tolerance:g} {verdict}"]
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

    At least two independent discretisations are refined: at temperature 0 quadrature nodes along characteristics and a
    mesh with `Weno5` (or meshes with `Weno5` and `Muscl`, where characteristics do not apply); above, meshes with
    `Weno5` and with `ScharfetterGummel`. Each level has half as many cells again along each axis, and a smaller
    tolerance in time. With the last two changes :math:`d_1, d_2` of an observable :math:`v` and the ratio
    :math:`\rho` of the typical changes of all of them,

    .. math:: |v - v_*| \approx |d_2| \frac{\rho}{1 - \rho},

    whatever the order that the ratio stands for; the bar is 5 times that, and on meshes the change when the tolerance
    in time is made a hundred times smaller. The discretisation with the smaller bars
    gives the value, the other one has to agree within both bars.

    Parameters
    ----------
    problem : Problem
    tolerance : float
        Largest bar, relative to the value (of several values at a time, to the largest).
    observables : sequence of Observable, optional
        Default: `EnergyAt` the times.
    times : sequence of float, optional
        When observables that name no times are measured; default: the problem's end.
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
        If the discretisations differ by more than the sum of their bars.
    ValueError
        For arguments that do not fit.

    Notes
    -----
    A bar is an estimate. A feature that all levels miss is not seen, and a discontinuous start converges slowly.

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
    default = _at(times) or (problem.t_end,)
    each = [_at(observable.times) or default for observable in wanted]  # type: ignore[attr-defined]
    for observable, at in zip(wanted, each, strict=True):
        if isinstance(observable, DecayRate) and len(at) < 2:
            raise ValueError("a decay rate needs two times: DecayRate((t_0, t_1))")
    every = np.array(sorted({t for at in each for t in at}))
    if not every[-1] > 0:
        raise ValueError("some observable must be measured after t = 0")
    where = [np.searchsorted(every, sorted(set(at))) for at in each]

    ladders = [_Ladder(route) for route in _routes(problem, every)]
    # nodes cannot give some observables: then meshes have to be compared with meshes
    if any(o.needs_mesh for o in wanted) and isinstance(ladders[0].route, _Nodes):
        from mfpde.transport import Muscl

        ladders[0] = _Ladder(_Mesh(problem, every, Muscl(), 2))
    began = time.perf_counter()
    levels: list[tuple[str, tuple[int, ...], float]] = []

    def refine(ladder: _Ladder) -> None:
        route = ladder.route
        if progress is not None:
            progress(f"{route.name}, {' x '.join(map(str, route.cells(route.level)))}")
        cells = route.cells(route.level)
        values, ladder.in_time = route.next(wanted, where)
        ladder.values.append(values)
        levels.append((route.name, cells, route.seconds))

    for ladder in ladders:
        for _ in range(3):
            refine(ladder)
    scales = [_scale(v) for v in ladders[0].values[-1]]

    def worst(ladder: _Ladder) -> float:
        bars, _ = ladder.bars(scales)
        return max(float((bar / s).max()) for bar, s in zip(bars, scales, strict=True))

    def affordable(ladder: _Ladder) -> bool:
        route = ladder.route
        in_time = time.perf_counter() - began + _next_seconds(route) <= budget
        return in_time and route.bytes(route.level) <= memory

    while True:
        best = min(ladders, key=worst)
        if worst(best) <= tolerance:
            break
        possible = [ladder for ladder in ladders if affordable(ladder)]
        if not possible:
            break
        # what the next level of each would bring
        refine(min(possible, key=lambda ladder: worst(ladder) * ladder.bars(scales)[1]))
    best = min(ladders, key=worst)
    other = next(ladder for ladder in ladders if ladder is not best)
    # wide bars confirm nothing; and the first levels may be too coarse for theirs: the finer ones decide
    while affordable(other) and (worst(other) > CONFIRMS * tolerance or _apart(problem, wanted, best, other, scales)):
        refine(other)
    apart = _apart(problem, wanted, best, other, scales)
    if apart:
        raise Disagreement(apart)
    bars, others = best.bars(scales)[0], other.bars(scales)[0]
    found = tuple(
        Certified(
            name=observable.name,
            times=np.array(sorted(set(at)))[1 if isinstance(observable, DecayRate) else 0 :],
            value=best.values[-1][k],
            bar=bars[k],
            route=best.route.name,
            other=other.route.name,
            other_value=other.values[-1][k],
            other_bar=others[k],
            observable=observable,
        )
        for k, (observable, at) in enumerate(zip(wanted, each, strict=True))
    )
    return Reference(problem, tolerance, found, tuple(levels), worst(best) <= tolerance)


def _scale(values: Array) -> Array:
    """What bars are relative to: the largest value of the same time."""
    axes = tuple(range(1, values.ndim))
    largest = np.abs(values).max(axis=axes, keepdims=True) if axes else np.abs(values)
    return np.maximum(np.broadcast_to(largest, values.shape), 1e-12 * max(float(np.abs(values).max()), 1e-300))


def _next_seconds(route: _Route) -> float:
    """How long the next level will take, from the last one."""
    more = math.prod(route.cells(route.level)) / math.prod(route.cells(route.level - 1))
    finest = max(b / a for a, b in zip(route.cells(route.level - 1), route.cells(route.level), strict=True))
    return route.seconds * more * finest**1.5


def _apart(
    problem: Problem, wanted: Sequence[Observable], best: _Ladder, other: _Ladder, scales: Sequence[Array]
) -> str:
    """Where two routes differ by more than their bars; empty if nowhere."""
    (bars, _), (others, _) = best.bars(scales), other.bars(scales)
    for observable, a, b, x, y in zip(wanted, best.values[-1], other.values[-1], bars, others, strict=True):
        off = np.abs(a - b) - (x + y)
        if not off.max() <= 0:  # NaN included
            k = np.unravel_index(int(np.argmax(off)), off.shape)
            return (
                f"{problem.name!r}, {observable.name}: {best.route.name} says {a[k]:.10g} +- {x[k]:.2g}, "
                f"{other.route.name} {b[k]:.10g} +- {y[k]:.2g}; refine further (budget=), or look at the problem"
            )
    return ""
