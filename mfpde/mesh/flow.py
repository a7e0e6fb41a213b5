"""The flow of a problem on a mesh, from its parts."""

from __future__ import annotations

from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.mesh.algebra import Algebra
from mfpde.mesh.kept import kept
from mfpde.mesh.parts import OwnTerms, ReactionPart, TransportPart
from mfpde.mesh.reaction import make_reaction
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Flow, Operator, Part
from mfpde.support.arrays import Array

__all__ = ["default_algebra", "make_flow"]


def default_algebra() -> Algebra:
    """The compiled one; numba comes with it, and is not imported before."""
    from mfpde.mesh.compiled.algebra import CompiledAlgebra

    return CompiledAlgebra()


def make_flow(problem: Problem, grid: Grid, scheme: Scheme, algebra: Algebra | None = None) -> Flow:
    """The flow of a problem on a mesh.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        A mesh on the problem's axes.
    scheme : Scheme
        The transport scheme.
    algebra : Algebra, optional
        Default: the compiled one.
    """
    if grid.axes != tuple(problem.axes):
        raise ValueError("the grid's axes are not the problem's; use problem.grid(shape)")
    algebra = default_algebra() if algebra is None else algebra
    log_base = None if problem.base is None else problem.log_base(*grid.mesh())
    reaction = make_reaction(problem, grid, scheme.point_values, log_base, algebra)

    def cells(measure: Measure) -> Array:
        restricted = measure.restrict(grid.axes)
        return restricted.point_values(grid) if scheme.point_values else restricted.cells(grid)

    parts: dict[Operator, Part] = {Operator.TRANSPORT: TransportPart(), Operator.REACTION: ReactionPart()}
    if problem.terms:
        parts[Operator.OWN] = OwnTerms(problem.terms, cells)
    return Flow(
        problem=problem,
        grid=grid,
        scheme=scheme,
        algebra=algebra,
        energy=kept(
            problem, grid, "energy", lambda: problem.bound_energy.on(grid), lambda plan: plan.parts is not None
        ),
        transport=algebra.transport(grid, scheme, problem.rates, log_base),
        reaction=reaction,
        parts=parts,
        balanced=reaction.balanced and all(term.balanced for term in problem.terms),
    )
