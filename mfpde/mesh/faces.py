"""What lies around the faces across one axis, in plain NumPy: what a transport scheme makes its fluxes of."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array

if TYPE_CHECKING:
    from mfpde.equation.grid import Axis

__all__ = ["Faces", "Padded", "stencil_weights", "ghost_faces", "ghost_rows", "middle"]

T = TypeVar("T")


@functools.cache
def stencil_weights(offsets: tuple[float, ...], derivative: int = 0) -> tuple[float, ...]:
    """Weights of values at `offsets`, in units of the spacing, whose sum is a derivative at 0 of the highest order.

    Parameters
    ----------
    offsets : tuple of float
        Where the values are: ``(-1.5, -0.5, 0.5, 1.5)`` for four cells around a face.
    derivative : int
        Which; 0 interpolates.

    Examples
    --------
    >>> stencil_weights((-0.5, 0.5), 1)
    (-1.0, 1.0)
    >>> 16 * np.array(stencil_weights((-1.5, -0.5, 0.5, 1.5)))
    array([-1.,  9.,  9., -1.])
    """
    from findiff import coefficients as exact  # takes as long to import as all the rest

    weights = exact(deriv=derivative, offsets=list(offsets), analytic_inv=True)["coefficients"]
    return tuple(float(weight) for weight in weights)


def middle(rows: Sequence[T], count: int) -> Sequence[T]:
    """The `count` rows in the middle of some: those nearest to the face."""
    skip = (len(rows) - count) // 2
    return rows[skip : skip + count]


def ghost_rows(axis: Axis, n: int, ghost: int) -> NDArray[np.int64]:
    """The cells that stand for rows ``-ghost .. n + ghost`` of an axis: wrapped, or mirrored evenly at both ends."""
    rows = np.arange(-ghost, n + ghost)
    if axis.periodic:
        return rows % n
    rows %= 2 * n
    return np.where(rows < n, rows, 2 * n - 1 - rows)


def ghost_faces(axis: Axis, n: int, ghost: int) -> NDArray[np.int64]:
    """The faces that stand for faces ``-ghost .. n + ghost`` of an axis; its own are 0 to n."""
    faces = np.arange(-ghost, n + ghost + 1)
    if axis.periodic:
        return faces % n
    faces %= 2 * n
    return np.where(faces <= n, faces, 2 * n - faces)


@dataclass(frozen=True)
class Faces:
    """All faces across one axis, which is the first one of every array here; face ``k`` is between cells ``k-1, k``.

    Beyond the ends of the axis there are ghost rows: periodic, or mirrored.

    Attributes
    ----------
    mu, V : tuple of array
        ``2 ghost`` rows around each face, of the density and of the potential that drives the drift,
        ``V - tau log omega``: with ``ghost = 2``, ``mu[0]`` and ``mu[1]`` are the two cells on the left,
        ``mu[2]`` and ``mu[3]`` those on the right. Each has one entry a face.
    g : float or array
        The rate across the faces.
    h : float
        The spacing.
    temperature : float
        ``tau``; 0 without diffusion.
    dt : float
        The forward Euler step for which a limited scheme keeps the density positive; 0 without a limiter.
    speeds : tuple of array
        With a `dt`, how fast the cells in the rows of `mu` empty, by all axes.
    dimension : int
        How many axes there are.
    truncated : (faces, ...) bool array
        Whether a truncation end is within three rows: nothing is known about the potential beyond.
    """

    mu: tuple[Array, ...]
    V: tuple[Array, ...]
    g: Any
    h: float
    temperature: float
    dt: float
    speeds: tuple[Array, ...]
    dimension: int
    truncated: NDArray[np.bool_]
    _around: Padded

    @classmethod
    def of(cls, padded: Padded, k: int = 0) -> Faces:
        """The faces `k` rows on from those of an axis, with the rows that are there on both sides of them."""
        p, reach = padded, padded.ghost - abs(k)

        def rows(values: Array | None) -> tuple[Array, ...]:
            if values is None:
                return ()
            first = p.ghost + k
            return tuple(values[first + j : first + j + p.n + 1] for j in range(-reach, reach))

        g = p.g if np.ndim(p.g) == 0 else p.g[p.ghost + k : p.ghost + k + p.n + 1]
        number = np.arange(k, k + p.n + 1).reshape((-1,) + (1,) * (p.mu.ndim - 1))
        truncated = (p.lower_truncated & (number < 3)) | (p.upper_truncated & (number > p.n - 3))
        return cls(rows(p.mu), rows(p.V), g, p.h, p.temperature, p.dt, rows(p.speeds), p.dimension, truncated, padded)

    def shifted(self, k: int) -> Faces:
        """The faces `k` rows on from all of these, with ``ghost - |k|`` rows on each side."""
        return Faces.of(self._around, k)


@dataclass(frozen=True)
class Padded:
    """The cells of a mesh and `ghost` rows beyond both ends of an axis, which is the first one of the arrays.

    Attributes
    ----------
    n, ghost : int
        Rows of the mesh, and beyond each end.
    mu, V : array
        Density and driving potential.
    speeds : array or None
        How fast the cells empty.
    g : float or array
        The rates, on `ghost` more faces on each side than the axis has.
    h, temperature, dt, dimension
        As in `Faces`.
    lower_truncated, upper_truncated : bool
        Whether the ends are truncations.
    """

    n: int
    ghost: int
    mu: Array
    V: Array
    speeds: Array | None
    g: Any
    h: float
    temperature: float
    dt: float
    dimension: int
    lower_truncated: bool
    upper_truncated: bool
