"""Runs studies, judges their rows, writes JSON, figures and one report."""

from __future__ import annotations

import argparse
import contextlib
import enum
import importlib
import json
import math
import os
import pkgutil
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Figure", "Kind", "Progress", "Row", "Study", "Table", "Verdict", "main", "run_study", "studies"]

HOME = Path(__file__).parent
PACKAGES = ("mfpde", "numpy", "scipy", "numba", "findiff", "matplotlib")
FIGURE_LIMIT = 150_000
"""Bytes of a figure: they are kept with the sources."""

Progress = Callable[[float, str], None]
"""What a study calls now and then: the fraction done, and what it is doing."""


class Verdict(enum.Enum):
    """What became of a claim."""

    PASS = "pass"
    FAIL = "FAIL"
    REPORTED = "reported"


class Kind(enum.Enum):
    """How `Row.measured` is held against `Row.expected`; the text stands in the report."""

    WITHIN = "within"
    """``|measured - expected| <= tolerance``."""
    AT_MOST = "at most"
    """``measured <= expected + tolerance``."""
    AT_LEAST = "at least"
    """``measured >= expected - tolerance``."""
    REPORTED = "reported"
    """A number without a claim: never fails, counts as nothing."""


@dataclass(frozen=True)
class Row:
    """One claim and what was measured. The verdict is computed, never given.

    Parameters
    ----------
    claim : str
        What should hold.
    source : str
        Where `expected` comes from: a paper and its equation, a derivation, another discretisation.
    expected, measured : float
    tolerance : float
        Absolute, finite and not negative.
    kind : Kind
    note : str
        How the tolerance came about, or what else the reader should know.

    Raises
    ------
    ValueError
        On a tolerance out of range, or an empty claim or source.
    """

    claim: str
    source: str
    expected: float
    measured: float
    tolerance: float = 0.0
    kind: Kind = Kind.WITHIN
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("expected", "measured", "tolerance"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ValueError(f"{self.claim!r}: the tolerance must be finite and not negative, not {self.tolerance!r}")
        for name in ("claim", "source"):
            if not getattr(self, name).strip():
                raise ValueError(f"a row needs a {name}")

    @property
    def verdict(self) -> Verdict:
        """Computed from the numbers; a number that is not finite fails."""
        if self.kind is Kind.REPORTED:
            return Verdict.REPORTED
        if not (math.isfinite(self.expected) and math.isfinite(self.measured)):
            return Verdict.FAIL
        excess = self.measured - self.expected
        holds = {
            Kind.WITHIN: abs(excess) <= self.tolerance,
            Kind.AT_MOST: excess <= self.tolerance,
            Kind.AT_LEAST: excess >= -self.tolerance,
        }[self.kind]
        return Verdict.PASS if holds else Verdict.FAIL


@dataclass(frozen=True)
class Table:
    """Numbers beside the rows, without a verdict."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]
    text: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture: a matplotlib figure, which the runner saves and closes."""

    name: str
    caption: str
    figure: Any


class Study:
    """What a study claims, and the tables and figures beside it; a study adds to it in the order of the report.

    Parameters
    ----------
    title : str
    summary : str
        Below the title: what is held against what.
    quick : bool
        Small sizes, for a look: parts of the study ask for it here.
    progress : callable, optional
        Where `Study.progress` goes.
    not_run : str
        Why it claims nothing: what it needs is not installed. Its one row says so.

    Attributes
    ----------
    rows : list of Row
        From `claim`, `at_most`, `at_least` and `report`.
    tables : list of Table
    figures : list of Figure
    """

    def __init__(
        self, title: str, summary: str, quick: bool = False, progress: Progress | None = None, not_run: str = ""
    ) -> None:
        self.title = title
        self.summary = summary
        self.quick = quick
        self.not_run = not_run
        self.rows: list[Row] = []
        self.tables: list[Table] = []
        self.figures: list[Figure] = []
        self._show = progress
        self._section = (0.0, 1.0)

    def claim(
        self,
        claim: str,
        source: str,
        expected: float,
        measured: float,
        tolerance: float = 0.0,
        kind: Kind = Kind.WITHIN,
        note: str = "",
    ) -> None:
        """``|measured - expected| <= tolerance``, or what `kind` says; the parameters are those of `Row`."""
        self.rows.append(Row(claim, source, expected, measured, tolerance, kind, note))

    def at_most(
        self, claim: str, source: str, bound: float, measured: float, slack: float = 0.0, note: str = ""
    ) -> None:
        """``measured <= bound + slack``."""
        self.claim(claim, source, bound, measured, slack, Kind.AT_MOST, note)

    def at_least(
        self, claim: str, source: str, bound: float, measured: float, slack: float = 0.0, note: str = ""
    ) -> None:
        """``measured >= bound - slack``."""
        self.claim(claim, source, bound, measured, slack, Kind.AT_LEAST, note)

    def report(self, what: str, source: str, measured: float, expected: float = 0.0, note: str = "") -> None:
        """A number without a claim. `expected` stands in the results beside it, and nothing is made of it."""
        self.claim(what, source, expected, measured, 0.0, Kind.REPORTED, note)

    def table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[str | float | int]], text: str = ""
    ) -> None:
        """Numbers below the claims, under a title and a sentence about them."""
        self.tables.append(Table(title, header, rows, text))

    def figure(self, name: str, caption: str, figure: Any) -> None:
        """A matplotlib figure, which the runner saves as ``<study>--<name>.png`` and closes."""
        self.figures.append(Figure(name, caption, figure))

    def progress(self, fraction: float, text: str) -> None:
        """Say what comes next, and which fraction of the present part (of the study, outside of one) is done."""
        if self._show is not None:
            start, end = self._section
            self._show(start + (end - start) * fraction, text)

    @contextlib.contextmanager
    def section(self, start: float, end: float) -> Iterator[None]:
        """Within it `progress` runs from one fraction of the whole to another one."""
        outer = self._section
        low, high = outer
        self._section = (low + (high - low) * start, low + (high - low) * end)
        try:
            yield
        finally:
            self._section = outer

    def parts(self, *parts: tuple[Callable[[Study], None], float]) -> None:
        """Run parts in their order, each with the share of the time that it takes; the shares add up to one."""
        done = 0.0
        for part, share in parts:
            with self.section(done, done + share):
                part(self)
            done += share
        self.progress(1.0, "")

    def counts(self) -> dict[Verdict, int]:
        """How many rows have which verdict."""
        found = [row.verdict for row in self.rows]
        return {verdict: found.count(verdict) for verdict in Verdict}


