"""The work that every peer does, and this package beside it: problems in plain NumPy terms, nothing of mfpde.

All have the same form: a density ``mu`` on a box,
``d_t mu = div(mu grad V) + tau lap mu - alpha (V - mean V) mu`` without flux through the ends, and the energy as the
number asked for. But for one of them the temperature ``tau`` is 0.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf

__all__ = [
    "ALPHA",
    "CUT",
    "PEER_WORKS",
    "T_END",
    "Bumps",
    "FewBumps",
    "FewUnits",
    "Mesh",
    "TanhNetwork",
    "Work",
    "few_modes",
    "mesh",
]

Array = NDArray[np.float64]

ALPHA = 1.0
T_END = 2.0

BUMP_CENTRES = {1: ((-2.0,), (1.5,)), 2: ((-1.5, -1.0), (1.5, 1.0)), 3: ((-1.5, -1.0, -0.5), (1.5, 1.0, 0.5))}
BUMP_WEIGHTS = (0.6, 0.4)
BUMP_STD, BUMP_BOX = 0.8, 5.0
NETWORK_STD, NETWORK_BOX = 0.5, 4.0
NOISE = 0.01
"""Temperature of the problem that has one."""
CUT = 1e-8
"""Modes of a kernel or of units that `few_modes` leaves out, relative to the largest, unless told otherwise."""


def network_data() -> tuple[Array, Array]:
    """Inputs and targets of the tanh network."""
    x = np.linspace(-2.0, 2.0, 64)
    return x, np.tanh(2 * x) - 0.5 * np.sin(2 * x)


class Work(enum.Enum):
    """A problem that all do."""

    BUMPS_1D = "gaussian-bumps-1d"
    BUMPS_2D = "gaussian-bumps-2d"
    BUMPS_3D = "gaussian-bumps-3d"
    NETWORK = "tanh-network"
    """In amplitude and weight."""
    NETWORK_3D = "tanh-network-3d"
    """In amplitude, weight and bias."""
    NOISE = "gaussian-bumps-1d-noise"
    """At temperature `NOISE`."""

    @property
    def dimension(self) -> int:
        """Parameters of a neuron."""
        return {Work.BUMPS_1D: 1, Work.NOISE: 1, Work.BUMPS_2D: 2, Work.NETWORK: 2}.get(self, 3)

    @property
    def network(self) -> bool:
        """Whether it is a network with data, else it is bumps with a kernel."""
        return self in (Work.NETWORK, Work.NETWORK_3D)

    @property
    def temperature(self) -> float:
        """``tau``."""
        return NOISE if self is Work.NOISE else 0.0

    @property
    def box(self) -> float:
        """The box is ``[-box, box]`` along each axis."""
        return NETWORK_BOX if self.network else BUMP_BOX

    @property
    def std(self) -> float:
        """Standard deviation of the initial Gaussian along each axis."""
        return NETWORK_STD if self.network else BUMP_STD

    def problem(self) -> mf.Problem:
        """The same problem for mfpde."""
        if self.network:
            x, y = network_data()
            bias = self is Work.NETWORK_3D
            return mf.problems.network(x, y, bias=bias, alpha=ALPHA, t_end=T_END, half_width=NETWORK_BOX)
        centres = BUMP_CENTRES[self.dimension]
        flat: Any = [c[0] for c in centres] if self.dimension == 1 else centres
        return mf.problems.gaussian_bumps(
            centres=flat, weights=BUMP_WEIGHTS, alpha=ALPHA, temperature=self.temperature, t_end=T_END
        )


PEER_WORKS = (Work.BUMPS_1D, Work.BUMPS_2D, Work.NETWORK)
"""Those that packages of all kinds are raced on."""


@dataclass(frozen=True)
class Mesh:
    """A uniform mesh of n cells along each axis, what is known on it, and the non-local term at BLAS speed.

    The methods use operators only, so that they work on arrays of NumPy, JAX and PyTorch alike; `with_arrays` gives
    the mesh with its arrays converted.
    """

    work: Work
    n: int
    convert: Callable[[Array], Any]
    margin: float = 0.0
    """By how much it is wider than the box, at each end; narrower, where it is negative."""
    cut: float = CUT
    """Of modes, where it has them."""

    @cached_property
    def h(self) -> float:
        """Width of a cell."""
        return 2 * (self.work.box + self.margin) / self.n

    @cached_property
    def volume(self) -> float:
        """Volume of a cell."""
        return float(self.h**self.work.dimension)

    @cached_property
    def x(self) -> Array:
        """Centres along each axis."""
        left = self.work.box + self.margin
        return np.asarray(self.h * (np.arange(self.n) + 0.5) - left, dtype=np.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells."""
        return (self.n,) * self.work.dimension

    @cached_property
    def initial(self) -> Any:
        """The initial density at the centres, its discrete mass 1."""
        one = np.exp(-(self.x**2) / (2 * self.work.std**2))
        mu = reduce(np.multiply.outer, [one] * self.work.dimension)
        return self.convert(mu / (mu.sum() * self.volume))

    def potential(self, mu: Any) -> Any:
        """``V`` on the cells."""
        raise NotImplementedError

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """``grad V`` at the centres, from the derivatives of kernel or units, together with V: (V, V_1, ..)."""
        raise NotImplementedError

    def energy(self, mu: Any) -> Any:
        """``E[mu]`` by midpoint sums."""
        raise NotImplementedError


