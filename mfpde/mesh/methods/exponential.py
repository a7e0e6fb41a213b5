"""Transport and reaction together, with the exponential of the reaction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mfpde.equation.problem import Problem, Reaction
from mfpde.mesh.algebra import Change, Sums
from mfpde.mesh.methods.base import Method, Work
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, Flow, Outcome
from mfpde.mesh.transport_operator import Outflow
from mfpde.support.arrays import Array

__all__ = ["ExponentialSSPRK3"]


@dataclass(frozen=True)
class ExponentialSSPRK3(Method):
    r"""Unsplit third order with the reaction as integrating factor: three potential evaluations.

    With ``V^n`` the potential at the start, the un-normalised measure ``nu`` solves

    .. math::

       \partial_S \nu = -\alpha_0 (V^n - \min V^n)\,\nu + N(\nu), \qquad
       N(\nu) = \nabla\cdot(\nu G\nabla V) - \delta\,\nu,

    where ``V = V[nu/|nu|]`` and ``delta`` is ``alpha (V - Vbar) - alpha_0 (V^n - Vbar^n)``, small
    and zero at the start. Any function of time alone may be added to ``delta`` without changing
    ``mu = nu/|nu|``. The first term is integrated by its exact exponential inside the SSP method
    eSSPRK+(3,3); its abscissas 0, 2/3, 2/3, 1 do not decrease, so every exponential is at most 1
    and a stiff reaction cannot overflow.

    The result is scaled to the mass that the transport has left: the mass at the start, times what
    the fluxes leaked (round-off, and recorded).

    Positivity holds for steps up to ``3/4`` of the forward-Euler bound of the transport with
    ``delta`` counted in. The error estimate is the distance to an embedded second-order result.

    References
    ----------
    Isherwood, Grant, Gottlieb, SIAM J. Numer. Anal. 56 (2018) 3276.
    """

    order: int = field(default=3, init=False, repr=False)
    ssp: float = field(default=0.75, init=False, repr=False)
    embedded: bool = field(default=True, init=False, repr=False)

    def check(self, problem: Problem, scheme: Scheme) -> None:
        """Refuse reinjection, the free-energy reaction, species that react one by one, and terms of their own."""
        super().check(problem, scheme)
        if problem.reinjection is not None:
            raise ValueError("ExponentialSSPRK3 does not integrate reinjection; use Strang()")
        if problem.reacts and problem.one_by_one is not None:
            raise ValueError("ExponentialSSPRK3 does not integrate the reaction of each species; use Strang()")
        if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
            raise ValueError(
                "ExponentialSSPRK3 does not integrate the free-energy reaction; use ImplicitStrang() or Strang()"
            )

    def work(self, problem: Problem, *, doubled: bool) -> Work:
        """Its stages in five arrays that are kept, with a reaction six; its rates, and the new state."""
        most = 9 + problem.reacts + (3 if problem.rate is not None else 0)
        return Work(most, most, most)

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """Three stages and the end, see the class."""
        algebra, transport, balanced = flow.algebra, flow.transport, flow.reaction.balanced
        h, euler, mu, tau = length, length / self.ssp, start.mu, at.temperature(0.0)
        bound = self.bound(flow, start, tau)
        if h > bound:
            return Outcome(None, bound=bound)
        factor = _integrating_factor(flow, start, h, at)
        third = None if factor is None else factor.third
        rate_0 = first_rate
        if rate_0 is None:
            rate_0 = transport.rate(mu, start.V, None, euler, tau, outflow=start.outflow.get(tau))
        # nu_1 = e^{2/3 L} (mu + 2/3 h N_0)
        nu = flow.scratch("nu")
        sums = algebra.first_stage(mu, rate_0, third, 2 / 3 * h, nu)
        leak = 0.25 * flow.growth(sums.growth, start.mass)
        slope, before, tau = rate_0, flow.scratch("slope"), at.temperature(2 / 3)
        for last in (False, True):
            stage = _evaluated(flow, start, nu, sums, tau, factor)
            if stage is None:
                return Outcome(None, bound=0.5 * h)
            # a stage is positive while euler * (outflow / positivity + excess) <= 1
            rate = stage.outflow.rate / flow.scheme.positivity + stage.excess
            bound = min(bound, math.inf if rate == 0.0 else self.ssp / rate)
            if not h <= bound:  # NaN included
                return Outcome(None, bound=bound)
            step = euler / (1.0 - euler * stage.excess)
            slope = transport.rate(nu, stage.V, None if last else before, step, tau, outflow=stage.outflow)
            if last:
                # nu_3 = e^{L} (74/128 mu + 5/32 h N_0) + 27/64 e^{1/3 L} (nu_2 + 4/3 h N_2)
                sums = algebra.final_stage(mu, nu, third, stage.change, h, rate_0, before, slope)
            else:
                # nu_2 = 2/3 e^{2/3 L} mu + 1/3 nu_1 + 4/9 h N_1
                sums = algebra.second_stage(mu, nu, third, stage.change, h, slope)
            leak += (9 / 16 if last else 3 / 16) * flow.growth(sums.growth, stage.mass)
        leak *= h
        total = sums.total
        error = (9 / 16) * h * sums.error / total if total > 0 else math.nan
        kept = start.mass * (1.0 + leak) / (total * flow.grid.cell_volume) if balanced and total > 0 else 1.0
        return Outcome(algebra.finish(slope, kept), leak, error=error, bound=bound)


class _Factor(NamedTuple):
    """The reaction's part that a step integrates exactly.

    Attributes
    ----------
    third : array
        ``exp(-alpha_0 h (r_0 - min r_0) / 3)``.
    r_0, mean_0 : array, float
        The rate of the reaction at the start, and its mean.
    alpha, alpha_0 : float
        The birth-death rate at the stages and at the start.
    """

    third: Array
    r_0: Array
    mean_0: float
    alpha: float
    alpha_0: float


def _integrating_factor(flow: Flow, start: Evaluation, h: float, at: Coefficients) -> _Factor | None:
    """What is integrated exactly; None where nothing reacts."""
    alpha, alpha_0 = at.alpha(2 / 3), at.alpha(0.0)
    if alpha_0 == 0.0 and alpha == 0.0:
        return None
    reaction = flow.reaction
    r_0 = reaction.rate_of(start.V)
    mean_0 = _mean(flow, r_0, start)
    shift = _support_minimum(r_0, start) if reaction.balanced else 0.0
    # with the mean removed, empty cells may lie below the minimum on the support
    third = flow.algebra.exponential(r_0, shift, -alpha_0 * h / 3, reaction.balanced, flow.scratch("third"))
    return _Factor(third, r_0, mean_0, alpha, alpha_0)


class _Stage(NamedTuple):
    """What a step needs to know of a stage: every number that comes back from its arrays.

    Attributes
    ----------
    V : array
        The potential.
    mass : float
        The stage's mass.
    outflow : Outflow
        How fast cells empty by transport.
    change : Change or None
        What the integrating factor has left of the reaction.
    excess : float
        The largest rate at which that empties a cell.
    """

    V: Array
    mass: float
    outflow: Outflow
    change: Change | None
    excess: float


def _evaluated(
    flow: Flow, start: Evaluation, nu: Array, sums: Sums, temperature: float, factor: _Factor | None
) -> _Stage | None:
    """What is known of the stage `nu`; None where it has no finite mass."""
    mass, balanced = sums.total * flow.grid.cell_volume, flow.reaction.balanced
    if not (mass > 0.0 and math.isfinite(mass)):
        return None
    # the potential sees the normalised measure where mass is conserved, the measure itself elsewhere
    scale = start.mass / mass if balanced else 1.0
    at = flow.evaluate(np.multiply(nu, scale, out=flow.scratch("stage")), flow.scratch("V"))
    outflow = flow.outflow(at, temperature)
    if factor is None:
        return _Stage(at.V, mass, outflow, None, 0.0)
    r = flow.reaction.rate_of(at.V)
    constant = factor.alpha * _mean(flow, r, at) - factor.alpha_0 * factor.mean_0 if balanced else 0.0
    change = Change(r, factor.r_0, factor.alpha, factor.alpha_0, constant)
    return _Stage(at.V, mass, outflow, change, max(flow.algebra.largest_change(change), 0.0))


def _mean(flow: Flow, r: Array, at: Evaluation) -> float:
    if r is at.V:
        return at.mean
    return flow.algebra.dot(r, at.mu) * flow.grid.cell_volume / at.mass


def _support_minimum(r: Array, at: Evaluation) -> float:
    return at.survey.held if r is at.V else float(np.min(r, where=at.mu > 0, initial=np.inf))
