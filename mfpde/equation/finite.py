"""What is not finite is named with its place: one line, wherever the functions of a problem are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis, Grid
from mfpde.support.arrays import Array

__all__ = ["NotFiniteError", "cell_not_finite", "check_finite", "first_place", "place_of", "response_culprit"]


REMEDY = "mend the energy's functions and derivatives there, or keep the measure away from it with the axes"


class NotFiniteError(FloatingPointError):
    """A function of the problem is not finite at a place where the measure goes.

    Parameters
    ----------
    what : str
        What is not finite.
    value : float
    place : str
        Where, as `place_of` says it.
    remedy : str, optional
    time : callable, optional
        What turns the clock of an integrator into time.
    """

    def __init__(
        self, what: str, value: float, place: str, remedy: str = REMEDY, time: Callable[[float], float] | None = None
    ) -> None:
        super().__init__(f"{what} is not finite at {place} ({value:g}); {remedy}")
        self.what, self.value, self.place, self.remedy, self.time = what, value, place, remedy, time

    def __reduce__(self) -> tuple[type[NotFiniteError], tuple[Any, ...]]:
        return NotFiniteError, (self.what, self.value, self.place, self.remedy)  # the clock stays where it is

    def at(self, clock: float) -> NotFiniteError:
        """The same error, that also says when."""
        t = clock if self.time is None else self.time(clock)
        return NotFiniteError(self.what, self.value, f"{self.place}, t = {t:g}", self.remedy)


def place_of(axes: Sequence[Axis], point: Array) -> str:
    """A point by the names of the axes, ``x = 0.2, y = 1``."""
    return ", ".join(f"{axis.name} = {float(x):g}" for axis, x in zip(axes, point, strict=True))


def cell_not_finite(values: Array, grid: Grid) -> str:
    """The first of values (..., *grid.shape) that is not finite, ``nan at x = 0.2``; empty if there is none."""
    fine = np.isfinite(values)
    if fine.all():
        return ""
    index = np.unravel_index(int(np.argmin(fine)), values.shape)
    point = np.array([grid.centres(i)[j] for i, j in enumerate(index[-grid.dimension :])])
    return f"{float(values[index]):g} at {place_of(grid.axes, point)}"


def check_finite(
    values: Array,
    points: Array,
    axes: Sequence[Axis],
    what: str,
    remedy: str = REMEDY,
    time: Callable[[float], float] | None = None,
) -> None:
    """Refuse values (n,) or (n, k) at points (n, d) that are not finite.

    Raises
    ------
    NotFiniteError
        With the first such point.
    """
    fine = np.isfinite(values)
    if fine.all():
        return
    index = np.unravel_index(int(np.argmin(fine)), values.shape)
    raise NotFiniteError(what, float(values[index]), place_of(axes, points[index[0]]), remedy, time)


def response_culprit(bound: Any, points: Array) -> tuple[float, Array] | None:
    """The first point whose own features are not finite, and their value: it spoils V everywhere else."""
    for part in bound.parts:
        if part.response_size and not part.direct:
            features = part.features(points)
            wrong = np.flatnonzero(~np.isfinite(features).all(axis=0))
            if wrong.size:
                column = features[:, wrong[0]]
                return float(column[np.argmin(np.isfinite(column))]), points[wrong[0]]
    return None


def first_place(axes: Sequence[Axis], coordinates: Sequence[Array], values: Array, fine: NDArray[np.bool_]) -> str:
    """The first of values at coordinates that is not fine, and where it is: ``-1 at x = 0.2``."""
    where = np.unravel_index(int(np.argmin(np.broadcast_to(fine, values.shape))), values.shape)
    point = np.array([np.broadcast_to(x, values.shape)[where] for x in coordinates])
    return f"{float(values[where]):g} at {place_of(axes, point)}"
