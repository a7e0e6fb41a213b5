"""Simulations that survive: the state of all replicas, with their generators, in a file of numbers and text."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.support.arrays import Array
from mfpde.support.files import hdf5
from mfpde.support.files.frames import crc

__all__ = ["Checkpoint", "described"]


class Checkpoint:
    """The file that a simulation goes on from.

    Replicas that are worked on together (a block) are as far as they are. Blocks are independent: the file holds for
    each of them the state that it had when it was last its turn, and what all have recorded. It is written under
    another name, synced, and moved into place.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    every : float
        Seconds between two writes.
    run : mapping of str to str
        What the simulation is, in words: another one is refused.

    Raises
    ------
    ValueError
        For another suffix, or if the file holds another simulation: the message names all that differs.
    OSError
        If the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], every: float, run: Mapping[str, str]) -> None:
        self.path = Path(path)
        if self.path.suffix != ".npz":
            raise ValueError(f"checkpoint = {str(path)!r} must end in .npz")
        if not every >= 0:
            raise ValueError(f"checkpoint_every must be a number of seconds of at least 0, not {every:g}")
        self.every = every
        self.run = dict(run)
        self._target = hdf5.check_target(self.path, overwrite=True)
        self._lock = threading.Lock()
        self._written = time.perf_counter()
        self._blocks: dict[int, dict[str, Array]] = {}
        self.contents: dict[str, Array] = {}
        """What the file holds; nothing where there is none yet."""
        if self._target.exists():
            self.contents = self._read()
        for name, values in self.contents.items():
            if name.startswith("block "):
                _, b, part = name.split(" ", 2)
                self._blocks.setdefault(int(b), {})[part] = values

    def _read(self) -> dict[str, Array]:
        try:
            with open(self._target, "rb") as file, np.load(file, allow_pickle=False) as archive:
                contents = {name: archive[name] for name in archive.files}
            then = json.loads(str(contents.pop("run")))
            assert isinstance(then, dict)
        except OSError:
            raise
        except Exception:  # a damaged or foreign file fails in many ways
            raise ValueError(f"{self.path} is no checkpoint of a simulation; remove it, or give another name") from None
        differ = [
            f"{name} was {then.get(name)} and is {self.run.get(name)}"
            for name in {**then, **self.run}
            if then.get(name) != self.run.get(name)
        ]
        if differ:
            raise ValueError(
                f"{self.path} is a checkpoint of another simulation: {'; '.join(differ)}; "
                "remove it, or give another name"
            )
        return contents

    def state(self, b: int) -> dict[str, Array]:
        """Where a block was; empty where it had not begun."""
        return self._blocks.get(b, {})

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.perf_counter() - self._written >= self.every

    def write(self, now: Mapping[int, dict[str, Array]], record: Mapping[str, Array]) -> None:
        """Write the file with some blocks as they are now, and the others as they were."""
        with self._lock:
            self._blocks.update(now)
            arrays = {
                f"block {i} {name}": values for i, state in self._blocks.items() for name, values in state.items()
            }
            with hdf5.replacing(self.path, self._target) as temporary, open(temporary, "wb") as file:
                np.savez(file, run=np.array(json.dumps(self.run)), **{**record, **arrays})  # type: ignore[arg-type]
            self._written = time.perf_counter()

    def remove(self) -> None:
        """Remove the file: the simulation is complete, and not lost where that cannot be done."""
        with contextlib.suppress(OSError):
            self._target.unlink(missing_ok=True)


def described(thing: Any) -> str:
    """What tells an argument from another: its repr, or the checksum of its numbers."""
    if isinstance(thing, np.ndarray):
        return f"array {thing.shape} {crc(np.ascontiguousarray(thing, dtype=float)):08x}"
    return repr(thing)
