"""The command of references."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.words import (
    DATA_SUFFIXES,
    FAILED,
    INCONSISTENT,
    RefusedError,
    check_target,
    complain,
    configuration_of,
    floats,
    is_file,
    one_line_warnings,
    parse_seconds,
    refusing,
    say,
    setting_changes,
    to_stderr,
)

if TYPE_CHECKING:
    from mfpde.runs.configuration import Configuration

__all__ = ["reference"]


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
            parser=parse_seconds,
            metavar="TIME",
            help="When to stop refining: 90s, 15m [default: 2m].",
            show_default=False,
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
            raise RefusedError(f"{option} does not go with {chosen[0]}" if chosen else f"{option} needs --rebuild")
    if len(chosen) > 1:
        raise RefusedError(f"{' and '.join(chosen)} do not go together")
    if listing:
        if what:
            raise RefusedError("--list takes no names; --show prints a reference")
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
        raise RefusedError(f"reference needs one problem's name or TOML file, {given}")
    _compute_reference(
        what[0], 1e-4 if tolerance is None else tolerance, times, moments, inputs, settings, budget, save,
        force=force, cache=cache, quiet=quiet,
    )  # fmt: skip


def _compute_reference(
    what: str, tolerance: float, times: str | None, moments: list[str] | None, inputs: str | None,
    settings: list[str] | None, budget: float | None, save: Path | None, *, force: bool, cache: bool, quiet: bool,
) -> None:  # fmt: skip
    with one_line_warnings(), refusing():
        import mfpde as mf
        from mfpde.support.session import shows_progress

        if save is not None:
            if save.suffix.lower() not in DATA_SUFFIXES:
                raise RefusedError(f"{save}: a reference's file must end in {' or '.join(DATA_SUFFIXES)}")
            check_target(save, force=force, example="reference.h5")
        configuration = configuration_of(what, setting_changes(settings or []), from_file=is_file(what))
        problem = configuration.problem()
        wanted: list[Any] = [mf.EnergyAt()]
        for text in moments or []:
            axis, _, power = text.partition("^")
            if not (power or "1").isdecimal():
                raise RefusedError(f"--moment {text!r}: needs an axis and a power, such as c^2")
            wanted.append(mf.Moment(axis, int(power or 1)))
        if inputs is not None:
            wanted.append(mf.OutputAt(floats(inputs, "--output-at")))
        try:
            found = mf.reference(
                problem,
                tolerance,
                wanted,
                times=None if times is None else floats(times, "--times"),
                budget=120.0 if budget is None else budget,
                progress=False if quiet else None if shows_progress(None) else functools.partial(say, err=True),
                cache=cache,
            )
        except mf.Disagreement as error:
            complain(error)
            raise typer.Exit(INCONSISTENT) from None
        except KeyboardInterrupt as interrupt:
            if (best := getattr(interrupt, "reference", None)) is not None:
                say(str(best))
            raise
        if save is not None:
            options = {"--tolerance": f"{tolerance:g}", "--times": times, "--output-at": inputs}
            options |= {"--budget": None if budget is None else f"{budget:g}"}
            words = [word for option, value in options.items() if value is not None for word in (option, value)]
            words += [word for text in moments or [] for word in ("--moment", text)]
            words += [word for text in settings or [] for word in ("--set", text)]
            _save_reference(found, configuration, save, ["mfpde", "reference", what, *words])
    say(found)
    if save is not None and not quiet:
        say(f"written: {save}")
    if not found.reached:
        raise typer.Exit(FAILED)


def _save_reference(found: Any, configuration: Configuration, target: Path, words: Sequence[str]) -> None:
    """Keep what was computed, with what names its problem and what computes it again."""
    import shlex

    from mfpde.support.files.untrusted import parse_toml
    from mfpde.verification.references.file import save_reference

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
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name in absent:
        complain(f"{name} has no file; mfpde reference --rebuild {name}")


def _show_references(names: Sequence[str]) -> None:
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
            found = pack.check(name, tolerance=tolerance, budget=budget, progress=None if quiet else to_stderr)
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


def _rebuild_references(names: Sequence[str], into: Path | None, *, again: bool, quiet: bool) -> None:
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
            if again and pack.is_built(name, folder):
                say(f"{name}: is there already")
                continue
            began = time.perf_counter()
            try:
                found = pack.rebuild(name, folder, progress=None if quiet else to_stderr)
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
