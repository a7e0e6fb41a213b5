"""`verify`: what is wrong with a file is in a table, whatever it is."""

from __future__ import annotations

import dataclasses
import math
import re

import h5py
import numpy as np
import pytest
from shared import invoke

import mfpde as mf
from mfpde.mesh.record import State
from mfpde.support.files.hdf5 import FileFormatError
from mfpde.support.saves import contradiction
from mfpde.support.session import progress_bar, warn
from mfpde.verification.laws import Check

pytestmark = pytest.mark.usefixtures("companions")


@pytest.fixture(scope="module")
def solution() -> mf.Solution:
    return mf.solve(mf.problems.gaussian_bumps(), 60, 0.3, save=[0.1, 0.2, 0.3], progress=False)


@pytest.fixture
def saved(path, solution):
    solution.save(path)
    return path


def numbers_of(path) -> list[str]:
    """The datasets of a file."""
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def failing(path) -> list[Check]:
    found = mf.verify(path)
    assert not found.ok
    assert "NOT AS IT SHOULD BE" in str(found)
    return [check for check in found.checks if not check.holds]


# ----- checksums


@pytest.mark.parametrize("value", [1.001, 0.0, math.nan, math.inf, -1.0])
def test_every_number_that_has_changed_is_named_in_the_table(saved, value):
    """By whatever factor; positions along axes are no numbers but places, and refused where they are none."""
    places = {"x", "steps/step", "steps/component", "errors/component", "errors/axis"}
    whole = saved.read_bytes()
    names = [name for name in numbers_of(saved) if name not in places]
    assert {"time", "energy", "density", "state/mu", "companion/mu", "steps/mass", "errors/mean"} <= {*names}
    for name in names:
        with h5py.File(saved, "r+") as file:
            at = (0,) * file[name].ndim
            old = file[name][at]
            if file[name].dtype.kind == "i":
                file[name][at] = old + 1
            else:
                file[name][at] = old * value if np.isfinite(old) and old != 0.0 else 3.0
        wrong = failing(saved)[0]
        assert wrong.name == f"datasets whose checksum is wrong ({name})", name
        assert wrong.measured == 1
        saved.write_bytes(whole)


def test_what_texts_and_lone_numbers_say_is_named_in_the_table(saved):
    for name, value, wrong in [("problem", "other", "attributes"), ("warnings", ["all is well"], "attributes")]:
        with h5py.File(saved, "r+") as file:
            file.attrs[name] = value
        assert failing(saved)[0].name == f"datasets whose checksum is wrong ({wrong})"
    with h5py.File(saved, "r+") as file:
        file["volatile"].attrs["seconds"] = 1e9
    assert failing(saved)[0].name == "datasets whose checksum is wrong (volatile, attributes)"


def test_without_checksums_the_laws_tell(saved):
    with h5py.File(saved, "r+") as file:
        file["energy"][1] *= 1.001
        del file.attrs["checksums"]
    assert "saved energy against the recorded one" in [check.name for check in failing(saved)]


def test_the_command_exits_with_5_and_its_table(saved):
    with h5py.File(saved, "r+") as file:
        file["energy"][1] *= 1.001
    result = invoke("verify", saved)
    assert result.exit_code == 5
    assert "FAIL  datasets whose checksum is wrong (energy)" in result.stdout
    assert "FAIL  saved energy against the recorded one" in result.stdout
    assert "ok    drift of the mass" in result.stdout
    assert result.stderr == ""
    with pytest.raises(FileFormatError, match="the checksum of energy is not the one in the file"):
        mf.load(saved)


# ----- states


def moved(mu):
    """The same mass and minimum, elsewhere."""
    return mu[::-1].copy()


