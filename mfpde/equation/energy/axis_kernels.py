"""Kernels along one axis."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfpde.equation.energy.base import central_difference, difference_step
from mfpde.equation.energy.factors import AxisFactor, CosineFactor, LinearFactor, SpeciesFactor, golden_points
from mfpde.equation.energy.gradients import check_gradient
from mfpde.equation.grid import Axis
from mfpde.equation.species import Species
from mfpde.support import arguments
from mfpde.support.arguments import numbers, real, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import values_at
from mfpde.support.travel import Portable

__all__ = [
    "AxisKernel",
    "AxisKernelOnAxis",
    "CallableKernel",
    "CosineKernel",
    "GaussianKernel",
    "LinearKernel",
    "OTHERS",
    "SpeciesKernel",
]


OTHERS = 8
"""Second arguments of a kernel at which its gradient along the first is looked at."""


@dataclass(frozen=True)
class AxisKernelOnAxis:
    """A one-parameter kernel as it acts on one axis: wrapped where the axis is periodic."""

    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]
    translation_invariant: bool
    factor: AxisFactor | None = None
    definite: int = 0
    gaussian: GaussianKernel | None = None


class AxisKernel(Portable, ABC):
    """A symmetric kernel k(x, y) of one parameter."""

    @property
    def definite(self) -> int:
        """1 if it is positive semidefinite by its construction, -1 if its negative is, 0 where that is not known."""
        return 0

    @abstractmethod
    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis."""


@dataclass(frozen=True)
class GaussianKernel(AxisKernel):
    """``amplitude * exp(-(x - y)^2 / (2 variance))``; on a periodic axis the sum over all images.

    Parameters
    ----------
    variance : float
        Positive. Two units ``exp(-(x-z)^2/(2 s^2))`` overlap with variance ``2 s^2``.
    amplitude : float
        Not zero. The density of a normal law has ``amplitude = (2 pi variance)**-0.5``.

    Raises
    ------
    ValueError
        On a variance that is not positive or an amplitude that is zero or not finite.
    """

    variance: float
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if not (real(self.variance) and self.variance > 0):
            raise ValueError(f"GaussianKernel: the variance must be positive, not {shown(self.variance)}")
        if not (real(self.amplitude) and self.amplitude != 0):
            raise ValueError(f"GaussianKernel: the amplitude must be finite and not 0, not {shown(self.amplitude)}")

    @property
    def definite(self) -> int:
        """The sign of the amplitude: the Fourier transform is a Gaussian."""
        return 1 if self.amplitude > 0 else -1

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis, with the sum over all images where that is periodic."""
        rate, amplitude = -0.5 / self.variance, self.amplitude

        def plain(d: Array) -> Array:
            return amplitude * np.exp(rate * (d * d))

        def plain_derivative(d: Array) -> Array:
            return 2.0 * rate * d * plain(d)

        if not axis.periodic:
            return AxisKernelOnAxis(
                lambda x, y: plain(x - y),
                lambda x, y: plain_derivative(x - y),
                True,
                definite=self.definite,
                gaussian=self,
            )
        period = axis.length
        images = period * np.arange(-(n := 1 + math.ceil(9.5 * math.sqrt(self.variance) / period)), n + 1)

        def nearest(x: Array, y: Array) -> Array:
            d = np.asarray(x - y)
            return d - period * np.round(d / period)

        return AxisKernelOnAxis(
            lambda x, y: np.asarray(sum(plain(nearest(x, y) + shift) for shift in images)),
            lambda x, y: np.asarray(sum(plain_derivative(nearest(x, y) + shift) for shift in images)),
            True,
            definite=self.definite,
            gaussian=self,
        )


@dataclass(frozen=True)
class LinearKernel(AxisKernel):
    """``x y``, the kernel of an amplitude: units ``c phi(z)`` have ``K = c c' k(z, z')``. Rank one, exactly."""

    @property
    def definite(self) -> int:
        """1: a square."""
        return 1

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis, of rank 1; a periodic one is refused, as the kernel jumps where it closes."""
        if axis.periodic:
            raise ValueError(f"LinearKernel on axis {axis.name!r}: x y jumps where a periodic axis closes; use another")
        return AxisKernelOnAxis(lambda x, y: x * y, lambda x, y: y + 0.0 * x, False, LinearFactor(), self.definite)


