"""Calls of compiled functions by their addresses.

A compiled function that calls another contains it: both are optimised again together, which takes as long as the first
time. By its address it is called and left as it is.
"""

from __future__ import annotations

from typing import Any

import numba
from numba import types
from numba.core import cgutils

from mfpde.support import interpreted
from mfpde.support.compiling import interpreted as nothing_compiles
from mfpde.support.compiling import primitive

__all__ = ["address", "called"]


def address(kernel: Any, *arguments: Any, instead: int = 0) -> Any:
    """Where the compiled function for arguments like these begins, as `called` takes it.

    Parameters
    ----------
    kernel : callable
        Compiled, of no result.
    *arguments
        Values, of the very types that it will be called with.
    instead : int, optional
        For so many of the first arguments, callers have others of the same layout, which are not read.
    """
    if nothing_compiles():
        return interpreted.with_first(kernel, arguments[:instead]) if instead else kernel
    kinds = tuple(numba.typeof(value) for value in arguments)
    kernel.compile(kinds)
    made = kernel.overloads[kinds]
    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)


@primitive(interpreted.called)
def called(context: Any, place: Any, *arguments: Any) -> Any:
    """Call what begins at an address with arguments, which have to be those that it was compiled for."""
    kinds = tuple(types.unliteral(kind) for kind in arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.call_conv.get_function_type(types.none, kinds)
        function = builder.inttoptr(values[0], kind.as_pointer())
        given = cgutils.unpack_tuple(builder, values[1])
        status, _ = context.call_conv.call_function(builder, function, types.none, kinds, given)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(types.int64, types.StarArgTuple.from_types(kinds)), generate
