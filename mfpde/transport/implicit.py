"""Compiled implicit steps of the Scharfetter-Gummel fluxes along one axis.

A tile is `width` lines side by side: entry ``j * width + q`` of a buffer is row ``j`` of line ``q``. The recurrences
run along ``j`` and vectorise over ``q``, the last axis of the mesh included, whose lines are transposed on the way in
and out. Every line is worked on by itself, so that neither the tiles nor the threads show in the result.

The matrix of a line has rates ``a_k`` from row ``k-1`` to ``k`` and ``l_k`` back, both times the step, through the
face ``k`` on the left of row ``k``; on a periodic axis face 0 joins the last row to the first. It is eliminated from
row 0 upwards *without subtractions*: not the diagonal is carried along but ``c``, what is left of the column sum 1.
All quantities are positive, so that every entry of the result has small relative error, whatever the step and
however deep the tail, and mass is kept.
"""

from __future__ import annotations

import numpy as np

from .bernoulli import bernoulli
from .kernels import (
    INNER,
    INVERSE_H,
    METRIC_FACE,
    METRIC_INNER,
    METRIC_OFFSET,
    METRIC_OUTER,
    OUTER,
    PERIODIC,
    ROWS,
    SAFE,
    SPEED,
    _jit,
)

WIDTH = 32  # lines of a tile: the recurrences have a long latency, hidden by that many at a time
BLOCK = 32  # rows transposed at a time: both sides stay in the first cache level

GAMMA = 1.0 - 1.0 / np.sqrt(2.0)  # of the L-stable SDIRK method of two stages
KEEP = np.sqrt(2.0)  # the second stage starts from (1 + KEEP) Y_1 - KEEP mu


@_jit
def _load(source, line, width, n, inner, tile):  # type: ignore[no-untyped-def]
    """Copy lines ``line .. line + width`` into a tile."""
    q = 0
    while q < width:
        o = (line + q) // inner
        c = (line + q) % inner
        run = min(inner - c, width - q)
        if run == 1:
            # lines one entry wide: several at a time, in blocks of rows
            lines = width - q if inner == 1 else 1
            for r0 in range(0, n, BLOCK):
                for b in range(lines):
                    s = (o + b) * n * inner + c
                    for r in range(r0, min(n, r0 + BLOCK)):
                        tile[r * width + q + b] = source[s + r * inner]
            q += lines
        else:
            for r in range(n):
                s = (o * n + r) * inner + c
                t = r * width + q
                for b in range(run):
                    tile[t + b] = source[s + b]
            q += run


@_jit
def _store(tile, line, width, n, inner, target):  # type: ignore[no-untyped-def]
    """The reverse of `_load`."""
    q = 0
    while q < width:
        o = (line + q) // inner
        c = (line + q) % inner
        run = min(inner - c, width - q)
        if run == 1:
            lines = width - q if inner == 1 else 1
            for r0 in range(0, n, BLOCK):
                for b in range(lines):
                    s = (o + b) * n * inner + c
                    for r in range(r0, min(n, r0 + BLOCK)):
                        target[s + r * inner] = tile[r * width + q + b]
            q += lines
        else:
            for r in range(n):
                s = (o * n + r) * inner + c
                t = r * width + q
                for b in range(run):
                    target[s + b] = tile[t + b]
            q += run


@_jit
def _rates(lower, upper, scale, temperature, inverse_temperature, ahead, back):  # type: ignore[no-untyped-def]
    """``scale tau B(-+d)`` as drift plus conductance, ``tau B(-|d|) = tau B(|d|) + |dV|``."""
    for j in range(lower.size):
        x = upper[j] - lower[j]
        k = temperature * bernoulli(abs(x) * inverse_temperature)
        ahead[j] = scale * (k - (0.0 if x > 0.0 else x))
        back[j] = scale * (k + (0.0 if x < 0.0 else x))


@_jit
def _scale_rates(metric, ints, line, width, n, ahead, back):  # type: ignore[no-untyped-def]
    inner = ints[INNER]
    for q in range(width):
        o = (line + q) // inner
        c = (line + q) % inner
        start = ints[METRIC_OFFSET] + o * ints[METRIC_OUTER] + c * ints[METRIC_INNER]
        for k in range(n):
            g = metric[start + k * ints[METRIC_FACE]]
            ahead[k * width + q] *= g
            back[k * width + q] *= g


@_jit
def _assemble(potential, ints, floats, metric, temperature, inverse_temperature, dt, line, width, ahead, back):  # type: ignore[no-untyped-def]
    """Rates times `dt` through every face of a tile; zero through the wall at face 0."""
    n, w = ints[ROWS], width
    m = n * w
    scale = -floats[SPEED] * floats[INVERSE_H] * dt
    _rates(potential[: m - w], potential[w:m], scale, temperature, inverse_temperature, ahead[w:m], back[w:m])
    if ints[PERIODIC]:
        _rates(potential[m - w : m], potential[:w], scale, temperature, inverse_temperature, ahead[:w], back[:w])
    else:
        ahead[:w] = 0.0
        back[:w] = 0.0
    if ints[METRIC_OFFSET] >= 0:
        _scale_rates(metric, ints, line, width, n, ahead, back)


