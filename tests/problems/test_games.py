"""Games of two players: what is known of them exactly, and the same game in all discretisations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate
from scipy.optimize import minimize_scalar

import mfpde as mf

game = mf.problems.two_player_game
STEPS = mf.FixedStep(0.02)


def coefficients(solution, i=-1):
    """``2 int cos x`` and ``2 int sin x`` of both laws."""
    x, h = solution.grid.centres(1), solution.grid.spacing[1]
    return np.array([[4 * h * np.dot(mu, wave(x)) for mu in solution.density[i]] for wave in (np.cos, np.sin)])


def spectral(problem, t, n=64):
    """Both laws at n places of the circle by Fourier differentiation: another discretisation altogether."""
    k, x = np.fft.rfftfreq(n, 1 / n), 2 * np.pi * (np.arange(n) + 0.5) / n
    tau, alpha, scales = problem.temperature(0.0), problem.alpha(0.0), problem.axes[0].scales
    waves = np.exp(1j * x)

    def change(_, y):
        found = []
        laws = y.reshape(2, n)
        for law, other, sign, scale in zip(laws, laws[::-1], (1, -1), scales, strict=True):
            V = sign * ((waves * np.conj(other @ waves)).real * 2 * np.pi / n)
            slope = np.fft.irfft(1j * k * np.fft.rfft(V), n)
            flux = law * slope + tau * np.fft.irfft(1j * k * np.fft.rfft(law), n)
            rate = V + (tau * np.log(law) if alpha and tau else 0.0)
            mean = law @ rate * 2 * np.pi / n
            found.append(scale * (np.fft.irfft(1j * k * np.fft.rfft(flux), n) - alpha * (rate - mean) * law))
        return np.concatenate(found)

    size = problem.parameters["perturbation"]
    start = np.stack([(1 + size * np.cos(x)) / (2 * np.pi), np.full(n, 1 / (2 * np.pi))])
    made = integrate.solve_ivp(change, (0, t), start.ravel(), method="DOP853", rtol=1e-10, atol=1e-13)
    return x, made.y[:, -1].reshape(2, n)


@pytest.mark.parametrize(
    ("tau", "alpha", "scales"), [(0.1, 0.0, (1, 1)), (0.1, 0.0, (1, 3)), (0.1, 0.7, (2, 0.3)), (0.5, 0.0, (1, 40))]
)
def test_near_uniform_laws_turn_and_decay(tau, alpha, scales):
    problem = game(perturbation=1e-3, temperature=tau, alpha=alpha, scales=scales)
    rate, coupling = tau * (1 + alpha), 0.5 * (1 + alpha)
    s, r = scales
    # the closed form is the exponential of the matrix of the linearised equations
    matrix = np.array([[-s * rate, -s * coupling], [r * coupling, -r * rate]])
    lambdas, vectors = np.linalg.eig(matrix.astype(complex))
    exact = (vectors @ np.diag(np.exp(3.0 * lambdas)) @ np.linalg.inv(vectors))[:, 0].real * 1e-3
    np.testing.assert_allclose(problem.exact["coefficients"](3.0), exact, rtol=1e-10)
    if tau < 0.5:
        assert problem.exact["decay_rate"] == pytest.approx(-lambdas.real.max(), rel=1e-12)
        assert problem.exact["frequency"] == pytest.approx(lambdas.imag.max(), rel=1e-12)
        run = mf.solve(problem, 48, 3.0, scheme=mf.Weno5(), controller=STEPS, estimate=False, progress=False)
        np.testing.assert_allclose(coefficients(run)[0], exact, rtol=1e-3)
        assert np.abs(coefficients(run)[1]).max() < 1e-9
    else:
        assert problem.exact["frequency"] == 0.0  # overdamped


def test_the_numbers_of_the_linearised_game():
    """A = e^(-tau t) cos(t/2), B = e^(-tau t) sin(t/2) at tau = .1, t = 3."""
    found = game(perturbation=1.0 - 1e-9, temperature=0.1).exact["coefficients"](3.0)
    np.testing.assert_allclose(found, [0.0524034, 0.7389625], atol=1e-7)


def test_without_noise_ten_turns_neither_decay_nor_grow():
    problem = game(perturbation=1e-3)
    turns = 10
    run = mf.solve(problem, 32, turns * 4 * math.pi, controller=mf.FixedStep(0.1), estimate=False, progress=False)
    sizes = [math.hypot(*coefficients(run, i)[0]) for i in (0, -1)]
    assert abs(math.log(sizes[1] / sizes[0])) / turns < 1e-3
    np.testing.assert_allclose(coefficients(run)[0], [1e-3, 0.0], atol=3e-6)


def test_a_turn_is_shorter_at_finite_amplitude():
    """By ``epsilon^2 / 16`` of it: ``A' = -B/2 (1 - <cos 2x>)``, and ``<cos 2x> = epsilon^2/8 (cos t - 1)``."""
    size, times = 0.1, np.linspace(6.2, 6.35, 4)
    steps = {"controller": mf.FixedStep(0.05), "estimate": False, "progress": False}
    run = mf.solve(game(perturbation=size), 32, times[-1], save=times, **steps)
    B = np.array([coefficients(run, i)[0, 1] for i in range(1, len(run.times))])
    back = np.interp(0.0, -B, run.times[1:])
    assert (1 - back / (2 * math.pi)) / size**2 == pytest.approx(1 / 16, abs=2e-3)


