"""Measures with a density that a function gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import (
    NEGLIGIBLE_MASS,
    Empty,
    Measure,
    RestrictedMeasure,
    midpoints,
    outer,
    refuse_labels,
    tensor,
)
from mfpde.equation.measures.narrow import deconvolved, too_narrow
from mfpde.equation.measures.quadrature import Block, Place, density_rule
from mfpde.support.arguments import shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import Form, in_its_form

__all__ = ["Density", "Envelope"]


_CHUNK = 1 << 18
"""Points at which a user's density is evaluated at once."""

_PANELS = {1: 512, 2: 64, 3: 16, 4: 8}
"""Panels along each axis that a joint density is resolved with, by dimension."""
_ORDER = {1: 4, 2: 4, 3: 4, 4: 3}
"""Gauss points along each axis and panel, by dimension."""
_ENVELOPE_PANELS = {1: 512, 2: 128, 3: 32, 4: 14}


@dataclass(frozen=True)
class Density(Measure):
    """A joint density: ``mu(dz) ∝ function(z) dz`` on the box.

    Parameters
    ----------
    function : callable
        ``function(*coordinates) -> (n,) array`` of coordinates (n,), one array an axis, in the order of the axes:
        density values (non-negative, up to a constant factor) or, with ``log``, their logarithms (``-inf`` allowed).
        Taken as well: ``function(points) -> (n,) array`` of points (n, d); see ``docs/functions.md``.
    log : bool
        Whether `function` returns logarithms. Needed for tails below 1e-308.

    Notes
    -----
    Cell averages are Gauss-Legendre sums of four points a panel (three in 4-D), panels being cells
    or parts of cells, at least 512, 64, 16, 8 along each axis in 1 to 4 dimensions. Features narrower than a
    panel may be missed, and a density that jumps inside the box is integrated to first order only:
    write jumps as a `Product` or a `GridMeasure`. Values at centres are taken as they are.
    Samples are exact, by rejection from a piecewise constant bound: the largest of the values on a lattice of
    1025, 257, 65, 29 points along each axis, times 1.25. A draw that breaks the bound raises it and starts again.
    The mass outside the box is unknown: ``lost_mass`` is 0.

    Examples
    --------
    >>> ring = Density(lambda x, y: np.exp(-8 * (np.hypot(x, y) - 1) ** 2))
    >>> axes = (Axis("x", -2, 2), Axis("y", -2, 2))
    >>> ring.restrict(axes).cells(Grid(axes, (4, 4)))[0].round(3)
    array([0.002, 0.051, 0.051, 0.002])
    """

    function: Callable[..., ArrayLike]
    log: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"a Density needs a function of the coordinates, not {shown(self.function)}")

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, coordinates in their order; see `Measure.restrict`."""
        axes = as_axes(axes)
        refuse_labels(axes, {}, "a Density")
        return _RestrictedDensity(axes, self)


class Envelope:
    """Rejection sampling of a density from a piecewise constant bound on a box."""

    def __init__(self, log_values: Callable[[Array], Array], lower: Array, upper: Array) -> None:
        from scipy.ndimage import maximum_filter

        dimension = len(lower)
        panels = _ENVELOPE_PANELS[dimension]
        self.log_values, self.lower, self.upper = log_values, lower, upper
        self.shape = (panels,) * dimension
        # interior lattice: ends of the box may be ends of the support, where a density need not be finite
        lattice = [np.linspace(a, b, 2 * panels + 1) for a, b in zip(lower, upper, strict=True)]
        for x in lattice:
            x[0], x[-1] = x[0] + 1e-3 * (x[1] - x[0]), x[-1] - 1e-3 * (x[1] - x[0])
        logs = np.asarray(log_values(tensor(lattice))).reshape((2 * panels + 1,) * dimension)
        self.shift = float(logs.max())
        if not math.isfinite(self.shift):
            raise ValueError(
                f"the density cannot be sampled: the largest logarithm on a lattice of {logs.size} points is "
                f"{self.shift:g}; it must be a number everywhere and show on the lattice, or give it as a GridMeasure"
            )
        values = np.exp(logs - self.shift)
        for i in range(dimension):
            values = np.moveaxis(values, i, 0)
            values = np.maximum(np.maximum(values[:-2:2], values[1:-1:2]), values[2::2])
            values = np.moveaxis(values, 0, i)
        self.bound = np.maximum(1.25 * values, 1e-3 * maximum_filter(values, size=3, mode="nearest")).ravel()

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Independent draws, shape (n, d), by rejection under a piecewise constant bound, raised where it is broken.

        Raises
        ------
        ValueError
            If no bound holds.
        """
        bound = self.bound.copy()
        steps = (self.upper - self.lower) / np.array(self.shape)
        for _ in range(100):
            points = self._attempt(n, rng, bound, steps)
            if points is not None:
                return points
        raise ValueError("the density is too rough to sample: no piecewise bound was found; give it as a GridMeasure")

    def _attempt(self, n: int, rng: np.random.Generator, bound: Array, steps: Array) -> Array | None:
        """Draw n points, or raise the bound where it is broken and return None."""
        cumulative = np.cumsum(bound)
        kept: list[Array] = []
        have, tried = 0, 0
        while have < n:
            rate = max((have + 1) / (tried + 1), 0.01) if tried else 0.5
            size = min(int((n - have) / rate * 1.05) + 32, 4 * _CHUNK)
            cell = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
            cell = np.minimum(cell, len(bound) - 1)
            corner = np.stack(np.unravel_index(cell, self.shape), axis=1)
            points = self.lower + (corner + rng.random((size, len(steps)))) * steps
            values = np.exp(np.asarray(self.log_values(points)) - self.shift)
            if np.isnan(values).any():  # it would be tried for ever
                at = points[int(np.argmax(np.isnan(values)))].tolist()
                raise ValueError(f"the density cannot be sampled: its logarithm at {at} is nan; it must be a number")
            if np.any(values > bound[cell]):
                np.maximum.at(bound, cell, 1.5 * values * (values > bound[cell]))
                self.bound = bound
                return None
            accepted = points[rng.random(size) * bound[cell] < values]
            kept.append(accepted)
            have, tried = have + len(accepted), tried + size
        return np.concatenate(kept)[:n] if kept else np.empty((0, len(steps)))


