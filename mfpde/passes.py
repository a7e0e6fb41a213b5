"""Compiled passes over cell arrays: what a step does besides fluxes and potentials, each array read once.

Imported when the first flow is made, never by ``import mfpde``. Sums run in lanes and blocks of fixed size, whose
partial sums are added in order: they do not depend on the number of threads. Comparisons are written so that a NaN
shows in the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mfpde.threads import THREADED_SIZE, in_shares
from mfpde.transport.kernels import FLUSH  # densities below are about to become subnormal: no mass, and slow

__all__ = [
    "Survey",
    "combine",
    "exponential",
    "final_stage",
    "finish",
    "first_stage",
    "largest_change",
    "second_stage",
    "survey",
]

Array = NDArray[np.float64]

LANES = 16  # entries side by side: independent sums vectorise without reassociation
BLOCK = 2048  # entries of a block; few enough that a lane's sum keeps its digits


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    return njit(cache=True, nogil=True, error_model="numpy", fastmath={"nsz"})(function)


@_jit
def _survey(mu, V, first, last, out):  # type: ignore[no-untyped-def]
    total, moment = np.empty(LANES), np.empty(LANES)
    low, high, held, least = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(mu.size, (b + 1) * BLOCK)
        total[:] = 0.0
        moment[:] = 0.0
        low[:] = np.inf
        high[:] = -np.inf
        held[:] = np.inf
        least[:] = np.inf
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                m, v = mu[j + lane], V[j + lane]
                total[lane] += m
                moment[lane] += m * v
                low[lane] = v if v < low[lane] else low[lane]
                high[lane] = v if v > high[lane] else high[lane]
                w = v if m > 0.0 else np.inf
                held[lane] = w if w < held[lane] else held[lane]
                least[lane] = m if m < least[lane] else least[lane]
        out[b, 0] = total.sum()
        out[b, 1] = moment.sum()
        out[b, 2] = low.min()
        out[b, 3] = high.max()
        out[b, 4] = held.min()
        out[b, 5] = least.min()


@_jit
def _exponential(r, shift, factor, clip, start, stop, out):  # type: ignore[no-untyped-def]
    for j in range(start, stop):
        e = (r[j] - shift) * factor
        out[j] = 0.0 if clip and e > 0.0 else e


@_jit
def _first(mu, rate, third, reacts, c, nu, first, last, out):  # type: ignore[no-untyped-def]
    total, growth = np.empty(LANES), np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(mu.size, (b + 1) * BLOCK)
        total[:] = 0.0
        growth[:] = 0.0
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                i = j + lane
                f = third[i] if reacts else 1.0
                x = (mu[i] + c * rate[i]) * (f * f)
                nu[i] = x
                total[lane] += x
                growth[lane] += rate[i]
        out[b, 0] = total.sum()
        out[b, 1] = growth.sum()


@_jit
def _largest(r, r_0, alpha, alpha_0, constant, first, last, out):  # type: ignore[no-untyped-def]
    high = np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(r.size, (b + 1) * BLOCK)
        high[:] = -np.inf
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                x = alpha * r[j + lane] - alpha_0 * r_0[j + lane]
                high[lane] = high[lane] if x <= high[lane] else x
        out[b, 0] = high.max() - constant


@_jit
def _second(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, slope, first, last, out):  # type: ignore[no-untyped-def]
    total, growth = np.empty(LANES), np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(mu.size, (b + 1) * BLOCK)
        total[:] = 0.0
        growth[:] = 0.0
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                i = j + lane
                s, n, f = slope[i], nu[i], 1.0
                growth[lane] += s
                if reacts:
                    f = third[i]
                    s -= (alpha * r[i] - alpha_0 * r_0[i] - constant) * n
                    slope[i] = s
                x = (2.0 * (f * f * mu[i]) + n + s * (4.0 / 3.0 * h)) * (1.0 / 3.0)
                nu[i] = x
                total[lane] += x
        out[b, 0] = total.sum()
        out[b, 1] = growth.sum()


@_jit
def _final(mu, nu, third, r, r_0, reacts, alpha, alpha_0, constant, h, rate, before, slope, first, last, out):  # type: ignore[no-untyped-def]
    total, growth, error = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(mu.size, (b + 1) * BLOCK)
        total[:] = 0.0
        growth[:] = 0.0
        error[:] = 0.0
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                i = j + lane
                s, n, f = slope[i], nu[i], 1.0
                growth[lane] += s
                if reacts:
                    f = third[i]
                    s -= (alpha * r[i] - alpha_0 * r_0[i] - constant) * n
                x = ((5.0 / 32.0 * h) * rate[i] + (74.0 / 128.0) * mu[i]) * (f * f)
                x += (s * (4.0 / 3.0 * h) + n) * (27.0 / 64.0)
                x *= f
                slope[i] = x
                total[lane] += x
                error[lane] += abs(s - before[i]) * f
        out[b, 0] = total.sum()
        out[b, 1] = growth.sum()
        out[b, 2] = error.sum()


@_jit
def _combine(first_mu, mu, rate, old, new, step, to, first, last, out):  # type: ignore[no-untyped-def]
    growth = np.empty(LANES)
    for b in range(first, last):
        start, stop = b * BLOCK, min(mu.size, (b + 1) * BLOCK)
        growth[:] = 0.0
        for j in range(start, stop, LANES):
            for lane in range(min(LANES, stop - j)):
                i = j + lane
                growth[lane] += rate[i]
                x = old * first_mu[i] + new * (mu[i] + step * rate[i])
                to[i] = 0.0 if abs(x) < FLUSH else x
        out[b, 0] = growth.sum()


@_jit
def _finish(mu, factor, start, stop):  # type: ignore[no-untyped-def]
    for j in range(start, stop):
        x = mu[j] * factor
        mu[j] = 0.0 if abs(x) < FLUSH else x


def _run(kernel: Callable[..., Any], columns: int, *arrays: Any) -> Array:
    """The partial results of all blocks; `arrays` are the kernel's arguments, a cell array first."""
    size = arrays[0].size
    out = np.empty((-(-size // BLOCK), columns))
    if size < THREADED_SIZE:
        kernel(*arrays, 0, len(out), out)
    else:
        in_shares(lambda first, last: kernel(*arrays, first, last, out), len(out), size)
    return out


class Survey:
    """Sums and extremes of a density and its potential.

    Attributes
    ----------
    total, moment : float
        Sums of ``mu`` and ``mu V``.
    low, high : float
        Extremes of V.
    held : float
        The least V where ``mu > 0``; inf for an empty density.
    least : float
        The least entry of ``mu``.
    """

    __slots__ = ("held", "high", "least", "low", "moment", "total")

    def __init__(self, total: float, moment: float, low: float, high: float, held: float, least: float) -> None:
        self.total, self.moment, self.low, self.high, self.held, self.least = total, moment, low, high, held, least


def survey(mu: Array, V: Array) -> Survey:
    """What a step and its record need to know, in one pass."""
    flat, potential = mu.reshape(-1), V.reshape(-1)
    out = _run(_survey, 6, flat, potential)
    if len(out) == 1:
        return Survey(*out[0].tolist())
    return Survey(
        float(out[:, 0].sum()),
        float(out[:, 1].sum()),
        float(out[:, 2].min()),
        float(out[:, 3].max()),
        float(out[:, 4].min()),
        float(out[:, 5].min()),
    )


def exponential(r: Array, shift: float, factor: float, clip: bool, out: Array) -> Array:
    """``exp(factor (r - shift))``, at most 1 where `clip` is set."""
    flat, target = r.reshape(-1), out.reshape(-1)

    def task(first: int, last: int) -> None:
        start, stop = first * BLOCK, min(flat.size, last * BLOCK)
        _exponential(flat, shift, factor, clip, start, stop, target)
        np.exp(target[start:stop], out=target[start:stop])

    in_shares(task, -(-flat.size // BLOCK), flat.size)
    return out


def first_stage(mu: Array, rate: Array, third: Array | None, c: float, nu: Array) -> tuple[float, float]:
    """``nu = third^2 (mu + c rate)``; the sums of ``nu`` and of the rate."""
    a, b, n = mu.reshape(-1), rate.reshape(-1), nu.reshape(-1)
    t = a if third is None else third.reshape(-1)
    out = _run(_first, 2, a, b, t, third is not None, c, n)
    return _sum(out, 0), _sum(out, 1)


class Change:
    """``delta = alpha r - alpha_0 r_0 - constant``: what the integrating factor of a step has left out."""

    __slots__ = ("alpha", "alpha_0", "constant", "r", "r_0")

    def __init__(self, r: Array, r_0: Array, alpha: float, alpha_0: float, constant: float) -> None:
        self.r, self.r_0 = r.reshape(-1), r_0.reshape(-1)
        self.alpha, self.alpha_0, self.constant = alpha, alpha_0, constant


def largest_change(change: Change) -> float:
    """The largest ``delta``."""
    out = _run(_largest, 1, change.r, change.r_0, change.alpha, change.alpha_0, change.constant)
    return float(out[0, 0]) if len(out) == 1 else float(out.max())


def second_stage(
    mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, slope: Array
) -> tuple[float, float]:
    """``slope -= delta nu``, then ``nu = (2 third^2 mu + nu + 4/3 h slope) / 3``; sums of ``nu``, of the slope."""
    a, n, s = mu.reshape(-1), nu.reshape(-1), slope.reshape(-1)
    out = _run(_second, 2, a, n, *_reaction(a, third, change), h, s)
    return _sum(out, 0), _sum(out, 1)


def final_stage(
    mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, rate: Array, before: Array, slope: Array
) -> tuple[float, float, float]:
    """The end of the step, written over `slope`; sums of it, of the slope, and of the error estimate."""
    a, n, f, b, s = mu.reshape(-1), nu.reshape(-1), rate.reshape(-1), before.reshape(-1), slope.reshape(-1)
    out = _run(_final, 3, a, n, *_reaction(a, third, change), h, f, b, s)
    return _sum(out, 0), _sum(out, 1), _sum(out, 2)


def combine(start: Array, mu: Array, rate: Array, old: float, new: float, step: float, out: Array) -> float:
    """``out = old start + new (mu + step rate)``, a stage in Shu and Osher's form; the sum of the rate."""
    arrays = [a.reshape(-1) for a in (start, mu, rate)]
    return _sum(_run(_combine, 1, *arrays, old, new, step, out.reshape(-1)), 0)


def finish(mu: Array, factor: float) -> Array:
    """Scale in place, and set to zero what is about to become subnormal."""
    flat = mu.reshape(-1)

    def task(first: int, last: int) -> None:
        _finish(flat, factor, first * BLOCK, min(flat.size, last * BLOCK))

    in_shares(task, -(-flat.size // BLOCK), flat.size)
    return mu


def _reaction(a: Array, third: Array | None, change: Change | None) -> tuple[Any, ...]:
    if third is None or change is None:
        return a, a, a, False, 0.0, 0.0, 0.0
    return third.reshape(-1), change.r, change.r_0, True, change.alpha, change.alpha_0, change.constant


def _sum(out: Array, column: int) -> float:
    return float(out[0, column]) if len(out) == 1 else math.fsum(out[:, column])
