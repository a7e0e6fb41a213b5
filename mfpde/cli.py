"""The command ``mfpde``: run problems, look at solutions, cite what was used.

Exit codes: 0 all is well; 2 the input does not fit (one line on standard error that begins with
``mfpde:``, nothing is written); 3 the run failed; 4 the particles are inconsistent with the mean
field, two discretisations with each other, or a reference with itself computed again; 5 a file does
not verify; 124 the time allowed was over; 130 the run was interrupted (Ctrl-C or SIGTERM); 1 all is
well, but what there was to print could not be written, or (with a traceback) an error of mfpde's.
After 3, 124 and 130 what ``run`` had computed is saved, and ``resume`` goes on. ``run`` writes its
file while it computes: after a kill ``resume`` goes on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mfpde import __version__

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem
    from mfpde.mesh.solution import Solution
    from mfpde.mesh.stream import Stream
    from mfpde.runs.configuration import Configuration

__all__ = ["app", "main"]

UNWRITTEN, BAD_INPUT, FAILED, INCONSISTENT, UNSOUND, UNDECIDED, OUT_OF_TIME, INTERRUPTED = 1, 2, 3, 4, 5, 6, 124, 130

DATA_SUFFIXES = (".h5", ".hdf5")
PICTURE_SUFFIXES = (".png", ".pdf", ".svg")
ANIMATION_SUFFIXES = (".gif", ".mp4")


class _RefusedError(Exception):
    """Input that does not fit, with the line that says so."""


def _line(text: object) -> str:
    return " ".join(str(text).split())


_unwritten: list[Exception] = []
"""Why the output of the command in hand could not be written, where it could not."""


def _say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print. Neither a run nor its exit code is lost where that fails, on a full disk or when nobody reads any more."""
    stream = sys.stderr if err else sys.stdout
    try:
        try:
            typer.echo(text, err=err, nl=nl)
        except UnicodeEncodeError as error:
            typer.echo(str(text).encode(error.encoding, "backslashreplace").decode(error.encoding), err=err, nl=nl)
    except (OSError, ValueError) as error:
        _silence(stream)
        if not err:
            _unwritten.append(error)