STATES = {
    "more mass": (lambda s: {"mu": 1.01 * s.mu}, "state against the recorded mass"),
    "elsewhere": (lambda s: {"mu": moved(s.mu)}, "state against the density saved last"),
    "negative": (lambda s: {"mu": s.mu - 2.0 * s.mu.min() - 1e-6}, "state against the recorded minimum"),
    "later": (lambda s: {"t": s.t + 0.1}, "time of the state against that of the last step"),
    "not a time": (lambda s: {"t": math.nan}, "time of the state against that of the last step"),
    "fewer steps": (lambda s: {"n_steps": 1}, "steps recorded that the state has not made"),
    "no step": (lambda s: {"length": -0.1}, "steps to come that are none"),
    "not a step": (lambda s: {"length": math.nan}, "steps to come that are none"),
}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_that_is_not_that_of_its_rows_fails(path, solution, kind):
    """Checksums and all, as a file that was made by hand has them."""
    change, name = STATES[kind]
    state = dataclasses.replace(solution.state, **change(solution.state))
    dataclasses.replace(solution, state=state).save(path)
    assert name in [check.name for check in failing(path)]


def test_a_state_between_save_times_has_the_recorded_energy(path, solution):
    """Mass, minimum and time are those of the last step; what stands where is told by the energy alone."""
    fewer = {"times": solution.times[:-1], "density": solution.density[:-1], "energy": solution.energy[:-1]}
    errors = mf.solve(mf.problems.gaussian_bumps(), 60, 0.3, save=3, progress=False).errors
    configuration = {**solution.configuration, "save": solution.times[1:-1].tolist()}
    cut = dataclasses.replace(solution, **fewer, errors=errors, configuration=configuration)
    cut.save(path)
    assert mf.verify(path).ok, str(mf.verify(path))
    dataclasses.replace(cut, state=dataclasses.replace(cut.state, mu=moved(cut.state.mu))).save(path)
    assert [check.name for check in failing(path)] == ["energy of the state against the recorded one"]


def test_steps_that_only_save_times_have_bounded(path):
    """The proposal of an implicit method is infinite until a step is longer than accuracy allows: no error."""
    problem = mf.problems.torus_langevin()
    mf.solve(problem, 32, 1e-4, scheme=mf.ScharfetterGummel(), save=3, output=path, progress=False)
    assert mf.load(path).state.length == math.inf
    assert mf.verify(path).ok, str(mf.verify(path))
    assert mf.resume(path, 2e-4, progress=False).result.ok


def test_a_companion_has_laws_as_well(path, solution):
    beside = solution.companion
    assert isinstance(beside, State)
    for change, name in [
        ({"mu": beside.mu - 1.0}, "negative density of the companion"),
        ({"t": beside.t + 1.0}, "time of the companion beyond that of the state"),
        ({"length": 0.0}, "steps to come that are none"),
    ]:
        dataclasses.replace(solution, companion=dataclasses.replace(beside, **change)).save(path)
        assert [check.name for check in failing(path)] == [name]


# ----- save times


def test_save_times_that_were_not_to_be_saved_fail_and_cannot_go_on(path, solution):
    for planned, said in [
        ([0.1, 0.15, 0.3], "save time 2 is t = 0.2, and was to be t = 0.15"),
        ([0.1, 0.3], "save time 2 is t = 0.2, and was to be t = 0.3"),
        ([0.1, 0.15, 0.2, 0.3], "save time 2 is t = 0.2, and was to be t = 0.15"),
        (["soon"], "['soon'] is no list of times"),
        ("never", "'never' is no list of times"),
        ([0.3, 0.2, 0.1], "[0.3, 0.2, 0.1] does not increase from the start, t = 0, on"),
    ]:
        dataclasses.replace(solution, configuration={**solution.configuration, "save": planned}).save(path)
        assert f"save times that are not those of the configuration: {said}" in [check.name for check in failing(path)]
        remedy = "begin a new run from its state: mfpde.solve(problem, initial=solution.state)"
        said = f"the save times of the run do not fit its configuration: {said}; {remedy}"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            mf.resume(path, 0.4)


