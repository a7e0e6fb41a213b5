"""Splitting methods: the operators of the flow one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.mesh.methods.base import Method, Work
from mfpde.mesh.parts import stabilised_bound
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, Flow, Operator, Outcome, Substep
from mfpde.support.arguments import COUNT, entries, member, real, require, shown
from mfpde.support.arrays import Array

__all__ = ["Lie", "Splitting", "Strang"]


@dataclass(frozen=True)
class Splitting(Method):
    """Operator splitting, as data.

    Parameters
    ----------
    steps : sequence of (Operator, float)
        What is done in turn and for which fraction of the step. The fractions of each operator sum to 1; those of
        `Operator.OWN`, which a problem with terms of its own needs, may be left out.
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
            fractions = [fraction for op, fraction in self.steps if op is operator]
            total = math.fsum(fractions)
            if abs(total - 1.0) > 1e-12 and (fractions or operator is not Operator.OWN):
                raise ValueError(
                    f"the {operator.value} fractions of the splitting sum to {total:g}; they must sum to 1"
                )
        for name in ("corrector", "stabilised"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, not {shown(getattr(self, name))}")
        if any(fraction < 0 for _, fraction in self.steps):
            raise ValueError("the fractions of a splitting must not be negative")

    def check(self, problem: Problem, scheme: Scheme) -> None:
        """Refuse a problem with terms of its own that no step is for."""
        if problem.terms and not any(operator is Operator.OWN for operator, _ in self.steps):
            raise ValueError(
                f"{type(self).__name__} has no step for terms of the problem's own; give it (Operator.OWN, fraction)"
            )

    def work(self, problem: Problem, *, doubled: bool) -> Work:
        """The stages of the transport, and what the exact solutions of reactions and the problem's own terms take."""
        reaction = 4 + (4 if problem.reinjection is not None else 0) + (2 if problem.rate is not None else 0)
        own = 4 if problem.terms else 0
        most = 8 + max(reaction if problem.reacts else 0, own) + (3 if doubled else 0)
        return Work(most, most, 8 + problem.reacts)

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """One operator after the other, each from what the one before has left."""
        current, leak, bound = start, 0.0, math.inf
        done = dict.fromkeys(Operator, 0.0)
        last: Outcome | None = None
        for operator, fraction in self.steps:
            if fraction == 0.0 or operator not in flow.parts:
                continue
            part, before = flow.parts[operator], done[operator]
            done[operator] += fraction
            if not part.acts(at, before + 0.5 * fraction):
                continue
            rate = first_rate if last is None else None
            during = at.part(before, fraction)
            substep = Substep(fraction * length, during, rate, self.corrector, self.stabilised)
            if last is not None and last.mu is not None:
                current = flow.evaluate(last.mu)
            last = part.advance(flow, current, substep)
            bound = min(bound, last.bound / fraction)
            if last.mu is None:
                return Outcome(None, bound=bound)
            leak += last.leak
        return Outcome(start.mu if last is None else last.mu, leak, bound=bound)

    def bound(self, flow: Flow, at: Evaluation, temperature: float) -> float:
        """The longest step with positive stages; with `stabilised` ones, diffusion only limits their number."""
        if self.stabilised:
            return stabilised_bound(flow, at, temperature)
        return super().bound(flow, at, temperature)


@dataclass(frozen=True)
class Lie(Splitting):
    """Terms of the problem's own, reaction, then transport, each for the whole step: order 1."""

    steps: Sequence[tuple[Operator, float]] = field(
        default=((Operator.OWN, 1.0), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 1.0)), repr=False
    )
    order: int = field(default=1, repr=False)
    corrector: bool = False


@dataclass(frozen=True)
class Strang(Splitting):
    """Half a reaction, transport, half a reaction: order 2, seven potential evaluations.

    Terms of the problem's own come before and after, each for half the step.

    References
    ----------
    Strang, SIAM J. Numer. Anal. 5 (1968) 506.
    """

    steps: Sequence[tuple[Operator, float]] = field(
        default=(
            (Operator.OWN, 0.5),
            (Operator.REACTION, 0.5),
            (Operator.TRANSPORT, 1.0),
            (Operator.REACTION, 0.5),
            (Operator.OWN, 0.5),
        ),
        repr=False,
    )
    order: int = field(default=2, repr=False)
