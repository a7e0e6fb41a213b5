"""References that are kept: what goes in comes out, damage is seen, and the pack is what its recipes say."""

from __future__ import annotations

import dataclasses
import math
import re
import time

import h5py
import numpy as np
import pytest
import shared
import xarray as xr
from scipy import stats
from shared import assert_refused, printed_by

import mfpde as mf
from mfpde.support.files import hdf5
from mfpde.support.files.hdf5 import FileFormatError
from mfpde.verification.observables import Observable
from mfpde.verification.references import pack, recipes
from mfpde.verification.references.certified import Certified, Reference
from mfpde.verification.references.file import read_reference, save_reference
from mfpde.verification.references.file_observables import described, same_observable
from mfpde.verification.references.recipes import Part
from validation._damage import Outcome, attempts, mutated_hdf5

NAMES = mf.reference_names()


def made_up(problem=None, seed=0, **changes) -> Reference:
    """A reference of random numbers, odd ones among them, with every kind of observable."""
    rng = np.random.default_rng(seed)
    problem = problem or mf.problems.three_gaussians(alpha=1 / 3)
    axis = problem.axes[0].name
    observables = [
        (mf.EnergyAt((0.1, 1 / 3, 2.0)), (3,)),
        (mf.Moment(axis, 3, (0.0, 1e-3)), (2,)),
        (mf.OutputAt(np.linspace(0, 1 / 3, 4), (1.0,)), (1, 4)),
        (mf.OutputAt(rng.random((4, 2)), (1.0,)), (1, 4)),
        (mf.OutputAt(rng.random((4, 2)), (1.0, 2.0)), (2, 4, 3)),
        (mf.MassIn({axis: (-math.inf, 1 / 7)}, (1.0, math.inf)), (2,)),
        (mf.Marginal(axis, np.array([0.0, 0.1, 1 / 3, 2.0]), (1.0,)), (1, 3)),
        (mf.DecayRate((0.5, 1.0, 2.0)), (2,)),
        (None, (2, 2, 2)),
    ]
    certified = []
    for k, (observable, shape) in enumerate(observables):
        times = observable.times if observable is not None else (1.0, 2.0)
        certified.append(
            Certified(
                name=f"{k}: {observable.name if observable else 'ünïcode / own'}",
                times=np.array(times)[1 if isinstance(observable, mf.DecayRate) else 0 :],
                value=rng.standard_normal(shape) * 10.0 ** rng.integers(-300, 300, shape),
                bar=rng.random(shape) ** 40,
                route="characteristics",
                other="mesh, Weno5" if k else "",
                other_value=rng.standard_normal(shape) if k else None,
                other_bar=rng.random(shape) if k else None,
                observable=observable,
            )
        )
    certified[0].value[:] = [-0.0, 5e-324, math.nan]
    certified[0].bar[:] = [0.0, 5e-324, math.inf]
    levels = (("characteristics", (12, 12), 0.25), ("mesh, Weno5", (50, 40), 1 / 3), ("characteristics", (18,), 1e-9))
    return Reference(**{"problem": problem, "tolerance": 1 / 3e6, "observables": tuple(certified), "levels": levels,
                        "reached": False, **changes})  # fmt: skip


def same_bits(a, b) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype == np.float64 and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same(one: Reference, other: Reference, *, seconds: bool = True) -> None:
    assert other.tolerance == one.tolerance
    assert other.reached is one.reached
    assert [level[: 2 + seconds] for level in other.levels] == [level[: 2 + seconds] for level in one.levels]
    assert len(one.observables) == len(other.observables)
    for a, b in zip(one.observables, other.observables, strict=True):
        assert (a.name, a.route, a.other) == (b.name, b.route, b.other)
        for key in ("times", "value", "bar", "other_value", "other_bar"):
            assert same_bits(getattr(a, key), getattr(b, key)), (a.name, key)
        if a.observable is None:
            assert b.observable is None
        else:
            assert same_observable(a.observable, b.observable), a.name
            assert type(a.observable) is type(b.observable)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reference.h5"


@pytest.fixture
def saved(path):
    save_reference(made_up(), path, command="mfpde reference three-gaussians")
    return path


# ----- files: what goes in comes out


