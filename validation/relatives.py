"""Relatives of training: sparse deconvolution, two time scales, ultra-fast diffusion, quantisation, dynamic weights."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from validation._convex_programme import Optimum, deconvolved
from validation._dynamic_weights import blob
from validation._quantiles import quantile_energy, quantiles, spectral_gap
from validation._runner import Progress, Study

HEADLINE = "in the plane, penalty 1: J of 100 nodes at t = 30, less the optimum"

Array = NDArray[np.float64]

PROGRAMME = "convex programme: non-negative least squares, then Newton's method; no code of the package"
LOGISTIC = "closed form, a logistic law"
CHIZAT = "Chizat 1907.10300, spikes and penalties of its code; another implementation"
SPECTRAL = "generalised eigenvalues of Fourier series"
BARBONI = "Barboni, Peyre, Vialard 2504.18208; another implementation"
LEVELS = "equation of the quantiles, Fourier series in the level; no code of the package"
HEAT = "closed form: the heat equation of the quantiles"
ALGEBRA = "linear algebra on the data: K^-1 v_0, or non-negative least squares"
FISHER_RAO = "closed form, mu_0^s pi^(1-s), s = e^-t"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Relatives of training",
        "Flows of the same equation from other papers: spikes behind a low-pass filter, whose measure has a mass of "
        "its own (Chizat), features that move while the outer weights are optimal, and the ultra-fast diffusion that "
        "this tends to (Barboni, Peyre, Vialard), weighted nodes that stand for data (Belhadji, Sharp, Marzouk), and "
        "particles with dynamic weights. Each is held against a solver without code of the package, or a closed form.",
        quick,
        progress,
    )
    study.parts(
        (_optimum, 0.1),
        (_meshes, 0.1),
        (_alone, 0.1),
        (_diffusion, 0.3),
        (_projection, 0.2),
        (_nodes, 0.15),
        (_dynamic, 0.05),
    )
    return study


def _replaced(problem: mf.Problem, **changes: Any) -> mf.Problem:
    return dataclasses.replace(problem, parameters=None, **changes)


# ---------------------------------------------------------------------------------------------------------------------
# sparse deconvolution
# ---------------------------------------------------------------------------------------------------------------------


def _best(problem: mf.Problem) -> Optimum:
    q = problem.parameters
    assert q is not None
    weights = np.array(q["weights"])
    places = np.array(q["centres"]).reshape(len(weights), -1)
    return deconvolved(places, weights, q["penalty"], q["harmonics"], q["signed"])


def _lattice(problem: mf.Problem, n: int) -> mf.Problem:
    """The problem from n^d equal atoms, of each sign."""
    signed = isinstance(problem.axes[0], mf.Species)
    d = len(problem.axes) - signed
    places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 2 * math.pi / n] * d, indexing="ij"), -1)
    start = mf.Particles(places.reshape(-1, d))
    return _replaced(problem, initial=mf.PerSpecies(start) if signed else start)


def _near(points: Array, weights: Array, best: Optimum) -> tuple[float, float]:
    """The largest relative error of masses and the largest distance of places, of each sign."""
    if points.shape[1] == best.places.shape[1]:
        points = np.column_stack([np.zeros(len(points)), points])
    errors, distances = [0.0], [0.0]
    for label, sign in ((0, 1.0), (1, -1.0)):
        own, its = sign * best.masses > 0, points[:, 0] == label
        if own.any():
            masses, off = _clusters(points[its, 1:], weights[its], best.places[own])
            errors.append(float(np.abs(masses / np.abs(best.masses[own]) - 1).max()))
            distances.append(float(off.max()))
    return max(errors), max(distances)


def _apart(points: Array, places: Array) -> Array:
    """From each place to each point, around the circles: (points, places, d)."""
    return np.asarray((points[:, None, :] - places + math.pi) % (2 * math.pi) - math.pi)


def _clusters(points: Array, weights: Array, places: Array) -> tuple[Array, Array]:
    """The mass that lies nearest to each place, and how far its mean is from it."""
    d = _apart(points, places)
    which = np.argmin((d**2).sum(axis=2), axis=1)
    masses = np.bincount(which, weights, minlength=len(places))
    sums = np.array([weights[which == k] @ d[which == k, k] for k in range(len(places))])
    return masses, np.sqrt(((sums / masses[:, None]) ** 2).sum(axis=1))


def _optimum(study: Study) -> None:
    """Nodes against the convex programme, on a line and in the plane."""
    lines: list[tuple[Any, ...]] = []
    plane = {0.0: 0.0, 1.0: 2.766578807, 4.0: 10.070304179}
    cases = [("on a line, penalty 0.3", mf.problems.sparse_deconvolution(), 50)]
    cases += [(f"in the plane, penalty {x:g}", mf.problems.sparse_deconvolution(2, penalty=x), 10) for x in plane]
    signed = mf.problems.sparse_deconvolution(signed=True, t_end=8.0)
    cases += [("on a line, two signs, penalty 0.3", signed, 30)]
    if not study.quick:
        signed = mf.problems.sparse_deconvolution(2, penalty=1.0, signed=True)
        cases += [("in the plane, two signs, penalty 1", signed, 11)]
    for i, (name, problem, n) in enumerate(cases):
        study.progress(i / len(cases), name)
        best = _best(problem)
        penalty = problem.parameters["penalty"]  # type: ignore[index]
        if n == 10:
            note = "half a unit of the last digit there"
            study.claim(f"{name}: optimum of the programme", CHIZAT, plane[penalty], best.energy, 6e-10, note=note)
        study.at_least(f"{name}: least V of the programme on a fine mesh", PROGRAMME, 0.0, best.least, 1e-9)
        s = mf.characteristics(_lattice(problem, n), tolerance=1e-7, save=2, progress=False)
        excess = float(s.energy[-1]) - best.energy
        claim = f"{name}: J of {len(s.weights[-1])} nodes at t = {problem.t_end:g}, less the optimum"
        if penalty == 0:
            note = "1e-4 of J(0): without a penalty masses that are not needed vanish algebraically"
            study.at_most(claim, PROGRAMME, 1e-4 * problem.exact["empty_energy"], excess, note=note)
        else:
            study.claim(claim, PROGRAMME, 0.0, excess, 1e-8, note="1e-7 is the tolerance of the nodes")
            error, off = _near(s.points[-1], s.weights[-1], best)
            study.at_most(f"{name}: masses, largest relative error", PROGRAMME, 0.0, error, 1e-3)
            study.at_most(f"{name}: places, largest distance", PROGRAMME, 0.0, off, 1e-3)
        total = [
            f"{w:.5f} at {', '.join(f'{x:.5f}' for x in place)}"
            for w, place in zip(best.masses, best.places, strict=True)
        ]
        lines.append((name, best.energy, excess, "; ".join(total)))
    header = ("case", "optimum", "J of nodes less the optimum", "spikes of the optimum")
    study.table("Sparse deconvolution", header, lines)


def _one_spike(study: Study) -> None:
    """An atom at the spike: its mass in one cell, of one node and of one particle."""
    cells = 256
    place = 2 * math.pi * 40.5 / cells
    problem = _replaced(mf.problems.sparse_deconvolution(1, [place], [2.0]), initial=mf.Particles([[place]]))
    times = np.linspace(0.001, 0.008, 8)
    exact = problem.exact["spike_mass"](times, 1.0)
    s = mf.characteristics(problem, times[-1], save=times, tolerance=1e-9, progress=False)
    error = float(np.abs(s.weights[1:, 0] / exact - 1).max())
    study.at_most("one spike: mass of a node, largest relative error", LOGISTIC, 0.0, error, 1e-7)
    control = mf.ErrorControl(1e-7)
    mesh = mf.solve(problem, cells, times[-1], save=times, controller=control, progress=False)
    error = float(np.abs(mesh.grid.cell_volume * np.asarray(mesh.density)[1:, 40] / exact - 1).max())
    study.at_most("one spike: mass of a cell, largest relative error", LOGISTIC, 0.0, error, 1e-5)
    errors, steps = [], [2e-5, 1e-5, 5e-6]
    for dt in steps:
        cloud = mf.particles.simulate(
            problem, 2, dynamics=[mf.particles.Weights()], dt=dt, t_end=times[-1], save=times, progress=False
        )
        errors.append(float(np.abs(cloud.mass[0, 1:] / exact - 1).max()))
    order = float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
    study.claim("one spike: order in dt of the mass of particles", LOGISTIC, 1.0, order, 0.1)


def _shared(problem: mf.Problem, best: Optimum, n: int) -> float:
    """What it costs at most, to first order in h^2, to share each spike of a line between two cells of n."""
    places, h = best.places, 1e-3
    if isinstance(problem.axes[0], mf.Species):
        places = np.column_stack([best.masses < 0, places])
    step = np.eye(places.shape[1])[-1] * h
    bound = problem.bound_energy
    response = bound.response(places, np.abs(best.masses))
    V = [bound.potential(places + s * step, response) for s in (-1, 0, 1)]
    return float(np.abs(best.masses) @ (V[0] - 2 * V[1] + V[2])) / h**2 * (2 * math.pi / n) ** 2 / 8


def _meshes(study: Study) -> None:
    """Minimisers on meshes lie above the optimum by no more than spikes that are shared by two cells; one spike."""
    problem = mf.problems.sparse_deconvolution()
    best = _best(problem)
    lines: list[tuple[Any, ...]] = []
    worst, least, gap = 0.0, math.inf, 0.0
    for n in (64, 128, 256, 512) if study.quick else (64, 96, 128, 192, 256, 384, 512, 768, 1024):
        study.progress(n / 2048, f"minimiser on {n} cells")
        state = mf.stationary(problem, n)
        most = _shared(problem, best, n)
        excess = state.energy - best.energy
        worst, least = max(worst, excess / most), min(least, float(state.potential.min()), excess)
        gap = max(gap, state.gap)
        masses, _ = _clusters(state.grid.points(), state.mu.ravel() * state.grid.cell_volume, best.places)
        lines.append((n, excess, most, state.gap, float(np.abs(masses / best.masses - 1).max())))
    claim = "minimisers on meshes: J less the optimum, over sum c V'' h^2/8, largest"
    note = "what two cells that share each spike cost at most, to first order; a tenth for the next one"
    study.at_most(claim, PROGRAMME, 1.0, worst, 0.1, note=note)
    study.at_least(
        "minimisers on meshes: least V and least excess", "optimality, and the mesh is a part", 0.0, least, 1e-12
    )
    study.at_most("minimisers on meshes: largest gap", "the certificate", 0.0, gap, 1e-12)
    header = ("cells", "J less the optimum", "bound", "certificate", "masses, largest relative error")
    study.table("Minimisers on a mesh, on a line", header, lines)
    signed = mf.problems.sparse_deconvolution(signed=True)
    state, best = mf.stationary(signed, 512), _best(signed)
    claim = "two signs: minimiser on 512 cells, J less the optimum, over sum c V'' h^2/8"
    ratio = (state.energy - best.energy) / _shared(signed, best, 512)
    study.at_most(claim, PROGRAMME, 1.0, ratio, 0.1, note=note)
    study.at_least("two signs: the same, from below", "the mesh is a part of the circle", 0.0, ratio)
    study.at_least(
        "two signs: least V of both signs on the mesh", "optimality", 0.0, float(state.potential.min()), 1e-12
    )
    error, _ = _near(state.grid.points(), state.mu.ravel() * state.grid.cell_volume, best)
    study.at_most("two signs: masses on the mesh, largest relative error", PROGRAMME, 0.0, error, 1e-2)
    study.progress(0.6, "one spike")
    _one_spike(study)


def _alone(study: Study) -> None:
    """Birth-death and transport together, and each alone: from the uniform measure on a mesh, and from nine nodes."""
    import matplotlib.pyplot as plt

    n = 128 if study.quick else 256
    problem = mf.problems.sparse_deconvolution()
    least, best = mf.stationary(problem, n).energy, _best(problem)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    ends = {}
    for i, (name, changes) in enumerate(
        (("both", {}), ("birth-death alone", {"metric": [0.0]}), ("transport alone", {"alpha": 0.0}))
    ):
        study.progress(0.3 * i, name)
        s = mf.solve(_replaced(problem, **changes), n, save=101, progress=False)
        d = s.diagnostics
        ends[name] = float(s.energy[-1]) - least
        study.at_least(f"{name}: least density", "construction", 0.0, float(d["minimum"].min()))
        study.at_most(f"{name}: largest rise of J in a step", "descent", 0.0, float(np.diff(d["energy"]).max()), 1e-12)
        if name == "transport alone":
            study.at_most(f"{name}: drift of mass", "construction", 0.0, float(np.abs(d["mass"] - 1).max()), 1e-12)
        else:
            worst = float(np.max(d["energy"] - least - d["optimality_gap"]))
            study.at_most(
                f"{name}: J - J* less the certificate, largest", "convexity, exact on the mesh", 0.0, worst, 1e-11
            )
        left.semilogy(d["time"], np.maximum(d["energy"] - least, 1e-9), label=name)
        right.plot(s.grid.centres(0), s.density[-1], label=name)
    for name in ("birth-death alone", "transport alone"):
        claim = f"J - J* at t = 5 on the mesh: {name} over both"
        study.at_least(claim, "both descend faster than either", 10.0, ends[name] / max(ends["both"], 1e-16))
    study.progress(0.9, "nine nodes")
    strong = mf.problems.sparse_deconvolution(weights=[1.0, 0.6, 0.4])
    nine, best = _lattice(strong, 9), _best(strong)
    for name, changes in (("both", {}), ("birth-death alone", {"metric": [0.0]}), ("transport alone", {"alpha": 0.0})):
        s = mf.characteristics(_replaced(nine, **changes), save=2, tolerance=1e-6, progress=False)
        excess = float(s.energy[-1]) - best.energy
        claim = f"nine nodes, masses 1, 0.6, 0.4: J - J* at t = 5, {name}"
        if name == "both":
            study.at_most(claim, PROGRAMME, 0.0, excess, 1e-7)
        else:
            study.at_least(claim, "places, or the mass, are kept", 1e-3, excess)
    left.set(xlabel="t", ylabel="J - J* on the mesh")
    right.set(xlabel="angle", ylabel="density at t = 5", ylim=(0, 4))
    for axis in (left, right):
        axis.legend(fontsize="small")
    study.figure("deconvolution", "Sparse deconvolution on a line, from the uniform measure.", figure)


# ---------------------------------------------------------------------------------------------------------------------
# two time scales
# ---------------------------------------------------------------------------------------------------------------------

TARGETS = {10.0: (1.06097, 0.727711), 100.0: (0.99737, 1.527699), 1000.0: (0.39434, 4.438952)}
"""Spectral gap and energy of the start, by the sharpness of the target: numbers of another implementation."""


def _target(g: float) -> Callable[[Array], Array]:
    """The two peaks as in the paper's code, normalised by a sum over the circle."""

    def raw(x: Array) -> Array:
        return np.asarray(1 / (1 + g * np.sin(x / 2) ** 2) + 0.5 / (1 + g * np.sin((x - 0.4 * math.pi) / 2) ** 2))

    mass = float(raw(np.arange(8192) * 2 * math.pi / 8192).mean()) * 2 * math.pi
    return lambda x: raw(x) / mass


