"""Reference values: bars that hold, observables that are what they say, disagreement that is seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde import certify

CLOSED = {
    "linear-neuron": (mf.problems.linear_neuron(alpha=2.0, target=1.0, mean=0.2), [0.3, 1.0]),
    "quadratic-well": (mf.problems.quadratic_well(alpha=1.0, mean=0.4), [0.5, 1.0]),
    "circle": (mf.problems.single_index(k=2, d=2), [0.5, 1.5]),
    "gaussian-langevin": (mf.problems.gaussian_langevin(mean=0.5), [0.3, 0.9]),
}


@pytest.mark.parametrize("name", CLOSED)
def test_the_truth_is_within_the_bars(name):
    problem, times = CLOSED[name]
    found = mf.reference(problem, 1e-5, times=times)
    assert found.reached
    energy = found["energy"]
    exact = np.array([problem.exact["energy"](t) for t in times])
    assert energy.relative <= 1e-5
    assert np.all(np.abs(energy.value - exact) <= energy.bar)
    assert np.all(np.abs(energy.other_value - exact) <= energy.other_bar)
    assert np.all(energy.other_bar <= 1e-3 * np.abs(energy.other_value))
    assert energy.route != energy.other
    assert name in str(found) or problem.name in str(found)


def test_observables_are_what_they_say():
    """A Gaussian that is carried along: quadratic well without birth-death, mean and variance in closed form."""
    problem = mf.problems.quadratic_well(strength=1.0, alpha=0.0, mean=0.8, variance=0.3)
    t = 0.7
    law = stats.norm(0.8 * math.exp(-t), math.sqrt(0.3) * math.exp(-t))
    edges = np.array([-0.5, 0.0, 0.25, 0.7])
    found = mf.reference(
        problem,
        1e-5,
        [
            mf.EnergyAt(t),
            mf.Moment("x", 1, t),
            mf.Moment("x", 2, [0.0, t]),
            mf.MassIn({"x": (0.0, 0.7)}, t),
            mf.Marginal("x", edges, t),
            mf.DecayRate((0.2, t)),
        ],
    )
    truth = {
        "energy": 0.5 * law.moment(2),
        "moment x^1": law.mean(),
        "moment x^2": np.array([0.3 + 0.64, law.moment(2)]),
        "mass in x [0, 0.7]": law.cdf(0.7) - law.cdf(0.0),
        "marginal over x": np.diff(law.cdf(edges)) / np.diff(edges),
        "decay rate of the energy": 2.0,
    }
    assert found.reached
    assert {c.name for c in found.observables} == set(truth)
    for name, value in truth.items():
        certified = found[name]
        assert np.all(np.abs(certified.value - value) <= certified.bar), name
        assert certified.relative <= 1e-5, name
    assert found["moment x^2"].times.tolist() == [0.0, 0.7]
    assert found["decay rate of the energy"].times.tolist() == [0.7]
    assert "3 values" in str(found)
    with pytest.raises(KeyError, match=r"no observable .*mass.*; valid: energy, moment"):
        found["mass"]


@pytest.mark.parametrize("point_values", [False, True])
@pytest.mark.parametrize("end", [mf.End.PERIODIC, mf.End.TRUNCATION])
def test_masses_in_intervals_are_of_fourth_order(point_values, end):
    axis = mf.Axis("x", -math.pi, math.pi, end)
    problem = mf.Problem(energy=mf.External(np.cos), axes=[axis], initial=mf.Dirac(x=0.0), t_end=1.0)
    kappa = 2.0 if end is mf.End.PERIODIC else 12.0
    law = stats.vonmises(kappa)
    edges = [-1.0, 0.1, 0.9]
    errors = []
    for n in (40, 80, 160):
        grid = problem.grid(n)
        x, f = grid.centres(0), grid.faces(0)
        weights = law.pdf(x) * grid.cell_volume if point_values else np.diff(law.cdf(f))
        at = certify.Measured(problem, (x,), weights, 0.0, grid, point_values)
        found = mf.Marginal("x", edges).measure(at) * np.diff(edges)
        assert found.sum() == pytest.approx(float(mf.MassIn({"x": (-1.0, 0.9)}).measure(at)), rel=1e-13)
        errors.append(np.abs(found - np.diff(law.cdf(edges))).max())
        whole = float(mf.MassIn({"x": (-math.pi, math.pi)}).measure(at))
        assert whole == pytest.approx(weights.sum(), rel=1e-12)
    assert errors[-1] < 1e-5
    assert np.log2(errors[0] / errors[-1]) / 2 > 3.5


def test_boxes_over_several_axes():
    problem = mf.problems.three_gaussians()
    grid = problem.grid((120, 100))
    law = {"c": stats.norm(0.5, 0.8), "y": stats.norm(-0.5, 0.7)}
    mass = np.outer(*(np.diff(law[a.name].cdf(grid.faces(i))) for i, a in enumerate(grid.axes)))
    at = certify.Measured(problem, tuple(grid.mesh()), mass, 0.0, grid)
    found = float(mf.MassIn({"c": (0.0, 1.0), "y": (-1.0, 0.3)}).measure(at))
    expected = np.prod([law["c"].cdf(1.0) - law["c"].cdf(0.0), law["y"].cdf(0.3) - law["y"].cdf(-1.0)])
    assert found == pytest.approx(expected, abs=2e-5)
    one = float(mf.MassIn({"y": (-1.0, 0.3)}).measure(at))
    assert one == pytest.approx(law["y"].cdf(0.3) - law["y"].cdf(-1.0), abs=2e-5)


def test_outputs_and_two_axes():
    problem = mf.problems.three_gaussians(alpha=5.0)
    x = np.linspace(-3, 3, 7)
    found = mf.reference(problem, 1e-3, [mf.EnergyAt(), mf.OutputAt(x)], times=[0.5])
    assert found.reached
    exact = mf.characteristics(problem, 0.5, save=2, progress=False)
    assert np.all(np.abs(found["output at 7 inputs"].value[0] - exact.predict(x)) <= found["output at 7 inputs"].bar[0])
    assert abs(found["energy"].value[0] - exact.energy[-1]) <= found["energy"].bar[0] + exact.energy_error[-1]


def test_where_characteristics_do_not_apply_meshes_are_compared():
    problem = mf.problems.three_gaussians(alpha=2.0, t_end=0.2)
    measure = mf.Product(c=stats.norm(0, 0.5), y=stats.norm(0, 1))
    problem = replace(problem, reinjection=mf.Reinjection(measure))
    found = mf.reference(problem, 3e-3)
    assert {found["energy"].route, found["energy"].other} == {"mesh, Weno5", "mesh, Muscl"}
    assert found.reached


def test_discretisations_that_differ_are_seen(monkeypatch):
    measure = certify.EnergyAt.measure
    monkeypatch.setattr(certify.EnergyAt, "measure", lambda self, at: measure(self, at) * (1.05 if at.grid else 1.0))
    with pytest.raises(mf.Disagreement, match=r"'quadratic-well', energy: characteristics says .* mesh, Weno5 "):
        mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5, memory=5e4)


def test_between_agreement_and_error_the_bar_reaches_to_the_other_value(monkeypatch):
    measure = certify.EnergyAt.measure
    monkeypatch.setattr(certify.EnergyAt, "measure", lambda self, at: measure(self, at) * (1.05 if at.grid else 1.0))
    monkeypatch.setattr(certify, "DOUBT", math.inf)
    found = mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5, memory=5e4)
    energy = found["energy"]
    assert not found.reached
    assert energy.bar == abs(energy.value - energy.other_value)
    assert energy.relative == pytest.approx(0.05, rel=1e-2)
    assert abs(energy.value - energy.other_value) <= energy.other_bar


def test_the_best_is_reported_when_time_or_memory_is_over():
    problem = mf.problems.quadratic_well()
    short = mf.reference(problem, 1e-12, budget=1e-3)
    assert not short.reached
    # three levels of each route, and what finer steps change: on the first of each, and on the last of the better one
    assert len(short.levels) == 9
    assert "NOT reached within the budget" in str(short)
    energy = short["energy"]
    assert 1e-12 < energy.relative < 0.1
    assert abs(energy.value[0] - problem.exact["energy"](1.0)) <= energy.bar[0]
    little = mf.reference(problem, 1e-12, memory=1.0, budget=1e-3)
    assert len(little.levels) == 9
    said = []
    mf.reference(problem, 1e-2, progress=said.append)
    assert said[0] == "characteristics, 8"


def test_another_mesh_confirms_where_nodes_converge_too_slowly(monkeypatch):
    forecast = certify._Ladder.forecast

    def hopeless(self, goal):
        return math.inf if isinstance(self.route, certify._Nodes) else forecast(self, goal)

    monkeypatch.setattr(certify._Ladder, "forecast", hopeless)
    problem = mf.problems.mmd_flow("wave")
    energy = mf.reference(problem, 1e-2, times=[0.5])["energy"]
    assert (energy.route, energy.other) == ("mesh, Weno5", "mesh, Muscl")
    assert abs(energy.value[0] - problem.exact["energy"](0.5)) <= energy.bar[0]
    assert abs(energy.other_value[0] - problem.exact["energy"](0.5)) <= energy.other_bar[0]


# ---------------------------------------------------------------------------------------------------------------------
# bars, from sequences whose limit is known
# ---------------------------------------------------------------------------------------------------------------------


class Stub(certify._Route):
    """A route whose values are given."""

    name = "stub"

    def __init__(self, fastest):
        super().__init__(mf.problems.quadratic_well(), np.array([1.0]))
        self.fastest = fastest

    def cells(self, level):
        return (10 * 2**level,)

    def bytes(self, level):
        return 0.0

    def run(self, level, step):
        raise NotImplementedError


def ladder(values, witness, fastest=None, in_time=0.0):
    found = certify._Ladder(Stub(fastest), [mf.EnergyAt()], [np.array([0])], lambda route, level, run: run())
    found.values = [[np.array([v]), np.array([w]), np.array([[w, w]])] for v, w in zip(values, witness, strict=True)]
    found.in_time = [np.array([in_time]), np.array([0.0]), np.zeros((1, 2))]
    found.settled = len(values)
    found.seconds = 1.0
    return found


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("levels", [4, 5, 6])
def test_the_bar_of_one_order_is_five_times_the_error(ratio, levels):
    values = 1.0 + 1e-3 * ratio ** np.arange(levels)
    found = ladder(values, values, fastest=0.01)
    (bar,), following = found.bars()
    assert following == pytest.approx(ratio, rel=1e-3)
    assert bar[0] / (values[-1] - 1.0) == pytest.approx(certify.SAFETY, rel=2e-3)


def test_what_is_not_evident_is_not_believed():
    # three levels alone: no ratio below 0.2 on a mesh, 0.01 along characteristics
    values = 1.0 + 1e-3 * 1e-3 ** np.arange(3)
    assert ladder(values, values, fastest=0.01).bars()[1] == certify.FIRST_ON_MESH
    assert ladder(values, values).bars()[1] == certify.FIRST
    # a scheme of known order cannot do better than that
    values = 1.0 + 1e-3 * 1e-3 ** np.arange(4)
    assert ladder(values, values, fastest=0.05).bars()[1] == 0.05
    # ratios 0.5 and 0.005: the second alone may be chance
    values = 1.0 + np.cumsum([0.0, 1e-3, 5e-4, 2.5e-6])
    assert ladder(values, values).bars()[1] == pytest.approx(math.sqrt(0.5 * 0.005), rel=1e-3)
    # on a mesh one step may be lucky, and two
    values = 1.0 + np.cumsum([0.0, 1e-3, 6e-4, 3e-4, 1.5e-5])
    assert ladder(values, values, fastest=0.01).bars()[1] == pytest.approx((0.6 * 0.5 * 0.05) ** (1 / 3), rel=1e-3)
    # no convergence at all, or NaN
    values = 1.0 + 1e-3 * (-1.0) ** np.arange(4)
    assert ladder(values, values).bars()[1] == certify.SLOWEST
    values[0] = math.nan
    assert ladder(values, values).bars()[1] == certify.SLOWEST
    assert ladder(values[:2], values[:2]).bars()[0][0] == math.inf


def test_a_number_that_stands_still_by_chance_gets_a_bar_all_the_same():
    witness = 1.0 + 1e-3 * 0.3 ** np.arange(5)
    still = np.array([1.003, 1.001, 1.0, 1.0, 1.0])
    (bar,), following = ladder(still, witness).bars()
    typical = certify._typical([c * 7e-4 * 0.3**3 for c in (np.zeros(1), np.ones(1), np.ones((1, 2)))])
    assert bar[0] == pytest.approx(5 * following / (1 - following) * 0.1 * typical, rel=2e-2)
    # one step of chance: what the change before lets expect
    once = 1.0 + 1e-3 * np.array([1.0, 0.3, 0.09, 0.027, 0.027])
    (bar,), following = ladder(once, witness).bars()
    assert following > 0.2
    assert bar[0] >= 5 * following / (1 - following) * following * 6.3e-5


def test_the_error_in_time_is_part_of_the_bar():
    values = 1.0 + 1e-9 * 0.3 ** np.arange(4)
    found = ladder(values, values, in_time=2e-4)
    assert found.bars()[0][0][0] == pytest.approx(certify.SAFETY_IN_TIME * 2e-4, rel=1e-4)
    assert found.stuck
    assert not ladder(values, values).stuck


def test_a_forecast_adds_levels_until_the_goal():
    values = 1.0 + 1e-3 * 0.5 ** np.arange(4)
    found = ladder(values, values, fastest=0.01)
    # the bar is 5 e, and halves; the work doubles: 2 + 4 + 8 s for a seventh of it
    assert found.forecast(found.worst() / 7) == pytest.approx(14.0)
    assert found.forecast(2 * found.worst()) == 0.0
    assert found.next_seconds() == pytest.approx(2.0)
    assert ladder(values, values, in_time=1.0).forecast(1e-300) == math.inf


def test_the_worse_route_is_seen_from_the_better_one():
    value, bar = np.array([1.0, 1.0, 1.0]), np.array([1e-6, 1e-6, 1e-6])
    other, own = np.array([1.001, 1.001, 1.001]), np.array([0.1, 1e-3, 1e-4])
    # much nearer than it knows; just so; farther, which a bar that is too narrow explains
    seen = certify._seen_from(value, bar, other, own)
    assert seen == pytest.approx([1.001e-3, 1e-3, 1.001e-3], rel=1e-9)


def test_steps_are_made_finer_until_their_error_is_a_part_of_the_goal():
    problem = mf.problems.gaussian_langevin(temperature=0.1, mean=0.5)
    times = np.array([0.5])
    route = certify._routes(problem, times, False)[1]
    found = certify._Ladder(route, [mf.EnergyAt()], [np.array([0])], lambda route, level, run: run())
    found.refine(1e-3, math.inf)
    first, coarse = route.step, found.in_time[0][0] / found.scales[0][0]
    assert coarse <= certify.SHARE_IN_TIME * 1e-3
    found.settle(1e-2 * coarse / certify.SHARE_IN_TIME, math.inf)
    assert route.step < first
    assert found.in_time[0][0] / found.scales[0][0] <= 1e-2 * coarse


# ---------------------------------------------------------------------------------------------------------------------
# end states
# ---------------------------------------------------------------------------------------------------------------------


def test_the_end_of_a_gaussian():
    tau, strength = 0.4, 1.3
    problem = mf.problems.gaussian_langevin(strength=strength, temperature=tau, mean=0.5)
    law = stats.norm(0.0, math.sqrt(tau / strength))
    edges = np.array([-1.0, 0.0, 0.3])
    times = (0.3, math.inf)
    found = mf.reference(
        problem,
        1e-5,
        [mf.EnergyAt(times), mf.Moment("x", 2, math.inf), mf.Marginal("x", edges, math.inf)],
    )
    assert found.reached
    energy = found["energy"]
    assert energy.times.tolist() == [0.3, math.inf]
    exact = [problem.exact["energy"](0.3), problem.exact["minimum_energy"]]
    assert np.all(np.abs(energy.value - exact) <= energy.bar)
    assert np.all(np.abs(energy.other_value - exact) <= energy.other_bar)
    assert energy.route.startswith("mesh, Weno5; end state, ")
    assert energy.route != energy.other
    variance = found["moment x^2"]
    assert {variance.route, variance.other} == {"end state, mesh", "end state, Gauss nodes"}
    marginal = found["marginal over x"]
    for certified, true in ((variance, tau / strength), (marginal, np.diff(law.cdf(edges)) / np.diff(edges))):
        assert np.all(np.abs(certified.value - true) <= certified.bar)
        assert np.all(np.abs(certified.other_value - true) <= certified.other_bar)
        assert certified.relative <= 1e-5
    assert "t = inf" in str(found)


@pytest.mark.parametrize(
    "problem",
    [
        mf.problems.torus_langevin(temperature=0.3),
        mf.problems.sphere_langevin(d=4),
        mf.problems.double_well_sampling(barrier=0.5, temperature=0.2),
    ],
    ids=lambda problem: problem.name,
)
def test_minima_in_closed_form(problem):
    energy = mf.reference(problem, 1e-7, times=[math.inf])["energy"]
    exact = problem.exact["minimum_energy"]
    assert energy.relative <= 1e-7
    assert abs(energy.value[0] - exact) <= energy.bar[0]
    assert abs(energy.other_value[0] - exact) <= energy.other_bar[0]


def test_masses_of_an_end_state_are_of_fourth_order():
    problem = mf.problems.gaussian_langevin(coupling=0.0, temperature=0.4, mean=0.0)
    law = stats.norm(0.0, math.sqrt(0.4 / 1.3))
    wanted = mf.MassIn({"x": (-0.4, 0.7)})
    exact = law.cdf(0.7) - law.cdf(-0.4)
    for gauss in (False, True):
        route = certify._Stationary(problem, gauss, True)
        errors = []
        for level in (4, 8):
            (at,) = route.run(level, 1.0)
            errors.append(abs(float(wanted.measure(at)) - exact))
        # five times as many cells: 25 times less at second order, 625 at fourth
        assert errors[1] < errors[0] / 300
        assert errors[1] < 1e-6


def test_gauss_nodes_know_the_density_everywhere():
    from mfpde.equilibrium import stationary_on_nodes

    d, kappa = 4, 2.0
    problem = mf.problems.sphere_langevin(d=d, field=1.0, temperature=1.0 / kappa)
    points, weights, energy, density = stationary_on_nodes(problem, (40,))
    assert energy == pytest.approx(problem.exact["minimum_energy"], abs=1e-12)
    assert weights @ np.cos(points[:, 0]) == pytest.approx(problem.exact["mean_cosine"], abs=1e-12)
    theta = np.linspace(0.1, 3.0, 5)
    ratio = density(theta[:, None]) / (np.sin(theta) ** (d - 2) * np.exp(kappa * np.cos(theta)))
    assert ratio == pytest.approx(np.full(5, ratio[0]), rel=1e-12)
    x, w = np.polynomial.legendre.leggauss(50)
    assert 0.5 * math.pi * w @ density(0.5 * math.pi * (1 + x)[:, None]) == pytest.approx(1.0, rel=1e-12)


def test_ends_that_are_not_known_are_refused():
    cold = mf.problems.quadratic_well()
    balanced = mf.problems.gaussian_langevin(reaction="balanced")
    cooled = replace(mf.problems.gaussian_langevin(), temperature=lambda t: 0.4 / (1 + t), parameters=None)
    for problem, match in ((cold, "temperature above 0"), (cooled, "temperature above 0"), (balanced, "'balanced'")):
        with pytest.raises(ValueError, match=match):
            mf.reference(problem, times=[math.inf])
    with pytest.raises(ValueError, match="two finite times"):
        mf.reference(mf.problems.gaussian_langevin(), observables=[mf.DecayRate((0.1, math.inf))])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"problem": None}, "needs a Problem"),
        ({"tolerance": 0.0}, "tolerance must lie between"),
        ({"tolerance": "small"}, "tolerance must lie between"),
        ({"budget": -1}, "budget must be"),
        ({"observables": []}, "must be a list of Observable"),
        ({"observables": ["energy"]}, "must be a list of Observable"),
        ({"observables": [mf.DecayRate()]}, "needs two finite times"),
        ({"observables": [mf.Moment("q")]}, "no axis 'q'; valid: x"),
        ({"observables": [mf.EnergyAt(-1.0)]}, "must not be negative"),
        ({"observables": [mf.EnergyAt(math.nan)]}, "must not be negative"),
        ({"observables": [mf.EnergyAt([])]}, "must not be negative"),
        ({"observables": [mf.EnergyAt(0.0)]}, "after t = 0"),
        ({"observables": [mf.OutputAt([0.0])]}, "names no network"),
        ({"observables": [mf.Marginal("x", [0.0, 99.0])]}, r"must lie in \["),
        ({"observables": [mf.Marginal("x", [1.0, 0.0])]}, "must increase"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, match):
    given = {"problem": mf.problems.quadratic_well(), "tolerance": 1e-2} | arguments
    with pytest.raises(ValueError, match=match) as caught:
        mf.reference(**given)
    assert "\n" not in str(caught.value)
