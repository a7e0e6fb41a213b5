"""Axes and uniform meshes: where the measure lives.

A `Grid` is a product of one to four `Axis` objects cut into equal cells. Arrays over a
grid have its shape, one entry per cell, axes in the order of ``grid.axes``; arrays over
faces along axis ``i`` have one more entry along that axis.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mfpde.support.arguments import entries, one_of, real, require, shown, whole
from mfpde.support.arrays import Array

__all__ = ["Axis", "End", "Grid", "as_axes", "axis_number", "box", "face_shape", "half", "moving", "NO_HALF"]


NO_HALF = "no axis has more than 4 cells, half of them are no mesh"
"""Why there is no `half` of a mesh."""
MOST_CELLS = 2**40
"""Cells along an axis beyond which no index is an integer of the machine."""


class End(enum.Enum):
    """What an end of an axis is.

    Both walls let no flux through. They differ in what mass next to them means:
    at a truncation it is a sign that the box is too small, at a natural end it is fine.
    """

    TRUNCATION = "truncation"
    """The parameter goes on, the box does not: no flux, mass here is a warning."""
    NATURAL = "natural"
    """The parameter ends here (an angle at 0 or pi, a radius at 0): no flux, mass here is fine.
    The measure is taken to extend evenly across it."""
    PERIODIC = "periodic"
    """The axis closes on itself."""


@dataclass(frozen=True)
class Axis:
    """One parameter of a neuron and the interval on which it is resolved.

    Parameters
    ----------
    name : str
        The parameter's name, a Python identifier: it names the axis in measures, files and plots.
    lower, upper : float
        The interval, ``lower < upper``, both finite.
    ends : End or pair of End
        What the two ends are; one `End` stands for both. Default: truncations.

    Raises
    ------
    ValueError
        If the interval is empty or not finite, the name is no identifier, or one end only is periodic.

    Examples
    --------
    >>> Axis("c", -4, 4)
    Axis(c in [-4, 4], truncation)
    >>> Axis("r", 0, 3, (End.NATURAL, End.TRUNCATION))
    Axis(r in [0, 3], natural/truncation)
    """

    name: str
    lower: float
    upper: float
    ends: End | tuple[End, End] = End.TRUNCATION

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise ValueError(f"axis name {shown(self.name)} is not an identifier; use a name such as 'c'")
        if not (real(self.lower) and real(self.upper) and self.lower < self.upper):
            interval = ", ".join(str(float(x)) if real(x) else shown(x) for x in (self.lower, self.upper))
            raise ValueError(f"axis {self.name!r}: the interval [{interval}] must be finite with lower < upper")
        lower, upper = float(self.lower), float(self.upper)
        if not math.isfinite(upper - lower):
            raise ValueError(f"axis {self.name!r}: the length of [{lower:g}, {upper:g}] overflows; use other units")
        ends: tuple[End, ...] = (self.ends, self.ends) if isinstance(self.ends, End) else self.ends
        if not isinstance(ends, (tuple, list)) or len(ends) != 2 or not all(isinstance(end, End) for end in ends):
            raise ValueError(f"axis {self.name!r}: ends must be one End or a pair of End, not {shown(self.ends)}")
        ends = tuple(ends)
        if (ends[0] is End.PERIODIC) != (ends[1] is End.PERIODIC):
            raise ValueError(f"axis {self.name!r}: both ends are periodic or neither is, not {ends!r}")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "ends", ends)

    @property
    def lower_end(self) -> End:
        """What the lower end is."""
        return self.ends[0]  # type: ignore[index]

    @property
    def upper_end(self) -> End:
        """What the upper end is."""
        return self.ends[1]  # type: ignore[index]

    @property
    def periodic(self) -> bool:
        """Whether the axis closes on itself."""
        return self.lower_end is End.PERIODIC

    @property
    def length(self) -> float:
        """``upper - lower``."""
        return self.upper - self.lower

    @property
    def extent(self) -> str:
        """The places of the axis in words: ``[-4, 4]``."""
        return f"[{self.lower:g}, {self.upper:g}]"

    @property
    def moves(self) -> bool:
        """Whether mass moves along it: not along the labels of species, see `mfpde.Species`."""
        return True

    @property
    def own_cells(self) -> int | None:
        """The number of cells where the axis decides that itself, as one that does not move does; else None."""
        return None

    def at(self, unit: Array) -> Array:
        """Places of the axis by numbers from 0 to 1, lower to upper end."""
        return self.lower + unit * self.length

    def __repr__(self) -> str:
        low, high = self.lower_end.value, self.upper_end.value
        ends = low if low == high else f"{low}/{high}"
        return f"Axis({self.name} in [{self.lower:g}, {self.upper:g}], {ends})"


def box(axes: Sequence[Axis]) -> str:
    """A box in words: ``c in [-4, 4] x a in [-2, 2]``."""
    return " x ".join(f"{axis.name} in {axis.extent}" for axis in axes)


def as_axes(axes: Axis | Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes of a box; one `Axis` stands for itself.

    Raises
    ------
    ValueError
        For anything else than axes.
    """
    result = (axes,) if isinstance(axes, Axis) else entries(axes, "axes")
    if not result:
        raise ValueError("axes is empty; a box has one to four Axis objects such as Axis('x', 0, 1)")
    for axis in result:
        require(axes=(axis, one_of(Axis)))
    return result


