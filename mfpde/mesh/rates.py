"""How fast a run decays: fitted rates with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.grid import Grid
from mfpde.equation.poincare import spectral_gap
from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels

__all__ = ["Rate", "Rates", "decay_rate", "rates_of"]

PARTS = 4
"""Parts of the fitted stretch whose own rates make the interval."""
ROUNDED = 1e-12
"""What is less than this share of its largest value is rounding."""
WITHIN = 3.0
"""A gap to an exact minimum means nothing below so many times the estimated error of the energy."""


@dataclass(frozen=True)
class Rate:
    """An exponential rate, ``values ~ exp(-value t)``.

    Attributes
    ----------
    value : float
        The slope of the logarithm by least squares.
    low, high : float
        The smallest and the largest slope on four equal parts of the stretch. They are far apart where the decay is
        not exponential, or not yet; they are no confidence interval, for there is no noise.
    begin, end : float
        The stretch of time.
    fall : float
        By what factor the values fall over it.
    """

    value: float
    low: float
    high: float
    begin: float
    end: float
    fall: float

    def __str__(self) -> str:
        return (
            f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}), over t = {self.begin:.4g} to {self.end:.4g}, "
            f"a fall by {self.fall:.3g}"
        )


@dataclass(frozen=True)
class Rates(Labelled, Mapping[str, Rate]):
    """Fitted rates by name: ``energy`` (of E - min E), ``certificate`` and ``distance``, those that there are.

    Attributes
    ----------
    missing : dict of str
        Why the others are not there.
    spectral_gap : float
        The smallest rate of Langevin dynamics in the potential of the stationary state, on its mesh, by the clock; NaN
        without one or at temperature 0. See `mfpde.equation.poincare.spectral_gap`.
    """

    found: dict[str, Rate] = field(repr=False)
    missing: dict[str, str]
    spectral_gap: float = math.nan

    def __getitem__(self, name: str) -> Rate:
        if name in self.missing:
            raise KeyError(f"{name}: {self.missing[name]}")
        return self.found[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def _labels(self) -> Labels:
        """Rates, one a row."""
        said = {
            "value": "slope of the logarithm",
            "low": "smallest slope on four parts of the stretch",
            "high": "largest slope on four parts of the stretch",
            "begin": "where the stretch begins",
            "end": "where the stretch ends",
            "fall": "by what factor the values fall over it",
        }
        rates = list(self.found.values())
        variables = {
            name: Column(["rate"], [getattr(rate, name) for rate in rates], text) for name, text in said.items()
        }
        names = np.array(list(self.found), dtype=str)  # of nothing, too
        attributes: dict[str, float | str] = {"spectral_gap": self.spectral_gap}
        attributes |= {f"missing_{name}": why for name, why in self.missing.items()}
        return Labels({"rate": Column(["rate"], names)}, variables, attributes, ("rate",))

    def __str__(self) -> str:
        lines = [f"{name:<14}{rate}" for name, rate in self.found.items()]
        lines += [f"{name:<14}- {why}" for name, why in self.missing.items()]
        if math.isfinite(self.spectral_gap):
            lines.append(
                f"{'spectral gap':<14}{self.spectral_gap:.4g} of Langevin dynamics in the stationary potential"
            )
        return "\n".join(lines)


def decay_rate(
    times: Array, values: Array, floor: float | Array = 0.0, begin: float | None = None, end: float | None = None
) -> Rate:
    """The exponential rate at which values fall.

    Parameters
    ----------
    times, values : array, shape (m,)
    floor : float or array, optional
        Values are used up to the first one that is no larger than this, or than 1e-12 of the largest.
    begin, end : float, optional
        The stretch of time. By default it ends where the values do, and begins where half of their fall, in the
        logarithm, is behind them.

    Raises
    ------
    ValueError
        If fewer than five values are left, or they do not fall.
    """
    floor = np.maximum(floor, ROUNDED * float(np.nanmax(values, initial=0.0)))
    usable = np.isfinite(values) & (values > floor) & (times <= (math.inf if end is None else end))
    stop = len(values) if usable.all() else int(np.argmin(usable))
    t, logs = times[:stop], np.log(values[:stop])
    if begin is None and stop:
        top = int(np.argmax(logs))
        below = np.flatnonzero(logs[top:] <= 0.5 * (logs[top] + logs[-1]))
        start = top + (int(below[0]) if len(below) else 0)
    else:
        start = int(np.searchsorted(t, begin or 0.0))
    t, logs = t[start:], logs[start:]
    if len(t) < PARTS + 1:
        raise ValueError(f"{len(t)} values above rounding and errors; {PARTS + 1} are needed, save or run for longer")
    if not logs[-1] < logs[0]:
        raise ValueError("it does not fall")
    slope = -float(np.polyfit(t - t[0], logs, 1)[0])
    corners = np.linspace(t[0], t[-1], PARTS + 1)
    own = -np.diff(np.interp(corners, t, logs)) / np.diff(corners)
    return Rate(slope, float(own.min()), float(own.max()), float(t[0]), float(t[-1]), math.exp(logs[0] - logs[-1]))


class Run(Protocol):
    """What is asked of a solution."""

    grid: Grid
    times: Array
    density: Any
    diagnostics: dict[str, Array]
    problem: Problem | None

    @property
    def energy_error(self) -> Array: ...

    @property
    def known_minimum(self) -> float | None: ...

    @property
    def no_certificate(self) -> str: ...


def rates_of(solution: Run, begin: float | None, end: float | None, stationary: Equilibrium | None) -> Rates:
    """See `Solution.rates`."""
    found: dict[str, Rate] = {}
    missing: dict[str, str] = {}
    same = stationary is not None and stationary.grid == solution.grid
    time = solution.diagnostics["time"]

    def fit(name: str, times: Array, values: Array, floor: float | Array = 0.0) -> None:
        try:
            found[name] = decay_rate(times, values, floor, begin, end)
        except ValueError as error:
            missing[name] = str(error)

    minimum = stationary.energy if stationary is not None else solution.known_minimum
    if minimum is None:
        missing["energy"] = "the minimum is not known; pass stationary=mfpde.stationary(problem, shape)"
    else:
        # on one mesh the minimum of the mesh is approached, else not nearer than the mesh's error
        error = np.nan_to_num(solution.energy_error) if not same else np.zeros(len(solution.times))
        fit("energy", time, solution.diagnostics["energy"] - minimum, WITHIN * np.interp(time, solution.times, error))
    gap = solution.diagnostics["optimality_gap"]
    if np.isnan(gap).all():
        missing["certificate"] = solution.no_certificate or "there is none"
    else:
        fit("certificate", time, gap)
    if stationary is None or not same:
        missing["distance"] = "pass stationary=mfpde.stationary(problem, shape), on the same mesh"
    else:
        volume = solution.grid.cell_volume
        distance = [volume * float(np.abs(mu - stationary.mu).sum()) for mu in solution.density]
        fit("distance", solution.times, np.array(distance))
    forgets = math.nan
    if stationary is not None and stationary.temperature > 0.0 and solution.problem is not None:
        forgets = spectral_gap(solution.problem, stationary.grid, stationary.log_mu, stationary.temperature)
    return Rates(found, missing, forgets)
