"""The command `ls`: what the files in a folder hold, a line each."""

from __future__ import annotations

import glob
import json as json_format
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from mfpde.cli.output import RefusedError, columns, reason, refusing, say
from mfpde.support.files import SUFFIXES
from mfpde.support.words import one_line, with_digits

__all__ = ["list_files"]

_Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FOLDER|FILE", help="Folders, files or patterns [default: this folder].", show_default=False
    ),
]
_Recursive = Annotated[bool, typer.Option("-r", "--recursive", help="Folders in folders, too.")]
_Json = Annotated[bool, typer.Option("--json", help="Print everything that is known as JSON instead of the table.")]


@dataclass
class _Row:
    """A file.

    Attributes
    ----------
    file : str
    kind : str
        run, stationary state, reference, sweep or broken.
    status : str
        How a run has ended; what else there is to say of the others.
    parameters : dict
        In single numbers and words.
    t, t_end : float
        The time that a run has reached, and that it was to reach.
    size : int
        Bytes.
    """

    file: str
    kind: str
    status: str
    size: int
    problem: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    t: float = math.nan
    t_end: float = math.nan
    energy: float = math.nan
    energy_error: float = math.nan

    def as_json(self) -> dict[str, Any]:
        """With null where there is no number."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(self).items()}


def list_files(places: _Places = None, recursive: _Recursive = False, json: _Json = False) -> None:
    """List files of runs: problem, parameters that vary, mesh, time, how they ended, energy, size.

    References, stationary states and sweeps are listed, too; files that cannot be read are rows that say why.
    """
    with refusing():
        paths = _found(places or ["."], recursive=recursive)
    rows = [_row(path) for path in paths]
    if json:
        say(json_format.dumps([row.as_json() for row in rows], indent=2))
    elif not rows:
        say(f"no files of mfpde ({', '.join(SUFFIXES)}) in {', '.join(places or ['this folder'])}")
    else:
        for line in _table(rows):
            say(line)


# ---------------------------------------------------------------------------------------------------------------------
# which files
# ---------------------------------------------------------------------------------------------------------------------


def _found(places: Iterable[str], *, recursive: bool) -> list[Path]:
    """The files at some places, each once."""
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        if place and path.is_dir():
            found |= dict.fromkeys(_inside(path, recursive=recursive))
        elif place and path.exists():
            found[path] = None
        elif matches := sorted(glob.glob(place, recursive=True)):
            found |= dict.fromkeys(map(Path, matches))
        else:
            raise RefusedError(f"{place or repr(place)}: there is no such folder, no such file, and no file that fits")
    return [path for path in found if not path.is_dir()]


def _inside(folder: Path, *, recursive: bool) -> list[Path]:
    """The files in a folder that are called like ours; those that begin with a dot are temporary."""
    own: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            own.append(path)
        elif recursive and path.is_dir() and not path.is_symlink() and os.access(path, os.R_OK | os.X_OK):
            own += _inside(path, recursive=True)
    return own


# ---------------------------------------------------------------------------------------------------------------------
# what is in them
# ---------------------------------------------------------------------------------------------------------------------


def _row(path: Path) -> _Row:
    """What a file holds; a row of its own says why nothing is known of one that cannot be read."""
    try:
        size = path.stat().st_size
        row = _reader_of(path)(path)
    except (ValueError, ArithmeticError, OSError, RuntimeError, LookupError, TypeError, MemoryError) as error:
        text = reason(error).removeprefix("cannot read ").removeprefix(f"{path}").lstrip(" :").removeprefix("is ")
        return _Row(str(path), "broken", text, path.stat().st_size if path.exists() else 0)
    row.size = size
    return row


def _reader_of(path: Path) -> Callable[[Path], _Row]:
    """Who reads files of the kind that one says it is."""
    from mfpde.support.files.hdf5 import kind_of, reading

    with reading(path, "result") as (file, _):
        readers = {"stationary state": _state, "reference": _reference, "sweep": _sweep}
        return readers.get(kind_of(file), _run)


def _parameters(plain: Mapping[str, Any], early: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The plain attributes that are parameters, or those of an early file, by their names; not the end of its time."""
    from mfpde.equation.plain_attributes import own_parameters

    own = own_parameters(plain) or dict(early or {})
    own |= {name: plain[name] for name in ("alpha", "temperature", "reaction") if name in plain}
    how = {name: str(plain[name]).partition("(")[0] for name in ("scheme", "method") if name in plain}
    return {name: value for name, value in own.items() if name != "t_end"} | how


def _run(path: Path) -> _Row:
    from mfpde.mesh.solution_reader import read_head

    head = read_head(path)
    own = head.configuration.get("parameters")
    early = {name: v for name, v in (own if isinstance(own, dict) else {}).items() if isinstance(v, (int, float, str))}
    end = head.configuration.get("t_end")
    return _Row(
        str(path), "run", head.result.name.lower(), 0, head.name, _parameters(head.plain, early), head.shape, head.time,
        float(end) if isinstance(end, (int, float)) else math.nan, head.energy, head.energy_error,
    )  # fmt: skip


def _state(path: Path) -> _Row:
    from mfpde.equation.equilibrium_file import read_equilibrium

    state = read_equilibrium(path)
    status = "stationary" if state.converged else "not converged"
    told = _parameters(state.plain)
    row = _Row(str(path), "stationary state", status, 0, state.name, told, state.grid.shape)
    row.energy, row.energy_error = state.energy, state.energy_error
    return row


