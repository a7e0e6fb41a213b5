"""What the mesh of a run does not carry: layers of a few cells, and tails from which birth-death makes the mass."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.equation.measures.base import RestrictedMeasure
from mfpde.equation.measures.narrow import CELLS_OF_A_LAYER
from mfpde.equation.problem import Problem
from mfpde.mesh.defaults import coldest, outlook
from mfpde.mesh.descent import Descent, descends
from mfpde.mesh.layers import CompiledWidths, layer_widths, unresolved
from mfpde.support.arrays import Array

__all__ = ["START", "Watch", "look_at_the_end", "look_at_the_start"]


START = "the start"
"""What notes of the start begin with."""
SURELY_WIDE = 10.0
"""Cells to the width that a start shows on its mesh from which on it is not asked how wide it really is: a hundredth of
the mass in one cell, the rest wide, shows 7."""
SMEARED = 6.0
"""Cells to the width of a density below which a scheme may have given it that: twice those that `Weno5` needs."""
SELECTED = 1.0
"""The relative entropy of the present mass with respect to what it descends from, above which a tail may matter."""
STEEP = 1.0
"""``|Delta log mu|`` from cell to cell above which numerical diffusion decides what grows: at 0.4, 0.7, 1.3 and 4 a
linear neuron's energy is 0.1, 1, 24 and 120 % off."""
GENTLE = 0.5
"""The same where it does not decide."""
LOST = 1e-3
"""The share of the mass that may descend from densities which a mesh sets to 0."""


def look_at_the_start(law: RestrictedMeasure | None, mu: Array, grid: Grid, *, point_values: bool) -> list[str]:
    """What to say of a start of less than three cells, if anything.

    Parameters
    ----------
    law : RestrictedMeasure or None
        What the start was made of: it knows its width better than values on the mesh do. None for arrays.
    mu : array
        The start on the mesh.
    grid : Grid
    point_values : bool
        Whether the scheme stores values at the centres.
    """
    widths = layer_widths(np.maximum(mu, 0.0), grid)
    doubtful = any(width < SURELY_WIDE * h for width, h in zip(widths, grid.spacing, strict=True))
    if law is None or not doubtful:
        note = unresolved(widths, grid, START)
    else:
        note = unresolved(tuple(min(pair) for pair in zip(widths, law.widths(grid), strict=True)), grid, START)
        if note and point_values and law.by_masses(grid):
            note += " (it enters by the masses of its cells)"
    return [note] if note else []


def look_at_the_end(problem: Problem, grid: Grid, t: float, mu: Array, t_end: float) -> list[str]:
    """What the mesh does not resolve of the last density and of the state that drift and diffusion lead to.

    Only with a temperature: without one densities may concentrate for ever, see `Watch.remarks`. Of an axis along which
    the density is some cells wide, which may be the scheme's own doing, and on its way to something narrower, that is
    said; of another one how wide the density is.

    Parameters
    ----------
    problem : Problem
    grid : Grid
    t : float
        The time of the last density.
    mu : array
    t_end : float
        When the run was to end.
    """
    if problem.noiseless or not mu.sum() > 0.0:
        return []
    widths = layer_widths(np.maximum(mu, 0.0), grid)
    near = [h <= width < SMEARED * h for width, h in zip(widths, grid.spacing, strict=True)]
    tau = coldest(problem, t_end)
    prospect = outlook(problem, grid, tau, t_end) if tau > 0.0 and any(near) else None
    ahead = (math.inf,) * grid.dimension
    if prospect is not None:
        each = zip(prospect.end, widths, near, strict=True)
        ahead = tuple(end if there and end < width else math.inf for end, width, there in each)
    present = tuple(
        math.inf if end < CELLS_OF_A_LAYER * h else width
        for end, width, h in zip(ahead, widths, grid.spacing, strict=True)
    )
    notes = (
        unresolved(present, grid, f"the density at t = {t:g}"),
        unresolved(ahead, grid, "the state that drift and diffusion lead to"),
    )
    return [note for note in notes if note]


