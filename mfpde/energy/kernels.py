"""Symmetric pair kernels K(theta, theta') and their factorisations.

A kernel on a box becomes either a *factorisation*, ``K = sum_k s_k psi_k(theta) psi_k(theta')`` with features that are
products over the axes, or, where a factor is too rough or too narrow for that, an operator on a grid (dense per axis,
or FFT) and a direct sum over pairs of points.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from mfpde.energy.base import (
    MEMORY_LIMIT,
    Array,
    axis_positions,
    central_difference,
    difference_step,
)
from mfpde.energy.gradients import PLACES, check_gradient, probe_points
from mfpde.grid import Axis, Grid
from mfpde.support import arguments
from mfpde.support.arguments import numbers, read_only, real, shown, values_of

if TYPE_CHECKING:
    from mfpde.energy.gaussian_sums import GaussianSums

__all__ = [
    "AxisKernel",
    "CallableKernel",
    "CosineKernel",
    "GaussianKernel",
    "Kernel",
    "LinearKernel",
    "PairKernel",
    "SeparableKernel",
    "TranslationInvariantKernel",
]

MAX_NODES = 300
MAX_RANK = 224
MAX_FEATURES = 2**18
OTHERS = 8
"""Second arguments of a kernel at which its gradient along the first is looked at."""
FFT_FROM = 1024
"""Cells along an axis from which a translation-invariant factor is applied by FFT instead of a dense matrix."""


# ---------------------------------------------------------------------------------------------------------------------
# factors along one axis
# ---------------------------------------------------------------------------------------------------------------------


class AxisFactor(ABC):
    """``k(x, y) = sum_j s_j psi_j(x) psi_j(y)`` along one axis, with psi scaled so that s is 1 or -1.

    `sizes` are the magnitudes of the eigenvalues (1 where they mean nothing); they truncate products of factors.
    """

    signs: Array
    sizes: Array

    @property
    def rank(self) -> int:
        """The number of features."""
        return self.signs.size

    @abstractmethod
    def values(self, x: Array) -> Array:
        """The features at x (n,): shape ``(rank, n)``."""

    @abstractmethod
    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,): shape ``(rank, n)``."""


class OneFactor(AxisFactor):
    """The factor 1 of an axis the kernel does not depend on."""

    def __init__(self) -> None:
        self.signs = self.sizes = np.ones(1)

    def values(self, x: Array) -> Array:
        return np.ones((1, x.size))

    def derivatives(self, x: Array) -> Array:
        return np.zeros((1, x.size))


class LinearFactor(AxisFactor):
    """x y: rank one, exactly."""

    def __init__(self) -> None:
        self.signs = self.sizes = np.ones(1)

    def values(self, x: Array) -> Array:
        return np.array(x, dtype=float)[None, :]

    def derivatives(self, x: Array) -> Array:
        return np.ones((1, x.size))


class CosineFactor(AxisFactor):
    """A finite cosine series, exactly: cos(w (x - y)) = cos wx cos wy + sin wx sin wy."""

    def __init__(self, constant: float, amplitudes: Array, frequency: float) -> None:
        active = np.flatnonzero(amplitudes)
        self._frequencies = frequency * (active + 1.0)
        self._roots = np.sqrt(np.abs(amplitudes[active]))
        self._constant = math.sqrt(abs(constant))
        signs, sizes = np.sign(amplitudes[active]), np.abs(amplitudes[active])
        head = [np.sign(constant)] if constant else []
        self.signs = np.concatenate([head, signs, signs])
        self.sizes = np.concatenate([[abs(constant)] if constant else [], sizes, sizes])

    def values(self, x: Array) -> Array:
        t = self._frequencies[:, None] * x
        head = np.full((1 if self._constant else 0, x.size), self._constant)
        return np.concatenate([head, self._roots[:, None] * np.cos(t), self._roots[:, None] * np.sin(t)])

    def derivatives(self, x: Array) -> Array:
        t = self._frequencies[:, None] * x
        slope = (self._frequencies * self._roots)[:, None]
        return np.concatenate([np.zeros((1 if self._constant else 0, x.size)), -slope * np.sin(t), slope * np.cos(t)])


