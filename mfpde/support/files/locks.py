"""One writer a file: who is second is refused, with the name of the first, before anything is computed.

The lock of ``run.h5`` is ``.run.h5.lock`` beside it, locked by the kernel (``flock``), so that it ends with the process
that holds it, however that ends. In it stand the process, its host and the time. It is removed at the end; one that a
kill has left is taken and removed by the next writer.

Where the file system has no locks, or the system none of this kind (Windows), the file itself is the lock: it is made
exclusively, and a thread touches it every `BEAT` seconds. It is stale when its process is known to be gone, or when it
has not been touched for `STALE` seconds by the clock of the file system, which is asked by making a file there: clocks
of two hosts need not agree.

The library ``filelock`` would not do: its refusal names no process, its lock on POSIX stays behind, and its soft lock
for the other file systems does not notice a holder on another host that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, NoReturn

from mfpde.support.files.beside import lock_of, remove_temporaries, temporary_of
from mfpde.support.files.hdf5 import check_target, reporting
from mfpde.support.words import one_line

__all__ = ["held"]

BEAT = 10.0
"""Seconds after which the holder of a lock that the kernel does not keep touches it."""
STALE = 60.0
"""Seconds without a touch after which such a lock is nobody's."""
SETTLE = 1.0
"""Seconds after which who has taken over a stale lock looks whether somebody else has done so at the same time."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
"""What a file system without locks says; the last where it locks only what may be written, and this may not."""
_ATTEMPTS = 100
_ENDED = -1


@contextlib.contextmanager
def held(path: str | os.PathLike[str], *, again: bool = False) -> Iterator[None]:
    """Let nobody else write a file as long as the block lasts, and remove what killed writers have left beside it.

    Parameters
    ----------
    path : path
        The file, which need not be there.
    again : bool
        Whether this thread may hold it already; otherwise it is refused like any other.

    Raises
    ------
    BlockingIOError
        If somebody else holds it: the message names the process, its host, since when, and the remedy.
    OSError
        If there can be no such file, or no lock beside it.
    """
    target = check_target(path, overwrite=True)
    place = lock_of(target)
    own = _held.get(place)
    if again and own is not None and own.thread == threading.get_ident():
        yield
        return
    lock = _Lock(path, target, place)
    lock.acquire()
    try:
        remove_temporaries(target)
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Holder:
    """What stands in a lock.

    Attributes
    ----------
    pid : int
    host : str
    since : str
        When it was taken.
    beats : bool
        Whether it is touched: the kernel does not keep it.
    started : int or None
        When the process began, in the system's own count, where that is known: numbers of processes are used again.
    space : str
        Among which processes its number is one, where that is known: a container has its own.
    token : str
        What tells it from every other.
    """

    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=platform.node)
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    beats: bool = False
    started: int | None = field(default_factory=lambda: _started(os.getpid()))
    space: str = field(default_factory=lambda: _space())
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def read(cls, file: IO[bytes]) -> _Holder | None:
        """The holder that a lock names; None where it names none, or none yet."""
        try:
            file.seek(0)
            said = json.loads(file.read(4096))
            found = cls(**said)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = all(isinstance(text, str) for text in (found.host, found.since, found.space, found.token))
        number = type(found.pid) is int and 0 < found.pid < 2**31 and isinstance(found.started, (int, type(None)))
        return found if texts and number else None

    def lives(self) -> bool | None:
        """Whether the process is there; None where that cannot be known from here."""
        # elsewhere a signal of 0 would end it
        if os.name != "posix" or (self.host, self.space) != (platform.node(), _space()):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it belongs to somebody else
            pass
        now = _started(self.pid)
        return now != _ENDED and (now is None or self.started in (None, now))


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the system did; `_ENDED` if it has ended, None where that is not told."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
        return _ENDED if words[0] in (b"Z", b"X") else int(words[19])
    except (OSError, ValueError, IndexError):
        return None


def _space() -> str:
    """What tells the numbers of processes of one container from those of another; empty where that is not told."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


