"""Kernels along one axis as sums of products."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array

__all__ = [
    "BLOCK",
    "AxisFactor",
    "CosineFactor",
    "LinearFactor",
    "OneFactor",
    "SpeciesFactor",
    "gauss_legendre",
    "golden_points",
]

BLOCK = 4096
"""Points at which features are made at once: of 300 nodes that are 10 MB, some times over."""


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

    @property
    def width(self) -> int:
        """Numbers that each point takes while the features there are made."""
        return 4 * self.rank

    @abstractmethod
    def values(self, x: Array) -> Array:
        """The features at x (n,): shape ``(rank, n)``."""

    @abstractmethod
    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,): shape ``(rank, n)``."""

    def table(self, x: Array) -> Array:
        """`values` at the centres of an axis, which may be many: block by block, so that little else is in memory."""
        if x.size <= BLOCK:
            return np.ascontiguousarray(self.values(x))
        table = np.empty((self.rank, x.size))
        for start in range(0, x.size, BLOCK):
            table[:, start : start + BLOCK] = self.values(x[start : start + BLOCK])
        return table


class OneFactor(AxisFactor):
    """The factor 1 of an axis the kernel does not depend on."""

    def __init__(self) -> None:
        self.signs = self.sizes = np.ones(1)

    def values(self, x: Array) -> Array:
        """The features at x (n,)."""
        return np.ones((1, x.size))

    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,)."""
        return np.zeros((1, x.size))


class LinearFactor(AxisFactor):
    """x y: rank one, exactly."""

    def __init__(self) -> None:
        self.signs = self.sizes = np.ones(1)

    def values(self, x: Array) -> Array:
        """The features at x (n,)."""
        return np.array(x, dtype=float)[None, :]

    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,)."""
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
        """The features at x (n,)."""
        t = self._frequencies[:, None] * x
        head = np.full((1 if self._constant else 0, x.size), self._constant)
        return np.concatenate([head, self._roots[:, None] * np.cos(t), self._roots[:, None] * np.sin(t)])

    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,)."""
        t = self._frequencies[:, None] * x
        slope = (self._frequencies * self._roots)[:, None]
        return np.concatenate([np.zeros((1 if self._constant else 0, x.size)), -slope * np.sin(t), slope * np.cos(t)])


class SpeciesFactor(AxisFactor):
    """A symmetric table between labels, by its eigenvectors: exactly.

    Parameters
    ----------
    table : (k, k) array
    numbers : callable
        The numbers of labels, by coordinates.
    """

    def __init__(self, table: Array, numbers: Callable[[Array], NDArray[np.intp]]) -> None:
        eigenvalues, vectors = np.linalg.eigh(table)
        kept = np.abs(eigenvalues) > 1e-14 * np.abs(eigenvalues).max()
        self.signs, self.sizes = np.sign(eigenvalues[kept]), np.abs(eigenvalues[kept])
        self._rows, self._numbers = (vectors[:, kept] * np.sqrt(self.sizes)).T, numbers

    def values(self, x: Array) -> Array:
        """The features at x (n,)."""
        return self._rows[:, self._numbers(x)]

    def derivatives(self, x: Array) -> Array:
        """0: nothing moves along labels."""
        return np.zeros((self.rank, x.size))


def golden_points(lower: float, upper: float, n: int) -> Array:
    """Points that fill an interval evenly and avoid every regular mesh."""
    unit: Array = np.asarray((0.5 + 0.6180339887498949 * np.arange(1, n + 1)) % 1.0, dtype=np.float64)
    return lower + (upper - lower) * unit


@cache
def gauss_legendre(n: int) -> tuple[Array, Array]:
    """The nodes and weights of Gauss-Legendre quadrature on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
