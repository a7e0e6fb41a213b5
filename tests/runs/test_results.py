"""Every result: as a dataset, as a table, through a spawned process and through a file."""

import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import mfpde as mf
from mfpde.pack import check, load_reference, save_reference

xarray = pytest.importorskip("xarray")
pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore::mfpde.RunWarning")

P = mf.problems
X = np.linspace(-2.0, 2.0, 12)
BUMPS, NEURON = P.gaussian_bumps(), P.linear_neuron(alpha=0.0)


# ----- one of each


def solution(folder):
    return mf.solve(BUMPS, 40, 0.2, save=3)


def characteristics(folder):
    return mf.characteristics(BUMPS, 0.2, save=3, tolerance=1e-4)


def equilibrium(folder):
    return mf.stationary(P.torus_langevin(temperature=0.2), 40)


def reference(folder):
    return mf.reference(NEURON, 1e-2, times=[0.1, 0.2])


def certified(folder):
    return reference(folder)["energy"]


def stored_reference(folder):
    save_reference(reference(folder), folder / "reference.h5")
    return load_reference(folder / "reference.h5")


def checked(folder):
    stored_reference(folder)
    return check(folder / "reference.h5")


def fluctuations(folder):
    return mf.fluctuations(NEURON, 0.1, save=2, tolerance=1e-2)


def cloud(folder):
    return mf.particles.simulate(BUMPS, n=50, seed=0, t_end=0.1, save=2, replicas=2)


def coupled(folder):
    return mf.particles.coupled(NEURON, mf.solve(NEURON, 60, 0.1, save=2), 20, dt=0.05, save=2, t_end=0.1)


def comparison(folder):
    return mf.compare(solution(folder), sizes=[50, 100], replicas=8, seed=0)


def rates(folder):
    return mf.solve(P.torus_langevin(temperature=0.2), 40, 2.0, save=6).rates(stationary=equilibrium(folder))


def verified(folder):
    solution(folder).save(folder / "run.h5")
    return mf.verify(folder / "run.h5")


def report(folder):
    found = reference(folder)
    values = {n: [dict.fromkeys(["energy"], found["energy"].value * (1 + 1 / n)) for _ in range(4)] for n in (100, 400)}
    return mf.testing.assert_matches(found, values, error=1.0)


MAKERS = {
    "Solution": solution, "Characteristics": characteristics, "Equilibrium": equilibrium, "Reference": reference,
    "Certified": certified, "StoredReference": stored_reference, "Checked": checked, "Fluctuations": fluctuations,
    "Cloud": cloud, "CoupledCloud": coupled, "Comparison": comparison, "Rates": rates, "Verified": verified,
    "Report": report,
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return {name: make(folder) for name, make in MAKERS.items()}


# ----- that these are all


NO_RESULTS = {
    "Problem", "Grid", "GridMeasure", "Particles", "ParticleRecord", "Configuration", "Energy", "Recipe", "Measure",
    # answers of a result in a word or a line
    "Plan", "Limit", "Verdict", "Result", "Errors", "State", "Certified",
}  # fmt: skip
"""What functions and results give that is no result: what is put in, and parts of results."""


def classes():
    """The classes of the package by name."""
    for module in pkgutil.walk_packages(mf.__path__, "mfpde."):
        if not module.name.startswith(("mfpde.__main__", "mfpde.cli", "mfpde.pytest_plugin")):
            importlib.import_module(module.name)
    modules = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "mfpde"]
    found = [thing for module in modules for thing in vars(module).values() if inspect.isclass(thing)]
    return {thing.__name__: thing for thing in found if thing.__module__.split(".")[0] == "mfpde"}


def given_by(function, known):
    said = str(getattr(inspect.unwrap(function), "__annotations__", {}).get("return", ""))
    return {word for word in re.findall(r"\w+", said) if word in known}


def test_there_are_no_others():
    """What a public function gives, or a method of what that gives, is a result in this file or named above."""
    known = classes()
    spaces = [mf, mf.particles, mf.testing, *map(importlib.import_module, ("mfpde.pack", "mfpde.storage"))]
    functions = [getattr(space, name) for space in spaces for name in space.__all__]
    found = set().union(*(given_by(f, known) for f in functions if inspect.isfunction(f)))
    for name in sorted(found & MAKERS.keys()):
        for own, part in inspect.getmembers(known[name]):
            part = part.fget if isinstance(part, property) else part
            if not own.startswith("_") and inspect.isfunction(part):
                found |= given_by(part, known)
    assert found - NO_RESULTS == MAKERS.keys() - NO_RESULTS
    for name in MAKERS:
        assert callable(known[name].to_xarray), name
        assert callable(known[name].to_dataframe), name


