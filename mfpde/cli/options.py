"""Options of the command line: those that several commands have, and what their texts mean."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mfpde.cli.output import RefusedError

__all__ = [
    "CheckpointEvery",
    "Force",
    "MakeFolder",
    "NoPlot",
    "Quiet",
    "RunName",
    "SolutionFile",
    "Threads",
    "TimeLimit",
    "floats",
    "given",
    "integers",
    "parse_seconds",
    "run_options",
    "save_times",
    "setting_changes",
    "toml_changes",
]


def parse_seconds(text: str) -> float:
    """A length of time: 90, 90s, 15m, 2h.

    Raises
    ------
    typer.BadParameter
        If the text is none.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"{text!r} is no time; give seconds, or such as 90s, 15m, 2h")
    return seconds


RunName = Annotated[str, typer.Argument(metavar="NAME|FILE.toml", help="A problem's name, or a TOML file.")]
SolutionFile = Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")]
CheckpointEvery = Annotated[
    float | None,
    typer.Option(
        "--checkpoint-every",
        parser=parse_seconds,
        metavar="TIME",
        help="How often the state is saved between save times: 60s, 5m; 0 for never [default: 60s].",
        show_default=False,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        parser=parse_seconds, metavar="TIME", help="Stop and save after this time: 90s, 15m, 2h.", show_default=False
    ),
]
Threads = Annotated[int | None, typer.Option(help="Number of threads.", show_default=False)]
NoPlot = Annotated[bool, typer.Option("--no-plot", help="Draw no picture.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")]
MakeFolder = Annotated[bool, typer.Option("--mkdir", help="Make the folder of the output, where it is missing.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite files.")]


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def run_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run among the arguments of a command, but for its file; texts that stand for values are read."""
    from mfpde.mesh.options import OPTIONS

    read: dict[str, Callable[[str], Any]] = {"shape": cells, "save": save_times}
    own = given({name: arguments.get(name) for name in OPTIONS if name != "output"})
    return {name: read[name](value) if name in read else value for name, value in own.items()}


def toml_changes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The same by the key of a TOML file."""
    from mfpde.mesh.options import OPTIONS

    return {str(OPTIONS[name].toml): value for name, value in run_options(arguments).items()}


def setting_changes(settings: Sequence[str]) -> dict[str, Any]:
    """The keys and values of ``--set``."""
    from mfpde.runs.configuration import parse_value
    from mfpde.runs.tables import ConfigurationError

    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not all(part.strip() == part != "" for part in key.split(".")):
            raise RefusedError(f"--set {setting!r}: needs the form key=value, such as --set alpha=0")
        try:
            value = parse_value(text.strip())
        except ConfigurationError as error:
            raise RefusedError(f"--set {setting!r}: {error}") from None
        changes[key] = value
    return changes


def integers(text: str, option: str) -> list[int]:
    """Whole numbers with commas or an x between them: ``96,96``, ``96x96``."""
    with _needing("whole numbers, such as 96,96", text, option):
        return [int(part) for part in text.lower().replace("x", ",").split(",")]


def cells(text: str) -> int | list[int]:
    """Cells along each axis, or one number for every axis: ``96,64``, ``96``."""
    found = integers(text, "--shape")
    return found if len(found) > 1 else found[0]


def floats(text: str, option: str) -> list[float]:
    """Numbers with commas between them: ``0.5,1,2``."""
    with _needing("numbers, such as 0.5,1,2", text, option):
        return [float(part) for part in text.split(",")]


def save_times(text: str) -> int | list[float]:
    """The number of save times, or the times with commas between them."""
    with _needing("a number of save times, or times such as 0.5,1,2", text, "--save"):
        if text.strip().lstrip("+-").isdecimal():
            return int(text)
        return [float(part) for part in text.split(",")]


@contextlib.contextmanager
def _needing(wanted: str, text: str, option: str) -> Iterator[None]:
    """Say what an option needs, where its text is something else."""
    try:
        yield
    except ValueError:
        raise RefusedError(f"{option} {text!r}: needs {wanted}") from None
