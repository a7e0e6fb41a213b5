"""Networks of any number of inner axes and outputs by the compiled program: closed forms, NumPy, and Python."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.equation.energy.activations import hermite
from mfpde.lagrangian import lane, nodes
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.assembly import engine_of, from_tables, lane_of
from mfpde.lagrangian.backward import Backward
from mfpde.lagrangian.compiled.network_packing import NetworkMotion
from mfpde.lagrangian.lane import Clock, LaneRun
from mfpde.lagrangian.nodes import Dynamics, Stepping, density_back

X = np.linspace(-1.5, 1.5, 12)
PLANE = np.random.default_rng(7).uniform(-1.0, 1.0, (14, 2))
SPACE = np.random.default_rng(8).uniform(-1.0, 1.0, (14, 3))
TIMES = np.array([0.0, 0.3, 0.77, 1.0])


def wave(x):
    return np.sin(2.0 * x.reshape(len(x), -1)[:, 0]) + 0.3 * x.reshape(len(x), -1)[:, -1]


def units(x, y=None, *, weights=None, bias=True, amplitude=True, half=4.0, plus=None, **options):
    """A problem of one network: amplitudes, weights and a bias."""
    y = wave(x) if y is None else y
    p, q = x.reshape(len(x), -1).shape[1], 1 if y.ndim == 1 else y.shape[1]
    names = [f"c{i}" for i in range(q if amplitude else 0)] + [f"a{i}" for i in range(p)] + ["b"] * bias
    roles = ["amplitude"] * (q if amplitude else 0) + ["weight"] * p + ["bias"] * bias
    keywords = {key: options.pop(key) for key in ("activation", "loss", "tolerance") if key in options}
    energy = mf.TwoLayerNetwork(x, y, weights, axes=tuple(names), roles=tuple(roles), **keywords)
    start = mf.Product(**{name: stats.norm(0.2 * i, half / 8) for i, name in enumerate(names)})
    return mf.Problem(
        energy=energy if plus is None else energy + plus,
        axes=[mf.Axis(name, -half, half) for name in names],
        **{"initial": start, "t_end": 1.0, "alpha": 1.0, **options},
    )


def well(*x):
    return sum(0.05 * v**2 + 0.1 * np.cos(v + k) for k, v in enumerate(x))


def circle():
    """Weights on circles: units sin(a1 x1 + a2 x2) of whole numbers x do not see a whole turn."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, -1.0]])
    axes = [mf.Axis("c", -3, 3), *(mf.Axis(f"a{k}", 0, 2 * math.pi, mf.End.PERIODIC) for k in range(2))]
    energy = mf.TwoLayerNetwork(
        x, [0.5, -0.2, 0.3, 0.1], activation="sin", axes=("c", "a0", "a1"), roles=("amplitude", "weight", "weight")
    )
    start = mf.Product(c=stats.norm(0.3, 0.4), a0=stats.norm(5.8, 0.5), a1=stats.norm(1.0, 0.5))
    return mf.Problem(energy=energy, axes=axes, initial=start, t_end=1.0)


def walls():
    start = mf.Product(**{name: stats.uniform(-0.8, 1.6) for name in ("c0", "a0", "b")})
    return units(X, 5.0 * wave(X), half=0.8, initial=start, alpha=0.5)


def another_axis(plus=None):
    """An axis before all others that the network does not have."""
    network, names = units(X).energy, ("e", "c0", "a0", "b")
    start = mf.Product(**{name: stats.norm(0.2 * i, 0.5) for i, name in enumerate(names)})
    energy = network if plus is None else network + plus
    return mf.Problem(energy=energy, axes=[mf.Axis(name, -4, 4) for name in names], initial=start, t_end=1.0)


