"""Runs of steps of `ExponentialSSPRK3` on small meshes, as one compiled program: method, controller and records.

Python takes fifty microseconds for what a stage on 200 cells takes two. Here `advance` goes from step to step, and a
step by hand is a run of one, so that both have the same bits. What a step does is told in
`mfpde.mesh.methods.exponential`, `mfpde.mesh.solver` and `mfpde.mesh.controllers`, and is the same here, sums apart:
those of the potential are not taken by BLAS. Sweeps and the potential are called by their addresses: as parts of this
program they would be compiled again, for half a minute.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.bernoulli import exponentials
from mfpde.mesh.compiled.options import uncounted, uncounted_inlined, uncounted_kernel
from mfpde.mesh.compiled.outflow import largest
from mfpde.mesh.compiled.potential import potential
from mfpde.mesh.compiled.structures import (
    AT_ENDS,
    BEFORE_LENGTH,
    BEFORE_MEMORY,
    BEFORE_TIME,
    BOUND,
    CELL,
    COURANT,
    CURRENT,
    DENSITY,
    DRIFTED,
    EARLIER,
    ENERGY,
    ERROR,
    EVALUATIONS,
    FIXED,
    GOING,
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
    R_ERROR,
    R_GAP,
    R_MASS,
    R_MINIMUM,
    R_REACTION,
    R_REDONE,
    R_TIME,
    R_TRANSPORT,
    RATE,
    ROSE,
    SCALE,
    SCALED,
    SCALED_POTENTIAL,
    SPEEDS,
    STAGE,
    STEP_DT,
    STEP_LEAK,
    STEP_REDONE,
    STOOD,
    STOPPED,
    THIRD,
    TIME,
    TOO_LARGE,
    TOO_SHORT,
    TOTAL,
)
from mfpde.mesh.constants import DT_FLOOR, ROUND_UP, ROUNDED
from mfpde.support.calls import called
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import folded, fused, load, spread
from mfpde.support.pointers import at, pointer, put

__all__ = ["advance", "evaluate"]


class _Known(NamedTuple):
    """What is known of a density: `total`, `moment` and so on as in `Survey`, energy, mass, mean of the potential."""

    total: float
    moment: float
    low: float
    high: float
    held: float
    least: float
    energy: float
    mass: float
    mean: float


class _Tried(NamedTuple):
    """What an attempt at a step came to.

    Attributes
    ----------
    made : bool
        Whether there is a new density; if not, `bound` says how long the step may have been.
    bound, leak, error : float
        As in `Outcome`.
    evaluations : int
        How often the potential was evaluated.
    """

    made: bool
    bound: float
    leak: float
    error: float
    evaluations: int


@uncounted_kernel
def evaluate(codes, data, room, volume, mu, V, u, sums, known):  # type: ignore[no-untyped-def]
    """The potential of a density to V, its response to `u`, and to `known` what `TOTAL` and the next six stand for."""
    known[6] = potential(codes, data, mu, V, u, room, volume)
    blocks = sums.size // 6
    passes.survey(mu, V, 0, blocks, sums)
    for k in range(6):
        known[k] = sums[k]
    for b in range(6, 6 * blocks, 6):
        known[0] += sums[b]
        known[1] += sums[b + 1]
        known[2] = sums[b + 2] if sums[b + 2] < known[2] else known[2]
        known[3] = sums[b + 3] if sums[b + 3] > known[3] else known[3]
        known[4] = sums[b + 4] if sums[b + 4] < known[4] else known[4]
        known[5] = sums[b + 5] if sums[b + 5] < known[5] else known[5]


@uncounted
def _evaluated(steps, mu, V, u, numbers):  # type: ignore[no-untyped-def]
    """Evaluate a density, and write what is known of it to numbers."""
    called(steps.evaluate, steps.codes, steps.data, steps.room, steps.volume, mu, V, u, steps.sums, numbers)


@uncounted
def _known(numbers, volume):  # type: ignore[no-untyped-def]
    total, moment = numbers[0], numbers[1]
    mean = moment / total if total > 0.0 else 0.0
    return _Known(total, moment, numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], total * volume, mean)


@uncounted
def _added_up(sums, width):  # type: ignore[no-untyped-def]
    """Add the sums of later blocks, so many each, to those of the first."""
    for b in range(width, sums.size // 6 * width, width):
        for k in range(width):
            sums[k] += sums[b + k]


@uncounted
def _greatest(values):  # type: ignore[no-untyped-def]
    most = 0.0
    for x in values:
        most = x if x > most else most
    return most


@uncounted
def _outflow(steps, mu, V):  # type: ignore[no-untyped-def]
    """How fast cells empty, each to the array of the speeds; the largest of these, rounded up, and its cell."""
    s, speeds = steps, steps.fields[SPEEDS]
    called(s.outflow, s.scheme, None, s.wide, s.ints, s.floats, s.metric, s.band, V, speeds, s.buffers, 0, s.bands)
    floor = 1e-30 * _greatest(mu) if s.limited else 0.0
    value, cell = largest(speeds, mu, floor, s.bands - s.bands, mu.size)  # a literal would be compiled by itself
    return value * ROUND_UP, cell


@uncounted
def _rate(steps, mu, V, dt, out):  # type: ignore[no-untyped-def]
    """The rate of change of a density by transport; the speeds are those of the potential."""
    s = steps
    given = s.scheme, None, s.wide, s.ints, s.floats, s.metric, s.band
    speeds, step = s.fields[SPEEDS], dt if s.limited else 0.0
    called(s.sweep, *given, mu, V, speeds, step, False, out, s.buffers, 0, s.bands)


@uncounted
def _integrating_factor(steps, V, start, h):  # type: ignore[no-untyped-def]
    """``exp(-alpha h (V - min V) / 3)`` to its array."""
    third = steps.fields[THIRD]
    shift = start.held if steps.balanced else 0.0
    passes.exponent(V, shift, -steps.alpha * h / 3, steps.balanced, 0, third.size, third)
    exponentials(pointer(third, 0), third.size)


@uncounted
def _scaled(nu, scale, out):  # type: ignore[no-untyped-def]
    p, to = pointer(nu, 0), pointer(out, 0)
    for j in range(nu.size):
        put(to, j, at(p, j) * scale)


@uncounted
def _stages(steps, mu, V, start, h, bound, end, u):  # type: ignore[no-untyped-def]
    """The stages of a step of length `h` and its end, as `ExponentialSSPRK3.step` takes them."""
    fields, sums, numbers = steps.fields, steps.sums, steps.fresh
    blocks, volume, alpha, reacts = sums.size // 6, steps.volume, steps.alpha, steps.alpha != 0.0
    rate, nu, scaled, stage_V = fields[RATE], fields[STAGE], fields[SCALED], fields[SCALED_POTENTIAL]
    before, third = fields[EARLIER], fields[THIRD]
    euler = h / steps.ssp
    if reacts:
        _integrating_factor(steps, V, start, h)
    one = blocks // blocks  # literals would be compiled one by one
    passes.first_stage(mu, rate, third, reacts, 2 / 3 * h, nu, one - one, blocks, sums)
    _added_up(sums, one + one)
    total, growth = sums[0], sums[1]
    leak = 0.25 * (growth * volume / start.mass if start.mass > 0.0 else 0.0)
    for last in range(2):
        mass = total * volume
        if not (mass > 0.0 and math.isfinite(mass)):
            return _Tried(False, 0.5 * h, 0.0, 0.0, last)
        _scaled(nu, start.mass / mass if steps.balanced else 1.0, scaled)
        _evaluated(steps, scaled, stage_V, u, numbers)
        mean = numbers[1] / numbers[0] if numbers[0] > 0.0 else 0.0
        fastest, _ = _outflow(steps, scaled, stage_V)
        constant = excess = 0.0
        if reacts:
            if steps.balanced:
                constant = alpha * mean - alpha * start.mean
            passes.largest_change(stage_V, V, alpha, alpha, constant, 0, blocks, sums)
            excess = _greatest(sums[:blocks])
        fastest = fastest / steps.positivity + excess
        longest = math.inf if fastest == 0.0 else steps.ssp / fastest
        bound = longest if longest < bound else bound
        if not h <= bound:
            return _Tried(False, bound, 0.0, 0.0, last + 1)
        _rate(steps, nu, stage_V, euler / (1.0 - euler * excess), end if last else before)
        if last:
            passes.final_stage(
                mu, nu, third, stage_V, V, reacts, alpha, alpha, constant, h, rate, before, end, 0, blocks, sums
            )
            _added_up(sums, one + one + one)
        else:
            passes.second_stage(mu, nu, third, stage_V, V, reacts, alpha, alpha, constant, h, before, 0, blocks, sums)
            _added_up(sums, one + one)
        total, growth = sums[0], sums[1]
        leak += (9 / 16 if last else 3 / 16) * (growth * volume / mass if mass > 0.0 else 0.0)
    leak *= h
    error = (9 / 16) * h * sums[2] / total if total > 0.0 else math.nan
    kept = start.mass * (1.0 + leak) / (total * volume) if steps.balanced and total > 0.0 else 1.0
    passes.finish(end, kept, 0, end.size)
    return _Tried(True, bound, leak, error, 2)


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
def _copied(source, target):  # type: ignore[no-untyped-def]
    for j in range(source.size):
        target[j] = source[j]


@uncounted
def _present(steps, state):  # type: ignore[no-untyped-def]
    """Evaluate the present density."""
    c, fields = int(state[CURRENT]), steps.fields
    _evaluated(steps, fields[DENSITY + c], fields[POTENTIAL + c], steps.responses[c], state[TOTAL : ENERGY + 1])
    state[EVALUATIONS] += 1.0
    state[KNOWN] = 1.0


@uncounted_inlined
def _made(steps, state, until, row, start):  # type: ignore[no-untyped-def]
    """One step, as `Solver.step` makes it: its entries in the row, and the last number of the cell. What it came to."""
    c, fields, t = int(state[CURRENT]), steps.fields, state[TIME]
    mu, V, end, end_V = fields[DENSITY + c], fields[POTENTIAL + c], fields[DENSITY + 1 - c], fields[POTENTIAL + 1 - c]
    fastest, cell = _outflow(steps, mu, V)
    bound = math.inf if fastest == 0.0 else steps.ssp * steps.positivity / fastest
    cap = _cap(steps, bound, steps.alpha * (start.high - start.low))
    proposal = _first(steps, cap) if math.isnan(state[LENGTH]) else state[LENGTH]
    span, least = until - t, abs(until)
    least = DT_FLOOR * (span if span > least else least)
    state[BOUND], state[CELL], state[STEP_REDONE], row[R_CELL] = bound, cell, 0.0, cell
    finite, rated, result = True, False, GOING
    length = wanted = following = memory = t_new = 0.0
    tried = _Tried(False, bound, 0.0, 0.0, 0)
    while result == GOING:
        wanted = cap if cap < proposal else proposal
        length, t_new = _length(steps, t, until, wanted, steps.speed * span)
        state[STEP_DT] = t_new - t
        if not rated:
            _rate(steps, mu, V, length / steps.ssp if math.isfinite(length) and length > 0.0 else 0.0, fields[RATE])
            rated = True
        if length == 0.0 and t_new > t:
            result = STOOD
        elif not (t_new - t > least or t_new == until):  # what is left to `until` may be as short as it is asked for
            result = TOO_SHORT if finite and _all_finite(fields[RATE]) else NOT_FINITE
        else:
            tried, finite = _Tried(False, bound, 0.0, 0.0, 0), True
            if not length > bound:
                tried = _stages(steps, mu, V, start, length, bound, end, steps.responses[1 - c])
                state[EVALUATIONS] += tried.evaluations
            if tried.made:
                _evaluated(steps, end, end_V, steps.responses[1 - c], steps.fresh)
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
        _copied(mu, end)
        _copied(V, end_V)
        _copied(steps.responses[c], steps.responses[1 - c])
        following, memory, result, row[R_ERROR] = state[LENGTH], state[MEMORY], MADE, 0.0
    elif result == MADE:
        # where it was cut short by a save time, the next step need not start from the cut length
        following = wanted if length < wanted and wanted > following else following
        _copied(steps.fresh, state[TOTAL : ENERGY + 1])
    if result == MADE:
        state[BEFORE_TIME], state[BEFORE_LENGTH], state[BEFORE_MEMORY] = state[TIME], state[LENGTH], state[MEMORY]
        state[TIME], state[LENGTH], state[MEMORY], state[CURRENT] = t_new, following, memory, 1.0 - c
    return result


@uncounted
def _left(steps, state, start, row):  # type: ignore[no-untyped-def]
    """What is known of a state when it is left, after the step: its dissipation."""
    c, fields, total = int(1.0 - state[CURRENT]), steps.fields, spread(0.0)
    mu, V = fields[DENSITY + c], fields[POTENTIAL + c]
    p, q = pointer(V, 0), pointer(fields[RATE], 0)
    for j in range(0, mu.size, COUNT):
        total = fused(load(p, j, mu.size - j, 0.0), load(q, j, mu.size - j, 0.0), total)
    drift = -folded(total) * steps.volume
    row[R_TRANSPORT], row[R_REACTION] = (steps.speed * drift if drift != 0.0 else 0.0), 0.0
    if steps.alpha != 0.0:
        blocks = steps.sums.size // 6
        one = blocks // blocks
        passes.moment(mu, V, start.mean if steps.balanced else 0.0, one - one, blocks, steps.sums)
        _added_up(steps.sums, one)
        row[R_REACTION] = steps.speed * (steps.alpha * (steps.sums[0] * steps.volume))


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
def _arrived(steps, state, now, row):  # type: ignore[no-untyped-def]
    """The row of a state when it arrives."""
    row[R_TIME], row[R_MASS], row[R_MINIMUM], row[R_ENERGY] = state[TIME], now.mass, now.least, now.energy
    row[R_GAP] = now.mass * (now.mean - now.low)
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
def _stands(steps, state, bounds, start, now, row):  # type: ignore[no-untyped-def]
    """How a run stands after a step."""
    size, other, result = abs(now.energy), abs(start.energy), MADE
    size = other if other > size else size
    state[SCALE] = size if size > state[SCALE] else state[SCALE]
    if bounds.change > 0.0 and _change(steps, state, row[R_DT], start) <= bounds.change:
        result = STOPPED
    if now.energy <= bounds.energy or row[R_GAP] <= bounds.gap:
        result = STOPPED
    if row[R_END_MASS] > bounds.ends:
        result = AT_ENDS
    if steps.balanced and abs(now.mass / bounds.mass - 1.0) > bounds.drift:
        result = DRIFTED
    if now.energy - start.energy > bounds.increase * state[SCALE]:
        result = ROSE
    return result if now.mass > 0.0 else NO_MASS


@uncounted_kernel
def advance(steps, state, bounds, until, beyond, most, rows, responses):  # type: ignore[no-untyped-def]
    """Steps towards a time, until one is not before another, or there were so many.

    Parameters
    ----------
    steps : Steps
    state : (NUMBERS,) array
        Where it is; goes on.
    bounds : Bounds
    until : float
        Where the last step ends, exactly.
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
    taken, result : int
        Steps made, and what the last one came to.
    """
    taken, result = 0, MADE
    if state[KNOWN] == 0.0:
        _present(steps, state)
    while taken < most and state[TIME] < beyond and result == MADE:
        row, start = rows[taken], _known(state[TOTAL : ENERGY + 1], steps.volume)
        result = _made(steps, state, until, row, start)
        if result == MADE:
            _left(steps, state, start, row)
            state[LEAK] += state[STEP_LEAK]
            _without_rounding(steps, state, bounds)
            if state[KNOWN] == 0.0:
                _present(steps, state)
            now = _known(state[TOTAL : ENERGY + 1], steps.volume)
            _arrived(steps, state, now, row)
            _copied(steps.responses[int(state[CURRENT])], responses[taken])
            taken += 1
            result = _stands(steps, state, bounds, start, now, row)
    return taken, result
