"""The limit of fluctuations: closed forms, another route for k = 2, an explicit Volterra solution, clouds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, interpolate, stats

import mfpde as mf

P = mf.problems


class TestClosedForms:
    def test_linear_neuron(self):
        """phi = theta x: n Var u = C e^{-2t}, n Var E = (m - a)^2 C e^{-2t}, and fresh draws keep C."""
        a, m, C = 2.0, -1.0, 0.5
        limit = mf.fluctuations(P.linear_neuron(a, alpha=0.0, mean=m, variance=C), save=[0.3, 1.0])
        decay = np.exp(-2 * limit.times)
        assert limit.converged
        np.testing.assert_allclose(2 * limit.gap, C * decay, rtol=1e-8)
        np.testing.assert_allclose(2 * limit.resampling_gap, C, rtol=1e-9)
        np.testing.assert_allclose(limit.energy_variance, (m - a) ** 2 * C * decay**2, rtol=1e-8)
        np.testing.assert_allclose(limit.variance / limit.resampling_variance, decay[:, None], rtol=1e-8)

    @pytest.mark.parametrize(("a", "b"), [(1.0, 0.5), (0.4, -0.3), (0.0, 2.0)])
    def test_quadratic(self, a, b):
        """F = a x^2/2, K = b x y: the mean's fluctuation decays at a + b, a fresh draw's at a.

        The energy's influence is a/2 e^{-2at} (x^2 - 2 m x) + (a + b) e^{-2(a+b)t} m x, up to a constant.
        """
        m, s = 0.5, 0.64
        energy = mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), weight=b)
        problem = mf.Problem(
            energy=energy + mf.Confinement(x=a) if a else energy,
            axes=[mf.Axis("x", -9, 9)],
            initial=mf.Product(x=stats.norm(m, math.sqrt(s))),
        )
        limit = mf.fluctuations(problem, 2.0, save=[0.5, 2.0])
        t = limit.times
        np.testing.assert_allclose(2 * limit.gap / b, s * np.exp(-2 * (a + b) * t), rtol=1e-7)
        np.testing.assert_allclose(2 * limit.resampling_gap / b, s * np.exp(-2 * a * t), rtol=1e-8)
        # Var(A (x^2 - 2 m x) + B x) = 2 A^2 s^2 + B^2 s
        A, B = 0.5 * a * np.exp(-2 * a * t), (a + b) * m * np.exp(-2 * (a + b) * t)
        np.testing.assert_allclose(limit.energy_variance, 2 * A**2 * s**2 + B**2 * s, rtol=1e-7)

    def test_times(self):
        """Cov(u_s, u_t) = C e^{-(s + t)} of the linear neuron."""
        limit = mf.fluctuations(P.linear_neuron(alpha=0.0, variance=0.5), save=[0.4, 1.0])
        scale = 0.5 / limit.variance[0, 0]
        for i, j in ((0, 1), (1, 2), (0, 2)):
            expected = 0.5 * math.exp(-limit.times[i] - limit.times[j])
            assert scale * limit.between(i, j)[0, 0] == pytest.approx(expected, rel=1e-8)

    def test_clock(self):
        """A schedule is a change of clock, also where it stands still."""
        problem = P.linear_neuron(alpha=0.0)
        schedule = mf.PiecewiseLinear([0, 0.5, 0.5, 1.0], [2.0, 2.0, 0.0, 0.0])
        limit = mf.fluctuations(replace(problem, schedule=schedule), 1.0, save=[0.25, 0.5, 1.0])
        np.testing.assert_allclose(2 * limit.gap, 0.5 * np.exp(-2 * np.array([0, 0.5, 1.0, 1.0])), rtol=1e-7)

    def test_metric(self):
        """A learning rate on the axis is a clock too, of this problem."""
        limit = mf.fluctuations(replace(P.linear_neuron(alpha=0.0), metric=(3.0,)), 0.5, save=2)
        assert 2 * limit.gap[-1] == pytest.approx(0.5 * math.exp(-3.0), rel=1e-7)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_quadratic_single_index(d):
    """k = 2: everything is carried by the scalar s' = c(s), hence ds = c(s) int_0^s dc/c^2; no node moves.

    With x = cot^2 theta_0 and a = e^{4s}: u^2 = a x / (1 + a x). The response is (p, sqrt(M_2) (1 - p)), p = E u^2,
    and cot theta grows at the rate 2 c for V = -(A - B) u^2 + const, A = 1 - p, B = M_2 (1 - p): c = A + B.
    """
    problem = P.single_index(k=2, d=d)
    limit = mf.fluctuations(problem, 2.0, save=[0.5, 2.0], tolerance=1e-6)
    points, w = problem.mu_0.nodes(600)
    x = 1 / np.tan(points[:, 0]) ** 2
    share = d / (d - 1)

    def squares(s):
        a = math.exp(4 * s)
        return a * x / (1 + a * x)

    def flow(t, y):
        u2 = squares(y[0])
        # the speed is share (1 - p); its influence on s accumulates, and p' = 4 E u^2 (1 - u^2)
        slope = 4 * (w @ (u2 * (1 - u2)))
        return np.concatenate([[share * (1 - w @ u2)], -share * (slope * y[1:] + u2 - w @ u2)])

    run = integrate.solve_ivp(flow, (0, 2), np.zeros(1 + len(w)), "DOP853", limit.times, rtol=1e-10, atol=1e-12)
    for i, y in enumerate(run.y.T):
        u2 = squares(y[0])
        psi = u2 - w @ u2 + 4 * (w @ (u2 * (1 - u2))) * y[1:]
        variance = w @ (psi - w @ psi) ** 2
        assert limit.variance[i, 0] == pytest.approx(variance, rel=3e-6)
        assert 2 * limit.gap[i] == pytest.approx(share * variance, rel=3e-6)


def test_explicit_volterra():
    """K(t, s) = int DPhi(T_t) J_{t,s} d_u v(T_s) dmu_0 on a uniform mesh in time, trapezoid rule, extrapolated."""
    problem = P.single_index(k=4, d=16)
    t_end, n = 2.0, 400
    limit = mf.fluctuations(problem, t_end, save=2, nodes=n, tolerance=0.05, rtol=1e-8)
    points, w = problem.mu_0.nodes(len(limit.weights))
    bound = problem.bound_energy
    r, h = 3, 1e-5

    def slopes(theta):
        return (bound.features(theta[:, None] + h) - bound.features(theta[:, None] - h)) / (2 * h)

    def velocity(theta):
        return -bound.gradient(theta[:, None], bound.response(theta[:, None], w))[:, 0]

    def flow(t, y):
        theta = y[: len(w)]
        u = bound.response(theta[:, None], w)
        Dv = -(bound.gradient(theta[:, None] + h, u) - bound.gradient(theta[:, None] - h, u))[:, 0] / (2 * h)
        return np.concatenate([velocity(theta), Dv])

    def covariance(m):
        times = np.linspace(0, t_end, m + 1)
        start = np.concatenate([points[:, 0], np.zeros(len(w))])
        run = integrate.solve_ivp(flow, (0, t_end), start, "DOP853", times, rtol=1e-9, atol=1e-11)
        theta, stretch = run.y[: len(w)].T, np.exp(run.y[len(w) :].T)
        features = np.stack([bound.features(x[:, None]) for x in theta])
        left = np.stack([slopes(x) for x in theta]) * stretch[:, None, :]
        right = -np.stack([slopes(x) for x in theta]) * (w / stretch)[:, None, :]  # L'' = 1, G = 1
        g = np.empty_like(features)
        step = t_end / m
        for i in range(m + 1):
            known = features[i].copy()
            for j in range(i):
                known += (0.5 if j == 0 else 1.0) * step * (left[i] @ right[j].T) @ g[j]
            implicit = (0.5 * step if i else 0.0) * left[i] @ right[i].T
            g[i] = np.linalg.solve(np.eye(r) - implicit, known)
        psi = g[-1] - (g[-1] @ w)[:, None]
        return (psi * w) @ psi.T

    coarse, fine = covariance(20), covariance(40)
    expected = (4 * fine - coarse) / 3
    np.testing.assert_allclose(limit.covariance[-1], expected, atol=1e-3 * np.abs(expected).max())


def network(loss="squared", **options):
    x = np.linspace(-1, 1, 12)
    y = np.sign(x - 0.1) if loss == "logistic" else np.sin(3 * x)
    return mf.Problem(
        energy=mf.TwoLayerNetwork(x, y, activation="tanh", loss=loss, axes=("c", "a"), roles=("amplitude", "weight")),
        axes=[mf.Axis("c", -6, 6), mf.Axis("a", -6, 6)],
        initial=mf.Product(c=stats.norm(0.3, 0.5), a=stats.norm(0.5, 0.6)),
        t_end=1.0,
        **options,
    )


@pytest.mark.parametrize(
    "problem",
    [
        network(),
        network("logistic"),
        network("huber", metric=(0.5, lambda c, a: 1 + 0.1 * c**2)),
        P.three_gaussians(alpha=0.0),
        network(alpha=2.0),
        network("logistic", alpha=mf.PiecewiseLinear([0.0, 0.4, 0.4, 1.0], [3.0, 3.0, 0.0, 1.0]), schedule=0.7),
        P.three_gaussians(alpha=1.0),
    ],
    ids=["squared", "logistic", "huber-metric", "three-gaussians", "reaction", "reaction-in-time", "three-reaction"],
)
def test_influence_is_a_derivative(problem):
    """Move a little of the mass of mu_0 to one node: the response at t changes by psi there, by differences."""
    nodes, weights = problem.mu_0.nodes(9)
    start = mf.Particles(nodes, weights)
    atoms = replace(problem, initial=start)
    limit = mf.fluctuations(atoms, 1.0, save=2, rtol=1e-9)
    j, h = int(np.argmax(weights)), 1e-3

    def run(size):
        moved = (1 - size) * weights + size * (np.arange(len(weights)) == j)
        exact = mf.characteristics(replace(problem, initial=mf.Particles(nodes, moved)), 1.0, save=2)
        return np.append(exact.response[-1], exact.energy[-1])

    slope = (8 * (run(h) - run(-h)) - (run(2 * h) - run(-2 * h))) / (12 * h)
    found = np.append(limit.influence[-1, :, j], limit.energy_influence[-1, j])
    np.testing.assert_allclose(found, slope, atol=2e-6 * np.abs(found).max())


def test_cloud():
    """Replica by replica: u^n = u + (1/n) sum psi(theta_i) + O(1/n), and n Var over replicas is the limit's."""
    problem = P.gaussian_bumps(alpha=0.0, weights=(0.45, 0.3))
    n, t, dt, replicas = 2000, 1.0, 0.02, 60
    limit = mf.fluctuations(problem, t, save=2, nodes=60)
    cloud = mf.particles.simulate(problem, n, dt=dt, t_end=t, save=2, replicas=replicas, seed=3)
    assert cloud.positions is not None
    order = np.argsort(limit.points[:, 0])
    psi = interpolate.CubicSpline(limit.points[order, 0], limit.influence[-1][:, order], axis=1)
    predicted = np.stack([psi(x[:, 0]).mean(axis=1) for x in cloud.positions[:, 0]])
    found = cloud.response[:, -1] - cloud.response[:, -1].mean(axis=0)
    predicted -= predicted.mean(axis=0)
    # what is left is O(1/n) of the loss' curvature, and O(dt)
    rest = np.sqrt(((found - predicted) ** 2).sum() / (found**2).sum())
    assert rest < 0.05
    total = n * (found**2).sum() / (replicas - 1)
    trace = np.trace(limit.covariance[-1])
    # the trace is a sum of few independent squares: its relative deviation is at most sqrt(2 / replicas)
    assert abs(total / trace - 1) < 5 * math.sqrt(2 / replicas)


