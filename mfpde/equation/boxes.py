"""Species with boxes of their own: each is mapped to the same axes from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.energy.base import BoundEnergy, Capability, Energy, Source
from mfpde.equation.energy.custom import PointsOnGrid
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Axis, End, Grid, as_axes
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.measures.species import PerSpecies, RestrictedSpecies
from mfpde.equation.problem import Problem
from mfpde.equation.species import Species, by_label
from mfpde.support.arguments import one_of, require, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory
from mfpde.support.travel import Portable

__all__ = ["Boxes"]


class Boxes(Portable):
    r"""Boxes of species that are not the same, each mapped to axes from 0 to 1: ``x = low_k + (high_k - low_k) s``.

    Energies, measures, metric and base measure are written in the species' own coordinates; runs, pictures and files
    have ``s``. Along axes of length L the rates are those of x over ``L^2``, and densities those of x times L.

    Parameters
    ----------
    species : Species
    ends : mapping of str to End or pair of End, optional
        What the ends of an axis are, the same for all species. Default: truncations. Periodic ones are refused: a
        circle is the same for all.
    **intervals : mapping of str to (float, float)
        For each axis the interval of each label.

    Attributes
    ----------
    axes : tuple of Axis
        The species, and an axis from 0 to 1 for each interval.

    Raises
    ------
    ValueError
        On no interval, labels that are not the species', an empty interval, or a periodic axis.

    Examples
    --------
    >>> from scipy import stats
    >>> from mfpde.equation.energy import Confinement
    >>> from mfpde.equation.measures.product import Product
    >>> boxes = Boxes(Species("k", ("a", "b")), x={"a": (-4, 4), "b": (0, 10)})
    >>> start = PerSpecies(a=Product(x=stats.norm(0, 0.5)), b=Product(x=stats.norm(5, 0.5)))
    >>> problem = boxes.problem(Confinement(x=1.0), start)
    >>> problem.axes[1], float(boxes.place("b", 0.5)[0])
    (Axis(x in [0, 1], truncation), 5.0)
    """

    def __init__(
        self,
        species: Species,
        ends: Mapping[str, End | tuple[End, End]] | None = None,
        **intervals: Mapping[str, tuple[float, float]],
    ) -> None:
        require(species=(species, one_of(Species)))
        if not intervals:
            raise ValueError("boxes need the intervals of at least one axis, such as x={'a': (0, 1), 'b': (0, 2)}")
        self.species = species
        self.own: list[tuple[Axis, ...]] = []
        if ends is not None and not (isinstance(ends, Mapping) and ends and set(ends) <= set(intervals)):
            raise ValueError(f"ends maps names of axes of the boxes to what their ends are, not {shown(ends)}")
        kinds, given = dict(ends or {}), {}
        for name, each in intervals.items():
            if not isinstance(each, Mapping):
                raise ValueError(f"the box of {name!r} maps each label to its (low, high), not {shown(each)}")
            given[name] = by_label(species, each, f"the box of {name!r}")
        for k in range(len(species.labels)):
            self.own.append(tuple(_interval(name, each[k], kinds.get(name)) for name, each in given.items()))
        for axis in self.own[0]:
            if axis.periodic:
                raise ValueError(
                    f"axis {axis.name!r} of boxes is periodic; a circle is one axis of the problem for all"
                )
        self.low = np.array([[axis.lower for axis in own] for own in self.own])
        self.length = np.array([[axis.length for axis in own] for own in self.own])
        self.axes: tuple[Axis, ...] = (species, *(Axis(axis.name, 0.0, 1.0, axis.ends) for axis in self.own[0]))

    @property
    def around(self) -> tuple[Axis, ...]:
        """The species, and for each axis the interval that holds those of all."""
        low, high = self.low.min(axis=0), (self.low + self.length).max(axis=0)
        own = (Axis(axis.name, low[i], high[i], axis.ends) for i, axis in enumerate(self.own[0]))
        return (self.species, *own)

    def place(self, label: str, *unit: ArrayLike) -> tuple[Array, ...]:
        """The coordinates of a species at coordinates from 0 to 1, one array or number an axis."""
        if len(unit) != len(self.own[0]):
            raise ValueError(f"{len(unit)} coordinates for the axes {', '.join(axis.name for axis in self.own[0])}")
        number = np.array(float(self.species.number(label)))
        return self.coordinates(number, *(np.asarray(s, dtype=float) for s in unit))[1:]

    def coordinates(self, *unit: Array) -> tuple[Array, ...]:
        """Coordinates of a problem as those of the species: the number of the label, and its own ones."""
        k = self.species.indices(unit[0])
        return (unit[0], *(self.low[k, i] + self.length[k, i] * s for i, s in enumerate(unit[1:])))

    def lengths(self, label: Array) -> Array:
        """The lengths of the axes at numbers of labels: shape ``(..., axes)``."""
        return self.length[self.species.indices(label)]

    def energy(self, energy: Energy) -> Energy:
        """An energy of the species' own coordinates as one of those from 0 to 1."""
        require(energy=(energy, one_of(Energy)))
        return _InBoxes(self, energy)

    def start(self, measure: PerSpecies) -> Measure:
        """The same of a measure."""
        require(measure=(measure, one_of(PerSpecies)))
        return _StartInBoxes(self, measure)

    def problem(
        self,
        energy: Energy,
        initial: PerSpecies,
        *,
        metric: Sequence[Any] | None = None,
        base: Callable[..., Array] | None = None,
        **named: Any,
    ) -> Problem:
        """The problem of an energy and a start in the species' own coordinates.

        Parameters
        ----------
        energy : Energy
        initial : PerSpecies
        metric : sequence of (None or float or callable), optional
            Rates along each axis but the species'.
        base : callable, optional
            ``omega(number, *coordinates)``, times which the volume of the own coordinates is taken.
        **named
            What else `Problem` takes.
        """
        rates = [None] * len(self.own[0]) if metric is None else list(metric)
        if len(rates) != len(self.own[0]):
            raise ValueError(f"metric of boxes has {len(rates)} entries for {len(self.own[0])} axes that move")
        return Problem(
            self.energy(energy),
            self.axes,
            self.start(initial),
            metric=[_Rate(self, i, g) for i, g in enumerate(rates)],
            base=_Volume(self, base),
            **named,
        )

    def __repr__(self) -> str:
        texts = []
        for i, axis in enumerate(self.own[0]):
            each = (f"{label} {own[i].extent}" for label, own in zip(self.species.labels, self.own, strict=True))
            texts.append(f"{axis.name}: {', '.join(each)}")
        return f"Boxes({'; '.join(texts)})"


