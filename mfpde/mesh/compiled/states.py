"""What is known of a density within compiled steps: its potential, how fast it empties and moves, its free energy.

What takes long to compile is called by its address: as a part of the programs that use it it would be compiled again.
"""

from __future__ import annotations

import math

from mfpde.mesh.compiled import passes
from mfpde.mesh.compiled.moving import KIND
from mfpde.mesh.compiled.options import uncounted, uncounted_kernel
from mfpde.mesh.compiled.outflow import largest
from mfpde.mesh.compiled.potential import potential
from mfpde.mesh.compiled.run_structures import (
    AT_TEMPERATURE,
    CURRENT,
    DENSITY,
    DRIVING,
    ENERGY,
    ENTROPY,
    EVALUATIONS,
    GIBBS_GAP,
    KNOWN,
    POTENTIAL,
    SPEEDS,
    TIME,
    TOTAL,
    Known,
    Tried,
)
from mfpde.mesh.constants import ROUND_UP
from mfpde.support.calls import called
from mfpde.support.interpreted import COUNT
from mfpde.support.lanes import folded, fused, load, spread
from mfpde.support.pointers import pointer

__all__ = [
    "added_up",
    "apart",
    "attempt",
    "copied",
    "dot",
    "driven",
    "evaluate",
    "evaluated",
    "freed",
    "greatest",
    "known",
    "noted",
    "outflow",
    "present",
    "rate",
    "rates",
    "total",
    "tried",
]


# ----- arrays


@uncounted
def copied(source, target):  # type: ignore[no-untyped-def]
    """The entries of one array to another."""
    for j in range(source.size):
        target[j] = source[j]


@uncounted
def dot(a, b):  # type: ignore[no-untyped-def]
    """The sum of the products of entries."""
    p, q, sum_ = pointer(a, 0), pointer(b, 0), spread(0.0)
    for j in range(0, a.size, COUNT):
        sum_ = fused(load(p, j, a.size - j, 0.0), load(q, j, a.size - j, 0.0), sum_)
    return folded(sum_)


@uncounted
def total(values):  # type: ignore[no-untyped-def]
    """The sum of entries."""
    p, sum_ = pointer(values, 0), spread(0.0)
    for j in range(0, values.size, COUNT):
        sum_ += load(p, j, values.size - j, 0.0)
    return folded(sum_)


@uncounted
def greatest(values):  # type: ignore[no-untyped-def]
    """The greatest entry, or 0."""
    most = 0.0
    for x in values:
        most = x if x > most else most
    return most


@uncounted
def apart(one, other):  # type: ignore[no-untyped-def]
    """How far two densities are apart in L1, as a share of the first."""
    mass = apart = 0.0
    for j in range(one.size):
        mass += abs(one[j])
        apart += abs(one[j] - other[j])
    return apart / mass if mass > 0.0 else 0.0


@uncounted
def added_up(sums, width):  # type: ignore[no-untyped-def]
    """Add the sums of later blocks, so many each, to those of the first."""
    for b in range(width, sums.size // 6 * width, width):
        for k in range(width):
            sums[k] += sums[b + k]


# ----- the potential


@uncounted_kernel
def evaluate(codes, data, room, volume, mu, V, u, sums, found):  # type: ignore[no-untyped-def]
    """The potential of a density to V, its response to `u`, and to `found` what `TOTAL` and the next six stand for."""
    found[6] = potential(codes, data, mu, V, u, room, volume)
    blocks = sums.size // 6
    passes.survey(mu, V, 0, blocks, sums)
    for k in range(6):
        found[k] = sums[k]
    for b in range(6, 6 * blocks, 6):
        found[0] += sums[b]
        found[1] += sums[b + 1]
        found[2] = sums[b + 2] if sums[b + 2] < found[2] else found[2]
        found[3] = sums[b + 3] if sums[b + 3] > found[3] else found[3]
        found[4] = sums[b + 4] if sums[b + 4] < found[4] else found[4]
        found[5] = sums[b + 5] if sums[b + 5] < found[5] else found[5]


@uncounted
def evaluated(steps, mu, V, u, numbers):  # type: ignore[no-untyped-def]
    """Evaluate a density, and write what is known of it to numbers."""
    called(steps.at.evaluate, steps.codes, steps.data, steps.room, steps.volume, mu, V, u, steps.sums, numbers)


@uncounted
def known(numbers, volume):  # type: ignore[no-untyped-def]
    """What numbers say of a density."""
    mass, moment = numbers[0], numbers[1]
    mean = moment / mass if mass > 0.0 else 0.0
    return Known(mass, moment, numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], mass * volume, mean)


