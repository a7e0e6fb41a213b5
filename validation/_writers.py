"""A worker: two processes write one file at the same time, a random delay apart."""

from __future__ import annotations

import hashlib
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfpde as mf
from validation._children import Child, Ended, command, digest, one_line, refusals, serve, started, watch_steps

FAULTS = ("lost", "wrong", "computed", "unclear", "crashed", "nobody", "left behind")
"""
lost: a process ended with 0, and its result is nowhere.
wrong: a file at the end is no result of any of them, or not whole.
computed: a process was refused after it had taken steps.
unclear: refused otherwise than by exit code 2 and one line, which names the other's process while that is at work.
crashed: a signal, a hang, a traceback, or another exit code.
nobody: both were refused.
left behind: a file that neither made under its own name, dot files included.
"""
SLACK = 0.1
"""Seconds between the moment that a process lets go of the file and the one that it says it has ended, at most."""

Work = Callable[[], Any]
RUN = ("run", "three-gaussians", "--no-plot", "-q", "--threads", "1")
FIRST = (*RUN, "--shape", "40,40", "--t-end", "2", "--save", "9", "-o", "x.h5")
SECOND = (*RUN, "--shape", "32,32", "--t-end", "3", "--save", "7", "--set", "alpha=1", "-o", "x.h5")
BASE = (*RUN, "--shape", "40,40", "--t-end", "1", "--save", "5", "-o", "x.h5")


def _resume(until: int) -> tuple[object, ...]:
    return ("resume", "x.h5", "--until", until, "--no-plot", "-q", "--threads", "1")


def _said(*words: object) -> Work:
    return lambda: command(*words)


def _cloud(seed: int) -> Work:
    def work() -> str:
        with refusals():
            done = mf.particles.simulate(
                mf.problems.three_gaussians(), 200, dt=0.01, t_end=2.0, seed=seed, replicas=4, workers=1,
                progress=False, checkpoint="x.npz", checkpoint_every=0.02,
            )  # fmt: skip
        assert done.positions is not None
        return hashlib.sha256(done.positions.tobytes()).hexdigest()

    return work


@dataclass(frozen=True)
class Race:
    """What two processes do.

    Attributes
    ----------
    name : str
    works : pair of callable
    wanted : pair of set of str
        Results of each that count as its own, or as what went on from its own.
    forced : pair of bool
        Whether a process is asked to replace what is there.
    begin : bytes
        What the file holds at first; nothing: there is none.
    moved : bool
        Whether the file is moved away between the two.
    """

    name: str
    works: tuple[Work, Work]
    wanted: tuple[set[str], set[str]]
    forced: tuple[bool, bool] = (False, False)
    begin: bytes = b""
    moved: bool = False


def _done(folder: Path, *works: Work) -> str:
    """The result of processes that run one after the other with nobody else; the file stays."""
    answer = None
    for work in works:
        ended = started(work, folder).wait()
        if ended.code:
            raise RuntimeError(f"a process by itself ended with {ended.code}: {ended.said}")
        answer = ended.answer
    return str(answer or digest(folder / "x.h5"))


def _races(folder: Path) -> tuple[list[Race], float]:
    """All kinds of races, and how long one of the processes takes."""

    def alone(*works: Work) -> tuple[str, bytes]:
        shutil.rmtree(folder)
        folder.mkdir()
        result = _done(folder, *works)
        file = folder / "x.h5"
        return result, file.read_bytes() if file.exists() else b""

    first, second, base = (_said(*words) for words in (FIRST, SECOND, BASE))
    two, three = (_said(*_resume(until)) for until in (2, 3))
    began = time.monotonic()
    one, old = alone(first)
    length = time.monotonic() - began
    further, _ = alone(first, three)
    other, _ = alone(second)
    _, start = alone(base)
    to_two, _ = alone(base, two)
    to_three, _ = alone(base, three)
    after_two, _ = alone(base, two, three)
    clouds = [alone(_cloud(seed))[0] for seed in (1, 2)]
    forced = _said(*SECOND, "-f")
    long = {to_three, after_two}
    races = [
        Race("run, run", (first, second), ({one}, {other})),
        Race("run, run -f", (first, forced), ({one}, {other}), (False, True)),
        Race("run -f, run -f", (_said(*FIRST, "-f"), forced), ({one}, {other}), (True, True), old),
        Race("resume, resume", (two, three), ({to_two, *long}, long), begin=start),
        Race("resume further, resume", (three, two), (long, {to_two, *long}), begin=start),
        Race("run, resume", (first, three), ({one, further}, {further})),
        Race("run, moved, run", (first, second), ({one}, {other}), moved=True),
        Race("particles, the same", (_cloud(1), _cloud(1)), ({clouds[0]}, {clouds[0]})),
        Race("particles, others", (_cloud(1), _cloud(2)), ({clouds[0]}, {clouds[1]})),
    ]
    return races, length


