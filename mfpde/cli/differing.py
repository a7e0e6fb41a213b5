"""The command `diff`: what two files differ in."""

from __future__ import annotations

import json as json_format
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.output import DIFFERENT, RefusedError, columns, refusing, say
from mfpde.support.words import one_line

if TYPE_CHECKING:
    from mfpde.verification.differences import Differences

__all__ = ["diff"]

_First = Annotated[Path, typer.Argument(metavar="A", help="The file of a run, stationary state, reference or sweep.")]
_Second = Annotated[Path, typer.Argument(metavar="B", help="Another one.")]
_Tolerance = Annotated[
    float | None,
    typer.Option(
        help="What numbers may differ by, as a share of the largest of their dataset [default: not by a bit].",
        show_default=False,
    ),
]
_Numbers = Annotated[bool, typer.Option("--numbers", help="Datasets alone: settings and versions may differ.")]
_Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing; the exit code says it.")]


def diff(
    one: _First,
    other: _Second,
    tolerance: _Tolerance = None,
    numbers: _Numbers = False,
    json: _Json = False,
    quiet: _Quiet = False,
) -> None:
    """Say what two files differ in: settings, versions, datasets with their greatest difference.

    Exit code 0 if they are equal, 1 if they differ. Dates, durations, commands and hosts do not count.
    """
    from mfpde.verification.differences import differences

    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise RefusedError(f"--tolerance {tolerance:g}: needs a number that is not negative, such as 1e-9")
    with refusing():
        found = differences(one, other, tolerance)
    if json and not quiet:
        say(json_format.dumps(_as_json(found, numbers=numbers), indent=2, default=str))
    elif not quiet:
        for line in _report(found, one, other, tolerance, numbers=numbers):
            say(line)
    if differs(found, numbers=numbers):
        raise typer.Exit(DIFFERENT)


def differs(found: Differences, *, numbers: bool) -> bool:
    """Whether two files differ, or their numbers alone; files of two kinds have no numbers in common."""
    return bool(found.datasets or "kind" in found.settings) if numbers else bool(found)


def _report(found: Differences, one: Path, other: Path, tolerance: float | None, *, numbers: bool) -> Iterator[str]:
    total = found.equal + len(found.datasets)
    within = "" if tolerance is None else f" within {tolerance:g} of their largest value"
    differ = differs(found, numbers=numbers)
    same = f": {found.equal} of {total} datasets are the same{within}" if total else ""
    yield f"{one} and {other} {'differ' if differ else 'are equal'}{same}"
    if not numbers:
        for title in ("settings", "versions", "results"):
            yield from _pairs(title, getattr(found, title))
    if found.datasets:
        table = [("  datasets", "greatest difference", "relative", "where")]
        for each in found.datasets:
            if math.isnan(each.greatest):
                table.append((f"    {each.name}", each.why, "", ""))
            else:
                at = each.why or ("" if not each.where else f"[{', '.join(map(str, each.where))}]")
                table.append((f"    {each.name}", f"{each.greatest:.3g}", f"{each.relative:.2g}", at))
        yield from (line.rstrip() for line in columns(table, str.ljust))


def _pairs(title: str, pairs: Mapping[str, tuple[Any, Any]]) -> Iterator[str]:
    if pairs:
        yield f"  {title}"
        table = [(f"    {key}", _shown(one), _shown(other)) for key, (one, other) in pairs.items()]
        yield from (line.rstrip() for line in columns(table, str.ljust))


def _shown(value: Any) -> str:
    text = "-" if value is None else one_line(f"{value:.12g}" if isinstance(value, float) else str(value))
    return text if len(text) <= 36 else f"{text[:22]} .. {text[-10:]}"


def _as_json(found: Differences, *, numbers: bool) -> dict[str, Any]:
    pairs = {} if numbers else {name: getattr(found, name) for name in ("settings", "versions", "results")}
    datasets = [
        {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in vars(each).items()}
        for each in found.datasets
    ]
    differ = differs(found, numbers=numbers)
    return {"differ": differ, **pairs, "datasets": datasets, "datasets that are the same": found.equal}