FINITE = [(0.1, 0.0, (1, 1)), (0.0, 0.5, (1, 0.5)), (0.1, 0.5, (1, 2))]


@pytest.mark.parametrize(("temperature", "alpha", "scales"), FINITE)
def test_at_finite_amplitude_it_is_the_spectral_solution(temperature, alpha, scales):
    problem = game(temperature=temperature, alpha=alpha, scales=scales)
    x, laws = spectral(problem, 2.0)
    run = mf.solve(
        problem, 64, 2.0, scheme=mf.Weno5(), controller=mf.ErrorControl(1e-7), estimate=False, progress=False
    )
    assert np.abs(2 * run.density[-1] - laws).max() < 2e-5
    assert run.diagnostics["minimum"].min() >= 0
    for label in ("left", "right"):
        assert np.abs(run.diagnostics[f"mass_{label}"] - 0.5).max() < 1e-12
    if not temperature:
        exact = mf.characteristics(problem, 2.0, tolerance=1e-6, progress=False)
        assert np.abs(2 * exact.density(64) - laws).max() < 1e-5
        assert exact.moment(lambda player, x: 1.0 * (player == 1)) == pytest.approx(0.5, abs=1e-12)
    if temperature and alpha:  # the free-energy reaction, which particles refuse
        return
    cloud = mf.particles.simulate(problem, 4000, dt=0.02, t_end=2.0, replicas=2, seed=3, progress=False)
    waves = [2 * np.cos(cloud.positions[:, -1, :, 1]) * (cloud.positions[:, -1, :, 0] == k) for k in (0, 1)]
    exact_waves = [float(np.dot(law, np.cos(x))) * 2 * np.pi / 64 for law in laws]
    # the error of a mean of 4000 cosines is at most 0.012, and births and deaths double variances at most
    np.testing.assert_allclose([wave.sum() / 8000 for wave in waves], exact_waves, atol=5 * 0.012 * 1.4)
    assert np.all(np.count_nonzero(cloud.positions[..., 0] == 0, axis=-1) == 2000)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 0.4)])
def test_normal_laws_spiral(scales):
    problem = game("quadratic", a=0.5, b=2.0, temperature=0.2, scales=scales, t_end=1.5)
    run = mf.solve(problem, 120, scheme=mf.Weno5(), controller=mf.ErrorControl(1e-7), estimate=False, progress=False)
    means = np.array([2 * run.moment(lambda player, x, k=k: x * (player == k)) for k in (0, 1)])
    squares = np.array([2 * run.moment(lambda player, x, k=k: x**2 * (player == k)) for k in (0, 1)])
    np.testing.assert_allclose(means, problem.exact["means"](1.5), atol=1e-4)
    np.testing.assert_allclose(squares - means**2, problem.exact["variances"](1.5), rtol=1e-4)
    exact = [problem.exact["nikaido_isoda"](t) for t in (0.0, 1.5)]
    np.testing.assert_allclose(run.diagnostics["regret"][[0, -1]], exact, rtol=2e-3)
    if scales == (1.0, 1.0):
        spiral = math.exp(-0.75) * np.array([math.cos(3.0), math.sin(3.0)])
        np.testing.assert_allclose(problem.exact["means"](1.5), spiral, rtol=1e-12)
        assert problem.exact["equilibrium_variance"] == 0.4


