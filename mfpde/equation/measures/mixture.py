"""Sums of measures with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import Empty, Measure, RestrictedMeasure
from mfpde.equation.measures.quadrature import Block, Place
from mfpde.support.arguments import entries, real, shown
from mfpde.support.arrays import Array

__all__ = ["Mixture"]


@dataclass(frozen=True, init=False)
class Mixture(Measure):
    """A convex combination: ``mu = sum_k w_k mu_k / sum_k w_k``.

    Parameters
    ----------
    components : sequence of (weight, Measure)
        Weights are finite and non-negative with a positive sum; zero weights are dropped.

    Raises
    ------
    ValueError
        On an empty list, a bad weight, or a component that is no measure.
    """

    components: tuple[tuple[float, Measure], ...]

    def __init__(self, components: Sequence[tuple[float, Measure]]) -> None:
        kept = []
        for pair in entries(components, "the components of a mixture"):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"a mixture is made of (weight, Measure) pairs, {shown(pair)} is none")
            weight, measure = pair
            if not isinstance(measure, Measure):
                raise ValueError(f"a mixture is made of (weight, Measure) pairs, {shown(measure)} is not a Measure")
            if not (real(weight) and weight >= 0.0):
                raise ValueError(f"mixture weight {shown(weight)} must be finite and non-negative")
            if weight > 0.0:
                kept.append((float(weight), measure))
        if not kept:
            raise ValueError("a mixture needs at least one component of positive weight")
        object.__setattr__(self, "components", tuple(kept))

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`; components with no mass inside are dropped and count as lost."""
        axes = as_axes(axes)
        total = math.fsum(weight for weight, _ in self.components)
        parts: list[tuple[float, RestrictedMeasure]] = []
        reason: Empty | None = None
        for weight, measure in self.components:
            try:
                part = measure.restrict(axes)
            except Empty as error:
                reason = error
                continue
            parts.append((weight / total, part))
        if not any(part.lost_mass < 1.0 for _, part in parts):
            raise Empty(f"no component of the mixture has mass inside the box; {reason or 'move the axes'}")
        empty = 1.0 - math.fsum(share for share, _ in parts) if reason else 0.0
        return _RestrictedMixture(axes, parts, empty)

    def __repr__(self) -> str:
        return f"Mixture({', '.join(f'{weight:g} * {measure!r}' for weight, measure in self.components)})"


class _RestrictedMixture(RestrictedMeasure):
    def __init__(self, axes: tuple[Axis, ...], parts: list[tuple[float, RestrictedMeasure]], empty: float) -> None:
        self.axes = axes
        self.lost_mass = min(1.0, empty + math.fsum(share * part.lost_mass for share, part in parts))
        inside = [(share * (1.0 - part.lost_mass), part) for share, part in parts]
        total = math.fsum(weight for weight, _ in inside)
        self.parts = [(weight / total, part) for weight, part in inside if weight > 0.0]

    def _cells(self, grid: Grid) -> Array:
        return np.sum([weight * part.cells(grid) for weight, part in self.parts], axis=0)

    def _point_values(self, grid: Grid) -> Array:
        return np.sum([weight * part.point_values(grid) for weight, part in self.parts], axis=0)

    def _log_density(self, points: Array) -> Array:
        with np.errstate(all="ignore"):
            logs = [math.log(weight) + part.log_density(points) for weight, part in self.parts]
            return np.asarray(np.logaddexp.reduce(logs, axis=0))

    def _components(self) -> list[tuple[float, RestrictedMeasure]]:
        return [(share * weight, one) for share, part in self.parts for weight, one in part._components()]

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        raise AssertionError("a mixture has its components' nodes")

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        counts = rng.multinomial(n, [weight for weight, _ in self.parts])
        points = np.concatenate(
            [part.sample(int(count), rng) for count, (_, part) in zip(counts, self.parts, strict=True)]
        )
        return rng.permutation(points, axis=0)  # so that any prefix is a sample as well