def _heat(study: Study) -> None:
    """A uniform target: order on meshes."""
    problem, errors = mf.problems.ultra_fast_diffusion(0.0, 0.5, t_end=1.0), []
    cells = (96, 192) if study.quick else (256, 512)
    level = np.linspace(0.0, 1.0, 400_001)
    for n in cells:
        study.progress(n / 2048, f"uniform target, {n} cells")
        # the largest stable steps leave a checkerboard of the size of the tolerance
        control = mf.ErrorControl(1e-8)
        s = mf.solve(problem, n, scheme=mf.Muscl(), controller=control, save=2, progress=False, estimate=False)
        masses = np.diff(np.interp(s.grid.faces(0), problem.exact["quantile"](level, 1.0), level))
        errors.append(float(np.abs(s.density[-1] * s.grid.cell_volume - masses).sum()))
    order = -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])
    note = "of cell averages; a limiter takes some of it at the two extrema"
    study.claim("uniform target, Muscl: order in h of the density", HEAT, 2.0, order, 0.1, note=note)
    problem = mf.problems.ultra_fast_diffusion(0.0, 0.8, t_end=3.0)
    s = mf.solve(problem, 128, save=4, progress=False, estimate=False)
    error = float(np.abs(s.density[-1] - problem.exact["density"](s.grid.centres(0), 3.0)).mean()) * 2 * math.pi
    study.at_most("uniform target, Weno5, 128 cells, amplitude 0.8, t = 3: L1 error", HEAT, 0.0, error, 1e-6)
    expected = np.array([problem.exact["energy"](t) for t in s.times[1:]])
    worst = float(np.abs(s.energy[1:] / expected - 1).max())
    note = "the start of this amplitude is hardly resolved by 128 cells"
    study.at_most("uniform target: energy at t = 1, 2, 3, largest relative error", HEAT, 0.0, worst, 1e-5, note=note)


