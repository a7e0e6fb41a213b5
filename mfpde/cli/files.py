"""Files that a command is told of: what it reads, and whether it may write where it is to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfpde.cli.output import RefusedError
from mfpde.support.files import SUFFIXES

if TYPE_CHECKING:
    from mfpde.runs.configuration import Configuration

__all__ = [
    "ANIMATION_SUFFIXES",
    "PICTURE_SUFFIXES",
    "check_new_folder",
    "check_suffix",
    "check_target",
    "check_targets",
    "configuration_of",
    "hold_target",
    "is_file",
    "make_folder",
    "picture_path",
    "target_path",
]


PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
ANIMATION_SUFFIXES = (".gif", ".mp4")


def is_file(what: str) -> bool:
    """Whether a command's argument is the name of a file, and not of a problem."""
    return what.endswith(".toml") or os.sep in what or "/" in what or Path(what).is_file()


def configuration_of(what: str, changes: Mapping[str, Any], *, from_file: bool) -> Configuration:
    """The configuration of a run: that of a TOML file, or of a problem's name, with the changes of the command line."""
    from mfpde.runs.configuration import load_config, named_config

    return load_config(what, changes) if from_file else named_config(what, changes)


def target_path(configuration: Configuration, what: str, output: Path | None, *, from_file: bool) -> Path:
    """Where the solution goes: where the command line says, else the configuration, else after what is run."""
    if output is not None:
        return output
    if configuration.output is not None:
        return configuration.output
    return Path(f"{Path(what).stem}.h5" if from_file else f"{configuration.name}.h5")


def picture_path(configuration: Configuration, target: Path) -> Path | None:
    """Where the picture of a run goes, beside its file; None where the configuration wants none."""
    return None if configuration.plot is None else target.with_suffix(f".{configuration.plot}")


def check_targets(targets: Iterable[Path | None], *, force: bool) -> None:
    """Refuse, before anything is computed, what could not be written after it: a solution's file, then others."""
    for i, target in enumerate(targets):
        if target is None:
            continue
        if i == 0:
            check_suffix(target, SUFFIXES, "the solution's file")
        check_target(target, force=force)


def hold_target(target: Path, leaving: ExitStack, *, force: bool, example: str = "run.h5") -> None:
    """Keep a file from other writers until the command leaves; refuse it as `check_target` does.

    What stands there is looked at once nobody else can write it: of two commands that begin together, the second finds
    what the first has written.
    """
    from mfpde.support.files.locks import held

    check_target(target, force=True, example=example)
    leaving.enter_context(held(target))
    check_target(target, force=force, example=example)


def check_new_folder(folder: Path) -> bool:
    """Whether a folder is missing, and can be made; refused if it is missing and cannot."""
    if folder.is_dir():
        return False
    above = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not above.is_dir():
        raise RefusedError(f"{folder}: {above} is a file, and no folder")
    if not os.access(above, os.W_OK):
        raise RefusedError(f"{folder}: the folder {above} cannot be written to")
    return True


def make_folder(folder: Path, leaving: ExitStack) -> None:
    """Make a folder with those above it; what is empty when the command leaves is gone again."""
    if not check_new_folder(folder):
        return
    missing = [parent for parent in (folder.absolute(), *folder.absolute().parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)

    def remove() -> None:
        with suppress(OSError):  # it is not empty
            for made in missing:
                made.rmdir()

    leaving.callback(remove)


def check_suffix(path: Path, suffixes: Sequence[str], what: str) -> None:
    """Refuse a file whose suffix names none of the formats that there are."""
    if path.suffix.lower() not in suffixes:
        raise RefusedError(f"{path}: {what} must end in {' or '.join(suffixes)}")


def check_target(target: Path, *, force: bool, example: str = "run.h5") -> None:
    """Refuse a file that could not be written, or is there already; with `force` it may be overwritten."""
    if target.is_dir():
        raise RefusedError(f"{target} is a folder; give a file name such as {example}")
    if not target.parent.is_dir():
        raise RefusedError(f"{target}: the folder {target.parent} does not exist (mfpde run --mkdir makes it)")
    if not os.access(target.parent, os.W_OK):
        raise RefusedError(f"{target}: the folder {target.parent} cannot be written to")
    if target.exists() and not force:
        raise RefusedError(f"{target} exists; use another name (-o) or --force to overwrite it")
