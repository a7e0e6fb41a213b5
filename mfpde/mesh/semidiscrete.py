"""The semi-discrete flow: energy, transport, reaction and other terms of one problem on one mesh."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from mfpde.equation.convexity import convex_on
from mfpde.equation.energy.base import GridEnergy
from mfpde.equation.gibbs import log_gibbs, relative_entropy
from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.equation.species import slices_of
from mfpde.mesh.algebra import Algebra, Survey
from mfpde.mesh.constants import EMPTY
from mfpde.mesh.reaction import ReactionStep
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.transport_operator import Outflow, TransportOperator
from mfpde.support.arrays import Array
from mfpde.support.threads import Turns

__all__ = ["Coefficients", "Departure", "Evaluation", "Flow", "FreeEnergy", "Operator", "Outcome", "Part", "Substep"]


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
    outflow: dict[float, Outflow] = field(default_factory=dict, repr=False)
    """By temperature, once `Flow.outflow` has been asked: how fast the cells empty."""


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


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What varies within a step.

    Attributes
    ----------
    alpha, temperature : callable
        The birth-death rate and ``tau`` at a fraction in [0, 1] of the step.
    """

    alpha: Callable[[float], float]
    temperature: Callable[[float], float]

    def part(self, start: float, fraction: float) -> Coefficients:
        """Those of a part of the step."""
        return Coefficients(
            lambda c: self.alpha(start + fraction * c), lambda c: self.temperature(start + fraction * c)
        )


@dataclass(slots=True)
class Outcome:
    """What a step gave.

    Attributes
    ----------
    mu : array or None
        The new density; None when a stage's velocity outgrew the positivity bound.
    leak : float
        The relative mass that the transport created, measured before any rescaling; round-off.
    error : float or None
        Estimate of the step's error in L1 relative to the mass.
    bound : float
        The step length that the fastest stage would have allowed.
    end : Evaluation or None
        What is known about the new density where the method has evaluated it.
    """

    mu: Array | None
    leak: float = 0.0
    error: float | None = None
    bound: float = math.inf
    end: Evaluation | None = None


class Operator(enum.Enum):
    """A part of the flow."""

    TRANSPORT = "transport"
    REACTION = "reaction"
    OWN = "own"
    """The terms of the problem's own, all of them."""


class Substep(NamedTuple):
    """What a part of the flow is to do within a step.

    Attributes
    ----------
    length : float
        For how long, in the clock ``S``.
    at : Coefficients
        ``alpha`` and ``tau`` meanwhile.
    first_rate : array or None
        The transport's rate of change at the start, if it is known.
    corrector : bool
        Whether a potential that is frozen is the average of those at the start and at a predicted end (second order) or
        that at the start (first order).
    stabilised : bool
        Whether the transport may take a step beyond its positivity bound with more stages.
    """

    length: float
    at: Coefficients
    first_rate: Array | None = None
    corrector: bool = True
    stabilised: bool = True


class Departure(NamedTuple):
    """What is known of a state when a step leaves it.

    Attributes
    ----------
    at : Evaluation
        The state.
    free : FreeEnergy or None
        What a temperature adds; None at temperature 0.
    rate : array
        The transport's rate of change there.
    speed, alpha, temperature : float
        The common schedule, the birth-death rate and ``tau``.
    cell : int
        The cell whose outflow limits the step.
    """

    at: Evaluation
    free: FreeEnergy | None
    rate: Array
    speed: float
    alpha: float
    temperature: float
    cell: int

    @property
    def slope(self) -> Array:
        """The first variation of the energy with its entropy."""
        return self.at.V if self.free is None else self.free.slope


class Part(ABC):
    """One operator of the flow: how it advances a density by itself, and what energy it takes away.

    Attributes
    ----------
    column : str
        The column of the record that its dissipation belongs to.
    """

    column: ClassVar[str]

    def acts(self, at: Coefficients, fraction: float) -> bool:
        """Whether it changes anything around a fraction of a step."""
        return True

    @abstractmethod
    def advance(self, flow: Flow, start: Evaluation, substep: Substep) -> Outcome:
        """The density after a step of this operator alone."""

    @abstractmethod
    def dissipation(self, flow: Flow, departure: Departure) -> float:
        """``-dE/dt`` by this operator, divided by the common schedule."""


