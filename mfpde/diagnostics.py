"""What is watched at every step: mass, sign, energy, its dissipation, and how far from optimal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.flow import Evaluation, Flow
from mfpde.grid import End, Grid

__all__ = ["COLUMNS", "EnergyBelow", "GapBelow", "Recorder", "Snapshot", "StopCondition", "end_mass", "optimality_gap"]

Array = NDArray[np.float64]

COLUMNS: dict[str, str] = {
    "time": "time of the state",
    "dt": "length of the step that led to it (0 for the first)",
    "mass": "int dmu",
    "minimum": "smallest cell value of mu",
    "energy": "E[mu], constant included",
    "dissipation_transport": "-dE/dt of the transport, from the fluxes used",
    "dissipation_reaction": "-dE/dt of the reaction",
    "optimality_gap": "mass * (Vbar - min V) >= E - min E for convex E, over measures of the same mass on the mesh",
    "end_mass": "share of the mass in cells next to truncation ends",
    "limiting_cell": "flat index of the cell whose outflow limits the step",
    "error": "estimated L1 error of the step, relative to the mass (nan where the method gives none)",
    "redone": "attempts at the step that were thrown away",
}
"""The per-step diagnostics and what they mean."""


@dataclass(frozen=True)
class Snapshot:
    """What a stop condition sees after each step."""

    time: float
    step: int
    mu: Array
    potential: Array
    energy: float
    optimality_gap: float
    dissipation: float
    """``-dE/dt`` at the state before the step."""


StopCondition = Callable[[Snapshot], bool]


@dataclass(frozen=True)
class EnergyBelow:
    """Stop when the energy has fallen to `value`."""

    value: float

    def __call__(self, snapshot: Snapshot) -> bool:
        """Whether to stop."""
        return snapshot.energy <= self.value


@dataclass(frozen=True)
class GapBelow:
    """Stop when the optimality gap certifies ``E - min E <= value`` (convex E, on the mesh)."""

    value: float

    def __call__(self, snapshot: Snapshot) -> bool:
        """Whether to stop."""
        return snapshot.optimality_gap <= self.value


def optimality_gap(evaluation: Evaluation) -> float:
    r"""``mass * (Vbar - min V)``, an upper bound on ``E - min E`` for convex ``E``.

    By convexity ``E[nu] >= E[mu] + int V[mu] d(nu - mu) >= E[mu] - mass (Vbar - min V)`` for every
    measure ``nu`` of the same mass on the same mesh.
    """
    return evaluation.mass * (evaluation.mean - float(evaluation.V.min()))


def end_layers(grid: Grid) -> list[tuple[slice | int, ...]]:
    """Index expressions of the cell layers next to truncation ends."""
    layers: list[tuple[slice | int, ...]] = []
    for i, axis in enumerate(grid.axes):
        for end, cell in ((axis.lower_end, 0), (axis.upper_end, -1)):
            if end is End.TRUNCATION:
                index: list[slice | int] = [slice(None)] * grid.dimension
                index[i] = cell
                layers.append(tuple(index))
    return layers


def end_mass(mu: Array, grid: Grid, layers: list[tuple[slice | int, ...]] | None = None) -> float:
    """The share of the mass in cells next to truncation ends (corner cells count once for each end)."""
    layers = end_layers(grid) if layers is None else layers
    total = float(mu.sum())
    return sum(float(mu[layer].sum()) for layer in layers) / total if total > 0 else 0.0


@dataclass
class Recorder:
    """Collects one row a step.

    Attributes
    ----------
    rows : dict
        A list for each name in `COLUMNS`.
    responses : list of array
        ``u`` at every recorded time.
    """

    flow: Flow
    rows: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    responses: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._layers = end_layers(self.flow.grid)

    def state(self, time: float, at: Evaluation, dt: float, error: float | None, redone: int) -> float:
        """Record a state; its dissipation and limiting cell follow by `departure`. Returns the gap."""
        gap = optimality_gap(at)
        rows = self.rows
        rows["time"].append(time)
        rows["dt"].append(dt)
        rows["mass"].append(at.mass)
        rows["minimum"].append(float(at.mu.min()))
        rows["energy"].append(at.energy)
        rows["optimality_gap"].append(gap)
        rows["end_mass"].append(end_mass(at.mu, self.flow.grid, self._layers) if self._layers else 0.0)
        rows["error"].append(np.nan if error is None else error)
        rows["redone"].append(redone)
        self.responses.append(at.response)
        return gap

    def departure(self, at: Evaluation, rate: Array, speed: float, alpha: float, cell: int) -> float:
        """Record the dissipation at the last state, from the transport rate of the step that leaves it."""
        transport = -float(np.vdot(at.V, rate)) * self.flow.grid.cell_volume
        reaction = alpha * self.flow.reaction.dissipation(at.mu, at.V, at.mean) if alpha else 0.0
        self.rows["dissipation_transport"].append(speed * transport if transport else 0.0)
        self.rows["dissipation_reaction"].append(speed * reaction if reaction else 0.0)
        self.rows["limiting_cell"].append(cell)
        return self.rows["dissipation_transport"][-1] + self.rows["dissipation_reaction"][-1]

    def arrays(self) -> dict[str, Array]:
        """The rows as arrays."""
        return {
            name: np.array(values, dtype=np.int64 if name in ("limiting_cell", "redone") else np.float64)
            for name, values in self.rows.items()
        }
