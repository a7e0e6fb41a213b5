"""Distributional dynamics of SGD on two Gaussian classes (Mei, Montanari, Nguyen 2018)."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from validation._runner import Progress, Study

HEADLINE = "threshold in Delta, d = 40"

Array = NDArray[np.float64]

CLOSED = "closed form"
OWN_PARTICLES = "quantile particles, Runge-Kutta, formulas of this script"
OWN_STATICS = "quadrature and non-negative least squares of this script"
CHARACTERISTICS = "mf.characteristics"
PAPER = "Mei, Montanari, Nguyen 1804.06561"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full."""
    study = Study(
        "Distributional dynamics",
        "One-pass SGD of a wide network on y = +-1, x | y ~ N(0, (1 + y Delta)^2 I_d), reduced by symmetry to the law "
        "of the radius of the weights (isotropic), of two radii (anisotropic), or of two radii, a bias and an outer "
        "weight (ReLU). Numbers are risks R = 2 E. Configurations are after the figures of the paper; formulas were "
        "rederived, and expected values come from closed forms, from another discretisation, or from code written out "
        "in the script.",
        quick,
        progress,
    )
    study.parts(
        (_time, 0.15),
        (_splitting, 0.1),
        (_statics, 0.15),
        (_failure, 0.1),
        (_anisotropic, 0.05),
        (_relu, 0.2),
        (_noise, 0.05),
        (_sgd, 0.2),
    )
    return study


# ---------------------------------------------------------------------------------------------------------------------
# the model, written out again: nothing here uses the package
# ---------------------------------------------------------------------------------------------------------------------


def _sphere_mean(s: Array, d: float) -> Array:
    """E sigma(s u), u a coordinate of a uniform point on the sphere: Gauss-Legendre on the three linear pieces."""
    shape, s = np.shape(s), np.ravel(s)
    reach = min(1.0, 13 / math.sqrt(d))
    x, w = np.polynomial.legendre.leggauss(48)
    cut = [np.full(s.shape, -reach)]
    for t in (0.5, 1.5):
        cut.append(np.minimum(t / np.maximum(s, 1e-300), reach))
    cut.append(np.full(s.shape, reach))
    top = mass = 0.0
    for low, high in itertools.pairwise(cut):
        middle, half = 0.5 * (high + low), 0.5 * (high - low)
        u = middle[:, None] + half[:, None] * x
        density = half[:, None] * w * (1 - u * u) ** (0.5 * (d - 3))
        top = top + (np.clip(10 * s[:, None] * u - 7.5, -2.5, 7.5) * density).sum(axis=1)
        mass = mass + density.sum(axis=1)
    return np.asarray(top / mass).reshape(shape)


def _gaussian_mean(r: Array) -> Array:
    """q(r) = E sigma(r G)."""
    from scipy.special import ndtr

    a, b = 0.5 / np.maximum(r, 1e-100), 1.5 / np.maximum(r, 1e-100)
    first = (np.expm1(-0.5 * a * a) - np.expm1(-0.5 * b * b)) * r / math.sqrt(2 * math.pi)
    return -2.5 + 10 * (first - 0.5 * ndtr(-a) + 1.5 * ndtr(-b))


class _Model:
    """Features phi_j(r), targets y_j and weights w_j of R = sum_j w_j (y_j - int phi_j dmu)^2."""

    def __init__(self, delta: float, d: float) -> None:
        from scipy import stats

        z, w = np.ones(1), np.ones(1)
        if math.isfinite(d):
            law = stats.chi(d)
            low, high = float(law.ppf(1e-16)), float(law.isf(1e-16))
            x, w = np.polynomial.legendre.leggauss(48)
            z = 0.5 * (low + high) + 0.5 * (high - low) * x
            w = 0.5 * (high - low) * w * law.pdf(z)
            w /= w.sum()
        self.d, self.scales = d, np.concatenate([(1 + delta) * z, (1 - delta) * z])
        self.targets, self.weights = np.repeat([1.0, -1.0], len(z)), 0.5 * np.concatenate([w, w])

    def features(self, r: Array) -> Array:
        s = np.multiply.outer(self.scales, r)
        return _sphere_mean(s, self.d) if math.isfinite(self.d) else _gaussian_mean(s)

    def risk(self, moments: Array) -> float:
        return float(self.weights @ (self.targets - moments) ** 2)

    def dirac(self, r: float) -> float:
        return self.risk(self.features(np.array([r]))[:, 0])

    def optimum(self) -> tuple[float, float]:
        """The best single radius and its risk."""
        from scipy.optimize import minimize_scalar

        best = minimize_scalar(self.dirac, bounds=(0.8, 6.0), method="bounded", options={"xatol": 1e-9})
        return float(best.x), float(best.fun)

    def slack(self) -> float:
        """Psi at infinity less Psi at the best single radius, which is optimal as long as this is not negative."""
        place, _ = self.optimum()
        phi = self.features(np.array([place, 1e9]))
        psi = (self.weights * (phi[:, 0] - self.targets)) @ phi
        return float(psi[1] - psi[0])

    def minimum(self) -> float:
        """The least risk over all measures on [0, inf], by non-negative least squares on a mesh of radii."""
        from scipy.optimize import nnls

        x = (np.arange(801) / 800)[:-1]
        phi = self.features(np.append(x / (1 - x), 1e9))
        for _ in range(2):  # once more with nodes close to those that hold mass
            root = np.sqrt(self.weights)[:, None]
            large = 1e3
            share, _ = nnls(
                np.vstack([root * phi, np.full((1, phi.shape[1]), large)]), np.append(root[:, 0] * self.targets, large)
            )
            nodes = np.append(x / (1 - x), 1e9)[share > 1e-9]
            x = np.unique(
                np.concatenate([x[::10], *(r / (1 + r) + np.linspace(-2e-3, 2e-3, 41) for r in nodes if r < 1e8)])
            )
            x = x[(x >= 0) & (x < 1)]
            phi = self.features(np.append(x / (1 - x), 1e9))
        share, _ = nnls(
            np.vstack([root * phi, np.full((1, phi.shape[1]), large)]), np.append(root[:, 0] * self.targets, large)
        )
        return self.risk(phi @ (share / share.sum()))


