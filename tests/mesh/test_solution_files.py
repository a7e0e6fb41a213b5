"""Files: what goes in comes out bit for bit, others can read it, and nothing odd is believed."""

from __future__ import annotations

import dataclasses
import enum
import errno
import inspect
import math
import os
import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from shared import assert_same_solution, content, printed_by, same_bits

import mfpde as mf
from mfpde.mesh.record import COLUMNS, Record, Result, State
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_writer import DIAGNOSTICS, SCHEMA
from mfpde.runs.loading import load
from mfpde.support.files import hdf5
from mfpde.support.files.hdf5 import FileFormatError
from mfpde.support.files.untrusted import parse_toml


def made_up(axes=None, shape=(5, 4), saves=3, steps=7, components=2, seed=0, **changes) -> Solution:
    """A solution of random numbers, odd ones among them."""
    rng = np.random.default_rng(seed)
    axes = axes or [mf.Axis("c", -1, 2), mf.Axis("y", 0, math.pi, (mf.End.NATURAL, mf.End.TRUNCATION))]
    grid = mf.Grid(axes, shape)
    density = rng.random((saves, *shape)) ** 40
    density.flat[:4] = [0.0, 5e-324, 1e-300, 1e300]
    diagnostics = {name: rng.standard_normal(steps + 1) for name in COLUMNS}
    diagnostics["time"] = np.linspace(0, 1, steps + 1)
    diagnostics["error"][0] = np.nan
    for name in ("limiting_cell", "redone"):
        diagnostics[name] = rng.integers(0, 20, steps + 1)
    fields = {
        "grid": grid,
        "times": np.linspace(0, 1, saves),
        "density": density,
        "energy": rng.standard_normal(saves),
        "diagnostics": diagnostics,
        "response": rng.standard_normal((steps + 1, components)),
        "result": Result.INTERRUPTED,
        "stats": {
            "steps": steps,
            "redone": 2,
            "evaluations": 21,
            "mass_drift": 1e-16,
            "leak": -0.0,
            "energy_increase": math.inf,
            "balanced": True,
        },
        "warnings": ["mass lies at an end", "ünïcode\nand a line"],
        "configuration": {"problem": "mine", "parameters": {}, "scheme": "Weno5()", "save": [0.1, 1 / 3, 1e-300]},
        "provenance": {
            "versions": {"numpy": "2.0"},
            "python": "3.11",
            "volatile": {"date": "2020-01-01T00:00:00Z", "seconds": 1.25, "command": "mfpde run"},
        },
        "state": State(1.0, rng.random(shape), steps, 0.1 + 0.2, (1.5, -0.0)),
        "name": "mine",
        "fingerprint": "0123",
    }
    return Solution(**{**fields, **changes})


@pytest.fixture
def edit(path: Path):
    """A saved file that a test may edit before it is loaded."""
    made_up().save(path)

    def open_():
        return h5py.File(path, "r+")

    return open_


# ----- records and solutions


def test_a_solution_is_a_record_with_a_problem():
    held = {field.name for field in dataclasses.fields(Record)}
    assert {field.name for field in dataclasses.fields(Solution)} == held | {"problem", "missing"}
    # arguments by position, as they were before a solution was made of a record
    positional = ["grid", "times", "density", "energy", "diagnostics", "response", "result", "stats", "warnings"]
    positional += ["configuration", "provenance", "state", "problem"]
    assert list(inspect.signature(Solution).parameters)[: len(positional)] == positional
    solution = made_up()
    assert solution == solution
    assert solution != made_up()  # no arrays are compared
    assert hash(solution) == object.__hash__(solution)


def test_a_solution_is_pickled():
    solution = made_up()
    copy = pickle.loads(pickle.dumps(solution))
    assert_same_solution(solution, copy, volatile=True)
    assert repr(copy) == repr(solution) == "<Solution of 'mine': INTERRUPTED, 3 saves, t = 1>"
    assert str(copy) == str(solution)


