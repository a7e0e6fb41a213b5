"""Shares of compiled work on the threads of this process."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arguments import shown, whole
from mfpde.support.session import MOST_THREADS

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["THREADED_SIZE", "Turns", "at_most", "available", "in_shares", "one_blas_thread", "product", "thread_limit"]

THREADED_SIZE = 100_000
"""Cells from which threads are used: below, waking one costs more than it saves."""

_PIECES = 16
"""Pieces of a product, whatever the number of threads: the bits do not depend on it."""

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
    """Use no more threads than that, in this thread; within another such block no more than that one says, either."""
    outer = _limit.get()
    token = _limit.set(threads if outer is None else min(outer, threads))
    try:
        yield
    finally:
        _limit.reset(token)


class _Limited:
    """BLAS whose threads belong to the process: one thread from when the first run comes until the last one leaves.

    Limits of its own for each of several runs at a time, in as many threads, would leave the wrong number behind: the
    last to leave restores the limit that it found, which is that of another run.
    """

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0
        self._before: dict[str, tuple[Any, int]] = {}
        if hasattr(os, "register_at_fork"):  # another thread may have held it
            os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()

    def enter(self, libraries: Sequence[Any]) -> None:
        with self._lock:
            self._count += 1
            for library in libraries:  # one may have come since the first run: SciPy brings its own
                if library.filepath not in self._before:
                    self._before[library.filepath] = library, library.num_threads
                    _set_threads(library, 1)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                for library, number in self._before.values():
                    _set_threads(library, number)
                self._before.clear()


def _set_threads(library: Any, number: int) -> None:
    if library.num_threads == number:
        return
    # since 3.8 threadpoolctl ignores all threads but the first that has set a number, until that is done: the run that
    # restores the number need not be the one that set it
    release = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(number)
    if release is not None:
        release(force=True)


@functools.cache
def _blas(scipy: bool) -> tuple[list[Any], list[Any]]:
    """The BLAS of this process, and that of each thread; looked for before and after SciPy brings its own.

    That takes milliseconds.
    """
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [library for library in libraries if getattr(library, "threading_layer", "") == "openmp"]
    return [library for library in libraries if library not in own], own


_limited = _Limited()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it BLAS has one thread, in all of this process; see `product` for why, and how products are shared.

    It may be entered again, and in several threads at a time: the last to leave restores the number that there was.
    """
    shared, own = _blas("scipy.linalg" in sys.modules)
    before = [library.num_threads for library in own]
    _limited.enter(shared)
    try:
        for library in own:
            library.set_num_threads(1)
        yield
    finally:
        _limited.leave()
        for library, number in zip(own, before, strict=True):
            library.set_num_threads(number)


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


class Turns:
    """Threads take turns: within ``with turns`` is one of them at a time, which may enter again.

    What keeps arrays to work on, a solver or an energy on a mesh, has one of these, so that two threads that share it
    give what each of them would give alone. A forked child, a copy and what comes out of a pickle have one of their
    own: the turn of a thread that is not there would never end.
    """

    def __init__(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


def _cut(length: int) -> list[slice]:
    """A range in `_PIECES`, or in as many as it has entries."""
    pieces = min(length, _PIECES)
    return [slice(length * i // pieces, length * (i + 1) // pieces) for i in range(pieces)]


def product(a: NDArray[Any], b: NDArray[Any], cells: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """``a @ b`` of a mesh of so many `cells`, on the threads of this process rather than those of BLAS.

    Threads of BLAS wait for the next product in a busy loop, at the cost of the sweeps in between: a step takes a
    third to a half longer.

    Parameters
    ----------
    a : (n, k), (k,) or (j, n, k) array
        With three axes, or two where `b` has three, the product is taken for each `j`.
    b : (k, m), (k,) or (j, k, m) array
        Likewise.
    cells : int
        Below `THREADED_SIZE` there is one product.
    out : array, optional
        Where to write.

    Returns
    -------
    array
        `out`, or a new one.
    """
    if cells < THREADED_SIZE:
        return np.matmul(a, b, out=out)
    k = a.shape[-1]
    if a.ndim < 3 and b.ndim < 3:
        n, m = (1 if a.ndim == 1 else len(a)), (1 if b.ndim == 1 else b.shape[1])
        if k >= _PIECES * max(n, m):  # sums over cells
            blocks = _cut(k)

            def add(first: int, last: int) -> list[NDArray[Any]]:
                return [np.matmul(a[..., piece], b[piece]) for piece in blocks[first:last]]

            return np.sum([part for share in in_shares(add, _PIECES, cells) for part in share], axis=0, out=out)
    if out is None:
        rows = a.shape[:-1] if a.ndim >= b.ndim else (*b.shape[:-2], *a.shape[-2:-1])
        out = np.empty(rows + (b.shape[-1:] if b.ndim > 1 else ()))
    by_column = a.ndim < 3 and b.ndim == 2 and (a.ndim == 1 or b.shape[1] > len(a))
    pieces, target = _cut(b.shape[1] if by_column else len(out)), out

    def multiply(first: int, last: int) -> None:
        for piece in pieces[first:last]:
            if by_column:
                np.matmul(a, b[:, piece], out=target[..., piece])
            elif b.ndim == 3:
                np.matmul(a[piece] if a.ndim == 3 else a, b[piece], out=target[piece])
            else:
                np.matmul(a[piece], b, out=target[piece])

    in_shares(multiply, len(pieces), cells)
    return out


@contextlib.contextmanager
def thread_limit(threads: int | None, cells: int) -> Iterator[None]:
    """The threads of sweeps and products; BLAS has one, see `mfpde.support.threads.one_blas_thread`."""
    if threads is None:
        threads = 1 if cells < THREADED_SIZE else (os.cpu_count() or 1)
    if not whole(threads) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be a whole number from 1 to {MOST_THREADS}, not {shown(threads)}")
    with at_most(threads), one_blas_thread():
        yield