def _particles(delta: float, d: float, kappa: float, n: int, times: Array) -> tuple[Array, Array]:
    """Risk and mean radius of n quantile particles at some times, by the classical Runge-Kutta method."""
    from scipy import stats
    from scipy.interpolate import CubicSpline

    model = _Model(delta, d)
    knots = np.concatenate([np.linspace(0, 3, 1500), np.linspace(3, 30, 1000)[1:]]) * math.sqrt(d)
    mean = CubicSpline(knots, _sphere_mean(knots, d))
    slope = mean.derivative()
    r = stats.chi(d, scale=kappa / math.sqrt(d)).ppf((np.arange(n) + 0.5) / n)

    def speed(r: Array) -> Array:
        s = np.multiply.outer(model.scales, r)
        excess = model.targets - mean(s).mean(axis=1)
        return np.asarray(2 * (model.weights * excess * model.scales) @ slope(s))

    risks, radii, t = [], [], 0.0
    for end in times:
        while t < end - 1e-12:
            dt = min(0.004 if t < 0.2 else 0.02, end - t)
            k1 = speed(r)
            k2 = speed(r + 0.5 * dt * k1)
            k3 = speed(r + 0.5 * dt * k2)
            k4 = speed(r + dt * k3)
            r = r + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            t += dt
        risks.append(model.risk(mean(np.multiply.outer(model.scales, r)).mean(axis=1)))
        radii.append(float(r.mean()))
    return np.array(risks), np.array(radii)


# ---------------------------------------------------------------------------------------------------------------------
# the parts
# ---------------------------------------------------------------------------------------------------------------------


def _time(study: Study) -> None:
    """Risk against time at d = 40, kappa = .8, three discretisations."""
    for k, delta in enumerate((0.4,) if study.quick else (0.4, 0.2)):
        study.progress(0.5 * k, f"risk against time, Delta = {delta}")
        last = 2.0 if study.quick else 10.0
        times = np.array([t for t in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if t <= last])
        problem = mf.problems.isotropic_gaussians(delta, 40)
        own, radii = _particles(delta, 40.0, 0.8, 200 if study.quick else 400, times)
        mesh = mf.solve(problem, (400,), last, save=times, progress=False)
        nodes = mf.characteristics(problem, last, save=times, tolerance=1e-6, progress=False)
        lines = []
        for i, t in enumerate(times):
            measured, mean = 2 * mesh.energy[i + 1], float(mesh.moment("r", 1, t))
            lines.append((t, own[i], measured, 2 * nodes.energy[i + 1], radii[i], mean))
            note = "1e-3 of the value; the mesh was not made finer to get it"
            study.claim(f"Delta = {delta}: R({t:g})", OWN_PARTICLES, own[i], measured, 1e-3 * own[i], note=note)
        worst = float(np.max(np.abs(mesh.energy / nodes.energy - 1)))
        note = f"characteristics state an error of {nodes.error_estimate:.0e}; 400 cells were seen to be right to 2e-5"
        claim = f"Delta = {delta}: mesh and characteristics, largest relative difference of R"
        study.at_most(claim, CHARACTERISTICS, 0.0, worst, 1e-4, note=note)
        study.table(
            f"Isotropic, d = 40, kappa = 0.8, Delta = {delta}",
            ("t", "R, particles", "R, mesh of 400", "R, characteristics", "E r, particles", "E r, mesh"),
            lines,
        )
        if delta == 0.4 and not study.quick:
            late = mf.solve(problem, (400,), 100.0, save=[20.0, 100.0], progress=False)
            best = _Model(delta, 40.0).optimum()[1]
            note = "the flow reaches the minimum, one radius, up to 1e-4"
            study.claim("Delta = 0.4: R(100)", OWN_STATICS, best, 2 * late.energy[-1], 1e-4 * best, note=note)
            width = math.sqrt(max(float(late.moment("r", 2)) - float(late.moment("r", 1)) ** 2, 0.0))
            cell = late.grid.spacing[0]
            claim = "Delta = 0.4: standard deviation of r at t = 100, in cells"
            study.at_most(claim, "collapse to a point", 1.0, width / cell)