def test_they_are_what_they_are_called(results):
    assert {name: type(result).__name__ for name, result in results.items()} == {name: name for name in results}


# ----- tables and files


@pytest.mark.parametrize("name", MAKERS)
def test_datasets_go_through_a_file(results, name, tmp_path):
    """Labels, attributes and all numbers: other tools open it."""
    data = results[name].to_xarray()
    assert data.data_vars
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as again:
        assert set(again.variables) == set(data.variables)
        for variable in data.variables:
            np.testing.assert_array_equal(again[variable].values, data[variable].values, err_msg=variable)
            assert again[variable].dims == data[variable].dims
        assert again.attrs.keys() == data.attrs.keys()
        for key, value in data.attrs.items():
            np.testing.assert_equal(again.attrs[key], value)


@pytest.mark.parametrize("name", MAKERS)
def test_tables_have_the_numbers_of_the_dataset(results, name):
    """One row for each place along the axes of the rows, in their order."""
    table, data = results[name].to_dataframe(), results[name].to_xarray()
    assert len(table) > 0
    rows = results[name]._labels().rows if hasattr(results[name], "_labels") else ("number",)
    for column in table.columns:
        values = data[column].transpose(*(axis for axis in rows if axis in data[column].dims)).values
        told = table[column].to_numpy()
        if values.size == len(table):
            assert [str(v) for v in told] == [str(v) for v in values.ravel()], column
        else:  # the same along the other axes
            assert {str(v) for v in told} == {str(v) for v in values.ravel()}, column


def test_what_tables_say(results):
    """Columns by which one who knows the result finds its numbers."""
    found = results["Report"]
    row = found.to_dataframe().iloc[0]
    assert (row.observable, row.mine, row.allowed) == (found.rows[0].what, found.rows[0].mine, found.rows[0].allowed)
    assert row.difference == found.rows[0].difference
    found = results["Rates"]
    table = found.to_dataframe().set_index("rate")
    assert {name: table.value[name] for name in found} == {name: rate.value for name, rate in found.items()}
    assert found.to_xarray().attrs["spectral_gap"] == found.spectral_gap
    found = results["CoupledCloud"]
    np.testing.assert_array_equal(found.to_dataframe()["rms"], found.rms.ravel())
    np.testing.assert_array_equal(found.to_xarray().difference_theta, found.difference[..., 0])
    found = results["Verified"]
    assert found.to_dataframe().holds.all()
    assert found.to_dataframe().measured.tolist() == [check.measured for check in found.checks]
    found = results["Certified"]
    np.testing.assert_array_equal(found.to_dataframe()["other_bar"], found.other_bar)
    found = results["Checked"]
    assert found.to_dataframe().loc[0].to_dict() | {"seconds": 0.0} == {
        "reference": found.name, "ok": True, "apart": 0.0, "identical": True, "seconds": 0.0, "wrong": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["Solution", "Equilibrium", "Reference", "StoredReference"])
def test_those_with_files_of_their_own(results, name, path):
    """Pickled or saved, the numbers have the same bits, and they say the same."""
    result = results[name]
    if name in ("Solution", "Equilibrium"):
        result.save(path)
        loaded = mf.load(path)
    else:
        save_reference(result, path)
        loaded = load_reference(path)
    data, again = result.to_xarray(), loaded.to_xarray()
    assert data.identical(again)
    assert str(loaded) == str(result)


# ----- other processes


def told(thing):
    """What an object says, and its numbers, in a process that did not make it."""
    return f"{type(thing).__name__}: {thing}", thing.to_xarray()


def answers(thing, name, *arguments):
    return getattr(thing, name)(*arguments)


def test_they_go_to_a_spawned_process_and_into_files(results, path):
    """They say the same there, and have the same numbers; so do those that come back from a file of pickles."""
    path.write_bytes(pickle.dumps(results))
    from_file = pickle.loads(path.read_bytes())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, result in results.items():
            words, data = told(result)
            for there in (pool.submit(told, result).result(timeout=120), told(from_file[name])):
                assert there[0] == words
                assert there[1].identical(data), name
            if isinstance(result, mf.Solution | mf.Characteristics):
                for method, *arguments in (("response_at", 0.1), ("moment", "x", 2), ("predict", X)):
                    there = pool.submit(answers, result, method, *arguments).result(timeout=120)
                    assert np.array_equal(there, answers(result, method, *arguments)), method
        exact = results["Characteristics"]
        there = pool.submit(answers, exact, "density", 16).result(timeout=120)
        assert np.array_equal(there, exact.density(16))
