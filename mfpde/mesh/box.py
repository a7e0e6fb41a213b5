"""Wider boxes, for mass that comes near their ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mfpde.equation.grid import Axis
from mfpde.equation.problem import Problem
from mfpde.mesh.options import RunOptions
from mfpde.mesh.record import Result
from mfpde.mesh.recorder import end_shares
from mfpde.mesh.solution import Solution
from mfpde.mesh.stopping import OnEndMass

if TYPE_CHECKING:
    from mfpde.mesh.stream import Stream

__all__ = ["MOST_EXTENSIONS", "Prepare", "PreparedRun", "again_on_larger_boxes", "extended"]

EXTENSION = 0.25
"""By how much of its cells an axis grows at an end that mass has reached."""
MOST_EXTENSIONS = 12


def extended(problem: Problem, solution: Solution) -> tuple[Problem, tuple[int, ...], str]:
    """The problem on a box that is larger where mass has reached its ends, with cells as before, and what was done."""
    grid = solution.grid
    shares = end_shares(solution.state.mu, grid)
    reached = 0.1 * max(max(pair) for pair in shares)
    axes, shape, said = [], [], []
    for axis, n, h, pair in zip(grid.axes, grid.shape, grid.spacing, shares, strict=True):
        more = math.ceil(EXTENSION * n)
        below, above = (more if share > 0.0 and share >= reached else 0 for share in pair)
        larger = axis
        if axis.moves:
            larger = Axis(axis.name, axis.lower - below * h, axis.upper + above * h, (axis.lower_end, axis.upper_end))
        axes.append(larger)
        shape.append(n + below + above)
        if below or above:
            said.append(f"{axis.name} from [{axis.lower:g}, {axis.upper:g}] to [{larger.lower:g}, {larger.upper:g}]")
    note = f"mass reached the ends of the mesh at t = {solution.state.t:g}: started again with {', '.join(said)}"
    return dataclasses.replace(problem, axes=axes), tuple(shape), note


class PreparedRun(Protocol):
    """A run that is ready to begin."""

    times: list[float]

    def complete(self) -> Solution:
        """Run to the end, whatever that is."""


class Prepare(Protocol):
    """What makes a run ready: a problem, how it is solved, where densities go, and what is to be said besides."""

    def __call__(
        self, problem: Problem, options: RunOptions, stream: Stream | None, notes: Sequence[str] = ()
    ) -> PreparedRun:
        """Everything that can be refused is refused now."""


def again_on_larger_boxes(
    solution: Solution, problem: Problem, options: RunOptions, stream: Stream | None, prepare: Prepare
) -> Solution:
    """If the options say so, a run again on larger meshes as long as mass reaches their truncation ends.

    The last run comes back, with notes of all. Where an energy has no values out there, that of the run before.
    """
    notes: list[str] = []
    extends = options.on_end_mass is OnEndMass.EXTEND
    while extends and solution.result is Result.END_MASS and len(notes) < MOST_EXTENSIONS:
        larger: PreparedRun | None = None
        try:
            problem, shape, note = extended(problem, solution)
            notes.append(note)
            if stream is not None:
                stream.start_again()
            larger = prepare(problem, dataclasses.replace(options, shape=shape), stream, notes)
            solution = larger.complete()
        except (ValueError, ArithmeticError, MemoryError) as error:
            if larger is not None and larger.times:
                raise
            # the energy may have no values out there: the run so far is kept
            reason = " ".join(str(error).split())
            solution.warnings.append(f"mass reached the ends of the mesh, which could not be extended: {reason}")
            break
    return solution
