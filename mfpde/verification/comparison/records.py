"""Particles from anywhere: records, files of them, and whether they fit a problem."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.energy.losses import check_size
from mfpde.equation.grid import Axis
from mfpde.equation.problem import Problem
from mfpde.particles import Cloud
from mfpde.support.arguments import PATH, TEXT, numbers, one_of, real, refuse_masked, require, shown
from mfpde.support.arguments import entries as entries_of
from mfpde.support.arrays import Array
from mfpde.support.files.untrusted import check_heaps, elsewhere, read_npz, stored_bytes
from mfpde.support.words import one_line
from mfpde.verification.walls import beyond_walls, check_inside, within_walls

if TYPE_CHECKING:
    import h5py

__all__ = ["ParticleRecord", "checked_record", "load_particles", "weights_of"]


MAX_BYTES = 2**33
"""Largest content of a file of particles."""
_PARTS = ("positions", "times", "weights", "dt", "axes")


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
        if not isinstance(self.label, str):
            raise ValueError(f"the label of particles is text, not {shown(self.label)}")
        times = np.atleast_1d(numbers(self.times, f"{where}times"))
        x = numbers(self.positions, f"{where}positions")
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
        check_size(f"{where}positions", x)
        w: Array | None = None
        if self.weights is not None:
            w = numbers(self.weights, f"{where}weights")
            w = w[None] if w.ndim == 2 else w
            if w.shape != x.shape[:3]:
                raise ValueError(f"{where}weights must have shape {x.shape[:3]}, not {np.shape(self.weights)}")
            if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.all(w.any(axis=2)):
                raise ValueError(f"{where}weights must be finite and >= 0, with a positive sum at every time")
            check_size(f"{where}weights", w)
        if self.dt is not None and not (real(self.dt) and self.dt > 0):
            raise ValueError(f"{where}dt must be finite and positive, not {shown(self.dt)}")
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
    require(path=(path, PATH))
    if axes is not None:
        for axis in entries_of(axes, "axes"):
            require(axes=(axis, TEXT | one_of(Axis)))
    path = Path(path)
    entries = _entries(path)
    prefixes = sorted(name[: -len("positions")] for name in entries if name.split("/")[-1] == "positions")
    if not prefixes:
        raise ValueError(
            f"{path} holds no 'positions' (it has {', '.join(sorted(entries)) or 'nothing'}); "
            "save arrays positions (times, n, d) and times"
        )
    return [_record(path, prefix, entries, axes) for prefix in prefixes]


def _record(path: Path, prefix: str, entries: Mapping[str, Any], axes: Sequence[Axis | str] | None) -> ParticleRecord:
    """The record under a prefix, its columns in the order of the axes."""
    label = f"{path.name}:{prefix.rstrip('/')}" if prefix else path.name
    if prefix + "times" not in entries:
        raise ValueError(f"{label}: positions without 'times'; save the time of every frame beside them")
    positions = _real(label, "positions", entries[prefix + "positions"])
    names = entries.get(prefix + "axes", entries.get("axes"))
    if names is not None and axes is not None:
        positions = _in_order(label, positions, names, axes)
    times = _real(label, "times", entries[prefix + "times"])
    weights, dt = (
        None if prefix + name not in entries else _real(label, name, entries[prefix + name])
        for name in ("weights", "dt")
    )
    if dt is not None and dt.size != 1:
        raise ValueError(f"{label}: dt must be one number, not an array of shape {dt.shape}")
    return ParticleRecord(positions, times, weights, None if dt is None else float(dt.ravel()[0]), label)


def _in_order(label: str, positions: Array, names: Any, axes: Sequence[Axis | str]) -> Array:
    """Positions whose columns, which have names, are in the order of the axes."""
    given = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.ravel(names)]
    wanted = [axis if isinstance(axis, str) else axis.name for axis in axes]
    if sorted(given) != sorted(wanted):
        found = ", ".join(given[:8]) + (", .." if len(given) > 8 else "")
        raise ValueError(f"{label}: the columns are {found}, the problem's axes {', '.join(wanted)}")
    if positions.ndim < 3:
        return positions
    if positions.shape[-1] != len(given):
        raise ValueError(f"{label}: {positions.shape[-1]} columns, but 'axes' names {len(given)}")
    return positions[..., [given.index(name) for name in wanted]]


def _entries(path: Path) -> dict[str, Any]:
    """The arrays of a file by their names; of HDF5 the attributes ``dt`` and ``axes`` of its groups too.

    What is not part of a record is named and not read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".h5", ".hdf5"):
        raise ValueError(f"{path}: particles are read from .npz, .h5 or .hdf5 files")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb"):  # says that there is no such file as Python says it
        pass
    try:
        if suffix == ".npz":
            return dict(read_npz(path, _PARTS, MAX_BYTES))
        check_heaps(path)
        import h5py

        with h5py.File(path, "r") as file:
            return _hdf5_entries(file)
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        # a damaged file fails in many ways
        what = "is no NPZ file of plain arrays" if suffix == ".npz" else "cannot be read as HDF5"
        raise ValueError(f"{path} {what}: {one_line(error)}") from None


def _hdf5_entries(file: h5py.File) -> dict[str, Any]:
    """The arrays of an HDF5 file by their names; None for what is not read."""
    import h5py

    entries: dict[str, Any] = {}
    total, groups, seen = 0, [("", file)], {h5py.h5o.get_info(file.id).addr}
    while groups:
        prefix, group = groups.pop()
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                entries[name] = None  # a link: what it leads to is not read
                continue
            node = group[key]
            if isinstance(node, h5py.Group):
                place = h5py.h5o.get_info(node.id).addr
                if place in seen or name.count("/") > 8:
                    raise ValueError(f"group {name!r} is there twice, or too deep; store each record once")
                seen.add(place)
                groups.append((name + "/", node))
            elif isinstance(node, h5py.Dataset):
                entries[name] = None
                if key in _PARTS:
                    total += _checked_bytes(name, node)
                    if total > MAX_BYTES:
                        raise ValueError(f"its arrays have {total} bytes; the limit is {MAX_BYTES}")
                    entries[name] = node[()]
        for key in ("dt", "axes"):  # they may be attributes
            if key in group.attrs:
                shape = group.attrs.get_id(key).shape or ()
                if math.prod(shape) > 1000:
                    raise ValueError(f"attribute {prefix + key!r} has shape {shape}")
                entries.setdefault(prefix + key, group.attrs[key])
    return entries


def _checked_bytes(name: str, dataset: h5py.Dataset) -> int:
    """The size of a dataset, if it is here and as large as it claims."""
    if elsewhere(dataset):
        raise ValueError(f"{name!r} keeps its values in another file")
    claimed = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    # a single number or name may lie beside the head
    if claimed > max(stored_bytes(dataset), 8192):
        raise ValueError(f"{name!r} claims {claimed} bytes, the file holds {dataset.id.get_storage_size()} of them")
    return claimed


def _real(label: str, name: str, values: Any) -> Array:
    """Real numbers, not text, truth values or objects that could be taken for some."""
    refuse_masked(values, f"{label}: {name}")
    array = np.asarray(values)
    if values is None or array.dtype.kind not in "fiu":
        raise ValueError(f"{label}: {name} must be real numbers, not {'a link' if values is None else array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


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
    share = float(beyond_walls(item.positions, problem.axes).mean())
    check_inside(share, f"{item.label}: ")
    if share > 0:
        notes.append(f"{item.label}: {100 * share:.2g} % of the particles were outside the box, moved to its walls")
    return replace(item, positions=within_walls(item.positions, problem.axes))
