"""`mfpde diff`: what two files differ in, and whether that counts."""

import json
import shutil

import h5py
import numpy as np
import pytest
from shared import Gone, assert_refused, die, invoke

import mfpde as mf
from mfpde.pack import save_reference
from mfpde.verification.differences import differences

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def runs():
    return [mf.solve(mf.problems.linear_neuron(alpha=a), 40, 0.2, save=3, method=mf.Strang()) for a in (0.0, 2.0)]


@pytest.fixture
def pair(runs, folder):
    """Two equal files, of which tests change the second."""
    runs[0].save("a.h5")
    shutil.copy("a.h5", "b.h5")
    return folder


def told(*arguments, code):
    result = invoke("diff", *arguments)
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    return result.stdout


def test_equal_runs(pair):
    again = mf.solve(mf.problems.linear_neuron(alpha=0.0), 40, 0.2, save=3, method=mf.Strang())
    again.save("b.h5")  # at another time
    count = differences("a.h5", "b.h5").equal
    assert told("a.h5", "b.h5", code=0) == f"a.h5 and b.h5 are equal: {count} of {count} datasets are the same\n"
    assert told("a.h5", "b.h5", "-q", code=0) == ""


def test_equal_sweeps(folder):
    """Seconds and hosts are no results of theirs, as dates are none of runs."""
    pytest.importorskip("xarray")
    given = {"shape": 20, "t_end": 0.05, "save": 2, "estimate": False, "progress": False}
    for name in ("a.h5", "b.h5"):
        mf.sweep(mf.problems.linear_neuron, {"alpha": [0.0, 1.0]}, output=name, **given)
    with h5py.File("b.h5", "r+") as file:
        file["seconds"][...] = 1e3
        file["host"][...] = b"another"
    assert told("a.h5", "b.h5", code=0).startswith("a.h5 and b.h5 are equal: ")
    with h5py.File("b.h5", "r+") as file:
        file["energy"][1] += 1.0
    assert [each.name for each in differences("a.h5", "b.h5").datasets] == ["energy"]


def test_other_runs(runs, pair):
    runs[1].save("b.h5")
    text = told("a.h5", "b.h5", code=1)
    lines = [line.split() for line in text.splitlines()]
    assert ["parameters.alpha", "0", "2"] in lines
    greatest = np.abs(runs[0].energy - runs[1].energy)
    row = next(line for line in lines if line[0] == "energy")
    largest = max(np.abs(runs[0].energy).max(), np.abs(runs[1].energy).max())
    assert row == ["energy", f"{greatest.max():.3g}", f"{greatest.max() / largest:.2g}", f"[{greatest.argmax()}]"]
    off = np.abs(runs[0].density - runs[1].density)
    found = {each.name: each for each in differences("a.h5", "b.h5").datasets}
    assert found["density"].greatest == off.max()
    assert off[found["density"].where] == off.max()
    assert told("a.h5", "b.h5", "-q", code=1) == ""


def test_a_single_bit(pair):
    with h5py.File("b.h5", "r+") as file:
        old = file["density"][2, 7]
        file["density"][2, 7] = np.nextafter(old, 1.0)
    (found,) = differences("a.h5", "b.h5").datasets
    assert (found.name, found.where, found.greatest) == ("density", (2, 7), np.nextafter(old, 1.0) - old)
    told("a.h5", "b.h5", code=1)
    told("a.h5", "b.h5", "--tolerance", "1e-12", code=0)
    told("a.h5", "b.h5", "--tolerance", "0", code=1)


@pytest.mark.parametrize(("off", "code"), [(0.9e-6, 0), (1.1e-6, 1)])
def test_the_tolerance_is_a_share_of_the_largest(pair, off, code):
    with h5py.File("b.h5", "r+") as file:
        energy = file["energy"][()]
        file["energy"][2] = energy[2] + off * energy.max()
    told("a.h5", "b.h5", "--tolerance", "1e-6", code=code)


def test_zeros_and_what_is_no_number(pair):
    """Equal as numbers, other bits; and a number beside none, which no tolerance allows."""
    with h5py.File("a.h5", "r+") as one, h5py.File("b.h5", "r+") as other:
        one["density"][0, 0], other["density"][0, 0] = 0.0, -0.0
    (found,) = differences("a.h5", "b.h5").datasets
    assert (found.greatest, found.why) == (0.0, "zeros or numbers that are none have other bits")
    assert not differences("a.h5", "b.h5", 0.0)
    with h5py.File("b.h5", "r+") as other:
        other["density"][0, 0] = np.nan
    assert differences("a.h5", "b.h5", 1e3).datasets[0].greatest == np.inf


