r"""Velocities and growth of the nodes of a two-layer network, from a table of its activation.

Nodes are gone through twice. First each is looked up at all inputs, four at a time, value and slope from one piece of
the table, which are kept, and the outputs are summed. Then potential and slopes are sums over the inputs of what is
kept times what the losses have to say of these. How numbers lie in memory is in
`mfpde.lagrangian.compiled.network_packing`.

Looking up takes 2 to 2.5 ns a node and input on a processor with vectors of four. Where to look is found for all inputs
of a node before the first is looked at: one waits for the other, and processors look only so far ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mfpde.lagrangian.compiled.motion import (
    carve,
    confine,
    confine_axis,
    derivative,
    grow,
    inner,
    judge,
    locate,
    look_up,
    loss_of,
    move,
    read,
    weigh,
)
from mfpde.lagrangian.compiled.network_packing import AMPLITUDES, DIRECTIONS, NETWORK_HEAD
from mfpde.lagrangian.compiled.packing import AXIS, NODES
from mfpde.support.interpreted import FEW
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
    side_by_side,
    store_four,
    store_places,
)
from mfpde.support.pointers import at, peek, put, shift, smaller, whole

__all__ = ["Network", "NetworkReading", "NetworkWork"]


class Network(NamedTuple):
    """Motion by a network's units at its inputs."""

    kind: int = 2


class NetworkReading(NamedTuple):
    """What `NetworkMotion.packed` gives, by pointers.

    Attributes
    ----------
    kind : Network
    axes : pointer
        What tells of the axes, one after the other, see `mfpde.lagrangian.compiled.packing.AXIS`; these are about
        their own functions.
    many : int
        How many axes there are.
    own : pointer, shape (d, 2)
        Where the tables of own functions begin, and the numbers that are factors of the velocities.
    head : pointer
    amplitudes, inner : pointer
        Which axes these are.
    directions, outputs : int
        Inner axes, and outputs.
    amplified : bool
        Whether there are amplitudes.
    width : int
        Inputs, in full vectors.
    pieces, order : int
        Of the table.
    offset : float
        Where the argument 0 is in it, in pieces from the middle of the first one.
    functions : int
        Own ones of an axis.
    scaled : bool
        Whether some of these are factors of the velocity.
    loss, many_outputs : int
        The loss, and of how many numbers an output it is.
    delta, constant : float
    reacts, balanced : bool
    table, inputs, matrix, weights, targets : pointer
    """

    kind: Any
    axes: Any
    many: int
    own: Any
    head: Any
    amplitudes: Any
    inner: Any
    directions: int
    outputs: int
    amplified: bool
    width: int
    pieces: int
    order: int
    offset: float
    functions: int
    scaled: bool
    loss: int
    many_outputs: int
    delta: float
    constant: float
    reacts: bool
    balanced: bool
    table: Any
    inputs: Any
    matrix: Any
    weights: Any
    targets: Any


class NetworkWork(NamedTuple):
    """Room of a run for N nodes and k stages, by pointers.

    Attributes
    ----------
    K : pointer, k states
    stage, fresh : pointer, one state
    w : pointer, (N,)
        Weights.
    units : pointer, (N + 4, 2 width)
        Of each node the units at all inputs, and their slopes.
    places : pointer, (4 + outputs, N + 4)
        Coordinates, put into the box: the inner ones, and from the fifth row the amplitudes.
    moments : pointer, (outputs, width)
        What the network gives at the inputs.
    slopes : pointer, (outputs, 1 + directions, width)
        How V changes with a unit at each input, and that times what the inner coordinates are multiplied with.
    rows : pointer, (32, d, 2, functions)
        Values and slopes of own functions at some nodes.
    found : pointer, (64,)
        Where these nodes look in a table.
    shares : pointer, (32,)
        Weights of some nodes times an amplitude.
    middles, pieces : pointer, (width,)
        Where a node looks for its units.
    few : pointer, (64,)
    n, size : int
        Of nodes, and of entries of a state.
    """

    K: Any
    stage: Any
    fresh: Any
    w: Any
    units: Any
    places: Any
    moments: Any
    slopes: Any
    rows: Any
    found: Any
    shares: Any
    middles: Any
    pieces: Any
    few: Any
    n: int
    size: int


