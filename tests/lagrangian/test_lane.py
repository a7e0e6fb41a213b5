"""The compiled program against closed forms, against NumPy, and against the same run in Python."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from smooth import BUMPS, PROBLEMS, SEVERAL, TANH, on_a_line

import mfpde as mf
from mfpde.lagrangian import lane, nodes
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.assembly import engine_of, from_tables, lane_of
from mfpde.lagrangian.lane import Clock, Counts, LaneRun
from mfpde.lagrangian.nodes import Dynamics, Stepping
from mfpde.lagrangian.tables import RoughError, table_of
from mfpde.support.clock import working_time

EVERY = PROBLEMS | SEVERAL


def few(problem, most):
    """Nodes along each axis: `most` with one axis or two, and no more in all with more axes."""
    return {1: most, 2: most, 3: 7, 4: 4}[len(problem.axes)]


def runs(problem, counts, rtol, times, accuracy=None):
    """The same nodes by the program and in Python."""
    dynamics = Dynamics(problem)
    start = nodes_of(problem.mu_0.blocks(counts))
    stepping = Stepping(rtol, accuracy=accuracy)
    one = lane.integrate(dynamics, start, times, stepping)
    return one, nodes.integrate(dynamics, start, times, stepping)


class TestWhichEngine:
    TAKEN = {
        "three-gaussians": "2 functions of c x 29 functions of y",
        "gaussian-bumps": "21 functions of x",
        "linear-neuron": "2 functions of theta",
        "quadratic-well": "1 functions of x",
        "double-well": "1 functions of x",
        "single-index": "3 functions of theta",
        "isotropic-gaussians": None,
        "anisotropic-gaussians": None,
        "predicting-failure": None,
        "self-attention": None,
        "sparse-deconvolution": "10 functions of x",
        "quantization": None,
    }
    """With what it is made of, where that is known beforehand and depends on no rounding."""
    NOT_TAKEN = {
        "relu-gaussians": "Features is no sum of few products, or not smooth",
        "mmd-flow": "does not factorise",  # -|x - y|, whose slope jumps
        "torus-langevin": "temperature",
        "gaussian-langevin": "temperature",
        "gaussian-sampling": "temperature",
        "double-well-sampling": "temperature",
        "sphere-langevin": "temperature",
        "torus-spikes": "temperature",
        "student-teacher": "discontinuous",
        "two-timescale": "is not compiled",
        "two-player-game": "labels of species",
        "ultra-fast-diffusion": "has values on a mesh only",
    }

    def test_all_shipped_problems_are_listed(self):
        assert {*self.TAKEN, *self.NOT_TAKEN} == {*mf.problems.names()}

    @pytest.mark.parametrize("name", TAKEN)
    def test_shipped_problems_take_the_program(self, name):
        engine = engine_of(Dynamics(mf.problems.get(name)), 1e-11)
        assert engine.compiled, engine.reason
        assert self.TAKEN[name] in (None, engine.reason)

    @pytest.mark.parametrize("name", NOT_TAKEN)
    def test_others_say_why_not(self, name):
        problem = mf.problems.get(name)
        try:
            reason = engine_of(Dynamics(problem), 1e-11).reason
        except ValueError as error:  # there are no characteristics at all
            reason = str(error)
        assert self.NOT_TAKEN[name] in reason

    def test_a_network_on_data(self):
        """With a bias it has three axes: few of the data determine the outputs, and are looked up one by one."""
        data = np.linspace(-1, 1, 300)
        problem = mf.problems.network(data, np.sin(data), activation="tanh")
        engine = engine_of(Dynamics(problem), 1e-8)
        assert engine.compiled
        assert re.fullmatch(r"\d\d inputs of a network", engine.reason)

    @pytest.mark.parametrize("kind", EVERY)
    def test_one_of_each_kind_takes_it(self, kind):
        engine = engine_of(Dynamics(EVERY[kind]), 1e-8)
        assert engine.compiled, engine.reason

    @pytest.mark.parametrize(
        ("energy", "reason"),
        [
            (mf.External(lambda x: np.abs(x - 0.123)), "External.* products, or not smooth|not smooth enough"),
            (mf.External(lambda x: np.where(x > 3.9, np.nan, x)), "not finite everywhere"),
            (mf.Interaction(mf.PairKernel(lambda x, y: np.exp(-((x - y) ** 2)))), "does not factorise"),
        ],
    )
    def test_what_has_no_tables(self, energy, reason):
        engine = engine_of(Dynamics(on_a_line(energy)), 1e-8)
        assert not engine.compiled
        assert re.search(reason, engine.reason)

    def test_a_rate_that_is_not_smooth_runs_in_python(self):
        problem = on_a_line(BUMPS, rate=lambda V: np.maximum(V, 2 * V))
        found = mf.characteristics(problem, save=2, tolerance=1e-6, progress=False)
        assert not found.engine.compiled
        assert "not smooth enough" in found.engine.reason

    def test_the_result_says_which(self):
        found = mf.characteristics(mf.problems.gaussian_bumps(), 0.1, tolerance=1e-4, progress=False)
        assert "compiled: 15 functions of x>" in repr(found)
        assert "compiled: 15 functions of x" in str(found)
        kernel = mf.PairKernel(lambda x, y: np.exp(-((x - y) ** 2)))
        found = mf.characteristics(on_a_line(mf.Interaction(kernel)), 0.1, tolerance=1e-4, progress=False)
        assert "Python: interaction, PairKernel(<lambda>) does not factorise>" in repr(found)

    def test_a_rate_by_the_clock_is_tabulated_once(self, monkeypatch):
        """Each value takes the inverse of the clock."""
        asked = []
        alpha = Dynamics.alpha
        monkeypatch.setattr(Dynamics, "alpha", lambda self, *at: asked.append(at) or alpha(self, *at))
        problem = replace(PROBLEMS["schedules"], name="of its own")
        runs = [mf.characteristics(problem, save=2, tolerance=1e-4, progress=False)]
        first = len(asked)
        runs.append(mf.characteristics(problem, save=2, tolerance=1e-4, progress=False))
        assert all(run.engine.compiled for run in runs)
        assert 0 < first == len(asked)

    def test_a_rate_that_is_no_table_is_given_up_soon_and_once(self, monkeypatch):
        """With s = sqrt(t) the time is (3 S / 2)^(2/3): no polynomial begins like that."""
        problem = on_a_line(BUMPS, schedule=mf.PowerLaw(0.5), alpha=mf.ExponentialDecay(2.0, 0.5))
        dynamics, asked = Dynamics(problem), []
        start = nodes_of(problem.mu_0.blocks(9))
        made = lane_of(dynamics, 1e-8)
        monkeypatch.setattr(dynamics, "alpha", lambda S, t_end: asked.append(S) or math.exp(-(S ** (2 / 3))))
        for _ in range(2):
            with pytest.raises(RoughError, match="birth-death rate is not smooth enough"):
                LaneRun(made, dynamics, start, np.array([0.0, 1.0]), Stepping(1e-8), None)
        # twelve values on each of 16, 32, ... and 512 pieces
        assert len(asked) == 12 * (1024 - 16)

    @pytest.mark.parametrize(
        "schedule", [mf.PowerLaw(-0.5), mf.PowerLaw(2.0), mf.PiecewiseLinear([0, 1], [1, 3])], ids=str
    )
    def test_the_rate_by_the_clock_is_that_by_the_time(self, schedule):
        dynamics = Dynamics(on_a_line(BUMPS, schedule=schedule, alpha=lambda t: 1.0 + t))
        for t in (0.0, 1e-3, 0.3, 0.7, 1.0):
            assert dynamics.alpha(dynamics.clock(t), 1.0) == pytest.approx(1.0 + t, abs=1e-12)

    def test_tables_are_kept_with_the_problem(self):
        problem = on_a_line(BUMPS)
        assert lane_of(Dynamics(problem), 1e-6) is lane_of(Dynamics(problem), 1e-6)
        assert lane_of(Dynamics(problem), 1e-6) is not lane_of(Dynamics(problem), 1e-8)
        assert lane_of(Dynamics(problem), 1e-6) is not lane_of(Dynamics(on_a_line(BUMPS)), 1e-6)


class TestTables:
    @pytest.mark.parametrize("accuracy", [1e-4, 1e-6, 1e-9, 1e-12])
    def test_values_and_slopes_of_closed_forms(self, accuracy):
        """sin(5x) and a normal density, whose slopes are known."""

        def values(x):
            return np.stack([np.sin(5 * x), np.exp(-2 * (x - 0.3) ** 2)])

        def slopes(x):
            return np.stack([5 * np.cos(5 * x), -4 * (x - 0.3) * np.exp(-2 * (x - 0.3) ** 2)])

        table = table_of(values, -2.0, 3.0, accuracy)
        x = np.linspace(-2, 3, 4001)[:-1]
        length = 5.0 / len(table)
        i = ((x + 2.0) / length).astype(int)
        t = (2.0 * ((x + 2.0) / length - i) - 1.0)[:, None]
        k = np.arange(table.shape[1])
        found = np.einsum("nkr,nk->rn", table[i], t**k)
        steep = np.einsum("nkr,nk->rn", table[i][:, 1:], k[1:] * t ** (k[1:] - 1)) * (2.0 / length)
        assert np.abs(found - values(x)).max() <= accuracy
        assert np.abs(steep - slopes(x)).max() <= max(5.0 * accuracy, 1e-10)

    def test_what_is_exact_takes_the_fewest_pieces(self):
        assert table_of(lambda x: np.stack([x**3, x**0]), -2.0, 2.0, 1e-5).shape == (16, 4, 2)
        assert table_of(lambda x: (x**5)[None], -2.0, 2.0, 1e-7).shape == (16, 6, 1)
        assert table_of(lambda x: (x**7)[None], -2.0, 2.0, 1e-12).shape == (16, 8, 1)

    @pytest.mark.parametrize(("accuracy", "pieces"), [(1e-5, 256), (1e-6, 64), (1e-7, 64), (1e-8, 32)])
    def test_tables_are_small(self, accuracy, pieces):
        """Of a bump of width one on eight widths.

        Slopes of degree p through Chebyshev points of pieces of half length h are off by ``(p + 1)^2 h^p |f^(p + 1)| /
        (2^p (p + 1)!)`` at the ends, where derivatives of order 4, 6 and 8 are at most 3, 15 and 105, and the slope .6:
        that needs 138, 33, 52 and 23 pieces of degree 3, 5, 5 and 7, and there are powers of two.
        """
        table = table_of(lambda x: np.exp(-0.5 * x**2)[None], -4.0, 4.0, accuracy)
        assert len(table) <= pieces

    @pytest.mark.parametrize(
        "function", [lambda x: np.abs(x - 0.1), lambda x: np.sign(x - 0.1), lambda x: np.where(x > 0, np.inf, x)]
    )
    def test_rough_functions_are_refused(self, function):
        with pytest.raises(RoughError):
            table_of(lambda x: function(x)[None], -1.0, 1.0, 1e-6)


class TestRightHandSide:
    @pytest.mark.parametrize("kind", EVERY)
    def test_is_that_of_numpy_and_of_the_problem(self, kind):
        """The rates at the start: the program's, from the same tables in NumPy, and by the energy itself."""
        problem = EVERY[kind]
        dynamics = Dynamics(problem)
        start = nodes_of(problem.mu_0.blocks(few(problem, 9)))
        # with more axes there are more products each of which matters less than that
        made = lane_of(dynamics, 1e-10 if dynamics.dimension < 3 else 1e-11)
        stepping = Stepping(1e-10, quick=True)
        run = LaneRun(made, dynamics, start, np.array([0.0, problem.t_end]), stepping, None)
        run.alpha = run._alpha(0.0, min([run.end, *dynamics.breaks(problem.t_end)]))
        run.clock[[Clock.NOW, Clock.END, Clock.LOW, Clock.HIGH]] = 0.0, run.end, 0.0, run.end
        run.call(allowed=1)
        n, d = start[0].shape
        rates = run.space[: run.y.size].reshape(-1, n).copy()
        V, velocity, energy = from_tables(made.motion, start[0], np.exp(start[1]))
        np.testing.assert_allclose(rates[:d], velocity, atol=1e-13 * np.abs(velocity).max())
        run.by_tables = True
        run.begin()
        run.go()
        own = dynamics.bound.energy(start[0], np.exp(start[1]))
        assert run.found[0, 0] == pytest.approx(energy, rel=1e-13, abs=1e-14)
        assert energy == pytest.approx(own, abs=1e-8 * max(abs(own), np.abs(V).max()))
        response = dynamics.bound.response(start[0], np.exp(start[1]))
        own = dynamics.velocity(start[0], response)
        np.testing.assert_allclose(rates[:d], own, atol=1e-8 * np.abs(own).max())
        if dynamics.reacts:
            growth = V if problem.rate is None else problem.rate(V)
            growth = growth - (np.exp(start[1]) @ growth if dynamics.balanced else 0.0)
            np.testing.assert_allclose(rates[d], -dynamics.alpha(1e-13, problem.t_end) * growth, atol=1e-9)

    @pytest.mark.parametrize("kind", EVERY)
    def test_runs_agree_with_python(self, kind):
        problem = EVERY[kind]
        times = np.array([0.0, 0.3, 0.77, 1.0])
        found, python = runs(problem, few(problem, 14), 1e-10, times)
        assert found.engine.compiled, found.engine.reason
        assert not python.engine.compiled
        size = np.abs(python.energy).max()
        np.testing.assert_allclose(found.energy, python.energy, atol=1e-9 * size)
        np.testing.assert_allclose(found.weights, python.weights, atol=1e-9)
        np.testing.assert_allclose(found.coordinates, python.coordinates, atol=1e-9)

    @pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
    @pytest.mark.parametrize(
        "kind",
        [
            "kernel", "kernel in the plane", "network", "logistic", "metric in the plane", "kernel in space",
            "moments in space", "kernel of four axes",
        ],
    )  # fmt: skip
    def test_coarse_tables_are_as_good_as_the_tolerance(self, kind, rtol):
        problem = EVERY[kind]
        times = np.array([0.0, 1.0])
        found = runs(problem, few(problem, 14), rtol, times)[0]
        best = runs(problem, few(problem, 14), 1e-11, times)[0]
        assert np.abs(found.energy - best.energy).max() <= 20 * rtol * np.abs(best.energy).max()

    @given(
        st.integers(1, 2),
        st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4),
        st.floats(0.3, 3.0),
        st.floats(-1.0, 2.0),
        st.booleans(),
        st.floats(0.0, 3.0),
    )
    @settings(max_examples=25, deadline=None, derandomize=True)
    def test_random_problems_agree_with_python(self, d, numbers, variance, weight, balanced, alpha):
        """Kernels of any sign, external potentials and metrics."""
        names = "xy"[:d]
        kernel = mf.SeparableKernel(dict.fromkeys(names, mf.GaussianKernel(variance)))
        atoms = np.array(numbers).reshape(-1, 2)[:, :d]
        energy = mf.Discrepancy(kernel, atoms, np.full(len(atoms), 0.4))
        energy += mf.External(lambda *x: sum(0.1 * c * np.sin(v + c) for v, c in zip(x, numbers, strict=False)))
        if abs(weight) > 1e-3:
            energy += mf.Interaction(kernel, weight)
        problem = mf.Problem(
            energy=energy,
            axes=[mf.Axis(name, -5, 5) for name in names],
            initial=mf.Product(**{name: stats.norm(0.1, 0.7) for name in names}),
            alpha=alpha,
            reaction="balanced" if balanced else "unbalanced",
            metric=[1.0 + abs(numbers[0]), None][:d],
            t_end=0.6,
        )
        found, python = runs(problem, 10, 1e-9, np.array([0.0, 0.25, 0.6]))
        assert found.engine.compiled, found.engine.reason
        size = max(1.0, np.abs(python.energy).max())
        np.testing.assert_allclose(found.energy, python.energy, atol=3e-8 * size)
        np.testing.assert_allclose(found.coordinates, python.coordinates, atol=3e-8 * python.weights.sum(axis=1).max())

    @given(
        st.integers(3, 4),
        st.lists(st.floats(2.0, 6.0), min_size=4, max_size=4),
        st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4),
        st.permutations(range(4)),
        st.floats(0.0, 2.0),
    )
    @settings(max_examples=12, deadline=None, derandomize=True)
    def test_random_problems_of_several_axes_agree_with_python(self, d, variances, numbers, which, alpha):
        """The axes have different numbers of functions: any of them may be the outer one, and any the last."""
        names, a = "abcd"[:d], np.array(numbers)
        kernel = mf.SeparableKernel({name: mf.GaussianKernel(v) for name, v in zip(names, variances, strict=False)})
        i, j, k = [i for i in which if i < d][:3]

        def features(*x):
            return np.stack([np.sin(x[i] + a[0]) * x[j], x[k] ** 2 + a[1] * x[i], np.cos(x[j] - x[k])])

        problem = mf.Problem(
            energy=mf.Discrepancy(kernel, a[None, :d], np.array([0.8])) + mf.Features(features, mf.SquaredLoss(a[:3])),
            axes=[mf.Axis(name, -3, 3) for name in names],
            initial=mf.Product(**{name: stats.norm(0.1 * a[i], 0.4) for i, name in enumerate(names)}),
            alpha=alpha,
            metric=[1.0 + abs(a[0]), *[None] * (d - 2), lambda *x: 1.0 + 0.1 * np.sin(x[0] + x[-1])],
            t_end=0.6,
        )
        found, python = runs(problem, few(problem, 0) - 1, 1e-9, np.array([0.0, 0.25, 0.6]))
        assert found.engine.compiled, found.engine.reason
        size = max(1.0, np.abs(python.energy).max())
        np.testing.assert_allclose(found.energy, python.energy, atol=1e-7 * size)
        np.testing.assert_allclose(found.coordinates, python.coordinates, atol=1e-7)