def test_round_trip(saved):
    one, other = made_up(), mf.load_reference(saved)
    assert_same(one, other)
    assert other.name == "three-gaussians"
    assert other.command == "mfpde reference three-gaussians"
    assert other.problem.fingerprint() == one.problem.fingerprint()
    assert other.problem is other.problem
    assert other.problem.parameters["alpha"] == 1 / 3
    assert str(other) == str(one)
    assert other["1: moment c^3"].value.shape == (2,)
    assert set(other.provenance["versions"]) >= {"numpy", "scipy", "numba"}
    assert set(other.provenance["volatile"]) == {"date", "platform"}
    assert isinstance(other, Reference)
    changed = dataclasses.replace(other, tolerance=0.5)
    assert (changed.tolerance, changed.name) == (0.5, "three-gaussians")
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.tolerance = 1.0
    with pytest.raises(AttributeError, match="no attribute 'values'"):
        _ = other.values


def test_what_was_read_is_written_again(saved, tmp_path):
    save_reference(read_reference(saved), tmp_path / "again.h5")
    assert_same(read_reference(saved), read_reference(tmp_path / "again.h5"))
    with h5py.File(saved) as one, h5py.File(tmp_path / "again.h5") as other:
        assert dict(one.attrs.items()).keys() == dict(other.attrs.items()).keys()
        for name in ("checksums", "provenance", "configuration", "fingerprint", "command", "title"):
            assert one.attrs[name] == other.attrs[name], name
        assert dict(one["volatile"].attrs) == dict(other["volatile"].attrs)


def test_parameters_that_toml_cannot_say(path):
    """None, and infinity in parameters: the problem is the same again."""
    problem = mf.problems.isotropic_gaussians(delta=0.4, d=math.inf, start_d=40.0)
    save_reference(made_up(problem), path)
    assert read_reference(path).problem.parameters == problem.parameters


def test_axes_of_any_name(path):
    axis = mf.Axis("θ", -1, 1)
    problem = mf.Problem(energy=mf.External(np.cos), axes=[axis], initial=mf.Product(**{axis.name: 0.0}), t_end=1.0)
    save_reference(made_up(problem), path)
    assert_same(made_up(problem), read_reference(path))


def test_others_open_it(saved):
    one = made_up()
    with xr.open_dataset(saved, engine="h5netcdf", group="energy") as data:
        assert same_bits(data.value.values, one.observables[0].value)
        assert float(data.bar.sel(time=0.1)) == one.observables[0].bar[0]
    with xr.open_dataset(saved, engine="h5netcdf", group="marginal_c") as data:
        assert data.value.dims == ("time", "bin")
        assert same_bits(data.bin.values, np.array([0.05, 0.5 * (0.1 + 1 / 3), 0.5 * (1 / 3 + 2)]))
        assert same_bits(data.edges.values, one.observables[6].observable.edges)
    with xr.open_datatree(saved, engine="h5netcdf") as tree:
        assert set(tree.children) == {
            "energy", "moment_c_3", "output", "output_2", "output_3", "mass_c", "marginal_c", "decay_rate",
            "observable", "levels", "volatile",
        }  # fmt: skip
        assert tree["output_3"].value.dims == ("time", "input", "output")
        assert tree["levels"].cells.values.tolist() == [[12, 12], [50, 40], [18, 0]]


def test_a_problem_made_in_python(path):
    axis = mf.Axis("x", -1, 1)
    own = mf.External(lambda x: np.cos(x))
    problem = mf.Problem(energy=own, axes=[axis], initial=mf.Product(x=0.0), t_end=1.0, name="mine")
    save_reference(made_up(problem), path)
    found = mf.load_reference(path)
    assert "'mine'" in str(found)  # needs no problem
    with pytest.raises(ValueError, match=r"problem 'mine': energy\[0\] is a function.*problem=problem\)$") as caught:
        _ = found.problem
    assert "\n" not in str(caught.value)
    assert mf.load_reference(path, problem).problem is problem
    with pytest.raises(ValueError, match=r"problem 'three-gaussians' is not the one .* \('mine'\)"):
        mf.load_reference(path, mf.problems.three_gaussians())
    with pytest.raises(ValueError, match="problem must be a Problem, not 3"):
        mf.load_reference(path, 3)


def test_a_problem_that_has_changed_since(saved, monkeypatch):
    monkeypatch.setattr(mf.Problem, "fingerprint", lambda self: "other")
    with pytest.raises(ValueError, match=r"not the problem that it was .* again: mfpde reference three-gaussians"):
        _ = read_reference(saved).problem