class NystromFactor(AxisFactor):
    """The truncated eigen-decomposition of a smooth kernel on an interval.

    psi_j(x) = |lambda_j|^{-1/2} sum_i sqrt(w_i) v_ij k(x, x_i) at quadrature nodes x_i, where (lambda_j, v_j) are the
    eigenpairs of sqrt(w_i) k(x_i, x_l) sqrt(w_l). The kernel smooths the round-off of the eigenvectors, which a
    polynomial through v_ij / sqrt(w_i) would amplify near the ends. Outside the interval the factorised kernel is
    still right when one of its arguments is inside, and stays bounded, so that a stray particle does no harm.
    """

    def __init__(self, kernel: AxisKernelOnAxis, nodes: Array, vectors: Array, eigenvalues: Array) -> None:
        self._kernel, self._nodes = kernel, nodes[:, None]
        self._map = np.ascontiguousarray((vectors / np.sqrt(np.abs(eigenvalues))).T)
        self.signs, self.sizes = np.sign(eigenvalues), np.abs(eigenvalues)

    def values(self, x: Array) -> Array:
        return self._map @ self._kernel.value(x[None, :], self._nodes)

    def derivatives(self, x: Array) -> Array:
        return self._map @ self._kernel.derivative(x[None, :], self._nodes)


def golden_points(lower: float, upper: float, n: int) -> Array:
    """Points that fill an interval evenly and avoid every regular mesh."""
    unit: Array = np.asarray((0.5 + 0.6180339887498949 * np.arange(1, n + 1)) % 1.0, dtype=np.float64)
    return lower + (upper - lower) * unit


@cache
def gauss_legendre(n: int) -> tuple[Array, Array]:
    """The nodes and weights of Gauss-Legendre quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)


def nystrom_factor(
    kernel: AxisKernelOnAxis, lower: float, upper: float, periodic: bool, tolerance: float
) -> AxisFactor | None:
    """The factor of a kernel on an interval, or None where it is too rough, too narrow, or of too high a rank.

    The nodes are refined until the factorised kernel agrees with the kernel at points between them.
    """
    probes = golden_points(lower, upper, 97)
    exact = kernel.value(probes[:, None], probes[None, :])
    scale = float(np.max(np.abs(exact)))
    if scale == 0.0:
        return None
    n = 24
    while n <= MAX_NODES:
        unit, unit_weights = (np.arange(n) * (2.0 / n) - 1.0, np.full(n, 2.0 / n)) if periodic else gauss_legendre(n)
        nodes: Array = np.asarray(0.5 * (lower + upper) + 0.5 * (upper - lower) * unit, dtype=np.float64)
        roots: Array = np.sqrt(np.asarray(0.5 * (upper - lower) * unit_weights, dtype=np.float64))
        matrix = roots[:, None] * kernel.value(nodes[:, None], nodes[None, :]) * roots
        eigenvalues, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        order = np.argsort(-np.abs(eigenvalues), kind="stable")
        keep = order[np.abs(eigenvalues[order]) > tolerance * np.max(np.abs(eigenvalues))]
        # a rank near the number of nodes means that they do not resolve the kernel
        if keep.size <= min(0.8 * n, MAX_RANK):
            vectors = vectors[:, keep]
            # the sign of an eigenvector is arbitrary: fix it, so that stored responses mean the same everywhere
            vectors *= np.where(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(keep.size)] < 0, -1.0, 1.0)
            factor = NystromFactor(kernel, nodes, roots[:, None] * vectors, eigenvalues[keep])
            features = factor.values(probes)
            error = np.max(np.abs((features.T * factor.signs) @ features - exact))
            if error <= 30.0 * max(tolerance, 1e-15) * scale:
                return factor
        n = (3 * n) // 2
    return None


# ---------------------------------------------------------------------------------------------------------------------
# kernels of one parameter
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AxisKernelOnAxis:
    """A one-parameter kernel as it acts on one axis: wrapped where the axis is periodic."""

    value: Callable[[Array, Array], Array]
    derivative: Callable[[Array, Array], Array]
    translation_invariant: bool
    factor: AxisFactor | None = None
    definite: int = 0
    gaussian: GaussianKernel | None = None


class AxisKernel(ABC):
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
        """See `AxisKernel`."""
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
        """See `AxisKernel`."""
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
        given = np.atleast_1d(numbers(self.amplitudes, "CosineKernel: the amplitudes"))
        amplitudes = tuple(given.ravel().tolist())
        if given.ndim != 1 or not (np.all(np.isfinite(given)) and real(self.constant)):
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
        given = (self.constant, *self.amplitudes)
        return 1 if min(given) >= 0 else -1 if max(given) <= 0 else 0

    def on_axis(self, axis: Axis) -> AxisKernelOnAxis:
        """See `AxisKernel`."""
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
class CallableKernel(AxisKernel):
    """A symmetric kernel given by a function ``k(x, y)`` of two arrays that broadcast.

    Parameters
    ----------
    function : callable
        ``function(x, y) -> array``; symmetric. On a periodic axis it must be periodic.
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
        """See `AxisKernel`."""
        x = golden_points(axis.lower, axis.upper, 23)
        values: Array = values_of(self.function, x[:, None], x[None, :])
        values = np.array(np.broadcast_to(values, (x.size, x.size)))
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


