"""The formulae of fluxes through faces, on `n` entries that pointers lead to.

Several rows side by side are a tuple of pointers: of the six rows ``k - 3 .. k + 2`` around a face, say.
"""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.bernoulli import as_double, as_integer, bernoulli
from mfpde.mesh.compiled.lines import ghost_row, moving
from mfpde.mesh.compiled.options import (
    EXPONENT,
    MAGNITUDE,
    ONE_HALF_UP,
    ONE_UP,
    PIECE,
    STAGGERED_1,
    STAGGERED_3,
    STAGGERED_5,
    contracted,
    jit,
)
from mfpde.mesh.compiled.structures import MINMOD, VAN_LEER
from mfpde.mesh.constants import EPSILON, FLUSH, SAFE, TAIL_WIDTH, TINY
from mfpde.support.pointers import at, larger, peek, put, put_fourth, put_second, put_third, smaller

__all__ = [
    "conductance",
    "correct",
    "difference",
    "flux_driven",
    "flux_muscl",
    "flux_points",
    "flux_upwind",
    "flux_weighted",
    "guard",
    "half_slopes",
    "largest_entry",
    "leaving",
    "leaving_spread",
    "limit",
    "line_muscl",
    "pass_muscl",
    "shade",
    "velocity_six",
    "velocity_two",
]


@jit
def velocity_two(lower, upper, n, speed, v):  # type: ignore[no-untyped-def]
    """``v = speed (V_k - V_(k-1))`` with ``speed = -g/h``."""
    for j in range(n):
        put(v, j, speed * (at(upper, j) - at(lower, j)))


@contracted
def velocity_six(rows, n, speed, v):  # type: ignore[no-untyped-def]
    """Sixth-order staggered difference of six rows; differences first, so that a constant drops out exactly."""
    p0, p1, p2, p3, p4, p5 = rows
    for j in range(n):
        d1 = at(p3, j) - at(p2, j)
        d3 = at(p4, j) - at(p1, j)
        d5 = at(p5, j) - at(p0, j)
        put(v, j, speed * (STAGGERED_1 * d1 + STAGGERED_3 * d3 + STAGGERED_5 * d5))


@jit
def conductance(lower, upper, n, factor, inverse_temperature, weight):  # type: ignore[no-untyped-def]
    """``factor B(|d|)``, ``d = (V_k - V_(k-1))/tau``."""
    for j in range(n):
        put(weight, j, factor * bernoulli(abs(at(upper, j) - at(lower, j)) * inverse_temperature))


@jit
def flux_weighted(left, right, v, weight, n, flux):  # type: ignore[no-untyped-def]
    """Scharfetter-Gummel: upwind plus a conductance, ``tau B(-x) = tau B(x) + tau x``."""
    for j in range(n):
        s = at(v, j)
        k = at(weight, j)
        put(flux, j, ((0.0 if s < 0.0 else s) + k) * at(left, j) + ((0.0 if s > 0.0 else s) - k) * at(right, j))


@jit
def _upwind(s, x, y):  # type: ignore[no-untyped-def]
    """``s^+ x + s^- y``, of which one is zero."""
    return (0.0 if s < 0.0 else s) * x + (0.0 if s > 0.0 else s) * y


@jit
def flux_upwind(left, right, v, n, flux):  # type: ignore[no-untyped-def]
    """``v^+ mu_(k-1) + v^- mu_k``."""
    for j in range(n):
        put(flux, j, _upwind(at(v, j), at(left, j), at(right, j)))


@jit
def _van_leer(a, b):  # type: ignore[no-untyped-def]
    """Half the limited slope, from the differences to both neighbours."""
    p = abs(a)
    q = abs(b)
    small = p if p < q else q
    large = q if p < q else p
    # small * (large / sum), not a*b / (a + b): products of tails underflow
    value = small * (large / (small + large + TINY))
    return (value if a > 0.0 else -value) if (a > 0.0) == (b > 0.0) else 0.0


@jit
def half_slopes(u0, u1, u2, n, limiter, slope):  # type: ignore[no-untyped-def]
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


@jit
def flux_muscl(sides, v, n, flux):  # type: ignore[no-untyped-def]
    """Upwind fluxes of the densities at the face: half a slope from the cells on both sides."""
    left, right, rise, fall = sides.left, sides.right, sides.rise, sides.fall
    for j in range(n):
        put(flux, j, _upwind(at(v, j), at(left, j) + at(rise, j), at(right, j) - at(fall, j)))


@jit
def flux_driven(sides, n, speed, flux):  # type: ignore[no-untyped-def]
    """`velocity_two` and `flux_muscl` in one."""
    left, right, rise, fall = sides.left, sides.right, sides.rise, sides.fall
    lower, upper = sides.lower, sides.upper
    for j in range(n):
        s = speed * (at(upper, j) - at(lower, j))
        put(flux, j, _upwind(s, at(left, j) + at(rise, j), at(right, j) - at(fall, j)))


