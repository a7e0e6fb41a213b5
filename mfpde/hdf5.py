"""Solutions in HDF5 files: arrays and text only, described in ``docs/file-format.md``.

A file is written beside its final name and moved into place, so that a kill at any moment leaves the old file or
the new one and never a half. (What a run writes as it goes is the business of `mfpde.streaming`; the file of a run
that was killed is read here.) Reading trusts nothing: sizes are checked before memory is taken, links and
external storage are refused, text is parsed as TOML and never evaluated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import secrets
import stat
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mfpde.checks import one_of, require, shown
from mfpde.foreign import check_heaps, elsewhere, extents, parse_toml, stored_bytes
from mfpde.grid import Axis, End, Grid
from mfpde.record import COLUMNS, Record, Result, State, run_stats
from mfpde.solution import Solution
from mfpde.stored import IN_MEMORY, StoredDensity, open_file

if TYPE_CHECKING:
    import h5py

    from mfpde.problem import Problem

__all__ = ["SCHEMA", "FileFormatError", "load", "save"]

Array = NDArray[np.float64]

SCHEMA = 1
"""The version of the file format that is written; all versions up to it are read."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FLOAT, _INTEGER = np.dtype("<f8"), np.dtype("<i8")
MARK = "mfpde_schema"
REFERENCE_MARK = "mfpde_reference_schema"
"""The attribute by which the file of a reference is known."""
_RESERVED = ("time", "energy", "density", "steps", "step", "component", "state", "volatile", "unfinished")
_CELL_AVERAGES, _POINT_VALUES = "cell averages", "point values"
_BLOCK = 2**24
"""Bytes of densities that are in memory at once when they go from one file to another."""
_SEARCHED = 2**28
"""Bytes up to which a file is searched for damaged texts as a whole, larger ones around their densities."""
FRAME_COLUMNS = ("time", "energy", "steps", "length", "evaluations", "leak", "memories")
"""What the file of a run that is not over says about each frame; the controller's memory follows."""
CHECKPOINT_COLUMNS = ("record", "checksum", "frames", "rows", *FRAME_COLUMNS)
"""What it says about each checkpoint: checksums of the rest and of the density, what was written, and the same."""

