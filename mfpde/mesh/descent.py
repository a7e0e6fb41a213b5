"""Where in the start the mass of a run descends from, and how steep the start is there.

Birth-death multiplies what lies where ``V`` is low: the mass of later times may descend from a tail of ``mu_0`` that
held next to nothing. On a mesh such a tail is as good as the scheme carries an exponential: where it changes by more
than a factor e from cell to cell, numerical diffusion brings more mass there than there was, and that is what grows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import cloud_in_cell
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import Constant
from mfpde.mesh.constants import CELLS_A_SUBSTEP, FARTHEST, FLUSH
from mfpde.mesh.kept import MOST_CELLS, kept
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array

__all__ = ["Descent", "descends"]


MOST_MARKERS = 1024
"""Markers that are followed: every cell of a line, every k-th along each axis of larger meshes."""
MOST_SUBSTEPS = 32
"""Steps of the markers from one save time to the next."""


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
        self._mobilities = kept(problem, grid, "mobilities", lambda: _mobilities(problem, grid))
        small = grid.size <= MOST_CELLS  # what is larger is no name of what is kept
        self._start = kept(problem, grid, ("markers", mu.tobytes() if small else b""), lambda: _start(mu, grid))
        self._points = self._start.points.copy()
        self._marks = np.empty((4, len(self._start.logs)))
        self._marks[:] = self._start.logs  # the present logarithms, those of the start, and two of the two
        self._logs = self._marks[0]
        plain = isinstance(problem.schedule, Constant) and isinstance(problem.alpha, Constant) and problem.rate is None
        self._compiled = _Compiled(problem, grid, self._mobilities) if compiled and plain else None
        self._fastest = 0.0
        self._follow(t, self._V)

    def advance(self, t: float, V: Array) -> None:
        """Follow the flow to a later time, where the potential is `V`."""
        V = V.copy()
        self._follow(t, V)
        self._t, self._V = t, V

    def _follow(self, t: float, V: Array) -> None:
        """Take the markers along, and weigh them."""
        if self._compiled is not None:
            given = self._points, self._marks, self._V, V, self._t, t, self._fastest
            self._fastest, most = self._compiled.advance(*given)
        else:
            fastest = self._speed(V)
            if t > self._t:
                self._take_along(t, V, max(fastest, self._fastest))
            self._fastest, most = fastest, float(self._logs.max())
            np.subtract(self._logs, most, out=self._marks[2])
            np.subtract(self._logs, self._start.logs, out=self._marks[3])
        self.weights, self._log_total = _shares(self._marks[2], most)

    def _take_along(self, t: float, V: Array, fastest: float) -> None:
        problem, start = self._problem, self._t
        passed = min(problem.schedule.integral(start, t) * fastest / CELLS_A_SUBSTEP, MOST_SUBSTEPS)
        steps = max(math.ceil(passed), 1)
        for j in range(steps):
            middle = (j + 0.5) / steps
            first, last = (start + (t - start) * k / steps for k in (j, j + 1))
            part = problem.schedule.integral(first, last)
            halfway = self._moved(0.5 * part * self._look(self._V, V, middle, self._points)[1])
            potential, velocity = self._look(self._V, V, middle, halfway)
            self._points = self._moved(part * velocity)
            rate = potential if problem.rate is None else values_of(problem.rate, potential)
            self._logs -= problem.alpha(0.5 * (first + last)) * part * rate

    def _speed(self, V: Array) -> float:
        """How many cells the fastest marker passes in a unit of the clock."""
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
    def selection(self) -> float:
        """By how much the mass has been selected: its relative entropy with respect to the start, ``KL(w | w_0)``.

        0 where nothing is born or dies; the logarithm of how much less the start had of what there is now.
        """
        weights, gained = self.weights, self._marks[3]
        mean = float(weights @ gained)
        if not math.isfinite(mean):  # markers without weight may have gained anything
            mean = float(weights @ np.where(weights > 0.0, gained, 0.0))
        return mean - (self._log_total - self._start.log_total)

    @property
    def steepness(self) -> tuple[float, ...]:
        """By axis, the mean over the present mass of ``|Delta log mu_0|`` from cell to cell where it descends from."""
        return tuple((self.weights @ self._start.slopes).tolist())

    @property
    def flushed(self) -> float:
        """The share of the present mass that descends from densities which a mesh sets to 0."""
        flushed = self._start.flushed
        return float(self.weights[flushed].sum()) if flushed.size else 0.0


class _Start(NamedTuple):
    """Markers on the cells of a start, of which runs take copies."""

    points: Array
    logs: Array
    log_total: float
    slopes: Array
    flushed: NDArray[np.intp]


def _start(mu: Array, grid: Grid) -> _Start:
    cells = _chosen(grid)
    if not np.any(mu[tuple(cells)] > 0.0):  # a start in so few cells that none of those is among them
        full = np.flatnonzero(mu > 0.0)
        cells = list(np.unravel_index(full[:: math.ceil(len(full) / MOST_MARKERS)], grid.shape))
    here = mu[tuple(cells)]
    cells = [index[here > 0.0] for index in cells]
    points = np.stack([grid.centres(i)[index] for i, index in enumerate(cells)], axis=1)
    logs = np.log(here[here > 0.0])
    slopes = np.stack([_slope(mu, grid, cells, i) for i in range(grid.dimension)], axis=1)
    most = float(logs.max())
    return _Start(points, logs, _shares(logs - most, most)[1], slopes, np.flatnonzero(logs < math.log(FLUSH)))


class _Compiled:
    """The compiled steps of markers on a mesh."""

    def __init__(self, problem: Problem, grid: Grid, mobilities: Sequence[Array | float]) -> None:
        from mfpde.mesh.compiled import markers

        d = grid.dimension
        self._advance = markers.advance_along if d == 1 else markers.advance
        self._clock = problem.schedule(0.0), problem.alpha(0.0)
        self._mesh = kept(problem, grid, "axes", lambda: (_axes(grid), _rates(mobilities, grid)))
        self._room = np.empty((MOST_SUBSTEPS, 2)), np.zeros((d + 2, max(d, 3)))

    def advance(
        self, points: Array, marks: Array, begin: Array, end: Array, before: float, t: float, fastest: float
    ) -> tuple[float, float]:
        """Take the markers along between two times, see `markers.advance`."""
        lengths, room = self._room
        clock = float(before), float(t), *self._clock, fastest
        given = begin.reshape(-1), end.reshape(-1), clock, lengths, *self._mesh, room
        found: tuple[float, float] = self._advance(points, marks, *given)
        return found


def _axes(grid: Grid) -> Array:
    """Of each axis lower and upper end, cells, whether it is periodic, stride and spacing."""
    strides = [math.prod(grid.shape[i + 1 :]) for i in range(grid.dimension)]
    rows = zip(grid.axes, grid.shape, strides, grid.spacing, strict=True)
    return np.array([(axis.lower, axis.upper, n, axis.periodic, stride, h) for axis, n, stride, h in rows])


def _rates(mobilities: Sequence[Array | float], grid: Grid) -> Array:
    """The velocity in a potential that rises by 1 from cell to cell, by axis: on the cells, or one where it is one."""
    cells = 1 if all(isinstance(g, float) for g in mobilities) else grid.size
    pairs = zip(mobilities, grid.spacing, strict=True)
    return np.stack([np.broadcast_to(np.ravel(g) / -h, (cells,)) for g, h in pairs])


def _mobilities(problem: Problem, grid: Grid) -> list[Array | float]:
    return [_on_mesh(problem.mobility(i, *grid.mesh()), grid) for i in range(grid.dimension)]


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


def _shares(less: Array, most: float) -> tuple[Array, float]:
    """The weights with sum 1, and the logarithm of the sum, of logarithms that are less than the largest by so much."""
    shares = np.exp(less)
    total = float(np.add.reduce(shares))
    shares /= total
    return shares, most + math.log(total)
