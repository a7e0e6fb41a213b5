"""Reads the file of a solution, or what a run that was killed has left of it, into a `Record`.

Nothing in the file is believed before it is checked; the problem stays what it is there, a name and a text.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.grid import Axis, End, Grid, half
from mfpde.mesh.record import Errors, Record, Result, State, run_stats
from mfpde.mesh.solution_writer import (
    CELL_AVERAGES,
    CHECKPOINT_COLUMNS,
    COMPANION_COLUMNS,
    DIAGNOSTICS,
    FRAME_COLUMNS,
    POINT_VALUES,
    SCHEMA,
    STATS,
    hashed_datasets,
    solution_attributes_sha256,
)
from mfpde.support.arrays import Array
from mfpde.support.files import frames as stored
from mfpde.support.files.hdf5 import (
    DAMAGE,
    MARK,
    REFERENCE_MARK,
    FileFormatError,
    Reader,
    as_numbers,
    crc,
    reading,
    sha256,
)
from mfpde.support.files.untrusted import check_heaps, elsewhere, extents, parse_toml, stored_bytes
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

__all__ = ["read", "wrong_checksums"]


_SEARCHED = 2**28
"""Bytes up to which a file is searched for damaged texts as a whole, larger ones around their densities."""


def read(path: str | os.PathLike[str]) -> Record:
    """What the file of a solution holds.

    Raises
    ------
    FileFormatError
        If the file is not a solution, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    """
    with reading(path, "solution") as (file, size):
        check_heaps(path, _numbers_only(file) if size > _SEARCHED else ())
        return _SolutionReader(path, file, size).record()


def wrong_checksums(path: str | os.PathLike[str]) -> list[str] | None:
    """Datasets whose numbers are not what was written, large ones included; None where the file has no checksums."""
    with stored.open_file(path) as file:
        if "checksums" not in file.attrs or "unfinished" in file:
            return None
        size = os.path.getsize(path)
        try:
            sums = parse_toml(str(file.attrs["checksums"]))
            wrong = [n for n in hashed_datasets(file) if not _all_here(file, n, size) or sums.get(n) != sha256(file[n])]
        except DAMAGE as error:
            raise FileFormatError(f"{path} is truncated or damaged: {one_line(error)}") from None
        return wrong if sums.get("attributes") == solution_attributes_sha256(file) else [*wrong, "attributes"]


def _all_here(file: h5py.File, name: str, size: int) -> bool:
    """Whether a name is that of numbers which are in the file, as many as it says."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        return False
    node = file[name]
    if node.shape is None or node.dtype.kind not in "fi" or elsewhere(node):
        return False
    claimed = node.dtype.itemsize * math.prod(node.shape)
    return bool(node.shape) and node.id.get_storage_size() <= size and claimed <= stored_bytes(node)


def _numbers_only(file: h5py.File) -> list[tuple[int, int]]:
    """Where the densities lie: no texts stand there, and a search would read them all."""
    import h5py

    hard = isinstance(file.get("density", getlink=True), h5py.HardLink)
    return extents(file["density"]) if hard and isinstance(file["density"], h5py.Dataset) else []


