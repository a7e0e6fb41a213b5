"""Sums over the cells of a mesh whose kernel depends on differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory

__all__ = [
    "FFT_ENTRIES",
    "FFT_FROM",
    "along",
    "convolution",
    "convolution_memory",
    "fft_differences",
    "fft_size",
    "is_awkward",
]

FFT_FROM = 1024
"""Cells along an axis from which a translation-invariant factor is applied by FFT instead of a dense matrix."""


def along(matrix: Array, i: int) -> Callable[[Array], Array]:
    """Apply a matrix along axis i."""
    matrix = np.ascontiguousarray(matrix)

    def apply(values: Array) -> Array:
        return np.ascontiguousarray(np.moveaxis(np.tensordot(matrix, values, axes=(1, i)), 0, i))

    return apply


def fft_size(grid: Grid, i: int) -> int:
    """How many differences occur along an axis of a grid: those of a circle, padded where the axis is none."""
    import scipy.fft

    n = grid.shape[i]
    return n if grid.axes[i].periodic else int(scipy.fft.next_fast_len(2 * n - 1, real=True))


def is_awkward(n: int) -> bool:
    """Whether a transform of length n may go by a convolution of more than twice the length (Bluestein's algorithm).

    SciPy does so where the largest prime factor is larger than the product of the others, and it is then quicker.
    """
    left, factor = n, 2
    while factor * factor <= left:
        left, factor = (left // factor, factor) if left % factor == 0 else (left, factor + 1)
    return n >= 50 and left * left > n


def fft_differences(grid: Grid, i: int) -> Array:
    """The differences theta_i - theta'_i that occur on a grid, in the order of a circular convolution."""
    n, h, size = grid.shape[i], grid.spacing[i], fft_size(grid, i)
    if grid.axes[i].periodic:
        j = np.arange(n)
        return h * np.where(j <= n // 2, j, j - n).astype(float)
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


AWKWARD = (10, 6)
"""Arrays that an awkward length takes more: those of its plan, which SciPy keeps, and those while it is used."""
FFT_ENTRIES = 2**16
"""Entries transformed at once: about as many complex numbers as fit a second-level cache."""


def convolution_memory(sizes: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]) -> Memory:
    """What `convolution` will take for samples of so many `sizes`, in bytes, its result included.

    While it is made: the differences, the samples and what a function makes of them on its way, and their transform.
    """
    cells, samples = math.prod(shape), math.prod(sizes)
    awkward = 8.0 * max((n for n in sizes if is_awkward(n)), default=0)
    plan, used = (arrays * awkward for arrays in AWKWARD)
    spectrum = samples // sizes[-1] * (sizes[-1] // 2 + 1)
    making = 8.0 * ((5 if len(sizes) == 1 else 3) * samples + 2 * spectrum) + used
    if len(axes) == 1:
        # lines are padded, transformed and brought back a few at a time
        lines = max(8, FFT_ENTRIES // sizes[0]) if cells > shape[axes[0]] else 1
        return Memory(8.0 * spectrum + plan, making, 8.0 * (cells + 3.5 * lines * sizes[0]) + used)
    rows, waves = cells // shape[-1], sizes[-1] // 2 + 1
    image = 2.0 * rows * waves
    width = max(4, FFT_ENTRIES * waves // spectrum // 4 * 4)
    between = 3 * 2.0 * width * spectrum / waves
    working = 8.0 * max(between, 4.0 * FFT_ENTRIES) + used
    return Memory(8.0 * (spectrum + image + cells) + plan, making, working)


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
