"""References in HDF5 files: arrays and text only, described in ``docs/file-format.md``.

They are written and read with the same care as solutions are: see `mfpde.support.files.hdf5`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.description.stored import (
    GROUP,
    description_for_file,
    read_description,
    rebuilt,
    write_description,
)
from mfpde.equation.plain_attributes import plain_attributes, read_plain, write_plain
from mfpde.equation.problem import Problem
from mfpde.support.arguments import shown
from mfpde.support.arrays import Array
from mfpde.support.files import hdf5
from mfpde.support.files.locks import held
from mfpde.support.files.untrusted import check_heaps
from mfpde.support.session import quiet
from mfpde.support.words import one_line
from mfpde.verification.references.certified import Certified, LevelRun, Reference
from mfpde.verification.references.file_observables import ARRAYS, KINDS, OTHER, described, observable_named

if TYPE_CHECKING:
    import h5py

    from mfpde.equation.description.whole import Description

__all__ = ["Origin", "StoredReference", "read_reference", "save_reference"]


SCHEMA = 1
"""The version of the format of references that is written; all versions up to it are read."""
MAX_BYTES = 2**28
"""Largest file of a reference. Those of the package have some kilobytes."""


# ---------------------------------------------------------------------------------------------------------------------
# what a file gives
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """What a file says of a reference besides its numbers.

    Attributes
    ----------
    path : Path
        The file.
    title : str
        The problem's name.
    configuration : dict
        What names the problem, as in a TOML file of a run.
    command : str
        What computes the same numbers again.
    fingerprint : str
        Of the problem.
    provenance : dict
        Versions of Python and of the packages; under ``"volatile"`` date and platform.
    plain : dict
        The problem in single numbers and words, see `mfpde.equation.plain_attributes`; empty in an early file.
    description : Description or None
        What of a problem made in Python is numbers and text.
    """

    path: Path = Path()
    title: str = ""
    configuration: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    fingerprint: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    description: Description | None = None


class StoredReference(Reference):
    """A reference from a file. Its problem is built when it is asked for.

    Attributes
    ----------
    problem : Problem
        Built from the name and the parameters in the file, and held against the fingerprint there.
    path, title, configuration, command, fingerprint, provenance, plain, description
        What the file says besides, see `Origin`.

    See Also
    --------
    mfpde.verification.references.certified.Reference : the other attributes.
    """

    path: Path
    title: str
    configuration: dict[str, Any]
    command: str
    fingerprint: str
    provenance: dict[str, Any]
    plain: dict[str, Any]
    description: Description | None

    def __init__(
        self,
        problem: Problem | None,
        tolerance: float,
        observables: tuple[Certified, ...],
        levels: tuple[LevelRun, ...],
        reached: bool,
        ancestral_mass: float | None = None,
        *,
        origin: Origin | None = None,
    ) -> None:
        # what is frozen is not set, it is there
        self.__dict__.update(
            tolerance=tolerance,
            observables=observables,
            levels=levels,
            reached=reached,
            ancestral_mass=ancestral_mass,
            **vars(origin or Origin()),
        )
        if problem is not None:
            self.__dict__["problem"] = problem

    def __getattr__(self, name: str) -> Any:
        if name != "problem":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        problem = self.__dict__["problem"] = _rebuilt(self)
        return problem

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.title or (self.problem.name if "problem" in self.__dict__ else "")


def _rebuilt(stored: StoredReference) -> Problem:
    """The problem that a file names.

    Raises
    ------
    ValueError
        If the file does not hold it, or this version makes another one of what it says.
    """
    from mfpde import problems

    tables = stored.configuration
    parameters = tables.get("parameters", {})
    network = tables.get("network")
    hashed = isinstance(network, dict) and isinstance(network.get("sha256"), str)
    named = tables.get("problem") in problems.names() and isinstance(parameters, dict)
    described, missing = rebuilt(stored.description, problems.get)
    if described is None and not hashed and not named:
        why = missing or "it was made in Python"
        raise ValueError(
            f"{stored.path} does not hold its problem {stored.name!r}: {why}; "
            "pass it, mfpde.load_reference(path, problem=problem)"
        )
    with quiet():  # what there is to say was said when the numbers were computed
        try:
            if described is not None:
                problem = described
            elif hashed:
                from mfpde.runs.configuration import Configuration

                problem = Configuration.from_tables(tables, stored.path.parent, str(stored.path)).problem()
            else:
                problem = problems.get(str(tables["problem"]), **parameters)
            found = problem.fingerprint()
        except Exception as error:  # parameters come from a file
            raise ValueError(f"{stored.path}: its problem cannot be built: {one_line(error)}") from None
    if found != stored.fingerprint:
        raise ValueError(
            f"{stored.path}: {stored.name!r} is not the problem that it was (its fingerprint differs); "
            f"compute the reference again{f': {stored.command}' if stored.command else ''}"
        )
    return problem


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


def save_reference(
    found: Reference,
    path: str | os.PathLike[str],
    *,
    configuration: Mapping[str, Any] | None = None,
    command: str = "",
    overwrite: bool = True,
) -> None:
    """Write a reference to an HDF5 file that `load_reference`, xarray and any HDF5 tool read.

    Parameters
    ----------
    found : Reference
    path : path
        Where to; the folder must exist. The file appears under its name only when it is complete.
    configuration : mapping, optional
        What names the problem, in the tables of a TOML file; default: its name and parameters, where it comes from
        `mfpde.problems`.
    command : str
        What computes the same numbers again.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is false.
    OSError
        If the file cannot be written, or somebody else is writing it. Nothing is left behind.
    ValueError
        If `found` is no reference.

    Examples
    --------
    >>> import mfpde as mf, os, tempfile
    >>> from mfpde.verification.references.pack import save_reference
    >>> found = mf.reference(mf.problems.quadratic_well(), 1e-3)
    >>> path = os.path.join(tempfile.mkdtemp(), "well.h5")
    >>> save_reference(found, path)
    >>> bool(mf.load_reference(path)["energy"].value[0] == found["energy"].value[0])
    True
    """
    if not isinstance(found, Reference):
        raise ValueError(f"save_reference needs what mfpde.reference gives, not {shown(found)}")
    with held(path, again=True):  # by who has computed it
        target = hdf5.check_target(path, overwrite=overwrite)
        with hdf5.replacing(path, target) as temporary:
            import h5py

            with h5py.File(temporary, "w", locking=False) as file:
                _write(file, found, configuration, command)


def _write(file: h5py.File, found: Reference, configuration: Mapping[str, Any] | None, command: str) -> None:
    """Write a reference into an empty file."""
    # one that was read keeps what was said of it; `dataclasses.replace` leaves the numbers only
    stored = found if isinstance(found, StoredReference) and found.fingerprint else None
    if configuration is None:
        configuration = _named(found.problem) if stored is None else stored.configuration
    description = description_for_file(found.problem) if stored is None else stored.description
    fingerprint = found.problem.fingerprint() if stored is None else stored.fingerprint
    provenance = _provenance() if stored is None else stored.provenance
    unset: list[str] = []
    names = _group_names(found.observables)

    file.attrs[hdf5.REFERENCE_MARK] = np.int64(SCHEMA)
    file.attrs["title"] = hdf5.as_text(f"mfpde reference for {found.name}")
    file.attrs["problem"] = hdf5.as_text(found.name)
    file.attrs["fingerprint"] = fingerprint
    file.attrs["configuration"] = hdf5.as_toml(hdf5.as_plain(configuration, (), unset, []))
    file.attrs["configuration_unset"] = hdf5.texts(unset)
    file.attrs["tolerance"] = np.float64(found.tolerance)
    file.attrs["reached"] = np.int64(found.reached)
    if found.ancestral_mass is not None:
        file.attrs["ancestral_mass"] = np.float64(found.ancestral_mass)
    file.attrs["observables"] = hdf5.texts(names)
    write_plain(file, plain_attributes(found.problem) if stored is None else stored.plain)
    file.attrs["command"] = hdf5.as_text(command or (stored.command if stored is not None else ""))
    plain = {key: value for key, value in provenance.items() if key != "volatile"}
    file.attrs["provenance"] = hdf5.as_toml(hdf5.as_plain(plain, (), [], []))

    volatile = hdf5.write_volatile(file, provenance.get("volatile", {}))
    write_description(file, description)
    for name, certified in zip(names, found.observables, strict=True):
        _write_observable(file.create_group(name), certified)

    _write_levels(file.create_group("levels"), volatile, found.levels)
    sums = {name: hdf5.sha256(file[name]) for name in _datasets(file)}
    file.attrs["checksums"] = hdf5.as_toml({**sums, "attributes": _attributes_sha256(file, names)})


def _write_levels(levels: h5py.Group, volatile: h5py.Group, runs: Sequence[LevelRun]) -> None:
    """The runs that were made; how long they took goes to what differs from one time to the next."""
    routes = sorted({route for route, _, _ in runs})
    width = max((len(cells) for _, cells, _ in runs), default=1)
    levels.attrs["routes"] = hdf5.texts(routes)
    level = hdf5.add_scale(levels, "level", np.arange(len(runs)), "runs that were made, in order")
    axis = hdf5.add_scale(levels, "axis", np.arange(width), "axis of the problem")
    cells = np.zeros((len(runs), width), dtype=np.int64)
    for row, (_, n, _) in zip(cells, runs, strict=True):
        row[: len(n)] = n
    numbers = np.array([routes.index(route) for route, _, _ in runs], dtype=np.int64)
    hdf5.add_dataset(levels, "cells", cells, "cells or nodes along each axis", [level, axis])
    hdf5.add_dataset(levels, "route", numbers, "which of the attribute 'routes'", [level])
    again = hdf5.add_scale(volatile, "level", np.arange(len(runs)), "runs that were made, in order")
    seconds = np.array([seconds for _, _, seconds in runs], dtype=np.float64)
    hdf5.add_dataset(volatile, "seconds", seconds, "seconds of each run", [again])


def _named(problem: Problem) -> dict[str, Any]:
    """What names a problem, if anything does."""
    return {} if problem.parameters is None else {"problem": problem.name, "parameters": dict(problem.parameters)}


def _provenance() -> dict[str, Any]:
    """Versions, and under ``volatile`` when and where."""
    import platform

    from mfpde.support.provenance import versions

    return {
        "versions": dict(versions()),
        "python": platform.python_version(),
        "volatile": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "platform": f"{platform.system()} {platform.machine()}",
        },
    }


_GROUP = re.compile(r"[A-Za-z0-9_]{1,100}")


def _group_names(observables: Iterable[Certified]) -> list[str]:
    """A name for each observable's group: short, unique, of plain letters."""
    taken = {"levels", "volatile", GROUP}
    names = []
    for certified in observables:
        kind, parameters, _ = described(certified.observable)
        parts = [kind if kind != OTHER else "observable", parameters.get("axis", "")]
        parts += [str(parameters["power"])] if "power" in parameters else []
        parts += parameters.get("box", ())
        short = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(part for part in parts if part))[:80]
        name, k = short, 2
        while name in taken:
            name, k = f"{short}_{k}", k + 1
        taken.add(name)
        names.append(name)
    return names


