"""A worker: sweeps that are killed (SIGKILL) at random moments and begun again, until they are over."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import mfpde as mf
from mfpde.runs.sweep_file import DONE
from validation._children import LIMIT, serve, started

FAULTS = ("unreadable", "error", "different", "repeated", "left")
"""
unreadable: a file that cannot be opened after a kill, or has fewer rows than after the one before.
error: a sweep that could not go on.
different: a file, but for hosts and seconds, that differs in a bit from that of the sweep nobody has killed.
repeated: a run that was made again although its row had reached the file.
left: files, dot files included, beside that of a sweep which has ended.
"""
ENGINES = ("this process", "2 threads", "shards, merged")
ALPHAS, TARGETS = np.linspace(0.0, 2.0, 20), np.linspace(0.5, 1.5, 15)
SHARDS = 3


def factory(alpha: float, target: float) -> mf.Problem:
    """The problem of a point; one of them has none."""
    if target == TARGETS[3] and alpha == ALPHAS[4]:
        raise RuntimeError("one of them fails")
    return mf.problems.linear_neuron(target, alpha=alpha)


class Logged:
    """Runs that are noted in a file before they begin."""

    def __init__(self, log: Path) -> None:
        self.log = str(log)

    def __call__(self, problem: mf.Problem, **given: Any) -> mf.Solution:
        """Note and solve."""
        with open(self.log, "a", encoding="ascii") as file:
            file.write(f"{problem.parameters['alpha']!r} {problem.parameters['target']!r}\n")
        return mf.solve(problem, progress=False, **given)


def _sweep(path: Path, log: Path, engine: str) -> None:
    given: dict[str, Any] = {"shape": 100, "t_end": 0.1, "save": 2, "estimate": False, "output": path}

    def sweep(**more: Any) -> None:
        mf.sweep(factory, {"alpha": ALPHAS.tolist(), "target": TARGETS.tolist()}, run=Logged(log), **given, **more)

    if engine == ENGINES[1]:
        with ThreadPoolExecutor(2) as executor:
            sweep(executor=executor)
    elif engine == ENGINES[2]:
        for k in range(1, SHARDS + 1):
            sweep(shard=(k, SHARDS))
        sweep(merge=True)
    else:
        sweep()


def digest(path: Path) -> str:
    """All of a file, but hosts and seconds."""
    found = hashlib.sha256()
    with h5py.File(path) as file:
        for name in sorted(file):
            if name not in ("host", "seconds"):
                found.update(f"{name} {file[name].dtype} {file[name].shape}".encode() + file[name][...].tobytes())
        found.update(str(sorted(file.attrs.items())).encode())
    return found.hexdigest()


def _rows(folder: Path) -> set[str]:
    """The points whose rows have reached a file, as the log names them."""
    found = set()
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            there = file["done"][...] == DONE
            pairs = zip(file["alpha"][...][there].tolist(), file["target"][...][there].tolist(), strict=True)
            found |= {f"{alpha!r} {target!r}" for alpha, target in pairs}
    return found


def _one(
    rng: random.Random, engine: str, folder: Path, most: int, wanted: str, length: float
) -> dict[str, Any]:  # fmt: skip
    """One sweep: killed and begun again until it is over."""
    path, log = folder / "phase.h5", folder.parent / "log"
    log.unlink(missing_ok=True)
    faults: list[str] = []
    kills, there = 0, set[str]()
    while True:
        read = log.stat().st_size if log.exists() else 0
        child = started(lambda: _sweep(path, log, engine))
        if kills < most:
            time.sleep(rng.uniform(0.0, 0.6) * length)
            child.kill()
        ended = child.wait(LIMIT)
        if log.exists():
            again = there & set(log.read_text(encoding="ascii")[read:].splitlines())
            faults += ["repeated"] * bool(again)
        if ended.code != -9:
            faults += ["error"] * bool(ended.code)
            break
        kills += 1
        try:
            now = _rows(folder)
            faults += ["unreadable"] * (not there <= now)
            there = now
        except (OSError, KeyError):
            faults.append("unreadable")
    if not path.exists() or digest(path) != wanted:
        faults.append("different")
    shards = {f"phase.{k}-of-{SHARDS}.h5" for k in range(1, SHARDS + 1)} if engine == ENGINES[2] else set()
    left = {file.name for file in folder.iterdir()} - {"phase.h5"} - shards
    faults += ["left"] * bool(left)
    for file in folder.iterdir():
        file.unlink()
    return {"engine": engine, "kills": kills, "faults": faults, "left": sorted(left)}


def _whole(folder: Path, log: Path, work: Callable[[], None]) -> tuple[str, float]:
    for _ in range(2):  # the first may compile
        for file in folder.iterdir():
            file.unlink()
        began = time.monotonic()
        ended = started(work).wait(LIMIT)
        if ended.code:
            raise RuntimeError(f"a sweep that nobody kills ended with {ended.code}: {ended.said}")
        length = time.monotonic() - began
    found = digest(folder / "phase.h5")
    for file in [*folder.iterdir(), log]:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
    return found, length


def find(folder: Path, kills: str) -> Iterator[dict[str, Any]]:
    """Sweeps, until there have been so many kills; each is held against one in this process that nobody kills."""
    place, log = folder / "place", folder / "log"
    place.mkdir()
    wanted, length = _whole(place, log, lambda: _sweep(place / "phase.h5", log, ENGINES[0]))
    count = number = 0
    while count < int(kills):
        most = min(5, int(kills) - count)
        found = _one(random.Random(f"sweeps {number}"), ENGINES[number % 3], place, most, wanted, length)
        count += found["kills"]
        number += 1
        yield found


if __name__ == "__main__":
    serve(find)
