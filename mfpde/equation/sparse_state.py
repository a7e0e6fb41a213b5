"""Temperature 0: the minimiser of an energy over the measures on the cells of a mesh, which is sparse.

Cells of least ``V`` join an active set, whose weights are optimised by a Newton method on the faces of the simplex;
cells whose weight reaches 0 leave (fully corrective Frank-Wolfe).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.functional import Functional
from mfpde.support.arrays import Array

__all__ = ["SparseState", "sparse_state"]


CANDIDATES = 64
"""Cells that may join the active set at once."""
STALLED = 8
"""Rounds without a smaller gap, and without less energy, after which the search for a sparse minimiser gives up."""


@dataclass(frozen=True, eq=False)
class SparseState:
    """A measure on few cells of a mesh, near the minimiser at temperature 0.

    Attributes
    ----------
    mu, V : array
        Its density and its potential on the cells.
    energy : float
    gap : float
        See `mfpde.Equilibrium`.
    rounds : int
        Of the active set.
    """

    mu: Array
    V: Array
    energy: float
    gap: float
    rounds: int


def sparse_state(functional: Functional, V: Array, free_mass: bool, goal: float, max_iterations: int) -> SparseState:
    """The minimiser over measures on the cells, of mass 1 or, with `free_mass`, of any mass; see the module.

    Parameters
    ----------
    functional : Functional
    V : array
        A potential on the cells: the search begins where it is lowest.
    free_mass : bool
    goal : float
        The gap to stop at.
    max_iterations : int
        Rounds of the active set.
    """
    grid, volume = functional.grid, functional.volume
    cells = np.empty(0, dtype=np.intp) if free_mass else np.array([int(np.argmin(V))])
    weights = np.ones(len(cells))
    best: SparseState | None = None
    lowest, stalled = math.inf, 0
    for rounds in range(max_iterations + 1):
        mu = np.zeros(grid.shape)
        mu.flat[cells] = weights / volume
        V, energy = functional.evaluate(mu)
        mass, mean = float(weights.sum()), float(weights @ V.flat[cells])
        least = float(V.min())
        gap = abs(mean) + max(mass, 1.0) * max(0.0, -least) if free_mass else mean - mass * least
        smaller = best is None or gap < best.gap
        if smaller:
            best = SparseState(mu, V, energy, max(gap, 0.0), rounds)
        # only the energy falls in every round: meanwhile the gap may rise for many
        stalled = 0 if smaller or energy < lowest else stalled + 1
        lowest = min(lowest, energy)
        if gap <= goal or stalled >= STALLED or rounds == max_iterations or functional.over:
            break
        level = 0.0 if free_mass else mean / mass
        new = np.setdiff1d(_least_cells(V, level), cells)
        cells = np.concatenate([cells, new])
        weights = np.concatenate([weights, np.zeros(len(new))])
        cells, weights = _optimise_weights(functional, cells, weights, free_mass, 0.02 * goal)
    assert best is not None
    return replace(best, rounds=rounds)


def _least_cells(V: Array, level: float) -> NDArray[np.intp]:
    """The local minima of V below a level, the lowest first."""
    from scipy.ndimage import minimum_filter

    # across periodic ends nothing is compared: a candidate too many does no harm
    minima = np.flatnonzero(((minimum_filter(V, 3, mode="nearest") == V) & (V - level < 0.0)).ravel())
    return minima[np.argsort(V.flat[minima], kind="stable")[:CANDIDATES]]


def _optimise_weights(
    functional: Functional, cells: NDArray[np.intp], weights: Array, free_mass: bool, goal: float
) -> tuple[NDArray[np.intp], Array]:
    """Minimise over the weights of an active set, by Newton steps on the faces of the simplex (or orthant)."""
    at = functional.on_cells(cells)
    last, cut = math.inf, False
    for _ in range(100 + len(cells)):
        V = at.potential(weights)
        if not len(weights):
            break
        H = at.curvature(weights, V)
        small = max(0.1 * goal / max(float(weights.sum()), 1.0), 1e-15 * float(np.max(np.abs(V))))
        keep = np.ones(len(weights), dtype=bool)
        while True:
            d = np.zeros(len(weights))
            d[keep] = _face_direction(H[np.ix_(keep, keep)], V[keep], free_mass)
            wrong = keep & (weights == 0.0) & (d < 0.0)
            if not wrong.any():
                break
            keep &= ~wrong
        rate = float(V @ d)
        occupied = V[weights > 0.0] if weights.any() else V
        level = 0.0 if free_mass else float(V.min())
        missing = float(max(np.max(np.abs(occupied - level)), level - V.min()))
        stuck = -rate <= 1e-3 * goal and missing > 0.5 * last and not cut
        if missing <= small or stuck:  # there, or as near as round-off lets
            break
        last = missing
        shrinking = d < 0.0
        t = min(1.0, float(np.min(-weights[shrinking] / d[shrinking]))) if shrinking.any() else 1.0
        longest = t
        if not functional.quadratic:
            t = _line_search(at.energy, at.potential, weights, d, t, rate)
            if t == 0.0:
                break
        moved = weights + t * d
        cut = t == longest < 1.0  # at a face, and not where the step would have led
        if t == longest and shrinking.any():
            # exactly on the face reached
            moved[shrinking & (moved <= 1e-15 * float(weights.sum()))] = 0.0
        weights = np.maximum(moved, 0.0)
        if not free_mass:
            weights /= weights.sum()
        keep &= (weights > 0.0) | (d > 0.0)
        cells, weights = cells[keep], weights[keep]
        at = functional.on_cells(cells)
    keep = weights > 0.0
    return cells[keep], weights[keep]


def _face_direction(H: Array, V: Array, free_mass: bool) -> Array:
    """Newton's direction among weights of a face; curvatures by their size, so that it descends whatever H is."""
    n = len(V)
    if not free_mass:
        if n == 1:
            return np.zeros(1)
        # an orthonormal basis of the changes that keep the mass, from a Householder reflection of (1, ..., 1)
        u = np.ones(n)
        u[0] += math.sqrt(n)
        basis = (np.eye(n) - np.outer(u, u) * (2.0 / float(u @ u)))[:, 1:]
        return np.asarray(basis @ _face_direction(basis.T @ H @ basis, basis.T @ V, True))
    if n == 0:
        return np.zeros(0)
    values, vectors = np.linalg.eigh(H)
    size, slope = np.abs(values), vectors.T @ V
    top = max(float(size.max()), 1e-300)
    # where the energy is linear the ratio test or the line search sets the length, not the curvature
    least = max(1e-14 * top, 1e-8 * float(np.max(np.abs(slope))))
    return np.asarray(-vectors @ (slope / np.maximum(size, max(least, 1e-300))))


def _line_search(
    energy: Callable[[Array], float], potential: Callable[[Array], Array], w: Array, d: Array, t: float, rate: float
) -> float:
    """A length up to t that descends: by the energy, or, where round-off hides that, by the slope there."""
    start = energy(w)
    for _ in range(40):
        there = w + t * d
        slope = float(potential(there) @ d)
        if abs(slope) <= 0.1 * abs(rate) or (energy(there) <= start + 1e-4 * t * rate):
            return t
        t *= 0.5
    return 0.0