def _splitting(study: Study) -> None:
    """Delta = .8: the law of the radius splits in two; the mesh keeps its accuracy, quadrature nodes drift apart."""
    problem = mf.problems.isotropic_gaussians(0.8, 40, radius=8.0)
    times = [0.1, 1.0, 2.0, 3.0, 5.0]
    early = [t for t in times if t <= 3.0]
    nodes = mf.characteristics(problem, 3.0, save=early, tolerance=1e-5, progress=False)
    meshes = {}
    for n in (400, 800):
        study.progress(0.3, f"Delta = 0.8, {n} cells")
        meshes[n] = mf.solve(problem, (n,), 10.0, save=[*times, 10.0], progress=False)
    for t in early:
        expected = 2 * float(nodes.energy[list(nodes.times).index(t)])
        measured = 2 * float(meshes[800].energy[meshes[800].index(t)])
        study.claim(f"Delta = 0.8: R({t:g})", CHARACTERISTICS, expected, measured, 1e-3 * expected)
    for t in (5.0, 10.0):
        coarse, fine = (2 * float(mesh.energy[mesh.index(t)]) for mesh in meshes.values())
        note = "the law splits: mass passes a point of no return, and few quadrature nodes do not see where it parts"
        study.claim(f"Delta = 0.8: R({t:g}), 400 against 800 cells", "refinement", fine, coarse, 0.01 * fine, note=note)
    fine = meshes[800]
    r, mu = fine.grid.centres(0), fine.density[-1]
    left = float(mu[r < 1.0].sum()) * fine.grid.cell_volume
    study.at_least("Delta = 0.8: mass below r = 1 at t = 10", "two groups", 0.05, left)
    between = float(mu[(r > 0.5) & (r < 1.0)].sum()) * fine.grid.cell_volume
    study.at_most("Delta = 0.8: mass in between, r in (0.5, 1)", "two groups", 0.02, between)


def _statics(study: Study) -> None:
    """One radius, all measures, and the threshold between them."""
    from scipy.optimize import brentq

    limits: dict[float, tuple[float, float]] = {}
    for d, guess in ((40.0, (0.4, 0.46)), (320.0, (0.45, 0.49)), (math.inf, (0.45, 0.5))):
        study.progress(0.0, f"threshold, d = {d:g}")
        if math.isinf(d):
            low, high = (brentq(lambda r, y=y: float(_gaussian_mean(np.array(r))) - y, 0.1, 9.0) for y in (-1.0, 1.0))
            expected, source = (high - low) / (high + low), "closed form (r+ - r-)/(r+ + r-)"
        else:
            expected, source = float(brentq(lambda x, d=d: _Model(x, d).slack(), *guess, xtol=1e-7)), OWN_STATICS
        found = float(brentq(lambda x, d=d: _certificate(x, d), *guess, xtol=1e-7))
        limits[d] = (found, expected)
        note = "where Psi(inf) = Psi(r*); both roots are found to 1e-7"
        study.claim(f"threshold in Delta, d = {d:g}", source, expected, found, 1e-5, note=note)
    cells = 2000
    lines = []
    wanted = (0.4, 0.5, 0.8) if study.quick else (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8)
    for k, delta in enumerate(wanted):
        for d in (40.0,) if study.quick else (40.0, math.inf):
            study.progress(0.2 + 0.3 * k / len(wanted), f"statics, Delta = {delta}")
            model = _Model(delta, d)
            _, single = model.optimum()
            full = model.minimum()
            problem = mf.problems.isotropic_gaussians(delta, d, start_d=40)
            mine = 2 * problem.exact["dirac_optimum"][1]
            every = 2 * _minimum(problem, cells)
            note = "half a unit of the fifth digit after the point"
            study.claim(f"d = {d:g}, Delta = {delta}: one radius", OWN_STATICS, single, mine, 5e-6, note=note)
            note = f"half a unit of the fifth digit; {cells} cells on [0, inf] miss a minimiser by O(h^2)"
            tolerance = 5e-6
            study.claim(f"d = {d:g}, Delta = {delta}: all measures", OWN_STATICS, full, every, tolerance, note=note)
            lines.append((f"{d:g}", delta, single, mine, full, every))
    study.table(
        "Least risks",
        ("d", "Delta", "one radius, script", "one radius, mfpde", "all measures, script", "mf.stationary"),
        lines,
        "Mesh of [0, inf] by x = r/(1 + r); above the threshold some mass sits at infinity, and the infimum over "
        "laws of finite radius is not attained.",
    )
    _risk_against_delta(study, limits)


