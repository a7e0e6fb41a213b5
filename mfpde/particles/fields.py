"""The potential that a cloud of particles makes and feels, for a block of replicas at once.

Two ways, with one interface:

`MeshField`
    The particles' weights are spread over a mesh by the transpose of a polynomial interpolation of degree 7, the
    energy is evaluated there with all its structure (axis by axis, FFT, amplitudes first), and V and its gradient are
    interpolated back. A particle costs 8 to 64 mesh values whatever the rank of the energy. The mesh is refined until
    the interpolation is exact to about 1e-10 of the scale of V; it is an evaluation plan, and particles stay particles.
`DirectField`
    Where the energy is rough (relu), has more than two axes along which it is not a cubic, or a mesh would have more
    cells than are worth it: `BoundEnergy` on the points, replica by replica.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod

import numpy as np

from mfpde.equation.energy import BoundEnergy
from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array

__all__ = ["DirectField", "Field", "MeshField", "make_field", "mesh_shape"]


VALUE_TOLERANCE = 1e-11
SLOPE_TOLERANCE = 1e-9
COUNTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
CELLS = 4096
"""A mesh of so many cells (polynomial axes left out) is always worth it; beyond, four cells a particle."""
CHEAP = 2
"""Moments that points compute as fast as they interpolate."""


class Field(ABC):
    """The response of R clouds of n particles, and the potentials that follow."""

    response_size: int

    @abstractmethod
    def __repr__(self) -> str: ...

    @abstractmethod
    def measure(self, points: Array, weights: Array) -> Array:
        """Take the measures of points (R, n, d) and weights (R, n) in; their responses (R, r)."""

    @abstractmethod
    def energies(self) -> Array:
        """E of the measures taken in, (R,)."""

    @abstractmethod
    def potential(self, points: Array) -> Array:
        """V at points (R, n, d) of the measures taken in, (R, n)."""

    @abstractmethod
    def gradient(self, points: Array) -> Array:
        """Its gradient, (R, n, d)."""


class DirectField(Field):
    """The energy on the points, replica by replica; terms that the measure does not enter, for all in one call."""

    def __init__(self, bound: BoundEnergy, parts: tuple[BoundEnergy, ...] | None = None) -> None:
        parts = bound.parts if parts is None else parts
        self._fixed = [part for part in parts if not part.interacts]
        self._coupled = [part for part in parts if part.interacts]
        self.response_size = sum(part.response_size for part in parts)
        self._none = np.empty(0)
        self._responses: list[list[Array]] = []

    def __repr__(self) -> str:
        return "the energy on the points, replica by replica"

    def measure(self, points: Array, weights: Array) -> Array:
        """Take the measures in, and compute the response of each part that has one; all responses (R, r)."""
        self._points, self._weights = points, weights
        if not self._coupled:
            self._responses = [[]] * len(points)
            return np.empty((len(points), 0))
        self._responses = [
            [part.response(p, w) for part in self._coupled] for p, w in zip(points, weights, strict=True)
        ]
        sizes = [part.response_size for part in self._coupled]
        rows = [
            np.concatenate([self._none, *(u[:r] for u, r in zip(us, sizes, strict=True))]) for us in self._responses
        ]
        return np.array(rows).reshape(len(points), self.response_size)

    def energies(self) -> Array:
        """E of the measures taken in, (R,), as sums over their points."""
        result = np.zeros(len(self._points))
        flat = self._points.reshape(-1, self._points.shape[2])
        for part in self._fixed:
            values = part.potential(flat, self._none).reshape(self._weights.shape)
            constant = part.energy(flat[:1], np.zeros(1))
            result += [float(np.dot(w, v)) + constant for w, v in zip(self._weights, values, strict=True)]
        for r, responses in enumerate(self._responses):
            for part, u in zip(self._coupled, responses, strict=True):
                result[r] += part.energy(self._points[r], self._weights[r], u)
        return result

    def potential(self, points: Array) -> Array:
        """V at points (R, n, d) of the measures taken in, (R, n)."""
        result = np.zeros(points.shape[:2])
        flat = points.reshape(-1, points.shape[2])
        for part in self._fixed:
            result += part.potential(flat, self._none).reshape(result.shape)
        for r, responses in enumerate(self._responses):
            for part, u in zip(self._coupled, responses, strict=True):
                result[r] += part.potential(points[r], u)
        return result

    def gradient(self, points: Array) -> Array:
        """The gradient of V at points (R, n, d), of the same shape."""
        result = np.zeros(points.shape)
        flat = points.reshape(-1, points.shape[2])
        for part in self._fixed:
            result += part.gradient(flat, self._none).reshape(result.shape)
        for r, responses in enumerate(self._responses):
            for part, u in zip(self._coupled, responses, strict=True):
                result[r] += part.gradient(points[r], u)
        return result


class Mesh:
    """Where the cells of a grid stand for `kernels`: polynomial axes have 4 of them."""

    def __init__(self, grid: Grid) -> None:
        from mfpde.particles.kernels import Cells

        d = grid.dimension
        self.grid = grid
        shape = np.array(grid.shape)
        strides = np.append(np.cumprod(shape[:0:-1])[::-1], 1).astype(np.int64)
        poly = [i for i in range(d) if grid.shape[i] == 4]
        others = [i for i in range(d) if grid.shape[i] != 4]
        if not 1 <= len(others) <= 2:
            raise ValueError(f"a mesh field has one or two axes of more than 4 cells, not {len(others)}")
        places = np.zeros(1, np.int64)
        for i in poly:
            places = (places[:, None] + strides[i] * np.arange(4)).ravel()
        self.cells = Cells(
            np.array([axis.lower for axis in grid.axes], dtype=float),
            np.array([1.0 / h for h in grid.spacing]),
            shape.astype(np.int64),
            strides,
            np.array([axis.periodic for axis in grid.axes]),
            np.array(poly, dtype=np.int64),
            np.ascontiguousarray(places, dtype=np.int64),
            others[0] if len(others) == 2 else -1,
            others[-1],
        )

    def interpolate(self, points: Array, values: Array, slopes: bool) -> Array:
        """The interpolant of values (R, cells) at points (R, n, d), or its gradient."""
        from mfpde.particles.kernels import interpolate

        points = np.ascontiguousarray(points)
        V = np.empty((0, 0)) if slopes else np.empty(points.shape[:2])
        gradient = np.empty(points.shape) if slopes else np.empty((0, 0, 0))
        interpolate(points, values, self.cells, V, gradient)
        return gradient if slopes else V

    def deposit(self, points: Array, weights: Array) -> Array:
        """The weights (R, n) spread over the cells, (R, cells)."""
        from mfpde.particles.kernels import deposit

        density = np.zeros((len(points), self.grid.size))
        deposit(np.ascontiguousarray(points), np.ascontiguousarray(weights), density, self.cells)
        return density


class MeshField(Field):
    """The energy on a mesh, which the measures are spread over and the potential is interpolated from."""

    def __init__(self, bound: BoundEnergy, shape: tuple[int, ...]) -> None:
        grid = Grid(bound.axes, shape)
        self._mesh, self._plan = Mesh(grid), bound.on(grid)
        self.response_size = self._plan.response_size
        self._values = np.empty((0, grid.size))
        self._energies = np.empty(0)

    def __repr__(self) -> str:
        cells = " x ".join(map(str, self._mesh.grid.shape))
        return f"interpolation of degree 7 on a mesh of {cells} cells"

    def measure(self, points: Array, weights: Array) -> Array:
        """Spread the measures over the mesh and evaluate the energy there; their responses (R, r)."""
        replicas, grid = len(points), self._mesh.grid
        density = self._mesh.deposit(points, weights)
        density /= grid.cell_volume
        if len(self._values) != replicas:
            self._values, self._energies = np.empty((replicas, grid.size)), np.empty(replicas)
        responses = np.empty((replicas, self.response_size))
        for r in range(replicas):
            _, self._energies[r], responses[r] = self._plan.evaluate(
                density[r].reshape(grid.shape), self._values[r].reshape(grid.shape)
            )
        return responses

    def energies(self) -> Array:
        """E of the measures as the mesh has them, (R,)."""
        return self._energies.copy()

    def potential(self, points: Array) -> Array:
        """V at points (R, n, d), interpolated, (R, n)."""
        return self._mesh.interpolate(points, self._values, False)

    def gradient(self, points: Array) -> Array:
        """The gradient of the interpolant of V at points (R, n, d), of the same shape."""
        return self._mesh.interpolate(points, self._values, True)


_SHAPES: weakref.WeakKeyDictionary[BoundEnergy, tuple[int, ...] | None] = weakref.WeakKeyDictionary()


def mesh_shape(bound: BoundEnergy) -> tuple[int, ...] | None:
    """The mesh on which interpolation represents the energy; None where there is none of a reasonable size."""
    if bound not in _SHAPES:
        _SHAPES[bound] = _find_shape(bound)
    return _SHAPES[bound]


def make_field(problem: Problem, n: int) -> Field:
    """The cheaper field for clouds of n particles; the choice depends on nothing else."""
    bound = problem.bound_energy
    if problem.species is not None or (not bound.direct and bound.response_size <= CHEAP):
        return DirectField(bound)
    shape = mesh_shape(bound)
    if shape is None or np.prod([count for count in shape if count != 4]) > max(CELLS, 4 * n):
        return DirectField(bound)
    return MeshField(bound, shape)


def _find_shape(bound: BoundEnergy) -> tuple[int, ...] | None:
    """Refine each axis until potentials of rough clouds are interpolated along it, then check the whole."""
    rng = np.random.default_rng(20190213)
    d = len(bound.axes)
    low = np.array([axis.lower for axis in bound.axes])
    length = np.array([axis.length for axis in bound.axes])

    def scattered(n: int) -> Array:
        return np.asarray(low + rng.random((n, d)) * length)

    clouds = [(scattered(24), rng.standard_normal(24) / np.sqrt(24)) for _ in range(4)]
    responses = [bound.response(*cloud) for cloud in clouds]
    counts: list[int] = []
    for i in range(d):
        cells = _find_count(bound, i, responses, scattered(3), rng)
        if cells is None:
            return None
        counts.append(cells)
    if all(count == 4 for count in counts):
        counts[-1] = 16
    if sum(count != 4 for count in counts) > 2 or np.prod(counts) > 2**18:
        return None
    try:
        field, direct = MeshField(bound, tuple(counts)), DirectField(bound)
    except ValueError:  # a plan that would not fit into memory
        return None
    points, weights = np.stack([c[0] for c in clouds]), np.stack([c[1] for c in clouds])
    probes = np.stack([scattered(64)] * len(clouds))
    pairs = [(field.measure(points, weights), direct.measure(points, weights))]
    pairs += [(field.potential(probes), direct.potential(probes)), (field.energies(), direct.energies())]
    for a, b in pairs:
        if a.size and not np.max(np.abs(a - b)) <= 30 * VALUE_TOLERANCE * max(1.0, np.max(np.abs(b))):  # NaN included
            return None
    a, b = field.gradient(probes) * length, direct.gradient(probes) * length
    if not np.max(np.abs(a - b)) <= 30 * SLOPE_TOLERANCE * np.max(np.abs(b)):
        return None
    return tuple(counts)


def _find_count(
    bound: BoundEnergy, i: int, responses: list[Array], bases: Array, rng: np.random.Generator
) -> int | None:
    axis = bound.axes[i]
    # the ends are where interpolation is worst
    unit = np.concatenate([[0.0, 1e-3, 1 - 1e-3, 1.0], rng.random(96)])
    x = axis.lower + axis.length * unit

    def line(base: Array, positions: Array) -> Array:
        points = np.repeat(base[None, :], len(positions), axis=0)
        points[:, i] = positions
        return points

    pairs = [(u, base) for u in responses for base in bases]
    exact = np.stack([bound.potential(line(base, x), u) for u, base in pairs])
    slopes = np.stack([bound.gradient(line(base, x), u)[:, i] for u, base in pairs])
    if not (np.all(np.isfinite(exact)) and np.all(np.isfinite(slopes))):
        return None
    scale, steepness = float(np.max(np.abs(exact))), float(np.max(np.abs(slopes)))
    for count in COUNTS if axis.periodic else (4, *COUNTS):
        grid = Grid([axis], [count])
        values = np.stack([bound.potential(line(base, grid.centres(0)), u) for u, base in pairs])
        if count == 4:
            t = (x - axis.lower) / grid.spacing[0]
            basis = np.vander(t, 4)
            fit = np.linalg.solve(np.vander((grid.centres(0) - axis.lower) / grid.spacing[0], 4), values.T)
            if np.max(np.abs((basis @ fit).T - exact)) <= 0.1 * VALUE_TOLERANCE * scale:
                return 4
            continue
        mesh = Mesh(grid)
        points = np.broadcast_to(x[None, :, None], (len(pairs), len(x), 1))
        if np.max(np.abs(mesh.interpolate(points, values, False) - exact)) > VALUE_TOLERANCE * scale:
            continue
        error = np.max(np.abs(mesh.interpolate(points, values, True)[:, :, 0] - slopes))
        if error <= SLOPE_TOLERANCE * max(steepness, scale / axis.length):
            return count
    return None
