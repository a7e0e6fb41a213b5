"""Particles against the mean field: gaps, rates in n, what stays as n grows, and a verdict with its false alarm."""

from __future__ import annotations

import enum
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mfpde.grid import Axis, Grid
from mfpde.lagrangian import Characteristics
from mfpde.measures import GridMeasure, Measure, RestrictedMeasure
from mfpde.particles import Cloud, Dynamics, simulate
from mfpde.problem import Problem, Reaction
from mfpde.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Comparison",
    "ExactLaw",
    "Finding",
    "ParticleRecord",
    "Quantity",
    "Verdict",
    "compare",
    "load_particles",
]

Array = NDArray[np.float64]

DIRECTIONS = 16
"""Projections of the sliced distance."""
REFINE = 8
"""Pieces that a cell of a marginal is cut into."""
RESAMPLES = 64
"""Independent samples of the mean field that give the law-of-large-numbers band, at least."""
STEP_SHARE = 0.05
"""Bias, as a fraction of an observable's scale, put down to time steps where no run with other steps says."""
DOUBT = 3.0
"""Score against a fall slower than 1/n that a significant gap needs to be called lasting."""
OUTSIDE = 0.01
"""Fraction of recorded particles outside the box above which they are refused."""
SHOWN_TIMES = 6


class Quantity(enum.Enum):
    """What is compared."""

    ENERGY = "energy"
    """``E[mu^n] - E[mu_t]``, without entropy."""
    RESPONSE = "response"
    """``u[mu^n] - u[mu_t]``, the network output in the energy's coordinates."""
    MOMENTS = "moments"
    """Mean and mean square of every coordinate; on periodic axes of its cosine and sine."""
    W1 = "W1"
    """The 1-Wasserstein distance of every marginal, on periodic axes along the circle."""
    W2 = "W2"
    """The 2-Wasserstein distance of every marginal, not on periodic axes."""
    SLICED_W2 = "sliced W2"
    """The root of the mean squared ``W2`` over 16 projections; from two dimensions on, without periodic axes."""
    MASS = "mass"
    """The mass; compared where the reaction is unbalanced."""


class Verdict(enum.Enum):
    """What the replicas say about an observable."""

    CONSISTENT = "consistent"
    """Nothing stays as n grows, and what could have been overlooked is small."""
    INCONSISTENT = "inconsistent"
    """Something stays that neither the reference's error, the time step nor chance explains."""
    UNDECIDED = "undecided"
    """The data do not tell; the reason says what would."""


# ---------------------------------------------------------------------------------------------------------------------
# particles from anywhere
# ---------------------------------------------------------------------------------------------------------------------


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


# ---------------------------------------------------------------------------------------------------------------------
# the mean field
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ExactLaw:
    """A mean field known in closed form, as a reference for `compare`.

    Parameters
    ----------
    problem : Problem
    law : callable
        ``law(t)``, a `Measure`: ``mu_t``.
    times : sequence of float
        When it is compared; the first is 0.
    shape : sequence of int, optional
        The mesh its marginals are taken on. Default: the problem's.

    Examples
    --------
    >>> import mfpde as mf
    >>> from scipy import stats
    >>> problem = mf.problems.linear_neuron()
    >>> mean, variance = problem.exact["mean"], problem.exact["variance"]
    >>> exact = mf.ExactLaw(problem, lambda t: mf.Product(theta=stats.norm(mean(t), variance(t) ** 0.5)), [0, 0.5, 1])
    """

    problem: Problem
    law: Callable[[float], Measure]
    times: Sequence[float]
    shape: Sequence[int] | None = None


class _Quantile:
    """A quantile function: linear from `low` to `high` on each of the intervals between `c`, which runs 0 to 1."""

    def __init__(self, c: Array, low: Array, high: Array) -> None:
        self.c, self.low, self.high = c, low, high

    @classmethod
    def of_points(cls, x: Array, weights: Array | None) -> _Quantile:
        if weights is None:
            x = np.sort(x)
            return cls(np.arange(len(x) + 1) / len(x), x, x)
        order = np.argsort(x, kind="stable")
        c = np.concatenate([[0.0], np.cumsum(weights[order])])
        x = x[order]
        return cls(c / c[-1], x, x)

    @classmethod
    def of_curve(cls, x: Array, c: Array) -> _Quantile:
        """From a distribution function, piecewise linear through (x, c)."""
        c = np.maximum.accumulate(c)
        c = (c - c[0]) / (c[-1] - c[0])
        keep = np.diff(c) > 0
        knots = np.concatenate([c[:-1][keep], [1.0]])
        return cls(knots, x[:-1][keep], x[1:][keep])

    def distances(self, other: _Quantile) -> tuple[float, float]:
        """``W1`` and the square of ``W2``, exactly: the difference is linear between the merged knots."""
        q = np.union1d(self.c, other.c)
        q[0], q[-1] = 0.0, 1.0
        length = np.diff(q)
        middle = 0.5 * (q[1:] + q[:-1])
        a, b = self._ends(q, middle), other._ends(q, middle)
        left, right = a[0] - b[0], a[1] - b[1]
        square = float(length @ (left * left + left * right + right * right)) / 3.0
        return float(length @ _absolute(left, right)), square

    def _ends(self, q: Array, middle: Array) -> tuple[Array, Array]:
        s = np.clip(np.searchsorted(self.c, middle, side="right") - 1, 0, len(self.low) - 1)
        slope = (self.high - self.low)[s] / (self.c[1:] - self.c[:-1])[s]
        return self.low[s] + (q[:-1] - self.c[s]) * slope, self.low[s] + (q[1:] - self.c[s]) * slope


def _absolute(left: Array, right: Array) -> Array:
    """The mean of ``|f|`` for f linear from `left` to `right`."""
    mean = 0.5 * np.abs(left + right)
    cross = left * right < 0
    if cross.any():
        a, b = left[cross], right[cross]
        mean[cross] = 0.5 * (a * a + b * b) / np.abs(a - b)
    return mean


def _circle_distance(curve: tuple[Array, Array], other: tuple[Array, Array], *, steps: bool) -> float:
    """``W1`` along a circle, ``min_c int |F - G - c| dx``, of two distribution functions over one period.

    The first is piecewise linear; the second too, or with `steps` a sum of jumps at its (sorted) points.
    """
    x = np.union1d(curve[0], other[0])
    F = np.interp(x, *curve)
    if steps:
        at = np.searchsorted(other[0], 0.5 * (x[1:] + x[:-1]), side="right")
        left = right = np.concatenate([[0.0], other[1]])[at]
    else:
        G = np.interp(x, *other)
        left, right = G[:-1], G[1:]
    left, right = F[:-1] - left, F[1:] - right
    length = np.diff(x)
    # the best c is a median; a knot of the finely cut curve is one to second order
    middle = 0.5 * (left + right)
    order = np.argsort(middle)
    mass = np.cumsum(length[order])
    c = middle[order[np.searchsorted(mass, 0.5 * mass[-1])]]
    return float(length @ _absolute(left - c, right - c))