def _certificate(delta: float, d: float) -> float:
    """Psi at infinity less Psi at the best radius, with the package's energy."""
    problem = mf.problems.isotropic_gaussians(delta, d, start_d=40)
    place = np.array([[problem.exact["dirac_optimum"][0]]])
    bound = problem.bound_energy
    V = bound.potential(np.array([[place[0, 0]], [1e9]]), bound.response(place, np.ones(1)))
    return float(V[1] - V[0])


def _minimum(problem: mf.Problem, cells: int) -> float:
    """The least energy over measures on [0, inf], on a mesh of r/(1 + r) whose last centre is infinity."""
    return mf.stationary(_compactified(problem, cells), cells, tolerance=1e-9).energy


def _compactified(problem: mf.Problem, cells: int) -> mf.Problem:
    from scipy import stats

    energy = problem.energy
    assert isinstance(energy, mf.Features)

    def radius(x: Array) -> Array:
        return np.where(x < 1 - 1e-9, x / np.maximum(1 - x, 1e-9), 1e9)

    length = 1 / (1 - 0.5 / cells)
    return mf.Problem(
        energy=mf.Features(lambda x: energy.function(radius(x)), energy.loss),
        axes=[mf.Axis("x", 0.0, length, mf.End.NATURAL)],
        initial=mf.Product(x=stats.uniform(0.0, length)),
    )


def _risk_against_delta(study: Study, limits: dict[float, tuple[float, float]]) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), constrained_layout=True)
    deltas = np.linspace(0.05, 0.85, 9 if study.quick else 41)
    for k, (d, colour) in enumerate(((40.0, "C0"), (320.0, "C2"), (math.inf, "C1"))):
        study.progress(0.5 + 0.15 * k, f"risk against Delta, d = {d:g}")
        single, every = [], []
        for delta in deltas:
            problem = mf.problems.isotropic_gaussians(float(delta), d, start_d=40)
            single.append(2 * problem.exact["dirac_optimum"][1])
            every.append(2 * _minimum(problem, 800))
        label = f"d = {d:g}" if math.isfinite(d) else r"d = $\infty$"
        seen = np.array(every) > 1e-4
        axis.semilogy(deltas, np.maximum(single, 1e-4), "--", color=colour, lw=1)
        axis.semilogy(deltas[seen], np.array(every)[seen], color=colour, label=label)
        if d in limits:
            at = limits[d][0]
            best = 2 * mf.problems.isotropic_gaussians(at, d, start_d=40).exact["dirac_optimum"][1]
            axis.plot(at, max(best, 1.2e-4), "o", color=colour, ms=8, mfc="none", mew=1.6)
    axis.set(xlabel=r"$\Delta$", ylabel="least risk", ylim=(1e-4, 1.5))
    axis.legend()
    axis.grid(alpha=0.3)
    caption = (
        "Least risk against Delta: over all laws of the radius (solid), over a single radius (dashed). Circles: the "
        "threshold above which one radius is not enough. At d = inf the risk vanishes from there on."
    )
    study.figure("risk-against-delta", caption, figure)


