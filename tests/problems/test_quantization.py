"""Quantisation: weights of nodes that rest, fixed points of the mean shift, many nodes, and dynamic weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import mfpde as mf
from validation._dynamic_weights import blob

P = mf.problems
MODES = [[-0.9, 1.6], [-0.9, -1.6]]
POSITIVE = np.array([[1.8, 0.0], *MODES])
NEGATIVE = {"in front": [[0.0, 0.0], [1.0, 0.0], *MODES], "behind": [[3.8, 0.0], [3.0, 0.0], *MODES]}
"""Nodes of which the first would have a negative weight."""

pytestmark = pytest.mark.usefixtures("one_thread")


def kernel(x, y, h=1.0):
    return np.exp(-((x[:, None, :] - y) ** 2).sum(axis=2) / (2 * h**2))


def from_nodes(nodes, rest, problem=None):
    problem = P.quantization() if problem is None else problem
    still = {"metric": [0.0, 0.0]} if rest else {}
    return dataclasses.replace(problem, initial=mf.Particles(nodes), parameters=None, **still)


@pytest.mark.parametrize("dimension", [1, 2])
def test_energy(dimension):
    """Half the squared discrepancy and V against sums over the data; the data themselves have none."""
    problem = P.quantization(dimension, samples=50, bandwidth=0.7, seed=3)
    data = problem.energy.points
    assert data.shape == (50, dimension)
    nodes, w = np.random.default_rng(1).normal(0, 1, (6, dimension)), np.arange(1, 7) / 10
    both, charges = np.concatenate([nodes, data]), np.concatenate([w, np.full(50, -1 / 50)])
    bound = problem.bound_energy
    assert bound.energy(nodes, w) == pytest.approx(0.5 * charges @ kernel(both, both, 0.7) @ charges, rel=1e-10)
    V = bound.potential(nodes, bound.response(nodes, w))
    np.testing.assert_allclose(V, kernel(nodes, both, 0.7) @ charges, atol=1e-12)
    assert abs(bound.energy(data, np.full(50, 1 / 50))) < 1e-12
    assert list(problem.metric) == [0.7**2] * dimension


class TestNodesThatRest:
    @staticmethod
    def solved(nodes):
        data = P.quantization().energy.points
        return np.linalg.solve(kernel(nodes, nodes), kernel(nodes, data).mean(axis=1))

    def test_positive(self):
        """``K^{-1} v_0``, of characteristics and of particles whatever their step, and the least energy."""
        problem = from_nodes(POSITIVE, rest=True)
        expected = self.solved(POSITIVE)
        assert expected.min() > 0
        run = mf.characteristics(problem, 150.0, save=2, tolerance=1e-8, progress=False)
        np.testing.assert_allclose(run.weights[-1], expected, rtol=1e-7)
        np.testing.assert_allclose(problem.exact["weights"](POSITIVE), expected, rtol=1e-12)
        data = problem.energy.points
        least = 0.5 * (kernel(data, data).mean() - expected @ kernel(POSITIVE, data).mean(axis=1))
        assert run.energy[-1] == pytest.approx(least, rel=1e-10)
        cloud = mf.particles.simulate(
            problem, 3, initial=POSITIVE, dynamics=mf.particles.Weights(), dt=0.25, t_end=150.0, save=2, progress=False
        )
        np.testing.assert_allclose(cloud.weights[0, -1], expected, rtol=1e-7)

    @pytest.mark.parametrize("where", NEGATIVE)
    def test_negative(self, where):
        """The minimiser over weights that are not negative; the first node dies at the rate of its V there."""
        nodes = np.array(NEGATIVE[where])
        assert self.solved(nodes)[0] < -0.1
        assert self.solved(nodes)[1:].min() > 0
        rest = self.solved(nodes[1:])
        problem = from_nodes(nodes, rest=True)
        data = problem.energy.points
        V = kernel(nodes[:1], nodes[1:]) @ rest - kernel(nodes[:1], data).mean()
        assert V[0] > 0
        run = mf.characteristics(problem, 250.0, save=[200.0, 250.0], tolerance=1e-8, progress=False)
        np.testing.assert_allclose(run.weights[-1, 1:], rest, rtol=1e-6)
        np.testing.assert_allclose(problem.exact["weights"](nodes)[1:], rest, rtol=1e-10)
        assert problem.exact["weights"](nodes)[0] == 0.0
        rate = math.log(run.weights[1, 0] / run.weights[2, 0]) / 50
        assert rate == pytest.approx(V[0], rel=1e-4)


class TestMeanShift:
    def test_one_node(self):
        """The mode of the density estimate, by the map as everybody knows it."""
        problem = from_nodes(np.array([[1.0, 0.5]]), rest=False)
        run = mf.characteristics(problem, 60.0, save=2, tolerance=1e-8, progress=False)
        data = problem.energy.points
        y = np.array([[1.0, 0.5]])
        for _ in range(300):
            seen = kernel(y, data)
            y = seen @ data / seen.sum()
        np.testing.assert_allclose(run.points[-1], y, atol=1e-8)
        np.testing.assert_allclose(problem.exact["mean_shift"](y), y, atol=1e-10)
        assert run.weights[-1, 0] == pytest.approx(kernel(y, data).mean(), rel=1e-9)

    def test_three_nodes(self):
        """Where the flow rests its slope is 0, its weights are ``K^{-1} v_0``, and the damped map stays there."""
        start = np.random.default_rng(3).normal(0, 1, (3, 2))
        problem = from_nodes(start, rest=False)
        run = mf.characteristics(problem, 400.0, save=2, tolerance=1e-8, progress=False)
        nodes, w = run.points[-1], run.weights[-1]
        bound = problem.bound_energy
        assert np.abs(bound.gradient(nodes, bound.response(nodes, w))).max() < 1e-8
        np.testing.assert_allclose(w, problem.exact["weights"](nodes), rtol=1e-7)
        shifted = nodes + 0.01
        for _ in range(100):
            shifted = 0.2 * shifted + 0.8 * problem.exact["mean_shift"](shifted)
        np.testing.assert_allclose(shifted, nodes, atol=1e-6)
        # the energy of one node is far above
        assert run.energy[-1] < 0.15 * 0.0532


def test_many_nodes_and_the_mesh():
    """Energy, mass and mean in one dimension, each to the tolerances of the two runs; mass stays away from 0."""
    problem = P.quantization(1)
    mesh = mf.solve(problem, save=2, progress=False)
    nodes = mf.characteristics(problem, save=2, tolerance=1e-6, progress=False)
    assert mesh.energy[-1] == pytest.approx(nodes.energy[-1], abs=1e-6)
    mass = nodes.weights[-1].sum()
    assert mesh.diagnostics["mass"][-1] == pytest.approx(mass, abs=1e-5)
    x = mesh.grid.centres(0)
    mean = x @ mesh.density[-1] * mesh.grid.cell_volume
    assert mean == pytest.approx(nodes.weights[-1] @ nodes.points[-1, :, 0], abs=1e-5)
    assert mesh.diagnostics["minimum"].min() >= 0
    assert np.all(np.diff(mesh.diagnostics["energy"]) < 0)


class TestDynamicWeights:
    """Particles whose weights follow the Fisher-Rao flow of a smoothed divergence (DPVI)."""

    @staticmethod
    def target(x):
        """Two Gaussian modes of shares 0.7 and 0.3."""
        return -np.logaddexp(math.log(0.7) - (x + 4) ** 2 / 2, math.log(0.3) - (x - 4) ** 2 / 2)

    def problem(self, nodes, weights=None, **changes):
        return mf.Problem(
            blob(self.target, 0.1),
            [mf.Axis("x", -8, 8)],
            mf.Particles(np.array(nodes)[:, None], weights),
            alpha=1.0,
            **changes,
        )

    def test_law_of_resting_nodes(self):
        """Far apart each sees itself alone: ``w_i ~ w_i(0)^s e^{-(1-s) U_i}``, s = e^-t, as of the density."""
        nodes, start = np.array([-5.0, -4.0, -3.0, 3.5, 5.0]), np.array([0.1, 0.3, 0.1, 0.3, 0.2])
        times = np.array([0.5, 1.0, 3.0])
        problem = self.problem(nodes, start, metric=[0.0])
        run = mf.characteristics(problem, 3.0, save=times, tolerance=1e-8, progress=False)
        for t, w in zip(times, run.weights[1:], strict=True):
            s = math.exp(-t)
            expected = start**s * np.exp(-(1 - s) * self.target(nodes))
            np.testing.assert_allclose(w, expected / expected.sum(), rtol=1e-6)

    def test_a_particle_in_each_mode(self):
        """Its weight tends to the share of the mode; weights that are fixed stay."""
        problem = self.problem([-3.0, 3.0])
        run = mf.characteristics(problem, 12.0, save=2, tolerance=1e-7, progress=False)
        np.testing.assert_allclose(run.points[-1, :, 0], [-4, 4], atol=1e-4)
        np.testing.assert_allclose(run.weights[-1], [0.7, 0.3], atol=1e-5)
        fixed = mf.characteristics(
            dataclasses.replace(problem, alpha=0.0), 12.0, save=2, tolerance=1e-7, progress=False
        )
        np.testing.assert_allclose(fixed.weights[-1], 0.5, rtol=1e-12)
        # at rest each particle sees its own mode and kernel: KL((w, 1 - w) | (0.7, 0.3)) is what is not gained
        gain = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
        assert fixed.energy[-1] - run.energy[-1] == pytest.approx(gain, abs=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dimension": 3}, "dimension must be 1 or 2 and samples at most 1e5, not 3 and 1000"),
        ({"samples": 100_001}, "samples at most 1e5, not 2 and 100001"),
        ({"samples": 0}, "samples must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"bandwidth": 0.1}, "bandwidth must lie between 0.2 and 100"),
    ],
)
def test_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        P.quantization(**parameters)
