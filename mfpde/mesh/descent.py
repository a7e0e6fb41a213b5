"""Where in the start the mass of a run descends from, and how steep the start is there.

Birth-death multiplies what lies where ``V`` is low: the mass of later times may descend from a tail of ``mu_0`` that
held next to nothing. On a mesh such a tail is as good as the scheme carries an exponential: where it changes by more
than a factor e from cell to cell, numerical diffusion brings more mass there than there was, and that is what grows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import cloud_in_cell
from mfpde.equation.problem import Problem
from mfpde.mesh.constants import FLUSH
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array

__all__ = ["Descent", "descends"]


MOST_MARKERS = 1024
"""Markers that are followed: every cell of a line, every k-th along each axis of larger meshes."""
CELLS_A_SUBSTEP = 2.0
"""Cells that the fastest marker passes in a step of the markers, about."""
MOST_SUBSTEPS = 32
"""Steps of the markers from one save time to the next."""
FARTHEST = 4.0
"""Cells that a marker moves in such a step, at most: where the velocity is stiff it would swing."""


def descends(problem: Problem) -> bool:
    """Whether the mass of a problem has ancestors that markers can follow, and birth-death that favours some of them.

    Diffusion mixes, and reinjection and terms of the problem's own bring mass from elsewhere. Species that react one by
    one are not watched.
    """
    fixed = problem.reinjection is not None or problem.one_by_one is not None
    return problem.reacts and problem.noiseless and not fixed and not problem.terms


class Descent:
    r"""Markers on the cells of the start that follow drift and birth-death of a run.

    .. math:: \dot z = -s\, G \nabla V(z), \qquad \frac{d}{dt} \log w = -s\, \alpha\, f(V(z)),

    with ``V`` linear between the times at which it is given and between the centres of cells. Weights are known up to a
    factor, so that the mean rate plays no part.

    Parameters
    ----------
    problem : Problem
        One that `descends`.
    grid : Grid
    t : float
        The time of the start.
    mu, V : array, shape ``grid.shape``
        The start and its potential.
    compiled : bool, optional
        Whether compiled code takes the markers along, where the reaction is no function of the user's.
    """

    def __init__(self, problem: Problem, grid: Grid, t: float, mu: Array, V: Array, *, compiled: bool = False) -> None:
        self._problem, self._grid, self._t, self._V = problem, grid, t, V.copy()
        self._mobilities = [_on_mesh(problem.mobility(i, *grid.mesh()), grid) for i in range(grid.dimension)]
        cells = _chosen(grid)
        if not np.any(mu[tuple(cells)] > 0.0):  # a start in so few cells that none of those is among them
            full = np.flatnonzero(mu > 0.0)
            cells = list(np.unravel_index(full[:: math.ceil(len(full) / MOST_MARKERS)], grid.shape))
        here = mu[tuple(cells)]
        cells = [index[here > 0.0] for index in cells]
        self._points = np.stack([grid.centres(i)[index] for i, index in enumerate(cells)], axis=1)
        self._logs = np.log(here[here > 0.0])
        self._first = self._logs.copy()
        self._log_total = _log_total(self._first)
        self._weights: Array | None = None  # until they move
        self._slopes = np.stack([_slope(mu, grid, cells, i) for i in range(grid.dimension)], axis=1)
        self._compiled = _Compiled(grid, self._mobilities) if compiled and problem.rate is None else None
        self._fastest = self._speed(V)

    def advance(self, t: float, V: Array) -> None:
        """Follow the flow to a later time, where the potential is `V`."""
        problem, begin, end, self._weights = self._problem, (self._t, self._V), (t, V.copy()), None
        length = problem.schedule.integral(begin[0], t)
        fastest = self._speed(V)
        passed = min(length * max(fastest, self._fastest) / CELLS_A_SUBSTEP, MOST_SUBSTEPS)
        steps = max(math.ceil(passed), 1)
        if self._compiled is not None:
            self._compiled.follow(self._points, self._logs, begin[1], end[1], self._lengths(begin[0], t, steps))
        for j in range(steps if self._compiled is None else 0):
            middle = (j + 0.5) / steps
            first, last = (begin[0] + (t - begin[0]) * k / steps for k in (j, j + 1))
            part = problem.schedule.integral(first, last)
            halfway = self._moved(0.5 * part * self._look(begin[1], end[1], middle, self._points)[1])
            potential, velocity = self._look(begin[1], end[1], middle, halfway)
            self._points = self._moved(part * velocity)
            rate = potential if problem.rate is None else values_of(problem.rate, potential)
            self._logs -= problem.alpha(0.5 * (first + last)) * part * rate
        (self._t, self._V), self._fastest = end, fastest

    def _lengths(self, begin: float, end: float, steps: int) -> Array:
        """Of steps of equal time their lengths in the clock, and these times the birth-death rate."""
        problem, times = self._problem, [begin + (end - begin) * k / steps for k in range(steps + 1)]
        parts = [(problem.schedule.integral(a, b), problem.alpha(0.5 * (a + b))) for a, b in itertools.pairwise(times)]
        return np.array([(part, alpha * part) for part, alpha in parts])

    def _speed(self, V: Array) -> float:
        """How many cells the fastest marker passes in a unit of the clock."""
        if self._compiled is not None:
            return self._compiled.fastest(V, self._points)
        velocity = self._look(V, V, 0.0, self._points)[1]
        return float(np.abs(velocity / np.array(self._grid.spacing)).max(initial=0.0))

    def _look(self, begin: Array, end: Array, share: float, points: Array) -> tuple[Array, Array]:
        """The potential at points, a share of the way from one to another, and ``-G grad V`` there, (n, d)."""
        grid, before, after = self._grid, begin.ravel(), end.ravel()
        sides = [
            cloud_in_cell(axis, n, points[:, i]) for i, (axis, n) in enumerate(zip(grid.axes, grid.shape, strict=True))
        ]
        strides = [math.prod(grid.shape[i + 1 :]) for i in range(grid.dimension)]
        potential, gradient = np.zeros(len(points)), np.zeros(points.shape)
        for corner in itertools.product((0, 1), repeat=grid.dimension):
            index = sum(side[k] * stride for side, k, stride in zip(sides, corner, strides, strict=True))
            value = (1.0 - share) * before[index] + share * after[index]
            weights = [side[2] if k else 1.0 - side[2] for side, k in zip(sides, corner, strict=True)]
            potential += math.prod(weights, start=value)
            for i, k in enumerate(corner):
                others = math.prod(weights[:i] + weights[i + 1 :], start=value)
                gradient[:, i] += others if k else -others
        nearest = tuple(np.where(weight > 0.5, right, left) for left, right, weight in sides)
        for i, (g, h) in enumerate(zip(self._mobilities, grid.spacing, strict=True)):
            gradient[:, i] *= (g if isinstance(g, float) else g[nearest]) / -h
        return potential, gradient

    def _moved(self, change: Array) -> Array:
        """The points after a change, in the box: at walls no farther than the outermost centres."""
        points = np.empty_like(change)
        for i, (axis, h) in enumerate(zip(self._grid.axes, self._grid.spacing, strict=True)):
            x = self._points[:, i] + np.clip(change[:, i], -FARTHEST * h, FARTHEST * h)
            if axis.periodic:
                points[:, i] = axis.lower + np.mod(x - axis.lower, axis.length)
            else:
                points[:, i] = np.clip(x, axis.lower + 0.5 * h, axis.upper - 0.5 * h)
        return points

    @property
    def weights(self) -> Array:
        """How the present mass is shared by the markers that it descends from, with sum 1."""
        if self._weights is None:
            self._weights = _shares(self._logs)
        return self._weights

    @property
    def selection(self) -> float:
        """By how much the mass has been selected: its relative entropy with respect to the start, ``KL(w | w_0)``.

        0 where nothing is born or dies; the logarithm of how much less the start had of what there is now.
        """
        weights = self.weights
        gained = np.subtract(self._logs, self._first, where=weights > 0.0, out=np.zeros_like(weights))
        return float(weights @ gained) - (_log_total(self._logs) - self._log_total)

    @property
    def steepness(self) -> tuple[float, ...]:
        """By axis, the mean over the present mass of ``|Delta log mu_0|`` from cell to cell where it descends from."""
        return tuple(float(slope) for slope in self.weights @ self._slopes)

    @property
    def flushed(self) -> float:
        """The share of the present mass that descends from densities which a mesh sets to 0."""
        return float(self.weights[self._first < math.log(FLUSH)].sum())


class _Compiled:
    """The compiled steps of markers on a mesh."""

    def __init__(self, grid: Grid, mobilities: Sequence[Array | float]) -> None:
        from mfpde.mesh.compiled import markers

        self._markers, d = markers, grid.dimension
        pairs = zip(grid.axes, grid.shape, grid.spacing, strict=True)
        self._axes = np.array([(a.lower, a.upper, n, a.periodic, 0.0, h) for a, n, h in pairs])
        self._axes[:, 4] = [math.prod(grid.shape[i + 1 :]) for i in range(d)]
        cells = 1 if all(isinstance(g, float) for g in mobilities) else grid.size
        self._mobilities = np.stack([np.broadcast_to(np.ravel(g), (cells,)) for g in mobilities])
        self._room = np.zeros((d + 2, max(d, 3)))

    def fastest(self, V: Array, points: Array) -> float:
        """How many cells the fastest marker passes in a unit of the clock."""
        return float(self._markers.fastest(V.reshape(-1), points, self._axes, self._mobilities, self._room))

    def follow(self, points: Array, logs: Array, begin: Array, end: Array, lengths: Array) -> None:
        """Take the markers along."""
        given = begin.reshape(-1), end.reshape(-1), lengths, self._axes, self._mobilities, FARTHEST, self._room
        self._markers.follow(points, logs, *given)


def _on_mesh(g: Array | float, grid: Grid) -> Array | float:
    return g if isinstance(g, float) else np.broadcast_to(np.asarray(g, dtype=float), grid.shape)


def _chosen(grid: Grid) -> list[NDArray[np.intp]]:
    """The indices by axis of the cells that get markers, as one flat list of cells."""
    stride = math.ceil((grid.size / MOST_MARKERS) ** (1.0 / grid.dimension))
    along = [np.arange(stride // 2 if n > stride else 0, n, stride) for n in grid.shape]
    return [index.ravel() for index in np.meshgrid(*along, indexing="ij")]


def _slope(mu: Array, grid: Grid, cells: Sequence[NDArray[np.intp]], i: int) -> Array:
    """``|Delta log mu|`` along an axis to the steeper neighbour of some cells; an empty neighbour does not count."""
    n = grid.shape[i]
    here = np.log(mu[tuple(cells)])
    steepest = np.zeros(len(here))
    for side in (-1, 1):
        index = cells[i] + side
        index = index % n if grid.axes[i].periodic else np.clip(index, 0, n - 1)
        there = mu[tuple(index if j == i else other for j, other in enumerate(cells))]
        change = np.abs(np.log(there, where=there > 0.0, out=here.copy()) - here)
        steepest = np.maximum(steepest, change)
    return steepest


def _log_total(logs: Array) -> float:
    """The logarithm of the sum of weights."""
    most = float(logs.max())
    return most + math.log(float(np.exp(logs - most).sum()))


def _shares(logs: Array) -> Array:
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())
