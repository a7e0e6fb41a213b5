"""`verify`: whether a file is what was written, and whether what was written keeps the laws of the equation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfpde.mesh.conclusion import ENERGY_TOLERANCE, decays
from mfpde.mesh.record import Result
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_reader import wrong_checksums
from mfpde.runs.loading import load
from mfpde.support.arrays import Array
from mfpde.support.files.hdf5 import holds_reference

if TYPE_CHECKING:
    from os import PathLike

    from mfpde.equation.energy.on_grid import GridEnergy
    from mfpde.equation.problem import Problem

__all__ = ["Check", "Verified", "verify"]


SAME = 1e-12
"""Relative difference of a number that is computed again, on another machine perhaps."""
BALANCE = 0.02
"""Relative difference of the energy lost and the dissipation recorded: errors of the mesh and of quadrature."""


@dataclass(frozen=True)
class Check:
    """One law: a number that must not be above a limit, or in ``holds`` whether it is fulfilled."""

    name: str
    measured: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it is fulfilled."""
        return self.measured <= self.limit  # NaN does not hold


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes
    ----------
    path : str
    checks : tuple of Check
    unchecked : tuple of str
        What could not be checked, and why.
    """

    path: str
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all laws that could be checked hold."""
        return all(check.holds for check in self.checks)

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = [f"{self.path}: {'all is well' if self.ok else 'NOT AS IT SHOULD BE'}"]
        lines += [
            f"  {'ok  ' if check.holds else 'FAIL'}  {check.name:<{width}}  {check.measured:.3g} <= {check.limit:.3g}"
            for check in self.checks
        ]
        lines += [f"  ?     {text}" for text in self.unchecked]
        return "\n".join(lines)


def verify(path: str | PathLike[str], problem: Problem | None = None) -> Verified:
    r"""Check a solution's file: its checksums, and the laws that its numbers must keep.

    Every number is read, densities frame by frame. Checked are: all checksums; the order of times; the sign of the
    density; mass, minimum and energy at the save times, computed anew from the density; conservation of mass; an energy
    that does not rise, where the equation says so; the optimality gap, which is never negative where the energy is
    convex; and the energy balance :math:`E(0) - E(t) = \int_0^t D\,ds` with the recorded dissipation :math:`D`. Of a
    reference's file: the checksums, and that both routes agree within their bars.

    Parameters
    ----------
    path : path
    problem : Problem, optional
        The problem, where the file cannot name it; without it energies are not computed anew.

    Returns
    -------
    Verified
        ``print`` it; ``ok`` says whether everything holds.

    Raises
    ------
    FileFormatError, OSError
        If the file is neither a solution nor a reference, or cannot be read, or a checksum of what is read at once is
        wrong.

    Examples
    --------
    >>> import mfpde as mf, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> _ = mf.solve(mf.problems.linear_neuron(), shape=(100,), t_end=0.5, output=path, progress=False)
    >>> mf.verify(path).ok
    True
    """
    if holds_reference(path):
        return _reference(path, problem)
    solution = load(path, problem)
    unchecked: list[str] = []
    checks = list(_checksums(path, unchecked, unfinished=solution.result is Result.UNFINISHED))
    checks += _laws(solution, unchecked)
    return Verified(str(path), tuple(checks), tuple(unchecked))


def _reference(path: str | PathLike[str], problem: Problem | None) -> Verified:
    """A file of numbers with error bars: what can be said without computing them again."""
    from mfpde.verification.references.file import read_reference

    found = read_reference(path, problem)  # wrong checksums are refused where it is read
    checks = [Check("datasets whose checksum is wrong", 0.0, 0.0)]
    for one in found.observables:
        second = {"both routes": (one.other_value, one.other_bar), "value and check": (one.check_value, one.check_bar)}
        for which, (value, bar) in second.items():
            if value is None or bar is None:
                continue
            off, bars = np.abs(one.value - value), one.bar + bar
            worst = float(np.where(off > 0, off / np.maximum(bars, 1e-300), 0.0).max())
            checks.append(Check(f"{one.name}: {which} apart, in bars", worst, 1.0))
    again = f"mfpde reference --check {path}"
    return Verified(str(path), tuple(checks), (f"the numbers themselves: {again} computes them again",))


def _checksums(path: str | PathLike[str], unchecked: list[str], *, unfinished: bool) -> Iterator[Check]:
    wrong = wrong_checksums(path)
    if wrong is None:
        unchecked.append("checksums: there are none in this file (of an early version)")
    elif unfinished:
        yield Check("parts that are not whole", len(wrong), 0.0)
        yield from (Check(f"not whole: {part}", 1.0, 0.0) for part in wrong)
    else:
        yield Check("datasets whose checksum is wrong", len(wrong), 0.0)


