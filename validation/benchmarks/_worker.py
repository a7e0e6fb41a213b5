"""One peer and work in a process of its own; one JSON object a line on standard output.

``python -m validation.benchmarks._worker MODULE WORK REFERENCE LIMIT QUICK FIRST``: FIRST is the number of the variant
to begin with.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import statistics
import sys
import time
import warnings
from typing import Any

from validation.benchmarks._measure import versions
from validation.benchmarks._work import Work
from validation.benchmarks.peers._peer import Outcome, Peer, Variant

ENOUGH = 5e-7
"""Relative error below which a ladder ends."""
QUICK_RUNGS = 3
LONG = 5.0
"""Seconds from which a run is not repeated for the clock's sake."""
LEAST_SAMPLES = 4
"""Seeds of a random method, if they take long."""


def main(module: str, work: Work, reference: float, limit: float, quick: bool, first: int) -> None:
    # what libraries print goes to standard error: standard output is the protocol
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**record: Any) -> None:
        print(json.dumps(record), file=protocol, flush=True)

    start = time.perf_counter()
    peer: Peer = importlib.import_module(f"validation.benchmarks.peers.{module}").PEER
    say(
        event="peer",
        name=peer.name,
        imported=time.perf_counter() - start,
        versions=versions(peer.packages),
        lacks=peer.lacks,
        method=peer.method,
        samples=peer.samples,
        compiles=peer.compiles,
        variants=[variant.name for variant in peer.variants],
    )
    for variant in peer.variants[first:]:
        climb(peer, variant, work, reference, limit, quick, say)


def climb(peer: Peer, variant: Variant, work: Work, reference: float, limit: float, quick: bool, say: Any) -> None:
    """One ladder, until it is accurate enough or too slow."""
    rungs = list(variant.ladders.get(work, ()))
    for rung in rungs[:QUICK_RUNGS] if quick else rungs:
        at = {"variant": variant.name, "rung": str(rung), "n": rung.n}
        say(event="start", **at)
        try:
            start = time.perf_counter()
            solve = peer.prepare(work, variant.name, rung)
            outcome = solve(0)
            cold = time.perf_counter() - start
            say(event="cold", seconds=cold, **at)
            # a sample for each seed, or repeats for the clock
            times: list[float] = []
            outcomes: list[Outcome] = []
            if peer.samples > 1:
                count = 4 if quick else peer.samples
            elif cold > LONG and not peer.compiles:
                count, times, outcomes = 0, [cold], [outcome]
            else:
                count = 3 if cold < LONG else 1
            for seed in range(1, 1 + count):
                start = time.perf_counter()
                outcomes.append(solve(seed))
                times.append(time.perf_counter() - start)
                if times[-1] > limit or (sum(times) > limit and len(times) >= LEAST_SAMPLES):
                    break
            # a median of milliseconds is worth a few more
            while peer.samples == 1 and len(times) < 15 and sum(times) < 0.5:
                start = time.perf_counter()
                solve(0)
                times.append(time.perf_counter() - start)
        except Exception as raised:
            say(event="failed", why=f"{type(raised).__name__}: {raised}"[:200], **at)
            return
        warm = statistics.median(times)
        errors = [o.energy / reference - 1 for o in outcomes]
        error = math.sqrt(sum(e * e for e in errors) / len(errors))
        say(
            event="rung",
            error=error if math.isfinite(error) else None,
            warm=warm,
            once=max(cold - warm, 0.0),
            mass=max(abs(o.mass - 1) for o in outcomes),
            minimum=min(o.minimum for o in outcomes),
            repeats=len(times),
            **at,
        )
        if warm > limit:
            say(event="limit", **at)
            return
        if error < ENOUGH or not math.isfinite(outcome.energy):
            return


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(
            sys.argv[1], Work(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5] == "1", int(sys.argv[6])
        )