def _diffusion(study: Study) -> None:
    """Ultra-fast diffusion: the start, quantiles, spectral gaps."""
    _heat(study)
    lines: list[tuple[Any, ...]] = []
    for i, (g, (gap, square)) in enumerate(TARGETS.items()):
        study.progress(0.4 + 0.15 * i, f"sharpness {g:g}")
        target, problem = _target(g), mf.problems.ultra_fast_diffusion(g)
        name = f"sharpness {g:g}"
        start = problem.exact["initial_energy"]
        study.claim(f"{name}: energy of the uniform measure", BARBONI, square, start, 1e-6, note="its six digits")
        rate, mode = spectral_gap(target, 400)
        study.claim(
            f"{name}: spectral gap of the target", BARBONI, gap, rate, 1e-5, note=f"{SPECTRAL}; five digits there"
        )
        n = {10.0: 96, 100.0: 256, 1000.0: 512}[g] // (2 if study.quick and g > 10 else 1)
        grid = problem.grid((n,))
        x = grid.centres(0)
        near = target(x) * (1 + 1e-3 * mode(x) / np.abs(mode(x)).max())
        near /= near.sum() * grid.cell_volume
        s = mf.solve(problem, n, 0.2, initial=near, save=2, progress=False, estimate=False)
        # sums over cells of the target's peaks are off by up to 1e-7, which is seen in an excess of 1e-7
        above = s.energy - 0.5 * (float(target(x).sum()) * grid.cell_volume) ** 2
        measured = 0.5 * math.log(above[0] / above[1]) / 0.2
        claim = f"{name}: half the decay rate of E - 1/2 from a perturbation of 1e-3, {n} cells"
        tolerance = 2e-3 if g < 1000 else 1e-2
        note = "twice the perturbation; 1 % at sharpness 1000, whose peaks are five cells wide"
        study.claim(claim, SPECTRAL, rate, measured, tolerance * rate, note=note)
        lines.append((f"{g:g}", start, rate, measured))
    study.table(
        "Ultra-fast diffusion", ("sharpness", "E of the start", "spectral gap", "half the rate of E - 1/2"), lines
    )
    study.progress(0.85, "from the uniform measure")
    target, problem = _target(10.0), mf.problems.ultra_fast_diffusion(10.0)
    times = np.array([0.1, 0.5, 1.0, 2.0]) if study.quick else np.array([0.1, 0.5, 1.0, 2.0, 6.0, 7.0])
    expected = np.array([quantile_energy(target, X) for X in quantiles(target, times, 192)])
    s = mf.solve(problem, 128, times[-1], save=times, progress=False, estimate=False)
    worst = float(np.abs((s.energy[1:5] - 0.5) / (expected[:4] - 0.5) - 1).max())
    study.at_most("sharpness 10: E - 1/2 until t = 2, largest relative error", LEVELS, 0.0, worst, 1e-4)
    study.at_most(
        "sharpness 10: drift of mass", "construction", 0.0, float(np.abs(s.diagnostics["mass"] - 1).max()), 1e-12
    )
    study.at_least("sharpness 10: least density", "construction", 0.0, float(s.diagnostics["minimum"].min()))
    if not study.quick:
        rate, _ = spectral_gap(target, 400)
        measured = 0.5 * math.log((s.energy[-2] - 0.5) / (s.energy[-1] - 0.5))
        claim = "sharpness 10: half the decay rate of E - 1/2 from the uniform measure, t from 6 to 7"
        study.claim(claim, SPECTRAL, rate, measured, 0.01 * rate, note="1 %: e^-6.4 is what has not decayed yet")


