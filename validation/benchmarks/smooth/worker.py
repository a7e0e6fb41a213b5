"""One work's race, in a process and on a processor of its own; the record as JSON on standard output.

``python -m validation.benchmarks.smooth.worker WORK QUICK [KNOWN]``: KNOWN is a file with what an earlier race found,
the reference and the peers' best ways.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validation.benchmarks._measure import machine, today, versions
from validation.benchmarks._work import Work
from validation.benchmarks.smooth import lines, ours
from validation.benchmarks.smooth.choice import TARGETS, Trial, Way, cheapest, end_error, error_of
from validation.benchmarks.smooth.reference import reference

__all__ = ["Race", "in_turns", "measure", "short_time"]

PEERS = ("scipy", "diffrax")

Array = NDArray[np.float64]

LEAST = 4e-3
"""Seconds of a batch of calls: a clock's tick is nothing against it."""
LONG = 0.1
"""Seconds of a call that is measured once before it takes turns."""
ROUNDS = 9
"""Turns of all that are compared."""
BUDGET = 1.5
"""Seconds that one of them may take, all turns together; at least three are done."""
FINALISTS = 2
"""Ways of a method that take part in the turns, from short measurements of them all."""
MEASURED = 16
"""Ladders of a method that are measured for an accuracy: those of least work."""
KEPT = 3
"""Ways of a peer to an accuracy that later races measure again."""
QUICK_LINES = 2
"""Meshes of a method with quick settings."""


def _batch(call: Callable[[], Any], count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - start) / count


def _count(seconds: float) -> int:
    """Calls in a batch."""
    return max(1, int(LEAST / max(seconds, 1e-6)))


def short_time(call: Callable[[], Any]) -> float:
    """Processor seconds of a call that was made before, the median of three batches; of a long one, once."""
    first = _batch(call, 1)
    if first > LONG:
        return first
    count = _count(first)
    return statistics.median(_batch(call, count) for _ in range(3))


def in_turns(calls: Sequence[Callable[[], Any]], rounds: int = ROUNDS) -> list[float]:
    """Median processor seconds of calls that take turns, so that whatever else the machine does hits all."""
    counts = [_count(_batch(call, 1)) for call in calls]
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        for call, count, own in zip(calls, counts, times, strict=True):
            if turn < 3 or sum(own) * count < BUDGET:
                own.append(_batch(call, count))
    return [statistics.median(own) for own in times]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _diffrax(work: Work, energy: Array, meshes: Sequence[lines.Discretisation], quick: bool) -> list[Trial]:
    """All meshes by one solver, the best of them by fewer modes and by the others."""
    first, *others = lines.DIFFRAX_SOLVERS
    tried: dict[lines.Discretisation, list[Trial]] = {}

    def trials() -> list[Trial]:
        return [trial for found in tried.values() for trial in found]

    def best() -> list[lines.Discretisation]:
        ways = {id(trial): each for each, found in tried.items() for trial in found}
        chosen: dict[lines.Discretisation, None] = {}
        for target in TARGETS:
            able = (ways[id(trial)] for trial in cheapest(trials(), target, energy))
            chosen |= dict.fromkeys(list(dict.fromkeys(able))[:FINALISTS])
        return list(chosen)

    for by in meshes[:QUICK_LINES] if quick else meshes:
        tried[by] = list(lines.diffrax_trials(work, by, first, energy))
    if quick:
        return trials()
    for by in best():
        for cut in lines.CUTS:
            fewer = by._replace(cut=cut)
            tried[fewer] = list(lines.diffrax_trials(work, fewer, first, energy))
    good = best()
    _say(f"{work.value}: diffrax, {len(meshes)} meshes, of which {len(good)} by all solvers")
    found = trials()
    for by in good:
        for solver in others:
            found += lines.diffrax_trials(work, by, solver, energy)
    return found


def _scipy(work: Work, energy: Array, meshes: Sequence[lines.Discretisation], quick: bool) -> list[Trial]:
    trials: list[Trial] = []
    for by in meshes[:QUICK_LINES] if quick else meshes:
        for method in lines.SCIPY_METHODS:
            trials += lines.scipy_trials(work, by, method, energy)
    return trials


def _peers(work: Work, energy: Array, quick: bool, ways: Sequence[Way]) -> dict[str, list[Trial]]:
    """What the peers can do: by ways that are known to be good, or, without any, by all of them."""
    methods: dict[str, list[Trial]] = {}
    quickly: dict[str, Any] = {"sizes": lines.SIZES[work][::4], "margins": (0.0,)} if quick else {}
    meshes = [] if ways else lines.meshes_of(work, energy, **quickly)
    known = {name: [way for way in ways if way.method.lower() == name] for name in PEERS}
    methods["scipy"] = list(lines.known_trials(work, known["scipy"])) if ways else _scipy(work, energy, meshes, quick)
    try:
        methods["diffrax"] = (
            list(lines.known_trials(work, known["diffrax"])) if ways else _diffrax(work, energy, meshes, quick)
        )
    except ModuleNotFoundError as missing:
        _say(f"{work.value}: diffrax: {missing}")
    return methods