class Watch:
    """Looks at the densities that a run saves, from one to the next.

    What it finds depends on those densities and their times alone: a run that goes on finds the same.

    Parameters
    ----------
    problem : Problem
    grid : Grid
    compiled : bool, optional
        Whether there is compiled code for what takes long.

    Attributes
    ----------
    narrowest : float
        The least width of the layers of a saved density so far, in cells.
    steepest : float
        How steep the start is where the mass of a save time descends from, ``|Delta log mu_0|`` from cell to cell along
        the axis where that is most, once birth-death has selected it; 0 where it has not.
    """

    def __init__(self, problem: Problem, grid: Grid, *, compiled: bool = False) -> None:
        self._problem, self._grid, self._compiled = problem, grid, compiled
        self._widths = CompiledWidths(grid) if compiled else None
        self._descends = descends(problem)
        self._descent: Descent | None = None
        self._seen = False
        self._narrow = [False] * grid.dimension
        self._since: dict[str, float] = {}
        self._tail: tuple[float, tuple[float, ...]] | None = None
        self._lost_since: float | None = None
        self.narrowest = math.inf
        self.steepest = 0.0

    def see(self, t: float, mu: Array, potential: Callable[[], Array]) -> None:
        """Look at a saved density.

        Parameters
        ----------
        t : float
            Its time, later than that of the last.
        mu : array
        potential : callable
            Gives ``V[mu]``; not called where it is not needed.
        """
        least, total, widths = self._looked_at(mu)
        if not total > 0.0:
            return
        self._see_widths(t, self._looked_at(np.maximum(mu, 0.0))[2] if least < 0.0 else widths)
        if self._descends:
            with np.errstate(all="ignore"):  # far out in a tail, numbers that are none do not matter
                self._see_descent(t, mu, potential())
        self._seen = True

    def _looked_at(self, mu: Array) -> tuple[float, float, tuple[float, ...]]:
        """The least value, the sum of all, and the widths of the layers where none is negative."""
        if self._widths is not None and mu.dtype == np.float64:
            return self._widths(mu)
        least, total = float(mu.min()), float(mu.sum())
        return least, total, layer_widths(mu, self._grid) if least >= 0.0 and total > 0.0 else ()

    def _see_widths(self, t: float, widths: tuple[float, ...]) -> None:
        for i, (width, h) in enumerate(zip(widths, self._grid.spacing, strict=True)):
            self.narrowest = min(self.narrowest, width / h)
            narrow = width < CELLS_OF_A_LAYER * h
            # of a start that is narrow it is said already
            if narrow and self._seen and not self._narrow[i]:
                self._since[self._grid.axes[i].name] = t
            self._narrow[i] |= narrow

    def _see_descent(self, t: float, mu: Array, V: Array) -> None:
        if self._descent is None:
            self._descent = Descent(self._problem, self._grid, t, mu, V, compiled=self._compiled)
            return
        self._descent.advance(t, V)
        if not self._descent.selection > SELECTED:
            return
        steepness = self._descent.steepness
        if max(steepness) > self.steepest:
            self.steepest = max(steepness)
            self._tail = t, steepness
        if self._lost_since is None and self._descent.flushed > LOST:
            self._lost_since = t

    @property
    def warnings(self) -> list[str]:
        """What is wrong with what birth-death amplified, each a sentence."""
        notes = [_of_a_tail(*self._tail, self._grid)] if self._tail is not None and self.steepest > STEEP else []
        if self._lost_since is not None:
            notes.append(
                f"from t = {self._lost_since:g} on mass descends from densities below 1e-290, which a mesh sets to 0; "
                "take a start with wider tails, or mfpde.characteristics"
            )
        return notes

    @property
    def remarks(self) -> list[str]:
        """That a density without noise has become narrower than three cells, and since when; a sentence or none."""
        if not self._problem.noiseless or not self._since:
            return []
        t = min(self._since.values())
        names = " and ".join(repr(name) for name in self._since)
        return [
            f"from t = {t:g} on the density is less than 3 cells wide along {names}, where its shape is the mesh's "
            "own; means and energies are off by about the square of a cell"
        ]


def _of_a_tail(t: float, steepness: tuple[float, ...], grid: Grid) -> str:
    steep = [(axis.name, s, n) for axis, s, n in zip(grid.axes, steepness, grid.shape, strict=True) if s > STEEP]
    changes = " and ".join(f"exp({s:.2g}) along {name!r}" for name, s, _ in steep)
    cells = " and ".join(f"{math.ceil(s / GENTLE * n)} cells along {name!r}" for name, s, n in steep)
    return (
        f"the mass at t = {t:g} descends from a tail of the start that changes from cell to cell by {changes}: there "
        f"numerical diffusion decides what birth-death amplifies; take about {cells}, or mfpde.characteristics"
    )
