"""Self-attention on the circle, flows of the energy distance, spikes on the torus: what is known of them exactly."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, special

import mfpde as mf

P = mf.problems
WINNERS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 3, 7: 4, 9: 4}

pytestmark = pytest.mark.usefixtures("one_thread")


def harmonics(solution, i, count=8):
    x = solution.grid.centres(0)
    mu = solution.density[i]
    return np.array([abs(np.vdot(np.exp(1j * k * x), mu)) for k in range(1, count + 1)]) * solution.grid.cell_volume


class TestSelfAttention:
    def test_kernel(self):
        """The series is the kernel, and its slope the velocity of a pair of tokens."""
        for beta in (0.3, 5.0, 40.0):
            bound = P.self_attention(beta).bound_energy
            points = np.linspace(0.0, 6.0, 13)[:, None]
            one = np.zeros((1, 1))
            u = bound.response(one, np.ones(1))
            scale = math.exp(beta) / beta
            exact = -np.exp(beta * np.cos(points[:, 0])) / beta
            np.testing.assert_allclose(bound.potential(points, u), exact, atol=1e-14 * scale)
            slope = np.exp(beta * np.cos(points[:, 0])) * np.sin(points[:, 0])
            np.testing.assert_allclose(bound.gradient(points, u)[:, 0], slope, atol=1e-12 * scale)
            assert abs(bound.energy(one, np.ones(1)) / P.self_attention(beta).exact["minimum_energy"] - 1) < 1e-13

    def test_energy_of_the_start(self):
        for beta, modes, eps in ((2.0, 3, 0.2), (7.0, 8, 0.05), (5.0, 0, 0.0)):
            problem = P.self_attention(beta, eps, modes)
            grid = problem.grid((256,))
            x, mu = grid.centres(0), problem.mu_0.point_values(grid)
            direct = -0.5 / beta * mu @ np.exp(beta * np.cos(x[:, None] - x)) @ mu * grid.cell_volume**2
            assert abs(problem.exact["initial_energy"] / direct - 1) < 1e-12
            assert abs(problem.bound_energy.on(grid).evaluate(mu)[1] / direct - 1) < 1e-12

    def test_growth_rates(self):
        """All harmonics at once, from 1e-7; second-order terms are of that size times the growth."""
        problem = P.self_attention(5.0, 1e-7)
        exact = np.array([k * k * special.iv(k, 5.0) / 5.0 for k in range(1, 9)])
        np.testing.assert_allclose([problem.exact["growth_rate"](k) for k in range(1, 9)], exact, rtol=1e-13)
        T = 2.0 / exact.max()
        for scheme, cells, tolerance in ((mf.Weno5(), 128, 1e-4), (mf.Muscl(), 512, 3e-3)):
            step = mf.FixedStep(0.02 / exact.max())
            s = mf.solve(problem, (cells,), T, scheme=scheme, controller=step, save=2, progress=False)
            rates = np.log(harmonics(s, 1) / harmonics(s, 0)) / T
            np.testing.assert_allclose(rates, exact, rtol=tolerance)

    def test_temperature_damps(self):
        tau = 3.0
        problem = P.self_attention(5.0, 1e-7, temperature=tau)
        exact = np.array([k * k * (special.iv(k, 5.0) / 5.0 - tau) for k in range(1, 5)])
        assert exact.min() < 0 < exact.max()
        s = mf.solve(problem, (256,), 0.1, controller=mf.FixedStep(1e-3), save=2, progress=False)
        np.testing.assert_allclose(np.log(harmonics(s, 1) / harmonics(s, 0))[:4] / 0.1, exact, rtol=1e-3, atol=1e-2)

    def test_softmax(self):
        """Rows of sum 1: the first harmonics grow at k^2 I_k / (beta I_0), on a mesh and along characteristics."""
        problem = P.self_attention(5.0, 1e-6, normalised=True)
        exact = np.array([k * k * special.iv(k, 5.0) / (5.0 * special.iv(0, 5.0)) for k in range(1, 5)])
        np.testing.assert_allclose([problem.exact["growth_rate"](k) for k in range(1, 5)], exact, rtol=1e-12)
        T = 1.0 / exact.max()
        s = mf.solve(problem, (96,), T, controller=mf.FixedStep(0.02 / exact.max()), save=2, progress=False)
        np.testing.assert_allclose(np.log(harmonics(s, 1) / harmonics(s, 0))[:4] / T, exact, rtol=1e-4)
        assert np.isnan(s.energy).all()
        assert np.isnan(s.diagnostics["optimality_gap"]).all()
        run = mf.characteristics(problem, T, save=2, tolerance=1e-8, progress=False)
        k = problem.exact["fastest_mode"]
        sizes = [np.hypot(*(run.moment(lambda x, f=f: f(k * x), t=t) for f in (np.cos, np.sin))) for t in (0.0, T)]
        assert math.log(sizes[1] / sizes[0]) / T == pytest.approx(exact[k - 1], rel=1e-4)

    @pytest.mark.parametrize("beta", WINNERS)
    def test_winner(self, beta):
        problem = P.self_attention(float(beta), 1e-6)
        assert problem.exact["fastest_mode"] == WINNERS[beta]
        rate = problem.exact["growth_rate"](WINNERS[beta])
        s = mf.solve(problem, (128,), 9.0 / rate, controller=mf.FixedStep(0.05 / rate), save=2, progress=False)
        assert 1 + int(np.argmax(harmonics(s, -1))) == WINNERS[beta]

    def test_two_clusters(self):
        """Atoms whose angle obeys one equation, whatever their masses; their mean stays."""
        for beta, masses in ((4.0, (0.5, 0.5)), (9.0, (0.3, 0.7))):
            atoms = mf.Particles(np.array([[1.0], [1.0 + math.pi / 2]]), np.array(masses))
            problem = dataclasses.replace(P.self_attention(beta), initial=atoms, parameters=None)
            slowness = lambda p, beta=beta: math.exp(-beta * math.cos(p)) / math.sin(p)  # noqa: E731
            T = integrate.quad(slowness, 0.1, math.pi / 2, epsabs=0)[0]
            run = mf.characteristics(problem, T, save=3, progress=False)
            x = run.points[:, :, 0]
            assert abs(x[-1, 1] - x[-1, 0] - 0.1) < 1e-6
            np.testing.assert_allclose(x @ masses, x[0] @ masses, atol=1e-10)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"beta": 0.0}, "beta must be finite and positive"),
            ({"beta": 200.0}, "beta must be at most 100"),
            ({"perturbation": 0.2}, "perturbation must be below 1/modes = 0.125"),
            ({"modes": -1}, "modes must be an integer"),
            ({"temperature": -1.0}, "temperature must be finite and not negative"),
            ({"t_end": 0.0}, "t_end must be finite and positive"),
        ],
    )
    def test_refused(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            P.self_attention(**parameters)


class TestEnergyDistance:
    @pytest.mark.parametrize("start", ["block", "wave"])
    def test_closed_forms(self, start):
        """Quantile, density, distance and energy agree with each other, by quadrature."""
        exact = P.mmd_flow(start, 0.1, 0.5).exact
        for t in (0.0, 0.4):
            s, w = np.polynomial.legendre.leggauss(400)
            s, w = 0.5 * (s + 1), 0.5 * w
            X = exact["quantile"](s, t)
            assert abs(w @ (X - s) ** 2 / exact["distance"](t) ** 2 - 1) < 1e-10
            assert abs(exact["energy"](t) / exact["distance"](t) ** 2 - 1) < 1e-14
            # X_s = 1 / density
            h = 1e-5
            slope = (exact["quantile"](s + h, t) - exact["quantile"](s - h, t)) / (2 * h)
            inner = (s > 0.01) & (s < 0.99)
            np.testing.assert_allclose((slope * exact["density"](X, t))[inner], 1.0, rtol=1e-6)
        # int (F - x)^2 over all of [0, 1], where the law has no mass too
        levels = np.linspace(0, 1, 20001)
        X = exact["quantile"](levels, 0.4)
        x = np.linspace(0, 1, 200001)
        F = np.interp(x, X, levels, left=0.0, right=1.0)
        assert abs(integrate.trapezoid((F - x) ** 2, x) / exact["energy"](0.4) - 1) < 1e-6

    def test_velocity_on_faces(self):
        """Two-point differences of V over faces are 2 (x - F) there for cell averages: the kink costs nothing."""
        problem = P.mmd_flow()
        rng = np.random.default_rng(2)
        for n in (37, 1500):
            grid = problem.grid((n,))
            mu = rng.random(n)
            mu *= n / mu.sum()
            V = problem.bound_energy.on(grid).evaluate(mu)[0]
            faces = grid.faces(0)[1:-1]
            F = np.cumsum(mu)[:-1] / n
            np.testing.assert_allclose(np.diff(V) * n, 2 * (faces - F), atol=1e-10)
        # at points: an atom does not move itself
        atoms, weights = rng.random((9, 1)), np.full(9, 1 / 9)
        gradient = problem.bound_energy.gradient(atoms, problem.bound_energy.response(atoms, weights))[:, 0]
        rank = np.argsort(np.argsort(atoms[:, 0]))
        np.testing.assert_allclose(gradient, 2 * (atoms[:, 0] - (rank + 0.5) / 9), atol=1e-13)

    @pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl()], ids=["weno5", "muscl"])
    def test_quantiles_of_a_block(self, scheme):
        problem = P.mmd_flow()
        s = mf.solve(problem, (200,), 0.5, scheme=scheme, save=2, progress=False)
        F = np.concatenate([[0.0], np.cumsum(s.density[-1])]) / 200
        levels = np.linspace(0.05, 0.95, 19)
        X = np.interp(levels, F, s.grid.faces(0))
        assert np.abs(X - problem.exact["quantile"](levels, 0.5)).max() < 1e-3

    def test_wave(self):
        """Second order in the density, energy and distance; characteristics agree."""
        problem = P.mmd_flow("wave")
        cells, errors, energies = (50, 100, 200), [], []
        for n in cells:
            s = mf.solve(problem, (n,), 0.7, save=2, progress=False)
            exact = problem.exact["density"](s.grid.centres(0), 0.7)
            errors.append(np.abs(s.density[-1] - exact).sum() / n)
            energies.append(abs(s.energy[-1] - problem.exact["energy"](0.7)))
        for found, cap in ((errors, 5e-5), (energies, 3e-6)):
            order = -np.polyfit(np.log(cells), np.log(found), 1)[0]
            assert abs(order - 2) < 0.15
            assert found[-1] < cap
        along = mf.characteristics(problem, 0.7, save=2, nodes=100, tolerance=1e-2, progress=False)
        assert along.energy[-1] == pytest.approx(problem.exact["energy"](0.7), rel=0.03)
        x, w = along.points[-1, :, 0], along.weights[-1]
        order = np.argsort(x)
        levels = np.cumsum(w[order]) - 0.5 * w[order]
        np.testing.assert_allclose(x[order], problem.exact["quantile"](levels, 0.7), atol=1 / len(w))

    def test_birth_death_has_no_closed_form(self):
        assert set(P.mmd_flow(alpha=1.0).exact) == {"minimum_energy"}

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"start": "dot"}, "unknown start 'dot'; valid: 'block', 'wave'"),
            ({"low": 0.7}, "0 <= low < high <= 1"),
            ({"amplitude": 1.0}, "amplitude must be below 1"),
        ],
    )
    def test_refused(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            P.mmd_flow(**parameters)


class TestSpikes:
    def test_energy(self):
        """E and V of the mesh against sums over the kernel as written."""
        problem = P.torus_spikes(0.0, spikes=3, seed=4)
        nu = np.random.default_rng(4).uniform(0, 2 * np.pi, (3, 2))
        grid = problem.grid((16, 16))
        points = grid.points()
        mu = np.random.default_rng(5).random((16, 16))
        mu /= mu.sum() * grid.cell_volume

        def K(p, q):
            result = np.ones((len(p), len(q)))
            for i in range(2):
                d = p[:, None, i] - q[None, :, i]
                result *= 1 + 2 * sum(np.cos(k * d) / (1 + k) for k in range(1, 6))
            return result

        w = mu.ravel() * grid.cell_volume
        a = np.full(3, 1 / 3)
        V, energy, _ = problem.bound_energy.on(grid).evaluate(mu)
        direct = 0.5 * (w @ K(points, points) @ w - 2 * w @ K(points, nu) @ a + a @ K(nu, nu) @ a)
        assert abs(energy - direct) < 1e-11
        difference = V.ravel() - (K(points, points) @ w - K(points, nu) @ a)
        np.testing.assert_allclose(difference, difference[0], atol=1e-11)

    @pytest.mark.parametrize("temperature", [0.0, 0.2])
    def test_start(self, temperature):
        problem = P.torus_spikes(temperature)
        s = mf.solve(problem, (24, 24), 0.02, save=2, progress=False)
        assert abs(s.energy[0] - problem.exact["initial_energy"]) < 1e-13
        assert s.energy[-1] < s.energy[0]

    def test_atoms_are_the_minimum(self):
        problem = P.torus_spikes(0.0)
        nu = np.random.default_rng(0).uniform(0, 2 * np.pi, (10, 2))
        assert abs(problem.bound_energy.energy(nu, np.full(10, 0.1))) < 1e-15

    def test_sandwich(self):
        """tau KL(mu|mu*) <= E - E* <= tau KL(mu|p_mu) on the mesh."""
        tau = 0.3
        problem = P.torus_spikes(tau)
        best = mf.stationary(problem, (24, 24))
        s = mf.solve(problem, (24, 24), 2.0, save=5, progress=False)
        for mu, energy in zip(s.density, s.energy, strict=True):
            below = tau * float(np.vdot(mu, np.log(mu) - best.log_mu)) * s.grid.cell_volume
            assert below <= energy - best.energy + 1e-12
        d = s.diagnostics
        assert np.all(d["energy"] - best.energy <= d["optimality_gap"] + 1e-12)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"spikes": 0}, "spikes must be an integer of at least 1"),
            ({"harmonics": 65}, "harmonics must be at most 64"),
            ({"temperature": -0.1}, "temperature must be finite and not negative"),
        ],
    )
    def test_refused(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            P.torus_spikes(**parameters)
