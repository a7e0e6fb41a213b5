"""Reference values: bars that hold, observables that are what they say, disagreement that is seen."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from shared import TAILS

import mfpde as mf
from mfpde.lagrangian.nodes import OutOfTime
from mfpde.mesh import run as integration
from mfpde.support.clock import working_time
from mfpde.verification import observables
from mfpde.verification.references import certified, level_cache, refinement, routes, search


def wide(problem):
    """In a box twice as long, which cuts nothing off that a bar of 1e-12 would see."""
    (axis,) = problem.axes
    middle = 0.5 * (axis.lower + axis.upper)
    return replace(problem, axes=[mf.Axis(axis.name, middle - axis.length, middle + axis.length)], parameters=None)


CLOSED = {
    "linear-neuron": (wide(mf.problems.linear_neuron(alpha=2.0, target=1.0, mean=0.2)), [0.3, 1.0]),
    "quadratic-well": (wide(mf.problems.quadratic_well(alpha=1.0, mean=0.4)), [0.5, 1.0]),
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
    assert np.all(np.abs(energy.check_value - exact) <= energy.check_bar)
    assert np.all(np.abs(energy.other_value - exact) <= energy.other_bar)
    assert np.all(energy.other_bar <= 1e-3 * np.abs(energy.other_value))
    assert len({energy.route, energy.check, energy.other}) == 3
    assert energy.check.startswith(energy.route)
    assert name in str(found) or problem.name in str(found)
    assert energy.confirmed
    assert energy.confirmed_to <= 1e-3
    assert f"confirmed to {energy.confirmed_to:.0e} by {energy.other}" in str(found)


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
        number = found[name]
        assert np.all(np.abs(number.value - value) <= number.bar), name
        assert number.relative <= 1e-5, name
    assert found["moment x^2"].times.tolist() == [0.0, 0.7]
    assert found["decay rate of the energy"].times.tolist() == [0.7]
    assert "3 values" in str(found)
    with pytest.raises(KeyError, match=r"no observable .*mass.*; valid: energy, moment"):
        found["mass"]


def test_times_of_several_observables_that_differ_by_rounding_are_one():
    """0.1 + 0.2 and 0.3, and 1 added up of tenths: each has the time it was given, and the value of the one run."""
    summed = sum([0.1] * 10)
    found = mf.reference(
        mf.problems.linear_neuron(), 1e-4,
        [mf.EnergyAt([0.1 + 0.2, 0.3, 1.0]), mf.Moment("theta", 1, [0.1 + 0.2, summed]), mf.EnergyAt([summed, 1.0])],
    )  # fmt: skip
    first, mean, last = found.observables
    assert first.times.tolist() == [0.3, 1.0]
    assert mean.times.tolist() == [0.1 + 0.2, summed]
    assert last.times.tolist() == [1.0]
    assert last.value[0] == first.value[1]
    # mean(t) of a linear neuron is as exact as its bar
    exact = mf.problems.linear_neuron().exact["mean"]
    assert np.all(np.abs(mean.value - [exact(0.3), exact(1.0)]) <= mean.bar)


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
        at = observables.Measured(problem, (x,), weights, 0.0, grid, point_values)
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
    at = observables.Measured(problem, tuple(grid.mesh()), mass, 0.0, grid)
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
    assert found["energy"].check == found["energy"].route + ", other cells"
    assert found.reached


def test_discretisations_that_differ_are_seen(monkeypatch):
    measure = observables.EnergyAt.measure
    monkeypatch.setattr(
        observables.EnergyAt, "measure", lambda self, at: measure(self, at) * (1.05 if at.grid else 1.0)
    )
    with pytest.raises(mf.Disagreement, match=r"'quadratic-well', energy: characteristics says .* mesh, Weno5 "):
        mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5, memory=5e4)


def test_between_agreement_and_error_the_bar_reaches_to_the_other_value(monkeypatch):
    measure = observables.EnergyAt.measure
    monkeypatch.setattr(
        observables.EnergyAt, "measure", lambda self, at: measure(self, at) * (1.05 if at.grid else 1.0)
    )
    monkeypatch.setattr(search, "DOUBT", math.inf)
    found = mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5, memory=5e4)
    energy = found["energy"]
    assert not found.reached
    assert energy.bar == abs(energy.value - energy.other_value)
    assert energy.relative == pytest.approx(0.05, rel=1e-2)


def test_other_nodes_that_differ_widen_the_bar(monkeypatch):
    """Nodes elsewhere say something else by a thousandth: the bar reaches there, and the tolerance is not reached."""
    blocks = type(mf.problems.quadratic_well().mu_0).blocks

    def displaced(self, n, places=None, other=False):
        found = blocks(self, n, places, other)
        return tuple(replace(block, points=1.001 * block.points) for block in found) if other else found

    monkeypatch.setattr(type(mf.problems.quadratic_well().mu_0), "blocks", displaced)
    found = mf.reference(mf.problems.quadratic_well(mean=0.3, alpha=0.0), 1e-5)
    energy = found["energy"]
    assert not found.reached
    assert energy.bar[0] == pytest.approx(2.0 * abs(energy.value[0] - energy.check_value[0]), rel=1e-12)
    assert energy.relative == pytest.approx(4e-3, rel=1e-2)


def test_other_nodes_are_other_nodes():
    for problem in (
        mf.problems.quadratic_well(),
        mf.problems.single_index(k=2, d=2),
        mf.problems.three_gaussians(),
        replace(mf.problems.quadratic_well(), initial=mf.Density(lambda p: np.exp(-(p[:, 0] ** 2))), parameters=None),
        replace(mf.problems.quadratic_well(), initial=mf.Product(x=stats.uniform(-1, 2)), parameters=None),
    ):
        one, two = (np.concatenate([b.points for b in problem.mu_0.blocks(8, None, o)]) for o in (False, True))
        distance = np.abs(one[:, None, :] - two[None]).max(axis=2).min()
        assert distance > 1e-4 * problem.axes[0].length, problem.name


@pytest.mark.parametrize("arguments", TAILS)
def test_mass_that_descends_from_a_tail(arguments, monkeypatch):
    """Six to sixteen spreads out: nodes of the bulk alone were wrong by 1e-3 to a factor 8, and said *reached*."""
    problem = wide(mf.problems.linear_neuron(**arguments))
    monkeypatch.setattr(search, "FAR", 3.0)  # meshes are not what this is about
    found = mf.reference(problem, 1e-6)
    energy = found["energy"]
    assert found.reached
    assert abs(energy.value[0] - problem.exact["energy"](1.0)) <= energy.bar[0]
    assert found.ancestral_mass < 1e-3
    assert "neurons do not follow this limit" in str(found)


def test_a_budget_ends_the_path_and_does_not_change_it(monkeypatch):
    """The clock is stopped after more and more runs: what was made is always the beginning of the same path."""
    problem = mf.problems.quadratic_well()
    whole = [level[:2] for level in mf.reference(problem, 1e-6).levels]
    measure = refinement.Ladder.measure
    exact = problem.exact["energy"](1.0)
    for most in (1, 3, 5, len(whole) - 1):
        made = []

        def late(self, *arguments, made=made, most=most):
            if len(made) == most:
                raise OutOfTime
            made.append(1)
            return measure(self, *arguments)

        monkeypatch.setattr(refinement.Ladder, "measure", late)
        short = mf.reference(problem, 1e-6)
        assert [level[:2] for level in short.levels] == whole[:most]
        assert not short.reached or short["energy"].check
        energy = short["energy"]
        assert abs(energy.value[0] - exact) <= energy.bar[0]
        assert energy.bar[0] < math.inf or most < 4
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="budget was over before the first run of 'quadratic-well'"):
        mf.reference(problem, 1e-6, budget=1e-9)
    said = []
    mf.reference(problem, 1e-2, progress=said.append)
    assert said[0] == f"characteristics, {routes.FIRST_NODES[1]}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_on_a_mesh_is_an_interrupt_of_the_whole(number, monkeypatch):
    """The run on the mesh takes it for its own, and returns what there is: no level of a reference."""
    solve, seen = integration.solve, []

    def interrupted(*arguments, **named):
        def stop(snapshot):
            if snapshot.step == 3:
                os.kill(os.getpid(), number)

        seen.append(solve(*arguments, **named, stop=stop))
        return seen[-1]

    monkeypatch.setattr(integration, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mf.reference(mf.problems.linear_neuron(), 1e-4, times=[0.5, 1.0])
    assert [found.result for found in seen] == [mf.Result.INTERRUPTED]


def test_an_interrupt_brings_the_best_so_far(monkeypatch):
    problem = mf.problems.quadratic_well()
    measure, made = refinement.Ladder.measure, []

    def interrupted(self, *arguments):
        if len(made) == 6:
            raise KeyboardInterrupt
        made.append(1)
        return measure(self, *arguments)

    monkeypatch.setattr(refinement.Ladder, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        mf.reference(problem, 1e-9)
    energy = caught.value.reference["energy"]
    assert not caught.value.reference.reached
    assert 0 < abs(energy.value[0] - problem.exact["energy"](1.0)) <= energy.bar[0] < 0.1


class TestLevelsOnDisk:
    def test_are_found_again(self, tmp_path):
        problem = mf.problems.quadratic_well()
        first = mf.reference(problem, 1e-4, cache=tmp_path)
        again = mf.reference(problem, 1e-4, cache=tmp_path)
        assert first["energy"].value.tobytes() == again["energy"].value.tobytes()
        assert first["energy"].bar.tobytes() == again["energy"].bar.tobytes()
        assert [level[:2] for level in first.levels] == [level[:2] for level in again.levels]
        assert all(level[2] > 0 for level in first.levels)
        assert all(level[2] == 0 for level in again.levels)
        # more of the same goes on from there
        finer = mf.reference(problem, 1e-6, cache=tmp_path)
        made = [level[2] > 0 for level in finer.levels]
        assert any(made)
        assert sum(made) < len(made) / 2 + 3
        assert finer.reached

    def test_are_those_of_one_problem(self, tmp_path):
        """Eight digits of a fingerprint do not tell 0.5 from 0.5 + 1e-11."""
        mf.reference(mf.problems.quadratic_well(mean=0.5), 1e-4, cache=tmp_path)
        near = mf.problems.quadratic_well(mean=0.5 + 1e-11)
        assert all(level[2] > 0 for level in mf.reference(near, 1e-4, cache=tmp_path).levels)
        other = mf.reference(mf.problems.quadratic_well(mean=0.5), 1e-4, [mf.Moment("x", 2)], cache=tmp_path)
        assert all(level[2] > 0 for level in other.levels)

    def test_damage_is_not_read(self, tmp_path):
        problem = mf.problems.quadratic_well()
        first = mf.reference(problem, 1e-3, cache=tmp_path)
        files = sorted((tmp_path / "levels").iterdir())
        for k, file in enumerate(files):
            whole = file.read_bytes()
            file.write_bytes((b"", whole[: len(whole) // 2], b"x" * len(whole))[k % 3])
        again = mf.reference(problem, 1e-3, cache=tmp_path)
        assert again["energy"].value.tobytes() == first["energy"].value.tobytes()
        assert all(level[2] > 0 for level in again.levels)

    def test_a_folder_that_cannot_be_written_does_no_harm(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        assert mf.reference(mf.problems.quadratic_well(), 1e-3, cache=tmp_path / "file").reached
        with pytest.raises(ValueError, match="cache must be True, False or a folder, not 3"):
            mf.reference(mf.problems.quadratic_well(), 1e-3, cache=3)

    def test_the_oldest_go(self, tmp_path, monkeypatch):
        monkeypatch.setattr(level_cache, "MOST_FILES", 8)
        mf.reference(mf.problems.quadratic_well(), 1e-5, cache=tmp_path)
        assert len(list((tmp_path / "levels").iterdir())) <= 8

    def test_an_observable_that_does_not_say_what_it_is_is_not_kept(self, tmp_path):
        cache = level_cache.LevelCache(mf.problems.quadratic_well(), tmp_path)
        route = routes.NodeRoute(mf.problems.quadratic_well(), np.array([1.0]))

        @dataclasses.dataclass(frozen=True)
        class Own(observables.Observable):
            function: object

            name = "own"

            def measure(self, at):
                return np.array(0.0)

        assert cache.key(route, 0, 1e-6, [Own(math.sin)], [np.array([0])]) == ""
        assert cache.key(route, 0, 1e-6, [Own(2.0)], [np.array([0])]) == ""
        assert cache.key(route, 0, 1e-6, [mf.Moment("x", 2)], [np.array([0])]) != ""

    def test_networks_and_schedules_are_told_apart(self, tmp_path):
        start, axis = mf.Product(x=stats.norm(0, 0.4)), mf.Axis("x", -4, 4)
        energy = mf.External(lambda x: (x - 0.5) ** 2 / 2, lambda x: (x - 0.5,))

        def made(unit, alpha=1.0):
            return mf.Problem(energy, [axis], start, alpha=alpha, t_end=1.0, network=mf.Network(unit))

        units = [lambda x, theta, f=f: f(np.multiply.outer(x, theta)) for f in (np.tanh, np.sin)]
        found = [mf.reference(made(u), 1e-5, [mf.OutputAt([1.0])], cache=tmp_path)["output at 1 inputs"] for u in units]
        assert abs(found[0].value[0, 0] - found[1].value[0, 0]) > 1e-3
        peak = mf.PiecewiseLinear([0, 0.31, 0.4, 0.49, 1], [1, 1, 9, 1, 1])
        found = [mf.reference(made(units[0], alpha), 1e-5, cache=tmp_path)["energy"] for alpha in (1.0, peak)]
        assert abs(found[0].value[0] - found[1].value[0]) > 1e-4


def test_a_problem_without_a_mesh_of_its_own_is_served():
    problem = mf.Problem(
        energy=mf.External(lambda x: x**2 / 2, lambda x: (x,)), axes=[mf.Axis("x", -8, 8)],
        initial=mf.Product(x=stats.norm(0.5, 0.7)),
    )  # fmt: skip
    assert problem.shape is None
    found = mf.reference(problem, 1e-6)
    # x -> x e^-t
    assert abs(found["energy"].value[0] - 0.5 * (0.49 + 0.25) * math.exp(-2)) <= found["energy"].bar[0]
    assert found.reached
    assert found.confirmed


class TestDensities:
    POINTS = np.array([-1.5, -0.2, 0.3, 1.1])

    def test_with_bars(self, monkeypatch):
        """Carried along and shrunk: a normal law, without birth-death and with it, from nodes, confirmed by a mesh."""
        monkeypatch.setattr(search, "FAR", 1.0)
        for alpha in (0.0, 1.5):
            problem = wide(mf.problems.quadratic_well(strength=1.0, alpha=alpha, mean=0.8, variance=0.3))
            found = mf.reference(problem, 1e-5, [mf.DensityAt(self.POINTS, 0.7)])
            density = found["density at 4 points"]
            law = stats.norm(problem.exact["mean"](0.7), math.sqrt(problem.exact["variance"](0.7)))
            assert found.reached
            assert found.confirmed
            assert density.route == "characteristics"
            assert np.all(np.abs(density.value[0] - law.pdf(self.POINTS)) <= density.bar[0])
            assert np.all(np.abs(density.other_value[0] - law.pdf(self.POINTS)) <= density.other_bar[0])

    def test_with_a_temperature_they_come_from_meshes(self, monkeypatch):
        monkeypatch.setattr(search, "FAR", 1.0)
        problem = mf.problems.gaussian_langevin(mean=0.5)
        found = mf.reference(problem, 1e-3, [mf.DensityAt(self.POINTS, 0.4)])["density at 4 points"]
        law = stats.norm(problem.exact["mean"](0.4), math.sqrt(problem.exact["variance"](0.4)))
        assert np.all(np.abs(found.value[0] - law.pdf(self.POINTS)) <= found.bar[0])

    @pytest.mark.parametrize("point_values", [False, True])
    @pytest.mark.parametrize("end", [mf.End.PERIODIC, mf.End.TRUNCATION])
    def test_between_the_centres_of_a_mesh(self, point_values, end):
        """Splines of fifth degree through values at the centres; those from averages are of fourth order."""
        axis = mf.Axis("x", -math.pi, math.pi, end)
        problem = mf.Problem(energy=mf.External(np.cos), axes=[axis], initial=mf.Dirac(x=0.0), t_end=1.0)
        law = stats.vonmises(2.0 if end is mf.End.PERIODIC else 12.0)
        x = np.linspace(-3.1, 3.1, 401)
        errors = []
        for n in (60, 120, 240):
            grid = problem.grid(n)
            weights = law.pdf(grid.centres(0)) * grid.cell_volume if point_values else np.diff(law.cdf(grid.faces(0)))
            at = observables.Measured(problem, (grid.centres(0),), weights, 0.0, grid, point_values)
            errors.append(np.abs(mf.DensityAt(x).measure(at) - law.pdf(x)).max())
        assert np.log2(errors[0] / errors[-1]) / 2 > (5.5 if point_values else 3.8)
        assert errors[-1] < (1e-7 if point_values else 2e-5)

    def test_in_two_dimensions_and_what_does_not_fit(self):
        problem = mf.problems.three_gaussians()
        grid = problem.grid((80, 90))
        law = [stats.norm(0.5, 0.8), stats.norm(-0.5, 0.7)]
        values = np.multiply.outer(law[0].pdf(grid.centres(0)), law[1].pdf(grid.centres(1)))
        at = observables.Measured(problem, tuple(grid.mesh()), values * grid.cell_volume, 0.0, grid, True)
        points = np.array([[0.1, 0.2], [1.3, -0.9]])
        exact = law[0].pdf(points[:, 0]) * law[1].pdf(points[:, 1])
        np.testing.assert_allclose(mf.DensityAt(points).measure(at), exact, rtol=1e-5)
        with pytest.raises(ValueError, match=r"must have shape \(n, 2\), one row a point, not \(3,\)"):
            mf.DensityAt([0.0, 0.1, 0.2]).measure(at)
        with pytest.raises(ValueError, match=r"must lie in \[.*\] along 'c'"):
            mf.DensityAt([[99.0, 0.0]]).measure(at)
        cloud = observables.Measured(problem, tuple(points.T), np.full(2, 0.5), 0.0)
        with pytest.raises(ValueError, match="a cloud of particles has no density"):
            mf.DensityAt(points).measure(cloud)

    def test_go_through_a_file(self, tmp_path):
        from mfpde.verification.references.file import save_reference

        found = mf.reference(mf.problems.quadratic_well(), 1e-3, [mf.DensityAt(self.POINTS)])
        save_reference(found, tmp_path / "density.h5")
        back = mf.load_reference(tmp_path / "density.h5")["density at 4 points"]
        assert back.value.tobytes() == found["density at 4 points"].value.tobytes()
        assert np.array_equal(back.observable.points, self.POINTS)
        assert (back.check, back.sizes) == (found["density at 4 points"].check, found["density at 4 points"].sizes)


def test_as_a_table_and_in_short():
    pytest.importorskip("pandas")
    problem = mf.problems.quadratic_well(mean=0.4)
    found = mf.reference(problem, 1e-3, [mf.EnergyAt(), mf.Marginal("x", [-1.0, 0.0, 1.0])], times=[0.5, 1.0])
    assert repr(found) == "<Reference for 'quadratic-well': energy, marginal over x; tolerance 0.001 reached>"
    table = found.to_dataframe()
    assert len(table) == 2 + 4
    assert table.value.tolist() == [*found["energy"].value, *found["marginal over x"].value.ravel()]
    assert table.bar.tolist() == [*found["energy"].bar, *found["marginal over x"].bar.ravel()]
    assert table["index"].tolist() == [0, 0, 0, 1, 0, 1]
    assert table.time.tolist() == [0.5, 1.0, 0.5, 0.5, 1.0, 1.0]


def test_another_mesh_confirms_where_nodes_converge_too_slowly(monkeypatch):
    def hopeless(self, goal):
        return math.inf

    worst = refinement.Ladder.worst
    monkeypatch.setattr(refinement.Ladder, "forecast", hopeless)
    monkeypatch.setattr(
        refinement.Ladder,
        "worst",
        lambda self: worst(self) * (1e9 if isinstance(self.route, routes.NodeRoute) else 1.0),
    )
    problem = mf.problems.mmd_flow("wave")
    energy = mf.reference(problem, 1e-2, times=[0.5])["energy"]
    assert (energy.route, energy.other) == ("mesh, Weno5", "mesh, Muscl")
    assert abs(energy.value[0] - problem.exact["energy"](0.5)) <= energy.bar[0]
    assert abs(energy.other_value[0] - problem.exact["energy"](0.5)) <= energy.other_bar[0]


def test_densities_do_not_hang_on_one_stencil():
    """V = -cos(25 x)/25 for t = 1/25: differences of a step of .002 of the axis are wrong by 6e-6, and it shows."""
    axis = mf.Axis("x", 0, 2 * math.pi)
    energy = mf.External(lambda x: -np.cos(25 * x) / 25, lambda x: (np.sin(25 * x),))
    problem = mf.Problem(energy, [axis], mf.Product(x=stats.uniform(0, 2 * math.pi)), t_end=0.04)
    y = np.array([1.0, 2.0, 3.3])
    # x' = -sin(25 x): tan(25 x/2) falls by exp(-25 t) = 1/e, and the density is the slope of the way back
    z = np.tan(12.5 * y)
    exact = math.e * (1 + z**2) / (1 + (math.e * z) ** 2) / (2 * math.pi)
    found = mf.reference(problem, 1e-6, [mf.DensityAt(y)], budget=6.0)["density at 3 points"]
    assert np.all(np.abs(found.value[0] - exact) <= found.bar[0])


def test_a_second_job_without_a_level_does_not_cost_the_first(monkeypatch):
    measure = refinement.Ladder.measure

    def interrupted(self, *arguments):
        if any(observable.needs_mesh for observable in self.wanted):
            raise KeyboardInterrupt
        return measure(self, *arguments)

    monkeypatch.setattr(refinement.Ladder, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        mf.reference(mf.problems.quadratic_well(), 1e-3, [mf.EnergyAt(), mf.MassIn({"x": (0, 1)})])
    assert [found.name for found in caught.value.reference.observables] == ["energy"]


def test_two_end_states_may_differ_by_round_off():
    assert mf.reference(mf.problems.gaussian_langevin(), 1e-8, times=[math.inf]).reached


def test_what_confirms_little_does_not_confirm():
    """The level is the independent discretisation's own bar, however near its value happens to be."""
    one = certified.Certified(
        "energy", np.ones(1), np.ones(1), np.full(1, 1e-9), "nodes", "mesh", np.ones(1), np.full(1, 0.09)
    )
    assert one.confirmed_to == 0.09
    assert not one.confirmed
    assert "NOT confirmed: only 9e-02 is known by mesh" in one._means()
    assert "NOT borne out" in one._means()
    far = replace(one, other_value=np.array([1.005]), other_bar=np.full(1, 1e-3), check="other nodes")
    assert far.confirmed_to == pytest.approx(5e-3)
    assert "confirmed to 5e-03 by mesh" in far._means()


