"""Attempts at implicit steps, compiled: what they do is told in `mfpde.mesh.methods.implicit`."""

from __future__ import annotations

import math

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.moving import inverse
from mfpde.mesh.compiled.options import addressed, uncounted
from mfpde.mesh.compiled.reacting import reacted
from mfpde.mesh.compiled.run_structures import (
    ALL_MISSED,
    DRIVING,
    ITERATE,
    ITERATES,
    MIDDLE,
    MIDDLE_POTENTIAL,
    MISSED,
    REMEMBERED,
    Span,
    Tried,
)
from mfpde.mesh.compiled.states import copied, dot, driven, evaluated, noted, rates, total
from mfpde.mesh.constants import MOST_HALVINGS, MOST_ITERATIONS
from mfpde.support.calls import called

__all__ = ["implicit"]

_PARTS = 1 << MOST_HALVINGS


# ----- the factors of a step


@uncounted
def _along(steps, i, mu, drive, length, tau):  # type: ignore[no-untyped-def]
    """The implicit transport along an axis, in the place of a density."""
    mesh, method = (steps.ints, steps.floats, steps.metric), steps.method
    given = method.stages, length, tau, inverse(tau)
    called(steps.at.solve, *given, *mesh, i, mu, drive, 0, method.tiles[i], mu)


@uncounted
def _composed(steps, mu, V, length, alpha, tau, out):  # type: ignore[no-untyped-def]
    """The end of a step whose potential is frozen at V."""
    copied(mu, out)
    driven(steps, V, tau)
    drive = V if steps.base.size == 0 else steps.fields[DRIVING]
    d, twice = steps.method.tiles.size, steps.method.stages == 2
    part = 0.5 * length if twice else length
    if alpha != 0.0:
        reacted(steps, out, V, alpha * part, tau)
    for i in range(d - 1):
        _along(steps, i, out, drive, part, tau)
    _along(steps, d - 1, out, drive, length, tau)
    if twice:
        for i in range(d - 2, -1, -1):
            _along(steps, i, out, drive, part, tau)
        if alpha != 0.0:
            reacted(steps, out, V, alpha * part, tau)
    passes.finish(out, 1.0, 0, out.size)


# ----- the potential


@uncounted
def _deviation(values, one, other):  # type: ignore[no-untyped-def]
    """The standard deviation under the sum of two densities."""
    mass = total(one) + total(other)
    if mass == 0.0:
        return 0.0
    mean, square = (dot(values, one) + dot(values, other)) / mass, 0.0
    for j in range(values.size):
        centred = values[j] - mean
        square += centred * centred * (one[j] + other[j])
    return math.sqrt(square / mass)


@uncounted
def _rotated(gram, vectors, p, q, m):  # type: ignore[no-untyped-def]
    """One of Jacobi's rotations of a symmetric matrix, which makes an entry 0."""
    if gram[p, q] == 0.0:
        return
    theta = (gram[q, q] - gram[p, p]) / (2.0 * gram[p, q])
    t = 1.0 / (abs(theta) + math.sqrt(theta * theta + 1.0))
    t = t if theta >= 0.0 else -t
    c = 1.0 / math.sqrt(t * t + 1.0)
    s = t * c
    for k in range(m):
        x, y = gram[k, p], gram[k, q]
        gram[k, p], gram[k, q] = c * x - s * y, s * x + c * y
        x, y = vectors[k, p], vectors[k, q]
        vectors[k, p], vectors[k, q] = c * x - s * y, s * x + c * y
    for k in range(m):
        x, y = gram[p, k], gram[q, k]
        gram[p, k], gram[q, k] = c * x - s * y, s * x + c * y


@uncounted
def _least_squares(small, m, place):  # type: ignore[no-untyped-def]
    """Part `place` of the shortest solution of the m equations in `small`, whose matrix is diagonal by now."""
    most, found = 0.0, 0.0
    for i in range(m):
        most = small[i, i] if small[i, i] > most else most
    for i in range(m):
        if small[i, i] > 1e-12 * most:
            along = 0.0
            for k in range(m):
                along += small[REMEMBERED + k, i] * small[k, REMEMBERED - 1]
            found += small[REMEMBERED + place, i] * along / small[i, i]
    return found


