"""Solutions that are written while they are computed, one saved density at a time.

A run writes its densities into one file from the first save time on. Until it ends, that file holds the head of a
solution, room for all densities, and a group ``unfinished`` with the rest. All of HDF5's own structures are made
before the file gets its name. After that numbers are written to their places in a plain file, and HDF5 is asked only
for a further block of rows, each as long as all before.

Every number has a checksum (`mfpde.mesh.unfinished`), which is written after it. So a kill at any moment leaves a file
that can be read up to its last save time, and a reader knows what a crash of the machine has torn. Between save times
the state goes into one of two slots in turn (a checkpoint), so that one of them is whole whatever happens. At
checkpoints, and once a second at most, numbers are synced to the disk before their checksums are.

When the run ends, the file is written anew beside it, one density at a time, and moved into place. The space for that
is taken at the start: as a tail of the growing file, which is given back the moment it is needed. The same is done
wherever HDF5 writes: it never meets a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.mesh import solution_writer
from mfpde.mesh.record import LEAVING, Beside, Record, Result, State
from mfpde.mesh.unfinished import (
    CHECKPOINT_COLUMNS,
    CHECKPOINT_SUMS,
    COMPANION_COLUMNS,
    FRAME_COLUMNS,
    FRAME_SUMS,
    MEMORIES,
    RowSums,
    head_sums,
)
from mfpde.support.arrays import Array
from mfpde.support.files import SUFFIXES, hdf5
from mfpde.support.files import frames as stored
from mfpde.support.files.frames import StoredDensity, crc, file_stamp
from mfpde.support.files.in_place import NumbersFile

if TYPE_CHECKING:
    import h5py

__all__ = ["Stream"]

Rows = Sequence[float] | NDArray[Any]
Responses = Any  # rows that can be cut: an array, or those of a `Recorder`

_ROWS = 1024
"""Rows of the first block of diagnostics; each next block has twice as many."""
_BLOCKS = 24
_METADATA = 2**16
"""Bytes that HDF5 may need for its own structures when a block is added."""
_REASON = 400
"""Bytes of the text why a companion has ended."""
_SYNC = 1.0
"""Seconds between two densities that are synced to the disk."""
_SAME_MASS = 1e-12
"""Relative difference of the mass of a density and the one that was recorded, which was summed in another order."""


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
        self._file: NumbersFile | None = None
        self._stamp: tuple[int, ...] | None = None  # of this run's file, once there is one
        self._again = False
        self._forget()

    def _forget(self) -> None:
        """Nothing is written yet."""
        self._frames = self._rows = self._checkpoints = self._companions = 0
        self._places: dict[str, tuple[int, int]] = {}  # where a dataset begins in the file, and the bytes of its rows
        self._density_sums: list[int] = []
        self._reason, self._reason_sum = "", crc(np.zeros(_REASON, "<i8"))
        self._reached, self._synced = 0.0, time.perf_counter()

    @property
    def frames(self) -> int:
        """How many densities the file holds."""
        return self._frames

    def check_room(self, frames: int, shape: Sequence[int]) -> None:
        """Refuse a run whose densities do not fit on the disk, in the growing file and in the finished one."""
        cells, free = math.prod(shape), shutil.disk_usage(self._target.parent).free
        needed = 8 * (frames + 2 + frames + 1) * cells
        if needed > free:
            raise OSError(
                f"cannot write {self.path}: {frames} densities and two checkpoints of {cells} cells, and the finished "
                f"file beside them, need {needed / 2**30:.3g} GiB, the disk has {free / 2**30:.3g} GiB left; use fewer "
                "save times or cells"
            )

    # ----- the beginning

    def start(self, first: Record, room: int) -> None:
        """Make the file, with what there is at first.

        Parameters
        ----------
        first : Record
            The run as it is: one saved density and one row of diagnostics, or those of the run that this one goes on.
            Densities in the file that is about to be replaced will do.
        room : int
            How many densities there may be.

        Raises
        ------
        FileFormatError
            If a density is not the one whose mass and minimum were recorded; then nothing has been replaced.
        OSError
            If there is no space for the file and for the finished one beside it.
        """
        target = hdf5.check_target(self._target, overwrite=self._is_mine() if self._again else self._overwrite)
        assert first.result is Result.UNFINISHED
        self._forget()
        self._again = False
        with hdf5.replacing(self.path, target) as temporary:
            self._file = NumbersFile(temporary)
            try:
                self._make(self._file, first, room)
                self._fill(first)
            except BaseException:
                self._frames = 0
                raise
            finally:
                file, self._file = self._file, None
                file.close()  # not every system moves files that are open
        with hdf5.reporting(self.path):
            self._file = NumbersFile(target)
        self._file.end, self._stamp = file.end, self._file.stamp
        self._synced = time.perf_counter()

    def _make(self, file: NumbersFile, first: Record, room: int) -> None:
        """All of HDF5's structures, and the space for them and for the finished file."""
        assert first.errors is not None
        cells, companion = first.grid.shape, None if first.companion is None else first.companion.mu.shape
        self._columns = list(first.diagnostics)
        self._width = len(self._columns) + first.response.shape[1]
        self._row_sums = RowSums(self._arrival())
        blocks = next(i for i in range(1, _BLOCKS + 1) if _ROWS * (2**i - 1) > len(first.diagnostics["time"]))
        tables = {
            "count": np.zeros(2, "<i8"),
            "frames": np.zeros((room, len(FRAME_COLUMNS) + MEMORIES), "<f8"),
            "frame_sums": np.zeros((room, len(FRAME_SUMS)), "<f8"),
            "checkpoints": np.zeros((2, len(CHECKPOINT_COLUMNS) + MEMORIES + len(CHECKPOINT_SUMS)), "<f8"),
            "errors": np.full((room, first.errors.table().shape[1]), np.nan, "<f8"),
            "reason": np.zeros(_REASON, "<i8"),
            "errors_unseen": np.asarray(first.errors.unseen, "<f8"),
        }
        if companion is not None:
            tables["companions"] = np.zeros((2, len(COMPANION_COLUMNS) + MEMORIES), "<f8")
        final = solution_writer.room_for(first, room, _ROWS * (2**blocks - 1))
        states = math.prod(cells) + (0 if companion is None else math.prod(companion))
        file.begin(2 * final + 8 * states + sum(table.nbytes for table in tables.values()))
        with file.hdf5() as head:
            axes = [scale.name for scale in solution_writer.write_head(first, head)]
            density = _density(head, "density", room, cells)
            solution_writer.describe_density(density, first)
            group = head.create_group("unfinished")
            group.attrs["columns"] = hdf5.texts(self._columns)
            group.attrs["integers"] = hdf5.texts([n for n, v in first.diagnostics.items() if v.dtype.kind == "i"])
            group.attrs["departure"] = hdf5.texts([name for name in self._columns if name in LEAVING])
            made = {name: group.create_dataset(name, data=table) for name, table in tables.items()}
            made |= {"density": density, "checkpoint_mu": _density(group, "checkpoint_mu", 2, cells)}
            if companion is not None:
                made["companion_mu"] = _density(group, "companion_mu", 2, companion)
            for i in range(_BLOCKS):
                # these get their places when they are needed, which HDF5 notes in one write
                shape = (_ROWS << i, self._width)
                block = group.create_dataset(f"rows_{i:02d}", shape=shape, dtype="<f8", fill_time="never")
                if i < blocks:
                    block[-1] = np.nan
                    made[f"rows_{i:02d}"] = block
            group.attrs["checksums"] = hdf5.as_toml(head_sums(head, [name.lstrip("/") for name in axes]))
            self._places = {name: _place(dataset) for name, dataset in made.items()}

    def _arrival(self) -> NDArray[np.bool_]:
        """Which columns of a row are known when a state arrives."""
        return np.array([i >= len(self._columns) or self._columns[i] not in LEAVING for i in range(self._width)])

    def _fill(self, first: Record) -> None:
        """Write what there is at first."""
        assert first.errors is not None
        times = first.diagnostics["time"]
        counts = np.searchsorted(times, first.times, side="right")
        values = self._row_values(first.diagnostics, first.response, 0, len(times))
        row_sums, errors = RowSums(self._arrival()), first.errors.table()
        for i, (t, count) in enumerate(zip(first.times.tolist(), counts.tolist(), strict=True)):
            mu = np.ascontiguousarray(first.density[i], "<f8")
            _check_frame(mu, first, t, count - 1)
            if i + 1 == len(counts) and t == first.state.t:
                known = {"energy": first.energy[i], **first.stats}
                said = _record(FRAME_COLUMNS, first.state, known)
            else:  # a run cannot go on from there: what is needed for that was kept of its last state alone
                said = [t, first.energy[i], *[math.nan] * (len(FRAME_COLUMNS) - 2)]
            sums = row_sums.of(values, 0, count)
            assert sums is not None
            self._put_frame(mu, said, errors[i])
            self._put_frame_sums(count, sums)
        if first.companion is not None:
            self._put_companion(Beside(errors[-1], first.companion, ""))
        sums = self._put_rows(first.diagnostics, first.response)
        self._put_count()
        for _ in range(2):  # damage of one costs nothing
            self._put_checkpoint(first.state, first.diagnostics, first.stats, sums)
        self._reached = first.state.t

    def start_again(self) -> None:
        """Forget what was written: the next `start` replaces it."""
        self.close()
        self._again = True

    # ----- what is written while the run goes on

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
            All diagnostics so far.
        responses : sequence of array
            All responses so far.
        stats : mapping
            ``evaluations`` and ``leak`` so far.
        beside : Beside
            The estimated errors, and the state of the run that they are estimated with.

        Raises
        ------
        OSError
            If the disk is full, or fails: the message says up to where the file is whole.
        """
        with self._reporting():
            sums = self._put_rows(rows, responses)
            self._put_companion(beside)
            said = _record(FRAME_COLUMNS, state, {"energy": rows["energy"][-1], **stats})
            self._put_frame(state.mu, said, beside.errors)
            due = time.perf_counter() - self._synced > _SYNC
            if due:
                self._sync()
            self._put_frame_sums(self._rows, sums)
            if due:
                self._sync()
            self._reached = state.t
            self._put_count()

    def checkpoint(
        self,
        state: State,
        rows: Mapping[str, Rows],
        responses: Responses,
        stats: Mapping[str, Any],
        beside: Beside,
    ) -> None:
        """Write a state between save times, and the diagnostics that led to it; parameters and errors as for `add`."""
        with self._reporting():
            sums = self._put_rows(rows, responses)
            self._put_companion(beside)
            self._put_checkpoint(state, rows, stats, sums, sync=True)
        self._reached = state.t

    def _put(self, name: str, row: int, values: Any, column: int = 0) -> None:
        """Write numbers into a dataset, from a row and a column on."""
        assert self._file is not None
        first, width = self._places[name]
        self._file.put(first + row * width + 8 * column, np.asarray(values, None if name == "count" else "<f8"))

    def _put_frame(self, mu: Array, said: list[float], errors: Array) -> None:
        """Write the next density and what goes with it; it counts when its checksums are there."""
        self._put("density", self._frames, mu)
        record = np.zeros(len(FRAME_COLUMNS) + MEMORIES)
        record[: len(said)] = said
        self._put("frames", self._frames, record)
        self._put("errors", self._frames, errors)
        self._density_sums.append(crc(mu))
        self._frame_sums = [self._density_sums[-1], crc(np.asarray(errors, np.float64)), crc(record)]

    def _put_frame_sums(self, rows: int, sums: tuple[int, int]) -> None:
        """Make the next density count."""
        row = np.array([0.0, *self._frame_sums, rows, *sums, self._reason_sum])
        self._put("frame_sums", self._frames, row[1:], column=1)
        self._put("frame_sums", self._frames, [crc(row[1:])])
        self._frames += 1

    def _put_count(self) -> None:
        """Say what there is to versions that do not know of checksums."""
        self._put("count", 0, np.array([self._frames, self._rows], "<i8"))

    def _put_companion(self, beside: Beside) -> None:
        """Write a state of the companion beside the one before, from which it goes on where this is not whole.

        Of one that has ended why it has: a run that goes on has no other.
        """
        if beside.reason and beside.reason != self._reason:
            said = np.zeros(_REASON, "<i8")
            text = np.frombuffer(beside.reason.encode()[:_REASON], np.uint8)
            said[: text.size] = text
            assert self._file is not None
            self._file.put(self._places["reason"][0], said)
            self._reason, self._reason_sum = beside.reason, crc(said)
        if (state := beside.state) is not None:
            self._put_slot("companions", self._companions % 2, state, COMPANION_COLUMNS, {}, ())
            self._companions += 1

    def _put_checkpoint(
        self,
        state: State,
        rows: Mapping[str, Rows],
        stats: Mapping[str, Any],
        sums: tuple[int, int],
        *,
        sync: bool = False,
    ) -> None:
        known = {"energy": rows["energy"][-1], **stats, "frames": self._frames, "rows": self._rows}
        after = (*sums, self._reason_sum)
        self._put_slot("checkpoints", self._checkpoints % 2, state, CHECKPOINT_COLUMNS, known, after, sync=sync)
        self._checkpoints += 1

    def _put_slot(
        self,
        table: str,
        slot: int,
        state: State,
        columns: Sequence[str],
        known: Mapping[str, float],
        after: Sequence[float],
        *,
        sync: bool = False,
    ) -> None:
        """Write a state into one of two slots. It does not count from its first number to its last."""
        given = _record(columns, state, {**known, "checksum": crc(state.mu)})
        values = np.zeros(len(columns) + MEMORIES + len(after))
        values[: len(given)] = given
        values[len(columns) + MEMORIES :] = after
        self._put(table, slot, [0.0])
        self._put(f"{table[:-1]}_mu", slot, state.mu)
        if sync:
            self._sync()
        self._put(table, slot, values[1:], column=1)
        self._put(table, slot, [crc(values[1:])])
        if sync:
            self._sync()

    def _sync(self) -> None:
        assert self._file is not None
        self._file.sync()
        self._synced = time.perf_counter()

    def _row_values(self, rows: Mapping[str, Rows], responses: Responses, first: int, last: int) -> Array:
        values = np.empty((last - first, self._width), "<f8")
        for i, name in enumerate(self._columns):
            values[:, i] = rows[name][first:last]
        values[:, len(self._columns) :] = responses[first:last]
        return values

    def _put_rows(self, rows: Mapping[str, Rows], responses: Responses) -> tuple[int, int]:
        """Write the rows that are new, and the one before, which is complete by now; returns their checksums."""
        first, last = max(self._rows - 1, 0), len(rows["time"])
        values = self._row_values(rows, responses, first, last)
        start, i = 0, 0  # of the block
        while start < last:
            stop = start + (_ROWS << i)
            low, high = max(first, start), min(last, stop)
            if low < high:
                if f"rows_{i:02d}" not in self._places:
                    self._add_block(i)
                self._put(f"rows_{i:02d}", low - start, values[low - first : high - first])
            start, i = stop, i + 1
        self._rows = last
        sums = self._row_sums.of(values, first, last)
        assert sums is not None
        return sums

    def _add_block(self, i: int) -> None:
        """Give a block of rows its place in the file, which becomes longer by it before HDF5 notes that."""
        file, size = self._file, 8 * self._width * (_ROWS << i)
        assert file is not None
        # and the finished file as well, which has a number more in each row
        file.reserve(file.size + 2 * size + 8 * (_ROWS << i) + _METADATA)
        file.sync()
        with file.hdf5() as head:
            block = head[f"unfinished/rows_{i:02d}"]
            block[-1] = np.nan
            self._places[f"rows_{i:02d}"] = _place(block)
        file.sync()

    # ----- the end

    def finish(self, solution: Record) -> None:
        """Write the finished file in the place of the growing one, and give the solution its densities.

        Raises
        ------
        OSError
            If that fails. The growing file still holds all that was saved, and the message says where it is.

        Notes
        -----
        A file that was moved during the run is completed where it is now, as far as the system tells. One that was
        deleted is written anew unless another has its name by then. Where neither can be done, a warning of the
        solution says so, and nothing is replaced.
        """
        file, shape = self._file, (len(solution.times), *solution.grid.shape)
        assert file is not None
        assert len(solution.times) == self._frames
        small = 8 * math.prod(shape) <= stored.IN_MEMORY
        with self._reporting():
            self._put_rows(solution.diagnostics, solution.response)
            where, deleted = file.place(self._target), file.deleted
            if where is None and deleted and not self._target.exists():
                where = self._target
            file.cut(file.end)
            saved = _SavedFrames(file, self._places["density"][0], shape, self._density_sums, self.close)
            solution.density = saved[:] if small else saved  # type: ignore[assignment]  # until it is written
            if where is None:
                solution.warnings.append(
                    f"{self._target} was deleted during the run, and another file has its name by now, which stays as "
                    "it is: this run has no file"
                    if deleted
                    else f"{self._target} was moved during the run, and is not found again: where it is now, it holds "
                    "all that was saved, and mfpde.resume completes it"
                )
                if not small:  # whoever asks for them is told
                    solution.density = StoredDensity(self._target, shape, growing=True, stamp=file.stamp)
                self.close()
                return
            self._target = where
            solution_writer.save(solution, where)
        self._stamp = file_stamp(where, growing=True)
        if not small:
            solution.density = StoredDensity(where, shape)

    def keep(self, solution: Record) -> None:
        """Write a solution that was not streamed, or that has been changed since."""
        self.close()
        hdf5.check_target(self._target, overwrite=self._overwrite if self._stamp is None else self._is_mine())
        solution.configuration = {**self.configuration, **solution.configuration}
        solution_writer.save(solution, self._target)
        self._stamp = file_stamp(self._target, growing=True)

    def _is_mine(self) -> bool:
        """Whether the file under the name is the one that was made here; another may have taken its place."""
        try:
            return file_stamp(self._target, growing=True) == self._stamp
        except OSError:
            return False

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Say of a failure to write what is left."""
        try:
            with hdf5.reporting(self.path):
                yield
        except OSError as error:
            where = self._file.place(self._target) if self._file is not None else None
            raise type(error)(
                f"{error}; {where or self._target} holds the run up to t = {self._reached:g}, from where mfpde.resume "
                "goes on"
            ) from None

    def close(self) -> None:
        """Let go of the file, and of the space for the finished one."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.cut(file.end)
            finally:
                file.close()

    def abandon(self) -> None:
        """Let go of the file as it is, after something has failed."""
        with contextlib.suppress(OSError):  # a disk that fails has said so before
            self.close()


class _SavedFrames:
    """The densities of a growing file, while the finished one is written: each is what was written, or an `OSError`.

    After the last one the growing file is let go: not every system replaces a file that is open.
    """

    def __init__(
        self, file: NumbersFile, first: int, shape: tuple[int, ...], sums: Sequence[int], done: Callable[[], None]
    ) -> None:
        self.shape = shape
        self._file, self._first, self._sums, self._done = file, first, sums, done

    def __getitem__(self, which: slice) -> Array:
        low, high, _ = which.indices(self.shape[0])
        size = 8 * math.prod(self.shape[1:])
        values = self._file.get(self._first + low * size, (high - low, *self.shape[1:]))
        for i, mu in enumerate(values, low):
            if crc(mu) != self._sums[i]:
                raise OSError(errno.EIO, f"the disk does not give back what was written as saved density {i}")
        if high == self.shape[0]:
            self._done()
        return values


def _check_frame(mu: Array, first: Record, t: float, row: int) -> None:
    """Refuse a density that is copied from another file and is not the one that was recorded there."""
    mass, least = float(mu.sum()) * first.grid.cell_volume, float(mu.min())
    recorded = float(first.diagnostics["mass"][row]), float(first.diagnostics["minimum"][row])
    if not (abs(mass - recorded[0]) <= _SAME_MASS * abs(recorded[0]) and least == recorded[1]):
        raise hdf5.FileFormatError(
            f"the saved density at t = {t:g} has mass {mass!r} and minimum {least!r}, but {recorded[0]!r} and "
            f"{recorded[1]!r} were recorded: it has changed since, and the run does not go on"
        )


def _record(columns: Sequence[str], state: State, known: Mapping[str, float]) -> list[float]:
    """What goes with a density so that a run can go on from it; the controller's memory follows."""
    memory, length = list(state.memory), state.length
    if len(memory) > MEMORIES:
        memory, length = [], None
    found = {
        **known,
        "record": 0.0,
        "time": state.t,
        "steps": state.n_steps,
        "length": math.nan if length is None else length,
        "memories": len(memory),
    }
    return [float(found[name]) for name in columns] + memory


def _place(dataset: h5py.Dataset) -> tuple[int, int]:
    """Where the numbers of a dataset begin in the file, and how many bytes an entry along its first axis has."""
    return dataset.id.get_offset(), 8 * math.prod(dataset.shape[1:])


def _density(group: h5py.Group, name: str, room: int, shape: tuple[int, ...]) -> h5py.Dataset:
    """Room for densities: all of it has its place at once, and no zeros are written there."""
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((room, *shape))
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F64LE, space, plan))