# ---------------------------------------------------------------------------------------------------------------------
# kernels of all parameters
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GridOperator:
    """``mu -> int K(., theta') mu(theta') dtheta'`` at the centres of a grid."""

    apply: Callable[[Array], Array]
    description: str


class BoundKernel(ABC):
    """A kernel on a box: factorised if `factors` is not None, else by `matrix`, `derivatives` and `operator`."""

    axes: tuple[Axis, ...]
    factors: tuple[AxisFactor, ...] | None = None

    @property
    def near(self) -> GaussianSums | None:
        """Sums over points by the near ones alone, where the kernel is a narrow Gaussian."""
        return None

    @abstractmethod
    def matrix(self, points: Array, others: Array) -> Array:
        """K(points, others), shape ``(n, m)``."""

    @abstractmethod
    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        """The derivative of `matrix` along axis i of `points`."""

    @abstractmethod
    def operator(self, grid: Grid) -> GridOperator:
        """The kernel on a grid."""


class Kernel(ABC):
    """A symmetric kernel K(theta, theta') of all parameters."""

    @property
    def definite(self) -> int:
        """1 if it is positive semidefinite by its construction, -1 if its negative is, 0 where that is not known."""
        return 0

    @abstractmethod
    def bind(self, axes: tuple[Axis, ...], tolerance: float, include: Array | None = None) -> BoundKernel:
        """The kernel on a box; a factorisation also holds at the points `include` (m, d)."""


class SeparableKernel(Kernel):
    """A product of one-parameter kernels, ``K = prod_i k_i(theta_i, theta'_i)``.

    Each factor is truncated by its eigen-decomposition on the box where that pays, so that a grid costs two small
    matrix products an axis and points cost one feature vector each.

    Parameters
    ----------
    factors : mapping of str to AxisKernel, optional
        The kernel of each axis, by name. Axes that are not named contribute the factor 1.
    **named : AxisKernel
        The same as keywords: ``SeparableKernel(c=LinearKernel(), y=GaussianKernel(1.0))``.

    Raises
    ------
    ValueError
        On no factor, something that is no `AxisKernel`, or an axis that the box does not have (when bound).
    """

    def __init__(self, factors: Mapping[str, AxisKernel] | None = None, **named: AxisKernel) -> None:
        self.kernels: dict[str, AxisKernel] = {**(factors or {}), **named}
        if not self.kernels:
            raise ValueError("a separable kernel needs the kernel of at least one axis")
        for name, kernel in self.kernels.items():
            if not isinstance(kernel, AxisKernel):
                raise ValueError(
                    f"axis {name!r}: {shown(kernel)} is no one-parameter kernel; "
                    "use GaussianKernel, LinearKernel, CosineKernel or CallableKernel"
                )

    @property
    def definite(self) -> int:
        """The product of the signs of its factors: a product of positive kernels is positive."""
        return math.prod(kernel.definite for kernel in self.kernels.values())

    def bind(self, axes: tuple[Axis, ...], tolerance: float, include: Array | None = None) -> BoundKernel:
        """See `Kernel`."""
        return BoundSeparable(self, axes, tolerance, include)

    def __repr__(self) -> str:
        return f"SeparableKernel({', '.join(f'{name}={kernel!r}' for name, kernel in self.kernels.items())})"