def _interval(name: str, interval: Any, ends: Any) -> Axis:
    """An axis of a species' own."""
    if not isinstance(interval, (tuple, list)) or len(interval) != 2:
        raise ValueError(f"the box of {name!r} has a pair (low, high) for each label, not {shown(interval)}")
    low, high = interval
    return Axis(name, low, high, End.TRUNCATION if ends is None else ends)


class _Rate(Portable):
    """A rate of own coordinates as one of those from 0 to 1."""

    def __init__(self, boxes: Boxes, i: int, rate: Any) -> None:
        self._boxes, self._i, self._rate = boxes, i, rate

    def __call__(self, *unit: Array) -> Array:
        rate = 1.0 if self._rate is None else self._rate
        if callable(rate):
            rate = values_of(rate, *self._boxes.coordinates(*unit))
        return np.asarray(rate / self._boxes.lengths(unit[0])[..., self._i] ** 2)

    def __repr__(self) -> str:
        return f"{1 if self._rate is None else self._rate!r} in own coordinates"


class _Volume(Portable):
    """The base measure of own coordinates by the volume of those from 0 to 1."""

    def __init__(self, boxes: Boxes, base: Callable[..., Array] | None) -> None:
        self._boxes, self._base = boxes, base

    def __call__(self, *unit: Array) -> Array:
        volume = self._boxes.lengths(unit[0]).prod(axis=-1)
        return volume if self._base is None else volume * values_of(self._base, *self._boxes.coordinates(*unit))

    def __repr__(self) -> str:
        return "the volume of own coordinates" + ("" if self._base is None else f" times {self._base!r}")


