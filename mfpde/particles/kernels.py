"""Compiled interpolation between particles and a mesh. Imported when the first cloud needs it.

Along a *mesh* axis values at the cell centres are interpolated by the polynomial of degree 7 through the 8 nearest of
them; along a *polynomial* axis there are 4 cells and one cubic. A weight is a product over the axes, and
`deposit` is the transpose of `interpolate`.

Parameters of both: points (R, n, d), an array over cells (R, cells), and the `Cells` of the mesh. `spread` and `gather`
are another pair, of quadratic splines, for densities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from mfpde.support.arrays import Array
from mfpde.support.compiling import compiled
from mfpde.support.pointers import whole

__all__ = ["Cells", "Nodes", "deposit", "gather", "interpolate", "smooth", "spread"]

# 1 / prod_{k != j} (j - k), for 8 and for 4 points
C0, C1, C2, C3 = -1.0 / 5040.0, 1.0 / 720.0, -1.0 / 240.0, 1.0 / 144.0
E0, E1 = -1.0 / 6.0, 0.5


_jit = compiled(nogil=True, error_model="numpy")


class Cells(NamedTuple):
    """The cells of a mesh that is interpolated on, axis by axis.

    Attributes
    ----------
    low, scale : (d,) array
        The lower end of each axis, and its cells per length.
    counts, strides : (d,) int array
        Its cells, and the entries between neighbours.
    periodic : (d,) bool array
        Whether it is periodic.
    poly : (k,) int array
        The polynomial axes.
    places : (4^k,) int array
        Where the combinations of their cells stand, the last axis fastest.
    first, second : int
        The mesh axes; `first` is -1 if there is one only.
    """

    low: Array
    scale: Array
    counts: NDArray[np.int64]
    strides: NDArray[np.int64]
    periodic: NDArray[np.bool_]
    poly: NDArray[np.int64]
    places: NDArray[np.int64]
    first: int
    second: int


class Nodes(NamedTuple):
    """The nodes of a mesh that a density is estimated on, one to three axes, of which a part is kept.

    Attributes
    ----------
    low, scale : (d,) array
        The lower end of each axis, and its nodes per length.
    counts, first : (d,) int array
        The nodes of the whole axis, and the first that is kept.
    strides : (3,) int array
        The entries between neighbours.
    periodic : (d,) bool array
        Whether the axis is periodic.
    """

    low: Array
    scale: Array
    counts: NDArray[np.int64]
    first: NDArray[np.int64]
    strides: NDArray[np.int64]
    periodic: NDArray[np.bool_]


class _Weights(NamedTuple):
    """The cubic weights of the polynomial axes at a point, (4, 4) `values` and `slopes`, and their `products`."""

    values: Array
    slopes: Array
    products: Array


@_jit
def _octic(t):  # type: ignore[no-untyped-def]
    """The Lagrange polynomials of 8 points, unit-spaced about 0."""
    a0, a1, a2, a3, a4, a5, a6, a7 = t + 3.5, t + 2.5, t + 1.5, t + 0.5, t - 0.5, t - 1.5, t - 2.5, t - 3.5
    l1 = a0 * a1
    l2 = l1 * a2
    l3 = l2 * a3
    r6 = a7 * a6
    r5 = r6 * a5
    r4 = r5 * a4
    l4 = l3 * a4
    r3 = r4 * a3
    l5 = l4 * a5
    r2 = r3 * a2
    return (
        C0 * (a1 * r2),
        C1 * (a0 * r2),
        C2 * (l1 * r3),
        C3 * (l2 * r4),
        -C3 * (l3 * r5),
        -C2 * (l4 * r6),
        -C1 * (l5 * a7),
        -C0 * (l5 * a6),
    )


@_jit
def _octic_slopes(t):  # type: ignore[no-untyped-def]
    """Their derivatives."""
    a0, a1, a2, a3, a4, a5, a6, a7 = t + 3.5, t + 2.5, t + 1.5, t + 0.5, t - 0.5, t - 1.5, t - 2.5, t - 3.5
    l1 = a0 * a1
    l2 = l1 * a2
    l3 = l2 * a3
    l4 = l3 * a4
    l5 = l4 * a5
    r6 = a7 * a6
    r5 = r6 * a5
    r4 = r5 * a4
    r3 = r4 * a3
    r2 = r3 * a2
    # l' of a product from the left, r' from the right
    dl1 = a0 + a1
    dl2 = dl1 * a2 + l1
    dl3 = dl2 * a3 + l2
    dl4 = dl3 * a4 + l3
    dl5 = dl4 * a5 + l4
    dr6 = a7 + a6
    dr5 = dr6 * a5 + r6
    dr4 = dr5 * a4 + r5
    dr3 = dr4 * a3 + r4
    dr2 = dr3 * a2 + r3
    return (
        C0 * (a1 * dr2 + r2),
        C1 * (a0 * dr2 + r2),
        C2 * (l1 * dr3 + dl1 * r3),
        C3 * (l2 * dr4 + dl2 * r4),
        -C3 * (l3 * dr5 + dl3 * r5),
        -C2 * (l4 * dr6 + dl4 * r6),
        -C1 * (dl5 * a7 + l5),
        -C0 * (dl5 * a6 + l5),
    )


@_jit
def _start(x, n, periodic):  # type: ignore[no-untyped-def]
    """The first of the 8 centres around x (in cells from the first centre), and x from the middle of the 8."""
    # a point that is not finite ends up in some cell; the caller looks for such points
    first = whole(np.floor(x)) - 3
    if periodic:
        return first % n, x - first - 3.5
    first = min(max(first, 0), n - 8)
    return first, x - first - 3.5


@_jit
def _row(w, t):  # type: ignore[no-untyped-def]
    w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7] = _octic(t)


@_jit
def _row_slopes(w, t):  # type: ignore[no-untyped-def]
    w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7] = _octic_slopes(t)


@_jit
def _places(o, start, n, stride):  # type: ignore[no-untyped-def]
    """Where 8 consecutive centres stand, wrapped."""
    for j in range(8):
        k = start + j
        o[j] = (k - n if k >= n else k) * stride


@_jit
def _nearest(point, cells, axis, o):  # type: ignore[no-untyped-def]
    """Where the 8 centres along an axis stand that are nearest to a point, and the point from their middle."""
    x = (point[axis] - cells.low[axis]) * cells.scale[axis] - 0.5
    start, t = _start(x, cells.counts[axis], cells.periodic[axis])
    _places(o, start, cells.counts[axis], cells.strides[axis])
    return t


@_jit
def _products(point, cells, weights):  # type: ignore[no-untyped-def]
    """The cubic weights of all polynomial axes, and their products, the last axis fastest."""
    low, scale, poly, cubic, slopes, product = (
        cells.low,
        cells.scale,
        cells.poly,
        weights.values,
        weights.slopes,
        weights.products,
    )
    product[0] = 1.0
    size = 1
    for a in range(poly.size):
        axis = poly[a]
        t = (point[axis] - low[axis]) * scale[axis] - 2.0
        b0, b1, b2, b3 = t + 1.5, t + 0.5, t - 0.5, t - 1.5
        low2, high2 = b0 * b1, b2 * b3
        cubic[a, 0], cubic[a, 1] = E0 * (b1 * high2), E1 * (b0 * high2)
        cubic[a, 2], cubic[a, 3] = -E1 * (low2 * b3), -E0 * (low2 * b2)
        low_slope, high_slope = b0 + b1, b2 + b3
        slopes[a, 0], slopes[a, 1] = E0 * (b1 * high_slope + high2), E1 * (b0 * high_slope + high2)
        slopes[a, 2], slopes[a, 3] = -E1 * (low_slope * b3 + low2), -E0 * (low_slope * b2 + low2)
        for c in range(size - 1, -1, -1):
            here = product[c]
            for j in range(4):
                product[4 * c + j] = here * cubic[a, j]
        size *= 4


@_jit
def _dot(w, f):  # type: ignore[no-untyped-def]
    """The sum of 8 products, mirrored pairs first: a mirrored point gets bit for bit the mirrored value."""
    return ((w[0] * f[0] + w[7] * f[7]) + (w[1] * f[1] + w[6] * f[6])) + (
        (w[2] * f[2] + w[5] * f[5]) + (w[3] * f[3] + w[4] * f[4])
    )


@_jit
def _polynomial_slopes(cells, weights, inner, gradient):  # type: ignore[no-untyped-def]
    """The gradient along the polynomial axes, of what the mesh axes give for each of their combinations."""
    poly, cubic, slopes = cells.poly, weights.values, weights.slopes
    for a in range(poly.size):
        slope = 0.0
        for c in range(inner.size):
            # the slope of axis a, the weights of the others
            share, rest = 1.0, c
            for b in range(poly.size - 1, -1, -1):
                share *= slopes[b, rest & 3] if b == a else cubic[b, rest & 3]
                rest >>= 2
            slope += share * inner[c]
        gradient[poly[a]] = slope * cells.scale[poly[a]]


@_jit
def interpolate(points, values, cells, V, gradient):  # type: ignore[no-untyped-def]
    """Values (R, n) and gradients (R, n, d) of the interpolant at particles; either output may be empty."""
    replicas, n, _ = points.shape
    want_value, want_gradient = V.size > 0, gradient.size > 0
    first, second, places, scale = cells.first, cells.second, cells.places, cells.scale
    w1, s1, o1, o2 = np.ones(8), np.zeros(8), np.zeros(8, np.int64), np.zeros(8, np.int64)
    weights = _Weights(np.empty((4, 4)), np.empty((4, 4)), np.empty(places.size))
    product, inner = weights.products, np.empty(places.size)
    rows = 8 if first >= 0 else 1
    for r in range(replicas):
        table = values[r]
        for i in range(n):
            point = points[r, i]
            _products(point, cells, weights)
            if first >= 0:
                t = _nearest(point, cells, first, o1)
                _row(w1, t)
                if want_gradient:
                    _row_slopes(s1, t)
            t = _nearest(point, cells, second, o2)
            w2 = _octic(t)
            p0, p1, p2, p3, p4, p5, p6, p7 = o2[0], o2[1], o2[2], o2[3], o2[4], o2[5], o2[6], o2[7]
            if want_gradient:
                s2 = _octic_slopes(t)
            else:
                s2 = w2
            total, along_first, along_second = 0.0, 0.0, 0.0
            for c in range(places.size):
                v, v1, v2 = 0.0, 0.0, 0.0
                for k in range(rows):
                    b = places[c] + o1[k]
                    f = (
                        table[uint64(b + p0)],
                        table[uint64(b + p1)],
                        table[uint64(b + p2)],
                        table[uint64(b + p3)],
                        table[uint64(b + p4)],
                        table[uint64(b + p5)],
                        table[uint64(b + p6)],
                        table[uint64(b + p7)],
                    )
                    a = _dot(w2, f)
                    v += w1[k] * a
                    if want_gradient:
                        v1 += s1[k] * a
                        v2 += w1[k] * _dot(s2, f)
                inner[c] = v
                total += product[c] * v
                along_first += product[c] * v1
                along_second += product[c] * v2
            if want_value:
                V[r, i] = total
            if want_gradient:
                if first >= 0:
                    gradient[r, i, first] = along_first * scale[first]
                gradient[r, i, second] = along_second * scale[second]
                _polynomial_slopes(cells, weights, inner, gradient[r, i])


@_jit
def deposit(points, weights, density, cells):  # type: ignore[no-untyped-def]
    """Add the particles' weights (R, n) to density (R, cells)."""
    replicas, n, _ = points.shape
    first, second, places = cells.first, cells.second, cells.places
    w1, o1, o2 = np.ones(8), np.zeros(8, np.int64), np.zeros(8, np.int64)
    cubic = _Weights(np.empty((4, 4)), np.empty((4, 4)), np.empty(places.size))
    product = cubic.products
    rows = 8 if first >= 0 else 1
    for r in range(replicas):
        table = density[r]
        for i in range(n):
            point = points[r, i]
            _products(point, cells, cubic)
            if first >= 0:
                _row(w1, _nearest(point, cells, first, o1))
            g0, g1, g2, g3, g4, g5, g6, g7 = _octic(_nearest(point, cells, second, o2))
            p0, p1, p2, p3, p4, p5, p6, p7 = o2[0], o2[1], o2[2], o2[3], o2[4], o2[5], o2[6], o2[7]
            for c in range(places.size):
                share = weights[r, i] * product[c]
                for k in range(rows):
                    b = places[c] + o1[k]
                    part = share * w1[k]
                    table[uint64(b + p0)] += part * g0
                    table[uint64(b + p1)] += part * g1
                    table[uint64(b + p2)] += part * g2
                    table[uint64(b + p3)] += part * g3
                    table[uint64(b + p4)] += part * g4
                    table[uint64(b + p5)] += part * g5
                    table[uint64(b + p6)] += part * g6
                    table[uint64(b + p7)] += part * g7


