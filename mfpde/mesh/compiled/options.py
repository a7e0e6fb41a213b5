"""Constants of the compiled sweeps, and how their functions are compiled; how they work is told in the package."""

from __future__ import annotations

from typing import Any

from mfpde.support.compiling import by_class, compiled

__all__ = [
    "AHEAD",
    "BUFFER",
    "BUFFERS",
    "EXPONENT",
    "LINE",
    "LONG",
    "MAGNITUDE",
    "ONE_HALF_UP",
    "ONE_UP",
    "PIECE",
    "RING",
    "SHORT",
    "STAGGERED_1",
    "STAGGERED_3",
    "STAGGERED_5",
    "TILE",
    "WIDTH",
    "addressed",
    "by_structure",
    "by_structure_uncounted",
    "contracted",
    "inlined",
    "jit",
    "kernel",
    "uncached",
    "uncounted",
    "uncounted_inlined",
    "uncounted_kernel",
]


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
# for what hands on many parts of arrays that belong to its caller: without counting who refers to them
uncounted_kernel = compiled(**_OPTIONS, no_cfunc_wrapper=True, _nrt=False)
addressed = compiled(**_OPTIONS, no_cfunc_wrapper=True, no_cpython_wrapper=True, _nrt=False)  # never from Python
uncounted = compiled(**_OPTIONS, **_INNER, _nrt=False)
uncounted_inlined = compiled(**_OPTIONS, **_INNER, _nrt=False, inline="always")
contracted = compiled(**(_OPTIONS | _INNER | {"fastmath": {"nsz", "contract"}}))
by_structure = by_class(**_OPTIONS)
by_structure_uncounted = by_class(**_OPTIONS, _nrt=False)


def uncached(function: Any) -> Any:
    """A kernel once more, of which nothing is kept in files."""
    return compiled(cache=False, **_OPTIONS, no_cfunc_wrapper=True)(getattr(function, "py_func", function))
