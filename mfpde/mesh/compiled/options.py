"""Compiled line sweeps. Imported when the first sweep is made, never by ``import mfpde``.

One kernel serves every dimension and axis. An array is seen as ``(outer, n, inner)`` along the axis in hand. A pass
is a flat loop over entries whose neighbours along the axis are reached by pointers of their own, so that it vectorises
the same way whatever lies between them. There are two ways through the mesh:

- **by rows**, where `inner` is long: strips of columns are walked along the axis. The last rows of whatever is needed
  again stand in rings of `RING` rows, in the second cache; the potential is read where it is. Memory for the rows to
  come is asked for a piece at a time, between pieces of computing.
- **by tiles**, where `inner` is short: lines with their ghost rows are copied into a buffer of `TILE` entries, in
  which the neighbour along the axis is `inner` entries away. Entries across the seam of two lines are computed and
  never used. Long lines of van Leer's `Muscl` need no buffer.

Entry ``k`` of a face buffer is the face on the left of cell ``k``. Ghost rows wrap on periodic axes and mirror
at walls; every formula is written so that mirrored data give the mirrored flux bit for bit, hence the flux
through a wall is exactly zero without being told, and the face shared by two tiles has one value. That needs
IEEE arithmetic as written, without reassociation; products and sums are contracted only where the mirrored formula is
the same one. Selections are written so that a NaN stays one.

Arguments that may be None are settled when a kernel is compiled: each scheme compiles what it uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfpde.mesh.compiled.bernoulli import _as_double, _as_integer, bernoulli
from mfpde.support.compiling import compiled
from mfpde.support.pointers import (
    at,
    fetch,
    larger,
    peek,
    pointer,
    put,
    put_fourth,
    put_second,
    put_third,
    shift,
    smaller,
)

MINMOD, VAN_LEER, MC = 0, 1, 2

# columns of the integer and float description of an axis (see operator.py)
OUTER, ROWS, INNER, PERIODIC, LOWER_TRUNCATED, UPPER_TRUNCATED = 0, 1, 2, 3, 4, 5
METRIC_OFFSET, METRIC_OUTER, METRIC_FACE, METRIC_INNER, FACE_OFFSET = 6, 7, 8, 9, 10
INVERSE_H, SPACING, SPEED = 0, 1, 2

TILE = 4096  # entries of a buffer
SHORT = 16  # cells from which a line of van Leer's `Muscl` is swept without a buffer
LONG = 128  # columns from which an axis is swept by rows
WIDTH = 2048  # most columns of a strip: long enough for the processor to foresee, the rings in the second cache
RING = 8  # rows of a ring, a power of two; the widest stencil has seven
BUFFERS = 9  # a sweep works with as many
LINE = 8  # entries of a cache line
PAD = RING * LINE  # entries between buffers: equal addresses modulo 4096 wait for each other, rows of rings too
BUFFER = max(TILE, RING * (WIDTH + LINE)) + PAD
AHEAD = 2  # rows asked for before they are read
PIECE = 64  # entries worked on between requests: few enough that computing does not wait until all are on their way
FLUSH = 1e-290  # smaller densities do not move: round-off there would not be relative any more
TINY = 2.2250738585072014e-308
SAFE = 1.0 - 1e-13  # room for round-off in the positivity limiter
TAIL_WIDTH = 10.0  # factor of max/min over a stencil within which `Weno5` goes over to its fallback
EPSILON = 1e-40  # of the WENO weights, for stencils scaled to order one; sixth powers stay normal numbers

STAGGERED_1, STAGGERED_3, STAGGERED_5 = 75.0 / 64.0, -25.0 / 384.0, 3.0 / 640.0

_EXPONENT = 0x7FF0000000000000
_MAGNITUDE = 0x7FFFFFFFFFFFFFFF
_ONE_HALF_UP = 2045 << 52
_ONE_UP = 1 << 52


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
# never called but by compiled code
_INNER: dict[str, Any] = {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_kernel = compiled(**_OPTIONS, no_cfunc_wrapper=True)
_jit = compiled(**_OPTIONS, **_INNER)
_inlined = compiled(**_OPTIONS, **_INNER, inline="always")
_contracted = compiled(**(_OPTIONS | _INNER | {"fastmath": {"nsz", "contract"}}))


@_jit
def _ghost_row(r, n, periodic):  # type: ignore[no-untyped-def]
    """The row of the mesh that stands for row `r`, by wrapping or by even mirroring."""
    if 0 <= r < n:
        return r
    if periodic:
        q = r + n if r < 0 else r - n
    else:
        q = -1 - r if r < 0 else 2 * n - 1 - r
    if 0 <= q < n:
        return q
    # four rows and the fifth ghost; divisions are slow
    return r % n if periodic else r % (2 * n)


@_jit
def _ghost_face(f, n, periodic):  # type: ignore[no-untyped-def]
    """The face of the mesh that stands for face `f`."""
    if periodic:
        return f % n
    f = f % (2 * n)
    return f if f <= n else 2 * n - f


@_jit
def _moving(x, flush):  # type: ignore[no-untyped-def]
    """The density that moves."""
    return 0.0 if abs(x) < flush else x


@_jit
def _copy(source, n, flush, target):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(target, j, _moving(at(source, j), flush))


@_jit
def _fetch(source, n):  # type: ignore[no-untyped-def]
    """Ask for a row that will be read soon: walking across rows, the processor does not foresee it."""
    for j in range(0, n, LINE):
        fetch(source, j)


@_jit
def _fill(value, n, target):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(target, j, value)


@_jit
def _add(term, n, total):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(total, j, peek(total, j) + at(term, j))


@_jit
def _scale(rates, stride, n, v):  # type: ignore[no-untyped-def]
    """Multiply by the rate g, one for all with stride 0."""
    if stride == 0:
        g = at(rates, 0)
        for j in range(n):
            put(v, j, peek(v, j) * g)
    else:
        for j in range(n):
            put(v, j, peek(v, j) * at(rates, j))


@_jit
def _velocity_two(a, b, n, speed, v):  # type: ignore[no-untyped-def]
    """``v = speed (V_k - V_(k-1))`` with ``speed = -g/h``."""
    for j in range(n):
        put(v, j, speed * (at(b, j) - at(a, j)))


@_contracted
def _velocity_six(p0, p1, p2, p3, p4, p5, n, speed, v):  # type: ignore[no-untyped-def]
    """Sixth-order staggered difference; differences first, so that a constant drops out exactly."""
    for j in range(n):
        d1 = at(p3, j) - at(p2, j)
        d3 = at(p4, j) - at(p1, j)
        d5 = at(p5, j) - at(p0, j)
        put(v, j, speed * (STAGGERED_1 * d1 + STAGGERED_3 * d3 + STAGGERED_5 * d5))


@_jit
def _conductance(a, b, n, factor, inverse_temperature, weight):  # type: ignore[no-untyped-def]
    """``factor B(|d|)``, ``d = (V_k - V_(k-1))/tau``."""
    for j in range(n):
        put(weight, j, factor * bernoulli(abs(at(b, j) - at(a, j)) * inverse_temperature))


@_jit
def _flux_weighted(left, right, v, weight, n, flux):  # type: ignore[no-untyped-def]
    """Scharfetter-Gummel: upwind plus a conductance, ``tau B(-x) = tau B(x) + tau x``."""
    for j in range(n):
        s = at(v, j)
        k = at(weight, j)
        put(flux, j, ((0.0 if s < 0.0 else s) + k) * at(left, j) + ((0.0 if s > 0.0 else s) - k) * at(right, j))


@_jit
def _upwind(s, x, y):  # type: ignore[no-untyped-def]
    """``s^+ x + s^- y``, of which one is zero."""
    return (0.0 if s < 0.0 else s) * x + (0.0 if s > 0.0 else s) * y


@_jit
def _flux_upwind(left, right, v, n, flux):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(flux, j, _upwind(at(v, j), at(left, j), at(right, j)))


@_jit
def _van_leer(a, b):  # type: ignore[no-untyped-def]
    """Half the limited slope, from the differences to both neighbours."""
    p = abs(a)
    q = abs(b)
    small = p if p < q else q
    large = q if p < q else p
    # small * (large / sum), not a*b / (a + b): products of tails underflow
    value = small * (large / (small + large + TINY))
    return (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0


@_jit
def _half_slopes(u0, u1, u2, n, limiter, slope):  # type: ignore[no-untyped-def]
    """Half the limited slope of every cell, in units of the spacing.

    Each is at most the smaller one-sided difference, so that ``0 <= mu +- slope <= 2 mu``, also in round-off.
    """
    if limiter == VAN_LEER:
        for j in range(n):
            put(slope, j, _van_leer(at(u1, j) - at(u0, j), at(u2, j) - at(u1, j)))
    else:
        # minmod is half the smaller difference, MC the smaller one up to a quarter of the sum
        share = 0.5 if limiter == MINMOD else 1.0
        most = 1.0 if limiter == MINMOD else 0.25
        for j in range(n):
            a = at(u1, j) - at(u0, j)
            b = at(u2, j) - at(u1, j)
            p = abs(a)
            q = abs(b)
            value = share * (p if p < q else q)
            middle = most * (p + q)
            value = value if value < middle else middle
            put(slope, j, (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0)


@_jit
def _flux_muscl(left, right, rise, fall, v, n, flux):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(flux, j, _upwind(at(v, j), at(left, j) + at(rise, j), at(right, j) - at(fall, j)))


@_jit
def _flux_driven(left, right, rise, fall, a, b, n, speed, flux):  # type: ignore[no-untyped-def]
    """`_velocity_two` and `_flux_muscl` in one."""
    for j in range(n):
        s = speed * (at(b, j) - at(a, j))
        put(flux, j, _upwind(s, at(left, j) + at(rise, j), at(right, j) - at(fall, j)))


@_jit
def _face_muscl(u0, u1, u2, rise, s):  # type: ignore[no-untyped-def]
    """Half the slope of the cell on the right of a face, and with that on the left, `rise`, the flux."""
    fall = _van_leer(u1 - u0, u2 - u1)
    return fall, _upwind(s, u0 + rise, u1 - fall)


@_jit
def _pass_muscl(  # type: ignore[no-untyped-def]
    left, right, source, rise, a, b, before, n, speed, inverse_h, add, after, slope, flux, out
):
    """One row of everything for van Leer: from `source` the row `after` of the density, `slope` of the row on the right
    of a face, its `flux`, and with that `before`, through the face before, the divergence of the row on the left.

    The formulae of `_copy`, `_velocity_two`, `_half_slopes`, `_flux_muscl` and `_difference`, whose divisions hide
    behind the loads and stores of each other.
    """
    for j in range(n):
        x = _moving(at(source, j), FLUSH)
        s = speed * (at(b, j) - at(a, j))
        fall, through = _face_muscl(at(left, j), at(right, j), x, at(rise, j), s)
        put_second(slope, j, fall)
        put_third(flux, j, through)
        put_fourth(after, j, x)
        change = (at(before, j) - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)


@_jit
def _line_muscl(u, p, n, periodic, i0, i1, speed, inverse_h, add, out):  # type: ignore[no-untyped-def]
    """As `_pass_muscl`, cells ``i0 .. i1`` of a line of `n`: what is on the left goes from hand to hand."""
    g0, g1, g3 = _ghost_row(i0 - 2, n, periodic), _ghost_row(i0 - 1, n, periodic), _ghost_row(i0 + 1, n, periodic)
    u0, u1, u2 = _moving(at(u, g1), FLUSH), _moving(at(u, i0), FLUSH), _moving(at(u, g3), FLUSH)
    rise = _van_leer(u0 - _moving(at(u, g0), FLUSH), u1 - u0)
    rise, before = _face_muscl(u0, u1, u2, rise, speed * (at(p, i0) - at(p, g1)))
    u0, u1 = u1, u2
    inside = larger(i0, smaller(i1, n - 2))
    for j in range(i0, inside):
        u2 = _moving(at(u, j + 2), FLUSH)
        fall, through = _face_muscl(u0, u1, u2, rise, speed * (at(p, j + 1) - at(p, j)))
        change = (before - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)
        u0, u1, rise, before = u1, u2, fall, through
    for j in range(inside, i1):
        u2 = _moving(at(u, _ghost_row(j + 2, n, periodic)), FLUSH)
        s = speed * (at(p, _ghost_row(j + 1, n, periodic)) - at(p, j))
        fall, through = _face_muscl(u0, u1, u2, rise, s)
        change = (before - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)
        u0, u1, rise, before = u1, u2, fall, through


@_jit
def _extremes(x0, x1, x2, x3, x4, x5):  # type: ignore[no-untyped-def]
    """The largest and the smallest of six."""
    high = x1 if x1 > x0 else x0
    low = x1 if x1 < x0 else x0
    high = x2 if x2 > high else high
    low = x2 if x2 < low else low
    high = x3 if x3 > high else high
    low = x3 if x3 < low else low
    high = x4 if x4 > high else high
    low = x4 if x4 < low else low
    high = x5 if x5 > high else high
    low = x5 if x5 < low else low
    return high, low


@_contracted
def _flux_points(e0, e1, e2, e3, e4, e5, v, n, ratio, flux, unsafe):  # type: ignore[no-untyped-def]
    """``G = v mu_f``: WENO-Z interpolation (power 2) from the upwind side; where the stencil spans more than `ratio`.

    Candidates ``(3 u0 - 10 u1 + 15 u2)/8``, ``(-u1 + 6 u2 + 3 u3)/8``, ``(3 u2 + 6 u3 - u4)/8`` with linear weights
    1/16, 10/16, 5/16 and ``alpha_k = d_k (1 + tau^2/b_k^2)``, brought to one denominator. Smoothness is measured
    on the stencil divided by a power of two near its largest value: squares of tails underflow, and no fixed epsilon
    fits all. `unsafe` gets 1.0 where max/min of the six cells is above `ratio`; the answer is whether there was any:
    then `_shade` says how far.
    """
    count = 0
    for j in range(n):
        s = at(v, j)
        forward = s > 0.0
        x0 = at(e0, j)
        x1 = at(e1, j)
        x2 = at(e2, j)
        x3 = at(e3, j)
        x4 = at(e4, j)
        x5 = at(e5, j)
        u0 = x0 if forward else x5
        u1 = x1 if forward else x4
        u2 = x2 if forward else x3
        u3 = x3 if forward else x2
        u4 = x4 if forward else x1
        high, low = _extremes(x0, x1, x2, x3, x4, x5)
        wide = high > ratio * low
        put_second(unsafe, j, 1.0 if wide else 0.0)
        count += 1 if wide else 0
        exponent = _as_integer(high + TINY) & _EXPONENT
        scale = _as_double(_ONE_HALF_UP - exponent)
        back = _as_double(exponent + _ONE_UP)
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
        b0 = (13.0 / 3.0) * c0 * c0 + (g0 * g0 + EPSILON)
        b1 = (13.0 / 3.0) * c1 * c1 + (g1 * g1 + EPSILON)
        b2 = (13.0 / 3.0) * c2 * c2 + (g2 * g2 + EPSILON)
        t = b0 - b2
        t = t * t
        s0 = b0 * b0
        s1 = b1 * b1
        s2 = b2 * b2
        a0 = (s0 + t) * (s1 * s2)
        a1 = (s1 + t) * (s0 * s2)
        a2 = (s2 + t) * (s0 * s1)
        # candidates as u2 plus differences, the linear weights 1, 10, 5 with them
        q0 = 7.0 * d21 - 3.0 * d10
        q1 = 30.0 * d32 + 10.0 * d21
        q2 = 25.0 * d32 - 5.0 * d43
        value = u2 + (0.125 * back) * ((a0 * q0 + a1 * q1 + a2 * q2) / (a0 + 10.0 * a1 + 5.0 * a2))
        put(flux, j, s * value)
    return count > 0


@_jit
def _shade(e0, e1, e2, e3, e4, e5, n, ratio, unsafe):  # type: ignore[no-untyped-def]
    """The share of the fallback: 0 up to max/min of the six cells of `ratio`, 1 from `TAIL_WIDTH` times that on.

    A switch without width would be a jump of the rate of change, which densities are drawn to and stay at: from there
    no step, however short, is better than first order.
    """
    for j in range(n):
        high, low = _extremes(at(e0, j), at(e1, j), at(e2, j), at(e3, j), at(e4, j), at(e5, j))
        share = (high - ratio * low) / (high + TINY) * (TAIL_WIDTH / (TAIL_WIDTH - 1.0))
        share = 0.0 if share < 0.0 else share
        put(unsafe, j, 1.0 if share > 1.0 else share)


@_contracted
def _correct(g0, g1, g2, g3, g4, n, flux):  # type: ignore[no-untyped-def]
    """``F = G - d^2 G/24 + 3 d^4 G/640``."""
    for j in range(n):
        near = at(g1, j) + at(g3, j)
        far = at(g0, j) + at(g4, j)
        put(flux, j, (1067.0 / 960.0) * at(g2, j) + ((3.0 / 640.0) * far - (29.0 / 480.0) * near))


@_jit
def _any(f0, f1, f2, f3, f4, n):  # type: ignore[no-untyped-def]
    """Whether one of the entries is not zero."""
    found = np.int64(0)
    for j in range(n):
        found |= _as_integer(at(f0, j)) | _as_integer(at(f1, j)) | _as_integer(at(f2, j))
        found |= _as_integer(at(f3, j)) | _as_integer(at(f4, j))
    return found != 0


@_jit
def _replace(u0, u1, u2, u3, v, temperature, spread, f0, f1, f2, f3, f4, n, flux):  # type: ignore[no-untyped-def]
    """Blend in the flux of `Muscl` with van Leer's slopes, by the largest share that one of the five faces asks for."""
    for j in range(n):
        x1 = at(u1, j)
        x2 = at(u2, j)
        rise = _van_leer(x1 - at(u0, j), x2 - x1)
        _, low = _face_muscl(x1, x2, at(u3, j), rise, at(v, j))
        if temperature is not None:
            low += at(spread, j)
        share = at(f0, j)
        share = at(f1, j) if at(f1, j) > share else share
        share = at(f2, j) if at(f2, j) > share else share
        share = at(f3, j) if at(f3, j) > share else share
        share = at(f4, j) if at(f4, j) > share else share
        high = peek(flux, j)
        put(flux, j, low if share == 1.0 else high + share * (low - high))


