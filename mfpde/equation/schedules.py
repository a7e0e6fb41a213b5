"""Schedules: non-negative functions of time with exact integrals.

They scale the whole dynamics, the birth-death rate or the temperature, and anneal or quench them.
"""

from __future__ import annotations

import abc
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mfpde.support.arguments import entries, floats, real, shown
from mfpde.support.travel import Portable

__all__ = [
    "Constant",
    "CustomSchedule",
    "ExponentialDecay",
    "InverseLog",
    "PiecewiseLinear",
    "PowerLaw",
    "Schedule",
    "as_schedule",
    "invert_clock",
]


class Schedule(Portable, abc.ABC):
    """A non-negative function of time ``t >= 0``.

    Calling it gives the value, `integral` the integral between two times, exact to round-off
    for the schedules of this module other than `CustomSchedule`.
    """

    def __call__(self, t: float) -> float:
        """Return the value at time ``t >= 0``; infinite only where the schedule has its integrable singularity."""
        return self._value(_time(t))

    def integral(self, t0: float, t1: float) -> float:
        """Return the integral from `t0` to `t1`, both at least 0; reversed times change the sign."""
        t0, t1 = _time(t0), _time(t1)
        if t0 == t1:
            return 0.0
        return self._integral(t0, t1) if t0 < t1 else -self._integral(t1, t0)

    @property
    def constant(self) -> bool:
        """Whether the value is the same at all times."""
        return False

    @abc.abstractmethod
    def _value(self, t: float) -> float: ...

    @abc.abstractmethod
    def _integral(self, t0: float, t1: float) -> float: ...


def _time(t: float) -> float:
    try:
        t = float(t)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a time is a number, not {shown(t)}") from None
    if not (math.isfinite(t) and t >= 0.0):
        raise ValueError(f"schedules are defined for finite times t >= 0, not t = {t}")
    return t


