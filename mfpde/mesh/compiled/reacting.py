"""Birth-death with a frozen potential, within compiled steps: what it does is told in `mfpde.mesh.reaction`."""

from __future__ import annotations

import math

from mfpde.mesh.compiled.bernoulli import exponentials
from mfpde.mesh.compiled.options import uncounted
from mfpde.mesh.compiled.run_structures import SCALED
from mfpde.mesh.compiled.states import total
from mfpde.support.pointers import pointer

__all__ = ["reacted"]


@uncounted
def _free_exponent(steps, mu, V, a, tau, out):  # type: ignore[no-untyped-def]
    """What `free_energy_step` takes the exponential of, but for a constant; the greatest of it."""
    kept, most = -math.expm1(-a * tau), -math.inf
    for j in range(mu.size):
        out[j] = -math.inf
        if mu[j] > 0.0:
            out[j] = math.log(mu[j]) * (1.0 - kept) - V[j] * (kept / tau)
            if steps.base.size > 0:
                out[j] += kept * steps.base[j]
            most = out[j] if out[j] > most else most
    return most


@uncounted
def _exponent(mu, V, a, balanced, out):  # type: ignore[no-untyped-def]
    """The exponent of `exponential_step`; infinite where there is no mass."""
    shift = math.inf if balanced else 0.0
    if balanced:
        for j in range(mu.size):
            shift = V[j] if mu[j] > 0.0 and V[j] < shift else shift
    for j in range(mu.size):
        e = (V[j] - shift) * -a
        out[j] = 0.0 if balanced and e > 0.0 else e
    return shift


@uncounted
def reacted(steps, mu, V, a, tau):  # type: ignore[no-untyped-def]
    """Birth-death over ``a = alpha dt`` with V frozen, in the place of a density: `ReactionStep.apply`."""
    work = steps.fields[SCALED]
    if steps.free:
        most = _free_exponent(steps, mu, V, a, tau, work)
        for j in range(mu.size):
            work[j] -= most
    else:
        most = _exponent(mu, V, a, steps.balanced, work)
    if not math.isfinite(most):  # no mass: nothing happens
        return
    exponentials(pointer(work, 0), work.size)
    before = total(mu)
    for j in range(mu.size):
        mu[j] = (work[j] if mu[j] > 0.0 else 0.0) * (1.0 if steps.free else mu[j])
    if steps.balanced:
        scale = before / total(mu)
        for j in range(mu.size):
            mu[j] *= scale