class _RestrictedDensity(RestrictedMeasure):
    lost_mass = 0.0

    def __init__(self, axes: tuple[Axis, ...], density: Density) -> None:
        self.axes, self.log = axes, density.log
        d = len(axes)
        lower, upper = np.array([axis.lower for axis in axes]), np.array([axis.upper for axis in axes])
        few = lower + (upper - lower) * np.linspace(0.13, 0.91, 5)[:, None]
        self._values = in_its_form(density.function, _forms(axes), (few,), (len(few),), "the density")
        panels = _PANELS[d]
        for _ in range(8):
            rules = [_panel_gauss(a, b, panels, _ORDER[d]) for a, b in zip(lower, upper, strict=True)]
            logs = self.log_values(tensor([x for x, _ in rules])).reshape([len(x) for x, _ in rules])
            shift = float(logs.max())
            if shift == -np.inf:
                raise Empty(
                    f"the density is zero at all {logs.size} quadrature points of the box {list(axes)}; "
                    "move the axes to where it is, or return its logarithm (log=True)"
                )
            masses = np.exp(logs - shift) * outer([w for _, w in rules])
            total = float(masses.sum())
            low, high = lower.copy(), upper.copy()
            for i in range(d):
                marginal = masses.sum(axis=tuple(j for j in range(d) if j != i)).reshape(panels, -1).sum(axis=1)
                edges = np.linspace(lower[i], upper[i], panels + 1)
                first = int(np.argmax(np.cumsum(marginal) > NEGLIGIBLE_MASS * total))
                last = panels - 1 - int(np.argmax(np.cumsum(marginal[::-1]) > NEGLIGIBLE_MASS * total))
                # one panel more: a peak between two quadrature points may lean into it
                low[i], high[i] = edges[max(first - 1, 0)], edges[min(last + 2, panels)]
            shrunk = np.any(high - low < 0.8 * (upper - lower))
            if not shrunk:
                break
            lower, upper = low, high
        self.lower, self.upper, self.shift = lower, upper, shift
        self.total = total
        self.bulk = [
            _bulk(x, masses.sum(axis=tuple(j for j in range(d) if j != i)) / w) for i, (x, w) in enumerate(rules)
        ]

    def log_values(self, points: Array) -> Array:
        """Return the checked logarithms of the density, up to a constant, shape (n,)."""
        logs = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            rows = points[start : start + _CHUNK]
            values = self._values(rows)
            if values.shape != (len(rows),):
                raise ValueError(
                    f"the density must return one value a point, shape ({len(rows)},), not {values.shape} "
                    f"for {len(rows)} points"
                )
            bad = np.isnan(values) | (values == np.inf)
            if not self.log:
                bad |= values < 0.0
            if np.any(bad):
                j = int(np.argmax(bad))
                allowed = "a number below +inf" if self.log else "finite and non-negative"
                raise ValueError(f"the density at {rows[j].tolist()} is {values[j]}; it must be {allowed}")
            if not self.log:
                with np.errstate(divide="ignore"):
                    values = np.log(values)
            logs[start : start + _CHUNK] = values
        return logs

    def _cells(self, grid: Grid) -> Array:
        d = grid.dimension
        coordinates, weights, order = [], [], _ORDER[d]
        for i, axis in enumerate(self.axes):
            parts = -(-_PANELS[d] // grid.shape[i])
            x, w = _panel_gauss(axis.lower, axis.upper, grid.shape[i] * parts, order)
            coordinates.append(x)
            weights.append(w[: parts * order] / w[: parts * order].sum())
        per_cell = len(weights[0])
        slab = max(1, _CHUNK // (per_cell * math.prod(len(x) for x in coordinates[1:])))
        values = np.empty(grid.shape)
        for start in range(0, grid.shape[0], slab):
            stop = min(start + slab, grid.shape[0])
            rows = tensor([coordinates[0][start * per_cell : stop * per_cell], *coordinates[1:]])
            block = np.exp(self.log_values(rows) - self.shift)
            cells = (stop - start, *grid.shape[1:])
            block = block.reshape([k for n, w in zip(cells, weights, strict=True) for k in (n, len(w))])
            for i in range(d):
                block = np.tensordot(block, weights[i], axes=(i + 1, 0))
            values[start:stop] = block
        return values

    def _point_values(self, grid: Grid) -> Array:
        values, total = self._at_centres(grid)
        if not self._too_narrow(total, grid):
            return values if abs(total - 1.0) < 0.1 else self._cells(grid)
        values = self._cells(grid)
        for i, axis in enumerate(self.axes):
            values = deconvolved(values, i, periodic=axis.periodic)
        return values

    def _at_centres(self, grid: Grid) -> tuple[Array, float]:
        """The density at the centres, and its sum as a share of what it should be."""
        values = np.exp(self.log_values(grid.points()) - self.shift).reshape(grid.shape)
        return values, float(values.sum() * grid.cell_volume / self.total)

    def _too_narrow(self, total: float, grid: Grid) -> bool:
        """Whether the density is too narrow for its values at the centres along some axis."""
        return any(too_narrow(total, width, h) for width, h in zip(self._widths(), grid.spacing, strict=True))

    def _widths(self) -> tuple[float, ...]:
        return tuple(place.spread for place, _ in self.bulk)

    def _by_masses(self, grid: Grid) -> bool:
        return self._too_narrow(self._at_centres(grid)[1], grid)

    def _log_density(self, points: Array) -> Array:
        return self.log_values(points) - (self.shift + math.log(self.total))

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        rules, cuts = [], []
        for i, (axis, n) in enumerate(zip(self.axes, counts, strict=True)):
            interval, bounds = (self.lower[i], self.upper[i]), (axis.lower, axis.upper)
            x, w, cut = density_rule(interval, bounds, *self.bulk[i], places[i], n, other)
            rules.append((x, w))
            cuts.append(cut)
        points, logs, error = self._weigh(rules)
        for i, axis in enumerate(self.axes):
            if axis.periodic:
                # spectral when the density goes on smoothly across the ends, second order when it does not
                trial = [*rules[:i], midpoints(axis, counts[i], 0.25 if other else 0.0), *rules[i + 1 :]]
                even = self._weigh(trial)
                if even[2] <= max(error, 1e-13):
                    rules, (points, logs, error) = trial, even
                    cuts[i] = (False, False)
        if not math.isfinite(logs.max()):
            raise ValueError(f"{counts} nodes do not resolve the density; take more nodes")
        return Block.of(share, points, logs, counts, tuple(cuts))

    def _weigh(self, rules: list[tuple[Array, Array]]) -> tuple[Array, Array, float]:
        points = tensor([x for x, _ in rules])
        logs = self.log_values(points) - self.shift + np.log(outer([w for _, w in rules]).ravel())
        return points, logs, abs(float(np.exp(logs).sum()) / self.total - 1.0)

    @cached_property
    def _envelope(self) -> Envelope:
        return Envelope(self.log_values, self.lower, self.upper)

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        return self._envelope.sample(n, rng)


def _forms(axes: Sequence[Axis]) -> tuple[Form, Form]:
    """How the function of a density may be called."""
    text = f"f({', '.join(axis.name for axis in axes)})"
    return Form(text, len(axes), _of_columns), Form("f(points)", 1, values_of)


def _of_columns(function: Callable[..., ArrayLike], points: Array) -> Array:
    """What a function of the coordinates gives at points (n, d)."""
    return values_of(function, *points.T)


def _bulk(x: Array, density: Array) -> tuple[Place, float]:
    """Middle and spread of a density at ascending points, and how large it is at the ends, the maximum being 1."""
    width = np.gradient(x) * density
    below = np.cumsum(width) - 0.5 * width
    left, middle, right = np.interp([0.16, 0.5, 0.84], below / width.sum(), x)
    few = max(2, len(x) // 50)
    ends = max(density[:few].max(), density[-few:].max()) / density.max()
    return Place(float(middle), float(max(0.5 * (right - left), 1e-3 * (x[-1] - x[0])))), float(ends)


def _panel_gauss(lower: float, upper: float, panels: int, order: int) -> tuple[Array, Array]:
    """Composite Gauss-Legendre rule on equal panels, nodes ascending."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = 0.5 * (upper - lower) / panels
    middle = 0.5 * (lower + upper) + half * np.arange(1 - panels, panels, 2)
    return (middle[:, None] + half * nodes).ravel(), np.tile(half * weights, panels)