class _Field:
    """What `compare` knows of ``mu_t`` at its times: numbers, marginals, samples.

    `density` holds masses of the cells of `grid`, or is None where no density is known; then distances are left out.
    """

    def __init__(
        self,
        problem: Problem,
        times: Array,
        grid: Grid | None,
        density: Sequence[Array] | None,
        point_values: bool,
        source: Sequence[tuple[Array, Array]] | None,
        energy: Array,
        laws: Sequence[RestrictedMeasure | None],
    ) -> None:
        self.problem, self.times, self.grid, self.energy = problem, times, grid, np.asarray(energy, dtype=float)
        self.density, self.point_values = density, point_values
        self.laws = laws
        self.axes = tuple(problem.axes)
        bound = problem.bound_energy
        if source is None:
            assert grid is not None
            assert density is not None
            centres = grid.points()
            source = [(centres, (mu * grid.cell_volume).ravel()) for mu in density]
        self.source = source
        self._points: Array | None = None
        self._marginals: dict[tuple[int, int], tuple[_Quantile, tuple[Array, Array]]] = {}
        self._moments: dict[tuple[int, int], tuple[float, float]] = {}
        self.mass = np.array([float(w.sum()) for _, w in source])
        self.response = None
        if bound.response_size > 0 and not bound.direct:
            self.response = np.stack([bound.response(x, w) for x, w in source])

    def moments(self, i: int, j: int) -> tuple[float, float]:
        if (i, j) not in self._moments:
            x, w = self.source[j]
            self._moments[i, j] = _moments(self.axes[i], x[:, i], w)
        return self._moments[i, j]

    def spread(self, i: int) -> float:
        """The largest standard deviation of a coordinate."""
        found = []
        for x, w in self.source:
            w = w / w.sum()
            mean = float(w @ x[:, i])
            found.append(float(w @ (x[:, i] - mean) ** 2))
        return math.sqrt(max(found))

    def marginal(self, i: int, j: int) -> tuple[_Quantile, tuple[Array, Array]]:
        """The quantile function of a marginal, and its distribution function as a curve."""
        if (i, j) not in self._marginals:
            self._marginals[i, j] = self._marginal(i, j)
        return self._marginals[i, j]

    def _marginal(self, i: int, j: int) -> tuple[_Quantile, tuple[Array, Array]]:
        assert self.grid is not None
        assert self.density is not None
        others = tuple(k for k in range(len(self.axes)) if k != i)
        f = np.asarray(self.density[j].sum(axis=others))
        if self.point_values:  # averages of the cells from values at their centres
            padded = np.pad(f, 1, mode="wrap" if self.axes[i].periodic else "edge")
            f = np.maximum(f + (padded[2:] - 2 * f + padded[:-2]) / 24.0, 0.0)
        faces = self.grid.faces(i)
        c = np.concatenate([[0.0], np.cumsum(f)])
        c /= c[-1]
        from scipy.interpolate import PchipInterpolator

        x = np.interp(np.arange(REFINE * len(f) + 1) / REFINE, np.arange(len(f) + 1), faces)
        curve = (x, np.clip(PchipInterpolator(faces, c)(x), 0.0, 1.0))
        return _Quantile.of_curve(*curve), curve

    def projected(self, direction: Array, j: int) -> _Quantile:
        """The quantile function of the projection on a direction.

        The masses of the cells lie at their centres, spread as widely as a cell is.
        """
        assert self.grid is not None
        assert self.density is not None
        w = self.density[j].ravel()
        keep = w > 1e-12 * w.max()
        along, w = self._centres()[keep] @ direction, w[keep]
        order = np.argsort(along, kind="stable")
        along, w = along[order], w[order] / w.sum()
        mass = np.concatenate([[0.0], np.cumsum(w)])
        moment = np.concatenate([[0.0], np.cumsum(w * along)])
        width = math.sqrt(sum((e * h) ** 2 for e, h in zip(direction, self.grid.spacing, strict=True)))

        def integral(y: Array) -> Array:  # of the distribution function
            k = np.searchsorted(along, y, side="right")
            return np.asarray(y * mass[k] - moment[k])

        low, high = along[0] - 0.5 * width, along[-1] + 0.5 * width
        x = np.linspace(low, high, min(4096, 4 * math.ceil((high - low) / width) + 1))
        return _Quantile.of_curve(x, (integral(x + 0.5 * width) - integral(x - 0.5 * width)) / width)

    def _centres(self) -> Array:
        assert self.grid is not None
        if self._points is None:
            self._points = self.grid.points()
        return self._points

    def sample(self, j: int, n: int, rng: np.random.Generator) -> Array:
        """Independent draws from ``mu_t``, normalised."""
        law = self.laws[j]
        if law is not None:
            return law.sample(n, rng)
        if self.grid is not None and self.density is not None:
            if len(self.axes) == 1:
                q = self.marginal(0, j)[0]
                u = rng.random(n)
                s = np.clip(np.searchsorted(q.c, u, side="right") - 1, 0, len(q.low) - 1)
                share = (u - q.c[s]) / (q.c[s + 1] - q.c[s])
                return np.asarray(q.low[s] + share * (q.high[s] - q.low[s]))[:, None]
            return GridMeasure(self.grid, self.density[j]).restrict(self.axes).sample(n, rng)
        x, w = self.source[j]
        return np.asarray(x[rng.choice(len(w), n, p=w / w.sum())])


def _moments(axis: Axis, x: Array, w: Array) -> tuple[float, float]:
    if axis.periodic:
        angle = (2 * math.pi / axis.length) * (x - axis.lower)
        return float(w @ np.cos(angle)), float(w @ np.sin(angle))
    return float(w @ x), float(w @ (x * x))


def _solution_field(solution: Solution, problem: Problem, times: Array) -> _Field:
    index = [solution.index(float(t)) for t in times]
    return _Field(
        problem,
        times,
        solution.grid,
        [solution.density[i] for i in index],
        solution.point_values,
        None,
        solution.energy[index],
        [problem.mu_0 if t == 0 and _starts_at_mu_0(solution, problem) else None for t in times],
    )


def _starts_at_mu_0(solution: Solution, problem: Problem) -> bool:
    """Whether the run began with the problem's own measure, up to the mesh."""
    mu_0 = problem.mu_0
    own = mu_0.point_values(solution.grid) if solution.point_values else mu_0.cells(solution.grid)
    return bool(np.abs(solution.density[0] - own).sum() * solution.grid.cell_volume < 1e-6)


def _characteristics_field(found: Characteristics, times: Array, distances: bool) -> tuple[_Field, list[str]]:
    problem, notes = found.problem, []
    source = [found.nodes_at(float(t)) for t in times]
    bound = problem.bound_energy
    energy = np.array([bound.energy(x, w) for x, w in source])
    grid, density = None, None
    d = len(problem.axes)
    if distances and d <= 2:
        grid = problem.grid(problem.shape if problem.shape is not None else (400,) if d == 1 else (96, 96))
        points = grid.points()
        density = [found.density_at(points, float(t)).reshape(grid.shape) for t in times]
        off = max(
            abs(float(mu.sum()) * grid.cell_volume / float(w.sum()) - 1)
            for mu, (_, w) in zip(density, source, strict=True)
        )
        if off > 1e-3:
            notes.append(
                f"the density of the characteristics on a mesh of {' x '.join(map(str, grid.shape))} has a mass that "
                f"is off by {off:.1g}; distances are left out (compare with a solution on a mesh)"
            )
            grid = density = None
    elif distances:
        notes.append(
            "no distances: characteristics give a density on a mesh in one and two dimensions only; "
            "compare with a solution on a mesh"
        )
    laws = [problem.mu_0 if t == 0 else None for t in times]
    return _Field(problem, times, grid, density, True, source, energy, laws), notes


def _exact_field(exact: ExactLaw, times: Array, shape: Sequence[int] | None = None) -> _Field:
    problem = exact.problem
    grid = problem.grid(shape if shape is not None else exact.shape)
    laws = [exact.law(float(t)).restrict(problem.axes) for t in times]
    count = {1: 400, 2: 60, 3: 24, 4: 12}[len(problem.axes)]
    source = [law.nodes(count) for law in laws]
    energy = np.array([problem.bound_energy.energy(x, w) for x, w in source])
    return _Field(problem, times, grid, [law.cells(grid) for law in laws], False, source, energy, laws)


# ---------------------------------------------------------------------------------------------------------------------
# observables
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Observable:
    """A name, whether its gaps have a sign, how large it is."""

    name: str
    signed: bool
    scale: float