def _number(value: object, what: str) -> float:
    """A number that may be infinite or NaN: what is wrong with those is said where it is known."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise ValueError(f"{what} must be numbers, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _set(schedule: Schedule, *, positive: Sequence[str] = (), non_negative: Sequence[str] = ()) -> None:
    """Check the fields of a frozen schedule and store them as floats."""
    for name in (*positive, *non_negative):
        value = getattr(schedule, name)
        strict = name in positive
        limit = "positive" if strict else "non-negative"
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise ValueError(f"{type(schedule).__name__}: {name} must be a number, not {shown(value)}")
        number = _number(value, name)
        if not (math.isfinite(number) and (number > 0.0 if strict else number >= 0.0)):
            raise ValueError(f"{type(schedule).__name__}: {name} = {shown(value)} must be finite and {limit}")
        object.__setattr__(schedule, name, number)


@dataclass(frozen=True)
class Constant(Schedule):
    """``s(t) = value``.

    Parameters
    ----------
    value : float
        Finite, at least 0.

    Raises
    ------
    ValueError
        If the value is out of range.

    Examples
    --------
    >>> Constant(2.0).integral(1.0, 4.0)
    6.0
    """

    value: float

    def __post_init__(self) -> None:
        _set(self, non_negative=("value",))

    @property
    def constant(self) -> bool:
        """True."""
        return True

    def _value(self, t: float) -> float:
        return self.value

    def _integral(self, t0: float, t1: float) -> float:
        return self.value * (t1 - t0)

    def __repr__(self) -> str:
        return f"Constant({self.value:g})"


@dataclass(frozen=True)
class PowerLaw(Schedule):
    """``s(t) = scale t^exponent``.

    Parameters
    ----------
    exponent : float
        Above -1, so that the integral from 0 exists. Negative exponents make the value at 0 infinite:
        use `integral` there.
    scale : float
        Finite, at least 0.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> PowerLaw(-0.5).integral(0.0, 4.0)
    4.0
    """

    exponent: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        exponent = self.exponent
        if not isinstance(exponent, numbers.Real) or isinstance(exponent, bool):
            raise ValueError(f"PowerLaw: exponent must be a number, not {shown(exponent)}")
        if not (real(exponent) and exponent > -1.0):
            raise ValueError(
                f"PowerLaw: exponent = {shown(exponent)} must be finite and above -1, to be integrable at 0"
            )
        object.__setattr__(self, "exponent", float(exponent))
        _set(self, non_negative=("scale",))

    @property
    def constant(self) -> bool:
        """Whether the exponent or the scale is zero."""
        return self.exponent == 0.0 or self.scale == 0.0

    def _value(self, t: float) -> float:
        if self.scale == 0.0:
            return 0.0
        if t == 0.0 and self.exponent < 0.0:
            return math.inf
        return self.scale * t**self.exponent

    def _integral(self, t0: float, t1: float) -> float:
        power = self.exponent + 1.0
        if t0 <= 0.5 * t1:
            return self.scale * (t1**power - t0**power) / power
        # t1^p - t0^p = t1^p (1 - (t0/t1)^p) without cancellation for close times
        return self.scale * t1**power * -math.expm1(power * math.log1p((t0 - t1) / t1)) / power

    def __repr__(self) -> str:
        return f"PowerLaw({self.scale:g} t^{self.exponent:g})"


@dataclass(frozen=True)
class PiecewiseLinear(Schedule):
    """Linear interpolation between given values; constant before the first and after the last time.

    Parameters
    ----------
    times : sequence of float
        Non-decreasing, at least 0, at least one. A repeated time is a jump: the value there is the later one.
    values : sequence of float
        Finite, at least 0, one a time.

    Raises
    ------
    ValueError
        If times decrease, one occurs more than twice, lengths differ, or a value is out of range.

    Notes
    -----
    An annealing with a final quench: ``PiecewiseLinear([0, 80, 80], [1e-1, 1e-3, 0])``.

    Examples
    --------
    >>> ramp = PiecewiseLinear([0.0, 2.0], [1.0, 0.0])
    >>> ramp(0.5), ramp(5.0), ramp.integral(0.0, 5.0)
    (0.75, 0.0, 1.0)
    """

    times: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        times, values = (
            tuple(
                _number(x, f"PiecewiseLinear: {name}") for x in entries(getattr(self, name), f"PiecewiseLinear: {name}")
            )
            for name in ("times", "values")
        )
        if not times or len(times) != len(values):
            raise ValueError(
                f"PiecewiseLinear: {len(times)} times and {len(values)} values; give one value a time, at least one"
            )
        for t in times:
            if not (math.isfinite(t) and t >= 0.0):
                raise ValueError(f"PiecewiseLinear: time {t} must be finite and non-negative")
        for v in values:
            if not (math.isfinite(v) and v >= 0.0):
                raise ValueError(f"PiecewiseLinear: value {v} must be finite and non-negative")
        for a, b in itertools.pairwise(times):
            if b < a:
                raise ValueError(f"PiecewiseLinear: time {b} follows {a}; sort the times")
        for a, b in zip(times, times[2:], strict=False):
            if a == b:
                raise ValueError(f"PiecewiseLinear: time {a} occurs more than twice; a jump takes two")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "values", values)

    @property
    def constant(self) -> bool:
        """Whether all values are equal."""
        return len(set(self.values)) == 1

    def _value(self, t: float) -> float:
        from bisect import bisect_right

        i = bisect_right(self.times, t)
        if i == 0 or i == len(self.times):
            return self.values[0 if i == 0 else -1]
        return self._between(i - 1, t)

    def _between(self, i: int, t: float) -> float:
        """Value on the piece from times[i] to times[i + 1], the left limit at its end."""
        x = (t - self.times[i]) / (self.times[i + 1] - self.times[i])
        return (1.0 - x) * self.values[i] + x * self.values[i + 1]

    def _integral(self, t0: float, t1: float) -> float:
        times, values = self.times, self.values
        parts = [
            values[0] * max(0.0, min(t1, times[0]) - t0),
            values[-1] * max(0.0, t1 - max(t0, times[-1])),
        ]
        for i in range(len(times) - 1):
            a, b = max(t0, times[i]), min(t1, times[i + 1])
            if a < b:
                parts.append((b - a) * 0.5 * (self._between(i, a) + self._between(i, b)))
        return math.fsum(parts)

    def __repr__(self) -> str:
        points = ", ".join(f"{t:g}: {v:g}" for t, v in zip(self.times, self.values, strict=True))
        return f"PiecewiseLinear({points})"


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """``s(t) = final + (initial - final) exp(-t / time_constant)``.

    Parameters
    ----------
    initial, final : float
        Values at 0 and in the limit; finite, at least 0.
    time_constant : float
        Finite, positive.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    initial: float
    time_constant: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _set(self, positive=("time_constant",), non_negative=("initial", "final"))

    @property
    def constant(self) -> bool:
        """Whether it starts where it ends."""
        return self.initial == self.final

    def _value(self, t: float) -> float:
        decay = math.exp(-t / self.time_constant)
        return self.initial * decay + self.final * (1.0 - decay)

    def _integral(self, t0: float, t1: float) -> float:
        tau = self.time_constant
        decayed = tau * math.exp(-t0 / tau) * -math.expm1((t0 - t1) / tau)
        return self.final * (t1 - t0) + (self.initial - self.final) * decayed

    def __repr__(self) -> str:
        return f"ExponentialDecay({self.initial:g} -> {self.final:g}, time constant {self.time_constant:g})"


