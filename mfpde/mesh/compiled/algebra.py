"""The operations of a step, compiled: each array is read once.

Imported when the first flow is made, never by ``import mfpde``. Sums run in lanes and blocks of fixed size, whose
partial sums are added in order: they do not depend on the number of threads. Comparisons are written so that a NaN
shows in the sums.

Kernels have wide signatures: a structure takes as long on the way from Python as a pass over 200 cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.mesh.algebra import Algebra, Change, Sums, Survey
from mfpde.mesh.constants import FLUSH
from mfpde.mesh.numpy_transport import NumpyTransport
from mfpde.mesh.schemes import Scheme, is_compiled
from mfpde.mesh.transport import Transport
from mfpde.mesh.transport_operator import Metric, TransportOperator
from mfpde.support.arrays import Array
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
from mfpde.support.threads import THREADED_SIZE, in_shares

__all__ = ["CompiledAlgebra"]


BLOCK = 2048  # entries of a block; few enough that a lane's sum keeps its digits


_jit = compiled(nogil=True, error_model="numpy", no_cfunc_wrapper=True)


@_jit
def _survey(mu, V, first, last, out):  # type: ignore[no-untyped-def]
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
def _moment(mu, V, about, first, last, out):  # type: ignore[no-untyped-def]
    for b in range(first, last):
        start, n = b * BLOCK, smaller(mu.size - b * BLOCK, BLOCK)
        p, q = pointer(mu, start), pointer(V, start)
        total = spread(0.0)
        for j in range(0, n, COUNT):
            x = load(q, j, n - j, 0.0) - about
            total += x * x * load(p, j, n - j, 0.0)
        put(pointer(out, b), 0, summed(total))


@_jit
def _exponent(r, shift, factor, clip, start, stop, out):  # type: ignore[no-untyped-def]
    p, to, zero = pointer(r, 0), pointer(out, 0), spread(0.0)
    for j in range(start, stop, COUNT):
        e = (load(p, j, stop - j, 0.0) - shift) * factor
        if clip:
            e = where(e, zero, e)
        store(to, j, stop - j, e)


@_jit
def _first(mu, rate, third, reacts, c, nu, first, last, out):  # type: ignore[no-untyped-def]
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
def _largest(r, r_0, alpha, alpha_0, constant, first, last, out):  # type: ignore[no-untyped-def]
    for b in range(first, last):
        start, n = b * BLOCK, smaller(r.size - b * BLOCK, BLOCK)
        p, q = pointer(r, start), pointer(r_0, start)
        here, there = at(p, 0), at(q, 0)  # lanes beyond the end repeat what is there
        high = spread(-np.inf)
        for j in range(0, n, COUNT):
            high = greater(alpha * load(p, j, n - j, here) - alpha_0 * load(q, j, n - j, there), high)
        put(pointer(out, b), 0, greatest(high) - constant)


@_jit
def _second(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, slope, first, last, out):  # type: ignore[no-untyped-def]
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
def _final(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, rate, before, slope, first, last, out):  # type: ignore[no-untyped-def]
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
def _combine(first_mu, mu, rate, old, new, step, to, first, last, out):  # type: ignore[no-untyped-def]
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
def _finish(mu, factor, start, stop):  # type: ignore[no-untyped-def]
    p = pointer(mu, 0)
    for j in range(start, stop, COUNT):
        store(p, j, stop - j, flushed(load(p, j, stop - j, 0.0) * factor, FLUSH))


def _flat(a: Array) -> Array:
    return a if a.ndim == 1 else a.reshape(-1)


def _run(kernel: Callable[..., Any], columns: int, *arrays: Any) -> Array:
    """The partial results of all blocks; `arrays` are the kernel's arguments, a cell array first."""
    size = arrays[0].size
    out = np.empty((-(-size // BLOCK), columns))
    if size < THREADED_SIZE:
        kernel(*arrays, 0, len(out), out)
    else:
        in_shares(lambda first, last: kernel(*arrays, first, last, out), len(out), size)
    return out


class CompiledAlgebra(Algebra):
    """Every operation in one pass over its arrays, on all threads from 10^5 cells on; the default.

    Transport is that of `Transport` for schemes that bring a compiled row, and of `NumpyTransport` for others.
    """

    name: ClassVar[str] = "compiled"

    def transport(
        self, grid: Grid, scheme: Scheme, metric: Metric | None = None, log_base: Array | None = None
    ) -> TransportOperator:
        """The operator of `Transport`, or where the scheme has no compiled row, of `NumpyTransport`."""
        operator = Transport if is_compiled(scheme) else NumpyTransport
        return operator(grid, scheme, metric, log_base)

    def survey(self, mu: Array, V: Array) -> Survey:
        """What a step and its record need to know, in one pass."""
        out = _run(_survey, 6, _flat(mu), _flat(V))
        if len(out) == 1:
            return Survey(*out[0].tolist())
        least, most = out.min(axis=0), out.max(axis=0)
        total, moment = float(out[:, 0].sum()), float(out[:, 1].sum())
        return Survey(total, moment, float(least[2]), float(most[3]), float(least[4]), float(least[5]))

    def second_moment(self, mu: Array, V: Array, about: float) -> float:
        """The sum of ``mu (V - about)^2``."""
        return _sum(_run(_moment, 1, _flat(mu), _flat(V), about), 0)

    def exponential(self, r: Array, shift: float, factor: float, clip: bool, out: Array) -> Array:
        """``exp(factor (r - shift))``, at most 1 where `clip` is set."""
        flat, target = _flat(r), _flat(out)

        def task(first: int, last: int) -> None:
            start, stop = first * BLOCK, min(flat.size, last * BLOCK)
            _exponent(flat, shift, factor, clip, start, stop, target)
            np.exp(target[start:stop], out=target[start:stop])

        in_shares(task, -(-flat.size // BLOCK), flat.size)
        return out

    def first_stage(self, mu: Array, rate: Array, third: Array | None, c: float, nu: Array) -> Sums:
        """``nu = third^2 (mu + c rate)``."""
        a, b, n = _flat(mu), _flat(rate), _flat(nu)
        t = a if third is None else _flat(third)
        out = _run(_first, 2, a, b, t, third is not None, c, n)
        return Sums(_sum(out, 0), _sum(out, 1))

    def largest_change(self, change: Change) -> float:
        """The largest ``delta``."""
        out = _run(_largest, 1, _flat(change.r), _flat(change.r_0), change.alpha, change.alpha_0, change.constant)
        return float(out[0, 0]) if len(out) == 1 else float(out.max())

    def second_stage(
        self, mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, slope: Array
    ) -> Sums:
        """The second stage of `ExponentialSSPRK3`, see `Algebra.second_stage`."""
        a, n, s = _flat(mu), _flat(nu), _flat(slope)
        out = _run(_second, 2, a, n, *_reaction(a, third, change), h, s)
        return Sums(_sum(out, 0), _sum(out, 1))

    def final_stage(
        self,
        mu: Array,
        nu: Array,
        third: Array | None,
        change: Change | None,
        h: float,
        rate: Array,
        before: Array,
        slope: Array,
    ) -> Sums:
        """The end of a step of `ExponentialSSPRK3`, see `Algebra.final_stage`."""
        a, n, f, b, s = _flat(mu), _flat(nu), _flat(rate), _flat(before), _flat(slope)
        out = _run(_final, 3, a, n, *_reaction(a, third, change), h, f, b, s)
        return Sums(_sum(out, 0), _sum(out, 1), _sum(out, 2))

    def combine(self, start: Array, mu: Array, rate: Array, old: float, new: float, step: float, out: Array) -> float:
        """``out = old start + new (mu + step rate)``; the sum of the rate."""
        arrays = [_flat(a) for a in (start, mu, rate)]
        return _sum(_run(_combine, 1, *arrays, old, new, step, _flat(out)), 0)

    def finish(self, mu: Array, factor: float) -> Array:
        """Scale in place, and set to zero what is about to become subnormal."""
        flat = _flat(mu)

        def task(first: int, last: int) -> None:
            _finish(flat, factor, first * BLOCK, min(flat.size, last * BLOCK))

        in_shares(task, -(-flat.size // BLOCK), flat.size)
        return mu


def _reaction(a: Array, third: Array | None, change: Change | None) -> tuple[Any, ...]:
    if third is None or change is None:
        return a, a, a, False, 0.0, 0.0, 0.0
    return _flat(third), _flat(change.r), _flat(change.r_0), True, change.alpha, change.alpha_0, change.constant


def _sum(out: Array, column: int) -> float:
    return float(out[0, column]) if len(out) == 1 else math.fsum(out[:, column].tolist())