class TestSteps:
    """x' = -x^3 from 1: x = 1 / sqrt(1 + 2 t). Polynomials of degree seven have its potential exactly."""

    PROBLEM = mf.Problem(
        energy=mf.External(lambda x: 0.25 * x**4),
        axes=[mf.Axis("x", -2, 2)],
        initial=mf.Dirac(x=1.0),
        t_end=1.0,
    )

    def error(self, order, steps, t):
        """Of the state at a time, with steps of one length."""
        dynamics = Dynamics(self.PROBLEM)
        stepping = Stepping(1e-6 if order == 5 else 1e-8, accuracy=1e-13)
        run = LaneRun(
            lane_of(dynamics, 1e-13),
            dynamics,
            (np.array([[1.0]]), np.zeros(1)),
            np.array([0.0, t, 1.0]),
            stepping,
            None,
        )
        run.clock[[Clock.LONGEST, Clock.RTOL, Clock.STEP]] = 1.0 / steps, 1e9, 1.0
        found = run.complete()
        assert found.steps == steps
        return abs(found.points[1, 0, 0] - 1 / math.sqrt(1 + 2 * t))

    @pytest.mark.parametrize(("order", "coarse", "cap"), [(5, 8, 1e-6), (8, 6, 2e-10)])
    def test_order_at_their_ends(self, order, coarse, cap):
        """Of the order that they have, and no larger than a constant of size one has it."""
        first, second = (self.error(order, n, 1.0 - 1e-15) for n in (coarse, 2 * coarse))
        assert first <= cap
        assert math.log2(first / second) >= order - 0.6

    @pytest.mark.parametrize(("order", "coarse", "cap"), [(5, 8, 2e-6), (8, 6, 1e-9)])
    def test_order_in_between(self, order, coarse, cap):
        """The dense outputs are of order 4 and 7; the worst of several places in a step."""
        worst = [
            max(self.error(order, n, (math.floor(0.4 * n) + x) / n) for x in (0.2, 0.5, 0.8))
            for n in (coarse, 2 * coarse)
        ]
        assert worst[0] <= cap
        assert math.log2(worst[0] / worst[1]) >= order - 1.6

    @pytest.mark.parametrize(("rtol", "most"), [(1e-4, 40), (1e-6, 70), (1e-8, 120), (1e-11, 260)])
    def test_evaluations(self, rtol, most):
        """As few as the order allows: what is in the documentation."""
        found = runs(mf.problems.gaussian_bumps(), 16, rtol, np.array([0.0, 2.0]))[0]
        assert found.evaluations <= most

    def test_walls_hold_and_are_left(self):
        found = runs(PROBLEMS["walls"], 30, 1e-9, np.array([0.0, 1.0]))[0]
        assert found.points.min() >= -1.0
        assert found.points.max() <= 1.0


