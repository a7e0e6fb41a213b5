"""Rows of a mesh: where they begin, what lies beyond their ends, and how they come into buffers."""

from __future__ import annotations

from mfpde.mesh.compiled.options import BUFFER, LINE, LONG, RING, TILE, WIDTH, inlined, jit
from mfpde.mesh.compiled.structures import (
    FACE_OFFSET,
    INNER,
    INVERSE_H,
    LOWER_TRUNCATED,
    METRIC_FACE,
    METRIC_INNER,
    METRIC_OFFSET,
    METRIC_OUTER,
    OUTER,
    PERIODIC,
    ROWS,
    SPACING,
    SPEED,
    UPPER_TRUNCATED,
    Axis,
    Block,
    Buffers,
)
from mfpde.support.pointers import at, fetch, larger, peek, pointer, put, shift, smaller

__all__ = [
    "add_term",
    "axis_of",
    "band_of",
    "buffers_of",
    "close_walls",
    "copy",
    "fill",
    "five_rows",
    "four_rows",
    "gather",
    "ghost_row",
    "inside",
    "mark_truncated",
    "mesh_row",
    "moving",
    "prefetch",
    "row",
    "row_of",
    "scale",
    "shape",
    "two_rows",
    "six_mesh_rows",
    "six_ring_rows",
    "six_rows",
    "with_ghosts",
]


# ---------------------------------------------------------------------------------------------------------------------
# the axis in hand, and blocks of its rows
# ---------------------------------------------------------------------------------------------------------------------


@jit
def axis_of(mesh, i):  # type: ignore[no-untyped-def]
    """Axis `i` of a mesh, which has to be an argument of the kernel: its rates are pointed to."""
    ints, floats, offset = mesh.ints, mesh.floats, mesh.ints[i, METRIC_OFFSET]
    return Axis(
        ints[i, OUTER],
        ints[i, ROWS],
        ints[i, INNER],
        ints[i, PERIODIC],
        ints[i, LOWER_TRUNCATED],
        ints[i, UPPER_TRUNCATED],
        floats[i, INVERSE_H],
        floats[i, SPACING],
        floats[i, SPEED],
        offset >= 0,
        pointer(mesh.metric, larger(0, offset)),
        ints[i, METRIC_OUTER],
        ints[i, METRIC_FACE],
        ints[i, METRIC_INNER],
        ints[i, FACE_OFFSET],
    )


@jit
def band_of(mesh, i, j):  # type: ignore[no-untyped-def]
    """Band `j` of the first axis along axis `i`: the lines from and to, and the rows from and to.

    Where labels of species come first, that axis has several lines, and there is one band.
    """
    rows = mesh.ints[0, ROWS]
    low, high = j * mesh.band, smaller(rows, (j + 1) * mesh.band)
    if i == 0:
        return 0, mesh.ints[0, OUTER], low, high
    lines = mesh.ints[i, OUTER] // rows
    return low * lines, high * lines, 0, mesh.ints[i, ROWS]


@inlined
def buffers_of(work):  # type: ignore[no-untyped-def]
    """The buffers that a pointer leads to."""
    return Buffers(
        work,
        shift(work, BUFFER),
        shift(work, 2 * BUFFER),
        shift(work, 3 * BUFFER),
        shift(work, 4 * BUFFER),
        shift(work, 5 * BUFFER),
        shift(work, 6 * BUFFER),
        shift(work, 7 * BUFFER),
        shift(work, 8 * BUFFER),
    )


