"""The package against the machine: where the time of a run goes, and how far it is from the memory's bandwidth."""

from __future__ import annotations

import cProfile
import math
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import mfpde as mf
from mfpde.support.threads import available, thread_limit
from validation.benchmarks._measure import flop_rate, in_subprocess, median_time, short_time, triad_time
from validation.benchmarks._tasks import problem_of_dimension
from validation.benchmarks._work import Work

__all__ = ["PARTS", "measure"]

Progress = Callable[[str], None]
SEED = 0
WENO_FLOPS = 150
"""Operations of a Weno5 face, estimated from its formulas to 30 % or so: three interpolants, indicators and weights,
upwind (70), velocity (10), the flux corrections (15), tail guard, positivity limiter and divergence (55)."""


def _runs(quick: bool) -> list[tuple[str, Callable[[], mf.Problem], mf.Scheme, tuple[int, ...]]]:
    weno, muscl, upwind = mf.Weno5(), mf.Muscl(), mf.Upwind()
    line, plane, network = Work.BUMPS_1D, Work.BUMPS_2D, Work.NETWORK
    rows: list[tuple[str, Callable[[], mf.Problem], mf.Scheme, tuple[int, ...]]] = [
        (line.value, line.problem, weno, (100,)),
        (line.value, line.problem, weno, (200,)),
        (line.value, line.problem, muscl, (200,)),
        (plane.value, plane.problem, weno, (64, 64)),
        (network.value, network.problem, weno, (96, 96)),
    ]
    if quick:
        return rows
    return [
        *rows,
        (line.value, line.problem, weno, (400,)),
        (line.value, line.problem, muscl, (800,)),
        (line.value, line.problem, upwind, (400,)),
        (plane.value, plane.problem, weno, (128, 128)),
        (plane.value, plane.problem, weno, (256, 256)),
        (plane.value, plane.problem, muscl, (128, 128)),
        (plane.value, plane.problem, muscl, (256, 256)),
        (network.value, network.problem, weno, (192, 192)),
        (network.value, network.problem, muscl, (192, 192)),
        ("gaussian-bumps-3d", lambda: problem_of_dimension(3), weno, (48, 48, 48)),
        ("gaussian-bumps-3d", lambda: problem_of_dimension(3), weno, (96, 96, 96)),
    ]


def runs(quick: bool, progress: Progress) -> list[dict[str, Any]]:
    """Problem x scheme x size: accuracy, time and where it goes, memory, fraction of the bound."""
    references: dict[str, float | None] = {"gaussian-bumps-3d": None}
    rows = []
    for name, build, scheme, shape in _runs(quick):
        if name not in references:
            result = mf.characteristics(build(), save=2, tolerance=1e-7 if quick else 1e-9, progress=False)
            references[name] = float(result.energy[-1])
        rows.append(_run(name, build(), scheme, shape, references[name]))
        progress(f"{name}, {type(scheme).__name__}, {_by(shape)}: {rows[-1]['wall']:.3g} s")
    return rows


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def _run(
    name: str, problem: mf.Problem, scheme: mf.Scheme, shape: tuple[int, ...], reference: float | None
) -> dict[str, Any]:
    cells = math.prod(shape)

    def solve() -> mf.Solution:
        return mf.solve(problem, shape, scheme=scheme, save=2, progress=False)

    solution = solve()
    wall = median_time(solve, 5, 30.0, warm_up=0)
    steps, evaluations = int(solution.stats["steps"]), int(solution.stats["evaluations"])
    tracemalloc.start()
    solve()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    triad = triad_time(cells)
    row = {
        "problem": name,
        "scheme": type(scheme).__name__,
        "shape": list(shape),
        "cells": cells,
        "error": None if reference is None else abs(float(solution.energy[-1]) / reference - 1),
        "wall": wall,
        "steps": steps,
        "redone": int(solution.stats["redone"]),
        "evaluations": evaluations,
        "step": wall / steps,
        "cells_per_second": cells * evaluations / wall,
        "peak_bytes": peak,
        "bytes_per_cell": peak / cells,
        "triad": triad,
        "fraction_of_bound": triad * evaluations / wall,
    }
    try:
        row["split"] = _split(problem, scheme, shape, solution, wall)
    except (AttributeError, TypeError) as error:  # the inside of the solver has changed
        row["split"] = {"unavailable": f"{type(error).__name__}: {error}"}
    return row


