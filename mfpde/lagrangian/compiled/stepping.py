"""Embedded Runge-Kutta methods in compiled code: so many evaluations a call, then back to Python."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mfpde.lagrangian.compiled.motion import (
    OPTIONS,
    Line,
    Products,
    carve,
    confine,
    inlined,
    inner,
    judge,
    move,
    of_one,
    read,
)
from mfpde.lagrangian.compiled.network_packing import NetworkMotion
from mfpde.lagrangian.compiled.networks import Network
from mfpde.lagrangian.compiled.packing import Motion
from mfpde.lagrangian.compiled.several import Four, Three
from mfpde.support.arrays import Array
from mfpde.support.compiling import compiled
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import fused, load, spread, store
from mfpde.support.pointers import at, peek, pointer, put, shift, whole

__all__ = [
    "ARRIVED",
    "BEYOND",
    "FAILED",
    "FIRST",
    "LEAST_ERROR",
    "PAUSED",
    "ROUNDING",
    "SHORTEST",
    "Tableau",
    "advance",
    "grown",
    "judged",
    "kind_of",
    "of_two",
    "read_method",
    "shrunk",
    "tableau",
]

ARRIVED, PAUSED, FAILED, BEYOND = 0, 1, 2, 3
"""What ended a call: the end of the interval, the allowance of evaluations, a step below round-off, a V for which there
is no f(V)."""

SAFETY, LEAST, MOST = 0.9, 0.3, 6.0
"""Of the next step's length: a factor, and bounds of its ratio to the last one."""
INTEGRAL, BEFORE = 0.7, 0.4
"""Exponents of the error of a step and of the one before, times the order of the error."""
FIRST = 1.2
ROUNDING = 2.3e-14
"""Relative error of a coordinate that is never an error of a step."""
SHORTEST = 2.3e-15
"""Steps shorter than this share of the clock are none."""
LEAST_ERROR = 1e-4
"""What an error counts as at least when the next step's length is found."""


class Tableau(NamedTuple):
    """A Runge-Kutta method with an error and a dense output, those of `scipy.integrate`.

    Attributes
    ----------
    order : int
        5 for Dormand and Prince's 5(4), 8 for their 8(5,3).
    stages : int
        Of a step. One more is the rate at its end, and those after it (three of order 8) are for the dense output.
    A : array, shape (all stages, all stages)
        Of which the row after the last stage is the step itself.
    C : array, shape (all stages,)
    E : array, shape (2, all stages)
        Weights of the stages in the error, of which 8(5,3) has two.
    D : array, shape (all stages, degree)
        Weights of the stages in the middle of a step: coefficients of powers of how far that is, from the first.
    packed : array
        All of it in one array: order, stages, all stages, degree, and then the arrays.
    """

    order: int
    stages: int
    A: Array
    C: Array
    E: Array
    D: Array

    packed: Array


@cache
def tableau(order: int) -> Tableau:
    """The method of order 5 or 8."""
    from scipy.integrate import DOP853, RK45

    m: Any = RK45 if order == 5 else DOP853
    stages = len(m.B)
    every = stages + 1 + (len(m.A_EXTRA) if order == 8 else 0)
    A, C, E = np.zeros((every, every)), np.ones(every), np.zeros((2, every))
    A[:stages, : m.A.shape[1]], A[stages, :stages], C[:stages] = m.A, m.B, m.C
    if order == 5:
        E[0, : stages + 1] = m.E
        return _packed(5, stages, A, C, E, np.ascontiguousarray(m.P))
    A[stages + 1 :], C[stages + 1 :] = m.A_EXTRA, m.C_EXTRA
    E[:, : stages + 1] = m.E5, m.E3
    # x (f_0 + (1 - x) (f_1 + x (f_2 + (1 - x) (f_3 + ...)))), with f_0 = y_1 - y_0, f_1 = h k_0 - f_0 and
    # f_2 = 2 f_0 - h (k_0 + k_1), the others h D k
    f = np.zeros((7, every))
    f[0, :stages] = m.B
    f[1], f[2] = -f[0], 2.0 * f[0]
    f[1, 0] += 1.0
    f[2, [0, stages]] -= 1.0
    f[3:] = m.D
    D, product = np.zeros((every, 7)), np.polynomial.Polynomial([1.0])
    for k, row in enumerate(f):
        product *= np.polynomial.Polynomial([0.0, 1.0] if k % 2 == 0 else [1.0, -1.0])
        powers = np.asarray(product.coef, dtype=float)[1:]
        D[:, : len(powers)] += np.outer(row, powers)
    return _packed(8, stages, A, C, E, D)


