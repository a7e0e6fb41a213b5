"""Shares of compiled work on the threads of this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["THREADED_SIZE", "in_shares"]

THREADED_SIZE = 100_000
"""Cells from which threads are used: below, waking one costs more than it saves."""

T = TypeVar("T")

_pools: dict[tuple[int, int], Executor] = {}


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
        Default: ``numba.get_num_threads()``.

    Returns
    -------
    list
        The results, in the order of the shares. The calling thread does the first share.
    """
    if size < THREADED_SIZE or pieces == 1:
        return [task(0, pieces)]
    if threads is None:
        from numba import get_num_threads

        threads = get_num_threads()
    parts = min(threads, pieces)
    if parts == 1:
        return [task(0, pieces)]
    shares = [(pieces * k // parts, pieces * (k + 1) // parts) for k in range(parts)]
    pool = _pool(parts - 1)
    pending = [pool.submit(task, *share) for share in shares[1:]]
    return [task(*shares[0]), *(future.result() for future in pending)]
