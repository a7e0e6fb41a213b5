"""Attempts at a step of `ExponentialSSPRK3`, compiled: what it does is told in `mfpde.mesh.methods.exponential`."""

from __future__ import annotations

import math

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.bernoulli import exponentials
from mfpde.mesh.compiled.options import addressed, uncounted
from mfpde.mesh.compiled.run_structures import EARLIER, RATE, SCALED, SCALED_POTENTIAL, STAGE, THIRD, Tried
from mfpde.mesh.compiled.states import added_up, evaluated, greatest, noted, outflow, rate, rates
from mfpde.support.pointers import at, pointer, put

__all__ = ["unsplit"]


@uncounted
def _integrating_factor(steps, V, alpha, start, h):  # type: ignore[no-untyped-def]
    """``exp(-alpha h (V - min V) / 3)`` to its array."""
    third = steps.fields[THIRD]
    shift = start.held if steps.balanced else 0.0
    passes.exponent(V, shift, -alpha * h / 3, steps.balanced, 0, third.size, third)
    exponentials(pointer(third, 0), third.size)


@uncounted
def _scaled(nu, scale, out):  # type: ignore[no-untyped-def]
    p, to = pointer(nu, 0), pointer(out, 0)
    for j in range(nu.size):
        put(to, j, at(p, j) * scale)


@addressed
def unsplit(steps, mu, V, start, span, bound, end, end_V, u, outcome):  # type: ignore[no-untyped-def]
    """The stages of a step and its end, as `ExponentialSSPRK3.step` takes them; see `states.attempt`."""
    fields, sums, numbers, h, later = steps.fields, steps.sums, steps.fresh, span.length, span.t + 2 / 3 * span.dt
    blocks, volume = sums.size // 6, steps.volume
    alpha_0, _ = rates(steps, span.t)
    alpha, tau = rates(steps, later)
    reacts = alpha_0 != 0.0 or alpha != 0.0
    first_rate, nu, scaled, stage_V = fields[RATE], fields[STAGE], fields[SCALED], fields[SCALED_POTENTIAL]
    before, third = fields[EARLIER], fields[THIRD]
    euler = h / steps.method.ssp
    if reacts:
        _integrating_factor(steps, V, alpha_0, start, h)
    one = blocks // blocks  # literals would be compiled one by one
    passes.first_stage(mu, first_rate, third, reacts, 2 / 3 * h, nu, one - one, blocks, sums)
    added_up(sums, one + one)
    total, growth = sums[0], sums[1]
    leak = 0.25 * (growth * volume / start.mass if start.mass > 0.0 else 0.0)
    for last in range(2):
        mass = total * volume
        if not (mass > 0.0 and math.isfinite(mass)):
            noted(Tried(False, 0.5 * h, 0.0, 0.0, last), outcome)
            return
        _scaled(nu, start.mass / mass if steps.balanced else 1.0, scaled)
        evaluated(steps, scaled, stage_V, u, numbers)
        mean = numbers[1] / numbers[0] if numbers[0] > 0.0 else 0.0
        fastest, _ = outflow(steps, scaled, stage_V, tau)
        constant = excess = 0.0
        if reacts:
            if steps.balanced:
                constant = alpha * mean - alpha_0 * start.mean
            passes.largest_change(stage_V, V, alpha, alpha_0, constant, 0, blocks, sums)
            excess = greatest(sums[:blocks])
        fastest = fastest / steps.positivity + excess
        longest = math.inf if fastest == 0.0 else steps.method.ssp / fastest
        bound = longest if longest < bound else bound
        if not h <= bound:
            noted(Tried(False, bound, 0.0, 0.0, last + 1), outcome)
            return
        rate(steps, nu, stage_V, tau, euler / (1.0 - euler * excess), end if last else before)
        if last:
            passes.final_stage(
                mu, nu, third, stage_V, V, reacts, alpha, alpha_0, constant, h, first_rate, before, end, 0, blocks, sums
            )
            added_up(sums, one + one + one)
        else:
            passes.second_stage(mu, nu, third, stage_V, V, reacts, alpha, alpha_0, constant, h, before, 0, blocks, sums)
            added_up(sums, one + one)
        total, growth = sums[0], sums[1]
        leak += (9 / 16 if last else 3 / 16) * (growth * volume / mass if mass > 0.0 else 0.0)
    leak *= h
    error = (9 / 16) * h * sums[2] / total if total > 0.0 else math.nan
    kept = start.mass * (1.0 + leak) / (total * volume) if steps.balanced and total > 0.0 else 1.0
    passes.finish(end, kept, 0, end.size)
    noted(Tried(True, bound, leak, error, 2), outcome)
