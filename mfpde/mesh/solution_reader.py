"""Reads the file of a solution, or what a run that was killed has left of it, into a `Record`.

Nothing in the file is believed before it is checked; the problem stays what it is there, a name and a text.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.description.stored import description_is_whole, read_description
from mfpde.equation.grid import Grid, half
from mfpde.equation.plain_attributes import read_plain
from mfpde.mesh.record import Errors, Record, Result, State
from mfpde.mesh.solution_parts import PartsReader
from mfpde.mesh.solution_writer import (
    DIAGNOSTICS,
    SCHEMA,
    STATS,
    hashed_datasets,
    solution_attributes_sha256,
    words_sha256,
)
from mfpde.mesh.unfinished_reader import UnfinishedReader
from mfpde.support.files import frames as stored
from mfpde.support.files.hdf5 import DAMAGE, MARK, FileFormatError, reading, sha256
from mfpde.support.files.untrusted import check_heaps, elsewhere, extents, parse_toml, stored_bytes
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

__all__ = ["Head", "opened", "read", "read_head", "wrong_checksums"]


_SEARCHED = 2**28
"""Bytes up to which a file is searched for damaged texts as a whole, larger ones around their densities."""
_ATTEMPTS = 100
"""How often a file is read that changes all the time."""


def read(path: str | os.PathLike[str], changed: list[str] | None = None, *, thorough: bool = False) -> Record:
    """What the file of a solution holds.

    Parameters
    ----------
    path : path
    changed : list of str, optional
        Where what has another checksum than was written is noted; it is taken as it is then, and refused otherwise.
    thorough : bool, optional
        Whether checksums are compared of densities, too, that are too large to be read at once.

    Raises
    ------
    FileFormatError
        If the file is not a solution, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    """
    record, reader = _read(path, thorough=thorough, refuses=changed is None)
    if changed is not None:
        changed += reader.changed
    return record


def _read(path: str | os.PathLike[str], *, thorough: bool, refuses: bool = True) -> tuple[Record, _SolutionReader]:
    """What the file holds, and who has read it.

    Of a file that grows HDF5 keeps how long it was when it was opened, and what follows asks for the file anew. So if
    it has got another block of rows meanwhile, or was replaced by the finished one, and not all is well, it is read
    again.
    """
    attempts = 0
    while True:
        before, attempts = _form(path), attempts + 1
        try:
            with _reading(path, thorough=thorough) as reader:
                reader.refuses = refuses
                record = reader.record()
            if not reader.damage or attempts == _ATTEMPTS or _form(path) == before:
                return record, reader
        except (FileFormatError, OSError):
            if attempts == _ATTEMPTS or _form(path) == before:
                raise


class Head(NamedTuple):
    """What a solution's file is about, without its densities.

    Attributes
    ----------
    name : str
        The problem's.
    result : Result
    plain, configuration : dict
        As of a `Record`.
    shape : tuple of int
        Cells along each axis.
    time : float
        Of the last density.
    energy, energy_error : float
        At that time; NaN where there is no estimate.
    """

    name: str
    result: Result
    plain: dict[str, Any]
    configuration: dict[str, Any]
    shape: tuple[int, ...]
    time: float
    energy: float
    energy_error: float


def read_head(path: str | os.PathLike[str]) -> Head:
    """What a solution's file is about: quick, however large it is, and without its checksums.

    Raises
    ------
    FileFormatError, OSError
        As `read`, for what is looked at.
    """
    with opened(path) as reader:
        reader.check_kind()
        if not reader.growing:
            return reader.head()
    record = read(path)
    error = math.nan if record.errors is None else float(record.errors.energy[-1])
    told = record.plain, record.configuration, record.grid.shape
    return Head(record.name, record.result, *told, float(record.times[-1]), float(record.energy[-1]), error)


def _form(path: str | os.PathLike[str]) -> tuple[Any, ...]:
    """What of a file changes when it is replaced, or gets a further block of rows; nothing where there is none."""
    with contextlib.suppress(OSError, TypeError, ValueError):  # what is no path, or no file, is refused elsewhere
        stamp = stored.file_stamp(os.fspath(path), growing=True)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return (*stamp, _hdf5_end(file))
    return ()


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[_SolutionReader]:
    """A file of mfpde that is open for reading, of a solution or not, after a search for damage that has no end."""
    with _reading(path, thorough=False) as reader:
        yield reader


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str], *, thorough: bool) -> Iterator[_SolutionReader]:
    with reading(path, "solution") as (file, size):
        check_heaps(path, (*_numbers_only(file), *_tail(path, size)) if size > _SEARCHED else ())
        yield _SolutionReader(path, file, size, thorough=thorough)


def wrong_checksums(path: str | os.PathLike[str]) -> list[str] | None:
    """What is not as it was written, large densities included; None where the file has no checksums."""
    with stored.open_file(path) as file:
        growing = "unfinished" in file
        if "frame_sums" not in file["unfinished"] if growing else "checksums" not in file.attrs:
            return None
    if growing:
        return _read(path, thorough=True)[1].damage
    with stored.open_file(path) as file:
        size = os.path.getsize(path)
        try:
            sums = parse_toml(str(file.attrs["checksums"]))
            wrong = [n for n in hashed_datasets(file) if not _all_here(file, n, size) or sums.get(n) != sha256(file[n])]
        except DAMAGE as error:
            raise FileFormatError(f"{path} is truncated or damaged: {one_line(error)}") from None
        wrong += [] if sums.get("attributes") == solution_attributes_sha256(file) else ["attributes"]
        wrong += [] if sums.get("words") in (None, words_sha256(file)) else ["words"]
        wrong += [] if description_is_whole(file) else ["problem"]
        return wrong


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


def _tail(path: str | os.PathLike[str], size: int) -> list[tuple[int, int]]:
    """The space that a growing file keeps beyond what HDF5 knows of."""
    with open(path, "rb") as file:
        end = _hdf5_end(file)
    return [] if end is None else [(end, size)]


def _hdf5_end(file: IO[bytes]) -> int | None:
    """Where HDF5's own part of a file ends; None where that stands elsewhere."""
    head = file.read(48)  # of the superblock; the end stands there in version 0, which is written
    return int.from_bytes(head[40:], "little") if head[8:9] == b"\0" else None


