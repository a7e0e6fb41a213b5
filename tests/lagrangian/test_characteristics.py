"""Characteristics against closed forms, against the mesh, and against plain sums over nodes."""

import dataclasses
import itertools
import math
import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import integrate, special, stats
from shared import TAILS

import mfpde as mf
from mfpde.equation.energy import external, features, kernels
from mfpde.lagrangian import nodes
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.node_flow import NodeFlow
from mfpde.lagrangian.nodes import _difference_weights


@pytest.fixture(scope="module")
def bumps():
    return mf.characteristics(mf.problems.gaussian_bumps(), save=[0.5, 1.0, 1.5])


@pytest.fixture(scope="module")
def circle():
    return mf.characteristics(mf.problems.single_index(k=2, d=2), t_end=2.0, save=9)


def free(axes, initial, function, gradient=None, **options):
    """Neurons that do not interact."""
    return mf.Problem(energy=mf.External(function, gradient), axes=axes, initial=initial, **options)


def uniform(low, high):
    return stats.uniform(low, high - low)


class TestTimes:
    def test_that_differ_by_rounding_are_one(self):
        """``0.1`` added up ten times is 1 but for a unit of the last place, ``0.1 + 0.2`` is 0.3."""
        found = mf.characteristics(mf.problems.linear_neuron(), 1.0, save=[*np.cumsum([0.1] * 10), 0.3])
        assert found.times.tolist() == [0.0, 0.1, 0.2, 0.3, *np.cumsum([0.1] * 9)[3:], 1.0]

    def test_a_rounding_error_off_a_save_time_is_that_save_time(self):
        found = mf.characteristics(mf.problems.linear_neuron(), 0.3, save=[0.1, 0.3])
        for t, i in ((0.1 + 0.2, -1), (np.nextafter(0.1, 1), 1), (-1e-18, 0)):
            points, weights = found.nodes_at(t)
            np.testing.assert_array_equal(points, found.points[i])
            np.testing.assert_array_equal(weights, found.weights[i])
        np.testing.assert_allclose(found.response_at(0.1 + 0.2), found.response[-1], rtol=1e-9)

    def test_knots_of_a_rate_a_rounding_error_apart_are_one_break(self):
        """Three pieces: up to the jump, and up to the end of the rate, which is the end of the run but for rounding."""
        alpha = mf.PiecewiseLinear([0, 0.3, 0.1 + 0.2, sum([0.1] * 10)], [1.0, 1.0, 0.0, 0.0])
        ramp = mf.characteristics(replace(mf.problems.linear_neuron(), alpha=alpha), 1.0, save=2)
        assert ramp._dynamics.breaks(1.0) == [0.3]
        alpha = mf.PiecewiseLinear([0, 0.3, 0.3, 1], [1.0, 1.0, 0.0, 0.0])
        jump = mf.characteristics(replace(mf.problems.linear_neuron(), alpha=alpha), 1.0, save=2)
        np.testing.assert_allclose(ramp.energy, jump.energy, rtol=1e-9)


