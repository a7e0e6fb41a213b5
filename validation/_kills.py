"""A worker: runs that are killed (SIGKILL) and go on, again and again, until they are over.

Kills come at a random moment, or a random moment after the child has said that it starts to make its file, or that it
starts to write the final one.
"""

from __future__ import annotations

import hashlib
import os
import random
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfpde as mf
from mfpde.mesh.stream import Stream
from validation._children import LIMIT, Child, digest, serve, started

FAULTS = ("unreadable", "error", "different", "left")
"""
unreadable: a file that cannot be opened after a kill.
error: a run that could not go on.
different: a finished file, or positions, that differ in a bit from those of the run that was not killed.
left: files, dot files included, beside that of a run which has ended.
"""
AIMS = {"at any moment": 0.4, "as the file is made": 0.2, "in the final write": 0.4}
"""What a kill is aimed at, and the shares; simulations of particles are killed at any moment."""
SAID = {"as the file is made": b"s", "in the final write": b"f"}
SETTINGS: dict[str, Any] = {"progress": False, "checkpoint": 1e-3}


@dataclass(frozen=True)
class Job:
    """A run that is killed.

    Attributes
    ----------
    name : str
    work : callable
        Starts the run of that file, or goes on with it.
    wanted : str
        The digest of what it comes to.
    length : float
        Seconds it takes.
    moments : dict of str to float
        Seconds that the making of the file and the final write take.
    """

    name: str
    work: Callable[[Path], Any]
    wanted: str
    length: float
    moments: dict[bytes, float]


def _grid(path: Path, threads: int, shape: tuple[int, int], t_end: float) -> None:
    try:
        found = mf.load(path)
    except FileNotFoundError:
        problem = mf.problems.three_gaussians()
        mf.solve(problem, shape=shape, t_end=t_end, save=5, output=path, threads=threads, **SETTINGS)
        return
    if found.result is mf.Result.SUCCESS:
        # the kill came after the end: the next write under that name removes what it has left
        found.save(path)
    else:
        mf.resume(path, threads=threads, **SETTINGS)


def _further(path: Path) -> None:
    """A run that has ended goes on beyond its end."""
    try:
        found = mf.load(path)
    except FileNotFoundError:
        mf.solve(mf.problems.three_gaussians(), shape=(48, 48), t_end=1.0, save=5, output=path, threads=1, **SETTINGS)
        found = mf.load(path)
    if found.times[-1] == 3.0 and found.result is mf.Result.SUCCESS:
        found.save(path)
    else:
        mf.resume(path, 3.0, threads=1, **SETTINGS)


def _cloud(path: Path) -> str:
    done = mf.particles.simulate(
        mf.problems.three_gaussians(), 100, dt=0.01, t_end=5.0, seed=1, replicas=4, workers=2, progress=False,
        checkpoint=path.with_suffix(".npz"), checkpoint_every=0.01,
    )  # fmt: skip
    assert done.positions is not None
    return hashlib.sha256(done.positions.tobytes()).hexdigest()


def _jobs(folder: Path) -> list[Job]:
    return [
        _job(folder, "grid, 1 thread", lambda path: _grid(path, 1, (48, 48), 4.0)),
        _job(folder, "grid, 2 threads", lambda path: _grid(path, 2, (300, 260), 0.2)),
        _job(folder, "grid, beyond its end", _further),
        _job(folder, "particles, 2 workers", _cloud),
    ]


def _job(folder: Path, name: str, work: Callable[[Path], Any]) -> Job:
    """A run, with what it comes to and how long it takes when nobody kills it."""
    path = folder / "whole.h5"
    for limit in (1200.0, LIMIT):  # the first may compile, the second is measured
        path.unlink(missing_ok=True)
        reading, writing = os.pipe()
        began = time.monotonic()
        ended = started(lambda pipe=writing: _telling(pipe, work, path)).wait(limit)  # type: ignore[misc]
        length = time.monotonic() - began
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            pipe.read()
        if ended.code:
            raise RuntimeError(f"{name}: a run that nobody kills ended with {ended.code}: {ended.said}")
    answer, moments = ended.answer
    wanted = answer or digest(path)
    path.unlink(missing_ok=True)
    return Job(name, work, wanted, length, {key.encode(): seconds for key, seconds in moments.items()})


def _telling(pipe: int, work: Callable[[Path], Any], path: Path) -> tuple[Any, dict[str, float]]:
    """Work, and say when the file is made (``s``) and when the final one is written (``f``); how long both take."""
    stream: Any = Stream
    moments: dict[str, float] = {}

    def told(letter: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            os.write(pipe, letter.encode())
            began = time.monotonic()
            result = method(*given, **named)
            moments[letter] = time.monotonic() - began
            return result

        return call

    stream.start, stream.finish = told("s", stream.start), told("f", stream.finish)
    return work(path), moments


def _hit(rng: random.Random, job: Job, aim: str, child: Child, pipe: int) -> None:
    """Kill a child, unless it has ended before."""
    letter = SAID.get(aim)
    if letter in job.moments:
        heard = b""
        while letter not in heard:
            ready, _, _ = select.select([pipe], [], [], 0.01)
            heard = os.read(pipe, 64) if ready else b""
            if child.ended() and not heard:
                return
        time.sleep(rng.uniform(0.0, 1.3) * job.moments[letter])
    else:
        time.sleep(rng.uniform(0.0, 0.7) * job.length)
    child.kill()


def _attempt(rng: random.Random, job: Job, path: Path, aim: str | None) -> tuple[bool, list[str], Any]:
    """One process: whether it was killed, the faults that shows, and its answer. Without an aim nobody kills it."""
    reading, writing = os.pipe()
    child = started(lambda: _telling(writing, job.work, path))
    os.close(writing)
    if aim is not None:
        _hit(rng, job, aim, child, reading)
    ended = child.wait()
    os.close(reading)
    if ended.code != -9:
        return False, ["error"] if ended.code else [], (ended.answer or [None])[0]
    faults = []
    if path.exists():
        try:
            mf.load(path)
        except Exception:
            faults.append("unreadable")
    return True, faults, None


def _run(rng: random.Random, job: Job, folder: Path, most: int) -> dict[str, Any]:
    """One run: killed and started again until it is over."""
    path = folder / "run.h5"
    aims: list[str] = []
    faults: list[str] = []
    while True:
        (aim,) = rng.choices(list(AIMS), list(AIMS.values())) if len(aims) < most else (None,)
        killed, found, answer = _attempt(rng, job, path, aim)
        faults += found
        if not killed or aim is None:
            break
        aims.append(aim if SAID.get(aim) in job.moments else "at any moment")
    result = answer or (digest(path) if path.exists() else "")
    if result != job.wanted:
        faults.append("different")
    left = [file.name for file in folder.iterdir() if file.name != "run.h5"]
    if left:
        faults.append("left")
    for file in folder.iterdir():
        file.unlink()
    return {"job": job.name, "kills": aims, "faults": faults, "left": left, "length": job.length}


def find(folder: Path, kills: str) -> Iterator[dict[str, Any]]:
    """Runs, until there have been so many kills."""
    jobs = _jobs(folder)
    place = folder / "place"
    place.mkdir()
    count = run = 0
    while count < int(kills):
        found = _run(random.Random(f"kills {run}"), jobs[run % len(jobs)], place, int(kills) - count)
        count += len(found["kills"])
        run += 1
        yield found


if __name__ == "__main__":
    serve(find)
