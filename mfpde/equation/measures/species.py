"""A measure for each of several species."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.measures.quadrature import Block, Place
from mfpde.equation.species import Species, by_label, species_axis
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["PerSpecies"]


@dataclass(frozen=True, init=False)
class PerSpecies(Measure):
    """A measure for each species, on the other axes of the box: an initial measure of a problem with `Species`.

    All of them together have mass 1; the mass of a species is its share of that.

    Parameters
    ----------
    measure : Measure, optional
        One that all species have, in equal shares.
    **named : Measure or (float, Measure)
        That of each label, with its share if they are not the same: shares are positive and divided by their sum.

    Raises
    ------
    ValueError
        On something else than measures and positive shares; when restricted, where the box has no species, or others.

    Examples
    --------
    >>> from scipy import stats
    >>> from mfpde.equation.measures.product import Product
    >>> from mfpde.equation.species import Species
    >>> start = PerSpecies(plus=(3, Product(x=stats.norm(0, 1))), minus=(1, Product(x=stats.norm(1, 1))))
    >>> box = [Species("sign", ("plus", "minus")), Axis("x", -9, 9)]
    >>> density = start.restrict(box).cells(Grid(box, 40))
    >>> [round(float(mass), 12) for mass in density.sum(axis=1) * 18 / 40]
    [0.75, 0.25]
    """

    measure: Measure | None
    named: tuple[tuple[str, float, Measure], ...]

    def __init__(self, measure: Measure | None = None, **named: Any) -> None:
        if (measure is None) == (not named):
            raise ValueError("PerSpecies takes one measure for all species, or one for each by its label")
        if measure is not None and not isinstance(measure, Measure):
            raise ValueError(f"PerSpecies: {shown(measure)} is not a Measure such as mfpde.Product(x=law)")
        object.__setattr__(self, "measure", measure)
        object.__setattr__(self, "named", tuple((label, *_shared(label, given)) for label, given in named.items()))

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, each measure to the axes that are not the species'."""
        axes = as_axes(axes)
        found = species_axis(axes)
        if found is None:
            raise ValueError("PerSpecies needs a box with an axis of species; add one such as Species('k', ('a', 'b'))")
        position, species = found
        others = (*axes[:position], *axes[position + 1 :])
        parts = [(share, one.restrict(others)) for share, one in self.shares(species)]
        return RestrictedSpecies(axes, position, parts)

    def shares(self, species: Species) -> list[tuple[float, Measure]]:
        """The share of the mass and the measure of each label, in their order."""
        if self.measure is not None:
            given: list[Any] = [(1.0, self.measure)] * len(species.labels)
        else:
            given = by_label(species, {label: (share, one) for label, share, one in self.named}, "PerSpecies")
        total = math.fsum(share for share, _ in given)
        return [(share / total, one) for share, one in given]

    def __repr__(self) -> str:
        if self.measure is not None:
            return f"PerSpecies({self.measure!r})"
        return f"PerSpecies({', '.join(f'{label}={share:g} * {one!r}' for label, share, one in self.named)})"


def _shared(label: str, given: Any) -> tuple[float, Measure]:
    """A share and a measure."""
    share, measure = given if isinstance(given, (tuple, list)) and len(given) == 2 else (1.0, given)
    if not isinstance(measure, Measure) or not (real(share) and share > 0):
        raise ValueError(f"PerSpecies: {label} is a Measure, or a positive share and a Measure, not {shown(given)}")
    return float(share), measure


