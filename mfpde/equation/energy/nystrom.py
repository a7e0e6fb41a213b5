"""Any kernel along one axis as a sum of products, by Nystroem's method."""

from __future__ import annotations

import numpy as np

from mfpde.equation.energy.axis_kernels import AxisKernelOnAxis
from mfpde.equation.energy.factors import AxisFactor, gauss_legendre, golden_points
from mfpde.support.arrays import Array

__all__ = ["nystrom_factor"]

MAX_NODES = 300
MAX_RANK = 224


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

    @property
    def width(self) -> int:
        """The kernel with all nodes, some times over."""
        return 4 * self._nodes.size + self.rank

    def values(self, x: Array) -> Array:
        """The features at x (n,): shape ``(rank, n)``."""
        return self._map @ self._kernel.value(x[None, :], self._nodes)

    def derivatives(self, x: Array) -> Array:
        """Their derivatives at x (n,): shape ``(rank, n)``."""
        return self._map @ self._kernel.derivative(x[None, :], self._nodes)


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