@read.register(Network)
def _read(kind, head):  # type: ignore[no-untyped-def]
    """What `NetworkMotion.packed` gives, from a pointer to it."""
    d, starts = whole(at(head, 0)), shift(head, 15)
    axes, reaction = shift(head, NETWORK_HEAD), whole(at(head, 14))
    return NetworkReading(
        kind,
        axes,
        d,
        shift(axes, AXIS * d),
        head,
        shift(head, AMPLITUDES),
        shift(head, AMPLITUDES + DIRECTIONS),
        whole(at(head, 1)),
        whole(at(head, 2)),
        at(head, 3) > 0.0,
        whole(at(head, 4)),
        whole(at(head, 5)),
        whole(at(head, 6)),
        at(head, 7),
        whole(at(head, 8)),
        at(head, 9) > 0.0,
        whole(at(head, 10)),
        whole(at(head, 11)),
        at(head, 12),
        at(head, 13),
        reaction >= 2,
        reaction != 2 and reaction != 0,
        shift(head, whole(at(starts, 0))),
        shift(head, whole(at(starts, 1))),
        shift(head, whole(at(starts, 2))),
        shift(head, whole(at(starts, 3))),
        shift(head, whole(at(starts, 4))),
    )


@carve.register(Network)
def _carve(kind, motion, p, n, size, stages):  # type: ignore[no-untyped-def]
    """`NetworkWork` from a pointer to its room."""
    stage = shift(p, stages * size)
    fresh = shift(stage, size)
    w = shift(fresh, size)
    units = shift(w, n)
    places = shift(units, (n + FEW) * 2 * motion.width)
    moments = shift(places, (DIRECTIONS + motion.outputs) * (n + FEW))
    slopes = shift(moments, motion.outputs * motion.width)
    rows = shift(slopes, motion.outputs * (1 + DIRECTIONS) * motion.width)
    found = shift(rows, NODES * motion.many * 2 * motion.functions)
    shares = shift(found, 2 * NODES)
    middles = shift(shares, NODES)
    pieces = shift(middles, motion.width)
    few = shift(pieces, motion.width)
    return NetworkWork(
        p, stage, fresh, w, units, places, moments, slopes, rows, found, shares, middles, pieces, few, n, size
    )


@inner
def _put_into_box(motion, y, work, a, row):  # type: ignore[no-untyped-def]
    """Write the coordinates along an axis, walls held and periodic ones wrapped, to a row of `work.places`."""
    axis = shift(motion.axes, AXIS * a)
    lower, length = at(axis, 3), at(axis, 4) - at(axis, 3)
    turn = 1.0 / length if at(axis, 6) > 0.0 else 0.0
    x, out = shift(y, a * work.n), _along(work, row)
    for i in range(work.n):
        place = peek(x, i) - lower
        place -= np.floor(place * turn) * length
        # what is not finite stays so
        put(out, i, lower + (0.0 if place < 0.0 else length if place > length else place))


@inner
def _along(work, row):  # type: ignore[no-untyped-def]
    return shift(work.places, row * (work.n + FEW))


