"""The data of a network in a file: columns of a ``.csv``, or the arrays of an ``.npz``."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mfpde.equation.energy.losses import check_size
from mfpde.runs.tables import ConfigurationError, NetworkTable, short
from mfpde.support.arrays import Array
from mfpde.support.files.untrusted import read_npz
from mfpde.support.words import one_line, suggestion

__all__ = ["Data", "DataColumn", "data_moved", "read_columns", "read_data", "read_file"]


MAX_DATA_BYTES = 512 << 20
"""Largest data file, and largest content of a compressed one."""


class Data(NamedTuple):
    """What a network is trained on.

    Attributes
    ----------
    x : array, shape (m,) or (m, p)
        Inputs.
    y : array, shape (m,) or (m, q)
        Outputs.
    weights : array, shape (m,), or None
        Weights of the samples, not negative.
    sha256 : str
        The hash of the file.
    """

    x: Array
    y: Array
    weights: Array | None
    sha256: str


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file that is not too large.

    Raises
    ------
    ConfigurationError
        If there is none, or it cannot be read; one line.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a regular file")
        if status.st_size > limit:
            raise ConfigurationError(f"{path} has {status.st_size} bytes; the limit is {limit}")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigurationError(f"{path} cannot be read: {reason}") from None
    if len(content) > limit:
        raise ConfigurationError(f"{path} has more than {limit} bytes, the limit")
    return content


def data_moved(path: Path, sha256: str) -> str:
    """What became of a file of data that is not there, or has another hash, in a line; empty where all is well."""
    try:
        content = read_file(path, MAX_DATA_BYTES)
    except ConfigurationError as error:
        return f"the data of the network are gone ({one_line(error)})"
    same = hashlib.sha256(content).hexdigest() == sha256
    return "" if same else f"the data of the network are others now ({path} has changed)"


def read_data(table: NetworkTable, directory: Path) -> Data:
    """The data that a network's table names, standardised as it says.

    Raises
    ------
    ConfigurationError
        If the file is missing, too large or changed, or what it holds does not fit; one line.
    """
    path = directory / table.data
    kind = path.suffix.lower()
    if kind not in (".csv", ".npz"):
        raise ConfigurationError(f"{path} is neither .csv nor .npz")
    content = read_file(path, MAX_DATA_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if table.sha256 is not None and table.sha256 != digest:
        raise ConfigurationError(f"{path} has changed: its sha256 is {digest}, not {table.sha256}")
    try:
        x, y, weights = (_read_csv if kind == ".csv" else _read_npz)(content, table)
        for what, values in (("inputs", x), ("outputs", y), ("weights", weights)):
            if values is not None:
                check_size(f"the {what}", values)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if table.standardise in (True, "inputs"):
        x = _standardised(x, "input", path)
    # labels are no numbers to be scaled
    if table.standardise == "outputs" or (table.standardise is True and table.loss != "logistic"):
        y = _standardised(y, "output", path)
    return Data(x, y, weights, digest)


class DataColumn(NamedTuple):
    """A column of a ``.csv`` file.

    Attributes
    ----------
    name : str or int
        Its header, or its number where the file has none.
    values : array, shape (m,), or None
        None where some cell is no number.
    """

    name: str | int
    values: Array | None


def read_columns(path: Path) -> list[DataColumn]:
    """All columns of a ``.csv`` file.

    Raises
    ------
    ConfigurationError
        If it is missing, too large or no table; one line.
    """
    content = read_file(path, MAX_DATA_BYTES)
    try:
        rows = list(_csv_rows(content))
        if not rows:
            raise ConfigurationError("is empty")
        names: list[str | int] = list(range(len(rows[0][1])))
        if not any(map(_is_number, rows[0][1])):
            _refuse_twice(*rows[0])
            names = [cell or i for i, cell in enumerate(rows.pop(0)[1])]
        if not rows:
            raise ConfigurationError("has a header and no rows")
        for line, cells in rows:
            if len(cells) != len(names):
                raise ConfigurationError(f"line {line} has {len(cells)} columns, the first line {len(names)}")
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    found = []
    for i, name in enumerate(names):
        cells = [row[i] for _, row in rows]
        found.append(DataColumn(name, np.array(cells, float) if all(map(_is_number, cells)) else None))
    return found


def _standardised(values: Array, what: str, path: Path) -> Array:
    std = np.atleast_1d(values.std(axis=0))
    scale = np.abs(values).max(axis=0)
    flat = np.flatnonzero(std <= 1e-12 * scale)
    if flat.size:
        raise ConfigurationError(f"{path}: {what} {flat[0]} is constant and cannot be standardised")
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


def _read_npz(content: bytes, table: NetworkTable) -> tuple[Array, Array, Array | None]:
    """Inputs, outputs and weights out of an archive of arrays."""
    for key in ("inputs", "outputs", "weights"):
        if getattr(table, key) is not None:
            raise ConfigurationError(f"{key} selects columns of a .csv file; an .npz file has arrays x, y[, weights]")
    names_ = ("x", "y", "weights")
    try:
        found = read_npz(io.BytesIO(content), names_, MAX_DATA_BYTES)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"is not a readable .npz file of numbers: {one_line(error)}") from None
    arrays = {name: found[name] for name in names_ if name in found}
    for name in ("x", "y"):
        if name not in arrays:
            raise ConfigurationError(f"holds no array {name!r}; it holds {', '.join(map(repr, found)) or 'nothing'}")
    m = len(arrays["x"]) if arrays["x"].ndim else 0
    for name, values in arrays.items():
        if values.dtype.kind not in "iuf":
            raise ConfigurationError(f"array {name!r} holds {values.dtype}, not real numbers")
        if values.ndim not in ((1,) if name == "weights" else (1, 2)) or not values.size:
            form = "(m,)" if name == "weights" else "(m,) or (m, p)"
            raise ConfigurationError(f"array {name!r} has shape {values.shape}; it must be {form} and not empty")
        if len(values) != m:
            raise ConfigurationError(f"array {name!r} has {len(values)} rows, array 'x' has {m}")
        with np.errstate(over="ignore"):
            values = values.astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values.reshape(m, -1)).all(axis=1))
        if wrong.size:
            raise ConfigurationError(f"row {wrong[0]} of array {name!r} is not finite; remove or fill it")
        if name == "weights" and values.min() < 0:
            raise ConfigurationError(f"row {int(values.argmin())} of array 'weights' is negative")
        arrays[name] = values
    return arrays["x"], arrays["y"], arrays.get("weights")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _no_number(cell: str) -> str:
    """What is wrong with a cell that is no number; where commas are its decimals, or have cut it up, the remedy."""
    if not cell:
        return "is empty"
    what = f"{short(cell)} is not a number"
    pieces = re.split("[;\t]", cell.replace(",", "."))
    comma = pieces != [cell] and any(map(_is_number, pieces))
    return f"{what}; write decimals with a point, 0.5, and not with a comma" if comma else what


def _csv_rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, without empty ones and comments."""
    import csv

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"line {line} is not UTF-8 text") from None
    head = next((line for line in io.StringIO(text) if line.strip() and not line.startswith("#")), "")
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ConfigurationError(f"line {reader.line_num} is no CSV: {error}") from None


