"""Two-timescale training and ultra-fast diffusion: closed forms, quantiles, spectral gaps, and the limit."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

import mfpde as mf
from validation._quantiles import quantile_energy, quantiles, spectral_gap

P = mf.problems
KAPPA = 8.0

pytestmark = pytest.mark.usefixtures("one_thread")


def target(x, g=10.0):
    """The two peaks as the paper's code has them, normalised by a sum over the circle."""
    one = lambda y: 1 / (1 + g * np.sin(y / 2) ** 2) + 0.5 / (1 + g * np.sin((y - 0.4 * math.pi) / 2) ** 2)  # noqa: E731
    around = np.arange(4096) * 2 * math.pi / 4096
    return one(x) / (one(around).mean() * 2 * math.pi)


def kernel(x, y):
    return np.exp(KAPPA * (np.cos(x[:, None] - y) - 1))


@functools.cache
def gap(g):
    """The spectral gap of the target, and its function."""
    return spectral_gap(lambda x: target(x, g), 400 if g > 100 else 150)


class TestVariableProjection:
    @pytest.mark.parametrize("unbiased", [False, True])
    def test_energy(self, unbiased):
        """Atoms against the linear system as written, on them and on a fine grid for the target; V at other places."""
        penalty, rng = 0.03, np.random.default_rng(0)
        x, w = rng.uniform(-3, 3, 9), rng.dirichlet(np.ones(9))
        z = np.arange(1024) * 2 * math.pi / 1024 - math.pi
        nu = target(z) * 2 * math.pi / 1024
        u = np.linalg.solve(penalty * np.eye(9) + kernel(x, x) * w, kernel(x, z) @ nu + penalty * unbiased)
        misfit = u * w @ kernel(x, x) @ (u * w) - 2 * u * w @ kernel(x, z) @ nu + nu @ kernel(z, z) @ nu
        energy = misfit / (2 * penalty) + 0.5 * w @ (u - unbiased) ** 2
        everywhere = (kernel(z, z) @ nu - kernel(z, x) @ (u * w)) / penalty + unbiased
        bound = P.two_timescale(regularisation=penalty, unbiased=unbiased).bound_energy
        assert bound.energy(x[:, None], w) == pytest.approx(energy, rel=1e-9)
        V = bound.potential(z[:, None], bound.response(x[:, None], w))
        np.testing.assert_allclose(V, 0.5 * (unbiased - everywhere**2), atol=1e-8 * everywhere.max() ** 2)

    @pytest.mark.parametrize("unbiased", [False, True])
    def test_second_variation(self, unbiased):
        """Against central differences of the gradient, of second order."""
        problem = P.two_timescale(unbiased=unbiased)
        loss, bound, rng = problem.energy.loss, problem.bound_energy, np.random.default_rng(1)
        u, change = (bound.response(rng.uniform(-3, 3, (7, 1)), s * np.ones(7) / 7) for s in (1.0, 0.01))
        h = 1e-3
        differences = (loss.gradient(u + h * change) - loss.gradient(u - h * change)) / (2 * h)
        exact = loss.curvature(u) @ change
        np.testing.assert_allclose(differences, exact, atol=1e-7 * np.abs(exact).max())

    @pytest.mark.parametrize("unbiased", [False, True])
    def test_start_and_minimum(self, unbiased):
        problem = P.two_timescale(100.0, unbiased=unbiased)
        grid = problem.grid((512,))
        plan = problem.bound_energy.on(grid)
        start = plan.evaluate(problem.mu_0.cells(grid))[1]
        assert problem.exact["initial_energy"] == pytest.approx(start, rel=1e-12)
        V, energy, _ = plan.evaluate(target(grid.centres(0), 100.0))
        if unbiased:  # the outer weights are 1
            assert problem.exact["minimum_energy"] == 0.0
            assert abs(energy) < 1e-15
            assert np.abs(V).max() < 1e-8
        else:
            assert "minimum_energy" not in problem.exact

    def test_discretisations_agree(self):
        problem = P.two_timescale(alpha=0.5, concentration=4.0, t_end=0.5)
        mesh = mf.solve(problem, save=2, progress=False)
        nodes = mf.characteristics(problem, save=2, tolerance=1e-3, progress=False)
        assert mesh.energy[-1] == pytest.approx(nodes.energy[-1], abs=1e-6)
        assert mesh.diagnostics["minimum"].min() > 0
        assert np.all(np.diff(mesh.diagnostics["energy"]) < 0)

    def test_tends_to_ultra_fast_diffusion(self):
        """In L1 at t = 1 as lambda."""
        limit = mf.solve(P.ultra_fast_diffusion(), 64, 1.0, save=2, progress=False, estimate=False)
        distances = []
        for penalty in (1e-2, 1e-3, 1e-4):
            problem = P.two_timescale(regularisation=penalty)
            run = mf.solve(problem, 64, 1.0, save=2, progress=False, estimate=False)
            distances.append(np.abs(run.density[-1] - limit.density[-1]).sum() * run.grid.cell_volume)
        slope = np.polyfit(np.log([1e-2, 1e-3, 1e-4]), np.log(distances), 1)[0]
        assert abs(slope - 1) < 0.1
        assert distances[0] == pytest.approx(0.026, rel=0.02)


