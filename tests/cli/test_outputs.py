"""Names of outputs with values of the run, folders that are made, and runs that are only foretold."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from shared import assert_refused, invoke

import mfpde as mf
from mfpde.cli.dry_run import _time
from mfpde.mesh.memory import run_memory
from mfpde.mesh.options import RunOptions
from mfpde.runs.forecast import TRIAL_CELLS, _extrapolated, forecast

RUN = ["run", "linear-neuron", "--shape", "20", "--t-end", "0.1", "--save", "2", "--no-plot", "-q"]

pytestmark = pytest.mark.usefixtures("folder")


def files(folder=Path()):
    return {path.as_posix() for path in folder.rglob("*")}


# ----- templates


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{problem}-alpha={alpha}.h5", "linear-neuron-alpha=3.h5"),
        ("{shape}-{t_end}-{target}-{temperature}.h5", "20-0.1-2-0.h5"),
        ("{scheme}-{method}-{controller}-{scheme.tolerance}.h5", "weno5-exponential-ssprk3-error-1e-05.h5"),
        ("{alpha:.2f}-{target:05.1f}-{problem:>15}.h5", "3.00-002.0-  linear-neuron.h5"),
        ("{{alpha}}={alpha}.h5", "{alpha}=3.h5"),
        ("plain.h5", "plain.h5"),
        ("é☃-{alpha}.hdf5", "é☃-3.hdf5"),
    ],
)
def test_names(template, name):
    assert invoke(*RUN, "-o", template).exit_code == 0
    assert files() == {name}


def test_values_are_those_of_the_run():
    """What the command line changes, and what is not given."""
    assert invoke(*RUN, "--set", "alpha=0.25", "--method", "strang", "-o", "{alpha}-{method}.h5").exit_code == 0
    assert files() == {"0.25-strang.h5"}
    run = mf.load("0.25-strang.h5")
    assert run.plain["alpha"] == 0.25
    assert run.configuration["method"] == repr(mf.Strang())


def test_names_of_networks(folder):
    np.savetxt("my points.csv", np.random.default_rng(0).normal(size=(9, 2)), delimiter=",")
    text = '[network]\ndata = "my points.csv"\nbias = false\nactivation = "erf"\nhalf_width = [3, 4.5]\n[dynamics]\n'
    (folder / "fit.toml").write_text(
        f"shape = [6, 7]\nt_end = 0.01\n{text}temperature = {{kind = 'inverse-log', scale = 1}}\n"
    )
    made = "{problem}-{data}-{activation}-{half_width}-{shape}-{temperature:.3g}-{loss}.h5"
    result = invoke("run", "fit.toml", "--no-plot", "-q", "--set", "loss=huber", "-o", made)
    assert result.exit_code == 0, result.output
    start = mf.InverseLog(1.0)(0.0)
    assert files() == {"fit.toml", "my points.csv", f"network-my points-erf-3x4.5-6x7-{start:.3g}-huber.h5"}


def test_values_lead_nowhere_else(folder):
    """A value with a slash, as text of a user may have, makes no folder."""
    from mfpde.cli.templates import expanded

    assert expanded(Path("{a}.h5"), lambda: {"a": "../../etc/x:y\n"}) == Path(".._.._etc_x_y_.h5")


REFUSED = [
    ("{alfa}.h5", "there is no {alfa} in this run; did you mean 'alpha'? valid: 'problem', "),
    ("{}.h5", "there is no {} in this run"),
    ("{0}.h5", "there is no {0} in this run"),
    ("{alpha.real}.h5", "there is no {alpha.real} in this run"),
    ("{alpha[0]}.h5", "there is no {alpha[0]} in this run"),
    ("{alpha!r}.h5", "{alpha} takes a format such as {alpha:.2f}"),
    ("{alpha:d}.h5", "'d' is no format for alpha = 3"),
    ("{alpha:{target}}.h5", "{alpha} takes a format such as"),
    ("{alpha.h5", "write {{ and }} for braces of the name"),
    ("alpha}.h5", "write {{ and }} for braces of the name"),
    ("{alpha}", "must end in .h5 or .hdf5"),
    ("{alpha}/run.h5", "the folder 3 does not exist (mfpde run --mkdir makes it)"),
]


@pytest.mark.parametrize(("template", "text"), REFUSED)
def test_names_that_are_refused(template, text):
    assert_refused(invoke(*RUN, "-o", template), text)
    assert files() == set()


# ----- folders


def test_folders_are_made():
    assert invoke(*RUN, "--mkdir", "-o", "runs/{problem}/{alpha}.h5").exit_code == 0
    assert files() == {"runs", "runs/linear-neuron", "runs/linear-neuron/3.h5"}
    assert invoke(*RUN, "--mkdir", "-o", "runs/{problem}/again.h5").exit_code == 0  # it is there


@pytest.mark.parametrize("more", [["--set", "alpha=-1"], ["--shape", "100000000000"], ["--max-steps", "0"]])
def test_folders_of_runs_that_are_refused_are_gone(more):
    os.mkdir("there")
    assert_refused(invoke(*RUN, *more, "--mkdir", "-o", "there/new/deep/run.h5"))
    assert files() == {"there"}


def test_folders_that_cannot_be_made(folder, monkeypatch):
    (folder / "file").write_text("mine")
    assert_refused(invoke(*RUN, "--mkdir", "-o", "file/new/run.h5"), "is a file, and no folder")
    (folder / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    assert_refused(invoke(*RUN, "--mkdir", "-o", "locked/new/run.h5"), "cannot be written to")
    assert_refused(invoke(*RUN, "--mkdir", "--dry-run", "-o", "locked/new/run.h5"), "cannot be written to")
    assert files() == {"file", "locked"}


def test_sweeps_make_folders():
    pytest.importorskip("xarray")
    words = ("linear-neuron", "--vary", "alpha=0,1", "--set", "shape=20", "--set", "t_end=0.05", "--no-plot", "-q")
    assert invoke("sweep", *words, "--mkdir", "-o", "new/sweep.h5").exit_code == 0
    assert files() == {"new", "new/sweep.h5"}


# ----- dry runs


def foretold(*arguments):
    result = invoke(*arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    rows = [line.strip().split("  ", 1) for line in result.stdout.splitlines()]
    return {name: value.strip() for name, value in rows}


def test_a_dry_run_says_and_writes_nothing():
    rows = foretold("run", "linear-neuron", "--shape", "30", "--mkdir", "-o", "runs/{alpha}.h5")
    problem = mf.problems.linear_neuron()
    run = mf.solve(problem, 30, save=2)
    assert rows["mesh"] == "30 cells"
    assert rows["scheme"] == "Weno5(tail_ratio=10000.0), ExponentialSSPRK3()"
    needs = run_memory(problem, RunOptions.of({"shape": 30, "output": "x"}), problem.grid(30)).total
    assert rows["memory"].startswith(f"about {needs / 2**20:.3g} MiB, of ")
    assert f"{run.stats['steps']} steps on 30 cells" in rows["run time"]
    assert (rows["would write"], rows["would make"]) == ("runs/3.h5, runs/3.png", "the folder runs")
    assert files() == set()
    plane = foretold("run", "gaussian-bumps", "--set", "centres=[[-1, 0], [1, 0]]", "--shape", "12", "--t-end", "0.01")
    assert plane["mesh"] == "12 x 12 = 144 cells"
    assert "would make" not in plane


def test_a_dry_run_refuses_what_a_run_refuses(folder):
    (folder / "there.h5").write_text("mine")
    for arguments, text in (
        (["-o", "there.h5"], "there.h5 exists; use another name (-o) or --force"),
        (["-o", "new/run.h5"], "the folder new does not exist"),
        (["-o", "run.txt"], "must end in .h5 or .hdf5"),
        (["--shape", "100000000000"], "GiB"),
        (["--set", "alpha=-1"], "alpha"),
        (["--scheme", "weno"], "did you mean 'weno5'?"),
    ):
        assert_refused(invoke(*RUN, *arguments, "--dry-run"), text)
    assert foretold(*RUN, "-o", "there.h5", "--force")["would write"] == "there.h5"
    assert files() == {"there.h5"}


def test_a_dry_run_of_a_search():
    rows = foretold("run", "linear-neuron", "--tolerance", "1e-3", "--time-limit", "2m")
    assert rows["accuracy"] == "0.001 of the scale of the energy; the search finds the mesh"
    assert rows["run time"] == "2 minutes at most"


def test_a_dry_run_of_a_run_that_goes_on():
    assert invoke(*RUN, "-o", "run.h5").exit_code == 0
    assert foretold(*RUN, "-o", "run.h5", "--resume")["would go on"] == "with the run in run.h5"


class Clock:
    """Each reading is so many seconds after the one before."""

    def __init__(self, *seconds):
        self.seconds, self.now = iter(seconds), 0.0

    def __call__(self):
        self.now += next(self.seconds)
        return self.now


def test_time_of_a_mesh_that_is_tried_itself():
    """What making it takes, and a second of steps: here all of them."""
    run = mf.solve(mf.problems.linear_neuron(), 30, 0.5, save=2)
    found = forecast(mf.problems.linear_neuron(), {"shape": 30, "t_end": 0.5}, Clock(0, 9, 0, 2, 0, 5))
    assert found.steps == found.tried == run.stats["steps"]
    each = (5 - 2) / (run.stats["steps"] - 3)
    assert found.seconds == pytest.approx(2 + run.stats["steps"] * each)


def test_time_of_a_mesh_that_is_too_large_to_be_tried():
    """Shorter steps in proportion to the cells along an axis, each in proportion to all cells."""
    problem = mf.problems.linear_neuron()
    options = {"shape": 4 * TRIAL_CELLS, "t_end": 1e-5, "scheme": mf.Upwind(), "estimate": False}
    found = forecast(problem, options, Clock(0, 9, 0, 2, 0, 5))
    assert found.trial == (TRIAL_CELLS,)
    assert found.steps == 4 * found.tried
    each = (5 - 2) / max(found.tried - 3, 1)
    assert found.seconds == pytest.approx(4 * (2 + 4 * found.tried * each))
    assert found.bytes_saved == 8 * 4 * TRIAL_CELLS * 12


def test_time_of_a_run_that_is_cut_short():
    """The rest at the last length."""
    run = mf.solve(mf.problems.linear_neuron(), 30, 0.5, save=2, max_steps=5, throw=False)
    steps, _ = _extrapolated(run, 1.0)
    assert steps == 5 + (0.5 - run.state.t) / run.diagnostics["dt"][-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "0.012 seconds"), (59.0, "59 seconds"), (119.0, "120 seconds"), (120.0, "2 minutes"),
     (7200.0, "2 hours"), (1e6, "12 days"), (np.inf, "for ever")],
)  # fmt: skip
def test_times_in_words(seconds, text):
    assert _time(seconds) == text


def test_help_names_them():
    text = re.sub(r"\s+", " ", invoke("run", "--help").stdout)
    for word in ("--mkdir", "--dry-run", "{alpha}"):
        assert word in text
