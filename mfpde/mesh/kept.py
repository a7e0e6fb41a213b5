"""What runs of one problem on one small mesh have in common, kept with the problem: the next run need not make it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem

__all__ = ["MOST_CELLS", "kept"]

MOST_CELLS = 5000
"""Cells up to which Python costs more than it is worth between the passes of a step, and something is kept."""
MOST_THINGS = 32
"""Things that are kept for a problem; the first goes when there are more."""

T = TypeVar("T")
_kept: weakref.WeakKeyDictionary[Problem, dict[Hashable, Any]] = weakref.WeakKeyDictionary()


def kept(
    problem: Problem, grid: Grid, what: Hashable, make: Callable[[], T], shared: Callable[[T], bool] | None = None
) -> T:
    """What `make` gives, or gave before for the same problem, as many cells and the same name.

    Parameters
    ----------
    problem : Problem
    grid : Grid
        A mesh on its axes.
    what : hashable
        Its name, and what it depends on besides.
    make : callable
        Called without arguments. What it gives is shared by runs, also of different threads.
    shared : callable, optional
        Whether it may be kept; default: always.
    """
    if grid.size > MOST_CELLS:
        return make()
    things = _kept.setdefault(problem, {})
    key = what, grid.shape
    if key in things:
        found: T = things[key]
        return found
    made = make()
    if shared is None or shared(made):
        if len(things) >= MOST_THINGS:
            for first in list(things)[:1]:  # at once: other threads add to them, and take from them
                things.pop(first, None)
        things[key] = made
    return made
