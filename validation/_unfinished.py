"""Unfinished files from outside: how they come to be, where their numbers lie, and what a run that goes on needs.

Written from the description of the format, not with the package's own reader: it is what this is to judge.
"""

from __future__ import annotations

import math
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from mfpde.mesh.stream import Stream
from validation._children import digest, started

__all__ = ["Cut", "Place", "State", "companions", "cuts", "departure_columns", "growing", "states", "touched"]

GROWING = (
    "density",
    "unfinished/count",
    "unfinished/frames",
    "unfinished/frame_sums",
    "unfinished/errors",
    "unfinished/checkpoints",
    "unfinished/checkpoint_mu",
    "unfinished/companions",
    "unfinished/companion_mu",
)
"""Datasets that are written while the run goes on, beside the blocks of rows."""
FRAME_COLUMNS = ("time", "energy", "steps")
CHECKPOINT_COLUMNS = ("record", "checksum", "frames", "rows", *FRAME_COLUMNS)
COMPANION_COLUMNS = ("record", "checksum", "time")
"""The first columns of what is said about a frame, a checkpoint, a state of the run that errors are estimated with."""
DEPARTURE = ("dissipation_transport", "dissipation_reaction", "relative_fisher_information", "limiting_cell")
"""What is known of a state only when it is left."""


# ---------------------------------------------------------------------------------------------------------------------
# files
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """The file of a run that was killed.

    Attributes
    ----------
    name : str
        What it was killed in.
    content : bytes
        The file.
    earlier : list of bytes
        What it was at moments before, oldest first.
    digest, computed : str
        Of the finished file of the run that was not killed; the second without estimated errors.
    """

    name: str
    content: bytes
    earlier: list[bytes]
    digest: str
    computed: str


def cuts(folder: Path) -> list[Cut]:
    """Runs that were killed right after a checkpoint, after a save, in the second block of rows, and when resumed."""
    plane = {"shape": (48, 48), "t_end": 2.0, "save": 12, "progress": False, "threads": 1}
    line = {"shape": (64,), "t_end": 1.0, "save": 9, "progress": False, "controller": mf.FixedStep(1 / 1300)}

    def solve_plane(path: Path) -> None:
        mf.solve(mf.problems.three_gaussians(), output=path, checkpoint=1e-9, **plane)  # type: ignore[arg-type]

    def solve_line(path: Path) -> None:
        mf.solve(mf.problems.linear_neuron(), output=path, checkpoint=0.02, **line)  # type: ignore[arg-type]

    half = folder / "half.h5"
    mf.solve(mf.problems.three_gaussians(), output=half, **{**plane, "t_end": 1.0, "save": 5})  # type: ignore[arg-type]

    def resume(path: Path) -> None:
        mf.resume(half, 2.0, output=path, progress=False, threads=1, checkpoint=1e-9)

    return [
        _cut(folder, "after a checkpoint", solve_plane, "checkpoint", 30),
        _cut(folder, "after a save", solve_plane, "add", 8),
        _cut(folder, "with many steps", solve_line, "add", 7),
        _cut(folder, "after a resume", resume, "checkpoint", 12),
    ]


def _cut(folder: Path, name: str, run: Callable[[Path], Any], call: str, count: int) -> Cut:
    """The file of `run`, killed after the call of that name and number of its stream."""
    whole, path = folder / "whole.h5", folder / "cut.h5"
    run(whole)
    stream: Any = Stream
    earlier: list[bytes] = []
    moments = folder / "moments"
    moments.mkdir()

    def watched(kind: str) -> Callable[..., None]:
        method, calls = getattr(stream, kind), 0

        def after(self: Any, *given: Any, **named: Any) -> None:
            nonlocal calls
            method(self, *given, **named)
            calls += 1
            (moments / f"{len(os.listdir(moments)):05d}").write_bytes(path.read_bytes())
            if kind == call and calls == count:
                os.kill(os.getpid(), signal.SIGKILL)

        return after

    def work() -> None:
        for kind in ("add", "checkpoint"):
            setattr(stream, kind, watched(kind))
        run(path)

    ended = started(work).wait()
    if ended.code != -signal.SIGKILL:
        raise RuntimeError(f"the run to be cut {name} ended with {ended.code}: {ended.said}")
    earlier = [moment.read_bytes() for moment in sorted(moments.iterdir())[:-1]]
    found = Cut(name, path.read_bytes(), earlier[-12:], digest(whole), digest(whole, estimates=False))
    for left in (*moments.iterdir(), *(file for file in folder.iterdir() if file.is_file() and file.name != "half.h5")):
        left.unlink()
    moments.rmdir()
    return found


# ---------------------------------------------------------------------------------------------------------------------
# places
# ---------------------------------------------------------------------------------------------------------------------

Place = tuple[int, int]
"""From which byte of a file to which one (excluded)."""


