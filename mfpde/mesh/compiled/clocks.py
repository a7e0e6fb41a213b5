"""Values of schedules within compiled steps: those of `mfpde.equation.schedules`, from their numbers.

`mfpde.mesh.packing` writes the numbers, what a schedule is first.
"""

from __future__ import annotations

import math

from mfpde.mesh.compiled.options import addressed, uncounted
from mfpde.mesh.compiled.run_structures import AT_REST, DECAYING, LINEAR, POWER

__all__ = ["rates"]


@addressed
def rates(alpha, temperature, t, out):  # type: ignore[no-untyped-def]
    """The values of two schedules at a time, to `out`."""
    out[0], out[1] = _value(alpha, t), _value(temperature, t)


@uncounted
def _value(numbers, t):  # type: ignore[no-untyped-def]
    """The value of a schedule at a time."""
    kind, first = numbers[0], numbers[1]
    if kind == AT_REST:
        return first
    if kind == POWER:
        return numbers[2] * t**first
    if kind == DECAYING:
        decay = math.exp(-t / numbers[2])
        return first * decay + numbers[3] * (1.0 - decay)
    if kind == LINEAR:
        return _between(numbers, int(first), t)
    return first / math.log(numbers[2] + t)


@uncounted
def _between(numbers, n, t):  # type: ignore[no-untyped-def]
    """Of `n` times and as many values: linear between them, at a jump the later one."""
    i = 0
    while i < n and numbers[2 + i] <= t:
        i += 1
    if i == 0 or i == n:
        return numbers[2 + n + (0 if i == 0 else n - 1)]
    x = (t - numbers[1 + i]) / (numbers[2 + i] - numbers[1 + i])
    return (1.0 - x) * numbers[1 + n + i] + x * numbers[2 + n + i]