# ----- what goes in comes out


AXES = {
    1: [mf.Axis("θ", -math.pi, math.pi, mf.End.PERIODIC)],
    2: [mf.Axis("time", 0, 1), mf.Axis("axis_time", 0, 1)],
    3: [mf.Axis(name, -1, 1 / 3) for name in ("density", "attributes", "words")],
    4: [mf.Axis(name, 0.1, 0.7, mf.End.NATURAL) for name in ("state", "component", "energy", "volatile")],
}


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("point_values", [False, True])
def test_round_trip(path, dimension, point_values):
    solution = made_up(AXES[dimension], (4, 5, 6, 7)[:dimension], point_values=point_values)
    solution.save(path)
    loaded = mf.load(path)
    assert_same_solution(solution, loaded, volatile=True)
    assert loaded.problem is None
    assert str(loaded) == str(solution)
    assert repr(loaded) == repr(solution)
    assert loaded.density.flags.c_contiguous
    assert loaded.density.flags.writeable


@pytest.mark.parametrize(
    "changes",
    [
        {"components": 0},
        {"saves": 1, "steps": 0},
        {"state": State(0.0, np.ones((5, 4)))},
        {"state": State(-0.0, np.zeros((5, 4)), length=0.0)},
        {"warnings": [], "fingerprint": "", "provenance": {}},
        {"result": Result.NOT_FINITE},
        {"name": 'a "quoted" [name] = # of\ttrouble'},
        {"configuration": {}},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_round_trip_of_sparse_solutions(path, changes):
    solution = made_up(**changes)
    solution.save(path)
    solution.provenance.setdefault("volatile", {})
    assert_same_solution(solution, load(path), volatile=True)


def test_configuration_keeps_its_values_and_describes_the_rest(path):
    class Kind(enum.Enum):
        ONE = "one"

    parameters = {
        "none": None,
        "inner": {"none": None, "x": 1},
        "flag": True,
        "integer": 2**70,
        "numbers": (1, 2.5, math.inf),
        "array": np.arange(3.0),
        "scalar": np.float64(0.1),
        "member": Kind.ONE,
        "text": "a\x00b\n",
        "function": len,
    }
    made_up(configuration={"parameters": parameters, "controller": None}).save(path)
    assert load(path).configuration == {
        "parameters": {
            "none": None,
            "inner": {"none": None, "x": 1},
            "flag": True,
            "integer": 2**70,
            "numbers": [1, 2.5, math.inf],
            "array": [0.0, 1.0, 2.0],
            "scalar": 0.1,
            "member": "one",
            "text": "a\x00b\n",
            "function": repr(len),
        },
        "controller": None,
    }
    with h5py.File(path) as file:
        assert list(file.attrs["configuration_described"]) == ["parameters/function"]
        assert sorted(file.attrs["configuration_unset"]) == ["controller", "parameters/inner/none", "parameters/none"]


def test_odd_text_is_stored_as_it_can_be(path):
    provenance = {"volatile": {"command": "run \udcff\x00.toml", "seconds": 1.0, "pair": (1, 2)}}
    made_up(provenance=provenance).save(path)
    assert load(path).provenance["volatile"] == {"command": "run \\udcff\\0.toml", "seconds": 1.0, "pair": "(1, 2)"}


def test_a_solution_that_does_not_fit_together_is_refused(path):
    for changes in (
        {"energy": np.zeros(2)},
        {"density": np.zeros((3, 4, 5))},
        {"response": np.zeros((7, 2))},
        {"state": State(0.0, np.zeros((4, 5)))},
        {"diagnostics": {"time": np.zeros(8)}},
    ):
        with pytest.raises(ValueError, match="cannot be saved"):
            made_up(**changes).save(path)
    assert not path.exists()


# ----- runs


@pytest.fixture(scope="module")
def run() -> Solution:
    return mf.solve(mf.problems.linear_neuron(alpha=2.0), shape=(40,), t_end=0.3, save=3, progress=False)


def test_a_loaded_run_goes_on_bit_for_bit(run, path):
    run.save(path)
    loaded = mf.load(path)
    assert loaded.problem is not None
    assert loaded.problem is not run.problem
    kept = {"shape": (40,), "t_end": 0.9, "save": [0.5], "progress": False}
    on = mf.solve(run.problem, initial=run.state, **kept)
    again = mf.solve(loaded.problem, initial=loaded.state, **kept)
    assert len(on.diagnostics["time"]) > 5
    assert same_bits(on.density, again.density)
    assert same_bits(on.diagnostics["dt"], again.diagnostics["dt"])
    assert same_bits(on.state.mu, again.state.mu)
    x = np.linspace(-1, 1, 5)
    assert same_bits(run.predict(x), loaded.predict(x))
    assert same_bits(run.response_at(0.123), loaded.response_at(0.123))


def test_identical_runs_give_identical_files(run, tmp_path):
    again = mf.solve(mf.problems.linear_neuron(alpha=2.0), shape=(40,), t_end=0.3, save=3, progress=False)
    run.save(tmp_path / "a.h5")
    again.save(tmp_path / "b.h5")
    a, b = content(tmp_path / "a.h5"), content(tmp_path / "b.h5")
    assert len(a) > 50
    assert a == b
    with h5py.File(tmp_path / "a.h5") as first, h5py.File(tmp_path / "b.h5") as second:
        assert first["volatile"].attrs["seconds"] != second["volatile"].attrs["seconds"]
    assert content(tmp_path / "a.h5") != content_of(made_up(), tmp_path / "c.h5")


def content_of(solution: Solution, path: Path) -> dict[str, object]:
    solution.save(path)
    return content(path)


def test_problems_are_rebuilt_only_if_they_agree(run, path):
    other = dataclasses.replace(run, configuration={**run.configuration, "parameters": {"alpha": 2.5}})
    other.save(path)
    assert load(path).problem is None
    unknown = dataclasses.replace(run, configuration={**run.configuration, "parameters": {"alfa": 2.0}})
    unknown.save(path)
    assert load(path).problem is None
    dataclasses.replace(run, name="elsewhere").save(path)
    assert load(path).problem is None
    assert load(path, problem=run.problem).problem is run.problem
    with pytest.raises(ValueError, match="fingerprints differ"):
        load(path, problem=mf.problems.linear_neuron(alpha=2.5))


def test_none_among_the_parameters_survives(path):
    problem = mf.problems.three_gaussians(alpha=0.0)
    assert problem.parameters["reinjection"] is None
    mf.solve(problem, shape=(30, 40), t_end=0.01, progress=False).save(path)
    assert load(path).problem.parameters == problem.parameters


def test_reading_does_not_load_the_solver(run, path):
    run.save(path)
    code = (
        "import sys, mfpde; s = mfpde.load(sys.argv[1]); assert s.problem is not None; "
        "print('mfpde.mesh.solver' in sys.modules, 'matplotlib' in sys.modules)"
    )
    assert printed_by(code, path).split() == ["False", "False"]


# ----- others read it


def test_xarray_opens_it_with_its_labels(path):
    solution = made_up()
    solution.save(path)
    with xr.open_dataset(path, engine="h5netcdf") as data:
        assert data.density.dims == ("time", "c", "y")
        assert data.energy.dims == ("time",)
        assert set(data.variables) == {"density", "energy", "time", "c", "y"}
        assert same_bits(data.density.values, solution.density)
        assert same_bits(data.energy.values, solution.energy)
        assert same_bits(data.time.values, solution.times)
        assert same_bits(data.c.values, solution.grid.centres(0))
        assert same_bits(data.density.sel(time=1.0, y=1.0, method="nearest").values, solution.density[2, :, 1])
        assert data.density.attrs["representation"] == "cell averages"
        assert (data.y.attrs["lower_end"], data.y.attrs["upper_end"]) == ("natural", "truncation")
        assert data.attrs["mfpde_schema"] == SCHEMA == 1
    with xr.open_dataset(path, engine="h5netcdf", group="steps") as steps:
        assert steps.energy.dims == ("step",)
        assert steps.response.dims == ("step", "component")
        assert set(steps.variables) == {*COLUMNS, "response", "step", "component"}
        assert steps.energy.coords["time"].values.tolist() == solution.diagnostics["time"].tolist()
        assert steps.optimality_gap.attrs["long_name"] == COLUMNS["optimality_gap"]
    with xr.open_dataset(path, engine="h5netcdf", group="state") as state:
        assert state.mu.dims == ("c", "y")
        assert state.attrs["t"] == 1.0


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_xarray_opens_it_whatever_the_axes_are_called(path, dimension):
    solution = made_up(AXES[dimension], (4, 5, 6, 7)[:dimension], components=0, saves=1)
    solution.save(path)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        dims = tree["density"].dims
        assert dims[0] == "time"
        assert len(set(dims)) == dimension + 1
        assert [tree[name].attrs["axis"] for name in dims[1:]] == [axis.name for axis in solution.grid.axes]
        assert tree["steps/energy"].dims == ("step",)
        assert tree["state/mu"].dims == dims[1:]


def test_every_dataset_is_eight_bytes_wide_and_contiguous(path):
    made_up().save(path)
    with h5py.File(path) as file:
        datasets = []
        file.visititems(lambda name, node: datasets.append(node) if isinstance(node, h5py.Dataset) else None)
        assert len(datasets) == 5 + len(COLUMNS) + 3 + 1
        assert {d.dtype.str for d in datasets} == {"<f8", "<i8"}
        assert all(d.chunks is None for d in datasets)


def test_a_repacked_file_is_read(path, tmp_path):
    solution = made_up(shape=(64, 64))
    solution.density[:] = 0.0
    solution.save(path)
    packed = tmp_path / "packed.h5"
    with h5py.File(path) as old, h5py.File(packed, "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
        del new["density"]
        values = new.create_dataset("density", data=old["density"][()], compression="gzip", compression_opts=9)
        values.attrs["representation"] = "cell averages"
        assert values.id.get_storage_size() < values.nbytes / 50
    assert_same_solution(solution, load(packed), volatile=True)


# ----- nothing is lost, nothing is left


def test_saving_replaces_a_file_in_one_step(path):
    made_up(seed=1).save(path)
    with h5py.File(path, "r") as old:
        made_up(seed=2).save(str(path))
        assert same_bits(old["density"][()], made_up(seed=1).density)  # the reader keeps what it opened
    assert same_bits(load(path).density, made_up(seed=2).density)
    assert os.listdir(path.parent) == ["run.h5"]


def test_a_link_keeps_pointing(path, tmp_path):
    link = tmp_path / "latest.h5"
    link.symlink_to(path)
    made_up().save(link)
    assert link.is_symlink()
    assert path.is_file()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_failed_write_leaves_the_old_file(path, monkeypatch, failure):
    made_up(seed=1).save(path)
    before = path.read_bytes()
    original = h5py.Group.create_dataset

    def failing(self, name, *args, **kwargs):
        if name == "response":
            raise failure
        return original(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.Group, "create_dataset", failing)
    with pytest.raises(OSError, match=r"cannot write .*run\.h5: (No space left on device|write failed)$") as caught:
        made_up(seed=2).save(path)
    assert caught.value.__cause__ is None
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["run.h5"]


def test_an_interrupt_leaves_the_old_file(path, monkeypatch):
    made_up(seed=1).save(path)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made_up(seed=2).save(path)
    assert os.listdir(path.parent) == ["run.h5"]
    assert same_bits(load(path).density, made_up(seed=1).density)


def test_the_file_is_synced_before_it_gets_its_name(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor):
        calls.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{descriptor}'))}" if LINUX else "fsync")
        fsync(descriptor)

    def noting_replace(a, b):
        assert Path(a).parent == path.parent
        with h5py.File(a, "r") as file:
            assert "volatile" in file
        calls.append("replace")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    made_up().save(path)
    assert calls.index("replace") == 1
    assert calls[0].startswith("fsync")
    if LINUX:
        assert calls[0].endswith(".tmp")
        assert calls[2] == f"fsync {path.parent.name}"


LINUX = sys.platform.startswith("linux")


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    solution = made_up()
    with pytest.raises(FileNotFoundError, match=r"cannot write .*: the folder .*nowhere does not exist"):
        solution.save(tmp_path / "nowhere" / "run.h5")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        solution.save(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        solution.save(tmp_path / "pipe")

    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "hidden")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError, match=r"^cannot write .*run\.h5: Permission denied$"):
        solution.save(tmp_path / "run.h5")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["pipe"]


# ----- nothing odd is believed


def refused(path: Path, match: str) -> None:
    with pytest.raises(FileFormatError, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load(tmp_path / "nothing.h5")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_files_of_others(path):
    path.write_bytes(b"")
    refused(path, "not an HDF5 file")
    path.write_text("[problem]\nname = 'mine'\n")
    refused(path, "not an HDF5 file")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 500)
    refused(path, "truncated or damaged")
    with h5py.File(path, "w") as file:
        file["density"] = np.zeros(3)
    refused(path, "not one that mfpde wrote")


def test_a_newer_schema_is_refused_in_one_line(path, edit):
    with edit() as file:
        file.attrs["mfpde_schema"] = SCHEMA + 1
        del file["density"]
    refused(path, r"has schema 2, this version of mfpde reads schemas up to 1; upgrade mfpde$")
    for value in (0, -3):
        with edit() as file:
            file.attrs["mfpde_schema"] = value
        refused(path, "never existed")
    for value in ("one", [1, 2], 1.5):
        with edit() as file:
            file.attrs["mfpde_schema"] = value
        refused(path, "not a number")


DATASETS = [
    "time",
    "c",
    "y",
    "density",
    "energy",
    "state/mu",
    "steps/response",
    *(f"steps/{name}" for name in DIAGNOSTICS),
]


@pytest.mark.parametrize("name", [*DATASETS, "steps", "state", "volatile"])
def test_what_is_missing_is_named(path, edit, name):
    with edit() as file:
        del file[name]
    refused(path, f"/{name}(/time)? is missing")


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("odd", ["float32", "text", "longer", "deeper", "scalar", "empty", "group"])
def test_odd_datasets_are_refused(path, edit, name, odd):
    with edit() as file:
        values = file[name][()]
        attributes = dict(file[name].attrs)
        del file[name]
        if odd == "group":
            file.create_group(name)
        elif odd == "empty":
            file[name] = h5py.Empty("f8")
        elif odd == "text":
            file.create_dataset(name, data=np.full(values.shape, "x", dtype=object), dtype=h5py.string_dtype())
        elif odd == "float32":
            file[name] = np.zeros(values.shape, dtype=np.float32)
        elif odd == "longer":
            file[name] = np.concatenate([values, values[..., :1]], axis=-1)
        elif odd == "deeper":
            file[name] = values[..., None]
        else:
            file[name] = 1.0
        file[name].attrs.update({k: v for k, v in attributes.items() if k in ("lower", "upper", "axis")})
        file[name].attrs.update({k: v for k, v in attributes.items() if k in ("lower_end", "upper_end")})
    if (name, odd) == ("steps/response", "longer"):
        # any number of components is fine, but it is not what was written
        refused(path, "has changed since it was written: the checksum of steps/response is not")
        with edit() as file:
            del file.attrs["checksums"]
        assert load(path).response.shape == (8, 3)
    else:
        refused(path, "no complete mfpde solution")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("result", "WONDERFUL", "result 'WONDERFUL' is none of SUCCESS"),
        ("result", 3, "not text"),
        ("stats", "steps = ", "not TOML"),
        ("stats", "steps = 3", "'redone' of attribute 'stats' is missing"),
        ("configuration", "a = 1\na = 2", "not TOML"),
        ("configuration_unset", ["scheme/x"], "no key of the configuration"),
        ("configuration_unset", [1, 2], "not a list of texts"),
        ("provenance", "]", "not TOML"),
        ("axes", ["c"], "/density has shape"),
        ("axes", ["c", "nothing"], "/nothing is missing"),
        ("axes", ["c", "c"], "names must differ"),
        ("axes", ["steps", "y"], "/steps is a group"),
        ("warnings", 1.0, "not a list of texts"),
        ("problem", None, "'problem' of / is missing"),
        ("fingerprint", [["a"]], "has shape"),
    ],
)
def test_odd_attributes_are_refused(path, edit, name, value, match):
    with edit() as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    refused(path, match)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("seconds", "long", "'seconds' of /volatile is not a duration"),
        ("seconds", [1.0, 2.0], "'seconds' of /volatile is not a duration"),
        ("seconds", np.nan, "not a duration"),
        ("seconds", -1.0, "not a duration"),
        ("seconds", True, "not a duration"),
        ("resumed", "twice", "'resumed' of /volatile is not a count"),
        ("resumed", 1.5, "not a count"),
        ("date", 3, "'date' of /volatile is not text"),
        ("command", np.zeros(3), "'command' of /volatile is not text"),
        ("machine", h5py.Empty("f8"), "'machine' of /volatile is not text"),
        ("other", h5py.Empty("f8"), "'other' of /volatile is not a number or text"),
    ],
)
def test_what_differs_between_runs_is_checked_as_well(path, edit, name, value, match):
    """By its kind in files of early versions, which have no checksum of it."""
    with edit() as file:
        del file["volatile"].attrs["checksum"]
        file["volatile"].attrs[name] = value
    refused(path, match)