# what schema 1 promises to hold: frozen here, whatever later versions record besides
_DIAGNOSTICS = (
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
_STATS = ("steps", "redone", "evaluations", "mass_drift", "energy_increase", "balanced")


class FileFormatError(ValueError):
    """A file that is not a solution, or no longer one."""


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


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
    with replacing(path, target) as temporary:
        import h5py

        # no lock: nobody else knows the temporary file, and some network drives cannot lock
        with h5py.File(temporary, "w", locking=False) as file:
            write(record, file)
    if isinstance(record.density, StoredDensity) and record.density.path == str(target):
        record.density.refresh()


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The file that is written for `path`, unless it cannot be.

    Raises
    ------
    OSError
        For a folder that is missing, a path that is no file, or one that exists and must not be overwritten.
    """
    # a link is followed, so that it goes on pointing at the data
    target = Path(os.path.realpath(os.fspath(path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; give a file name such as run.h5")
    if target.exists() and not target.is_file():
        raise OSError(f"cannot write {path}: it is not a regular file")
    if target.exists() and not overwrite:
        raise FileExistsError(f"cannot write {path}: it exists; give another name, or overwrite=True")
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], target: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `target` when the block has ended well, and is gone otherwise."""
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with reporting(path):
            # made by hand first: the system's own reason is clearer than the library's
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield temporary
            sync(temporary)
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def reporting(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of every failure to write which file it was and why."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if str(error).startswith("cannot write "):
            raise
        # the library reports a full disk as either of the two
        kind = type(error) if isinstance(error, OSError) else OSError
        raise kind(f"cannot write {path}: {getattr(error, 'strerror', None) or one_line(error)}") from None


def sync(path: Path) -> None:
    """Wait until a file has reached the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _check_lengths(record: Record) -> None:
    grid, saves = record.grid, len(record.times)
    steps = len(record.diagnostics.get("time", ()))
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "density": (record.density, (saves, *grid.shape)),
        "energy": (record.energy, (saves,)),
        "state.mu": (record.state.mu, grid.shape),
    }
    expected |= {f"diagnostics[{name!r}]": (record.diagnostics.get(name, ()), (steps,)) for name in _DIAGNOSTICS}
    expected |= {f"diagnostics[{name!r}]": (values, (steps,)) for name, values in record.diagnostics.items()}
    expected["response"] = (record.response, (steps, *np.shape(record.response)[1:2]))
    for name, (values, shape) in expected.items():
        if np.shape(values) != shape or not saves or not steps or np.ndim(record.response) != 2:
            raise ValueError(
                f"this solution cannot be saved: {name} has shape {np.shape(values)}, but {saves} save times, "
                f"{steps} recorded states and the mesh {grid.shape} ask for {shape}"
            )


def write(record: Record, file: h5py.File) -> None:
    """Write a whole solution into a file that is empty, or holds its head and its densities."""
    axes = write_head(record, file)
    time = add_scale(file, "time", record.times, "save time")
    shape = (len(record.times), *record.grid.shape)
    digest = hashlib.sha256()
    if "density" in file:
        density = file["density"]
        density.resize(len(record.times), axis=0)
        for frames in blocks(density):
            digest.update(frames.data)
    else:
        density = file.create_dataset("density", shape=shape, dtype=_FLOAT)
        block = _frames_at_once(shape)
        for i in range(0, shape[0], block):
            frames = np.ascontiguousarray(record.density[i : i + block], dtype=_FLOAT)
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
        column = add_dataset(steps, name, values, COLUMNS.get(name, name), [step])
        if name != "time":
            column.attrs["coordinates"] = "time"
    component = add_scale(steps, "component", np.arange(record.response.shape[1]), "compressed coordinate")
    add_dataset(steps, "response", record.response, "response u = int Phi dmu", [step, component])

    state = file.create_group("state")
    state.attrs["t"] = _FLOAT.type(record.state.t)
    state.attrs["n_steps"] = _INTEGER.type(record.state.n_steps)
    if record.state.length is not None:
        state.attrs["length"] = _FLOAT.type(record.state.length)
    state.attrs["memory"] = np.asarray(record.state.memory, dtype=_FLOAT)
    add_dataset(state, "mu", record.state.mu, density.attrs["long_name"], axes)

    sums = {"density": digest.hexdigest()}
    sums |= {name: sha256(file[name]) for name in _hashed(file) if name != "density"}
    file.attrs["checksums"] = as_toml({**sums, "attributes": _attributes_sha256(file)})


def _frames_at_once(shape: Sequence[int]) -> int:
    return max(1, _BLOCK // max(1, 8 * math.prod(shape[1:])))


def blocks(dataset: h5py.Dataset) -> Iterator[Array]:
    """The values of a dataset, so many along its first axis at once that memory does not matter."""
    step = _frames_at_once(dataset.shape)
    for i in range(0, dataset.shape[0], step):
        yield np.ascontiguousarray(dataset[i : i + step])


def sha256(dataset: h5py.Dataset) -> str:
    """The checksum of a dataset: of its values in C order, whatever their place in the file."""
    digest = hashlib.sha256()
    for values in blocks(dataset):
        digest.update(values.data)
    return digest.hexdigest()


_DAMAGE = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What the library raises where a file is damaged: it has no type of its own for that."""


def _hashed(file: h5py.File) -> list[str]:
    """The datasets that have checksums: all that are numbers of the run."""
    names = [name for name in file if name not in ("steps", "state", "volatile", "unfinished")]
    return [*names, *(f"steps/{name}" for name in file["steps"]), "state/mu"]


_ATTRIBUTES = {
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
    ),
    "density": ("representation",),
    "state": ("t", "n_steps", "length", "memory"),
    "axis": ("axis", "lower", "upper", "lower_end", "upper_end"),
}
"""The attributes that have a checksum together."""


def _attributes_sha256(file: h5py.File) -> str:
    axes = [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in np.atleast_1d(file.attrs["axes"])]
    return attributes_sha256(
        file, ((place, _ATTRIBUTES.get(place, _ATTRIBUTES["axis"])) for place in ("", "density", "state", *axes))
    )


def attributes_sha256(file: h5py.File, wanted: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The checksum of what attributes say: of each place in the file those that are named, as far as they are there."""
    said = []
    for place, names in wanted:
        node = file[place] if place else file
        for name in names:
            if name in node.attrs:
                value = node.attrs[name]
                said.append([place, name, value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value])
    return hashlib.sha256(json.dumps(said, default=_decoded).encode()).hexdigest()


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


def write_head(record: Record, file: h5py.File) -> list[h5py.Dataset]:
    """Write all but the numbers of a run, or write it anew; returns the axes' scales."""
    grid = record.grid
    names = _dataset_names(grid.axes)
    unset: list[str] = []
    described: list[str] = []
    configuration = as_plain(record.configuration, (), unset, described)
    provenance = {key: value for key, value in record.provenance.items() if key != "volatile"}

    file.attrs[MARK] = np.int64(SCHEMA)
    file.attrs["title"] = as_text(f"mfpde solution of {record.name}")
    file.attrs["problem"] = as_text(record.name)
    file.attrs["result"] = record.result.name
    file.attrs["fingerprint"] = as_text(record.fingerprint)
    file.attrs["axes"] = texts(names)
    file.attrs["warnings"] = texts(record.warnings)
    if record.remarks is not None:
        file.attrs["remarks"] = texts(record.remarks)
    file.attrs["stats"] = as_toml(as_plain(record.stats, (), [], []))
    file.attrs["configuration"] = as_toml(configuration)
    file.attrs["configuration_unset"] = texts(unset)
    file.attrs["configuration_described"] = texts(described)
    file.attrs["provenance"] = as_toml(as_plain(provenance, (), [], []))

    volatile = file.require_group("volatile")
    for name, value in record.provenance.get("volatile", {}).items():
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        volatile.attrs[name] = value if plain else as_text(value if isinstance(value, str) else repr(value))

    scales = []
    for i, (name, axis) in enumerate(zip(names, grid.axes, strict=True)):
        if name in file:
            scales.append(file[name])
            continue
        scale = add_scale(file, name, grid.centres(i), f"cell centres along {axis.name}")
        scale.attrs["axis"] = as_text(axis.name)
        scale.attrs["lower"], scale.attrs["upper"] = _FLOAT.type(axis.lower), _FLOAT.type(axis.upper)
        scale.attrs["lower_end"], scale.attrs["upper_end"] = axis.lower_end.value, axis.upper_end.value
        scales.append(scale)
    return scales


def describe_density(density: h5py.Dataset, record: Record) -> None:
    """Say what the densities are."""
    kind = _POINT_VALUES if record.point_values else _CELL_AVERAGES
    density.attrs["long_name"] = f"density mu per volume, {kind}"
    density.attrs["representation"] = kind


def _dataset_names(axes: Sequence[Axis]) -> list[str]:
    """What the axes are called in the file: their names, unless something else there has that name."""
    taken = {axis.name for axis in axes} | set(_RESERVED)
    names = []
    for axis in axes:
        name = axis.name
        while name in _RESERVED or (name != axis.name and name in taken):
            name = f"axis_{name}"
        taken.add(name)
        names.append(name)
    return names


def add_dataset(group: h5py.Group, name: str, values: Any, label: str, scales: Sequence[h5py.Dataset]) -> h5py.Dataset:
    values = np.asarray(values)
    dtype = _INTEGER if np.issubdtype(values.dtype, np.integer) else _FLOAT
    # contiguous and plain: what the file claims to hold can be checked against its size
    dataset = group.create_dataset(name, data=values.astype(dtype, copy=False), dtype=dtype)
    dataset.attrs["long_name"] = as_text(label)
    for i, scale in enumerate(scales):
        dataset.dims[i].attach_scale(scale)
    return dataset


def add_scale(group: h5py.Group, name: str, values: Any, label: str) -> h5py.Dataset:
    dataset = add_dataset(group, name, values, label, ())
    dataset.make_scale(name)
    return dataset


def as_text(value: str) -> str:
    """Text that an HDF5 string can hold: valid UTF-8 without NUL."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def texts(values: Sequence[str]) -> Any:
    import h5py

    return np.array([as_text(value) for value in values], dtype=h5py.string_dtype("utf-8"))


def as_toml(table: dict[str, Any]) -> str:
    import tomli_w

    return as_text(tomli_w.dumps(table))


def as_plain(value: Any, where: tuple[str, ...], unset: list[str], described: list[str]) -> Any:
    """`value` in the types of TOML. Paths to None, and to what only its repr stands for, are noted."""
    if isinstance(value, Mapping):
        table = {}
        for key, entry in value.items():
            inner = (*where, str(key))
            if entry is None:
                unset.append("/".join(inner))
            else:
                table[str(key)] = as_plain(entry, inner, unset, described)
        return table
    if isinstance(value, Enum):
        return as_plain(value.value, where, unset, described)
    if isinstance(value, (np.ndarray, np.generic)):
        return as_plain(value.tolist(), where, unset, described)
    if isinstance(value, (list, tuple)):
        return [as_plain(entry, where, unset, described) for entry in value]
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)):
        return value
    described.append("/".join(where))
    return repr(value)


# ---------------------------------------------------------------------------------------------------------------------
# reading
# ---------------------------------------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str], problem: Problem | None = None) -> Solution:
    """Read a solution from a file that `Solution.save` wrote.

    Parameters
    ----------
    path : path
        The file.
    problem : Problem, optional
        The problem that was solved, where the file cannot name it (one made of your own functions or data). It
        must have the fingerprint in the file.

    Returns
    -------
    Solution
        Arrays bit for bit as they were; densities of more than 64 MiB stay in the file and are read when they are
        indexed (`mfpde.stored.StoredDensity`). The file of a run that was killed, or is still going on, gives what
        it held at its last save time, with result ``UNFINISHED``.

        Its ``problem`` is the one given; else the one of `mfpde.problems` with the name and parameters in the file,
        if its fingerprint agrees; else the network on data that ``mfpde run`` solved, if the file of data is where
        it was and the same (its sha256 is in the configuration); else None.

    Raises
    ------
    FileFormatError
        If the file is not a solution, is damaged, or is of a newer schema.
    OSError
        If the file is missing or cannot be read.
    ValueError
        If `problem` is another one than the one that was solved.

    Examples
    --------
    >>> import mfpde as mf, os, tempfile
    >>> solution = mf.solve(mf.problems.linear_neuron(), shape=(50,), t_end=0.1, progress=False)
    >>> path = os.path.join(tempfile.mkdtemp(), "run.h5")
    >>> solution.save(path)
    >>> loaded = mf.load(path)
    >>> bool((loaded.density == solution.density).all())
    True
    >>> further = mf.solve(loaded.problem, shape=(50,), t_end=0.2, initial=loaded.state, progress=False)
    """
    solution = _read(path)
    if problem is not None:
        from mfpde.problem import Problem

        require(problem=(problem, one_of(Problem)))
        if problem.fingerprint() != solution.fingerprint:
            raise ValueError(
                f"problem {problem.name!r} is not the one that {path} holds a solution of ({solution.name!r}): "
                "their fingerprints differ; pass the problem as it was solved"
            )
        solution.problem = problem
    elif solution.fingerprint:
        solution.problem = _rebuilt(solution) or _network(solution, path)
    return solution


def _rebuilt(solution: Solution) -> Problem | None:
    from mfpde import problems

    parameters = solution.configuration.get("parameters", {})
    if not isinstance(parameters, dict) or solution.name not in problems.names():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were given when the problem was solved
        # parameters of another version, or only described by a repr: the file still holds all the data
        with contextlib.suppress(Exception):
            return with_fingerprint(problems.get(solution.name, **parameters), solution)
    return None


def _network(solution: Solution, path: str | os.PathLike[str]) -> Problem | None:
    """The network of a TOML file, if its data are where the file says and the same."""
    text = solution.configuration.get("toml")
    if not isinstance(text, str) or "[network]" not in text:
        return None
    from mfpde.config import load_solved_problem

    return load_solved_problem(solution, Path(path).parent)


def with_fingerprint(problem: Problem, solution: Solution) -> Problem | None:
    """The problem, on the axes of the solution's mesh (a run may have extended them), if it is the one solved."""
    for candidate in (problem, dataclasses.replace(problem, axes=solution.grid.axes)):
        if candidate.fingerprint() == solution.fingerprint:
            return candidate
    return None


def wrong_checksums(path: str | os.PathLike[str]) -> list[str] | None:
    """Datasets whose numbers are not what was written, large ones included; None where the file has no checksums."""
    with open_file(path) as file:
        if "checksums" not in file.attrs or "unfinished" in file:
            return None
        size = os.path.getsize(path)
        try:
            sums = parse_toml(str(file.attrs["checksums"]))
            wrong = [n for n in _hashed(file) if not _all_here(file, n, size) or sums.get(n) != sha256(file[n])]
        except _DAMAGE as error:
            raise FileFormatError(f"{path} is truncated or damaged: {one_line(error)}") from None
        return wrong if sums.get("attributes") == _attributes_sha256(file) else [*wrong, "attributes"]


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


def _read(path: str | os.PathLike[str]) -> Solution:
    with reading(path, "solution") as (file, size):
        check_heaps(path, _numbers_only(file) if size > _SEARCHED else ())
        return _SolutionReader(path, file, size).solution()


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[tuple[h5py.File, int]]:
    """An HDF5 file that is said to hold `what`, and its size; what is found damaged in it is said in one line.

    Raises
    ------
    FileFormatError
        If it is not HDF5, or the library cannot make anything of it.
    OSError
        If it is missing, or cannot be read.
    """
    if not isinstance(path, (str, os.PathLike)):  # a number would be a file that is open
        raise ValueError(f"a path is text, not {shown(path)}")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"cannot read {path}: it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"cannot read {path}: it is not a regular file")
        with open(path, "rb") as head:
            signature = head.read(len(_SIGNATURE))
    except FileNotFoundError:
        raise FileNotFoundError(f"cannot read {path}: there is no such file") from None
    if signature != _SIGNATURE:
        raise FileFormatError(f"{path} is not an HDF5 file, so it holds no {what}")
    try:
        # a finished file is never written to again: reading needs no lock
        with open_file(path) as file:
            yield file, status.st_size
    except FileFormatError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{path} is truncated or damaged: {one_line(error)}") from None


def holds_reference(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it holds a reference. What cannot be read does not."""
    try:
        with reading(path, "reference") as (file, _):
            return REFERENCE_MARK in file.attrs
    except (ValueError, OSError):
        return False


def _numbers_only(file: h5py.File) -> list[tuple[int, int]]:
    """Where the densities lie: no texts stand there, and a search would read them all."""
    import h5py

    hard = isinstance(file.get("density", getlink=True), h5py.HardLink)
    return extents(file["density"]) if hard and isinstance(file["density"], h5py.Dataset) else []


class Reader:
    """One file that is open for reading, and how to say what is wrong with it."""

    what = "solution"
    """What it is said to hold."""

    def __init__(self, path: str | os.PathLike[str], file: h5py.File, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.sums: dict[str, Any] = {}
        self.changed: list[str] = []

    def fail(self, what: str) -> NoReturn:
        raise FileFormatError(f"{self.path} is no complete mfpde {self.what}: {what}") from None

    # ----- pieces

    def node(self, group: h5py.Group, name: str, kind: type) -> Any:
        import h5py

        link = group.get(name, getlink=True)
        if link is None:
            self.fail(f"{_where(group, name)} is missing")
        if not isinstance(link, h5py.HardLink):
            self.fail(f"{_where(group, name)} is a link")
        node = group[name]
        if not isinstance(node, kind):
            self.fail(f"{_where(group, name)} is a {type(node).__name__.lower()}, not a {kind.__name__.lower()}")
        return node

    def array(self, group: h5py.Group, name: str, shape: tuple[int | None, ...], kinds: str = "f") -> Any:
        """The numbers of a dataset, which must be those that were written."""
        values = _numbers(self.dataset(group, name, shape, kinds)[()])
        self.verify(_where(group, name).lstrip("/"), hashlib.sha256(values.data).hexdigest())
        return values

    def verify(self, name: str, found: str) -> None:
        """Note what is not what was written."""
        if self.sums.get(name, found) != found:
            self.changed.append(name)

    def dataset(self, group: h5py.Group, name: str, shape: tuple[int | None, ...], kinds: str = "f") -> h5py.Dataset:
        """A dataset of eight-byte numbers of the given shape (None: any length) and kinds of dtype."""
        import h5py

        dataset = self.node(group, name, h5py.Dataset)
        where = _where(group, name)
        if dataset.dtype.kind not in kinds or dataset.dtype.itemsize != 8:
            self.fail(f"{where} has type {dataset.dtype}, not {'float64' if kinds == 'f' else 'float64 or int64'}")
        if dataset.shape is None or len(dataset.shape) != len(shape):
            self.fail(f"{where} has shape {dataset.shape}, not {len(shape)} dimensions")
        if any(n is not None and n != m for n, m in zip(shape, dataset.shape, strict=True)):
            wanted = tuple("any" if n is None else n for n in shape)
            self.fail(f"{where} has shape {dataset.shape}, not {wanted}")
        if elsewhere(dataset):
            self.fail(f"{where} keeps its values in another file")
        stored = dataset.id.get_storage_size()
        claimed = 8 * math.prod(dataset.shape)
        if stored > self.size or claimed > stored_bytes(dataset):
            self.fail(f"{where} claims {claimed} bytes, the file holds {min(stored, self.size)} of them")
        return dataset

    def attribute(self, node: Any, name: str) -> Any:
        if name not in node.attrs:
            self.fail(f"attribute {name!r} of {node.name} is missing")
        identifier = node.attrs.get_id(name)
        shape = identifier.shape or ()
        if len(shape) > 1 or math.prod(shape) * identifier.dtype.itemsize > self.size:
            self.fail(f"attribute {name!r} of {node.name} has shape {shape}")
        value = node.attrs[name]
        return value.decode("utf-8") if isinstance(value, bytes) else value

    def text(self, node: Any, name: str) -> str:
        value = self.attribute(node, name)
        if not isinstance(value, str):
            self.fail(f"attribute {name!r} of {node.name} is not text")
        return value

    def texts(self, node: Any, name: str) -> list[str]:
        value = self.attribute(node, name)
        entries = [entry.decode("utf-8") if isinstance(entry, bytes) else entry for entry in np.atleast_1d(value)]
        if not all(isinstance(entry, str) for entry in entries):
            self.fail(f"attribute {name!r} of {node.name} is not a list of texts")
        return [str(entry) for entry in entries]

    def number(self, node: Any, name: str, *, integer: bool = False) -> Any:
        value = self.attribute(node, name)
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in ("iu" if integer else "fiu"):
            self.fail(f"attribute {name!r} of {node.name} is not a number")
        return int(value) if integer else float(value)

    def table(self, node: Any, name: str) -> dict[str, Any]:
        try:
            return parse_toml(self.text(node, name))
        except ValueError as error:
            self.fail(f"attribute {name!r} of {node.name} is not TOML: {one_line(error)}")

    def check_schema(self, mark: str, newest: int, reads: str) -> None:
        """Refuse a file of a version that this one does not know."""
        schema = self.number(self.file, mark, integer=True)
        if schema > newest:
            raise FileFormatError(
                f"{self.path} has schema {schema}, this version of mfpde reads {reads}; upgrade mfpde"
            )
        if schema < 1:
            self.fail(f"schema {schema} never existed")

    def configuration(self) -> dict[str, Any]:
        configuration = self.table(self.file, "configuration")
        for path in self.texts(self.file, "configuration_unset"):
            *parents, last = path.split("/")
            table: Any = configuration
            for parent in parents:
                table = table.setdefault(parent, {}) if isinstance(table, dict) else None
            if not isinstance(table, dict):
                self.fail(f"attribute 'configuration_unset' names {path!r}, which is no key of the configuration")
            table.setdefault(last, None)
        return configuration

    def provenance(self) -> dict[str, Any]:
        import h5py

        volatile = self.node(self.file, "volatile", h5py.Group)
        provenance = self.table(self.file, "provenance")
        provenance["volatile"] = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in ((name, self.attribute(volatile, name)) for name in volatile.attrs)
        }
        return provenance


class _SolutionReader(Reader):
    """The file of a solution."""

    def solution(self) -> Solution:
        import h5py

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
        for name in _STATS:
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
        columns = list(_DIAGNOSTICS)
        columns += sorted(name for name in steps if name not in (*_DIAGNOSTICS, "step", "component", "response"))
        diagnostics = {name: self.array(steps, name, (count,), "fi") for name in columns}

        state = self.node(file, "state", h5py.Group)
        memory = np.atleast_1d(self.attribute(state, "memory"))
        if memory.dtype.kind != "f":
            self.fail("attribute 'memory' of /state is not a list of numbers")
        solution = Solution(
            grid=grid,
            times=times,
            density=density,
            energy=self.array(file, "energy", (len(times),)),
            diagnostics=diagnostics,
            response=self.array(steps, "response", (count, None)),
            result=Result[result],
            stats=stats,
            warnings=self.texts(file, "warnings"),
            remarks=self.texts(file, "remarks") if "remarks" in file.attrs else None,
            configuration=self.configuration(),
            provenance=self.provenance(),
            state=State(
                t=self.number(state, "t"),
                mu=self.array(state, "mu", grid.shape),
                n_steps=self.number(state, "n_steps", integer=True),
                length=self.number(state, "length") if "length" in state.attrs else None,
                memory=tuple(float(value) for value in memory),
            ),
            problem=None,
            point_values=point_values,
            name=self.text(file, "problem"),
            fingerprint=self.text(file, "fingerprint"),
        )
        # what does not fit together has been named above: what is left are numbers and words that were others
        if self.sums:
            self.verify("attributes", _attributes_sha256(file))
        if self.changed:
            raise FileFormatError(
                f"{self.path} has changed since it was written: "
                f"the checksum of {', '.join(self.changed)} is not the one in the file"
            )
        return solution

    def density(self, grid: Grid, frames: int, room: int | None = None) -> tuple[Array | StoredDensity, bool]:
        """The first frames of the densities, and whether they are point values."""
        dataset = self.dataset(self.file, "density", (frames if room is None else room, *grid.shape))
        kind = self.text(dataset, "representation")
        if kind not in (_CELL_AVERAGES, _POINT_VALUES):
            self.fail(f"the density is said to be {kind!r}, neither {_CELL_AVERAGES!r} nor {_POINT_VALUES!r}")
        shape = (frames, *grid.shape)
        if 8 * math.prod(shape) <= IN_MEMORY:
            values = _numbers(dataset[:frames])
            if room is None:
                self.verify("density", hashlib.sha256(values.data).hexdigest())
            return values, kind == _POINT_VALUES
        return StoredDensity(self.path, shape, growing=room is not None), kind == _POINT_VALUES

    def unfinished(self, stats: dict[str, Any]) -> Solution:
        """What a run had written when it was killed, or has written so far."""
        import h5py

        file, grid = self.file, self.grid()
        group = self.node(file, "unfinished", h5py.Group)
        frames, rows = (int(n) for n in self.array(group, "count", (2,), "i"))
        width = len(FRAME_COLUMNS)
        table = self.dataset(group, "frames", (None, None))
        room = table.shape[0]
        if not (0 < frames <= room and rows > 0 and table.shape[1] >= width):
            self.fail(f"{frames} frames and {rows} rows are no run")
        table = _numbers(table[:frames])
        density, point_values = self.density(grid, frames, room)

        # the newest state that is whole: of the last frame, or of a checkpoint after it
        last = dict(zip(FRAME_COLUMNS, table[-1].tolist(), strict=False))
        memories, mu = table[-1, width:], None
        for record, density_then in self.checkpoints(group, grid):
            if not record["frames"] <= frames or record["steps"] < last["steps"]:
                continue
            last, memories, mu = record, record["memory"], density_then
            rows = int(last["rows"])
        if not (0 <= last["memories"] <= len(memories) and np.isfinite([last["steps"], last["evaluations"]]).all()):
            self.fail("the last row of /unfinished/frames is none")
        columns = self.texts(group, "columns")
        missing = sorted({*_DIAGNOSTICS} - {*columns})
        if missing or len({*columns}) != len(columns):
            self.fail(f"the columns {missing or columns} of /unfinished are missing or twice there")
        blocks: list[Array] = []
        found, components = 0, None
        while found < rows:
            block = self.dataset(group, f"rows_{len(blocks):02d}", (None, components))
            components = block.shape[1]
            if not block.shape[0] or components < len(columns):
                self.fail(f"{block.name} has shape {block.shape}")
            blocks.append(_numbers(block[: rows - found]))
            found += len(blocks[-1])
        values = np.concatenate(blocks)
        integers = self.texts(group, "integers")
        with np.errstate(invalid="ignore"):  # only damage is no integer
            diagnostics: dict[str, Any] = {
                name: np.ascontiguousarray(values[:, i], dtype=np.int64 if name in integers else np.float64)
                for i, name in enumerate(columns)
            }
        return Solution(
            grid=grid,
            times=np.ascontiguousarray(table[:, 0]),
            density=density,
            energy=np.ascontiguousarray(table[:, 1]),
            diagnostics=diagnostics,
            response=np.ascontiguousarray(values[:, len(columns) :]),
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
            state=State(
                t=last["time"],
                mu=np.array(density[frames - 1]) if mu is None else mu,
                n_steps=int(last["steps"]),
                length=None if math.isnan(last["length"]) else last["length"],
                memory=tuple(memories[: int(last["memories"])].tolist()),
            ),
            problem=None,
            point_values=point_values,
            name=self.text(file, "problem"),
            fingerprint=self.text(file, "fingerprint"),
        )

    def checkpoints(self, group: h5py.Group, grid: Grid) -> Iterator[tuple[dict[str, Any], Array]]:
        """The checkpoints that are whole: what they say, and the density."""
        if "checkpoints" not in group:  # an early file of schema 1
            return
        width = len(CHECKPOINT_COLUMNS)
        table = _numbers(self.dataset(group, "checkpoints", (2, None))[()])
        densities = self.dataset(group, "checkpoint_mu", (2, *grid.shape))
        if table.shape[1] < width:
            self.fail(f"/unfinished/checkpoints has shape {table.shape}")
        for slot, values in enumerate(table):
            record: dict[str, Any] = dict(zip(CHECKPOINT_COLUMNS, values.tolist(), strict=False))
            if not record["rows"] > 0 or crc(values[1:]) != record["record"]:
                continue  # never written, or not to its end
            mu = _numbers(densities[slot])
            if crc(mu) == record["checksum"]:
                yield {**record, "memory": values[width:]}, mu

    def grid(self) -> Grid:
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


def crc(values: Array) -> int:
    """A quick checksum of numbers."""
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).data)


def _numbers(values: Any) -> Any:
    values = np.asarray(values)
    return np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def _where(group: h5py.Group, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"


def one_line(error: BaseException) -> str:
    """The message of an error in one line."""
    return " ".join(str(error.args[0] if error.args else error).split()) or type(error).__name__
