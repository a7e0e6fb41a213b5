"""Densities that stay in their file until they are asked for."""

from __future__ import annotations

import math
import operator
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array

if TYPE_CHECKING:
    import h5py

__all__ = ["IN_MEMORY", "StoredDensity", "crc", "file_stamp", "open_file"]


IN_MEMORY = 64 * 2**20
"""Bytes of densities up to which they are simply read: a blink of the disk, and small beside the solver's libraries."""


def crc(values: Array) -> int:
    """A quick checksum of numbers."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)


def open_file(path: str | os.PathLike[str]) -> h5py.File:
    """The file for reading, unlocked, or locked in the way of whoever has it open in this process (xarray does)."""
    import h5py

    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def file_stamp(path: str | os.PathLike[str], *, growing: bool = False) -> tuple[int, ...]:
    """What tells a file from others, and from itself after a change unless it is `growing`."""
    status = os.stat(path)
    same = (status.st_dev, status.st_ino)
    return same if growing else (*same, status.st_size, status.st_mtime_ns)


class StoredDensity:
    """The saved densities of a run, read from its file frame by frame when they are indexed.

    Behaves like a read-only array of shape ``(saves, *cells)``: ``density[-1]``, ``density[2, :, 0]``,
    ``density[::10]`` and a list of save times on the first axis read what they name and nothing more, iteration
    reads one frame at a time. ``numpy.asarray(density)`` reads everything.

    The file is open only while something is read. It must stay where it is, as it is: otherwise the next access
    says so, and never returns numbers of another run.

    Parameters
    ----------
    path : path
        The file.
    shape : tuple of int
        ``(saves, *cells)``; a file may hold room for more frames.
    growing : bool
        Whether the file may still be written to (its first `shape` frames are not).
    stamp : tuple of int, optional
        What `file_stamp` says of the right file; default: of the one that is there.
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        *,
        growing: bool = False,
        stamp: tuple[int, ...] | None = None,
    ) -> None:
        self.path = os.path.realpath(os.fspath(path))
        self.shape = tuple(int(n) for n in shape)
        self._growing = growing
        self._stamp = stamp or file_stamp(self.path, growing=growing)
        self._unchecked: dict[int, int] = {}

    def expect(self, sums: Sequence[float]) -> None:
        """Compare each frame with its CRC-32 when it is read for the first time, be it in part."""
        self._unchecked = {i: int(value) for i, value in enumerate(sums)}

    @property
    def ndim(self) -> int:
        """Number of axes, save times included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory if all was read."""
        return self.dtype.itemsize * self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<StoredDensity of shape {self.shape} in {self.path}>"

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("densities in a file cannot become an array without a copy")
        return np.asarray(self[...], dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise AttributeError(
                f"densities in a file have no {name!r}: take a frame, density[i].{name}, "
                f"or read all {self.nbytes / 2**30:.3g} GiB with numpy.asarray(density)"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        if key and isinstance(key[0], (list, np.ndarray)):
            return self._frames(np.asarray(key[0]), key[1:])
        source, after = self._selection(key)
        with self._dataset() as dataset:
            self._check(dataset, source[0])
            # room for frames to come is not part of the array: the selection is within the shape
            values = dataset[source]
        if not after:
            return np.float64(values) if np.ndim(values) == 0 else np.ascontiguousarray(values, dtype=self.dtype)
        return np.ascontiguousarray(np.asarray(values, dtype=self.dtype)[after])

    def _check(self, dataset: h5py.Dataset, which: int | slice) -> None:
        """Refuse frames that are not whole, of those that nobody has looked at."""
        if not self._unchecked:
            return
        for i in [which] if isinstance(which, int) else range(len(self))[which]:
            if i not in self._unchecked:
                continue
            if crc(np.asarray(dataset[i], "<f8")) != self._unchecked[i]:
                raise OSError(
                    f"saved density number {i} of {len(self)} is not whole in {self.path}; load it with thorough=True, "
                    "which takes what is whole before it"
                )
            self._unchecked.pop(i, None)  # another thread may have been here

    def refresh(self) -> None:
        """Take the file as it is now for the right one."""
        self._growing, self._unchecked = False, {}
        self._stamp = file_stamp(self.path)

    # ----- selections

    def _frames(self, which: NDArray[Any], rest: tuple[Any, ...]) -> Array:
        """An array of frame numbers, or of booleans, on the first axis."""
        if which.dtype == bool and which.shape == (len(self),):
            which = np.flatnonzero(which)
        whole = which.size == 0 or which.dtype.kind in "iu"
        if which.ndim != 1 or not whole or any(isinstance(entry, (list, np.ndarray)) for entry in rest):
            raise IndexError("densities in a file take one list of save times, first; read a frame to index it further")
        shape = np.empty(self.shape[1:], dtype=np.void)[rest].shape if not which.size else ()
        frames = [self[(int(i), *rest)] for i in which]
        return np.stack(frames) if frames else np.empty((0, *shape))

    def _selection(self, key: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """What to read of the dataset, and how to index what was read."""
        given = sum(entry is not None and entry is not Ellipsis for entry in key)
        if given > self.ndim:
            raise IndexError(f"too many indices: the densities have {self.ndim} axes, {given} were indexed")
        dots = [i for i, entry in enumerate(key) if entry is Ellipsis]
        if len(dots) > 1:
            raise IndexError("an index can only have a single ellipsis ('...')")
        at = dots[0] if dots else len(key)
        key = (*key[:at], *(slice(None),) * (self.ndim - given), *key[at + 1 :])
        source: list[Any] = []
        after: list[Any] = []
        for entry in key:
            if entry is None:
                after.append(None)
                continue
            length = self.shape[len(source)]
            if isinstance(entry, slice):
                chosen = range(length)[entry]
                after.append(slice(None, None, -1 if chosen.step < 0 else 1))
                if chosen.step < 0:
                    chosen = chosen[::-1]
                source.append(slice(chosen.start, chosen.stop, chosen.step))
                continue
            try:
                if isinstance(entry, (bool, np.bool_)):
                    raise TypeError
                i = operator.index(entry)
            except TypeError:
                raise IndexError(
                    f"densities in a file are indexed with integers, slices and '...', not {entry!r}; "
                    "read a frame to index it further"
                ) from None
            if not -length <= i < length:
                raise IndexError(f"index {i} is out of bounds for axis {len(source)} with size {length}")
            source.append(i % length)
        plain = all(entry is not None and entry.step == 1 for entry in after)
        return tuple(source), () if plain else tuple(after)

    # ----- the file

    def _dataset(self) -> _Opened:
        try:
            stamp = file_stamp(self.path, growing=self._growing)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds the densities of this solution, but it was moved or deleted; "
                "load the solution from where it is now"
            ) from None
        if stamp != self._stamp:
            raise OSError(f"{self.path} holds the densities of this solution, but it was changed; load it again")
        return _Opened(self.path, self.shape)


class _Opened:
    """The densities of a file that is open for as long as a block lasts."""

    def __init__(self, path: str, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape

    def __enter__(self) -> h5py.Dataset:
        self.file = open_file(self.path)
        try:
            dataset = self.file["density"]
            if dataset.shape[0] < self.shape[0] or dataset.shape[1:] != self.shape[1:]:
                raise OSError(f"{self.path} no longer holds the densities of this solution; load it again")
        except BaseException:
            self.file.close()
            raise
        return dataset

    def __exit__(self, *raised: object) -> None:
        self.file.close()
