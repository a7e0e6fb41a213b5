"""References as objects: values with error bars, what bears them out, and what confirms them independently."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.lagrangian.ancestry import descent_at
from mfpde.support.arguments import shown
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels, table
from mfpde.support.words import printable
from mfpde.verification.observables import Observable

if TYPE_CHECKING:
    import pandas
    import xarray

__all__ = ["CONFIRMED", "Certified", "LevelRun", "ROUND_OFF", "Reference"]


ROUND_OFF = 1e-13
"""A bar of this share of the largest possible value is narrow enough, however small the value is."""

CONFIRMED = 1e-2
"""What is not known to that by an independent discretisation is not confirmed."""


@dataclass(frozen=True, eq=False)
class Certified(Labelled):
    """An observable with its error bar.

    Attributes
    ----------
    name : str
    times : array, shape (m,)
        Infinity is the end state.
    value, bar : array, shape (m, ...)
        The true value is expected within ``value +- bar``: an estimate, not a proof.
    route : str
        The discretisation that gave it.
    other : str
        An independent one, which checks the implementation; empty where there is none.
    other_value, other_bar : array
        What that one found, with its own bar.
    observable : Observable
        What was measured: it can be measured on other measures, too.
    check : str
        What bears the value out at the level of its bar: the same discretisation on differently placed nodes; empty
        where there was no time for it.
    check_value, check_bar : array
        What that one found, with its own bar.
    sizes : tuple of str
        Nodes or cells of the three.
    floor : float
        Below it bars are not relative to the value but to this: what has a bar of 1e-13 of the largest value that is
        possible, as a moment that is 0 by symmetry, is known as well as numbers allow.
    """

    name: str
    times: Array
    value: Array
    bar: Array
    route: str
    other: str = ""
    other_value: Array | None = None
    other_bar: Array | None = None
    observable: Observable | None = None
    check: str = ""
    check_value: Array | None = None
    check_bar: Array | None = None
    sizes: tuple[str, str, str] = ("", "", "")
    floor: float = 0.0

    def _labels(self) -> Labels:
        """Numbers, one a row: times, and the places of values that there are several of."""
        axes = ["time", *(f"index_{k}" for k in range(self.value.ndim - 1))]
        said = {
            "value": "the true value is within value +- bar, as an estimate",
            "bar": "error bar, absolute",
            "check_value": "of differently placed nodes or cells",
            "check_bar": "error bar of that",
            "other_value": "of an independent discretisation",
            "other_bar": "error bar of that",
        }
        known = {name: (getattr(self, name), meaning) for name, meaning in said.items()}
        variables = {name: Column(axes, v, meaning) for name, (v, meaning) in known.items() if v is not None}
        coordinates = {axis: Column([axis], np.arange(n)) for axis, n in zip(axes, self.value.shape, strict=True)}
        coordinates["time"] = Column(["time"], self.times, "infinity is the end state")
        attributes = {"observable": self.name, "route": self.route, "check": self.check, "other": self.other}
        return Labels(coordinates, variables, attributes, tuple(axes))

    @property
    def relative(self) -> float:
        """The largest bar, relative to the largest value of the same time."""
        return self._relative(self.bar)

    @property
    def confirmed_to(self) -> float:
        """To how much of the value the independent discretisation confirms it: its own bar, or the distance."""
        if self.other_value is None or self.other_bar is None:
            return math.inf
        return self._relative(np.maximum(np.abs(self.other_value - self.value), self.other_bar))

    @property
    def confirmed(self) -> bool:
        """Whether that is 1e-2 or better."""
        return self.confirmed_to <= CONFIRMED

    def _relative(self, size: Array) -> float:
        axes = tuple(range(1, self.value.ndim))
        return float(
            (size.max(axis=axes) / np.maximum(np.abs(self.value).max(axis=axes), max(self.floor, 1e-300))).max()
        )

    def _agrees(self) -> bool:
        """Whether differently placed nodes or cells know the value, too, within both bars."""
        if self.check_value is None or self.check_bar is None or not np.all(np.isfinite(self.check_bar)):
            return False
        return bool(np.all(np.abs(self.check_value - self.value) <= self.bar + self.check_bar))

    def _means(self) -> str:
        """How it is known, in words."""
        size, check_size, other_size = (f" {size}" if size else "" for size in self.sizes)
        said = [f"{self.route}{size}"]
        agrees = f"agrees with {self.check}{check_size}"
        said.append(agrees if self._agrees() else "NOT borne out by other nodes or cells")
        if self.other and math.isfinite(self.confirmed_to):
            words = f"confirmed to {self.confirmed_to:.0e}" if self.confirmed else "NOT confirmed: only"
            said.append(
                f"{words} by {self.other}{other_size}"
                if self.confirmed
                else f"{words} {self.confirmed_to:.0e} is known by {self.other}{other_size}"
            )
        else:
            said.append("NOT confirmed by another discretisation")
        return "; ".join(said)


class LevelRun(NamedTuple):
    """A run that was made on the way to a reference.

    Attributes
    ----------
    route : str
        The discretisation.
    cells : tuple of int
        Cells or nodes along each axis.
    seconds : float
        How long it took; 0 where it was found on disk.
    """

    route: str
    cells: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class Reference:
    """The result of `mfpde.reference`.

    Attributes
    ----------
    problem : Problem
    tolerance : float
    observables : tuple of Certified
    levels : tuple of LevelRun
        Every run that was made.
    reached : bool
        Whether all bars are within the tolerance, and borne out by differently placed nodes or cells.
    ancestral_mass : float, optional
        From how little of the start half of the mass descends, at the time when that is least: a run of fewer
        particles than its inverse does not follow the limit. None where no characteristics were computed.
    """

    problem: Problem
    tolerance: float
    observables: tuple[Certified, ...]
    levels: tuple[LevelRun, ...]
    reached: bool
    ancestral_mass: float | None = None

    @property
    def name(self) -> str:
        """The problem's name."""
        return self.problem.name

    @property
    def confirmed(self) -> bool:
        """Whether an independent discretisation knows all values to 1e-2 or better, and agrees."""
        return all(found.confirmed for found in self.observables)

    def __getitem__(self, name: str) -> Certified:
        for found in self.observables:
            if isinstance(name, str) and found.name == name:
                return found
        raise KeyError(f"no observable {shown(name)}; valid: {', '.join(found.name for found in self.observables)}")

    def to_dataframe(self) -> pandas.DataFrame:
        """One row for each number: observable, time, index, value, bar, and how it is known.

        Raises
        ------
        ImportError
            Without pandas.
        """
        return table(self._rows())

    def to_xarray(self) -> xarray.Dataset:
        """The same with a row for each number along one axis, `number`.

        Raises
        ------
        ImportError
            Without xarray or pandas.
        """
        frame = self.to_dataframe()
        frame["index"] = frame["index"].map(str)
        found: xarray.Dataset = frame.rename_axis("number").to_xarray()
        return found.assign_attrs(problem=self.name, tolerance=self.tolerance)

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for found in self.observables:
            for k, t in enumerate(found.times):
                for index in np.ndindex(found.value.shape[1:]):
                    at = (k, *index)
                    row = {"observable": found.name, "time": float(t), "index": index[0] if len(index) == 1 else index}
                    row |= {"value": float(found.value[at]), "bar": float(found.bar[at]), "route": found.route}
                    row |= {"check": found.check, "other": found.other, "confirmed_to": found.confirmed_to}
                    row["index"] = row["index"] if index else 0
                    rows.append(row)
        return rows

    def __repr__(self) -> str:
        verdict = "reached" if self.reached else "not reached"
        names = ", ".join(found.name for found in self.observables)
        return f"<Reference for {self.name!r}: {names}; tolerance {self.tolerance:g} {verdict}>"

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "NOT reached within the budget; the bars are the best there are"
        lines = [f"Reference for {self.name!r}: relative tolerance {self.tolerance:g} {verdict}"]
        for found in self.observables:
            lines.append(f"  {found.name}  ({found._means()})")
            for t, value, bar in zip(found.times, found.value, found.bar, strict=True):
                if value.ndim == 0:
                    lines.append(f"    t = {t:<8g} {float(value): .12g} +- {float(bar):.2g}")
                else:
                    lines.append(f"    t = {t:<8g} {value.size} values, largest bar {float(bar.max()):.2g}")
        if self.ancestral_mass is not None:
            times = np.concatenate([found.times for found in self.observables])
            last = float(times[np.isfinite(times)].max(initial=0.0))
            if said := descent_at(f"at some time up to t = {last:g}", self.ancestral_mass):
                lines.append(f"  {said}")
        seconds = sum(seconds for _, _, seconds in self.levels)
        lines.append(f"  {len(self.levels)} runs, {seconds:.3g} s")
        return printable("\n".join(lines))
