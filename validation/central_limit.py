"""The central limit theorem of wide networks: fluctuations about the mean field, computed and sampled."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.particles import GradientDescent, simulate
from validation._runner import Kind, Progress, Study

HEADLINE = "bumps of mass 1: n x gap of clouds at t = 0.5"

Array = NDArray[np.float64]
Cells = list[list[str | float | int]]

PAPER = "Chen, Rotskoff, Bruna, Vanden-Eijnden, arXiv:2008.09623"
VOLTERRA = "linear Volterra equation along characteristics; arXiv:2008.09623"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Dynamical central limit theorem",
        "n neurons drawn independently and trained by gradient flow are off their mean field by n^(-1/2) times a "
        "Gaussian process. `mf.fluctuations` computes its covariance from a linear Volterra equation, with no random "
        "number. It is held against closed forms, and against clouds of particles. *Gap* is half the mean squared "
        "distance between the network and its limit; *fresh draws* is the same for n independent draws from mu_t "
        "(resampling).",
        quick,
        progress,
    )
    study.parts((_closed, 0.1), (_clouds, 0.7), (_long, 0.2))
    return study


# ---------------------------------------------------------------------------------------------------------------------
# closed forms
# ---------------------------------------------------------------------------------------------------------------------


def _closed(study: Study) -> None:
    from scipy import stats

    study.progress(0.0, "closed forms")
    limit = mf.fluctuations(mf.problems.linear_neuron(alpha=0.0, variance=0.5), save=[0.5, 1.0], progress=False)
    error = np.abs(2 * limit.gap / (0.5 * np.exp(-2 * limit.times)) - 1).max()
    note = "ten times the tolerance of the time integration, 1e-7"
    study.claim("linear neuron: n Var(u) = C e^{-2t}, relative error", "closed form", 0.0, error, 1e-6, note=note)
    a, b, s = 1.0, 0.5, 0.64
    well = mf.Problem(
        energy=mf.Confinement(x=a) + mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), weight=b),
        axes=[mf.Axis("x", -8.0, 8.0)],
        initial=mf.Product(x=stats.norm(0.5, math.sqrt(s))),
        t_end=2.0,
    )
    limit = mf.fluctuations(well, save=[0.5, 2.0], progress=False)
    for name, found, rate in (("n Var(mean)", limit.gap, a + b), ("fresh draws", limit.resampling_gap, a)):
        error = np.abs(2 * found / (b * s * np.exp(-2 * rate * limit.times)) - 1).max()
        study.claim(
            f"F = a x^2/2, K = b x y: {name} = s e^(-2 {'(a + b)' if rate > a else 'a'} t), relative error",
            "closed form",
            0.0,
            error,
            1e-6,
            note=note,
        )
    for d in (2, 3, 8) if study.quick else (2, 3, 8, 32):
        study.progress(0.2 + 0.2 * (d > 2), f"single-index k=2 d={d}")
        problem = mf.problems.single_index(k=2, d=d)
        limit = mf.fluctuations(problem, 2.0, save=[0.5, 2.0], tolerance=1e-6, progress=False)
        expected = _quadratic(problem, d, limit.times)
        study.claim(
            f"single-index k=2 d={d}: gap at t = 0.5, 2, relative error",
            "one scalar equation carries the flow and its fluctuation (derived)",
            0.0,
            np.abs(limit.gap / expected - 1).max(),
            1e-5,
            note=f"ten times the tolerance; {len(limit.weights)} nodes against 1000",
        )


def _quadratic(problem: mf.Problem, d: int, times: Array) -> Array:
    """The gap for k = 2: cot(theta) grows by e^{2s}, s' = (1 - p(s)) d/(d-1), and p fluctuates with its draws and s."""
    from scipy.integrate import solve_ivp

    points, w = problem.mu_0.nodes(1000)
    x = 1.0 / np.tan(points[:, 0]) ** 2
    share = d / (d - 1)

    def squares(s: float) -> Array:
        a = math.exp(4 * s)
        return np.asarray(a * x / (1 + a * x))

    def flow(t: float, y: Array) -> Array:
        u = squares(y[0])
        mean = w @ u
        return np.concatenate([[share * (1 - mean)], -share * (4 * (w @ (u * (1 - u))) * y[1:] + u - mean)])

    run = solve_ivp(flow, (0, times[-1]), np.zeros(1 + len(w)), "DOP853", times, rtol=1e-10, atol=1e-12)
    found = []
    for y in run.y.T:
        u = squares(y[0])
        psi = u + 4 * (w @ (u * (1 - u))) * y[1:]
        found.append(0.5 * share * (w @ (psi - w @ psi) ** 2))
    return np.array(found)


