"""Grid, characteristics and particles: three discretisations of one problem that share no discretisation error."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.particles import BirthDeath, Cloud, Dynamics, GradientDescent, Weights, coupled, simulate
from validation._runner import Kind, Progress, Study

HEADLINE = "gaussian-bumps 1-D: energy of the grid at t = 1"

Array = NDArray[np.float64]
Cells = list[list[str | float | int]]

BETWEEN = "characteristics of the same problem"
SAFETY = 3.0
"""Factor of a grid convergence index from two meshes (Roache, J. Fluids Eng. 116 (1994) 405)."""


def run(quick: bool, progress: Progress) -> Study:
    """All parts; the full run takes minutes, the quick one about one."""
    study = Study(
        "Cross-validation: grid, characteristics, particles",
        "The grid is held against characteristics (quadrature nodes of the start that move, no mesh), and clouds of "
        "particles against the grid. Energies and responses are compared at given times; tolerances come from "
        "the refinement of the grid, from the error estimate of the characteristics, and from the number of replicas.",
        quick,
        progress,
    )
    study.parts((_grid, 0.4), (_response_gap, 0.4), (_special_gaps, 0.08), (_coupled, 0.07), (_cost, 0.05))
    return study


# ---------------------------------------------------------------------------------------------------------------------
# grid against characteristics
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A problem, its save times, three meshes, and the order of convergence of the scheme on it.

    ``order`` sets the tolerance, by the refinement error ``3 max_t |E_fine - E_middle| / (2^order - 1)``: 2 where the
    density is smooth (what the tail guard falls back to; with it the error is the difference itself), 1 where the
    start jumps. ``least`` is the order claimed.
    """

    label: str
    problem: mf.Problem
    times: tuple[float, ...]
    meshes: tuple[int, int, int]
    order: int = 2
    least: float | None = 2.0
    nodes: float = 1e-9
    steps: float = 1e-8
    always: bool = False


def _cases() -> list[Case]:
    p = mf.problems
    plane = [(-1.5, -1.0), (1.5, 1.0)]
    cases = [
        Case("gaussian-bumps 1-D", p.gaussian_bumps(), (0.5, 1.0, 2.0), (50, 100, 200), least=4.5, always=True),
        Case(
            "gaussian-bumps 2-D",
            p.gaussian_bumps(centres=plane),
            (0.5, 1.0, 2.0),
            (32, 64, 128),
            least=4.5,
            nodes=1e-6,
            steps=1e-7,
        ),
        Case("linear-neuron", p.linear_neuron(), (0.25, 0.5, 1.0), (100, 200, 400), always=True),
        Case("quadratic-well", p.quadratic_well(), (0.25, 0.5, 1.0), (100, 200, 400), always=True),
        Case("double-well", p.double_well(), (0.1, 0.25, 0.5), (100, 200, 400)),
        Case("single-index k=2 d=2", p.single_index(k=2, d=2), (0.5, 1.0, 2.0), (25, 50, 100), least=4.5, always=True),
        Case("single-index k=2 d=3 alpha=1", p.single_index(k=2, d=3, alpha=1.0), (0.5, 1.0, 2.0), (100, 200, 400)),
        Case("single-index k=3 d=8 alpha=1", p.single_index(k=3, d=8, alpha=1.0), (1.0, 2.0, 5.0), (100, 200, 400)),
        Case("single-index k=4 d=16", p.single_index(k=4, d=16), (1.0, 2.0, 5.0), (100, 200, 400)),
    ]
    # the start jumps at y = +-2, a face of meshes of a multiple of 10 cells
    late = (1.0, 2.5, 5.0, 10.0)
    three = {"times": late, "meshes": (100, 200, 400), "order": 1, "least": 0.8, "nodes": 1e-5, "steps": 1e-6}
    cases += [
        Case("three-gaussians alpha=0", p.three_gaussians(alpha=0.0), **three),  # type: ignore[arg-type]
        Case("three-gaussians alpha=5", p.three_gaussians(alpha=5.0), **three, always=True),  # type: ignore[arg-type]
    ]
    return cases


