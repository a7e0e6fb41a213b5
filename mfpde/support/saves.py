"""When states are kept: times, whether two are one, and which is meant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arguments import NUMBER, numbers, real, require, shown, whole

__all__ = [
    "MOST_SAVES",
    "contradiction",
    "distinct_times",
    "nearest",
    "same_time",
    "save_index",
    "save_times",
    "within_run",
]


MOST_SAVES = 10_000_000

SAME_TIME = 1e-12
"""Two times closer than this, relative to the later one, are one: sums of 10^4 steps are rounded by less. It is ten
times the shortest step that a solver makes, so that a step fits between any two times that are not one."""
SAME_UNITS = 8
"""And so are two that are closer than this many units of the last place of the end: ``1 - 10 * 0.1`` summed up is no
time after 0."""

NO_SAVE = 1e-9
"""Distance from a save time, relative to the end of the run, from which a time is another one."""


def save_times(save: int | Sequence[float], start: float, t_end: float) -> list[float]:
    """The times after `start` at which a state is kept, `t_end` last: from a count or from the times."""
    if whole(save):
        if not 2 <= save <= MOST_SAVES:
            raise ValueError(
                f"save = {shown(save)}: at least 2 save times, the start and the end, and at most {MOST_SAVES}"
            )
        # fractions of the interval: the same numbers whatever the start
        count = int(save)
        return [start + (t_end - start) * (i / (count - 1)) for i in range(1, count - 1)] + [t_end]
    times = sorted({float(t) for t in np.ravel(numbers(save, "save times"))})
    outside = [t for t in times[:1] if t < 0 and not same_time(t, 0.0, t_end)]
    outside += [t for t in times[-1:] if t > t_end and not same_time(t, t_end, t_end)]
    if not all(math.isfinite(t) for t in times) or outside:
        raise ValueError(f"save times must lie between 0 and t_end = {t_end:g}, got {times}")
    return [t for t in distinct_times([*times, t_end], (start, t_end)) if t > start]


def same_time(one: float, other: float, t_end: float) -> bool:
    """Whether two times of a run to `t_end` are one but for rounding.

    Grids of times that are summed up, or joined, meet at ``0.1 + 0.2`` and ``0.3``. The two are one where they are
    within `SAME_TIME` of the later one, or within `SAME_UNITS` units of the last place of `t_end`.
    """
    if not (math.isfinite(one) and math.isfinite(other)):
        return one == other
    return abs(one - other) <= max(SAME_TIME * max(abs(one), abs(other)), SAME_UNITS * math.ulp(t_end))


def distinct_times(times: Iterable[float], preferred: Sequence[float] = ()) -> list[float]:
    """Times in increasing order, each once; see `same_time`.

    Parameters
    ----------
    times : iterable of float
        In any order. Infinity is a time of its own; the largest finite one of all counts as the end of the run.
    preferred : sequence of float
        What stands for the times that are the same: the start, the end. Elsewhere the earliest of them does.

    Returns
    -------
    list of float
        Any two of them are more than a rounding error apart.
    """
    increasing, fixed = np.unique(np.fromiter(times, dtype=float)), [float(t) for t in preferred]
    finite = [t for t in (*increasing[np.isfinite(increasing)][-1:].tolist(), *fixed) if math.isfinite(t)]
    t_end = max(finite, default=0.0)
    every = np.union1d(increasing, fixed)
    every = every[np.isfinite(every)]
    least = np.maximum(SAME_TIME * np.abs(every[1:]), SAME_UNITS * math.ulp(t_end))
    if np.all(np.diff(every) > least):  # as nearly always
        return list(increasing.tolist())
    kept: list[float] = []
    for t in increasing.tolist():
        t = next((other for other in fixed if same_time(t, other, t_end)), t)
        if not kept or not same_time(t, kept[-1], t_end):
            kept.append(t)
    return kept


def contradiction(saved: Sequence[float], now: float, planned: object) -> str:
    """Why a run that is at `now` has not saved the times that it was to save; empty where it has.

    Parameters
    ----------
    saved : sequence of float
        The start, and what was saved since; the last of them may be where the run was cut short.
    now : float
        Where the run is.
    planned : object
        The save times after the start, increasing, as a file says.
    """
    if not isinstance(planned, (list, tuple)) or not all(real(t) for t in planned):
        return f"{shown(planned)} is no list of times"
    times = [float(saved[0]), *map(float, planned)]
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        return f"{shown(planned)} does not increase from the start, t = {times[0]:g}, on"
    due = [t for t in times if t <= max(now, saved[-1])]
    have = [float(t) for t in saved]
    if have in (due, [*due, have[-1]]):
        return ""
    odd = next(
        (i for i, (one, other) in enumerate(zip(have, due, strict=False)) if one != other), min(len(have), len(due))
    )
    there, wanted = (f"t = {times[odd]!r}" if odd < len(times) else "nothing more" for times in (have, due))
    return f"save time {odd} is {there}, and was to be {wanted}"


def nearest(times: NDArray[np.float64], wanted: Sequence[float] | NDArray[np.float64]) -> NDArray[np.intp]:
    """Where in the times, which increase, those are that are nearest to the wanted ones."""
    if len(times) == 1:
        return np.zeros(len(wanted), dtype=np.intp)
    above = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(times[above] - wanted < wanted - times[above - 1], above, above - 1)


def within_run(t: float, start: float, end: float) -> float:
    """A time of a run from `start` to `end`; what is outside by no more than rounding is the start or the end.

    Raises
    ------
    ValueError
        If it is further outside.
    """
    for bound in (start, end):
        if same_time(t, bound, end):
            return bound
    if not start < t < end:
        raise ValueError(f"t = {t:g} is outside the run, [{start:g}, {end:g}]")
    return float(t)


def save_index(times: NDArray[np.float64], t: float | None, entry: str) -> int:
    """The position of save time `t` (the last one for None) in a result of `entry`.

    Raises
    ------
    ValueError
        If `t` is no save time.
    """
    if t is None:
        return len(times) - 1
    require(t=(t, NUMBER))
    i = int(np.argmin(np.abs(times - t)))
    found = float(times[i])
    if abs(found - t) > NO_SAVE * max(float(times[-1]), abs(t)):
        digits = "g" if f"{t:g}" != f"{found:g}" else ".17g"
        raise ValueError(f"t = {t:{digits}} is no save time; the nearest is {found:{digits}} (pass save= to {entry})")
    return i
