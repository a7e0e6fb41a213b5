"""Levels of a reference by an executor: those that are asked for, and those that are going to be, at the same time.

What is asked for next depends on what is found; what a level gives does not depend on who computes it, nor on when. So
a reference by an executor is the same, bit for bit, and only waits less.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, TimeoutError, wait
from typing import TYPE_CHECKING, Any

from mfpde.lagrangian.nodes import OutOfTime
from mfpde.support.clock import working_time
from mfpde.support.executors import HEAD_START, Bounded, broken_pool
from mfpde.verification.references.routes import LEAST_LEVELS

if TYPE_CHECKING:
    from mfpde.verification.references.refinement import Ladder, Level

__all__ = ["Ahead"]


class Ahead:
    """Levels that an executor computes.

    Parameters
    ----------
    executor : Executor
    end : float
        When the budget is over, on the clock of `working_time`.
    """

    def __init__(self, executor: Executor, end: float) -> None:
        self.executor, self.end = executor, end
        self._begun: dict[tuple[Any, ...], Future[Level]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._begun.values():
            future.cancel()

    def begin(self, ladder: Ladder, levels: Sequence[int], step: float) -> None:
        """Let some levels be computed, unless they are already."""
        for level in levels:
            key = _key(ladder, level, step)
            if key not in self._begun:
                left = self.end - working_time()
                self._begun[key] = self.executor.submit(Bounded(compute), ladder.portable(), level, step, left)

    def level(self, ladder: Ladder, level: int, step: float, deadline: float) -> Level:
        """What a level gives; and a ladder has three levels at least, and those below one that it has already.

        Raises
        ------
        OutOfTime
            At the deadline; the level may be there later.
        BrokenPool
            If the executor breaks.
        """
        try:
            if not self._begun:  # compiled code is in its cache for the others, then
                self.begin(ladder, [level], step)
                wait(self._begun.values(), timeout=min(HEAD_START, max(deadline - working_time(), 0.0)))
            self.begin(ladder, range(level, max(LEAST_LEVELS, level + 1, len(ladder.levels))), step)
            return self._begun[_key(ladder, level, step)].result(timeout=max(deadline - working_time(), 0.0))
        except TimeoutError:
            raise OutOfTime from None
        except Exception as error:
            if (broken := broken_pool(error, "the reference")) is None:
                raise
            raise broken from None


def compute(ladder: Ladder, level: int, step: float, seconds: float) -> Level:
    """A level, in a worker that has so many seconds."""
    return ladder.compute(level, step, working_time() + seconds)


def _key(ladder: Ladder, level: int, step: float) -> tuple[Any, ...]:
    """What tells a level from others of the same problem and observables."""
    route = ladder.route
    watched = tuple(id(observable) for observable in ladder.wanted[: ladder.count])
    return (*watched, tuple(route.times), route.name, route.cells(level), getattr(route, "first_step", None), step)
