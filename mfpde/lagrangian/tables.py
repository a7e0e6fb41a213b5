"""Functions of one number as piecewise polynomials through Chebyshev points, for compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["RoughError", "chebyshev", "table_of"]

ORDERS = ((3e-8, 4), (0.0, 8))
"""Coefficients of a piece: cubics, and polynomials of degree seven where relative errors below the number are asked."""
FEWEST, MOST = 16, 4096
"""Pieces."""
ROUNDING = 1e-13
"""Relative error of values that is left alone."""


class RoughError(Exception):
    """A function that piecewise polynomials do not follow: it is not smooth, or not finite."""


@cache
def chebyshev(n: int) -> Array:
    """Chebyshev points of the first kind in (-1, 1), ascending."""
    return -np.cos(math.pi * (2.0 * np.arange(n) + 1.0) / (2.0 * n))


@cache
def _to_powers(order: int) -> Array:
    """The matrix from values at `chebyshev` points to coefficients of powers."""
    return np.asarray(np.linalg.inv(np.vander(chebyshev(order), increasing=True)))


def table_of(
    values: Callable[[Array], Array], lower: float, upper: float, accuracy: float, matter: Array | None = None
) -> Array:
    """A table of functions on an interval.

    Parameters
    ----------
    values : callable
        ``values(x)`` gives the functions at points (n,): shape ``(r, n)``.
    lower, upper : float
        The interval.
    accuracy : float
        How far functions may be off, relative to the largest of them, and slopes, relative to the largest of them or
        what it takes to cross the interval.
    matter : array, shape (r,), optional
        By what the errors of each function count; default: 1.

    Returns
    -------
    array, shape (pieces, order, r)
        Coefficients of powers of ``t``, which runs from -1 to 1 on a piece.

    Raises
    ------
    RoughError
        If 4096 pieces do not do.
    """
    order = next(order for least, order in ORDERS if accuracy >= least)
    # the error looks like the next Chebyshev polynomial: at the ends it is as large as anywhere, and its slope is the
    # square of the degree
    powers, between = _to_powers(order), np.cos(math.pi * np.array([0.0, 1.0, order - 1.0, order]) / order)
    pieces = FEWEST
    while pieces <= MOST:
        half = 0.5 * (upper - lower) / pieces
        middles = lower + half * (2.0 * np.arange(pieces) + 1.0)
        there = np.add.outer(middles, half * chebyshev(order)).ravel()
        at = values(there)
        if not np.isfinite(at).all():
            raise RoughError("not finite everywhere")
        table = np.matmul(powers, at.reshape(len(at), pieces, order).transpose(1, 2, 0))
        wanted = values(np.add.outer(middles, half * between).ravel()).reshape(len(at), pieces, len(between))
        found = np.matmul(np.vander(between, order, increasing=True), table).transpose(2, 0, 1)
        errors = np.abs(found - wanted).max(axis=(1, 2), initial=0.0)
        error = float((errors if matter is None else errors * matter).max(initial=0.0))
        size = float(np.abs(at).max(initial=0.0))
        slope = max(float(np.abs(table[:, 1]).max(initial=0.0)) / half, size / (upper - lower))
        if error <= max(min(accuracy * size, accuracy * slope * half / order**2), ROUNDING * size):
            return np.ascontiguousarray(table)
        pieces *= 2
    raise RoughError(f"not smooth enough for {MOST} pieces of degree {order - 1}")
