r"""Velocities and growth of nodes from tables of functions: the right-hand side of the characteristics.

A potential of one axis or two is

.. math:: V(x, y) = \sum_{kl} C_{kl}\, p_k(x)\, q_l(y),

with functions ``p`` of the outer axis and ``q`` of the inner one (with one axis it is the inner one, and ``p = 1``).
Some coefficients are given. Blocks of the others come from their moments ``U_kl = int p_k q_l dmu`` as ``A' L'(A U)``,
with a loss L. All functions of an axis stand side by side in tables, padded with zeros to vectors of `COUNT`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mfpde.support.arrays import Array
from mfpde.support.compiling import compiled
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import folded, fused, load, spread, store
from mfpde.support.pointers import at, peek, put, shift, smaller, whole

__all__ = [
    "HUBER",
    "LOGISTIC",
    "OPTIONS",
    "QUADRATIC",
    "BlockRow",
    "Motion",
    "Work",
    "carve",
    "inlined",
    "inner",
    "move",
    "of_one",
    "read",
    "room",
]

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "fastmath": {"reassoc", "contract", "nsz"},
}
inner = compiled(**(OPTIONS | {"cache": False, "no_cpython_wrapper": True}))
"""Compiled as part of what calls it."""
inlined = compiled(**(OPTIONS | {"cache": False, "no_cpython_wrapper": True, "inline": "always"}))
"""Put into the one place that calls it before that is compiled, which takes less time."""

QUADRATIC, LOGISTIC, HUBER = 0, 1, 2
"""Losses."""

NODES = 32
"""Nodes whose functions stay in the first cache while their moments are added up."""
AXIS = 8
"""Numbers that tell of an axis."""
BLOCK = 8
"""Numbers that tell of a block."""
HEAD = 2 * AXIS + 16
"""Numbers before the arrays in what `Motion.packed` gives."""


class BlockRow(NamedTuple):
    """Coefficients that are computed: of the outer functions from `first` to before `last`, and the inner ones from
    `low` to before `high`.

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

    Attributes
    ----------
    tables : (array, array), shape (pieces, degree + 1, functions)
        Of the outer and the inner axis: coefficients of powers of ``t`` in [-1, 1] on each piece of the axis. Of one
        axis the outer table is 1.
    ends : sequence of (float, float)
        Of the outer and the inner axis.
    periodic : sequence of bool
    columns : (int, int)
        Where the outer and the inner coordinate stand in a place, -1 where there is none.
    functions : int
        How many outer functions there are; their table may have more, which are 0.
    with_moments : int
        The first how many of these have moments.
    given : array, shape (1 + k, functions, inner functions)
        Coefficients C, those that are computed 0; and those of functions that are factors of the velocity.
    factors : (int, int)
        Which of these is that of the outer and of the inner velocity, 0 for none.
    metric : (float, float)
        Numbers that are factors of the outer and the inner velocity.
    blocks : sequence of BlockRow
    matrices : array
        All ``A``, flat.
    weights, targets : array
        Of the outputs. The derivative of a squared loss is ``weights * o - targets``.
    delta : float
        Where Huber losses turn linear.
    reacts, balanced : bool
    """

    tables: tuple[Array, Array]
    ends: tuple[tuple[float, float], tuple[float, float]]
    periodic: tuple[bool, bool]
    columns: tuple[int, int]
    functions: int
    with_moments: int
    given: Array
    factors: tuple[int, int]
    metric: tuple[float, float]
    blocks: tuple[BlockRow, ...]
    matrices: Array
    weights: Array
    targets: Array
    delta: float
    reacts: bool
    balanced: bool

    def packed(self) -> Array:
        """All of it in one array, as `read` reads it."""
        arrays = [
            *self.tables,
            self.given,
            np.array(self.blocks, dtype=float),
            self.matrices,
            self.weights,
            self.targets,
        ]
        starts = HEAD + np.concatenate([[0], np.cumsum([array.size for array in arrays])])
        head: list[float] = []
        for a in range(2):
            pieces, order, size = self.tables[a].shape
            low, high = self.ends[a]
            head += [pieces, order, size, low, high, pieces / (high - low), self.periodic[a], self.columns[a]]
        head += [self.functions, self.with_moments, *self.factors, *self.metric, len(self.blocks), self.delta]
        head += [2.0 * self.reacts + self.balanced, *starts[:7]]
        return np.concatenate([np.array(head), *(np.ravel(array) for array in arrays)])


class Reading(NamedTuple):
    """What `Motion.packed` gives, by pointers."""

    head: Any
    functions: int
    with_moments: int
    width: int
    outer_width: int
    reacts: bool
    balanced: bool


class Work(NamedTuple):
    """Room of a run for N nodes and k stages, by pointers.

    Attributes
    ----------
    K : pointer, k states
    stage, fresh : pointer, one state
    w : pointer, (N,)
        Weights.
    rows : pointer, (N, length)
        Of each node the values of all outer functions, their slopes, and the same of the inner ones.
    moments : pointer, (with_moments, width)
    coefficients : pointer, (functions, width)
    outputs : pointer
    few : pointer, (32,)
        A value and its slopes at a node; weights of stages.
    n, size, length : int
        Of nodes, entries of a state, and of a row.
    """

    K: Any
    stage: Any
    fresh: Any
    w: Any
    rows: Any
    moments: Any
    coefficients: Any
    outputs: Any
    few: Any
    n: int
    size: int
    length: int


def room(motion: Motion, n: int, size: int, stages: int) -> int:
    """How many numbers of `Work` a run of `n` nodes and a state of some size takes."""
    widths = sum(table.shape[2] for table in motion.tables)
    coefficients = (motion.functions + motion.with_moments) * motion.tables[1].shape[2]
    return (stages + 2) * size + n + 2 * n * widths + coefficients + len(motion.weights) + 32


@inlined
def read(head):  # type: ignore[no-untyped-def]
    """What `Motion.packed` gives, from a pointer to it."""
    kind = whole(at(head, 2 * AXIS + 8))
    return Reading(
        head,
        whole(at(head, 2 * AXIS)),
        whole(at(head, 2 * AXIS + 1)),
        whole(at(head, AXIS + 2)),
        whole(at(head, 2)),
        kind >= 2,
        kind != 2 and kind != 0,
    )


@inlined
def carve(motion, p, n, size, stages):  # type: ignore[no-untyped-def]
    """`Work` from a pointer to its room."""
    length, width = 2 * (motion.outer_width + motion.width), motion.width
    stage = shift(p, stages * size)
    w = shift(stage, 2 * size)
    rows = shift(w, n)
    moments = shift(rows, n * length)
    coefficients = shift(moments, motion.with_moments * width)
    few = shift(coefficients, motion.functions * width)
    return Work(p, stage, shift(stage, size), w, rows, moments, coefficients, shift(few, 32), few, n, size, length)


@inner
def array_of(motion, k):  # type: ignore[no-untyped-def]
    """A pointer to one of the arrays of `Motion.packed`, in their order."""
    return shift(motion.head, whole(at(motion.head, 2 * AXIS + 9 + k)))


@inner
def _look_up(motion, a, x, row):  # type: ignore[no-untyped-def]
    """Values of all functions of axis `a` at `x` to `row`, their slopes behind them."""
    axis = shift(motion.head, a * AXIS)
    pieces, order, r = whole(at(axis, 0)), whole(at(axis, 1)), whole(at(axis, 2))
    lower, upper, scale = at(axis, 3), at(axis, 4), at(axis, 5)
    if at(axis, 6) > 0.0:
        x -= math.floor((x - lower) / (upper - lower)) * (upper - lower)
    # what is not finite stays so
    x = lower if x < lower else upper if x > upper else x
    s = (x - lower) * scale
    i = smaller(whole(s), pieces - 1) if s > 0.0 else 0
    t, per = spread(2.0 * (s - i) - 1.0), spread(2.0 * scale)
    piece = shift(array_of(motion, a), i * order * r)
    for j in range(0, r, COUNT):
        value, slope = load(piece, (order - 1) * r + j, COUNT, 0.0), spread(0.0)
        for k in range(order - 2, -1, -1):
            slope = fused(slope, t, value)
            value = fused(value, t, load(piece, k * r + j, COUNT, 0.0))
        store(row, j, COUNT, value)
        store(row, r + j, COUNT, slope * per)


@inner
def of_one(p, x):  # type: ignore[no-untyped-def]
    """A function at `x`, which is put between its ends, from a table: pieces, order, ends, and the coefficients."""
    pieces, order, low, high = whole(at(p, 0)), whole(at(p, 1)), at(p, 2), at(p, 3)
    x = low if x < low else high if x > high else x
    s = (x - low) * (pieces / (high - low)) if high > low else 0.0
    i = smaller(whole(s), pieces - 1) if s > 0.0 else 0
    t, value = 2.0 * (s - i) - 1.0, at(p, 4 + i * order + order - 1)
    for k in range(order - 2, -1, -1):
        value = value * t + at(p, 4 + i * order + k)
    return value


@inner
def _derivative(loss, u, w, y, delta):  # type: ignore[no-untyped-def]
    if loss == LOGISTIC:
        return -w * y / (1.0 + math.exp(y * u))
    if loss == HUBER:
        r = u - y
        return w * (delta if r > delta else -delta if r < -delta else r)
    return w * u - y


@inlined
def _by_outputs(motion, block, m, matrix, start, work):  # type: ignore[no-untyped-def]
    """Coefficients of a block as ``A' L'(A U)``."""
    first, last = whole(at(block, 0)), whole(at(block, 1))
    low, high, loss = whole(at(block, 2)), whole(at(block, 3)), whole(at(block, 4))
    weights, targets = shift(array_of(motion, 5), start), shift(array_of(motion, 6), start)
    width, delta, U, C = motion.width, at(motion.head, 2 * AXIS + 7), work.moments, work.coefficients
    for k in range(first, last):
        for j in range(low, high):
            put(C, k * width + j, 0.0)
    for i in range(m):
        o, a = 0.0, matrix
        for k in range(first, last):
            for j in range(high - low):
                o += at(a, j) * peek(U, k * width + low + j)
            a = shift(a, high - low)
        slope = _derivative(loss, o, at(weights, i), at(targets, i), delta)
        for k in range(first, last):
            for j in range(high - low):
                put(C, k * width + low + j, peek(C, k * width + low + j) + slope * at(matrix, j))
            matrix = shift(matrix, high - low)


@inlined
def _respond(motion, work):  # type: ignore[no-untyped-def]
    """Compute coefficients from moments."""
    given, delta, width = array_of(motion, 2), at(motion.head, 2 * AXIS + 7), motion.width
    for k in range(motion.functions * width):
        put(work.coefficients, k, at(given, k))
    for b in range(whole(at(motion.head, 2 * AXIS + 6))):
        block = shift(array_of(motion, 3), BLOCK * b)
        m, start = whole(at(block, 5)), whole(at(block, 7))
        if m > 0:
            _by_outputs(motion, block, m, shift(array_of(motion, 4), whole(at(block, 6))), start, work)
            continue
        weights, targets = shift(array_of(motion, 5), start), shift(array_of(motion, 6), start)
        low, high, loss = whole(at(block, 2)), whole(at(block, 3)), whole(at(block, 4))
        for k in range(whole(at(block, 0)), whole(at(block, 1))):
            for j in range(high - low):
                u = peek(work.moments, k * width + low + j)
                put(work.coefficients, k * width + low + j, _derivative(loss, u, at(weights, j), at(targets, j), delta))
            weights, targets = shift(weights, high - low), shift(targets, high - low)


@inlined
def _weigh(motion, y, log_mass, work):  # type: ignore[no-untyped-def]
    """The weights of the nodes; of sum 1 where the reaction is balanced."""
    n, growth, shifted, total = work.n, work.size - work.n, 0.0, 0.0
    if motion.reacts and motion.balanced:
        shifted = -math.inf
        for i in range(n):
            g = at(log_mass, i) + peek(y, growth + i)
            shifted = g if g > shifted else shifted
    for i in range(n):
        g = peek(y, growth + i) if motion.reacts else 0.0
        mass = math.exp(at(log_mass, i) + g - shifted)
        put(work.w, i, mass)
        total += mass
    if motion.reacts and motion.balanced:
        for i in range(n):
            put(work.w, i, peek(work.w, i) / total)


@inlined
def _add_moments(motion, row, w, n, work):  # type: ignore[no-untyped-def]
    """Add what `n` nodes have to the moments: their rows begin at `row`."""
    width = motion.width
    inner_row = shift(row, 2 * motion.outer_width)
    for k in range(motion.with_moments):
        for j in range(0, width, COUNT):
            total = load(work.moments, k * width + j, COUNT, 0.0)
            for i in range(n):
                share = spread(peek(w, i) * peek(row, i * work.length + k))
                total = fused(share, load(inner_row, i * work.length + j, COUNT, 0.0), total)
            store(work.moments, k * width + j, COUNT, total)


@inlined
def _find(motion, y, work):  # type: ignore[no-untyped-def]
    """Values and slopes of all functions at the nodes, and the moments."""
    n, a, b = work.n, whole(at(motion.head, AXIS - 1)), whole(at(motion.head, 2 * AXIS - 1))
    for k in range(motion.with_moments * motion.width):
        put(work.moments, k, 0.0)
    for start in range(0, n, NODES):
        some = smaller(NODES, n - start)
        for i in range(start, start + some):
            row = shift(work.rows, i * work.length)
            _look_up(motion, 0, peek(y, a * n + i) if a >= 0 else 0.0, row)
            _look_up(motion, 1, peek(y, b * n + i), shift(row, 2 * motion.outer_width))
        _add_moments(motion, shift(work.rows, start * work.length), shift(work.w, start), some, work)


@inner
def _sums(motion, row, C, out):  # type: ignore[no-untyped-def]
    """To `out` the value of a potential and its outer and inner slopes at a node, whose values begin at `row`."""
    width = motion.width
    slopes, inner_row = shift(row, motion.outer_width), shift(row, 2 * motion.outer_width)
    values, outer_parts, inner_parts = spread(0.0), spread(0.0), spread(0.0)
    for j in range(0, width, COUNT):
        by_value, by_slope = spread(0.0), spread(0.0)
        for k in range(motion.functions):
            c = load(C, k * width + j, COUNT, 0.0)
            by_value = fused(spread(peek(row, k)), c, by_value)
            by_slope = fused(spread(peek(slopes, k)), c, by_slope)
        q = load(inner_row, j, COUNT, 0.0)
        values = fused(by_value, q, values)
        outer_parts = fused(by_slope, q, outer_parts)
        inner_parts = fused(by_value, load(inner_row, width + j, COUNT, 0.0), inner_parts)
    put(out, 0, folded(values))
    put(out, 1, folded(outer_parts))
    put(out, 2, folded(inner_parts))


@inlined
def move(motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    """Write the derivative of a state by the clock.

    Parameters
    ----------
    motion : Reading
    rate : pointer
        A table of f(V), see `of_one`; no pieces where that is V.
    alpha : float
        The birth-death rate.
    y, change : pointer
        Coordinates, axis after axis, then logs of growth where there is a reaction.
    log_mass : pointer
    work : Work
        It is left with the weights of the nodes.

    Returns
    -------
    float
        A V for which there is no f(V) in the table, or NaN.
    """
    n, out, head = work.n, work.few, shift(motion.head, 2 * AXIS)
    a, b = whole(at(motion.head, AXIS - 1)), whole(at(motion.head, 2 * AXIS - 1))
    _weigh(motion, y, log_mass, work)
    _find(motion, y, work)
    _respond(motion, work)
    mean, missing, growth = 0.0, math.nan, work.size - n
    for i in range(n):
        row = shift(work.rows, i * work.length)
        speeds = at(head, 4), at(head, 5)
        for axis in range(2):
            which = whole(at(head, 2 + axis))
            if which > 0:
                _sums(motion, row, shift(array_of(motion, 2), which * motion.functions * motion.width), out)
                speeds = (speeds[0] * peek(out, 0), speeds[1]) if axis == 0 else (speeds[0], speeds[1] * peek(out, 0))
        _sums(motion, row, work.coefficients, out)
        if a >= 0:
            put(change, a * n + i, -speeds[0] * peek(out, 1))
        put(change, b * n + i, -speeds[1] * peek(out, 2))
        if motion.reacts:
            V = peek(out, 0)
            if at(rate, 0) > 0.0:
                if not (at(rate, 2) <= V <= at(rate, 3)):
                    missing = V
                V = of_one(rate, V)
            mean += peek(work.w, i) * V
            put(change, growth + i, V)
    if motion.reacts:
        if not motion.balanced:
            mean = 0.0
        for i in range(n):
            put(change, growth + i, -alpha * (peek(change, growth + i) - mean))
    return missing