def axis_number(axes: Sequence[Axis], name: str) -> int:
    """The position of the axis called `name`.

    Raises
    ------
    ValueError
        With the names there are.
    """
    names = [axis.name for axis in axes]
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"no axis {shown(name)}; valid: {', '.join(names)}")
    return names.index(name)


@dataclass(frozen=True)
class Grid:
    """A uniform mesh on a box: the product of one to four axes, each cut into equal cells.

    Parameters
    ----------
    axes : sequence of Axis
        One to four axes with different names.
    shape : int or sequence of int
        Cells along each axis, at least 4; a whole number stands for that many along every axis. An axis of species has
        as many as labels: its entry may be left out.

    Raises
    ------
    ValueError
        On a wrong number of axes, repeated names, or a shape that does not fit.

    Examples
    --------
    >>> grid = Grid([Axis("x", 0, 1)], [4])
    >>> grid.centres(0)
    array([0.125, 0.375, 0.625, 0.875])
    >>> float(grid.integrate(np.ones(4)))
    1.0
    """

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]

    def __init__(self, axes: Sequence[Axis], shape: int | Sequence[int]) -> None:
        axes = (axes,) if isinstance(axes, Axis) else entries(axes, "the axes of a grid")
        for axis in axes:
            if not isinstance(axis, Axis):
                raise ValueError(f"a grid is made of Axis objects such as Axis('x', 0, 1), not {shown(axis)}")
        if not 1 <= len(axes) <= 4:
            raise ValueError(f"a grid has 1 to 4 axes, not {len(axes)}; project the problem onto fewer parameters")
        names = [axis.name for axis in axes]
        if len(set(names)) != len(names):
            raise ValueError(f"axis names must differ, got {names}")
        cells = _cells_of(axes, shape)
        for axis, n in zip(axes, cells, strict=True):
            name, own = axis.name, axis.own_cells
            if own is not None:
                if n != own:
                    raise ValueError(f"axis {name!r} has {own} labels, one cell each, not {shown(n)}; leave it out")
                continue
            if not whole(n) or n < 4:
                raise ValueError(f"axis {name!r}: the number of cells must be an integer of at least 4, not {shown(n)}")
            if n > MOST_CELLS:
                raise ValueError(f"axis {name!r}: {shown(n)} cells are more than {MOST_CELLS}; take a coarser mesh")
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "shape", tuple(int(n) for n in cells))

    @property
    def dimension(self) -> int:
        """The number of axes."""
        return len(self.axes)

    @property
    def free_shape(self) -> tuple[int, ...]:
        """The cells along each axis that does not decide that itself: another way to say `shape`."""
        return tuple(n for axis, n in zip(self.axes, self.shape, strict=True) if axis.own_cells is None)

    @cached_property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    @cached_property
    def spacing(self) -> tuple[float, ...]:
        """The cell width along each axis."""
        return tuple(axis.length / n for axis, n in zip(self.axes, self.shape, strict=True))

    @cached_property
    def cell_volume(self) -> float:
        """The volume of one cell."""
        return math.prod(self.spacing)

    def _check_axis(self, i: int) -> None:
        if not whole(i) or not -self.dimension <= i < self.dimension:
            raise ValueError(f"axes are numbered from 0 to {self.dimension - 1}, there is no axis {shown(i)}")

    def centres(self, i: int) -> Array:
        """The cell centres along axis ``i``, shape ``(n_i,)``."""
        self._check_axis(i)
        axis, n = self.axes[i], self.shape[i]
        # symmetric intervals get centres that are exact mirror images of each other
        return 0.5 * (axis.lower + axis.upper) + (0.5 * axis.length / n) * np.arange(1 - n, n, 2, dtype=float)

    def faces(self, i: int) -> Array:
        """The cell faces along axis ``i``, shape ``(n_i + 1,)``, both ends included."""
        self._check_axis(i)
        axis, n = self.axes[i], self.shape[i]
        faces = 0.5 * (axis.lower + axis.upper) + (0.5 * axis.length / n) * np.arange(-n, n + 1, 2, dtype=float)
        faces[0], faces[-1] = axis.lower, axis.upper
        return faces

    def mesh(self) -> tuple[Array, ...]:
        """The coordinates of the centres as arrays that broadcast to ``shape`` (an open mesh)."""
        return tuple(np.ix_(*(self.centres(i) for i in range(self.dimension))))

    def face_mesh(self, i: int) -> tuple[Array, ...]:
        """The coordinates of the faces across axis ``i``, as an open mesh."""
        self._check_axis(i)
        i %= self.dimension
        return tuple(np.ix_(*(self.faces(j) if j == i else self.centres(j) for j in range(self.dimension))))

    def points(self) -> Array:
        """All centres as rows, shape ``(size, dimension)``, in C order."""
        return np.stack([np.broadcast_to(x, self.shape).ravel() for x in self.mesh()], axis=1)

    def integrate(self, values: Array) -> float | Array:
        """``sum(values) * cell_volume`` over the grid's axes, which are the last ones of `values`."""
        if np.shape(values)[-self.dimension :] != self.shape:
            raise ValueError(f"values on this grid end in the shape {self.shape}, not {shown(values)}")
        axes = tuple(range(-self.dimension, 0))
        total = np.sum(values, axis=axes) * self.cell_volume
        return float(total) if np.ndim(total) == 0 else total

    def __repr__(self) -> str:
        cells = " x ".join(str(n) for n in self.shape)
        return f"Grid({cells}: {', '.join(repr(axis) for axis in self.axes)})"


