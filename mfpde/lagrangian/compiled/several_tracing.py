"""What moves points back where nodes of three axes or four have moved: their potential with second derivatives.

The tables are those of a `Motion` whose second derivatives are as accurate. What is recorded of a run is the
coefficients, in the order in which they are kept.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mfpde.lagrangian.compiled.motion import inner
from mfpde.lagrangian.compiled.motion import read as read_motion
from mfpde.lagrangian.compiled.packing import AXIS, GROUP, STAND, Motion
from mfpde.lagrangian.compiled.several import Four, Three
from mfpde.lagrangian.compiled.tracing import look_back, react_back, read
from mfpde.support.interpreted import COUNT, FEW
from mfpde.support.lanes import folded, four, fused, load_four, store_four
from mfpde.support.pointers import at, peek, put, shift, smaller, whole

__all__ = ["room_of_several"]

SLOPES, BENDS, FACTORS, STEEP, LANES, OWN = 4, 8, 12, 16, 20, 56
"""Where things stand in what is kept of a point: V is first, then come its slopes along the axes, its second
derivatives, factors of the velocity, slopes of these, nine sums of four summands each, and the functions of the axes
with their slopes, whose second derivatives are behind all of them."""
SUMS = 9
"""V, and its first and second derivatives along the outer axis, the last one, and two in the middle."""


class _Back(NamedTuple):
    """What moves points back.

    Attributes
    ----------
    several
        What `mfpde.lagrangian.compiled.motion.read` gives.
    functions : int
        Coefficients in a record, in full vectors.
    room : int
        Numbers that are kept of a point.
    """

    several: Any
    functions: int
    room: int


def room_of_several(motion: Motion) -> int:
    """How many numbers are kept of a point."""
    return OWN + 3 * sum(table.shape[2] for table in motion.tables)


@read.register(Three, Four)
def _read(kind, head):  # type: ignore[no-untyped-def]
    several = read_motion(kind, head)
    functions = (several.size + COUNT - 1) // COUNT * COUNT
    return _Back(several, functions, OWN + 3 * several.length // 2)


@inner
def _look_up(several, x, n, i, row):  # type: ignore[no-untyped-def]
    """Values of the functions of all axes at point `i`, and their slopes, to a row, second derivatives behind it."""
    table, bends = shift(several.axes, AXIS * several.d), shift(row, several.length)
    for a in range(several.d):
        axis = shift(several.axes, AXIS * a)
        pieces, order, r = whole(at(axis, 0)), whole(at(axis, 1)), whole(at(axis, 2))
        lower, upper, scale = at(axis, 3), at(axis, 4), at(axis, 5)
        coordinate = peek(x, whole(at(axis, AXIS - 1)) * n + i)
        if at(axis, 6) > 0.0:
            coordinate -= math.floor((coordinate - lower) / (upper - lower)) * (upper - lower)
        coordinate = lower if coordinate < lower else upper if coordinate > upper else coordinate
        s = (coordinate - lower) * scale
        piece = smaller(whole(s), pieces - 1) if s > 0.0 else 0
        t, once, twice = four(2.0 * (s - piece) - 1.0), four(2.0 * scale), four(8.0 * scale * scale)
        c = shift(table, piece * order * r)
        for j in range(0, r, FEW):
            value, slope, bend = load_four(c, (order - 1) * r + j), four(0.0), four(0.0)
            for k in range(order - 2, -1, -1):
                bend = fused(bend, t, slope)
                slope = fused(slope, t, value)
                value = fused(value, t, load_four(c, k * r + j))
            store_four(row, j, value)
            store_four(row, r + j, slope * once)
            store_four(bends, j, bend * twice)
        table, row, bends = shift(table, pieces * order * r), shift(row, 2 * r), shift(bends, r)


@inner
def _add(sums, k, share, summand):  # type: ignore[no-untyped-def]
    store_four(sums, FEW * k, fused(four(share), summand, load_four(sums, FEW * k)))


@inner
def _finish(several, stand, row, v, s, b, sums):  # type: ignore[no-untyped-def]
    """Add to `sums` what a group has: `v` are sums over outer functions, `s` over slopes, `b` over bends of these."""
    one, next_one, last = whole(at(stand, 0)), whole(at(stand, 1)), shift(row, whole(at(stand, 4)))
    bends, end = several.length, 2 * several.last_width
    value, slope = peek(row, one), peek(row, next_one)
    # second derivatives stand as far behind the rows as the values of an axis stand in them, the slopes aside
    bend = peek(row, one + bends - several.outer_width)
    values = load_four(last, 0)
    u = v * values
    if several.d > 3:
        other, before = whole(at(stand, 2)), several.outer_width + whole(at(stand, 1)) - one
        factor = peek(row, other)
        _add(sums, 7, value * peek(row, whole(at(stand, 3))), u)
        _add(sums, 8, value * peek(row, other + bends - before), u)
        value, slope, bend = value * factor, slope * factor, bend * factor
    _add(sums, 0, value, u)
    _add(sums, 1, value, s * values)
    _add(sums, 2, value, b * values)
    _add(sums, 3, value, v * load_four(last, several.last_width))
    _add(sums, 4, value, v * load_four(last, bends - (several.length - end) // 2))
    _add(sums, 5, slope, u)
    _add(sums, 6, bend, u)


@inner
def _add_up(several, row, C, own):  # type: ignore[no-untyped-def]
    """Write a potential at the point whose row this is, its slopes and its second derivatives."""
    sums, slopes, bends = shift(own, LANES), several.outer_width, several.length
    for k in range(SUMS):
        store_four(sums, FEW * k, four(0.0))
    for g in range(0, several.number, 2):
        group, stand = shift(several.groups, GROUP * g), shift(several.stands, STAND * g)
        first, many = whole(at(group, 0)), whole(at(group, 1)) - whole(at(group, 0))
        c, p = shift(C, whole(at(group, 3))), shift(row, first)
        e = shift(c, FEW * many)
        v0, v1, s0, s1, b0, b1 = four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0)
        for k in range(many):
            one, other = load_four(c, FEW * k), load_four(e, FEW * k)
            value, slope, bend = four(peek(p, k)), four(peek(p, slopes + k)), four(peek(p, bends + k))
            v0, v1 = fused(value, one, v0), fused(value, other, v1)
            s0, s1 = fused(slope, one, s0), fused(slope, other, s1)
            b0, b1 = fused(bend, one, b0), fused(bend, other, b1)
        _finish(several, stand, row, v0, s0, b0, sums)
        _finish(several, shift(stand, STAND), row, v1, s1, b1, sums)
    put(own, 0, folded(load_four(sums, 0)))
    for a in range(several.d):
        k = 1 if a == 0 else 3 if a == several.d - 1 else 3 + 2 * a
        put(own, SLOPES + a, folded(load_four(sums, FEW * k)))
        put(own, BENDS + a, folded(load_four(sums, FEW * k + FEW)))


@look_back.register(Three, Four)
def _look_back(kind, way, x, change):  # type: ignore[no-untyped-def]
    several, functions, n, own, missing = way.motion.several, way.motion.functions, way.n, way.row, math.nan
    row = shift(own, OWN)
    mean, alpha = peek(way.driving, functions), peek(way.driving, functions + 1)
    for i in range(n):
        _look_up(several, x, n, i, row)
        for a in range(several.d):  # factors of the velocity, and their slopes
            which, g, steep = whole(at(several.factors, a)), at(several.factors, 4 + a), 0.0
            if which > 0:
                _add_up(several, row, shift(several.given, which * several.size), own)
                steep, g = g * peek(own, SLOPES + a), g * peek(own, 0)
            put(own, FACTORS + a, g)
            put(own, STEEP + a, steep)
        _add_up(several, row, way.driving, own)
        growth = 0.0
        for a in range(several.d):
            g, slope = peek(own, FACTORS + a), peek(own, SLOPES + a)
            growth += g * peek(own, BENDS + a) + peek(own, STEEP + a) * slope
            put(change, whole(at(several.axes, AXIS * a + AXIS - 1)) * n + i, -g * slope)
        if several.reacts:
            more, lost = react_back(way, peek(own, 0), alpha, mean)
            growth -= more
            missing = missing if math.isnan(lost) else lost
        put(change, way.size - n + i, growth)
    return missing
