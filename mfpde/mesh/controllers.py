"""How long steps are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from mfpde.mesh.methods.base import Method
from mfpde.mesh.semidiscrete import Coefficients, Evaluation, Flow, Outcome
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["Controller", "CourantControl", "ErrorControl", "FixedStep", "step_doubling"]


class Controller(ABC):
    """How long steps are."""

    needs_error: bool = False

    @abstractmethod
    def first(self, bound: float, stiffness: float) -> float:
        """Length of the first step, before any cap."""

    @abstractmethod
    def cap(self, bound: float, stiffness: float) -> float:
        """The longest step allowed for a positivity bound and a reaction stiffness ``alpha osc V``."""

    @abstractmethod
    def after(
        self, length: float, outcome: Outcome, memory: tuple[float, ...]
    ) -> tuple[bool, float, tuple[float, ...]]:
        """Judge a step: whether it is accepted, the next length to try, and the controller's memory."""


class _Bounded(Controller):
    """Steps below the positivity bound and a bound on the reaction, and what to do when a stage outgrew them."""

    fraction: float
    reaction: float
    growth: float

    def _check(self) -> None:
        _positive("reaction", self.reaction)
        _fraction("fraction", self.fraction)
        if not (real(self.growth) and self.growth > 1):
            raise ValueError(f"growth must be a number above 1, not {shown(self.growth)}")
        _in_double_precision(self, "fraction", "reaction", "growth")

    def cap(self, bound: float, stiffness: float) -> float:
        """See `Controller.cap`."""
        return min(self.fraction * bound, self.reaction / stiffness if stiffness > 0 else math.inf)

    def _shorter(self, length: float, outcome: Outcome) -> float:
        return min(self.fraction * outcome.bound, 0.9 * length)


@dataclass(frozen=True)
class FixedStep(Controller):
    """Steps of one length in the PDE's time; a step over the positivity bound ends the run.

    Parameters
    ----------
    dt : float
        The step, ``> 0``.
    """

    dt: float
    needs_error: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive("dt", self.dt)
        _in_double_precision(self, "dt")

    def first(self, bound: float, stiffness: float) -> float:
        """See `Controller.first`."""
        return self.dt

    def cap(self, bound: float, stiffness: float) -> float:
        """See `Controller.cap`."""
        return math.inf

    def after(
        self, length: float, outcome: Outcome, memory: tuple[float, ...]
    ) -> tuple[bool, float, tuple[float, ...]]:
        """See `Controller.after`."""
        return outcome.mu is not None, self.dt, memory


@dataclass(frozen=True)
class CourantControl(_Bounded):
    """The step is a fraction of the positivity bound of the current velocity.

    Parameters
    ----------
    fraction : float
        In (0, 1]; 0.9 leaves room for the velocity to grow within a step, 0.5 is cautious.
    reaction : float
        Bound on ``alpha * dt * osc(V)``; 0.5 keeps the frozen potential accurate.
    growth : float
        The largest factor from one step to the next.
    """

    fraction: float = 0.9
    reaction: float = 0.5
    growth: float = 2.0
    needs_error: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def first(self, bound: float, stiffness: float) -> float:
        """See `Controller.first`."""
        return math.inf

    def after(
        self, length: float, outcome: Outcome, memory: tuple[float, ...]
    ) -> tuple[bool, float, tuple[float, ...]]:
        """See `Controller.after`."""
        if outcome.mu is None:
            return False, self._shorter(length, outcome), memory
        return True, self.growth * length, memory


@dataclass(frozen=True)
class ErrorControl(_Bounded):
    """The step follows an estimate of its error, below the positivity bound.

    Parameters
    ----------
    tolerance : float
        Estimated error of one step in L1, relative to the mass. The default 1e-5 gives five to six digits of
        the energy over a run, 1e-7 seven to eight; the number of steps grows like its power -1/3.
    fraction : float
        Of the positivity bound, in (0, 1].
    reaction : float
        Bound on ``alpha * dt * osc(V)``.
    growth : float
        The largest factor from one step to the next; shrinking is not limited.

    References
    ----------
    Soderlind, ACM Trans. Math. Softw. 29 (2003) 1 (proportional-integral control).
    """

    tolerance: float = 1e-5
    fraction: float = 0.95
    reaction: float = 5.0
    growth: float = 2.0
    needs_error: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        _positive("tolerance", self.tolerance)
        self._check()
        _in_double_precision(self, "tolerance")

    def first(self, bound: float, stiffness: float) -> float:
        """See `Controller.first`."""
        # an error estimate needs a first step; a small one costs little and growth finds the right size
        return 0.1 * self.cap(bound, stiffness)

    def after(
        self, length: float, outcome: Outcome, memory: tuple[float, ...]
    ) -> tuple[bool, float, tuple[float, ...]]:
        """See `Controller.after`."""
        if outcome.mu is None:
            return False, self._shorter(length, outcome), memory
        error = outcome.error
        if error is None or not math.isfinite(error):
            return False, 0.25 * length, memory
        if error == 0.0:
            return True, self.growth * length, memory
        ratio = self.tolerance / error
        if error > self.tolerance:
            return False, length * (0.9 * ratio ** (1 / 3)), memory
        previous = memory[0] if memory else error
        factor = 0.9 * ratio ** (0.7 / 3) * (previous / self.tolerance) ** (0.4 / 3)
        # a step far better than it had to be is luck, and must not shrink the one after the next
        return True, length * min(factor, self.growth), (max(error, 1e-2 * self.tolerance),)


def _in_double_precision(controller: Controller, *names: str) -> None:
    """What steps are computed with: a number of single precision would make them, and then masses, as inaccurate."""
    for name in names:
        if isinstance(value := getattr(controller, name), np.floating):
            object.__setattr__(controller, name, float(value))


def _positive(name: str, value: float) -> None:
    if not (real(value) and value > 0):
        raise ValueError(f"{name} must be a finite positive number, not {shown(value)}")


def _fraction(name: str, value: float) -> None:
    if not (real(value) and 0 < value <= 1):
        raise ValueError(f"{name} must lie in (0, 1], not {shown(value)}")


def step_doubling(
    method: Method, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
) -> Outcome:
    """Two half steps, with the difference from one whole step as error estimate."""
    whole = method.step(flow, start, length, at, first_rate)
    if whole.mu is None:
        return whole
    whole.end = None  # its potential is not asked for
    half = method.step(flow, start, 0.5 * length, at.part(0.0, 0.5), first_rate)
    if half.mu is None:
        return Outcome(None, bound=2 * half.bound)
    other = method.step(flow, half.end or flow.evaluate(half.mu), 0.5 * length, at.part(0.5, 0.5))
    if other.mu is None:
        return Outcome(None, bound=2 * other.bound)
    total = float(np.abs(other.mu).sum())
    difference = float(np.abs(other.mu - whole.mu).sum()) / total if total > 0 else 0.0
    error = difference / (2**method.order - 1)
    bound = min(whole.bound, 2 * half.bound, 2 * other.bound)
    return Outcome(other.mu, half.leak + other.leak, error=error, bound=bound, end=other.end)
