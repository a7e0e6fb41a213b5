"""The commands that compute: `run` and `resume`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.dry_run import say_forecast
from mfpde.cli.files import (
    check_new_folder,
    check_suffix,
    check_targets,
    configuration_of,
    hold_target,
    is_file,
    make_folder,
    picture_path,
    target_path,
)
from mfpde.cli.options import (
    CheckpointEvery,
    Force,
    MakeFolder,
    NoPlot,
    Quiet,
    RunName,
    Threads,
    TimeLimit,
    run_options,
    save_times,
    setting_changes,
    toml_changes,
)
from mfpde.cli.output import (
    FAILED,
    INTERRUPTED,
    OUT_OF_TIME,
    RefusedError,
    complain,
    one_line_warnings,
    reason,
    refusing,
    say,
)
from mfpde.cli.solutions import draw, load_file, report
from mfpde.cli.templates import expanded, run_values
from mfpde.support.files import SUFFIXES
from mfpde.support.session import quiet as unsaid

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem
    from mfpde.mesh.solution import Solution
    from mfpde.mesh.stream import Stream

__all__ = ["resume", "run"]


# ---------------------------------------------------------------------------------------------------------------------
# run
# ---------------------------------------------------------------------------------------------------------------------

_Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="HDF5 file to write [default: NAME.h5]; {alpha}, {shape} and such stand for values of the run.",
        show_default=False,
    ),
]
_Shape = Annotated[
    str | None,
    typer.Option(
        help="Cells along each axis, such as 96,64, or along every axis: 96.", metavar="N|N,N,..", show_default=False
    ),
]
_EndTime = Annotated[float | None, typer.Option(help="Time to run to.", show_default=False)]
_Tolerance = Annotated[
    float | None,
    typer.Option(
        help="An accuracy instead of a mesh: the error of the energy as a share of its scale, such as 1e-3.",
        show_default=False,
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A parameter of the problem, or any key of a TOML file: alpha=0, scheme.tolerance=1e-7. Repeatable.",
        show_default=False,
    ),
]
_Scheme = Annotated[str | None, typer.Option(help="weno5, muscl, upwind or scharfetter-gummel.", show_default=False)]
_Method = Annotated[
    str | None,
    typer.Option(
        help="exponential-ssprk3, strang, lie, or (with scharfetter-gummel) implicit-strang, implicit-euler.",
        show_default=False,
    ),
]
_Save = Annotated[
    str | None,
    typer.Option(help="Number of save times, or the times: 0.5,1,2.", metavar="N|T,T,..", show_default=False),
]
_MaxSteps = Annotated[int | None, typer.Option(help="Limit on the number of steps.", show_default=False)]
_OnEndMass = Annotated[
    str | None,
    typer.Option(
        metavar="warn|stop|extend",
        help="When mass reaches an end of the mesh: warn, stop, or start again on a larger one [default: warn].",
        show_default=False,
    ),
]
_NoEstimate = Annotated[
    bool,
    typer.Option("--no-estimate", help="Do not estimate errors: a run on half the cells that goes along is left out."),
]
_GoOn = Annotated[
    bool,
    typer.Option("--resume", help="Go on if the file holds this run, not at its end; for jobs that are restarted."),
]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what the run would take and write: cells, memory, time; write nothing.")
]


def run(
    what: RunName,
    output: _Output = None,
    shape: _Shape = None,
    t_end: _EndTime = None,
    tolerance: _Tolerance = None,
    settings: _Settings = None,
    scheme: _Scheme = None,
    method: _Method = None,
    save: _Save = None,
    threads: Threads = None,
    max_steps: _MaxSteps = None,
    checkpoint: CheckpointEvery = None,
    time_limit: TimeLimit = None,
    on_end_mass: _OnEndMass = None,
    no_estimate: _NoEstimate = False,
    go_on: _GoOn = False,
    mkdir: MakeFolder = False,
    dry_run: _DryRun = False,
    no_plot: NoPlot = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Solve a problem; write the solution (HDF5) and a picture, print a table."""
    arguments = locals()
    with one_line_warnings(), contextlib.ExitStack() as leaving:
        with refusing():
            changes = setting_changes(settings or [])
            changes |= toml_changes(arguments)
            changes |= {"output.plot": False} if no_plot else {}
            changes |= {"estimate": False} if no_estimate else {}
            where = _Where(output, force=force, go_on=go_on, mkdir=mkdir, dry=dry_run)
            job = _job(what, changes, where, leaving)
            if dry_run:
                made = None if job.target.parent.is_dir() else job.target.parent
                say_forecast(job.problem, job.arguments, job.target, job.picture, goes_on=job.goes_on, made=made)
                return
            if job.goes_on and _is_done(job, quiet=quiet):
                return
            solution = _solution(job, quiet=quiet)
        _conclude(solution, job.target, job.picture, quiet=quiet)


