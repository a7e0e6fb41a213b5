"""The potential, energy and response of a density on a small mesh, compiled.

An energy is a sum of parts, a row of `codes` each, whose numbers stand in `data`. Moments are taken by tables, one
after the other along groups of axes, and the potential is made of them by the same tables the other way.
`mfpde.mesh.packing` writes both arrays.
"""

from __future__ import annotations

import math

from mfpde.mesh.compiled.options import inlined, jit
from mfpde.mesh.compiled.structures import (
    BY_MATRIX,
    BY_TABLES,
    CONSTANT,
    DELTA,
    FIRST_TABLE,
    FULL,
    GROUPS,
    HUBER,
    KIND,
    LOGISTIC,
    LOSS,
    MATRIX,
    OFFSET,
    OUTPUTS,
    PLACES,
    RESPONSES,
    ROOM,
    SAMPLES,
    TARGETS,
    WEIGHTS,
)
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import folded, fused, load, spread, store
from mfpde.support.pointers import at, peek, pointer, put, shift, whole

__all__ = ["potential"]

_FOUR = 4  # rows of a table that are taken at once: what is read of a density then serves all of them


@jit
def _dot(a, b, n):  # type: ignore[no-untyped-def]
    total = spread(0.0)
    for j in range(0, n, COUNT):
        total = fused(load(a, j, n - j, 0.0), load(b, j, n - j, 0.0), total)
    return folded(total)


@jit
def _rows_with(table, r, n, x, out):  # type: ignore[no-untyped-def]
    """``out_k = sum_j table_kj x_j``."""
    k = 0
    while k + _FOUR <= r:
        t0 = shift(table, k * n)
        t1, t2, t3 = shift(t0, n), shift(t0, 2 * n), shift(t0, 3 * n)
        s0, s1, s2, s3 = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
        for j in range(0, n, COUNT):
            left = n - j
            y = load(x, j, left, 0.0)
            s0 = fused(load(t0, j, left, 0.0), y, s0)
            s1 = fused(load(t1, j, left, 0.0), y, s1)
            s2 = fused(load(t2, j, left, 0.0), y, s2)
            s3 = fused(load(t3, j, left, 0.0), y, s3)
        put(out, k, folded(s0))
        put(out, k + 1, folded(s1))
        put(out, k + 2, folded(s2))
        put(out, k + 3, folded(s3))
        k += _FOUR
    while k < r:
        put(out, k, _dot(shift(table, k * n), x, n))
        k += 1


@jit
def _columns(table, across, along, r, n, x, inner, out):  # type: ignore[no-untyped-def]
    """``out_kj = sum_i table_(k across + i along) x_ij`` of r rows k and n rows i, with ``inner`` columns j."""
    for j in range(0, inner, COUNT):
        left, k = inner - j, 0
        while k + _FOUR <= r:
            t0 = shift(table, k * across)
            t1, t2, t3 = shift(t0, across), shift(t0, 2 * across), shift(t0, 3 * across)
            s0, s1, s2, s3 = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
            for i in range(n):
                y, place = load(x, i * inner + j, left, 0.0), i * along
                s0 = fused(spread(at(t0, place)), y, s0)
                s1 = fused(spread(at(t1, place)), y, s1)
                s2 = fused(spread(at(t2, place)), y, s2)
                s3 = fused(spread(at(t3, place)), y, s3)
            store(out, k * inner + j, left, s0)
            store(out, (k + 1) * inner + j, left, s1)
            store(out, (k + 2) * inner + j, left, s2)
            store(out, (k + 3) * inner + j, left, s3)
            k += _FOUR
        while k < r:
            t0, s0 = shift(table, k * across), spread(0.0)
            for i in range(n):
                s0 = fused(spread(at(t0, i * along)), load(x, i * inner + j, left, 0.0), s0)
            store(out, k * inner + j, left, s0)
            k += 1


