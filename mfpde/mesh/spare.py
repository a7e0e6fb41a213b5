"""Solvers that runs on small meshes have done with, kept with their problem for the next one.

To make a solver takes as long as a fifth of the steps of a run on 200 cells. What is kept here belongs to one run at a
time: who takes a solver is alone with it, and who fails does not bring it back.
"""

from __future__ import annotations

from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.mesh.kept import kept
from mfpde.mesh.solver import Solver

__all__ = ["put_away", "spare_solver"]

MOST_SPARE = 2
"""Solvers that are kept for each mesh."""


def _spare(problem: Problem, grid: Grid) -> list[Solver]:
    return kept(problem, grid, "spare", list)


def spare_solver(problem: Problem, grid: Grid) -> Solver | None:
    """A solver of the problem on a mesh, without parts of anybody's own, that nobody uses; None where there is none."""
    try:
        solver = _spare(problem, grid).pop()  # at once: other threads take from them, too
    except IndexError:
        return None
    for one in (solver, solver.coarser):
        if one is not None:
            one.problem = one.flow.problem = problem
            one.forget()
    return solver


def put_away(solver: Solver, coarser: Solver | None) -> None:
    """Keep a solver that a run has done with, and that of its companion.

    They do without the problem meanwhile: with what keeps them in them, nothing would ever go.

    Parameters
    ----------
    solver : Solver
        It steps by a program, without parts of anybody's own, and nobody uses it any more. Its problem has no noise:
        with noise the parts that nobody names depend on the end of the run.
    coarser : Solver or None
        The companion's.
    """
    spare = _spare(solver.problem, solver.grid)
    if len(spare) < MOST_SPARE:
        solver.coarser = coarser
        for one in (solver, coarser):
            if one is not None:
                one.problem = one.flow.problem = None  # type: ignore[assignment]
                one.forget()
        spare.append(solver)