def _grid(study: Study) -> None:
    import matplotlib.pyplot as plt

    cases = [case for case in _cases() if case.always or not study.quick]
    found: Cells = []
    followed: list[mf.Characteristics] = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for i, case in enumerate(cases):
        study.progress(i / len(cases), f"grid against characteristics: {case.label}")
        rough = study.quick and case.order == 1  # of a jumping start the finest mesh takes most of the time
        meshes = (40, 80, 160) if rough else case.meshes
        exact, grids = _pair(case, meshes)
        errors = np.array([solution.energy[1:] - exact.energy[1:] for solution in grids])
        steps = np.abs(np.diff(errors, axis=0)).max(axis=1)
        refinement = SAFETY * steps[1] / (2.0**case.order - 1.0)
        for j, t in enumerate(case.times):
            estimate = float(exact.energy_error[j + 1])
            study.claim(
                f"{case.label}: energy of the grid at t = {t:g}",
                BETWEEN,
                exact.energy[j + 1],
                grids[-1].energy[j + 1],
                refinement + estimate,
                note=f"error {errors[-1, j]:.1e}; refinement {refinement:.1e} + characteristics {estimate:.0e}",
            )
            found.append(
                [
                    case.label,
                    f"{t:g}",
                    *(f"{error:.1e}" for error in errors[:, j]),
                    f"{abs(errors[2, j] - errors[1, j]):.1e}",
                    f"{estimate:.0e}",
                ]
            )
        largest = np.abs(errors).max(axis=1)
        order = -float(np.polyfit(np.log(meshes), np.log(largest), 1)[0])
        own = math.log2(steps[0] / steps[1])
        if case.least is not None:
            kind = Kind.REPORTED if rough else Kind.AT_LEAST
            study.claim(
                f"{case.label}: order of the grid's energy error on " + ", ".join(map(str, meshes)),
                "order 5, of its second-order fallback, or 1 after a jump" if case.least != 4.5 else "order 5",
                case.least,
                order,
                0.2,
                kind=kind,
                note=f"slope of the largest error over the times; from the three meshes alone {own:.2f}",
            )
        followed.append(exact)
        side = axes[0] if len(case.problem.axes) == 1 else axes[1]
        side.loglog(meshes, largest, "o-", label=case.label)
    for case, exact in zip(cases, followed, strict=True):
        _closed_form(study, case, exact)
    for side, title in zip(axes, ("one axis", "two axes"), strict=True):
        side.set(xlabel="cells along an axis", title=title)
        ticks = sorted({int(x) for line in side.lines for x in np.asarray(line.get_xdata())})
        side.set_xticks(ticks, [str(n) for n in ticks])
        side.set_xticks([], minor=True)
        side.grid(True, which="both", alpha=0.2)
        side.legend(fontsize=7)
    axes[0].set_ylabel("largest energy error over the times")
    study.table(
        "Energy of the grid minus that of the characteristics",
        ["problem", "t", "coarse", "middle", "fine", "fine - middle", "characteristics' estimate"],
        found,
        "The tolerance takes the largest refinement difference over the times of a run, since a difference may "
        "vanish at one time by a change of sign; the column *fine - middle* has the one at each time.",
    )
    study.figure("grid", "Energy error of the grid against the characteristics under refinement.", figure)


def _pair(case: Case, meshes: Sequence[int]) -> tuple[mf.Characteristics, list[mf.Solution]]:
    exact = _characteristics(case.problem, case.times, case.nodes)
    return exact, [_solve(case.problem, n, case.times, case.steps) for n in meshes]


def _characteristics(problem: mf.Problem, times: Sequence[float], tolerance: float) -> mf.Characteristics:
    return mf.characteristics(problem, t_end=times[-1], save=times, tolerance=tolerance, progress=False)


