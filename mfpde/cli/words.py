"""What all commands say and understand."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mfpde.mesh.solution import Solution
    from mfpde.runs.configuration import Configuration

__all__ = [
    "ANIMATION_SUFFIXES",
    "BAD_INPUT",
    "CheckpointEvery",
    "DATA_SUFFIXES",
    "FAILED",
    "INCONSISTENT",
    "INTERRUPTED",
    "NoPlot",
    "OUT_OF_TIME",
    "PICTURE_SUFFIXES",
    "Quiet",
    "RefusedError",
    "TimeLimit",
    "UNDECIDED",
    "UNSOUND",
    "UNWRITTEN",
    "any_numbers",
    "check_target",
    "check_targets",
    "complain",
    "configuration_of",
    "draw",
    "floats",
    "integers",
    "is_file",
    "line",
    "load_file",
    "one_line_warnings",
    "parse_seconds",
    "picture_path",
    "reason",
    "refusing",
    "report",
    "save_times",
    "say",
    "setting_changes",
    "silence",
    "target_path",
    "to_stderr",
    "unwritten",
]


UNWRITTEN, BAD_INPUT, FAILED, INCONSISTENT, UNSOUND, UNDECIDED, OUT_OF_TIME, INTERRUPTED = 1, 2, 3, 4, 5, 6, 124, 130

DATA_SUFFIXES = (".h5", ".hdf5")
PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
ANIMATION_SUFFIXES = (".gif", ".mp4")


class RefusedError(Exception):
    """Input that does not fit, with the line that says so."""


def line(text: object) -> str:
    return " ".join(str(text).split())


unwritten: list[Exception] = []
"""Why the output of the command in hand could not be written, where it could not."""


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print. Neither a run nor its exit code is lost where that fails, on a full disk or when nobody reads any more."""
    stream = sys.stderr if err else sys.stdout
    try:
        try:
            typer.echo(text, err=err, nl=nl)
        except UnicodeEncodeError as error:
            typer.echo(str(text).encode(error.encoding, "backslashreplace").decode(error.encoding), err=err, nl=nl)
    except (OSError, ValueError) as error:
        silence(stream)
        if not err:
            unwritten.append(error)


def silence(stream: Any) -> None:
    """Write no more to a stream: what it still holds would fail once more when Python ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def complain(text: object) -> None:
    say(f"mfpde: {line(text)}", err=True)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn what the library refuses into one line."""
    try:
        yield
    except (ValueError, ArithmeticError, OSError) as error:
        raise RefusedError(reason(error)) from error
    except MemoryError as error:
        raise RefusedError(f"not enough memory: {line(error)}") from error


def any_numbers() -> contextlib.AbstractContextManager[Any]:
    """Draw whatever a file holds: axes of 1e300 overflow where ticks are made, which is nobody's business."""
    import numpy as np

    return np.errstate(all="ignore")


def reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return line(error) or type(error).__name__


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as one line each."""

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        say(f"warning: {line(message)}", err=True)

    with warnings.catch_warnings():
        from mfpde.equation.problem import TruncationWarning
        from mfpde.support.session import RunWarning

        for category in (TruncationWarning, RunWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield


def parse_seconds(text: str) -> float:
    """A length of time: 90, 90s, 15m, 2h."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"{text!r} is no time; give seconds, or such as 90s, 15m, 2h")
    return seconds


