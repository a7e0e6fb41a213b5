"""What an energy has, asked before anything is computed: one clear line instead of a run without a drift.

`BoundEnergy.capabilities` is what an energy says of itself. A class from outside of the package says so by what it
implements, and may implement a form that it does not really have, because something was asked to be there: a potential
at points that is 0, or that raises. Such a form is looked at once before it is used, at few points.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, Capability
from mfpde.equation.energy.gradients import check_gradient, probe_points
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["has_points", "plan_on", "require_capability", "require_lyapunov"]


PROBES = 16
"""Points at which an energy is looked at."""
CELLS = {1: 32, 2: 12, 3: 8, 4: 6}
"""Cells along each axis, by dimension, on which its potential on a mesh is held against that at points."""
APART = 0.3
"""Difference of the two, relative to how far they vary, from which they are not the same potential: coarse cells alone
may make a tenth."""


class _Words(NamedTuple):
    """What an energy has without a capability, what is asked of it, and what to do."""

    has: str
    asked: str
    remedy: str


WORDS: dict[Capability, _Words] = {
    "mesh": _Words(
        "has values at points only",
        "its potential on a mesh",
        "follow particles or characteristics, or implement it on a mesh (mfpde.energy.MeshEnergy)",
    ),
    "points": _Words(
        "has values on a mesh only",
        "its potential at points",
        "solve it on a mesh, or implement points (mfpde.energy.PointEnergy)",
    ),
    "response": _Words(
        "does not factorise",
        "a response, finitely many moments of the measure that make its potential",
        "write it with a kernel that factorises, or as mfpde.energy.Features",
    ),
    "curvature": _Words(
        "does not give its second variation", "that in closed form", "implement curvature, or call it quadratic"
    ),
}


def require_capability(bound: BoundEnergy, capability: Capability, who: str) -> None:
    """Refuse an energy that does not have what a computation needs of it.

    Parameters
    ----------
    bound : BoundEnergy
    capability : {"mesh", "points", "response", "curvature"}
    who : str
        What asks: ``"particles.simulate"``.

    Raises
    ------
    ValueError
        With the summand, what it lacks and what to do; for a class from outside also where its values at points fail,
        are not those on a mesh, or have another gradient than the one given.
    """
    for part in bound.parts:
        if capability not in part.capabilities:
            which = capability if capability == "mesh" or "points" in part.capabilities else "points"
            _refuse(part, who, which, WORDS[which].has)
        if capability != "mesh" and _foreign(part):
            if why := _fails_at_points(part, gradient=True) or _differs_at_points(part):
                _refuse(part, who, "points", f"{WORDS['points'].has}: {why}")
            _check_gradient(part)


def _check_gradient(part: BoundEnergy) -> None:
    """Hold the gradient of a potential against its differences."""
    measure = part.response(probe_points(part.axes, PROBES), np.full(PROBES, 1.0 / PROBES))
    check_gradient(part.label, part.axes, lambda x: part.potential(x, measure), lambda x: part.gradient(x, measure))


def _refuse(part: BoundEnergy, who: str, capability: Capability, has: str) -> None:
    words = WORDS[capability]
    raise ValueError(f"{part.label} {has}; {who} needs {words.asked}: {words.remedy}")


def require_lyapunov(bound: BoundEnergy, who: str) -> None:
    """Refuse potentials that are the first variation of nothing where something is minimised."""
    for part in bound.parts:
        if not part.lyapunov:
            raise ValueError(
                f"{part.label} is a potential that is not the first variation of an energy (lyapunov = False); {who} "
                "minimises one: run solve until the density is steady (stop=SteadyState)"
            )


def has_points(bound: BoundEnergy) -> bool:
    """Whether an energy has values at points: it says so, and an evaluation of V and E there does not fail."""
    if "points" not in bound.capabilities:
        return False
    return not any(_fails_at_points(part) or (_foreign(part) and _differs_at_points(part)) for part in bound.parts)


def plan_on(bound: BoundEnergy, grid: Grid) -> GridEnergy | None:
    """The energy on a mesh, None where it has no finite values: some are made for few meshes, or refuse fine ones."""
    if "mesh" not in bound.capabilities:
        return None
    try:
        plan = bound.on(grid)
        V, energy, _ = plan.evaluate(np.full(grid.shape, 1.0 / (grid.size * grid.cell_volume)))
    except MemoryError:
        raise
    except Exception:  # whatever a function of the user's does on a mesh that it is not made for
        return None
    return plan if np.isfinite(V).all() and (np.isfinite(energy) or not bound.lyapunov) else None


def _foreign(part: BoundEnergy) -> bool:
    """Whether the class is not of this package."""
    return not type(part).__module__.startswith("mfpde.")


def _fails_at_points(part: BoundEnergy, gradient: bool = False) -> str:
    """How evaluations at points fail, of V and E or of the gradient as well; empty where they do not."""
    points, weights = probe_points(part.axes, PROBES), np.full(PROBES, 1.0 / PROBES)
    try:
        response = part.response(points, weights)
        part.potential(points, response)
        part.energy(points, weights, response)
        if gradient:
            part.gradient(points, response)
    except MemoryError:
        raise
    except Exception as error:  # whatever a class of the user's does in place of what it does not have
        text = " ".join(str(error).split())
        return f"at points there is {type(error).__name__}" + (f" ({text})" if text else "")
    return ""


def _differs_at_points(part: BoundEnergy) -> str:
    """How the potential at points differs from that on a mesh; empty where it does not, or where nobody can tell."""
    grid = Grid(part.axes, CELLS[len(part.axes)])
    plan = plan_on(part, grid)
    if plan is None:
        return ""
    density = np.ones(grid.shape)
    for axis, x in zip(part.axes, grid.mesh(), strict=True):
        density = density * (1.0 + 0.5 * np.cos(2.0 * np.pi * (x - axis.lower) / axis.length - 1.0))
    density /= density.sum() * grid.cell_volume
    on_mesh = plan.evaluate(density)[0].ravel()
    points, weights = grid.points(), density.ravel() * grid.cell_volume
    at_points = part.potential(points, part.response(points, weights))
    if not (np.isfinite(on_mesh).all() and np.isfinite(at_points).all()):
        return ""
    spread = max(_spread(on_mesh), _spread(at_points))
    level = max(float(np.abs(on_mesh).max()), float(np.abs(at_points).max()))
    if not _spread(on_mesh - at_points) > APART * spread + 1e-10 * level:
        return ""
    return (
        f"at points its potential varies by {_spread(at_points):.3g} over the box where the one on a mesh varies by "
        f"{_spread(on_mesh):.3g}, and they are not the same"
    )


def _spread(values: Array) -> float:
    return float(np.ptp(values))
