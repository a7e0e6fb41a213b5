"""The metric of a problem: a rate for each axis, with what species add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mfpde.equation.grid import Axis
from mfpde.equation.species import Species, species_axis
from mfpde.support.arguments import entries, real, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable

__all__ = ["as_metric", "rates_of"]


def as_metric(metric: Sequence[Any], axes: Sequence[Axis]) -> tuple[Any, ...]:
    """One entry an axis: None, a number that is not negative, or a function."""
    rates = entries(metric, "metric")
    found = species_axis(axes)
    if found is not None:
        if len(rates) == len(axes) - 1:
            rates = (*rates[: found[0]], 0.0, *rates[found[0] :])
        elif len(rates) == len(axes) and rates[found[0]] not in (None, 0):
            raise ValueError(f"metric of {found[1].name!r}: nothing moves along species; leave that entry out")
    if len(rates) != len(axes):
        raise ValueError(f"metric has {len(rates)} entries for {len(axes)} axes; use None where the rate is 1")
    for axis, g in zip(axes, rates, strict=True):
        if not (g is None or callable(g) or (real(g) and g >= 0)):
            wanted = "None, a number >= 0 or a function"
            raise ValueError(f"metric of axis {axis.name!r} must be {wanted}, not {shown(g)}")
    return rates


def rates_of(metric: Sequence[Any] | None, found: tuple[int, Species] | None, dimension: int) -> tuple[Any, ...] | None:
    """A metric with what species add: 0 along their axis, elsewhere the factors of their time scales."""
    if found is None:
        return None if metric is None else tuple(metric)
    position, species = found
    rates = [None] * dimension if metric is None else list(metric)
    if species.scaled:
        rates = [_OfSpecies(g, position, species) for g in rates]
    rates[position] = 0.0
    return tuple(rates)


class _OfSpecies(Portable):
    """A rate times the time scale of the species."""

    def __init__(self, rate: Any, position: int, species: Species) -> None:
        self._rate, self._position, self._species = rate, position, species

    def __call__(self, *coordinates: Array) -> Array:
        scale = self._species.scale(coordinates[self._position])
        if self._rate is None:
            return scale
        return scale * (values_of(self._rate, *coordinates) if callable(self._rate) else self._rate)