class TestUltraFast:
    @pytest.mark.parametrize(("g", "square"), [(10.0, 0.727711), (100.0, 1.527699), (1000.0, 4.438952)])
    def test_energy_of_the_start(self, g, square):
        problem = P.ultra_fast_diffusion(g)
        x = np.arange(4096) * 2 * math.pi / 4096
        direct = math.pi * float((target(x, g) ** 2).mean()) * 2 * math.pi
        assert problem.exact["initial_energy"] == pytest.approx(direct, rel=1e-12)
        assert direct == pytest.approx(square, abs=1e-6)
        grid = problem.grid((1024,))
        V, energy, _ = problem.bound_energy.on(grid).evaluate(target(grid.centres(0), g))
        assert energy == pytest.approx(problem.exact["minimum_energy"], rel=1e-12)
        np.testing.assert_allclose(V, -0.5, rtol=1e-9)

    def test_heat_equation_of_quantiles(self):
        """Uniform target: density, energy and quantiles agree with each other, and the mesh with them."""
        problem = P.ultra_fast_diffusion(0.0, 0.5, t_end=1.0)
        exact = problem.exact
        s = (np.arange(2000) + 0.5) / 2000
        for t in (0.0, 0.7):
            X = exact["quantile"](s, t)
            slope = 2 * math.pi + 0.5 * math.exp(-t) * 2 * math.pi * np.cos(2 * math.pi * s)
            np.testing.assert_allclose(exact["density"](X, t), 1 / slope, rtol=1e-12)
            assert exact["energy"](t) == pytest.approx(0.5 * np.mean((slope / (2 * math.pi)) ** 2), rel=1e-12)
        for n, tolerance in ((32, 1e-4), (64, 1e-6)):
            run = mf.solve(problem, n, save=3, progress=False, estimate=False)
            error = run.density[-1] - exact["density"](run.grid.centres(0), 1.0)
            assert np.abs(error).sum() * run.grid.cell_volume < tolerance
            np.testing.assert_allclose(run.energy[1:], [exact["energy"](t) for t in (0.5, 1.0)], rtol=tolerance)
            assert run.diagnostics["minimum"].min() > 0
            assert run.stats["mass_drift"] < 1e-13

    def test_against_quantiles(self):
        """The peaks, with the Lagrangian equation as written and Fourier series in the level."""
        problem = P.ultra_fast_diffusion()
        times = np.array([0.25, 1.0])
        X = quantiles(target, times, 96)
        expected = [quantile_energy(target, row) for row in X]
        run = mf.solve(problem, 80, save=times, t_end=1.0, progress=False, estimate=False)
        np.testing.assert_allclose(run.energy[1:], expected, rtol=1e-6)
        means = [np.cos(row).mean() for row in X]
        for mu, mean in zip(run.density[1:], means, strict=True):
            assert np.cos(run.grid.centres(0)) @ mu * run.grid.cell_volume == pytest.approx(mean, abs=1e-6)

    @pytest.mark.parametrize(("g", "expected"), [(0.0, 1.0), (10.0, 1.06097), (100.0, 0.99737), (1000.0, 0.39433)])
    def test_gaps_of_the_docstring(self, g, expected):
        assert gap(g)[0] == pytest.approx(expected, abs=5e-6)

    @pytest.mark.parametrize(("g", "cells"), [(0.0, 48), (10.0, 64), (100.0, 192)])
    def test_decay(self, g, cells):
        """Of ``E - 1/2`` near the target, at twice the gap; the size of the perturbation is the relative error."""
        rate, mode = gap(g)
        problem = P.ultra_fast_diffusion(g)
        grid = problem.grid((cells,))
        x = grid.centres(0)
        shape = mode(x) / np.abs(mode(x)).max()
        start = target(x, g) * (1 + 1e-3 * shape)
        start /= start.sum() * grid.cell_volume
        run = mf.solve(problem, cells, 0.2, initial=start, save=2, progress=False, estimate=False)
        excess = run.energy - 0.5
        assert math.log(excess[0] / excess[1]) / 0.2 == pytest.approx(2 * rate, rel=2e-3)

    def test_lives_on_a_mesh_only(self):
        for call in (mf.characteristics, lambda problem: mf.particles.simulate(problem, 10, dt=0.1)):
            with pytest.raises(ValueError, match="UltraFastDiffusion has values on a mesh only"):
                call(P.ultra_fast_diffusion())


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("two-timescale", {"sharpness": -1.0}, "sharpness must be finite and not negative"),
        ("two-timescale", {"sharpness": 2e4}, "sharpness must be at most 1e4"),
        ("two-timescale", {"regularisation": 0.0}, "regularisation must be finite and positive"),
        ("two-timescale", {"regularisation": 1e-9}, "regularisation must be at least 1e-8.*see ultra_fast_diffusion"),
        ("two-timescale", {"concentration": 200.0}, "concentration must be at most 100"),
        ("two-timescale", {"unbiased": 1.5}, "unbiased must be True or False"),
        ("ultra-fast-diffusion", {"sharpness": math.inf}, "sharpness must be finite"),
        ("ultra-fast-diffusion", {"amplitude": 1.0}, "amplitude must be below 1"),
    ],
)
def test_refused(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        P.get(name, **parameters)
