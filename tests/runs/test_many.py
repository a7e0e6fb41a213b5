"""Many files as one dataset."""

import numpy as np
import pytest

import mfpde as mf

pytest.importorskip("xarray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for k, alpha in enumerate((0.0, 2.0)):
        mf.solve(mf.problems.linear_neuron(alpha=alpha), 40, 0.2, save=2).save(folder / f"neuron{k}.h5")
    mf.solve(mf.problems.gaussian_bumps(), 30, 0.1, save=2).save(folder / "bumps.h5")
    return folder


def test_rows(folder):
    found = mf.open_many(folder / "neuron*.h5")
    np.testing.assert_array_equal(found.alpha, [0.0, 2.0])
    for k in range(2):
        run = mf.load(folder / f"neuron{k}.h5")
        assert found.energy[k] == run.energy[-1]
        np.testing.assert_array_equal(found.response[k], run.response[-1])
    assert list(found.cells.values) == ["40", "40"]
    assert list(found.status.values) == ["SUCCESS", "SUCCESS"]


def test_of_several_problems(folder):
    """What only some have is NaN for the others."""
    found = mf.open_many([folder / "bumps.h5", folder / "neuron1.h5"], lambda run: {"energy": run.energy[-1]})
    assert list(found.problem.values) == ["gaussian-bumps", "linear-neuron"]
    assert np.isnan(found.target[0])
    assert found.target[1] == 2.0


def test_refusals(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file fits '.*nothing\*\.h5'"):
        mf.open_many(tmp_path / "nothing*.h5")
    with pytest.raises(ValueError, match=r"response has the shape .*bumps\.h5 and .*neuron1\.h5; pass measure="):
        mf.open_many(folder / "*.h5")


@pytest.mark.parametrize("name", ["run", "status", "path", "alpha", "target"])
def test_names_that_a_run_has_already(folder, name):
    with pytest.raises(ValueError, match=f"measure gave '{name}', which a run has already"):
        mf.open_many(folder / "neuron*.h5", lambda run: {name: 1.0})


@pytest.mark.parametrize(
    ("files", "measure", "message"),
    [
        (None, None, "files must be a sequence, not None"),
        (3, None, "files must be a sequence, not 3"),
        ("neuron0.h5", 3, "measure must be a function, not 3"),
        ("neuron0.h5", lambda run: 1.0, "measure must give numbers by name, not 1.0"),
    ],
)
def test_wrong_types(folder, files, measure, message):
    with pytest.raises(ValueError, match=message):
        mf.open_many(folder / files if isinstance(files, str) else files, measure)


def test_arrays_that_only_some_have(folder):
    """They are NaN for the others, of the same shape."""
    files = [folder / "bumps.h5", folder / "neuron1.h5"]
    found = mf.open_many(files, lambda run: {"both": np.arange(2.0)} if run.name == "linear-neuron" else {})
    np.testing.assert_array_equal(found.both, [[np.nan, np.nan], [0.0, 1.0]])
