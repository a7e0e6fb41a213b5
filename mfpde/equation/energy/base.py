"""Energies of a measure: what they are, what they become on a box, what they become on a mesh.

Three stages, each made once and then used many times:

`Energy`
    what the user writes, independent of any box; energies add with ``+``.
`BoundEnergy`
    the energy on given axes. Factorisations are made here, so they depend on the box and never on a mesh:
    grid, characteristics and particles share one response ``u``.
`GridEnergy`
    the energy on the cells of one grid: a plan with everything precomputed.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mfpde.equation.energy.losses import Loss
from mfpde.equation.energy.on_grid import GridEnergy, GridSum
from mfpde.equation.grid import Axis, Grid
from mfpde.support.arguments import floats
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory
from mfpde.support.travel import Portable

__all__ = [
    "BoundEnergy",
    "BoundSum",
    "Capability",
    "Energy",
    "EnergySum",
    "FUNCTION_ARRAYS",
    "Last",
    "MEMORY_LIMIT",
    "Source",
    "axis_positions",
    "central_difference",
    "difference_along",
    "difference_step",
    "in_chunks",
]


MEMORY_LIMIT = 2**30
"""Bytes above which a dense matrix is refused by name."""
FUNCTION_ARRAYS = 8
"""Arrays like its result that a function of the user's is taken to make on its way."""
TOGETHER = 1024
"""Points of small measures, about, whose moments are found in one pass; more of them leave the cache."""
DIFFERENCE = 1e-4
"""Step in the response, relative to its size, of the differences that stand in for a second derivative."""

Capability = Literal["mesh", "points", "response", "curvature"]
"""What an energy may have; see `BoundEnergy.capabilities`."""


# ---------------------------------------------------------------------------------------------------------------------
# small tools
# ---------------------------------------------------------------------------------------------------------------------


def axis_positions(names: Sequence[str], axes: Sequence[Axis], what: str) -> tuple[int, ...]:
    """Where the axes called `names` stand among `axes`."""
    own = [axis.name for axis in axes]
    for name in names:
        if name not in own:
            raise ValueError(f"{what} names the axis {name!r}, but the axes are {own}; rename one of them")
    return tuple(own.index(name) for name in names)


def as_points(points: Array, dimension: int) -> Array:
    """`points` as a float array of shape ``(n, dimension)``."""
    points = floats(points, "points")
    if points.ndim != 2 or points.shape[1] != dimension:
        raise ValueError(f"points must have shape (n, {dimension}), one row a point, not {points.shape}")
    return points


def as_weights(weights: Array, n: int) -> Array:
    """`weights` as a float array of shape ``(n,)``."""
    weights = floats(weights, "weights")
    if weights.shape != (n,):
        raise ValueError(f"weights must have shape ({n},), one a point, not {weights.shape}")
    return weights


def difference_step(axis: Axis) -> float:
    """The step of `central_difference` along an axis: balances h^6 against round-off for features of size length/5."""
    return 2e-3 * axis.length


def central_difference(function: Callable[[Array], Array], x: Array, h: float) -> Array:
    """The derivative of `function` at `x` by the 6-th order central difference of step `h`."""
    first = function(x + h) - function(x - h)
    second = function(x + 2 * h) - function(x - 2 * h)
    third = function(x + 3 * h) - function(x - 3 * h)
    return (0.75 * first - 0.15 * second + third / 60.0) / h


def difference_along(function: Callable[[float], Array], h: float) -> Array:
    """The derivative at 0 of a function of a displacement, by the 4-th order central difference of step `h`."""
    near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
    return (8.0 * near - far) / (12.0 * h)