# ---------------------------------------------------------------------------------------------------------------------
# studies
# ---------------------------------------------------------------------------------------------------------------------


def studies(package: str = "validation") -> dict[str, str]:
    """Names of the studies (with dashes), and their modules: all in the package without a leading underscore."""
    found = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(found.__path__) if not module.name.startswith("_"))
    return {name.replace("_", "-"): f"{package}.{name}" for name in names}


def run_study(name: str, module: str, quick: bool, progress: Progress) -> tuple[Study, float]:
    """Run one study; one that raises, or claims nothing, becomes a study with a failed row."""
    began = time.perf_counter()
    try:
        study = importlib.import_module(module).run(quick, progress)
        if not isinstance(study, Study):
            raise TypeError(f"run() of {module} returned {type(study).__name__}, not a Study")
        if not study.not_run and not any(row.kind is not Kind.REPORTED for row in study.rows):
            study.at_least("the study makes a claim", "the runner", 1.0, 0.0)
    except Exception as error:
        traceback.print_exc()
        text = _without_paths(f"{type(error).__name__}: {error}")
        study = Study(name, "The study raised an exception.")
        study.claim("the study runs to its end", "the runner", 0.0, math.nan, note=text)
    return study, time.perf_counter() - began


def _without_paths(text: str) -> str:
    """Text for the report, without the places of files on this machine."""
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[/\\][\w.\-]+(?:[/\\][\w.\-]+)+", "<path>", text)


