"""HDF5 files that this package writes and reads: how they come into being, and how little of them is believed.

A file is written beside its final name and moved into place, so that a kill at any moment leaves the old file or
the new one and never a half. Reading trusts nothing: sizes are checked before memory is taken, links and external
storage are refused, text is parsed as TOML and never evaluated. What is in the file of a solution is the business of
`mfpde.mesh.solution_writer` and `mfpde.mesh.solution_reader`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mfpde.support.arguments import shown
from mfpde.support.arrays import Array
from mfpde.support.files.beside import temporary_of, without_folder
from mfpde.support.files.frames import open_file
from mfpde.support.files.untrusted import elsewhere, parse_toml, stored_bytes
from mfpde.support.words import one_line, printable

if TYPE_CHECKING:
    import h5py

__all__ = [
    "DAMAGE",
    "FLOAT",
    "INTEGER",
    "EQUILIBRIUM_MARK",
    "MARK",
    "REFERENCE_MARK",
    "FileFormatError",
    "Reader",
    "add_dataset",
    "add_scale",
    "as_numbers",
    "as_plain",
    "as_text",
    "as_toml",
    "attributes_sha256",
    "blocks",
    "check_target",
    "frames_at_once",
    "holds",
    "kind_of",
    "reading",
    "replacing",
    "reporting",
    "sha256",
    "sync",
    "texts",
    "volatile_sha256",
    "write_volatile",
]


FLOAT, INTEGER = np.dtype("<f8"), np.dtype("<i8")
MARK = "mfpde_schema"
"""The attribute by which the file of a solution is known: the version of its format."""
REFERENCE_MARK = "mfpde_reference_schema"
"""The attribute by which the file of a reference is known."""
EQUILIBRIUM_MARK = "mfpde_equilibrium_schema"
"""The attribute by which the file of a stationary state is known."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BLOCK = 2**24
"""Bytes of densities that are in memory at once when they go from one file to another."""
DAMAGE = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What the library raises where a file is damaged: it has no type of its own for that."""


class FileFormatError(ValueError):
    """A file that is not what it is said to be, a solution or a reference, or no longer."""


# ---------------------------------------------------------------------------------------------------------------------
# writing
# ---------------------------------------------------------------------------------------------------------------------


def check_target(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The file that is written for `path`, unless it cannot be.

    Raises
    ------
    OSError
        For a folder that is missing, a path that is no file, or a file that exists and must not be overwritten, or that
        is write-protected.
    """
    if without_folder(path):
        raise FileNotFoundError(
            f"cannot write {path}: the working folder was deleted; go to another one, or give the whole path"
        )
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
    if target.exists():
        _mind_protection(path, target)
    return target


def _mind_protection(path: str | os.PathLike[str], target: Path) -> None:
    """Refuse to replace a file that must not be written: that it can be done, as the folder may, is no permission."""
    mode = stat.S_IMODE(target.stat().st_mode)
    # without any such bit it is protected from the superuser as well
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(
            f"cannot write {path}: it is write-protected (mode {mode:03o}); chmod u+w it, or give another name"
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], target: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `target` when the block has ended well, and is gone otherwise.

    Who may read and write it stays as it was of the target; where there was none, the umask says.
    """
    temporary = temporary_of(target)
    try:
        with reporting(path):
            # made by hand first: the system's own reason is clearer than the library's
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _keep_access(target, number)
            finally:
                os.close(number)
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


_ACCESS_LIST = "system.posix_acl_access"
"""Under what name Linux keeps the access control list of a file."""


def _keep_access(target: Path, number: int) -> None:
    """Give an open file the owner, the group, the mode and the access control list of `target`, where it exists.

    What may not be given is not: then the group, whose rights were those of another one or of a list, has those that
    everybody has.
    """
    try:
        old = target.stat()
    except FileNotFoundError:
        return
    if not hasattr(os, "fchown"):  # Windows has the rights of the folder
        return
    mode, new = stat.S_IMODE(old.st_mode) & 0o777, os.fstat(number)
    for owner, group in ((old.st_uid, old.st_gid), (-1, old.st_gid)):
        if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
            break
        with contextlib.suppress(OSError):
            os.fchown(number, owner, group)
            break
    try:
        listed = os.getxattr(target, _ACCESS_LIST) if hasattr(os, "getxattr") else None
    except OSError:
        listed = None
    kept = os.fstat(number).st_gid == old.st_gid
    if listed is not None:
        try:
            os.setxattr(number, _ACCESS_LIST, listed)
        except OSError:
            kept = False
    os.fchmod(number, mode if kept else mode & ~0o070 | (mode & 0o007) << 3)


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


def add_dataset(group: h5py.Group, name: str, values: Any, label: str, scales: Sequence[h5py.Dataset]) -> h5py.Dataset:
    """Write numbers of eight bytes with a label, and the scales of their axes."""
    values = np.asarray(values)
    dtype = INTEGER if np.issubdtype(values.dtype, np.integer) else FLOAT
    # contiguous and plain: what the file claims to hold can be checked against its size
    dataset = group.create_dataset(name, data=values.astype(dtype, copy=False), dtype=dtype)
    dataset.attrs["long_name"] = as_text(label)
    for i, scale in enumerate(scales):
        dataset.dims[i].attach_scale(scale)
    return dataset


def add_scale(group: h5py.Group, name: str, values: Any, label: str) -> h5py.Dataset:
    """Write numbers along an axis: a dimension scale, as HDF5 calls it, which xarray takes for a coordinate."""
    dataset = add_dataset(group, name, values, label, ())
    dataset.make_scale(name)
    return dataset


def as_text(value: str) -> str:
    """Text that an HDF5 string can hold: valid UTF-8 without NUL."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def texts(values: Sequence[str]) -> Any:
    """A list of texts, as an attribute holds it."""
    import h5py

    return np.array([as_text(value) for value in values], dtype=h5py.string_dtype("utf-8"))


