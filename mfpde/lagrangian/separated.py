"""Potentials of one axis or some as sums of products of functions of one coordinate.

A factorised kernel is such a sum. Anything else with a response, and anything that is linear in the measure, is looked
at on a mesh of Chebyshev points: singular values tell how many functions of each coordinate it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.base import BoundEnergy
from mfpde.equation.energy.gradients import probe_points
from mfpde.equation.energy.interaction import BoundProductForm
from mfpde.equation.energy.losses import HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.equation.grid import Axis
from mfpde.lagrangian.bulk import Bulk
from mfpde.lagrangian.compiled.packing import filled
from mfpde.lagrangian.tables import RoughError, chebyshev
from mfpde.support.arrays import Array

__all__ = ["Basis", "Block", "Outputs", "blocks_of", "products_of"]

POINTS = {1: (129, 513, 2049), 2: (25, 49, 97, 193), 3: (17, 33, 65, 129), 4: (11, 21, 41)}
"""Chebyshev points along each axis of the meshes, by dimension."""
MOST_RANK = 128
"""Functions of one coordinate, at most: with more, sums over them are no faster than what they stand for."""
MOST_VALUES = 2**22
"""Values on such a mesh, at most."""
CUT = 0.1
"""Share of the accuracy below which singular values are left out: what they stand for is steeper than the rest."""
OF_PRODUCTS = 0.1
"""The same of products, over that of each function, in tables for where the mass is: places may be far out along two
axes at once."""
MIXED_POINTS = 129
"""Chebyshev points along an axis, at least, on which mixtures of features are found."""
PROBES = 61
"""Points at which a sum of products is held against what it stands for."""

Basis = Callable[[Array], Array]
"""Some functions of one coordinate: ``(n,) -> (r, n)``."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """A loss of outputs, ``sum_j l_j(o_j)`` with ``o = A U``; without `matrix` these are the moments U themselves.

    Attributes
    ----------
    matrix : array, shape (M, moments), optional
    kind : type
        `SquaredLoss`, `LogisticLoss` or `HuberLoss`.
    weights, targets : array, shape (M,)
        Of a squared loss the derivative is ``weights * o - targets``.
    delta : float
        Of a Huber loss.
    """

    matrix: Array | None
    kind: type[Loss]
    weights: Array
    targets: Array
    delta: float = 1.0


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a potential: products of functions of each coordinate.

    Attributes
    ----------
    bases : sequence of Basis
        One an axis, of sizes ``ranks``.
    ranks : tuple of int
    outputs : Outputs, optional
        What makes the coefficients from the moments; None where they are given.
    coefficients : array, shape (ranks)
        Given ones.
    shrinking : bool
        Whether a function's coefficient is no larger than the function: that of a factorised kernel is its own moment.
    used : array of bool, shape (ranks), optional
        Which products matter; default: all.
    """

    bases: Sequence[Basis]
    ranks: tuple[int, ...]
    outputs: Outputs | None
    coefficients: Array
    shrinking: bool = False
    used: NDArray[np.bool_] | None = None


def blocks_of(bound: BoundEnergy, accuracy: float, bulk: Bulk | None = None) -> list[Block]:
    """An energy as blocks.

    Parameters
    ----------
    bound : BoundEnergy
    accuracy : float
        Relative to the largest values of a part.
    bulk : Bulk, optional
        Where the mass is: elsewhere the accuracy is less. Default: it is the same everywhere.

    Raises
    ------
    RoughError
        If it is no sum of few products, with the reason.
    """
    blocks, linear = [], []
    for part in bound.parts:
        if part.direct or "response" not in part.capabilities:
            raise RoughError(f"{part.label} does not factorise")
        if isinstance(part, BoundProductForm):
            blocks.append(_of_factors(part, accuracy, bulk))
        elif part.response_size:
            blocks.append(_of_outputs(part, accuracy, bulk))
        else:
            linear.append(part)
    if linear:

        def potential(points: Array) -> Array:
            return np.asarray(sum(part.potential(points, np.empty(0)) for part in linear))[None]

        what = " + ".join(part.label for part in linear)
        blocks.append(products_of(potential, bound.axes, accuracy, what, bulk))
    return blocks


