"""What stands beside a file while it is written: names for it, and what a kill leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

__all__ = ["lock_of", "remove_temporaries", "temporary_of", "without_folder"]

KEPT = 200
"""Bytes of a file's name that the names beside it begin with: file systems allow 255 in all."""


def lock_of(target: Path) -> Path:
    """The file that says who writes `target`."""
    return target.with_name(f".{_stem(target.name)}.lock")


def temporary_of(target: Path, suffix: str = "") -> Path:
    """A new name beside `target`, from which what is written is moved into place; it ends in `suffix`."""
    return target.with_name(f".{_stem(target.name)}.{secrets.token_hex(4)}.tmp{suffix}")


def remove_temporaries(target: Path) -> None:
    """Remove what runs that were killed have left beside `target`; only for who holds its lock."""
    ours = re.compile(re.escape(f".{_stem(target.name)}.") + r"[0-9a-f]{8}\.tmp(\.\w+)?")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):  # of somebody else
                    os.unlink(entry.path)


def without_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is relative to a working folder that was deleted."""
    if os.path.isabs(path):
        return False
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _stem(name: str) -> str:
    """What names beside a file begin with: its own name, or of a long one the beginning and what tells it from others.

    Names are cut between characters, as some file systems take no others than valid UTF-8.
    """
    if len(os.fsencode(name)) <= KEPT:
        return name
    kept = name
    while len(os.fsencode(kept)) > KEPT:
        kept = kept[:-1]
    return f"{kept}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
