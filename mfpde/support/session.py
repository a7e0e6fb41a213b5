"""What every integrator needs around its loop: save times, threads, interruption, a progress bar."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any, cast

from mfpde.support.words import one_line, printable

if TYPE_CHECKING:
    from rich.progress import Progress


__all__ = [
    "MOST_THREADS",
    "RunWarning",
    "budget_bar",
    "drawn_bar",
    "interruptible",
    "progress_bar",
    "quiet",
    "shows_progress",
    "warn",
]


MOST_THREADS = 4096


class RunWarning(UserWarning):
    """Something in a run that wants looking at.

    Where warnings are errors, ``solution`` holds what `mfpde.solve` or `mfpde.resume` had computed.
    """

    solution: Any = None


_quiet: ContextVar[tuple[type[Warning], ...]] = ContextVar("quiet", default=())


def warn(text: str, stacklevel: int = 2, category: type[Warning] = RunWarning) -> None:
    """Warn of something in a run, unless it is `quiet`; it does no harm where standard error is closed."""
    if issubclass(category, _quiet.get()):
        return
    with contextlib.suppress(OSError, ValueError):
        warnings.warn(printable(text), category, stacklevel=stacklevel)


@contextlib.contextmanager
def quiet(category: type[Warning] = Warning) -> Iterator[None]:
    """Within it, in this thread, what the package itself warns of is not said, by default nothing of it.

    Filters of warnings are the whole process's: two threads that change them and put them back, one within the other's
    time, leave those of one of them behind.
    """
    token = _quiet.set((*_quiet.get(), category))
    try:
        yield
    finally:
        _quiet.reset(token)


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
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

    before = ("{task.description}", BarColumn(), TaskProgressColumn())
    after = (TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(file=cast("IO[str]", _Unfailing()))
    # what is printed meanwhile goes above the bar, unless it goes elsewhere
    bar = Progress(*before, text, *after, console=console, redirect_stdout=_is_terminal(sys.stdout))
    # square brackets are no markup, and a name that a file has does nothing to the terminal
    bar.add_task(escape(one_line(name)), total=total, **fields)
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
