"""The points of a sweep: a grid or a list, the chains of warm starts, and the shards of a job array."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.runs.identity import told
from mfpde.runs.sweep_file import OWN, fit_for_a_column
from mfpde.support.arguments import entries, one_of, require, shown, whole

__all__ = ["Point", "Points", "Shard", "shards_of"]

Point = Mapping[str, Any]


class Points:
    """The points of a sweep, numbered, and how they lie.

    Parameters
    ----------
    parameters : mapping of sequences, or sequence of mappings
        A grid, or a list.

    Raises
    ------
    ValueError
        For names that no column can have, parameters without values, and points with different parameters.
    """

    numbers: NDArray[np.intp] | None = None
    """Which points of the whole sweep these are, where they are only some."""

    def __init__(self, parameters: Mapping[str, Sequence[Any]] | Sequence[Point]) -> None:
        if isinstance(parameters, Mapping):
            self.axes = {
                name: list(entries(values, f"parameter {name!r}")) for name, values in _named(parameters).items()
            }
            if empty := [name for name, values in self.axes.items() if not values]:
                raise ValueError(f"parameter {empty[0]!r} has no values")
            names, each = list(self.axes), itertools.product(*self.axes.values())
            self.points = [dict(zip(names, values, strict=True)) for values in each]
        else:
            self.axes = {}
            self.points = [_named(point) for point in entries(parameters, "parameters")]
            if odd := [k for k, point in enumerate(self.points) if point.keys() != self.points[0].keys()]:
                raise ValueError(f"point {odd[0]} has the parameters {', '.join(self.points[odd[0]])}, not those of 0")
        if not self.points or not self.points[0]:
            raise ValueError("a sweep needs at least one parameter with one value")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values there are along each axis; of a list its length."""
        return tuple(map(len, self.axes.values())) or (len(self.points),)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes; of a list `run`."""
        return tuple(self.axes) or ("run",)

    def coordinates(self) -> dict[str, Any]:
        """Values of the parameters."""
        if self.axes:
            return {name: (name, _coordinate(values)) for name, values in self.axes.items()}
        found = {name: ("run", _coordinate(values)) for name, values in self.columns().items()}
        return found if self.numbers is None else {"run": self.numbers, **found}

    def columns(self) -> dict[str, list[Any]]:
        """Values of the parameters at each point."""
        return {name: [point[name] for point in self.points] for name in self.points[0]}

    def chains(self, warm: str | None) -> list[list[int]]:
        """Numbers of points that are run one after the other: each alone, or all along an axis."""
        numbers = np.arange(len(self.points))
        if warm is None:
            return [[int(k)] for k in numbers]
        if warm not in self.axes:
            raise ValueError(f"warm = {shown(warm)} is no axis of the sweep; it has {', '.join(self.names)}")
        along = np.moveaxis(numbers.reshape(self.shape), list(self.axes).index(warm), -1)
        return [[int(k) for k in line] for line in along.reshape(-1, along.shape[-1])]

    def some(self, rows: NDArray[np.intp]) -> Points:
        """Some of the points, as a list."""
        found = Points([self.points[k] for k in rows])
        found.numbers = rows
        return found

    def said(self) -> str:
        """In words, for a file to know them by."""
        if self.axes:
            return ", ".join(f"{name} = {_listed(values)}" for name, values in self.axes.items())
        text = told([sorted(point.items()) for point in self.points])
        return f"{len(self.points)} points, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _named(parameters: Any) -> dict[str, Any]:
    """Parameters by names that a file and a dataset can have."""
    require(parameters=(parameters, one_of(Mapping)))
    for name in parameters:
        if not isinstance(name, str) or not fit_for_a_column(name) or name in OWN:
            raise ValueError(f"a sweep has no parameter {shown(name)}: names are text without '/', and not {_WORDS}")
    return dict(parameters)


_WORDS = ", ".join(map(repr, sorted(OWN)))


def _coordinate(values: Sequence[Any]) -> Any:
    """The values of a parameter as a coordinate: arrays and the like are objects, each of them one value."""
    if all(np.ndim(value) == 0 for value in values):
        return [value.item() if isinstance(value, np.ndarray) else value for value in values]
    found = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        found[k] = told(value)
    return found


def _listed(values: Sequence[Any]) -> str:
    text = told(values)
    return text if len(text) < 80 else f"{len(values)} values, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Shard:
    """A part of a sweep: chain number `number`, and every `count`-th after it.

    Attributes
    ----------
    number : int
        From 1 on.
    count : int
        How many shards there are.
    """

    number: int
    count: int

    @classmethod
    def of(cls, given: Any) -> Shard:
        """What a pair of numbers means.

        Raises
        ------
        ValueError
            For what is no such pair.
        """
        pair = tuple(given) if isinstance(given, (tuple, list)) else ()
        if len(pair) != 2 or not all(map(whole, pair)) or not 1 <= pair[0] <= pair[1]:
            raise ValueError(f"shard must be (k, n), k from 1 to n, not {shown(given)}")
        return cls(int(pair[0]), int(pair[1]))

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"

    def file(self, output: Path) -> Path:
        """Where the rows go that belong into a file in the end: ``phase.2-of-8.h5`` beside ``phase.h5``."""
        return output.with_name(f"{output.stem}.{self.number}-of-{self.count}{output.suffix}")

    def of_chains(self, chains: Sequence[Sequence[int]]) -> tuple[NDArray[np.intp], list[list[int]]]:
        """The numbers of its points, and its chains, as positions among these.

        Raises
        ------
        ValueError
            If there are more shards than chains.
        """
        if self.count > len(chains):
            what = "points" if all(len(chain) == 1 for chain in chains) else "chains of warm starts"
            raise ValueError(f"a sweep of {len(chains)} {what} has no {self.count} shards")
        own = chains[self.number - 1 :: self.count]
        numbers = np.array(sorted(itertools.chain(*own)))
        return numbers, [np.searchsorted(numbers, chain).tolist() for chain in own]


def shards_of(output: Path) -> list[tuple[Shard, Path]]:
    """The files of all shards of a sweep, in their order.

    Raises
    ------
    ValueError
        If there are none, one is missing, or there are those of several divisions.
    """
    pattern = re.compile(re.escape(output.stem) + r"\.(\d+)-of-(\d+)" + re.escape(output.suffix))
    found = [match for path in output.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    counts = sorted({int(match[2]) for match in found})
    if not counts:
        raise ValueError(f"there are no shards of {output}, such as {Shard(1, 4).file(output).name} beside it")
    if len(counts) > 1:
        raise ValueError(
            f"there are shards of {output} in {' and in '.join(map(str, counts))} parts; remove those of one"
        )
    every = [Shard(number, counts[0]) for number in range(1, counts[0] + 1)]
    files = [(shard, shard.file(output)) for shard in every]
    if missing := [path.name for _, path in files if not path.is_file()]:
        raise ValueError(f"{missing[0]} is missing, {len(missing)} of {counts[0]} shards; run it first")
    return files