def _silence(stream: Any) -> None:
    """Write no more to a stream: what it still holds would fail once more when Python ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _complain(text: object) -> None:
    _say(f"mfpde: {_line(text)}", err=True)


class _UnexpectedError(Exception):
    """What a command raised, past the parser."""


class _Commands(TyperGroup):
    """The commands, with every kind of bad input reported alike: one line, exit code 2."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run a command line and exit."""
        kwargs["standalone_mode"] = False
        _unwritten.clear()
        code: Any = 0
        unexpected: BaseException | None = None
        try:
            code = super().main(*args, **kwargs)
        except _RefusedError as error:
            _complain(error)
            code = BAD_INPUT
        except typer.Abort:
            _complain("interrupted")
            code = INTERRUPTED
        except _UnexpectedError as error:
            unexpected = error.__cause__
        except OSError as error:  # of the parser, which prints the help
            _silence(sys.stdout)
            _unwritten.append(error)
        except Exception as error:
            # the parser's own complaints have this method whichever parser typer is built on
            if not hasattr(error, "format_message"):
                raise
            _complain(error.format_message())
            code = BAD_INPUT
        if unexpected is not None:
            raise unexpected
        code = code if isinstance(code, int) else 0
        if _unwritten:
            code = code or UNWRITTEN
            if not isinstance(_unwritten[0], BrokenPipeError):  # whoever reads our output has seen enough
                _complain(f"the output could not be written: {_reason(_unwritten[0])}")
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


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the library refuses into one line."""
    try:
        yield
    except (ValueError, ArithmeticError, OSError) as error:
        raise _RefusedError(_reason(error)) from error
    except MemoryError as error:
        raise _RefusedError(f"not enough memory: {_line(error)}") from error


def _any_numbers() -> contextlib.AbstractContextManager[Any]:
    """Draw whatever a file holds: axes of 1e300 overflow where ticks are made, which is nobody's business."""
    import numpy as np

    return np.errstate(all="ignore")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return _line(error) or type(error).__name__


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show warnings as one line each."""

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        _say(f"warning: {_line(message)}", err=True)

    with warnings.catch_warnings():
        from mfpde.equation.problem import TruncationWarning
        from mfpde.support.session import RunWarning

        for category in (TruncationWarning, RunWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    """Solve the mean-field PDE of wide two-layer networks on a mesh."""
    if version:
        _say(f"mfpde {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        _say(context.get_help())
        raise typer.Exit


# ---------------------------------------------------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
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
        parser=_seconds,
        metavar="TIME",
        help="How often the state is saved between save times: 60s, 5m; 0 for never [default: 60s].",
        show_default=False,
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        parser=_seconds, metavar="TIME", help="Stop and save after this time: 90s, 15m, 2h.", show_default=False
    ),
]
NoPlot = Annotated[bool, typer.Option("--no-plot", help="Draw no picture.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but warnings and errors.")]


@app.command()
def run(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE.toml", help="A problem's name, or a TOML file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="HDF5 file to write [default: NAME.h5].", show_default=False)
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Cells along each axis, such as 96,96.", metavar="N,N,..", show_default=False)
    ] = None,
    t_end: Annotated[float | None, typer.Option(help="Time to run to.", show_default=False)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A parameter of the problem, or any key of a TOML file: alpha=0, scheme.tolerance=1e-7. Repeatable.",
            show_default=False,
        ),
    ] = None,
    scheme: Annotated[
        str | None, typer.Option(help="weno5, muscl, upwind or scharfetter-gummel.", show_default=False)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="exponential-ssprk3, strang, lie, or (with scharfetter-gummel) implicit-strang, implicit-euler.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(help="Number of save times, or the times: 0.5,1,2.", metavar="N|T,T,..", show_default=False),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Number of threads.", show_default=False)] = None,
    max_steps: Annotated[int | None, typer.Option(help="Limit on the number of steps.", show_default=False)] = None,
    checkpoint_every: CheckpointEvery = None,
    time_limit: TimeLimit = None,
    on_end_mass: Annotated[
        str | None,
        typer.Option(
            metavar="warn|stop|extend",
            help="When mass reaches an end of the mesh: warn, stop, or start again on a larger one [default: warn].",
            show_default=False,
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--resume", help="Go on if the file holds this run, not at its end; for jobs that are restarted."),
    ] = False,
    no_plot: NoPlot = False,
    quiet: Quiet = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite files.")] = False,
) -> None:
    """Solve a problem; write the solution (HDF5) and a picture, print a table."""
    with _one_line_warnings():
        with _refusing():
            from_file = _is_file(what)
            changes = _changes(settings or [])
            if scheme is not None:
                changes["scheme.transport"] = scheme
            for key, value in (
                ("scheme.method", method),
                ("t_end", t_end),
                ("threads", threads),
                ("output.checkpoint", checkpoint_every),
                ("time_limit", time_limit),
                ("on_end_mass", on_end_mass),
            ):
                if value is not None:
                    changes[key] = value
            if max_steps is not None:
                changes["max_steps"] = max_steps
            if shape is not None:
                changes["shape"] = _integers(shape, "--shape")
            if save is not None:
                changes["output.save"] = _save_times(save)
            if no_plot:
                changes["output.plot"] = False
            configuration = _configuration(what, changes, from_file=from_file)
            target = _target(configuration, what, output, from_file=from_file)
            picture = None if configuration.plot is None else target.with_suffix(f".{configuration.plot}")
            going_on = again and target.exists() and not force
            _check_targets([target, picture], force=force or going_on)
            problem = configuration.problem()
            arguments = configuration.solve_arguments()
            text = configuration.completed(problem).toml(target.parent)
            import mfpde as mf
            from mfpde.mesh.stream import Stream
            from mfpde.support.session import check_memory

            if going_on:
                earlier = _load(target)
                _check_same(target, earlier, text)
                if earlier.result is mf.Result.SUCCESS:
                    if not quiet:
                        _say(_report(earlier))
                        _say(f"nothing to do: {target} holds the whole run")
                    return
            shape_ = problem.grid(arguments.get("shape")).shape
            check_memory(math.prod(shape_))
            stream = Stream(target, overwrite=force or going_on, configuration={"toml": text})
            saves = arguments["save"]
            stream.check_room(saves if isinstance(saves, int) else len(saves) + 2, shape_)
            arguments |= {"progress": False if quiet else None, "throw": False, "output": stream}
            if going_on:
                own = ("max_steps", "threads", "time_limit", "checkpoint", "progress", "throw", "output")
                arguments = {name: arguments[name] for name in own if name in arguments}
                solution = _computed(stream, lambda: mf.resume(target, problem=problem, **arguments))
            else:
                solution = _computed(stream, lambda: mf.solve(problem, **arguments))
        _conclude(solution, target, picture, quiet=quiet)


@app.command()
def resume(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of a run that was killed, stopped, or is over.")
    ],
    until: Annotated[
        float | None, typer.Option(help="Time to run to [default: where it was to go].", show_default=False)
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="Save times beyond the old end: how many, or the times [default: as far apart as the last two].",
            metavar="N|T,T,..",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Another file to write [default: FILE].", show_default=False)
    ] = None,
    checkpoint_every: CheckpointEvery = None,
    time_limit: TimeLimit = None,
    threads: Annotated[int | None, typer.Option(help="Number of threads.", show_default=False)] = None,
    no_plot: NoPlot = False,
    quiet: Quiet = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite OUTPUT.")] = False,
) -> None:
    """Go on with a run: the file then holds all of it, as if it had never stopped."""
    with _one_line_warnings():
        with _refusing():
            earlier = _load(file)
            target = file if output is None else output
            text = earlier.configuration.get("toml")
            picture = None if no_plot or not isinstance(text, str) else _picture(text, target)
            _check_targets([target], force=force or target == file)
            import mfpde as mf
            from mfpde.mesh.stream import Stream

            configuration = {}
            if isinstance(text, str):
                configuration["toml"] = text if until is None and save is None else _longer(text, earlier, until, save)
            stream = Stream(target, overwrite=force or target == file, configuration=configuration)
            every = 60.0 if checkpoint_every is None else checkpoint_every or None
            solution = _computed(
                stream,
                lambda: mf.resume(
                    file,
                    until,
                    save=None if save is None else _save_times(save),
                    output=stream,
                    checkpoint=every,
                    time_limit=time_limit,
                    threads=threads,
                    progress=False if quiet else None,
                    throw=False,
                ),
            )
        _conclude(solution, target, picture, quiet=quiet)


def _computed(stream: Stream, compute: Callable[[], Solution]) -> Solution:
    """A solution, unless its file cannot be written on: then what the file holds is said."""
    try:
        return compute()
    except OSError as error:
        held = f"; it holds the run up to save time {stream.frames}, mfpde resume goes on" if stream.frames else ""
        _complain(f"{_reason(error)}{held}")
        raise typer.Exit(FAILED) from None


def _conclude(solution: Solution, target: Path, picture: Path | None, *, quiet: bool) -> None:
    """Draw, print, and exit by how the run ended."""
    from mfpde.mesh.record import Result

    written = [target]
    if picture is not None and _draw(solution, picture):
        written.append(picture)
    if not quiet:
        _say(_report(solution))
        _say(f"written: {', '.join(map(str, written))}")
    if solution.result.ok:
        return
    where = f"at t = {solution.state.t:g}"
    if solution.result.cut_short:
        out_of_time = solution.result is Result.TIME_LIMIT
        how = "out of time" if out_of_time else "interrupted"
        _complain(f"{how} {where}; what was computed is in {target}, mfpde resume {target} goes on")
        raise typer.Exit(OUT_OF_TIME if out_of_time else INTERRUPTED)
    _complain(f"the run failed {where}: {solution.result.value}; what was computed is in {target}")
    raise typer.Exit(FAILED)


MANNER = ("threads", "max_steps", "time_limit", "output.checkpoint", "output.plot", "output.path")
"""What may change when a run goes on: not what is computed, but how."""


def _check_same(target: Path, earlier: Solution, text: str) -> None:
    """Refuse to go on with another run than the one in the file."""
    from mfpde.support.files.untrusted import parse_toml

    then = earlier.configuration.get("toml")
    if not isinstance(then, str):
        raise _RefusedError(f"{target} was not written by mfpde run; use mfpde resume")
    was, now = _flat(parse_toml(then)), _flat(parse_toml(text))
    differ = [key for key in {**was, **now} if was.get(key) != now.get(key) and key not in MANNER]
    if differ:
        said = "; ".join(f"{key} was {was.get(key, 'not given')} and is {now.get(key, 'not given')}" for key in differ)
        raise _RefusedError(f"{target} holds another run: {said}; use another file, or --force without --resume")


def _flat(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def _picture(text: str, target: Path) -> Path | None:
    """Where the picture of a run goes, as its configuration has it."""
    from mfpde.runs.configuration import Configuration

    plot = Configuration.from_toml(text, target.parent).plot
    return None if plot is None else target.with_suffix(f".{plot}")


def _longer(text: str, earlier: Solution, until: float | None, save: str | None) -> str:
    """The configuration of a run that goes further than it was to go."""
    from mfpde.runs.configuration import Configuration
    from mfpde.runs.resuming import save_targets
    from mfpde.support.files.untrusted import parse_toml

    targets = save_targets(earlier, until, None if save is None else _save_times(save))
    tables = parse_toml(text)
    output = {**tables.get("output", {}), "save": targets}
    return Configuration.from_tables({**tables, "t_end": targets[-1], "output": output}, ".", "the run's text").toml()


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing; the exit code says it.")] = False,
) -> None:
    """Check a solution's file: checksums, and the laws its numbers must keep. Exit code 5 if something is wrong."""
    from mfpde.verification import laws

    with _one_line_warnings(), _refusing():
        found = laws.verify(file)
    if not quiet:
        _say(found)
    if not found.ok:
        raise typer.Exit(UNSOUND)


