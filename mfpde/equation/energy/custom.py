"""Energies of one's own: on a mesh only, or at points and thereby everywhere."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, Capability, Energy, Source
from mfpde.equation.energy.gradients import (
    check_first_variation,
    check_gradient,
    check_second_variation,
    check_statements,
    probe_points,
)
from mfpde.equation.energy.on_grid import GridEnergy, prepared_output
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.support.arguments import floats, function, read_only, real, refuse_masked, shown
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory
from mfpde.support.registry import plain

__all__ = ["Functional", "MeshEnergy", "PointEnergy"]


class _Stated(Energy):
    """What the user's class states of its energy."""

    convex: bool | None = None
    quadratic: bool = False
    lyapunov: bool = True

    def evaluation_bytes(self, grid: Grid) -> float:
        """Bytes that an evaluation on a mesh takes besides V, at most; by default those of 4 arrays of its size.

        A run that does not fit into memory is refused before it begins. Override it where yours take more:
        ``24 * grid.size**2`` for three matrices of all pairs of cells. What is no number of bytes is a ValueError of
        the run.
        """
        return 32.0 * grid.size

    def _evaluating(self, grid: Grid) -> float:
        """`evaluation_bytes`, if that is a number of bytes."""
        value = plain(self.evaluation_bytes(grid))
        if not (real(value) and value >= 0):
            name = type(self).__name__
            raise ValueError(f"{name}.evaluation_bytes(grid) must give a number of bytes >= 0, not {shown(value)}")
        return float(value)

    def _statements(self) -> tuple[bool | None, bool, bool]:
        """`convex`, `quadratic` and `lyapunov`, each one of what it can be."""
        name = type(self).__name__
        stated = {}
        for what, values in (
            ("convex", (True, False, None)),
            ("quadratic", (True, False)),
            ("lyapunov", (True, False)),
        ):
            value = plain(getattr(self, what))  # a comparison of numbers of NumPy is no bool
            if not any(value is allowed for allowed in values):
                raise ValueError(f"{name}.{what} must be {' or '.join(map(str, values))}, not {shown(value)}")
            stated[what] = value
        if stated["convex"] and not stated["lyapunov"]:
            raise ValueError(f"{name}: convex = True is said of an energy, and lyapunov = False says there is none")
        return stated["convex"], stated["quadratic"], stated["lyapunov"]


class MeshEnergy(_Stated):
    r"""An energy of your own that has values on a mesh only: subclass it, and write `evaluate`.

    Its potential may use anything of the density, its values in a cell and beside it included, which no cloud of
    particles has. It adds to other energies; what needs a potential at points (`mfpde.particles`,
    `mfpde.characteristics`, `mfpde.fluctuations`, `mfpde.compare`) refuses it, and a sum with it, before computing.

    Attributes
    ----------
    convex : bool or None
        Whether E is convex among all measures on a mesh, whatever their mass; with None, the default, the mesh decides.
    quadratic : bool
        Whether V is affine in the density. Default False.
    lyapunov : bool
        Whether V is the first variation of E. False for a potential that belongs to no energy: E is then whatever you
        say; nobody warns that it rises, and there is no certificate. ``float("nan")`` will do: characteristics
        then judge their error by the response and moments of the coordinates alone. Default True.

    Raises
    ------
    ValueError
        On a mesh: a V or E of the wrong shape or type; along one random change ``h`` of a random density: where
        `lyapunov`, a V that is not the first variation of E, by more than 1e-4 of ``int |V h|``; where `quadratic`, a V
        that is not affine; where `convex`, one that falls; a `second_variation` that differences of V do not bear out.

    Notes
    -----
    A problem with it is known (`mfpde.Problem.fingerprint`) by its values on a small mesh.

    Examples
    --------
    The porous medium equation ``d_t mu = Laplace(mu^m)`` is the gradient flow of ``E = int mu^m / (m - 1)``, with the
    first variation ``V = m / (m - 1) mu^(m - 1)``:

    >>> from dataclasses import dataclass
    >>> import mfpde as mf
    >>> @dataclass(frozen=True)
    ... class PorousMedium(mf.energy.MeshEnergy):
    ...     m: float = 2.0
    ...     convex = True
    ...
    ...     def evaluate(self, mu, grid):
    ...         V = self.m / (self.m - 1) * mu ** (self.m - 1)
    ...         return V, (mu**self.m).sum() * grid.cell_volume / (self.m - 1)
    >>> bound = (PorousMedium() + mf.Confinement(x=1.0)).bind([mf.Axis("x", -2, 2)])
    >>> sorted(bound.capabilities)
    ['mesh']
    """

    @abstractmethod
    def evaluate(self, mu: Array, grid: Grid) -> tuple[Array, float]:
        """The potential and the energy of a density.

        Parameters
        ----------
        mu : array, shape ``grid.shape``
            Density per Lebesgue volume, cell averages; read-only.
        grid : Grid
            The mesh: ``grid.cell_volume``, ``grid.spacing``, ``grid.centres(i)``.

        Returns
        -------
        V : array, shape ``grid.shape``
            ``(dE/dmu_i) / grid.cell_volume`` of the energy on this mesh, exactly.
        energy : float
            E.
        """

    def second_variation(self, mu: Array, change: Array, grid: Grid) -> Array:
        """The derivative of V at `mu` along a change of density, where you write it; without it differences serve."""
        raise NotImplementedError

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on a box."""
        return BoundMeshEnergy(self, as_axes(axes))


class BoundMeshEnergy(BoundEnergy):
    """An energy of the user's that has values on a mesh only; see `BoundEnergy`."""

    def __init__(self, source: MeshEnergy, axes: tuple[Axis, ...]) -> None:
        self.axes, self.source = axes, source
        self.convex, self.quadratic, self.lyapunov = source._statements()
        self.curved = type(source).second_variation is not MeshEnergy.second_variation

    @property
    def label(self) -> str:
        """The name of the user's class."""
        return type(self.source).__name__

    @property
    def capabilities(self) -> frozenset[Capability]:
        """A mesh, and the curvature where the user says something of it."""
        return frozenset({"mesh", "curvature"} if self.curved or self.quadratic else {"mesh"})

    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid."""
        self._check_grid(grid)
        return OnMesh(self, grid)

    def memory(self, grid: Grid) -> Memory:
        """What the user's class says of an evaluation; while it is checked some arrays besides."""
        own = self.source._evaluating(grid)
        return Memory(0.0, 8.0 * 8 * grid.size + own, 8.0 * grid.size + own)

    def __repr__(self) -> str:
        return repr(self.source)


