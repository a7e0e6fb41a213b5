"""The clock of time limits."""

from __future__ import annotations

import time

__all__ = ["stand_still", "working_time"]

_compiling = 0.0


def working_time() -> float:
    """Seconds on a clock that stands still while functions are compiled.

    A time limit is about work: what the first run on a machine takes to compile, some seconds, would use up small ones.
    """
    return time.perf_counter() - _compiling


def stand_still(seconds: float) -> None:
    """Let the clock have stood still for so long."""
    global _compiling
    _compiling += seconds
