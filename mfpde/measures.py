"""Measures over neuron parameters, described once and used by every discretisation.

A `Measure` is a description over named parameters. `Measure.restrict` restricts it to the box
of some axes and normalises it; the `RestrictedMeasure` then answers what the grid (cell averages,
point values), the characteristics (quadrature nodes, log-density) and the particles (samples) ask,
so that all three start from the same measure.
"""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.grid import Axis, Grid, as_axes
from mfpde.quadrature import Block, Place, density_rule
from mfpde.support.arguments import entries, one_of, real, require, shown, values_of, whole
from mfpde.support.arguments import numbers as array_of
from mfpde.support.arrays import Array
from mfpde.support.session import check_memory

__all__ = ["Density", "Dirac", "GridMeasure", "Measure", "Mixture", "Particles", "Product", "RestrictedMeasure"]


NEGLIGIBLE_MASS = 1e-20
"""Quadrature nodes cover the region that holds all but this fraction of the mass, on each side of each axis."""

LEFT_OUT = 2.5e-16
"""The mass of a law, on each side, whose translates are left out where it is wound round a circle: round-off of
``1 - cdf``."""
MOST_TURNS = 1024
"""Turns on each side beyond which a law is too wide for that, or its tails too heavy."""

MOST_NODES = 100_000
"""Nodes along an axis; Gauss rules of more take minutes to make."""

_CHUNK = 1 << 18
"""Points at which a user's density is evaluated at once."""


class _Empty(ValueError):
    """No mass inside the box. A mixture drops such a component, everybody else reports it."""


# ---------------------------------------------------------------------------------------------- interface