class OnMesh(GridEnergy):
    """An energy of the user's on a grid; see `GridEnergy`."""

    def __init__(self, bound: BoundMeshEnergy, grid: Grid) -> None:
        self.grid, self._bound, self._source = grid, bound, bound.source
        self._none = np.empty(0)
        self._check()

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and an empty response of a density; V is written to `out` if that is there."""
        V = prepared_output(self.grid, mu, out)
        values, energy = self._values(mu)
        np.copyto(V, values)
        return V, energy, self._none

    def _values(self, mu: Array) -> tuple[Array, float]:
        (density,) = read_only(mu)
        made = self._source.evaluate(density, self.grid)
        if not isinstance(made, tuple) or len(made) != 2:
            raise ValueError(f"{self._bound.label}.evaluate must return (V, energy), not {shown(made)}")
        for given in made:
            refuse_masked(given, f"what {self._bound.label}.evaluate returns")
        values, energy = np.asarray(made[0]), np.asarray(made[1])
        if values.shape != self.grid.shape or energy.ndim:
            raise ValueError(
                f"{self._bound.label}.evaluate must return V of the mesh's shape {self.grid.shape} and a number, "
                f"not of shapes {values.shape} and {energy.shape}"
            )
        if values.dtype.kind not in "iuf" or energy.dtype.kind not in "iuf":
            raise ValueError(
                f"{self._bound.label}.evaluate must return real numbers: V of type {values.dtype} and the energy "
                f"{shown(made[1])} are not"
            )
        return values.astype(np.float64, copy=False), float(energy)

    def curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """What the user wrote, or of an affine V its linear part."""
        if self._bound.curved:
            source, grid, label = self._source, self.grid, self._bound.label

            def along(h: Array) -> Array:
                density, change = read_only(mu, h)
                values = floats(source.second_variation(density, change, grid), f"{label}.second_variation")
                if values.shape != grid.shape:
                    raise ValueError(
                        f"{label}.second_variation must return the mesh's shape {grid.shape}, not {values.shape}"
                    )
                return values

            return along
        if not self._bound.quadratic:
            return None
        zero = self._values(np.zeros(self.grid.shape))[0].copy()
        return lambda h: self._values(h)[0] - zero

    def _check(self) -> None:
        """Hold what the class says against a random change of a random density: a handful of evaluations."""
        rng = np.random.default_rng(0)
        volume, bound = self.grid.cell_volume, self._bound
        mu = (0.5 + rng.random(self.grid.shape)) / (self.grid.size * volume)
        change = mu * rng.uniform(-1.0, 1.0, self.grid.shape)

        def potential(s: float) -> Array:
            return self._values(mu + s * change)[0].copy()

        with np.errstate(all="ignore"):  # what is not finite is named where a run comes upon it
            if bound.lyapunov:
                what = f"{bound.label}.evaluate, V = (dE/dmu_i) / grid.cell_volume"
                pieces = potential(0.0) * change * volume
                check_first_variation(what, lambda s: self._values(mu + s * change)[1], pieces)
            check_statements(bound, potential, change)
            if bound.curved and (along := self.curvature(mu)) is not None:
                check_second_variation(bound.label, potential, along(change))

    def _describe(self) -> list[str]:
        return [f"{self._source!r}: on the mesh, as its class has it"]


class PointEnergy(_Stated):
    r"""An energy of your own that has values at points, and thereby everywhere: subclass it.

    Write `potential` and `energy` of weighted points. On a mesh the centres of the cells are the points, so that V is
    the exact first variation there as well. Every evaluation sees the whole measure, n points at n points; where V
    depends on finitely many moments of the measure only, `Features` with your own `Loss` is faster by far and has a
    response, which `mfpde.fluctuations` and `mfpde.particles.coupled` need; for pairs there is `Interaction`.

    Attributes
    ----------
    convex, quadratic, lyapunov
        As in `MeshEnergy`.

    Raises
    ------
    ValueError
        When bound: values of the wrong shape; a `gradient` that differences of `potential` do not bear out; where
        `lyapunov`, a potential that is not the first variation of the energy; where `quadratic` or `convex`, one that
        is not affine, or falls, along a random change of the weights.

    Examples
    --------
    Particles that follow others more than they are followed: no energy has this potential.

    >>> from dataclasses import dataclass
    >>> import mfpde as mf
    >>> @dataclass(frozen=True)
    ... class Chase(mf.energy.PointEnergy):
    ...     ahead: float = 0.5
    ...     lyapunov = False
    ...
    ...     def potential(self, points, others, weights):
    ...         distance = points[:, None, 0] - others[None, :, 0] - self.ahead
    ...         return 0.5 * distance**2 @ weights
    ...
    ...     def energy(self, others, weights):
    ...         return float("nan")
    >>> problem = mf.Problem(Chase(), [mf.Axis("x", -2, 2)], mf.Dirac(x=0.0))
    >>> cloud = mf.particles.simulate(problem, 2, dt=0.5, t_end=0.5, progress=False)
    >>> cloud.positions[0, -1, :, 0].round(12).tolist()  # at the speed of the distance ahead
    [0.25, 0.25]
    """

    @abstractmethod
    def potential(self, points: Array, others: Array, weights: Array) -> Array:
        """V at points (n, d) of the measure ``sum_j weights_j delta_{others_j}``: shape ``(n,)``."""

    @abstractmethod
    def energy(self, others: Array, weights: Array) -> float:
        """E of this measure."""

    def gradient(self, points: Array, others: Array, weights: Array) -> Array:
        """The gradient of V at points (n, d): shape ``(n, d)``. Without it, 6-th order central differences of V."""
        raise NotImplementedError

    @property
    def _sloped(self) -> bool:
        """Whether it has a gradient of its own."""
        return type(self).gradient is not PointEnergy.gradient

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on a box."""
        return BoundPointEnergy(self, as_axes(axes))


