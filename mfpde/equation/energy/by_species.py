"""Potentials of energies times a factor for each species: players with opposite aims, species with temperatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, Capability, Energy, Source
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.species import Species, by_label, species_axis
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory

__all__ = ["BySpecies"]


class BySpecies(Energy):
    r"""The potential of an energy times a factor of each species: ``V_k = c_k (dE/dmu)(k, .)``.

    With a factor -1 a species ascends what others descend: a game. With positive factors, and the inverse of them as
    ``scales`` of the `mfpde.Species`, each has its own temperature ``tau / c_k``. The factors change no value of E, and
    unless all are 1 nothing is known to fall: there is no certificate and no decay, and a run says so. It records its
    ``regret`` instead, see ``docs/species.md``.

    Parameters
    ----------
    energy : Energy
        Other energies, which all species descend, are added: ``BySpecies(payoff, left=1, right=-1) + own``.
    **factors : float
        ``c_k`` of each label, any finite number.

    Raises
    ------
    ValueError
        On a factor that is no finite number; when bound, on a box without species, or with others.

    Examples
    --------
    >>> from mfpde.equation.energy.interaction import Interaction
    >>> from mfpde.equation.energy.axis_kernels import CosineKernel, SpeciesKernel
    >>> from mfpde.equation.energy.kernels import SeparableKernel
    >>> kernel = SeparableKernel(player=SpeciesKernel([[0, 1], [1, 0]]), x=CosineKernel([1.0]))
    >>> game = BySpecies(Interaction(kernel, 2.0), left=1, right=-1)
    >>> bound = game.bind([Species("player", ("left", "right")), Axis("x", 0, 6)])
    >>> points = np.array([[0.0, 1.0], [1.0, 1.5]])
    >>> bound.potential(points, bound.response(points, np.array([0.5, 0.5]))).round(6).tolist()  # cos(.5), -cos(.5)
    [0.877583, -0.877583]
    """

    def __init__(self, energy: Energy, /, **factors: float) -> None:
        if not isinstance(energy, Energy):
            raise ValueError(f"BySpecies takes an Energy and a factor for each species, not {shown(energy)}")
        for label, factor in factors.items():
            if not real(factor):
                raise ValueError(f"BySpecies: the factor of {label} is a finite number, not {shown(factor)}")
        self.energy = energy
        self.factors = {label: float(factor) for label, factor in factors.items()}

    @property
    def lyapunov(self) -> bool:
        """Whether the potential is the first variation of the value: where every factor is 1."""
        return self.energy.lyapunov and all(factor == 1.0 for factor in self.factors.values())

    @property
    def linear(self) -> bool:
        """Whether the energy is."""
        return self.energy.linear

    @property
    def named_axes(self) -> tuple[str, ...]:
        """Those of the energy."""
        return self.energy.named_axes

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on a box."""
        axes = as_axes(axes)
        found = species_axis(axes)
        if found is None:
            raise ValueError("BySpecies needs a box with an axis of species, an mfpde.Species")
        factors = by_label(found[1], self.factors, "BySpecies")
        return BoundBySpecies(self.energy.bind(axes), found[0], found[1], np.array(factors, dtype=float), self.lyapunov)

    def __repr__(self) -> str:
        factors = ", ".join(f"{label}={factor:g}" for label, factor in self.factors.items())
        return f"BySpecies({self.energy!r}, {factors})"


class BoundBySpecies(BoundEnergy):
    """The same on a box; see `BoundEnergy`. Its response makes its potential, though not as a sum of its features."""

    def __init__(self, inner: BoundEnergy, position: int, species: Species, factors: Array, lyapunov: bool) -> None:
        self.inner, self.position, self.species, self.factors = inner, position, species, factors
        self.axes, self.response_size, self.offset = inner.axes, inner.response_size, inner.offset
        self.direct, self.quadratic, self.lyapunov = inner.direct, inner.quadratic, lyapunov
        self.discontinuous_gradient = inner.discontinuous_gradient

    @property
    def label(self) -> str:
        """What the energy is called."""
        return f"BySpecies({self.inner.label})"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the energy on a mesh and at points."""
        return self.inner.capabilities & {"mesh", "points"}

    @property
    def interacts(self) -> bool:
        """Whether V depends on the measure."""
        return self.inner.interacts

    def _moments(self, points: Array, weights: Array) -> Array:
        return self.inner._moments(points, weights)

    def _features(self, points: Array) -> Array:
        return self.inner._features(points)

    def _of(self, points: Array) -> Array:
        return self.factors[self.species.indices(points[:, self.position])]

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self._of(points) * self.inner._potential(points, moments, source)

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self._of(points)[:, None] * self.inner._gradient(points, moments, source)

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return self.inner._energy(points, weights, moments)

    def on(self, grid: Grid) -> GridEnergy:
        """The energy on a grid."""
        self._check_grid(grid)
        shape = [1] * grid.dimension
        shape[self.position] = len(self.factors)
        return BySpeciesOnGrid(self.inner.on(grid), self.factors.reshape(shape))

    def memory(self, grid: Grid) -> Memory:
        """That of the energy."""
        return self.inner.memory(grid)

    def __repr__(self) -> str:
        return f"by species, times {self.factors.tolist()}: {self.inner!r}"


class BySpeciesOnGrid(GridEnergy):
    """The same on a grid."""

    def __init__(self, inner: GridEnergy, factors: Array) -> None:
        self.grid, self.response_size = inner.grid, inner.response_size
        self._inner, self._factors = inner, factors

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and the response of a density."""
        V, energy, response = self._inner.evaluate(mu, out)
        V *= self._factors
        return V, energy, response

    def curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """That of the energy, times the factors; it is not symmetric."""
        along = self._inner.curvature(mu)
        return None if along is None else lambda h: self._factors * along(h)

    def _describe(self) -> list[str]:
        return [f"by species, times {self._factors.ravel().tolist()}:", *self._inner._describe()]
