"""Nodes of one axis where a density is, and where the mass that descends from it will be.

A midpoint rule in a variable ``u`` converges geometrically where what is integrated falls off at both ends. ``u(x)`` is
a sum of ``asinh((x - m) / a)``, one for each *place* that needs nodes: around its mean ``m`` they are a fraction of its
spread apart, and ever further towards the tails. One place gives the sinh rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from mfpde.support.arguments import read_only
from mfpde.support.arrays import Array

__all__ = ["Block", "Place", "Rule", "density_rule", "gauss", "log_total", "node_rule", "wants_nodes"]


REACH = 9.3
"""Spreads on each side of a place that nodes cover: a normal law has 1e-20 of its mass outside."""
SLOPE = 3.0
"""``dx/du`` in the middle of a place, in spreads: n midpoints are ``2 SLOPE / n`` spreads apart. 2.6 to 3.5 work."""
NARROW, LEAST_SLOPE = 0.37, 2.2
"""Gauss-Legendre nodes are pi / 2 times as far apart in the middle as midpoints, and dense at the ends: where these are
near, the slope is this share of their distance, in spreads, but no less than that."""
LEAST_CURVE, MOST_CURVE = 1.0, 700.0
"""Bounds of the half range of ``u`` of one place; at 1 the map is nearly linear."""
WIDER = 1.15
"""How much wider another rule takes all spreads to be."""
MOST_DENSE = 1000
"""Gauss-Legendre nodes that are eigenvalues of a full matrix, at most; for more that is of three diagonals."""
VANISHES = 1e-6
"""A density above this share of its maximum at an end does not vanish there."""
NEGLIGIBLE_END = 1e-13
"""Below this share at both ends, midpoints are as accurate as Gauss-Legendre nodes, and need fewer."""


@dataclass(frozen=True)
class Place:
    """Where mass is along an axis, in the coordinates it had at the start."""

    mean: float
    spread: float

    @staticmethod
    def of(x: Array, weights: Array) -> Place:
        """Mean and spread; what is on one node alone has that node's distance from the next as its spread."""
        share = weights / weights.sum()
        mean = float(share @ x)
        spread = math.sqrt(max(float(share @ (x - mean) ** 2), 0.0))
        order = np.sort(x)
        i = min(max(int(np.searchsorted(order, mean)), 1), len(x) - 1)
        return Place(mean, max(spread, 0.5 * float(order[i] - order[i - 1])))

    def new(self, others: Sequence[Place]) -> bool:
        """Whether none of the others has nodes for it."""
        return all(wants_nodes(self.mean, self.spread, other) for other in others)


def wants_nodes(mean: Any, spread: Any, other: Place) -> Any:
    """Whether another place has no nodes for what is here: two spreads away, or much narrower; arrays give an array."""
    return (abs(mean - other.mean) > 2.0 * np.minimum(spread, other.spread)) | (spread < other.spread / 1.5)


