"""The same bytes from every engine: threads, spawned processes, loky, dask, MPI, and shards that are merged."""

import importlib.util
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import h5py
import loky
import numpy as np
import pytest
from shared import ROOT, python

import mfpde as mf

GRID = {"alpha": [0.0, 1.0, 5.0], "target": [1.0, 2.0, float("nan")], "variance": [0.5, 0.25]}
OPTIONS = {"shape": 40, "t_end": 0.3, "save": 2, "estimate": True}
VARIES = ("host", "date", "seconds")

SCRIPT = """
import sys
import mfpde as mf
from test_sweep_engines import GRID, OPTIONS

def sweep(executor):
    mf.sweep(mf.problems.linear_neuron, GRID, output=sys.argv[2], executor=executor, **OPTIONS)

if __name__ == "__main__":
    if sys.argv[1] == "dask":
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as c:
            sweep(c.get_executor())
    else:
        from mpi4py.futures import MPIPoolExecutor
        with MPIPoolExecutor() as executor:
            assert executor.num_workers == 2
            sweep(executor)
"""
MPI = shutil.which("mpiexec") is not None and importlib.util.find_spec("mpi4py") is not None


def columns(path):
    """All that a file of a sweep holds, but when and where it was made."""
    with h5py.File(path) as file:
        found = {name: (str(file[name].dtype), file[name][...].tobytes()) for name in file if name not in VARIES}
        return found | {"attributes": dict(file.attrs)}


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    path = tmp_path_factory.mktemp("serial") / "phase.h5"
    found = mf.sweep(mf.problems.linear_neuron, GRID, output=path, **OPTIONS)
    assert (found.status == "SUCCESS").sum() == 12
    assert (found.status == "FAILED: ValueError").sum() == 6
    return columns(path)


def spawn():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


