"""Processes that studies start, watch and kill, and what their files hold.

Compiled code is loaded once, by a worker: a process of its own, with one thread, whose forked children do the work of a
case each. It prints what it finds as lines of JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf

__all__ = [
    "LIMIT",
    "Child",
    "Ended",
    "cases",
    "command",
    "digest",
    "one_line",
    "output_of",
    "quick_folder",
    "refusals",
    "serve",
    "started",
    "warm",
    "watch_steps",
]

LIMIT = 300.0
"""Seconds after which a child hangs; the work of a case takes one or two."""
FIRST_STEP: list[float] = []
"""When this process took its first step, once `watch_steps` was called."""


# ---------------------------------------------------------------------------------------------------------------------
# workers
# ---------------------------------------------------------------------------------------------------------------------


def output_of(words: Sequence[str]) -> Iterator[str]:
    """The lines that a process prints, one by one, with this package and these studies to import."""
    folders = [str(Path(mf.__file__).parent.parent), str(Path(__file__).parent.parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[-3:])} ended with {process.returncode}")


def cases(module: str, *arguments: object, within: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """What a worker finds, case by case.

    Parameters
    ----------
    module : str
        A module of this package that calls `serve`.
    *arguments
        Handed to it as text.
    within : sequence of str
        A command that starts the worker, such as ``unshare``.
    """
    words = [*within, sys.executable, "-W", "ignore", "-m", f"validation.{module}", *map(str, arguments)]
    for line in output_of(words):
        yield json.loads(line)


def serve(find: Callable[..., Iterable[dict[str, Any]]]) -> None:
    """Be a worker: print what `find` finds, given the folder of the cases and the arguments of the command line."""
    warnings.simplefilter("ignore")
    warm()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        for found in find(Path(folder), *sys.argv[1:]):
            print(json.dumps(found), flush=True)


def quick_folder() -> str | None:
    """Where temporary files cost no time of a disk: none of the studies needs them to outlive the machine."""
    memory = "/dev/shm"
    return memory if os.path.isdir(memory) and os.access(memory, os.W_OK) else None


def warm() -> None:
    """Load compiled code and modules, before there are children; only these start threads."""
    for problem, shape in ((mf.problems.three_gaussians(), (16, 16)), (mf.problems.linear_neuron(), (16,))):
        mf.solve(problem, shape=shape, t_end=0.01, threads=1, progress=False)
    mf.particles.simulate(mf.problems.three_gaussians(), 8, dt=0.01, t_end=0.02, seed=1, workers=1, progress=False)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        path = os.path.join(folder, "x.h5")
        quiet = ("--no-plot", "-q", "--threads", "1")
        with contextlib.suppress(SystemExit):
            command("run", "three-gaussians", "--shape", "16,16", "--t-end", "0.01", "-o", path, *quiet)
        with contextlib.suppress(SystemExit):
            command("resume", path, "--until", "0.02", *quiet)


# ---------------------------------------------------------------------------------------------------------------------
# children
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """What became of a child.

    Attributes
    ----------
    pid : int
    code : int
        The exit code; that of a signal is negative.
    said : str
        On standard error.
    answer : Any
        What its work returned; None where it did not get there.
    first : float
        When it took its first step, on the monotonic clock; nan for never.
    end : float
        When its work was done; when its end was noticed, where it was killed.
    """

    pid: int
    code: int
    said: str
    answer: Any = None
    first: float = float("nan")
    end: float = float("nan")

    @property
    def crashed(self) -> bool:
        """Whether it ended by a signal, or with a traceback."""
        return self.code < 0 or self.code == 99 or "Traceback (most recent call last)" in self.said


@dataclass
class Child:
    """A process that is at work; `wait` for it."""

    pid: int
    log: Any = field(repr=False)
    pipe: Any = field(repr=False)
    status: int | None = None

    def ended(self) -> bool:
        """Whether it has ended by now."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def kill(self) -> None:
        """SIGKILL, if it has not ended."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait until it has ended; it is killed where that takes too long."""
        began, pause = time.monotonic(), 1e-4
        while not self.ended():
            if time.monotonic() > began + limit:
                self.kill()
                _, self.status = os.waitpid(self.pid, 0)
                break
            time.sleep(pause)
            pause = min(2 * pause, 0.005)
        assert self.status is not None
        code = os.waitstatus_to_exitcode(self.status)
        with self.log as log, self.pipe as pipe:
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
            pipe.seek(0)
            told = json.loads(pipe.read() or b"{}")
        return Ended(self.pid, code, said, **{"end": time.monotonic(), **told})


