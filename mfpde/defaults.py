"""The scheme and the time stepping that a problem gets where none is named, and why."""

from __future__ import annotations

import numpy as np

from mfpde.grid import Grid
from mfpde.implicit import ImplicitStrang
from mfpde.problem import Problem, Reaction
from mfpde.stepping import ExponentialSSPRK3, Method, Strang
from mfpde.transport import ScharfetterGummel, Scheme, Weno5

__all__ = ["default_method", "default_scheme", "mean_peclet"]

DRIFT_DOMINATES = 1.0
"""Mean cell Peclet number from which Scharfetter-Gummel fluxes are no longer the default: they turn first order."""
DIFFUSION_IS_STIFF = 0.2
"""Mean cell Peclet number below which explicit steps bound by diffusion are a waste."""


def mean_peclet(problem: Problem, grid: Grid, temperature: float) -> float:
    """The mean over ``mu_0`` of the cell Peclet number ``max_axes |V_(i+1) - V_i| / tau``."""
    mu = problem.mu_0.cells(grid)
    V = problem.bound_energy.on(grid).evaluate(mu)[0]
    peclet = np.zeros(grid.shape)
    for i in range(grid.dimension):
        jump = np.abs(np.diff(V, axis=i)) / temperature
        for cells in (slice(None, -1), slice(1, None)):
            beside = peclet[(slice(None),) * i + (cells,)]
            np.maximum(beside, jump, out=beside)
    return float(np.vdot(mu, peclet)) * grid.cell_volume


def coldest(problem: Problem) -> float:
    """The lowest temperature of a run to the problem's end time, at nine times of it."""
    return min(problem.temperature(float(t)) for t in np.linspace(0.0, problem.t_end, 9))


def default_scheme(problem: Problem, grid: Grid) -> tuple[Scheme, str]:
    """The transport scheme for a problem, and why.

    `Weno5` at temperature 0, and above where drift dominates diffusion within a cell (`mean_peclet` above 1 at the
    lowest temperature of the run); else `ScharfetterGummel`, which is then of second order and keeps Gibbs states.
    """
    tau = coldest(problem)
    if tau == 0.0:
        return Weno5(), "temperature 0" if problem.noiseless else "the temperature falls to 0"
    mean = mean_peclet(problem, grid, tau)
    if mean <= DRIFT_DOMINATES:
        return ScharfetterGummel(), f"mean cell Peclet number {mean:.2g} <= {DRIFT_DOMINATES:g}"
    return Weno5(), f"drift dominates diffusion within a cell: mean cell Peclet number {mean:.2g}"


def default_method(problem: Problem, grid: Grid, scheme: Scheme) -> tuple[Method, str]:
    """The time stepping for a problem and a scheme, and why.

    `ImplicitStrang` for `ScharfetterGummel`. Otherwise `ExponentialSSPRK3` where it applies, unless diffusion is stiff:
    then, and for reinjection and the free-energy reaction, `Strang`.
    """
    tau = coldest(problem)
    if isinstance(scheme, ScharfetterGummel):
        return ImplicitStrang(), "steps of any length keep sign, mass and Gibbs states"
    if problem.reinjection is not None:
        return Strang(), "reinjection"
    if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
        return Strang(), "free-energy reaction"
    if tau > 0.0:
        mean = mean_peclet(problem, grid, tau)
        if mean < DIFFUSION_IS_STIFF:
            return Strang(), f"diffusion is stiff: mean cell Peclet number {mean:.2g}"
    return ExponentialSSPRK3(), "third order, unsplit"