@dataclass(frozen=True, eq=False)
class Block:
    """A tensor product of nodes, or nodes without any order.

    Attributes
    ----------
    share : float
        The mass of the block.
    points : array, shape (N, d)
    logs : array, shape (N,)
        Logarithms of the weights, whose sum is the share: far out in a tail the weights themselves are no numbers.
    shape : tuple of int, optional
        Nodes along each axis, in C order; None for atoms and cells of a mesh, which no rule places.
    cut : tuple of (bool, bool)
        For each axis whether the rule stops, below and above, where the density does not: what lies beyond was
        thought negligible.
    """

    share: float
    points: Array
    logs: Array
    shape: tuple[int, ...] | None = None
    cut: tuple[tuple[bool, bool], ...] = ()

    @cached_property
    def lines(self) -> tuple[Array, ...]:
        """Coordinates along each axis, of a tensor product; ascending, but where a law is wound round the axis."""
        assert self.shape is not None
        strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        pairs = enumerate(zip(self.shape, strides, strict=True))
        return tuple(np.ascontiguousarray(self.points[: n * stride : stride, i]) for i, (n, stride) in pairs)

    @cached_property
    def middles(self) -> tuple[Place, ...]:
        """Where its mass is along each axis, of a tensor product of two nodes or more along all of them."""
        weights = np.exp(self.logs)
        return tuple(Place.of(x, self.layers(weights, i)) for i, x in enumerate(self.lines))

    def layers(self, weights: Array, i: int) -> Array:
        """What nodes of some weights (..., N) hold across an axis, at each of its `lines`: shape (..., n)."""
        assert self.shape is not None
        others = tuple(j - len(self.shape) for j in range(len(self.shape)) if j != i)
        return weights.reshape(*weights.shape[:-1], *self.shape).sum(others) if others else weights

    @property
    def placed(self) -> bool:
        """Whether a rule lays the nodes: a density lies between them, which atoms and cells of a mesh have not."""
        return self.shape is not None and max(self.shape) > 1

    @staticmethod
    def of(
        share: float, points: Array, logs: Array, shape: tuple[int, ...] | None = None,
        cut: tuple[tuple[bool, bool], ...] = (),
    ) -> Block:  # fmt: skip
        """A block of weights that are known up to a factor."""
        return Block(share, points, logs + (math.log(share) - log_total(logs)), shape, cut)


def log_total(logs: Array) -> float:
    """``log sum exp``."""
    shift = float(logs.max())
    return shift + math.log(float(np.exp(logs - shift).sum())) if math.isfinite(shift) else shift


class Rule(tuple[Block, ...]):
    """The blocks of a measure, and all their nodes, put together once."""

    @cached_property
    def size(self) -> int:
        """How many nodes there are."""
        return sum(len(block.logs) for block in self)

    @cached_property
    def nodes(self) -> tuple[Array, Array]:
        """Points (N, d), and the logarithms (N,) of their weights, which have sum 1: read-only, they are shared."""
        points = self[0].points if len(self) == 1 else np.concatenate([block.points for block in self])
        logs = np.concatenate([block.logs for block in self])
        logs -= log_total(logs)
        points, logs = read_only(points, logs)
        return points, logs


@lru_cache(256)
def _legendre(n: int) -> tuple[Array, Array]:
    if n <= MOST_DENSE:
        return np.polynomial.legendre.leggauss(n)
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(n)
    return nodes, weights


