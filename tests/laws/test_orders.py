"""Orders of accuracy, and whole runs against references that share no code with the package.

The references move quadrature nodes of the initial measure along ``-grad V`` with log-weights
``d log w = -alpha (V - Vbar)``, the kernel in closed form, by an eighth-order Runge-Kutta method.
"""

import math
from dataclasses import replace
from functools import cache, cached_property

import numpy as np
import pytest
from scipy import integrate, interpolate, stats
from shared import PassByPass, fitted_order

import mfpde as mf
from mfpde.mesh.reaction import exponential_step
from mfpde.problems.single_index import SphereAngle

TERMS = 72

pytestmark = pytest.mark.usefixtures("one_thread")


def taylor(q, derivatives=1):
    """psi_k(q) = e^{-q^2/2} q^k / sqrt(k!), k < TERMS, as columns, and derivatives.

    By the Taylor series of the exponential, sum_k psi_k(p) psi_k(q) = exp(-(p - q)^2 / 2).
    """
    psi = np.empty((TERMS, len(q)))
    psi[0] = np.exp(-(q**2) / 2)
    for k in range(1, TERMS):
        np.multiply(psi[k - 1], q / math.sqrt(k), out=psi[k])
    assert np.abs((psi**2).sum(axis=0) - 1).max() < 1e-11, "the series needs more terms for points this far out"
    roots = np.sqrt(np.arange(1, TERMS))[:, None]
    columns = [psi]
    for order in range(derivatives):
        # psi_k' = sqrt(k) psi_{k-1} - q psi_k, differentiated `order` times
        new = -q * columns[order]
        new[1:] += roots * columns[order][:-1]
        if order > 0:
            new -= order * columns[order - 1]
        columns.append(new)
    return [array.T for array in columns]


