"""A worker: one number of a file is another one, and `verify` is asked.

A change goes through HDF5: the file's structures are those of a valid file.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from validation._children import serve
from validation._unfinished import companions, cuts, departure_columns, states

Target = tuple[str, str]
"""A node of a file and one of its attributes; without an attribute the values of a dataset."""

LABELS = ("title", "long_name", "CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "coordinates")
"""Attributes that are for people and other tools; nothing is computed from them."""

EXCLUDED = (
    ("group `volatile`", "dates and durations: they differ between equal runs"),
    (f"attributes {', '.join(f'`{name}`' for name in LABELS)}", "for people and other tools; mfpde reads none"),
    ("unfinished: `count`", "a hint for early versions; how much is whole follows from the checksums"),
    (
        "unfinished: what lies beyond the frames and rows of the newest state",
        "it was never written, or is written again",
    ),
    ("unfinished: departure columns of the newest row", "they are computed again when the state is left"),
    ("unfinished: checkpoints other than the newest whole state", "the resumed run is the same"),
    ("unfinished: `reason` where there is none", "a kill may leave that of a later state, which does not count"),
    ("unfinished: the state of the companion that is not the newest", "the resumed run is the same"),
)
"""What is not changed, and why."""


# ---------------------------------------------------------------------------------------------------------------------
# what there is to change
# ---------------------------------------------------------------------------------------------------------------------


def _attributes(file: Any) -> list[Target]:
    """All attributes that are read."""
    found: list[Target] = []

    def add(name: str, node: Any) -> None:
        if name.split("/")[0] != "volatile":
            found.extend((name, key) for key in node.attrs if key not in LABELS)

    add("", file)
    file.visititems(add)
    return found


def _datasets(file: Any) -> dict[str, Callable[[random.Random], tuple[int, ...]]]:
    """All datasets that are read, each with what draws an index among its numbers that matter."""
    import h5py

    found: dict[str, Callable[[random.Random], tuple[int, ...]]] = {}

    def add(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.size and name.split("/")[0] not in ("volatile", "unfinished"):
            found[name] = _anywhere(node.shape)

    file.visititems(add)
    if "unfinished" in file:
        _unfinished(file, found)
    return found


def _anywhere(shape: tuple[int, ...]) -> Callable[[random.Random], tuple[int, ...]]:
    return lambda rng: tuple(rng.randrange(n) for n in shape)


def _at(first: int, shape: tuple[int, ...]) -> Callable[[random.Random], tuple[int, ...]]:
    return lambda rng: (first, *(rng.randrange(n) for n in shape))


def _unfinished(file: Any, found: dict[str, Callable[[random.Random], tuple[int, ...]]]) -> None:
    group = file["unfinished"]
    newest = max(states(file), key=lambda state: state.steps)
    for name in ("density", "unfinished/frames", "unfinished/frame_sums", "unfinished/errors"):
        if name in file:
            found[name] = _anywhere((newest.frames, *file[name].shape[1:]))
    for name in ("errors_unseen", "reason"):
        if name in group and group[name][()].any():
            found[f"unfinished/{name}"] = _anywhere(group[name].shape)
    if newest.slot is not None:
        for name in ("checkpoints", "checkpoint_mu"):
            found[f"unfinished/{name}"] = _at(newest.slot, group[name].shape[1:])
    beside = [time for time, _ in companions(file)]
    if beside:
        slot = beside.index(max(beside))
        for name in ("companions", "companion_mu"):
            found[f"unfinished/{name}"] = _at(slot, group[name].shape[1:])
    later, start, i = departure_columns(file), 0, 0
    while start < newest.rows:
        block = group[f"rows_{i:02d}"]
        found[f"unfinished/rows_{i:02d}"] = _rows(min(block.shape[0], newest.rows - start), block.shape[1], later)
        if newest.rows - start > block.shape[0]:
            found[f"unfinished/rows_{i:02d}"] = _anywhere((block.shape[0], block.shape[1]))
        start, i = start + block.shape[0], i + 1


def _rows(rows: int, width: int, later: list[int]) -> Callable[[random.Random], tuple[int, ...]]:
    """Rows of which the last lacks some columns."""

    def draw(rng: random.Random) -> tuple[int, ...]:
        while True:
            at = rng.randrange(rows), rng.randrange(width)
            if at[0] < rows - 1 or at[1] not in later:
                return at

    return draw


# ---------------------------------------------------------------------------------------------------------------------
# changes
# ---------------------------------------------------------------------------------------------------------------------


def _flip(rng: random.Random, value: Any) -> Any:
    bits = np.array(value).view(np.uint64) ^ np.uint64(1 << rng.randrange(64))
    return bits.view(np.asarray(value).dtype)[()]


def _other(rng: random.Random, value: Any) -> Any:
    """Another number of the same kind."""
    kind = np.asarray(value).dtype.type
    while True:
        if rng.random() < 0.5:
            new = _flip(rng, value)
        elif issubclass(kind, np.floating):
            ways = (2 * value, value / 2, -value, value + 1.0, np.nextafter(value, math.inf), value * (1 + 1e-9), 0.0)
            new = kind(rng.choice((*ways, math.nan, math.inf, 1.0)))
        else:
            new = kind(rng.choice((value + 1, value - 1, 0, 1, -1, 2 * value)))
        if np.array(new).tobytes() != np.array(value).tobytes():
            return new


def _other_text(rng: random.Random, text: str) -> str:
    """A text with another digit; where it has none, with another character."""
    places = [i for i, letter in enumerate(text) if letter.isdigit() and letter.isascii()]
    if not places:
        at = rng.randrange(len(text) + 1)
        return text[:at] + "x" + text[at + 1 :]
    at = rng.choice(places)
    return text[:at] + rng.choice([digit for digit in "0123456789" if digit != text[at]]) + text[at + 1 :]


def _change(rng: random.Random, file: Any) -> str:
    """Change one number; returns what and how, or nothing where there was nothing to change."""
    datasets = _datasets(file)
    if rng.random() < 0.75:
        name = rng.choice(sorted(datasets))
        at = datasets[name](rng)
        old = file[name][at]
        file[name][at] = new = _other(rng, old)
        return f"{name}[{', '.join(map(str, at))}]: {old!r} -> {new!r}"
    name, key = rng.choice(_attributes(file))
    node = file[name] if name else file
    old = node.attrs[key]
    if isinstance(old, str):
        node.attrs[key] = new = _other_text(rng, old)
        same = max(0, next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0) - 20)
        return f"{name}@{key}: {old[same : same + 30]!r} -> {new[same : same + 30]!r}"
    values = np.array(old)
    if not values.size:
        return ""
    at = tuple(rng.randrange(n) for n in values.shape)
    entry = values[at]
    if values.dtype.kind == "O":
        values[at] = _other_text(rng, entry.decode() if isinstance(entry, bytes) else str(entry))
    else:
        values[at] = _other(rng, entry)
    node.attrs.modify(key, values if values.shape else values[()])
    return f"{name}@{key}{list(at)}: {entry!r} -> {values[at]!r}"


# ---------------------------------------------------------------------------------------------------------------------
# files
# ---------------------------------------------------------------------------------------------------------------------


def _finished(folder: Path) -> dict[str, bytes]:
    """Finished files: a plane, a line, one with a temperature, and one that was resumed."""
    path = folder / "finished.h5"
    quiet: dict[str, Any] = {"progress": False, "threads": 1}
    found = {}
    for name, problem, shape in (
        ("plane", mf.problems.three_gaussians(), (16, 16)),
        ("line", mf.problems.linear_neuron(), (32,)),
        ("torus with a temperature", mf.problems.torus_langevin(), (32,)),
    ):
        mf.solve(problem, shape, 0.2, save=4, output=path, overwrite=True, **quiet)
        found[f"finished: {name}"] = path.read_bytes()
    mf.resume(path, 0.3, **quiet)
    found["finished: resumed"] = path.read_bytes()
    return found


def find(folder: Path, first: str, last: str) -> Iterator[dict[str, Any]]:
    """Cases from a number to another one."""
    import h5py

    files = _finished(folder)
    files |= {f"unfinished: killed {cut.name}": cut.content for cut in cuts(folder)}
    path = folder / "case.h5"
    for name, content in files.items():
        path.write_bytes(content)
        if not mf.verify(path).ok:
            raise RuntimeError(f"{name}: this is a valid file: {mf.verify(path)}")
    for case in range(int(first), int(last)):
        rng = random.Random(f"change {case}")
        name = sorted(files)[case % len(files)]
        change = ""
        while not change:
            path.write_bytes(files[name])
            with h5py.File(path, "r+", locking=False) as file:
                change = _change(rng, file)
        try:
            said = "accepted" if mf.verify(path).ok else "noticed"
        except (ValueError, OSError) as error:
            said = "refused" if "\n" not in str(error).strip() else f"more than one line: {error}"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        yield {"case": case, "file": name, "change": change, "said": said}


if __name__ == "__main__":
    serve(find)