class TestCalls:
    """What Python does between the calls of the program."""

    @staticmethod
    @cache
    def whole():
        return runs(PROBLEMS["network"], 12, 1e-9, np.array([0.0, 0.4, 1.0]))[0]

    @staticmethod
    def run(stepping=None, show=None):
        problem = PROBLEMS["network"]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(12))
        return lane.integrate(dynamics, start, np.array([0.0, 0.4, 1.0]), stepping or Stepping(1e-9), show=show)

    def test_an_interrupted_run_is_the_same_bit_by_bit(self, monkeypatch):
        monkeypatch.setattr(lane, "FIRST_SLICE", 0.0)
        monkeypatch.setattr(lane, "SLICE", 0.0)
        shown = []
        found = self.run(show=lambda t, energy: shown.append((t, energy)))
        assert len(shown) > found.steps
        # the one from the nodes, the other from tables that are right to 1e-9
        assert shown[-1] == (1.0, pytest.approx(found.energy[-1], abs=1e-9))
        assert np.all(np.diff([t for t, _ in shown]) >= 0.0)
        np.testing.assert_array_equal(found.points, self.whole().points)
        np.testing.assert_array_equal(found.weights, self.whole().weights)
        assert found.evaluations == self.whole().evaluations

    def test_steps_that_are_rejected_do_not_depend_on_calls_either(self, monkeypatch):
        """After one the next may not grow, whenever the program returns: nodes that stop at walls make several."""
        problem = PROBLEMS["walls"]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(16))
        whole = lane.integrate(dynamics, start, np.array([0.0, 1.0]), Stepping(1e-7))
        assert whole.evaluations > 1 + 12 * whole.steps  # twelve of each accepted step, and that of the start
        monkeypatch.setattr(lane, "FIRST_SLICE", 0.0)
        monkeypatch.setattr(lane, "SLICE", 0.0)
        found = lane.integrate(dynamics, start, np.array([0.0, 1.0]), Stepping(1e-7))
        assert (found.steps, found.evaluations) == (whole.steps, whole.evaluations)
        np.testing.assert_array_equal(found.points, whole.points)

    def test_a_call_is_short(self):
        """The first one before it is known how long evaluations take, the others by that."""
        problem = PROBLEMS["kernel in the plane"]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(60))
        made = lane_of(dynamics, 1e-8)
        run = LaneRun(made, dynamics, start, np.array([0.0, 1.0]), Stepping(1e-8), None)
        assert run.allowed * made.work * 3600 <= 2e6 or run.allowed == 1
        run._between(0.2, 10)
        assert run.allowed == 2  # 0.05 s of evaluations that take 0.02 s

    @pytest.mark.parametrize(("step", "rejected"), [(0.3, 0), (0.02, 1)], ids=["too long", "after a rejected one"])
    @pytest.mark.parametrize("rtol", [1e-4, 1e-9])
    @pytest.mark.parametrize("kind", ["schedules", "rate", "network", "kernel in space"])
    def test_bits_do_not_depend_on_where_a_call_ends(self, kind, rtol, step, rejected):
        """Within a step, between two, after a rejected one, and among the stages of a dense output."""
        problem = EVERY[kind]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(few(problem, 8)))
        made, times = lane_of(dynamics, 1e-6), np.array([0.0, 0.21, 0.34, 0.9, 1.0])

        def run(allowed):
            one = LaneRun(made, dynamics, start, times, Stepping(rtol, quick=True), None)
            one.clock[Clock.STEP], one.counts[Counts.REJECTED] = step, rejected
            one.allowed, calls = allowed, []
            one._between = lambda seconds, evaluations: calls.append(evaluations)
            return one.complete(), calls

        (whole, once), (parted, calls) = run(10**9), run(1)
        assert len(calls) >= whole.evaluations > len(once)
        assert max(calls) == 1
        for name in ("points", "weights", "energy"):
            assert np.array_equal(getattr(whole, name), getattr(parted, name))
        assert (whole.steps, whole.evaluations) == (parted.steps, parted.evaluations)

    def test_deadline(self):
        with pytest.raises(nodes.OutOfTime):
            self.run(Stepping(1e-9, deadline=working_time()))

    def test_too_many_steps_end_with_their_place(self):
        with pytest.raises(
            RuntimeError, match=r"^\d+ steps of the characteristics came to clock .* not smooth near c ="
        ):
            self.run(Stepping(1e-9, most_steps=1))

    def test_mass_is_conserved_at_every_stage(self):
        """Weights have sum 1 but for rounding whenever the program returns, which is after each evaluation here."""
        problem = PROBLEMS["kernel in the plane"]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(10))
        run = LaneRun(lane_of(dynamics, 1e-9), dynamics, start, np.array([0.0, 1.0]), Stepping(1e-9), None)
        run.alpha = run._alpha(0.0, 1.0)
        run.clock[[Clock.END, Clock.HIGH]] = 1.0, 1.0
        n, calls = len(start[1]), 0
        at = run.y.size * (len(lane.tableau_of(run.stepping).C) + 2)
        while run.call(allowed=1) != 0:
            weights = run.space[at : at + n]
            assert weights.min() >= 0.0
            assert weights.sum() == pytest.approx(1.0, abs=1e-15 * math.sqrt(n))
            calls += 1
        assert calls >= run.counts[Counts.STEPS] > 3

    def test_a_table_of_the_rate_grows_with_what_is_asked(self):
        """V rises far beyond its values at the start: the table of f is made anew, and the run goes on."""
        problem = on_a_line(mf.External(lambda x: -0.05 * x**4), rate=lambda V: V**3, alpha=0.01, reaction="unbalanced")
        narrow = replace(problem, initial=mf.Product(x=stats.uniform(0.6, 0.1)), t_end=1.5, parameters=None)
        found, python = runs(narrow, 6, 1e-9, np.array([0.0, 1.5]))
        assert found.engine.compiled, found.engine.reason
        np.testing.assert_allclose(found.weights, python.weights, rtol=1e-8)