# ---------------------------------------------------------------------------------------------------------------------
# clouds
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    label: str
    problem: mf.Problem
    times: tuple[float, ...]
    dt: float = 0.05


def _cases(quick: bool) -> list[_Case]:
    p = mf.problems
    times = (0.0, 0.5, 1.0, 2.0) if quick else (0.0, 0.5, 2.0, 5.0)
    cases = [
        _Case("single-index k=2 d=2", p.single_index(k=2, d=2), times),
        _Case("bumps of mass 1", p.gaussian_bumps(alpha=0.0), times),
    ]
    if not quick:
        cases.append(_Case("bumps of mass 1.6", _heavy(), times))
        cases.append(_Case("single-index k=4 d=16", p.single_index(k=4, d=16), times))
    return cases


def _heavy() -> mf.Problem:
    """A target heavier than all neurons together: the loss cannot vanish."""
    return mf.problems.gaussian_bumps(alpha=0.0, weights=(0.9, 0.7), bandwidth=0.7)


@dataclass(frozen=True)
class _Sample:
    """Replicas of n particles: responses about their mean, what the linear theory predicts for each, and the energy."""

    n: int
    found: Array  # (R, m, r)
    predicted: Array
    energy: Array  # (R, m)
    energy_predicted: Array


def _sample(case: _Case, limit: mf.Fluctuations, n: int, replicas: int, seed: int) -> _Sample:
    from scipy.interpolate import CubicSpline

    runs = []
    for dt in (case.dt, 0.5 * case.dt):
        cloud = simulate(
            case.problem,
            n,
            dynamics=(GradientDescent(),),
            dt=dt,
            t_end=case.times[-1],
            save=case.times,
            seed=seed,
            replicas=replicas,
            observe={"start": lambda points, weights: points[:, 0]},
            keep_positions=False,
            workers=2,
            progress=False,
        )
        runs.append(cloud)
    # the same draws with half the step: what is first order in the step goes
    found = 2 * runs[1].response - runs[0].response
    energy = 2 * runs[1].energy - runs[0].energy
    starts = runs[0].observed["start"][:, 0]
    order = np.argsort(limit.points[:, 0])
    at = limit.points[order, 0]
    psi = CubicSpline(at, limit.influence[:, :, order], axis=2)
    own = CubicSpline(at, limit.energy_influence[:, order], axis=1)
    predicted = np.stack([psi(x).mean(axis=2) for x in starts])
    energy_predicted = np.stack([own(x).mean(axis=1) for x in starts])
    pieces = [x - x.mean(axis=0) for x in (found, predicted, energy, energy_predicted)]
    return _Sample(n, *pieces)


def _distance(case: _Case, limit: mf.Fluctuations, deviations: Array) -> Array:
    """Half the squared distance of networks, as the loss measures it: (R, m, r) -> (R, m). Exact for squares."""
    bound = case.problem.bound_energy
    corner, none = np.array([[axis.lower for axis in bound.axes]]), np.zeros(1)
    result = np.empty(deviations.shape[:2])
    origin = np.zeros(bound.response_size)
    base = bound.energy(corner, none, origin)
    for r, row in enumerate(deviations):
        for j, x in enumerate(row):
            result[r, j] = (
                0.5 * (bound.energy(corner, none, origin + x) + bound.energy(corner, none, origin - x)) - base
            )
    return result