def _read_csv(content: bytes, table: NetworkTable) -> tuple[Array, Array, Array | None]:
    """Inputs, outputs and weights out of the columns of a file."""
    rows = _csv_rows(content)
    first = next(rows, None)
    if first is None:
        raise ConfigurationError("is empty")
    columns = _columns(*first, table)
    array, lines = _csv_numbers(itertools.chain([first], rows) if columns.header is None else rows, columns)
    p, q = len(columns.inputs), len(columns.outputs)
    weights = array[:, -1].copy() if columns.weights else None
    if weights is not None and weights.min() < 0:
        row = int(weights.argmin())
        raise ConfigurationError(f"line {lines[row]} (row {row + 1}): the weight {weights[row]:g} is negative")
    return array[:, :p].copy(), array[:, p : p + q].copy(), weights


@dataclass(frozen=True)
class _Columns:
    """Which columns of a CSV file hold what, by their numbers.

    Attributes
    ----------
    inputs, outputs, weights : list of int
        The last of them one at most.
    header : list of str or None
        The names of all columns, where there are some.
    count : int
        How many columns there are.
    """

    inputs: list[int]
    outputs: list[int]
    weights: list[int]
    header: list[str] | None
    count: int

    @property
    def wanted(self) -> list[int]:
        """All that are read."""
        return [*self.inputs, *self.outputs, *self.weights]

    def label(self, i: int) -> str:
        """What a column is called in messages."""
        return f"column {i}" if self.header is None else f"column {self.header[i]!r}"


