"""Functions made of formulas: several beside each other, and the unit of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfpde.equation.formulas import Formula
from mfpde.support.arguments import whole
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable

__all__ = ["FormulaUnit", "Stack"]


@dataclass(frozen=True)
class Stack(Portable):
    """Formulas of the same variables as features: the first axis of what it gives is theirs.

    Parameters
    ----------
    formulas : tuple of Formula
        One or more.

    Raises
    ------
    ValueError
        For none, what is no formula, and formulas of different variables.
    """

    formulas: tuple[Formula, ...]

    def __post_init__(self) -> None:
        if not self.formulas or not all(isinstance(f, Formula) for f in self.formulas):
            raise ValueError("features need one formula at least, and nothing else")
        if len({f.variables for f in self.formulas}) > 1:
            raise ValueError(f"formulas beside each other have the same variables, not {self.formulas!r}")

    def __call__(self, *coordinates: Array) -> Array:
        """The values of all formulas, shape ``(M, ...)``."""
        shape = np.broadcast_shapes(*(np.shape(x) for x in coordinates))
        return np.stack([np.broadcast_to(f(*coordinates), shape) for f in self.formulas])


@dataclass(frozen=True)
class FormulaUnit(Portable):
    """The unit of a network as a formula of its inputs and its parameters: ``unit(x, *coordinates)``.

    Parameters
    ----------
    formula : Formula
        Its first variables are the inputs, the others the parameters in the order of the axes.
    count : int
        How many inputs there are; one by itself comes as an array of shape ``(m,)``.

    Raises
    ------
    ValueError
        For another number of inputs than the formula has variables for.
    """

    formula: Formula
    count: int = 1

    def __post_init__(self) -> None:
        if not whole(self.count) or not 1 <= self.count <= len(self.formula.variables):
            raise ValueError(f"{self.formula!r} has no {self.count} inputs")

    @classmethod
    def of(cls, formula: Formula) -> FormulaUnit:
        """The unit of a formula whose first variable is the input; or the first ones, where these are x1, x2, ..."""
        names = formula.variables
        count = next((i for i, name in enumerate(names) if name != f"x{i + 1}"), len(names))
        return cls(formula, max(count, 1))

    @staticmethod
    def inputs_named(count: int) -> tuple[str, ...]:
        """What inputs are called in formulas: ``x``, or ``x1``, ``x2``, ... where there are more."""
        return ("x",) if count == 1 else tuple(f"x{i}" for i in range(1, count + 1))

    def __call__(self, x: Array, *coordinates: Array) -> Array:
        """The outputs at inputs ``(m,)`` or ``(m, p)``, shape ``(m, ...)``."""
        shape = np.broadcast_shapes(*(np.shape(theta) for theta in coordinates))
        columns = np.reshape(x, (len(x), -1)).T
        inputs = [column.reshape(-1, *(1,) * len(shape)) for column in columns]
        return np.broadcast_to(self.formula(*inputs, *coordinates), (len(x), *shape))
