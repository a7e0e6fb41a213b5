"""Pair energies: the interaction of a measure with itself, and its discrepancy from given atoms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, BoundSum, Energy, Last, Source, in_chunks
from mfpde.equation.energy.external import BoundExternal, External
from mfpde.equation.energy.factors import BLOCK, AxisFactor
from mfpde.equation.energy.kernels import BoundKernel, Kernel
from mfpde.equation.energy.losses import SquaredLoss
from mfpde.equation.energy.on_grid import ByMatrix, ByTables, GridEnergy, GridPart, Outputs, prepared_output
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.support.arguments import numbers, real, shown
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory
from mfpde.support.threads import Turns, product

__all__ = ["BoundDirect", "Discrepancy", "Interaction"]


@dataclass(frozen=True, eq=False)
class Interaction(Energy):
    """A pair interaction: ``E[mu] = weight/2 iint K(theta, theta') mu(dtheta) mu(dtheta')``.

    Where the kernel factorises, ``K = sum_k s_k psi_k psi_k'``, the response is ``u_k = int psi_k dmu`` and
    ``E = weight/2 sum_k s_k u_k^2``, ``V = weight sum_k s_k u_k psi_k``.

    Parameters
    ----------
    kernel : Kernel
        `SeparableKernel`, `TranslationInvariantKernel` or `PairKernel`.
    weight : float
        Of any sign (a negative one makes the energy concave); not zero.
    tolerance : float
        Eigenvalues below `tolerance` times the largest are left out. Between 1e-15 and 1e-3.

    Raises
    ------
    ValueError
        On a weight that is zero or not finite, or a tolerance out of range.
    """

    kernel: Kernel
    weight: float = 1.0
    tolerance: float = 1e-13

    def __post_init__(self) -> None:
        check_kernel(self.kernel, self.tolerance)
        if not (real(self.weight) and self.weight != 0):
            raise ValueError(f"the weight of an interaction must be finite and not 0, not {shown(self.weight)}")

    @property
    def convex(self) -> bool | None:
        """By the signs of the kernel and of the weight, where the kernel's construction tells."""
        return _convex(self.kernel.definite * self.weight)

    @property
    def named_axes(self) -> tuple[str, ...]:
        """The axes that its kernel names: a box has to have them."""
        return tuple(getattr(self.kernel, "kernels", ()))

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The interaction on a box."""
        axes = as_axes(axes)
        kernel = self.kernel.bind(axes, self.tolerance)
        if kernel.factors is None:
            return BoundDirect(axes, kernel, self.weight, f"interaction, {self.kernel!r}", self.convex)
        features = ProductFeatures(kernel.factors, self.tolerance)
        return BoundProductForm(axes, features, self.weight, None, "interaction", self.convex)


@dataclass(frozen=True, eq=False)
class Discrepancy(Energy):
    """The squared discrepancy from atoms ``nu = sum_j a_j delta_{m_j}``: ``E[mu] = 1/2 iint K d(mu - nu) d(mu - nu)``.

    For ``K = int phi(x, .) phi(x, .)' dx`` this is half the squared L2 distance of two networks. Where the kernel
    factorises it is computed as ``1/2 sum_k s_k (u_k - q_k)^2``, ``q_k = sum_j a_j psi_k(m_j)``, without cancellation
    near its minimum.

    Parameters
    ----------
    kernel : Kernel
        A symmetric kernel.
    points : (m, d) array
        The atoms, in the order of the axes. They may lie outside the box.
    weights : (m,) array
        Their weights, of any sign.
    tolerance : float
        As in `Interaction`.

    Raises
    ------
    ValueError
        On shapes that do not fit or values that are not finite.
    """

    kernel: Kernel
    points: Array
    weights: Array
    tolerance: float = 1e-13

    def __post_init__(self) -> None:
        check_kernel(self.kernel, self.tolerance)
        points = numbers(self.points, "the atoms of a discrepancy")
        weights = numbers(self.weights, "the weights of a discrepancy")
        if points.ndim != 2 or weights.shape != points.shape[:1] or not points.size:
            raise ValueError(
                f"a discrepancy needs atoms of shape (m, d) and weights of shape (m,), "
                f"not {points.shape} and {weights.shape}"
            )
        if not (np.all(np.isfinite(points)) and np.all(np.isfinite(weights))):
            raise ValueError("a discrepancy needs finite atoms and weights")
        points.flags.writeable = weights.flags.writeable = False
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)

    @property
    def convex(self) -> bool | None:
        """By the sign of the kernel, where its construction tells."""
        return _convex(self.kernel.definite)

    @property
    def named_axes(self) -> tuple[str, ...]:
        """The axes that its kernel names: a box has to have them."""
        return tuple(getattr(self.kernel, "kernels", ()))

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The discrepancy on a box."""
        axes = as_axes(axes)
        points, weights = self.points, self.weights
        if points.shape[1] != len(axes):
            raise ValueError(f"the atoms have {points.shape[1]} coordinates for {len(axes)} axes")
        kernel = self.kernel.bind(axes, self.tolerance, points)
        if kernel.factors is not None:
            features = ProductFeatures(kernel.factors, self.tolerance)
            target = features.moments(points, weights)
            return BoundProductForm(axes, features, 1.0, target, "discrepancy", self.convex)

        def potential(*x: Array) -> Array:
            rows = np.stack([c.ravel() for c in np.broadcast_arrays(*x)], axis=1)
            values = [kernel.matrix(rows[piece], points) @ weights for piece in in_chunks(len(rows), len(points))]
            return -np.concatenate(values).reshape(np.broadcast_shapes(*(c.shape for c in x)))

        def gradient(*x: Array) -> tuple[Array, ...]:
            rows = np.stack(x, axis=1)
            return tuple(-kernel.derivatives(rows, points, i) @ weights for i in range(len(axes)))

        constant = 0.5 * float(weights @ kernel.matrix(points, points) @ weights)
        attraction = BoundExternal(External(potential, gradient, constant), axes)
        return BoundSum([BoundDirect(axes, kernel, 1.0, f"discrepancy, {self.kernel!r}", self.convex), attraction])


