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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.energy.axis_kernels import OTHERS, AxisKernel, AxisKernelOnAxis
from mfpde.equation.energy.base import MEMORY_LIMIT, axis_positions, central_difference, difference_step
from mfpde.equation.energy.convolution import (
    FFT_ENTRIES,
    FFT_FROM,
    along,
    convolution,
    convolution_memory,
    fft_differences,
    fft_size,
    is_awkward,
)
from mfpde.equation.energy.definite import MOST_CELLS, positive_matrix, sign_of_spectrum
from mfpde.equation.energy.factors import BLOCK, AxisFactor, OneFactor
from mfpde.equation.energy.gradients import PLACES, check_gradient, probe_points
from mfpde.equation.energy.nystrom import nystrom_factor
from mfpde.equation.grid import Axis, Grid
from mfpde.support import arguments
from mfpde.support.arguments import read_only, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import Form, in_its_form, on_shape, slopes_of, values_at
from mfpde.support.memory import Memory
from mfpde.support.travel import Portable

if TYPE_CHECKING:
    from mfpde.equation.energy.gaussian_sums import GaussianSums

__all__ = [
    "BoundKernel",
    "Kernel",
    "MOST_MODES",
    "PairKernel",
    "SeparableKernel",
    "TranslationInvariantKernel",
]

MAX_FEATURES = 2**18
GRADIENT = "the gradient of the pair kernel"
MOST_MODES = 2**22
"""Fourier coefficients of a torus around the box."""


@dataclass(frozen=True)
class GridOperator:
    """``mu -> int K(., theta') mu(theta') dtheta'`` at the centres of a grid.

    Attributes
    ----------
    apply : callable
    description : str
    matrix : (cells, cells) array or None
        The same as a matrix, where it is applied as one.
    """

    apply: Callable[[Array], Array]
    description: str
    matrix: Array | None = None


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

    @abstractmethod
    def memory(self, grid: Grid) -> Memory:
        """What `operator` takes, in bytes."""

    def sign_on(self, grid: Grid, free_mass: bool) -> int:
        """1 where the kernel is known to be positive semidefinite on a mesh, -1 its negative, 0 for not known.

        Without `free_mass` that is asked of changes that sum to 0 only. It is known for any number of cells: a product
        over the axes is positive where the matrices of its axes are, a kernel of differences where its Fourier
        coefficients on a torus around the box are.
        """
        return 0


