"""What all parts of a description have in common: names of axes, functions that are formulas, words of errors.

A description is a tree of numbers, text, lists and tables, as a TOML file has it, whose leaves may be arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mfpde.equation.formulas import FUNCTIONS, Formula
from mfpde.support.arguments import name_of, shown
from mfpde.support.registry import Registry, plain
from mfpde.support.travel import ORIGIN
from mfpde.support.words import one_line

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem

__all__ = [
    "Context",
    "Undeclared",
    "declared",
    "described_function",
    "described_origin",
    "function_of",
    "mark",
    "or_origin",
    "table_of",
    "within",
]


T = TypeVar("T")


class Undeclared(ValueError):
    """Something that no description holds.

    Parameters
    ----------
    what : str
        Where it stands: "energy[0]".
    kind : str
        What it is: "a function".
    name : str
        What its maker calls it.
    """

    def __init__(self, what: str, kind: str, name: str) -> None:
        self.own = f"{kind} of your own, {name}"
        super().__init__(f"{what} is {self.own}")


class Refused(ValueError):
    """A part of a description that does not fit: where it stands, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


@dataclass(frozen=True)
class Context:
    """What the parts of a description are read with.

    Attributes
    ----------
    names : sequence of str
        The axes of the problem, in their order.
    named : callable, optional
        ``named(name, **parameters)``, a named problem, of which a part may be; without it, there are none.
    """

    names: Sequence[str]
    named: Callable[..., Problem] | None = None
    _made: dict[str, Problem] = field(default_factory=dict, repr=False)

    def problem(self, name: Any, parameters: Any) -> Problem:
        """A named problem, made once."""
        given = table_of({} if parameters is None else parameters, "parameters")
        if not isinstance(name, str) or self.named is None:
            raise ValueError(f"there is no problem {shown(name)}")
        key = repr((name, plain(given)))  # an array says only its ends
        if key not in self._made:
            self._made[key] = self.named(name, **given)
        return self._made[key]


def table_of(value: Any, what: str) -> dict[str, Any]:
    """A table.

    Raises
    ------
    ValueError
        For anything else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a table, not {shown(value)}")
    return dict(value)


@contextmanager
def within(where: str) -> Iterator[None]:
    """Say in one line where it stands what a part of a description is refused for: ``energy[0].kernel: ...``."""
    try:
        yield
    except Undeclared:
        raise
    except Refused as error:
        raise Refused(f"{where}.{error.where}", error.why) from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise Refused(where, one_line(error)) from None


# ---------------------------------------------------------------------------------------------------------------------
# functions
# ---------------------------------------------------------------------------------------------------------------------


def described_function(function: Any, names: Sequence[str], what: str) -> str | dict[str, Any]:
    """A function of variables of the given names as text: a formula, or one of NumPy's that formulas have.

    Raises
    ------
    Undeclared
        For any other: `what` it is.
    """
    if type(function) is Formula:
        if function.variables == tuple(names):
            return function.text
        return {"formula": function.text, "variables": list(function.variables)}
    own = next((name for name, (known, count) in FUNCTIONS.items() if known is function and count == len(names)), None)
    if own is not None:
        return f"{own}({', '.join(names)})"
    raise Undeclared(what, "a function", name_of(function))


def function_of(value: Any, names: Sequence[str], what: str) -> Formula:
    """The function of a text, or of a table with a formula and its variables."""
    with within(what):
        if isinstance(value, str):
            return Formula(value, tuple(names))
        table = table_of(value, "a formula that is no text")
        if set(table) != {"formula", "variables"}:
            raise ValueError(f"{shown(value)} is no formula; write text, such as 'x**2'")
        return Formula(table["formula"], tuple(table["variables"]))


# ---------------------------------------------------------------------------------------------------------------------
# objects of registries
# ---------------------------------------------------------------------------------------------------------------------


def declared(registry: Registry, thing: Any, what: str, kind: str) -> dict[str, Any]:
    """The table of an object of one of the kinds of a registry.

    Raises
    ------
    Undeclared
        For an object of none of them, and for one with a part that no description holds.
    """
    try:
        return registry.to_table(thing, arrays=True)
    except Undeclared:
        raise
    except ValueError:
        raise Undeclared(what, kind, type(thing).__name__) from None


# ---------------------------------------------------------------------------------------------------------------------
# parts of named problems
# ---------------------------------------------------------------------------------------------------------------------


def mark(problem: Problem, name: str, parameters: Mapping[str, Any]) -> None:
    """Note on the parts of a problem which named one they are of."""
    parts = {f"energy.{i}": term for i, term in enumerate(problem.energy.terms)}
    parts |= {part: getattr(problem, part) for part in ("initial", "base", "network")}
    for part, thing in parts.items():
        if hasattr(thing, "__dict__") and not isinstance(thing, type):
            vars(thing)[ORIGIN] = (name, dict(parameters), part)


def or_origin(describing: Callable[[], T], thing: Any, part: str) -> T | dict[str, Any]:
    """What says what something is; of what nothing says, which part of a named problem it is.

    Raises
    ------
    Undeclared
        For what is neither.
    """
    try:
        return describing()
    except Undeclared:
        if (origin := described_origin(thing, part)) is None:
            raise
        return origin


def described_origin(thing: Any, part: str) -> dict[str, Any] | None:
    """Which part of a named problem something is, as a table; None for what is none, or of no such `part`."""
    name, parameters, own = getattr(thing, "__dict__", {}).get(ORIGIN, ("", {}, ""))
    if own.partition(".")[0] != part:
        return None
    given = {key: value for key, value in parameters.items() if value is not None}
    term = {"term": int(own.partition(".")[2])} if "." in own else {}
    return {"kind": "of-problem", "problem": name, "parameters": given, **term}
