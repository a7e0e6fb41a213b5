"""`mfpde ls`: a line a file, whatever it holds and however broken it is."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from shared import FILES, Gone, assert_refused, die, invoke

import mfpde as mf
from mfpde.cli import listing
from mfpde.pack import save_reference


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of one problem at three rates; one of them was killed, one failed."""
    folder = tmp_path_factory.mktemp("runs")
    for alpha in (0.0, 2.5):
        mf.solve(mf.problems.linear_neuron(alpha=alpha), 40, 0.2, save=2).save(folder / f"neuron-{alpha:g}.h5")
    with pytest.raises(Gone):
        mf.solve(mf.problems.linear_neuron(alpha=1.0), 40, 0.2, output=folder / "killed.h5", stop=die(4))
    mf.solve(mf.problems.linear_neuron(alpha=4.0), 40, 0.2, max_steps=3, throw=False).save(folder / "stuck.h5")
    return folder


@pytest.fixture
def place(runs, tmp_path, monkeypatch):
    """A copy of them to work in, ``runs`` in the working folder."""
    shutil.copytree(runs, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)  # as into a pipe, whoever runs the tests
    return tmp_path


def listed(*arguments):
    result = invoke("ls", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_runs_of_a_problem(place):
    title, head, *lines = listed("runs")
    assert title == "4 files in runs of 'linear-neuron'"
    assert head.split() == ["file", "parameters", "cells", "time", "status", "energy", "size"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    run = mf.load("runs/neuron-2.5.h5")
    size = os.path.getsize("runs/neuron-2.5.h5") / 1024
    assert rows["neuron-2.5.h5"] == ["alpha=2.5", "40", "0.2", "success", f"{run.energy[-1]:.6g}", f"{size:.3g}k"]
    killed, stuck = mf.load("runs/killed.h5"), mf.load("runs/stuck.h5")
    assert rows["killed.h5"][2:6] == [f"{killed.times[-1]:.3g}", "of", "0.2", "unfinished"]
    assert rows["stuck.h5"][2:6] == [f"{stuck.state.t:.3g}", "of", "0.2", "max_steps"]
    # the target is the same everywhere
    assert not any("target" in line for line in lines)


def test_numbers_as_json(place):
    found = {row["file"]: row for row in json.loads("\n".join(listed("--json", "runs")))}
    row, run = found["runs/neuron-2.5.h5"], mf.load("runs/neuron-2.5.h5")
    assert row["parameters"]["alpha"] == 2.5
    assert row["parameters"]["target"] == 2.0
    assert (row["problem"], row["shape"], row["t"], row["t_end"]) == ("linear-neuron", [40], 0.2, 0.2)
    assert row["energy"] == run.energy[-1]
    assert row["energy_error"] is None  # there is no estimate, and JSON has no NaN
    assert row["size"] == os.path.getsize("runs/neuron-2.5.h5")
    assert (row["kind"], row["status"]) == ("run", "success")


def test_other_kinds(place):
    end = mf.stationary(mf.problems.torus_langevin(), 24, estimate=False)
    end.save("runs/state.h5")
    save_reference(mf.reference(mf.problems.linear_neuron(), 1e-2, times=[0.1]), "runs/reference.h5")
    mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0]}, shape=20, t_end=0.05, save=2, output="runs/sweep.h5")
    shutil.copy(FILES / "schema-1.h5", "runs/early.hdf5")
    found = {row["file"]: row for row in json.loads("\n".join(listed("--json", "runs")))}
    assert found["runs/state.h5"]["kind"] == "stationary state"
    assert found["runs/state.h5"]["energy"] == end.energy
    assert found["runs/reference.h5"]["parameters"]["tolerance"] == 1e-2
    assert found["runs/sweep.h5"]["status"] == "sweep, 2 of 2"
    early = mf.load(FILES / "schema-1.h5")
    assert found["runs/early.hdf5"]["energy"] == early.energy[-1]
    assert found["runs/early.hdf5"]["parameters"]["alpha"] == early.problem.alpha(0.0)
    text = "\n".join(listed("runs"))
    assert "alpha = [0.0, 1.0]" in text
    assert "torus-langevin" in text
    shutil.copy("runs/sweep.h5", "runs/other.h5")
    assert listed("runs/sweep.h5", "runs/other.h5")[0] == "2 files in runs"