@inner
def _locate(motion, work, i):  # type: ignore[no-untyped-def]
    """Where node `i` looks for its units at all inputs: how far from the middle of a piece, and where that begins."""
    width, order, x = motion.width, motion.order, motion.inputs
    offset, first, last = four(motion.offset), four(0.0), four(motion.pieces - 1.0)
    z0, z1 = four(peek(work.places, i)), four(peek(_along(work, 1), i))
    z2, z3 = four(peek(_along(work, 2), i)), four(peek(_along(work, 3), i))
    for j in range(0, width, FEW):
        s = fused(z1, load_four(x, width + j), fused(z0, load_four(x, j), offset))
        if motion.directions > 2:
            s = fused(z3, load_four(x, 3 * width + j), fused(z2, load_four(x, 2 * width + j), s))
        # what is not finite looks where there is something, and stays what it is
        piece = rounded(lesser(greater(s, first), last))
        store_four(work.middles, j, s - piece)
        store_places(work.pieces, j, piece, order)


@inner
def _look_up(motion, work, row):  # type: ignore[no-untyped-def]
    """Values of the activation of a node at all inputs to `row`, and behind them slopes in pieces of the table."""
    width, pieces, table = motion.width, work.pieces, motion.table
    for j in range(0, width, FEW):
        a, b = shift(table, place(pieces, j)), shift(table, place(pieces, j + 1))
        c, d = shift(table, place(pieces, j + 2)), shift(table, place(pieces, j + 3))
        t, last = load_four(work.middles, j), motion.order - FEW
        c0, c1, c2, c3 = load_columns(a, b, c, d, last)
        value, slope = fused(c3, t, c2), c3
        slope, value = fused(slope, t, value), fused(value, t, c1)
        slope, value = fused(slope, t, value), fused(value, t, c0)
        while last > 0:
            last -= FEW
            c0, c1, c2, c3 = load_columns(a, b, c, d, last)
            slope, value = fused(slope, t, value), fused(value, t, c3)
            slope, value = fused(slope, t, value), fused(value, t, c2)
            slope, value = fused(slope, t, value), fused(value, t, c1)
            slope, value = fused(slope, t, value), fused(value, t, c0)
        store_four(row, j, value)
        store_four(row, width + j, slope)


@inner
def _add_outputs(shares, rows, n, width, u):  # type: ignore[no-untyped-def]
    """Add what `n` nodes, a multiple of four, have to the outputs `u`."""
    length = 2 * width
    for j in range(0, width, FEW):
        a, b, c, d, row = load_four(u, j), four(0.0), four(0.0), four(0.0), shift(rows, j)
        for i in range(0, n, 4):
            a = fused(four(peek(shares, i)), load_four(row, 0), a)
            b = fused(four(peek(shares, i + 1)), load_four(row, length), b)
            c = fused(four(peek(shares, i + 2)), load_four(row, 2 * length), c)
            d = fused(four(peek(shares, i + 3)), load_four(row, 3 * length), d)
            row = shift(row, 4 * length)
        store_four(u, j, (a + b) + (c + d))


@inner
def _find(motion, y, work):  # type: ignore[no-untyped-def]
    """All units and their slopes, and what the network gives at the inputs."""
    n, width = work.n, motion.width
    for k in range(motion.directions):
        _put_into_box(motion, y, work, whole(at(motion.inner, k)), k)
    for q in range(motion.outputs if motion.amplified else 0):
        _put_into_box(motion, y, work, whole(at(motion.amplitudes, q)), DIRECTIONS + q)
    for k in range(motion.outputs * width):
        put(work.moments, k, 0.0)
    for start in range(0, n, NODES):
        some, rows = smaller(NODES, n - start), shift(work.units, start * 2 * width)
        for i in range(some):
            _locate(motion, work, start + i)
            _look_up(motion, work, shift(rows, i * 2 * width))
        many = (some + FEW - 1) // FEW * FEW
        for i in range(some, many):  # nodes of no weight and no units make it a multiple of four
            put(work.shares, i, 0.0)
            for j in range(0, width, FEW):
                store_four(rows, i * 2 * width + j, four(0.0))
        for q in range(motion.outputs):
            c = _along(work, DIRECTIONS + q)
            for i in range(some):
                share = peek(work.w, start + i)
                put(work.shares, i, share * peek(c, start + i) if motion.amplified else share)
            _add_outputs(work.shares, rows, many, width, shift(work.moments, q * width))


