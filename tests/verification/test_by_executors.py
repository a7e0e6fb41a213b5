"""Simulations, comparisons, replicas of other codes and references by executors: the bits of this process alone."""

import math
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from shared import reinjected, same_bits

import mfpde as mf
from mfpde.particles.ensemble import Ensemble
from mfpde.verification.references.routes import MeshRoute, NodeRoute


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    if request.param == "processes":
        yield request.getfixturevalue("processes")
    else:
        with ThreadPoolExecutor(3) as pool:
            yield pool


class Breaks:
    """A pool of two that breaks with a task of so many."""

    _max_workers = 2

    def __init__(self, number):
        self.left = number

    def submit(self, function, *arguments):
        self.left -= bool(arguments)
        future = Future()
        future.set_running_or_notify_cancel()
        if self.left < 0:
            future.set_exception(BrokenProcessPool("a process was terminated"))
        else:
            future.set_result(function(*arguments))
        return future


ARRAYS = ("times", "positions", "weights", "energy", "response", "mass", "ess", "kills", "births", "injections")


def assert_same_cloud(one, other, replicas=None):
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert same_bits(a if name == "times" else a[:replicas], b if name == "times" else b[:replicas]), name
    assert one.observed.keys() == other.observed.keys()
    for name, values in one.observed.items():
        assert same_bits(values[:replicas], other.observed[name][:replicas])
    assert (one.dt, one.n, one.seed, one.evaluation, repr(one.scheme)) == (
        other.dt, other.n, other.seed, other.evaluation, repr(other.scheme),
    )  # fmt: skip


CLOUDS = {
    "birth-death": (lambda: mf.problems.three_gaussians(alpha=5.0), {}),
    "weights": (lambda: mf.problems.gaussian_bumps(alpha=2.0), {"dynamics": mf.particles.Weights()}),
    "noise": (lambda: mf.problems.torus_langevin(temperature=0.2), {"keep_positions": False}),
    "reinjection": (lambda: reinjected(2.0), {"initial": np.linspace(-1.0, 1.0, 100).reshape(50, 2)}),
}
OPTIONS = {"dt": 0.05, "t_end": 0.3, "save": 3, "seed": 4, "progress": False}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds(name, executor):
    """Replica k is the same whoever runs it, and however many others there are."""
    make, given = CLOUDS[name]
    given = {**OPTIONS, **given, "observe": {"first": lambda x, w: x[0], "spread": lambda x, w: x.std()}}
    alone = mf.particles.simulate(make(), 50, replicas=5, **given)
    assert_same_cloud(mf.particles.simulate(make(), 50, replicas=5, executor=executor, **given), alone)
    assert_same_cloud(mf.particles.simulate(make(), 50, replicas=2, executor=executor, **given), alone, 2)


def test_clouds_go_on(tmp_path, monkeypatch):
    """Of a pool that breaks the replicas that were complete are kept, and nothing is done twice."""
    problem, path = mf.problems.three_gaussians(alpha=5.0), tmp_path / "cloud.npz"
    given = {**OPTIONS, "replicas": 6, "observe": {"first": lambda x, w: x[0]}}
    alone = mf.particles.simulate(problem, 50, **given)
    with pytest.raises(mf.BrokenPool, match=r"the pool of the simulation broke \(a process was terminated\)"):
        mf.particles.simulate(problem, 50, executor=Breaks(1), checkpoint=path, **given)
    steps, step = [], Ensemble.step
    monkeypatch.setattr(Ensemble, "step", lambda self, t, dt: steps.append(self.replicas) or step(self, t, dt))
    before = path.read_bytes()
    for executor in (None, Breaks(9)):
        path.write_bytes(before)
        steps.clear()
        assert_same_cloud(mf.particles.simulate(problem, 50, executor=executor, checkpoint=path, **given), alone)
        assert steps == [3] * 6
        assert not path.exists()


def test_clouds_of_threads_go_on_by_an_executor(tmp_path):
    """In the middle of a block."""
    problem, path, calls = mf.problems.three_gaussians(alpha=5.0), tmp_path / "cloud.npz", []
    given = {**OPTIONS, "replicas": 3, "save": 7, "checkpoint": path, "checkpoint_every": 0.0}

    def observe(x, w):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return x[0]

    with pytest.raises(KeyboardInterrupt):
        mf.particles.simulate(problem, 50, observe={"first": observe}, **given)
    found = mf.particles.simulate(problem, 50, observe={"first": lambda x, w: x[0]}, executor=Breaks(9), **given)
    del given["checkpoint"]
    assert_same_cloud(found, mf.particles.simulate(problem, 50, observe={"first": lambda x, w: x[0]}, **given))