@jit
def shape(outer, rows, inner, ghost):  # type: ignore[no-untyped-def]
    """Columns, rows and lines of a tile, or the columns of a strip and rows 0."""
    if inner >= LONG:
        strips = -(-inner // WIDTH)
        return (-(-inner // strips) + 7) // 8 * 8, 0, 1
    most = TILE // inner - 2 * ghost
    depth = -(-rows // (-(-rows // most)))
    return inner, depth, smaller(outer, larger(1, TILE // ((depth + 2 * ghost) * inner))) if depth == rows else 1


@inlined
def with_ghosts(block, ghost):  # type: ignore[no-untyped-def]
    """A block and `ghost` more rows at each end, of which the faces of the block are worked on."""
    count, w = block.rows + 2 * ghost, block.width
    size = (block.batch * count - 2 * ghost + 1) * w
    return Block(block.line, block.batch, block.first - ghost, count, block.column, w, ghost * w, size)


@inlined
def inside(block, start, size):  # type: ignore[no-untyped-def]
    """The same block, of whose buffer the entries ``start .. start + size`` are worked on."""
    return Block(block.line, block.batch, block.first, block.rows, block.column, block.width, start, size)


@inlined
def row_of(block, r):  # type: ignore[no-untyped-def]
    """Row `r` of the columns of a block of one line."""
    return Block(block.line, 1, r, 1, block.column, block.width, 0, block.width)


# ---------------------------------------------------------------------------------------------------------------------
# neighbouring rows
# ---------------------------------------------------------------------------------------------------------------------


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
def row(buffer, r):  # type: ignore[no-untyped-def]
    """Row `r` of a ring."""
    return shift(buffer, (r & (RING - 1)) * (WIDTH + LINE))


@jit
def mesh_row(cells, axis, r):  # type: ignore[no-untyped-def]
    """Row `r` of the mesh, ghosts included, from a pointer to row 0."""
    return shift(cells, ghost_row(r, axis.rows, axis.periodic) * axis.inner)


@inlined
def two_rows(first, w):  # type: ignore[no-untyped-def]
    """Two rows of a buffer, `w` entries apart."""
    return first, shift(first, w)


@inlined
def four_rows(first, w):  # type: ignore[no-untyped-def]
    """Four rows of a buffer, `w` entries apart."""
    return first, shift(first, w), shift(first, 2 * w), shift(first, 3 * w)


@inlined
def five_rows(first, w):  # type: ignore[no-untyped-def]
    """Five rows of a buffer, `w` entries apart."""
    return first, shift(first, w), shift(first, 2 * w), shift(first, 3 * w), shift(first, 4 * w)


@inlined
def six_rows(first, w):  # type: ignore[no-untyped-def]
    """Six rows of a buffer, `w` entries apart."""
    return first, shift(first, w), shift(first, 2 * w), shift(first, 3 * w), shift(first, 4 * w), shift(first, 5 * w)


@jit
def six_ring_rows(ring, f):  # type: ignore[no-untyped-def]
    """The rows ``f - 3 .. f + 2`` around face `f`, of a ring."""
    return row(ring, f - 3), row(ring, f - 2), row(ring, f - 1), row(ring, f), row(ring, f + 1), row(ring, f + 2)


@jit
def six_mesh_rows(cells, axis, f):  # type: ignore[no-untyped-def]
    """The rows ``f - 3 .. f + 2`` around face `f`, of the mesh."""
    return (
        mesh_row(cells, axis, f - 3),
        mesh_row(cells, axis, f - 2),
        mesh_row(cells, axis, f - 1),
        mesh_row(cells, axis, f),
        mesh_row(cells, axis, f + 1),
        mesh_row(cells, axis, f + 2),
    )


# ---------------------------------------------------------------------------------------------------------------------
# entries
# ---------------------------------------------------------------------------------------------------------------------


@jit
def moving(x, flush):  # type: ignore[no-untyped-def]
    """The density that moves: that of a cell, or zero where it is below `flush` in absolute value."""
    return 0.0 if abs(x) < flush else x


@jit
def copy(source, n, flush, target):  # type: ignore[no-untyped-def]
    """Copy `n` entries, of a density those that move."""
    for j in range(n):
        put(target, j, moving(at(source, j), flush))


@jit
def prefetch(source, n):  # type: ignore[no-untyped-def]
    """Ask for a row that will be read soon: walking across rows, the processor does not foresee it."""
    for j in range(0, n, LINE):
        fetch(source, j)


@jit
def fill(value, n, target):  # type: ignore[no-untyped-def]
    """Set `n` entries to a value."""
    for j in range(n):
        put(target, j, value)


@jit
def add_term(term, n, total):  # type: ignore[no-untyped-def]
    """Add `n` entries of a term to those of a total."""
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
def gather(flush, source, axis, block, buffer):  # type: ignore[no-untyped-def]
    """Copy the rows of a block of whole lines into the buffer, ghosts included; of a density what moves."""
    n, w, r0, count = axis.rows, block.width, block.first, block.rows
    low = larger(0, r0)
    high = smaller(n, r0 + count)
    for b in range(block.batch):
        line = shift(source, (block.line + b) * n * w)
        tile = shift(buffer, b * count * w)
        copy(shift(line, low * w), (high - low) * w, flush, shift(tile, (low - r0) * w))
        for k in range(count - (high - low)):
            q = k if k < low - r0 else k + (high - low)
            s, t = ghost_row(r0 + q, n, axis.periodic) * w, q * w
            if w == 1:  # no loop over one
                put(tile, t, moving(at(line, s), flush))
            else:
                copy(shift(line, s), w, flush, shift(tile, t))


@jit
def scale(axis, block, v):  # type: ignore[no-untyped-def]
    """Multiply the velocities of a block of faces by their rates g."""
    r0, count, w = block.first, block.rows, block.width
    low = larger(0, r0)
    high = smaller(axis.rows + (0 if axis.periodic else 1), r0 + count)
    flat = axis.face_stride == w  # the faces of the block follow each other as in the buffer
    for b in range(block.batch):
        line, tile = shift(axis.rates, (block.line + b) * axis.line_stride), shift(v, b * count * w)
        if flat:
            rates = shift(line, low * w)
            _scale(rates, axis.face_stride // w, (high - low) * w, shift(tile, (low - r0) * w))
        for q in range(count):
            if not (flat and low <= r0 + q < high):
                face = _ghost_face(r0 + q, axis.rows, axis.periodic)
                rates = shift(line, face * axis.face_stride + block.column * axis.column_stride)
                _scale(rates, axis.column_stride, w, shift(tile, q * w))


@jit
def mark_truncated(axis, block, unsafe):  # type: ignore[no-untyped-def]
    """Faces whose stencil reaches across a truncation end: nothing is known about the potential there."""
    r0, count, w = block.first, block.rows, block.width
    lower = smaller(count, 3 - r0) if axis.lower_truncated else 0
    upper = larger(0, axis.rows - 2 - r0) if axis.upper_truncated else count
    for b in range(block.batch):
        line = shift(unsafe, b * count * w)
        fill(1.0, larger(0, lower) * w, line)
        fill(1.0, larger(0, count - upper) * w, shift(line, upper * w))
    return lower > 0 or upper < count


@jit
def close_walls(axis, block, weight):  # type: ignore[no-untyped-def]
    """Set the faces at both ends of a line, and beyond, to zero."""
    r0, count, w = block.first, block.rows, block.width
    for q in range(count):
        if r0 + q <= 0 or r0 + q >= axis.rows:
            for b in range(block.batch):
                fill(0.0, w, shift(weight, (b * count + q) * w))