def test_a_network_on_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 7)
    (tmp_path / "points.csv").write_text("\n".join(f"{a},{math.sin(a)}" for a in x))
    text = 't_end = 0.1\n[network]\ndata = "points.csv"\nbias = false\nactivation = "tanh"\n'
    (tmp_path / "net.toml").write_text(text)
    result = invoke("net.toml", "--tolerance", "0.1", "-q", "--save", "net.h5")
    assert result.exit_code == 0, result.output
    found = mf.load_reference("net.h5")
    assert found.problem.network is not None
    assert found.command == "mfpde reference net.toml --tolerance 0.1"
    assert pack.check("net.h5").ok
    # other data are of no use, and not needed
    (tmp_path / "points.csv").write_text("1,2\n3,4\n")
    assert mf.load_reference("net.h5").problem.energy.x.ravel().tolist() == x.tolist()
    early = mf.load_reference("net.h5")
    early.__dict__["description"] = None
    with pytest.raises(ValueError, match=r"its problem cannot be built: .*points\.csv has changed"):
        _ = early.problem


def test_writing_is_careful(saved, tmp_path, monkeypatch):
    before = saved.read_bytes()
    with pytest.raises(FileExistsError, match="exists"):
        save_reference(made_up(), saved, overwrite=False)
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        save_reference(made_up(), tmp_path / "nowhere" / "x.h5")
    with pytest.raises(ValueError, match=r"needs what mfpde\.reference gives, not 3"):
        save_reference(3, saved)
    monkeypatch.setattr(hdf5, "sha256", lambda dataset: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_reference(made_up(), saved)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["reference.h5"]


def test_observables_of_ones_own_are_kept_by_name(path):
    @dataclasses.dataclass(frozen=True)
    class Mine(Observable):
        times: tuple[float, ...] = (1.0,)

        @property
        def name(self):
            return "mine"

        def measure(self, at):
            return np.array(at.energy)

    found = mf.reference(mf.problems.quadratic_well(), 0.1, [Mine()])
    save_reference(found, path)
    stored = read_reference(path)
    assert stored["mine"].observable is None
    assert same_bits(stored["mine"].value, found["mine"].value)
    with pytest.raises(ValueError, match="cannot name what 'mine' measures"):
        pack.check(path)


# ----- files: what is damaged or hostile


def datasets(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return found


def refused(path, match):
    began = time.perf_counter()
    with pytest.raises(FileFormatError, match=match) as caught:
        mf.load_reference(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - began < 2.0


def test_every_number_has_a_checksum(saved):
    one = made_up()
    save_reference(dataclasses.replace(one, observables=tuple(one.observables[k] for k in (0, 4, 6))), saved)
    names = datasets(saved)
    assert len(names) == 26
    for name in names:
        with h5py.File(saved, "r+") as file:
            node = file[name]
            old = node[()]
            new = old.copy()
            # the last bit of the last number
            new.reshape(-1)[-1:].view(np.uint8)[0] ^= 1
            node[...] = new
        refused(saved, rf"checksum of .*{re.escape(name)}|/{re.escape(name)}|names no route|list of times")
        with h5py.File(saved, "r+") as file:
            file[name][...] = old
    read_reference(saved)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("/", "tolerance", 0.25),
        ("/", "reached", 1),
        ("/", "problem", "gaussian-bumps"),
        ("/", "fingerprint", "0"),
        ("/", "configuration", 'problem = "gaussian-bumps"'),
        ("/", "command", "rm -rf ."),
        ("/", "provenance", "[versions]"),
        ("/energy", "name", "entropy"),
        ("/energy", "route", "guess"),
        ("/moment_c_3", "parameters", 'axis = "c"\npower = 2'),
        ("/levels", "routes", ["a", "b"]),
    ],
)
def test_what_attributes_say_has_a_checksum(saved, place, name, value):
    with h5py.File(saved, "r+") as file:
        file[place].attrs[name] = value
    refused(saved, "the checksum of attributes is not the one in the file")


def link(file):
    del file["energy/value"]
    file["energy/value"] = h5py.SoftLink("/moment_c_3/value")


def external_link(file):
    del file["energy"]
    file["energy"] = h5py.ExternalLink("/etc/passwd", "/x")


def external_values(file):
    del file["energy/value"]
    file.create_dataset("energy/value", shape=(3,), dtype="<f8", external=[("/etc/passwd", 0, 24)])


def virtual(file):
    del file["energy/value"]
    layout = h5py.VirtualLayout(shape=(3,), dtype="<f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3,))
    file.create_virtual_dataset("energy/value", layout)


def huge(file):
    del file["energy/value"]
    file.create_dataset("energy/value", shape=(2**45,), dtype="<f8", chunks=True)


def objects(file):
    del file["energy/value"]
    file.create_dataset("energy/value", data=["a", "b", "c"], dtype=h5py.string_dtype())


def attribute(place, name, value):
    def change(file):
        file[place].attrs[name] = value

    change.__name__ = f"{place}@{name}"
    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (link, "/energy/value is a link"),
        (external_link, "/energy is a link"),
        (external_values, "keeps its values in another file"),
        (virtual, "keeps its values in another file"),
        (huge, "claims 281474976710656 bytes"),
        (objects, "has type object"),
        (lambda file: file.__delitem__("energy/bar"), "/energy/bar is missing"),
        (lambda file: file.__delitem__("energy"), "/energy is missing"),
        (lambda file: file.__delitem__("volatile"), "/volatile is missing"),
        (lambda file: file.__delitem__("marginal_c/bin"), "/marginal_c/bin is missing"),
        (lambda file: file.attrs.__delitem__("checksums"), "'checksums' of / is missing"),
        (attribute("/", "checksums", '"a/../../b" = "0"'), "'checksums' names"),
        (attribute("/", "checksums", "energy"), "'checksums' of / is not TOML"),
        (attribute("/", "mfpde_reference_schema", 2), "has schema 2, .* upgrade mfpde"),
        (attribute("/", "mfpde_reference_schema", 0), "schema 0 never existed"),
        (attribute("/", "observables", ["energy", "energy"]), "attribute 'observables' is"),
        (attribute("/", "observables", ["../energy"]), "attribute 'observables' is"),
        (attribute("/", "observables", ["levels"]), "attribute 'kind' of /levels is missing"),
        (attribute("/energy", "kind", "eval"), "is of kind 'eval', which is none of energy, moment"),
        (attribute("/moment_c_3", "parameters", 'axis = "c"\nmeasure = "x"'), "its parameter 'measure' is 'x'"),
        (attribute("/moment_c_3", "parameters", "axis = 1"), "its parameter 'axis' is 1"),
        (attribute("/moment_c_3", "parameters", "power = 1"), "observable .moment. needs axis; .axis. is missing"),
        (attribute("/mass_c", "parameters", "box = {c = [1, 0]}"), "its parameter 'box' is"),
        (attribute("/mass_c", "parameters", "box = {c = 1}"), "its parameter 'box' is"),
        (attribute("/energy", "parameters", "times = [nan]"), "its parameter 'times' is"),
        (attribute("/", "tolerance", "small"), "'tolerance' of / is not a number"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_hostile_files(saved, change, match):
    with h5py.File(saved, "r+") as file:
        change(file)
    refused(saved, match)


def test_files_of_another_kind(tmp_path):
    text = tmp_path / "text.h5"
    text.write_text("energy = 1")
    refused(text, "is not an HDF5 file, so it holds no reference")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1.0
    refused(tmp_path / "other.h5", "is an HDF5 file, but not one that mfpde wrote")
    run = tmp_path / "run.h5"
    mf.solve(mf.problems.linear_neuron(), (12,), 0.01, save=2, progress=False).save(run)
    refused(run, "holds a solution, not a reference; read it with mfpde.load$")
    save_reference(made_up(), tmp_path / "reference.h5")
    with pytest.raises(FileFormatError, match=r"holds a reference, not a solution; .*mfpde.load_reference$"):
        mf.load(tmp_path / "reference.h5")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        mf.load_reference(tmp_path / "nothing.h5")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        mf.load_reference(tmp_path)


@pytest.mark.parametrize(
    ("key", "values", "match"),
    [
        ("bar", [1.0, -1e-9], "/moment_c_3/bar is negative or no number"),
        ("bar", [1.0, math.nan], "/moment_c_3/bar is negative or no number"),
        ("times", [1.0, 0.5], "/moment_c_3/time is not a list of times"),
        ("times", [-1.0, 0.5], "/moment_c_3/time is not a list of times"),
    ],
)
def test_numbers_that_are_no_reference(path, key, values, match):
    """With right checksums."""
    one = made_up()
    odd = dataclasses.replace(one.observables[1], **{key: np.array(values)})
    save_reference(dataclasses.replace(one, observables=(odd,)), path)
    refused(path, match)


def test_a_checksum_that_is_missing(saved):
    with h5py.File(saved, "r+") as file:
        lines = file.attrs["checksums"].splitlines()
        file.attrs["checksums"] = "\n".join(line for line in lines if "energy/bar" not in line)
    refused(saved, "the checksum of energy/bar is not the one in the file")


def test_texts_that_go_round_in_circles(saved):
    content = bytearray(saved.read_bytes())
    at = content.index(b"GCOL\1") + 16
    content[at : at + 16] = bytes(16)
    saved.write_bytes(content)

    def check(case: int) -> int:
        refused(saved, "object 0 claims 0 bytes")
        return 0

    (attempt,), _ = attempts(check, [0], limit=10.0)  # in a child: this would never end
    assert attempt.outcome is Outcome.ANSWER, attempt


def test_large_files_are_refused(saved, monkeypatch):
    monkeypatch.setattr("mfpde.verification.references.file.MAX_BYTES", 1000)
    refused(saved, "a reference has at most 1000")


def test_configurations_run_nothing(saved):
    """A file whose checksums are right and whose parameters are odd: one line when the problem is asked for."""
    for text in ('problem = "os.system"\n[parameters]\n', 'problem = "get"', '[network]\ndata = "/etc/passwd"\n',
                 'problem = "three-gaussians"\nparameters = 3', "[problem]", ""):  # fmt: skip
        found = dataclasses.replace(read_reference(saved))
        found.__dict__.pop("problem")
        from mfpde.support.files.untrusted import parse_toml

        found.__dict__["configuration"] = parse_toml(text)
        with pytest.raises(ValueError, match="does not hold its problem") as caught:
            _ = found.problem
        assert "\n" not in str(caught.value)
    found = read_reference(saved)
    found.__dict__["configuration"] = {"problem": "three-gaussians", "parameters": {"alpha": "__import__('os')"}}
    with pytest.raises(ValueError, match="its problem cannot be built"):
        _ = found.problem


def test_damaged_files(saved, tmp_path):
    content = saved.read_bytes()
    import random

    from mfpde import cli

    def check(case: int) -> int:
        path = tmp_path / "case.h5"
        mutated_hdf5(random.Random(f"reference {case}"), content, path)
        try:
            cli.main(["verify" if case % 2 else "reference", *([] if case % 2 else ["--show"]), str(path)])
        except SystemExit as end:
            return end.code or 0
        return 0

    found, peak = attempts(check, range(40), batch=40, limit=30.0)
    wrong = [a for a in found if a.outcome not in (Outcome.ANSWER, Outcome.REFUSED)]
    assert not wrong, "\n".join(f"{a.case}: {a.outcome}: {a.text[-1500:]}" for a in wrong[:5])
    assert peak < 2**29
    assert sum(a.outcome is Outcome.REFUSED for a in found) > 10


# ----- the pack


def test_names():
    assert len(NAMES) == len(set(NAMES)) >= 13
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9.]+)*", name) for name in NAMES)
    assert {path.stem for path in pack.FOLDER.glob("*")} == set(NAMES)
    for wrong in ("three-gausians", 3, None):
        with pytest.raises(ValueError, match=r"unknown reference .*; valid: three-gaussians, .*\.h5 file$") as caught:
            mf.load_reference(wrong)
        assert "\n" not in str(caught.value)


def test_it_is_small():
    assert sum(path.stat().st_size for path in pack.FOLDER.glob("*.h5")) < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_members(name):
    """Each file is of its recipe, reached its tolerance, is borne out by other nodes, and a second method agrees."""
    recipe, found = recipes.recipe(name), mf.load_reference(name)
    assert pack.differences(recipe, found) == []
    assert found.reached
    assert found.command == f"mfpde reference --rebuild {name}"
    parts = [part for part in recipe.parts for _ in part.observables]
    for part, certified in zip(parts, found.observables, strict=True):
        assert 0.0 < certified.relative <= part.tolerance
        assert certified.route != certified.other != ""
        assert np.all(np.abs(certified.value - certified.other_value) <= certified.bar + certified.other_bar)
        assert certified.check not in ("", certified.route)
        assert np.all(np.abs(certified.value - certified.check_value) <= certified.bar + certified.check_bar)
        assert math.isfinite(certified.confirmed_to)
        assert np.all(certified.bar > 0)


def test_the_bars_that_were_promised():
    for name in NAMES[:4]:
        energy = mf.load_reference(name)["energy"]
        assert energy.times.tolist() == [1.0, 2.5, 5.0, 10.0]
        assert energy.relative <= 1e-6


def test_recipes_and_files_cannot_drift(tmp_path):
    """A file is not of a recipe with other parameters, observables or times."""
    name = REBUILT
    recipe, found = recipes.recipe(name), mf.load_reference(name)
    change = dataclasses.replace
    (part,) = recipe.parts
    other = (Part(1e-6, (mf.EnergyAt((0.25, 0.5)), *part.observables[1:])),)
    moment = (Part(1e-6, (mf.Moment("theta", 1, (0.25, 0.5, 1.0)), *part.observables[1:])),)
    for made, what in (
        (change(recipe, parameters={"alpha": 2.0}), "the problem is another one"),
        (change(recipe, problem="quadratic-well"), "the problem is another one"),
        (change(recipe, parts=other), "the observables are others"),
        (change(recipe, parts=moment), "the observables are others"),
        (change(recipe, parts=recipe.parts * 2), "the observables are others"),
        (change(recipe, name="other"), "the command that rebuilds it is another one"),
    ):
        assert pack.differences(made, found) == [what]


def test_observables_differ():
    edges = np.linspace(0, 1, 4)
    different = [
        mf.EnergyAt(), mf.EnergyAt(1.0), mf.EnergyAt((1.0, 2.0)), mf.DecayRate((1.0, 2.0)), mf.Moment("x"),
        mf.Moment("y"), mf.Moment("x", 2), mf.OutputAt(edges), mf.OutputAt(edges + 1e-15), mf.OutputAt(edges[:3]),
        mf.Marginal("x", edges), mf.Marginal("y", edges), mf.MassIn({"x": (0, 1)}), mf.MassIn({"y": (0, 1)}),
        mf.MassIn({"x": (0, 1 + 1e-15)}),
    ]  # fmt: skip
    for i, one in enumerate(different):
        for j, other in enumerate(different):
            assert same_observable(one, other) is (i == j), (one, other)
    assert same_observable(mf.EnergyAt(1), mf.EnergyAt([1.0]))
    assert not same_observable(None, None)
    assert described(None) == ("other", {}, None)


# closed forms: energies at the times of the member, for each problem that has one
CLOSED = ("linear-neuron", "single-index-k-2", "gaussian-sampling")


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_of_energies(name):
    found = mf.load_reference(name)
    energy = found["energy"]
    exact = np.array([found.problem.exact["energy"](t) for t in energy.times])
    # Gaussians have their closed forms on the whole line: the box cuts off 1e-10 of them
    box = 0.0 if name == "single-index-k-2" else 1e-10 * np.abs(exact)
    assert np.all(np.abs(energy.value - exact) <= energy.bar + box)
    assert np.all(np.abs(energy.other_value - exact) <= energy.other_bar + box)


def test_closed_forms_of_a_gaussian():
    found = mf.load_reference("gaussian-sampling")
    exact = found.problem.exact
    first, second, marginal = found["moment x^1"], found["moment x^2"], found["marginal over x"]
    edges = marginal.observable.edges
    for k, t in enumerate(first.times):
        m, C = exact["mean"](t), exact["variance"](t)
        assert abs(first.value[k] - m) <= first.bar[k]
        assert abs(second.value[k] - (m**2 + C)) <= second.bar[k]
        density = np.diff(stats.norm(m, math.sqrt(C)).cdf(edges)) / np.diff(edges)
        assert np.all(np.abs(marginal.value[k] - density) <= marginal.bar[k])


def test_end_states():
    found = mf.load_reference("torus-langevin")
    energy = found["energy"]
    assert energy.times[-1] == math.inf
    assert abs(energy.value[-1] - found.problem.exact["minimum_energy"]) <= energy.bar[-1]
    assert np.all(np.diff(energy.value) < 0)
    marginal = found["marginal over theta"]
    widths = np.diff(marginal.observable.edges)
    assert np.all(np.abs(marginal.value @ widths - 1.0) <= marginal.bar @ widths)
    failed = mf.load_reference("predicting-failure")
    energy = failed["energy"]
    assert abs(energy.value[-1] - failed.problem.exact["failed_energy"]) <= energy.bar[-1]


def test_loading_needs_no_scipy():
    code = (
        "import sys, mfpde as mf; found = mf.load_reference('three-gaussians'); str(found); "
        "print([m for m in ('scipy', 'numba', 'pydantic', 'matplotlib') if m in sys.modules])"
    )
    assert printed_by(code) == "[]\n"


def content(path):
    """Everything in a file but the volatile group."""
    found = {}

    def visit(name, node):
        if name.startswith("volatile"):
            return
        if isinstance(node, h5py.Dataset):
            found[name] = (node.shape, node.dtype.str, node[()].tobytes())
        for key, value in node.attrs.items():
            if "LIST" not in key and key != "checksums":
                found[f"{name}@{key}"] = value.tolist() if isinstance(value, np.ndarray) else value

    with h5py.File(path, "r") as file:
        visit("", file)
        file.visititems(visit)
    return found


REBUILT = "linear-neuron"


def test_a_member_is_rebuilt(tmp_path):
    """The check of every change: one member within both bars of the shipped one, and deterministic."""
    said = []
    first = pack.rebuild(REBUILT, tmp_path, progress=said.append)
    assert said
    one, other = mf.load_reference(REBUILT), read_reference(tmp_path / f"{REBUILT}.h5")
    assert_same(first, other)
    assert pack.is_built(REBUILT, tmp_path)
    for a, b in zip(one.observables, other.observables, strict=True):
        assert np.all(np.abs(a.value - b.value) <= a.bar + b.bar)
        assert b.relative <= 1e-7
    before = content(tmp_path / f"{REBUILT}.h5")
    pack.rebuild(REBUILT, tmp_path)
    assert content(tmp_path / f"{REBUILT}.h5") == before


# ----- the command line


def invoke(*arguments):
    return shared.invoke("reference", *arguments)


def test_list():
    result = invoke("--list")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "problem", "observables", "times", "largest", "bar", "size"]
    assert [line.split()[0] for line in lines[1:]] == NAMES
    assert "1 2.5 5 10" in lines[1]


