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

__all__ = ["race", "works"]

LIMIT = 900.0
"""Seconds for a work."""
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
    known: Mapping[str, Any] | None = None,
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
    known : mapping
        An earlier race, whose references are good for this one, and whose other works stay.
    """
    result: dict[str, Any] = dict(known or {})
    for name in only or works():
        held = result.get(name, {}).get("reference")
        result[name] = _worker(name, quick, held, progress)
        if save is not None:
            save(result)
    return result


def _worker(name: str, quick: bool, held: Mapping[str, Any] | None, progress: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sys.executable, "-m", "validation.benchmarks.smooth.worker", name, str(int(quick))]
        if held:
            file = Path(folder) / "reference.json"
            file.write_text(json.dumps(held), encoding="utf-8")
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
            return {"failed": last, **({"reference": held} if held else {})}
        return dict(json.loads((Path(folder) / "record.json").read_text(encoding="utf-8")))
