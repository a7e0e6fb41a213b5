"""The transport operator of one grid, scheme and metric: fluxes, their divergence, outflow speeds, implicit steps."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh.compiled import structures
from mfpde.mesh.schemes import Limiter, Muscl, ScharfetterGummel, Scheme, Upwind, Weno5
from mfpde.support.arguments import COUNT, NONE, one_of, real, require, shown, values_of
from mfpde.support.arguments import entries as entries_of
from mfpde.support.arrays import Array
from mfpde.support.threads import THREADED_SIZE, available, in_shares

__all__ = ["Metric", "Transport"]

Metric = Sequence[float | Callable[..., Any] | None]

_BAND_SIZE = 131_072
"""Cells of a band: all axes are swept while the band is in the nearer caches."""
_BAND_ROWS = 32
"""Fewest rows of a band, which reads the ghost rows of its neighbours again and computes their fluxes."""
_ROUND_UP = 1.0 + 2.0**-45
"""So that forward Euler at ``dt = positivity / rate`` stays non-negative in round-off too."""

_LARGEST = 1.7976931348623157e308


def _metric_on_faces(grid: Grid, axis: int, rate: Any) -> float | Array:
    """The checked rate across one axis: a number, or values on the faces."""
    name = grid.axes[axis].name
    if rate is None:
        return 1.0
    remedy = "the metric is a rate g >= 0"
    if not callable(rate):
        if not (real(rate) and rate >= 0.0):
            raise ValueError(f"metric of axis {name!r} is {shown(rate)}; {remedy}")
        return float(rate)
    faces = grid.face_mesh(axis)
    shape = np.broadcast_shapes(*(x.shape for x in faces))
    values = values_of(rate, *faces)
    try:
        np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(
            f"metric of axis {name!r} returned shape {values.shape}, which does not broadcast to the faces {shape}"
        ) from None
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        where = np.unravel_index(int(np.argmax(np.broadcast_to(bad, shape))), shape)
        point = ", ".join(
            f"{a.name}={float(np.broadcast_to(x, shape)[where]):g}" for a, x in zip(grid.axes, faces, strict=True)
        )
        value = float(np.broadcast_to(values, shape)[where])
        raise ValueError(f"metric of axis {name!r} is {value} at the face {point}; {remedy}, finite on every face")
    return float(values) if values.ndim == 0 else values


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
    largest : float
        The largest rate.
    """

    scale: float
    values: Array
    strides: tuple[int, int, int]
    largest: float


def _rates(grid: Grid, i: int, rate: Any) -> _Rates:
    """The checked rates across axis `i`."""
    g = _metric_on_faces(grid, i, rate)
    if isinstance(g, float):
        return _Rates(g, np.empty(0), (0, 0, 0), g)
    n, inner, most = grid.shape[i], math.prod(grid.shape[i + 1 :]), float(np.max(g))
    g = g.reshape((1,) * (grid.dimension - g.ndim) + g.shape)
    if all(size == 1 for j, size in enumerate(g.shape) if j != i) and g.shape[i] == n + 1:
        return _Rates(1.0, np.ascontiguousarray(g).ravel(), (0, 1, 0), most)
    values = np.ascontiguousarray(np.broadcast_to(g, _face_shape(grid, i))).ravel()
    return _Rates(1.0, values, ((n + 1) * inner, inner, 1), most)


def _face_shape(grid: Grid, i: int) -> tuple[int, ...]:
    """The shape of an array of the faces across axis `i`."""
    return (*grid.shape[:i], grid.shape[i] + 1, *grid.shape[i + 1 :])


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
    """The description of all axes that compiled code reads."""
    d = grid.dimension
    metric = np.concatenate([r.values for r in rates])
    mesh = structures.Mesh(np.zeros((d, 11), dtype=np.int64), np.zeros((d, 3)), metric, band)
    used = offset = 0
    for i, (axis, h, r) in enumerate(zip(grid.axes, grid.spacing, rates, strict=True)):
        _describe(mesh, i, axis, h, r)
        ints = mesh.ints[i]
        ints[structures.OUTER], ints[structures.INNER] = math.prod(grid.shape[:i]), math.prod(grid.shape[i + 1 :])
        ints[structures.ROWS] = grid.shape[i]
        ints[structures.METRIC_OFFSET] = used if r.values.size else -1
        ints[structures.FACE_OFFSET] = offset
        used += r.values.size
        offset += math.prod(_face_shape(grid, i))
    return mesh


