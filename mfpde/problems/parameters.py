"""What a problem was made of: its constructor's arguments, as a file can hold them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import numpy as np

from mfpde.equation.description.context import mark
from mfpde.equation.problem import Problem
from mfpde.support.registry import plain

__all__ = ["with_parameters"]

P = ParamSpec("P")


def with_parameters(constructor: Callable[P, Problem]) -> Callable[P, Problem]:
    """A constructor whose problems have all its arguments as `Problem.parameters`, in the order of the signature.

    Built again from them, a problem is the same one. Arguments are written as plain values: a member of an enum as its
    value, numbers of NumPy as Python's, sequences and arrays as lists of floats. For an argument that is None the
    constructor may say what it came to, as an entry of ``parameters`` of the problem that it makes. The parts of the
    problem know whose they are, so that files can hold a problem that is made of them.
    """
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def call(*arguments: P.args, **named: P.kwargs) -> Problem:
        problem = constructor(*arguments, **named)
        given = signature.bind(*arguments, **named)
        given.apply_defaults()
        chosen = problem.parameters or {}
        found = {name: chosen.get(name) if value is None else _plain(value) for name, value in given.arguments.items()}
        # the problem is new and nobody has seen it: to make it a second time would warn a second time
        object.__setattr__(problem, "parameters", found)
        mark(problem, problem.name, found)
        return problem

    return call


def _plain(value: Any) -> Any:
    """An argument in the types of a text file."""
    sequence = isinstance(value, (list, tuple, np.ndarray))
    return plain(np.asarray(value, dtype=np.float64) if sequence else value)