class TestEstimates:
    """All axes and time are refined together, and the last change is the error."""

    @staticmethod
    @cache
    def best(kind):
        return mf.characteristics(PROBLEMS[kind], save=4, tolerance=1e-9, progress=False)

    @pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
    @pytest.mark.parametrize(
        "kind", ["kernel", "kernel in the plane", "network", "huber", "rate", "unbalanced", "metric in the plane"]
    )
    def test_errors_are_within_their_bars(self, kind, tolerance):
        best = self.best(kind)
        found = mf.characteristics(PROBLEMS[kind], save=4, tolerance=tolerance, progress=False)
        assert found.converged
        assert [run.refined for run in found.refinements] == ["", *["all"] * (len(found.refinements) - 1)]
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)
        apart = np.abs(found.response - best.response).max(axis=1, initial=0.0)
        assert np.all(apart <= found.response_error + best.response_error)

    @pytest.mark.parametrize(("kind", "tolerance"), [("periodic", 1e-4), ("periodic", 1e-3), ("schedules", 1e-3)])
    def test_errors_between_few_steps_are_within_their_bars(self, kind, tolerance):
        """In the middle of long steps, which are as long in the run before, and whose errors these have in common."""
        save = [0.07, 0.23, 0.41, 0.59, 0.83, 1.0]
        best = mf.characteristics(PROBLEMS[kind], save=save, tolerance=1e-9, progress=False)
        found = mf.characteristics(PROBLEMS[kind], save=save, tolerance=tolerance, progress=False)
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)

    @pytest.mark.parametrize("limit", [500, 1000, 4000])
    def test_few_nodes_have_an_error_all_the_same(self, limit):
        """Where a limit is met before each axis was refined alone, what refining them together showed is not lost."""
        problem = mf.problems.gaussian_bumps(centres=[(-1.5, -1.0), (1.5, 1.25)])
        with pytest.warns(mf.RunWarning, match=f"at the limit of {limit} nodes"):
            found = mf.characteristics(problem, 0.5, save=3, tolerance=1e-11, max_nodes=limit, progress=False)
        best = mf.characteristics(problem, 0.5, save=3, tolerance=1e-9, progress=False)
        assert found.points.shape[1] == found.refinements[-1].size <= limit
        assert found.error_estimate < 1e-2
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)

    def test_no_two_runs_have_the_same_steps(self):
        """What they have in common is in no change: with nodes alone refined it would look like no error."""
        found = mf.characteristics(PROBLEMS["moments"], save=4, tolerance=1e-5, progress=False)
        rtol = [run.rtol for run in found.refinements]
        assert len(rtol) > 4
        assert np.all(np.diff(rtol) < 0.0)

    def test_something_narrow_on_the_way_is_seen(self):
        """It lies between all points at which tables are held against the potential, and nodes come to it.

        The engine in Python, which asks the potential itself at the nodes, is the reference.
        """

        def potential(x, y, z):
            square = (x - 0.61) ** 2 + (y - 0.83) ** 2 + (z + 0.44) ** 2
            return -1.5 * x + 0.02 * np.exp(-square / (2 * 0.08**2))

        axes = [mf.Axis(name, -4, 4) for name in "xyz"]
        initial = mf.Product(x=stats.norm(-0.4, 0.12), y=stats.norm(0.83, 0.12), z=stats.norm(-0.44, 0.12))
        problem = mf.Problem(energy=mf.External(potential), axes=axes, initial=initial, t_end=1.3)
        found = mf.characteristics(problem, save=3, tolerance=1e-4, progress=False)
        nodes_at_first = nodes_of(problem.mu_0.blocks(20))
        best = nodes.integrate(Dynamics(problem), nodes_at_first, found.times, Stepping(1e-7))
        np.testing.assert_allclose(found.energy, best.energy, rtol=1e-5)
        assert found.converged
        assert not found.engine.compiled
        assert "something narrow" in found.engine.reason
        assert not mf.characteristics(problem, save=2, tolerance=1e-3, progress=False).engine.compiled

    def test_one_axis_that_needs_many_nodes_is_refined_alone(self):
        """V varies as cos(16 y) along y, and not along x: together both axes would have as many nodes."""
        energy = mf.External(
            lambda x, y: 0.003 * np.cos(16 * y) + 0.1 * x, lambda x, y: (0.1 + 0 * x, -0.048 * np.sin(16 * y))
        )
        axes = [mf.Axis("x", -6, 6), mf.Axis("y", -6, 6)]
        start = mf.Product(x=stats.norm(0, 0.5), y=stats.norm(0, 1.0))
        problem = mf.Problem(energy=energy, axes=axes, initial=start, t_end=0.5)
        found = mf.characteristics(problem, save=2, tolerance=1e-7, progress=False)
        assert found.converged
        assert {run.refined for run in found.refinements} >= {"all", "time", "y"}
        assert found.refinements[-1].nodes[1] > found.refinements[-1].nodes[0]