def gauss(lower: float, upper: float, n: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on an interval."""
    nodes, weights = _legendre(n)
    half = 0.5 * (upper - lower)
    return 0.5 * (lower + upper) + half * nodes, half * weights


def node_rule(
    lower: float, upper: float, places: Sequence[Place], n: int, vanishing: bool, narrow: float = NARROW
) -> tuple[Array, Array]:
    r"""Nodes and weights for Lebesgue measure on an interval, dense where the places are.

    .. math:: u(x) = \sum_k \operatorname{asinh}\frac{x - m_k}{a_k}, \qquad
       a_k = L_k / \sinh b_k, \quad L_k b_k / \sinh b_k = \sigma s_k,

    with :math:`L_k` the distance of the place's mean from the farther end, :math:`s_k` its spread, and
    :math:`\sigma = 3` for midpoints, :math:`0.37 L_k / s_k` between 2.2 and 3 for Gauss-Legendre nodes.

    Parameters
    ----------
    lower, upper : float
        The interval.
    places : sequence of Place
        At least one.
    n : int
        Number of nodes.
    vanishing : bool
        Whether what is integrated vanishes at both ends: then midpoints in ``u``, else Gauss-Legendre nodes.
    narrow : float
        See `NARROW`.

    Returns
    -------
    x, w : array, shape (n,)
        Ascending nodes, and ``int f dx ~ sum w f(x)``.
    """
    means = np.array([place.mean for place in places])
    half = np.maximum(upper - means, means - lower)
    spreads = np.array([place.spread for place in places])
    wide = SLOPE * spreads if vanishing else np.clip(narrow * half, LEAST_SLOPE * spreads, SLOPE * spreads)
    scale = np.array([_scale(*one) for one in zip(half.tolist(), wide.tolist(), strict=True)])

    def curve(x: Array) -> Array:
        return np.asarray(np.arcsinh((x[:, None] - means) / scale).sum(axis=1))

    def slope(x: Array) -> Array:
        return np.asarray((1.0 / np.hypot(x[:, None] - means, scale)).sum(axis=1))

    start, end = curve(np.array([lower, upper]))
    if vanishing:
        step = (end - start) / n
        u, du = start + step * (np.arange(n) + 0.5), np.full(n, step)
    else:
        u, du = gauss(start, end, n)
    if len(places) == 1:  # the map has an inverse
        x = means[0] + scale[0] * np.sinh(u)
        return x, du * np.hypot(x - means[0], scale[0])
    # Newton's method, and bisection where it leaves the bracket or its steps do not halve: it may go round in circles
    low, high, least = np.full(n, lower), np.full(n, upper), 4e-16 * (upper - lower)
    x, before = 0.5 * (low + high), np.full(n, upper - lower)
    for _ in range(200):
        off = curve(x) - u
        low, high = np.where(off < 0.0, x, low), np.where(off < 0.0, high, x)
        step = off / slope(x)
        # a root is an end of its bracket: no step from there leads inside
        good = (x - step > low) & (x - step < high) & (np.abs(step) <= 0.5 * before) | (np.abs(step) <= least)
        step = np.where(good, step, x - 0.5 * (low + high))
        x, before = x - step, np.abs(step)
        if np.all(before <= least):
            break
    return x, du / slope(x)


def density_rule(
    interval: tuple[float, float], bounds: tuple[float, float], bulk: Place, ends: float, places: Sequence[Place],
    n: int, other: bool = False,
) -> tuple[Array, Array, tuple[bool, bool]]:  # fmt: skip
    """Nodes for a density and for what descends from its tails.

    Parameters
    ----------
    interval : (float, float)
        Where the density is not negligible.
    bounds : (float, float)
        Where it is not 0.
    bulk : Place
        Its middle and spread.
    ends : float
        How large it is at the ends of the interval, the maximum being 1.
    places : sequence of Place
        Where else nodes are needed.
    n : int
        Their number.
    other : bool
        Take another rule, in a map of another slope on a wider interval.

    Returns
    -------
    x, w : array, shape (n,)
    cut : (bool, bool)
        At which ends the rule stops and the density does not.
    """
    extended = [bulk, *(place for place in places if place.new([bulk]))]
    low = min([interval[0], *(place.mean - REACH * place.spread for place in extended[1:])])
    high = max([interval[1], *(place.mean + REACH * place.spread for place in extended[1:])])
    if other:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
        extended = [Place(place.mean, WIDER * place.spread) for place in extended]
    low, high = max(low, bounds[0]), min(high, bounds[1])
    if ends > VANISHES and len(extended) == 1 and not other:
        x, w = gauss(low, high, n)
    else:
        narrow = WIDER * NARROW if other else NARROW
        x, w = node_rule(low, high, extended, n, ends < NEGLIGIBLE_END, narrow)
    return x, w, (low > bounds[0], high < bounds[1])


@lru_cache(1024)
def _scale(half: float, slope: float) -> float:
    """``a`` of a place, from ``b / sinh b = slope / half`` by bisection."""
    ratio = slope / half if half > 0.0 else 1.0
    low, high = LEAST_CURVE, MOST_CURVE
    if ratio >= low / math.sinh(low):
        return half / math.sinh(low) if half > 0.0 else 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        # b / sinh b, without overflow
        value = 2.0 * middle * math.exp(-middle) / -math.expm1(-2.0 * middle)
        low, high = (middle, high) if value > ratio else (low, middle)
    return float(half / math.sinh(low))