class Bumps(Mesh):
    """``K(z, z') = pi^(d/2) exp(-|z - z'|^2 / 4)``, a product of one matrix along each axis."""

    @cached_property
    def _difference(self) -> Array:
        return self.x[:, None] - self.x

    @cached_property
    def kernel(self) -> Any:
        """The kernel along an axis, times h."""
        return self.convert(self.h * math.sqrt(math.pi) * np.exp(-(self._difference**2) / 4))

    @cached_property
    def slope(self) -> Any:
        """Its derivative in the first argument, times h."""
        factor = self.h * math.sqrt(math.pi) * -0.5 * self._difference
        return self.convert(factor * np.exp(-(self._difference**2) / 4))

    def _sum(self, *orders: int) -> Array:
        total = np.zeros(self.shape)
        for amount, centre in zip(BUMP_WEIGHTS, BUMP_CENTRES[self.work.dimension], strict=True):
            parts = []
            for order, m in zip(orders, centre, strict=True):
                part = math.sqrt(math.pi) * np.exp(-((self.x - m) ** 2) / 4)
                parts.append(part * -0.5 * (self.x - m) if order else part)
            total += amount * reduce(np.multiply.outer, parts)
        return total

    @cached_property
    def target(self) -> Any:
        """``K nu`` on the cells."""
        return self.convert(self._sum(*(0,) * self.work.dimension))

    @cached_property
    def target_slopes(self) -> tuple[Any, ...]:
        """Its derivatives."""
        d = self.work.dimension
        return tuple(self.convert(self._sum(*(int(i == j) for j in range(d)))) for i in range(d))

    @cached_property
    def constant(self) -> float:
        """``1/2 iint K dnu dnu``."""
        centres, weights = np.array(BUMP_CENTRES[self.work.dimension]), np.array(BUMP_WEIGHTS)
        square = ((centres[:, None] - centres) ** 2).sum(axis=2)
        return float(0.5 * math.pi ** (self.work.dimension / 2) * weights @ np.exp(-square / 4) @ weights)

    def potential(self, mu: Any) -> Any:
        """See `Mesh`."""
        return _along_all(self.kernel, mu) - self.target

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        return self._expanded(mu, self.kernel, self.slope)

    def _expanded(self, amounts: Any, kernel: Any, slope: Any) -> tuple[Any, ...]:
        """V and its slopes: one matrix along each axis, that of the derivative along one of them at most.

        The last axis first, so that what has the same matrices on the last ones is multiplied once.
        """
        d = self.work.dimension
        fields: dict[tuple[int, ...], Any] = {(): amounts}
        for axis in reversed(range(d)):
            left = {(0, *orders): _along(kernel, field, axis) for orders, field in fields.items()}
            right = {(1, *orders): _along(slope, field, axis) for orders, field in fields.items() if not any(orders)}
            fields = left | right
        V = fields[(0,) * d] - self.target
        slopes = (fields[tuple(int(i == j) for j in range(d))] for i in range(d))
        return V, *(found - known for found, known in zip(slopes, self.target_slopes, strict=True))

    def energy(self, mu: Any) -> Any:
        """See `Mesh`."""
        return self.volume * ((0.5 * _along_all(self.kernel, mu) - self.target) * mu).sum() + self.constant


def _along(matrix: Any, values: Any, axis: int) -> Any:
    """A matrix times values along an axis, in the form that BLAS takes without a copy."""
    d = values.ndim
    if d == 1:
        return matrix @ values
    if axis == d - 1:
        flat = values.reshape(-1, values.shape[-1]) @ matrix.T
        return flat.reshape(*values.shape[:-1], matrix.shape[0])
    if axis == 0:
        flat = matrix @ values.reshape(values.shape[0], -1)
        return flat.reshape(matrix.shape[0], *values.shape[1:])
    return matrix @ values


def _along_all(matrix: Any, values: Any) -> Any:
    for axis in range(values.ndim):
        values = _along(matrix, values, axis)
    return values


