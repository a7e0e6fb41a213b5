"""Energies on the cells of one grid, with everything precomputed; sums of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.losses import Loss
from mfpde.equation.grid import Grid
from mfpde.support.arrays import Array
from mfpde.support.threads import Turns

__all__ = [
    "ByMatrix",
    "ByTables",
    "ByValues",
    "ExternalOnGrid",
    "GridEnergy",
    "GridPart",
    "GridSum",
    "Outputs",
    "prepared_output",
]


@dataclass(frozen=True, eq=False)
class Outputs:
    """A loss of a response, as numbers: ``L = sum_jo l(o_jo) + constant``, ``o = matrix @ u``.

    Attributes
    ----------
    loss : type of Loss
        `SquaredLoss`, ``w/2 (o - y)^2`` with a weight of any sign, `LogisticLoss` or `HuberLoss`.
    weights : (M,) array
        w, one for all outputs of a sample.
    targets : (M, q) array
        y.
    matrix : (M, r) array or None
        None where the outputs are the response.
    delta : float
        Of `HuberLoss`.
    constant : float
    """

    loss: type[Loss]
    weights: Array
    targets: Array
    matrix: Array | None = None
    delta: float = 0.0
    constant: float = 0.0


@dataclass(frozen=True, eq=False)
class ByTables:
    """A part of an energy whose potential is made of products of functions of some axes each.

    Attributes
    ----------
    tables : tuple of (r_i, n_i) array
        The functions of each group of neighbouring axes at its cells, in C order.
    places : (r q,) int array
        Where the entries of the response, (r, q) in C order, stand among all products, (r_1, ..., r_k) in C order.
    outputs : Outputs
        The energy as a function of the response.
    """

    tables: tuple[Array, ...]
    places: NDArray[np.intp]
    outputs: Outputs


@dataclass(frozen=True, eq=False)
class ByMatrix:
    """A part whose potential is ``V = matrix @ mu``, (cells, cells), and its energy half of ``int V dmu``."""

    matrix: Array


@dataclass(frozen=True, eq=False)
class ByValues:
    """A part whose potential is given, (grid.shape), and its energy ``int values dmu + constant``."""

    values: Array
    constant: float


GridPart = ByTables | ByMatrix | ByValues


def prepared_output(grid: Grid, mu: Array, out: Array | None) -> Array:
    """The array that an evaluation writes to, after the checks of shape and layout."""
    if mu.shape != grid.shape:
        raise ValueError(f"the density has shape {mu.shape}, the grid {grid.shape}")
    if out is None:
        return np.empty(grid.shape)
    if out.shape != grid.shape or not out.flags.c_contiguous or out.dtype != np.float64:
        raise ValueError(f"out must be a C-contiguous float64 array of shape {grid.shape}")
    return out


class GridEnergy(ABC):
    """A plan: an energy on the cells of one grid, everything precomputed. ``repr`` shows it.

    Attributes
    ----------
    grid : Grid
        The grid.
    response_size : int
        The length of the response.

    Notes
    -----
    Those that keep arrays to work on let threads that share them take turns (`Turns`).
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

    def curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """``h -> K h``, the second variation at a density along a change of it; None where there is no closed form."""
        return None

    @property
    def parts(self) -> tuple[GridPart, ...] | None:
        """What it is made of, as numbers that compiled runs read; None where it is made of something else."""
        return None

    @abstractmethod
    def _describe(self) -> list[str]:
        """The lines of the plan."""

    def __repr__(self) -> str:
        return "\n".join([f"{type(self).__name__} on {self.grid!r}", *("  " + line for line in self._describe())])


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

    def curvature(self, mu: Array) -> Callable[[Array], Array]:
        """Zero."""
        return np.zeros_like

    @property
    def parts(self) -> tuple[GridPart, ...]:
        """Its values."""
        return (ByValues(self.values, self.constant),)

    def _describe(self) -> list[str]:
        return [f"external potential: precomputed, {self.values.nbytes:,} bytes an evaluation"]


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
        self._turns = Turns()

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and response of a density: those of all parts together, V written to `out` if that is there."""
        with self._turns:
            return self._evaluate(mu, out)

    def _evaluate(self, mu: Array, out: Array | None) -> tuple[Array, float, Array]:
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

    def curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """The sum of those of all parts; None where one has none."""
        operators = [operator for plan in self._others if (operator := plan.curvature(mu)) is not None]
        if len(operators) < len(self._others):
            return None
        return lambda h: sum((operator(h) for operator in operators), np.zeros_like(h))

    @property
    def parts(self) -> tuple[GridPart, ...] | None:
        """Those of all of them, external ones last; None where one is made of something else."""
        found: list[GridPart] = []
        for plan in [*self._others, *([] if self._external is None else [self._external])]:
            if plan.parts is None:
                return None
            found += plan.parts
        return tuple(found)

    def _describe(self) -> list[str]:
        plans = self._others + ([self._external] if self._external is not None else [])
        return [line for plan in plans for line in plan._describe()]
