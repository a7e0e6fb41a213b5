"""The passes over all cells that steps are made of, compiled: each array is read once.

Sums run in lanes and blocks of fixed size, whose partial sums are added in order: they do not depend on the number of
threads. Comparisons are written so that a NaN shows in the sums.

Kernels have wide signatures: a structure takes as long on the way from Python as a pass over 200 cells.
"""

from __future__ import annotations

import numpy as np

from mfpde.mesh.constants import FLUSH
from mfpde.support.compiling import compiled
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import (
    flushed,
    greater,
    greatest,
    least,
    lesser,
    load,
    magnitude,
    spread,
    store,
    summed,
    where,
)
from mfpde.support.pointers import at, pointer, put, smaller

__all__ = [
    "BLOCK",
    "combine",
    "exponent",
    "final_stage",
    "finish",
    "first_stage",
    "largest_change",
    "moment",
    "second_stage",
    "survey",
]


BLOCK = 2048  # entries of a block; few enough that a lane's sum keeps its digits


_jit = compiled(nogil=True, error_model="numpy", no_cfunc_wrapper=True)


@_jit
def survey(mu, V, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `Algebra.survey`: six numbers each."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q, to = pointer(mu, start), pointer(V, start), pointer(out, 6 * b)
        some = at(q, 0)  # lanes beyond the end repeat what is there
        total, moment = spread(0.0), spread(0.0)
        low, high, held, fewest = spread(np.inf), spread(-np.inf), spread(np.inf), spread(np.inf)
        for j in range(0, n, COUNT):
            m, v = load(p, j, n - j, 0.0), load(q, j, n - j, some)
            total += m
            moment += m * v
            low, high = lesser(v, low), greater(v, high)
            held = lesser(where(m, v, held), held)
            fewest = lesser(load(p, j, n - j, np.inf), fewest)
        put(to, 0, summed(total))
        put(to, 1, summed(moment))
        put(to, 2, least(low))
        put(to, 3, greatest(high))
        put(to, 4, least(held))
        put(to, 5, least(fewest))


@_jit
def moment(mu, V, about, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `Algebra.second_moment`."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q = pointer(mu, start), pointer(V, start)
        total = spread(0.0)
        for j in range(0, n, COUNT):
            x = load(q, j, n - j, 0.0) - about
            total += x * x * load(p, j, n - j, 0.0)
        put(pointer(out, b), 0, summed(total))


@_jit
def exponent(r, shift, factor, clip, start, stop, out):  # type: ignore[no-untyped-def]
    """``factor (r - shift)`` of entries ``start <= j < stop``, at most 0 where `clip` is set."""
    p, to, zero = pointer(r, 0), pointer(out, 0), spread(0.0)
    for j in range(start, stop, COUNT):
        e = (load(p, j, stop - j, 0.0) - shift) * factor
        if clip:
            e = where(e, zero, e)
        store(to, j, stop - j, e)


@_jit
def first_stage(mu, rate, third, reacts, c, nu, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `first_stage`; wide, see the module."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q, t, to = pointer(mu, start), pointer(rate, start), pointer(third, start), pointer(nu, start)
        total, growth, f = spread(0.0), spread(0.0), spread(1.0)
        for j in range(0, n, COUNT):
            left = n - j
            s = load(q, j, left, 0.0)
            if reacts:
                f = load(t, j, left, 0.0)
            x = (load(p, j, left, 0.0) + c * s) * (f * f)
            store(to, j, left, x)
            total += x
            growth += s
        put(pointer(out, 2 * b), 0, summed(total))
        put(pointer(out, 2 * b), 1, summed(growth))


@_jit
def largest_change(r, r_0, alpha, alpha_0, constant, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `Algebra.largest_change`."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(r.size - b * BLOCK, BLOCK)
        p, q = pointer(r, start), pointer(r_0, start)
        here, there = at(p, 0), at(q, 0)  # lanes beyond the end repeat what is there
        high = spread(-np.inf)
        for j in range(0, n, COUNT):
            high = greater(alpha * load(p, j, n - j, here) - alpha_0 * load(q, j, n - j, there), high)
        put(pointer(out, b), 0, greatest(high) - constant)


@_jit
def second_stage(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, slope, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `second_stage`; wide, see the module."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q, t, to = pointer(mu, start), pointer(nu, start), pointer(third, start), pointer(slope, start)
        v, v_0 = pointer(r, start), pointer(r_0, start)
        total, growth, f = spread(0.0), spread(0.0), spread(1.0)
        for j in range(0, n, COUNT):
            left = n - j
            s, y = load(to, j, left, 0.0), load(q, j, left, 0.0)
            growth += s
            if reacts:
                f = load(t, j, left, 0.0)
                s = s - (alpha * load(v, j, left, 0.0) - alpha_0 * load(v_0, j, left, 0.0) - constant) * y
                store(to, j, left, s)
            x = (2.0 * (f * f * load(p, j, left, 0.0)) + y + s * (4.0 / 3.0 * h)) * (1.0 / 3.0)
            store(q, j, left, x)
            total += x
        put(pointer(out, 2 * b), 0, summed(total))
        put(pointer(out, 2 * b), 1, summed(growth))


@_jit
def final_stage(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, rate, before, slope, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `final_stage`; wide, see the module."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q, t, to = pointer(mu, start), pointer(nu, start), pointer(third, start), pointer(slope, start)
        v, v_0, z, o = pointer(r, start), pointer(r_0, start), pointer(rate, start), pointer(before, start)
        total, growth, error, f = spread(0.0), spread(0.0), spread(0.0), spread(1.0)
        for j in range(0, n, COUNT):
            left = n - j
            s, y = load(to, j, left, 0.0), load(q, j, left, 0.0)
            growth += s
            if reacts:
                f = load(t, j, left, 0.0)
                s = s - (alpha * load(v, j, left, 0.0) - alpha_0 * load(v_0, j, left, 0.0) - constant) * y
            x = ((5.0 / 32.0 * h) * load(z, j, left, 0.0) + (74.0 / 128.0) * load(p, j, left, 0.0)) * (f * f)
            x = (x + (s * (4.0 / 3.0 * h) + y) * (27.0 / 64.0)) * f
            store(to, j, left, x)
            total += x
            error += magnitude(s - load(o, j, left, 0.0)) * f
        put(pointer(out, 3 * b), 0, summed(total))
        put(pointer(out, 3 * b), 1, summed(growth))
        put(pointer(out, 3 * b), 2, summed(error))


@_jit
def combine(first_mu, mu, rate, old, new, step, to, first, last, out):  # type: ignore[no-untyped-def]
    """The blocks ``first <= b < last`` of `combine`; wide, see the module."""
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q, t, o = pointer(mu, start), pointer(rate, start), pointer(first_mu, start), pointer(to, start)
        growth = spread(0.0)
        for j in range(0, n, COUNT):
            left = n - j
            s = load(q, j, left, 0.0)
            growth += s
            x = old * load(t, j, left, 0.0) + new * (load(p, j, left, 0.0) + step * s)
            store(o, j, left, flushed(x, FLUSH))
        put(pointer(out, b), 0, summed(growth))


@_jit
def finish(mu, factor, start, stop):  # type: ignore[no-untyped-def]
    """Scale the entries ``start <= j < stop``, and set to zero what is about to become subnormal."""
    p = pointer(mu, 0)
    for j in range(start, stop, COUNT):
        store(p, j, stop - j, flushed(load(p, j, stop - j, 0.0) * factor, FLUSH))