@inner
def _dot(a, b, n):  # type: ignore[no-untyped-def]
    total = four(0.0)
    for j in range(0, n, FEW):
        total = fused(load_four(a, j), load_four(b, j), total)
    return folded(total)


@inner
def _respond(motion, work):  # type: ignore[no-untyped-def]
    """Compute from the outputs what V is made of."""
    width, m = motion.width, motion.many_outputs
    for q in range(motion.outputs):
        u, s, matrix = shift(work.moments, q * width), shift(work.slopes, q * (1 + DIRECTIONS) * width), motion.matrix
        weights, targets = shift(motion.weights, q * m), shift(motion.targets, q * m)
        for j in range(width):
            put(s, j, 0.0)
        for i in range(m):
            slope = four(derivative(motion.loss, _dot(matrix, u, width), at(weights, i), at(targets, i), motion.delta))
            for j in range(0, width, FEW):
                store_four(s, j, fused(slope, load_four(matrix, j), load_four(s, j)))
            matrix = shift(matrix, width)
        for k in range(DIRECTIONS):
            x, out = shift(motion.inputs, k * width), shift(s, (1 + k) * width)
            for j in range(0, width, FEW):  # slopes are in pieces, and so are the inputs
                store_four(out, j, load_four(s, j) * load_four(x, j))


@inner
def _energy(motion, work, out):  # type: ignore[no-untyped-def]
    """The loss of all outputs, which go to `out`."""
    width, m, total = motion.width, motion.many_outputs, 0.0
    for q in range(motion.outputs):
        u, matrix = shift(work.moments, q * width), motion.matrix
        weights, targets = shift(motion.weights, q * m), shift(motion.targets, q * m)
        for i in range(m):
            o = _dot(matrix, u, width)
            put(out, q * m + i, o)
            total += loss_of(motion.loss, o, at(weights, i), at(targets, i), motion.delta)
            matrix = shift(matrix, width)
    return total


@inner
def _sums(s, row, width, directions, out):  # type: ignore[no-untyped-def]
    """To `out` sums over the inputs at two nodes, whose units begin at `row`: of the units, and of their slopes along
    the first inner axis, the second, and so on, first node and second.
    """
    zero, other = four(0.0), shift(row, 2 * width)
    V, W, A, B, C, D = zero, zero, zero, zero, zero, zero
    for j in range(0, width, FEW):
        c = load_four(s, j)
        V, W = fused(c, load_four(row, j), V), fused(c, load_four(other, j), W)
        p, q = load_four(row, width + j), load_four(other, width + j)
        c = load_four(s, width + j)
        A, B = fused(c, p, A), fused(c, q, B)
        c = load_four(s, 2 * width + j)
        C, D = fused(c, p, C), fused(c, q, D)
    store_four(out, 0, side_by_side(V, W, A, B))
    A, B = zero, zero
    if directions > 2:
        V, W = zero, zero
        for j in range(0, width, FEW):
            p, q = load_four(row, width + j), load_four(other, width + j)
            c = load_four(s, 3 * width + j)
            V, W = fused(c, p, V), fused(c, q, W)
            c = load_four(s, 4 * width + j)
            A, B = fused(c, p, A), fused(c, q, B)
        store_four(out, 2 * FEW, side_by_side(A, B, A, B))
        A, B = V, W
    store_four(out, FEW, side_by_side(C, D, A, B))


