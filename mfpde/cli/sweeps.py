"""The command `sweep`: many runs over a grid of parameters."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mfpde.cli.files import check_suffix, is_file, make_folder
from mfpde.cli.options import Force, MakeFolder, NoPlot, Quiet, RunName, setting_changes
from mfpde.cli.output import FAILED, RefusedError, complain, one_line_warnings, refusing, say
from mfpde.support.files import SUFFIXES

__all__ = ["sweep"]

_Vary = Annotated[
    list[str],
    typer.Option(
        "--vary",
        metavar="KEY=FIRST:LAST:N|KEY=V,V,..",
        help="A parameter and its values, by the key it has in a file; several options make a grid.",
        show_default=False,
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting of all runs, such as shape=64.", show_default=False),
]
_Workers = Annotated[int, typer.Option(min=1, help="Processes that run at the same time.")]
_Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Run every N-th of the runs from the K-th on, into a file of its own, NAME.K-of-N.h5: for job arrays.",
        show_default=False,
    ),
]
_Merge = Annotated[bool, typer.Option("--merge", help="Run nothing: put the files of all shards together.")]
_Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="HDF5 file [default: NAME.sweep.h5].", show_default=False)
]


def sweep(
    what: RunName,
    vary: _Vary,
    settings: _Settings = None,
    workers: _Workers = 1,
    output: _Output = None,
    shard: _Shard = None,
    merge: _Merge = False,
    mkdir: MakeFolder = False,
    no_plot: NoPlot = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run a problem at each point of a grid of parameters; the same line again goes on where it ended."""
    from mfpde.runs.sweep_points import Shard
    from mfpde.runs.sweeps import Described

    with one_line_warnings(), contextlib.ExitStack() as leaving, refusing():
        axes = _axes(vary)
        factory = Described(what, setting_changes(settings or []))
        target = Path(f"{Path(what).stem if is_file(what) else what}.sweep.h5") if output is None else output
        check_suffix(target, SUFFIXES, "the sweep's file")
        if shard is not None and merge:
            raise RefusedError("--merge puts all shards together: no --shard")
        if mkdir:
            make_folder(target.parent, leaving)
        part = None if shard is None else _pair(shard)
        options = {"output": target, "overwrite": force, "shard": part, "merge": merge}
        found = _found(factory, axes, 1 if merge else workers, options | {"progress": False if quiet else None})
        if part is not None:
            target = Shard.of(part).file(target)
        wrote = str(target)
        axes_drawn = [n for n in found.energy.shape if n > 1] if "energy" in found else []
        if not no_plot and part is None and len(axes_drawn) in (1, 2):
            import mfpde as mf

            mf.plot(found, target.with_suffix(".png"))
            wrote += f" and {target.with_suffix('.png')}"
        if not quiet:
            say(_table(found))
            say(f"wrote {wrote}")
    bad = (found.status != "SUCCESS").values
    if bad.any():
        first = found.message.values[bad][0] or found.status.values[bad][0]
        complain(f"{bad.sum()} of {bad.size} runs did not succeed, the first of them: {first}")
        raise typer.Exit(FAILED)


def _found(factory: Any, axes: dict[str, list[Any]], workers: int, options: dict[str, Any]) -> Any:
    """What a sweep gives; a pool that breaks is replaced, as long as it works at all."""
    from mfpde.runs.sweeps import sweep as run_all
    from mfpde.support.executors import BrokenPool

    while True:
        with contextlib.ExitStack() as leaving:
            executor = leaving.enter_context(_pool(workers)) if workers > 1 else None
            try:
                return run_all(factory, axes, executor=executor, **options)
            except BrokenPool as error:
                if not error.worked:
                    complain(error)
                    raise typer.Exit(FAILED) from None
                complain("a worker ended, or ran out of memory; going on with new ones")
                options["overwrite"] = False


def _pair(text: str) -> tuple[int, int]:
    """The numbers of ``--shard``."""
    number, slash, count = text.partition("/")
    try:
        if not slash or not 1 <= int(number) <= int(count):
            raise ValueError
    except ValueError:
        raise RefusedError(f"--shard {text!r}: needs the form k/n, k from 1 to n, such as 1/8") from None
    return int(number), int(count)


def _pool(workers: int) -> Any:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _axes(vary: Sequence[str]) -> dict[str, list[Any]]:
    """The values of each parameter."""
    import numpy as np

    from mfpde.runs.configuration import ConfigurationError, parse_value

    axes: dict[str, list[Any]] = {}
    for text in vary:
        key, equals, values = text.partition("=")
        parts = values.split(":")
        try:
            if not (equals and key and values):
                raise ValueError
            if len(parts) == 3:
                first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
                if count < 1:
                    raise ValueError
                axes[key] = np.linspace(first, last, count).tolist()
            else:
                axes[key] = [parse_value(value) for value in values.split(",")]
        except (ValueError, ConfigurationError):
            raise RefusedError(
                f"--vary {text!r}: needs the form key=first:last:number or key=value,value, such as alpha=0:5:6"
            ) from None
    return axes


def _table(found: Any) -> str:
    """One line a run, as many as a screen holds."""
    import shutil

    names = [str(name) for name in found.coords]
    numbers = [name for name in ("energy", "energy_error", "gap") if name in found]
    frame = found[[*numbers, "status"]].to_dataframe().reset_index()[[*names, *numbers, "status"]]
    most = max(10, shutil.get_terminal_size().lines - 6) if sys.stdout.isatty() else 60
    return str(frame.to_string(index=False, max_rows=most, float_format=lambda value: f"{value:.6g}"))
