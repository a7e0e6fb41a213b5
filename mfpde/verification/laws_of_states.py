"""What the file of a stationary state must keep: its checksums, and what its problem says of its density."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.functional import Functional
from mfpde.equation.gibbs import entropy, log_gibbs, relative_entropy
from mfpde.equation.plain_attributes import differing, plain_attributes
from mfpde.equation.problem import Problem, Reaction
from mfpde.support.threads import one_blas_thread

if TYPE_CHECKING:
    from mfpde.support.arrays import Array

__all__ = ["laws_of_state"]


def laws_of_state(state: Equilibrium, unchecked: list[str]) -> Iterator[tuple[str, float, float | None]]:
    """The laws that a stationary state keeps; what cannot be looked at is added to `unchecked`.

    Yields
    ------
    (str, float, float or None)
        What is checked, what was measured, and the size of what it was measured on, of which it may be a rounding
        error. None: it must be 0.
    """
    mu, problem = state.mu, state.problem
    yield "negative density", max(0.0, -float(mu.min())), None
    yield "density against its logarithm", float(np.abs(np.exp(state.log_mu) - mu).max()), float(mu.max())
    wrong = differing(state.plain, plain_attributes(problem, state.grid) | {"temperature": state.temperature})
    which = f" ({', '.join(wrong)})" if wrong else ""
    yield f"plain attributes that are not those of the state{which}, of {len(state.plain)}", len(wrong), None
    if state.gap < 0:
        yield "negative gap", -state.gap, None
    if problem is None:
        why = f" ({state.missing})" if state.missing else ""
        unchecked.append(f"energy, potential and gap: the file does not hold its problem{why}; pass it")
        return
    V, energy, entropic, gap, size = _again(state, problem)
    scale = max(abs(state.energy), size, state.temperature)
    yield "potential of the density against the one in the file", float(np.abs(V - state.potential).max()), size
    yield "energy of the density against the one in the file", abs(energy - state.energy), scale
    yield "entropy of the density against the one in the file", abs(entropic - state.entropy), max(abs(entropic), 1.0)
    yield "gap of the density against the one in the file", abs(gap - state.gap), scale


@one_blas_thread()
def _again(state: Equilibrium, problem: Problem) -> tuple[Array, float, float, float, float]:
    """Potential, energy, entropy and gap, computed anew; and the size of potentials.

    At the minimum a potential may be 0 by cancellation: its terms are as large as those at the problem's start.
    """
    grid, tau, mu, mass = state.grid, state.temperature, state.mu, state.mass
    log_base = problem.log_base(*grid.mesh())
    functional = Functional(problem.bound_energy, grid)
    size = float(np.abs(functional.evaluate(problem.mu_0.cells(grid))[0]).max())
    V, energy = functional.evaluate(mu)
    size = max(size, float(np.abs(V).max()), 1e-300)
    V, entropic = np.array(V), entropy(mu, grid.cell_volume, log_base)
    if tau > 0:
        log_p = log_gibbs(V, tau, grid.cell_volume, log_base=log_base, mass=mass)
        gap = max(tau * relative_entropy(mu, log_p, grid.cell_volume), 0.0)
        return V, energy + tau * entropic, entropic, gap, size
    mean, least = float(np.vdot(V, mu)) * grid.cell_volume, float(V.min())
    if problem.reaction is Reaction.UNBALANCED:
        return V, energy, entropic, abs(mean) + max(mass, 1.0) * max(0.0, -least), size
    return V, energy, entropic, max(mean - mass * least, 0.0), size
