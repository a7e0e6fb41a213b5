"""What all readers of solutions' files have in common: the mesh, the densities, what errors were estimated on."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.species import Species
from mfpde.mesh.solution_writer import CELL_AVERAGES, POINT_VALUES
from mfpde.support.arrays import Array
from mfpde.support.files import frames as stored
from mfpde.support.files.hdf5 import FileFormatError, Reader, as_numbers
from mfpde.support.words import one_line

__all__ = ["PartsReader"]


class PartsReader(Reader):
    """The file of a solution, whole or in the making."""

    def grid(self) -> Grid:
        """The mesh that the axes' scales describe."""
        names = self.texts(self.file, "axes")
        axes, shape, centres = [], [], []
        for name in names:
            values = self.array(self.file, name, (None,))
            node = self.file[name]
            try:
                ends = End(self.text(node, "lower_end")), End(self.text(node, "upper_end"))
                bounds = self.number(node, "lower"), self.number(node, "upper")
                axes.append(self._axis(node, bounds, ends))
            except FileFormatError:
                raise
            except ValueError as error:
                self.fail(one_line(error))
            shape.append(len(values))
            centres.append(values)
        try:
            grid = Grid(axes, shape)
        except ValueError as error:
            self.fail(one_line(error))
        for i, (name, values) in enumerate(zip(names, centres, strict=True)):
            if not np.allclose(values, grid.centres(i), rtol=0, atol=1e-6 * grid.spacing[i]):
                self.fail(f"/{name} does not hold the centres of {len(values)} equal cells of {axes[i]!r}")
        return grid

    def _axis(self, node: Any, bounds: tuple[float, float], ends: tuple[End, End]) -> Axis:
        """The axis that a scale describes; of species, one with labels."""
        name = self.text(node, "axis")
        if "labels" not in node.attrs:
            return Axis(name, *bounds, ends)
        return Species(name, self.texts(node, "labels"), np.atleast_1d(node.attrs["scales"]).tolist())

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
