"""External potentials: energies that are linear in the measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from mfpde.equation.energy.base import (
    FUNCTION_ARRAYS,
    BoundEnergy,
    Energy,
    Source,
    axis_positions,
    central_difference,
    difference_step,
)
from mfpde.equation.energy.gradients import check_gradient
from mfpde.equation.energy.on_grid import ExternalOnGrid
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.support.arguments import entries, function, real, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import slopes_of, values_at
from mfpde.support.memory import Memory

__all__ = ["BoundExternal", "Confinement", "External"]


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
    def linear(self) -> bool:
        """True."""
        return True

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
        object.__setattr__(self, "strengths", {name: float(value) for name, value in by_axis.items()})
        super().__init__(partial(_confinement, k), partial(_restoring, k), 0.0, tuple(by_axis))

    def __repr__(self) -> str:
        strengths: dict[str, float] = self.strengths  # type: ignore[attr-defined]
        return f"Confinement({', '.join(f'{name}={k:g}' for name, k in strengths.items())})"


def _confinement(k: Array, *x: Array) -> Array:
    return np.asarray(sum(0.5 * ki * xi**2 for ki, xi in zip(k, x, strict=True)))


def _restoring(k: Array, *x: Array) -> tuple[Array, ...]:
    return tuple(ki * xi for ki, xi in zip(k, x, strict=True))


class BoundExternal(BoundEnergy):
    """An external potential on a box; see `BoundEnergy`."""

    convex = True
    quadratic = True
    is_external = True

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
            if not self.axes[i].moves:
                continue

            def along(t: Array, j: int = j) -> Array:
                return values_of(self._source.function, *x[:j], t, *x[j + 1 :])

            result[:, i] = central_difference(along, x[j], difference_step(self.axes[i]))
        return result

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return float(weights @ self._potential(points, moments, None)) + self._source.constant

    def _curvature(self, moments: Array, changes: Array) -> Array:
        return changes  # there is no response: none at all

    @property
    def label(self) -> str:
        """What the user wrote."""
        return repr(self)

    def on(self, grid: Grid) -> ExternalOnGrid:
        """The potential at the centres of a grid."""
        self._check_grid(grid)
        mesh = grid.mesh()
        values = values_at(self._source.function, [mesh[i] for i in self._positions], "the external potential")
        values = np.array(np.broadcast_to(values, grid.shape))
        if where := cell_not_finite(values, grid):
            raise ValueError(f"the external potential is {where}; it must be finite inside the box")
        return ExternalOnGrid(grid, values, self._source.constant)

    def memory(self, grid: Grid) -> Memory:
        """One array of the mesh's size, and while it is made what the function takes."""
        return Memory.arrays(grid.size, 1, FUNCTION_ARRAYS)

    def __repr__(self) -> str:
        return repr(self._source)
