"""Names of schedules and of laws along an axis, for text: tables of TOML files."""

from __future__ import annotations

from typing import Any

from mfpde.equation import schedules
from mfpde.support.arguments import real
from mfpde.support.registry import Kind, Registry

__all__ = ["LAWS", "SCHEDULES"]

SCHEDULES = Registry(
    "schedule",
    {
        "constant": schedules.Constant,
        "piecewise-linear": schedules.PiecewiseLinear,
        "power-law": schedules.PowerLaw,
        "exponential-decay": schedules.ExponentialDecay,
        "inverse-log": schedules.InverseLog,
    },
)
"""A function of a user's own has no name: a file cannot hold it."""


def _normal(mean: float, std: float) -> Any:
    from scipy import stats

    return stats.norm(mean, std)


def _uniform(lower: float, upper: float) -> Any:
    from scipy import stats

    return stats.uniform(lower, upper - lower)


def _place(law: Any, name: str) -> tuple[float, float] | None:
    """Location and scale of a frozen distribution of SciPy, if it has this name."""
    if getattr(getattr(law, "dist", None), "name", None) != name:
        return None
    found = {"loc": 0.0, "scale": 1.0, **dict(zip(("loc", "scale"), law.args, strict=False)), **law.kwds}
    return float(found["loc"]), float(found["scale"])


def _normal_values(law: Any) -> dict[str, float] | None:
    place = _place(law, "norm")
    return None if place is None else {"mean": place[0], "std": place[1]}


def _uniform_values(law: Any) -> dict[str, float] | None:
    place = _place(law, "uniform")
    return None if place is None else {"lower": place[0], "upper": place[0] + place[1]}


LAWS = Registry(
    "law",
    {
        "normal": Kind(_normal, _normal_values, ("mean", "std")),
        "uniform": Kind(_uniform, _uniform_values, ("lower", "upper")),
        "atom": Kind(lambda atom: atom, lambda law: {"atom": float(law)} if real(law) else None, ("atom",)),
    },
    key="distribution",
)
