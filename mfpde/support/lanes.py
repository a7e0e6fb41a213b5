"""Sixteen doubles side by side, or four, for compiled passes whose loops are to vectorise without being asked twice.

A value of the type `LANES` (or `FOUR`) is one vector of the compiler's, in as many registers as the processor needs.
Arithmetic is entry by entry, as IEEE has it: nothing is contracted, and sums over lanes are added in their order, so
that the bits depend on no processor, but for `fused` and `folded`, for sums whose order has no meaning. Numbers mix
with lanes.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from mfpde.support import interpreted
from mfpde.support.compiling import primitive
from mfpde.support.interpreted import COUNT, FEW

__all__ = [
    "COUNT",
    "FEW",
    "flushed",
    "folded",
    "four",
    "fused",
    "greater",
    "greatest",
    "least",
    "lesser",
    "load",
    "load_columns",
    "load_four",
    "magnitude",
    "place",
    "rounded",
    "side_by_side",
    "spread",
    "store",
    "store_four",
    "store_places",
    "summed",
    "where",
]

_DOUBLE, _INDEX = ir.DoubleType(), ir.IntType(32)
_VECTOR = ir.VectorType(_DOUBLE, COUNT)
_POINTER = types.CPointer(types.float64)


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self, count: int) -> None:
        super().__init__(name=f"lanes({count})")
        self.count, self.vector = count, ir.VectorType(_DOUBLE, count)


LANES, FOUR = _Lanes(COUNT), _Lanes(FEW)


@register_model(_Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


def _spread(builder: Any, x: Any, count: int = COUNT) -> Any:
    """The same number in all lanes."""
    one = builder.insert_element(ir.Constant(ir.VectorType(_DOUBLE, count), ir.Undefined), x, _INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, count), [0] * count))


def _lanes(context: Any, builder: Any, kind: Any, x: Any, count: int) -> Any:
    return x if isinstance(kind, _Lanes) else _spread(builder, context.cast(builder, x, kind, types.float64), count)


def _arithmetic(symbol: Any, instruction: str) -> None:
    """Make an operator known to the compiler."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, arguments: Any, keywords: Any) -> Any:
            kind = next((a for a in arguments if isinstance(a, _Lanes)), None)
            if kind and all(a is kind or isinstance(a, types.Number) for a in arguments):
                return signature(kind, *arguments)
            return None

    infer_global(symbol)(Template)

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        count = sig.return_type.count
        x, y = (_lanes(context, builder, k, a, count) for k, a in zip(sig.args, arguments, strict=True))
        return getattr(builder, instruction)(x, y)

    for one, other in ((_Lanes, _Lanes), (_Lanes, types.Number), (types.Number, _Lanes)):
        lower_builtin(symbol, one, other)(lower)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.iadd, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _place(builder: Any, p: Any, j: Any, count: int = COUNT) -> Any:
    return builder.bitcast(builder.gep(p, [j], source_etype=_DOUBLE), ir.VectorType(_DOUBLE, count).as_pointer())


def _rest(builder: Any, left: Any) -> Any:
    """Which lanes are below `left`."""
    kind = ir.VectorType(_INDEX, COUNT)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(left, _INDEX), _INDEX(0))
    limit = builder.shuffle_vector(one, one, ir.Constant(kind, [0] * COUNT))
    return builder.icmp_signed("<", ir.Constant(kind, list(range(COUNT))), limit)


def _masked(builder: Any, name: str, kind: ir.FunctionType, arguments: list[Any]) -> Any:
    return builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.v{COUNT}f64.p0"), arguments
    )


_EIGHT, _MASK = _INDEX(8), ir.VectorType(ir.IntType(1), COUNT)


@primitive(interpreted.load)
def load(context: Any, p: Any, j: Any, left: Any, beyond: Any) -> Any:
    """``p[j:j + 16]``; of these, `left` are there, and the lanes after them hold `beyond`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, j, left, beyond = arguments
        place = _place(builder, p, j)
        with builder.if_else(builder.icmp_signed(">=", left, left.type(COUNT)), likely=True) as (all_there, some):
            with all_there:
                whole = builder.load(place, align=8, typ=_VECTOR)
                first = builder.block
            with some:
                kind = ir.FunctionType(_VECTOR, [place.type, _INDEX, _MASK, _VECTOR])
                part = _masked(builder, "load", kind, [place, _EIGHT, _rest(builder, left), _spread(builder, beyond)])
                second = builder.block
        result = builder.phi(_VECTOR)
        result.add_incoming(whole, first)
        result.add_incoming(part, second)
        return result

    return LANES(_POINTER, types.intp, types.intp, types.float64), generate


@primitive(interpreted.store)
def store(context: Any, p: Any, j: Any, left: Any, x: Any) -> Any:
    """``p[j:j + 16] = x``, of which `left` are there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, j, left, x = arguments
        place = _place(builder, p, j)
        with builder.if_else(builder.icmp_signed(">=", left, left.type(COUNT)), likely=True) as (all_there, some):
            with all_there:
                builder.store(x, place, align=8)
            with some:
                kind = ir.FunctionType(ir.VoidType(), [_VECTOR, place.type, _INDEX, _MASK])
                _masked(builder, "store", kind, [x, place, _EIGHT, _rest(builder, left)])
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, types.intp, LANES), generate


