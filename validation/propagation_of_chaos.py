"""Propagation of chaos for single-index models: times to learn, and networks of finite width in full dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.particles import coupled
from validation._runner import Progress, Study

HEADLINE = "k = 4: exponent of the half-loss time"

Array = NDArray[np.float64]
Cells = list[list[str | float | int]]

PAPER = "Glasgow, Wu, Bruna, arXiv:2504.13110"
QUANTILES = "quantiles of the cosine, integrated by scipy"
HALF_PERCENT = 5e-3


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Propagation of chaos: single-index models",
        "Neurons on the sphere S^(d-1) with unit He_k/sqrt(k!) learn one such neuron. By symmetry the mean field is a "
        "problem on one angle, `problems.single_index`. Its times to learn are held against closed forms and against "
        "an independent integration; networks of finite width, unit vectors in d dimensions, against the one angle. "
        "*Loss* is E (f - y)^2, twice the energy; the rate of the flow is c = 1.",
        quick,
        progress,
    )
    study.parts((_times, 0.25), (_closed, 0.05), (_widths, 0.55), (_growth, 0.15))
    return study


# ---------------------------------------------------------------------------------------------------------------------
# times to learn
# ---------------------------------------------------------------------------------------------------------------------


def _cosines(d: float, n: int) -> tuple[Array, Array]:
    """Nodes and weights of the cosine between a fixed direction and a uniform point of S^{d-1}."""
    from scipy.special import roots_jacobi

    if d == 1:
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    x, w = roots_jacobi(n, (d - 3) / 2, (d - 3) / 2)
    return x, w / w.sum()


def _passing_times(k: int, d: float, levels: Sequence[float], n: int) -> Array:
    """When the loss passes the levels: u' = (1 - u^2) Phi'(u) for quantiles u of the cosine."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import brentq

    # nodes where the mass is: exp(-72/2) of it lies beyond
    u, w = np.polynomial.legendre.leggauss(n)
    u *= min(1.0, math.sqrt(72.0 / d))
    w *= (1 - u**2) ** (0.5 * (d - 3))
    w /= w.sum()
    xi, p = _cosines(d - 1, 40)
    orders = range(0, k + 1, 2)
    factors = np.array([math.comb(k, j) * float(p @ xi**j) for j in orders])

    def parts(u: Array) -> tuple[Array, Array]:
        s = 1 - u**2
        values = np.stack([u ** (k - j) * s ** (j // 2) for j in orders])
        slopes = [
            (k - j) * u ** max(k - j - 1, 0) * s ** (j // 2) - j * u ** (k - j + 1) * s ** max(j // 2 - 1, 0)
            for j in orders
        ]
        return values, np.stack(slopes)

    def flow(t: float, u: Array) -> Array:
        values, slopes = parts(u)
        excess = factors * (values @ w)
        excess[0] -= 1.0
        return -(1 - u**2) * (excess @ slopes)

    def loss(u: Array) -> float:
        moments = parts(u)[0] @ w
        return float(1 - 2 * moments[0] + factors @ moments**2)

    def over(t: float, u: Array) -> float:
        return loss(u) - levels[-1]

    over.terminal = True  # type: ignore[attr-defined]
    run = solve_ivp(flow, (0.0, 1e3), u, "DOP853", rtol=1e-8, atol=1e-10, events=over, dense_output=True)
    end = float(run.t[-1])
    return np.array(
        [brentq(lambda t, level=level: loss(run.sol(t)) - level, 0.0, end) for level in levels[:-1]] + [end]
    )


def _times(study: Study) -> None:
    import matplotlib.pyplot as plt

    dims: dict[int, tuple[int, ...]] = {2: (8, 16, 32, 64, 128), 3: (8, 16, 32, 64, 128), 4: (8, 16, 32, 64, 128)}
    if study.quick:
        dims = {2: (8, 32, 64, 128), 3: (16, 32, 64), 4: (8, 16, 32)}
    levels = {2: (0.5,), 3: (0.5,), 4: (0.9, 0.5, 0.2)}
    halves: dict[int, list[float]] = {}
    cells: Cells = []
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for a, (k, row) in enumerate(dims.items()):
        halves[k] = []
        for d in row:
            study.progress((a + row.index(d) / len(row)) / 3, f"times: k = {k}, d = {d}")
            wanted = tuple(level for level in levels[k] if level > 0.2 or d <= (16 if study.quick else 64))
            problem = mf.problems.single_index(k=k, d=d)
            if k == 2:
                expected = np.array([problem.exact["time_to_energy"](0.5 * level) for level in wanted])
                source, note, spread = "closed form (one scalar equation)", "the mesh's own accuracy", 1e-3
            else:
                expected, coarse = (
                    _passing_times(k, d, wanted, n) for n in ((800, 400) if study.quick else (1600, 800))
                )
                source = QUANTILES
                change = np.abs(expected / coarse - 1)
            solution = mf.solve(problem, (400,), 1.05 * expected[-1], save=2, progress=False)
            time, loss = solution.diagnostics["time"], 2 * solution.diagnostics["energy"]
            found = np.interp(-np.array(wanted), -loss, time)
            for i, (level, t, measured) in enumerate(zip(wanted, expected, found, strict=True)):
                if k > 2:
                    spread = max(HALF_PERCENT, float(change[i]))
                    note = f"half a percent; the quantiles change by {change[i]:.0e} when their number is halved"
                study.claim(
                    f"k = {k}, d = {d}: time at which the loss is {level:g}", source, t, measured, spread * t, note=note
                )
                cells.append([k, d, level, float(t), float(measured), f"{measured / t - 1:.1e}"])
            halves[k].append(float(found[wanted.index(0.5)]))
            if k == 4:
                axes[0].plot(time / d, loss, label=f"d = {d}")
        axes[1].loglog(row, halves[k], "o-", label=f"k = {k}")
    # exponents
    for k, exponent in ((3, 0.5), (4, 1.0)):
        x, y = np.log(dims[k][-3:]), np.log(halves[k][-3:])
        study.claim(
            f"k = {k}: exponent of the half-loss time in d, d = {dims[k][-3]} to {dims[k][-1]}",
            f"d^(k/2 - 1); {PAPER}",
            exponent,
            float(np.polyfit(x, y, 1)[0]),
            0.1,
            note="least squares on three dimensions; corrections of lower order in d are not fitted",
        )
    study.claim(
        f"k = 2: increase of the half-loss time when d doubles, {dims[2][-2]} to {dims[2][-1]}",
        "(1/4) log 2 as d grows (derived from the closed form)",
        0.25 * math.log(2),
        halves[2][-1] - halves[2][-2],
        0.01,
        note="logarithmic in d; corrections are O(1/d)",
    )
    axes[0].set(xlabel="t / d", ylabel="loss", title="k = 4: time to learn is linear in d", xlim=(0, 0.5))
    axes[1].set(xlabel="d", ylabel="time to half loss", title="d^(k/2-1), logarithmic for k = 2")
    axes[1].set_xticks(dims[2], [str(d) for d in dims[2]])
    axes[1].set_xticks([], minor=True)
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
        axis.legend(fontsize=8)
    study.table("Times to learn", ["k", "d", "loss", "expected time", "grid, 400 cells", "relative difference"], cells)
    study.figure("times", "The loss in time, and the time to half loss against the dimension.", figure)


def _closed(study: Study) -> None:
    """Closed forms, k = 2: energy along characteristics, density on the mesh."""
    for i, d in enumerate((2, 3) if study.quick else (2, 3, 8, 32, 128)):
        study.progress(i / 5, f"closed form, d = {d}")
        problem = mf.problems.single_index(k=2, d=d)
        times = (0.5, 1.0, 2.0)
        exact = mf.characteristics(problem, 2.0, save=times, progress=False)
        expected = np.array([problem.exact["energy"](t) for t in exact.times])
        study.claim(
            f"k = 2, d = {d}: energy of the characteristics at t = 0.5, 1, 2, relative error",
            "closed form" + (" (Lambert W)" if d == 2 else ""),
            0.0,
            np.abs(exact.energy / expected - 1).max(),
            max(1e-9, 10 * exact.error_estimate),
            note=f"their own estimate is {exact.error_estimate:.0e}",
        )
        if d > 3:
            continue
        errors = []
        for n in (100, 200, 400):
            solution = mf.solve(problem, (n,), 1.0, save=2, progress=False)
            there = problem.exact["density"](solution.grid.centres(0), 1.0)
            errors.append(float(np.abs(solution.density[-1] - there).sum() * solution.grid.cell_volume))
        study.at_most(
            f"k = 2, d = {d}: density on 400 cells at t = 1, L1 error",
            "closed form",
            0.0,
            errors[-1],
            errors[0] / 12,
            note=f"at least a second order's fall from 100 cells ({errors[0]:.1e}), with a quarter to spare",
        )


# ---------------------------------------------------------------------------------------------------------------------
# finite widths in full dimension
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _MeanField:
    """The mean field on the angle at the times of fourth-order steps: responses at whole and half steps."""

    problem: mf.Problem
    dt: float
    responses: Array

    @staticmethod
    def of(problem: mf.Problem, t_end: float, dt: float, tolerance: float) -> _MeanField:
        exact = mf.characteristics(problem, t_end, save=2, tolerance=tolerance, progress=False)
        steps = round(t_end / dt)
        at = np.linspace(0.0, t_end, 2 * steps + 1)
        return _MeanField(problem, dt, np.array([exact.response_at(t) for t in at]))

    def at(self, t: float) -> Array:
        return np.asarray(self.responses[round(2 * t / self.dt)])

    def loss(self, t: float) -> float:
        """E (f - y)^2 of the limit."""
        u = self.at(t).copy()
        u[0] -= 1.0
        return float(u @ u)

    def twins(self, theta: Array, step: int) -> Array:
        """The angles after one more step of the mean field's flow."""
        bound, u = self.problem.bound_energy, self.responses

        def velocity(x: Array, i: int) -> Array:
            return -bound.gradient(x[:, None], u[i])[:, 0]

        h, i = self.dt, 2 * step
        a = velocity(theta, i)
        b = velocity(theta + 0.5 * h * a, i + 1)
        c = velocity(theta + 0.5 * h * b, i + 1)
        e = velocity(theta + h * c, i + 2)
        return np.asarray(theta + h / 6 * (a + 2 * b + 2 * c + e))


def _power(x: Array, k: int) -> Array:
    """``x**k`` by multiplications, much faster than a general power."""
    result = x.copy()
    for _ in range(k - 1):
        result *= x
    return result


def _force(W: Array, k: int) -> Array:
    """Minus the gradient of the potential of the network of rows of W, tangent to the sphere."""
    force = _power(W @ W.T, k - 1) @ W / -len(W)
    force[:, 0] += W[:, 0] ** (k - 1)
    force *= k
    force -= np.einsum("ij,ij->i", force, W)[:, None] * W
    return np.asarray(force)


def _advance(W: Array, k: int, h: float) -> Array:
    """One fourth-order step, back on the sphere."""
    a = _force(W, k)
    b = _force(W + 0.5 * h * a, k)
    c = _force(W + 0.5 * h * b, k)
    W = W + h / 6 * (a + 2 * b + 2 * c + _force(W + h * c, k))
    return np.asarray(W / np.linalg.norm(W, axis=1, keepdims=True))


def _network(W: Array, k: int, mean_field: _MeanField, times: Sequence[float]) -> Array:
    """Train a network; at the times: its loss, E (f^m - f)^2, and mean squared distance of neurons from their twins."""
    W = W.copy()
    theta = np.arccos(np.clip(W[:, 0], -1, 1))
    across = W[:, 1:] / np.linalg.norm(W[:, 1:], axis=1, keepdims=True)
    bound = mean_field.problem.bound_energy
    at = {round(t / mean_field.dt): j for j, t in enumerate(times)}
    found = np.empty((3, len(times)))
    for step in range(max(at) + 1):
        if step in at:
            pairs = float(_power(W @ W.T, k).mean())
            u = mean_field.at(step * mean_field.dt)
            angle = np.arccos(np.clip(W[:, 0], -1, 1))
            cross = float((u @ bound.features(angle[:, None])).mean())
            twin = np.concatenate([np.cos(theta)[:, None], np.sin(theta)[:, None] * across], axis=1)
            found[:, at[step]] = (
                1 - 2 * (W[:, 0] ** k).mean() + pairs,
                pairs - 2 * cross + u @ u,
                ((W - twin) ** 2).sum(axis=1).mean(),
            )
        if step < max(at):
            W = _advance(W, k, mean_field.dt)
            theta = mean_field.twins(theta, step)
    return found


def _full_limit(problem: mf.Problem, k: int, d: int, times: Sequence[float], n: int) -> Array:
    """The limit of m E (f^m - f)^2 in all d dimensions, by sectors of harmonics Y_lm of the directions across.

    With w = (cos theta, sin theta eta) the kernel (w.w')^k is a sum over l and j of phi_jl(theta) phi_jl(theta') times
    sum_m Y_lm(eta) Y_lm(eta'), with phi_jl^2 = C(k, j) kappa_jl cos^{2(k-j)} sin^{2j} and (eta.eta')^j = sum_l kappa_jl
    sum_m Y_lm Y_lm. One draw more at (theta_j, eta_j) changes the response of sector l by psi_l(theta_j) Y_lm(eta_j);
    the neurons give way by X(theta) Y in the angle and by H(theta) grad Y across,
    X' = -V'' X - sum_k g_k phi_k', H' = -sum_k g_k phi_k / sin^2, g = phi + int (phi' X + l (l + d - 3) phi H) dmu.
    Integrated forward, one column a node of the start.
    """
    from scipy.integrate import solve_ivp
    from scipy.special import eval_gegenbauer

    bound = problem.bound_energy
    points, w = problem.mu_0.nodes(n)
    theta_0 = points[:, 0]
    N = len(w)
    # kappa_jl = E t^j C_l(t)/C_l(1), t the cosine of two directions of S^{d-2}
    t, p = _cosines(d - 1, 60)
    nu = 0.5 * (d - 3)
    total = np.zeros(len(times))
    for degree in range(k + 1):
        zonal = eval_gegenbauer(degree, nu, t) / eval_gegenbauer(degree, nu, 1.0)
        orders = [j for j in range(degree, k + 1) if (j - degree) % 2 == 0]
        scale = np.sqrt([math.comb(k, j) * float(p @ (t**j * zonal)) for j in orders])
        ambient = d - 1
        count = math.comb(degree + ambient - 1, degree) - (
            math.comb(degree + ambient - 3, degree - 2) if degree > 1 else 0
        )
        curl = degree * (degree + d - 3)

        def features(theta: Array, scale: Array = scale, orders: list[int] = orders) -> tuple[Array, Array]:
            c, s = np.cos(theta), np.sin(theta)
            values = np.stack([c ** (k - j) * s**j for j in orders])
            slopes = [
                j * c ** (k - j + 1) * s ** max(j - 1, 0) - (k - j) * c ** max(k - j - 1, 0) * s ** (j + 1)
                for j in orders
            ]
            return scale[:, None] * values, scale[:, None] * np.stack(slopes)

        def flow(time: float, y: Array, features=features, curl: int = curl) -> Array:  # type: ignore[no-untyped-def]
            theta, X, H = y[:N], y[N : N + N * N].reshape(N, N), y[N + N * N :].reshape(N, N)
            u = bound.response(theta[:, None], w)
            h = 1e-4
            ahead, behind = (bound.gradient((theta + e)[:, None], u)[:, 0] for e in (h, -h))
            values, slopes = features(theta)
            g = values + (slopes * w) @ X + curl * (values * w) @ H
            dX = -((ahead - behind) / (2 * h))[:, None] * X - slopes.T @ g
            dH = -(values / np.sin(theta) ** 2).T @ g if curl else np.zeros_like(H)
            return np.concatenate([-bound.gradient(theta[:, None], u)[:, 0], dX.ravel(), dH.ravel()])

        start = np.concatenate([theta_0, np.zeros(2 * N * N)])
        run = solve_ivp(flow, (0.0, times[-1]), start, "RK45", times, rtol=1e-5, atol=1e-7)
        for i, y in enumerate(run.y.T):
            values, slopes = features(y[:N])
            X, H = y[N : N + N * N].reshape(N, N), y[N + N * N :].reshape(N, N)
            psi = values + (slopes * w) @ X + curl * (values * w) @ H
            if degree == 0:
                psi = psi - (psi @ w)[:, None]
            total[i] += count * float((psi**2 @ w).sum())
    return total


def _widths(study: Study) -> None:
    import matplotlib.pyplot as plt

    k, d, dt = 4, 16, 0.1
    times = (0.0, 1.0, 2.0) if study.quick else (0.0, 1.0, 2.0, 5.0)
    widths = (64, 256) if study.quick else (128, 512, 2048)
    seeds = 4
    problem = mf.problems.single_index(k=k, d=d)
    study.progress(0.0, "the mean field, and its fluctuations in d dimensions")
    mean_field = _MeanField.of(problem, times[-1], dt, 1e-7)
    coarse = _full_limit(problem, k, d, times, 120 if study.quick else 375)
    limit = _full_limit(problem, k, d, times, 180 if study.quick else 560)
    change = np.abs(limit / coarse - 1)
    angle = 2 * mf.fluctuations(problem, times[-1], save=times[1:], nodes=200, tolerance=1e-2, progress=False).gap

    found: dict[int, list[Array]] = {m: [] for m in widths}
    for seed in range(seeds):
        rng = np.random.default_rng(np.random.SeedSequence([2504, seed]))
        W = rng.standard_normal((widths[-1], d))
        W /= np.linalg.norm(W, axis=1, keepdims=True)
        for i, m in enumerate(widths):
            study.progress(0.2 + 0.8 * (seed + i / len(widths)) / seeds, f"start {seed + 1} of {seeds}, width {m}")
            # nested: the narrower networks are parts of the widest one
            found[m] += [_network(W[j : j + m], k, mean_field, times) for j in range(0, widths[-1], m)]
    mean = np.array([np.mean(found[m], axis=0) for m in widths])  # (widths, 3, times)
    error = np.array([np.std(found[m], axis=0, ddof=1) / math.sqrt(len(found[m])) for m in widths])
    logs = np.log(widths)
    spread = "standard error {:.3f}; m = " + ", ".join(f"{m} ({len(found[m])} networks)" for m in widths)
    for j, t in enumerate(times):
        slope, bar = _slope(logs, np.log(mean[:, 1, j]), error[:, 1, j] / mean[:, 1, j])
        allowed = max(0.1, 3 * bar) if study.quick else 0.1
        study.claim(
            f"k = 4, d = 16, full sphere: slope of E (f^m - f)^2 in the width m, t = {t:g}",
            f"1/m; {PAPER}",
            -1.0,
            slope,
            allowed,
            note=spread.format(bar),
        )
        if t > 0:
            slope, bar = _slope(logs, 0.5 * np.log(mean[:, 2, j]), 0.5 * error[:, 2, j] / mean[:, 2, j])
            allowed = max(0.1, 3 * bar) if study.quick else 0.1
            study.claim(
                f"k = 4, d = 16, full sphere: slope of the coupling error rms |w_i - twin_i| in m, t = {t:g}",
                f"1/sqrt m; {PAPER}",
                -0.5,
                slope,
                allowed,
                note=spread.format(bar),
            )
    small, large = widths[-2:]
    share = large / (large - small)
    for j, t in enumerate(times):
        loss = share * mean[-1, 0, j] - (share - 1) * mean[-2, 0, j]
        bar = math.hypot(share * error[-1, 0, j], (share - 1) * error[-2, 0, j])
        study.claim(
            f"k = 4, d = 16, full sphere: loss at t = {t:g}, widths {small} and {large} extrapolated",
            "the mean field on one angle, along characteristics",
            mean_field.loss(t),
            loss,
            5 * bar,
            note="5 standard errors; the bias of width m is of order 1/m",
        )
    for j, t in enumerate(times):
        scaled = share * widths[-1] * mean[-1, 1, j] - (share - 1) * widths[-2] * mean[-2, 1, j]
        bar = math.hypot(share * widths[-1] * error[-1, 1, j], (share - 1) * widths[-2] * error[-2, 1, j])
        if study.quick:  # too few networks to extrapolate
            scaled, bar = widths[-1] * mean[-1, 1, j], widths[-1] * error[-1, 1, j]
        study.claim(
            f"k = 4, d = 16, full sphere: m E (f^m - f)^2 at t = {t:g}",
            "central limit in d dimensions, harmonics of S^(d-2) sector by sector (derived); at t = 0: 1 - m_4",
            limit[j],
            scaled,
            5 * bar + change[j] * limit[j] + (0.1 * limit[j] if study.quick else 0.0),
            note=f"5 standard errors of {bar / limit[j]:.1%}, nodes {change[j]:.0e}; angle alone: {angle[j]:.3g}"
            + ("; 10% for the bias of the width" if study.quick else ""),
        )
    start = 1 - 3 / (d * (d + 2))
    study.claim(
        "k = 4, d = 16: the limit of m E (f^m - f)^2 at t = 0",
        "1 - m_4 = 1 - 3 / (d (d + 2)): variance of the draws",
        start,
        limit[0],
        1e-9,
        note="sum over the sectors; round-off of the quadrature",
    )
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for j, t in enumerate(times):
        axes[0].errorbar(widths, mean[:, 1, j], error[:, 1, j], fmt="o", color=f"C{j}", ms=4, label=f"t = {t:g}")
        axes[0].plot(widths, limit[j] / np.array(widths), "-", color=f"C{j}", lw=1)
        if t > 0:
            axes[1].errorbar(
                widths, np.sqrt(mean[:, 2, j]), 0.5 * error[:, 2, j] / np.sqrt(mean[:, 2, j]), fmt="o-", color=f"C{j}"
            )
    axes[1].plot(widths, np.sqrt(mean[0, 2, -1] * widths[0]) / np.sqrt(widths), "k--", lw=1, label="slope -1/2")
    axes[0].set(title="E (f^m - f)^2; lines: central limit", xlabel="width m", xscale="log", yscale="log")
    axes[1].set(title="coupling error, rms |w - twin|", xlabel="width m", xscale="log", yscale="log")
    line = np.linspace(0, times[-1], round(times[-1] / dt) + 1)
    axes[2].plot(line, [mean_field.loss(t) for t in line], "k-", lw=1, label="one angle (PDE)")
    for i, m in enumerate(widths):
        axes[2].errorbar(times, mean[i, 0], error[i, 0], fmt="o", ms=4, label=f"m = {m}, in 16 dimensions")
    axes[2].set(title="loss", xlabel="t")
    for axis in axes:
        axis.grid(True, which="both", alpha=0.2)
        axis.legend(fontsize=7)
    for axis in axes[:2]:
        axis.set_xticks(widths, [str(m) for m in widths])
        axis.set_xticks([], minor=True)
    cells: Cells = [
        [
            f"{t:g}",
            m,
            len(found[m]),
            f"{mean[i, 0, j]:.5f} +- {error[i, 0, j]:.1g}",
            f"{mean_field.loss(t):.5f}",
            f"{m * mean[i, 1, j]:.3f} +- {m * error[i, 1, j]:.1g}",
            f"{limit[j]:.3f}",
            f"{m * mean[i, 2, j]:.3f}",
        ]
        for j, t in enumerate(times)
        for i, m in enumerate(widths)
    ]
    study.table(
        "Networks of width m on the sphere in 16 dimensions, k = 4",
        ["t", "m", "networks", "loss", "loss, PDE", "m E (f^m - f)^2", "its limit", "m mean |w - twin|^2"],
        cells,
        "Widths are nested: narrower networks are parts of the widest one's neurons. Both sides take fourth-order "
        f"steps of {dt:g}; a twin starts with its neuron and follows the mean field.",
    )
    study.figure("widths", "Networks of finite width against the mean field, in 16 dimensions.", figure)


def _slope(x: Array, y: Array, errors: Array) -> tuple[float, float]:
    """Least-squares slope, and its standard error from those of the values."""
    centred = x - x.mean()
    weights = centred / (centred**2).sum()
    return float(weights @ y), float(np.sqrt((weights**2) @ errors**2))


# ---------------------------------------------------------------------------------------------------------------------
# how errors grow: the local Hessian
# ---------------------------------------------------------------------------------------------------------------------


def _growth(study: Study) -> None:
    """On the angle: how differences grow, against the integrated local Hessian, and that against the speed."""
    # k = 2: the potential is a multiple of cos^2 at all times, so a difference grows as sin(2 theta) does
    study.progress(0.0, "local Hessian, k = 2")
    problem = mf.problems.single_index(k=2, d=16)
    dt, end = 0.01, 2.0
    exact = mf.characteristics(problem, end, save=2, tolerance=1e-7, progress=False)
    pairs = coupled(problem, exact, 256, dt=dt, t_end=end, save=round(end / dt) + 1, seed=3)
    assert pairs.growth_integral is not None
    speed = np.abs(np.sin(2 * pairs.twins[0, :, :, 0]))
    expected = np.log(speed.max(axis=0) / speed[0])
    error = np.abs(pairs.growth_integral[0, -1] - expected).max()
    study.claim(
        "k = 2, d = 16: local Hessian integrated where positive, minus log(largest speed / first), largest of 256",
        f"self-concordance is an identity for k = 2; {PAPER}",
        0.0,
        error,
        2 * dt,
        note="twins take Euler steps of 0.01: first order",
    )
    dims = (8, 16) if study.quick else (8, 16, 32, 64)
    cells: Cells = []
    peaks, typical, speeds = [], [], []
    for i, d in enumerate(dims):
        study.progress((1 + i) / (1 + len(dims)), f"local Hessian, d = {d}")
        problem = mf.problems.single_index(k=4, d=d)
        end = 0.5 * d
        exact = mf.characteristics(problem, end, save=2, nodes=200, tolerance=1e-3, progress=False)
        pairs = coupled(
            problem, exact, 512, dt=end / 160, t_end=end, save=41, seed=11, replicas=2 if study.quick else 8
        )
        assert pairs.growth_integral is not None
        scaled = np.sqrt(512 * (pairs.rms**2).mean(axis=0))
        twins = pairs.twins[..., 0]
        factor = np.exp(pairs.growth_integral[:, -1])
        speed = np.abs(np.cos(twins)) ** 3 * np.sin(twins)
        ratio = speed.max(axis=1) / np.maximum(speed[:, 0], 1e-300)
        peaks.append(float(scaled.max()))
        typical.append(float(np.median(factor)))
        speeds.append(float(np.median(ratio)))
        at = f"{pairs.times[int(np.argmax(scaled))]:.2f}"
        cells.append([d, f"{end:g}", f"{peaks[-1]:.3g}", at, f"{typical[-1]:.3g}", f"{speeds[-1]:.3g}"])
    if len(dims) > 2:
        for name, values in (
            ("sqrt(n) rms of the coupling error, largest in time", peaks),
            ("median exp(integrated local Hessian)", typical),
        ):
            study.report(
                f"k = 4: exponent in d of {name}",
                f"polynomial in d; {PAPER}",
                float(np.polyfit(np.log(dims), np.log(values), 1)[0]),
                note=f"d = {', '.join(map(str, dims))}, up to t = d/2",
            )
    study.table(
        "Growth of errors on the angle, k = 4, up to t = d/2",
        [
            "d",
            "end time",
            "largest sqrt(n) rms",
            "at t",
            "exp(integrated local Hessian), median",
            "growth of u^3 sqrt(1 - u^2), median",
        ],
        cells,
        "The local Hessian is integrated along the twins over the times at which it is positive. The speed at the "
        "start's potential is 4 u^3 sqrt(1 - u^2); its growth is the largest over the run relative to the start.",
    )