class Measure(abc.ABC):
    """A finite positive measure over named parameters, described apart from any box or mesh."""

    @abc.abstractmethod
    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes` and normalise to mass 1.

        Parameters
        ----------
        axes : sequence of Axis
            The box. Named parameters are matched by name, unnamed ones by the order of the axes.

        Returns
        -------
        RestrictedMeasure
            Its `lost_mass` says which fraction lay outside the box.

        Raises
        ------
        ValueError
            If names or the number of parameters do not match, or if no mass lies inside the box.
        """


class RestrictedMeasure(abc.ABC):
    """A probability measure on the box of some axes.

    Attributes
    ----------
    axes : tuple of Axis
        The box.
    lost_mass : float
        The fraction of the mass that lay outside the box, 0 where it is unknown.
    """

    axes: tuple[Axis, ...]
    lost_mass: float

    @property
    def dimension(self) -> int:
        """The number of axes."""
        return len(self.axes)

    def cells(self, grid: Grid) -> Array:
        """Return the cell averages of the density: ``measure(cell) / cell_volume``.

        Parameters
        ----------
        grid : Grid
            A mesh of this measure's axes.

        Returns
        -------
        array, shape ``grid.shape``
            Non-negative; ``sum * cell_volume`` is 1 to round-off.
        """
        self._check_grid(grid)
        return _normalised(self._cells(grid), grid)

    def point_values(self, grid: Grid) -> Array:
        """Return the density at the cell centres, scaled to the discrete mass 1.

        Where centre values would misrepresent the measure its cell averages are used instead:
        atoms, an axis along which a marginal jumps strictly inside the box or is unbounded,
        and marginals too narrow for the mesh.

        Parameters
        ----------
        grid : Grid
            A mesh of this measure's axes.

        Returns
        -------
        array, shape ``grid.shape``
            Non-negative; ``sum * cell_volume`` is 1 to round-off.
        """
        self._check_grid(grid)
        return _normalised(self._point_values(grid), grid)

    def log_density(self, points: ArrayLike) -> Array:
        """Return the logarithm of the density at some points.

        Parameters
        ----------
        points : array_like, shape (n, d)
            Rows in the order of the axes. Coordinates along periodic axes are wrapped into the box.

        Returns
        -------
        array, shape (n,)
            ``-inf`` outside the box or the support.

        Raises
        ------
        ValueError
            If the measure has atoms: it then has no density.
        """
        rows = _rows(points, self.dimension)
        rows = np.stack([wrap(axis, rows[:, i]) for i, axis in enumerate(self.axes)], axis=1)
        inside = np.ones(len(rows), dtype=bool)
        for i, axis in enumerate(self.axes):
            inside &= (rows[:, i] >= axis.lower) & (rows[:, i] <= axis.upper)
        values = np.full(len(rows), -np.inf)
        values[inside] = self._log_density(rows[inside])
        return values

    def nodes(self, n: int | Sequence[int]) -> tuple[Array, Array]:
        """Return quadrature nodes and weights of the measure: ``int f dmu ~ sum_j w_j f(z_j)``.

        Parameters
        ----------
        n : int or sequence of int
            Nodes along each axis (one number stands for all axes).

        Returns
        -------
        points : array, shape (N, d)
        weights : array, shape (N,)
            Non-negative, with sum 1.

        Notes
        -----
        Smooth densities converge spectrally. Good values: 40 nodes along an axis reach round-off for
        a normal law, 32 for a law as wide as the box.
        """
        blocks = self.blocks(n)
        weights = np.exp(np.concatenate([block.logs for block in blocks]))
        return np.concatenate([block.points for block in blocks]), weights / weights.sum()

    def blocks(
        self,
        n: int | Sequence[int],
        places: Sequence[Sequence[Sequence[Place]]] | None = None,
        other: bool = False,
    ) -> tuple[Block, ...]:
        """Return the nodes of each component of the measure, with room for where the mass is going to come from.

        Parameters
        ----------
        n : int or sequence of int
            Nodes along each axis.
        places : sequence of sequence of sequence of Place, optional
            For each component and each axis where nodes are needed besides the bulk of the density: birth-death makes
            the mass of later times descend from a tail. Atoms, cells of meshes and periodic axes have no use for them.
        other : bool, optional
            Take another rule: a map of another slope on a wider interval, shifted nodes on periodic axes, one more in
            each cell of a mesh. What the nodes show does not depend on the rule.

        Returns
        -------
        tuple of Block
            A law or a product of laws is one component, a `Mixture` as many as it has.
        """
        counts = (n,) * self.dimension if isinstance(n, (int, np.integer)) else entries(n, "the numbers of nodes")
        if len(counts) != self.dimension:
            raise ValueError(f"{len(counts)} node counts {shown(counts)} for {self.dimension} axes {_names(self.axes)}")
        for count in counts:
            if not whole(count) or count < 1:
                raise ValueError(
                    f"the number of nodes along an axis must be an integer of at least 1, not {shown(count)}"
                )
            if count > MOST_NODES:
                raise ValueError(f"{shown(count)} nodes along an axis are more than {MOST_NODES}; take fewer")
        counts = tuple(int(count) for count in counts)
        components = self._components()
        own = places if places is not None else [[()] * self.dimension] * len(components)
        return tuple(
            part._block(share, counts, where, other) for (share, part), where in zip(components, own, strict=True)
        )

    def _components(self) -> list[tuple[float, RestrictedMeasure]]:
        """The measures that this one is a combination of, with their masses."""
        return [(1.0, self)]

    @abc.abstractmethod
    def _block(
        self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool
    ) -> Block: ...

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw `n` independent points.

        Parameters
        ----------
        n : int
            At least 0.
        rng : numpy.random.Generator
            The only source of randomness: the same state gives the same points.

        Returns
        -------
        array, shape (n, d)
        """
        if not whole(n) or n < 0:
            raise ValueError(f"the number of samples must be an integer of at least 0, not {shown(n)}")
        check_memory(int(n) * self.dimension, 4, "samples")
        if not isinstance(rng, np.random.Generator):
            raise ValueError(
                f"rng must be a numpy.random.Generator such as numpy.random.default_rng(0), not {shown(rng)}"
            )
        return self._sample(int(n), rng)

    @abc.abstractmethod
    def _cells(self, grid: Grid) -> Array: ...

    @abc.abstractmethod
    def _point_values(self, grid: Grid) -> Array: ...

    @abc.abstractmethod
    def _log_density(self, points: Array) -> Array: ...

    @abc.abstractmethod
    def _sample(self, n: int, rng: np.random.Generator) -> Array: ...

    def _check_grid(self, grid: Grid) -> None:
        require(grid=(grid, one_of(Grid)))
        if grid.axes != self.axes:
            raise ValueError(
                f"the grid has axes {list(grid.axes)}, the measure was restricted to {list(self.axes)}; "
                "restrict the measure to the grid's axes"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(map(repr, self.axes))}; lost mass {self.lost_mass:.3g})"


# ---------------------------------------------------------------------------------------------- helpers


def _names(axes: Sequence[Axis]) -> list[str]:
    return [axis.name for axis in axes]


def _normalised(values: Array, grid: Grid) -> Array:
    values = np.ascontiguousarray(values)
    values /= values.sum() * grid.cell_volume
    return values


def _rows(points: ArrayLike, dimension: int) -> Array:
    rows = array_of(points, "points")
    if rows.ndim == 1 and dimension == 1:
        rows = rows[:, None]
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise ValueError(f"points must have shape (n, {dimension}), one row a point, not {rows.shape}")
    return rows


def wrap(axis: Axis, x: Array) -> Array:
    """Bring coordinates along a periodic axis into the box; those inside stay bit for bit."""
    if not axis.periodic:
        return x
    outside = (x < axis.lower) | (x >= axis.upper)
    turned = axis.lower + np.mod(x - axis.lower, axis.length)
    # just below the lower end it rounds to the upper one, which is the lower one
    return np.where(outside, np.where(turned < axis.upper, turned, axis.lower), x)


def _outer(vectors: Sequence[Array]) -> Array:
    """Tensor product of vectors, first axis first."""
    product = vectors[0]
    for vector in vectors[1:]:
        product = product[..., None] * vector
    return product


def _tensor(vectors: Sequence[Array]) -> Array:
    """All combinations of coordinates as rows, in C order."""
    mesh = np.meshgrid(*vectors, indexing="ij")
    return np.stack([x.ravel() for x in mesh], axis=1)


def _midpoints(axis: Axis, n: int, shift: float = 0.0) -> tuple[Array, Array]:
    """Periodic trapezoid rule, nodes at the centres of n cells, or so many cells farther."""
    h = axis.length / n
    middle = 0.5 * (axis.lower + axis.upper) + shift * h
    return middle + (0.5 * h) * np.arange(1 - n, n, 2, dtype=float), np.full(n, h)


def _cloud_in_cell(axis: Axis, n: int, x: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """The two nearest centres of each coordinate and the linear weight of the second."""
    position = (x - 0.5 * (axis.lower + axis.upper)) * (n / axis.length) + 0.5 * (n - 1)
    if axis.periodic:
        left = np.floor(position).astype(np.intp)
        return left % n, (left + 1) % n, position - left
    position = np.clip(position, 0.0, n - 1.0)  # between a wall and its nearest centre: all on that cell
    left = np.minimum(np.floor(position).astype(np.intp), n - 2)
    return left, left + 1, position - left


# ---------------------------------------------------------------------------------------------- one axis


class _Law:
    """The few functions needed of a scipy distribution, old style (`stats.norm(0, 1)`) or new (`stats.Normal()`)."""

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        self.cdf = distribution.cdf
        self.pdf = distribution.pdf
        self.logpdf = distribution.logpdf
        self.sf = getattr(distribution, "sf", None) or distribution.ccdf
        self.ppf = getattr(distribution, "ppf", None) or distribution.icdf
        self.isf = getattr(distribution, "isf", None) or distribution.iccdf
        self.median = float(distribution.median())
        low, high = distribution.support()
        self.support = float(low), float(high)

    @property
    def quick_quantile(self) -> bool:
        """Whether the quantile function is a formula, not a root search for each value."""
        from scipy.stats import rv_continuous

        family = getattr(self.distribution, "dist", None)
        return isinstance(family, rv_continuous) and type(family)._ppf is not rv_continuous._ppf

    def masses(self, edges: Array) -> Array:
        """Masses of the intervals between ascending edges, with relative accuracy in both tails.

        Two estimates are at hand. Differences of the distribution function (left of the median) or of
        the survival function (right of it) are right for any law, but cancel where an interval holds
        little of the tail beyond it, and many laws take ``sf = 1 - cdf``. Gauss-Legendre of
        the density is accurate to round-off wherever the density is smooth over the interval, tails
        included. So Gauss where two orders agree and the difference does not contradict it.
        """
        with np.errstate(all="ignore"):
            edges = np.clip(edges, *self.support)
            below, above = np.asarray(self.cdf(edges), dtype=float), np.asarray(self.sf(edges), dtype=float)
            left, right = edges[:-1], edges[1:]
            difference = np.where(
                right <= self.median,
                below[1:] - below[:-1],
                np.where(left >= self.median, above[:-1] - above[1:], 1.0 - (below[:-1] + above[1:])),
            )
            difference = np.maximum(difference, 0.0)
            coarse, fine = self._gauss(left, right, 6), self._gauss(left, right, 10)
            good = (fine > 0.0) & (np.abs(fine - coarse) <= 1e-13 * fine)
            good &= np.abs(fine - difference) <= 1e-10 + 1e-6 * fine
        return np.where(good, fine, difference)

    def _gauss(self, left: Array, right: Array, n: int) -> Array:
        nodes, weights = np.polynomial.legendre.leggauss(n)
        middle, half = 0.5 * (left + right), 0.5 * (right - left)
        values = np.asarray(self.pdf(middle[:, None] + half[:, None] * nodes), dtype=float)
        # mirrored nodes are added first, so that a mirrored law has bit for bit mirrored masses
        paired = values[:, : n // 2] + values[:, : (n - 1) // 2 : -1]
        return half * (paired * weights[: n // 2]).sum(axis=1)


class _Marginal:
    """A law restricted to one axis and normalised."""

    atom = False

    def __init__(self, axis: Axis, law: _Law, label: str) -> None:
        self.axis, self.law = axis, law
        low, high = max(axis.lower, law.support[0]), min(axis.upper, law.support[1])
        self.low, self.high = low, high
        below, above = float(law.cdf(axis.lower)), float(law.sf(axis.upper))
        if not (math.isfinite(below) and math.isfinite(above) and math.isfinite(law.median)):
            raise ValueError(f"axis {axis.name!r}: {label} has NaN probabilities; check its parameters")
        # cdf of a law on the circle (von Mises) goes on beyond [0, 1] from turn to turn
        self.circular = below < 0.0 or above < 0.0
        if self.circular and not (axis.periodic and abs(below + above) < 1e-9):
            raise ValueError(
                f"axis {axis.name!r}: {label} is a law on the circle; give it a periodic axis of one period in length"
            )
        self.below, self.above = below, above
        self.lost = min(max(below + above, 0.0), 1.0)
        edges = np.linspace(low, high, 65) if low < high else np.zeros(0)
        self.mass = float(law.masses(edges).sum()) if low < high else 0.0
        if not self.mass > 0.0:
            raise _Empty(
                f"axis {axis.name!r}: {label} has no mass inside [{axis.lower:g}, {axis.upper:g}]; "
                "move the axis to where the measure is"
            )

    def cells(self, n: int) -> Array:
        axis = self.axis
        return self.law.masses(Grid([axis], [n]).faces(0)) * (n / (axis.length * self.mass))

    def point_values(self, n: int) -> Array:
        if self._jumps():
            return self.cells(n)
        grid = Grid([self.axis], [n])
        x = grid.centres(0)
        with np.errstate(all="ignore"):
            values = np.asarray(self.law.pdf(x), dtype=float) / self.mass
        total = values.sum() * grid.cell_volume
        # a law too narrow (or too rough) for the mesh: its centre values mean nothing
        return values / total if np.all(np.isfinite(values)) and abs(total - 1.0) < 0.1 else self.cells(n)

    def _jumps(self) -> bool:
        """Whether the density jumps strictly inside the box, or is unbounded at an end."""
        span = self.high - self.low
        with np.errstate(all="ignore"):
            ends = np.asarray(self.law.pdf(np.array([self.low, self.high])), dtype=float)
            # a support end may count as outside: look one part in 1e9 inside as well
            inner = np.asarray(self.law.pdf(np.array([self.low + 1e-9 * span, self.high - 1e-9 * span])), dtype=float)
        if not np.all(np.isfinite(ends)):
            return True
        inside = np.array([self.low > self.axis.lower, self.high < self.axis.upper])
        return bool(np.any(inside & (inner > 1e-6 / span)))

    def log_density(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.law.logpdf(x), dtype=float) - math.log(self.mass)

    @cached_property
    def effective(self) -> tuple[float, float]:
        """The interval outside which each side holds less than `NEGLIGIBLE_MASS`."""
        low, high = self.low, self.high
        for _ in range(20):
            edges = np.linspace(low, high, 257)
            masses = self.law.masses(edges) / self.mass
            heavy = np.cumsum(masses) > NEGLIGIBLE_MASS
            first = int(np.argmax(heavy))
            last = 255 - int(np.argmax(np.cumsum(masses[::-1]) > NEGLIGIBLE_MASS))
            length = high - low
            low, high = float(edges[first]), float(edges[last + 1])
            if high - low > 0.9 * length or high - low < 1e-12 * max(abs(low), abs(high)):
                break
        return low, high

    @cached_property
    def bulk(self) -> tuple[Place, float]:
        """Middle and spread (half of what holds the middle 68 %), and the density at the ends, the maximum being 1."""
        low, high = self.effective
        edges = np.linspace(low, high, 1025)
        mass = self.law.masses(edges) / self.mass
        below = np.concatenate([[0.0], np.cumsum(mass)])
        left, middle, right = np.interp([0.16, 0.5, 0.84], below / below[-1], edges)
        with np.errstate(all="ignore"):
            # also a little inside: a density that vanishes like a power is not smooth where it goes on as 0
            ends = low + (high - low) * np.array([0.0, 0.02, 0.98, 1.0])
            ratio = float(np.max(self.law.pdf(ends))) * (high - low) / 1024 / (float(mass.max()) * self.mass)
        return Place(float(middle), float(max(0.5 * (right - left), 1e-3 * (high - low)))), ratio

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        """Nodes, logarithms of weights up to a factor, and at which ends the rule stops and the density does not."""
        with np.errstate(all="ignore"):
            x, w, cut = density_rule(self.effective, (self.low, self.high), *self.bulk, places, n, other)
            logs = np.log(w) + self.law.logpdf(x)
            # a law that jumps inside may have the right mass by chance
            if self.axis.periodic and not self._jumps():
                # spectral when the law goes on smoothly across the ends, second order when it does not
                y, v = _midpoints(self.axis, n, 0.25 if other else 0.0)
                even = np.log(v) + self.law.logpdf(y)
                error = abs(np.exp(even).sum() - self.mass)
                if error <= max(abs(np.exp(logs).sum() - self.mass), 1e-13 * self.mass):
                    x, logs, cut = y, even, (False, False)
        if not math.isfinite(logs.max()):  # NaN included
            raise ValueError(f"axis {self.axis.name!r}: {n} nodes do not resolve the density; take more nodes")
        return x, logs, cut

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        axis, law = self.axis, self.law
        if not law.quick_quantile or self.circular:
            return self._envelope.sample(n, rng)[:, 0]
        u = rng.random(n)
        mass = max(1.0 - (self.below + self.above), 0.0) or self.mass
        lower_tail, upper_tail = self.below + u * mass, self.above + (1.0 - u) * mass
        with np.errstate(all="ignore"):
            x = np.where(lower_tail <= 0.5, law.ppf(np.minimum(lower_tail, 1.0)), law.isf(np.minimum(upper_tail, 1.0)))
        return np.clip(x, axis.lower, axis.upper)

    @cached_property
    def _envelope(self) -> _Envelope:
        low, high = self.effective
        return _Envelope(self._log_values, np.array([low]), np.array([high]))

    def _log_values(self, points: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.law.logpdf(points[:, 0]), dtype=float)


class _Wrapped:
    """A law wound round a periodic axis: the density is the sum of its translates by the period.

    It is taken apart on whole turns of the line, as many as hold all but `LEFT_OUT` of it, and folded.
    """

    atom = False
    lost = 0.0

    def __init__(self, axis: Axis, law: _Law, label: str) -> None:
        self.axis, self.law = axis, law
        first = math.floor((law.median - axis.lower) / axis.length)  # the turn that holds the middle
        low, high = axis.lower + first * axis.length, axis.upper + first * axis.length
        below = _turns(lambda turns: float(law.cdf(low - turns * axis.length)), axis, label)
        above = _turns(lambda turns: float(law.sf(high + turns * axis.length)), axis, label)
        self.turns = first + np.arange(-below, above + 1)
        lower, upper = low - below * axis.length, high + above * axis.length
        self.line = _Marginal(Axis(axis.name, lower, upper), law, label)

    def cells(self, n: int) -> Array:
        return self._folded(self.line.cells(n * len(self.turns)))

    def point_values(self, n: int) -> Array:
        if self._jumps():
            return self.cells(n)
        grid = Grid([self.axis], [n])
        values = self.density(grid.centres(0))
        total = values.sum() * grid.cell_volume
        # as for a law that is not wound up: too narrow for the mesh
        return values / total if np.all(np.isfinite(values)) and abs(total - 1.0) < 0.1 else self.cells(n)

    def _folded(self, values: Array) -> Array:
        return values.reshape(len(self.turns), -1).sum(axis=0)

    def _jumps(self) -> bool:
        """Whether the density on the circle jumps where the support of the law ends, or is unbounded there."""
        ends = np.array([end for end in self.law.support if math.isfinite(end)])
        near = 1e-9 * self.axis.length
        with np.errstate(all="ignore"):
            at = np.asarray(self.law.pdf(ends), dtype=float)
            jump = np.abs(self.density(wrap(self.axis, ends + near)) - self.density(wrap(self.axis, ends - near)))
        return not (np.all(np.isfinite(at)) and np.all(jump * self.axis.length <= 1e-6))

    def _logs(self, x: Array) -> Array:
        """The logarithms of the density on the line at the translates of points of the axis, (turns, n)."""
        low, high = self.law.support
        places = x + self.axis.length * self.turns[:, None]
        # the ends of a support of whole turns meet in one point, which counts once
        near = 1e-12 * self.axis.length
        places = np.where(np.abs(places - low) <= near, max(low, -np.finfo(float).max), places)
        with np.errstate(all="ignore"):
            logs = np.asarray(self.law.logpdf(places), dtype=float)
        return np.where(places < high - near, logs, -np.inf)

    def log_density(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.logaddexp.reduce(self._logs(x), axis=0)) - math.log(self.line.mass)

    def density(self, x: Array) -> Array:
        return np.asarray(np.exp(self.log_density(x)))

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        if not self._jumps():
            y, v = _midpoints(self.axis, n, 0.25 if other else 0.0)
            with np.errstate(all="ignore"):
                logs = np.log(v) + self.log_density(y)
            if abs(np.exp(logs).sum() - 1.0) <= 1e-13:
                return y, logs, (False, False)
        # a narrow law is better integrated over its own interval, across the seam
        x, logs, _ = self.line.nodes(n, (), other)
        return wrap(self.axis, x), logs, (False, False)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return wrap(self.axis, self.line.sample(n, rng))


def _turns(tail: Callable[[int], float], axis: Axis, label: str) -> int:
    """After how many turns a law has next to no mass left, on one side."""
    turns = 0
    while tail(turns) > LEFT_OUT:
        turns = max(1, 2 * turns)
        if turns > MOST_TURNS:
            raise ValueError(
                f"axis {axis.name!r}: {label} holds {tail(MOST_TURNS):.2g} of its mass beyond {MOST_TURNS} turns of "
                f"[{axis.lower:g}, {axis.upper:g}), so that its translates cannot be summed; give its density on the "
                "circle as a Density, or where it is even there stats.uniform"
            )
    return turns


def _on_axis(axis: Axis, distribution: Any) -> _Marginal | _Wrapped:
    """A law on an axis: cut off at its ends, or wound round it."""
    law, label = _Law(distribution), _label(distribution)
    below, above = float(law.cdf(axis.lower)), float(law.sf(axis.upper))
    # laws on the circle have negative tails
    if not (axis.periodic and min(below, above) >= 0.0 and below + above > LEFT_OUT):
        return _Marginal(axis, law, label)
    from scipy.stats import cauchy, wrapcauchy

    if isinstance(getattr(distribution, "dist", distribution), type(cauchy)):
        # its tails are too heavy for a sum, but the sum is known: Mardia and Jupp, Directional Statistics, 3.5.7
        turn = axis.length / (2.0 * math.pi)
        width = 0.5 * float(law.isf(0.25) - law.ppf(0.25)) / turn
        law = _Law(wrapcauchy(max(math.exp(-width), 1e-300), law.median, turn))
    return _Wrapped(axis, law, label)


class _Atom:
    """A Dirac mass along one axis."""

    atom = True
    lost = 0.0

    def __init__(self, axis: Axis, x: float) -> None:
        x = float(wrap(axis, np.array([x]))[0])
        if not axis.lower <= x <= axis.upper:
            raise _Empty(
                f"axis {axis.name!r}: the atom at {x:g} lies outside [{axis.lower:g}, {axis.upper:g}]; "
                "widen the axis or move the atom"
            )
        self.axis, self.x = axis, x

    def cells(self, n: int) -> Array:
        values = np.zeros(n)
        left, right, weight = _cloud_in_cell(self.axis, n, np.array([self.x]))
        values[left] += 1.0 - weight
        values[right] += weight
        return values * (n / self.axis.length)

    point_values = cells

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        return np.array([self.x]), np.zeros(1), (False, False)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.full(n, self.x)


# ---------------------------------------------------------------------------------------------- products


@dataclass(frozen=True, init=False)
class Product(Measure):
    """Independent parameters: ``mu(dz) = prod_i m_i(dz_i)``.

    Parameters
    ----------
    **marginals : frozen scipy.stats distribution or float
        The law of each parameter by name; a number is a Dirac mass there.

    Raises
    ------
    ValueError
        If there is none, or one is neither a continuous distribution nor a finite number.

    Notes
    -----
    Cell averages come from the distribution and survival functions and from Gauss-Legendre quadrature
    of the density, so that they keep their relative accuracy in both tails.
    On a periodic axis a law is wound round: its density there is the sum of its translates by the period, of which all
    but 2.5e-16 of the mass on each side is kept. The Cauchy law has that sum in closed form; other laws that reach
    beyond 1024 turns are refused. Laws on the circle such as ``stats.vonmises`` need an axis of one period; atoms are
    wrapped.
    A Dirac mass on a mesh is shared linearly by the two nearest centres of each axis, so that its mean
    is exact unless it lies within half a cell of a wall.

    Examples
    --------
    >>> from scipy import stats
    >>> Product(c=stats.norm(0, 1), b=0.5)
    Product(c=norm(0, 1), b=0.5)
    """

    marginals: tuple[tuple[str, Any], ...]

    def __init__(self, /, **marginals: Any) -> None:
        if not marginals:
            raise ValueError("a product needs at least one marginal, such as Product(c=stats.norm(0, 1))")
        for name, marginal in marginals.items():
            if isinstance(marginal, numbers.Real) and not isinstance(marginal, bool):
                if not real(marginal):
                    raise ValueError(f"marginal {name!r}: the atom {shown(marginal)} must be a finite number")
            elif hasattr(marginal, "pmf") and not hasattr(marginal, "pdf"):
                raise ValueError(
                    f"marginal {name!r}: {_label(marginal)} is a discrete law; write it as a Mixture of Dirac measures"
                )
            elif isinstance(marginal, type) or not all(hasattr(marginal, f) for f in ("cdf", "pdf", "support")):
                raise ValueError(
                    f"marginal {name!r} must be a frozen scipy.stats distribution such as stats.norm(0, 1) "
                    f"or a number, not {shown(marginal)}"
                )
        object.__setattr__(self, "marginals", tuple(marginals.items()))

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, matched by name; see `Measure.restrict`."""
        axes = as_axes(axes)
        laws, names = dict(self.marginals), _names(axes)
        if set(laws) != set(names):
            missing, extra = sorted(set(names) - set(laws)), sorted(set(laws) - set(names))
            raise ValueError(
                f"the measure is over {list(laws)}, the axes are {names}"
                + (f"; give a marginal for {missing}" if missing else "")
                + (f"; no axis is named {extra}" if extra else "")
            )
        factors: list[_Marginal | _Wrapped | _Atom] = []
        for axis in axes:
            law = laws[axis.name]
            if isinstance(law, numbers.Real):
                factors.append(_Atom(axis, float(law)))
            else:
                factors.append(_on_axis(axis, law))
        return _RestrictedProduct(axes, factors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_label(law)}' for name, law in self.marginals)})"


def _label(law: Any) -> str:
    if isinstance(law, numbers.Real):
        return f"{float(law):g}"
    family = getattr(law, "dist", None)
    if family is None:
        return repr(law)
    arguments = [f"{x}" for x in law.args] + [f"{key}={x}" for key, x in law.kwds.items()]
    return f"{family.name}({', '.join(arguments)})"


class Dirac(Product):
    """All mass in one point.

    Parameters
    ----------
    **coordinates : float
        The coordinates of the point by name. On a periodic axis they are wrapped into the box.

    Examples
    --------
    >>> Dirac(c=0.0, a=1.5)
    Dirac(c=0, a=1.5)
    """

    def __init__(self, /, **coordinates: float) -> None:
        for name, x in coordinates.items():
            if not isinstance(x, numbers.Real) or isinstance(x, bool):
                raise ValueError(f"coordinate {name!r} of a Dirac measure must be a number, not {shown(x)}")
        super().__init__(**coordinates)


class _RestrictedProduct(RestrictedMeasure):
    def __init__(self, axes: tuple[Axis, ...], factors: list[_Marginal | _Wrapped | _Atom]) -> None:
        self.axes, self.factors = axes, factors
        with np.errstate(divide="ignore"):
            kept = np.sum(np.log1p([-factor.lost for factor in factors]))
        self.lost_mass = abs(float(np.expm1(kept)))

    def _cells(self, grid: Grid) -> Array:
        return _outer([factor.cells(n) for factor, n in zip(self.factors, grid.shape, strict=True)])

    def _point_values(self, grid: Grid) -> Array:
        return _outer([factor.point_values(n) for factor, n in zip(self.factors, grid.shape, strict=True)])

    def _log_density(self, points: Array) -> Array:
        total = np.zeros(len(points))
        for i, factor in enumerate(self.factors):
            if isinstance(factor, _Atom):
                raise ValueError(
                    f"axis {factor.axis.name!r}: the measure has an atom at {factor.x:g}, hence no density; "
                    "give this parameter a narrow law instead, such as stats.norm"
                )
            total += factor.log_density(points[:, i])
        return total

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        rules = [factor.nodes(n, at, other) for factor, n, at in zip(self.factors, counts, places, strict=True)]
        logs = _tensor([logs for _, logs, _ in rules]).sum(axis=1)
        shape = tuple(len(x) for x, _, _ in rules)
        return Block.of(share, _tensor([x for x, _, _ in rules]), logs, shape, tuple(cut for _, _, cut in rules))

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.stack([factor.sample(n, rng) for factor in self.factors], axis=1)


# ---------------------------------------------------------------------------------------------- mixtures


@dataclass(frozen=True, init=False)
class Mixture(Measure):
    """A convex combination: ``mu = sum_k w_k mu_k / sum_k w_k``.

    Parameters
    ----------
    components : sequence of (weight, Measure)
        Weights are finite and non-negative with a positive sum; zero weights are dropped.

    Raises
    ------
    ValueError
        On an empty list, a bad weight, or a component that is no measure.
    """

    components: tuple[tuple[float, Measure], ...]

    def __init__(self, components: Sequence[tuple[float, Measure]]) -> None:
        kept = []
        for pair in entries(components, "the components of a mixture"):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"a mixture is made of (weight, Measure) pairs, {shown(pair)} is none")
            weight, measure = pair
            if not isinstance(measure, Measure):
                raise ValueError(f"a mixture is made of (weight, Measure) pairs, {shown(measure)} is not a Measure")
            if not (real(weight) and weight >= 0.0):
                raise ValueError(f"mixture weight {shown(weight)} must be finite and non-negative")
            if weight > 0.0:
                kept.append((float(weight), measure))
        if not kept:
            raise ValueError("a mixture needs at least one component of positive weight")
        object.__setattr__(self, "components", tuple(kept))

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`; components with no mass inside are dropped and count as lost."""
        axes = as_axes(axes)
        total = math.fsum(weight for weight, _ in self.components)
        parts: list[tuple[float, RestrictedMeasure]] = []
        reason: _Empty | None = None
        for weight, measure in self.components:
            try:
                part = measure.restrict(axes)
            except _Empty as error:
                reason = error
                continue
            parts.append((weight / total, part))
        if not any(part.lost_mass < 1.0 for _, part in parts):
            raise _Empty(f"no component of the mixture has mass inside the box; {reason or 'move the axes'}")
        empty = 1.0 - math.fsum(share for share, _ in parts) if reason else 0.0
        return _RestrictedMixture(axes, parts, empty)

    def __repr__(self) -> str:
        return f"Mixture({', '.join(f'{weight:g} * {measure!r}' for weight, measure in self.components)})"


class _RestrictedMixture(RestrictedMeasure):
    def __init__(self, axes: tuple[Axis, ...], parts: list[tuple[float, RestrictedMeasure]], empty: float) -> None:
        self.axes = axes
        self.lost_mass = min(1.0, empty + math.fsum(share * part.lost_mass for share, part in parts))
        inside = [(share * (1.0 - part.lost_mass), part) for share, part in parts]
        total = math.fsum(weight for weight, _ in inside)
        self.parts = [(weight / total, part) for weight, part in inside if weight > 0.0]

    def _cells(self, grid: Grid) -> Array:
        return np.sum([weight * part.cells(grid) for weight, part in self.parts], axis=0)

    def _point_values(self, grid: Grid) -> Array:
        return np.sum([weight * part.point_values(grid) for weight, part in self.parts], axis=0)

    def _log_density(self, points: Array) -> Array:
        with np.errstate(all="ignore"):
            logs = [math.log(weight) + part.log_density(points) for weight, part in self.parts]
            return np.asarray(np.logaddexp.reduce(logs, axis=0))

    def _components(self) -> list[tuple[float, RestrictedMeasure]]:
        return [(share * weight, one) for share, part in self.parts for weight, one in part._components()]

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        raise AssertionError("a mixture has its components' nodes")

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        counts = rng.multinomial(n, [weight for weight, _ in self.parts])
        points = np.concatenate(
            [part.sample(int(count), rng) for count, (_, part) in zip(counts, self.parts, strict=True)]
        )
        return rng.permutation(points, axis=0)  # so that any prefix is a sample as well


# ---------------------------------------------------------------------------------------------- joint density

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
        Takes points of shape (n, d), rows in the order of the axes, and returns n density values
        (non-negative, up to a constant factor) or, with ``log``, their logarithms (``-inf`` allowed).
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
    """

    function: Callable[[Array], ArrayLike]
    log: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"a Density needs a function of points (n, d), not {shown(self.function)}")

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, coordinates in their order; see `Measure.restrict`."""
        return _RestrictedDensity(as_axes(axes), self)

    def log_values(self, points: Array) -> Array:
        """Return the checked logarithms of the density, up to a constant, shape (n,)."""
        logs = np.empty(len(points))
        for start in range(0, len(points), _CHUNK):
            rows = points[start : start + _CHUNK]
            values = values_of(self.function, rows)
            if values.shape != (len(rows),):
                raise ValueError(
                    f"the density must return one value a point, shape ({len(rows)},), not {values.shape} "
                    f"for points of shape {rows.shape}"
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


class _Envelope:
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
        logs = np.asarray(log_values(_tensor(lattice))).reshape((2 * panels + 1,) * dimension)
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
        self.axes, self.density = axes, density
        d = len(axes)
        lower, upper = np.array([axis.lower for axis in axes]), np.array([axis.upper for axis in axes])
        panels = _PANELS[d]
        for _ in range(8):
            rules = [_panel_gauss(a, b, panels, _ORDER[d]) for a, b in zip(lower, upper, strict=True)]
            logs = density.log_values(_tensor([x for x, _ in rules])).reshape([len(x) for x, _ in rules])
            shift = float(logs.max())
            if shift == -np.inf:
                raise _Empty(
                    f"the density is zero at all {logs.size} quadrature points of the box {list(axes)}; "
                    "move the axes to where it is, or return its logarithm (log=True)"
                )
            masses = np.exp(logs - shift) * _outer([w for _, w in rules])
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
            rows = _tensor([coordinates[0][start * per_cell : stop * per_cell], *coordinates[1:]])
            block = np.exp(self.density.log_values(rows) - self.shift)
            cells = (stop - start, *grid.shape[1:])
            block = block.reshape([k for n, w in zip(cells, weights, strict=True) for k in (n, len(w))])
            for i in range(d):
                block = np.tensordot(block, weights[i], axes=(i + 1, 0))
            values[start:stop] = block
        return values

    def _point_values(self, grid: Grid) -> Array:
        values = np.exp(self.density.log_values(grid.points()) - self.shift).reshape(grid.shape)
        total = values.sum() * grid.cell_volume / self.total
        return values if abs(total - 1.0) < 0.1 else self._cells(grid)

    def _log_density(self, points: Array) -> Array:
        return self.density.log_values(points) - (self.shift + math.log(self.total))

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
                trial = [*rules[:i], _midpoints(axis, counts[i], 0.25 if other else 0.0), *rules[i + 1 :]]
                even = self._weigh(trial)
                if even[2] <= max(error, 1e-13):
                    rules, (points, logs, error) = trial, even
                    cuts[i] = (False, False)
        if not math.isfinite(logs.max()):
            raise ValueError(f"{counts} nodes do not resolve the density; take more nodes")
        return Block.of(share, points, logs, counts, tuple(cuts))

    def _weigh(self, rules: list[tuple[Array, Array]]) -> tuple[Array, Array, float]:
        points = _tensor([x for x, _ in rules])
        logs = self.density.log_values(points) - self.shift + np.log(_outer([w for _, w in rules]).ravel())
        return points, logs, abs(float(np.exp(logs).sum()) / self.total - 1.0)

    @cached_property
    def _envelope(self) -> _Envelope:
        return _Envelope(self.density.log_values, self.lower, self.upper)

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        return self._envelope.sample(n, rng)


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


# ---------------------------------------------------------------------------------------------- arrays on a mesh


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
        _check_masses(values, "value")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, matched by name; see `Measure.restrict`."""
        axes = as_axes(axes)
        own, names = _names(self.grid.axes), _names(axes)
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
        share = _outer(shares)
        masses = total * share
        inside = float(masses.sum())
        if not inside > 0.0:
            raise _Empty(f"the measure on {self.grid} has no mass inside the box {list(axes)}; move the axes")
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


