"""What compiled functions are made of, as plain Python: the kernels run without a compiler, step by step.

In use with ``NUMBA_DISABLE_JIT=1`` (for a debugger, or for coverage): a thousand times slower. Pointers are an array
and an offset, vectors are those of numpy. Reading where there is nothing gives NaN, writing there is an error.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from mfpde.support.arrays import Array

__all__ = [
    "COUNT",
    "FEW",
    "as_double",
    "as_integer",
    "at",
    "called",
    "fetch",
    "flushed",
    "folded",
    "four",
    "fused",
    "greater",
    "greatest",
    "larger",
    "least",
    "lesser",
    "load",
    "load_columns",
    "load_four",
    "magnitude",
    "place",
    "pointer",
    "put",
    "rounded",
    "shift",
    "side_by_side",
    "smaller",
    "spread",
    "store",
    "store_four",
    "store_places",
    "summed",
    "where",
    "whole",
    "with_first",
]

Pointer = tuple[Array, int]

COUNT, FEW = 16, 4
"""Lanes of a vector: two registers of the widest processors, so that one addition need not wait for the last; and of a
short one."""


# ----- pointers and integers


def pointer(array: Array, offset: int) -> Pointer:
    """To entry `offset` of a flat contiguous array."""
    return array.reshape(-1), int(offset)


def shift(p: Pointer, offset: int) -> Pointer:
    """`offset` entries on."""
    return p[0], p[1] + int(offset)


def at(p: Pointer, j: int) -> Any:
    """``p[j]``."""
    k = p[1] + j
    return p[0][k] if 0 <= k < p[0].size else np.float64(np.nan)


def put(p: Pointer, j: int, x: float) -> None:
    """``p[j] = x``."""
    k = p[1] + j
    if not 0 <= k < p[0].size:
        raise IndexError("a compiled function would have written beyond its array")
    p[0][k] = x


def fetch(p: Pointer, j: int) -> None:
    """Ask for the cache line of ``p[j]``: there is nothing to be asked for."""


def smaller(i: int, j: int) -> int:
    """The smaller of two integers."""
    return i if i < j else j


def larger(i: int, j: int) -> int:
    """The larger of two integers."""
    return i if i > j else j


def whole(x: float) -> int:
    """The integer of a double that is one; some integer of what is not finite."""
    return int(x) if np.isfinite(x) else 0


def as_integer(x: float) -> int:
    """The bits of a double as an integer."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])


def as_double(k: int) -> Any:
    """The double with these bits."""
    return np.float64(struct.unpack("<d", struct.pack("<Q", int(k) & 0xFFFFFFFFFFFFFFFF))[0])


def called(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function."""
    function(*arguments)


def with_first(function: Callable[..., None], first: tuple[Any, ...]) -> Callable[..., None]:
    """A function that takes these in the place of the first arguments it is given."""

    def other(*arguments: Any) -> None:
        function(*first, *arguments[len(first) :])

    return other


# ----- lanes


def load(p: Pointer, j: int, left: int, beyond: float) -> Array:
    """``p[j:j + 16]``; of these, `left` are there, and the lanes after them hold `beyond`."""
    out = np.full(COUNT, beyond, dtype=float)
    n = min(max(left, 0), COUNT)
    out[:n] = [at(p, j + k) for k in range(n)]
    return out


def store(p: Pointer, j: int, left: int, x: Array) -> None:
    """``p[j:j + 16] = x``, of which `left` are there."""
    for k in range(min(max(left, 0), COUNT)):
        put(p, j + k, x[k])


def load_four(p: Pointer, j: int) -> Array:
    """``p[j:j + 4]``."""
    return load(p, j, FEW, 0.0)[:FEW]


def store_four(p: Pointer, j: int, x: Array) -> None:
    """``p[j:j + 4] = x``."""
    store(p, j, FEW, x)


def four(x: float) -> Array:
    """A number in four lanes."""
    return np.full(FEW, x, dtype=float)


def spread(x: float) -> Array:
    """A number in all lanes."""
    return np.full(COUNT, x, dtype=float)


def fused(x: Array, y: Array, z: Array) -> Array:
    """``x * y + z``."""
    return x * y + z


def lesser(x: Array, y: Array) -> Array:
    """``x if x < y else y``."""
    return np.where(x < y, x, y)


def greater(x: Array, y: Array) -> Array:
    """``x if x > y else y``."""
    return np.where(x > y, x, y)


def rounded(x: Array) -> Array:
    """The nearest integers, even ones half-way."""
    return np.rint(x)


def store_places(p: Pointer, j: int, x: Array, stride: int) -> None:
    """``p[j:j + 4] = stride * x``, integers that are doubles."""
    store(p, j, FEW, stride * x)


def place(p: Pointer, j: int) -> int:
    """An integer of `store_places`."""
    return whole(at(p, j))


def where(m: Array, x: Array, y: Array) -> Array:
    """``x if m > 0 else y``."""
    return np.where(m > 0, x, y)


def magnitude(x: Array) -> Array:
    """``abs(x)``."""
    return np.abs(x)


def flushed(x: Array, limit: float) -> Array:
    """``0.0 if abs(x) < limit else x``."""
    return np.where(np.abs(x) < limit, 0.0, x)


def summed(x: Array) -> Any:
    """The sum of all lanes, in their order."""
    return np.add.accumulate(x)[-1]


def folded(x: Array) -> Any:
    """The sum of all lanes, one half added to the other until one is left."""
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


def side_by_side(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The sums of the lanes of four short vectors, as one."""
    return np.array([folded(np.array([x[0], x[2], x[1], x[3]])) for x in (a, b, c, d)])


def load_columns(a: Pointer, b: Pointer, c: Pointer, d: Pointer, j: int) -> tuple[Array, ...]:
    """Four vectors: of the first the entries are ``a[j], b[j], c[j], d[j]``, of the next ones what follows these."""
    return tuple(np.stack([load_four(row, j) for row in (a, b, c, d)], axis=1))


def _first(order: Callable[[Any, Any], Any]) -> Callable[[Array], Any]:
    def chosen(x: Array) -> Any:
        best = x[0]
        for other in x[1:]:
            best = other if order(other, best) else best
        return best

    return chosen


least, greatest = _first(operator.lt), _first(operator.gt)