@primitive(interpreted.load_four)
def load_four(context: Any, p: Any, j: Any) -> Any:
    """``p[j:j + 4]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, arguments[0], arguments[1], FEW), align=8, typ=FOUR.vector)

    return FOUR(_POINTER, types.intp), generate


@primitive(interpreted.store_four)
def store_four(context: Any, p: Any, j: Any, x: Any) -> Any:
    """``p[j:j + 4] = x``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, arguments[0], arguments[1], FEW), align=8)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, FOUR), generate


@primitive(interpreted.four)
def four(context: Any, x: Any) -> Any:
    """A number in four lanes."""
    return FOUR(types.float64), lambda context, builder, signature, arguments: _spread(builder, arguments[0], FEW)


@primitive(interpreted.spread)
def spread(context: Any, x: Any) -> Any:
    """A number in all lanes."""
    return LANES(types.float64), lambda context, builder, signature, arguments: _spread(builder, arguments[0])


@primitive(interpreted.fused)
def fused(context: Any, x: Any, y: Any, z: Any) -> Any:
    """``x * y + z``, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = signature.return_type
        kind = ir.FunctionType(lanes.vector, [lanes.vector] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{lanes.count}f64")
        return builder.call(function, arguments)

    return x(x, x, x), generate


def _chosen(symbol: str) -> Any:
    """``x if x symbol y else y``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, y = arguments
        return builder.select(builder.fcmp_ordered(symbol, x, y), x, y)

    return generate


@primitive(interpreted.lesser)
def lesser(context: Any, x: Any, y: Any) -> Any:
    """``x if x < y else y``."""
    return x(x, x), _chosen("<")


@primitive(interpreted.greater)
def greater(context: Any, x: Any, y: Any) -> Any:
    """``x if x > y else y``."""
    return x(x, x), _chosen(">")


@primitive(interpreted.rounded)
def rounded(context: Any, x: Any) -> Any:
    """The nearest integers, even ones half-way."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = signature.return_type
        kind = ir.FunctionType(lanes.vector, [lanes.vector])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{lanes.count}f64")
        return builder.call(function, arguments)

    return x(x), generate


@primitive(interpreted.store_places)
def store_places(context: Any, p: Any, j: Any, x: Any, stride: Any) -> Any:
    """``p[j:j + 4] = stride * x`` of four integers from 0 to 2^31 that are doubles, as integers: `place` reads them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, j, x, stride = arguments
        wide = ir.VectorType(ir.IntType(64), FEW)
        low = ir.Constant(wide, [2**32 - 1] * FEW)
        # so large a number that the integers stand in its lowest bits
        bits = builder.bitcast(builder.fadd(x, ir.Constant(FOUR.vector, [2.0**52] * FEW)), wide)
        one = builder.insert_element(ir.Constant(wide, ir.Undefined), stride, _INDEX(0))
        strides = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, FEW), [0] * FEW))
        # 32 bits times 32 bits is one instruction
        offsets = builder.mul(builder.and_(bits, low), builder.and_(strides, low))
        builder.store(builder.bitcast(offsets, FOUR.vector), _place(builder, p, j, FEW), align=8)
        return context.get_dummy_value()

    return types.void(_POINTER, types.intp, FOUR, types.intp), generate


@primitive(interpreted.place)
def place(context: Any, p: Any, j: Any) -> Any:
    """An integer of `store_places`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where_it_is = builder.gep(arguments[0], [arguments[1]], source_etype=_DOUBLE)
        return builder.load(builder.bitcast(where_it_is, ir.IntType(64).as_pointer()), align=8, typ=ir.IntType(64))

    return types.intp(_POINTER, types.intp), generate


@primitive(interpreted.where)
def where(context: Any, m: Any, x: Any, y: Any) -> Any:
    """``x if m > 0 else y``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        m, x, y = arguments
        return builder.select(builder.fcmp_ordered(">", m, ir.Constant(_VECTOR, [0.0] * COUNT)), x, y)

    return LANES(LANES, LANES, LANES), generate