def test_list_without_files(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "FOLDER", tmp_path)
    result = invoke("--list")
    assert f"mfpde: {NAMES[0]} has no file; mfpde reference --rebuild {NAMES[0]}" in result.stderr


def test_show(saved):
    result = invoke("--show", REBUILT, saved)
    assert result.exit_code == 0, result.output
    assert f"again: mfpde reference --rebuild {REBUILT}" in result.stdout
    assert "Reference for 'three-gaussians'" in result.stdout


def test_save_and_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["gaussian-bumps", "--tolerance", "1e-2", "--times", "0.5,1", "--moment", "x^2", "--output-at", "0,1",
             "--set", "alpha=0", "-q"]  # fmt: skip
    result = invoke(*words, "--save", "mine.h5")
    assert result.exit_code == 0, result.output
    found = mf.load_reference("mine.h5")
    assert found.command == (
        "mfpde reference gaussian-bumps --tolerance 0.01 --times 0.5,1 --output-at 0,1 --moment 'x^2' --set alpha=0"
    )
    assert found.problem.parameters["alpha"] == 0.0
    assert found["output at 2 inputs"].observable.x.tolist() == [0.0, 1.0]
    assert found["energy"].times.tolist() == [0.5, 1.0]
    result = invoke("--check", "mine.h5", "-q")
    assert result.exit_code == 0, result.output
    assert "the same bit for bit" in result.stdout
    assert invoke(*words, "--save", "mine.h5").exit_code == 2
    assert invoke(*words, "--save", "mine.h5", "-f").exit_code == 0
    assert "must end in .h5" in invoke(*words, "--save", "mine.txt").stderr


