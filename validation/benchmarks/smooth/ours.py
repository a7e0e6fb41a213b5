"""What this package does: characteristics in hindsight and with their error estimate, and the mesh, in both ways."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.assembly import lane_of
from mfpde.lagrangian.bulk import Bulk, bulk_of
from mfpde.lagrangian.lane import Counts, LaneRun
from mfpde.lagrangian.nodes import Dynamics, Stepping
from validation.benchmarks._work import Work, mesh
from validation.benchmarks.peers._lines import Lines
from validation.benchmarks.smooth.choice import SAVES, TARGETS, Curve, Trial, Way, error_of, fewest_cells
from validation.benchmarks.smooth.reference import MARGIN, curve_of_lines

__all__ = [
    "compiled",
    "density_cost",
    "estimated",
    "estimated_trials",
    "hindsight_trials",
    "mesh_trials",
    "noise_trials",
    "reference_cost",
    "run_of_nodes",
    "table_cost",
]

Array = NDArray[np.float64]

NODES = {
    Work.BUMPS_1D: (10, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 32, 40),
    Work.BUMPS_2D: (10, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 32),
    Work.BUMPS_3D: (8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 22, 23, 24, 26, 28, 30, 33, 36),
    Work.NETWORK: (10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 32, 36, 40, 48),
    Work.NETWORK_3D: (8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 22, 24, 28, 32),
}
TOLERANCES = tuple(10.0 ** (-k / 2) for k in range(4, 17))
"""1e-2 to 1e-8, half a decade apart."""
FINE_STEPS = {1: 1e-9, 2: 1e-9, 3: 1e-7}
"""Tolerance of steps that are as good as exact here, by dimension."""
FINE_TABLES = {1: 1.0, 2: 1.0, 3: 0.01}
"""Accuracy of their tables, as a share of that. Bumps in space lose 95 % of their energy, and tables that are good to
1e-7 of what there was at first are 1e-5 of the rest off."""
TABLES = (10.0, 1.0, 0.1)
"""Accuracies of tables for where the mass is, as shares of the tolerance of steps."""
PRUNED = (0.3, 0.03)
"""Mass of the nodes of least weight that are left out, as shares of the tolerance of steps."""
PATIENCE = 20.0
"""Processor seconds of a call with an estimate, the first one, after which no lower tolerance is asked for."""
LONG = 1.0
"""Seconds of a call that is not repeated for the cost of its tables."""
SHARES: dict[Work, tuple[tuple[float, ...], ...]] = {
    Work.NETWORK: ((0.5, 1.0), (0.7, 1.0), (1.0, 1.0)),
    Work.NETWORK_3D: ((1.0, 1.0, 0.8), (1.2, 1.0, 0.9)),
}
"""Nodes along each axis over those of the ladder, where the axes differ: the amplitude's, the weight's, the bias's."""
DENSITY_CELLS = 64
"""Cells along each axis on which the density is asked for."""
BEST = 1e-9
"""Tolerance of the nodes by which a density is judged."""
FINER = {Work.BUMPS_1D: 3, Work.BUMPS_2D: 3, Work.NETWORK: 5}
"""How many times as many cells signed differences have: an odd number. In 3-D these are too many."""
CELLS = {
    Work.BUMPS_1D: (32, 48, 64, 96, 128, 200, 300),
    Work.BUMPS_2D: (24, 32, 48, 64, 96, 128, 192),
    Work.BUMPS_3D: (24, 32, 48, 64),
    Work.NETWORK: (48, 64, 96, 128, 192, 256, 320),
    Work.NETWORK_3D: (32, 48, 64),
    Work.NOISE: (32, 48, 64, 96, 128, 200, 300),
}
SCHEMES = (mf.Weno5, mf.ScharfetterGummel)
"""Of the mesh in hindsight."""
STEPS = tuple(10.0**-k for k in range(2, 9))
"""Tolerances of its steps."""


def run_of_nodes(problem: mf.Problem, counts: Sequence[int]) -> Callable[..., LaneRun]:
    """One run on a given number of nodes along each axis: ``(rtol, tables=1.0, pruned=0.0, bulk=None) -> LaneRun``.

    `tables` is their accuracy and `pruned` the mass of the nodes of least weight that are left out, in tolerances;
    tables are for where the mass is, where that is told.

    The nodes are laid and the tables made before, as the peers have the arrays of their meshes.
    """
    dynamics = Dynamics(problem)
    points, logs = nodes_of(problem.mu_0.blocks(tuple(counts)))
    order = np.argsort(logs)
    below = np.cumsum(np.exp(logs[order]))
    times = np.array(SAVES)

    def run(rtol: float, tables: float = 1.0, pruned: float = 0.0, bulk: Bulk | None = None) -> LaneRun:
        lane, kept = lane_of(dynamics, tables * rtol, bulk=bulk), np.sort(order[below > pruned * rtol])
        nodes = points[kept], logs[kept] - np.log(np.exp(logs[kept]).sum())
        if isinstance(lane, str):
            raise RuntimeError(lane)
        prepared = LaneRun(lane, dynamics, nodes, times, Stepping(rtol, quick=True), None)
        prepared.by_tables = True  # one call makes the run and its energies
        return prepared

    return run