def _laws(solution: Solution, unchecked: list[str]) -> Iterator[Check]:
    """The laws that a solution's numbers keep; what cannot be looked at is added to `unchecked`."""
    d, grid, problem = solution.diagnostics, solution.grid, solution.problem
    steps = np.searchsorted(d["time"], solution.times)
    known = steps < len(d["time"])
    yield Check("steps that do not go forward in time", float(np.sum(~(np.diff(d["time"]) > 0))), 0.0)
    yield Check(
        "saved times that are no time of a step",
        float(np.sum(d["time"][steps[known]] != solution.times[known]) + np.sum(~known)),
        0.0,
    )
    steps = np.minimum(steps, len(d["time"]) - 1)

    mass, least, energy = np.empty((3, len(steps)))
    bound = None if problem is None else problem.bound_energy.on(grid)
    log_base = None if problem is None else problem.log_base(*grid.mesh())
    for i, mu in enumerate(solution.density):
        mass[i] = mu.sum() * grid.cell_volume
        least[i] = mu.min()
        if bound is not None and problem is not None:
            energy[i] = _energy(mu, bound, problem.temperature(float(solution.times[i])), grid.cell_volume, log_base)
    if solution.configuration.get("positive", True):  # of the scheme: it says so where it does not keep the sign
        yield Check("negative density", max(0.0, -float(least.min())), 0.0)
    yield Check("saved density against the recorded mass", _worst(mass, d["mass"][steps]), SAME)
    yield Check("saved density against the recorded minimum", float(np.abs(least - d["minimum"][steps]).max()), 0.0)
    yield Check("saved energy against the recorded one", _apart(solution.energy, d["energy"][steps]), 0.0)
    scale = float(np.abs(d["energy"][~np.isnan(d["energy"])]).max(initial=0.0))
    if bound is None:
        unchecked.append("energies: the file cannot name its problem; pass it")
    else:
        yield Check(
            "energy of the saved density against the recorded one",
            _apart(energy, solution.energy),
            SAME * scale,
        )
    if solution.stats["balanced"]:
        yield Check(
            "drift of the mass", float(np.abs(d["mass"] / d["mass"][0] - 1.0).max()), SAME * math.sqrt(len(d["mass"]))
        )
    if problem is not None and decays(problem):
        rises = np.diff(d["energy"])
        yield Check(
            "largest rise of the energy in a step", max(0.0, float(rises.max(initial=0.0))), ENERGY_TOLERANCE * scale
        )
    if solution.no_certificate:
        unchecked.append(f"optimality gap: {solution.no_certificate}")
    else:
        yield Check("negative optimality gap", max(0.0, -float(d["optimality_gap"].min())), SAME * scale)
    yield from _balance(solution, unchecked)


def _energy(mu: Array, bound: GridEnergy, temperature: float, volume: float, log_base: Array | None) -> float:
    """The energy of a density; with a temperature the free energy."""
    from mfpde.equation.gibbs import entropy

    value = float(bound.evaluate(mu)[1])
    return value + temperature * entropy(mu, volume, log_base) if temperature > 0.0 else value


def _balance(solution: Solution, unchecked: list[str]) -> Iterator[Check]:
    """``E(0) - E(t)`` against the integral of the recorded dissipation, by a spline through the steps."""
    d, problem = solution.diagnostics, solution.problem
    if problem is None or not decays(problem):
        unchecked.append("energy balance: the energy also changes with the temperature, or the flow is not its descent")
        return
    rate = d["dissipation_transport"] + d["dissipation_reaction"]
    whole = np.isfinite(rate)
    if not np.all(np.diff(d["time"]) > 0):  # said above
        return
    if whole.sum() < 3 or not d["energy"][0] > d["energy"][-1]:
        unchecked.append("energy balance: too few steps")
        return
    from scipy.interpolate import PchipInterpolator

    time = d["time"][whole]
    gained = float(PchipInterpolator(time, rate[whole]).integrate(time[0], time[-1]))
    lost = float(d["energy"][whole][0] - d["energy"][whole][-1])
    yield Check("energy lost against the dissipation recorded", abs(gained - lost) / lost, BALANCE)


def _apart(one: Array, other: Array) -> float:
    """The largest difference of energies; where both are NaN, that of a potential without one, there is none."""
    return float(np.where(np.isnan(one) & np.isnan(other), 0.0, np.abs(one - other)).max())


def _worst(one: Array, other: Array) -> float:
    return float(np.abs(one / other - 1.0).max())
