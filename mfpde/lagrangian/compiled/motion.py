r"""Velocities and growth of nodes from tables of functions: the right-hand side of the characteristics.

A potential of one axis or two is

.. math:: V(x, y) = \sum_{kl} C_{kl}\, p_k(x)\, q_l(y),

with functions ``p`` of the outer axis and ``q`` of the inner one (with one axis it is the inner one, and ``p = 1``).
Some coefficients are given. Blocks of the others come from their moments ``U_kl = int p_k q_l dmu`` as ``A' L'(A U)``,
with a loss L. All functions of an axis stand side by side in tables.

How they lie in memory is in `mfpde.lagrangian.compiled.packing`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mfpde.lagrangian.compiled.packing import AXIS, BLOCK, GROUP, HUBER, LOGISTIC, NODES
from mfpde.support.compiling import by_class, compiled
from mfpde.support.interpreted import FEW
from mfpde.support.lanes import four, fused, load_four, side_by_side, store_four
from mfpde.support.pointers import at, peek, put, shift, smaller, whole

__all__ = [
    "OPTIONS",
    "Line",
    "Products",
    "Work",
    "by_kind",
    "carve",
    "confine",
    "derivative",
    "energy_of",
    "grow",
    "inlined",
    "inner",
    "judge",
    "locate",
    "look_up",
    "loss_of",
    "move",
    "of_one",
    "read",
    "respond",
    "scale",
    "weigh",
]

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}
"""Nothing is contracted or reordered but by name (`fused`): functions are compiled by themselves and as parts of
others, and which of the two runs depends on whether it comes from the cache."""
inner = compiled(**(OPTIONS | {"cache": False, "no_cpython_wrapper": True}))
"""Compiled once, and again as part of what calls it."""
inlined = compiled(**(OPTIONS | {"cache": False, "no_cpython_wrapper": True, "inline": "always"}))
"""Put into the one place that calls it before that is compiled: what only calls others would cost most by itself."""


class Line(NamedTuple):
    """Motion along one axis. The program chooses its functions by such a kind when it is compiled."""

    kind: int = 0


class Products(NamedTuple):
    """Motion by products of functions of several axes."""

    kind: int = 1


by_kind = by_class(**(OPTIONS | {"no_cpython_wrapper": True}))
"""What each kind of motion has of its own."""


@by_kind
def read(kind, head):  # type: ignore[no-untyped-def]
    """What is packed, from a pointer to it: a structure with the fields `kind`, `reacts` and `balanced`."""


@by_kind
def carve(kind, motion, p, n, size, stages):  # type: ignore[no-untyped-def]
    """The room of a run from a pointer to it: a structure with the fields `K`, `stage`, `fresh`, `w`, `few`, `n` and
    `size` of `Work`.
    """


@by_kind
def move(kind, motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    """Write the derivative of a state by the clock.

    Parameters
    ----------
    kind : Line, Products, ...
    motion
        What `read` gives.
    rate : pointer
        A table of f(V), see `of_one`; no pieces where that is V.
    alpha : float
        The birth-death rate.
    y, change : pointer
        Coordinates, axis after axis, then logs of growth where there is a reaction.
    log_mass : pointer
    work
        What `carve` gives. It is left with the weights of the nodes.

    Returns
    -------
    float
        A V for which there is no f(V) in the table, or NaN.
    """


@by_kind
def judge(kind, motion, y, log_mass, work, out, all_of_it):  # type: ignore[no-untyped-def]
    """The energy of a state to `out`, the mass before normalising, and the outputs, or only the second; the weights of
    the nodes are left in `work`.
    """


@by_kind
def confine(kind, motion, y, n):  # type: ignore[no-untyped-def]
    """Put nodes beyond a wall back onto it."""


class Reading(NamedTuple):
    """What `Motion.packed` gives, by pointers.

    Attributes
    ----------
    kind : Line or Products
    outer, inner : pointer
        What tells of the axes.
    outer_table, inner_table : pointer
    outer_width, width : int
        Functions in the tables.
    groups : pointer
    number : int
        Of groups.
    size : int
        Of coefficients.
    given : pointer
    factors : pointer
        Which of the given ones are factors of the velocity, and after them the numbers that are.
    losses : pointer
        What tells of the blocks.
    many : int
        How many blocks there are.
    matrices, weights, targets : pointer
    delta, constant : float
    reacts, balanced : bool
    """

    kind: Any
    outer: Any
    inner: Any
    outer_table: Any
    inner_table: Any
    outer_width: int
    width: int
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


class Work(NamedTuple):
    """Room of a run for N nodes and k stages, by pointers.

    Attributes
    ----------
    K : pointer, k states
    stage, fresh : pointer, one state
    w : pointer, (N,)
        Weights.
    rows : pointer, (N + 4, length)
        Of each node the values of all outer functions, their slopes, and the same of the inner ones.
    scaled : pointer, (32, outer functions)
        Values of outer functions of some nodes times the weights of these.
    places : pointer, (64,)
        Where some nodes look in a table.
    moments, coefficients : pointer, (size,)
    few : pointer, (32,)
        Values and slopes at four nodes; weights of stages.
    n, size, length : int
        Of nodes, entries of a state, and of a row.
    """

    K: Any
    stage: Any
    fresh: Any
    w: Any
    rows: Any
    scaled: Any
    places: Any
    moments: Any
    coefficients: Any
    few: Any
    n: int
    size: int
    length: int


@read.register(Line, Products)
def _read(kind, head):  # type: ignore[no-untyped-def]
    """What `Motion.packed` gives, from a pointer to it."""
    more = shift(head, 2 * AXIS)
    starts = shift(more, 11)
    reaction = whole(at(more, 10))
    return Reading(
        kind,
        head,
        shift(head, AXIS),
        shift(head, whole(at(starts, 0))),
        shift(head, whole(at(starts, 1))),
        whole(at(head, 2)),
        whole(at(head, AXIS + 2)),
        shift(head, whole(at(starts, 2))),
        whole(at(more, 0)),
        whole(at(more, 1)),
        shift(head, whole(at(starts, 3))),
        shift(more, 3),
        shift(head, whole(at(starts, 4))),
        whole(at(more, 7)),
        shift(head, whole(at(starts, 5))),
        shift(head, whole(at(starts, 6))),
        shift(head, whole(at(starts, 7))),
        at(more, 8),
        at(more, 9),
        reaction >= 2,
        reaction != 2 and reaction != 0,
    )


@carve.register(Line, Products)
def _carve(kind, motion, p, n, size, stages):  # type: ignore[no-untyped-def]
    """`Work` from a pointer to its room."""
    length = 2 * (motion.outer_width + motion.width)
    stage = shift(p, stages * size)
    fresh = shift(stage, size)
    w = shift(fresh, size)
    rows = shift(w, n)
    scaled = shift(rows, (n + FEW) * length)
    places = shift(scaled, NODES * motion.outer_width)
    moments = shift(places, 2 * NODES)
    coefficients = shift(moments, motion.size)
    few = shift(coefficients, motion.size)
    return Work(p, stage, fresh, w, rows, scaled, places, moments, coefficients, few, n, size, length)


@inner
def locate(axis, x, n, pieces, middles):  # type: ignore[no-untyped-def]
    """Where in the table of an axis `n` nodes look: where the piece begins, and how far from its middle they are."""
    lower, upper, scale, per = at(axis, 3), at(axis, 4), at(axis, 5), at(axis, 1) * at(axis, 2)
    length, last = upper - lower, at(axis, 0) - 1.0
    turn = 1.0 / length if at(axis, 6) > 0.0 else 0.0
    for i in range(n):
        place = peek(x, i) - lower
        place -= np.floor(place * turn) * length
        # what is not finite stays so
        s = (0.0 if place < 0.0 else length if place > length else place) * scale
        piece = np.floor(s)
        piece = piece if piece < last else last
        put(pieces, i, piece * per)
        put(middles, i, 2.0 * (s - piece) - 1.0)


@inner
def look_up(axis, table, pieces, middles, n, rows, length, slopes):  # type: ignore[no-untyped-def]
    """Values of all functions of an axis at `n` nodes to their rows, and behind them `slopes`."""
    order, r, per = whole(at(axis, 1)), whole(at(axis, 2)), four(2.0 * at(axis, 5))
    for i in range(n):
        t, place = peek(middles, i), peek(pieces, i)
        if not (place >= 0.0):
            place = 0.0
        c, row, x = shift(table, whole(place)), shift(rows, i * length), four(t)
        last = shift(c, (order - 1) * r)
        for j in range(0, r, FEW):
            # a loop takes twice as long, and few tables have an order above 8
            d, value, slope = shift(last, j), load_four(last, j), four(0.0)
            for _ in range(order - 8):
                d = shift(d, -r)
                slope = fused(slope, x, value)
                value = fused(value, x, load_four(d, 0))
            if order > 6:
                slope = fused(slope, x, value)
                value = fused(value, x, load_four(c, 6 * r + j))
                slope = fused(slope, x, value)
                value = fused(value, x, load_four(c, 5 * r + j))
            if order > 4:
                slope = fused(slope, x, value)
                value = fused(value, x, load_four(c, 4 * r + j))
                slope = fused(slope, x, value)
                value = fused(value, x, load_four(c, 3 * r + j))
            slope = fused(slope, x, value)
            value = fused(value, x, load_four(c, 2 * r + j))
            slope = fused(slope, x, value)
            value = fused(value, x, load_four(c, r + j))
            store_four(row, j, fused(value, x, load_four(c, j)))
            if slopes > 0.0:
                store_four(row, r + j, fused(slope, x, value) * per)


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
def derivative(loss, u, w, y, delta):  # type: ignore[no-untyped-def]
    """The derivative of the loss of one output."""
    if loss == LOGISTIC:
        return -w * y / (1.0 + math.exp(y * u))
    if loss == HUBER:
        r = u - y
        return w * (delta if r > delta else -delta if r < -delta else r)
    return w * u - y


@inner
def loss_of(loss, u, w, y, delta):  # type: ignore[no-untyped-def]
    """The loss of one output."""
    if loss == LOGISTIC:
        m = -y * u
        return w * (math.log1p(math.exp(-abs(m))) + (m if m > 0.0 else 0.0))
    if loss == HUBER:
        r = abs(u - y)
        return w * (delta * (r - 0.5 * delta) if r > delta else 0.5 * r * r)
    r = w * u - y
    return 0.5 * r * r / w if w != 0.0 else -y * u


@inner
def _dot(a, b, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(n):
        total += at(a, j) * peek(b, j)
    return total


@inner
def respond(motion, U, C):  # type: ignore[no-untyped-def]
    """Compute coefficients from moments."""
    for k in range(motion.size):
        put(C, k, at(motion.given, k))
    for b in range(motion.many):
        block = shift(motion.losses, BLOCK * b)
        size, loss, m = whole(at(block, 1)), whole(at(block, 2)), whole(at(block, 3))
        u, c = shift(U, whole(at(block, 0))), shift(C, whole(at(block, 0)))
        matrix = shift(motion.matrices, whole(at(block, 4)))
        weights, targets = shift(motion.weights, whole(at(block, 5))), shift(motion.targets, whole(at(block, 5)))
        for j in range(size if m == 0 else 0):
            put(c, j, derivative(loss, peek(u, j), at(weights, j), at(targets, j), motion.delta))
        for i in range(m):
            slope = derivative(loss, _dot(matrix, u, size), at(weights, i), at(targets, i), motion.delta)
            for j in range(size):
                put(c, j, peek(c, j) + slope * at(matrix, j))
            matrix = shift(matrix, size)


@inner
def energy_of(motion, U, out):  # type: ignore[no-untyped-def]
    """The energy from all moments; the outputs of losses to `out`, moments where these are their own."""
    total = motion.constant + _dot(motion.given, U, motion.size)
    for b in range(motion.many):
        block = shift(motion.losses, BLOCK * b)
        size, loss, m = whole(at(block, 1)), whole(at(block, 2)), whole(at(block, 3))
        u, matrix = shift(U, whole(at(block, 0))), shift(motion.matrices, whole(at(block, 4)))
        weights, targets = shift(motion.weights, whole(at(block, 5))), shift(motion.targets, whole(at(block, 5)))
        for i in range(m if m > 0 else size):
            o = peek(u, i)
            if m > 0:
                o = _dot(matrix, u, size)
                matrix = shift(matrix, size)
            put(out, i, o)
            total += loss_of(loss, o, at(weights, i), at(targets, i), motion.delta)
        out = shift(out, m if m > 0 else size)
    return total


@inner
def weigh(motion, y, log_mass, work):  # type: ignore[no-untyped-def]
    """The weights of the nodes, of sum 1 where the reaction is balanced; by how much their logs were shifted, and the
    sum before.
    """
    n, growth, shifted, total = work.n, shift(y, work.size - work.n), 0.0, 0.0
    if motion.reacts and motion.balanced:
        shifted = -math.inf
        for i in range(n):
            g = at(log_mass, i) + peek(growth, i)
            shifted = g if g > shifted else shifted
    for i in range(n):
        g = peek(growth, i) if motion.reacts else 0.0
        mass = math.exp(at(log_mass, i) + g - shifted)
        put(work.w, i, mass)
        total += mass
    if motion.reacts and motion.balanced:
        for i in range(n):
            put(work.w, i, peek(work.w, i) / total)
    return total * math.exp(shifted if shifted < 700.0 else 700.0)


@inner
def _add_moments(motion, scaled, rows, n, length, moments, slopes):  # type: ignore[no-untyped-def]
    """Add what `n` nodes, a multiple of four, have to the moments: their rows begin at `rows`; with slopes only
    those of losses.
    """
    width = motion.outer_width
    for g in range(motion.number):
        group = shift(motion.groups, GROUP * g)
        U, q = shift(moments, whole(at(group, 3))), shift(rows, 2 * width + FEW * g)
        p, left = shift(scaled, whole(at(group, 0))), whole(at(group, 2 if slopes > 0.0 else 1)) - whole(at(group, 0))
        while left >= 4:
            a, b, c, d = load_four(U, 0), load_four(U, FEW), load_four(U, 2 * FEW), load_four(U, 3 * FEW)
            e, f, g_, h = four(0.0), four(0.0), four(0.0), four(0.0)
            for i in range(0, n, 2):
                one, other = load_four(q, i * length), load_four(q, (i + 1) * length)
                a = fused(four(peek(p, i * width)), one, a)
                b = fused(four(peek(p, i * width + 1)), one, b)
                c = fused(four(peek(p, i * width + 2)), one, c)
                d = fused(four(peek(p, i * width + 3)), one, d)
                e = fused(four(peek(p, (i + 1) * width)), other, e)
                f = fused(four(peek(p, (i + 1) * width + 1)), other, f)
                g_ = fused(four(peek(p, (i + 1) * width + 2)), other, g_)
                h = fused(four(peek(p, (i + 1) * width + 3)), other, h)
            store_four(U, 0, a + e)
            store_four(U, FEW, b + f)
            store_four(U, 2 * FEW, c + g_)
            store_four(U, 3 * FEW, d + h)
            U, p, left = shift(U, 4 * FEW), shift(p, 4), left - 4
        while left > 0:
            a, b, c, d = load_four(U, 0), four(0.0), four(0.0), four(0.0)
            for i in range(0, n, 4):
                a = fused(four(peek(p, i * width)), load_four(q, i * length), a)
                b = fused(four(peek(p, (i + 1) * width)), load_four(q, (i + 1) * length), b)
                c = fused(four(peek(p, (i + 2) * width)), load_four(q, (i + 2) * length), c)
                d = fused(four(peek(p, (i + 3) * width)), load_four(q, (i + 3) * length), d)
            store_four(U, 0, (a + b) + (c + d))
            U, p, left = shift(U, FEW), shift(p, 1), left - 1


@inner
def scale(scaled, w, rows, n, width, length, outer):  # type: ignore[no-untyped-def]
    """Values of outer functions at some nodes times the weights of these; without an outer axis the weights."""
    for i in range(n):
        if outer:
            row, share = shift(rows, i * length), four(peek(w, i))
            for k in range(0, width, FEW):
                store_four(scaled, i * width + k, share * load_four(row, k))
        else:
            put(scaled, i * width, peek(w, i))


@inner
def _find(motion, y, work, slopes):  # type: ignore[no-untyped-def]
    """Values of all functions at the nodes, with `slopes` and the moments of losses, or without and all moments."""
    n, a, width = work.n, whole(at(motion.outer, AXIS - 1)), motion.outer_width
    outer, inner_axis = shift(y, a * n), shift(y, whole(at(motion.inner, AXIS - 1)) * n)
    pieces, middles = work.places, shift(work.places, NODES)
    for k in range(motion.size):
        put(work.moments, k, 0.0)
    for start in range(0, n, NODES):
        some, rows = smaller(NODES, n - start), shift(work.rows, start * work.length)
        if a >= 0:
            locate(motion.outer, shift(outer, start), some, pieces, middles)
            look_up(motion.outer, motion.outer_table, pieces, middles, some, rows, work.length, slopes)
        locate(motion.inner, shift(inner_axis, start), some, pieces, middles)
        look_up(motion.inner, motion.inner_table, pieces, middles, some, shift(rows, 2 * width), work.length, slopes)
        scale(work.scaled, shift(work.w, start), rows, some, width, work.length, a >= 0)
        while some & 3:  # nodes of no weight make it a multiple of four
            for k in range(0, width, FEW):
                store_four(work.scaled, some * width + k, four(0.0))
            some += 1
        _add_moments(motion, work.scaled, rows, some, work.length, work.moments, slopes)


@inner
def _sums(motion, rows, length, C, out):  # type: ignore[no-untyped-def]
    """To `out` the values of a potential at two nodes, whose rows begin at `rows`, its outer, and its inner slopes."""
    slopes, inner_rows, width = motion.outer_width, 2 * motion.outer_width, motion.width
    V0, V1, S0, S1, D0, D1 = four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0)
    for g in range(0, motion.number, 2):
        group = shift(motion.groups, GROUP * g)
        first, many = whole(at(group, 0)), whole(at(group, 1)) - whole(at(group, 0))
        c, p0 = shift(C, whole(at(group, 3))), shift(rows, first)
        e, p1 = shift(c, FEW * many), shift(p0, length)
        v0, v1, s0, s1, v2, v3, s2, s3 = (
            four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0),
        )  # fmt: skip
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
        q = shift(rows, inner_rows + FEW * g)
        a, b = load_four(q, 0), load_four(q, FEW)
        V0, S0 = fused(v2, b, fused(v0, a, V0)), fused(s2, b, fused(s0, a, S0))
        D0 = fused(v2, load_four(q, width + FEW), fused(v0, load_four(q, width), D0))
        q = shift(q, length)
        a, b = load_four(q, 0), load_four(q, FEW)
        V1, S1 = fused(v3, b, fused(v1, a, V1)), fused(s3, b, fused(s1, a, S1))
        D1 = fused(v3, load_four(q, width + FEW), fused(v1, load_four(q, width), D1))
    store_four(out, 0, side_by_side(V0, V1, S0, S1))
    store_four(out, FEW, side_by_side(D0, D1, D0, D1))


@inner
def _line_sums(motion, rows, length, C, out):  # type: ignore[no-untyped-def]
    """To `out` the values of a potential of one axis at four nodes, whose rows begin at `rows`, and its slopes."""
    q0, width = shift(rows, 2 * motion.outer_width), motion.width
    q1, q2, q3 = shift(q0, length), shift(q0, 2 * length), shift(q0, 3 * length)
    V0, V1, V2, V3, D0, D1, D2, D3 = (
        four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0), four(0.0),
    )  # fmt: skip
    for j in range(0, width, FEW):
        c = load_four(C, j)
        V0, D0 = fused(c, load_four(q0, j), V0), fused(c, load_four(q0, width + j), D0)
        V1, D1 = fused(c, load_four(q1, j), V1), fused(c, load_four(q1, width + j), D1)
        V2, D2 = fused(c, load_four(q2, j), V2), fused(c, load_four(q2, width + j), D2)
        V3, D3 = fused(c, load_four(q3, j), V3), fused(c, load_four(q3, width + j), D3)
    store_four(out, 0, side_by_side(V0, V1, V2, V3))
    store_four(out, FEW, side_by_side(D0, D1, D2, D3))


@inner
def _drive_line(motion, work, change):  # type: ignore[no-untyped-def]
    """Write the velocities of all nodes of one axis, and V where they grow."""
    n, out, more, growth = work.n, work.few, shift(work.few, 2 * FEW), shift(change, work.size - work.n)
    factor, speed = whole(at(motion.factors, 1)), -at(motion.factors, 3)
    for start in range(0, n, FEW):
        rows, some = shift(work.rows, start * work.length), smaller(FEW, n - start)
        _line_sums(motion, rows, work.length, work.coefficients, out)
        if factor > 0:
            _line_sums(motion, rows, work.length, shift(motion.given, factor * motion.size), more)
            store_four(out, FEW, load_four(out, FEW) * load_four(more, 0))
        for i in range(some):
            put(change, start + i, speed * peek(out, FEW + i))
        for i in range(some if motion.reacts else 0):
            put(growth, start + i, peek(out, i))


@inner
def _drive(motion, work, change):  # type: ignore[no-untyped-def]
    """Write the velocities of all nodes, and V where they grow."""
    n, out, more, growth = work.n, work.few, shift(work.few, 2 * FEW), shift(change, work.size - work.n)
    outer, factors = shift(change, whole(at(motion.outer, AXIS - 1)) * n), motion.factors
    inner_axis = shift(change, whole(at(motion.inner, AXIS - 1)) * n)
    which, other, speed, inner_speed = whole(at(factors, 0)), whole(at(factors, 1)), -at(factors, 2), -at(factors, 3)
    for start in range(0, n, 2):
        rows = shift(work.rows, start * work.length)
        _sums(motion, rows, work.length, work.coefficients, out)
        if which > 0:
            _sums(motion, rows, work.length, shift(motion.given, which * motion.size), more)
            put(out, 2, peek(out, 2) * peek(more, 0))
            put(out, 3, peek(out, 3) * peek(more, 1))
        if other > 0:
            _sums(motion, rows, work.length, shift(motion.given, other * motion.size), more)
            put(out, 4, peek(out, 4) * peek(more, 0))
            put(out, 5, peek(out, 5) * peek(more, 1))
        for i in range(2 if start + 2 <= n else 1):
            put(outer, start + i, speed * peek(out, 2 + i))
            put(inner_axis, start + i, inner_speed * peek(out, 4 + i))
            if motion.reacts:
                put(growth, start + i, peek(out, i))


@inner
def grow(motion, rate, alpha, work, growth):  # type: ignore[no-untyped-def]
    """Turn the V of the nodes into the rates of change of their logs of growth; a V for which there is no f(V) in the
    table, or NaN.
    """
    mean, missing = 0.0, math.nan
    if not motion.reacts:
        return missing
    if at(rate, 0) > 0.0:
        for i in range(work.n):
            V = peek(growth, i)
            if not (at(rate, 2) <= V <= at(rate, 3)):
                missing = V
            put(growth, i, of_one(rate, V))
    if motion.balanced:
        for i in range(work.n):
            mean += peek(work.w, i) * peek(growth, i)
    for i in range(work.n):
        put(growth, i, -alpha * (peek(growth, i) - mean))
    return missing


@move.register(Line)
def _move_line(kind, motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    weigh(motion, y, log_mass, work)
    _find(motion, y, work, 1.0)
    respond(motion, work.moments, work.coefficients)
    _drive_line(motion, work, change)
    return grow(motion, rate, alpha, work, shift(change, work.size - work.n))


@move.register(Products)
def _move_products(kind, motion, rate, alpha, y, log_mass, work, change):  # type: ignore[no-untyped-def]
    weigh(motion, y, log_mass, work)
    _find(motion, y, work, 1.0)
    respond(motion, work.moments, work.coefficients)
    _drive(motion, work, change)
    return grow(motion, rate, alpha, work, shift(change, work.size - work.n))


@judge.register(Line, Products)
def _judge(kind, motion, y, log_mass, work, out, all_of_it):  # type: ignore[no-untyped-def]
    put(out, 1, weigh(motion, y, log_mass, work))
    if all_of_it:
        _find(motion, y, work, 0.0)
        put(out, 0, energy_of(motion, work.moments, shift(out, 2)))


@inner
def confine_axis(axis, y, n):  # type: ignore[no-untyped-def]
    """Put coordinates between the ends of an axis, if there are any and it is not periodic."""
    column, low, high = whole(at(axis, AXIS - 1)), at(axis, 3), at(axis, 4)
    if column >= 0 and at(axis, 6) == 0.0:
        for i in range(column * n, column * n + n):
            x = peek(y, i)
            put(y, i, low if x < low else high if x > high else x)


@confine.register(Line, Products)
def _confine(kind, motion, y, n):  # type: ignore[no-untyped-def]
    for a in range(2):
        confine_axis(motion.outer if a == 0 else motion.inner, y, n)