class TestClosedForms:
    @pytest.mark.parametrize("name", ["linear-neuron", "quadratic-well"])
    def test_gaussians(self, name):
        problem = mf.problems.get(name)
        exact = mf.characteristics(problem)
        axis = problem.axes[0].name
        assert exact.converged
        for i, t in enumerate(exact.times):
            assert exact.energy[i] == pytest.approx(problem.exact["energy"](t), rel=1e-9)
            mean, variance = exact.mean(axis, t), exact.moment(axis, 2, t) - exact.mean(axis, t) ** 2
            assert mean == pytest.approx(problem.exact["mean"](t), abs=1e-9)
            assert variance == pytest.approx(problem.exact["variance"](t), rel=1e-9)

    def test_single_index_on_the_circle(self, circle):
        exact = circle.problem.exact["energy"]
        np.testing.assert_allclose(circle.energy, [exact(t) for t in circle.times], rtol=1e-10)

    def test_single_index_on_the_sphere(self):
        """k = 2 closes: cot(theta) grows by e^{2s} with s' = (1 - p(s)) d/(d-1), E = (1-p)^2 d / (2(d-1))."""
        d = 3

        def p(s):
            G = math.expm1(4 * s)
            if G < 1e-3:  # the closed form cancels
                return integrate.quad(lambda u: math.exp(4 * s) * u**2 / (1 + G * u**2), 0, 1, epsrel=1e-13)[0]
            return math.exp(4 * s) / G * (1 - math.atan(math.sqrt(G)) / math.sqrt(G))

        times = np.linspace(0, 2, 5)
        run = integrate.solve_ivp(
            lambda t, s: [(1 - p(s[0])) * d / (d - 1)], (0, 2), [0.0], "DOP853", times, rtol=1e-12, atol=1e-14
        )
        expected = [(1 - p(s)) ** 2 * d / (2 * (d - 1)) for s in run.y[0]]
        exact = mf.characteristics(mf.problems.single_index(k=2, d=d), t_end=2.0, save=5)
        np.testing.assert_allclose(exact.energy, expected, rtol=1e-9)
        assert 2 * exact.energy[2] == pytest.approx(0.136457, abs=5e-7)

    def test_death_alone(self):
        """Metric 0 leaves mu_0 exp(-int alpha V): a tilted Gaussian, with a rate that has kinks and a jump."""
        alpha = mf.PiecewiseLinear([0, 0.3, 0.3, 0.7], [1, 2, 0.5, 1.5])
        schedule = mf.PowerLaw(-0.5)
        problem = free(
            [mf.Axis("x", -12, 12)],
            mf.Product(x=stats.norm(0, 1)),
            lambda x: x,
            lambda x: (np.ones_like(x),),
            alpha=alpha,
            schedule=schedule,
            metric=[0.0],
        )
        exact = mf.characteristics(problem, t_end=1.0, save=[0.2, 0.5])
        for t in exact.times:
            cuts = [0.3, 0.7] if t == 1.0 else [0.3] if t == 0.5 else []
            tilt = integrate.quad(lambda r: 2 * alpha(r * r), 0, math.sqrt(t), points=np.sqrt(cuts) if cuts else None)
            assert exact.mean("x", t) == pytest.approx(-tilt[0], abs=1e-9)
        # no step is thrown away at the kinks and the jump
        assert exact.refinements[-1].evaluations <= 250
        np.testing.assert_allclose(exact.points[-1], exact.points[0], rtol=0, atol=0)
        x = np.array([-2.0, 0.0, 1.5])
        tilt = integrate.quad(lambda r: 2 * alpha(r * r), 0, 0.5**0.5, points=[0.3**0.5])[0]
        np.testing.assert_allclose(exact.density_at(x, 0.5), stats.norm(-tilt, 1).pdf(x), rtol=1e-8)

    def test_unbalanced_mass(self):
        """Metric 0: the mass is int e^{-alpha t f(V)} dmu_0, Gaussian here."""
        problem = free(
            [mf.Axis("x", -12, 12)],
            mf.Product(x=stats.norm(0, 1)),
            lambda x: x,
            alpha=0.7,
            reaction="unbalanced",
            rate=lambda V: 2 * V,
            metric=[0.0],
        )
        exact = mf.characteristics(problem, t_end=1.0, save=3)
        mass = exact.weights.sum(axis=1)
        np.testing.assert_allclose(mass, np.exp(0.5 * (1.4 * exact.times) ** 2), rtol=1e-9)
        assert exact.mean("x") == pytest.approx(-1.4, abs=1e-9)
        transport, reaction = exact.dissipation(1.0)
        assert transport == 0.0
        # int V f(V) dmu = 2 (1 + m^2) mass
        assert reaction == pytest.approx(0.7 * 2 * (1 + 1.4**2) * mass[-1], rel=1e-9)
        x = np.array([-2.0, 0.5])
        np.testing.assert_allclose(exact.density_at(x), mass[-1] * stats.norm(-1.4, 1).pdf(x), rtol=1e-8)

    def test_general_rate(self):
        """d log w = -alpha (f(V) - mean f): with f = exp(V)."""
        problem = free(
            [mf.Axis("x", 0, 1)],
            mf.Product(x=uniform(0, 1)),
            lambda x: x,
            alpha=2.0,
            rate=lambda V: np.exp(np.minimum(V, 50)),
            metric=[0.0],
        )
        exact = mf.characteristics(problem, t_end=1.5, save=2)
        tilt = [integrate.quad(lambda x, k=k: x**k * math.exp(-3 * math.exp(x)), 0, 1)[0] for k in (0, 1)]
        assert exact.mean("x") == pytest.approx(tilt[1] / tilt[0], rel=1e-10)

    def test_variable_metric(self):
        """x' = -(1 + x^2) x: x^2 / (1 + x^2) decays like e^{-2t}; the density by change of variables."""
        problem = free(
            [mf.Axis("x", -3, 3)],
            mf.Product(x=stats.norm(0, 0.4)),
            lambda x: 0.5 * x**2,
            lambda x: (x,),
            metric=[lambda x: 1 + x**2],
        )
        exact = mf.characteristics(problem, t_end=1.0, save=2, nodes=32)  # none of an even number is at 0
        q = exact.points[0, :, 0] ** 2
        share = q / (1 + q) * math.exp(-2)
        np.testing.assert_allclose(exact.points[1, :, 0] ** 2, share / (1 - share), rtol=1e-9)
        x = np.linspace(-0.35, 0.35, 9)
        share = x**2 / (1 + x**2) * math.exp(2)
        foot = np.sign(x) * np.sqrt(share / (1 - share))
        # along the flow dx/dx_0 is the ratio of the velocities
        slope = np.where(x == 0, math.exp(1), (1 + foot**2) * foot / ((1 + x**2) * np.where(x == 0, 1, x)))
        np.testing.assert_allclose(
            exact.density_at(x), stats.norm(0, 0.4).pdf(foot) / (2 * stats.norm(0, 0.4).cdf(3) - 1) * slope, rtol=1e-9
        )
        transport, reaction = exact.dissipation(0.0)
        assert transport == pytest.approx(0.4**2 + 3 * 0.4**4, rel=1e-9)
        assert reaction == 0.0

    def test_schedule_is_a_clock(self, circle):
        """A schedule that is infinite at 0: the run at t is the plain one at int s."""
        problem = mf.problems.single_index(k=2, d=2)
        slow = mf.Problem(
            energy=problem.energy, axes=problem.axes, initial=problem.initial, schedule=mf.PowerLaw(-0.5, 0.5)
        )
        exact = mf.characteristics(slow, t_end=4.0, save=[0.25, 1.0])
        expected = [problem.exact["energy"](math.sqrt(t)) for t in exact.times]
        np.testing.assert_allclose(exact.energy, expected, rtol=1e-9)
        np.testing.assert_allclose(exact.response_at(2.25), circle.response_at(1.5), atol=1e-10)
        assert exact.dissipation(4.0)[0] == pytest.approx(0.25 * circle.dissipation(2.0)[0], rel=1e-9)


class TestSeam:
    """A start that lies across the seam of a circle."""

    @pytest.mark.parametrize("start", [stats.norm(0, 0.3), stats.norm(0, 2.0)])
    def test_a_wound_normal_law_turns(self, start):
        """V = -cos: tan(x/2) shrinks like exp(-t), and the density is that of the law there times the derivative."""
        axis = mf.Axis("x", 0, 2 * math.pi, mf.End.PERIODIC)
        problem = free([axis], mf.Product(x=start), lambda x: -np.cos(x), lambda x: (np.sin(x),))
        exact = mf.characteristics(problem, 0.5, save=2, tolerance=1e-8, progress=False)
        assert exact.converged
        # the foot of x, and its derivative
        x = np.array([0.2, 1.0, 5.9])
        foot = 2 * np.arctan2(np.sin(x / 2) * math.exp(0.5), np.cos(x / 2))
        slope = math.exp(0.5) / (np.cos(x / 2) ** 2 + np.sin(x / 2) ** 2 * math.exp(1.0))
        law = sum(start.pdf(foot + 2 * math.pi * k) for k in range(-9, 10))
        np.testing.assert_allclose(exact.density_at(x), law * slope, rtol=1e-8)
        # E(0) = -E cos x = -exp(-s^2 / 2)
        assert exact.energy[0] == pytest.approx(-math.exp(-(start.std() ** 2) / 2), rel=1e-12)

    def test_the_mesh_starts_from_the_same(self):
        axis = mf.Axis("x", 0, 2 * math.pi, mf.End.PERIODIC)
        problem = free([axis], mf.Product(x=stats.norm(6, 0.3)), lambda x: -np.cos(x), lambda x: (np.sin(x),))
        solution = mf.solve(problem, 200, 0.1, save=2, progress=False)
        # values at the centres: the trapezoid rule of -E cos x
        assert solution.energy[0] == pytest.approx(-math.exp(-0.045) * math.cos(6), rel=1e-12)
        exact = mf.characteristics(problem, 0.1, save=2, progress=False)
        assert solution.energy[-1] == pytest.approx(exact.energy[-1], rel=1e-5)


