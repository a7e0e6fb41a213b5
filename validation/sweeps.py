"""Sweeps: killed and begun again, what they cost beside their runs, and a phase diagram of one's own data.

A sweep of 300 runs, one of which fails, in one process, on two threads or in three shards that are merged, is killed
(SIGKILL) at random moments and begun again by the same line, again and again. Its file is then held against that of a
sweep which nobody has killed, bit for bit but for hosts and seconds; no run whose row had reached the file may be made
again. Costs are in processor time, beside those of the same runs without a sweep.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from validation import _sweep_kills as _kills
from validation._children import cases
from validation._runner import Progress, Study

__all__ = ["run"]

HEADLINE = "files that differ in a bit"
SOURCE = "what the documentation promises"
TOML = """
shape = {shape}
t_end = 3.0

[network]
data = "points.csv"
inputs = ["x"]
outputs = ["y"]
standardise = true
activation = "tanh"
half_width = 4.0
"""


def run(quick: bool, progress: Progress) -> Study:
    """Kill and go on; costs; a diagram by one command."""
    study = Study("Sweeps", (__doc__ or "").split("\n\n", 1)[1], quick, progress)
    study.parts((_killed, 0.5), (_overhead, 0.2), (_rows, 0.1), (_diagram, 0.2))
    return study


def _killed(study: Study) -> None:
    kills = 6 if study.quick else 30
    found: list[dict[str, Any]] = []
    for case in cases("_sweep_kills", kills):
        found.append(case)
        study.progress(sum(case["kills"] for case in found) / kills, "kills")
        if case["faults"]:
            print(f"kills: {case}", file=sys.stderr)
    done = sum(case["kills"] for case in found)
    study.at_least("kills", "the number that was set", kills, done)
    count = Counter(fault for case in found for fault in case["faults"])
    for fault, what in (
        ("different", "files that differ in a bit"),
        ("repeated", "sweeps that make a run again whose row had reached the file"),
        ("unreadable", "files that cannot be read after a kill, or have lost rows"),
        ("error", "sweeps that could not go on"),
        ("left", "sweeps with files left behind, dot files included"),
    ):
        study.at_most(f"{done} kills: {what}", SOURCE, 0, count[fault])
    lines = []
    for engine in _kills.ENGINES:
        own = [case for case in found if case["engine"] == engine]
        faults = Counter(fault for case in own for fault in case["faults"])
        lines.append((engine, len(own), sum(case["kills"] for case in own), *(faults[f] for f in _kills.FAULTS)))
    study.table("Kills", ("by", "sweeps", "kills", *_kills.FAULTS), lines)


def _overhead(study: Study) -> None:
    """What a sweep takes beyond its runs, in turns of a tenth of them."""
    turns, many = (3, 40) if study.quick else (10, 100)
    points = [{"alpha": a, "target": b} for a in np.linspace(0, 2, many // 10) for b in np.linspace(0.5, 1.5, 10)]
    given: dict[str, Any] = {"shape": 200, "t_end": 0.1, "save": 2, "estimate": False, "progress": False}
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):
            began = time.process_time()
            for point in points:
                mf.solve(mf.problems.linear_neuron(**point), **given)
            between = time.process_time()
            mf.sweep(mf.problems.linear_neuron, points, output=Path(folder) / f"{turn}.h5", **given)
            bare.append(between - began)
            whole.append(time.process_time() - between)
            study.progress(turn / turns, "overhead")
    each = 1e3 * (np.array(whole) - bare)[1:] / many  # the first turn may compile
    note = f"the median over {turns} turns; a run alone takes {1e3 * np.mean(bare[1:]) / many:.1f} ms"
    claim = f"{turns * many} runs on 200 cells: milliseconds of a sweep beyond a run"
    study.at_most(claim, "the aim that was set", 1.0, float(np.median(each)), note=note)


def _rows(study: Study) -> None:
    """Rows of runs that do nothing."""
    count = 10_000 if study.quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        for own in (False, True):  # seconds, and then, as that takes time, memory
            many = count if not own else count // 10
            memory: list[int] = []

            def nothing(pair: tuple[float, float], own: bool = own, memory: list[int] = memory) -> Any:
                if own:
                    memory.append(tracemalloc.get_traced_memory()[0])
                return pair

            def measure(pair: tuple[float, float]) -> dict[str, float]:
                return {"sum": pair[0] + pair[1], "product": pair[0] * pair[1]}

            if own:
                tracemalloc.start()
            began = time.process_time()
            mf.sweep(
                lambda a, b: (a, b), {"a": np.arange(many / 100.0), "b": np.arange(100.0)}, run=nothing,
                measure=measure, output=Path(folder) / f"{own}.h5",
            )  # fmt: skip
            seconds = time.process_time() - began
            if own:
                tracemalloc.stop()
                grown = (memory[-1] - memory[many // 10]) / many - 8.0  # the list itself
                study.at_most("bytes of memory that a further row takes", "columns have their place", 64.0, grown)
            else:
                bound = 5.0 * max(count, 30_000) / 100_000
                study.at_most(f"{count} rows: seconds", "the aim that was set, of the processor", bound, seconds)


def _diagram(study: Study) -> None:
    """A file of numbers of one's own, 36 runs in three dimensions, one command."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2.0, 2.0, 120))
    values = np.stack([x, np.sin(1.7 * x) + 0.1 * rng.standard_normal(120)], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(Path(folder) / "points.csv", values, delimiter=",", header="x,y", comments="")
        (Path(folder) / "mine.toml").write_text(TOML.format(shape=8 if study.quick else 20))
        line = [sys.executable, "-m", "mfpde", "sweep", "mine.toml", "--workers", "2"]
        line += ["--vary", "dynamics.alpha=0:5:6", "--vary", "dynamics.temperature=0,0.01,0.02,0.05,0.1,0.2"]
        took = []
        for again in ([], ["-f"]):  # the first may compile
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([*line, *again], cwd=folder, capture_output=True, text=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        drawn = Path(folder, "mine.sweep.png").is_file()
    study.claim("a network on a CSV file: runs that succeed", "36 of 36", 36, done.stdout.count("SUCCESS"))
    study.claim("its picture is there", "the same command", 1, int(drawn))
    study.at_most("its seconds of the processor, of two", "a minute on two processors", 120.0, took[-1])