class Functional(PointEnergy):
    r"""A potential that is any function of the measure ``sum_j weights_j delta_{others_j}``, a gradient or not.

    With a `value` it is the first variation of that. Without one the motion has no energy: nothing is known to fall,
    there is no certificate, and runs say so; their `energy` is NaN. See `PointEnergy`.

    Parameters
    ----------
    potential : callable
        ``potential(points, others, weights)``: V at points (n, d), shape ``(n,)``; `others` (N, d), `weights` (N,).
    value : callable, optional
        ``value(others, weights)``: the energy E of which V is the first variation.
    gradient : callable, optional
        ``gradient(points, others, weights)``, shape ``(n, d)``. Without it, 6-th order central differences of V.

    Raises
    ------
    ValueError
        For what is no function; when bound, as `PointEnergy`.

    Examples
    --------
    Everybody approaches the largest coordinate that anybody has, which no energy tells:

    >>> import mfpde as mf
    >>> follow = mf.Functional(lambda x, others, w: 0.5 * (x[:, 0] - others[:, 0].max()) ** 2)
    >>> problem = mf.Problem(follow, [mf.Axis("x", -2, 2)], mf.Particles([[0.0], [1.0]]))
    >>> mf.characteristics(problem, 0.5).points[-1, :, 0].round(6).tolist()
    [0.393469, 1.0]
    """

    def __init__(
        self,
        potential: Callable[[Array, Array, Array], Array],
        value: Callable[[Array, Array], float] | None = None,
        gradient: Callable[[Array, Array, Array], Array] | None = None,
    ) -> None:
        for what, name in ((potential, "potential"), (value, "value"), (gradient, "gradient")):
            function(what, f"the {name} of a Functional", optional=name != "potential")
        self.functions = potential, value, gradient
        self.lyapunov = value is not None

    def potential(self, points: Array, others: Array, weights: Array) -> Array:
        """V at points."""
        return self.functions[0](points, others, weights)

    def energy(self, others: Array, weights: Array) -> float:
        """E, or NaN."""
        return math.nan if self.functions[1] is None else self.functions[1](others, weights)

    def gradient(self, points: Array, others: Array, weights: Array) -> Array:
        """The gradient of V, where it is given."""
        assert self.functions[2] is not None
        return self.functions[2](points, others, weights)

    @property
    def _sloped(self) -> bool:
        return self.functions[2] is not None

    def __repr__(self) -> str:
        name = getattr(self.functions[0], "__qualname__", type(self.functions[0]).__qualname__)
        return f"Functional({name.rpartition('.')[2]}{'' if self.lyapunov else ', no energy'})"