class Later:
    """An executor that says nothing of itself, whose futures are done at once."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_running_or_notify_cancel()
        future.set_result(function(*arguments))
        return future


@pytest.mark.parametrize(
    "pool",
    [lambda: ThreadPoolExecutor(2), spawn, lambda: loky.get_reusable_executor(max_workers=2), Later],
    ids=["threads", "spawn", "loky", "unknown"],
)
def test_pools(pool, serial, tmp_path):
    with pool() as executor:
        mf.sweep(mf.problems.linear_neuron, GRID, output=tmp_path / "s.h5", executor=executor, **OPTIONS)
    assert columns(tmp_path / "s.h5") == serial


def test_warm_starts(tmp_path):
    """A chain goes to a worker in one piece."""
    given = {"warm": "alpha", **OPTIONS}
    mf.sweep(mf.problems.linear_neuron, GRID, output=tmp_path / "serial.h5", **given)
    with ThreadPoolExecutor(2) as executor:
        mf.sweep(mf.problems.linear_neuron, GRID, output=tmp_path / "threads.h5", executor=executor, **given)
    assert columns(tmp_path / "threads.h5") == columns(tmp_path / "serial.h5")


def test_dask(serial, tmp_path):
    script = tmp_path / "engine.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "runs")))
    done = python(script, "dask", tmp_path / "s.h5", environment={"PYTHONPATH": path}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert columns(tmp_path / "s.h5") == serial


@pytest.mark.skipif(not MPI, reason="needs mpiexec and mpi4py")
def test_mpi(serial, tmp_path):
    """Three ranks: one that writes and two that work."""
    script = tmp_path / "engine.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "runs")))
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # in a container
    many = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", script, "mpi", tmp_path / "s.h5"],
        env=os.environ | root | many | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert columns(tmp_path / "s.h5") == serial


class TestShards:
    def test_are_the_whole_once_merged(self, serial, tmp_path):
        path = tmp_path / "phase.h5"
        for k in (2, 3, 1):
            part = mf.sweep(mf.problems.linear_neuron, GRID, output=path, shard=(k, 3), **OPTIONS)
            np.testing.assert_array_equal(part.run, np.arange(k - 1, 18, 3))
            np.testing.assert_array_equal(part.alpha, np.repeat(GRID["alpha"], 6)[k - 1 :: 3])
        assert not path.exists()
        found = mf.sweep(mf.problems.linear_neuron, GRID, output=path, merge=True, **OPTIONS)
        assert columns(path) == serial
        assert found.energy.dims == ("alpha", "target", "variance")
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "phase.1-of-3.h5", "phase.2-of-3.h5", "phase.3-of-3.h5", "phase.h5",
        ]  # fmt: skip

    def test_of_warm_starts_have_whole_chains(self, tmp_path):
        grid = {"alpha": [0.0, 1.0, 5.0], "target": [1.0, 2.0]}
        path, whole = tmp_path / "phase.h5", tmp_path / "whole.h5"
        given = {"warm": "alpha", **OPTIONS}
        for k in (1, 2):
            part = mf.sweep(mf.problems.linear_neuron, grid, output=path, shard=(k, 2), **given)
            np.testing.assert_array_equal(part.target, grid["target"][k - 1])
        mf.sweep(mf.problems.linear_neuron, grid, output=path, merge=True, **given)
        mf.sweep(mf.problems.linear_neuron, grid, output=whole, **given)
        assert columns(path) == columns(whole)
        with pytest.raises(ValueError, match="a sweep of 2 chains of warm starts has no 3 shards"):
            mf.sweep(mf.problems.linear_neuron, grid, shard=(1, 3), **given)

    def test_that_are_missing_or_foreign_are_refused_by_name(self, tmp_path):
        grid, path = {"alpha": [0.0, 1.0, 2.0, 3.0]}, tmp_path / "phase.h5"

        def sweep(**given):
            return mf.sweep(mf.problems.linear_neuron, grid, output=path, **(OPTIONS | given))

        def merge_says(text):
            with pytest.raises(ValueError, match=text):
                sweep(merge=True)
            assert not path.exists()

        merge_says(r"there are no shards of .*phase\.h5, such as phase\.1-of-4\.h5 beside it")
        sweep(shard=(1, 2))
        merge_says(r"phase\.2-of-2\.h5 is missing, 1 of 2 shards; run it first")
        sweep(shard=(2, 2), t_end=0.2)
        merge_says(r"phase\.2-of-2\.h5 holds another sweep: its arguments is .*t_end=0\.2, not .*t_end=0\.3")
        (tmp_path / "phase.2-of-2.h5").unlink()
        shutil.copy(tmp_path / "phase.1-of-2.h5", tmp_path / "phase.2-of-2.h5")
        merge_says(r"phase\.2-of-2\.h5 holds another sweep: its shard is 1 of 2, not 2 of 2")
        (tmp_path / "phase.2-of-2.h5").unlink()
        sweep(shard=(3, 3))
        merge_says(r"there are shards of .*phase\.h5 in 2 and in 3 parts; remove those of one")
        (tmp_path / "phase.3-of-3.h5").unlink()

        sweep(shard=(2, 2))
        with h5py.File(tmp_path / "phase.2-of-2.h5", "r+") as file:
            file["done"][1] = 0
        merge_says(r"phase\.2-of-2\.h5 has 1 of 2 rows; run this shard again, it goes on")
        sweep(shard=(2, 2))
        sweep(merge=True)
        assert path.exists()

    def test_with_other_columns_are_refused_by_name(self, tmp_path):
        def measure(run):
            return {"energy" if run.problem.alpha(0.0) == 0.0 else "last": run.energy[-1]}

        given = {"output": tmp_path / "s.h5", "measure": measure, **OPTIONS}
        for k in (1, 2):
            mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0]}, shard=(k, 2), **given)
        text = r"s\.2-of-2\.h5 does not fit the shards before it: measured were last, and energy before"
        with pytest.raises(ValueError, match=text):
            mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0]}, merge=True, **given)

    def test_whole_files_of_another_sweep_stay(self, tmp_path):
        path, grid = tmp_path / "s.h5", {"alpha": [0.0, 1.0]}
        for k in (1, 2):
            mf.sweep(mf.problems.linear_neuron, grid, output=path, shard=(k, 2), **OPTIONS)
        mf.sweep(mf.problems.linear_neuron, {"alpha": [3.0]}, output=path, **OPTIONS)
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"s\.h5 holds another sweep: its parameters"):
            mf.sweep(mf.problems.linear_neuron, grid, output=path, merge=True, **OPTIONS)
        assert path.read_bytes() == before
        found = mf.sweep(mf.problems.linear_neuron, grid, output=path, merge=True, overwrite=True, **OPTIONS)
        assert np.isfinite(found.energy).all()

    @pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1.0, 3), 2, (1, 2, 3), "1/3"])
    def test_refusals(self, shard):
        with pytest.raises(ValueError, match=r"shard must be \(k, n\), k from 1 to n, not"):
            mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0, 2.0]}, shard=shard, **OPTIONS)

    def test_merging_needs_a_file(self):
        with pytest.raises(ValueError, match="merge=True puts the shards of output= together"):
            mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0]}, merge=True, **OPTIONS)
