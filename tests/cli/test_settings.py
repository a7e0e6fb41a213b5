"""``--set alpha=`` and ``--set temperature=`` change the rate and the temperature, or are refused in one line."""

import pytest
from shared import assert_refused, invoke

import mfpde as mf
from mfpde.runs.configuration import load_config, named_config
from mfpde.runs.tables import ConfigurationError

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.filterwarnings("ignore:the box:mfpde.TruncationWarning")]

VALUE = 0.037
NETWORK = '[network]\ndata = "points.csv"\n'
SCHEDULE = {"kind": "power-law", "exponent": 1.0, "scale": 2.0}


@pytest.mark.parametrize("key", ["alpha", "temperature"])
@pytest.mark.parametrize("name", mf.problems.names())
def test_named_problems(name, key):
    """It is what was asked for, and nothing else is another one; or it is no parameter, and a way is named."""
    usual = mf.problems.get(name)
    if key not in usual.parameters:
        with pytest.raises(ConfigurationError) as refusal:
            named_config(name, {key: VALUE})
        said = str(refusal.value)
        assert "\n" not in said
        assert f"{name}: parameters.{key} = {VALUE} is an unknown parameter of {name!r}; valid: " in said
        assert said.endswith(f"; in Python: problems.get({name!r}).replace({key}=...)")
        assert getattr(usual.replace(**{key: VALUE}), key)(0.0) == VALUE
        return
    problem = named_config(name, {key: VALUE}).problem()
    assert getattr(problem, key)(1.0) == VALUE
    other = {"alpha": "temperature", "temperature": "alpha"}[key]
    assert getattr(problem, other)(1.0) == getattr(usual, other)(1.0)


def test_most_have_one():
    """The test above would pass if all were refused."""
    takes = dict.fromkeys(("alpha", "temperature"), 0)
    for name in mf.problems.names():
        for key in takes:
            takes[key] += key in mf.problems.get(name).parameters
    assert takes == {"alpha": 24, "temperature": 9}


@pytest.mark.parametrize(
    "text",
    [
        NETWORK,
        NETWORK + "alpha = 3.0\n",
        NETWORK + "[dynamics]\nalpha = 3.0\ntemperature = 0.2\n",
        NETWORK
        + "[dynamics]\nalpha = {kind = 'inverse-log', scale = 0.1}\ntemperature = {kind = 'inverse-log', scale = 1}",
    ],
    ids=["neither", "alpha", "dynamics", "schedules"],
)
@pytest.mark.parametrize("value", [VALUE, SCHEDULE], ids=["number", "schedule"])
def test_networks(folder, text, value):
    """Wherever the file has them, and whether they are numbers or schedules."""
    (folder / "points.csv").write_text("0,1\n1,0.5\n2,0.2\n")
    (folder / "fit.toml").write_text(text)
    before = load_config("fit.toml").problem()
    wanted = mf.PowerLaw(1.0, 2.0)(0.5) if value is SCHEDULE else VALUE
    for key, other in (("alpha", "temperature"), ("temperature", "alpha")):
        problem = load_config("fit.toml", {key: value}).problem()
        assert getattr(problem, key)(0.5) == wanted, key
        assert getattr(problem, other)(0.5) == getattr(before, other)(0.5), key
    both = load_config("fit.toml", {"alpha": value, "temperature": value}).problem()
    assert both.alpha(0.5) == both.temperature(0.5) == wanted


def test_other_keys_of_the_dynamics(folder):
    (folder / "points.csv").write_text("0,1\n1,0.5\n2,0.2\n")
    (folder / "fit.toml").write_text(NETWORK)
    problem = load_config("fit.toml", {"reaction": "free-energy", "temperature": 0.1, "rates.b": 0.5}).problem()
    assert problem.reaction is mf.Reaction.FREE_ENERGY
    assert problem.metric == (None, None, 0.5)


def test_from_the_command_line(folder):
    """The run is that of the file, of the text in it and of the attributes."""
    (folder / "points.csv").write_text("0,1\n1,0.5\n2,0.2\n")
    (folder / "fit.toml").write_text("shape = 8\nt_end = 0.01\n" + NETWORK + "bias = false\n[output]\nsave = 2\n")
    settings = ("--set", "alpha=0.5", "--set", "temperature=0.25", "--no-plot", "-q")
    assert invoke("run", "fit.toml", *settings, "-o", "run.h5").exit_code == 0
    run = mf.load("run.h5")
    assert (run.problem.alpha(0.0), run.problem.temperature(0.0)) == (0.5, 0.25)
    assert (run.plain["alpha"], run.plain["temperature"]) == (0.5, 0.25)
    said = invoke("info", "run.h5").stdout
    assert "parameters   alpha = 0.5, bias = 0, data = points.csv, temperature = 0.25\n" in said
    assert "dynamics     alpha = 0.5, temperature = 0.25, reaction = balanced\n" in said
    for bad in ("temperature=-1", "temperature=hot", "alpha=-1", "alpha=[1]", "temperatur=1", "alpha=nan"):
        assert_refused(invoke("run", "fit.toml", "--set", bad), bad.partition("=")[0])


def test_sweeps_vary_them(folder):
    pytest.importorskip("xarray")
    (folder / "points.csv").write_text("0,1\n1,0.5\n2,0.2\n")
    (folder / "fit.toml").write_text("shape = 8\nt_end = 0.01\n" + NETWORK + "bias = false\n[output]\nsave = 2\n")
    found = mf.sweep("fit.toml", {"temperature": [0.0, 0.5], "alpha": [0.0, 1.0]})
    assert (found.status == "SUCCESS").all()
    assert found.energy.values[0, 0] != found.energy.values[1, 0]
