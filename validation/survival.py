"""Runs that are killed at random moments, a million steps, and the same bits again.

A child process runs with checkpoints, is killed (SIGKILL) at a random moment, as it makes its file or while it writes
the final one, and a new one resumes its file, again and again until the run is over. The final file, its estimated
errors and their companion included, is then held against that of an uninterrupted run, bit for bit, and nothing may be
left beside it.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import mfpde as mf
from validation import _kills as _kill
from validation._children import cases, output_of
from validation._runner import Progress, Study

__all__ = ["run"]

HEADLINE = "final results that differ in a bit"

SOURCE = "by construction: everything a step depends on is in the file"


def run(quick: bool, progress: Progress) -> Study:
    """Kill, resume, compare; a soak; thread counts."""
    study = Study("Survival", (__doc__ or "").split("\n\n", 1)[1], quick, progress)
    study.parts((_kills_and_soak, 0.9), (_threads, 0.1))
    return study


def _kills_and_soak(study: Study) -> None:
    """Both at the same time: the soak has one thread."""
    with ThreadPoolExecutor(1) as pool:
        soak = pool.submit(_steps, _count(study))
        _kills(study)
        study.progress(0.5, f"{_count(study)} steps")
        found, seconds = soak.result()
    _soak(study, found, seconds)


def _kills(study: Study) -> None:
    kills = 12 if study.quick else 500
    study.progress(0.0, "kills")
    found: list[dict[str, Any]] = []
    done = 0
    for case in cases("_kills", kills):
        found.append(case)
        done += len(case["kills"])
        study.progress(0.5 * done / kills, "kills")
        if case["faults"]:
            print(f"kills: {case}", file=sys.stderr)
    study.at_least("kills", "the number that was set", kills, done)
    count = Counter(fault for case in found for fault in case["faults"])
    for fault, what in (
        ("unreadable", "files that cannot be opened after a kill"),
        ("error", "runs that could not go on"),
        ("different", "final results that differ in a bit"),
        ("left", "runs with files left behind, dot files included"),
    ):
        study.at_most(f"{done} kills: {what}", SOURCE, 0, count[fault])
    lines = []
    for job in dict.fromkeys(case["job"] for case in found):
        of_job = [case for case in found if case["job"] == job]
        aims = Counter(aim for case in of_job for aim in case["kills"])
        faults = Counter(fault for case in of_job for fault in case["faults"])
        numbers = (*(aims[aim] for aim in _kill.AIMS), *(faults[fault] for fault in _kill.FAULTS))
        lines.append((job, round(of_job[0]["length"], 2), len(of_job), *numbers))
    study.table(
        "Kills",
        ("run", "seconds", "runs", *_kill.AIMS, *_kill.FAULTS),
        lines,
        "A child that resumes makes a file anew and writes a final one as the first does, and is killed like it. "
        "*left*: runs beside whose file something was left after the last of their processes has ended by itself.",
    )


SOAK = """
import json, resource, sys
import numpy as np
import mfpde as mf
from mfpde.mesh.record import COLUMNS
steps = int(sys.argv[1])
seen = []
def watch(snapshot):
    if snapshot.step % (steps // 10) == 0:
        with open("/proc/self/statm") as file:
            seen.append(int(file.read().split()[1]) * resource.getpagesize())
    return False
saves = [0.1, 1 / 3, 0.7, 2 / 3]
s = mf.solve(
    mf.problems.gaussian_bumps(), shape=24, t_end=1.0, save=saves, controller=mf.FixedStep(1.0 / steps), progress=False,
    stop=watch, scheme=mf.Muscl(), estimate=False,
)
d = s.diagnostics
print(json.dumps({
    "steps": s.stats["steps"], "drift": s.stats["mass_drift"], "memory": seen,
    "recorded": 8 * (len(COLUMNS) + s.response.shape[1]),
    "off": float(np.abs(np.array(sorted(saves)) - s.times[1:-1]).max()), "end": float(s.times[-1]),
    "grid": float(np.abs(np.diff(d["time"]) - d["dt"][1:]).max()),
    "rise": s.stats["energy_increase"], "minimum": float(d["minimum"].min()),
}))
"""


BUDGET = (
    "without estimated errors (estimate=False), whose second run would take as long again; budget: six minutes, beside "
    "the kills"
)


def _count(study: Study) -> int:
    return 20_000 if study.quick else 1_000_000


def _steps(steps: int) -> tuple[dict[str, Any], float]:
    """What the soak prints, and how many seconds it takes."""
    began = time.monotonic()
    text = "".join(output_of([sys.executable, "-W", "ignore", "-c", SOAK, str(steps)]))
    return json.loads(text), time.monotonic() - began


def _soak(study: Study, found: dict[str, Any], seconds: float) -> None:
    steps = _count(study)
    study.claim(f"{steps} steps: made", "the controller", steps, found["steps"], 6, note="saves cut steps in two")
    study.report(f"{steps} steps: seconds", "the clock", seconds, note=BUDGET)
    memory = np.array(found["memory"][1:], dtype=float)
    # arrays grow by an eighth at a time
    growth = (memory[-1] - memory[0]) / (0.8 * steps)
    study.at_most(
        "bytes a step that memory grows by",
        "8 bytes a recorded number, an eighth to spare",
        found["recorded"] * 1.125,
        growth,
        2**21 / steps,
        note=f"{found['recorded']} bytes are recorded; 2 MiB in all for pages",
    )
    study.at_most("drift of the mass", "stated bound", 1e-11, found["drift"])
    study.at_most("save times: distance from what was asked for", "they are hit", 0, found["off"])
    study.claim("end time", "it is hit", 1.0, found["end"])
    study.at_most("largest |t_(k+1) - t_k - dt_k|", "round-off", 0, found["grid"], 2.3e-16)
    study.at_most("largest rise of the energy, of its scale", "decay of the semi-discrete energy", 1e-13, found["rise"])
    study.at_least("smallest density", "sign is kept", 0, found["minimum"])


def _threads(study: Study) -> None:
    study.progress(0.0, "thread counts")
    for name, problem, settings in (
        ("three-gaussians 400 x 300", mf.problems.three_gaussians(), {"shape": (400, 300), "t_end": 0.2}),
        (
            "torus-langevin, implicit, 120000 cells",
            mf.problems.torus_langevin(),
            {"shape": 120_000, "t_end": 0.02, "scheme": mf.ScharfetterGummel()},
        ),
    ):
        one, two, again = (mf.solve(problem, **settings, threads=n, progress=False) for n in (1, 2, 1))  # type: ignore[arg-type]
        largest = float(np.abs(np.asarray(one.density)).max())
        apart = float(np.abs(np.asarray(one.density) - np.asarray(two.density)).max()) / largest
        other = int(np.sum(np.asarray(one.density) != np.asarray(again.density)))
        study.at_most(f"{name}: 1 against 2 threads, of the maximum", "stated bound", 1e-12, apart)
        study.at_most(f"{name}: values that differ when run again", "determinism", 0, other)
