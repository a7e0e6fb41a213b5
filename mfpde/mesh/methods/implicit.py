"""Implicit steps for a temperature above 0: any step length, with the potential consistent with both ends.

A step freezes one potential and composes exact reactions with per-axis implicit transport of the
Scharfetter-Gummel fluxes. Each factor then leaves the same Gibbs measure ``omega exp(-V/tau)``
invariant and cannot raise ``int V dmu + tau int log(mu/omega) dmu``, whatever its length. If the
frozen potential is the average of those at both ends, the interaction's part of the energy changes
by exactly ``int V d(mu' - mu)``, so that the free energy itself cannot rise. That potential is
found by iteration; where the iteration fails, the step is made as two of half the length.
"""

from __future__ import annotations

import enum
import math
from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.grid import moving
from mfpde.equation.problem import Problem
from mfpde.mesh.constants import MEMORY, MOST_HALVINGS, MOST_ITERATIONS
from mfpde.mesh.methods.base import Method, Work
from mfpde.mesh.schemes import ScharfetterGummel, Scheme
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, Flow, Outcome
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["ImplicitEuler", "ImplicitStrang", "Potential"]


class Potential(enum.Enum):
    """Where an implicit step takes its potential from. ``mu`` is the start, ``mu'`` the end."""

    START = "start"
    """``V[mu]``: no iteration, order 1. The free energy cannot rise if the energy is concave (for instance an
    interaction whose kernel has no positive eigenvalue); with a convex one it can at large steps."""
    AVERAGE = "average"
    """``(V[mu] + V[mu'])/2``: order 2. The free energy cannot rise for any quadratic energy, convex or not."""
    END = "end"
    """``V[mu']``: order 1. The free energy cannot rise for any convex energy."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class _Implicit(Method):
    potential: Potential = Potential.AVERAGE
    convergence: float = 1e-3
    ssp: float = field(default=1.0, init=False, repr=False)
    embedded: bool = field(default=False, init=False, repr=False)
    consistent: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.potential, Potential):
            names = ", ".join(f"Potential.{p.name}" for p in Potential)
            raise ValueError(f"potential must be one of {names}, not {shown(self.potential)}")
        if not (real(self.convergence) and 0 < self.convergence < 1):
            raise ValueError(f"convergence must lie in (0, 1), not {shown(self.convergence)}; 1e-3 is a good value")
        if self.potential is not Potential.AVERAGE:
            object.__setattr__(self, "order", 1)  # only the average of both ends is of order 2

    def check(self, problem: Problem, scheme: Scheme) -> None:
        """Refuse other schemes than `ScharfetterGummel`, and terms of the problem's own."""
        super().check(problem, scheme)
        if not isinstance(scheme, ScharfetterGummel):
            raise ValueError(f"{type(self).__name__} needs scheme=ScharfetterGummel(), not {scheme!r}")

    def bound(self, flow: Flow, at: Evaluation, temperature: float) -> float:
        """None: any step is positive."""
        return math.inf

    def work(self, problem: Problem, *, doubled: bool) -> Work:
        """The iterates of the potential, where the energy makes it depend on the density, and factors of the step."""
        iterated = problem.bound_energy.interacts and self.potential is not Potential.START
        most = 10 + self.order + (2 * MEMORY + 3 if iterated else 0) + (8 if doubled else 2)
        return Work(most, most - (MEMORY + 1 if iterated else 0), 5)

    @abstractmethod
    def _compose(self, flow: Flow, mu: Array, V: Array, length: float, at: Coefficients) -> Array:
        """The end of the step for a frozen potential."""

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """A step with its potential found by iteration; two of half the length where that fails."""
        return self._step(flow, start, length, at, MOST_HALVINGS)

    def _step(self, flow: Flow, start: Evaluation, length: float, at: Coefficients, halvings: int) -> Outcome:
        mu, end = self._solve(flow, start, length, at)
        if mu is not None:
            end = end or flow.evaluate(mu)
            leak = end.mass / start.mass - 1.0 if flow.reaction.balanced else 0.0
            return Outcome(mu, leak, end=end)
        # every property of a step holds for two of half the length
        if halvings == 0:
            return Outcome(None, bound=0.5 * length)
        first = self._step(flow, start, 0.5 * length, at.part(0.0, 0.5), halvings - 1)
        if first.mu is None:
            return Outcome(None, bound=2.0 * first.bound)
        assert first.end is not None
        second = self._step(flow, first.end, 0.5 * length, at.part(0.5, 0.5), halvings - 1)
        if second.mu is None:
            return Outcome(None, bound=2.0 * second.bound)
        return Outcome(second.mu, first.leak + second.leak, end=second.end)

    def _solve(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients
    ) -> tuple[Array | None, Evaluation | None]:
        """The end of the step, or None where the iteration for the potential does not converge."""
        finish = flow.algebra.finish
        V, tau = start.V, at.temperature(0.5)
        mu = finish(self._compose(flow, start.mu, V, length, at), 1.0)
        if self.potential is Potential.START:
            return mu, None
        share = 0.5 if self.potential is Potential.AVERAGE else 1.0
        mixing = _Anderson()
        for _ in range(MOST_ITERATIONS):
            end = flow.evaluate(mu)
            residual, off, allowed = self._residual(start, end, V, share, tau)
            if not math.isfinite(off):
                return None, None
            if off <= allowed:
                return mu, end
            V = mixing.next(V, residual)
            del residual
            mu = finish(self._compose(flow, start.mu, V, length, at), 1.0)
        return None, None

    def _residual(
        self, start: Evaluation, end: Evaluation, V: Array, share: float, tau: float
    ) -> tuple[Array, float, float]:
        """What the potential misses, its deviation, and how large that may be."""
        change = end.V - start.V
        residual = (start.V - V) + share * change
        weight = start.mu + end.mu
        off, moved = _deviation(residual, weight), _deviation(change, weight)
        # what is left matters against the temperature; at rest, round-off in V is all there is
        return residual, off, max(self.convergence * moved, 1e-12 * (_deviation(V, weight) + tau))


