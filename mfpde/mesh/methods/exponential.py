"""Transport and reaction together, with the exponential of the reaction."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.problem import Problem, Reaction
from mfpde.mesh.methods.base import Coefficients, Method, Outcome
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Evaluation, Flow
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
        """See `Method.check`."""
        if problem.reinjection is not None:
            raise ValueError("ExponentialSSPRK3 does not integrate reinjection; use Strang()")
        if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
            raise ValueError(
                "ExponentialSSPRK3 does not integrate the free-energy reaction; use ImplicitStrang() or Strang()"
            )

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """See `Method.step`."""
        from mfpde.mesh.compiled import updates

        reaction, volume = flow.reaction, flow.grid.cell_volume
        balanced = reaction.balanced
        h = length
        euler = h / self.ssp
        mu = start.mu

        bound = self.bound(flow, start, at.temperature(0.0))
        if h > bound:
            return Outcome(None, bound=bound)

        alpha, alpha_0 = at.alpha(2 / 3), at.alpha(0.0)
        r_0, mean_0, third = start.V, start.mean, None
        if alpha_0 != 0.0 or alpha != 0.0:
            r_0 = reaction.rate_of(start.V)
            mean_0 = _mean(flow, r_0, start)
            shift = _support_minimum(r_0, start) if balanced else 0.0
            # with the mean removed, empty cells may lie below the minimum on the support
            third = updates.exponential(r_0, shift, -alpha_0 * h / 3, balanced, flow.scratch("third"))

        rate_0 = first_rate
        if rate_0 is None:
            rate_0 = flow.rate(start, at.temperature(0.0), euler)

        # nu_1 = e^{2/3 L} (mu + 2/3 h N_0)
        nu = flow.scratch("nu")
        total, growth = updates.first_stage(mu, rate_0, third, 2 / 3 * h, nu)
        leak = 0.25 * flow.growth(growth, start.mass)

        slope, before = rate_0, flow.scratch("slope")
        error = math.nan
        for last in (False, True):
            mass = total * volume
            if not (mass > 0.0 and math.isfinite(mass)):
                return Outcome(None, bound=0.5 * h)
            # the potential sees the normalised measure where mass is conserved, the measure itself elsewhere
            scale = start.mass / mass if balanced else 1.0
            stage = flow.evaluate(np.multiply(nu, scale, out=flow.scratch("stage")), flow.scratch("V"))
            temperature = at.temperature(2 / 3)
            outflow = flow.outflow(stage, temperature)[0]
            change, excess = None, 0.0
            if third is not None:
                r = reaction.rate_of(stage.V)
                constant = alpha * _mean(flow, r, stage) - alpha_0 * mean_0 if balanced else 0.0
                change = updates.Change(r, r_0, alpha, alpha_0, constant)
                excess = max(updates.largest_change(change), 0.0)
            # a stage is positive while euler * (outflow / positivity + excess) <= 1
            rate = outflow / flow.scheme.positivity + excess
            bound = min(bound, math.inf if rate == 0.0 else self.ssp / rate)
            if not h <= bound:  # NaN included
                return Outcome(None, bound=bound)
            euler_dt = euler / (1.0 - euler * excess)
            slope = flow.rate(stage, temperature, euler_dt, nu, None if last else before)
            if last:
                # nu_3 = e^{L} (74/128 mu + 5/32 h N_0) + 27/64 e^{1/3 L} (nu_2 + 4/3 h N_2)
                total, growth, error = updates.final_stage(mu, nu, third, change, h, rate_0, before, slope)
            else:
                # nu_2 = 2/3 e^{2/3 L} mu + 1/3 nu_1 + 4/9 h N_1
                total, growth = updates.second_stage(mu, nu, third, change, h, slope)
            leak += (9 / 16 if last else 3 / 16) * flow.growth(growth, mass)

        error = (9 / 16) * h * error / total if total > 0 else math.nan
        leak *= h
        factor = start.mass * (1.0 + leak) / (total * volume) if balanced and total > 0 else 1.0
        return Outcome(updates.finish(slope, factor), leak, error=error, bound=bound)


def _mean(flow: Flow, r: Array, at: Evaluation) -> float:
    if r is at.V:
        return at.mean
    return float(np.vdot(r, at.mu)) * flow.grid.cell_volume / at.mass


def _support_minimum(r: Array, at: Evaluation) -> float:
    return at.survey.held if r is at.V else float(np.min(r, where=at.mu > 0, initial=np.inf))