@dataclass(frozen=True)
class _Where:
    """Where a run is to write, and what it may do for that.

    Attributes
    ----------
    output : Path or None
        As it was given, with the fields of a template.
    force, go_on, mkdir : bool
        Whether a file that is there is replaced, or gone on with; whether folders are made.
    dry : bool
        Whether nothing is written.
    """

    output: Path | None
    force: bool
    go_on: bool
    mkdir: bool
    dry: bool


@dataclass(frozen=True, eq=False)
class _Job:
    """A run that is to be made.

    Attributes
    ----------
    problem : Problem
    arguments : dict
        Of `mfpde.solve`, but for the file and the progress.
    text : str
        Its configuration as TOML, with all defaults; the file keeps it.
    target, picture : Path, Path or None
        Where the solution and its picture go.
    goes_on : bool
        Whether the file is there, and the run goes on from it.
    overwrite : bool
        Whether a file that is there may be replaced.
    """

    problem: Problem
    arguments: dict[str, Any]
    text: str
    target: Path
    picture: Path | None
    goes_on: bool
    overwrite: bool


def _job(what: str, changes: Mapping[str, Any], where: _Where, leaving: contextlib.ExitStack) -> _Job:
    """What a problem's name or a TOML file, with changes, asks for; refused if its files could not be written.

    From now on until the command leaves, nobody else writes the solution's file.
    """
    from_file = is_file(what)
    configuration = configuration_of(what, changes, from_file=from_file)
    output = where.output
    if output is not None:
        output = expanded(output, lambda: run_values(configuration, configuration.problem()))
    target = target_path(configuration, what, output, from_file=from_file)
    picture = picture_path(configuration, target)
    check_suffix(target, SUFFIXES, "the solution's file")
    if where.mkdir and not where.dry:
        make_folder(target.parent, leaving)
    if not where.dry:
        hold_target(target, leaving, force=True)
    goes_on = where.go_on and target.exists() and not where.force
    overwrite = where.force or goes_on
    if not (where.dry and where.mkdir and check_new_folder(target.parent)):
        check_targets([target, picture], force=overwrite)
    problem = configuration.problem()
    arguments = configuration.solve_arguments()
    text = configuration.completed(problem).toml(target.parent)
    return _Job(problem, arguments, text, target, picture, goes_on, overwrite)


def _is_done(job: _Job, *, quiet: bool) -> bool:
    """Whether the file holds the whole run, which then is printed; another run than this one is refused."""
    from mfpde.mesh.record import Result

    earlier = load_file(job.target)
    _check_same(job.target, earlier, job.text)
    if earlier.result not in (Result.SUCCESS, Result.NOT_REACHED):
        return False
    if not quiet:
        say(report(earlier))
        say(f"nothing to do: {job.target} holds the whole run")
    return True


def _solution(job: _Job, *, quiet: bool) -> Solution:
    """Compute a run, or go on with it, into its file."""
    import mfpde as mf
    from mfpde.mesh.memory import check_run
    from mfpde.mesh.options import OPTIONS, Absent, RunOptions
    from mfpde.mesh.stream import Stream

    stream = Stream(job.target, overwrite=job.overwrite, configuration={"toml": job.text})
    if "tolerance" not in job.arguments:  # else the mesh is to be found
        shape = job.problem.grid(job.arguments.get("shape")).shape
        check_run(job.problem, RunOptions.of(job.arguments | {"output": stream}))
        saves = job.arguments["save"]
        stream.check_room(saves if isinstance(saves, int) else len(saves) + 2, shape)
    arguments = job.arguments | {"progress": False if quiet else None, "throw": False, "output": stream}
    if not job.goes_on:
        return _computed(stream, lambda: mf.solve(job.problem, **arguments))
    # what settles the result is in the file
    how = [name for name, option in OPTIONS.items() if not option.settles and not isinstance(option.again, Absent)]
    own = {name: arguments[name] for name in how if name in arguments}
    return _computed(stream, lambda: mf.resume(job.target, problem=job.problem, **own))


