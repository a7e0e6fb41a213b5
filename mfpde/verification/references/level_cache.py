"""Levels of references on disk: what was computed once is found again, so that a second call goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfpde.equation.energy.capabilities import has_points
from mfpde.equation.problem import Problem
from mfpde.support.sources import PACKAGE
from mfpde.verification.observables import Observable, OutputAt
from mfpde.verification.references.refinement import Level, Spread
from mfpde.verification.references.routes import Route

__all__ = ["LevelCache", "cache_folder"]

MOST_FILES = 4000
"""Levels that are kept; the oldest go first. A level has kilobytes."""


def cache_folder() -> Path:
    """Where levels are: ``$MFPDE_CACHE_DIR``, or ``mfpde`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("MFPDE_CACHE_DIR")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(os.path.expanduser("~")) / ".cache") / "mfpde"


class LevelCache:
    """The levels of one problem, by what they depend on.

    A level is found again where the problem (its fingerprint, and the bits of its potential and its nodes), the route,
    the level, the tolerance in time, the observables, the times, and the source of this package are the same. What
    cannot be read counts as absent; what cannot be written is not. Functions are told apart by their values at nodes
    of the start, a few hundred times and some thousand rates, not everywhere: that is why levels are kept on request.

    Parameters
    ----------
    problem : Problem
    folder : path
    """

    def __init__(self, problem: Problem, folder: Path) -> None:
        self.folder = folder / "levels"
        self.problem = _identity(problem)

    def key(self, route: Route, level: int, step: float, wanted: Sequence[Observable], where: Sequence[Any]) -> str:
        """The name of a level's file; empty where an observable cannot be told from another one."""
        parts = [_source(), self.problem, route.name, repr(route.cells(level)), float(step).hex()]
        parts += [time.hex() for time in route.times.tolist()]
        for observable, at in zip(wanted, where, strict=True):
            said = _described(observable)
            if said is None:
                return ""
            parts += [said, repr(np.asarray(at).tolist())]
            if isinstance(observable, OutputAt) and route.problem.network is not None:
                # the network is no part of the problem's fingerprint
                points, weights = route.problem.mu_0.nodes(5)
                output = route.problem.network.output(np.asarray(observable.x), list(points.T), weights)
                parts.append(output.tobytes().hex())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def find(self, key: str) -> Level | None:
        """A level, if it is there and whole."""
        if not key:
            return None
        try:
            whole = io.BytesIO((self.folder / f"{key}.npz").read_bytes())
            with np.load(whole, allow_pickle=False) as file:
                values = [file[f"value_{k}"] for k in range(int(file["count"]))]
                cost, blind, ancestral = (float(x) for x in file["numbers"])
        except Exception:  # whatever damage does to a file
            return None
        return Level(values, cost, blind, None if np.isnan(ancestral) else ancestral)

    def keep(self, key: str, level: Level) -> None:
        """Write a level; the file appears when it is whole."""
        if not key:
            return
        buffer = io.BytesIO()
        ancestral = np.nan if level.ancestral is None else level.ancestral
        arrays: dict[str, Any] = {f"value_{k}": value for k, value in enumerate(level.values)}
        arrays |= {"count": len(level.values), "numbers": np.array([level.cost, level.blind, ancestral])}
        np.savez(buffer, **arrays)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(buffer.getvalue())
                os.replace(name, self.folder / f"{key}.npz")
            except OSError:
                os.unlink(name)
                raise
            self._prune()

    def _prune(self) -> None:
        # what a run that was killed has begun to write is no use to any other
        files = [entry for entry in os.scandir(self.folder) if entry.name.endswith((".npz", ".part"))]
        if len(files) > MOST_FILES:
            files.sort(key=lambda entry: entry.stat().st_mtime)
            for entry in files[: len(files) - MOST_FILES * 3 // 4]:
                os.unlink(entry.path)


@functools.cache
def _source() -> str:
    """What the package's code is, and the libraries that compute."""
    import scipy

    digest = hashlib.sha256(f"{np.__version__} {scipy.__version__}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _identity(problem: Problem) -> str:
    """The fingerprint is good to eight digits; bars may be smaller, so bits are told apart, too."""
    digest = hashlib.sha256(problem.fingerprint().encode())
    digest.update(repr((problem.t_end, problem.shape, problem.axes)).encode())
    points, weights = problem.mu_0.nodes(5)
    bound, potential = problem.bound_energy, problem.energy_values
    if has_points(bound):
        potential = [bound.potential(points, bound.response(points, weights))]
    for array in (points, weights, *potential):
        digest.update(np.ascontiguousarray(array).tobytes())
    when = np.linspace(0.0, 1.0, 129)[1:] * problem.t_end
    for schedule in (problem.alpha, problem.temperature, problem.schedule):
        digest.update(repr(schedule).encode())
        digest.update(np.array([schedule(float(t)) for t in when]).tobytes())
    if problem.rate is not None:
        digest.update(np.asarray(problem.rate(np.linspace(-20.0, 20.0, 4001)), dtype=float).tobytes())
    return digest.hexdigest()


def _described(observable: Observable) -> str | None:
    """What an observable measures; None where its fields do not say."""
    kind = type(observable)
    if kind.__module__ not in (Observable.__module__, Spread.__module__):  # one's own: what it measures is code
        return None
    said = [kind.__module__, kind.__qualname__]
    for field in dataclasses.fields(observable):
        value = getattr(observable, field.name)
        if field.name == "times":  # the route's are named apart
            continue
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            if not isinstance(value, (str, int, float, tuple, dict, type(None))):
                return None
            said.append(f"{field.name} {value!r}")
        else:
            said.append(f"{field.name} {array.shape} {[x.hex() for x in array.ravel().tolist()]}")
    return " ".join(said)
