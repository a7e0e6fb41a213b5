"""Attempts at a step that is made twice, compiled: `mfpde.mesh.controllers.step_doubling`."""

from __future__ import annotations

import math

from mfpde.mesh.compiled.options import addressed
from mfpde.mesh.compiled.run_structures import HALF, HALF_POTENTIAL, IMPLICIT, WHOLE, Span, Tried
from mfpde.mesh.compiled.states import apart, evaluated, known, noted, tried
from mfpde.support.calls import called

__all__ = ["doubled"]


@addressed
def doubled(steps, mu, V, start, span, bound, end, end_V, u, outcome):  # type: ignore[no-untyped-def]
    """The whole step, and two of half the length, whose distance from it is the error; see `states.attempt`."""
    fields, begun, leak, count, most = steps.fields, start, 0.0, 0, math.inf
    whole, half, half_V = fields[WHOLE], fields[HALF], fields[HALF_POTENTIAL]
    for k in range(3):
        if k == 2:
            if steps.method.kind != IMPLICIT:
                evaluated(steps, half, half_V, u, steps.fresh)
                count += 1
            begun = known(steps.fresh, steps.volume)
        before, before_V = half if k == 2 else mu, half_V if k == 2 else V
        after, after_V = whole if k == 0 else half if k == 1 else end, half_V if k == 1 else end_V
        part = Span(span.t, span.dt, span.length, 0.5 if k == 2 else 0.0, 1.0 if k == 0 else 0.5)
        called(steps.at.single, steps, before, before_V, begun, part, bound, after, after_V, u, outcome)
        found = tried(outcome)
        count, longest = count + found.evaluations, found.bound / part.share
        most = longest if longest < most else most
        if not found.made:
            noted(Tried(False, longest, 0.0, math.nan, count), outcome)
            return
        leak += 0.0 if k == 0 else found.leak
    error = apart(end, whole) / (2.0**steps.method.order - 1.0)
    noted(Tried(True, most, leak, error, count), outcome)
