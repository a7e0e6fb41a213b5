"""The race on smooth problems from outside: a process for each work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from validation.benchmarks._measure import REPOSITORY
from validation.benchmarks._work import Work
from validation.benchmarks.smooth.table import PEERS

__all__ = ["KNOWN", "race", "works"]

LIMIT = 1800.0
"""Seconds for a work."""
KNOWN = Path(__file__).with_name("known.json")
"""What the last search found, by work: the reference, and the peers' best ways."""
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "PYTHONWARNINGS": "ignore",
}


def works() -> list[str]:
    """What takes part."""
    return [work.value for work in Work]


def race(
    quick: bool,
    progress: Callable[[str], None],
    only: Sequence[str] = (),
    save: Callable[[dict[str, Any]], None] | None = None,
    earlier: Mapping[str, Any] | None = None,
    anew: bool = False,
) -> dict[str, Any]:
    """The race on all works, or those named.

    Parameters
    ----------
    quick : bool
        Few meshes: does it run, not what it costs.
    progress : callable
        Told what has been measured.
    only : sequence of str
        Works by name.
    save : callable
        Given the result so far after each work.
    earlier : mapping
        An earlier race, whose other works stay.
    anew : bool
        Compute references anew, and look for the peers' best ways among all of them, instead of taking both from
        `KNOWN`; with full settings they are written there.
    """
    result: dict[str, Any] = dict(earlier or {})
    for name in only or works():
        known = _known()
        result[name] = _worker(name, quick, {} if anew else known.get(name, {}), progress)
        found = {key: result[name].get(key, ()) for key in ("reference", "ways")}
        # without one of the peers it is not known which ways are good
        if not quick and (anew or name not in known) and {way["method"] for way in found["ways"]} >= set(PEERS):
            KNOWN.write_text(_lines({**known, name: found}), encoding="utf-8")
        if save is not None:
            save(result)
    return result


def _known() -> dict[str, Any]:
    return dict(json.loads(KNOWN.read_text(encoding="utf-8"))) if KNOWN.exists() else {}


def _lines(known: Mapping[str, Any]) -> str:
    """As JSON, a way a line."""
    works = []
    for name, found in sorted(known.items()):
        ways = ",\n   ".join(json.dumps(way) for way in found["ways"])
        reference = f'"reference": {json.dumps(found["reference"])}'
        works.append(f' {json.dumps(name)}: {{\n  {reference},\n  "ways": [\n   {ways}]}}')
    return "{\n" + ",\n".join(works) + "\n}\n"


def _worker(name: str, quick: bool, known: Mapping[str, Any], progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "validation.benchmarks.smooth.worker", name, str(int(quick))]
        if known:
            file = Path(folder) / "known.json"
            file.write_text(json.dumps(known), encoding="utf-8")
            arguments.append(str(file))
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env={**os.environ, **ONE_THREAD},
            stdout=(Path(folder) / "record.json").open("w", encoding="utf-8"),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        last = ""
        for line in process.stderr:
            last = line.strip() or last
            if line.startswith(name):
                progress(line.strip())
        if process.wait(LIMIT):
            progress(f"{name} failed: {last}")
            return {"failed": last}
        return dict(json.loads((Path(folder) / "record.json").read_text(encoding="utf-8")))