def _packed(order: int, stages: int, A: Array, C: Array, E: Array, D: Array) -> Tableau:
    head = [order, stages, len(C), D.shape[1]]
    return Tableau(order, stages, A, C, E, D, np.concatenate([head, *(np.ravel(array) for array in (A, C, E, D))]))


def kind_of(motion: Motion | NetworkMotion) -> Line | Products | Three | Four | Network:
    """By what the program is chosen that makes a motion."""
    if isinstance(motion, NetworkMotion):
        return Network()
    if motion.several:
        return Three() if len(motion.tables) == 3 else Four()
    return Line() if motion.columns[0] < 0 else Products()


class _Method(NamedTuple):
    """A `Tableau.packed`, by pointers."""

    order: int
    stages: int
    every: int
    degree: int
    A: Any
    C: Any
    E: Any
    D: Any


class _Nodes(NamedTuple):
    """What is integrated: what moves it (tables, f and the birth-death rate with the clock values between which that
    is asked for), logarithms of weights at the start, and the state.
    """

    motion: Any
    rate: Any
    alpha: Any
    low: float
    high: float
    log_mass: Any
    y: Any


@inlined
def read_method(p):  # type: ignore[no-untyped-def]
    """What `Tableau.packed` gives, from a pointer to it."""
    order, stages, every, degree = whole(at(p, 0)), whole(at(p, 1)), whole(at(p, 2)), whole(at(p, 3))
    A = shift(p, 4)
    C = shift(A, every * every)
    E = shift(C, every)
    return _Method(order, stages, every, degree, A, C, E, shift(E, 2 * every))


@inner
def _mix(work, weights, m, base, share, h, out):  # type: ignore[no-untyped-def]
    """``share base + h sum_j weights_j K_j`` of the first `m` stages to `out`."""
    size = work.size
    for i in range(0, size, COUNT):
        total, stage, left = spread(0.0), work.K, size - i
        for j in range(m):
            a = peek(weights, j)
            if a != 0.0:
                total = fused(spread(a), load(stage, i, left, 0.0), total)
            stage = shift(stage, size)
        store(out, i, left, fused(spread(h), total, spread(share) * load(base, i, left, 0.0)))


@inlined
def _stage(nodes, method, s, S, h, work, out):  # type: ignore[no-untyped-def]
    """Evaluate stage `s` of a step, at the state `out`; a V for which there is no f(V), or NaN."""
    _mix(work, shift(method.A, s * method.every), s, nodes.y, 1.0, h, out)
    clock = S + at(method.C, s) * h
    clock = nodes.low if clock < nodes.low else nodes.high if clock > nodes.high else clock
    alpha = of_one(nodes.alpha, clock)
    return move(
        nodes.motion.kind, nodes.motion, nodes.rate, alpha, out, nodes.log_mass, work, shift(work.K, s * work.size)
    )


@inner
def _norm(y, fresh, error, w, n, size, least, rtol):  # type: ignore[no-untyped-def]
    """The mean square over all fields of the nodes, weighted with the measure, of errors by what is allowed; nodes
    lighter than `least` count as if they were that heavy.
    """
    square = 0.0
    for start in range(0, size, n):
        for i in range(n):
            one, other = abs(peek(y, start + i)), abs(peek(fresh, start + i))
            share = peek(w, i)
            share = share if share > least else least
            scale = rtol / math.sqrt(share) + ROUNDING * (one if one > other else other)
            e = peek(error, start + i) / scale
            square += e * e
    return square / size


@inner
def of_two(h, square, other):  # type: ignore[no-untyped-def]
    """The error of a step of the method of order eight, from the mean squares of its two."""
    return 0.0 if square == 0.0 and other == 0.0 else h * square / math.sqrt(square + 0.01 * other)


@inner
def shrunk(error, order):  # type: ignore[no-untyped-def]
    """The length of the next step after one that was rejected, relative to that."""
    factor = SAFETY * error ** (-1.0 / order) if math.isfinite(error) else 0.0
    return factor if factor > LEAST else LEAST


