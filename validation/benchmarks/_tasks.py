"""What is measured in a process of its own: compile times and peak memory. Every function returns a JSON object."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["first_runs", "memory_of_data", "memory_of_run"]


def first_runs(scheme: str, cells: int) -> dict[str, Any]:
    """Import, first and second run of a scheme on a two-dimensional problem with so many cells an axis."""
    start = time.perf_counter()
    import mfpde as mf

    imported = time.perf_counter() - start
    problem = mf.problems.three_gaussians()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        mf.solve(problem, (cells, cells), 0.1, scheme=getattr(mf, scheme)(), save=2, progress=False)
        times.append(time.perf_counter() - start)
    return {"import": imported, "first": times[0], "second": times[1]}


def memory_of_run(dimension: int, cells: int, steps: int, scheme: str = "Weno5") -> dict[str, Any]:
    """Growth of the peak memory in a run with so many cells along each axis, a cell: two frames saved."""
    import mfpde as mf
    from validation.benchmarks._measure import peak_memory

    def run(n: int, count: int) -> Any:
        problem = problem_of_dimension(dimension)
        controller = mf.FixedStep(1e-4)
        shape = (n,) * dimension
        return mf.solve(
            problem,
            shape,
            count * 1e-4,
            scheme=getattr(mf, scheme)(),
            controller=controller,
            save=2,
            progress=False,
        )

    run(8 if dimension > 2 else 16, 1)
    before = peak_memory()
    start = time.perf_counter()
    solution = run(cells, steps)
    seconds = time.perf_counter() - start
    total = cells**dimension
    return {
        "cells": total,
        "bytes_per_cell": (peak_memory() - before) / total,
        "seconds": seconds,
        "ok": solution.result.ok,
    }


def problem_of_dimension(dimension: int) -> Any:
    """A smooth problem on a box of 2, 3 or 4 axes."""
    import numpy as np

    import mfpde as mf

    if dimension in (1, 2, 3):
        centres = [tuple(sign * value for value in (1.5, 1.0, 0.5)[:dimension]) for sign in (-1, 1)]
        flat: Any = [c[0] for c in centres] if dimension == 1 else centres
        return mf.problems.gaussian_bumps(centres=flat)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 2))
    return mf.problems.network(x, np.tanh(x[:, 0] - 0.5 * x[:, 1]))


def data_problem(samples: int) -> Any:
    """A tanh network on (c, a, b) with so many samples of one curve."""
    import numpy as np

    import mfpde as mf

    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, samples)
    y = np.sin(2 * x) + 0.1 * rng.normal(size=samples)
    return mf.problems.network(x, y, alpha=1.0, t_end=2.0)


def memory_of_data(samples: int, n: int, steps: int) -> dict[str, Any]:
    """Set-up time, peak memory and time of a step for a network on so many samples, on n^3 cells."""
    import mfpde as mf
    from validation.benchmarks._measure import median_time, peak_memory

    small = data_problem(1000)
    mf.solve(small, (8, 8, 8), 1e-3, controller=mf.FixedStep(1e-3), save=2, progress=False)
    before = peak_memory()
    start = time.perf_counter()
    problem = data_problem(samples)
    bound = problem.bound_energy
    setup = time.perf_counter() - start
    peak = peak_memory() - before
    solver = mf.Solver(problem, (n,) * 3, controller=mf.FixedStep(1e-4))
    state = solver.init()

    def step() -> None:
        nonlocal state
        state, _ = solver.step(state, state.t + 1.0)

    seconds = median_time(step, steps)
    return {
        "samples": samples,
        "setup": setup,
        "peak_bytes": peak,
        "data_bytes": 16 * samples,
        "features_bytes": 8 * samples * n**2,
        "rank": int(bound.response_size),
        "step": seconds,
    }
