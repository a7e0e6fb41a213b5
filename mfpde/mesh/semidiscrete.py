"""The semi-discrete flow: energy, transport and reaction of one problem on one mesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mfpde.equation.convexity import convex_on
from mfpde.equation.gibbs import log_gibbs, relative_entropy
from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.mesh.reaction import make_reaction
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.transport import Transport
from mfpde.support.arrays import Array

if TYPE_CHECKING:
    from mfpde.mesh.compiled.updates import Survey

__all__ = ["Evaluation", "Flow", "FreeEnergy"]


EMPTY = 1e-300
"""The density whose logarithm stands for that of an empty cell in the slope of the free energy."""


@dataclass(slots=True)
class Evaluation:
    """What is known about one density.

    Attributes
    ----------
    mu, V : array
        The density and its potential ``V[mu]`` on the cells.
    energy : float
        ``E[mu]`` without the entropy.
    response : array
        ``u = int Phi dmu`` in the energy's compressed coordinates.
    mass : float
        ``int dmu``.
    mean : float
        ``Vbar``, the mean of ``V`` under ``mu``.
    survey : Survey
        Sums and extremes.
    """

    mu: Array
    V: Array
    energy: float
    response: Array
    mass: float
    mean: float
    survey: Survey
    known: dict[float, tuple[tuple[float, int], int]] = field(default_factory=dict, repr=False)
    """By temperature, once `Flow.outflow` has been asked: its answer, and what the transport operator calls the speeds
    behind it (see `Transport.rate`)."""


@dataclass(slots=True)
class FreeEnergy:
    """What a temperature adds to an `Evaluation`.

    Attributes
    ----------
    energy : float
        ``E[mu]`` with the entropy: ``E_0[mu] + tau int log(mu/omega) dmu``.
    entropy : float
        ``int log(mu/omega) dmu``.
    slope : array
        ``psi = V + tau log(mu/omega)``, its first variation up to a constant.
    gap : float
        ``tau KL(mu | p_mu)``, with ``p_mu`` the proximal Gibbs measure ``~ omega exp(-V[mu]/tau)`` of the same mass. At
        least ``E - min E`` for convex ``E``; otherwise it bounds nothing.
    """

    energy: float
    entropy: float
    slope: Array
    gap: float


class Flow:
    """Everything that does not change during a run.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        A mesh on the problem's axes.
    scheme : Scheme
        The transport scheme.

    Attributes
    ----------
    evaluations : int
        How often the potential has been evaluated.
    """

    def __init__(self, problem: Problem, grid: Grid, scheme: Scheme) -> None:
        if grid.axes != tuple(problem.axes):
            raise ValueError("the grid's axes are not the problem's; use problem.grid(shape)")
        self.problem = problem
        self.grid = grid
        self.scheme = scheme
        self.energy = problem.bound_energy.on(grid)
        self.log_base = problem.log_base(*grid.mesh())
        self.transport = Transport(grid, scheme, problem.metric, self.log_base)
        self.reaction = make_reaction(problem, grid, scheme.point_values, self.log_base)
        self.evaluations = 0
        from mfpde.mesh.compiled.updates import survey

        self._survey = survey
        self._scratch: dict[str, Array] = {}

    @cached_property
    def convex(self) -> bool | None:
        """Whether the energy is convex on the mesh, among measures of one mass, or of any where the mass is free."""
        bound, start = self.problem.bound_energy, self.problem.mu_0
        at = None if bound.convex else start.cells(self.grid)
        return convex_on(bound, self.grid, free_mass=not self.reaction.balanced, plan=self.energy, at=at)

    def evaluate(self, mu: Array, out: Array | None = None) -> Evaluation:
        """The potential and what follows from it; ``V`` is written into `out` if given."""
        self.evaluations += 1
        V, energy, response = self.energy.evaluate(mu, out)
        known = self._survey(mu, V)
        mean = known.moment / known.total if known.total > 0 else 0.0
        return Evaluation(mu, V, energy, response, known.total * self.grid.cell_volume, mean, known)

    def scratch(self, name: str) -> Array:
        """An array of the mesh's shape that is kept for a purpose; its contents do not last beyond a step."""
        if name not in self._scratch:
            self._scratch[name] = np.empty(self.grid.shape)
        return self._scratch[name]

    def outflow(self, at: Evaluation, temperature: float = 0.0) -> tuple[float, int]:
        """The largest rate at which a cell empties by drift and diffusion, and which cell."""
        if temperature not in at.known:
            at.known[temperature] = self.transport.outflow_rate(at.V, at.mu, temperature), self.transport.outflow_token
        return at.known[temperature][0]

    def rate(
        self, at: Evaluation, temperature: float, dt: float | None, mu: Array | None = None, out: Array | None = None
    ) -> Array:
        """The transport's rate of change of `mu` (default ``at.mu``) in the potential of `at`; see `Transport.rate`."""
        token = at.known[temperature][1] if temperature in at.known else None
        return self.transport.rate(at.mu if mu is None else mu, at.V, out, dt, temperature, outflow=token)

    def growth(self, rate_sum: float, mass: float) -> float:
        """The relative rate at which a rate of change with this sum creates mass: zero but for round-off."""
        return rate_sum * self.grid.cell_volume / mass if mass > 0 else 0.0

    def free_energy(self, at: Evaluation, temperature: float) -> FreeEnergy:
        """The free energy at a temperature above 0, and what follows from it."""
        mu, volume = at.mu, self.grid.cell_volume
        log_p = log_gibbs(at.V, temperature, volume, log_base=self.log_base, mass=at.mass)
        gap = temperature * relative_entropy(mu, log_p, volume)
        slope = np.maximum(mu, EMPTY, out=log_p)  # log_p has served
        np.log(slope, out=slope)
        if self.log_base is not None:
            slope -= self.log_base
        entropy = float(np.vdot(mu, slope)) * volume
        slope *= temperature
        slope += at.V
        return FreeEnergy(at.energy + temperature * entropy, entropy, slope, max(gap, 0.0))
