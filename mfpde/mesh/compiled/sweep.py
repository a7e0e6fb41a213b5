"""The rate of change that transport along one axis makes."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.faces import (
    _conductance,
    _correct,
    _difference,
    _flux_driven,
    _flux_muscl,
    _flux_points,
    _flux_upwind,
    _flux_weighted,
    _guard,
    _half_slopes,
    _limit,
    _line_muscl,
    _most,
    _pass_muscl,
    _shade,
    _velocity_six,
    _velocity_two,
)
from mfpde.mesh.compiled.lines import (
    _add,
    _band,
    _copy,
    _fetch,
    _fill,
    _gather,
    _ghost_row,
    _mark_truncated,
    _row,
    _scale_row,
    _scale_tile,
    _shape,
)
from mfpde.mesh.compiled.options import (
    AHEAD,
    BUFFER,
    FACE_OFFSET,
    FLUSH,
    INNER,
    INVERSE_H,
    LOWER_TRUNCATED,
    METRIC_OFFSET,
    PERIODIC,
    PIECE,
    ROWS,
    SHORT,
    SPACING,
    SPEED,
    UPPER_TRUNCATED,
    VAN_LEER,
    _jit,
    _kernel,
)
from mfpde.support.pointers import (
    larger,
    pointer,
    shift,
    smaller,
)


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