class TestWalls:
    def test_nodes_of_no_weight_do_not_set_the_step(self):
        """Outer amplitudes run into the walls of the box at all times; the weights there are 1e-11."""
        exact = mf.characteristics(
            mf.problems.three_gaussians(), t_end=4.0, save=2, nodes=12, tolerance=1e-2, rtol=1e-10
        )
        assert np.any(exact.points[1, :, 0] == 7.0)
        assert exact.refinements[1].steps <= 25
        assert exact.refinements[1].change < 1e-9

    def test_nodes_stop_and_stay(self):
        """x' = 1 on [0, 1]: nodes pile up at the upper wall; the lower one lets nothing in."""
        problem = free(
            [mf.Axis("x", 0, 1)], mf.Product(x=uniform(0, 1)), lambda x: -x, lambda x: (np.full_like(x, -1.0),)
        )
        exact = mf.characteristics(problem, t_end=0.6, save=4, tolerance=1e-4)
        for t, x in zip(exact.times, exact.points[:, :, 0], strict=True):
            np.testing.assert_allclose(x, np.minimum(exact.points[0, :, 0] + t, 1.0), atol=1e-13)
        assert exact.energy[-1] == pytest.approx(-(0.8 * 0.4 + 0.6), abs=1e-4)
        np.testing.assert_allclose(exact.density_at([0.2, 0.59, 0.61, 0.99]), [0, 0, 1, 1], atol=1e-9)

    def test_nodes_on_a_wall_slide_and_react(self):
        """V = -x + y^2/2 on a square: on the wall x = 1 the motion along y and the weights go on, with x = 1."""
        axes = [mf.Axis("x", 0, 1), mf.Axis("y", -1, 1, mf.End.NATURAL)]
        problem = free(
            axes,
            mf.Product(x=0.7, y=uniform(-1, 1)),
            lambda x, y: -x + 0.5 * y**2,
            lambda x, y: (np.full_like(x, -1.0), y),
            alpha=1.0,
            reaction="unbalanced",
        )
        exact = mf.characteristics(problem, t_end=1.0, save=[0.1, 0.5])
        y_0 = exact.points[0, :, 1]
        for t, z, w in zip(exact.times, exact.points, exact.weights, strict=True):
            np.testing.assert_allclose(z[:, 0], min(0.7 + t, 1.0), atol=1e-10)
            np.testing.assert_allclose(z[:, 1], y_0 * math.exp(-t), atol=1e-10)
            path = t - 0.3**2 / 2 if t > 0.3 else 0.7 * t + t**2 / 2
            growth = path + 0.25 * y_0**2 * math.expm1(-2 * t)
            np.testing.assert_allclose(np.log(w / exact.weights[0]), growth, atol=2e-6)

    def test_leave_when_the_velocity_turns(self):
        """V = m x with m the mean of a second axis that decays through zero: away from the wall at once."""
        energy = mf.External(lambda x, y: -0.5 * y, lambda x, y: (0 * x, np.full_like(y, -0.5)))
        kernel = mf.PairKernel(lambda p, q: -(p[:, :1] * q[None, :, 1] + p[:, 1:] * q[None, :, 0]))
        axes = [mf.Axis("x", 0, 1), mf.Axis("y", -1, 3)]
        problem = mf.Problem(energy=energy + mf.Interaction(kernel), axes=axes, initial=mf.Dirac(x=0.0, y=-0.5))
        # x' = y, y' = 1/2 + x: at the wall x = 0 until y = 0 at t = 1, then x'' = 1/2 + x
        exact = mf.characteristics(problem, t_end=1.8, save=[0.5, 1.0], tolerance=1e-4)
        assert exact.points[1, 0].tolist() == pytest.approx([0.0, -0.25], abs=1e-9)
        assert exact.points[2, 0] == pytest.approx([0.0, 0.0], abs=1e-4)
        assert exact.points[3, 0, 0] == pytest.approx(0.5 * (math.cosh(0.8) - 1), abs=1e-3)

    def test_periodic_axis(self):
        """V = cos on a circle cut off its fixed points: tan(x/2) grows like e^t and nodes cross the cut."""
        problem = free(
            [mf.Axis("x", 0.5, 0.5 + 2 * math.pi, mf.End.PERIODIC)],
            mf.Product(x=uniform(0.5, 0.5 + 2 * math.pi)),
            np.cos,
            lambda x: (-np.sin(x),),
        )
        exact = mf.characteristics(problem, t_end=1.0, save=2)
        x_0, x = exact.points[:, :, 0]
        assert x.min() >= 0.5
        assert x.max() < 0.5 + 2 * math.pi
        distance = np.angle(np.exp(1j * (x - 2 * np.arctan(math.e * np.tan(x_0 / 2)))))
        np.testing.assert_allclose(distance, 0, atol=1e-9)
        assert np.any((x_0 > 2 * math.pi) & (x < 1.5 * math.pi + 0.5))
        # mean of the cosine over the stretched circle: -tanh(1/2)
        assert exact.energy[1] == pytest.approx(-math.tanh(0.5), rel=1e-9)
        at = np.array([0.6, 2.0, math.pi, 6.0, 6.7])
        density = 1 / (2 * math.pi) / (math.cosh(1) + math.sinh(1) * np.cos(at))
        np.testing.assert_allclose(exact.density_at(at), density, rtol=1e-9)
        np.testing.assert_allclose(exact.density_at(at + 2 * math.pi), density, rtol=1e-9)


class TestDensity:
    def test_of_the_network_on_the_circle(self, circle):
        """Lambert W; at save times and between them, up to both walls."""
        theta = np.linspace(0, math.pi, 41)
        for t in (0.0, 0.37, 1.0, 2.0):
            # the closed form is stated on the half circle
            expected = circle.problem.exact["density"](theta, t)
            np.testing.assert_allclose(circle.density_at(theta, t), expected, rtol=1e-10)

    def test_with_birth_death(self):
        problem = mf.problems.quadratic_well()
        exact = mf.characteristics(problem, save=2)
        for t in (0.4, 1.0):
            law = stats.norm(problem.exact["mean"](t), math.sqrt(problem.exact["variance"](t)))
            x = law.mean() + np.linspace(-4, 4, 9) * law.std()
            np.testing.assert_allclose(exact.density_at(x[:, None], t), law.pdf(x), rtol=1e-8)

    def test_integrates_to_one(self, bumps):
        x, w = np.polynomial.legendre.leggauss(120)
        density = bumps.density_at(5 * x)
        assert 5 * w @ density == pytest.approx(1.0, abs=1e-8)
        assert 25 * (w * x) @ density == pytest.approx(bumps.mean("x"), abs=1e-8)
        assert 125 * (w * x**2) @ density == pytest.approx(bumps.moment("x", 2), abs=1e-8)

    def test_in_two_dimensions(self):
        problem = mf.problems.gaussian_bumps([[-1.0, 0.5], [1.0, -0.5]], half_width=4.8)
        exact = mf.characteristics(problem, t_end=0.4, save=2, tolerance=1e-6)
        x, w = np.polynomial.legendre.leggauss(28)
        rows = 3.6 * np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
        mass = 3.6**2 * np.outer(w, w).ravel() * exact.density_at(rows)
        outside = 4 * stats.norm.sf(3.6 / 0.8)
        assert mass.sum() == pytest.approx(1.0, abs=5 * outside)
        assert mass @ rows[:, 0] == pytest.approx(exact.mean("x"), abs=5 * outside)
        assert mass @ rows[:, 1] == pytest.approx(exact.mean("y"), abs=5 * outside)

    def test_outside_of_the_box_and_the_support(self):
        problem = free([mf.Axis("x", -1, 1)], mf.Product(x=uniform(-0.5, 0.5)), lambda x: x**2, lambda x: (2 * x,))
        exact = mf.characteristics(problem, t_end=0.5, save=2)
        edge = 0.5 / math.e
        expected = [0, 0, 0, math.e, math.e, 0]
        assert exact.density_at([-1.2, -0.9, -edge - 1e-6, -edge + 1e-6, 0.1, 1.1]) == pytest.approx(expected, rel=1e-9)

    def test_needs_a_density_to_begin_with(self):
        problem = free([mf.Axis("x", -1, 1)], mf.Dirac(x=0.5), lambda x: x**2)
        exact = mf.characteristics(problem, t_end=0.5)
        with pytest.raises(ValueError, match="atom"):
            exact.density_at([0.1])

    def test_weights_of_the_differences(self):
        """Exact for polynomials of degree six, wherever the stencil lies."""
        for shift, row in zip(range(-3, 4), _difference_weights(), strict=True):
            x = np.arange(-3.0, 4.0) + shift
            assert [row @ x**k for k in range(7)] == pytest.approx([0, 1, 0, 0, 0, 0, 0], abs=1e-10)


