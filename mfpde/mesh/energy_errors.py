"""What estimated errors say in words: a share of the energy's scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mfpde.mesh.record import Errors
from mfpde.support.arrays import Array

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem

__all__ = ["ROUNDED", "energy_scale", "is_large", "known_minimum", "largest_share", "said_of_error"]

LARGE = 0.01
"""Share of the energy's scale above which an error is warned of."""
LEAST_SHARE = 1e-3
"""The scale of an energy that falls to 0, in its fall so far: what is left of it then is nobody's question."""
ROUNDED = 1e-11
"""A fall of the energy, as a share of it, that is rounding."""


def known_minimum(problem: Problem) -> dict[str, float]:
    """What a run's statistics say of the minimum of the energy: nothing where it is not known, or not sought."""
    minimum = problem.exact.get("minimum_energy")
    return {"minimum_energy": float(minimum)} if isinstance(minimum, (int, float)) and problem.noiseless else {}


def energy_scale(energy: Array, minimum: float | None) -> Array:
    """What the error of an energy is a share of.

    Parameters
    ----------
    energy : array, shape (m,)
        At the save times.
    minimum : float or None
        The minimum of the energy, where it is known.

    Returns
    -------
    array, shape (m,)
        ``E(t)`` where the minimum is known to be 0, but at least 1e-3 of the fall of E over the run; else that fall.
        Of an energy that stays what it is but for rounding, 1e-11 of it, its absolute value.
    """
    finite = energy[np.isfinite(energy)]
    fall = float(np.ptp(finite)) if finite.size else math.nan
    if minimum == 0.0:
        return np.maximum(np.abs(energy), LEAST_SHARE * fall)
    falls = fall > ROUNDED * float(np.abs(finite).max(initial=0.0))
    return np.full(energy.shape, fall) if falls else np.abs(energy)


def largest_share(errors: Array, scale: Array) -> tuple[float, int]:
    """The largest share of its scale that an error is, and at which save time; NaN where there is none.

    Infinite where the scale is 0 and the error is not.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(errors > 0.0, errors / scale, 0.0 * errors)
    if np.isnan(share).all():
        return math.nan, len(share) - 1
    k = int(np.nanargmax(share))
    return float(share[k]), k


def is_large(errors: Errors, scale: Array) -> bool:
    """Whether the energy of a run has an error that is to be warned of."""
    return largest_share(errors.energy, scale)[0] > LARGE


def said_of_error(
    errors: Errors | None, scale: Array, minimum: float | None, times: Array, shape: Sequence[int]
) -> str:
    """The error of the energy in words: its largest share of the scale, when, and on what meshes; or why not."""
    if errors is None:
        return "not estimated (a file of an early version)"
    share, k = largest_share(errors.energy, scale)
    if math.isnan(share):
        return f"not estimated ({errors.reason})" if errors.reason else "not estimated (the energy is not known)"
    of = "E" if minimum == 0.0 else "the fall of E"
    meshes = f"{_cells(shape)} against {_cells(errors.cells)}"
    until = f"; later not estimated ({errors.reason})" if errors.reason else ""
    if math.isinf(share):
        return f"about {errors.energy[k]:.1g} at t = {times[k]:g}, where E is 0 and has not fallen, {meshes}{until}"
    return f"about {_share(share, of)} at t = {times[k]:g}, {meshes}{until}"


def _cells(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + (" cells" if len(shape) == 1 else "")


def _share(share: float, of: str) -> str:
    """A share in words: percent where that is readable."""
    if share >= 10.0:
        return f"{share:.1g} times {of}"
    return f"{100 * share:.2g} % of {of}" if share >= 1e-5 else f"{share:.1e} of {of}"
