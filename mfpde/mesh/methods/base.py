"""How a step is made and how long it is.

A *method* (`Splitting`, `ExponentialSSPRK3`) takes one step of a given length; a *controller*
(`FixedStep`, `CourantControl`, `ErrorControl`) decides the length. Neither knows the other.

Lengths here are lengths in the clock ``S(t) = int_0^t s``, in which the common schedule ``s``
is 1: the flow is autonomous in ``S`` up to ``alpha`` and ``tau``, so no order is lost to the schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from mfpde.equation.problem import Problem
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, Flow, Outcome
from mfpde.support.arrays import Array

__all__ = ["Method", "Work"]


class Work(NamedTuple):
    """Arrays of the mesh's size that steps take besides a density, its potential and what the energy needs.

    Attributes
    ----------
    most : float
        At most, within a step.
    evaluating : float
        At most, while the energy is evaluated.
    left : float
        Between two steps: the new state, and what is kept for the next one.
    """

    most: float
    evaluating: float
    left: float


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
        """Refuse what the method does not integrate: unless it says otherwise, terms of the problem's own.

        Raises
        ------
        ValueError
            With the remedy.
        """
        if problem.terms:
            raise ValueError(f"{type(self).__name__} does not integrate terms of the problem's own; use Strang()")

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

    def work(self, problem: Problem, *, doubled: bool) -> Work:
        """The arrays that steps take; a method that does not say is taken to need 20.

        Parameters
        ----------
        problem : Problem
        doubled : bool
            Whether the error of each step is found by two of half the length (`step_doubling`).
        """
        return Work(20, 20, 12)

    def bound(self, flow: Flow, at: Evaluation, temperature: float) -> float:
        """The longest step with positive stages, from the rate at which the fastest cell empties."""
        outflow = flow.outflow(at, temperature).rate
        return math.inf if outflow == 0.0 else self.ssp * flow.scheme.positivity / outflow