@inner
def grown(error, before, order, rejected):  # type: ignore[no-untyped-def]
    """The same after one that was accepted, by its error and the one before; after a rejected one none grows."""
    growth = MOST
    if error > 0.0:
        growth = SAFETY * error ** (-INTEGRAL / order) * before ** (BEFORE / order)
        growth = LEAST if growth < LEAST else MOST if growth > MOST else growth
    return 1.0 if rejected and growth > 1.0 else growth


@inlined
def _error(nodes, method, h, rtol, light, work):  # type: ignore[no-untyped-def]
    """The error of a step by what is allowed: below 1 it is accepted."""
    total, n = 0.0, work.n
    for i in range(n):
        total += peek(work.w, i)
    # weights relative to the average
    rtol *= math.sqrt(total / n)
    least, m, E = light * total / n, method.stages + 1, method.E
    _mix(work, E, m, nodes.y, 0.0, 1.0, work.stage)
    square = _norm(nodes.y, work.fresh, work.stage, work.w, n, work.size, least, rtol)
    if method.order == 5:
        return h * math.sqrt(square)
    _mix(work, shift(E, method.every), m, nodes.y, 0.0, 1.0, work.stage)
    return of_two(h, square, _norm(nodes.y, work.fresh, work.stage, work.w, n, work.size, least, rtol))


@inlined
def _dense(nodes, method, x, h, work, out):  # type: ignore[no-untyped-def]
    """The state in the middle of a step, `x` in (0, 1)."""
    for j in range(method.every):
        weight = 0.0
        for k in range(method.degree - 1, -1, -1):
            weight = (weight + at(method.D, j * method.degree + k)) * x
        put(work.few, j, weight)
    _mix(work, work.few, method.every, nodes.y, 1.0, h, out)


@inlined
def _first_step(method, rtol, length, work):  # type: ignore[no-untyped-def]
    """A first step from the speed of the nodes."""
    total, square, k = 0.0, 0.0, 0
    for i in range(work.n):
        total += peek(work.w, i)
    for i in range(work.size):
        square += peek(work.w, k) / total * peek(work.K, i) ** 2
        k = k + 1 if k + 1 < work.n else 0
    speed = math.sqrt(square)
    step = FIRST * rtol ** (1.0 / (method.order + 1))
    return step / speed if speed * length > step else length


@inlined
def _step_length(clock, end, step):  # type: ignore[no-untyped-def]
    """How long a step is, that it meets the end: two halves instead of a step and a rest."""
    if clock + step * (1.0 + 1e-10) >= end:
        return end - clock
    return 0.5 * (end - clock) if clock + 2.0 * step > end else step


@inlined
def _save(nodes, method, S, h, new, work, saves, saved, many, states):  # type: ignore[no-untyped-def]
    """Write the states at save times within a step; how many are saved now."""
    while saved < many and at(saves, saved) <= new:
        row = shift(states, saved * work.size)
        if at(saves, saved) < new:
            _dense(nodes, method, (at(saves, saved) - S) / h, h, work, row)
        else:
            for i in range(work.size):
                put(row, i, peek(work.fresh, i))
        saved += 1
    return saved


@inlined
def _accept(nodes, method, work):  # type: ignore[no-untyped-def]
    """Make the end of a step the state, nodes beyond a wall put back onto it."""
    n, end = work.n, shift(work.K, method.stages * work.size)
    for i in range(work.size):
        put(nodes.y, i, peek(work.fresh, i))
        put(work.K, i, peek(end, i))
    confine(nodes.motion.kind, nodes.motion, nodes.y, n)