def _check_same(target: Path, earlier: Solution, text: str) -> None:
    """Refuse to go on with another run than the one in the file."""
    from mfpde.mesh.options import OPTIONS
    from mfpde.support.files.untrusted import flat, parse_toml

    then = earlier.configuration.get("toml")
    if not isinstance(then, str):
        raise RefusedError(f"{target} was not written by mfpde run; use mfpde resume")
    was, now = flat(parse_toml(then)), flat(parse_toml(text))
    # not what is computed, but how
    free = ["output.plot", *(option.toml for option in OPTIONS.values() if not option.settles)]
    differ = [key for key in {**was, **now} if was.get(key) != now.get(key) and key not in free]
    if differ:
        said = "; ".join(f"{key} was {was.get(key, 'not given')} and is {now.get(key, 'not given')}" for key in differ)
        raise RefusedError(f"{target} holds another run: {said}; use another file, or --force without --resume")


# ---------------------------------------------------------------------------------------------------------------------
# resume
# ---------------------------------------------------------------------------------------------------------------------

_Unfinished = Annotated[
    Path, typer.Argument(metavar="FILE", help="The file of a run that was killed, stopped, or is over.")
]
_Until = Annotated[float | None, typer.Option(help="Time to run to [default: where it was to go].", show_default=False)]
_FurtherSaves = Annotated[
    str | None,
    typer.Option(
        help="Save times beyond the old end: how many, or the times [default: as far apart as the last two].",
        metavar="N|T,T,..",
        show_default=False,
    ),
]
_OtherFile = Annotated[
    Path | None, typer.Option("-o", "--output", help="Another file to write [default: FILE].", show_default=False)
]
_ForceOutput = Annotated[bool, typer.Option("-f", "--force", help="Overwrite OUTPUT.")]


def resume(
    file: _Unfinished,
    until: _Until = None,
    save: _FurtherSaves = None,
    output: _OtherFile = None,
    checkpoint: CheckpointEvery = None,
    time_limit: TimeLimit = None,
    threads: Threads = None,
    no_plot: NoPlot = False,
    quiet: Quiet = False,
    force: _ForceOutput = False,
) -> None:
    """Go on with a run: the file then holds all of it, as if it had never stopped."""
    arguments = locals()
    with one_line_warnings(), contextlib.ExitStack() as leaving:
        with refusing():
            from mfpde.runs.configuration import Configuration

            target = file if output is None else output
            if output is not None or file.is_file():  # what is not there is refused where it is read
                hold_target(target, leaving, force=force or target == file)
            with unsaid():  # it is read once more by who goes on with it, and warned of then
                earlier = load_file(file)
            text = earlier.configuration.get("toml")
            picture = None
            if isinstance(text, str) and not no_plot:
                picture = picture_path(Configuration.from_toml(text, target.parent), target)
            check_targets([target], force=force or target == file)
            import mfpde as mf
            from mfpde.mesh.stream import Stream

            configuration = {}
            if isinstance(text, str):
                configuration["toml"] = text if until is None and save is None else _longer(text, earlier, until, save)
            stream = Stream(target, overwrite=force or target == file, configuration=configuration)
            own = run_options(arguments)
            if "checkpoint" in own:
                own["checkpoint"] = own["checkpoint"] or None
            own |= {"progress": False if quiet else None, "throw": False, "output": stream}
            solution = _computed(stream, lambda: mf.resume(file, until, **own))
        _conclude(solution, target, picture, quiet=quiet)


def _longer(text: str, earlier: Solution, until: float | None, save: str | None) -> str:
    """The configuration of a run that goes further than it was to go."""
    from mfpde.runs.configuration import Configuration
    from mfpde.runs.resuming import save_targets
    from mfpde.support.files.untrusted import parse_toml

    targets = save_targets(earlier, until, None if save is None else save_times(save))
    tables = parse_toml(text)
    output = {**tables.get("output", {}), "save": targets}
    return Configuration.from_tables({**tables, "t_end": targets[-1], "output": output}, ".", "the run's text").toml()


# ---------------------------------------------------------------------------------------------------------------------
# the end of both
# ---------------------------------------------------------------------------------------------------------------------


def _computed(stream: Stream, compute: Callable[[], Solution]) -> Solution:
    """A solution, unless its file cannot be made, which is refused, or cannot be written on: that is said."""
    try:
        return compute()
    except OSError as error:
        if not stream.frames:
            raise
        complain(reason(error))
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
    if solution.result is Result.NOT_REACHED:
        complain(f"{solution.result.value}; the best run is in {target}")
        raise typer.Exit(OUT_OF_TIME)
    if solution.result.cut_short:
        out_of_time = solution.result is Result.TIME_LIMIT
        how = "out of time" if out_of_time else "interrupted"
        complain(f"{how} {where}; what was computed is in {target}, mfpde resume {target} goes on")
        raise typer.Exit(OUT_OF_TIME if out_of_time else INTERRUPTED)
    complain(f"the run failed {where}: {solution.result.value}; what was computed is in {target}")
    raise typer.Exit(FAILED)
