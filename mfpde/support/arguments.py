"""What every constructor asks of its arguments: numbers that are numbers, arrays of them, and a short line if not."""

from __future__ import annotations

import copy
import enum
import functools
import inspect
import numbers as kinds
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ARRAY",
    "COUNT",
    "COUNTS",
    "FLAG",
    "FUNCTION",
    "INFINITE",
    "NONE",
    "NUMBER",
    "NUMBERS",
    "PATH",
    "POWER",
    "POSITIVE",
    "SEED",
    "TEXT",
    "TEXTS",
    "WHOLE",
    "Kind",
    "MayBeInfinite",
    "checked",
    "entries",
    "floats",
    "function",
    "member",
    "name_of",
    "numbers",
    "one_of",
    "read_only",
    "real",
    "refuse_masked",
    "require",
    "shown",
    "values_of",
    "whole",
]

P = ParamSpec("P")
T = TypeVar("T")


class MayBeInfinite:
    """In ``Annotated[float, MayBeInfinite()]``: configuration files may say ``inf``, as for no other number."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.float_schema(strict=True, allow_inf_nan=True)


def real(value: Any) -> bool:
    """Whether a value is a finite real number: no text, no truth value, no array of several."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kinds.Real):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:  # a whole number beyond all floats
        return False


def whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number: no truth value, no float, no text."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in one short line."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a number of more digits than Python writes, or an object whose own text fails
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-12:]}"


def numbers(values: Any, what: str) -> NDArray[np.float64]:
    """A new array of the given numbers, which may be infinite or NaN.

    Raises
    ------
    ValueError
        For text, truth values, complex numbers, objects, masked entries, and lists whose rows differ in length.
    """
    refuse_masked(values, what)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        raise ValueError(f"{what} must be an array of numbers, not {shown(values)}") from None
    if array.dtype.kind not in "iuf" and array.size:
        raise ValueError(f"{what} must be real numbers, not {shown(values)} ({array.dtype})")
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float64, order="C")


def floats(values: Any, what: str) -> NDArray[np.float64]:
    """Numbers as an array of floats, not a copy of one: of what a function of the user's gives, or is given to it.

    NumPy drops the imaginary parts of complex numbers and the masks of masked arrays on the way to floats.

    Raises
    ------
    ValueError
        For complex numbers, masked entries, and what is no number.
    """
    if type(values) is np.ndarray and values.dtype == np.float64:  # quick where all is well: this is every step
        return values
    refuse_masked(values, what)
    try:
        array = np.asarray(values)
        if array.dtype.kind != "c":
            return np.asarray(array, dtype=np.float64)
    except (ValueError, TypeError):
        raise ValueError(f"{what} must be a number or an array of numbers, not {shown(values)}") from None
    raise ValueError(f"{what} must be real numbers, not {shown(values)} ({array.dtype})")


def refuse_masked(values: Any, what: str) -> None:
    """Refuse arrays of which some entries are masked, or lists of such: what lies under a mask would count.

    Raises
    ------
    ValueError
        With the remedies.
    """
    arrays = values if isinstance(values, (list, tuple)) else (values,)
    masked = sum(int(np.ma.count_masked(array)) for array in arrays if isinstance(array, np.ma.MaskedArray))
    if masked:
        raise ValueError(
            f"{what} has {masked} masked {'entry' if masked == 1 else 'entries'}; fill them, "
            "values.filled(number), or drop them, values.compressed()"
        )


def function(value: Any, what: str, *, optional: bool = False) -> None:
    """Refuse what cannot be called.

    Raises
    ------
    ValueError
        With what it is instead.
    """
    if not callable(value) and not (optional and value is None):
        raise ValueError(f"{what} must be a function, not {shown(value)}")


