"""Wider boxes, for mass that comes near their ends."""

from __future__ import annotations

import dataclasses
import math

from mfpde.equation.grid import Axis
from mfpde.equation.problem import Problem
from mfpde.mesh.recorder import end_shares
from mfpde.mesh.solution import Solution

__all__ = ["MOST_EXTENSIONS", "extended"]

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
        larger = Axis(axis.name, axis.lower - below * h, axis.upper + above * h, (axis.lower_end, axis.upper_end))
        axes.append(larger)
        shape.append(n + below + above)
        if below or above:
            said.append(f"{axis.name} from [{axis.lower:g}, {axis.upper:g}] to [{larger.lower:g}, {larger.upper:g}]")
    note = f"mass reached the ends of the mesh at t = {solution.state.t:g}: started again with {', '.join(said)}"
    return dataclasses.replace(problem, axes=axes), tuple(shape), note