PROBLEMS = {
    "weight and bias": units(X),
    "two weights": units(PLANE, bias=False),
    "three weights": units(SPACE, bias=False),
    "two weights and a bias": units(PLANE),
    "three inner axes, no amplitude": units(PLANE, amplitude=False),
    "four inner axes": units(SPACE, amplitude=False),
    "two outputs": units(X, np.stack([np.sin(2 * X), np.cos(X)], axis=1), bias=False),
    "two outputs and a bias": units(X, np.stack([np.sin(2 * X), np.cos(X)], axis=1)),
    "three outputs": units(X, np.stack([np.sin(X), np.cos(X), X], axis=1), bias=False, half=3.0),
    "logistic": units(X, np.sign(np.sin(2 * X) + 0.1), loss="logistic"),
    "logistic, two outputs": units(X, np.stack([np.sign(X), np.sign(X - 0.5)], axis=1), loss="logistic"),
    "huber": units(X, loss=lambda y, w: mf.HuberLoss(y, w, 0.3)),
    "sample weights": units(X, weights=1.0 + X**2),
    "many data": units(np.linspace(-1.0, 1.0, 300), half=2.0),
    "many data, logistic": units(
        np.linspace(-1.0, 1.0, 300), np.sign(np.sin(3 * np.linspace(-1.0, 1.0, 300) + 0.1)), loss="logistic", half=2.0
    ),
    "one datum": units(np.array([0.7]), np.array([0.4])),
    "sigmoid": units(X, activation="sigmoid"),
    "gaussian": units(PLANE, activation="gaussian", bias=False),
    "confinement": units(X, plus=mf.Confinement(c0=0.1, a0=0.05)),
    "given": units(X, plus=mf.External(well, axes=("c0", "a0", "b"))),
    "unbalanced": units(X, reaction="unbalanced", plus=mf.External(well)),
    "without birth and death": units(X, alpha=0.0),
    "rate": units(X, rate=lambda V: np.sinh(V) + V),
    "metric": units(X, metric=[0.5, None, 2.0]),
    "metric by functions": units(
        X, metric=[lambda c, a, b: 1 / (1 + a**2), None, lambda c, a, b: (2.0 + np.sin(c)) * np.exp(-(b**2))]
    ),
    "schedules": units(X, schedule=mf.PowerLaw(-0.5), alpha=mf.ExponentialDecay(2.0, 0.5)),
    "jumps of the rate": units(X, alpha=mf.PiecewiseLinear([0, 0.3, 0.3, 0.7], [1, 2, 0.5, 1.5])),
    "not standardised": units(100.0 * X, wave(X)),
    "another axis": another_axis(),
    "another axis, confined": another_axis(mf.Confinement(e=0.3, a0=0.1)),
    "periodic": circle(),
    "walls": walls(),
}
"""One of each kind of thing that moves the nodes of a network."""
PER_AXIS = {3: 6, 4: 4}


def start_of(problem):
    d = len(problem.axes)
    return nodes_of(problem.mu_0.blocks((PER_AXIS[d],) * d))


def prepared(problem, accuracy, rtol=1e-10):
    """A run, its interval begun."""
    dynamics, start = Dynamics(problem), start_of(problem)
    made = lane_of(dynamics, accuracy)
    assert not isinstance(made, str), made
    assert isinstance(made.motion, NetworkMotion)
    run = LaneRun(made, dynamics, start, np.array([0.0, problem.t_end]), Stepping(rtol, quick=True), None)
    run.alpha = run._alpha(0.0, min([run.end, *dynamics.breaks(problem.t_end)]))
    run.clock[[Clock.NOW, Clock.END, Clock.LOW, Clock.HIGH]] = 0.0, run.end, 0.0, run.end
    return run


def rates_of(run):
    """The rates of change at the state of a run."""
    run.call(allowed=1)
    return run.space[: run.y.size].reshape(-1, run.n).copy()


