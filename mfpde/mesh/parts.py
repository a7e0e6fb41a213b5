"""The operators of a flow one by one: transport, reaction, and terms of the problem's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from mfpde.equation.measures.base import Measure
from mfpde.equation.terms import Frozen, Term
from mfpde.mesh.constants import FLUSH, MOST_STAGES
from mfpde.mesh.semidiscrete import Coefficients, Departure, Evaluation, Flow, Outcome, Part, Substep
from mfpde.support.arguments import read_only, refuse_masked
from mfpde.support.arrays import Array

__all__ = ["OwnTerms", "ReactionPart", "TransportPart", "stabilised_bound"]

MOST_DRIFT = 1e-10
"""Share of the mass that a term may lose or win by rounding though it keeps it."""


# ---------------------------------------------------------------------------------------------------------------------
# transport
# ---------------------------------------------------------------------------------------------------------------------


def _positivity_bound(flow: Flow, at: Evaluation, temperature: float) -> float:
    """The longest forward Euler step of the transport that keeps the density positive."""
    outflow = flow.outflow(at, temperature).rate
    return math.inf if outflow == 0.0 else flow.scheme.positivity / outflow


def stabilised_bound(flow: Flow, at: Evaluation, temperature: float) -> float:
    """The longest transport step, if one beyond `_positivity_bound` takes as many stages as the diffusion needs."""
    positive = _positivity_bound(flow, at, temperature)
    if temperature == 0.0:
        return positive
    drift = flow.outflow(at).rate
    limit = math.inf if drift == 0.0 else 0.5 * flow.scheme.positivity / drift
    stiffness = _stiffness(flow, at, temperature)
    return max(positive, min(limit, 0.5 * _gain(MOST_STAGES) / stiffness if stiffness > 0 else math.inf))


def _gain(stages: int) -> float:
    """``s^2 + s - 2``: twice the negative real stability interval of Runge-Kutta-Legendre steps of order 2."""
    return float(stages * stages + stages - 2)


def _stiffness(flow: Flow, at: Evaluation, temperature: float) -> float:
    """A bound on the transport's spectral radius: six-point diffusion fluxes have 1.55 times that of two-point ones."""
    return 3.1 * temperature * flow.transport.diffusion_rate + 2.0 * flow.outflow(at).rate


class TransportPart(Part):
    """Drift and diffusion, by SSP Runge-Kutta steps of order 3 or stabilised ones of order 2."""

    column: ClassVar[str] = "dissipation_transport"

    def advance(self, flow: Flow, start: Evaluation, substep: Substep) -> Outcome:
        """The density after a step of the transport; None where it would outgrow its bound."""
        if substep.stabilised:
            temperature = substep.at.temperature(0.5)
            if temperature > 0.0 and substep.length > _positivity_bound(flow, start, temperature):
                return _stabilised(flow, start, substep.length, temperature)
        return _strong_stability_preserving(flow, start, substep)

    def dissipation(self, flow: Flow, departure: Departure) -> float:
        """``-int psi d_t mu`` with the transport's rate of change."""
        return -flow.algebra.dot(departure.slope, departure.rate) * flow.grid.cell_volume


def _strong_stability_preserving(flow: Flow, start: Evaluation, substep: Substep) -> Outcome:
    """SSPRK(3,3) in Shu and Osher's form."""
    length, bound = substep.length, math.inf
    stage, mu = start, start.mu
    leak = 0.0
    # where a stage is, weight of the start, of the Euler step, quadrature weight
    for i, (c, old, new, weight) in enumerate(
        ((0.0, 0.0, 1.0, 1 / 6), (1.0, 3 / 4, 1 / 4, 1 / 6), (0.5, 1 / 3, 2 / 3, 2 / 3))
    ):
        if i > 0:
            stage = flow.evaluate(mu)
        temperature = substep.at.temperature(c)
        bound = min(bound, _positivity_bound(flow, stage, temperature))
        if length > bound:
            return Outcome(None, bound=bound)
        rate = substep.first_rate if i == 0 else None
        if rate is None:
            known = stage.outflow.get(temperature)
            rate = flow.transport.rate(stage.mu, stage.V, None, length, temperature, outflow=known)
        # the last stage is the result, the others live in scratch arrays, in turn
        out = flow.algebra.empty(flow.grid.shape) if i == 2 else flow.scratch("even" if i == 0 else "odd")
        growth = flow.algebra.combine(start.mu, stage.mu, rate, old, new, length, out)
        leak += weight * length * flow.growth(growth, stage.mass)
        mu = out
    return Outcome(mu, leak, bound=bound)


def _stabilised(flow: Flow, start: Evaluation, length: float, temperature: float) -> Outcome:
    """Runge-Kutta-Legendre of order 2, with as many stages as the diffusion needs."""
    bound = stabilised_bound(flow, start, temperature)
    if length > bound:
        return Outcome(None, bound=bound)
    need = 2.0 * length * _stiffness(flow, start, temperature)
    stages = max(3, math.ceil(0.5 * (math.sqrt(9.0 + 4.0 * need) - 1.0)))
    weight, rate_of = 4.0 / _gain(stages), flow.transport.rate

    def b(j: int) -> float:
        return 1 / 3 if j < 2 else _gain(j) / (2 * j * (j + 1))

    # no positivity limiter here: it is made for Euler steps. A step that turns negative is refused below.
    first = rate_of(start.mu, start.V, None, None, temperature)
    leak = length * flow.growth(float(first.sum()), start.mass)
    older, mu = start.mu, start.mu + (b(1) * weight * length) * first
    for j in range(2, stages + 1):
        near = (2 * j - 1) / j * b(j) / b(j - 1)
        far = -(j - 1) / j * b(j) / b(j - 2)
        rate = rate_of(mu, flow.evaluate(mu).V, None, None, temperature)
        rate -= (1.0 - b(j - 1)) * first
        rate *= near * weight * length
        rate += (1.0 - near - far) * start.mu
        rate += near * mu
        rate += far * older
        older, mu = mu, rate
    total = float(mu.sum()) * flow.grid.cell_volume
    positive = not flow.scheme.positive or mu.min() >= -FLUSH
    if not (positive and total > 0.0):  # NaN included
        return Outcome(None, bound=0.5 * length)
    # the coefficients of many stages sum to 1 up to round-off only: the mass is what the fluxes have left
    return Outcome(flow.algebra.finish(mu, start.mass * (1.0 + leak) / total), leak, bound=bound)


