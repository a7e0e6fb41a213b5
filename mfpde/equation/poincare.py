r"""The spectral gap of Langevin dynamics in a fixed potential, on a mesh."""

from __future__ import annotations

import numpy as np

from mfpde.equation.grid import Grid, face_shape
from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array

__all__ = ["spectral_gap"]

DENSE = 600
"""Cells up to which all eigenvalues are computed."""


def spectral_gap(problem: Problem, grid: Grid, log_mu: Array, temperature: float) -> float:
    r"""The smallest rate at which ``d_t mu = tau div(G pi grad(mu / pi))`` forgets, for a density ``pi`` that it keeps.

    The smallest eigenvalue above 0 of the operator with the fluxes of Scharfetter and Gummel on the mesh. For ``G = 1``
    it is ``tau / C_P``, with the Poincare constant of ``pi``, ``Var_pi(f) <= C_P int |grad f|^2 dpi``; without
    interaction and birth-death the free energy decays at twice this rate in the end.

    Parameters
    ----------
    problem : Problem
        Its metric is G.
    grid : Grid
    log_mu : array, shape ``grid.shape``
        ``log pi``, up to a constant; it is the stationary state's.
    temperature : float
        ``tau > 0``.

    Returns
    -------
    float
        In the units of the problem's clock; second order in the cells, and rounded by 1e-15 of its largest eigenvalue.
    """
    from scipy import sparse

    size, places = grid.size, np.arange(grid.size).reshape(grid.shape)
    diagonal = np.zeros(grid.shape)
    rows, columns, entries = [], [], []
    for i, axis in enumerate(grid.axes):
        low, high = np.moveaxis(places, i, 0), np.moveaxis(np.roll(places, -1, axis=i), i, 0)
        rate = np.broadcast_to(problem.mobility(i, *grid.face_mesh(i)), face_shape(grid, i))
        rate = np.moveaxis(rate, i, 0)[1:]  # of the face above each cell
        if not axis.periodic:
            low, high, rate = low[:-1], high[:-1], rate[:-1]
        low, high, rate = low.ravel(), high.ravel(), temperature * rate.ravel() / grid.spacing[i] ** 2
        half = 0.5 * (log_mu.ravel()[high] - log_mu.ravel()[low])
        small = np.abs(half) < 1e-8
        face = rate * np.where(small, 1.0, np.where(small, 1.0, half) / np.sinh(np.where(small, 1.0, half)))
        np.add.at(diagonal.reshape(-1), low, face * np.exp(half))
        np.add.at(diagonal.reshape(-1), high, face * np.exp(-half))
        rows += [low, high]
        columns += [high, low]
        entries += [-face, -face]
    across = (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns)))
    matrix = sparse.csc_matrix(across, shape=(size, size)) + sparse.diags(diagonal.ravel())
    if size <= DENSE:
        return float(np.linalg.eigvalsh(matrix.toarray())[1])
    # the null space is known, sqrt(pi): shifted below it, the inverse has the two smallest as its largest
    from scipy.sparse.linalg import eigsh

    shift = -1e-6 * float(np.abs(diagonal).min())
    found = eigsh(matrix.tocsc(), k=2, sigma=shift, which="LM", v0=np.ones(size), return_eigenvectors=False)
    return float(np.max(found))
