"""What a run was of, in single numbers and words: attributes of its file that any HDF5 tool shows.

They say again what the texts of a file say in TOML, so that a script need not parse these. They have a checksum of
their own, the attribute ``plain_checksum``, because the early files of each format have none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.kinds import SCHEDULES
from mfpde.equation.schedules import Constant, Schedule
from mfpde.support.files.hdf5 import FLOAT, INTEGER, Reader, as_text, attributes_sha256
from mfpde.support.files.untrusted import parse_toml
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

    from mfpde.equation.grid import Grid
    from mfpde.equation.problem import Problem

__all__ = [
    "PLAIN",
    "differing",
    "own_parameters",
    "plain_attributes",
    "plain_changed",
    "read_plain",
    "write_plain",
]

PLAIN = "plain attributes"
"""What they are called where they are not what was written."""
CHECKSUM = "plain_checksum"
PARAMETER = "parameter_"
"""What the attributes of a problem's own parameters begin with."""
HOW = ("t_end", "scheme", "method")
NAMES = ("alpha", "temperature", "reaction", "shape", *HOW)
"""The others. Early files of a format have none of them."""


def plain_attributes(
    problem: Problem | None, grid: Grid | None = None, configuration: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What was computed, as far as single numbers and words say it.

    Parameters
    ----------
    problem : Problem or None
        Of None nothing is said.
    grid : Grid, optional
    configuration : mapping, optional
        The settings, in plain values.

    Returns
    -------
    dict
        ``shape``, and of the settings ``t_end``, ``scheme`` and ``method``; of the problem ``alpha`` and
        ``temperature``, numbers where they are constant, else the line of the schedule, ``reaction``, and
        ``parameter_NAME`` for each argument of its constructor, or key of the ``[network]`` table that it was made of,
        that is a number or a text.
    """
    how: dict[str, Any] = {} if grid is None else {"shape": tuple(grid.shape)}
    told = configuration or {}
    how |= {name: told[name] for name in HOW if isinstance(told.get(name), (int, float, str))}
    return how | _of_network(told.get("toml")) | ({} if problem is None else _of_problem(problem))


def _of_network(text: Any) -> dict[str, Any]:
    """The keys of the table of a network in the text of a run; those of a named problem are its parameters."""
    if not isinstance(text, str) or "[network]" not in text:
        return {}
    try:
        table = parse_toml(text).get("network")
    except ValueError:
        return {}
    plain = table.items() if isinstance(table, dict) else ()
    return {f"{PARAMETER}{name}": v for name, v in plain if name != "sha256" and isinstance(v, (int, float, str))}


def _of_problem(problem: Problem) -> dict[str, Any]:
    said: dict[str, Any] = {name: _said(getattr(problem, name)) for name in ("alpha", "temperature")}
    said["reaction"] = problem.reaction.value
    own = problem.parameters or {}
    return said | {f"{PARAMETER}{name}": value for name, value in own.items() if isinstance(value, (int, float, str))}


def _said(schedule: Schedule) -> float | str:
    return schedule(0.0) if isinstance(schedule, Constant) else one_line(SCHEDULES.to_text(schedule))


def write_plain(file: h5py.File, said: Mapping[str, Any]) -> None:
    """Write them at the root of a file; what is None, or has no type there, is left out."""
    for name, value in said.items():
        if isinstance(value, str):
            file.attrs[name] = as_text(value)
        elif isinstance(value, (tuple, list)):
            file.attrs[name] = np.asarray(value, dtype=INTEGER)
        elif isinstance(value, (bool, int)) and abs(value) < 2**63:
            file.attrs[name] = INTEGER.type(value)
        elif isinstance(value, (int, float)):
            file.attrs[name] = FLOAT.type(value)
    if names := _there(file):
        file.attrs[CHECKSUM] = attributes_sha256(file, [("", names)])


def plain_changed(file: h5py.File) -> bool:
    """Whether they are not what was written. Early files, which have neither them nor a checksum, are as they were."""
    names = _there(file)
    stated = file.attrs.get(CHECKSUM, "")
    return bool(names or stated) and stated != attributes_sha256(file, [("", names)])


def _there(file: h5py.File) -> list[str]:
    return sorted(name for name in file.attrs if name in NAMES or name.startswith(PARAMETER))


def read_plain(reader: Reader) -> dict[str, Any]:
    """What a file says; a file whose attributes are not what was written is noted as changed."""
    found: dict[str, Any] = {}
    for name in _there(reader.file):
        value = np.asarray(reader.attribute(reader.file, name))
        fits = value.dtype.kind in "iu" and value.ndim == 1 if name == "shape" else value.ndim == 0
        if not fits or value.dtype.kind not in "iufUO":
            reader.fail(f"attribute {name!r} is neither a number nor text")
        found[name] = tuple(map(int, value)) if name == "shape" else value.item()
    if plain_changed(reader.file):
        reader.changed.append(PLAIN)
    return found


def own_parameters(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Those of them that are arguments of the problem's constructor, or keys of its network's table, by their names."""
    return {name.removeprefix(PARAMETER): value for name, value in plain.items() if name.startswith(PARAMETER)}


def differing(said: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """Which of the attributes `said` are not those that a file's own texts lead to, `again`."""
    return sorted(name for name in {*said} & {*again} if not _same(said[name], again[name]))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(list(one) == list(other) if isinstance(one, tuple) else one == other)
