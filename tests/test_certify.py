"""Reference values: bars that hold, observables that are what they say, disagreement that is seen."""

from __future__ import annotations

import math

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
    from dataclasses import replace

    problem = mf.problems.three_gaussians(alpha=2.0, t_end=0.2)
    measure = mf.Product(c=stats.norm(0, 0.5), y=stats.norm(0, 1))
    problem = replace(problem, reinjection=mf.Reinjection(measure))
    found = mf.reference(problem, 3e-3)
    assert {found["energy"].route, found["energy"].other} == {"mesh, Weno5", "mesh, Muscl"}
    assert found.reached


def test_discretisations_that_differ_are_seen(monkeypatch):
    measure = certify.EnergyAt.measure
    monkeypatch.setattr(certify.EnergyAt, "measure", lambda self, at: measure(self, at) * (1.001 if at.grid else 1.0))
    with pytest.raises(mf.Disagreement, match=r"'quadratic-well', energy: characteristics says .* mesh, Weno5 "):
        mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5, budget=5.0)


def test_the_best_is_reported_when_time_or_memory_is_over():
    problem = mf.problems.quadratic_well()
    short = mf.reference(problem, 1e-12, budget=1e-3)
    assert not short.reached
    assert len(short.levels) == 6
    assert "NOT reached within the budget" in str(short)
    energy = short["energy"]
    assert 1e-12 < energy.relative < 1e-2
    assert abs(energy.value[0] - problem.exact["energy"](1.0)) <= energy.bar[0]
    little = mf.reference(problem, 1e-12, memory=1.0)
    assert len(little.levels) == 6
    said = []
    mf.reference(problem, 1e-2, progress=said.append)
    assert said[0] == "characteristics, 16"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"problem": None}, "needs a Problem"),
        ({"tolerance": 0.0}, "tolerance must lie between"),
        ({"tolerance": "small"}, "tolerance must lie between"),
        ({"budget": -1}, "budget must be"),
        ({"observables": []}, "must be a list of Observable"),
        ({"observables": ["energy"]}, "must be a list of Observable"),
        ({"observables": [mf.DecayRate()]}, "needs two times"),
        ({"observables": [mf.Moment("q")]}, "no axis 'q'; valid: x"),
        ({"observables": [mf.EnergyAt(-1.0)]}, "must be finite and not negative"),
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
