"""Names of schedules and of laws along an axis, for text: tables of TOML files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mfpde.equation import schedules
from mfpde.support.arguments import entries, real, shown
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

    if not (real(mean) and real(std) and std > 0):
        raise ValueError(f"a normal law has a finite mean and std > 0, not {shown(mean)} and {shown(std)}")
    return stats.norm(mean, std)


def _uniform(lower: float, upper: float) -> Any:
    from scipy import stats

    if not (real(lower) and real(upper) and lower < upper):
        raise ValueError(f"a uniform law lies between lower < upper, not between {shown(lower)} and {shown(upper)}")
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
    if place is None or (place[0] + place[1]) - place[0] != place[1]:  # its ends would not give its length back
        return None
    return {"lower": place[0], "upper": place[0] + place[1]}


def _of_scipy(family: str, shapes: Sequence[float] = (), loc: float = 0.0, scale: float = 1.0) -> Any:
    from scipy import stats

    found = getattr(stats, family, None) if isinstance(family, str) else None
    if not isinstance(found, stats.rv_continuous):
        raise ValueError(f"family = {shown(family)} is no continuous law of scipy.stats")
    shapes = entries(shapes, "shapes")
    if not all(map(real, (*shapes, loc, scale))):
        raise ValueError(f"shapes, loc and scale must be finite numbers, not {shown([*shapes, loc, scale])}")
    if len(shapes) != found.numargs:
        raise ValueError(f"the law {family!r} has {found.numargs} shape parameters ({found.shapes}), not {len(shapes)}")
    if not (scale > 0 and found._argcheck(*map(float, shapes))):
        raise ValueError(f"the law {family!r} does not take shapes = {list(shapes)} and scale = {scale}")
    return found(*shapes, loc=loc, scale=scale)


def _scipy_values(law: Any) -> dict[str, Any] | None:
    """A frozen law of scipy.stats by the name of its family; none of a family that somebody has made."""
    from scipy import stats

    family = getattr(law, "dist", law)
    known = isinstance(family, stats.rv_continuous) and type(family) is type(getattr(stats, family.name, None))
    if not known:
        return None
    shapes, loc, scale = family._parse_args(*law.args, **law.kwds)
    if not all(map(real, (*shapes, loc, scale))):
        return None
    return {
        "family": family.name,
        "shapes": [float(s) for s in shapes] or None,
        "loc": float(loc),
        "scale": float(scale),
    }


LAWS = Registry(
    "law",
    {
        "normal": Kind(_normal, _normal_values, ("mean", "std")),
        "uniform": Kind(_uniform, _uniform_values, ("lower", "upper")),
        "atom": Kind(lambda atom: atom, lambda law: {"atom": float(law)} if real(law) else None, ("atom",)),
        "scipy": Kind(_of_scipy, _scipy_values, ("family",), ("shapes", "loc", "scale")),
    },
    key="distribution",
)