def _failure(study: Study) -> None:
    """The unit that is not monotone: absorption at 0, or not."""
    import matplotlib.pyplot as plt
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.stats import norm

    def speed(r: float) -> float:
        """Velocity of a single radius, d = inf, Delta = .5."""
        total = 0.0
        for sign in (1, -1):
            scale = (1 + 0.5 * sign) * r
            value, slope = -2.5, 0.0
            for t, m in ((0.0, -3.0), (0.5, 14.5), (1.5, -11.5)):
                value += m * (scale * norm.pdf(t / scale) - t * norm.cdf(-t / scale))
                slope += m * norm.pdf(t / scale)
            total += (sign - value) * (1 + 0.5 * sign) * slope
        return float(total)

    unstable, stable = brentq(speed, 0.15, 0.3, xtol=1e-13), brentq(speed, 1.5, 3.0, xtol=1e-13)
    study.progress(0.0, "unstable radius by bisection of the flow")
    low, high = 0.15, 0.25
    while high - low > (1e-4 if study.quick else 2e-6):
        kappa = 0.5 * (low + high)
        end = mf.characteristics(
            mf.problems.predicting_failure(kappa, d=math.inf), 3.0, save=2, tolerance=1e-6, progress=False
        ).points[-1, 0, 0]
        low, high = (kappa, high) if end < 0.1 else (low, kappa)
    tolerance = 1e-4 if study.quick else 2e-6
    note = "bisection of mf.characteristics over kappa; 0.196283"
    study.claim(
        "unstable radius, d = inf",
        "root of the closed-form velocity",
        unstable,
        0.5 * (low + high),
        tolerance,
        note=note,
    )
    lasting = mf.characteristics(
        mf.problems.predicting_failure(0.4, d=math.inf), 30.0, save=2, tolerance=1e-8, progress=False
    )
    study.claim("stable radius, d = inf", "root of the closed-form velocity", stable, lasting.points[-1, 0, 0], 1e-6)
    for kappa in (0.1, 0.15, 0.19):
        arrival = quad(lambda r: -1 / speed(r), 0.0, kappa, points=[1e-4], epsabs=1e-13, limit=200)[0]
        times = np.linspace(0.99 * arrival, 1.01 * arrival, 201)
        problem = mf.problems.predicting_failure(kappa, d=math.inf)
        nodes = mf.characteristics(problem, float(times[-1]), save=times, tolerance=1e-8, progress=False)
        radius = nodes.points[1:, 0, 0]
        k = int(np.argmax(radius == 0.0)) - 1
        found = times[k] + radius[k] / -problem.exact["absorption_speed"]
        note = "last position before 0, and the exact velocity there"
        study.claim(
            f"kappa = {kappa}: time to reach 0", "integral of 1/velocity", arrival, found, 1e-5 * arrival, note=note
        )
    study.progress(0.4, "failure and success on the mesh")
    best = mf.problems.predicting_failure().exact["dirac_optimum"][1]
    cells = (300, 600) if study.quick else (300, 600, 1200)
    lines, curves = [], {}
    for kappa in (0.1, 0.2, 0.4):
        ends = []
        for n in cells:
            problem = mf.problems.predicting_failure(kappa, radius=9.0 if kappa == 0.2 else 3.0)
            n = 3 * n if kappa == 0.2 else n  # some mass travels far: the same cells on a larger box
            solution = mf.solve(
                problem, (n,), 20.0 if kappa == 0.4 else 2.0, save=[0.01, 0.02, 0.1, 1.0], progress=False
            )
            ends.append(2 * float(solution.energy[-1]))
            lines.append((kappa, n, *(2 * float(e) for e in solution.energy[[0, 1, 2, 3, 4, -1]])))
        d = solution.diagnostics
        curves[kappa] = (d["time"], 2 * d["energy"])
        if kappa == 0.1:
            h = solution.grid.spacing[0]
            note = "all mass in the first cell, whose centre is h/2; twice the leading term 18 phi(0) h/2"
            study.claim(f"kappa = 0.1: final risk, {cells[-1]} cells", "1 + 2.5^2", 7.25, ends[-1], 7.2 * h, note=note)
            study.claim(
                "kappa = 0.1: final risk, two meshes extrapolated",
                "1 + 2.5^2",
                7.25,
                2 * ends[-1] - ends[-2],
                1e-3,
                note="what is left is the second order in h",
            )
            exact = mf.characteristics(problem, 0.1, save=[0.005, 0.01, 0.02], tolerance=1e-4, progress=False)
            note = "nodes stop at 0 exactly"
            study.claim(
                "kappa = 0.1: final risk, characteristics", "1 + 2.5^2", 7.25, 2 * exact.energy[-1], 1e-12, note=note
            )
            fine = mf.solve(problem, (cells[-1],), 0.1, save=[0.005, 0.01, 0.02], progress=False)
            worst = float(np.abs(2 * fine.energy - 2 * exact.energy).max())
            note = "nowhere more than the offset of the final state"
            study.at_most(
                "kappa = 0.1: risk during absorption, mesh - characteristics",
                CHARACTERISTICS,
                0.0,
                worst,
                7.2 * h,
                note=note,
            )
        if kappa == 0.4:
            study.claim(
                "kappa = 0.4: final risk", CLOSED, 2 * best, ends[-1], 1e-4, note="0.0143; the best single radius"
            )
    study.table(
        "Failure and success, d = 320, Delta = 0.5",
        ("kappa", "cells", "R(0)", "R(.01)", "R(.02)", "R(.1)", "R(1)", "R, end"),
        lines,
    )
    figure, axis = plt.subplots(figsize=(6.4, 3.8), constrained_layout=True)
    for kappa, (t, risk) in curves.items():
        axis.loglog(np.maximum(t, 1e-4), risk, label=rf"$\kappa$ = {kappa}")
    axis.axhline(7.25, color="0.6", lw=0.8, ls=":")
    axis.axhline(2 * best, color="0.6", lw=0.8, ls=":")
    axis.set(xlabel="t", ylabel="risk", xlim=(1e-3, 2))
    axis.legend()
    caption = "A unit that is not monotone: the size of the start decides. Dotted: 7.25, and the best single radius."
    study.figure("failure", caption, figure)