def _is_file(what: str) -> bool:
    return what.endswith(".toml") or os.sep in what or "/" in what or Path(what).is_file()


def _configuration(what: str, changes: Mapping[str, Any], *, from_file: bool) -> Configuration:
    from mfpde.runs.configuration import load_config, named_config

    return load_config(what, changes) if from_file else named_config(what, changes)


def _changes(settings: Sequence[str]) -> dict[str, Any]:
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


def _integers(text: str, option: str) -> list[int]:
    from mfpde.runs.tables import ConfigurationError

    try:
        return [int(part) for part in text.lower().replace("x", ",").split(",")]
    except ValueError:
        raise ConfigurationError(f"{option} {text!r}: needs whole numbers, such as 96,96") from None


def _save_times(text: str) -> int | list[float]:
    from mfpde.runs.tables import ConfigurationError

    try:
        if text.strip().lstrip("+-").isdecimal():
            return int(text)
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigurationError(f"--save {text!r}: needs a number of save times, or times such as 0.5,1,2") from None


def _target(configuration: Configuration, what: str, output: Path | None, *, from_file: bool) -> Path:
    if output is not None:
        return output
    if configuration.output is not None:
        return configuration.output
    return Path(f"{Path(what).stem}.h5" if from_file else f"{configuration.name}.h5")


