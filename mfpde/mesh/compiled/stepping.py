"""Runs of steps on small meshes, as one compiled program: method, controller and records.

Python takes fifty microseconds for what a stage on 200 cells takes two. Here `advance` goes from step to step, and a
step by hand is a run of one, so that both have the same bits. What a step does is told in `mfpde.mesh.solver`,
`mfpde.mesh.controllers` and the modules of the methods, and is the same here, sums apart: those of the potential are
not taken by BLAS.
"""

from __future__ import annotations

import math

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.options import uncounted, uncounted_inlined, uncounted_kernel
from mfpde.mesh.compiled.run_structures import (
    AT_ENDS,
    AT_TEMPERATURE,
    BEFORE_LENGTH,
    BEFORE_MEMORY,
    BEFORE_TIME,
    BOUND,
    CELL,
    COURANT,
    CURRENT,
    DENSITY,
    DRIFTED,
    ENERGY,
    ENTROPY,
    ERROR,
    EVALUATIONS,
    FIXED,
    GIBBS_GAP,
    GOING,
    IMPLICIT,
    KNOWN,
    LEAK,
    LENGTH,
    MADE,
    MEMORY,
    NO_MASS,
    NOT_FINITE,
    POTENTIAL,
    R_CELL,
    R_DT,
    R_END_MASS,
    R_ENERGY,
    R_ENTROPY,
    R_ERROR,
    R_FISHER,
    R_GAP,
    R_MASS,
    R_MINIMUM,
    R_REACTION,
    R_REDONE,
    R_TEMPERATURE,
    R_TIME,
    R_TRANSPORT,
    RATE,
    ROSE,
    SCALE,
    SLOPE,
    STEP_DT,
    STEP_LEAK,
    STEP_REDONE,
    STOOD,
    STOPPED,
    TIME,
    TOO_LARGE,
    TOO_SHORT,
    TOTAL,
    Span,
    Tried,
)
from mfpde.mesh.compiled.states import (
    added_up,
    attempt,
    copied,
    dot,
    evaluated,
    freed,
    known,
    outflow,
    present,
    rate,
    rates,
)
from mfpde.mesh.constants import DT_FLOOR, ROUNDED
from mfpde.support.calls import called

__all__ = ["advance"]


@uncounted
def _cap(steps, bound, stiffness):  # type: ignore[no-untyped-def]
    """`Controller.cap`."""
    if steps.rule == FIXED:
        return math.inf
    most = steps.fraction * bound
    other = steps.reaction / stiffness if stiffness > 0.0 else math.inf
    return other if other < most else most


@uncounted
def _first(steps, cap):  # type: ignore[no-untyped-def]
    """`Controller.first`."""
    return 0.1 * cap if steps.rule == ERROR else steps.dt if steps.rule == FIXED else math.inf


@uncounted
def _judged(steps, h, tried, memory):  # type: ignore[no-untyped-def]
    """`Controller.after`: whether a step is accepted, the next length to try, and what is remembered."""
    if steps.rule == FIXED:
        return tried.made, steps.dt, memory
    if not tried.made:
        shorter, other = steps.fraction * tried.bound, 0.9 * h
        return False, other if other < shorter else shorter, memory
    if steps.rule == COURANT:
        return True, steps.growth * h, memory
    error, tolerance = tried.error, steps.tolerance
    if not math.isfinite(error):
        return False, 0.25 * h, memory
    if error == 0.0:
        return True, steps.growth * h, memory
    ratio = tolerance / error
    if error > tolerance:
        return False, h * (0.9 * ratio ** (1 / 3)), memory
    previous = error if math.isnan(memory) else memory
    factor = 0.9 * ratio ** (0.7 / 3) * (previous / tolerance) ** (0.4 / 3)
    return (
        True,
        h * (steps.growth if steps.growth < factor else factor),
        error if error > 1e-2 * tolerance else 1e-2 * tolerance,
    )


@uncounted
def _length(steps, t, until, wanted, remaining):  # type: ignore[no-untyped-def]
    """`Solver._length` of a clock that runs evenly."""
    if steps.rule == FIXED:
        wanted *= steps.speed
    if wanted >= remaining * (1 - 1e-9):
        return remaining, until
    if wanted > 0.5 * remaining:
        wanted = 0.5 * remaining
    return wanted, t + wanted / steps.speed


