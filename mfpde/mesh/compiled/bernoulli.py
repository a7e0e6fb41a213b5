"""The Bernoulli function of Scharfetter-Gummel fluxes, in a form that vectorises.

``B(x) = x / (e^x - 1)`` is decreasing and positive, with ``B(0) = 1`` and ``B(-x) = B(x) + x``. Only ``B(|x|)``, which
lies in [0, 1], is computed; the other side follows by the identity, so that ``B(-x) = e^x B(x)`` (detailed balance)
holds to round-off for every ``x``.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types

from mfpde.support import interpreted
from mfpde.support.compiling import compiled, primitive
from mfpde.support.pointers import peek, put

__all__ = ["as_double", "as_integer", "bernoulli", "exponentials"]

_LOG2E = 1.0 / math.log(2.0)
_LN2_HIGH = 6.93147180369123816490e-01  # 33 bits: its products with the integers below are exact
_LN2_LOW = 1.90821492927058770002e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which then sits in the lowest bits
_ROUND_BITS = 0x4338000000000000
_ONE_BITS = 1023
_LARGEST = 1000.0  # B is zero long before

# 1/2!, 1/3!, ...: the next term is below 2e-17 of the sum for |r| <= log(2)/2
_C2, _C3, _C4, _C5 = 1 / 2, 1 / 6, 1 / 24, 1 / 120
_C6, _C7, _C8, _C9 = 1 / 720, 1 / 5040, 1 / 40320, 1 / 362880
_C10, _C11, _C12, _C13 = 1 / 3628800, 1 / 39916800, 1 / 479001600, 1 / 6227020800


@primitive(interpreted.as_integer)
def as_integer(context: Any, x: Any) -> Any:
    """The bits of a double as an integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@primitive(interpreted.as_double)
def as_double(context: Any, k: Any) -> Any:
    """The double with these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@compiled(nogil=True, error_model="numpy")
def bernoulli(x: float) -> float:
    """``B(x) = x / (e^x - 1)`` for ``x >= 0``, to a few units in the last place down to where it underflows.

    With ``x = k log 2 + r``, ``|r| <= log(2)/2``: ``e^x - 1 = 2^k ((e^r - 1) + (1 - 2^-k))``, without cancellation
    that matters. NaN stays NaN.
    """
    z = _LARGEST if x > _LARGEST else x
    t = z * _LOG2E + _ROUND
    whole = t - _ROUND
    k = as_integer(t) - _ROUND_BITS
    r = (z - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = _C12 + r * _C13
    p = _C11 + r * p
    p = _C10 + r * p
    p = _C9 + r * p
    p = _C8 + r * p
    p = _C7 + r * p
    p = _C6 + r * p
    p = _C5 + r * p
    p = _C4 + r * p
    p = _C3 + r * p
    p = _C2 + r * p
    rest = r + (r * r) * p
    # 2^-k in two factors: one alone would be subnormal where B is not yet
    low = k if k < 1000 else 1000
    scale = as_double((_ONE_BITS - low) << 52)
    again = as_double((_ONE_BITS - (k - low)) << 52)
    value = ((z / (rest + (1.0 - scale))) * scale) * again
    return 1.0 if z == 0.0 else value


@compiled(nogil=True, error_model="numpy", cache=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
def exponentials(p, n):  # type: ignore[no-untyped-def]
    """``e^x`` of `n` entries in their place, to a few units in the last place, in a form that vectorises."""
    for j in range(n):
        x = peek(p, j)
        z = _LARGEST if x > _LARGEST else -_LARGEST if x < -_LARGEST else x
        t = z * _LOG2E + _ROUND
        whole = t - _ROUND
        k = as_integer(t) - _ROUND_BITS
        r = (z - whole * _LN2_HIGH) - whole * _LN2_LOW
        q = _C12 + r * _C13
        q = _C11 + r * q
        q = _C10 + r * q
        q = _C9 + r * q
        q = _C8 + r * q
        q = _C7 + r * q
        q = _C6 + r * q
        q = _C5 + r * q
        q = _C4 + r * q
        q = _C3 + r * q
        q = _C2 + r * q
        # 2^k in two factors, both of normal numbers
        low = k >> 1
        first, second = as_double((_ONE_BITS + low) << 52), as_double((_ONE_BITS + (k - low)) << 52)
        put(p, j, ((1.0 + (r + (r * r) * q)) * first) * second)