def _check_targets(targets: Iterable[Path | None], *, force: bool) -> None:
    """Refuse, before anything is computed, what could not be written after it."""
    for i, target in enumerate(targets):
        if target is None:
            continue
        if i == 0 and target.suffix.lower() not in DATA_SUFFIXES:
            raise _RefusedError(f"{target}: the solution's file must end in {' or '.join(DATA_SUFFIXES)}")
        _check_target(target, force=force)


def _check_target(target: Path, *, force: bool, example: str = "run.h5") -> None:
    if target.is_dir():
        raise _RefusedError(f"{target} is a folder; give a file name such as {example}")
    if not target.parent.is_dir():
        raise _RefusedError(f"{target}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise _RefusedError(f"{target}: the folder {target.parent} cannot be written to")
    if target.exists() and not force:
        raise _RefusedError(f"{target} exists; use another name (-o) or --force to overwrite it")


def _draw(solution: Solution, path: Path) -> bool:
    """Draw the picture. A run is not lost when that fails."""
    from mfpde.runs.pictures import plot

    try:
        with _any_numbers():
            plot(solution, path)
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        _say(f"warning: no picture: {_reason(error)}", err=True)
        return False
    return True


def _report(solution: Solution) -> str:
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


# ---------------------------------------------------------------------------------------------------------------------
# problems, info, plot
# ---------------------------------------------------------------------------------------------------------------------


def _constructor(name: str) -> Callable[..., Problem]:
    from mfpde import problems

    if name == "network":
        return problems.network
    if name.replace("_", "-") not in problems.names():
        from mfpde.runs.tables import suggestion

        raise _RefusedError(f"unknown problem {name!r}; {suggestion(name, [*problems.names(), 'network'])}")
    return problems.constructor(name)


@app.command(name="problems")
def list_problems(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show all about this one.")] = None,
) -> None:
    """List the problems with their parameters, or show one with its equation, good values and exact facts."""
    if name is not None:
        from mfpde.readable import readable

        _say(readable(inspect.getdoc(_constructor(name)) or ""))
        return
    from mfpde import problems
    from mfpde.readable import readable

    for title in [*problems.names(), "network"]:
        function = _constructor(title)
        first = (inspect.getdoc(function) or "").partition("\n")[0]
        _say(f"{title}\n    {readable(first)}")
        if title == "network":
            _say("    described by a TOML file with a [network] table: mfpde run FILE.toml")
        else:
            parameters = inspect.signature(function).parameters.values()
            _say(f"    {', '.join(f'{p.name}={_default(p.default)}' for p in parameters)}")


def _default(value: Any) -> str:
    return str(getattr(value, "value", value))


def _load(path: Path) -> Solution:
    from mfpde.runs.loading import load

    with _refusing():
        return load(path)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print the TOML text from which the same run is made.")] = False,
) -> None:
    """Show what is in a solution's file."""
    from mfpde.runs.loading import load

    with _refusing():
        solution = load(file)
    if toml:
        text = solution.configuration.get("toml")
        if not isinstance(text, str):
            raise _RefusedError(f"{file} holds no TOML text; it was not written by mfpde run")
        _say(text, nl=False)
        return
    volatile = solution.provenance.get("volatile", {})
    versions = solution.provenance.get("versions", {})
    settings = {
        key: value
        for key, value in solution.configuration.items()
        if key not in ("toml", "problem", "shape", "parameters", "save", "t_end")
    }
    parameters = solution.configuration.get("parameters") or {}
    rows = {
        "file": f"{file} ({file.stat().st_size} bytes)",
        "axes": "; ".join(repr(axis) for axis in solution.grid.axes),
        "parameters": ", ".join(f"{key} = {value}" for key, value in parameters.items()) or "none",
        **{key: _line(value) for key, value in settings.items()},
        "values": "at the cell centres" if solution.point_values else "cell averages",
        "save times": ", ".join(f"{t:g}" for t in solution.times),
        "made": f"{volatile.get('date', '?')} by {volatile.get('command', '?')}",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()) or "?",
        "fingerprint": solution.fingerprint or "none",
    }
    width = max(map(len, rows))
    _say(_report(solution))
    _say("")
    for key, value in rows.items():
        _say(f"  {key:<{width}}  {value}")
    for text in solution.warnings:
        _say(f"  warning: {_line(text)}")


@app.command()
def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The picture [default: FILE.png].", show_default=False)
    ] = None,
    animation: Annotated[
        Path | None,
        typer.Option("--animate", help="Write an animation to this file (.gif or .mp4).", show_default=False),
    ] = None,
) -> None:
    """Draw a solution: density, energy with its certificate, network output."""
    solution = _load(file)
    picture = output
    if picture is None and animation is None:
        picture = file.with_suffix(".png")
    for what, path, suffixes in (
        ("a picture", picture, PICTURE_SUFFIXES),
        ("an animation", animation, ANIMATION_SUFFIXES),
    ):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise _RefusedError(f"{path}: {what} must end in {' or '.join(suffixes)}")
        if not path.parent.is_dir():
            raise _RefusedError(f"{path}: the folder {path.parent} does not exist")
    from mfpde.runs import pictures

    with _one_line_warnings(), _refusing(), _any_numbers():
        if picture is not None:
            pictures.plot(solution, picture)
            _say(f"written: {picture}")
        if animation is not None:
            pictures.animate(solution, animation)
            _say(f"written: {animation}")