def products_of(
    values: Callable[[Array], Array], axes: Sequence[Axis], accuracy: float, what: str, bulk: Bulk | None = None
) -> Block:
    """A function of a place, ``values(points)`` of shape (1, n), as a block with given coefficients.

    Raises
    ------
    RoughError
        If it is no sum of few products.
    """
    found = _products(values, axes, accuracy, what, bulk)
    return Block(found.bases, found.ranks, None, found.matrix.reshape(found.ranks), used=found.used)


def _of_factors(part: BoundProductForm, accuracy: float, bulk: Bulk | None) -> Block:
    """A factorised kernel; features of eigenvalues below the accuracy are left out."""
    products = part.products
    if bulk is not None and (products.signs > 0.0).all():
        return _of_mixtures(part, accuracy, bulk)
    sizes = [factor.sizes / factor.sizes.max() for factor in products.factors]
    kept = [np.flatnonzero(size >= accuracy) for size in sizes]
    bases = [_some(factor.values, rows) for factor, rows in zip(products.factors, kept, strict=True)]

    def tensor(values: Array) -> Array:
        return products.spread(values).reshape(products.ranks)[np.ix_(*kept)].ravel()

    weights = tensor(part.coefficients)
    used = reduce(np.multiply.outer, [size[rows] for size, rows in zip(sizes, kept, strict=True)]) >= accuracy
    weights = np.where(used.ravel(), weights, 0.0)
    target = np.zeros_like(weights) if part.target is None else weights * tensor(part.target)
    ranks = tuple(len(rows) for rows in kept)
    return Block(bases, ranks, Outputs(None, SquaredLoss, weights, target), np.zeros(ranks), True, used)


def _of_mixtures(part: BoundProductForm, accuracy: float, bulk: Bulk) -> Block:
    """A positive factorised kernel by those mixtures of its features that are large where the mass is, or the target.

    The features F of a kernel ``F . F'`` are projected onto these.
    """
    products = part.products
    target = None if part.target is None else products.spread(part.target).reshape(products.ranks)
    mixtures, sizes = [], []
    for i, (axis, factor) in enumerate(zip(part.axes, products.factors, strict=True)):
        nodes = chebyshev(max(MIXED_POINTS, 4 * factor.rank))
        x = 0.5 * (axis.lower + axis.upper) + 0.5 * axis.length * nodes
        rows = factor.values(x) * (bulk.share(i, x) * (1.0 - nodes**2) ** 0.25)
        U, size, _ = np.linalg.svd(rows, full_matrices=False)
        if target is not None:
            own, parts, _ = np.linalg.svd(_unfolded(target[None], i), full_matrices=False)
            rows = np.concatenate([U * size, own * (parts * (size[0] / (parts[0] or 1.0)))], axis=1)
            U, size, _ = np.linalg.svd(rows, full_matrices=False)
        share = (size / (size[0] or 1.0)) ** 2
        keep = filled(max(1, int(np.count_nonzero(share >= CUT * accuracy))))  # what fills up a group costs nothing
        mixtures.append(np.ascontiguousarray(U[:, :keep].T))
        sizes.append(share[:keep])
    used = reduce(np.multiply.outer, sizes) >= OF_PRODUCTS * CUT * accuracy
    weights = np.where(used, part.coefficients[0], 0.0)
    if target is not None:
        for rows in mixtures:  # the first of the axes left goes, its functions come last
            target = np.tensordot(target, rows, axes=(0, 1))
    targets = np.zeros_like(weights) if target is None else weights * target
    bases = [_mixture(factor.values, rows) for factor, rows in zip(products.factors, mixtures, strict=True)]
    outputs = Outputs(None, SquaredLoss, weights.ravel(), targets.ravel())
    return Block(bases, weights.shape, outputs, np.zeros(weights.shape), True, used)


def _mixture(values: Basis, rows: Array) -> Basis:
    return lambda x: np.asarray(rows @ values(x))


