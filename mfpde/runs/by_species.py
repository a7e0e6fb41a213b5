"""One species of a run, as panels show a run: what `plot` draws for each label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.equation.species import species_axis
from mfpde.mesh.solution import Solution, marginal_of
from mfpde.runs.traced import Traced
from mfpde.support.arrays import Array

__all__ = ["OneSpecies", "each_species"]


class _Slices(Sequence[Array]):
    """The densities of a species at the save times."""

    def __init__(self, densities: Any, position: int, number: int) -> None:
        self._densities, self._at = densities, (slice(None),) * position + (number,)

    def __len__(self) -> int:
        return len(self._densities)

    def __getitem__(self, i: Any) -> Any:
        return np.asarray(self._densities[i])[self._at]


@dataclass(frozen=True, eq=False)
class OneSpecies:
    """A species of a run.

    Attributes
    ----------
    whole : Solution or Traced
    label : str
    grid : Grid
        Without the axis of labels.
    density : sequence of array
        Its densities, whose integrals are its mass.
    """

    whole: Solution | Traced
    label: str
    grid: Grid
    density: Sequence[Array]

    @property
    def times(self) -> Array:
        """The save times, shape (m,)."""
        return self.whole.times

    @property
    def problem(self) -> Any:
        """What was solved, if that is known."""
        return self.whole.problem

    @property
    def name(self) -> str:
        """The name of the run and the label."""
        return f"{self.whole.name}, {self.label}"

    @cached_property
    def mass(self) -> Array:
        """The mass at the save times, shape (m,)."""
        return np.array([float(mu.sum()) for mu in self.density]) * self.grid.cell_volume

    def index(self, t: float | None) -> int:
        """The position of a save time."""
        return self.whole.index(t)

    def marginal(self, *names: str, t: float | None = None) -> Array:
        """The marginal density over the named axes at a save time."""
        return self.marginal_of(self.density[self.index(t)], *names)

    def marginal_of(self, mu: Array, *names: str) -> Array:
        """The marginal of a density on the mesh of the species."""
        return marginal_of(self.grid, mu, *names)


def each_species(solution: Any) -> list[Any]:
    """The species of a run that has densities, or the run itself where there is one measure."""
    found = species_axis(solution.grid.axes)
    if found is None or isinstance(solution, OneSpecies) or solution.density is None:
        return [solution]
    (i, species), mesh, density = found, solution.grid, solution.density
    grid = Grid((*mesh.axes[:i], *mesh.axes[i + 1 :]), (*mesh.shape[:i], *mesh.shape[i + 1 :]))
    return [OneSpecies(solution, label, grid, _Slices(density, i, k)) for k, label in enumerate(species.labels)]
