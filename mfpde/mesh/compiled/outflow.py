"""How fast cells are emptied, which bounds explicit steps."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.bernoulli import as_integer
from mfpde.mesh.compiled.faces import conductance, leaving, leaving_spread, velocity_six, velocity_two
from mfpde.mesh.compiled.lines import (
    axis_of,
    band_of,
    buffers_of,
    close_walls,
    fill,
    gather,
    prefetch,
    row,
    row_of,
    scale,
    shape,
    six_mesh_rows,
    six_rows,
    with_ghosts,
)
from mfpde.mesh.compiled.options import AHEAD, MAGNITUDE, PIECE, by_structure, inlined, kernel
from mfpde.mesh.compiled.structures import Ahead, Block, Fitted, Mesh, Muscl, Task, Upwind, Weno
from mfpde.support.pointers import at, pointer, shift, smaller

__all__ = ["conductances", "largest", "of_temperature", "of_two", "outflow", "velocities"]


# ---------------------------------------------------------------------------------------------------------------------
# stencils
# ---------------------------------------------------------------------------------------------------------------------


@inlined
def _ask(ahead, d, n):  # type: ignore[no-untyped-def]
    """Ask for entries ``d .. d + n`` of the rows that will be read soon."""
    if ahead.wanted:
        prefetch(shift(ahead.potential, d), n)
        prefetch(shift(ahead.out, d), n)


@by_structure
def velocities(scheme, axis, block, potential, ahead, v):  # type: ignore[no-untyped-def]
    """Velocities of faces with rates of one, from six rows of the potential around each."""


@velocities.register(Upwind, Muscl, Fitted)
def of_two(scheme, axis, block, potential, ahead, v):  # type: ignore[no-untyped-def]
    """``-g dV/h`` from the two rows beside a face."""
    velocity_two(potential[2], potential[3], block.size, axis.speed, v)


@velocities.register(Weno)
def _of_six(scheme, axis, block, potential, ahead, v):  # type: ignore[no-untyped-def]
    p0, p1, p2, p3, p4, p5 = potential
    piece = block.size
    if ahead is not None:
        piece = PIECE
    for d in range(0, block.size, piece):
        k = smaller(piece, block.size - d)
        if ahead is not None:
            _ask(ahead, d, k)
        rows = shift(p0, d), shift(p1, d), shift(p2, d), shift(p3, d), shift(p4, d), shift(p5, d)
        velocity_six(rows, k, axis.speed, shift(v, d))


@by_structure
def conductances(scheme, heat, axis, block, lower, upper, weight):  # type: ignore[no-untyped-def]
    """What diffusion lets through faces with rates of one, from the potential on both sides, times the share of it."""


@conductances.register(Upwind, Muscl, Weno)
def of_temperature(scheme, heat, axis, block, lower, upper, weight):  # type: ignore[no-untyped-def]
    """``tau g / h`` times the scheme's share of it."""
    fill(-heat.share * heat.temperature * axis.speed, block.size, weight)


@conductances.register(Fitted)
def _of_drift(scheme, heat, axis, block, lower, upper, weight):  # type: ignore[no-untyped-def]
    factor = -heat.share * heat.temperature * axis.speed
    conductance(lower, upper, block.size, factor, heat.inverse, weight)


@inlined
def _faces(scheme, heat, axis, block, potential, ahead, v, spread):  # type: ignore[no-untyped-def]
    """Velocities of the faces of a block and, with `heat`, their conductances."""
    velocities(scheme, axis, block, potential, ahead, shift(v, block.start))
    if axis.scaled:
        scale(axis, block, v)
    if heat is not None:
        conductances(scheme, heat, axis, block, potential[2], potential[3], shift(spread, block.start))
        if axis.scaled:
            scale(axis, block, spread)
        if not axis.periodic:
            close_walls(axis, block, spread)


# ---------------------------------------------------------------------------------------------------------------------
# walks
# ---------------------------------------------------------------------------------------------------------------------


