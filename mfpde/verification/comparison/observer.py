"""The gaps of particles, or of another mean field, to the mean field that they are compared with.

An `Observer` knows the observables that a problem and a field have, and how large each of them is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.grid import moving
from mfpde.support.arrays import Array
from mfpde.verification.comparison.distances import Quantile, circle_distance, directions
from mfpde.verification.comparison.mean_field import Field, Quantity, moments_along

__all__ = ["Observable", "Observer"]


@dataclass(frozen=True)
class Observable:
    """A quantity, or a part of one, that particles and the mean field both have.

    Attributes
    ----------
    name : str
    signed : bool
        Whether its gaps have a sign, or are distances.
    scale : float
        How large it is.
    quantity : Quantity
        What it belongs to.
    axis : int
        Of a moment or a marginal.
    second : bool
        Of two moments along an axis the second: the mean square, or the sine.
    """

    name: str
    signed: bool
    scale: float
    quantity: Quantity
    axis: int = 0
    second: bool = False


class Observer:
    """Evaluates all gaps of a set of weighted points against a field."""

    def __init__(self, field: Field, quantities: Iterable[Quantity]) -> None:
        self.field = field
        self.axes = field.axes
        wanted = set(quantities)
        d = len(self.axes)
        energy = max(float(np.ptp(field.energy)), 1e-3 * float(np.abs(field.energy).max()), 1e-300)
        spread = [field.spread(i) for i in range(d)]
        self.observables: list[Observable] = []

        def add(name: str, signed: bool, scale: float, quantity: Quantity, axis: int = 0, second: bool = False) -> None:
            self.observables.append(Observable(name, signed, scale, quantity, axis, second))

        if Quantity.ENERGY in wanted:
            add("energy", True, energy, Quantity.ENERGY)
        self.response = Quantity.RESPONSE in wanted and field.response is not None
        if self.response:
            assert field.response is not None
            add("response", True, max(float(np.abs(field.response).max()), 1e-300), Quantity.RESPONSE)
        if Quantity.MASS in wanted:
            add("mass", True, float(field.mass.max()), Quantity.MASS)
        self.moments = Quantity.MOMENTS in wanted
        self.moves = moving(self.axes)
        for i in self.moves if self.moments else ():
            axis = self.axes[i]
            if axis.periodic:
                add(f"cosine of {axis.name}", True, 1.0, Quantity.MOMENTS, i)
                add(f"sine of {axis.name}", True, 1.0, Quantity.MOMENTS, i, True)
                continue
            root = math.sqrt(max(field.moments(i, j)[1] for j in range(len(field.times))))
            add(f"mean of {axis.name}", True, max(spread[i], 1e-3 * root, 1e-300), Quantity.MOMENTS, i)
            square = max(spread[i] * root, 1e-3 * root**2, 1e-300)
            add(f"mean square of {axis.name}", True, square, Quantity.MOMENTS, i, True)
        self.distances: set[Quantity] = set()
        self.directions = np.empty((0, d))
        if field.mesh is not None:
            self.distances = wanted & {Quantity.W1, Quantity.W2}
            for i in self.moves:
                axis = self.axes[i]
                for quantity in (Quantity.W1, Quantity.W2):
                    if quantity in self.distances and not (axis.periodic and quantity is Quantity.W2):
                        add(f"{quantity.value} of {axis.name}", False, max(spread[i], 1e-300), quantity, i)
            if Quantity.SLICED_W2 in wanted and d > 1 and all(axis.moves and not axis.periodic for axis in self.axes):
                self.directions = directions(d)
                scale = max(math.sqrt(sum(s * s for s in spread) / d), 1e-300)
                add("sliced W2", False, scale, Quantity.SLICED_W2)
        self._projected: dict[tuple[int, int], Quantile] = {}

    def __call__(self, points: Array, weights: Array | None, j: int) -> dict[str, Array]:
        """Gaps (signed observables, shape (q,)) and distances (shape (1,)) at time number `j`."""
        field, n = self.field, len(points)
        w = np.full(n, 1.0 / n) if weights is None else weights
        bound = field.problem.bound_energy
        found: dict[str, Any] = {}
        names = {o.name for o in self.observables}
        u = bound.response(points, w) if self.response or "energy" in names else None
        if "energy" in names:
            found["energy"] = bound.energy(points, w, u) - field.energy[j]
        if self.response:
            assert field.response is not None
            assert u is not None
            found["response"] = u - field.response[j]
        if "mass" in names:
            found["mass"] = float(w.sum()) - field.mass[j]
        for i in self.moves:
            axis, x = self.axes[i], points[:, i]
            if self.moments:
                head, tail = ("cosine", "sine") if axis.periodic else ("mean", "mean square")
                a, b = moments_along(axis, x, w)
                a0, b0 = field.moments(i, j)
                found[f"{head} of {axis.name}"], found[f"{tail} of {axis.name}"] = a - a0, b - b0
            if not self.distances:
                continue
            quantile, curve = field.marginal(i, j)
            if axis.periodic:
                if Quantity.W1 in self.distances:
                    order = np.argsort(x, kind="stable")
                    c = np.cumsum(w[order])
                    found[f"W1 of {axis.name}"] = circle_distance(curve, (x[order], c / c[-1]), steps=True)
                continue
            first, square = Quantile.of_points(x, weights).distances(quantile)
            if Quantity.W1 in self.distances:
                found[f"W1 of {axis.name}"] = first
            if Quantity.W2 in self.distances:
                found[f"W2 of {axis.name}"] = math.sqrt(max(square, 0.0))
        if len(self.directions):
            squares = [
                Quantile.of_points(points @ e, weights).distances(self._along(k, j))[1]
                for k, e in enumerate(self.directions)
            ]
            found["sliced W2"] = math.sqrt(max(float(np.mean(squares)), 0.0))
        return {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in found.items()}

    def _along(self, k: int, j: int) -> Quantile:
        if (k, j) not in self._projected:
            self._projected[k, j] = self.field.projected(self.directions[k], j)
        return self._projected[k, j]

    def between(self, other: Field, j: int) -> dict[str, Array]:
        """The absolute difference of every observable between this field and another one."""
        return {name: np.abs(value) for name, value in self.change(other, j).items()}

    def change(self, other: Field, j: int) -> dict[str, Array]:
        """What every observable of another field has more than this one; of distances, how far they are apart.

        A field without a density has no distance from this one: NaN.
        """
        values = {o.name: self._change(o, other, j) for o in self.observables}
        return {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in values.items()}

    def _change(self, o: Observable, other: Field, j: int) -> Any:
        """The change of one observable."""
        field, i = self.field, o.axis
        if o.quantity is Quantity.ENERGY:
            return other.energy[j] - field.energy[j]
        if o.quantity is Quantity.RESPONSE:
            assert field.response is not None
            assert other.response is not None
            return other.response[j] - field.response[j]
        if o.quantity is Quantity.MASS:
            return other.mass[j] - field.mass[j]
        if o.quantity is Quantity.MOMENTS:
            return other.moments(i, j)[o.second] - field.moments(i, j)[o.second]
        if other.mesh is None:
            return math.nan
        if o.quantity is Quantity.SLICED_W2:
            squares = [self._along(k, j).distances(other.projected(e, j))[1] for k, e in enumerate(self.directions)]
            return math.sqrt(max(float(np.mean(squares)), 0.0))
        (quantile, curve), (quantile_2, curve_2) = field.marginal(i, j), other.marginal(i, j)
        if self.axes[i].periodic:
            return circle_distance(curve, curve_2, steps=False)
        first, square = quantile.distances(quantile_2)
        return first if o.quantity is Quantity.W1 else math.sqrt(max(square, 0.0))