def _anisotropic(study: Study) -> None:
    """Two radii: a single point against a plain ODE, and the mesh against characteristics."""
    from scipy.integrate import solve_ivp

    def flow(delta: float) -> Callable[[float, Array], Array]:
        def speed(t: float, r: Array) -> Array:
            change = np.zeros(2)
            for sign in (1, -1):
                scale = np.array([(1 + sign * delta) ** 2, 1.0])
                tau = math.sqrt(scale @ (r * r))
                h = 1e-5 * tau
                slope = float(_gaussian_mean(np.array(tau + h)) - _gaussian_mean(np.array(tau - h))) / (2 * h)
                change += (sign - float(_gaussian_mean(np.array(tau)))) * slope * scale * r / tau
            return change

        return speed

    gamma = 60 / 320
    start = 0.8 * np.sqrt([gamma, 1 - gamma])
    for delta, t_end in ((0.4, 5.0), (0.8, 10.0)):
        study.progress(0.0, f"two radii, Delta = {delta}")
        exact = solve_ivp(flow(delta), (0, t_end), start, rtol=1e-10, atol=1e-11, method="DOP853").y[:, -1]
        problem = mf.problems.anisotropic_gaussians(delta, start_d=math.inf)
        found = mf.characteristics(problem, t_end, save=2, tolerance=1e-8, progress=False)
        for name, expected, measured in zip(("r1", "r2"), exact, found.points[-1, 0], strict=True):
            study.claim(f"one point, Delta = {delta}: {name}({t_end:g})", "scipy's DOP853", expected, measured, 1e-6)
    lines = []
    t_end = 1.0 if study.quick else 2.0
    problem = mf.problems.anisotropic_gaussians(0.4, start_d=320)
    exact = mf.characteristics(problem, t_end, save=[0.1, 0.5, 1.0], tolerance=1e-6, progress=False)
    for n in (64, 96) if study.quick else (96, 192):
        study.progress(0.4, f"two radii, {n} x {n} cells")
        mesh = mf.solve(problem, (n, n), t_end, save=[0.1, 0.5, 1.0], progress=False)
        lines.append((f"{n} x {n}", *(2 * float(e) for e in mesh.energy)))
    lines.append(("characteristics", *(2 * float(e) for e in exact.energy)))
    worst = float(np.max(np.abs(mesh.energy / exact.energy - 1)))
    note = "the start's standard deviation is 1.2 and 2.4 cells on these meshes"
    tolerance = 0.02 if study.quick else 5e-3
    study.at_most(
        "start at d = 320: largest relative difference of R to characteristics",
        CHARACTERISTICS,
        0.0,
        worst,
        tolerance,
        note=note,
    )
    header = ("", *(f"R({t:g})" for t in exact.times))
    study.table("Anisotropic, d = inf in the energy, start at d = 320, Delta = 0.4", header, lines)


