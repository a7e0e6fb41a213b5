"""Related flows: self-attention on the circle, energy distance, spikes on the torus, sampling of many modes."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.particles import BirthDeath, GradientDescent, KernelDensity, Langevin, simulate
from validation._runner import Progress, Study

HEADLINE = "beta = 5: largest relative error of a growth rate"

Array = NDArray[np.float64]

ATTENTION = "linearisation, k^2 I_k(beta)/beta; Bruno et al. 2410.23228"
PAIR = "the equation of the angle, by quadrature"
QUANTILES = "closed form, X = s + (X_0 - s) e^{-2t}"
LINEAR = "eigenvalue of the linearised equation, another discretisation"
SG: dict[str, Any] = {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitStrang()}


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Related flows",
        "Flows of the same kind as training: tokens under self-attention (a concave interaction on the circle), the "
        "gradient flow of the energy distance (a kernel with a kink, solved in closed form), mean-field Langevin "
        "dynamics that fits spikes on the torus (with and without annealing), and sampling of a target with four modes "
        "with and without birth-death. Double wells and one-dimensional sampling are in the study of temperature.",
        quick,
        progress,
    )
    study.parts((_growth, 0.1), (_winners, 0.1), (_clusters, 0.15), (_distance, 0.15), (_spikes, 0.3), (_modes, 0.2))
    return study


# ---------------------------------------------------------------------------------------------------------------------
# self-attention
# ---------------------------------------------------------------------------------------------------------------------

BETAS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0)


def _harmonics(solution: mf.Solution, i: int, count: int) -> Array:
    x = solution.grid.centres(0)
    modes = np.exp(1j * np.outer(np.arange(1, count + 1), x))
    return np.asarray(np.abs(modes @ solution.density[i])) * solution.grid.cell_volume


def _rates(beta: float, cells: int, scheme: Any, count: int = 8) -> tuple[Array, Array]:
    """Rates of the harmonics over two e-folding times of the fastest: closed form, measured."""
    from scipy.special import iv

    k = np.arange(1, count + 1)
    exact = k**2 * iv(k, beta) / beta
    problem = mf.problems.self_attention(beta, 1e-7)
    t_end = 2.0 / float(exact.max())
    control = mf.FixedStep(0.01 * t_end)
    s = mf.solve(problem, (cells,), t_end, scheme=scheme, controller=control, save=2, progress=False)
    return exact, np.log(_harmonics(s, 1, count) / _harmonics(s, 0, count)) / t_end


def _growth(study: Study) -> None:
    """Small perturbations of the uniform measure."""
    lines: list[tuple[Any, ...]] = []
    note = (
        "0.1 %; harmonics 1 to 8 at once from amplitudes 1e-7, those whose rate is at least 2 % of the largest (others "
        "hardly grow in the time of the run); 256 cells, Weno5"
    )
    for i, beta in enumerate(BETAS):
        study.progress(0.6 * i / len(BETAS), f"growth rates, beta = {beta:g}")
        exact, measured = _rates(beta, 256, mf.Weno5())
        seen = exact > 0.02 * exact.max()
        worst = float(np.abs(measured / exact - 1)[seen].max())
        claim = f"beta = {beta:g}: largest relative error of a growth rate"
        study.at_most(claim, ATTENTION, 0.0, worst, 1e-3, note=note)
        fastest = 1 + int(np.argmax(measured))
        study.claim(f"beta = {beta:g}: fastest harmonic", ATTENTION, 1 + int(np.argmax(exact)), fastest)
        lines += [(f"{beta:g}", k + 1, exact[k], float(measured[k])) for k in range(6) if seen[k]]
    header = ("beta", "harmonic", "k^2 I_k/beta", "measured")
    study.table("Growth rates of self-attention", header, lines if not study.quick else lines[:12])
    cells = (128, 256, 512)
    errors = []
    for n in cells:
        study.progress(0.8, f"growth rates, Muscl, {n} cells")
        exact, measured = _rates(5.0, n, mf.Muscl())
        errors.append(abs(float(measured[2] / exact[2]) - 1))
    order = -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])
    study.claim("beta = 5, Muscl: order in h of the rate of the fastest harmonic", "construction", 2.0, order, 0.2)
    # the sign turned: the same kernel repels, which is the flow of its maximum mean discrepancy to the uniform measure
    problem = mf.problems.self_attention(5.0, 1e-3)
    turned = dataclasses.replace(problem, energy=mf.Interaction(problem.energy.kernel, -1.0), parameters=None)  # type: ignore[attr-defined]
    s = mf.solve(turned, (256,), 0.05, controller=mf.FixedStep(5e-4), save=2, progress=False)
    measured = -np.log(_harmonics(s, 1, 4) / _harmonics(s, 0, 4)) / 0.05
    worst = float(np.abs(measured / exact[:4] - 1).max())
    claim = "the kernel with its sign turned: decay of harmonics 1 to 4, largest relative error"
    note = "linearised MMD flow near a uniform target; amplitude 1e-3, and the next order is that small"
    study.at_most(claim, "linearisation, k^2 I_k(beta)/beta", 0.0, worst, 5e-3, note=note)


def _peaks(mu: Array) -> Array:
    """Where a periodic density has local maxima of at least a fifth of the largest."""
    return np.flatnonzero((mu > np.roll(mu, 1)) & (mu >= np.roll(mu, -1)) & (mu > 0.2 * mu.max()))


def _winners(study: Study) -> None:
    """Which harmonic leads when the perturbation is large, and how many clusters it makes."""
    import matplotlib.pyplot as plt
    from scipy.special import iv

    shown = (5.0, 7.0)
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    for i, beta in enumerate(BETAS):
        study.progress(i / len(BETAS), f"clusters, beta = {beta:g}")
        k = np.arange(1, 13)
        rates = k**2 * iv(k, beta) / beta
        winner = 1 + int(np.argmax(rates))
        problem = mf.problems.self_attention(beta, 1e-8)
        early = math.log(1e6) / float(rates.max())
        # error control does not see growth below its tolerance
        control = mf.FixedStep(0.05 / float(rates.max()))
        first = mf.solve(problem, (512,), early, controller=control, save=2, progress=False)
        leader = 1 + int(np.argmax(_harmonics(first, 1, 12)))
        s = mf.solve(
            problem,
            (512,),
            2 * early,
            save=early * np.linspace(1, 2, 201)[1:],
            initial=first,
            stop=lambda snapshot: bool(snapshot.mu.max() > 1.5),
            progress=False,
        )
        note = "equal amplitudes 1e-8 of harmonics 1 to 8; the fastest has grown by a million"
        study.claim(f"beta = {beta:g}: leading harmonic", ATTENTION, winner, leader, note=note)
        clusters = len(_peaks(s.density[-1]))
        note = "local maxima of at least a fifth of the largest when the density first reaches 1.5"
        study.claim(f"beta = {beta:g}: clusters", ATTENTION, winner, clusters, note=note)
        if beta in shown:
            axis = panels[shown.index(beta)]
            x = s.grid.centres(0)
            peak = np.asarray(s.density).max(axis=1)
            for level, colour in ((0.2, "0.75"), (0.5, "0.5"), (peak[-1], "C0")):
                j = int(np.argmax(peak >= level))
                axis.plot(x, s.density[j], color=colour, label=f"t = {s.times[j]:.3f}")
            for j in range(winner):
                place = (2 * math.pi * j + winner**2) / winner % (2 * math.pi)
                axis.axvline(place, color="C3", lw=0.7, ls=":")
            axis.set(xlabel="angle", ylabel="density", title=f"beta = {beta:g}", ylim=(0, None))
            axis.legend(fontsize="small")
    caption = "Clusters form out of a perturbation of 1e-8. Dotted: crests of the fastest harmonic at the start."
    study.figure("clusters", caption, figure)


def _angle_time(beta: float, start: float, end: float) -> float:
    """When the angle of two clusters has gone from start to end, in units of e^{-beta}."""
    from scipy import integrate

    return float(
        integrate.quad(lambda p: math.exp(beta * (1 - math.cos(p))) / math.sin(p), end, start, epsabs=0, epsrel=1e-11)[
            0
        ]
    )


def _clusters(study: Study) -> None:
    """Two clusters, and a staircase of several: atoms along characteristics."""
    import matplotlib.pyplot as plt

    def atoms(beta: float, places: Sequence[float], masses: Sequence[float]) -> mf.Problem:
        start = mf.Particles(np.asarray(places, dtype=float)[:, None], np.asarray(masses, dtype=float))
        return dataclasses.replace(mf.problems.self_attention(beta), initial=start, parameters=None)

    lines: list[tuple[Any, ...]] = []
    for i, (beta, masses) in enumerate(((4.0, (0.5, 0.5)), (9.0, (0.3, 0.7)), (16.0, (0.5, 0.5)))):
        study.progress(0.15 * i, f"two clusters, beta = {beta:g}")
        expected = _angle_time(beta, math.pi / 2, 0.1)
        unit = math.exp(-beta)
        save = (expected + np.linspace(-2, 2, 9)) * unit
        s = mf.characteristics(
            atoms(beta, (1.0, 1.0 + math.pi / 2), masses),
            save[-1],
            save=save,
            tolerance=1e-5,
            rtol=1e-12,
            progress=False,
        )
        angle = s.points[1:, 1, 0] - s.points[1:, 0, 0]
        # near the end the angle decays like e^-t; outside of the save times there is no number
        at = np.interp(-math.log(0.1), -np.log(np.maximum(angle, 1e-9)), s.times[1:], left=math.nan, right=math.nan)
        measured = float(at) / unit
        claim = f"beta = {beta:g}: time from a right angle to 0.1, in units of e^-beta"
        note = f"masses {masses[0]:g} and {masses[1]:g}; 1e-6 relative or 0.01 units, for the interpolation in time"
        study.claim(claim, PAIR, expected, measured, max(1e-6 * expected, 0.01), note=note)
        mean = s.points[:, :, 0] @ np.array(masses)
        lines.append((f"{beta:g}", str(masses), expected, measured, float(np.abs(mean - mean[0]).max())))
    study.table(
        "Two clusters at a right angle",
        ("beta", "masses", "time, quadrature", "time, characteristics", "drift of the mean angle"),
        lines,
        "Time until the angle is 0.1, in units of e^-beta.",
    )
    # clouds: 200 tokens a cluster, and the mesh
    beta, width = 4.0, 0.05
    expected = _angle_time(beta, math.pi / 2, 0.1)
    unit = math.exp(-beta)
    study.progress(0.5, "two clusters of tokens")
    z = np.sort(np.random.default_rng(4).normal(0, width, 100))
    z = np.concatenate([z, -z])
    start = np.concatenate([1.0 + z, 1.0 + math.pi / 2 + z])[:, None]
    dt = 2e-3 * unit * (10 if study.quick else 4)
    t_end = 1.02 * expected * unit
    problem = mf.problems.self_attention(beta)
    observe = {"angle": lambda x, w: float(x[200:, 0].mean() - x[:200, 0].mean())}
    cloud = simulate(
        problem, 400, dt=dt, t_end=t_end, save=400, initial=start, observe=observe, keep_positions=False, progress=False
    )
    angle = np.asarray(cloud.observed["angle"])[0]
    measured = float(np.interp(-math.log(0.1), -np.log(angle), cloud.times)) / unit
    claim = f"beta = {beta:g}: the same with 200 tokens a cluster, spread {width:g}"
    note = "1 %: the spread vanishes within a time of 1, and moves the angle by less than its square until then"
    study.claim(claim, PAIR, expected, measured, 0.01 * expected, note=note)
    study.progress(0.6, "two clusters on the mesh")
    laws = mf.Mixture([(0.5, mf.Product(theta=_normal(c, width))) for c in (1.0, 1.0 + math.pi / 2)])
    mesh = dataclasses.replace(problem, initial=laws, parameters=None)
    saves = np.linspace(0.5, 1.05, 45) * expected * unit
    s = mf.solve(mesh, (1024,), saves[-1], save=saves, progress=False)
    x = s.grid.centres(0)
    angles = []
    for mu in s.density:
        peaks = _peaks(mu)
        angles.append(float(x[peaks[-1]] - x[peaks[0]]))
    j = int(np.argmax(np.array(angles) < 0.1))
    measured = float(s.times[j]) / unit if j else math.nan
    claim = f"beta = {beta:g}: the same on a mesh of 1024 cells, by its peaks"
    note = "clusters are a few cells wide on a mesh; resolution of the save times 1 %"
    study.report(claim, PAIR, measured, expected=expected, note=note)

    # a staircase of the energy
    beta, masses = 16.0, np.array([0.2, 0.5, 0.3])
    places = np.array([0.5, 1.25, 2.15])
    study.progress(0.7, "staircase of the energy")
    unit = math.exp(-beta)
    merged = float(places[:2] @ masses[:2]) / 0.7
    first = _angle_time(beta, float(places[1] - places[0]), 0.02)
    second = _angle_time(beta, float(places[2]) - merged, 0.02)
    times = np.geomspace(0.01 * first, 3 * second, 240)
    s = mf.characteristics(
        atoms(beta, places, masses), times[-1] * unit, save=times * unit, tolerance=1e-6, progress=False
    )
    level = s.energy * -2 * beta * unit  # iint e^{beta (cos - 1)}
    squares = [float((masses**2).sum()), 0.7**2 + 0.3**2, 1.0]
    at = [0.3 * first, 0.5 * second, 3 * second]
    for t, expected, name in zip(at, squares, ("three clusters", "two", "one"), strict=True):
        measured = float(np.interp(math.log(t), np.log(times), level[1:]))
        claim = f"beta = 16: energy of {name}, sum of squared masses"
        note = "1e-2 at first, as clusters already see each other by 2 m m' e^{beta (cos - 1)}; 1e-3 later"
        study.claim(claim, "energy of atoms far apart", expected, measured, 1e-3 if t > first else 1e-2, note=note)
    figure, axis = plt.subplots(figsize=(6, 3.2), constrained_layout=True)
    axis.semilogx(times, level[1:])
    for value in squares:
        axis.axhline(value, color="0.6", lw=0.7, ls="--")
    axis.set(xlabel="time in units of $e^{-\\beta}$", ylabel=r"$\iint e^{\beta(\cos - 1)} d\mu\, d\mu$")
    study.figure("staircase", "Three clusters merge, beta = 16. Dashed: sums of squared masses.", figure)


def _normal(mean: float, std: float) -> Any:
    from scipy import stats

    return stats.norm(mean, std)


# ---------------------------------------------------------------------------------------------------------------------
# energy distance
# ---------------------------------------------------------------------------------------------------------------------


def _mesh_quantiles(mu: Array, grid: mf.Grid, levels: Array) -> Array:
    """Quantiles of a density that is constant in the cells."""
    F = np.concatenate([[0.0], np.cumsum(mu)]) * grid.cell_volume
    rising = np.concatenate([[True], np.diff(F) > 0])
    return np.asarray(np.interp(levels, F[rising], grid.faces(0)[rising]))


def _distance(study: Study) -> None:
    """Flow of the energy distance to the uniform law."""
    import matplotlib.pyplot as plt

    problem, t = mf.problems.mmd_flow(), 0.5
    exact = problem.exact
    levels = np.linspace(0.05, 0.95, 19)
    everywhere, weights = np.polynomial.legendre.leggauss(200)
    everywhere, weights = 0.5 * (everywhere + 1), 0.5 * weights
    cells = (200, 400, 800) if study.quick else (200, 400, 800, 1600)
    lines: list[tuple[Any, ...]] = []
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), constrained_layout=True)
    for scheme in (mf.Weno5(), mf.Muscl(), mf.Upwind()):
        name, errors = type(scheme).__name__, []
        for n in cells:
            study.progress(0.1, f"block, {name}, {n} cells")
            s = mf.solve(problem, (n,), t, scheme=scheme, save=[0.1, 0.25], progress=False)
            mu, h = s.density[-1], 1 / n
            off = float(np.abs(_mesh_quantiles(mu, s.grid, levels) - exact["quantile"](levels, t)).max())
            X = _mesh_quantiles(mu, s.grid, everywhere)
            distance = math.sqrt(float(weights @ (X - everywhere) ** 2))
            jumps = float(np.abs(mu - exact["density"](s.grid.centres(0), t)).sum()) * h
            errors.append(jumps)
            energy = float(s.energy[-1]) / exact["energy"](t) - 1
            lines.append((name, n, f"{off:.1e}", f"{distance / exact['distance'](t) - 1:.1e}", f"{energy:.1e}", jumps))
            if n == 400 and name != "Upwind":
                note = "1e-3 absolute, levels 0.05 to 0.95; U[0.2, 0.6] becomes U[0.0736, 0.8528]"
                study.at_most(f"block, {name}, 400 cells: quantiles", QUANTILES, 0.0, off, 1e-3, note=note)
                claim = f"block, {name}, 400 cells: W2 to the target over e^-2t W2(0)"
                note = "1e-3, from the jumps, which are smeared over a few cells of 0.0025"
                study.claim(claim, QUANTILES, 1.0, distance / exact["distance"](t), 1e-3, note=note)
                claim = f"block, {name}, 400 cells: E over e^-4t E(0)"
                note = "5e-3, from the jumps as well; E = int (F - x)^2 dx"
                study.claim(claim, QUANTILES, 1.0, 1 + energy, 5e-3, note=note)
            if n == 400 and name == "Weno5":
                x = s.grid.centres(0)
                for j, colour in ((0, "0.7"), (1, "C2"), (2, "C1"), (3, "C0")):
                    left.plot(x, s.density[j], color=colour, label=f"t = {s.times[j]:g}")
                    left.plot(x, exact["density"](x, s.times[j]), "k:", lw=0.8)
        order = -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])
        least = 0.45 if name == "Upwind" else 0.6
        source = "1/2 for upwind, between 2/3 and 1 for schemes of higher order at a contact jump"
        study.at_least(f"block, {name}: order in h of the density, L1", source, least, order)
    left.set(xlabel="x", ylabel="density", title="block, 400 cells; dotted: exact")
    left.legend(fontsize="small")
    study.table(
        "Flow of the energy distance from U[0.2, 0.6], t = 0.5",
        ("scheme", "cells", "quantiles", "W2, relative", "E, relative", "density, L1"),
        lines,
        "Errors. Quantiles at levels 0.05 to 0.95, largest.",
    )
    wave = mf.problems.mmd_flow("wave")
    for scheme in (mf.Weno5(), mf.Muscl()):
        name = type(scheme).__name__
        errors, energies, points = [], [], (100, 200, 400, 800)
        for n in points:
            study.progress(0.5, f"wave, {name}, {n} cells")
            s = mf.solve(wave, (n,), 1.0, scheme=scheme, save=2, progress=False)
            there = wave.exact["density"](s.grid.centres(0), 1.0)
            errors.append(float(np.abs(s.density[-1] - there).sum()) / n)
            energies.append(abs(float(s.energy[-1]) - wave.exact["energy"](1.0)))
        for what, found, cap in (("density, L1", errors, 1e-5), ("energy", energies, 1e-6)):
            order = -float(np.polyfit(np.log(points), np.log(found), 1)[0])
            note = "the kink of the kernel, sampled at differences of centres, is a quadrature of second order"
            study.claim(f"wave, {name}: order in h of the {what}", "construction", 2.0, order, 0.15, note=note)
            study.at_most(f"wave, {name}, 800 cells: error of the {what}", QUANTILES, 0.0, found[-1], cap)
        right.loglog(points, errors, "o-", label=f"wave, {name}, density")
        right.loglog(points, energies, "s--", label=f"wave, {name}, energy")
    for name in ("Weno5", "Muscl", "Upwind"):
        right.loglog(cells, [line[5] for line in lines if line[0] == name], "x-", label=f"block, {name}, density")
    right.set(xlabel="cells", ylabel="error")
    right.legend(fontsize="x-small")
    study.figure("energy-distance", "Flow of the energy distance: densities, and errors by refinement.", figure)
    # an atom opens at once
    study.progress(0.8, "atom")
    dirac = dataclasses.replace(problem, initial=mf.Dirac(x=0.3), parameters=None)
    s = mf.solve(dirac, (400,), t, save=2, progress=False)
    X = _mesh_quantiles(s.density[-1], s.grid, levels)
    off = float(np.abs(X - (levels + (0.3 - levels) * math.exp(-2 * t))).max())
    note = "an atom is spread over two cells of 0.0025 at the start, and what that changes is multiplied by e^-1"
    study.at_most("atom at 0.3, 400 cells: quantiles", QUANTILES, 0.0, off, 2.5e-3, note=note)
    study.progress(0.9, "characteristics")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # the kink allows second order in the number of nodes only
        along = mf.characteristics(problem, t, save=2, tolerance=1e-5, max_nodes=800, progress=False)
    n = len(along.weights[-1])
    order_of = np.argsort(along.points[-1, :, 0])
    s_mid = np.cumsum(along.weights[-1][order_of]) - 0.5 * along.weights[-1][order_of]
    off = float(np.abs(along.points[-1, order_of, 0] - exact["quantile"](s_mid, t)).max())
    note = f"{n} nodes; a node stands for the levels between its neighbours, 1/n in all"
    study.at_most("block, characteristics: quantiles", QUANTILES, 0.0, off, 1 / n, note=note)


# ---------------------------------------------------------------------------------------------------------------------
# spikes, modes
# ---------------------------------------------------------------------------------------------------------------------


def _generator(W: Array, spacing: Sequence[float], periodic: bool) -> Array:
    """The symmetric form of ``-div(e^{-W} grad(e^W .))`` in two dimensions with Bernoulli functions on the faces."""
    index = np.arange(W.size).reshape(W.shape)
    T = np.zeros((W.size, W.size))
    for axis, h in enumerate(spacing):
        i = index if periodic else np.take(index, range(W.shape[axis] - 1), axis)
        j = np.roll(index, -1, axis) if periodic else np.take(index, range(1, W.shape[axis]), axis)
        i, j = i.ravel(), j.ravel()
        half = 0.5 * (W.ravel()[j] - W.ravel()[i])
        face = np.divide(half, np.sinh(half), where=half != 0, out=np.ones(half.size)) / h**2
        np.add.at(T, (i, i), face * np.exp(-half))
        np.add.at(T, (j, j), face * np.exp(half))
        np.add.at(T, (i, j), -face)
        np.add.at(T, (j, i), -face)
    return T


def _spike_rate(problem: mf.Problem, best: mf.Equilibrium, tau: float) -> float:
    """Twice the smallest rate of the linearised equation, from the kernel as written, in its own code."""
    n = best.grid.shape[0]
    x = 2 * math.pi * np.arange(n) / n
    one = 1 + sum(2 * np.cos(k * (x[:, None] - x)) / (1 + k) for k in range(1, 6))
    cell = best.grid.cell_volume
    K = np.kron(one, one)
    p = np.exp(best.log_mu).ravel() * cell
    root = np.sqrt(p)
    values, vectors = np.linalg.eigh(tau * np.eye(n * n) + root[:, None] * K * root)
    C = (vectors * np.sqrt(values)) @ vectors.T
    T = _generator(-best.log_mu, best.grid.spacing, periodic=True)
    return 2 * float(np.linalg.eigvalsh(C @ T @ C)[1])


def _spikes(study: Study) -> None:
    """Spikes on the torus: rates by temperature, and annealing."""
    import matplotlib.pyplot as plt

    n = 24 if study.quick else 32
    source = "Chizat 2202.01009: the higher the temperature the faster; configuration after its experiments"
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    rates: dict[float, float] = {}
    ends: dict[str, float] = {}
    lines: list[tuple[Any, ...]] = []
    t_end = 80.0
    for i, tau in enumerate((0.03, 0.1, 0.3)):
        study.progress(0.2 * i, f"spikes, temperature {tau:g}")
        problem = mf.problems.torus_spikes(tau)
        best = mf.stationary(problem, (n, n))
        expected = _spike_rate(problem, best, tau)
        times = 18 / expected, 22 / expected
        late = mf.solve(
            problem, (n, n), times[1], save=times, controller=mf.FixedStep(0.05 / expected), progress=False, **SG
        )
        measured = math.log((late.energy[1] - best.energy) / (late.energy[2] - best.energy)) / (times[1] - times[0])
        rates[tau] = measured
        note = "2 %: the next modes are not quite gone after 18 decay times, and steps are 1/20 of one"
        claim = f"temperature {tau:g}: rate of E - E* in the end, {n} x {n} cells"
        study.claim(claim, LINEAR, expected, measured, 0.02 * expected, note=note)
        s = mf.solve(problem, (n, n), t_end, save=81, progress=False, **SG)
        d = s.diagnostics
        worst = float(np.max(d["energy"] - best.energy - d["optimality_gap"]))
        claim = f"temperature {tau:g}: (E - E*) - tau KL(mu|p_mu), largest of all steps"
        study.at_most(claim, "convexity, exact on the mesh", 0.0, worst, 1e-11)
        left.semilogy(d["time"], np.maximum(d["energy"] - best.energy, 1e-12), label=f"temperature {tau:g}")
        right.semilogy(s.times, s.energy_without_entropy, label=f"temperature {tau:g}")
        ends[f"temperature {tau:g}"] = float(s.energy_without_entropy[-1])
        lines.append((f"{tau:g}", expected, measured, best.energy, ends[f"temperature {tau:g}"]))
    for low, high in ((0.03, 0.1), (0.1, 0.3)):
        claim = f"rate at temperature {high:g} over rate at {low:g}"
        study.at_least(claim, source, 1.0, rates[high] / rates[low])
    study.progress(0.7, "annealing")
    # 20/(k + 1) at step k of length 0.08, and no noise in the last fifth
    cooling = mf.problems.torus_spikes(0.3, t_end=t_end)
    problem = dataclasses.replace(
        cooling, temperature=lambda t: 1.6 / (t + 0.08) if t < 0.8 * t_end else 0.0, parameters=None
    )
    s = mf.solve(problem, (2 * n, 2 * n), t_end, scheme=mf.Muscl(), save=81, progress=False)
    annealed = s.energy_without_entropy
    right.semilogy(s.times, annealed, "k", label="annealed")
    lines.append(("annealed", math.nan, math.nan, math.nan, float(annealed[-1])))
    before = float(annealed[s.index(64.0)])
    least = min(ends.values())
    claim = "annealed: E without entropy at t = 80 over the least at a fixed temperature"
    study.at_most(claim, source, 1.0, float(annealed[-1]) / least)
    study.report(
        "annealed: the same at t = 64, when the noise is switched off", "measured", before / least, expected=1.0
    )
    left.set(xlabel="t", ylabel="E - E*", ylim=(1e-10, None))
    left.legend(fontsize="small")
    right.set(xlabel="t", ylabel="squared distance to the spikes / 2")
    right.legend(fontsize="small")
    study.figure("spikes", "Spikes on the torus. Left: free energy to its minimum. Right: without entropy.", figure)
    study.table(
        "Spikes on the torus",
        ("temperature", "rate, linearised", "rate, measured", "E*", "E without entropy at t = 80"),
        lines,
        f"Ten random spikes, {n} x {n} cells; annealed on {2 * n} x {2 * n}.",
    )


def _crossing(study: Study, problem: mf.Problem, expected: float) -> None:
    """The mass left in the quarter of the start at t = 2: particles against the mesh."""
    n, replicas = 1000, 3 if study.quick else 10
    reacts = problem.reacts
    dynamics: list[Any] = [GradientDescent(), Langevin()]
    if reacts:
        dynamics.append(BirthDeath(density=KernelDensity(0.15)))
    observe = {"mass": lambda x, w: float(((x[:, 0] > 0) & (x[:, 1] > 0)).mean())}
    cloud = simulate(
        problem,
        n,
        dynamics=dynamics,
        dt=0.005,
        t_end=2.0,
        save=2,
        seed=8,
        replicas=replicas,
        observe=observe,
        keep_positions=False,
        progress=False,
    )
    measured = float(np.asarray(cloud.observed["mass"])[:, -1].mean())
    if reacts:
        claim = f"four modes, {n} birth-death particles: mass left at t = 2"
        note = f"mesh: {expected:.4f}; densities by kernels of bandwidth 0.15, whose bias is not claimed"
        study.report(claim, "mesh", measured, expected=expected, note=note)
        return
    error = math.sqrt(expected * (1 - expected) / (n * replicas))
    claim = f"four modes, {n} Langevin particles: mass left at t = 2"
    note = "four standard errors, and 0.01 for the step of 0.005 and the mesh"
    study.claim(claim, "mesh", expected, measured, 4 * error + 0.01, note=note)


def _modes(study: Study) -> None:
    """Four Gaussian modes of unequal weights, from one of them."""
    import matplotlib.pyplot as plt
    from scipy import integrate, special, stats

    n = 28 if study.quick else 40
    centres = np.array([[-1.3, -1.2], [1.3, -1.0], [-1.1, 1.3], [1.2, 1.2]])
    weights, std = np.array([0.4, 0.3, 0.2, 0.1]), 0.45

    def potential(x: Array, y: Array) -> Array:
        parts = [
            math.log(w / (2 * math.pi * std**2)) - ((x - a) ** 2 + (y - b) ** 2) / (2 * std**2)
            for w, (a, b) in zip(weights, centres, strict=True)
        ]
        return -np.asarray(special.logsumexp(np.stack(np.broadcast_arrays(*parts)), axis=0))

    def problem(alpha: float) -> mf.Problem:
        return mf.Problem(
            energy=mf.External(potential),
            axes=[mf.Axis("x", -4.0, 4.0), mf.Axis("y", -4.0, 4.0)],
            initial=mf.Product(x=stats.norm(*centres[3, :1], std), y=stats.norm(centres[3, 1], std)),
            alpha=alpha,
            temperature=1.0,
            reaction=mf.Reaction.FREE_ENERGY,
            shape=(n, n),
            name="four-modes",
        )

    grid = problem(0.0).grid((n, n))
    V = potential(*np.meshgrid(grid.centres(0), grid.centres(1), indexing="ij"))
    log_p = -V - special.logsumexp(-V) - math.log(grid.cell_volume)
    lowest = -float(special.logsumexp(-V)) - math.log(grid.cell_volume)
    study.progress(0.1, "four modes, gap")
    gap = float(np.linalg.eigvalsh(_generator(V, grid.spacing, periodic=False))[1])
    left_mode = (grid.centres(0)[:, None] > 0) & (grid.centres(1) > 0)
    share = float(np.exp(log_p)[left_mode].sum()) * grid.cell_volume
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    lines: list[tuple[Any, ...]] = []
    for i, alpha in enumerate((0.0, 0.5, 1.0)):
        study.progress(0.2 + 0.2 * i, f"four modes, alpha = {alpha:g}")
        rate = alpha + gap
        start, stop = 5.0 / rate, 7.0 / rate
        saves = np.unique(np.concatenate([np.linspace(0, stop, 160)[1:], [2.0, start, stop]]))
        control: Any = mf.FixedStep(0.02 / rate)
        s = mf.solve(problem(alpha), (n, n), stop, save=saves, controller=control, progress=False, **SG)
        divergence = s.energy - lowest
        a, b = divergence[s.index(start)], divergence[s.index(stop)]
        measured = 0.5 * math.log(a / b) / (stop - start)
        name = "Langevin" if alpha == 0 else f"alpha = {alpha:g}"
        source = "spectral gap on the same mesh" if alpha == 0 else "alpha tau + gap"
        note = "3 %: half the rate of KL over two decay times, after five"
        study.claim(f"four modes, {name}: rate", source, rate, measured, 0.03 * rate, note=note)
        masses = np.array([float(mu[left_mode].sum()) for mu in s.density]) * grid.cell_volume
        left.semilogy(s.times, np.maximum(divergence, 1e-9), label=name)
        right.plot(s.times, masses, label=name)
        half = float(np.interp(-(0.5 * (1 + share)), -masses, s.times))
        if alpha != 0.5:
            fine = mf.solve(problem(alpha), (2 * n, 2 * n), 2.0, save=2, progress=False, **SG)
            x, y = fine.grid.mesh()
            crossing = float(fine.density[-1][(x > 0) & (y > 0)].sum()) * fine.grid.cell_volume
            _crossing(study, problem(alpha), crossing)
        lines.append((name, rate, measured, 1 / rate, half))
    right.axhline(share, color="0.6", lw=0.7, ls="--")
    for axis in (left, right):
        axis.set(xlabel="t", xlim=(0, 20))
        axis.legend(fontsize="small")
    left.set(ylabel=r"KL$(\mu\,|\,\pi)$", ylim=(1e-6, None))
    right.set(ylabel="mass in the quarter of the start")
    study.figure("modes", "Four modes, from the smallest of them. Dashed: the target's mass.", figure)
    study.table(
        "Escape from one of four modes",
        ("dynamics", "rate expected", "rate measured", "relaxation time", "time when half of the excess has left"),
        lines,
        f"Gaussian modes of standard deviation {std:g}, weights {weights.tolist()}; {n} x {n} cells.",
    )
    # birth-death alone: the start's power times the target's, in closed form
    study.progress(0.9, "birth-death alone")

    def target(x: Array) -> Array:
        return np.asarray(np.log(0.6 * stats.norm.pdf(x, -1.5, 0.5) + 0.4 * stats.norm.pdf(x, 1.5, 0.7)))

    start_law = stats.norm(0.3, 1.1)
    alone = mf.Problem(
        energy=mf.External(lambda x: -target(x)),
        axes=[mf.Axis("x", -8.5, 8.5, mf.End.NATURAL)],
        initial=mf.Product(x=start_law),
        alpha=1.0,
        temperature=1.0,
        reaction=mf.Reaction.FREE_ENERGY,
        metric=(0.0,),
        name="birth-death-alone",
    )
    times = [1.0, 2.0, 3.0, 5.0]
    s = mf.solve(alone, (800,), 5.0, save=times, controller=mf.ErrorControl(1e-8), progress=False)
    x = np.linspace(-8.5, 8.5, 6001)
    for t in times:
        kept = math.exp(-t)
        log = kept * start_law.logpdf(x) + (1 - kept) * target(x)
        log -= math.log(integrate.simpson(np.exp(log), x=x))
        expected = float(integrate.simpson(np.exp(log) * (log - target(x)), x=x))
        note = "1e-4 relative: averages over cells of 1/30 of a standard deviation, second order"
        claim = f"birth-death alone, two modes: KL at t = {t:g}"
        source = "mu_t ~ mu_0^s pi^(1-s), s = e^-t; Lu, Slepcev, Wang 2211.00450, by quadrature"
        measured = float(s.energy[s.index(t)])
        study.claim(claim, source, expected, measured, 1e-4 * expected + 1e-9, note=note)