def two_types(alpha, y=0.3):
    """Neurons at the ends of [0, 1] with a unit that is flat there, so that none moves: two types, V = 0 and u - y."""
    unit = mf.Features(lambda x: np.sin(0.5 * np.pi * x)[None] ** 2, mf.SquaredLoss(np.array([y])))
    return mf.Problem(
        energy=unit,
        axes=[mf.Axis("x", 0.0, 1.0)],
        initial=mf.Particles(np.array([[0.0], [1.0]]), np.array([0.4, 0.6])),
        alpha=alpha,
    )


class TestTwoTypes:
    """The share p of the second type: p' = F(p) = -a (p - y) p (1 - p), with noise of variance a |p - y| p (1 - p) / n.

    One of the second type is killed at the rate a (p - y)(1 - p), and replaced by one of the first with probability
    1 - p; one of the first is duplicated at the rate a (p - y) p, and replaces one of the second with probability p:
    together a (p - y) p (1 - p) (1 - p + p) changes of 1/n. So C' = 2 F'(p) C + a |p - y| p (1 - p), and between two
    times the covariance follows F' alone. Where deaths and duplications make up for each other, a death of the second
    type takes 1/n of it and gives back p/n, and a duplication of the first gives 1/n and takes (1 - p)/n of it:
    p (1 - p) (1 - p)^2 + (1 - p) p p^2 in place of p (1 - p).
    """

    a, y, times = 4.0, 0.3, np.array([0.5, 2.0])

    def expected(self, reaction):
        a, y = self.a, self.y

        def flow(t, state):
            p, C, _ = state
            slope = -a * (p * (1 - p) + (p - y) * (1 - 2 * p))
            share = {"one-for-one": 1.0, "birth-death": (1 - p) ** 2 + p**2, "weights": 0.0}[reaction]
            return [-a * (p - y) * p * (1 - p), 2 * slope * C + share * a * abs(p - y) * p * (1 - p), slope]

        run = integrate.solve_ivp(flow, (0, 2), [0.6, 0.24, 0.0], "DOP853", self.times, rtol=1e-11, atol=1e-13)
        return run.y

    @pytest.mark.parametrize("reaction", ["birth-death", "one-for-one", "weights"])
    def test_variance(self, reaction):
        limit = mf.fluctuations(two_types(self.a, self.y), 2.0, save=self.times, reaction=reaction)
        p, C, _ = self.expected(reaction)
        assert limit.converged
        np.testing.assert_allclose(limit.variance[1:, 0], C, rtol=1e-6)
        np.testing.assert_allclose(limit.resampling_variance[1:, 0], p * (1 - p), rtol=1e-9)
        # E = (p - y)^2 / 2
        np.testing.assert_allclose(limit.energy_variance[1:], (p - self.y) ** 2 * C, rtol=1e-6)

    def test_times(self):
        limit = mf.fluctuations(two_types(self.a, self.y), 2.0, save=self.times, reaction="one-for-one")
        _, C, slope = self.expected("one-for-one")
        expected = C[0] * math.exp(slope[1] - slope[0])
        assert limit.between(1, 2)[0, 0] == pytest.approx(expected, rel=1e-6)
        assert limit.between(2, 1)[0, 0] == pytest.approx(expected, rel=1e-6)