@dataclass(frozen=True)
class CosineKernel(AxisKernel):
    """``constant + sum_{k>=1} amplitudes[k-1] cos(k frequency (x - y))``. Its rank is exact.

    Parameters
    ----------
    amplitudes : sequence of float
        Of any sign; at least one that is not zero, unless the constant is not.
    constant : float
        The mean.
    frequency : float
        Positive; on a periodic axis a multiple of ``2 pi / length``.

    Raises
    ------
    ValueError
        On values that are not finite, or a frequency that does not fit a periodic axis (when bound).
    """

    amplitudes: tuple[float, ...]
    constant: float = 0.0
    frequency: float = 1.0

    def __post_init__(self) -> None:
        values = np.atleast_1d(numbers(self.amplitudes, "CosineKernel: the amplitudes"))
        amplitudes = tuple(values.ravel().tolist())
        if values.ndim != 1 or not (np.all(np.isfinite(values)) and real(self.constant)):
            wrong = f"{shown(self.amplitudes)}, {shown(self.constant)}"
            raise ValueError(f"CosineKernel: amplitudes and constant must be finite, not {wrong}")
        object.__setattr__(self, "amplitudes", amplitudes)
        if not (any(amplitudes) or self.constant):
            raise ValueError("CosineKernel: all amplitudes and the constant are zero; leave the interaction out")
        if not (real(self.frequency) and self.frequency > 0):
            raise ValueError(f"CosineKernel: the frequency must be positive, not {shown(self.frequency)}")

    @property
    def definite(self) -> int:
        """The sign of the constant and the amplitudes, where they have one."""
        coefficients = (self.constant, *self.amplitudes)
        return 1 if min(coefficients) >= 0 else -1 if max(coefficients) <= 0 else 0

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis, of finite rank; a periodic one must have a whole number of turns."""
        turns = self.frequency * axis.length / (2 * math.pi)
        if axis.periodic and abs(turns - round(turns)) > 1e-12 * turns:
            raise ValueError(
                f"CosineKernel on the periodic axis {axis.name!r}: the frequency {self.frequency:g} makes {turns:g} "
                f"turns around its length {axis.length:g}; use a multiple of {2 * math.pi / axis.length:g}"
            )
        a = np.array(self.amplitudes)
        w = self.frequency * np.arange(1, a.size + 1)

        def value(x: Array, y: Array) -> Array:
            return self.constant + np.cos(np.multiply.outer(x - y, w)) @ a

        def derivative(x: Array, y: Array) -> Array:
            return -np.sin(np.multiply.outer(x - y, w)) @ (a * w)

        factor = CosineFactor(self.constant, a, self.frequency)
        return AxisKernelOnAxis(value, derivative, True, factor, self.definite)


@dataclass(frozen=True)
class SpeciesKernel(AxisKernel):
    """``k(i, j) = table[i][j]`` between the labels of an axis of `mfpde.Species`: which species see each other.

    Parameters
    ----------
    table : sequence of sequence of float
        One row and one column a label; symmetric, not all 0. Signs too: ``[[1, -1], [-1, 1]]`` is the kernel of a
        signed measure whose parts are two species.

    Raises
    ------
    ValueError
        On a table that is not square, symmetric and finite; when bound, on an axis that has not so many labels.
    """

    table: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        values = numbers(self.table, "SpeciesKernel: the table")
        if values.ndim != 2 or values.shape[0] != values.shape[1] or not np.isfinite(values).all() or not values.any():
            raise ValueError(f"SpeciesKernel: the table has a finite number for each pair, not {shown(self.table)}")
        if not np.array_equal(values, values.T):
            raise ValueError(
                "SpeciesKernel: the table is not symmetric, and an energy needs a symmetric kernel; factors of the "
                "potential for each species are mfpde.BySpecies, any other potential is an mfpde.Functional"
            )
        object.__setattr__(self, "table", tuple(map(tuple, values.tolist())))

    @property
    def definite(self) -> int:
        """The sign of the eigenvalues, where they have one."""
        values = np.linalg.eigvalsh(np.array(self.table))
        least = 1e-14 * float(np.abs(values).max())
        return 1 if values.min() >= -least else -1 if values.max() <= least else 0

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis of species, of its exact rank."""
        if not isinstance(axis, Species) or len(axis.labels) != len(self.table):
            raise ValueError(
                f"SpeciesKernel of {len(self.table)} labels on {axis!r}: it needs an axis of so many species"
            )
        table = np.array(self.table)
        factor = SpeciesFactor(table, axis.indices)
        return AxisKernelOnAxis(
            lambda x, y: table[axis.indices(x), axis.indices(y)],
            lambda x, y: np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y))),
            False,
            factor,
            self.definite,
        )