class TanhNetwork(Mesh):
    """``V = c sum_j (u_j - y_j) tanh(w x_j + b) / M`` on (c, w) or (c, w, b); the amplitude is summed first."""

    @cached_property
    def c(self) -> Any:
        """Amplitudes."""
        return self.convert(self.x)

    @cached_property
    def column(self) -> Any:
        """Amplitudes along the first axis."""
        return self.convert(self.x.reshape(-1, *(1,) * self._inner))

    @property
    def _inner(self) -> int:
        """Axes of the argument of tanh."""
        return self.work.dimension - 1

    @cached_property
    def _arguments(self) -> Array:
        """``w x_j + b``, (M, n^inner)."""
        product = np.multiply.outer(network_data()[0], self.x)
        return product if self._inner == 1 else np.add.outer(product, self.x).reshape(len(product), -1)

    @cached_property
    def _units(self) -> Array:
        return np.asarray(np.tanh(self._arguments))

    @cached_property
    def _slopes(self) -> list[Array]:
        slope = 1.0 / np.cosh(self._arguments) ** 2
        return [network_data()[0][:, None] * slope, slope][: self._inner]

    @cached_property
    def units(self) -> Any:
        """``tanh(w x_j + b)``, (M, n^inner)."""
        return self.convert(self._units)

    @cached_property
    def slopes(self) -> tuple[Any, ...]:
        """Its derivatives along each inner axis."""
        return tuple(self.convert(slope) for slope in self._slopes)

    @cached_property
    def targets(self) -> Any:
        """``y_j``."""
        return self.convert(network_data()[1])

    def _amounts(self, mu: Any) -> Any:
        """``sum_c c mu``, (n^inner,)."""
        return self.c @ mu.reshape(self.n, -1)

    def _across(self, residual: Any, units: Any) -> Any:
        """What the amplitude multiplies, on the inner axes."""
        return (residual @ units).reshape((self.n,) * self._inner)

    def _residual(self, mu: Any) -> Any:
        return self.units @ self._amounts(mu) * self.volume - self.targets

    def potential(self, mu: Any) -> Any:
        """See `Mesh`."""
        residual = self._residual(mu)
        return self.column * self._across(residual / len(residual), self.units)

    def _gradient(self, residual: Any, units: Any, slopes: tuple[Any, ...]) -> tuple[Any, ...]:
        across = self._across(residual, units)
        inner = (self.column * self._across(residual, slope) for slope in slopes)
        return self.column * across, 0 * self.column + across, *inner

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        return self._gradient(self._residual(mu) / len(self.targets), self.units, self.slopes)

    def energy(self, mu: Any) -> Any:
        """See `Mesh`."""
        return 0.5 * (self._residual(mu) ** 2).mean()


class FewBumps(Bumps):
    """The kernel by the eigenvectors that matter: what a peer at its best does with a smooth kernel."""

    @cached_property
    def modes(self) -> tuple[Any, Any, Any]:
        """Projection on the modes, (r, n), and from there the kernel's sums and their derivatives, (n, r) each."""
        factor = self.h * math.sqrt(math.pi) * np.exp(-(self._difference**2) / 4)
        values, vectors = np.linalg.eigh(factor)
        kept = values > self.cut * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        slope = -0.5 * self._difference * factor
        return self.convert(vectors.T.copy()), self.convert(vectors * values), self.convert(slope @ vectors)

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        project, kernel, slope = self.modes
        return self._expanded(_along_all(project, mu), kernel, slope)


class FewUnits(TanhNetwork):
    """The units by the singular vectors that matter, so that the 64 inputs are no more than some ten."""

    @cached_property
    def modes(self) -> tuple[Any, tuple[Any, ...], Any, Any]:
        """Units and their derivatives in modes, (r, n^inner) each; the residual's matrix, (r, r), and targets, (r,)."""
        x, y = network_data()
        left, values, right = np.linalg.svd(self._units, full_matrices=False)
        kept = values > self.cut * values[0]
        basis = left[:, kept] * values[kept]
        slopes = tuple(self.convert(np.linalg.lstsq(basis, slope, rcond=None)[0]) for slope in self._slopes)
        gram = basis.T @ basis * (self.volume / len(x))
        return self.convert(right[kept]), slopes, self.convert(gram), self.convert(basis.T @ y / len(x))

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        units, slopes, gram, targets = self.modes
        return self._gradient(gram @ (units @ self._amounts(mu)) - targets, units, slopes)


def _as_is(values: Array) -> Any:
    return values


def few_modes(
    work: Work, n: int, convert: Callable[[Array], Any] = _as_is, margin: float = 0.0, cut: float = CUT
) -> Mesh:
    """As `mesh`, with the non-local term by the modes above `cut`."""
    return (FewUnits if work.network else FewBumps)(work, n, convert, margin, cut)


def mesh(work: Work, n: int, convert: Callable[[Array], Any] = _as_is, margin: float = 0.0) -> Mesh:
    """The mesh of a work, its arrays made by `convert` (``jax.numpy.asarray``, ``torch.from_numpy``)."""
    return (TanhNetwork if work.network else Bumps)(work, n, convert, margin)
