"""Solutions as HDF5 files: arrays and text only, described in ``docs/file-format.md``.

What is written is a `Record`: all of a solution but the object of its problem. (What a run writes as it goes is the
business of `mfpde.mesh.stream`.)
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.description.stored import (
    GROUP,
    described_datasets,
    write_description,
)
from mfpde.equation.grid_file import AXIS, write_grid
from mfpde.equation.plain_attributes import write_plain
from mfpde.mesh.record import ERRORS, Errors, Record, State, meaning
from mfpde.support.files.frames import StoredDensity
from mfpde.support.files.hdf5 import (
    FLOAT,
    INTEGER,
    MARK,
    add_dataset,
    add_scale,
    as_plain,
    as_text,
    as_toml,
    attributes_sha256,
    check_target,
    frames_at_once,
    replacing,
    sha256,
    texts,
    write_volatile,
)
from mfpde.support.files.in_place import hdf5_with_room
from mfpde.support.files.trees import array_bytes

if TYPE_CHECKING:
    import h5py


__all__ = [
    "ATTRIBUTES",
    "CELL_AVERAGES",
    "DIAGNOSTICS",
    "POINT_VALUES",
    "SCHEMA",
    "STATS",
    "WORDS",
    "describe_density",
    "hashed_datasets",
    "room_for",
    "save",
    "solution_attributes_sha256",
    "words_sha256",
    "write",
    "write_head",
]

SCHEMA = 1
"""The version of the file format that is written; all versions up to it are read."""
_GROUPS = ("steps", "errors", "state", "companion", "volatile", "unfinished", GROUP)
_RESERVED = (*_GROUPS, "time", "energy", "energy_error", "density", "step", "component", "attributes", "words")
CELL_AVERAGES, POINT_VALUES = "cell averages", "point values"

# what schema 1 promises to hold: frozen here, whatever later versions record besides
DIAGNOSTICS = (
    "time",
    "dt",
    "mass",
    "minimum",
    "energy",
    "dissipation_transport",
    "dissipation_reaction",
    "optimality_gap",
    "end_mass",
    "limiting_cell",
    "error",
    "redone",
)
STATS = ("steps", "redone", "evaluations", "mass_drift", "energy_increase", "balanced")
ATTRIBUTES = {
    "": (
        MARK,
        "problem",
        "result",
        "fingerprint",
        "axes",
        "warnings",
        "remarks",
        "stats",
        "configuration",
        "provenance",
        "estimate",
    ),
    "density": ("representation",),
    "state": ("t", "n_steps", "length", "memory"),
    "companion": ("t", "n_steps", "length", "memory"),
    "axis": AXIS,
}
"""The attributes that have a checksum together."""
WORDS = ("title", "configuration_unset", "configuration_described")
"""Attributes of the root that have one of their own, because early files have none of them."""
_METADATA = 2**17
"""Bytes that are enough for HDF5's own structures and for the words that are the same in all files."""