def test_comparisons(executor):
    solution = mf.solve(mf.problems.linear_neuron(alpha=1.0), 60, 0.4, save=3, progress=False)
    given = {"sizes": [20, 40], "replicas": 6, "dt": 0.05, "sensitivities": False, "seed": 3, "progress": False}
    alone = mf.compare(solution, **given)
    assert mf.compare(solution, executor=executor, **given).to_json() == alone.to_json()


def train(n, seed):
    return {"energy": np.array([n * 1e-3, float(seed)])}


def test_replicas_of_other_codes(executor):
    alone = mf.testing.run_replicas(train, (10, 20), 6, seed=2)
    found = mf.testing.run_replicas(train, (10, 20), 6, seed=2, executor=executor)
    assert [list(runs) for runs in (alone, found)] == [[10, 20]] * 2
    for n in (10, 20):
        assert [run["energy"].tolist() for run in found[n]] == [run["energy"].tolist() for run in alone[n]]
        assert {run["energy"][0] for run in found[n]} == {n * 1e-3}
        few = mf.testing.run_replicas(train, (n,), 3, seed=2)[n]
        assert [run["energy"][1] for run in few] == [run["energy"][1] for run in alone[n][:3]]
    seeds = [
        run["energy"][1]
        for seed in (2, 3)
        for n in (10, 20)
        for run in mf.testing.run_replicas(train, (10, 20), 6, seed=seed)[n]
    ]
    assert len(set(seeds)) == 24
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("problem", "given"),
    [
        (lambda: mf.problems.linear_neuron(), {"times": [0.5, 1.0]}),
        (lambda: mf.problems.torus_langevin(), {"tolerance": 1e-2, "times": [0.2, np.inf]}),
    ],
    ids=["nodes", "meshes"],
)
def test_references(problem, given, executor):
    """Value, bars and the way to them; only the end of a budget depends on the clock."""
    given = {"budget": 1e6, **given}
    alone, found = mf.reference(problem(), **given), mf.reference(problem(), executor=executor, **given)
    assert [(level.route, level.cells) for level in found.levels] == [
        (level.route, level.cells) for level in alone.levels
    ]
    assert found.reached == alone.reached
    for one, other in zip(found.observables, alone.observables, strict=True):
        assert (one.route, one.check, one.other, one.sizes) == (other.route, other.check, other.other, other.sizes)
        for name in ("value", "bar", "check_value", "check_bar", "other_value", "other_bar"):
            assert same_bits(getattr(one, name), getattr(other, name)), name


def test_a_broken_pool_is_one_named_error():
    problem = mf.problems.linear_neuron()
    with pytest.raises(mf.BrokenPool, match=r"the pool of the reference broke \(a process was terminated\)"):
        mf.reference(problem, executor=Breaks(2))
    with pytest.raises(mf.BrokenPool, match="the pool of the replicas broke"):
        mf.testing.run_replicas(train, (10,), 4, executor=Breaks(2))
    with pytest.raises(mf.BrokenPool, match="the pool of the simulation broke"):
        mf.particles.simulate(problem, 10, replicas=4, executor=Breaks(0), **OPTIONS)


def test_refusals():
    problem = mf.problems.linear_neuron()
    solution = mf.solve(problem, 40, 0.1, progress=False)
    for call in (
        lambda: mf.particles.simulate(problem, 10, executor=3),
        lambda: mf.compare(solution, executor=3),
        lambda: mf.reference(problem, executor=3),
        lambda: mf.testing.run_replicas(train, (10,), 2, executor=3),
    ):
        with pytest.raises(ValueError, match=r"executor must be one of concurrent.futures or like these, not 3"):
            call()
    with pytest.raises(ValueError, match="workers = 2 are threads, and an executor has workers of its own"):
        mf.particles.simulate(problem, 10, executor=Breaks(1), workers=2)


@pytest.mark.parametrize("route", ["nodes", "mesh"])
def test_runs_at_the_same_time_leave_what_they_cost_on_routes_of_their_own(route):
    """Who comes last would say what the others cost, by which the next level is chosen."""
    problem, times = mf.problems.linear_neuron(), np.array([0.1])
    own = NodeRoute(problem, times) if route == "nodes" else MeshRoute(problem, times, mf.Weno5(), 5)
    one, other = (own.portable() for _ in range(2))
    for found, level in ((one, 1), (other, 0)):
        list(found.run(level, 1e-5, math.inf))
    assert one.cost > other.cost > own.cost == 0.0
    if route == "nodes":
        assert one.flow is not other.flow
        assert one.flow.work > other.flow.work