def _convex(sign: float) -> bool | None:
    return None if sign == 0 else sign > 0


def check_kernel(kernel: Kernel, tolerance: float) -> None:
    """Refuse what is no kernel and a tolerance that makes no sense."""
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"{shown(kernel)} is no kernel; use SeparableKernel(name=...), TranslationInvariantKernel or PairKernel"
        )
    if not 1e-15 <= tolerance <= 1e-3:
        raise ValueError(f"the tolerance of a factorisation must lie between 1e-15 and 1e-3, not {shown(tolerance)}")


# ---------------------------------------------------------------------------------------------------------------------
# factorised kernels
# ---------------------------------------------------------------------------------------------------------------------


class ProductFeatures:
    """Features ``psi_k = prod_i psi_{k_i}(theta_i)`` over a box, those of negligible eigenvalue left out."""

    def __init__(self, factors: Sequence[AxisFactor], tolerance: float) -> None:
        self.factors = tuple(factors)
        self.ranks = tuple(factor.rank for factor in factors)
        sizes = reduce(np.multiply.outer, [factor.sizes for factor in factors]).ravel()
        self.signs = reduce(np.multiply.outer, [factor.signs for factor in factors]).ravel()
        keep = np.flatnonzero(sizes >= tolerance * sizes.max())
        self.index = None if keep.size == sizes.size else keep
        if self.index is not None:
            self.signs = self.signs[self.index]
        self._tables = Last(self._values_of_factors)

    @property
    def size(self) -> int:
        """The number of features."""
        return self.signs.size

    def spread(self, values: Array) -> Array:
        """Coefficients as a full tensor, flattened."""
        if self.index is None:
            return values
        full = np.zeros(math.prod(self.ranks))
        full[self.index] = values
        return full

    def _chunks(self, n: int) -> list[slice]:
        return in_chunks(n, max(sum(self.ranks), math.prod(self.ranks[:-1]) + self.ranks[-1]))

    def _values_of_factors(self, points: Array) -> list[Array]:
        return [factor.values(points[:, i]) for i, factor in enumerate(self.factors)]

    def moments(self, points: Array, weights: Array) -> Array:
        """``sum_i weights_i psi_k(points_i)``."""
        total = np.zeros((math.prod(self.ranks[:-1]), self.ranks[-1]))
        for piece in self._chunks(len(points)):
            tables = self._tables(points[piece])
            total += (rows_product([weights[piece][None, :], *tables[:-1]])) @ tables[-1].T
        flat = total.reshape(-1)
        return flat if self.index is None else flat[self.index]

    def moments_of_each(self, points: Array, weights: Array) -> Array:
        """`moments` of measures at points (m, n, d) with weights (m, n): shape ``(m, size)``."""
        m, n, d = points.shape
        tables = self._values_of_factors(points.reshape(m * n, d))
        rows = rows_product([weights.reshape(1, -1), *tables[:-1]]).reshape(-1, m, n)
        flat = np.matmul(rows.swapaxes(0, 1), tables[-1].reshape(-1, m, n).transpose(1, 2, 0)).reshape(m, -1)
        return flat if self.index is None else flat[:, self.index]

    def table(self, points: Array) -> Array:
        """``psi_k(points_i)``, shape ``(size, n)``."""
        full = rows_product(self._tables(points))
        return full if self.index is None else full[self.index]

    def values(self, points: Array, coefficients: Array) -> Array:
        """``sum_k coefficients_k psi_k(points_i)``."""
        matrix = self.spread(coefficients).reshape(-1, self.ranks[-1])
        result = np.empty(len(points))
        for piece in self._chunks(len(points)):
            tables = self._tables(points[piece])
            result[piece] = weave(tables[:-1], matrix @ tables[-1])
        return result

    def gradients(self, points: Array, coefficients: Array) -> Array:
        """The gradient of `values`, shape ``(n, d)``."""
        matrix = self.spread(coefficients).reshape(-1, self.ranks[-1])
        result = np.empty(points.shape)
        for piece in self._chunks(len(points)):
            tables = self._tables(points[piece])
            slopes = [factor.derivatives(points[piece, i]) for i, factor in enumerate(self.factors)]
            last = matrix @ tables[-1]
            for i in range(len(tables) - 1):
                result[piece, i] = weave([*tables[:i], slopes[i], *tables[i + 1 : -1]], last)
            result[piece, -1] = weave(tables[:-1], matrix @ slopes[-1])
        return result


