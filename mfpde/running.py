"""What every integrator needs around its loop: save times, threads, interruption, a progress bar."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.checks import numbers, shown, whole
from mfpde.schedules import Constant, Schedule
from mfpde.threads import THREADED_SIZE, at_most

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = [
    "RunWarning",
    "check_memory",
    "interruptible",
    "invert_clock",
    "progress_bar",
    "save_index",
    "save_times",
    "thread_limit",
]


MOST_SAVES = 10_000_000
MOST_THREADS = 4096


class RunWarning(UserWarning):
    """Something in a run that wants looking at."""


def invert_clock(clock: Schedule, t: float, until: float, length: float) -> float:
    """The time at which the clock has advanced by `length` since `t`."""
    if isinstance(clock, Constant):
        return t + length / clock(t)
    low, high = t, until
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        if clock.integral(t, middle) < length:
            low = middle
        else:
            high = middle
    return high


def save_times(save: int | Sequence[float], start: float, t_end: float) -> list[float]:
    """The times after `start` at which a state is kept, `t_end` last: from a count or from the times."""
    if whole(save):
        if not 2 <= save <= MOST_SAVES:
            raise ValueError(
                f"save = {shown(save)}: at least 2 save times, the start and the end, and at most {MOST_SAVES}"
            )
        # fractions of the interval: the same numbers whatever the start
        count = int(save)
        return [start + (t_end - start) * (i / (count - 1)) for i in range(1, count - 1)] + [t_end]
    times = sorted({float(t) for t in np.ravel(numbers(save, "save times"))})
    if not all(math.isfinite(t) for t in times) or (times and (times[0] < 0 or times[-1] > t_end)):
        raise ValueError(f"save times must lie between 0 and t_end = {t_end:g}, got {times}")
    return [t for t in times if start < t < t_end] + [t_end]


def save_index(times: NDArray[np.float64], t: float | None, entry: str) -> int:
    """The position of save time `t` (the last one for None) in a result of `entry`.

    Raises
    ------
    ValueError
        If `t` is no save time.
    """
    if t is None:
        return len(times) - 1
    i = int(np.argmin(np.abs(times - t)))
    if abs(times[i] - t) > 1e-9 * max(1.0, abs(t)):
        raise ValueError(f"t = {t:g} is no save time; the nearest is {times[i]:g} (pass save= to {entry})")
    return i


@contextlib.contextmanager
def thread_limit(threads: int | None, cells: int) -> Iterator[None]:
    """The threads of sweeps and products; BLAS has one, see `mfpde.threads.product`."""
    if threads is None:
        threads = 1 if cells < THREADED_SIZE else (os.cpu_count() or 1)
    if not whole(threads) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be a whole number from 1 to {MOST_THREADS}, not {shown(threads)}")
    with at_most(threads), _pools("scipy.linalg" in sys.modules).limit(limits=1):
        yield


@functools.cache
def _pools(scipy: bool) -> ThreadpoolController:
    """The thread pools of this process, looked for once (which takes milliseconds) before and once after SciPy's."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


WORKING_ARRAYS = 20
"""Arrays of the mesh's size that a run works with at most: 13 for `ExponentialSSPRK3`, 18 for implicit steps."""


def check_memory(count: int, arrays: int = WORKING_ARRAYS, what: str = "cells") -> None:
    """Refuse what does not fit into memory, rather than be killed: so many arrays of a number a cell (or a particle).

    Raises
    ------
    MemoryError
        With the number that would fit.
    """
    memory = _memory()
    needed = 8 * count * arrays
    if memory is not None and needed > memory:
        raise MemoryError(
            f"{shown(count)} {what} need about {needed / 2**30:.3g} GiB of memory, there are {memory / 2**30:.3g} GiB; "
            f"use at most {memory // (8 * arrays)} {what}"
        )


def _memory() -> int | None:
    """Bytes of memory that this process may have, as far as that can be known."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # of a container, version 2 and version 1 of control groups; "max" is no limit
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            found.append(int(file.read()))
    return min(found, default=None)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM ends the run after the current step, so that nothing is half recorded; a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def note(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        restore()


def progress_wanted(wanted: bool | None) -> bool:
    """Whether to show progress: as asked for, by default on a terminal."""
    return sys.stderr.isatty() if wanted is None else wanted


@contextlib.contextmanager
def progress_bar(
    wanted: bool | None, name: str, start: float, t_end: float
) -> Iterator[Callable[[float, float], None]]:
    """A bar with time, energy and the time left on standard error; by default only on a terminal."""
    if not progress_wanted(wanted):
        yield lambda t, energy: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("t = {task.fields[t]:.4g}  E = {task.fields[energy]:.6g}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=t_end - start, t=start, energy=math.nan)
        yield lambda t, energy: bar.update(task, completed=t - start, t=t, energy=energy)


@contextlib.contextmanager
def budget_bar(
    progress: bool | Callable[[str], None] | None, name: str, budget: float
) -> Iterator[Callable[[str], None]]:
    """Tell what is being done, on a bar of the seconds that may be spent, or as a function wants it."""
    if callable(progress):
        yield progress
        return
    if not progress_wanted(progress):
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    began = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[doing]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=budget, doing="")
        yield lambda text: bar.update(task, completed=min(time.perf_counter() - began, budget), doing=text)
