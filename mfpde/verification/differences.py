"""What two files differ in: settings, versions, numbers, datasets with their greatest difference."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.mesh.solution_reader import opened
from mfpde.support.files.hdf5 import FileFormatError, Reader, frames_at_once, kind_of
from mfpde.support.files.untrusted import elsewhere, flat, parse_toml, stored_bytes

if TYPE_CHECKING:
    import h5py

    from mfpde.support.arrays import Array

__all__ = ["DatasetDifference", "Differences", "differences"]

SAID_AGAIN = ("title", "checksums", "plain_checksum", "configuration_unset", "configuration_described", "axes")
"""Attributes of the root that say how others are written, or say again what others say."""
TEXTS = ("configuration", "provenance", "stats", "estimate")
"""Attributes of the root that are TOML."""
GROUPS = ("volatile", "unfinished")
"""What is left out: what differs between runs that are alike, and how a run that is not over keeps its numbers."""
OF_ITS_RUNS = ("seconds", "host")
"""What differs between sweeps that are alike."""
INDICES = ("limiting_cell",)
"""Datasets that are places and no numbers: which is the largest is settled by the last bit."""


@dataclass(frozen=True)
class DatasetDifference:
    """A dataset that differs.

    Attributes
    ----------
    name : str
    greatest : float
        The greatest absolute difference; NaN where a number stands beside none, or shapes differ.
    relative : float
        As a share of the largest absolute value of both.
    where : tuple of int
        Where that is.
    why : str
        Where it is no matter of numbers: shapes, types, or that one file has none.
    """

    name: str
    greatest: float = math.nan
    relative: float = math.nan
    where: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Differences:
    """What `differences` finds; false where there are none.

    Attributes
    ----------
    settings, versions, results : dict
        By key the values in both files, None where there is none: of the configuration and the problem; of Python and
        packages; of counts, ends and single numbers.
    datasets : tuple of DatasetDifference
    equal : int
        How many datasets do not differ.
    """

    settings: dict[str, tuple[Any, Any]]
    versions: dict[str, tuple[Any, Any]]
    results: dict[str, tuple[Any, Any]]
    datasets: tuple[DatasetDifference, ...]
    equal: int

    def __bool__(self) -> bool:
        return bool(self.settings or self.versions or self.results or self.datasets)


def differences(
    one: str | os.PathLike[str], other: str | os.PathLike[str], tolerance: float | None = None
) -> Differences:
    """What two files of mfpde differ in, of whichever kind they are.

    Parameters
    ----------
    one, other : path
    tolerance : float, optional
        What numbers may differ by, as a share of the largest of their dataset; without it they must have the same bits.
        With it places (``limiting_cell``) are not compared.

    Returns
    -------
    Differences
        Dates, durations and commands, the group ``volatile``, are left out, and seconds and hosts of a sweep's runs.

    Raises
    ------
    FileFormatError
        If a file is no HDF5 file, or damaged.
    OSError
        If a file is missing or cannot be read.
    """
    for path in (one, other):  # what is wrong with one of them is said of it
        with opened(path):
            pass
    with opened(one) as first, opened(other) as second:
        kinds = kind_of(first.file), kind_of(second.file)
        if kinds[0] != kinds[1]:
            return Differences({"kind": kinds}, {}, {}, (), 0)
        mine, others = (_said(reader) for reader in (first, second))
        keys = [key for key in {**mine, **others} if not _same(mine.get(key), others.get(key), tolerance)]
        found, equal = [], 0
        left = (*GROUPS, *OF_ITS_RUNS) if kinds[0] == "sweep" else GROUPS
        for name in dict.fromkeys([*_datasets(first.file, left), *_datasets(second.file, left)]):
            if tolerance is not None and name.rpartition("/")[2] in INDICES:
                continue
            difference = _difference(first, second, name, tolerance)
            found += [] if difference is None else [difference]
            equal += difference is None
    parts: dict[str, dict[str, tuple[Any, Any]]] = {"configuration": {}, "provenance": {}, "stats": {}}
    for key in keys:
        table, _, rest = key.partition(".")
        own = parts[table] if rest and table in parts else parts[_table_of(key)]
        own[rest if rest and table in parts else key] = mine.get(key), others.get(key)
    return Differences(parts["configuration"], parts["provenance"], parts["stats"], tuple(found), equal)


# ---------------------------------------------------------------------------------------------------------------------
# what is said
# ---------------------------------------------------------------------------------------------------------------------


def _table_of(key: str) -> str:
    return "configuration" if key in ("problem", "fingerprint") else "stats"


def _said(reader: Reader) -> dict[str, Any]:
    """What the attributes of the root say, by dotted key."""
    from mfpde.equation.plain_attributes import read_plain

    plain, found = read_plain(reader), {}
    for name in sorted(reader.file.attrs):
        if name in SAID_AGAIN or name in plain:
            continue
        if name not in TEXTS:
            value = reader.attribute(reader.file, name)
            found[name] = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
            continue
        for key, value in flat(reader.table(reader.file, name), f"{name}.").items():
            found[key.replace("provenance.versions.", "provenance.")] = value
    text = found.pop("configuration.toml", None)
    return {**(_toml(text) if isinstance(text, str) else {}), **found}


def _toml(text: str) -> dict[str, Any]:
    """The keys of the text of a run; what the configuration says besides is taken from there."""
    try:
        return flat(parse_toml(text), "configuration.")
    except ValueError:
        return {"configuration.toml": text}


def _same(one: Any, other: Any, tolerance: float | None) -> bool:
    numbers = isinstance(one, float) and isinstance(other, float)
    if numbers and (math.isnan(one) or math.isnan(other)):
        return math.isnan(one) and math.isnan(other)
    if numbers and tolerance is not None:
        # counts of rounding, such as a drift of the mass, are no numbers of a result
        return abs(one - other) <= max(tolerance * max(abs(one), abs(other)), tolerance)
    return bool(one == other)


# ---------------------------------------------------------------------------------------------------------------------
# datasets
# ---------------------------------------------------------------------------------------------------------------------


def _datasets(group: h5py.Group, left: Collection[str] = (), above: str = "") -> Iterator[str]:
    """The names of the datasets that lie in a file itself, but for some that are left out; others are not followed."""
    import h5py

    for name in group:
        if name in left:
            continue
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        node = group[name]
        if isinstance(node, h5py.Dataset):
            yield above + name
        elif isinstance(node, h5py.Group) and above.count("/") < 4:
            yield from _datasets(node, above=f"{above}{name}/")


def _difference(one: Reader, other: Reader, name: str, tolerance: float | None) -> DatasetDifference | None:
    """What a dataset differs in, if it does."""
    for reader, has in ((one, "the second"), (other, "the first")):
        if name not in reader.file:
            return DatasetDifference(name, why=f"only {has} file has it")
    first, second = (_checked(reader, name) for reader in (one, other))
    if first.shape != second.shape:
        return DatasetDifference(name, why=f"shapes {first.shape} and {second.shape}")
    if first.dtype.kind != second.dtype.kind:
        return DatasetDifference(name, why=f"types {first.dtype} and {second.dtype}")
    if first.dtype.kind not in "fi":
        same = bool(np.array_equal(first[()], second[()]))
        return None if same else DatasetDifference(name, why="texts differ")
    return _of_numbers(first, second, name, tolerance)


def _checked(reader: Reader, name: str) -> h5py.Dataset:
    """A dataset whose numbers or texts are in the file."""
    node = reader.file[name]
    if node.shape is None or node.dtype.kind not in "fiS" or elsewhere(node):
        raise FileFormatError(f"{reader.path}: /{name} holds neither numbers nor text of the file itself")
    claimed = node.dtype.itemsize * math.prod(node.shape)
    if node.id.get_storage_size() > reader.size or claimed > stored_bytes(node):
        raise FileFormatError(f"{reader.path}: /{name} claims {claimed} bytes, which the file does not hold")
    return node


def _of_numbers(
    first: h5py.Dataset, second: h5py.Dataset, name: str, tolerance: float | None
) -> DatasetDifference | None:
    """The greatest difference of two arrays of one shape, a block at a time."""
    greatest, largest, same = -1.0, 0.0, True
    where: tuple[int, ...] = ()
    for low, one, other in _blocks(first, second):
        if one.tobytes() == other.tobytes():
            largest = max(largest, _largest(one))
            continue
        with np.errstate(all="ignore"):
            off = np.abs(np.subtract(one, other, dtype=np.float64))
        equal = (one == other) | ((one != one) & (other != other))
        off = np.where(equal, 0.0, np.where(np.isnan(off), np.inf, off))
        at = np.unravel_index(int(off.argmax()), off.shape) if off.ndim else ()
        same = same and tolerance is not None and bool(equal.all())
        largest = max(largest, _largest(one), _largest(other))
        if float(off[at]) > greatest:
            greatest = float(off[at])
            where = tuple(int(i) + (low if k == 0 else 0) for k, i in enumerate(at))
    if same or greatest < 0:
        return None
    relative = greatest / largest if largest > 0 else (0.0 if greatest == 0 else math.inf)
    if tolerance is not None and relative <= tolerance:
        return None
    why = "zeros or numbers that are none have other bits" if greatest == 0 else ""
    return DatasetDifference(name, greatest, relative, where, why)


def _blocks(first: h5py.Dataset, second: h5py.Dataset) -> Iterator[tuple[int, Array, Array]]:
    if not first.shape:
        yield 0, np.asarray(first[()]), np.asarray(second[()])
        return
    step = frames_at_once(first.shape)
    for i in range(0, first.shape[0], step):
        yield i, np.ascontiguousarray(first[i : i + step]), np.ascontiguousarray(second[i : i + step])


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0))
