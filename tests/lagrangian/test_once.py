"""What a search does once: rules that are kept, energies of all save times together, what nodes carry by arrays."""

import gc
import math
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from smooth import BUMPS, PROBLEMS, SEVERAL, on_a_line

import mfpde as mf
from mfpde.equation.energy import base
from mfpde.equation.measures.quadrature import Block, Place, Rule, log_total
from mfpde.lagrangian import ancestry, search
from mfpde.lagrangian.ancestry import MOST_NODES, MOST_RULES, nodes_of, rule_of, watch, watch_each, worst
from mfpde.lagrangian.nodes import Dynamics, coordinates_of

EVERY = PROBLEMS | SEVERAL


def nodes_at_some_times(problem, m, n, seed=0):
    """Points (m, n, d) of the box and weights (m, n)."""
    rng = np.random.default_rng(seed)
    low, length = (np.array([getattr(axis, name) for axis in problem.axes]) for name in ("lower", "length"))
    return low + length * rng.random((m, n, len(low))), rng.random((m, n)) / n


class TestEnergies:
    @pytest.mark.parametrize("name", EVERY)
    def test_together_they_are_those_one_by_one(self, name, monkeypatch):
        """Of batches of three measures, the last one of fewer, and where each is large of one."""
        bound = EVERY[name].bound_energy
        points, weights = nodes_at_some_times(EVERY[name], 11, 40)
        moments = np.array([bound.response(*one)[: bound.response_size] for one in zip(points, weights, strict=True)])
        energies = np.array([bound.energy(*one) for one in zip(points, weights, strict=True)])
        for together in (120, 1):
            monkeypatch.setattr(base, "TOGETHER", together)
            found, u = bound.each(points, weights)
            assert u.shape == (11, bound.response_size)
            np.testing.assert_allclose(u, moments, rtol=0, atol=1e-14 * max(1.0, np.abs(moments).max(initial=0.0)))
            np.testing.assert_allclose(found, energies, rtol=0, atol=1e-13 * max(1.0, np.abs(energies).max()))
        if not bound.direct:
            np.testing.assert_array_equal(u, moments)  # one by one they are computed alike

    def test_of_several_outputs(self):
        x = np.linspace(-1, 1, 30)
        names = {"axes": ("c", "d", "z"), "roles": ("amplitude", "amplitude", "weight"), "activation": "tanh"}
        network = mf.TwoLayerNetwork(x, np.stack([np.sin(x), np.cos(x)], axis=1), **names)
        bound = network.bind([mf.Axis(axis, -2, 2) for axis in names["axes"]])
        rng = np.random.default_rng(1)
        points, weights = rng.uniform(-2, 2, (4, 9, 3)), rng.random((4, 9))
        pairs = list(zip(points, weights, strict=True))
        found, u = bound.each(points, weights)
        np.testing.assert_allclose(u, [bound.response(*one) for one in pairs], rtol=0, atol=1e-14)
        np.testing.assert_allclose(found, [bound.energy(*one) for one in pairs], rtol=1e-13)