class TestInTime:
    def test_between_save_times(self):
        problem = mf.problems.linear_neuron()
        exact = mf.characteristics(problem, save=2)
        for t in np.linspace(0, 1, 23):
            assert exact.response_at(t) == pytest.approx([problem.exact["mean"](t)], abs=1e-9)
        for t in (0.013, 0.5, 0.99):
            assert exact.mean("theta", t) == pytest.approx(problem.exact["mean"](t), abs=1e-9)
            points, weights = exact.nodes_at(t)
            assert problem.bound_energy.energy(points, weights) == pytest.approx(problem.exact["energy"](t), rel=1e-8)
        np.testing.assert_allclose(exact.response, [exact.response_at(t) for t in exact.times], atol=1e-14)

    def test_energy_identity(self, bumps):
        """-dE/dt is the dissipation, by differences of the energy."""
        problem, bound, h, t = bumps.problem, bumps.problem.bound_energy, 0.01, 1.2
        e = [bound.energy(*bumps.nodes_at(t + k * h)) for k in (-3, -2, -1, 1, 2, 3)]
        slope = (e[5] - e[0]) / 60 - 3 * (e[4] - e[1]) / 20 + 3 * (e[3] - e[2]) / 4
        transport, reaction = bumps.dissipation(t)
        assert min(transport, reaction) > 1e-3
        assert transport + reaction == pytest.approx(-slope / h, rel=1e-8)
        assert problem.alpha(0.0) == 1.0

    def test_prediction(self, bumps):
        """The output at the bumps' centres, from the response of the energy: V = K (mu - nu)."""
        x = np.array([-1.0, 0.3])
        points, weights = bumps.nodes_at(0.8)
        expected = np.exp(-((x[:, None] - points[:, 0]) ** 2) / 2) @ weights
        np.testing.assert_allclose(bumps.predict(x, 0.8), expected, rtol=1e-12)
        with pytest.raises(ValueError, match="names no network"):
            mf.characteristics(mf.problems.quadratic_well(), t_end=0.1).predict(x)

    def test_outside_of_the_run(self, bumps):
        for call in (bumps.response_at, bumps.nodes_at, bumps.dissipation):
            with pytest.raises(ValueError, match="outside the run"):
                call(2.1)
        with pytest.raises(ValueError, match="no axis 'y'; valid: x"):
            bumps.mean("y")

    def test_reproducible_and_independent_of_save_times(self, bumps):
        again = mf.characteristics(bumps.problem, save=2)
        assert again.refinements[-1].nodes == bumps.refinements[-1].nodes
        assert again.rtol == bumps.rtol
        assert again.energy[-1] == bumps.energy[-1]


