"""One writer a file: locks of the kernel, what stands in for them, and what is left beside a file after a kill."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest
from shared import ROOT, printed_by

from mfpde.support.files import beside, locks
from mfpde.support.files.hdf5 import check_target, replacing
from mfpde.support.files.locks import held

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals and fork")
HOLDS = """
import sys
from mfpde.support.files.locks import held
with held(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(path):
    """A process that holds the lock of a file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=pipe, stdout=pipe, env=environment
    ) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def refused(path, *texts: str, **options) -> None:
    with pytest.raises(BlockingIOError) as caught, held(path, **options):
        raise AssertionError("two writers")
    assert "\n" not in str(caught.value)
    for text in (f"cannot write {path}: ", *texts):
        assert text in str(caught.value)


def free(path) -> None:
    """The lock can be taken, and leaves nothing."""
    with held(path):
        assert beside.lock_of(path).exists()
    assert not beside.lock_of(path).exists()


# ----- locks of the kernel


def test_who_is_second_is_refused_with_the_name_of_the_first(path):
    with another_process(path) as process:
        remedy = "; wait until it has ended, stop it, or give another name"
        refused(path, f"process {process.pid} on host {platform.node()} has been writing it since 20", remedy)
        process.communicate()
        free(path)


@POSIX
def test_a_lock_ends_with_its_process(path):
    with another_process(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert os.listdir(path.parent) == [".run.h5.lock"]
        free(path)
    assert os.listdir(path.parent) == []


@POSIX
def test_a_process_that_is_stopped_keeps_its_lock(path):
    with another_process(path) as process:
        process.send_signal(signal.SIGSTOP)
        refused(path, f"process {process.pid} ")


def test_threads_exclude_each_other_and_again_is_for_the_same_one(path):
    found = []

    def second(again: bool) -> None:
        with contextlib.suppress(BlockingIOError), held(path, again=again):
            found.append(again)

    with held(path):
        for again in (False, True):
            thread = threading.Thread(target=second, args=[again])
            thread.start()
            thread.join()
        assert found == []
        refused(path, f"this process, {os.getpid()}, has been writing it since", "; wait until it has ended, or give")
        with held(path, again=True):
            pass
        refused(path)  # leaving the inner block lets go of nothing
    free(path)


FORKED = """
import os, sys, time
from mfpde.support.files.locks import held
path = sys.argv[1]
reads, writes = os.pipe()
with held(path):
    if not os.fork():
        os.close(writes)
        try:
            with held(path, again=True):
                print("the child has it", flush=True)
        except BlockingIOError:
            print("refused", flush=True)
        os.read(reads, 1)  # as long as the parent lives
        os._exit(0)
    if not os.fork():
        sys.exit()  # leaves the block in the child
    os.wait()
    try:
        with held(path):
            pass
    except BlockingIOError:
        print("still held", flush=True)
with held(path):
    print("free", flush=True)
"""


@POSIX
def test_forked_children_neither_keep_a_lock_nor_let_go_of_it(path):
    assert sorted(printed_by(FORKED, path).split("\n")) == ["", "free", "refused", "still held"]
    assert os.listdir(path.parent) == []


def test_a_link_and_what_it_leads_to_have_one_lock(path, tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.h5"
    link.symlink_to(path)
    with held(link):
        refused(path)
    free(path)


def test_a_full_disk_does_not_keep_anybody_from_a_lock(path, monkeypatch):
    def full(self, file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(locks._Lock, "_write", full)
    with held(path):
        refused(path, "another process is writing it")
    free(path)


def test_a_lock_that_vanishes_while_it_is_taken_is_taken_anew(path, monkeypatch):
    locked, calls = locks._locked, []

    def vanishing(file):
        calls.append(file)
        if len(calls) == 1:  # whoever had it removes it between the opening and the locking
            beside.lock_of(path).unlink()
        return locked(file)

    monkeypatch.setattr(locks, "_locked", vanishing)
    free(path)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_lock_is_not_touched(path, kind):
    place = beside.lock_of(path)
    other = path.with_name("dear.txt")
    other.write_text("dear")
    make = {"folder": place.mkdir, "link": lambda: place.symlink_to(other), "pipe": lambda: os.mkfifo(place)}
    make[kind]()
    with pytest.raises(
        OSError, match=r"^cannot write .*run\.h5: .*\.run\.h5\.lock is no lock of mfpde: .*; remove it$"
    ):
        free(path)
    assert other.read_text() == "dear"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 80, b"[1]", b'{"pid": -1}', b'{"pid": "1", "host": 2}', b"[" * 4000, b"{}" * 4000]
)
def test_a_lock_with_any_content_is_taken_when_nobody_holds_it(path, content):
    beside.lock_of(path).write_bytes(content)
    free(path)


def test_what_stands_in_a_lock_does_not_reach_the_terminal_as_it_is(path):
    with held(path):
        beside.lock_of(path).write_text(json.dumps(asdict(locks._Holder(host="a\x1b[31m\nb"))))
        with pytest.raises(BlockingIOError) as caught, held(path):
            pass
    assert "\x1b" not in str(caught.value)
    assert r"on host a\x1b[31m b " in str(caught.value)


# ----- where the kernel has none


@pytest.fixture(params=["ENOLCK", "EOPNOTSUPP", "ENOSYS", "no fcntl"])
def no_locks(request, monkeypatch):
    """A file system without locks, or a system without `fcntl`."""
    if request.param == "no fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        return
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*args):
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)


@pytest.fixture
def quick(monkeypatch):
    """Who takes over a stale lock does not wait."""
    monkeypatch.setattr(locks, "SETTLE", 0.0)


def left_by(path, age=0.0, **changes) -> None:
    """A lock of a process that may be gone, touched some seconds ago."""
    holder = locks._Holder(**{"beats": True, **changes})
    place = beside.lock_of(path)
    place.write_text(json.dumps(asdict(holder)))
    now = time.time()
    os.utime(place, (now - age, now - age))


def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_without_locks_the_file_is_one(path, no_locks):
    with held(path):
        refused(path, f"this process, {os.getpid()}, has been")
        with held(path, again=True):
            pass
    free(path)
    assert os.listdir(path.parent) == []


def test_it_is_touched_as_long_as_it_is_held(path, no_locks, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    place = beside.lock_of(path)
    with held(path):
        os.utime(place, (0.0, 0.0))
        while not place.stat().st_mtime:
            time.sleep(0.01)
    assert not place.exists()


@POSIX
def test_one_of_a_process_here_that_is_gone_is_stale_at_once(path, no_locks, quick):
    left_by(path, pid=gone())
    free(path)
    # the number has been given to another process since
    left_by(path, pid=os.getpid(), started=1)
    free(path)
    # one that lives may have been stopped for hours
    left_by(path, age=10_000.0)
    refused(path, f"this process, {os.getpid()}")


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"space": "of a container"}])
def test_one_of_another_host_is_stale_when_it_has_not_been_touched(path, no_locks, quick, changes):
    left_by(path, age=locks.STALE - 10.0, pid=gone(), **changes)
    refused(path, "(if it is gone, its lock is stale after 60 s)")
    left_by(path, age=locks.STALE + 10.0, **changes)
    free(path)
    assert os.listdir(path.parent) == []


def test_the_clock_that_counts_is_that_of_the_file_system(path, no_locks, quick, monkeypatch):
    """A host whose clock is an hour ahead, or behind, sees what all see: times of files are the server's."""
    left_by(path, age=locks.STALE - 10.0, host="elsewhere")
    now = time.time()
    for off in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda off=off: now + off)
        refused(path, "on host elsewhere")


