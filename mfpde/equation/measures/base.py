"""Measures over neuron parameters, described once and used by every discretisation.

A `Measure` is a description over named parameters. `Measure.restrict` restricts it to the box
of some axes and normalises it; the `RestrictedMeasure` then answers what the grid (cell averages,
point values), the characteristics (quadrature nodes, log-density) and the particles (samples) ask,
so that all three start from the same measure.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfpde.equation.grid import Axis, Grid
from mfpde.equation.measures.quadrature import Block, Place, Rule
from mfpde.support.arguments import entries, one_of, require, shown, whole
from mfpde.support.arguments import numbers as array_of
from mfpde.support.arrays import Array
from mfpde.support.memory import check_memory
from mfpde.support.travel import Portable

__all__ = [
    "Empty",
    "Measure",
    "NEGLIGIBLE_MASS",
    "RestrictedMeasure",
    "axis_names",
    "check_masses",
    "cloud_in_cell",
    "midpoints",
    "outer",
    "refuse_labels",
    "tensor",
    "wrap",
]


NEGLIGIBLE_MASS = 1e-20
"""Quadrature nodes cover the region that holds all but this fraction of the mass, on each side of each axis."""


NORMAL = 0.9944578832097531
"""Half of the middle 68 % of a normal law, in standard deviations."""


NOTABLE = 1e-2
"""The share of the mass from which on the width of a component is one of the measure."""


MOST_NODES = 100_000
"""Nodes along an axis; Gauss rules of more take minutes to make."""


class Empty(ValueError):
    """No mass inside the box. A mixture drops such a component, everybody else reports it."""


# ---------------------------------------------------------------------------------------------- interface


class Measure(Portable, abc.ABC):
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

        Where centre values would misrepresent the measure, masses of cells stand for it: shares of the nearest
        centres for atoms and for laws narrower than 0.3 cells, the averages themselves where a density jumps
        strictly inside the box, is unbounded or rough, and averages deconvolved to centre values, of fourth order
        and not negative, for laws narrower than 3 cells whose centre values miss 1e-3 of the mass
        (`mfpde.equation.measures.narrow`).

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

    def widths(self, grid: Grid) -> tuple[float, ...]:
        """Return how wide the measure is along each axis, in units of the axis.

        Parameters
        ----------
        grid : Grid
            A mesh of this measure's axes.

        Returns
        -------
        tuple of float
            The standard deviation of the normal law whose middle 68 % are as long as the law's own; 0 for an atom. Of
            several components that hold 1e-2 of the mass or more, the narrowest. ``inf`` where only the mesh can tell:
            for masses on cells, and for clouds of particles.
        """
        self._check_grid(grid)
        parts = [part._widths() for share, part in self._components() if share >= NOTABLE]
        return tuple(min(along) / NORMAL for along in zip(*parts, strict=True)) if parts else (np.inf,) * self.dimension

    def by_masses(self, grid: Grid) -> bool:
        """Return whether `point_values` stand for a law that is too narrow for its values at the centres."""
        self._check_grid(grid)
        return any(part._by_masses(grid) for share, part in self._components() if share >= NOTABLE)

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
    ) -> Rule:
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
        Rule
            A tuple of `Block`: a law or a product of laws is one component, a `Mixture` as many as it has.
        """
        counts = (n,) * self.dimension if isinstance(n, (int, np.integer)) else entries(n, "the numbers of nodes")
        if len(counts) != self.dimension:
            raise ValueError(
                f"{len(counts)} node counts {shown(counts)} for {self.dimension} axes {axis_names(self.axes)}"
            )
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
        return Rule(
            part._block(share, counts, where, other) for (share, part), where in zip(components, own, strict=True)
        )

    def _components(self) -> list[tuple[float, RestrictedMeasure]]:
        """The measures that this one is a combination of, with their masses."""
        return [(1.0, self)]

    def _widths(self) -> tuple[float, ...]:
        return (np.inf,) * self.dimension

    def _by_masses(self, grid: Grid) -> bool:
        return False

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


def axis_names(axes: Sequence[Axis]) -> list[str]:
    """The names of axes, in their order."""
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


def outer(vectors: Sequence[Array]) -> Array:
    """Tensor product of vectors, first axis first."""
    product = vectors[0]
    for vector in vectors[1:]:
        product = product[..., None] * vector
    return product


def tensor(vectors: Sequence[Array]) -> Array:
    """All combinations of coordinates as rows, in C order."""
    mesh = np.meshgrid(*vectors, indexing="ij")
    return np.stack([x.ravel() for x in mesh], axis=1)


def midpoints(axis: Axis, n: int, shift: float = 0.0) -> tuple[Array, Array]:
    """Periodic trapezoid rule, nodes at the centres of n cells, or so many cells farther."""
    h = axis.length / n
    middle = 0.5 * (axis.lower + axis.upper) + shift * h
    return middle + (0.5 * h) * np.arange(1 - n, n, 2, dtype=float), np.full(n, h)


def cloud_in_cell(axis: Axis, n: int, x: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """The two nearest centres of each coordinate and the linear weight of the second."""
    position = (x - 0.5 * (axis.lower + axis.upper)) * (n / axis.length) + 0.5 * (n - 1)
    if axis.periodic:
        left = np.floor(position).astype(np.intp)
        return left % n, (left + 1) % n, position - left
    position = np.clip(position, 0.0, n - 1.0)  # between a wall and its nearest centre: all on that cell
    left = np.minimum(np.floor(position).astype(np.intp), n - 2)
    return left, left + 1, position - left


# ---------------------------------------------------------------------------------------------- arrays on a mesh


def refuse_labels(axes: Sequence[Axis], named: Mapping[str, object], what: str) -> None:
    """Refuse axes of labels along which a measure is not an atom.

    Raises
    ------
    ValueError
        With the measure that is made for species.
    """
    for axis in axes:
        if not (axis.moves or isinstance(named.get(axis.name), (int, float, np.number))):
            raise ValueError(f"{what} has no law of {axis!r}; give each species one by PerSpecies(label=measure, ...)")


def check_masses(values: Array, what: str) -> None:
    """Refuse masses of which one is negative or not finite, or all are 0; `what` is what one of them is called.

    Raises
    ------
    ValueError
        With the first that is wrong, and where it stands.
    """
    bad = ~np.isfinite(values) | (values < 0.0)
    if np.any(bad):
        j = np.unravel_index(int(np.argmax(bad)), values.shape)
        raise ValueError(
            f"{what} {values[j]} at index {tuple(int(k) for k in j)} must be finite and non-negative; "
            f"{int(bad.sum())} of {values.size} are not"
        )
    if not (values.size and values.max() > 0.0):
        raise ValueError(f"every {what} is zero; a measure needs a positive mass")