class TestClosedForms:
    @pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-9])
    @pytest.mark.parametrize("name", ["linear-neuron", "quadratic-well", "single-index"])
    def test_energies(self, name, tolerance):
        problem = mf.problems.get(name) if name != "single-index" else mf.problems.single_index(k=2, d=2)
        found = mf.characteristics(problem, 1.0, save=5, tolerance=tolerance, progress=False)
        assert found.engine.compiled
        exact = np.array([problem.exact["energy"](t) for t in found.times])
        np.testing.assert_allclose(found.energy, exact, rtol=tolerance)
        assert np.all(
            np.abs(found.energy - exact) <= found.energy_error + 1e-10 * exact[0]
        )  # the box ends at six spreads

    def test_a_network_of_one_inner_axis(self):
        """c sin(z x) on one datum x = 1, all mass at (c, z) = (1, 1/2), z at rest: c' = -(c s - y) s, s = sin(1/2)."""
        energy = mf.TwoLayerNetwork([1.0], [0.7], **{**TANH, "activation": "sin"})
        axes = [mf.Axis("c", -3, 3), mf.Axis("z", -3, 3)]
        problem = mf.Problem(energy=energy, axes=axes, initial=mf.Dirac(c=1.0, z=0.5), metric=[1.0, 0.0], t_end=2.0)
        found = mf.characteristics(problem, save=4, tolerance=1e-10, progress=False)
        assert found.engine.compiled
        s = math.sin(0.5)
        c = 0.7 / s + (1 - 0.7 / s) * np.exp(-(s**2) * found.times)
        np.testing.assert_allclose(found.points[:, 0, 0], c, rtol=1e-9)

    def test_energies_of_little_are_right_although_steps_are_few(self):
        """Near the minimum E is 1e-6 of what V is: an error of the steps was in both runs, and no change had it."""
        problem = mf.problems.linear_neuron(target=-0.2917, alpha=0.3026, mean=-0.2943, variance=0.0235)
        save = np.linspace(0.0, 0.585, 12)[1:]
        best = mf.characteristics(problem, 0.585, save=save, tolerance=1e-9, progress=False)
        for tolerance in (1e-3, 1e-4, 1.8e-5):
            found = mf.characteristics(problem, 0.585, save=save, tolerance=tolerance, progress=False)
            apart = np.abs(found.energy - best.energy)
            assert np.all(apart <= found.energy_error + best.energy_error)
            assert np.all(apart <= tolerance * best.energy)
            steps = [run.steps for run in found.refinements]
            assert np.all(np.diff(steps) > 0)