@_jit
def _factor(ahead, back, n, w, periodic, inverse, up, down, home, away, c, p, s, last):  # type: ignore[no-untyped-def]
    """Eliminate all rows but the last.

    In: the rates. Out: ``inverse = 1/D`` of every eliminated row and, in units of ``D``: `up`, its rate to the next
    row; `down` (at the next row), the rate from there; on a periodic axis also `home`, its rate to the last row, and
    `away`, the rate from there. ``last`` is what is left of the last column sum. `c`, `p`, `s` are work space.
    """
    c[:w] = 1.0
    last[:w] = 1.0
    if not periodic:
        for j in range(n - 1):
            t = j * w
            for q in range(w):
                a = ahead[t + w + q]
                i = 1.0 / (c[q] + a)
                d = back[t + w + q] * i
                inverse[t + q] = i
                up[t + q] = a * i
                down[t + w + q] = d
                c[q] = 1.0 + d * c[q]
        last[:w] = c[:w]
        return
    p[:w] = back[:w]
    s[:w] = ahead[:w]
    for j in range(n - 2):
        t = j * w
        for q in range(w):
            a = ahead[t + w + q]
            i = 1.0 / (c[q] + a + p[q])
            d = back[t + w + q] * i
            inverse[t + q] = i
            up[t + q] = a * i
            down[t + w + q] = d
            home[t + q] = p[q] * i
            g = s[q] * i
            away[t + q] = g
            last[q] += g * c[q]
            c[q] = 1.0 + d * c[q]
            p[q] = d * p[q]
            s[q] = g * a
    t = (n - 2) * w
    for q in range(w):
        # the next row and the last are the same
        a = ahead[t + w + q] + p[q]
        i = 1.0 / (c[q] + a)
        d = (back[t + w + q] + s[q]) * i
        inverse[t + q] = i
        up[t + q] = a * i
        down[t + w + q] = d
        last[q] += d * c[q]


@_jit
def _substitute(inverse, up, down, home, away, last, n, w, periodic, b, e, x):  # type: ignore[no-untyped-def]
    """Solve for the right-hand side `x`, in place. `b`, `e` are work space."""
    b[:w] = x[:w]
    if periodic:
        e[:w] = x[(n - 1) * w : n * w]
        for j in range(n - 2):
            t = j * w
            for q in range(w):
                y = b[q]
                x[t + q] = y * inverse[t + q]
                e[q] += home[t + q] * y
                b[q] = x[t + w + q] + up[t + q] * y
        t = (n - 2) * w
        for q in range(w):
            y = b[q]
            x[t + q] = y * inverse[t + q]
            b[q] = e[q] + up[t + q] * y
    else:
        for j in range(n - 1):
            t = j * w
            for q in range(w):
                y = b[q]
                x[t + q] = y * inverse[t + q]
                b[q] = x[t + w + q] + up[t + q] * y
    t = (n - 1) * w
    for q in range(w):
        b[q] /= last[q]
        x[t + q] = b[q]
        e[q] = b[q]
    for j in range(n - 2, -1, -1):
        t = j * w
        if periodic and j < n - 2:
            for q in range(w):
                y = x[t + q] + down[t + w + q] * b[q] + away[t + q] * e[q]
                x[t + q] = y
                b[q] = y
        else:
            for q in range(w):
                y = x[t + q] + down[t + w + q] * b[q]
                x[t + q] = y
                b[q] = y


@_jit
def _second_stage(mu, stage, m):  # type: ignore[no-untyped-def]
    for j in range(m):
        stage[j] = stage[j] + KEEP * (stage[j] - mu[j])


@_jit
def _any_negative(x, m):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(m):
        count += 1 if x[j] < 0.0 else 0
    return count > 0


@_jit
def _pass(flux, have, want, n, step, start, keep):  # type: ignore[no-untyped-def]
    """The factors of the faces through which `flux` goes in one direction, donors visited along it.

    Face ``k`` is on the left of row ``k``. `start` is the factor of the face through which the first row is entered.
    A donor gives what it has and what it has just been given; where the whole leaves nothing negative, the whole.
    """
    given = start
    for k in range(n):
        j = k if step > 0 else n - 1 - k
        entry, leave = (j, j + 1) if step > 0 else (j + 1, j)
        inflow, outflow = step * flux[entry], step * flux[leave]
        if not outflow > 0.0:
            given = 1.0
            continue
        if inflow < 0.0:
            outflow -= inflow  # gives to both sides
            inflow = 0.0
        if want[j] >= 0.0 and (inflow == 0.0 or given == 1.0):
            given = 1.0
        else:
            room = SAFE * (have[j] + given * inflow)
            given = room / outflow if room < outflow else 1.0
        keep[leave] = given
    return given


