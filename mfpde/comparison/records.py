"""Particles from anywhere: records, files of them, and whether they fit a problem."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.grid import Axis
from mfpde.particles import Cloud
from mfpde.problem import Problem

__all__ = ["ParticleRecord", "load_particles"]

Array = NDArray[np.float64]

OUTSIDE = 0.01
"""Fraction of recorded particles outside the box above which they are refused."""


@dataclass(frozen=True, eq=False)
class ParticleRecord:
    """Particles of any training code: positions at times.

    Parameters
    ----------
    positions : array, shape (m, n, d) or (replicas, m, n, d)
        Coordinates in the order of the problem's axes. In one dimension (m, n) will do.
    times : array, shape (m,)
        In the time of the PDE: for gradient descent on neurons with ``theta -= lr * n * d(loss)/d(theta)``, step
        number times ``lr``.
    weights : array, shape (m, n) or (replicas, m, n), optional
        Their sum is the mass. Default: 1/n each.
    dt : float, optional
        The time step (the learning rate). Records with two different steps let `compare` tell the error of the step
        from a wrong scheme.
    label : str, optional
        Where it comes from.

    Raises
    ------
    ValueError
        For shapes that do not fit together, values that are not finite, times that do not increase, weights that are
        negative or have no mass.
    """

    positions: Array
    times: Array
    weights: Array | None = None
    dt: float | None = None
    label: str = "particles"

    def __post_init__(self) -> None:
        where = f"{self.label}: "
        times = np.atleast_1d(np.asarray(self.times, dtype=float))
        x = np.asarray(self.positions, dtype=float)
        if x.ndim == 2:
            x = x[..., None]
        if x.ndim == 3:
            x = x[None]
        if x.ndim != 4 or min(x.shape) < 1 or x.shape[2] < 2:
            raise ValueError(
                f"{where}positions must have shape (times, n, d) or (replicas, times, n, d) with n >= 2, "
                f"not {np.shape(self.positions)}"
            )
        if times.shape != (x.shape[1],):
            raise ValueError(f"{where}{len(times)} times for positions at {x.shape[1]} times; give one time a frame")
        if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
            raise ValueError(f"{where}times must be finite and increase")
        if not np.all(np.isfinite(x)):
            raise ValueError(f"{where}{np.count_nonzero(~np.isfinite(x))} coordinates are not finite; drop those runs")
        w: Array | None = None
        if self.weights is not None:
            w = np.asarray(self.weights, dtype=float)
            w = w[None] if w.ndim == 2 else w
            if w.shape != x.shape[:3]:
                raise ValueError(f"{where}weights must have shape {x.shape[:3]}, not {np.shape(self.weights)}")
            if not np.all(np.isfinite(w)) or np.any(w < 0) or np.any(w.sum(axis=2) <= 0):
                raise ValueError(f"{where}weights must be finite and >= 0, with a positive sum at every time")
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"{where}dt must be finite and positive, not {self.dt!r}")
        for name, value in (("positions", x), ("times", times), ("weights", w)):
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """Particles a replica."""
        return int(self.positions.shape[2])

    @property
    def replicas(self) -> int:
        """Independent runs."""
        return len(self.positions)

    def __repr__(self) -> str:
        r, m, n, d = self.positions.shape
        dt = "" if self.dt is None else f", dt = {self.dt:g}"
        return f"<ParticleRecord {self.label!r}: {r} x {n} particles, {d} coordinates, {m} times{dt}>"


def load_particles(path: str | os.PathLike[str], axes: Sequence[Axis | str] | None = None) -> list[ParticleRecord]:
    """Read particles from an NPZ or HDF5 file.

    A file holds one record, or several, each under its own prefix (an HDF5 group; in NPZ the keys
    ``"run1/positions"``, ``"run1/times"``, ...). A record is ``positions`` and ``times``, and where there is one
    ``weights`` and ``dt``; see `ParticleRecord`. An entry ``axes`` with the names of the columns lets them be put in
    the order of `axes`.

    Parameters
    ----------
    path : path
        ``.npz``, ``.h5`` or ``.hdf5``.
    axes : sequence of Axis or str, optional
        The order the columns are to have.

    Returns
    -------
    list of ParticleRecord

    Raises
    ------
    ValueError
        If there is no record in the file, or one that does not fit.
    """
    path = Path(path)
    entries = _entries(path)
    prefixes = sorted(name[: -len("positions")] for name in entries if name.split("/")[-1] == "positions")
    if not prefixes:
        raise ValueError(
            f"{path} holds no 'positions' (it has {', '.join(sorted(entries)) or 'nothing'}); "
            "save arrays positions (times, n, d) and times"
        )
    records = []
    for prefix in prefixes:
        label = f"{path.name}:{prefix.rstrip('/')}" if prefix else path.name
        if prefix + "times" not in entries:
            raise ValueError(f"{label}: positions without 'times'; save the time of every frame beside them")
        positions = np.asarray(entries[prefix + "positions"], dtype=float)
        names = entries.get(prefix + "axes", entries.get("axes"))
        if names is not None and axes is not None:
            given = [v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(names)]
            wanted = [axis if isinstance(axis, str) else axis.name for axis in axes]
            if sorted(given) != sorted(wanted):
                raise ValueError(f"{label}: the columns are {', '.join(given)}, the problem's axes {', '.join(wanted)}")
            if positions.ndim >= 3:
                positions = positions[..., [given.index(name) for name in wanted]]
        dt = entries.get(prefix + "dt")
        records.append(
            ParticleRecord(
                positions,
                entries[prefix + "times"],
                entries.get(prefix + "weights"),
                None if dt is None else float(np.ravel(dt)[0]),
                label,
            )
        )
    return records


def _entries(path: Path) -> dict[str, Any]:
    """All arrays of a file by their names; of HDF5 the attributes ``dt`` and ``axes`` of its groups too."""
    entries: dict[str, Any] = {}
    if path.suffix.lower() == ".npz":
        import zipfile

        try:
            with np.load(path, allow_pickle=False) as file:
                entries = {name: file[name] for name in file.files}
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{path} is no NPZ file of plain arrays: {error}") from None
    elif path.suffix.lower() in (".h5", ".hdf5"):
        import h5py

        with path.open("rb"):  # says that there is no such file as Python says it
            pass
        try:
            with h5py.File(path, "r") as file:
                file.visititems(
                    lambda name, node: entries.__setitem__(name, node[()]) if isinstance(node, h5py.Dataset) else None
                )
                groups = [("", file)]
                file.visititems(
                    lambda name, node: groups.append((name + "/", node)) if isinstance(node, h5py.Group) else None
                )
                for prefix, group in groups:  # dt and axes may be attributes
                    for key in ("dt", "axes"):
                        if key in group.attrs:
                            entries.setdefault(prefix + key, group.attrs[key])
        except OSError as error:
            raise ValueError(f"{path} cannot be read as HDF5: {error}") from None
    else:
        raise ValueError(f"{path}: particles are read from .npz, .h5 or .hdf5 files")
    return entries


def weights_of(cloud: Cloud) -> Array | None:
    """The weights of a cloud, shape (R, m, n); None where all are 1/n."""
    if cloud.weights is None and not np.all(cloud.mass == 1.0):
        return np.repeat(cloud.mass[:, :, None] / cloud.n, cloud.n, axis=2)
    return cloud.weights


def checked_record(item: Cloud | ParticleRecord, problem: Problem, notes: list[str]) -> ParticleRecord:
    """Particles as a record that fits the problem, put into its box; what was moved is added to the notes."""
    if isinstance(item, Cloud):
        if item.positions is None:
            raise ValueError("the cloud has no positions; pass keep_positions=True to simulate")
        item = ParticleRecord(item.positions, item.times, weights_of(item), item.dt, "cloud")
    if not isinstance(item, ParticleRecord):
        raise ValueError(f"particles are Cloud or ParticleRecord objects, not {type(item).__name__}")
    d = len(problem.axes)
    if item.positions.shape[3] != d:
        names = ", ".join(axis.name for axis in problem.axes)
        raise ValueError(f"{item.label}: {item.positions.shape[3]} coordinates for the {d} axes {names}")
    x = item.positions.copy()
    outside = np.zeros(x.shape[:3], dtype=bool)
    for i, axis in enumerate(problem.axes):
        if axis.periodic:
            x[..., i] = axis.lower + np.mod(x[..., i] - axis.lower, axis.length)
        else:
            slack = 1e-9 * axis.length
            outside |= (x[..., i] < axis.lower - slack) | (x[..., i] > axis.upper + slack)
            np.clip(x[..., i], axis.lower, axis.upper, out=x[..., i])
    share = float(outside.mean())
    if share > OUTSIDE:
        raise ValueError(
            f"{item.label}: {100 * share:.2g} % of the particles are outside the box (at most {100 * OUTSIDE:g} %); "
            "enlarge the axes of the problem, or check the order of the columns"
        )
    if share > 0:
        notes.append(f"{item.label}: {100 * share:.2g} % of the particles were outside the box, moved to its walls")
    return replace(item, positions=x)