def side_by_side(potentials, starts, **options):
    """Axes that have nothing to do with each other: potentials add up, and with these the logs of the densities."""
    names = "abcd"[: len(potentials)]

    def potential(*x):
        return sum(f(v) for f, v in zip(potentials, x, strict=True))

    return mf.Problem(
        energy=mf.External(potential),
        axes=[mf.Axis(name, -6, 6) for name in names],
        initial=mf.Product(**dict(zip(names, starts, strict=True))),
        **{"t_end": 1.0, "alpha": 1.0, **options},
    )


class TestSeveralAxes:
    WELLS = (
        (lambda x: 0.5 * x**2, stats.norm(1.0, 0.6)),
        (lambda x: np.cos(x) + 0.1 * x**2, stats.norm(-0.5, 0.7)),
        (lambda x: 0.05 * x**4 - 0.2 * x**2, stats.norm(0.3, 0.5)),
        (lambda x: 0.2 * np.sin(x), stats.norm(0.0, 0.6)),
    )

    @pytest.mark.parametrize(("d", "alpha", "tolerance"), [(3, 1.0, 1e-5), (4, 1.0, 1e-3), (3, 0.0, 1e-5)])
    def test_axes_side_by_side_are_runs_of_their_own(self, d, alpha, tolerance):
        """The measure stays a product, and the energy is the sum of theirs."""
        wells, starts = zip(*self.WELLS[:d], strict=True)
        problem = side_by_side(wells, starts, alpha=alpha)
        found = mf.characteristics(problem, save=3, tolerance=tolerance, progress=False)
        assert found.engine.compiled
        assert found.converged
        each = [side_by_side([well], [start], alpha=alpha) for well, start in zip(wells, starts, strict=True)]
        best = [mf.characteristics(one, save=3, tolerance=1e-10, progress=False) for one in each]
        exact = sum(one.energy for one in best)
        np.testing.assert_allclose(found.energy, exact, rtol=tolerance)
        assert np.all(np.abs(found.energy - exact) <= found.energy_error + 1e-9)
        for i in range(d):
            assert found.moment("abcd"[i], 2) == pytest.approx(best[i].moment("a", 2), rel=tolerance)
        points = np.random.default_rng(0).uniform(-1.0, 1.0, (20, d))
        density = math.prod(one.density_at(points[:, i]) for i, one in enumerate(best))
        np.testing.assert_allclose(found.density_at(points), density, rtol=30 * tolerance)

    @pytest.mark.parametrize(("d", "tolerance"), [(3, 1e-6), (4, 1e-4)])
    def test_wells(self, d, tolerance):
        """V = 1/2 k x^2 along each axis: x = x_0 exp(-k t), and E = sum 1/2 k (m^2 + s^2) exp(-2 k t)."""
        stiff, mean, spread = np.array([0.5, 1.0, 2.0, 1.5])[:d], np.array([1.0, -1.0, 0.5, 0.2])[:d], 0.5
        wells = [lambda x, k=k: 0.5 * k * x**2 for k in stiff]
        problem = side_by_side(wells, [stats.norm(m, spread) for m in mean], alpha=0.0)
        found = mf.characteristics(problem, save=4, tolerance=tolerance, progress=False)
        exact = [np.sum(0.5 * stiff * (mean**2 + spread**2) * np.exp(-2 * stiff * t)) for t in found.times]
        np.testing.assert_allclose(found.energy, exact, rtol=tolerance)

    def test_mass_that_descends_from_a_tail(self):
        """With strong birth and death it does, along one of three axes; again axes are runs of their own."""
        wells = [lambda x: 0.5 * (x - 2.0) ** 2, *(well for well, _ in self.WELLS[1:3])]
        starts = [stats.norm(-2.0, 0.45), *(start for _, start in self.WELLS[1:3])]
        options = {"alpha": 4.0, "t_end": 0.5}
        found = mf.characteristics(side_by_side(wells, starts, **options), save=3, tolerance=1e-4, progress=False)
        each = [side_by_side([well], [start], **options) for well, start in zip(wells, starts, strict=True)]
        exact = sum(mf.characteristics(one, save=3, tolerance=1e-9, progress=False).energy for one in each)
        assert found.engine.compiled
        np.testing.assert_allclose(found.energy, exact, rtol=1e-4)

    @staticmethod
    @cache
    def best(kind):
        tolerance = 1e-6 if len(SEVERAL[kind].axes) < 4 else 1e-4
        return mf.characteristics(SEVERAL[kind], save=4, tolerance=tolerance, progress=False)

    @pytest.mark.parametrize(
        ("kind", "tolerance"),
        [
            ("kernel in space", 1e-3),
            ("kernel in space", 1e-4),
            ("moments in space", 1e-3),
            ("moments in space", 1e-4),
            ("moments of four axes", 1e-3),
        ],
    )
    def test_errors_are_within_their_bars(self, kind, tolerance):
        best = self.best(kind)
        found = mf.characteristics(SEVERAL[kind], save=4, tolerance=tolerance, progress=False)
        assert found.converged
        assert found.engine.compiled
        assert {run.refined for run in found.refinements} == {"", "all"}
        assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)
        apart = np.abs(found.response - best.response).max(axis=1, initial=0.0)
        assert np.all(apart <= found.response_error + best.response_error)
        # most nodes of a cube are in its corners, where next to nothing is
        assert all(run.size < 0.8 * math.prod(run.nodes) for run in found.refinements)

    def test_a_limit_of_nodes(self):
        with pytest.warns(mf.RunWarning, match="at the limit of 1500 nodes"):
            found = mf.characteristics(SEVERAL["kernel in space"], tolerance=1e-9, max_nodes=1500, progress=False)
        assert found.points.shape[1] <= 1500

    def test_the_program_comes_back_after_each_evaluation(self):
        """When that is asked for; then weights have sum 1 but for rounding, whatever the stage."""
        problem = SEVERAL["kernel in space"]
        dynamics, start = Dynamics(problem), nodes_of(problem.mu_0.blocks(6))
        run = LaneRun(lane_of(dynamics, 1e-6), dynamics, start, np.array([0.0, 20.0]), Stepping(1e-9), None)
        run.alpha = run._alpha(0.0, 20.0)
        run.clock[[Clock.END, Clock.HIGH]] = 20.0, 20.0
        n, calls = len(start[1]), 0
        at = run.y.size * (len(lane.tableau_of(run.stepping).C) + 2)
        while run.call(allowed=1) != 0:
            weights = run.space[at : at + n]
            assert weights.min() >= 0.0
            assert weights.sum() == pytest.approx(1.0, abs=1e-15 * math.sqrt(n))
            calls += 1
        assert calls >= run.counts[Counts.STEPS] > 3


def test_bits_do_not_depend_on_the_cache(tmp_path):
    """What was compiled just now, and what comes from the cache."""
    code = (
        "import hashlib, mfpde as mf\n"
        "found = mf.characteristics(mf.problems.three_gaussians(), 0.5, tolerance=1e-4, save=3, progress=False)\n"
        "assert found.engine.compiled\n"
        "print(hashlib.sha256(b''.join(x.tobytes() for x in (found.points, found.weights, found.energy))).hexdigest())"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert said[0] == said[1] != ""
