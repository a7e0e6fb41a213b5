"""The curve that all are held against: central differences of order eight and DOP853, nothing of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

import mfpde as mf
from validation.benchmarks._work import T_END, Mesh, Work, mesh
from validation.benchmarks.peers._lines import Lines, right_hand_side
from validation.benchmarks.smooth.choice import SAVES, error_of

__all__ = ["MARGIN", "curve_of_lines", "reference"]

Array = NDArray[np.float64]

SIZES = {Work.BUMPS_1D: (200, 300), Work.BUMPS_2D: (144, 192), Work.NETWORK: (240, 320)}
"""Two meshes each, which have to agree."""
MARGIN = {Work.BUMPS_1D: 0.0, Work.BUMPS_2D: 0.0, Work.NETWORK: 1.0}
"""How much wider than the box they are. Central differences lose what reaches a wall: on the network 1e-10 of the mass,
and with it 2e-9 of the energy, however fine the mesh. The walls of the problem itself are out of reach."""
EXACT = 1e-13
"""Tolerance of the steps."""


def curve_of_lines(on: Mesh, lines: Lines, tolerance: float, method: str = "DOP853") -> tuple[Array, Array, int]:
    """The energies and densities at `SAVES` by the method of lines in NumPy and SciPy, and the evaluations.

    Raises
    ------
    RuntimeError
        If the steps fail.
    """
    rate = right_hand_side(lines, on)
    shape = on.shape
    result = solve_ivp(
        lambda t, y: rate(y.reshape(shape)).ravel(),
        (0.0, T_END),
        np.asarray(on.initial).ravel(),
        method=method,
        t_eval=SAVES,
        rtol=tolerance,
        atol=0.1 * tolerance,
    )
    if not result.success:
        raise RuntimeError(result.message)
    densities: Array = result.y.T.reshape(-1, *shape)
    return np.array([float(on.energy(mu)) for mu in densities]), densities, int(result.nfev)


def reference(work: Work, tolerance: float = 1e-9) -> dict[str, Any]:
    """The curve on the finer mesh; how far the coarser one is off, and the characteristics of this package."""
    meshes = [mesh(work, n, margin=MARGIN[work]) for n in SIZES[work]]
    coarse, fine = (curve_of_lines(on, Lines.CENTRAL_8, EXACT)[0] for on in meshes)
    exact = mf.characteristics(work.problem(), save=SAVES, tolerance=tolerance, progress=False)
    return {
        "energy": fine.tolist(),
        "sizes": list(SIZES[work]),
        "meshes_differ": error_of(coarse, fine),
        "characteristics_differ": error_of(exact.energy, fine),
        "characteristics_estimate": float(exact.error_estimate),
    }