def test_one_that_is_only_just_made_is_not_stale(path, no_locks, quick):
    place = beside.lock_of(path)
    place.write_bytes(b"")
    refused(path, "another process is writing it")
    now = time.time()
    os.utime(place, (now - 2 * locks.STALE, now - 2 * locks.STALE))
    free(path)


def test_of_two_that_take_over_a_stale_lock_the_last_has_it(path, no_locks, monkeypatch):
    left_by(path, age=2 * locks.STALE, host="elsewhere")

    def meanwhile(seconds):
        assert seconds == locks.SETTLE
        left_by(path, host="a third one")

    monkeypatch.setattr(locks.time, "sleep", meanwhile)
    refused(path, "on host a third one")
    assert "a third one" in beside.lock_of(path).read_text()
    assert os.listdir(path.parent) == [".run.h5.lock"]


def test_one_that_was_taken_over_is_left_to_who_has_it(path, no_locks):
    with held(path):
        left_by(path, host="elsewhere")
    assert "elsewhere" in beside.lock_of(path).read_text()


def test_who_has_locks_minds_those_who_have_none(path, quick):
    """Two hosts, of which one locks through the kernel and the other cannot."""
    left_by(path, host="elsewhere")
    refused(path, "on host elsewhere")
    left_by(path, age=2 * locks.STALE, host="elsewhere")
    free(path)
    left_by(path, host="elsewhere", beats=False)  # the kernel would say so if it were held
    free(path)


def test_who_has_no_locks_minds_those_who_have(path, no_locks, quick):
    left_by(path, age=2 * locks.STALE, host="elsewhere", beats=False)
    refused(path, "on host elsewhere")


# ----- names, and what is left behind


NAMES = ["a.h5", "x" * 252 + ".h5", "\N{GRINNING FACE}" * 62 + "abcd.h5", "é" * 126 + ".h5"]


@pytest.mark.parametrize("name", NAMES, ids=["short", "255 bytes", "four bytes each", "two bytes each"])
def test_names_beside_a_file_are_not_too_long(tmp_path, name):
    """File systems allow 255 bytes."""
    assert len(os.fsencode(name)) <= 255
    path = tmp_path / name
    with held(path), replacing(path, path) as temporary:
        assert {entry.name for entry in tmp_path.iterdir()} == {beside.lock_of(path).name, temporary.name}
        temporary.write_text("all")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems take valid UTF-8 only")
