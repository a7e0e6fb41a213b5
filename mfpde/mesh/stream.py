"""Solutions that are written while they are computed, one saved density at a time.

A run writes its densities into one file from the first save time on. Until it ends, that file holds the head of a
solution, room for all densities, and a group ``unfinished`` with the rest. All of HDF5's own structures are made
before the file gets its name; after that only numbers are written, and two counts say how many of them are whole, set
after the numbers have left the process. So a kill at any moment leaves a file that can be read up to its last save
time. Flushing alone does not give that: a kill between two writes of one flush leaves structures that contradict each
other.

Between save times the state goes into one of two slots in turn (a checkpoint), each with a checksum, so that one of
them is whole whatever happens. Checkpoints are synced to the disk, and densities once a second at most, so that a crash
of the machine costs what came after the last of them.

When the run ends, the file is written anew, one density at a time, and moved into place, like any other solution. Only
where the disk has no room for that it is completed in place, with the same content; then a kill in the few
milliseconds of its last flush would lose it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.mesh import solution_writer
from mfpde.mesh.record import Beside, Record, Result, State
from mfpde.support.files import SUFFIXES, hdf5
from mfpde.support.files import frames as stored
from mfpde.support.files.frames import StoredDensity, file_stamp

if TYPE_CHECKING:
    import h5py

__all__ = ["Stream"]

Rows = Sequence[float] | NDArray[Any]
Responses = Any  # rows that can be cut: an array, or those of a `Recorder`

_CHUNK = 2**16
"""Bytes of frames that lie together, where frames are smaller."""
_LARGEST_CHUNK = 2**30
"""HDF5 limits a chunk to 4 GiB; a frame beyond this is cut along its first axis."""
ROOM_LEFT = 2**30
"""Bytes that stay free on a disk on which a file is written a second time."""
_ROWS = 1024
"""Rows of the first block of diagnostics; each next block has twice as many."""
_BLOCKS = 24
_MEMORIES = 8
"""Numbers that a controller may remember. More are not kept: a run that goes on then finds its step anew."""
_METADATA = 2**16
"""Bytes that HDF5 may need for its own structures besides the numbers of a block."""
_REASON = 400
"""Bytes of the text why a companion has ended."""
_SYNC = 1.0
"""Seconds between two densities that are synced to the disk."""


class Stream:
    """A solution's file that a run writes as it goes; ``mfpde.solve(..., output=Stream(...))``.

    A path does for `solve`; this adds what else should stand in the configuration.

    Parameters
    ----------
    path : path
        The file, ``.h5`` or ``.hdf5``; its folder must exist.
    overwrite : bool
        Whether a file that is there may be replaced. It stays until the first density is written.
    configuration : mapping, optional
        Plain values for ``solution.configuration``, such as where data came from.

    Raises
    ------
    OSError
        If there could not be such a file, or one is there already.
    ValueError
        For another suffix.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"output = {str(path)!r} must end in {' or '.join(SUFFIXES)}")
        self.configuration = dict(configuration or {})
        self._overwrite = overwrite
        self._target = hdf5.check_target(self.path, overwrite=overwrite)
        if not os.access(self._target.parent, os.W_OK):
            raise PermissionError(f"cannot write {path}: the folder {self._target.parent} cannot be written to")
        self._file: h5py.File | None = None
        self._frames = self._rows = self._checkpoints = self._companions = 0
        self._synced = 0.0

    @property
    def frames(self) -> int:
        """How many densities the file holds."""
        return self._frames

    def check_room(self, frames: int, shape: Sequence[int]) -> None:
        """Refuse a run whose densities do not fit on the disk."""
        needed, free = 8 * (frames + 2) * math.prod(shape), shutil.disk_usage(self._target.parent).free
        if needed > free:
            raise OSError(
                f"cannot write {self.path}: {frames} densities and two checkpoints of {math.prod(shape)} cells need "
                f"{needed / 2**30:.3g} GiB, the disk has {free / 2**30:.3g} GiB left; use fewer save times or cells"
            )

    def start(self, first: Record, room: int) -> None:
        """Make the file, with what there is at first.

        Parameters
        ----------
        first : Record
            The run as it is: one saved density and one row of diagnostics, or those of the run that this one goes on.
            Densities in the file that is about to be replaced will do.
        room : int
            How many densities there may be.
        """
        import h5py

        target = hdf5.check_target(self.path, overwrite=self._overwrite)
        assert first.result is Result.UNFINISHED
        self._frames = self._rows = self._checkpoints = self._companions = 0
        self._columns = list(first.diagnostics)
        self._integers = [name for name, values in first.diagnostics.items() if values.dtype.kind == "i"]
        with hdf5.replacing(self.path, target) as temporary, h5py.File(temporary, "w", locking=False) as file:
            solution_writer.write_head(first, file)
            solution_writer.describe_density(_density(file, "density", room, first.grid.shape), first)
            group = file.create_group("unfinished")
            group.attrs["columns"] = hdf5.texts(self._columns)
            group.attrs["integers"] = hdf5.texts(self._integers)
            group.create_dataset("count", data=np.zeros(2), dtype="<i8")
            # written once, so that it has its place in the file
            table = np.zeros((room, len(solution_writer.FRAME_COLUMNS) + _MEMORIES))
            saves = len(first.times)
            table[:saves, :2] = np.column_stack([first.times, first.energy])
            group.create_dataset("frames", data=table, dtype="<f8")
            width = len(solution_writer.CHECKPOINT_COLUMNS) + _MEMORIES
            group.create_dataset("checkpoints", data=np.zeros((2, width)), dtype="<f8")
            _density(group, "checkpoint_mu", 2, first.grid.shape)
            assert first.errors is not None
            table = np.full((room, first.errors.table().shape[1]), np.nan)
            table[:saves] = first.errors.table()
            group.create_dataset("errors", data=table, dtype="<f8")
            group.create_dataset("reason", data=np.zeros(_REASON), dtype="<i8")
            group.create_dataset("errors_unseen", data=first.errors.unseen, dtype="<f8")
            if first.companion is not None:
                width = len(solution_writer.COMPANION_COLUMNS) + _MEMORIES
                group.create_dataset("companions", data=np.zeros((2, width)), dtype="<f8")
                _density(group, "companion_mu", 2, first.companion.mu.shape)
                self._put_companion(group, Beside(first.errors.table()[-1], first.companion, ""))
            width = len(self._columns) + first.response.shape[1]
            for i in range(_BLOCKS):
                # these get theirs when they are written first, which HDF5 notes in one write
                group.create_dataset(f"rows_{i:02d}", shape=(_ROWS << i, width), dtype="<f8", fill_time="never")
            for i in range(saves):
                file["density"][i] = first.density[i]
            self._frames = saves
            self._put_rows(group, first.diagnostics, first.response)
            self._commit(file)
            self._put_checkpoint(file, first.state, first.diagnostics, first.stats)
            file.close()
            _reserve(temporary)
        with hdf5.reporting(self.path):
            self._target, self._file = target, h5py.File(target, "r+", locking=False)
            self._stamp = file_stamp(target, growing=True)
        self._synced = time.perf_counter()

    def start_again(self) -> None:
        """Forget what was written: the next `start` replaces it."""
        self.close()
        self._overwrite = True

    def add(
        self,
        state: State,
        rows: Mapping[str, Rows],
        responses: Responses,
        stats: Mapping[str, Any],
        beside: Beside,
    ) -> None:
        """Write a density, and the diagnostics since the one before.

        Parameters
        ----------
        state : State
        rows : mapping of list
            All diagnostics so far. A column may lack the last state, whose departure is not known yet.
        responses : sequence of array
            All responses so far.
        stats : mapping
            ``evaluations`` and ``leak`` so far.
        beside : Beside
            The estimated errors, and the state of the run that they are estimated with.
        """
        file = self._file
        assert file is not None
        with hdf5.reporting(self.path):
            group = file["unfinished"]
            self._put_rows(group, rows, responses)
            self._put_companion(group, beside)
            group["errors"][self._frames] = beside.errors
            file["density"][self._frames] = state.mu
            values = _record(solution_writer.FRAME_COLUMNS, state, {"energy": rows["energy"][-1], **stats})
            group["frames"][self._frames, : len(values)] = values
            self._frames += 1
            self._commit(file)
            if time.perf_counter() - self._synced > _SYNC:
                self._sync()

    def checkpoint(
        self,
        state: State,
        rows: Mapping[str, Rows],
        responses: Responses,
        stats: Mapping[str, Any],
        beside: Beside,
    ) -> None:
        """Write a state between save times, and the diagnostics that led to it; parameters as for `add`."""
        file = self._file
        assert file is not None
        with hdf5.reporting(self.path):
            self._put_rows(file["unfinished"], rows, responses)
            self._put_companion(file["unfinished"], beside)
            self._put_checkpoint(file, state, rows, stats)
            self._sync()

    def _put_companion(self, group: h5py.Group, beside: Beside) -> None:
        """Write a state of the companion beside the one before, from which it goes on where this is not whole.

        Of one that has ended why it has: a run that goes on has no other.
        """
        if beside.reason:
            said = np.frombuffer(beside.reason.encode()[:_REASON], np.uint8)
            group["reason"][: said.size] = said
        if (state := beside.state) is None:
            return
        slot = self._companions % 2
        group["companion_mu"][slot] = state.mu
        values = np.zeros(len(solution_writer.COMPANION_COLUMNS) + _MEMORIES)
        given = _record(solution_writer.COMPANION_COLUMNS, state, {"checksum": hdf5.crc(state.mu)})
        values[: len(given)] = given
        values[0] = hdf5.crc(values[1:])
        group["companions"][slot] = values
        self._companions += 1

    def _put_checkpoint(
        self, file: h5py.File, state: State, rows: Mapping[str, Rows], stats: Mapping[str, Any]
    ) -> None:
        group, slot = file["unfinished"], self._checkpoints % 2
        group["checkpoint_mu"][slot] = state.mu
        file.flush()
        # the record makes it valid: what it speaks of has to be on the disk before
        if self._file is not None:
            self._sync()
        known = {"frames": self._frames, "rows": self._rows, "checksum": hdf5.crc(state.mu)}
        values = np.zeros(len(solution_writer.CHECKPOINT_COLUMNS) + _MEMORIES)
        found = {"energy": rows["energy"][-1], **stats, **known}
        given = _record(solution_writer.CHECKPOINT_COLUMNS, state, found)
        values[: len(given)] = given
        values[0] = hdf5.crc(values[1:])
        group["checkpoints"][slot] = values
        file.flush()
        self._checkpoints += 1

    def _sync(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # it may have been moved during the run
            hdf5.sync(self._target)
        self._synced = time.perf_counter()

    def _put_rows(self, group: h5py.Group, rows: Mapping[str, Rows], responses: Responses) -> None:
        first, last = max(self._rows - 1, 0), len(rows["time"])  # the last row that was written is whole by now
        columns = [np.asarray(rows[name][first:last], dtype=np.float64) for name in self._columns]
        values = np.column_stack([*columns, np.asarray(responses[first:last]).reshape(last - first, -1)])
        start, i = 0, 0  # of the block
        while start < last:
            stop = start + (_ROWS << i)
            low, high = max(first, start), min(last, stop)
            if low < high:
                block = group[f"rows_{i:02d}"]
                if not block.id.get_storage_size():
                    if self._file is not None:
                        _reserve(self._target, 8 * block.size + _METADATA)
                    # the file must be as long as it says before it says so
                    block[-1] = np.nan
                block[low - start : high - start] = values[low - first : high - first]
            start, i = stop, i + 1
        self._rows = last

    def _commit(self, file: h5py.File) -> None:
        file.flush()  # what is counted is there before it is counted
        file["unfinished/count"][:] = self._frames, self._rows
        file.flush()

    def finish(self, solution: Record) -> None:
        """Complete the file, and give the solution its densities.

        Raises
        ------
        OSError
            If that fails. The file still holds all that was saved.

        Notes
        -----
        A file that was moved during the run is completed where it is now; one that was deleted is lost.
        """
        file, shape = self._file, (len(solution.times), *solution.grid.shape)
        assert file is not None
        assert len(solution.times) == self._frames
        with hdf5.reporting(self.path):
            self._put_rows(file["unfinished"], solution.diagnostics, solution.response)
            self._commit(file)
            size = 8 * math.prod(shape)
            if size <= stored.IN_MEMORY:
                solution.density = file["density"][: self._frames]
                self.close()
                solution_writer.save(solution, self.path)
                return
            solution.density = StoredDensity(self._target, shape, growing=True, stamp=self._stamp)
            here = self._has_its_name()
            if here and shutil.disk_usage(self._target.parent).free > size + ROOM_LEFT:
                self.close()
                solution_writer.save(solution, self.path)
                return
            solution_writer.write(solution, file)
            file.flush()
            del file["unfinished"]
            self.close()
            if here:
                hdf5.sync(self._target)
                solution.density.refresh()

    def keep(self, solution: Record) -> None:
        """Write a solution that was not streamed, or that has been changed since."""
        self.close()
        hdf5.check_target(self.path, overwrite=self._overwrite or self._frames > 0)
        solution.configuration = {**self.configuration, **solution.configuration}
        solution_writer.save(solution, self.path)

    def _has_its_name(self) -> bool:
        """Whether the file still has its name: it may have been moved, deleted or replaced during the run."""
        try:
            return file_stamp(self._target, growing=True) == self._stamp
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def abandon(self) -> None:
        """Let go of the file as it is, after something has failed."""
        with contextlib.suppress(OSError, RuntimeError):  # a disk that is full has said so before
            self.close()


def _reserve(path: Path, more: int = 0) -> None:
    """Take the disk space of a file, and of what it will grow by, before HDF5 writes there.

    A write that fails for want of space leaves HDF5 with what it cannot write, up to a crash when the process ends.
    """
    if not hasattr(os, "posix_fallocate"):  # not on every system: then a full disk is noticed later
        return
    with contextlib.suppress(FileNotFoundError):  # it may have been moved during the run
        file = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(file, 0, os.fstat(file).st_size + more)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system that cannot
                raise
        finally:
            os.close(file)


def _record(columns: Sequence[str], state: State, known: Mapping[str, float]) -> list[float]:
    """What goes with a density so that a run can go on from it; the controller's memory follows."""
    memory, length = list(state.memory), state.length
    if len(memory) > _MEMORIES:
        memory, length = [], None
    found = {
        "record": 0.0,
        "time": state.t,
        "steps": state.n_steps,
        "length": math.nan if length is None else length,
        "memories": len(memory),
        **known,
    }
    return [float(found[name]) for name in columns] + memory


def _density(group: h5py.Group, name: str, room: int, shape: tuple[int, ...]) -> h5py.Dataset:
    """Room for densities: all of it has its place at once, and no zeros are written there."""
    import h5py

    frame = 8 * math.prod(shape)
    rows = min(shape[0], max(1, _LARGEST_CHUNK // (frame // shape[0])))
    chunk = (min(room, max(1, _CHUNK // frame)), rows, *shape[1:])
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(chunk)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((room, *shape))
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F64LE, space, plan))
