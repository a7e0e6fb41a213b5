"""Energies as tables: potentials, interactions, networks with their data, moments with a loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mfpde.equation.description.context import (
    Context,
    Undeclared,
    declared,
    described_function,
    function_of,
    or_origin,
    table_of,
    within,
)
from mfpde.equation.description.kernels import described_kernel, kernel_of, without_gradient
from mfpde.equation.energy.activations import ACTIVATIONS, Activation, activation_named
from mfpde.equation.energy.base import Energy
from mfpde.equation.energy.external import Confinement, External
from mfpde.equation.energy.features import Features
from mfpde.equation.energy.interaction import Discrepancy, Interaction
from mfpde.equation.energy.losses import LOSSES, HuberLoss, Loss
from mfpde.equation.energy.network import TwoLayerNetwork
from mfpde.equation.units import FormulaUnit, Stack
from mfpde.support.arguments import entries, name_of, shown
from mfpde.support.registry import Kind, Registry

__all__ = ["described_energy", "energy_of"]


def described_energy(term: Energy, names: Sequence[str], what: str) -> dict[str, Any]:
    """A term of an energy as a table.

    Raises
    ------
    Undeclared
        For a function or a class of a user's own.
    """
    return or_origin(lambda: declared(_energies(Context(names), what), term, what, "an energy"), term, "energy")


def energy_of(tables: Any, context: Context) -> Energy:
    """The sum of the energies of tables."""
    terms = []
    for i, table in enumerate(entries(tables, "energy")):
        with within(f"energy[{i}]"):
            terms.append(_energies(context, f"energy[{i}]").from_table(table_of(table, "an energy")))
    if not terms:
        raise ValueError("energy is empty; it needs at least one term")
    return functools.reduce(lambda one, other: one + other, terms)


def _energies(context: Context, what: str) -> Registry:
    names = tuple(context.names)

    def external(formula: Any, constant: Any = 0.0, axes: Any = None) -> External:
        own = names if axes is None else entries((axes,) if isinstance(axes, str) else axes, "axes")
        return External(function_of(formula, own, "formula"), None, constant, None if axes is None else own)

    def described_external(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not External:
            return None
        formula = described_function(thing.function, names if thing.axes is None else thing.axes, what)
        without_gradient(thing, what)
        return {"formula": formula, "constant": thing.constant or None, "axes": thing.axes}

    def of_problem(problem: Any, parameters: Any = None, term: Any = 0) -> Energy:
        terms = context.problem(problem, parameters).energy.terms
        if isinstance(term, bool) or not isinstance(term, int) or not 0 <= term < len(terms):
            raise ValueError(f"the energy of {problem!r} has terms 0 to {len(terms) - 1}, not {shown(term)}")
        return terms[term]

    return Registry(
        "energy",
        {
            "external": Kind(external, described_external, ("formula",), ("constant", "axes")),
            "confinement": Kind(_confinement, _described_confinement, ("strengths",)),
            **_pair_kinds(context, what),
            "network": Kind(
                _network, functools.partial(_described_network, what), ("x", "y"),
                ("weights", "activation", "loss", "delta", "axes", "roles", "tolerance"),
            ),
            "features": Kind(
                functools.partial(_features, names), functools.partial(_described_features, names, what),
                ("loss", "targets"), ("formulas", "unit", "inputs", "weights", "delta"),
            ),
            "of-problem": Kind(of_problem, lambda thing: None, ("problem",), ("parameters", "term")),
        },
    )  # fmt: skip


def _pair_kinds(context: Context, what: str) -> dict[str, Kind]:
    """The kinds of energies with a kernel."""
    names = context.names

    def interaction(kernel: Any, **numbers: Any) -> Interaction:
        return Interaction(kernel_of(kernel, context, "kernel"), **numbers)

    def described_interaction(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not Interaction:
            return None
        kernel = described_kernel(thing.kernel, names, f"the kernel of {what}")
        return {"kernel": kernel, "weight": thing.weight, "tolerance": thing.tolerance}

    def discrepancy(kernel: Any, points: Any, weights: Any, **numbers: Any) -> Discrepancy:
        return Discrepancy(kernel_of(kernel, context, "kernel"), points, weights, **numbers)

    def described_discrepancy(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not Discrepancy:
            return None
        kernel = described_kernel(thing.kernel, names, f"the kernel of {what}")
        return {"kernel": kernel, "points": thing.points, "weights": thing.weights, "tolerance": thing.tolerance}

    return {
        "interaction": Kind(interaction, described_interaction, ("kernel",), ("weight", "tolerance")),
        "discrepancy": Kind(discrepancy, described_discrepancy, ("kernel", "points", "weights"), ("tolerance",)),
    }


def _confinement(strengths: Any) -> Confinement:
    return Confinement(table_of(strengths, "strengths"))


def _described_confinement(thing: Any) -> Mapping[str, Any] | None:
    return {"strengths": dict(thing.strengths)} if type(thing) is Confinement else None  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------------------------
# networks and moments
# ---------------------------------------------------------------------------------------------------------------------


def _network(
    x: Any, y: Any, *, activation: Any = "tanh", loss: Any = "squared", delta: Any = None, weights: Any = None,
    **rest: Any,
) -> TwoLayerNetwork:  # fmt: skip
    made = TwoLayerNetwork(x, y, weights, _activation(activation), _factory(loss, delta), **rest)
    if weights is not None and made.weights is not None:
        own = np.array(weights, dtype=np.float64)
        if abs(own.sum() - 1.0) < 1e-12:  # they are normalised already, and a second time their last digits would move
            own.flags.writeable = False
            object.__setattr__(made, "weights", own)
    return made


def _described_network(what: str, thing: Any) -> Mapping[str, Any] | None:
    if type(thing) is not TwoLayerNetwork:
        return None
    n = len(thing.x)
    equal = thing.weights is not None and np.array_equal(thing.weights, np.ones(n) / float(n))
    loss, delta = _described_factory(thing.loss, what)
    return {
        "x": thing.x,
        "y": thing.y,
        "weights": None if equal else thing.weights,
        "activation": _described_activation(thing.activation, what),
        "loss": loss,
        "delta": delta,
        "axes": thing.axes,
        "roles": thing.roles,
        "tolerance": thing.tolerance,
    }


def _activation(value: Any) -> Activation:
    if isinstance(value, str):
        return activation_named(value)
    with within("activation"):
        table = {"kind": "own", **table_of(value, "an activation that has no name")}
        return _activation_kind().from_table(table)  # type: ignore[no-any-return]


def _own_activation(function: Any, derivative: Any = None, name: Any = "custom", jumps: Any = False) -> Activation:
    made = [None if f is None else function_of(f, "t", "function") for f in (function, derivative)]
    return Activation(made[0], made[1], name, bool(jumps))  # type: ignore[arg-type]


def _activation_kind() -> Registry:
    keys = ("derivative", "name", "jumps")
    return Registry("activation", {"own": Kind(_own_activation, lambda thing: None, ("function",), keys)})


def _described_activation(activation: Any, what: str) -> str | dict[str, Any]:
    name = activation.name
    known = ACTIVATIONS.get(name) == activation
    if not known and name.startswith("hermite"):
        made = activation_named(name)
        known = _same_partial(made.function, activation.function) and _same_partial(
            made.derivative, activation.derivative
        )
    if known:
        return str(name)
    own = f"the activation of {what}"
    derivative = activation.derivative
    table = {
        "function": described_function(activation.function, "t", own),
        "derivative": None if derivative is None else described_function(derivative, "t", own),
        "name": name,
        "jumps": activation.discontinuous_derivative or None,
    }
    return {key: value for key, value in table.items() if value is not None}


def _same_partial(one: Any, other: Any) -> bool:
    parts = [(f.func, f.args, f.keywords) if isinstance(f, functools.partial) else f for f in (one, other)]
    return bool(parts[0] == parts[1])


def _factory(name: Any, delta: Any) -> Callable[..., Loss]:
    """What makes a loss of targets and weights."""
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"unknown loss {shown(name)}; valid: {', '.join(LOSSES)}")
    if delta is None:
        return LOSSES[name]
    if LOSSES[name] is not HuberLoss:
        raise ValueError(f"delta belongs to loss = 'huber', not to loss = {name!r}")
    return functools.partial(HuberLoss, delta=delta)


def _described_factory(factory: Any, what: str) -> tuple[str, float | None]:
    name = next((name for name, known in LOSSES.items() if known is factory), None)
    if name is not None:
        return name, None
    partial = isinstance(factory, functools.partial) and factory.func is HuberLoss and not factory.args
    if partial and set(factory.keywords) == {"delta"}:
        return "huber", float(factory.keywords["delta"])
    raise Undeclared(f"the loss of {what}", "a function", name_of(factory))


def _features(
    names: Sequence[str], loss: Any, targets: Any, *, formulas: Any = None, unit: Any = None, inputs: Any = None,
    weights: Any = None, delta: Any = None,
) -> Features:  # fmt: skip
    of = _factory(loss, delta)(targets, weights)
    if (formulas is None) == (unit is None) or (unit is None) != (inputs is None):
        raise ValueError("features are a list of formulas, or a unit with inputs")
    if unit is None:
        made = [function_of(f, names, f"formulas[{i}]") for i, f in enumerate(entries(formulas, "formulas"))]
        return Features(Stack(tuple(made)), of)
    points = np.asarray(inputs)
    p = 1 if points.ndim < 2 else points.shape[1]
    return Features(FormulaUnit(function_of(unit, (*FormulaUnit.inputs_named(p), *names), "unit"), p), of, None, inputs)


def _described_features(names: Sequence[str], what: str, thing: Any) -> Mapping[str, Any] | None:
    if type(thing) is not Features:
        return None
    own: Mapping[str, Any]
    if type(thing.function) is Stack:
        own = {"formulas": [described_function(f, names, what) for f in thing.function.formulas]}
    elif type(thing.function) is FormulaUnit:
        variables = (*FormulaUnit.inputs_named(thing.function.count), *names)
        own = {"unit": described_function(thing.function.formula, variables, what), "inputs": thing.inputs}
    else:
        raise Undeclared(what, "a function", name_of(thing.function))
    without_gradient(thing, what)
    loss = next((name for name, known in LOSSES.items() if type(thing.loss) is known), None)
    if loss is None:
        raise Undeclared(f"the loss of {what}", "a loss", type(thing.loss).__name__)
    of: Any = thing.loss
    delta = of.delta if isinstance(of, HuberLoss) else None
    n = len(of.targets)
    weights = None if np.array_equal(of.weights, np.full(n, 1.0 / n)) else of.weights
    return {**own, "loss": loss, "targets": of.targets, "weights": weights, "delta": delta}
