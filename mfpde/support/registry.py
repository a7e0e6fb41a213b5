"""Objects as text: kinds that have names, the tables and the lines that stand for their objects, and back.

A `Registry` has the kinds of one sort, such as transport schemes; each wing lists its own (`mfpde.mesh.kinds`,
`mfpde.equation.kinds`, the observables). In a TOML file an object is a table, ``{transport = "weno5", tail_ratio =
1e4}``; in the attributes of an HDF5 file a line, ``Weno5(tail_ratio=10000.0)``. Nothing that is read is executed.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfpde.support.arguments import member, shown
from mfpde.support.words import one_line, suggestion

__all__ = ["Kind", "Registry", "described", "plain"]

LONGEST = 4000
"""Letters of a line: an attribute of a file holds 64 KiB."""


def plain(value: Any, *, arrays: bool = False) -> Any:
    """A value in the types of TOML: members of enums as their values, numbers of NumPy as Python's, arrays as lists.

    With `arrays` these stay what they are.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry, arrays=arrays) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, arrays=arrays) for entry in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.ndarray) and arrays:
        return value
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def described(thing: Any) -> str:
    """An object of any class in one line, ``Muscl(limiter=Limiter.MC)``; the same line in every process.

    Of an object that is not a dataclass and has no words of its own it has the class and the attributes.
    """
    kind = type(thing)
    if dataclasses.is_dataclass(thing):
        own = {entry.name: (entry, getattr(thing, entry.name)) for entry in dataclasses.fields(thing)}
        # what a class leaves out of its own words is its default, or has to be said all the same
        values = {
            name: value
            for name, (entry, value) in own.items()
            if entry.repr or (entry.init and _word(value) != _word(entry.default))
        }
    elif kind.__repr__ is object.__repr__:
        values = dict(getattr(thing, "__dict__", {}))
    else:
        return _word(thing)
    text = f"{kind.__qualname__}({', '.join(f'{name}={_word(value)}' for name, value in values.items())})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {zlib.crc32(text.encode()):08x}"


def _word(value: Any) -> str:
    """A value in a line: as Python writes it, where that is the same in every process."""
    if type(value) in (float, int, bool):  # as below, in less time
        return repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, np.ndarray):
        return f"array({value.shape}, {zlib.crc32(np.ascontiguousarray(value).tobytes()):08x})"
    if isinstance(value, np.generic):
        return repr(value.item())
    if type(value) in (list, tuple):
        inner = ", ".join(map(_word, value))
        comma = "," if len(value) == 1 else ""
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{comma})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return described(value)
    try:
        return _lasting(one_line(repr(value)))
    except Exception:  # an object whose own text fails
        return type(value).__qualname__