def rows_product(tables: Sequence[Array]) -> Array:
    """The products of one row of each table, shape ``(r_1 ... r_m, n)``."""
    result = tables[0]
    for table in tables[1:]:
        result = (result[:, None, :] * table[None, :, :]).reshape(-1, table.shape[1])
    return result


def weave(tables: Sequence[Array], values: Array) -> Array:
    """The sum over rows of `rows_product` times `values`."""
    if not tables:
        return values.sum(axis=0)
    return np.asarray(np.einsum("kn,kn->n", rows_product(tables), values))


class BoundProductForm(BoundEnergy):
    """``weight/2 sum_k s_k (u_k - q_k)^2`` on a box; see `BoundEnergy`."""

    quadratic = True

    def __init__(
        self,
        axes: tuple[Axis, ...],
        features: ProductFeatures,
        weight: float,
        target: Array | None,
        name: str,
        convex: bool | None = None,
    ) -> None:
        self.axes = axes
        self.products, self.target, self.name = features, target, name
        self.coefficients = weight * features.signs
        self.convex = True if np.all(self.coefficients >= 0) else convex
        self.response_size = features.size

    def _moments(self, points: Array, weights: Array) -> Array:
        return self.products.moments(points, weights)

    def _moments_of_each(self, points: Array, weights: Array) -> Array:
        return self.products.moments_of_each(points, weights)

    def _features(self, points: Array) -> Array:
        return self.products.table(points)

    def _slope(self, moments: Array) -> Array:
        return self.coefficients * (moments if self.target is None else moments - self.target)

    def _curvature(self, moments: Array, changes: Array) -> Array:
        return self.coefficients[:, None] * changes

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self.products.values(points, self._slope(moments))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self.products.gradients(points, self._slope(moments))

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        excess = moments if self.target is None else moments - self.target
        return 0.5 * float(np.dot(self.coefficients * excess, excess))

    def _energy_of_each(self, points: Array, weights: Array, moments: Array) -> Array:
        excess = moments if self.target is None else moments - self.target
        return 0.5 * np.einsum("k,mk,mk->m", self.coefficients, excess, excess)

    def on(self, grid: Grid) -> GridEnergy:
        """The form on a grid."""
        self._check_grid(grid)
        return ProductFormOnGrid(self, grid)

    def memory(self, grid: Grid) -> Memory:
        """The tables of the factors along each axis, twice where cells follow, and what lies between two axes."""
        ranks, shape, d = self.products.ranks, grid.shape, grid.dimension
        tables = sum(rank * n for rank, n in zip(ranks, shape, strict=True))
        turned = sum(rank * n for rank, n in zip(ranks[:-1], shape[:-1], strict=True))
        between = sum(math.prod(ranks[: i + 1]) * math.prod(shape[i + 1 :]) for i in range(d - 1))
        back = sum(math.prod(ranks[:i]) * math.prod(shape[i:]) for i in range(1, d))
        features = math.prod(ranks)
        kept = 8.0 * (tables + turned + between + back + features)
        making = max(factor.width * min(n, BLOCK) for factor, n in zip(self.products.factors, shape, strict=True))
        return Memory(kept, 8.0 * making, 8.0 * 4 * features)

    @property
    def label(self) -> str:
        """What it is made of."""
        return self.name

    def __repr__(self) -> str:
        names = [axis.name for axis in self.axes]
        ranks = ", ".join(f"{name}: {rank}" for name, rank in zip(names, self.products.ranks, strict=True))
        return f"{self.name}: factorised, rank {self.response_size} of products ({ranks})"


