"""Observables as data: a kind, parameters and an array, as the file of a reference keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mfpde.support.arguments import shown
from mfpde.support.arrays import Array
from mfpde.support.registry import Registry
from mfpde.verification.observables import (
    DecayRate,
    DensityAt,
    EnergyAt,
    Marginal,
    MassIn,
    Moment,
    Observable,
    OutputAt,
)

__all__ = ["ARRAYS", "KINDS", "OTHER", "described", "observable_named", "same_observable"]

KINDS = Registry(
    "observable",
    {
        "energy": EnergyAt,
        "moment": Moment,
        "output": OutputAt,
        "mass": MassIn,
        "marginal": Marginal,
        "decay-rate": DecayRate,
        "density": DensityAt,
    },
)
OTHER = "other"
"""The kind of an observable of one's own: a file keeps its numbers and its name."""
ARRAYS = {"output": "x", "marginal": "edges", "density": "points"}
"""Parameters that are datasets."""


def described(observable: Observable | None) -> tuple[str, dict[str, Any], Array | None]:
    """An observable's kind, its parameters in the types of TOML, and the one that is an array."""
    kind = KINDS.name_of(observable)
    if kind is None:
        return OTHER, {}, None
    parameters = KINDS.to_table(observable)
    del parameters[KINDS.key]
    array = None
    if kind in ARRAYS:
        array = np.array(parameters.pop(ARRAYS[kind]), dtype=np.float64, order="C")
    if "times" in parameters:
        parameters["times"] = [float(t) for t in np.atleast_1d(parameters["times"])]
    if "box" in parameters:
        parameters["box"] = {name: [float(x) for x in ends] for name, ends in parameters["box"].items()}
    return kind, parameters, array


def observable_named(kind: str, parameters: Mapping[str, Any], array: Array | None) -> Observable:
    """The observable of a description.

    Raises
    ------
    ValueError
        If there is none.
    """
    types = {"axis": str, "power": int, "box": dict, "times": list}
    for name, value in parameters.items():
        if type(value) is not types.get(name):
            raise ValueError(f"its parameter {name!r} is {shown(value)}")
    values = dict(parameters)
    if "times" in values:
        values["times"] = tuple(_numbers(values["times"], "times"))
    if "box" in values:
        values["box"] = {str(name): _ends(ends) for name, ends in values["box"].items()}
    if kind in ARRAYS:
        values[ARRAYS[kind]] = array
    return KINDS.from_table({KINDS.key: kind, **values})


def _numbers(values: Any, name: str) -> list[float]:
    if not isinstance(values, list) or not all(type(x) in (int, float) and not math.isnan(x) for x in values):
        raise ValueError(f"its parameter {name!r} is {shown(values)}")
    return [float(x) for x in values]


def _ends(values: Any) -> tuple[float, float]:
    low, high = _numbers(values, "box") if isinstance(values, list) and len(values) == 2 else (1.0, 0.0)
    if not low < high:
        raise ValueError(f"its parameter 'box' is {shown(values)}")
    return low, high


def same_observable(one: Observable | None, other: Observable | None) -> bool:
    """Whether two observables measure the same at the same times."""
    (kind, parameters, array), (kind_2, parameters_2, array_2) = described(one), described(other)
    if kind != kind_2 or kind == OTHER or parameters != parameters_2:
        return False
    return array is array_2 or (array is not None and array_2 is not None and np.array_equal(array, array_2))