def _energies(run: LaneRun) -> Array:
    """The energies at `SAVES`, from the start."""
    run.begin()
    return run.go()


def _seen(run: LaneRun) -> Bulk:
    """Where the mass of a run is that has been made."""
    m, d, n = len(run.times), run.d, run.n
    points = run.states[:, : d * n].reshape(m, d, n).swapaxes(1, 2)
    return bulk_of(run.dynamics.problem.axes, points, run.weights)


def _hindsight(
    run: Callable[..., LaneRun], counts: tuple[int, ...], rtol: float, shares: tuple[float, float], bulk: Bulk
) -> Trial:
    prepared = run(rtol, *shares, bulk)
    curve = Curve(_energies(prepared), 0.0, float(prepared.counts[Counts.EVALUATIONS] * prepared.n))
    return Trial(
        Way("characteristics, hindsight", "", counts, rtol, shares=shares), curve, partial(_energies, prepared)
    )


def _counts(work: Work, sizes: Sequence[int]) -> list[list[tuple[int, ...]]]:
    """Ladders of counts: the same number along each axis, or, where the axes differ, by `SHARES`."""
    shares = SHARES.get(work, ((1.0,) * work.dimension,))
    return [[tuple(max(4, round(share * n)) for share in each) for n in sizes] for each in shares]


def compiled(work: Work) -> bool:
    """Whether nodes are moved by a compiled program."""
    return not work.temperature and not isinstance(lane_of(Dynamics(work.problem()), 1e-3), str)


def hindsight_trials(
    work: Work, reference: Array, sizes: Sequence[int] | None = None, tolerances: Sequence[float] = TOLERANCES
) -> Iterator[Trial]:
    """Runs on the fewest nodes that do for each accuracy, by tolerance; none where nothing compiled moves them."""
    if not compiled(work):
        return
    problem = work.problem()
    for ladder in _counts(work, NODES[work] if sizes is None else sizes):
        runs = {counts: run_of_nodes(problem, counts) for counts in ladder}
        errors: list[tuple[int, float]] = []
        for i, counts in enumerate(ladder):
            finest = runs[counts](FINE_STEPS[work.dimension], FINE_TABLES[work.dimension])
            errors.append((i, error_of(_energies(finest), reference)))
            if len(errors) > 1 and max(errors[-1][1], errors[-2][1]) < 0.1 * TARGETS[-1]:
                break
        bulk = _seen(finest)
        fewest = [fewest_cells(errors, target) for target in TARGETS]
        chosen = {i for i in fewest if i is not None}
        for i in sorted(chosen | {i + 1 for i in chosen if i + 1 < len(errors)}):
            for rtol, *shares in itertools.product(tolerances, TABLES, PRUNED):
                try:
                    yield _hindsight(runs[ladder[i]], ladder[i], rtol, (shares[0], shares[1]), bulk)
                except RuntimeError:  # there are no tables to this accuracy
                    continue