class Kernel(Portable, ABC):
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
        """The product on a box, each factor truncated; a factorisation also holds at the points `include` (m, d)."""
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
        """Sums over points by the near ones alone; None where the kernel is no narrow Gaussian along some axis."""
        from mfpde.support import compiling

        if compiling.interpreted():
            return None
        from mfpde.equation.energy.gaussian_sums import GaussianSums

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
        """The product of the kernels along the axes, shape ``(n, m)``."""
        result = np.ones((len(points), len(others)))
        for i, on_axis in enumerate(self.on_axes):
            if on_axis is not None:
                result *= on_axis.value(points[:, i, None], others[None, :, i])
        return result

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        """The derivative of `matrix` along axis i of `points`, shape ``(n, m)``, 0 along axes it ignores."""
        result = np.ones((len(points), len(others))) if self.on_axes[i] is not None else np.zeros((len(points), 1))
        for j, on_axis in enumerate(self.on_axes):
            if on_axis is not None:
                evaluate = on_axis.derivative if j == i else on_axis.value
                result = result * evaluate(points[:, j, None], others[None, :, j])
        return np.broadcast_to(result, (len(points), len(others)))

    def operator(self, grid: Grid) -> GridOperator:
        """The kernel on a grid, one axis after the other: by its factor, by its matrix, or by a convolution."""
        steps: list[tuple[Callable[[Array], Array], Callable[[Array], Array] | None]] = []
        words = []
        dense: Array | None = None
        # axes with a factorisation shrink first, so that the dense ones work on less
        order = sorted(range(grid.dimension), key=lambda i: self.axis_factors[i] is None)
        for i in order:
            factor, on_axis, n, h = self.axis_factors[i], self.on_axes[i], grid.shape[i], grid.spacing[i]
            x, name = grid.centres(i), grid.axes[i].name
            if factor is not None:
                B = factor.table(x)
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
            dense = h * on_axis.value(x[:, None], x[None, :])
            steps.append((along(dense, i), None))
            words.append(f"{name}: dense {n} x {n}")

        def apply(mu: Array) -> Array:
            for forward, _ in steps:
                mu = forward(mu)
            for _, backward in reversed(steps):
                if backward is not None:
                    mu = backward(mu)
            return mu

        one = dense if grid.dimension == 1 else None
        return GridOperator(apply, "axis by axis (" + ", ".join(words) + ")", one)

    def memory(self, grid: Grid) -> Memory:
        """Factors, matrices and spectra of the axes; arrays between the axes while it works."""
        kept = making = 0.0
        working, cells = 3.0 * 8.0 * grid.size, grid.size
        for i in sorted(range(grid.dimension), key=lambda i: self.axis_factors[i] is None):
            factor, on_axis, n = self.axis_factors[i], self.on_axes[i], grid.shape[i]
            if factor is not None:
                needs = Memory.arrays(factor.rank * n, 2, 2 + factor.width * min(n, BLOCK) / (factor.rank * n))
                cells = cells // n * factor.rank
            elif on_axis is not None and on_axis.translation_invariant and n >= FFT_FROM:
                needs = convolution_memory((fft_size(grid, i),), (i,), grid.shape)
            else:
                needs = Memory.arrays(n * n, 1, 4)
            making = max(making, kept + needs.kept + needs.making)
            kept += needs.kept
            working = max(working, needs.working, 4.0 * 8.0 * cells)
        return Memory(kept, max(making - kept, 0.0), working)

    def sign_on(self, grid: Grid, free_mass: bool) -> int:
        """The product of the signs of its factors."""
        active = sum(on_axis is not None for on_axis in self.on_axes)
        # a constant that is added to a kernel does nothing to changes of mass 0; to a factor of a product it does
        level = free_mass or active > 1
        return math.prod(self._sign_along(grid, i, level) for i in range(grid.dimension))

    def _sign_along(self, grid: Grid, i: int, level: bool) -> int:
        """1 for a factor that is positive semidefinite on the mesh, -1 for the negative of one, 0 for not known."""
        on_axis, n, x = self.on_axes[i], grid.shape[i], grid.centres(i)
        if on_axis is None or on_axis.definite:
            return 1 if on_axis is None else on_axis.definite
        if on_axis.translation_invariant:
            last = n // 2 + 1 if grid.axes[i].periodic else n
            there = np.ravel(on_axis.value(x[:last], x[:1]))
            # around a circle of twice the length, which is as even as the kernel
            back = there[1 : n - last + 1] if grid.axes[i].periodic else there[1:-1]
            if sign := sign_of_spectrum(np.concatenate([there, back[::-1]]), level):
                return sign
        if n > MOST_CELLS:
            return 0
        matrix = np.array(np.broadcast_to(on_axis.value(x[:, None], x[None, :]), (n, n)))
        return next((sign for sign in (1, -1) if positive_matrix(sign * matrix, level)), 0)


