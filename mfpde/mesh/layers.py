"""How wide the layers of a density are, in cells of its mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.equation.measures.narrow import CELLS_OF_A_LAYER
from mfpde.support.arrays import Array

__all__ = ["CompiledWidths", "layer_widths", "unresolved"]


def layer_widths(mu: Array, grid: Grid) -> tuple[float, ...]:
    r"""The width of a density's layers along each axis: ``1/sqrt(I)`` with the Fisher information ``I``.

    .. math:: I_i = \frac{1}{|\mu|} \int (\partial_i \log \mu)^2\, d\mu
              \approx \frac{2}{h_i^2} \sum_{faces} \frac{(\mu_+ - \mu_-)^2}{\mu_+ + \mu_-} \Big/ \sum_{cells} \mu .

    For a Gaussian that is the standard deviation, for several of them apart from each other that of one, for an
    exponential layer its length ``tau/|grad V|``. What is narrower than a cell has half a cell.

    Parameters
    ----------
    mu : array
        Values on the cells, not negative.
    grid : Grid

    Returns
    -------
    tuple of float
        In units of the axis; the length of the axis at most, and infinity along labels of species.
    """
    informations = []
    for i, axis in enumerate(grid.axes):
        along = (slice(None),) * i
        information = _information(mu[(*along, slice(None, -1))], mu[(*along, slice(1, None))])
        if axis.periodic:
            information += _information(mu.take([-1], axis=i), mu.take([0], axis=i))
        informations.append(information)
    return _widths(float(mu.sum()), informations, grid)


def _widths(total: float, informations: Sequence[float], grid: Grid) -> tuple[float, ...]:
    """The widths of a density from the sums over cells and faces."""
    widths = []
    for axis, h, information in zip(grid.axes, grid.spacing, informations, strict=True):
        resolved = information * axis.length**2 > total * h**2
        width = h * math.sqrt(total / information) if resolved else axis.length
        widths.append(width if axis.moves else math.inf)
    return tuple(widths)


class CompiledWidths:
    """The same of densities on one mesh, with the same bits: compiled code makes the terms, with a room of its own.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: Grid) -> None:
        from mfpde.mesh.compiled.widths import terms_of

        self._terms_of, self._grid, self._room = terms_of, grid, np.empty(grid.size)
        self._parts: list[list[tuple[tuple[int, int, int], Array]]] = []
        for i, (axis, n) in enumerate(zip(grid.axes, grid.shape, strict=True)):
            stride = math.prod(grid.shape[i + 1 :])
            inside, across = ((n - 1) * stride, stride), (stride, (n - 1) * stride)
            parts = [inside, across] if axis.periodic else [inside]
            self._parts.append(
                [((n * stride, *part), self._room[: grid.size // (n * stride) * part[0]]) for part in parts]
            )

    def __call__(self, mu: Array) -> tuple[float, float, tuple[float, ...]]:
        """The least value of a density, the sum of all, and the widths, of which there are none below 0."""
        flat, least, informations = mu.reshape(-1), 0.0, []
        for parts in self._parts:
            information = 0.0
            for pairs, terms in parts:
                least = self._terms_of(flat, *pairs, self._room)
                information += 2.0 * float(np.add.reduce(terms))
            informations.append(information)
        total = float(np.add.reduce(flat))
        return least, total, _widths(total, informations, self._grid) if least >= 0.0 else ()


def _information(left: Array, right: Array) -> float:
    both = left + right
    change = right - left
    change *= change
    return 2.0 * float(np.divide(change, both, out=np.zeros_like(both), where=both > 0.0).sum())


def unresolved(widths: Sequence[float], grid: Grid, what: str) -> str:
    """What to say of layers of these widths by axis; empty where each has `CELLS_OF_A_LAYER` cells or more.

    Parameters
    ----------
    widths : sequence of float
        By axis, in its units: 0 for an atom, ``inf`` where there is nothing to say.
    grid : Grid
        The mesh that carries them.
    what : str
        What is so wide.

    Returns
    -------
    str
        How many cells the layers have along which axes, and how many cells the axes need for layers of three.
    """
    cells = [width / h for width, h in zip(widths, grid.spacing, strict=True)]
    narrow = [
        (axis.name, wide, n)
        for axis, wide, n in zip(grid.axes, cells, grid.shape, strict=True)
        if wide < CELLS_OF_A_LAYER * (1.0 - 1e-9)
    ]
    if not narrow:
        return ""
    judged = "does not resolve" if min(wide for _, wide, _ in narrow) < 1.0 else "resolves poorly"
    said = [
        f"{min(wide, 2.9):.2g} cells wide along {name!r}" if wide else f"an atom along {name!r}"
        for name, wide, _ in narrow
    ]
    # what is narrower than a cell looks wider on a mesh than it is
    least = "at least" if any(wide < 1.0 for _, wide, _ in narrow) else "about"
    needs = [f"{math.ceil(CELLS_OF_A_LAYER / wide * n)}" for _, wide, n in narrow if wide]
    remedy = f"take {least} {_listed(needs)} cells" if needs else "no mesh does"
    return f"{what} is {_listed(said)}, which the mesh {judged}; {remedy}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