@_jit
def _guard(u0, u1, u2, u3, v, temperature, spread, f0, f1, f2, f3, f4, n, flux):  # type: ignore[no-untyped-def]
    """`_replace`, passing over pieces without an unsafe face."""
    for c in range(0, n, PIECE):
        k = smaller(PIECE, n - c)
        if _any(shift(f0, c), shift(f1, c), shift(f2, c), shift(f3, c), shift(f4, c), k):
            _replace(
                shift(u0, c),
                shift(u1, c),
                shift(u2, c),
                shift(u3, c),
                shift(v, c),
                temperature,
                shift(spread, c),
                shift(f0, c),
                shift(f1, c),
                shift(f2, c),
                shift(f3, c),
                shift(f4, c),
                k,
                shift(flux, c),
            )


@_jit
def _allowance(mu, nu, speed, room):  # type: ignore[no-untyped-def]
    """What a donor may give through one face in unit time, see `_limit`."""
    kappa = 1.0 / (nu if nu > 0.5 else 0.5)
    slack = 1.0 - kappa * nu
    slack = slack if slack > 0.0 else 0.0
    return SAFE * mu * (kappa * speed + room * slack)


@_jit
def _most(values, n):  # type: ignore[no-untyped-def]
    """The largest of non-negative values, or NaN: as integers, whose maxima vectorise."""
    top = np.int64(0)
    for j in range(n):
        x = _as_integer(at(values, j)) & _MAGNITUDE
        top = x if x > top else top
    return _as_double(top)