def _cells_of(axes: Sequence[Axis], shape: int | Sequence[int]) -> tuple[Any, ...]:
    """One entry for each axis, those that decide themselves included."""
    own = [axis.own_cells for axis in axes]
    if isinstance(shape, (int, np.integer)):
        return tuple(shape if n is None else n for n in own)
    cells = entries(shape, "the shape of a grid")
    if len(cells) == own.count(None) < len(axes):
        left = iter(cells)
        return tuple(next(left) if n is None else n for n in own)
    if len(cells) != len(axes):
        names = [axis.name for axis in axes]
        wrong = f"shape {shown(cells)} has {len(cells)} entries"
        raise ValueError(f"{wrong} for {len(axes)} axes {names}; give one an axis, or a number for all")
    return cells


def moving(axes: Sequence[Axis]) -> list[int]:
    """The positions of the axes along which mass moves."""
    return [i for i, axis in enumerate(axes) if axis.moves]


def face_shape(grid: Grid, i: int) -> tuple[int, ...]:
    """The shape of an array of the faces across axis `i`."""
    return (*grid.shape[:i], grid.shape[i] + 1, *grid.shape[i + 1 :])


def half(grid: Grid) -> Grid | None:
    """The mesh with half the cells along each axis that moves; None where none of them has more than 4."""
    pairs = zip(grid.axes, grid.shape, strict=True)
    shape = tuple(max(4, (n + 1) // 2) if axis.own_cells is None else n for axis, n in pairs)
    return None if shape == grid.shape else Grid(grid.axes, shape)
