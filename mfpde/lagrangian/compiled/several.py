r"""The same with three axes or four: products of functions of each of them.

.. math:: V(x, y, z) = \sum_{kg} C_{kg}\, p_k(x)\, q_{l(g)}(y)\, r_{m(g)}(z)

The sum over the outer axis comes first: there are few functions ``p``, and coefficients of all of them and of four
functions ``r`` that stand side by side are read once for several nodes. What remains of each group takes a handful of
multiplications. Of a node only the functions of each axis are kept, not their products: making these again takes less
time than they would need from farther memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mfpde.lagrangian.compiled.motion import (
    by_kind,
    carve,
    confine,
    confine_axis,
    energy_of,
    grow,
    inner,
    judge,
    locate,
    look_up,
    move,
    read,
    respond,
    scale,
    weigh,
)
from mfpde.lagrangian.compiled.packing import AXIS, GROUP, NODES, SEVERAL, STAND
from mfpde.support.interpreted import FEW
from mfpde.support.lanes import four, fused, load_four, side_by_side, store_four
from mfpde.support.pointers import at, larger, peek, put, shift, smaller, whole

__all__ = ["Four", "Three"]


class Three(NamedTuple):
    """Motion by products of functions of three axes."""

    kind: int = 2


class Four(NamedTuple):
    """Motion by products of functions of four axes."""

    kind: int = 3


class _Reading(NamedTuple):
    """What `Motion.packed` gives, by pointers; fields that `Reading` has as well are the same.

    Attributes
    ----------
    kind : Three or Four
    axes : pointer
        What tells of each axis, one after the other, and then their tables.
    d : int
        How many there are.
    outer_width : int
        Functions in the table of the outer axis.
    products : int
        Of inner functions, in full groups.
    length : int
        Of a row.
    together : int
        Nodes whose products are made together.
    stands : pointer
        See `STAND`.
    last_width : int
        Functions in the table of the last axis.
    """

    kind: Any
    axes: Any
    d: int
    outer_width: int
    products: int
    length: int
    together: int
    stands: Any
    last_width: int
    groups: Any
    number: int
    size: int
    given: Any
    factors: Any
    losses: Any
    many: int
    matrices: Any
    weights: Any
    targets: Any
    delta: float
    constant: float
    reacts: bool
    balanced: bool


class _Work(NamedTuple):
    """Room of a run; fields that `Work` has as well are the same.

    Attributes
    ----------
    rows : pointer, (N + 4, length)
        Of each node the values of all functions of each axis, and behind these their slopes.
    products : pointer, (nodes, products)
        Values of inner functions of some nodes.
    """

    K: Any
    stage: Any
    fresh: Any
    w: Any
    rows: Any
    products: Any
    scaled: Any
    places: Any
    moments: Any
    coefficients: Any
    few: Any
    n: int
    size: int


class _Stand(NamedTuple):
    """Where in a row the functions of a group stand: one of each axis in the middle, its slope, and the first of the
    last axis.
    """

    one: int
    slope: int
    other: int
    steep: int
    last: int


class _Sums(NamedTuple):
    """The value of a potential at a node, and its slopes along the outer axis, the last one, and two in the middle, as
    four summands each.
    """

    V: Any
    outer: Any
    last: Any
    one: Any
    other: Any


@read.register(Three, Four)
def _read(kind, head):  # type: ignore[no-untyped-def]
    """What `Motion.packed` gives, from a pointer to it."""
    d, number, reaction, starts = whole(at(head, 0)), whole(at(head, 1)), whole(at(head, 6)), shift(head, 16)
    axes, length = shift(head, SEVERAL), 0
    for a in range(d):
        length += 2 * whole(at(axes, AXIS * a + 2))
    return _Reading(
        kind,
        axes,
        d,
        whole(at(axes, 2)),
        FEW * number,
        length,
        whole(at(head, 7)),
        shift(head, whole(at(starts, 6))),
        whole(at(axes, AXIS * (d - 1) + 2)),
        shift(head, whole(at(starts, 0))),
        number,
        whole(at(head, 2)),
        shift(head, whole(at(starts, 1))),
        shift(head, 8),
        shift(head, whole(at(starts, 2))),
        whole(at(head, 3)),
        shift(head, whole(at(starts, 3))),
        shift(head, whole(at(starts, 4))),
        shift(head, whole(at(starts, 5))),
        at(head, 4),
        at(head, 5),
        reaction >= 2,
        reaction != 2 and reaction != 0,
    )


@carve.register(Three, Four)
def _carve(kind, motion, p, n, size, stages):  # type: ignore[no-untyped-def]
    """`_Work` from a pointer to its room."""
    stage = shift(p, stages * size)
    fresh = shift(stage, size)
    w = shift(fresh, size)
    rows = shift(w, n)
    products = shift(rows, (n + FEW) * motion.length)
    scaled = shift(products, motion.together * motion.products)
    places = shift(scaled, NODES * motion.outer_width)
    moments = shift(places, 2 * NODES)
    coefficients = shift(moments, motion.size)
    few = shift(coefficients, motion.size)
    return _Work(p, stage, fresh, w, rows, products, scaled, places, moments, coefficients, few, n, size)


@inner
def _look_all_up(motion, y, n, start, some, work, slopes):  # type: ignore[no-untyped-def]
    """Values of the functions of all axes at `some` nodes from `start` on, to their rows."""
    pieces, middles, rows = work.places, shift(work.places, NODES), shift(work.rows, start * motion.length)
    table = shift(motion.axes, AXIS * motion.d)
    for a in range(motion.d):
        axis = shift(motion.axes, AXIS * a)
        width = whole(at(axis, 2))
        locate(axis, shift(y, whole(at(axis, AXIS - 1)) * n + start), some, pieces, middles)
        look_up(axis, table, pieces, middles, some, rows, motion.length, slopes)
        table, rows = shift(table, whole(at(axis, 0)) * whole(at(axis, 1)) * width), shift(rows, 2 * width)


@inner
def _stand_of(stand):  # type: ignore[no-untyped-def]
    """Where in a row the functions of a group stand."""
    return _Stand(
        whole(at(stand, 0)), whole(at(stand, 1)), whole(at(stand, 2)), whole(at(stand, 3)), whole(at(stand, 4))
    )


@by_kind
def middle(kind, stand, rows):  # type: ignore[no-untyped-def]
    """The product of the functions of axes in the middle, of a group at the node whose row this is."""


@middle.register(Three)
def _middle_of_three(kind, stand, rows):  # type: ignore[no-untyped-def]
    return four(peek(rows, stand.one))


@middle.register(Four)
def _middle_of_four(kind, stand, rows):  # type: ignore[no-untyped-def]
    return four(peek(rows, stand.one) * peek(rows, stand.other))


@inner
def _multiply(motion, rows, n, products):  # type: ignore[no-untyped-def]
    """Values of all inner functions at `n` nodes, a multiple of four, whose rows begin at `rows`."""
    for g in range(motion.number):
        stand, q, row = _stand_of(shift(motion.stands, STAND * g)), shift(products, FEW * g), rows
        for _ in range(n):
            store_four(q, 0, middle(motion.kind, stand, row) * load_four(row, stand.last))
            q, row = shift(q, motion.products), shift(row, motion.length)


@inner
def _add_moments(motion, scaled, products, n, moments, slopes):  # type: ignore[no-untyped-def]
    """Add what `n` nodes, a multiple of four, have to the moments; with slopes only those of losses."""
    width, step = motion.outer_width, motion.products
    for g in range(0, motion.number, 2):
        group, q = shift(motion.groups, GROUP * g), shift(products, FEW * g)
        first, many = whole(at(group, 0)), whole(at(group, 1)) - whole(at(group, 0))
        U, p, left = shift(moments, whole(at(group, 3))), shift(scaled, first), many
        if slopes > 0.0:
            left = larger(whole(at(group, 2)), whole(at(group, GROUP + 2))) - first
        while left >= 4:
            V = shift(U, FEW * many)
            a, b, c, d = load_four(U, 0), load_four(U, FEW), load_four(U, 2 * FEW), load_four(U, 3 * FEW)
            e, f, g_, h = load_four(V, 0), load_four(V, FEW), load_four(V, 2 * FEW), load_four(V, 3 * FEW)
            for i in range(n):
                one, other, place = load_four(q, i * step), load_four(q, i * step + FEW), shift(p, i * width)
                share = four(peek(place, 0))
                a, e = fused(share, one, a), fused(share, other, e)
                share = four(peek(place, 1))
                b, f = fused(share, one, b), fused(share, other, f)
                share = four(peek(place, 2))
                c, g_ = fused(share, one, c), fused(share, other, g_)
                share = four(peek(place, 3))
                d, h = fused(share, one, d), fused(share, other, h)
            _store(U, a, b, c, d)
            _store(V, e, f, g_, h)
            U, p, left = shift(U, 4 * FEW), shift(p, 4), left - 4
        if left > 0:
            V = shift(U, FEW * many)
            a, b, c, d = load_four(U, 0), load_four(U, FEW), load_four(V, 0), load_four(V, FEW)
            e, f, g_, h = four(0.0), four(0.0), four(0.0), four(0.0)
            for i in range(0, n, 2):
                one, other, place = load_four(q, i * step), load_four(q, i * step + FEW), shift(p, i * width)
                share = four(peek(place, 0))
                a, c = fused(share, one, a), fused(share, other, c)
                share = four(peek(place, 1))
                b, d = fused(share, one, b), fused(share, other, d)
                place, at_next = shift(place, width), (i + 1) * step
                one, other = load_four(q, at_next), load_four(q, at_next + FEW)
                share = four(peek(place, 0))
                e, g_ = fused(share, one, e), fused(share, other, g_)
                share = four(peek(place, 1))
                f, h = fused(share, one, f), fused(share, other, h)
            store_four(U, 0, a + e)
            store_four(U, FEW, b + f)
            store_four(V, 0, c + g_)
            store_four(V, FEW, d + h)


@inner
def _store(p, a, b, c, d):  # type: ignore[no-untyped-def]
    store_four(p, 0, a)
    store_four(p, FEW, b)
    store_four(p, 2 * FEW, c)
    store_four(p, 3 * FEW, d)


@inner
def _find(motion, y, work, slopes):  # type: ignore[no-untyped-def]
    """Values of all functions at the nodes, with `slopes` and the moments of losses, or without and all moments."""
    n, width = work.n, motion.outer_width
    for k in range(motion.size):
        put(work.moments, k, 0.0)
    for start in range(0, n, motion.together):
        some, rows = smaller(motion.together, n - start), shift(work.rows, start * motion.length)
        _look_all_up(motion, y, n, start, some, work, slopes)
        scale(work.scaled, shift(work.w, start), rows, some, width, motion.length, True)
        while some & 3:  # nodes of no weight make it a multiple of four
            for k in range(0, width, FEW):
                store_four(work.scaled, some * width + k, four(0.0))
            some += 1
        _multiply(motion, rows, some, work.products)
        _add_moments(motion, work.scaled, work.products, some, work.moments, slopes)


@by_kind
def finish(kind, motion, stand, rows, v, s, sums):  # type: ignore[no-untyped-def]
    """Sums with what a group has at the node whose row this is: `v` are sums over outer functions, and `s` over their
    slopes.
    """


@finish.register(Three)
def _finish_three(kind, motion, stand, rows, v, s, sums):  # type: ignore[no-untyped-def]
    last, value = shift(rows, stand.last), four(peek(rows, stand.one))
    a = v * load_four(last, 0)
    return _Sums(
        fused(value, a, sums.V),
        fused(value, s * load_four(last, 0), sums.outer),
        fused(value, v * load_four(last, motion.last_width), sums.last),
        fused(four(peek(rows, stand.slope)), a, sums.one),
        sums.other,
    )


@finish.register(Four)
def _finish_four(kind, motion, stand, rows, v, s, sums):  # type: ignore[no-untyped-def]
    last, one, other = shift(rows, stand.last), four(peek(rows, stand.one)), four(peek(rows, stand.other))
    a, value = v * load_four(last, 0), one * other
    return _Sums(
        fused(value, a, sums.V),
        fused(value, s * load_four(last, 0), sums.outer),
        fused(value, v * load_four(last, motion.last_width), sums.last),
        fused(four(peek(rows, stand.slope)) * other, a, sums.one),
        fused(one * four(peek(rows, stand.steep)), a, sums.other),
    )


@inner
def _sums(motion, rows, C, out):  # type: ignore[no-untyped-def]
    """To `out` the values of a potential at two nodes, whose rows begin at `rows`, and its slopes, two by two: along
    the outer axis, the last one, and those in the middle.
    """
    slopes, length, none = motion.outer_width, motion.length, four(0.0)
    next_row, kind = shift(rows, length), motion.kind
    one, other = _Sums(none, none, none, none, none), _Sums(none, none, none, none, none)
    for g in range(0, motion.number, 2):
        group, stand = shift(motion.groups, GROUP * g), shift(motion.stands, STAND * g)
        first, many = whole(at(group, 0)), whole(at(group, 1)) - whole(at(group, 0))
        c, p0 = shift(C, whole(at(group, 3))), shift(rows, first)
        e, p1 = shift(c, FEW * many), shift(p0, length)
        here, there = _stand_of(stand), _stand_of(shift(stand, STAND))
        v0, v1, s0, s1, v2, v3, s2, s3 = none, none, none, none, none, none, none, none
        for k in range(many):
            a, b = load_four(c, FEW * k), load_four(e, FEW * k)
            p = four(peek(p0, k))
            v0, v2 = fused(p, a, v0), fused(p, b, v2)
            p = four(peek(p1, k))
            v1, v3 = fused(p, a, v1), fused(p, b, v3)
            p = four(peek(p0, slopes + k))
            s0, s2 = fused(p, a, s0), fused(p, b, s2)
            p = four(peek(p1, slopes + k))
            s1, s3 = fused(p, a, s1), fused(p, b, s3)
        one = finish(kind, motion, here, rows, v0, s0, one)
        other = finish(kind, motion, here, next_row, v1, s1, other)
        one = finish(kind, motion, there, rows, v2, s2, one)
        other = finish(kind, motion, there, next_row, v3, s3, other)
    store_four(out, 0, side_by_side(one.V, other.V, one.outer, other.outer))
    store_four(out, FEW, side_by_side(one.last, other.last, one.one, other.one))
    store_four(out, 2 * FEW, side_by_side(one.other, other.other, one.other, other.other))


@inner
def _drive(motion, work, change):  # type: ignore[no-untyped-def]
    """Write the velocities of all nodes, and V where they grow."""
    n, d, out, more, growth = work.n, motion.d, work.few, shift(work.few, 3 * FEW), shift(change, work.size - work.n)
    for start in range(0, n, 2):
        rows, some = shift(work.rows, start * motion.length), 2 if start + 2 <= n else 1
        _sums(motion, rows, work.coefficients, out)
        for i in range(some if motion.reacts else 0):
            put(growth, start + i, peek(out, i))
        for a in range(d):
            which, speed = whole(at(motion.factors, a)), -at(motion.factors, 4 + a)
            place = shift(change, whole(at(motion.axes, AXIS * a + AXIS - 1)) * n + start)
            # slopes along the outer axis and the last one come first
            slope = shift(out, 2 if a == 0 else 4 if a == d - 1 else 4 + 2 * a)
            if which > 0:
                _sums(motion, rows, shift(motion.given, which * motion.size), more)
            for i in range(some):
                factor = speed * peek(more, i) if which > 0 else speed
                put(place, i, factor * peek(slope, i))


@move.register(Three, Four)
def _move(kind, motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    weigh(motion, y, log_mass, work)
    _find(motion, y, work, 1.0)
    respond(motion, work.moments, work.coefficients)
    _drive(motion, work, change)
    return grow(motion, rate, alpha, work, shift(change, work.size - work.n))


@judge.register(Three, Four)
def _judge(kind, motion, y, log_mass, work, out, all_of_it):  # type: ignore[no-untyped-def]
    put(out, 1, weigh(motion, y, log_mass, work))
    if all_of_it:
        _find(motion, y, work, 0.0)
        put(out, 0, energy_of(motion, work.moments, shift(out, 2)))


@confine.register(Three, Four)
def _confine(kind, motion, y, n):  # type: ignore[no-untyped-def]
    for a in range(motion.d):
        confine_axis(shift(motion.axes, AXIS * a), y, n)