def test_what_counts(pair):
    """Versions count, unless numbers alone are asked for; dates and commands never do."""
    with h5py.File("b.h5", "r+") as file:
        file["volatile"].attrs["date"] = "yesterday"
        told("a.h5", "b.h5", code=0)
        file.attrs["provenance"] = file.attrs["provenance"].replace('numpy = "', 'numpy = "9.')
    text = told("a.h5", "b.h5", code=1)
    assert "versions" in text
    assert f"numpy  {np.__version__}  9.{np.__version__}" in " ".join(text.split("\n")).replace("   ", "  ")
    told("a.h5", "b.h5", "--numbers", code=0)
    with h5py.File("b.h5", "r+") as file:
        file.attrs["result"] = "MAX_STEPS"
    assert differences("a.h5", "b.h5").results == {"result": ("SUCCESS", "MAX_STEPS")}


def test_shapes_and_what_only_one_has(pair):
    with h5py.File("b.h5", "r+") as file:
        del file["energy"]
        file["extra"] = np.ones(3)
        del file["steps/mass"]
        file["steps/mass"] = np.ones(2)
    found = {each.name: each.why for each in differences("a.h5", "b.h5").datasets}
    rows = len(mf.load("a.h5").diagnostics["mass"])
    assert found == {
        "energy": "only the first file has it",
        "extra": "only the second file has it",
        "steps/mass": f"shapes ({rows},) and (2,)",
    }


def test_json(runs, pair):
    runs[1].save("b.h5")
    found = json.loads(told("a.h5", "b.h5", "--json", code=1))
    assert found["differ"] is True
    assert found["settings"]["parameters.alpha"] == [0.0, 2.0]
    assert {each["name"] for each in found["datasets"]} >= {"energy", "density"}


def test_kinds(pair, runs):
    state = mf.stationary(mf.problems.torus_langevin(), 24, estimate=False)
    state.save("state.h5")
    state.save("again.h5")
    told("state.h5", "again.h5", code=0)
    assert "kind  solution  stationary state" in told("a.h5", "state.h5", code=1)
    told("a.h5", "state.h5", "--numbers", code=1)
    with pytest.raises(Gone):
        mf.solve(mf.problems.linear_neuron(alpha=0.0), 40, 0.2, save=3, method=mf.Strang(), output="c.h5", stop=die(2))
    found = differences("a.h5", "c.h5")
    assert found.results["result"] == ("SUCCESS", "UNFINISHED")


def test_durations_of_references_do_not_count(folder):
    save_reference(mf.reference(mf.problems.linear_neuron(), 1e-2, times=[0.1]), "a.h5")
    shutil.copy("a.h5", "b.h5")
    with h5py.File("b.h5", "r+") as file:
        file["volatile/seconds"][...] = 1e3
    told("a.h5", "b.h5", code=0)
    with h5py.File("b.h5", "r+") as file:
        file["energy/bar"][...] *= 2
    told("a.h5", "b.h5", code=1)


def test_texts_of_runs_are_compared_by_their_keys(folder):
    for name, value in (("a", "0.1"), ("b", "0.2")):
        words = ("run", "linear-neuron", "--shape", "20", "--t-end", value, "--save", "2", "--no-plot", "-q")
        assert invoke(*words, "-o", f"{name}.h5").exit_code == 0
    found = differences("a.h5", "b.h5").settings
    assert found.keys() == {"t_end", "save"}
    assert found["t_end"] == (0.1, 0.2)


def test_refusals(pair):
    (pair / "text.h5").write_text("hello")
    (pair / "cut.h5").write_bytes((pair / "a.h5").read_bytes()[:3000])
    for arguments, text in (
        (("a.h5", "nothing.h5"), "cannot read nothing.h5: there is no such file"),
        (("nothing.h5", "a.h5"), "cannot read nothing.h5: there is no such file"),
        (("a.h5", "."), "it is a folder"),
        (("text.h5", "a.h5"), "text.h5 is not an HDF5 file"),
        (("a.h5", "cut.h5"), "cut.h5 is truncated or damaged"),
        (("a.h5", "b.h5", "--tolerance", "-1"), "--tolerance -1"),
        (("a.h5", "b.h5", "--tolerance", "nan"), "--tolerance nan"),
    ):
        assert_refused(invoke("diff", *arguments), text)


def test_other_files_are_not_reached(pair):
    """Links and external storage are not followed."""
    with h5py.File("b.h5", "r+") as file:
        file["outside"] = h5py.ExternalLink("a.h5", "density")
        file["around"] = h5py.SoftLink("/density")
        file.create_dataset("there", (3,), "<f8", external=[("a.h5", 0, 24)])
    with h5py.File("a.h5", "r+") as file:
        file["there"] = np.ones(3)
    assert_refused(invoke("diff", "a.h5", "b.h5"), "/there holds neither numbers nor text of the file itself")
