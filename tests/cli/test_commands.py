"""The command line: what it writes, what it prints, how it refuses, how it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from shared import ROOT, assert_refused, invoke, python

import mfpde as mf
from mfpde.mesh import run

RUN = ["run", "linear-neuron", "--shape", "60", "--t-end", "0.2", "--save", "3", "--no-plot"]

# every test works in a folder of its own
pytestmark = pytest.mark.usefixtures("folder")


def good(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


def files(folder):
    return {path.name for path in folder.rglob("*")}


# ----- run


def test_run_writes_the_solution_that_the_library_computes(folder):
    result = good(*RUN, "--set", "alpha=0", "--set", "target=1.5", "-o", "run.h5")
    assert files(folder) == {"run.h5"}
    loaded = mf.load("run.h5")
    same = mf.solve(mf.problems.linear_neuron(alpha=0.0, target=1.5), (60,), 0.2, save=3, progress=False)
    assert np.array_equal(loaded.density, same.density)
    assert np.array_equal(loaded.energy, same.energy)
    assert loaded.problem.parameters["alpha"] == 0.0
    assert result.stderr == ""
    assert "success: reached the end time" in result.stdout
    assert "written: run.h5" in result.stdout


def test_run_prints_a_row_a_save_time():
    result = good(*RUN)
    loaded = mf.load("linear-neuron.h5")
    lines = result.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:2] == ["t", "energy"])
    rows = [line.split() for line in lines[head + 1 : head + 4]]
    assert [float(row[0]) for row in rows] == [0.0, 0.1, 0.2]
    assert [float(row[1]) for row in rows] == pytest.approx(loaded.energy, rel=1e-8)
    time = loaded.diagnostics["time"]
    for row, t in zip(rows, loaded.times, strict=True):
        i = int(np.flatnonzero(time == t)[0])
        assert float(row[2]) == pytest.approx(loaded.diagnostics["optimality_gap"][i], rel=1e-2)
        assert float(row[3]) == pytest.approx(1.0, abs=1e-11)
        assert float(row[4]) == pytest.approx(loaded.diagnostics["minimum"][i], rel=1e-2)


def test_quiet_prints_nothing():
    result = good(*RUN, "--quiet")
    assert result.stdout == ""
    assert result.stderr == ""


def test_schemes_methods_and_settings_arrive():
    good(
        *RUN, "--scheme", "muscl", "--method", "strang", "--set", "scheme.limiter=mc",
        "--set", "scheme.controller=courant", "--set", "scheme.fraction=0.5",
    )  # fmt: skip
    configuration = mf.load("linear-neuron.h5").configuration
    assert configuration["scheme"] == repr(mf.Muscl(mf.Limiter.MC))
    assert configuration["method"] == repr(mf.Strang())
    assert configuration["controller"] == repr(mf.CourantControl(fraction=0.5))


def test_save_times_and_shapes_in_both_spellings():
    good("run", "gaussian-bumps", "--set", "centres=[[-1, 0], [1, 0]]", "--shape", "12x10", "--save", "0.01,0.02",
         "--t-end", "0.02", "--threads", "1", "--no-plot", "-q")  # fmt: skip
    loaded = mf.load("gaussian-bumps.h5")
    assert loaded.grid.shape == (12, 10)
    assert loaded.times.tolist() == [0.0, 0.01, 0.02]
    small = ["run", "gaussian-bumps", "--set", "centres=[[-1, 0], [1, 0]]", "--t-end", "0.02", "--save", "2"]
    good(*small, "--shape", "12", "--threads", "1", "--no-plot", "-q", "-o", "square.h5")
    square = mf.load("square.h5")
    assert square.grid.shape == (12, 12)  # and the text that it can be run again from says the same
    assert "shape = [\n    12,\n    12,\n]" in square.configuration["toml"]


def test_save_times_that_differ_by_rounding_are_one():
    """As a shell or Python adds them up: ``seq`` and ``np.cumsum`` end a unit of the last place beside the end."""
    tenths = ",".join(repr(t) for t in (0.1, 0.2, 0.30000000000000004, 0.3, 0.9999999999999999))
    good("run", "linear-neuron", "--shape", "40", "--t-end", "1", "--save", tenths, "--no-plot", "-q", "-o", "run.h5")
    assert mf.load("run.h5").times.tolist() == [0.0, 0.1, 0.2, 0.3, 1.0]
    Path("run.toml").write_text(f'problem = "linear-neuron"\nshape = [40]\nt_end = 1.0\n[output]\nsave = [{tenths}]\n')
    good("run", "run.toml", "--no-plot", "-q", "-o", "again.h5")
    assert mf.load("again.h5").times.tolist() == [0.0, 0.1, 0.2, 0.3, 1.0]
    good("resume", "run.h5", "--until", "2", "--save", f"1.5,{1.5 + 3e-16!r},1.9999999999999998", "-q", "--no-plot")
    assert mf.load("run.h5").times.tolist() == [0.0, 0.1, 0.2, 0.3, 1.0, 1.5, 2.0]


def test_an_existing_file_is_kept_unless_forced(folder):
    (folder / "linear-neuron.h5").write_text("mine")
    result = invoke(*RUN)
    assert result.exit_code == 2
    assert "linear-neuron.h5 exists" in result.stderr
    assert (folder / "linear-neuron.h5").read_text() == "mine"
    good(*RUN, "--force")
    assert mf.load("linear-neuron.h5").result is mf.Result.SUCCESS


def test_a_picture_lies_beside_the_solution(folder):
    arguments = [argument for argument in RUN if argument != "--no-plot"]
    good(*arguments)
    assert files(folder) == {"linear-neuron.h5", "linear-neuron.png"}
    assert (folder / "linear-neuron.png").read_bytes()[:4] == b"\x89PNG"
    (folder / "linear-neuron.h5").unlink()
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "linear-neuron.png exists" in result.stderr
    assert files(folder) == {"linear-neuron.png"}


def test_a_run_survives_a_picture_that_fails(monkeypatch, folder):
    def fail(solution, path):
        raise ValueError("no\nink")

    monkeypatch.setattr("mfpde.runs.pictures.plot", fail)
    result = good(*[argument for argument in RUN if argument != "--no-plot"])
    assert result.stderr == "warning: no picture: no ink\n"
    assert files(folder) == {"linear-neuron.h5"}


# ----- networks and TOML


def data(folder, m=40):
    rng = np.random.default_rng(3)
    x = rng.normal(size=m)
    y = np.tanh(2 * x) + 0.1 * rng.normal(size=m)
    rows = "\n".join(f"{i},{a!r},{b!r}" for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)))
    (folder / "points.csv").write_text(f"id,bmi,y\n{rows}\n")
    return x, y


NETWORK = """
shape = [10, 10, 10]
t_end = 0.2
[network]
data = "points.csv"
inputs = ["bmi"]
outputs = ["y"]
standardise = true
half_width = 3.0
alpha = 2.0
initial = {c = {distribution = "normal", mean = 0.1, std = 0.4}}
[scheme]
transport = "muscl"
[output]
save = 2
plot = false
"""


def test_a_network_from_toml_is_the_same_run_as_from_python(folder):
    from scipy import stats

    x, y = data(folder)
    (folder / "fit.toml").write_text(NETWORK)
    good("run", "fit.toml")
    loaded = mf.load("fit.h5")
    initial = mf.Product(c=stats.norm(0.1, 0.4), a=stats.norm(0, 0.375), b=stats.norm(0, 0.375))
    problem = mf.problems.network(
        (x - x.mean()) / x.std(), (y - y.mean()) / y.std(), half_width=3.0, alpha=2.0, initial=initial
    )
    same = mf.solve(problem, (10, 10, 10), 0.2, scheme=mf.Muscl(), save=2, progress=False)
    assert np.array_equal(loaded.density, same.density)
    assert np.array_equal(loaded.energy, same.energy)
    assert loaded.energy[-1] < loaded.energy[0]


def test_a_solution_holds_the_text_that_makes_it_again(folder):
    data(folder)
    (folder / "fit.toml").write_text(NETWORK)
    (folder / "runs").mkdir()
    good("run", "fit.toml", "-o", "runs/first.h5", "--set", "alpha=1")
    text = good("info", "runs/first.h5", "--toml").stdout
    assert "alpha = 1" in text
    assert 'data = "../points.csv"' in text
    (folder / "runs" / "again.toml").write_text(text)
    good("run", "runs/again.toml", "-o", "runs/again.h5")
    first, again = mf.load("runs/first.h5"), mf.load("runs/again.h5")
    assert np.array_equal(first.density, again.density)
    assert first.fingerprint == again.fingerprint
    assert first.configuration == again.configuration

    good(*RUN, "-o", "named.h5", "--method", "strang")
    (folder / "named.toml").write_text(good("info", "named.h5", "--toml").stdout)
    good("run", "named.toml", "-o", "named-again.h5")
    first, again = mf.load("named.h5"), mf.load("named-again.h5")
    assert np.array_equal(first.density, again.density)
    assert first.configuration == again.configuration


def test_output_path_of_the_file_and_of_the_command(folder):
    (folder / "sub").mkdir()
    text = (
        'problem = "linear-neuron"\nshape = [40]\nt_end = 0.05\n[output]\npath = "there.h5"\nplot = false\nsave = 2\n'
    )
    (folder / "sub" / "run.toml").write_text(text)
    good("run", "sub/run.toml", "-q")
    good("run", "sub/run.toml", "-q", "-o", "here.h5")
    assert files(folder) == {"sub", "run.toml", "there.h5", "here.h5"}
    assert (folder / "sub" / "there.h5").exists()


def test_warnings_are_one_line_each():
    result = good(
        "run", "gaussian-bumps", "--set", "half_width=4", "--set", "initial_std=0.9", "--shape", "60",
        "--t-end", "0.05", "--no-plot", "-q",
    )  # fmt: skip
    lines = result.stderr.splitlines()
    assert lines
    assert all(line.startswith("warning: ") for line in lines)
    assert "loses 8.8" in lines[0]
    assert "Warning" not in result.stderr


# ----- refusals

REFUSALS = [
    ["run"],
    ["run", "nothing"],
    ["run", "three-gausians"],
    ["run", "nothing.toml"],
    ["run", "."],
    ["run", "bad.toml"],
    ["run", "unknown.toml"],
    ["run", "nan.toml"],
    ["run", "gone.toml"],
    [*RUN, "extra"],
    [*RUN, "--frobnicate"],
    [*RUN, "--shape", "ten"],
    [*RUN, "--shape", "3"],
    [*RUN, "--shape", "20,20"],
    [*RUN, "--shape", "20,,20"],
    [*RUN, "--shape", "1000000000000"],
    [*RUN, "--t-end", "soon"],
    [*RUN, "--t-end", "nan"],
    [*RUN, "--t-end", "-1"],
    [*RUN, "--save", "1"],
    [*RUN, "--save", "a,b"],
    [*RUN, "--save", "0.1,7"],
    [*RUN, "--save", "1000000000000"],
    [*RUN, "--set", "alpha"],
    [*RUN, "--set", "=1"],
    [*RUN, "--set", "a..b=1"],
    [*RUN, "--set", "alpha="],
    [*RUN, "--set", "alpha=[1"],
    [*RUN, "--set", "alpha=high"],
    [*RUN, "--set", "alpha=-1"],
    [*RUN, "--set", "alfa=1"],
    [*RUN, "--set", "scheme.order=5"],
    [*RUN, "--set", "variance=-1"],
    [*RUN, "--scheme", "weno"],
    [*RUN, "--method", "rk4"],
    [*RUN, "--threads", "0"],
    [*RUN, "--threads", "many"],
    [*RUN, "--max-steps", "0"],
    [*RUN, "-o", "run.txt"],
    [*RUN, "-o", "missing/run.h5"],
    [*RUN, "-o", "folder.h5"],
    ["run", "gaussian-bumps", "--no-plot", "--set", "temperature=-0.1"],
    ["run", "gaussian-bumps", "--no-plot", "--set", "half_width=2"],
    ["run", "three-gaussians", "--no-plot", "--set", "reinjection=refill", "--method", "exponential-ssprk3"],
    ["frobnicate"],
    ["problems", "nothing"],
    ["info"],
    ["info", "missing.h5"],
    ["info", "bad.toml"],
    ["info", "folder.h5"],
    ["plot", "missing.h5"],
    ["plot", "bad.toml"],
    ["cite", "nothing"],
    ["cite", "missing.h5"],
    ["cite", "bad.toml"],
]


@pytest.mark.parametrize("arguments", REFUSALS, ids=" ".join)
def test_bad_input_is_one_line_and_writes_nothing(arguments, folder):
    (folder / "bad.toml").write_text("problem =\n")
    (folder / "unknown.toml").write_text('problem = "linear-neuron"\nspeed = 3\n')
    (folder / "gone.toml").write_text('[network]\ndata = "gone.csv"\n')
    (folder / "nan.toml").write_text('[network]\ndata = "nan.csv"\n')
    (folder / "nan.csv").write_text("x,y\n1,2\nnan,3\n")
    (folder / "folder.h5").mkdir()
    before = files(folder)
    result = invoke(*arguments)
    assert_refused(result)
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr) > len("mfpde: ") + 10
    assert files(folder) == before


def test_refusals_say_what_is_wrong(folder):
    (folder / "nan.toml").write_text('[network]\ndata = "nan.csv"\n')
    (folder / "nan.csv").write_text("x,y\n1,2\nnan,3\n")
    assert "line 3 (row 2), column 'x': nan is not finite" in invoke("run", "nan.toml").stderr
    assert "did you mean 'alpha'?" in invoke(*RUN, "--set", "alfa=1").stderr
    assert "did you mean 'weno5'?" in invoke(*RUN, "--scheme", "weno").stderr
    assert "did you mean 'double-well'?" in invoke("problems", "double-wel").stderr
    assert "GiB" in invoke(*RUN, "--shape", "1000000000000").stderr


# ----- runs that do not end well


def test_a_run_that_fails_saves_what_there_is():
    result = invoke(*RUN, "--max-steps", "3")
    assert result.exit_code == 3
    assert result.stderr.startswith("mfpde: the run failed at t = ")
    assert result.stderr.count("\n") == 1
    assert "raise max_steps" in result.stderr
    loaded = mf.load("linear-neuron.h5")
    assert loaded.result is mf.Result.MAX_STEPS
    assert loaded.stats["steps"] == 3


def test_a_fixed_step_that_is_too_large_fails():
    result = invoke(*RUN, "--set", "scheme.controller=fixed", "--set", "scheme.dt=5", "--t-end", "20")
    assert result.exit_code == 3
    assert mf.load("linear-neuron.h5").result is mf.Result.STEP_TOO_LARGE


def test_a_solution_that_cannot_be_saved_is_a_failure(monkeypatch, folder):
    def full(solution, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mfpde.mesh.solution_writer.save", full)
    result = invoke(*RUN)
    assert result.exit_code == 3
    assert result.stderr == (
        f"mfpde: cannot write linear-neuron.h5: No space left on device; {folder / 'linear-neuron.h5'} holds the run "
        "up to t = 0.2, from where mfpde.resume goes on\n"
    )
    assert files(folder) == {"linear-neuron.h5"}
    assert mf.load("linear-neuron.h5").result is mf.Result.UNFINISHED


def test_a_disk_without_room_for_the_file_is_refused(monkeypatch, folder):
    """Nothing has been computed but the first density: that is bad input, and no file is spoken of."""

    def full(descriptor, size):
        raise OSError(28, f"No space left on device for {size} bytes")

    monkeypatch.setattr("mfpde.support.files.in_place.reserve", full)
    result = invoke(*RUN)
    assert result.exit_code == 2
    assert re.fullmatch(r"mfpde: cannot write linear-neuron.h5: No space left on device for \d+ bytes\n", result.stderr)
    assert files(folder) == set()


def test_an_interrupted_run_saves_what_there_is(monkeypatch):
    solve = mf.solve

    def interrupted(problem, **arguments):
        def stop(snapshot):
            if snapshot.step == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return False

        return solve(problem, stop=stop, **arguments)

    monkeypatch.setattr(mf, "solve", interrupted)
    result = invoke(*RUN)
    assert result.exit_code == 130
    assert result.stderr.startswith("mfpde: interrupted at t = ")
    loaded = mf.load("linear-neuron.h5")
    assert loaded.result is mf.Result.INTERRUPTED
    assert loaded.stats["steps"] == 5


def test_an_interrupted_run_goes_on_and_so_does_one_that_is_over(folder):
    long = ["run", "gaussian-bumps", "--shape", "60", "--t-end", "1", "--save", "0.5", "--no-plot"]
    good(*long, "-o", "whole.h5")
    result = invoke(*long, "-o", "run.h5", "--time-limit", "1e-9s", "--checkpoint-every", "0")
    assert result.exit_code == 124
    assert result.stderr.startswith("mfpde: out of time at t = 0.0")
    assert "mfpde resume run.h5 goes on" in result.stderr
    loaded = mf.load("run.h5")
    assert loaded.result is mf.Result.TIME_LIMIT
    assert loaded.stats["steps"] == 1
    assert invoke("resume", "run.h5", "--time-limit", "1e-9", "-q").exit_code == 124
    assert mf.load("run.h5").stats["steps"] == 2
    assert "success: reached the end time" in good("resume", "run.h5", "--no-plot").stdout
    assert files(folder) == {"whole.h5", "run.h5"}
    whole, done = mf.load("whole.h5"), mf.load("run.h5")
    assert np.array_equal(whole.density, done.density)
    assert whole.configuration == done.configuration
    assert done.provenance["volatile"]["resumed"] == 2

    good("resume", "run.h5", "--until", "2", "-q", "-o", "longer.h5")
    assert files(folder) == {"whole.h5", "run.h5", "longer.h5"}
    longer = mf.load("longer.h5")
    assert longer.times.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    text = good("info", "--toml", "longer.h5").stdout
    Path("longer.toml").write_text(text)
    good("run", "longer.toml", "-o", "again.h5", "--no-plot")
    assert np.array_equal(mf.load("again.h5").density, longer.density)
    assert mf.load("again.h5").configuration == longer.configuration

    assert_refused(invoke("resume", "run.h5"), "t_end = 1 must lie beyond (--until)")
    result = invoke("resume", "run.h5", "--until", "3", "-o", "longer.h5")
    assert result.exit_code == 2
    assert "longer.h5 exists" in result.stderr


def test_one_line_starts_a_run_and_goes_on_with_it(folder):
    line = ["run", "gaussian-bumps", "--shape", "60", "--t-end", "1", "--no-plot", "-o", "run.h5", "--resume"]
    assert invoke(*line, "--time-limit", "1e-9").exit_code == 124
    before = Path("run.h5").read_bytes()
    result = invoke(*line, "--set", "alpha=3", "--set", "scheme.tolerance=1e-3")
    assert result.exit_code == 2
    assert "run.h5 holds another run: " in result.stderr
    assert "parameters.alpha was 1.0 and is 3" in result.stderr
    assert "scheme.tolerance was 1e-05 and is 0.001" in result.stderr
    assert Path("run.h5").read_bytes() == before
    good(*line, "--threads", "1", "--time-limit", "1h")
    assert mf.load("run.h5").result is mf.Result.SUCCESS
    before = Path("run.h5").read_bytes()
    assert "nothing to do: run.h5 holds the whole run" in good(*line).stdout
    assert Path("run.h5").read_bytes() == before
    mf.solve(mf.problems.gaussian_bumps(), 60, 1.0, progress=False).save("run.h5")
    result = invoke(*line)
    assert result.exit_code == 2
    assert "was not written by mfpde run; use mfpde resume" in result.stderr


@pytest.mark.parametrize("time", ["soon", "-1s", "", "1w", "nan", "inf"])
def test_odd_times_are_refused(time):
    result = invoke(*RUN, "--checkpoint-every", time)
    assert result.exit_code == 2
    assert f"{time!r} is no time; give seconds, or such as 90s, 15m, 2h" in result.stderr


def test_a_mesh_that_is_too_small_is_extended(folder):
    small = ["run", "gaussian-bumps", "--set", "half_width=4", "--set", "centres=[-3.5,1.5]", "--t-end", "3"]
    small += ["--shape", "60", "--no-plot"]
    result = invoke(*small, "-o", "stop.h5", "--on-end-mass", "stop")
    assert result.exit_code == 3
    assert "mass reached a truncation end of the mesh" in result.stderr
    result = good(*small, "-o", "more.h5", "--on-end-mass", "extend")
    assert "started again with x from [-4, 4] to [-6, 6]" in result.stderr
    assert mf.load("more.h5").grid.size == 90
    assert mf.load("more.h5").problem is not None


def test_verify_says_what_is_wrong(folder):
    good(*RUN, "-o", "run.h5")
    result = good("verify", "run.h5")
    assert "run.h5: all is well" in result.stdout
    assert good("verify", "run.h5", "-q").stdout == ""
    with h5py.File("run.h5", "r+") as file:
        file["density"][1, 30] *= 1.001
    result = invoke("verify", "run.h5")
    assert result.exit_code == 5
    assert "FAIL  datasets whose checksum is wrong (density)" in result.stdout
    with h5py.File("run.h5", "r+") as file:
        del file.attrs["checksums"]
    result = invoke("verify", "run.h5")
    assert result.exit_code == 5
    assert "NOT AS IT SHOULD BE" in result.stdout
    assert "FAIL  saved density against the recorded mass" in result.stdout
    assert "?     checksums: there are none" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [
        ["reference", "linear-neuron", "--times", "1", "-q"],
        ["compare", "run.h5", "--sizes", "20,40", "--replicas", "2", "--dt", "0.1", "-q"],
    ],
    ids=["reference", "compare"],
)
def test_an_interrupt_of_a_run_within_is_an_interrupt(command, number, monkeypatch):
    good(*RUN, "-o", "run.h5", "-q")
    solve = run.solve

    def interrupted(*arguments, **named):
        return solve(*arguments, **named, stop=lambda snapshot: os.kill(os.getpid(), number))

    monkeypatch.setattr(run, "solve", interrupted)
    result = invoke(*command)
    assert result.exit_code == 130
    assert result.stderr == "mfpde: interrupted\n"


def test_an_interrupt_before_the_run_leaves_nothing(monkeypatch, folder):
    def interrupt(problem, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(mf, "solve", interrupt)
    result = invoke(*RUN)
    assert result.exit_code == 130
    assert result.stderr.startswith("mfpde: interrupted")
    assert files(folder) == set()


# ----- the other commands


def test_problems_lists_all_with_their_parameters():
    text = good("problems").stdout
    for name in mf.problems.names():
        assert f"\n{name}\n" in f"\n{text}"
    assert "start=good, alpha=5.0" in text
    assert "[network] table" in text
    shown = good("problems", "linear-neuron").stdout
    assert "Exact (problem.exact)" in shown
    assert good("problems", "linear_neuron").stdout == shown
    assert "half_width" in good("problems", "network").stdout


def test_info_shows_what_is_in_the_file():
    good(*RUN, "--set", "alpha=0.5")
    text = good("info", "linear-neuron.h5").stdout
    for part in ("alpha = 0.5", "Weno5", "theta in [", "0, 0.1, 0.2", "success", "fingerprint"):
        assert part in text
    mf.solve(mf.problems.linear_neuron(), (40,), 0.05, save=2, progress=False).save("other.h5")
    assert 'problem = "linear-neuron"' in good("info", "other.h5", "--toml").stdout
    own = mf.problems.linear_neuron().replace(schedule=lambda t: 1.0)
    mf.solve(own, (40,), 0.05, save=2, progress=False).save("other.h5")
    refused = invoke("info", "other.h5", "--toml")
    assert_refused(refused, "no TOML text says all of the problem 'linear-neuron': schedule is a function of your own")


def test_plot_draws_a_picture_and_an_animation(folder):
    data(folder)
    (folder / "fit.toml").write_text(NETWORK)
    good("run", "fit.toml", "-q")
    good("plot", "fit.h5")
    good("plot", "fit.h5", "-o", "other.svg")
    good("plot", "fit.h5", "--animate", "film.gif")
    assert (folder / "fit.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (folder / "other.svg").read_bytes()
    assert (folder / "film.gif").read_bytes()[:3] == b"GIF"
    (folder / "fit.h5").rename(folder / "moved.h5")
    (folder / "points.csv").unlink()
    good("plot", "moved.h5")  # without the data too
    for arguments in (["-o", "fit.txt"], ["-o", "fit.h5"], ["--animate", "x.png"], ["-o", "missing/x.png"]):
        before = files(folder)
        assert_refused(invoke("plot", "moved.h5", *arguments))
        assert files(folder) == before


def test_cite_prints_the_problem_the_schemes_and_mfpde(folder):
    text = good("cite", "three-gaussians").stdout
    for key in ("rotskoff2019global", "borges2008improved", "isherwood2018strong", "@software{mfpde"):
        assert text.count(key) == 1
    assert "glasgow2025propagation" in good("cite", "single-index").stdout
    good(*RUN, "--scheme", "muscl", "--method", "strang")
    text = good("cite", "linear-neuron.h5").stdout
    assert "vanleer1979towards" in text
    assert "strang1968construction" in text
    assert "borges" not in text
    data(folder)
    (folder / "fit.toml").write_text(NETWORK)
    assert "vanleer1979towards" in good("cite", "fit.toml").stdout
    assert text.count("{") == text.count("}")


# ----- the process


def test_the_command_as_a_process(folder):
    result = python("-m", "mfpde", "--version", cwd=folder)
    assert (result.returncode, result.stdout) == (0, f"mfpde {mf.__version__}\n")
    assert_refused(python("-m", "mfpde", "run", "nothing", cwd=folder))
    assert "run" in python("-m", "mfpde", cwd=folder).stdout


@pytest.mark.parametrize("arguments", [["--version"], ["problems"], ["problems", "three-gaussians"], ["--help"]])
def test_looking_around_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom mfpde.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numba', 'matplotlib', 'scipy.stats', 'h5py', 'sympy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr


def test_a_closed_pipe_is_no_error(folder):
    command = f"'{sys.executable}' -m mfpde problems | head -c 1 > /dev/null"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, env=environment)
    assert result.stderr == ""


# ----- compare


COMPARE = ["compare", "run.h5", "--sizes", "40,160", "--replicas", "6", "--dt", "0.05"]


def particles_of_the_start(mean, n, replicas=8):
    rng = np.random.default_rng(n)
    return {"positions": rng.normal(mean, 0.5**0.5, (replicas, 1, n, 1)), "times": np.zeros(1)}


def test_compare_simulates_and_writes_a_report(folder):
    import json

    good(*RUN, "-o", "run.h5")
    result = good(*COMPARE, "-o", "report.json", "--plot", "gaps.png", "--seed", "3")
    assert files(folder) == {"run.h5", "report.json", "gaps.png"}
    assert "Comparison of particles with 'linear-neuron'" in result.stdout
    assert "written: report.json, gaps.png" in result.stdout
    report = json.loads((folder / "report.json").read_text())
    same = mf.compare(mf.load("run.h5"), sizes=[40, 160], replicas=6, dt=0.05, seed=3, progress=False)
    assert report == json.loads(same.to_json())
    again = good(*COMPARE, "-q", "--dynamics", "gradient-descent,weights", "--uncertainty", "0.001", "--no-control")
    assert again.stdout.strip() in ("consistent", "undecided")


def test_compare_takes_particles_and_tells_wrong_ones_by_its_exit_code(folder):
    good(*RUN, "-o", "run.h5")
    for name, mean in (("right", -1.0), ("wrong", 0.5)):
        for n in (40, 640):
            np.savez(f"{name}{n}.npz", **particles_of_the_start(mean, n))
    right = good("compare", "run.h5", "--particles", "right40.npz", "--particles", "right640.npz", "--times", "0")
    assert "n = 40 (x 8) 640 (x 8)" in right.stdout
    wrong = invoke(
        "compare", "run.h5", "--particles", "wrong40.npz", "--particles", "wrong640.npz", "-o", "report.json"
    )
    assert wrong.exit_code == 4
    assert "inconsistent" in wrong.stdout
    assert (folder / "report.json").exists()


def test_compare_prints_json_and_strict_tells_undecided_by_its_exit_code(folder):
    import json

    good(*RUN, "-o", "run.h5")
    for n in (40, 640):
        np.savez(f"right{n}.npz", **particles_of_the_start(-1.0, n))
    both = ["compare", "run.h5", "--times", "0", "--particles", "right640.npz", "--particles", "right40.npz"]
    result = good(*both, "--json", "-o", "report.json")
    report = json.loads(result.stdout)  # nothing else is printed
    assert report == json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "consistent"
    assert report["headline"].startswith("consistent to ")
    assert good(*both, "--strict", "-q").stdout.strip() == "consistent"
    # one size cannot tell
    one = [*both[:-2], "--no-sensitivities"]
    assert good(*one, "-q").stdout.strip() == "undecided"
    strict = invoke(*one, "--strict", "--json")
    assert strict.exit_code == 6
    assert json.loads(strict.stdout)["visible_errors"] == {}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sizes", "a"], "--sizes 'a': needs whole numbers"),
        (["--sizes", "1"], "sizes: integers of at least 2, not 1"),
        (["--times", "x"], "--times 'x': needs numbers"),
        (["--times", "7"], "t = 7 is not among the times 0, 0.1, 0.2"),
        (["--dynamics", "birthdeath"], "--dynamics 'birthdeath': did you mean 'birth-death'?"),
        (["--dynamics", "langevin"], "temperature > 0"),
        (["--uncertainty", "x"], "--uncertainty 'x': needs a fraction"),
        (["--uncertainty", "none.h5"], "none.h5"),
        (["--particles", "none.npz"], "none.npz"),
        (["--plot", "gaps.txt"], "gaps.txt: a picture must end in"),
        (["-o", "run.h5"], "run.h5 exists"),
        (["-o", "nowhere/report.json"], "nowhere does not exist"),
    ],
)
def test_compare_refuses_in_one_line(folder, arguments, text):
    good(*RUN, "-o", "run.h5")
    assert_refused(invoke(*COMPARE, *arguments), text)
    assert files(folder) == {"run.h5"}


def test_a_table_shows_the_digits_that_errors_leave(folder):
    """Errors at all save times beside the energies; nothing of them where nobody asked for them."""
    run = ["run", "three-gaussians", "--shape", "32", "--t-end", "2", "--save", "3", "--no-plot"]
    with_errors = good(*run, "--set", "estimate=true", "-o", "a.h5").stdout
    solution = mf.load("a.h5")
    assert "energy error     about " in with_errors
    assert solution.said_of_error in with_errors
    rows = [line.split() for line in with_errors.splitlines() if line.strip().startswith(("0 ", "1 ", "2 "))]
    assert [row[2] for row in rows] == [f"{error:.1e}" for error in solution.energy_error]
    # two digits of an uncertain number, and one more than its error leaves
    last = float(rows[-1][1])
    assert abs(last - solution.energy[-1]) < solution.energy_error[-1]
    assert len(rows[-1][1].lstrip("0.")) <= 4
    without = good(*run, "--no-estimate", "-o", "b.h5").stdout
    assert "energy error     not estimated (estimate = False)" in without
    assert [len(line.split()) for line in without.splitlines() if line.strip().startswith("2 ")] == [5]