@dataclass(frozen=True)
class InverseLog(Schedule):
    """``s(t) = scale / log(offset + t)``: the slow cooling of simulated annealing.

    Parameters
    ----------
    scale : float
        Finite, at least 0.
    offset : float
        Finite, above 1 (the value is finite from t = 0 on). Default: e, so that ``s(0) = scale``.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Notes
    -----
    The integral is ``scale (li(offset + t1) - li(offset + t0))``, li the logarithmic integral. For close times it is
    taken by quadrature instead, because the difference cancels.
    """

    scale: float
    offset: float = math.e

    def __post_init__(self) -> None:
        _set(self, positive=("offset",), non_negative=("scale",))
        if not self.offset > 1.0:
            raise ValueError(f"InverseLog: offset = {self.offset} must be above 1, so that log(offset + t) > 0")

    @property
    def constant(self) -> bool:
        """Whether the scale is zero."""
        return self.scale == 0.0

    def _value(self, t: float) -> float:
        return self.scale / math.log(self.offset + t)

    def _integral(self, t0: float, t1: float) -> float:
        a, b = self.offset + t0, self.offset + t1
        # the nearest singularity of 1/log is at 1: within a third of that distance ten Gauss points reach round-off
        if b - a < (a - 1.0) / 3.0:
            import numpy as np

            x, w = np.polynomial.legendre.leggauss(10)
            half = 0.5 * (t1 - t0)
            return self.scale * half * float(w @ (1.0 / np.log(a + half * (1.0 + x))))
        from scipy.special import expi

        return self.scale * float(expi(math.log(b)) - expi(math.log(a)))

    def __repr__(self) -> str:
        return f"InverseLog({self.scale:g} / log({self.offset:g} + t))"


@dataclass(frozen=True)
class CustomSchedule(Schedule):
    """A user's function of time; its integral by adaptive quadrature.

    Parameters
    ----------
    function : callable
        ``t -> float``, finite and non-negative.

    Notes
    -----
    The integral is right to about 1e-12 relative for piecewise smooth functions. Jumps cost accuracy and time:
    `PiecewiseLinear` has exact ones.
    """

    function: Callable[[float], float]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"CustomSchedule: a function of time is needed, not {shown(self.function)}")

    def _value(self, t: float) -> float:
        value = float(floats(self.function(t), f"{self!r}: the value at t = {t}"))
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{self!r}: the value at t = {t} is {value}; it must be finite and non-negative")
        return value

    def _integral(self, t0: float, t1: float) -> float:
        from scipy.integrate import quad

        return float(quad(self._value, t0, t1, epsabs=0.0, epsrel=1e-12, limit=500)[0])

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", None) or getattr(self.function, "__name__", repr(self.function))
        return f"CustomSchedule({name})"


def as_schedule(value: float | Schedule | Callable[[float], float]) -> Schedule:
    """Return a schedule: a number becomes a `Constant`, a function a `CustomSchedule`.

    Parameters
    ----------
    value : float, Schedule or callable
        Numbers are finite and non-negative.

    Returns
    -------
    Schedule

    Raises
    ------
    ValueError
        If it is none of these, or a number out of range.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return Constant(value)  # type: ignore[arg-type]
    if callable(value) and not isinstance(value, type):
        return CustomSchedule(value)
    raise ValueError(f"a schedule is a number, a Schedule or a function of time, not {shown(value)}")


def invert_clock(clock: Schedule, t: float, until: float, length: float) -> float:
    """The time at which the clock has advanced by `length` since `t`."""
    if isinstance(clock, Constant):
        return t + length / clock(t)
    low, high = t, until
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if clock.integral(t, middle) < length:
            low = middle
        else:
            high = middle
    return high
