"""How wide the layers of a density are, in cells of its mesh."""

from __future__ import annotations

import math

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array

__all__ = ["layer_widths", "unresolved"]


def layer_widths(mu: Array, grid: Grid) -> tuple[float, ...]:
    r"""The width of a density's layers along each axis: ``1/sqrt(I)`` with the Fisher information ``I``.

    .. math:: I_i = \frac{1}{|\mu|} \int (\partial_i \log \mu)^2\, d\mu
              \approx \frac{2}{h_i^2} \sum_{faces} \frac{(\mu_+ - \mu_-)^2}{\mu_+ + \mu_-} \Big/ \sum_{cells} \mu .

    For a Gaussian that is the standard deviation, for several of them apart from each other that of one, for an
    exponential layer its length ``tau/|grad V|``. What is narrower than a cell has half a cell.

    Parameters
    ----------
    mu : array
        Values on the cells, not negative.
    grid : Grid

    Returns
    -------
    tuple of float
        In units of the axis; the length of the axis at most.
    """
    total = float(mu.sum())
    widths = []
    for i, (axis, h) in enumerate(zip(grid.axes, grid.spacing, strict=True)):
        along = (slice(None),) * i
        information = _information(mu[(*along, slice(None, -1))], mu[(*along, slice(1, None))])
        if axis.periodic:
            information += _information(mu.take([-1], axis=i), mu.take([0], axis=i))
        resolved = information * axis.length**2 > total * h**2
        widths.append(h * math.sqrt(total / information) if resolved else axis.length)
    return tuple(widths)


def _information(left: Array, right: Array) -> float:
    both = left + right
    change = right - left
    change *= change
    return 2.0 * float(np.divide(change, both, out=np.zeros_like(both), where=both > 0.0).sum())


def unresolved(widths: tuple[float, ...], grid: Grid, what: str) -> str:
    """What to say of layers of these widths by axis; empty where none is narrower than a cell."""
    narrow = [
        f"{width / h:.1g} cells wide along {axis.name!r}"
        for axis, width, h in zip(grid.axes, widths, grid.spacing, strict=True)
        if width < h
    ]
    return f"{what} is {' and '.join(narrow)}, which the mesh does not resolve; refine it" if narrow else ""