class Bumps:
    """`gaussian_bumps` in one or two dimensions, by characteristics.

    K(z, z') = (pi s^2)^{d/2} exp(-|z - z'|^2 / (4 s^2)): with q = z / (s sqrt 2) each axis is a Taylor series.
    """

    def __init__(self, centres, weights, alpha, std, half_width, t_end, n, rtol):
        self.centres = np.asarray(centres, dtype=float).reshape(len(weights), -1)
        self.weights, self.alpha, self.std, self.half_width = np.asarray(weights), alpha, std, half_width
        self.d, self.t_end = self.centres.shape[1], t_end
        self.factor = math.pi ** (self.d / 2)
        self.target = self._moment([f[0] for f in self._features(self.centres)], self.weights)
        x, w = np.polynomial.legendre.leggauss(n)
        x, logw = half_width * x, np.log(w) - (half_width * x) ** 2 / (2 * std**2)
        points = np.stack(np.meshgrid(*[x] * self.d, indexing="ij"), axis=-1).reshape(-1, self.d)
        logw = sum(np.meshgrid(*[logw] * self.d, indexing="ij")).ravel()
        logw -= np.log(np.exp(logw).sum())
        kept = logw > math.log(1e-14)  # their weights grow by less than e^3 over the runs below
        points, logw = points[kept], logw[kept]
        # the response is smooth in time: its values at Chebyshev times give it at all times
        self.times = 0.5 * t_end * (1 - np.cos(math.pi * np.arange(25) / 24))
        solution = integrate.solve_ivp(
            self._forward,
            (0, t_end),
            np.concatenate([points.ravel(), logw]),
            method="DOP853",
            rtol=rtol,
            atol=1e-12,
            t_eval=self.times,
        )
        assert solution.success
        self.states = solution.y.T
        unpacked = [self._unpack(y) for y in self.states]
        self.responses = np.array([self._response(self._features(z, 0), w) for z, w in unpacked])
        self.response_at = interpolate.BarycentricInterpolator(self.times, self.responses)

    def _unpack(self, y):
        n = len(y) // (self.d + 1)
        return y[: n * self.d].reshape(n, self.d), np.exp(y[n * self.d :])

    def _features(self, points, derivatives=1):
        return [taylor(points[:, i] / math.sqrt(2), derivatives) for i in range(self.d)]

    @staticmethod
    def _moment(psi, w):
        return psi[0].T @ w if len(psi) == 1 else (psi[0] * w[:, None]).T @ psi[1]

    def _response(self, features, w):
        return self._moment([f[0] for f in features], w) - self.target

    def _potential(self, features, u):
        """V, its gradient, and its Laplacian if there are second derivatives."""
        if self.d == 1:
            V, *rest = (f @ u for f in features[0])
            slope, curvature = rest[0][:, None], rest[1:]
        else:
            f, g = features
            fu = f[0] @ u
            V = np.einsum("ik,ik->i", fu, g[0])
            slope = np.stack([np.einsum("ik,ik->i", f[1] @ u, g[0]), np.einsum("ik,ik->i", fu, g[1])], axis=1)
            curvature = [
                np.einsum("ik,ik->i", ddf @ u, g[0]) + np.einsum("ik,ik->i", fu, ddg)
                for ddf, ddg in zip(f[2:], g[2:], strict=True)
            ]
        return self.factor * V, self.factor * slope / math.sqrt(2), *(self.factor * c / 2 for c in curvature)

    def _forward(self, t, y):
        points, w = self._unpack(y)
        features = self._features(points)
        V, slope = self._potential(features, self._response(features, w))
        return np.concatenate([-slope.ravel(), -self.alpha * (V - w @ V / w.sum())])

    def energy(self, i=-1):
        return 0.5 * self.factor * float((self.responses[i] ** 2).sum())

    def dissipation(self, i=-1):
        """int |grad V|^2 dmu and alpha Var V."""
        points, w = self._unpack(self.states[i])
        w = w / w.sum()
        V, slope = self._potential(self._features(points), self.responses[i])
        return w @ (slope**2).sum(axis=1), self.alpha * (w @ (V - w @ V) ** 2)

    @cached_property
    def mean_at(self):
        """Vbar at any time."""
        means = []
        for y, u in zip(self.states, self.responses, strict=True):
            z, w = self._unpack(y)
            means.append(w @ self._potential(self._features(z), u)[0] / w.sum())
        return interpolate.BarycentricInterpolator(self.times, means)

    def density(self, points):
        """mu(t_end) at points: back along the characteristics, d log mu = Laplacian V - alpha (V - Vbar)."""
        n = len(points)

        def backward(t, y):
            features = self._features(y[: n * self.d].reshape(n, self.d), 2)
            V, slope, curvature = self._potential(features, self.response_at(t))
            return np.concatenate([-slope.ravel(), curvature - self.alpha * (V - self.mean_at(t))])

        start = np.concatenate([points.ravel(), np.zeros(n)])
        y = integrate.solve_ivp(backward, (self.t_end, 0), start, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
        feet, growth = y[: n * self.d].reshape(n, self.d), -y[n * self.d :]
        inside = stats.norm(0, self.std).cdf([-self.half_width, self.half_width])
        law = stats.norm(0, self.std).logpdf(feet).sum(axis=1) - self.d * math.log(inside[1] - inside[0])
        return np.exp(law + growth)


@cache
def bumps_1d(n, t_end=2.0):
    return Bumps([-2, 1.5], [0.6, 0.4], 1.0, 0.8, 5.0, t_end, n, 1e-12)


CENTRES_2D = [[-2.0, 0.5], [1.5, -1.0]]


@cache
def bumps_2d():
    return Bumps(CENTRES_2D, [0.6, 0.4], 1.0, 0.8, 5.0, 0.5, 60, 1e-7)


class TestBumps:
    """The energy of the default run against the characteristics."""

    def test_reference_by_dense_sums(self):
        """The Taylor series against the kernel itself, and the numbers of nodes against each other."""
        values = {n: bumps_1d(n).energy() for n in (80, 120, 160, 200)}
        assert abs(values[200] / values[160] - 1) < 1e-10
        assert abs(values[160] / values[120] - 1) < 1e-8
        reference = bumps_1d(120)
        z, w = reference._unpack(reference.states[-1])
        nodes, charges = np.append(z[:, 0], [-2, 1.5]), np.append(w, [-0.6, -0.4])
        K = math.sqrt(math.pi) * np.exp(-((nodes[:, None] - nodes) ** 2) / 4)
        assert 0.5 * charges @ K @ charges == pytest.approx(values[120], rel=1e-11)
        assert w.sum() == pytest.approx(1.0, abs=1e-11)

    def test_density_by_its_moments(self):
        """The density along characteristics has mass 1 and the nodes' mean."""
        reference = bumps_1d(200)
        x, w = np.polynomial.legendre.leggauss(160)
        density = reference.density(5 * x[:, None])
        z, p = reference._unpack(reference.states[-1])
        assert density @ (5 * w) == pytest.approx(1.0, abs=1e-8)
        assert density @ (25 * w * x) == pytest.approx(z[:, 0] @ p, abs=1e-8)

    def test_one_dimension(self):
        solution = mf.solve(mf.problems.gaussian_bumps(), (200,), progress=False)
        reference = bumps_1d(200)
        assert reference.energy(0) == pytest.approx(solution.energy[0], rel=1e-9)
        assert abs(solution.energy[-1] / reference.energy() - 1) < 1e-6
        transport, reaction = reference.dissipation()
        assert solution.diagnostics["dissipation_transport"][-1] == pytest.approx(transport, rel=1e-5)
        assert solution.diagnostics["dissipation_reaction"][-1] == pytest.approx(reaction, rel=1e-5)
        density = reference.density(solution.grid.points())
        assert np.abs(solution.density[-1] - density).sum() * solution.grid.cell_volume < 1e-5

    def test_two_dimensions(self):
        problem = mf.problems.gaussian_bumps(centres=CENTRES_2D)
        solution = mf.solve(problem, (128, 128), progress=False, save=2)
        reference = Bumps(CENTRES_2D, [0.6, 0.4], 1.0, 0.8, 5.0, 2.0, 68, 1e-7)
        assert reference.energy(0) == pytest.approx(solution.energy[0], rel=1e-8)
        assert abs(solution.energy[-1] / reference.energy() - 1) < 1e-5
        transport, reaction = reference.dissipation()
        assert solution.diagnostics["dissipation_transport"][-1] == pytest.approx(transport, rel=1e-4)
        assert solution.diagnostics["dissipation_reaction"][-1] == pytest.approx(reaction, rel=1e-4)


def cell_averages(density, grid):
    """Four-point Gauss averages over the cells of a 1-D grid of a function of points."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    points = grid.centres(0)[:, None] + 0.5 * grid.spacing[0] * nodes
    return density(points.reshape(-1, 1)).reshape(points.shape) @ weights / 2


def l1_error(solution, density):
    grid = solution.grid
    exact = density(grid.points()) if solution.point_values else cell_averages(density, grid)
    return float(np.abs(solution.density[-1] - exact).sum()) * grid.cell_volume


def check_order(cells, errors, lowest, highest, cap):
    order = fitted_order(1 / np.array(cells, dtype=float), errors)
    assert lowest <= order <= highest, (order, errors)
    assert errors[-1] < cap, errors


class TestOrderInSpace:
    """L1 errors of the density with the non-local potential, the time error negligible."""

    @pytest.mark.parametrize(
        ("scheme", "cells", "lowest", "highest", "cap"),
        [
            (mf.Upwind(), (100, 200, 400, 800), 0.9, 1.1, 4e-3),
            (mf.Muscl(), (100, 200, 400), 1.9, 2.2, 8e-5),
            (mf.Weno5(), (100, 140, 200, 280), 4.8, 5.7, 1e-7),
        ],
        ids=["upwind", "muscl", "weno5"],
    )
    def test_bumps(self, scheme, cells, lowest, highest, cap):
        """Transport and birth-death, against the density along characteristics."""
        problem, tolerance = mf.problems.gaussian_bumps(), 1e-6 if scheme.order == 1 else 1e-8
        errors = []
        for n in cells:
            solution = mf.solve(
                problem, (n,), 1.0, scheme=scheme, controller=mf.ErrorControl(tolerance), save=2, progress=False
            )
            errors.append(l1_error(solution, bumps_1d(160, 1.0).density))
        check_order(cells, errors, lowest, highest, cap)

    @pytest.mark.parametrize(
        ("scheme", "cells", "lowest", "highest", "cap"),
        [
            (mf.Upwind(), (25, 50, 100, 200), 0.9, 1.1, 4e-3),
            (mf.Muscl(), (25, 50, 100, 200, 400), 1.8, 2.1, 1e-5),
            (mf.Weno5(), (25, 35, 50, 70), 4.8, 5.5, 2e-6),
        ],
        ids=["upwind", "muscl", "weno5"],
    )
    def test_circle(self, scheme, cells, lowest, highest, cap):
        """Natural ends, against the closed form of a network on the circle."""
        problem = mf.problems.single_index(k=2, d=2)
        errors = []
        for n in cells:
            solution = mf.solve(
                problem, (n,), 0.6, scheme=scheme, controller=mf.ErrorControl(1e-8), save=2, progress=False
            )
            errors.append(l1_error(solution, lambda points: problem.exact["density"](points[:, 0], 0.6)))
        check_order(cells, errors, lowest, highest, cap)

    @pytest.mark.parametrize(
        ("scheme", "cells", "lowest", "highest", "cap"),
        [
            (mf.Upwind(), (48, 96, 192), 0.9, 1.1, 2e-2),
            (mf.Muscl(), (48, 96, 144), 1.9, 2.4, 6e-4),
            (mf.Weno5(), (48, 72, 96, 144), 4.7, 5.6, 2e-6),
        ],
        ids=["upwind", "muscl", "weno5"],
    )
    def test_bumps_in_two_dimensions(self, scheme, cells, lowest, highest, cap):
        """Cells are sampled every (n / 24)-th in each direction; their averages are of a smooth density."""
        problem = mf.problems.gaussian_bumps(centres=CENTRES_2D)
        errors = []
        for n in cells:
            solution = mf.solve(
                problem, (n, n), 0.5, scheme=scheme, controller=mf.ErrorControl(1e-6), save=2, progress=False
            )
            sample = slice(n // 48, None, n // 24)
            x = solution.grid.centres(0)[sample]
            points = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
            exact = bumps_2d().density(points).reshape(len(x), len(x))
            if not scheme.point_values:
                # the average over a cell, to fourth order: 1 + h^2/24 Laplacian, from the run itself
                mu = np.pad(solution.density[-1], 1, mode="edge")
                laplacian = mu[2:, 1:-1] + mu[:-2, 1:-1] + mu[1:-1, 2:] + mu[1:-1, :-2] - 4 * mu[1:-1, 1:-1]
                exact = exact + laplacian[sample, sample] / 24
            errors.append(float(np.abs(solution.density[-1][sample, sample] - exact).mean()) * 100.0)
        check_order(cells, errors, lowest, highest, cap)


class Wave(mf.Schedule):
    """2 + sin(5 t)."""

    def __repr__(self):
        return "Wave"

    def _value(self, t):
        return 2 + math.sin(5 * t)

    def _integral(self, t0, t1):
        return 2 * (t1 - t0) + (math.cos(5 * t0) - math.cos(5 * t1)) / 5


BIRTH = mf.Product(theta=SphereAngle(4))
LIFTED = mf.problems.single_index(k=2, d=2).energy + mf.External(lambda theta: 0.5 + 0.0 * theta)
VARIANTS = {
    "constant": {},
    "alpha": {"alpha": Wave()},
    "schedule": {"schedule": mf.PowerLaw(0.5)},
    "both": {"alpha": Wave(), "schedule": Wave()},
    "gradient-flow": {"alpha": 0.0},
    "unbalanced": {"reaction": "unbalanced"},
    "tanh": {"rate": lambda V: np.tanh(3 * V)},
    "refill": {"reinjection": mf.Reinjection(BIRTH, "refill")},
    "refill-gains": {"reinjection": mf.Reinjection(BIRTH, "refill"), "energy": LIFTED},
    "replace": {"reinjection": mf.Reinjection(BIRTH, "replace")},
}


def method_of_lines(problem, n, t_end):
    """The same mesh and transport, the reaction written out, by an eighth-order method in time."""
    solver = mf.Solver(problem, (n,))
    transport, plan, h = solver.flow.transport, solver.flow.energy, solver.grid.cell_volume
    alpha, s = problem.alpha, problem.schedule

    def reaction(mu, V):
        mass = mu.sum() * h
        mean = V @ mu * h
        if problem.reinjection is not None:
            mu_b = problem.reinjection.measure.restrict(problem.axes).point_values(solver.grid)
            if problem.reinjection.kind is mf.ReinjectionKind.REPLACE:
                positive = np.maximum(V, 0)
                return positive * mu - (positive @ mu * h) * mu_b
            return V * mu - max(mean, 0) * mu_b + max(-mean, 0) * mu
        if problem.reaction is mf.Reaction.UNBALANCED:
            return V * mu
        r = V if problem.rate is None else problem.rate(V)
        return (r - r @ mu * h / mass) * mu

    def rhs(t, mu):
        V = plan.evaluate(mu)[0]
        return s(t) * (transport.rate(mu, V) - alpha(t) * reaction(mu, V))

    mu_0 = solver.init().mu
    solution = integrate.solve_ivp(rhs, (0, t_end), mu_0, method="DOP853", rtol=1e-12, atol=1e-14)
    return solution.y[:, -1] * h


class TestOrderInTime:
    """Fixed steps on a fixed mesh; a smooth density without tails, so that no limiter switches."""

    n, t_end = 40, 0.5

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_order(self, variant):
        problem = replace(mf.problems.single_index(k=2, d=2, alpha=2.0), **VARIANTS[variant])
        exact = method_of_lines(problem, self.n, self.t_end)
        steps = self.t_end / np.array([24, 36, 54, 81])
        methods = [(mf.Lie(), 1, 1.5e-3), (mf.Strang(), 2, 2e-5)]
        if problem.reinjection is None:
            methods.append((mf.ExponentialSSPRK3(), 3, 1e-6))
        for method, order, cap in methods:
            errors = []
            for dt in steps:
                solution = mf.solve(
                    problem,
                    (self.n,),
                    self.t_end,
                    method=method,
                    controller=mf.FixedStep(dt),
                    save=2,
                    progress=False,
                )
                errors.append(float(np.abs(solution.density[-1] * solution.grid.cell_volume - exact).sum()))
            # without a reaction a splitting is its transport step, of order 3
            expected = 3 if problem.alpha(0.0) == 0.0 else order
            assert fitted_order(steps, errors) == pytest.approx(expected, abs=0.1), (method, errors)
            assert errors[-1] < cap, (method, errors)

    def test_adaptive_follows_its_tolerance(self):
        """The error falls in proportion to the tolerance; the work grows like its power -1/3."""
        problem = mf.problems.single_index(k=2, d=2, alpha=2.0)
        exact = method_of_lines(problem, self.n, self.t_end)
        errors, steps = [], []
        for tolerance in (1e-5, 1e-6, 1e-7):
            solution = mf.solve(
                problem, (self.n,), self.t_end, controller=mf.ErrorControl(tolerance), save=2, progress=False
            )
            errors.append(float(np.abs(solution.density[-1] * solution.grid.cell_volume - exact).sum()))
            assert errors[-1] < tolerance
            steps.append(solution.stats["steps"])
        assert 0.7 < fitted_order([1e-5, 1e-6, 1e-7], errors) < 1.1
        assert steps[0] < 45
        assert steps[2] < 170


class TestClock:
    """With a common schedule s the solution depends on S = int s only."""

    @pytest.mark.parametrize("method", [mf.ExponentialSSPRK3(), mf.Strang()], ids=["ssprk3", "strang"])
    @pytest.mark.parametrize("schedule", [mf.Constant(2.5), mf.PowerLaw(1.0), mf.PowerLaw(-0.5), Wave()], ids=str)
    def test_equivalence(self, schedule, method):
        plain = mf.problems.gaussian_bumps()
        t_end = 1.0
        S = schedule.integral(0.0, t_end)
        one = mf.solve(replace(plain, schedule=schedule), (100,), t_end, method=method, save=2, progress=False)
        two = mf.solve(plain, (100,), S, method=method, save=2, progress=False)
        assert one.energy[-1] == pytest.approx(two.energy[-1], rel=1e-12)
        assert np.abs(one.density[-1] - two.density[-1]).sum() * one.grid.cell_volume < 1e-12

    def test_fixed_steps(self):
        """Steps of equal length in t are unequal in S: the results agree to the error of the method."""
        plain = mf.problems.gaussian_bumps()
        one = mf.solve(
            replace(plain, schedule=mf.PowerLaw(0.5)), (100,), 1.0, controller=mf.FixedStep(1 / 300), progress=False
        )
        two = mf.solve(plain, (100,), 2 / 3, controller=mf.FixedStep(1 / 300), progress=False)
        assert np.abs(one.density[-1] - two.density[-1]).sum() * one.grid.cell_volume < 2e-8


class ThreeGaussians:
    """`three_gaussians` from its good start, by characteristics: c' = -g, y' = -c g'(y), V = c g(y)."""

    amounts, centres, variances = np.array([1, -2, 1]) / 3, np.array([-2.0, 0.0, 2.0]), np.array([1.0, 1.5, 1.0])

    def __init__(self, alpha, times, n=32):
        y, wy = np.polynomial.legendre.leggauss(n)
        c, wc = np.polynomial.hermite_e.hermegauss(n)
        w = (wy[:, None] / 2 * (wc / wc.sum())).ravel()
        kept = w > 1e-14
        start = np.stack([np.tile(c, n)[kept], np.repeat(2 * y, n)[kept], np.log(w[kept])])
        self.alpha, self.shape = alpha, start.shape
        solution = integrate.solve_ivp(
            self._rate, (0, times[-1]), start.ravel(), method="DOP853", rtol=1e-10, atol=1e-12, t_eval=times
        )
        assert solution.success
        self.energies = [self._energy(state.reshape(self.shape)) for state in solution.y.T]

    def _pull(self, y):
        """The target seen by a unit, and its derivative."""
        x = y[:, None] - self.centres
        bells = self.amounts * np.exp(-(x**2) / (2 * self.variances)) / np.sqrt(2 * math.pi * self.variances)
        return bells.sum(axis=1), (-x / self.variances * bells).sum(axis=1)

    def _rate(self, t, state):
        c, y, logw = state.reshape(self.shape)
        w = np.exp(logw)
        psi, slope = taylor(y, 1)  # N(y - y'; 1) = sum_k psi_k(y) psi_k(y') / sqrt(2 pi)
        u = psi.T @ (w * c) / math.sqrt(2 * math.pi)
        target, target_slope = self._pull(y)
        g, dg = psi @ u - target, slope @ u - target_slope
        return np.concatenate([-g, -c * dg, -self.alpha * (c * g - w @ (c * g) / w.sum())])

    def _energy(self, state):
        c, y, logw = state
        w = np.exp(logw)
        (psi,) = taylor(y, 0)
        u = psi.T @ (w * c)
        # 1/2 int f^2: variances 1/2 and 1 of the target itself
        own = np.array([0.5, 1.0, 0.5])
        variances = own[:, None] + own
        pairs = np.exp(-((self.centres[:, None] - self.centres) ** 2) / (2 * variances)) / np.sqrt(
            2 * math.pi * variances
        )
        constant = 0.5 * self.amounts @ pairs @ self.amounts
        return constant - w @ (c * self._pull(y)[0]) + 0.5 * u @ u / math.sqrt(2 * math.pi)


class TestThreeGaussians:
    def test_reference(self):
        one, two = (ThreeGaussians(5.0, [0.0, 0.5, 1.0], n).energies for n in (24, 32))
        np.testing.assert_allclose(one, two, rtol=1e-8)
        assert two[0] == pytest.approx(0.0688682701, abs=5e-11)
        assert two[2] == pytest.approx(0.02340737, abs=5e-9)

    @pytest.mark.parametrize(
        ("alpha", "scheme", "highest", "cap"),
        [
            (5.0, mf.Weno5(), 1.4, 5e-4),
            (5.0, mf.Muscl(), 1.8, 7e-4),
            (0.0, mf.Weno5(), 2.0, 1e-4),
            (0.0, mf.Muscl(), 1.7, 1e-4),
        ],
        ids=["weno5", "muscl", "weno5-gradient-flow", "muscl-gradient-flow"],
    )
    def test_refinement(self, alpha, scheme, highest, cap):
        """The start jumps at y = +-2: about first order in the energy, whatever the order of the scheme."""
        times = [0.0, 0.5, 1.0]
        exact = np.array(ThreeGaussians(alpha, times).energies)
        cells, errors = (48, 96, 192), []
        for n in cells:
            problem = mf.problems.three_gaussians(alpha=alpha)
            solution = mf.solve(problem, (n, n), 1.0, scheme=scheme, save=times, progress=False)
            assert solution.energy[0] == pytest.approx(0.0688682701, abs=5e-11)
            errors.append(np.abs(solution.energy / exact - 1).max())
        check_order(cells, errors, 0.9, highest, cap)
        if alpha == 5.0:
            assert solution.energy[-1] == pytest.approx(0.02340737, rel=1e-3)


class TestEnergyBalance:
    """The recorded dissipation, integrated over the run, is the energy that was lost."""

    @pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl()], ids=["weno5", "muscl"])
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"alpha": 0.0},
            {"alpha": Wave(), "schedule": Wave()},
            {"reaction": "unbalanced"},
            {"rate": np.tanh},
            {"reaction": "unbalanced", "rate": np.tanh},
            {"metric": (lambda x: 1 + x**2 / 10,)},
        ],
        ids=["balanced", "gradient-flow", "schedules", "unbalanced", "rate", "unbalanced-rate", "metric"],
    )
    def test_bumps(self, changes, scheme):
        problem = replace(mf.problems.gaussian_bumps(), **changes)
        solution = mf.solve(
            problem, (200,), 1.0, scheme=scheme, controller=mf.ErrorControl(1e-6), save=2, progress=False
        )
        d = solution.diagnostics
        assert d["dissipation_transport"].min() >= 0
        assert d["dissipation_reaction"].min() >= 0
        rate = d["dissipation_transport"] + d["dissipation_reaction"]
        lost = interpolate.CubicSpline(d["time"], rate).integrate(0.0, 1.0)
        drop = d["energy"][0] - d["energy"][-1]
        assert lost == pytest.approx(drop, rel=1e-7)

    @pytest.mark.parametrize("lift", [0.0, 0.5, -0.5])
    @pytest.mark.parametrize("kind", list(mf.ReinjectionKind), ids=lambda kind: kind.value)
    def test_reinjection(self, kind, lift):
        """With V lifted so that the mean is positive or negative; the energy need not fall then."""
        plain = mf.problems.gaussian_bumps()
        problem = replace(
            plain,
            energy=plain.energy + mf.External(lambda x: lift + 0.0 * x),
            reinjection=mf.Reinjection(mf.Product(x=stats.norm(1, 0.7)), kind),
        )
        solution = mf.solve(problem, (200,), 1.0, controller=mf.ErrorControl(1e-7), save=2, progress=False)
        d = solution.diagnostics
        rate = d["dissipation_transport"] + d["dissipation_reaction"]
        lost = interpolate.CubicSpline(d["time"], rate).integrate(0.0, 1.0)
        drop = d["energy"][0] - d["energy"][-1]
        assert lost == pytest.approx(drop, rel=2e-6)


