"""Compiled implicit steps of the Scharfetter-Gummel fluxes along one axis.

A tile is `width` lines side by side: entry ``j * width + q`` of a buffer is row ``j`` of line ``q``. The recurrences
run along ``j`` and vectorise over ``q``, the last axis of the mesh included, whose lines are transposed on the way in
and out. The way up the rows goes by blocks that stay in the first cache levels; only what the way back needs is
kept for all rows. Every line is worked on by itself, so that neither tiles nor threads show in the result.

The matrix of a line has rates ``a_k`` from row ``k-1`` to ``k`` and ``l_k`` back, both times the step, through the
face ``k`` on the left of row ``k``; on a periodic axis face 0 joins the last row to the first. It is eliminated from
row 0 upwards *without subtractions*: not the diagonal is carried along but ``c``, what is left of the column sum 1.
All quantities are positive, so that every entry of the result has a small relative error, whatever the step and
however deep the tail, and mass is kept.
"""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.bernoulli import bernoulli
from mfpde.mesh.compiled.options import (
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
    jit,
    kernel,
)

__all__ = ["solve", "tile_width"]

WIDTH = 64  # most lines of a tile: the recurrences have a long latency, hidden by that many at a time
BLOCK = 32  # rows of a block

GAMMA = 1.0 - 1.0 / np.sqrt(2.0)  # of the L-stable SDIRK method of two stages
KEEP = np.sqrt(2.0)  # the second stage starts from (1 + KEEP) Y_1 - KEEP mu


@jit
def _copy(source, target):  # type: ignore[no-untyped-def]
    for j in range(target.size):
        target[j] = source[j]


@jit
def _move(mesh, line, width, n, inner, r0, rows, tile, inward):  # type: ignore[no-untyped-def]
    """Copy rows ``r0 .. r0 + rows`` of lines ``line .. line + width`` into a tile (`inward`) or back."""
    if inner == 1:
        for b in range(width):
            s = (line + b) * n + r0
            along, across = mesh[s : s + rows], tile[b : rows * width : width]
            if inward:
                for r in range(rows):
                    across[r] = along[r]
            else:
                for r in range(rows):
                    along[r] = across[r]
        return
    q = 0
    while q < width:
        o = (line + q) // inner
        c = (line + q) % inner
        run = min(inner - c, width - q)
        for r in range(rows):
            s = (o * n + r0 + r) * inner + c
            t = r * width + q
            if inward:
                _copy(mesh[s : s + run], tile[t : t + run])
            else:
                _copy(tile[t : t + run], mesh[s : s + run])
        q += run


@jit
def _rates(lower, upper, scale, temperature, inverse_temperature, ahead, back):  # type: ignore[no-untyped-def]
    """``scale tau B(+-d)`` as drift plus conductance, ``tau B(-|d|) = tau B(|d|) + |dV|``."""
    for j in range(lower.size):
        x = upper[j] - lower[j]
        k = temperature * bernoulli(abs(x) * inverse_temperature)
        ahead[j] = scale * (k - (0.0 if x > 0.0 else x))
        back[j] = scale * (k + (0.0 if x < 0.0 else x))


@jit
def _scale_rates(metric, ints, line, width, face, faces, ahead, back):  # type: ignore[no-untyped-def]
    """Multiply the rates through faces ``face .. face + faces`` by the metric."""
    inner, face_stride = ints[INNER], ints[METRIC_FACE]
    q = 0
    while q < width:
        o = (line + q) // inner
        c = (line + q) % inner
        run = min(inner - c, width - q)
        for k in range(faces):
            s = ints[METRIC_OFFSET] + o * ints[METRIC_OUTER] + c * ints[METRIC_INNER] + (face + k) * face_stride
            t = k * width + q
            for b in range(run):
                g = metric[s + b * ints[METRIC_INNER]]
                ahead[t + b] *= g
                back[t + b] *= g
        q += run


@jit
def _eliminate(ahead, back, mu, rows, w, down, x, c, b):  # type: ignore[no-untyped-def]
    """Eliminate some rows: face, right-hand side and `down` at ``j`` belong to the next row.

    In place of the rates come, of the row in hand, `up`, its rate to the next one in units of ``D``, and ``1/D``.
    `down` is the rate from the next row and `x` the right-hand side, in units of ``D``. `c` and `b`, the column sum and
    right-hand side of the row in hand, are carried on.
    """
    for j in range(rows):
        t = j * w
        # slices, because an index that might be negative does not vectorise; few at a time, since all are checked
        # for overlap
        up, inverse, d_f = ahead[t : t + w], back[t : t + w], down[t : t + w]
        for q in range(w):
            a = up[q]
            i = 1.0 / (c[q] + a)
            d = inverse[q] * i
            up[q] = a * i
            inverse[q] = i
            d_f[q] = d
            c[q] = 1.0 + d * c[q]
        m, x_c = mu[t : t + w], x[t : t + w]
        for q in range(w):
            y = b[q]
            x_c[q] = y * inverse[q]
            b[q] = m[q] + up[q] * y


