"""Particles of other codes in the box of a problem: put onto its walls, and how many of them are beyond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis
from mfpde.support.arrays import Array

__all__ = ["OUTSIDE", "beyond_walls", "check_inside", "within_walls"]


OUTSIDE = 0.01
"""Share of particles outside the box above which they are no particles of the problem."""
SLACK = 1e-9
"""How far beyond a wall, in lengths of the axis, a particle is still on it."""


def within_walls(x: Array, axes: Sequence[Axis]) -> Array:
    """A copy of coordinates, shape (..., d), in the box: moved to the walls, and wrapped along periodic axes."""
    x = x.copy()
    for i, axis in enumerate(axes):
        if axis.periodic:
            x[..., i] = axis.lower + np.mod(x[..., i] - axis.lower, axis.length)
        else:
            np.clip(x[..., i], axis.lower, axis.upper, out=x[..., i])
    return x


def beyond_walls(x: Array, axes: Sequence[Axis], rounding: float = 0.0) -> NDArray[np.bool_]:
    """Which particles are outside the box: for coordinates of shape (..., d) an array of shape (...).

    Parameters
    ----------
    x : array, shape (..., d)
    axes : sequence of Axis
    rounding : float
        The relative rounding of the coordinates, where that is larger than of double precision.
    """
    outside = np.zeros(x.shape[:-1], dtype=bool)
    for i, axis in enumerate(axes):
        if not axis.periodic:
            slack = max(SLACK, 4 * rounding) * axis.length
            outside |= (x[..., i] < axis.lower - slack) | (x[..., i] > axis.upper + slack)
    return outside


def check_inside(share: float, label: str = "") -> None:
    """Refuse particles of which too large a share is outside the box.

    Raises
    ------
    ValueError
        If the share is above `OUTSIDE`; `label` says whose particles they are.
    """
    if share > OUTSIDE:
        raise ValueError(
            f"{label}{100 * share:.2g} % of the particles are outside the box (at most {100 * OUTSIDE:g} %); "
            "enlarge the axes of the problem, or check the order of the columns"
        )