CheckpointEvery = Annotated[
    float | None,
    typer.Option(
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
NoPlot = Annotated[bool, typer.Option("--no-plot", help="Draw no picture.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")]


def picture_path(text: str, target: Path) -> Path | None:
    """Where the picture of a run goes, as its configuration has it."""
    from mfpde.runs.configuration import Configuration

    plot = Configuration.from_toml(text, target.parent).plot
    return None if plot is None else target.with_suffix(f".{plot}")


def is_file(what: str) -> bool:
    return what.endswith(".toml") or os.sep in what or "/" in what or Path(what).is_file()


def configuration_of(what: str, changes: Mapping[str, Any], *, from_file: bool) -> Configuration:
    from mfpde.runs.configuration import load_config, named_config

    return load_config(what, changes) if from_file else named_config(what, changes)


def setting_changes(settings: Sequence[str]) -> dict[str, Any]:
    """The keys and values of ``--set``."""
    from mfpde.runs.configuration import parse_value
    from mfpde.runs.tables import ConfigurationError

    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not all(part.strip() == part != "" for part in key.split(".")):
            raise ConfigurationError(f"--set {setting!r}: needs the form key=value, such as --set alpha=0")
        try:
            value = parse_value(text.strip())
        except ConfigurationError as error:
            raise ConfigurationError(f"--set {setting!r}: {error}") from None
        changes[key] = value
    return changes


def integers(text: str, option: str) -> list[int]:
    from mfpde.runs.tables import ConfigurationError

    try:
        return [int(part) for part in text.lower().replace("x", ",").split(",")]
    except ValueError:
        raise ConfigurationError(f"{option} {text!r}: needs whole numbers, such as 96,96") from None


def save_times(text: str) -> int | list[float]:
    from mfpde.runs.tables import ConfigurationError

    try:
        if text.strip().lstrip("+-").isdecimal():
            return int(text)
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigurationError(f"--save {text!r}: needs a number of save times, or times such as 0.5,1,2") from None


def target_path(configuration: Configuration, what: str, output: Path | None, *, from_file: bool) -> Path:
    if output is not None:
        return output
    if configuration.output is not None:
        return configuration.output
    return Path(f"{Path(what).stem}.h5" if from_file else f"{configuration.name}.h5")


def check_targets(targets: Iterable[Path | None], *, force: bool) -> None:
    """Refuse, before anything is computed, what could not be written after it."""
    for i, target in enumerate(targets):
        if target is None:
            continue
        if i == 0 and target.suffix.lower() not in DATA_SUFFIXES:
            raise RefusedError(f"{target}: the solution's file must end in {' or '.join(DATA_SUFFIXES)}")
        check_target(target, force=force)


def check_target(target: Path, *, force: bool, example: str = "run.h5") -> None:
    if target.is_dir():
        raise RefusedError(f"{target} is a folder; give a file name such as {example}")
    if not target.parent.is_dir():
        raise RefusedError(f"{target}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise RefusedError(f"{target}: the folder {target.parent} cannot be written to")
    if target.exists() and not force:
        raise RefusedError(f"{target} exists; use another name (-o) or --force to overwrite it")


def draw(solution: Solution, path: Path) -> bool:
    """Draw the picture. A run is not lost when that fails."""
    from mfpde.runs.pictures import plot

    try:
        with any_numbers():
            plot(solution, path)
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        say(f"warning: no picture: {reason(error)}", err=True)
        return False
    return True


def report(solution: Solution) -> str:
    rows = solution.summary()
    width = max(map(len, rows))
    lines = [f"Solution of {solution.name!r}", *(f"  {key:<{width}}  {value}" for key, value in rows.items())]
    notes = [f"  note: {text}" for text in solution.notes if text != solution.no_certificate]
    return "\n".join([*lines, *notes, "", *_saves(solution)])


def _saves(solution: Solution) -> list[str]:
    """A line a save time."""
    import numpy as np

    d = solution.diagnostics
    at = np.minimum(np.searchsorted(d["time"], solution.times), len(d["time"]) - 1)
    table = [("t", "energy", "optimality gap", "mass", "minimum")]
    for i, t in zip(at, solution.times, strict=True):
        gap, mass, least = (float(d[name][i]) for name in ("optimality_gap", "mass", "minimum"))
        shown = "nan" if solution.no_certificate else f"{gap:.3g}"  # early versions wrote a number all the same
        table.append((f"{t:g}", f"{float(d['energy'][i]):.9g}", shown, f"{mass:.12g}", f"{least:.3g}"))
    return _aligned(table)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]


def load_file(path: Path) -> Solution:
    from mfpde.runs.loading import load

    with refusing():
        return load(path)


def floats(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RefusedError(f"{option} {text!r}: needs numbers, such as 0.5,1,2") from None


def to_stderr(text: str) -> None:
    say(f"  {text}", err=True)