def _some(values: Basis, rows: NDArray[np.intp]) -> Basis:
    return lambda x: values(x)[rows]


def _of_outputs(part: BoundEnergy, accuracy: float, bulk: Bulk | None) -> Block:
    """The loss of a network's outputs, or of a user's moments."""
    if part.outcome is None:
        raise RoughError(f"{part.label} is not said to be a loss of its response")
    loss, matrix = part.outcome
    if type(loss) not in (SquaredLoss, LogisticLoss, HuberLoss):
        raise RoughError(f"the loss {type(loss).__name__} of {part.label} is not compiled")
    targets, weights = loss.targets.ravel(), loss.weights  # type: ignore[attr-defined]
    if targets.size != len(weights):
        raise RoughError(f"{part.label} has several outputs")
    squared = type(loss) is SquaredLoss
    rows = np.eye(part.response_size) if matrix is None else matrix
    if squared:  # in outputs of weight 1
        rows, targets = np.sqrt(weights)[:, None] * rows, np.sqrt(weights) * targets
    # few outputs make all of them
    back, few = np.linalg.qr(rows) if len(rows) > rows.shape[1] else (None, rows)
    found = _products(lambda points: few @ part.features(points), part.axes, accuracy, part.label, bulk)
    bases, ranks, A, used = found
    if not squared:
        A = A if back is None else back @ A
        delta = loss.delta if isinstance(loss, HuberLoss) else 1.0
        return Block(bases, ranks, Outputs(A, type(loss), weights, targets, delta), np.zeros(ranks), used=used)
    targets = targets if back is None else back.T @ targets
    # turned into as few outputs as there are products; columns of A differ by many orders of magnitude, and a product
    # keeps the digits of each
    left = np.linalg.svd(A, full_matrices=False)[0]
    outputs = Outputs(left.T @ A, SquaredLoss, np.ones(left.shape[1]), left.T @ targets)
    return Block(bases, ranks, outputs, np.zeros(ranks), used=used)


class _Products(NamedTuple):
    """Functions of a place as products of functions of each coordinate.

    Attributes
    ----------
    bases : list of Basis
    ranks : tuple of int
        Their sizes.
    matrix : array, shape (M, product of sizes)
        What makes M functions of their products.
    used : array of bool, shape (ranks), optional
        Which products matter; None for all.
    """

    bases: list[Basis]
    ranks: tuple[int, ...]
    matrix: Array
    used: NDArray[np.bool_] | None


def _products(
    values: Callable[[Array], Array], axes: Sequence[Axis], accuracy: float, what: str, bulk: Bulk | None
) -> _Products:
    """Functions of a place, ``values(points)`` of shape (M, n), by products."""
    probes = probe_points(axes, PROBES) if bulk is None else bulk.probes(PROBES)
    wanted = _finite(values(probes), what)
    scale = float(np.abs(wanted).max(initial=0.0))
    for n in POINTS[len(axes)]:
        if len(wanted) * n ** len(axes) > MOST_VALUES:
            break
        lines = [0.5 * (axis.lower + axis.upper) + 0.5 * axis.length * chebyshev(n) for axis in axes]
        points = np.stack([c.ravel() for c in np.meshgrid(*lines, indexing="ij")], axis=1)
        tensor = _finite(values(points), what).reshape(-1, *(n,) * len(axes))
        scale = max(scale, float(np.abs(tensor).max(initial=0.0)))
        worth = [np.ones(n) if bulk is None else bulk.share(i, line) for i, line in enumerate(lines)]
        found = [_functions(tensor, i, accuracy, worth[i]) for i in range(len(axes))]
        used = None
        if len(axes) == 1:  # mixtures of the functions that it is made of
            A = np.linalg.svd(tensor, full_matrices=False)[0][:, : found[0].shape[1]]
            bases: list[Basis] = [_mixture(lambda x: values(x[:, None]), np.ascontiguousarray(A.T))]
        else:
            bases = [_sections(values, tensor, lines, i, U, worth[i]) for i, U in enumerate(found)]
            core = tensor
            for U, counts in zip(found, worth, strict=True):  # the first of the axes left goes, its functions come last
                core = np.tensordot(core, counts[:, None] * U / (U * U).sum(axis=0), axes=(1, 0))
            A = core.reshape(len(tensor), -1)
            if len(axes) > 2:
                used = _which_matter(A, found, CUT * accuracy * scale)
                A = np.where(used.ravel(), A, 0.0)
        there = reduce(_times, [basis(probes[:, i]) for i, basis in enumerate(bases)])
        if float(np.abs(A @ there - wanted).max(initial=0.0)) <= max(10.0 * accuracy, 1e-13) * scale:
            ranks = tuple(U.shape[1] for U in found)
            if max(ranks) > MOST_RANK:
                raise RoughError(f"{what} is a sum of {max(ranks)} products: too many")
            return _Products(bases, ranks, A, used)
    raise RoughError(f"{what} is no sum of few products, or not smooth")


