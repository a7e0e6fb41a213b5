"""The mesh that a search for an accuracy begins on: coarse, and not blind."""

from __future__ import annotations

import math

import numpy as np

from mfpde.equation.energy.capabilities import plan_on
from mfpde.equation.grid import Grid, moving
from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.mesh.layers import layer_widths
from mfpde.support.arrays import Array
from mfpde.support.threads import one_blas_thread

__all__ = ["FEWEST", "first_mesh", "multiple_of_four"]


FEWEST = {1: 24, 2: 24, 3: 12, 4: 8}
"""Cells along each axis that a search has at least, by dimension."""
LOOKED_AT = {1: 2048, 2: 128, 3: 32, 4: 16}
"""Cells along each axis on which the start and its potential are looked at, and the most to begin with."""
CELLS_OF_THE_START = 3.0
"""Cells to the width of the start's narrowest layer: from there on `Weno5` has its order."""
BENT = 0.1
"""How far the potential may be from straight lines between the cells, as a share of how far it ranges."""


def first_mesh(problem: Problem, initial: Measure | None = None) -> tuple[int, ...]:
    """Cells along each axis that moves of a mesh on which no feature of a problem's start is missed.

    At least `FEWEST`; three to the width of the start's narrowest layer; and so many that the potential of the start is
    near the straight lines between them: a well that is narrower than a cell would be missed by all the coarse meshes
    alike, which then agree. Energies of all pairs of cells are not looked at above one dimension: they are smooth, and
    their matrices are large.

    Parameters
    ----------
    problem : Problem
    initial : Measure, optional
        Another start than the problem's.

    Returns
    -------
    tuple of int
        Multiples of 4, so that meshes of half the cells exist along each axis.
    """
    axes = moving(problem.axes)
    d = len(axes)
    grid = Grid(problem.axes, LOOKED_AT[d])
    start = problem.mu_0 if initial is None else initial.restrict(grid.axes)
    mu = start.cells(grid)
    cells = [CELLS_OF_THE_START * axis.length / w for axis, w in zip(grid.axes, layer_widths(mu, grid), strict=True)]
    if d == 1 or not problem.bound_energy.direct:
        with one_blas_thread(), np.errstate(all="ignore"):
            plan = plan_on(problem.bound_energy, grid)
            if plan is not None:
                V = plan.evaluate(mu)[0]
                cells = [max(n, _straight(V, i)) for i, n in enumerate(cells)]
    return tuple(multiple_of_four(min(max(cells[i], FEWEST[d]), LOOKED_AT[d])) for i in axes)


def _straight(V: Array, axis: int) -> float:
    """On how few cells of an axis the values are near the straight lines between every so many of them."""
    V = np.moveaxis(V, axis, 0)
    low, high = np.quantile(V, [0.05, 0.95])
    stride = 2
    while 4 * stride <= len(V):
        ends = V[: (len(V) - 1) // stride * stride + 1 : stride]
        for j in range(1, stride):
            between = V[j::stride][: len(ends) - 1]
            line = ends[:-1] + (j / stride) * np.diff(ends, axis=0)
            if not np.abs(between - line).max() <= BENT * (high - low):
                return 2.0 * len(V) / stride
        stride *= 2
    return 2.0 * len(V) / stride


def multiple_of_four(cells: float) -> int:
    """The least multiple of 4 that is not smaller, and at least 8."""
    return max(8, 4 * math.ceil(cells / 4 - 1e-9))
