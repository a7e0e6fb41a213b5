"""The rate of change that transport along the axes makes: the two walks through the mesh."""

from __future__ import annotations

import numpy as np

from mfpde.mesh.compiled.faces import correct, difference, guard, half_slopes, largest_entry, line_muscl, pass_muscl
from mfpde.mesh.compiled.lines import (
    axis_of,
    band_of,
    buffers_of,
    copy,
    five_rows,
    four_rows,
    gather,
    inside,
    mesh_row,
    row,
    row_of,
    shape,
    six_mesh_rows,
    six_ring_rows,
    six_rows,
    with_ghosts,
)
from mfpde.mesh.compiled.options import AHEAD, PIECE, SHORT, by_structure, inlined, kernel
from mfpde.mesh.compiled.stencils import ask, limited, low_order, muscl_flux, points, two_cell_flux
from mfpde.mesh.compiled.structures import (
    VAN_LEER,
    Ahead,
    Block,
    Bound,
    Fitted,
    Mesh,
    Muscl,
    MusclRows,
    Sides,
    Task,
    Upwind,
    Weno,
    WenoRows,
)
from mfpde.mesh.constants import FLUSH
from mfpde.support.pointers import larger, pointer, shift, smaller

__all__ = ["strip", "sweep", "take_row", "take_tile", "tile", "write_row", "write_tile"]


# ---------------------------------------------------------------------------------------------------------------------
# by rows
# ---------------------------------------------------------------------------------------------------------------------


@by_structure
def strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """Fluxes of the rows and columns of a block of one line, or their divergence."""


@strip.register(Upwind, Fitted)
def _two_cell_strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    for f in range(block.first - 1, block.first + block.rows + 1):
        take_row(axis, block, task, 0, f, row(buffers.density, f))
        if f >= block.first:
            sides = _row_sides(axis, block, task, buffers, f)
            two_cell_flux(scheme, heat, axis, row_of(block, f), sides, buffers, row(buffers.flux, f))
            write_row(axis, block, task, buffers.flux, f)


@strip.register(Muscl)
def _muscl_strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    if heat is None and _unaided(scheme, axis, task):
        _van_leer_strip(scheme, axis, block, task, buffers)
        return
    density, slope = buffers.density, buffers.slope
    for r in range(block.first - 2, block.first + block.rows + 2):
        take_row(axis, block, task, 1, r, row(density, r))
        if r >= block.first:
            before, here, after = row(density, r - 2), row(density, r - 1), row(density, r)
            half_slopes(before, here, after, block.width, scheme.limiter, row(slope, r - 1))
        f = r - 1
        if f >= block.first:
            sides = _row_sides(axis, block, task, buffers, f)
            muscl_flux(heat, axis, row_of(block, f), sides, buffers, row(buffers.flux, f))
            write_row(axis, block, task, buffers.flux, f)


@inlined
def _row_sides(axis, block, task, buffers, f):  # type: ignore[no-untyped-def]
    """What lies on both sides of the faces of row `f`."""
    here = shift(task.potential, block.line * axis.rows * axis.inner + block.column)
    return Sides(
        row(buffers.density, f - 1),
        row(buffers.density, f),
        mesh_row(here, axis, f - 1),
        mesh_row(here, axis, f),
        row(buffers.slope, f - 1),
        row(buffers.slope, f),
    )


@inlined
def take_row(axis, block, task, lag, r, target):  # type: ignore[no-untyped-def]
    """Copy the density of row `r` into a row of a ring, asking for rows to come; faces are `lag` rows behind."""
    inner, w = axis.inner, block.width
    corner = block.line * axis.rows * inner + block.column
    ahead = _rows_ahead(axis, block, task, lag, r, 0)
    source = mesh_row(shift(task.mu, corner), axis, r)
    for d in range(0, w, PIECE):
        k = smaller(PIECE, w - d)
        ask(ahead, d, k)
        copy(shift(source, d), k, FLUSH, shift(target, d))


@inlined
def _rows_ahead(axis, block, task, lag, r, deep):  # type: ignore[no-untyped-def]
    """What is read `AHEAD` rows on, where faces are `lag` rows behind, and the potential `deep` rows before them."""
    last = block.first + block.rows + lag
    s = (block.line * axis.rows + r + AHEAD) * axis.inner + block.column
    return Ahead(
        r + AHEAD <= last and r + AHEAD < axis.rows,
        task.dt > 0.0,
        shift(task.mu, s),
        shift(task.potential, s - (lag - deep) * axis.inner),
        shift(task.speeds, s - lag * axis.inner),
        shift(task.out, s - (lag + 1) * axis.inner),
    )