# ---------------------------------------------------------------------------------------------------------------------
# bars, from sequences whose limit is known
# ---------------------------------------------------------------------------------------------------------------------


class Stub(routes.Route):
    """A route whose values are given."""

    name = "stub"
    left = 1.0

    def __init__(self, fastest):
        super().__init__(mf.problems.quadratic_well(), np.array([1.0]))
        self.fastest = fastest

    def cells(self, level):
        return (10 * 2**level,)

    def bytes(self, level):
        return 0.0

    def run(self, level, step, deadline):
        raise AssertionError("the values are given")


def ladder(values, witness, fastest=None, in_time=0.0, blind=0.0):
    found = refinement.Ladder(Stub(fastest), [mf.EnergyAt()], [np.array([0])], None)
    found.levels = [
        refinement.Level([np.array([v]), np.array([w]), np.array([[w, w]])], 1.0, blind)
        for v, w in zip(values, witness, strict=True)
    ]
    found.in_time = [np.array([in_time]), np.array([0.0]), np.zeros((1, 2))]
    found.finest, found.spent_out = found.levels[-1], True
    found.settled = len(values)
    return found


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("levels", [4, 5, 6])
def test_the_bar_of_one_order_is_five_times_the_error(ratio, levels):
    values = 1.0 + 1e-3 * ratio ** np.arange(levels)
    found = ladder(values, values, fastest=0.01)
    (bar,), following = found.bars()
    assert following == pytest.approx(ratio, rel=1e-3)
    assert bar[0] / (values[-1] - 1.0) == pytest.approx(refinement.SAFETY, rel=2e-3)


