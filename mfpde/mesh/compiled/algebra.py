"""The operations of a step, by the compiled passes.

Imported when the first flow is made, never by ``import mfpde``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.mesh.algebra import Algebra, Change, Sums, Survey
from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.passes import BLOCK
from mfpde.mesh.numpy_transport import NumpyTransport
from mfpde.mesh.schemes import Scheme, is_compiled
from mfpde.mesh.transport import Transport
from mfpde.mesh.transport_operator import Metric, TransportOperator
from mfpde.support.arrays import Array
from mfpde.support.threads import THREADED_SIZE, in_shares

__all__ = ["CompiledAlgebra"]


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
        out = _run(passes.survey, 6, _flat(mu), _flat(V))
        if len(out) == 1:
            return Survey(*out[0].tolist())
        least, most = out.min(axis=0), out.max(axis=0)
        total, moment = float(out[:, 0].sum()), float(out[:, 1].sum())
        return Survey(total, moment, float(least[2]), float(most[3]), float(least[4]), float(least[5]))

    def second_moment(self, mu: Array, V: Array, about: float) -> float:
        """The sum of ``mu (V - about)^2``."""
        return _sum(_run(passes.moment, 1, _flat(mu), _flat(V), about), 0)

    def exponential(self, r: Array, shift: float, factor: float, clip: bool, out: Array) -> Array:
        """``exp(factor (r - shift))``, at most 1 where `clip` is set."""
        flat, target = _flat(r), _flat(out)

        def task(first: int, last: int) -> None:
            start, stop = first * BLOCK, min(flat.size, last * BLOCK)
            passes.exponent(flat, shift, factor, clip, start, stop, target)
            np.exp(target[start:stop], out=target[start:stop])

        in_shares(task, -(-flat.size // BLOCK), flat.size)
        return out

    def first_stage(self, mu: Array, rate: Array, third: Array | None, c: float, nu: Array) -> Sums:
        """``nu = third^2 (mu + c rate)``."""
        a, b, n = _flat(mu), _flat(rate), _flat(nu)
        t = a if third is None else _flat(third)
        out = _run(passes.first_stage, 2, a, b, t, third is not None, c, n)
        return Sums(_sum(out, 0), _sum(out, 1))

    def largest_change(self, change: Change) -> float:
        """The largest ``delta``."""
        out = _run(
            passes.largest_change, 1, _flat(change.r), _flat(change.r_0), change.alpha, change.alpha_0, change.constant
        )
        return float(out[0, 0]) if len(out) == 1 else float(out.max())

    def second_stage(
        self, mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, slope: Array
    ) -> Sums:
        """The second stage of `ExponentialSSPRK3`, see `Algebra.second_stage`."""
        a, n, s = _flat(mu), _flat(nu), _flat(slope)
        out = _run(passes.second_stage, 2, a, n, *_reaction(a, third, change), h, s)
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
        out = _run(passes.final_stage, 3, a, n, *_reaction(a, third, change), h, f, b, s)
        return Sums(_sum(out, 0), _sum(out, 1), _sum(out, 2))

    def combine(self, start: Array, mu: Array, rate: Array, old: float, new: float, step: float, out: Array) -> float:
        """``out = old start + new (mu + step rate)``; the sum of the rate."""
        arrays = [_flat(a) for a in (start, mu, rate)]
        return _sum(_run(passes.combine, 1, *arrays, old, new, step, _flat(out)), 0)

    def finish(self, mu: Array, factor: float) -> Array:
        """Scale in place, and set to zero what is about to become subnormal."""
        flat = _flat(mu)

        def task(first: int, last: int) -> None:
            passes.finish(flat, factor, first * BLOCK, min(flat.size, last * BLOCK))

        in_shares(task, -(-flat.size // BLOCK), flat.size)
        return mu


def _reaction(a: Array, third: Array | None, change: Change | None) -> tuple[Any, ...]:
    if third is None or change is None:
        return a, a, a, False, 0.0, 0.0, 0.0
    return _flat(third), _flat(change.r), _flat(change.r_0), True, change.alpha, change.alpha_0, change.constant


def _sum(out: Array, column: int) -> float:
    return float(out[0, column]) if len(out) == 1 else math.fsum(out[:, column].tolist())
