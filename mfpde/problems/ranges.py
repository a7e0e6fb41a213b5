"""Where the parameters of problems may lie: one line that names what does not, and its value."""

from __future__ import annotations

import math

from mfpde.support.arguments import whole

__all__ = ["at_least", "not_negative", "positive"]


def positive(**values: float) -> None:
    """Refuse numbers that are not finite and positive.

    Raises
    ------
    ValueError
        For the first of them, with its name.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, not {value!r}")


def not_negative(**values: float) -> None:
    """Refuse numbers that are not finite, or negative.

    Raises
    ------
    ValueError
        For the first of them, with its name.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, not {value!r}")


def at_least(least: int, **values: int) -> None:
    """Refuse numbers that are not whole, or below `least`.

    Raises
    ------
    ValueError
        For the first of them, with its name.
    """
    for name, value in values.items():
        if not (whole(value) and value >= least):
            raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")