@pytest.mark.parametrize("length", [3, 240])
def test_names_of_any_bytes(tmp_path, length):
    path = tmp_path / os.fsdecode(b"\xff" * length + b".h5")
    with held(path):
        refused(path.with_name(path.name))
        with replacing(path, path) as temporary:
            temporary.write_text("all")
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff" * length + b".h5"]


def test_long_names_with_one_beginning_are_told_apart(tmp_path):
    one, other = (tmp_path / ("x" * 240 + end) for end in ("1.h5", "2.h5"))
    assert beside.lock_of(one) != beside.lock_of(other)
    left = beside.temporary_of(other)
    left.write_text("of the other")
    free(one)
    assert left.exists()


def test_what_killed_writers_have_left_is_removed_and_nothing_else(path):
    ours = [path.with_name(f".run.h5.{number}.tmp") for number in ("00000000", "deadbeef")]
    ours.append(path.with_name(".run.h5.0123abcd.tmp.gif"))
    others = [
        ".run.h5.0000.tmp",
        ".run.h50.00000000.tmp",
        ".other.h5.00000000.tmp",
        "run.h5",
    ]
    for file in [*ours, *map(path.with_name, others)]:
        file.write_text("")
    path.with_name(".run.h5.0000000a.tmp").mkdir()
    with another_process(path) as process:
        own = beside.temporary_of(path)
        own.write_text("in use")
        refused(path)  # who has not got the lock removes nothing
        assert own.exists()
        process.communicate()
    with held(path):
        assert not any(file.exists() for file in [own, *ours])
        assert all(path.with_name(name).exists() for name in [*others, ".run.h5.0000000a.tmp"])


# ----- who may read and write what replaces a file


@POSIX
def test_what_replaces_a_file_keeps_its_mode_and_new_files_follow_the_umask(path):
    before = os.umask(0o027)
    try:
        for mode in (None, 0o600, 0o644, 0o664, 0o700):
            if mode is not None:
                path.chmod(mode)
            with replacing(path, path) as temporary:
                temporary.write_text("all")
            assert path.stat().st_mode & 0o777 == (0o640 if mode is None else mode)
    finally:
        os.umask(before)


@POSIX
@pytest.mark.parametrize("may", [True, False])
def test_what_replaces_a_file_keeps_its_owner_and_group_where_that_is_allowed(path, monkeypatch, may):
    path.write_text("")
    path.chmod(0o664)
    real, asked = path.stat(), []
    there = os.stat_result((*real[:4], 12345, 54321, *real[6:]))

    def chown(number, owner, group):
        asked.append((owner, group))
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    stat = type(path).stat
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "stat", lambda self, **how: there if self == path else stat(self, **how))
        if not may:
            patch.setattr(os, "fchown", chown)
        elif os.getuid():
            pytest.skip("only the superuser may give files away")
        with replacing(path, path):
            pass
    found = path.stat()
    if may:
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (12345, 54321, 0o664)
    else:
        # the rights of a group are not those of another one
        assert asked == [(12345, 54321), (-1, 54321)]
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (real.st_uid, real.st_gid, 0o644)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs access control lists as Linux has them")
def test_what_replaces_a_file_keeps_its_access_control_list(path):
    path.write_text("")
    # version 2; owner rw-, user 12345 rw-, group ---, mask rw-, others ---: of tag, rights and number each
    entries = [(1, 6, 2**32 - 1), (2, 6, 12345), (4, 0, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1)]
    parts = [
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + n.to_bytes(4, "little") for tag, rights, n in entries
    ]
    listed = b"\2\0\0\0" + b"".join(parts)
    try:
        os.setxattr(path, "system.posix_acl_access", listed)
    except OSError:
        pytest.skip("this file system has no access control lists")
    with replacing(path, path):
        pass
    assert os.getxattr(path, "system.posix_acl_access") == listed
    with pytest.MonkeyPatch.context() as patch:

        def unsupported(*args):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

        patch.setattr(os, "setxattr", unsupported)
        with replacing(path, path):
            pass
    # what looked like the rights of the group was the mask of the list
    assert path.stat().st_mode & 0o777 == 0o600


@POSIX
def test_a_write_protected_file_is_not_replaced(path):
    """Not by the superuser either, whom no mode keeps from anything."""
    path.write_text("dear")
    path.chmod(0o444)
    with pytest.raises(
        PermissionError, match=r"run\.h5: it is write-protected \(mode 444\); chmod u\+w it, or give an"
    ):
        check_target(path, overwrite=True)
    with pytest.raises(PermissionError, match="write-protected"), held(path):
        pass
    assert os.listdir(path.parent) == ["run.h5"]
