"""Splitting methods: transport and reaction one after the other."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mfpde.mesh.methods.base import Coefficients, Method, Outcome
from mfpde.mesh.semidiscrete import Evaluation, Flow
from mfpde.support.arguments import COUNT, entries, member, real, require, shown
from mfpde.support.arrays import Array

__all__ = ["Lie", "Operator", "Splitting", "Strang"]


class Operator(enum.Enum):
    """A part of the flow."""

    TRANSPORT = "transport"
    REACTION = "reaction"


@dataclass(frozen=True)
class Splitting(Method):
    """Operator splitting, as data.

    Parameters
    ----------
    steps : sequence of (Operator, float)
        What is done in turn and for which fraction of the step. The fractions of each operator sum to 1.
    order : int
        Its order in time.
    corrector : bool
        Whether the frozen potential of a reaction step is the average of predictor and start
        (second order) or the start's (first order).
    stabilised : bool
        At a temperature above 0: whether a transport step beyond the positivity bound is made by a Runge-Kutta-Legendre
        method of order 2, whose number of stages ``s`` grows with the square root of the step,
        ``s^2 + s - 2 >= 2 dt |lambda|``, or not at all. Drift still limits the step; one that turns the density
        negative is refused and shortened.

    Notes
    -----
    Other transport steps are SSP Runge-Kutta steps of order 3 (three potential evaluations), positive up to
    `Method.bound`.

    References
    ----------
    Meyer, Balsara, Aslam, J. Comput. Phys. 257 (2014) 594 (Runge-Kutta-Legendre).
    """

    steps: Sequence[tuple[Operator, float]]
    order: int
    corrector: bool = True
    stabilised: bool = True
    ssp: float = field(default=1.0, init=False, repr=False)
    embedded: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        steps = []
        for pair in entries(self.steps, "the steps of a splitting"):
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and real(pair[1])):
                raise ValueError(f"a splitting is made of (Operator, fraction) pairs, {shown(pair)} is none")
            steps.append((member(Operator, pair[0], "operator"), float(pair[1])))
        object.__setattr__(self, "steps", tuple(steps))
        require(order=(self.order, COUNT))
        for operator in Operator:
            total = math.fsum(fraction for op, fraction in self.steps if op is operator)
            if abs(total - 1.0) > 1e-12:
                raise ValueError(
                    f"the {operator.value} fractions of the splitting sum to {total:g}; they must sum to 1"
                )
        for name in ("corrector", "stabilised"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, not {shown(getattr(self, name))}")
        if any(fraction < 0 for _, fraction in self.steps):
            raise ValueError("the fractions of a splitting must not be negative")

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """See `Method.step`."""
        current: Evaluation | None = start
        mu = start.mu
        leak, bound = 0.0, math.inf
        done = dict.fromkeys(Operator, 0.0)
        for operator, fraction in self.steps:
            if fraction == 0.0:
                continue
            if operator is Operator.REACTION:
                middle = done[operator] + 0.5 * fraction
                alpha = at.alpha(middle)
                if alpha != 0.0:
                    a = alpha * fraction * length
                    mu = self._react(flow, current or flow.evaluate(mu), a, at.temperature(middle))
                    current = None
            else:
                current = current or flow.evaluate(mu)
                rate = first_rate if current is start else None
                transported = self._transport(flow, current, fraction * length, at.part(done[operator], fraction), rate)
                bound = min(bound, transported.bound / fraction)
                if transported.mu is None:
                    return Outcome(None, bound=bound)
                leak += transported.leak
                mu, current = transported.mu, None
            done[operator] += fraction
        return Outcome(mu, leak, bound=bound)

    def _react(self, flow: Flow, start: Evaluation, a: float, temperature: float) -> Array:
        first = flow.reaction.apply(start.mu, start.V, a, temperature)
        if not self.corrector:
            return first
        return flow.reaction.apply(start.mu, 0.5 * (start.V + flow.evaluate(first).V), a, temperature)

    def bound(self, flow: Flow, at: Evaluation, temperature: float) -> float:
        """See `Method.bound`; with `stabilised` steps, diffusion only limits the number of stages."""
        positive = super().bound(flow, at, temperature)
        if not self.stabilised or temperature == 0.0:
            return positive
        drift = flow.outflow(at)[0]
        limit = math.inf if drift == 0.0 else 0.5 * flow.scheme.positivity / drift
        stiffness = _stiffness(flow, at, temperature)
        return max(positive, min(limit, 0.5 * _gain(MOST_STAGES) / stiffness if stiffness > 0 else math.inf))

    def _transport(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None
    ) -> Outcome:
        if self.stabilised:
            temperature = at.temperature(0.5)
            if temperature > 0.0 and length > super().bound(flow, start, temperature):
                return self._stabilised(flow, start, length, temperature)
        from mfpde.mesh.compiled.updates import combine

        bound = math.inf
        stage, mu = start, start.mu
        leak = 0.0
        # Shu-Osher form of SSPRK(3,3): where it is, weight of the start, of the Euler step, quadrature weight
        for i, (c, old, new, weight) in enumerate(
            ((0.0, 0.0, 1.0, 1 / 6), (1.0, 3 / 4, 1 / 4, 1 / 6), (0.5, 1 / 3, 2 / 3, 2 / 3))
        ):
            if i > 0:
                stage = flow.evaluate(mu)
            temperature = at.temperature(c)
            bound = min(bound, super().bound(flow, stage, temperature))
            if length > bound:
                return Outcome(None, bound=bound)
            rate = first_rate if i == 0 else None
            if rate is None:
                rate = flow.rate(stage, temperature, length)
            # the last stage is the result, the others live in scratch arrays, in turn
            out = np.empty(flow.grid.shape) if i == 2 else flow.scratch("even" if i == 0 else "odd")
            growth = combine(start.mu, stage.mu, rate, old, new, length, out)
            leak += weight * length * flow.growth(growth, stage.mass)
            mu = out
        return Outcome(mu, leak, bound=bound)

    def _stabilised(self, flow: Flow, start: Evaluation, length: float, temperature: float) -> Outcome:
        """Runge-Kutta-Legendre of order 2, with as many stages as the diffusion needs."""
        from mfpde.mesh.compiled.options import FLUSH
        from mfpde.mesh.compiled.updates import finish

        bound = self.bound(flow, start, temperature)
        if length > bound:
            return Outcome(None, bound=bound)
        need = 2.0 * length * _stiffness(flow, start, temperature)
        stages = max(3, math.ceil(0.5 * (math.sqrt(9.0 + 4.0 * need) - 1.0)))
        weight = 4.0 / _gain(stages)

        def b(j: int) -> float:
            return 1 / 3 if j < 2 else _gain(j) / (2 * j * (j + 1))

        # no positivity limiter here: it is made for Euler steps. A step that turns negative is refused below.
        first = flow.rate(start, temperature, None)
        leak = length * flow.growth(float(first.sum()), start.mass)
        older, mu = start.mu, start.mu + (b(1) * weight * length) * first
        for j in range(2, stages + 1):
            near = (2 * j - 1) / j * b(j) / b(j - 1)
            far = -(j - 1) / j * b(j) / b(j - 2)
            rate = flow.rate(flow.evaluate(mu), temperature, None)
            rate -= (1.0 - b(j - 1)) * first
            rate *= near * weight * length
            rate += (1.0 - near - far) * start.mu
            rate += near * mu
            rate += far * older
            older, mu = mu, rate
        total = float(mu.sum()) * flow.grid.cell_volume
        if not (mu.min() >= -FLUSH and total > 0.0):  # NaN included
            return Outcome(None, bound=0.5 * length)
        # the coefficients of many stages sum to 1 up to round-off only: the mass is what the fluxes have left
        return Outcome(finish(mu, start.mass * (1.0 + leak) / total), leak, bound=bound)


MOST_STAGES = 40
"""Stages of a stabilised step at most: beyond, an implicit method is the better choice."""


def _gain(stages: int) -> float:
    """``s^2 + s - 2``: twice the negative real stability interval of Runge-Kutta-Legendre steps of order 2."""
    return float(stages * stages + stages - 2)


def _stiffness(flow: Flow, at: Evaluation, temperature: float) -> float:
    """A bound on the transport's spectral radius: six-point diffusion fluxes have 1.55 times that of two-point ones."""
    return 3.1 * temperature * flow.transport.diffusion_rate + 2.0 * flow.outflow(at)[0]


@dataclass(frozen=True)
class Lie(Splitting):
    """Reaction, then transport, each for the whole step: order 1."""

    steps: Sequence[tuple[Operator, float]] = field(
        default=((Operator.REACTION, 1.0), (Operator.TRANSPORT, 1.0)), repr=False
    )
    order: int = field(default=1, repr=False)
    corrector: bool = False


@dataclass(frozen=True)
class Strang(Splitting):
    """Half a reaction, transport, half a reaction: order 2, seven potential evaluations.

    References
    ----------
    Strang, SIAM J. Numer. Anal. 5 (1968) 506.
    """

    steps: Sequence[tuple[Operator, float]] = field(
        default=((Operator.REACTION, 0.5), (Operator.TRANSPORT, 1.0), (Operator.REACTION, 0.5)), repr=False
    )
    order: int = field(default=2, repr=False)
