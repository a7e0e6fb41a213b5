"""The report of a test: rows of numbers and slopes beside the reference, and the table of the worst of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.support.labels import Column, Labelled, Labels

__all__ = ["POWER", "Report", "Row", "Slope"]


POWER = 0.9
"""With what probability an error of the size that a report calls visible is seen."""

SHOWN = 20
"""Rows of a table."""


@dataclass(frozen=True)
class Row:
    """A number of mine beside that of the reference.

    Attributes
    ----------
    observable : str
    component : tuple of int
        Which of several values; empty for one.
    time : float
    mine, reference : float
        With several sizes mine is the limit of many particles.
    bar : float
        Of the reference.
    allowed : float
        How far they may be apart: the bar, the caller's errors, the bias of n particles, and the interval of the
        replicas.
    visible : float
        An error of mine of this size would have been seen: surely for a single run, with probability 0.9 for replicas.
    sanity : bool
        Whether this is the mass, or the share of particles in the box, and no observable of the reference.
    """

    observable: str
    component: tuple[int, ...]
    time: float
    mine: float
    reference: float
    bar: float
    allowed: float
    visible: float
    sanity: bool = False

    @property
    def what(self) -> str:
        """The observable and the component."""
        return self.observable + (f" [{', '.join(map(str, self.component))}]" if self.component else "")

    @property
    def difference(self) -> float:
        """Mine less the reference's."""
        return self.mine - self.reference

    @property
    def in_bars(self) -> float:
        """The difference in units of what is allowed; a test fails above 1."""
        if self.difference == 0:
            return 0.0
        return abs(self.difference) / self.allowed if self.allowed > 0 else math.inf

    @property
    def fails(self) -> bool:
        """Whether the difference is larger than allowed; NaN is."""
        return not abs(self.difference) <= self.allowed


@dataclass(frozen=True)
class Slope:
    """How fast the root-mean-square error of an observable falls: like ``n^slope``.

    Attributes
    ----------
    what : str
    time : float
    slope : float
        Of log root-mean-square error on log n; minus infinity where nothing is above the reference's bars.
    low, high : float
        Interval of the slope at the stated level; the bars are in it.
    rate : float
        What it should be.
    visible : float
        A fall slower than ``n^visible`` would have been seen with probability 0.9.
    fails : bool
    """

    what: str
    time: float
    slope: float
    low: float
    high: float
    rate: float
    visible: float
    fails: bool


