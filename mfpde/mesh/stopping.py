"""When a run stops."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfpde.equation.convexity import no_certificate
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["EnergyBelow", "GapBelow", "Limits", "OnEndMass", "Snapshot", "SteadyState", "StopCondition"]


@dataclass(frozen=True)
class Snapshot:
    """What a stop condition sees after each step.

    `mu` and `potential` are those of the run and cannot be written to: take a copy of what is to be changed, or kept.
    """

    time: float
    step: int
    mu: Array
    potential: Array
    energy: float
    optimality_gap: float
    dissipation: float
    """``-dE/dt`` at the state before the step."""
    change: float = np.nan
    """``int |mu - mu_before| / (dt mass)`` of the step."""


StopCondition = Callable[[Snapshot], bool]


@dataclass(frozen=True)
class EnergyBelow:
    """Stop when the energy has fallen to `value`."""

    value: float

    def __post_init__(self) -> None:
        if not real(self.value):
            raise ValueError(f"EnergyBelow: the value must be a finite number, not {shown(self.value)}")

    def __call__(self, snapshot: Snapshot) -> bool:
        """Whether to stop."""
        return snapshot.energy <= self.value


@dataclass(frozen=True)
class GapBelow:
    """Stop when the optimality gap certifies ``E - min E <= value``, over measures on the box, on the mesh.

    With a temperature the gap is ``tau KL(mu | p_mu)``, which falls to round-off at the minimiser. Where the energy is
    not known to be convex there is no gap, and a run with this condition is refused (`ValueError`).
    """

    value: float

    def __post_init__(self) -> None:
        if not (real(self.value) and self.value > 0):
            raise ValueError(f"GapBelow: the value must be positive, not {shown(self.value)}")

    def __call__(self, snapshot: Snapshot) -> bool:
        """Whether to stop."""
        if math.isnan(snapshot.optimality_gap):
            raise ValueError(self.refusal(None))
        return snapshot.optimality_gap <= self.value

    def refusal(self, convex: bool | None, lyapunov: bool = True) -> str:
        """What is said where the energy is not known to be convex, or where there is none."""
        other = "SteadyState or EnergyBelow" if lyapunov else "SteadyState"
        return f"GapBelow({self.value:g}): {no_certificate(convex, lyapunov)}; use {other}"


@dataclass(frozen=True)
class SteadyState:
    """Stop when the density hardly moves: ``int |d_t mu| / mass <= rate``, in 1/time.

    A small rate is not a small distance: where the slowest mode decays at rate ``r``, what is left is about
    ``rate / r``. `GapBelow` certifies. A schedule that is 0 for a while looks steady too.
    """

    rate: float

    def __post_init__(self) -> None:
        if not (real(self.rate) and self.rate > 0):
            raise ValueError(f"SteadyState: the rate must be positive, not {shown(self.rate)}; 1e-8 is a good value")

    def __call__(self, snapshot: Snapshot) -> bool:
        """Whether to stop."""
        return snapshot.change <= self.rate


class OnEndMass(enum.Enum):
    """What a run does when mass gathers at a truncation end of the mesh."""

    WARN = "warn"
    STOP = "stop"
    EXTEND = "extend"


@dataclass(frozen=True)
class Limits:
    """What a run may do before it is stopped with a named result.

    Parameters
    ----------
    energy_increase : float
        Largest rise of the energy in a step, as a fraction of its scale: beyond it ``ENERGY_ROSE``. By default there
        is none, and a rise above 1e-13 is a warning.
    mass_drift : float
        Largest ``|mass / mass at the start - 1|`` where the equation conserves mass: beyond it ``MASS_DRIFTED``.
        Round-off gives 1e-15 to 1e-12; the default of 1e-8 is met by defects only.
    end_mass : float
        Share of the mass next to truncation ends from which `OnEndMass` acts; never below twice the share at the start.

    Raises
    ------
    ValueError
        For a limit that is negative or not a number.
    """

    energy_increase: float = math.inf
    mass_drift: float = 1e-8
    end_mass: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"Limits: {name} must be a number of at least 0, not {shown(value)}")
