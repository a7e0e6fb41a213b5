"""How a step is made and how long it is.

A *method* (`Splitting`, `ExponentialSSPRK3`) takes one step of a given length; a *controller*
(`FixedStep`, `CourantControl`, `ErrorControl`) decides the length. Neither knows the other.

Lengths here are lengths in the clock ``S(t) = int_0^t s``, in which the common schedule ``s``
is 1: the flow is autonomous in ``S`` up to ``alpha``, so no order is lost to the schedule.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mfpde.flow import Evaluation, Flow

__all__ = [
    "Controller",
    "CourantControl",
    "ErrorControl",
    "ExponentialSSPRK3",
    "FixedStep",
    "Lie",
    "Method",
    "Operator",
    "Outcome",
    "Splitting",
    "Strang",
]

Array = NDArray[np.float64]
AlphaAt = Callable[[float], float]
"""``alpha`` at a fraction in [0, 1] of the step."""


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
    """

    mu: Array | None
    leak: float = 0.0
    error: float | None = None
    bound: float = math.inf


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
    supports_reinjection : bool
    """

    order: int
    ssp: float
    embedded: bool = False
    supports_reinjection: bool = True

    @abstractmethod
    def step(
        self, flow: Flow, start: Evaluation, length: float, alpha_at: AlphaAt, first_rate: Array | None = None
    ) -> Outcome:
        """Advance `start` by `length`.

        Parameters
        ----------
        flow : Flow
        start : Evaluation
            The density at the start and its potential.
        length : float
            Step length in the clock ``S``.
        alpha_at : callable
            ``alpha`` at a fraction of the step.
        first_rate : array, optional
            ``div(mu G grad V)`` of `start` if it is already known.
        """

    def bound(self, flow: Flow, outflow: float) -> float:
        """The longest step with positive stages for an outflow rate ``max_i sum_faces v_out / h``."""
        return math.inf if outflow == 0.0 else self.ssp * flow.scheme.positivity / outflow


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

    Notes
    -----
    Transport steps are SSP Runge-Kutta steps of order 3 (three potential evaluations).
    """

    steps: Sequence[tuple[Operator, float]]
    order: int
    corrector: bool = True
    ssp: float = field(default=1.0, init=False, repr=False)
    embedded: bool = field(default=False, init=False, repr=False)
    supports_reinjection: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple((Operator(op), float(fraction)) for op, fraction in self.steps))
        for operator in Operator:
            total = math.fsum(fraction for op, fraction in self.steps if op is operator)
            if abs(total - 1.0) > 1e-12:
                raise ValueError(
                    f"the {operator.value} fractions of the splitting sum to {total:g}; they must sum to 1"
                )
        if any(fraction < 0 for _, fraction in self.steps):
            raise ValueError("the fractions of a splitting must not be negative")

    def step(
        self, flow: Flow, start: Evaluation, length: float, alpha_at: AlphaAt, first_rate: Array | None = None
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
                alpha = alpha_at(done[operator] + 0.5 * fraction)
                if alpha != 0.0:
                    mu = self._react(flow, current or flow.evaluate(mu), alpha * fraction * length)
                    current = None
            else:
                current = current or flow.evaluate(mu)
                rate = first_rate if current is start else None
                transported = self._transport(flow, current, fraction * length, rate)
                bound = min(bound, transported.bound / fraction)
                if transported.mu is None:
                    return Outcome(None, bound=bound)
                leak += transported.leak
                mu, current = transported.mu, None
            done[operator] += fraction
        return Outcome(mu, leak, bound=bound)

    def _react(self, flow: Flow, start: Evaluation, a: float) -> Array:
        if not self.corrector:
            return flow.reaction.apply(start.mu, start.V, a)
        predicted = flow.evaluate(flow.reaction.apply(start.mu, start.V, a))
        return flow.reaction.apply(start.mu, 0.5 * (start.V + predicted.V), a)

    def _transport(self, flow: Flow, start: Evaluation, length: float, first_rate: Array | None) -> Outcome:
        transport = flow.transport
        bound = math.inf
        stage, mu = start, start.mu
        leak = 0.0
        # Shu-Osher form of SSPRK(3,3): weight of the start, of the Euler step, quadrature weight of the stage
        for i, (old, new, weight) in enumerate(((0.0, 1.0, 1 / 6), (3 / 4, 1 / 4, 1 / 6), (1 / 3, 2 / 3, 2 / 3))):
            if i > 0:
                stage = flow.evaluate(mu)
            bound = min(bound, self.bound(flow, flow.outflow(stage)[0]))
            if length > bound:
                return Outcome(None, bound=bound)
            rate = first_rate if i == 0 and first_rate is not None else transport.rate(stage.mu, stage.V, dt=length)
            leak += weight * length * _growth(flow, rate, stage.mass)
            mu = new * (stage.mu + length * rate)
            if old != 0.0:
                mu += old * start.mu
        return Outcome(_flush(mu), leak, bound=bound)


@dataclass(frozen=True)
class Lie(Splitting):
    """Reaction, then transport, each for the whole step: order 1."""

    steps: Sequence[tuple[Operator, float]] = ((Operator.REACTION, 1.0), (Operator.TRANSPORT, 1.0))
    order: int = 1
    corrector: bool = False


@dataclass(frozen=True)
class Strang(Splitting):
    """Half a reaction, transport, half a reaction: order 2, seven potential evaluations.

    References
    ----------
    Strang, SIAM J. Numer. Anal. 5 (1968) 506.
    """

    steps: Sequence[tuple[Operator, float]] = (
        (Operator.REACTION, 0.5),
        (Operator.TRANSPORT, 1.0),
        (Operator.REACTION, 0.5),
    )
    order: int = 2


@dataclass(frozen=True)
class ExponentialSSPRK3(Method):
    r"""Unsplit third order with the reaction as integrating factor: three potential evaluations.

    With ``V^n`` the potential at the start, the un-normalised measure ``nu`` solves

    .. math::

       \partial_S \nu = -\alpha_0 (V^n - \min V^n)\,\nu + N(\nu), \qquad
       N(\nu) = \nabla\cdot(\nu G\nabla V) - \delta\,\nu,

    where ``V = V[nu/|nu|]`` and ``delta`` is ``alpha (V - Vbar) - alpha_0 (V^n - Vbar^n)``, small
    and zero at the start. Any function of time alone may be added to ``delta`` without changing
    ``mu = nu/|nu|``. The first term is integrated by its exact exponential inside the SSP method
    eSSPRK+(3,3); its abscissas 0, 2/3, 2/3, 1 do not decrease, so every exponential is at most 1
    and a stiff reaction cannot overflow.

    The result is scaled to the mass that the transport has left: the mass at the start, times what
    the fluxes leaked (round-off, and recorded).

    Positivity holds for steps up to ``3/4`` of the forward-Euler bound of the transport with
    ``delta`` counted in. The error estimate is the distance to an embedded second-order result.

    References
    ----------
    Isherwood, Grant, Gottlieb, SIAM J. Numer. Anal. 56 (2018) 3276.
    """

    order: int = field(default=3, init=False, repr=False)
    ssp: float = field(default=0.75, init=False, repr=False)
    embedded: bool = field(default=True, init=False, repr=False)
    supports_reinjection: bool = field(default=False, init=False, repr=False)

    def step(
        self, flow: Flow, start: Evaluation, length: float, alpha_at: AlphaAt, first_rate: Array | None = None
    ) -> Outcome:
        """See `Method.step`."""
        transport, reaction = flow.transport, flow.reaction
        balanced = reaction.balanced
        h = length
        euler = h / self.ssp
        mu = start.mu

        bound = self.bound(flow, flow.outflow(start)[0])
        if h > bound:
            return Outcome(None, bound=bound)

        alpha_0 = alpha_at(0.0)
        reacts = alpha_0 != 0.0 or alpha_at(1.0) != 0.0 or alpha_at(2 / 3) != 0.0
        if reacts:
            r_0 = reaction.rate_of(start.V)
            mean_0 = _mean(flow, r_0, start)
            shift = _support_minimum(r_0, mu) if balanced else 0.0
            exponent = (r_0 - shift) * (-alpha_0 * h / 3)
            if balanced:
                np.minimum(exponent, 0.0, out=exponent)  # empty cells may lie below the minimum on the support
            third = np.exp(exponent, out=exponent)
            two_thirds = third * third
        else:
            third = two_thirds = np.ones(1)

        rate_0 = first_rate if first_rate is not None else transport.rate(mu, start.V, dt=euler)
        leak = 0.25 * _growth(flow, rate_0, start.mass)

        # nu_1 = e^{2/3 L} (mu + 2/3 h N_0)
        nu = rate_0 * (2 / 3 * h)
        nu += mu
        if reacts:
            nu *= two_thirds

        slopes: list[Array] = []
        for weight in (3 / 16, 9 / 16):
            mass = float(nu.sum()) * flow.grid.cell_volume
            if not (mass > 0.0 and math.isfinite(mass)):
                return Outcome(None, bound=0.5 * h)
            # the potential sees the normalised measure where mass is conserved, the measure itself elsewhere
            scale = start.mass / mass if balanced else 1.0
            stage = flow.evaluate(nu * scale)
            outflow = flow.outflow(stage)[0]
            delta, excess = None, 0.0
            if reacts:
                alpha = alpha_at(2 / 3)
                r = reaction.rate_of(stage.V)
                if balanced:
                    delta = alpha * (r - _mean(flow, r, stage))
                    delta -= alpha_0 * (r_0 - mean_0)
                else:
                    delta = alpha * r
                    delta -= alpha_0 * r_0
                excess = max(float(delta.max()), 0.0)
            # a stage is positive while euler * (outflow / positivity + excess) <= 1
            total = outflow / flow.scheme.positivity + excess
            bound = min(bound, math.inf if total == 0.0 else self.ssp / total)
            if h > bound:
                return Outcome(None, bound=bound)
            slope = transport.rate(nu, stage.V, dt=euler / (1.0 - euler * excess))
            leak += weight * _growth(flow, slope, mass)
            if delta is not None:
                delta *= nu
                slope -= delta
            slopes.append(slope)
            if weight == 3 / 16:
                # nu_2 = 2/3 e^{2/3 L} mu + 1/3 nu_1 + 4/9 h N_1
                new = two_thirds * mu if reacts else mu.copy()
                new *= 2.0
                new += nu
                new += slope * (4 / 3 * h)
                new *= 1 / 3
                nu = new

        first, second = slopes
        # nu_3 = e^{L} (74/128 mu + 5/32 h N_0) + 27/64 e^{1/3 L} (nu_2 + 4/3 h N_2)
        new = rate_0 * (5 / 32 * h)
        new += (74 / 128) * mu
        if reacts:
            new *= two_thirds
        tail = second * (4 / 3 * h)
        tail += nu
        tail *= 27 / 64
        new += tail
        np.subtract(second, first, out=second)
        if reacts:
            new *= third
            second *= third
        np.abs(second, out=second)
        size = float(new.sum())
        error = (9 / 16) * h * float(second.sum()) / size if size > 0 else math.nan
        leak *= h
        if balanced and size > 0:
            new *= start.mass * (1.0 + leak) / (size * flow.grid.cell_volume)
        return Outcome(_flush(new), leak, error=error, bound=bound)


def _growth(flow: Flow, rate: Array, mass: float) -> float:
    """The relative rate at which the transport creates mass: zero but for round-off."""
    return float(rate.sum()) * flow.grid.cell_volume / mass


def _mean(flow: Flow, r: Array, at: Evaluation) -> float:
    if r is at.V:
        return at.mean
    return float(np.vdot(r, at.mu)) * flow.grid.cell_volume / at.mass


def _support_minimum(values: Array, mu: Array) -> float:
    minimum = float(values.min())
    # the masked minimum is slow and rarely differs
    return minimum if mu.flat[int(values.argmin())] > 0 else float(np.min(values, where=mu > 0, initial=np.inf))


def _flush(mu: Array) -> Array:
    """Set what is about to become subnormal to zero: it carries no mass and is slow."""
    mu *= np.abs(mu) >= 1e-290
    return mu


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
        if not self.growth > 1:
            raise ValueError(f"growth must be above 1, not {self.growth!r}")

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
            return False, length * min(0.9 * ratio ** (1 / 3), 0.9), memory
        previous = memory[0] if memory else error
        factor = 0.9 * ratio ** (0.7 / 3) * (previous / self.tolerance) ** (0.4 / 3)
        return True, length * min(factor, self.growth), (error,)


def _positive(name: str, value: float) -> None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite positive number, not {value!r}")


def _fraction(name: str, value: float) -> None:
    if not (isinstance(value, (int, float)) and 0 < value <= 1):
        raise ValueError(f"{name} must lie in (0, 1], not {value!r}")


def step_doubling(
    method: Method, flow: Flow, start: Evaluation, length: float, alpha_at: AlphaAt, first_rate: Array | None = None
) -> Outcome:
    """Two half steps, with the difference from one whole step as error estimate."""
    whole = method.step(flow, start, length, alpha_at, first_rate)
    if whole.mu is None:
        return whole
    half = method.step(flow, start, 0.5 * length, lambda c: alpha_at(0.5 * c), first_rate)
    if half.mu is None:
        return Outcome(None, bound=2 * half.bound)
    other = method.step(flow, flow.evaluate(half.mu), 0.5 * length, lambda c: alpha_at(0.5 + 0.5 * c))
    if other.mu is None:
        return Outcome(None, bound=2 * other.bound)
    difference = float(np.abs(other.mu - whole.mu).sum()) / float(np.abs(other.mu).sum())
    error = difference / (2**method.order - 1)
    bound = min(whole.bound, 2 * half.bound, 2 * other.bound)
    return Outcome(other.mu, half.leak + other.leak, error=error, bound=bound)
