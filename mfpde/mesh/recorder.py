"""What is watched at every step: mass, sign, energy, its dissipation, and how far from optimal."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfpde.equation.grid import End, Grid
from mfpde.mesh.record import COLUMNS
from mfpde.mesh.semidiscrete import Evaluation, Flow, FreeEnergy
from mfpde.support.arrays import Array

__all__ = ["COLUMNS", "Recorder", "end_mass", "end_shares", "optimality_gap"]


LEAVING = ("dissipation_transport", "dissipation_reaction", "relative_fisher_information", "limiting_cell")
"""What is known of a state only when it is left."""


def optimality_gap(evaluation: Evaluation) -> float:
    r"""``mass * (Vbar - min V)``, an upper bound on ``E - min E`` for convex ``E``.

    By convexity ``E[nu] >= E[mu] + int V[mu] d(nu - mu) >= E[mu] - mass (Vbar - min V)`` for every
    measure ``nu`` of the same mass on the same mesh.
    """
    return evaluation.mass * (evaluation.mean - evaluation.survey.low)


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


def end_shares(mu: Array, grid: Grid) -> list[tuple[float, float]]:
    """The share of the mass in the first and in the last cells of each axis; 0 where that end is no truncation."""
    total = float(mu.sum())
    shares = []
    for i, axis in enumerate(grid.axes):
        cells = np.moveaxis(mu, i, 0)
        ends = ((axis.lower_end, cells[0]), (axis.upper_end, cells[-1]))
        lower, upper = (float(m.sum()) / total if end is End.TRUNCATION and total > 0 else 0.0 for end, m in ends)
        shares.append((lower, upper))
    return shares


def end_mass(mu: Array, grid: Grid, layers: list[tuple[slice | int, ...]] | None = None) -> float:
    """The share of the mass in cells next to truncation ends (corner cells count once for each end)."""
    layers = end_layers(grid) if layers is None else layers
    total = float(mu.sum())
    return sum(float(mu[layer].sum()) for layer in layers) / total if total > 0 else 0.0


class Responses:
    """``u`` at every recorded time, 8 bytes a number: a list of arrays would take twenty times that."""

    def __init__(self) -> None:
        self._values, self._count, self._width = array("d"), 0, 0

    def append(self, u: Array) -> None:
        """Add a row."""
        self._values.frombytes(np.ascontiguousarray(u, dtype=np.float64).tobytes())
        self._count, self._width = self._count + 1, u.size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> Array:
        first, last, _ = rows.indices(self._count)
        return np.array(self._values[first * self._width : last * self._width]).reshape(last - first, self._width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:]


@dataclass
class Recorder:
    """Collects one row a step.

    Attributes
    ----------
    rows : dict
        Numbers for each name in `COLUMNS`.
    responses : Responses
        ``u`` at every recorded time.
    """

    flow: Flow
    rows: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in COLUMNS})
    responses: Responses = field(default_factory=Responses)

    def __post_init__(self) -> None:
        self._layers = end_layers(self.flow.grid)
        self._certified = self.flow.convex is True

    def go_on(self, diagnostics: Mapping[str, Array], responses: Sequence[Array] | Array) -> None:
        """Take over what a run has recorded up to its last state, which is left anew."""
        unknown = np.full(len(diagnostics["time"]), np.nan)  # of a column that an early file does not have
        for name in self.rows:
            self.rows[name] = array("d", diagnostics.get(name, unknown)[: -1 if name in LEAVING else None])
        for u in responses:
            self.responses.append(u)

    def state(
        self, time: float, at: Evaluation, free: FreeEnergy | None, temperature: float, info: tuple[float, Any, int]
    ) -> float:
        """Record a state; its dissipation and limiting cell follow by `departure`. Returns the gap, or nan.

        Parameters
        ----------
        free : FreeEnergy or None
            None at temperature 0.
        info : (float, float or None, int)
            Length, estimated error and number of thrown away attempts of the step that led here.
        """
        dt, error, redone = info
        gap = (optimality_gap(at) if free is None else free.gap) if self._certified else np.nan
        rows = self.rows
        rows["time"].append(time)
        rows["dt"].append(dt)
        rows["mass"].append(at.mass)
        rows["minimum"].append(at.survey.least)
        rows["energy"].append(at.energy if free is None else free.energy)
        rows["entropy"].append(np.nan if free is None else free.entropy)
        rows["temperature"].append(temperature)
        rows["optimality_gap"].append(gap)
        rows["end_mass"].append(end_mass(at.mu, self.flow.grid, self._layers) if self._layers else 0.0)
        rows["error"].append(np.nan if error is None else error)
        rows["redone"].append(redone)
        self.responses.append(at.response)
        return gap

    def departure(
        self, at: Evaluation, free: FreeEnergy | None, rate: Array, speed: float, alpha: float, cell: int
    ) -> float:
        """Record the dissipation at the last state, from the transport rate of the step that leaves it."""
        flow, rows = self.flow, self.rows
        slope = at.V if free is None else free.slope
        transport = -float(np.vdot(slope, rate)) * flow.grid.cell_volume
        temperature = rows["temperature"][-1]
        rows["relative_fisher_information"].append(np.nan if free is None else transport / temperature / temperature)
        reaction = 0.0
        if alpha and free is None:
            reaction = alpha * flow.reaction.dissipation(at.mu, at.V, at.mean)
        elif alpha:
            reaction = alpha * flow.reaction.free_dissipation(at.mu, at.V, slope, temperature)
        rows["dissipation_transport"].append(speed * transport if transport else 0.0)
        rows["dissipation_reaction"].append(speed * reaction if reaction else 0.0)
        rows["limiting_cell"].append(cell)
        return rows["dissipation_transport"][-1] + rows["dissipation_reaction"][-1]

    def arrays(self) -> dict[str, Array]:
        """The rows as arrays."""
        return {
            name: np.array(values).astype(np.int64 if name in ("limiting_cell", "redone") else np.float64, copy=False)
            for name, values in self.rows.items()
        }
