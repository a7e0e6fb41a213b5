"""The compiled kernels that the transport operator calls, in one place: numba comes with this module."""

from __future__ import annotations

from mfpde.mesh.compiled import options
from mfpde.mesh.compiled.outflow import largest, outflow
from mfpde.mesh.compiled.rows import MOST_GHOSTS, Kernels, kernels_of
from mfpde.mesh.compiled.sweep import sweep
from mfpde.mesh.compiled.tridiagonal import solve, tile_width

__all__ = ["MOST_GHOSTS", "Kernels", "kernels_of", "largest", "options", "outflow", "solve", "sweep", "tile_width"]