def read_only(*arrays: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Views of arrays for a function of the user's, which may read them: to write is an error there.

    Nothing is copied. What a function wrote into its arguments would be in the mesh, the particles or the density.
    """
    views = tuple(array.view() for array in arrays)
    for view in views:
        view.flags.writeable = False
    return views


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function; it has no address, as its text has."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def values_of(function: Callable[..., Any], *arrays: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a function of the user's gives for arrays, which it may read but not write, as an array of its own.

    Raises
    ------
    ValueError
        For what is no real number: None, text, complex numbers, masked entries.
    """
    if isinstance(function, np.vectorize) and function.otypes is None:
        # it would round all values to integers where the first one is: `np.vectorize(lambda x: 0 if x < 1 else x / 2)`
        function = copy.copy(function)
        function.otypes = "d"
    given = function(*read_only(*arrays))
    if isinstance(given, (list, tuple, np.ma.MaskedArray)):
        refuse_masked(given, f"what {name_of(function)} returns")
    found = np.asarray(given)
    kind = found.dtype.kind
    if kind not in "fiubO" or (
        kind == "O" and any(value is None or isinstance(value, (complex, np.complexfloating)) for value in found.flat)
    ):
        name = name_of(function)
        raise ValueError(f"{name} must return real numbers, not {shown(found.tolist() if found.ndim == 0 else found)}")
    values = found.astype(np.float64, copy=False)
    # an argument that is given back, as by `lambda x: x`, is still the caller's
    return values if values.flags.writeable else values.copy()


def entries(values: Any, what: str) -> tuple[Any, ...]:
    """The entries of a sequence.

    Raises
    ------
    ValueError
        For what has none, and for text.
    """
    # an array of no dimension says that it can be gone through, and cannot
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes, type)) or getattr(values, "ndim", 1) == 0:
        raise ValueError(f"{what} must be a sequence, not {shown(values)}")
    return tuple(values)


@dataclass(frozen=True)
class Kind:
    """What an argument may be: in words, and as a question that does not fail whatever it is asked of."""

    words: str
    fits: Callable[[Any], bool]

    def __or__(self, other: Kind) -> Kind:
        return Kind(f"{self.words} or {other.words}", lambda value: self.fits(value) or other.fits(value))


def one_of(*classes: type) -> Kind:
    """An object of one of some classes."""
    names = [kind.__name__ for kind in classes]
    article = "an" if names[0][0] in "AEIO" else "a"
    return Kind(f"{article} {' or '.join(names)}", lambda value: isinstance(value, classes))


def require(**arguments: tuple[Any, Kind]) -> None:
    """Hold arguments against what they may be: ``require(t=(t, NUMBER | NONE), path=(path, PATH))``.

    Raises
    ------
    ValueError
        For the first that does not fit: its name, what it must be, and what it is.
    """
    for name, (value, kind) in arguments.items():
        if not kind.fits(value):
            raise ValueError(f"{name} must be {kind.words}, not {shown(value)}")


def member(kind: type[enum.Enum], value: Any, what: str) -> Any:
    """The member of an enum that a value is, or is the value of.

    Raises
    ------
    ValueError
        With the valid values.
    """
    try:
        return kind(value)
    except ValueError:
        valid = ", ".join(repr(member.value) for member in kind)
        raise ValueError(f"unknown {what} {shown(value)}; valid: {valid}") from None


def checked(constructor: Callable[P, T]) -> Callable[P, T]:
    """A constructor that holds its arguments against its annotations, and refuses numbers that overflow in it."""
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        hints = _hints(constructor)
        for name, value in signature.bind(*arguments, **named).arguments.items():
            expected = [kind for kind in hints.get(name, ()) if kind in _KINDS]
            # other annotations are the constructor's business
            known = bool(expected) and len(expected) == len(hints[name])
            if known and not any(_KINDS[kind][1](value) for kind in expected):
                wanted = " or ".join(dict.fromkeys(_KINDS[kind][0] for kind in expected))
                raise ValueError(f"{name} must be {wanted}, not {shown(value)}")
        try:
            return constructor(*arguments, **named)
        except ValueError as error:
            text = " ".join(str(error).split())
            if text == str(error) and len(text) < LONGEST:
                raise
            raise ValueError(text if len(text) < LONGEST else f"{text[:150]} ... {text[-80:]}") from None
        except ArithmeticError as error:
            raise ValueError(f"{constructor.__name__}: out of range ({error}); use numbers closer to 1") from None

    return call