# ---------------------------------------------------------------------------------------------------------------------
# compare
# ---------------------------------------------------------------------------------------------------------------------


@app.command()
def compare(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    particles: Annotated[
        list[Path] | None,
        typer.Option(
            "--particles",
            metavar="FILE",
            help="Your own particles, NPZ or HDF5 (docs/your-particles.md). Repeatable. Without it some are simulated.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[str, typer.Option(help="Numbers of particles.", metavar="N,N,..")] = "100,1000,10000",
    replicas: Annotated[int, typer.Option(help="Independent runs of each size.")] = 32,
    dt: Annotated[float, typer.Option(help="Time step of the simulations.")] = 1e-2,
    dynamics: Annotated[
        str | None,
        typer.Option(
            help="What a step is made of: gradient-descent, langevin, birth-death, weights [default: the problem's].",
            metavar="NAME,NAME,..",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(help="Save times to compare at [default: up to six].", metavar="T,T,..", show_default=False),
    ] = None,
    no_control: Annotated[bool, typer.Option("--no-control", help="Do not run the longer steps.")] = False,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            help="The solution's error: a fraction, or the file of a second solution [default: half the cells].",
            metavar="X|FILE",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Bias that does not matter, a fraction of the scale.")] = 1e-3,
    false_alarm: Annotated[float, typer.Option(help="Probability that a right scheme fails, at most.")] = 1e-3,
    no_sensitivities: Annotated[
        bool, typer.Option("--no-sensitivities", help="Do not find which errors would have been seen: no further runs.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
    workers: Annotated[int, typer.Option(help="Threads of the simulations.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all numbers to this file (JSON).", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the gaps against n (.png, .pdf, .svg).", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of the table.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 6 if it is undecided.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the verdict only.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite files.")] = False,
) -> None:
    """Compare particles with a solution: rates in n, bias, a verdict with its limit.

    Exit code 4 if they are inconsistent; with --strict 6 if that is undecided.
    """
    with _one_line_warnings(), _refusing():
        if output is not None:
            _check_target(output, force=force, example="report.json")
        if picture is not None:
            if picture.suffix.lower() not in PICTURE_SUFFIXES:
                raise _RefusedError(f"{picture}: a picture must end in {' or '.join(PICTURE_SUFFIXES)}")
            _check_target(picture, force=force, example="gaps.png")
        solution = _load(file)
        if solution.problem is None:
            from mfpde.runs.loading import data_of

            if data := data_of(solution):
                raise _RefusedError(f"{file}: the data of its network, {data}, have changed or are gone; put them back")
            raise _RefusedError(f"{file} holds a problem built of user code; use mfpde.compare in Python")
        import mfpde as mf

        records = None
        if particles:
            records = [r for path in particles for r in mf.load_particles(path, solution.problem.axes)]
        try:
            found = mf.compare(
                solution,
                records,
                sizes=_integers(sizes, "--sizes"),
                replicas=replicas,
                dynamics=None if dynamics is None else _dynamics(dynamics),
                dt=dt,
                control=not no_control,
                times=None if times is None else _floats(times, "--times"),
                uncertainty=None if uncertainty is None else _second(uncertainty),
                tolerance=tolerance,
                false_alarm=false_alarm,
                sensitivities=not no_sensitivities,
                seed=seed,
                workers=workers,
                progress=False if quiet else None,
            )
        except FloatingPointError as error:
            _complain(error)
            raise typer.Exit(FAILED) from None
        written = []
        if output is not None:
            found.to_json(output)
            written.append(output)
        if picture is not None:
            found.plot(picture)
            written.append(picture)
    _say(found.to_json().rstrip() if json else found.verdict.value if quiet else str(found))
    if written and not quiet and not json:
        _say(f"written: {', '.join(map(str, written))}")
    if found.verdict is mf.Verdict.INCONSISTENT:
        raise typer.Exit(INCONSISTENT)
    if strict and found.verdict is mf.Verdict.UNDECIDED:
        raise typer.Exit(UNDECIDED)


def _dynamics(text: str) -> list[Any]:
    """The parts of a particle scheme, by name."""
    from mfpde import particles
    from mfpde.runs.tables import suggestion

    parts = {
        "gradient-descent": particles.GradientDescent,
        "langevin": particles.Langevin,
        "birth-death": particles.BirthDeath,
        "weights": particles.Weights,
    }
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in parts:
            raise _RefusedError(f"--dynamics {name!r}: {suggestion(name, list(parts))}")
    return [parts[name]() for name in names]


def _floats(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise _RefusedError(f"{option} {text!r}: needs numbers, such as 0.5,1,2") from None


def _second(text: str) -> Any:
    """A fraction, or a second solution."""
    if Path(text).suffix.lower() in DATA_SUFFIXES:
        return _load(Path(text))
    try:
        return float(text)
    except ValueError:
        raise _RefusedError(f"--uncertainty {text!r}: needs a fraction such as 1e-4, or a solution's file") from None


# ---------------------------------------------------------------------------------------------------------------------
# reference
# ---------------------------------------------------------------------------------------------------------------------


@app.command()
def reference(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE.toml",
            help="A problem's name, or a TOML file. With --show, --check, --rebuild: names of references, or files.",
            show_default=False,
        ),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the references that come with mfpde.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print references, by name or file.")] = False,
    checking: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compute references [default: all that come with mfpde] again, by name or file, and compare them "
            "within both bars. Exit code 4 if one does not hold. A larger --tolerance is quicker and says less.",
        ),
    ] = False,
    rebuilding: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Compute references [default: all that come with mfpde] again, and write their files."
        ),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="Folder for --rebuild [default: in the package].", metavar="FOLDER", show_default=False),
    ] = None,
    again: Annotated[
        bool, typer.Option("--resume", help="With --rebuild: leave references that are already there, to go on.")
    ] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest relative error bar [default: 1e-4].", show_default=False)
    ] = None,
    times: Annotated[
        str | None, typer.Option(help="Times [default: the problem's end].", metavar="T,T,..", show_default=False)
    ] = None,
    moments: Annotated[
        list[str] | None,
        typer.Option("--moment", metavar="AXIS^K", help="A moment besides the energy, such as c^2. Repeatable."),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--output-at", metavar="X,X,..", help="Inputs at which the network's output is wanted.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the problem. Repeatable.", show_default=False),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            parser=_seconds, metavar="TIME", help="When to stop refining: 90s, 15m [default: 2m].", show_default=False
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the result to this file (.h5), for mfpde.load_reference.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite the file of --save.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep levels on disk, so that a second call goes on.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the result only.")] = False,
) -> None:
    """Numbers with error bars, borne out by other nodes and confirmed by a second discretisation.

    Exit code 3 if the tolerance is not reached. Ctrl-C prints the best so far and exits with 130.

    With --list, --show, --check or --rebuild: the references that come with mfpde (mfpde.load_reference).
    """
    modes = {"--list": listing, "--show": show, "--check": checking, "--rebuild": rebuilding}
    chosen = [option for option, given in modes.items() if given]
    own: dict[str, Any] = {
        "--times": times, "--moment": moments, "--output-at": inputs, "--set": settings, "--save": save,
    }  # fmt: skip
    own |= {"--force": force or None}
    for allowed, option, given in (
        *((not chosen, option, given) for option, given in own.items()),
        (rebuilding, "--into", into),
        (rebuilding, "--resume", again or None),
        (not chosen or checking, "--tolerance", tolerance),
        (not chosen or checking, "--budget", budget),
    ):
        if given not in (None, []) and not allowed:
            raise _RefusedError(f"{option} does not go with {chosen[0]}" if chosen else f"{option} needs --rebuild")
    if len(chosen) > 1:
        raise _RefusedError(f"{' and '.join(chosen)} do not go together")
    if listing:
        if what:
            raise _RefusedError("--list takes no names; --show prints a reference")
        _list_references()
        return
    if show:
        _show_references(what or [])
        return
    if checking:
        _check_references(what or [], 0.0 if tolerance is None else tolerance, budget, quiet=quiet)
        return
    if rebuilding:
        _rebuild_references(what or [], into, again=again, quiet=quiet)
        return
    if not what or len(what) > 1:
        given = f"got {len(what)}: {' '.join(what)}" if what else "or --list, --show, --check, --rebuild"
        raise _RefusedError(f"reference needs one problem's name or TOML file, {given}")
    _compute_reference(
        what[0], 1e-4 if tolerance is None else tolerance, times, moments, inputs, settings, budget, save,
        force=force, cache=cache, quiet=quiet,
    )  # fmt: skip


