"""Whether a density is smooth on its mesh, so that errors can be expected to be of the order of a scheme."""

from __future__ import annotations

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["SECOND_ORDER", "is_smooth"]

SECOND_ORDER = 3.0
"""``2^2 - 1``: the difference of two meshes over the error of the finer one, where errors fall by 4."""
STEEP = 0.2
"""Change from cell to cell, in maxima of a density, up to which it is smooth: that of a normal law of 3 cells."""


def is_smooth(mu: Array) -> bool:
    """Whether a density changes by less than a fifth of its maximum from cell to cell: a normal law of 3 cells does.

    Jumps and narrow layers do not: there errors of any scheme are of first order.
    """
    most = STEEP * float(mu.max())
    return all(float(np.abs(np.diff(mu, axis=i)).max()) <= most for i in range(mu.ndim))
