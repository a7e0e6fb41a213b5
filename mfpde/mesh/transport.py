"""The compiled transport operator of one grid, scheme and metric."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis, End, Grid, face_shape, moving
from mfpde.mesh.compiled import structures
from mfpde.mesh.constants import LARGEST, ROUND_UP
from mfpde.mesh.schemes import Scheme, is_compiled
from mfpde.mesh.transport_operator import Metric, Outflow, TransportOperator
from mfpde.support.arrays import Array
from mfpde.support.threads import THREADED_SIZE, available, in_shares

__all__ = ["Sweeps", "Transport"]

_BAND_SIZE = 131_072
"""Cells of a band: all axes are swept while the band is in the nearer caches."""
_BAND_ROWS = 32
"""Fewest rows of a band, which reads the ghost rows of its neighbours again and computes their fluxes."""


class _Rates(NamedTuple):
    """The rates g on the faces across one axis, as compiled code reads them.

    Attributes
    ----------
    scale : float
        The rate, where it is constant; else 1.
    values : array
        Where it is not, the rates, flat.
    strides : tuple of int
        How far they are apart from line to line, from face to face and from column to column.
    """

    scale: float
    values: Array
    strides: tuple[int, int, int]


class Sweeps(NamedTuple):
    """The first arguments of compiled steps, see `structures.Steps`."""

    scheme: Any
    wide: Any
    ints: NDArray[np.int64]
    floats: Array
    metric: Array
    band: int
    bands: int
    buffers: Array


def _rates(grid: Grid, i: int, g: float | Array) -> _Rates:
    """The checked rates across axis `i`, laid out."""
    if isinstance(g, float):
        return _Rates(g, np.empty(0), (0, 0, 0))
    n, inner = grid.shape[i], math.prod(grid.shape[i + 1 :])
    g = g.reshape((1,) * (grid.dimension - g.ndim) + g.shape)
    if all(size == 1 for j, size in enumerate(g.shape) if j != i) and g.shape[i] == n + 1:
        return _Rates(1.0, np.ascontiguousarray(g).ravel(), (0, 1, 0))
    values = np.ascontiguousarray(np.broadcast_to(g, face_shape(grid, i))).ravel()
    return _Rates(1.0, values, ((n + 1) * inner, inner, 1))


def _describe(mesh: structures.Mesh, i: int, axis: Axis, h: float, rates: _Rates) -> None:
    """Fill the row of `mesh` that says what the ends, the spacing and the rates of axis `i` are."""
    ints, floats = mesh.ints[i], mesh.floats[i]
    ints[structures.PERIODIC] = axis.periodic
    ints[structures.LOWER_TRUNCATED] = axis.lower_end is End.TRUNCATION
    ints[structures.UPPER_TRUNCATED] = axis.upper_end is End.TRUNCATION
    ints[[structures.METRIC_OUTER, structures.METRIC_FACE, structures.METRIC_INNER]] = rates.strides
    floats[structures.INVERSE_H], floats[structures.SPACING] = 1.0 / h, h
    floats[structures.SPEED] = -rates.scale / h


def _mesh(grid: Grid, rates: Sequence[_Rates], band: int) -> structures.Mesh:
    """The description of all axes that move, as compiled code reads them."""
    moves = moving(grid.axes)
    metric = np.concatenate([r.values for r in rates])
    mesh = structures.Mesh(np.zeros((len(moves), 11), dtype=np.int64), np.zeros((len(moves), 3)), metric, band)
    used = offset = 0
    for i, (axis, h, r) in enumerate(zip(grid.axes, grid.spacing, rates, strict=True)):
        if i not in moves:
            offset += math.prod(face_shape(grid, i))
            continue
        _describe(mesh, moves.index(i), axis, h, r)
        ints = mesh.ints[moves.index(i)]
        ints[structures.OUTER], ints[structures.INNER] = math.prod(grid.shape[:i]), math.prod(grid.shape[i + 1 :])
        ints[structures.ROWS] = grid.shape[i]
        ints[structures.METRIC_OFFSET] = used if r.values.size else -1
        ints[structures.FACE_OFFSET] = offset
        used += r.values.size
        offset += math.prod(face_shape(grid, i))
    return mesh


def _mesh_of(grid: Grid, rates: Sequence[float | Array], band: int) -> structures.Mesh:
    """The same with rates by axis; where they are constant, operators share it."""
    constant = tuple(g for g in rates if isinstance(g, float))
    if len(constant) == len(rates):
        return _plain_mesh(grid, constant, band)
    return _mesh(grid, [_rates(grid, i, g) for i, g in enumerate(rates)], band)


@functools.lru_cache(maxsize=64)
def _plain_mesh(grid: Grid, rates: tuple[float, ...], band: int) -> structures.Mesh:
    return _mesh(grid, [_rates(grid, i, g) for i, g in enumerate(rates)], band)


def _rows_of_band(grid: Grid, threads: int | None) -> int:
    """Rows of the first axis that moves which are swept along all axes before the next ones."""
    if not grid.axes[0].moves:  # its lines do not lie together: all of them at once
        return grid.shape[moving(grid.axes)[0]]
    row = grid.size // grid.shape[0]
    bands = -(-grid.shape[0] // max(_BAND_ROWS, _BAND_SIZE // row))
    if grid.size >= THREADED_SIZE:
        shares = available() if threads is None else threads
        bands = -(-bands // shares) * shares  # the same for each thread
    return -(-grid.shape[0] // bands)


@functools.cache
def _kernels() -> ModuleType:
    """The compiled kernels. They bring numba, which takes longer to import than all the rest: not before a sweep."""
    from mfpde.mesh.compiled import kernels

    return kernels


def _kernels_for(scheme: Scheme) -> Any:
    """The compiled sweeps for a scheme."""
    kernels = _kernels()
    if not is_compiled(scheme):
        raise TypeError(f"{scheme!r} is not compiled; NumpyTransport runs it, as a solver does by itself")
    structure = scheme.structure()
    if structure is not None:
        return kernels.Kernels(structure, kernels.sweep, kernels.outflow)
    if scheme.row is None or not 1 <= scheme.ghost <= kernels.MOST_GHOSTS:
        raise TypeError(
            f"{scheme!r}: a compiled scheme has a formula `row` of at most {kernels.MOST_GHOSTS} rows on each side, "
            f"not {scheme.ghost}; with compiled = False it runs in NumPy"
        )
    return kernels.kernels_of(scheme.row, scheme.ghost)


class Transport(TransportOperator):
    """The compiled operator of drift and diffusion; see `TransportOperator` for what all operators have.

    Parameters
    ----------
    grid : Grid
        Where.
    scheme : Upwind, Muscl, Weno5 or ScharfetterGummel
        How the face fluxes are made. `Upwind` and `Muscl` take the two-point difference of the density for the
        diffusion, `Weno5` one of sixth order (two-point where it falls back to `Muscl`).
    metric, log_base, threads
        As for every operator.

    Notes
    -----
    In one and two dimensions permuting the axes permutes the result bit for bit; in three and four the sum over axes is
    taken in their order and differs by round-off.

    Examples
    --------
    >>> from mfpde.equation.grid import Axis, Grid
    >>> from mfpde.mesh.schemes import Upwind
    >>> grid = Grid([Axis("x", 0, 1)], [4])
    >>> transport = Transport(grid, Upwind())
    >>> transport.rate(np.array([0.0, 1.0, 0.0, 0.0]), grid.centres(0))
    array([ 4., -4.,  0.,  0.])
    >>> speed, cell = transport.outflow_rate(grid.centres(0))
    >>> round(speed, 9), cell
    (4.0, 1)
    """

    def __init__(
        self,
        grid: Grid,
        scheme: Scheme,
        metric: Metric | None = None,
        log_base: Array | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        super().__init__(grid, scheme, metric, log_base, threads=threads)
        self._kernels = _kernels_for(scheme)
        self._mesh = _mesh_of(grid, self._rates, _rows_of_band(grid, threads))
        self._wide = True if grid.size // grid.shape[0] >= _kernels().options.LONG else None
        self._rows = int(self._mesh.ints[0, structures.ROWS])
        self._bands = -(-self._rows // self._mesh.band)
        self._speeds = np.empty(grid.size)
        self._no_speeds = np.empty(0)
        self._buffers: dict[int, Array] = {}

    @property
    def sweeps(self) -> Sweeps:
        """What compiled code that makes sweeps of its own is told, but for the temperature."""
        ints, floats, metric, band = self._mesh
        return Sweeps(self._kernels.structure, self._wide, ints, floats, metric, band, self._bands, self._work(0))

    @property
    def tiles(self) -> NDArray[np.int64]:
        """By axis, the tiles of its lines, as implicit steps take them."""
        widths = _kernels().tile_width
        lines = [self.grid.size // n for n in self.grid.shape]
        return np.array([-(-count // widths(count)) for count in lines], dtype=np.int64)

    def _work(self, start: int) -> Array:
        """Buffers (1.2 MB) for the share of the work that begins at `start`."""
        if start not in self._buffers:
            options = _kernels().options
            raw = np.empty(options.BUFFERS * options.BUFFER + options.LINE)  # to write zeros takes as long as 7 sweeps
            # at the start of a cache line, so that no vector lies across two
            self._buffers[start] = raw[-(raw.ctypes.data // raw.itemsize) % options.LINE :]
        return self._buffers[start]

    def _on_all_bands(self, task: Callable[[Array, int, int], Any]) -> None:
        """`task` on all bands, each share of them with buffers of its own."""
        if self.grid.size < THREADED_SIZE:
            task(self._work(0), 0, self._bands)
            return
        in_shares(lambda start, stop: task(self._work(start), start, stop), self._bands, self.grid.size, self.threads)

    def _heat(self, temperature: float) -> structures.Heat | None:
        """The temperature, if there is one, as compiled code reads it."""
        if temperature == 0.0:
            return None
        tau = float(temperature)
        inverse = min(1.0 / tau if tau > 1e-300 else math.inf, LARGEST)
        return structures.Heat(tau, inverse, self.scheme.diffusion_share)

    def _find_speeds(self, potential: Array, heat: structures.Heat | None) -> None:
        """Fill the outflow speeds of all cells."""
        self._held = None
        given = self._kernels.structure, heat, self._wide, *self._mesh, potential, self._speeds
        self._on_all_bands(functools.partial(self._kernels.outflow, *given))

    def _sweep(
        self,
        mu: Array,
        V: Array,
        dt: float | None,
        temperature: float,
        outflow: Outflow | None,
        faces: bool,
        out: Array,
    ) -> Callable[[Array, int, int], Any]:
        """What fills a share of `out`: buffers, and the bands from and to, are still to be given."""
        density, potential = self._flat(mu, "mu"), self._driving(V, temperature)
        heat, speeds, step = self._heat(temperature), self._no_speeds, 0.0
        if dt is not None and self.scheme.limited:
            step, speeds = self._step(dt), self._speeds
            if outflow is None or outflow is not self._held:
                self._find_speeds(potential, heat)
        given = self._kernels.structure, heat, self._wide, *self._mesh, density, potential, speeds, step, faces, out
        return functools.partial(self._kernels.sweep, *given)

    def rate(
        self,
        mu: Array,
        V: Array,
        out: Array | None = None,
        dt: float | None = None,
        temperature: float = 0.0,
        *,
        outflow: Outflow | None = None,
    ) -> Array:
        """The rate of change of a density, see `TransportOperator.rate`."""
        out = self._target(out)
        task = self._sweep(mu, V, dt, temperature, outflow, False, out.reshape(-1))
        if self.grid.size < THREADED_SIZE:
            task(self._work(0), 0, self._bands)
        else:
            self._on_all_bands(task)
        return out

    def fluxes(self, mu: Array, V: Array, dt: float | None = None, temperature: float = 0.0) -> list[Array]:
        """The fluxes through the faces, see `TransportOperator.fluxes`."""
        shapes = [face_shape(self.grid, i) for i in range(self.grid.dimension)]
        stops = np.cumsum([math.prod(shape) for shape in shapes])
        flat = np.zeros(stops[-1]) if len(self._mesh.ints) < self.grid.dimension else np.empty(stops[-1])
        self._on_all_bands(self._sweep(mu, V, dt, temperature, None, True, flat))
        return [part.reshape(shape) for part, shape in zip(np.split(flat, stops[:-1]), shapes, strict=True)]

    def outflow(self, V: Array, mu: Array | None = None, temperature: float = 0.0) -> Outflow:
        """The largest rate at which a cell empties, see `TransportOperator.outflow`."""
        largest = _kernels().largest
        self._find_speeds(self._driving(V, temperature), self._heat(temperature))
        floor, density = 0.0, self._no_speeds
        if mu is not None and self.scheme.limited:
            density = self._flat(mu, "mu")
            floor = 1e-30 * float(density.max())
        row, size = self._mesh.band * (self.grid.size // self._rows), self.grid.size

        def task(start: int, stop: int) -> tuple[float, int]:
            return largest(self._speeds, density, floor, start * row, min(size, stop * row))

        shares = [task(0, self._bands)] if size < THREADED_SIZE else in_shares(task, self._bands, size, self.threads)
        value, cell = shares[0]
        for part, index in shares[1:]:
            if part > value or (math.isnan(part) and not math.isnan(value)):
                value, cell = part, index
        self._held = Outflow(float(value) * ROUND_UP, int(cell))
        return self._held

    def _implicit(
        self, axis: int, mu: Array, potential: Array, dt: float, temperature: float, order: int, out: Array
    ) -> None:
        heat, kernels, (ints, floats, metric, _) = self._heat(temperature), _kernels(), self._mesh
        tau, inverse = (0.0, 0.0) if heat is None else (heat.temperature, heat.inverse)

        def task(start: int, stop: int) -> None:
            kernels.solve(order, dt, tau, inverse, ints, floats, metric, row, mu, potential, start, stop, out)

        row = moving(self.grid.axes).index(axis)
        lines = self.grid.size // self.grid.shape[axis]
        in_shares(task, -(-lines // kernels.tile_width(lines)), self.grid.size, self.threads)