def _compute_reference(
    what: str, tolerance: float, times: str | None, moments: list[str] | None, inputs: str | None,
    settings: list[str] | None, budget: float | None, save: Path | None, *, force: bool, cache: bool, quiet: bool,
) -> None:  # fmt: skip
    with _one_line_warnings(), _refusing():
        import mfpde as mf
        from mfpde.support.session import shows_progress

        if save is not None:
            if save.suffix.lower() not in DATA_SUFFIXES:
                raise _RefusedError(f"{save}: a reference's file must end in {' or '.join(DATA_SUFFIXES)}")
            _check_target(save, force=force, example="reference.h5")
        configuration = _configuration(what, _changes(settings or []), from_file=_is_file(what))
        problem = configuration.problem()
        wanted: list[Any] = [mf.EnergyAt()]
        for text in moments or []:
            axis, _, power = text.partition("^")
            if not (power or "1").isdecimal():
                raise _RefusedError(f"--moment {text!r}: needs an axis and a power, such as c^2")
            wanted.append(mf.Moment(axis, int(power or 1)))
        if inputs is not None:
            wanted.append(mf.OutputAt(_floats(inputs, "--output-at")))
        try:
            found = mf.reference(
                problem,
                tolerance,
                wanted,
                times=None if times is None else _floats(times, "--times"),
                budget=120.0 if budget is None else budget,
                progress=False if quiet else None if shows_progress(None) else functools.partial(_say, err=True),
                cache=cache,
            )
        except mf.Disagreement as error:
            _complain(error)
            raise typer.Exit(INCONSISTENT) from None
        except KeyboardInterrupt as interrupt:
            if (best := getattr(interrupt, "reference", None)) is not None:
                _say(str(best))
            raise
        if save is not None:
            options = {"--tolerance": f"{tolerance:g}", "--times": times, "--output-at": inputs}
            options |= {"--budget": None if budget is None else f"{budget:g}"}
            words = [word for option, value in options.items() if value is not None for word in (option, value)]
            words += [word for text in moments or [] for word in ("--moment", text)]
            words += [word for text in settings or [] for word in ("--set", text)]
            _save_reference(found, configuration, save, ["mfpde", "reference", what, *words])
    _say(found)
    if save is not None and not quiet:
        _say(f"written: {save}")
    if not found.reached:
        raise typer.Exit(FAILED)


