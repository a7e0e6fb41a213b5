"""Nodes that hold next to nothing at any time are left out of refinements."""

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.equation.energy import Discrepancy, GaussianKernel, SeparableKernel
from mfpde.equation.grid import Axis
from mfpde.equation.measures.quadrature import Block
from mfpde.lagrangian import search
from mfpde.lagrangian.ancestry import growth, nodes_of, worth_moving
from mfpde.lagrangian.lane import integrate
from mfpde.lagrangian.nodes import Dynamics, OutOfTime, Stepping
from mfpde.lagrangian.search import PRUNED

TIMES = np.linspace(0.0, 1.0, 9)


def plane(**options):
    """A pair of bumps, a start beside them, and birth-death that brings a tail of the start to life."""
    return mf.problems.gaussian_bumps(centres=[(-1.5, -1.0), (1.5, 1.25)], **options)


def network():
    x = np.linspace(-2.0, 2.0, 64)
    return mf.problems.network(x, np.tanh(2 * x) - 0.5 * np.sin(2 * x), bias=False, alpha=1.0, half_width=4.0)


PROBLEMS = {"bumps": plane(), "bumps, strong birth-death": plane(alpha=40.0), "network": network()}


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("share", [1e-4, 1e-7])
def test_what_is_left_out_never_holds_more(kind, share):
    """By a run of all nodes, at all times: also where the mass of later times descends from a tail."""
    problem = PROBLEMS[kind]
    dynamics, measure = Dynamics(problem), problem.mu_0
    times = problem.t_end * TIMES
    coarse, fine = measure.blocks((17, 17)), measure.blocks((30, 30))
    first, all_of_them = (integrate(dynamics, nodes_of(b), times, Stepping(1e-7)) for b in (coarse, fine))
    kept = worth_moving(coarse, growth(coarse, first.weights), fine, share)
    left = np.setdiff1d(np.arange(900), kept)
    held = all_of_them.weights[:, left].sum(axis=1)
    assert held.max() <= share
    # and not for nothing
    assert len(kept) < 800


def test_growth_goes_on_beyond_the_outermost_node():
    """Logs grow as 12 |x|: nodes that the coarse rule does not reach hold exp(12 |x| - x^2 / 2) of what they held."""

    def rule(x):
        return (Block.of(1.0, x[:, None], -0.5 * x**2, (len(x),), ((True, True),)),)

    coarse, fine = rule(np.linspace(-6.0, 6.0, 13)), rule(np.linspace(-9.0, 9.0, 37))
    logs = nodes_of(coarse)[1]
    later = np.exp(logs + 12.0 * np.abs(coarse[0].points[:, 0]))
    weights = np.stack([np.exp(logs), later / later.sum()])
    grown = growth(coarse, weights)
    more = 12.0 * np.abs(coarse[0].points[:, 0]) - np.log(later.sum())
    np.testing.assert_allclose(grown[0], np.maximum(more, 0.0), atol=1e-12)
    kept = fine[0].points[worth_moving(coarse, grown, fine, 1e-3), 0]
    # at 8.5 there is exp(12 |x| - 12 * 6 - (x^2 - 6^2) / 2) = 1e5 times what is at 6, as there seems to be
    assert np.abs(kept).max() >= 8.5
    # between where the start was and where the mass goes there is nothing at any time
    assert 3.5 not in kept
    # without growth only the middle is
    still = fine[0].points[worth_moving(coarse, growth(coarse, weights[:1]), fine, 1e-3), 0]
    assert np.abs(still).max() <= stats.norm.isf(0.5e-3) + 0.5


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_results_are_as_good_as_they_say(kind, tolerance):
    problem = PROBLEMS[kind]
    best = mf.characteristics(problem, save=5, tolerance=1e-8, progress=False)
    found = mf.characteristics(problem, save=5, tolerance=tolerance, progress=False)
    assert found.error_estimate <= tolerance
    assert np.all(np.abs(found.energy - best.energy) <= found.energy_error + best.energy_error)
    last = found.refinements[-1]
    assert found.points.shape[1] == found.weights.shape[1] == last.size <= np.prod(last.nodes)
    if last.refined == "all" and kind != "bumps, strong birth-death":
        assert last.size < 0.9 * np.prod(last.nodes)
        # what is left out is in the estimate
        assert found.error_estimate >= 100.0 * PRUNED * tolerance


def space(law, **settings):
    """A kernel in space, and a start that is the same law along each axis."""
    axes, wide = [Axis(name, -2.0, 2.0) for name in "abc"], GaussianKernel(1.0)
    return mf.Problem(
        axes=axes,
        energy=Discrepancy(SeparableKernel(a=wide, b=wide, c=wide), np.array([[0.5, 0.3, -0.2]]), np.ones(1)),
        initial=mf.Product(**{axis.name: law for axis in axes}),
        t_end=0.5,
        **settings,
    )


@pytest.mark.parametrize("most", [2000, 3000, 4000, 5000])
def test_first_nodes_in_space_leave_room_for_a_refinement_where_all_of_them_hold_mass(most):
    """Of a uniform start none is left out: where a search counted on that, nothing was known of its error."""
    problem = space(stats.uniform(-1.0, 2.0), alpha=0.0)
    result = mf.characteristics(problem, tolerance=1e-3, max_nodes=most, save=3, progress=False)
    assert result.converged
    assert [entry.refined for entry in result.refinements] == ["", "all"]
    assert max(entry.size for entry in result.refinements) <= most


def test_a_clock_that_ends_a_search_before_all_nodes_were_moved(monkeypatch):
    """There is no room for a refinement of all axes; the run that is left has moved some of its nodes alone."""
    runs, integrated = [], search.integrate

    def until_the_third(*arguments, **options):
        if len(runs) == 2:
            raise OutOfTime
        runs.append(integrated(*arguments, **options))
        return runs[-1]

    monkeypatch.setattr(search, "integrate", until_the_third)
    monkeypatch.setattr(search, "MOST_TOGETHER", {3: 1200})
    with pytest.warns(mf.RunWarning, match="time_limit = 3600 s"):
        found = mf.characteristics(
            space(stats.norm(0.2, 0.3), alpha=1.0), tolerance=1e-5, save=3, time_limit=3600, progress=False
        )
    assert len(runs[-1].start) < 23**3
    np.testing.assert_array_equal(found.points, runs[-1].points)
    assert found.error_estimate == np.inf
    assert not found.converged
