"""Runs that are killed at random moments, a million steps, and the same bits again.

A child process runs with checkpoints, is killed at a random moment (SIGKILL), and a new one resumes its file, again and
again until the run is over. The final file, its estimated errors and their companion included, is then held against
that of an uninterrupted run, bit for bit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from validation._runner import Progress, Study

__all__ = ["run"]

HEADLINE = "final results that differ in a bit"

SOURCE = "by construction: everything a step depends on is in the file"

DRIVER = """
import contextlib, hashlib, json, os, random, signal, sys, time
import h5py
import numpy as np
import mfpde as mf

folder, kind, threads, kills, share = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
settings = {"threads": threads, "progress": False, "checkpoint": 1e-3}
shape, t_end = ((64, 64), 10.0) if threads == 1 else ((400, 260), 1.0)


def grid(path):
    try:
        found = mf.load(path)
    except FileNotFoundError:
        problem = mf.problems.three_gaussians()
        mf.solve(problem, shape=shape, t_end=share * t_end, save=5, output=path, **settings)
    else:
        if found.result is not mf.Result.SUCCESS:  # the kill may have come after the end
            mf.resume(path, **settings)


def cloud(path):
    done = mf.particles.simulate(
        mf.problems.three_gaussians(), 200, dt=0.01, t_end=share * 20.0, seed=1, replicas=4, workers=threads,
        progress=False, checkpoint=path + ".npz", checkpoint_every=0.02,
    )
    with open(path, "wb") as file:
        np.save(file, done.positions)


def digest(path):
    if kind == "cloud":
        return hashlib.sha256(open(path, "rb").read()).hexdigest()
    with h5py.File(path, "r") as file:  # among the attributes are the checksums of all datasets
        text = "".join(f"{name}={file.attrs[name]}" for name in sorted(file.attrs) if name != "REFERENCE_LIST")
    return hashlib.sha256(text.encode()).hexdigest()


def child(path):
    process = os.fork()
    if not process:
        code = 1
        try:
            (grid if kind == "grid" else cloud)(path)
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(code)
    return process


# compiled code is loaded here, once; threads are started by the children only
mf.solve(mf.problems.three_gaussians(), shape=(16, 16), t_end=0.01, threads=1, progress=False)
chance = random.Random(f"{kind} {threads} {kills}")
whole, path = os.path.join(folder, "whole.h5"), os.path.join(folder, "run.h5")
os.waitpid(child(whole), 0)
began = time.perf_counter()
os.remove(whole)
_, status = os.waitpid(child(whole), 0)
length, wanted = time.perf_counter() - began, digest(whole)
count = dict.fromkeys(("kills", "runs", "unreadable", "different", "left"), 0)
count |= {"errors": int(status != 0), "length": length}
while count["kills"] < kills:
    while True:
        process = child(path)
        if count["kills"] < kills:
            time.sleep(chance.uniform(0.0, 0.7) * length)
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if not os.WIFSIGNALED(status):
            count["errors"] += os.WEXITSTATUS(status) != 0
            break
        count["kills"] += 1
        if kind == "grid" and os.path.exists(path):
            try:
                mf.load(path)
            except Exception as error:
                print(repr(error), file=sys.stderr)
                count["unreadable"] += 1
    count["runs"] += 1
    count["different"] += not os.path.exists(path) or digest(path) != wanted
    # what a kill in the middle of a write leaves has a name that begins with a dot
    count["left"] += sum(not name.startswith(".") for name in os.listdir(folder)) - 2
    for name in os.listdir(folder):
        if name != "whole.h5":
            os.remove(os.path.join(folder, name))
print(json.dumps(count))
"""


def run(quick: bool, progress: Progress) -> Study:
    """Kill, resume, compare; a soak; thread counts."""
    study = Study("Survival", (__doc__ or "").split("\n\n", 1)[1], quick, progress)
    study.parts((_kills, 0.6), (_soak, 0.3), (_threads, 0.1))
    return study


def _kills(study: Study) -> None:
    kills = 12 if study.quick else 100
    for k, (name, kind, threads, count) in enumerate(
        (
            ("grid, 1 thread", "grid", 1, kills),
            ("grid, 2 threads", "grid", 2, kills),
            ("particles, 2 workers", "cloud", 2, max(6, kills // 4)),
        )
    ):
        study.progress(k / 3, f"killing: {name}")
        _killed(study, name, kind, threads, count)


def _run(script: str, *arguments: object) -> dict[str, Any]:
    """What a script prints, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(mf.__file__).parent.parent), *sys.path])}
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _killed(study: Study, name: str, kind: str, threads: int, kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = _run(DRIVER, folder, kind, threads, kills, 0.3 if study.quick else 1.0)
    note = f"{found['kills']} kills in {found['runs']} runs of {found['length']:.2f} s"
    for key, what in (
        ("unreadable", "files that cannot be opened after a kill"),
        ("errors", "runs that could not go on"),
        ("different", "final results that differ in a bit"),
        ("left", "files left behind"),
    ):
        if kind == "grid" or key != "unreadable":
            study.at_most(f"{name}: {what}", SOURCE, 0, found[key], note=note)


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
    stop=watch, scheme=mf.Muscl(),
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


def _soak(study: Study) -> None:
    steps = 20_000 if study.quick else 1_000_000
    study.progress(0.0, f"{steps} steps")
    found = _run(SOAK, steps)
    memory = np.array(found["memory"][1:], dtype=float)
    # arrays grow by an eighth at a time
    growth = (memory[-1] - memory[0]) / (0.8 * steps)
    study.claim(f"{steps} steps: made", "the controller", steps, found["steps"], 6, note="saves cut steps in two")
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
