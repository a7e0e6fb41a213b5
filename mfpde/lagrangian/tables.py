"""Functions of one number as piecewise polynomials through Chebyshev points, for compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["RoughError", "chebyshev", "lobatto", "table_of"]

ORDERS = ((1e-5, 4), (3e-8, 6), (0.0, 8))
"""Coefficients of a piece, for relative errors of at least a number. Runs take the same time with all of them, and few
pieces are made sooner and stay in the cache: 1e-7 takes 1024 cubics where it takes 64 of degree five."""
CURVED_ORDERS = ((1e-7, 8), (0.0, 12))
"""The same where second derivatives are asked for, which short pieces lose to rounding."""
FEWEST = 16
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
def lobatto(degree: int) -> tuple[Array, Array]:
    """Chebyshev-Lobatto points in [-1, 1], ascending, and the weights of their barycentric formula."""
    k = np.arange(degree + 1)
    return -np.cos(math.pi * k / degree), np.where(k % 2, -1.0, 1.0) * np.where((k == 0) | (k == degree), 0.5, 1.0)


@cache
def _to_powers(order: int) -> Array:
    """The matrix from values at `chebyshev` points to coefficients of powers."""
    return np.asarray(np.linalg.inv(np.vander(chebyshev(order), increasing=True)))


def _by_chebyshev(values: Array) -> Array:
    """The same coefficients (pieces, order, r), of which the rounding of large values is no part."""
    order = values.shape[1]
    middle = values.mean(axis=1, keepdims=True)
    angles = np.outer(np.arange(order), np.arccos(chebyshev(order)))
    table = np.matmul((2.0 / order) * np.cos(angles), values - middle)
    table[:, :1] = 0.5 * table[:, :1]
    powers = np.zeros((order, order))
    for k in range(order):  # integers
        powers[: k + 1, k] = np.polynomial.chebyshev.cheb2poly(np.eye(order)[k, : k + 1])
    table = np.matmul(powers, table)
    table[:, :1] += middle
    return table


def table_of(
    values: Callable[[Array], Array], lower: float, upper: float, accuracy: float, matter: Array | None = None,
    curved: bool = False, most: int = 4096, order: int | None = None,
) -> Array:  # fmt: skip
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
    curved : bool, optional
        Whether second derivatives are to be as accurate, relative to the largest of them or what slopes take to cross
        the interval. Rounding leaves about 1e-11 of them.
    most : int
        Pieces, at most.
    order : int, optional
        Coefficients of a piece; default: by the accuracy.

    Returns
    -------
    array, shape (pieces, order, r)
        Coefficients of powers of ``t``, which runs from -1 to 1 on a piece.

    Raises
    ------
    RoughError
        If so many pieces do not do.
    """
    order = order or next(order for least, order in (CURVED_ORDERS if curved else ORDERS) if accuracy >= least)
    # the error looks like the next Chebyshev polynomial: at the ends it is as large as anywhere, and its slope is the
    # square of the degree
    powers, between = _to_powers(order), np.cos(math.pi * np.array([0.0, 1.0, order - 1.0, order]) / order)
    pieces, coarser, before = FEWEST, np.empty(0), math.inf
    while pieces <= most:
        half = 0.5 * (upper - lower) / pieces
        middles = lower + half * (2.0 * np.arange(pieces) + 1.0)
        there = np.add.outer(middles, half * chebyshev(order)).ravel()
        at = values(there)
        if not np.isfinite(at).all():
            raise RoughError("not finite everywhere")
        by_piece = at.reshape(len(at), pieces, order).transpose(1, 2, 0)
        table = np.matmul(powers, by_piece) if not curved else _by_chebyshev(by_piece)
        wanted = values(np.add.outer(middles, half * between).ravel()).reshape(len(at), pieces, len(between))
        found = np.matmul(np.vander(between, order, increasing=True), table).transpose(2, 0, 1)
        errors = np.abs(found - wanted).max(axis=(1, 2), initial=0.0)
        error = float((errors if matter is None else errors * matter).max(initial=0.0))
        size = float(np.abs(at).max(initial=0.0))
        slope = max(float(np.abs(table[:, 1]).max(initial=0.0)) / half, size / (upper - lower))
        enough = error <= max(min(accuracy * size, accuracy * slope * half / order**2), ROUNDING * size)
        if enough and curved:
            # of a Chebyshev polynomial the second derivative at its ends is about a third of the degree's fourth power
            bend = max(2.0 * float(np.abs(table[:, 2]).max(initial=0.0)), slope * half**2 / (upper - lower))
            share = error * order**4 / 3.0 / (bend or 1.0)
            if share > 0.5 * before:  # rounding
                return coarser
            enough, coarser, before = share <= accuracy, np.ascontiguousarray(table), share
        if enough:
            return np.ascontiguousarray(table)
        pieces *= 2
    raise RoughError(f"not smooth enough for {most} pieces of degree {order - 1}")
