"""Observables: numbers that a measure has at a time, on a mesh, on quadrature nodes, or as a cloud of particles."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.grid import Grid, axis_number
from mfpde.equation.problem import Problem
from mfpde.support.arguments import POWER, TEXT, numbers, one_of, read_only, require, shown
from mfpde.support.arrays import Array
from mfpde.support.saves import distinct_times, same_time

__all__ = [
    "DecayRate",
    "DensityAt",
    "EnergyAt",
    "Marginal",
    "MassIn",
    "Measured",
    "Moment",
    "Observable",
    "OutputAt",
    "as_times",
]


ROUNDED = 16.0 * np.finfo(float).eps
"""No value is known to a smaller share of the largest number that it is a sum of."""


@dataclass(frozen=True)
class Measured:
    """A measure at a time, on a mesh or as nodes. Several observables look at it: its arrays cannot be written to.

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
    evaluate : callable, optional
        The density of nodes, as a function of points (n, d).
    """

    problem: Problem
    coordinates: tuple[Array, ...]
    weights: Array
    energy: float
    grid: Grid | None = None
    point_values: bool = False
    evaluate: Callable[[Array], Array] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "coordinates", read_only(*self.coordinates))
        object.__setattr__(self, "weights", read_only(self.weights)[0])

    def density(self, points: Array) -> Array:
        """The density at points (n, d); on a mesh by splines of fifth degree through the values at the centres.

        Raises
        ------
        ValueError
            For a cloud, which has none.
        """
        if self.evaluate is not None:
            return self.evaluate(points)
        if self.grid is None:
            raise ValueError("a cloud of particles has no density; compare moments, outputs and masses")
        return _interpolated(self.weights / self.grid.cell_volume, self.grid, points, self.point_values)

    def axis(self, name: str) -> int:
        """The position of an axis."""
        return axis_number(tuple(self.problem.axes), name)


@dataclass(frozen=True)
class Observable(ABC):
    """A number, or several, that a measure has at a time.

    Parameters
    ----------
    times : sequence of float
        When it is measured; None for the problem's end, infinity for the state in which it ends.
    """

    needs_mesh: ClassVar[bool] = False
    """Whether nodes cannot give it: a sum over nodes in a region jumps when one enters."""

    def __post_init__(self) -> None:
        # numbers now; whether they are times, where it is measured
        times = getattr(self, "times", None)
        if times is not None:
            numbers(times, "the times of an observable")

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called."""

    @abstractmethod
    def measure(self, at: Measured) -> Array:
        """Its value or values."""

    def bound(self, problem: Problem) -> float:
        """The largest absolute value that it can have in a problem; 0 where that is not known."""
        return 0.0

    def rounding(self, problem: Problem) -> float:
        """What round-off leaves of it in a problem: what is 0 by symmetry is a sum of numbers that are not."""
        return ROUNDED * self.bound(problem)


def as_times(times: float | Sequence[float] | None) -> tuple[float, ...] | None:
    """Times of an observable, increasing and each once; infinity is the end state.

    Times that are the same but for rounding are one (`mfpde.support.saves.same_time`): 0, the last finite one, or
    else the earliest of them.
    """
    if times is None:
        return None
    found = tuple(float(t) for t in np.ravel(numbers(times, "the times of an observable")))
    last = max((t for t in found if math.isfinite(t)), default=0.0)
    if not found or not all(t >= 0 or same_time(t, 0.0, last) for t in found):
        raise ValueError(f"the times of an observable must not be negative, not {shown(times)}")
    return tuple(distinct_times(found, (0.0, last)))


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

    def rounding(self, problem: Problem) -> float:
        """That of the constants which the other terms cancel near a minimum of 0."""
        return ROUNDED * problem.bound_energy.offset