class _Observer:
    """Evaluates all gaps of a set of weighted points against a field."""

    def __init__(self, field: _Field, quantities: Iterable[Quantity]) -> None:
        self.field = field
        self.axes = field.axes
        wanted = set(quantities)
        d = len(self.axes)
        energy = max(float(np.ptp(field.energy)), 1e-3 * float(np.abs(field.energy).max()), 1e-300)
        spread = [field.spread(i) for i in range(d)]
        self.observables: list[_Observable] = []
        add = lambda *parts: self.observables.append(_Observable(*parts))  # noqa: E731
        if Quantity.ENERGY in wanted:
            add("energy", True, energy)
        self.response = Quantity.RESPONSE in wanted and field.response is not None
        if self.response:
            assert field.response is not None
            add("response", True, max(float(np.abs(field.response).max()), 1e-300))
        if Quantity.MASS in wanted:
            add("mass", True, float(field.mass.max()))
        self.moments = Quantity.MOMENTS in wanted
        for i, axis in enumerate(self.axes):
            if not self.moments:
                break
            if axis.periodic:
                add(f"cosine of {axis.name}", True, 1.0)
                add(f"sine of {axis.name}", True, 1.0)
                continue
            root = math.sqrt(max(field.moments(i, j)[1] for j in range(len(field.times))))
            add(f"mean of {axis.name}", True, max(spread[i], 1e-3 * root, 1e-300))
            add(f"mean square of {axis.name}", True, max(spread[i] * root, 1e-3 * root**2, 1e-300))
        self.distances = set()
        self.directions = np.empty((0, d))
        if field.density is not None:
            self.distances = wanted & {Quantity.W1, Quantity.W2}
            for i, axis in enumerate(self.axes):
                for quantity in (Quantity.W1, Quantity.W2):
                    if quantity in self.distances and not (axis.periodic and quantity is Quantity.W2):
                        add(f"{quantity.value} of {axis.name}", False, max(spread[i], 1e-300))
            if Quantity.SLICED_W2 in wanted and d > 1 and not any(axis.periodic for axis in self.axes):
                self.directions = _directions(d)
                add("sliced W2", False, max(math.sqrt(sum(s * s for s in spread) / d), 1e-300))
        self._projected: dict[tuple[int, int], _Quantile] = {}

    def __call__(self, points: Array, weights: Array | None, j: int) -> dict[str, Array]:
        """Gaps (signed observables, shape (q,)) and distances (shape (1,)) at time number `j`."""
        field, n = self.field, len(points)
        w = np.full(n, 1.0 / n) if weights is None else weights
        bound = field.problem.bound_energy
        found: dict[str, Any] = {}
        names = {o.name for o in self.observables}
        u = bound.response(points, w) if self.response or "energy" in names else None
        if "energy" in names:
            found["energy"] = bound.energy(points, w, u) - field.energy[j]
        if self.response:
            assert field.response is not None
            assert u is not None
            found["response"] = u - field.response[j]
        if "mass" in names:
            found["mass"] = float(w.sum()) - field.mass[j]
        for i, axis in enumerate(self.axes):
            x = points[:, i]
            if self.moments:
                first, second = ("cosine", "sine") if axis.periodic else ("mean", "mean square")
                a, b = _moments(axis, x, w)
                a0, b0 = field.moments(i, j)
                found[f"{first} of {axis.name}"], found[f"{second} of {axis.name}"] = a - a0, b - b0
            if not self.distances:
                continue
            quantile, curve = self.field.marginal(i, j)
            if axis.periodic:
                if Quantity.W1 in self.distances:
                    order = np.argsort(x, kind="stable")
                    c = np.cumsum(w[order])
                    found[f"W1 of {axis.name}"] = _circle_distance(curve, (x[order], c / c[-1]), steps=True)
                continue
            first_, square = _Quantile.of_points(x, weights).distances(quantile)
            if Quantity.W1 in self.distances:
                found[f"W1 of {axis.name}"] = first_
            if Quantity.W2 in self.distances:
                found[f"W2 of {axis.name}"] = math.sqrt(max(square, 0.0))
        if len(self.directions):
            squares = [
                _Quantile.of_points(points @ e, weights).distances(self._along(k, j))[1]
                for k, e in enumerate(self.directions)
            ]
            found["sliced W2"] = math.sqrt(max(float(np.mean(squares)), 0.0))
        return {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in found.items()}

    def _along(self, k: int, j: int) -> _Quantile:
        if (k, j) not in self._projected:
            self._projected[k, j] = self.field.projected(self.directions[k], j)
        return self._projected[k, j]

    def between(self, other: _Field, j: int) -> dict[str, Array]:
        """The absolute difference of every observable between this field and another one."""
        field, found = self.field, {}
        for o in self.observables:
            head, _, name = o.name.rpartition(" of ")
            value: Any
            if o.name == "energy":
                value = other.energy[j] - field.energy[j]
            elif o.name == "response":
                assert field.response is not None
                assert other.response is not None
                value = other.response[j] - field.response[j]
            elif o.name == "mass":
                value = other.mass[j] - field.mass[j]
            elif o.name == "sliced W2":
                squares = [self._along(k, j).distances(other.projected(e, j))[1] for k, e in enumerate(self.directions)]
                value = math.sqrt(max(float(np.mean(squares)), 0.0))
            else:
                i = [axis.name for axis in self.axes].index(name)
                if head in ("W1", "W2"):
                    if other.density is None:
                        value = 0.0
                    elif self.axes[i].periodic:
                        value = _circle_distance(self.field.marginal(i, j)[1], other.marginal(i, j)[1], steps=False)
                    else:
                        first, square = self.field.marginal(i, j)[0].distances(other.marginal(i, j)[0])
                        value = first if head == "W1" else math.sqrt(max(square, 0.0))
                else:
                    k = 0 if head in ("mean", "cosine") else 1
                    value = other.moments(i, j)[k] - field.moments(i, j)[k]
            found[o.name] = np.abs(np.atleast_1d(np.asarray(value, dtype=float)))
        return found


def _directions(d: int) -> Array:
    """Unit vectors: evenly turned in the plane, fixed pseudo-random ones beyond."""
    if d == 2:
        angle = math.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    e = np.random.default_rng(20240101).standard_normal((DIRECTIONS, d))
    return np.asarray(e / np.linalg.norm(e, axis=1, keepdims=True))


# ---------------------------------------------------------------------------------------------------------------------
# statistics
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Finding:
    """What the replicas say about one observable. ``K`` sizes, ``m`` times, ``q`` components.

    Attributes
    ----------
    name : str
    signed : bool
        Gaps have a sign (energy, response, moments), or are distances.
    scale : float
        How large the observable is: tolerances are fractions of it.
    mean, mean_error : array, shape (K, m, q)
        The mean over replicas of the gap (the bias at n), or of the distance, and its standard error.
    mean_square, mean_square_error : array, shape (K, m)
        The mean squared gap, summed over components, and its standard error.
    resampled : array, shape (K, m)
        The same for n independent draws from ``mu_t``: the law-of-large-numbers band. At time 0 it is what the
        particles have to show.
    slope, slope_interval : array, shape (m,) and (m, 2)
        Of log mean squared gap against log n, by least squares; 95 % percentile interval of a bootstrap over the
        replicas. NaN with one size.
    limit, limit_error : array, shape (m, q)
        What is left for n to infinity and, where runs with two steps are known, for steps to zero. For distances it
        is the root of what is left of the mean square.
    step_bias : array, shape (m, q)
        The bias of the time step, from a control run with other steps; NaN without one. For distances of the mean
        square.
    uncertainty : array, shape (m, q)
        Of the reference.
    allowance : array, shape (m, q)
        What `limit` may be without any doubt about the particles: uncertainty, tolerance, remainder of the step.
        For distances, of the mean square.
    z : array, shape (m,)
        The largest excess of the bias (of the squared distance) over its allowance, in standard errors; converted to
        the normal scale from Student's t.
    spread_z : array, shape (m,)
        The score of the variance over replicas falling slower than 1/n; NaN for distances, whose `z` has it.
    verdicts : tuple of Verdict
        One for each time.
    verdict : Verdict
    reason : str
    """

    name: str
    signed: bool
    scale: float
    mean: Array
    mean_error: Array
    mean_square: Array
    mean_square_error: Array
    resampled: Array
    slope: Array
    slope_interval: Array
    limit: Array
    limit_error: Array
    step_bias: Array
    uncertainty: Array
    allowance: Array
    z: Array
    spread_z: Array
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class _Estimate:
    """A linear combination of means of independent groups: value, standard error, degrees of freedom."""

    value: float
    error: float
    freedom: float

    def __rmul__(self, sign: float) -> _Estimate:
        return _Estimate(sign * self.value, self.error, self.freedom)

    def z(self, allowance: float, *, one_sided: bool = True) -> float:
        """The excess over the allowance as a normal score, of the same tail probability as its t statistic."""
        from scipy import stats

        excess = (self.value if one_sided else abs(self.value)) - allowance
        if excess <= 0:
            return 0.0
        if not self.error > 0:
            return math.inf
        tail = float(stats.t.logsf(excess / self.error, self.freedom))
        # beyond the range of doubles a score of 37 is as good as any
        return 37.0 if tail < -690 else float(stats.norm.isf(math.exp(tail)))


def _combine(groups: Sequence[Array], floor: float) -> _Estimate:
    """The sum of the means of groups of independent values; errors after Welch and Satterthwaite."""
    value = sum(float(g.mean()) for g in groups)
    parts = np.array([float(g.var(ddof=1)) / len(g) for g in groups])
    total = float(parts.sum())
    counts = np.array([len(g) - 1 for g in groups], dtype=float)
    freedom = total**2 / float((parts**2 / counts).sum()) if total > 0 else float(counts.sum())
    return _Estimate(value, math.sqrt(total) + floor, freedom)


def _intercept(x: Array, precision: Array) -> Array:
    """Weights w of the groups' means with ``sum w y`` the value at x = 0 of the fitted line; one group: as it is."""
    if len(x) == 1:
        return np.ones(1)
    x = x / x.max()
    X = np.stack([np.ones_like(x), x], axis=1)
    return np.asarray(np.linalg.solve(X.T @ (precision[:, None] * X), X.T * precision)[0])