class TestRules:
    def test_one_is_kept_with_its_problem(self):
        problem = on_a_line(BUMPS)
        rule = rule_of(problem, (9,))
        assert rule_of(problem, (9,)) is rule
        assert rule_of(problem, (10,)) is not rule
        assert rule_of(problem.replace(t_end=2.0), (9,)) is not rule
        other = problem.replace(initial=mf.Product(x=stats.norm(0.5, 0.3)))
        for one in (problem, other, pickle.loads(pickle.dumps(problem))):
            (kept,), (fresh,) = rule_of(one, (9,)), one.mu_0.blocks((9,))
            np.testing.assert_array_equal(kept.points, fresh.points)
            np.testing.assert_array_equal(kept.logs, fresh.logs)

    def test_no_more_of_them_than_there_may_be(self):
        problem = on_a_line(BUMPS)
        rules = [rule_of(problem, (n,)) for n in range(5, 5 + MOST_RULES + 3)]
        assert [rule_of(problem, (n,)) is rules[n - 5] for n in range(8, 5 + MOST_RULES + 3)] == [True] * MOST_RULES
        assert len(ancestry._rules[problem]) == MOST_RULES
        assert rule_of(problem, (5,)) is not rules[0]

    def test_neither_large_ones_nor_those_of_places_are_kept(self):
        problem = on_a_line(BUMPS)
        assert rule_of(problem, (MOST_NODES + 1,)) is not rule_of(problem, (MOST_NODES + 1,))
        there = [[[Place(2.5, 0.1)]]]
        rule_of(problem, (20,))
        (block,) = rule_of(problem, (20,), there)
        np.testing.assert_array_equal(block.points, problem.mu_0.blocks((20,), there)[0].points)
        assert rule_of(problem, (20,))[0].points.max() < block.points.max()

    def test_a_problem_goes_when_nobody_has_it(self):
        problem = on_a_line(BUMPS)
        found = weakref.ref(problem)
        mf.characteristics(problem, tolerance=1e-4, progress=False)
        assert len(ancestry._rules[problem]) >= 2
        del problem
        gc.collect()
        assert found() is None

    def test_all_nodes_are_those_of_the_blocks(self):
        x = np.linspace(0.0, 1.0, 4)
        blocks = [Block.of(share, x[:, None] + share, np.log(1.0 + x), (4,)) for share in (0.25, 0.75)]
        for rule in (Rule(blocks), Rule(blocks[1:])):
            points, logs = nodes_of(rule)
            np.testing.assert_array_equal(points, np.concatenate([block.points for block in rule]))
            np.testing.assert_allclose(np.exp(logs).sum(), 1.0, rtol=1e-15)
            own = np.concatenate([block.logs for block in rule])
            np.testing.assert_array_equal(logs, own - log_total(own))
            assert nodes_of(rule)[1] is logs
            with pytest.raises(ValueError, match="read-only"):
                points[0] = 0.0
            with pytest.raises(ValueError, match="read-only"):
                logs[0] = 0.0

    def test_lines_layers_and_middles_of_a_product(self):
        rng = np.random.default_rng(2)
        axes = [np.sort(rng.normal(size=n)) for n in (3, 4, 2)]
        shares = [rng.random(n) for n in (3, 4, 2)]
        points = np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=1)
        mass = np.einsum("i,j,k->ijk", *shares).ravel()
        block = Block.of(1.0, points, np.log(mass), (3, 4, 2))
        for i, (x, share) in enumerate(zip(axes, shares, strict=True)):
            np.testing.assert_array_equal(block.lines[i], x)
            np.testing.assert_allclose(block.layers(mass, i), share * mass.sum() / share.sum(), rtol=1e-14)
            assert block.middles[i].mean == pytest.approx(np.average(x, weights=share), rel=1e-13)

    def test_threads_find_what_one_alone_does(self):
        """Rules are made while others look for them, and the oldest ones go."""
        problem = on_a_line(BUMPS)
        tolerances = np.geomspace(1e-3, 1e-8, 12).tolist()

        def call(tolerance):
            return mf.characteristics(problem, tolerance=tolerance, progress=False).energy

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(call, tolerances))
        for tolerance, energy in zip(tolerances, together, strict=True):
            alone = mf.characteristics(on_a_line(BUMPS), tolerance=tolerance, progress=False).energy
            np.testing.assert_array_equal(energy, alone)


