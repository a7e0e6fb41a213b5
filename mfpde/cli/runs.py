"""Commands that run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.words import (
    FAILED,
    INTERRUPTED,
    OUT_OF_TIME,
    CheckpointEvery,
    NoPlot,
    Quiet,
    RefusedError,
    TimeLimit,
    check_targets,
    complain,
    configuration_of,
    draw,
    integers,
    is_file,
    load_file,
    one_line_warnings,
    picture_path,
    reason,
    refusing,
    report,
    save_times,
    say,
    setting_changes,
    target_path,
)

if TYPE_CHECKING:
    from mfpde.mesh.solution import Solution
    from mfpde.mesh.stream import Stream

__all__ = ["resume", "run"]


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
    with one_line_warnings():
        with refusing():
            from_file = is_file(what)
            changes = setting_changes(settings or [])
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
                changes["shape"] = integers(shape, "--shape")
            if save is not None:
                changes["output.save"] = save_times(save)
            if no_plot:
                changes["output.plot"] = False
            configuration = configuration_of(what, changes, from_file=from_file)
            target = target_path(configuration, what, output, from_file=from_file)
            picture = None if configuration.plot is None else target.with_suffix(f".{configuration.plot}")
            going_on = again and target.exists() and not force
            check_targets([target, picture], force=force or going_on)
            problem = configuration.problem()
            arguments = configuration.solve_arguments()
            text = configuration.completed(problem).toml(target.parent)
            import mfpde as mf
            from mfpde.mesh.stream import Stream
            from mfpde.support.session import check_memory

            if going_on:
                earlier = load_file(target)
                _check_same(target, earlier, text)
                if earlier.result is mf.Result.SUCCESS:
                    if not quiet:
                        say(report(earlier))
                        say(f"nothing to do: {target} holds the whole run")
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
    with one_line_warnings():
        with refusing():
            earlier = load_file(file)
            target = file if output is None else output
            text = earlier.configuration.get("toml")
            picture = None if no_plot or not isinstance(text, str) else picture_path(text, target)
            check_targets([target], force=force or target == file)
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
                    save=None if save is None else save_times(save),
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
        complain(f"{reason(error)}{held}")
        raise typer.Exit(FAILED) from None


def _conclude(solution: Solution, target: Path, picture: Path | None, *, quiet: bool) -> None:
    """Draw, print, and exit by how the run ended."""
    from mfpde.mesh.record import Result

    written = [target]
    if picture is not None and draw(solution, picture):
        written.append(picture)
    if not quiet:
        say(report(solution))
        say(f"written: {', '.join(map(str, written))}")
    if solution.result.ok:
        return
    where = f"at t = {solution.state.t:g}"
    if solution.result.cut_short:
        out_of_time = solution.result is Result.TIME_LIMIT
        how = "out of time" if out_of_time else "interrupted"
        complain(f"{how} {where}; what was computed is in {target}, mfpde resume {target} goes on")
        raise typer.Exit(OUT_OF_TIME if out_of_time else INTERRUPTED)
    complain(f"the run failed {where}: {solution.result.value}; what was computed is in {target}")
    raise typer.Exit(FAILED)


MANNER = ("threads", "max_steps", "time_limit", "output.checkpoint", "output.plot", "output.path")
"""What may change when a run goes on: not what is computed, but how."""


def _check_same(target: Path, earlier: Solution, text: str) -> None:
    """Refuse to go on with another run than the one in the file."""
    from mfpde.support.files.untrusted import parse_toml

    then = earlier.configuration.get("toml")
    if not isinstance(then, str):
        raise RefusedError(f"{target} was not written by mfpde run; use mfpde resume")
    was, now = _flat(parse_toml(then)), _flat(parse_toml(text))
    differ = [key for key in {**was, **now} if was.get(key) != now.get(key) and key not in MANNER]
    if differ:
        said = "; ".join(f"{key} was {was.get(key, 'not given')} and is {now.get(key, 'not given')}" for key in differ)
        raise RefusedError(f"{target} holds another run: {said}; use another file, or --force without --resume")


def _flat(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return found


def _longer(text: str, earlier: Solution, until: float | None, save: str | None) -> str:
    """The configuration of a run that goes further than it was to go."""
    from mfpde.runs.configuration import Configuration
    from mfpde.runs.resuming import save_targets
    from mfpde.support.files.untrusted import parse_toml

    targets = save_targets(earlier, until, None if save is None else save_times(save))
    tables = parse_toml(text)
    output = {**tables.get("output", {}), "save": targets}
    return Configuration.from_tables({**tables, "t_end": targets[-1], "output": output}, ".", "the run's text").toml()