def test_the_payoff_is_that_of_the_polynomial():
    C = np.array([[0.3, 0.0, -1.0], [2.0, 0.5, 0.0]])
    problem = game("polynomial", coefficients=C.tolist(), mean=(0.5, -0.5))
    points = np.array([[0.0, 0.7], [0.0, -0.2], [1.0, 1.5], [1.0, 0.1]])
    weights = np.array([0.1, 0.4, 0.2, 0.3])  # the left law is weights / .5

    def mean_of(k, f):
        return 2 * sum(w * f(x) for (i, x), w in zip(points, weights, strict=True) if i == k)

    def payoff(x, y):
        return sum(C[i, j] * x**i * y**j for i in range(2) for j in range(3))

    bound = problem.bound_energy
    u = bound.response(points, weights)
    expected = [
        -mean_of(0, lambda x, y=place: payoff(x, y)) if i else mean_of(1, lambda y, x=place: payoff(x, y))
        for i, place in points
    ]
    np.testing.assert_allclose(bound.potential(points, u), expected, rtol=1e-13)
    value = mean_of(0, lambda x: mean_of(1, lambda y: payoff(x, y)))
    assert bound.energy(points, weights) == pytest.approx(value, rel=1e-13)


def test_the_regret_is_the_error_of_nikaido_and_isoda():
    """``max_y int l(x, y) dm - min_x int l(x, y) dn`` of the start, with the extremes found by another search."""
    problem = game("polynomial", half_width=3.0, mean=(0.8, 0.5), variance=0.1)
    run = mf.solve(problem, 400, 1e-3, estimate=False, progress=False)
    C = np.array(problem.parameters["coefficients"])
    moments = [[1, m, m**2 + 0.1, m**3 + 0.3 * m, m**4 + 0.6 * m**2 + 0.03] for m in (0.8, 0.5)]
    rows = C @ moments[1], np.array(moments[0]) @ C

    def least(row):
        starts = (
            minimize_scalar(lambda x: np.polyval(row[::-1], x), bounds=(-3, 0), method="bounded"),
            minimize_scalar(lambda x: np.polyval(row[::-1], x), bounds=(0, 3), method="bounded"),
        )
        return min(found.fun for found in starts)

    assert run.diagnostics["regret"][0] == pytest.approx(-least(-rows[1]) - least(rows[0]), rel=1e-3)


def test_the_reaction_speeds_the_decay_of_the_regret_with_noise():
    """Near the uniform equilibrium by the factor 1 + alpha, exactly in the linearised equations."""
    sizes = {}
    for alpha in (0.0, 1.0):
        turn = 4 * math.pi / (1 + alpha)
        problem = game(perturbation=1e-3, temperature=0.1, alpha=alpha)
        steps = {"controller": mf.FixedStep(0.05), "save": 2, "estimate": False, "progress": False}
        run = mf.solve(problem, 32, turn, scheme=mf.Weno5(), **steps)
        sizes[alpha] = math.log(run.diagnostics["regret"][-1] / run.diagnostics["regret"][0]) / turn
    assert sizes[0.0] == pytest.approx(-0.1, rel=2e-3)
    assert sizes[1.0] == pytest.approx(-0.2, rel=2e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"payoff": "chess"}, "payoff must be one of cosine, quadratic, polynomial, not 'chess'"),
        ({"coefficients": [[1.0]]}, "coefficients are those of payoff='polynomial', not of 'cosine'"),
        ({"perturbation": 1.0}, "perturbation must be below 1 in size, not 1.0"),
        ({"scales": (1.0,)}, "scales of species are 2 positive numbers"),
        ({"payoff": "quadratic", "mean": (1.0,)}, "mean is two numbers, one a player"),
        ({"payoff": "quadratic", "variance": 0.0}, "variance must be finite and positive, not 0.0"),
    ],
)
def test_what_is_no_game_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        game(**wrong)
