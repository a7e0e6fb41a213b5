"""The density of a cloud of particles, which the free-energy reaction needs: a Gaussian kernel estimate on a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis
from mfpde.support.arguments import entries, numbers, one_of, refuse_masked, require, shown
from mfpde.support.arrays import Array

__all__ = ["KernelDensity"]


NODES = 3
"""Mesh nodes a bandwidth, at least."""
REACH = 8.0
"""Bandwidths at which the kernel is cut off: far enough that a light particle sees a heavy one."""
NARROWEST = 1e-3
"""The smallest bandwidth that the rule gives, in lengths of the axis: clouds that have collapsed have no width."""
LARGEST_MESH = 2**24


@dataclass(frozen=True)
class KernelDensity:
    r"""Gaussian kernel estimate of a cloud's density, ``rho(x) = sum_i w_i prod_k N(x_k - x_ik; 0, h_k^2)``.

    The kernels are reflected at walls and wrapped on periodic axes, so that no mass leaves the box. The particles are
    spread over a mesh of at least three nodes a bandwidth by quadratic splines, smoothed axis by axis, and
    interpolated back by the same splines; what the splines widen is taken from the kernel, so that every particle's
    kernel has variance ``h^2`` wherever it sits. It costs O(n + mesh), the mesh being as large as the cloud; it agrees
    with the sum over pairs to 5e-4 of the largest density an axis, is positive wherever a particle sits, and
    counts each particle for itself.

    Parameters
    ----------
    bandwidth : float or sequence of float, optional
        ``h > 0``, one for all axes or one an axis. Default: Silverman's rule for each axis, from the present cloud,

        .. math::  h_k = 0.9\, \hat\sigma_k\, n_\mathrm{eff}^{-1/(d+4)},
           \qquad \hat\sigma_k = \min(\text{standard deviation},\ \text{interquartile range} / 1.349),

        with ``n_eff = (sum w)^2 / sum w^2``, the scale on a periodic axis taken about the circular mean, and ``h_k`` at
        least 1e-3 of the axis.

    Raises
    ------
    ValueError
        On a bandwidth that is not positive and finite.

    Notes
    -----
    **What it does to the dynamics.** In the limit of many particles the free-energy reaction follows
    ``log(K_h * mu)`` in place of ``log mu``. The difference is ``h^2 mu'' / (2 mu)``: the rates and the stationary
    state are biased by O(h^2), towards measures that are too narrow where ``tau`` is spent by the reaction. A Gaussian
    stays one, and its variance ``s`` feels ``alpha tau s^2 / (s + h^2)`` in place of ``alpha tau s``. With finite n
    the estimate also fluctuates, and each particle sees itself, which kills too many in the tails: in Gaussians of
    variance 0.3 to 0.6 the variance came out lower by about ``2 / (n h)``; in general O(1 / (n h^d)).

    **Good values.** A third of the width of the narrowest feature that matters, with at least some tens of particles
    within a bandwidth. The rule suits one bump; it smooths too much where the cloud has separate narrow clusters: give
    the bandwidth there. Where a base measure vanishes like ``r^{k}`` at a natural end, the bias is O(h) within a
    bandwidth of the end for odd k.

    Examples
    --------
    >>> x = np.linspace(-1.0, 1.0, 5)[:, None]
    >>> KernelDensity(0.5).estimate(x, np.full(5, 0.2), [Axis("x", -4, 4)]).round(3)
    array([0.28 , 0.377, 0.396, 0.377, 0.28 ])
    """

    bandwidth: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.bandwidth is None:
            return
        try:
            widths = numbers(self.bandwidth, "the bandwidth")
        except ValueError:
            widths = np.array([math.nan])
        if widths.ndim > 1 or widths.size == 0 or not np.all(np.isfinite(widths) & (widths > 0)):
            raise ValueError(
                f"KernelDensity: the bandwidth must be positive and finite, one number or one an axis, "
                f"not {shown(self.bandwidth)}; leave it out for Silverman's rule"
            )
        object.__setattr__(self, "bandwidth", float(widths) if widths.ndim == 0 else tuple(map(float, widths)))

    def check(self, axes: Sequence[Axis]) -> None:
        """Raise ValueError where the estimate is not defined on a box."""
        for axis in entries(axes, "axes"):
            require(axis=(axis, one_of(Axis)))
        if len(axes) > 3:
            names = ", ".join(axis.name for axis in axes)
            raise ValueError(
                f"a kernel density estimate has one to three axes, not {len(axes)} ({names}); "
                "use reaction='balanced', or solve the problem on the grid"
            )
        if isinstance(self.bandwidth, tuple) and len(self.bandwidth) != len(axes):
            raise ValueError(
                f"KernelDensity: {len(self.bandwidth)} bandwidths for {len(axes)} axes; give one number, or one an axis"
            )

    def bandwidths(self, points: Array, weights: Array, axes: Sequence[Axis]) -> Array:
        """``h_k``, shape (d,), for a cloud of points (n, d) and weights (n,)."""
        self.check(axes)
        points, weights = _cloud(points, weights, len(axes))
        d = len(axes)
        if self.bandwidth is not None:
            return np.broadcast_to(np.asarray(self.bandwidth, dtype=float), (d,)).copy()
        total = float(weights.sum())
        share = weights / total
        factor = 0.9 * float(np.dot(share, share)) ** (1.0 / (d + 4))
        scales = (_scale(x, share, axis) for x, axis in zip(points.T, axes, strict=True))
        return np.array([max(factor * s, NARROWEST * axis.length) for s, axis in zip(scales, axes, strict=True)])

    def estimate(
        self, points: Array, weights: Array, axes: Sequence[Axis], *, at: Array | None = None
    ) -> NDArray[np.float64]:
        """The density at the particles, or elsewhere.

        Parameters
        ----------
        points : array, shape (n, d)
            Inside the box.
        weights : array, shape (n,)
            At least 0; the density integrates to their sum.
        axes : sequence of Axis
            The box, one to three axes.
        at : array, shape (m, d), optional
            Where; default: at the particles.

        Returns
        -------
        array, shape (n,) or (m,)

        Raises
        ------
        ValueError
            If the mesh would have more than 2^24 nodes, points are outside the box, or no particle has a weight.
        FloatingPointError
            If points are not finite.
        """
        self.check(axes)
        points, weights = _cloud(points, weights, len(axes))
        where = points if at is None else _cloud(at, None, len(axes))[0]
        low, high = np.minimum(points.min(axis=0), where.min(axis=0)), np.maximum(points.max(axis=0), where.max(axis=0))
        if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
            raise FloatingPointError("some particles are not finite; take a smaller dt")
        if not float(np.sum(weights)) > 0.0:
            raise ValueError(
                "the weights of the kernel density estimate sum to 0; it needs particles that weigh something"
            )
        lines = [
            _Line(axis, h, low[i], high[i])
            for i, (axis, h) in enumerate(zip(axes, self.bandwidths(points, weights, axes), strict=True))
        ]
        nodes = math.prod(line.size for line in lines)
        if nodes > LARGEST_MESH:
            sizes = " x ".join(str(line.size) for line in lines)
            raise ValueError(
                f"the kernel density estimate needs a mesh of {sizes} nodes, more than {LARGEST_MESH}; "
                "take a larger bandwidth"
            )
        from mfpde.particles.kernels import Nodes, gather, smooth, spread

        # three axes always; those that are missing have one node
        shape = np.ones(3, np.int64)
        shape[: len(lines)] = [line.size for line in lines]
        strides = np.array([shape[1] * shape[2], shape[2], 1], dtype=np.int64)
        mesh = Nodes(
            np.array([axis.lower for axis in axes], dtype=float),
            np.array([1.0 / line.spacing for line in lines]),
            np.array([line.count for line in lines], dtype=np.int64),
            np.array([line.first for line in lines], dtype=np.int64),
            strides,
            np.array([axis.periodic for axis in axes]),
        )
        table = np.zeros(nodes)
        spread(np.ascontiguousarray(points), np.ascontiguousarray(weights, dtype=float), mesh, table)
        for i, line in enumerate(lines):
            inner = int(strides[i])
            seen = table.reshape(nodes // (line.size * inner), line.size, inner)
            table = smooth(seen, line.kernel, line.axis.periodic, line.at_lower, line.at_upper).reshape(-1)
        result = np.empty(len(where))
        gather(np.ascontiguousarray(where), table, mesh, result)
        return result


def _cloud(points: Array, weights: Array | None, d: int) -> tuple[Array, Array]:
    """Points (n, d) and weights (n,), checked: compiled code reads what it is told is there."""
    for name, values in (("points", points), ("weights", weights)):
        refuse_masked(values, name)
    points = np.asarray(points) if isinstance(points, np.ndarray) else numbers(points, "points")
    if points.dtype.kind not in "iuf" or points.ndim != 2 or points.shape[1] != d or not len(points):
        raise ValueError(f"points must be numbers of shape (n, {d}), one row a point, not {shown(points)}")
    if weights is None:
        return points, np.empty(0)
    weights = np.asarray(weights) if isinstance(weights, np.ndarray) else numbers(weights, "weights")
    if weights.dtype.kind not in "iuf" or weights.shape != (len(points),):
        raise ValueError(f"weights must be numbers of shape ({len(points)},), one a point, not {shown(weights)}")
    return np.asarray(points, dtype=float), np.asarray(weights, dtype=float)


class _Line:
    """One axis of the mesh: equal cells of the whole axis, of which those around the cloud are kept."""

    def __init__(self, axis: Axis, bandwidth: float, low: float, high: float) -> None:
        if low < axis.lower or high > axis.upper:
            raise ValueError(
                f"some points are outside {axis.name} in [{axis.lower:g}, {axis.upper:g}]; enlarge the axis"
            )
        self.axis = axis
        ratio = NODES * axis.length / bandwidth
        if ratio > 2**40:
            raise ValueError(f"bandwidth {bandwidth:g} is too small for axis {axis.name!r}; take a larger one")
        self.count = max(math.ceil(ratio), 4)
        self.spacing = axis.length / self.count
        # spreading and interpolating add a variance of a quarter of a cell squared each, wherever a particle sits
        width = math.sqrt((bandwidth / self.spacing) ** 2 - 0.5)
        reach = math.ceil(REACH * width)
        kernel = np.exp(-0.5 * (np.arange(reach + 1) / width) ** 2)
        self.kernel = kernel / (kernel[0] + 2.0 * kernel[1:].sum()) / self.spacing
        self.first, last = 0, self.count
        if not axis.periodic:
            first = int((low - axis.lower) / self.spacing) - 2
            final = int((high - axis.lower) / self.spacing) + 3
            # mirror images matter within half a reach of a wall
            self.first = first if 2 * first > reach else 0
            last = final if 2 * (self.count - final) > reach else self.count
        self.size = last - self.first
        self.at_lower, self.at_upper = self.first == 0, last == self.count


def _scale(x: Array, share: Array, axis: Axis) -> float:
    """The smaller of standard deviation and interquartile range / 1.349, under weights that sum to 1."""
    if axis.periodic:
        angle = (2.0 * math.pi / axis.length) * (x - axis.lower)
        mean = math.atan2(float(share @ np.sin(angle)), float(share @ np.cos(angle)))
        x = np.mod(angle - mean + math.pi, 2.0 * math.pi) * (axis.length / (2.0 * math.pi))
    centred = x - float(share @ x)
    deviation = math.sqrt(float(share @ centred**2))
    order = np.argsort(x, kind="stable")
    places = np.searchsorted(np.cumsum(share[order]), (0.25, 0.75))
    quarter, three_quarters = x[order[np.minimum(places, len(x) - 1)]]
    spread = float(three_quarters - quarter) / 1.349
    # half of the cloud in one place says nothing about the rest
    return min(deviation, spread) if spread > 0 else deviation
