"""Sweeps: the same bytes from every executor, files that go on, and runs that fail."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import h5py
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats
from shared import ROOT, assert_refused, invoke

import mfpde as mf

xarray = pytest.importorskip("xarray")

GRID = {"alpha": [0.0, 1.0, 5.0], "target": [1.0, 2.0]}
OPTIONS = {"shape": 40, "t_end": 0.3, "save": 2, "estimate": True}
VARIES = ("seconds", "host")


def same(one, other):
    """Equal bytes of every column but when and where."""
    assert set(one) == set(other)
    for name in set(one) - set(VARIES):
        assert one[name].values.tobytes() == other[name].values.tobytes(), name


@pytest.fixture(scope="module")
def serial():
    return mf.sweep(mf.problems.linear_neuron, GRID, **OPTIONS)


class Failing:
    """Problems that are none at some points, at the top of a module where workers find it."""

    def __call__(self, target, how):
        if how == "exits":
            raise SystemExit(3)
        if how == "raises":
            raise RuntimeError("no such neuron\nat all")
        if how == "nan":
            return mf.problems.linear_neuron(target=float("nan"))
        return mf.problems.linear_neuron(target=target)


def dies(target, how):
    if how == "dies" and multiprocessing.parent_process() is not None:
        os._exit(1)
    return mf.problems.linear_neuron(target=target)


class TestNumbers:
    def test_are_those_of_single_runs(self, serial):
        assert dict(serial.sizes) | {"response_0": 0} == {"alpha": 3, "target": 2, "response_0": 0}
        for alpha in GRID["alpha"]:
            for target in GRID["target"]:
                run = mf.solve(mf.problems.linear_neuron(target, alpha=alpha), 40, 0.3, save=2, estimate=True)
                row = serial.sel(alpha=alpha, target=target)
                assert row.energy == run.energy[-1]
                assert row.energy_error == run.energy_error[-1]
                assert row.gap == run.diagnostics["optimality_gap"][-1]
                np.testing.assert_array_equal(row.response, run.response[-1])
                assert row.status == "SUCCESS"

    def test_of_lists_names_and_files(self, serial, tmp_path):
        points = [{"alpha": alpha, "target": target} for alpha in GRID["alpha"] for target in GRID["target"]]
        listed = mf.sweep("linear-neuron", points, **OPTIONS)
        assert listed.energy.dims == ("run",)
        np.testing.assert_array_equal(listed.energy, serial.energy.values.ravel())
        np.testing.assert_array_equal(listed.target, [1.0, 2.0] * 3)
        file = tmp_path / "neuron.toml"
        file.write_text('problem = "linear-neuron"\nt_end = 0.3\n')
        same(mf.sweep(file, GRID, **OPTIONS), serial)

    @pytest.mark.parametrize(
        ("run", "problem", "options", "columns"),
        [
            (mf.characteristics, "linear-neuron", {"tolerance": 1e-3, "t_end": 0.2, "save": 2}, "energy energy_error"),
            (mf.stationary, "torus-langevin", {"shape": 30}, "energy energy_error gap mass"),
            (mf.reference, "linear-neuron", {"tolerance": 1e-2, "times": [0.1]}, "energy energy_bar"),
        ],
        ids=["characteristics", "stationary", "reference"],
    )
    def test_of_other_runs(self, run, problem, options, columns):
        name = "alpha" if problem == "linear-neuron" else "temperature"
        found = mf.sweep(problem, {name: [0.3, 0.4]}, run=run, **options)
        assert set(columns.split()) <= set(found)
        assert np.isfinite(found.energy).all()

    def test_a_measure_of_ones_own(self):
        def measure(run):
            return {"mean": run.mean("theta"), "mu": run.density[-1]}

        found = mf.sweep("linear-neuron", {"alpha": [0.0, 1.0]}, measure=measure, **OPTIONS)
        assert found.mu.dims == ("alpha", "mu_0")
        assert found.mu.shape == (2, 40)

    def test_warm_starts(self):
        """Each run along the axis begins where the one before has ended."""
        found = mf.sweep(mf.problems.linear_neuron, GRID, warm="alpha", **OPTIONS)
        run = mf.solve(mf.problems.linear_neuron(2.0, alpha=0.0), 40, 0.3, save=2, estimate=True)
        run = mf.solve(mf.problems.linear_neuron(2.0, alpha=1.0), 40, 0.3, save=2, estimate=True, initial=run.measure())
        assert found.energy.sel(alpha=1.0, target=2.0) == run.energy[-1]

    def test_the_first_of_warm_starts_may_have_an_initial_of_its_own(self):
        initial = mf.Product(theta=stats.norm(0.3, 0.8))
        found = mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0]}, warm="alpha", initial=initial, **OPTIONS)
        run = mf.solve(mf.problems.linear_neuron(alpha=0.0), 40, 0.3, save=2, estimate=True, initial=initial)
        assert found.energy[0] == run.energy[-1]
        run = mf.solve(mf.problems.linear_neuron(alpha=1.0), 40, 0.3, save=2, estimate=True, initial=run.measure())
        assert found.energy[1] == run.energy[-1]

    def test_values_that_are_arrays(self):
        """A row of an array is one value, and its coordinate says which."""
        values = np.array([[0.0, 1.0], [1.0, 2.0]])
        found = mf.sweep(lambda both: mf.problems.linear_neuron(both[1], alpha=both[0]), {"both": values}, **OPTIONS)
        one = mf.sweep(mf.problems.linear_neuron, [{"alpha": a, "target": b} for a, b in values], **OPTIONS)
        np.testing.assert_array_equal(found.energy, one.energy)
        assert len({*found.both.values}) == 2


class Fragile:
    """A pool of processes, in this one, that breaks where a run kills its worker."""

    _max_workers = 1

    def __init__(self, under_way):
        self.broken, self.under_way = False, under_way

    def submit(self, function, *arguments):
        if self.broken:
            raise BrokenProcessPool("it was broken before")
        points = arguments[0].points if arguments else []
        self.under_way.append(points)
        future = Future()
        future.set_running_or_notify_cancel()
        if any(point["how"] == "dies" for point in points):
            self.broken = True
            future.set_exception(BrokenProcessPool("a process was terminated"))
        else:
            future.set_result(function(*arguments))
        return future


class Broken:
    """A pool whose workers have ended before they came."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_exception(BrokenProcessPool("all gone"))
        return future


