"""What all readers of solutions' files have in common: the mesh, the densities, what errors were estimated on."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from mfpde.equation.grid import Grid
from mfpde.equation.grid_file import read_grid
from mfpde.mesh.solution_writer import CELL_AVERAGES, POINT_VALUES
from mfpde.support.arrays import Array
from mfpde.support.files import frames as stored
from mfpde.support.files.hdf5 import Reader, as_numbers

__all__ = ["PartsReader"]


class PartsReader(Reader):
    """The file of a solution, whole or in the making."""

    def grid(self) -> Grid:
        """The mesh that the axes' scales describe."""
        return read_grid(self)

    def density(self, grid: Grid, frames: int, room: int | None = None) -> tuple[Array | stored.StoredDensity, bool]:
        """The first frames of the densities, and whether they are point values."""
        dataset = self.dataset(self.file, "density", (frames if room is None else room, *grid.shape))
        kind = self.text(dataset, "representation")
        if kind not in (CELL_AVERAGES, POINT_VALUES):
            self.fail(f"the density is said to be {kind!r}, neither {CELL_AVERAGES!r} nor {POINT_VALUES!r}")
        shape = (frames, *grid.shape)
        if 8 * math.prod(shape) <= stored.IN_MEMORY:
            values = as_numbers(dataset[:frames])
            if room is None:
                self.verify("density", hashlib.sha256(values.data).hexdigest())
            return values, kind == POINT_VALUES
        return stored.StoredDensity(self.path, shape, growing=room is not None), kind == POINT_VALUES

    def estimate(self, grid: Grid) -> dict[str, Any]:
        """On what mesh errors were estimated, and why there are none where there are none."""
        said = self.table(self.file, "estimate")
        cells, reason = said.get("cells"), said.get("reason")
        if not (
            isinstance(cells, list)
            and len(cells) in (0, grid.dimension)
            and all(isinstance(n, int) for n in cells)
            and isinstance(reason, str)
        ):
            self.fail("the attribute 'estimate' does not say cells and a reason")
        return {"cells": tuple(cells), "reason": reason}