class TestNodes:
    def test_particles_are_followed_as_they_are(self):
        """Atoms need no quadrature: the exact gradient flow of the particles."""
        rng = np.random.default_rng(0)
        start = rng.normal(0, 1, (7, 1))
        problem = mf.problems.gaussian_bumps(alpha=0.0)
        cloud = mf.Problem(energy=problem.energy, axes=problem.axes, initial=mf.Particles(start))
        exact = mf.characteristics(cloud, t_end=1.0, save=2)
        assert exact.converged
        assert [run.refined for run in exact.refinements[1:]] == ["time"] * (len(exact.refinements) - 1)

        def flow(t, x):
            atoms, charges = np.concatenate([x, [-2, 1.5]]), np.concatenate([np.full(7, 1 / 7), [-0.6, -0.4]])
            z = x[:, None] - atoms
            return math.sqrt(math.pi) * (0.5 * z * np.exp(-(z**2) / 4)) @ charges

        run = integrate.solve_ivp(flow, (0, 1), start[:, 0], "DOP853", rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(exact.points[1, :, 0], run.y[:, -1], atol=1e-9)

    def test_network_with_amplitudes(self):
        """A three-parameter network against plain sums over the same nodes."""
        rng = np.random.default_rng(1)
        x = rng.normal(size=9)
        y = np.sin(2 * x)
        network = mf.TwoLayerNetwork(x, y, activation="tanh")
        problem = mf.Problem(
            energy=network + mf.Confinement(c=0.1, a=0.05),
            axes=[mf.Axis("c", -9, 9), mf.Axis("a", -9, 9), mf.Axis("b", -9, 9)],
            initial=mf.Product(c=stats.norm(0.3, 0.7), a=stats.norm(0, 0.7), b=stats.norm(0, 0.7)),
            alpha=0.8,
        )
        with pytest.warns(mf.RunWarning, match="max_nodes"):
            exact = mf.characteristics(problem, t_end=0.5, save=2, nodes=9, tolerance=1e-8, max_nodes=1200)
        nodes = exact.refinements[-1].nodes
        assert sorted(nodes) == [9, 9, 14]
        assert not exact.converged
        points, mass = exact.points[0], exact.weights[0]
        n = len(mass)

        def flow(t, state):
            c, a, b = state[: 3 * n].reshape(3, n)
            w = mass * np.exp(state[3 * n :])
            s = np.tanh(np.outer(x, a) + b)
            error = (s @ (w * c) - y) / len(x)
            V = c * (error @ s) + 0.05 * c**2 + 0.025 * a**2
            slope = error[:, None] * (1 - s**2)
            change = [error @ s + 0.1 * c, c * (x @ slope) + 0.05 * a, c * slope.sum(axis=0)]
            return np.concatenate([-np.concatenate(change), -0.8 * (V - w @ V)])

        start = np.concatenate([points.T.ravel(), np.zeros(n)])
        end = integrate.solve_ivp(flow, (0, 0.5), start, "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
        # errors are kept small in the mean over the measure: nodes of no weight may have larger ones
        off = (exact.points[1] - end[: 3 * n].reshape(3, n).T) * np.sqrt(np.minimum(1.0, n * exact.weights[1]))[:, None]
        np.testing.assert_allclose(off, 0.0, atol=1e-9)
        np.testing.assert_allclose(exact.weights[1], mass * np.exp(end[3 * n :]), atol=1e-12)
        c, a, b = exact.points[1].T
        output = np.tanh(np.outer(x, a) + b) @ (exact.weights[1] * c)
        expected = 0.5 * np.mean((output - y) ** 2) + exact.weights[1] @ (0.05 * c**2 + 0.025 * a**2)
        assert exact.energy[1] == pytest.approx(expected, rel=1e-10)

    def test_kernels_without_factors(self):
        """The same kernel as a dense pair kernel: same energy, response and density."""
        problem = mf.problems.gaussian_bumps(alpha=0.5)
        factor = math.sqrt(math.pi)
        dense = mf.PairKernel(lambda p, q: factor * np.exp(-((p - q.T) ** 2) / 4))
        direct = mf.Problem(
            energy=mf.Discrepancy(dense, np.array([[-2.0], [1.5]]), np.array([0.6, 0.4])),
            axes=problem.axes,
            initial=problem.initial,
            alpha=0.5,
        )
        assert direct.bound_energy.direct
        options = {"t_end": 0.6, "save": 3, "nodes": 48, "tolerance": 1e-4, "rtol": 1e-9}
        left, right = mf.characteristics(problem, **options), mf.characteristics(direct, **options)
        assert left.refinements[-1].nodes == right.refinements[-1].nodes
        np.testing.assert_allclose(right.energy, left.energy, rtol=1e-7)
        x = np.linspace(-3, 3, 7)
        np.testing.assert_allclose(right.density_at(x, 0.45), left.density_at(x, 0.45), rtol=1e-6)
        assert right.response.shape == (3, 0)

    def test_density_on_a_mesh(self):
        """Cells bring their own nodes; refining goes on from as many as there are."""
        grid = mf.Grid([mf.Axis("x", -2, 2)], [100])
        values = stats.norm(0.3, 0.4).pdf(grid.centres(0))
        problem = free(grid.axes, mf.GridMeasure(grid, values), lambda x: 0.5 * x**2, lambda x: (x,))
        exact = mf.characteristics(problem, t_end=1.0, save=2)
        assert exact.converged
        assert [run.size for run in exact.refinements[-2:]] == [200, 300]
        second = values @ (grid.centres(0) ** 2 + 0.04**2 / 12) / values.sum()
        assert exact.energy[1] == pytest.approx(0.5 * second * math.exp(-2), rel=1e-9)


class TestErrorEstimate:
    @staticmethod
    @cache
    def best(k, d, alpha):
        problem = mf.problems.single_index(k=k, d=d, alpha=alpha)
        return mf.characteristics(problem, t_end=1.0, tolerance=2e-11, nodes=120, save=3)

    @pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
    @pytest.mark.parametrize(("k", "d", "alpha"), [(2, 2, 0.0), (4, 8, 1.0)])
    def test_is_honest(self, k, d, alpha, tolerance):
        best = self.best(k, d, alpha)
        exact = mf.characteristics(best.problem, t_end=1.0, tolerance=tolerance, save=3)
        assert exact.converged
        assert exact.error_estimate <= tolerance
        assert np.all(np.abs(exact.energy - best.energy) <= exact.energy_error + 1e-14)
        assert np.all(np.abs(exact.response - best.response).max(axis=1) <= exact.response_error + 1e-14)
        floor = np.maximum(best.energy, 1e-3 * best.energy.max())
        assert np.abs(exact.energy - best.energy).max() <= exact.error_estimate * floor.max() + 1e-14

    def test_refines_only_what_needs_it(self):
        """The potential is linear in one of two independent axes: that one stays coarse."""
        problem = free(
            [mf.Axis("x", -5, 5), mf.Axis("y", 0, 1)],
            mf.Product(x=stats.norm(0, 0.5), y=uniform(0, 1)),
            lambda x, y: np.log(np.cosh(2 * x)) + 0.0 * y,
            lambda x, y: (2 * np.tanh(2 * x), 0.0 * y),
        )
        exact = mf.characteristics(problem, t_end=0.2, save=2, nodes=8, tolerance=1e-7)
        n_x, n_y = exact.refinements[-1].nodes
        assert exact.converged
        assert n_y == 12
        assert n_x >= 41

    def test_says_when_it_has_not_converged(self):
        with pytest.warns(mf.RunWarning, match=r"known to .* above tolerance .* limit of 40 nodes"):
            exact = mf.characteristics(mf.problems.gaussian_bumps(), save=2, max_nodes=40)
        best = mf.characteristics(mf.problems.gaussian_bumps(), save=2)
        assert not exact.converged
        assert exact.error_estimate > 1e-9
        assert abs(exact.energy[-1] - best.energy[-1]) <= exact.energy_error[-1]
        assert "not converged" in str(exact)

    def test_does_not_make_up_for_time_with_nodes(self, monkeypatch):
        """Where the time integration is the limit, nodes are refined no further than half of the tolerance."""
        for module in ("characteristics", "search"):
            monkeypatch.setattr(f"mfpde.lagrangian.{module}.RTOL_FLOOR", 1e-9)
        monkeypatch.setattr("mfpde.lagrangian.search.ROUND_OFF", 0.0)
        with pytest.warns(mf.RunWarning, match="limit of the time integration, rtol = 1e-09"):
            exact = mf.characteristics(mf.problems.gaussian_bumps(), save=2, tolerance=1e-10, max_nodes=2000)
        assert exact.refinements[-1].size <= 365
        assert 1e-10 < exact.error_estimate < 1e-7

    def test_work_is_counted(self, bumps):
        runs = bumps.refinements
        assert [run.refined for run in runs] == ["", *["all"] * (len(runs) - 1)]
        assert runs[-1].size == bumps.points.shape[1] == runs[-1].nodes[0]
        assert bumps.evaluations == sum(run.evaluations for run in runs) < 1500
        assert runs[-1].steps <= 14
        assert bumps.drift < 1e-11
        assert f"({runs[-1].size})" in str(bumps)
        assert "gaussian-bumps" in repr(bumps)


class TestLimits:
    def test_the_time_limit_is_kept_and_the_best_so_far_is_there(self, monkeypatch):
        """A clock that jumps after four runs: the fourth is the result, with what it changed as its error."""
        whole = mf.characteristics(mf.problems.gaussian_bumps(alpha=0.0), save=2)
        run = nodes.integrate
        count = itertools.count()

        def late(*arguments, **options):
            if next(count) == 4:
                raise nodes.OutOfTime
            return run(*arguments, **options)

        monkeypatch.setattr("mfpde.lagrangian.search.find_ancestors", lambda *arguments: None)
        monkeypatch.setattr("mfpde.lagrangian.search.integrate", late)
        with pytest.warns(mf.RunWarning, match=r"time_limit = 3600 s; raise it"):
            part = mf.characteristics(mf.problems.gaussian_bumps(alpha=0.0), save=2, tolerance=1e-11, time_limit=3600)
        assert len(part.refinements) == 4
        assert not part.converged
        assert 1e-11 < part.error_estimate < 1e-3
        assert abs(part.energy[-1] - whole.energy[-1]) <= part.energy_error[-1]

    def test_no_step_is_begun_after_the_deadline(self):
        problem = mf.problems.gaussian_bumps()
        with pytest.raises(RuntimeError, match=r"time_limit = 1e-09 s was over before the first run of 'gaussian-b"):
            mf.characteristics(problem, time_limit=1e-9)
        flow = NodeFlow(problem, np.array([1.0]))
        with pytest.raises(nodes.OutOfTime):
            next(flow.run((16,), 1e-6, deadline=0.0))
        with pytest.raises(ValueError, match="must be a finite positive number or None, not -1"):
            mf.characteristics(problem, time_limit=-1)

    def test_a_rule_with_more_nodes_than_allowed_begins_with_fewer(self):
        problem = mf.problems.three_gaussians()
        with pytest.warns(mf.RunWarning, match="limit of 150 nodes"):
            few = mf.characteristics(problem, t_end=0.1, save=2, max_nodes=150)
        # that leaves room for half as many again along each axis, by which the error is known
        assert few.refinements[0].nodes == (8, 8)
        assert few.refinements[-1].size == 144
        assert few.error_estimate < 0.1
        with pytest.raises(ValueError, match="400 nodes exceed max_nodes = 150"):
            mf.characteristics(problem, nodes=20, max_nodes=150)


class TestAmplifiedTails:
    """Birth-death makes the mass descend from a place far out in the tail of the start."""

    @pytest.mark.parametrize("arguments", [*TAILS, {"target": 4.0, "alpha": 100.0, "mean": -6.0, "variance": 0.005}])
    def test_linear_neuron(self, arguments):
        """The law is tilted only: mean and energy in closed form, the place where the mass comes from, too.

        ``w_t ~ mu_0 exp(c theta_0)`` shifts a normal law by ``c s^2``, and ``theta_t = theta_0 - int V'``: with
        ``m' = -(1 + alpha s^2)(m - target)`` the part ``alpha s^2 / (1 + alpha s^2)`` of the way is that of the tilt.
        """
        problem = mf.problems.linear_neuron(**arguments)
        found = mf.characteristics(problem, save=2, tolerance=1e-8)
        exact = problem.exact["energy"](1.0)
        assert found.converged
        assert abs(found.energy[-1] - exact) <= 1e-8 * exact
        assert found.energy[-1] == pytest.approx(exact, abs=10 * found.energy_error[-1])
        spread = math.sqrt(arguments.get("variance", 0.5))
        gain = problem.alpha(0.0) * spread**2
        tilt = (problem.exact["mean"](1.0) - problem.exact["mean"](0.0)) * gain / (1 + gain) / spread
        # half of a normal law shifted by `tilt` spreads grew more than its middle: the mass of mu_0 beyond that
        assert found.ancestral_mass[-1] == pytest.approx(stats.norm.sf(tilt), rel=0.2)
        assert found.ancestral_mass[0] == pytest.approx(0.5, abs=1e-12)

    def test_a_rule_in_the_wrong_place_is_seen(self, monkeypatch):
        """Without the runs that look where the mass comes from, the outermost nodes tell."""
        monkeypatch.setattr("mfpde.lagrangian.node_flow.find_places", lambda *arguments: None)
        problem = mf.problems.linear_neuron(target=4.0, alpha=5.0, mean=-2.0, variance=0.2)
        exact = problem.exact["energy"](1.0)
        with pytest.warns(mf.RunWarning, match="of the mass descends from beyond the nodes"):
            found = mf.characteristics(problem, save=2)
        assert not found.converged
        assert 1e-5 * exact < abs(found.energy[-1] - exact) <= found.energy_error[-1]

    def test_ancestors_are_named(self):
        found = mf.characteristics(
            mf.problems.linear_neuron(target=4.0, alpha=5.0, mean=-2.0, variance=0.2), save=2, tolerance=1e-6
        )
        assert "half of the mass at t = 1 descends from 3e-09 of the start: fewer than about 4e+08 neurons" in str(
            found
        )
        assert "ancestors" not in str(mf.characteristics(mf.problems.gaussian_bumps(), t_end=0.1, tolerance=1e-6))

    def test_each_component_of_a_mixture_has_its_own_places(self):
        """Metric 0 leaves ``mu_0 exp(-t x)``: each component a normal law shifted by 100 of its spreads."""
        law = mf.Mixture([(0.5, mf.Product(x=stats.norm(0, 0.1))), (0.5, mf.Product(x=stats.norm(5, 0.2)))])
        problem = free([mf.Axis("x", -12, 12)], law, lambda x: x, lambda x: (np.ones_like(x),), metric=[0.0], alpha=1.0)
        t = 20.0
        found = mf.characteristics(problem, t_end=t, save=2, tolerance=1e-9)
        logs = np.array([-t * m + 0.5 * t**2 * s**2 for m, s in ((0, 0.1), (5, 0.2))])
        share = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
        means = np.array([m - t * s**2 for m, s in ((0, 0.1), (5, 0.2))])
        assert found.converged
        assert found.mean("x") == pytest.approx(share @ means, rel=1e-9)

    def test_few_nodes_under_the_mass_are_seen(self):
        """A potential that kills all but a narrow place: 9 nodes cannot carry it."""
        problem = free(
            [mf.Axis("x", -8, 8)], mf.Product(x=stats.norm(0, 1)), lambda x: 200 * (x - 0.3) ** 2,
            lambda x: (400 * (x - 0.3),), metric=[0.0], alpha=1.0,
        )  # fmt: skip
        flow = NodeFlow(problem, np.array([1.0]))
        flow._looked = True
        next(flow.run((9,), 1e-8))
        assert flow.watched.nodes < 1.5
        assert flow.watched.error > 0.05
        assert "nodes along an axis" in flow.watched.reason
        flow._looked = False
        next(flow.run((40,), 1e-8))
        assert flow.watched.error < 1e-12


def test_the_free_energy_reaction_without_temperature_is_balanced():
    """The entropy's part of the rate has the factor tau."""
    problem = mf.problems.gaussian_bumps(alpha=2.0)
    free_energy = dataclasses.replace(problem, reaction="free-energy", parameters=None)
    a, b = (mf.characteristics(p, 0.5, save=2, tolerance=1e-6) for p in (problem, free_energy))
    assert np.array_equal(a.energy, b.energy)
    c, d = (mf.solve(p, 40, 0.2, progress=False) for p in (problem, free_energy))
    assert np.array_equal(c.density, d.density)


class TestAgainstTheMesh:
    """The mesh converges to the characteristics: its error is below its own change in the last refinement."""

    @staticmethod
    def check(problem, shapes, t_end, rate, save=3, **options):
        exact = mf.characteristics(problem, t_end=t_end, save=save, **options)
        errors, energies = [], []
        for shape in shapes:
            solution = mf.solve(problem, shape, t_end=t_end, save=save, progress=False)
            energies.append(solution.energy[1:])
            errors.append(np.abs(solution.energy[1:] - exact.energy[1:]))
        change = np.abs(np.diff(energies, axis=0))
        assert np.all(errors[-1] <= change[-1])
        assert np.all(errors[-1] <= rate * errors[0])
        return errors[-1] / exact.energy[1:]

    def test_bumps_in_one_dimension(self):
        relative = self.check(mf.problems.gaussian_bumps(), [(100,), (200,)], 2.0, 1 / 10)
        assert relative.max() < 1e-5

    def test_bumps_in_two_dimensions(self):
        problem = mf.problems.gaussian_bumps([[-2.0, 0.5], [1.5, -1.0]])
        relative = self.check(problem, [(32, 32), (64, 64)], 0.5, 1 / 8, tolerance=1e-6)
        assert relative.max() < 1e-4

    def test_three_gaussians_with_birth_death(self):
        """First order in the mesh: the start jumps at y = -2 and y = 2."""
        problem = mf.problems.three_gaussians(alpha=5.0)
        relative = self.check(problem, [(48, 50), (96, 100)], 10.0, 0.7, save=2, tolerance=1e-3)
        assert relative.max() < 0.05

    def test_three_gaussians_without(self):
        problem = mf.problems.three_gaussians(alpha=0.0)
        relative = self.check(problem, [(48, 50), (96, 100)], 10.0, 0.7, save=2, tolerance=1e-3)
        assert relative.max() < 5e-3

    def test_a_wrong_sign_would_show(self):
        """The band is narrow: characteristics of another birth-death rate, 1% off, lie outside of it."""
        problem = mf.problems.gaussian_bumps(alpha=1.01)
        solution = mf.solve(mf.problems.gaussian_bumps(), (100,), progress=False, save=2)
        finer = mf.solve(mf.problems.gaussian_bumps(), (200,), progress=False, save=2)
        wrong = mf.characteristics(problem, save=2)
        assert abs(finer.energy[-1] - wrong.energy[-1]) > 100 * abs(finer.energy[-1] - solution.energy[-1])


def counted(function, most=20_000):
    """A function that is an error once it has been asked too often: what never ends fails, instead of hanging."""
    calls = [0]

    def asked(*coordinates):
        calls[0] += 1
        assert calls[0] < most, "asked for ever"
        with np.errstate(all="ignore"):
            return function(*coordinates)

    return asked


def moved(gradient, start, function=lambda x: -x, **options):
    """Neurons on [-2, 2] in a potential."""
    options = {"t_end": 2.0, **options}
    return free([mf.Axis("x", -2, 2)], mf.Product(x=start), counted(function), counted(gradient), **options)


def to_the_right(x):
    return np.where(x < 1, -1.0, np.nan)


class TestNotFinite:
    """A function that is not finite somewhere is named with its place and time, and no loop runs for ever."""

    @pytest.fixture(autouse=True)
    def gradients_of_other_functions(self, monkeypatch):
        """What is not finite is placed by the gradient alone, so that it need not be that of the function."""
        for module in (external, features, kernels):
            monkeypatch.setattr(module, "check_gradient", lambda *arguments, **named: None)

    @pytest.mark.parametrize(
        ("problem", "match"),
        [
            # the derivative of |x| as one writes it first, on nodes of which one is in the middle
            (
                lambda: moved(lambda x: (x / np.abs(x),), uniform(-1, 1)),
                r"the velocity .* x = 0, t = 0 \(nan\)",
            ),
            (lambda: moved(lambda x: (-1 / x,), 0.0), r"the velocity .* x = 0, t = 0 \(inf\)"),
            (
                lambda: moved(lambda x: (np.where(x < 1, 0.0, np.inf),), uniform(0, 1.5)),
                r"x = 1\.\d+, t = 0 \(-inf\)",
            ),
            # x = x_0 + t: the last node is at the wall when t = 1 - x_0, just above 1/2
            (
                lambda: moved(lambda x: (to_the_right(x),), uniform(-1, 0.5)),
                r"the velocity .* x = 1, t = 0\.50",
            ),
            # the clock shows 1 - exp(-t), which is 1/2 at log 2 = 0.693
            (
                lambda: moved(lambda x: (to_the_right(x),), uniform(-1, 0.5), schedule=mf.ExponentialDecay(1.0, 1.0)),
                r"velocity is not finite at x = 1, t = 0\.69",
            ),
            # V alone: it is asked for with birth-death, and without for the energy at save times
            (
                lambda: moved(lambda x: (-np.ones_like(x),), uniform(-1, 0.5), lambda x: np.where(x < 1, -x, np.nan)),
                r"at t = 0\.6 V is not finite at x = 1\.0",
            ),
            (
                lambda: moved(
                    lambda x: (-np.ones_like(x),), uniform(-1, 0.5), lambda x: np.where(x < 1, -x, np.nan), alpha=1.0
                ),
                r"birth-death rate is not finite at x = 1, t = 0\.50",
            ),
            # a feature that is not finite in one node spoils V everywhere: it is that node that is named
            (
                lambda: mf.Problem(
                    mf.Features(lambda x: np.where(x > 1, np.nan, x)[None], mf.SquaredLoss([0.0])),
                    [mf.Axis("x", -2, 2)],
                    mf.Product(x=uniform(-0.5, 1.05)),
                ),
                r"a feature of the energy is not finite at x = 1\.0\d+, t = 0",
            ),
        ],
    )
    def test_the_place_is_named(self, problem, match):
        with pytest.raises(FloatingPointError, match=match) as caught, np.errstate(all="ignore"):
            mf.characteristics(problem(), nodes=33, save=11, progress=False)
        assert "\n" not in str(caught.value)

    def test_a_kernel_without_a_derivative_on_its_diagonal(self):
        kernel = mf.TranslationInvariantKernel(lambda d: -np.abs(d), counted(lambda d: (-d / np.abs(d),)))
        problem = mf.Problem(
            mf.Discrepancy(kernel, np.array([[0.2], [0.8]]), np.array([0.5, 0.5])),
            [mf.Axis("x", -1, 2)],
            mf.Product(x=uniform(0.2, 0.6)),
            t_end=0.5,
        )
        for entry in (mf.characteristics, lambda p: mf.particles.simulate(p, 20, progress=False)):
            with pytest.raises(FloatingPointError, match=r"velocity is not finite at x = 0\.\d+, t = 0"):
                entry(problem)
        with pytest.raises(FloatingPointError, match=r"velocity is not finite at x = 0\.\d+, t = 0"):
            mf.reference(dataclasses.replace(problem, shape=(60,)), 1e-2)

    def test_backwards(self):
        """A density is asked for where no node came, and the way back leads through the hole."""
        hole = moved(lambda x: (np.where(np.abs(x + 1.5) < 0.1, np.nan, -0.5),), uniform(-1, 0.5), t_end=1.0)
        found = mf.characteristics(hole, 1.0, save=2, progress=False)
        assert found.density_at([0.25]) == pytest.approx(1 / 1.5)
        with pytest.raises(FloatingPointError, match=r"velocity is not finite at x = -1\.4, t = 0\.8"):
            found.density_at([-1.3])

    def test_fluctuations(self):
        features = mf.Features(counted(lambda x: np.where(x < 1, -x, np.nan)[None]), mf.SquaredLoss([-2.0]))
        problem = mf.Problem(features, [mf.Axis("x", -2, 2)], mf.Product(x=uniform(-1, 0.5)), t_end=2.0)
        with pytest.raises(FloatingPointError, match=r"velocity is not finite at x = 0\.9\d+, t = 0\.2"):
            mf.fluctuations(problem, progress=False)

    def test_weights_that_overflow(self):
        """exp(2000 t) at t = 0.4 is no number; SciPy's first step after the kink of alpha would be none either."""
        problem = moved(
            lambda x: (0 * x,), uniform(-1, 1), lambda x: -1 + 0 * x, reaction="unbalanced",
            alpha=mf.PiecewiseLinear([0, 0.5, 1], [2000.0, 2000.0, 1.0]),
        )  # fmt: skip
        match = r"weights of the nodes are not finite at clock 0\.5"
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=match):
            mf.characteristics(problem, progress=False)


class TestRefusals:
    def test_temperature(self):
        problem = mf.problems.gaussian_bumps(temperature=0.1)
        with pytest.raises(ValueError, match="temperature"):
            mf.characteristics(problem)

    def test_reinjection(self):
        with pytest.raises(ValueError, match="reinjection creates mass"):
            mf.characteristics(mf.problems.three_gaussians(reinjection="refill"))

    def test_discontinuous_velocity(self):
        problem = mf.problems.network(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5) ** 2, activation="relu")
        with pytest.raises(ValueError, match="discontinuous"):
            mf.characteristics(problem, t_end=0.01, nodes=4, tolerance=1e-2)

    def test_a_singular_velocity_ends_with_its_place(self):
        """-log|x| without a derivative: differences across 0 are no velocity, and steps there never grow."""
        dynamics = nodes.Dynamics(
            free([mf.Axis("x", -2, 2)], mf.Product(x=stats.norm(0, 0.2)), lambda x: -np.log(np.abs(x)))
        )
        start = nodes_of(dynamics.problem.mu_0.blocks(32))
        with pytest.raises(
            RuntimeError, match=r"^\d+ steps of the characteristics .* not smooth near x = -?[\d.e-]+; "
        ):
            nodes.integrate(dynamics, start, np.array([0.0, 1.0]), nodes.Stepping(1e-10, most_steps=60))

    def test_a_metric_out_of_range_is_named_with_its_place(self):
        """As simulations and meshes refuse it: uphill along it the energy would rise."""
        slope, turns = (lambda x: (-np.ones_like(x),)), (lambda x: np.where(x < 1, 1.0, -1.0))
        problem = free([mf.Axis("x", -2, 2)], mf.Dirac(x=1.5), lambda x: -x, slope, metric=[turns])
        with pytest.raises(ValueError, match=r"^the metric of axis 'x' is -1 at x = 1\.5; it must be finite and "):
            mf.characteristics(problem, t_end=0.1)

    def test_blow_up(self):
        problem = free([mf.Axis("x", -1, 1)], mf.Dirac(x=0.5), lambda x: 0.5 * np.log(np.abs(x)), lambda x: (0.5 / x,))
        with pytest.raises(RuntimeError, match="blows up"):
            mf.characteristics(problem)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"tolerance": 1e-12}, "tolerance must lie"),
            ({"tolerance": 0.1}, "tolerance must lie"),
            ({"rtol": 1e-15}, "rtol must lie"),
            ({"t_end": 0.0}, "t_end"),
            ({"t_end": math.inf}, "t_end"),
            ({"save": 1}, "save"),
            ({"save": [3.0]}, "save"),
            ({"nodes": (4, 4)}, "node counts"),
            ({"nodes": 100, "max_nodes": 50}, "100 nodes exceed max_nodes = 50"),
        ],
    )
    def test_arguments(self, options, match):
        with pytest.raises(ValueError, match=match):
            mf.characteristics(mf.problems.gaussian_bumps(), **options)

    def test_zero_schedule(self):
        problem = free([mf.Axis("x", 0, 1)], mf.Product(x=uniform(0, 1)), lambda x: x, schedule=0.0)
        with pytest.raises(ValueError, match="nothing moves"):
            mf.characteristics(problem)

    def test_points_of_the_wrong_shape(self, bumps):
        with pytest.raises(ValueError, match=r"shape \(n, 1\)"):
            bumps.density_at(np.zeros((3, 2)))

    def test_record_too_large(self, monkeypatch):
        monkeypatch.setattr("mfpde.lagrangian.nodes.RECORD_LIMIT", 1000)
        kernel = mf.PairKernel(lambda p, q: np.exp(-((p - q.T) ** 2)))
        problem = mf.Problem(
            energy=mf.Interaction(kernel), axes=[mf.Axis("x", -1, 1)], initial=mf.Product(x=uniform(-1, 1))
        )
        exact = mf.characteristics(problem, t_end=0.1, tolerance=1e-4)
        with pytest.raises(ValueError, match="does not factorise"):
            exact.response_at(0.05)