def trace_of_clouds(problem, dynamics, n, dt, replicas=400):
    """n times the trace of the covariance of the response at t = 1, and its standard deviation."""
    cloud = mf.particles.simulate(problem, n, dynamics=dynamics, dt=dt, t_end=1.0, save=2, replicas=replicas, seed=5)
    found = cloud.response[:, -1] - cloud.response[:, -1].mean(axis=0)
    covariance = n * found.T @ found / (replicas - 1)
    # that of the trace of a Wishart matrix
    return np.trace(covariance), math.sqrt(2 / replicas) * np.linalg.norm(covariance)


class TestCloudsThatReact:
    problem = P.gaussian_bumps(alpha=3.0, weights=(0.45, 0.3))

    def trace(self, reaction):
        limit = mf.fluctuations(self.problem, 1.0, save=2, reaction=reaction)
        return np.trace(limit.covariance[-1]), np.trace(limit.noise[-1, :, -1])

    def test_one_for_one(self):
        partner = mf.particles.BirthDeath(control=mf.particles.PopulationControl.PARTNER)
        found, deviation = trace_of_clouds(self.problem, partner, 400, 0.01)
        wanted, noise = self.trace("one-for-one")
        assert abs(found - wanted) < 4 * deviation
        assert noise > 8 * deviation  # it would be missed

    def test_weights(self):
        found, deviation = trace_of_clouds(self.problem, mf.particles.Weights(), 400, 0.01)
        wanted, noise = self.trace("weights")
        assert abs(found - wanted) < 4 * deviation
        assert noise == 0.0

    def test_birth_death(self):
        """In steps of M events others are chosen for E|M_+ - M_-| = (2 M / pi)^(1/2) of them, a part of one for one."""
        n, dt = 1000, 0.01
        found, deviation = trace_of_clouds(self.problem, mf.particles.BirthDeath(), n, dt)
        (wanted, noise), (most, _) = self.trace("birth-death"), self.trace("one-for-one")
        exact = mf.characteristics(self.problem, 1.0, save=11, tolerance=1e-4)
        bound = self.problem.bound_energy
        V = [bound.potential(x, bound.response(x, w)) for x, w in zip(exact.points, exact.weights, strict=True)]
        rates = [w @ np.abs(v - w @ v) for v, w in zip(V, exact.weights, strict=True)]
        events = n * 3.0 * dt * np.array(rates)
        share = np.average(np.sqrt(2 / (np.pi * events)), weights=rates)
        assert abs(found - (wanted + share * (most - wanted))) < 4 * deviation
        assert noise > 8 * deviation
        assert most - wanted > 4 * deviation


