"""A worker: one page of an unfinished file is not what was written, as a crash of the machine leaves it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from validation._children import digest, serve, started
from validation._unfinished import Cut, State, companions, cuts, growing, states, touched

PAGE = 4096
FAULTS = ("wrong", "gave up", "crashed", "refused", "older", "replaced", "accepted")
"""
wrong: the finished file is not that of the run that was not killed, bit for bit. Estimated errors may be missing, with
    a reason in the file, where neither state that they are computed with is whole and early enough.
gave up: the resumed run ended before its end.
crashed: a signal, a hang, a traceback, or a refusal of more than one line.
refused: no run, though all that was damaged is written as the run goes and a whole state was there.
older: another state is taken than the newest whole one.
replaced: the run was refused, and the file is another than before.
accepted: `verify` finds nothing wrong, though the newest state that the file speaks of depends on what was damaged.
"""


@dataclass(frozen=True)
class Oracle:
    """What is in a file, and where."""

    cut: Cut
    head: list[tuple[int, int]]
    states: list[State]
    companions: list[tuple[float, list[tuple[int, int]]]]


def _oracle(cut: Cut, path: Path) -> Oracle:
    import h5py

    path.write_bytes(cut.content)
    with h5py.File(path, "r", locking=False) as file:
        grows = sorted(growing(file))
        edges = [0, *(edge for place in grows for edge in place), len(cut.content)]
        head = [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high]
        return Oracle(cut, head, states(file), companions(file))


def _torn(rng: random.Random, oracle: Oracle) -> tuple[str, bytes]:
    """A page that is other than it was: where, of what kind; and the file with it."""
    content = oracle.cut.content
    recent = _recent(oracle.cut)
    while True:
        pages = rng.choice((range(len(content) // PAGE), recent, range(min(16, len(content) // PAGE)), recent))
        at = PAGE * rng.choice(list(pages))
        kind = rng.choice(("zeros", "stale", "random"))
        old = content[at : at + PAGE]
        if kind == "zeros":
            new = bytes(len(old))
        elif kind == "random":
            new = rng.randbytes(len(old))
        else:
            new = rng.choice(oracle.cut.earlier)[at : at + PAGE].ljust(len(old), b"\0")
        if new != old:
            return kind, content[:at] + new + content[at + len(old) :]


def _recent(cut: Cut) -> list[int]:
    """The pages that were written between the moments that are known."""
    now, then = (np.frombuffer(content, np.uint8) for content in (cut.content, cut.earlier[0]))
    size = min(len(now), len(then)) // PAGE * PAGE
    differ = (now[:size] != then[:size]).reshape(-1, PAGE).any(axis=1)
    return [int(page) for page in np.flatnonzero(differ)]


def _answers(path: Path) -> dict[str, Any]:
    """What load, verify and resume make of a file; errors as text."""
    found: dict[str, Any] = {}

    def asked(name: str, ask: Any) -> None:
        try:
            found[name] = ask()
        except (ValueError, OSError) as error:
            found[name] = f"{type(error).__name__}: {error}"
            if "\n" in str(error).strip():
                raise

    asked("load", lambda: int(mf.load(path).state.n_steps))
    asked("verify", lambda: bool(mf.verify(path).ok))
    asked("resume", lambda: mf.resume(path, progress=False, threads=1, throw=False, checkpoint=None).result.name)
    return found


def judge(oracle: Oracle, damaged: bytes, path: Path) -> tuple[list[str], dict[str, Any]]:
    """Which faults a file with a torn page shows, and what was answered."""
    cut = oracle.cut
    path.write_bytes(damaged)
    ended = started(lambda: _answers(path)).wait()
    if ended.crashed or ended.answer is None:
        return ["crashed"], {"said": ended.said[-300:], "code": ended.code}
    load, verify, resume = (ended.answer[name] for name in ("load", "verify", "resume"))
    sizes = max(len(damaged), len(cut.content))
    old, new = (np.frombuffer(c.ljust(sizes, b"\0"), np.uint8) for c in (cut.content, damaged))
    changed = old != new
    head = touched(changed, oracle.head)
    claimed = [state for state in oracle.states if state.claimed(damaged)]
    newest = max(claimed or oracle.states, key=lambda state: state.steps)
    left = [state for state in oracle.states if not touched(changed, state.needs)]
    whole = [state.steps for state in left]
    faults = []
    estimates = False
    if resume == "SUCCESS":
        # errors are estimated with a state of a second run, of which the file holds two: it may be that neither is
        # whole and not later than the state from which the run goes on; then the file says why there are no estimates
        now = max((state.time for state in left), default=0.0)
        beside = any(time <= now and not touched(changed, places) for time, places in oracle.companions)
        same = digest(path) == cut.digest
        if not same and not ((head or not beside) and _lacks_estimates(path, cut)):
            faults.append("wrong")
        estimates = not same and "wrong" not in faults
    elif resume in mf.Result.__members__:
        faults.append("gave up")
    else:
        if path.read_bytes() != damaged:
            faults.append("replaced")
        if whole and not head:
            faults.append("refused")
    if isinstance(load, int) and not head and whole and load != max(whole) and "wrong" not in faults:
        faults += ["older"] if load < max(whole) else []
    open_row = changed.copy()
    open_row[slice(*newest.open)] = False
    if verify is True and not head and touched(open_row, newest.needs):
        faults.append("accepted")
    known = {"whole": max(whole, default=None), "newest": newest.steps, "head": head, "no estimates": estimates}
    return faults, ended.answer | known


def _lacks_estimates(path: Path, cut: Cut) -> bool:
    """Whether a finished file is right but for estimated errors, and says why there are none."""
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        said = str(file.attrs["estimate"])
    return digest(path, estimates=False) == cut.computed and 'reason = ""' not in said


def find(folder: Path, first: str, last: str) -> Iterator[dict[str, Any]]:
    """Cases from a number to another one."""
    oracles = [_oracle(cut, folder / "cut.h5") for cut in cuts(folder)]
    for case in range(int(first), int(last)):
        rng = random.Random(f"torn {case}")
        oracle = oracles[case % len(oracles)]
        kind, damaged = _torn(rng, oracle)
        faults, answers = judge(oracle, damaged, folder / "case.h5")
        left = [p.name for p in folder.iterdir() if p.name not in ("case.h5", "cut.h5", "half.h5", "whole.h5")]
        for name in left:
            (folder / name).unlink()
        if left:
            faults.append("left behind")
        yield {"case": case, "file": oracle.cut.name, "kind": kind, "faults": faults, "answers": answers}


if __name__ == "__main__":
    serve(find)
