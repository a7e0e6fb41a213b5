"""Laws narrower than a few cells: how they enter a mesh of values at the centres of its cells.

Values at the centres carry a smooth law from 0.6 cells to its spread on: their sums have its mass and its moments to
many digits. Of narrower ones they see what lies near a centre. There masses of cells stand for them, which are right
wherever the law lies, and below 0.3 cells shares of the two nearest centres, which keep its mean as an atom's do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfpde.equation.grid import Axis, Grid
from mfpde.equation.measures.base import cloud_in_cell
from mfpde.support.arrays import Array

__all__ = ["CELLS_OF_A_LAYER", "IN_DOUBT", "MISSED", "by_masses", "deconvolved", "too_narrow"]


CELLS_OF_A_LAYER = 3.0
"""Cells to the width of a layer from which on `Weno5` has its order."""
MISSED = 1e-3
"""How far the sum of a narrow law's values at the centres may be from its mass."""
LEAST = 0.6
"""Cells to the spread of a law below which values at the centres are wrong even where their sum is right: where it lies
a quarter of a cell beside a centre, by chance. Near 0.6 cells values and masses give energies of the same accuracy; at
0.5 cells the masses are better by a factor of 4, at 0.8 cells the values by one of 20."""
IN_DOUBT = 0.25
"""The largest value at a centre times the size of a cell below which a law that is smooth on the mesh is wider than
`LEAST`: a normal one of 0.6 cells has 0.47 at least, one of 1.6 cells has this."""
AN_ATOM = 0.3
"""Cells to the spread of a law below which its mean matters more than the shape of its cell masses."""
FINER = 16
"""Cells of a finer mesh to one, for the mean of such a law: it is right to 1/32 of a cell."""


def too_narrow(total: float, width: float, h: float) -> bool:
    """Whether values at the centres misrepresent a law because it is too narrow for the mesh.

    Parameters
    ----------
    total : float
        The sum of the values times the size of a cell, 1 where they are right; may be NaN.
    width : float
        The spread of the law.
    h : float
        The size of a cell, in the unit of the width.
    """
    return width < LEAST * h or (width < CELLS_OF_A_LAYER * h and not abs(total - 1.0) <= MISSED)


def by_masses(axis: Axis, n: int, width: float, cells: Callable[[int], Array]) -> Array:
    """Values at the centres of n cells of an axis that stand for a narrow law.

    Parameters
    ----------
    axis : Axis
    n : int
    width : float
        The spread of the law.
    cells : callable
        ``cells(m)`` gives the averages of its density over m cells of the axis.

    Returns
    -------
    array, shape (n,)
        Non-negative, with the mass of the averages to round-off.
    """
    if width >= AN_ATOM * axis.length / n:
        return deconvolved(cells(n), 0, periodic=axis.periodic)
    fine = Grid([axis], [FINER * n])
    left, right, weight = cloud_in_cell(axis, n, fine.centres(0))
    mass = cells(FINER * n) / FINER
    values = np.zeros(n)
    values += np.bincount(left, mass * (1.0 - weight), n)
    values += np.bincount(right, mass * weight, n)
    return values


def deconvolved(averages: Array, axis: int, *, periodic: bool) -> Array:
    r"""Values at the centres of cells from averages over them, along an axis, of fourth order where they are smooth.

    .. math:: \mu_i = \bar\mu_i - (\bar\mu_{i+1} - 2 \bar\mu_i + \bar\mu_{i-1}) / 24,

    written as an exchange across faces, none across the ends of the axis, and less of it where a cell would have to
    give more than it has. So the mass is kept, and no value is negative. Without that limit the second moment is exact:
    averages taken for values at the centres have a variance that is larger by ``h^2 / 12``.

    Parameters
    ----------
    averages : array
        Not negative.
    axis : int
    periodic : bool
        Whether the first and the last cell are neighbours.

    Returns
    -------
    array
        A new one.
    """
    c = np.moveaxis(averages, axis, 0)
    up = (np.roll(c, -1, 0) - c) / 24.0  # what a cell gives to the next one
    if not periodic:
        up[-1] = 0.0
    given = np.maximum(up, 0.0) + np.maximum(-np.roll(up, 1, 0), 0.0)
    share = np.divide(c, given, out=np.ones_like(c), where=given > c)
    up *= np.where(up > 0.0, share, np.roll(share, -1, 0))
    values = np.maximum(c + (np.roll(up, 1, 0) - up), 0.0)  # below 0 by rounding only
    return np.ascontiguousarray(np.moveaxis(values, 0, axis))