def test_walls():
    """Neurons at a wall stay: V = -x + u x moves them right, the ones at the wall no longer count in the feedback."""
    problem = mf.Problem(
        energy=mf.External(lambda x: -2.0 * x, lambda x: (-2.0 + 0.0 * x,))
        + mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel())),
        axes=[mf.Axis("x", 0.0, 1.0)],
        initial=mf.Particles(np.array([[0.1], [0.9]]), np.array([0.5, 0.5])),
    )
    limit = mf.fluctuations(problem, 0.5, save=2, rtol=1e-9)
    # the right one reaches the wall at t1; before, u' = 2 - u from 1/2; then u = (1 + x)/2 with x' = 2 - u = (3 - x)/2
    t1 = math.log(1.5 / 1.4)  # 2 - u = 1.5 e^{-t}, and it has moved by 0.1 = 1.5 (1 - e^{-t})
    move = 3 - (3 - 0.2) * math.exp(-0.5 * (0.5 - t1))

    def final(p):
        """u at t = 0.5 with mass p on the left."""
        u0 = 0.1 * p + 0.9 * (1 - p)
        t = -math.log(1 - 0.1 / (2 - u0))
        top = (2 - (1 - p)) / p  # x' = 2 - (1 - p) - p x
        x = top - (top - 0.2) * math.exp(-p * (0.5 - t))
        return p * x + 1 - p

    assert final(0.5) == pytest.approx(0.5 * move + 0.5, rel=1e-12)
    h = 1e-4
    slope = (final(0.5 + h) - final(0.5 - h)) / (2 * h)
    scale = limit.influence[0, 0, 0] / (0.1 - 0.5)  # the feature is x up to a factor
    # psi in the direction delta_left - mu_0 is half of that from right to left
    assert limit.influence[-1, 0, 0] / scale == pytest.approx(0.5 * slope, rel=1e-6)


