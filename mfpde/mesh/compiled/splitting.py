"""Attempts at a step of a splitting, compiled: what it does is told in `mfpde.mesh.methods.splitting` and `parts`."""

from __future__ import annotations

import math

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.options import addressed, uncounted
from mfpde.mesh.compiled.reacting import reacted
from mfpde.mesh.compiled.run_structures import (
    FIRST_RATE,
    OLDER,
    PART,
    PART_POTENTIAL,
    RATE,
    SCALED,
    SCALED_POTENTIAL,
    STAGE,
    Span,
    Tried,
)
from mfpde.mesh.compiled.states import added_up, copied, driven, evaluated, noted, outflow, rate, rates, total
from mfpde.mesh.constants import FLUSH, MOST_STAGES

__all__ = ["longest", "split"]


# ----- bounds


@uncounted
def _positivity_bound(steps, mu, V, tau):  # type: ignore[no-untyped-def]
    """The longest forward Euler step of the transport that keeps the density positive, and the cell that says so."""
    fastest, cell = outflow(steps, mu, V, tau)
    return (math.inf if fastest == 0.0 else steps.positivity / fastest), cell


@uncounted
def _gain(stages):  # type: ignore[no-untyped-def]
    """``s^2 + s - 2``: twice the negative real stability interval of Runge-Kutta-Legendre steps of order 2."""
    return stages * stages + stages - 2.0


@uncounted
def _bounds(steps, mu, V, tau):  # type: ignore[no-untyped-def]
    """The longest step of the transport with positive stages, its cell, and stabilised; the spectral radius at most."""
    drift, _ = outflow(steps, mu, V, 0.0)
    stiffness = 3.1 * tau * steps.method.diffusion + 2.0 * drift
    limit = math.inf if drift == 0.0 else 0.5 * steps.positivity / drift
    stable = 0.5 * _gain(float(MOST_STAGES)) / stiffness if stiffness > 0.0 else math.inf
    positive, cell = _positivity_bound(steps, mu, V, tau)
    limit = stable if stable < limit else limit
    return positive, cell, (limit if limit > positive else positive), stiffness


@addressed
def longest(steps, mu, V, tau, out):  # type: ignore[no-untyped-def]
    """`stabilised_bound`, and the cell that empties fastest, to `out`; the speeds at `tau` are in their array then."""
    _, out[1], out[0], _ = _bounds(steps, mu, V, tau)


# ----- transport


@uncounted
def _stage(i):  # type: ignore[no-untyped-def]
    """Of SSPRK(3,3): when a stage is, and the weights of the start, of the Euler step, and of its rate."""
    if i == 0:
        return 0.0, 0.0, 1.0, 1 / 6
    if i == 1:
        return 1.0, 3 / 4, 1 / 4, 1 / 6
    return 0.5, 1 / 3, 2 / 3, 2 / 3


