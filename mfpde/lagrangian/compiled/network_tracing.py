"""What moves points back that a network has moved: its units with second derivatives.

The tables are those of a `NetworkMotion` whose second derivatives are as accurate. What is recorded of a run is how V
changes with a unit at each input, output by output, in full vectors.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mfpde.lagrangian.compiled.motion import inner
from mfpde.lagrangian.compiled.motion import read as read_motion
from mfpde.lagrangian.compiled.network_packing import NetworkMotion
from mfpde.lagrangian.compiled.networks import Network
from mfpde.lagrangian.compiled.packing import AXIS
from mfpde.lagrangian.compiled.tracing import look_back, react_back, read
from mfpde.support.interpreted import COUNT, FEW
from mfpde.support.lanes import (
    folded,
    four,
    fused,
    greater,
    lesser,
    load_columns,
    load_four,
    place,
    rounded,
    store_four,
    store_places,
)
from mfpde.support.pointers import at, peek, put, shift, smaller, whole

__all__ = ["Network", "Units", "room_of_units"]

SLOPES, BENDS, PLACES, SUMS, OWN = 8, 12, 16, 20, 36
"""Where things stand in what is kept of a point, behind its coordinates: V is before the slopes along the axes, then
come second derivatives, places in the table, sums for the outputs, and own functions of the axes."""


class Units(NamedTuple):
    """What moves points back, by pointers.

    Attributes
    ----------
    network : NetworkReading
    wide : int
        Inputs of an output in a record.
    functions : int
        All of them.
    room : int
        Numbers that are kept of a point.
    """

    network: Any
    wide: int
    functions: int
    room: int


def room_of_units(motion: NetworkMotion) -> int:
    """How many numbers are kept of a point."""
    return OWN + 3 * sum(table.shape[2] for table in motion.own)


@read.register(Network)
def _read(kind, head):  # type: ignore[no-untyped-def]
    network = read_motion(kind, head)
    wide = (network.width + COUNT - 1) // COUNT * COUNT
    return Units(network, wide, wide * network.outputs, OWN + 3 * network.many * network.functions)


@inner
def _put_into_box(network, x, n, i, row):  # type: ignore[no-untyped-def]
    """The coordinates of point `i`, walls held and periodic ones wrapped, to a row."""
    for a in range(network.many):
        axis, coordinate = shift(network.axes, AXIS * a), peek(x, a * n + i)
        lower, upper = at(axis, 3), at(axis, 4)
        if at(axis, 6) > 0.0:
            coordinate -= math.floor((coordinate - lower) / (upper - lower)) * (upper - lower)
        put(row, a, lower if coordinate < lower else upper if coordinate > upper else coordinate)


@inner
def _inner_coordinate(network, row, k):  # type: ignore[no-untyped-def]
    return four(peek(row, whole(at(network.inner, k))) if k < network.directions else 0.0)


@inner
def _add_units(motion, driving, row):  # type: ignore[no-untyped-def]
    """Write V of a network at a point, its slopes and its second derivatives along the axes."""
    network, zero = motion.network, four(0.0)
    width, x, offset, last = network.width, network.inputs, four(network.offset), four(network.pieces - 1.0)
    z0, z1 = _inner_coordinate(network, row, 0), _inner_coordinate(network, row, 1)
    z2, z3 = _inner_coordinate(network, row, 2), _inner_coordinate(network, row, 3)
    places, sums = shift(row, PLACES), shift(row, SUMS)
    for k in range(SLOPES, OWN, FEW):
        store_four(row, k, zero)
    V, A, B, C, D, E, F, G, H = zero, zero, zero, zero, zero, zero, zero, zero, zero
    for j in range(0, width, FEW):
        x0, x1 = load_four(x, j), load_four(x, width + j)
        x2, x3 = load_four(x, 2 * width + j), load_four(x, 3 * width + j)
        s = fused(z3, x3, fused(z2, x2, fused(z1, x1, fused(z0, x0, offset))))
        piece = rounded(lesser(greater(s, zero), last))
        t, top = s - piece, network.order
        store_places(places, 0, piece, network.order)
        a, b = shift(network.table, place(places, 0)), shift(network.table, place(places, 1))
        c, d = shift(network.table, place(places, 2)), shift(network.table, place(places, 3))
        value, slope, bend = zero, zero, zero
        while top > 0:
            top -= FEW
            c0, c1, c2, c3 = load_columns(a, b, c, d, top)
            bend, slope, value = fused(bend, t, slope), fused(slope, t, value), fused(value, t, c3)
            bend, slope, value = fused(bend, t, slope), fused(slope, t, value), fused(value, t, c2)
            bend, slope, value = fused(bend, t, slope), fused(slope, t, value), fused(value, t, c1)
            bend, slope, value = fused(bend, t, slope), fused(slope, t, value), fused(value, t, c0)
        total = zero
        for q in range(network.outputs):
            share = load_four(driving, q * motion.wide + j)
            store_four(sums, FEW * q, fused(share, value, load_four(sums, FEW * q)))
            c = peek(row, whole(at(network.amplitudes, q))) if network.amplified else 1.0
            total = fused(four(c), share, total)
        V, slope, bend = fused(total, value, V), total * slope, total * bend * 2.0
        A, B = fused(slope, x0, A), fused(slope, x1, B)
        C, D = fused(slope, x2, C), fused(slope, x3, D)
        E, F = fused(bend, x0 * x0, E), fused(bend, x1 * x1, F)
        G, H = fused(bend, x2 * x2, G), fused(bend, x3 * x3, H)
    put(row, SLOPES - 1, folded(V))
    _write(network, row, 0, folded(A), folded(E))
    _write(network, row, 1, folded(B), folded(F))
    _write(network, row, 2, folded(C), folded(G))
    _write(network, row, 3, folded(D), folded(H))
    for q in range(network.outputs if network.amplified else 0):
        a = whole(at(network.amplitudes, q))
        put(row, SLOPES + a, folded(load_four(sums, FEW * q)))


@inner
def _write(network, row, k, slope, bend):  # type: ignore[no-untyped-def]
    if k < network.directions:
        a = whole(at(network.inner, k))
        put(row, SLOPES + a, slope)
        put(row, BENDS + a, bend)


@inner
def _look_at_own(network, row):  # type: ignore[no-untyped-def]
    """Own functions of all axes at a point, their slopes and their second derivatives; what is given is added to V."""
    size = network.functions
    for a in range(network.many if size > 0 else 0):
        axis, table = shift(network.axes, AXIS * a), shift(network.head, whole(at(network.own, 2 * a)))
        pieces, order, scale = whole(at(axis, 0)), whole(at(axis, 1)), at(axis, 5)
        s, out = (peek(row, a) - at(axis, 3)) * scale, shift(row, OWN + 3 * a * size)
        i = smaller(whole(s), pieces - 1) if s > 0.0 else 0
        t, piece = four(2.0 * (s - i) - 1.0), shift(table, i * order * size)
        for j in range(0, size, FEW):
            value, slope, bend = four(0.0), four(0.0), four(0.0)
            for k in range(order - 1, -1, -1):
                bend, slope = fused(bend, t, slope), fused(slope, t, value)
                value = fused(value, t, load_four(piece, k * size + j))
            store_four(out, j, value)
            store_four(out, size + j, slope * (2.0 * scale))
            store_four(out, 2 * size + j, bend * (8.0 * scale * scale))
        put(row, SLOPES - 1, peek(row, SLOPES - 1) + peek(out, 0))
        put(row, SLOPES + a, peek(row, SLOPES + a) + peek(out, size))
        put(row, BENDS + a, peek(row, BENDS + a) + peek(out, 2 * size))


@look_back.register(Network)
def _look_back(kind, way, x, change):  # type: ignore[no-untyped-def]
    motion, n, row, missing = way.motion, way.n, way.row, math.nan
    network, size = motion.network, motion.network.functions
    mean, alpha = peek(way.driving, motion.functions), peek(way.driving, motion.functions + 1)
    for i in range(n):
        _put_into_box(network, x, n, i, row)
        _add_units(motion, way.driving, row)
        _look_at_own(network, row)
        growth = 0.0
        for a in range(network.many):
            factor, steep = at(network.own, 2 * a + 1), 0.0
            if network.scaled:  # a product of functions of each axis
                steep = factor
                for b in range(network.many):
                    own = shift(row, OWN + 3 * b * size + 1 + a)
                    factor *= peek(own, 0)
                    steep *= peek(own, size) if a == b else peek(own, 0)
            slope = peek(row, SLOPES + a)
            growth += factor * peek(row, BENDS + a) + steep * slope
            put(change, a * n + i, -factor * slope)
        if network.reacts:
            more, lost = react_back(way, peek(row, SLOPES - 1), alpha, mean)
            growth -= more
            missing = missing if math.isnan(lost) else lost
        put(change, way.size - n + i, growth)
    return missing