@uncounted
def _all_finite(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for x in values:
        total += x * 0.0
    return total == 0.0


@uncounted
def _bounded(steps, state, mu, V, start):  # type: ignore[no-untyped-def]
    """How long a step may be for positive stages, and for the controller; the temperature. The outflow is known."""
    method, (alpha, tau) = steps.method, rates(steps, state[TIME])
    if method.stabilised and steps.noisy:
        called(steps.at.longest, steps, mu, V, tau, steps.outcome)
        state[BOUND], state[CELL] = steps.outcome[0], steps.outcome[1]
    else:
        fastest, state[CELL] = outflow(steps, mu, V, tau)
        bound = math.inf if method.kind == IMPLICIT or fastest == 0.0 else method.ssp * steps.positivity / fastest
        state[BOUND] = bound
    cap = _cap(steps, state[BOUND], 0.0 if method.kind == IMPLICIT else alpha * (start.high - start.low))
    return state[BOUND], cap, tau


@uncounted_inlined
def _made(steps, state, until, row, start):  # type: ignore[no-untyped-def]
    """One step, as `Solver.step` makes it: its entries in the row, and the last number of the cell. What it came to."""
    c, fields, t, method = int(state[CURRENT]), steps.fields, state[TIME], steps.method
    mu, V, end, end_V = fields[DENSITY + c], fields[POTENTIAL + c], fields[DENSITY + 1 - c], fields[POTENTIAL + 1 - c]
    bound, cap, tau = _bounded(steps, state, mu, V, start)
    proposal = _first(steps, cap) if math.isnan(state[LENGTH]) else state[LENGTH]
    span, least = until - t, abs(until)
    least = DT_FLOOR * (span if span > least else least)
    state[STEP_REDONE], row[R_CELL] = 0.0, state[CELL]
    finite, rated, result = True, False, GOING
    length = wanted = following = memory = t_new = 0.0
    tried = Tried(False, bound, 0.0, 0.0, 0)
    while result == GOING:
        wanted = cap if cap < proposal else proposal
        length, t_new = _length(steps, t, until, wanted, steps.speed * span)
        state[STEP_DT] = t_new - t
        if not rated:
            euler = length / method.ssp if math.isfinite(length) and length > 0.0 else 0.0
            rate(steps, mu, V, tau, euler, fields[RATE])
            rated = True
        if length == 0.0 and t_new > t:
            result = STOOD
        elif not (t_new - t > least or t_new == until):  # what is left to `until` may be as short as it is asked for
            result = TOO_SHORT if finite and _all_finite(fields[RATE]) else NOT_FINITE
        else:
            tried, finite, u = Tried(False, bound, 0.0, 0.0, 0), True, steps.responses[1 - c]
            if not length > bound:
                whole = Span(t, t_new - t, length, 0.0, 1.0)
                tried = attempt(steps, mu, V, start, whole, bound, end, end_V, u)
                state[EVALUATIONS] += tried.evaluations
            if tried.made:
                if method.kind != IMPLICIT:
                    evaluated(steps, end, end_V, u, steps.fresh)
                    state[EVALUATIONS] += 1.0
                finite = math.isfinite(steps.fresh[6]) and math.isfinite(steps.fresh[0])
            accepted, following, memory = _judged(steps, length, tried, state[MEMORY])
            if accepted and finite:
                result = MADE
            else:
                proposal = following if finite else 0.25 * length
                state[STEP_REDONE] += 1.0
                if steps.rule == FIXED:
                    result = TOO_LARGE if finite else NOT_FINITE
    row[R_DT], row[R_ERROR], row[R_REDONE] = state[STEP_DT], tried.error, state[STEP_REDONE]
    state[STEP_LEAK] = tried.leak
    if result == STOOD:
        # the clock stands still, and so does the density
        copied(mu, end)
        copied(V, end_V)
        copied(steps.responses[c], steps.responses[1 - c])
        following, memory, result, row[R_ERROR] = state[LENGTH], state[MEMORY], MADE, 0.0
    elif result == MADE:
        # where it was cut short by a save time, the next step need not start from the cut length
        following = wanted if length < wanted and wanted > following else following
        copied(steps.fresh, state[TOTAL : ENERGY + 1])
    if result == MADE:
        state[AT_TEMPERATURE] = math.nan
        state[BEFORE_TIME], state[BEFORE_LENGTH], state[BEFORE_MEMORY] = state[TIME], state[LENGTH], state[MEMORY]
        state[TIME], state[LENGTH], state[MEMORY], state[CURRENT] = t_new, following, memory, 1.0 - c
    return result


@uncounted
def _left(steps, state, start, row):  # type: ignore[no-untyped-def]
    """What is known of a state when it is left, after the step: its dissipation."""
    c, fields, volume = int(1.0 - state[CURRENT]), steps.fields, steps.volume
    mu, V = fields[DENSITY + c], fields[POTENTIAL + c]
    slope = fields[SLOPE + c] if steps.noisy else V
    alpha, tau = rates(steps, state[BEFORE_TIME])
    drift = -dot(slope, fields[RATE]) * volume
    row[R_FISHER] = drift / tau / tau if tau > 0.0 else math.nan
    row[R_TRANSPORT], row[R_REACTION] = (steps.speed * drift if drift != 0.0 else 0.0), 0.0
    if alpha != 0.0:
        if not steps.noisy:
            blocks = steps.sums.size // 6
            one = blocks // blocks
            passes.moment(mu, V, start.mean if steps.balanced else 0.0, one - one, blocks, steps.sums)
            added_up(steps.sums, one)
            steps.outcome[0] = steps.sums[0] * volume
        else:
            called(steps.at.lost_by_reaction, steps, mu, V, slope, tau, steps.outcome)
        row[R_REACTION] = steps.speed * (alpha * steps.outcome[0])


@uncounted
def _without_rounding(steps, state, bounds):  # type: ignore[no-untyped-def]
    """Give the present density the mass that the fluxes left, once rounding errors have added up."""
    kept = bounds.mass * (1.0 + state[LEAK]) / (state[TOTAL] * steps.volume)
    if steps.balanced and ROUNDED < abs(1.0 / kept - 1.0) < 1.05 * ROUNDED:
        mu = steps.fields[DENSITY + int(state[CURRENT])]
        for j in range(mu.size):
            mu[j] *= kept
        state[KNOWN] = 0.0


@uncounted
def _arrived(steps, state, now, energy, row):  # type: ignore[no-untyped-def]
    """The row of a state when it arrives."""
    row[R_TIME], row[R_MASS], row[R_MINIMUM], row[R_ENERGY] = state[TIME], now.mass, now.least, energy
    row[R_GAP] = now.mass * (now.mean - now.low) if not steps.noisy else state[GIBBS_GAP]
    _, row[R_TEMPERATURE] = rates(steps, state[TIME])
    row[R_ENTROPY] = state[ENTROPY] if steps.noisy else math.nan
    mu, outside = steps.fields[DENSITY + int(state[CURRENT])], 0.0
    for k in steps.ends:
        outside += mu[k]
    row[R_END_MASS] = outside / now.total if now.total > 0.0 else 0.0


@uncounted
def _change(steps, state, dt, start):  # type: ignore[no-untyped-def]
    """``int |mu - mu_before| / (dt mass)`` of the last step."""
    c, total = int(state[CURRENT]), 0.0
    new, old = steps.fields[DENSITY + c], steps.fields[DENSITY + 1 - c]
    for j in range(new.size):
        total += abs(new[j] - old[j])
    return total / (dt * start.total)


@uncounted
def _stands(steps, state, bounds, start, before, now, row):  # type: ignore[no-untyped-def]
    """How a run stands after a step, before which it had an energy."""
    energy, result = row[R_ENERGY], MADE
    size, other = abs(energy), abs(before)
    size = other if other > size else size
    state[SCALE] = size if size > state[SCALE] else state[SCALE]
    if bounds.change > 0.0 and _change(steps, state, row[R_DT], start) <= bounds.change:
        result = STOPPED
    if energy <= bounds.energy or row[R_GAP] <= bounds.gap:
        result = STOPPED
    if row[R_END_MASS] > bounds.ends:
        result = AT_ENDS
    if steps.balanced and abs(now.mass / bounds.mass - 1.0) > bounds.drift:
        result = DRIFTED
    if energy - before > bounds.increase * state[SCALE]:
        result = ROSE
    return result if now.mass > 0.0 else NO_MASS


@uncounted
def _saved(steps, state, saves, k, taken):  # type: ignore[no-untyped-def]
    """Keep the present state as one of a run's saves, if there is room."""
    if k < saves.counts.size:
        c = int(state[CURRENT])
        copied(steps.fields[DENSITY + c], saves.densities[k])
        copied(steps.fields[POTENTIAL + c], saves.potentials[k])
        copied(state[TOTAL : ENERGY + 1], saves.numbers[k])
        saves.counts[k] = taken


@uncounted_kernel
def advance(steps, state, bounds, saves, beyond, most, rows, responses):  # type: ignore[no-untyped-def]
    """Steps from save time to save time, until one is not before another time, or there were so many.

    Parameters
    ----------
    steps : Steps
    state : (NUMBERS,) array
        Where it is; goes on.
    bounds : Bounds
    saves : Saves
        Each of its times is where a step ends, exactly.
    beyond : float
        No step is taken from here on.
    most : int
        Steps at most.
    rows : (most, ROW) array
        Of each step: what is known of the state that it leaves, of the step and of the state that it leads to.
    responses : (most, r) array
        Of the states that steps lead to.

    Returns
    -------
    taken, result, passed : int
        Steps made, what the last one came to, and the save times at which that was no end of the run.
    """
    taken, result, passed = 0, MADE, 0
    if state[KNOWN] == 0.0:
        present(steps, state)
    more = freed(steps, state)
    while taken < most and passed < saves.times.size and state[TIME] < beyond and result == MADE:
        row, start = rows[taken], known(state[TOTAL : ENERGY + 1], steps.volume)
        before = start.energy + more
        result = _made(steps, state, saves.times[passed], row, start)
        if result == MADE:
            _left(steps, state, start, row)
            state[LEAK] += state[STEP_LEAK]
            _without_rounding(steps, state, bounds)
            if state[KNOWN] == 0.0:
                present(steps, state)
            more, now = freed(steps, state), known(state[TOTAL : ENERGY + 1], steps.volume)
            _arrived(steps, state, now, now.energy + more, row)
            copied(steps.responses[int(state[CURRENT])], responses[taken])
            taken += 1
            result = _stands(steps, state, bounds, start, before, now, row)
            if result == MADE and state[TIME] >= saves.times[passed]:
                _saved(steps, state, saves, passed, taken)
                passed += 1
    return taken, result, passed
