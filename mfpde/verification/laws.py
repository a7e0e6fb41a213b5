"""`verify`: whether a file is what was written, and whether what was written keeps the laws of the equation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfpde.equation.equilibrium_file import read_equilibrium
from mfpde.equation.plain_attributes import differing, plain_attributes
from mfpde.mesh.conclusion import ENERGY_TOLERANCE, decays
from mfpde.mesh.record import Record, Result
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_reader import read, wrong_checksums
from mfpde.runs.loading import state_with_problem, with_problem
from mfpde.support.arrays import Array
from mfpde.support.files.hdf5 import EQUILIBRIUM_MARK, REFERENCE_MARK, holds
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.saves import contradiction
from mfpde.support.words import printable
from mfpde.verification.laws_of_states import laws_of_state

if TYPE_CHECKING:
    from os import PathLike

    from mfpde.equation.grid import Grid
    from mfpde.equation.problem import Problem

__all__ = ["Check", "Verified", "verify"]


SAME = 1e-12
"""Relative difference of a number that is computed again, on another machine perhaps."""
BALANCE = 0.02
"""Relative difference of the energy lost and the dissipation recorded: errors of the mesh and of quadrature."""
WIDTH = 60
"""Characters of what was checked up to which numbers stand in one column."""


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
class Verified(Labelled):
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

    def _labels(self) -> Labels:
        """Checks, one a row."""
        variables = {
            "check": Column(["number"], np.array([check.name for check in self.checks], dtype=str)),
            "measured": Column(["number"], np.array([check.measured for check in self.checks], dtype=float)),
            "limit": Column(["number"], np.array([check.limit for check in self.checks], dtype=float)),
            "holds": Column(["number"], np.array([check.holds for check in self.checks], dtype=bool)),
        }
        attributes = {"path": self.path, "ok": int(self.ok), "unchecked": "; ".join(self.unchecked)}
        return Labels({"number": Column(["number"], np.arange(len(self.checks)))}, variables, attributes, ("number",))

    def __str__(self) -> str:
        width = min(max(len(check.name) for check in self.checks), WIDTH)
        lines = [f"{self.path}: {'all is well' if self.ok else 'NOT AS IT SHOULD BE'}"]
        lines += [
            f"  {'ok  ' if check.holds else 'FAIL'}  {check.name:<{width}}  {check.measured:.3g} <= {check.limit:.3g}"
            for check in self.checks
        ]
        lines += [f"  ?     {text}" for text in self.unchecked]
        return printable("\n".join(lines))


def verify(path: str | PathLike[str], problem: Problem | None = None) -> Verified:
    r"""Check a solution's file: its checksums, and the laws that its numbers must keep.

    Every number is read, densities frame by frame. Checked are: all checksums; the order of times; the sign of the
    density; mass, minimum and energy at the save times, computed anew from the density; conservation of mass; an energy
    that does not rise, where the equation says so; the optimality gap, which is never negative where the energy is
    convex; the energy balance :math:`E(0) - E(t) = \int_0^t D\,ds` with the recorded dissipation :math:`D`; the last
    state against what was recorded of it; and the save times against those that the run was to have. Of a reference's
    file: the checksums, and that both routes agree within their bars. Of a stationary state's: the checksums, and
    potential, energy, entropy and gap, computed anew from the density.

    Parameters
    ----------
    path : path
    problem : Problem, optional
        The problem, where the file does not hold it; without it energies are not computed anew.

    Returns
    -------
    Verified
        ``print`` it; ``ok`` says whether everything holds.

    Raises
    ------
    FileFormatError, OSError
        If the file is no solution, reference or stationary state, or cannot be read. What can be read and is not what
        was written is found, and no error.

    Examples
    --------
    >>> import mfpde as mf, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> _ = mf.solve(mf.problems.linear_neuron(), shape=(100,), t_end=0.5, output=path, progress=False)
    >>> mf.verify(path).ok
    True
    """
    if holds(path, REFERENCE_MARK):
        return _reference(path, problem)
    if holds(path, EQUILIBRIUM_MARK):
        return _state(path, problem)
    changed: list[str] = []
    record = read(path, changed)
    solution = with_problem(record, path, problem)
    unchecked: list[str] = []
    checks = list(_checksums(path, changed, unchecked, unfinished=solution.result is Result.UNFINISHED))
    with np.errstate(all="ignore"):  # of numbers that have changed anything can come
        checks += _laws(solution, unchecked)
        checks += _laws_of_the_state(solution)
    checks += _plain(record, solution)
    return Verified(str(path), tuple(checks), tuple(unchecked))


def _reference(path: str | PathLike[str], problem: Problem | None) -> Verified:
    """A file of numbers with error bars: what can be said without computing them again."""
    from mfpde.verification.references.file import read_reference

    changed: list[str] = []
    found = read_reference(path, problem, changed=changed)
    checks = [_unchanged(changed)]
    for one in found.observables:
        second = {"both routes": (one.other_value, one.other_bar), "value and check": (one.check_value, one.check_bar)}
        for which, (value, bar) in second.items():
            if value is None or bar is None:
                continue
            with np.errstate(all="ignore"):  # of numbers that have changed anything can come
                off, bars = np.abs(one.value - value), one.bar + bar
                worst = float(np.where(off == 0.0, 0.0, off / np.maximum(bars, 1e-300)).max())
            checks.append(Check(f"{one.name}: {which} apart, in bars", worst, 1.0))
    again = f"mfpde reference --check {path}"
    return Verified(str(path), tuple(checks), (f"the numbers themselves: {again} computes them again",))


def _state(path: str | PathLike[str], problem: Problem | None) -> Verified:
    """A file of a stationary state."""
    changed: list[str] = []
    state = state_with_problem(read_equilibrium(path, changed), path, problem)
    unchecked: list[str] = []
    with np.errstate(all="ignore"):  # of numbers that have changed anything can come
        laws = list(laws_of_state(state, unchecked))
    checks = [Check(name, found, 0.0 if scale is None else SAME * scale) for name, found, scale in laws]
    return Verified(str(path), (_unchanged(changed), *checks), tuple(unchecked))


def _checksums(
    path: str | PathLike[str], changed: Sequence[str], unchecked: list[str], *, unfinished: bool
) -> Iterator[Check]:
    """Whether the numbers are those that were written; `changed` are those that have been found not to be."""
    wrong = wrong_checksums(path)
    if wrong is None:
        unchecked.append("checksums: there are none in this file (of an early version)")
    elif unfinished:
        yield Check("parts that are not whole", len(wrong), 0.0)
        yield from (Check(f"not whole: {part}", 1.0, 0.0) for part in wrong)
        return
    names = list(dict.fromkeys([*changed, *(wrong or [])]))
    if wrong is not None or names:
        yield _unchanged(names)


def _unchanged(names: Sequence[str]) -> Check:
    """That nothing has another checksum than was written, or what has."""
    which = f" ({', '.join(names)})" if names else ""
    return Check(f"datasets whose checksum is wrong{which}", len(names), 0.0)


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
    known_energy = None if problem is None else _Energy(problem, grid)
    for i, mu in enumerate(solution.density):
        mass[i] = mu.sum() * grid.cell_volume
        least[i] = mu.min()
        if known_energy is not None:
            energy[i] = known_energy.of(mu, float(solution.times[i]))
    if solution.configuration.get("positive", True):  # of the scheme: it says so where it does not keep the sign
        yield Check("negative density", max(0.0, -float(least.min())), 0.0)
    yield Check("saved density against the recorded mass", _worst(mass, d["mass"][steps]), SAME)
    yield Check("saved density against the recorded minimum", float(np.abs(least - d["minimum"][steps]).max()), 0.0)
    yield Check("saved energy against the recorded one", _apart(solution.energy, d["energy"][steps]), 0.0)
    scale = _scale(solution)
    if known_energy is None:
        why = f" ({solution.missing})" if solution.missing else ""
        unchecked.append(f"energies: the file does not hold its problem{why}; pass it")
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


def _plain(record: Record, solution: Solution) -> Iterator[Check]:
    """The attributes in single numbers and words against what they say again."""
    if not record.plain:  # a file of an early version
        return
    wrong = differing(record.plain, plain_attributes(solution.problem, solution.grid, solution.configuration))
    which = f" ({', '.join(wrong)})" if wrong else ""
    name = "plain attributes that are not those of the run"
    yield Check(f"{name}{which}, of {len(record.plain)}", len(wrong), 0.0)


def _laws_of_the_state(solution: Solution) -> Iterator[Check]:
    """What the last state must have in common with what was recorded of it; and the companion's."""
    d, grid, state, companion = solution.diagnostics, solution.grid, solution.state, solution.companion
    yield Check("time of the state against that of the last step", _apart(state.t, d["time"][-1]), 0.0)
    yield Check("steps recorded that the state has not made", float(max(0, len(d["time"]) - 1 - state.n_steps)), 0.0)
    mass = state.mu.sum() * grid.cell_volume
    yield Check("state against the recorded mass", _worst(mass, d["mass"][-1]), SAME)
    yield Check("state against the recorded minimum", _apart(state.mu.min(), d["minimum"][-1]), 0.0)
    if state.t == solution.times[-1]:
        last = np.asarray(solution.density[-1])
        yield Check("state against the density saved last", float(np.abs(state.mu - last).max()), 0.0)
    elif solution.problem is not None:
        energy = _Energy(solution.problem, grid).of(state.mu, state.t)
        off = _apart(energy, d["energy"][-1])
        yield Check("energy of the state against the recorded one", off, SAME * _scale(solution))
    if companion is not None:
        yield Check("time of the companion beyond that of the state", max(0.0, companion.t - state.t), 0.0)
        if solution.configuration.get("positive", True):
            yield Check("negative density of the companion", max(0.0, -float(companion.mu.min())), 0.0)
    lengths = [one.length for one in (state, companion) if one is not None and one.length is not None]
    # infinity: nothing but the save times has bounded the steps of an implicit method so far
    yield Check("steps to come that are none", float(sum(not n > 0.0 for n in lengths)), 0.0)
    if "save" in solution.configuration:
        said = contradiction(solution.times.tolist(), state.t, solution.configuration["save"])
        name = "save times that are not those of the configuration"
        yield Check(f"{name}: {said}" if said else name, float(bool(said)), 0.0)