def _projection(study: Study) -> None:
    """Variable projection: nodes against the mesh, and the limit of no regularisation."""
    import matplotlib.pyplot as plt

    n = 128
    limit = mf.solve(mf.problems.ultra_fast_diffusion(), n, 1.0, save=2, progress=False, estimate=False)
    penalties, known = (1e-1, 1e-2, 1e-3, 1e-4), (0.168, 0.0259, 0.00274, 0.00039)
    distances: list[float] = []
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    for i, (penalty, there) in enumerate(zip(penalties, known, strict=True)):
        study.progress(0.15 * i, f"regularisation {penalty:g}")
        problem = mf.problems.two_timescale(regularisation=penalty)
        s = mf.solve(problem, n, save=11, progress=False)
        distances.append(float(np.abs(s.density[-1] - limit.density[-1]).sum()) * s.grid.cell_volume)
        claim = f"regularisation {penalty:g}: L1 distance to ultra-fast diffusion at t = 1"
        if penalty > 5e-4:
            study.claim(
                claim, BARBONI, there, distances[-1], 0.03 * there, note="3 %: three digits on coarser cells there"
            )
        else:
            note = "not borne out there: a tenth of the distance at ten times the regularisation is claimed below"
            study.report(claim, BARBONI, distances[-1], expected=there, note=note)
        nodes = mf.characteristics(problem, save=2, tolerance=1e-3, progress=False)
        worst = abs(float(nodes.energy[-1] / s.energy[-1]) - 1)
        claim = f"regularisation {penalty:g}: energy of nodes at t = 1 over that on the mesh, less 1"
        study.at_most(claim, "another discretisation", 0.0, worst, 1e-5)
        study.at_most(f"regularisation {penalty:g}: drift of mass", "construction", 0.0, s.stats["mass_drift"], 1e-12)
        right.plot(s.grid.centres(0), s.density[-1], label=f"{penalty:g}")
    slope = float(np.polyfit(np.log(penalties[1:]), np.log(distances[1:]), 1)[0])
    study.claim("power of the regularisation in the distance, 1e-2 to 1e-4", "O(lambda)", 1.0, slope, 0.1)
    study.progress(0.7, "a finer mesh")
    fine = mf.solve(mf.problems.ultra_fast_diffusion(), 2 * n, 1.0, save=2, progress=False, estimate=False)
    other = mf.solve(mf.problems.two_timescale(regularisation=1e-4), 2 * n, save=2, progress=False)
    again = float(np.abs(other.density[-1] - fine.density[-1]).sum()) * fine.grid.cell_volume
    claim = "regularisation 1e-4: the distance on 256 cells over that on 128"
    study.claim(claim, "refinement", 1.0, again / distances[-1], 0.02)
    study.progress(0.9, "outer weights drawn to 1")
    unbiased = mf.problems.two_timescale(unbiased=True, regularisation=1e-3, t_end=8.0)
    s = mf.solve(unbiased, n, save=9, progress=False)
    study.at_most(
        "unbiased: largest rise of E in a step", "descent", 0.0, float(np.diff(s.diagnostics["energy"]).max()), 1e-12
    )
    target = _target(10.0)(s.grid.centres(0))
    first, last = (float(np.abs(s.density[k] - target).sum()) * s.grid.cell_volume for k in (0, -1))
    study.at_most(
        "unbiased, regularisation 1e-3: L1 distance to the target at t = 8 over that at 0",
        "the minimiser",
        0.05,
        last / first,
    )
    left.loglog(penalties, distances, "o-", label="measured")
    left.loglog(penalties, np.array(penalties) * distances[-1] / penalties[-1], "k:", label="proportional")
    left.set(xlabel="regularisation", ylabel="L1 distance at t = 1")
    right.plot(s.grid.centres(0), limit.density[-1], "k--", label="ultra-fast")
    right.set(xlabel="angle", ylabel="density at t = 1")
    for axis in (left, right):
        axis.legend(fontsize="small")
    study.figure("two-timescale", "Variable projection and its limit of no regularisation.", figure)


