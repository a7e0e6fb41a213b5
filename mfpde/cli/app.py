"""The command ``mfpde``: run problems, look at solutions, cite what was used.

Exit codes: 0 all is well; 2 the input does not fit (one line on standard error that begins with
``mfpde:``, nothing is written); 3 the run failed; 4 the particles are inconsistent with the mean
field, two discretisations with each other, or a reference with itself computed again; 5 a file does
not verify; 6 a comparison is undecided (``compare --strict``); 124 the time allowed was over; 130 the
run was interrupted (Ctrl-C or SIGTERM); 1 two files differ (``diff``), or all is well, but what there
was to print could not be written, or (with a traceback) an error of mfpde's.
After 3, 124 and 130 what ``run`` had computed is saved, and ``resume`` goes on. ``run`` writes its
file while it computes: after a kill ``resume`` goes on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mfpde import __version__
from mfpde.cli.cite import cite
from mfpde.cli.compare import compare
from mfpde.cli.differing import diff
from mfpde.cli.listing import list_files
from mfpde.cli.look import info, list_problems, plot, verify
from mfpde.cli.output import BAD_INPUT, INTERRUPTED, UNWRITTEN, RefusedError, complain, reason, say, silence, unwritten
from mfpde.cli.references import reference
from mfpde.cli.runs import resume, run
from mfpde.cli.starting import init
from mfpde.cli.sweeps import sweep

__all__ = ["app", "main"]


class _UnexpectedError(Exception):
    """What a command raised, past the parser."""


class _Commands(TyperGroup):
    """The commands, with every kind of bad input reported alike: one line, exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command line and exit."""
        kwargs["standalone_mode"] = False
        unwritten.clear()
        code: Any = 0
        unexpected: BaseException | None = None
        try:
            code = super().main(*args, **kwargs)
        except RefusedError as error:
            complain(error)
            code = BAD_INPUT
        except typer.Abort:
            complain("interrupted")
            code = INTERRUPTED
        except _UnexpectedError as error:
            unexpected = error.__cause__
        except OSError as error:  # of the parser, which prints the help
            silence(sys.stdout)
            unwritten.append(error)
        except Exception as error:
            # the parser's own complaints have this method whichever parser typer is built on
            if not hasattr(error, "format_message"):
                raise
            complain(error.format_message())
            code = BAD_INPUT
        if unexpected is not None:
            raise unexpected
        code = code if isinstance(code, int) else 0
        if unwritten:
            code = code or UNWRITTEN
            if not isinstance(unwritten[0], BrokenPipeError):  # whoever reads our output has seen enough
                complain(f"the output could not be written: {reason(unwritten[0])}")
        sys.exit(code)

    def invoke(self, context: Any) -> Any:
        """Run a command; only an interrupt ends it as one.

        The parser takes an end of file for an interrupt, whatever file it was, and a broken pipe for that of our
        output.
        """
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            raise typer.Abort from None
        except (EOFError, OSError) as error:
            raise _UnexpectedError from error


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    _claim_standard_streams()
    app(args=None if arguments is None else list(arguments), prog_name="mfpde")


def _claim_standard_streams() -> None:
    """Have streams where there are none.

    A file of results with the number 0, 1 or 2 would get messages; and NumPy asks a standard error that is None to
    write.
    """
    with contextlib.suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Solve the mean-field PDE of wide two-layer networks on a mesh."""
    if version:
        say(f"mfpde {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit


app.command()(run)
app.command()(resume)
app.command()(sweep)
app.command()(verify)
app.command(name="problems")(list_problems)
app.command()(init)
app.command()(info)
app.command()(plot)
app.command(name="ls")(list_files)
app.command()(diff)
app.command()(compare)
app.command()(reference)
app.command()(cite)