def test_what_is_not_evident_is_not_believed():
    # three levels alone: no ratio below 0.2 on a mesh, 0.01 along characteristics
    values = 1.0 + 1e-3 * 1e-3 ** np.arange(3)
    assert ladder(values, values, fastest=0.01).bars()[1] == refinement.FIRST_ON_MESH
    assert ladder(values, values).bars()[1] == refinement.FIRST
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
    assert ladder(values, values).bars()[1] == refinement.SLOWEST
    values[0] = math.nan
    assert ladder(values, values).bars()[1] == refinement.SLOWEST
    assert ladder(values[:2], values[:2]).bars()[0][0] == math.inf


def test_a_number_that_stands_still_by_chance_gets_a_bar_all_the_same():
    witness = 1.0 + 1e-3 * 0.3 ** np.arange(5)
    still = np.array([1.003, 1.001, 1.0, 1.0, 1.0])
    (bar,), following = ladder(still, witness).bars()
    # the median of 0, 1 and 1 times the witnesses' change
    assert bar[0] == pytest.approx(5 * following / (1 - following) * 0.1 * 7e-4 * 0.3**3, rel=2e-2)
    # one step of chance: what the change before lets expect
    once = 1.0 + 1e-3 * np.array([1.0, 0.3, 0.09, 0.027, 0.027])
    (bar,), following = ladder(once, witness).bars()
    assert following > 0.2
    assert bar[0] >= 5 * following / (1 - following) * following * 6.3e-5


