"""Tables that are as accurate as the mass is where: by fewer functions, and noticed where they miss something."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from smooth import PROBLEMS, SEVERAL, on_a_line

import mfpde as mf
from mfpde.lagrangian import characteristics, lane, search
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.assembly import MOST_BULKS, from_tables, lane_of
from mfpde.lagrangian.bulk import LEVELS, Bulk, bulk_of
from mfpde.lagrangian.nodes import Dynamics, Stepping

AXIS = mf.Axis("x", -8.0, 8.0)
UNIT = 16.0 / 64
"""To which places on it are rounded."""
EVERY = PROBLEMS | SEVERAL


def network(**options):
    """In amplitude, weight and bias, so narrow a start that most of the box is far out."""
    x = np.linspace(-2.0, 2.0, 64)
    return mf.problems.network(x, np.tanh(2 * x), bias=True, alpha=1.0, t_end=2.0, half_width=4.0, **options)


SHIPPED = {
    "bumps, plane": mf.problems.gaussian_bumps(centres=[(-1.5, -1.0), (1.5, 1.0)], t_end=2.0),
    "bumps, space": mf.problems.gaussian_bumps(centres=[(-1.5, -1.0, -0.5), (1.5, 1.0, 0.5)], t_end=1.0),
    "network, space": network(),
    "three-gaussians": mf.problems.three_gaussians(),
    "single-index": mf.problems.get("single-index"),
}


def run_of(problem, rtol=1e-5, count=None):
    """A run of nodes everywhere, and where their mass is."""
    dynamics, d = Dynamics(problem), len(problem.axes)
    start = nodes_of(problem.mu_0.blocks((count or {1: 30, 2: 20, 3: 9, 4: 5}[d],) * d))
    run = lane.integrate(dynamics, start, np.linspace(0.0, problem.t_end, 5), Stepping(rtol, quick=True))
    return dynamics, run, bulk_of(problem.axes, run.points, run.weights)


class TestWhereTheMassIs:
    def test_places_beyond_which_there_is_less_than_each_level(self):
        """Ten nodes a unit apart, their masses 10^-1 .. 10^-5 from the middle out: the tails add up to just more."""
        tail = 10.0 ** -np.arange(5.0, 0.0, -1.0)
        weights = np.concatenate([tail, tail[::-1]])[None]
        points = np.arange(-4.5, 5.0)[None, :, None]
        found = bulk_of([AXIS], points, weights / weights.sum())
        # relative to all of it the outermost node holds 10^-5 / 0.22222 = 4.5e-5
        assert found.low == ((-0.5, -1.5, -2.5, -3.5, -4.5, -4.5, -4.5),)
        assert found.high == ((0.5, 1.5, 2.5, 3.5, 4.5, 4.5, 4.5),)

    def test_places_are_rounded_outward(self):
        points, weights = np.array([[[-1.9], [0.1], [2.1]]]), np.array([[0.2, 0.6, 0.2]])
        found = bulk_of([AXIS], points, weights)
        assert found.low == ((-2.0,) * 7,)
        assert found.high == ((2.25,) * 7,)

    def test_nodes_count_by_what_they_hold_later(self):
        """What moves a node before it holds the mass matters as much."""
        points = np.array([[[-6.0], [0.0]], [[-1.0], [0.0]], [[-1.0], [0.0]]])
        weights = np.array([[1e-30, 1.0], [0.9, 0.1], [1e-30, 1.0]])
        assert bulk_of([AXIS], points, weights).low == ((-6.0,) * 7,)

    def test_a_periodic_axis_has_no_far_end(self):
        axis = mf.Axis("x", 0.0, 2.0, mf.End.PERIODIC)
        found = bulk_of([axis], np.array([[[0.9], [1.1]]]), np.array([[0.5, 0.5]]))
        np.testing.assert_array_equal(found.share(0, np.linspace(0.0, 2.0, 9)), 1.0)

    def test_the_share_is_the_mass_beyond(self):
        found = Bulk((AXIS,), (tuple(-np.arange(1.0, 8.0)),), (tuple(2.0 * np.arange(0.5, 4.0, 0.5)),))
        np.testing.assert_allclose(found.share(0, np.array([-1.0, 0.0, 1.0])), 1.0)
        np.testing.assert_allclose(found.share(0, np.array(found.low[0])), LEVELS / LEVELS[0])
        np.testing.assert_allclose(found.share(0, np.array(found.high[0])), LEVELS / LEVELS[0])
        np.testing.assert_allclose(found.share(0, np.array([-2.5, -8.0, 8.0])), [10.0**-1.5, 1e-6, 1e-6])

    def test_the_share_at_a_place_is_the_least_along_any_axis(self):
        places = (tuple(-np.arange(1.0, 8.0)),) * 2
        found = Bulk((AXIS, AXIS), places, tuple(tuple(-x for x in low) for low in places))
        np.testing.assert_allclose(found.shares(np.array([[2.0, 0.0], [2.0, -3.0]]), (0, 1)), [0.1, 0.01])

    def test_probes_lie_as_the_mass_does(self):
        normal = stats.norm(0.5, 1.0)
        points = np.linspace(-7.0, 8.0, 3001)
        found = bulk_of([AXIS], points[None, :, None], normal.pdf(points)[None])
        probes = found.probes(4000)[:, 0]
        for level in LEVELS[:3]:
            beyond = normal.isf(level) - 0.5
            # where the probes have a place that the mass does not have, they are within what places are rounded by
            assert np.mean(probes < 0.5 - beyond - UNIT) <= level + 1e-3
            assert np.mean(probes < 0.5 - beyond + UNIT) >= level - 1e-3
            assert np.mean(probes > 0.5 + beyond + UNIT) <= level + 1e-3

    def test_a_wall_where_much_is_counts_as_much(self):
        found = bulk_of([AXIS], np.array([[[-8.0], [0.0], [8.0]]]), np.array([[0.3, 0.4, 0.3]]))
        np.testing.assert_array_equal(found.share(0, np.array([-8.0, 8.0])), 1.0)


class TestTables:
    @pytest.mark.parametrize("name", SHIPPED)
    @pytest.mark.parametrize("accuracy", [1e-4, 1e-6])
    def test_are_accurate_where_the_mass_is(self, name, accuracy):
        """On average over the measure, at the start and at the end: as accurate as the check wants it at the probes."""
        dynamics, run, bulk = run_of(SHIPPED[name])
        made = lane_of(dynamics, accuracy, bulk=bulk)
        assert not isinstance(made, str), made
        for points, weights in ((run.points[0], run.weights[0]), (run.points[-1], run.weights[-1])):
            response = dynamics.bound.response(points, weights)
            V, velocity, _ = from_tables(made.motion, points, weights)
            start = dynamics.bound.response(run.points[0], run.weights[0])
            for found, wanted, first in (
                (V, dynamics.bound.potential(points, response), dynamics.bound.potential(points, start)),
                (velocity, dynamics.velocity(points, response), dynamics.velocity(points, start)),
            ):
                assert (np.abs(found - wanted) @ weights).max() <= 10.0 * accuracy * np.abs(first).max()

    @pytest.mark.parametrize("name", ["bumps, plane", "bumps, space", "network, space"])
    def test_are_of_fewer_functions(self, name):
        dynamics, _, bulk = run_of(SHIPPED[name])
        everywhere, there = lane_of(dynamics, 1e-5), lane_of(dynamics, 1e-5, bulk=bulk)
        assert there.work <= 0.5 * everywhere.work
        assert there.text.endswith(", where the mass is")

    def test_the_target_is_kept_wherever_it_is(self):
        """A target twenty standard deviations out moves the mass by what functions for the bulk alone do not have.

        ``V(x) = int k(x, y) mu(dy) - k(x, m)`` with ``k(x, y) = sqrt(pi) exp(-(x - y)^2 / 4)``: in the bulk of a normal
        measure of variance s^2 the first is ``sqrt(pi) (1 + s^2 / 2)^(-1/2) exp(-x^2 / (4 + 2 s^2))``.
        """
        s, m = 0.3, 6.0
        start = mf.Product(x=stats.norm(0.0, s))
        problem = replace(mf.problems.gaussian_bumps(centres=[m], weights=[1.0], t_end=2.0), initial=start)
        dynamics, run, bulk = run_of(problem, count=40)
        points, weights = run.points[0], run.weights[0]
        x = points[:, 0]
        own = np.exp(-(x**2) / (4 + 2 * s**2)) / np.sqrt(1 + 0.5 * s**2)
        wanted = np.sqrt(np.pi) * (own - np.exp(-((x - m) ** 2) / 4))
        for accuracy in (1e-3, 1e-4, 1e-6):
            made = lane_of(dynamics, accuracy, bulk=bulk)
            assert not isinstance(made, str), made
            V = from_tables(made.motion, points, weights)[0]
            assert np.abs(V - wanted) @ weights <= 10.0 * accuracy

    def test_what_is_not_accurate_at_the_probes_is_refused(self):
        """Functions for one place make no difference of the energy between the start and that place."""
        dynamics, run, _ = run_of(SHIPPED["bumps, plane"])
        bulk = bulk_of(dynamics.problem.axes, 4.8 + 0.01 * run.points, run.weights)
        made = lane_of(dynamics, 1e-6, bulk=bulk)
        assert isinstance(made, str)
        assert "is not that of its tables" in made

    def test_the_last_ones_are_kept(self):
        dynamics, run, _ = run_of(on_a_line(mf.Confinement(x=0.5)))
        axes = dynamics.problem.axes
        spread = [bulk_of(axes, k * run.points, run.weights) for k in np.linspace(0.2, 1.0, MOST_BULKS + 4)]
        assert len({*spread}) == len(spread)
        made = [lane_of(dynamics, 1e-4, bulk=bulk) for bulk in spread]
        assert lane_of(dynamics, 1e-4, bulk=spread[-1]) is made[-1]
        assert lane_of(dynamics, 1e-4, bulk=spread[0]) is not made[0]
        everywhere = lane_of(dynamics, 1e-4)
        assert lane_of(dynamics, 1e-4) is everywhere


class TestCharacteristics:
    @staticmethod
    def both(monkeypatch, problem, tolerance, **options):
        """The same with tables for where the mass is, and with those that are as accurate everywhere."""
        found = []
        for worth in (0.0, np.inf):
            monkeypatch.setattr(search, "WORTH", worth)
            found.append(mf.characteristics(problem, save=3, tolerance=tolerance, progress=False, **options))
        return found

    @pytest.mark.parametrize("name", SHIPPED)
    def test_shipped_problems_agree_within_their_estimates(self, name, monkeypatch):
        there, everywhere = self.both(monkeypatch, SHIPPED[name], 1e-4)
        assert there.engine.reason.endswith(", where the mass is")
        assert not everywhere.engine.reason.endswith(", where the mass is")
        apart = np.abs(there.energy - everywhere.energy)
        assert (apart <= there.energy_error + everywhere.energy_error).all()
        # and both are far better than that, as one that is not run by tables at all
        assert (apart <= 1e-5 * np.abs(everywhere.energy).max()).all()

    @pytest.mark.parametrize("kind", [kind for kind in EVERY if "four axes" not in kind])
    def test_all_kinds_agree_within_their_estimates(self, kind, monkeypatch):
        there, everywhere = self.both(monkeypatch, EVERY[kind], 1e-3)
        apart = np.abs(there.energy - everywhere.energy)
        assert (apart <= there.energy_error + everywhere.energy_error).all()

    @pytest.mark.parametrize("late", [False, True])
    def test_a_wrong_idea_of_where_the_mass_is_is_noticed(self, late, monkeypatch):
        """Tables for a third of where the nodes are: their energies show it.

        They do after each run, by the last energy, and at the end of the search, by all of them.
        """
        searches = []
        monkeypatch.setattr(characteristics, "Search", lambda *of: searches.append(search.Search(*of)) or searches[-1])
        if late:
            monkeypatch.setattr(search.Search, "off", lambda self, run: 0.0)
        problem = replace(SHIPPED["bumps, plane"], name="of its own")
        monkeypatch.setattr(search, "bulk_of", lambda axes, points, weights: bulk_of(axes, 0.3 * points, weights))
        there, everywhere = self.both(monkeypatch, problem, 1e-4)
        assert len(searches) == (3 if late else 2)
        assert there.engine == everywhere.engine
        np.testing.assert_array_equal(there.points, everywhere.points)

    def test_where_there_are_none_the_others_are_taken(self, monkeypatch):
        monkeypatch.setattr(
            lane, "lane_of", lambda *of, bulk=None: "a test says so" if bulk is not None else lane_of(*of)
        )
        there, everywhere = self.both(monkeypatch, SHIPPED["bumps, plane"], 1e-4)
        assert there.engine == everywhere.engine
        np.testing.assert_array_equal(there.points, everywhere.points)

    def test_nodes_between_save_times_are_moved_by_the_same_tables(self, monkeypatch):
        monkeypatch.setattr(search, "WORTH", 0.0)
        run = mf.characteristics(SHIPPED["bumps, plane"], save=3, tolerance=1e-3, progress=False)
        made = []
        monkeypatch.setattr(lane, "lane_of", lambda *of, **options: made.append(lane_of(*of, **options)) or made[-1])
        run.nodes_at(1.5)
        assert [one.text for one in made] == [run.engine.reason]

    def test_short_runs_have_no_tables_of_their_own(self):
        run = mf.characteristics(SHIPPED["bumps, plane"], save=3, tolerance=1e-3, progress=False)
        assert not run.engine.reason.endswith("where the mass is")
