"""Objects that pickle with the functions in them: to other processes, and into files.

Plain pickle writes a function as its name. One that has none that another process finds, because it is a lambda, was
made within a function, or belongs to a script or notebook, goes by value where `cloudpickle` is installed.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["ORIGIN", "RECIPE", "ByValue", "Portable", "Unportable", "made_by", "packed", "recipe", "remember"]

RECIPE, ORIGIN = "_recipe", "_origin"
"""Attributes that say how an object was made, and which part of which named problem it is: no copy has them."""


class Unportable(TypeError):
    """Something that cannot be pickled, and what to do about it."""


class ByValue:
    """A function that goes by value."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Callable[[bytes], ByValue], tuple[bytes]]:
        import cloudpickle

        return _arrived, (cloudpickle.dumps(self.function),)


def _arrived(data: bytes) -> ByValue:
    import pickle

    return ByValue(pickle.loads(data))


@functools.cache
def _has_cloudpickle() -> bool:
    from importlib.util import find_spec

    return find_spec("cloudpickle") is not None


def packed(value: Any, where: str) -> Any:
    """A part of an object's state, functions without a name wrapped."""
    if isinstance(value, types.FunctionType):
        nameless = "<" in value.__qualname__
        if not nameless and value.__module__ != "__main__":
            return value
        if _has_cloudpickle():
            return ByValue(value)
        if not nameless:
            return value
        raise Unportable(
            f"{where} is the function {value.__qualname__}, which another process cannot find by its name: install "
            "cloudpickle, or define it at the top of a module"
        )
    return _mapped(lambda part: packed(part, where), value)


def unpacked(value: Any) -> Any:
    if isinstance(value, ByValue):
        return value.function
    return _mapped(unpacked, value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A container with what a function gives for each of its parts; anything else as it is."""
    if type(value) in (tuple, list):
        return type(value)(map(function, value))
    if type(value) is dict:
        return {key: function(part) for key, part in value.items()}
    if isinstance(value, functools.partial):
        return functools.partial(function(value.func), *function(value.args), **function(value.keywords))
    return value


def _cached(kind: type) -> frozenset[str]:
    """The names of what objects of a class compute when it is asked for."""
    parts = (vars(base).items() for base in kind.__mro__)
    return frozenset(name for items in parts for name, part in items if isinstance(part, cached_property))


class Portable:
    """An object that pickles without what it computes when asked, and with its functions."""

    def __getstate__(self) -> dict[str, Any]:
        name, computed = type(self).__name__, _cached(type(self))
        return {key: packed(value, f"{name}.{key}") for key, value in vars(self).items() if key not in computed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update((key, unpacked(value)) for key, value in state.items())

    def __copy__(self) -> Any:
        """A copy with the same parts, which somebody may change: it is not what a constructor has made any more."""
        made = object.__new__(type(self))
        vars(made).update((key, value) for key, value in vars(self).items() if key not in (RECIPE, ORIGIN))
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy with copies of the parts, but for functions, and without what is computed when asked."""
        made = memo[id(self)] = object.__new__(type(self))
        computed = {*_cached(type(self)), RECIPE, ORIGIN}
        vars(made).update((key, copy.deepcopy(value, memo)) for key, value in vars(self).items() if key not in computed)
        return made


def recipe(constructor: Callable[..., Any], module: str) -> Callable[..., Any]:
    """A constructor whose objects remember how they were made, and pickle as that.

    Parameters
    ----------
    constructor : callable
    module : str
        Where it is found by its name.
    """

    @functools.wraps(constructor)
    def make(*arguments: Any, **named: Any) -> Any:
        made = constructor(*arguments, **named)
        remember(made, module, constructor.__name__, arguments, named)
        return made

    make.__module__, make.__qualname__ = module, constructor.__name__  # it pickles as that
    return make


def remember(made: Any, module: str, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Note how an object was made: by what, and of which arguments, whose arrays may change later."""
    vars(made)[RECIPE] = (module, name, *copied((arguments, named)))


def copied(value: Any) -> Any:
    """Arguments with arrays and lists of their own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return _mapped(copied, value)


def made_by(module: str, name: str, arguments: Any, named: Any) -> Any:
    """What a constructor makes of some arguments, see `recipe`."""
    return getattr(import_module(module), name)(*unpacked(arguments), **unpacked(named))