@pytest.mark.parametrize("name", ["title", "configuration_unset", "configuration_described"])
def test_words_that_settle_no_number_have_a_checksum_of_their_own(path, name):
    """Files of early versions have none."""
    made_up().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs[name] = "another" if name == "title" else hdf5.texts(["parameters/other"])
    with pytest.raises(FileFormatError, match="the checksum of words is not the one in the file"):
        mf.load(path)
    assert not mf.verify(path).ok
    with h5py.File(path, "r+") as file:
        sums = parse_toml(file.attrs["checksums"])
        file.attrs["checksums"] = hdf5.as_toml({name: value for name, value in sums.items() if name != "words"})
    mf.load(path)


@pytest.mark.parametrize(
    ("name", "value"), [("seconds", 1.5), ("date", "2021-01-01T00:00:00Z"), ("new", 1), ("checksum", "0")]
)
def test_what_differs_between_runs_has_a_checksum_of_its_own(path, edit, name, value):
    with edit() as file:
        sums = file.attrs["checksums"]
        file["volatile"].attrs[name] = value
    refused(path, "has changed since it was written: the checksum of volatile is not the one in the file")
    with edit() as file:
        del file["volatile"].attrs["checksum"]  # of an early version
        if name != "checksum":
            assert load(path).provenance["volatile"][name] == value
        # equal runs have equal checksums of the rest
        assert file.attrs["checksums"] == sums
    assert "volatile" not in sums


