"""Pair kernels as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfpde.equation.description.context import (
    Context,
    Undeclared,
    declared,
    described_function,
    function_of,
    table_of,
    within,
)
from mfpde.equation.energy.axis_kernels import AxisKernel, CallableKernel, CosineKernel, GaussianKernel, LinearKernel
from mfpde.equation.energy.kernels import Kernel, PairKernel, SeparableKernel, TranslationInvariantKernel
from mfpde.support.arguments import name_of
from mfpde.support.registry import Kind, Registry

__all__ = ["described_kernel", "kernel_of", "without_gradient"]


def described_kernel(kernel: Kernel, names: Sequence[str], what: str) -> dict[str, Any]:
    """A kernel as a table.

    Raises
    ------
    Undeclared
        For a function or a class of a user's own.
    """
    return declared(_kernels(names, what), kernel, what, "a kernel")


def kernel_of(table: Any, context: Context, what: str) -> Kernel:
    """The kernel of a table."""
    with within(what):
        return _kernels(context.names, what).from_table(table_of(table, "a kernel"))  # type: ignore[no-any-return]


def without_gradient(thing: Any, what: str) -> None:
    """Refuse the gradient of a formula: it would be a function of a user's own."""
    if thing.gradient is not None:
        raise Undeclared(f"the gradient of {what}", "a function", name_of(thing.gradient))


def _kernels(names: Sequence[str], what: str) -> Registry:
    def separable(factors: Any) -> SeparableKernel:
        made = {}
        for name, table in table_of(factors, "factors").items():
            with within(f"factors.{name}"):
                made[name] = _axis_kernels(what).from_table(table_of(table, "a kernel along an axis"))
        return SeparableKernel(made)

    def described_separable(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not SeparableKernel:
            return None
        return {"factors": {name: _described_factor(k, f"{what}, axis {name!r}") for name, k in thing.kernels.items()}}

    def of_formula(made: Callable[..., Kernel], variables: Sequence[str]) -> Kind:
        def described(thing: Any) -> Mapping[str, Any] | None:
            if type(thing) is not made:
                return None
            formula = described_function(thing.function, variables, what)
            without_gradient(thing, what)
            return {"formula": formula}

        return Kind(lambda formula: made(function_of(formula, variables, "formula")), described, ("formula",))

    return Registry(
        "kernel",
        {
            "separable": Kind(separable, described_separable, ("factors",)),
            "translation-invariant": of_formula(TranslationInvariantKernel, names),
            "pair": of_formula(PairKernel, (*names, *(f"other_{name}" for name in names))),
        },
    )


def _described_factor(kernel: AxisKernel, what: str) -> dict[str, Any]:
    return declared(_axis_kernels(what), kernel, what, "a kernel")


def _axis_kernels(what: str) -> Registry:
    def made(formula: Any, derivative: Any = None, translation_invariant: Any = False) -> CallableKernel:
        slope = None if derivative is None else function_of(derivative, ("x", "y"), "derivative")
        return CallableKernel(function_of(formula, ("x", "y"), "formula"), slope, translation_invariant)

    def described(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not CallableKernel:
            return None
        slope = thing.derivative
        return {
            "formula": described_function(thing.function, ("x", "y"), what),
            "derivative": None if slope is None else described_function(slope, ("x", "y"), what),
            "translation_invariant": thing.translation_invariant or None,
        }

    return Registry(
        "kernel along an axis",
        {
            "gaussian": GaussianKernel,
            "linear": LinearKernel,
            "cosine": CosineKernel,
            "function": Kind(made, described, ("formula",), ("derivative", "translation_invariant")),
        },
    )
