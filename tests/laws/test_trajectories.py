"""One protocol, `mf.Trajectory`, for what every discretisation gives: the same questions, the same answers."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats
from shared import quiet

import mfpde as mf
from mfpde.support.saves import save_index

SAVES = [0.1, 0.2, 0.4]
LINE = mf.problems.linear_neuron(alpha=0.5, t_end=0.4)
"""A Gaussian that keeps its variance; its mean and its energy in closed form."""
PLANE = mf.Problem(
    energy=mf.External(lambda x, y: x * y + y**2, lambda x, y: (y, x + 2 * y)),
    axes=[mf.Axis("x", -4, 4), mf.Axis("y", -3, 5)],
    initial=mf.Product(x=stats.norm(0.3, 0.4), y=stats.norm(0.8, 0.3)),
    t_end=0.4,
    alpha=0.5,
    reaction="unbalanced",
)
"""Two coordinates that are not alike, a mass that changes, and no network."""
MAKERS = {
    "mesh": lambda problem: mf.solve(problem, (100, 90)[: len(problem.axes)], save=SAVES, progress=False),
    "nodes": lambda problem: mf.characteristics(problem, save=SAVES, tolerance=1e-6, progress=False),
    "cloud": lambda problem: quiet(
        problem, 4000, dt=0.005, save=SAVES, seed=3, replicas=4, dynamics=[mf.particles.GradientDescent(), *REACTION]
    ),
}
REACTION = [mf.particles.Weights()]
ACCURACY = {"mesh": 2e-3, "nodes": 1e-6, "cloud": 3e-2}
"""Of numbers of size 1: two orders of cells of 0.1; the tolerance; 5 / sqrt(4 x 4000 draws) of spread 0.7, and dt."""


@cache
def made(kind, problem=LINE):
    return MAKERS[kind](problem)


def average(value):
    """Of the replicas of a cloud; what is no cloud has one value."""
    return np.mean(value, axis=0) if np.ndim(value) else value


@pytest.fixture(params=MAKERS)
def kind(request):
    return request.param


def test_all_of_them_are_trajectories(kind):
    found = made(kind)
    assert isinstance(found, mf.Trajectory)
    assert found.problem is LINE
    assert found.times.tolist() == pytest.approx([0.0, *SAVES], abs=1e-15)
    shape = (4, 4) if kind == "cloud" else (4,)
    assert found.energy.shape == found.energy_without_entropy.shape == shape


def test_nothing_else_is_one():
    assert not isinstance(LINE, mf.Trajectory)
    assert not isinstance(mf.ExactLaw(LINE, lambda t: LINE.initial, [0.0]), mf.Trajectory)


def test_names_of_arguments_are_the_same():
    """Positional or by name, ``t`` and ``x`` and ``power`` mean the same; a cloud may say which replica."""
    import inspect

    for name in ("index", "response_at", "nodes_at", "measure", "moment", "mean", "predict"):
        wanted = list(inspect.signature(getattr(mf.Trajectory, name)).parameters)
        for of in (mf.Solution, mf.Characteristics, mf.particles.Cloud):
            parameters = list(inspect.signature(getattr(of, name)).parameters)
            assert [p for p in parameters if p != "replica"] == wanted, (of, name)


@pytest.mark.parametrize("t", [None, 0.0, *SAVES])
def test_numbers_agree_with_the_closed_form(kind, t):
    found, eps = made(kind), ACCURACY[kind]
    at = found.times[-1] if t is None else t
    mean, variance = LINE.exact["mean"](at), LINE.exact["variance"](at)
    assert average(found.moment("theta", t=t)) == pytest.approx(mean, abs=eps)
    assert average(found.mean("theta", t)) == pytest.approx(mean, abs=eps)
    assert average(found.moment("theta", 2, t)) == pytest.approx(mean**2 + variance, abs=4 * eps)
    assert average(found.moment("theta", 0, t)) == pytest.approx(1.0, abs=1e-9)
    # of a Gaussian
    wave = math.exp(-variance / 2) * math.cos(mean)
    assert average(found.moment(np.cos, t=t)) == pytest.approx(wave, abs=eps)
    energy = found.energy[..., found.index(t)]
    assert average(energy) == pytest.approx(LINE.exact["energy"](at), abs=4 * eps)
    # the features of a linear kernel are the coordinates themselves
    response = found.response_at(at)
    assert response.shape == ((4, 1) if kind == "cloud" else (1,))
    np.testing.assert_array_equal(found.response_at(t), response)
    assert average(response[..., 0]) == pytest.approx(mean, abs=eps)
    x = np.array([-1.0, 0.5])
    several = [found.predict(x, t, replica=r) for r in range(4)] if kind == "cloud" else [found.predict(x, t)]
    np.testing.assert_allclose(np.mean(several, axis=0), mean * x, rtol=0, atol=eps)


def test_the_state_at_a_saved_time_is_one_state(kind):
    """Nodes, measure and moments at the index of a time are those of what is kept there."""
    found = made(kind, PLANE)
    for j, t in enumerate(found.times):
        assert found.index(t) == j
        points, weights = found.nodes_at(t)
        assert points.shape == (len(weights), 2)
        first = (lambda value: value[0]) if kind == "cloud" else float
        for f in (lambda x, y: x - 2 * y**2, lambda x, y: 1.0 + 0 * x, lambda x, y: np.exp(-(x**2)) * y):
            plain = weights @ f(*points.T)
            assert first(found.moment(f, t=t)) == pytest.approx(plain, rel=1e-12)
            assert first(found.moment(f, 2, t)) == pytest.approx(weights @ f(*points.T) ** 2, rel=1e-12)
            assert first(found.mean(f, t)) == pytest.approx(plain / weights.sum(), rel=1e-12)
        assert first(found.moment("y", 3, t)) == pytest.approx(weights @ points[:, 1] ** 3, rel=1e-12)
        assert first(found.moment("x", 0, t)) == pytest.approx(weights.sum(), rel=1e-12)
        at, masses = found.measure(t).restrict(PLANE.axes).nodes((100, 90))
        for i in range(2):
            assert masses @ at[:, i] == pytest.approx(first(found.mean("xy"[i], t)), abs=1e-12)
    assert found.index(None) == 3
    for one, last in zip(found.nodes_at(), found.nodes_at(found.times[-1]), strict=True):
        np.testing.assert_array_equal(one, last)


def test_two_coordinates_agree_between_discretisations():
    exact = made("nodes", PLANE)
    for t in SAVES:
        for f in ("x", "y", lambda x, y: x * y):
            for kind in ("mesh", "cloud"):
                assert average(made(kind, PLANE).mean(f, t)) == pytest.approx(exact.mean(f, t), abs=ACCURACY[kind])
        assert average(made("mesh", PLANE).moment("x", 0, t)) == pytest.approx(exact.moment("x", 0, t), abs=1e-3)


def test_what_is_wrong_is_refused_in_one_way(kind):
    found, never = made(kind), r"^t = 7 is (no save time; the nearest is 0.4|outside the run, \[0, 0.4\])"
    for ask in (found.index, found.response_at, found.nodes_at, found.measure, lambda t: found.moment("theta", 1, t)):
        with pytest.raises(ValueError, match=never):
            ask(7.0)
        with pytest.raises(ValueError, match=r"^t must be a finite number"):
            ask("now")
    with pytest.raises(ValueError, match=r"^t = 0.39 is no save time; the nearest is 0.4 \(pass save= to "):
        found.index(0.39)
    with pytest.raises(ValueError, match=r"^no axis 'y'; valid: theta"):
        found.moment("y")
    with pytest.raises(ValueError, match=r"^power must be a whole number"):
        found.moment("theta", 0.5)
    with pytest.raises(ValueError, match=r"^the function of a moment returned shape \(2,\), which does not broadcast"):
        found.mean(lambda theta: np.ones(2))
    for nothing in (lambda theta: None, lambda theta: "3", lambda theta: 1j * theta):
        with pytest.raises(ValueError, match=r"<lambda> must return real numbers, not "):
            found.moment(nothing)
    with pytest.raises(ValueError, match=r"names no network; give Problem\(network=Network\(unit\)\)"):
        made(kind, PLANE).predict([1.0])


def test_a_save_time_is_told_from_others_in_any_unit_of_time():
    """1e-9 of the end of the run, not of 1: in a run of a nanosecond every time was one."""
    times = np.array([0.0, 5e-10, 1e-9])
    assert save_index(times, 5e-10 * (1 + 1e-10), "solve") == 1
    with pytest.raises(ValueError, match=r"^t = 7e-10 is no save time; the nearest is 5e-10"):
        save_index(times, 7e-10, "solve")
    with pytest.raises(ValueError, match=r"^t = 0\.10000000149\d* is no save time; the nearest is 0\.1000000000000"):
        save_index(np.array([0.0, 0.1]), float(np.float32(0.1)), "solve")


def test_a_state_starts_a_run_of_another_kind(kind):
    """What is left at 0.2 moves on: together 0.4, with the errors of both."""
    start = made(kind).measure(0.2)
    nodes = mf.characteristics(replace(LINE, initial=start), 0.2, save=2, tolerance=1e-3, max_nodes=10**5)
    mean = average(nodes.mean("theta"))
    assert mean == pytest.approx(LINE.exact["mean"](0.4), abs=2 * ACCURACY[kind] if kind != "cloud" else 6e-2)


def test_moments_of_functions_of_single_numbers(kind):
    """`np.vectorize` rounds to integers where the first result is one."""
    found = made(kind)
    one, other = found.moment(np.vectorize(lambda x: 0 if x < 0 else x)), found.moment(lambda x: np.maximum(x, 0))
    np.testing.assert_array_equal(one, other)


def test_a_cloud_has_every_replica():
    cloud = made("cloud")
    for r in range(4):
        points, weights = cloud.nodes_at(0.2, r)
        for one, other in zip(cloud.points(0.2, r), (points, weights), strict=True):
            np.testing.assert_array_equal(one, other)  # the older name
        assert cloud.moment(np.sin, t=0.2)[r] == pytest.approx(weights @ np.sin(points[:, 0]), rel=1e-12)
        np.testing.assert_array_equal(cloud.response_at(0.2)[r], cloud.response[r, cloud.index(0.2)])


def test_a_cloud_drives_no_twins():
    """It has a response at its save times, but one a replica, and none in between."""
    still = replace(LINE, alpha=0.0)
    with pytest.raises(ValueError, match="solution must be a Solution or Characteristics of the problem, not <Cloud"):
        mf.particles.coupled(still, quiet(still, 10, dt=0.2, save=3), 4, dt=0.2)
