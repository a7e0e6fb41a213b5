"""Compiled line sweeps. Imported when the first sweep is made, never by ``import mfpde``.

One kernel serves every dimension and axis. An array is seen as ``(outer, n, inner)`` along the axis in hand. A pass
is a flat loop over entries whose neighbours along the axis are reached by pointers of their own, so that it vectorises
the same way whatever lies between them. There are two ways through the mesh:

- **by rows**, where `inner` is long: strips of columns are walked along the axis. The last rows of whatever is needed
  again stand in rings of `RING` rows, in the second cache; the potential is read where it is. Memory for the rows to
  come is asked for a piece at a time, between pieces of computing.
- **by tiles**, where `inner` is short: lines with their ghost rows are copied into a buffer of `TILE` entries, in
  which the neighbour along the axis is `inner` entries away. Entries across the seam of two lines are computed and
  never used. Long lines of van Leer's `Muscl` need no buffer.

Entry ``k`` of a face buffer is the face on the left of cell ``k``. Ghost rows wrap on periodic axes and mirror
at walls; every formula is written so that mirrored data give the mirrored flux bit for bit, hence the flux
through a wall is exactly zero without being told, and the face shared by two tiles has one value. That needs
IEEE arithmetic as written, without reassociation; products and sums are contracted only where the mirrored formula is
the same one. Selections are written so that a NaN stays one.

Arguments that may be None are settled when a kernel is compiled: each scheme compiles what it uses.
"""

from __future__ import annotations

from typing import Any

from mfpde.support.compiling import compiled

__all__ = [
    "AHEAD",
    "BUFFER",
    "BUFFERS",
    "EXPONENT",
    "FACE_OFFSET",
    "FLUSH",
    "INNER",
    "INVERSE_H",
    "LINE",
    "LONG",
    "LOWER_TRUNCATED",
    "MAGNITUDE",
    "MC",
    "METRIC_FACE",
    "METRIC_INNER",
    "METRIC_OFFSET",
    "METRIC_OUTER",
    "MINMOD",
    "ONE_HALF_UP",
    "ONE_UP",
    "OUTER",
    "PERIODIC",
    "PIECE",
    "RING",
    "ROWS",
    "SAFE",
    "SHORT",
    "SPACING",
    "SPEED",
    "STAGGERED_1",
    "STAGGERED_3",
    "STAGGERED_5",
    "TILE",
    "TINY",
    "UPPER_TRUNCATED",
    "VAN_LEER",
    "WIDTH",
    "contracted",
    "inlined",
    "jit",
    "kernel",
]

MINMOD, VAN_LEER, MC = 0, 1, 2

# columns of the integer and float description of an axis (see mesh/transport.py)
OUTER, ROWS, INNER, PERIODIC, LOWER_TRUNCATED, UPPER_TRUNCATED = 0, 1, 2, 3, 4, 5
METRIC_OFFSET, METRIC_OUTER, METRIC_FACE, METRIC_INNER, FACE_OFFSET = 6, 7, 8, 9, 10
INVERSE_H, SPACING, SPEED = 0, 1, 2

TILE = 4096  # entries of a buffer
SHORT = 16  # cells from which a line of van Leer's `Muscl` is swept without a buffer
LONG = 128  # columns from which an axis is swept by rows
WIDTH = 2048  # most columns of a strip: long enough for the processor to foresee, the rings in the second cache
RING = 8  # rows of a ring, a power of two; the widest stencil has seven
BUFFERS = 9  # a sweep works with as many
LINE = 8  # entries of a cache line
PAD = RING * LINE  # entries between buffers: equal addresses modulo 4096 wait for each other, rows of rings too
BUFFER = max(TILE, RING * (WIDTH + LINE)) + PAD
AHEAD = 2  # rows asked for before they are read
PIECE = 64  # entries worked on between requests: few enough that computing does not wait until all are on their way
FLUSH = 1e-290  # smaller densities do not move: round-off there would not be relative any more
TINY = 2.2250738585072014e-308
SAFE = 1.0 - 1e-13  # room for round-off in the positivity limiter

STAGGERED_1, STAGGERED_3, STAGGERED_5 = 75.0 / 64.0, -25.0 / 384.0, 3.0 / 640.0

EXPONENT = 0x7FF0000000000000
MAGNITUDE = 0x7FFFFFFFFFFFFFFF
ONE_HALF_UP = 2045 << 52
ONE_UP = 1 << 52


_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
# never called but by compiled code
_INNER: dict[str, Any] = {"cache": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

kernel = compiled(**_OPTIONS, no_cfunc_wrapper=True)
jit = compiled(**_OPTIONS, **_INNER)
inlined = compiled(**_OPTIONS, **_INNER, inline="always")
contracted = compiled(**(_OPTIONS | _INNER | {"fastmath": {"nsz", "contract"}}))
