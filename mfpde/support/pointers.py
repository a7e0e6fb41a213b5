"""Bare loads and stores for compiled loops: no bounds, no negative indices, nothing that overlaps.

Slices of arrays cost most of the compile time of a short loop, and the check that they do not overlap most of what
is left. A pointer holds no reference: what it points into has to be an argument of the compiled function that made it.

`at` promises that what it reads is written by no `put` of the same function, `put`, `put_second`, `put_third` and
`put_fourth` that none writes what another does. `peek` reads what `put` writes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mfpde.support import interpreted
from mfpde.support.compiling import primitive

__all__ = [
    "at",
    "fetch",
    "larger",
    "peek",
    "pointer",
    "put",
    "put_fourth",
    "put_second",
    "put_third",
    "shift",
    "smaller",
    "whole",
]

_POINTER = types.CPointer(types.float64)


def _element(builder: Any, arguments: Any) -> Any:
    return builder.gep(arguments[0], [arguments[1]], source_etype=ir.DoubleType())


def _mark(builder: Any, instruction: Any, own: int | None) -> None:
    """Metadata: in the scope of store `own`, apart from those of the others."""
    module = builder.module
    domain = module.add_metadata(["mfpde.transport"])
    scopes = [module.add_metadata([f"mfpde.transport.store{k}", domain]) for k in range(4)]
    if own is not None:
        instruction.set_metadata("alias.scope", module.add_metadata([scopes[own]]))
    instruction.set_metadata("noalias", module.add_metadata([s for k, s in enumerate(scopes) if k != own]))


def _load(own: int | None) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        instruction = builder.load(_element(builder, arguments), align=8, typ=ir.DoubleType())
        _mark(builder, instruction, own)
        return instruction

    return generate


def _store(own: int) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _mark(builder, builder.store(arguments[2], _element(builder, arguments), align=8), own)
        return context.get_dummy_value()

    return generate


@primitive(interpreted.pointer)
def pointer(context: Any, array: Any, offset: Any) -> Any:
    """To entry `offset` of a flat contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]], source_etype=ir.DoubleType())

    return _POINTER(array, types.intp), generate


@primitive(interpreted.shift)
def shift(context: Any, p: Any, offset: Any) -> Any:
    """`offset` entries on."""
    return _POINTER(_POINTER, types.intp), lambda context, builder, signature, arguments: _element(builder, arguments)


@primitive(interpreted.at)
def at(context: Any, p: Any, j: Any) -> Any:
    """``p[j]``."""
    return types.float64(_POINTER, types.intp), _load(None)


@primitive(interpreted.at)
def peek(context: Any, p: Any, j: Any) -> Any:
    """``p[j]`` of what `put` writes."""
    return types.float64(_POINTER, types.intp), _load(0)


@primitive(interpreted.put)
def put(context: Any, p: Any, j: Any, x: Any) -> Any:
    """``p[j] = x``."""
    return types.void(_POINTER, types.intp, types.float64), _store(0)


@primitive(interpreted.put)
def put_second(context: Any, p: Any, j: Any, x: Any) -> Any:
    """``p[j] = x``, elsewhere than `put`."""
    return types.void(_POINTER, types.intp, types.float64), _store(1)


@primitive(interpreted.put)
def put_third(context: Any, p: Any, j: Any, x: Any) -> Any:
    """``p[j] = x``, elsewhere than `put` and `put_second`."""
    return types.void(_POINTER, types.intp, types.float64), _store(2)


@primitive(interpreted.put)
def put_fourth(context: Any, p: Any, j: Any, x: Any) -> Any:
    """``p[j] = x``, elsewhere than the others."""
    return types.void(_POINTER, types.intp, types.float64), _store(3)


@primitive(interpreted.fetch)
def fetch(context: Any, p: Any, j: Any) -> Any:
    """Ask for the cache line of ``p[j]``, to be read soon. Nothing happens where there is no such memory."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _element(builder, arguments)
        kind = ir.FunctionType(ir.VoidType(), [place.type, *3 * [ir.IntType(32)]])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        flags = [ir.Constant(ir.IntType(32), k) for k in (0, 2, 1)]  # to read, into the second level, data
        builder.call(function, [place, *flags])
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp), generate


def _of_two(symbol: str) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.icmp_signed(symbol, *arguments), *arguments)

    return generate


@primitive(interpreted.smaller)
def smaller(context: Any, i: Any, j: Any) -> Any:
    """The smaller of two integers; ``min`` takes ten times as long to compile."""
    return types.intp(types.intp, types.intp), _of_two("<")


@primitive(interpreted.larger)
def larger(context: Any, i: Any, j: Any) -> Any:
    """The larger of two integers."""
    return types.intp(types.intp, types.intp), _of_two(">")


@primitive(interpreted.whole)
def whole(context: Any, x: Any) -> Any:
    """The integer of a double that is one; some integer of what is not finite."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fptosi(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate
