"""The command `reference`: numbers with error bars, and the references that come with the package."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.files import check_suffix, configuration_of, hold_target, is_file
from mfpde.cli.options import floats, given, parse_seconds, setting_changes
from mfpde.cli.output import (
    FAILED,
    INCONSISTENT,
    RefusedError,
    columns,
    complain,
    one_line_warnings,
    refusing,
    say,
    say_progress,
)
from mfpde.support.files import SUFFIXES

if TYPE_CHECKING:
    from mfpde.runs.configuration import Configuration
    from mfpde.verification.observables import Observable
    from mfpde.verification.references.certified import Reference

__all__ = ["reference"]


_Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME|FILE.toml",
        help="A problem's name, or a TOML file. With --show, --check, --rebuild: names of references, or files.",
        show_default=False,
    ),
]
_List = Annotated[bool, typer.Option("--list", help="List the references that come with mfpde.")]
_Show = Annotated[bool, typer.Option("--show", help="Print references, by name or file.")]
_Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Compute references [default: all that come with mfpde] again, by name or file, and compare them "
        "within both bars. Exit code 4 if one does not hold. A larger --tolerance is quicker and says less.",
    ),
]
_Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild", help="Compute references [default: all that come with mfpde] again, and write their files."
    ),
]
_Into = Annotated[
    Path | None,
    typer.Option(help="Folder for --rebuild [default: in the package].", metavar="FOLDER", show_default=False),
]
_GoOn = Annotated[
    bool, typer.Option("--resume", help="With --rebuild: leave references that are already there, to go on.")
]
_Tolerance = Annotated[
    float | None, typer.Option(help="Largest relative error bar [default: 1e-4].", show_default=False)
]
_Times = Annotated[
    str | None, typer.Option(help="Times [default: the problem's end].", metavar="T,T,..", show_default=False)
]
_Moments = Annotated[
    list[str] | None,
    typer.Option("--moment", metavar="AXIS^K", help="A moment besides the energy, such as c^2. Repeatable."),
]
_Inputs = Annotated[
    str | None,
    typer.Option(
        "--output-at", metavar="X,X,..", help="Inputs at which the network's output is wanted.", show_default=False
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the problem. Repeatable.", show_default=False),
]
_Budget = Annotated[
    float | None,
    typer.Option(
        parser=parse_seconds,
        metavar="TIME",
        help="When to stop refining: 90s, 15m [default: 2m].",
        show_default=False,
    ),
]
_SaveTo = Annotated[
    Path | None,
    typer.Option(help="Write the result to this file (.h5), for mfpde.load_reference.", show_default=False),
]
_ForceSave = Annotated[bool, typer.Option("-f", "--force", help="Overwrite the file of --save.")]
_Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="Keep levels on disk, so that a second call goes on.")]
_ResultOnly = Annotated[bool, typer.Option("-q", "--quiet", help="Print the result only.")]


def reference(
    what: _Names = None,
    listing: _List = False,
    show: _Show = False,
    checking: _Check = False,
    rebuilding: _Rebuild = False,
    into: _Into = None,
    go_on: _GoOn = False,
    tolerance: _Tolerance = None,
    times: _Times = None,
    moments: _Moments = None,
    inputs: _Inputs = None,
    settings: _Settings = None,
    budget: _Budget = None,
    save: _SaveTo = None,
    force: _ForceSave = False,
    cache: _Cache = False,
    quiet: _ResultOnly = False,
) -> None:
    """Numbers with error bars, borne out by other nodes and confirmed by a second discretisation.

    Exit code 3 if the tolerance is not reached. Ctrl-C prints the best so far and exits with 130.

    With --list, --show, --check or --rebuild: the references that come with mfpde (mfpde.load_reference).
    """
    modes = {"--list": listing, "--show": show, "--check": checking, "--rebuild": rebuilding}
    chosen = [option for option, wanted in modes.items() if wanted]
    own: dict[str, Any] = {
        "--times": times, "--moment": moments or None, "--output-at": inputs, "--set": settings or None,
        "--save": save, "--force": force or None, "--into": into, "--resume": go_on or None,
        "--tolerance": tolerance, "--budget": budget,
    }  # fmt: skip
    _check_together(chosen, given(own))
    names = what or []
    if listing:
        _list_references(names)
    elif show:
        _show_references(names)
    elif checking:
        _check_references(names, 0.0 if tolerance is None else tolerance, budget, quiet=quiet)
    elif rebuilding:
        _rebuild_references(names, into, go_on=go_on, quiet=quiet)
    else:
        bar = 1e-4 if tolerance is None else tolerance
        wanted = _Wanted(_only(names), bar, times, moments or [], inputs, settings or [], budget)
        _compute_reference(wanted, save, force=force, cache=cache, quiet=quiet)


# ---------------------------------------------------------------------------------------------------------------------
# which options go together
# ---------------------------------------------------------------------------------------------------------------------

COMPUTING = ""
"""The mode without an option of its own."""
MODES = {
    "--into": ("--rebuild",),
    "--resume": ("--rebuild",),
    "--tolerance": (COMPUTING, "--check"),
    "--budget": (COMPUTING, "--check"),
}
"""The modes that an option belongs to; those that are not named belong to computing."""


def _check_together(chosen: Sequence[str], options: Iterable[str]) -> None:
    """Refuse options that mean nothing in the chosen mode, and several modes at once."""
    for option in options:
        allowed = MODES.get(option, (COMPUTING,))
        if not any(mode in allowed for mode in chosen or [COMPUTING]):
            raise RefusedError(f"{option} does not go with {chosen[0]}" if chosen else f"{option} needs --rebuild")
    if len(chosen) > 1:
        raise RefusedError(f"{' and '.join(chosen)} do not go together")


def _only(names: Sequence[str]) -> str:
    """The one problem whose reference is to be computed."""
    if len(names) == 1:
        return names[0]
    said = f"got {len(names)}: {' '.join(names)}" if names else "or --list, --show, --check, --rebuild"
    raise RefusedError(f"reference needs one problem's name or TOML file, {said}")


# ---------------------------------------------------------------------------------------------------------------------
# computing
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wanted:
    """A reference that is to be computed, as the command line names it.

    Attributes
    ----------
    what : str
        A problem's name, or a TOML file.
    tolerance : float
        Largest relative bar.
    times, inputs : str, optional
        Numbers with commas between them.
    moments, settings : sequence of str
        ``axis^power`` and ``key=value``.
    budget : float, optional
        Seconds.
    """

    what: str
    tolerance: float
    times: str | None
    moments: Sequence[str]
    inputs: str | None
    settings: Sequence[str]
    budget: float | None

    def observables(self) -> list[Observable]:
        """The energy, the moments, and the output at the inputs."""
        import mfpde as mf

        wanted: list[Observable] = [mf.EnergyAt()]
        for text in self.moments:
            axis, _, power = text.partition("^")
            if not (power or "1").isdecimal():
                raise RefusedError(f"--moment {text!r}: needs an axis and a power, such as c^2")
            wanted.append(mf.Moment(axis, int(power or 1)))
        if self.inputs is not None:
            wanted.append(mf.OutputAt(floats(self.inputs, "--output-at")))
        return wanted

    @property
    def command(self) -> str:
        """The command line that computes the same again."""
        options = {"--tolerance": f"{self.tolerance:g}", "--times": self.times, "--output-at": self.inputs}
        options |= {"--budget": None if self.budget is None else f"{self.budget:g}"}
        words = [word for option, value in given(options).items() for word in (option, value)]
        words += [word for text in self.moments for word in ("--moment", text)]
        words += [word for text in self.settings for word in ("--set", text)]
        return shlex.join(["mfpde", "reference", self.what, *words])


def _compute_reference(wanted: _Wanted, save: Path | None, *, force: bool, cache: bool, quiet: bool) -> None:
    """Compute a reference, write it where that is asked for, and print it."""
    with one_line_warnings(), refusing(), contextlib.ExitStack() as leaving:
        import mfpde as mf
        from mfpde.support.session import shows_progress

        if save is not None:
            check_suffix(save, SUFFIXES, "a reference's file")
            hold_target(save, leaving, force=force, example="reference.h5")
        changes = setting_changes(wanted.settings)
        configuration = configuration_of(wanted.what, changes, from_file=is_file(wanted.what))
        problem = configuration.problem()
        with _best_so_far():
            found = mf.reference(
                problem,
                wanted.tolerance,
                wanted.observables(),
                times=None if wanted.times is None else floats(wanted.times, "--times"),
                budget=120.0 if wanted.budget is None else wanted.budget,
                progress=False if quiet else None if shows_progress(None) else functools.partial(say, err=True),
                cache=cache,
            )
        if save is not None:
            _save_reference(found, configuration, save, wanted.command)
    say(found)
    if save is not None and not quiet:
        say(f"written: {save}")
    if not found.reached:
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def _best_so_far() -> Iterator[None]:
    """Exit where routes disagree; print what is known at an interrupt."""
    import mfpde as mf

    try:
        yield
    except mf.Disagreement as error:
        complain(error)
        raise typer.Exit(INCONSISTENT) from None
    except KeyboardInterrupt as interrupt:
        if (best := getattr(interrupt, "reference", None)) is not None:
            say(str(best))
        raise


def _save_reference(found: Reference, configuration: Configuration, target: Path, command: str) -> None:
    """Keep what was computed, with what names its problem and what computes it again."""
    from mfpde.support.files.untrusted import parse_toml
    from mfpde.verification.references.file import save_reference

    tables = None
    if configuration.tables.network is not None:  # its data are named, relative to the file
        tables = parse_toml(configuration.completed(found.problem).toml(target.parent))
        tables = {name: tables[name] for name in ("network", "dynamics", "t_end") if name in tables}
    save_reference(found, target, configuration=tables, command=command)


# ---------------------------------------------------------------------------------------------------------------------
# the references that come with the package
# ---------------------------------------------------------------------------------------------------------------------


def _list_references(names: Sequence[str]) -> None:
    """Print a table of the references that come with the package."""
    if names:
        raise RefusedError("--list takes no names; --show prints a reference")
    from mfpde.verification.references import pack, recipes

    table = [("name", "problem", "observables", "times", "largest bar", "size")]
    absent = []
    for name in recipes.reference_names():
        path = pack.path_of(name)
        if not path.is_file():
            absent.append(name)
            continue
        with refusing():
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
    for row in columns(table, str.ljust):
        say(row.rstrip())
    for name in absent:
        complain(f"{name} has no file; mfpde reference --rebuild {name}")


def _show_references(names: Sequence[str]) -> None:
    """Print references, with when they were made and what computes them again."""
    from mfpde.verification.references import pack, recipes

    if not names:
        raise RefusedError(f"--show needs a name; valid: {', '.join(recipes.reference_names())}; or an .h5 file")
    for name in names:
        with refusing():
            found = pack.load_reference(name)
        say(found)
        versions = found.provenance.get("versions", {})
        volatile = found.provenance.get("volatile", {})
        say(f"  made {volatile.get('date', '?')} with {', '.join(f'{k} {v}' for k, v in versions.items())}")
        if found.command:
            say(f"  again: {found.command}")


def _check_references(names: Sequence[str], tolerance: float, budget: float | None, *, quiet: bool) -> None:
    """Compute references again and print a table of how they compare with their files."""
    from mfpde.support.files.hdf5 import FileFormatError
    from mfpde.verification.references import pack, recipes

    names = list(names) or recipes.reference_names()
    width = max(map(len, names))
    failed = []
    with refusing():
        for name in names:  # unknown ones, before anything is computed; damage is for the table
            with contextlib.suppress(FileFormatError):
                pack.load_reference(name)
    say(f"{'name':<{width}}  {'seconds':>7}  {'apart':>7}  verdict")
    for name in names:
        with one_line_warnings(), refusing():
            found = pack.check(name, tolerance=tolerance, budget=budget, progress=None if quiet else say_progress)
        verdict = "the same bit for bit" if found.identical else "within the bars"
        say(
            f"{name:<{width}}  {found.seconds:7.1f}  {found.apart:7.2g}  "
            + (verdict if found.ok else "FAILS: " + "; ".join(found.wrong))
        )
        if not found.ok:
            failed.append(name)
    if failed:
        complain(f"{len(failed)} of {len(names)} references do not hold: {', '.join(failed)}")
        raise typer.Exit(INCONSISTENT)


def _rebuild_references(names: Sequence[str], into: Path | None, *, go_on: bool, quiet: bool) -> None:
    """Compute references again and write their files."""
    import time

    from mfpde.verification.references import pack, recipes
    from mfpde.verification.references.search import Disagreement

    names = list(names) or recipes.reference_names()
    folder = pack.FOLDER if into is None else into
    with refusing():
        for name in names:
            recipes.recipe(name)
    if into is None:
        folder.mkdir(exist_ok=True)
    failed, short = [], []
    for name in names:
        with one_line_warnings(), refusing():
            if go_on and pack.is_built(name, folder):
                say(f"{name}: is there already")
                continue
            began = time.perf_counter()
            try:
                found = pack.rebuild(name, folder, progress=None if quiet else say_progress)
            except Disagreement as error:
                complain(error)
                failed.append(name)
                continue
        say(f"{name}: written in {time.perf_counter() - began:.1f} s to {pack.path_of(name, folder)}")
        if not quiet:
            say(found)
        if not found.reached:
            short.append(name)
    if failed:
        complain(f"nothing was written for {', '.join(failed)}")
        raise typer.Exit(INCONSISTENT)
    if short:
        complain(f"the tolerance was not reached for {', '.join(short)}")
        raise typer.Exit(FAILED)
