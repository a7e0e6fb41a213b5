"""Work by executors of `concurrent.futures`: the standard pools, and those of loky, dask and mpi4py."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import Any, TypeVar

from mfpde.support.arguments import shown
from mfpde.support.threads import at_most, one_blas_thread
from mfpde.support.travel import Portable
from mfpde.support.words import one_line

__all__ = ["BrokenPool", "check_executor", "each", "workers_of"]

AHEAD = 2
"""Tasks for each worker that are under way or wait."""
UNKNOWN = 4
"""Workers of an executor that does not say how many it has."""
HEAD_START = 30.0
"""Seconds, at most, that the first task has for itself: it leaves compiled code in its cache for the others."""
LOOK = 0.5
"""Seconds after which `each` lets somebody else look, although nothing has come."""

T = TypeVar("T")


class BrokenPool(RuntimeError):
    """A pool whose workers have ended, or that takes no work.

    Attributes
    ----------
    worked : bool
        Whether a worker has answered before: another pool of the same kind may then get further.
    under_way : list
        The tasks that were, or waited, when it broke.
    """

    worked: bool = False
    under_way: list[Any]

    def __init__(self, text: str, worked: bool = False, under_way: Iterable[Any] = ()) -> None:
        super().__init__(text)
        self.worked, self.under_way = worked, list(under_way)


def check_executor(executor: Any) -> None:
    """Refuse what takes no work.

    Raises
    ------
    ValueError
        With what it is instead.
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor must be one of concurrent.futures or like these, not {shown(executor)}")


def workers_of(executor: Any) -> int:
    """How many tasks an executor works on at a time, as far as it says; dask's workers come and go."""
    if (threads := getattr(getattr(executor, "_client", None), "nthreads", None)) is not None:
        with contextlib.suppress(Exception):
            return max(1, sum(threads().values()))
    for name in ("_max_workers", "num_workers", "n_workers"):
        value = getattr(executor, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return UNKNOWN


def each(
    executor: Executor,
    function: Callable[[T], Any],
    tasks: Iterable[T],
    what: str,
    *,
    threads: int = 1,
    most: int | None = None,
    look: Callable[[], None] | None = None,
) -> Iterator[tuple[T, Any]]:
    """``function(task)`` for each of some tasks, by an executor, in the order in which they end.

    Parameters
    ----------
    executor : Executor
        It stays open.
    function : callable
        It is pickled, and what it raises is raised here.
    tasks : iterable
        They are asked for one by one, when there is a worker for them.
    what : str
        What they are part of, for messages.
    threads : int
        Threads of compiled code in a task; BLAS has one.
    most : int, optional
        Tasks under way at a time. Default: two for each worker.
    look : callable, optional
        Called at least once a second, as long as there are tasks.

    Yields
    ------
    task, result

    Raises
    ------
    BrokenPool
        If the executor breaks: with the tasks that were under way.
    """
    ahead, bounded = iter(tasks), _Bounded(function, threads)
    under_way: dict[Future[Any], T] = {}
    lost: list[T] = []
    asked, room, worked = -math.inf, 1, False

    def submit() -> bool:
        for task in ahead:
            lost.append(task)
            under_way[executor.submit(bounded, task)] = task
            lost.clear()
            return True
        return False

    try:
        _answers(executor)
        worked = True
        if submit():
            wait(under_way, timeout=HEAD_START)
        while True:
            if time.monotonic() - asked > 1.0:
                room, asked = most or AHEAD * workers_of(executor), time.monotonic()
            while len(under_way) < room and submit():
                pass
            if not under_way:
                return
            for future in wait(under_way, timeout=LOOK, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield under_way.pop(future), result
            if look is not None:
                look()
    except Exception as error:
        if not _of_the_pool(error):
            raise
        why = "a worker ended, or ran out of memory" if worked else "no worker of it answers"
        raise BrokenPool(
            f"the pool of {what} broke ({one_line(error) or type(error).__name__}): {why}",
            worked, [*under_way.values(), *lost],
        ) from None  # fmt: skip
    finally:
        for future in under_way:
            future.cancel()


def _of_the_pool(error: BaseException) -> bool:
    """Whether an exception is one of the executor's and not of the work."""
    return isinstance(error, (BrokenExecutor, CancelledError, _Closed)) or type(error).__module__.startswith(
        "distributed."
    )


class _Closed(Exception):
    """An executor that takes no work."""


def _answers(executor: Executor) -> None:
    """Wait for the first worker, which has imported this module then."""
    try:
        future = executor.submit(_here)
    except RuntimeError as error:  # shut down
        raise _Closed(one_line(error)) from None
    future.result()


def _here() -> None:
    """What a worker does that has come."""


class _Bounded(Portable):
    """A function with a bound for the threads that it uses."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        self.function, self.threads = function, threads

    def __call__(self, task: Any) -> Any:
        with at_most(self.threads), one_blas_thread():
            return self.function(task)
