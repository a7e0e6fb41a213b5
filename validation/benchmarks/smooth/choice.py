"""Ways to an energy curve, their errors, and which of them is the cheapest one to an accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from validation.benchmarks._work import T_END

__all__ = ["SAVES", "TARGETS", "Curve", "Trial", "Way", "cheapest", "end_error", "error_of", "fewest_cells"]

Array = NDArray[np.float64]

TARGETS = (1e-3, 1e-4, 1e-5, 1e-6)
"""Relative errors asked for."""
SAVES = tuple(float(t) for t in np.linspace(0.0, T_END, 5))
"""Times of the energy curve."""
ROOM = 0.7
"""Share of an accuracy that the mesh alone may take: the steps need the rest."""


class Curve(NamedTuple):
    """What a run gives.

    Attributes
    ----------
    energy : array, shape (5,)
        At `SAVES`.
    minimum : float
        The smallest value of the density at these times, relative to its largest then.
    work : float
        Steps or evaluations times cells or nodes: the order of cost of runs of one method.
    estimate : float, optional
        The error that the run itself gives for its curve, relative.
    """

    energy: Array
    minimum: float
    work: float
    estimate: float | None = None


@dataclass(frozen=True)
class Way:
    """One way to a curve.

    Attributes
    ----------
    method : str
        Whose it is: a row of the table.
    variant : str
        Discretisation and time integration.
    size : tuple of int
        Cells or nodes along each axis.
    tolerance : float
        Of the steps, or of the call; 0 where it has none.
    first_step : float
        0 where it is left to the method.
    margin : float
        By how much its box is wider than that of the work at each end; negative where it is narrower.
    cut : float
        Modes below it, relative to the largest, are left out; 0 where that is as it always is.
    shares : tuple of float
        Accuracy of tables and mass of the nodes that are left out, as shares of the tolerance; empty where it has none.
    """

    method: str
    variant: str
    size: tuple[int, ...]
    tolerance: float = 0.0
    first_step: float = 0.0
    margin: float = 0.0
    cut: float = 0.0
    shares: tuple[float, ...] = ()

    def __str__(self) -> str:
        side = "^".join(map(str, (self.size[0], len(self.size)))) if len(set(self.size)) == 1 else ""
        size = (side.removesuffix("^1") or " x ".join(map(str, self.size))) if self.size else ""
        parts = [part for part in (self.variant, size) if part]
        if self.margin:
            parts.append(f"box {'wider' if self.margin > 0 else 'narrower'} by {abs(self.margin):g} at each end")
        if self.cut:
            parts.append(f"modes above {self.cut:.0e}")
        if self.tolerance:
            parts.append(f"tolerance {self.tolerance:.0e}")
        if self.shares:
            parts.append(f"tables to {self.shares[0]:g} and mass of {self.shares[1]:g} of it")
        if self.first_step:
            parts.append(f"first step {self.first_step:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Trial:
    """A way and what came out.

    Attributes
    ----------
    way : Way
    curve : Curve
    call : callable
        The run again, for the clock: no more than what has to be done each time.
    """

    way: Way
    curve: Curve
    call: Callable[[], Any]


def error_of(energy: Array, reference: Array) -> float:
    """The largest relative error of an energy curve; infinite where it is not finite."""
    errors = np.abs(np.asarray(energy) / reference - 1)
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


def end_error(energy: Array, reference: Array) -> float:
    """The relative error of the last energy."""
    return error_of(np.asarray(energy)[-1:], reference[-1:])


def fewest_cells(errors: Sequence[tuple[int, float]], target: float) -> int | None:
    """From how many cells on a ladder of meshes stays within its share of an accuracy; None if it never does.

    Parameters
    ----------
    errors : sequence of (cells, error)
        In the order of cells, steps as good as exact. Errors cross zero: a mesh counts if all finer ones do, too.
    target : float
    """
    found = None
    for cells, error in reversed(errors):
        if error > ROOM * target:
            break
        found = cells
    return found


def cheapest(trials: Iterable[Trial], target: float, reference: Array) -> list[Trial]:
    """Of each ladder the trial of least work that is accurate enough, the cheapest ladder first.

    A ladder is all that differs in nothing but the tolerance, or, without one, in nothing but the size. Errors cross
    zero by accident: a trial counts if all of its ladder that are finer are accurate enough, too.
    """
    ladders: dict[Way, list[Trial]] = {}
    for trial in trials:
        way = trial.way
        size = way.size if way.tolerance else ()
        ladders.setdefault(replace(way, size=size, tolerance=0.0), []).append(trial)
    found = []
    for ladder in ladders.values():
        good: list[Trial] = []
        for trial in sorted(ladder, key=lambda trial: (trial.way.tolerance, -math.prod(trial.way.size))):
            if error_of(trial.curve.energy, reference) > target:
                break
            good.append(trial)
        if good:
            found.append(min(good, key=lambda trial: trial.curve.work))
    return sorted(found, key=lambda trial: trial.curve.work)