class _SolutionReader(Reader):
    """The file of a solution."""

    def record(self) -> Record:
        """All that the file holds."""
        file = self.file
        if REFERENCE_MARK in file.attrs:
            raise FileFormatError(f"{self.path} holds a reference, not a solution; read it with mfpde.load_reference")
        if MARK not in file.attrs:
            raise FileFormatError(f"{self.path} is an HDF5 file, but not one that mfpde wrote")
        self.check_schema(MARK, SCHEMA, f"schemas up to {SCHEMA}")
        result = self.text(file, "result")
        if result not in Result.__members__:
            self.fail(f"result {result!r} is none of {', '.join(Result.__members__)}")
        stats = self.table(file, "stats")
        if "checksums" in file.attrs:  # early files of schema 1 have none
            self.sums = self.table(file, "checksums")
        # one that was loaded and saved again is like any other
        if result == Result.UNFINISHED.name and "unfinished" in file:
            return self.unfinished(stats)
        record = self.finished(Result[result], stats)
        # what does not fit together has been named above: what is left are numbers and words that were others
        if self.sums:
            self.verify("attributes", solution_attributes_sha256(file))
        if self.changed:
            raise FileFormatError(
                f"{self.path} has changed since it was written: "
                f"the checksum of {', '.join(self.changed)} is not the one in the file"
            )
        return record

    def finished(self, result: Result, stats: dict[str, Any]) -> Record:
        """What was written when the run was over."""
        import h5py

        file = self.file
        for name in STATS:
            if not isinstance(stats.get(name), (int, float)):
                self.fail(f"the number {name!r} of attribute 'stats' is missing")

        grid = self.grid()
        times = self.array(file, "time", (None,))
        if not times.size:
            self.fail("/time is empty")
        density, point_values = self.density(grid, len(times))

        steps = self.node(file, "steps", h5py.Group)
        count = len(self.array(steps, "time", (None,)))
        if not count:
            self.fail("/steps/time is empty")
        columns = list(DIAGNOSTICS)
        columns += sorted(name for name in steps if name not in (*DIAGNOSTICS, "step", "component", "response"))
        diagnostics = {name: self.array(steps, name, (count,), "fi") for name in columns}

        response = self.array(steps, "response", (count, None))
        coarse = half(grid)
        return Record(
            grid=grid,
            times=times,
            density=density,
            energy=self.array(file, "energy", (len(times),)),
            diagnostics=diagnostics,
            response=response,
            result=result,
            stats=stats,
            warnings=self.texts(file, "warnings"),
            remarks=self.texts(file, "remarks") if "remarks" in file.attrs else None,
            configuration=self.configuration(),
            provenance=self.provenance(),
            state=self.state("state", grid.shape),
            point_values=point_values,
            name=self.text(file, "problem"),
            fingerprint=self.text(file, "fingerprint"),
            errors=self.errors(len(times), response.shape[1], grid),
            companion=None if coarse is None or "companion" not in file else self.state("companion", coarse.shape),
        )

    def state(self, name: str, shape: tuple[int, ...]) -> State:
        """A state that a run can go on from."""
        import h5py

        state = self.node(self.file, name, h5py.Group)
        memory = np.atleast_1d(self.attribute(state, "memory"))
        if memory.dtype.kind != "f":
            self.fail(f"attribute 'memory' of /{name} is not a list of numbers")
        return State(
            t=self.number(state, "t"),
            mu=self.array(state, "mu", shape),
            n_steps=self.number(state, "n_steps", integer=True),
            length=self.number(state, "length") if "length" in state.attrs else None,
            memory=tuple(float(value) for value in memory),
        )

    def errors(self, saves: int, components: int, grid: Grid) -> Errors | None:
        """The estimated errors; None in a file of an early version."""
        import h5py

        if "errors" not in self.file:
            return None
        group = self.node(self.file, "errors", h5py.Group)
        return Errors(
            divisor=self.array(group, "divisor", (saves,)),
            energy=self.array(self.file, "energy_error", (saves,)),
            response=self.array(group, "response", (saves, components)),
            mean=self.array(group, "mean", (saves, grid.dimension)),
            second_moment=self.array(group, "second_moment", (saves, grid.dimension)),
            unseen=self.array(group, "unseen", (Errors.width(grid.dimension, components) - 1,)),
            **self.estimate(grid),
        )

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

    def unfinished(self, stats: dict[str, Any]) -> Record:
        """What a run had written when it was killed, or has written so far."""
        import h5py

        file, grid = self.file, self.grid()
        group = self.node(file, "unfinished", h5py.Group)
        frames, rows = (int(n) for n in self.array(group, "count", (2,), "i"))
        dataset = self.dataset(group, "frames", (None, None))
        room = dataset.shape[0]
        if not (0 < frames <= room and rows > 0 and dataset.shape[1] >= len(FRAME_COLUMNS)):
            self.fail(f"{frames} frames and {rows} rows are no run")
        table = as_numbers(dataset[:frames])
        density, point_values = self.density(grid, frames, room)
        last, mu = self.newest(group, grid, table)
        diagnostics, response = self.rows(group, int(last.get("rows", rows)))
        return Record(
            grid=grid,
            times=np.ascontiguousarray(table[:, 0]),
            density=density,
            energy=np.ascontiguousarray(table[:, 1]),
            diagnostics=diagnostics,
            response=response,
            result=Result.UNFINISHED,
            stats=run_stats(
                diagnostics,
                balanced=bool(stats.get("balanced", True)),
                evaluations=int(last["evaluations"]),
                leak=last["leak"],
            ),
            warnings=self.texts(file, "warnings"),
            remarks=self.texts(file, "remarks") if "remarks" in file.attrs else None,
            configuration=self.configuration(),
            provenance=self.provenance(),
            state=_as_state(last, last["memory"], np.array(density[frames - 1]) if mu is None else mu),
            point_values=point_values,
            name=self.text(file, "problem"),
            fingerprint=self.text(file, "fingerprint"),
            errors=self.first_errors(group, frames, response.shape[1], grid),
            companion=self.companion(group, last["time"], grid),
        )

    def first_errors(self, group: h5py.Group, frames: int, components: int, grid: Grid) -> Errors | None:
        """The errors at the first save times; None in a file of an early version."""
        if "errors" not in group:
            return None
        width = Errors.width(grid.dimension, components)
        dataset = self.dataset(group, "errors", (None, width))
        unseen = as_numbers(self.dataset(group, "errors_unseen", (width - 1,))[()])
        if dataset.shape[0] < frames:
            self.fail(f"{dataset.name} has {dataset.shape[0]} rows, but there are {frames} save times")
        said = self.estimate(grid)
        ended = as_numbers(self.dataset(group, "reason", (None,), "i")[()])
        if ended.any():
            text = bytes(np.clip(ended[ended != 0], 0, 255).astype(np.uint8)).decode(errors="replace")
            said["reason"] = said["reason"] or one_line(text)
        return Errors.of(as_numbers(dataset[:frames]), unseen, components, **said)

    def companion(self, group: h5py.Group, t: float, grid: Grid) -> State | None:
        """The newest state of the companion that is whole and not later than the run's."""
        coarse = half(grid)
        if "companions" not in group or coarse is None:
            return None
        width = len(COMPANION_COLUMNS)
        table = as_numbers(self.dataset(group, "companions", (2, None))[()])
        densities = self.dataset(group, "companion_mu", (2, *coarse.shape))
        if table.shape[1] < width:
            self.fail(f"/unfinished/companions has shape {table.shape}")
        found: State | None = None
        for slot, values in enumerate(table):
            said: dict[str, Any] = dict(zip(COMPANION_COLUMNS, values.tolist(), strict=False))
            if crc(values[1:]) != said["record"] or not said["time"] <= t or (found and found.t >= said["time"]):
                continue  # not written to its end, or not the newest
            mu = as_numbers(densities[slot])
            if crc(mu) == said["checksum"] and said["checksum"]:
                found = _as_state(said, values[width:], mu)
        return found

    def newest(self, group: h5py.Group, grid: Grid, table: Array) -> tuple[dict[str, Any], Array | None]:
        """The newest state that is whole, and its density: of a checkpoint, or None for that of the last frame."""
        last: dict[str, Any] = dict(zip(FRAME_COLUMNS, table[-1].tolist(), strict=False))
        last["memory"], mu = table[-1, len(FRAME_COLUMNS) :], None
        for checkpoint, density in self.checkpoints(group, grid):
            if not checkpoint["frames"] <= len(table) or checkpoint["steps"] < last["steps"]:
                continue
            last, mu = checkpoint, density
        whole = np.isfinite([last["steps"], last["evaluations"]]).all()
        if not (0 <= last["memories"] <= len(last["memory"]) and whole):
            self.fail("the last row of /unfinished/frames is none")
        return last, mu

    def rows(self, group: h5py.Group, count: int) -> tuple[dict[str, Array], Array]:
        """The first diagnostics and responses that a run has written, block by block."""
        columns = self.texts(group, "columns")
        missing = sorted({*DIAGNOSTICS} - {*columns})
        if missing or len({*columns}) != len(columns):
            self.fail(f"the columns {missing or columns} of /unfinished are missing or twice there")
        blocks: list[Array] = []
        found, components = 0, None
        while found < count:
            block = self.dataset(group, f"rows_{len(blocks):02d}", (None, components))
            components = block.shape[1]
            if not block.shape[0] or components < len(columns):
                self.fail(f"{block.name} has shape {block.shape}")
            blocks.append(as_numbers(block[: count - found]))
            found += len(blocks[-1])
        values = np.concatenate(blocks)
        integers = self.texts(group, "integers")
        with np.errstate(invalid="ignore"):  # only damage is no integer
            diagnostics: dict[str, Any] = {
                name: np.ascontiguousarray(values[:, i], dtype=np.int64 if name in integers else np.float64)
                for i, name in enumerate(columns)
            }
        return diagnostics, np.ascontiguousarray(values[:, len(columns) :])

    def checkpoints(self, group: h5py.Group, grid: Grid) -> Iterator[tuple[dict[str, Any], Array]]:
        """The checkpoints that are whole: what they say, and the density."""
        if "checkpoints" not in group:  # an early file of schema 1
            return
        width = len(CHECKPOINT_COLUMNS)
        table = as_numbers(self.dataset(group, "checkpoints", (2, None))[()])
        densities = self.dataset(group, "checkpoint_mu", (2, *grid.shape))
        if table.shape[1] < width:
            self.fail(f"/unfinished/checkpoints has shape {table.shape}")
        for slot, values in enumerate(table):
            said: dict[str, Any] = dict(zip(CHECKPOINT_COLUMNS, values.tolist(), strict=False))
            if not said["rows"] > 0 or crc(values[1:]) != said["record"]:
                continue  # never written, or not to its end
            mu = as_numbers(densities[slot])
            if crc(mu) == said["checksum"]:
                yield {**said, "memory": values[width:]}, mu

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
                axes.append(Axis(self.text(node, "axis"), *bounds, ends))
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


def _as_state(said: dict[str, Any], memory: Array, mu: Array) -> State:
    """A state out of what a row of an unfinished file says."""
    return State(
        t=said["time"],
        mu=mu,
        n_steps=int(said["steps"]),
        length=None if math.isnan(said["length"]) else said["length"],
        memory=tuple(memory[: int(said["memories"])].tolist()),
    )