class TestRightHandSide:
    @pytest.mark.parametrize("kind", PROBLEMS)
    @pytest.mark.parametrize("accuracy", [1e-6, 1e-10])
    def test_is_that_of_numpy_and_of_the_problem(self, kind, accuracy):
        """The rates at the start: the program's, from the same tables in NumPy, and by the energy itself."""
        problem = PROBLEMS[kind]
        run = prepared(problem, accuracy)
        dynamics, (points, logs), d = run.dynamics, start_of(problem), run.d
        rates, weights = rates_of(run), np.exp(logs)
        V, velocity, energy = from_tables(run.lane.motion, points, weights)
        # where a unit's argument is between two pieces, either may be taken
        np.testing.assert_allclose(rates[:d], velocity, atol=1e-3 * accuracy * np.abs(velocity).max())
        run.by_tables = True
        run.begin()
        run.go()
        own = dynamics.bound.energy(points, weights)
        assert run.found[0, 0] == pytest.approx(energy, rel=1e-3 * accuracy)
        assert energy == pytest.approx(own, abs=10 * accuracy * max(abs(own), np.abs(V).max()))
        response = dynamics.bound.response(points, weights)
        own = dynamics.velocity(points, response)
        np.testing.assert_allclose(rates[:d], own, atol=30 * accuracy * np.abs(own).max())
        if dynamics.reacts:
            growth = V if problem.rate is None else problem.rate(V)
            growth = growth - (weights @ growth if dynamics.balanced else 0.0)
            size = np.abs(growth).max()
            np.testing.assert_allclose(rates[d], -dynamics.alpha(1e-13, 1.0) * growth, atol=10 * accuracy * size)

    @pytest.mark.parametrize("kind", PROBLEMS)
    def test_runs_agree_with_python(self, kind):
        dynamics, start = Dynamics(PROBLEMS[kind]), start_of(PROBLEMS[kind])
        stepping = Stepping(1e-9)
        found = lane.integrate(dynamics, start, TIMES, stepping)
        python = nodes.integrate(dynamics, start, TIMES, stepping)
        assert found.engine.compiled, found.engine.reason
        assert not python.engine.compiled
        # a step in which a node comes to a wall is not smooth, and 216 nodes come one after the other
        size, apart = np.abs(python.energy).max(), 1e-6 if kind == "walls" else 1e-8
        np.testing.assert_allclose(found.energy, python.energy, atol=apart * size)
        np.testing.assert_allclose(found.weights, python.weights, atol=apart)
        np.testing.assert_allclose(found.coordinates, python.coordinates, atol=apart)

    @pytest.mark.parametrize("rtol", [1e-4, 1e-6])
    @pytest.mark.parametrize("kind", ["weight and bias", "two outputs and a bias", "logistic", "given"])
    def test_coarse_tables_are_as_good_as_the_tolerance(self, kind, rtol):
        dynamics, start = Dynamics(PROBLEMS[kind]), start_of(PROBLEMS[kind])
        found, best = (lane.integrate(dynamics, start, TIMES, Stepping(tol, quick=True)) for tol in (rtol, 1e-10))
        assert np.abs(found.energy - best.energy).max() <= 20 * rtol * np.abs(best.energy).max()

    def test_a_coordinate_that_is_no_number_gives_rates_that_are_none(self):
        """And nothing is read where there is no table."""
        run = prepared(PROBLEMS["weight and bias"], 1e-8)
        run.y[run.n + 3] = math.nan
        rates = rates_of(run)
        assert np.isnan(rates[:3]).all()

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 31, 32, 33, 65])
    def test_any_number_of_nodes(self, count):
        """Nodes come in blocks, and in pairs; what was in the room of those that fill up a block does not matter."""
        problem = PROBLEMS["given"]
        points, logs = (values[:count] for values in start_of(problem))
        dynamics = Dynamics(problem)
        made = lane_of(dynamics, 1e-10)
        run = LaneRun(made, dynamics, (points, logs), np.array([0.0, 1.0]), Stepping(1e-10, quick=True), None)
        run.alpha = run._alpha(0.0, run.end)
        run.clock[[Clock.END, Clock.HIGH]] = run.end
        rates = rates_of(run)
        weights = np.exp(logs) / np.exp(logs).sum()
        velocity, energy = from_tables(made.motion, points, weights)[1:]
        np.testing.assert_allclose(rates[:3], velocity, atol=1e-10)
        run.by_tables = True
        run.begin()
        run.space[:] = 7.0
        run.go()
        assert run.found[0, 0] == pytest.approx(energy, rel=1e-10)


class TestInputs:
    def test_few_of_many_data_are_looked_up(self):
        """As many as the units on the box have dimensions, to the accuracy: fewer for a coarser one."""
        dynamics = Dynamics(PROBLEMS["many data"])
        coarse, fine = (lane_of(dynamics, accuracy).motion.inputs.shape[1] for accuracy in (1e-4, 1e-8))
        assert coarse < fine < 60
        assert PROBLEMS["many data"].energy.x.shape == (300, 1)

    def test_all_data_count_where_the_loss_needs_them(self):
        """The logistic loss is of all outputs, a squared one of as few as there are inputs."""
        squared, logistic = (
            lane_of(Dynamics(PROBLEMS[kind]), 1e-6).motion for kind in ("many data", "many data, logistic")
        )
        assert len(logistic.matrix) == 300
        assert squared.matrix.shape[0] == squared.matrix.shape[1] < 60

    def test_tables_are_cubics_where_these_do(self):
        dynamics = Dynamics(PROBLEMS["weight and bias"])
        assert lane_of(dynamics, 1e-6).motion.table.shape[1] == 4
        assert lane_of(dynamics, 1e-11).motion.table.shape[1] == 8


