"""Rows of a mesh: where they begin, what lies beyond their ends, and how they come into buffers."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.options import (
    LINE,
    LONG,
    LOWER_TRUNCATED,
    METRIC_FACE,
    METRIC_INNER,
    METRIC_OUTER,
    OUTER,
    PERIODIC,
    RING,
    ROWS,
    TILE,
    UPPER_TRUNCATED,
    WIDTH,
    jit,
)
from mfpde.support.pointers import (
    at,
    fetch,
    larger,
    peek,
    put,
    shift,
    smaller,
)

__all__ = [
    "add_term",
    "band_of",
    "close_walls",
    "copy",
    "fill",
    "gather",
    "ghost_row",
    "mark_truncated",
    "moving",
    "prefetch",
    "row",
    "scale_row",
    "scale_tile",
    "shape",
]


@jit
def ghost_row(r, n, periodic):  # type: ignore[no-untyped-def]
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


@jit
def _ghost_face(f, n, periodic):  # type: ignore[no-untyped-def]
    """The face of the mesh that stands for face `f`."""
    if periodic:
        return f % n
    f = f % (2 * n)
    return f if f <= n else 2 * n - f


@jit
def moving(x, flush):  # type: ignore[no-untyped-def]
    """The density that moves."""
    return 0.0 if abs(x) < flush else x


@jit
def copy(source, n, flush, target):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(target, j, moving(at(source, j), flush))


@jit
def prefetch(source, n):  # type: ignore[no-untyped-def]
    """Ask for a row that will be read soon: walking across rows, the processor does not foresee it."""
    for j in range(0, n, LINE):
        fetch(source, j)


@jit
def fill(value, n, target):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(target, j, value)


@jit
def add_term(term, n, total):  # type: ignore[no-untyped-def]
    for j in range(n):
        put(total, j, peek(total, j) + at(term, j))


@jit
def _scale(rates, stride, n, v):  # type: ignore[no-untyped-def]
    """Multiply by the rate g, one for all with stride 0."""
    if stride == 0:
        g = at(rates, 0)
        for j in range(n):
            put(v, j, peek(v, j) * g)
    else:
        for j in range(n):
            put(v, j, peek(v, j) * at(rates, j))


@jit
def gather(flush, source, n, w, r0, count, batch, periodic, buffer):  # type: ignore[no-untyped-def]
    """Copy rows ``r0 .. r0 + count`` of `batch` lines of `n` rows of `w` entries, ghosts included, into the buffer."""
    low = larger(0, r0)
    high = smaller(n, r0 + count)
    for b in range(batch):
        line = shift(source, b * n * w)
        tile = shift(buffer, b * count * w)
        copy(shift(line, low * w), (high - low) * w, flush, shift(tile, (low - r0) * w))
        for k in range(count - (high - low)):
            q = k if k < low - r0 else k + (high - low)
            s, t = ghost_row(r0 + q, n, periodic) * w, q * w
            if w == 1:  # no loop over one
                put(tile, t, moving(at(line, s), flush))
            else:
                copy(shift(line, s), w, flush, shift(tile, t))


@jit
def scale_row(rates, ints, line, face, c0, w, v):  # type: ignore[no-untyped-def]
    """Multiply the velocities of one row of faces by the rate g."""
    f = _ghost_face(face, ints[ROWS], ints[PERIODIC])
    s = line * ints[METRIC_OUTER] + f * ints[METRIC_FACE] + c0 * ints[METRIC_INNER]
    _scale(shift(rates, s), ints[METRIC_INNER], w, v)


@jit
def scale_tile(rates, ints, line, batch, r0, count, w, v):  # type: ignore[no-untyped-def]
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
                scale_row(rates, ints, line + b, r0 + q, zero, w, shift(tile, q * w))


@jit
def mark_truncated(ints, batch, r0, count, w, unsafe):  # type: ignore[no-untyped-def]
    """Faces whose stencil reaches across a truncation end: nothing is known about the potential there."""
    lower = smaller(count, 3 - r0) if ints[LOWER_TRUNCATED] else 0
    upper = larger(0, ints[ROWS] - 2 - r0) if ints[UPPER_TRUNCATED] else count
    for b in range(batch):
        line = shift(unsafe, b * count * w)
        fill(1.0, larger(0, lower) * w, line)
        fill(1.0, larger(0, count - upper) * w, shift(line, upper * w))
    return lower > 0 or upper < count


@jit
def close_walls(n, r0, count, batch, w, weight):  # type: ignore[no-untyped-def]
    """Set the faces at both ends of a line, and beyond, to zero."""
    for q in range(count):
        if r0 + q <= 0 or r0 + q >= n:
            for b in range(batch):
                fill(0.0, w, shift(weight, (b * count + q) * w))


@jit
def shape(outer, rows, inner, ghost):  # type: ignore[no-untyped-def]
    """Columns, rows and lines of a tile, or the columns of a strip and rows 0."""
    if inner >= LONG:
        strips = -(-inner // WIDTH)
        return (-(-inner // strips) + 7) // 8 * 8, 0, 1
    most = TILE // inner - 2 * ghost
    depth = -(-rows // (-(-rows // most)))
    return inner, depth, smaller(outer, larger(1, TILE // ((depth + 2 * ghost) * inner))) if depth == rows else 1


@jit
def row(buffer, r):  # type: ignore[no-untyped-def]
    """Row `r` of a ring."""
    return shift(buffer, (r & (RING - 1)) * (WIDTH + LINE))


@jit
def band_of(ints, axis, low, high):  # type: ignore[no-untyped-def]
    """The lines and rows, along `axis`, of the band ``low <= index < high`` of the first axis."""
    if axis == 0:
        return 0, 1, low, high
    lines = ints[axis, OUTER] // ints[0, ROWS]
    return low * lines, high * lines, 0, ints[axis, ROWS]
