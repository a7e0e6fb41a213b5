"""A worker: runs on file systems that are too small, of memory and of a given size.

It must be root in a mount namespace of its own, where it mounts them: ``unshare --mount``, with ``--map-root-user`` for
users without rights.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfpde as mf
from validation._children import Ended, command, digest, one_line, refusals, serve, started, watch_steps

FAULTS = ("crashed", "wrong", "lost", "unclear", "no such file", "left behind")
"""
crashed: a signal (SIGSEGV as the process ends), a hang, a traceback, or a failure without exit code 2 or 3.
wrong: the run ended with 0, or went on on a larger disk, and its file is not that of the run on a large disk.
lost: the run failed after it had taken steps, or had a file to go on from, and no file is there that it goes on from.
unclear: it failed with more than one line, or none.
no such file: the line speaks of what a file holds, and there is no such file.
left behind: another file than that of the run, dot files included.
"""
PAGE = 4096
QUIET = ("--no-plot", "-q", "--threads", "1")
PLANE = ("run", "three-gaussians", "--shape", "32,32", "--t-end", "1", "--save", "21", "-o", "x.h5", *QUIET)
FURTHER = ("resume", "x.h5", "--until", "2", *QUIET)


@dataclass(frozen=True)
class Kind:
    """What is run on a small disk.

    Attributes
    ----------
    name : str
    work : callable
    begin : bytes
        The file that is there at first; nothing: none.
    wanted : str
        The digest of the file on a large disk.
    low, high : int
        The sizes of disks to try, bytes.
    """

    name: str
    work: Callable[[], Any]
    begin: bytes
    wanted: str
    low: int
    high: int


def _many_steps() -> None:
    """So many rows that the file grows while the run goes on."""
    with refusals():
        mf.solve(
            mf.problems.linear_neuron(), (256,), 1.0, save=5, controller=mf.FixedStep(1 / 1500), progress=False,
            output="x.h5", threads=1, checkpoint=0.05,
        )  # fmt: skip


def _kinds(folder: Path) -> list[Kind]:
    """What is run, with the sizes between less than the growing file and more than two copies of it."""
    found = []
    start = b""
    for name, work, follows in (
        ("saved densities", lambda: command(*PLANE), False),
        ("many steps", _many_steps, False),
        ("a resumed run", lambda: command(*FURTHER), True),
    ):
        before = start if follows else b""
        with _mounted(folder, 2**26):
            if before:
                (folder / "x.h5").write_bytes(before)
            grown = _grown(work, folder)
            file = folder / "x.h5"
            start = start or file.read_bytes()
            found.append(
                # where a file is there already, a disk that could not hold it is none
                Kind(
                    name,
                    work,
                    before,
                    digest(file),
                    len(before) + 8 * PAGE if before else int(0.5 * min(grown, file.stat().st_size)),
                    int(1.15 * (len(before) + grown + file.stat().st_size)),
                )
            )
    return found


def _grown(work: Callable[[], Any], folder: Path) -> int:
    """How large the file is before the run completes it, bytes; the run is carried out."""
    from mfpde.mesh.stream import Stream

    stream: Any = Stream
    finish = stream.finish
    sizes: list[int] = []

    def seen(self: Any, *given: Any) -> Any:
        sizes.append((folder / "x.h5").stat().st_blocks * 512)
        return finish(self, *given)

    def watched() -> int:
        stream.finish = seen
        try:
            work()
        except SystemExit as end:
            if end.code:
                raise
        return sizes[0]

    ended = started(watched, folder).wait()
    if ended.code or ended.answer is None:
        raise RuntimeError(f"a run with room enough ended with {ended.code}: {ended.said}")
    return int(ended.answer)


class _mounted:
    """A file system of that many bytes at a folder."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

    def __enter__(self) -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.folder)]
        subprocess.run(words, check=True, capture_output=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True, capture_output=True)


def _again(content: bytes, work: Callable[[], Any], folder: Path) -> tuple[Ended, str]:
    """What becomes of a file that is there after a failure, on a large disk; and its digest."""
    with _mounted(folder, 2**26):
        (folder / "x.h5").write_bytes(content)
        ended = started(work, folder).wait()
        return ended, digest(folder / "x.h5")


def judge(kind: Kind, ended: Ended, names: Sequence[str], content: bytes, folder: Path) -> list[str]:
    """Which faults a run on a small disk shows."""
    faults = []
    if [name for name in names if name != "x.h5"]:
        faults.append("left behind")
    if ended.crashed or ended.code not in (0, 2, 3):
        faults.append("crashed")
    elif ended.code == 0:
        (folder / "found.h5").write_bytes(content)
        if not content or digest(folder / "found.h5") != kind.wanted:
            faults.append("wrong")
    elif not one_line(ended.said):
        faults.append("unclear")
    elif re.search(r"\bholds\b|\bwhole\b|\bsaved\b|\bresume\b", ended.said) and not content:
        faults.append("no such file")
    if ended.code == 0:
        return faults
    if not content:
        # whoever was refused before computing has lost nothing
        return [*faults, "lost"] if kind.begin or ended.first == ended.first else faults
    further = (lambda: command(*FURTHER)) if kind.begin else (lambda: command("resume", "x.h5", *QUIET))
    again, result = _again(content, further, folder)
    if again.code:
        faults.append("lost")
    elif result != kind.wanted:
        faults.append("wrong")
    return faults


def find(folder: Path, first: str, last: str) -> Iterator[dict[str, Any]]:
    """Cases from a number to another one; their sizes are spread over those between both."""
    watch_steps()
    place, aside = folder / "place", folder / "aside"
    place.mkdir()
    aside.mkdir()
    kinds = _kinds(place)
    numbers = range(int(first), int(last))
    for case in numbers:
        kind = kinds[case % len(kinds)]
        share = (case - numbers.start + random.Random(f"disk {case}").random()) / len(numbers)
        size = int(kind.low + share * (kind.high - kind.low)) // PAGE * PAGE
        with _mounted(place, size):
            if kind.begin:
                (place / "x.h5").write_bytes(kind.begin)
            ended = started(kind.work, place, proper_exit=True).wait()
            names = sorted(os.listdir(place))
            content = (place / "x.h5").read_bytes() if "x.h5" in names else b""
        faults = judge(kind, ended, names, content, aside)
        shutil.rmtree(aside)
        aside.mkdir()
        outcome = "success" if ended.code == 0 else "failed" if content != kind.begin else "refused"
        yield {
            "case": case,
            "kind": kind.name,
            "size": size,
            "sizes": [kind.low, kind.high],
            "outcome": outcome,
            "code": ended.code,
            "faults": faults,
            "left": names,
            "said": ended.said.strip()[-400:],
        }


if __name__ == "__main__":
    serve(find)