# ---------------------------------------------------------------------------------------------- densities


@_jit
def _splines(point, nodes, places, w):  # type: ignore[no-untyped-def]
    """For each axis the three nodes around a point, folded back at walls, and their quadratic splines."""
    counts, first, strides, periodic = nodes.counts, nodes.first, nodes.strides, nodes.periodic
    for i in range(point.size):
        x = (point[i] - nodes.low[i]) * nodes.scale[i] - 0.5
        k = whole(np.floor(x + 0.5))
        t = x - k
        w[i, 0], w[i, 1], w[i, 2] = 0.5 * (0.5 - t) ** 2, 0.75 - t * t, 0.5 * (0.5 + t) ** 2
        for j in range(3):
            m = k - 1 + j
            if periodic[i]:
                m %= counts[i]
            elif m < 0:
                m = -1 - m
            elif m >= counts[i]:
                m = 2 * counts[i] - 1 - m
            places[i, j] = (m - first[i]) * strides[i]


@_jit
def _one_node(d):  # type: ignore[no-untyped-def]
    """Places, splines and their number for three axes, those from d on with one node."""
    reach = np.array([3 if i < d else 1 for i in range(3)])
    return np.zeros((3, 3), np.int64), np.ones((3, 3)), reach


@_jit
def spread(points, weights, nodes, table):  # type: ignore[no-untyped-def]
    """Add the weights of particles (n, d) to the nodes of a mesh (one to three axes)."""
    places, w, reach = _one_node(points.shape[1])
    for i in range(points.shape[0]):
        _splines(points[i], nodes, places, w)
        for a in range(reach[0]):
            for b in range(reach[1]):
                share, start = weights[i] * w[0, a] * w[1, b], places[0, a] + places[1, b]
                for c in range(reach[2]):
                    table[start + places[2, c]] += share * w[2, c]


