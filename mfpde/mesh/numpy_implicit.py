"""Implicit steps of Scharfetter-Gummel fluxes along the first axis of arrays, in plain NumPy.

The matrix of a line has rates ``a_k`` from row ``k-1`` to ``k`` and ``l_k`` back, both times the step, through the
face ``k`` on the left of row ``k``; on a periodic axis face 0 joins the last row to the first. It is eliminated from
row 0 upwards *without subtractions*: not the diagonal is carried along but ``c``, what is left of the column sum 1.
All quantities are positive, so that every entry of the result has a small relative error, whatever the step and
however deep the tail, and mass is kept.
"""

from __future__ import annotations

import math

import numpy as np

from mfpde.mesh.constants import SAFE
from mfpde.support.arrays import Array

__all__ = ["implicit_line"]

GAMMA = 1.0 - 1.0 / math.sqrt(2.0)
"""Of the L-stable SDIRK method of two stages."""
KEEP = math.sqrt(2.0)
"""Its second stage starts from ``(1 + KEEP) Y_1 - KEEP mu``."""


def implicit_line(mu: Array, ahead: Array, back: Array, *, periodic: bool, order: int) -> Array:
    """One implicit step of all lines along the first axis, see `TransportOperator.implicit`.

    Parameters
    ----------
    mu : (n, ...) array
        The densities.
    ahead, back : (n + 1, ...) array
        The rates through the faces, to the right and to the left, times the step.
    periodic : bool
        Whether the first face is the last one; else both are walls.
    order : int
        1 or 2.
    """
    if order == 1:
        return _solve(mu, ahead, back, periodic)
    to_right, to_left = GAMMA * ahead, GAMMA * back
    first = _solve(mu, to_right, to_left, periodic)
    result = _solve(first + KEEP * (first - mu), to_right, to_left, periodic)
    if not (result < 0.0).any():
        return result
    euler = _solve(mu, ahead, back, periodic)
    seam = np.zeros(mu.shape[1:])
    if periodic:
        seam = (1.0 + KEEP) * (to_right[0] * first[-1] - to_left[0] * first[0])
        seam += to_right[0] * result[-1] - to_left[0] * result[0]
        seam -= ahead[0] * euler[-1] - back[0] * euler[0]
    for line in np.ndindex(mu.shape[1:]):
        at = (slice(None), *line)
        if (result[at] < 0.0).any():
            result[at] = _blend(euler[at], result[at], float(seam[line]), periodic)
    return result


def _solve(mu: Array, ahead: Array, back: Array, periodic: bool) -> Array:
    """The implicit Euler step.

    Of the matrix, `c` is the column sum of the row in hand and `last` that of the last row; on a periodic axis `p` and
    `s` are the rates from the row in hand to the last one and back.
    """
    n, x = len(mu), np.empty(mu.shape)
    down, away = np.zeros(mu.shape), np.zeros(mu.shape)
    c, last, b, e = np.ones(mu.shape[1:]), np.ones(mu.shape[1:]), mu[0].copy(), mu[-1].copy()
    p, s = (back[0].copy(), ahead[0].copy()) if periodic else (0.0, 0.0)
    for j in range(n - 1):
        a, l = ahead[j + 1], back[j + 1]
        if periodic and j == n - 2:  # the next row and the last are the same
            a, l, p, s = a + p, l + s, 0.0, 0.0
        inverse = 1.0 / (c + a + p)
        up, down[j + 1], away[j] = a * inverse, l * inverse, s * inverse
        x[j] = b * inverse
        if periodic and j < n - 2:
            last, e = last + away[j] * c, e + p * inverse * b
            p, s = down[j + 1] * p, s * up
        right = e if periodic and j == n - 2 else mu[j + 1]
        b, c = right + up * b, 1.0 + down[j + 1] * c
    x[-1] = b / (last + (c - 1.0) if periodic else c)
    for j in range(n - 2, -1, -1):
        x[j] += down[j + 1] * x[j + 1] + away[j] * x[-1]
    return x


def _blend(have: Array, want: Array, seam: float, periodic: bool) -> Array:
    """A line without negative entries between `want` and the positive line `have`.

    Their face fluxes differ by `flux`, with ``have_k - want_k = flux_(k+1) - flux_k`` and `seam` at face 0; of it
    each face keeps what its donor can pay. Where nothing is negative, nor anything upstream, that is exactly all.
    """
    n, flux, keep = len(have), np.empty(len(have) + 1), np.ones(len(have) + 1)
    # summed from both ends to the heaviest row: nothing in the tails is lost to the round-off of the bulk
    top = int(np.argmax(have))
    flux[0] = flux[n] = seam
    for j in range(top):
        flux[j + 1] = flux[j] + (have[j] - want[j])
    for j in range(n - 1, top, -1):
        flux[j] = flux[j + 1] - (have[j] - want[j])
    for step in (1, -1):
        given = _pass(flux, have, want, step, 1.0, keep)
        if periodic and step * seam > 0.0:
            if given < 1.0:
                # the first row cannot count on all that comes round: on what is certain only
                given = _pass(flux, have, want, step, 0.0, keep)
                _pass(flux, have, want, step, given, keep)
            keep[0] = keep[n] = given
    kept = keep * flux
    value = np.maximum(have - (kept[1:] - kept[:-1]), 0.0)
    return np.where((keep[:-1] < 1.0) | (keep[1:] < 1.0) | (want < 0.0), value, want)


def _pass(flux: Array, have: Array, want: Array, step: int, start: float, keep: Array) -> float:
    """The factors of the faces through which `flux` goes in one direction, donors visited along it.

    `start` is the factor of the face through which the first row is entered. A donor gives what it has and what it has
    just been given; where the whole leaves nothing negative, the whole.
    """
    given, n = start, len(have)
    for k in range(n):
        j = k if step > 0 else n - 1 - k
        entry, leave = (j, j + 1) if step > 0 else (j + 1, j)
        inflow, outflow = step * flux[entry], step * flux[leave]
        if not outflow > 0.0:
            given = 1.0
            continue
        if inflow < 0.0:
            outflow -= inflow  # gives to both sides
            inflow = 0.0
        if want[j] >= 0.0 and (inflow == 0.0 or given == 1.0):
            given = 1.0
        else:
            room = SAFE * (have[j] + given * inflow)
            given = room / outflow if room < outflow else 1.0
        keep[leave] = given
    return given