@inlined
def _moments(code, data, mu, room):  # type: ignore[no-untyped-def]
    """The density, contracted with the tables of all groups; a pointer to the result."""
    groups, source = code[GROUPS], mu
    outer = inner = groups // groups  # a literal would be compiled by itself
    for i in range(groups):
        inner *= code[FIRST_TABLE + 3 * i + 1]
    for i in range(groups):
        r, n, table = (
            code[FIRST_TABLE + 3 * i],
            code[FIRST_TABLE + 3 * i + 1],
            shift(data, code[FIRST_TABLE + 3 * i + 2]),
        )
        inner //= n
        target = shift(room, (i & 1) * code[ROOM])
        if inner == 1:
            for o in range(outer):
                _rows_with(table, r, n, shift(source, o * n), shift(target, o * r))
        else:
            for o in range(outer):
                _columns(table, n, n // n, r, n, shift(source, o * n * inner), inner, shift(target, o * r * inner))
        source = target
        outer *= r
    return source


@inlined
def _spread(code, data, full, room, V):  # type: ignore[no-untyped-def]
    """The sum over all products of functions, with coefficients `full`, to V."""
    groups, source = code[GROUPS], full
    outer = inner = groups // groups  # a literal would be compiled by itself
    for i in range(groups):
        outer *= code[FIRST_TABLE + 3 * i]
    for k in range(groups):
        i = groups - 1 - k
        r, n, table = (
            code[FIRST_TABLE + 3 * i],
            code[FIRST_TABLE + 3 * i + 1],
            shift(data, code[FIRST_TABLE + 3 * i + 2]),
        )
        outer //= r
        target = V if i == 0 else shift(room, (k & 1) * code[ROOM])
        if inner == 1:  # the table's rows are what is added
            for o in range(outer):
                _columns(shift(source, o * r), 0 * r, r // r, r // r, r, table, n, shift(target, o * n))
        else:
            for o in range(outer):
                _columns(table, n // n, n, n, r, shift(source, o * r * inner), inner, shift(target, o * n * inner))
        source = target
        inner *= n


@jit
def _derivative(loss, u, w, y, delta):  # type: ignore[no-untyped-def]
    if loss == LOGISTIC:
        return -w * y / (1.0 + math.exp(y * u))
    r = u - y
    if loss == HUBER:
        r = delta if r > delta else -delta if r < -delta else r
    return w * r


@jit
def _loss(loss, u, w, y, delta):  # type: ignore[no-untyped-def]
    if loss == LOGISTIC:
        m = -y * u
        return w * (math.log1p(math.exp(-abs(m))) + (m if m > 0.0 else 0.0))
    r = u - y
    if loss == HUBER and abs(r) > delta:
        return w * delta * (abs(r) - 0.5 * delta)
    return 0.5 * w * r * r


@jit
def _slope(code, data, u, slope):  # type: ignore[no-untyped-def]
    """The derivative of the loss of the response to `slope`; the loss."""
    size, q, samples, loss = code[RESPONSES], code[OUTPUTS], code[SAMPLES], code[LOSS]
    weights, targets = shift(data, code[WEIGHTS]), shift(data, code[TARGETS])
    delta, total = at(data, code[DELTA]), at(data, code[CONSTANT])
    if code[MATRIX] < 0:
        for k in range(size):
            w, y = at(weights, k // q), at(targets, k)
            put(slope, k, _derivative(loss, at(u, k), w, y, delta))
            total += _loss(loss, at(u, k), w, y, delta)
        return total
    r = size // q
    for k in range(size):
        put(slope, k, 0.0)
    for m in range(samples):
        row, w = shift(data, code[MATRIX] + m * r), at(weights, m)
        for o in range(q):
            output = 0.0
            for k in range(r):
                output += at(row, k) * at(u, k * q + o)
            y = at(targets, m * q + o)
            total += _loss(loss, output, w, y, delta)
            s = _derivative(loss, output, w, y, delta)
            for k in range(r):
                put(slope, k * q + o, peek(slope, k * q + o) + s * at(row, k))
    return total


@inlined
def _by_tables(code, data, mu, V, u, room, volume):  # type: ignore[no-untyped-def]
    """A part that is a loss of moments: its potential to V, its moments to `u`; its energy."""
    size, places = code[RESPONSES], shift(data, code[PLACES])
    made = _moments(code, data, mu, room)
    for k in range(size):
        put(u, k, at(made, whole(at(places, k))) * volume)
    full = shift(room, 2 * code[ROOM])
    slope = shift(full, code[FULL])
    energy = _slope(code, data, u, slope)
    for k in range(code[FULL]):
        put(full, k, 0.0)
    for k in range(size):
        put(full, whole(at(places, k)), at(slope, k))
    _spread(code, data, full, room, V)
    return energy


@jit
def _added(term, n, V):  # type: ignore[no-untyped-def]
    for j in range(0, n, COUNT):
        store(V, j, n - j, load(V, j, n - j, 0.0) + load(term, j, n - j, 0.0))


@inlined
def potential(codes, data, mu, V, u, room, volume):  # type: ignore[no-untyped-def]
    """The potential of a density to V and its response to `u`; its energy.

    Parameters
    ----------
    codes : (parts, `structures.WIDTH_OF_CODE`) int array
    data : (k,) array
    mu, V : (cells,) array
    u : (r,) array
    room : (k,) array
        To work in, what `packing` says.
    volume : float
        Of a cell.
    """
    n, numbers, density = mu.size, pointer(data, 0), pointer(mu, 0)
    energy = 0.0
    for p in range(codes.shape[0]):
        code = codes[p]
        first, extra = pointer(V, 0), pointer(room, 0)
        work = shift(extra, n)
        target = first if p == 0 else extra
        if code[KIND] == BY_TABLES:
            energy += _by_tables(code, numbers, density, target, pointer(u, code[OFFSET]), work, volume)
        elif code[KIND] == BY_MATRIX:
            _rows_with(shift(numbers, code[MATRIX]), n, n, density, target)
            energy += 0.5 * volume * _dot(target, density, n)
        else:
            target = shift(numbers, code[MATRIX])
            energy += volume * _dot(target, density, n) + at(numbers, code[CONSTANT])
            if p == 0:
                for j in range(n):
                    put(first, j, at(target, j))
        if p > 0:
            _added(target, n, first)
    return energy
