"""`mfpde init`: a commented file that runs as it is, and is the run of its defaults."""

import re
from pathlib import Path

import numpy as np
import pytest
from shared import assert_refused, invoke

import mfpde as mf
from mfpde.runs.configuration import load_config

pytestmark = pytest.mark.usefixtures("folder")

HEADER = "id,age,bmi,name,constant,y\n"


def table(m=12, *, labels=False):
    rng = np.random.default_rng(0)
    y = rng.choice([-1, 1], m) if labels else rng.normal(size=m)
    rows = (f"{i},{rng.normal():.3f},{rng.normal():.3f},x{i},7,{y[i]}\n" for i in range(m))
    Path("points.csv").write_text(HEADER + "".join(rows))


def started(*arguments):
    result = invoke("init", *arguments)
    assert result.exit_code == 0, result.output
    return re.fullmatch(r"written: (.*); mfpde run \1 computes it\n", result.stdout)[1]


@pytest.mark.parametrize("name", mf.problems.names())
@pytest.mark.filterwarnings("ignore:the box:mfpde.TruncationWarning")
def test_problems(name):
    """The same problem, mesh and end time; every parameter has a line, and most a word of explanation."""
    path = started(name)
    assert path == f"{name}.toml"
    configuration = load_config(path)
    usual = mf.problems.get(name)
    assert configuration.problem().fingerprint() == usual.fingerprint()
    arguments = configuration.solve_arguments()
    assert tuple(arguments["shape"]) == usual.grid(None).shape
    assert (arguments["t_end"], arguments["save"]) == (usual.t_end, 11)
    text = Path(path).read_text()
    for key in usual.parameters:
        assert key == "t_end" or re.search(rf"^(# )?{key} = ", text, re.M), key
    assert max(map(len, text.splitlines())) <= 100


def test_parameters_that_depend_on_others_are_left_to_them():
    """The box of the bad start is wider: a value would hold for both."""
    text = Path(started("three-gaussians")).read_text()
    assert "\n# Birth-death rate\nalpha = 5.0\n" in text
    assert "\n# amplitude = 7.0\n" in text
    Path("bad.toml").write_text(text.replace('start = "good"', 'start = "bad"'))
    assert load_config("bad.toml").problem().axes == mf.problems.three_gaussians("bad").axes


def test_what_is_commented_out_is_valid(folder):
    """Every line that may be wanted can be had by taking its mark away."""
    table()
    for path in (started(), started("points.csv")):
        text = Path(path).read_text()
        offered = re.findall(r"^# (\w+ = .*)$", text, re.M)
        assert len(offered) >= 4
        for line in offered:
            if line.endswith("..."):
                continue
            Path("one.toml").write_text(text.replace(f"# {line}", line, 1))
            load_config("one.toml").problem()


def test_it_runs_at_once():
    table()
    for path in (started("linear-neuron"), started("points.csv", "-o", "fit.toml")):
        small = ["--shape", "8", "--t-end", "0.05", "-q", "--no-plot"]
        assert invoke("run", path, *small, "-o", f"{path}.h5").exit_code == 0
        assert mf.load(f"{path}.h5").result is mf.Result.SUCCESS


def test_columns_of_a_table():
    """Two inputs that vary and do not number the rows, the last column of numbers as output; others are named."""
    table()
    path = started("points.csv")
    network = load_config(path).tables.network
    assert (network.inputs, network.outputs, network.loss) == (["age", "bmi"], ["y"], "squared")
    assert "# Not used: id, name, constant." in Path(path).read_text()
    problem = load_config(path).problem()
    assert [axis.name for axis in problem.axes] == ["c", "a1", "a2", "b"]
    table(labels=True)
    assert load_config(started("points.csv", "--force")).tables.network.loss == "logistic"


def test_tables_without_a_header_and_in_other_folders(folder):
    (folder / "data").mkdir()
    np.savetxt("data/my points.csv", np.random.default_rng(0).normal(size=(9, 2)), delimiter=";")
    (folder / "runs").mkdir()
    network = load_config(started("data/my points.csv", "-o", "runs/é☃.toml")).tables.network
    assert (network.data, network.inputs, network.outputs) == ("../data/my points.csv", [0], [1])


def test_arrays():
    rng = np.random.default_rng(0)
    np.savez("points.npz", x=rng.normal(size=9), y=rng.choice([-1.0, 1.0], 9))
    configuration = load_config(started("points.npz"))
    assert configuration.tables.network.loss == "logistic"
    assert [axis.name for axis in configuration.problem().axes] == ["c", "a", "b"]
    np.savez("two.npz", x=rng.normal(size=9), y=rng.normal(size=(9, 2)))
    assert [axis.name for axis in load_config(started("two.npz")).problem().axes] == ["c1", "c2", "a", "b"]
    np.savez("many.npz", x=rng.normal(size=(9, 4)), y=rng.normal(size=9))
    assert_refused(invoke("init", "many.npz"), "4 inputs and 1 outputs need 6 parameters a neuron")


def test_refusals(folder):
    table()
    (folder / "there.toml").write_text("mine")
    (folder / "words.csv").write_text("a,b\nx,y\nz,w\n")
    (folder / "flat.csv").write_text("a,b\n1,2\n1,3\n")
    (folder / "ragged.csv").write_text("a,b\n1,2\n1\n")
    (folder / "fixed.csv").write_text("a,y\n1,2\n5,2\n")
    (folder / "holes.csv").write_text("a,y\n1,nan\n5,2\n")
    (folder / "folder.toml").mkdir()
    for arguments, text in (
        (["three-gausians"], "did you mean 'three-gaussians'?"),
        (["network"], "give a problem's name, or a file of data"),
        (["there.toml"], "give a problem's name, or a file of data"),
        (["nothing.csv"], "nothing.csv does not exist"),
        (["words.csv"], "0 columns hold numbers only"),
        (["holes.csv"], "1 columns hold numbers only"),
        (["flat.csv"], "no column before 'b' varies"),
        (["ragged.csv"], "line 3 has 1 columns, the first line 2"),
        (["fixed.csv"], "output 0 is constant"),
        (["linear-neuron", "-o", "there.toml"], "there.toml exists"),
        (["linear-neuron", "-o", "run.h5"], "must end in .toml"),
        (["linear-neuron", "-o", "new/run.toml"], "the folder new does not exist"),
        (["linear-neuron", "-o", "folder.toml"], "folder.toml is a folder"),
    ):
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        assert_refused(invoke("init", *arguments), text)
        assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