def test_what_differs_between_runs_is_written_again_as_it_was(path):
    made_up().save(path)
    once = load(path)
    once.save(path)
    assert load(path).provenance == once.provenance == made_up().provenance


@pytest.mark.parametrize(
    ("attribute", "value", "match"),
    [
        ("lower", 5.0, "must be finite with lower < upper"),
        ("lower", math.nan, "must be finite"),
        ("lower", -1.5, "does not hold the centres"),
        ("upper_end", "periodic", "both ends are periodic or neither"),
        ("lower_end", "cliff", "'cliff' is not a valid End"),
        ("axis", "not a name", "not an identifier"),
    ],
)
def test_odd_axes_are_refused(path, edit, attribute, value, match):
    with edit() as file:
        file["c"].attrs[attribute] = value
    refused(path, match)


def test_odd_states_and_representations_are_refused(path, edit):
    with edit() as file:
        file["density"].attrs["representation"] = "guesses"
    refused(path, "'guesses'")
    made_up().save(path)
    with edit() as file:
        file["state"].attrs["memory"] = "everything"
    refused(path, "'memory' of /state")
    made_up().save(path)
    with edit() as file:
        del file["state"].attrs["n_steps"]
    refused(path, "'n_steps' of /state is missing")


def test_claims_are_checked_before_memory_is_taken(path, edit):
    with edit() as file:
        for name, shape in (("time", (2**40,)), ("density", (2**40, 5, 4))):
            del file[name]
            file.create_dataset(name, shape=shape, dtype="f8")  # never written: takes no space
    refused(path, r"/time claims 8796093022208 bytes, the file holds 0 of them")
    made_up().save(path)
    with edit() as file:
        del file["steps/response"]
        values = file.create_dataset("steps/response", shape=(8, 2**40), dtype="f8", chunks=(8, 64), compression="gzip")
        values[:, :64] = 1.0
    refused(path, "/steps/response claims")
    made_up().save(path)
    with edit() as file:
        del file["c"]
        file.create_dataset("c", shape=(2**62, 2**62)[:1], dtype="f8", chunks=(4,))
        file["c"].attrs.update({"axis": "c", "lower": 0.0, "upper": 1.0})
    refused(path, "/c claims")