def _which_matter(A: Array, found: Sequence[Array], least: float) -> NDArray[np.bool_]:
    """Which products of functions, whose values on a mesh are columns, give as much to one of the rows of A."""
    largest = reduce(np.multiply.outer, [np.abs(U).max(axis=0) for U in found])
    return np.asarray(np.abs(A).max(axis=0).reshape(largest.shape) * largest >= least)


def _times(one: Array, other: Array) -> Array:
    """All products of functions with values (r, n) and (q, n): shape (r q, n)."""
    return (one[:, None, :] * other[None, :, :]).reshape(-1, one.shape[1])


def _finite(values: Array, what: str) -> Array:
    if not np.isfinite(values).all():
        raise RoughError(f"{what} is not finite everywhere")
    return values


def _unfolded(tensor: Array, i: int) -> Array:
    """An array (M, n_0, n_1, ...) with one function of axis `i` in each column."""
    return np.moveaxis(tensor, i + 1, 0).reshape(tensor.shape[i + 1], -1)


def _functions(tensor: Array, i: int, accuracy: float, worth: Array) -> Array:
    """Orthogonal vectors along an axis of an array (M, n_0, n_1, ...), in which it is to the accuracy.

    They are as long as the part that they have in it: small parts come with errors of rounding that are large in them.
    What is at a point, of array and vectors, is multiplied with what that is worth.
    """
    matrix = worth[:, None] * _unfolded(tensor, i)
    if matrix.shape[1] > matrix.shape[0]:
        matrix = np.asarray(np.linalg.qr(matrix.T, mode="r")).T
    U, size, _ = np.linalg.svd(matrix, full_matrices=False)
    if size[0] == 0.0:  # nothing at all
        return U[:, :1]
    keep = max(1, int(np.count_nonzero(size > max(CUT * accuracy, 1e-15) * size[0])))
    return U[:, :keep] * (size[:keep] / size[0])


def _sections(
    values: Callable[[Array], Array], tensor: Array, lines: Sequence[Array], i: int, vectors: Array, worth: Array
) -> Basis:
    """Functions of axis `i` with values `vectors` on the mesh: mixtures of what a few lines across the mesh show."""
    from scipy.linalg import qr

    columns, rest = worth[:, None] * _unfolded(tensor, i), [j for j in range(len(lines)) if j != i]
    pivots = qr(vectors.T @ columns, mode="r", pivoting=True, check_finite=False)[1][: vectors.shape[1]]
    mixture = np.linalg.lstsq(columns[:, pivots], vectors, rcond=1e-15)[0].T
    sizes = [len(lines[j]) for j in rest]
    which, where = np.divmod(pivots, math.prod(sizes))
    others, back = np.unique(where, return_inverse=True)
    across = [lines[j][at] for j, at in zip(rest, np.unravel_index(others, sizes), strict=True)]

    def basis(x: Array) -> Array:
        points = np.empty((len(others), len(x), len(lines)))
        points[:, :, i] = x
        for j, there in zip(rest, across, strict=True):
            points[:, :, j] = there[:, None]
        sections = values(points.reshape(-1, len(lines))).reshape(-1, len(others), len(x))
        return np.asarray(mixture @ sections[which, back])

    return basis