def _absolute(builder: Any, x: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{COUNT}f64"), [x])


@primitive(interpreted.magnitude)
def magnitude(context: Any, x: Any) -> Any:
    """``abs(x)``."""
    return LANES(LANES), lambda context, builder, signature, arguments: _absolute(builder, arguments[0])


@primitive(interpreted.flushed)
def flushed(context: Any, x: Any, limit: Any) -> Any:
    """``0.0 if abs(x) < limit else x``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, limit = arguments
        small = builder.fcmp_ordered("<", _absolute(builder, x), _spread(builder, limit))
        return builder.select(small, ir.Constant(_VECTOR, [0.0] * COUNT), x)

    return LANES(LANES, types.float64), generate


def _entries(builder: Any, x: Any) -> list[Any]:
    return [builder.extract_element(x, _INDEX(k)) for k in range(COUNT)]


@primitive(interpreted.summed)
def summed(context: Any, x: Any) -> Any:
    """The sum of all lanes, in their order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, *others = _entries(builder, arguments[0])
        for other in others:
            total = builder.fadd(total, other)
        return total

    return types.float64(LANES), generate


@primitive(interpreted.folded)
def folded(context: Any, x: Any) -> Any:
    """The sum of all lanes, one half added to the other until one is left."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, n = arguments[0], signature.args[0].count
        while n > 1:
            n //= 2
            halves = (ir.Constant(ir.VectorType(_INDEX, n), list(range(k, k + n))) for k in (0, n))
            low, high = (builder.shuffle_vector(x, x, half) for half in halves)
            x = builder.fadd(low, high)
        return builder.extract_element(x, _INDEX(0))

    return types.float64(x), generate


@primitive(interpreted.side_by_side)
def side_by_side(context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sums of the lanes of four short vectors, as one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def mixed(x: Any, y: Any, entries: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, FEW), entries))

        def halved(x: Any, y: Any, even: list[int], odd: list[int]) -> Any:
            return builder.fadd(mixed(x, y, even), mixed(x, y, odd))

        a, b, c, d = arguments
        # as the processor adds neighbours: a01 b01 a23 b23, and c01 d01 c23 d23
        pairs = [halved(x, y, [0, 4, 2, 6], [1, 5, 3, 7]) for x, y in ((a, b), (c, d))]
        return halved(pairs[0], pairs[1], [0, 1, 4, 5], [2, 3, 6, 7])

    return FOUR(FOUR, FOUR, FOUR, FOUR), generate


@primitive(interpreted.load_columns)
def load_columns(context: Any, a: Any, b: Any, c: Any, d: Any, j: Any) -> Any:
    """Four vectors: of the first the entries are ``a[j], b[j], c[j], d[j]``, of the next ones what follows these."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *rows, j = arguments
        pair = ir.VectorType(_DOUBLE, 2)

        def half(row: Any, k: int) -> Any:
            where_it_is = builder.gep(row, [builder.add(j, j.type(2 * k))], source_etype=_DOUBLE)
            return builder.load(builder.bitcast(where_it_is, pair.as_pointer()), align=8, typ=pair)

        def mixed(x: Any, y: Any, entries: list[int]) -> Any:
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(_INDEX, FEW), entries))

        columns = []
        for k in range(2):  # halves are put together as they are loaded, and neighbours are exchanged
            first, second, third, fourth = (half(row, k) for row in rows)
            one, other = mixed(first, third, [0, 1, 2, 3]), mixed(second, fourth, [0, 1, 2, 3])
            columns += [mixed(one, other, [0, 4, 2, 6]), mixed(one, other, [1, 5, 3, 7])]
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(FOUR, FEW)(_POINTER, _POINTER, _POINTER, _POINTER, types.intp), generate


def _extreme(symbol: str) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        best, *others = _entries(builder, arguments[0])
        for other in others:
            best = builder.select(builder.fcmp_ordered(symbol, other, best), other, best)
        return best

    return generate


@primitive(interpreted.least)
def least(context: Any, x: Any) -> Any:
    """The least of all lanes."""
    return types.float64(LANES), _extreme("<")


@primitive(interpreted.greatest)
def greatest(context: Any, x: Any) -> Any:
    """The greatest of all lanes."""
    return types.float64(LANES), _extreme(">")
