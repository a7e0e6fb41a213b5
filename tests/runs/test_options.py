"""One list of options: `solve`, `resume`, TOML files and the command line have what it says, and pass it on."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, replace

import numpy as np
import pytest
import tomli_w
import typer.main
from shared import invoke

import mfpde as mf
from mfpde.cli import app
from mfpde.mesh.options import OPTIONS, Absent, Default, Option, RunOptions
from mfpde.runs.tables import FileTable, OutputTable, SchemeTable, Table

PROBLEM = "linear-neuron"
COMMANDS = typer.main.get_command(app).commands
# what else there is at each place
OWN = {
    "resume": {"source", "problem"},
    "toml": {"problem", "parameters", "network", "dynamics", "scheme", "output", "output.plot", *FileTable.OWN},
    "run": {"what", "settings", "go_on", "no_plot", "mkdir", "dry_run"},
    "mfpde resume": {"file", "no_plot"},
}
# for each option with a key or a flag: what a file says, what a command line says, and what `solve` gets
GIVEN = {
    "shape": (50, ["--shape", "50"], 50),
    "t_end": (0.5, ["--t-end", "0.5"], 0.5),
    "tolerance": (0.01, ["--tolerance", "0.01"], 0.01),
    "scheme": ("muscl", ["--scheme", "muscl"], mf.Muscl()),
    "method": ("lie", ["--method", "lie"], mf.Lie()),
    "controller": ("courant", None, mf.CourantControl()),
    "save": ([0.25, 0.5], ["--save", "0.25,0.5"], [0.25, 0.5]),
    "max_steps": (7, ["--max-steps", "7"], 7),
    "progress": (None, ["--quiet"], False),
    "threads": (2, ["--threads", "2"], 2),
    "output": ("other.h5", ["--output", "other.h5"], "other.h5"),
    "overwrite": (None, ["--force"], True),
    "estimate": (False, ["--no-estimate"], False),
    "checkpoint": (300.0, ["--checkpoint-every", "5m"], 300.0),
    "time_limit": (7200.0, ["--time-limit", "2h"], 7200.0),
    "on_end_mass": ("stop", ["--on-end-mass", "stop"], "stop"),
}


def keys(table: type[Table], above: str = "") -> set[str]:
    return {f"{above}{key}" for key in table.model_fields}


def toml_keys() -> set[str]:
    """Of a file, with one key for each of the three objects of a scheme."""
    parts = {f"scheme.{key}" for key in ("transport", "method", "controller")}
    assert parts <= keys(SchemeTable, "scheme.")
    return keys(FileTable) | keys(OutputTable, "output.") | parts


def flags(command: str) -> dict[str, set[str]]:
    """The flags of each parameter of a command."""
    return {parameter.name: set(parameter.opts) for parameter in COMMANDS[command].params if parameter.name != "help"}


def forgotten(options: dict[str, Option]) -> list[str]:
    """What one place has and another lacks."""
    solve, resume = (inspect.signature(function).parameters for function in (mf.solve, mf.resume))
    again = {name: option for name, option in options.items() if not isinstance(option.again, Absent)}
    found = []
    for where, there, expected in (
        ("solve", list(solve)[1:], list(options)),
        ("resume", [name for name in resume if name not in OWN["resume"]], list(again)),
        ("RunOptions", [entry.name for entry in fields(RunOptions)], list(options)),
        ("toml", toml_keys() - OWN["toml"], {o.toml for o in options.values() if isinstance(o.toml, str)}),
    ):
        found += [f"{where} lacks {name}" for name in expected if name not in there]
        found += [f"the list lacks {name} of {where}" for name in there if name not in expected]
        if not found and isinstance(there, list) and there != expected:
            found.append(f"{where} has another order")
    for name, option in options.items():
        if name in solve and solve[name].default != option.default:
            found.append(f"{name} has another default in solve")
        default = option.again.value if isinstance(option.again, Default) else option.default
        if name in again and name in resume and resume[name].default != default:
            found.append(f"{name} has another default in resume")
    for where, command in (("run", "run"), ("mfpde resume", "resume")):
        there = flags(command)
        wanted = [option.run if command == "run" else option.resume for option in options.values()]
        expected = {flag for flag in wanted if isinstance(flag, str)}
        has = {name: own for name, own in there.items() if name not in OWN[where]}
        found += [f"{where} lacks {flag}" for flag in expected if not any(flag in own for own in has.values())]
        found += [f"the list lacks {name} of {where}" for name, own in has.items() if not own & expected]
    return found


def test_every_place_has_the_options_that_the_list_says():
    assert forgotten(OPTIONS) == []


def test_an_option_that_is_forgotten_is_seen():
    """A new entry without its arguments, keys and flags; and each of those of an entry that is gone."""
    new = Option("Which way time goes.", "arrow", "--arrow", "--arrow", name="arrow")
    expected = [f"{where} lacks arrow" for where in ("solve", "resume", "RunOptions", "toml")]
    assert forgotten({**OPTIONS, "arrow": new}) == [*expected, "run lacks --arrow", "mfpde resume lacks --arrow"]
    without = {name: option for name, option in OPTIONS.items() if name != "threads"}
    assert forgotten(without) == [
        *(f"the list lacks threads of {where}" for where in ("solve", "resume", "RunOptions", "toml", "run")),
        "the list lacks threads of mfpde resume",
    ]
    moved = {"t_end": OPTIONS["t_end"], **OPTIONS}
    assert "solve has another order" in forgotten(moved)
    changed = {**OPTIONS, "save": replace(OPTIONS["save"], default=12, again=None)}
    assert forgotten(changed) == ["save has another default in solve", "save has another default in resume"]


@pytest.mark.parametrize("function", [mf.solve, mf.resume])
def test_every_option_is_explained(function):
    """In the docstring of what has it, and in the list: what it means, and why it is not at a place."""
    lines = re.findall(r"^([a-z_, ]+) : ", inspect.getdoc(function), re.MULTILINE)
    documented = {name for line in lines for name in line.split(", ")}
    assert set(inspect.signature(function).parameters) <= documented
    for option in OPTIONS.values():
        assert option.meaning.endswith(".")
        places = (option.toml, option.run, option.resume, option.again)
        assert all(place.reason for place in places if isinstance(place, Absent))


def test_options_are_those_of_the_arguments():
    options = RunOptions.of({"problem": 1, "t_end": 2.0, "limits": None, "on_end_mass": "stop", "save": 3})
    assert (options.t_end, options.save, options.checkpoint) == (2.0, 3, 60.0)
    assert (options.limits, options.on_end_mass) == (mf.Limits(), mf.OnEndMass.STOP)
    with pytest.raises(ValueError, match="max_steps must be an integer of at least 1, not 0"):
        RunOptions.of({"max_steps": 0})


@pytest.fixture
def got(folder, monkeypatch):
    """What `solve` or `resume` is given by a command line, in place of a run."""
    found = {}

    def instead(source, t_end=None, **arguments):
        found.update(arguments if t_end is None else {**arguments, "t_end": t_end})
        raise ValueError("that is enough")

    def given_by(*arguments):
        monkeypatch.setattr(mf, "solve", instead)
        monkeypatch.setattr(mf, "resume", instead)
        found.clear()
        result = invoke(*arguments)
        assert "that is enough" in result.stderr, result.stderr
        stream = found.pop("output")
        return {**found, "output": str(stream.path), "overwrite": stream._overwrite}

    return given_by


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if isinstance(option.toml, str)])
def test_a_key_of_a_file_reaches_solve(name, got, folder):
    value, _, expected = GIVEN[name]
    table, _, key = OPTIONS[name].toml.rpartition(".")
    own = {key: value}
    (folder / "a.toml").write_text(tomli_w.dumps({"problem": PROBLEM, **({table: own} if table else own)}))
    arguments = got("run", "a.toml")
    where = str(folder / expected) if name == "output" else expected
    assert arguments[name] in (expected, where)
    assert arguments[name] != OPTIONS[name].default


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if isinstance(option.run, str)])
def test_a_flag_of_run_reaches_solve(name, got):
    _, words, expected = GIVEN[name]
    assert words[0] == OPTIONS[name].run
    arguments = got("run", PROBLEM, *words)
    assert arguments[name] == expected
    assert arguments[name] != OPTIONS[name].default


def test_flags_of_resume_reach_resume(got):
    """All of them, one at a time; what is not given is left to the file, or to the default."""
    run = ["run", PROBLEM, "--shape", "40", "--t-end", "0.1", "--no-plot", "--quiet", "-o", "a.h5"]
    assert invoke(*run).exit_code == 0
    plain = got("resume", "a.h5", "--until", "0.2")
    assert plain == {"t_end": 0.2, "progress": None, "throw": False, "output": "a.h5", "overwrite": True}
    for name, option in OPTIONS.items():
        if isinstance(option.resume, str) and name not in ("t_end", "overwrite"):
            _, words, expected = GIVEN[name]
            arguments = got("resume", "a.h5", "--until", "0.5", option.resume, *words[1:])
            # another file is not replaced, that of the run is
            assert arguments == {**plain, "t_end": 0.5, "overwrite": name != "output", name: expected}
    assert got("resume", "a.h5", "--until", "0.5", "-o", "other.h5", "--force")["overwrite"] is True
    assert got("resume", "a.h5", "--until", "0.5", "--checkpoint-every", "0")["checkpoint"] is None


def test_a_run_that_goes_on_keeps_what_settles_its_result(folder):
    """Options that settle what is computed may not change, the others may."""
    first = {"shape": [40], "t_end": 0.1, "output.save": 2}

    def run(settings):
        texts = {key: "false" if value is False else repr(value) for key, value in settings.items()}
        words = [word for key, text in texts.items() for word in ("--set", f"{key}={text}")]
        return invoke("run", PROBLEM, "--no-plot", "--quiet", "--resume", "-o", "a.h5", *words)

    assert run(first).exit_code == 0
    for name, option in OPTIONS.items():
        if isinstance(option.toml, str):
            result = run({**first, option.toml: GIVEN[name][0]})
            assert result.exit_code == (2 if option.settles else 0), (name, result.stderr)
            assert ("holds another run" in result.stderr) is option.settles


def test_a_run_that_goes_on_is_told_how(got):
    """``mfpde run --resume``: how it is to go on comes from the command line, what it computes from the file."""
    run = ["run", PROBLEM, "--shape", "40", "--t-end", "0.1", "--save", "2", "--no-plot", "--quiet", "-o", "a.h5"]
    assert invoke(*run, "--max-steps", "3").exit_code == 3
    words = ["--max-steps", "7", "--threads", "2", "--time-limit", "2h", "--checkpoint-every", "5m"]
    arguments = got(*run, "--resume", *words)
    assert arguments.pop("problem").name == PROBLEM
    how = {"max_steps": 7, "threads": 2, "time_limit": 7200.0, "checkpoint": 300.0}
    assert arguments == {**how, "progress": False, "throw": False, "output": "a.h5", "overwrite": True}


def test_a_run_goes_on_with_another_algebra():
    """The same to round-off, over some ten steps; bit for bit with the same one."""
    problem = mf.problems.linear_neuron()
    run = {"shape": 40, "progress": False, "algebra": mf.NumpyAlgebra()}
    whole = mf.solve(problem, t_end=0.1, save=[0.05], **run)
    half = mf.solve(problem, t_end=0.05, save=2, **run)
    same, other = (mf.resume(half, 0.1, progress=False, algebra=algebra) for algebra in (mf.NumpyAlgebra(), None))
    np.testing.assert_array_equal(same.density, whole.density)
    np.testing.assert_allclose(other.density, whole.density, rtol=0.0, atol=1e-12 * whole.density.max())