@functools.cache
def _hints(constructor: Callable[..., Any]) -> dict[str, tuple[Any, ...]]:
    """The types of each argument, unions taken apart."""
    parts_of = {}
    for name, hint in typing.get_type_hints(constructor).items():
        union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        # of a sequence its kind: what is in it is counted as numbers
        parts = typing.get_args(hint) if union else (hint,)
        parts_of[name] = tuple(Sequence if typing.get_origin(part) is Sequence else part for part in parts)
    return parts_of


def _in_range(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds.Real):
        return False
    # infinity means something to some
    return bool(-LARGEST <= value <= LARGEST or value in (np.inf, -np.inf))  # type: ignore[operator]


def _list_in_range(value: Any) -> bool:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, np.ndarray)):
        return False
    try:
        array = numbers(value, "")
    except ValueError:
        return False
    return array.ndim <= 2 and bool(np.all(np.abs(array) <= LARGEST))


LONGEST = 300
"""Letters of a message."""
LARGEST = 1e50
"""Parameters of problems beyond this are mistakes: their squares and exponentials overflow."""
_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    float: (f"a number of at most {LARGEST:g}", _in_range),
    int: (f"a whole number of at most {LARGEST:g}", lambda value: whole(value) and abs(value) <= LARGEST),
    Sequence: (f"a list of numbers of at most {LARGEST:g}", _list_in_range),
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    type(None): ("None", lambda value: value is None),
}


def _all(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a sequence, no text, all of whose entries fit."""

    def every(value: Any) -> bool:
        if isinstance(value, (str, bytes, Mapping, type)) or not isinstance(value, (Iterable, np.ndarray)):
            return False
        if isinstance(value, np.ndarray) and value.ndim != 1:
            return False
        # what can be gone through only once is left to the function
        return not isinstance(value, (Sequence, np.ndarray)) or all(fits(entry) for entry in value)

    return every


def _numeric(value: Any) -> bool:
    """Whether a value is an array of numbers, or makes one: infinite and NaN ones are judged where they are used."""
    if np.ma.is_masked(value):  # `numbers` says what to do
        return True
    try:
        numbers(value, "")
    except (ValueError, OverflowError):
        return False
    return True


NONE = Kind("None", lambda value: value is None)
NUMBER = Kind("a finite number", real)
INFINITE = Kind("infinity", lambda value: isinstance(value, (float, np.floating)) and value == np.inf)
POSITIVE = Kind("a finite positive number", lambda value: real(value) and value > 0)
WHOLE = Kind("a whole number", whole)
COUNT = Kind("a whole number of at least 1", lambda value: whole(value) and value >= 1)
SEED = Kind("a whole number of at least 0", lambda value: whole(value) and value >= 0)
POWER = Kind("a whole number from 0 to 1000", lambda value: whole(value) and 0 <= value <= 1000)
TEXT = Kind("text", lambda value: isinstance(value, str))
FLAG = Kind("True or False", lambda value: isinstance(value, (bool, np.bool_)))
FUNCTION = Kind("a function", lambda value: callable(value) and not isinstance(value, type))
PATH = Kind(
    "a path", lambda value: isinstance(value, (str, os.PathLike)) and "\0" not in str(value) and str(value) != ""
)
NUMBERS = Kind("a sequence of finite numbers", _all(real))
COUNTS = Kind("a sequence of whole numbers of at least 1", _all(COUNT.fits))
TEXTS = Kind("a sequence of text", _all(TEXT.fits))
ARRAY = Kind("an array of numbers", _numeric)
