"""The error that a run states against the error that it has, what the statement costs, and accuracy on demand.

Every shipped problem, and the places that were found in which default runs were wrong in silence, is solved on several
meshes. At the save times the largest estimate is held against the largest error, which characteristics tell at
temperature 0 and finer meshes elsewhere. Errors below a millionth of the energy's fall, or below three times what the
reference is uncertain by, count for nothing. Then `tolerance=` is asked for, with no other argument.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import mfpde as mf
from validation._runner import Progress, Study

HEADLINE = "estimates below a third of the error"

Array = NDArray[np.float64]

MESHES: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((40,), (75,), (150,), (300,)),
    2: ((12, 12), (16, 256), (32, 32), (48, 48), (72, 72)),
    3: ((12,) * 3, (16,) * 3, (24,) * 3),
    4: ((8,) * 4, (12,) * 4),
}
FINE = {1: (1600, 800), 2: (320, 160), 3: (48, 24), 4: (20, 10)}
COUNTED, SURE = 1e-6, 3.0
"""Errors that count: above this share of the fall of the energy, and above this many times the reference's own."""
TOO_LOW, LOW_SHARE, MEDIAN, HIGH, HIGH_SHARE = 1.0 / 3.0, 0.05, 10.0, 30.0, 0.10
COSTS = {1: 0.70, 2: 0.25, 3: 0.25, 4: 0.25}
ASKED, BUDGET, KNOWN, REACHED = 1e-3, 120.0, 3e-4, 15
ISSUE = "stated when the estimate was asked for"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; the criteria stand in the constants above and in the rows."""
    study = Study("Accuracy", (__doc__ or "").split("\n\n", 1)[1], quick, progress)
    references: dict[str, Reference] = {}
    study.parts(
        (lambda study: _estimates(study, references), 0.5),
        (_costs, 0.1),
        (lambda study: _on_demand(study, references), 0.4),
    )
    return study


def problems() -> dict[str, Callable[[], mf.Problem]]:
    """All shipped problems, and places in which runs were wrong in silence."""
    shipped: dict[str, Callable[[], mf.Problem]] = {
        name: (lambda name=name: mf.problems.get(name))  # type: ignore[misc]
        for name in mf.problems.names()
    }
    return shipped | {
        "quadratic-well, alpha = 100": lambda: mf.problems.quadratic_well(alpha=100.0),
        "linear-neuron, target = 20": lambda: mf.problems.linear_neuron(target=20.0),
        "gaussian-bumps, start of 0.1": lambda: mf.problems.gaussian_bumps(initial_std=0.1),
        "gaussian-bumps, start of 0.02": lambda: mf.problems.gaussian_bumps(initial_std=0.02),
        "gaussian-bumps, an atom": lambda: replace(mf.problems.gaussian_bumps(), initial=mf.Dirac(x=0.313)),
        "gaussian-bumps, a jump": lambda: replace(
            mf.problems.gaussian_bumps(), initial=mf.Product(x=stats.uniform(-1.013, 2.2))
        ),
    }


@dataclass(frozen=True)
class Reference:
    """Energies at the save times of a run, and what they are uncertain by."""

    energy: Array
    error: float

    @property
    def fall(self) -> float:
        """How far the energy falls."""
        return float(np.ptp(self.energy))


def reference(problem: mf.Problem) -> Reference:
    """By characteristics at temperature 0, where they are sure to a ten-thousandth of the fall, else by two meshes."""
    times = np.linspace(0.0, problem.t_end, 11)
    found: list[Reference] = []
    if problem.noiseless and len(problem.axes) <= 3:
        try:
            nodes = mf.characteristics(problem, save=times.tolist(), tolerance=1e-7, time_limit=100, progress=False)
            found.append(Reference(nodes.energy, float(np.abs(nodes.energy_error).max())))
        except ValueError:
            pass
    if not found or not found[0].error <= 1e-4 * found[0].fall:
        control = mf.ErrorControl(1e-6)
        fine, coarse = (_solved(problem, n, controller=control, estimate=False).energy for n in FINE[len(problem.axes)])
        found.append(Reference(fine, float(np.abs(fine - coarse).max()) / 3.0))
    return min(found, key=lambda one: one.error)


def _solved(problem: mf.Problem, shape: Any = None, **options: Any) -> mf.Solution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coarse meshes are what this is about
        return mf.solve(problem, shape, progress=False, throw=False, **options)


def _estimates(study: Study, references: dict[str, Reference]) -> None:
    """The largest estimate against the largest error."""
    found = dict(list(problems().items())[:: 6 if study.quick else 1])
    rows: list[list[str | float | int]] = []
    ratios: list[float] = []
    for i, (name, make) in enumerate(found.items()):
        study.progress(i / len(found), name)
        problem = make()
        known = references[name] = reference(problem)
        meshes: Sequence[Any] = (None, *MESHES[len(problem.axes)])
        for shape in meshes[:2] if study.quick else meshes:
            solution = _solved(problem, shape)
            if solution.energy.shape != known.energy.shape:
                continue
            error = float(np.abs(solution.energy - known.energy).max())
            estimate = float(solution.energy_error.max())
            counts = error > max(COUNTED * known.fall, SURE * known.error)
            cells = " x ".join(map(str, solution.grid.shape))
            rows.append(
                [name, cells, error / known.fall, estimate / known.fall, estimate / error if counts else math.nan]
            )
            if counts:
                ratios.append(estimate / error)
    ratio = np.array(ratios)
    count = f"{len(ratio)} runs"
    low = float(np.mean(~(ratio >= TOO_LOW)))  # a NaN is no estimate
    study.at_most("share of runs with estimates below a third of the error", ISSUE, LOW_SHARE, low, note=count)
    study.at_most("median of estimate over error", ISSUE, MEDIAN, float(np.median(ratio)), note=count)
    above = float(np.mean(ratio > HIGH))
    study.at_most("share of runs with estimates above 30 times the error", ISSUE, HIGH_SHARE, above, note=count)
    study.table("Estimates", ["problem", "cells", "error / fall", "estimate / fall", "ratio"], rows)


def _costs(study: Study) -> None:
    """Processor time of default runs with and without."""
    names = mf.problems.names()[:: 6 if study.quick else 1]
    rows: list[list[str | float | int]] = []
    shares: dict[int, list[float]] = {}
    for i, name in enumerate(names):
        study.progress(i / len(names), f"costs: {name}")
        problem = mf.problems.get(name)
        _solved(problem)
        spent: dict[bool, list[float]] = {True: [], False: []}
        while sum(map(len, spent.values())) < 10 and sum(map(sum, spent.values())) < 30.0:
            for estimate in (False, True):
                began = time.process_time()
                _solved(problem, estimate=estimate)
                spent[estimate].append(time.process_time() - began)
        without = float(np.median(spent[False]))
        share = float(np.median(spent[True])) / without - 1.0
        shares.setdefault(len(problem.axes), []).append(share)
        rows.append([name, " x ".join(map(str, problem.grid(None).shape)), 1e3 * without, share])
    for dimension, found in sorted(shares.items()):
        study.at_most(
            f"cost of the estimate, of the run's processor time, {dimension} axes, median",
            ISSUE,
            COSTS[dimension],
            float(np.median(found)),
            note=f"{len(found)} problems at their default meshes, medians of interleaved runs",
        )
    study.table("Costs", ["problem", "cells", "run in ms", "estimate / run"], rows)


def _on_demand(study: Study, references: dict[str, Reference]) -> None:
    """``solve(problem, tolerance=1e-3)`` and nothing else."""
    names = mf.problems.names()[:: 6 if study.quick else 1]
    rows: list[list[str | float | int]] = []
    reached = wrong = 0
    for i, name in enumerate(names):
        study.progress(i / len(names), f"on demand: {name}")
        problem = mf.problems.get(name)
        known = references.get(name) or reference(problem)
        began = time.perf_counter()
        solution = _solved(problem, tolerance=ASKED, time_limit=BUDGET)
        seconds = time.perf_counter() - began
        scale = solution.energy_scale
        share = math.nan
        if solution.energy.shape == known.energy.shape:
            share = float(np.max(np.abs(solution.energy - known.energy) / scale))
        said = solution.result is mf.Result.SUCCESS
        judged = known.error <= KNOWN * float(scale.min())
        reached += said
        wrong += said and judged and not share <= ASKED
        cells = " x ".join(map(str, solution.grid.shape))
        rows.append(
            [name, cells, "reached" if said else "not reached", share, known.error / float(scale.min()), seconds]
        )
    study.at_most("runs that say reached, and are not", ISSUE, 0, wrong)
    if not study.quick:
        study.at_least("problems on which a thousandth is reached within two minutes", ISSUE, REACHED, reached)
    study.table("Accuracy on demand", ["problem", "cells", "said", "error / scale", "reference's own", "seconds"], rows)
