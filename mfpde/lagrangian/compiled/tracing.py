"""Points that go back to where they came from, through what has moved the nodes of a run."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mfpde.lagrangian.compiled.motion import OPTIONS, Products, by_kind, inner, of_one
from mfpde.lagrangian.compiled.packing import AXIS, Motion
from mfpde.lagrangian.compiled.stepping import (
    ARRIVED,
    BEYOND,
    FAILED,
    FIRST,
    LEAST_ERROR,
    PAUSED,
    ROUNDING,
    SHORTEST,
    grown,
    of_two,
    read_method,
    shrunk,
)
from mfpde.support.arrays import Array
from mfpde.support.compiling import compiled
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import folded, fused, load, spread, store
from mfpde.support.pointers import at, peek, pointer, put, shift, smaller, whole

__all__ = ["every_product", "look_back", "react_back", "read", "room_of_products", "trace", "tracing_room"]

SUMS = 9
"""Numbers that are kept of a point: the potential, its first and second derivatives, and factors of the velocity with
their slopes."""


HEAD = 2 * AXIS + 9
"""Numbers before the arrays in what `every_product` gives."""


def every_product(motion: Motion) -> Array:
    """What moves points, in one array: tables, and all products of outer and inner functions, full vectors of these."""
    outer, inner_table = (_full(table) for table in motion.tables)
    given = _full(motion.given)
    head: list[float] = []
    for a, table in enumerate((outer, inner_table)):
        low, high = motion.ends[a]
        head += [*table.shape, low, high, len(table) / (high - low), motion.periodic[a], motion.columns[a]]
    starts = HEAD + np.cumsum([0, outer.size, inner_table.size])
    head += [given.shape[1], *motion.factors, *motion.metric, motion.reacts, *starts]
    return np.concatenate([np.array(head), outer.ravel(), inner_table.ravel(), given.ravel()])


def _full(values: Array) -> Array:
    """The same with zeros at its end, so that all are full vectors."""
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -values.shape[-1] % COUNT)])


@by_kind
def read(kind, head):  # type: ignore[no-untyped-def]
    """What moves points, from a pointer to it: a structure with `room`, how many numbers are kept of a point."""


@by_kind
def look_back(kind, way, x, change):  # type: ignore[no-untyped-def]
    """Write the derivative by the clock of a state `x` to `change`; a V for which there is no f(V), or NaN."""


class _Products(NamedTuple):
    """What `every_product` gives, by a pointer."""

    head: Any
    outer: int
    functions: int
    width: int
    outer_width: int
    reacts: bool
    room: int


@read.register(Products)
def _read(kind, head):  # type: ignore[no-untyped-def]
    more = shift(head, 2 * AXIS)
    outer, width, outer_width = whole(at(more, 0)), whole(at(head, AXIS + 2)), whole(at(head, 2))
    return _Products(
        head, outer, outer * width, width, outer_width, at(more, 5) > 0.0, 3 * (outer_width + width) + SUMS
    )


@inner
def _array_of(motion, k):  # type: ignore[no-untyped-def]
    """A pointer to the outer table, the inner one, or the given coefficients."""
    return shift(motion.head, whole(at(motion.head, 2 * AXIS + 6 + k)))


class _Way(NamedTuple):
    """What moves points, and room for them, by pointers.

    Attributes
    ----------
    kind : Products or Network
    motion : _Products or Units
        See `read`.
    rate : pointer
        A table of f(V), see `of_one`.
    record : pointer
        In `mfpde.lagrangian.backward.packed`.
    y : pointer
        The state: coordinates of all points, axis after axis, and how the logarithm of the density grows. Behind it,
        which points have been out of the box.
    K : pointer, k states
    stage, fresh : pointer, one state
    driving : pointer
        What moves points now: coefficients, the mean rate, and the birth-death rate.
    row : pointer
        What is kept of a point.
    counted : pointer, (n,)
        1 for points whose errors count.
    bounds : pointer, (d, 2)
        Between which points are in the box.
    n, size : int
        Of points, and entries of a state.
    """

    kind: Any
    motion: Any
    rate: Any
    record: Any
    y: Any
    K: Any
    stage: Any
    fresh: Any
    driving: Any
    row: Any
    counted: Any
    bounds: Any
    n: int
    size: int


def tracing_room(n: int, size: int, columns: int, room: int, stages: int) -> int:
    """How many numbers of room there are for n points and a state of some size, with so many columns of a record and
    `room` of a point.
    """
    return (stages + 2) * size + columns + room + n


def room_of_products(motion: Motion) -> int:
    """How many numbers are kept of a point."""
    return 3 * sum(table.shape[2] + -table.shape[2] % COUNT for table in motion.tables) + SUMS


@inner
def _look_up(motion, a, x, row):  # type: ignore[no-untyped-def]
    """Values of all functions of axis `a` at `x` to `row`, their slopes behind them, and then their curvatures."""
    axis = shift(motion.head, a * AXIS)
    pieces, order, r = whole(at(axis, 0)), whole(at(axis, 1)), whole(at(axis, 2))
    lower, upper, scale = at(axis, 3), at(axis, 4), at(axis, 5)
    if at(axis, 6) > 0.0:
        x -= math.floor((x - lower) / (upper - lower)) * (upper - lower)
    x = lower if x < lower else upper if x > upper else x  # what is not finite stays so
    s = (x - lower) * scale
    i = smaller(whole(s), pieces - 1) if s > 0.0 else 0
    t, once, twice = spread(2.0 * (s - i) - 1.0), spread(2.0 * scale), spread(8.0 * scale * scale)
    piece = shift(_array_of(motion, a), i * order * r)
    for j in range(0, r, COUNT):
        value, slope, bend = load(piece, (order - 1) * r + j, COUNT, 0.0), spread(0.0), spread(0.0)
        for k in range(order - 2, -1, -1):
            bend = fused(bend, t, slope)
            slope = fused(slope, t, value)
            value = fused(value, t, load(piece, k * r + j, COUNT, 0.0))
        store(row, j, COUNT, value)
        store(row, r + j, COUNT, slope * once)
        store(row, 2 * r + j, COUNT, bend * twice)


@inner
def _add_up(motion, row, C, sums):  # type: ignore[no-untyped-def]
    """To `sums` a potential, its outer and inner slopes, and its outer and inner second derivatives."""
    width, outer = motion.width, motion.outer_width
    inner_row = shift(row, 3 * outer)
    V, V_outer, V_inner, bend_outer, bend_inner = spread(0.0), spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for j in range(0, width, COUNT):
        value, slope, bend = spread(0.0), spread(0.0), spread(0.0)
        for k in range(motion.outer):
            c = load(C, k * width + j, COUNT, 0.0)
            value = fused(spread(peek(row, k)), c, value)
            slope = fused(spread(peek(row, outer + k)), c, slope)
            bend = fused(spread(peek(row, 2 * outer + k)), c, bend)
        q = load(inner_row, j, COUNT, 0.0)
        V, V_outer, bend_outer = fused(value, q, V), fused(slope, q, V_outer), fused(bend, q, bend_outer)
        V_inner = fused(value, load(inner_row, width + j, COUNT, 0.0), V_inner)
        bend_inner = fused(value, load(inner_row, 2 * width + j, COUNT, 0.0), bend_inner)
    put(sums, 0, folded(V))
    put(sums, 1, folded(V_outer))
    put(sums, 2, folded(V_inner))
    put(sums, 3, folded(bend_outer))
    put(sums, 4, folded(bend_inner))


@inner
def _recall(record, S, out):  # type: ignore[no-untyped-def]
    """What moved points when the clock showed `S`, to `out`."""
    panels, m, columns = whole(at(record, 0)), whole(at(record, 1)), whole(at(record, 2))
    weights = shift(record, 3)
    places = shift(weights, m)
    knots = shift(places, m)
    values = shift(knots, panels + 1)
    i = 0
    while i + 1 < panels and at(knots, i + 1) < S:
        i += 1
    values = shift(values, i * m * columns)
    x = 2.0 * (S - at(knots, i)) / (at(knots, i + 1) - at(knots, i)) - 1.0
    hit, total = -1, 0.0
    for k in range(m):
        d = x - at(places, k)
        if d == 0.0:
            hit = k
        else:
            total += at(weights, k) / d
    for j in range(0, columns, COUNT):
        some = spread(0.0)
        for k in range(m):
            d = x - at(places, k)
            share = (1.0 if k == hit else 0.0) if hit >= 0 else at(weights, k) / d / total
            some = fused(spread(share), load(values, k * columns + j, COUNT, 0.0), some)
        store(out, j, COUNT, some)


@inner
def react_back(way, V, alpha, mean):  # type: ignore[no-untyped-def]
    """``alpha (f(V) - mean)``, and V where there is no f(V), or NaN."""
    missing, f = math.nan, V
    if at(way.rate, 0) > 0.0:
        if not (at(way.rate, 2) <= V <= at(way.rate, 3)):
            missing = V
        f = of_one(way.rate, V)
    return alpha * (f - mean), missing


@look_back.register(Products)
def _look_back(kind, way, x, change):  # type: ignore[no-untyped-def]
    motion, n, row, missing = way.motion, way.n, way.row, math.nan
    head, functions, sums = shift(motion.head, 2 * AXIS), motion.functions, shift(row, motion.room - SUMS)
    mean, alpha = peek(way.driving, functions), peek(way.driving, functions + 1)
    for i in range(n):
        for a in range(2):
            column = whole(at(motion.head, AXIS * a + 7))
            place = peek(x, column * n + i) if column >= 0 else 0.0
            _look_up(motion, a, place, shift(row, 3 * a * motion.outer_width))
        for a in range(2):  # factors of the velocity, and their slopes
            which, g, steep = whole(at(head, 1 + a)), at(head, 3 + a), 0.0
            if which > 0:
                _add_up(motion, row, shift(_array_of(motion, 2), which * functions), sums)
                steep, g = g * peek(sums, 1 + a), g * peek(sums, 0)
            put(sums, 5 + a, g)
            put(sums, 7 + a, steep)
        _add_up(motion, row, way.driving, sums)
        growth = 0.0
        for a in range(2):
            column, g, slope = whole(at(motion.head, AXIS * a + 7)), peek(sums, 5 + a), peek(sums, 1 + a)
            if column >= 0:
                growth += g * peek(sums, 3 + a) + peek(sums, 7 + a) * slope
                put(change, column * n + i, -g * slope)
        if motion.reacts:
            more, lost = react_back(way, peek(sums, 0), alpha, mean)
            growth -= more
            missing = missing if math.isnan(lost) else lost
        put(change, way.size - n + i, growth)
    return missing


@inner
def _mix(way, weights, m, out):  # type: ignore[no-untyped-def]
    """``sum_j weights_j K_j`` of the first `m` stages to `out`."""
    n = way.size
    for i in range(n):
        put(out, i, 0.0)
    for j in range(m):
        a, stage = at(weights, j), shift(way.K, j * n)
        if a != 0.0:
            for i in range(n):
                put(out, i, peek(out, i) + a * peek(stage, i))


@inner
def _stage(way, method, s, S, h):  # type: ignore[no-untyped-def]
    """Evaluate stage `s` of a step back; a V for which there is no f(V), or NaN."""
    _mix(way, shift(method.A, s * method.every), s, way.fresh)
    for i in range(way.size):
        put(way.fresh, i, peek(way.y, i) - h * peek(way.fresh, i))
    _recall(way.record, S - at(method.C, s) * h, way.driving)
    return look_back(way.kind, way, way.fresh, shift(way.K, s * way.size))


@inner
def _choose(way, h):  # type: ignore[no-untyped-def]
    """Note which points have errors that count: not those that have been out of the box, or that a step takes there.

    Beyond a wall the motion is that at the wall, which is not smooth, and no matter. A point counts as out when it is
    farther so than ten times its error.
    """
    for i in range(way.n):
        put(way.counted, i, 1.0 - peek(way.y, way.size + i))
    for i in range(way.size - way.n):
        axis, x, error = i // way.n, peek(way.fresh, i), 10.0 * h * abs(peek(way.stage, i))
        if x < at(way.bounds, 2 * axis) - error or x > at(way.bounds, 2 * axis + 1) + error:
            put(way.counted, i - axis * way.n, 0.0)


@inner
def _norm(way, rtol):  # type: ignore[no-untyped-def]
    """The mean square of errors by what is allowed."""
    square, count, k = 0.0, 0.0, 0
    for i in range(way.size):
        if peek(way.counted, k) > 0.0:
            y, z = abs(peek(way.y, i)), abs(peek(way.fresh, i))
            e = peek(way.stage, i) / (rtol + ROUNDING * (z if z > y else y))
            square += e * e
            count += 1.0
        k = k + 1 if k + 1 < way.n else 0
    return square / count if count > 0.0 else 0.0


@inner
def _error(way, method, h, rtol):  # type: ignore[no-untyped-def]
    """The error of a step by what is allowed: below 1 it is accepted."""
    _mix(way, method.E, method.stages + 1, way.stage)
    _choose(way, h)
    square = _norm(way, rtol)
    if method.order == 5:
        return h * math.sqrt(square)
    _mix(way, shift(method.E, method.every), method.stages + 1, way.stage)
    return of_two(h, square, _norm(way, rtol))


@inner
def _first_step(way, method, rtol, length):  # type: ignore[no-untyped-def]
    square = 0.0
    for i in range(way.size):
        square += peek(way.K, i) ** 2
    speed, step = math.sqrt(square / way.size), FIRST * rtol ** (1.0 / (method.order + 1))
    return step / speed if speed * length > step else length


@inner
def _accept(way, method):  # type: ignore[no-untyped-def]
    """Make the end of a step the state, and note which points are out of the box."""
    end = shift(way.K, method.stages * way.size)
    for i in range(way.size):
        put(way.y, i, peek(way.fresh, i))
        put(way.K, i, peek(end, i))
    for i in range(way.size - way.n):
        axis = i // way.n
        if not (at(way.bounds, 2 * axis) <= peek(way.fresh, i) <= at(way.bounds, 2 * axis + 1)):
            put(way.y, way.size + i - axis * way.n, 1.0)


@compiled(**OPTIONS)
def trace(kind, products, rate, past, points, clock, counts, space):  # type: ignore[no-untyped-def]
    """Go back towards the start of an interval.

    Parameters
    ----------
    kind : Products or Network
    products : array
        See `every_product`; of a network `NetworkMotion.packed`.
    rate : array
        A table of f, with no pieces where it is V; see `of_one`.
    past : array
        See `mfpde.lagrangian.backward.packed`.
    points : array, shape (d + 2, n)
        Which is replaced: coordinates, how the logarithm of the density has grown, and 1 for points that have been out
        of the box.
    clock : array, shape (6,)
        See `mfpde.lagrangian.backward.Clock`.
    counts : array of int, shape (3,)
        See `mfpde.lagrangian.backward.Counts`.
    space : array
        See `tracing_room`.

    Returns
    -------
    int
        `ARRIVED`, `PAUSED`, `FAILED` or `BEYOND`.
    """
    motion, method, record = (
        read(kind, pointer(products, 0)),
        read_method(pointer(past, whole(past[0]))),
        pointer(past, 2),
    )
    n, y = points.shape[1], pointer(points, 0)
    size = points.size - n
    stage = shift(pointer(space, 0), method.every * size)
    driving = shift(stage, 2 * size)
    row = shift(driving, whole(at(record, 2)))
    counted, bounds = shift(row, motion.room), pointer(past, whole(past[1]))
    way = _Way(
        kind, motion, pointer(rate, 0), record, y, pointer(space, 0), stage, shift(stage, size), driving, row, counted,
        bounds, n, size,
    )  # fmt: skip
    end, rtol, order, until, rejected = clock[1], clock[4], 1.0 * method.order, counts[0] + counts[2], False
    while clock[0] > end:
        if counts[0] >= until and not rejected:  # or bits would depend on when that is
            return PAUSED
        S, h, first, length = clock[0], 0.0, 0, clock[0] - end
        if counts[1] != 0:
            first, h = 1, clock[2]
            h = length if h * (1.0 + 1e-10) >= length else 0.5 * length if 2.0 * h > length else h
            if not h > SHORTEST * S:
                return FAILED
        for s in range(first, method.stages + 1 if first else 1):
            counts[0] += 1
            beyond = _stage(way, method, s, S, h)
            if not math.isnan(beyond):
                clock[5] = beyond
                return BEYOND
        if first == 0:
            counts[1] = 1
            if clock[2] == 0.0:
                clock[2] = _first_step(way, method, rtol, length)
            continue
        error = _error(way, method, h, rtol)
        if not error < 1.0:
            clock[2] = h * shrunk(error, order)
            rejected = True
            continue
        _accept(way, method)
        clock[2] = h * grown(error, clock[3], order, rejected)
        clock[3] = error if error > LEAST_ERROR else LEAST_ERROR
        clock[0] = end if h == length else S - h
        rejected = False
    return ARRIVED