def _lines(x: Array, precision: Array, power: float) -> list[Array]:
    """Weights of the limit of many particles: the line in x; and, if gaps fall slower, in ``x^power``.

    The first is what a right scheme has where n is large enough. A gap is only called lasting if the others see it
    too, the last of them through the two largest sizes alone.
    """
    slow = x**power
    lines = [_intercept(x, precision), _intercept(slow, precision)]
    if len(x) > 2:
        last = np.zeros_like(x)
        last[-2:] = _intercept(slow[-2:], precision[-2:])
        lines.append(last)
    return lines


def _extrapolate(
    weights: Array,
    y: Sequence[Array],
    control: Array | None,
    first: float,
    floor: float,
    x: Array,
    draws: Sequence[Array] | None,
) -> _Estimate:
    """``sum_k w_k mean(y_k)``, plus `first` times the mean of the last y less the control; with its error.

    `draws` are samples whose means are the x, where those are not exact.
    """
    groups = [w * v for w, v in zip(weights, y, strict=True)]
    extra: list[Array] = []
    if control is not None:
        if len(control) == len(y[-1]):  # may share their starts: one group of differences
            groups[-1] = groups[-1] + first * (y[-1] - control)
        else:
            groups[-1] = groups[-1] + first * y[-1]
            extra = [-first * control]
    if draws is not None and len(x) > 1:
        slope = max(0.0, (float(y[0].mean()) - sum(float(g.mean()) for g in groups)) / x[0])
        extra += [slope * w * (x_k - d) for w, x_k, d in zip(weights, x, draws, strict=True)]
    return _combine([*groups, *extra], floor)


@dataclass(frozen=True, eq=False)
class _Data:
    """All gaps of one observable at one time: one array (R, q) for each size, resampled ones, control."""

    sizes: Array
    gaps: list[Array]
    resampled: list[Array]
    control: Array | None
    control_dt: float
    dt: float


@dataclass(frozen=True)
class _Rules:
    tolerance: float
    threshold: float
    step_known: bool

    @property
    def doubt(self) -> float:
        """The score that a gap needs against a slower fall with n; it guards the model, not the level."""
        return min(DOUBT, self.threshold)


def _slope(sizes: Array, squares: Sequence[Array], rng: np.random.Generator, count: int) -> tuple[float, Array]:
    nothing = math.nan, np.full(2, math.nan)
    means = np.array([s.mean() for s in squares])
    if len(sizes) < 2 or np.any(means <= 0):
        return nothing
    x = np.log(sizes) - np.log(sizes).mean()
    x /= x @ x
    slope = float(x @ np.log(means))
    if min(len(s) for s in squares) < 2:
        return slope, np.full(2, math.nan)
    drawn = np.zeros(count)
    for weight, s in zip(x, squares, strict=True):
        again = s[rng.integers(len(s), size=(count, len(s)))].mean(axis=1)
        drawn += weight * np.log(np.maximum(again, 1e-300))
    return slope, np.asarray(np.percentile(drawn, [2.5, 97.5]))


@dataclass(frozen=True, eq=False)
class _Judgement:
    """The outcome at one time."""

    limit: Array
    error: Array
    step: Array
    allowance: Array
    z: float
    spread_z: float
    verdict: Verdict
    reason: str


def _judge(data: _Data, signed: bool, scale: float, uncertainty: Array, rules: _Rules, at_start: bool) -> _Judgement:
    """Bias for n to infinity and dt to 0, its test, and whether the data could have shown one."""
    q = data.gaps[0].shape[1]
    used = [k for k, g in enumerate(data.gaps) if len(g) > 1]
    nan = np.full(q, math.nan)
    if not used:
        text = "one replica has no error bar; give several, with independent starts"
        return _Judgement(nan, nan, nan, nan, math.nan, math.nan, Verdict.UNDECIDED, text)
    sizes = data.sizes[used]
    gaps = [data.gaps[k] for k in used]
    counts = np.array([len(g) for g in gaps], dtype=float)
    resampled = [data.resampled[k] for k in used]
    control = data.control if data.control is not None and len(data.control) > 1 and not at_start else None
    if len(data.gaps) - 1 not in used:
        control = None
    step_known = control is not None or at_start or rules.step_known
    ratio = data.control_dt / data.dt if control is not None else math.nan
    floor = 1e-12 * scale

    if signed:
        first = 1.0 / (ratio - 1.0) if control is not None else 0.0
        x = 1.0 / sizes
        values, against = gaps, control
        precision = counts * sizes
        base = uncertainty + rules.tolerance * scale
        soft_step = STEP_SHARE * scale
        single = np.sqrt(np.mean(resampled[-1] ** 2, axis=0))
        bar = 0.5 * math.sqrt(float(np.mean(np.sum(gaps[0] ** 2, axis=1))))
    else:
        first = 1.0 / (ratio**2 - 1.0) if control is not None else 0.0
        x = np.array([float(np.mean(r**2)) for r in resampled])
        values, against = [g**2 for g in gaps], None if control is None else control**2
        if not np.all(x > 0):  # atoms: draws have no distance
            x = 1.0 / sizes * scale**2
        precision = counts / x**2
        root = math.sqrt(float(values[-1].mean()))
        e = uncertainty + rules.tolerance * scale
        base = e**2 + 2 * e * root
        soft_step = (STEP_SHARE * scale) ** 2 + 2 * STEP_SHARE * scale * root
        single = np.full(q, 3.0 * x[-1])
        bar = 0.25 * float(values[0].mean())
        floor = 1e-12 * scale**2

    # the slow line is that of gaps that fall like n^{-1/4}, their squares like n^{-1/2}
    lines = _lines(x, precision, 0.25 if signed else 0.5)
    limit, error, step, allowance = (np.empty(q) for _ in range(4))
    z = lasting = 0.0
    for c in range(q):
        y = [v[:, c] for v in values]
        step[c] = math.nan
        if against is not None:
            step[c] = first * float(against[:, c].mean() - y[-1].mean())
        draws = (
            [r[:, 0] ** 2 for r in resampled]
            if not signed and not np.any([np.ptp(r) == 0 for r in resampled])
            else None
        )
        estimates = [
            _extrapolate(w, y, None if against is None else against[:, c], first, floor, x, draws if k == 0 else None)
            for k, w in enumerate(lines)
        ]
        remainder = min(abs(step[c]) / 4, step[c] ** 2 / (scale if signed else scale**2)) if step_known else 0.0
        remainder = 0.0 if math.isnan(remainder) else remainder
        best = estimates[0]
        limit[c], error[c], allowance[c] = best.value, best.error, base[c] + remainder
        soft = (0.0 if step_known else soft_step) + (float(single[c]) if len(x) == 1 else 0.0)
        sign = math.copysign(1.0, best.value)
        z = max(z, best.z(allowance[c], one_sided=not signed))
        scores = [(sign * e if signed else e).z(allowance[c] + soft) for e in estimates]
        if scores[0] > lasting and min(scores) > rules.doubt:
            lasting = scores[0]

    spread_z, spread_lasting = math.nan, 0.0
    if signed:
        spread_z, spread_lasting = _spread(gaps, control, ratio, sizes, counts, scale, rules, step_known)

    if signed:
        excess = max(0.0, float(np.sum(limit**2 - error**2)))
        size, upper = math.sqrt(excess), math.sqrt(excess) + 2 * math.sqrt(float(np.sum(error**2)))
        allowed = math.sqrt(float(np.sum(allowance**2)))
    else:
        size, upper = max(0.0, float(limit[0])), max(0.0, float(limit[0])) + 2 * float(error[0])
        allowed = float(allowance[0])
        limit, error = _root(limit, error)
    shown = math.sqrt(max(size, 0.0)) if not signed else size
    last = int(sizes[-1])
    if max(lasting, spread_lasting) > rules.threshold:
        verdict = Verdict.INCONSISTENT
        if spread_lasting > lasting:
            reason = f"replicas differ by an amount that does not fall with n (z = {spread_lasting:.1f})"
        else:
            shape = "stays as n grows" if len(x) > 1 else f"is there at n = {last}"
            reason = f"a gap of {shown:.3g} {shape} (z = {lasting:.1f})"
            if not step_known:
                reason += ", more than time steps are given"
    elif z > rules.threshold or (signed and spread_z > rules.threshold):
        verdict = Verdict.UNDECIDED
        if not step_known:
            remedy = "it may be the time step: add a run with other steps and give both their dt"
        elif len(x) == 1:
            remedy = "one size cannot tell a gap that falls with n from one that stays: add sizes"
        else:
            remedy = "a slow fall with n could explain it: add larger sizes or replicas"
        what = z if z > rules.threshold else spread_z
        reason = f"a gap of {shown:.3g} is seen (z = {what:.1f}); {remedy}"
    elif len(x) == 1:
        verdict = Verdict.UNDECIDED
        reason = f"nothing speaks against it at n = {last}; whether the gap falls with n needs two sizes"
    elif upper > max(bar, allowed):
        verdict = Verdict.UNDECIDED
        a, b = (upper, 2 * bar) if signed else (math.sqrt(upper), math.sqrt(4 * bar))
        gap = f"a gap of {b:.2g} at n = {int(sizes[0])}"
        reason = f"up to {a:.2g} could stay unseen, beside {gap}: add replicas or larger sizes"
    else:
        verdict = Verdict.CONSISTENT
        a = max(upper, 0.0) if signed else math.sqrt(max(upper, 0.0))
        reason = f"nothing stays as n grows; what could be unseen is below {max(a, 0.0):.2g}"
    return _Judgement(limit, error, step, allowance, z, spread_z, verdict, reason)


