"""Several measures in one problem: an axis of labels, along which nothing moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.grid import Axis, End, Grid
from mfpde.support.arguments import entries, numbers, real, shown
from mfpde.support.arrays import Array
from mfpde.support.labels import Column

__all__ = ["Species", "by_label", "column_of", "slices_of", "species_axis"]


@dataclass(frozen=True, init=False)
class Species(Axis):
    r"""An axis whose places are the labels of several measures: species, players, signs.

    The measures ``mu_k`` of a problem are one measure on labels and parameters. Along this axis nothing moves. Its
    coordinate is the number of the label, 0, 1, ..., which functions of coordinates get like any other one; a density
    has one slice a label. With the time scales ``s_k``

    .. math:: \partial_t \mu_k = s_k \{\nabla\cdot(\mu_k G \nabla V_k) + \tau\,\nabla\cdot(G\,\omega
              \nabla(\mu_k/\omega)) - \alpha R_k\} , \qquad V_k = V[\mu](k, \cdot) .

    Parameters
    ----------
    name : str
        The axis' name, an identifier: ``"player"``.
    labels : sequence of str
        At least two different identifiers.
    scales : sequence of float, optional
        ``s_k > 0``, a factor of the whole right side of each species. Default: 1 each.

    Attributes
    ----------
    labels : tuple of str
    scales : tuple of float

    Raises
    ------
    ValueError
        On a name or a label that is no identifier, labels that repeat or are fewer than two, or scales that are not
        one positive number a label.

    Examples
    --------
    >>> player = Species("player", ("left", "right"))
    >>> player, player.number("right")
    (Species(player: left, right), 1)
    """

    labels: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()

    def __init__(self, name: str, labels: Sequence[str], scales: Sequence[float] | None = None) -> None:
        found = entries(labels, "the labels of species") if not isinstance(labels, str) else (labels,)
        wrong = [label for label in found if not (isinstance(label, str) and label.isidentifier())]
        if wrong:
            raise ValueError(f"label {shown(wrong[0])} of species is no identifier; use one such as 'left'")
        if len(found) < 2 or len(set(found)) < len(found):
            raise ValueError(f"species need at least two different labels, not {shown(list(found))}")
        factors = np.ones(len(found)) if scales is None else numbers(scales, "the scales of species")
        if factors.shape != (len(found),) or not all(real(s) and s > 0 for s in factors.tolist()):
            raise ValueError(f"scales of species are {len(found)} positive numbers, not {shown(scales)}")
        super().__init__(name, -0.5, len(found) - 0.5, End.NATURAL)
        object.__setattr__(self, "labels", tuple(found))
        object.__setattr__(self, "scales", tuple(factors.tolist()))

    @property
    def extent(self) -> str:
        """The labels."""
        return f"{{{', '.join(self.labels)}}}"

    @property
    def moves(self) -> bool:
        """False."""
        return False

    @property
    def own_cells(self) -> int:
        """One cell a label."""
        return len(self.labels)

    @property
    def scaled(self) -> bool:
        """Whether a time scale is another than 1."""
        return any(s != 1.0 for s in self.scales)

    def at(self, unit: Array) -> Array:
        """Numbers of labels by numbers from 0 to 1."""
        return np.clip(np.floor(np.asarray(unit) * len(self.labels)), 0.0, len(self.labels) - 1.0)

    def number(self, label: str) -> int:
        """The coordinate of a label.

        Raises
        ------
        ValueError
            With the labels there are.
        """
        if label not in self.labels:
            raise ValueError(f"no species {shown(label)} along {self.name!r}; valid: {', '.join(self.labels)}")
        return self.labels.index(label)

    def indices(self, coordinate: Array) -> NDArray[np.intp]:
        """Coordinates along the axis as whole numbers, which index arrays that have an entry a label."""
        return np.clip(np.rint(coordinate), 0, len(self.labels) - 1).astype(np.intp)

    def scale(self, coordinate: Array) -> Array:
        """``s_k`` at coordinates along the axis."""
        return np.asarray(self.scales)[self.indices(coordinate)]

    def __repr__(self) -> str:
        each = (f"{k} ({s:g})" if self.scaled else k for k, s in zip(self.labels, self.scales, strict=True))
        return f"Species({self.name}: {', '.join(each)})"


def species_axis(axes: Sequence[Axis]) -> tuple[int, Species] | None:
    """The axis of species among axes, and its position; None where there is none.

    Raises
    ------
    ValueError
        Where there are several, or nothing else.
    """
    found = [(i, axis) for i, axis in enumerate(axes) if isinstance(axis, Species)]
    if len(found) > 1:
        names = " and ".join(repr(axis.name) for _, axis in found)
        raise ValueError(f"a box has one axis of species, not {names}; make one of all pairs of labels")
    if found and len(axes) == 1:
        raise ValueError(
            f"species {found[0][1].name!r} need an axis that they move along; add one such as Axis('x', 0, 1)"
        )
    return found[0] if found else None


def slices_of(position: int, species: Species) -> list[tuple[slice | int, ...]]:
    """Of each species, where its cells are in arrays on a mesh whose axis at `position` is that of labels."""
    return [(slice(None),) * position + (k,) for k in range(len(species.labels))]


def column_of(grid: Grid, i: int) -> Column:
    """The coordinate of an axis in tables: the centres of its cells, or the labels of its species."""
    axis = grid.axes[i]
    if isinstance(axis, Species):
        return Column([axis.name], np.array(axis.labels), "species")
    return Column([axis.name], grid.centres(i), f"cell centres along {axis.name}")


def by_label(species: Species, given: Mapping[str, object], what: str) -> list[object]:
    """What is given for each label, in their order.

    Raises
    ------
    ValueError
        Where the names given are not the labels.
    """
    if set(given) != set(species.labels):
        raise ValueError(f"{what} names {', '.join(map(str, given))}; the species are {', '.join(species.labels)}")
    return [given[label] for label in species.labels]
