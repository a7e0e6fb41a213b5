"""Distributional dynamics of two Gaussian classes: formulas by quadrature, flows by small ODEs, absorption, noise.

Expected values come from integrals, ODEs and closed forms written out here; the package's formulas are not used.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

import mfpde as mf
from mfpde.problems import PiecewiseLinearUnit
from mfpde.problems.piecewise_linear import _outside

P = mf.problems
UNITS = {
    "standard": ((0.5, 1.5), (-2.5, 7.5)),
    "failing": ((0.0, 0.5, 1.5), (-2.5, -4.0, 7.5)),
    "crooked": ((-1.0, -0.3, 0.8), (1.0, 3.0, -0.5)),
}

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def panels(knots, width, reach):
    """Gauss-Legendre panels of [-reach, reach], cut at the kinks of ``sigma(width x)``."""
    edges = np.unique(np.clip([-reach, -reach / 3, 0.0, reach / 3, reach, *(t / width for t in knots)], -reach, reach))
    x, w = np.polynomial.legendre.leggauss(40)
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def gaussian_mean(unit, r, power=1):
    x, w = panels(unit[0], r, 12.0)
    return float(w @ (np.interp(r * x, *unit) ** power * stats.norm.pdf(x)))


def sphere_mean(unit, s, d):
    u, w = panels(unit[0], s, min(1.0, 12 / math.sqrt(d)))
    density = (1 - u * u) ** (0.5 * (d - 3))
    return float(w @ (np.interp(s * u, *unit) * density) / (w @ density))


def q(r):
    """E sigma(r G) of the standard unit, and its derivative."""
    r = np.asarray(r, dtype=float)
    a, b = 0.5 / r, 1.5 / r
    value = -2.5 + 10 * (
        r * (stats.norm.pdf(a) - stats.norm.pdf(b)) - 0.5 * stats.norm.cdf(-a) + 1.5 * stats.norm.cdf(-b)
    )
    return value, 10 * (stats.norm.pdf(a) - stats.norm.pdf(b))


class TestFormulas:
    @pytest.mark.parametrize("name", UNITS)
    @pytest.mark.parametrize("r", [0.05, 0.5, 1.44, 5.0])
    def test_gaussian_means(self, name, r):
        unit = PiecewiseLinearUnit(*UNITS[name])
        assert unit.gaussian_mean(r) == pytest.approx(gaussian_mean(UNITS[name], r), abs=1e-12)
        assert unit.gaussian_square(r) == pytest.approx(gaussian_mean(UNITS[name], r, 2), abs=1e-11)
        slope = (gaussian_mean(UNITS[name], 1.001 * r) - gaussian_mean(UNITS[name], 0.999 * r)) / (0.002 * r)
        assert unit.gaussian_slope(r) == pytest.approx(slope, abs=1e-4)

    @pytest.mark.parametrize("name", UNITS)
    @pytest.mark.parametrize("d", [5.0, 40.0, 320.0])
    @pytest.mark.parametrize("s", [0.3, 4.0, 30.0])
    def test_sphere_means(self, name, d, s):
        unit = PiecewiseLinearUnit(*UNITS[name])
        assert unit.sphere_mean(s, d) == pytest.approx(sphere_mean(UNITS[name], s, d), abs=1e-11)
        slope = (sphere_mean(UNITS[name], 1.001 * s, d) - sphere_mean(UNITS[name], 0.999 * s, d)) / (0.002 * s)
        assert unit.sphere_slope(s, d) == pytest.approx(slope, abs=1e-4)

    @pytest.mark.parametrize("d", [2.0, 3.0, 4.0, 5.0, 40.0, 41.0, 199.0, 200.0, 37.5, 320.0])
    def test_the_share_of_a_sphere_beyond_a_height(self, d):
        """Sums in whole dimensions, else an incomplete beta function: ``1 - I_{h^2}(1/2, (d-1)/2)``, near 0, too."""
        height = np.concatenate([[0.0], np.logspace(-12, 0, 61)])
        expected = 1.0 - special.betainc(0.5, 0.5 * (d - 1), height**2)
        # 100 positive terms
        np.testing.assert_allclose(_outside(height, d), expected, rtol=0, atol=3e-15)

    def test_values_at_the_ends(self):
        """q(0) = sigma(0), q(inf) is the mean of both limits; no 0/0 there."""
        for knots, values in UNITS.values():
            unit = PiecewiseLinearUnit(knots, values)
            start = np.interp(0.0, knots, values)
            assert unit.gaussian_mean(0.0) == pytest.approx(start, abs=1e-14)
            assert unit.sphere_mean(0.0, 40) == pytest.approx(start, abs=1e-14)
            assert unit.gaussian_mean(1e12) == pytest.approx(0.5 * (values[0] + values[-1]), abs=1e-10)
            assert unit.gaussian_slope(0.0) == pytest.approx(
                -3 * stats.norm.pdf(0) if knots[0] == 0 else 0.0, abs=1e-14
            )

    @pytest.mark.parametrize("d", [10.0, 40.0, 320.0, math.inf])
    def test_energy_of_two_radii(self, d):
        """Twice the energy is 1 + 2 V + U: V closed for every d, U an average over the angle of two Gaussians."""
        delta, unit, radii, shares = 0.8, UNITS["standard"], (0.8, 1.2), (0.3, 0.7)

        def overlap(r1, r2):
            """E sigma(r1 X) sigma(r2 Y), correlations with density (1 - c^2)^{(d-3)/2}, Y given X in closed form."""
            if math.isinf(d):
                return gaussian_mean(unit, r1) * gaussian_mean(unit, r2)
            c, wc = np.polynomial.legendre.leggauss(200)
            c, wc = c * min(1.0, 9 / math.sqrt(d)), wc * (1 - (c * min(1.0, 9 / math.sqrt(d))) ** 2) ** (0.5 * (d - 3))
            x, wx = panels(unit[0], r1, 12.0)
            mean, scale = r2 * np.outer(c, x), (r2 * np.sqrt(1 - c * c))[:, None]
            given = np.full(mean.shape, -2.5)
            for t, m in ((0.5, 10.0), (1.5, -10.0)):
                z = (mean - t) / scale
                given += m * ((mean - t) * special.ndtr(z) + scale * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
            inner = given @ (wx * stats.norm.pdf(x) * np.interp(r1 * x, *unit))
            return float(wc @ inner / wc.sum())

        risk = 1.0
        for sign in (1, -1):
            scale = 1 + sign * delta
            means = [gaussian_mean(unit, scale * r) for r in radii]
            risk -= sign * float(np.dot(shares, means))
            risk += 0.5 * sum(
                p1 * p2 * overlap(scale * r1, scale * r2)
                for r1, p1 in zip(radii, shares, strict=True)
                for r2, p2 in zip(radii, shares, strict=True)
            )
        problem = P.isotropic_gaussians(delta, d, start_d=40)
        energy = problem.bound_energy.energy(np.array(radii)[:, None], np.array(shares))
        assert energy == pytest.approx(0.5 * risk, abs=2e-7 if d == 10 else 1e-9)

    @pytest.mark.parametrize("d", [20.0, 40.0])
    def test_the_network_is_the_average_over_directions(self, d):
        problem = P.isotropic_gaussians(d=d)
        x = np.array([0.0, 0.7, 1.6])
        output = problem.network.output(x, [np.array([0.9])], np.array([1.0]))
        expected = [sphere_mean(UNITS["standard"], 0.9 * z * math.sqrt(d), d) if z else -2.5 for z in x]
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-11)

    def test_finite_dimension_of_the_blocks(self):
        """E over the norms of both blocks of q(tau), by independent quadrature with the chi densities."""
        d, gamma, delta, r1, r2 = 80.0, 0.25, 0.4, 0.5, 0.9
        problem = P.anisotropic_gaussians(delta, d, gamma)
        rules = []
        for n in (gamma * d, (1 - gamma) * d):
            x, w = np.polynomial.legendre.leggauss(80)
            middle, half = math.sqrt(n), 7.0 if n < 50 else 6.0
            low = max(middle - half, 1e-9)
            z = 0.5 * (low + middle + half) + 0.5 * (middle + half - low) * x
            rules.append((z / math.sqrt(n), 0.5 * (middle + half - low) * w * stats.chi(n).pdf(z)))
        (z1, w1), (z2, w2) = rules
        risk = 0.0
        for sign in (1, -1):
            tau = np.sqrt((((1 + sign * delta) * z1 * r1) ** 2)[:, None] + (z2 * r2) ** 2)
            risk += 0.5 * float(w1 @ (sign - q(tau)[0]) ** 2 @ w2)
        assert 2 * problem.exact["dirac_energy"](r1, r2) == pytest.approx(risk, abs=1e-7)  # 8 x 6 Gauss nodes

    def test_anisotropic_is_isotropic_on_the_axis(self):
        one = P.isotropic_gaussians(0.3, math.inf, start_d=40).exact["dirac_energy"]
        two = P.anisotropic_gaussians(0.3).exact["dirac_energy"]
        for r in (0.4, 1.3):
            assert two(r, 0.0) == pytest.approx(one(r), abs=1e-14)

    def test_relu_energy(self):
        """E (<w, x> + b)_+ by quadrature in each class."""
        a, b, r1, r2, delta = 0.9, -0.2, 0.5, 0.7, 0.4
        risk = 0.0
        for sign in (1, -1):
            tau = math.hypot((1 + sign * delta) * r1, r2)
            mean, _ = integrate.quad(lambda g, tau=tau: (tau * g + b) * stats.norm.pdf(g), -b / tau, 12.0)
            risk += 0.5 * (sign - a * mean) ** 2
        problem = P.relu_gaussians(delta)
        assert 2 * problem.exact["dirac_energy"](a, b, r1, r2) == pytest.approx(risk, abs=1e-10)
        # nothing divides by 0 where both radii vanish: the unit is a b_+
        assert 2 * problem.exact["dirac_energy"](a, 0.5, 0.0, 0.0) == pytest.approx(
            0.5 * (0.55**2 + 1.45**2), abs=1e-14
        )
        assert problem.exact["dirac_energy"](0.0, 1.0, 1.0, 1.0) == 0.5

    @pytest.mark.parametrize(
        "problem",
        [
            P.isotropic_gaussians(0.8, 40),
            P.isotropic_gaussians(0.8, math.inf, start_d=40),
            P.predicting_failure(),
            P.anisotropic_gaussians(0.4, 80, 0.25),
            P.relu_gaussians(),
            P.relu_gaussians(d=320),
        ],
        ids=["isotropic", "limit", "failing", "anisotropic", "relu", "relu in 320"],
    )
    def test_gradients(self, problem):
        bound, rng, h = problem.bound_energy, np.random.default_rng(1), 1e-4
        points = np.stack([rng.uniform(axis.lower + 0.1, axis.upper - 0.1, 30) for axis in problem.axes], axis=1)
        response = bound.response(points, rng.dirichlet(np.ones(30)))
        gradient = bound.gradient(points, response)
        for i, step in enumerate(h * np.eye(len(problem.axes))):
            slope = bound.potential(points + step, response) - bound.potential(points - step, response)
            np.testing.assert_allclose(gradient[:, i], slope / (2 * h), rtol=0, atol=1e-5)


class TestStatics:
    def test_known_risks(self):
        """All mass at 0 or at infinity, and half of it at each."""
        problem = P.isotropic_gaussians(0.6, 40)
        assert 2 * problem.exact["energy_at_zero"] == pytest.approx(7.25, abs=1e-13)
        far, bound = np.array([[0.0], [1e12]]), problem.bound_energy
        assert 2 * bound.energy(far[1:], np.ones(1)) == pytest.approx(7.25, abs=1e-9)
        assert 2 * bound.energy(far, np.array([0.5, 0.5])) == pytest.approx(1.0, abs=1e-9)

    def test_threshold_at_infinite_dimension(self):
        """(r+ - r-)/(r+ + r-), where q(r+-) = +-1; there one radius has no risk at all, and above it is not optimal."""
        low, high = (optimize.brentq(lambda r, y=y: float(q(r)[0]) - y, 0.1, 9.0, xtol=1e-14) for y in (-1.0, 1.0))
        expected = (high - low) / (high + low)
        assert expected == pytest.approx(0.474219, abs=1e-6)
        problem = P.isotropic_gaussians(0.3, math.inf, start_d=40)
        assert problem.exact["threshold"] == pytest.approx(expected, abs=1e-12)
        at = P.isotropic_gaussians(expected, math.inf, start_d=40).exact["dirac_optimum"]
        assert at == (pytest.approx(0.5 * (low + high), abs=1e-6), pytest.approx(0.0, abs=1e-14))
        for delta, single in ((expected - 1e-3, True), (expected + 5e-3, False)):
            assert ("minimum_energy" in P.isotropic_gaussians(delta, math.inf, start_d=40).exact) is single

    def test_threshold_at_finite_dimension(self):
        """One radius is optimal while V is no smaller at infinity: by quadrature on both sides of 0.43101."""
        d, unit = 40.0, UNITS["standard"]
        x, w = np.polynomial.legendre.leggauss(24)
        low, high = stats.chi(d).ppf([1e-12, 1 - 1e-12])
        z = 0.5 * (low + high) + 0.5 * (high - low) * x
        w = w * stats.chi(d).pdf(z)
        w /= w.sum()
        for delta in (0.4308, 0.4312):
            scales = np.concatenate([(1 + delta) * z, (1 - delta) * z])
            weights, targets = np.concatenate([w, w]) / 2, np.repeat([1.0, -1.0], len(z))

            def means(r, scales=scales):
                return np.array([sphere_mean(unit, s * r, d) for s in scales])

            def risk(r, means=means, weights=weights, targets=targets):
                return float(weights @ (targets - means(r)) ** 2)

            best = optimize.minimize_scalar(risk, bounds=(1.5, 1.9), method="bounded", options={"xatol": 1e-6})
            slope = weights * (means(best.x) - targets)
            slack = float(slope.sum() * 2.5 - slope @ means(best.x))
            exact = P.isotropic_gaussians(delta, d).exact
            assert exact["dirac_optimum"][1] == pytest.approx(0.5 * best.fun, abs=1e-9)
            assert ("minimum_energy" in exact) is (slack >= 0.0) is (delta < 0.431)

    def test_minimum_over_all_measures(self):
        """Below the threshold the search over the mesh finds one radius; above it, something better."""
        for delta, single in ((0.4, True), (0.5, False)):
            problem = P.isotropic_gaussians(delta, 40, radius=30.0)
            place, lowest = problem.exact["dirac_optimum"]
            state = mf.stationary(problem, 6000)
            if single:
                assert state.energy == pytest.approx(lowest, abs=2e-5)  # two cells share the mass: O(h^2)
                assert state.energy >= lowest - 1e-13
                assert state.grid.integrate(state.mu * state.grid.centres(0)) == pytest.approx(place, abs=1e-3)
            else:
                assert state.energy < 0.8 * lowest


class TestFlows:
    @pytest.mark.parametrize("delta", [0.2, 0.8])
    def test_one_radius(self, delta):
        """d = inf, all mass at one radius: an ODE."""

        def speed(t, r):
            total = 0.0
            for sign in (1, -1):
                value, slope = q((1 + sign * delta) * r[0])
                total += (sign - value) * (1 + sign * delta) * slope
            return [total]

        exact = integrate.solve_ivp(speed, (0, 5), [0.8], rtol=1e-11, atol=1e-12, t_eval=[0.1, 5.0], method="DOP853")
        problem = P.isotropic_gaussians(delta, math.inf)
        found = mf.characteristics(problem, t_end=5.0, save=[0.1, 5.0], progress=False)
        np.testing.assert_allclose(found.points[1:, 0, 0], exact.y[0], rtol=0, atol=1e-8)

    def test_two_radii(self):
        """d = inf, anisotropic, all mass at one point."""
        delta, gamma = 0.4, 60 / 320

        def speed(t, r):
            change = np.zeros(2)
            for sign in (1, -1):
                scale = np.array([(1 + sign * delta) ** 2, 1.0])
                tau = math.sqrt(scale @ (r * r))
                value, slope = q(tau)
                change += (sign - value) * slope * scale * r / tau
            return change

        start = 0.8 * np.sqrt([gamma, 1 - gamma])
        exact = integrate.solve_ivp(speed, (0, 5), start, rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]
        problem = P.anisotropic_gaussians(delta, start_d=math.inf)
        found = mf.characteristics(problem, t_end=5.0, save=2, progress=False)
        np.testing.assert_allclose(found.points[-1, 0], exact, rtol=0, atol=1e-8)

    def test_relu(self):
        """d = inf, one point in four dimensions; the schedule is a clock; a^2 - b^2 - r1^2 - r2^2 stays."""
        delta, gamma = 0.4, 60 / 320

        def speed(s, y):
            a, b, *r = y
            r = np.array(r)
            change = np.zeros(4)
            for sign in (1, -1):
                scale = np.array([(1 + sign * delta) ** 2, 1.0])
                tau = math.sqrt(scale @ (r * r))
                above, density = stats.norm.cdf(b / tau), stats.norm.pdf(b / tau)
                h = b * above + tau * density
                change += (sign - a * h) * np.array([h, a * above, *(a * density * scale * r / tau)])
            return change

        t_end = 6.0
        clock = 4 / 3 * t_end**0.75
        start = [1.0, 1.0, *(0.8 * np.sqrt([gamma, 1 - gamma]))]
        exact = integrate.solve_ivp(speed, (0, clock), start, rtol=1e-11, atol=1e-12, method="DOP853").y[:, -1]
        for exponent, until in ((-0.25, t_end), (0.0, clock)):
            problem = P.relu_gaussians(delta, start_d=math.inf, spread=0.0, exponent=exponent, radius=9.0)
            found = mf.characteristics(problem, t_end=until, save=2, progress=False)
            np.testing.assert_allclose(found.points[-1, 0], exact, rtol=0, atol=1e-8)
        cloud = P.relu_gaussians(delta, spread=0.0, start_d=40, exponent=0.0, radius=60.0)
        found = mf.characteristics(cloud, t_end=6.0, save=3, tolerance=1e-4, progress=False)
        kept = cloud.exact["invariant"](*np.moveaxis(found.points, -1, 0))
        assert np.abs(kept - kept[0]).max() < 1e-5
        assert np.ptp(kept[0]) > 0.5

    def test_mesh_against_characteristics(self):
        problem = P.isotropic_gaussians(0.4, 40)
        exact = mf.characteristics(problem, t_end=5.0, save=[0.1, 1.0, 5.0], tolerance=1e-6, progress=False)
        found = mf.solve(problem, (400,), 5.0, save=[0.1, 1.0, 5.0], progress=False)
        np.testing.assert_allclose(found.energy, exact.energy, rtol=3e-5)
        assert exact.converged
        assert np.diff(found.diagnostics["energy"]).max() <= 0.0
        assert found.energy[-1] >= problem.exact["minimum_energy"]
        d = found.diagnostics
        drop = np.trapezoid(d["dissipation_transport"], d["time"])
        assert drop == pytest.approx(d["energy"][0] - d["energy"][-1], rel=1e-3)

    def test_two_dimensions_against_characteristics(self):
        problem = P.anisotropic_gaussians(start_d=40)
        exact = mf.characteristics(problem, t_end=1.0, save=[0.1, 1.0], tolerance=1e-5, progress=False)
        found = mf.solve(problem, (128, 128), 1.0, save=[0.1, 1.0], progress=False)
        np.testing.assert_allclose(found.energy, exact.energy, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:the start is .* cells wide along .r.")  # nearly an atom in high dimension
class TestFailure:
    def speeds(self, r, delta=0.5):
        """Velocity of all mass at one radius, d = inf, for the unit that is not monotone."""
        total = 0.0
        for sign in (1, -1):
            scale = (1 + sign * delta) * r
            value, slope = -2.5, 0.0
            for t, m in ((0.0, -3.0), (0.5, 14.5), (1.5, -11.5)):
                value += m * (scale * stats.norm.pdf(t / scale) - t * stats.norm.cdf(-t / scale))
                slope += m * stats.norm.pdf(t / scale)
            total += (sign - value) * (1 + sign * delta) * slope
        return float(total)

    def test_a_single_radius_is_absorbed_in_finite_time(self):
        """The clock from kappa to 0 is the integral of 1/speed; the node stops at 0 and stays."""
        unstable = optimize.brentq(self.speeds, 0.15, 0.3, xtol=1e-13)
        assert unstable == pytest.approx(0.196283, abs=1e-6)
        kappa = 0.1
        arrival = integrate.quad(lambda r: -1 / self.speeds(r), 0.0, kappa, points=[1e-4], epsabs=1e-12)[0]
        problem = P.predicting_failure(kappa, d=math.inf)
        assert self.speeds(1e-12) == pytest.approx(problem.exact["absorption_speed"], abs=1e-9)
        before = arrival * (1 - 1e-3)
        found = mf.characteristics(problem, t_end=0.1, save=[before, 1.01 * arrival], tolerance=1e-7, progress=False)
        assert found.points[1, 0, 0] == pytest.approx(-self.speeds(1e-5) * (arrival - before), rel=1e-2)
        assert found.points[2, 0, 0] == found.points[3, 0, 0] == 0.0
        assert found.energy[-1] == pytest.approx(3.625, abs=1e-13)
        for kappa, fails in ((unstable - 1e-3, True), (unstable + 1e-3, False)):
            end = mf.characteristics(
                P.predicting_failure(kappa, d=math.inf), t_end=2.0, save=2, tolerance=1e-6, progress=False
            )
            assert bool(end.points[-1, 0, 0] == 0.0) is fails

    @pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl()], ids=["weno5", "muscl"])
    def test_mass_piles_up_in_the_first_cell(self, scheme):
        """No flux through 0, no way back; the state is that of a neuron at h/2, off by the first order in h."""
        problem = P.predicting_failure(0.1)
        excess = []
        for n in (150, 300):
            end = mf.solve(problem, (n,), 0.1, scheme=scheme, save=2, progress=False)
            h = end.grid.spacing[0]
            assert end.density[-1][0] * h == pytest.approx(1.0, abs=1e-12)
            assert end.energy[-1] == pytest.approx(problem.exact["dirac_energy"](0.5 * h), abs=1e-12)
            assert all(text.startswith("the start is ") for text in end.warnings)
            excess.append(end.energy[-1] - 3.625)
        # one half of d V/dr = absorption speed over the schedule, per h: the derivative of the energy at 0
        assert excess[1] / (0.5 * h) == pytest.approx(-problem.exact["absorption_speed"] / 2, rel=0.03)
        assert excess[0] / excess[1] == pytest.approx(2.0, rel=0.05)

    def test_absorption_against_characteristics(self):
        """Half way through, the errors of the mesh halve with its cells."""
        problem = P.predicting_failure(0.1)
        exact = mf.characteristics(problem, t_end=0.014, save=2, tolerance=1e-4, progress=False).energy[-1]
        errors = [
            abs(mf.solve(problem, (n,), 0.014, save=2, progress=False).energy[-1] - exact) for n in (200, 400, 800)
        ]
        assert errors[2] < 0.01 * exact
        assert errors[0] / errors[2] > 2.5

    def test_the_size_of_the_start_decides(self):
        ends = [mf.solve(P.predicting_failure(kappa), save=2, progress=False).energy[-1] for kappa in (0.1, 0.4)]
        problem = P.predicting_failure()
        assert ends[0] > 3.6
        place, lowest = problem.exact["dirac_optimum"]
        assert lowest < ends[1] < 1.1 * lowest
        assert 2 * lowest == pytest.approx(0.0143060, abs=1e-6)
        assert place == pytest.approx(2.088185, abs=1e-5)


class TestNoise:
    def test_without_data_it_is_an_ornstein_uhlenbeck_process(self):
        """A unit that is 0: r = sqrt(S) chi_d with S' = -4 (lambda S - tau), and the free energy of a Gaussian."""
        tau, penalty, d, kappa = 0.02, 0.5, 12.0, 0.6
        problem = P.isotropic_gaussians(
            0.4, d, kappa, values=(0.0, 0.0), temperature=tau, penalty=penalty, radius=3.0, t_end=0.6
        )
        found = mf.solve(problem, (300,), 0.6, save=3, controller=mf.FixedStep(2e-3), progress=False)
        assert isinstance(mf.Solver(problem, (300,)).scheme, mf.ScharfetterGummel)
        faces = found.grid.faces(0)
        for t, mu, energy in zip(found.times, found.density, found.energy, strict=True):
            S = tau / penalty + math.exp(-4 * penalty * t) * (kappa**2 / d - tau / penalty)
            law = stats.chi(d, scale=math.sqrt(S))
            assert np.abs(mu * found.grid.spacing[0] - np.diff(law.cdf(faces))).sum() < 2e-3
            free = 0.5 + 0.5 * penalty * d * S - 0.5 * tau * d * math.log(2 * math.pi * math.e * S)
            assert energy == pytest.approx(free, abs=1e-4)
        lowest = 0.5 - 0.5 * tau * d * math.log(2 * math.pi * tau / penalty)
        assert mf.stationary(problem, 300).energy == pytest.approx(lowest, abs=1e-4)

    def test_fixed_point(self):
        """The end of the flow is r^{d-1} exp(-beta (Psi + lambda r^2/2)) of itself; the free energy falls to it."""
        tau, penalty, d = 0.02, 0.1, 40
        problem = P.isotropic_gaussians(0.4, d, temperature=tau, penalty=penalty)
        found = mf.solve(
            problem, (300,), 40.0, save=2, scheme=mf.ScharfetterGummel(), controller=mf.FixedStep(0.1), progress=False
        )
        assert np.diff(found.diagnostics["energy"]).max() <= 1e-12
        r, mu = found.grid.centres(0), found.density[-1]
        bare = P.isotropic_gaussians(0.4, d).bound_energy
        psi = bare.potential(r[:, None], bare.response(r[:, None], mu * found.grid.cell_volume))
        log_mu = (d - 1) * np.log(r) - (psi + 0.5 * penalty * r * r) / tau
        expected = np.exp(log_mu - special.logsumexp(log_mu)) / found.grid.cell_volume
        assert np.abs(mu - expected).sum() * found.grid.cell_volume < 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseLinearUnit((0.5,), (1.0,)), "as many values as knots, two at least, not 1 and 1"),
        (lambda: PiecewiseLinearUnit((0.5, 0.5), (1.0, 2.0)), "knots must increase"),
        (lambda: PiecewiseLinearUnit((0.5, math.inf), (1.0, 2.0)), "must be finite"),
        (lambda: P.isotropic_gaussians(1.0), "delta must be at least 0 and below 1, not 1.0"),
        (lambda: P.isotropic_gaussians(kappa=0.0), "kappa must be finite and positive"),
        (lambda: P.isotropic_gaussians(d=1.5), "d must be at least 2 .inf is allowed."),
        (lambda: P.isotropic_gaussians(start_d=1.0), "start_d must be at least 2"),
        (lambda: P.isotropic_gaussians(penalty=-1.0), "penalty must be finite and not negative"),
        (lambda: P.isotropic_gaussians(d=math.inf, temperature=0.1), "temperature at d = inf"),
        (lambda: P.anisotropic_gaussians(gamma=1.0), "gamma must lie between 0 and 1"),
        (lambda: P.relu_gaussians(spread=0.5), "spread must be from 0 to 0.3"),
        (lambda: P.predicting_failure(kappa=-0.1), "kappa must be finite and positive"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_time_change():
    """A schedule only relabels time: with twice the rate, half of the time."""
    problem = P.isotropic_gaussians(0.4, 40)
    fast = replace(problem, schedule=4.0)
    one = mf.solve(problem, (200,), 0.4, save=2, progress=False)
    two = mf.solve(fast, (200,), 0.2, save=2, progress=False)
    np.testing.assert_allclose(one.density[-1], two.density[-1], rtol=1e-9, atol=1e-12)