class _SolutionReader(PartsReader):
    """The file of a solution; `thorough`: densities that are too large to be read at once are checked as well."""

    def __init__(self, path: str | os.PathLike[str], file: h5py.File, size: int, *, thorough: bool = False) -> None:
        super().__init__(path, file, size)
        self.thorough = thorough
        self.damage: list[str] = []

    @property
    def growing(self) -> bool:
        """Whether the run is not over, or was killed; one that was loaded and saved again is like any other."""
        return "unfinished" in self.file and self.result() is Result.UNFINISHED

    def result(self) -> Result:
        """How the run ended."""
        name = self.text(self.file, "result")
        if name not in Result.__members__:
            self.fail(f"result {name!r} is none of {', '.join(Result.__members__)}")
        return Result[name]

    def head(self) -> Head:
        """What it is about."""
        file, result = self.file, self.result()
        times = self.array(file, "time", (None,))
        if not times.size:
            self.fail("/time is empty")
        energy = self.array(file, "energy", times.shape)
        error = self.array(file, "energy_error", times.shape) if "energy_error" in file else np.full(1, np.nan)
        shape = tuple(len(self.array(file, name, (None,))) for name in self.texts(file, "axes"))
        told = read_plain(self), self.configuration(), shape
        numbers = float(times[-1]), float(energy[-1]), float(error[-1])
        return Head(self.text(file, "problem"), result, *told, *numbers)

    def check_kind(self) -> None:
        """Refuse a file that is no solution of mfpde, or of a newer version."""
        super().check_kind()
        self.check_schema(MARK, SCHEMA, f"schemas up to {SCHEMA}")

    def record(self) -> Record:
        """All that the file holds."""
        self.check_kind()
        file, result = self.file, self.result()
        stats = self.table(file, "stats")
        if "checksums" in file.attrs:  # early files of schema 1 have none
            self.sums = self.table(file, "checksums")
        if self.growing:
            reader = UnfinishedReader(self.path, file, self.size, thorough=self.thorough)
            record = reader.record(stats)
            self.damage = reader.damage
            return record
        record = self.finished(result, stats)
        if self.thorough and isinstance(record.density, stored.StoredDensity):
            self.verify("density", sha256(file["density"]))
        # what does not fit together has been named above: what is left are numbers and words that were others
        if self.sums:
            self.verify("attributes", solution_attributes_sha256(file))
            self.verify("words", words_sha256(file))
        if self.changed and self.refuses:
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
            plain=read_plain(self),
            description=read_description(self),
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