class Locked:
    """A factory that no other process can have."""

    def __call__(self, alpha):
        return mf.problems.linear_neuron(alpha=alpha)

    def __reduce__(self):
        raise TypeError("cannot pickle the lock")


class Pickling:
    """Threads that get their work as processes do."""

    def __init__(self, executor):
        self.executor = executor

    def submit(self, function, *arguments):
        return self.executor.submit(lambda: pickle.loads(pickle.dumps(function))(*arguments))


class TestFailures:
    points = {"target": [1.0, 2.0], "how": ["works", "raises", "exits", "nan"]}

    def test_are_rows(self):
        found = mf.sweep(Failing(), self.points, **OPTIONS)
        assert np.isfinite(found.energy.sel(how="works")).all()
        for how, status, message in (
            ("raises", "FAILED: RuntimeError", "no such neuron at all"),
            ("exits", "FAILED: SystemExit", "3"),
            ("nan", "FAILED: ValueError", "target"),
        ):
            row = found.sel(how=how, target=2.0)
            assert np.isnan(row.energy)
            assert row.status == status
            assert message in str(row.message.values)

    def test_all_of_them(self, tmp_path):
        """There are no columns to measure then."""
        found = mf.sweep(Failing(), {"target": [1.0], "how": ["raises", "exits"]}, output=tmp_path / "s.h5", **OPTIONS)
        assert "energy" not in found
        assert list(found.status.values[0]) == ["FAILED: RuntimeError", "FAILED: SystemExit"]

    def test_a_worker_that_dies(self, tmp_path):
        """The sweep stops by name and keeps its rows; the run that kills a worker again, now alone, is a row."""
        points = [{"target": k, "how": "dies" if k == 2.0 else "works"} for k in (1.0, 2.0, 3.0, 4.0)]
        path = tmp_path / "s.h5"
        for _ in range(2):
            with (
                ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor,
                pytest.raises(mf.BrokenPool, match=r"the pool of the sweep broke .*the same line again goes on"),
            ):
                mf.sweep(dies, points, output=path, executor=executor, **OPTIONS)
        found = mf.sweep(dies, points, output=path, **OPTIONS)
        assert list(found.status.values) == ["SUCCESS", "FAILED: worker ended", "SUCCESS", "SUCCESS"]
        assert "twice, the second time alone: the pool of the sweep broke" in str(found.message.values[1])

    def test_pools_that_break(self, tmp_path):
        """Until nothing is left: of the runs that were under way only those that break a pool alone are no runs."""
        points = {"target": [1.0, 2.0, 3.0], "how": ["works", "dies", "raises"]}
        path, under_way = tmp_path / "s.h5", []
        for _ in range(6):  # two for each run that kills, at most
            with contextlib.suppress(mf.BrokenPool):
                mf.sweep(Failing(), points, output=path, executor=Fragile(under_way), **OPTIONS)
        found = mf.sweep(Failing(), points, output=path, **OPTIONS)
        whole = mf.sweep(Failing(), {"target": [1.0, 2.0, 3.0], "how": ["works"]}, **OPTIONS)
        np.testing.assert_array_equal(found.energy.sel(how="works"), whole.energy[:, 0])
        assert set(found.status.sel(how="works").values) == {"SUCCESS"}
        assert set(found.status.sel(how="dies").values) == {"FAILED: worker ended"}
        assert set(found.status.sel(how="raises").values) == {"FAILED: RuntimeError"}
        # what works is made once more at most
        ran = [tuple(point.values()) for part in under_way for point in part]
        assert max(ran.count((target, "works")) for target in points["target"]) <= 2

    def test_another_engine_goes_on_after_a_pool_that_broke(self, tmp_path):
        points, path = {"target": [1.0, 2.0, 3.0], "how": ["works", "dies"]}, tmp_path / "s.h5"
        with pytest.raises(mf.BrokenPool):
            mf.sweep(dies, points, output=path, executor=Fragile([]), **OPTIONS)
        same(mf.sweep(dies, points, output=path, **OPTIONS), mf.sweep(dies, points, **OPTIONS))

    def test_pools_that_never_work(self, tmp_path):
        """They say nothing of any run."""
        path = tmp_path / "s.h5"
        for executor, said in ((Broken(), "all gone"), (ThreadPoolExecutor(1), "after shutdown")):
            if isinstance(executor, ThreadPoolExecutor):
                executor.shutdown()
            for _ in range(2):
                with pytest.raises(mf.BrokenPool, match=f"{said}.*no worker of it answers") as caught:
                    mf.sweep("linear-neuron", {"alpha": [0.0]}, output=path, executor=executor, **OPTIONS)
                assert not caught.value.worked
        assert not path.exists()

    def test_what_a_worker_cannot_have_is_no_broken_pool(self):
        with pytest.raises(TypeError, match="the lock"), ThreadPoolExecutor(1) as executor:
            mf.sweep(Locked(), {"alpha": [0.0]}, executor=Pickling(executor), **OPTIONS)

    def test_columns_that_change(self):
        def measure(run):
            return {"mean": run.mean("theta")} | ({"more": 1.0} if run.problem.alpha(0.0) else {})

        found = mf.sweep("linear-neuron", {"alpha": [0.0, 1.0]}, measure=measure, **OPTIONS)
        assert found.status.values[1] == "FAILED: other columns"
        assert "measured were mean, more, and mean before" in str(found.message.values[1])