def save(record: Record, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write a solution to an HDF5 file that `load`, xarray and any HDF5 tool read.

    The file appears under its name only when it is complete; a file that was there before stays until then.

    Parameters
    ----------
    record : Record
        What to write. Values of its configuration that are not plain (numbers, text, lists, tables) are
        written as their ``repr``.
    path : path
        Where to; the folder must exist.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is false.
    OSError
        If the file cannot be written: the message names the file and the reason. Nothing is left behind.
    ValueError
        If the arrays of the solution do not fit together.

    Notes
    -----
    Two identical runs give files with identical content outside the group ``volatile``.
    """
    _check_lengths(record)
    target = check_target(path, overwrite=overwrite)
    size = room_for(record, len(record.times), len(record.diagnostics["time"]))
    with replacing(path, target) as temporary, hdf5_with_room(temporary, size) as file:
        write(record, file)
    if isinstance(record.density, StoredDensity) and record.density.path == str(target):
        record.density.refresh()


def room_for(record: Record, saves: int, rows: int) -> int:
    """Bytes that are enough for the file of a solution like `record` with so many save times and recorded states."""
    grid, components = record.grid, record.response.shape[1]
    row = 1 + len(record.diagnostics) + components
    save = 3 + grid.size + Errors.width(grid.dimension, components)
    scales = sum(grid.shape) + 2 * components + Errors.width(grid.dimension, components)
    companion = 0 if record.companion is None else record.companion.mu.size
    numbers = saves * save + rows * row + grid.size + companion + scales
    words: tuple[Any, ...] = (record.configuration, record.stats, record.warnings, record.remarks, record.provenance)
    described = 0
    if record.description is not None:
        described = array_bytes(record.description.tables)
        words += (record.description,)
    return 8 * numbers + described + 4 * len(repr(words).encode()) + _METADATA


def _check_lengths(record: Record) -> None:
    grid, saves = record.grid, len(record.times)
    steps = len(record.diagnostics.get("time", ()))
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "density": (record.density, (saves, *grid.shape)),
        "energy": (record.energy, (saves,)),
        "state.mu": (record.state.mu, grid.shape),
    }
    expected |= {f"diagnostics[{name!r}]": (record.diagnostics.get(name, ()), (steps,)) for name in DIAGNOSTICS}
    expected |= {f"diagnostics[{name!r}]": (values, (steps,)) for name, values in record.diagnostics.items()}
    if record.errors is not None:
        d, r = grid.dimension, np.shape(record.response)[-1]
        expected["errors"] = (record.errors.table(), (saves, Errors.width(d, r)))
    expected["response"] = (record.response, (steps, *np.shape(record.response)[1:2]))
    for name, (values, shape) in expected.items():
        if np.shape(values) != shape or not saves or not steps or np.ndim(record.response) != 2:
            raise ValueError(
                f"this solution cannot be saved: {name} has shape {np.shape(values)}, but {saves} save times, "
                f"{steps} recorded states and the mesh {grid.shape} ask for {shape}"
            )


def write(record: Record, file: h5py.File) -> None:
    """Write a whole solution into a file that is empty."""
    axes = write_head(record, file)
    time = add_scale(file, "time", record.times, "save time")
    shape = (len(record.times), *record.grid.shape)
    digest = hashlib.sha256()
    density = file.create_dataset("density", shape=shape, dtype=FLOAT)
    block = frames_at_once(shape)
    for i in range(0, shape[0], block):
        frames = np.ascontiguousarray(record.density[i : i + block], dtype=FLOAT)
        density[i : i + block] = frames
        digest.update(frames.data)
    describe_density(density, record)
    for i, scale in enumerate([time, *axes]):
        density.dims[i].attach_scale(scale)
    add_dataset(file, "energy", record.energy, "energy E[mu]", [time])

    steps = file.create_group("steps")
    count = len(record.diagnostics["time"])
    step = add_scale(steps, "step", np.arange(count), "recorded states since the start of the run")
    for name, values in record.diagnostics.items():
        column = add_dataset(steps, name, values, meaning(name), [step])
        if name != "time":
            column.attrs["coordinates"] = "time"
    component = add_scale(steps, "component", np.arange(record.response.shape[1]), "compressed coordinate")
    add_dataset(steps, "response", record.response, "response u = int Phi dmu", [step, component])

    if record.errors is not None:
        _write_errors(file, record.errors, time)
    state = _write_state(file, "state", record.state)
    add_dataset(state, "mu", record.state.mu, density.attrs["long_name"], axes)
    if record.companion is not None:
        companion = _write_state(file, "companion", record.companion)
        add_dataset(companion, "mu", record.companion.mu, f"{density.attrs['long_name']}, of the companion", [])

    sums = {"density": digest.hexdigest()}
    sums |= {name: sha256(file[name]) for name in hashed_datasets(file) if name != "density"}
    said = {"attributes": solution_attributes_sha256(file), "words": words_sha256(file)}
    file.attrs["checksums"] = as_toml({**sums, **said})


def _write_errors(file: h5py.File, errors: Errors, time: h5py.Dataset) -> None:
    add_dataset(file, "energy_error", errors.energy, f"estimated error {ERRORS['energy']}", [time])
    group = file.create_group("errors")
    component = add_scale(group, "component", np.arange(errors.response.shape[1]), "compressed coordinate")
    axis = add_scale(group, "axis", np.arange(errors.mean.shape[1]), "axis of the mesh")
    for name, scales in (("divisor", []), ("response", [component]), ("mean", [axis]), ("second_moment", [axis])):
        label = ERRORS[name] if name == "divisor" else f"estimated error {ERRORS[name]}"
        add_dataset(group, name, getattr(errors, name), label, [time, *scales])
    add_dataset(group, "unseen", errors.unseen, "what the start has lost and the companion has not", [])


def _write_state(file: h5py.File, name: str, state: State) -> h5py.Group:
    """A group with what a state is besides its density."""
    group = file.create_group(name)
    group.attrs["t"] = FLOAT.type(state.t)
    group.attrs["n_steps"] = INTEGER.type(state.n_steps)
    if state.length is not None:
        group.attrs["length"] = FLOAT.type(state.length)
    group.attrs["memory"] = np.asarray(state.memory, dtype=FLOAT)
    return group


def write_head(record: Record, file: h5py.File) -> list[h5py.Dataset]:
    """Write all but the numbers of a run; returns the axes' scales."""
    grid = record.grid
    unset: list[str] = []
    described: list[str] = []
    configuration = as_plain(record.configuration, (), unset, described)
    provenance = {key: value for key, value in record.provenance.items() if key != "volatile"}

    file.attrs[MARK] = np.int64(SCHEMA)
    file.attrs["title"] = as_text(f"mfpde solution of {record.name}")
    file.attrs["problem"] = as_text(record.name)
    file.attrs["result"] = record.result.name
    file.attrs["fingerprint"] = as_text(record.fingerprint)
    file.attrs["warnings"] = texts(record.warnings)
    if record.remarks is not None:
        file.attrs["remarks"] = texts(record.remarks)
    if record.errors is not None:
        file.attrs["estimate"] = as_toml({"cells": list(record.errors.cells), "reason": record.errors.reason})
    file.attrs["stats"] = as_toml(as_plain(record.stats, (), [], []))
    file.attrs["configuration"] = as_toml(configuration)
    file.attrs["configuration_unset"] = texts(unset)
    file.attrs["configuration_described"] = texts(described)
    file.attrs["provenance"] = as_toml(as_plain(provenance, (), [], []))
    write_plain(file, record.plain)

    write_volatile(file, record.provenance.get("volatile", {}))
    write_description(file, record.description)

    return write_grid(file, grid, _RESERVED)


def describe_density(density: h5py.Dataset, record: Record) -> None:
    """Say what the densities are."""
    kind = POINT_VALUES if record.point_values else CELL_AVERAGES
    density.attrs["long_name"] = f"density mu per volume, {kind}"
    density.attrs["representation"] = kind


def hashed_datasets(file: h5py.File) -> list[str]:
    """The datasets that have checksums: all that are numbers of the run."""
    names = [name for name in file if name not in _GROUPS]
    inside = [f"{group}/{name}" for group in ("steps", "errors") if group in file for name in file[group]]
    inside += described_datasets(file)
    return [*names, *inside, "state/mu", *(["companion/mu"] if "companion" in file else [])]


def solution_attributes_sha256(file: h5py.File) -> str:
    """The checksum of what the attributes of a solution's file say."""
    axes = [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in np.atleast_1d(file.attrs["axes"])]
    places = ["", "density", "state", *(["companion"] if "companion" in file else []), *axes]
    return attributes_sha256(file, ((place, ATTRIBUTES.get(place, ATTRIBUTES["axis"])) for place in places))


def words_sha256(file: h5py.File) -> str:
    """The checksum of what else the attributes of the root say; early files have none."""
    return attributes_sha256(file, [("", WORDS)])
