"""Work by executors of `concurrent.futures`: the standard pools, and those of loky, dask and mpi4py."""

from __future__ import annotations

import contextlib
import math
import pickle
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import Any, TypeVar

from mfpde.support.arguments import shown
from mfpde.support.threads import at_most, one_blas_thread
from mfpde.support.travel import Portable
from mfpde.support.words import one_line

__all__ = ["HEAD_START", "Bounded", "BrokenPool", "broken_pool", "check_executor", "each", "workers_of"]

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

    def __init__(self, text: str, worked: bool = False) -> None:
        super().__init__(text)
        self.worked = worked
        self.under_way: list[Any] = []


def check_executor(executor: Any) -> None:
    """Refuse what takes no work.

    Raises
    ------
    ValueError
        With what it is instead.
    """
    if callable(getattr(executor, "get_executor", None)):  # its futures are no futures of `concurrent.futures`
        raise ValueError(f"{shown(executor)} is a client and no executor: give executor=client.get_executor()")
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
        Called at least once a second, as long as there are tasks; not while the first one has its head start.

    Yields
    ------
    task, result

    Raises
    ------
    BrokenPool
        If the executor breaks: with the tasks that were under way.
    """
    ahead, bounded = iter(tasks), Bounded(function, threads)
    under_way: dict[Future[Any], T] = {}
    lost: list[T] = []
    asked, room, patience, worked = -math.inf, 1, HEAD_START, False
    failure: Exception | None = None

    def submit() -> bool:
        for task in ahead:
            lost.append(task)
            under_way[executor.submit(bounded, task)] = task
            lost.clear()
            return True
        return False

    try:
        try:
            _answers(executor)
            worked = True
        except Exception as error:
            failure = error
        while failure is None:
            try:
                while len(under_way) < room and submit():
                    pass
            except Exception as error:
                failure, patience = error, 0.0
            if not under_way and failure is None:
                return
            for future in wait(under_way, timeout=patience, return_when=FIRST_COMPLETED).done:
                try:
                    result = future.result()
                except Exception as error:
                    failure = failure or error
                    continue
                yield under_way.pop(future), result
            if look is not None:
                look()
            if time.monotonic() - asked > 1.0:
                room, asked, patience = most or AHEAD * workers_of(executor), time.monotonic(), LOOK
        if (broken := broken_pool(failure, what, worked)) is None:
            raise failure
        broken.under_way = [*under_way.values(), *lost]
        raise broken from None
    finally:
        for future in under_way:
            future.cancel()


def broken_pool(error: BaseException, what: str, worked: bool = True) -> BrokenPool | None:
    """The error of a pool by its name; None where an exception is one of the work."""
    own = isinstance(error, (BrokenExecutor, CancelledError, _Closed))
    if not own and not type(error).__module__.startswith("distributed."):
        return None
    why = "a worker ended, or ran out of memory" if worked else "no worker of it answers"
    return BrokenPool(f"the pool of {what} broke ({one_line(error) or type(error).__name__}): {why}", worked)


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


class Bounded(Portable):
    """A function in a worker, with a bound for the threads that it uses.

    Parameters
    ----------
    function : callable
    threads : int
        Of compiled code; BLAS has one.
    """

    def __init__(self, function: Callable[..., Any], threads: int = 1) -> None:
        self.function, self.threads = function, threads
        # dask takes two tasks that look alike for one, and what has become of the first for the other's result
        self.token = secrets.token_hex(8)

    def __call__(self, *arguments: Any) -> Any:
        """What the function gives."""
        with at_most(self.threads), one_blas_thread():
            try:
                return self.function(*arguments)
            except Exception as error:
                if _travels(error):
                    raise
                # a pool would break where it cannot be unpickled
                raise RuntimeError(f"{type(error).__name__}: {one_line(error)}") from None


def _travels(error: Exception) -> bool:
    """Whether an exception pickles, and comes out again."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False