class ProductFormOnGrid(GridEnergy):
    """``weight/2 sum_k s_k (u_k - q_k)^2`` on a grid: one matrix product an axis there and one back."""

    def __init__(self, bound: BoundProductForm, grid: Grid) -> None:
        self.grid, self.response_size, self._bound = grid, bound.response_size, bound
        features = bound.products
        self._coefficients, self._target, self._index = bound.coefficients, bound.target, features.index
        self._tables = [factor.table(grid.centres(i)) for i, factor in enumerate(features.factors)]
        ranks, shape = features.ranks, grid.shape
        self._full = np.zeros(math.prod(ranks))
        # along axis i an array is seen as (outer, n_i, inner): outer features done, inner cells to do
        self._down: list[Callable[[Array], Array]] = []
        self._up: list[Callable[[Array, Array | None], Array]] = []
        self._flops = 0
        for i, table in enumerate(self._tables):
            outer, n, inner = math.prod(ranks[:i]), shape[i], math.prod(shape[i + 1 :])
            last = i == len(shape) - 1
            self._down.append(contraction(table, outer, n, inner, keep=not last))
            self._up.append(expansion(table, outer, n, inner, keep=i > 0))
            self._flops += 4 * outer * table.shape[0] * n * inner
        self._up.reverse()
        self._volume = grid.cell_volume
        self._turns = Turns()

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and the moments of a density, axis by axis; V is written to `out` if that is there."""
        V = prepared_output(self.grid, mu, out)
        u = self._moments(mu)
        excess = u if self._target is None else u - self._target
        slope = self._coefficients * excess
        energy = 0.5 * float(np.dot(slope, excess))
        self._spread(slope, V)
        return V, energy, u

    def curvature(self, mu: Array) -> Callable[[Array], Array]:
        """The moments of the change, and the potential that they make: the same everywhere."""

        def along(h: Array) -> Array:
            result = np.empty(self.grid.shape)
            self._spread(self._coefficients * self._moments(np.ascontiguousarray(h)), result)
            return result

        return along

    @property
    def parts(self) -> tuple[GridPart, ...]:
        """Its tables, and a squared loss of the moments."""
        size = self._coefficients.size
        places = np.arange(size) if self._index is None else self._index
        targets = np.zeros(size) if self._target is None else self._target
        outputs = Outputs(SquaredLoss, self._coefficients, targets[:, None])
        return (ByTables(tuple(self._tables), places, outputs),)

    def _moments(self, mu: Array) -> Array:
        x = mu
        with self._turns:
            for down in self._down:
                x = down(x)
        u = x.reshape(-1) if self._index is None else x.reshape(-1)[self._index]
        u *= self._volume
        return u

    def _spread(self, slope: Array, V: Array) -> None:
        """Write ``sum_k slope_k psi_k`` on the cells to V."""
        with self._turns:
            if self._index is not None:
                self._full[self._index] = slope
                slope = self._full
            for up in self._up[:-1]:
                slope = up(slope, None)
            self._up[-1](slope, V)

    def _describe(self) -> list[str]:
        return [f"{self._bound!r}; axis by axis, {self._flops:,} flops an evaluation"]


def contraction(table: Array, outer: int, n: int, inner: int, keep: bool) -> Callable[[Array], Array]:
    """(outer, n, inner) -> (outer, r, inner) by the table (r, n); into a buffer that is kept, or into a fresh array."""
    r, cells = table.shape[0], outer * n * inner
    if outer == 1:
        row = table[0]
        buffer = np.empty((r, inner)) if keep else None
        if inner == 1:
            return lambda x: np.dot(table, x.reshape(-1))
        if r == 1:
            return lambda x: product(row, x.reshape(n, inner), cells)
        return lambda x: product(table, x.reshape(n, inner), cells, buffer)
    transposed = table.T
    if inner == 1:
        return lambda x: product(x.reshape(outer, n), transposed, cells)
    buffer3 = np.empty((outer, r, inner)) if keep else None
    return lambda x: product(table, x.reshape(outer, n, inner), cells, buffer3)


def expansion(table: Array, outer: int, n: int, inner: int, keep: bool) -> Callable[[Array, Array | None], Array]:
    """(outer, r, inner) -> (outer, n, inner) by the transposed table."""
    r, cells = table.shape[0], outer * n * inner
    buffer = np.empty((outer, n, inner)) if keep else np.empty(0)

    def into(out: Array | None) -> Array:
        return buffer if out is None else out

    if outer == 1 and inner == 1:
        return lambda x, out: np.dot(x.reshape(r), table, into(out).reshape(n))
    if inner == 1:
        return lambda x, out: product(x.reshape(outer, r), table, cells, into(out).reshape(outer, n))
    column = np.ascontiguousarray(table.T)
    if outer == 1 and r == 1:  # an amplitude: an outer product, written once
        return lambda x, out: np.multiply(column, x.reshape(1, inner), out=into(out).reshape(n, inner))
    if outer == 1:
        return lambda x, out: product(column, x.reshape(r, inner), cells, into(out).reshape(n, inner))
    return lambda x, out: product(column, x.reshape(outer, r, inner), cells, into(out).reshape(outer, n, inner))


# ---------------------------------------------------------------------------------------------------------------------
# kernels without a factorisation
# ---------------------------------------------------------------------------------------------------------------------


class BoundDirect(BoundEnergy):
    """A pair energy by direct sums over points and an operator on grids; see `BoundEnergy`."""

    direct = True
    quadratic = True

    def __init__(
        self, axes: tuple[Axis, ...], kernel: BoundKernel, weight: float, name: str, convex: bool | None = None
    ) -> None:
        self.axes, self.kernel, self.weight, self.name, self.convex = axes, kernel, weight, name, convex
        self._near = Last(self._near_sums)

    def _sum(self, matrix: Callable[[Array, Array], Array], points: Array, source: Source) -> Array:
        others, weights = source
        result = np.empty(len(points))
        for piece in in_chunks(len(points), len(others)):
            result[piece] = matrix(points[piece], others) @ weights
        result *= self.weight
        return result

    def _near_sums(self, points: Array, others: Array, weights: Array) -> tuple[Array, Array]:
        """Potential and gradient, where `BoundKernel.near` is known."""
        assert self.kernel.near is not None
        values, slopes = self.kernel.near(points, others, weights)
        values *= self.weight
        slopes *= self.weight
        return values, slopes

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        assert source is not None
        if self.kernel.near is not None:
            return self._near(points, *source)[0].copy()
        return self._sum(self.kernel.matrix, points, source)

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        assert source is not None
        if self.kernel.near is not None:
            return self._near(points, *source)[1].copy()
        columns = [
            self._sum(lambda p, q, i=i: self.kernel.derivatives(p, q, i), points, source)  # type: ignore[misc]
            for i in range(len(self.axes))
        ]
        return np.stack(columns, axis=1)

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return 0.5 * float(weights @ self._potential(points, moments, (points, weights)))

    def _curvature(self, moments: Array, changes: Array) -> Array:
        return changes  # there is no response: none at all

    def kernel_matrix(self, points: Array) -> Array:
        """The kernel times its weight, shape ``(n, n)``."""
        return self.weight * self.kernel.matrix(points, points)

    def sign_on(self, grid: Grid, free_mass: bool) -> int:
        """By what the kernel is on the mesh."""
        if self.convex:
            return 1
        return int(math.copysign(1, self.weight)) * self.kernel.sign_on(grid, free_mass)

    @property
    def label(self) -> str:
        """What it is made of."""
        return self.name

    def on(self, grid: Grid) -> GridEnergy:
        """The interaction on a grid."""
        self._check_grid(grid)
        return DirectOnGrid(self, grid)

    def memory(self, grid: Grid) -> Memory:
        """What the operator of the kernel takes."""
        return self.kernel.memory(grid)

    def __repr__(self) -> str:
        return f"{self.name}: no factorisation, direct sums over points"


class DirectOnGrid(GridEnergy):
    """A pair energy on a grid by an operator: dense per axis, or FFT."""

    def __init__(self, bound: BoundDirect, grid: Grid) -> None:
        self.grid, self._bound = grid, bound
        self._operator = bound.kernel.operator(grid)
        self._none = np.empty(0)
        self._turns = Turns()

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and an empty response of a density, by the operator; V is written to `out` if that is there."""
        V = prepared_output(self.grid, mu, out)
        with self._turns:  # what the operator gives belongs to the next call
            np.multiply(self._operator.apply(mu), self._bound.weight, out=V)
        energy = 0.5 * self.grid.cell_volume * float(np.dot(V.reshape(-1), mu.reshape(-1)))
        return V, energy, self._none

    def curvature(self, mu: Array) -> Callable[[Array], Array]:
        """The operator times the weight: the same everywhere."""

        def along(h: Array) -> Array:
            with self._turns:
                return self._bound.weight * self._operator.apply(h)

        return along

    @property
    def parts(self) -> tuple[GridPart, ...] | None:
        """The matrix of the operator, where it is one."""
        matrix = self._operator.matrix
        return None if matrix is None else (ByMatrix(self._bound.weight * matrix),)

    def _describe(self) -> list[str]:
        return [f"{self._bound.name}: {self._operator.description}"]
