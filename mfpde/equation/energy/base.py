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
from dataclasses import dataclass, field

import numpy as np

from mfpde.equation.energy.gradients import check_gradient
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.support.arguments import entries, function, real, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import slopes_of, values_at

__all__ = [
    "BoundEnergy",
    "BoundExternal",
    "BoundSum",
    "Confinement",
    "Energy",
    "EnergySum",
    "External",
    "GridEnergy",
    "Last",
    "MEMORY_LIMIT",
    "Source",
    "axis_positions",
    "central_difference",
    "difference_along",
    "difference_step",
    "in_chunks",
    "prepared_output",
]


MEMORY_LIMIT = 2**30
"""Bytes above which a dense matrix is refused by name."""


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
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != dimension:
        raise ValueError(f"points must have shape (n, {dimension}), one row a point, not {points.shape}")
    return points


def as_weights(weights: Array, n: int) -> Array:
    """`weights` as a float array of shape ``(n,)``."""
    weights = np.asarray(weights, dtype=float)
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


def prepared_output(grid: Grid, mu: Array, out: Array | None) -> Array:
    """The array that an evaluation writes to, after the checks of shape and layout."""
    if mu.shape != grid.shape:
        raise ValueError(f"the density has shape {mu.shape}, the grid {grid.shape}")
    if out is None:
        return np.empty(grid.shape)
    if out.shape != grid.shape or not out.flags.c_contiguous or out.dtype != np.float64:
        raise ValueError(f"out must be a C-contiguous float64 array of shape {grid.shape}")
    return out


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


class Energy(ABC):
    """An energy E[mu] of a measure over named parameters, without the entropy.

    Energies add: ``network + Confinement(c=0.1)``.
    """

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
    ``potential(points, response(sources, weights))`` is right for every energy.

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
    convex : bool or None
        Whether the energy is known to be convex among all measures on the box, whatever their mass. Where it is not
        True, `mfpde.equation.convexity` looks at the mesh.
    quadratic : bool
        Whether V is known to be affine in the measure.
    offset : float
        The size of the constants in E. Near a minimum of 0 the other terms cancel them, and E is as uncertain as
        these are rounded.
    """

    axes: tuple[Axis, ...]
    response_size: int = 0
    offset: float = 0.0
    direct: bool = False
    discontinuous_gradient: bool = False
    convex: bool | None = None
    quadratic: bool = False

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

    @abstractmethod
    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid over the same axes."""

    # what a kind of energy implements; `source` is (points, weights) of the measure where `direct`

    def _moments(self, points: Array, weights: Array) -> Array:
        return np.empty(0)

    def _features(self, points: Array) -> Array:
        rows = [self._moments(point[None], np.ones(1)) for point in points]
        return np.array(rows).reshape(len(points), self.response_size).T

    def _slope(self, moments: Array) -> Array:
        if self.response_size:
            raise NotImplementedError(f"{type(self).__name__} does not give the slope of its energy in the response")
        return np.empty(0)

    @abstractmethod
    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array: ...

    @abstractmethod
    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array: ...

    @abstractmethod
    def _energy(self, points: Array, weights: Array, moments: Array) -> float: ...

    def _split(self, response: Array) -> tuple[Array, Source | None]:
        response = np.asarray(response, dtype=float)
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


class GridEnergy(ABC):
    """A plan: an energy on the cells of one grid, everything precomputed. ``repr`` shows it.

    Attributes
    ----------
    grid : Grid
        The grid.
    response_size : int
        The length of the response.
    """

    grid: Grid
    response_size: int = 0

    @abstractmethod
    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """First variation, energy and response of a density.

        Parameters
        ----------
        mu : array of shape ``grid.shape``
            Density per Lebesgue volume.
        out : array of shape ``grid.shape``, optional
            Where to write V.

        Returns
        -------
        V : array of shape ``grid.shape``
            ``(dE/dmu_i) / cell_volume`` of the discrete energy, exactly.
        energy : float
            E including its constant.
        response : (response_size,) array
            Not shared with later calls.
        """

    @abstractmethod
    def _describe(self) -> list[str]:
        """The lines of the plan."""

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__} on {self.grid!r}", *("  " + line for line in self._describe())])


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
        flags = [term.convex for term in self.summands if not isinstance(term, External)]
        if all(flags):
            return True
        return False if flags == [False] else None

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
        self.convex = True if all(part.convex for part in parts) else None
        self.quadratic = all(part.quadratic for part in parts)
        self.offset = sum(part.offset for part in parts)
        self._slices = super().slices

    @property
    def parts(self) -> tuple[BoundEnergy, ...]:
        """The summands, bound."""
        return self._parts

    def _moments(self, points: Array, weights: Array) -> Array:
        return np.concatenate([part._moments(points, weights) for part in self._parts])

    def _features(self, points: Array) -> Array:
        return np.concatenate([part._features(points) for part in self._parts])

    def _slope(self, moments: Array) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.concatenate([part._slope(moments[piece]).reshape(-1) for part, piece in pieces])

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.asarray(sum(part._potential(points, moments[piece], source) for part, piece in pieces))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        pieces = zip(self._parts, self._slices, strict=True)
        return np.asarray(sum(part._gradient(points, moments[piece], source) for part, piece in pieces))

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        pieces = zip(self._parts, self._slices, strict=True)
        return float(sum(part._energy(points, weights, moments[piece]) for part, piece in pieces))

    def on(self, grid: Grid) -> GridEnergy:
        """The sum on a grid; external potentials are added up once."""
        self._check_grid(grid)
        return GridSum(grid, [part.on(grid) for part in self._parts])

    def __repr__(self) -> str:
        return " + ".join(repr(part) for part in self._parts)