class _Energy:
    """The energy of densities of a problem on a mesh, with a temperature the free energy."""

    def __init__(self, problem: Problem, grid: Grid) -> None:
        self.problem, self.volume = problem, grid.cell_volume
        self.bound, self.log_base = problem.bound_energy.on(grid), problem.log_base(*grid.mesh())

    def of(self, mu: Array, t: float) -> float:
        """The energy of a density at a time; NaN where it has none."""
        from mfpde.equation.gibbs import entropy

        try:
            temperature = self.problem.temperature(t)
            value = float(self.bound.evaluate(mu)[1])
            return value + temperature * entropy(mu, self.volume, self.log_base) if temperature > 0.0 else value
        except (ValueError, ArithmeticError):  # of numbers that have changed
            return math.nan


def _scale(solution: Solution) -> float:
    """The largest energy that was recorded."""
    energy = solution.diagnostics["energy"]
    return float(np.abs(energy[~np.isnan(energy)]).max(initial=0.0))


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


def _apart(one: Array | float, other: Array | float) -> float:
    """The largest difference; where both are NaN, as energies are that a potential has not, there is none."""
    return float(np.where(np.isnan(one) & np.isnan(other), 0.0, np.abs(np.subtract(one, other))).max())


def _worst(one: Array | float, other: Array | float) -> float:
    """The largest relative difference; of two that are nothing there is none."""
    return float(np.where(np.equal(one, other), 0.0, np.abs(np.divide(one, other) - 1.0)).max())
