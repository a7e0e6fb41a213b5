"""Simulations of particles that are killed and go on as if nothing had been."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from shared import Gone, printed_by, reinjected

import mfpde as mf
from mfpde.particles import SGD, BirthDeath, GradientDescent, Langevin, Weights, simulate
from mfpde.particles.checkpoint import Checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cloud.npz"


def network() -> mf.Problem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(400)
    return mf.problems.network(x, np.tanh(x), alpha=1.0, t_end=0.5)


KINDS = {
    "birth-death": (mf.problems.three_gaussians, {"dynamics": None}),
    "reinjection": (lambda: reinjected(5.0), {"dynamics": None}),
    "weights": (mf.problems.three_gaussians, {"dynamics": [GradientDescent(), Weights(resample=0.9)]}),
    "langevin": (mf.problems.torus_langevin, {"dynamics": [Langevin()]}),
    "batches": (network, {"dynamics": [SGD(batch=4), BirthDeath()]}),
    "one pass": (network, {"dynamics": [SGD(batch=4, one_pass=True)]}),
    "without positions": (mf.problems.gaussian_bumps, {"dynamics": None, "keep_positions": False}),
}


def assert_same(a: mf.particles.Cloud, b: mf.particles.Cloud) -> None:
    for name in ("times", "positions", "weights", "energy", "mass", "ess", "response", "kills", "births", "injections"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert np.array_equal(one, other), name
    assert a.observed.keys() == b.observed.keys()
    for name, values in a.observed.items():
        assert np.array_equal(values, b.observed[name]), name


def killed(monkeypatch: pytest.MonkeyPatch, writes: int, *arguments, **settings) -> None:
    """Simulate until some checkpoints have been written, then die."""
    count, write = 0, Checkpoint.write

    def then_die(self, *given):
        nonlocal count
        count += 1
        if count > writes:
            raise Gone
        write(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", then_die)
        with pytest.raises(Gone):
            simulate(*arguments, **settings, checkpoint_every=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_simulation_goes_on_bit_for_bit(kind, path, monkeypatch):
    make, settings = KINDS[kind]
    problem = make()
    settings = settings | {
        "dt": 0.01, "t_end": 0.3, "save": 4, "replicas": 5, "seed": 3, "progress": False,
        "observe": {"mean of a name": lambda x, w: w @ x, "top": lambda x, w: x.max()},
    }  # fmt: skip
    whole = simulate(problem, 40, **settings)
    monkeypatch.setattr("mfpde.particles.simulation.BLOCK", 80)  # blocks of two replicas
    for writes in (1, 40, 30):
        killed(monkeypatch, writes, problem, 40, **settings, checkpoint=path)
        assert os.listdir(path.parent) == ["cloud.npz"]
    # there are 93 writes in all
    done = simulate(problem, 40, **settings, checkpoint=path, workers=2)
    assert_same(done, whole)
    assert os.listdir(path.parent) == []


def test_it_goes_on_and_does_not_start_again(path, monkeypatch):
    settings = {"dt": 0.01, "t_end": 0.3, "seed": 3, "progress": False, "checkpoint": path}
    killed(monkeypatch, 25, mf.problems.gaussian_bumps(), 40, **settings)
    steps, step = [], mf.particles.simulation.Ensemble.step
    monkeypatch.setattr(
        mf.particles.simulation.Ensemble, "step", lambda self, t, dt: (steps.append(round(t / dt)), step(self, t, dt))
    )
    simulate(mf.problems.gaussian_bumps(), 40, **settings)
    assert steps == list(range(24, 30))


def test_blocks_whose_turn_has_not_come_stay_in_the_file(path):
    """Killed, gone on with by fewer workers, and killed again."""
    size = {"block_size": np.array(2)}
    Checkpoint(path, 0.0, {}).write({b: {"steps": np.array(b)} for b in range(3)}, size)
    Checkpoint(path, 0.0, {}).write({0: {"steps": np.array(9)}}, size)
    found = Checkpoint(path, 0.0, {})
    assert [int(found.state(b)["steps"]) for b in range(3)] == [9, 1, 2]
    assert found.state(3) == {}


def test_another_simulation_is_refused_and_all_that_differs_named(path, monkeypatch):
    settings = {"dt": 0.01, "t_end": 0.3, "seed": 3, "replicas": 2, "progress": False, "checkpoint": path}
    killed(monkeypatch, 2, mf.problems.gaussian_bumps(), 40, **settings)
    before = path.read_bytes()
    for changes, named in (
        ({"seed": 4}, ["seed was 3 and is 4"]),
        ({"dt": 0.03, "save": 3}, ["dt was 0.01 and is 0.03", "saves was"]),
        ({"replicas": 3}, ["replicas was 2 and is 3"]),
        ({"initial": np.zeros((40, 1))}, ["initial was None and is array (40, 1)"]),
        ({"observe": {"x": lambda x, w: x[0]}}, ["observe was [] and is ['x']"]),
    ):
        with pytest.raises(ValueError, match="is a checkpoint of another simulation") as caught:
            simulate(mf.problems.gaussian_bumps(), 40, **settings | changes)
        assert all(text in str(caught.value) for text in named), caught.value
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="problem was 'gaussian-bumps'"):
        simulate(mf.problems.gaussian_bumps(alpha=2.0), 40, **settings)
    with pytest.raises(ValueError, match="n was 40 and is 41"):
        simulate(mf.problems.gaussian_bumps(), 41, **settings)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"\x80\x04K\x01."])
def test_foreign_and_damaged_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no checkpoint of a simulation; remove it"):
        simulate(mf.problems.gaussian_bumps(), 40, dt=0.1, checkpoint=path, progress=False)
    assert path.read_bytes() == content
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        simulate(mf.problems.gaussian_bumps(), 40, dt=0.1, checkpoint=path.with_suffix(".h5"), progress=False)
    with pytest.raises(ValueError, match="checkpoint_every must be"):
        simulate(mf.problems.gaussian_bumps(), 40, dt=0.1, checkpoint="a.npz", checkpoint_every=-1.0, progress=False)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        simulate(mf.problems.gaussian_bumps(), 40, dt=0.1, checkpoint=path.parent / "no" / "a.npz", progress=False)


KILLED = """
import os, random, signal, sys, time
import numpy as np
import mfpde as mf
path = sys.argv[1]
problem = mf.problems.three_gaussians()
settings = dict(dt=0.01, t_end=3.0, seed=1, replicas=4, workers=2, progress=False, checkpoint_every=0.005)
whole = mf.particles.simulate(problem, 200, **settings)
random.seed(5)
killed = 0
while True:
    child = os.fork()
    if not child:
        done = mf.particles.simulate(problem, 200, **settings, checkpoint=path)
        os._exit(0 if np.array_equal(done.positions, whole.positions) else 1)
    if killed < 8:
        time.sleep(random.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    killed += 1
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9(path):
    assert int(json.loads(printed_by(KILLED, path))) >= 1
    # what a kill in the middle of a write leaves has another name
    assert all(name.startswith(".cloud.npz.") for name in os.listdir(path.parent))


def test_a_checkpoint_that_cannot_be_removed_does_not_cost_the_simulation(path, monkeypatch):
    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    cloud = simulate(mf.problems.linear_neuron(), 20, t_end=0.1, save=2, checkpoint=path, progress=False)
    assert cloud.times.tolist() == [0.0, 0.1]
