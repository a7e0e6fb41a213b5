"""How a step is made and how long it is.

A *method* (`Splitting`, `ExponentialSSPRK3`) takes one step of a given length; a *controller*
(`FixedStep`, `CourantControl`, `ErrorControl`) decides the length. Neither knows the other.

Lengths here are lengths in the clock ``S(t) = int_0^t s``, in which the common schedule ``s``
is 1: the flow is autonomous in ``S`` up to ``alpha`` and ``tau``, so no order is lost to the schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from mfpde.equation.problem import Problem
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Evaluation, Flow
from mfpde.support.arrays import Array

__all__ = ["Coefficients", "Method", "Outcome"]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What varies within a step.

    Attributes
    ----------
    alpha, temperature : callable
        The birth-death rate and ``tau`` at a fraction in [0, 1] of the step.
    """

    alpha: Callable[[float], float]
    temperature: Callable[[float], float]

    def part(self, start: float, fraction: float) -> Coefficients:
        """Those of a part of the step."""
        return Coefficients(
            lambda c: self.alpha(start + fraction * c), lambda c: self.temperature(start + fraction * c)
        )


@dataclass(slots=True)
class Outcome:
    """What a step gave.

    Attributes
    ----------
    mu : array or None
        The new density; None when a stage's velocity outgrew the positivity bound.
    leak : float
        The relative mass that the transport created, measured before any rescaling; round-off.
    error : float or None
        Estimate of the step's error in L1 relative to the mass.
    bound : float
        The step length that the fastest stage would have allowed.
    end : Evaluation or None
        What is known about the new density where the method has evaluated it.
    """

    mu: Array | None
    leak: float = 0.0
    error: float | None = None
    bound: float = math.inf
    end: Evaluation | None = None


class Method(ABC):
    """One step of the coupled flow. Subclasses set the attributes.

    Attributes
    ----------
    order : int
        Order in time with the non-local potential.
    ssp : float
        Forward-Euler steps of the transport are ``1 / ssp`` times the step.
    embedded : bool
        Whether a step comes with an error estimate of its own.
    consistent : bool
        Whether the reaction's potential is solved for, so that no bound on ``alpha dt osc(V)`` is needed.
    """

    order: int
    ssp: float
    embedded: bool = False
    consistent: bool = False

    def check(self, problem: Problem, scheme: Scheme) -> None:
        """Refuse what the method does not integrate.

        Raises
        ------
        ValueError
            With the remedy.
        """
        return

    @abstractmethod
    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """Advance `start` by `length`.

        Parameters
        ----------
        flow : Flow
        start : Evaluation
            The density at the start and its potential.
        length : float
            Step length in the clock ``S``.
        at : Coefficients
            ``alpha`` and ``tau`` within the step.
        first_rate : array, optional
            The transport's rate of change at `start` if it is already known.
        """

    def bound(self, flow: Flow, at: Evaluation, temperature: float) -> float:
        """The longest step with positive stages, from the rate at which the fastest cell empties."""
        outflow = flow.outflow(at, temperature)[0]
        return math.inf if outflow == 0.0 else self.ssp * flow.scheme.positivity / outflow