def _race(race: Race, folder: Path, delay: float) -> list[Ended]:
    shutil.rmtree(folder)
    folder.mkdir()
    file = folder / "x.h5"
    if race.begin:
        file.write_bytes(race.begin)
    one = started(race.works[0], folder)
    if race.moved:
        _wait_for(file, one)
    time.sleep(delay)
    if race.moved and file.exists():
        file.rename(folder / "moved.h5")
    other = started(race.works[1], folder)
    return [one.wait(), other.wait()]


def _wait_for(file: Path, child: Child) -> None:
    while not file.exists() and not child.ended():
        time.sleep(0.001)


def judge(race: Race, ended: list[Ended], folder: Path) -> list[str]:
    """Which faults a race shows."""
    faults = []
    results: set[str] = set()
    for file in folder.glob("*.h5"):
        try:
            results.add(digest(file))
        except (OSError, RuntimeError, KeyError):
            faults.append("wrong")
    known = set().union(*race.wanted)
    if any(result not in known for result in results):
        faults.append("wrong")
    if all(one.code == 2 for one in ended):
        faults.append("nobody")
    for i, mine in enumerate(ended):
        other = ended[1 - i]
        if mine.code == 0:
            found = results | ({mine.answer} if mine.answer else set())
            # whoever asks for it may replace a result that is complete
            replaced = race.forced[1 - i] and other.code == 0 and other.first > mine.end - SLACK
            if not (race.wanted[i] & found or replaced):
                faults.append("lost")
        elif mine.code == 2 and not mine.crashed:
            if not math.isnan(mine.first):
                faults.append("computed")
            if not (one_line(mine.said) and _excused(mine, other)):
                faults.append("unclear")
        else:
            faults.append("crashed")
    if any(name not in ("x.h5", "moved.h5") for name in os.listdir(folder)):
        faults.append("left behind")
    return sorted(set(faults))


def _excused(mine: Ended, other: Ended) -> bool:
    """Whether a refusal names the other process, or speaks of a file that this does not hold."""
    over = other.end < mine.end + SLACK
    not_yet = math.isnan(other.first) or other.first > mine.end - SLACK
    return str(other.pid) in mine.said or over or ("no such file" in mine.said and not_yet)


def find(folder: Path, first: str, last: str) -> Iterator[dict[str, Any]]:
    """Cases from a number to another one."""
    watch_steps()
    place = folder / "place"
    place.mkdir()
    races, length = _races(place)
    for case in range(int(first), int(last)):
        rng = random.Random(f"race {case}")
        race = races[case % len(races)]
        # two at once, one as it starts, in the middle of the other, as it ends, after it
        delay = rng.choice((0.0, rng.uniform(0.0, 0.1), rng.uniform(0.0, 1.3))) * length
        ended = _race(race, place, delay)
        yield {
            "case": case,
            "race": race.name,
            "delay": delay,
            "ends": [one.end - ended[0].end for one in ended],
            "codes": [one.code for one in ended],
            "faults": judge(race, ended, place),
            "left": sorted(os.listdir(place)),
            "said": [one.said.strip()[-300:] for one in ended],
        }


if __name__ == "__main__":
    serve(find)