def test_one_number_that_is_badly_known_does_not_widen_all_bars():
    """An energy that is all but 0 is known to 1e-4 where moments are known to 1e-9: each has its own bar."""
    levels = 1.0 + 1e-3 * 0.1 ** np.arange(5)
    asked = [mf.EnergyAt(), *(mf.Moment("x", power) for power in (1, 2, 3))]
    found = refinement.Ladder(Stub(None), asked, [np.array([0])] * 4, None)
    found.levels = [
        refinement.Level([np.array([v]), *(np.array([w]) for _ in range(4)), np.array([[w, w]])], 1.0, 0.0)
        for v, w in ((v, 1.0 + 1e-5 * (v - 1.0)) for v in levels)
    ]
    found.in_time = [np.array([1e-3]), *(np.array([1e-8]) for _ in range(4)), np.full((1, 2), 1e-8)]
    found.finest, found.spent_out, found.settled = found.levels[-1], True, 5
    energy, *moments = found.bars()[0]
    # steps: three times what they changed; levels: five times the rest of a geometric series of ratio 0.1
    assert energy[0] == pytest.approx(3e-3 + 5e-7, rel=1e-3)
    for bar in moments:
        assert bar[0] == pytest.approx(3e-8 + 5e-12, rel=1e-3)


def test_each_time_converges_at_a_pace_of_its_own():
    """What is narrow in the end takes more nodes: that says nothing of the times before."""
    early, late = (1.0 + 1e-3 * ratio ** np.arange(5) for ratio in (0.01, 0.5))
    route = Stub(None)
    route.times = np.array([1.0, 2.0])
    found = refinement.Ladder(route, [mf.EnergyAt()], [np.array([0, 1])], None)
    both = np.array([early, late]).T
    found.levels = [refinement.Level([v, v, np.stack([v, v], axis=1)], 1.0, 0.0) for v in both]
    found.in_time = [np.zeros(2), np.zeros(2), np.zeros((2, 2))]
    found.finest, found.spent_out, found.settled = found.levels[-1], True, 5
    (bar,), following = found.bars()
    # five times the rest of a geometric series, of the ratio of that time, and round-off
    assert bar[0] == pytest.approx(5 * 1e-3 * 0.01**4 + refinement.FLOOR, rel=2e-2)
    assert bar[1] == pytest.approx(5 * 1e-3 * 0.5**4, rel=1e-2)
    assert following == pytest.approx(0.5, rel=1e-2)