def test_progress_is_shown(capfd):
    with warnings.catch_warnings():
        mf.characteristics(mf.problems.quadratic_well(), t_end=0.1, progress=True, tolerance=1e-4)
    assert "quadratic-well" in capfd.readouterr().err


def test_lambert_w_ratio():
    """The number that the closed form on the circle is quoted with."""
    assert special.lambertw(math.exp(5)).real == pytest.approx(3.6934413589606496, rel=1e-15)


def test_what_no_longer_falls_ends_the_search():
    """A small energy whose last digits are noise: nodes grew to the limit, by full matrices, for an hour."""
    problem = mf.problems.linear_neuron(target=0.30514, alpha=0.30833, mean=0.29276, variance=0.097156)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        found = mf.characteristics(problem, 4.7458, save=3, tolerance=1e-11, progress=False)
    assert found.refinements[-1].size < 2000
    exact = np.array([problem.exact["energy"](t) for t in found.times])
    assert np.all(np.abs(found.energy - exact) <= found.energy_error + 1e-14)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8])
def test_energies_are_those_of_the_nodes(tolerance):
    """To the last digits, whatever the accuracy of the tables by which a search judges its runs."""
    problem = mf.problems.gaussian_bumps()
    found = mf.characteristics(problem, save=4, tolerance=tolerance, progress=False)
    own = [problem.bound_energy.energy(x, w) for x, w in zip(found.points, found.weights, strict=True)]
    np.testing.assert_allclose(found.energy, own, rtol=1e-14)