class TranslationInvariantKernel(Kernel):
    """``K(theta, theta') = k(theta - theta')`` in any dimension, applied on a grid by real FFT.

    Parameters
    ----------
    function : callable
        ``function(*differences) -> array``: one array an axis, in the order of the axes, that broadcast; even under
        a change of sign of all of them. On a periodic axis the differences are the least ones, in
        [-length/2, length/2], and the function must close smoothly there. See ``docs/functions.md``.
    gradient : callable, optional
        ``gradient(*differences)`` gives the derivative along each axis, of one axis alone or in a sequence. Without
        it, 6-th order central differences.

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
        """The kernel on a box, which has no factorisation: differences are the short way round on periodic axes."""
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
        return values_at(self._kernel.function, differences, "the translation-invariant kernel")

    def matrix(self, points: Array, others: Array) -> Array:
        """The kernel at the differences of points, the short way round on periodic axes, shape ``(n, m)``."""
        return self.at_differences(self._differences(points, others))

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        """The derivative of `matrix` along axis i of `points`, by differences where no gradient is given."""
        d = self._differences(points, others)
        if self._kernel.gradient is not None:
            return np.asarray(slopes_of(self._kernel.gradient, *d)[i], dtype=float)

        def value(t: Array) -> Array:
            return values_of(self._kernel.function, *d[:i], t, *d[i + 1 :])

        return central_difference(value, d[i], difference_step(self.axes[i]))

    def operator(self, grid: Grid) -> GridOperator:
        """The kernel on a grid, as a convolution."""
        differences = np.ix_(*(fft_differences(grid, i) for i in range(grid.dimension)))
        samples = self.at_differences(differences)
        apply = convolution(samples * grid.cell_volume, tuple(range(grid.dimension)), grid.shape)
        return GridOperator(apply, "real FFT of " + " x ".join(map(str, samples.shape)))

    def memory(self, grid: Grid) -> Memory:
        """What the convolution takes."""
        sizes = tuple(fft_size(grid, i) for i in range(grid.dimension))
        return convolution_memory(sizes, tuple(range(grid.dimension)), grid.shape)

    def sign_on(self, grid: Grid, free_mass: bool) -> int:
        """The sign of the Fourier coefficients on tori around the box: the mesh's matrix is a block of theirs."""
        # of length 2 n - 2 only along one axis: there a function is as even as its kernel
        for factor in (1, 2, 4, 8) if grid.dimension == 1 else (2, 4, 8):
            sizes = [
                n if axis.periodic else _circle(max(2 * n - 2, 1) if factor == 1 else factor * n)
                for n, axis in zip(grid.shape, grid.axes, strict=True)
            ]
            if math.prod(sizes) > MOST_MODES:
                break
            steps = [np.where(np.arange(n) <= n // 2, np.arange(n), np.arange(n) - n) for n in sizes]
            with np.errstate(all="ignore"):  # it need not be defined beyond the box
                samples = self.at_differences(np.ix_(*(h * k for h, k in zip(grid.spacing, steps, strict=True))))
            if not np.all(np.isfinite(samples)):
                break
            if (sign := sign_of_spectrum(samples, free_mass)) or all(axis.periodic for axis in grid.axes):
                return sign
        return 0


def _circle(size: int) -> int:
    """How many points a circle of at least as many has whose transform does not take twenty times the memory."""
    import scipy.fft

    if size <= FFT_ENTRIES or not is_awkward(size):
        return size
    return 2 * int(scipy.fft.next_fast_len((size + 1) // 2, real=True))


class PairKernel(Kernel):
    """An arbitrary symmetric kernel: a dense matrix.

    Parameters
    ----------
    function : callable
        ``function(*coordinates, *others) -> array``, symmetric: ``k(x, other_x)`` on one axis, ``k(x, y, other_x,
        other_y)`` on two. The coordinates have shape (n, 1), the others (1, m), the result (n, m). Taken as well:
        ``function(points, others) -> (n, m) array`` of points (n, d) and (m, d); see ``docs/functions.md``.
    gradient : callable, optional
        ``gradient(*coordinates, *others)`` gives the derivative along each axis of the coordinates, of one axis alone
        or in a sequence. Taken as well: ``gradient(points, others) -> (n, m, d) array``. Without it, 6-th order
        central differences.

    Raises
    ------
    ValueError
        When bound: a kernel that is not symmetric or not finite, or has another shape; on a grid: a matrix of more
        than 1 GiB.

    Examples
    --------
    >>> from mfpde.equation.energy import Interaction
    >>> energy = Interaction(PairKernel(lambda x, y, other_x, other_y: np.exp(-np.hypot(x - other_x, y - other_y))))
    >>> bound = energy.bind([Axis("x", -1, 1), Axis("y", -1, 1)])
    >>> round(bound.energy(np.array([[0.0, 0.0], [0.3, 0.4]]), np.array([1.0, 1.0])), 6)
    1.606531
    """

    def __init__(self, function: Callable[..., Array], gradient: Callable[..., Any] | None = None) -> None:
        arguments.function(function, "PairKernel: the kernel")
        arguments.function(gradient, "PairKernel: the gradient", optional=True)
        self.function, self.gradient = function, gradient

    def bind(self, axes: tuple[Axis, ...], tolerance: float, include: Array | None = None) -> BoundKernel:
        """The kernel on a box, which has no factorisation."""
        return BoundPair(self, axes)

    def __repr__(self) -> str:
        return f"PairKernel({getattr(self.function, '__name__', self.function)!s})"


def _forms(name: str, axes: Sequence[Axis], of_pairs: Callable[..., Array]) -> tuple[Form, Form]:
    """How a function of two places may be called: with the coordinates of all pairs, or with the points."""
    names = [axis.name for axis in axes]
    text = ", ".join([*names, *(f"other_{axis}" for axis in names)])
    return Form(f"{name}({text})", 2 * len(axes), of_pairs), Form(f"{name}(points, others)", 2, values_of)


def _of_pairs(function: Callable[..., Any], points: Array, others: Array) -> Array:
    """A kernel of the coordinates, (n, 1) and (1, m), at points (n, d) and (m, d)."""
    return values_of(function, *points.T[:, :, None], *others.T[:, None, :])


def _slopes_of_pairs(gradient: Callable[..., Any], points: Array, others: Array) -> Array:
    """Its gradient there, shape (n, m, d)."""
    slopes = slopes_of(lambda *x: gradient(*x, *read_only(*others.T[:, None, :])), *points.T[:, :, None])
    shape = len(points), len(others)
    return np.stack([on_shape(np.asarray(slope, dtype=float), shape, GRADIENT) for slope in slopes], axis=-1)


class BoundPair(BoundKernel):
    """An arbitrary kernel on a box."""

    def __init__(self, kernel: PairKernel, axes: tuple[Axis, ...]) -> None:
        self.axes = axes
        self._gradient: Callable[..., Array] | None = None
        probes = probe_points(axes, 32)
        few = probes[:5], probes[5:8]
        self._matrix = in_its_form(kernel.function, _forms("k", axes, _of_pairs), few, (5, 3), "the pair kernel")
        values = self.matrix(probes, probes)
        if not np.all(np.isfinite(values)):
            raise ValueError("the pair kernel is not finite on the box")
        if (gap := float(np.max(np.abs(values - values.T)))) > 1e-10 * max(float(np.max(np.abs(values))), 1e-300):
            raise ValueError(
                f"the pair kernel is not symmetric: K(p, q) - K(q, p) reaches {gap:g}; "
                "an energy needs a symmetric kernel, pass the mean of the two"
            )
        if kernel.gradient is not None:
            forms = _forms("gradient", axes, _slopes_of_pairs)
            self._gradient = in_its_form(kernel.gradient, forms, few, (5, 3, len(axes)), GRADIENT)
            check_kernel_gradient(self, "the pair kernel")

    def matrix(self, points: Array, others: Array) -> Array:
        values = self._matrix(points, others)
        if values.shape != (len(points), len(others)):
            raise ValueError(
                f"the pair kernel must return shape {(len(points), len(others))} for so many points, not {values.shape}"
            )
        return values

    def derivatives(self, points: Array, others: Array, i: int) -> Array:
        if self._gradient is not None:
            return self._gradient(points, others)[:, :, i]
        if not self.axes[i].moves:
            return np.zeros((len(points), len(others)))

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
            lambda mu: np.dot(dense, mu.reshape(-1)).reshape(grid.shape),
            f"dense matrix of {grid.size} x {grid.size}",
            dense,
        )

    def memory(self, grid: Grid) -> Memory:
        """A matrix of all pairs of cells, and while it is made some more of them; at most what `operator` refuses."""
        entries = min(grid.size**2, MEMORY_LIMIT // 8)
        return Memory.arrays(entries, 1, 1.6)._replace(working=8.0 * grid.size)
