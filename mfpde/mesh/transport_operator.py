"""What every transport operator is: fluxes, their divergence, outflow speeds, implicit steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.mesh.schemes import ScharfetterGummel, Scheme
from mfpde.support.arguments import COUNT, NONE, floats, one_of, real, require, shown, values_of, whole
from mfpde.support.arguments import entries as entries_of
from mfpde.support.arrays import Array

__all__ = ["Metric", "Outflow", "TransportOperator"]

Metric = Sequence[float | Callable[..., Any] | None]


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


class Outflow:
    """How fast cells empty in one potential at one temperature.

    Attributes
    ----------
    rate : float
        The largest rate at which a cell empties, in 1/time, rounded up by 3e-14, so that
        ``dt = scheme.positivity / rate`` is safe in round-off too. Zero if nothing moves, NaN if the potential has one.
    cell : int
        Flat index of that cell (the first of equals).
    """

    __slots__ = ("cell", "rate")

    def __init__(self, rate: float, cell: int) -> None:
        self.rate, self.cell = rate, cell


class TransportOperator(ABC):
    """Drift and diffusion, ``div(mu G grad V) + tau div(G omega grad(mu/omega))``, by face fluxes along each axis.

    With ``J = v mu - tau g d(mu)/dx`` and ``v = -g d(V - tau log omega)/dx`` across each face, ``J = 0`` at walls, and
    no fluxes along the labels of species,

        rate_i = - sum_axes (J_(i+1/2) - J_(i-1/2)) / h .

    `Transport` is compiled, `NumpyTransport` plain NumPy, and runs schemes of anybody's own.

    Parameters
    ----------
    grid : Grid
        Where.
    scheme : Scheme
        How the face fluxes are made.
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
        If `scheme` is not a scheme that the operator has fluxes for.

    Notes
    -----
    An operator keeps scratch arrays: use one per thread. Densities below 1e-290 in absolute value do not move:
    round-off there is not relative.
    """

    name: ClassVar[str]

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
        self.scheme = _checked(scheme)
        self.threads = threads
        entries = [None] * grid.dimension if metric is None else list(entries_of(metric, "metric"))
        if len(entries) != grid.dimension:
            raise ValueError(
                f"metric has {len(entries)} entries for {grid.dimension} axes; "
                "give one per axis, None where the rate is 1"
            )
        moves = [axis.moves for axis in grid.axes]
        self._rates = [_metric_on_faces(grid, i, entry) if moves[i] else 0.0 for i, entry in enumerate(entries)]
        self.diffusion_rate = 0.0
        for rate, h in zip(self._rates, grid.spacing, strict=True):
            self.diffusion_rate += 2.0 * (rate if isinstance(rate, float) else float(np.max(rate))) / h**2
        self._log_base, self._drift = None, np.empty(0)
        if log_base is not None:
            values = self._flat(log_base, "log_base")
            if not np.isfinite(values).all():
                raise ValueError("log_base must be finite on every cell: the base measure is positive in the box")
            self._log_base, self._drift = values.copy(), np.empty(grid.size)
        self._held: Outflow | None = None
        """Whose speeds the operator holds."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.grid!r}, {self.scheme!r})"

    # ----- what an operator gives

    @abstractmethod
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
        outflow : Outflow, optional
            What `outflow` gave for this very `V` and temperature: the limiter of `Weno5` then need not find the same
            speeds again. Once others have been asked for, it counts for nothing.

        Returns
        -------
        (grid.shape) array
            `out`. Its sum is zero to round-off.

        Raises
        ------
        ValueError
            On a wrong shape, an `out` that cannot be written flat, a `dt` that is not positive, a negative temperature.
        """

    @abstractmethod
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

    @abstractmethod
    def outflow(self, V: Array, mu: Array | None = None, temperature: float = 0.0) -> Outflow:
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
        """

    def outflow_rate(self, V: Array, mu: Array | None = None, temperature: float = 0.0) -> tuple[float, int]:
        """The rate and the cell of `outflow`."""
        found = self.outflow(V, mu, temperature)
        return found.rate, found.cell

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
        if not self.grid.axes[axis].moves:
            raise ValueError(f"nothing moves along {self.grid.axes[axis]!r}, implicit steps go along another axis")
        if order not in (1, 2):
            raise ValueError(f"order is {order!r}; implicit steps have order 1 or 2")
        if not (dt >= 0.0 and math.isfinite(dt)):
            raise ValueError(f"dt is {dt}; the length of a step is finite and not negative")
        density, potential, tau = self._flat(mu, "mu"), self._driving(V, temperature), float(temperature)
        target = self._target(out)
        self._implicit(axis, density, potential, float(dt), tau, order, target.reshape(-1))
        return target

    @abstractmethod
    def _implicit(
        self, axis: int, mu: Array, potential: Array, dt: float, temperature: float, order: int, out: Array
    ) -> None:
        """`implicit`, after its checks, on flat arrays."""

    # ----- what they have in common

    def _flat(self, values: Array, name: str) -> Array:
        """A flat C-ordered view (or copy) of a cell array."""
        if type(values) is not np.ndarray or values.dtype != np.float64 or not values.flags.c_contiguous:
            values = np.ascontiguousarray(floats(values, name))
        if values.shape != self.grid.shape:
            raise ValueError(f"{name} has shape {values.shape}, the grid {self.grid.shape}")
        return values.reshape(-1)

    def _target(self, out: Array | None) -> Array:
        """`out`, checked, or a new array."""
        if out is None:
            return np.empty(self.grid.shape)
        if out.shape != self.grid.shape or out.dtype != np.float64 or not out.flags.c_contiguous:
            raise ValueError(f"out must be a C-contiguous float64 array of shape {self.grid.shape}")
        return out

    def _driving(self, V: Array, temperature: float) -> Array:
        """The potential that drives the drift, ``V - tau log omega``, flat."""
        potential = self._flat(V, "V")
        if temperature == 0.0:
            return potential
        tau = float(temperature)
        if not (tau > 0.0 and math.isfinite(tau)):
            raise ValueError(f"temperature is {temperature}; it must be finite and not negative")
        if self._log_base is not None:
            np.multiply(self._log_base, -tau, out=self._drift)
            self._drift += potential
            return self._drift
        return potential

    @staticmethod
    def _step(dt: float | None) -> float:
        """The step that the limiter is for, checked; 0 where there is none."""
        if dt is None:
            return 0.0
        step = float(dt)
        if not (step > 0.0 and math.isfinite(step)):
            raise ValueError(f"dt is {dt}; the positivity limiter needs a positive step, or None to be off")
        return step


def _checked(scheme: Scheme) -> Scheme:
    """A scheme that states what it has to."""
    if not isinstance(scheme, Scheme):
        raise TypeError(f"scheme must be a Scheme such as Weno5(), not {shown(scheme)}")
    for name in ("name", "order", "ghost"):
        if not hasattr(scheme, name):
            raise TypeError(f"{type(scheme).__name__} does not state its {name}; see mfpde.Scheme")
    if not (whole(scheme.ghost) and scheme.ghost >= 1):
        raise TypeError(f"{type(scheme).__name__}: ghost must be an integer of at least 1, not {shown(scheme.ghost)}")
    if not (real(scheme.positivity) and scheme.positivity > 0.0):
        raise TypeError(f"{type(scheme).__name__}: positivity must be above 0, not {shown(scheme.positivity)}")
    by_row, by_faces = (next(k for k in type(scheme).__mro__ if name in vars(k)) for name in ("row", "faces"))
    if by_faces is not Scheme and by_row is not by_faces and issubclass(by_row, by_faces):
        raise TypeError(
            f"{by_row.__name__} has a `row` that nothing asks: its fluxes are the `faces` of {by_faces.__name__}; "
            "derive it from mfpde.Scheme, or give it `faces`"
        )
    return scheme
