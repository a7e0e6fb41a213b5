"""Flux formulae of users' own, compiled: one function of numbers serves both walks through the mesh.

A formula becomes a variant of the sweeps for a structure of its own, when the first operator with it is made. What is
compiled for it is not kept in files, since nobody would notice there that the formula has changed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types
from numba.core.errors import NumbaError

from mfpde.mesh.compiled import outflow as out
from mfpde.mesh.compiled import sweep as walk
from mfpde.mesh.compiled.lines import (
    close_walls,
    fill,
    four_rows,
    mesh_row,
    row,
    row_of,
    scale,
    six_mesh_rows,
    six_ring_rows,
    six_rows,
    two_rows,
)
from mfpde.mesh.compiled.options import inlined, jit, uncached
from mfpde.support.pointers import at, put, shift

__all__ = ["MOST_GHOSTS", "Kernels", "kernels_of"]

_numbers = itertools.count()

MOST_GHOSTS = 3
"""Rows on each side of a face that a compiled formula may read."""


class Kernels(NamedTuple):
    """The sweeps for one structure.

    Attributes
    ----------
    structure : NamedTuple
        What they are told of the scheme.
    sweep, outflow : callable
        See `sweep.sweep` and `outflow.outflow`.
    """

    structure: Any
    sweep: Callable[..., Any]
    outflow: Callable[..., Any]


@functools.cache
def kernels_of(formula: Callable[..., Any], rows: int) -> Kernels:
    """The sweeps with a formula ``formula(mu, V, g, h, tau)`` of tuples of ``2 rows`` numbers around a face."""

    class Own(NamedTuple):
        """Fluxes of a formula of somebody's own; `ghost` and `reach` as in `structures.Upwind`."""

        ghost: int = rows
        reach: int = 1

    # numba takes structures whose classes have one name for each other, finds out, and looks again, slowly
    Own.__name__ = Own.__qualname__ = f"Own{next(_numbers)}"
    _register(Own, _compiled(formula, rows), rows)
    out.velocities.register(Own)(out.of_two)
    out.conductances.register(Own)(out.of_temperature)
    return Kernels(Own(), uncached(walk.sweep), uncached(out.outflow))


def _compiled(formula: Callable[..., Any], rows: int) -> Any:
    """The formula, compiled for tuples of ``2 rows`` numbers: what is wrong with it is said here."""
    made = jit(getattr(formula, "py_func", formula))
    if hasattr(made, "compile"):
        around = types.UniTuple(types.float64, 2 * rows)
        try:
            made.compile((around, around, types.float64, types.float64, types.float64))
        except NumbaError as error:
            reason = next(line for line in reversed(str(error).split("\n")) if line.strip())
            name = getattr(formula, "__qualname__", repr(formula))
            raise TypeError(
                f"{name} cannot be compiled ({reason.strip()}); with compiled = False it runs in NumPy"
            ) from error
    return made


@inlined
def _two(rows, j):  # type: ignore[no-untyped-def]
    return at(rows[0], j), at(rows[1], j)


@inlined
def _four(rows, j):  # type: ignore[no-untyped-def]
    return at(rows[0], j), at(rows[1], j), at(rows[2], j), at(rows[3], j)


@inlined
def _six(rows, j):  # type: ignore[no-untyped-def]
    return at(rows[0], j), at(rows[1], j), at(rows[2], j), at(rows[3], j), at(rows[4], j), at(rows[5], j)


@inlined
def _two_of_ring(ring, f):  # type: ignore[no-untyped-def]
    return row(ring, f - 1), row(ring, f)


@inlined
def _four_of_ring(ring, f):  # type: ignore[no-untyped-def]
    return row(ring, f - 2), row(ring, f - 1), row(ring, f), row(ring, f + 1)


@inlined
def _two_of_mesh(cells, axis, f):  # type: ignore[no-untyped-def]
    return mesh_row(cells, axis, f - 1), mesh_row(cells, axis, f)


@inlined
def _four_of_mesh(cells, axis, f):  # type: ignore[no-untyped-def]
    return (
        mesh_row(cells, axis, f - 2),
        mesh_row(cells, axis, f - 1),
        mesh_row(cells, axis, f),
        mesh_row(cells, axis, f + 1),
    )


_ROWS = {
    1: (_two, two_rows, _two_of_ring, _two_of_mesh),
    2: (_four, four_rows, _four_of_ring, _four_of_mesh),
    3: (_six, six_rows, six_ring_rows, six_mesh_rows),
}
"""By ghost rows: the numbers of an entry, and the rows around a face of a buffer, a ring, the mesh."""


def _register(structure: type, formula: Any, ghost: int) -> None:
    """Make the two walks know a structure."""
    numbers, of_buffer, of_ring, of_mesh = _ROWS[ghost]
    take_row, write_row, take_tile, write_tile = walk.take_row, walk.write_row, walk.take_tile, walk.write_tile

    @inlined
    def fluxes(heat, axis, block, cells, potential, buffers, flux):  # type: ignore[no-untyped-def]
        """The formula on the faces of a block: its flux buffer from the beginning, walls included."""
        tau, target = 0.0, shift(flux, block.start)
        if heat is not None:
            tau = heat.temperature
        if axis.scaled:
            fill(1.0, block.batch * block.rows * block.width, buffers.v)
            scale(axis, block, buffers.v)
            g = shift(buffers.v, block.start)
            for j in range(block.size):
                put(target, j, formula(numbers(cells, j), numbers(potential, j), at(g, j), axis.spacing, tau))
        else:
            rate = -axis.speed * axis.spacing
            for j in range(block.size):
                put(target, j, formula(numbers(cells, j), numbers(potential, j), rate, axis.spacing, tau))
        if not axis.periodic:
            close_walls(axis, block, flux)

    def strip(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
        here = shift(task.potential, block.line * axis.rows * axis.inner + block.column)
        for r in range(block.first - ghost, block.first + block.rows + ghost):
            take_row(axis, block, task, ghost - 1, r, row(buffers.density, r))
            f = r - ghost + 1
            if f >= block.first:
                cells, potential = of_ring(buffers.density, f), of_mesh(here, axis, f)
                fluxes(heat, axis, row_of(block, f), cells, potential, buffers, row(buffers.flux, f))
                write_row(axis, block, task, buffers.flux, f)

    def tile(scheme, heat, axis, block, task, buffers):  # type: ignore[no-untyped-def]
        faces = take_tile(axis, block, task, ghost, buffers)
        w = faces.width
        cells, potential = of_buffer(buffers.density, w), of_buffer(buffers.potential, w)
        fluxes(heat, axis, faces, cells, potential, buffers, buffers.flux)
        write_tile(axis, block, task, ghost, buffers.flux)

    walk.strip.register(structure)(strip)
    walk.tile.register(structure)(tile)