@jit
def _eliminate_round(ahead, back, mu, rows, w, down, home, away, x, c, b, p, s, last, e):  # type: ignore[no-untyped-def]
    """`_eliminate` on a periodic axis, against the last row too.

    `p` and `s` are the rates from the row in hand to the last one and back, `last` and `e` the last column sum and
    right-hand side; `home` and `away` keep `p` and `s` in units of ``D``.
    """
    for j in range(rows):
        t = j * w
        up, inverse, d_f = ahead[t : t + w], back[t : t + w], down[t : t + w]
        h_c, g_c = home[t : t + w], away[t : t + w]
        for q in range(w):
            a = up[q]
            i = 1.0 / (c[q] + a + p[q])
            d = inverse[q] * i
            h_c[q] = p[q] * i
            p[q] = d * p[q]
            up[q] = a * i
            inverse[q] = i
            d_f[q] = d
        for q in range(w):
            g = s[q] * inverse[q]
            g_c[q] = g
            s[q] = s[q] * up[q]
            last[q] += g * c[q]
            c[q] = 1.0 + d_f[q] * c[q]
        m, x_c = mu[t : t + w], x[t : t + w]
        for q in range(w):
            y = b[q]
            x_c[q] = y * inverse[q]
            e[q] += h_c[q] * y
            b[q] = m[q] + up[q] * y


@jit
def _ascend(  # type: ignore[no-untyped-def]
    mu,
    potential,
    ints,
    floats,
    metric,
    temperature,
    inverse_temperature,
    dt,
    line,
    w,
    keep,
    block,
    work,
    up,
    inverse,
    home,
    down,
    away,
    x,
    seam,
):
    """Set up and eliminate all rows of a tile, and find the last entry of the solution.

    `up`, `inverse` and `home` are for all rows with `keep` and for a block without. `seam` gets the rates of face 0.
    """
    n, inner, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    pv, right = block[0], block[1]
    c, b, p, s, last, e = work[0], work[1], work[2], work[3], work[4], work[5]
    scale = -floats[SPEED] * floats[INVERSE_H] * dt
    scaled = ints[METRIC_OFFSET] >= 0
    zero, one = np.int64(0), np.int64(1)  # literals would compile the same functions again
    _move(mu, line, w, n, inner, zero, one, b, True)
    if periodic:
        _move(potential, line, w, n, inner, n - one, one, pv, True)
        _move(potential, line, w, n, inner, zero, one, pv[w:], True)
        _move(mu, line, w, n, inner, n - one, one, e, True)
        _rates(pv[:w], pv[w : 2 * w], scale, temperature, inverse_temperature, s, p)
        if scaled:
            _scale_rates(metric, ints, line, w, zero, one, s, p)
    for q in range(w):
        c[q] = 1.0
        last[q] = 1.0
        seam[0, q] = s[q]
        seam[1, q] = p[q]
    eliminated = n - 2 if periodic else n - 1
    for r in range(0, n - 1, BLOCK):
        faces = min(BLOCK, n - 1 - r)
        size = faces * w
        t = r * w
        k = t if keep else 0
        ahead, back = up[k : k + size], inverse[k : k + size]
        _move(potential, line, w, n, inner, r, faces + 1, pv, True)
        _move(mu, line, w, n, inner, r + 1, faces, right, True)
        _rates(pv[:size], pv[w : size + w], scale, temperature, inverse_temperature, ahead, back)
        if scaled:
            _scale_rates(metric, ints, line, w, r + 1, faces, ahead, back)
        rows = min(faces, eliminated - r)
        if periodic:
            _eliminate_round(ahead, back, right, rows, w, down[t + w :], home[k:], away[t:], x[t:], c, b, p, s, last, e)
            if rows < faces:
                # for the row before the last one the next row and the last are the same
                u = rows * w
                to, fro = ahead[u:], back[u:]
                for q in range(w):
                    to[q] += p[q]
                    fro[q] += s[q]
                _eliminate(to, fro, e, one, w, down[t + u + w :], x[t + u :], c, b)
                for q in range(w):
                    last[q] += c[q] - 1.0
        else:
            _eliminate(ahead, back, right, rows, w, down[t + w :], x[t:], c, b)
    end = x[(n - 1) * w : n * w]
    for q in range(w):
        last[q] = last[q] if periodic else c[q]
        end[q] = b[q] / last[q]


@jit
def _ascend_again(up, inverse, home, n, w, periodic, work, x):  # type: ignore[no-untyped-def]
    """Another right-hand side, in place, for a tile whose elimination was kept."""
    b, last, e = work[1], work[4], work[5]
    t = (n - 1) * w
    for q in range(w):
        b[q] = x[q]
        e[q] = x[t + q]
    for j in range(n - 1):
        t = j * w
        here, right, i_c, u_c = x[t : t + w], x[t + w : t + 2 * w], inverse[t : t + w], up[t : t + w]
        if periodic and j < n - 2:
            h_c = home[t : t + w]
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                e[q] += h_c[q] * y
                b[q] = right[q] + u_c[q] * y
        elif periodic:
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                b[q] = e[q] + u_c[q] * y
        else:
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                b[q] = right[q] + u_c[q] * y
    end = x[(n - 1) * w : n * w]
    for q in range(w):
        end[q] = b[q] / last[q]