METHODS = {"ssprk3": mf.ExponentialSSPRK3(), "strang": mf.Strang(), "lie": mf.Lie()}
SCHEMES = {"weno5": mf.Weno5(), "muscl": mf.Muscl(), "upwind": mf.Upwind()}


def distance(one, two, h):
    return float(np.abs(one - two).sum()) * h


class TestInvariance:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_constant_in_the_potential(self, scheme, method):
        """V + const changes nothing while mass is conserved."""
        plain = mf.problems.gaussian_bumps()
        lifted = replace(plain, energy=plain.energy + mf.External(lambda x: 3.0 + 0.0 * x))
        settings = {"scheme": SCHEMES[scheme], "method": METHODS[method], "save": 2, "progress": False}
        one, two = (mf.solve(problem, (100,), 1.0, **settings) for problem in (plain, lifted))
        assert distance(one.density[-1], two.density[-1], one.grid.cell_volume) < 1e-12
        assert two.energy[-1] - 3.0 == pytest.approx(one.energy[-1], abs=1e-13)
        assert one.stats["steps"] == two.stats["steps"]

    def test_constant_matters_where_it_should(self):
        """Without mass balance the same constant is felt."""
        plain = replace(mf.problems.gaussian_bumps(), reaction="unbalanced")
        lifted = replace(plain, energy=plain.energy + mf.External(lambda x: 0.5 + 0.0 * x))
        one, two = (mf.solve(problem, (100,), 0.5, save=2, progress=False) for problem in (plain, lifted))
        assert distance(one.density[-1], two.density[-1], one.grid.cell_volume) > 0.1