# ---------------------------------------------------------------------------------------------------------------------
# what acts with a frozen potential
# ---------------------------------------------------------------------------------------------------------------------


def _with_frozen_potential(
    flow: Flow, start: Evaluation, corrector: bool, solution: Callable[[Array, Array], Array]
) -> Array:
    """``solution(mu, V)`` with the potential of the start or, as a corrector, the average with a predicted end."""
    predicted = solution(start.mu, start.V)
    if not corrector:
        return predicted
    V = 0.5 * (start.V + flow.evaluate(predicted, flow.scratch("predicted")).V)
    return solution(start.mu, V)


class ReactionPart(Part):
    """Birth and death, by the exact solution for a frozen potential."""

    column: ClassVar[str] = "dissipation_reaction"

    def acts(self, at: Coefficients, fraction: float) -> bool:
        """Whether anything reacts."""
        return at.alpha(fraction) != 0.0

    def advance(self, flow: Flow, start: Evaluation, substep: Substep) -> Outcome:
        """The density after a step of the reaction."""
        a, temperature = substep.at.alpha(0.5) * substep.length, substep.at.temperature(0.5)

        def solution(mu: Array, V: Array) -> Array:
            return flow.reaction.apply(mu, V, a, temperature)

        return Outcome(_with_frozen_potential(flow, start, substep.corrector, solution))

    def dissipation(self, flow: Flow, departure: Departure) -> float:
        """``int psi R dmu``, times alpha."""
        at, alpha = departure.at, departure.alpha
        if not alpha:
            return 0.0
        if departure.free is None:
            return alpha * flow.reaction.dissipation(at.mu, at.V, at.mean)
        return alpha * flow.reaction.free_dissipation(at.mu, at.V, departure.free.slope, departure.temperature)


class OwnTerms(Part):
    """The terms of a problem's own with the potential frozen; several of them there and back, each for half the step.

    Parameters
    ----------
    terms : sequence of Term
    cells : callable
        A measure on the cells of the mesh.
    """

    column: ClassVar[str] = "dissipation_reaction"

    def __init__(self, terms: Sequence[Term], cells: Callable[[Measure], Array]) -> None:
        self.terms = terms
        self._cells = functools.cache(lambda measure: read_only(cells(measure))[0])

    def _frozen(self, flow: Flow, V: Array, temperature: float) -> Frozen:
        return Frozen(flow.grid, read_only(V)[0], temperature, self._cells)

    def advance(self, flow: Flow, start: Evaluation, substep: Substep) -> Outcome:
        """The density after a step of all terms."""
        temperature = substep.at.temperature(0.5)

        def solution(mu: Array, V: Array) -> Array:
            frozen = self._frozen(flow, V, temperature)
            order, length = self.terms, substep.length
            if len(order) > 1:  # one after the other alone would be of first order
                order, length = (*order, *reversed(order)), 0.5 * length
            for term in order:
                new = _checked(term, "advance", term.advance(read_only(mu)[0], frozen, length), flow)
                _keeps_what_it_says(term, mu, new, flow)
                mu = new
            return mu

        return Outcome(_with_frozen_potential(flow, start, substep.corrector, solution))

    def dissipation(self, flow: Flow, departure: Departure) -> float:
        """``-int psi T[mu]``."""
        frozen = self._frozen(flow, departure.at.V, departure.temperature)
        slope, mu, total = departure.slope, departure.at.mu, 0.0
        for term in self.terms:
            total -= flow.algebra.dot(slope, _checked(term, "rate", term.rate(read_only(mu)[0], frozen), flow))
        return total * flow.grid.cell_volume


def _checked(term: Term, what: str, values: Array, flow: Flow) -> Array:
    """What a term has given, if it is an array on the cells."""
    if np.shape(values) != flow.grid.shape:
        raise ValueError(f"{type(term).__name__}.{what} gave shape {np.shape(values)}, the mesh has {flow.grid.shape}")
    refuse_masked(values, f"what {type(term).__name__}.{what} returns")
    if (kind := np.asarray(values).dtype).kind not in "fiu":
        raise ValueError(f"{type(term).__name__}.{what} must give real numbers, not {kind}")
    return np.ascontiguousarray(values, dtype=np.float64)


def _keeps_what_it_says(term: Term, before: Array, after: Array, flow: Flow) -> None:
    """Refuse a density that has turned negative, and mass lost or won by a term that says it keeps it."""
    if flow.scheme.positive and (least := float(after.min())) < 0.0:
        raise ValueError(f"{type(term).__name__}.advance gave a negative density (minimum {least:.3g})")
    change = float(after.sum()) / float(before.sum()) - 1.0
    if flow.balanced and abs(change) > MOST_DRIFT:
        raise ValueError(
            f"{type(term).__name__}.advance changed the mass by {change:.2g} of it; a term that does not keep the mass "
            "says balanced = False"
        )
