"""Sparse deconvolution as a convex programme: non-negative least squares on a mesh, and Newton's method off it.

Nothing of the package is used here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

__all__ = ["Optimum", "deconvolved"]

Array = NDArray[np.float64]
TURN = 2 * np.pi
CELLS = {1: 400, 2: 60}
RIDGE = 1e-4
"""The penalty ``lambda sum c`` as a row of a least-squares problem, ``(RIDGE sum c + lambda / RIDGE)^2 / 2``, adds
``RIDGE^2 (sum c)^2 / 2`` too, of which Newton's method knows nothing."""


@dataclass(frozen=True)
class Optimum:
    """The measure ``sum_i masses_i delta_{places_i}`` of least ``J``, heaviest first; negative masses if signed.

    Attributes
    ----------
    energy : float
    masses : array, shape (k,)
    places : array, shape (k, d)
    least : float
        The least value of V (of both signs) on a fine mesh: the measure is optimal where it is 0.
    """

    energy: float
    masses: Array
    places: Array
    least: float


def _tables(x: Array, harmonics: int) -> tuple[Array, Array]:
    """``1, sqrt 2 cos k x, sqrt 2 sin k x``, whose products with themselves make the kernel, and their slopes."""
    k = np.arange(1, harmonics + 1)
    c, s = np.sqrt(2) * np.cos(np.outer(x, k)), np.sqrt(2) * np.sin(np.outer(x, k))
    one = np.ones((len(x), 1))
    return np.hstack([one, c, s]), np.hstack([0 * one, -k * s, k * c])


def _features(x: Array, harmonics: int, slope: int | None = None) -> Array:
    """Features at points (m, d), or their derivatives along one coordinate: shape (m, (2 n + 1)^d)."""
    rows = np.ones((len(x), 1))
    for i in range(x.shape[1]):
        table = _tables(x[:, i], harmonics)[i == slope]
        rows = (rows[:, :, None] * table[:, None, :]).reshape(len(x), -1)
    return rows


def _mesh(cells: int, d: int) -> Array:
    return np.stack(np.meshgrid(*[np.arange(cells) * TURN / cells] * d, indexing="ij"), -1).reshape(-1, d)


def _clusters(points: Array, masses: Array, width: float) -> tuple[Array, Array]:
    """Neighbours of one sign as one atom each, the heaviest first."""
    places, sums, left = [], [], np.argsort(-np.abs(masses))
    while len(left):
        d = (points[left] - points[left[0]] + np.pi) % TURN - np.pi
        near = (np.abs(d).max(axis=1) < width) & (masses[left] * masses[left[0]] > 0)
        own = masses[left[near]]
        sums.append(own.sum())
        places.append(points[left[0]] + own @ d[near] / own.sum())
        left = left[~near]
    return np.array(places), np.array(sums)


def deconvolved(points: Array, weights: Array, penalty: float, harmonics: int, signed: bool = False) -> Optimum:
    """The least ``J = |features(mu - nu)|^2 / 2 + penalty |mu|``, ``nu = sum_j weights_j delta_{points_j}``."""
    d = points.shape[1]
    signs = np.array([1.0, -1.0] if signed else [1.0])
    y = weights @ _features(points, harmonics)
    cells = _mesh(CELLS[d], d)
    columns = _features(cells, harmonics).T
    matrix = np.vstack([np.hstack([sign * columns for sign in signs]), np.full(columns.shape[1] * len(signs), RIDGE)])
    found = optimize.nnls(matrix, np.append(y, -penalty / RIDGE), maxiter=100_000)[0]
    masses = np.concatenate([sign * part for sign, part in zip(signs, np.split(found, len(signs)), strict=True)])
    kept = np.abs(masses) > 1e-7
    places, masses = _clusters(np.tile(cells, (len(signs), 1))[kept], masses[kept], 3.5 * TURN / CELLS[d])
    sign, k = np.sign(masses), len(masses)

    def conditions(z: Array) -> Array:
        """V = 0 and its slopes 0 at every atom."""
        x = z[k:].reshape(k, d)
        rest = z[:k] @ _features(x, harmonics) - y
        slopes = [_features(x, harmonics, i) @ rest for i in range(d)]
        return np.concatenate([_features(x, harmonics) @ rest + penalty * sign, np.stack(slopes, 1).ravel()])

    z = optimize.root(conditions, np.concatenate([masses, places.ravel()]), tol=1e-14).x
    masses, places = z[:k], z[k:].reshape(k, d)
    rest = masses @ _features(places, harmonics) - y
    fit = _features(_mesh(5 * CELLS[d], d), harmonics) @ rest
    least = min(float((s * fit).min()) for s in signs) + penalty
    order = np.argsort(-np.abs(masses))
    order = order[np.abs(masses[order]) > 1e-12 * np.abs(masses).sum()]
    energy = 0.5 * float(rest @ rest) + penalty * float(np.abs(masses).sum())
    return Optimum(energy, masses[order], places[order] % TURN, least)
