"""Trees of numbers, text, lists and tables in HDF5: one text, and a dataset for each array that is not short."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.support.arrays import Array
from mfpde.support.files import hdf5

if TYPE_CHECKING:
    import h5py

__all__ = ["array_bytes", "read_tree", "without_arrays", "write_tree"]

SHORT = 16
"""Arrays of so many numbers stand in the text."""
_HEADS = 2**13
"""Bytes that are enough for what HDF5 notes of an array and of its scales."""
_NAME = re.compile(r"array_[0-9]{1,4}")
_DIMENSIONS = ("row", "column", "layer", "sheet")


def write_tree(group: h5py.Group, name: str, tree: Mapping[str, Any]) -> None:
    """Write a tree into a group: its text as an attribute, in which a table ``{array = "array_0"}`` is a dataset."""
    arrays: list[Array] = []

    def dataset(array: Array) -> dict[str, str]:
        arrays.append(array)
        return {"array": f"array_{len(arrays) - 1}"}

    group.attrs[name] = hdf5.as_toml(without_arrays(tree, dataset))
    scales: dict[str, h5py.Dataset] = {}
    for i, array in enumerate(arrays):
        own = []
        for dimension, n in zip(_DIMENSIONS, array.shape, strict=False):
            scale = f"{dimension}_{n}"
            if scale not in scales:
                scales[scale] = hdf5.add_scale(group, scale, np.arange(n), f"{dimension} of an array")
            own.append(scales[scale])
        hdf5.add_dataset(group, f"array_{i}", np.asarray(array, dtype=np.float64), "numbers of the problem", own)


def read_tree(reader: hdf5.Reader, group: h5py.Group, name: str) -> dict[str, Any]:
    """The tree that `write_tree` has written, its arrays as they were bit for bit."""
    tree: dict[str, Any] = _with_arrays(reader.table(group, name), reader, group)
    return tree


def _in_text(array: Array) -> bool:
    """Whether an array is short enough to stand in a text."""
    return array.size <= SHORT or not 1 <= array.ndim <= len(_DIMENSIONS)


def array_bytes(value: Any) -> int:
    """Bytes that the arrays of a tree take in a file, with their scales."""
    if isinstance(value, np.ndarray):
        return 0 if _in_text(value) else 8 * (value.size + sum(value.shape)) + _HEADS
    parts: Sequence[Any] = (
        list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    return sum(map(array_bytes, parts))


def without_arrays(value: Any, instead: Callable[[Array], Any]) -> Any:
    """A tree whose short arrays are lists; `instead` gives what stands in the place of each of the others."""
    if isinstance(value, np.ndarray):
        return value.tolist() if _in_text(value) else instead(value)
    if isinstance(value, Mapping):
        return {key: without_arrays(part, instead) for key, part in value.items()}
    return [without_arrays(part, instead) for part in value] if isinstance(value, list) else value


def _with_arrays(value: Any, reader: hdf5.Reader, group: h5py.Group) -> Any:
    if isinstance(value, list):
        return [_with_arrays(part, reader, group) for part in value]
    if not isinstance(value, dict):
        return value
    name = value.get("array")
    if set(value) != {"array"} or not isinstance(name, str):
        return {key: _with_arrays(part, reader, group) for key, part in value.items()}
    import h5py

    if not _NAME.fullmatch(name):
        reader.fail(f"{name!r} names no array of the problem")
    dimensions = len(reader.node(group, name, h5py.Dataset).shape or ())
    if not 1 <= dimensions <= len(_DIMENSIONS):
        reader.fail(f"/{group.name}/{name} has {dimensions} dimensions")
    return reader.array(group, name, (None,) * dimensions)