def test_two_values_are_no_nearer_to_the_truth_than_their_steps():
    """Steps may be off by 1e-6 in the one and by chance as much in the other: that they agree says nothing."""
    near = 1.0 + 1e-3 * 0.1 ** np.arange(4)
    value, check = ladder(near, near), ladder(near, near, in_time=1e-5)
    (bar,) = search._borne_out(value, check)
    assert bar[0] == pytest.approx(2.0 * 1e-5, rel=1e-3)
    (bar,) = search._borne_out(value, ladder(near, near))
    assert bar[0] < 1e-11


def test_steps_need_not_be_finer_than_levels_tell():
    """The level is known to 1e-1: steps that change it by 1e-4 are good enough for a goal of 1e-9, too."""
    asked = []

    def runner(ladder, level, step):
        asked.append(step)
        value = 1.0 + 0.1 * 0.8**level + 1e-4 * step
        return refinement.Level([np.array([value]), np.array([value]), np.array([[value, value]])], 1.0, 0.0)

    route = Stub(None)
    route.step, route.finer, route.left, route.least_step = 1.0, 1e-2, 0.03, 1e-9
    found = refinement.Ladder(route, [mf.EnergyAt()], [np.array([0])], runner)
    for _ in range(3):
        found.advance(1e-9)
    found.settle(1e-9)
    assert asked == [1.0, 1.0, 1.0, 1e-2]


