"""How fast cells are emptied, which bounds explicit steps."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.bernoulli import _as_integer
from mfpde.mesh.compiled.faces import (
    _conductance_of,
    _leaving,
    _leaving_spread,
    _velocity_six,
    _velocity_two,
)
from mfpde.mesh.compiled.lines import (
    _band,
    _close_walls,
    _fetch,
    _gather,
    _ghost_row,
    _row,
    _scale_row,
    _scale_tile,
    _shape,
)
from mfpde.mesh.compiled.options import (
    _MAGNITUDE,
    AHEAD,
    BUFFER,
    INNER,
    INVERSE_H,
    METRIC_OFFSET,
    PERIODIC,
    PIECE,
    ROWS,
    SPEED,
    _inlined,
    _kernel,
)
from mfpde.support.pointers import (
    at,
    larger,
    pointer,
    shift,
    smaller,
)


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
