"""Processes that are spawned: they compute what their parent does, and what a killed one held is free."""

from __future__ import annotations

import json
import os
import signal

import pytest
from shared import python

STUDY = '''
"""A study as a user writes one: a problem is made in the process that solves it."""

import hashlib
import json
import multiprocessing
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import mfpde as mf

warnings.simplefilter("ignore")  # the meshes are coarse


def digest(*arrays):
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def solved(alpha):
    problem = mf.problems.three_gaussians(alpha=alpha)
    found = mf.solve(problem, (24, 20), 0.1, save=3, threads=2, progress=False)
    return digest(found.times, found.energy, np.asarray(found.density), *found.diagnostics.values())


def simulated(seed):
    problem = mf.problems.linear_neuron()
    cloud = mf.particles.simulate(problem, 50, t_end=0.1, replicas=3, seed=seed, workers=2, progress=False)
    return digest(cloud.times, cloud.positions, cloud.energy, cloud.kills, cloud.births)


TASKS = [(solved, 0.0), (simulated, 1), (solved, 5.0), (simulated, 2)]


def held(path, started):
    """A run that never ends by itself."""

    def wait(snapshot):
        if snapshot.step == 5:
            started.set()
            while True:
                time.sleep(60)
        return False

    mf.solve(mf.problems.linear_neuron(), 40, 0.1, output=path, stop=wait, checkpoint=1e-3, progress=False)


def refused_then_free(context):
    """What became of an output, while a child holds it, and once the child has been killed."""
    started = context.Event()
    child = context.Process(target=held, args=("held.h5", started))
    child.start()
    while not started.wait(0.1):
        assert child.is_alive()
    try:
        mf.resume("held.h5", progress=False)
    except BlockingIOError as error:
        said = f"process {child.pid} " in str(error)
    child.kill()
    child.join()
    return said, child.exitcode, mf.resume("held.h5", progress=False).result.name


def main():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        several = [future.result() for future in [pool.submit(*task) for task in TASKS]]
    with context.Pool(1) as pool:
        one = [pool.apply(function, (value,)) for function, value in TASKS]
    print(json.dumps({"several": several, "one": one, "held": refused_then_free(context)}))


if __name__ == "__main__":
    main()
'''


@pytest.fixture(scope="module")
def expected():
    """What the tasks of the study give in this process."""
    study = {"__name__": "study"}
    exec(STUDY, study)
    return [function(value) for function, value in study["TASKS"]]


@pytest.mark.filterwarnings("ignore")  # the study's
@pytest.mark.parametrize("arguments", [["study.py"], ["-m", "study"]], ids=["script", "module"])
def test_spawned_processes_compute_what_their_parent_does(folder, expected, arguments):
    (folder / "study.py").write_text(STUDY)
    done = python(*arguments, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"several": expected, "one": expected, "held": [True, -signal.SIGKILL, "SUCCESS"]}
    assert {name for name in os.listdir(folder) if "held" in name} == {"held.h5"}
