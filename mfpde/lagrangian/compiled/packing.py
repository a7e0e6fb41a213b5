r"""What moves nodes, as numbers: tables and coefficients, and how they lie in one array for the compiled program.

Inner functions come in groups of four, which are one vector, and groups in pairs. A pair is multiplied with those outer
functions only with which it has coefficients, one after the other, and so coefficients and moments are kept: group by
group, of each the outer functions in turn, of each of these four numbers. The last pair may lack its second group: its
coefficients are 0, and what stands in its place is anything.

With three axes or four the inner functions are themselves products: of one function of each axis in the middle, which
is the same for a whole group, and four functions of the last axis that stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array
from mfpde.support.interpreted import FEW

__all__ = [
    "AXIS",
    "BLOCK",
    "GROUP",
    "HUBER",
    "LOGISTIC",
    "NODES",
    "QUADRATIC",
    "BlockRow",
    "Evaluated",
    "EvaluatedSeveral",
    "Motion",
    "SEVERAL",
    "STAND",
    "filled",
    "nodes_together",
    "products_of_a_node",
    "room",
]

QUADRATIC, LOGISTIC, HUBER = 0, 1, 2
"""Losses."""

NODES = 32
"""Nodes whose functions stay in the first cache while their moments are added up."""
AXIS = 8
"""Numbers that tell of an axis."""
GROUP = 4
"""Numbers that tell of a group: its first outer function, the one after its last, the same of those with moments, and
where its coefficients begin."""
BLOCK = 6
"""Numbers that tell of a block: where its coefficients begin and how many they are, its loss, how many outputs it has
(none where these are the moments), where their matrix begins, and where weights and targets do."""
HEAD = 2 * AXIS + 20
"""Numbers before the arrays in what `Motion.packed` gives."""
STAND = 5
"""Numbers that tell of the functions of a group where there are three axes or four: where in a row the one of each of
two middle axes stands, behind each of these its slope, and where those of the last axis begin."""
SEVERAL = 24
"""Numbers before what tells of axes, where there are so many."""
MOST_PRODUCTS = 4096
"""Products of functions of some nodes that stay in the first cache while moments are added up."""


def filled(count: int) -> int:
    """So many functions in full groups."""
    return -(-count // FEW) * FEW


class BlockRow(NamedTuple):
    """Coefficients that are computed: of the outer functions from `first` to before `last`, and the inner ones from
    `low`, a multiple of four, to before `high`.

    Attributes
    ----------
    first, last, low, high : int
    loss : int
        `QUADRATIC`, `LOGISTIC` or `HUBER`.
    outputs : int
        Their number; 0 where they are the moments.
    matrix : int
        Where A, of shape (outputs, moments), begins in `Motion.matrices`.
    start : int
        Where weights and targets begin.
    """

    first: int
    last: int
    low: int
    high: int
    loss: int
    outputs: int
    matrix: int
    start: int


class Motion(NamedTuple):
    """What moves nodes, as numbers.

    What is by axes begins with the outer one and ends with the last; with one axis or two, that is the inner one.

    Attributes
    ----------
    tables : sequence of array, shape (pieces, degree + 1, functions)
        Of each axis: coefficients of powers of ``t`` in [-1, 1] on each piece of the axis. Of one axis the outer table
        is 1. Functions that only fill up a group are 0.
    ends : sequence of (float, float)
    periodic : sequence of bool
    columns : sequence of int
        Where the coordinates stand in a place, -1 where there is none.
    inner : array of int, shape (groups, axes - 1)
        Of each group of four inner functions the function of each axis in the middle, and the first of those of the
        last axis.
    used : array of bool, shape (outer functions, inner functions)
        Which products have coefficients that matter.
    given : array, shape (1 + k, outer functions, inner functions)
        Coefficients C, those that are computed 0; and those of functions that are factors of the velocity.
    factors : sequence of int
        Which of these is that of the velocity along each axis, 0 for none.
    metric : sequence of float
        Numbers that are factors of the velocity along each axis.
    blocks : sequence of BlockRow
    matrices : array
        All ``A``, flat.
    weights, targets : array
        Of the outputs. The derivative of a squared loss is ``weights * o - targets``.
    delta : float
        Where Huber losses turn linear.
    constant : float
        What the energy has besides the losses and the linear part.
    reacts, balanced : bool
    """

    tables: tuple[Array, ...]
    ends: tuple[tuple[float, float], ...]
    periodic: tuple[bool, ...]
    columns: tuple[int, ...]
    inner: NDArray[np.int64]
    used: NDArray[np.bool_]
    given: Array
    factors: tuple[int, ...]
    metric: tuple[float, ...]
    blocks: tuple[BlockRow, ...]
    matrices: Array
    weights: Array
    targets: Array
    delta: float
    constant: float
    reacts: bool
    balanced: bool

    @property
    def outputs(self) -> int:
        """How many numbers losses are of, some of them nothing but room."""
        return sum(int(row[3] or row[1]) for row in _Layout(self).blocks()[0])

    @property
    def several(self) -> bool:
        """Whether there are three axes or four: `mfpde.lagrangian.compiled.several` reads what is packed of these."""
        return len(self.tables) > 2

    def of_products(self, values: Sequence[Array]) -> Array:
        """Values of all inner functions, shape (..., inner), from those of each axis but the outer one."""
        lanes = np.arange(FEW)
        result = np.ones(1)
        for i, along in enumerate(values):
            first = self.inner[:, i, None]
            at = first + (lanes if i == len(values) - 1 else np.zeros_like(lanes))
            result = result * along[..., at.ravel()]
        return result

    def kept(self, values: Array) -> Array:
        """What is by outer and inner functions, shape (..., outer, inner), in the order in which it is kept."""
        return _Layout(self).flat(values)

    def packed(self) -> Array:
        """All of it in one array, as `read` reads it."""
        layout = _Layout(self)
        arrays = [
            *self.tables,
            np.array(layout.groups, dtype=float),
            np.array([layout.flat(given) for given in self.given]),
            *layout.blocks(),
        ]
        if self.several:
            arrays.append(self._stands(len(layout.groups)))
        axes: list[float] = []
        for table, (low, high), periodic, column in zip(
            self.tables, self.ends, self.periodic, self.columns, strict=True
        ):
            axes += [*table.shape, low, high, len(table) / (high - low), periodic, column]
        length = SEVERAL + len(axes) if self.several else HEAD
        starts = length + np.concatenate([[0], np.cumsum([array.size for array in arrays])])
        common = [len(self.blocks), self.delta, self.constant, 2.0 * self.reacts + self.balanced]
        if self.several:
            d, rest = len(self.tables), [0.0] * (4 - len(self.tables))
            head = [d, len(layout.groups), layout.size, *common, nodes_together(self)]
            head += [*self.factors, *rest, *self.metric, *rest, *starts[d:-1]]
            head += [*[0.0] * (SEVERAL - len(head)), *axes]
        else:
            head = [*axes, len(layout.groups), layout.size, 0.0, *self.factors, *self.metric, *common, *starts[:8]]
            head += [0.0] * (HEAD - len(head))
        return np.concatenate([np.array(head), *(np.ravel(array) for array in arrays)])

    def _stands(self, groups: int) -> Array:
        """Where in a row the functions of each group stand, see `STAND`."""
        widths = np.array([table.shape[2] for table in self.tables])
        begins = 2 * np.cumsum([0, *widths[:-1]])[1:]
        at = np.concatenate([self.inner, np.repeat(self.inner[:1], groups - len(self.inner), axis=0)])
        stands = np.zeros((groups, STAND))
        stands[:, 4] = begins[-1] + at[:, -1]
        for i in range(at.shape[1] - 1):
            stands[:, 2 * i] = begins[i] + at[:, i]
            stands[:, 2 * i + 1] = stands[:, 2 * i] + widths[1 + i]
        return stands


def _outer_ones(used: NDArray[np.bool_], several: bool) -> tuple[int, int]:
    """Between which outer functions those are with which a pair of groups is multiplied."""
    outer = np.flatnonzero(used.any(axis=1))
    first, last = (int(outer[0]), int(outer[-1]) + 1) if len(outer) else (0, 0)
    if several:  # two by two
        return first // 2 * 2, -(-last // 2) * 2
    if last - first > 2:  # moments are added four by four
        first, last = first // FEW * FEW, -(-last // FEW) * FEW
    return first, last


def products_of_a_node(used: NDArray[np.bool_]) -> int:
    """How many numbers an evaluation multiplies for a node, about, with three axes or four: with each coefficient the
    value and the slope of an outer function, to add up a moment as well, and eight with what remains of an inner one.
    """
    ends = [_outer_ones(used[:, low : low + 2 * FEW], True) for low in range(0, used.shape[1], 2 * FEW)]
    return sum(2 * FEW * (3 * (last - first) + 8) for first, last in ends)


class _Layout:
    """Where coefficients stand, see the top of the module."""

    def __init__(self, motion: Motion) -> None:
        self.motion = motion
        self.groups: list[tuple[int, int, int, int]] = []
        self.size = 0
        computed = np.zeros_like(motion.used)
        for row in motion.blocks:
            computed[row.first : row.last, row.low : row.high] = True
        for low in range(0, motion.used.shape[1], 2 * FEW):
            first, last = _outer_ones(motion.used[:, low : low + 2 * FEW], motion.several)
            for columns in (slice(low, low + FEW), slice(low + FEW, low + 2 * FEW)):
                with_moments = last if computed[:, columns].any() else first
                self.groups.append((first, last, with_moments, self.size))
                self.size += FEW * (last - first)

    def flat(self, values: Array, groups: slice = slice(None)) -> Array:
        """What is by outer and inner functions, shape (..., outer, inner), in the order in which it is kept."""
        wide = np.zeros((*values.shape[:-1], FEW * len(self.groups)))
        wide[..., : values.shape[-1]] = values
        parts = [
            wide[..., first:last, FEW * g : FEW * (g + 1)].reshape(*values.shape[:-2], -1)
            for g, (first, last, _, _) in list(enumerate(self.groups))[groups]
        ]
        return np.concatenate([np.zeros((*values.shape[:-2], 0)), *parts], axis=-1)

    def wide(self, values: Array) -> Array:
        """What is kept in that order (size,), by outer and inner functions."""
        result = np.zeros((len(self.motion.used), FEW * len(self.groups)))
        for g, (first, last, _, offset) in enumerate(self.groups):
            part = values[offset : offset + FEW * (last - first)]
            result[first:last, FEW * g : FEW * (g + 1)] = part.reshape(-1, FEW)
        return result[:, : self.motion.used.shape[1]]

    def blocks(self) -> tuple[Array, Array, Array, Array]:
        """Rows of all blocks, matrices, weights, and targets."""
        motion, rows = self.motion, []
        matrices, weights, targets = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        for row in motion.blocks:
            groups = slice(row.low // FEW, -(-row.high // FEW))
            products = (row.last - row.first) * (row.high - row.low)
            offset = self.groups[groups.start][3]
            size = sum(FEW * (last - first) for first, last, _, _ in self.groups[groups])
            count = row.outputs or products
            own = [values[row.start : row.start + count] for values in (motion.weights, motion.targets)]
            rows.append([offset, size, row.loss, row.outputs, sum(map(len, matrices)), sum(map(len, weights))])
            if row.outputs:
                matrix = motion.matrices[row.matrix : row.matrix + count * products].reshape(count, products)
                matrices.append(self._wide(row, matrix, groups).ravel())
            else:
                own = [self._wide(row, values, groups) for values in own]
            weights.append(own[0])
            targets.append(own[1])
        return np.array(rows), np.concatenate(matrices), np.concatenate(weights), np.concatenate(targets)

    def _wide(self, row: BlockRow, values: Array, groups: slice) -> Array:
        """What is by the products of a block, shape (..., products), in the order in which it is kept."""
        wide = np.zeros((*values.shape[:-1], *self.motion.used.shape))
        wide[..., row.first : row.last, row.low : row.high] = values.reshape(
            *values.shape[:-1], row.last - row.first, row.high - row.low
        )
        return self.flat(wide, groups)


def room(motion: Motion, n: int, size: int, stages: int) -> int:
    """How many numbers of `Work`, all 0, a run of `n` nodes and a state of some size takes."""
    widths = [table.shape[2] for table in motion.tables]
    coefficients = motion.given.shape[1] * (motion.given.shape[2] + FEW)
    products = nodes_together(motion) * (motion.used.shape[1] + FEW) if motion.several else 0
    rows = 2 * (n + FEW) * sum(widths)
    return (stages + 2) * size + n + rows + products + NODES * (widths[0] + 2) + 2 * coefficients + 32


def nodes_together(motion: Motion) -> int:
    """Nodes whose products of functions stay in the first cache, with three axes or four; a multiple of four."""
    return min(max(MOST_PRODUCTS // motion.used.shape[1] // FEW, 1) * FEW, NODES)


class Evaluated:
    """What `move` leaves in the room of a run.

    Parameters
    ----------
    motion : Motion
    n, size, stages : int
        Of nodes, of entries of a state, and of stages, see `room`.
    """

    def __init__(self, motion: Motion, n: int, size: int, stages: int) -> None:
        self._layout, (self._outer, self._inner) = _Layout(motion), motion.used.shape
        self._rows = (stages + 2) * size + n
        self._start = (
            self._rows + 2 * (n + FEW) * sum(motion.used.shape) + NODES * (self._outer + 2) + self._layout.size
        )
        self._of_one_axis = motion.columns[0] < 0

    def read(self, space: Array) -> tuple[Array, Array]:
        """Coefficients C, and products of the values of all functions at the first node.

        Returns
        -------
        coefficients, values : array, shape (outer functions, inner functions)
        """
        first, second = self._rows, self._rows + 2 * self._outer
        outer = np.eye(1, self._outer)[0] if self._of_one_axis else space[first : first + self._outer]
        coefficients = self._layout.wide(space[self._start : self._start + self._layout.size])
        return coefficients, np.outer(outer, space[second : second + self._inner])


class EvaluatedSeveral:
    """The same with three axes or four: coefficients in the order in which they are kept.

    Parameters
    ----------
    motion : Motion
    n, size, stages : int
        See `Evaluated`.
    """

    def __init__(self, motion: Motion, n: int, size: int, stages: int) -> None:
        self._motion, self._size = motion, _Layout(motion).size
        self._widths = [table.shape[2] for table in motion.tables]
        self._rows = (stages + 2) * size + n
        products = nodes_together(motion) * FEW * len(_Layout(motion).groups)
        rows = 2 * (n + FEW) * sum(self._widths)
        self._start = self._rows + rows + products + NODES * (self._widths[0] + 2) + self._size

    def read(self, space: Array) -> tuple[Array, Array]:
        """Coefficients, and products of the values of all functions at the first node.

        Returns
        -------
        coefficients, values : array, shape (1, products)
        """
        at, values = self._rows, []
        for width in self._widths:
            values.append(space[at : at + width])
            at += 2 * width
        inner = self._motion.of_products(values[1:])
        coefficients = space[self._start : self._start + self._size]
        return coefficients[None], self._motion.kept(np.outer(values[0], inner))[None]
