"""Files whose numbers are written in place, and disk space that is taken before anything is written.

HDF5 keeps what it could not write, and a process that ends with such a file open may crash. So the space is taken
first, by the system's own call, and HDF5 only writes where there is space for certain.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.support.files.frames import file_stamp

if TYPE_CHECKING:
    import h5py

__all__ = ["NumbersFile", "hdf5_with_room", "reserve"]

_CANNOT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What a file system says that cannot reserve space."""


def reserve(descriptor: int, size: int) -> None:
    """Take disk space for a file of `size` bytes; one that is longer stays as it is.

    Where the system or the file system cannot do that (macOS, Windows, some network drives), a full disk is noticed
    when it is written to.

    Parameters
    ----------
    descriptor : int
        Of a file that is open for writing.
    size : int
        Bytes.

    Raises
    ------
    OSError
        If there is no such space. The file is then as long as it was.
    """
    before = os.fstat(descriptor).st_size
    if not hasattr(os, "posix_fallocate") or size <= before:
        return
    try:
        # not what is there already: where the file system has no such call, the C library goes through all blocks
        os.posix_fallocate(descriptor, before, size - before)
    except OSError as error:
        if error.errno in _CANNOT:
            return
        os.ftruncate(descriptor, before)  # what it got before the disk was full
        raise OSError(error.errno, f"{error.strerror} for {size} bytes") from None


@contextlib.contextmanager
def hdf5_with_room(path: str | os.PathLike[str], size: int) -> Iterator[h5py.File]:
    """A new HDF5 file in the place of an empty one, open for a block, with disk space for `size` bytes.

    After the block the file is as long as what was written.

    Raises
    ------
    OSError
        If there is no such space; then HDF5 has not been asked to write anything.
    """
    import h5py

    with open(path, "r+b", buffering=0) as file:
        _begin(file, size)
    # no lock: nobody else knows the file yet, and some network drives cannot lock
    with h5py.File(path, "r+", locking=False) as file:
        yield file


def _begin(file: io.FileIO, size: int) -> None:
    """Make an empty file one of HDF5, with disk space for `size` bytes."""
    import h5py

    empty = io.BytesIO()
    h5py.File(empty, "w").close()
    file.write(empty.getvalue())
    reserve(file.fileno(), size)


class NumbersFile:
    """A file that is there, open for numbers that are written at their offsets: nothing is buffered.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    stamp : tuple of int
        What `file_stamp` says of it while it grows.
    end : int
        Where HDF5's own part ends, in bytes; known once `hdf5` has been used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  # closed by `close`
        self._process = os.getpid()
        status = os.fstat(self._file.fileno())
        self.stamp = (status.st_dev, status.st_ino)
        self.end = status.st_size

    def begin(self, size: int) -> None:
        """Make an empty file one of HDF5, with disk space for `size` bytes.

        Raises
        ------
        OSError
            If there is no such space.
        """
        _begin(self._file, size)

    @property
    def size(self) -> int:
        """How long the file is, in bytes."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def deleted(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def put(self, offset: int, values: NDArray[Any]) -> None:
        """Write numbers at an offset in bytes.

        Raises
        ------
        OSError
            If the disk is full, or fails; or in a forked child, which must leave the file to its parent.
        """
        if os.getpid() != self._process:
            raise OSError(errno.EPERM, f"process {self._process} writes it, of which this one is a fork")
        left = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        self._file.seek(offset)
        while left:
            left = left[self._file.write(left) :]

    def get(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Read doubles at an offset in bytes.

        Raises
        ------
        OSError
            If the file ends before them.
        """
        values = np.empty(shape, dtype="<f8")
        left = values.reshape(-1).view(np.uint8).data
        self._file.seek(offset)
        while left:
            count = self._file.readinto(left)
            if not count:
                raise OSError(errno.EIO, "the file has become shorter")
            left = left[count:]
        return values

    def sync(self) -> None:
        """Wait until what was written has reached the disk."""
        getattr(os, "fdatasync", os.fsync)(self._file.fileno())

    def reserve(self, size: int) -> None:
        """Take disk space up to `size` bytes, see `reserve`."""
        reserve(self._file.fileno(), size)

    def cut(self, size: int) -> None:
        """Give back what lies beyond `size` bytes. A forked child does not: it cannot know how long the file is now."""
        if os.getpid() == self._process and self.size > size:
            os.ftruncate(self._file.fileno(), size)

    def place(self, first: Path) -> Path | None:
        """Where the file lies now, looked for at `first`; None where it is not found.

        A file that was moved is found on Linux; on other systems a file that is open cannot be moved (Windows) or
        followed (macOS).
        """
        for path in (first, Path(f"/proc/self/fd/{self._file.fileno()}")):
            with contextlib.suppress(OSError):
                path = path.resolve() if path == first else Path(os.readlink(path))
                if file_stamp(path, growing=True) == self.stamp:
                    return path
        return None

    @contextlib.contextmanager
    def hdf5(self) -> Iterator[h5py.File]:
        """The same file as HDF5 for a block, whatever its name is by now. It does not become shorter by that."""
        import h5py

        with _Lasting(os.dup(self._file.fileno()), "r+") as raw:
            with h5py.File(raw, "r+") as file:
                yield file
            self.end = raw.end

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class _Lasting(io.FileIO):
    """A file that does not become shorter: HDF5 would cut off what lies beyond its own end, which is noted instead."""

    end = 0

    def truncate(self, size: int | None = None) -> int:
        self.end = size or 0
        length = os.fstat(self.fileno()).st_size
        return length if size is not None and size <= length else super().truncate(size)