class GridSum(GridEnergy):
    """A sum on a grid; see `GridEnergy`."""

    def __init__(self, grid: Grid, plans: Sequence[GridEnergy]) -> None:
        self.grid = grid
        self.response_size = sum(plan.response_size for plan in plans)
        external = [plan for plan in plans if isinstance(plan, ExternalOnGrid)]
        self._others = [plan for plan in plans if not isinstance(plan, ExternalOnGrid)]
        self._external: ExternalOnGrid | None = None
        if external:
            values = np.sum([plan.values for plan in external], axis=0)
            self._external = ExternalOnGrid(grid, values, sum(plan.constant for plan in external))
        self._buffer = np.empty(grid.shape) if len(self._others) > 1 else None

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and response of a density: those of all parts together, V written to `out` if that is there."""
        if not self._others:
            assert self._external is not None
            return self._external.evaluate(mu, out)
        V, energy, response = self._others[0].evaluate(mu, out)
        if len(self._others) > 1:
            responses = [response]
            for plan in self._others[1:]:
                more, e, u = plan.evaluate(mu, self._buffer)
                np.add(V, more, out=V)
                energy += e
                responses.append(u)
            response = np.concatenate(responses)
        if self._external is not None:
            np.add(V, self._external.values, out=V)
            energy += self._external.energy(mu)
        return V, energy, response

    def _describe(self) -> list[str]:
        plans = self._others + ([self._external] if self._external is not None else [])
        return [line for plan in plans for line in plan._describe()]


# ---------------------------------------------------------------------------------------------------------------------
# external potentials
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class External(Energy):
    """An external potential: ``E[mu] = int F dmu + constant``.

    Parameters
    ----------
    function : callable
        ``F(*coordinates) -> array``: the coordinates come as arrays that broadcast, one an axis, in the order of
        the axes (or of `axes`), and so must the result; see ``docs/functions.md``.
    gradient : callable, optional
        ``gradient(*coordinates)`` gives the derivative of F along each of those axes, a sequence of arrays, of one
        axis the array will do. Without it, 6-th order central differences of step 0.002 times the axis' length are
        used (points beyond the ends are evaluated).
    constant : float
        Added to the energy; it does not depend on the mass.
    axes : sequence of str, optional
        The names of the axes F depends on. Default: all, in the order of the box.

    Raises
    ------
    ValueError
        When bound: an unknown axis; a gradient that differences of F, at 20 points of the box, show to be off by more
        than 1e-5 of its largest value. On a grid: a value that is not finite inside the box.

    Examples
    --------
    >>> from mfpde.equation.grid import Axis, Grid
    >>> well = External(lambda x: (x**2 - 1) ** 2, lambda x: (4 * x * (x**2 - 1),))
    >>> bound = well.bind([Axis("x", -2, 2)])
    >>> float(bound.energy(np.array([[0.0], [1.0]]), np.array([0.5, 0.5])))
    0.5
    """

    function: Callable[..., Array]
    gradient: Callable[..., Sequence[Array]] | None = None
    constant: float = 0.0
    axes: tuple[str, ...] | None = field(default=None)

    @property
    def convex(self) -> bool:
        """True: the energy is linear."""
        return True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"an external potential needs a function of the coordinates, not {shown(self.function)}")
        function(self.gradient, "the gradient of an external potential", optional=True)
        if not real(self.constant):
            raise ValueError(f"the constant of an external potential must be finite, not {shown(self.constant)}")
        if self.axes is not None:
            axes = (self.axes,) if isinstance(self.axes, str) else entries(self.axes, "the axes of a potential")
            object.__setattr__(self, "axes", axes)

    @property
    def named_axes(self) -> tuple[str, ...]:
        """The axes that it names: a box has to have them."""
        return self.axes or ()

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The potential on a box."""
        return BoundExternal(self, as_axes(axes))

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"External({name}" + (f", constant={self.constant:.6g})" if self.constant else ")")