class TestWatching:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(0.1, 6.0), st.booleans())
    def test_layers_that_leave_are_those_of_which_one_does(self, seed, wide, cut):
        """Means and spreads of all times together, against one place after the other."""
        rng = np.random.default_rng(seed)
        x = np.sort(rng.normal(size=rng.integers(3, 10)))
        block = Block.of(1.0, x[:, None], -0.5 * x**2, (len(x),), ((cut, False),))
        where = rng.normal(size=4) * (wide > 2.0)
        layers = np.exp(-0.5 * ((x - where[:, None]) / wide) ** 2)
        # what has underflowed is nowhere, and what lies on one node, but for rounding, may be next to either neighbour
        assume(layers.sum(axis=1).min() > 1e-300)
        places = [Place.of(x, layer) for layer in layers]
        assume(all(np.abs(x - place.mean).min() > 1e-12 for place in places))
        alone = any(place.new([block.middles[0]]) for place in places)
        leans = cut and any(watch([block], layer).beyond > ancestry.LEANING for layer in layers)
        assert ancestry._leaves(block, 0, layers) == (alone or leans)

    def test_what_lies_on_one_node_is_as_wide_as_half_its_distance_from_the_next(self):
        """Nodes two apart carry a normal law of spread 1: what lies on one of them is not narrower than they see."""
        x = np.array([-3.0, -1.0, 1.0, 3.0])
        block = Block.of(1.0, x[:, None], -0.5 * x**2, (4,), ((False, False),))
        for k, leaves in enumerate([True, False, False, True]):
            layer = np.eye(4)[k]
            assert Place.of(x, layer) == Place(x[k], 1.0)
            assert ancestry._leaves(block, 0, layer[None]) is leaves

    def test_components_without_mass_do_not_count(self):
        """At each time a component counts if it has any mass, as if that time were the only one."""
        x = np.linspace(-1.0, 1.0, 7)
        blocks = [Block.of(0.5, x[:, None] + k, -8.0 * x**2, (7,), ((True, True),)) for k in range(2)]
        weights = np.random.default_rng(3).random((4, 14))
        weights[0, :7] = 0.0
        weights[1, 7:] = 1e-16
        weights[1, [0, 6]] = 0.0
        weights[2, 7:] *= 1e-5
        each = watch_each(blocks, weights)
        assert each == [watch(blocks, row) for row in weights]
        assert each[0] == watch(blocks[1:], weights[0, 7:])
        assert each[1].beyond == 0.0 < each[2].beyond
        assert worst(each).nodes == min(one.nodes for one in each)
        assert worst(each).by_axis == (max(one.by_axis[0] for one in each),)

    def test_they_are_looked_at_once_a_run(self, monkeypatch):
        seen = []

        def count(*given):
            seen.append(given)
            return watch_each(*given)

        monkeypatch.setattr(search, "watch_each", count)
        found = mf.characteristics(PROBLEMS["network"], tolerance=1e-6, progress=False)
        assert len(found.refinements) == 3
        assert len(seen) == 1  # what changes too much is not looked at
        assert found.watched == tuple(watch_each(*seen[0]))
        assert len(seen[0][0].nodes[1]) == math.prod(found.refinements[-1].nodes)
        seen.clear()
        found = mf.characteristics(PROBLEMS["kernel"], nodes=8, tolerance=1e-6, progress=False)
        in_space = [run for run in found.refinements if run.refined == "x"]
        assert len(seen) == 1 + len(in_space) > 2
        assert found.watched == tuple(watch_each(*seen[-1]))
        assert len(seen[-1][0].nodes[1]) == in_space[-1].size


def test_moments_of_coordinates_are_sums_over_nodes():
    axes = [mf.Axis("x", -1, 3), mf.Axis("y", 0, 2, mf.End.PERIODIC), mf.Axis("z", -1, 1)]
    start = mf.Product(x=stats.norm(0.8, 0.1), y=stats.uniform(0, 2), z=stats.norm(0, 0.1))
    problem = mf.Problem(energy=mf.Confinement(x=1.0, z=1.0), axes=axes, initial=start, t_end=1.0)
    points, weights = nodes_at_some_times(problem, 3, 8)
    found = coordinates_of(Dynamics(problem), points, weights)
    x, z = points[:, :, 0] / 4, points[:, :, 2] / 2
    sums = [np.sum(weights * part, axis=1) for part in (x, z, x**2, z**2, np.ones_like(x))]
    np.testing.assert_allclose(found, np.stack(sums, axis=1), rtol=1e-13, atol=1e-15)


def test_places_of_several_times_are_those_one_by_one():
    axes = [mf.Axis("x", -1, 3), mf.Axis("y", 0, 2, mf.End.PERIODIC)]
    start = mf.Product(x=stats.norm(0.8, 0.1), y=stats.uniform(0, 2))
    dynamics = Dynamics(mf.Problem(energy=mf.Confinement(x=1.0), axes=axes, initial=start, t_end=1.0))
    rows = np.random.default_rng(4).normal(0.0, 4.0, (5, 2, 20))
    found = dynamics.place(rows)
    np.testing.assert_array_equal(found, [dynamics.place(one) for one in rows])
    np.testing.assert_array_equal(found[..., 0], np.clip(rows[:, 0], -1, 3))
    np.testing.assert_allclose(found[..., 1], np.mod(rows[:, 1], 2.0), atol=1e-15)