class TestWhichEngine:
    @pytest.mark.parametrize(
        ("problem", "reason"),
        [
            (units(X, plus=mf.External(lambda c, a, b: c * a)), "is no sum of functions of one coordinate"),
            (units(X, plus=mf.External(lambda c, a, b: np.abs(a - 0.123))), "not smooth enough"),
            (units(X, plus=mf.External(lambda c, a, b: np.where(a > 3.9, np.nan, a))), "not finite everywhere"),
            (units(X, metric=[lambda c, a, b: 2 + np.sin(c + a), None, None]), "the metric of axis 'c0' is no product"),
            (units(X, plus=mf.Interaction(mf.SeparableKernel(a0=mf.GaussianKernel(1.0)))), "beside a network is not"),
        ],
    )
    def test_what_is_moved_in_python_says_why(self, problem, reason):
        engine = engine_of(Dynamics(problem), 1e-8)
        assert not engine.compiled
        assert reason in engine.reason

    def test_several_networks(self):
        problem = units(X)
        two = mf.Problem(energy=problem.energy + problem.energy, axes=problem.axes, initial=problem.initial, t_end=1.0)
        assert engine_of(Dynamics(two), 1e-8) == (False, "there are 2 networks")

    def test_a_loss_of_the_users(self):
        class Quartic(mf.energy.Loss):
            def __init__(self, targets, weights):
                self.targets = targets

            def value(self, u):
                return float(np.sum((u - self.targets) ** 4))

            def gradient(self, u):
                return 4.0 * (u - self.targets) ** 3

        engine = engine_of(Dynamics(units(X, loss=Quartic)), 1e-8)
        assert engine == (False, "the loss Quartic of a network is not compiled")

    def test_units_that_jump_have_no_characteristics(self):
        with pytest.raises(ValueError, match="discontinuous"):
            Dynamics(units(X, activation="relu"))

    def test_the_result_says_which(self):
        found = mf.characteristics(PROBLEMS["weight and bias"], 0.1, tolerance=1e-3, progress=False)
        assert str(found.engine) == "compiled: 12 inputs of a network"


class TestCalls:
    @staticmethod
    @cache
    def whole():
        return TestCalls.run()

    @staticmethod
    def run():
        problem = PROBLEMS["two outputs and a bias"]
        return lane.integrate(Dynamics(problem), start_of(problem), TIMES, Stepping(1e-9))

    def test_an_interrupted_run_is_the_same_bit_by_bit(self, monkeypatch):
        monkeypatch.setattr(lane, "FIRST_SLICE", 0.0)
        monkeypatch.setattr(lane, "SLICE", 0.0)
        whole = self.whole()
        found = self.run()
        assert found.engine.compiled
        np.testing.assert_array_equal(found.points, whole.points)
        np.testing.assert_array_equal(found.weights, whole.weights)
        np.testing.assert_array_equal(found.energy, whole.energy)

    def test_walls_hold(self):
        found = lane.integrate(Dynamics(PROBLEMS["walls"]), start_of(PROBLEMS["walls"]), TIMES, Stepping(1e-8))
        assert found.points.min() == -0.8
        assert found.points.max() == 0.8


class TestClosedForms:
    @pytest.mark.parametrize("alpha", [0.0, 2.0])
    @pytest.mark.parametrize("p", [1, 2])
    def test_linear_units_on_one_datum(self, p, alpha):
        """With sigma(t) = t and the loss (u - y)^2 / 2 the output u = z.m has u' = -(|x|^2 + alpha x'Sx) (u - y).

        V = (u - y) z.x is linear: transport moves all of the mass alike, and birth and death tilt a normal law, which
        keeps its covariance S = I. Here x has p components and the 1 of the bias, and the mean at the start is m.
        """
        x, y = np.array([[0.6, -0.4][:p]]), np.array([1.5])
        found = mf.characteristics(
            units(x, y, amplitude=False, half=8.0, activation=hermite(1), alpha=alpha, t_end=0.5),
            save=4,
            tolerance=1e-6,
            progress=False,
        )
        full = np.append(x[0], 1.0)
        excess = full @ (0.2 * np.arange(p + 1)) - y[0]
        rate = full @ full * (1.0 + alpha)
        exact = 0.5 * (excess * np.exp(-rate * found.times)) ** 2
        np.testing.assert_allclose(found.energy, exact, rtol=1e-6)

    def test_two_outputs_on_one_datum(self):
        """All mass at (c, a, b), inner coordinates at rest: c_q' = -(c_q s - y_q) s with s = sin(a x + b)."""
        x, y, s = np.array([0.5]), np.array([[0.7, -0.4]]), math.sin(0.5 * 0.8 + 0.3)
        problem = units(
            x, y, activation="sin", metric=[1.0, 1.0, 0.0, 0.0], t_end=2.0,
            initial=mf.Dirac(c0=1.0, c1=0.5, a0=0.8, b=0.3),
        )  # fmt: skip
        found = mf.characteristics(problem, save=4, tolerance=1e-9, progress=False)
        assert found.engine.compiled
        for q, first in enumerate((1.0, 0.5)):
            c = y[0, q] / s + (first - y[0, q] / s) * np.exp(-(s**2) * found.times)
            np.testing.assert_allclose(found.points[:, 0, q], c, rtol=1e-8)


