"""Meshes in files: each axis is a scale of cell centres with the axis' name, bounds and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.species import Species
from mfpde.support.files.hdf5 import FLOAT, FileFormatError, Reader, add_scale, as_text, texts
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

__all__ = ["AXIS", "read_grid", "write_grid"]

AXIS = ("axis", "lower", "upper", "lower_end", "upper_end", "labels", "scales")
"""The attributes of an axis."""


def write_grid(file: h5py.File, grid: Grid, reserved: Sequence[str]) -> list[h5py.Dataset]:
    """Write the axes of a mesh at the root of a file, and their names as its attribute ``axes``.

    Parameters
    ----------
    file : h5py.File
    grid : Grid
    reserved : sequence of str
        What else has a name there: an axis of that name is called ``axis_<name>``.

    Returns
    -------
    list of h5py.Dataset
        The scales, in the order of the axes.
    """
    names = _dataset_names(grid.axes, reserved)
    file.attrs["axes"] = texts(names)
    scales = []
    for i, (name, axis) in enumerate(zip(names, grid.axes, strict=True)):
        scale = add_scale(file, name, grid.centres(i), f"cell centres along {axis.name}")
        scale.attrs["axis"] = as_text(axis.name)
        scale.attrs["lower"], scale.attrs["upper"] = FLOAT.type(axis.lower), FLOAT.type(axis.upper)
        scale.attrs["lower_end"], scale.attrs["upper_end"] = axis.lower_end.value, axis.upper_end.value
        if isinstance(axis, Species):
            scale.attrs["labels"], scale.attrs["scales"] = texts(axis.labels), np.array(axis.scales, dtype=FLOAT)
        scales.append(scale)
    return scales


def _dataset_names(axes: Sequence[Axis], reserved: Sequence[str]) -> list[str]:
    """What the axes are called in the file: their names, unless something else there has that name."""
    taken = {axis.name for axis in axes} | set(reserved)
    names = []
    for axis in axes:
        name = axis.name
        while name in reserved or (name != axis.name and name in taken):
            name = f"axis_{name}"
        taken.add(name)
        names.append(name)
    return names


def read_grid(reader: Reader) -> Grid:
    """The mesh that the axes' scales describe."""
    names = reader.texts(reader.file, "axes")
    axes, shape, centres = [], [], []
    for name in names:
        values = reader.array(reader.file, name, (None,))
        node = reader.file[name]
        try:
            ends = End(reader.text(node, "lower_end")), End(reader.text(node, "upper_end"))
            bounds = reader.number(node, "lower"), reader.number(node, "upper")
            axes.append(_axis(reader, node, bounds, ends))
        except FileFormatError:
            raise
        except ValueError as error:
            reader.fail(one_line(error))
        shape.append(len(values))
        centres.append(values)
    try:
        grid = Grid(axes, shape)
    except ValueError as error:
        reader.fail(one_line(error))
    for i, (name, values) in enumerate(zip(names, centres, strict=True)):
        if not np.allclose(values, grid.centres(i), rtol=0, atol=1e-6 * grid.spacing[i]):
            reader.fail(f"/{name} does not hold the centres of {len(values)} equal cells of {axes[i]!r}")
    return grid


def _axis(reader: Reader, node: Any, bounds: tuple[float, float], ends: tuple[End, End]) -> Axis:
    """The axis that a scale describes; of species, one with labels."""
    name = reader.text(node, "axis")
    if "labels" not in node.attrs:
        return Axis(name, *bounds, ends)
    return Species(name, reader.texts(node, "labels"), np.atleast_1d(node.attrs["scales"]).tolist())