# ---------------------------------------------------------------------------------------------------------------------
# quantisation
# ---------------------------------------------------------------------------------------------------------------------


def _gauss(x: Array, y: Array) -> Array:
    return np.asarray(np.exp(-((x[:, None, :] - y) ** 2).sum(axis=2) / 2))


def _resting(study: Study, problem: mf.Problem, sets: int) -> None:
    """Random nodes that rest: energies to the least one, of weights that are positive and of some that vanish."""
    from scipy import optimize

    data = problem.energy.points  # type: ignore[attr-defined]
    own = float(_gauss(data, data).mean())
    rng = np.random.default_rng(5)
    worst = {True: 0.0, False: 0.0}
    seen = {True: 0, False: 0}
    for _ in range(sets):
        nodes = rng.uniform(-3.5, 3.5, (6, 2))
        K, v = _gauss(nodes, nodes), _gauss(nodes, data).mean(axis=1)
        positive = bool(np.linalg.solve(K, v).min() > 0)
        root = np.linalg.cholesky(K)
        w = optimize.nnls(root.T, np.linalg.solve(root, v))[0]
        least = 0.5 * own + float(0.5 * w @ K @ w - w @ v)
        still = _replaced(problem, initial=mf.Particles(nodes), metric=[0.0, 0.0])
        s = mf.characteristics(still, 1000.0, save=2, tolerance=1e-6, progress=False)
        worst[positive] = max(worst[positive], abs(float(s.energy[-1]) / least - 1))
        seen[positive] += 1
    for positive, kind in ((True, "K^-1 v_0 > 0"), (False, "some of K^-1 v_0 negative")):
        claim = f"six resting nodes, {kind}: E at t = 1000 over the least E, less 1, largest"
        note = f"{seen[positive]} of {sets} random sets; 1e-3: a weight that dies at a rate below 1/1000 is still there"
        study.at_most(claim, ALGEBRA, 0.0, worst[positive], 1e-3, note=note)
        study.at_least(f"six resting nodes: random sets with {kind}", "both kinds are seen", 1.0, seen[positive])