def _call(problem: mf.Problem, target: float) -> mf.Characteristics:
    """`mfpde.characteristics` at `SAVES`, its warnings aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        return mf.characteristics(problem, save=SAVES, tolerance=target, progress=False)


def estimated(problem: mf.Problem, target: float) -> Trial:
    """The call as a user makes it: an accuracy is asked for, an estimate comes with the answer."""
    call = partial(_call, problem, target)
    found = call()
    sizes = np.maximum(np.abs(found.energy), 1e-300)
    curve = Curve(found.energy, 0.0, float(found.evaluations), float((found.energy_error / sizes).max()))
    way = Way("characteristics, with estimate", "", found.refinements[-1].nodes, target)
    return Trial(way, curve, call)


def estimated_trials(work: Work) -> Iterator[Trial]:
    """The calls for one accuracy after the other, as long as one takes no more than `PATIENCE`."""
    if not compiled(work):
        return
    problem = work.problem()
    for target in TARGETS:
        start = time.process_time()
        yield estimated(problem, target)
        if time.process_time() - start > PATIENCE:
            return


def table_cost(work: Work, target: float, repeats: int = 3) -> float:
    """Processor seconds of what is made once for a problem: by how much a first call is dearer than a second one.

    Of calls that take long a single pair is made.
    """
    differences: list[float] = []
    while len(differences) < repeats:
        problem = work.problem()
        first, second = (_seconds(partial(_call, problem, target)) for _ in range(2))
        differences.append(first - second)
        if second > LONG:
            break
    return max(float(np.median(differences)), 0.0)


def density_cost(work: Work, tolerance: float = 1e-6) -> dict[str, float] | None:
    """What the density at the centres of a mesh costs at the last time, and how far it is off, in L1.

    Its ``error`` is the distance from that by more nodes and finer steps. ``apart`` is it from signed central
    differences, of which some centres of cells are those of the mesh: these share nothing with nodes, and where a
    density has concentrated it is their own error. None where that is not measured.
    """
    if work not in FINER or not compiled(work):
        return None
    problem, shape = work.problem(), (DENSITY_CELLS,) * work.dimension
    found, best = (
        mf.characteristics(problem, save=SAVES, tolerance=each, progress=False) for each in (tolerance, BEST)
    )
    first = _seconds(lambda: found.density(shape))
    density = found.density(shape)
    # beyond the box there are as many cells as it takes for the mesh to begin at its end
    margin, finer = MARGIN.get(work, 0.0), FINER[work]
    beyond = round(margin * DENSITY_CELLS / (2.0 * work.box))
    on = mesh(work, finer * (DENSITY_CELLS + 2 * beyond), margin=margin)
    lines = curve_of_lines(on, Lines.CENTRAL_8, 1e-9)[1][-1]
    inside = (slice(finer * beyond + finer // 2, finer * (DENSITY_CELLS + beyond), finer),) * work.dimension
    volume = (2.0 * work.box / DENSITY_CELLS) ** work.dimension
    return {
        "cells": DENSITY_CELLS,
        "first": first,
        "seconds": min(_seconds(lambda: found.density(shape)) for _ in range(5)),
        "error": float(np.abs(density - best.density(shape)).sum()) * volume,
        "apart": float(np.abs(density - lines[inside]).sum()) * volume,
        "lines": on.n,
    }


def reference_cost(work: Work, exact: float, tolerance: float = 1e-6) -> dict[str, float] | None:
    """What a reference value of the last energy costs, both of its checks included, tables and programs being there.

    None where that is not measured: at a temperature, and without a compiled program.
    """
    if not compiled(work):
        return None
    problem = work.problem()
    observables = [mf.EnergyAt(SAVES[-1])]
    found = mf.reference(problem, tolerance, observables=observables, progress=False)
    seconds = _seconds(lambda: mf.reference(problem, tolerance, observables=observables, progress=False))
    (value,) = found.observables
    return {
        "tolerance": tolerance,
        "seconds": seconds,
        "bar": float(np.ravel(value.bar)[0] / abs(np.ravel(value.value)[0])),
        "error": abs(float(np.ravel(value.value)[0]) / exact - 1.0),
    }


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def mesh_trials(work: Work, reference: Array, sizes: Sequence[int] | None = None) -> Iterator[Trial]:
    """`mfpde.solve` with its defaults on a ladder of meshes."""
    problem = work.problem()
    for n in CELLS[work] if sizes is None else sizes:
        trial = _mesh_trial("solve", problem, n, 0.0)
        yield trial
        if error_of(trial.curve.energy, reference) < 0.5 * TARGETS[-1]:
            return


def noise_trials(work: Work, reference: Array, sizes: Sequence[int] | None = None) -> Iterator[Trial]:
    """`mfpde.solve` with the best scheme, mesh and tolerance of steps in hindsight, and no estimate of its error.

    None without a temperature: there characteristics are the way to a curve.
    """
    if not work.temperature:
        return
    problem = work.problem()
    for scheme, n in itertools.product(SCHEMES, CELLS[work] if sizes is None else sizes):
        for tolerance in STEPS:
            trial = _mesh_trial("solve, hindsight", problem, n, tolerance, scheme=scheme(), estimate=False)
            yield trial
            if error_of(trial.curve.energy, reference) < 0.1 * TARGETS[-1]:
                break


def _mesh_trial(method: str, problem: mf.Problem, n: int, tolerance: float, **options: Any) -> Trial:
    shape = (n,) * len(problem.axes)
    if tolerance:
        options["controller"] = mf.ErrorControl(tolerance)
    call = partial(mf.solve, problem, shape, save=SAVES, progress=False, **options)
    found = call()
    least = min(float(mu.min() / mu.max()) for mu in found.density)
    # a density that is negative somewhere has no entropy: the race is for the rest of the energy
    curve = Curve(found.energy_without_entropy, least, float(math.prod(shape) * found.stats["evaluations"]))
    return Trial(Way(method, type(options.get("scheme", mf.Weno5())).__name__, shape, tolerance), curve, call)
