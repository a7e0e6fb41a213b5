"""How fast cells are emptied, which bounds explicit steps."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.bernoulli import as_integer
from mfpde.mesh.compiled.faces import (
    conductance_of,
    leaving,
    leaving_spread,
    velocity_six,
    velocity_two,
)
from mfpde.mesh.compiled.lines import (
    band_of,
    close_walls,
    gather,
    ghost_row,
    prefetch,
    row,
    scale_row,
    scale_tile,
    shape,
)
from mfpde.mesh.compiled.options import (
    AHEAD,
    BUFFER,
    INNER,
    INVERSE_H,
    MAGNITUDE,
    METRIC_OFFSET,
    PERIODIC,
    PIECE,
    ROWS,
    SPEED,
    inlined,
    kernel,
)
from mfpde.support.pointers import (
    at,
    larger,
    pointer,
    shift,
    smaller,
)

__all__ = ["largest", "outflow"]


@inlined
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
        face, before = row(v, f), row(v, f - 1)
        a = shift(here, ghost_row(f - 1, n, periodic) * inner)
        b = shift(here, ghost_row(f, n, periodic) * inner)
        if six is not None:
            p0 = shift(here, ghost_row(f - 3, n, periodic) * inner)
            p1 = shift(here, ghost_row(f - 2, n, periodic) * inner)
            p4 = shift(here, ghost_row(f + 1, n, periodic) * inner)
            p5 = shift(here, ghost_row(f + 2, n, periodic) * inner)
            for d in range(0, w, PIECE):
                k = smaller(PIECE, w - d)
                if f + AHEAD <= i1:
                    s = corner + (f + AHEAD) * inner + d
                    prefetch(shift(potential, s + 2 * inner), k)
                    prefetch(shift(out, s - inner), k)
                velocity_six(
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
            velocity_two(a, b, w, floats[SPEED], face)
        if scaled:
            scale_row(rates, ints, o, f, c, w, face)
        if temperature is not None:
            weight = row(spread, f)
            conductance_of(fitted, a, b, w, -share * temperature * floats[SPEED], inverse_temperature, weight)
            if scaled:
                scale_row(rates, ints, o, f, c, w, weight)
            if not periodic:
                close_walls(n, f, one, one, w, weight)
        if f > i0:
            target = shift(out, corner + (f - 1) * inner)
            if temperature is not None:
                leaving_spread(before, face, row(spread, f - 1), weight, w, floats[INVERSE_H], add, target)
            else:
                leaving(before, face, w, floats[INVERSE_H], add, target)


@inlined
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
    gather(0.0, shift(potential, o * n * w), n, w, r - ghost, count, batch, periodic, pv)
    a, b = shift(pv, first - w), shift(pv, first)
    if six is not None:
        p4, p5 = shift(pv, 4 * w), shift(pv, 5 * w)
        velocity_six(pv, shift(pv, w), a, b, p4, p5, faces, floats[SPEED], shift(v, first))
    else:
        velocity_two(a, b, faces, floats[SPEED], shift(v, first))
    if scaled:
        scale_tile(rates, ints, o, batch, r - ghost, count, w, v)
    if temperature is not None:
        factor = -share * temperature * floats[SPEED]
        conductance_of(fitted, a, b, faces, factor, inverse_temperature, shift(spread, first))
        if scaled:
            scale_tile(rates, ints, o, batch, r - ghost, count, w, spread)
        if not periodic:
            close_walls(n, r - ghost, count, batch, w, spread)
    for k in range(batch):
        t = (k * count + ghost) * w
        left, right = shift(v, t), shift(v, t + w)
        target = shift(out, ((o + k) * n + r) * w)
        if temperature is not None:
            near, far = shift(spread, t), shift(spread, t + w)
            leaving_spread(left, right, near, far, rows * w, floats[INVERSE_H], add, target)
        else:
            leaving(left, right, rows * w, floats[INVERSE_H], add, target)


@kernel
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
            o0, o1, i0, i1 = band_of(ints, axis, j * band, smaller(ints[0, ROWS], (j + 1) * band))
            width, depth, batch = shape(o1 - o0, i1 - i0, inner, ghost)
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


@kernel
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
                x = as_integer(at(v, j)) & MAGNITUDE
                x = np.int64(-1) if at(weight, j) < floor else x
                top = x if x > top else top
        else:
            for j in range(n):
                x = as_integer(at(v, j)) & MAGNITUDE
                top = x if x > top else top
        if top > best:
            best = top
            for j in range(n):
                if as_integer(at(v, j)) & MAGNITUDE == top and not (floor > 0.0 and at(weight, j) < floor):
                    index = low + j
                    break
    return values[index] if best >= 0 else 0.0, index