class TestDensity:
    @pytest.mark.parametrize(
        "kind",
        [
            "weight and bias",
            "two weights",
            "three inner axes, no amplitude",
            "two outputs",
            "logistic",
            "many data",
            "given",
            "unbalanced",
            "rate",
            "metric by functions",
            "schedules",
            "periodic",
            "another axis",
            "another axis, confined",
            "two weights and a bias",
        ],
    )
    def test_the_way_back_is_that_in_python(self, kind):
        """By second derivatives of tables, and by differences of gradients; of points well inside."""
        problem = PROBLEMS[kind]
        dynamics, start = Dynamics(problem), start_of(problem)
        found = Backward(dynamics, start, problem.t_end, Stepping(1e-9, judged=False))
        S, lower = dynamics.clock(0.77), np.array([axis.lower for axis in problem.axes])
        places = np.random.default_rng(10).uniform(0.35, 0.65, (12, len(lower)))
        rows = lower + places * dynamics.length
        assert found.past is not None
        there = found.past.density(rows, S)
        python = density_back(dynamics, found.record, rows, S, found.t_end, 1e-9)
        assert there.min() > 0.0
        np.testing.assert_allclose(there, python, rtol=1e-7)

    def test_a_closed_form(self):
        """Linear units on one datum, nothing born: all mass moves by -x (1 - exp(-|x|^2 t)) (m.x - y) / |x|^2."""
        x, y, t = np.array([[0.6]]), np.array([1.5]), 0.7
        problem = units(x, y, amplitude=False, half=8.0, activation=hermite(1), alpha=0.0)
        found = mf.characteristics(problem, t, save=2, tolerance=1e-8, progress=False)
        full, mean = np.array([0.6, 1.0]), np.array([0.0, 0.2])
        moved = mean - full * (full @ mean - y[0]) * (1.0 - math.exp(-(full @ full) * t)) / (full @ full)
        rows = np.random.default_rng(3).normal(0.0, 1.0, (20, 2))
        exact = np.exp(-0.5 * ((rows - moved) ** 2).sum(axis=1)) / (2.0 * math.pi)
        np.testing.assert_allclose(found.density_at(rows, t), exact, rtol=1e-6)

    def test_mass(self):
        """The density's sum over a mesh is the mass: midpoints are exact for what ends far from the walls."""
        problem = units(X)
        found = mf.characteristics(problem, 0.5, save=2, tolerance=1e-5, progress=False)
        density = found.density((24, 24, 24))
        assert density.sum() * (8.0 / 24) ** 3 == pytest.approx(1.0, abs=1e-5)


class TestSearch:
    @pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
    @pytest.mark.parametrize("kind", ["weight and bias", "two weights", "three inner axes, no amplitude"])
    def test_errors_are_within_their_bars(self, kind, tolerance):
        best = mf.characteristics(PROBLEMS[kind], save=3, tolerance=1e-6, progress=False)
        found = mf.characteristics(PROBLEMS[kind], save=3, tolerance=tolerance, progress=False)
        assert found.converged
        assert found.engine.compiled
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)
        apart = np.abs(found.response - best.response).max(axis=1, initial=0.0)
        assert np.all(apart <= found.response_error + best.response_error)

    def test_four_axes(self):
        kind, keywords = PROBLEMS["four inner axes"], {"save": 2, "max_nodes": 200_000, "progress": False}
        found, best = (mf.characteristics(kind, 0.5, tolerance=tolerance, **keywords) for tolerance in (1e-2, 2e-3))
        assert found.converged
        assert best.converged
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)