def processor() -> tuple[str, int]:
    """The processor's name and how many cores of it this process may use."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return model, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _machine() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = getattr(importlib.import_module(package), "__version__", "?")
    model, cores = processor()
    return {"processor": model, "cores": cores, "system": platform.system(), "versions": versions}


# ---------------------------------------------------------------------------------------------------------------------
# files
# ---------------------------------------------------------------------------------------------------------------------


def _number(value: float) -> float | str:
    """JSON has no nan and no infinity."""
    return value if math.isfinite(value) else repr(value)


def write_study(output: Path, name: str, study: Study, seconds: float, quick: bool) -> dict[str, Any]:
    """Write the figures and the JSON of a study; returns what the JSON holds."""
    import matplotlib.pyplot as plt

    (output / "results").mkdir(parents=True, exist_ok=True)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    for old in (output / "figures").glob(f"{name}--*.png"):
        old.unlink()
    figures = []
    for item in study.figures:
        target = output / "figures" / f"{name}--{item.name}.png"
        for dpi in (110, 80, 60):
            item.figure.savefig(target, dpi=dpi, metadata={"Software": None})
            if target.stat().st_size <= FIGURE_LIMIT:
                break
        else:
            print(f"{target.name} is larger than {FIGURE_LIMIT // 1000} kB: draw less in it", file=sys.stderr)
        plt.close(item.figure)
        figures.append({"file": f"figures/{target.name}", "caption": item.caption})
    record = {
        "schema": 1,
        "name": name,
        "title": study.title,
        "summary": study.summary,
        "quick": quick,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds, 1),
        "machine": _machine(),
        "counts": {verdict.value: count for verdict, count in study.counts().items()},
        "rows": [
            {
                "claim": row.claim,
                "source": row.source,
                "kind": row.kind.value,
                "expected": _number(row.expected),
                "measured": _number(row.measured),
                "tolerance": row.tolerance,
                "verdict": row.verdict.value,
                "note": row.note,
            }
            for row in study.rows
        ],
        "tables": [
            {
                "title": table.title,
                "text": table.text,
                "header": list(table.header),
                "rows": [
                    [
                        _number(float(x)) if isinstance(x, float) else x if isinstance(x, (int, str)) else str(x)
                        for x in row
                    ]
                    for row in table.rows
                ],
            }
            for table in study.tables
        ],
        "figures": figures,
    }
    path = output / "results" / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return record


def write_report(output: Path, package: str = "validation") -> Path:
    """Write REPORT.md from all results there are, whichever run they are from."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((output / "results").glob("*.json"))]
    path = output / "REPORT.md"
    path.write_text(report(records, headlines(package)), encoding="utf-8")
    return path


def headlines(package: str = "validation") -> dict[str, str]:
    """Part of the claim that each study is named by in the summary: the constant `HEADLINE` of its module."""
    found = {}
    for name, module in studies(package).items():
        # a study that cannot be imported has said so in a row of its own
        with contextlib.suppress(Exception):
            found[name] = str(getattr(importlib.import_module(module), "HEADLINE", ""))
    return found


def report(records: Sequence[Mapping[str, Any]], headlines: Mapping[str, str] | None = None) -> str:
    """The report: a page of what was claimed and confirmed, then each study with its rows, tables and figures."""
    lines = _page(records, headlines or {})
    for record in records:
        lines += _in_full(record)
    return "\n".join(lines).rstrip() + "\n"