def _clouds(study: Study) -> None:
    import matplotlib.pyplot as plt
    from scipy import stats

    sizes = {128: 150, 512: 80} if study.quick else {128: 800, 512: 400, 2048: 200}
    cases = _cases(study.quick)
    cells: Cells = []
    figure, axes = plt.subplots(1, len(cases), figsize=(4.2 * len(cases), 4), layout="constrained")
    for c, case in enumerate(cases):
        label, times = case.label, case.times
        study.progress(c / len(cases), f"{label}: the limit")
        limit = mf.fluctuations(case.problem, times[-1], save=times[1:], nodes=200, tolerance=1e-3, progress=False)
        samples = []
        for k, (n, replicas) in enumerate(sizes.items()):
            study.progress((c + (1 + k) / (1 + len(sizes))) / len(cases), f"{label}: {replicas} clouds of {n}")
            samples.append(_sample(case, limit, n, replicas, seed=100 * c + k))

        values = np.empty((len(sizes), len(times)))
        errors, plain, variance, variance_error = (np.empty_like(values) for _ in range(4))
        rest, rest_error = np.empty_like(values), np.empty_like(values)
        for k, sample in enumerate(samples):
            n, replicas = sample.n, len(sample.found)
            unbias = replicas / (replicas - 1)
            square = n * unbias * _distance(case, limit, sample.found)
            linear = n * unbias * _distance(case, limit, sample.predicted)
            plain[k] = square.mean(axis=0)
            # the linear prediction's mean square is known, whatever the influence: a control variate
            values[k] = (square - linear).mean(axis=0) + limit.gap
            errors[k] = (square - linear).std(axis=0, ddof=1) / math.sqrt(replicas)
            difference = n * unbias * (sample.energy**2 - sample.energy_predicted**2)
            variance[k] = difference.mean(axis=0) + limit.energy_variance
            variance_error[k] = difference.std(axis=0, ddof=1) / math.sqrt(replicas)
            left = ((sample.found - sample.predicted) ** 2).sum(axis=2)
            rest[k] = np.sqrt(left.mean(axis=0))
            rest_error[k] = 0.5 * left.std(axis=0, ddof=1) / math.sqrt(replicas) / left.mean(axis=0)

        # the clouds of two sizes extrapolated: n Cov = limit + O(1/n)
        small, large = samples[-2].n, samples[-1].n
        share = large / (large - small)
        for name, at_n, at_error, expected in (
            ("n x gap", values, errors, limit.gap),
            ("n Var(E)", variance, variance_error, limit.energy_variance),
        ):
            for j in range(1, len(times)):
                measured = share * at_n[-1, j] - (share - 1) * at_n[-2, j]
                error = math.hypot(share * at_error[-1, j], (share - 1) * at_error[-2, j])
                study.claim(
                    f"{label}: {name} of clouds at t = {times[j]:g}",
                    VOLTERRA,
                    expected[j],
                    measured,
                    5 * error + limit.error_estimate * expected[j],
                    note=f"5 standard errors of {error / expected[j]:.1%}; n = {small} and {large} extrapolated",
                )
        logs = np.log(list(sizes))
        for j in (1, len(times) - 1):
            slope, error = _slope(logs, np.log(values[:, j] / list(sizes)), errors[:, j] / values[:, j])
            study.claim(
                f"{label}: slope of the mean squared gap in n at t = {times[j]:g}",
                PAPER,
                -1.0,
                slope,
                max(0.1, 3 * error) if study.quick else 0.1,
                note=f"n = {', '.join(map(str, sizes))}; standard error {error:.3f}",
            )
        j = times.index(2.0)
        slope, error = _slope(logs, np.log(rest[:, j]), rest_error[:, j])
        study.claim(
            f"{label}: slope in n of what the linear theory leaves of a cloud's own deviation, t = {times[j]:g}",
            "second order: u^n = u + (1/n) sum psi(theta_i) + O(1/n)",
            -1.0,
            slope,
            max(0.1, 3 * error) if study.quick else 0.1,
            note="root mean square over clouds; every cloud's own draws are put into the influence psi; "
            f"standard error {error:.3f}",
        )
        j, sample = len(times) - 1, samples[-1]
        w, Q = np.linalg.eigh(limit.covariance[j])
        leading = math.sqrt(sample.n / w[-1]) * (sample.found[:, j] @ Q[:, -1])
        distance = float(stats.kstest(leading, "norm").statistic)
        study.at_most(
            f"{label}: leading component at t = {times[j]:g} against the limit's normal law, Kolmogorov distance",
            PAPER,
            0.0,
            distance,
            2.7 / math.sqrt(len(leading)),
            note=f"{len(leading)} clouds of {sample.n}; a right law exceeds it once in 10^6",
        )
        for j, t in enumerate(times):
            cells.append(
                [
                    label,
                    f"{t:g}",
                    float(limit.gap[j]),
                    *(f"{values[k, j]:.4g} +- {errors[k, j]:.1g}" for k in range(len(sizes))),
                    f"{plain[-1, j]:.4g}",
                    float(limit.resampling_gap[j]),
                    float(limit.energy_variance[j]),
                ]
            )
        axis = axes[c]
        fine = np.linspace(0.0, times[-1], 26)
        curve = mf.fluctuations(
            case.problem, times[-1], save=fine[1:], nodes=200, tolerance=1e-2, rtol=1e-5, progress=False
        )
        axis.plot(curve.times, curve.resampling_gap, "--", color="0.5", label="fresh draws from mu_t")
        axis.plot(curve.times, curve.gap, color="C0", label="limit (Volterra equation)")
        for k, sample in enumerate(samples):
            shift = 0.04 * (k - 1)
            label_n = f"clouds of {sample.n}"
            axis.errorbar(
                np.array(times) + shift, values[k], errors[k], fmt="o", ms=4, color=f"C{k + 1}", label=label_n
            )
        axis.set(title=label, xlabel="t", ylim=(0, None))
        axis.grid(True, alpha=0.2)
    axes[0].set_ylabel("n x gap")
    axes[0].legend(fontsize=8)
    study.table(
        "n x gap: the limit and clouds",
        [
            "problem",
            "t",
            "limit",
            *(f"clouds of {n}" for n in sizes),
            "without control variate",
            "fresh draws",
            "limit of n Var(E)",
        ],
        cells,
        f"Clouds of {', '.join(f'{n} ({r} times)' for n, r in sizes.items())}, gradient steps of two lengths "
        "extrapolated. The linear prediction from each cloud's own draws serves as control variate.",
    )
    study.figure(
        "clouds",
        "Scaled gap in time: limit (line), clouds with control variate (dots, one standard error), fresh draws.",
        figure,
    )