class RestrictedSpecies(RestrictedMeasure):
    """Measures on the other axes, with their shares, one a label.

    A subclass may have them in coordinates of their own: where those are on a mesh, how large its volume is there, and
    how they come from those of the box and go back.
    """

    def __init__(self, axes: tuple[Axis, ...], position: int, parts: Sequence[tuple[float, RestrictedMeasure]]) -> None:
        self.axes, self.position = axes, position
        self.parts = tuple(parts)
        self.lost_mass = math.fsum(share * part.lost_mass for share, part in parts)

    def _below(self, grid: Grid, number: int) -> Grid:
        """The mesh without the axis of species."""
        i = self.position
        return Grid((*grid.axes[:i], *grid.axes[i + 1 :]), (*grid.shape[:i], *grid.shape[i + 1 :]))

    def _volume(self, number: int) -> float:
        return 1.0

    def _in(self, number: int, points: Array) -> Array:
        """Coordinates of the box as those of the measure."""
        return points

    def _out(self, number: int, points: Array) -> Array:
        """The other way round."""
        return points

    def _lengths(self, number: int) -> Array:
        """By what lengths are multiplied on the way in."""
        return np.ones(self.dimension - 1)

    def _cells(self, grid: Grid) -> Array:
        each = enumerate(self.parts)
        found = [share * self._volume(k) * part.cells(self._below(grid, k)) for k, (share, part) in each]
        return np.stack(found, axis=self.position)

    def _point_values(self, grid: Grid) -> Array:
        each = enumerate(self.parts)
        found = [share * self._volume(k) * part.point_values(self._below(grid, k)) for k, (share, part) in each]
        return np.stack(found, axis=self.position)

    def _log_density(self, points: Array) -> Array:
        numbers, others = np.rint(points[:, self.position]), np.delete(points, self.position, axis=1)
        values = np.full(len(points), -np.inf)
        for k, (share, part) in enumerate(self.parts):
            here = numbers == k
            values[here] = math.log(share * self._volume(k)) + part.log_density(self._in(k, others[here]))
        return values

    def _components(self) -> list[tuple[float, RestrictedMeasure]]:
        return [
            (share * weight, _OfOne(self, k, one))
            for k, (share, part) in enumerate(self.parts)
            for weight, one in part._components()
        ]

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        raise AssertionError("species have their components' nodes")

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        """Exactly as many of each species as its share says, up to one; in turn, so that this holds for the first m."""
        shares = np.array([share for share, _ in self.parts])
        labels = apportioned(shares, n)
        points = np.empty((n, self.dimension))
        points[:, self.position] = labels
        others = np.flatnonzero(np.arange(self.dimension) != self.position)
        for k, (_, part) in enumerate(self.parts):
            here = np.flatnonzero(labels == k)
            points[np.ix_(here, others)] = self._out(k, part.sample(len(here), rng))
        return points


def apportioned(shares: Array, n: int) -> NDArray[np.intp]:
    """Labels of n places in turn: where ``m share`` is whole for all, so many of the first m places have each label."""
    if np.ptp(shares) == 0.0:
        return np.arange(n) % len(shares)
    # the j-th place of a label is due at (j + 1/2) / share
    due = [(np.arange(math.ceil(n * share) + 1) + 0.5) / share for share in shares]
    labels = np.repeat(np.arange(len(shares)), [len(times) for times in due])
    return labels[np.argsort(np.concatenate(due), kind="stable")][:n]


class _OfOne(RestrictedMeasure):
    """A component of one species on the whole box: what `RestrictedMeasure.blocks` and `widths` ask of components."""

    def __init__(self, whole: RestrictedSpecies, number: int, part: RestrictedMeasure) -> None:
        self.axes, self._whole, self._number, self._part = whole.axes, whole, number, part
        self.lost_mass = part.lost_mass

    def _widths(self) -> tuple[float, ...]:
        widths = (np.array(self._part._widths()) / self._whole._lengths(self._number)).tolist()
        widths.insert(self._whole.position, math.inf)
        return tuple(widths)

    def _by_masses(self, grid: Grid) -> bool:
        return self._part._by_masses(self._whole._below(grid, self._number))

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        i, number = self._whole.position, self._number
        inside = [*places[:i], *places[i + 1 :]]
        low, lengths = self._whole._in(number, np.zeros((1, len(inside))))[0], self._whole._lengths(number)
        moved = [
            [Place(float(a + length * place.mean), float(length * place.spread)) for place in along]
            for along, a, length in zip(inside, low, lengths, strict=True)
        ]
        below = self._part._block(share, (*counts[:i], *counts[i + 1 :]), moved, other)
        shape = None if below.shape is None else (*below.shape[:i], 1, *below.shape[i:])
        cut = (*below.cut[:i], (False, False), *below.cut[i:]) if below.cut else ()
        points = np.insert(self._whole._out(number, below.points), i, float(number), axis=1)
        return replace(below, points=points, shape=shape, cut=cut)

    def _cells(self, grid: Grid) -> Array:
        raise AssertionError("a component has no cells of its own")

    _point_values = _cells

    def _log_density(self, points: Array) -> Array:
        raise AssertionError("a component has no density of its own")

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        raise AssertionError("a component has no samples of its own")
