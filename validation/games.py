"""Two-player games: rotation, spirals, finite amplitude, and the error of Nikaido and Isoda."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.particles import simulate
from validation._runner import Progress, Study

HEADLINE = "no noise, ten turns, 64 cells, Weno5: |growth| a turn"

Array = NDArray[np.float64]

LINEAR = "linearisation about the uniform laws"
SPIRAL = "closed form, m(t) = e^{-at} R(bt) m(0) and its like for other time scales"
SPECTRAL = "Fourier differentiation and DOP853, another discretisation"
QUIET: dict[str, Any] = {"estimate": False, "progress": False}
SCHEMES: dict[str, dict[str, Any]] = {
    "Weno5": {"scheme": mf.Weno5()},
    "Muscl": {"scheme": mf.Muscl()},
    "ScharfetterGummel": {"scheme": mf.ScharfetterGummel()},
}
game = mf.problems.two_player_game


def run(quick: bool, progress: Progress) -> Study:
    """All parts; minutes in full, under one in the quick version."""
    study = Study(
        "Two-player games",
        "Two players with mixed strategies, one of whom lowers a payoff that the other one raises: descent-ascent with "
        "noise (Langevin) and with birth-death (Wasserstein-Fisher-Rao). There is no energy, so that nothing is known "
        "to fall; what is known exactly is rotation and decay near the uniform equilibrium of l = cos(x - y), the "
        "spiral of normal laws of a quadratic payoff, and its error of Nikaido and Isoda (NI).",
        quick,
        progress,
    )
    study.parts((_near_uniform, 0.15), (_turns, 0.15), (_finite, 0.2), (_normal, 0.2), (_errors, 0.3))
    return study


def _coefficients(solution: mf.Solution, i: int = -1) -> Array:
    """``2 int cos x`` of both laws."""
    x, h = solution.grid.centres(1), solution.grid.spacing[1]
    return np.array([4 * h * float(mu @ np.cos(x)) for mu in solution.density[i]])


def _off(found: Array, exact: Array) -> float:
    """How far numbers are off, relative to the largest."""
    return float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())


# ---------------------------------------------------------------------------------------------------------------------
# near the uniform equilibrium
# ---------------------------------------------------------------------------------------------------------------------


def _near_uniform(study: Study) -> None:
    """Rotation and decay of amplitudes of 1e-3."""
    note = "1e-3 of the larger amplitude; start A = 1e-3, B = 0, t = 3, tau = 0.1, 256 cells; the next order is 1e-6"
    for name, numerics in SCHEMES.items():
        study.progress(0.0, f"near uniform, {name}")
        s = mf.solve(
            game(perturbation=1e-3, temperature=0.1), 256, 3.0, controller=mf.FixedStep(0.02), **numerics, **QUIET
        )
        for player, exact, found in zip(("A", "B"), (0.0524034, 0.7389625), _coefficients(s) / 1e-3, strict=True):
            claim = f"{name}: {player}/epsilon at t = 3"
            study.claim(claim, f"{LINEAR}: e^(-tau t) (cos t/2, sin t/2)", exact, found, 1e-3 * 0.7389625, note=note)
    cases = [(0.1, 0.0, (1.0, 3.0)), (0.1, 0.0, (1.0, 0.1)), (0.1, 0.7, (1.0, 1.0)), (0.1, 0.7, (2.0, 0.3))]
    for j, (tau, alpha, scales) in enumerate(cases):
        study.progress(0.2 + 0.2 * j, f"near uniform, scales {scales}")
        problem = game(perturbation=1e-3, temperature=tau, alpha=alpha, scales=scales)
        # the propagator over t = 3 from runs of both unit starts, and its two numbers
        s = mf.solve(problem, 64, 3.0, scheme=mf.Weno5(), controller=mf.FixedStep(0.02), **QUIET)
        exact = problem.exact["coefficients"](3.0)
        claim = f"scales {scales[0]:g} and {scales[1]:g}, alpha = {alpha:g}: amplitudes at t = 3, relative error"
        study.at_most(
            claim, LINEAR, 0.0, _off(_coefficients(s), exact), 1e-3, note="1e-3; 64 cells, Weno5, steps of 0.02"
        )


def _turns(study: Study) -> None:
    """Without noise: ten turns, in which numerical diffusion and anti-diffusion would show."""
    turn = 4 * math.pi
    for name in ("Weno5", "Muscl"):
        # two-point differences turn more slowly, by known factors
        slower = (lambda h: (2 * math.sin(h / 2) / h) ** 2) if name == "Muscl" else (lambda h: 1.0)
        for cells, step in ((64, 0.05), (256, 0.05)) if not study.quick else ((32, 0.1),):
            study.progress(0.3, f"ten turns, {name}, {cells} cells")
            control = mf.FixedStep(step)
            s = mf.solve(
                game(perturbation=1e-3), cells, 10 * turn, controller=control, save=11, **SCHEMES[name], **QUIET
            )
            sizes = [float(np.hypot(*_coefficients(s, i))) for i in range(11)]
            growth = math.log(sizes[-1] / sizes[0]) / 10
            claim = f"no noise, ten turns, {cells} cells, {name}: |growth| a turn"
            study.at_most(claim, f"{LINEAR}: neither decay nor growth", 0.0, abs(growth), 1e-3, note="amplitude 1e-3")
            angle = math.atan2(*_coefficients(s)[::-1])
            claim = f"no noise, ten turns, {cells} cells, {name}: angle after them"
            exact = 20 * math.pi * (slower(2 * math.pi / cells) - 1)
            note = "the error of steps, 1e-3 at most, and of the order epsilon^2"
            study.claim(claim, f"{LINEAR}: period 4 pi, times (h/2 / sin(h/2))^2", exact, angle, 2e-3, note=note)
            masses = [s.diagnostics[f"mass_{label}"] for label in ("left", "right")]
            drift = max(float(np.abs(mass - 0.5).max()) for mass in masses)
            study.at_most(
                f"no noise, ten turns, {cells} cells, {name}: drift of the masses", "conservation", 0.0, drift, 1e-12
            )


# ---------------------------------------------------------------------------------------------------------------------
# finite amplitude
# ---------------------------------------------------------------------------------------------------------------------


def _spectral(problem: mf.Problem, times: Array, n: int = 128) -> Array:
    """Laws of both players at n places of the circle at some times."""
    from scipy import integrate

    k, x = np.fft.rfftfreq(n, 1 / n), 2 * np.pi * (np.arange(n) + 0.5) / n
    tau, alpha, scales = problem.temperature(0.0), problem.alpha(0.0), problem.axes[0].scales  # type: ignore[attr-defined]
    wave = np.exp(1j * x)

    def change(_: float, y: Array) -> Array:
        found, laws = [], y.reshape(2, n)
        for law, other, sign, scale in zip(laws, laws[::-1], (1, -1), scales, strict=True):
            V = sign * ((wave * np.conj(other @ wave)).real * 2 * np.pi / n)
            flux = law * np.fft.irfft(1j * k * np.fft.rfft(V), n) + tau * np.fft.irfft(1j * k * np.fft.rfft(law), n)
            rate = V + (tau * np.log(law) if alpha and tau else 0.0)
            gained = alpha * (rate - float(law @ rate) * 2 * np.pi / n) * law
            found.append(scale * (np.fft.irfft(1j * k * np.fft.rfft(flux), n) - gained))
        return np.concatenate(found)

    size = problem.parameters["perturbation"]  # type: ignore[index]
    start = np.concatenate([(1 + size * np.cos(x)) / (2 * np.pi), np.full(n, 1 / (2 * np.pi))])
    made = integrate.solve_ivp(change, (0, times[-1]), start, "DOP853", times, rtol=1e-10, atol=1e-13)
    return np.asarray(made.y.T.reshape(len(times), 2, n))


def _finite(study: Study) -> None:
    """Amplitude 1/2: the mesh, the characteristics and particles against the spectral solution."""
    cases = [("Langevin", 0.1, 0.0), ("Fisher-Rao", 0.0, 0.5), ("both", 0.1, 0.5)]
    for j, (name, tau, alpha) in enumerate(cases):
        for scales in ((1.0, 1.0), (1.0, 0.5)):
            study.progress(0.25 * j, f"finite amplitude, {name}")
            problem = game(temperature=tau, alpha=alpha, scales=scales)
            laws = _spectral(problem, np.array([0.0, 2.0]))[-1]
            head = f"amplitude 1/2, {name}, scales {scales[0]:g} and {scales[1]:g}, t = 2"
            s = mf.solve(problem, 128, 2.0, scheme=mf.Weno5(), controller=mf.ErrorControl(1e-7), **QUIET)
            off = float(np.abs(2 * s.density[-1] - laws).sum(axis=1).max()) * s.grid.spacing[1]
            study.at_most(f"{head}: mesh, error in L1", SPECTRAL, 0.0, off, 1e-4, note="1e-4; 128 cells, Weno5")
            study.at_least(f"{head}: mesh, smallest value", "positivity", 0.0, float(s.diagnostics["minimum"].min()))
            if not tau:
                c = mf.characteristics(problem, 2.0, tolerance=1e-6, progress=False)
                off = float(np.abs(2 * c.density(128) - laws).sum(axis=1).max()) * s.grid.spacing[1]
                study.at_most(f"{head}: characteristics, error in L1", SPECTRAL, 0.0, off, 1e-5, note="tolerance 1e-6")
    problem = game(temperature=0.1, alpha=0.0)
    n, replicas = (2000, 8) if study.quick else (10_000, 16)
    cloud = simulate(problem, n, dt=0.01, t_end=2.0, replicas=replicas, seed=1, progress=False)
    x = 2 * np.pi * (np.arange(128) + 0.5) / 128
    for k, law in enumerate(_spectral(problem, np.array([0.0, 2.0]))[-1]):
        own = cloud.positions[:, -1, :, 0] == k
        means = (2 * np.cos(cloud.positions[:, -1, :, 1]) * own).mean(axis=1)
        exact = float(law @ np.cos(x)) * 2 * np.pi / 128
        bar = float(means.std(ddof=1)) / math.sqrt(replicas)
        note = f"4 standard errors of {replicas} replicas and the bias of steps of 0.01, of the size of the step"
        claim = f"amplitude 1/2, Langevin: {n} particles, mean cosine of player {k + 1}"
        study.claim(claim, SPECTRAL, exact, float(means.mean()), 4 * bar + 0.01, note=note)
    _period(study)


def _first_return(times: Array, B: Array) -> float:
    """When B falls through 0, by linear interpolation."""
    k = int(np.flatnonzero((B[:-1] > 0) & (B[1:] <= 0))[0])
    return float(times[k] + (times[k + 1] - times[k]) * B[k] / (B[k] - B[k + 1]))


def _period(study: Study) -> None:
    """Without noise the period shrinks with the amplitude."""
    x = 2 * np.pi * (np.arange(256) + 0.5) / 256
    source = "second order: <cos 2x> turns the coefficients faster, 4 pi (1 - epsilon^2/16)"
    for size in (0.1, 0.3):
        problem, times = game(perturbation=size), np.linspace(5.0, 7.0, 201)
        s = mf.solve(problem, 128, 7.0, save=times, controller=mf.ErrorControl(1e-7), **QUIET)
        found = _first_return(s.times, np.array([_coefficients(s, i)[1] for i in range(len(s.times))]))
        laws = _spectral(problem, times, 256)
        exact = _first_return(times, np.array([float(law[1] @ np.cos(x)) for law in laws]))
        claim = f"no noise, amplitude {size:g}: when the right player is back at 0"
        study.claim(claim, SPECTRAL, exact, found, 1e-3 * exact, note="1e-3 relative; 2 pi at small amplitudes")
        shorter = (1 - found / (2 * math.pi)) / size**2
        claim = f"no noise, amplitude {size:g}: how much shorter a turn is, by its square"
        study.claim(claim, source, 1 / 16, shorter, size**2, note="of the order epsilon^2, the next term")


# ---------------------------------------------------------------------------------------------------------------------
# normal laws
# ---------------------------------------------------------------------------------------------------------------------


def _moments(solution: Any) -> Array:
    """Means and variances of both laws."""
    means = np.array([2 * solution.moment(lambda player, x, k=k: x * (player == k)) for k in (0, 1)])
    squares = np.array([2 * solution.moment(lambda player, x, k=k: x**2 * (player == k)) for k in (0, 1)])
    return np.stack([means, squares - means**2])


def _normal(study: Study) -> None:
    """The quadratic payoff."""
    for j, scales in enumerate(((1.0, 1.0), (1.0, 0.3))):
        study.progress(0.4 * j, f"normal laws, scales {scales}")
        problem = game("quadratic", a=0.5, b=2.0, temperature=0.2, scales=scales, t_end=2.0)
        exact = np.stack([problem.exact["means"](2.0), problem.exact["variances"](2.0)])
        for name, cells in (("Weno5", 400), ("ScharfetterGummel", 800)):
            s = mf.solve(problem, cells, controller=mf.ErrorControl(1e-7), **SCHEMES[name], **QUIET)
            found = _moments(s)
            for what, at, there in (("means", 0, 1e-3), ("variances", 1, 1e-3)):
                claim = f"normal laws, scales {scales[0]:g} and {scales[1]:g}, {name}: {what} at t = 2, relative error"
                study.at_most(claim, SPIRAL, 0.0, _off(found[at], exact[at]), there, note=f"1e-3; {cells} cells")
            claim = f"normal laws, scales {scales[0]:g} and {scales[1]:g}, {name}: NI error at t = 2"
            exact_error = problem.exact["nikaido_isoda"](2.0)
            study.claim(
                claim,
                "closed form",
                exact_error,
                float(s.diagnostics["regret"][-1]),
                1e-3 * exact_error,
                note="1e-3; best replies between centres cost a h^2/8",
            )
    problem = game("quadratic", a=0.5, b=2.0, t_end=2.0)
    c = mf.characteristics(problem, tolerance=1e-8, progress=False)
    off = _off(_moments(c)[0], problem.exact["means"](2.0))
    study.at_most("normal laws, no noise: characteristics, means at t = 2, relative error", SPIRAL, 0.0, off, 1e-6)
    n, replicas, dt = (1000, 8, 0.02) if study.quick else (10_000, 16, 0.005)
    cloud = simulate(problem, n, dt=dt, t_end=2.0, replicas=replicas, seed=2, progress=False)
    for k in (0, 1):
        own = cloud.positions[:, -1, :, 0] == k
        means = (2 * cloud.positions[:, -1, :, 1] * own).mean(axis=1)
        bar = float(means.std(ddof=1)) / math.sqrt(replicas)
        note = (
            f"4 standard errors, and (a^2 + b^2) t dt / 2 = {4.25 * dt:.2g} of the length of the mean for Euler steps"
        )
        claim = f"normal laws, no noise: {n} particles, mean of player {k + 1}"
        study.claim(
            claim,
            SPIRAL,
            float(problem.exact["means"](2.0)[k]),
            float(means.mean()),
            4 * bar + 4.25 * dt * math.exp(-1.0),
            note=note,
        )


# ---------------------------------------------------------------------------------------------------------------------
# errors of Nikaido and Isoda
# ---------------------------------------------------------------------------------------------------------------------


def _errors(study: Study) -> None:
    """With and without the reaction."""
    import matplotlib.pyplot as plt

    for alpha in (0.0, 1.0, 3.0):
        turn = 4 * math.pi / (1 + alpha)
        problem = game(perturbation=1e-3, temperature=0.1, alpha=alpha)
        steps = mf.FixedStep(0.05 / (1 + alpha))
        s = mf.solve(problem, 64, turn, scheme=mf.Weno5(), controller=steps, save=2, **QUIET)
        rate = math.log(float(s.diagnostics["regret"][-1] / s.diagnostics["regret"][0])) / turn
        claim = f"near uniform, tau = 0.1, alpha = {alpha:g}: rate of the NI error over a turn"
        exact = -0.1 * (1 + alpha)
        study.claim(claim, f"{LINEAR}: -tau (1 + alpha)", exact, rate, 2e-3 * abs(exact), note="2e-3 relative")
    s = mf.solve(game("quadratic", temperature=0.2, t_end=25.0), 400, **QUIET)
    exact = 0.2
    claim = "quadratic, tau = 0.2: NI error of the end, of the laws N(0, tau/a)"
    study.claim(
        claim,
        "closed form, a (s + s) / 2 = tau",
        exact,
        float(s.diagnostics["regret"][-1]),
        2e-3 * exact,
        note="2e-3 relative; e^{-12} is left of the start",
    )
    figure, panel = plt.subplots(figsize=(6.5, 3.8), constrained_layout=True)
    averages = {}
    horizon = 20.0 if study.quick else 40.0
    for alpha in (0.0, 1.0):
        study.progress(0.3 + 0.3 * alpha, f"two wells for each player, alpha = {alpha:g}")
        averages[alpha] = times, errors = _averaged(alpha, horizon)
        label = "descent-ascent" if not alpha else "with birth-death"
        panel.loglog(times, errors, label=label)
    panel.set(xlabel="time T", ylabel="NI error of the average over [0, T]")
    panel.legend(fontsize="small")
    caption = (
        "Two wells for each player, no noise: what the players would gain against the average strategy of the other."
    )
    study.figure("averages", caption, figure)
    (times, errors), (_, stuck) = averages[1.0], averages[0.0]
    late = times >= horizon / 4
    slope = float(np.polyfit(np.log(times[late]), np.log(errors[late]), 1)[0])
    source = "no regret: the reaction's is bounded by KL / alpha; Domingo-Enrich et al. 2002.06277"
    note = "slopes within 0.1; payoff of two wells each, no noise, alpha = 1"
    study.claim(
        "two wells: slope in T of the NI error of average strategies, with birth-death",
        source,
        -1.0,
        slope,
        0.1,
        note=note,
    )
    claim = "two wells: the same error without birth-death, over that with it, at the end"
    note = "transport leaves each player in its well; a factor of 2 is asked for"
    study.at_least(claim, "local equilibria", 2.0, float(stuck[-1] / errors[-1]), note=note)


def _averaged(alpha: float, horizon: float) -> tuple[Array, Array]:
    """The error of Nikaido and Isoda of strategies averaged over [0, T], and the times T."""
    problem = game("polynomial", a=2.0, alpha=alpha, half_width=3.0, mean=(0.8, 0.5), variance=0.1, t_end=horizon)
    s = mf.solve(problem, 100, save=int(10 * horizon) + 1, scheme=mf.Muscl(), **QUIET)
    plan = problem.bound_energy.on(s.grid)
    density = np.asarray(s.density)
    steps = 0.5 * np.diff(s.times)[:, None, None] * (density[1:] + density[:-1])
    times = s.times[1:]
    errors = []
    for mu in np.cumsum(steps, axis=0) / times[:, None, None]:
        V = plan.evaluate(np.ascontiguousarray(mu))[0]
        errors.append(sum(float(m @ v) / float(m.sum()) - float(v.min()) for m, v in zip(mu, V, strict=True)))
    return times, np.array(errors)
