"""The rows of a sweep: columns in memory and, where they are wanted there, in a file that grows in place."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arguments import shown
from mfpde.support.files import hdf5
from mfpde.support.files.in_place import NumbersFile, hdf5_with_room

__all__ = ["DONE", "FAILED", "OWN", "SUSPECT", "Columns", "Row", "fit_for_a_column"]

STATUS, MESSAGE, HOST = 40, 240, 64
"""Letters of text columns."""
FAILED = "FAILED"
"""How a run that raised an exception is called, before the name of that."""
DONE, SUSPECT = 1, -1
"""What stands in the column `done` of a row that is, and of one that was under way when a pool broke; else 0."""
EVERY = 1.0
"""Seconds after which rows that are done go to the disk."""
_TEXTS = {"status": STATUS, "message": MESSAGE, "host": HOST}
OWN = frozenset({"seconds", *_TEXTS, "done", "run"})
"""Columns that every sweep has."""


def fit_for_a_column(name: str) -> bool:
    """Whether a file can have a column of a name, which is no path within it."""
    return bool(name.strip(".")) and "/" not in name and "\0" not in name


class Row(NamedTuple):
    """What has become of a run.

    Attributes
    ----------
    values : dict of float or array
        What was measured; empty where the run failed.
    status, message : str
    seconds : float
    host : str
    """

    values: Mapping[str, Any]
    status: str
    message: str
    seconds: float
    host: str


class Columns:
    """The columns of a sweep, or of a shard of one.

    Parameters
    ----------
    identity : dict of str
        What the sweep is made of, in words: a file of another one is refused.
    parameters : mapping of sequences
        Their values at each row of the whole sweep.
    numbers : array of int, optional
        Which of the rows these are. Default: all.
    """

    def __init__(
        self, identity: Mapping[str, str], parameters: Mapping[str, Sequence[Any]], numbers: NDArray[np.intp] | None
    ) -> None:
        whole = {name: _column(values) for name, values in parameters.items()}
        self.numbers = np.arange(len(next(iter(whole.values())))) if numbers is None else numbers
        self.size, self.identity = len(self.numbers), dict(identity)
        size = self.size
        self._parameters = {name: values[self.numbers] for name, values in whole.items()}
        self._taken = OWN | parameters.keys()
        self.done = np.zeros(size, dtype=np.int64)
        self.seconds = np.full(size, np.nan)
        self.texts = {name: np.zeros(size, dtype=f"S{length}") for name, length in _TEXTS.items()}
        self.values: dict[str, NDArray[Any]] = {}
        self._file: NumbersFile | None = None
        self._offsets: dict[str, int] = {}
        self._waiting: list[int] = []
        self._path: Path | None = None
        self._flushed = -math.inf  # the first row goes there at once

    # ----- rows

    def take(self, index: int, row: Row) -> None:
        """Enter a row; it goes to the file at the next flush."""
        if not self.values and row.values:
            self._begin(row.values)
        text = row.message
        if row.values and (other := self._misfit(row.values)):
            row = row._replace(values={}, status=f"{FAILED}: other columns")
            text = other
        for name, value in row.values.items():
            self.values[name][index] = value
        self.seconds[index] = row.seconds
        for name, value in (("status", row.status), ("message", text), ("host", row.host)):
            self.texts[name][index] = value.encode("ascii", "replace")[: _TEXTS[name]]
        self.done[index] = DONE
        self._waiting.append(index)
        self.look()

    def suspect(self, indices: Sequence[int]) -> None:
        """Note rows that were under way when a pool broke, at once."""
        for index in indices:
            if self.done[index] != DONE:
                self.done[index] = SUSPECT
                self._waiting.append(index)
        self.flush()

    def adopt(self, other: Columns, path: Path) -> None:
        """Enter the rows of a shard.

        Raises
        ------
        ValueError
            If some of them are not done, or have other columns: with the name of its file.
        """
        left = int(np.count_nonzero(other.done != DONE))
        if left:
            raise ValueError(f"{path} has {other.size - left} of {other.size} rows; run this shard again, it goes on")
        if other.values and not self.values:
            self._begin({name: column[0] for name, column in other.values.items()})
        if other.values and (misfit := self._misfit({name: column[0] for name, column in other.values.items()})):
            raise ValueError(f"{path} does not fit the shards before it: {misfit}")
        for name, column in other._columns().items():
            self._columns()[name][other.numbers] = column
        self._waiting += other.numbers.tolist()

    def look(self) -> None:
        """Write rows that have waited for long enough."""
        if self._path is not None and self._waiting and time.perf_counter() - self._flushed > EVERY:
            self.flush()

    def _begin(self, values: Mapping[str, Any]) -> None:
        places = {f"{name}_{k}" for name, value in values.items() for k in range(np.ndim(value))}
        for name in values:
            if not isinstance(name, str) or not fit_for_a_column(name):
                raise ValueError(f"measure gave {shown(name)}, and names are text without '/'; call it something else")
            if name in self._taken | places:
                raise ValueError(f"measure gave {name!r}, which a sweep has already; call it something else")
        if double := places & self._taken:
            raise ValueError(f"measure gave an array with the places {min(double)!r}, which is a parameter's name")
        self.values = {
            name: np.full((self.size, *np.shape(value)), np.nan, dtype=float) for name, value in values.items()
        }
        if self._file is not None:  # of rows of which nothing was measured
            self._file.close()
            self._file = None

    def _misfit(self, values: Mapping[str, Any]) -> str:
        """Why values do not fit into the columns that the first ones have made."""
        if values.keys() != self.values.keys():
            return f"measured were {', '.join(values)}, and {', '.join(self.values)} before"
        for name, value in values.items():
            if np.shape(value) != self.values[name].shape[1:]:
                return f"{name} has the shape {np.shape(value)}, and {self.values[name].shape[1:]} before"
        return ""

    # ----- the file

    def open(self, path: Path) -> None:
        """Go on with the file of the same sweep, or begin one with the first rows.

        Raises
        ------
        ValueError
            If the file is of another sweep: with what differs.
        """
        self._path = path
        if path.exists():
            self.read(path)
            self._read_offsets(path)
            self._file = NumbersFile(path)

    def create(self, path: Path) -> None:
        """Write all rows to a file, in the place of one that is there."""
        import h5py

        columns = self._columns()
        room = 2**16 + sum(2 * column.nbytes + 4096 for column in columns.values())
        with hdf5.replacing(path, path) as temporary, hdf5_with_room(temporary, room) as file:
            file.attrs["title"] = hdf5.as_text("A sweep of mfpde")
            file.attrs["identity"] = hdf5.as_text(json.dumps(self.identity))
            file.attrs["measured"] = hdf5.as_text(json.dumps(list(self.values)))
            run = hdf5.add_scale(file, "run", self.numbers, "number of the run")
            for name, column in (columns | self._parameters).items():
                # where there are numbers already, and at places that stay
                plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                space = h5py.h5s.create_simple(column.shape)
                h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(column.dtype), space, plist)
                file[name][...] = column
                file[name].dims[0].attach_scale(run)
                for k, length in enumerate(column.shape[1:]):
                    scale = hdf5.add_scale(file, f"{name}_{k}", np.arange(length), f"position in {name}")
                    file[name].dims[1 + k].attach_scale(scale)
        self._path, self._waiting = path, []
        self._read_offsets(path)
        self._file = NumbersFile(path)

    def _columns(self) -> dict[str, NDArray[Any]]:
        return {**self.values, "seconds": self.seconds, **self.texts, "done": self.done}

    def _read_offsets(self, path: Path) -> None:
        import h5py

        with h5py.File(path, "r") as file:
            self._offsets = {name: int(file[name].id.get_offset()) for name in self._columns()}

    def read(self, path: Path) -> None:
        """The rows that a file of the same sweep has.

        Raises
        ------
        ValueError
            If the file is of another sweep: with what differs.
        """
        import h5py

        try:
            with h5py.File(path, "r") as file:
                kept = json.loads(str(file.attrs["identity"]))
                own = [*json.loads(str(file.attrs["measured"])), "done", "seconds", *_TEXTS]
                columns = {name: file[name][...] for name in own}
            if any(len(column) != self.size for column in columns.values()) and kept == self.identity:
                raise ValueError("columns of other lengths")
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is no sweep of mfpde ({error}); give another name, or overwrite=True") from None
        for what in {**kept, **self.identity}:
            if kept.get(what) != self.identity.get(what):
                raise ValueError(
                    f"{path} holds another sweep: its {what} is {kept.get(what)}, not {self.identity.get(what)}; give "
                    "another name, or overwrite=True"
                )
        self.done, self.seconds = columns.pop("done"), columns.pop("seconds")
        self.texts = {name: columns.pop(name) for name in _TEXTS}
        self.values = columns

    def flush(self) -> None:
        """Write rows that wait: their numbers first, and that they are there once these have reached the disk."""
        self._flushed = time.perf_counter()
        if self._path is None or not self._waiting:
            return
        if self._file is None:
            self.create(self._path)
            return
        rows = np.array(sorted({*self._waiting}))
        stretches = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        columns = self._columns()
        for name, column in columns.items():
            if name != "done":
                self._put(name, column, stretches)
        self._file.sync()
        self._put("done", self.done, stretches)
        self._file.sync()
        self._waiting = []

    def _put(self, name: str, column: NDArray[Any], stretches: Sequence[NDArray[np.intp]]) -> None:
        assert self._file is not None
        width = column[:1].nbytes
        for stretch in stretches:
            first, last = int(stretch[0]), int(stretch[-1]) + 1
            self._file.put(self._offsets[name] + first * width, column[first:last])

    def close(self) -> None:
        """Write what waits."""
        self.flush()
        if self._file is not None:
            self._file.close()


def _column(values: Sequence[Any]) -> NDArray[Any]:
    """The values of a parameter: numbers, or text."""
    if all(isinstance(value, (int, float, np.integer, np.floating)) for value in values):
        return np.array(values, dtype=float)
    return np.array([str(value).encode("ascii", "replace") for value in values])
