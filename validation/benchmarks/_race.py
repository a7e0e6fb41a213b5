"""All peers on all works, each in a process of its own, and what their ladders say about given accuracies."""

from __future__ import annotations

import json
import math
import os
import pkgutil
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mfpde as mf
from validation.benchmarks import peers
from validation.benchmarks._measure import REPOSITORY
from validation.benchmarks._work import PEER_WORKS, Work

__all__ = ["TARGETS", "race", "time_to"]

TARGETS = (1e-3, 1e-4, 1e-5, 1e-6)
LIMIT = 20.0
"""Seconds a rung may take, warm."""
COMPILE = 240.0
"""Seconds that its first call may take on top, where it compiles."""
GRACE = 1.2
"""Times the limit after which a run is stopped rather than waited for."""

Progress = Callable[[str], None]


def modules() -> list[str]:
    """Peers by module, this package first."""
    names = [m.name for m in pkgutil.iter_modules(peers.__path__) if not m.name.startswith("_")]
    return sorted(names, key=lambda name: (name != "mesh_here", name))


def reference(work: Work, quick: bool) -> dict[str, float]:
    """The energy at the end along characteristics, which share no discretisation with any peer."""
    start = time.perf_counter()
    result = mf.characteristics(work.problem(), save=2, tolerance=1e-7 if quick else 1e-9, progress=False)
    return {
        "energy": float(result.energy[-1]),
        "initial": float(result.energy[0]),
        "error_estimate": float(result.error_estimate),
        "seconds": time.perf_counter() - start,
    }


def run_peer(module: str, work: Work, energy: float, limit: float, quick: bool, progress: Progress) -> dict[str, Any]:
    """One peer on one work; a variant that has to be killed, or dies, does not take the following ones with it."""
    record: dict[str, Any] = {"module": module, "rungs": [], "ended": []}
    first = 0
    while True:
        last, failure = _run_worker(record, first, work, energy, limit, quick, progress)
        if failure is None:
            return record
        if "name" not in record:
            record["unavailable"] = failure
            progress(f"{work.value}: {module}: {failure}")
            return record
        record["ended"].append({**last, "event": "failed", "why": failure})
        progress(f"{work.value}: {record['name']}, {last.get('variant')}, {last.get('rung')}: {failure}")
        if "variant" not in last:
            return record
        first = record["variants"].index(last["variant"]) + 1
        if first == len(record["variants"]):
            return record


def _run_worker(
    record: dict[str, Any], first: int, work: Work, energy: float, limit: float, quick: bool, progress: Progress
) -> tuple[dict[str, Any], str | None]:
    """One worker from variant number `first` on: the last it said, and what went wrong."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "validation.benchmarks._worker"),
            *(record["module"], work.value, repr(energy), str(limit), str(int(quick)), str(first)),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def drain() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip():
                errors.append(line.strip())
            del errors[:-20]

    threads = [threading.Thread(target=target, daemon=True) for target in (read, drain)]
    for thread in threads:
        thread.start()
    last: dict[str, Any] = {}
    failure: str | None = None
    try:
        while True:
            patience = limit * GRACE + 10
            if last.get("event") != "cold":
                patience += COMPILE if record.get("compiles", True) else 0.0
            elif record["samples"] > 1:
                patience += limit * GRACE  # seeds between two lines
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                failure = f"no answer in {patience:.0f} s"
                break
            if line is None:
                break
            last = json.loads(line)
            if last["event"] == "peer":
                record.update({k: v for k, v in last.items() if k != "event"})
            elif last["event"] == "rung":
                record["rungs"].append({k: v for k, v in last.items() if k != "event"})
                error = "not finite" if last["error"] is None else f"{last['error']:.1e}"
                name = f"{record['name']}, {last['variant']}, {last['rung']}"
                progress(f"{work.value}: {name}: {error}, {last['warm']:.3g} s")
            elif last["event"] in ("failed", "limit"):
                record["ended"].append(last)
                progress(f"{work.value}: {record['name']}: {last['event']} {last.get('why', '')}")
    finally:
        if failure is not None:
            process.kill()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if failure is None and process.returncode:
        threads[1].join(timeout=2)
        failure = (errors[-1] if errors else f"exit status {process.returncode}")[:200]
    return last, failure


def race(
    quick: bool,
    progress: Progress,
    only: Sequence[str] = (),
    save: Callable[[dict[str, Any]], None] | None = None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Every peer on every work.

    Parameters
    ----------
    quick : bool
        The first rungs of each ladder only, with a limit of 15 s.
    progress : callable
        Told what has been measured.
    only : sequence of str
        Modules of `peers`; default: all.
    save : callable
        Given the result so far after each peer.
    known : mapping
        An earlier race whose references are good for this one.
    """
    limit = 15.0 if quick else LIMIT
    result: dict[str, Any] = {"limit": limit, "targets": list(TARGETS), "works": {}}
    for work in PEER_WORKS:
        earlier = (known or {}).get("works", {}).get(work.value)
        entry: dict[str, Any] = {"reference": earlier["reference"] if earlier else reference(work, quick), "peers": []}
        result["works"][work.value] = entry
        progress(f"{work.value}: reference {entry['reference']['energy']:.10g}")
        for module in only or modules():
            entry["peers"].append(run_peer(module, work, entry["reference"]["energy"], limit, quick, progress))
            if save is not None:
                save(result)
    return result


def time_to(rungs: Sequence[Mapping[str, Any]], target: float) -> tuple[float, bool] | None:
    """Seconds to reach a relative error on one ladder, between two rungs by interpolation in logarithms.

    Returns
    -------
    (seconds, bound) or None
        `bound` where already the first rung is as accurate, so that the time is an upper bound. None where the ladder
        does not get there. Counted from the last rung that misses it, so that an error that crosses zero by accident
        does not count.
    """
    known = [r for r in rungs if r["error"] is not None]
    if not known or known[-1]["error"] > target:
        return None
    i = len(known) - 1
    while i > 0 and known[i - 1]["error"] <= target:
        i -= 1
    if i == 0:
        return float(known[0]["warm"]), True
    a, b = known[i - 1], known[i]
    span = math.log(a["error"] / max(b["error"], 1e-300))
    share = math.log(a["error"] / target) / span
    return float(math.exp((1 - share) * math.log(a["warm"]) + share * math.log(b["warm"]))), False


def merged(earlier: Mapping[str, Any] | None, result: Mapping[str, Any]) -> dict[str, Any]:
    """A new race of some peers, with the others as they were; a peer measured anew replaces its old entry."""
    if earlier is None:
        return dict(result)
    works: dict[str, Any] = dict(earlier["works"])
    for name, entry in result["works"].items():
        new = {p["module"] for p in entry["peers"]}
        old = [p for p in works.get(name, {}).get("peers", []) if p["module"] not in new]
        peers_of = sorted([*entry["peers"], *old], key=lambda p: (p["module"] != "mesh_here", p["module"]))
        works[name] = {**entry, "peers": peers_of}
    return {**result, "works": works}
