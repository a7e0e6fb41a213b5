"""Characteristics as pictures read a solution: densities at the save times, on a mesh that holds the mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mfpde.equation.convexity import NO_CERTIFICATE
from mfpde.equation.grid import Grid, moving
from mfpde.equation.problem import Problem
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.solution import marginal_of
from mfpde.support.arrays import Array
from mfpde.support.words import with_digits

__all__ = ["Traced", "traced"]

CELLS = {1: 400, 2: 128}
"""Cells along each axis, by dimension."""
LEFT_OUT = 1e-5
"""Share of the mass beyond either end of the mesh at any save time, at most."""
MARGIN = 0.1
"""By how much of its length the mesh is longer at both ends than what holds the mass."""


class Frames(Sequence[Array]):
    """The densities at the save times, each computed when it is first looked at."""

    def __init__(self, trajectory: Characteristics, grid: Grid) -> None:
        self.trajectory, self.grid = trajectory, grid
        self.held: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.trajectory.times)

    def __getitem__(self, i: Any) -> Any:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i = int(i) % len(self)
        if i not in self.held:
            t = float(self.trajectory.times[i])
            self.held[i] = self.trajectory.density_at(self.grid.points(), t).reshape(self.grid.shape)
        return self.held[i]


@dataclass(frozen=True, eq=False)
class Traced:
    """Characteristics as pictures read them.

    Attributes
    ----------
    trajectory : Characteristics
    grid : Grid
        Of the densities.
    density : Frames or None
        None where the nodes themselves are drawn: there is no density, or it takes minutes.
    """

    trajectory: Characteristics
    grid: Grid
    density: Frames | None = field(repr=False)

    @property
    def problem(self) -> Problem:
        """What was solved."""
        return self.trajectory.problem

    @property
    def name(self) -> str:
        """Its name."""
        return self.problem.name

    @property
    def times(self) -> Array:
        """The save times, shape (m,)."""
        return self.trajectory.times

    @property
    def energy(self) -> Array:
        """The energy at the save times, shape (m,)."""
        return self.trajectory.energy

    @property
    def energy_error(self) -> Array:
        """Its estimated error, shape (m,)."""
        return self.trajectory.energy_error

    @cached_property
    def diagnostics(self) -> dict[str, Array]:
        """Time, energy and dissipation: all at the save times."""
        parts = np.array([self.trajectory.dissipation(float(t)) for t in self.times])
        return {
            "time": self.times,
            "energy": self.energy,
            "dissipation_transport": parts[:, 0],
            "dissipation_reaction": parts[:, 1],
        }

    @property
    def no_certificate(self) -> str:
        """Why there is no optimality gap."""
        return f"{NO_CERTIFICATE} this is a run of nodes"

    @property
    def summary(self) -> str:
        """How it was solved, in a line."""
        found = self.trajectory
        energy = with_digits(self.energy[-1], self.energy_error[-1], most=4)
        parts = [
            f"{found.points.shape[1]} nodes along characteristics",
            "compiled" if found.engine.compiled else "",
            f"error estimate {found.error_estimate:.1e}",
            f"E = {energy} at t = {self.times[-1]:.4g}",
        ]
        return "   ·   ".join(part for part in parts if part)

    @property
    def warnings(self) -> list[str]:
        """What the run wants looked at."""
        found = self.trajectory
        return [] if found.converged else [f"not converged: known to {found.error_estimate:.1e} only"]

    def index(self, t: float | None) -> int:
        """The position of a save time."""
        return self.trajectory.index(t)

    def marginal(self, *names: str, t: float | None = None) -> Array:
        """The marginal density over the named axes at a save time; see `Solution.marginal`."""
        return self.marginal_of(self._frames[self.index(t)], *names)

    def marginal_of(self, mu: Array, *names: str) -> Array:
        """The marginal of a density on the mesh."""
        return marginal_of(self.grid, mu, *names)

    @property
    def _frames(self) -> Frames:
        if self.density is None:
            raise ValueError(
                f"the density of {self.name!r} is not drawn: it has none, or it has {self.grid.dimension} axes and its "
                "characteristics are not compiled; plot() draws the nodes"
            )
        return self.density

    def predict(self, x: Any, t: float | None = None) -> Array:
        """The network's output."""
        return self.trajectory.predict(x, t)


def traced(found: Characteristics) -> Traced:
    """Characteristics as pictures read them, on a mesh that holds the mass at all save times."""
    axes = found.problem.axes
    box = {axis.name: _part(found, i) for i, axis in enumerate(axes) if axis.moves and not axis.periodic}
    dimension = len(moving(axes))
    grid = found.grid(CELLS.get(dimension, 4), box)
    drawn = dimension == 1 or (found.engine.compiled and dimension == 2)
    return Traced(found, grid, Frames(found, grid) if drawn and _has_density(found) else None)


def _has_density(found: Characteristics) -> bool:
    try:
        found.problem.mu_0.log_density(found.points[0, :1])
    except ValueError:
        return False
    return True


def _part(found: Characteristics, i: int) -> tuple[float, float]:
    """The part of axis `i` where the mass is."""
    axis, ends = found.problem.axes[i], []
    for points, weights in zip(found.points[:, :, i], found.weights, strict=True):
        order = np.argsort(points)
        share = np.cumsum(weights[order]) / weights.sum()
        low, high = np.searchsorted(share, (LEFT_OUT, 1.0 - LEFT_OUT))
        ends += [points[order[low]], points[order[min(high, len(order) - 1)]]]
    low, high = min(ends), max(ends)
    more = MARGIN * (high - low) or 0.01 * axis.length
    return max(axis.lower, low - more), min(axis.upper, high + more)
