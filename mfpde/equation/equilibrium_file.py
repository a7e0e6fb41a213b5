"""Stationary states as HDF5 files: arrays and text only, described in ``docs/file-format.md``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.description.stored import GROUP, read_description, write_description
from mfpde.equation.equilibrium_record import EquilibriumRecord
from mfpde.equation.grid_file import AXIS, read_grid, write_grid
from mfpde.equation.plain_attributes import read_plain, write_plain
from mfpde.support.files.hdf5 import (
    EQUILIBRIUM_MARK,
    FLOAT,
    INTEGER,
    Reader,
    add_dataset,
    as_plain,
    as_text,
    as_toml,
    attributes_sha256,
    check_target,
    reading,
    replacing,
    sha256,
    texts,
    write_volatile,
)
from mfpde.support.files.untrusted import check_heaps

if TYPE_CHECKING:
    import h5py

__all__ = ["read_equilibrium", "save"]

SCHEMA = 1
"""The version of the file format that is written; all versions up to it are read."""
ARRAYS = {
    "density": ("mu", "density per volume"),
    "log_density": ("log_mu", "its logarithm; minus infinity where it is 0"),
    "potential": ("potential", "V[mu], the first variation without the entropy"),
}
"""Datasets: which attribute each of them is, and what it means."""
NUMBERS = ("energy", "gap", "entropy", "temperature", "energy_error")
CONVEX = {True: "yes", False: "no", None: "not known"}
ATTRIBUTES = (
    EQUILIBRIUM_MARK, "title", "problem", "fingerprint", "axes", *NUMBERS, "convex", "converged", "iterations",
    "evaluations", "no_error", "configuration", "configuration_unset", "configuration_described", "provenance",
)  # fmt: skip
"""The attributes of the root that have a checksum together."""
RESERVED = (*ARRAYS, "volatile", "attributes", GROUP)
"""What an axis cannot be called in the file."""


def save(state: EquilibriumRecord, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a stationary state; see `Equilibrium.save`."""
    target = check_target(path, overwrite=overwrite)
    import h5py

    with replacing(path, target) as temporary, h5py.File(temporary, "w", locking=False) as file:
        _write(state, file)


def _write(state: EquilibriumRecord, file: h5py.File) -> None:
    """Write all of it into an empty file."""
    unset: list[str] = []
    described: list[str] = []
    said = {key: value for key, value in state.provenance.items() if key != "volatile"}
    file.attrs[EQUILIBRIUM_MARK] = np.int64(SCHEMA)
    file.attrs["title"] = as_text(f"mfpde stationary state of {state.name}")
    file.attrs["problem"] = as_text(state.name)
    file.attrs["fingerprint"] = as_text(state.fingerprint)
    for name in NUMBERS:
        file.attrs[name] = FLOAT.type(getattr(state, name))
    file.attrs["convex"] = CONVEX[state.convex]
    for name in ("converged", "iterations", "evaluations"):
        file.attrs[name] = INTEGER.type(getattr(state, name))
    file.attrs["no_error"] = as_text(state.no_error)
    file.attrs["configuration"] = as_toml(as_plain(state.configuration, (), unset, described))
    file.attrs["configuration_unset"], file.attrs["configuration_described"] = texts(unset), texts(described)
    file.attrs["provenance"] = as_toml(as_plain(said, (), [], []))
    scales = write_grid(file, state.grid, RESERVED)
    for name, (attribute, meaning) in ARRAYS.items():
        add_dataset(file, name, getattr(state, attribute), meaning, scales)
    write_plain(file, state.plain)
    write_description(file, state.description)
    write_volatile(file, state.provenance.get("volatile", {}))
    sums = {name: sha256(file[name]) for name in file if isinstance(file[name], type(scales[0]))}
    file.attrs["checksums"] = as_toml({**sums, "attributes": _attributes_sha256(file)})


def _attributes_sha256(file: h5py.File) -> str:
    axes = [name.decode() if isinstance(name, bytes) else str(name) for name in np.atleast_1d(file.attrs["axes"])]
    return attributes_sha256(file, [("", ATTRIBUTES), *((axis, AXIS) for axis in axes)])


def read_equilibrium(path: str | os.PathLike[str], changed: list[str] | None = None) -> EquilibriumRecord:
    """Read a stationary state, without its problem.

    Parameters
    ----------
    path : path
    changed : list of str, optional
        Where what has another checksum than was written is noted; it is taken as it is then, and refused otherwise.

    Raises
    ------
    FileFormatError
        If the file is no stationary state, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    """
    with reading(path, "stationary state") as (file, size):
        check_heaps(path)
        reader = _Reader(path, file, size)
        reader.refuses = changed is None
        found = reader.equilibrium()
    if changed is not None:
        changed += reader.changed
    return found


class _Reader(Reader):
    """The file of a stationary state."""

    what = "stationary state"

    def verify(self, name: str, found: str) -> None:
        """Note what is not what was written; here every dataset has a checksum."""
        if self.sums.get(name) != found:
            self.changed.append(name)

    def equilibrium(self) -> EquilibriumRecord:
        """The whole of it."""
        file = self.file
        self.check_kind()
        self.check_schema(EQUILIBRIUM_MARK, SCHEMA, f"stationary states up to schema {SCHEMA}")
        self.sums = self.table(file, "checksums")
        grid = read_grid(self)
        arrays = {a: self.array(file, name, grid.shape) for name, (a, _) in ARRAYS.items()}
        numbers = {name: self.number(file, name) for name in NUMBERS}
        counts = {name: self.number(file, name, integer=True) for name in ("converged", "iterations", "evaluations")}
        convex = {word: value for value, word in CONVEX.items()}
        if (word := self.text(file, "convex")) not in convex:
            self.fail(f"attribute 'convex' is {word!r}, none of {', '.join(convex)}")
        words: dict[str, Any] = {"name": self.text(file, "problem")}
        words |= {name: self.text(file, name) for name in ("fingerprint", "no_error")}
        words |= {"configuration": self.configuration(), "provenance": self.provenance(), "plain": read_plain(self)}
        words["description"] = read_description(self)
        self.verify("attributes", _attributes_sha256(file))
        self.refuse_changed()
        counts["converged"] = bool(counts["converged"])
        return EquilibriumRecord(grid, **arrays, **numbers, **counts, **words, convex=convex[word])
