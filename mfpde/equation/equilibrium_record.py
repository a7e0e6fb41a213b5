"""A stationary state as a file holds it: numbers and plain values, without the object of its problem."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

if TYPE_CHECKING:
    from mfpde.equation.description.whole import Description

__all__ = ["EquilibriumRecord"]


@dataclass(frozen=True, eq=False)
class EquilibriumRecord:
    """What `stationary` finds; `Equilibrium` explains each attribute, and adds the problem and what it answers."""

    grid: Grid
    mu: Array = field(repr=False)
    log_mu: Array = field(repr=False)
    potential: Array = field(repr=False)
    energy: float
    gap: float
    entropy: float
    temperature: float
    convex: bool | None
    converged: bool
    iterations: int
    evaluations: int
    energy_error: float = math.nan
    no_error: str = ""
    _: KW_ONLY  # the problem, which an equilibrium adds, keeps its place
    name: str = "problem"
    fingerprint: str = field(default="", repr=False)
    configuration: dict[str, Any] = field(default_factory=dict, repr=False)
    provenance: dict[str, Any] = field(default_factory=dict, repr=False)
    plain: dict[str, Any] = field(default_factory=dict, repr=False)
    description: Description | None = field(default=None, repr=False)

    @property
    def mass(self) -> float:
        """``int dmu``; 1 except at temperature 0 with the unbalanced reaction."""
        return float(self.mu.sum()) * self.grid.cell_volume