class BoundSeparable(BoundKernel):
    """A product kernel on a box."""

    def __init__(
        self, kernel: SeparableKernel, axes: tuple[Axis, ...], tolerance: float, include: Array | None
    ) -> None:
        self.axes = axes
        positions = axis_positions(tuple(kernel.kernels), axes, "the kernel")
        self.on_axes: list[AxisKernelOnAxis | None] = [None] * len(axes)
        self.axis_factors: list[AxisFactor | None] = [OneFactor() for _ in axes]
        for i, axis_kernel in zip(positions, kernel.kernels.values(), strict=True):
            axis = axes[i]
            on_axis = self.on_axes[i] = axis_kernel.on_axis(axis)
            factor = on_axis.factor
            if factor is None:
                lower, upper = axis.lower, axis.upper
                if include is not None and not axis.periodic:
                    lower, upper = min(lower, float(include[:, i].min())), max(upper, float(include[:, i].max()))
                factor = nystrom_factor(on_axis, lower, upper, axis.periodic, tolerance)
            self.axis_factors[i] = factor
        compressed = [factor for factor in self.axis_factors if factor is not None]
        if len(compressed) == len(axes) and math.prod(factor.rank for factor in compressed) <= MAX_FEATURES:
            self.factors = tuple(compressed)

    @cached_property
    def near(self) -> GaussianSums | None:
        from mfpde.support import compiling

        if compiling.interpreted():
            return None
        from mfpde.energy.gaussian_sums import GaussianSums

        variances, amplitude = [math.inf] * len(self.axes), 1.0
        for i, on_axis in enumerate(self.on_axes):
            if on_axis is None:
                continue
            if on_axis.gaussian is None:
                return None
            variances[i] = on_axis.gaussian.variance
            amplitude *= on_axis.gaussian.amplitude
        periods = [axis.length if axis.periodic else math.inf for axis in self.axes]
        if not GaussianSums.fit(variances, periods):
            return None
        return GaussianSums(amplitude, np.array(variances), np.array(periods))

    def matrix(self, points: Array, others: Array) -> Array:
        result = np.ones((len(points), len(others)))
        for i, on_axis in enumerate(self.on_axes):
            if on_axis is not None:
                result *= on_axis.value(points[:, i, None], others[None, :, i])
        return result

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        result = np.ones((len(points), len(others))) if self.on_axes[i] is not None else np.zeros((len(points), 1))
        for j, on_axis in enumerate(self.on_axes):
            if on_axis is not None:
                evaluate = on_axis.derivative if j == i else on_axis.value
                result = result * evaluate(points[:, j, None], others[None, :, j])
        return np.broadcast_to(result, (len(points), len(others)))

    def operator(self, grid: Grid) -> GridOperator:
        steps: list[tuple[Callable[[Array], Array], Callable[[Array], Array] | None]] = []
        words = []
        # axes with a factorisation shrink first, so that the dense ones work on less
        order = sorted(range(grid.dimension), key=lambda i: self.axis_factors[i] is None)
        for i in order:
            factor, on_axis, n, h = self.axis_factors[i], self.on_axes[i], grid.shape[i], grid.spacing[i]
            x, name = grid.centres(i), grid.axes[i].name
            if factor is not None:
                B = factor.values(x)
                steps.append((along(h * B, i), along(np.ascontiguousarray((factor.signs[:, None] * B).T), i)))
                words.append(f"{name}: rank {factor.rank}")
                continue
            assert on_axis is not None
            if on_axis.translation_invariant and n >= FFT_FROM:
                differences = fft_differences(grid, i)
                samples = on_axis.value(differences, np.zeros(1))
                steps.append((convolution(h * samples, (i,), (n,)), None))
                words.append(f"{name}: FFT of {samples.size}")
                continue
            if 8 * n * n > MEMORY_LIMIT:
                raise ValueError(
                    f"the kernel of axis {name!r} has no factorisation and its matrix of {n} x {n} would take "
                    f"{8 * n * n / 2**30:.1f} GiB; use a coarser mesh along {name!r}, or a kernel with "
                    "translation_invariant=True (FFT)"
                )
            steps.append((along(h * on_axis.value(x[:, None], x[None, :]), i), None))
            words.append(f"{name}: dense {n} x {n}")

        def apply(mu: Array) -> Array:
            for forward, _ in steps:
                mu = forward(mu)
            for _, backward in reversed(steps):
                if backward is not None:
                    mu = backward(mu)
            return mu

        return GridOperator(apply, "axis by axis (" + ", ".join(words) + ")")


def along(matrix: Array, i: int) -> Callable[[Array], Array]:
    """Apply a matrix along axis i."""
    matrix = np.ascontiguousarray(matrix)

    def apply(values: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, values, axes=(1, i)), 0, i))

    return apply


