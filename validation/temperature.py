"""Temperature: closed forms, decay, certificates, barriers, the bias of few particles, the cost of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from validation._runner import Kind, Progress, Study

HEADLINE = "E* of the stationary solver"

Array = NDArray[np.float64]

CLOSED = "closed form (Riccati equation)"
SAMPLING = "Crucinio, Pathiraja 2511.18060, checked against the moment equations"
LINEAR = "eigenvalue of the linearised equation, another discretisation"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Temperature",
        "Runs with a temperature against Gaussian closed forms, against eigenvalues of the linearised equation, and "
        "against exact formulas for finitely many particles. SG stands for Scharfetter-Gummel fluxes with implicit "
        "steps of order 2 (`ImplicitStrang`), Weno5 for the explicit high-order path.",
        quick,
        progress,
    )
    study.parts(
        (_gaussian, 0.15),
        (_sampling, 0.1),
        (_time, 0.1),
        (_decay, 0.1),
        (_torus, 0.1),
        (_barriers, 0.2),
        (_particles, 0.2),
        (_cost, 0.05),
    )
    return study


SG: dict[str, Any] = {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitStrang()}
ROUTES: dict[str, dict[str, Any]] = {"SG": SG, "Weno5": {"scheme": mf.Weno5()}}


def _order(steps: Sequence[float], errors: Sequence[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def _errors(solution: mf.Solution, problem: mf.Problem) -> tuple[float, float, float]:
    """Largest errors over the save times: energy, moments, density in L1."""
    from scipy import stats

    grid, exact = solution.grid, problem.exact
    x, faces = grid.centres(0), grid.faces(0)
    energy = moments = density = 0.0
    for t, mu, value in zip(solution.times, solution.density, solution.energy, strict=True):
        m, s = exact["mean"](t), exact["variance"](t)
        law = stats.norm(m, math.sqrt(s))
        mean = float(solution.moment("x", 1, t))
        energy = max(energy, abs(value - exact["energy"](t)))
        moments = max(moments, abs(mean - m), abs(float(solution.moment("x", 2, t)) - mean**2 - s))
        there = law.pdf(x) if solution.point_values else np.diff(law.cdf(faces)) / grid.spacing[0]
        density = max(density, float(np.abs(mu - there).sum()) * grid.cell_volume)
    return energy, moments, density


def _gaussian(study: Study) -> None:
    """Drift, noise, interaction and birth-death at once, by refinement."""
    cells: dict[str, tuple[int, ...]] = {"SG": (50, 100, 200, 400), "Weno5": (60, 90, 120, 160)}
    if not study.quick:
        cells["SG"] += (800,)
        cells["Weno5"] += (240,)
    claims = {"SG": (2.0, 0.15, 1e-3), "Weno5": (4.0, 0.0, 2e-5 if study.quick else 2e-6)}
    for k, reaction in enumerate(("free-energy", "balanced")):
        lines = []
        for route, settings in ROUTES.items():
            tau = 0.4 if route == "SG" else 0.05
            problem = mf.problems.gaussian_langevin(temperature=tau, reaction=reaction)
            errors = []
            for n in cells[route]:
                study.progress(0.5 * k, f"{reaction}, {route}, {n} cells")
                controller = mf.FixedStep(1e-3) if route == "SG" else mf.ErrorControl(1e-9)
                solution = mf.solve(problem, (n,), 0.4, controller=controller, save=3, progress=False, **settings)
                found = _errors(solution, problem)
                errors.append(found[2])
                lines.append((route, tau, n, *(f"{e:.2e}" for e in found), solution.stats["steps"]))
            order = _order([1 / n for n in cells[route]], errors)
            least, width, cap = claims[route]
            kind = Kind.WITHIN if route == "SG" else Kind.AT_LEAST
            study.claim(
                f"{reaction} reaction, {route}: order in h of the density", CLOSED, least, order, width, kind=kind
            )
            study.at_most(f"{reaction} reaction, {route}: L1 error, finest mesh", CLOSED, 0.0, errors[-1], cap)
        study.table(
            f"Gaussian with everything on, {reaction} reaction",
            ("fluxes", "tau", "cells", "energy", "mean, variance", "density, L1", "steps"),
            lines,
            "Largest errors over t = 0, 0.2, 0.4; a = 1.3, b = 0.7, alpha = 0.9, from N(1.5, 0.3).",
        )


def _sampling(study: Study) -> None:
    """The flow of KL between Gaussians."""
    lines = []
    cases = [(0.0, 1.0, 20.0, 100.0), (0.0, 100.0, 20.0, 1.0), (1.0, 0.7, -0.5, 0.7), (-1.0, 0.4, 1.0, 2.0)]
    for k, case in enumerate(cases):
        problem = mf.problems.gaussian_sampling(*case)
        shape = problem.shape or (200,)
        study.progress(k / len(cases), f"sampling {case}")
        errors = []
        for factor in (1, 2) if study.quick else (1, 2, 4):
            n = factor * int(shape[0])
            solution = mf.solve(problem, (n,), 2.0, controller=mf.ErrorControl(1e-7), save=5, progress=False, **SG)
            errors.append((*_errors(solution, problem), problem.exact["energy"](0.0)))
            lines.append((str(case), n, *(f"{e:.2e}" for e in errors[-1][:3]), solution.stats["steps"]))
        rate = _order([1 / 2**i for i in range(len(errors))], [e[2] for e in errors])
        study.claim(f"(m0, C0, mp, Cp) = {case}: order in h of the density", SAMPLING, 2.0, rate, 0.2)
        study.at_most(
            f"(m0, C0, mp, Cp) = {case}: error of KL over its start", SAMPLING, 0.0, errors[-1][0] / errors[0][3], 2e-3
        )
    study.table(
        "Wasserstein-Fisher-Rao flow of KL between Gaussians",
        ("m0, C0, mp, Cp", "cells", "KL", "mean, variance", "density, L1", "steps"),
        lines,
        "Largest errors over t = 0, 0.5, .. 2.",
    )


def _time(study: Study) -> None:
    """Orders in time with the non-local potential, on one mesh."""
    problem, shape = mf.problems.torus_langevin(alpha=1.0), (100,)
    steps = [0.1, 0.05, 0.025, 0.0125]
    fine = 0.8 / (640 if study.quick else 2560)

    def end(method: Any, dt: float) -> Array:
        settings: dict[str, Any] = {"controller": mf.FixedStep(dt), "save": 2, "progress": False}
        return mf.solve(problem, shape, 0.8, scheme=mf.ScharfetterGummel(), method=method, **settings).density[-1]

    reference = end(mf.ImplicitStrang(), fine)
    volume = problem.grid(shape).cell_volume
    lines = []
    for method, order in ((mf.ImplicitEuler(), 1.0), (mf.ImplicitStrang(), 2.0)):
        name = type(method).__name__
        study.progress(0.5 * (order - 1), name)
        errors = [float(np.abs(end(method, dt) - reference).sum()) * volume for dt in steps]
        study.claim(f"{name}: order in time", "construction", order, _order(steps, errors), 0.15)
        lines.append((name, *(f"{e:.2e}" for e in errors)))
    study.table("Errors of time steps, L1", ("method", *(f"dt = {dt:g}" for dt in steps)), lines)


def _decay(study: Study) -> None:
    """The free energy step by step, at large steps; and what breaks it."""
    for weight, name in ((3.0, "convex"), (-1.0, "concave")):
        for alpha in (0.0, 1.0):
            worst = -math.inf
            for dt in (0.01, 0.1, 1.0):
                study.progress(0.5 * (weight < 0), f"{name} interaction, dt = {dt:g}")
                solution = mf.solve(
                    mf.problems.torus_langevin(weight=weight, alpha=alpha),
                    t_end=(20 if study.quick else 200) * dt,
                    controller=mf.FixedStep(dt),
                    save=2,
                    progress=False,
                    **SG,
                )
                energy = solution.diagnostics["energy"]
                worst = max(worst, float(np.diff(energy).max() / np.abs(energy).max()))
            claim = f"{name} interaction, alpha = {alpha:g}: rise of the free energy in a step, dt = 0.01 to 1"
            study.at_most(claim, "theorem for the frozen average", 0.0, worst, 1e-13)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        solution = mf.solve(
            mf.problems.torus_langevin(weight=20.0),
            t_end=10.0,
            scheme=mf.ScharfetterGummel(),
            method=mf.ImplicitStrang(potential=mf.Potential.START),
            controller=mf.FixedStep(1.0),
            save=2,
            progress=False,
        )
    rise = float(np.diff(solution.diagnostics["energy"]).max())
    note = "a strongly convex interaction at dt = 1: what the average of both ends is for"
    study.at_least("rise with the potential of the start alone", "counter-example", 1e-3, rise, note=note)


def _torus(study: Study) -> None:
    """The sandwich at every step, and how fast the torus problem converges."""
    problem = mf.problems.torus_langevin()
    best = mf.stationary(problem)
    lower: list[float] = []

    def watch(snapshot: mf.Snapshot) -> bool:
        ratio = np.log(snapshot.mu) - best.log_mu
        lower.append(0.15 * float(np.vdot(snapshot.mu, ratio)) * best.grid.cell_volume)
        return False

    study.progress(0.1, "sandwich")
    solution = mf.solve(problem, t_end=30.0, save=[1.5], stop=watch, progress=False)
    d = solution.diagnostics
    excess = d["energy"] - best.energy
    below = float((np.array(lower) - excess[1:]).max())
    above = float((excess - d["optimality_gap"]).max())
    source = "convexity, exact on the mesh"
    study.claim(
        "E* of the stationary solver",
        "dual problem in 8 harmonics",
        problem.exact["minimum_energy"],
        best.energy,
        1e-11,
    )
    study.at_most("tau KL(mu|mu*) - (E - E*), largest of all steps", source, 0.0, below, 1e-13)
    study.at_most("(E - E*) - tau KL(mu|p_mu), largest of all steps", source, 0.0, above, 1e-13)
    at = int(np.flatnonzero(d["time"] == 1.5)[0])
    study.progress(0.5, "asymptotic rate")
    times = (500.0, 600.0)  # E - E* also has a part e^{-3 lambda t}, gone by then
    late = mf.solve(problem, t_end=times[1], save=times, controller=mf.FixedStep(1.0), progress=False, **SG)
    rate = math.log((late.energy[1] - best.energy) / (late.energy[2] - best.energy)) / (times[1] - times[0])
    expected, poincare = _torus_rate(int(best.grid.size))
    study.claim("rate of E - E* in the end, 200 cells", LINEAR, expected, rate, 2e-5)
    study.at_least("rate of E - E* over 2 tau lambda_P", "log-Sobolev theory", 1.0, rate / (0.3 * poincare))
    study.table(
        "Torus, tau = 0.15, at t = 1.5",
        ("tau KL(mu|mu*)", "E - E*", "tau KL(mu|p_mu)", "E*"),
        [(lower[at - 1], float(excess[at]), float(d["optimality_gap"][at]), best.energy)],
    )


def _torus_rate(n: int) -> tuple[float, float]:
    """Twice the smallest rate of the linearised equation and the Poincare constant, with SG fluxes in its own code."""
    from scipy import linalg, special

    tau = 0.15
    x = 2 * math.pi * (np.arange(n) + 0.5) / n
    F = -2 * np.cos(x) - 1.5 * np.sin(2 * x + 0.3)
    K = sum(np.cos(k * (x[:, None] - x)) for k in range(1, 5))
    log_p = np.full(n, -math.log(n))
    for _ in range(300):
        V = F + K @ np.exp(log_p)
        log_p = 0.85 * log_p - 0.15 * V / tau
        log_p -= special.logsumexp(log_p)
    T = _chain((F + K @ np.exp(log_p)) / tau, 2 * math.pi / n, periodic=True)
    root = np.exp(0.5 * log_p)
    C = linalg.sqrtm(tau * np.eye(n) + root[:, None] * K * root).real
    return 2 * float(np.linalg.eigvalsh(C @ T @ C)[1]), float(np.linalg.eigvalsh(T)[1])


def _chain(V: Array, h: float, periodic: bool = False) -> Array:
    """The symmetric form of ``-div(e^{-V} grad(e^V .))`` with Bernoulli functions on the faces."""
    n = V.size
    following = np.roll(V, -1)
    half = 0.5 * (following - V)
    face = np.divide(half, np.sinh(half), where=half != 0, out=np.ones(n)) / h**2
    if not periodic:
        face[-1] = 0.0
        half[-1] = 0.0
    T = np.diag(face * np.exp(-half) + np.roll(face * np.exp(half), 1))
    i = np.arange(n)
    T[i, (i + 1) % n] -= face
    T[(i + 1) % n, i] -= face
    return T


def _barriers(study: Study) -> None:
    """Double wells: Langevin waits for Kramers, birth-death does not."""
    import matplotlib.pyplot as plt
    from scipy import special

    tau, n = 0.1, 400
    barriers = (0.4, 0.8, 1.2) if study.quick else (0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
    lines: list[tuple[Any, ...]] = []
    curves: dict[float, tuple[Array, Array]] = {}
    for k, barrier in enumerate(barriers):
        study.progress(k / len(barriers), f"barrier {barrier:g}")
        found = {}
        for alpha in (0.0, 10.0):
            problem = mf.problems.double_well_sampling(barrier, 0.02, tau, alpha)
            grid = problem.grid((n,))
            x = grid.centres(0)
            V = barrier * (x**2 - 1) ** 2 + 0.02 * x
            lowest = -tau * (special.logsumexp(-V / tau) + math.log(grid.spacing[0]))
            gap = tau * float(np.linalg.eigvalsh(_chain(V / tau, grid.spacing[0]))[1])
            if alpha == 0.0:
                start, stop = 4.0 / gap, 5.0 / gap
                controller: Any = mf.FixedStep(0.02 / gap)
            else:
                start, stop = 6.0, 8.0
                controller = mf.ErrorControl(1e-6)
            solution = mf.solve(problem, (n,), stop, save=[start, stop], controller=controller, progress=False, **SG)
            excess = solution.energy[1:] - lowest
            found[alpha] = 0.5 * math.log(excess[0] / excess[1]) / (stop - start)
            if alpha > 0:
                d = solution.diagnostics
                curves[barrier] = (d["time"], (d["energy"] - lowest) / tau)
        kramers = problem.exact["kramers_gap"]
        height = problem.exact["barriers"][1] / tau
        lines.append((barrier, f"{height:.2f}", kramers, gap, found[0.0], found[10.0], 1.0 + gap))
        source = "spectral gap on the same mesh"
        study.claim(f"barrier {height:.1f} tau: rate of Langevin / gap", source, 1.0, found[0.0] / gap, 0.01)
        study.claim(f"barrier {height:.1f} tau: rate with birth-death", "alpha tau + gap", 1.0 + gap, found[10.0], 0.01)
    ratio = [line[5] for line in lines]
    study.claim(
        "birth-death: largest over smallest rate", "independent of the barrier", 1.0, max(ratio) / min(ratio), 0.05
    )
    last = lines[-1]
    study.claim(
        "numerical gap over Kramers' rate, highest barrier",
        "Laplace's method, error (3/8) tau/h",
        1.0,
        last[3] / last[2],
        0.05,
    )
    study.table(
        "Rates in double wells, half the decay rate of KL",
        ("h", "height / tau", "Kramers", "gap", "Langevin, measured", "birth-death, measured", "alpha tau + gap"),
        lines,
        "V = h (x^2 - 1)^2 + 0.02 x, tau = 0.1, from the right well; birth-death with alpha = 1/tau.",
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    heights = [float(line[1]) for line in lines]
    left.semilogy(heights, [line[2] for line in lines], color="0.6", label="Kramers")
    left.semilogy(heights, [line[4] for line in lines], "o", label="Langevin")
    left.semilogy(heights, ratio, "s", label="with birth-death")
    left.set(xlabel="barrier / temperature", ylabel="rate")
    left.legend()
    for barrier, (times, divergence) in curves.items():
        right.semilogy(times, np.maximum(divergence, 1e-12), label=f"h = {barrier:g}")
    right.set(xlabel="t", ylabel=r"KL$(\mu\,|\,\pi)$, with birth-death", ylim=(1e-8, None))
    right.legend(fontsize="small")
    caption = "Left: rates against the barrier. Right: with birth-death all barriers decay alike."
    study.figure("barriers", caption, figure)


def _particles(study: Study) -> None:
    """N Langevin particles in the quadratic problem have known second moments, time steps included."""
    from mfpde.particles import simulate

    a, b, tau, s0, m0, t = 1.3, 2.0, 0.4, 0.3, 1.0, 2.0
    dt, replicas = (2e-2, 1000) if study.quick else (1e-2, 4000)
    steps = round(t / dt)

    def moments(n: int, inverse: float) -> tuple[float, float, float]:
        """E mean^2 and E X^2 with `inverse` = 1/n, for Euler steps; and E X^2 in continuous time."""

        def relax(start: float, rate: float, noise: float) -> float:
            kept = (1 - rate * dt) ** (2 * steps)
            return start * kept + noise * dt * (1 - kept) / (1 - (1 - rate * dt) ** 2)

        centre = m0**2 * (1 - (a + b) * dt) ** (2 * steps) + relax(s0 * inverse, a + b, 2 * tau * inverse)
        around = relax(s0, a, 2 * tau) * (1 - inverse)
        problem = mf.problems.gaussian_langevin(a, b, tau, 0.0, mean=m0, variance=s0)
        kept = math.exp(-2 * (a + b) * t)
        v = s0 * inverse * kept + tau * inverse / (a + b) * (1 - kept)
        limit = problem.exact["mean"](t) ** 2 + v + (1 - inverse) * problem.exact["variance"](t)
        return centre, centre + around, limit

    lines = []
    for k, n in enumerate((2, 5, 20)):
        study.progress(k / 3, f"{n} particles")
        cloud = simulate(
            mf.problems.gaussian_langevin(a, b, tau, 0.0, mean=m0, variance=s0),
            n,
            dt=dt,
            t_end=t,
            save=2,
            seed=7,
            replicas=replicas,
            observe={"centre": lambda x, w: float(x.mean()) ** 2, "square": lambda x, w: float((x**2).mean())},
            keep_positions=False,
            progress=False,
        )
        *exact, limit = moments(n, 1 / n)
        many = moments(n, 0.0)
        for name, label, expected, without in zip(
            ("centre", "square"), ("E (mean)^2", "E X^2"), exact, many[:2], strict=True
        ):
            sample = np.asarray(cloud.observed[name])[:, -1]
            found, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(replicas)
            claim, source = f"{n} particles: {label}", "exact for N particles and Euler steps"
            study.claim(claim, source, expected, found, 4 * error, note="four standard errors")
            lines.append((n, label, expected, found, error, without))
            if label == "E X^2" and n < 20:
                seen = (without - found) / error
                claim = f"{n} particles: bias of E X^2, in standard errors"
                study.at_least(claim, "b > 0 lowers it by tau b/(N a (a + b))", 4.0, seen)
        note = "how much of the exact value is the time step's"
        study.report(f"{n} particles: E X^2, Euler steps - continuous", "formulas", exact[1] - limit, note=note)
    study.table(
        "Second moments of N Langevin particles",
        ("N", "moment", "exact", "measured", "standard error", "N to infinity"),
        lines,
        f"a = {a}, b = {b}, tau = {tau}, t = {t:g}, {replicas} replicas, dt = {dt:g}.",
    )


def _cost(study: Study) -> None:
    """Implicit steps against explicit Weno5 steps on the same mesh, in one run and one thread."""
    from threadpoolctl import threadpool_limits

    lines = []
    cases: list[tuple[mf.Problem, tuple[int, ...]]] = [
        (mf.problems.torus_langevin(alpha=1.0), (4096,)),
        (mf.problems.gaussian_bumps([[-1.0, 0.5], [1.5, -1.0]], (0.6, 0.4), temperature=0.1), (256, 256)),
    ]
    for k, (problem, shape) in enumerate(cases):
        study.progress(k / len(cases), f"cost, {shape}")
        with threadpool_limits(limits=1):
            times = _times(problem, shape)
        name = " x ".join(map(str, shape))
        source = "both measured in this run"
        ratio = times["ImplicitEuler step"] / times["Weno5 step"]
        study.at_most(f"{name}: implicit step / explicit Weno5 step", source, 3.0, ratio)
        study.claim(
            f"{name}: implicit solves along all axes / one Weno5 evaluation",
            source,
            3.0,
            times["implicit solves, all axes"] / times["Weno5 rate"],
            kind=Kind.AT_MOST if len(shape) > 1 else Kind.REPORTED,
            note="" if len(shape) > 1 else "the recurrence of a single line runs cell by cell, not many lines at once",
        )
        lines += [(name, what, f"{1e3 * seconds:.3f}") for what, seconds in times.items()]
    study.table("Time of a step", ("mesh", "what", "ms"), lines, "One thread; least of seven.")


def _times(problem: mf.Problem, shape: tuple[int, ...]) -> dict[str, float]:
    from mfpde.mesh.semidiscrete import Coefficients

    tau, alpha = problem.temperature(0.0), problem.alpha(0.0)
    at = Coefficients(lambda c: alpha, lambda c: tau)
    implicit = mf.Solver(problem, shape, scheme=mf.ScharfetterGummel(), method=mf.ImplicitEuler())
    # the cheapest explicit method that integrates the reaction: three potential evaluations, or seven
    split = problem.reaction is mf.Reaction.FREE_ENERGY
    method = mf.Strang() if split else mf.ExponentialSSPRK3()
    explicit = mf.Solver(problem, shape, scheme=mf.Weno5(), method=method)
    one, two = (solver.evaluate(solver.init()) for solver in (implicit, explicit))
    dt = 0.9 * explicit.method.bound(explicit.flow, two, tau)

    def solves() -> None:
        mu = one.mu
        for axis in range(len(shape)):
            mu = implicit.flow.transport.implicit(axis, mu, one.V, dt, tau)

    def rate() -> None:
        explicit.flow.transport.rate(two.mu, two.V, dt=dt, temperature=tau)

    def implicit_step(length: float) -> None:
        implicit.method.step(implicit.flow, one, length, at)

    def explicit_step() -> None:
        explicit.method.step(explicit.flow, two, dt, at)

    return {
        "implicit solves, all axes": _seconds(solves),
        "Weno5 rate": _seconds(rate),
        "ImplicitEuler step": _seconds(lambda: implicit_step(dt)),
        "ImplicitEuler step, 100 times as long": _seconds(lambda: implicit_step(100 * dt)),
        "Weno5 step": _seconds(explicit_step),
    }


def _seconds(call: Callable[[], Any]) -> float:
    call()
    best = math.inf
    for _ in range(7):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best