def started(work: Callable[[], Any], folder: Path | None = None, *, proper_exit: bool = False) -> Child:
    """Fork a child that does some work.

    Parameters
    ----------
    work : callable
        What it returns is the answer of the child. `SystemExit` is the exit code; another exception is 99.
    folder : path, optional
        Where it works.
    proper_exit : bool
        Whether the libraries in C end as in a process that was not forked: HDF5 writes what it still holds then.
    """
    # files, not pipes: a child that is killed must not fill one, and one that says much must not wait
    log, pipe = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    pid = os.fork()
    if not pid:
        _work(work, folder, log.fileno(), pipe, proper_exit)
    return Child(pid, log, pipe)


def _work(work: Callable[[], Any], folder: Path | None, log: int, pipe: Any, proper_exit: bool) -> None:
    code, answer = 99, None
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False, errors="replace") for number in (1, 2))  # noqa: SIM115
        FIRST_STEP.clear()
        if folder is not None:
            os.chdir(folder)
        answer = work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    told = {"answer": answer, "end": time.monotonic()} | ({"first": FIRST_STEP[0]} if FIRST_STEP else {})
    pipe.write(json.dumps(told).encode())
    pipe.flush()
    if proper_exit:
        gc.collect()
        sys.stderr.flush()
        ctypes.CDLL(None).exit(code)
    sys.stderr.flush()
    os._exit(code)


def command(*words: object) -> None:
    """``mfpde WORDS`` in this process; raises SystemExit, as the command line does."""
    from mfpde import cli

    cli.main([str(word) for word in words])


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What the command line makes of the errors that the library may raise."""
    try:
        yield
    except (ValueError, OSError, MemoryError, mf.SolveError) as error:
        print(f"mfpde: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def one_line(said: str) -> bool:
    """Whether standard error holds one line of the program's own, warnings aside."""
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("warning: ")]
    return len(lines) == 1 and lines[0].startswith("mfpde: ") and len(lines[0]) > 12


def watch_steps() -> None:
    """Note the time of the first step of runs on meshes and of particles in `FIRST_STEP`."""
    from mfpde.particles.ensemble import Ensemble

    for kind in (mf.Solver, Ensemble):
        _watch(kind)


def _watch(kind: Any) -> None:
    step = kind.step

    def watched(*given: Any, **named: Any) -> Any:
        if not FIRST_STEP:
            FIRST_STEP.append(time.monotonic())
        return step(*given, **named)

    kind.step = watched


# ---------------------------------------------------------------------------------------------------------------------
# files
# ---------------------------------------------------------------------------------------------------------------------

UNFINISHED = "unfinished"
ESTIMATES = ("errors", "energy_error", "companion")


def digest(path: str | os.PathLike[str], *, estimates: bool = True) -> str:
    """The SHA-256 of all that a finished file holds: values and attributes, the group ``volatile`` apart.

    Without `estimates` it is that of what a run computes besides its estimated errors. That of a file whose run is not
    over is `UNFINISHED`.
    """
    import h5py

    total = hashlib.sha256()

    def add(name: str, node: Any) -> None:
        top = name.split("/")[0]
        if top == "volatile" or (top in ESTIMATES and not estimates):
            return
        total.update(name.encode())
        for key in sorted(node.attrs):
            # lists of places in the file, and what is a list of checksums or speaks of estimates
            if key in ("REFERENCE_LIST", "DIMENSION_LIST") or (
                not estimates and key in ("checksums", "estimate", "remarks", "warnings")
            ):
                continue
            value = node.attrs[key]
            total.update(f"{key}={value.tolist() if isinstance(value, np.ndarray) else value!r}".encode())
        if isinstance(node, h5py.Dataset):
            total.update(np.ascontiguousarray(node[()]).tobytes())

    with h5py.File(path, "r", locking=False) as file:
        if "unfinished" in file:
            return UNFINISHED
        add("", file)
        file.visititems(add)
    return total.hexdigest()