def test_the_error_in_time_is_part_of_the_bar():
    values = 1.0 + 1e-9 * 0.3 ** np.arange(4)
    found = ladder(values, values, in_time=2e-4)
    assert found.bars()[0][0][0] == pytest.approx(refinement.SAFETY_IN_TIME * 2e-4, rel=1e-4)
    assert found.stuck
    assert not ladder(values, values).stuck


def test_what_nodes_do_not_carry_is_part_of_the_bar():
    values = 1.0 + 1e-9 * 0.3 ** np.arange(4)
    assert ladder(values, values, blind=3e-4).bars()[0][0][0] == pytest.approx(3e-4, rel=1e-3)


def test_a_forecast_adds_levels_until_the_goal():
    values = 1.0 + 1e-3 * 0.5 ** np.arange(4)
    found = ladder(values, values, fastest=0.01)
    # the bar is 5 e, and halves; the work doubles: 2 + 4 + 8 for a seventh of it
    assert found.forecast(found.worst() / 7) == pytest.approx(14.0)
    assert found.forecast(2 * found.worst()) == 0.0
    assert found.next_cost() == pytest.approx(2.0)
    assert ladder(values, values, in_time=1.0).forecast(1e-300) == math.inf


def test_the_value_comes_from_the_finest_run():
    """Steps a hundred times finer change 1 to 1.001, 1.00101, 1.0010101: the last is the value, to 3 % of 1e-7."""
    given = {1.0: 1.0, 1e-2: 1.001, 1e-4: 1.00101, 1e-6: 1.0010101}
    asked = []

    def runner(ladder, level, step):
        asked.append(step)
        value = min(given.items(), key=lambda item: abs(math.log(item[0] / step)))[1]
        return refinement.Level([np.array([value]), np.array([value]), np.array([[value, value]])], 1.0, 0.0)

    route = Stub(0.01)
    route.step, route.finer, route.left, route.least_step = 1.0, 1e-2, 0.03, 1e-9
    found = refinement.Ladder(route, [mf.EnergyAt()], [np.array([0])], runner)
    while not found.reached(1e-5):
        found.advance(1e-5)
    # three levels, a look at finer steps, as those change more than the goal allows others; the coarser levels again
    assert asked == pytest.approx([1.0, 1.0, 1.0, 1e-2, 1e-4, 1e-6, 1e-4, 1e-4], rel=1e-12)
    assert found.best[0][0] == 1.0010101
    assert found.in_time[0][0] == pytest.approx(1e-7)
    assert found.bars()[0][0][0] == pytest.approx(3 * 0.03 * 1e-7, rel=1e-3)
    # changes from level to level are those of one tolerance
    assert [values[0][0] for values in found.values] == [1.00101] * 3
    assert route.step == pytest.approx(1e-4)


def test_steps_are_made_finer_until_their_error_is_a_part_of_the_goal():
    problem = mf.problems.gaussian_langevin(temperature=0.1, mean=0.5)
    times = np.array([0.5])
    route = routes.routes(problem, times, False)[0]

    def runner(ladder, level, step):
        return refinement.Level(ladder.measure(level, step, math.inf), route.cost, route.blind)

    found = refinement.Ladder(route, [mf.EnergyAt()], [np.array([0])], runner)
    found.advance(1e-3)
    found.settle(1e-3)
    first, coarse = route.step, route.left * found.in_time[0][0] / found.scales[0][0]
    assert coarse <= refinement.SHARE_IN_TIME * 1e-3
    found.settle(1e-2 * coarse / refinement.SHARE_IN_TIME)
    assert route.step < first
    assert route.left * found.in_time[0][0] / found.scales[0][0] <= 1e-2 * coarse


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
    assert energy.route.startswith("mesh, ")
    assert "; end state, " in energy.route
    assert energy.route != energy.other
    variance = found["moment x^2"]
    assert {variance.route, variance.other} == {"end state, mesh", "end state, Gauss nodes"}
    marginal = found["marginal over x"]
    for number, true in ((variance, tau / strength), (marginal, np.diff(law.cdf(edges)) / np.diff(edges))):
        assert np.all(np.abs(number.value - true) <= number.bar)
        assert np.all(np.abs(number.other_value - true) <= number.other_bar)
        assert number.relative <= 1e-5
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
        route = routes.StationaryRoute(problem, gauss, True)
        errors = []
        for level in (4, 8):
            (at,) = route.run(level, 1.0, math.inf)
            errors.append(abs(float(wanted.measure(at)) - exact))
        # five times as many cells: 25 times less at second order, 625 at fourth
        assert errors[1] < errors[0] / 300
        assert errors[1] < 1e-6


