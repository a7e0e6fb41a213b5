"""Formulas: functions written as text, which files hold and nothing executes.

Text becomes a small tree of numbers, names and functions of a fixed list: Python's own parser reads it, and what is not
on the list is refused. The tree is walked with NumPy's functions; neither `eval` nor `exec` is near it.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.support.arguments import entries, shown
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable
from mfpde.support.words import one_line, suggestion

__all__ = ["CONSTANTS", "FUNCTIONS", "Formula", "number_of"]

LONGEST = 1000
"""Letters of a formula."""
DEEPEST = 100
"""Operations within each other: of a sum of so many terms, too."""
LARGEST = 1e100
"""Numbers in a formula are at most this large."""
MOST_POWER = 100.0
"""Exponents that are numbers are at most this large."""

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
"""Names that stand for numbers, unless a variable has them."""


def _erf(x: Array) -> Array:
    from scipy.special import erf

    return np.asarray(erf(x))


FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int]] = {
    **{name: (getattr(np, name), 1) for name in ("exp", "expm1", "log", "log1p", "sqrt", "abs", "sign")},
    **{name: (getattr(np, name), 1) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "asin": (np.arcsin, 1),
    "acos": (np.arccos, 1),
    "atan": (np.arctan, 1),
    "atan2": (np.arctan2, 2),
    "hypot": (np.hypot, 2),
    "min": (np.minimum, 2),
    "max": (np.maximum, 2),
    "erf": (_erf, 1),
}
"""The functions of a formula, and how many arguments each has."""

_BINARY: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: Mapping[type, Callable[..., Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|(?P<name>[^\W\d]\w*)|\*\*|[-+*/(),]"
)
_REMEDIES = {"^": "write x**2 for a power", "[": "there is no indexing", "'": "there is no text in a formula"}

Node = Any
"""A number, the position of a variable, or a function with the nodes that it is applied to."""


@dataclass(frozen=True)
class Formula(Portable):
    """A function of some variables, written as text: ``Formula("exp(-x**2/2) + y", ("x", "y"))``.

    It is called like any function of a place, ``f(*coordinates)``, and stands wherever one is asked for: as a
    potential, a density, a base measure or a rate, and of the time as a schedule. Unlike a function of Python, a file
    can hold it.

    Parameters
    ----------
    text : str
        Numbers, variables, ``+ - * / **``, brackets, ``pi``, ``e``, and functions of `FUNCTIONS`. At most 1000
        letters, 100 operations within each other, numbers up to 1e100, and powers up to 100.
    variables : str or sequence of str
        The names of the arguments, in their order. The formula need not name all of them.

    Raises
    ------
    ValueError
        For text that is no such formula, in one line that says what is wrong with it.

    Notes
    -----
    Where a formula has no value, as ``log(x)`` below 0, it gives NaN or infinity, and who asks for values refuses them.
    Nothing in the text is executed: Python's parser reads it, and its tree is compared with a short list.

    Examples
    --------
    >>> well = Formula("(x**2 - 1)**2", "x")
    >>> well(np.array([0.0, 1.0, 2.0]))
    array([1., 0., 9.])
    >>> Formula("__import__('os')", "x")
    Traceback (most recent call last):
    ...
    ValueError: formula "__import__('os')": "'" has no place here; there is no text in a formula
    """

    text: str
    variables: tuple[str, ...]

    def __post_init__(self) -> None:
        names = (self.variables,) if isinstance(self.variables, str) else entries(self.variables, "variables")
        if not all(isinstance(name, str) and name.isidentifier() for name in names) or len({*names}) != len(names):
            raise ValueError(f"the variables of a formula are different names, not {shown(names)}")
        if not isinstance(self.text, str):
            raise ValueError(f"a formula is text, not {shown(self.text)}")
        object.__setattr__(self, "variables", names)
        _tree(self.text, names)

    @property
    def used(self) -> tuple[str, ...]:
        """The variables that it names, in their order."""
        found: set[int] = set()
        _positions(_tree(self.text, self.variables), found)
        return tuple(self.variables[i] for i in sorted(found))

    def __call__(self, *values: Any) -> Array:
        """The values at coordinates that broadcast, one for each variable."""
        if len(values) != len(self.variables):
            raise ValueError(f"{self!r} has {len(self.variables)} variables, not {len(values)}")
        arrays = [np.asarray(value, dtype=np.float64) for value in values]
        with np.errstate(all="ignore"):  # who asks sees what is not finite
            found = np.asarray(_value(_tree(self.text, self.variables), arrays))
        return found if found.ndim or not arrays else np.full(np.broadcast(*arrays).shape, found)

    def __repr__(self) -> str:
        return f"Formula({self.text!r}, {self.variables!r})"

    @property
    def __name__(self) -> str:
        """The text: by it energies call their functions."""
        return self.text


def number_of(value: Any, what: str) -> float:
    """A number, or one that a formula without variables stands for, such as ``"2*pi"``.

    Raises
    ------
    ValueError
        For anything else, and for what is not finite.
    """
    if isinstance(value, str):
        found = float(Formula(value, ())())
        if not math.isfinite(found):
            raise ValueError(f"{what} = {shown(value)} must be finite")
        return found
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} = {shown(value)} must be a number")
    return value


def _value(node: Node, arrays: Sequence[Array]) -> Any:
    if isinstance(node, tuple):
        function, *parts = node
        return function(*(_value(part, arrays) for part in parts))
    return arrays[node] if isinstance(node, int) else node


def _positions(node: Node, found: set[int]) -> None:
    if isinstance(node, tuple):
        for part in node[1:]:
            _positions(part, found)
    elif isinstance(node, int):
        found.add(node)


# ---------------------------------------------------------------------------------------------------------------------
# text becomes a tree
# ---------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=512)
def _tree(text: str, variables: tuple[str, ...]) -> Node:
    def refuse(why: str) -> ValueError:
        return ValueError(f"formula {shown(text)}: {why}")

    if len(text) > LONGEST:
        raise refuse(f"it has {len(text)} letters; at most {LONGEST} are read")
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            rest = text[at : at + 12]
            remedy = next((f"; {words}" for start, words in _REMEDIES.items() if rest.startswith(start)), "")
            wrong = re.match(r"[\w.]+", rest)
            raise refuse(f"{(wrong[0] if wrong else rest[0])!r} has no place here{remedy}")
        at = token.end()
    try:
        # one line: what is in brackets may be broken in Python, what is not may not
        body = ast.parse(" ".join(text.split()), mode="eval").body
        return _node(body, variables, 1)
    except SyntaxError as error:
        raise refuse(f"it is not complete or not in order ({one_line(error.msg)})") from None
    except (RecursionError, MemoryError, OverflowError):
        raise refuse("it is nested too deeply, or has numbers of too many digits") from None
    except ValueError as error:
        raise refuse(one_line(error)) from None


def _node(node: ast.expr, variables: tuple[str, ...], depth: int) -> Node:
    """The tree of a parser's node: what is not on the list is refused."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} operations are within each other")
    if isinstance(node, ast.Constant):
        return _number(node.value)
    if isinstance(node, ast.Name):
        if node.id in variables:
            return variables.index(node.id)
        if node.id in CONSTANTS:
            return np.float64(CONSTANTS[node.id])
        why = f"{node.id!r} is a function and needs brackets" if node.id in FUNCTIONS else f"{node.id!r} is unknown"
        raise ValueError(f"{why}; {suggestion(node.id, (*variables, *CONSTANTS))}")
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)], _node(node.operand, variables, depth + 1)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = (_node(part, variables, depth + 1) for part in (node.left, node.right))
        if isinstance(node.op, ast.Pow) and abs(power := _constant(right)) > MOST_POWER:
            raise ValueError(f"the power {power:g} is beyond {MOST_POWER:g}")
        return _BINARY[type(node.op)], left, right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id, variables, depth)
    raise ValueError(f"{_words(node)} has no place in a formula")


def _call(node: ast.Call, name: str, variables: tuple[str, ...], depth: int) -> Node:
    if name not in FUNCTIONS:
        raise ValueError(f"function {name!r} is unknown; {suggestion(name, FUNCTIONS)}")
    function, count = FUNCTIONS[name]
    if node.keywords or len(node.args) != count:
        raise ValueError(f"{name} takes {count} argument{'s' * (count > 1)}, not {len(node.args) + len(node.keywords)}")
    return function, *(_node(part, variables, depth + 1) for part in node.args)


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{shown(value)} is no number")
    if not abs(value) <= LARGEST:
        raise ValueError(f"the number {shown(value)} is beyond {LARGEST:g}")
    return np.float64(value)


def _constant(node: Node) -> float:
    """The value of an exponent without variables; 0 for one that has some."""
    found: set[int] = set()
    _positions(node, found)
    with np.errstate(all="ignore"):
        return 0.0 if found else float(_value(node, ()))


def _words(node: ast.expr) -> str:
    """What a part of a formula is, for messages."""
    names = {ast.IfExp: "'if'", ast.BoolOp: "'and' or 'or'", ast.Tuple: "a comma", ast.Attribute: "a dot"}
    return names.get(type(node), f"this ({type(node).__name__})")
