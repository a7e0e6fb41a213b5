"""What every integrator needs around its loop: save times, threads, interruption, a progress bar."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mfpde.checks import NUMBER, numbers, require, shown, whole
from mfpde.schedules import Constant, Schedule
from mfpde.threads import THREADED_SIZE, at_most, one_blas_thread

if TYPE_CHECKING:
    from rich.progress import Progress


__all__ = [
    "RunWarning",
    "check_memory",
    "distinct_times",
    "drawn_bar",
    "interruptible",
    "invert_clock",
    "nearest",
    "progress_bar",
    "same_time",
    "save_index",
    "save_times",
    "shows_progress",
    "thread_limit",
    "warn",
    "within_run",
]


MOST_SAVES = 10_000_000
MOST_THREADS = 4096
SAME_TIME = 1e-12
"""Two times closer than this, relative to the later one, are one: sums of 10^4 steps are rounded by less. It is ten
times the shortest step that a solver makes, so that a step fits between any two times that are not one."""
SAME_UNITS = 8
"""And so are two that are closer than this many units of the last place of the end: ``1 - 10 * 0.1`` summed up is no
time after 0."""


class RunWarning(UserWarning):
    """Something in a run that wants looking at.

    Where warnings are errors, ``solution`` holds what `mfpde.solve` or `mfpde.resume` had computed.
    """

    solution: Any = None


def warn(text: str, stacklevel: int = 2) -> None:
    """Warn of something in a run, which is not lost where standard error is closed."""
    with contextlib.suppress(OSError, ValueError):
        warnings.warn(text, RunWarning, stacklevel=stacklevel)


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
    outside = [t for t in times[:1] if t < 0 and not same_time(t, 0.0, t_end)]
    outside += [t for t in times[-1:] if t > t_end and not same_time(t, t_end, t_end)]
    if not all(math.isfinite(t) for t in times) or outside:
        raise ValueError(f"save times must lie between 0 and t_end = {t_end:g}, got {times}")
    return [t for t in distinct_times([*times, t_end], (start, t_end)) if t > start]


def same_time(one: float, other: float, t_end: float) -> bool:
    """Whether two times of a run to `t_end` are one but for rounding.

    Grids of times that are summed up, or joined, meet at ``0.1 + 0.2`` and ``0.3``. The two are one where they are
    within `SAME_TIME` of the later one, or within `SAME_UNITS` units of the last place of `t_end`.
    """
    if not (math.isfinite(one) and math.isfinite(other)):
        return one == other
    return abs(one - other) <= max(SAME_TIME * max(abs(one), abs(other)), SAME_UNITS * math.ulp(t_end))


def distinct_times(times: Iterable[float], preferred: Sequence[float] = ()) -> list[float]:
    """Times in increasing order, each once; see `same_time`.

    Parameters
    ----------
    times : iterable of float
        In any order. Infinity is a time of its own; the largest finite one of all counts as the end of the run.
    preferred : sequence of float
        What stands for the times that are the same: the start, the end. Elsewhere the earliest of them does.

    Returns
    -------
    list of float
        Any two of them are more than a rounding error apart.
    """
    found, fixed = np.unique(np.fromiter(times, dtype=float)), [float(t) for t in preferred]
    finite = [t for t in (*found[np.isfinite(found)][-1:].tolist(), *fixed) if math.isfinite(t)]
    t_end = max(finite, default=0.0)
    every = np.union1d(found, fixed)
    every = every[np.isfinite(every)]
    least = np.maximum(SAME_TIME * np.abs(every[1:]), SAME_UNITS * math.ulp(t_end))
    if np.all(np.diff(every) > least):  # as nearly always
        return list(found.tolist())
    kept: list[float] = []
    for t in found.tolist():
        t = next((other for other in fixed if same_time(t, other, t_end)), t)
        if not kept or not same_time(t, kept[-1], t_end):
            kept.append(t)
    return kept


def nearest(times: NDArray[np.float64], wanted: Sequence[float] | NDArray[np.float64]) -> NDArray[np.intp]:
    """Where in the times, which increase, those are that are nearest to the wanted ones."""
    if len(times) == 1:
        return np.zeros(len(wanted), dtype=np.intp)
    above = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(times[above] - wanted < wanted - times[above - 1], above, above - 1)


def within_run(t: float, start: float, end: float) -> float:
    """A time of a run from `start` to `end`; what is outside by no more than rounding is the start or the end.

    Raises
    ------
    ValueError
        If it is further outside.
    """
    for bound in (start, end):
        if same_time(t, bound, end):
            return bound
    if not start < t < end:
        raise ValueError(f"t = {t:g} is outside the run, [{start:g}, {end:g}]")
    return float(t)


def save_index(times: NDArray[np.float64], t: float | None, entry: str) -> int:
    """The position of save time `t` (the last one for None) in a result of `entry`.

    Raises
    ------
    ValueError
        If `t` is no save time.
    """
    if t is None:
        return len(times) - 1
    require(t=(t, NUMBER))
    i = int(np.argmin(np.abs(times - t)))
    if abs(times[i] - t) > 1e-9 * max(1.0, abs(t)):
        raise ValueError(f"t = {t:g} is no save time; the nearest is {times[i]:g} (pass save= to {entry})")
    return i


@contextlib.contextmanager
def thread_limit(threads: int | None, cells: int) -> Iterator[None]:
    """The threads of sweeps and products; BLAS has one, see `mfpde.threads.one_blas_thread`."""
    if threads is None:
        threads = 1 if cells < THREADED_SIZE else (os.cpu_count() or 1)
    if not whole(threads) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be a whole number from 1 to {MOST_THREADS}, not {shown(threads)}")
    with at_most(threads), one_blas_thread():
        yield


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
    needed = min(8 * count * arrays, 2**900)
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
    """Ctrl-C or SIGTERM ends the run after the current step, so that nothing is half recorded; a second one at once.

    A signal that a host of Python's has kept to itself stays with the host.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    before: dict[int, Any] = {}

    def note(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            # what a host has set in C (R, Julia, MPI) could not be put back
            if signal.getsignal(number) is None:
                continue
            with contextlib.suppress(ValueError):  # in an interpreter within another
                before[number] = signal.signal(number, note)
        yield lambda: asked
    finally:
        restore()


def _is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal, if there is one at all, and if it is open."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):
        return False


def shows_progress(wanted: bool | None) -> bool:
    """Whether there is a bar on standard error: if it is `wanted`, by default on a terminal, and never on nothing."""
    if wanted is None:
        return _is_terminal(sys.stderr)
    return wanted and sys.stderr is not None


class _Unfailing:
    """Standard error, which may be full, closed or read by nobody: what cannot be written is not."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return _is_terminal(self._stream)

    def write(self, text: str) -> int:
        with contextlib.suppress(Exception):  # whatever a host has put in its place may raise
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self._stream.flush()


@contextlib.contextmanager
def drawn_bar(
    wanted: bool | None, name: str, total: float, text: str = "", **fields: float | str
) -> Iterator[Callable[..., None]]:
    """A bar on standard error that ends no run: where it cannot be drawn, it is not.

    Parameters
    ----------
    wanted : bool or None
        See `shows_progress`.
    name : str
        What stands before it.
    total : float
        Where it ends.
    text : str, optional
        What stands after it, a format of ``task.fields``.
    **fields : float or str
        Their values at the start.

    Yields
    ------
    callable
        It takes what changes: ``completed``, ``advance``, and fields.
    """
    if not shows_progress(wanted):
        yield lambda **changes: None
        return
    bar: Progress | None = None

    def change(**changes: Any) -> None:
        if bar is not None:
            with contextlib.suppress(Exception):
                bar.update(bar.task_ids[0], **changes)

    with contextlib.suppress(Exception):
        bar = _made_bar(name, total, text, fields)
        bar.start()
    try:
        yield change
    finally:
        if bar is not None:
            with contextlib.suppress(Exception):
                bar.stop()


def _made_bar(name: str, total: float, text: str, fields: dict[str, Any]) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

    before = ("{task.description}", BarColumn(), TaskProgressColumn())
    after = (TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(file=cast("IO[str]", _Unfailing()))
    # what is printed meanwhile goes above the bar, unless it goes elsewhere
    bar = Progress(*before, text, *after, console=console, redirect_stdout=_is_terminal(sys.stdout))
    bar.add_task(name, total=total, **fields)
    return bar


@contextlib.contextmanager
def progress_bar(
    wanted: bool | None, name: str, start: float, t_end: float
) -> Iterator[Callable[[float, float], None]]:
    """A bar with time, energy and the time left on standard error; by default only on a terminal."""
    text = "t = {task.fields[t]:.4g}  E = {task.fields[energy]:.6g}"
    with drawn_bar(wanted, name, t_end - start, text, t=start, energy=math.nan) as change:
        yield lambda t, energy: change(completed=t - start, t=t, energy=energy)


@contextlib.contextmanager
def budget_bar(
    progress: bool | Callable[[str], None] | None, name: str, budget: float
) -> Iterator[Callable[[str], None]]:
    """Tell what is being done, on a bar of the seconds that may be spent, or as a function wants it."""
    if callable(progress):
        yield progress
        return
    began = time.perf_counter()
    with drawn_bar(progress, name, budget, "{task.fields[doing]}", doing="") as change:
        yield lambda text: change(completed=min(time.perf_counter() - began, budget), doing=text)