def _rows_of_band(grid: Grid, threads: int | None) -> int:
    """Rows of the first axis that are swept along all axes before the next ones."""
    row = grid.size // grid.shape[0]
    bands = -(-grid.shape[0] // max(_BAND_ROWS, _BAND_SIZE // row))
    if grid.size >= THREADED_SIZE:
        shares = available() if threads is None else threads
        bands = -(-bands // shares) * shares  # the same for each thread
    return -(-grid.shape[0] // bands)


_Compiled = structures.Upwind | structures.Muscl | structures.Weno | structures.Fitted


def _compiled_scheme(scheme: Scheme) -> _Compiled:
    """What compiled code knows of a scheme."""
    if isinstance(scheme, Upwind):
        return structures.Upwind()
    if isinstance(scheme, ScharfetterGummel):
        return structures.Fitted()
    if isinstance(scheme, Weno5):
        return structures.Weno(scheme.tail_ratio)
    if isinstance(scheme, Muscl):
        options = _kernels().options
        codes = {Limiter.MINMOD: options.MINMOD, Limiter.VAN_LEER: options.VAN_LEER, Limiter.MC: options.MC}
        return structures.Muscl(codes[scheme.limiter])
    raise TypeError(f"scheme must be Upwind(), Muscl(), Weno5() or ScharfetterGummel(), not {shown(scheme)}")


@functools.cache
def _kernels() -> ModuleType:
    """The compiled kernels. They bring numba, which takes longer to import than all the rest: not before a sweep."""
    from mfpde.mesh.compiled import kernels

    return kernels


class Transport:
    """Drift and diffusion, ``div(mu G grad V) + tau div(G omega grad(mu/omega))``, by face fluxes along each axis.

    With ``J = v mu - tau g d(mu)/dx`` and ``v = -g d(V - tau log omega)/dx`` across each face and ``J = 0`` at walls,

        rate_i = - sum_axes (J_(i+1/2) - J_(i-1/2)) / h .

    Parameters
    ----------
    grid : Grid
        Where.
    scheme : Upwind, Muscl, Weno5 or ScharfetterGummel
        How the face fluxes are made. `Upwind` and `Muscl` take the two-point difference of the density for the
        diffusion, `Weno5` one of sixth order (two-point where it falls back to `Muscl`).
    metric : sequence, one entry per axis, optional
        The rates ``g_i >= 0``: None (1), a number, or a function of the coordinates, called once with an open mesh
        of the faces across that axis. On a periodic axis the value at the lower end serves both ends.
    log_base : (grid.shape) array, optional
        ``log omega`` on the cells; None is the Lebesgue measure. It plays no part at temperature 0.
    threads : int, optional
        Threads used on grids of 10^5 cells or more. Default: see `mfpde.support.threads.available`.
        The result does not depend on it.

    Attributes
    ----------
    diffusion_rate : float
        A bound on the rate at which a cell empties by diffusion of temperature 1: ``sum_i 2 max(g_i) / h_i^2``.

    Raises
    ------
    ValueError
        If the metric is negative, not finite or of the wrong length, `log_base` has the wrong shape or is not finite,
        or `threads` is below 1.
    TypeError
        If `scheme` is not a scheme.

    Notes
    -----
    An operator keeps scratch arrays: use one per thread. In one and two dimensions permuting the axes permutes
    the result bit for bit; in three and four the sum over axes is taken in their order and differs by round-off.
    Densities below 1e-290 in absolute value do not move: round-off there is not relative.

    Examples
    --------
    >>> from mfpde.equation.grid import Axis, Grid
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
        require(grid=(grid, one_of(Grid)), threads=(threads, COUNT | NONE))
        self.grid = grid
        self.scheme = scheme
        self._scheme = _compiled_scheme(scheme)
        self._limits = isinstance(scheme, Weno5)
        self.threads = threads

        entries = [None] * grid.dimension if metric is None else list(entries_of(metric, "metric"))
        if len(entries) != grid.dimension:
            raise ValueError(
                f"metric has {len(entries)} entries for {grid.dimension} axes; "
                "give one per axis, None where the rate is 1"
            )
        rates = [_rates(grid, i, entry) for i, entry in enumerate(entries)]
        self.diffusion_rate = 0.0
        for r, h in zip(rates, grid.spacing, strict=True):
            self.diffusion_rate += 2.0 * r.largest / h**2
        self._face_shapes = [_face_shape(grid, i) for i in range(grid.dimension)]
        self._mesh = _mesh(grid, rates, _rows_of_band(grid, threads))
        self._wide = True if grid.size // grid.shape[0] >= _kernels().options.LONG else None
        self._bands = -(-grid.shape[0] // self._mesh.band)
        self._speeds = np.empty(grid.size)
        self._no_speeds = np.empty(0)
        self._buffers: dict[int, Array] = {}
        self._token = 0
        self._log_base, self._drift = None, np.empty(0)
        if log_base is not None:
            values = self._flat(log_base, "log_base")
            if not np.isfinite(values).all():
                raise ValueError("log_base must be finite on every cell: the base measure is positive in the box")
            self._log_base, self._drift = values.copy(), np.empty(grid.size)

    def __repr__(self) -> str:
        return f"Transport({self.grid!r}, {self.scheme!r})"

    def _flat(self, values: Array, name: str) -> Array:
        """A flat C-ordered view (or copy) of a cell array."""
        if type(values) is not np.ndarray or values.dtype != np.float64 or not values.flags.c_contiguous:
            values = np.ascontiguousarray(values, dtype=np.float64)
        if values.shape != self.grid.shape:
            raise ValueError(f"{name} has shape {values.shape}, the grid {self.grid.shape}")
        return values.reshape(-1)

    def _work(self, start: int) -> Array:
        """Buffers (1.2 MB) for the share of the work that begins at `start`."""
        if start not in self._buffers:
            options = _kernels().options
            raw = np.zeros(options.BUFFERS * options.BUFFER + options.LINE)
            # at the start of a cache line, so that no vector lies across two
            self._buffers[start] = raw[-(raw.ctypes.data // raw.itemsize) % options.LINE :]
        return self._buffers[start]

    def _run(self, task: Callable[[int, int], Any], pieces: int | None = None) -> list[Any]:
        """`task` on all bands (or other pieces)."""
        return in_shares(task, self._bands if pieces is None else pieces, self.grid.size, self.threads)

    def _driving(self, V: Array, temperature: float) -> tuple[Array, structures.Heat | None]:
        """The potential that drives the drift, ``V - tau log omega``, and the temperature, if there is one."""
        potential = self._flat(V, "V")
        if temperature == 0.0:
            return potential, None
        tau = float(temperature)
        if not (tau > 0.0 and math.isfinite(tau)):
            raise ValueError(f"temperature is {temperature}; it must be finite and not negative")
        if self._log_base is not None:
            np.multiply(self._log_base, -tau, out=self._drift)
            self._drift += potential
            potential = self._drift
        inverse = min(1.0 / tau if tau > 1e-300 else math.inf, _LARGEST)
        return potential, structures.Heat(tau, inverse, self.scheme.diffusion_share)

    def _outflow(self, potential: Array, heat: structures.Heat | None) -> None:
        """Fill the outflow speeds of all cells."""
        outflow, mesh = _kernels().outflow, self._mesh
        self._token += 1

        def task(start: int, stop: int) -> None:
            outflow(self._scheme, heat, self._wide, *mesh, potential, start, stop, self._work(start), self._speeds)

        self._run(task)

    def _sweep(
        self,
        mu: Array,
        V: Array,
        dt: float | None,
        temperature: float,
        to_faces: bool,
        out: Array,
        outflow: int | None = None,
    ) -> None:
        mu = self._flat(mu, "mu")
        potential, heat = self._driving(V, temperature)
        speeds, step = self._no_speeds, 0.0
        if dt is not None and self._limits:
            step = float(dt)
            if not (step > 0.0 and math.isfinite(step)):
                raise ValueError(f"dt is {dt}; the positivity limiter needs a positive step, or None to be off")
            if outflow is None or outflow != self._token:
                self._outflow(potential, heat)
            speeds = self._speeds
        sweep, scheme, wide, mesh = _kernels().sweep, self._scheme, self._wide, self._mesh
        fields = mu, potential, speeds

        def task(start: int, stop: int) -> None:
            sweep(scheme, heat, wide, *mesh, *fields, step, start, stop, to_faces, self._work(start), out)

        self._run(task)

    def rate(
        self,
        mu: Array,
        V: Array,
        out: Array | None = None,
        dt: float | None = None,
        temperature: float = 0.0,
        *,
        outflow: int | None = None,
    ) -> Array:
        """``div(mu G grad V) + tau div(G omega grad(mu/omega))`` on the cells.

        Parameters
        ----------
        mu : (grid.shape) array
            Density, non-negative.
        V : (grid.shape) array
            Potential, finite: the first variation without the entropy.
        out : (grid.shape) array, optional
            Where to write; C-contiguous float64, sharing no memory with `mu` or `V`.
        dt : float, optional
            The forward Euler step for which `Weno5` must keep ``mu + dt * rate >= 0``. None: no limiter. Other
            schemes do not need it: they keep the sign up to ``scheme.positivity / outflow_rate(V)``.
        temperature : float
            ``tau >= 0``.
        outflow : int, optional
            What `outflow_token` was after ``outflow_rate(V, mu, temperature)`` for this very `V` and temperature: the
            limiter of `Weno5` then need not find the same speeds again. Once others have been asked for, a token counts
            for nothing.

        Returns
        -------
        (grid.shape) array
            `out`. Its sum is zero to round-off.

        Raises
        ------
        ValueError
            On a wrong shape, an `out` that cannot be written flat, a `dt` that is not positive, a negative temperature.
        """
        out = self._target(out)
        self._sweep(mu, V, dt, temperature, False, out.reshape(-1), outflow)
        return out

    @property
    def outflow_token(self) -> int:
        """Stands for the outflow speeds that the operator holds, see `rate`."""
        return self._token

    def _target(self, out: Array | None) -> Array:
        """`out`, checked, or a new array."""
        if out is None:
            return np.empty(self.grid.shape)
        if out.shape != self.grid.shape or out.dtype != np.float64 or not out.flags.c_contiguous:
            raise ValueError(f"out must be a C-contiguous float64 array of shape {self.grid.shape}")
        return out

    def fluxes(self, mu: Array, V: Array, dt: float | None = None, temperature: float = 0.0) -> list[Array]:
        """The fluxes ``J`` through the faces, in the direction of each axis.

        Parameters
        ----------
        mu, V, dt, temperature
            As in `rate`, which differences exactly these.

        Returns
        -------
        list of arrays
            One per axis, with one more entry along it: zero at both walls, or first equal to last on a periodic axis.
        """
        stops = np.cumsum([math.prod(shape) for shape in self._face_shapes])
        flat = np.empty(stops[-1])
        self._sweep(mu, V, dt, temperature, True, flat)
        return [part.reshape(shape) for part, shape in zip(np.split(flat, stops[:-1]), self._face_shapes, strict=True)]

    def outflow_rate(self, V: Array, mu: Array | None = None, temperature: float = 0.0) -> tuple[float, int]:
        """The largest rate at which a cell empties, ``max_i sum_axes (v^+_right + v^-_left)/h``, and which cell.

        With temperature, every face that is no wall adds ``tau g / h`` times ``scheme.diffusion_share``: 1 for
        `Upwind`; 1/2 for `Muscl`, whose bound on the drift is the tighter; 1.54 for `Weno5`, positive at any step, for
        the stability of its six-point differences. For `ScharfetterGummel` it is ``tau g / h`` times ``B(d)`` exactly.

        Parameters
        ----------
        V : (grid.shape) array
            Potential.
        mu : (grid.shape) array, optional
            With `Weno5` (positive for any step) cells below 1e-30 of the largest density are passed over. The other
            schemes need the bound everywhere, since stages may fill a cell, and ignore `mu`.
        temperature : float
            ``tau >= 0``.

        Returns
        -------
        rate : float
            In 1/time, rounded up by 3e-14, so that ``dt = scheme.positivity / rate`` is safe in round-off. Zero if
            nothing moves, NaN if `V` has one.
        cell : int
            Flat index of the limiting cell (the first of equals).
        """
        largest = _kernels().largest
        self._outflow(*self._driving(V, temperature))
        floor, density = 0.0, self._no_speeds
        if mu is not None and self._limits:
            density = self._flat(mu, "mu")
            floor = 1e-30 * float(density.max())
        row = self.grid.size // self.grid.shape[0]

        def task(start: int, stop: int) -> tuple[float, int]:
            low = start * self._mesh.band * row
            high = min(self.grid.size, stop * self._mesh.band * row)
            return largest(self._speeds, density, floor, low, high)

        value, cell = 0.0, 0
        for k, (part, index) in enumerate(self._run(task)):
            if k == 0 or part > value or (math.isnan(part) and not math.isnan(value)):
                value, cell = part, index
        return float(value) * _ROUND_UP, int(cell)

    def implicit(
        self,
        axis: int,
        mu: Array,
        V: Array,
        dt: float,
        temperature: float,
        *,
        order: int = 1,
        out: Array | None = None,
    ) -> Array:
        """One implicit step along one axis with `V` frozen, of any length. `ScharfetterGummel` only.

        With ``A`` the rate of this scheme along the axis (a matrix, tridiagonal up to the seam of a periodic axis),

            order 1:   (I - dt A) x = mu
            order 2:   (I - gamma dt A) Y = mu ,   (I - gamma dt A) x = (1 + sqrt(2)) Y - sqrt(2) mu ,

        ``gamma = 1 - 1/sqrt(2)``: implicit Euler, and the L-stable SDIRK method of two stages.

        Parameters
        ----------
        axis : int
            Along which.
        mu : (grid.shape) array
            Density, non-negative.
        V : (grid.shape) array
            Potential, finite, as in `rate`.
        dt : float
            Length of the step, at least 0. A schedule's factor belongs here.
        temperature : float
            ``tau >= 0``.
        order : int
            1 or 2, in time.
        out : (grid.shape) array, optional
            Where to write; C-contiguous float64. It may be `mu` itself.

        Returns
        -------
        (grid.shape) array
            `out`.

        Raises
        ------
        TypeError
            With a scheme other than `ScharfetterGummel`.
        ValueError
            On a wrong axis, shape or order, or a negative `dt` or temperature.

        Notes
        -----
        For every `dt`, in both orders: mass is kept to round-off, the result is non-negative, and Gibbs states
        ``omega exp(-V/tau)`` stay, entry by entry to round-off in `V`/`tau`, also in tails of 1e-300: the elimination
        has no subtractions.

        - **order 1**: the step is a stochastic matrix, hence every relative entropy to the Gibbs state decays.
        - **order 2**: a line where the SDIRK result has a negative entry, which needs ``dt`` times an exit rate above
          ``1 + sqrt(2)``, is blended with implicit Euler: of the difference of their face fluxes each face keeps
          a share in [0, 1], exactly 1 where no donor nor anything upstream would go below zero. Second order where the
          shares are 1. While ``dt`` times the exit rate stays below
          ``1 + sqrt(2)`` in every cell, the step is a stochastic matrix and every relative entropy decays. Beyond,
          where the shares are 1, ``int (mu/p - 1)^2 dp`` to the Gibbs state ``p`` still does; for the free energy there
          is no proof then, though it did not rise in any of the steps tried, deltas at 10^5 times the number included.
        """
        if not isinstance(self.scheme, ScharfetterGummel):
            raise TypeError(f"implicit steps need ScharfetterGummel(), this operator has {self.scheme!r}")
        if not 0 <= axis < self.grid.dimension:
            raise ValueError(f"axis is {axis}; the grid has axes 0 to {self.grid.dimension - 1}")
        if order not in (1, 2):
            raise ValueError(f"order is {order!r}; implicit steps have order 1 or 2")
        if not (dt >= 0.0 and math.isfinite(dt)):
            raise ValueError(f"dt is {dt}; the length of a step is finite and not negative")
        kernels = _kernels()
        potential, heat = self._driving(V, temperature)
        tau, inverse = (0.0, 0.0) if heat is None else (heat.temperature, heat.inverse)
        density, target = self._flat(mu, "mu"), self._target(out)
        flat, (ints, floats, metric, _) = target.reshape(-1), self._mesh

        def task(start: int, stop: int) -> None:
            kernels.solve(
                order, float(dt), tau, inverse, ints, floats, metric, axis, density, potential, start, stop, flat
            )

        lines = self.grid.size // self.grid.shape[axis]
        self._run(task, -(-lines // kernels.tile_width(lines)))
        return target