@compiled(**OPTIONS)
def advance(kind, packed, rate, alpha, method_packed, y, log_mass, clock, counts, saves, states, space, allowed):  # type: ignore[no-untyped-def]
    """Go on towards the end of an interval.

    Parameters
    ----------
    kind : Line, Products, ...
        Of motion: the program is compiled for each.
    packed : array
        `Motion.packed`.
    rate, alpha : array
        Tables of f, with no pieces where it is V, and of the birth-death rate; see `of_one`.
    method_packed : array
        `Tableau.packed`.
    y : array, shape (size,)
        The state, which is replaced.
    log_mass : array, shape (N,)
    clock : array, shape (13,)
        See `mfpde.lagrangian.lane.Clock`.
    counts : array of int, shape (7,)
        See `mfpde.lagrangian.lane.Counts`.
    saves : array, shape (m,)
        Clock values to be saved, ascending.
    states : array, shape (m, size)
        Where to.
    space : array
        See `room`. It begins with the rate at the clock, where `counts` says that this is known.
    allowed : int
        Evaluations after which it returns, within a step or between two: the next call goes on from there.

    Returns
    -------
    int
        See `ARRIVED`.
    """
    method, motion = read_method(pointer(method_packed, 0)), read(kind, pointer(packed, 0))
    work = carve(kind, motion, pointer(space, 0), log_mass.size, y.size, method.every)
    nodes = _Nodes(motion, pointer(rate, 0), pointer(alpha, 0), clock[7], clock[8], pointer(log_mass, 0), pointer(y, 0))
    saves_at, states_at, order = pointer(saves, 0), pointer(states, 0), 1.0 * method.order
    end, rtol, light, until = clock[3], clock[5], clock[6], counts[2] + allowed
    S, h, error, new, s, last = clock[0], clock[10], clock[11], clock[12], counts[4], counts[5]
    within, rejected = s > 0, counts[6] != 0
    counts[4], counts[6] = 0, 0
    while clock[0] < end:
        if counts[2] >= until:  # bits do not depend on when that is
            counts[4], counts[5], counts[6] = s if within else 0, last, 1 if rejected else 0
            clock[10], clock[11], clock[12] = h, error, new
            return PAUSED
        # stages are evaluated in one place: the one at the start, those of a step, and those of its dense output
        if not within:
            S, h, s, last = clock[0], 0.0, 0, 0
            if counts[3] != 0:
                s, last, h = 1, method.stages, _step_length(S, end, clock[1] if clock[1] < clock[4] else clock[4])
                if h <= SHORTEST * S:
                    return FAILED
        counts[2] += 1
        beyond = _stage(nodes, method, s, S, h, work, work.fresh if s <= method.stages else work.stage)
        if s <= method.stages and not math.isnan(beyond):
            clock[9] = beyond
            return BEYOND
        s += 1
        within = s <= last
        if within:
            continue
        if last == 0:  # the rate at the start, with which there are steps
            counts[3] = 1
            if clock[1] == 0.0:
                clock[1] = _first_step(method, rtol, end - S, work)
                if not math.isfinite(clock[1]):
                    return FAILED
            continue
        if last == method.stages:
            error = _error(nodes, method, h, rtol, light, work)
            if not error < 1.0:
                clock[1] = h * shrunk(error, order)
                rejected = True
                continue
            new = end if h == end - S else S + h
            if method.every > last + 1 and counts[0] < saves.size and at(saves_at, counts[0]) < new:
                within, last = True, method.every - 1
                continue
        counts[0] = _save(nodes, method, S, h, new, work, saves_at, counts[0], saves.size, states_at)
        _accept(nodes, method, work)
        clock[1] = h * grown(error, clock[2], order, rejected)
        clock[2] = error if error > LEAST_ERROR else LEAST_ERROR
        clock[0] = new
        counts[1] += 1
        rejected = False
    return ARRIVED


@compiled(**OPTIONS)
def judged(kind, packed, log_mass, states, which, weights, found, space):  # type: ignore[no-untyped-def]
    """Energies and outputs of states.

    Parameters
    ----------
    kind : Line, Products, ...
    packed : array
        `Motion.packed`.
    log_mass : array, shape (N,)
    states : array, shape (m, size)
    which : array of bool, shape (m,)
        The states that are judged; of the others only the weights are found, and their mass.
    weights : array, shape (m, N)
        Where the weights of the nodes go.
    found : array, shape (m, 2 + outputs)
        Where these go: the energy, the mass before normalising, and the outputs of the losses.
    space : array
        See `room`.
    """
    motion = read(kind, pointer(packed, 0))
    m, size = states.shape
    work = carve(kind, motion, pointer(space, 0), log_mass.size, size, 0)
    logs, state, out, w = pointer(log_mass, 0), pointer(states, 0), pointer(found, 0), pointer(weights, 0)
    for k in range(m):
        judge(kind, motion, state, logs, work, out, which[k])
        for i in range(work.n):
            put(w, i, peek(work.w, i))
        state, out, w = shift(state, size), shift(out, found.shape[1]), shift(w, work.n)