class BoundPointEnergy(BoundEnergy):
    """An energy of the user's at points; see `BoundEnergy`."""

    direct = True

    def __init__(self, source: PointEnergy, axes: tuple[Axis, ...]) -> None:
        self.axes, self.source = axes, source
        self.convex, self.quadratic, self.lyapunov = source._statements()
        self.sloped = source._sloped
        rng = np.random.default_rng(0)
        others, weights = probe_points(axes, 12), 0.5 + rng.random(12)
        measure = others, weights / weights.sum()
        if self.sloped:
            none = np.empty(0)
            check_gradient(
                self.label,
                axes,
                lambda x: self._potential(x, none, measure),
                lambda x: self._gradient(x, none, measure),
            )
        self._check(measure, rng)

    @property
    def label(self) -> str:
        """The name of the user's class."""
        return type(self.source).__name__

    def _check(self, measure: Source, rng: np.random.Generator) -> None:
        others, weights = measure
        change = weights * rng.uniform(-1.0, 1.0, len(weights))
        none = np.empty(0)

        def potential(s: float) -> Array:
            return self._potential(others, none, (others, weights + s * change))

        with np.errstate(all="ignore"):  # what is not finite is named where a run comes upon it
            if self.lyapunov:
                pieces = potential(0.0) * change
                check_first_variation(self.label, lambda s: self._energy(others, weights + s * change, none), pieces)
            check_statements(self, potential, change)

    def _shaped(self, values: Any, shape: tuple[int, ...], what: str) -> Array:
        refuse_masked(values, f"what {self.label}.{what} returns")
        found = np.asarray(values)
        if found.shape != shape:
            raise ValueError(f"{self.label}.{what} must return shape {shape} here, not {found.shape}")
        if found.dtype.kind not in "iuf":
            raise ValueError(f"{self.label}.{what} must return real numbers, not {shown(values)}")
        return found.astype(np.float64)  # a copy

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        assert source is not None
        values = self.source.potential(*read_only(points, *source))
        return self._shaped(values, (len(points),), "potential")

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        assert source is not None
        if not self.sloped:
            return super()._gradient(points, moments, source)
        return self._shaped(self.source.gradient(*read_only(points, *source)), points.shape, "gradient")

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return float(self._shaped(self.source.energy(*read_only(points, weights)), (), "energy"))

    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid, whose centres of cells are its points."""
        self._check_grid(grid)
        return PointsOnGrid(self, grid)

    def memory(self, grid: Grid) -> Memory:
        """The points of the mesh, the measure as its own response, and what the user's class says."""
        d, size = grid.dimension, 8.0 * grid.size
        return Memory(d * size, 2 * size, (2 * d + 4) * size + self.source._evaluating(grid))

    def __repr__(self) -> str:
        return repr(self.source)


class PointsOnGrid(GridEnergy):
    """An energy that has values at points, on a grid: the centres of the cells are its points."""

    def __init__(self, bound: BoundEnergy, grid: Grid) -> None:
        self.grid, self.response_size, self._bound = grid, bound.response_size, bound
        self._points = grid.points()

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and the moments of a density; V is written to `out` if that is there."""
        V = prepared_output(self.grid, mu, out)
        weights = mu.reshape(-1) * self.grid.cell_volume
        response = self._bound.response(self._points, weights)
        V.reshape(-1)[:] = self._bound.potential(self._points, response)
        return V, self._bound.energy(self._points, weights, response), response[: self.response_size].copy()

    def _describe(self) -> list[str]:
        return [f"{self._bound!r}; at the centres of the cells as points"]
