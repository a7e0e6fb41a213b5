"""The stencils of the schemes on the faces of a block: one for both walks through the mesh.

A block of faces is the one row in hand of a strip, or all rows of a tile: buffers are passed from their beginning, and
what lies around the faces by pointers to the entries that belong to the first face worked on.
"""

from __future__ import annotations

from mfpde.mesh.compiled.faces import (
    conductance,
    flux_driven,
    flux_muscl,
    flux_points,
    flux_upwind,
    flux_weighted,
    limit,
    shade,
    velocity_six,
    velocity_two,
)
from mfpde.mesh.compiled.lines import add_term, fill, mark_truncated, prefetch, scale
from mfpde.mesh.compiled.options import PIECE, by_structure, inlined, jit
from mfpde.mesh.compiled.structures import Fitted, Upwind
from mfpde.support.pointers import shift, smaller

__all__ = ["ask", "limited", "low_order", "muscl_flux", "points", "two_cell_flux"]


@jit
def ask(ahead, d, n):  # type: ignore[no-untyped-def]
    """Ask for entries ``d .. d + n`` of the rows that will be read soon."""
    if ahead.wanted:
        prefetch(shift(ahead.mu, d), n)
        prefetch(shift(ahead.potential, d), n)
        prefetch(shift(ahead.out, d), n)
        if ahead.limited:
            prefetch(shift(ahead.speeds, d), n)


# ---------------------------------------------------------------------------------------------------------------------
# `Upwind`, `Fitted` and `Muscl`
# ---------------------------------------------------------------------------------------------------------------------


@inlined
def _drift(axis, block, sides, v):  # type: ignore[no-untyped-def]
    """The velocities ``-g dV/h`` from two points."""
    velocity_two(sides.lower, sides.upper, block.size, axis.speed, shift(v, block.start))
    if axis.scaled:
        scale(axis, block, v)


@inlined
def _diffusion(heat, axis, block, sides, spread):  # type: ignore[no-untyped-def]
    """The diffusive fluxes ``-tau g d(mu)/h`` from two points."""
    velocity_two(sides.left, sides.right, block.size, heat.temperature * axis.speed, shift(spread, block.start))
    if axis.scaled:
        scale(axis, block, spread)


@by_structure
def two_cell_flux(scheme, heat, axis, block, sides, buffers, flux):  # type: ignore[no-untyped-def]
    """Fluxes from the two cells beside a face."""


@two_cell_flux.register(Upwind)
def _upwind_flux(scheme, heat, axis, block, sides, buffers, flux):  # type: ignore[no-untyped-def]
    _drift(axis, block, sides, buffers.v)
    flux_upwind(sides.left, sides.right, shift(buffers.v, block.start), block.size, flux)
    if heat is not None:
        _diffusion(heat, axis, block, sides, buffers.spread)
        add_term(shift(buffers.spread, block.start), block.size, flux)


@two_cell_flux.register(Fitted)
def _fitted_flux(scheme, heat, axis, block, sides, buffers, flux):  # type: ignore[no-untyped-def]
    # upwind fluxes plus a conductance that depends on the drift
    n, v, spread = block.size, shift(buffers.v, block.start), shift(buffers.spread, block.start)
    _drift(axis, block, sides, buffers.v)
    if heat is not None:
        conductance(sides.lower, sides.upper, n, -heat.temperature * axis.speed, heat.inverse, spread)
        if axis.scaled:
            scale(axis, block, buffers.spread)
        flux_weighted(sides.left, sides.right, v, spread, n, flux)
    else:
        flux_upwind(sides.left, sides.right, v, n, flux)


@inlined
def muscl_flux(heat, axis, block, sides, buffers, flux):  # type: ignore[no-untyped-def]
    """The fluxes of `Muscl` from half the slopes on both sides, with two-point diffusion."""
    if heat is not None or axis.scaled:
        _drift(axis, block, sides, buffers.v)
        flux_muscl(sides, shift(buffers.v, block.start), block.size, flux)
        if heat is not None:
            _diffusion(heat, axis, block, sides, buffers.spread)
            add_term(shift(buffers.spread, block.start), block.size, flux)
    else:
        flux_driven(sides, block.size, axis.speed, flux)


# ---------------------------------------------------------------------------------------------------------------------
# `Weno`
# ---------------------------------------------------------------------------------------------------------------------


@inlined
def points(scheme, heat, axis, block, cells, potential, rows, ahead):  # type: ignore[no-untyped-def]
    """Velocities and fluxes at the middle of faces, from six rows of density and potential around each.

    Where the stencil spans too much, `rows.unsafe` says how much of the fallback the face asks for. The answers are
    whether there was such a face, and whether there was one near a truncation end. `ahead` is None where nothing is to
    be asked for: a tile.
    """
    n, v, flux = block.size, shift(rows.v, block.start), shift(rows.points, block.start)
    unsafe, spread = shift(rows.unsafe, block.start), shift(rows.spread, block.start)
    velocity_six(potential, n, axis.speed, v)
    if axis.scaled:
        scale(axis, block, rows.v)
    alarm, piece = False, n
    if ahead is not None:
        piece = PIECE
    for d in range(0, n, piece):
        k = smaller(piece, n - d)
        if ahead is not None:
            ask(ahead, d, k)
        if flux_points(cells, v, d, k, scheme.ratio, flux, unsafe):
            alarm = True
            shade(cells, d, k, scheme.ratio, unsafe)
    truncated = False
    if axis.lower_truncated or axis.upper_truncated:
        truncated = mark_truncated(axis, block, rows.unsafe)
    if heat is not None:
        velocity_six(cells, n, heat.temperature * axis.speed, spread)
        if axis.scaled:
            scale(axis, block, rows.spread)
        add_term(spread, n, flux)
    return alarm, truncated


@inlined
def low_order(heat, axis, block, sides, buffers):  # type: ignore[no-untyped-def]
    """What `faces.guard` blends in is made of: two-point velocities, in `low`, and diffusive fluxes, in `spread`."""
    _drift(axis, block, sides, buffers.low)
    if heat is not None:
        _diffusion(heat, axis, block, sides, buffers.spread)


@inlined
def limited(heat, axis, block, sides, bound, v, spread, flux):  # type: ignore[no-untyped-def]
    """Cut the fluxes, see `faces.limit`; `spread` is free for the conductances."""
    diffusive = False
    if heat is not None:
        diffusive = True
        fill(-heat.share * heat.temperature * axis.speed, block.batch * block.rows * block.width, spread)
        if axis.scaled:
            scale(axis, block, spread)
    limit(sides, bound, shift(v, block.start), shift(spread, block.start), diffusive, block.size, flux)
