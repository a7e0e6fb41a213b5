"""What a temperature adds to what is known of a density, within compiled steps."""

from __future__ import annotations

import math

from mfpde.mesh.compiled.bernoulli import exponentials
from mfpde.mesh.compiled.options import addressed, uncounted
from mfpde.mesh.compiled.run_structures import (
    CURRENT,
    DENSITY,
    ENTROPY,
    GIBBS_GAP,
    POTENTIAL,
    SCALED,
    SLOPE,
    STAGE,
    TOTAL,
)
from mfpde.mesh.compiled.states import dot, total
from mfpde.mesh.constants import EMPTY
from mfpde.support.pointers import pointer

__all__ = ["free_energy", "lost_by_reaction"]


@uncounted
def _log_gibbs(steps, V, tau, mass, log_p):  # type: ignore[no-untyped-def]
    """``log p`` of the Gibbs measure of a mass, as `mfpde.equation.gibbs.log_gibbs` takes it."""
    weights, most = steps.fields[SCALED], -math.inf
    for j in range(V.size):
        log_p[j] = V[j] * (-1.0 / tau)
    for j in range(steps.base.size):
        log_p[j] += steps.base[j]
    for x in log_p:
        most = x if x > most else most
    for j in range(V.size):
        log_p[j] -= most
        weights[j] = log_p[j]
    exponentials(pointer(weights, 0), V.size)
    shift = math.log(mass / (total(weights) * steps.volume))
    for j in range(V.size):
        log_p[j] += shift


@addressed
def free_energy(steps, state, tau):  # type: ignore[no-untyped-def]
    """Entropy, gap and slope of the present density, as `Flow.free_energy` takes them."""
    c, fields = int(state[CURRENT]), steps.fields
    mu, V, slope, log_p = fields[DENSITY + c], fields[POTENTIAL + c], fields[SLOPE + c], fields[STAGE]
    _log_gibbs(steps, V, tau, state[TOTAL] * steps.volume, log_p)
    apart = 0.0
    for j in range(mu.size):
        slope[j] = math.log(mu[j] if mu[j] > EMPTY else EMPTY)
        apart += mu[j] * (slope[j] - log_p[j])
    for j in range(steps.base.size):
        slope[j] -= steps.base[j]
    state[ENTROPY] = dot(mu, slope) * steps.volume
    gap = tau * (apart * steps.volume)
    state[GIBBS_GAP] = gap if gap > 0.0 else 0.0
    for j in range(mu.size):
        slope[j] = slope[j] * tau + V[j]


@addressed
def lost_by_reaction(steps, mu, V, slope, tau, out):  # type: ignore[no-untyped-def]
    """`ReactionStep.free_dissipation`, to `out`."""
    reaction = slope if steps.free else V
    mean = dot(reaction, mu) / total(mu) if steps.balanced else 0.0
    more = 0.0 if steps.balanced else tau  # the mass changes: the variation of mu log mu is log mu + 1
    lost = 0.0
    for j in range(mu.size):
        lost += (slope[j] + more) * ((reaction[j] - mean) * mu[j])
    out[0] = lost * steps.volume