def test_gauss_nodes_know_the_density_everywhere():
    from mfpde.equation.equilibrium import stationary_on_nodes

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


def test_the_density_of_an_end_state():
    """The Gibbs density exp(-x^2 / (2 s^2)), s^2 = tau / strength, of Gauss nodes and of a mesh."""
    problem = mf.problems.gaussian_langevin(strength=1.3, temperature=0.4)
    points = np.array([-0.5, 0.0, 0.7])
    found = mf.reference(problem, 1e-6, [mf.DensityAt(points, math.inf)])
    number = found[f"density at {len(points)} points"]
    exact = stats.norm(0.0, math.sqrt(0.4 / 1.3)).pdf(points)
    assert found.reached
    assert found.confirmed
    assert np.all(np.abs(number.value[0] - exact) <= number.bar[0])


def test_an_end_state_keeps_to_the_budget():
    """A level that is stopped half way is none."""
    route = routes.StationaryRoute(mf.problems.double_well_sampling(), False, False)
    with pytest.raises(OutOfTime):
        list(route.run(6, 1.0, working_time() + 1e-4))


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
        ({"observables": [mf.Marginal("x", [1.0, 0.0])]}, "must increase"),
        ({"observables": [mf.Marginal("x", [0.0, 99.0])]}, r"must lie in \["),
    ],
)
def test_what_does_not_fit_is_refused(arguments, match):
    given = {"problem": mf.problems.quadratic_well(), "tolerance": 1e-2} | arguments
    with pytest.raises(ValueError, match=match) as caught:
        mf.reference(**given)
    assert "\n" not in str(caught.value)


@dataclasses.dataclass(frozen=True)
class Untimed(observables.Observable):
    name = "untimed"

    def measure(self, at):
        return np.array(1.0)


@dataclasses.dataclass(frozen=True)
class Told(observables.Observable):
    tell: object = None
    times: object = None
    name = "told"

    def measure(self, at):
        return self.tell(at)


@pytest.mark.parametrize(
    ("observable", "match"),
    [
        (Untimed(), "^Untimed has no times: make it a frozen dataclass with a field"),
        (Told(lambda at: "much"), "^told must be a number or an array of numbers, not 'much'"),
        (
            Told(lambda at: np.ones(2 + (at.energy < 0.1))),
            r"^told must have one shape at all times, not \(2,\) and \(3,\)",
        ),
    ],
    ids=["no times", "text", "shape"],
)
def test_an_observable_of_ones_own_that_is_none(observable, match):
    problem = mf.problems.quadratic_well()  # E(0.01) = 0.5, E(3) = 2e-3
    with pytest.raises(ValueError, match=match) as caught:
        mf.reference(problem, 1e-2, [observable], times=[0.01, 3.0])
    assert "\n" not in str(caught.value)


def test_what_is_zero_by_symmetry_is_known_as_well_as_numbers_allow():
    """Relative to itself it never was: the mean of a symmetric law was "not reached" after the whole budget."""
    problem = replace(mf.problems.quadratic_well(alpha=1.0), initial=mf.Product(x=stats.norm(0, 0.5)), parameters=None)
    found = mf.reference(problem, 1e-6, [mf.Moment("x", 1), mf.Moment("x", 2)])
    mean = found["moment x^1"]
    farthest = max(abs(problem.axes[0].lower), abs(problem.axes[0].upper))
    assert found.reached
    # a sum of numbers up to the box is 0 to its round-off, and no better
    assert abs(mean.value[0]) <= mean.bar[0]
    assert observables.ROUNDED * farthest <= mean.bar[0] <= 1e-13 * farthest
    assert mean.floor == pytest.approx(1e-13 * farthest / 1e-6)
    assert mean.relative <= 1e-6
    assert found.confirmed


def test_an_energy_is_as_uncertain_as_the_constants_it_cancels():
    """E = a^2/2 - a m + m^2/2 of 2.6e-8, terms of 1.2: two rules agreed in all bits, and were wrong by 2e-8 of it."""
    problem = mf.problems.linear_neuron(1.54302, 56.6907, -0.234429, 0.0486907)
    t = 2.3855056556923384
    found = mf.reference(problem, 1e-3, times=[t], budget=3.0)["energy"]
    assert abs(found.value[0] - problem.exact["energy"](t)) <= found.bar[0]
    assert found.bar[0] >= 16 * 2.0**-52 * 0.5 * 1.54302**2
    # a squared loss is a square, and nothing cancels
    assert mf.EnergyAt().rounding(mf.problems.gaussian_bumps()) == 0.0
    offsets = problem.energy + mf.External(lambda x: 0.0 * x, constant=-3.0)
    rounding = mf.EnergyAt().rounding(replace(problem, energy=offsets, parameters=None))
    assert rounding == pytest.approx(16 * 2.0**-52 * (0.5 * 1.54302**2 + 3.0))