@inlined
def write_row(axis, block, task, flux, f):  # type: ignore[no-untyped-def]
    """Write the fluxes through the faces of row `f`, or the divergence in the row before them."""
    n, inner, w, through = axis.rows, axis.inner, block.width, row(flux, f)
    if task.to_faces:
        s = axis.face_offset + (block.line * (n + 1) + f) * inner + block.column
        if f < block.first + block.rows or f == n:
            copy(through, w, 0.0, shift(task.out, s))
    elif f > block.first:
        s = (block.line * n + f - 1) * inner + block.column
        difference(row(flux, f - 1), through, w, axis.inverse_h, task.add, shift(task.out, s))


@inlined
def _unaided(scheme, axis, task):  # type: ignore[no-untyped-def]
    """Whether the passes that do all of van Leer's `Muscl` at once will do, which know neither rates nor fluxes."""
    return scheme.limiter == VAN_LEER and not axis.scaled and not task.to_faces


@inlined
def _van_leer_strip(scheme, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """Divergence for van Leer, with rates of one and no diffusion."""
    low, high, inner, w = block.first, block.first + block.rows, axis.inner, block.width
    corner = block.line * axis.rows * inner + block.column
    values, here, target = shift(task.mu, corner), shift(task.potential, corner), shift(task.out, corner)
    density, slope, flux = buffers.density, buffers.slope, buffers.flux
    for r in range(low - 2, low + 1):
        copy(mesh_row(values, axis, r), w, FLUSH, row(density, r & 3))
    u0, u1, u2 = row(density, (low - 2) & 3), row(density, (low - 1) & 3), row(density, low & 3)
    half_slopes(u0, u1, u2, w, scheme.limiter, row(slope, (low - 1) & 1))
    for f in range(low, high + 1):
        divergence = buffers.v  # of the row before the first one, which nobody reads
        if f > low:
            divergence = shift(target, (f - 1) * inner)
        # four rows of a ring, or two, leave more of the second cache
        rows = MusclRows(
            row(density, (f - 1) & 3),
            row(density, f & 3),
            mesh_row(values, axis, f + 1),
            mesh_row(here, axis, f - 1),
            mesh_row(here, axis, f),
            row(slope, (f - 1) & 1),
            row(flux, (f - 1) & 1),
            row(density, (f + 1) & 3),
            row(slope, f & 1),
            row(flux, f & 1),
            divergence,
        )
        s = (f + AHEAD) * inner
        ahead = Ahead(
            f + AHEAD <= high,
            False,
            shift(values, s + inner),
            shift(here, s),
            here,
            shift(target, s - inner),
        )
        for c in range(0, w, PIECE):
            k = smaller(PIECE, w - c)
            ask(ahead, c, k)
            pass_muscl(rows, c, k, axis, task.add)


@strip.register(Weno)
def _weno_strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    low, high = block.first, block.first + block.rows
    corner = block.line * axis.rows * axis.inner + block.column
    values = shift(task.mu, corner)
    alarm = low - 9  # the last row with a face that asks for the fallback
    most = np.inf  # the largest outflow speed of the last row
    for r in range(low - 5, high + 5):
        copy(mesh_row(values, axis, r), block.width, FLUSH, row(buffers.density, r))
        if r >= low and _points_row(scheme, heat, axis, block, task, buffers, r - 2):
            alarm = r - 2
        f = r - 4
        if f >= low:
            most = _weno_row(heat, axis, block, task, buffers, f, alarm >= f - 2, most)
            write_row(axis, block, task, buffers.flux, f)


@inlined
def _points_row(scheme, heat, axis, block, task, buffers, f):  # type: ignore[no-untyped-def]
    """Fluxes at the middle of the faces of row `f`; whether one of them asks for the fallback."""
    here = shift(task.potential, block.line * axis.rows * axis.inner + block.column)
    rows = WenoRows(row(buffers.v, f), row(buffers.points, f), row(buffers.unsafe, f), buffers.spread)
    cells, potential = six_ring_rows(buffers.density, f), six_mesh_rows(here, axis, f)
    ahead = _rows_ahead(axis, block, task, 4, f + 2, 4)
    alarm, truncated = points(scheme, heat, axis, row_of(block, f), cells, potential, rows, ahead)
    return alarm or truncated


@inlined
def _weno_row(heat, axis, block, task, buffers, f, alarm, behind):  # type: ignore[no-untyped-def]
    """The fluxes of row `f`; the largest outflow speed of the cells there, where `behind` is that of the row before."""
    n, face = block.width, row_of(block, f)
    corner = block.line * axis.rows * axis.inner + block.column
    sides = _row_sides(axis, block, task, buffers, f)
    middle, unsafe, flux = buffers.points, buffers.unsafe, row(buffers.flux, f)
    correct((row(middle, f - 2), row(middle, f - 1), row(middle, f), row(middle, f + 1), row(middle, f + 2)), n, flux)
    if alarm:
        low_order(heat, axis, face, sides, buffers)
        cells = row(buffers.density, f - 2), sides.left, sides.right, row(buffers.density, f + 1)
        shares = row(unsafe, f - 2), row(unsafe, f - 1), row(unsafe, f), row(unsafe, f + 1), row(unsafe, f + 2)
        guard(heat, cells, buffers.low, buffers.spread, shares, n, flux)
    most = behind
    if task.dt > 0.0:
        speeds = shift(task.speeds, corner)
        near, far = mesh_row(speeds, axis, f - 1), mesh_row(speeds, axis, f)
        most = largest_entry(far, n)
        bound = Bound(near, far, max(most, behind), task.dt, task.room)
        limited(heat, axis, face, sides, bound, row(buffers.v, f), buffers.spread, flux)
    return most


# ---------------------------------------------------------------------------------------------------------------------
# by tiles
# ---------------------------------------------------------------------------------------------------------------------


@by_structure
def tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """Fluxes of a block of whole rows, or their divergence."""


@tile.register(Upwind, Fitted)
def _two_cell_tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    faces = take_tile(axis, block, task, scheme.ghost, buffers)
    two_cell_flux(scheme, heat, axis, faces, _tile_sides(faces, buffers), buffers, shift(buffers.flux, faces.start))
    write_tile(axis, block, task, scheme.ghost, buffers.flux)


@tile.register(Muscl)
def _muscl_tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    short = axis.inner > 1 or block.rows < SHORT
    if heat is None and not short and _unaided(scheme, axis, task):
        for k in range(block.batch):
            s = (block.line + k) * axis.rows
            u, p, cells = shift(task.mu, s), shift(task.potential, s), shift(task.out, s)
            line_muscl(u, p, axis, block.first, block.first + block.rows, task.add, cells)
        return
    faces = take_tile(axis, block, task, scheme.ghost, buffers)
    w, density = faces.width, buffers.density
    n = (faces.batch * faces.rows - 2) * w
    half_slopes(density, shift(density, w), shift(density, 2 * w), n, scheme.limiter, shift(buffers.slope, w))
    muscl_flux(heat, axis, faces, _tile_sides(faces, buffers), buffers, shift(buffers.flux, faces.start))
    write_tile(axis, block, task, scheme.ghost, buffers.flux)


@inlined
def take_tile(axis, block, task, ghost, buffers):  # type: ignore[no-untyped-def]
    """Copy density and potential of a block and `ghost` more rows at each end into buffers; that larger block."""
    faces = with_ghosts(block, ghost)
    gather(FLUSH, task.mu, axis, faces, buffers.density)
    gather(0.0, task.potential, axis, faces, buffers.potential)
    return faces


@inlined
def _tile_sides(faces, buffers):  # type: ignore[no-untyped-def]
    """What lies on both sides of the faces of a tile."""
    before, here = faces.start - faces.width, faces.start
    return Sides(
        shift(buffers.density, before),
        shift(buffers.density, here),
        shift(buffers.potential, before),
        shift(buffers.potential, here),
        shift(buffers.slope, before),
        shift(buffers.slope, here),
    )


@tile.register(Weno)
def _weno_tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    faces = take_tile(axis, block, task, scheme.ghost, buffers)
    w, t = faces.width, faces.start
    m = faces.batch * faces.rows * w
    density, potential, flux = buffers.density, buffers.potential, shift(buffers.flux, t)
    wide = inside(faces, 3 * w, m - 5 * w)
    rows = WenoRows(buffers.v, buffers.points, buffers.unsafe, buffers.spread)
    around, driving = six_rows(density, w), six_rows(potential, w)
    alarm, truncated = points(scheme, heat, axis, wide, around, driving, rows, None)
    correct(five_rows(shift(buffers.points, t - 2 * w), w), faces.size, flux)
    sides = _tile_sides(faces, buffers)
    if alarm or truncated:
        low_order(heat, axis, faces, sides, buffers)
        _guard_tile(heat, axis, faces, alarm, buffers)
    if task.dt > 0.0:
        gather(0.0, task.speeds, axis, faces, potential)
        bound = Bound(sides.lower, sides.upper, largest_entry(potential, m), task.dt, task.room)
        limited(heat, axis, faces, sides, bound, buffers.v, buffers.spread, flux)
    write_tile(axis, block, task, scheme.ghost, buffers.flux)


@inlined
def _guard_tile(heat, axis, faces, alarm, buffers):  # type: ignore[no-untyped-def]
    """Blend in the fallback where faces ask for it.

    Without `alarm` only the faces within two of one near a truncation end do: where one line ends and the next begins.
    """
    w, count, batch = faces.width, faces.rows, faces.batch
    n, r = axis.rows, faces.first
    for k in range(1 if alarm else batch + 1):
        begin, end = 5, batch * count - 4
        if not alarm and k > 0:
            begin = larger(begin, (k - 1) * count + n - 4 - r)
        if not alarm and k < batch:
            end = smaller(end, k * count + 5 - r)
        q = begin * w
        cells = four_rows(shift(buffers.density, q - 2 * w), w)
        shares = five_rows(shift(buffers.unsafe, q - 2 * w), w)
        v, spread, flux = shift(buffers.low, q), shift(buffers.spread, q), shift(buffers.flux, q)
        guard(heat, cells, v, spread, shares, (end - begin) * w, flux)


@inlined
def write_tile(axis, block, task, ghost, flux):  # type: ignore[no-untyped-def]
    """Write the fluxes of a block, whose buffer has `ghost` rows more at each end, or the divergence in its cells."""
    n, w, r, rows = axis.rows, block.width, block.first, block.rows
    for k in range(block.batch):
        left = shift(flux, (k * (rows + 2 * ghost) + ghost) * w)
        if task.to_faces:
            s = axis.face_offset + ((block.line + k) * (n + 1) + r) * w
            copy(left, (rows + (1 if r + rows == n else 0)) * w, 0.0, shift(task.out, s))
        else:
            s = ((block.line + k) * n + r) * w
            difference(left, shift(left, w), rows * w, axis.inverse_h, task.add, shift(task.out, s))


# ---------------------------------------------------------------------------------------------------------------------
# all axes
# ---------------------------------------------------------------------------------------------------------------------


@inlined
def _strips(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
    """The strips of columns of a line, as wide as `block` is."""
    for c in range(0, axis.inner, block.width):
        w = smaller(block.width, axis.inner - c)
        strip(scheme, heat, axis, Block(block.line, 1, block.first, block.rows, c, w, 0, w), task, buffers)


@kernel
def sweep(  # type: ignore[no-untyped-def]
    scheme,
    heat,
    wide,
    ints,
    floats,
    metric,
    band,
    mu,
    potential,
    speeds,
    dt,
    to_faces,
    out,
    work,
    start,
    stop,
):
    """Fluxes and their divergence on bands ``start <= j < stop`` of the first axis, all axes.

    The signature is wide because structures take their time on the way from Python, see `structures`.

    Parameters
    ----------
    scheme : Upwind, Muscl, Weno or Fitted
        How fluxes are made.
    heat : Heat or None
        None at temperature 0.
    wide : True or None
        None where no axis is swept by rows: that half of the code is not compiled then, which halves the time.
    ints, floats, metric, band
        A `Mesh`.
    mu, potential : (cells,) array
        The density, and the potential that drives the drift.
    speeds : (cells,) array
        The outflow speeds, where ``dt > 0``.
    dt : float
        The step for which the limiter of `Weno` keeps the density positive; 0 without the limiter.
    to_faces : bool
        Whether the fluxes are asked for, as the concatenation of the face arrays, or their divergence on the cells.
    out : (n,) array
        The answer.
    work : (BUFFERS * BUFFER,) array
        Scratch space of this call alone.
    start, stop : int
        Bands, of `band` rows.
    """
    mesh, dimension, buffers = Mesh(ints, floats, metric, band), ints.shape[0], buffers_of(pointer(work, 0))
    m, p, s, q = pointer(mu, 0), pointer(potential, 0), pointer(speeds, 0), pointer(out, 0)
    for j in range(start, stop):
        for i in range(dimension):
            axis = axis_of(mesh, i)
            room = axis.spacing / (2.0 * dimension * dt) if dt > 0.0 else 0.0
            task = Task(m, p, s, q, dt, room, i > 0, to_faces)
            o0, o1, i0, i1 = band_of(mesh, i, j)
            width, depth, batch = shape(o1 - o0, i1 - i0, axis.inner, scheme.ghost)
            for o in range(o0, o1, batch):
                if wide is not None and depth == 0:
                    _strips(scheme, heat, axis, Block(o, 1, i0, i1 - i0, 0, width, 0, width), task, buffers)
                else:
                    for r in range(i0, i1, depth):
                        rows, lines = smaller(depth, i1 - r), smaller(batch, o1 - o)
                        block = Block(o, lines, r, rows, 0, width, 0, lines * rows * width)
                        tile(scheme, heat, axis, block, task, buffers)
