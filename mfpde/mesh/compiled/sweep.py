"""The rate of change that transport along one axis makes."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.faces import (
    conductance,
    correct,
    difference,
    flux_driven,
    flux_muscl,
    flux_points,
    flux_upwind,
    flux_weighted,
    guard,
    half_slopes,
    largest_entry,
    limit,
    line_muscl,
    pass_muscl,
    shade,
    velocity_six,
    velocity_two,
)
from mfpde.mesh.compiled.lines import (
    add_term,
    band_of,
    copy,
    fill,
    gather,
    ghost_row,
    mark_truncated,
    prefetch,
    row,
    scale_row,
    scale_tile,
    shape,
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
    jit,
    kernel,
)
from mfpde.support.pointers import (
    larger,
    pointer,
    shift,
    smaller,
)

__all__ = ["sweep"]


@jit
def _strip_muscl(  # type: ignore[no-untyped-def]
    limiter, mu, potential, n, inner, periodic, speed, inverse_h, i0, i1, corner, w, add, work, out
):
    """Divergence of rows ``i0 .. i1`` of a strip of columns for van Leer, with rates of one and no diffusion."""
    density, slope, flux, nowhere = work, shift(work, BUFFER), shift(work, 2 * BUFFER), shift(work, 3 * BUFFER)
    values, here, target = shift(mu, corner), shift(potential, corner), shift(out, corner)
    for r in range(i0 - 2, i0 + 1):
        copy(shift(values, ghost_row(r, n, periodic) * inner), w, FLUSH, row(density, r & 3))
    u0, u1, u2 = row(density, (i0 - 2) & 3), row(density, (i0 - 1) & 3), row(density, i0 & 3)
    half_slopes(u0, u1, u2, w, limiter, row(slope, (i0 - 1) & 1))
    for f in range(i0, i1 + 1):
        left, right, after = row(density, (f - 1) & 3), row(density, f & 3), row(density, (f + 1) & 3)
        source = shift(values, ghost_row(f + 1, n, periodic) * inner)
        a = shift(here, ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, ghost_row(f, n, periodic) * inner)
        rise, fall = row(slope, (f - 1) & 1), row(slope, f & 1)
        before, through = row(flux, (f - 1) & 1), row(flux, f & 1)
        divergence = nowhere
        if f > i0:
            divergence = shift(target, (f - 1) * inner)
        for c in range(0, w, PIECE):
            k = smaller(PIECE, w - c)
            if f + AHEAD <= i1:
                s = (f + AHEAD) * inner + c
                prefetch(shift(values, s + inner), k)
                prefetch(shift(here, s), k)
                prefetch(shift(target, s - inner), k)
            pass_muscl(
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


@jit
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
        source, target = shift(mu, corner + ghost_row(r, n, periodic) * inner), row(density, r)
        if ratio is not None:
            copy(source, w, FLUSH, target)
        else:
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if r + AHEAD < i1 + lag + 1 and r + AHEAD < n:
                    s = corner + (r + AHEAD) * inner + d
                    prefetch(shift(mu, s), k)
                    prefetch(shift(potential, s - lag * inner), k)
                    prefetch(shift(out, s - (lag + 1) * inner), k)
                copy(shift(source, d), k, FLUSH, shift(target, d))
        f = r - 2
        if ratio is not None and f >= i0 - 2:
            e0, e1, e2 = row(density, f - 3), row(density, f - 2), row(density, f - 1)
            e3, e4, e5 = row(density, f), row(density, f + 1), row(density, f + 2)
            p0 = shift(here, ghost_row(f - 3, n, periodic) * inner)
            p1 = shift(here, ghost_row(f - 2, n, periodic) * inner)
            p2 = shift(here, ghost_row(f - 1, n, periodic) * inner)
            p3 = shift(here, ghost_row(f, n, periodic) * inner)
            p4 = shift(here, ghost_row(f + 1, n, periodic) * inner)
            p5 = shift(here, ghost_row(f + 2, n, periodic) * inner)
            face, g, bad = row(v, f), row(points, f), row(unsafe, f)
            velocity_six(p0, p1, p2, p3, p4, p5, w, speed, face)
            if scaled:
                scale_row(rates, ints, o, f, c, w, face)
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if r + AHEAD < i1 + lag + 1 and r + AHEAD < n:
                    s = corner + (r + AHEAD) * inner + d
                    prefetch(shift(mu, s), k)
                    prefetch(shift(potential, s), k)
                    prefetch(shift(out, s - (lag + 1) * inner), k)
                    if dt > 0.0:
                        prefetch(shift(speeds, s - lag * inner), k)
                if flux_points(
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
                    shade(
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
            if truncated and mark_truncated(ints, one, f, one, w, bad):
                alarm = f
            if temperature is not None:
                velocity_six(e0, e1, e2, e3, e4, e5, w, temperature * speed, spread)
                if scaled:
                    scale_row(rates, ints, o, f, c, w, spread)
                add_term(spread, w, g)
        if alone is not None and r >= i0:
            u0, u1, u2 = row(density, r - 2), row(density, r - 1), row(density, r)
            half_slopes(u0, u1, u2, w, limiter, row(slope, r - 1))
        f = r - lag
        if f < i0:
            continue
        target = row(flux, f)
        left, right = row(density, f - 1), row(density, f)
        a = shift(here, ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, ghost_row(f, n, periodic) * inner)
        if ratio is not None:
            g0, g1, g2 = row(points, f - 2), row(points, f - 1), row(points, f)
            g3, g4 = row(points, f + 1), row(points, f + 2)
            correct(g0, g1, g2, g3, g4, w, target)
            if alarm >= f - 2:
                velocity_two(a, b, w, speed, low)
                if scaled:
                    scale_row(rates, ints, o, f, c, w, low)
                if temperature is not None:
                    velocity_two(left, right, w, temperature * speed, spread)
                    if scaled:
                        scale_row(rates, ints, o, f, c, w, spread)
                u0, u3 = row(density, f - 2), row(density, f + 1)
                f0, f1, f2 = row(unsafe, f - 2), row(unsafe, f - 1), row(unsafe, f)
                f3, f4 = row(unsafe, f + 1), row(unsafe, f + 2)
                guard(u0, left, right, u3, low, temperature, spread, f0, f1, f2, f3, f4, w, target)
            if dt > 0.0:
                near = shift(speeds, corner + ghost_row(f - 1, n, periodic) * inner)
                far = shift(speeds, corner + ghost_row(f, n, periodic) * inner)
                most, behind = largest_entry(far, w), most
                diffusive = False
                if temperature is not None:
                    diffusive = True
                    fill(-share * temperature * speed, w, spread)
                    if scaled:
                        scale_row(rates, ints, o, f, c, w, spread)
                limit(left, right, near, far, row(v, f), spread, diffusive, dt, max(most, behind), room, w, target)
        if alone is not None or bare is not None:
            velocity_two(a, b, w, speed, v)
            if scaled:
                scale_row(rates, ints, o, f, c, w, v)
            if temperature is not None:
                if fitted is not None:
                    conductance(a, b, w, -temperature * speed, inverse_temperature, spread)
                else:
                    velocity_two(left, right, w, temperature * speed, spread)
                if scaled:
                    scale_row(rates, ints, o, f, c, w, spread)
            if alone is not None:
                flux_muscl(left, right, row(slope, f - 1), row(slope, f), v, w, target)
            if bare is not None:
                if temperature is not None and fitted is not None:
                    flux_weighted(left, right, v, spread, w, target)
                else:
                    flux_upwind(left, right, v, w, target)
            if temperature is not None and fitted is None:
                add_term(spread, w, target)
        if to_faces:
            s = ints[FACE_OFFSET] + (o * (n + 1) + f) * inner + c
            if f < i1 or f == n:
                copy(target, w, 0.0, shift(out, s))
        elif f > i0:
            difference(row(flux, f - 1), target, w, floats[INVERSE_H], add, shift(out, corner + (f - 1) * inner))


@jit
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
            line_muscl(u, p, n, periodic, r, r + rows, speed, floats[INVERSE_H], add, cells)
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
    gather(FLUSH, shift(mu, first), n, w, r - ghost, count, batch, periodic, density)
    gather(0.0, shift(potential, first), n, w, r - ghost, count, batch, periodic, pv)
    if ratio is not None:
        points, unsafe = shift(work, 6 * size), shift(work, 7 * size)
        inside, t = m - 5 * w, 3 * w
        e1, e2, e3 = shift(density, w), shift(density, 2 * w), shift(density, 3 * w)
        e4, e5 = shift(density, 4 * w), shift(density, 5 * w)
        p1, p2, p3, p4, p5 = shift(pv, w), shift(pv, 2 * w), shift(pv, 3 * w), shift(pv, 4 * w), shift(pv, 5 * w)
        velocity_six(pv, p1, p2, p3, p4, p5, inside, speed, shift(v, t))
        if scaled:
            scale_tile(rates, ints, o, batch, r - ghost, count, w, v)
        alarm = flux_points(density, e1, e2, e3, e4, e5, shift(v, t), inside, ratio, shift(points, t), shift(unsafe, t))
        if alarm:
            shade(density, e1, e2, e3, e4, e5, inside, ratio, shift(unsafe, t))
        truncated = False
        if ints[LOWER_TRUNCATED] or ints[UPPER_TRUNCATED]:
            truncated = mark_truncated(ints, batch, r - ghost, count, w, unsafe)
        if temperature is not None:
            velocity_six(density, e1, e2, e3, e4, e5, inside, temperature * speed, shift(spread, t))
            if scaled:
                scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
            add_term(shift(spread, t), inside, shift(points, t))
        inside, t = m - 9 * w, 5 * w
        g0, g1, g2 = shift(points, 3 * w), shift(points, 4 * w), shift(points, t)
        correct(g0, g1, g2, shift(points, 6 * w), shift(points, 7 * w), inside, shift(flux, t))
    if alone is not None and temperature is None and not scaled:
        u1, u2, t, inside = shift(density, w), shift(density, 2 * w), 2 * w, m - 3 * w
        half_slopes(density, u1, u2, m - 2 * w, limiter, shift(slope, w))
        p1, p2 = shift(pv, w), shift(pv, t)
        flux_driven(u1, u2, shift(slope, w), shift(slope, t), p1, p2, inside, speed, shift(flux, t))
    elif ratio is None or alarm or truncated:
        face = v
        if ratio is not None:
            face = low
        velocity_two(pv, shift(pv, w), m - w, speed, shift(face, w))
        if scaled:
            scale_tile(rates, ints, o, batch, r - ghost, count, w, face)
        if temperature is not None:
            if fitted is not None:
                conductance(pv, shift(pv, w), m - w, -temperature * speed, inverse_temperature, shift(spread, w))
            else:
                velocity_two(density, shift(density, w), m - w, temperature * speed, shift(spread, w))
            if scaled:
                scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
        if alone is not None:
            u1, u2, t = shift(density, w), shift(density, 2 * w), 2 * w
            inside = m - 3 * w
            half_slopes(density, u1, u2, m - 2 * w, limiter, shift(slope, w))
            flux_muscl(u1, u2, shift(slope, w), shift(slope, t), shift(v, t), inside, shift(flux, t))
        if bare is not None:
            inside, t = m - w, w
            if temperature is not None and fitted is not None:
                flux_weighted(density, shift(density, w), shift(v, w), shift(spread, w), inside, shift(flux, w))
            else:
                flux_upwind(density, shift(density, w), shift(v, w), inside, shift(flux, w))
        if ratio is None and temperature is not None and fitted is None:
            add_term(shift(spread, t), inside, shift(flux, t))
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
                guard(
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
            gather(0.0, shift(speeds, first), n, w, r - ghost, count, batch, periodic, pv)
            diffusive = False
            if temperature is not None:
                diffusive = True
                fill(-share * temperature * speed, m, spread)
                if scaled:
                    scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
            room = floats[SPACING] / (2.0 * dimension * dt)
            left, right, near, far = shift(density, 4 * w), shift(density, t), shift(pv, 4 * w), shift(pv, t)
            limit(
                left,
                right,
                near,
                far,
                shift(v, t),
                shift(spread, t),
                diffusive,
                dt,
                largest_entry(pv, m),
                room,
                inside,
                shift(flux, t),
            )
    for k in range(batch):
        left = shift(flux, (k * count + ghost) * w)
        if to_faces:
            s = ints[FACE_OFFSET] + ((o + k) * (n + 1) + r) * w
            copy(left, (rows + (1 if r + rows == n else 0)) * w, 0.0, shift(out, s))
        else:
            s = ((o + k) * n + r) * w
            difference(left, shift(left, w), rows * w, floats[INVERSE_H], add, shift(out, s))


@kernel
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
            o0, o1, i0, i1 = band_of(ints, axis, j * band, smaller(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = shape(o1 - o0, i1 - i0, inner, ghost)
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