@jit
def _face_muscl(u0, u1, u2, rise, s):  # type: ignore[no-untyped-def]
    """Half the slope of the cell on the right of a face, and with that on the left, `rise`, the flux."""
    fall = _van_leer(u1 - u0, u2 - u1)
    return fall, _upwind(s, u0 + rise, u1 - fall)


@jit
def pass_muscl(rows, c, n, axis, add):  # type: ignore[no-untyped-def]
    """From entry `c` on, one row of everything for van Leer: of `rows`, a `MusclRows`, from `source` the row `after` of
    the density, `fall` of the row on the right of a face, the flux `through` it, and with that `before`, through the
    face before, the divergence of the row on the left.

    The formulae of `copy`, `velocity_two`, `half_slopes`, `flux_muscl` and `difference`, whose divisions hide
    behind the loads and stores of each other.
    """
    left, right, source, lower, upper = rows.left, rows.right, rows.source, rows.lower, rows.upper
    rise, before, out = rows.rise, rows.before, rows.out
    speed, inverse_h = axis.speed, axis.inverse_h
    for j in range(c, c + n):
        x = moving(at(source, j), FLUSH)
        s = speed * (at(upper, j) - at(lower, j))
        fall, through = _face_muscl(at(left, j), at(right, j), x, at(rise, j), s)
        put_second(rows.fall, j, fall)
        put_third(rows.through, j, through)
        put_fourth(rows.after, j, x)
        change = (at(before, j) - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)


@jit
def line_muscl(u, p, axis, i0, i1, add, out):  # type: ignore[no-untyped-def]
    """As `pass_muscl`, cells ``i0 .. i1`` of one line: what is on the left goes from hand to hand."""
    n, periodic, speed, inverse_h = axis.rows, axis.periodic, axis.speed, axis.inverse_h
    g0, g1, g3 = ghost_row(i0 - 2, n, periodic), ghost_row(i0 - 1, n, periodic), ghost_row(i0 + 1, n, periodic)
    u0, u1, u2 = moving(at(u, g1), FLUSH), moving(at(u, i0), FLUSH), moving(at(u, g3), FLUSH)
    rise = _van_leer(u0 - moving(at(u, g0), FLUSH), u1 - u0)
    rise, before = _face_muscl(u0, u1, u2, rise, speed * (at(p, i0) - at(p, g1)))
    u0, u1 = u1, u2
    inner = larger(i0, smaller(i1, n - 2))
    for j in range(i0, inner):
        u2 = moving(at(u, j + 2), FLUSH)
        fall, through = _face_muscl(u0, u1, u2, rise, speed * (at(p, j + 1) - at(p, j)))
        change = (before - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)
        u0, u1, rise, before = u1, u2, fall, through
    for j in range(inner, i1):
        u2 = moving(at(u, ghost_row(j + 2, n, periodic)), FLUSH)
        s = speed * (at(p, ghost_row(j + 1, n, periodic)) - at(p, j))
        fall, through = _face_muscl(u0, u1, u2, rise, s)
        change = (before - through) * inverse_h
        put(out, j, peek(out, j) + change if add else change)
        u0, u1, rise, before = u1, u2, fall, through


@jit
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


@contracted
def flux_points(cells, v, c, n, ratio, flux, unsafe):  # type: ignore[no-untyped-def]
    """``G = v mu_f`` from entry `c` on: WENO-Z interpolation (power 2) from the upwind side.

    Candidates ``(3 u0 - 10 u1 + 15 u2)/8``, ``(-u1 + 6 u2 + 3 u3)/8``, ``(3 u2 + 6 u3 - u4)/8`` with linear weights
    1/16, 10/16, 5/16 and ``alpha_k = d_k (1 + tau^2/b_k^2)``, brought to one denominator. Smoothness is measured
    on the stencil divided by a power of two near its largest value: squares of tails underflow, and no fixed epsilon
    fits all. `unsafe` gets 1.0 where max/min of the six cells is above `ratio`; the answer is whether there was any:
    then `shade` says how far.
    """
    e0, e1, e2, e3, e4, e5 = cells
    count = 0
    for j in range(c, c + n):
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
        exponent = as_integer(high + TINY) & EXPONENT
        scale = as_double(ONE_HALF_UP - exponent)
        back = as_double(exponent + ONE_UP)
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


@jit
def shade(cells, c, n, ratio, unsafe):  # type: ignore[no-untyped-def]
    """The share of the fallback: 0 up to max/min of the six cells of `ratio`, 1 from `TAIL_WIDTH` times that on.

    A switch without width would be a jump of the rate of change, which densities are drawn to and stay at: from there
    no step, however short, is better than first order.
    """
    e0, e1, e2, e3, e4, e5 = cells
    for j in range(c, c + n):
        high, low = _extremes(at(e0, j), at(e1, j), at(e2, j), at(e3, j), at(e4, j), at(e5, j))
        share = (high - ratio * low) / (high + TINY) * (TAIL_WIDTH / (TAIL_WIDTH - 1.0))
        share = 0.0 if share < 0.0 else share
        put(unsafe, j, 1.0 if share > 1.0 else share)


