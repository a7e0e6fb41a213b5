"""Clocks, memory, the machine and its memory bandwidth."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.support.threads import available
from validation._runner import processor

__all__ = [
    "HERE",
    "REPOSITORY",
    "in_subprocess",
    "machine",
    "median_time",
    "peak_memory",
    "today",
    "triad_time",
    "versions",
]

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent


def median_time(work: Callable[[], object], repeats: int = 5, budget: float = 60.0, warm_up: int = 1) -> float:
    """Median seconds of a call after a warm-up; fewer repeats (at least 1) when `budget` seconds are used up."""
    for _ in range(warm_up):
        work()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < repeats and (not times or time.perf_counter() - began < budget):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def short_time(work: Callable[[], object], least: float = 0.05) -> float:
    """Median seconds of a call that may take microseconds: batches of about `least` seconds."""
    work()
    start = time.perf_counter()
    work()
    count = max(1, int(least / max(time.perf_counter() - start, 1e-7)))
    batches = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            work()
        batches.append((time.perf_counter() - start) / count)
    return statistics.median(batches)


@cache
def _triad() -> Callable[..., None]:
    import numba

    @numba.njit(nogil=True, fastmath=True)  # type: ignore[misc]
    def triad(a: Any, b: Any, c: Any, s: float) -> None:
        for i in range(a.size):
            a[i] = b[i] + s * c[i]

    return triad  # type: ignore[no-any-return]


def triad_time(cells: int, repeats: int = 15, threads: int | None = None) -> float:
    """Median seconds of ``a = b + s c`` on arrays of `cells` doubles, 24 bytes a cell.

    The threads (default: all there are) each take a part of the arrays, in a pool as the sweeps do; small arrays
    are done by one thread, many times in a row.
    """
    triad = _triad()
    a, b, c = (np.full(cells, value) for value in (0.0, 1.0, 2.0))
    threads = available() if threads is None else threads
    if threads == 1 or cells < 100_000:
        return short_time(lambda: triad(a, b, c, 3.0))
    cuts = np.linspace(0, cells, threads + 1).astype(int)
    parts = [slice(start, stop) for start, stop in pairwise(cuts)]
    with ThreadPoolExecutor(threads) as pool:
        return median_time(
            lambda: list(pool.map(lambda part: triad(a[part], b[part], c[part], 3.0), parts)), repeats, warm_up=2
        )


def flop_rate() -> float:
    """Flops a second of multiply-adds (two each) on registers, all threads of numba."""
    import numba

    @numba.njit(nogil=True, fastmath=True)  # type: ignore[misc]
    def work(n: int, s: float, a: Any) -> None:
        for _ in range(n):
            for k in range(64):
                a[k] = a[k] * s + 0.5

    threads, n = available(), 1_000_000
    arrays = [np.zeros(64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2.0 * 64 * n * threads / median_time(lambda: list(pool.map(lambda a: work(n, 0.999, a), arrays)), 3)


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of the distributions that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package == "mfpde":
                import mfpde

                found[package] = mfpde.__version__
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory and versions."""
    model, cores = processor()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": model,
        "cores": cores,
        "threads": available(),
        "memory_gib": memory and round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": load and round(load, 2),
        "versions": {
            "python": platform.python_version(),
            **versions(("mfpde", "numpy", "scipy", "numba", "llvmlite", "threadpoolctl")),
        },
    }


def today() -> str:
    """The date, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def in_subprocess(
    task: str, *arguments: Any, environment: dict[str, str] | None = None, limit: float = 900.0
) -> dict[str, Any]:
    """Run ``validation.benchmarks._tasks.<task>(*arguments)`` in a fresh process; what it returns."""
    code = (
        "import json, sys; from validation.benchmarks import _tasks; "
        "print('\\n' + json.dumps(getattr(_tasks, sys.argv[1])(*json.loads(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, task, json.dumps(arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"failed": last[0]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