def _reference(path: Path) -> _Row:
    from mfpde.verification.references.file import read_reference

    found = read_reference(path)
    row = _Row(str(path), "reference", "reference", 0, found.name, _parameters(found.plain))
    row.t = max((float(t) for one in found.observables for t in one.times if math.isfinite(t)), default=math.nan)
    row.parameters |= {"tolerance": found.tolerance}
    for one in found.observables:
        if one.name == "energy" and one.value.ndim == 1:
            row.energy, row.energy_error = float(one.value[-1]), float(one.bar[-1])
    return row


def _sweep(path: Path) -> _Row:
    import numpy as np

    from mfpde.mesh.solution_reader import opened

    with opened(path) as reader:
        done = reader.array(reader.file, "done", (None,), "i")
        said = json_format.loads(reader.text(reader.file, "identity"))
        what = str(said.get("parameters", "")) if isinstance(said, dict) else ""
        return _Row(str(path), "sweep", f"sweep, {int(np.sum(done != 0))} of {len(done)}", 0, "", {"over": what})


# ---------------------------------------------------------------------------------------------------------------------
# the table
# ---------------------------------------------------------------------------------------------------------------------


def _table(rows: Sequence[_Row]) -> list[str]:
    """The rows as lines, as wide as the terminal where there is one."""
    whole = [row for row in rows if row.kind != "broken"]
    folder = os.path.commonpath([os.path.dirname(row.file) or "." for row in rows]) if len(rows) > 1 else ""
    folder = folder or "."
    problems = {row.problem for row in whole}
    varying = {problem: _varying([row for row in whole if row.problem == problem]) for problem in problems}
    same = f" of {whole[0].problem!r}" if len(problems) == 1 and whole[0].problem and len(whole) > 1 else ""
    title = f"{len(rows)} files{'' if folder == '.' else f' in {folder}'}{same}"
    head = ("file", "problem", "parameters", "cells", "time", "status", "energy", "size")
    cells = [head, *(_cells(row, folder, varying[row.problem]) for row in whole)]
    shown = [i for i in range(len(head)) if any(line[i] for line in cells[1:]) and not (same and head[i] == "problem")]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else 10**6
    lines = _fitted([[line[i] for i in shown] for line in cells], [head[i] for i in shown], width) if whole else []
    broken = [f"{_name(row, folder)}: {row.kind}: {one_line(row.status)}" for row in rows if row.kind == "broken"]
    return [*([title] if len(rows) > 1 else []), *lines, *broken]


def _varying(rows: Sequence[_Row]) -> list[str]:
    """The parameters that differ between files of one problem, and those of sweeps."""
    own = [row.parameters for row in rows if row.kind != "sweep"]
    names = dict.fromkeys(name for each in own for name in each)
    return [name for name in names if len({str(each[name]) for each in own if name in each}) > 1]


def _name(row: _Row, folder: str) -> str:
    """What a file is called in the table: within a folder that all are in, and in one line."""
    name = row.file if folder == "." else os.path.relpath(row.file, folder)
    return name.replace("\n", "\\n").replace("\t", "\\t")


def _cells(row: _Row, folder: str, names: Sequence[str]) -> tuple[str, ...]:
    told = [f"{name}={_short(row.parameters[name])}" for name in names if name in row.parameters]
    told += [row.parameters["over"]] if row.kind == "sweep" else []
    time = "" if math.isnan(row.t) else f"{row.t:.3g}"
    if math.isfinite(row.t_end) and row.t < row.t_end and not math.isclose(row.t, row.t_end):
        time += f" of {row.t_end:.3g}"
    energy = "" if math.isnan(row.energy) else with_digits(row.energy, row.energy_error, most=6)
    shape = "x".join(map(str, row.shape))
    return (_name(row, folder), row.problem, ", ".join(told), shape, time, row.status, energy, _bytes(row.size))


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bytes(count: int) -> str:
    for unit, size in (("G", 2**30), ("M", 2**20), ("k", 2**10)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count}B"


NARROW = (("parameters", 20), ("problem", 10), ("file", 16), ("parameters", 10), ("size", 0), ("status", 8))
"""Columns that are made narrower where a table is too wide, in this order, and how narrow; 0 is left out."""


def _fitted(table: Sequence[Sequence[str]], head: Sequence[str], width: int) -> list[str]:
    """The lines of a table, those columns cut for which a terminal is too narrow."""
    by_name = {name: [line[i] for line in table] for i, name in enumerate(head)}
    for name, least in NARROW:
        over = len(columns(list(zip(*by_name.values(), strict=True)), str.ljust)[0]) - width
        if over <= 0:
            break
        if name in by_name and least:
            most = max(least, max(map(len, by_name[name])) - over)
            by_name[name] = [_cut(text, most, keep_end=name == "file") for text in by_name[name]]
        else:
            by_name.pop(name, None)
    return [line.rstrip() for line in columns(list(zip(*by_name.values(), strict=True)), str.ljust)]


def _cut(text: str, most: int, *, keep_end: bool) -> str:
    if len(text) <= most:
        return text
    return f"..{text[len(text) - most + 2 :]}" if keep_end else f"{text[: most - 2]}.."
