"""Reads what a run has left that was killed, or is still going on: the newest state of which everything is whole.

Nothing counts without its checksum (`mfpde.mesh.unfinished`), except in files of early versions, which have none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.description.stored import read_description
from mfpde.equation.grid import Grid, half
from mfpde.equation.plain_attributes import PLAIN, plain_changed, read_plain
from mfpde.mesh.record import Errors, Record, Result, State, run_stats
from mfpde.mesh.solution_parts import PartsReader
from mfpde.mesh.solution_writer import DIAGNOSTICS
from mfpde.mesh.unfinished import (
    CHECKPOINT_COLUMNS,
    CHECKPOINT_SUMS,
    COMPANION_COLUMNS,
    FRAME_COLUMNS,
    FRAME_SUMS,
    MEMORIES,
    NOT_WHOLE,
    RowSums,
    head_sums,
)
from mfpde.support.arrays import Array
from mfpde.support.files.frames import StoredDensity, crc
from mfpde.support.files.hdf5 import FileFormatError, as_numbers, frames_at_once
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

__all__ = ["UnfinishedReader"]


class _Slot(NamedTuple):
    """One of two places for a state.

    Attributes
    ----------
    name : str
        What it is called where it is not whole.
    said : dict
        What is said about it, by the columns of its table.
    memory : array
        What the controller remembers.
    mu : array
        Its density.
    """

    name: str
    said: dict[str, Any]
    memory: Array
    mu: Array


class _Newest(NamedTuple):
    """The state that is taken.

    Attributes
    ----------
    frames : int
        How many saved densities come with it.
    density : array or StoredDensity
        These.
    said : dict
        What is said about the state, by the names of columns, its ``rows`` among it.
    memory : array
        What the controller remembers.
    mu : array or None
        Its density; None where it is the last saved one.
    values : array
        Rows of diagnostics, at least up to it.
    """

    frames: int
    density: Array | StoredDensity
    said: dict[str, Any]
    memory: Array
    mu: Array | None
    values: Array


class UnfinishedReader(PartsReader):
    """The file of a run that is not over.

    Parameters
    ----------
    path, file, size
        As for `Reader`.
    thorough : bool, optional
        Whether saved densities are all checked that are too large to be read at once; of these the last one is anyway.

    Attributes
    ----------
    damage : list of str
        What is not whole in the file, and was not left so by a kill.
    """

    def __init__(self, path: str | os.PathLike[str], file: h5py.File, size: int, *, thorough: bool = False) -> None:
        import h5py

        super().__init__(path, file, size)
        self.thorough = thorough
        self.damage: list[str] = []
        self.group = self.node(file, "unfinished", h5py.Group)
        self.has_sums = "frame_sums" in self.group

    def record(self, stats: dict[str, Any]) -> Record:
        """What the run has written; `stats` are those of its start."""
        file, grid = self.file, self.grid()
        self.columns = self.texts(self.group, "columns")
        missing = sorted({*DIAGNOSTICS} - {*self.columns})
        if missing or len({*self.columns}) != len(self.columns):
            self.fail(f"the columns {missing or self.columns} of /unfinished are missing or twice there")
        dataset = self.dataset(self.group, "frames", (None, None))
        if dataset.shape[1] < len(FRAME_COLUMNS):
            self.fail(f"/unfinished/frames has shape {dataset.shape}")
        _, point_values = self.density(grid, 0, dataset.shape[0])
        newest = self.checked(grid, dataset) if self.has_sums else self.counted(grid, dataset)
        said, frames = newest.said, newest.frames
        table = as_numbers(dataset[:frames])
        diagnostics, response = self.rows(newest.values[: int(said["rows"])])
        errors = self.first_errors(frames, response.shape[1], grid, said)
        companion = self.companion(said["time"], grid)
        warnings = self.texts(file, "warnings")
        if self.damage:
            warnings.append(
                f"{NOT_WHOLE}{'; '.join(self.damage)}. The newest whole state is taken, t = {said['time']:g} after "
                f"{frames} saved densities"
            )
        return Record(
            grid=grid,
            times=np.ascontiguousarray(table[:, 0]),
            density=newest.density,
            energy=np.ascontiguousarray(table[:, 1]),
            diagnostics=diagnostics,
            response=response,
            result=Result.UNFINISHED,
            stats=run_stats(
                diagnostics,
                balanced=bool(stats.get("balanced", True)),
                evaluations=int(said["evaluations"]),
                leak=said["leak"],
            ),
            warnings=warnings,
            remarks=self.texts(file, "remarks") if "remarks" in file.attrs else None,
            configuration=self.configuration(),
            provenance=self.provenance(),
            state=_as_state(said, newest.memory, np.array(newest.density[-1]) if newest.mu is None else newest.mu),
            point_values=point_values,
            name=self.text(file, "problem"),
            fingerprint=self.text(file, "fingerprint"),
            errors=errors,
            companion=companion,
            plain=read_plain(self),
            description=read_description(self),
        )

    # ----- files with checksums

    def checked(self, grid: Grid, dataset: h5py.Dataset) -> _Newest:
        """The newest state of which everything is whole."""
        self.check_head()
        room = dataset.shape[0]
        count = self.array(self.group, "count", (2,), "i")  # before the sums: the run may be going on
        sums = as_numbers(self.dataset(self.group, "frame_sums", (room, len(FRAME_SUMS)))[()])
        unset = np.flatnonzero(sums[:, 0] == 0.0)
        recorded = int(unset[0]) if unset.size else room
        if sums[recorded:, 0].any():
            self.damage.append(f"the checksums of saved densities from number {recorded} on")
        checkpoints = list(self.slots("checkpoints", CHECKPOINT_COLUMNS, grid.shape, "checkpoint"))
        self.check_spoken_of(checkpoints, recorded)
        counts = [float(row[FRAME_SUMS.index("rows")]) for row in sums[:recorded] if crc(row[1:]) == row[0]]
        counts += [slot.said["rows"] for slot in checkpoints]
        values = self.row_values(int(max(counts, default=0.0)))
        frames = self.whole_frames(sums[:recorded], as_numbers(dataset[:recorded]), values)
        density, _ = self.density(grid, frames, room)
        frames = self.whole_densities(density, sums[:frames, FRAME_SUMS.index("density")])
        density = density[:frames] if isinstance(density, np.ndarray) else self.density(grid, frames, room)[0]
        if isinstance(density, StoredDensity) and not self.thorough:
            density.expect(sums[:frames, FRAME_SUMS.index("density")].tolist())
        self.check_count(count, sums, frames, recorded)
        return self.newest(dataset, sums, values, density, checkpoints)

    def check_head(self) -> None:
        """Refuse a file whose words, axes or constants have changed: nothing else in it can be relied on then."""
        stated, found = self.table(self.group, "checksums"), head_sums(self.file, self.texts(self.file, "axes"))
        wrong = [name for name, value in found.items() if stated.get(name) != value]
        wrong += [PLAIN] if plain_changed(self.file) else []
        if wrong:
            raise FileFormatError(
                f"{self.path} has changed since it was written: the checksum of {', '.join(wrong)} is not the one in "
                "the file"
            )

    def arrival(self) -> Any:
        """Which columns of a row are known when a state arrives."""
        late = self.texts(self.group, "departure")
        return [name not in late for name in self.columns]

    def row_sums(self, width: int) -> RowSums:
        """Checksums of rows of so many numbers."""
        arrival = self.arrival()
        return RowSums(np.array(arrival + [True] * (width - len(arrival))))

    def whole_frames(self, sums: Array, table: Array, values: Array) -> int:
        """How many saved densities from the first on are whole, these themselves apart."""
        errors = as_numbers(self.dataset(self.group, "errors", (None, None))[: len(sums)])
        row_sums = self.row_sums(values.shape[1])
        for i, row in enumerate(sums):
            said = dict(zip(FRAME_SUMS, row.tolist(), strict=True))
            if crc(row[1:]) != said["record"]:
                part = "its checksums"
            elif crc(table[i]) != said["frame"]:
                part = "what is said about it"
            elif i >= len(errors) or crc(errors[i]) != said["errors"]:
                part = "its errors"
            elif row_sums.of(values, 0, int(said["rows"])) != (said["rows_before"], said["newest_row"]):
                part = "the diagnostics up to it"
            else:
                continue
            self.damage.append(f"saved density number {i} of {len(sums)} ({part})")
            return i
        return len(sums)

    def whole_densities(self, density: Array | StoredDensity, sums: Array) -> int:
        """How many saved densities are whole, from the first on; the last one at least is looked at."""
        frames = len(sums)
        if isinstance(density, np.ndarray) or self.thorough:
            step = frames_at_once(density.shape)
            for i in range(0, frames, step):
                for k, mu in enumerate(density[i : i + step], i):
                    if crc(mu) != sums[k]:
                        self.damage.append(f"saved density number {k} of {frames}")
                        return k
            return frames
        for k in reversed(range(frames)):
            if crc(density[k]) == sums[k]:
                break
            self.damage.append(f"saved density number {k} of {frames}")
            frames = k
        return frames

    def check_spoken_of(self, checkpoints: list[_Slot], recorded: int) -> None:
        """Note saved densities that are gone though a checkpoint came after them."""
        if max((slot.said["frames"] for slot in checkpoints), default=0) <= recorded:
            return
        again = self.as_it_is(self.group["frame_sums"], recorded)
        if again is None or again[0] == 0.0:  # else it has come since
            self.damage.append(f"saved densities from number {recorded} on, of which a checkpoint speaks")

    def check_count(self, count: Array, sums: Array, frames: int, recorded: int) -> None:
        """Note a count that no kill has left: it is set after each saved density, and nothing here depends on it."""
        counted, rows = (int(n) for n in count)
        again = self.as_it_is(self.group["count"], 0)
        near = counted <= recorded <= (counted if again is None else int(again[0])) + 1
        if not near or (0 < counted <= frames and rows != sums[counted - 1, FRAME_SUMS.index("rows")]):
            self.damage.append(f"the counts ({counted} saved densities, {rows} rows)")

    def newest(
        self,
        dataset: h5py.Dataset,
        sums: Array,
        values: Array,
        density: Array | StoredDensity,
        checkpoints: list[_Slot],
    ) -> _Newest:
        """The last saved density, or a checkpoint after it."""
        frames = len(density)
        found: _Newest | None = None
        if frames:
            row = as_numbers(dataset[frames - 1])
            said = {**dict(zip(FRAME_SUMS, sums[frames - 1].tolist(), strict=True)), **_by_name(FRAME_COLUMNS, row)}
            # of those that a run was begun with only the last one is a state to go on from
            if np.isfinite([said["steps"], said["evaluations"]]).all():
                found = _Newest(frames, density, said, row[len(FRAME_COLUMNS) :], None, values)
        for slot in checkpoints:
            said = slot.said
            if not 1 <= said["frames"] <= frames or (found and said["steps"] < found.said["steps"]):
                continue
            before = self.row_sums(values.shape[1]).of(values, 0, int(said["rows"]))
            if before != (said["rows_before"], said["newest_row"]):
                self.damage.append(f"{slot.name} (the diagnostics up to it)")
                continue
            found = _Newest(frames, density, said, slot.memory, slot.mu, values)
        if found is None:
            raise FileFormatError(
                f"{self.path} holds no state that is whole, from which the run could go on: "
                f"{'; '.join(self.damage) or 'there is none'}"
            )
        return found

    # ----- files of early versions

    def counted(self, grid: Grid, dataset: h5py.Dataset) -> _Newest:
        """The newest state of a file in which two counts say what is whole."""
        frames, rows = (int(n) for n in self.array(self.group, "count", (2,), "i"))
        if not (0 < frames <= dataset.shape[0] and rows > 0):
            self.fail(f"{frames} frames and {rows} rows are no run")
        density, _ = self.density(grid, frames, dataset.shape[0])
        row, mu = as_numbers(dataset[frames - 1]), None
        said: dict[str, Any] = {**_by_name(FRAME_COLUMNS, row), "rows": rows}
        memory = row[len(FRAME_COLUMNS) :]
        if "checkpoints" in self.group:  # the first files of schema 1 have none
            for slot in self.slots("checkpoints", CHECKPOINT_COLUMNS, grid.shape, "checkpoint"):
                if slot.said["rows"] > 0 and slot.said["frames"] <= frames and slot.said["steps"] >= said["steps"]:
                    said, memory, mu = slot.said, slot.memory, slot.mu
        whole = np.isfinite([said["steps"], said["evaluations"]]).all()
        if not (0 <= said["memories"] <= len(memory) and whole):
            self.fail("the last row of /unfinished/frames is none")
        return _Newest(frames, density, said, memory, mu, self.row_values(int(said["rows"])))

    # ----- parts of both

    def slots(self, table: str, columns: tuple[str, ...], shape: tuple[int, ...], name: str) -> Iterator[_Slot]:
        """The states of two slots that are whole, as far as their own checksums tell."""
        dataset = self.dataset(self.group, table, (2, None))
        rows = as_numbers(dataset[()])
        densities = self.dataset(self.group, f"{table[:-1]}_mu", (2, *shape))
        sums = CHECKPOINT_SUMS if self.has_sums and table == "checkpoints" else ()
        if rows.shape[1] < len(columns) + len(sums):
            self.fail(f"/unfinished/{table} has shape {rows.shape}")
        for i, values in enumerate(rows):
            if values[0] == 0.0:  # never written, or not to its end
                continue
            said = _by_name(columns, values)
            mu = as_numbers(densities[i])
            if crc(values[1:]) == said["record"] and crc(mu) == said["checksum"]:
                if sums:
                    said |= _by_name(sums, values[-len(sums) :])
                yield _Slot(f"{name} {i}", said, values[len(columns) : len(columns) + MEMORIES], mu)
            elif self.has_sums:
                again = self.as_it_is(dataset, i)
                if again is None or again.tobytes() == values.tobytes():  # else it is being written
                    self.damage.append(f"{name} {i}")

    def as_it_is(self, dataset: h5py.Dataset, row: int) -> Array | None:
        """A row as it stands in the file now: a run that goes on may be writing there, and HDF5 keeps what it read."""
        offset = dataset.id.get_offset()
        if offset is None:
            return None
        width = math.prod(dataset.shape[1:]) if dataset.ndim > 1 else dataset.shape[0]
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset + 8 * row * width)
            return np.frombuffer(file.read(8 * width), dataset.dtype)

    def row_values(self, count: int) -> Array:
        """The first rows that a run has written, block by block: diagnostics and responses."""
        blocks: list[Array] = []
        found, width = 0, None
        while found < count or not blocks:
            block = self.dataset(self.group, f"rows_{len(blocks):02d}", (None, width))
            width = block.shape[1]
            if not block.shape[0] or width < len(self.columns):
                self.fail(f"{block.name} has shape {block.shape}")
            blocks.append(as_numbers(block[: max(count - found, 0)]))
            found += block.shape[0]
        return np.concatenate(blocks)

    def rows(self, values: Array) -> tuple[dict[str, Array], Array]:
        """Diagnostics and responses out of rows."""
        integers = self.texts(self.group, "integers")
        with np.errstate(invalid="ignore"):  # only damage is no integer
            diagnostics: dict[str, Any] = {
                name: np.ascontiguousarray(values[:, i], dtype=np.int64 if name in integers else np.float64)
                for i, name in enumerate(self.columns)
            }
        return diagnostics, np.ascontiguousarray(values[:, len(self.columns) :])

    def first_errors(self, frames: int, components: int, grid: Grid, state: dict[str, Any]) -> Errors | None:
        """The errors at the first save times; None in a file of an early version."""
        if "errors" not in self.group:
            return None
        width = Errors.width(grid.dimension, components)
        dataset = self.dataset(self.group, "errors", (None, width))
        unseen = as_numbers(self.dataset(self.group, "errors_unseen", (width - 1,))[()])
        if dataset.shape[0] < frames:
            self.fail(f"{dataset.name} has {dataset.shape[0]} rows, but there are {frames} save times")
        said = self.estimate(grid)
        ended = as_numbers(self.dataset(self.group, "reason", (None,), "i")[()])
        if state.get("reason", crc(ended)) != crc(ended):
            if state["reason"] != crc(np.zeros_like(ended)):  # else it is that of a later state
                self.damage.append("the reason why there are no estimates any more")
                said["reason"] = said["reason"] or "unknown, it is not whole in the file"
        elif ended.any():
            text = bytes(np.clip(ended[ended != 0], 0, 255).astype(np.uint8)).decode(errors="replace")
            said["reason"] = said["reason"] or one_line(text)
        return Errors.of(as_numbers(dataset[:frames]), unseen, components, **said)

    def companion(self, t: float, grid: Grid) -> State | None:
        """The newest state of the companion that is whole and not later than the run's."""
        coarse = half(grid)
        if "companions" not in self.group or coarse is None:
            return None
        found: State | None = None
        for slot in self.slots("companions", COMPANION_COLUMNS, coarse.shape, "the companion's state"):
            if slot.said["time"] <= t and not (found and found.t >= slot.said["time"]):
                found = _as_state(slot.said, slot.memory, slot.mu)
        return found


def _by_name(columns: tuple[str, ...], values: Array) -> dict[str, Any]:
    return dict(zip(columns, values.tolist(), strict=False))


def _as_state(said: dict[str, Any], memory: Array, mu: Array) -> State:
    """A state out of what a row of an unfinished file says."""
    return State(
        t=said["time"],
        mu=mu,
        n_steps=int(said["steps"]),
        length=None if math.isnan(said["length"]) else said["length"],
        memory=tuple(memory[: int(said["memories"])].tolist()),
    )