@_jit
def _limit(left, right, near, far, v, spread, diffusive, dt, most, room, n, flux):  # type: ignore[no-untyped-def]
    """Cut the flux so that no donor gives away more than it has in a forward Euler step.

    ``|F| <= mu (kappa |v_out| + slack)`` with ``kappa = min(2, 1/nu)``, ``slack = room (1 - kappa nu)``,
    ``nu = dt * outflow`` the donor's and ``room = h / (2 d dt)``: summed over the 2 d faces
    and times dt/h that is ``mu (kappa nu + 1 - kappa nu)``. Both `v` and `nu` are those of the six-point velocity,
    also where the flux is the fallback. With diffusion its conductance, `spread`, is part of ``v_out`` to both sides
    and of `nu`; without, `spread` is not read. No outflow here is above `most`.
    """
    if dt * most <= 0.5 and not diffusive:
        # no kappa below 2, no division
        for j in range(n):
            s = at(v, j)
            high = SAFE * at(left, j) * (2.0 * (0.0 if s < 0.0 else s) + room * (1.0 - 2.0 * (dt * at(near, j))))
            low = SAFE * at(right, j) * (2.0 * (0.0 if s > 0.0 else s) - room * (1.0 - 2.0 * (dt * at(far, j))))
            x = peek(flux, j)
            x = high if x > high else x
            put(flux, j, low if x < low else x)
    else:
        for j in range(n):
            s = at(v, j)
            k = at(spread, j) if diffusive else 0.0
            high = _allowance(at(left, j), dt * at(near, j), (0.0 if s < 0.0 else s) + k, room)
            low = -_allowance(at(right, j), dt * at(far, j), k - (0.0 if s > 0.0 else s), room)
            x = peek(flux, j)
            x = high if x > high else x
            put(flux, j, low if x < low else x)