def as_toml(table: dict[str, Any]) -> str:
    """A table as TOML text that an HDF5 string can hold."""
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


def write_volatile(file: h5py.File, values: Mapping[str, Any]) -> h5py.Group:
    """Write what differs between runs that are alike, with a checksum of its own: files are compared without it."""
    group = file.require_group("volatile")
    for name, value in values.items():
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        group.attrs[name] = value if plain else as_text(value if isinstance(value, str) else repr(value))
    group.attrs[_CHECKSUM] = volatile_sha256(file)
    return group


_CHECKSUM = "checksum"
"""The attribute of the group ``volatile`` that is the checksum of the others."""


# ---------------------------------------------------------------------------------------------------------------------
# checksums
# ---------------------------------------------------------------------------------------------------------------------


def frames_at_once(shape: Sequence[int]) -> int:
    """How many entries along the first axis of an array of doubles are in memory at once."""
    return max(1, _BLOCK // max(1, 8 * math.prod(shape[1:])))


def blocks(dataset: h5py.Dataset) -> Iterator[Array]:
    """The values of a dataset, so many along its first axis at once that memory does not matter."""
    step = frames_at_once(dataset.shape)
    for i in range(0, dataset.shape[0], step):
        yield np.ascontiguousarray(dataset[i : i + step])


def sha256(dataset: h5py.Dataset) -> str:
    """The checksum of a dataset: of its values in C order, whatever their place in the file."""
    digest = hashlib.sha256()
    for values in blocks(dataset):
        digest.update(values.data)
    return digest.hexdigest()


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


def volatile_sha256(file: h5py.File) -> str:
    """The checksum of what the attributes of the group ``volatile`` say."""
    return attributes_sha256(file, [("volatile", sorted(name for name in file["volatile"].attrs if name != _CHECKSUM))])


def _decoded(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)


# ---------------------------------------------------------------------------------------------------------------------
# reading
# ---------------------------------------------------------------------------------------------------------------------


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
        why = "the working folder was deleted" if without_folder(path) else "there is no such file"
        raise FileNotFoundError(f"cannot read {path}: {why}") from None
    if signature != _SIGNATURE:
        raise FileFormatError(f"{path} is not an HDF5 file, so it holds no {what}")
    try:
        # a finished file is never written to again: reading needs no lock
        with open_file(path) as file:
            yield file, status.st_size
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise FileFormatError(f"{path} is truncated or damaged: {one_line(error)}") from None


def holds(path: str | os.PathLike[str], mark: str) -> bool:
    """Whether a file says that it is of the kind with this mark. What cannot be read does not."""
    try:
        with reading(path, "result") as (file, _):
            return mark in file.attrs
    except (ValueError, OSError):
        return False


def kind_of(file: h5py.File) -> str:
    """What a file says that it holds: solution, stationary state, reference, sweep, or no file of mfpde."""
    for mark, kind in ((MARK, "solution"), (EQUILIBRIUM_MARK, "stationary state"), (REFERENCE_MARK, "reference")):
        if mark in file.attrs:
            return kind
    return "sweep" if "measured" in file.attrs and "identity" in file.attrs else "no file of mfpde"


_KINDS = (0, 1, 3, 8)
"""Integers, floating-point numbers, texts and booleans, as HDF5 numbers the classes of types."""


class Reader:
    """One file that is open for reading, and how to say what is wrong with it."""

    what = "solution"
    """What it is said to hold."""
    refuses = True
    """Whether what has another checksum than was written is refused."""

    def __init__(self, path: str | os.PathLike[str], file: h5py.File, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.sums: dict[str, Any] = {}
        self.changed: list[str] = []

    def fail(self, what: str) -> NoReturn:
        """Refuse the file: `what` says in a few words what is wrong with it."""
        raise FileFormatError(f"{self.path} is no complete mfpde {self.what}: {printable(what)}") from None

    def node(self, group: h5py.Group, name: str, kind: type) -> Any:
        """A group or dataset that lies in the file itself, and is no link."""
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
        values = as_numbers(self.dataset(group, name, shape, kinds)[()])
        self.verify(_where(group, name).lstrip("/"), hashlib.sha256(values.data).hexdigest())
        return values

    def verify(self, name: str, found: str) -> None:
        """Note what is not what was written."""
        if self.sums.get(name, found) != found:
            self.changed.append(name)

    def check_kind(self) -> None:
        """Refuse a file that holds something else than `what`, or nothing of mfpde's."""
        kind, opened = kind_of(self.file), f'open it with xarray.open_dataset({str(self.path)!r}, engine="h5netcdf")'
        readers = {"reference": "read it with mfpde.load_reference", "sweep": opened}
        if kind == "no file of mfpde":
            raise FileFormatError(f"{self.path} is an HDF5 file, but not one that mfpde wrote")
        if kind != self.what:
            remedy = readers.get(kind, "read it with mfpde.load")
            raise FileFormatError(f"{self.path} holds a {kind}, not a {self.what}; {remedy}")

    def refuse_changed(self) -> None:
        """Refuse what is not what was written, where `refuses` says so: once all is read, and what does not fit named.

        Raises
        ------
        FileFormatError
            With what it is that has changed.
        """
        if self.changed and self.refuses:
            raise FileFormatError(
                f"{self.path} has changed since it was written: "
                f"the checksum of {', '.join(self.changed)} is not the one in the file"
            )

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
        """The value of an attribute, no larger than the file."""
        if name not in node.attrs:
            self.fail(f"attribute {name!r} of {node.name} is missing")
        identifier = node.attrs.get_id(name)
        # the library reads what has another type, which this package never writes, from places that do not exist
        if identifier.get_type().get_class() not in _KINDS:
            self.fail(f"attribute {name!r} of {node.name} is neither a number nor text")
        shape = identifier.shape or ()
        if len(shape) > 1 or math.prod(shape) * identifier.dtype.itemsize > self.size:
            self.fail(f"attribute {name!r} of {node.name} has shape {shape}")
        value = node.attrs[name]
        return value.decode("utf-8") if isinstance(value, bytes) else value

    def text(self, node: Any, name: str) -> str:
        """An attribute that is text."""
        value = self.attribute(node, name)
        if not isinstance(value, str):
            self.fail(f"attribute {name!r} of {node.name} is not text")
        return value

    def texts(self, node: Any, name: str) -> list[str]:
        """An attribute that is a list of texts."""
        value = self.attribute(node, name)
        entries = [entry.decode("utf-8") if isinstance(entry, bytes) else entry for entry in np.atleast_1d(value)]
        if not all(isinstance(entry, str) for entry in entries):
            self.fail(f"attribute {name!r} of {node.name} is not a list of texts")
        return [str(entry) for entry in entries]

    def number(self, node: Any, name: str, *, integer: bool = False) -> Any:
        """An attribute that is one number."""
        value = self.attribute(node, name)
        if np.ndim(value) != 0 or np.asarray(value).dtype.kind not in ("iu" if integer else "fiu"):
            self.fail(f"attribute {name!r} of {node.name} is not a number")
        return int(value) if integer else float(value)

    def table(self, node: Any, name: str) -> dict[str, Any]:
        """An attribute that is TOML text, parsed."""
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
        """The settings of the run that led to the file, with a None for what was not set."""
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
        """Versions, and under ``"volatile"`` what differs between runs that are alike."""
        import h5py

        group = self.node(self.file, "volatile", h5py.Group)
        provenance = self.table(self.file, "provenance")
        volatile = {name: self._volatile(group, name) for name in group.attrs if name != _CHECKSUM}
        if _CHECKSUM in group.attrs and self.text(group, _CHECKSUM) != volatile_sha256(self.file):
            self.changed.append("volatile")
        provenance["volatile"] = volatile
        return provenance

    def _volatile(self, group: h5py.Group, name: str) -> Any:
        """A value that differs between runs: a number that can be one, or text."""
        value = self.attribute(group, name)
        value = value.item() if isinstance(value, np.generic) else value
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
        wanted, fits = {
            "seconds": ("a duration", number),
            "resumed": ("a count", number and isinstance(value, int)),
            **dict.fromkeys(("command", "date", "machine", "platform"), ("text", isinstance(value, str))),
        }.get(name, ("a number or text", number or isinstance(value, str)))
        if not fits:
            self.fail(f"attribute {name!r} of /volatile is not {wanted}")
        return value


def as_numbers(values: Any) -> Any:
    """Floats or integers of eight bytes in the machine's order, one after the other."""
    values = np.asarray(values)
    return np.ascontiguousarray(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64)


def _where(group: h5py.Group, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}"
