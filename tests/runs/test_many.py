"""Many files as one dataset."""

import numpy as np
import pytest
from shared import FILES, Gone, die, invoke

import mfpde as mf
from mfpde.verification.references.pack import path_of

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


class TestKinds:
    """Parameters are coordinates whatever wrote the file, and whether its problem can be built again or not."""

    def test_the_time_is_that_of_the_run(self, folder):
        """And not the parameter of the problem that has its name."""
        assert mf.load(folder / "neuron0.h5").configuration["parameters"]["t_end"] == 1.0
        assert mf.open_many(folder / "neuron0.h5").t_end.item() == 0.2

    def test_networks_of_toml_files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.savetxt("points.csv", np.random.default_rng(0).normal(size=(9, 2)), delimiter=",")
        text = 'shape = 8\nt_end = 0.02\n[network]\ndata = "points.csv"\nbias = false\nactivation = "erf"\n'
        (tmp_path / "fit.toml").write_text(text + "[output]\nsave = 2\nplot = false\n")
        for width in ("3", "4.5"):
            result = invoke("run", "fit.toml", "-q", "-o", f"{width}.h5", "--set", f"half_width={width}")
            assert result.exit_code == 0, result.output
        (tmp_path / "points.csv").unlink()
        with pytest.warns(mf.RunWarning, match=r"points\.csv does not exist\); the problem is made of those in"):
            found = mf.open_many("*.h5", lambda run: {"energy": run.energy[-1]})
        np.testing.assert_array_equal(found.half_width, [3.0, 4.5])
        assert found.activation.values.tolist() == ["erf", "erf"]
        np.testing.assert_array_equal(found.alpha, 1.0)

    def test_problems_of_python_and_runs_that_are_not_over(self, path):
        problem = mf.Problem(
            energy=mf.External(np.square), axes=[mf.Axis("x", -1, 1)], alpha=0.5, temperature=mf.PowerLaw(1.0, 0.1),
            initial=mf.Density(lambda x: 1 - x**2),
        )  # fmt: skip
        with pytest.raises(Gone):
            mf.solve(problem, 20, 0.1, save=2, output=path, stop=die(3))
        found = mf.open_many(path)
        assert found.alpha.item() == 0.5
        assert "temperature" not in found.coords  # no number
        assert found.status.item() == "UNFINISHED"

    def test_early_files_and_stationary_states(self, folder, path):
        end = mf.stationary(mf.problems.linear_neuron(alpha=2.0), 40)
        end.save(path)
        found = mf.open_many([FILES / "schema-1.h5", folder / "neuron1.h5", path], lambda run: {"mass": 1.0})
        assert found.alpha[0] == mf.load(FILES / "schema-1.h5").problem.alpha(0.0)
        np.testing.assert_array_equal(found.alpha[1:], 2.0)
        assert np.isnan(found.t_end[2])
        assert mf.open_many(path).energy.item() == end.energy
        assert mf.open_many(path).status.item() == "SUCCESS"

    def test_others_are_named(self, path):
        mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0]}, shape=20, t_end=0.05, save=2, output=path)
        with pytest.raises(ValueError, match="holds a sweep, not a solution; open it with xarray"):
            mf.open_many(path)
        with pytest.raises(ValueError, match=r"holds a reference, not a solution; read it with mfpde\.load_reference"):
            mf.open_many(path_of("linear-neuron"))