def _lasting(text: str) -> str:
    """A text without addresses, which functions and the like have in theirs: they differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


@dataclass(frozen=True)
class Kind:
    """How objects of one kind are made of the values of their keys, and the other way round.

    Attributes
    ----------
    make : callable
        The object of the keys' values, given by name.
    values : callable
        The values of an object's keys; None where the object is of another kind.
    required, optional : sequence of str
        The keys.
    called : str
        The class, as a line has it; empty where no line stands for such objects.
    enums : mapping
        The enums whose members a line may name.
    """

    make: Callable[..., Any]
    values: Callable[[Any], Mapping[str, Any] | None]
    required: Sequence[str]
    optional: Sequence[str] = ()
    called: str = ""
    enums: Mapping[str, type[enum.Enum]] = field(default_factory=dict)

    @classmethod
    def of(cls, made: type) -> Kind:
        """The kind of a dataclass: the arguments of its constructor are the keys."""
        own = [entry for entry in dataclasses.fields(made) if entry.init]
        defaults = {entry.name: entry.default for entry in own if entry.default is not dataclasses.MISSING}

        def make(**values: Any) -> Any:
            for name, default in defaults.items():
                if isinstance(default, enum.Enum) and name in values:
                    values[name] = member(type(default), values[name], name)
            return made(**values)

        return cls(
            make=make,
            values=lambda thing: {f.name: getattr(thing, f.name) for f in own} if type(thing) is made else None,
            required=[entry.name for entry in own if entry.name not in defaults],
            optional=list(defaults),
            called=made.__name__,
            enums={found.__name__: found for found in _enums(tuple(defaults.values()))},
        )


def _enums(value: Any) -> Iterator[type[enum.Enum]]:
    """The enums that have members in a default."""
    if isinstance(value, enum.Enum):
        yield type(value)
    elif isinstance(value, tuple):
        for entry in value:
            yield from _enums(entry)


class Registry(Mapping[str, Kind]):
    """Kinds of objects by name.

    Parameters
    ----------
    what : str
        What they are, for messages: "transport scheme".
    kinds : mapping of str to type or Kind
        A dataclass, or how objects of another class are made.
    key : str
        Under which a table has the kind's name.
    """

    def __init__(self, what: str, kinds: Mapping[str, type | Kind], key: str = "kind") -> None:
        self.what, self.key = what, key
        self._kinds = {name: kind if isinstance(kind, Kind) else Kind.of(kind) for name, kind in kinds.items()}
        self._by_class = {kind.called: kind for kind in self._kinds.values() if kind.called}

    def __getitem__(self, name: str) -> Kind:
        """The kind of a name."""
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._kinds)

    def __len__(self) -> int:
        """The number of kinds."""
        return len(self._kinds)

    def keys_of(self, within: Mapping[str, Any]) -> dict[str, tuple[list[str], list[str]]]:
        """The required and the optional keys of each kind, those that are in `within`."""
        return {
            name: ([key for key in kind.required if key in within], [key for key in kind.optional if key in within])
            for name, kind in self._kinds.items()
        }

    def name_of(self, thing: Any) -> str | None:
        """The name of an object's kind; None for one that has none, as that of a user's own class."""
        return next((name for name, kind in self._kinds.items() if kind.values(thing) is not None), None)

    def to_table(self, thing: Any, *, arrays: bool = False) -> dict[str, Any]:
        """The table of an object: its kind and the values of its keys, without those that are None; see `plain`.

        Raises
        ------
        ValueError
            For an object of none of the kinds.
        """
        for name, kind in self._kinds.items():
            if (values := kind.values(thing)) is not None:
                given = {key: plain(value, arrays=arrays) for key, value in values.items() if value is not None}
                return {self.key: name, **given}
        raise ValueError(f"{shown(thing)} is no {self.what} that has a name; valid: {', '.join(self)}")

    def from_table(self, table: Mapping[str, Any]) -> Any:
        """The object of a table; keys that are left out have their defaults.

        Raises
        ------
        ValueError
            For an unknown kind or key, a key that is missing, and what the object itself refuses.
        """
        values = {key: value for key, value in table.items() if key != self.key}
        name = table.get(self.key)
        if not isinstance(name, str) or name not in self._kinds:
            raise ValueError(f"unknown {self.what} {shown(name)}; {suggestion(name, self)}")
        kind = self._kinds[name]
        for key in values:
            if key not in (*kind.required, *kind.optional):
                valid = suggestion(key, (*kind.required, *kind.optional))
                raise ValueError(f"{self.what} {name!r} has no {key!r}; {valid}")
        for key in kind.required:
            if key not in values:
                raise ValueError(f"{self.what} {name!r} needs {', '.join(kind.required)}; {key!r} is missing")
        return kind.make(**values)

    def to_text(self, thing: Any) -> str:
        """The line of an object, also of one of a user's own class, which `from_text` then refuses."""
        text = described(thing)
        ours = type(thing).__name__ in self._by_class and self.name_of(thing) is None
        return f"{type(thing).__module__}.{text}" if ours else text

    def says(self, text: Any, thing: Any) -> bool:
        """Whether a line is that of an object, as `to_text` writes it or as early files have it: as its ``repr``."""
        if text == self.to_text(thing):
            return True
        early = re.sub(r"np\.float64\(([^()]*)\)", r"\1", one_line(repr(thing)))
        return _lasting(str(text)) == _lasting(early)

    def from_text(self, text: Any) -> Any:
        """The object of a line.

        Raises
        ------
        ValueError
            For what is not the whole line of an object of one of the kinds.
        """
        try:
            call = ast.parse(str(text), mode="eval").body
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
                kind = self._by_class[call.func.id]
                made = kind.make(**{str(word.arg): _read(word.value, kind) for word in call.keywords})
                # a file of another version may say less, or more
                if self.to_text(made) == text:
                    return made
        except (SyntaxError, LookupError, TypeError, ValueError, RecursionError, MemoryError):
            pass
        raise ValueError(f"{shown(text)} is no {self.what} that mfpde has; valid: {', '.join(self._by_class)}")


def _read(node: ast.expr, kind: Kind) -> Any:
    """A number, a sequence of such, or a member of an enum."""
    if isinstance(node, (ast.Tuple, ast.List)):
        entries = [_read(entry, kind) for entry in node.elts]
        return tuple(entries) if isinstance(node, ast.Tuple) else entries
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return kind.enums[node.value.id][node.attr]
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    return ast.literal_eval(node)