def _nodes(study: Study) -> None:
    """Quantisation: resting and moving nodes, many nodes and the mesh."""
    problem = mf.problems.quantization()
    study.progress(0.0, "resting nodes")
    _resting(study, problem, 6 if study.quick else 24)
    data = problem.energy.points  # type: ignore[attr-defined]
    lines: list[tuple[Any, ...]] = []
    energies: list[float] = []
    for m in (1, 2, 3) if study.quick else (1, 2, 3, 4, 6):
        study.progress(0.2 + 0.08 * m, f"{m} moving nodes")
        start = np.random.default_rng(m).normal(0.0, 1.0, (m, 2))
        free = _replaced(problem, initial=mf.Particles(start))
        s = mf.characteristics(free, 3000.0, save=2, tolerance=1e-6, progress=False)
        y, w = s.points[-1], s.weights[-1]
        moved = float(np.abs(problem.exact["mean_shift"](y) - y).max())
        claim = f"{m} moving nodes: how far the mean shift moves them at t = 3000"
        study.at_most(claim, "fixed points of MSIP, Belhadji et al. 2502.10600", 0.0, moved, 1e-3)
        solved = np.linalg.solve(_gauss(y, y), _gauss(y, data).mean(axis=1))
        study.at_most(
            f"{m} moving nodes: weights less K^-1 v_0, largest", ALGEBRA, 0.0, float(np.abs(w - solved).max()), 1e-4
        )
        shifted = start
        for _ in range(1000):
            shifted = 0.2 * shifted + 0.8 * problem.exact["mean_shift"](shifted)
        w = np.linalg.solve(_gauss(shifted, shifted), _gauss(shifted, data).mean(axis=1))
        energies.append(float(s.energy[-1]))
        other = problem.bound_energy.energy(shifted, w) if np.all(np.isfinite(shifted)) else math.nan
        lines.append((m, energies[-1], other, float(s.weights[-1].sum()), moved))
    header = ("nodes", "E of the flow", "E of 1000 mean shifts of step 0.8", "mass", "last mean shift")
    study.table("Moving nodes", header, lines)
    worst = max(b / a for a, b in itertools.pairwise(energies))
    study.at_most("moving nodes: E of more nodes over that of fewer, largest", "more nodes fit better", 1.0, worst)
    study.progress(0.8, "many nodes and the mesh")
    for d, n in ((1, 200), (2, 96)):
        law = mf.problems.quantization(d)
        mesh = mf.solve(law, (n,) * d, save=2, progress=False)
        nodes = mf.characteristics(law, save=2, tolerance=1e-5, progress=False)
        worst = abs(float(mesh.energy[-1] / nodes.energy[-1]) - 1)
        study.at_most(
            f"{d}-D: E on {n} cells an axis over that of nodes, less 1", "another discretisation", 0.0, worst, 1e-3
        )
        mass = abs(float(mesh.diagnostics["mass"][-1] / nodes.weights[-1].sum()) - 1)
        study.at_most(f"{d}-D: mass on the mesh over that of nodes, less 1", "another discretisation", 0.0, mass, 1e-3)
        study.at_least(f"{d}-D: least density", "construction", 0.0, float(mesh.diagnostics["minimum"].min()))