def _page(records: Sequence[Mapping[str, Any]], headlines: Mapping[str, str]) -> list[str]:
    """The summary: counts, the claim that each study is named by, and the claims that fail."""
    totals = {verdict: sum(record["counts"][verdict.value] for record in records) for verdict in Verdict}
    claims = totals[Verdict.PASS] + totals[Verdict.FAIL]
    lines = ["# Validation report", "", "Generated by `python -m validation`; do not edit.", ""]
    lines += [
        f"**{claims} claims in {len(records)} studies: {totals[Verdict.PASS]} are confirmed, "
        f"{totals[Verdict.FAIL]} fail.** Beside them {totals[Verdict.REPORTED]} numbers are reported without a claim. "
        "A verdict is computed from the numbers in its row: *within* means |measured - expected| <= tolerance, "
        "*at most* and *at least* are one-sided with the tolerance as slack. The studies follow in full on this page.",
        "",
    ]
    body = []
    for record in records:
        counts = [record["counts"][verdict.value] for verdict in Verdict]
        label = f"[{record['name']}](#{record['name']})" + (" (quick)" if record["quick"] else "")
        headline = _headline(record, headlines.get(record["name"], ""))
        body.append([label, *counts, headline, record["date"], f"{record['seconds']:.0f}"])
    seconds = f"{sum(record['seconds'] for record in records):.0f}"
    body.append(["**all**", *totals.values(), "", "", seconds])
    header = ["study", *(verdict.value for verdict in Verdict), "one of its claims", "date", "seconds"]
    lines += [*_markdown(header, body), ""]
    failed = [(record, row) for record in records for row in record["rows"] if row["verdict"] == Verdict.FAIL.value]
    if failed:
        lines += ["## Failed", ""]
        for record, row in failed:
            note = f" ({row['note']})" if row["note"] else ""
            lines.append(
                f"- **{record['name']}**: {row['claim']}: measured {_show(row['measured'])}, expected {row['kind']} "
                f"{_show(row['expected'])}, tolerance {_show(row['tolerance'])}{note}"
            )
        lines.append("")
    return lines


def _headline(record: Mapping[str, Any], wanted: str) -> str:
    """The claim that holds `wanted`, in a run that left it out the first one, with its numbers."""
    rows = [row for row in record["rows"] if row["kind"] != Kind.REPORTED.value]
    row = next((row for row in rows if wanted in row["claim"]), rows[0] if rows else None)
    if row is None:
        return record["summary"]
    expected = _show(row["expected"])
    if row["kind"] == Kind.WITHIN.value:
        held = f"{expected} +- {_show(row['tolerance'])}"
    else:
        held = f"{row['kind']} {expected}" + (f" + {_show(row['tolerance'])}" if row["tolerance"] else "")
    if row["kind"] == Kind.AT_LEAST.value:
        held = held.replace(" + ", " - ")
    verdict = ", **FAIL**" if row["verdict"] == Verdict.FAIL.value else ""
    return f"{row['claim']}: {_show(row['measured'])} ({held}{verdict})"


def _in_full(record: Mapping[str, Any]) -> list[str]:
    """A study with its rows, tables and figures."""
    machine = record["machine"]
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    lines = [f'<a id="{record["name"]}"></a>', "", f"## {record['title']}", "", record["summary"], ""]
    lines += [
        f"Run on {record['date']} in {record['seconds']:.0f} s on {machine['cores']} cores of "
        f"{machine['processor']}, {machine['system']}; {versions}." + (" Quick settings." if record["quick"] else ""),
        "",
    ]
    header = ["claim", "expected", "measured", "tolerance", "verdict", "source", "note"]
    lines += [*_markdown(header, [_cells(row) for row in record["rows"]]), ""]
    for table in record["tables"]:
        lines += [f"### {table['title']}", ""]
        if table["text"]:
            lines += [table["text"], ""]
        lines += [*_markdown(table["header"], [[_show(x) for x in row] for row in table["rows"]]), ""]
    for figure in record["figures"]:
        lines += [f"![{figure['caption']}]({figure['file']})", "", figure["caption"], ""]
    return lines


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A row's cells in the report: one that only reports shows no expected value and no tolerance."""
    expected = tolerance = ""
    if row["kind"] != Kind.REPORTED.value:
        expected = _show(row["expected"]) if row["kind"] == "within" else f"{row['kind']} {_show(row['expected'])}"
        tolerance = _show(row["tolerance"])
    verdict = f"**{row['verdict']}**" if row["verdict"] == Verdict.FAIL.value else row["verdict"]
    return [row["claim"], expected, _show(row["measured"]), tolerance, verdict, row["source"], row["note"]]