def _root(square: Array, error: Array) -> tuple[Array, Array]:
    """The root of a squared distance that may come out negative, and its error."""
    root = np.sqrt(np.maximum(square, 0.0))
    return root, np.minimum(error / np.maximum(2 * root, 1e-300), np.sqrt(error))


def _spread(
    gaps: Sequence[Array],
    control: Array | None,
    ratio: float,
    sizes: Array,
    counts: Array,
    scale: float,
    rules: _Rules,
    step_known: bool,
) -> tuple[float, float]:
    """Scores of a variance over replicas that falls slower than ``1/n``, and than ``n^{-1/2}``."""

    def squares(g: Array) -> Array:
        centred = np.sum((g - g.mean(axis=0)) ** 2, axis=1)
        return np.asarray(centred * (len(g) / (len(g) - 1)))

    if len(sizes) == 1:
        return 0.0, 0.0
    y = [squares(g) for g in gaps]
    allowance = (rules.tolerance * scale) ** 2
    if not step_known:
        allowance += (STEP_SHARE * scale) ** 2
    if control is not None:  # noise of the steps (batches) is a variance of first order in dt
        a, first = squares(control), 1.0 / (ratio - 1.0)
        correction = first * float(a.mean() - y[-1].mean())
        allowance += min(abs(correction) / 4, correction**2 / scale**2)
        if len(a) == len(y[-1]):
            y[-1] = y[-1] + first * (y[-1] - a)
        else:
            y[-1] = y[-1] * (1 + first) - first * a.mean()
    y[-1] = y[-1] - allowance
    means = np.array([v.mean() for v in y])
    if means[-1] <= 0 or np.any(means <= 0):
        return 0.0, 0.0

    def score(used: slice, power: float) -> float:
        """That of a slope above ``-power``."""
        x = np.log(sizes[used]) - np.log(sizes[used]).mean()
        x = x / (x @ x)
        slope = float(x @ np.log(means[used]))
        groups = [c * v / m for c, v, m in zip(x, y[used], means[used], strict=True)]
        fall = _combine(groups, 1e-12)
        return _Estimate(slope + power, fall.error, fall.freedom).z(0.0)

    found = score(slice(None), 1.0)
    slow = min(score(slice(None), 0.5), score(slice(-2, None), 0.5))
    return found, found if slow > rules.doubt else 0.0