def test_features():
    """Every energy: response = features @ weights, V = slope @ features + what no measure changes."""
    rng = np.random.default_rng(1)
    data = (np.linspace(-1, 1, 30), rng.standard_normal((30, 2)))
    many = mf.Problem(
        energy=mf.TwoLayerNetwork(
            *data, axes=("c", "e", "a"), roles=("amplitude", "amplitude", "weight"), activation="erf"
        )
        + mf.Confinement(c=0.1),
        axes=[mf.Axis(name, -3, 3) for name in ("c", "e", "a")],
        initial=mf.Product(c=stats.norm(0, 0.4), e=stats.norm(0, 0.4), a=stats.norm(0, 0.4)),
    )
    plane = P.gaussian_bumps(centres=[(-1.5, -1.0), (1.5, 1.0)])
    for problem in (many, plane, P.three_gaussians(), P.single_index(k=5), P.linear_neuron(), network("logistic")):
        bound = problem.bound_energy
        points = problem.mu_0.sample(40, rng)
        weights = rng.random(40)
        table = bound.features(points)
        u, v = bound.response(points, weights), rng.standard_normal(bound.response_size)
        np.testing.assert_allclose(table @ weights, u, atol=1e-11 * np.abs(u).max())
        fixed = [bound.potential(points, x) - bound.slope(x) @ table for x in (u, v)]
        scale = np.abs(bound.potential(points, v)).max()
        np.testing.assert_allclose(fixed[0], fixed[1], atol=1e-10 * scale)