@contracted
def correct(points, n, flux):  # type: ignore[no-untyped-def]
    """``F = G - d^2 G/24 + 3 d^4 G/640``."""
    g0, g1, g2, g3, g4 = points
    for j in range(n):
        near = at(g1, j) + at(g3, j)
        far = at(g0, j) + at(g4, j)
        put(flux, j, (1067.0 / 960.0) * at(g2, j) + ((3.0 / 640.0) * far - (29.0 / 480.0) * near))


@jit
def _any(shares, c, n):  # type: ignore[no-untyped-def]
    """Whether one of the entries ``c .. c + n`` is not zero."""
    f0, f1, f2, f3, f4 = shares
    found = np.int64(0)
    for j in range(c, c + n):
        found |= as_integer(at(f0, j)) | as_integer(at(f1, j)) | as_integer(at(f2, j))
        found |= as_integer(at(f3, j)) | as_integer(at(f4, j))
    return found != 0


@jit
def _replace(heat, cells, v, spread, shares, c, n, flux):  # type: ignore[no-untyped-def]
    """Blend in the flux of `Muscl` with van Leer's slopes, by the largest share that one of the five faces asks for."""
    u0, u1, u2, u3 = cells
    f0, f1, f2, f3, f4 = shares
    for j in range(c, c + n):
        x1 = at(u1, j)
        x2 = at(u2, j)
        rise = _van_leer(x1 - at(u0, j), x2 - x1)
        _, low = _face_muscl(x1, x2, at(u3, j), rise, at(v, j))
        if heat is not None:
            low += at(spread, j)
        share = at(f0, j)
        share = at(f1, j) if at(f1, j) > share else share
        share = at(f2, j) if at(f2, j) > share else share
        share = at(f3, j) if at(f3, j) > share else share
        share = at(f4, j) if at(f4, j) > share else share
        high = peek(flux, j)
        put(flux, j, low if share == 1.0 else high + share * (low - high))


@jit
def guard(heat, cells, v, spread, shares, n, flux):  # type: ignore[no-untyped-def]
    """`_replace`, passing over pieces without an unsafe face.

    `cells` are the four rows around a face, `shares` those of `shade` at the five faces that its flux is made of.
    """
    for c in range(0, n, PIECE):
        k = smaller(PIECE, n - c)
        if _any(shares, c, k):
            _replace(heat, cells, v, spread, shares, c, k, flux)


@jit
def _allowance(mu, nu, speed, room):  # type: ignore[no-untyped-def]
    """What a donor may give through one face in unit time, see `limit`."""
    kappa = 1.0 / (nu if nu > 0.5 else 0.5)
    slack = 1.0 - kappa * nu
    slack = slack if slack > 0.0 else 0.0
    return SAFE * mu * (kappa * speed + room * slack)


@jit
def largest_entry(values, n):  # type: ignore[no-untyped-def]
    """The largest of non-negative values, or NaN: as integers, whose maxima vectorise."""
    top = np.int64(0)
    for j in range(n):
        x = as_integer(at(values, j)) & MAGNITUDE
        top = x if x > top else top
    return as_double(top)


@jit
def limit(sides, bound, v, spread, diffusive, n, flux):  # type: ignore[no-untyped-def]
    """Cut the flux so that no donor gives away more than it has in a forward Euler step.

    ``|F| <= mu (kappa |v_out| + slack)`` with ``kappa = min(2, 1/nu)``, ``slack = room (1 - kappa nu)``,
    ``nu = dt * outflow`` the donor's and ``room = h / (2 d dt)``: summed over the 2 d faces
    and times dt/h that is ``mu (kappa nu + 1 - kappa nu)``. Both `v` and `nu` are those of the six-point velocity,
    also where the flux is the fallback. With diffusion its conductance, `spread`, is part of ``v_out`` to both sides
    and of `nu`; without, `spread` is not read. `bound` is a `Bound`; no outflow here is above its `most`.
    """
    left, right, near, far, dt, room = sides.left, sides.right, bound.near, bound.far, bound.dt, bound.room
    if dt * bound.most <= 0.5 and not diffusive:
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


@jit
def difference(left, right, n, inverse_h, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``-(F_(k+1) - F_k)/h``."""
    if add:
        for j in range(n):
            put(out, j, peek(out, j) + (at(left, j) - at(right, j)) * inverse_h)
    else:
        for j in range(n):
            put(out, j, (at(left, j) - at(right, j)) * inverse_h)


@jit
def leaving(left, right, n, factor, add, out):  # type: ignore[no-untyped-def]
    """Set or add ``factor (v^+ on the right + v^- on the left)``."""
    for j in range(n):
        x = at(left, j)
        y = at(right, j)
        value = ((0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)) * factor
        put(out, j, peek(out, j) + value if add else value)


@jit
def leaving_spread(left, right, near, far, n, factor, add, out):  # type: ignore[no-untyped-def]
    """As `leaving`, each plus the conductance."""
    for j in range(n):
        x = at(left, j)
        y = at(right, j)
        drift = (0.0 if y < 0.0 else y) - (0.0 if x > 0.0 else x)
        value = (drift + (at(near, j) + at(far, j))) * factor
        put(out, j, peek(out, j) + value if add else value)