def in_chunks(n: int, width: int, limit: int = 2**21) -> list[slice]:
    """Slices of ``range(n)`` such that a chunk of rows of `width` numbers holds about `limit` of them."""
    step = max(16, limit // max(width, 1))
    return [slice(i, min(i + step, n)) for i in range(0, max(n, 1), step)]


class Last:
    """A function of points, and perhaps more arrays, that keeps its last result: some arrays, which are read-only.

    Response, potential and gradient are asked for at the same points one after the other.
    """

    def __init__(self, function: Callable[..., Sequence[Array]]) -> None:
        self._function = function
        self._kept: tuple[tuple[Array, ...], Sequence[Array]] | None = None

    def __call__(self, *arrays: Array) -> Sequence[Array]:
        """The function's result for arrays, computed anew only if they differ from the last ones."""
        kept = self._kept
        # by value: particles move within their array
        if kept is not None and all(map(np.array_equal, kept[0], arrays)):
            return kept[1]
        result = self._function(*arrays)
        for array in result:
            array.flags.writeable = False
        self._kept = tuple(array.copy() for array in arrays), result
        return result


# ---------------------------------------------------------------------------------------------------------------------
# the three stages
# ---------------------------------------------------------------------------------------------------------------------


class Energy(Portable, ABC):
    """An energy E[mu] of a measure over named parameters, without the entropy.

    It is two things. Its *potential* ``V[mu]`` is what moves a measure. Its *value* is what a run lowers, a Lyapunov
    function, where V is the first variation of it (`lyapunov`); where it is convex besides, there are certificates.

    Energies add: ``network + Confinement(c=0.1)``. One of your own is a subclass of `MeshEnergy` (on a mesh only) or of
    `PointEnergy` (everywhere), or a `Features` with your own `Loss`.
    """

    @property
    def lyapunov(self) -> bool:
        """Whether the potential is the first variation of the value, so that gradient flow lowers it."""
        return True

    @property
    def linear(self) -> bool:
        """Whether the energy is linear in the measure, so that no measure changes the potential."""
        return False

    @property
    def convex(self) -> bool | None:
        """Whether the energy is convex, or not, by its construction; None where the box and the mesh decide."""
        return None

    @property
    def terms(self) -> tuple[Energy, ...]:
        """The summands."""
        return (self,)

    @property
    def named_axes(self) -> tuple[str, ...]:
        """The axes that it names: a box has to have them."""
        return ()

    @abstractmethod
    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on a box: factorised, compressed and checked against these axes."""

    def __add__(self, other: Energy) -> Energy:
        if not isinstance(other, Energy):
            return NotImplemented
        return EnergySum(self.terms + other.terms)


class BoundEnergy(ABC):
    """An energy on a box, evaluated on weighted points; `on` gives it on a mesh.

    The first variation is ``V[mu](theta) = dE/dmu``, and everything that it needs to know of mu is the *response*
    ``u[mu]``, a vector of `response_size` moments of mu. Where an energy has no factorisation (`direct`), the measure
    itself is its response: `response` then appends ``weights`` and ``points.ravel()`` to the moments, so that
    ``potential(points, response(sources, weights))`` is right for every energy that has values at points.

    Not every energy has everything; `capabilities` says what, and who computes asks before
    (`mfpde.equation.energy.capabilities`).

    Attributes
    ----------
    axes : tuple of Axis
        The box.
    response_size : int
        The number of moments.
    direct : bool
        Whether some part has no factorisation and sums over pairs of points.
    discontinuous_gradient : bool
        Whether grad V may jump (a ReLU unit): convergence is then of low order.
    lyapunov : bool
        Whether V is the first variation of E, so that gradient flow lowers E.
    convex : bool or None
        Whether the energy is known to be convex among all measures on the box, whatever their mass. Where it is not
        True, `mfpde.equation.convexity` looks at the mesh.
    quadratic : bool
        Whether V is known to be affine in the measure.
    is_external : bool
        Whether it is an external potential, which on a mesh is added to others.
    offset : float
        The size of the constants in E. Near a minimum of 0 the other terms cancel them, and E is as uncertain as
        these are rounded.
    """

    axes: tuple[Axis, ...]
    response_size: int = 0
    offset: float = 0.0
    direct: bool = False
    discontinuous_gradient: bool = False
    lyapunov: bool = True
    convex: bool | None = None
    quadratic: bool = False
    is_external: bool = False

    @property
    def label(self) -> str:
        """What messages call the energy: the name of its class."""
        return type(self).__name__

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the energy has, by what its class implements; a class may state something else.

        ``"mesh"``
            V and E of a density on a mesh: `on`.
        ``"points"``
            V, its gradient and E of weighted points: `potential`, `gradient` and `energy`.
        ``"response"``
            All that V has to know of a measure are `response_size` moments of it: `features` and `slope`.
        ``"curvature"``
            The second variation in closed form; without it `curvature` takes differences.
        """
        found: set[Capability] = set()
        if self._implements("_potential") and self._implements("_energy"):
            found.add("points")
            if not self.direct and (not self.response_size or self._implements("_slope")):
                found.add("response")
        if self._implements("on"):
            found.add("mesh")
        if self.quadratic or self._implements("_curvature"):
            found.add("curvature")
        return frozenset(found)

    def _implements(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(BoundEnergy, name)

    @property
    def interacts(self) -> bool:
        """Whether V depends on the measure, as far as is known."""
        return self.direct or self.response_size > 0 or "response" not in self.capabilities

    @property
    def outcome(self) -> tuple[Loss, Array | None] | None:
        """A loss of outputs that E is, but for a constant, and the matrix that makes them of the response.

        Returns
        -------
        loss : Loss
            ``E = loss.value(matrix @ response)`` plus a constant.
        matrix : array, shape (M, response_size), optional
            None where the outputs are the response.

        None altogether for energies that are something else.
        """
        return None

    @property
    def parts(self) -> tuple[BoundEnergy, ...]:
        """The summands, bound."""
        return (self,)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where the moments of each of `parts` stand in the response."""
        ends = itertools.accumulate((part.response_size for part in self.parts), initial=0)
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    def response(self, points: Array, weights: Array) -> Array:
        """The response of the measure ``sum_i weights_i delta_{points_i}``.

        Parameters
        ----------
        points : (n, d) array
            Rows in the order of `axes`.
        weights : (n,) array
            Their sum is the mass.

        Returns
        -------
        (response_size,) array
            Longer where `direct`: the measure itself follows the moments.
        """
        points = as_points(points, len(self.axes))
        weights = as_weights(weights, len(points))
        moments = self._moments(points, weights)
        return np.concatenate([moments, weights, points.ravel()]) if self.direct else moments

    def potential(self, points: Array, response: Array) -> Array:
        """The first variation V at the points (n, d), given the response: shape ``(n,)``."""
        points = as_points(points, len(self.axes))
        return self._potential(points, *self._split(response))

    def gradient(self, points: Array, response: Array) -> Array:
        """The gradient of V at the points (n, d), given the response: shape ``(n, d)``."""
        points = as_points(points, len(self.axes))
        return self._gradient(points, *self._split(response))

    def energy(self, points: Array, weights: Array, response: Array | None = None) -> float:
        """E of the measure ``sum_i weights_i delta_{points_i}``; its response, when known, saves the work."""
        points = as_points(points, len(self.axes))
        weights = as_weights(weights, len(points))
        moments = self._moments(points, weights) if response is None else self._split(response)[0]
        return self._energy(points, weights, moments)

    def each(self, points: Array, weights: Array) -> tuple[Array, Array]:
        """`energy` and the moments of several measures, as one after the other but for rounding.

        Parameters
        ----------
        points : (m, n, d) array
        weights : (m, n) array

        Returns
        -------
        energies : (m,) array
        moments : (m, response_size) array
        """
        m, n = weights.shape
        step = max(1, TOGETHER // max(n, 1))
        moments = np.empty((m, self.response_size))
        for piece in (slice(i, i + step) for i in range(0, m, step)):
            x, w = points[piece], weights[piece]
            # one alone is perhaps a large one, which `_moments` takes in parts
            moments[piece] = self._moments_of_each(x, w) if len(w) > 1 else self._moments(x[0], w[0])
        return self._energy_of_each(points, weights, moments), moments

    def features(self, points: Array) -> Array:
        """``Phi_k`` at the points (n, d), so that ``response = features @ weights``: shape ``(response_size, n)``.

        Raises
        ------
        ValueError
            Where `direct`: a part without a factorisation has no features.
        """
        if self.direct:
            raise ValueError(f"{self!r} has a part without a factorisation, hence no features")
        return self._features(as_points(points, len(self.axes)))

    def slope(self, response: Array) -> Array:
        """``dL/du_k`` at a response, so that ``V = slope @ features`` plus what does not depend on the measure.

        Raises
        ------
        ValueError
            Where `direct`.
        """
        if self.direct:
            raise ValueError(f"{self!r} has a part without a factorisation, hence no slope")
        return self._slope(self._split(response)[0]).reshape(-1)

    def curvature(self, response: Array, changes: Array | None = None) -> Array:
        """``L'' = d^2 L / du_k du_l`` at a response, or ``L''`` times changes of the response.

        In closed form where ``"curvature"`` is among the `capabilities`; else by central differences of fourth order
        of `slope`, good to about 1e-10 of its size.

        Parameters
        ----------
        response : (response_size,) array
        changes : (response_size, k) array, optional
            Default: the identity.

        Returns
        -------
        (response_size, k) array

        Raises
        ------
        ValueError
            Where `direct`.
        """
        if self.direct:
            raise ValueError(f"{self!r} has a part without a factorisation, hence no curvature in its response")
        moments = self._split(response)[0]
        if changes is not None:
            return self._curvature(moments, changes)
        matrix = self._curvature(moments, np.eye(self.response_size))
        return 0.5 * (matrix + matrix.T)

    def kernel_matrix(self, points: Array) -> Array:
        """The second variation of an energy that is quadratic, at pairs of points (n, d): shape ``(n, n)``.

        Raises
        ------
        ValueError
            For an energy that is not.
        """
        n = len(points)
        if not self.quadratic:
            raise ValueError(f"{self.label} is not known to be quadratic: its second variation depends on the measure")
        if not self.interacts:
            return np.zeros((n, n))
        if "response" in self.capabilities:
            features = self.features(points)
            return np.asarray(features.T @ self.curvature(np.zeros(self.response_size), features))
        none = self.potential(points, self.response(points[:1], np.zeros(1)))
        units = (self.response(point[None], np.ones(1)) for point in points)
        return np.stack([self.potential(points, unit) - none for unit in units], axis=1)

    def sign_on(self, grid: Grid, free_mass: bool) -> int:
        """1 where the second variation is known not to be negative along any change of a density on a mesh.

        -1 where it is known not to be positive, 0 where neither is known; without `free_mass` along changes that keep
        the mass.
        """
        return 1 if self.convex else 0

    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid over the same axes."""
        raise NotImplementedError(f"{self.label} has no values on a mesh")

    def memory(self, grid: Grid) -> Memory:
        """What `on` will take on a grid, in bytes: known before anything is made, so that nothing dies for want of it.

        A class that does not say is taken to keep 2 arrays of the mesh's size and to need 8 besides.
        """
        return Memory.arrays(grid.size, 2, FUNCTION_ARRAYS, FUNCTION_ARRAYS)

    # what a kind of energy implements; `source` is (points, weights) of the measure where `direct`

    def _moments(self, points: Array, weights: Array) -> Array:
        return np.empty(0)

    def _energy_of_each(self, points: Array, weights: Array, moments: Array) -> Array:
        return np.array([self._energy(*one) for one in zip(points, weights, moments, strict=True)])

    def _moments_of_each(self, points: Array, weights: Array) -> Array:
        rows = [self._moments(*one) for one in zip(points, weights, strict=True)]
        return np.stack(rows).reshape(len(rows), self.response_size)

    def _features(self, points: Array) -> Array:
        rows = [self._moments(point[None], np.ones(1)) for point in points]
        return np.array(rows).reshape(len(points), self.response_size).T

    def _slope(self, moments: Array) -> Array:
        if self.response_size:
            raise NotImplementedError(f"{type(self).__name__} does not give the slope of its energy in the response")
        return np.empty(0)

    def _curvature(self, moments: Array, changes: Array) -> Array:
        def slope(u: Array) -> Array:
            return self._slope(u).reshape(-1)

        def along(change: Array) -> Array:
            if self.quadratic:
                return slope(change) - slope(np.zeros(len(moments)))
            size = float(np.abs(change).max(initial=0.0))
            if size == 0.0:
                return np.zeros(len(moments))
            h = DIFFERENCE * max(1.0, float(np.abs(moments).max(initial=0.0))) / size
            return difference_along(lambda s: slope(moments + s * change), h)

        return np.array([along(change) for change in changes.T]).reshape(changes.T.shape).T

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        raise NotImplementedError(f"{self.label} has no values at points")

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        result = np.empty(points.shape)
        for i, axis in enumerate(self.axes):
            if not axis.moves:
                result[:, i] = 0.0
                continue

            def along(t: Array, i: int = i) -> Array:
                moved = points.copy()
                moved[:, i] = t
                return self._potential(moved, moments, source)

            result[:, i] = central_difference(along, points[:, i], difference_step(axis))
        return result

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        raise NotImplementedError(f"{self.label} has no values at points")

    def _split(self, response: Array) -> tuple[Array, Source | None]:
        response = floats(response, "the response")
        extra, width = response.size - self.response_size, len(self.axes) + 1
        if not self.direct:
            if response.shape != (self.response_size,):
                raise ValueError(f"the response must have shape ({self.response_size},), not {response.shape}")
            return response, None
        if response.ndim != 1 or extra <= 0 or extra % width:
            raise ValueError(
                f"this energy has a part without a factorisation, so its response carries the measure itself; "
                f"an array of shape {response.shape} does not: pass the result of response(points, weights)"
            )
        n = extra // width
        tail = response[self.response_size :]
        return response[: self.response_size], (tail[n:].reshape(n, width - 1), tail[:n])

    def _check_grid(self, grid: Grid) -> None:
        if grid.axes != self.axes:
            raise ValueError(f"the energy is bound to the axes {list(self.axes)}, the grid has {list(grid.axes)}")


Source = tuple[Array, Array]


# ---------------------------------------------------------------------------------------------------------------------
# sums
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class EnergySum(Energy):
    """A sum of energies; made by ``+``."""

    summands: tuple[Energy, ...]

    @property
    def convex(self) -> bool | None:
        """True if all summands are convex, False if only one is not linear and that one is not convex."""
        flags = [term.convex for term in self.summands if not term.linear]
        if all(flags):
            return True
        return False if flags == [False] else None

    @property
    def lyapunov(self) -> bool:
        """Whether every summand's potential is the first variation of its value."""
        return all(term.lyapunov for term in self.summands)

    @property
    def linear(self) -> bool:
        """Whether all summands are."""
        return all(term.linear for term in self.summands)

    @property
    def terms(self) -> tuple[Energy, ...]:
        """The summands."""
        return self.summands

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The sum of the bound summands."""
        return BoundSum([part for term in self.summands for part in term.bind(axes).parts])

    def __repr__(self) -> str:
        return " + ".join(repr(term) for term in self.summands)


class BoundSum(BoundEnergy):
    """A sum of bound energies: responses one after the other, potentials and energies added."""

    def __init__(self, parts: Sequence[BoundEnergy]) -> None:
        self._parts = tuple(parts)
        self.axes = parts[0].axes
        self.response_size = sum(part.response_size for part in parts)
        self.direct = any(part.direct for part in parts)
        self.discontinuous_gradient = any(part.discontinuous_gradient for part in parts)
        self.lyapunov = all(part.lyapunov for part in parts)
        self.convex = True if all(part.convex for part in parts) else None
        self.quadratic = all(part.quadratic for part in parts)
        self.offset = sum(part.offset for part in parts)
        self._slices = super().slices

    @property
    def parts(self) -> tuple[BoundEnergy, ...]:
        """The summands, bound."""
        return self._parts

    @property
    def label(self) -> str:
        """The names of the summands."""
        return " + ".join(part.label for part in self._parts)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What all summands have."""
        return frozenset.intersection(*(part.capabilities for part in self._parts))

    def _moments(self, points: Array, weights: Array) -> Array:
        return np.concatenate([part._moments(points, weights) for part in self._parts])

    def _moments_of_each(self, points: Array, weights: Array) -> Array:
        return np.concatenate([part._moments_of_each(points, weights) for part in self._parts], axis=1)

    def _features(self, points: Array) -> Array:
        return np.concatenate([part._features(points) for part in self._parts])

    def _slope(self, moments: Array) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.concatenate([part._slope(moments[piece]).reshape(-1) for part, piece in pieces])

    def _curvature(self, moments: Array, changes: Array) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.concatenate([part._curvature(moments[piece], changes[piece]) for part, piece in pieces])

    def kernel_matrix(self, points: Array) -> Array:
        """The sum of those of the summands."""
        return np.asarray(sum(part.kernel_matrix(points) for part in self._parts))

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.asarray(sum(part._potential(points, moments[piece], source) for part, piece in pieces))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.asarray(sum(part._gradient(points, moments[piece], source) for part, piece in pieces))

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        pieces = zip(self._parts, self._slices, strict=True)
        return float(sum(part._energy(points, weights, moments[piece]) for part, piece in pieces))

    def _energy_of_each(self, points: Array, weights: Array, moments: Array) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.sum([part._energy_of_each(points, weights, moments[:, piece]) for part, piece in pieces], axis=0)

    def on(self, grid: Grid) -> GridEnergy:
        """The sum on a grid; external potentials are added up once."""
        self._check_grid(grid)
        return GridSum(grid, [part.on(grid) for part in self._parts])

    def memory(self, grid: Grid) -> Memory:
        """Of all summands: they are made one after the other, and external potentials become one."""
        kept = making = working = 0.0
        external = others = 0
        for part in self._parts:
            needs = part.memory(grid)
            making = max(making, kept + needs.kept + needs.making)
            kept += needs.kept
            working = max(working, needs.working)
            external += part.is_external
            others += not part.is_external
        array = 8.0 * grid.size
        final = kept + array * (others > 1) - array * max(external - 1, 0)
        # the sum of external potentials is made of copies of all
        making = max(making, kept + array * (external + 1 if external else 0))
        return Memory(final, max(making - final, 0.0), working)

    def __repr__(self) -> str:
        return " + ".join(repr(part) for part in self._parts)