class TestSymmetry:
    """Local operators bit for bit; sums over the mesh, in another order, to round-off."""

    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("shape", [(57,), (24, 31), (9, 12, 10)], ids=str)
    def test_mirrored_sweeps(self, shape, scheme):
        rng = np.random.default_rng(11)
        grid = mf.Grid([mf.Axis(name, -1, 1) for name in "xyz"[: len(shape)]], shape)
        transport = mf.Transport(grid, SCHEMES[scheme])
        mu, V = rng.random(shape) ** 8, rng.normal(size=shape)
        dt = 0.4 / transport.outflow_rate(V)[0]
        rate = transport.rate(mu, V, dt=dt)
        for axis in range(len(shape)):
            flipped = [np.ascontiguousarray(np.flip(array, axis)) for array in (mu, V)]
            np.testing.assert_array_equal(transport.rate(*flipped, dt=dt), np.flip(rate, axis))

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_permuted_sweeps(self, scheme):
        rng = np.random.default_rng(12)
        axes = [mf.Axis("x", -1, 1), mf.Axis("y", 0, 3)]
        mu, V = rng.random((24, 31)) ** 8, rng.normal(size=(24, 31))
        one = mf.Transport(mf.Grid(axes, (24, 31)), SCHEMES[scheme])
        two = mf.Transport(mf.Grid(axes[::-1], (31, 24)), SCHEMES[scheme])
        dt = 0.4 / one.outflow_rate(V)[0]
        turned = two.rate(np.ascontiguousarray(mu.T), np.ascontiguousarray(V.T), dt=dt)
        np.testing.assert_array_equal(turned.T, one.rate(mu, V, dt=dt))

    def test_reaction(self):
        """Without a normalising sum bit for bit, with it to the last places."""
        rng = np.random.default_rng(13)
        mu, V = rng.random((24, 31)) ** 8, rng.normal(size=(24, 31))
        for turn in (np.transpose, np.flipud, np.fliplr):
            turned = [np.ascontiguousarray(turn(array)) for array in (mu, V)]
            free = exponential_step(mu, V, 0.7, balanced=False)
            np.testing.assert_array_equal(exponential_step(*turned, 0.7, balanced=False), turn(free))
            kept = exponential_step(mu, V, 0.7)
            np.testing.assert_allclose(exponential_step(*turned, 0.7), turn(kept), rtol=1e-15, atol=0)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_mirrored_run(self, scheme, method):
        settings = {"scheme": SCHEMES[scheme], "method": METHODS[method], "save": 2, "progress": False}
        one = mf.solve(mf.problems.gaussian_bumps(centres=(-2.0, 1.5)), (100,), 2.0, **settings)
        two = mf.solve(mf.problems.gaussian_bumps(centres=(2.0, -1.5)), (100,), 2.0, **settings)
        assert distance(one.density[-1], two.density[-1][::-1], one.grid.cell_volume) < 1e-12
        assert two.energy[-1] == pytest.approx(one.energy[-1], rel=1e-12)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_permuted_run(self, scheme):
        settings = {"scheme": SCHEMES[scheme], "save": 2, "progress": False}
        one = mf.solve(mf.problems.gaussian_bumps(centres=CENTRES_2D), (40, 40), 1.0, **settings)
        turned = [point[::-1] for point in CENTRES_2D]
        two = mf.solve(mf.problems.gaussian_bumps(centres=turned), (40, 40), 1.0, **settings)
        assert distance(one.density[-1], two.density[-1].T, one.grid.cell_volume) < 1e-12
        assert two.energy[-1] == pytest.approx(one.energy[-1], rel=1e-12)