def _check_masses(values: Array, what: str) -> None:
    bad = ~np.isfinite(values) | (values < 0.0)
    if np.any(bad):
        j = np.unravel_index(int(np.argmax(bad)), values.shape)
        raise ValueError(
            f"{what} {values[j]} at index {tuple(int(k) for k in j)} must be finite and non-negative; "
            f"{int(bad.sum())} of {values.size} are not"
        )
    if not (values.size and values.max() > 0.0):
        raise ValueError(f"every {what} is zero; a measure needs a positive mass")


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
        return Block.of(share, _tensor(points)[flat > 0.0], np.log(flat[flat > 0.0]))

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        cumulative = np.cumsum(self.masses.ravel())
        cell = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        corner = np.unravel_index(np.minimum(cell, len(cumulative) - 1), self.masses.shape)
        columns = []
        for edges, j in zip(self.edges, corner, strict=True):
            columns.append(edges[j] + rng.random(n) * (edges[j + 1] - edges[j]))
        return np.stack(columns, axis=1)


# ---------------------------------------------------------------------------------------------- particles


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
        _check_masses(weights, "weight")
        points.setflags(write=False)
        weights.setflags(write=False)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, coordinates in their order; see `Measure.restrict`."""
        axes = as_axes(axes)
        assert self.weights is not None
        if self.points.shape[1] != len(axes):
            raise ValueError(f"particles in {self.points.shape[1]} dimensions on {len(axes)} axes {_names(axes)}")
        points = np.stack([wrap(axis, self.points[:, i]) for i, axis in enumerate(axes)], axis=1)
        inside = np.ones(len(points), dtype=bool)
        for i, axis in enumerate(axes):
            inside &= (points[:, i] >= axis.lower) & (points[:, i] <= axis.upper)
        total, lost = float(self.weights.sum()), float(self.weights[~inside].sum())
        weights = self.weights[inside]
        if not (len(weights) and weights.max() > 0.0):
            raise _Empty(f"none of the {len(points)} particles lies inside the box {list(axes)}; widen the axes")
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
            left, right, weight = _cloud_in_cell(axis, n, self.points[:, i])
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