class TestRefusals:
    @pytest.mark.parametrize(
        ("problem", "message"),
        [
            (
                replace(P.gaussian_bumps(alpha=1.0), reaction=mf.Reaction.UNBALANCED),
                "use the balanced reaction, or alpha=0",
            ),
            (replace(P.gaussian_bumps(alpha=1.0), rate=np.tanh), "leave it out"),
            (P.gaussian_bumps(alpha=0.0, temperature=0.1), "temperature 0 only"),
            (P.quadratic_well(alpha=0.0), "no interaction"),
            (
                mf.Problem(
                    energy=mf.Interaction(mf.PairKernel(lambda p, q: np.abs(p - q.T))),
                    axes=[mf.Axis("x", -1, 1)],
                    initial=mf.Product(x=stats.uniform(-0.5, 1)),
                ),
                "does not factorise; fluctuations needs a response",
            ),
        ],
        ids=["unbalanced", "rate", "temperature", "free", "direct"],
    )
    def test_problems(self, problem, message):
        with pytest.raises(ValueError, match=message):
            mf.fluctuations(problem, 1.0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"t_end": 0.0}, "finite and positive"),
            ({"tolerance": 1e-9}, "between 1e-8 and 0.1"),
            ({"t_end": "long"}, "finite and positive, not 'long'"),
            ({"max_nodes": 0.5}, "positive integer"),
            ({"rtol": 1e-2}, "between 1e-11 and 1e-3"),
            ({"nodes": 500, "max_nodes": 100}, "exceed max_nodes"),
        ],
        ids=["end", "tolerance", "text", "max-nodes", "rtol", "nodes"],
    )
    def test_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            mf.fluctuations(P.linear_neuron(alpha=0.0), **options)

    def test_warning(self):
        with pytest.warns(mf.RunWarning, match="raise max_nodes"):
            limit = mf.fluctuations(P.single_index(k=4, d=16), 5.0, save=2, nodes=16, max_nodes=40)
        assert not limit.converged
        assert limit.error_estimate > 1e-5


def test_text():
    limit = mf.fluctuations(P.linear_neuron(alpha=0.0), save=2)
    assert "1 moments" in str(limit)
    assert "linear-neuron" in repr(limit)