@_jit
def _difference(left, right, n, inverse_h, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``-(F_(k+1) - F_k)/h``."""
    if add:
        for j in range(n):
            put(out, j, peek(out, j) + (at(left, j) - at(right, j)) * inverse_h)
    else:
        for j in range(n):
            put(out, j, (at(left, j) - at(right, j)) * inverse_h)


@_jit
def _leaving(left, right, n, factor, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``factor (v^+ on the right + v^- on the left)``."""
    for j in range(n):
        x = at(left, j)
        y = at(right, j)
        value = ((0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)) * factor
        put(out, j, peek(out, j) + value if add else value)


@_jit
def _leaving_spread(left, right, near, far, n, factor, add, out):  # type: ignore[no-untyped-def]
    """As `_leaving`, each plus the conductance."""
    for j in range(n):
        x = at(left, j)
        y = at(right, j)
        drift = (0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)
        value = (drift + (at(near, j) + at(far, j))) * factor
        put(out, j, peek(out, j) + value if add else value)


@_jit
def _gather(flush, source, n, w, r0, count, batch, periodic, buffer):  # type: ignore[no-untyped-def]
    """Copy rows ``r0 .. r0 + count`` of `batch` lines of `n` rows of `w` entries, ghosts included, into the buffer."""
    low = larger(0, r0)
    high = smaller(n, r0 + count)
    for b in range(batch):
        line = shift(source, b * n * w)
        tile = shift(buffer, b * count * w)
        _copy(shift(line, low * w), (high - low) * w, flush, shift(tile, (low - r0) * w))
        for k in range(count - (high - low)):
            q = k if k < low - r0 else k + (high - low)
            s, t = _ghost_row(r0 + q, n, periodic) * w, q * w
            if w == 1:  # no loop over one
                put(tile, t, _moving(at(line, s), flush))
            else:
                _copy(shift(line, s), w, flush, shift(tile, t))


@_jit
def _scale_row(rates, ints, line, face, c0, w, v):  # type: ignore[no-untyped-def]
    """Multiply the velocities of one row of faces by the rate g."""
    f = _ghost_face(face, ints[ROWS], ints[PERIODIC])
    s = line * ints[METRIC_OUTER] + f * ints[METRIC_FACE] + c0 * ints[METRIC_INNER]
    _scale(shift(rates, s), ints[METRIC_INNER], w, v)


@_jit
def _scale_tile(rates, ints, line, batch, r0, count, w, v):  # type: ignore[no-untyped-def]
    """Multiply the velocities of a tile by the rate g."""
    low = larger(0, r0)
    high = smaller(ints[ROWS] + (0 if ints[PERIODIC] else 1), r0 + count)
    zero = np.int64(0)  # a literal would compile the same function again
    flat = ints[METRIC_FACE] == w  # the faces of the tile follow each other as in the buffer
    for b in range(batch):
        tile = shift(v, b * count * w)
        if flat:
            s = (line + b) * ints[METRIC_OUTER] + low * w
            _scale(shift(rates, s), ints[METRIC_FACE] // w, (high - low) * w, shift(tile, (low - r0) * w))
        for q in range(count):
            if not (flat and low <= r0 + q < high):
                _scale_row(rates, ints, line + b, r0 + q, zero, w, shift(tile, q * w))


@_jit
def _mark_truncated(ints, batch, r0, count, w, unsafe):  # type: ignore[no-untyped-def]
    """Faces whose stencil reaches across a truncation end: nothing is known about the potential there."""
    lower = smaller(count, 3 - r0) if ints[LOWER_TRUNCATED] else 0
    upper = larger(0, ints[ROWS] - 2 - r0) if ints[UPPER_TRUNCATED] else count
    for b in range(batch):
        line = shift(unsafe, b * count * w)
        _fill(1.0, larger(0, lower) * w, line)
        _fill(1.0, larger(0, count - upper) * w, shift(line, upper * w))
    return lower > 0 or upper < count


@_jit
def _close_walls(n, r0, count, batch, w, weight):  # type: ignore[no-untyped-def]
    """Set the faces at both ends of a line, and beyond, to zero."""
    for q in range(count):
        if r0 + q <= 0 or r0 + q >= n:
            for b in range(batch):
                _fill(0.0, w, shift(weight, (b * count + q) * w))


@_jit
def _shape(outer, rows, inner, ghost):  # type: ignore[no-untyped-def]
    """Columns, rows and lines of a tile, or the columns of a strip and rows 0."""
    if inner >= LONG:
        strips = -(-inner // WIDTH)
        return (-(-inner // strips) + 7) // 8 * 8, 0, 1
    most = TILE // inner - 2 * ghost
    depth = -(-rows // (-(-rows // most)))
    return inner, depth, smaller(outer, larger(1, TILE // ((depth + 2 * ghost) * inner))) if depth == rows else 1


@_jit
def _row(buffer, r):  # type: ignore[no-untyped-def]
    """Row `r` of a ring."""
    return shift(buffer, (r & (RING - 1)) * (WIDTH + LINE))


@_jit
def _conductance_of(fitted, a, b, n, factor, inverse_temperature, weight):  # type: ignore[no-untyped-def]
    if fitted is not None:
        _conductance(a, b, n, factor, inverse_temperature, weight)
    else:
        _fill(factor, n, weight)


@_jit
def _band(ints, axis, low, high):  # type: ignore[no-untyped-def]
    """The lines and rows, along `axis`, of the band ``low <= index < high`` of the first axis."""
    if axis == 0:
        return 0, 1, low, high
    lines = ints[axis, OUTER] // ints[0, ROWS]
    return low * lines, high * lines, 0, ints[axis, ROWS]


@_inlined
def _outflow_strip(  # type: ignore[no-untyped-def]
    six,
    fitted,
    temperature,
    inverse_temperature,
    share,
    potential,
    ints,
    floats,
    rates,
    i0,
    i1,
    o,
    c,
    w,
    add,
    work,
    out,
):
    """Outflow speeds of rows ``i0 .. i1`` of a strip of columns."""
    n, inner, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    scaled = ints[METRIC_OFFSET] >= 0
    one = np.int64(1)  # a literal would compile the same functions again
    v, spread = work, shift(work, BUFFER)
    corner = o * n * inner + c
    here = shift(potential, corner)
    for f in range(i0, i1 + 1):
        face, before = _row(v, f), _row(v, f - 1)
        a = shift(here, _ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, _ghost_row(f, n, periodic) * inner)
        if six is not None:
            p0 = shift(here, _ghost_row(f - 3, n, periodic) * inner)
            p1 = shift(here, _ghost_row(f - 2, n, periodic) * inner)
            p4 = shift(here, _ghost_row(f + 1, n, periodic) * inner)
            p5 = shift(here, _ghost_row(f + 2, n, periodic) * inner)
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if f + AHEAD <= i1:
                    s = corner + (f + AHEAD) * inner + d
                    _fetch(shift(potential, s + 2 * inner), k)
                    _fetch(shift(out, s - inner), k)
                _velocity_six(
                    shift(p0, d),
                    shift(p1, d),
                    shift(a, d),
                    shift(b, d),
                    shift(p4, d),
                    shift(p5, d),
                    k,
                    floats[SPEED],
                    shift(face, d),
                )
        else:
            _velocity_two(a, b, w, floats[SPEED], face)
        if scaled:
            _scale_row(rates, ints, o, f, c, w, face)
        if temperature is not None:
            weight = _row(spread, f)
            _conductance_of(fitted, a, b, w, -share * temperature * floats[SPEED], inverse_temperature, weight)
            if scaled:
                _scale_row(rates, ints, o, f, c, w, weight)
            if not periodic:
                _close_walls(n, f, one, one, w, weight)
        if f > i0:
            target = shift(out, corner + (f - 1) * inner)
            if temperature is not None:
                _leaving_spread(before, face, _row(spread, f - 1), weight, w, floats[INVERSE_H], add, target)
            else:
                _leaving(before, face, w, floats[INVERSE_H], add, target)


@_inlined
def _outflow_tile(  # type: ignore[no-untyped-def]
    six,
    fitted,
    temperature,
    inverse_temperature,
    share,
    potential,
    ints,
    floats,
    rates,
    r,
    rows,
    o,
    batch,
    add,
    work,
    out,
):
    """Outflow speeds of rows ``r .. r + rows`` of `batch` lines."""
    n, w, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    scaled = ints[METRIC_OFFSET] >= 0
    ghost = 1
    if six is not None:
        ghost = 3
    pv, v, spread = work, shift(work, BUFFER), shift(work, 2 * BUFFER)
    count = rows + 2 * ghost
    faces = (batch * count - 2 * ghost + 1) * w
    first = ghost * w
    _gather(0.0, shift(potential, o * n * w), n, w, r - ghost, count, batch, periodic, pv)
    a, b = shift(pv, first - w), shift(pv, first)
    if six is not None:
        p4, p5 = shift(pv, 4 * w), shift(pv, 5 * w)
        _velocity_six(pv, shift(pv, w), a, b, p4, p5, faces, floats[SPEED], shift(v, first))
    else:
        _velocity_two(a, b, faces, floats[SPEED], shift(v, first))
    if scaled:
        _scale_tile(rates, ints, o, batch, r - ghost, count, w, v)
    if temperature is not None:
        factor = -share * temperature * floats[SPEED]
        _conductance_of(fitted, a, b, faces, factor, inverse_temperature, shift(spread, first))
        if scaled:
            _scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
        if not periodic:
            _close_walls(n, r - ghost, count, batch, w, spread)
    for k in range(batch):
        t = (k * count + ghost) * w
        left, right = shift(v, t), shift(v, t + w)
        target = shift(out, ((o + k) * n + r) * w)
        if temperature is not None:
            near, far = shift(spread, t), shift(spread, t + w)
            _leaving_spread(left, right, near, far, rows * w, floats[INVERSE_H], add, target)
        else:
            _leaving(left, right, rows * w, floats[INVERSE_H], add, target)


@_kernel
def outflow(  # type: ignore[no-untyped-def]
    wide,
    six,
    fitted,
    temperature,
    inverse_temperature,
    share,
    potential,
    ints,
    floats,
    metric,
    band,
    start,
    stop,
    work,
    out,
):
    """``sum_axes (v^+_right + v^-_left)/h`` of the cells of bands ``start <= j < stop``.

    With a `temperature` the conductances of both faces, times `share`, are added. `wide`, `six`, `fitted` and
    `temperature` are None where they do not apply: an axis swept by rows, six-point velocities, Scharfetter-Gummel.
    """
    ghost = 1
    if six is not None:
        ghost = 3
    p, q, b = pointer(potential, 0), pointer(out, 0), pointer(work, 0)
    for j in range(start, stop):
        for axis in range(ints.shape[0]):
            inner, rates = ints[axis, INNER], pointer(metric, larger(0, ints[axis, METRIC_OFFSET]))
            o0, o1, i0, i1 = _band(ints, axis, j * band, smaller(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = _shape(o1 - o0, i1 - i0, inner, ghost)
            for o in range(o0, o1, batch):
                if wide is not None and depth == 0:
                    for c in range(0, inner, width):
                        w = smaller(width, inner - c)
                        _outflow_strip(
                            six,
                            fitted,
                            temperature,
                            inverse_temperature,
                            share,
                            p,
                            ints[axis],
                            floats[axis],
                            rates,
                            i0,
                            i1,
                            o,
                            c,
                            w,
                            axis > 0,
                            b,
                            q,
                        )
                else:
                    for r in range(i0, i1, depth):
                        rows, lines = smaller(depth, i1 - r), smaller(batch, o1 - o)
                        _outflow_tile(
                            six,
                            fitted,
                            temperature,
                            inverse_temperature,
                            share,
                            p,
                            ints[axis],
                            floats[axis],
                            rates,
                            r,
                            rows,
                            o,
                            lines,
                            axis > 0,
                            b,
                            q,
                        )


@_kernel
def largest(values, mu, floor, start, stop):  # type: ignore[no-untyped-def]
    """The largest of the non-negative `values` in a range where ``mu >= floor``, and its first index.

    NaN counts as the largest; without any such cell the answer is zero.
    """
    best = np.int64(-1)
    index = start
    block = 512
    for low in range(start, stop, block):
        n = block if low + block < stop else stop - low
        v, weight = pointer(values, low), pointer(mu, low)
        top = np.int64(-1)
        # non-negative doubles compare as their bits, and integer maxima vectorise
        if floor > 0.0:
            for j in range(n):
                x = _as_integer(at(v, j)) & _MAGNITUDE
                x = np.int64(-1) if at(weight, j) < floor else x
                top = x if x > top else top
        else:
            for j in range(n):
                x = _as_integer(at(v, j)) & _MAGNITUDE
                top = x if x > top else top
        if top > best:
            best = top
            for j in range(n):
                if _as_integer(at(v, j)) & _MAGNITUDE == top and not (floor > 0.0 and at(weight, j) < floor):
                    index = low + j
                    break
    return values[index] if best >= 0 else 0.0, index


@_jit
def _strip_muscl(  # type: ignore[no-untyped-def]
    limiter, mu, potential, n, inner, periodic, speed, inverse_h, i0, i1, corner, w, add, work, out
):
    """Divergence of rows ``i0 .. i1`` of a strip of columns for van Leer, with rates of one and no diffusion."""
    density, slope, flux, nowhere = work, shift(work, BUFFER), shift(work, 2 * BUFFER), shift(work, 3 * BUFFER)
    values, here, target = shift(mu, corner), shift(potential, corner), shift(out, corner)
    for r in range(i0 - 2, i0 + 1):
        _copy(shift(values, _ghost_row(r, n, periodic) * inner), w, FLUSH, _row(density, r & 3))
    u0, u1, u2 = _row(density, (i0 - 2) & 3), _row(density, (i0 - 1) & 3), _row(density, i0 & 3)
    _half_slopes(u0, u1, u2, w, limiter, _row(slope, (i0 - 1) & 1))
    for f in range(i0, i1 + 1):
        left, right, after = _row(density, (f - 1) & 3), _row(density, f & 3), _row(density, (f + 1) & 3)
        source = shift(values, _ghost_row(f + 1, n, periodic) * inner)
        a = shift(here, _ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, _ghost_row(f, n, periodic) * inner)
        rise, fall = _row(slope, (f - 1) & 1), _row(slope, f & 1)
        before, through = _row(flux, (f - 1) & 1), _row(flux, f & 1)
        divergence = nowhere
        if f > i0:
            divergence = shift(target, (f - 1) * inner)
        for c in range(0, w, PIECE):
            k = smaller(PIECE, w - c)
            if f + AHEAD <= i1:
                s = (f + AHEAD) * inner + c
                _fetch(shift(values, s + inner), k)
                _fetch(shift(here, s), k)
                _fetch(shift(target, s - inner), k)
            _pass_muscl(
                shift(left, c),
                shift(right, c),
                shift(source, c),
                shift(rise, c),
                shift(a, c),
                shift(b, c),
                shift(before, c),
                k,
                speed,
                inverse_h,
                add,
                shift(after, c),
                shift(fall, c),
                shift(through, c),
                shift(divergence, c),
            )


@_jit
def _strip(  # type: ignore[no-untyped-def]
    limiter,
    ratio,
    alone,
    bare,
    fitted,
    temperature,
    inverse_temperature,
    share,
    dt,
    mu,
    potential,
    speeds,
    ints,
    floats,
    rates,
    i0,
    i1,
    o,
    c,
    w,
    dimension,
    add,
    to_faces,
    work,
    out,
):
    """Fluxes of rows ``i0 .. i1`` of a strip of columns."""
    n, inner, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    speed = floats[SPEED]
    scaled = ints[METRIC_OFFSET] >= 0
    corner = o * n * inner + c
    plain = limiter == VAN_LEER and not scaled and not to_faces
    if alone is not None and temperature is None and plain:
        inverse_h = floats[INVERSE_H]
        _strip_muscl(limiter, mu, potential, n, inner, periodic, speed, inverse_h, i0, i1, corner, w, add, work, out)
        return
    size = BUFFER
    density, flux, v, slope = work, shift(work, size), shift(work, 2 * size), shift(work, 3 * size)
    spread, low = shift(work, 4 * size), shift(work, 5 * size)
    one = np.int64(1)  # a literal would compile the same function again
    lag = 0
    if limiter is not None:
        lag = 1
    if ratio is not None:
        lag = 4
        points, unsafe = shift(work, 6 * size), shift(work, 7 * size)
        alarm = i0 - 9
        most = np.inf  # the largest outflow speed of the row in hand, and of the one behind
        truncated = ints[LOWER_TRUNCATED] or ints[UPPER_TRUNCATED]
        room = floats[SPACING] / (2.0 * dimension * dt) if dt > 0.0 else 0.0
    here = shift(potential, corner)
    for r in range(i0 - lag - 1, i1 + lag + 1):
        source, target = shift(mu, corner + _ghost_row(r, n, periodic) * inner), _row(density, r)
        if ratio is not None:
            _copy(source, w, FLUSH, target)
        else:
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if r + AHEAD < i1 + lag + 1 and r + AHEAD < n:
                    s = corner + (r + AHEAD) * inner + d
                    _fetch(shift(mu, s), k)
                    _fetch(shift(potential, s - lag * inner), k)
                    _fetch(shift(out, s - (lag + 1) * inner), k)
                _copy(shift(source, d), k, FLUSH, shift(target, d))
        f = r - 2
        if ratio is not None and f >= i0 - 2:
            e0, e1, e2 = _row(density, f - 3), _row(density, f - 2), _row(density, f - 1)
            e3, e4, e5 = _row(density, f), _row(density, f + 1), _row(density, f + 2)
            p0 = shift(here, _ghost_row(f - 3, n, periodic) * inner)
            p1 = shift(here, _ghost_row(f - 2, n, periodic) * inner)
            p2 = shift(here, _ghost_row(f - 1, n, periodic) * inner)
            p3 = shift(here, _ghost_row(f, n, periodic) * inner)
            p4 = shift(here, _ghost_row(f + 1, n, periodic) * inner)
            p5 = shift(here, _ghost_row(f + 2, n, periodic) * inner)
            face, g, bad = _row(v, f), _row(points, f), _row(unsafe, f)
            _velocity_six(p0, p1, p2, p3, p4, p5, w, speed, face)
            if scaled:
                _scale_row(rates, ints, o, f, c, w, face)
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if r + AHEAD < i1 + lag + 1 and r + AHEAD < n:
                    s = corner + (r + AHEAD) * inner + d
                    _fetch(shift(mu, s), k)
                    _fetch(shift(potential, s), k)
                    _fetch(shift(out, s - (lag + 1) * inner), k)
                    if dt > 0.0:
                        _fetch(shift(speeds, s - lag * inner), k)
                if _flux_points(
                    shift(e0, d),
                    shift(e1, d),
                    shift(e2, d),
                    shift(e3, d),
                    shift(e4, d),
                    shift(e5, d),
                    shift(face, d),
                    k,
                    ratio,
                    shift(g, d),
                    shift(bad, d),
                ):
                    alarm = f
                    _shade(
                        shift(e0, d),
                        shift(e1, d),
                        shift(e2, d),
                        shift(e3, d),
                        shift(e4, d),
                        shift(e5, d),
                        k,
                        ratio,
                        shift(bad, d),
                    )
            if truncated and _mark_truncated(ints, one, f, one, w, bad):
                alarm = f
            if temperature is not None:
                _velocity_six(e0, e1, e2, e3, e4, e5, w, temperature * speed, spread)
                if scaled:
                    _scale_row(rates, ints, o, f, c, w, spread)
                _add(spread, w, g)
        if alone is not None and r >= i0:
            u0, u1, u2 = _row(density, r - 2), _row(density, r - 1), _row(density, r)
            _half_slopes(u0, u1, u2, w, limiter, _row(slope, r - 1))
        f = r - lag
        if f < i0:
            continue
        target = _row(flux, f)
        left, right = _row(density, f - 1), _row(density, f)
        a = shift(here, _ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, _ghost_row(f, n, periodic) * inner)
        if ratio is not None:
            g0, g1, g2 = _row(points, f - 2), _row(points, f - 1), _row(points, f)
            g3, g4 = _row(points, f + 1), _row(points, f + 2)
            _correct(g0, g1, g2, g3, g4, w, target)
            if alarm >= f - 2:
                _velocity_two(a, b, w, speed, low)
                if scaled:
                    _scale_row(rates, ints, o, f, c, w, low)
                if temperature is not None:
                    _velocity_two(left, right, w, temperature * speed, spread)
                    if scaled:
                        _scale_row(rates, ints, o, f, c, w, spread)
                u0, u3 = _row(density, f - 2), _row(density, f + 1)
                f0, f1, f2 = _row(unsafe, f - 2), _row(unsafe, f - 1), _row(unsafe, f)
                f3, f4 = _row(unsafe, f + 1), _row(unsafe, f + 2)
                _guard(u0, left, right, u3, low, temperature, spread, f0, f1, f2, f3, f4, w, target)
            if dt > 0.0:
                near = shift(speeds, corner + _ghost_row(f - 1, n, periodic) * inner)
                far = shift(speeds, corner + _ghost_row(f, n, periodic) * inner)
                most, behind = _most(far, w), most
                diffusive = False
                if temperature is not None:
                    diffusive = True
                    _fill(-share * temperature * speed, w, spread)
                    if scaled:
                        _scale_row(rates, ints, o, f, c, w, spread)
                _limit(left, right, near, far, _row(v, f), spread, diffusive, dt, max(most, behind), room, w, target)
        if alone is not None or bare is not None:
            _velocity_two(a, b, w, speed, v)
            if scaled:
                _scale_row(rates, ints, o, f, c, w, v)
            if temperature is not None:
                if fitted is not None:
                    _conductance(a, b, w, -temperature * speed, inverse_temperature, spread)
                else:
                    _velocity_two(left, right, w, temperature * speed, spread)
                if scaled:
                    _scale_row(rates, ints, o, f, c, w, spread)
            if alone is not None:
                _flux_muscl(left, right, _row(slope, f - 1), _row(slope, f), v, w, target)
            if bare is not None:
                if temperature is not None and fitted is not None:
                    _flux_weighted(left, right, v, spread, w, target)
                else:
                    _flux_upwind(left, right, v, w, target)
            if temperature is not None and fitted is None:
                _add(spread, w, target)
        if to_faces:
            s = ints[FACE_OFFSET] + (o * (n + 1) + f) * inner + c
            if f < i1 or f == n:
                _copy(target, w, 0.0, shift(out, s))
        elif f > i0:
            _difference(_row(flux, f - 1), target, w, floats[INVERSE_H], add, shift(out, corner + (f - 1) * inner))


@_jit
def _tile(  # type: ignore[no-untyped-def]
    limiter,
    ratio,
    alone,
    bare,
    fitted,
    temperature,
    inverse_temperature,
    share,
    dt,
    mu,
    potential,
    speeds,
    ints,
    floats,
    rates,
    r,
    rows,
    o,
    batch,
    dimension,
    add,
    to_faces,
    work,
    out,
):
    """Fluxes of rows ``r .. r + rows`` of `batch` lines."""
    n, w, periodic = ints[ROWS], ints[INNER], ints[PERIODIC]
    speed = floats[SPEED]
    scaled = ints[METRIC_OFFSET] >= 0
    plain = limiter == VAN_LEER and not scaled and not to_faces
    if alone is not None and temperature is None and plain and w == 1 and rows >= SHORT:
        for k in range(batch):
            s = (o + k) * n
            u, p, cells = shift(mu, s), shift(potential, s), shift(out, s)
            _line_muscl(u, p, n, periodic, r, r + rows, speed, floats[INVERSE_H], add, cells)
        return
    size = BUFFER
    density, flux, v, slope = work, shift(work, size), shift(work, 2 * size), shift(work, 3 * size)
    spread, low = shift(work, 4 * size), shift(work, 5 * size)
    ghost = 1
    if limiter is not None:
        ghost = 2
    if ratio is not None:
        ghost = 5
    count = rows + 2 * ghost
    m = batch * count * w
    first = o * n * w
    pv = shift(work, 8 * size)
    _gather(FLUSH, shift(mu, first), n, w, r - ghost, count, batch, periodic, density)
    _gather(0.0, shift(potential, first), n, w, r - ghost, count, batch, periodic, pv)
    if ratio is not None:
        points, unsafe = shift(work, 6 * size), shift(work, 7 * size)
        inside, t = m - 5 * w, 3 * w
        e1, e2, e3 = shift(density, w), shift(density, 2 * w), shift(density, 3 * w)
        e4, e5 = shift(density, 4 * w), shift(density, 5 * w)
        p1, p2, p3, p4, p5 = shift(pv, w), shift(pv, 2 * w), shift(pv, 3 * w), shift(pv, 4 * w), shift(pv, 5 * w)
        _velocity_six(pv, p1, p2, p3, p4, p5, inside, speed, shift(v, t))
        if scaled:
            _scale_tile(rates, ints, o, batch, r - ghost, count, w, v)
        alarm = _flux_points(
            density, e1, e2, e3, e4, e5, shift(v, t), inside, ratio, shift(points, t), shift(unsafe, t)
        )
        if alarm:
            _shade(density, e1, e2, e3, e4, e5, inside, ratio, shift(unsafe, t))
        truncated = False
        if ints[LOWER_TRUNCATED] or ints[UPPER_TRUNCATED]:
            truncated = _mark_truncated(ints, batch, r - ghost, count, w, unsafe)
        if temperature is not None:
            _velocity_six(density, e1, e2, e3, e4, e5, inside, temperature * speed, shift(spread, t))
            if scaled:
                _scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
            _add(shift(spread, t), inside, shift(points, t))
        inside, t = m - 9 * w, 5 * w
        g0, g1, g2 = shift(points, 3 * w), shift(points, 4 * w), shift(points, t)
        _correct(g0, g1, g2, shift(points, 6 * w), shift(points, 7 * w), inside, shift(flux, t))
    if alone is not None and temperature is None and not scaled:
        u1, u2, t, inside = shift(density, w), shift(density, 2 * w), 2 * w, m - 3 * w
        _half_slopes(density, u1, u2, m - 2 * w, limiter, shift(slope, w))
        p1, p2 = shift(pv, w), shift(pv, t)
        _flux_driven(u1, u2, shift(slope, w), shift(slope, t), p1, p2, inside, speed, shift(flux, t))
    elif ratio is None or alarm or truncated:
        face = v
        if ratio is not None:
            face = low
        _velocity_two(pv, shift(pv, w), m - w, speed, shift(face, w))
        if scaled:
            _scale_tile(rates, ints, o, batch, r - ghost, count, w, face)
        if temperature is not None:
            if fitted is not None:
                _conductance(pv, shift(pv, w), m - w, -temperature * speed, inverse_temperature, shift(spread, w))
            else:
                _velocity_two(density, shift(density, w), m - w, temperature * speed, shift(spread, w))
            if scaled:
                _scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
        if alone is not None:
            u1, u2, t = shift(density, w), shift(density, 2 * w), 2 * w
            inside = m - 3 * w
            _half_slopes(density, u1, u2, m - 2 * w, limiter, shift(slope, w))
            _flux_muscl(u1, u2, shift(slope, w), shift(slope, t), shift(v, t), inside, shift(flux, t))
        if bare is not None:
            inside, t = m - w, w
            if temperature is not None and fitted is not None:
                _flux_weighted(density, shift(density, w), shift(v, w), shift(spread, w), inside, shift(flux, w))
            else:
                _flux_upwind(density, shift(density, w), shift(v, w), inside, shift(flux, w))
        if ratio is None and temperature is not None and fitted is None:
            _add(shift(spread, t), inside, shift(flux, t))
    if ratio is not None:
        inside, t = m - 9 * w, 5 * w
        if alarm or truncated:
            # without alarm only the faces within two of a marked one: where one line ends and the next begins
            whole = alarm
            for k in range(1 if whole else batch + 1):
                begin, end = 5, batch * count - 4
                if not whole and k > 0:
                    begin = larger(begin, (k - 1) * count + ghost + n - 4 - r)
                if not whole and k < batch:
                    end = smaller(end, k * count + ghost + 5 - r)
                q = begin * w
                _guard(
                    shift(density, q - 2 * w),
                    shift(density, q - w),
                    shift(density, q),
                    shift(density, q + w),
                    shift(low, q),
                    temperature,
                    shift(spread, q),
                    shift(unsafe, q - 2 * w),
                    shift(unsafe, q - w),
                    shift(unsafe, q),
                    shift(unsafe, q + w),
                    shift(unsafe, q + 2 * w),
                    (end - begin) * w,
                    shift(flux, q),
                )
        if dt > 0.0:
            _gather(0.0, shift(speeds, first), n, w, r - ghost, count, batch, periodic, pv)
            diffusive = False
            if temperature is not None:
                diffusive = True
                _fill(-share * temperature * speed, m, spread)
                if scaled:
                    _scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
            room = floats[SPACING] / (2.0 * dimension * dt)
            left, right, near, far = shift(density, 4 * w), shift(density, t), shift(pv, 4 * w), shift(pv, t)
            _limit(
                left,
                right,
                near,
                far,
                shift(v, t),
                shift(spread, t),
                diffusive,
                dt,
                _most(pv, m),
                room,
                inside,
                shift(flux, t),
            )
    for k in range(batch):
        left = shift(flux, (k * count + ghost) * w)
        if to_faces:
            s = ints[FACE_OFFSET] + ((o + k) * (n + 1) + r) * w
            _copy(left, (rows + (1 if r + rows == n else 0)) * w, 0.0, shift(out, s))
        else:
            s = ((o + k) * n + r) * w
            _difference(left, shift(left, w), rows * w, floats[INVERSE_H], add, shift(out, s))


@_kernel
def sweep(  # type: ignore[no-untyped-def]
    wide,
    limiter,
    ratio,
    alone,
    bare,
    fitted,
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
    work,
    out,
):
    """Fluxes and their divergence on bands ``start <= j < stop`` of the first axis, all axes.

    With a `ratio` the scheme is `Weno5`, else with a `limiter` it is `Muscl`, else upwind, which `fitted` together
    with `temperature` turns into Scharfetter-Gummel; each is None where it does not apply. `alone` is None but where
    there is a limiter and no ratio, `bare` but where there is neither: a branch is only left out by an argument that
    is None, never by one that is not. `speeds` holds the outflow speeds of the cells where ``dt > 0`` (the limiter of
    `Weno5`). With `to_faces`, `out` is the concatenation of the face arrays; otherwise the cells. `potential` is the
    one that drives the drift.
    """
    dimension = ints.shape[0]
    ghost = 1
    if limiter is not None:
        ghost = 2
    if ratio is not None:
        ghost = 5
    m, p, s, q, b = pointer(mu, 0), pointer(potential, 0), pointer(speeds, 0), pointer(out, 0), pointer(work, 0)
    for j in range(start, stop):
        for axis in range(dimension):
            inner, rates = ints[axis, INNER], pointer(metric, larger(0, ints[axis, METRIC_OFFSET]))
            o0, o1, i0, i1 = _band(ints, axis, j * band, smaller(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = _shape(o1 - o0, i1 - i0, inner, ghost)
            for o in range(o0, o1, batch):
                if wide is not None and depth == 0:
                    for c in range(0, inner, width):
                        w = smaller(width, inner - c)
                        _strip(
                            limiter,
                            ratio,
                            alone,
                            bare,
                            fitted,
                            temperature,
                            inverse_temperature,
                            share,
                            dt,
                            m,
                            p,
                            s,
                            ints[axis],
                            floats[axis],
                            rates,
                            i0,
                            i1,
                            o,
                            c,
                            w,
                            dimension,
                            axis > 0,
                            to_faces,
                            b,
                            q,
                        )
                else:
                    for r in range(i0, i1, depth):
                        rows, lines = smaller(depth, i1 - r), smaller(batch, o1 - o)
                        _tile(
                            limiter,
                            ratio,
                            alone,
                            bare,
                            fitted,
                            temperature,
                            inverse_temperature,
                            share,
                            dt,
                            m,
                            p,
                            s,
                            ints[axis],
                            floats[axis],
                            rates,
                            r,
                            rows,
                            o,
                            lines,
                            dimension,
                            axis > 0,
                            to_faces,
                            b,
                            q,
                        )