def test_a_handful_of_steps_is_too_few_to_see_their_error():
    """The method that checks was off by 4e-11, 2.5e-11 and 1.2e-11 at tolerances a tenth apart: steps by leaps."""
    problem = mf.problems.quadratic_well(0.379725, 0.306869, 2.79779, 0.020946)
    times = np.array([0.26810153])
    # in this box, which cuts off 1e-12 of it: by the method of eighth order, at its least tolerance
    (value,) = (at.energy for at in routes.NodeRoute(problem, times).run(6, 1e-13, math.inf))
    assert value == pytest.approx(problem.exact["energy"](times[0]), rel=1e-11)
    for tolerance in (1e-7, 1e-8, 1e-9):
        (found,) = (at.energy for at in routes.NodeRoute(problem, times, True).run(6, tolerance, math.inf))
        assert found == pytest.approx(value, rel=3e-14, abs=0.0)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_times_within_a_step_are_as_good_as_its_end(elsewhere):
    """Steps are long for a flow this smooth; the error at t = 0.023 was 2e-10 to 8e-10, whatever the tolerance."""
    problem = mf.problems.linear_neuron(-0.144926, 7.60431, -0.212577, 0.0586143)
    times = np.array([0.023077935296915927, 0.055484416159589836])
    route = routes.NodeRoute(problem, times, elsewhere)
    for tolerance in (1e-7, 1e-9, 1e-11):
        found = [at.energy for at in route.run(4, tolerance, math.inf)]
        exact = [problem.exact["energy"](t) for t in times]
        assert found == pytest.approx(exact, rel=1e-11)


def test_the_first_level_has_nodes_for_every_place():
    """The bulk alone; or where the mass descends from 16 spreads out as well, and a place on the way there."""
    for problem, places in ((mf.problems.quadratic_well(alpha=0.0), 1), (mf.problems.linear_neuron(target=20.0), 3)):
        route = routes.NodeRoute(problem, np.array([1.0]))
        route.prepare(math.inf)
        assert route.cells(0) == (places * routes.FIRST_NODES[1],)


def test_a_dense_kernel_ends_the_levels_and_not_the_call():
    """Of 14 884 cells its matrix would take 1.7 GiB: that is no error of the user's, who named no mesh."""
    kernel = mf.PairKernel(lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=-1)))
    axes = [mf.Axis("x", -3, 3), mf.Axis("y", -3, 3)]
    start = mf.Product(x=stats.norm(0.5, 0.3), y=stats.norm(0, 0.3))
    problem = mf.Problem(mf.Interaction(kernel), axes, start, temperature=0.1, t_end=0.1)
    route = routes.MeshRoute(problem, np.array([0.1]), mf.ScharfetterGummel(), 2)
    assert math.prod(route.cells(4)) > 14_000
    with pytest.raises(routes.RouteError, match="GiB"):
        list(route.run(4, 1e-5, math.inf))


def test_round_off_of_steps_is_part_of_the_bar():
    """An end state that a mesh knows exactly was off by 1.6e-12, three bars, after some thousand steps."""
    route = routes.MeshRoute(mf.problems.gaussian_langevin(), np.array([0.5]), mf.ScharfetterGummel(), 2)
    list(route.run(0, 1e-5, math.inf))
    assert route.blind >= 1e-15 * 10
    steps = route.cost / (3e-4 + 5e-8 * route.cells(0)[0])
    assert route.blind == pytest.approx(routes.ROUNDING * steps)


def test_all_mass_at_the_lower_end():
    """Where the moments that are watched are 0 the bar was no number."""
    axis = mf.Axis("x", 0.0, 1.0)
    problem = mf.Problem(mf.External(lambda x: 1.0 + x, lambda x: (1.0 + 0.0 * x,)), [axis], mf.Dirac(x=0.5), t_end=1.0)
    found = mf.reference(problem, 1e-6)
    energy = found["energy"]  # the particle arrives at 0 at t = 1/2
    assert found.reached
    assert abs(energy.value[0] - 1.0) <= energy.bar[0] <= 1e-6


@pytest.mark.parametrize(
    ("initial", "words"), [(mf.Dirac(x=1.0), "1 point"), (mf.Particles([[0.1], [0.5]]), "2 points")]
)
def test_particles_are_not_refined(initial, words):
    route = routes.NodeRoute(replace(mf.problems.quadratic_well(), initial=initial, parameters=None), np.array([1.0]))
    assert route.size(0) == route.size(3) == f"{words} of the start"


def test_an_observable_that_is_no_number_ends_the_search():
    """The energy falls below 0, where it has no decay rate, on every level: the budget would be spent for nothing."""
    problem = mf.Problem(
        mf.External(lambda x: -1.0 + 0.5 * x**2, lambda x: (x,)), [mf.Axis("x", -2, 2)], mf.Dirac(x=1.5), shape=(40,)
    )
    with pytest.raises(ValueError, match=r"decay rate of the energy is not finite \(characteristics says .*leave"):
        mf.reference(problem, 1e-2, [mf.DecayRate()], times=[0.0, 1.0, 2.0], budget=60.0)


def test_the_seam_of_a_circle_is_no_error():
    # a coordinate jumps at the seam: as a witness it converged like 1/n and was most of every bar on a periodic axis,
    # 2e-5 here after 2335 nodes. The energy of two rules with 200 nodes agrees to 1e-12
    axis = mf.Axis("x", 0.0, 2.0 * math.pi, mf.End.PERIODIC)
    energy = mf.External(lambda x: 1.0 + np.cos(x), lambda x: (-np.sin(x),))
    problem = mf.Problem(energy, [axis], mf.Product(x=stats.vonmises(1.0, loc=1.0)), alpha=1.0)
    found = mf.reference(problem, 1e-8, budget=20.0)
    assert found.reached
    assert max(cells[0] for name, cells, _ in found.levels if name.startswith("characteristics")) < 100
    exact = mf.characteristics(problem, save=2).energy[-1]
    assert abs(found["energy"].value[0] - exact) <= found["energy"].bar[0]
