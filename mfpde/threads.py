"""Shares of compiled work on the threads of this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["THREADED_SIZE", "at_most", "available", "in_shares"]

THREADED_SIZE = 100_000
"""Cells from which threads are used: below, waking one costs more than it saves."""

T = TypeVar("T")

_pools: dict[tuple[int, int], Executor] = {}
_limit: ContextVar[int | None] = ContextVar("threads", default=None)


def available() -> int:
    """How many threads are used: what `at_most` says, or numba's ``NUMBA_NUM_THREADS`` (by default all cores).

    Not ``numba.get_num_threads()``: that takes a lock which forked processes share, and one that is killed while it
    holds the lock stops all others for ever.
    """
    from numba import config

    limit, most = _limit.get(), int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return most if limit is None else min(limit, most)


@contextlib.contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Use no more threads than that, in this thread."""
    token = _limit.set(threads)
    try:
        yield
    finally:
        _limit.reset(token)


def _pool(workers: int) -> Executor:
    """Worker threads of this process; a forked child makes its own."""
    key = (os.getpid(), workers)
    if key not in _pools:
        from concurrent.futures import ThreadPoolExecutor

        _pools[key] = ThreadPoolExecutor(workers, thread_name_prefix="mfpde")
    return _pools[key]


def in_shares(task: Callable[[int, int], T], pieces: int, size: int, threads: int | None = None) -> list[T]:
    """``task(start, stop)`` on all of ``range(pieces)``, in one contiguous share a thread.

    Parameters
    ----------
    task : callable
        Compiled code that releases the interpreter's lock. Shares must not depend on each other.
    pieces : int
        What is shared out.
    size : int
        Cells worked on in all; below `THREADED_SIZE` the caller does everything.
    threads : int, optional
        Default: `available`.

    Returns
    -------
    list
        The results, in the order of the shares. The calling thread does the first share.
    """
    if size < THREADED_SIZE or pieces == 1:
        return [task(0, pieces)]
    parts = min(available() if threads is None else threads, pieces)
    if parts == 1:
        return [task(0, pieces)]
    shares = [(pieces * k // parts, pieces * (k + 1) // parts) for k in range(parts)]
    pool = _pool(parts - 1)
    pending = [pool.submit(task, *share) for share in shares[1:]]
    return [task(*shares[0]), *(future.result() for future in pending)]
