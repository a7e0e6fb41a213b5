"""What every command prints, and how it ends: exit codes, errors and warnings of one line each."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer

from mfpde.support.words import one_line, printable

__all__ = [
    "BAD_INPUT",
    "DIFFERENT",
    "FAILED",
    "INCONSISTENT",
    "INTERRUPTED",
    "OUT_OF_TIME",
    "RefusedError",
    "UNDECIDED",
    "UNSOUND",
    "UNWRITTEN",
    "columns",
    "complain",
    "listed",
    "one_line_warnings",
    "reason",
    "refusing",
    "say",
    "say_progress",
    "silence",
    "unwritten",
]


DIFFERENT = UNWRITTEN = 1
BAD_INPUT, FAILED, INCONSISTENT, UNSOUND, UNDECIDED, OUT_OF_TIME, INTERRUPTED = 2, 3, 4, 5, 6, 124, 130
"""The exit codes that are not 0; `mfpde.cli.app` says what each of them means."""


class RefusedError(Exception):
    """Input that does not fit, with the line that says so."""


unwritten: list[Exception] = []
"""Why the output of the command in hand could not be written, where it could not."""


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print. Neither a run nor its exit code is lost where that fails, on a full disk or when nobody reads any more.

    Whatever a command says goes through here: what would act on a terminal, from whichever file it comes, is written
    out.
    """
    stream, text = sys.stderr if err else sys.stdout, printable(str(text))
    try:
        try:
            typer.echo(text, err=err, nl=nl)
        except UnicodeEncodeError as error:
            typer.echo(text.encode(error.encoding, "backslashreplace").decode(error.encoding), err=err, nl=nl)
    except (OSError, ValueError) as error:
        silence(stream)
        if not err:
            unwritten.append(error)


def say_progress(text: str) -> None:
    """Print what a long command is doing, indented, on standard error."""
    say(f"  {text}", err=True)


def complain(text: object) -> None:
    """Print one line on standard error that begins with the name of the program."""
    say(f"mfpde: {one_line(text)}", err=True)


def silence(stream: Any) -> None:
    """Write no more to a stream: what it still holds would fail once more when Python ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def columns(table: Sequence[Sequence[str]], justify: Callable[[str, int], str]) -> list[str]:
    """The rows of a table as lines, every column as wide as its widest cell; `justify` is ``str.ljust`` or such."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(justify(cell, width) for cell, width in zip(row, widths, strict=True)) for row in table]


def listed(rows: Mapping[str, str]) -> list[str]:
    """Names and values as lines, the values in one column."""
    width = max(map(len, rows))
    return [f"  {name:<{width}}  {value}" for name, value in rows.items()]


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn what the library refuses into one line."""
    try:
        yield
    except (ValueError, ArithmeticError, OSError) as error:
        raise RefusedError(reason(error)) from error
    except MemoryError as error:
        raise RefusedError(f"not enough memory: {one_line(error)}") from error


def reason(error: BaseException) -> str:
    """Why something failed, in one line: of the operating system's errors the file and what it says of it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return one_line(error)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as one line each."""

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        say(f"warning: {one_line(message)}", err=True)

    with warnings.catch_warnings():
        from mfpde.equation.problem import TruncationWarning
        from mfpde.support.session import RunWarning

        for category in (TruncationWarning, RunWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield
