"""Files that are damaged in every way that comes to mind, and what the program makes of them.

Every mutation is a function of a `random.Random` and of a valid file, so that a case is known by its number.
A case runs in a process of its own kind: a child that is forked for a batch, bounded in memory, and killed when a
case takes too long.
"""

from __future__ import annotations

import contextlib
import enum
import io
import math
import os
import random
import re
import resource
import select
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Attempt", "Outcome", "attempts", "corrupt", "mutated_csv", "mutated_hdf5", "mutated_npz", "mutated_toml"]

# ---------------------------------------------------------------------------------------------------------------------
# running cases
# ---------------------------------------------------------------------------------------------------------------------


class Outcome(enum.Enum):
    """What became of a case."""

    ANSWER = "answer"
    """It was read: what was asked for came out, or a run stopped with a reason, or `verify` found what is wrong."""
    REFUSED = "refused"
    """One line, exit code 2."""
    UNCLEAR = "unclear"
    """Refused, but in no line or more than one, or without an exit code of the program's own."""
    TRACEBACK = "traceback"
    HANG = "hang"
    CRASH = "crash"
    """The process was killed by a signal of the system."""


@dataclass(frozen=True)
class Attempt:
    """One case: its number, what became of it, what was said, how long it took."""

    case: int
    outcome: Outcome
    text: str
    seconds: float


DONE = (0, 3, 5, 124)
"""Exit codes after which a file was read: all is well, the run failed, the checksums are wrong, the time is up."""

Check = Callable[[int], int]
"""What is done with a case: by its number; gives the exit code. What it prints is what is judged."""


def attempts(
    check: Check, cases: Iterable[int], *, batch: int = 20, limit: float = 30.0, memory: int = 2**31
) -> tuple[list[Attempt], int]:
    """Run cases in forked children.

    Parameters
    ----------
    check : callable
    cases : iterable of int
    batch : int
        Cases a child.
    limit : float
        Seconds after which a case hangs.
    memory : int
        Bytes that a child may take beyond what it starts with: more is refused by the system.

    Returns
    -------
    list of Attempt
    int
        The most memory that was resident in a child beyond the start, bytes.
    """
    waiting = list(cases)
    done: list[Attempt] = []
    peak = 0
    with tempfile.TemporaryFile() as log:
        while waiting:
            chunk, waiting = waiting[:batch], waiting[batch:]
            answers, used = _child(check, chunk, limit, memory, log.fileno())
            done += answers
            peak = max(peak, used)
            waiting = chunk[len(answers) :] + waiting
    return done, peak


def _child(check: Check, cases: Sequence[int], limit: float, memory: int, log: int) -> tuple[list[Attempt], int]:
    reading, writing = os.pipe()
    told, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.close(telling)
        _work(check, cases, memory, log, writing, told)
        os._exit(0)
    os.close(writing)
    os.close(told)
    answers: list[Attempt] = []
    began = time.monotonic()
    failed: Outcome | None = None
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        # of its own: a child has less in memory than its parent, until it looks at it
        base = struct.unpack("<q", pipe.read(8))[0]
        while len(answers) < len(cases):
            ready, _, _ = select.select([pipe], [], [], max(0.0, began + limit - time.monotonic()))
            if not ready:
                failed = Outcome.HANG
                os.kill(pid, signal.SIGKILL)
                break
            record = pipe.read(4)
            if len(record) < 4:
                failed = Outcome.CRASH
                break
            now = time.monotonic()
            code = struct.unpack("<i", record)[0]
            answers.append(_judged(cases[len(answers)], code, _said(log), now - began))
            os.ftruncate(log, 0)
            os.write(telling, b".")
            began = now
    os.close(telling)
    _, status, usage = os.wait4(pid, 0)
    if failed is not None:
        text = f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"
        answers.append(Attempt(cases[len(answers)], failed, text, time.monotonic() - began))
        os.ftruncate(log, 0)
    return answers, max(0, 1024 * usage.ru_maxrss - base)


def _work(check: Check, cases: Sequence[int], memory: int, log: int, pipe: int, told: int) -> None:
    # answers go nowhere: only what is said of errors is judged
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(log, 2)
    # whoever started this may have put something else in their place
    warnings.simplefilter("error")
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, errors="replace") for number in (1, 2))  # noqa: SIM115
    size, resident = _pages()
    os.write(pipe, struct.pack("<q", resident))
    resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
    for case in cases:
        os.lseek(log, 0, os.SEEK_SET)
        try:
            code = check(case)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(pipe, struct.pack("<i", code))
        # what was said is read before the next case says more
        os.read(told, 1)


def _pages() -> tuple[int, int]:
    """Bytes of this process: of addresses, and resident."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size, resident = (int(n) * resource.getpagesize() for n in file.read().split()[:2])
    return size, resident


def _said(log: int) -> str:
    return os.pread(log, 100_000, 0).decode("utf-8", "replace")


def _judged(case: int, code: int, text: str, seconds: float) -> Attempt:
    outcome = Outcome.ANSWER
    if "Traceback (most recent call last)" in text:
        outcome = Outcome.TRACEBACK
    elif code == 2:
        lines = [line for line in text.split("\n") if not line.startswith("warning: ")]
        one = len(lines) == 2 and lines[1] == "" and lines[0].startswith("mfpde: ") and len(lines[0]) > 12
        outcome = Outcome.REFUSED if one else Outcome.UNCLEAR
    elif code not in DONE:
        outcome = Outcome.UNCLEAR
    return Attempt(case, outcome, text, seconds)


# ---------------------------------------------------------------------------------------------------------------------
# bytes
# ---------------------------------------------------------------------------------------------------------------------


def corrupt(rng: random.Random, content: bytes) -> bytes:
    """Cut off, flipped, overwritten, moved."""
    data = bytearray(content)
    if rng.random() < 0.12:
        return bytes(data[: rng.randrange(len(data))])
    # structures lie where there are few zeros: half of the cases hit what is not zero
    places = [i for i, b in enumerate(data) if b] if rng.random() < 0.5 else range(len(data))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16, 64))):
        at, kind = rng.choice(places), rng.random()
        if kind < 0.55:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8))]) if at < len(data) else b""
        elif kind < 0.7:
            data[at : at + 1] = bytes([rng.choice((0, 255, 127, 128, rng.randrange(256)))])
        elif kind < 0.85:
            width = rng.choice((2, 4, 8))
            data[at : at + width] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x08")) * width
        elif kind < 0.95:
            other, width = rng.choice(places), rng.choice((4, 8, 64, 512))
            data[at : at + width] = data[other : other + width]
        else:
            width = rng.choice((1, 8, 100))
            if rng.random() < 0.5:
                del data[at : at + width]
            else:
                data[at:at] = bytes(rng.randrange(256) for _ in range(width))
    return bytes(data)


# ---------------------------------------------------------------------------------------------------------------------
# TOML
# ---------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|\S')
# fmt: off
_ODD_VALUES = (
    "true", "false", "nan", "inf", "-inf", "-1", "0", "1", "2", "3", "-0.0", "1e308", "-1e308", "1e309", "1e-320",
    "1e-12", "0.5", "7", "1e6", "123456789012345678901234567890", "9223372036854775807", "0xff", '"text"', '""',
    '"\\u0000"', '"../../x"', '"/dev/zero"', '"a.csv"', '"nan"', '"1"', "[]", "{}", "[1]", "[1,2]", "[2,1]", "[0.0]",
    '["a"]', '[["a"]]', "[[1,2],[3,4]]", '[1,"a"]', "[true]", "[nan]", "{a=1}", '{kind="power-law"}', "[{}]",
    "1979-05-27T07:32:00Z", "07:32:00", "1979-05-27", '"weno5"', '"muscl"', '"hermite3"', '"hermite64"',
    '"hermite1000000000"', '"hermite٣"', '"fixed"', '"logistic"', '"huber"', '"refill"', '"replace"',
    '{kind="constant",value=1}', '{kind="power-law",exponent=-0.5}', '"\\ud800"',
)
# fmt: on
# fmt: off
_KEYS = (
    "problem", "shape", "t_end", "threads", "max_steps", "parameters", "network", "dynamics", "scheme", "output",
    "alpha", "temperature", "schedule", "reaction", "rates", "data", "sha256", "inputs", "outputs", "weights",
    "standardise", "activation", "loss", "delta", "amplitude", "bias", "half_width", "axes", "initial", "tolerance",
    "transport", "limiter", "tail_ratio", "method", "stabilised", "potential", "convergence", "controller",
    "fraction", "growth", "dt", "path", "save", "plot", "kind", "measure", "mean", "std", "lower", "upper", "atom",
    "distribution", "__class__", "__init__", "model_fields",
)
# fmt: on


def mutated_toml(rng: random.Random, text: str) -> bytes:
    """A TOML file that was valid."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        text = rng.choice(_TOML)(rng, text)
    content = text.encode("utf-8", "surrogatepass")
    kind = rng.random()
    if kind < 0.15:
        return corrupt(rng, content or b"x")
    if kind < 0.17:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1")), "replace")
    if kind < 0.18:
        return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\0")))
    return content


def _lines(change: Callable[[random.Random, list[str]], None]) -> Callable[[random.Random, str], str]:
    def apply(rng: random.Random, text: str) -> str:
        lines = text.split("\n")
        change(rng, lines)
        return "\n".join(lines)

    return apply


def _place(rng: random.Random, lines: Sequence[str]) -> int:
    return rng.randrange(max(1, len(lines)))


def _delete(rng: random.Random, lines: list[str]) -> None:
    del lines[_place(rng, lines)]


def _duplicate(rng: random.Random, lines: list[str]) -> None:
    lines.insert(_place(rng, lines), rng.choice(lines))


def _swap(rng: random.Random, lines: list[str]) -> None:
    i, j = _place(rng, lines), _place(rng, lines)
    lines[i], lines[j] = lines[j], lines[i]


def _retype(rng: random.Random, lines: list[str]) -> None:
    found = [i for i, line in enumerate(lines) if "=" in line]
    if found:
        i = rng.choice(found)
        lines[i] = lines[i].partition("=")[0] + "= " + rng.choice(_ODD_VALUES)


def _rename(rng: random.Random, lines: list[str]) -> None:
    found = [i for i, line in enumerate(lines) if "=" in line]
    if found:
        i = rng.choice(found)
        key, _, value = lines[i].partition("=")
        new = rng.choice([rng.choice(_KEYS), key.strip() + "x", key.strip()[:-1], '""', '"a b"', "a." + key.strip()])
        lines[i] = f"{new} = {value}"


def _add(rng: random.Random, lines: list[str]) -> None:
    lines.insert(_place(rng, lines), f"{rng.choice(_KEYS)} = {rng.choice(_ODD_VALUES)}")


def _header(rng: random.Random, lines: list[str]) -> None:
    name = rng.choice(_KEYS)
    lines.insert(_place(rng, lines), rng.choice((f"[{name}]", f"[[{name}]]", f"[scheme.{name}]", f"[{name}", "[]")))


def _nest(rng: random.Random, lines: list[str]) -> None:
    depth = rng.choice((3, 60, 1500, 20_000))
    deep = rng.choice(
        (
            f"{rng.choice(_KEYS)} = " + "[" * depth + "]" * depth,
            "a = " + "{a=" * depth + "1" + "}" * depth,
            ".".join(["a"] * depth) + " = 1",
            f"parameters.{'.'.join(['a'] * depth)} = 1",
            "[" + ".".join(["a"] * depth) + "]",
        )
    )
    lines.insert(_place(rng, lines), deep)


def _huge(rng: random.Random, lines: list[str]) -> None:
    n = rng.choice((300, 5_000, 60_000))
    key = rng.choice(_KEYS)
    value = rng.choice(
        (
            "9" * n,
            "0." + "9" * n,
            f"1e{'9' * min(n, 5000)}",
            '"' + "a" * n + '"',
            "[" + "1," * n + "]",
            "[" + "0.1, " * n + "]",
            "[" + "[1],".rjust(4) * n + "]",
        )
    )
    found = [i for i, line in enumerate(lines) if "=" in line]
    if found and rng.random() < 0.6:
        i = rng.choice(found)
        lines[i] = lines[i].partition("=")[0] + "= " + value
    else:
        lines.insert(_place(rng, lines), f"{key} = {value}")
    if rng.random() < 0.05:
        lines.append("#" + "x" * (2**20))


def _control(rng: random.Random, lines: list[str]) -> None:
    i = _place(rng, lines)
    at = rng.randrange(len(lines[i]) + 1)
    character = rng.choice("\0\x01\x07\x1b\x7f\x85\u2028\ufeff\ud800\u202e\U0010ffff\r\t\"'\\#")
    lines[i] = lines[i][:at] + character + lines[i][at:]


def _tokens(rng: random.Random, text: str) -> str:
    found = list(_TOKEN.finditer(text))
    if len(found) < 2:
        return text
    one, two = sorted(rng.sample(found, 2), key=lambda m: m.start())
    first, last = text[: one.start()], text[two.end() :]
    return first + two.group() + text[one.end() : two.start()] + one.group() + last


def _token(rng: random.Random, text: str) -> str:
    found = list(_TOKEN.finditer(text))
    if not found:
        return text
    chosen = rng.choice(found)
    return text[: chosen.start()] + rng.choice([*_ODD_VALUES, *_KEYS, ""]) + text[chosen.end() :]


def _digits(rng: random.Random, text: str) -> str:
    """Another number of the same kind: what is likely to be a valid run."""
    found = list(re.finditer(r"(?<![\w.])\d{1,9}(\.\d{1,20})?(?![\w.])", text))
    if not found:
        return text
    chosen = rng.choice(found)
    value = float(chosen.group()) * rng.choice((0.0, 0.5, 2.0, 10.0, 1e3, -1.0, 1e-9))
    new = str(value) if "." in chosen.group() else str(int(value))
    return text[: chosen.start()] + new + text[chosen.end() :]


_TOML: tuple[Callable[[random.Random, str], str], ...] = (
    *(_lines(c) for c in (_delete, _duplicate, _swap, _retype, _retype, _retype, _rename, _add, _add, _header)),
    *(_lines(c) for c in (_nest, _huge, _control)),
    _tokens,
    _token,
    _token,
    _digits,
    _digits,
)


# ---------------------------------------------------------------------------------------------------------------------
# CSV and NPZ
# ---------------------------------------------------------------------------------------------------------------------

# fmt: off
_CELLS = (
    "nan", "inf", "-inf", "1e999", "1e-999", "0x10", "1_000", "''", '""', '"', '""', "None", ";", ",", '\t', "#",
    "#1", "1,5", "١٢", '\x00', "=", "=1+1", "true", "1e308", "-1e308", "1e-320",
)
# fmt: on


def mutated_csv(rng: random.Random, content: bytes) -> bytes:
    """A CSV file that was valid."""
    if rng.random() < 0.3:
        return corrupt(rng, content)
    rows = [line.split(",") for line in content.decode().strip().split("\n")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(rows))
        j = rng.randrange(max(1, len(rows[i])))
        kind = rng.randrange(10)
        if kind < 4 and rows[i]:
            rows[i][j] = rng.choice(_CELLS)
        elif kind == 4:
            rows[i] = rows[i][:-1]
        elif kind == 5:
            rows[i].append(rng.choice(_CELLS))
        elif kind == 6:
            rows = [row[:1] for row in rows] if rng.random() < 0.3 else rows[: rng.randrange(1, len(rows) + 1)]
        elif kind == 7 and rows[i]:
            rows[i][j] = rng.choice(('"' + "x\n" * 10, "9" * 200_000, "1" * 400, '"' * 3, " " * 1000))
        elif kind == 8:
            rows.insert(i, [])
        else:
            rows = [[cell for k, cell in enumerate(row) if k != j] for row in rows]
        rows = rows or [[""]]
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\r")).join(
        rng.choice((",", ",", ",", ";", "\t")).join(row) if rng.random() < 0.02 else ",".join(row) for row in rows
    )
    if rng.random() < 0.05:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    return text.encode()


def mutated_npz(rng: random.Random, content: bytes) -> bytes:
    """An NPZ file that was valid: an array changed, its head rewritten, the archive damaged."""
    if rng.random() < 0.4:
        return corrupt(rng, content)
    with np.load(io.BytesIO(content)) as file:
        arrays: dict[str, Any] = {name: file[name] for name in file.files}
    raw: dict[str, bytes] = {}
    name = rng.choice([*arrays])
    values = arrays[name]
    kind = rng.randrange(8)
    if kind < 4:
        # not every change fits every kind of values
        with np.errstate(all="ignore"), contextlib.suppress(Exception):
            arrays[name] = rng.choice(_ARRAYS)(values)
    elif kind == 4:
        del arrays[name]
    elif kind == 5:
        arrays[rng.choice(("x/x", "../x", "/x", "x", "positions", "a" * 300, "\u202e"))] = values
    else:
        raw[name] = _head(rng, values)
    if rng.random() < 0.3:
        extra = rng.choice([*arrays] or ["x"])
        raw[extra] = _head(rng, values)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for key, array in arrays.items():
            if key in raw:
                archive.writestr(f"{key}.npy", raw[key])
                continue
            one = io.BytesIO()
            np.lib.format.write_array(one, np.asarray(array), allow_pickle=True)
            archive.writestr(f"{key}.npy", one.getvalue())
            if rng.random() < 0.02:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    archive.writestr(f"{key}.npy", one.getvalue())
    return corrupt(rng, target.getvalue()) if rng.random() < 0.1 else target.getvalue()


class _Boom:
    """Unpickling this leaves a mark that the study looks for."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.write, (2, b"Traceback (most recent call last): unpickled")


_ARRAYS: tuple[Callable[[Any], Any], ...] = (
    lambda v: np.array([_Boom()] * 3, dtype=object),
    lambda v: np.array([_Boom(), None], dtype=object)[:, None],
    lambda v: v.astype(complex),
    lambda v: v.astype("U"),
    lambda v: v.astype("S"),
    lambda v: v > 0,
    lambda v: v.astype(np.float16),
    lambda v: v.astype(">f8"),
    lambda v: v.astype(np.float32),
    lambda v: v.astype(np.longdouble),
    lambda v: v.astype("i1"),
    lambda v: np.zeros(len(v), dtype=[("a", "f8"), ("b", "i4")]),
    lambda v: np.zeros(len(v), dtype="M8[s]"),
    lambda v: np.asfortranarray(np.stack([v, v], axis=-1)),
    lambda v: v[:0],
    lambda v: v[:1],
    lambda v: v[:2],
    lambda v: v[..., None],
    lambda v: v[..., None, None],
    lambda v: v.ravel()[0],
    lambda v: np.full_like(v, np.nan, dtype=float),
    lambda v: np.where(np.arange(v.size).reshape(v.shape) == 1, np.inf, v),
    lambda v: -np.abs(v),
    lambda v: v * 0,
    lambda v: v * 1e300,
    lambda v: v * 1e-310,
    lambda v: np.ones((3, 7)),
    lambda v: np.ones((0, 0)),
    lambda v: np.ones(100_000),
    lambda v: np.full_like(v, 1e308, dtype=float),
)


def _head(rng: random.Random, values: Any) -> bytes:
    shape = rng.choice(
        ("(1000000000000,)", "(-1,)", "(3, -3)", "(0,)", "()", "(4611686018427387904, 8)", "(True,)", "(1.5,)", "'x'")
    )
    kind = rng.choice(("'<f8'", "'|O'", "'<c16'", "'<U100000000'", "'|V2000000000'", "[('a','<f8')]", "'x'", "8", "''"))
    order = rng.choice(("False", "True", "None"))
    head = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"
    odd = rng.random()
    if odd < 0.1:
        head = "(" * 4000
    elif odd < 0.2:
        head = "__import__('os').write(2, b'Traceback (most recent call last): executed')"
    elif odd < 0.3:
        head = head[: rng.randrange(len(head))]
    elif odd < 0.5:
        head = head.replace(shape, str(values.shape)).replace(kind, "'<f8'") if odd < 0.4 else head + " " * 70_000
    text = head.encode() + b"\n"
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    size = struct.pack("<H", len(text) & 0xFFFF) if version == (1, 0) else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + values.tobytes()[: rng.choice((None, 0, 8, 17))]


# ---------------------------------------------------------------------------------------------------------------------
# HDF5
# ---------------------------------------------------------------------------------------------------------------------


def mutated_hdf5(rng: random.Random, content: bytes, path: Path) -> None:
    """Write an HDF5 file that was valid: bytes damaged, or parts replaced by what another program may put there."""
    if rng.random() < 0.6:
        path.write_bytes(corrupt(rng, content))
        return
    path.write_bytes(content)
    import h5py

    with h5py.File(path, "r+") as file:
        for _ in range(rng.choice((1, 1, 2, 3))):
            nodes: list[str] = ["/"]
            file.visit(nodes.append)
            # what a mutation finds changed by the one before may be too much for it
            with contextlib.suppress(Exception):
                rng.choice(_HDF5)(rng, file, rng.choice(nodes))


def _other_values(rng: random.Random, file: Any, name: str) -> None:
    import h5py

    old = file[name]
    if not isinstance(old, h5py.Dataset) or (old.size or 0) > 10**6:
        return
    values, attributes = old[()], {key: old.attrs[key] for key in old.attrs if "LIST" not in key}
    del file[name]
    kind = rng.randrange(9)
    if kind == 0:
        new = file.create_dataset(name, data=rng.choice(_ARRAYS[2:])(values))
    elif kind == 1:
        new = file.create_dataset(name, shape=(2**40,), dtype="f8")
    elif kind == 2:
        new = file.create_dataset(name, shape=(2**31, *values.shape[1:]), dtype="f8", chunks=True, compression="gzip")
    elif kind == 3:
        new = file.create_dataset(name, data=h5py.Empty("f8"))
    elif kind == 4:
        new = file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
    elif kind == 5:
        new = file.create_dataset(name, data=values, chunks=True, compression="gzip", shuffle=True)
    elif kind == 6:
        new = file.create_dataset(name, shape=values.shape, dtype="f8", external=[("/etc/passwd", 0, values.nbytes)])
    elif kind == 7:
        layout = h5py.VirtualLayout(shape=values.shape, dtype="f8")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=values.shape)
        new = file.create_virtual_dataset(name, layout)
    else:
        new = file.create_dataset(
            name, data=np.where(np.arange(values.size).reshape(values.shape) == 1, np.nan, values)
        )
    for key, value in attributes.items():
        with contextlib.suppress(Exception):
            new.attrs[key] = value


def _with_nan(values: Any) -> Any:
    return np.where(np.arange(values.size).reshape(values.shape) == 1, np.nan, values)


def _other_node(rng: random.Random, file: Any, name: str) -> None:
    import h5py

    if name == "/":
        return
    if rng.random() < 0.8:
        del file[name]
    kind = rng.randrange(6)
    if kind == 0:
        file[name] = h5py.SoftLink(rng.choice((name, "/", "/time", "/nowhere", "/" + name)))
    elif kind == 1:
        file[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", "two.h5", "/dev/zero")), "/time")
    elif kind == 2:
        file[name] = file["/"]
    elif kind == 3:
        file.create_group(name)
    elif kind == 4:
        file[name] = np.dtype("f8")


def _other_attribute(rng: random.Random, file: Any, name: str) -> None:
    import h5py

    node = file[name]
    names = [key for key in node.attrs if "LIST" not in key]
    key = rng.choice([*names, "memory", "axes", "length", "t", "new"])
    kind = rng.random()
    if kind < 0.2:
        del node.attrs[key]
    elif kind < 0.4 and isinstance(node.attrs.get(key), str):
        text = node.attrs[key]
        node.attrs[key] = mutated_toml(rng, text).decode("utf-8", "replace").replace("\0", "0")[:60_000]
    else:
        odd: list[Any] = [
            0,
            -1,
            2,
            1e308,
            math.nan,
            math.inf,
            "",
            "x",
            "x" * 60_000,
            b"\xff\xfe",
            True,
            [1, 2],
            [[1.0]],
        ]
        odd += [["a", "b"], np.zeros(0), np.zeros(7_000), h5py.Empty("f8"), np.complex128(1), np.uint64(2**64 - 1)]
        odd += [np.void(b"ab"), np.zeros(2, dtype=[("a", "f8")]), file.ref, np.float16(1), "nan", "SUCCESS", 2**62]
        node.attrs[key] = rng.choice(odd)


_HDF5: tuple[Callable[[random.Random, Any, str], None], ...] = (
    _other_values,
    _other_values,
    _other_node,
    _other_attribute,
    _other_attribute,
)