def test_check_finds_what_is_wrong(tmp_path, monkeypatch):
    """Numbers that were changed, and given right checksums: no checksum can tell."""
    found = mf.load_reference(REBUILT)
    energy = found["energy"]
    value = energy.value.copy()
    value[2] *= 1.0 + 1e-5  # bars are within 1e-6
    forged = (dataclasses.replace(energy, value=value), *found.observables[1:])
    forged = dataclasses.replace(found, observables=forged)
    folder = tmp_path / "pack"
    folder.mkdir()
    monkeypatch.setattr(pack, "FOLDER", folder)
    save_reference(forged, folder / f"{REBUILT}.h5", command=found.command, configuration=found.configuration)
    result = invoke("--check", REBUILT, "-q")
    assert result.exit_code == 4, result.output
    assert re.search(r"FAILS: energy differs by \S+ times the sum of both bars", result.stdout)
    # damage, another recipe
    save_reference(found, folder / f"{REBUILT}.h5", command="other", configuration=found.configuration)
    result = invoke("--check", REBUILT, "-q")
    assert (result.exit_code, "FAILS: the command that rebuilds it is another one" in result.stdout) == (4, True)
    with h5py.File(folder / f"{REBUILT}.h5", "r+") as file:
        file["energy/bar"][0] = 1.0
    result = invoke("--check", REBUILT, "-q")
    assert (result.exit_code, "FAILS: " in result.stdout) == (4, True)
    assert "1 of 1 references do not hold" in result.stderr