def _columns(line: int, cells: list[str], table: NetworkTable) -> _Columns:
    """What the first line of a file and a table say of its columns."""
    numeric = [_is_number(cell) for cell in cells]
    header = None if any(numeric) else cells
    if header is None and not all(numeric):
        column = numeric.index(False)
        raise ConfigurationError(f"line {line}, column {column}: {_no_number(cells[column])}")
    count = len(cells)
    if header is not None:
        _refuse_twice(line, header)
    if count < 2:
        raise ConfigurationError("has one column; inputs and outputs need at least two")
    column_of = functools.partial(_column, header=header, count=count)
    weights = [] if table.weights is None else [column_of(table.weights, "weights")]
    outputs = None if table.outputs is None else [column_of(column, "outputs") for column in table.outputs]
    inputs = None if table.inputs is None else [column_of(column, "inputs") for column in table.inputs]
    if outputs is None:
        outputs = [[i for i in range(count) if i not in weights][-1]]
        if inputs is not None and outputs[0] in inputs:
            raise ConfigurationError("outputs is missing and the last column is an input; name the outputs")
    if inputs is None:
        inputs = [i for i in range(count) if i not in (*outputs, *weights)]
        if not inputs:
            raise ConfigurationError("no column is left for the inputs")
    return _Columns(inputs, outputs, weights, header, count)


def _refuse_twice(line: int, header: list[str]) -> None:
    """Refuse a header that stands over two columns: nobody knows which of them is meant."""
    for i, name in enumerate(header):
        if name and name in header[:i]:
            first = header.index(name)
            raise ConfigurationError(f"line {line}: columns {first} and {i} are both called {name!r}; rename one")


def _csv_numbers(rows: Iterable[tuple[int, list[str]]], columns: _Columns) -> tuple[Array, list[int]]:
    """The numbers in the wanted columns, a row a sample, and the lines that they stand in."""
    wanted, count = columns.wanted, columns.count
    values: list[list[float]] = []
    lines: list[int] = []
    for line, cells in rows:
        if len(cells) != count:
            raise ConfigurationError(f"line {line} has {len(cells)} columns, the first line {count}")
        try:
            values.append([float(cells[i]) for i in wanted])
        except ValueError:
            i = next(i for i in wanted if not _is_number(cells[i]))
            what = f"line {line} (row {len(values) + 1}), {columns.label(i)}"
            raise ConfigurationError(f"{what}: {_no_number(cells[i])}") from None
        lines.append(line)
    if not values:
        raise ConfigurationError("has a header and no rows")
    array = np.array(values)
    wrong = np.argwhere(~np.isfinite(array))
    if wrong.size:
        row, k = map(int, wrong[0])
        raise ConfigurationError(
            f"line {lines[row]} (row {row + 1}), {columns.label(wanted[k])}: {array[row, k]:g} is not finite; "
            "remove or fill it"
        )
    return array, lines


def _column(column: str | int, key: str, header: list[str] | None, count: int) -> int:
    """The number of a column that a table names by its number or its header."""
    if isinstance(column, int):
        if not 0 <= column < count:
            raise ConfigurationError(f"{key} names column {column}; the columns are 0 to {count - 1}")
        return column
    if header is None:
        raise ConfigurationError(f"{key} names column {column!r}, but the file has no header; give numbers from 0")
    if column not in header:
        raise ConfigurationError(f"{key} names column {column!r}, which does not exist; {suggestion(column, header)}")
    return header.index(column)
