"""Runs that are killed at random moments, a million steps, and the same bits again.

A child process runs with checkpoints, is killed at a random moment (SIGKILL), and a new one resumes its file, again and
again until the run is over. The final file is then held against that of an uninterrupted run, bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from validation._runner import Kind, Progress, Row, Study

__all__ = ["run"]

SOURCE = "by construction: everything a step depends on is in the file"

GRID = """
import sys
import mfpde as mf
path, threads = sys.argv[1], int(sys.argv[2])
settings = {"threads": threads, "progress": False, "checkpoint": 1e-3}
try:
    found = mf.load(path)
except FileNotFoundError:
    mf.solve(mf.problems.three_gaussians(), shape=(SHAPE), t_end=T_END, save=5, output=path, **settings)
else:
    if found.result is not mf.Result.SUCCESS:  # the kill may have come after the end
        mf.resume(path, **settings)
"""

CLOUD = """
import sys
import numpy as np
import mfpde as mf
path, workers = sys.argv[1], int(sys.argv[2])
cloud = mf.particles.simulate(
    mf.problems.three_gaussians(), 200, dt=0.01, t_end=T_END, seed=1, replicas=4, workers=workers, progress=False,
    checkpoint=path + ".npz", checkpoint_every=0.02,
)
np.save(path, cloud.positions)
"""


def run(quick: bool, progress: Progress) -> Study:
    """Kill, resume, compare; a soak; thread counts."""
    kills, steps = (12, 20_000) if quick else (100, 1_000_000)
    rows: list[Row] = []
    share = 0.0
    for name, script, threads in (
        ("grid, 1 thread", GRID.replace("SHAPE", "64, 64"), 1),
        ("grid, 2 threads", GRID.replace("SHAPE", "400, 260"), 2),
        ("particles, 2 workers", CLOUD, 2),
    ):
        t_end = {"grid, 1 thread": 10.0, "grid, 2 threads": 1.0, "particles, 2 workers": 20.0}[name]
        script = script.replace("T_END", str(t_end if not quick else 0.3 * t_end))
        progress(share, f"killing: {name}")
        rows += _killed(name, script, threads, kills if "grid" in name else max(6, kills // 4))
        share += 0.2
    progress(share, f"{steps} steps")
    rows += _soak(steps)
    progress(0.9, "thread counts")
    rows += _threads()
    return Study("Survival", (__doc__ or "").split("\n\n", 1)[1], rows)


def _digest(path: Path) -> str:
    """The content of a result, without what may differ."""
    if path.suffix == ".npy":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    import h5py

    with h5py.File(path, "r") as file:
        text = "".join(f"{name}={file.attrs[name]}" for name in sorted(file.attrs) if name != "REFERENCE_LIST")
    return hashlib.sha256(text.encode()).hexdigest()  # among them are the checksums of all datasets


def _killed(name: str, script: str, threads: int, kills: int) -> list[Row]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(mf.__file__).parent.parent), *sys.path])}
    suffix = ".npy" if "particles" in name else ".h5"

    def child(path: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-c", script, str(path), str(threads)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)

    chance = random.Random(f"{name} {kills}")
    done, unreadable, errors, rounds, different = 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"whole{suffix}"
        began = time.perf_counter()
        first = child(whole)
        assert first.wait() == 0, first.communicate()[1].decode()
        length = time.perf_counter() - began
        wanted = _digest(whole)
        leftover: set[str] = set()
        while done < kills:
            path = Path(folder) / f"run{suffix}"
            while True:
                process = child(path)
                if done < kills:
                    # the start of an interpreter takes a good part of it; later kills find a run further on
                    try:
                        process.wait(chance.uniform(0.3, 1.0) * length)
                    except subprocess.TimeoutExpired:
                        process.send_signal(signal.SIGKILL)
                code = process.wait()
                _, said = process.communicate()
                if code == -signal.SIGKILL:
                    done += 1
                    if path.exists() and suffix == ".h5":
                        try:
                            mf.load(path)
                        except Exception:
                            unreadable += 1
                    continue
                errors += code != 0
                if code != 0:
                    print(said.decode(), file=sys.stderr)
                break
            rounds += 1
            different += not path.exists() or _digest(path) != wanted
            leftover |= {entry for entry in os.listdir(folder) if not entry.startswith((".", "whole", path.name))}
            for entry in Path(folder).iterdir():
                if entry != whole:
                    entry.unlink()
    note = f"{done} kills in {rounds} runs of {length:.1f} s"
    return [
        Row(f"{name}: files that cannot be opened after a kill", SOURCE, 0, unreadable, 0, Kind.AT_MOST, note),
        Row(f"{name}: runs that could not go on", SOURCE, 0, errors, 0, Kind.AT_MOST, note),
        Row(f"{name}: final results that differ in a bit", SOURCE, 0, different, 0, Kind.AT_MOST, note),
        Row(f"{name}: files left behind", SOURCE, 0, len(leftover), 0, Kind.AT_MOST, note),
    ]


SOAK = """
import json, resource, sys
import numpy as np
import mfpde as mf
from mfpde.diagnostics import COLUMNS
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


def _soak(steps: int) -> list[Row]:
    import json

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(mf.__file__).parent.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SOAK, str(steps)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    memory = np.array(found["memory"][1:], dtype=float)
    # arrays grow by an eighth at a time
    growth = (memory[-1] - memory[0]) / (0.8 * steps)
    return [
        Row(f"{steps} steps: made", "the controller", steps, found["steps"], 6, Kind.WITHIN, "saves cut steps in two"),
        Row("bytes a step that memory grows by", "8 bytes a recorded number, an eighth to spare",
            found["recorded"] * 1.125, growth, 16, Kind.AT_MOST, f"{found['recorded']} bytes are recorded"),
        Row("drift of the mass", "stated bound", 1e-11, found["drift"], 0, Kind.AT_MOST),
        Row("save times: distance from what was asked for", "they are hit", 0, found["off"], 0, Kind.AT_MOST),
        Row("end time", "it is hit", 1.0, found["end"], 0, Kind.WITHIN),
        Row("largest |t_(k+1) - t_k - dt_k|", "round-off", 0, found["grid"], 2.3e-16, Kind.AT_MOST),
        Row("largest rise of the energy, of its scale", "decay of the semi-discrete energy", 1e-13, found["rise"], 0,
            Kind.AT_MOST),
        Row("smallest density", "sign is kept", 0, found["minimum"], 0, Kind.AT_LEAST),
    ]  # fmt: skip


def _threads() -> list[Row]:
    rows = []
    for name, problem, settings in (
        ("three-gaussians 400 x 300", mf.problems.three_gaussians(), {"shape": (400, 300), "t_end": 0.2}),
        ("torus-langevin, implicit, 120000 cells", mf.problems.torus_langevin(), {"shape": 120_000, "t_end": 0.02}),
    ):
        one, two, again = (mf.solve(problem, **settings, threads=n, progress=False) for n in (1, 2, 1))  # type: ignore[arg-type]
        largest = float(np.abs(np.asarray(one.density)).max())
        apart = float(np.abs(np.asarray(one.density) - np.asarray(two.density)).max()) / largest
        other = int(np.sum(np.asarray(one.density) != np.asarray(again.density)))
        rows += [
            Row(f"{name}: 1 against 2 threads, of the maximum", "stated bound", 1e-12, apart, 0, Kind.AT_MOST),
            Row(f"{name}: values that differ when run again", "determinism", 0, other, 0, Kind.AT_MOST),
        ]
    return rows