def test_rebuild_goes_on_where_it_stopped(tmp_path):
    result = invoke("--rebuild", REBUILT, "--into", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"{REBUILT}: written in " in result.stdout
    assert "Reference for 'linear-neuron'" in result.stdout
    assert "characteristics, " in result.stderr
    result = invoke("--rebuild", REBUILT, "--into", tmp_path, "--resume")
    assert result.stdout == f"{REBUILT}: is there already\n"
    (tmp_path / f"{REBUILT}.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert not pack.is_built(REBUILT, tmp_path)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "needs one problem's name or TOML file, or --list"),
        (["linear-neuron", "quadratic-well"], "got 2: linear-neuron quadratic-well"),
        (["--list", "--check"], "--list and --check do not go together"),
        (["--list", "three-gaussians"], "--list takes no names"),
        (["--show"], "--show needs a name; valid: three-gaussians"),
        (["--show", "three"], "unknown reference 'three'; valid: three-gaussians"),
        (["--check", "three"], "unknown reference 'three'; valid: three-gaussians"),
        (["--rebuild", "three"], "unknown reference 'three'; valid: three-gaussians"),
        (["--rebuild", "three-gaussians", "--into", "nowhere"], "the folder .* does not exist"),
        (["--rebuild", "--tolerance", "1e-3"], "--tolerance does not go with --rebuild"),
        (["--check", "--set", "alpha=0"], "--set does not go with --check"),
        (["--check", "--save", "x.h5"], "--save does not go with --check"),
        (["linear-neuron", "--resume"], "--resume needs --rebuild"),
        (["linear-neuron", "--into", "."], "--into needs --rebuild"),
    ],
)
def test_what_does_not_fit_is_refused(words, match):
    result = invoke(*words)
    assert_refused(result)
    assert re.search(match, result.stderr)


def test_verify(saved, path):
    found = mf.verify(pack.path_of(REBUILT))
    assert found.ok
    assert "energy: both routes apart, in bars" in str(found)
    one = made_up()
    off = dataclasses.replace(one.observables[1], other_value=np.full(2, 4.0), other_bar=np.ones(2),
                              value=np.ones(2), bar=np.ones(2))  # fmt: skip
    save_reference(dataclasses.replace(one, observables=(off,)), path)
    assert not mf.verify(path).ok
    result = shared.invoke("verify", path)
    assert result.exit_code == 5


@pytest.mark.parametrize("value", [1.001, np.nan, np.inf])
def test_verify_names_what_has_changed(saved, value):
    with h5py.File(saved, "r+") as file:
        file["energy/value"][0] = value
        file["volatile"].attrs["date"] = "2021-01-01"
    result = shared.invoke("verify", saved)
    assert result.exit_code == 5
    assert "FAIL  datasets whose checksum is wrong (energy/value, volatile)" in result.stdout
    with pytest.raises(FileFormatError, match="the checksum of energy/value, volatile is not the one in the file"):
        read_reference(saved)
