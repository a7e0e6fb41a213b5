"""The work that every peer does, and this package beside it: three problems in plain NumPy terms, nothing of mfpde.

All have the same form: a density ``mu`` on a box, ``d_t mu = div(mu grad V) - alpha (V - mean V) mu`` without flux
through the ends, and the energy at `t_end` as the number asked for.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf

__all__ = ["ALPHA", "T_END", "Bumps", "FewBumps", "FewUnits", "Mesh", "TanhNetwork", "Work", "few_modes", "mesh"]

Array = NDArray[np.float64]

ALPHA = 1.0
T_END = 2.0

BUMP_CENTRES = {1: ((-2.0,), (1.5,)), 2: ((-1.5, -1.0), (1.5, 1.0))}
BUMP_WEIGHTS = (0.6, 0.4)
BUMP_STD, BUMP_BOX = 0.8, 5.0
NETWORK_STD, NETWORK_BOX = 0.5, 4.0
CUT = 1e-8
"""Modes of a kernel or of units that `few_modes` leaves out, relative to the largest."""


def network_data() -> tuple[Array, Array]:
    """Inputs and targets of the tanh network."""
    x = np.linspace(-2.0, 2.0, 64)
    return x, np.tanh(2 * x) - 0.5 * np.sin(2 * x)


class Work(enum.Enum):
    """A problem that all do."""

    BUMPS_1D = "gaussian-bumps-1d"
    BUMPS_2D = "gaussian-bumps-2d"
    NETWORK = "tanh-network"

    @property
    def dimension(self) -> int:
        """Parameters of a neuron."""
        return 1 if self is Work.BUMPS_1D else 2

    @property
    def box(self) -> float:
        """The box is ``[-box, box]`` along each axis."""
        return NETWORK_BOX if self is Work.NETWORK else BUMP_BOX

    @property
    def std(self) -> float:
        """Standard deviation of the initial Gaussian along each axis."""
        return NETWORK_STD if self is Work.NETWORK else BUMP_STD

    def problem(self) -> mf.Problem:
        """The same problem for mfpde."""
        if self is Work.NETWORK:
            x, y = network_data()
            return mf.problems.network(x, y, bias=False, alpha=ALPHA, t_end=T_END, half_width=NETWORK_BOX)
        centres = BUMP_CENTRES[self.dimension]
        flat: Any = [c[0] for c in centres] if self.dimension == 1 else centres
        return mf.problems.gaussian_bumps(centres=flat, weights=BUMP_WEIGHTS, alpha=ALPHA, t_end=T_END)


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
    """By how much it is wider than the box, at each end."""

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
        mu = one if self.work.dimension == 1 else np.multiply.outer(one, one)
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
            total += amount * (parts[0] if len(parts) == 1 else np.multiply.outer(*parts))
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

    def _smooth(self, mu: Any) -> Any:
        return self.kernel @ mu if self.work.dimension == 1 else self.kernel @ mu @ self.kernel

    def potential(self, mu: Any) -> Any:
        """See `Mesh`."""
        return self._smooth(mu) - self.target

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        if self.work.dimension == 1:
            return self.kernel @ mu - self.target, self.slope @ mu - self.target_slopes[0]
        left = self.kernel @ mu
        V = left @ self.kernel - self.target
        first, second = self.target_slopes
        return V, self.slope @ mu @ self.kernel - first, left @ self.slope.T - second

    def energy(self, mu: Any) -> Any:
        """See `Mesh`."""
        return self.volume * ((0.5 * self._smooth(mu) - self.target) * mu).sum() + self.constant


class TanhNetwork(Mesh):
    """``V = c sum_j (u_j - y_j) tanh(z x_j) / M`` on (c, z); the amplitude is summed first."""

    @cached_property
    def c(self) -> Any:
        """Amplitudes, with the volume of a cell."""
        return self.convert(self.x)

    @cached_property
    def column(self) -> Any:
        """Amplitudes as a column."""
        return self.convert(self.x[:, None])

    @cached_property
    def units(self) -> Any:
        """``tanh(z x_j)``, (M, n)."""
        return self.convert(np.tanh(np.multiply.outer(network_data()[0], self.x)))

    @cached_property
    def slopes(self) -> Any:
        """``d/dz tanh(z x_j)``."""
        x = network_data()[0]
        return self.convert(x[:, None] / np.cosh(np.multiply.outer(x, self.x)) ** 2)

    @cached_property
    def targets(self) -> Any:
        """``y_j``."""
        return self.convert(network_data()[1])

    def _residual(self, mu: Any) -> Any:
        return self.units @ (self.c @ mu) * self.volume - self.targets

    def potential(self, mu: Any) -> Any:
        """See `Mesh`."""
        residual = self._residual(mu)
        return self.column * (residual @ self.units / len(residual))

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        residual = self._residual(mu) / len(self.targets)
        across = residual @ self.units
        return self.column * across, 0 * self.column + across, self.column * (residual @ self.slopes)

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
        kept = values > CUT * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        slope = -0.5 * self._difference * factor
        return self.convert(vectors.T.copy()), self.convert(vectors * values), self.convert(slope @ vectors)

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        project, kernel, slope = self.modes
        if self.work.dimension == 1:
            amounts = project @ mu
            return kernel @ amounts - self.target, slope @ amounts - self.target_slopes[0]
        amounts = project @ mu @ project.T
        right = amounts @ kernel.T
        first, second = self.target_slopes
        return kernel @ right - self.target, slope @ right - first, kernel @ (amounts @ slope.T) - second


class FewUnits(TanhNetwork):
    """The units by the singular vectors that matter, so that the 64 inputs are no more than some ten."""

    @cached_property
    def modes(self) -> tuple[Any, Any, Any, Any]:
        """Units and their derivatives in modes, (r, n) each; the residual's matrix, (r, r), and targets, (r,)."""
        x, y = network_data()
        left, values, right = np.linalg.svd(np.tanh(np.multiply.outer(x, self.x)), full_matrices=False)
        kept = values > CUT * values[0]
        basis = left[:, kept] * values[kept]
        slopes = np.linalg.lstsq(basis, x[:, None] / np.cosh(np.multiply.outer(x, self.x)) ** 2, rcond=None)[0]
        gram = basis.T @ basis * (self.volume / len(x))
        return tuple(self.convert(v) for v in (right[kept], slopes, gram, basis.T @ y / len(x)))  # type: ignore[return-value]

    def gradient(self, mu: Any) -> tuple[Any, ...]:
        """See `Mesh`."""
        units, slopes, gram, targets = self.modes
        residual = gram @ (units @ (self.c @ mu)) - targets
        across = residual @ units
        return self.column * across, 0 * self.column + across, self.column * (residual @ slopes)


def _as_is(values: Array) -> Any:
    return values


def few_modes(work: Work, n: int, convert: Callable[[Array], Any] = _as_is) -> Mesh:
    """As `mesh`, with the non-local term by few modes."""
    return (FewUnits if work is Work.NETWORK else FewBumps)(work, n, convert)


def mesh(work: Work, n: int, convert: Callable[[Array], Any] = _as_is, margin: float = 0.0) -> Mesh:
    """The mesh of a work, its arrays made by `convert` (``jax.numpy.asarray``, ``torch.from_numpy``)."""
    return (TanhNetwork if work is Work.NETWORK else Bumps)(work, n, convert, margin)
