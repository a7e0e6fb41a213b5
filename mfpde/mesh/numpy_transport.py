"""The transport operator in plain NumPy: it runs the fluxes of any scheme, and keeps mass whatever they are."""

from __future__ import annotations

import numpy as np

from mfpde.equation.grid import End, Grid, face_shape, moving
from mfpde.mesh.constants import FLUSH, ROUND_UP
from mfpde.mesh.faces import Faces, Padded, ghost_faces, ghost_rows
from mfpde.mesh.numpy_implicit import implicit_line
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.transport_operator import Metric, Outflow, TransportOperator
from mfpde.support.arguments import read_only, refuse_masked
from mfpde.support.arrays import Array

__all__ = ["NumpyTransport"]


class NumpyTransport(TransportOperator):
    """The operator of drift and diffusion in plain NumPy; see `TransportOperator` for what all operators have.

    The cells are padded, the scheme's `Scheme.faces` gives the fluxes across each axis, and these are differenced: what
    leaves a cell enters the next one, walls let nothing through, and both ends of a periodic axis are one face.

    Parameters
    ----------
    grid : Grid
        Where.
    scheme : Scheme
        Any, also one of your own.
    metric, log_base, threads
        As for every operator; it uses one thread.

    Raises
    ------
    TypeError
        If `scheme` is no scheme, or does not state what a scheme has to.
    ValueError
        Besides those of all operators, if fluxes do not broadcast to one entry a face, or are not real.

    Examples
    --------
    >>> from mfpde.equation.grid import Axis, Grid
    >>> from mfpde.mesh.schemes import Upwind
    >>> grid = Grid([Axis("x", 0, 1)], [4])
    >>> transport = NumpyTransport(grid, Upwind())
    >>> transport.rate(np.array([0.0, 1.0, 0.0, 0.0]), grid.centres(0))
    array([ 4., -4.,  0.,  0.])
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
        self._speeds = np.empty(grid.shape)

    def _faces(self, i: int, mu: Array, potential: Array, temperature: float, dt: float) -> Faces:
        """What lies around the faces across axis `i`; density and potential are on the mesh."""
        grid, ghost = self.grid, self.scheme.ghost
        axis, n, rows = grid.axes[i], grid.shape[i], ghost_rows(grid.axes[i], grid.shape[i], ghost)

        def padded(values: Array) -> Array:
            return read_only(np.moveaxis(values, i, 0)[rows])[0]

        g = self._rates[i]
        if not isinstance(g, float):
            g = np.moveaxis(g.reshape((1,) * (grid.dimension - g.ndim) + g.shape), i, 0)
            g = np.broadcast_to(g, (n + 1, *g.shape[1:]))  # also where it is the same all along the axis
            (g,) = read_only(g[ghost_faces(axis, n, ghost)])
        return Faces.of(
            Padded(
                n=n,
                ghost=ghost,
                mu=padded(mu),
                V=padded(potential),
                speeds=padded(self._speeds) if dt > 0.0 else None,
                g=g,
                h=grid.spacing[i],
                temperature=temperature,
                dt=dt,
                dimension=len(moving(grid.axes)),
                lower_truncated=axis.lower_end is End.TRUNCATION,
                upper_truncated=axis.upper_end is End.TRUNCATION,
            )
        )

    def _through(self, i: int, flux: Array | float) -> Array:
        """The fluxes that a scheme gives across axis `i`, its first one: none through walls, one through a seam."""
        n = self.grid.shape[i]
        shape = (n + 1, *(size for j, size in enumerate(self.grid.shape) if j != i))
        refuse_masked(flux, f"the fluxes of {self.scheme!r}")
        if (kind := np.asarray(flux).dtype).kind not in "fiu":
            raise ValueError(f"the fluxes of {self.scheme!r} must be real numbers, not {kind}")
        try:
            flux = np.array(np.broadcast_to(flux, shape), dtype=np.float64)
        except ValueError:
            given = np.shape(flux)
            raise ValueError(
                f"the fluxes of {self.scheme!r} have shape {given}, the faces across {self.grid.axes[i].name!r} {shape}"
            ) from None
        if self.grid.axes[i].periodic:
            flux[n] = flux[0]
        else:
            flux[0] = flux[n] = 0.0
        return flux

    def fluxes(self, mu: Array, V: Array, dt: float | None = None, temperature: float = 0.0) -> list[Array]:
        """The fluxes through the faces, see `TransportOperator.fluxes`."""
        return self._all_fluxes(mu, V, dt, temperature, None)

    def _all_fluxes(
        self, mu: Array, V: Array, dt: float | None, temperature: float, outflow: Outflow | None
    ) -> list[Array]:
        shape = self.grid.shape
        density, potential = self._flat(mu, "mu").reshape(shape), self._driving(V, temperature).reshape(shape)
        density = np.where(np.abs(density) < FLUSH, 0.0, density)
        step = self._step(dt) if self.scheme.limited else 0.0
        if step > 0.0 and (outflow is None or outflow is not self._held):
            self._find_speeds(potential, temperature)
        fluxes = []
        for i, axis in enumerate(self.grid.axes):
            if not axis.moves:
                fluxes.append(np.zeros(face_shape(self.grid, i)))
                continue
            at = self._faces(i, density, potential, float(temperature), step)
            fluxes.append(np.moveaxis(self._through(i, self.scheme.faces(at)), 0, i))
        return fluxes

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
        fluxes = self._all_fluxes(mu, V, dt, temperature, outflow)
        out = self._target(out)
        out[...] = 0.0
        for i, (flux, h) in enumerate(zip(fluxes, self.grid.spacing, strict=True)):
            out -= np.diff(flux, axis=i) * (1.0 / h)
        return out

    def _find_speeds(self, potential: Array, temperature: float) -> None:
        """Fill the outflow speeds of all cells."""
        self._held = None
        self._speeds[...] = 0.0
        for i, axis in enumerate(self.grid.axes):
            if not axis.moves:
                continue
            # the density plays no part
            at = self._faces(i, potential, potential, float(temperature), 0.0)
            v = self.scheme.velocity(at)
            leaving = np.maximum(v[1:], 0.0) - np.minimum(v[:-1], 0.0)
            if temperature > 0.0:
                spread = np.array(np.broadcast_to(self.scheme.conductance(at), v.shape))
                if not axis.periodic:
                    spread[0] = spread[-1] = 0.0
                leaving += spread[:-1] + spread[1:]
            self._speeds += np.moveaxis(leaving, 0, i) * (1.0 / self.grid.spacing[i])

    def outflow(self, V: Array, mu: Array | None = None, temperature: float = 0.0) -> Outflow:
        """The largest rate at which a cell empties, see `TransportOperator.outflow`."""
        self._find_speeds(self._driving(V, temperature).reshape(self.grid.shape), temperature)
        speeds = self._speeds
        if mu is not None and self.scheme.limited:
            speeds = np.where(mu >= 1e-30 * mu.max(), speeds, 0.0)
        cell = int(np.argmax(speeds))
        self._held = Outflow(float(speeds.flat[cell]) * ROUND_UP, cell)
        return self._held

    def _implicit(
        self, axis: int, mu: Array, potential: Array, dt: float, temperature: float, order: int, out: Array
    ) -> None:
        shape = self.grid.shape
        density, driving = mu.reshape(shape), potential.reshape(shape)
        at = self._faces(axis, density, driving, temperature, 0.0)
        spread = self.scheme.conductance(at) if temperature > 0.0 else 0.0
        v = self.scheme.velocity(at)
        # rates at which mass crosses each face to the right and to the left, times the step
        ahead, back = ((spread + part) * (dt / at.h) for part in (np.maximum(v, 0.0), -np.minimum(v, 0.0)))
        rows = np.moveaxis(density, axis, 0)
        result = implicit_line(rows, ahead, back, periodic=self.grid.axes[axis].periodic, order=order)
        out.reshape(shape)[...] = np.moveaxis(result, 0, axis)