# ---------------------------------------------------------------------------------------------------------------------
# the result
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`; printing it gives the table.

    Attributes
    ----------
    name : str
        The problem's.
    times : array, shape (m,)
    sizes : tuple of int
        ``n``, increasing.
    replicas : tuple of int
        Their number at each size.
    dt, control_dt : float or None
        The time step, and that of the control run.
    findings : dict of Finding
        One for each observable.
    threshold : float
        The z-score beyond which something is significant: a normal score at level ``false_alarm / tests``.
    tests : int
        How many tests that covers (observables, their components, times): Bonferroni.
    false_alarm : float
        The probability that a right scheme fails anywhere, at most (as far as means of replicas are Gaussian).
    reference_error : str
        Where the reference's uncertainty comes from.
    notes : tuple of str
        What else to know.
    """

    name: str
    times: Array
    sizes: tuple[int, ...]
    replicas: tuple[int, ...]
    dt: float | None
    control_dt: float | None
    findings: dict[str, Finding]
    threshold: float
    tests: int
    false_alarm: float
    reference_error: str
    scheme: str = ""
    effective_size: Array = field(default_factory=lambda: np.empty((0, 0)))
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Finding:
        """The finding on an observable.

        Raises
        ------
        KeyError
            With the names there are.
        """
        if name not in self.findings:
            raise KeyError(f"no observable {name!r}; compared were: {', '.join(self.findings)}")
        return self.findings[name]

    @property
    def verdict(self) -> Verdict:
        """Inconsistent if an observable is; otherwise undecided if one is."""
        found = {finding.verdict for finding in self.findings.values()}
        for verdict in (Verdict.INCONSISTENT, Verdict.UNDECIDED):
            if verdict in found:
                return verdict
        return Verdict.CONSISTENT

    def __str__(self) -> str:
        ns = " ".join(f"{n} (x {r})" for n, r in zip(self.sizes, self.replicas, strict=True))
        step = "unknown" if self.dt is None else f"{self.dt:g}"
        control = "none" if self.control_dt is None else f"dt = {self.control_dt:g} at n = {self.sizes[-1]}"
        lines = [
            f"Comparison of particles with {self.name!r}: {self.verdict.value}",
            f"  particles   n = {ns}, dt = {step}; control of the step: {control}",
            *([f"  scheme      {self.scheme}"] if self.scheme else []),
            f"  times       {', '.join(f'{t:g}' for t in self.times)}",
            f"  reference   {self.reference_error}",
            f"  test        |z| > {self.threshold:.2f}: a right scheme fails once in {1 / self.false_alarm:.4g} "
            f"comparisons, {self.tests} tests counted",
            "",
        ]
        rows: list[tuple[str, ...]] = [
            (
                "observable",
                "verdict",
                "slope in n",
                "rms gap, sizes",
                "iid",
                "bias, n to inf",
                "of the step",
                "z",
                "at t",
            )
        ]
        for f in self.findings.values():
            j = self._worst(f)
            k = int(np.argmax(np.abs(f.limit[j]))) if np.all(np.isfinite(f.limit[j])) else 0
            low, high = f.slope_interval[-1]
            slope = "-" if math.isnan(f.slope[-1]) else f"{f.slope[-1]:.2f} [{low:.2f}, {high:.2f}]"
            gaps = f"{math.sqrt(f.mean_square[0, -1]):.2g} .. {math.sqrt(f.mean_square[-1, -1]):.2g}"
            step_bias = f.step_bias[j, k]
            if not f.signed:
                step_bias = math.copysign(math.sqrt(abs(step_bias)), step_bias)
            score = np.nanmax([f.z[j], f.spread_z[j]]) if np.isfinite(f.z[j]) else math.nan
            rows.append(
                (
                    f.name,
                    f.verdict.value,
                    slope,
                    gaps,
                    f"{math.sqrt(f.resampled[-1, -1]):.2g}",
                    f"{f.limit[j, k]:.2g} +- {f.limit_error[j, k]:.1g}",
                    "-" if math.isnan(step_bias) else f"{step_bias:.2g}",
                    "-" if math.isnan(score) else f"{score:.1f}",
                    f"{self.times[j]:g}",
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  " + "  ".join(cells).rstrip())
        lines.append("")
        lines += [f"  {f.name}: {f.reason}" for f in self.findings.values() if f.verdict is not Verdict.CONSISTENT]
        lines += [f"  note: {text}" for text in self.notes]
        lines.append(
            f"  slopes, gaps and iid (n draws from mu_t, n = {self.sizes[-1]}) at t = {self.times[-1]:g}; "
            "bias, step and z where z is largest"
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Comparison with {self.name!r}: {self.verdict.value}, {len(self.findings)} observables>"

    def _worst(self, f: Finding) -> int:
        score = np.fmax(np.nan_to_num(f.z, nan=-1.0), np.nan_to_num(f.spread_z, nan=-1.0))
        return int(np.argmax(score)) if score.max() > 0 else len(self.times) - 1

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as plain lists; what is not a number is None."""

        def plain(value: Any) -> Any:
            if isinstance(value, enum.Enum):
                return value.value
            if isinstance(value, np.ndarray):
                return plain(value.tolist())
            if isinstance(value, (list, tuple)):
                return [plain(v) for v in value]
            if isinstance(value, Mapping):
                return {str(k): plain(v) for k, v in value.items()}
            if isinstance(value, float) and not math.isfinite(value):
                return None
            if isinstance(value, np.generic):
                return plain(value.item())
            return value

        parts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "findings"}
        found = {name: {key: getattr(f, key) for key in f.__dataclass_fields__} for name, f in self.findings.items()}
        result: dict[str, Any] = plain({"verdict": self.verdict, **parts, "findings": found})
        return result

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The numbers as JSON text, also written to `path` if one is given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def plot(self, path: str | os.PathLike[str] | None = None, *, t: float | None = None) -> Figure:
        """Root mean squared gap against n at a time (default: the last), a panel for each observable.

        Points with bars of two standard errors: the particles, and a line of the fitted slope. Dashed: independent
        draws from ``mu_t``.

        Parameters
        ----------
        path : path, optional
            Where to write the figure.
        t : float, optional
            One of `times`.
        """
        from mfpde.plotting import BLUE, GREEN, GREY, ORANGE, VERMILION, _dress, _figure

        j = len(self.times) - 1 if t is None else int(np.argmin(np.abs(self.times - t)))
        if t is not None and abs(self.times[j] - t) > 1e-9 * max(1.0, abs(t)):
            raise ValueError(f"t = {t:g} was not compared; the times are {', '.join(f'{s:g}' for s in self.times)}")
        found = list(self.findings.values())
        columns = min(3, len(found))
        rows = -(-len(found) // columns)
        figure = _figure(4.2 * columns, 3.1 * rows + 0.5)
        panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
        colours = {Verdict.CONSISTENT: GREEN, Verdict.INCONSISTENT: VERMILION, Verdict.UNDECIDED: ORANGE}
        n = np.array(self.sizes, dtype=float)
        for ax, f in zip(panels, found, strict=False):
            gap = np.sqrt(f.mean_square[:, j])
            error = f.mean_square_error[:, j] / np.maximum(2 * gap, 1e-300)
            ok = gap > 0
            bars = np.stack([np.minimum(2 * error, 0.9 * gap), 2 * error])
            _dress(ax)
            ax.set_xscale("log")
            if ok.any():
                ax.errorbar(n[ok], gap[ok], yerr=np.nan_to_num(bars[:, ok]), fmt="o", color=BLUE, capsize=3, ms=5)
                ax.set_yscale("log")
            band = np.sqrt(f.resampled[:, j])
            if np.any(band > 0):
                ax.plot(n, np.where(band > 0, band, np.nan), "--", color=GREY, lw=1.2, label="independent draws")
            if ok.all() and np.isfinite(f.slope[j]):
                middle = np.exp(np.mean(np.log(f.mean_square[:, j])))
                line = middle * (n / np.exp(np.mean(np.log(n)))) ** f.slope[j]
                ax.plot(
                    n,
                    np.sqrt(line),
                    "-",
                    color=BLUE,
                    lw=1.0,
                    alpha=0.6,
                    label=f"its square falls like $n^{{{f.slope[j]:.2f}}}$",
                )
            ax.set_title(f"{f.name}: {f.verdict.value}", fontsize=10, color=colours[f.verdict])
            ax.set_xlabel("particles n", fontsize=9)
            if ax.get_legend_handles_labels()[0]:
                ax.legend(fontsize=8, frameon=False)
        for ax in panels[len(found) :]:
            ax.set_visible(False)
        for ax in panels[::columns]:
            ax.set_ylabel("root mean squared gap", fontsize=9)
        figure.suptitle(f"{self.name}, t = {self.times[j]:.4g}: {self.verdict.value}", fontsize=12)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


# ---------------------------------------------------------------------------------------------------------------------
# compare
# ---------------------------------------------------------------------------------------------------------------------


def compare(
    reference: Solution | Characteristics | ExactLaw,
    particles: Cloud | ParticleRecord | Sequence[Cloud | ParticleRecord] | None = None,
    *,
    sizes: Sequence[int] = (100, 1000, 10_000),
    replicas: int = 32,
    dynamics: Dynamics | Sequence[Dynamics] | None = None,
    dt: float = 1e-2,
    control: bool = True,
    times: Sequence[float] | None = None,
    quantities: Sequence[Quantity] | None = None,
    uncertainty: Solution | Characteristics | float | None = None,
    tolerance: float = 1e-3,
    false_alarm: float = 1e-3,
    bootstrap: int = 2000,
    seed: int = 0,
    workers: int = 1,
    progress: bool | None = None,
) -> Comparison:
    r"""Do particles converge to the mean field, and how fast?

    For every observable, size and time the gap to the reference is averaged over independent replicas. Its mean is
    the bias at n, its mean square falls like ``1/n`` for a right scheme. What counts is what *stays*: a right scheme
    has ``gap = c/n + O(dt)``, a wrong one a bias that does not fall with n and does not vanish with the step.

    Parameters
    ----------
    reference : Solution, Characteristics or ExactLaw
        The mean field. Its `problem` must be known.
    particles : Cloud, ParticleRecord or sequence of them, optional
        Your own. Records with the same n and dt are replicas of each other. Default: particles are simulated.
    sizes, replicas, dynamics, dt, seed, workers
        Of the simulations; see `mfpde.particles.simulate`. `dt` is shortened so that all times are multiples of it.
    control : bool
        Whether the largest size is run a second time, with steps of twice the length, to know the bias of the step
        (half as much work again at that size).
    times : sequence of float, optional
        Where to compare. Default: up to six of the reference's save times, or those that your records share with it.
    quantities : sequence of Quantity, optional
        Default: all that apply.
    uncertainty : Solution, Characteristics or float, optional
        What is known about the reference's error: another solution of the same problem with the same times, whose
        difference counts; or a fraction of each observable's scale. Default: a solution is computed on half the cells
        and its whole difference counts; of characteristics, their own estimate; an exact law has none.
    tolerance : float
        Bias that does not matter, as a fraction of the observable's scale (the change of the energy, the largest
        response, the standard deviation of a coordinate).
    false_alarm : float
        The probability, at most, that a right scheme is called inconsistent by chance.
    bootstrap : int
        Draws for the interval of the slope.
    progress : bool, optional
        Progress bars of the simulations.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        For arguments that do not fit, a reference without its problem, records that share no time with it, or that
        have particles outside the box (more than 1 %; fewer are moved to the wall, and a note says so).

    Notes
    -----
    **The test.** The gap for n to infinity is the intercept of a weighted line in ``1/n`` (for distances: of the mean
    square in the mean square of n independent draws, which absorbs logarithms), plus the correction by the control
    run; standard errors come from the replicas, degrees of freedom after Welch and Satterthwaite. It is compared with
    an allowance: the reference's uncertainty, the tolerance, and the second-order rest of the step. For signed
    observables the variance over replicas has to fall as well: common noise, such as that of mini-batches, does not
    average out.

    *Inconsistent* means that the excess is beyond the threshold, a normal score at level ``false_alarm`` divided by
    the number of tests (all observables, components and times), and beyond a score of 3 also if gaps fell like
    ``n^{-1/4}`` only, through all sizes and through the two largest: a slow fall is not taken for a gap that stays.
    *Consistent* means no excess, and that a bias of half the gap at the smallest size would have been seen.
    Everything else is *undecided*: one size, one replica, too few replicas, or a significant gap that time steps (5 %
    of the scale, without a control run) or a slow fall could explain.

    **Good values.** Sizes over a factor of ten or more, 32 replicas. Replicas of one seed are no replicas. With
    weights, look at the effective sample size: few heavy particles are a small n.

    Examples
    --------
    >>> import mfpde as mf
    >>> solution = mf.solve(mf.problems.linear_neuron(), progress=False)
    >>> found = mf.compare(solution, sizes=[100, 400], replicas=16, dt=0.02, progress=False)
    >>> found["response"].verdict is not mf.Verdict.INCONSISTENT
    True
    """
    if not isinstance(reference, (Solution, Characteristics, ExactLaw)):
        raise ValueError(f"the reference must be a Solution, Characteristics or ExactLaw, not {reference!r}")
    problem = reference.problem
    if problem is None:
        raise ValueError("the solution does not know its problem; load it with mfpde.load(path, problem=problem)")
    _check_numbers(sizes, replicas, tolerance, false_alarm, bootstrap)
    chosen = _quantities(quantities, problem)
    notes: list[str] = []
    known = np.asarray(reference.times, dtype=float)
    records: list[ParticleRecord] | None = None
    if particles is not None:
        given = [particles] if isinstance(particles, (Cloud, ParticleRecord)) else list(particles)
        records = [_record(item, problem, notes) for item in given]
        if not records:
            raise ValueError("no particles were given; leave particles= out to simulate some")
    at = _times(known, times, records, reference)

    distances = bool(chosen & {Quantity.W1, Quantity.W2, Quantity.SLICED_W2})
    if isinstance(reference, Solution):
        truth = _solution_field(reference, problem, at)
    elif isinstance(reference, Characteristics):
        truth, more = _characteristics_field(reference, at, distances)
        notes += more
    else:
        truth = _exact_field(reference, at)
    observer = _Observer(truth, chosen)
    if not observer.observables:
        raise ValueError(f"none of {', '.join(q.value for q in chosen)} exists for this problem and reference")
    errors, error_text = _uncertainty(reference, uncertainty, observer, at)

    step: float | None
    control_step: float | None = None
    scheme = ""
    if records is None:
        groups, control_values, step, control_step, scheme, effective = _simulated(
            problem, observer, at, sizes, replicas, dynamics, dt, control, seed, workers, progress
        )
    else:
        groups, control_values, step, control_step, effective, more = _recorded(records, observer, at)
        notes += more
    ns = sorted(groups)
    resampled = _resampled(observer, ns, max(RESAMPLES, replicas), seed)

    tests = sum(len(at) * (groups[ns[0]][o.name].shape[2] + o.signed) for o in observer.observables)
    from scipy import stats

    rules = _Rules(tolerance, float(stats.norm.isf(0.5 * false_alarm / tests)), step_known=False)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    findings = {}
    for o in observer.observables:
        findings[o.name] = _finding(
            o,
            at,
            np.array(ns, dtype=float),
            [groups[n][o.name] for n in ns],
            [resampled[n][o.name] for n in ns],
            None if control_values is None else control_values[o.name],
            step,
            control_step,
            np.stack([errors[j][o.name] for j in range(len(at))]),
            rules,
            rng,
            bootstrap,
        )
    return Comparison(
        name=problem.name,
        times=at,
        sizes=tuple(ns),
        replicas=tuple(len(groups[n][observer.observables[0].name]) for n in ns),
        dt=step,
        control_dt=control_step,
        findings=findings,
        threshold=rules.threshold,
        tests=tests,
        false_alarm=false_alarm,
        reference_error=error_text,
        scheme=scheme,
        effective_size=np.array([effective[n] for n in ns]),
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_numbers(sizes: Sequence[int], replicas: int, tolerance: float, false_alarm: float, bootstrap: int) -> None:
    for name, values, least in (("sizes", sizes, 2), ("replicas", [replicas], 1), ("bootstrap", [bootstrap], 100)):
        if len(values) == 0:
            raise ValueError(f"{name} is empty; give at least one")
        for value in values:
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: integers of at least {least}, not {value!r}")
    if len(set(sizes)) != len(sizes):
        raise ValueError(f"sizes {list(sizes)} repeat; give each once")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is a fraction in [0, 1), not {tolerance!r}")
    if not 0 < false_alarm < 0.5:
        raise ValueError(f"false_alarm is a probability in (0, 0.5), not {false_alarm!r}")


def _quantities(wanted: Sequence[Quantity] | None, problem: Problem) -> set[Quantity]:
    if wanted is None:
        unbalanced = problem.reaction is Reaction.UNBALANCED or problem.reinjection is not None
        return {q for q in Quantity if q is not Quantity.MASS or unbalanced}
    for q in wanted:
        if not isinstance(q, Quantity):
            raise ValueError(f"quantities are members of mfpde.Quantity, such as Quantity.ENERGY, not {q!r}")
    return set(wanted)


def _times(
    known: Array,
    wanted: Sequence[float] | None,
    records: Sequence[ParticleRecord] | None,
    reference: Solution | Characteristics | ExactLaw,
) -> Array:
    def among(values: Array, t: float) -> bool:
        return bool(np.any(np.abs(values - t) <= 1e-6 * max(1.0, abs(t))))

    if records is not None:
        shared = [t for t in known if all(among(record.times, t) for record in records)]
        if not shared:
            theirs = ", ".join(f"{t:g}" for t in records[0].times[:8])
            raise ValueError(
                f"the records share no save time with the reference, which has {', '.join(f'{t:g}' for t in known)} "
                f"({records[0].label}: {theirs}); solve with save=[the times of the records]"
            )
        known = np.array(shared)
    if wanted is None:
        pick = np.unique(np.round(np.linspace(0, len(known) - 1, min(len(known), SHOWN_TIMES))).astype(int))
        return np.asarray(known[pick])
    result = []
    for t in np.unique(np.asarray(wanted, dtype=float)):
        if not among(known, float(t)):
            raise ValueError(
                f"t = {t:g} is not among the times {', '.join(f'{s:g}' for s in known)} "
                "of the reference (and the records); solve with save="
            )
        result.append(float(known[np.argmin(np.abs(known - t))]))
    if not result:
        raise ValueError("times is empty; leave it out, or name at least one")
    return np.array(result)


def _uncertainty(
    reference: Solution | Characteristics | ExactLaw,
    given: Solution | Characteristics | float | None,
    observer: _Observer,
    at: Array,
) -> tuple[list[dict[str, Array]], str]:
    """For each time the reference's uncertainty of every observable, and where it comes from."""
    problem, truth = observer.field.problem, observer.field
    sizes = {o.name: 1 for o in observer.observables}
    if truth.response is not None:
        sizes["response"] = truth.response.shape[1]

    def fraction(value: float) -> list[dict[str, Array]]:
        return [{o.name: np.full(sizes[o.name], value * o.scale) for o in observer.observables} for _ in at]

    other: _Field
    if isinstance(given, (Solution, Characteristics)):
        if isinstance(given, Solution):
            other = _solution_field(given, problem, at)
            text = f"error from a second solution, on {' x '.join(map(str, given.grid.shape))} cells"
        else:
            other, _ = _characteristics_field(given, at, bool(observer.distances))
            text = "error from characteristics"
    elif given is not None:
        if not (isinstance(given, (int, float)) and 0 <= given < 1):
            raise ValueError(f"uncertainty is a fraction in [0, 1), a Solution or Characteristics, not {given!r}")
        return fraction(float(given)), f"error given as {given:g} of each observable's scale"
    elif isinstance(reference, Characteristics):
        value = float(reference.error_estimate)
        return fraction(value), f"error of the characteristics' own estimate, {value:.1g} of each scale"
    elif isinstance(reference, ExactLaw):
        shape = truth.grid.shape if truth.grid is not None else ()
        other = _exact_field(reference, at, [max(4, n // 2) for n in shape])
        text = "an exact law; error of its mesh from half the cells"
    else:
        coarse = _coarser(reference, problem, at)
        other = _solution_field(coarse, problem, at)
        text = f"error from a run on half the cells ({' x '.join(map(str, coarse.grid.shape))}), an estimate from above"
    return [observer.between(other, j) for j in range(len(at))], text


def _coarser(solution: Solution, problem: Problem, at: Array) -> Solution:
    """The same run on half the cells."""
    from mfpde import transport
    from mfpde.solver import solve

    shape = [max(8, -(-n // 2)) for n in solution.grid.shape]
    name = str(solution.configuration.get("scheme", "")).partition("(")[0]
    scheme = getattr(transport, name)() if name in ("Upwind", "Muscl", "Weno5") else None
    end = float(at[-1])
    if end == 0:
        end = min(problem.t_end, 1e-3)
    initial = None
    if not _starts_at_mu_0(solution, problem):
        initial = GridMeasure(solution.grid, np.asarray(solution.density[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the fine run said is known, the coarse one is only an error bar
        coarse = solve(
            problem,
            shape,
            end,
            scheme=scheme,
            save=[float(t) for t in at if t > 0] or [end],
            initial=initial,
            throw=False,
            progress=False,
        )
    if not coarse.result.ok:
        raise ValueError(
            f"the run on half the cells, which tells the solution's error, failed ({coarse.result.value}); "
            "pass uncertainty=, a second solution or a fraction"
        )
    return coarse


def _step(times: Array, limit: float) -> tuple[float, float]:
    """The largest step up to `limit` of whose double all times are multiples; and the last time."""
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"dt must be finite and positive, not {limit!r}")
    end = float(times[-1])
    if end == 0:
        return limit, limit
    first = max(1, math.ceil(end / (2 * limit) * (1 - 1e-9)))
    for count in range(first, 20 * first + 2000):
        k = times * (count / end)
        if np.all(np.abs(k - np.round(k)) <= 4e-7):
            return end / (2 * count), end
    raise ValueError(
        f"no step near {limit:g} divides all times {', '.join(f'{t:g}' for t in times)}; give times= that one does"
    )


Groups = dict[int, dict[str, Array]]


def _simulated(
    problem: Problem,
    observer: _Observer,
    at: Array,
    sizes: Sequence[int],
    replicas: int,
    dynamics: Dynamics | Sequence[Dynamics] | None,
    limit: float,
    control: bool,
    seed: int,
    workers: int,
    progress: bool | None,
) -> tuple[Groups, dict[str, Array] | None, float, float | None, str, dict[int, Array]]:
    dt, end = _step(at, limit)
    names: list[str] = []

    def run(n: int, step: float, key: int) -> tuple[dict[str, Array], Array]:
        # sizes are independent of each other; the control run shares starts and seeds with the run it controls
        own = int(np.random.SeedSequence([seed, 1, key]).generate_state(1)[0])
        cloud = simulate(
            problem,
            n,
            dynamics=dynamics,
            dt=step,
            t_end=end,
            save=[float(t) for t in at],
            seed=own,
            replicas=replicas,
            workers=workers,
            progress=progress,
        )
        parts = (cloud.scheme.drift, cloud.scheme.noise, cloud.scheme.reaction)
        names[:] = [repr(part) for part in parts if part is not None]
        index = [int(np.argmin(np.abs(cloud.times - t))) for t in at]
        assert cloud.positions is not None
        weights = cloud.weights
        if weights is None and not np.all(cloud.mass == 1.0):
            weights = np.repeat(cloud.mass[:, :, None] / n, n, axis=2)
        return _observe(observer, cloud.positions, weights, index), cloud.ess[:, index].mean(axis=0)

    groups: Groups = {}
    effective = {}
    order = sorted(int(n) for n in sizes)
    for key, n in enumerate(order):
        groups[n], effective[n] = run(n, dt, key)
    coarse = run(order[-1], 2 * dt, len(order) - 1)[0] if control and at[-1] > 0 else None
    return groups, coarse, dt, 2 * dt if coarse is not None else None, ", ".join(names), effective


def _observe(observer: _Observer, positions: Array, weights: Array | None, index: Sequence[int]) -> dict[str, Array]:
    """All gaps: for every observable an array (R, m, q)."""
    rows = [
        [observer(x[i], None if weights is None else weights[r, i], j) for j, i in enumerate(index)]
        for r, x in enumerate(positions)
    ]
    return {
        o.name: np.stack([np.stack([found[o.name] for found in row]) for row in rows]) for o in observer.observables
    }


def _resampled(observer: _Observer, sizes: Sequence[int], count: int, seed: int) -> Groups:
    """Gaps of independent draws from ``mu_t``."""
    groups: Groups = {}
    for key, n in enumerate(sizes):
        rows = []
        for j in range(len(observer.field.times)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, 3, key, j]))
            mass = observer.field.mass[j]
            # draws carry the mass of the field: what remains is sampling
            w = None if abs(mass - 1.0) < 1e-9 else np.full(n, mass / n)
            rows.append([observer(observer.field.sample(j, n, rng), w, j) for _ in range(count)])
        groups[n] = {
            o.name: np.stack([np.stack([found[o.name] for found in row]) for row in rows], axis=1)
            for o in observer.observables
        }
    return groups


def _record(item: Cloud | ParticleRecord, problem: Problem, notes: list[str]) -> ParticleRecord:
    """Check and put into the box."""
    if isinstance(item, Cloud):
        if item.positions is None:
            raise ValueError("the cloud has no positions; pass keep_positions=True to simulate")
        weights = item.weights
        if weights is None and not np.all(item.mass == 1.0):
            weights = np.repeat(item.mass[:, :, None] / item.n, item.n, axis=2)
        item = ParticleRecord(item.positions, item.times, weights, item.dt, "cloud")
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


def _recorded(
    records: Sequence[ParticleRecord], observer: _Observer, at: Array
) -> tuple[Groups, dict[str, Array] | None, float | None, float | None, dict[int, Array], list[str]]:
    """Replicas of one n and dt together; of two steps the shorter one counts and the longer one is its control."""
    notes: list[str] = []
    found: dict[float | None, Groups] = {}
    ess: dict[int, list[Array]] = {}
    for record in records:
        index = [int(np.argmin(np.abs(record.times - t))) for t in at]
        values = _observe(observer, record.positions, record.weights, index)
        group = found.setdefault(record.dt, {})
        if record.n in group:
            group[record.n] = {name: np.concatenate([group[record.n][name], v]) for name, v in values.items()}
        else:
            group[record.n] = values
        w = np.ones(record.positions.shape[:3]) if record.weights is None else record.weights
        w = w[:, index]
        ess.setdefault(record.n, []).append(np.mean(w.sum(axis=2) ** 2 / (w**2).sum(axis=2), axis=0))
    steps = sorted(dt for dt in found if dt is not None)
    if None in found and steps:
        raise ValueError("some records have a dt and some have none; give all of them theirs, or none")
    if len(steps) > 2:
        raise ValueError(f"records with {len(steps)} different dt {steps}; give those of one, or of two for a control")
    effective = {n: np.mean(rows, axis=0) for n, rows in ess.items()}
    if not steps:
        notes.append("the records have no dt: a bias of time steps cannot be told from one of the scheme")
        return found[None], None, None, None, effective, notes
    groups = found[steps[0]]
    if len(steps) == 1:
        notes.append("one dt: a bias of time steps cannot be told from one of the scheme; add records of another dt")
        return groups, None, steps[0], None, effective, notes
    largest = max(groups)
    if largest not in found[steps[1]]:
        raise ValueError(
            f"the records with dt = {steps[1]:g} control the step at the largest n = {largest}, "
            f"but have n = {', '.join(map(str, sorted(found[steps[1]])))}; record them with that n"
        )
    return groups, found[steps[1]][largest], steps[0], steps[1], effective, notes


def _finding(
    o: _Observable,
    at: Array,
    sizes: Array,
    gaps: Sequence[Array],
    resampled: Sequence[Array],
    control: Array | None,
    dt: float | None,
    control_dt: float | None,
    uncertainty: Array,
    rules: _Rules,
    rng: np.random.Generator,
    bootstrap: int,
) -> Finding:
    judged, slopes, intervals = [], [], []
    with np.errstate(under="ignore"):
        for j, t in enumerate(at):
            data = _Data(
                sizes,
                [g[:, j] for g in gaps],
                [g[:, j] for g in resampled],
                None if control is None else control[:, j],
                math.nan if control_dt is None else control_dt,
                math.nan if dt is None else dt,
            )
            judged.append(_judge(data, o.signed, o.scale, uncertainty[j], rules, at_start=bool(t == 0)))
            slope, interval = _slope(sizes, [np.sum(g[:, j] ** 2, axis=1) for g in gaps], rng, bootstrap)
            slopes.append(slope)
            intervals.append(interval)
        squares = [np.sum(g**2, axis=2) for g in gaps]
        one = [math.sqrt(len(g)) if len(g) > 1 else math.nan for g in gaps]
        spread = [g.std(axis=0, ddof=1) / r if len(g) > 1 else g[0] * math.nan for g, r in zip(gaps, one, strict=True)]
        square_spread = [
            s.std(axis=0, ddof=1) / r if len(s) > 1 else s[0] * math.nan for s, r in zip(squares, one, strict=True)
        ]
    verdicts = tuple(case.verdict for case in judged)
    overall = Verdict.CONSISTENT
    for verdict in (Verdict.UNDECIDED, Verdict.INCONSISTENT):
        if verdict in verdicts:
            overall = verdict
    score = [
        np.nan_to_num(np.nanmax([case.z, case.spread_z, -1.0]), nan=-1.0) if case.verdict is overall else -2.0
        for case in judged
    ]
    j = int(np.argmax(score))
    return Finding(
        name=o.name,
        signed=o.signed,
        scale=o.scale,
        mean=np.stack([g.mean(axis=0) for g in gaps]),
        mean_error=np.stack(spread),
        mean_square=np.stack([s.mean(axis=0) for s in squares]),
        mean_square_error=np.stack(square_spread),
        resampled=np.stack([np.mean(np.sum(g**2, axis=2), axis=0) for g in resampled]),
        slope=np.array(slopes),
        slope_interval=np.array(intervals),
        limit=np.stack([case.limit for case in judged]),
        limit_error=np.stack([case.error for case in judged]),
        step_bias=np.stack([case.step for case in judged]),
        uncertainty=uncertainty,
        allowance=np.stack([case.allowance for case in judged]),
        z=np.array([case.z for case in judged]),
        spread_z=np.array([case.spread_z for case in judged]),
        verdicts=verdicts,
        verdict=overall,
        reason=f"at t = {at[j]:g}: {judged[j].reason}",
    )
