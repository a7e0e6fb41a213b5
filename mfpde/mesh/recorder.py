"""What is watched at every step: mass, sign, energy, its dissipation, and how far from optimal."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfpde.equation.grid import End, Grid
from mfpde.equation.species import Species, slices_of
from mfpde.mesh.compiled import run_structures
from mfpde.mesh.record import COLUMNS, LEAVING
from mfpde.mesh.semidiscrete import Departure, Evaluation, Flow, FreeEnergy
from mfpde.support.arrays import Array

__all__ = ["COLUMNS", "Recorded", "Recorder", "StepMade", "end_mass", "end_shares", "more_columns", "optimality_gap"]


def optimality_gap(evaluation: Evaluation, apart: tuple[int, Species] | None = None) -> float:
    r"""``mass * (Vbar - min V)``, an upper bound on ``E - min E`` for convex ``E``.

    Of species that keep their masses `apart` it is the sum of theirs.

    By convexity ``E[nu] >= E[mu] + int V[mu] d(nu - mu) >= E[mu] - mass (Vbar - min V)`` for every
    measure ``nu`` of the same mass on the same mesh.
    """
    if apart is not None:
        volume = evaluation.mass / evaluation.survey.total
        return sum(float(mu.sum()) * volume * regret for mu, regret in _regrets(evaluation, apart))
    return evaluation.mass * (evaluation.mean - evaluation.survey.low)


def _regrets(evaluation: Evaluation, species: tuple[int, Species] | None) -> list[tuple[Array, float]]:
    """The density of each species that has mass, and ``Vbar - min V`` of it."""
    pairs = [(evaluation.mu, evaluation.V)]
    if species is not None:
        pairs = [(evaluation.mu[part], evaluation.V[part]) for part in slices_of(*species)]
    with_mass = [(mu, V) for mu, V in pairs if mu.sum() > 0.0]
    return [(mu, float(np.vdot(mu, V)) / float(mu.sum()) - float(V.min())) for mu, V in with_mass]


def more_columns(flow: Flow) -> list[str]:
    """What else is recorded of a problem: see `mfpde.mesh.record.MORE`."""
    found = [] if flow.problem.bound_energy.lyapunov else ["regret"]
    labels = () if flow.problem.species is None else flow.problem.species[1].labels
    return [*found, *(f"mass_{label}" for label in labels)]


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


ARRIVING = {
    "time": run_structures.R_TIME,
    "dt": run_structures.R_DT,
    "mass": run_structures.R_MASS,
    "minimum": run_structures.R_MINIMUM,
    "energy": run_structures.R_ENERGY,
    "end_mass": run_structures.R_END_MASS,
    "error": run_structures.R_ERROR,
    "redone": run_structures.R_REDONE,
    "temperature": run_structures.R_TEMPERATURE,
    "entropy": run_structures.R_ENTROPY,
}
DEPARTING = {
    "dissipation_transport": run_structures.R_TRANSPORT,
    "dissipation_reaction": run_structures.R_REACTION,
    "limiting_cell": run_structures.R_CELL,
    "relative_fisher_information": run_structures.R_FISHER,
}
"""What stands in the row of a step of a compiled program: of the state it leads to, and of the state it leaves."""


def _append(numbers: array[float], values: Array) -> None:
    numbers.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())


class Responses:
    """``u`` at every recorded time, 8 bytes a number: a list of arrays would take twenty times that."""

    def __init__(self) -> None:
        self._values, self._count, self._width = array("d"), 0, 0

    def append(self, u: Array) -> None:
        """Add a row."""
        _append(self._values, u)
        self._count, self._width = self._count + 1, u.size

    def extend(self, rows: Array) -> None:
        """Add several rows."""
        _append(self._values, rows)
        self._count, self._width = self._count + len(rows), rows.shape[1]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: slice) -> Array:
        first, last, _ = rows.indices(self._count)
        return np.array(self._values[first * self._width : last * self._width]).reshape(last - first, self._width)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:]


class StepMade(NamedTuple):
    """The step that led to a state.

    Attributes
    ----------
    dt : float
        Its length in time.
    error : float or None
        Its estimated L1 error, where there is one.
    redone : int
        Attempts thrown away.
    """

    dt: float
    error: float | None
    redone: int


class Recorded(NamedTuple):
    """What a recorder answers when a state arrives.

    Attributes
    ----------
    energy : float
        With the entropy at a temperature above 0.
    gap : float
        The optimality gap; NaN where there is none.
    """

    energy: float
    gap: float


class Recorder:
    """Collects one row a step: what is known of a state when it arrives, and what when it is left.

    Parameters
    ----------
    flow : Flow

    Attributes
    ----------
    rows : dict
        Numbers for each name in `COLUMNS`, one for every state. Of the last one those that belong to its departure are
        NaN, and -1 for the cell, until it is left.
    responses : Responses
        ``u`` at every recorded time.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._more = more_columns(flow)
        self.rows: dict[str, array[float]] = {name: array("d") for name in (*COLUMNS, *self._more)}
        self.responses = Responses()
        self._layers = end_layers(flow.grid)
        self._certified = flow.convex is True and flow.scheme.positive

    def go_on(self, diagnostics: Mapping[str, Array], responses: Sequence[Array] | Array) -> None:
        """Take over what a run has recorded up to its last state, which is left anew."""
        unknown = np.full(len(diagnostics["time"]), np.nan)  # of a column that an early file does not have
        for name in self.rows:
            self.rows[name] = array("d", diagnostics.get(name, unknown))
        for u in responses:
            self.responses.append(u)

    def arrive(
        self, time: float, at: Evaluation, free: FreeEnergy | None, temperature: float, step: StepMade | None = None
    ) -> Recorded:
        """Record a state.

        Parameters
        ----------
        time : float
        at : Evaluation
            The state.
        free : FreeEnergy or None
            None at temperature 0.
        temperature : float
            ``tau``.
        step : StepMade, optional
            The step that led here; None for the first state.
        """
        gap, energy, step = np.nan, at.energy if free is None else free.energy, step or StepMade(0.0, None, 0)
        if self._certified:
            gap = optimality_gap(at, self._flow.problem.apart) if free is None else free.gap
        rows = self.rows
        rows["time"].append(time)
        rows["dt"].append(step.dt)
        rows["mass"].append(at.mass)
        rows["minimum"].append(at.survey.least)
        rows["energy"].append(energy)
        rows["entropy"].append(np.nan if free is None else free.entropy)
        rows["temperature"].append(temperature)
        rows["optimality_gap"].append(gap)
        rows["end_mass"].append(end_mass(at.mu, self._flow.grid, self._layers) if self._layers else 0.0)
        rows["error"].append(np.nan if step.error is None else step.error)
        rows["redone"].append(step.redone)
        for name in LEAVING:
            rows[name].append(-1 if name == "limiting_cell" else np.nan)
        if self._more:
            self._arrive_more(at)
        self.responses.append(at.response)
        return Recorded(energy, gap)

    def _arrive_more(self, at: Evaluation) -> None:
        """What only some problems have of a state."""
        rows, species, volume = self.rows, self._flow.problem.species, self._flow.grid.cell_volume
        if "regret" in rows:
            rows["regret"].append(sum(regret for _, regret in _regrets(at, species)))
        if species is not None:
            for label, part in zip(species[1].labels, slices_of(*species), strict=True):
                rows[f"mass_{label}"].append(float(at.mu[part].sum()) * volume)

    def leave(self, departure: Departure) -> float:
        """Complete the last state's row, when a step leaves it; ``-dE/dt`` there."""
        flow, rows = self._flow, self.rows
        lost = {"dissipation_transport": 0.0, "dissipation_reaction": 0.0}
        for part in flow.parts.values():
            lost[part.column] += part.dissipation(flow, departure)
        for column, value in lost.items():
            rows[column][-1] = departure.speed * value if value else 0.0
        tau = departure.temperature
        fisher = np.nan if departure.free is None else lost["dissipation_transport"] / tau / tau
        rows["relative_fisher_information"][-1] = fisher
        rows["limiting_cell"][-1] = departure.cell
        return rows["dissipation_transport"][-1] + rows["dissipation_reaction"][-1]

    def extend(self, made: Array, responses: Array) -> None:
        """Record steps of a compiled program.

        Parameters
        ----------
        made : (n, ROW) array
            Rows as `mfpde.mesh.compiled.run_structures` numbers them: of the state that a step leaves, and of the one
            that it leads to.
        responses : (n, r) array
            Of the latter.
        """
        rows, columns, count = self.rows, np.ascontiguousarray(made.T).view(np.uint8), len(made)
        nothing = array("d", [np.nan]) * count
        for name, column in ARRIVING.items():
            rows[name].frombytes(columns[column].data)
        if self._certified:
            rows["optimality_gap"].frombytes(columns[run_structures.R_GAP].data)
        else:
            rows["optimality_gap"].extend(nothing)
        for name, column in DEPARTING.items():
            rows[name].pop()
            rows[name].frombytes(columns[column].data)
            rows[name].append(-1 if name == "limiting_cell" else np.nan)
        self.responses.extend(responses)

    def arrays(self) -> dict[str, Array]:
        """The rows as arrays."""
        return {
            name: np.array(values).astype(np.int64 if name in ("limiting_cell", "redone") else np.float64, copy=False)
            for name, values in self.rows.items()
        }