class _PassByPass(mf.CompiledAlgebra):
    """Not the package's own: small meshes have no compiled program with it, and Python goes from pass to pass."""


def _split(
    problem: mf.Problem, scheme: mf.Scheme, shape: tuple[int, ...], solution: mf.Solution, wall: float
) -> dict[str, float]:
    """Seconds of a run by parts: each part alone at the end state, times how often the run calls it.

    Where a run is one compiled program it has no parts that could be counted: then those of the same run from pass to
    pass, and of its time.
    """
    passes: dict[str, Any] = {"scheme": scheme, "save": 2, "progress": False, "algebra": _PassByPass()}
    if mf.Solver(problem, shape, scheme=scheme).program is not None:
        wall = median_time(lambda: mf.solve(problem, shape, **passes), 3)
    profile = cProfile.Profile()
    profile.enable()
    mf.solve(problem, shape, **passes)
    profile.disable()
    calls: dict[str, int] = {}
    for entry in profile.getstats():
        code = entry.code
        if not isinstance(code, str) and "mfpde" in code.co_filename:
            calls[code.co_qualname] = calls.get(code.co_qualname, 0) + entry.callcount
    counts = {
        "non-local": max((n for name, n in calls.items() if name.endswith(".evaluate") and "Flow" in name), default=0),
        "rate": calls.get("Transport.rate", 0),
        "outflow": calls.get("Transport.outflow", 0),
    }

    def parts(n: tuple[int, ...], mu: Any = None) -> dict[str, float]:
        solver = mf.Solver(problem, n, scheme=scheme, algebra=_PassByPass())
        with thread_limit(None, math.prod(n)):
            state = solver.init(mu)
            V = solver.flow.energy.evaluate(state.mu)[0].copy()
            out = np.empty_like(V)
            transport = solver.flow.transport
            alone = {
                "non-local": short_time(lambda: solver.flow.energy.evaluate(state.mu)),
                "outflow": short_time(lambda: transport.outflow_rate(V, state.mu)),
            }
            # a step asks for the outflow first, and the rate then knows its speeds
            known = transport.outflow(V, state.mu)
            alone["rate"] = short_time(lambda: transport.rate(state.mu, V, out=out, dt=1e-3, outflow=known))
        return alone

    alone = parts(shape, np.asarray(solution.density[-1]))
    seconds = {name: counts[name] * alone[name] for name in counts}
    # on a mesh without cells to speak of a step is Python: of the stepper, since the calls of the parts are taken out
    tiny = (8,) * len(shape)
    small = parts(tiny)
    steps = int(solution.stats["steps"])
    with thread_limit(1, math.prod(tiny)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = 50
        settings: dict[str, Any] = passes | {"controller": mf.FixedStep(1e-5)}
        few, many = (
            median_time(lambda k=k: mf.solve(problem, tiny, k * 1e-5, **settings), 5)  # type: ignore[misc]
            for k in (2, 2 + count)
        )
    step = max(many - few, 0.0) / count
    python = steps * max(step - sum(counts[name] / steps * small[name] for name in counts), 0.0)
    sweeps = seconds["rate"] + seconds["outflow"]
    rest = wall - seconds["non-local"] - sweeps - python
    return {
        "non_local": seconds["non-local"],
        "sweeps": sweeps,
        "python": python,
        "reaction_and_stages": rest,
        "calls_rate": counts["rate"],
        "calls_outflow": counts["outflow"],
        "calls_non_local": counts["non-local"],
    }


def sweeps(quick: bool, progress: Progress) -> dict[str, Any]:
    """All fluxes and their divergence on large meshes, in units of a triad over arrays of that size."""
    shapes: list[tuple[int, ...]] = [(2048, 2048), (161, 161, 161), (45, 45, 45, 45)]
    if quick:
        shapes = [(400, 400), (54, 54, 54), (20, 20, 20, 20)]
    rng = np.random.default_rng(SEED)
    flops = flop_rate()
    rows: list[dict[str, Any]] = []
    for shape in shapes:
        grid = mf.Grid([mf.Axis(name, -4.0, 4.0) for name in "wxyz"[: len(shape)]], shape)
        mu, V = np.ones(shape), np.zeros(shape)
        for i in range(len(shape)):
            x = grid.centres(i).reshape([-1 if j == i else 1 for j in range(len(shape))])
            mu *= np.exp(-0.5 * x**2)
            V += np.cos(x + rng.uniform())
        out = np.empty(shape)
        with thread_limit(None, grid.size):
            weno = mf.Transport(grid, mf.Weno5())
            muscl = mf.Transport(grid, mf.Muscl())
            known = weno.outflow(V, mu)  # as in a step, which asks for the outflow first

            tasks: dict[str, Callable[[], object]] = {
                "Muscl": lambda: muscl.rate(mu, V, out=out),  # noqa: B023
                "Weno5": lambda: weno.rate(mu, V, out=out),  # noqa: B023
                "Weno5, limiter": lambda: weno.rate(mu, V, out=out, dt=1e-5, outflow=known),  # noqa: B023
                "Weno5, outflow": lambda: weno.outflow_rate(V, mu),  # noqa: B023
            }
            # the outflow last: it finds the speeds anew, and the token counts for nothing
            for name, task in tasks.items():
                # in turns: what else the machine does hits both
                times, triads = [], []
                for _ in range(2 if quick else 3):
                    triads.append(triad_time(grid.size, 9))
                    times.append(median_time(task, 7, 20.0))
                seconds, triad = float(np.median(times)), float(np.median(triads))
                bound = WENO_FLOPS * len(shape) * grid.size / flops
                rows.append(
                    {
                        "shape": list(shape),
                        "scheme": name,
                        "seconds": seconds,
                        "triad": triad,
                        "ratio": seconds / triad,
                        "ratio_per_axis": seconds / triad / len(shape),
                        "bandwidth": 24 * grid.size / triad,
                        "cells_per_second": grid.size / seconds,
                        "fraction_of_flop_bound": bound / seconds if name in ("Weno5", "Weno5, limiter") else None,
                        "limit": {2: {"Muscl": 2.5, "Weno5": 8.0, "Weno5, limiter": 8.0}}.get(len(shape), {}).get(name),
                    }
                )
                progress(f"{name} on {_by(shape)}: {seconds / triad:.2f} triads")
    plane = {row["scheme"]: row["ratio_per_axis"] for row in rows if len(row["shape"]) == 2}
    for row in rows:
        row["per_axis_of_2d"] = row["ratio_per_axis"] / plane[row["scheme"]]
    return {"threads": available(), "flops": flops, "flops_of_a_face": WENO_FLOPS, "rows": rows}


def _paths() -> dict[str, Callable[[], mf.Problem]]:
    from scipy import stats

    def convolution() -> mf.Problem:
        kernel = mf.TranslationInvariantKernel(lambda x, y: np.exp(-(x**2 + y**2) / 4))
        centre = mf.External(lambda x, y: 0.5 * (x**2 + y**2))
        return mf.Problem(
            energy=centre + mf.Interaction(kernel),
            axes=[mf.Axis("x", -5, 5), mf.Axis("y", -5, 5)],
            initial=mf.Product(x=stats.norm(0, 0.8), y=stats.norm(0, 0.8)),
            alpha=1.0,
        )

    return {"feature": Work.NETWORK.problem, "separable": Work.BUMPS_2D.problem, "FFT": convolution}


def linearity(quick: bool, progress: Progress) -> dict[str, Any]:
    """Time of a step against cells, and the exponent fitted."""
    sides = (100, 178, 316) if quick else (316, 562, 1000, 1778, 3162)
    result: dict[str, Any] = {}
    for name, build in _paths().items():
        times = []
        for n in sides:
            solver = mf.Solver(build(), (n, n), controller=mf.FixedStep(1e-6))
            with thread_limit(None, n * n):
                state = solver.init()

                def step() -> None:
                    nonlocal state
                    state, info = solver.step(state, state.t + 1.0)  # noqa: B023
                    assert info.result is None, info.result

                times.append(median_time(step, 5, 20.0))
            progress(f"{name} path, {n} x {n}: {times[-1]:.3g} s a step")
        exponent = float(np.polyfit(np.log(np.square(sides)), np.log(times), 1)[0])
        result[name] = {
            "cells": [n * n for n in sides],
            "step": times,
            "exponent": exponent,
            "limit": 1.1,
            "plan": repr(solver.flow.energy),
        }
    return result


def data(quick: bool, progress: Progress) -> dict[str, Any]:
    """A data set of a million samples against one of a thousand, each in a process of its own."""
    n, steps = (20, 5) if quick else (64, 15)
    rows = []
    for samples in (1000, 50_000 if quick else 1_000_000):
        rows.append(in_subprocess("memory_of_data", samples, n, steps))
        progress(f"{samples} samples: {rows[-1]}")
    ratio = rows[1]["step"] / rows[0]["step"] if all("step" in row for row in rows) else None
    return {"cells": n**3, "rows": rows, "ratio": ratio, "limit": 1.2}


def three_gaussians(quick: bool, progress: Progress) -> dict[str, Any]:
    """The mixture of three Gaussians to t = 10."""
    n, t_end = (64, 1.0) if quick else (256, 10.0)
    problem = mf.problems.three_gaussians()
    solution = mf.solve(problem, (n, n), t_end, save=2, progress=False)
    wall = median_time(
        lambda: mf.solve(problem, (n, n), t_end, save=2, progress=False), 1 if quick else 3, 60.0, warm_up=0
    )
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exact = mf.characteristics(problem, t_end, save=2, tolerance=1e-6, progress=False)
    row = {
        "shape": [n, n],
        "t_end": t_end,
        "wall": wall,
        "limit": 5.0,
        "steps": int(solution.stats["steps"]),
        "energy": float(solution.energy[-1]),
        "reference": float(exact.energy[-1]),
        "reference_error": float(exact.error_estimate),
        "reference_seconds": time.perf_counter() - start,
        "reference_warnings": [str(w.message) for w in caught],
        "error": abs(float(solution.energy[-1]) / float(exact.energy[-1]) - 1),
        "error_of_initial": abs(float(solution.energy[-1]) - float(exact.energy[-1])) / float(exact.energy[0]),
    }
    progress(f"three-gaussians: {wall:.3g} s, error {row['error']:.1e}")
    return row


def compiling(quick: bool, progress: Progress) -> list[dict[str, Any]]:
    """First runs of each scheme: with an empty cache of compiled code, and in a new process with the cache filled.

    On few cells, and on so many that axes are swept by rows too, which is more to compile.
    """
    rows = []
    for scheme in ("Weno5",) if quick else ("Upwind", "Muscl", "Weno5"):
        for cells in (32,) if quick else (32, 160):
            with tempfile.TemporaryDirectory() as folder:
                environment = {"NUMBA_CACHE_DIR": folder}
                cold = in_subprocess("first_runs", scheme, cells, environment=environment)
                cached = in_subprocess("first_runs", scheme, cells, environment=environment)
            rows.append({"scheme": scheme, "cells": cells, "cold": cold, "cached": cached})
            progress(f"{scheme}, {cells} x {cells}: cold {cold}, cached {cached}")
    return rows


def memory(quick: bool, progress: Progress) -> list[dict[str, Any]]:
    """Peak memory a cell of runs in a process of their own, and what it makes of 10^8 cells."""
    rows = []
    for dimension, n in ((2, 400), (3, 54), (4, 20)) if quick else ((2, 2048), (3, 161), (4, 45)):
        row = in_subprocess("memory_of_run", dimension, n, 3)
        row = {"shape": [n] * dimension, **row}
        if "bytes_per_cell" in row:
            row["gib_for_1e8"] = row["bytes_per_cell"] * 1e8 / 2**30
        rows.append(row)
        progress(f"memory, {dimension}-D: {row}")
    return rows


PARTS: dict[str, Callable[[bool, Progress], Any]] = {
    "compiling": compiling,
    "sweeps": sweeps,
    "runs": runs,
    "linearity": linearity,
    "data": data,
    "three_gaussians": three_gaussians,
    "memory": memory,
}


def measure(
    quick: bool, progress: Progress, only: Sequence[str] = (), save: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """All parts, or those named; a part that raises is recorded as such and the others go on."""
    result: dict[str, Any] = {}
    for name in only or PARTS:
        start = time.perf_counter()
        try:
            result[name] = PARTS[name](quick, progress)
        except Exception as error:
            result[name] = {"failed": f"{type(error).__name__}: {error}"}
            progress(f"{name} failed: {error}")
        result.setdefault("seconds", {})[name] = round(time.perf_counter() - start, 1)
        if save is not None:
            save(result)
    return result
