"""What a run will take, before it is made: memory by adding up, time by trying its first steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem
from mfpde.mesh.memory import RunMemory, check_run, run_memory
from mfpde.mesh.options import RunOptions
from mfpde.mesh.run import solve
from mfpde.mesh.solution import Solution
from mfpde.support.session import quiet

__all__ = ["Forecast", "forecast"]

TRIAL_CELLS = 10_000
"""Cells on which steps are tried at most: a step then takes milliseconds."""
TRIAL_SECONDS = 1.0
"""How long steps are tried."""
FIRST = 3
"""Steps after which everything is compiled and made."""


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to take.

    Attributes
    ----------
    shape : tuple of int
        The mesh.
    scheme, method : str
    memory : RunMemory
    bytes_saved : int
        Of the densities in its file, nearly all of it.
    seconds : float
        Of computing, about; infinity where the first steps do not get on.
    steps : float
        About.
    trial : tuple of int
        The mesh on which steps were tried.
    tried : int
        How many.
    """

    shape: tuple[int, ...]
    scheme: str
    method: str
    memory: RunMemory
    bytes_saved: int
    seconds: float
    steps: float
    trial: tuple[int, ...]
    tried: int


def forecast(
    problem: Problem, arguments: Mapping[str, Any], clock: Callable[[], float] = time.perf_counter
) -> Forecast:
    """What a run of `mfpde.solve` will take.

    The first steps are tried for a second, on the mesh of the run or, where that has more than 10 000 cells, on a
    coarser one in the same proportions. The rest is extrapolated: steps stay as long as the last one; on a finer mesh
    explicit ones are shorter in proportion to the cells, and each costs in proportion to their number. What comes later
    in a run may be stiffer or quieter: within a factor of three, mostly.

    Parameters
    ----------
    problem : Problem
    arguments : mapping
        Keyword arguments of `mfpde.solve`; without a tolerance, which leaves the mesh open.
    clock : callable, optional
        Seconds.

    Raises
    ------
    MemoryError
        If the run does not fit into memory.
    ValueError
        For what `mfpde.solve` refuses.
    """
    options = RunOptions.of(arguments)
    grid = problem.grid(options.shape)
    check_run(problem, options)
    trial = _coarser(grid)
    with quiet():  # what there is to say is said when it runs
        _timed(problem, arguments, trial, clock, max_steps=FIRST)  # compiled from now on
        begun, made = _timed(problem, arguments, trial, clock, max_steps=FIRST)
        run, took = _timed(problem, arguments, trial, clock, time_limit=TRIAL_SECONDS + made)
    steps, each = _extrapolated(run, (took - made) / max(run.stats["steps"] - begun.stats["steps"], 1))
    explicit = not str(run.configuration["method"]).startswith("Implicit")
    finer = max(n / m for n, m in zip(grid.shape, trial, strict=True)) if explicit else 1.0
    share = grid.size / math.prod(trial)
    saves = options.save if isinstance(options.save, int) else len(list(options.save)) + 2
    return Forecast(
        shape=grid.shape,
        scheme=str(run.configuration["scheme"]),
        method=str(run.configuration["method"]),
        memory=run_memory(problem, options, grid),
        bytes_saved=8 * grid.size * (saves + 1),
        seconds=(made + steps * finer * each) * share,
        steps=steps * finer,
        trial=trial,
        tried=run.stats["steps"],
    )


def _coarser(grid: Grid) -> tuple[int, ...]:
    """A mesh in the same proportions with few cells; the same one where it has."""
    share = min(1.0, (TRIAL_CELLS / grid.size) ** (1.0 / grid.dimension))
    return grid.shape if share == 1.0 else tuple(max(4, int(share * n)) for n in grid.shape)


def _timed(
    problem: Problem, arguments: Mapping[str, Any], shape: tuple[int, ...], clock: Callable[[], float], **limit: Any
) -> tuple[Solution, float]:
    """A run that is cut short, and the seconds that it took."""
    own = {name: value for name, value in arguments.items() if name not in ("output", "checkpoint", *limit)}
    began = clock()
    run = solve(problem, **(own | {"shape": shape, "save": 2, "progress": False, "throw": False} | limit))
    return run, clock() - began


def _extrapolated(run: Solution, each: float) -> tuple[float, float]:
    """How many steps the whole run has, about, and the seconds of each."""
    d, end = run.diagnostics, run.configuration["t_end"]
    steps, t = run.stats["steps"], float(d["time"][-1])
    if t >= end or run.result.ok:
        return steps, each
    last = float(d["dt"][-1])
    return (steps + (end - t) / last if last > 0 else math.inf), each
