"""How a run ends: what it wants looked at, and what it raises."""

from __future__ import annotations

import numpy as np

from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.schedules import Constant
from mfpde.mesh.energy_errors import is_large
from mfpde.mesh.record import Result
from mfpde.mesh.solution import Solution
from mfpde.mesh.stopping import Limits
from mfpde.support.session import RunWarning, warn

__all__ = ["ENERGY_TOLERANCE", "SolveError", "conclude", "decays", "notes_of", "uninterrupted"]

ENERGY_TOLERANCE = 1e-13
DRIFT_WARN = 1e-12


class SolveError(RuntimeError):
    """A run that did not get where it should. ``solution`` holds what it computed."""

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


def conclude(solution: Solution, *, throw: bool, stacklevel: int) -> Solution:
    """Say what a run wants looked at, and raise if it failed."""
    for note in solution.warnings:
        try:
            warn(note, stacklevel=stacklevel + 1)
        except RunWarning as warning:  # where warnings are errors, they do not cost the run
            warning.solution = solution
            raise
    if throw and not (solution.result.ok or solution.result.cut_short):
        raise SolveError(f"at t = {solution.state.t:g}: {solution.result.value}", solution)
    return solution


def uninterrupted(solution: Solution) -> Solution:
    """A solution that is a part of something larger: who interrupts it interrupts that as well.

    Raises
    ------
    KeyboardInterrupt
        If the run was interrupted, by Ctrl-C or SIGTERM: `solve` itself returns what it had computed.
    """
    if solution.result is Result.INTERRUPTED:
        raise KeyboardInterrupt
    return solution


def notes_of(solution: Solution, limits: Limits, *, rises: bool, remedy: str) -> list[str]:
    """What a run wants looked at; `rises`: whether an energy that rises is one of it, `remedy`: what to do then."""
    diagnostics, stats = solution.diagnostics, solution.stats
    notes = []
    errors = solution.errors
    if errors is not None and errors.known and is_large(errors, solution.energy_scale):
        notes.append(f"the energy has an error of {solution.said_of_error}; refine the mesh (shape=)")
    if stats["energy_increase"] > ENERGY_TOLERANCE and rises:
        t_at = diagnostics["time"][int(np.argmax(np.diff(diagnostics["energy"]))) + 1]
        rise = stats["energy_increase"]
        notes.append(f"the energy rose by {rise:.1e} of its scale in the step to t = {t_at:g}; {remedy}")
    ends = diagnostics["end_mass"]
    if ends.max() > max(limits.end_mass, 2 * ends[0]):
        notes.append(
            f"{ends.max():.1e} of the mass lies at a truncation end (t = {diagnostics['time'][int(ends.argmax())]:g}); "
            "enlarge the axes"
        )
    if stats["mass_drift"] > DRIFT_WARN:
        notes.append(f"mass drifted by {stats['mass_drift']:.1e}")
    return notes


def decays(problem: Problem) -> bool:
    """Whether the energy of the equation cannot rise.

    With a temperature not for every reaction or schedule, never where the potential is that of no energy, and not with
    terms of the problem's own.
    """
    if problem.terms or not problem.bound_energy.lyapunov:
        return False
    if problem.noiseless:
        return True
    full = not problem.reacts or problem.reaction is Reaction.FREE_ENERGY
    return full and isinstance(problem.temperature, Constant)