def fft_differences(grid: Grid, i: int) -> Array:
    """The differences theta_i - theta'_i that occur on a grid, in the order of a circular convolution."""
    import scipy.fft

    n, h = grid.shape[i], grid.spacing[i]
    if grid.axes[i].periodic:
        j = np.arange(n)
        return h * np.where(j <= n // 2, j, j - n).astype(float)
    size = scipy.fft.next_fast_len(2 * n - 1, real=True)
    j = np.arange(size)
    # the middle entries touch nothing; the difference there is any that occurs
    return h * np.where(j < n, j, np.where(j > size - n, j - size, 0)).astype(float)


def convolution(samples: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Callable[[Array], Array]:
    """Convolve along one or all axes with an even kernel sampled at `fft_differences`.

    The kernel's transform is kept, and is real. Lines are padded, transformed and cut a few at a time, in cache; lines
    that would only hold zeros are never made. What is returned belongs to the next call.
    """
    import scipy.fft

    sizes = samples.shape
    # inverse transforms are left without their factor
    spectrum = scipy.fft.rfftn(samples).real / samples.size
    if len(axes) == 1:
        return _convolution_along(spectrum, sizes[0], axes[0])
    return _convolution_everywhere(np.ascontiguousarray(spectrum.T), sizes, shape)


FFT_ENTRIES = 2**16
"""Entries transformed at once: about as many complex numbers as fit a second-level cache."""


def _convolution_along(spectrum: Array, size: int, axis: int) -> Callable[[Array], Array]:
    """Along one axis, the same for all lines."""
    import scipy.fft

    from mfpde.support.threads import in_shares

    def apply(values: Array) -> Array:
        outer, n, inner = math.prod(values.shape[:axis]), values.shape[axis], math.prod(values.shape[axis + 1 :])
        source = values.reshape(outer, n, inner).transpose(0, 2, 1)
        result = np.empty(values.shape)
        target = result.reshape(outer, n, inner).transpose(0, 2, 1)
        if inner == 1:  # rows, many at a time
            source, target = source.transpose(1, 0, 2), target.transpose(1, 0, 2)
        groups, lines = source.shape[:2]
        width = max(8, FFT_ENTRIES // size)
        strips = -(-lines // width)

        def task(first: int, last: int) -> None:
            for k in range(first, last):
                group, strip = k // strips, slice(k % strips * width, (k % strips + 1) * width)
                image = scipy.fft.rfft(source[group, strip], n=size)
                image *= spectrum
                target[group, strip] = scipy.fft.irfft(image, n=size, norm="forward", overwrite_x=True)[:, :n]

        in_shares(task, groups * strips, values.size)
        return result

    return apply


def _convolution_everywhere(
    spectrum: Array, sizes: tuple[int, ...], shape: tuple[int, ...]
) -> Callable[[Array], Array]:
    """Along all of two or more axes; the spectrum has them in reverse.

    A real transform of the rows leaves a convolution in one dimension less for every wave number along them.
    """
    import scipy.fft

    from mfpde.support.threads import in_shares

    n, size, waves = shape[-1], sizes[-1], len(spectrum)
    cells = math.prod(shape)
    rows = cells // n
    image, result = np.empty((rows, waves), complex), np.empty(shape)
    height = max(1, FFT_ENTRIES // size)
    # four complex numbers are a cache line
    width = max(4, FFT_ENTRIES * waves // spectrum.size // 4 * 4)

    def forward(values: Array, first: int, last: int) -> None:
        for k in range(first, last):
            strip = slice(k * height, (k + 1) * height)
            image[strip] = scipy.fft.rfft(values[strip], n=size)

    def between(first: int, last: int) -> None:
        for k in range(first, last):
            strip = slice(k * width, (k + 1) * width)
            lines = image[:, strip].T
            lines[...] = _convolve(lines, spectrum[strip], shape[:-1])

    def back(values: Array, first: int, last: int) -> None:
        for k in range(first, last):
            strip = slice(k * height, (k + 1) * height)
            values[strip] = scipy.fft.irfft(image[strip], n=size, norm="forward")[:, :n]

    def apply(values: Array) -> Array:
        flat, target = values.reshape(rows, n), result.reshape(rows, n)
        in_shares(lambda first, last: forward(flat, first, last), -(-rows // height), cells)
        in_shares(between, -(-waves // width), cells)
        in_shares(lambda first, last: back(target, first, last), -(-rows // height), cells)
        return result

    return apply


def _convolve(lines: Array, spectrum: Array, shape: tuple[int, ...]) -> Array:
    """Convolve complex ``(waves..., cells)`` by spectra ``(waves..., sizes in reverse)``, but for a factor.

    Every wave number along the last axis leaves a convolution along the others.
    """
    import scipy.fft

    n, size = shape[-1], spectrum.shape[lines.ndim - 1]
    source = lines.reshape(*lines.shape[:-1], -1, n)
    image = np.empty((*source.shape[:-1], size), complex)
    image[..., :n] = source
    image[..., n:] = 0.0
    image = scipy.fft.fft(image, overwrite_x=True)
    if len(shape) == 1:
        factor = spectrum[..., None, :]
        np.multiply(image.real, factor, out=image.real)
        np.multiply(image.imag, factor, out=image.imag)
    else:
        image = np.swapaxes(_convolve(np.swapaxes(image, -1, -2), spectrum, shape[:-1]), -1, -2)
    return scipy.fft.ifft(image, norm="forward", overwrite_x=True)[..., :n].reshape(lines.shape)


class TranslationInvariantKernel(Kernel):
    """``K(theta, theta') = k(theta - theta')`` in any dimension, applied on a grid by real FFT.

    Parameters
    ----------
    function : callable
        ``function(*differences) -> array``: one array an axis, in the order of the axes, that broadcast; even under
        a change of sign of all of them. On a periodic axis the differences are the least ones, in
        [-length/2, length/2], and the function must close smoothly there.
    gradient : callable, optional
        ``gradient(*differences)`` gives the derivative along each axis. Without it, 6-th order central differences.

    Raises
    ------
    ValueError
        When bound: a function that is not even, or not finite.

    Notes
    -----
    Points interact by direct sums, n m evaluations. Where the kernel is a product, `SeparableKernel` is faster.
    """

    def __init__(self, function: Callable[..., Array], gradient: Callable[..., Sequence[Array]] | None = None) -> None:
        arguments.function(function, "TranslationInvariantKernel: the kernel")
        arguments.function(gradient, "TranslationInvariantKernel: the gradient", optional=True)
        self.function, self.gradient = function, gradient

    def bind(self, axes: tuple[Axis, ...], tolerance: float, include: Array | None = None) -> BoundKernel:
        """See `Kernel`."""
        return BoundTranslationInvariant(self, axes)

    def __repr__(self) -> str:
        return f"TranslationInvariantKernel({getattr(self.function, '__name__', self.function)!s})"


def check_kernel_gradient(kernel: BoundKernel, what: str) -> None:
    """Hold the derivatives of a kernel against differences, along the first of its arguments."""
    axes = kernel.axes
    others = probe_points(axes, PLACES + OTHERS)[PLACES:]
    check_gradient(
        what,
        axes,
        lambda p: kernel.matrix(p, others).T,
        lambda p: np.stack([kernel.derivatives(p, others, i).T for i in range(len(axes))], axis=-1),
        OTHERS,
        [f"K(., ({', '.join(f'{x:.6g}' for x in q)}))" for q in others],
    )


class BoundTranslationInvariant(BoundKernel):
    """A translation-invariant kernel on a box."""

    def __init__(self, kernel: TranslationInvariantKernel, axes: tuple[Axis, ...]) -> None:
        self.axes, self._kernel = axes, kernel
        probes = probe_points(axes, 64)
        there, back = self.matrix(probes[:1], probes), self.matrix(probes, probes[:1]).T
        if not (np.all(np.isfinite(there)) and np.all(np.isfinite(back))):
            raise ValueError("the translation-invariant kernel is not finite on differences of points of the box")
        if (gap := float(np.max(np.abs(there - back)))) > 1e-10 * max(float(np.max(np.abs(there))), 1e-300):
            raise ValueError(
                f"the translation-invariant kernel is not even: k(d) - k(-d) reaches {gap:g}; "
                "an energy needs a symmetric kernel, pass the mean of the two"
            )
        if kernel.gradient is not None:
            check_kernel_gradient(self, "the translation-invariant kernel")

    def _differences(self, points: Array, others: Array) -> list[Array]:
        result = []
        for i, axis in enumerate(self.axes):
            d = points[:, i, None] - others[None, :, i]
            result.append(d - axis.length * np.round(d / axis.length) if axis.periodic else d)
        return result

    def at_differences(self, differences: Sequence[Array]) -> Array:
        """The kernel at differences, one array an axis, that broadcast."""
        shape = np.broadcast_shapes(*(d.shape for d in differences))
        return np.broadcast_to(values_of(self._kernel.function, *differences), shape)

    def matrix(self, points: Array, others: Array) -> Array:
        return self.at_differences(self._differences(points, others))

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        d = self._differences(points, others)
        if self._kernel.gradient is not None:
            return np.asarray(self._kernel.gradient(*read_only(*d))[i], dtype=float)

        def value(t: Array) -> Array:
            return values_of(self._kernel.function, *d[:i], t, *d[i + 1 :])

        return central_difference(value, d[i], difference_step(self.axes[i]))

    def operator(self, grid: Grid) -> GridOperator:
        differences = np.ix_(*(fft_differences(grid, i) for i in range(grid.dimension)))
        samples = self.at_differences(differences)
        apply = convolution(samples * grid.cell_volume, tuple(range(grid.dimension)), grid.shape)
        return GridOperator(apply, "real FFT of " + " x ".join(map(str, samples.shape)))


class PairKernel(Kernel):
    """An arbitrary symmetric kernel ``K(points (n, d), points (m, d)) -> (n, m)``: a dense matrix.

    Parameters
    ----------
    function : callable
        ``function(points, others) -> (n, m) array``, symmetric.
    gradient : callable, optional
        ``gradient(points, others) -> (n, m, d) array``, along `points`. Without it, 6-th order central differences.

    Raises
    ------
    ValueError
        When bound: a kernel that is not symmetric or not finite; on a grid: a matrix of more than 1 GiB.
    """

    def __init__(
        self, function: Callable[[Array, Array], Array], gradient: Callable[[Array, Array], Array] | None = None
    ) -> None:
        arguments.function(function, "PairKernel: the kernel")
        arguments.function(gradient, "PairKernel: the gradient", optional=True)
        self.function, self.gradient = function, gradient

    def bind(self, axes: tuple[Axis, ...], tolerance: float, include: Array | None = None) -> BoundKernel:
        """See `Kernel`."""
        return BoundPair(self, axes)

    def __repr__(self) -> str:
        return f"PairKernel({getattr(self.function, '__name__', self.function)!s})"


class BoundPair(BoundKernel):
    """An arbitrary kernel on a box."""

    def __init__(self, kernel: PairKernel, axes: tuple[Axis, ...]) -> None:
        self.axes, self._kernel = axes, kernel
        probes = probe_points(axes, 32)
        values = self.matrix(probes, probes)
        if not np.all(np.isfinite(values)):
            raise ValueError("the pair kernel is not finite on the box")
        if (gap := float(np.max(np.abs(values - values.T)))) > 1e-10 * max(float(np.max(np.abs(values))), 1e-300):
            raise ValueError(
                f"the pair kernel is not symmetric: K(p, q) - K(q, p) reaches {gap:g}; "
                "an energy needs a symmetric kernel, pass the mean of the two"
            )
        if kernel.gradient is not None:
            check_kernel_gradient(self, "the pair kernel")

    def matrix(self, points: Array, others: Array) -> Array:
        values = values_of(self._kernel.function, points, others)
        if values.shape != (len(points), len(others)):
            raise ValueError(
                f"the pair kernel must return shape {(len(points), len(others))} for so many points, not {values.shape}"
            )
        return values

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        if self._kernel.gradient is not None:
            return values_of(self._kernel.gradient, points, others)[:, :, i]

        def value(t: Array) -> Array:
            moved = points.copy()
            moved[:, i] = t
            return self.matrix(moved, others)

        return central_difference(value, points[:, i], difference_step(self.axes[i]))

    def operator(self, grid: Grid) -> GridOperator:
        size = 8 * grid.size**2
        if size > MEMORY_LIMIT:
            raise ValueError(
                f"the pair kernel's matrix on {grid.size} cells would take {size / 2**30:.1f} GiB (limit "
                f"{MEMORY_LIMIT / 2**30:.0f} GiB); use fewer cells, a SeparableKernel or a TranslationInvariantKernel"
            )
        points = grid.points()
        dense = np.ascontiguousarray(self.matrix(points, points)) * grid.cell_volume
        dense = 0.5 * (dense + dense.T)
        return GridOperator(
            lambda mu: np.dot(dense, mu.reshape(-1)).reshape(grid.shape), f"dense matrix of {grid.size} x {grid.size}"
        )