@dataclass(frozen=True)
class Moment(Observable):
    """``int theta_axis^power dmu_t``."""

    axis: str
    power: int = 1
    times: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(axis=(self.axis, TEXT), power=(self.power, POWER))

    @property
    def name(self) -> str:
        """What it is called."""
        return f"moment {self.axis}^{self.power}"

    def measure(self, at: Measured) -> Array:
        """Its value."""
        theta = at.coordinates[at.axis(self.axis)]
        return np.array(float((at.weights * theta**self.power).sum()))

    def bound(self, problem: Problem) -> float:
        """That of all mass at the farther end of the axis."""
        axis = next((axis for axis in problem.axes if axis.name == self.axis), None)
        return 0.0 if axis is None else max(abs(axis.lower), abs(axis.upper)) ** self.power


@dataclass(frozen=True)
class OutputAt(Observable):
    """The network's output at inputs `x`, (m,) or (m, p)."""

    x: Any = field(repr=False)
    times: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        x = numbers(self.x, "inputs")
        if x.ndim > 2 or not x.size or not np.all(np.isfinite(x)):
            raise ValueError(f"inputs must be finite, of shape (m,) or (m, p), not {shown(self.x)}")

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

    def __post_init__(self) -> None:
        super().__post_init__()
        require(box=(self.box, one_of(Mapping)))
        for name, edges in self.box.items():
            if not isinstance(name, str) or len(_edges(name, edges)) != 2:
                raise ValueError(f"a box maps names of axes to (low, high), not {shown(name)} to {shown(edges)}")

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

    def bound(self, problem: Problem) -> float:
        """All of the mass."""
        return 1.0


@dataclass(frozen=True)
class Marginal(Observable):
    """The marginal density over an axis, averaged over the intervals between `edges`."""

    axis: str
    edges: Any = field(repr=False)
    times: Any = None
    needs_mesh: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(axis=(self.axis, TEXT))
        numbers(self.edges, "the edges of a marginal")

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
class DensityAt(Observable):
    """The density at points, (n, d) or in one dimension (n,)."""

    points: Any = field(repr=False)
    times: Any = None

    @property
    def name(self) -> str:
        """What it is called."""
        return f"density at {len(np.atleast_1d(self.points))} points"

    def measure(self, at: Measured) -> Array:
        """Its values."""
        axes = at.problem.axes
        points = numbers(self.points, "the points of a density")
        rows = np.atleast_1d(points)[:, None] if points.ndim < 2 and len(axes) == 1 else points
        if rows.ndim != 2 or rows.shape[1] != len(axes) or not len(rows):
            raise ValueError(
                f"the points of a density must have shape (n, {len(axes)}), one row a point, not {points.shape}"
            )
        outside = [not np.all((axis.lower <= x) & (x <= axis.upper)) for axis, x in zip(axes, rows.T, strict=True)]
        if any(outside):
            axis = axes[outside.index(True)]
            raise ValueError(f"points of a density must lie in [{axis.lower:g}, {axis.upper:g}] along {axis.name!r}")
        return at.density(rows)


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
    found = numbers(edges, f"edges along {shown(name)}")
    if not (found.ndim == 1 and len(found) > 1 and np.all(np.diff(found) > 0)):
        raise ValueError(f"edges along {shown(name)} must increase, not {shown(edges)}")
    return found


def _interpolated(values: Array, grid: Grid, points: Array, point_values: bool) -> Array:
    """Values on a mesh at points in between; what they are even or periodic at the ends of the axes."""
    from scipy.ndimage import map_coordinates

    margin = 40  # the spline forgets its ends by a factor 0.43 a cell
    places = []
    for i, axis in enumerate(grid.axes):
        mode = "wrap" if axis.periodic else "symmetric"
        if not point_values:
            # values at the centres from averages over the cells, of fourth order
            wide = np.pad(values, [(1, 1) if j == i else (0, 0) for j in range(values.ndim)], mode=mode)  # type: ignore[call-overload]
            values = values - np.diff(wide, 2, axis=i) / 24.0
        values = np.pad(values, [(margin, margin) if j == i else (0, 0) for j in range(values.ndim)], mode=mode)  # type: ignore[call-overload]
        places.append((points[:, i] - axis.lower) / grid.spacing[i] - 0.5 + margin)
    return np.asarray(map_coordinates(values, np.stack(places), order=5, mode="nearest"))


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