@uncounted
def _positive(steps, mu, V, mass, span, known, out, u):  # type: ignore[no-untyped-def]
    """SSPRK(3,3) in Shu and Osher's form; where `known` the rate at the start is in its array."""
    fields, sums, length, bound, leak = steps.fields, steps.sums, span.share * span.length, math.inf, 0.0
    stage_V, change, blocks, volume = fields[SCALED_POTENTIAL], fields[SCALED], sums.size // 6, steps.volume
    for i in range(3):
        c, old, new, weight = _stage(i)
        stage, there = (mu if i == 0 else fields[STAGE] if i == 1 else fields[OLDER]), (V if i == 0 else stage_V)
        if i > 0:
            evaluated(steps, stage, stage_V, u, steps.fresh)
            mass = steps.fresh[0] * volume
        _, tau = rates(steps, span.t + (span.start + c * span.share) * span.dt)
        longest_, _ = _positivity_bound(steps, stage, there, tau)
        bound = longest_ if longest_ < bound else bound
        if length > bound:
            return Tried(False, bound, 0.0, math.nan, i)
        if i > 0 or not known:
            rate(steps, stage, there, tau, length, change)
        moving = fields[RATE] if i == 0 and known else change
        target = fields[STAGE] if i == 0 else fields[OLDER] if i == 1 else out
        passes.combine(mu, stage, moving, old, new, length, target, i - i, blocks, sums)
        added_up(sums, blocks // blocks)  # a literal would be compiled by itself
        leak += weight * length * (sums[0] * volume / mass if mass > 0.0 else 0.0)
    return Tried(True, bound, leak, math.nan, 2)


@uncounted
def _b(j):  # type: ignore[no-untyped-def]
    return 1 / 3 if j < 2 else _gain(float(j)) / (2.0 * j * (j + 1.0))


@uncounted
def _stabilised(steps, mu, V, mass, length, tau, bound, stiffness, out, u):  # type: ignore[no-untyped-def]
    """Runge-Kutta-Legendre of order 2, with as many stages as the diffusion needs."""
    fields, need = steps.fields, 2.0 * length * stiffness
    stages = math.ceil(0.5 * (math.sqrt(9.0 + 4.0 * need) - 1.0))
    stages = stages if stages > 3 else 3
    weight, first, there = 4.0 / _gain(float(stages)), fields[FIRST_RATE], fields[SCALED_POTENTIAL]
    older, change = fields[OLDER], fields[SCALED]
    driven(steps, V, tau)
    rate(steps, mu, V, tau, 0.0, first)  # no positivity limiter here: it is made for Euler steps
    leak = length * (total(first) * steps.volume / mass if mass > 0.0 else 0.0)
    copied(mu, older)
    for k in range(mu.size):
        out[k] = mu[k] + (_b(1) * weight * length) * first[k]
    for j in range(2, stages + 1):
        near = (2.0 * j - 1.0) / j * _b(j) / _b(j - 1)
        far = -(j - 1.0) / j * _b(j) / _b(j - 2)
        evaluated(steps, out, there, u, steps.fresh)
        driven(steps, there, tau)
        rate(steps, out, there, tau, 0.0, change)
        for k in range(mu.size):
            moved = (change[k] - (1.0 - _b(j - 1)) * first[k]) * (near * weight * length)
            moved = moved + (1.0 - near - far) * mu[k] + near * out[k] + far * older[k]
            older[k], out[k] = out[k], moved
    mass_now, least = total(out) * steps.volume, 0.0
    for x in out:
        least = x if x < least else least
    if not ((least >= -FLUSH or not steps.method.positive) and mass_now > 0.0):  # NaN included
        return Tried(False, 0.5 * length, 0.0, math.nan, stages - 1)
    # the coefficients of many stages sum to 1 up to round-off only: the mass is what the fluxes have left
    passes.finish(out, mass * (1.0 + leak) / mass_now, 0, out.size)
    return Tried(True, bound, leak, math.nan, stages - 1)


@uncounted
def _transported(steps, mu, V, mass, span, known, out, u):  # type: ignore[no-untyped-def]
    """Drift and diffusion: `TransportPart.advance`."""
    length = span.share * span.length
    _, tau = rates(steps, span.t + (span.start + 0.5 * span.share) * span.dt)
    if steps.method.stabilised and steps.noisy:
        positive, _, bound, stiffness = _bounds(steps, mu, V, tau)
        if length > positive:
            if length > bound:
                return Tried(False, bound, 0.0, math.nan, 0)
            return _stabilised(steps, mu, V, mass, length, tau, bound, stiffness, out, u)
    return _positive(steps, mu, V, mass, span, known, out, u)


# ----- the parts of a step


@uncounted
def _reacted(steps, mu, V, a, tau, out, u):  # type: ignore[no-untyped-def]
    """Birth and death: `ReactionPart.advance`; how often the potential was evaluated."""
    copied(mu, out)
    if a != 0.0:
        reacted(steps, out, V, a, tau)
    if not steps.method.corrector:
        return 0
    average = steps.fields[SCALED_POTENTIAL]
    evaluated(steps, out, average, u, steps.fresh)
    for k in range(mu.size):
        average[k] = 0.5 * (V[k] + average[k])
    copied(mu, out)
    if a != 0.0:
        reacted(steps, out, average, a, tau)
    return 1


@uncounted
def _in_turn(steps, mu, V, mass, span, known, out, u):  # type: ignore[no-untyped-def]
    """One operator after the other, each from what the one before has left: `Splitting.step`."""
    fields, parts, bound, leak, count, moved = steps.fields, steps.method.parts, math.inf, 0.0, 0, False
    before, before_V, done_0, done_1 = mu, V, 0.0, 0.0
    for k in range(len(parts)):
        transports, fraction = parts[k, 0] > 0.0, parts[k, 1]
        start, share = span.start + span.share * (done_1 if transports else done_0), span.share * fraction
        done_0, done_1 = done_0 + (0.0 if transports else fraction), done_1 + (fraction if transports else 0.0)
        part = Span(span.t, span.dt, span.length, start, share)
        alpha, tau = rates(steps, span.t + (start + 0.5 * share) * span.dt)
        if share > 0.0 and (transports or alpha != 0.0):
            if moved:
                before, before_V = fields[PART], fields[PART_POTENTIAL]
                copied(out, before)
                evaluated(steps, before, before_V, u, steps.fresh)
                count, mass = count + 1, steps.fresh[0] * steps.volume
            if transports:
                tried = _transported(steps, before, before_V, mass, part, known and not moved, out, u)
                longest_, count, leak = tried.bound / fraction, count + tried.evaluations, leak + tried.leak
                bound = longest_ if longest_ < bound else bound
                if not tried.made:
                    return Tried(False, bound, 0.0, math.nan, count)
            else:
                count += _reacted(steps, before, before_V, alpha * share * span.length, tau, out, u)
            moved = True
    if not moved:
        copied(mu, out)
    return Tried(True, bound, leak, math.nan, count)


@addressed
def split(steps, mu, V, start, span, bound, end, end_V, u, outcome):  # type: ignore[no-untyped-def]
    """A step or a part of one; see `states.attempt`."""
    noted(_in_turn(steps, mu, V, start.mass, span, span.start == 0.0, end, u), outcome)
