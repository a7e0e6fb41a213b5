"""Measures with masses on the cells of a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import (
    Empty,
    Measure,
    RestrictedMeasure,
    axis_names,
    check_masses,
    outer,
    tensor,
    wrap,
)
from mfpde.equation.measures.quadrature import Block, Place
from mfpde.support.arguments import numbers as array_of
from mfpde.support.arguments import shown
from mfpde.support.arrays import Array

__all__ = ["GridMeasure"]


@dataclass(frozen=True, eq=False)
class GridMeasure(Measure):
    """A density given on a mesh, constant in each cell.

    Parameters
    ----------
    grid : Grid
        The mesh.
    values : array_like, shape ``grid.shape``
        Cell averages or point values, finite, non-negative, not all zero. They are normalised.

    Raises
    ------
    ValueError
        On a wrong shape or values out of range.

    Notes
    -----
    On the same mesh the values come back as they are. On another mesh, or another box, mass is shared by the volumes of
    overlap, also across the seam of a periodic axis: conservative and positive, first order for the values, second for
    a mesh that is a refinement. Nodes are the cell centres, or Gauss points of each cell if more are asked for.
    """

    grid: Grid
    values: Array = field(repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise ValueError(f"a GridMeasure needs a Grid, not {shown(self.grid)}")
        values = array_of(self.values, "the values of a GridMeasure")
        if values.shape != self.grid.shape:
            raise ValueError(f"values of shape {values.shape} on a grid of shape {self.grid.shape}")
        check_masses(values, "value")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, matched by name; see `Measure.restrict`."""
        axes = as_axes(axes)
        own, names = axis_names(self.grid.axes), axis_names(axes)
        if set(own) != set(names) or len(own) != len(names):
            raise ValueError(f"the measure is given on axes {own}, the axes are {names}; use the same names")
        order = [own.index(name) for name in names]
        total = np.transpose(self.values, order) / self.values.sum()
        edges, shares = [], []
        for i, (axis, j) in enumerate(zip(axes, order, strict=True)):
            faces = self.grid.faces(j)
            if axis.periodic and (faces[0] < axis.lower or faces[-1] > axis.upper):
                faces, parts = _wound(axis, faces)
                total = np.moveaxis(np.tensordot(parts, total, axes=(1, i)), 0, i)
            edges.append(np.clip(faces, axis.lower, axis.upper))
            shares.append(np.diff(edges[-1]) / np.diff(faces))
        share = outer(shares)
        masses = total * share
        inside = float(masses.sum())
        if not inside > 0.0:
            raise Empty(f"the measure on {self.grid} has no mass inside the box {list(axes)}; move the axes")
        source = self if axes == self.grid.axes else None
        return _RestrictedGrid(axes, edges, masses / inside, float((total * (1.0 - share)).sum()), source)


def _wound(axis: Axis, faces: Array) -> tuple[Array, Array]:
    """Edges within a periodic axis of what cells between `faces` cover there, and the shares of each cell in them."""
    cuts = np.sort(np.append(wrap(axis, faces), axis.lower))
    # faces that meet on the circle differ by round-off
    edges = np.append(cuts[np.diff(cuts, append=axis.upper) > 1e-12 * axis.length], axis.upper)
    edges[0] = axis.lower
    parts = np.zeros((len(edges) - 1, len(faces) - 1))
    first, last = ((x - axis.lower) / axis.length for x in (faces[0], faces[-1]))
    for turn in range(math.floor(first), math.ceil(last)):
        line = edges + turn * axis.length
        overlap = np.minimum(line[1:, None], faces[1:]) - np.maximum(line[:-1, None], faces[:-1])
        parts += np.maximum(overlap, 0.0)
    return edges, parts / parts.sum(axis=0)


class _RestrictedGrid(RestrictedMeasure):
    """Masses of the cells of a rectilinear mesh, spread evenly inside each."""

    def __init__(
        self, axes: tuple[Axis, ...], edges: list[Array], masses: Array, lost_mass: float, source: GridMeasure | None
    ) -> None:
        self.axes, self.edges, self.masses, self.lost_mass = axes, edges, masses, lost_mass
        self.source = source

    def cells(self, grid: Grid) -> Array:
        """Return the cell averages; on the mesh they were given on, bit for bit what they were if their mass is 1."""
        if self.source is not None and grid == self.source.grid:
            values = self.source.values
            if abs(values.sum() * grid.cell_volume - 1.0) <= 1e-13:
                return np.array(values, order="C")
        return super().cells(grid)

    def point_values(self, grid: Grid) -> Array:
        """Return the same as `cells`: the values are all that is known."""
        return self.cells(grid)

    def _cells(self, grid: Grid) -> Array:
        values = self.masses
        for i in range(grid.dimension):
            faces, edges = grid.faces(i), self.edges[i]
            if len(faces) == len(edges) and np.array_equal(faces, edges):
                continue
            overlap = np.minimum(faces[1:, None], edges[1:]) - np.maximum(faces[:-1, None], edges[:-1])
            widths = np.diff(edges)
            share = np.maximum(overlap, 0.0) / np.where(widths > 0.0, widths, 1.0)
            values = np.moveaxis(np.tensordot(share, values, axes=(1, i)), 0, i)
        return values / grid.cell_volume

    _point_values = _cells

    def _log_density(self, points: Array) -> Array:
        values = np.ones(len(points))
        index = []
        for i, edges in enumerate(self.edges):
            cell = np.clip(np.searchsorted(edges, points[:, i], side="right") - 1, 0, len(edges) - 2)
            # a point on the upper end belongs to the last cell that has a width
            last = int(np.flatnonzero(np.diff(edges) > 0.0)[-1])
            cell = np.minimum(cell, last)
            outside = (points[:, i] < edges[0]) | (points[:, i] > edges[-1])
            width = np.diff(edges)[cell]
            values *= np.where(outside | (width <= 0.0), 0.0, 1.0 / np.where(width > 0.0, width, 1.0))
            index.append(cell)
        with np.errstate(divide="ignore"):
            return np.log(values * self.masses[tuple(index)])

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        points, weights = [], []
        masses = self.masses
        for i, (edges, n) in enumerate(zip(self.edges, counts, strict=True)):
            width = np.diff(edges)
            keep = width > 0.0
            masses = np.compress(keep, masses, axis=i)
            order = -(-n // int(keep.sum())) + other
            x, w = np.polynomial.legendre.leggauss(order)
            middle = 0.5 * (edges[:-1] + edges[1:])[keep]
            points.append((middle[:, None] + 0.5 * width[keep, None] * x).ravel())
            weights.append(0.5 * w)
        for i, w in enumerate(weights):
            masses = np.repeat(masses, len(w), axis=i)
            masses = masses * np.tile(w, masses.shape[i] // len(w)).reshape(
                [-1 if k == i else 1 for k in range(masses.ndim)]
            )
        flat = masses.ravel()
        return Block.of(share, tensor(points)[flat > 0.0], np.log(flat[flat > 0.0]))

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        cumulative = np.cumsum(self.masses.ravel())
        cell = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        corner = np.unravel_index(np.minimum(cell, len(cumulative) - 1), self.masses.shape)
        columns = []
        for edges, j in zip(self.edges, corner, strict=True):
            columns.append(edges[j] + rng.random(n) * (edges[j + 1] - edges[j]))
        return np.stack(columns, axis=1)