class TestLeak:
    """The drift of the mass is measured, not scaled away."""

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("where", ["everywhere", "one-cell"])
    def test_seen(self, where, method, monkeypatch):
        sound = mf.Transport.rate

        def leaky(self, mu, V, out=None, dt=None, temperature=0.0, **options):
            rate = sound(self, mu, V, out, dt, temperature, **options)
            if where == "everywhere":
                rate += 1e-9 * mu
                return rate
            rate[np.argmax(mu)] += 1e-9 / self.grid.cell_volume
            return rate

        monkeypatch.setattr(mf.Transport, "rate", leaky)
        with pytest.warns(mf.RunWarning, match="mass drifted"):
            solution = mf.solve(
                mf.problems.gaussian_bumps(),
                (100,),
                1.0,
                method=METHODS[method],
                save=2,
                progress=False,
                algebra=PassByPass(),  # which asks for the rate that leaks
            )
        d = solution.diagnostics
        assert d["mass"][-1] - 1 == pytest.approx(1e-9, rel=0.03)
        np.testing.assert_allclose(d["mass"] - 1, 1e-9 * d["time"], atol=3e-11)
        assert solution.stats["mass_drift"] == pytest.approx(1e-9, rel=0.03)
        assert solution.density[-1].sum() * solution.grid.cell_volume - 1 == pytest.approx(1e-9, rel=0.03)

    def test_none(self):
        """Without the leak the same runs keep their mass to round-off."""
        for method in METHODS.values():
            solution = mf.solve(mf.problems.gaussian_bumps(), (100,), 1.0, method=method, save=2, progress=False)
            assert solution.stats["mass_drift"] < 1e-13
            assert abs(solution.stats["leak"]) < 1e-15
