"""Results as datasets and tables: names, shapes, and numbers that are those of the result."""

import builtins

import numpy as np
import pytest

import mfpde as mf

pytest.importorskip("xarray")
pytest.importorskip("pandas")

PROBLEM = mf.problems.gaussian_bumps()


@pytest.fixture(scope="module")
def run():
    return mf.solve(PROBLEM, 40, 0.2, save=3)


def test_solution(run):
    data = run.to_xarray()
    assert dict(data.sizes) == {
        "time": 3,
        "x": 40,
        "step": len(run.diagnostics["time"]),
        "component": run.response.shape[1],
    }
    np.testing.assert_array_equal(data.density.sel(time=0.2, method="nearest"), run.density[-1])
    np.testing.assert_array_equal(data.x, run.grid.centres(0))
    np.testing.assert_array_equal(data.step_energy, run.diagnostics["energy"])
    assert data.energy.attrs["long_name"].startswith("E[mu]")
    assert data.attrs == {"problem": "gaussian-bumps", "result": "SUCCESS"}
    table = run.to_dataframe()
    assert list(table.columns)[:3] == ["time", "energy", "energy_error"]
    assert len(table) == 3
    np.testing.assert_array_equal(table["energy"], run.energy)
    # what a run says of its steps is taken at the save times
    at = np.searchsorted(run.diagnostics["time"], run.times)
    np.testing.assert_array_equal(table["optimality_gap"], run.diagnostics["optimality_gap"][at])


def test_characteristics():
    exact = mf.characteristics(PROBLEM, 0.2, save=3, tolerance=1e-4)
    data = exact.to_xarray()
    np.testing.assert_array_equal(data.x, exact.points[:, :, 0])
    np.testing.assert_array_equal(
        (data.weight * data.x**2).sum("node"), (exact.weights * exact.points[:, :, 0] ** 2).sum(1)
    )
    table = exact.to_dataframe()
    np.testing.assert_array_equal(table["energy_error"], exact.energy_error)
    assert list(table.columns) == ["time", "energy", "energy_error", "mass", "ancestral_mass"]


def test_stationary_state():
    end = mf.stationary(mf.problems.torus_langevin(temperature=0.2), (40,))
    assert end.to_xarray().attrs["energy"] == end.energy
    table = end.to_dataframe()
    assert list(table.columns) == ["theta", "density", "log_density", "potential"]
    np.testing.assert_array_equal(table["density"], end.mu)


def test_planes_have_a_row_a_cell():
    end = mf.stationary(mf.problems.torus_spikes(), (6, 6))
    table = end.to_dataframe()
    names = [axis.name for axis in end.grid.axes]
    assert len(table) == 36
    row = table.iloc[8]  # the second along the first axis, the third along the second
    assert (row[names[0]], row[names[1]]) == (end.grid.centres(0)[1], end.grid.centres(1)[2])
    assert row["density"] == end.mu[1, 2]


def test_clouds():
    cloud = mf.particles.simulate(PROBLEM, n=50, seed=0, t_end=0.1, save=3, replicas=2)
    data = cloud.to_xarray()
    np.testing.assert_array_equal(data.energy.mean("replica"), cloud.energy.mean(axis=0))
    np.testing.assert_array_equal(data.x.isel(replica=1, time=-1), cloud.positions[1, -1, :, 0])
    table = cloud.to_dataframe()
    assert len(table) == 6
    assert table[(table.replica == 1) & (table.time == cloud.times[2])]["energy"].item() == cloud.energy[1, 2]


def test_verification(run):
    found = mf.compare(run, sizes=[50, 100], replicas=8, seed=0)
    table = found.to_dataframe()
    assert len(table) == len(found.findings) * len(found.times) * 2
    row = table[(table.observable == "energy") & (table["size"] == 100)].iloc[-1]
    assert row["mean_square"] == found["energy"].mean_square[1, -1]
    assert row["verdict"] == found["energy"].verdicts[-1].value
    limits = mf.fluctuations(mf.problems.linear_neuron(), 0.1, save=2, tolerance=1e-2)
    np.testing.assert_array_equal(limits.to_dataframe()["gap"], limits.gap)
    np.testing.assert_array_equal(limits.to_xarray().covariance, limits.covariance)
    known = mf.reference(PROBLEM, 1e-3, times=[0.1])
    assert known.to_xarray().value.values.tolist() == known.to_dataframe()["value"].tolist()


@pytest.mark.parametrize(("method", "needs"), [("to_xarray", "xarray"), ("to_dataframe", "pandas")])
def test_without_them(run, method, needs, monkeypatch):
    imported = builtins.__import__

    def refuse(name, *arguments, **named):
        if name == needs:
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=f"{method} needs {needs}: pip install {needs}"):
        getattr(run, method)()


def test_noise_of_a_network():
    x = np.linspace(-2, 2, 8)
    assert mf.problems.network(x, np.sin(x), bias=False, temperature=0.1).temperature(0.0) == 0.1
