"""Compiled line sweeps. Imported when the first sweep is made, never by ``import mfpde``.

One kernel serves every dimension and axis. An array is seen as ``(outer, n, inner)`` along the axis in hand
and worked on in tiles: `batch` lines of `rows + 2 ghost` rows of `width` columns, copied into a contiguous
buffer. In the buffer the neighbour along the axis is always `width` entries away, so that every loop below is
flat over the tile and vectorises the same way for the last axis (width 1) and for the others. Entries across
the seam of two lines are computed and never used.

Entry ``k`` of a face buffer is the face on the left of cell ``k``. Ghost rows wrap on periodic axes and mirror
at walls; every formula is written so that mirrored data give the mirrored flux bit for bit, hence the flux
through a wall is exactly zero without being told, and the face shared by two tiles has one value. That needs
IEEE arithmetic as written: no contraction and no reassociation. Selections are written so that a NaN stays one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from .bernoulli import bernoulli

UPWIND, MUSCL, WENO5, SCHARFETTER_GUMMEL = 0, 1, 2, 3
MINMOD, VAN_LEER, MC = 0, 1, 2

# columns of the integer and float description of an axis (see operator.py)
OUTER, ROWS, INNER, PERIODIC, LOWER_TRUNCATED, UPPER_TRUNCATED = 0, 1, 2, 3, 4, 5
METRIC_OFFSET, METRIC_OUTER, METRIC_FACE, METRIC_INNER, FACE_OFFSET = 6, 7, 8, 9, 10
INVERSE_H, SPACING, SPEED = 0, 1, 2

TILE = 4096  # entries of a tile buffer: the buffers of one tile stay in the first two cache levels
WIDTH = 256  # most columns of a tile: long runs of memory count more than small buffers
DEPTH = 64  # fewest rows of a tile, where there are that many: the ghost rows are worked on twice
FLUSH = 1e-290  # smaller densities do not move: round-off there would not be relative any more
TINY = 2.2250738585072014e-308
SAFE = 1.0 - 1e-13  # room for round-off in the positivity limiter
EPSILON = 1e-40  # of the WENO weights, for stencils scaled to maximum one; sixth powers stay normal numbers

STAGGERED_1, STAGGERED_3, STAGGERED_5 = 75.0 / 64.0, -25.0 / 384.0, 3.0 / 640.0


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    return njit(cache=True, nogil=True, error_model="numpy", fastmath={"nsz"})(function)


@_jit
def _ghost_row(r, n, periodic):  # type: ignore[no-untyped-def]
    """The row of the mesh that stands for row `r`, by wrapping or by even mirroring."""
    if periodic:
        return r % n
    r = r % (2 * n)
    return r if r < n else 2 * n - 1 - r


@_jit
def _ghost_face(f, n, periodic):  # type: ignore[no-untyped-def]
    """The face of the mesh that stands for face `f`."""
    if periodic:
        return f % n
    f = f % (2 * n)
    return f if f <= n else 2 * n - f


@_jit
def _copy(source, target, flush):  # type: ignore[no-untyped-def]
    for j in range(target.size):
        x = source[j]
        target[j] = 0.0 if abs(x) < flush else x


@_jit
def _gather(source, line, batch, n, inner, r0, rows, ghost, c0, width, periodic, flush, buffer):  # type: ignore[no-untyped-def]
    """Copy rows ``r0 - ghost .. r0 + rows + ghost`` of `batch` lines into the buffer."""
    first = r0 - ghost
    count = rows + 2 * ghost
    low = max(0, first)
    high = min(n, first + count)
    for b in range(batch):
        start = (line + b) * n * inner
        at = b * count * width
        if width == inner:
            t = at + (low - first) * width
            size = (high - low) * width
            s = start + low * inner
            _copy(source[s : s + size], buffer[t : t + size], flush)
        else:
            for r in range(low, high):
                s = start + r * inner + c0
                t = at + (r - first) * width
                _copy(source[s : s + width], buffer[t : t + width], flush)
        ghosts = count - (high - low)
        for k in range(ghosts):
            q = k if k < low - first else k + (high - low)
            s = start + _ghost_row(first + q, n, periodic) * inner + c0
            t = at + q * width
            for c in range(width):
                x = source[s + c]
                buffer[t + c] = 0.0 if abs(x) < flush else x


@_jit
def _scale_by_metric(metric, ints, line, batch, n, r0, rows, ghost, c0, width, v):  # type: ignore[no-untyped-def]
    """Multiply face velocities by the rate g on the faces."""
    face_stride, inner_stride = ints[METRIC_FACE], ints[METRIC_INNER]
    count = rows + 2 * ghost
    first = r0 - ghost
    low = max(0, first)
    high = min(n if ints[PERIODIC] else n + 1, first + count)
    for b in range(batch):
        start = ints[METRIC_OFFSET] + (line + b) * ints[METRIC_OUTER] + c0 * inner_stride
        at = b * count * width
        flat = face_stride == width  # the faces of the tile follow each other as in the buffer
        if flat:
            s = start + low * face_stride
            t = at + (low - first) * width
            size = (high - low) * width
            source, target = metric[s : s + size], v[t : t + size]
            for j in range(size):
                target[j] *= source[j]
        for k in range(count - (high - low) if flat else count):
            q = k + (high - low) if flat and k >= low - first else k
            s = start + _ghost_face(first + q, n, ints[PERIODIC]) * face_stride
            t = at + q * width
            for c in range(width):
                v[t + c] *= metric[s + c * inner_stride]


@_jit
def _velocity_two(potential, w, m, speed, v):  # type: ignore[no-untyped-def]
    """``v = speed (V_k - V_(k-1))`` with ``speed = -g/h``."""
    a, b, out = potential[: m - w], potential[w:m], v[w:m]
    for j in range(m - w):
        out[j] = speed * (b[j] - a[j])


@_jit
def _velocity_six(potential, w, m, speed, v):  # type: ignore[no-untyped-def]
    """Sixth-order staggered difference; differences first, so that a constant drops out exactly."""
    count = m - 5 * w
    p0, p1, p2 = potential[:count], potential[w : w + count], potential[2 * w : 2 * w + count]
    p3, p4, p5 = (
        potential[3 * w : 3 * w + count],
        potential[4 * w : 4 * w + count],
        potential[5 * w : 5 * w + count],
    )
    out = v[3 * w : 3 * w + count]
    for j in range(count):
        out[j] = speed * (STAGGERED_1 * (p3[j] - p2[j]) + STAGGERED_3 * (p4[j] - p1[j]) + STAGGERED_5 * (p5[j] - p0[j]))


@_jit
def _bernoulli_weight(potential, w, m, inverse_temperature, weight):  # type: ignore[no-untyped-def]
    """Multiply by ``B(|d|)``, ``d = (V_k - V_(k-1))/tau``."""
    a, b, out = potential[: m - w], potential[w:m], weight[w:m]
    for j in range(m - w):
        out[j] *= bernoulli(abs(b[j] - a[j]) * inverse_temperature)


@_jit
def _conductance(  # type: ignore[no-untyped-def]
    kind,
    temperature,
    inverse_temperature,
    share,
    potential,
    metric,
    ints,
    floats,
    line,
    batch,
    r0,
    rows,
    ghost,
    c0,
    width,
    weight,
):
    """``share * tau g / h`` on the faces, times ``B(|d|)`` for Scharfetter-Gummel."""
    m = batch * (rows + 2 * ghost) * width
    weight[:m] = -share * temperature * floats[SPEED]
    if kind == SCHARFETTER_GUMMEL:
        _bernoulli_weight(potential, width, m, inverse_temperature, weight)
    if ints[METRIC_OFFSET] >= 0:
        _scale_by_metric(metric, ints, line, batch, ints[ROWS], r0, rows, ghost, c0, width, weight)


@_jit
def _close_walls(n, r0, rows, ghost, batch, width, weight):  # type: ignore[no-untyped-def]
    """Set the faces at both ends of a line, and beyond, to zero."""
    count = rows + 2 * ghost
    for b in range(batch):
        for q in range(count):
            f = r0 - ghost + q
            if f <= 0 or f >= n:
                t = (b * count + q) * width
                weight[t : t + width] = 0.0


@_jit
def _add(term, start, stop, total):  # type: ignore[no-untyped-def]
    a, out = term[start:stop], total[start:stop]
    for j in range(stop - start):
        out[j] += a[j]


@_jit
def _flux_weighted(mu, v, weight, w, m, flux):  # type: ignore[no-untyped-def]
    """Scharfetter-Gummel: upwind plus a conductance, ``tau B(-x) = tau B(x) + tau x``."""
    left, right, speed, spread, out = mu[: m - w], mu[w:m], v[w:m], weight[w:m], flux[w:m]
    for j in range(m - w):
        s = speed[j]
        k = spread[j]
        out[j] = ((0.0 if s < 0.0 else s) + k) * left[j] + ((0.0 if s > 0.0 else s) - k) * right[j]


@_jit
def _flux_upwind(mu, v, w, m, flux):  # type: ignore[no-untyped-def]
    left, right, speed, out = mu[: m - w], mu[w:m], v[w:m], flux[w:m]
    for j in range(m - w):
        s = speed[j]
        out[j] = (0.0 if s < 0.0 else s) * left[j] + (0.0 if s > 0.0 else s) * right[j]


@_jit
def _half_slopes(mu, w, m, limiter, slope):  # type: ignore[no-untyped-def]
    """Half the limited slope of every cell, in units of the spacing.

    Each is at most the smaller one-sided difference, so that ``0 <= mu +- slope <= 2 mu``, also in round-off.
    """
    u0, u1, u2, out = mu[: m - 2 * w], mu[w : m - w], mu[2 * w : m], slope[w : m - w]
    if limiter == VAN_LEER:
        for j in range(m - 2 * w):
            a = u1[j] - u0[j]
            b = u2[j] - u1[j]
            p = abs(a)
            q = abs(b)
            small = p if p < q else q
            large = q if p < q else p
            # small * (large / sum), not a*b / (a + b): products of tails underflow
            value = small * (large / (small + large + TINY))
            out[j] = (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0
    elif limiter == MINMOD:
        for j in range(m - 2 * w):
            a = u1[j] - u0[j]
            b = u2[j] - u1[j]
            p = abs(a)
            q = abs(b)
            value = 0.5 * (p if p < q else q)
            out[j] = (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0
    else:
        for j in range(m - 2 * w):
            a = u1[j] - u0[j]
            b = u2[j] - u1[j]
            p = abs(a)
            q = abs(b)
            value = p if p < q else q
            middle = 0.25 * (p + q)
            value = value if value < middle else middle
            out[j] = (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0


@_jit
def _flux_muscl(mu, slope, v, w, m, flux):  # type: ignore[no-untyped-def]
    count = m - 3 * w
    left, right = mu[w : w + count], mu[2 * w : 2 * w + count]
    rise, fall = slope[w : w + count], slope[2 * w : 2 * w + count]
    speed, out = v[2 * w : 2 * w + count], flux[2 * w : 2 * w + count]
    for j in range(count):
        s = speed[j]
        out[j] = (0.0 if s < 0.0 else s) * (left[j] + rise[j]) + (0.0 if s > 0.0 else s) * (right[j] - fall[j])


@_jit
def _stencil_extremes(mu, w, m, ratio, largest, unsafe):  # type: ignore[no-untyped-def]
    """Largest of the six cells around a face, and 1.0 where they span more than `ratio`."""
    count = m - 5 * w
    u0, u1, u2 = mu[:count], mu[w : w + count], mu[2 * w : 2 * w + count]
    u3, u4, u5 = mu[3 * w : 3 * w + count], mu[4 * w : 4 * w + count], mu[5 * w : 5 * w + count]
    top, flag = largest[3 * w : 3 * w + count], unsafe[3 * w : 3 * w + count]
    for j in range(count):
        a = u0[j]
        high = a
        low = a
        a = u1[j]
        high = a if a > high else high
        low = a if a < low else low
        a = u2[j]
        high = a if a > high else high
        low = a if a < low else low
        a = u3[j]
        high = a if a > high else high
        low = a if a < low else low
        a = u4[j]
        high = a if a > high else high
        low = a if a < low else low
        a = u5[j]
        high = a if a > high else high
        low = a if a < low else low
        top[j] = high
        flag[j] = 1.0 if high > ratio * low else 0.0


@_jit
def _flux_points(mu, v, largest, w, m, flux):  # type: ignore[no-untyped-def]
    """``G = v mu_f``: WENO-Z interpolation (power 2) from the upwind side.

    Candidates ``(3 u0 - 10 u1 + 15 u2)/8``, ``(-u1 + 6 u2 + 3 u3)/8``, ``(3 u2 + 6 u3 - u4)/8`` with linear weights
    1/16, 10/16, 5/16 and ``alpha_k = d_k (1 + tau^2/b_k^2)``, brought to one denominator. Smoothness is measured
    on the stencil divided by its largest value: squares of tails underflow, and no fixed epsilon fits all.
    """
    count = m - 5 * w
    e0, e1, e2 = mu[:count], mu[w : w + count], mu[2 * w : 2 * w + count]
    e3, e4, e5 = mu[3 * w : 3 * w + count], mu[4 * w : 4 * w + count], mu[5 * w : 5 * w + count]
    speed, top, out = v[3 * w : 3 * w + count], largest[3 * w : 3 * w + count], flux[3 * w : 3 * w + count]
    for j in range(count):
        s = speed[j]
        forward = s > 0.0
        x = e0[j]
        y = e5[j]
        u0 = x if forward else y
        x = e1[j]
        y = e4[j]
        u1 = x if forward else y
        u4 = y if forward else x
        x = e2[j]
        y = e3[j]
        u2 = x if forward else y
        u3 = y if forward else x
        high = top[j] + TINY
        scale = 1.0 / high
        d10 = (u1 - u0) * scale
        d21 = (u2 - u1) * scale
        d32 = (u3 - u2) * scale
        d43 = (u4 - u3) * scale
        c0 = d21 - d10
        c1 = d32 - d21
        c2 = d43 - d32
        g0 = 3.0 * d21 - d10
        g1 = d32 + d21
        g2 = 3.0 * d32 - d43
        b0 = (13.0 / 3.0) * (c0 * c0) + g0 * g0 + EPSILON
        b1 = (13.0 / 3.0) * (c1 * c1) + g1 * g1 + EPSILON
        b2 = (13.0 / 3.0) * (c2 * c2) + g2 * g2 + EPSILON
        t = b0 - b2
        t = t * t
        b0 = b0 * b0
        b1 = b1 * b1
        b2 = b2 * b2
        a0 = (b0 + t) * (b1 * b2)
        a1 = 10.0 * ((b1 + t) * (b0 * b2))
        a2 = 5.0 * ((b2 + t) * (b0 * b1))
        # candidates as u2 plus differences
        q0 = 7.0 * d21 - 3.0 * d10
        q1 = 3.0 * d32 + d21
        q2 = 5.0 * d32 - d43
        value = u2 + (0.125 * high) * ((a0 * q0 + a1 * q1 + a2 * q2) / (a0 + a1 + a2))
        out[j] = s * value


@_jit
def _mark_truncated(ints, batch, n, r0, rows, ghost, width, unsafe):  # type: ignore[no-untyped-def]
    """Faces whose stencil reaches across a truncation end: nothing is known about the potential there."""
    count = rows + 2 * ghost
    for b in range(batch):
        for q in range(count):
            f = r0 - ghost + q
            if (ints[LOWER_TRUNCATED] and f < 3) or (ints[UPPER_TRUNCATED] and f > n - 3):
                t = (b * count + q) * width
                for c in range(width):
                    unsafe[t + c] = 1.0


@_jit
def _any(unsafe, start, stop):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(start, stop):
        count += 1 if unsafe[j] > 0.0 else 0
    return count > 0


@_jit
def _correct(points, unsafe, w, m, flux):  # type: ignore[no-untyped-def]
    """``F = G - d^2 G/24 + 3 d^4 G/640`` in place of the fallback, unless one of the five faces is unsafe."""
    count = m - 9 * w
    g0, g1, g2 = points[3 * w : 3 * w + count], points[4 * w : 4 * w + count], points[5 * w : 5 * w + count]
    g3, g4 = points[6 * w : 6 * w + count], points[7 * w : 7 * w + count]
    f0, f1, f2 = unsafe[3 * w : 3 * w + count], unsafe[4 * w : 4 * w + count], unsafe[5 * w : 5 * w + count]
    f3, f4 = unsafe[6 * w : 6 * w + count], unsafe[7 * w : 7 * w + count]
    out = flux[5 * w : 5 * w + count]
    for j in range(count):
        near = g1[j] + g3[j]
        far = g0[j] + g4[j]
        value = (1067.0 / 960.0) * g2[j] + ((3.0 / 640.0) * far - (29.0 / 480.0) * near)
        bad = f0[j] + f1[j] + f2[j] + f3[j] + f4[j]
        x = out[j]
        out[j] = x if bad > 0.0 else value


@_jit
def _allowance(mu, nu, speed, room):  # type: ignore[no-untyped-def]
    """What a donor may give through one face in unit time, see `_limit`."""
    kappa = 1.0 / (nu if nu > 0.5 else 0.5)
    slack = 1.0 - kappa * nu
    slack = slack if slack > 0.0 else 0.0
    return SAFE * mu * (kappa * speed + room * slack)


@_jit
def _limit(mu, v, spread, outflow, dt, w, m, room, flux):  # type: ignore[no-untyped-def]
    """Cut the flux so that no donor gives away more than it has in a forward Euler step.

    ``|F| <= mu (kappa |v_out| + slack)`` with ``kappa = min(2, 1/nu)``, ``slack = room (1 - kappa nu)``,
    ``nu = dt * outflow`` the donor's and ``room = h / (2 d dt)``: summed over the 2 d faces
    and times dt/h that is ``mu (kappa nu + 1 - kappa nu)``. Both `v` and `nu` are those of the six-point velocity,
    also where the flux is the fallback. With diffusion its conductance, `spread`, is part of ``v_out`` to both sides
    and of `nu`; without, `spread` is empty.
    """
    left, right = mu[4 * w : m - 5 * w], mu[5 * w : m - 4 * w]
    near, far = outflow[4 * w : m - 5 * w], outflow[5 * w : m - 4 * w]
    speed, out = v[5 * w : m - 4 * w], flux[5 * w : m - 4 * w]
    if spread.size > 0:
        weight = spread[5 * w : m - 4 * w]
        for j in range(m - 9 * w):
            s = speed[j]
            k = weight[j]
            high = _allowance(left[j], dt * near[j], (0.0 if s < 0.0 else s) + k, room)
            low = -_allowance(right[j], dt * far[j], k - (0.0 if s > 0.0 else s), room)
            x = out[j]
            x = high if x > high else x
            out[j] = low if x < low else x
    else:
        for j in range(m - 9 * w):
            s = speed[j]
            high = _allowance(left[j], dt * near[j], 0.0 if s < 0.0 else s, room)
            low = -_allowance(right[j], dt * far[j], -(0.0 if s > 0.0 else s), room)
            x = out[j]
            x = high if x > high else x
            out[j] = low if x < low else x


@_jit
def _scatter(flux, line, batch, n, inner, r0, rows, ghost, c0, width, inverse_h, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``-(F_(k+1) - F_k)/h``."""
    count = rows + 2 * ghost
    whole = width == inner
    pieces = 1 if whole else rows
    size = rows * width if whole else width
    for b in range(batch):
        for r in range(pieces):
            t = (b * count + ghost + r) * width
            s = ((line + b) * n + r0 + r) * inner + c0
            left, right, target = flux[t : t + size], flux[t + width : t + width + size], out[s : s + size]
            if add:
                for j in range(size):
                    target[j] += (left[j] - right[j]) * inverse_h
            else:
                for j in range(size):
                    target[j] = (left[j] - right[j]) * inverse_h