class _Lock:
    """The lock of one file, held or about to be."""

    def __init__(self, path: str | os.PathLike[str], target: Path, place: Path) -> None:
        self.path, self.target, self.place = path, target, place
        self.thread = threading.get_ident()
        self.me = _Holder()
        self.released = threading.Event()
        self.file: IO[bytes] | None = None
        """The file that the kernel has locked, as long as it is open."""

    # ----- taking it

    def acquire(self) -> None:
        """Take the lock, or say who has it."""
        try:
            with reporting(self.path):
                for _ in range(_ATTEMPTS):
                    if self._taken():
                        _held[self.place] = self
                        return
        except BaseException:
            self._close()
            raise
        raise OSError(f"cannot write {self.path}: its lock {self.place} changes all the time")

    def _taken(self) -> bool:
        """One attempt, which fails where the lock is removed meanwhile."""
        file, new = self._opened()
        if file is None:
            return False
        _open.add(file)
        self.file = file
        locked = _locked(file)
        if locked is False:
            self._refuse(self._named(file))
        if locked and not self._is_here(file):
            self._close()
            return False
        if not new:
            before = _Holder.read(file)
            # one that the kernel could have kept, and does not, is nobody's
            if (locked is None or (before is not None and before.beats)) and not self._is_stale(file, before):
                self._refuse(before)
        if locked:
            with contextlib.suppress(OSError):  # on a full disk, or in a file of somebody else: it holds all the same
                self._write(file)
            return True
        self.me = _Holder(beats=True)
        if new:
            self._write(file)
            self._close()
        else:
            self._close()
            self._take_over()
        threading.Thread(target=self._beat, name="mfpde lock", daemon=True).start()
        return True

    def _opened(self) -> tuple[IO[bytes] | None, bool]:
        """The file of the lock, and whether it was made now; no file where it is gone by then."""
        # a link beside the file leads nowhere, and what is no file keeps nobody waiting
        plain = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with contextlib.suppress(FileExistsError):
            return _as_file(os.open(self.place, os.O_RDWR | os.O_CREAT | os.O_EXCL | plain, 0o666), "rb+"), True
        try:
            try:
                file = _as_file(os.open(self.place, os.O_RDWR | plain), "rb+")
            except PermissionError:  # of somebody else
                file = _as_file(os.open(self.place, os.O_RDONLY | plain), "rb")
        except FileNotFoundError:
            return None, False
        except OSError as error:
            self._is_no_lock(error.strerror or one_line(error))
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            self._is_no_lock("it is not a regular file")
        return file, False

    def _is_no_lock(self, why: str) -> NoReturn:
        raise OSError(f"cannot write {self.path}: {self.place} is no lock of mfpde: {why}; remove it")

    def _is_here(self, file: IO[bytes]) -> bool:
        """Whether an open file is the one that has the lock's name."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.lstat(self.place))
        except OSError:
            return False

    def _named(self, file: IO[bytes]) -> _Holder | None:
        """Who has a lock that the kernel keeps; it may only just have been taken, and not yet say so."""
        for _ in range(20):
            if (holder := _Holder.read(file)) is not None:
                return holder
            time.sleep(0.005)
        return None

    def _refuse(self, holder: _Holder | None) -> NoReturn:
        remedy = "wait until it has ended, or give another name"
        if holder is None:
            who = "another process is writing it"
        elif holder.pid == os.getpid() and holder.host == self.me.host:
            who = f"this process, {holder.pid}, has been writing it since {holder.since}"
        else:
            who = f"process {holder.pid} on host {holder.host} has been writing it since {holder.since}"
            remedy = "wait until it has ended, stop it, or give another name"
        if holder is not None and holder.beats and holder.lives() is None:
            remedy += f" (if it is gone, its lock is stale after {STALE:g} s)"
        raise BlockingIOError(one_line(f"cannot write {self.path}: {who}; {remedy}"))

    def _is_stale(self, file: IO[bytes], holder: _Holder | None) -> bool:
        """Whether a lock that the kernel does not keep is nobody's."""
        if holder is not None:
            alive = holder.lives()
            if alive is not None:
                return not alive
            if not holder.beats:  # kept by a kernel elsewhere
                return False
        return self._now() - os.fstat(file.fileno()).st_mtime > STALE

    def _now(self) -> float:
        """The time by the clock that says when the lock was touched."""
        probe = temporary_of(self.target)
        number = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return os.fstat(number).st_mtime
        finally:
            os.close(number)
            probe.unlink(missing_ok=True)

    def _take_over(self) -> None:
        """Put this lock in the place of a stale one; of several that do so at the same time the last has it."""
        mine = temporary_of(self.target)
        try:
            with open(mine, "xb") as file:
                self._write(file)
            os.replace(mine, self.place)
        finally:
            mine.unlink(missing_ok=True)
        time.sleep(SETTLE)
        if (now := self._named_there()) is None or now.token != self.me.token:
            self._refuse(now)

    def _write(self, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        file.write(json.dumps(asdict(self.me)).encode())
        file.flush()

    def _named_there(self) -> _Holder | None:
        """Who stands in the lock now."""
        try:
            with open(self.place, "rb") as file:
                return _Holder.read(file)
        except OSError:
            return None

    # ----- having it

    def _is_mine(self) -> bool:
        now = self._named_there()
        return now is not None and now.token == self.me.token

    def _beat(self) -> None:
        """Touch the lock as long as it is held."""
        while not self.released.wait(BEAT):
            with contextlib.suppress(OSError):
                if not self._is_mine():  # it was stale by then: the process was stopped, or the network down
                    return
                os.utime(self.place)

    def release(self) -> None:
        """Let go of the lock and remove it. A forked child has nothing to let go of."""
        if self.me.pid != os.getpid():
            return
        _held.pop(self.place, None)
        self.released.set()
        if self._is_mine() if self.file is None else self._is_here(self.file):
            with contextlib.suppress(OSError):
                self.place.unlink()
        self._close()

    def _close(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            _open.discard(file)
            file.close()


def _as_file(number: int, mode: str) -> IO[bytes]:
    return open(number, mode, buffering=0)


def _locked(file: IO[bytes]) -> bool | None:
    """Whether the kernel has locked a file for this process; None where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


_held: dict[Path, _Lock] = {}
"""The locks of this process."""
_open: set[IO[bytes]] = set()
"""Their files, and those of locks that are about to be taken."""


def _forget() -> None:
    """In a forked child: the locks are its parent's, and must not outlive that in here."""
    for file in _open:
        file.close()
    _open.clear()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