@dataclass(frozen=True)
class CallableKernel(AxisKernel):
    """A symmetric kernel given by a function ``k(x, y)`` of two arrays that broadcast.

    Parameters
    ----------
    function : callable
        ``function(x, y) -> array``; symmetric. On a periodic axis it must be periodic. See ``docs/functions.md``.
    derivative : callable, optional
        ``derivative(x, y)``, along x. Without it, 6-th order central differences.
    translation_invariant : bool
        Whether k depends on ``x - y`` only (then FFT may be used).

    Raises
    ------
    ValueError
        When bound: a kernel that is not symmetric, not finite, or not periodic on a periodic axis.
    """

    function: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array] | None = None
    translation_invariant: bool = False

    def __post_init__(self) -> None:
        arguments.function(self.function, "CallableKernel: the kernel")
        arguments.function(self.derivative, "CallableKernel: the derivative", optional=True)
        if not isinstance(self.translation_invariant, bool):
            wrong = shown(self.translation_invariant)
            raise ValueError(f"CallableKernel: translation_invariant is True or False, not {wrong}")

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """The kernel on an axis, once it has proved symmetric, finite, and periodic where the axis is."""
        x = golden_points(axis.lower, axis.upper, 23)
        values = values_at(self.function, (x[:, None], x[None, :]), f"the kernel of axis {axis.name!r}")
        if not np.all(np.isfinite(values)):
            raise ValueError(f"the kernel of axis {axis.name!r} is not finite on [{axis.lower:g}, {axis.upper:g}]")
        scale = max(float(np.max(np.abs(values))), 1e-300)
        if (gap := float(np.max(np.abs(values - values.T)))) > 1e-10 * scale:
            raise ValueError(
                f"the kernel of axis {axis.name!r} is not symmetric: k(x, y) - k(y, x) reaches {gap:g}; "
                "an energy needs a symmetric kernel, pass the mean of the two"
            )
        if axis.periodic:
            ends = [values_of(self.function, np.full_like(x, end), x) for end in (axis.lower, axis.upper)]
            if (gap := float(np.max(np.abs(ends[0] - ends[1])))) > 1e-9 * scale:
                raise ValueError(
                    f"the kernel of the periodic axis {axis.name!r} jumps by {gap:g} where the axis closes; "
                    f"use a kernel of period {axis.length:g}"
                )
        own = self.derivative
        if own is not None:
            others = golden_points(axis.lower, axis.upper, 23 + OTHERS)[23:, None]
            check_gradient(
                f"the kernel of axis {axis.name!r}",
                [axis],
                lambda p: np.broadcast_to(values_of(self.function, p.T, others), (OTHERS, len(p))),
                lambda p: np.broadcast_to(values_of(own, p.T, others), (OTHERS, len(p)))[..., None],
                OTHERS,
                [f"k(., {y:.6g})" for y in others[:, 0]],
            )
        step = difference_step(axis)

        def derivative(x: Array, y: Array) -> Array:
            if self.derivative is not None:
                return values_of(self.derivative, x, y)
            return central_difference(lambda t: values_of(self.function, t, y), x, step)

        def value(x: Array, y: Array) -> Array:
            return values_of(self.function, x, y)

        return AxisKernelOnAxis(value, derivative, self.translation_invariant)
