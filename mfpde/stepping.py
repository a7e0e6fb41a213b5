"""How a step is made and how long it is.

A *method* (`Splitting`, `ExponentialSSPRK3`) takes one step of a given length; a *controller*
(`FixedStep`, `CourantControl`, `ErrorControl`) decides the length. Neither knows the other.

Lengths here are lengths in the clock ``S(t) = int_0^t s``, in which the common schedule ``s``
is 1: the flow is autonomous in ``S`` up to ``alpha`` and ``tau``, so no order is lost to the schedule.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.problem import Problem, Reaction
from mfpde.flow import Evaluation, Flow
from mfpde.support.arguments import COUNT, entries, member, real, require, shown
from mfpde.support.arrays import Array
from mfpde.transport import Scheme

__all__ = [
    "Coefficients",
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
        from mfpde.passes import combine

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
        from mfpde.passes import FLUSH, finish

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

    def check(self, problem: Problem, scheme: Scheme) -> None:
        """See `Method.check`."""
        if problem.reinjection is not None:
            raise ValueError("ExponentialSSPRK3 does not integrate reinjection; use Strang()")
        if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
            raise ValueError(
                "ExponentialSSPRK3 does not integrate the free-energy reaction; use ImplicitStrang() or Strang()"
            )

    def step(
        self, flow: Flow, start: Evaluation, length: float, at: Coefficients, first_rate: Array | None = None
    ) -> Outcome:
        """See `Method.step`."""
        from mfpde import passes

        reaction, volume = flow.reaction, flow.grid.cell_volume
        balanced = reaction.balanced
        h = length
        euler = h / self.ssp
        mu = start.mu

        bound = self.bound(flow, start, at.temperature(0.0))
        if h > bound:
            return Outcome(None, bound=bound)

        alpha, alpha_0 = at.alpha(2 / 3), at.alpha(0.0)
        r_0, mean_0, third = start.V, start.mean, None
        if alpha_0 != 0.0 or alpha != 0.0:
            r_0 = reaction.rate_of(start.V)
            mean_0 = _mean(flow, r_0, start)
            shift = _support_minimum(r_0, start) if balanced else 0.0
            # with the mean removed, empty cells may lie below the minimum on the support
            third = passes.exponential(r_0, shift, -alpha_0 * h / 3, balanced, flow.scratch("third"))

        rate_0 = first_rate
        if rate_0 is None:
            rate_0 = flow.rate(start, at.temperature(0.0), euler)

        # nu_1 = e^{2/3 L} (mu + 2/3 h N_0)
        nu = flow.scratch("nu")
        total, growth = passes.first_stage(mu, rate_0, third, 2 / 3 * h, nu)
        leak = 0.25 * flow.growth(growth, start.mass)

        slope, before = rate_0, flow.scratch("slope")
        error = math.nan
        for last in (False, True):
            mass = total * volume
            if not (mass > 0.0 and math.isfinite(mass)):
                return Outcome(None, bound=0.5 * h)
            # the potential sees the normalised measure where mass is conserved, the measure itself elsewhere
            scale = start.mass / mass if balanced else 1.0
            stage = flow.evaluate(np.multiply(nu, scale, out=flow.scratch("stage")), flow.scratch("V"))
            temperature = at.temperature(2 / 3)
            outflow = flow.outflow(stage, temperature)[0]
            change, excess = None, 0.0
            if third is not None:
                r = reaction.rate_of(stage.V)
                constant = alpha * _mean(flow, r, stage) - alpha_0 * mean_0 if balanced else 0.0
                change = passes.Change(r, r_0, alpha, alpha_0, constant)
                excess = max(passes.largest_change(change), 0.0)
            # a stage is positive while euler * (outflow / positivity + excess) <= 1
            rate = outflow / flow.scheme.positivity + excess
            bound = min(bound, math.inf if rate == 0.0 else self.ssp / rate)
            if not h <= bound:  # NaN included
                return Outcome(None, bound=bound)
            euler_dt = euler / (1.0 - euler * excess)
            slope = flow.rate(stage, temperature, euler_dt, nu, None if last else before)
            if last:
                # nu_3 = e^{L} (74/128 mu + 5/32 h N_0) + 27/64 e^{1/3 L} (nu_2 + 4/3 h N_2)
                total, growth, error = passes.final_stage(mu, nu, third, change, h, rate_0, before, slope)
            else:
                # nu_2 = 2/3 e^{2/3 L} mu + 1/3 nu_1 + 4/9 h N_1
                total, growth = passes.second_stage(mu, nu, third, change, h, slope)
            leak += (9 / 16 if last else 3 / 16) * flow.growth(growth, mass)

        error = (9 / 16) * h * error / total if total > 0 else math.nan
        leak *= h
        factor = start.mass * (1.0 + leak) / (total * volume) if balanced and total > 0 else 1.0
        return Outcome(passes.finish(slope, factor), leak, error=error, bound=bound)


def _mean(flow: Flow, r: Array, at: Evaluation) -> float:
    if r is at.V:
        return at.mean
    return float(np.vdot(r, at.mu)) * flow.grid.cell_volume / at.mass


def _support_minimum(r: Array, at: Evaluation) -> float:
    return at.survey.held if r is at.V else float(np.min(r, where=at.mu > 0, initial=np.inf))


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
            return False, length * (0.9 * ratio ** (1 / 3)), memory
        previous = memory[0] if memory else error
        factor = 0.9 * ratio ** (0.7 / 3) * (previous / self.tolerance) ** (0.4 / 3)
        # a step far better than it had to be is luck, and must not shrink the one after the next
        return True, length * min(factor, self.growth), (max(error, 1e-2 * self.tolerance),)


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