class Race:
    """What is known of a work so far."""

    def __init__(self, work: Work, energy: Array) -> None:
        self.work, self.energy = work, energy
        self.seconds: dict[int, float] = {}
        self.points: dict[str, dict[str, list[float]]] = {}
        """Of all that were measured: method -> seconds and errors."""
        self.ways: dict[Way, None] = {}
        """Of the peers: for each accuracy the fastest ones."""

    def time(self, trial: Trial) -> float:
        """A short measurement, made once."""
        if id(trial) not in self.seconds:
            self.seconds[id(trial)] = seconds = short_time(trial.call)
            known = self.points.setdefault(trial.way.method, {"seconds": [], "errors": []})
            known["seconds"].append(float(f"{seconds:.3g}"))
            known["errors"].append(float(f"{error_of(trial.curve.energy, self.energy):.3g}"))
        return self.seconds[id(trial)]

    def described(self, trial: Trial) -> dict[str, Any]:
        """A trial for the record."""
        curve = trial.curve
        return {
            "method": trial.way.method,
            "way": str(trial.way),
            "error": error_of(curve.energy, self.energy),
            "end_error": end_error(curve.energy, self.energy),
            "minimum": curve.minimum,
            "estimate": curve.estimate,
        }

    def final(self, methods: Mapping[str, Sequence[Trial]], target: float) -> dict[str, dict[str, Any]]:
        """The best of each method for an accuracy, all in turns: method -> described trial with its seconds."""
        chosen: list[Trial] = []
        for name, trials in methods.items():
            if name == "estimated":  # the call is what it is
                chosen += [trial for trial in trials if trial.way.tolerance == target]
            else:
                able = sorted(cheapest(trials, target, self.energy)[:MEASURED], key=self.time)
                chosen += able[:FINALISTS]
                if name in PEERS:
                    self.ways |= dict.fromkeys(trial.way for trial in able[:KEPT])
        times = in_turns([trial.call for trial in chosen])
        slowest_first = sorted(zip(times, chosen, strict=True), key=lambda pair: -pair[0])
        return {trial.way.method: {**self.described(trial), "seconds": seconds} for seconds, trial in slowest_first}


def measure(work: Work, quick: bool, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The race on one work.

    Parameters
    ----------
    work : Work
    quick : bool
    known : mapping, optional
        The ``reference`` and the peers' ``ways`` of an earlier race: what is there is not looked for again.
    """
    began, load, known = time.perf_counter(), machine()["load_at_start"], known or {}
    held = dict(known["reference"]) if "reference" in known else reference(work, 1e-7 if quick else 1e-9)
    energy = np.array(held["energy"])
    _say(f"{work.value}: reference {energy[-1]:.12g}")
    program = ours.compiled(work)
    nodes, cells = (ours.NODES[work][::4] if program else (), ours.CELLS[work][:3]) if quick else (None, None)
    methods: dict[str, list[Trial]] = {
        "hindsight": list(ours.hindsight_trials(work, energy, nodes)),
        "estimated": list(ours.estimated_trials(work)),
        "mesh": list(ours.mesh_trials(work, energy, cells)),
        "noise": list(ours.noise_trials(work, energy, cells)),
    }
    _say(f"{work.value}: own runs, {time.perf_counter() - began:.0f} s")
    methods |= _peers(
        work, energy, quick, [Way(**{**way, "size": tuple(way["size"])}) for way in known.get("ways", ())]
    )
    _say(f"{work.value}: peers, {time.perf_counter() - began:.0f} s")
    race = Race(work, energy)
    record: dict[str, Any] = {"reference": held, "curve": {}, "tables": {}}
    for target in TARGETS:
        key = f"{target:.0e}"
        record["curve"][key] = race.final(methods, target)
        if any(trial.way.tolerance == target for trial in methods["estimated"]):
            record["tables"][key] = ours.table_cost(work, target)
        said = {name: f"{1e6 * found['seconds']:.0f} us" for name, found in record["curve"][key].items()}
        _say(f"{work.value}: {key}: {said}")
    others = {"density": ours.density_cost(work), "certified": ours.reference_cost(work, float(energy[-1]))}
    record |= {name: cost for name, cost in others.items() if cost is not None}
    _say(f"{work.value}: {others}")
    record["points"] = race.points
    record["ways"] = [dataclasses.asdict(way) for way in race.ways]
    record["versions"] = versions(("mfpde", "numpy", "scipy", "numba", "diffrax", "jax", "equinox"))
    record |= {"date": today(), "load_at_start": load, "quick": quick}
    record["wall"] = round(time.perf_counter() - began, 1)
    return record


def main(work: Work, quick: bool, file: Path | None) -> None:
    # what libraries print goes to standard error: standard output is for the record
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if hasattr(os, "sched_setaffinity"):  # jax starts as many threads as it sees processors
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    known = json.loads(file.read_text(encoding="utf-8")) if file else None
    print(json.dumps(measure(work, quick, known)), file=protocol, flush=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(Work(sys.argv[1]), sys.argv[2] == "1", Path(sys.argv[3]) if len(sys.argv) > 3 else None)