@dataclass(frozen=True)
class Report(Labelled):
    """What `assert_matches` and `assert_converges` found; ``print`` shows it.

    Attributes
    ----------
    problem : str
    rows : tuple of Row
    slopes : tuple of Slope
    left_out : dict of str to str
        Observables of the reference that were not compared, and why.
    runs : tuple of (int or None, int)
        Particles and replicas of each size; None where the number of particles is not known.
    false_alarm : float or None
        Probability that a right code fails; None for single runs, where nothing is left to chance.
    """

    problem: str
    rows: tuple[Row, ...]
    slopes: tuple[Slope, ...]
    left_out: dict[str, str]
    runs: tuple[tuple[int | None, int], ...]
    false_alarm: float | None

    def _labels(self) -> Labels:
        """Numbers, one a row; slopes are in the dataset only."""
        numbers = ("time", "mine", "reference", "bar", "allowed", "difference", "in_bars", "visible")
        variables = {"observable": Column(["number"], np.array([row.what for row in self.rows], dtype=str))}
        for names, kind in ((numbers, float), (("fails", "sanity"), bool)):
            for name in names:
                variables[name] = Column(["number"], np.array([getattr(row, name) for row in self.rows], dtype=kind))
        variables["slope_of"] = Column(["fit"], np.array([slope.what for slope in self.slopes], dtype=str))
        for name in ("time", "slope", "low", "high", "rate", "visible"):
            values = np.array([getattr(slope, name) for slope in self.slopes], dtype=float)
            variables["slope" if name == "slope" else f"slope_{name}"] = Column(["fit"], values)
        variables["slope_fails"] = Column(["fit"], np.array([slope.fails for slope in self.slopes], dtype=bool))
        attributes = {"problem": self.problem, "passed": int(self.passed), "false_alarm": self.false_alarm}
        return Labels({"number": Column(["number"], np.arange(len(self.rows)))}, variables, attributes, ("number",))

    @property
    def passed(self) -> bool:
        """Whether nothing fails."""
        return not any(row.fails for row in self.rows) and not any(slope.fails for slope in self.slopes)

    @property
    def visible(self) -> dict[str, float]:
        """For each observable the smallest error, in its units, that would have been seen wherever it is."""
        found: dict[str, float] = {}
        for row in (row for row in self.rows if not row.sanity):
            found[row.observable] = max(found.get(row.observable, 0.0), row.visible)
        return found

    def __str__(self) -> str:
        wrong = sum(row.fails for row in self.rows) + sum(slope.fails for slope in self.slopes)
        count = len(self.rows) + len(self.slopes)
        if wrong:
            lines = [f"particles do not match the reference for {self.problem!r}: {wrong} of {count} checks fail"]
        else:
            lines = [f"particles match the reference for {self.problem!r}: {count} checks"]
        lines += _table(self.rows) + _slopes_table(self.slopes)
        if self.runs and any(replicas > 1 for _, replicas in self.runs):
            sizes = ", ".join(f"{r} x {'?' if n is None else n}" for n, r in self.runs)
            lines.append(f"replicas x particles: {sizes}; a right code fails with probability {self.false_alarm:g}")
        seen = "; ".join(f"{name} {size:.2g}" for name, size in self.visible.items())
        chance = f", with probability {POWER:g}" if self.false_alarm is not None else ""
        lines.append(f"smallest error that would be seen{chance}: {seen}")
        blind = [slope for slope in self.slopes if math.isnan(slope.visible)]
        if self.slopes and len(blind) < len(self.slopes):
            worst = max(slope.visible for slope in self.slopes if not math.isnan(slope.visible))
            if worst < 0:
                lines.append(f"a fall as slow as n^{worst:.2g} would be seen{chance}, wherever it is")
            else:
                lines.append("an error that does not fall at all may stay unseen somewhere: more replicas, or sizes")
        if blind:
            lines.append(
                f"no rate is seen for {', '.join(sorted({s.what for s in blind}))}: errors are within the bars"
            )
        for why in dict.fromkeys(self.left_out.values()):
            lines.append(f"not compared: {', '.join(n for n, other in self.left_out.items() if other == why)} ({why})")
        return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines: what is wrong first, and of every observable the worst before the rest."""
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (not row.fails, -row.in_bars if math.isfinite(row.in_bars) else -1e300))
    # the worst of every observable before what is worse of the same one
    worst = {row.observable: row for row in reversed(ordered)}
    ordered.sort(key=lambda row: (not row.fails, row is not worst[row.observable]))
    width = max(len("what"), *(len(row.what) for row in ordered[:SHOWN]))
    columns = f"{'time':>8} {'mine':>14} {'reference':>14} {'bar':>9} {'allowed':>9} {'difference':>11} {'in bars':>8}"
    lines = [f"  {'what':<{width}} {columns}"]
    for row in ordered[:SHOWN]:
        lines.append(
            f"{'! ' if row.fails else '  '}{row.what:<{width}} {row.time:>8g} {row.mine:>14.8g} "
            f"{row.reference:>14.8g} {row.bar:>9.2g} {row.allowed:>9.2g} {row.difference:>+11.3g} {row.in_bars:>8.3g}"
        )
    if len(ordered) > SHOWN:
        rest = ordered[SHOWN:]
        lines.append(f"  and {len(rest)} more, {sum(row.fails for row in rest)} of them wrong")
    return lines


def _slopes_table(slopes: Sequence[Slope]) -> list[str]:
    """The slopes as lines: what is wrong first."""
    if not slopes:
        return []
    ordered = sorted(slopes, key=lambda slope: (not slope.fails, -slope.low))
    width = max(len("error of"), *(len(slope.what) for slope in ordered[:SHOWN]))
    lines = [f"  {'error of':<{width}} {'time':>8} {'falls like':>11} {'interval':>17} {'expected':>9}"]
    for slope in ordered[:SHOWN]:
        lines.append(
            f"{'! ' if slope.fails else '  '}{slope.what:<{width}} {slope.time:>8g} {f'n^{slope.slope:.2f}':>11} "
            f"{f'[{slope.low:.2f}, {slope.high:.2f}]':>17} {f'n^{slope.rate:g}':>9}"
        )
    if len(ordered) > SHOWN:
        lines.append(f"  and {len(ordered) - SHOWN} more, {sum(s.fails for s in ordered[SHOWN:])} of them wrong")
    return lines