def _save_reference(found: Any, configuration: Configuration, target: Path, words: Sequence[str]) -> None:
    """Keep what was computed, with what names its problem and what computes it again."""
    import shlex

    from mfpde.support.files.untrusted import parse_toml
    from mfpde.verification.references.pack import save_reference

    tables = None
    if configuration.tables.network is not None:  # its data are named, relative to the file
        tables = parse_toml(configuration.completed(found.problem).toml(target.parent))
        tables = {name: tables[name] for name in ("network", "dynamics", "t_end") if name in tables}
    save_reference(found, target, configuration=tables, command=shlex.join(words))


def _list_references() -> None:
    from mfpde.verification.references import pack, recipes

    table = [("name", "problem", "observables", "times", "largest bar", "size")]
    absent = []
    for name in recipes.reference_names():
        path = pack.path_of(name)
        if not path.is_file():
            absent.append(name)
            continue
        with _refusing():
            found = pack.read_reference(path)
        times = dict.fromkeys(f"{t:g}" for one in found.observables for t in one.times)
        table.append(
            (
                name,
                found.name,
                ", ".join(one.name for one in found.observables),
                " ".join(times),
                f"{max(one.relative for one in found.observables):.1e}",
                f"{path.stat().st_size / 1000:.0f} kB",
            )
        )
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        _say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name in absent:
        _complain(f"{name} has no file; mfpde reference --rebuild {name}")


def _show_references(names: Sequence[str]) -> None:
    from mfpde.verification.references import pack, recipes

    if not names:
        raise _RefusedError(f"--show needs a name; valid: {', '.join(recipes.reference_names())}; or an .h5 file")
    for name in names:
        with _refusing():
            found = pack.load_reference(name)
        _say(found)
        versions = found.provenance.get("versions", {})
        volatile = found.provenance.get("volatile", {})
        _say(f"  made {volatile.get('date', '?')} with {', '.join(f'{k} {v}' for k, v in versions.items())}")
        if found.command:
            _say(f"  again: {found.command}")


def _check_references(names: Sequence[str], tolerance: float, budget: float | None, *, quiet: bool) -> None:
    from mfpde.support.files.hdf5 import FileFormatError
    from mfpde.verification.references import pack, recipes

    names = list(names) or recipes.reference_names()
    width = max(map(len, names))
    failed = []
    with _refusing():
        for name in names:  # unknown ones, before anything is computed; damage is for the table
            with contextlib.suppress(FileFormatError):
                pack.load_reference(name)
    _say(f"{'name':<{width}}  {'seconds':>7}  {'apart':>7}  verdict")
    for name in names:
        with _one_line_warnings(), _refusing():
            found = pack.check(name, tolerance=tolerance, budget=budget, progress=None if quiet else _to_stderr)
        verdict = "the same bit for bit" if found.identical else "within the bars"
        _say(
            f"{name:<{width}}  {found.seconds:7.1f}  {found.apart:7.2g}  "
            + (verdict if found.ok else "FAILS: " + "; ".join(found.wrong))
        )
        if not found.ok:
            failed.append(name)
    if failed:
        _complain(f"{len(failed)} of {len(names)} references do not hold: {', '.join(failed)}")
        raise typer.Exit(INCONSISTENT)


def _rebuild_references(names: Sequence[str], into: Path | None, *, again: bool, quiet: bool) -> None:
    import time

    from mfpde.verification.references import pack, recipes
    from mfpde.verification.references.search import Disagreement

    names = list(names) or recipes.reference_names()
    folder = pack.FOLDER if into is None else into
    with _refusing():
        for name in names:
            recipes.recipe(name)
    if into is None:
        folder.mkdir(exist_ok=True)
    failed, short = [], []
    for name in names:
        with _one_line_warnings(), _refusing():
            if again and pack.is_built(name, folder):
                _say(f"{name}: is there already")
                continue
            began = time.perf_counter()
            try:
                found = pack.rebuild(name, folder, progress=None if quiet else _to_stderr)
            except Disagreement as error:
                _complain(error)
                failed.append(name)
                continue
        _say(f"{name}: written in {time.perf_counter() - began:.1f} s to {pack.path_of(name, folder)}")
        if not quiet:
            _say(found)
        if not found.reached:
            short.append(name)
    if failed:
        _complain(f"nothing was written for {', '.join(failed)}")
        raise typer.Exit(INCONSISTENT)
    if short:
        _complain(f"the tolerance was not reached for {', '.join(short)}")
        raise typer.Exit(FAILED)