@uncounted
def present(steps, state):  # type: ignore[no-untyped-def]
    """Evaluate the present density."""
    c, fields = int(state[CURRENT]), steps.fields
    evaluated(steps, fields[DENSITY + c], fields[POTENTIAL + c], steps.responses[c], state[TOTAL : ENERGY + 1])
    state[EVALUATIONS] += 1.0
    state[KNOWN], state[AT_TEMPERATURE] = 1.0, math.nan


# ----- how it moves


@uncounted
def driven(steps, V, tau):  # type: ignore[no-untyped-def]
    """Where there is a base measure, the potential that drives the drift, ``V - tau log omega``, to its array."""
    drive, base = steps.fields[DRIVING], steps.base
    for j in range(base.size):
        drive[j] = base[j] * -tau + V[j]


@uncounted
def outflow(steps, mu, V, tau):  # type: ignore[no-untyped-def]
    """How fast cells empty, each to the array of the speeds; the largest of these, rounded up, and its cell."""
    s, speeds = steps, steps.fields[SPEEDS]
    driven(steps, V, tau)
    drive = V if s.base.size == 0 else s.fields[DRIVING]
    mesh = s.numbers, tau, s.ints, s.floats, s.metric, s.band
    called(s.at.outflow, KIND, KIND, KIND, s.at.inner_outflow, *mesh, drive, speeds, s.buffers, s.bands)
    floor = 1e-30 * greatest(mu) if s.limited else 0.0
    most, cell = largest(speeds, mu, floor, s.bands - s.bands, mu.size)  # a literal would be compiled by itself
    return most * ROUND_UP, cell


@uncounted
def rate(steps, mu, V, tau, dt, out):  # type: ignore[no-untyped-def]
    """The rate of change of a density by transport; V and `tau` are those that `outflow` was asked for last."""
    s, step = steps, dt if steps.limited else 0.0
    drive = V if s.base.size == 0 else s.fields[DRIVING]
    given = s.at.inner_move, s.numbers, tau, s.ints, s.floats, s.metric, s.band, mu, drive, s.fields[SPEEDS], step
    called(s.at.move, KIND, KIND, KIND, *given, out, s.buffers, s.bands)


@uncounted
def rates(steps, t):  # type: ignore[no-untyped-def]
    """The birth-death rate and the temperature at a time."""
    called(steps.at.rates, steps.alpha, steps.temperature, t, steps.fresh_rates)
    return steps.fresh_rates[0], steps.fresh_rates[1]


# ----- the free energy


@uncounted
def freed(steps, state):  # type: ignore[no-untyped-def]
    """What a temperature adds to the energy of the present density; its slope and what else it adds are kept."""
    if not steps.noisy:
        return 0.0
    _, tau = rates(steps, state[TIME])
    if state[AT_TEMPERATURE] != tau:
        state[AT_TEMPERATURE], state[ENTROPY], state[GIBBS_GAP] = tau, math.nan, math.nan
        if state[TOTAL] > 0.0:
            called(steps.at.free_energy, steps, state, tau)
    return tau * state[ENTROPY] if state[TOTAL] > 0.0 else 0.0


# ----- steps


@uncounted
def attempt(steps, mu, V, start, span, bound, end, end_V, u):  # type: ignore[no-untyped-def]
    """An attempt at a step by the method.

    Parameters
    ----------
    steps : Steps
    mu, V : (cells,) array
        The density at the start, and its potential; the transport's rate of change there is in `RATE`.
    start : Known
        What else is known of it.
    span : Span
        The step, a whole one.
    bound : float
        The longest step that the start allows.
    end, end_V, u : array
        Written: the new density; implicit methods also write its potential and response,
        and what is known of it to ``steps.fresh``.

    Returns
    -------
    Tried
    """
    called(steps.at.attempt, steps, mu, V, start, span, bound, end, end_V, u, steps.outcome)
    return tried(steps.outcome)


@uncounted
def tried(outcome):  # type: ignore[no-untyped-def]
    """What numbers say that an attempt came to."""
    return Tried(outcome[0] > 0.0, outcome[1], outcome[2], outcome[3], int(outcome[4]))


@uncounted
def noted(found, outcome):  # type: ignore[no-untyped-def]
    """What an attempt came to, as numbers."""
    outcome[0], outcome[1], outcome[2] = (1.0 if found.made else 0.0), found.bound, found.leak
    outcome[3], outcome[4] = found.error, found.evaluations