CODE = """
import sys, time
import numpy as np
import mfpde as mf

def factory(a, b):
    return a, b

def slow(problem, dt=0.01):
    time.sleep(dt)
    return problem

if __name__ == "__main__":
    mf.sweep(factory, {"a": np.arange(20.0), "b": np.arange(5.0)}, run=slow,
             measure=lambda pair: {"sum": pair[0] + pair[1], "both": np.array(pair)}, output=sys.argv[1])
"""


OF_OBJECTS = """
import sys
import numpy as np
import mfpde as mf
from functools import partial

class Half:
    def __call__(self, a):
        return 0.5 * a

def run(a, initial, scale, also):
    return scale(a)

words = {"one", "two", "three"}
mf.sweep(lambda a: a, {"a": [1.0, 2.0]}, run=run, output=sys.argv[1], scale=Half(), also=[partial(max, 1), {"b": run}],
         measure=lambda a: {"b": a, "in": "one" in {"one", "two", "three"}},
         initial=mf.Density(lambda x: np.exp(-x**2)))
"""


def float_of(a):
    return float(a)


class TestFiles:
    def test_are_gone_on_with(self, serial, tmp_path, monkeypatch):
        path = tmp_path / "phase.h5"
        same(mf.sweep(mf.problems.linear_neuron, GRID, output=path, **OPTIONS), serial)
        with xarray.open_dataset(path, engine="h5netcdf", phony_dims="sort") as kept:
            assert kept.energy.dims == ("run",)
            np.testing.assert_array_equal(kept.energy, serial.energy.values.ravel())
            np.testing.assert_array_equal(kept.alpha, np.repeat(GRID["alpha"], 2))
        monkeypatch.setattr(mf.runs.sweeps._Task, "__call__", lambda *_: pytest.fail("a run that was done already"))
        same(mf.sweep(mf.problems.linear_neuron, GRID, output=path, **OPTIONS), serial)

    @pytest.mark.parametrize(
        ("changes", "differs"),
        [
            ({"parameters": {"alpha": [0.0, 2.0, 5.0], "target": [1.0, 2.0]}}, "parameters"),
            ({"factory": mf.problems.double_well, "parameters": {"alpha": [0.0]}}, "parameters"),
            (
                {"factory": lambda alpha, target: mf.problems.linear_neuron(target, alpha=alpha, variance=0.4)},
                "problem",
            ),
            (
                {"factory": lambda alpha, target: mf.problems.linear_neuron(min(target, 1.9), alpha=alpha)},
                "problem at the last point",
            ),
            ({"t_end": 0.2}, "arguments"),
            ({"run": mf.characteristics, "shape": None, "estimate": None}, "run"),
        ],
        ids=["parameters", "factory", "problem", "last", "arguments", "run"],
    )
    def test_of_another_sweep_are_refused(self, changes, differs, tmp_path):
        path = tmp_path / "phase.h5"
        mf.sweep(mf.problems.linear_neuron, GRID, output=path, **OPTIONS)
        before = path.read_bytes()
        given = {"factory": mf.problems.linear_neuron, "parameters": GRID} | OPTIONS | changes
        given = {name: value for name, value in given.items() if value is not None}
        with pytest.raises(ValueError, match=f"holds another sweep: its {differs}.*overwrite=True"):
            mf.sweep(given.pop("factory"), given.pop("parameters"), output=path, **given)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("kind", ["array", "particles", "function", "measure"])
    def test_of_other_numbers_are_refused(self, kind, tmp_path):
        """Although they look alike: arrays in the middle, functions that have no name."""
        x = np.linspace(-3.0, 3.0, 2000)
        one, other = np.exp(-(x**2)), np.exp(-(x**2) * np.where(np.abs(x) < 1.0, 1.1, 1.0))
        points = x[:, None]
        first, second = {
            "array": ({"of": one}, {"of": other}),
            "particles": ({"of": mf.Particles(points, one)}, {"of": mf.Particles(points, other)}),
            "function": (
                {"of": mf.Density(lambda x: np.exp(-(x**2)))},
                {"of": mf.Density(lambda x: np.exp(-2.0 * x**2))},
            ),
            "measure": ({}, {"measure": lambda a: {"b": 2.0 * a}}),
        }[kind]

        def run(a, of=None):
            return a

        given = {"factory": float_of, "parameters": {"a": [1.0, 2.0]}, "run": run, "output": tmp_path / "s.h5"}
        given["measure"] = lambda a: {"b": a}
        mf.sweep(**(given | first))
        mf.sweep(**(given | first))
        differs = "measure" if kind == "measure" else "arguments"
        with pytest.raises(ValueError, match=f"holds another sweep: its {differs}"):
            mf.sweep(**(given | second))

    def test_are_the_same_in_another_process(self, tmp_path):
        """Where objects lie in memory, and the order of sets there, are no part of what a sweep is."""
        script = tmp_path / "s.py"
        script.write_text(OF_OBJECTS)
        for seed in "123":
            environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
            subprocess.run([sys.executable, script, tmp_path / "s.h5"], env=environment, check=True, timeout=120)

    def test_have_rows_while_others_are_run(self, tmp_path):
        """A second after they came, whatever comes next; runs that failed, too, although nothing is measured yet."""
        path, seen = tmp_path / "s.h5", []

        def done():
            with contextlib.suppress(OSError), h5py.File(path) as file:
                return file["done"][...].tolist()
            return []

        def run(a):
            if a == 0:
                time.sleep(0.6)  # so long that the others go to workers one by one
                raise RuntimeError("the first")
            deadline = time.monotonic() + 20.0
            while a == 2 and time.monotonic() < deadline and done() != [1, 1, 0]:
                time.sleep(0.05)
            seen.append(done())
            return a

        given = {"run": run, "measure": lambda a: {"b": a}, "output": path}
        with ThreadPoolExecutor(2) as executor:
            mf.sweep(lambda a: a, {"a": [0, 1, 2]}, executor=executor, **given)
        assert seen == [[1, 0, 0], [1, 1, 0]]

    def test_rows_take_no_memory_of_their_own(self):
        """Once the columns are there: no list grows with what has been run."""
        memory, many = [], 1500

        def run(pair):
            if memory or tracemalloc.is_tracing():
                memory.append(tracemalloc.get_traced_memory()[0])
            return pair

        tracemalloc.start()
        try:
            mf.sweep(
                lambda a, b: (a, b),
                {"a": range(many // 10), "b": range(10)},
                run=run,
                measure=lambda p: {"first": p[0]},
            )
        finally:
            tracemalloc.stop()
        assert len(memory) == many
        assert (memory[-1] - memory[many // 10]) / many < 80  # of them 8 to 40 are the list and numbers in here

    def test_that_are_none(self, tmp_path):
        path = tmp_path / "phase.h5"
        path.write_text("something else")
        with pytest.raises(ValueError, match=r"is no sweep of mfpde .*; give another name, or overwrite=True"):
            mf.sweep("linear-neuron", {"alpha": [0.0]}, output=path, **OPTIONS)
        mf.sweep("linear-neuron", {"alpha": [0.0]}, output=path, overwrite=True, **OPTIONS)

    def test_killed_again_and_again(self, tmp_path):
        """The end is bit-equal to that of a sweep nobody has killed."""
        script, path, whole = tmp_path / "s.py", tmp_path / "s.h5", tmp_path / "whole.h5"
        script.write_text(CODE)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, script, whole], env=environment, check=True, timeout=120)
        rng = np.random.default_rng(0)
        for _ in range(6):
            process = subprocess.Popen([sys.executable, script, path], env=environment)
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(float(rng.uniform(0.0, 0.8)))
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        subprocess.run([sys.executable, script, path], env=environment, check=True, timeout=120)
        found, wanted = (xarray.load_dataset(file, engine="h5netcdf", phony_dims="sort") for file in (path, whole))
        same(found, wanted)


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({}, {}, "at least one parameter"),
        ({"alpha": []}, {}, "parameter 'alpha' has no values"),
        ([{"alpha": 1.0}, {"target": 1.0}], {}, "point 1 has the parameters target, not those of 0"),
        ({"alpha": [1.0]}, {"warm": "target"}, "warm = 'target' is no axis of the sweep; it has alpha"),
        ({"alpha": [1.0]}, {"measure": lambda run: {"alpha": 1.0}}, "measure gave 'alpha', which a sweep has already"),
        ({"alpha": [1.0]}, {"output": 3}, "output must be a path"),
        ({"alpha": 1.0}, {}, "parameter 'alpha' must be a sequence, not 1.0"),
        ({"alpha": np.array(1.0)}, {}, r"parameter 'alpha' must be a sequence, not array\(1.\)"),
        ({"alpha": "one"}, {}, "parameter 'alpha' must be a sequence, not 'one'"),
        (None, {}, "parameters must be a sequence, not None"),
        ([1.0], {}, "parameters must be a Mapping, not 1.0"),
        ({"status": [1.0]}, {}, "a sweep has no parameter 'status'"),
        ({"a/b": [1.0]}, {}, "a sweep has no parameter 'a/b'"),
        ({"alpha": [1.0]}, {"measure": lambda run: {"a/b": 1.0}}, "measure gave 'a/b', and names are text without '/'"),
        ({"alpha": [1.0]}, {"measure": lambda run: {1: 1.0}}, "measure gave 1, and names are text"),
        (
            {"alpha": [1.0]},
            {"measure": lambda run: {"v": np.ones(2), "v_0": 1.0}},
            "measure gave 'v_0', which a sweep has already",
        ),
        ({"alpha": [1.0]}, {"executor": 4}, "executor must be one of concurrent.futures or like these, not 4"),
        ({"alpha": [1.0]}, {"run": 4}, "run must be a function, not 4"),
        ({"alpha": [1.0]}, {"measure": 4}, "measure must be a function, not 4"),
        ({"alpha": [1.0]}, {"run": mf.characteristics, "warm": "alpha"}, "characteristics does not start from another"),
    ],
)
def test_refusals(parameters, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        mf.sweep("linear-neuron", parameters, **({"output": tmp_path / "s.h5"} | OPTIONS | options))


@pytest.mark.parametrize("factory", [None, 3, mf.problems.linear_neuron()], ids=["none", "number", "problem"])
def test_what_makes_no_problems(factory):
    with pytest.raises(ValueError, match="factory must be a function, or the name or file of a problem, not"):
        mf.sweep(factory, {"alpha": [1.0]}, **OPTIONS)


def test_what_is_measured_has_names():
    found = mf.sweep("linear-neuron", {"alpha": [1.0]}, measure=lambda run: [1.0, 2.0], **OPTIONS)
    assert str(found.message.values[0]) == "measure must give numbers by name, not [1.0, 2.0]"


class TestPictures:
    def test_one_parameter(self, tmp_path):
        found = mf.sweep("linear-neuron", {"alpha": [0.0, 1.0, 2.0]}, **OPTIONS)
        figure = mf.plot(found, tmp_path / "s.png", variables=["energy"])
        (ax,) = figure.axes
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.energy)
        assert ax.get_xlabel() == "alpha"
        assert (tmp_path / "s.png").stat().st_size > 1000

    def test_two_parameters(self, serial):
        """Colours are the values, rows that failed have none, and what is in doubt is hatched."""
        found = serial.copy(deep=True)
        found.energy[0, 0] = np.nan
        found.energy_error[2, 1] = 10.0
        figure = mf.plot(found, variables=["energy"])
        ax = figure.axes[0]
        (image,) = ax.collections
        np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), found.energy)
        assert "1 of them without an energy" in figure.get_suptitle()
        # as it is drawn: the cells have one colour each, but for the one that is in doubt
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        for i in range(3):
            for j in range(2):
                (left, low), (right, high) = ax.transData.transform([(j - 0.4, i - 0.4), (j + 0.4, i + 0.4)]).astype(
                    int
                )
                cell = pixels[len(pixels) - high : len(pixels) - low, left:right].reshape(-1, 4)
                assert (len(np.unique(cell, axis=0)) == 1) == ((i, j) != (2, 1))

    @pytest.mark.parametrize(
        ("changes", "variables", "message"),
        [
            ({"extra": [1, 2]}, None, "a sweep over extra, alpha, target has no picture"),
            ({}, ["status"], "'status' is no number at each point of the sweep; there are"),
        ],
        ids=["three", "text"],
    )
    def test_refusals(self, serial, changes, variables, message):
        with pytest.raises(ValueError, match=message):
            mf.plot(serial.expand_dims(changes), variables=variables)