@dataclass(eq=False)
class Flow:
    """Everything that does not change during a run, as parts that are handed in; see `mfpde.mesh.flow.make_flow`.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        A mesh on the problem's axes.
    scheme : Scheme
        The transport scheme.
    algebra : Algebra
        The operations on arrays.
    energy : GridEnergy
        The energy on the mesh.
    transport : TransportOperator
        Drift and diffusion.
    reaction : ReactionStep
        Birth and death.
    parts : mapping of Operator to Part
        The operators, for methods that take one after the other.
    balanced : bool
        Whether mass is conserved.

    Attributes
    ----------
    evaluations : int
        How often the potential has been evaluated.
    """

    problem: Problem
    grid: Grid
    scheme: Scheme
    algebra: Algebra
    energy: GridEnergy
    transport: TransportOperator
    reaction: ReactionStep
    parts: Mapping[Operator, Part]
    balanced: bool
    evaluations: int = field(default=0, init=False)
    turns: Turns = field(default_factory=Turns, init=False, repr=False)
    """Of threads that share the flow: its scratch arrays and those of the transport are of one at a time."""
    _scratch: dict[str, Array] = field(default_factory=dict, init=False, repr=False)

    @property
    def log_base(self) -> Array | None:
        """``log omega`` on the cells; None where the base measure is Lebesgue's."""
        return self.reaction.log_base

    @cached_property
    def convex(self) -> bool | None:
        """Whether the energy is convex on the mesh, among measures of one mass, or of any where the mass is free."""
        bound, start = self.problem.bound_energy, self.problem.mu_0
        at = None if bound.convex else start.cells(self.grid)
        return convex_on(bound, self.grid, free_mass=not self.reaction.balanced, plan=self.energy, at=at)

    def evaluate(self, mu: Array, out: Array | None = None) -> Evaluation:
        """The potential and what follows from it; ``V`` is written into `out` if given."""
        with self.turns:
            self.evaluations += 1
            V, energy, response = self.energy.evaluate(mu, out)
        known = self.algebra.survey(mu, V)
        mean = known.moment / known.total if known.total > 0 else 0.0
        return Evaluation(mu, V, energy, response, known.total * self.grid.cell_volume, mean, known)

    def scratch(self, name: str) -> Array:
        """An array of the mesh's shape that is kept for a purpose; its contents do not last beyond a step."""
        if name not in self._scratch:
            self._scratch[name] = self.algebra.empty(self.grid.shape)
        return self._scratch[name]

    def outflow(self, at: Evaluation, temperature: float = 0.0) -> Outflow:
        """How fast the cells empty by drift and diffusion."""
        if temperature not in at.outflow:
            with self.turns:
                at.outflow[temperature] = self.transport.outflow(at.V, at.mu, temperature)
        return at.outflow[temperature]

    def growth(self, rate_sum: float, mass: float) -> float:
        """The relative rate at which a rate of change with this sum creates mass: zero but for round-off."""
        return rate_sum * self.grid.cell_volume / mass if mass > 0 else 0.0

    def _log_gibbs(self, at: Evaluation, temperature: float) -> Array:
        """The logarithm of the proximal Gibbs measure, each species that keeps its mass with that."""
        volume, base = self.grid.cell_volume, self.log_base
        if self.problem.apart is None:
            return log_gibbs(at.V, temperature, volume, log_base=base, mass=at.mass)
        log_p = np.zeros(self.grid.shape)
        for part in slices_of(*self.problem.apart):
            own = None if base is None else np.broadcast_to(base, log_p.shape)[part]
            mass = float(at.mu[part].sum()) * volume
            if mass > 0.0:
                log_p[part] = log_gibbs(at.V[part], temperature, volume, log_base=own, mass=mass)
        return log_p

    def free_energy(self, at: Evaluation, temperature: float) -> FreeEnergy:
        """The free energy at a temperature above 0, and what follows from it."""
        mu, volume = at.mu, self.grid.cell_volume
        log_p = self._log_gibbs(at, temperature)
        gap = temperature * relative_entropy(mu, log_p, volume)
        slope = np.maximum(mu, EMPTY, out=log_p)  # log_p has served
        np.log(slope, out=slope)
        if self.log_base is not None:
            slope -= self.log_base
        entropy = self.algebra.dot(mu, slope) * volume
        slope *= temperature
        slope += at.V
        return FreeEnergy(at.energy + temperature * entropy, entropy, slope, max(gap, 0.0))