class _StartInBoxes(Measure):
    def __init__(self, boxes: Boxes, measure: PerSpecies) -> None:
        self.boxes, self.measure = boxes, measure

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict each measure to the box of its species."""
        if tuple(axes) != self.boxes.axes:
            raise ValueError(f"a start in boxes is one on {list(self.boxes.axes)}, not on {list(axes)}")
        shares = self.measure.shares(self.boxes.species)
        parts = [(share, one.restrict(own)) for (share, one), own in zip(shares, self.boxes.own, strict=True)]
        return _RestrictedInBoxes(self.boxes, parts)

    def __repr__(self) -> str:
        return f"{self.measure!r} in {self.boxes!r}"


class _RestrictedInBoxes(RestrictedSpecies):
    """Measures in the boxes of their species, as measures of coordinates from 0 to 1."""

    def __init__(self, boxes: Boxes, parts: Sequence[tuple[float, RestrictedMeasure]]) -> None:
        super().__init__(boxes.axes, 0, parts)
        self._boxes = boxes

    def _below(self, grid: Grid, number: int) -> Grid:
        return Grid(self._boxes.own[number], grid.shape[1:])

    def _volume(self, number: int) -> float:
        return float(self._boxes.length[number].prod())

    def _lengths(self, number: int) -> Array:
        return np.asarray(self._boxes.length[number])

    def _out(self, number: int, points: Array) -> Array:
        return np.asarray((points - self._boxes.low[number]) / self._boxes.length[number])

    def _in(self, number: int, points: Array) -> Array:
        return np.asarray(self._boxes.low[number] + self._boxes.length[number] * points)


class _InBoxes(Energy):
    """An energy of the species' own coordinates."""

    def __init__(self, boxes: Boxes, energy: Energy) -> None:
        self.boxes, self.energy = boxes, energy

    @property
    def lyapunov(self) -> bool:
        """As that of the energy."""
        return self.energy.lyapunov

    @property
    def linear(self) -> bool:
        """As that of the energy."""
        return self.energy.linear

    @property
    def convex(self) -> bool | None:
        """As that of the energy."""
        return self.energy.convex

    @property
    def named_axes(self) -> tuple[str, ...]:
        """Those of the energy."""
        return self.energy.named_axes

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on the axes from 0 to 1."""
        if as_axes(axes) != self.boxes.axes:
            raise ValueError(f"an energy in boxes is one on {list(self.boxes.axes)}, not on {list(axes)}")
        return _BoundInBoxes(self.boxes, self.energy.bind(self.boxes.around))

    def __repr__(self) -> str:
        return f"{self.energy!r} in {self.boxes!r}"


class _BoundInBoxes(BoundEnergy):
    """The same on the axes from 0 to 1: its points are mapped, on a mesh the centres of the cells."""

    def __init__(self, boxes: Boxes, inner: BoundEnergy) -> None:
        self.boxes, self.inner, self.axes = boxes, inner, boxes.axes
        self.response_size, self.offset, self.direct = inner.response_size, inner.offset, inner.direct
        self.discontinuous_gradient, self.lyapunov = inner.discontinuous_gradient, inner.lyapunov
        self.convex, self.quadratic = inner.convex, inner.quadratic
        if "points" not in inner.capabilities:
            raise ValueError(
                f"{inner.label} has values on a mesh only, and boxes of species map points; write it there"
            )

    @property
    def label(self) -> str:
        """What the energy is called."""
        return self.inner.label

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the energy, and a mesh by its points."""
        return self.inner.capabilities | {"mesh"}

    @property
    def interacts(self) -> bool:
        """Whether V depends on the measure."""
        return self.inner.interacts

    def _place(self, points: Array) -> Array:
        return np.stack(self.boxes.coordinates(*points.T), axis=1)

    def _source(self, source: Source | None) -> Source | None:
        return None if source is None else (self._place(source[0]), source[1])

    def _moments(self, points: Array, weights: Array) -> Array:
        return self.inner._moments(self._place(points), weights)

    def _features(self, points: Array) -> Array:
        return self.inner._features(self._place(points))

    def _slope(self, moments: Array) -> Array:
        return self.inner._slope(moments)

    def _curvature(self, moments: Array, changes: Array) -> Array:
        return self.inner._curvature(moments, changes)

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self.inner._potential(self._place(points), moments, self._source(source))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        slopes = self.inner._gradient(self._place(points), moments, self._source(source))
        slopes[:, 0] = 0.0
        slopes[:, 1:] *= self.boxes.lengths(points[:, 0])
        return slopes

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return self.inner._energy(self._place(points), weights, moments)

    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid, whose centres of cells are its points."""
        self._check_grid(grid)
        return PointsOnGrid(self, grid)

    def memory(self, grid: Grid) -> Memory:
        """The points of the mesh, and their features or pairs."""
        each = grid.size if self.direct else max(self.response_size, 1)
        return Memory.arrays(grid.size, 2 * len(self.axes), 4.0 + 2.0 * each, 4.0 + 2.0 * each)

    def __repr__(self) -> str:
        return f"{self.inner!r} in {self.boxes!r}"