def _slope(x: Array, y: Array, errors: Array) -> tuple[float, float]:
    """Least-squares slope, and its standard error from those of the values."""
    centred = x - x.mean()
    weights = centred / (centred**2).sum()
    return float(weights @ y), float(np.sqrt((weights**2) @ errors**2))


# ---------------------------------------------------------------------------------------------------------------------
# long times
# ---------------------------------------------------------------------------------------------------------------------


def _long(study: Study) -> None:
    """Training towards a target that can be interpolated forgets the draws; otherwise something of them stays."""
    import matplotlib.pyplot as plt

    p = mf.problems
    early = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0]
    late = [*early, 10.0, 20.0] if study.quick else [*early, 10.0, 20.0, 40.0]
    # problem, times, whether it can be interpolated, nodes to begin with, tolerance
    cases: list[tuple[str, mf.Problem, list[float], bool, int, float]] = [
        ("bumps of mass 1", p.gaussian_bumps(alpha=0.0), late, True, 200, 1e-2),
        ("single-index k=2 d=2", p.single_index(k=2, d=2), late, True, 200, 1e-2),
    ]
    if not study.quick:
        # neurons between the wells are pulled apart exponentially, and so must the nodes resolve them
        cases.append(("bumps of mass 1.6", _heavy(), [*early, 8.0], False, 2300, 1e-2))
        signed = p.three_gaussians(alpha=0.0)
        cases.append(("three-gaussians (signed amplitudes)", signed, [*early, 10.0], True, 12, 5e-2))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    cells: Cells = []
    for i, (label, problem, times, interpolates, nodes, tolerance) in enumerate(cases):
        study.progress(i / len(cases), f"{label}: long times")
        limit = _long_limit(problem, times, nodes, tolerance)
        energy = mf.characteristics(
            problem, times[-1], save=times, nodes=min(nodes, 400), tolerance=1e-2, progress=False
        ).energy
        ratio = limit.gap / limit.resampling_gap
        study.at_most(
            f"{label}: largest ratio of the gap to that of fresh draws, 0 < t <= {times[-1]:g}",
            f"bounded by resampling; {PAPER}",
            1.0,
            ratio[1:].max(),
            limit.error_estimate,
            note=f"no random numbers; tolerance: change in the last refinement of the nodes, {len(limit.weights)}",
        )
        decay = math.log(limit.gap[-1] / limit.gap[-2]) / math.log(times[-1] / times[-2])
        study.claim(
            f"{label}: exponent of the gap in t, t = {times[-2]:g} to {times[-1]:g}",
            ("vanishes where the target is interpolated" if interpolates else "stays where it is not") + f"; {PAPER}",
            -0.5 if interpolates else -0.25,
            decay,
            kind=Kind.AT_MOST if interpolates else Kind.AT_LEAST,
            note=f"-1 is 1/t, 0 is a level; gap / gap(0) {limit.gap[-1] / limit.gap[0]:.3f}, to fresh draws "
            f"{ratio[-1]:.3f}; energy {energy[0]:.3g} -> {energy[-1]:.3g}",
        )
        (line,) = axes[0].loglog(limit.times[1:], limit.gap[1:], "o-", ms=3, label=label)
        axes[0].loglog(limit.times[1:], limit.resampling_gap[1:], "--", color=line.get_color(), lw=1)
        axes[1].semilogx(limit.times[1:], ratio[1:], "o-", ms=3, label=label)
        for j, t in enumerate(limit.times):
            cells.append(
                [
                    label,
                    f"{t:g}",
                    float(energy[j]),
                    float(limit.gap[j]),
                    float(limit.resampling_gap[j]),
                    f"{ratio[j]:.3f}",
                    float(limit.energy_variance[j]),
                ]
            )
    axes[0].set(xlabel="t", ylabel="n x gap", title="solid: trained; dashed: fresh draws from the same law")
    axes[1].set(xlabel="t", ylabel="trained / fresh draws", ylim=(0, 1.05), title="what training leaves of its draws")
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
    axes[1].legend(fontsize=7)
    study.table(
        "Fluctuations over long times", ["problem", "t", "energy", "n x gap", "fresh draws", "ratio", "n Var(E)"], cells
    )
    study.figure("long", "The scaled gap over long times, against fresh draws from the same law.", figure)


def _long_limit(problem: mf.Problem, times: Sequence[float], nodes: int, tolerance: float) -> mf.Fluctuations:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # the error estimate is the tolerance of the row
        return mf.fluctuations(
            problem, times[-1], save=times, nodes=nodes, tolerance=tolerance, max_nodes=3500, progress=False
        )