class Confinement(External):
    """A quadratic confinement (weight decay): ``F = sum_i 1/2 k_i theta_i^2`` over the axes named.

    Parameters
    ----------
    strengths : mapping of str to float, optional
        The strength k_i >= 0 of each axis, by name.
    **named : float
        The same as keywords: ``Confinement(c=0.1, a=0.01)``.

    Raises
    ------
    ValueError
        On no axis, or a strength that is negative or not finite.
    """

    def __init__(self, strengths: dict[str, float] | None = None, **named: float) -> None:
        by_axis = {**(strengths or {}), **named}
        if not by_axis:
            raise ValueError("a confinement needs the strength of at least one axis, e.g. Confinement(c=0.1)")
        for name, strength in by_axis.items():
            if not (real(strength) and strength >= 0):
                raise ValueError(f"confinement of axis {name!r}: the strength must be >= 0, not {shown(strength)}")
        k = np.array(list(by_axis.values()), dtype=float)

        def confinement(*x: Array) -> Array:
            return np.asarray(sum(0.5 * ki * xi**2 for ki, xi in zip(k, x, strict=True)))

        def gradient(*x: Array) -> tuple[Array, ...]:
            return tuple(ki * xi for ki, xi in zip(k, x, strict=True))

        object.__setattr__(self, "strengths", {name: float(value) for name, value in by_axis.items()})
        super().__init__(confinement, gradient, 0.0, tuple(by_axis))

    def __repr__(self) -> str:
        strengths: dict[str, float] = self.strengths  # type: ignore[attr-defined]
        return f"Confinement({', '.join(f'{name}={k:g}' for name, k in strengths.items())})"


class BoundExternal(BoundEnergy):
    """An external potential on a box; see `BoundEnergy`."""

    convex = True
    quadratic = True

    def __init__(self, source: External, axes: tuple[Axis, ...]) -> None:
        self.axes = axes
        self._source = source
        self.offset = abs(source.constant)
        names = tuple(axis.name for axis in axes) if source.axes is None else source.axes
        self._positions = axis_positions(names, axes, "the external potential")
        if source.gradient is not None:
            none = np.empty(0)
            check_gradient(
                repr(source), axes, lambda p: self._potential(p, none, None), lambda p: self._gradient(p, none, None)
            )

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        x = [points[:, i] for i in self._positions]
        return np.array(values_at(self._source.function, x, "the external potential"))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        x = [points[:, i] for i in self._positions]
        result = np.zeros(points.shape)
        if self._source.gradient is not None:
            for i, values in zip(self._positions, slopes_of(self._source.gradient, *x), strict=True):
                result[:, i] = values
            return result
        for j, i in enumerate(self._positions):

            def along(t: Array, j: int = j) -> Array:
                return values_of(self._source.function, *x[:j], t, *x[j + 1 :])

            result[:, i] = central_difference(along, x[j], difference_step(self.axes[i]))
        return result

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return float(weights @ self._potential(points, moments, None)) + self._source.constant

    def on(self, grid: Grid) -> ExternalOnGrid:
        """The potential at the centres of a grid."""
        self._check_grid(grid)
        mesh = grid.mesh()
        values = values_at(self._source.function, [mesh[i] for i in self._positions], "the external potential")
        values = np.array(np.broadcast_to(values, grid.shape))
        if where := cell_not_finite(values, grid):
            raise ValueError(f"the external potential is {where}; it must be finite inside the box")
        return ExternalOnGrid(grid, values, self._source.constant)

    def __repr__(self) -> str:
        return repr(self._source)


class ExternalOnGrid(GridEnergy):
    """An external potential on a grid; see `GridEnergy`."""

    def __init__(self, grid: Grid, values: Array, constant: float) -> None:
        self.grid = grid
        self.values = np.ascontiguousarray(values)
        self.constant = float(constant)
        self._flat = self.values.reshape(-1)
        self._none = np.empty(0)

    def energy(self, mu: Array) -> float:
        """``int F dmu + constant``."""
        return float(np.dot(self._flat, mu.reshape(-1))) * self.grid.cell_volume + self.constant

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, which is the potential itself, E, and an empty response; V is written to `out` if that is there."""
        V = prepared_output(self.grid, mu, out)
        np.copyto(V, self.values)
        return V, self.energy(mu), self._none

    def _describe(self) -> list[str]:
        return [f"external potential: precomputed, {self.values.nbytes:,} bytes an evaluation"]
