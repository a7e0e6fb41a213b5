"""``run --dry-run``: what a run will take, and the files that it will write; nothing is written."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfpde.cli.output import listed, say

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem

__all__ = ["say_forecast"]


def say_forecast(
    problem: Problem,
    arguments: Mapping[str, Any],
    target: Path,
    picture: Path | None,
    *,
    goes_on: bool,
    made: Path | None,
) -> None:
    """Print it.

    Parameters
    ----------
    problem : Problem
    arguments : mapping
        Of `mfpde.solve`.
    target, picture : Path, Path or None
        What it will write.
    goes_on : bool
        Whether the file is there, and the run goes on from it.
    made : Path or None
        The folder that it will make, if it will.
    """
    rows = {"problem": problem.name, **_search(arguments)}
    if "tolerance" not in arguments:
        rows |= _run(problem, arguments, target)
    rows["would write"] = ", ".join(str(path) for path in (target, picture) if path is not None)
    if made is not None:
        rows["would make"] = f"the folder {made}"
    if goes_on:
        rows["would go on"] = f"with the run in {target}"
    for row in listed(rows):
        say(row)


def _search(arguments: Mapping[str, Any]) -> dict[str, str]:
    if "tolerance" not in arguments:
        return {}
    from mfpde.mesh.accuracy import BUDGET

    limit = arguments.get("time_limit") or BUDGET
    return {
        "accuracy": f"{arguments['tolerance']:g} of the scale of the energy; the search finds the mesh",
        "run time": f"{_time(limit)} at most",
    }


def _run(problem: Problem, arguments: Mapping[str, Any], target: Path) -> dict[str, str]:
    from mfpde.runs.forecast import forecast
    from mfpde.support.memory import available

    found = forecast(problem, {**arguments, "output": str(target)})
    cells, there = math.prod(found.shape), available()
    left = "" if there is None else f", of {_size(there)} that are free"
    shape = " x ".join(map(str, found.shape))
    tried = f"{found.tried} steps on {' x '.join(map(str, found.trial))} cells"
    return {
        "mesh": f"{shape} = {cells} cells" if len(found.shape) > 1 else f"{cells} cells",
        "scheme": f"{found.scheme}, {found.method}",
        "memory": f"about {_size(found.memory.total)}{left}",
        "disk": f"about {_size(2 * found.bytes_saved)} while it runs, {_size(found.bytes_saved)} after it, of "
        f"{_size(shutil.disk_usage(_folder(target)).free)} that are free",
        "run time": f"about {_time(found.seconds)}, {_number(found.steps)} steps (by {tried})",
    }


def _folder(target: Path) -> Path:
    """The nearest folder above a file that there is."""
    return next(folder for folder in target.absolute().parents if folder.is_dir())


def _size(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 2**10:.3g} KiB"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):.12g}"


def _number(value: float) -> str:
    return "no end of" if math.isinf(value) else _two_digits(value)


def _time(seconds: float) -> str:
    """In a unit that fits, with the digits that an estimate has."""
    if not math.isfinite(seconds):
        return "for ever"
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds)} seconds"