def _relu(study: Study) -> None:
    """Four parameters: a mesh for short times, characteristics for long ones."""
    import matplotlib.pyplot as plt

    times = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, *([] if study.quick else [15.0, 20.0, 30.0])]
    tables_of: dict[str, Any] = {}
    for d, n in ((math.inf, 16 if study.quick else 40), (320.0, 12 if study.quick else 16)):
        study.progress(0.0 if math.isinf(d) else 0.2, f"ReLU, characteristics, d = {d:g}")
        problem = mf.problems.relu_gaussians(d=d, spread=0.0, start_d=320, exponent=0.0, radius=60.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.RunWarning)  # late times: the estimate is in the table
            tables_of[f"{d:g}"] = mf.characteristics(
                problem,
                times[-1],
                save=np.unique([*times, *np.linspace(0, times[-1], 41)[1:]]),
                nodes=(1, 1, n, n),
                tolerance=1e-4,
                rtol=1e-8,
                max_nodes=int(2.4 * n * n),
                progress=False,
            )
        found = tables_of[f"{d:g}"]
        kept = problem.exact["invariant"](*np.moveaxis(found.points, -1, 0))
        scale = float(np.max(found.points**2))
        note = "relative to the largest a^2; the tolerance of the time steps"
        study.at_most(
            f"d = {d:g}: change of a^2 - b^2 - r1^2 - r2^2",
            CLOSED,
            0.0,
            float(np.abs(kept - kept[0]).max()) / scale,
            1e-6,
            note=note,
        )
    limit = tables_of["inf"]

    def risk(found: Any, t: float) -> float:
        return 2 * float(found.energy[int(np.argmin(np.abs(found.times - t)))])

    plateau = [risk(limit, t) for t in (2.0, 5.0)]
    study.at_most("plateau: R(2) - R(5)", PAPER + ", Figure 3: a long plateau", 0.05, plateau[0] - plateau[1])
    if not study.quick:
        study.at_most("d = inf: R(30)", "two signs of a fit both classes", 0.0, risk(limit, 30.0), 1e-4)
        negative = float(limit.weights[-1][limit.points[-1][:, 0] < 0].sum())
        study.at_least("d = inf: mass with a < 0 at s = 30", "needed for R < 1/2", 0.05, negative)
    header = ("s = int xi dt", "R, d = inf", "R, d = 320", "E a", "E b", "E r1", "E r2")
    lines = []
    for t in times:
        i = int(np.argmin(np.abs(limit.times - t)))
        means = limit.weights[i] @ limit.points[i]
        lines.append((t, risk(limit, t), risk(tables_of["320"], t), *(float(x) for x in means)))
    text = (
        f"Delta = 0.4, start at d = 320, a = b = 1. Relative changes in the last refinement of the nodes: "
        f"{limit.error_estimate:.0e} and {tables_of['320'].error_estimate:.0e}, reached at late times."
    )
    study.table("ReLU, means at d = inf", header, lines, text)

    problem = mf.problems.relu_gaussians(start_d=40, spread=0.2, exponent=0.0)
    radii = [mf.Axis(f"r{i + 1}", 0.0, end, (mf.End.NATURAL, mf.End.TRUNCATION)) for i, end in enumerate((1.25, 1.5))]
    problem = replace(problem, axes=[mf.Axis("a", -0.25, 2.25), mf.Axis("b", -0.25, 2.25), *radii])
    early = [0.1, 0.2] if study.quick else [0.1, 0.3, 0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # the box is tight: mass of 4e-3 near its ends
        exact = mf.characteristics(
            problem, early[-1], save=early, nodes=(10, 10, 12, 12), tolerance=2e-3, max_nodes=80_000, progress=False
        )
        meshes = []
        for n in (12, 16) if study.quick else (16, 20, 24):
            study.progress(0.5 + 0.02 * n, f"ReLU, mesh of {n}^4")
            meshes.append(mf.solve(problem, (n,) * 4, early[-1], save=early, progress=False))
    lines = [(f"{m.grid.shape[0]}^4", *(2 * float(e) for e in m.energy)) for m in meshes]
    lines.append(("characteristics", *(2 * float(e) for e in exact.energy)))
    study.table("ReLU on a mesh in four dimensions", ("", *(f"R({t:g})" for t in exact.times)), lines)
    for t in early:
        fine, coarse = (2 * float(m.energy[m.index(t)]) for m in (meshes[-1], meshes[-2]))
        expected = 2 * float(exact.energy[list(exact.times).index(t)])
        uncertain = 2 * float(exact.energy_error[list(exact.times).index(t)])
        tolerance = 2 * abs(fine - coarse) + uncertain
        note = "twice the change from the mesh before, and the error of the characteristics"
        study.claim(
            f"mesh of {meshes[-1].grid.shape[0]}^4: R({t:g})", CHARACTERISTICS, expected, fine, tolerance, note=note
        )

    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    left.plot(limit.times, 2 * limit.energy, label=r"d = $\infty$")
    left.plot(tables_of["320"].times, 2 * tables_of["320"].energy, "--", label="d = 320")
    left.set(xlabel=r"$s = \int\xi\,dt$", ylabel="risk", ylim=(0, None))
    left.legend()
    means = np.einsum("tn,tnk->tk", limit.weights, limit.points)
    for name, values in zip(("a", "b", "r_1", "r_2"), means.T, strict=True):
        right.plot(limit.times, values, label=f"${name}$")
    right.set(xlabel=r"$s = \int\xi\,dt$", ylabel=r"mean, d = $\infty$")
    right.legend()
    study.figure("relu", "ReLU units: a long plateau, until neurons with a < 0 appear.", figure)


def _noise(study: Study) -> None:
    """Noisy SGD: the free energy falls to that of the fixed point of rho ~ r^{d-1} exp(-beta Psi_lambda)."""
    d, delta, penalty = 40, 0.4, 0.1
    model = _Model(delta, d)
    lines = []
    for tau in (0.01, 0.02):
        study.progress(0.0, f"noise, 1/beta = {tau}")
        problem = mf.problems.isotropic_gaussians(delta, d, temperature=tau, penalty=penalty)
        solution = mf.solve(
            problem, (400,), 60.0, save=2, scheme=mf.ScharfetterGummel(), controller=mf.FixedStep(0.1), progress=False
        )
        rise = float(np.diff(solution.diagnostics["energy"]).max())
        study.at_most(f"1/beta = {tau}: largest rise of the free energy", "gradient flow", 0.0, rise, 1e-12)
        r, mu, volume = solution.grid.centres(0), solution.density[-1], solution.grid.cell_volume
        phi = model.features(r)
        psi = (model.weights * (phi @ mu * volume - model.targets)) @ phi
        log_mu = (d - 1) * np.log(r) - (psi + 0.5 * penalty * r * r) / tau
        fixed = np.exp(log_mu - log_mu.max())
        fixed /= fixed.sum() * volume
        distance = float(np.abs(mu - fixed).sum()) * volume
        note = "Psi by the formulas of this script; flow and map agree where both stand still"
        study.at_most(
            f"1/beta = {tau}: L1 distance of mu(60) to its Gibbs map", "fixed point", 0.0, distance, 1e-6, note=note
        )
        best = mf.stationary(problem)
        study.claim(
            f"1/beta = {tau}: free energy at t = 60", "mf.stationary", best.energy, float(solution.energy[-1]), 1e-10
        )
        lines.append(
            (
                tau,
                float(solution.energy[-1]),
                2 * float(solution.energy_without_entropy[-1]),
                float(solution.moment("r")),
            )
        )
    study.table("Noisy SGD, d = 40, lambda = 0.1", ("1/beta", "free energy", "R + lambda E r^2", "E r"), lines)


def _sgd(study: Study) -> None:
    """N = 800 neurons trained by plain one-pass SGD in d = 40 dimensions, against the PDE."""
    import matplotlib.pyplot as plt

    n, d, delta, kappa = 800, 40, 0.8, 0.8
    step, last = (1e-4, 1.0) if study.quick else (2e-5, 10.0)
    times = [t for t in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0) if t <= last]
    problem = mf.problems.isotropic_gaussians(delta, d, kappa, radius=8.0)
    mesh = mf.solve(problem, (800,), last, save=times, progress=False)
    unit = mf.problems.PiecewiseLinearUnit((0.5, 1.5), (-2.5, 7.5))
    r = mesh.grid.centres(0)
    same = 0.5 * (unit.gaussian_square((1 + delta) * r) + unit.gaussian_square((1 - delta) * r))

    rng = np.random.default_rng(2018)
    weights = rng.standard_normal((n, d)) * (kappa / math.sqrt(d))
    samples = 20_000 if study.quick else 200_000
    sign = np.where(np.arange(samples) % 2, 1.0, -1.0)
    test = rng.standard_normal((samples, d)) * (1 + delta * sign)[:, None]
    train = _compiled_sgd()
    lines, radii, t = [], {}, 0.0
    for time in [0.0, *times]:
        study.progress(time / last, f"SGD, t = {time:g}")
        while t < time - 0.5 * step:
            count = min(round((time - t) / step), 20_000)
            y = rng.choice([-1.0, 1.0], count)
            train(weights, rng.standard_normal((count, d)) * (1 + delta * y)[:, None], y, 2 * step)
            t += count * step
        output = np.concatenate([_unit(test[i : i + 2000] @ weights.T).mean(axis=1) for i in range(0, samples, 2000)])
        square = (sign - output) ** 2
        found, error = float(square.mean()), float(square.std(ddof=1)) / math.sqrt(samples)
        i = mesh.index(time)
        mu = mesh.density[i]
        limit = 2 * float(mesh.energy[i])
        # exact for independent neurons of law mu
        moments = problem.bound_energy.response(r[:, None], mu * mesh.grid.cell_volume)
        loss = problem.energy.loss  # type: ignore[attr-defined]
        pair = float(loss.weights @ moments**2)
        offset = (float(same @ mu) * mesh.grid.cell_volume - pair) / n
        lines.append((time, limit, offset, found, error))
        radii[time] = np.linalg.norm(weights, axis=1)
        if time == 0.0:
            note = "exact for independent neurons; 0.02, and four standard errors of the test sample"
            study.claim("SGD, N = 800: R_N(0)", "R + offset/N", limit + offset, found, 0.02 + 4 * error, note=note)
        else:
            note = "0.02 for N = 800 (training damps the offset), and four standard errors of the test sample"
            study.claim(f"SGD, N = 800: R_N({time:g})", "PDE on a mesh", limit, found, 0.02 + 4 * error, note=note)
    study.table(
        f"SGD with N = {n}, step {step:g}, Delta = {delta}",
        ("t", "R, PDE", "offset if independent", "R_N, SGD", "standard error"),
        lines,
        "The offset is (int U(r, r) dmu - iint U dmu dmu)/N, exact for independent neurons; training correlates "
        "them such that it almost disappears.",
    )
    if not study.quick:
        mu = mesh.density[mesh.index(last)]
        share = float(mu[r < 1.0].sum()) * mesh.grid.cell_volume
        found = float((radii[last] < 1.0).mean())
        note = "four standard deviations of a count of independent neurons"
        tolerance = 4 * math.sqrt(share * (1 - share) / n)
        study.claim(f"SGD: share of neurons below r = 1 at t = {last:g}", "PDE", share, found, tolerance, note=note)
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), constrained_layout=True)
    for axis, time in zip(axes, [times[0], times[len(times) // 2], times[-1]], strict=True):
        axis.hist(radii[time], 60, density=True, color="0.8", label="SGD, 800 neurons")
        axis.plot(r, mesh.density[mesh.index(time)], color="C3", label="PDE")
        tall = np.histogram(radii[time], 60, density=True)[0].max()
        axis.set(title=f"t = {time:g}", xlabel="|w|", xlim=(0, 1.15 * radii[time].max()), ylim=(0, 1.25 * tall))
    axes[0].legend(fontsize="small")
    axes[0].set_ylabel("density")
    study.figure("sgd", "Radii of the neurons: SGD against the PDE, Delta = 0.8, d = 40, kappa = 0.8.", figure)


def _unit(t: Array) -> Array:
    return np.clip(10 * t - 7.5, -2.5, 7.5)


def _compiled_sgd() -> Callable[..., None]:
    import numba

    @numba.njit(fastmath=True)
    def train(weights, inputs, labels, rate):  # type: ignore[no-untyped-def]
        n, d = weights.shape
        active = np.zeros(n, np.bool_)
        for k in range(len(labels)):
            x = inputs[k]
            total = 0.0
            for i in range(n):
                s = 0.0
                for j in range(d):
                    s += weights[i, j] * x[j]
                active[i] = 0.5 < s < 1.5
                total += min(max(10 * s - 7.5, -2.5), 7.5)
            change = 10 * rate * (labels[k] - total / n)
            for i in range(n):
                if active[i]:
                    for j in range(d):
                        weights[i, j] += change * x[j]

    return train  # type: ignore[no-any-return]