def _solve(problem: mf.Problem, n: int, times: Sequence[float], tolerance: float) -> mf.Solution:
    control = mf.ErrorControl(tolerance)
    shape = (n,) * len(problem.axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        return mf.solve(problem, shape, times[-1], controller=control, save=times, progress=False)


def _closed_form(study: Study, case: Case, exact: mf.Characteristics) -> None:
    energy = case.problem.exact.get("energy")
    if not callable(energy):
        return
    errors = [abs(exact.energy[j + 1] / energy(t) - 1.0) for j, t in enumerate(case.times)]
    study.claim(
        f"{case.label}: relative error of the characteristics' energy",
        "closed form",
        0.0,
        max(errors),
        # the closed forms of Gaussians hold on the whole line, the box keeps 7 standard deviations of it
        1e-9 if "single" in case.label else 2e-9,
        note=f"largest over t = {', '.join(f'{t:g}' for t in case.times)}",
    )


# ---------------------------------------------------------------------------------------------------------------------
# particles against grid
# ---------------------------------------------------------------------------------------------------------------------


DT = 2.5e-2
"""Step of the particles; what it does to the limit is computed, see `_limit`."""


NODES = {2: 400, 4: 1600}
"""Quadrature nodes of the limit; with 400, single-index k = 4, d = 16 is 2.5e-5 off."""


def _limit(problem: mf.Problem, reaction: BirthDeath | Weights | None, dt: float, times: Sequence[float]) -> Array:
    """The response of infinitely many particles that take steps of length `dt`, by quadrature nodes.

    A gradient step, then the weights take the mean effect of the events (or of the weights' step) with V anew.
    """
    bound = problem.bound_energy
    points, weights = problem.mu_0.nodes(NODES.get((problem.parameters or {}).get("k", 2), 400))
    low = np.array([axis.lower for axis in problem.axes])
    high = np.array([axis.upper for axis in problem.axes])
    alpha = problem.alpha(0.0)
    at = {round(t / dt) for t in times}
    found = [bound.response(points, weights)] if 0 in at else []
    for k in range(1, max(at) + 1):
        points = np.clip(points - dt * bound.gradient(points, bound.response(points, weights)), low, high)
        if reaction is not None:
            V = bound.potential(points, bound.response(points, weights))
            r = V - weights @ V
            if isinstance(reaction, BirthDeath):
                event = -np.expm1(-alpha * dt * np.abs(r))
                weights = weights * (1.0 - np.sign(r) * event)
            else:
                weights = weights * np.exp(-alpha * dt * r)
            weights = weights / weights.sum()
        if k in at:
            found.append(bound.response(points, weights))
    return np.array(found)


def _sampling_variance(problem: mf.Problem, points: Array, weights: Array) -> float:
    """``n E|u_n - u|^2`` of n independent draws: ``sum_k Var(Phi_k)``."""
    bound = problem.bound_energy
    one = np.ones(1)
    features = np.array([bound.response(point[None], one) for point in points])
    return float(weights @ (features**2).sum(axis=1) - ((weights @ features) ** 2).sum())


def _simulate(
    problem: mf.Problem,
    n: int,
    dynamics: Sequence[Dynamics],
    dt: float,
    times: Sequence[float],
    replicas: int,
    seed: int,
) -> Cloud:
    return simulate(
        problem,
        n,
        dynamics=tuple(dynamics),
        dt=dt,
        t_end=times[-1],
        save=times,
        seed=seed,
        replicas=replicas,
        keep_positions=False,
        workers=2,
        progress=False,
    )


def _response_gap(study: Study) -> None:
    import matplotlib.pyplot as plt

    sizes = (64, 256, 1024) if study.quick else (64, 256, 1024, 4096)
    replicas = {64: 120, 256: 80, 1024: 60} if study.quick else {64: 600, 256: 400, 1024: 200, 4096: 200}
    times = (0.0, 0.5, 2.0)
    schemes: list[tuple[str, BirthDeath | Weights | None]] = [
        ("birth-death", BirthDeath()),
        ("weights", Weights()),
        ("gradient descent", None),
    ]
    families: list[tuple[str, Callable[[float], mf.Problem]]] = [
        ("gaussian-bumps 1-D", lambda alpha: mf.problems.gaussian_bumps(alpha=alpha)),
        ("single-index k=2 d=2", lambda alpha: mf.problems.single_index(k=2, d=2, alpha=alpha)),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    found: Cells = []
    total = len(families) * len(schemes) * len(sizes)
    for f, (label, make) in enumerate(families):
        at_start: list[Array] = []
        variance = math.nan
        for s, (name, reaction) in enumerate(schemes):
            problem = make(0.0 if reaction is None else 1.0)
            grid = _solve(problem, 200, times[1:], 1e-8)
            reference = np.array([grid.response_at(t) for t in times])
            exact = _characteristics(problem, times[1:], 1e-9)
            study.progress((f * len(schemes) + s) * len(sizes) / total, f"{label}, {name}: time steps")
            biased = _limit(problem, reaction, DT, times)
            _time_step(study, f"{label}, {name}", problem, reaction, times[1:], DT, 200)
            # the scheme's step is part of the particles, not of their number: its effect, known from the nodes, is
            # taken off, or the largest clouds would measure it
            aim = reference + (biased - exact.response)
            dynamics: list[Dynamics] = [GradientDescent(), *([reaction] if reaction is not None else [])]
            gaps = np.empty((len(sizes), len(times)))
            relative = np.empty_like(gaps)
            for k, n in enumerate(sizes):
                done = ((f * len(schemes) + s) * len(sizes) + k) / total
                study.progress(done, f"{label}, {name}: {replicas[n]} replicas of {n}")
                cloud = _simulate(problem, n, dynamics, DT, times, replicas[n], seed=1000 * f + 100 * s + k)
                square = ((cloud.response - aim) ** 2).sum(axis=2)
                gaps[k] = square.mean(axis=0)
                relative[k] = square.std(axis=0, ddof=1) / math.sqrt(replicas[n]) / gaps[k]
                at_start.append(n * square[:, 0])
                for j, t in enumerate(times):
                    shift = float(((cloud.response[:, j].mean(axis=0) - aim[j]) ** 2).sum())
                    found.append(
                        [
                            label,
                            name,
                            f"{t:g}",
                            n,
                            replicas[n],
                            f"{n * gaps[k, j]:.4f} +- {n * gaps[k, j] * relative[k, j]:.4f}",
                            f"{n * shift:.4f}",
                            f"{cloud.ess[:, j].mean() / n:.3f}" if reaction is not None else "",
                        ]
                    )
                if isinstance(reaction, Weights) and n == sizes[-1]:
                    for j in (1, 2):
                        share = float(cloud.ess[:, j].mean()) / n
                        study.report(
                            f"{label}: effective sample size of the weights / n at t = {times[j]:g}, n = {n}",
                            "measured",
                            share,
                            expected=1.0,
                        )
            logs = np.log(sizes)
            for j in (1, 2):
                slope, error = _slope(logs, np.log(gaps[:, j]), relative[:, j])
                study.claim(
                    f"{label}, {name}: slope of the mean squared response gap in n at t = {times[j]:g}",
                    "law of large numbers; arXiv:2008.09623",
                    -1.0,
                    slope,
                    max(0.1, 3 * error) if study.quick else 0.1,
                    note=f"n = {', '.join(map(str, sizes))}; standard error {error:.3f}",
                )
            axes[f].loglog(sizes, gaps[:, 2], "o-", label=f"{name}, t = 2")
            points, weights = exact.nodes_at(0.0)
            variance = _sampling_variance(problem, points, weights)
        # the starts of the three schemes have seeds of their own
        sample = np.concatenate(at_start)
        error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
        study.claim(
            f"{label}: n times the mean squared response gap at t = 0",
            "exact sampling variance, by quadrature",
            variance,
            float(sample.mean()),
            5 * error,
            note=f"5 standard errors of {len(sample)} clouds",
        )
        axes[f].loglog(sizes, variance / np.array(sizes), "k--", label="independent draws from the start")
        axes[f].set(title=label, xlabel="n")
        axes[f].grid(True, which="both", alpha=0.2)
        axes[f].legend(fontsize=7)
    axes[0].set_ylabel("mean squared response gap")
    study.table(
        "n times the mean squared response gap of particles against the grid",
        ["problem", "scheme", "t", "n", "replicas", "n x gap", "n x squared mean gap", "effective size / n"],
        found,
        f"Steps of {DT:g}. The effect of the steps themselves, the same for every n, is computed on quadrature "
        "nodes and taken off; the rows on time steps hold it against the grid.",
    )
    study.figure("particles", "Mean squared response gap of particles against the grid, t = 2.", figure)


def _slope(x: Array, y: Array, errors: Array) -> tuple[float, float]:
    """Least-squares slope, and its standard error from those of the values."""
    centred = x - x.mean()
    weights = centred / (centred**2).sum()
    return float(weights @ y), float(np.sqrt((weights**2) @ errors**2))


def _time_step(
    study: Study,
    label: str,
    problem: mf.Problem,
    reaction: BirthDeath | Weights | None,
    times: Sequence[float],
    dt: float,
    cells: int,
) -> None:
    """The scheme's steps: first order, and towards the grid."""
    whole, half, quarter, eighth = (_limit(problem, reaction, dt / k, times) for k in (1, 2, 4, 8))
    once = 2 * eighth - quarter
    twice = (8 * eighth - 6 * quarter + half) / 3
    reference, coarse = (
        np.array([grid.response_at(t) for t in times])
        for grid in (_solve(problem, cells, times, 1e-8), _solve(problem, cells // 2, times, 1e-8))
    )
    scale = float(np.abs(reference).max())
    estimate = float(np.abs(twice - once).max())
    refinement = float(np.abs(reference - coarse).max())
    effect = float(np.abs(whole - reference).max())
    study.claim(
        f"{label}: response of the scheme's limit n -> infinity, extrapolated to dt = 0, off the grid",
        "mfpde.solve",
        0.0,
        float(np.abs(twice - reference).max()),
        estimate + refinement,
        note=f"quadrature nodes that take the scheme's mean step; tolerance: last change {estimate:.1e} in the "
        f"extrapolation + refinement of the grid {refinement:.1e}",
    )
    study.claim(
        f"{label}: order of the time step's effect on the response",
        "explicit Euler",
        1.0,
        math.log2(effect / float(np.abs(half - reference).max())),
        0.15,
        note=f"dt = {dt:g}, {dt / 2:g}; effect {effect / scale:.1e} of the scale",
    )


def _special_gaps(study: Study) -> None:
    """A closed form that holds path by path; an interpolating target; one that cannot be interpolated."""
    import matplotlib.pyplot as plt
    from scipy import stats

    study.progress(0.0, "quadratic closed form")
    a, b, dt = 1.0, 0.5, DT
    well = mf.Problem(
        energy=mf.Confinement(x=a) + mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), weight=b),
        axes=[mf.Axis("x", -8.0, 8.0)],
        initial=mf.Product(x=stats.norm(0.5, 0.8)),
        alpha=0.0,
        t_end=2.0,
    )
    mean = {"mean": lambda points, weights: float(weights @ points[:, 0])}
    cloud = simulate(
        well,
        32,
        dt=dt,
        t_end=2.0,
        save=[0.5, 2.0],
        replicas=20,
        seed=7,
        observe=mean,
        keep_positions=False,
        progress=False,
    )
    gap = cloud.observed["mean"] - 0.5 * (1 - (a + b) * dt) ** np.round(cloud.times / dt)
    factor = (1 - (a + b) * dt) ** np.round(cloud.times / dt)
    study.claim(
        "quadratic energy: gap of the cloud's mean at t = 0.5, 2 against its start's, replica by replica",
        "gap(t) = (1 - (a + b) dt)^(t/dt) gap(0), derived; e^{-(a + b) t} as dt -> 0",
        0.0,
        float(np.abs(gap - factor * gap[:, :1]).max()),
        1e-13,
        note="hence n Var(mean) = C_0 e^{-2 (a + b) t} for every n",
    )

    replicas = 60 if study.quick else 300
    late = (0.0, 0.5, 2.0, 5.0, 10.0)
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    cases = [
        ("single-index k=2 d=2, interpolating", mf.problems.single_index(k=2, d=2), True),
        (
            "gaussian-bumps of mass 0.75, not interpolating",
            mf.problems.gaussian_bumps(weights=(0.45, 0.3), alpha=0.0),
            False,
        ),
    ]
    found: Cells = []
    for i, (label, problem, interpolates) in enumerate(cases):
        study.progress((1 + i) / 3, label)
        n = 256 if study.quick else 1024
        exact = _characteristics(problem, late[1:], 1e-7)
        aim = _limit(problem, None, 2 * DT, late)
        cloud = _simulate(problem, n, [GradientDescent()], 2 * DT, late, replicas, seed=70 + i)
        square = n * ((cloud.response - aim) ** 2).sum(axis=2)
        scaled, error = square.mean(axis=0), square.std(axis=0, ddof=1) / math.sqrt(replicas)
        drawn = np.array([_sampling_variance(problem, *exact.nodes_at(t)) for t in late])
        for j, t in enumerate(late):
            found.append(
                [label, f"{t:g}", f"{scaled[j]:.3e} +- {error[j]:.0e}", f"{drawn[j]:.3e}", scaled[j] / drawn[j]]
            )
        if interpolates:
            study.at_most(
                f"{label}: n x gap at t = 10 over that at t = 0",
                "tends to 0; arXiv:2008.09623",
                0.1,
                scaled[-1] / scaled[0],
                note="at t = 0.5, 2, 5: " + ", ".join(f"{x:.2g}" for x in scaled[1:-1] / scaled[0]),
            )
        else:
            for j in (2, 3, 4):
                study.at_most(
                    f"{label}: n x gap at t = {late[j]:g} over the variance of independent draws from mu_t",
                    "bounded by resampling; arXiv:2008.09623",
                    1.0,
                    scaled[j] / drawn[j],
                    5 * error[j] / drawn[j],
                    note="5 standard errors",
                )
        line = axis.errorbar(late, scaled, error, fmt="o-", label=label)
        axis.plot(late, drawn, "--", color=line.lines[0].get_color(), label="independent draws from mu_t")
    axis.set(yscale="log", xlabel="t", ylabel="n x mean squared response gap")
    axis.grid(True, which="both", alpha=0.2)
    axis.legend(fontsize=7)
    study.table(
        "Fluctuations of gradient descent in time",
        ["problem", "t", "n x gap", "independent draws from mu_t", "ratio"],
        found,
    )
    study.figure("fluctuations", "Scaled fluctuations of gradient descent and those of fresh draws.", figure)


# ---------------------------------------------------------------------------------------------------------------------
# coupled particles
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Driver:
    """A mean field that `coupled` can read, at multiples of its step."""

    dt: float
    responses: Array

    def response_at(self, t: float) -> Array:
        """The response at time `t`."""
        return np.asarray(self.responses[round(t / self.dt)])


def _coupled(study: Study) -> None:
    import matplotlib.pyplot as plt

    sizes = (64, 256, 1024) if study.quick else (64, 256, 1024, 4096)
    many = {64: 300, 256: 150, 1024: 80} if study.quick else {64: 400, 256: 200, 1024: 100, 4096: 100}
    problem, times, dt = mf.problems.single_index(k=4, d=16), (1.0, 2.0, 4.0), 0.05
    # the twins take the same steps as the particles; driven by the grid's mean field they would not see what these
    # steps do to it, and the difference would stay at that as n grows. So the scheme's own limit drives them.
    step = dt * np.arange(round(times[-1] / dt) + 1)
    limit = _Driver(dt, _limit(problem, None, dt, step.tolist()))
    _time_step(study, "single-index k=4 d=16, gradient descent", problem, None, times, dt, 400)
    squares = np.empty((len(sizes), len(times)))
    relative = np.empty_like(squares)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for k, n in enumerate(sizes):
        study.progress(0.5 * k / len(sizes), f"coupled: {many[n]} pairs of clouds of {n}")
        pairs = coupled(problem, limit, n, dt=dt, t_end=4.0, save=times, seed=k, replicas=many[n], hessian=False)
        square = pairs.rms[:, 1:] ** 2
        squares[k] = square.mean(axis=0)
        relative[k] = square.std(axis=0, ddof=1) / math.sqrt(many[n]) / squares[k]
    for j, t in enumerate(times):
        slope, error = _slope(np.log(sizes), 0.5 * np.log(squares[:, j]), 0.5 * relative[:, j])
        study.claim(
            f"single-index k=4 d=16: slope of the coupled error in n at t = {t:g}",
            "propagation of chaos; arXiv:2504.13110",
            -0.5,
            slope,
            max(0.1, 3 * error) if study.quick else 0.1,
            note=f"root mean square of |X_i - Y_i|, {list(many.values())} replicas; standard error {error:.3f}",
        )
        axes[0].loglog(sizes, np.sqrt(squares[:, j]), "o-", label=f"t = {t:g}")
    axes[0].loglog(sizes, math.sqrt(squares[0, -1] * sizes[0]) / np.sqrt(sizes), "k--", label="slope -1/2")
    axes[0].set(xlabel="n", ylabel="root mean square of |X_i - Y_i|", title="k = 4, d = 16")

    found: Cells = []
    for i, d in enumerate((8,) if study.quick else (8, 16, 32, 64)):
        study.progress(0.5 + 0.1 * i, f"coupled: growth, d = {d}")
        problem = mf.problems.single_index(k=4, d=d)
        end = 0.5 * d  # of the order of the time to learn
        solution = _solve(problem, 400, (end,), 1e-5)
        n, replicas = (256, 4) if study.quick else (1024, 10)
        dt = end / 160
        limit = _Driver(dt, _limit(problem, None, dt, (dt * np.arange(161)).tolist()))
        pairs = coupled(problem, limit, n, dt=dt, t_end=end, save=33, seed=11, replicas=replicas)
        assert pairs.growth_integral is not None
        scaled = np.sqrt(n * (pairs.rms**2).mean(axis=0))
        growth = pairs.growth_integral.mean(axis=(0, 2))
        most = pairs.growth_integral[:, -1].max()
        peak = int(np.argmax(scaled))
        found.append(
            [
                d,
                f"{end:g}",
                f"{scaled[peak]:.2f}",
                f"{pairs.times[peak]:.2f}",
                f"{scaled[-1]:.2f}",
                f"{growth[-1]:.2f}",
                f"{most:.2f}",
                f"{solution.energy[-1]:.4f}",
            ]
        )
        (line,) = axes[1].semilogy(pairs.times[1:] / d, scaled[1:], label=f"d = {d}")
        axes[1].semilogy(pairs.times[1:] / d, np.exp(growth[1:]), "--", color=line.get_color())
    axes[1].set(xlabel="t / d", title=r"$\sqrt{n}$ rms (solid), exp of the mean integrated local Hessian (dashed)")
    axes[1].title.set_fontsize(9)
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
        axis.legend(fontsize=7)
    study.table(
        "Growth of the coupled error, single-index k = 4",
        [
            "d",
            "end time",
            "largest sqrt(n) rms",
            "at t",
            "sqrt(n) rms at the end",
            "mean integrated growth",
            "largest integrated growth",
            "energy at the end",
        ],
        found,
        "The integrated growth is that of the largest eigenvalue of the velocity's "
        "Jacobian along a twin, its positive part; exp of it bounds how a small difference grows.",
    )
    study.figure("coupled", "Coupled error against the number of particles, and in time.", figure)


# ---------------------------------------------------------------------------------------------------------------------
# cost
# ---------------------------------------------------------------------------------------------------------------------


def _cost(study: Study) -> None:
    """The cheapest run within a given error, of a few meshes and tolerances each."""
    cases: list[tuple[str, mf.Problem, tuple[int, ...], tuple[float, ...], float]] = [
        ("gaussian-bumps 1-D", mf.problems.gaussian_bumps(), (50, 100, 200, 400), (0.5, 1.0, 2.0), 1e-10),
        ("single-index k=4 d=16", mf.problems.single_index(k=4, d=16), (100, 200, 400, 800), (1.0, 2.0, 5.0), 1e-9),
    ]
    if not study.quick:
        plane = mf.problems.gaussian_bumps(centres=[(-1.5, -1.0), (1.5, 1.0)])
        cases.append(("gaussian-bumps 2-D", plane, (32, 64, 128, 192), (0.5, 1.0, 2.0), 1e-7))
    found: Cells = []
    for i, (label, problem, meshes, times, tight) in enumerate(cases):
        study.progress(i / len(cases), f"cost: {label}")
        reference = _characteristics(problem, times, tight).energy[1:]

        def error_of(energy: Array, reference: Array = reference) -> float:
            return float((np.abs(energy[1:] - reference) / np.abs(reference)).max())

        grids, nodes = [], []
        for n in meshes[: 3 if study.quick else 4]:
            for tolerance in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)[: 4 if study.quick else 5]:
                began = time.perf_counter()
                grid = _solve(problem, n, times, tolerance)
                seconds = time.perf_counter() - began
                grids.append((seconds, error_of(grid.energy), f"{n}, {tolerance:.0e}", grid.stats["evaluations"]))
        for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
            began = time.perf_counter()
            moved = _characteristics(problem, times, tolerance)
            seconds = time.perf_counter() - began
            text = f"{moved.points.shape[1]} nodes, {tolerance:.0e}"
            nodes.append((seconds, error_of(moved.energy), text, moved.evaluations))
        for target in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
            cells: list[str | float | int] = [label, f"{target:.0e}"]
            cheapest = []
            for runs in (grids, nodes):
                within = [run for run in runs if run[1] <= target]
                best = min(within) if within else None
                cheapest.append(best)
                cells += [best[2], best[3], f"{best[0]:.3f}"] if best else ["not reached", "", ""]
            a, b = cheapest
            cells.append(f"{b[0] / a[0]:.2g}" if a and b else "")
            found.append(cells)
    study.table(
        "Cost at equal accuracy",
        [
            "problem",
            "relative energy error",
            "grid: cells along an axis, tolerance",
            "evaluations",
            "seconds",
            "characteristics: nodes, tolerance",
            "evaluations",
            "seconds",
            "characteristics / grid",
        ],
        found,
        "The cheapest run of a few meshes and tolerances that stays within the error at all save times, against "
        "characteristics of tighter tolerance. The characteristics' time includes the runs on fewer nodes that "
        "their error estimate comes from; the grid's is one run without an estimate.",
    )
