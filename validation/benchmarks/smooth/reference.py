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

SIZES = {
    Work.BUMPS_1D: (200, 300),
    Work.BUMPS_2D: (144, 192),
    Work.BUMPS_3D: (96, 128),
    Work.NETWORK: (240, 320),
    Work.NETWORK_3D: (128, 160),
    Work.NOISE: (200, 300),
}
"""Two meshes each, which have to agree."""
MARGIN = {Work.NETWORK: 1.0, Work.NETWORK_3D: 1.0}
"""How much wider than the box they are, where they are. Central differences lose what reaches a wall: on the networks
1e-10 of the mass, and with it 2e-9 of the energy, however fine the mesh. The walls of the problem itself are out of
reach."""
EXACT = {1: 1e-13, 2: 1e-13, 3: 1e-10}
"""Tolerance of the steps, by dimension."""
OWN_MESH = 800
"""Cells of `mfpde.solve` where there is a temperature, and no characteristics."""


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
    """The curve on the finer mesh; how far the coarser one is off, and what this package has.

    Of this package it is the characteristics, or, at a temperature, `mfpde.solve` on `OWN_MESH` cells.
    """
    meshes = [mesh(work, n, margin=MARGIN.get(work, 0.0)) for n in SIZES[work]]
    coarse, fine = (curve_of_lines(on, Lines.CENTRAL_8, EXACT[work.dimension])[0] for on in meshes)
    held = {"energy": fine.tolist(), "sizes": list(SIZES[work]), "meshes_differ": error_of(coarse, fine)}
    if work.temperature:
        control = mf.ErrorControl(1e-9)
        solved = mf.solve(work.problem(), OWN_MESH, controller=control, save=SAVES, estimate=False, progress=False)
        name, energy, estimate = f"`solve` of this package on {OWN_MESH} cells", solved.energy_without_entropy, None
    else:
        # in three dimensions nodes to 1e-9 take too long
        asked = max(tolerance, 1e-6) if work.dimension == 3 else tolerance
        exact = mf.characteristics(work.problem(), save=SAVES, tolerance=asked, progress=False)
        name, energy, estimate = "the characteristics of this package", exact.energy, float(exact.error_estimate)
    return held | {"package": name, "package_differs": error_of(energy, fine), "package_estimate": estimate}