def _to_stderr(text: str) -> None:
    _say(f"  {text}", err=True)


# ---------------------------------------------------------------------------------------------------------------------
# cite
# ---------------------------------------------------------------------------------------------------------------------

REFERENCES = {
    "Weno5": (
        """@article{borges2008improved,
  title   = {An improved weighted essentially non-oscillatory scheme for hyperbolic conservation laws},
  author  = {Borges, Rafael and Carmona, Monique and Costa, Bruno and Don, Wai Sun},
  journal = {Journal of Computational Physics},
  volume  = {227},
  number  = {6},
  pages   = {3191--3211},
  year    = {2008}
}""",
        """@article{jiang2013alternative,
  title   = {An alternative formulation of finite difference weighted {ENO} schemes with {L}ax--{W}endroff time
             discretization for conservation laws},
  author  = {Jiang, Yan and Shu, Chi-Wang and Zhang, Mengping},
  journal = {SIAM Journal on Scientific Computing},
  volume  = {35},
  number  = {2},
  pages   = {A1137--A1160},
  year    = {2013}
}""",
    ),
    "Muscl": (
        """@article{vanleer1979towards,
  title   = {Towards the ultimate conservative difference scheme. {V}. {A} second-order sequel to {G}odunov's method},
  author  = {van Leer, Bram},
  journal = {Journal of Computational Physics},
  volume  = {32},
  number  = {1},
  pages   = {101--136},
  year    = {1979}
}""",
    ),
    "Upwind": (
        """@article{courant1952solution,
  title   = {On the solution of nonlinear hyperbolic differential equations by finite differences},
  author  = {Courant, Richard and Isaacson, Eugene and Rees, Mina},
  journal = {Communications on Pure and Applied Mathematics},
  volume  = {5},
  number  = {3},
  pages   = {243--255},
  year    = {1952}
}""",
    ),
    "ScharfetterGummel": (
        """@article{scharfetter1969large,
  title   = {Large-signal analysis of a silicon {R}ead diode oscillator},
  author  = {Scharfetter, Donald L. and Gummel, Hermann K.},
  journal = {IEEE Transactions on Electron Devices},
  volume  = {16},
  number  = {1},
  pages   = {64--77},
  year    = {1969}
}""",
        """@article{schlichting2022scharfetter,
  title   = {The {S}charfetter--{G}ummel scheme for aggregation--diffusion equations},
  author  = {Schlichting, Andr{\\'e} and Seis, Christian},
  journal = {IMA Journal of Numerical Analysis},
  volume  = {42},
  number  = {3},
  pages   = {2361--2402},
  year    = {2022}
}""",
    ),
    "ExponentialSSPRK3": (
        """@article{isherwood2018strong,
  title   = {Strong stability preserving integrating factor {R}unge--{K}utta methods},
  author  = {Isherwood, Leah and Grant, Zachary J. and Gottlieb, Sigal},
  journal = {SIAM Journal on Numerical Analysis},
  volume  = {56},
  number  = {6},
  pages   = {3276--3307},
  year    = {2018}
}""",
    ),
    "Strang": (
        """@article{strang1968construction,
  title   = {On the construction and comparison of difference schemes},
  author  = {Strang, Gilbert},
  journal = {SIAM Journal on Numerical Analysis},
  volume  = {5},
  number  = {3},
  pages   = {506--517},
  year    = {1968}
}""",
    ),
}
"""BibTeX of the schemes, by the name of their class."""


YEAR = 2026
"""Of this version."""


@app.command()
def cite(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A problem's name, a TOML file, or a solution's file.")
    ],
) -> None:
    """Print BibTeX for the problem, the schemes used, and mfpde."""
    from mfpde import problems
    from mfpde.problems import rotskoff2019

    entries: list[str] = []
    with _refusing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if Path(what).suffix.lower() in DATA_SUFFIXES:
            solution = _load(Path(what))
            problem = solution.problem
            if problem is None and solution.name in problems.names():
                problem = problems.get(solution.name)
            schemes = [str(solution.configuration.get(key, "")) for key in ("scheme", "method")]
        elif what == "network":
            problem, schemes = None, ["Weno5", "ExponentialSSPRK3"]
        else:
            from_file = _is_file(what)
            if not from_file:
                _constructor(what)
            configuration = _configuration(what, {}, from_file=from_file)
            problem = configuration.problem()
            arguments = configuration.completed(problem).solve_arguments()
            schemes = [repr(arguments[key]) for key in ("scheme", "method")]
    if problem is not None and problem.citation:
        entries.append(problem.citation)
    entries.append(rotskoff2019.CITATION)
    for scheme in schemes:
        entries += REFERENCES.get(scheme.partition("(")[0], ())
    entries.append(f"""@software{{mfpde,
  title   = {{mfpde: a grid-based solver for the mean-field PDE of wide two-layer networks}},
  author  = {{{{The mfpde developers}}}},
  version = {{{__version__}}},
  year    = {{{YEAR}}}
}}""")
    _say("\n\n".join(dict.fromkeys(entries)))