@uncounted
def _equations(steps, small, j, m):  # type: ignore[no-untyped-def]
    """The equations of the last m of the iterates before number j: products of differences of what they missed."""
    fields = steps.fields
    last = fields[ALL_MISSED + j % REMEMBERED]
    for p in range(m):
        one = fields[ALL_MISSED + (j - m + p) % REMEMBERED]
        for q in range(p + 1):
            other, product = fields[ALL_MISSED + (j - m + q) % REMEMBERED], 0.0
            for k in range(last.size):
                product += (last[k] - one[k]) * (last[k] - other[k])
            small[p, q] = small[q, p] = product
            small[REMEMBERED + p, q] = small[REMEMBERED + q, p] = 1.0 if p == q else 0.0
        product = 0.0
        for k in range(last.size):
            product += (last[k] - one[k]) * last[k]
        small[p, REMEMBERED - 1] = product


@uncounted
def _next_iterate(steps, j):  # type: ignore[no-untyped-def]
    """The next potential, by Anderson's acceleration from the last of them, number j being the present one."""
    fields, small = steps.fields, steps.method.small
    V, missed = fields[ITERATE], fields[MISSED]
    copied(V, fields[ITERATES + j % REMEMBERED])
    copied(missed, fields[ALL_MISSED + j % REMEMBERED])
    m = j if j < REMEMBERED - 1 else REMEMBERED - 1
    for k in range(V.size):
        V[k] += missed[k]
    if m == 0:
        return
    _equations(steps, small, j, m)
    for _ in range(12):
        for p in range(m):
            for q in range(p + 1, m):
                _rotated(small, small[REMEMBERED:], p, q, m)
    now = j % REMEMBERED
    for p in range(m):
        weight, then = _least_squares(small, m, p), (j - m + p) % REMEMBERED
        value, its, present, own = fields[ITERATES + then], fields[ALL_MISSED + then], fields[ITERATES + now], missed
        for k in range(V.size):
            V[k] -= weight * (present[k] - value[k]) + weight * (own[k] - its[k])


@uncounted
def _solved(steps, mu, V, span, end, end_V, u):  # type: ignore[no-untyped-def]
    """A part of a step with its potential found by iteration; whether it was, and how often it was evaluated."""
    middle = span.t + (span.start + 0.5 * span.share) * span.dt
    (alpha, tau), length = rates(steps, middle), span.share * span.length
    iterate, missed = steps.fields[ITERATE], steps.fields[MISSED]
    copied(V, iterate)
    _composed(steps, mu, iterate, length, alpha, tau, end)
    for j in range(MOST_ITERATIONS):
        evaluated(steps, end, end_V, u, steps.fresh)
        if steps.method.share == 0.0:
            return True, 1
        for k in range(V.size):
            missed[k] = end_V[k] - V[k]
        moved = _deviation(missed, mu, end)
        for k in range(V.size):
            missed[k] = (V[k] - iterate[k]) + steps.method.share * missed[k]
        off = _deviation(missed, mu, end)
        if not math.isfinite(off):
            return False, j + 1
        # what is left matters against the temperature; at rest, round-off in V is all there is
        allowed, least = steps.method.convergence * moved, 1e-12 * (_deviation(iterate, mu, end) + tau)
        if off <= (allowed if allowed > least else least):
            return True, j + 1
        _next_iterate(steps, j)
        _composed(steps, mu, iterate, length, alpha, tau, end)
    return False, MOST_ITERATIONS


# ----- steps


@uncounted
def _in_parts(steps, mu, V, mass, span, end, end_V, u):  # type: ignore[no-untyped-def]
    """A step, or as many of half the length, again and again, as it takes to find the potential of each."""
    fields, level, place, leak, count = steps.fields, 0, 0, 0.0, 0
    before, before_V = mu, V
    while place < _PARTS:
        size = _PARTS >> level
        part = Span(
            span.t,
            span.dt,
            span.length,
            span.start + span.share * (place / _PARTS),
            span.share * (size / _PARTS),
        )
        solved, evaluations = _solved(steps, before, before_V, part, end, end_V, u)
        count += evaluations
        if not solved:
            if level == MOST_HALVINGS:
                return Tried(False, 0.5 * span.share * span.length, 0.0, 0.0, count)
            level += 1
        else:
            new = steps.fresh[0] * steps.volume
            leak += new / mass - 1.0 if steps.balanced else 0.0
            place, mass = place + size, new
            if place < _PARTS:
                before, before_V, level = fields[MIDDLE], fields[MIDDLE_POTENTIAL], 0
                copied(end, before)
                copied(end_V, before_V)
                while place % (_PARTS >> level):  # the second half of what was halved
                    level += 1
    return Tried(True, math.inf, leak, math.nan, count)


@addressed
def implicit(steps, mu, V, start, span, bound, end, end_V, u, outcome):  # type: ignore[no-untyped-def]
    """A step or a part of one; see `states.attempt`."""
    noted(_in_parts(steps, mu, V, start.mass, span, end, end_V, u), outcome)