def test_broken_files_are_rows(place):
    whole = (place / "runs" / "neuron-0.h5").read_bytes()
    (place / "runs" / "cut.h5").write_bytes(whole[:3000])
    (place / "runs" / "text.h5").write_text("hello")
    (place / "runs" / "empty.h5").write_bytes(b"")
    with h5py.File("runs/other.h5", "w") as file:
        file["x"] = np.ones(3)
    with h5py.File("runs/neuron-0.h5", "r+") as file:
        del file["energy"]
    os.symlink("nowhere.h5", "runs/dangling.h5")
    os.mkfifo("runs/pipe.h5")
    for name in (".run.h5.12345678.tmp", ".hidden.h5"):
        (place / "runs" / name).write_bytes(whole)
    (place / "runs" / "folder.h5").mkdir()
    lines = [line for line in listed("runs") if ": broken: " in line]
    reasons = dict(line.split(": broken: ") for line in lines)
    assert reasons.keys() == {
        f"{name}.h5" for name in ("cut", "text", "empty", "other", "neuron-0", "dangling", "pipe")
    }
    assert reasons["text.h5"].startswith("not an HDF5 file")
    assert "truncated" in reasons["cut.h5"]
    assert reasons["dangling.h5"] == "No such file or directory"
    assert "not a regular file" in reasons["pipe.h5"]
    assert "not one that mfpde wrote" in reasons["other.h5"]
    assert "/energy is missing" in reasons["neuron-0.h5"]
    assert json.loads("\n".join(listed("--json", "runs")))[0]["file"] == "runs/cut.h5"


def test_where_it_looks(place):
    os.makedirs("runs/deep/deeper")
    os.rename("runs/stuck.h5", "runs/deep/deeper/é☃.h5")
    assert len(listed("runs")) == 2 + 3
    assert any("deep/deeper/é☃.h5" in line for line in listed("-r", "runs"))
    os.chdir("runs")
    assert listed()[0] == "3 files of 'linear-neuron'"
    os.chdir("..")
    assert len(listed("runs/neuron*.h5")) == 2 + 2
    assert len(listed("runs", "runs/killed.h5")) == 2 + 3  # each once
    os.mkdir("empty")
    assert listed("empty") == ["no files of mfpde (.h5, .hdf5) in empty"]
    assert listed("--json", "empty") == ["[]"]


def test_refusals(place, monkeypatch):
    assert_refused(invoke("ls", "nothing"), "nothing: there is no such folder, no such file, and no file that fits")
    assert_refused(invoke("ls", "runs/x*.h5"), "runs/x*.h5: there is no such folder")
    assert_refused(invoke("ls", ""), "'': there is no such folder")

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    assert_refused(invoke("ls", "runs"), "runs: Permission denied")


@pytest.mark.parametrize("width", [80, 72, 20])
def test_narrow_terminals(place, monkeypatch, width):
    """What is long is cut, names of files at their beginning; below about seventy columns lines are longer."""
    os.rename("runs/killed.h5", f"runs/{'long' * 20}-7.h5")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = listed("runs")
    assert max(map(len, lines[1:])) <= max(width, 72)
    assert any(line.startswith("..") and "-7.h5" in line for line in lines)
    monkeypatch.delenv("COLUMNS")
    assert any("long" * 20 in line for line in listed("runs"))  # into a pipe everything


def test_names_stay_in_their_line(place):
    os.rename("runs/killed.h5", "runs/two\nlines.h5")
    assert len(listed("runs")) == 2 + 4


def test_large_densities_are_not_read(place, monkeypatch):
    def refuse(*arguments):
        raise AssertionError

    monkeypatch.setattr("mfpde.mesh.solution_parts.PartsReader.density", refuse)
    rows = [listing._row(place / "runs" / f"neuron-{alpha}.h5") for alpha in ("0", "2.5")]
    assert [row.kind for row in rows] == ["run", "run"]
