"""What the compiled sweeps are told, as structures with names: schemes, temperature, mesh, what is read and written.

No numba here: the operator makes schemes, meshes and `Heat`, compiled code the others. The class of a structure is part
of its type: functions are chosen by it when they are compiled (`compiling.by_class`). To hand one from Python to
compiled code takes 0.6 microseconds, a tenth of a sweep over 200 cells: kernels take the scheme and the temperature as
structures, and all else piece by piece. A pointer is that of `mfpde.support.pointers`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array

__all__ = [
    "FACE_OFFSET",
    "INNER",
    "INVERSE_H",
    "LOWER_TRUNCATED",
    "METRIC_FACE",
    "METRIC_INNER",
    "METRIC_OFFSET",
    "METRIC_OUTER",
    "OUTER",
    "PERIODIC",
    "ROWS",
    "SPACING",
    "SPEED",
    "UPPER_TRUNCATED",
    "Ahead",
    "Axis",
    "Block",
    "Bound",
    "Buffers",
    "Fitted",
    "Heat",
    "Mesh",
    "Muscl",
    "MusclRows",
    "Sides",
    "Task",
    "Upwind",
    "Weno",
    "WenoRows",
]

MINMOD, VAN_LEER, MC = 0, 1, 2

# columns of `Mesh.ints` and of `Mesh.floats`
OUTER, ROWS, INNER, PERIODIC, LOWER_TRUNCATED, UPPER_TRUNCATED = 0, 1, 2, 3, 4, 5
METRIC_OFFSET, METRIC_OUTER, METRIC_FACE, METRIC_INNER, FACE_OFFSET = 6, 7, 8, 9, 10
INVERSE_H, SPACING, SPEED = 0, 1, 2

# columns of the codes of an energy, see `potential` and `mfpde.mesh.packing`
KIND, OFFSET, GROUPS, FULL, RESPONSES, PLACES, MATRIX, SAMPLES, OUTPUTS = 0, 1, 2, 3, 4, 5, 6, 7, 8
LOSS, WEIGHTS, TARGETS, DELTA, CONSTANT, ROOM, FIRST_TABLE = 9, 10, 11, 12, 13, 14, 15
MOST_GROUPS = 4
WIDTH_OF_CODE = FIRST_TABLE + 3 * MOST_GROUPS
BY_TABLES, BY_MATRIX, BY_VALUES = 0, 1, 2
SQUARED, LOGISTIC, HUBER = 0, 1, 2


# ---------------------------------------------------------------------------------------------------------------------
# from Python
# ---------------------------------------------------------------------------------------------------------------------


class Upwind(NamedTuple):
    """First-order upwind fluxes.

    Attributes
    ----------
    ghost : int
        Rows beyond an end of a line that its fluxes read.
    reach : int
        Rows on each side of a face that its velocity reads.
    """

    ghost: int = 1
    reach: int = 1


class Fitted(NamedTuple):
    """Scharfetter-Gummel fluxes, upwind ones at temperature 0; `ghost` and `reach` as in `Upwind`."""

    ghost: int = 1
    reach: int = 1


class Muscl(NamedTuple):
    """Upwind fluxes of limited linear reconstructions.

    Attributes
    ----------
    limiter : int
        `MINMOD`, `VAN_LEER` or `MC`.
    ghost, reach : int
        As in `Upwind`.
    """

    limiter: int
    ghost: int = 2
    reach: int = 1


class Weno(NamedTuple):
    """Fluxes of fifth-order WENO interpolation, which fall back to van Leer's `Muscl` in tails.

    Attributes
    ----------
    ratio : float
        max/min over a stencil from which the fluxes fall back.
    ghost, reach : int
        As in `Upwind`.
    """

    ratio: float
    ghost: int = 5
    reach: int = 3


class Heat(NamedTuple):
    """What diffusion needs to know; at temperature 0 there is None of it, and no code for it.

    Attributes
    ----------
    temperature, inverse : float
        ``tau > 0`` and ``1/tau``, finite.
    share : float
        The scheme's `diffusion_share`: of the conductance ``tau g / h`` of a face, what counts as outflow.
    """

    temperature: float
    inverse: float
    share: float


class Mesh(NamedTuple):
    """The axes of a mesh.

    Attributes
    ----------
    ints : (d, 11) int array
        Of every axis the lines before it (`OUTER`), its cells (`ROWS`), the entries between neighbours along it
        (`INNER`), whether it is periodic and whether its ends are truncations; where its rates begin in `metric`
        (`METRIC_OFFSET`, -1 where they are constant) and how far apart they are from line to line, from face to face
        and from column to column; where its faces begin in an array of all faces (`FACE_OFFSET`).
    floats : (d, 3) array
        ``1/h``, ``h`` and ``-g/h``, or ``-1/h`` where the rate g stands in `metric`.
    metric : (n,) array
        The rates g of all axes on whose faces they differ.
    band : int
        Rows of the first axis that are swept along all axes before the next ones.
    """

    ints: NDArray[np.int64]
    floats: Array
    metric: Array
    band: int


# ---------------------------------------------------------------------------------------------------------------------
# within compiled code
# ---------------------------------------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """One axis of a `Mesh`.

    Attributes
    ----------
    outer, rows, inner : int
        The mesh is seen as ``(outer, rows, inner)``: lines before, cells along, and entries between neighbours.
    periodic, lower_truncated, upper_truncated : int
        0 or 1.
    inverse_h, spacing, speed : float
        ``1/h``, ``h`` and ``-g/h``, or ``-1/h`` where the rates are `scaled`.
    scaled : bool
        Whether the rates differ from face to face.
    rates : pointer
        To the rate of the first face.
    line_stride, face_stride, column_stride : int
        Entries of `rates` from line to line, from face to face and from column to column.
    face_offset : int
        Where the faces begin in an array of all faces.
    """

    outer: int
    rows: int
    inner: int
    periodic: int
    lower_truncated: int
    upper_truncated: int
    inverse_h: float
    spacing: float
    speed: float
    scaled: bool
    rates: Any
    line_stride: int
    face_stride: int
    column_stride: int
    face_offset: int


class Task(NamedTuple):
    """What is read and written along one axis.

    Attributes
    ----------
    mu, potential, speeds, out : pointer
        To the first cell, or in `out` to the first face.
    dt, room : float
        The step for which the limiter of `Weno` keeps the density positive, 0 without the limiter, and
        ``h / (2 d dt)``, see `faces.limit`.
    add : bool
        Whether the divergence comes on top of that of other axes.
    to_faces : bool
        Whether the fluxes are asked for, as the concatenation of the face arrays, or their divergence on the cells.
    """

    mu: Any
    potential: Any
    speeds: Any
    out: Any
    dt: float
    room: float
    add: bool
    to_faces: bool


class Block(NamedTuple):
    """Rows of neighbouring lines: cells, or the faces on the left of them.

    Attributes
    ----------
    line, batch : int
        The first line, and how many.
    first, rows : int
        The first row, which may be a ghost, and how many.
    column, width : int
        The first column (of the `Axis.inner` ones), and how many.
    start, size : int
        Of a buffer that holds the block line by line and row by row, the entries ``start .. start + size`` are worked
        on: those whose stencils lie in the block. Entries across the seam of two lines are computed and never used.
    """

    line: int
    batch: int
    first: int
    rows: int
    column: int
    width: int
    start: int
    size: int


class Buffers(NamedTuple):
    """Pointers to scratch arrays of `options.BUFFER` entries; one that is a ring holds the last rows of a strip.

    Attributes
    ----------
    density, flux, v, slope : pointer
        The density that moves, the fluxes, the velocities, and half the limited slopes.
    spread, low : pointer
        Diffusive fluxes or conductances, and velocities of the fallback.
    points, unsafe : pointer
        Fluxes at the middle of faces, and the share of the fallback that each of them asks for.
    potential : pointer
        The potential of a tile, and then its outflow speeds.
    """

    density: Any
    flux: Any
    v: Any
    slope: Any
    spread: Any
    low: Any
    points: Any
    unsafe: Any
    potential: Any


class Sides(NamedTuple):
    """Pointers to what lies on both sides of faces.

    Attributes
    ----------
    left, right : pointer
        The density.
    lower, upper : pointer
        The potential on the left and on the right.
    rise, fall : pointer
        Half the limited slopes on the left and on the right, which `Muscl` alone reads.
    """

    left: Any
    right: Any
    lower: Any
    upper: Any
    rise: Any
    fall: Any


class MusclRows(NamedTuple):
    """Pointers to the rows of one step of `faces.pass_muscl` along the axis.

    Attributes
    ----------
    left, right, source : pointer
        Densities: that move, on both sides of the face in hand, and as it stands in the row after.
    lower, upper : pointer
        The potential on both sides of the face.
    rise, before : pointer
        Half the slope of the row on the left, and the flux through the face before.
    after, fall, through, out : pointer
        Written: the density that moves in the row after, half the slope of the row on the right, the flux through the
        face, and the divergence in the row on the left.
    """

    left: Any
    right: Any
    source: Any
    lower: Any
    upper: Any
    rise: Any
    before: Any
    after: Any
    fall: Any
    through: Any
    out: Any


class WenoRows(NamedTuple):
    """Pointers to what `Weno` makes of the faces of a block: `v`, `points`, `unsafe` and `spread` as in `Buffers`."""

    v: Any
    points: Any
    unsafe: Any
    spread: Any


class Bound(NamedTuple):
    """What limits the fluxes of `Weno`, see `faces.limit`.

    Attributes
    ----------
    near, far : pointer
        The outflow speeds of the cells on the left and on the right.
    most : float
        None of these is larger.
    dt, room : float
        As in `Task`.
    """

    near: Any
    far: Any
    most: float
    dt: float
    room: float


class Ahead(NamedTuple):
    """Rows of the mesh that will be read soon, asked for a piece at a time, between pieces of computing.

    Attributes
    ----------
    wanted : bool
        Whether there is anything to ask for.
    limited : bool
        Whether `speeds` is to be asked for.
    mu, potential, speeds, out : pointer
        The rows.
    """

    wanted: bool
    limited: bool
    mu: Any
    potential: Any
    speeds: Any
    out: Any
