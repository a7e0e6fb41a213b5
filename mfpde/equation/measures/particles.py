"""Measures of particles with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import (
    Empty,
    Measure,
    RestrictedMeasure,
    axis_names,
    check_masses,
    cloud_in_cell,
    wrap,
)
from mfpde.equation.measures.quadrature import Block, Place
from mfpde.support.arguments import numbers as array_of
from mfpde.support.arrays import Array

__all__ = ["Particles"]


@dataclass(frozen=True, eq=False)
class Particles(Measure):
    """A cloud of atoms: ``mu = sum_j w_j delta_{z_j} / sum_j w_j``.

    Parameters
    ----------
    points : array_like, shape (n, d)
        Rows in the order of the axes; wrapped along periodic axes.
    weights : array_like, shape (n,), optional
        Finite, non-negative, not all zero. Default: equal.

    Raises
    ------
    ValueError
        On wrong shapes, points that are not finite, or weights out of range.

    Notes
    -----
    On a mesh each particle is shared linearly by the nearest centres (cloud in cell), so that the mean
    is exact apart from particles within half a cell of a wall. The nodes are the particles, whatever number is
    asked for; samples are drawn from them with replacement.
    """

    points: Array = field(repr=False)
    weights: Array | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        points = array_of(self.points, "the points of particles")
        if points.ndim == 1:
            points = points[:, None]
        if points.ndim != 2 or not len(points):
            raise ValueError(f"points must have shape (n, d) with n >= 1, one row a particle, not {points.shape}")
        if not np.all(np.isfinite(points)):
            j = int(np.argmax(~np.isfinite(points).all(axis=1)))
            raise ValueError(f"particle {j} at {points[j].tolist()} is not finite; remove it")
        weights = np.ones(len(points)) if self.weights is None else array_of(self.weights, "the weights of particles")
        if weights.shape != (len(points),):
            raise ValueError(f"weights of shape {weights.shape} for {len(points)} particles; give one weight each")
        check_masses(weights, "weight")
        points.setflags(write=False)
        weights.setflags(write=False)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, coordinates in their order; see `Measure.restrict`."""
        axes = as_axes(axes)
        assert self.weights is not None
        if self.points.shape[1] != len(axes):
            raise ValueError(f"particles in {self.points.shape[1]} dimensions on {len(axes)} axes {axis_names(axes)}")
        points = np.stack([wrap(axis, self.points[:, i]) for i, axis in enumerate(axes)], axis=1)
        inside = np.ones(len(points), dtype=bool)
        for i, axis in enumerate(axes):
            inside &= (points[:, i] >= axis.lower) & (points[:, i] <= axis.upper)
        total, lost = float(self.weights.sum()), float(self.weights[~inside].sum())
        weights = self.weights[inside]
        if not (len(weights) and weights.max() > 0.0):
            raise Empty(f"none of the {len(points)} particles lies inside the box {list(axes)}; widen the axes")
        return _RestrictedParticles(axes, points[inside], weights / weights.sum(), lost / total)

    def __repr__(self) -> str:
        return f"Particles({self.points.shape[0]} in {self.points.shape[1]}-D)"


class _RestrictedParticles(RestrictedMeasure):
    def __init__(self, axes: tuple[Axis, ...], points: Array, weights: Array, lost_mass: float) -> None:
        self.axes, self.points, self.weights, self.lost_mass = axes, points, weights, lost_mass

    def _cells(self, grid: Grid) -> Array:
        corners: list[tuple[NDArray[np.intp], Array]] = [(np.zeros(len(self.points), dtype=np.intp), self.weights)]
        for i, axis in enumerate(self.axes):
            n = grid.shape[i]
            left, right, weight = cloud_in_cell(axis, n, self.points[:, i])
            corners = [
                (flat * n + index, mass * share)
                for flat, mass in corners
                for index, share in ((left, 1.0 - weight), (right, weight))
            ]
        values = np.zeros(grid.size)
        for flat, mass in corners:
            values += np.bincount(flat, mass, minlength=grid.size)
        return values.reshape(grid.shape) / grid.cell_volume

    _point_values = _cells

    def _log_density(self, points: Array) -> Array:
        raise ValueError(
            f"{len(self.points)} particles are atoms and have no density; "
            "put them on a mesh first: GridMeasure(grid, measure.cells(grid))"
        )

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        with np.errstate(divide="ignore"):
            return Block.of(share, self.points.copy(), np.log(self.weights))

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.points[rng.choice(len(self.points), size=n, p=self.weights)]