@jit
def _descend(down, away, n, w, periodic, low, high, x):  # type: ignore[no-untyped-def]
    """Back substitution for rows ``high - 1 .. low``, those above being known."""
    end = x[(n - 1) * w : n * w]
    for j in range(min(high, n - 1) - 1, low - 1, -1):
        t = j * w
        here, above, d = x[t : t + w], x[t + w : t + 2 * w], down[t + w : t + 2 * w]
        if periodic and j < n - 2:
            g = away[t : t + w]
            for q in range(w):
                here[q] = here[q] + d[q] * above[q] + g[q] * end[q]
        else:
            for q in range(w):
                here[q] = here[q] + d[q] * above[q]


@jit
def _second_stage(mu, line, n, inner, w, before, stage):  # type: ignore[no-untyped-def]
    """``(1 + KEEP) Y - KEEP mu`` in place of ``Y``."""
    for r in range(0, n, BLOCK):
        rows = min(BLOCK, n - r)
        _move(mu, line, w, n, inner, r, rows, before, True)
        y = stage[r * w : (r + rows) * w]
        for j in range(rows * w):
            y[j] = y[j] + KEEP * (y[j] - before[j])


@jit
def _any_negative(x, m):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(m):
        count += 1 if x[j] < 0.0 else 0
    return count > 0


@jit
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


@jit
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
    for k in range(n + 1):
        keep[k] = 1.0
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


@jit
def _make_positive(low, seam, rates, n, w, periodic, work, x):  # type: ignore[no-untyped-def]
    """Blend the lines of a tile that have negative entries with those of `low`, the implicit Euler step.

    `seam` is the flux of `x` through face 0, `rates` are those of `low` there.
    """
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
                difference = seam[q] - (rates[0, q] * euler[n - 1] - rates[1, q] * euler[0])
            _blend(euler, sdirk, n, periodic, difference, flux, keep)
            for j in range(n):
                x[j * w + q] = sdirk[j]


@kernel
def tile_width(lines):  # type: ignore[no-untyped-def]
    """Lines of a tile."""
    return min(WIDTH, lines)


@kernel
def solve(order, dt, temperature, inverse_temperature, mu, potential, ints, floats, metric, start, stop, out):  # type: ignore[no-untyped-def]
    """One implicit step on tiles ``start <= j < stop`` of the lines of an axis. `out` may be `mu`."""
    n, inner, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    lines = ints[OUTER] * inner
    width = tile_width(lines)
    size = n * width
    second = order == 2
    step = GAMMA * dt if second else dt
    zero = np.int64(0)  # a literal would compile the same function again
    x, down = np.empty(size), np.empty(size)
    away = np.empty(size if periodic else 0)
    kept = size if second else BLOCK * width
    up, inverse = np.empty(kept), np.empty(kept)
    home = np.empty(kept if periodic else 0)
    block = np.empty((2, (BLOCK + 1) * width))
    work = np.empty((6, width))
    rates, seam = np.empty((2, width)), np.zeros(width)
    low = np.empty(0)
    line_work = np.empty((4, n + 1 if second else 0))
    for tile in range(start, stop):
        line = tile * width
        w = min(width, lines - line)
        _ascend(
            mu,
            potential,
            ints,
            floats,
            metric,
            temperature,
            inverse_temperature,
            step,
            line,
            w,
            second,
            block,
            work,
            up,
            inverse,
            home,
            down,
            away,
            x,
            rates,
        )
        if second:
            _descend(down, away, n, w, periodic, zero, n, x)
            t = (n - 1) * w
            if periodic:
                for q in range(w):
                    seam[q] = (1.0 + KEEP) * (rates[0, q] * x[t + q] - rates[1, q] * x[q])
            _second_stage(mu, line, n, inner, w, block[0], x)
            _ascend_again(up, inverse, home, n, w, periodic, work, x)
            _descend(down, away, n, w, periodic, zero, n, x)
            if _any_negative(x, n * w):
                if periodic:
                    for q in range(w):
                        seam[q] += rates[0, q] * x[t + q] - rates[1, q] * x[q]
                if low.size == 0:
                    low = np.empty(size)
                _ascend(
                    mu,
                    potential,
                    ints,
                    floats,
                    metric,
                    temperature,
                    inverse_temperature,
                    dt,
                    line,
                    w,
                    second,
                    block,
                    work,
                    up,
                    inverse,
                    home,
                    down,
                    away,
                    low,
                    rates,
                )
                _descend(down, away, n, w, periodic, zero, n, low)
                _make_positive(low, seam, rates, n, w, periodic, line_work, x)
            _move(out, line, w, n, inner, zero, n, x, False)
        else:
            for r in range(((n - 1) // BLOCK) * BLOCK, -1, -BLOCK):
                high = min(n, r + BLOCK)
                _descend(down, away, n, w, periodic, r, high, x)
                _move(out, line, w, n, inner, r, high - r, x[r * w :], False)