def test_other_files_are_not_reached_through_this_one(path, edit, tmp_path):
    other = tmp_path / "other.h5"
    made_up(seed=5).save(other)
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(20 * 3, dtype="<f8").tobytes())
    with edit() as file:
        del file["density"]
        file["density"] = h5py.ExternalLink("other.h5", "density")
    refused(path, "/density is a link")
    with edit() as file:
        del file["density"]
        file["density"] = h5py.SoftLink("/steps/response")
    refused(path, "/density is a link")
    with edit() as file:
        del file["density"]
        file.create_dataset("density", shape=(3, 5, 4), dtype="f8", external=[(str(secret), 0, 480)])
    refused(path, "/density keeps its values in another file")
    with edit() as file:
        del file["density"]
        layout = h5py.VirtualLayout(shape=(3, 5, 4), dtype="f8")
        layout[:] = h5py.VirtualSource(other, "density", shape=(3, 5, 4))
        file.create_virtual_dataset("density", layout)
    refused(path, "/density keeps its values in another file")
    made_up().save(path)
    with edit() as file:
        del file["steps"]
        file["steps"] = h5py.ExternalLink("other.h5", "steps")
    refused(path, "/steps is a link")


def test_truncated_files_are_refused(path):
    made_up().save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path, "truncated or damaged|not an HDF5 file")


def test_a_file_that_xarray_holds_open_is_read(tmp_path):
    import xarray as xr

    solution = mf.solve(mf.problems.linear_neuron(), 40, 0.01, save=2)
    solution.save(tmp_path / "run.h5")
    with xr.open_dataset(tmp_path / "run.h5", engine="h5netcdf") as opened:
        loaded = mf.load(tmp_path / "run.h5")
        np.testing.assert_array_equal(opened["density"], loaded.density)
    np.testing.assert_array_equal(loaded.density, solution.density)
