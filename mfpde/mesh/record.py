"""What a run leaves behind: how it ended, its last state, what was recorded at its steps."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.support.arrays import Array
from mfpde.support.travel import Portable

if TYPE_CHECKING:
    from mfpde.equation.description.whole import Description
    from mfpde.equation.grid import Grid
    from mfpde.support.files.frames import StoredDensity

__all__ = [
    "COLUMNS",
    "ERRORS",
    "LEAVING",
    "MORE",
    "Beside",
    "Errors",
    "Record",
    "Result",
    "State",
    "meaning",
    "run_stats",
]


COLUMNS: dict[str, str] = {
    "time": "time of the state",
    "dt": "length of the step that led to it (0 for the first)",
    "mass": "int dmu",
    "minimum": "smallest cell value of mu",
    "energy": "E[mu], constant included; with a temperature the free energy, tau int log(mu/omega) dmu included",
    "entropy": "int log(mu/omega) dmu (nan at temperature 0)",
    "temperature": "tau",
    "dissipation_transport": "-dE/dt of the transport, from the explicit fluxes at the state; empty cells count with "
    "log(1e-300) where tau > 0",
    "dissipation_reaction": "-dE/dt of the reaction; neither counts tau'(t) times the entropy",
    "optimality_gap": "bounds E - min E over measures of the same mass on the box, on this mesh: "
    "mass * (Vbar - min V), or tau KL(mu|p_mu) with a temperature; nan where the energy is not known to be convex",
    "relative_fisher_information": "int |grad log(mu/p_mu)|_G^2 dmu = dissipation_transport / (s tau^2) "
    "(nan at temperature 0)",
    "end_mass": "share of the mass in cells next to truncation ends",
    "limiting_cell": "flat index of the cell whose outflow limits the step",
    "error": "estimated L1 error of the step, relative to the mass (nan where the method gives none)",
    "redone": "attempts at the step that were thrown away",
}
"""The per-step diagnostics and what they mean."""
MORE: dict[str, str] = {
    "regret": "sum over species of Vbar_k - min V_k, where V is the first variation of no energy: for a game the "
    "Nikaido-Isoda error, which is 0 where nobody gains by another strategy",
    "mass_": "int dmu of the species",
}
"""Those that only some problems have, the second one for each label."""
LEAVING = ("dissipation_transport", "dissipation_reaction", "relative_fisher_information", "limiting_cell")
"""Those that are known of a state only when it is left."""


def meaning(name: str) -> str:
    """What a column of diagnostics means."""
    return COLUMNS.get(name) or MORE.get(name) or (MORE["mass_"] if name.startswith("mass_") else name)


class Result(enum.Enum):
    """How a run ended; the text says what to do about it."""

    SUCCESS = "reached the end time"
    STOPPED = "the stop condition was met"
    INTERRUPTED = "what was computed is kept; mfpde.resume goes on"
    TIME_LIMIT = "the time allowed for the run was over; what was computed is kept, mfpde.resume goes on"
    NOT_REACHED = (
        "the accuracy that was asked for was not reached within the time and the memory allowed; the best run is kept. "
        "Raise time_limit or tolerance, give another scheme, or a smoother start"
    )
    STEP_TOO_LARGE = (
        "the fixed step exceeds the positivity bound, or its potential was not found; "
        "use a smaller dt, CourantControl() or ErrorControl()"
    )
    EXTINCT = "the unbalanced reaction has removed all mass; the energy's V is positive everywhere, or alpha too large"
    DT_MIN = "the step fell below its floor; the velocity blows up, or the tolerance is out of reach"
    NOT_FINITE = "the energy or the density is not finite; look at the potential of the last state"
    ENERGY_ROSE = "the energy rose in a step by more than Limits.energy_increase; refine the mesh or shorten the steps"
    MASS_DRIFTED = "the mass drifted by more than Limits.mass_drift, which no round-off explains; please report it"
    END_MASS = 'mass reached a truncation end of the mesh; enlarge the axes, or on_end_mass="extend"'
    MAX_STEPS = "the limit on the number of steps was reached; raise max_steps or lower the accuracy"
    UNFINISHED = (
        "the run that wrote this file was killed, or is still going on; what it had saved is here, mfpde.resume goes on"
    )

    @property
    def ok(self) -> bool:
        """Whether the run did what it was asked for."""
        return self in (Result.SUCCESS, Result.STOPPED)

    @property
    def cut_short(self) -> bool:
        """Whether somebody, or what was allowed, ended the run, and nothing is wrong with it."""
        return self in (Result.INTERRUPTED, Result.TIME_LIMIT, Result.NOT_REACHED)


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a run needs to go on from where it is.

    Attributes
    ----------
    t : float
        Time.
    mu : array
        Density on the cells (point values at the centres where the scheme says so).
    n_steps : int
        Steps taken since the start.
    length : float or None
        The controller's next step, before caps; None before the first.
    memory : tuple of float
        What the controller remembers.
    """

    t: float
    mu: Array
    n_steps: int = 0
    length: float | None = None
    memory: tuple[float, ...] = ()