def _dynamic(study: Study) -> None:
    """Weights of particles that follow the Fisher-Rao flow of a smoothed divergence (DPVI)."""
    from scipy import stats

    def target(x: Array) -> Array:
        return np.asarray(
            -np.logaddexp(
                math.log(0.7) + stats.norm.logpdf(x, -3.0, 1.0), math.log(0.3) + stats.norm.logpdf(x, 3.0, 1.0)
            )
        )

    axes = [mf.Axis("x", -9.0, 9.0)]
    nodes, start = np.array([-4.5, -3.0, -1.5, 2.0, 3.5]), np.array([0.1, 0.3, 0.2, 0.3, 0.1])
    resting = mf.Problem(blob(target, 0.1), axes, mf.Particles(nodes[:, None], start), alpha=1.0, metric=[0.0])
    s = mf.characteristics(resting, 4.0, save=5, tolerance=1e-8, progress=False)
    worst = 0.0
    for t, w in zip(s.times, s.weights, strict=True):
        kept = math.exp(-float(t))
        exact = start**kept * np.exp(-(1 - kept) * target(nodes))
        worst = max(worst, float(np.abs(w * exact.sum() / exact - 1).max()))
    study.at_most(
        "dynamic weights: five resting particles, largest relative error until t = 4", FISHER_RAO, 0.0, worst, 1e-6
    )
    moving = mf.Problem(blob(target, 0.1), axes, mf.Particles([[-2.0], [2.0]]), alpha=1.0)
    s = mf.characteristics(moving, 15.0, save=2, tolerance=1e-7, progress=False)
    note = "the modes are three standard deviations from the middle: their tails move them by e^-18"
    study.claim(
        "dynamic weights: a particle in each mode, the weight of the first",
        "share of the mode",
        0.7,
        s.weights[-1, 0],
        1e-4,
        note=note,
    )
    widths, distances = (0.2, 0.14, 0.1), []
    law = stats.norm(0.5, 1.5)
    for width in widths:
        mesh = mf.Problem(
            blob(target, width), axes, mf.Product(x=law), alpha=1.0, metric=[0.0], name="smoothed birth-death"
        )
        s = mf.solve(mesh, 400, 1.0, save=2, progress=False, estimate=False)
        x, kept = s.grid.centres(0), math.exp(-1.0)
        log = kept * law.logpdf(x) - (1 - kept) * target(x)
        exact = np.exp(log - log.max())
        exact /= exact.sum() * s.grid.cell_volume
        distances.append(float(np.abs(s.density[-1] - exact).sum()) * s.grid.cell_volume)
    order = float(np.polyfit(np.log(widths), np.log(distances), 1)[0])
    claim = "dynamic weights: order in the bandwidth of the density's error, 400 cells"
    note = "the terms of second order of log k * mu and of k * (mu / k * mu) cancel; 0.25 for the next order"
    study.claim(claim, FISHER_RAO, 4.0, order, 0.25, note=note)
