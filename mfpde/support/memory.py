"""Memory: what something takes, before it is made, and what this process may still have.

What there is, is asked of the system and not of a library: the limits of a process and of its control groups, which
are what kills a run in a container or on a cluster, are files to be read, and a library for the rest would be one more
dependency for one number.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

from mfpde.support.arguments import shown

__all__ = ["Memory", "available", "check_memory", "refuse"]

UNLIMITED = 2**60
"""A limit from which on there is none: version 1 of control groups has no word for that."""


class Memory(NamedTuple):
    """Bytes that something takes.

    Attributes
    ----------
    kept : float
        For as long as it lives.
    making : float
        Besides, at most, while it is made.
    working : float
        Besides, at most, while it is used.
    """

    kept: float
    making: float = 0.0
    working: float = 0.0

    @classmethod
    def arrays(cls, size: float, kept: float, making: float = 0.0, working: float = 0.0) -> Memory:
        """The same, counted in arrays of so many numbers."""
        return cls(8.0 * size * kept, 8.0 * size * making, 8.0 * size * working)


def check_memory(count: int, arrays: int, what: str) -> None:
    """Refuse what does not fit into memory, rather than be killed: so many arrays of a number for each of `count`.

    Raises
    ------
    MemoryError
        With the number that would fit.
    """
    needed = min(8 * count * arrays, 2**900)
    there = available()
    if there is not None and needed > there:
        refuse(f"{shown(count)} {what}", needed, there, f"use at most {there // (8 * arrays)} {what}")


def refuse(what: str, needed: float, there: float, remedy: str) -> None:
    """Say what is needed, what there is, and what to do.

    Raises
    ------
    MemoryError
        Always.
    """
    raise MemoryError(
        f"{what} need about {_size(needed)} of memory, there are {_size(there)} that this process may take; {remedy}"
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"


def available(root: str = "") -> int | None:
    """Bytes of memory that this process may take besides what it has; None where nothing is known.

    The least of what is left of its own limits (``ulimit -v`` and ``-d``), of the limits of its control groups and all
    above them, less what they use and cannot give back, and of what the machine has without swapping. Where the system
    does not say what is left (macOS), its physical memory; on Windows nothing is known.

    Parameters
    ----------
    root : str, optional
        What stands before ``/proc`` and ``/sys``.
    """
    found = [*_own_limits(root), *_groups(root), *_machine(root)]
    return max(0, min(found)) if found else None


def _own_limits(root: str) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, used in (("RLIMIT_AS", "VmSize:"), ("RLIMIT_DATA", "VmData:")):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            soft = resource.getrlimit(getattr(resource, name))[0]
            if soft != resource.RLIM_INFINITY:
                yield soft - 1024 * _numbers(f"{root}/proc/self/status").get(used, 0)


def _machine(root: str) -> Iterator[int]:
    kib = _numbers(f"{root}/proc/meminfo").get("MemAvailable:")
    if kib is not None:
        yield 1024 * kib
        return
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Names(NamedTuple):
    """What the files of a control group are called: its limit, what it uses, and of that what it can give back."""

    limit: str
    used: str
    returnable: tuple[str, ...]


_FILES = {
    "cgroup2": _Names("memory.max", "memory.current", ("inactive_file", "active_file")),
    "cgroup": _Names("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}
"""By the type of the file system, which is the version of control groups."""


def _groups(root: str) -> Iterator[int]:
    """What is left in the control groups of this process, and in those that they are in."""
    paths = {}
    for line in _lines(f"{root}/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    for kind, mounted, folder in _mounts(root):
        if kind not in paths:
            continue
        # what is mounted may be a group and not the root of all; a path that leads out of it is not to be seen here
        inside = os.path.relpath(paths[kind], mounted)
        steps = [] if inside.startswith("..") else [step for step in inside.split(os.sep) if step != "."]
        for k in range(len(steps) + 1):
            yield from _left("/".join([folder, *steps[:k]]), _FILES[kind])


def _left(folder: str, names: _Names) -> Iterator[int]:
    """What is left of the limit of one control group, if it has one."""
    with contextlib.suppress(IndexError, ValueError):  # "max" is no limit, and the uppermost group has no file
        limit = int(_lines(f"{folder}/{names.limit}")[0])
        if limit < UNLIMITED:
            numbers = _numbers(f"{folder}/memory.stat")
            given_back = sum(numbers.get(name, 0) for name in names.returnable)
            yield limit - int(_lines(f"{folder}/{names.used}")[0]) + given_back


@functools.cache
def _mounts(root: str) -> list[tuple[str, str, str]]:
    """Where control groups for memory are mounted: the file system's type, what of it is mounted, and the folder."""
    found = []
    for line in _lines(f"{root}/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(" ")[-1].split(",")):
            mounted, place = before.split(" ")[3:5]
            found.append((kind, mounted, f"{root}{place}"))
    return found


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _numbers(path: str) -> dict[str, int]:
    """The numbers in a file of lines ``name number``."""
    pairs = (line.split(None, 2)[:2] for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}