ERRORS: dict[str, str] = {
    "divisor": "by what the difference between run and companion is divided",
    "energy": "of E[mu], with a temperature of the free energy",
    "response": "of u = int Phi dmu",
    "mean": "of int x dmu / int dmu along each axis",
    "second_moment": "of int x^2 dmu along each axis",
}
"""What has an estimated error, and what stands beside it."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Estimated errors of a run at its save times, absolute; NaN where there are none.

    They are estimates, no bounds: ``docs/accuracy.md`` says how they are made, and how good they are.

    Attributes
    ----------
    divisor : array, shape (m,)
        By what the difference between run and companion is divided: 3 where errors can be expected to be of second
        order, else 1; less where the mass descends from a tail that the mesh does not carry.
    energy : array, shape (m,)
        Of ``E[mu]``; at a temperature above 0 of the free energy.
    response : array, shape (m, r)
        Of ``u = int Phi dmu``.
    mean, second_moment : array, shape (m, d)
        Of ``int x dmu / int dmu`` and ``int x^2 dmu`` along each axis.
    unseen : array, shape (1 + r + 2 d,)
        What the start has lost on the mesh and the companion has not, of all of them in this order: it is in every
        later row.
    cells : tuple of int
        The companion's mesh; empty where there was none.
    reason : str
        Why estimates are missing; empty where they are not.
    """

    divisor: Array
    energy: Array
    response: Array
    mean: Array
    second_moment: Array
    unseen: Array
    cells: tuple[int, ...] = ()
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an estimate for the energy at any time."""
        return not bool(np.isnan(self.energy).all())

    @staticmethod
    def width(dimension: int, components: int) -> int:
        """The numbers of a row of `table`."""
        return 2 + components + 2 * dimension

    @staticmethod
    def of(table: Array, unseen: Array, components: int, cells: tuple[int, ...], reason: str) -> Errors:
        """The errors in a table, a row for each save time, of a response of so many components."""
        r, d = components, (table.shape[1] - 2 - components) // 2
        rest = table[:, 2:].copy()
        parts = rest[:, :r], rest[:, r : r + d], rest[:, r + d :]
        return Errors(table[:, 0].copy(), table[:, 1].copy(), *parts, unseen, cells, reason)

    @staticmethod
    def missing(saves: int, dimension: int, components: int, reason: str) -> Errors:
        """No errors, and why."""
        table = np.full((saves, Errors.width(dimension, components)), math.nan)
        return Errors.of(table, table[0, 1:], components, (), reason)

    def table(self) -> Array:
        """All of them, a row for each save time."""
        return np.column_stack([self.divisor, self.energy, self.response, self.mean, self.second_moment])


class Beside(NamedTuple):
    """What goes to the file of a run that errors are estimated with, beside a state of the run itself.

    Attributes
    ----------
    errors : array
        The last row of `Errors.table`.
    state : State or None
        Its last state, not later than the run's; None where there is none.
    reason : str
        Why there are no estimates any more; empty where there are.
    """

    errors: Array
    state: State | None
    reason: str


@dataclass(eq=False)
class Record(Portable):
    """What a run leaves behind, as a file holds it: numbers and plain values, without the problem's object.

    Attributes
    ----------
    grid : Grid
        The mesh.
    times : array, shape (m,)
        Save times.
    density : array, shape (m, *grid.shape)
        The density at the save times: cell averages, or values at the centres (`point_values`). More than 64 MiB
        of a streamed or loaded solution stay in the file: ``density[i]`` reads a frame, ``numpy.asarray(density)``
        all of them (`mfpde.support.files.frames.StoredDensity`).
    energy : array, shape (m,)
        ``E[mu]`` at the save times; at a temperature above 0 the free energy, with its entropy.
    diagnostics : dict of array
        One value a step, `mfpde.mesh.record.COLUMNS` says of what.
    response : array, shape (steps + 1, r)
        ``u = int Phi dmu`` at ``diagnostics["time"]``, in the energy's compressed coordinates; ``r`` is 0
        where the energy has none.
    result : Result
        How the run ended.
    stats : dict
        Counts and extremes of the run: steps, redone, evaluations, mass drift, energy increase, ...
    warnings : list of str
        What the run wants looked at.
    configuration : dict
        The settings, as plain values.
    provenance : dict
        Package versions (and, under ``"volatile"``, date, duration and command).
    state : State
        The last state; ``solve(..., initial=solution.state)`` goes on from it.
    point_values : bool
        Whether densities are values at the centres of cells instead of averages.
    name : str
        The problem's name.
    fingerprint : str
        The fingerprint of the problem that was solved; empty where there is none.
    remarks : list of str or None
        What the run's numbers do not say: that there is no certificate, that the equation does not minimise the energy.
        None when loaded from a file of an early version.
    errors : Errors or None
        Estimated errors at the save times. None when loaded from a file of an early version.
    companion : State or None
        The last state of the run that they are estimated with; None where there is none.
    plain : dict
        What was computed, in single numbers and words: `mfpde.equation.plain_attributes`.
    description : Description or None
        What of the problem is numbers and text (`mfpde.equation.description.whole`); None where its name and its
        parameters say all, and when loaded from a file of an early version.
    """

    grid: Grid
    times: Array
    density: Array | StoredDensity
    energy: Array
    diagnostics: dict[str, Array]
    response: Array
    result: Result
    stats: dict[str, Any]
    warnings: list[str]
    configuration: dict[str, Any]
    provenance: dict[str, Any]
    state: State
    _: KW_ONLY  # the problem, which a solution adds, keeps its place behind the state
    point_values: bool = False
    name: str = "problem"
    fingerprint: str = field(default="", repr=False)
    remarks: list[str] | None = None
    errors: Errors | None = None
    companion: State | None = None
    plain: dict[str, Any] = field(default_factory=dict, repr=False)
    description: Description | None = field(default=None, repr=False)


def run_stats(diagnostics: Mapping[str, Array], *, balanced: bool, evaluations: int, leak: float) -> dict[str, Any]:
    """Counts and extremes of a run from what was recorded at its steps.

    Parameters
    ----------
    diagnostics : mapping of array
        The columns of `COLUMNS`.
    balanced : bool
        Whether the reaction conserves mass.
    evaluations : int
        How often the potential was evaluated.
    leak : float
        Mass that the fluxes created (round-off), relative.
    """
    energy, mass = diagnostics["energy"], diagnostics["mass"]
    scale = float(np.abs(energy).max())
    rises = np.diff(energy)
    increase = max(float(rises.max()), 0.0) / scale if rises.size and scale > 0 else 0.0
    return {
        "steps": len(energy) - 1,
        "redone": int(diagnostics["redone"].sum()),
        "evaluations": evaluations,
        "mass_drift": float(np.abs(mass / mass[0] - 1.0).max()) if balanced else 0.0,
        "leak": leak,
        # an energy that is not recorded as a number has not been seen to stand still either
        "energy_increase": increase if np.isfinite(energy).all() else math.nan,
        "balanced": balanced,
    }
