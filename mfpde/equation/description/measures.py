"""Measures as tables: laws by axis, mixtures, densities that are formulas, masses on meshes, clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from mfpde.equation.formulas import number_of
from mfpde.equation.grid import Axis, End, Grid, as_axes
from mfpde.equation.kinds import LAWS
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.mixture import Mixture
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.measures.particles import Particles
from mfpde.equation.measures.product import Dirac, Product
from mfpde.equation.species import Species
from mfpde.support.arguments import entries, member, shown
from mfpde.support.registry import Kind, Registry
from mfpde.support.words import suggestion

__all__ = ["axes_of", "described_axes", "described_measure", "measure_of"]


# ---------------------------------------------------------------------------------------------------------------------
# axes
# ---------------------------------------------------------------------------------------------------------------------


def described_axes(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Axes as tables; ends that are truncations are left out, and of species scales that are 1."""
    tables: list[dict[str, Any]] = []
    for axis in axes:
        kept: dict[str, Any]
        if isinstance(axis, Species):
            kept = {"scales": list(axis.scales)} if axis.scaled else {}
            tables.append({"name": axis.name, "labels": list(axis.labels), **kept})
            continue
        low, high = axis.lower_end, axis.upper_end
        ends = low.value if low is high else [low.value, high.value]
        kept = {} if ends == End.TRUNCATION.value else {"ends": ends}
        tables.append({"name": axis.name, "lower": axis.lower, "upper": axis.upper, **kept})
    return tables


def axes_of(tables: Any) -> tuple[Axis, ...]:
    """The axes of tables."""
    found = []
    for i, table in enumerate(entries(tables, "axes")):
        with within(f"axes[{i}]"):
            given = table_of(table, "an axis")
            found.append(_axis_kind().from_table({"kind": "species" if "labels" in given else "axis", **given}))
    return as_axes(found)


def _axis(name: str, lower: Any, upper: Any, ends: Any = End.TRUNCATION.value) -> Axis:
    pair = ends if isinstance(ends, (list, tuple)) else [ends, ends]
    kinds = tuple(member(End, end, "end of an axis") for end in pair)
    return Axis(name, number_of(lower, "lower"), number_of(upper, "upper"), kinds)  # type: ignore[arg-type]


def _axis_kind() -> Registry:
    kinds = {
        "axis": Kind(_axis, lambda thing: None, ("name", "lower", "upper"), ("ends",)),
        "species": Kind(Species, lambda thing: None, ("name", "labels"), ("scales",)),
    }
    return Registry("axis", kinds)


# ---------------------------------------------------------------------------------------------------------------------
# measures
# ---------------------------------------------------------------------------------------------------------------------


def described_measure(measure: Measure, names: Sequence[str], what: str) -> dict[str, Any]:
    """A measure as a table: of a `Product` the laws by axis, of others their kind and numbers.

    Raises
    ------
    Undeclared
        For a measure of a user's own.
    """

    def described() -> dict[str, Any]:
        if isinstance(measure, Product) and type(measure) in (Product, Dirac):
            return {name: _described_law(law, f"{what}.{name}") for name, law in measure.marginals}
        return declared(_measures(Context(names), what), measure, what, "a measure")

    return or_origin(described, measure, "initial")


def _described_law(law: Any, what: str) -> dict[str, Any]:
    try:
        table = LAWS.to_table(law)
    except ValueError:
        raise Undeclared(what, "a law", shown(law)) from None
    return {"atom": table["atom"]} if "atom" in table else table


def measure_of(table: Any, context: Context, what: str) -> Measure:
    """The measure of a table."""
    with within(what):
        table = table_of(table, "a measure")
        if isinstance(table.get("kind"), str):
            return _measures(context, what).from_table(table)  # type: ignore[no-any-return]
        laws = {}
        for name, law in table.items():
            with within(name):
                if name not in context.names:
                    raise ValueError(f"names no axis; {suggestion(name, context.names)}")
                laws[name] = _law(law)
        if missing := [name for name in context.names if name not in laws]:
            raise ValueError(f"axis {missing[0]!r} is missing")
        return Product(**laws)


def _law(table: Any) -> Any:
    given = table_of(table, "a law")
    return LAWS.from_table({"distribution": "atom", **given} if "atom" in given else given)


def _measures(context: Context, what: str) -> Registry:
    """The kinds of measures that are no product."""

    def density(formula: Any, log: bool = False) -> Density:
        if not isinstance(log, bool):
            raise ValueError(f"log = {shown(log)} must be true or false")
        return Density(function_of(formula, context.names, "formula"), log)

    def described_density(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not Density:
            return None
        return {"formula": described_function(thing.function, context.names, what), "log": thing.log or None}

    def mixture(components: Any) -> Mixture:
        found = []
        for i, table in enumerate(entries(components, "components")):
            given = table_of(table, "a component")
            if set(given) != {"weight", "measure"}:
                raise ValueError(f"components[{i}] must have weight and measure, not {', '.join(given)}")
            found.append((given["weight"], measure_of(given["measure"], context, f"components[{i}].measure")))
        return Mixture(found)

    def described_mixture(thing: Any) -> Mapping[str, Any] | None:
        if type(thing) is not Mixture:
            return None
        parts = [
            {"weight": weight, "measure": described_measure(part, context.names, f"{what}.components[{i}]")}
            for i, (weight, part) in enumerate(thing.components)
        ]
        return {"components": parts}

    def of_problem(problem: str, parameters: Any = None) -> Measure:
        return context.problem(problem, parameters).initial

    return Registry(
        "measure",
        {
            "density": Kind(density, described_density, ("formula",), ("log",)),
            "mixture": Kind(mixture, described_mixture, ("components",)),
            "grid": Kind(_grid_measure, _described_grid, ("axes", "values")),
            "particles": Kind(Particles, _described_particles, ("points",), ("weights",)),
            "of-problem": Kind(of_problem, lambda thing: None, ("problem",), ("parameters",)),
        },
    )


def _grid_measure(axes: Any, values: Any) -> GridMeasure:
    array = np.asarray(values)
    found = axes_of(axes)
    if array.ndim != len(found):
        raise ValueError(f"values of {array.ndim} dimensions on {len(found)} axes")
    return GridMeasure(Grid(found, array.shape), values)


def _described_grid(thing: Any) -> Mapping[str, Any] | None:
    if type(thing) is not GridMeasure:
        return None
    return {"axes": described_axes(thing.grid.axes), "values": thing.values}


def _described_particles(thing: Any) -> Mapping[str, Any] | None:
    if type(thing) is not Particles:
        return None
    assert thing.weights is not None
    equal = bool(np.all(thing.weights == 1.0))
    return {"points": thing.points, "weights": None if equal else thing.weights}