def _write_observable(group: h5py.Group, certified: Certified) -> None:
    """Write an observable with its numbers into an empty group."""
    kind, parameters, array = described(certified.observable)
    group.attrs["name"] = hdf5.as_text(certified.name)
    group.attrs["kind"] = kind
    group.attrs["parameters"] = hdf5.as_toml(parameters)
    group.attrs["route"] = hdf5.as_text(certified.route)
    group.attrs["other"] = hdf5.as_text(certified.other)
    group.attrs["check"] = hdf5.as_text(certified.check)
    group.attrs["sizes"] = hdf5.texts(certified.sizes)
    value = np.asarray(certified.value, dtype=np.float64)
    scales = [hdf5.add_scale(group, "time", certified.times, "time")]
    dims = {"output": ("input", "output"), "marginal": ("bin",), "density": ("point",)}.get(kind, ())
    for k, n in enumerate(value.shape[1:]):
        name = dims[k] if k < len(dims) else f"component_{k}"
        places = 0.5 * (array[1:] + array[:-1]) if kind == "marginal" and array is not None else np.arange(n)
        label = f"middle of the interval of {parameters['axis']}" if kind == "marginal" else name
        scales.append(hdf5.add_scale(group, name, places, label))
    if array is not None:
        name = ARRAYS[kind]
        own = [hdf5.add_scale(group, "edge", np.arange(len(array)), "edge")] if name == "edges" else scales[1:2]
        own += [hdf5.add_scale(group, "coordinate", np.arange(array.shape[1]), "coordinate")] if array.ndim > 1 else []
        hdf5.add_dataset(group, name, array, name, own)
    hdf5.add_dataset(group, "value", value, certified.name, scales)
    hdf5.add_dataset(group, "bar", certified.bar, "the true value is expected within value +- bar", scales)
    if certified.other_value is not None and certified.other_bar is not None:
        hdf5.add_dataset(group, "other_value", certified.other_value, "value by the other route", scales)
        hdf5.add_dataset(group, "other_bar", certified.other_bar, "bar of the other route", scales)
    if certified.check_value is not None and certified.check_bar is not None:
        label = "value by the same route on other nodes or cells"
        hdf5.add_dataset(group, "check_value", certified.check_value, label, scales)
        hdf5.add_dataset(group, "check_bar", certified.check_bar, "bar of that", scales)


