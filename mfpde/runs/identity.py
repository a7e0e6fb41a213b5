"""What a value is, in words that are the same in every process and differ where the value does."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.mesh.solution import Solution

__all__ = ["told"]


def told(value: Any) -> str:
    """A value in words.

    Parameters
    ----------
    value : object
        Numbers and texts are written as they are, arrays as hashes of all their numbers, functions that no module has
        by their name as hashes of their code, defaults and closure, laws and other objects by what they are made of.
        Where an object lies in memory is no part of it. What refers to itself is known by the name of its class.

    Returns
    -------
    str
    """
    try:
        return _told(value)
    except (RecursionError, ValueError):  # or a function that refers to something that is not there yet
        return type(value).__qualname__


def _told(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
        return _told(value.item())
    if isinstance(value, np.ndarray):
        data = _told(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
        return f"array of {value.dtype} {value.shape} {_hash(data)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_told(key)}: {_told(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_told, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, Problem):
        return f"Problem {value.fingerprint()}"
    if isinstance(value, Solution):
        return f"Solution {_told(value.measure())}"
    if (law := getattr(value, "dist", None)) is not None and hasattr(value, "kwds"):  # one of SciPy's
        return f"{law.name}{_told(value.args)}{_told(value.kwds)}"
    if callable(value):
        return _function(value)
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(f"{field.name}={_told(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({inside})"
    # the repr that an object has unless somebody writes one says where it lies
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__qualname__}({_told(getattr(value, '__dict__', {}))})"
    return repr(value)


def _function(function: Callable[..., Any]) -> str:
    """A function, or an object that is called, by its name, its code, and what this refers to."""
    if isinstance(function, functools.partial):
        return f"partial({_told((function.func, *function.args))}, {_told(function.keywords)})"
    if isinstance(function, types.MethodType):
        return f"{_told(function.__self__)}.{function.__name__}"
    name = getattr(function, "__qualname__", None)
    if name is None:  # an object
        return f"{type(function).__qualname__}({_told(vars(function)) if hasattr(function, '__dict__') else ''})"
    if not isinstance(function, types.FunctionType) or ("<" not in name and function.__module__ != "__main__"):
        return str(name)
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell.cell_contents is not function]
    refers = _told([cells, function.__defaults__ or (), function.__kwdefaults__ or {}])
    return f"{name} {_hash(_code(function.__code__) + refers.encode())}"


def _code(code: types.CodeType) -> bytes:
    """What a function does, without where it stands in a file."""
    constants = [_code(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    return b"|".join([code.co_code, " ".join(code.co_names).encode(), *constants])


def _constant(value: Any) -> bytes:
    """A constant; the elements of a set have another order in every process."""
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