@pytest.mark.parametrize(
    ("saved", "now", "planned", "fits"),
    [
        ([0.0, 0.1, 0.2], 0.2, [0.1, 0.2], True),
        ([0.0, 0.1], 0.1, [0.1, 0.2], True),  # so far
        ([0.0, 0.1, 0.15], 0.15, [0.1, 0.2], True),  # cut short, which is saved
        ([0.0, 0.1], 0.15, [0.1, 0.2], True),  # from a checkpoint
        ([0.0], 0.0, [0.1], True),
        ([0.0, 0.1], 0.25, [0.1, 0.2], False),  # beyond a time that was not saved
        ([0.0, 0.05, 0.1], 0.1, [0.1, 0.2], False),
        ([0.0, 0.1, 0.15, 0.17], 0.17, [0.1, 0.2], False),
        ([0.0, 0.2], 0.2, [0.1, 0.2], False),
        ([0.0], 0.0, [math.nan], False),
        ([0.0], 0.0, [True], False),
        ([0.5], 0.5, [0.5, 1.0], False),
    ],
)
def test_which_save_times_fit(saved, now, planned, fits):
    assert (contradiction(saved, now, planned) == "") == fits


# ----- what a file does to a terminal


ESCAPES = "\x1b]0;owned\a\x1b[31mred\r\x9b2J\u202e"


@pytest.mark.parametrize("command", ["info", "verify", "resume", "plot", "compare"])
def test_texts_of_a_file_do_nothing_to_a_terminal(folder, solution, command):
    """Every text that a file has, and names of parameters among them; what is done with it is another matter."""
    hostile = {**solution.configuration, "scheme": ESCAPES, "parameters": {ESCAPES: ESCAPES}, ESCAPES: ESCAPES}
    hostile["problem"] = ESCAPES
    dataclasses.replace(
        solution,
        name=f"[red]{ESCAPES}",
        fingerprint=ESCAPES,
        warnings=[ESCAPES],
        remarks=[ESCAPES, f"no certificate: {ESCAPES}"],
        configuration=hostile,
        provenance={
            "versions": {ESCAPES: ESCAPES, "numpy": ESCAPES},
            "volatile": {"command": ESCAPES, "date": ESCAPES, ESCAPES: ESCAPES},
        },
        errors=dataclasses.replace(solution.errors, reason=ESCAPES),
    ).save("run.h5")
    result = invoke(command, "run.h5")
    assert isinstance(result.exception, (SystemExit, type(None)))
    printed = result.stdout + result.stderr
    assert printed
    assert not [c for c in printed if c in ESCAPES and not c.isprintable()], repr(printed)
    loaded = mf.load("run.h5")
    for text in (str(loaded), repr(loaded), str(mf.verify("run.h5"))):
        assert not [c for c in text.replace("\n", "") if not c.isprintable()], repr(text)


def test_names_of_a_file_do_nothing_to_a_terminal(folder, solution):
    solution.save("run.h5")
    with h5py.File("run.h5", "r+") as file:
        file.attrs["axes"] = [ESCAPES]
    for command in ("info", "verify"):
        result = invoke(command, "run.h5")
        assert result.exit_code == 2
        assert result.stderr.isprintable() or result.stderr.rstrip("\n").isprintable()
    with pytest.raises(FileFormatError) as caught:
        mf.load("run.h5")
    assert str(caught.value).isprintable()


def test_warnings_and_bars_do_nothing_to_a_terminal(monkeypatch):
    drawn = []
    monkeypatch.setattr("rich.progress.Progress.add_task", lambda self, name, **fields: drawn.append(name))
    with pytest.warns(mf.RunWarning) as caught:
        warn(f"the start {ESCAPES}")
    with progress_bar(True, f"[red]{ESCAPES}", 0.0, 1.0):
        pass
    assert str(caught[0].message).isprintable()
    assert len(drawn) == 1
    assert drawn[0].isprintable()
    assert drawn[0].startswith(r"\[red]")