@_jit
def _scatter_faces(flux, offset, line, batch, n, inner, r0, rows, ghost, c0, width, faces):  # type: ignore[no-untyped-def]
    """Write the fluxes themselves; the last face of a line with its last cell."""
    count = rows + 2 * ghost
    last = 1 if r0 + rows == n else 0
    for b in range(batch):
        for r in range(rows + last):
            t = (b * count + ghost + r) * width
            s = offset + ((line + b) * (n + 1) + r0 + r) * inner + c0
            for c in range(width):
                faces[s + c] = flux[t + c]


@_jit
def _scatter_outflow(v, spread, line, batch, n, inner, r0, rows, ghost, c0, width, factor, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``factor (v^+ on the right + v^- on the left)``, each plus the conductance unless that is empty."""
    count = rows + 2 * ghost
    whole = width == inner
    pieces = 1 if whole else rows
    size = rows * width if whole else width
    for b in range(batch):
        for r in range(pieces):
            t = (b * count + ghost + r) * width
            s = ((line + b) * n + r0 + r) * inner + c0
            left, right, target = v[t : t + size], v[t + width : t + width + size], out[s : s + size]
            if spread.size > 0:
                near, far = spread[t : t + size], spread[t + width : t + width + size]
                for j in range(size):
                    x = left[j]
                    y = right[j]
                    drift = (0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)
                    value = (drift + (near[j] + far[j])) * factor
                    target[j] = target[j] + value if add else value
            else:
                for j in range(size):
                    x = left[j]
                    y = right[j]
                    value = ((0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)) * factor
                    target[j] = target[j] + value if add else value


@_jit
def _tile(outer, rows, inner, ghost):  # type: ignore[no-untyped-def]
    """Columns, rows and lines of a tile for a block of `outer` lines of `rows` rows."""
    width = min(inner, WIDTH)
    depth = min(rows, max(DEPTH, TILE // width))
    batch = 1
    if depth == rows and width == inner:
        batch = min(outer, max(1, TILE // ((depth + 2 * ghost) * width)))
    return width, depth, batch


@_jit
def _band(ints, axis, low, high):  # type: ignore[no-untyped-def]
    """The lines and rows, along `axis`, of the band ``low <= index < high`` of the first axis."""
    if axis == 0:
        return 0, 1, low, high
    lines = ints[axis, OUTER] // ints[0, ROWS]
    return low * lines, high * lines, 0, ints[axis, ROWS]


@_jit
def outflow(kind, temperature, inverse_temperature, share, potential, ints, floats, metric, band, start, stop, out):  # type: ignore[no-untyped-def]
    """``sum_axes (v^+_right + v^-_left)/h`` of the cells of bands ``start <= j < stop``.

    With ``temperature > 0`` the conductances of both faces, times `share`, are added.
    """
    six = kind == WENO5
    ghost = 3 if six else 1
    size = 0
    for axis in range(ints.shape[0]):
        o0, o1, i0, i1 = _band(ints, axis, 0, min(band, ints[0, ROWS]))
        width, depth, batch = _tile(o1 - o0, i1 - i0, ints[axis, INNER], ghost)
        size = max(size, width * batch * (depth + 2 * ghost))
    pv = np.empty(size)
    v = np.empty(size)
    spread = np.empty(size if temperature > 0.0 else 0)
    for j in range(start, stop):
        for axis in range(ints.shape[0]):
            n, inner = ints[axis, ROWS], ints[axis, INNER]
            o0, o1, i0, i1 = _band(ints, axis, j * band, min(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = _tile(o1 - o0, i1 - i0, inner, ghost)
            for o in range(o0, o1, batch):
                lines = min(batch, o1 - o)
                for r in range(i0, i1, depth):
                    rows = min(depth, i1 - r)
                    for c in range(0, inner, width):
                        w = min(width, inner - c)
                        m = lines * (rows + 2 * ghost) * w
                        _gather(potential, o, lines, n, inner, r, rows, ghost, c, w, ints[axis, PERIODIC], 0.0, pv)
                        if six:
                            _velocity_six(pv, w, m, floats[axis, SPEED], v)
                        else:
                            _velocity_two(pv, w, m, floats[axis, SPEED], v)
                        if ints[axis, METRIC_OFFSET] >= 0:
                            _scale_by_metric(metric, ints[axis], o, lines, n, r, rows, ghost, c, w, v)
                        if temperature > 0.0:
                            _conductance(
                                kind,
                                temperature,
                                inverse_temperature,
                                share,
                                pv,
                                metric,
                                ints[axis],
                                floats[axis],
                                o,
                                lines,
                                r,
                                rows,
                                ghost,
                                c,
                                w,
                                spread,
                            )
                            if not ints[axis, PERIODIC]:
                                _close_walls(n, r, rows, ghost, lines, w, spread)
                        _scatter_outflow(
                            v, spread, o, lines, n, inner, r, rows, ghost, c, w, floats[axis, INVERSE_H], axis > 0, out
                        )


@_jit
def largest(values, mu, floor, start, stop):  # type: ignore[no-untyped-def]
    """The largest of the non-negative `values` in a range where ``mu >= floor``, and its first index.

    NaN counts as the largest; without any such cell the answer is zero.
    """
    best = np.int64(-1)
    index = start
    bits = values.view(np.int64)
    block = 512
    for low in range(start, stop, block):
        high = min(stop, low + block)
        part = bits[low:high]
        top = np.int64(-1)
        # non-negative doubles compare as their bits, and integer maxima vectorise
        if floor > 0.0:
            weight = mu[low:high]
            for j in range(part.size):
                x = part[j] & 0x7FFFFFFFFFFFFFFF
                x = np.int64(-1) if weight[j] < floor else x
                top = x if x > top else top
        else:
            for j in range(part.size):
                x = part[j] & 0x7FFFFFFFFFFFFFFF
                top = x if x > top else top
        if top > best:
            best = top
            for j in range(part.size):
                if part[j] & 0x7FFFFFFFFFFFFFFF == top and not (floor > 0.0 and mu[low + j] < floor):
                    index = low + j
                    break
    return values[index] if best >= 0 else 0.0, index


@_jit
def sweep(  # type: ignore[no-untyped-def]
    kind,
    limiter,
    ratio,
    temperature,
    inverse_temperature,
    share,
    dt,
    mu,
    potential,
    speeds,
    ints,
    floats,
    metric,
    band,
    start,
    stop,
    to_faces,
    out,
):
    """Fluxes and their divergence on bands ``start <= j < stop`` of the first axis, all axes.

    `speeds` holds the outflow speeds of the cells where ``dt > 0`` (the limiter of `Weno5`). With `to_faces`,
    `out` is the concatenation of the face arrays; otherwise the cells. `potential` is the one that drives the drift.
    """
    diffusive = temperature > 0.0
    dimension = ints.shape[0]
    ghost = 1
    if kind == MUSCL:
        ghost = 2
    if kind == WENO5:
        ghost = 5
    size = 0
    for axis in range(dimension):
        o0, o1, i0, i1 = _band(ints, axis, 0, min(band, ints[0, ROWS]))
        width, depth, batch = _tile(o1 - o0, i1 - i0, ints[axis, INNER], ghost)
        size = max(size, width * batch * (depth + 2 * ghost))
    pv = np.empty(size)
    density = np.empty(size)
    v_two = np.empty(size)
    flux = np.empty(size)
    slope = np.empty(size if kind in (MUSCL, WENO5) else 0)
    spread = np.empty(size if diffusive else 0)
    extra = size if kind == WENO5 else 0
    v = np.empty(extra)
    top = np.empty(extra)
    unsafe = np.empty(extra)
    points = np.empty(extra)
    for j in range(start, stop):
        for axis in range(dimension):
            n, inner, periodic = ints[axis, ROWS], ints[axis, INNER], ints[axis, PERIODIC]
            speed = floats[axis, SPEED]
            scaled = ints[axis, METRIC_OFFSET] >= 0
            o0, o1, i0, i1 = _band(ints, axis, j * band, min(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = _tile(o1 - o0, i1 - i0, inner, ghost)
            for o in range(o0, o1, batch):
                lines = min(batch, o1 - o)
                for r in range(i0, i1, depth):
                    rows = min(depth, i1 - r)
                    for c in range(0, inner, width):
                        w = min(width, inner - c)
                        m = lines * (rows + 2 * ghost) * w
                        _gather(mu, o, lines, n, inner, r, rows, ghost, c, w, periodic, FLUSH, density)
                        _gather(potential, o, lines, n, inner, r, rows, ghost, c, w, periodic, 0.0, pv)
                        falls_back = True
                        if kind == WENO5:
                            _velocity_six(pv, w, m, speed, v)
                            if scaled:
                                _scale_by_metric(metric, ints[axis], o, lines, n, r, rows, ghost, c, w, v)
                            _stencil_extremes(density, w, m, ratio, top, unsafe)
                            if ints[axis, LOWER_TRUNCATED] or ints[axis, UPPER_TRUNCATED]:
                                _mark_truncated(ints[axis], lines, n, r, rows, ghost, w, unsafe)
                            _flux_points(density, v, top, w, m, points)
                            if diffusive:
                                _velocity_six(density, w, m, temperature * speed, spread)
                                if scaled:
                                    _scale_by_metric(metric, ints[axis], o, lines, n, r, rows, ghost, c, w, spread)
                                _add(spread, 3 * w, m - 2 * w, points)
                            falls_back = _any(unsafe, 3 * w, m - 2 * w)
                        if falls_back:
                            _velocity_two(pv, w, m, speed, v_two)
                            if scaled:
                                _scale_by_metric(metric, ints[axis], o, lines, n, r, rows, ghost, c, w, v_two)
                            if diffusive and kind == SCHARFETTER_GUMMEL:
                                _conductance(
                                    kind,
                                    temperature,
                                    inverse_temperature,
                                    1.0,
                                    pv,
                                    metric,
                                    ints[axis],
                                    floats[axis],
                                    o,
                                    lines,
                                    r,
                                    rows,
                                    ghost,
                                    c,
                                    w,
                                    spread,
                                )
                                _flux_weighted(density, v_two, spread, w, m, flux)
                            elif kind in (UPWIND, SCHARFETTER_GUMMEL):
                                _flux_upwind(density, v_two, w, m, flux)
                            else:
                                _half_slopes(density, w, m, limiter, slope)
                                _flux_muscl(density, slope, v_two, w, m, flux)
                            if diffusive and kind != SCHARFETTER_GUMMEL:
                                _velocity_two(density, w, m, temperature * speed, spread)
                                if scaled:
                                    _scale_by_metric(metric, ints[axis], o, lines, n, r, rows, ghost, c, w, spread)
                                _add(spread, ghost * w, m - (ghost - 1) * w, flux)
                        if kind == WENO5:
                            _correct(points, unsafe, w, m, flux)
                            if dt > 0.0:
                                _gather(speeds, o, lines, n, inner, r, rows, ghost, c, w, periodic, 0.0, top)
                                room = floats[axis, SPACING] / (2.0 * dimension * dt)
                                if diffusive:
                                    _conductance(
                                        kind,
                                        temperature,
                                        inverse_temperature,
                                        share,
                                        pv,
                                        metric,
                                        ints[axis],
                                        floats[axis],
                                        o,
                                        lines,
                                        r,
                                        rows,
                                        ghost,
                                        c,
                                        w,
                                        spread,
                                    )
                                _limit(density, v, spread, top, dt, w, m, room, flux)
                        if to_faces:
                            _scatter_faces(flux, ints[axis, FACE_OFFSET], o, lines, n, inner, r, rows, ghost, c, w, out)
                        else:
                            _scatter(
                                flux, o, lines, n, inner, r, rows, ghost, c, w, floats[axis, INVERSE_H], axis > 0, out
                            )