@inlined
def _strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """Outflow speeds of the rows and columns of a block of one line."""
    low, high, w, inner = block.first, block.first + block.rows, block.width, axis.inner
    corner = block.line * axis.rows * inner + block.column
    here, v, spread = shift(task.potential, corner), buffers.v, buffers.spread
    for f in range(low, high + 1):
        s = corner + (f + AHEAD) * inner
        to_read = shift(task.potential, s + 2 * inner)
        ahead = Ahead(f + AHEAD <= high, False, to_read, to_read, to_read, shift(task.out, s - inner))
        around = six_mesh_rows(here, axis, f)
        _faces(scheme, heat, axis, row_of(block, f), around, ahead, row(v, f), row(spread, f))
        if f > low:
            target = shift(task.out, corner + (f - 1) * inner)
            if heat is not None:
                near, far = row(spread, f - 1), row(spread, f)
                leaving_spread(row(v, f - 1), row(v, f), near, far, w, axis.inverse_h, task.add, target)
            else:
                leaving(row(v, f - 1), row(v, f), w, axis.inverse_h, task.add, target)


@inlined
def _tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """Outflow speeds of a block of whole rows."""
    w, faces, potential = block.width, with_ghosts(block, scheme.reach), buffers.potential
    gather(0.0, task.potential, axis, faces, potential)
    around = six_rows(shift(potential, faces.start - 3 * w), w)
    _faces(scheme, heat, axis, faces, around, None, buffers.v, buffers.spread)
    for k in range(block.batch):
        t = (k * faces.rows + scheme.reach) * w
        left, right = shift(buffers.v, t), shift(buffers.v, t + w)
        target = shift(task.out, ((block.line + k) * axis.rows + block.first) * w)
        if heat is not None:
            near, far = shift(buffers.spread, t), shift(buffers.spread, t + w)
            leaving_spread(left, right, near, far, block.rows * w, axis.inverse_h, task.add, target)
        else:
            leaving(left, right, block.rows * w, axis.inverse_h, task.add, target)


@inlined
def _strips(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """The strips of columns of a line, as wide as `block` is."""
    for c in range(0, axis.inner, block.width):
        w = smaller(block.width, axis.inner - c)
        _strip(scheme, heat, axis, Block(block.line, 1, block.first, block.rows, c, w, 0, w), task, buffers)


@kernel
def outflow(scheme, heat, wide, ints, floats, metric, band, potential, out, work, start, stop):  # type: ignore[no-untyped-def]
    """``sum_axes (v^+_right + v^-_left)/h`` of the cells of bands ``start <= j < stop``.

    With `heat` the conductances of both faces, times its share, are added. The parameters are those of `sweep`, and the
    signature is wide for the same reason; `potential` is the one that drives the drift, (cells,), and `out` gets the
    speeds of the cells.
    """
    mesh, buffers = Mesh(ints, floats, metric, band), buffers_of(pointer(work, 0))
    p, q = pointer(potential, 0), pointer(out, 0)
    for j in range(start, stop):
        for i in range(ints.shape[0]):
            axis = axis_of(mesh, i)
            task = Task(p, p, p, q, 0.0, 0.0, i > 0, False)
            o0, o1, i0, i1 = band_of(mesh, i, j)
            width, depth, batch = shape(o1 - o0, i1 - i0, axis.inner, scheme.reach)
            for o in range(o0, o1, batch):
                if wide is not None and depth == 0:
                    _strips(scheme, heat, axis, Block(o, 1, i0, i1 - i0, 0, width, 0, width), task, buffers)
                else:
                    for r in range(i0, i1, depth):
                        rows, lines = smaller(depth, i1 - r), smaller(batch, o1 - o)
                        block = Block(o, lines, r, rows, 0, width, 0, lines * rows * width)
                        _tile(scheme, heat, axis, block, task, buffers)


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