@_jit
def gather(points, table, nodes, result):  # type: ignore[no-untyped-def]
    """The transpose of `spread`: values at particles (n, d)."""
    places, w, reach = _one_node(points.shape[1])
    for i in range(points.shape[0]):
        _splines(points[i], nodes, places, w)
        total = 0.0
        for a in range(reach[0]):
            for b in range(reach[1]):
                share, start = w[0, a] * w[1, b], places[0, a] + places[1, b]
                for c in range(reach[2]):
                    total += share * w[2, c] * table[start + places[2, c]]
        result[i] = total


@_jit
def smooth(table, kernel, periodic, at_lower, at_upper):  # type: ignore[no-untyped-def]
    """Convolve (outer, n, inner) along n with a symmetric kernel given from its middle on.

    What lies beyond an end is the other end (periodic), the mirror image (at a wall) or nothing.
    """
    outer, n, inner = table.shape
    reach = kernel.size - 1
    padded = np.zeros((n + 2 * reach) * inner)
    result = np.empty((outer, n * inner))
    for o in range(outer):
        for m in range(-reach, n + reach):
            source = m
            if periodic:
                source = m % n
            elif at_lower and at_upper:
                source = m % (2 * n)
                source = source if source < n else 2 * n - 1 - source
            elif at_lower and m < 0:
                source = -1 - m
            elif at_upper and m >= n:
                source = 2 * n - 1 - m
            for j in range(inner):
                padded[(m + reach) * inner + j] = table[o, source, j] if 0 <= source < n else 0.0
        line = result[o]
        middle = reach * inner
        for j in range(n * inner):
            line[j] = kernel[0] * padded[middle + j]
        for k in range(1, reach + 1):
            value, below, above = kernel[k], (reach - k) * inner, (reach + k) * inner
            for j in range(n * inner):
                line[j] += value * (padded[below + j] + padded[above + j])
    return result