def _datasets(file: h5py.File) -> list[str]:
    """All datasets: each of them has a checksum."""
    import h5py

    return sorted(
        f"{group}/{name}" for group in file for name in file[group] if isinstance(file[group][name], h5py.Dataset)
    )


_ATTRIBUTES = {
    "": (
        hdf5.REFERENCE_MARK, "problem", "fingerprint", "configuration", "configuration_unset", "tolerance",
        "reached", "observables", "command", "provenance", "ancestral_mass",
    ),
    "levels": ("routes",),
    "observable": ("name", "kind", "parameters", "route", "other", "check", "sizes"),
}  # fmt: skip
"""The attributes that have a checksum together."""


def _attributes_sha256(file: h5py.File, observables: Iterable[str]) -> str:
    places = ("", "levels", *observables)
    return hdf5.attributes_sha256(file, ((p, _ATTRIBUTES.get(p, _ATTRIBUTES["observable"])) for p in places))


# ---------------------------------------------------------------------------------------------------------------------
# reading
# ---------------------------------------------------------------------------------------------------------------------


def read_reference(
    path: str | os.PathLike[str], problem: Problem | None = None, *, changed: list[str] | None = None
) -> StoredReference:
    """Read a reference from a file that `save_reference` wrote.

    Parameters
    ----------
    path : path
    problem : Problem, optional
        The problem, where the file does not hold it (one with functions of your own). It must have the fingerprint in
        the file.
    changed : list of str, optional
        Where what has another checksum than was written is noted; it is taken as it is then, and refused otherwise.

    Returns
    -------
    StoredReference
        Arrays bit for bit as they were.

    Raises
    ------
    mfpde.support.files.hdf5.FileFormatError
        If the file is no reference, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    ValueError
        If `problem` is another one than the one of the file.
    """
    with hdf5.reading(path, "reference") as (file, size):
        if size > MAX_BYTES:
            raise hdf5.FileFormatError(f"{path} has {size} bytes; a reference has at most {MAX_BYTES}")
        check_heaps(path)
        reader = _Reader(path, file, size)
        reader.refuses = changed is None
        found = reader.reference()
        if changed is not None:
            changed += reader.changed
    if problem is not None:
        if not isinstance(problem, Problem):
            raise ValueError(f"problem must be a Problem, not {shown(problem)}")
        if problem.fingerprint() != found.fingerprint:
            raise ValueError(
                f"problem {problem.name!r} is not the one that {path} holds a reference for ({found.name!r}): "
                "their fingerprints differ"
            )
        found.__dict__["problem"] = problem
    return found