def _markdown(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *(line(row) for row in rows)]


def _show(value: Any) -> str:
    """Small differences are what a row is about: many digits for numbers of order one, few for small ones."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if value == 0:
        return "0"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:.8g}"


# ---------------------------------------------------------------------------------------------------------------------
# command line
# ---------------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None, package: str = "validation") -> int:
    """Run the studies named, all by default.

    Returns
    -------
    int
        0: every claim holds; 1: one does not, or a study raised; 2: an unknown name.
    """
    parser = argparse.ArgumentParser(prog="python -m validation", description="Run validation studies.")
    parser.add_argument("names", nargs="*", help="studies to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, written to validation/quick")
    parser.add_argument("--list", action="store_true", help="list the studies and stop")
    parser.add_argument("--report", action="store_true", help="run nothing: write REPORT.md anew from the results")
    parser.add_argument("--output", type=Path, help="folder for REPORT.md, results and figures")
    options = parser.parse_args(arguments)

    known = studies(package)
    if options.list:
        for name, module in known.items():
            text = (importlib.import_module(module).__doc__ or "").strip().split("\n")[0]
            print(f"{name:<24}{text}")
        return 0
    names = list(dict.fromkeys(name.replace("_", "-") for name in options.names)) or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; the studies are {', '.join(known)}", file=sys.stderr)
        return 2

    output: Path = options.output or (HOME / "quick" if options.quick else HOME)
    if options.report:
        print(f"{write_report(output, package).name} written, from the results of earlier runs")
        return 0

    import matplotlib

    matplotlib.use("Agg")
    failed = 0
    for name in names:
        with _bar(name) as show:
            study, seconds = run_study(name, known[name], options.quick, show)
        write_study(output, name, study, seconds, options.quick)
        failed += study.counts()[Verdict.FAIL]
        print_study(name, study, seconds)
    path = write_report(output, package)
    print(f"{path.name} written; {failed} of the claims fail" if failed else f"{path.name} written; every claim holds")
    return 1 if failed else 0


class _bar:
    """A progress bar on standard error where that is a terminal, else a line for each new stage."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Any = None
        self.last = ""

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task(self.name, total=1.0)
        return self.show

    def show(self, fraction: float, text: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=min(fraction, 1.0), description=f"{self.name}: {text}")
        elif text != self.last:
            print(f"{self.name} {fraction:4.0%} {text}", file=sys.stderr, flush=True)
        self.last = text

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def print_study(name: str, study: Study, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(title=f"{name} ({seconds:.0f} s)", title_justify="left")
    for column in ("claim", "expected", "measured", "tolerance", "verdict"):
        table.add_column(column, justify="left" if column in ("claim", "verdict") else "right")
    style = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.REPORTED: "dim"}
    for row in study.rows:
        sign = {Kind.AT_MOST: "<= ", Kind.AT_LEAST: ">= "}.get(row.kind, "")
        claims = row.kind is not Kind.REPORTED
        expected = sign + _show(row.expected) if claims else ""
        verdict = f"[{style[row.verdict]}]{row.verdict.value}[/]"
        table.add_row(row.claim, expected, _show(row.measured), _show(row.tolerance) if claims else "", verdict)
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(table)
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in study.counts().items())
    console.print(f"{counts}\n", highlight=False)