@inner
def _drive(motion, work, change):  # type: ignore[no-untyped-def]
    """Write the slopes of V at all nodes, and V where they grow."""
    n, width, out, growth = work.n, motion.width, work.few, shift(change, work.size - work.n)
    for i in range(work.size):
        put(change, i, 0.0)
    for start in range(0, n, 2):
        row, some = shift(work.units, start * 2 * width), 2 if start + 2 <= n else 1
        for q in range(motion.outputs):
            _sums(shift(work.slopes, q * (1 + DIRECTIONS) * width), row, width, motion.directions, out)
            for i in range(some):
                c, V = 1.0, peek(out, i)
                if motion.amplified:
                    c = peek(_along(work, DIRECTIONS + q), start + i)
                    put(change, whole(at(motion.amplitudes, q)) * n + start + i, V)
                if motion.reacts:
                    put(growth, start + i, peek(growth, start + i) + c * V)
                for k in range(motion.directions):
                    place = whole(at(motion.inner, k)) * n + start + i
                    put(change, place, peek(change, place) + c * peek(out, 2 + 2 * k + i))


@inner
def _look_at_own(motion, y, work, start, some, slopes):  # type: ignore[no-untyped-def]
    """Own functions of all axes at some nodes to `work.rows`."""
    length = motion.many * 2 * motion.functions
    for a in range(motion.many):
        axis, rows = shift(motion.axes, AXIS * a), shift(work.rows, a * 2 * motion.functions)
        pieces, middles = work.found, shift(work.found, NODES)
        locate(axis, shift(y, a * work.n + start), some, pieces, middles)
        look_up(axis, shift(motion.head, whole(at(motion.own, 2 * a))), pieces, middles, some, rows, length, slopes)


@inner
def _given(motion, row, functions):  # type: ignore[no-untyped-def]
    """What is given of the potential at a node."""
    V = 0.0
    for a in range(motion.many):
        V += peek(row, a * 2 * functions)
    return V


@inner
def _steer(motion, y, work, change):  # type: ignore[no-untyped-def]
    """Make velocities of slopes, with own functions of the axes and the metric."""
    n, d, functions, growth = work.n, motion.many, motion.functions, shift(change, work.size - work.n)
    for start in range(0, n if functions > 0 else 0, NODES):
        some, length = smaller(NODES, n - start), 2 * d * functions
        _look_at_own(motion, y, work, start, some, 1.0)
        for i in range(some):
            row = shift(work.rows, i * length)
            if motion.reacts:
                put(growth, start + i, peek(growth, start + i) + _given(motion, row, functions))
            for a in range(d):
                place, factor = a * n + start + i, 1.0
                if motion.scaled:
                    for b in range(d):
                        factor *= peek(row, b * 2 * functions + 1 + a)
                put(change, place, factor * (peek(change, place) + peek(row, (2 * a + 1) * functions)))
    for a in range(d):
        speed = -at(motion.own, 2 * a + 1)
        for i in range(a * n, a * n + n):
            put(change, i, speed * peek(change, i))


@move.register(Network)
def _move(kind, motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    weigh(motion, y, log_mass, work)
    _find(motion, y, work)
    _respond(motion, work)
    _drive(motion, work, change)
    _steer(motion, y, work, change)
    return grow(motion, rate, alpha, work, shift(change, work.size - work.n))


@judge.register(Network)
def _judge(kind, motion, y, log_mass, work, out, all_of_it):  # type: ignore[no-untyped-def]
    put(out, 1, weigh(motion, y, log_mass, work))
    if all_of_it:
        _find(motion, y, work)
        total = motion.constant + _energy(motion, work, shift(out, 2))
        for start in range(0, work.n if motion.functions > 0 else 0, NODES):
            some = smaller(NODES, work.n - start)
            _look_at_own(motion, y, work, start, some, 0.0)
            for i in range(some):
                row = shift(work.rows, i * 2 * motion.many * motion.functions)
                total += peek(work.w, start + i) * _given(motion, row, motion.functions)
        put(out, 0, total)


@confine.register(Network)
def _confine(kind, motion, y, n):  # type: ignore[no-untyped-def]
    for a in range(motion.many):
        confine_axis(shift(motion.axes, AXIS * a), y, n)