class _Reader(hdf5.Reader):
    """The file of a reference."""

    what = "reference"

    def __init__(self, path: str | os.PathLike[str], file: h5py.File, size: int) -> None:
        super().__init__(path, file, size)
        self.seen: set[str] = set()

    def verify(self, name: str, found: str) -> None:
        """Note what is not what was written; here every dataset has a checksum."""
        self.seen.add(name)
        if self.sums.get(name) != found:
            self.changed.append(name)

    def reference(self) -> StoredReference:
        """The whole of it."""
        import h5py

        file = self.file
        self.check_kind()
        self.check_schema(hdf5.REFERENCE_MARK, SCHEMA, f"references up to schema {SCHEMA}")
        self.sums = self.table(file, "checksums")
        names = self.texts(file, "observables")
        if len({*names}) != len(names) or not all(_GROUP.fullmatch(name) for name in names) or not names:
            self.fail(f"attribute 'observables' is {shown(names)}")
        observables = tuple(self.certified(self.node(file, name, h5py.Group)) for name in names)
        found = StoredReference(
            None,
            self.number(file, "tolerance"),
            observables,
            self.levels(),
            bool(self.number(file, "reached", integer=True)),
            self.number(file, "ancestral_mass") if "ancestral_mass" in file.attrs else None,
            origin=Origin(
                path=Path(self.path),
                title=self.text(file, "problem"),
                configuration=self.configuration(),
                command=self.text(file, "command"),
                fingerprint=self.text(file, "fingerprint"),
                provenance=self.provenance(),
                plain=read_plain(self),
                description=read_description(self),
            ),
        )
        for name in self.sums.keys() - self.seen - {"attributes"}:
            group, _, own = name.partition("/")
            if not (_GROUP.fullmatch(group) and _GROUP.fullmatch(own)):
                self.fail(f"attribute 'checksums' names {shown(name)}")
            self.values(self.node(file, group, h5py.Group), own, "fi")
        self.verify("attributes", _attributes_sha256(file, names))
        self.refuse_changed()
        return found

    def levels(self) -> tuple[LevelRun, ...]:
        """The runs that were made."""
        import h5py

        group, volatile = (self.node(self.file, name, h5py.Group) for name in ("levels", "volatile"))
        routes = self.texts(group, "routes")
        cells = self.array(group, "cells", (None, None), "i")
        numbers = self.array(group, "route", (len(cells),), "i")
        seconds = self.array(volatile, "seconds", (len(cells),))
        if not all(0 <= k < len(routes) for k in numbers):
            self.fail("/levels/route names no route")
        return tuple(
            LevelRun(routes[k], tuple(int(n) for n in row if n > 0), float(s))
            for k, row, s in zip(numbers, cells, seconds, strict=True)
        )

    def certified(self, group: h5py.Group) -> Certified:
        """One observable."""
        kind = self.text(group, "kind")
        if kind not in (*KINDS, OTHER):
            self.fail(f"{group.name} is of kind {kind!r}, which is none of {', '.join((*KINDS, OTHER))}")
        times = self.array(group, "time", (None,))
        if not times.size or not (times[0] >= 0 and np.all(times[1:] > times[:-1])):
            self.fail(f"{group.name}/time is not a list of times")
        value = self.values(group, "value")
        if len(value) != len(times) or not value.size:
            self.fail(f"{group.name}/value has shape {value.shape} for {len(times)} times")
        bar = self.array(group, "bar", value.shape)
        if not np.all(bar >= 0):
            self.fail(f"{group.name}/bar is negative or no number")
        other_value = other_bar = None
        if "other_value" in group:
            other_value = self.array(group, "other_value", value.shape)
            other_bar = self.array(group, "other_bar", value.shape)
        check_value = check_bar = None
        if "check_value" in group:
            check_value = self.array(group, "check_value", value.shape)
            check_bar = self.array(group, "check_bar", value.shape)
        # files of earlier versions have neither
        sizes = tuple(self.texts(group, "sizes")) if "sizes" in group.attrs else ("", "", "")
        if len(sizes) != 3:
            self.fail(f"{group.name}: attribute 'sizes' has {len(sizes)} entries for 3 discretisations")
        array = self.values(group, ARRAYS[kind]) if kind in ARRAYS else None
        try:
            observable = None if kind == OTHER else observable_named(kind, self.table(group, "parameters"), array)
        except ValueError as error:
            self.fail(f"{group.name} is no {kind}: {one_line(error)}")
        return Certified(
            name=self.text(group, "name"),
            times=times,
            value=value,
            bar=bar,
            route=self.text(group, "route"),
            other=self.text(group, "other"),
            other_value=other_value,
            other_bar=other_bar,
            check=self.text(group, "check") if "check" in group.attrs else "",
            check_value=check_value,
            check_bar=check_bar,
            sizes=(sizes[0], sizes[1], sizes[2]),
            observable=observable,
        )

    def values(self, group: h5py.Group, name: str, kinds: str = "f") -> Array:
        """The numbers of a dataset of one to four dimensions."""
        import h5py

        dimensions = len(self.node(group, name, h5py.Dataset).shape or ())
        if not 1 <= dimensions <= 4:
            self.fail(f"{group.name}/{name} has {dimensions} dimensions")
        return np.asarray(self.array(group, name, (None,) * dimensions, kinds))