@dataclass(frozen=True)
class State:
    """A state in an unfinished file that a run could go on from.

    Attributes
    ----------
    steps : int
    time : float
    frames, rows : int
        How many saved frames and rows of diagnostics go with it.
    slot : int or None
        Of the checkpoint; None for the last of the frames.
    needs : list of Place
        All bytes that it depends on and that were written as the run went.
    open : Place
        Those among them that are of its last row: what its departure is like does not matter to it.
    claim : Place
        What says that it is there: the count of frames, or the record of the checkpoint.
    """

    steps: int
    time: float
    frames: int
    rows: int
    slot: int | None
    needs: list[Place]
    open: Place
    claim: Place

    def claimed(self, content: bytes) -> bool:
        """Whether a file says that it is there. A kill may leave one that does not: its record is 0."""
        said = np.frombuffer(content[slice(*self.claim)], "<i8")
        return bool(said[0] != 0) if self.slot is not None else bool(said[0] >= self.frames)


def growing(file: Any) -> list[Place]:
    """Where the numbers lie that are written while the run goes on."""
    names = [name for name in (*GROWING, *_blocks(file)) if name in file]
    return [place for name in names for place in _places(file[name])]


def states(file: Any) -> list[State]:
    """All states in the file, those of saved frames first; they are whole, since the file is."""
    group = file["unfinished"]
    saved = int(group["count"][0])
    at = FRAME_COLUMNS.index("steps")
    found = []
    for i in range(saved):
        taken = float(group["frames"][i, at])
        # those of the run before a resumed one are kept without what a run would need to go on from them
        if taken > 0 or (taken == 0 and i == 0):
            time = float(group["frames"][i, FRAME_COLUMNS.index("time")])
            found.append(_state(file, int(taken), time, i + 1, int(taken) + 1, None))
    for slot, values in enumerate(group["checkpoints"][()]):
        said = dict(zip(CHECKPOINT_COLUMNS, values.tolist(), strict=False))
        if said["rows"] > 0 and said["record"] == zlib.crc32(values[1:].tobytes()):
            steps, frames, rows = (int(said[name]) for name in ("steps", "frames", "rows"))
            found.append(_state(file, steps, said["time"], frames, rows, slot))
    return found


def _state(file: Any, steps: int, time: float, frames: int, rows: int, slot: int | None) -> State:
    group = file["unfinished"]
    needs = [place for i in range(frames) for place in _entry(file["density"], i)]
    for name in ("frames", "frame_sums", "errors"):
        if name in group:
            needs += [place for i in range(frames) for place in _entry(group[name], i)]
    places = [place for block in _blocks(file) for place in _rows(file[block])][:rows]
    needs += places
    if slot is not None:
        needs += [*_entry(group["checkpoints"], slot), *_entry(group["checkpoint_mu"], slot)]
    (claim,) = _places(group["count"]) if slot is None else _entry(group["checkpoints"], slot)
    return State(steps, time, frames, rows, slot, needs, places[-1], claim)


def companions(file: Any) -> list[tuple[float, list[Place]]]:
    """The two states of the run that errors are estimated with: their times, and where they lie."""
    group = file["unfinished"]
    if "companions" not in group:
        return []
    times = group["companions"][:, COMPANION_COLUMNS.index("time")]
    return [
        (float(times[i]), [*_entry(group["companions"], i), *_entry(group["companion_mu"], i)])
        for i in range(len(times))
        if group["companions"][i].any()
    ]


def _blocks(file: Any) -> list[str]:
    return sorted(f"unfinished/{name}" for name in file["unfinished"] if name.startswith("rows_"))


def _places(dataset: Any) -> list[Place]:
    """Where the values of a dataset lie; nowhere before they are written first."""
    if dataset.chunks is None:
        first = dataset.id.get_offset()
        return [] if first is None else [(first, first + dataset.id.get_storage_size())]
    pieces = (dataset.id.get_chunk_info(i) for i in range(dataset.id.get_num_chunks()))
    return [(piece.byte_offset, piece.byte_offset + piece.size) for piece in pieces]


def _entry(dataset: Any, i: int) -> list[Place]:
    """Where the entry `i` along the first axis lies."""
    size = 8 * math.prod(dataset.shape[1:])
    if dataset.chunks is None:
        first = dataset.id.get_offset() + i * size
        return [(first, first + size)]
    assert dataset.chunks[1:] == dataset.shape[1:]
    along = dataset.chunks[0]
    piece = dataset.id.get_chunk_info_by_coord((i // along * along, *(0 for _ in dataset.shape[1:])))
    first = piece.byte_offset + i % along * size
    return [(first, first + size)]


def _rows(dataset: Any) -> Iterator[Place]:
    if dataset.id.get_offset() is not None:
        for i in range(dataset.shape[0]):
            yield from _entry(dataset, i)


def touched(changed: np.ndarray[Any, np.dtype[np.bool_]], places: list[Place]) -> bool:
    """Whether one of the bytes that are changed lies in one of the places."""
    return any(changed[first:last].any() for first, last in places)


def departure_columns(file: Any) -> list[int]:
    """The columns of the rows that are not known before a state is left."""
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in file["unfinished"].attrs["columns"]]
    return [i for i, name in enumerate(names) if name in DEPARTURE]