@_jit
def _blend(have, want, n, periodic, seam, flux, keep):  # type: ignore[no-untyped-def]
    """Replace the line `want` by one without negative entries between it and the positive line `have`.

    Their face fluxes differ by `flux`, with ``have_k - want_k = flux_(k+1) - flux_k`` and `seam` at face 0; of it
    each face keeps what its donor can pay. Where nothing is negative, nor anything upstream, that is exactly all.
    """
    # summed from both ends to the heaviest row: nothing in the tails is lost to the round-off of the bulk
    top = 0
    for j in range(n):
        if have[j] > have[top]:
            top = j
    flux[0] = seam
    flux[n] = seam
    for j in range(top):
        flux[j + 1] = flux[j] + (have[j] - want[j])
    for j in range(n - 1, top, -1):
        flux[j] = flux[j + 1] - (have[j] - want[j])
    keep[: n + 1] = 1.0
    for step in (1, -1):
        given = _pass(flux, have, want, n, step, 1.0, keep)
        if periodic and step * seam > 0.0:
            if given < 1.0:
                # the first row cannot count on all that comes round: on what is certain only
                given = _pass(flux, have, want, n, step, 0.0, keep)
                _pass(flux, have, want, n, step, given, keep)
            keep[0] = given
            keep[n] = given
    for j in range(n):
        if keep[j] < 1.0 or keep[j + 1] < 1.0 or want[j] < 0.0:
            value = have[j] - (keep[j + 1] * flux[j + 1] - keep[j] * flux[j])
            want[j] = 0.0 if value < 0.0 else value


@_jit
def _make_positive(  # type: ignore[no-untyped-def]
    mu, seam, ahead, back, n, w, periodic, work, inverse, up, down, home, away, c, p, s, last, b, e, low, x
):
    """Blend the lines of a tile that have negative entries with implicit Euler steps of the whole length.

    `ahead` and `back` are the rates times ``GAMMA dt`` and `seam` the flux through face 0 in that step; all are
    used up.
    """
    m = n * w
    for j in range(m):
        ahead[j] *= 1.0 / GAMMA
        back[j] *= 1.0 / GAMMA
    low[:m] = mu[:m]
    _factor(ahead, back, n, w, periodic, inverse, up, down, home, away, c, p, s, last)
    _substitute(inverse, up, down, home, away, last, n, w, periodic, b, e, low)
    euler, sdirk, flux, keep = work[0], work[1], work[2], work[3]
    for q in range(w):
        negative = False
        for j in range(n):
            euler[j] = low[j * w + q]
            sdirk[j] = x[j * w + q]
            negative = negative or sdirk[j] < 0.0
        if negative:
            difference = 0.0
            if periodic:
                difference = seam[q] - (ahead[q] * euler[n - 1] - back[q] * euler[0])
            _blend(euler, sdirk, n, periodic, difference, flux, keep)
            for j in range(n):
                x[j * w + q] = sdirk[j]


@_jit
def solve(order, dt, temperature, inverse_temperature, mu, potential, ints, floats, metric, start, stop, out):  # type: ignore[no-untyped-def]
    """One implicit step on tiles ``start <= j < stop`` of the lines of an axis. `out` may be `mu`."""
    n, inner, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    lines = ints[OUTER] * inner
    width = min(WIDTH, lines)
    size = n * width
    second = order == 2
    step = GAMMA * dt if second else dt
    pv, x = np.empty(size), np.empty(size)
    ahead, back = np.empty(size), np.empty(size)
    inverse, up, down = np.empty(size), np.empty(size), np.empty(size)
    home, away = np.empty(size if periodic else 0), np.empty(size if periodic else 0)
    work = np.empty((7, width))
    c, p, s, last, b, e, seam = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    before = np.empty(size if second else 0)
    line_work = np.empty((4, n + 1 if second else 0))
    for tile in range(start, stop):
        line = tile * WIDTH
        w = min(WIDTH, lines - line)
        m = n * w
        _load(potential, line, w, n, inner, pv)
        _load(mu, line, w, n, inner, x)
        _assemble(pv, ints, floats, metric, temperature, inverse_temperature, step, line, w, ahead, back)
        _factor(ahead, back, n, w, periodic, inverse, up, down, home, away, c, p, s, last)
        if second:
            before[:m] = x[:m]
        _substitute(inverse, up, down, home, away, last, n, w, periodic, b, e, x)
        if second:
            for q in range(w):
                seam[q] = (1.0 + KEEP) * (ahead[q] * x[m - w + q] - back[q] * x[q])
            _second_stage(before, x, m)
            _substitute(inverse, up, down, home, away, last, n, w, periodic, b, e, x)
            if _any_negative(x, m):
                for q in range(w):
                    seam[q] += ahead[q] * x[m - w + q] - back[q] * x[q]
                _make_positive(
                    before,
                    seam,
                    ahead,
                    back,
                    n,
                    w,
                    periodic,
                    line_work,
                    inverse,
                    up,
                    down,
                    home,
                    away,
                    c,
                    p,
                    s,
                    last,
                    b,
                    e,
                    pv,
                    x,
                )
        _store(x, line, w, n, inner, out)