def _deviation(values: Array, weight: Array) -> float:
    """The standard deviation under a weight: constants in a potential move nothing."""
    total = float(weight.sum())
    if total == 0.0:
        return 0.0
    centred = values - float(np.vdot(values, weight)) / total
    centred *= centred
    return math.sqrt(float(np.vdot(centred, weight)) / total)


@dataclass(frozen=True)
class ImplicitEuler(_Implicit):
    """Reaction, then implicit Euler along each axis in turn: order 1 in time.

    Parameters
    ----------
    potential : Potential
        Default `Potential.AVERAGE`.
    convergence : float
        The iteration for the potential ends when what it misses is this share of the step's change of the potential.

    Notes
    -----
    For every step length: positive, mass exact to round-off, Gibbs states kept to round-off, and (see `Potential`)
    a free energy that does not rise without reaction or with the free-energy one, to the tolerance of the iteration.

    **Good values.** For long steps to the stationary state of a convex energy `Potential.END`: the average hardly damps
    the interaction, as the trapezoidal rule does not.
    """

    order: int = field(default=1, init=False, repr=False)

    def _compose(self, flow: Flow, mu: Array, V: Array, length: float, at: Coefficients) -> Array:
        tau, alpha = at.temperature(0.5), at.alpha(0.5)
        if alpha != 0.0:
            mu = flow.reaction.apply(mu, V, alpha * length, tau)
        for axis in moving(flow.grid.axes):
            mu = flow.transport.implicit(axis, mu, V, length, tau, order=1)
        return mu


@dataclass(frozen=True)
class ImplicitStrang(_Implicit):
    """Half a reaction, the axes there and back, half a reaction, each of order 2: order 2 in time.

    Parameters
    ----------
    potential : Potential
        `Potential.AVERAGE` (default); the others are of order 1.
    convergence : float
        The iteration for the potential ends when what it misses is this share of the step's change of the potential.

    Notes
    -----
    For every step length: positive, mass exact to round-off, Gibbs states kept to round-off. The transport along an
    axis is an L-stable Runge-Kutta step of order 2; where it would turn negative, its fluxes are blended with those of
    the implicit Euler step, and order 2 is lost there. While ``dt`` times the largest exit rate along an axis stays
    below ``1 + sqrt(2)`` it is an average of stochastic matrices, and the free energy cannot rise as for
    `ImplicitEuler`; beyond, decay is observed and watched, not guaranteed.
    """

    order: int = field(default=2, init=False, repr=False)

    def _compose(self, flow: Flow, mu: Array, V: Array, length: float, at: Coefficients) -> Array:
        tau, alpha = at.temperature(0.5), at.alpha(0.5)
        transport, axes = flow.transport, moving(flow.grid.axes)
        if alpha != 0.0:
            mu = flow.reaction.apply(mu, V, 0.5 * alpha * length, tau)
        for axis in axes[:-1]:
            mu = transport.implicit(axis, mu, V, 0.5 * length, tau, order=2)
        mu = transport.implicit(axes[-1], mu, V, length, tau, order=2)
        for axis in reversed(axes[:-1]):
            mu = transport.implicit(axis, mu, V, 0.5 * length, tau, order=2)
        if alpha != 0.0:
            mu = flow.reaction.apply(mu, V, 0.5 * alpha * length, tau)
        return mu


class _Anderson:
    """Anderson acceleration of ``V <- V + residual(V)``.

    References
    ----------
    Walker, Ni, SIAM J. Numer. Anal. 49 (2011) 1715.
    """

    def __init__(self) -> None:
        self._values: list[Array] = []
        self._residuals: list[Array] = []

    def next(self, V: Array, residual: Array) -> Array:
        """The next iterate."""
        self._values = [*self._values[-MEMORY:], V]
        self._residuals = [*self._residuals[-MEMORY:], residual]
        new = V + residual
        if len(self._values) == 1:
            return new
        differences = [residual - r for r in self._residuals[:-1]]
        gram = np.array([[float(np.vdot(a, b)) for b in differences] for a in differences])
        right = np.array([float(np.vdot(d, residual)) for d in differences])
        gamma = np.linalg.lstsq(gram, right, rcond=1e-12)[0]
        for weight, value, difference in zip(gamma, self._values[:-1], differences, strict=True):
            step = V - value
            step *= weight
            new -= step
            difference *= weight
            new -= difference
        return new
