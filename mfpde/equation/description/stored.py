"""Descriptions of problems in HDF5 files: in a group of their own, with a checksum of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mfpde.equation.description.whole import Description, build, describe, is_named
from mfpde.support.files import hdf5
from mfpde.support.files.trees import array_bytes, read_tree, without_arrays, write_tree
from mfpde.support.session import quiet
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import h5py

    from mfpde.equation.problem import Problem

__all__ = [
    "GROUP",
    "description_for_file",
    "described_datasets",
    "description_is_whole",
    "description_sums",
    "read_description",
    "rebuilt",
    "with_output",
    "write_description",
]

GROUP = "problem"
"""The group in which a file has the description of its problem."""
MOST_BYTES = 2**24
"""Of arrays in a description: 16 MiB, two million numbers. A problem with more is to be given again."""


def description_for_file(problem: Problem) -> Description | None:
    """What a file says of a problem; None of one that its name and its parameters say.

    Arrays of more than 16 MiB stay outside: what they are is said instead.
    """
    if is_named(problem):
        return None
    found = describe(problem)
    if (size := array_bytes(found.tables)) <= MOST_BYTES:
        return found
    why = f"its data have {size / 2**20:.3g} MiB, a file holds at most {MOST_BYTES / 2**20:.3g} MiB of them"
    shapes = without_arrays(found.tables, lambda array: f"an array of shape {array.shape}")
    return Description(shapes, (*found.missing, why), found.silent)


def write_description(file: h5py.File, description: Description | None) -> None:
    """Write what is said of a problem; nothing where nothing is."""
    if description is None:
        return
    group = file.create_group(GROUP)
    write_tree(group, "tables", description.tables)
    group.attrs["missing"] = hdf5.texts(description.missing)
    group.attrs["silent"] = hdf5.as_text(description.silent)
    group.attrs["checksum"] = _sha256(file)


def description_is_whole(file: h5py.File) -> bool:
    """Whether the words of a description are those that were written, where a file has one."""
    return not _is_there(file) or file[GROUP].attrs.get("checksum") == _sha256(file)


def _sha256(file: h5py.File) -> str:
    return hdf5.attributes_sha256(file, [(GROUP, ("tables", "missing", "silent"))])


def described_datasets(file: h5py.File) -> list[str]:
    """The datasets of a description."""
    return [f"{GROUP}/{name}" for name in file[GROUP]] if _is_there(file) else []


def description_sums(file: h5py.File) -> dict[str, str]:
    """Checksums of all of a description, by what they are of; none where a file has none."""
    sums = {name: hdf5.sha256(file[name]) for name in described_datasets(file)}
    return {**sums, GROUP: _sha256(file)} if _is_there(file) else {}


def read_description(reader: hdf5.Reader) -> Description | None:
    """What a file says of its problem; None in files that say nothing."""
    import h5py

    if not _is_there(reader.file):
        return None
    group = reader.node(reader.file, GROUP, h5py.Group)
    found = Description(
        read_tree(reader, group, "tables"), tuple(reader.texts(group, "missing")), reader.text(group, "silent")
    )
    if not description_is_whole(reader.file):
        reader.changed.append(GROUP)
    return found


def _is_there(file: h5py.File) -> bool:
    """Whether a file has the group; in early files an axis may have this name."""
    import h5py

    return file.get(GROUP, getclass=True) is h5py.Group


def with_output(problem: Problem | None, missing: str, what: str) -> Problem:
    """The problem of a result whose output is asked for.

    Raises
    ------
    ValueError
        If a file did not hold it, or not its network: with the reason, and what to do.
    """
    if problem is None:
        why = missing or "it does not hold its problem"
        raise ValueError(f"{what}: {why}; give it with mfpde.load(path, problem=...)")
    if problem.network is None and missing:
        raise ValueError(f"{what}: {missing}; load it with mfpde.load(path, problem=...)")
    return problem


def rebuilt(description: Description | None, named: Callable[..., Problem]) -> tuple[Problem | None, str]:
    """The problem of a description, or why there is none, in one line that says what to do."""
    if description is None:
        return None, ""
    if description.missing:
        return None, "; ".join(description.missing)
    with quiet():  # what there is to say was said when the problem was solved
        try:
            return build(description.tables, named), ""
        except Exception as error:  # of another version, or from anywhere
            return None, f"this version does not make it of what the file says: {one_line(error)}"