class TestCommand:
    def run(self, *arguments, folder):
        return subprocess.run(
            [sys.executable, "-m", "mfpde", "sweep", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def test_grid(self, tmp_path):
        line = [
            "linear-neuron",
            "--vary",
            "alpha=0:2:3",
            "--vary",
            "target=1,2",
            "--set",
            "shape=40",
            "--set",
            "t_end=0.2",
        ]
        done = self.run(*line, "--workers", "2", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("SUCCESS") == 6
        assert (tmp_path / "linear-neuron.sweep.png").stat().st_size > 1000
        kept = xarray.load_dataset(tmp_path / "linear-neuron.sweep.h5", engine="h5netcdf")
        wanted = mf.solve(mf.problems.linear_neuron(2.0, alpha=1.0), 40, 0.2, estimate=True)
        assert kept.energy[3] == wanted.energy[-1]
        again = self.run(*line, folder=tmp_path)  # nothing is left to do, whoever does it
        assert again.returncode == 0, again.stderr
        assert xarray.load_dataset(tmp_path / "linear-neuron.sweep.h5", engine="h5netcdf").equals(kept)

    def test_failures(self, tmp_path):
        done = self.run("linear-neuron", "--vary", "alpha=0,-1", "--set", "shape=40", "--no-plot", folder=tmp_path)
        assert done.returncode == 3
        said = "mfpde: 1 of 2 runs did not succeed, the first of them: linear-neuron: parameters: alpha: "
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1

    def test_shards(self, tmp_path, monkeypatch):
        """The same line on every machine, and once more for all of them."""
        monkeypatch.chdir(tmp_path)
        line = ["sweep", "linear-neuron", "--vary", "alpha=0:2:3", "--vary", "target=1,2", "--set", "shape=40"]
        line += ["--set", "t_end=0.1"]
        for k in (1, 2, 3, 4):
            done = invoke(*line, "--shard", f"{k}/4")
            assert done.exit_code == 0, done.stderr
            assert done.stdout.count("SUCCESS") == (2 if k < 3 else 1)
            assert f"wrote linear-neuron.sweep.{k}-of-4.h5" in done.stdout
        assert invoke(*line, "--shard", "1/4", "-q").stdout == ""
        assert len(list(tmp_path.iterdir())) == 4
        done = invoke(*line, "--merge", "--workers", "2")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.count("SUCCESS") == 6
        assert (tmp_path / "linear-neuron.sweep.png").stat().st_size > 1000
        invoke(*line, "-o", "whole.h5")
        kept, whole = (xarray.load_dataset(f, engine="h5netcdf") for f in ("linear-neuron.sweep.h5", "whole.h5"))
        same(kept, whole)
        (tmp_path / "linear-neuron.sweep.3-of-4.h5").unlink()
        assert_refused(invoke(*line, "--merge"), "linear-neuron.sweep.3-of-4.h5 is missing")

    @pytest.mark.parametrize("shard", ["3", "0/2", "3/2", "a/b", "1/2/3"])
    def test_shards_that_are_none(self, shard, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        line = ["sweep", "linear-neuron", "--vary", "alpha=0:2:3"]
        assert_refused(invoke(*line, "--shard", shard), "needs the form k/n, k from 1 to n, such as 1/8")
        assert_refused(invoke(*line, "--shard", "1/2", "--merge"), "--merge puts all shards together: no --shard")

    def test_pools_that_break_are_replaced(self, tmp_path, monkeypatch):
        """As long as they work: of one that never does it says so and ends."""
        monkeypatch.chdir(tmp_path)
        pools = []

        class Once(Fragile):
            """The first breaks with the third task, the ones after it never."""

            def submit(self, function, *arguments):
                if len(pools) == 1 and len(self.under_way) == 2:
                    self.broken = True
                self.under_way.append(arguments)
                future = Future()
                if self.broken:
                    future.set_exception(BrokenProcessPool("gone"))
                else:
                    future.set_result(function(*arguments))
                return future

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

        def pool(workers):
            pools.append(Once([]))
            return pools[-1]

        monkeypatch.setattr("mfpde.cli.sweeps._pool", pool)
        line = ["sweep", "linear-neuron", "--vary", "alpha=0:2:3", "--set", "shape=40", "--workers", "2", "--no-plot"]
        done = invoke(*line)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.count("SUCCESS") == 3
        assert done.stderr == "mfpde: a worker ended, or ran out of memory; going on with new ones\n"
        assert len(pools) == 2
        monkeypatch.setattr("mfpde.cli.sweeps._pool", lambda workers: contextlib.nullcontext(Broken()))
        done = invoke(*line, "-o", "other.h5")
        assert_refused(done, "no worker of it answers", code=3)

    @pytest.mark.parametrize("vary", ["alpha", "alpha=", "alpha=0:1:0", "alpha=0:x:3", "=1"])
    def test_refusals(self, vary, tmp_path):
        done = self.run("linear-neuron", "--vary", vary, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "needs the form key=first:last:number or key=value,value" in done.stderr
        assert not list(tmp_path.iterdir())
