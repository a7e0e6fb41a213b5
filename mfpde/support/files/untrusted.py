"""Files from elsewhere: what is checked before a library that trusts them reads them.

HDF5 follows what a file says about itself. One of its structures can send it round in circles for ever: the global
heaps, in which texts of variable length lie, are lists of objects with their sizes, and an object of size 0 is
followed by itself. So they are walked here first. NumPy takes memory for an array as its header claims it; here the
claim is held against what the file holds. A TOML key of many parts takes memory as the square of their number; here
they are counted.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

__all__ = ["check_heaps", "elsewhere", "extents", "flat", "parse_toml", "read_npz", "stored_bytes"]

MAX_HEAPS = 2**26
"""Bytes of global heaps in a file. The texts of a solution are some kilobytes."""
_BLOCK = 2**22
_HEAP, _HEAP_HEAD, _OBJECT_HEAD, _LEAST_HEAP = b"GCOL", 16, 16, 4096


# ---------------------------------------------------------------------------------------------------------------------
# HDF5
# ---------------------------------------------------------------------------------------------------------------------


def check_heaps(path: str | os.PathLike[str], skip: Iterable[tuple[int, int]] = ()) -> None:
    """Refuse an HDF5 file whose global heaps do not add up.

    Parameters
    ----------
    path : path
        The file.
    skip : iterable of (int, int)
        Parts of the file that are known to hold numbers, first and last byte + 1; they are not searched.

    Raises
    ------
    ValueError
        For a heap whose objects do not fill it, or too much of them.
    """
    total = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start in _signatures(file, size, skip):
            file.seek(start)
            head = file.read(_HEAP_HEAD)
            length = int.from_bytes(head[8:], "little")
            # what is no heap for the library either: numbers that happen to look like the signature
            if len(head) < _HEAP_HEAD or head[4] != 1 or not _LEAST_HEAP <= length <= size - start:
                continue
            total += length
            if total > MAX_HEAPS:
                raise ValueError(f"its texts take more than {MAX_HEAPS} bytes")
            _check_heap(file.read(length - _HEAP_HEAD), start)


def _check_heap(content: bytes, start: int) -> None:
    at = 0
    while len(content) - at >= _OBJECT_HEAD:
        number = int.from_bytes(content[at : at + 2], "little")
        size = int.from_bytes(content[at + 8 : at + 16], "little")
        # object 0 is the free space, its head included
        step = _OBJECT_HEAD + (size + 7) // 8 * 8 if number else size
        if not 0 < step <= len(content) - at:
            raise ValueError(f"the texts at byte {start} do not add up: object {number} claims {size} bytes")
        at += step


def _signatures(file: IO[bytes], size: int, skip: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Where the signature of a global heap stands."""
    at = 0
    for first, last in [*sorted(skip), (size, size)]:
        first = min(first, size)
        while at < first:
            file.seek(at)
            block = file.read(min(_BLOCK, first - at) + len(_HEAP) - 1)
            place = block.find(_HEAP)
            while place >= 0:
                yield at + place
                place = block.find(_HEAP, place + 1)
            at = min(at + _BLOCK, first)
        at = max(at, last)


def extents(dataset: h5py.Dataset, most: int = 10_000) -> list[tuple[int, int]]:
    """Where in the file the values of a dataset lie; empty where that is not known with at most `most` pieces."""
    if dataset.chunks is None:
        first = dataset.id.get_offset()
        return [] if first is None else [(first, first + dataset.id.get_storage_size())]
    try:
        count = dataset.id.get_num_chunks()
        if count > most:
            return []
        chunks = (dataset.id.get_chunk_info(i) for i in range(count))
        return [(c.byte_offset, c.byte_offset + c.size) for c in chunks if c.byte_offset is not None]
    except (OSError, RuntimeError, TypeError, ValueError):
        return []


def elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether a dataset keeps its values in another file."""
    return bool(dataset.is_virtual or dataset.id.get_create_plist().get_external_count())


def stored_bytes(dataset: h5py.Dataset) -> int:
    """The most bytes of values that a dataset can hold with what it has in the file."""
    # a filter of a repacked file may have compressed the values; deflate gains 1032 at most
    gain = 1100 if dataset.id.get_create_plist().get_nfilters() else 1
    return gain * int(dataset.id.get_storage_size())


# ---------------------------------------------------------------------------------------------------------------------
# TOML
# ---------------------------------------------------------------------------------------------------------------------

MAX_PARTS = 100
"""Parts of a dotted key."""
_TOML = re.compile(
    r'''(?P<text>"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?\'{3,5}|"(?!"")(?:[^"\\\n]|\\.)*"|\'(?!\'\')[^\'\n]*\')'''
    r"|(?P<dot>\.)|(?P<space>[ \t]+)|(?P<word>[\w+-]+)|#[^\n]*|[^\"'\w+.\-# \t]",
    re.DOTALL,
)


def parse_toml(text: str) -> dict[str, Any]:
    """TOML as `tomllib` reads it, if no key has very many parts.

    Raises
    ------
    ValueError
        For text that is no TOML, in the words of `tomllib`, for numbers of too many digits, for keys of more than
        `MAX_PARTS` parts, and for what is nested too deeply.
    """
    if text.count(".") >= MAX_PARTS:
        _check_keys(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_keys(text: str) -> None:
    at = dots = 0
    while token := _TOML.match(text, at):  # no match: a quote that is never closed, and refused where it is read
        if token.lastgroup == "dot":
            dots += 1
            if dots >= MAX_PARTS:
                line = text.count("\n", 0, at) + 1
                raise ValueError(f"a key in line {line} has more than {MAX_PARTS} parts")
        elif token.lastgroup is None:  # neither text, word nor the space between them
            dots = 0
        at = token.end()


def flat(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of nested tables by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


# ---------------------------------------------------------------------------------------------------------------------
# NPZ
# ---------------------------------------------------------------------------------------------------------------------


def read_npz(source: str | os.PathLike[str] | IO[bytes], wanted: Sequence[str], limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file with the given names; all of its names, without the suffix, are the keys.

    Parameters
    ----------
    source : path or binary file
    wanted : sequence of str
        Names of arrays. Also read: arrays whose name ends in ``/`` and one of these.
    limit : int
        Bytes of arrays that are read.

    Returns
    -------
    dict
        Arrays that are not wanted are there with an empty value.

    Raises
    ------
    ValueError
        For what is no NPZ file, holds objects, or claims more than it holds or than the limit.
    OSError
        If the file cannot be read.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(source) as archive:
            read = {m for m in archive.infolist() if _name(m).rpartition("/")[2] in wanted}
            total = sum(m.file_size for m in read)
            if total > limit:
                raise ValueError(f"its arrays have {total} bytes; the limit is {limit}")
            for member in archive.infolist():
                name = _name(member)
                if member not in read:
                    arrays.setdefault(name, np.empty(0))
                    continue
                with archive.open(member) as file:
                    shape, dtype = _npy_head(file)
                    claimed = math.prod(shape) * dtype.itemsize
                    if claimed > member.file_size:
                        raise ValueError(f"array {name!r} claims {claimed} bytes, the file holds {member.file_size}")
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError):
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(one_line(error)) from None
    return arrays


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _npy_head(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format of arrays is not read")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read; save plain numbers")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has shape {shape}")
    return shape, dtype
