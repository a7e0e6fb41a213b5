"""The command `init`: a commented TOML file to begin with, for a problem of the library or a network on data."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.files import check_suffix, check_target
from mfpde.cli.look import problem_constructor
from mfpde.cli.options import Force
from mfpde.cli.output import RefusedError, one_line_warnings, refusing, say
from mfpde.cli.readable import readable
from mfpde.support.words import one_line

if TYPE_CHECKING:
    from mfpde.runs.data import DataColumn

__all__ = ["init"]

DATA = (".csv", ".npz")
MOST_AXES = 4
"""Of a mesh: amplitudes, weights and a bias."""
CELLS = {3: 32, 4: 20}
"""Along each axis, by how many there are: a run of them takes seconds."""
COLUMN = 36
"""Where comments begin."""

_What = Annotated[
    str,
    typer.Argument(metavar="NAME|DATA", help="A problem's name, or data (.csv, .npz) to train a network on."),
]
_Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="The file [default: NAME.toml].", show_default=False)
]

HEAD = """\
# A run of mfpde:  mfpde run {file}
# Every key:       docs/configuration.md{more}
# What is commented out is the default, or an example.

"""
SCHEME = """
[scheme]
# transport = "muscl"               # weno5, muscl, upwind; scharfetter-gummel with a temperature
# method = "strang"                 # exponential-ssprk3, strang, lie; implicit-strang
# tolerance = 1e-5                  # error of a step

[output]
# path = "{stem}.h5"
save = 11                           # how many save times, or which: [0.0, 0.5, 2.0]
plot = true                         # the picture beside the file: true, false, "pdf", "svg"
"""


def init(what: _What = "three-gaussians", output: _Output = None, force: Force = False) -> None:
    """Write a commented TOML file to begin with: mfpde run takes it as it is."""
    path = Path(what)
    is_data = path.suffix.lower() in DATA
    with one_line_warnings(), refusing():
        if what == "network" or path.suffix.lower() == ".toml":
            raise RefusedError(f"init {what}: give a problem's name, or a file of data such as points.csv")
        target = Path(f"{path.stem if is_data else what.replace('_', '-')}.toml") if output is None else output
        if not is_data:
            problem_constructor(what)
        check_suffix(target, (".toml",), "the configuration")
        check_target(target, force=force, example="run.toml")
        text = _network(path, target) if is_data else _named(what.replace("_", "-"), target)
        _check(text, target)
        target.write_text(text, encoding="utf-8")
    say(f"written: {target}; mfpde run {target} computes it")


def _check(text: str, target: Path) -> None:
    """What is written can be run: data that do not fit are refused now."""
    from mfpde.runs.configuration import Configuration

    Configuration.from_toml(text, target.parent, str(target)).problem()


def _whole(target: Path, lines: list[str], more: str = "") -> str:
    """The file, with what stands above and below its own lines."""
    head = HEAD.format(file=one_line(target.name), more=more)
    return head + "\n".join(lines) + "\n" + SCHEME.format(stem=one_line(target.stem))


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(one_line(text), 78)]


def _line(key: str, value: Any, comment: str = "", *, off: bool = False) -> str:
    """A line of TOML, commented out or not."""
    import tomli_w

    said = tomli_w.dumps({key: value}).strip()
    if "\n" in said:  # lists in one line
        said = re.sub(r",?\n\s*\]", "]", re.sub(r"\[\n\s*", "[", re.sub(r",\n\s*(?=[^\s\]])", ", ", said)))
    said = f"# {said}" if off else said
    return f"{said:<{COLUMN}}# {comment}" if comment else said


# ---------------------------------------------------------------------------------------------------------------------
# problems of the library
# ---------------------------------------------------------------------------------------------------------------------


def _named(name: str, target: Path) -> str:
    """The file of a problem, with all its parameters."""
    from mfpde import problems

    problem, function = problems.get(name), problems.constructor(name)
    said = inspect.getdoc(function) or ""
    meanings, defaults = _meanings(said), inspect.signature(function).parameters
    lines = [*_comment(readable(said.partition("\n")[0])), "", _line("problem", name)]
    lines += [_line("shape", list(problem.grid(None).shape), "cells along each axis")]
    lines += [_line("t_end", float(problem.t_end), "the time to run to")]
    lines += [_line("tolerance", 1e-3, "an accuracy of the energy instead of a mesh", off=True), "", "[parameters]"]
    before = ""
    for key, value in (problem.parameters or {}).items():
        if key == "t_end":
            continue
        meaning = meanings.get(key, "")
        lines += _comment(meaning) if meaning != before else []
        before = meaning
        if value is None:
            lines.append(f"# {key} = ...")
        else:  # what depends on others is their business
            lines.append(_line(key, _plain(value), off=defaults[key].default is None))
    return _whole(target, lines, f"; the parameters: mfpde problems {name}")


def _plain(value: Any) -> Any:
    from mfpde.support.registry import plain

    return plain(value)


def _meanings(text: str) -> dict[str, str]:
    """The first sentence that a docstring says of each parameter."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?:^\w[^\n]*\n-{3,}$|\Z)", text, re.S | re.M)
    found: dict[str, str] = {}
    for entry in re.finditer(r"^(\w[\w, ]*) :[^\n]*\n((?:    [^\n]*\n?|\n)*)", section[1] if section else "", re.M):
        meaning = readable(" ".join(entry[2].split()))
        sentence = re.split(r"(?<=[.;]) ", meaning)[0].rstrip(".;")
        found |= {name.strip(): sentence for name in entry[1].split(",")}
    return found


# ---------------------------------------------------------------------------------------------------------------------
# networks
# ---------------------------------------------------------------------------------------------------------------------


def _network(data: Path, target: Path) -> str:
    """The file of a network on data, with columns that can be inputs and outputs."""
    from mfpde.runs.data import read_columns

    table: dict[str, Any] = {"data": Path(os.path.relpath(data, target.parent)).as_posix()}
    if data.suffix.lower() == ".csv":
        columns = read_columns(data)
        chosen, notes = _chosen(columns, data)
        table |= chosen
        labels = next(c.values for c in columns if c.name == chosen["outputs"][0])
        weights, outputs = len(chosen["inputs"]), 1
    else:
        x, y, labels = _arrays(data, target)
        weights, outputs, notes = x, y, []
    loss = "logistic" if labels is not None and set(labels.tolist()) == {-1.0, 1.0} else "squared"
    axes = outputs + weights + 1
    lines = [*notes, _line("shape", [CELLS[axes]] * axes, "cells along the amplitude, the weights and the bias")]
    lines += [_line("t_end", 5.0, "the time to run to")]
    lines += [_line("tolerance", 1e-3, "an accuracy of the energy instead of a mesh", off=True)]
    lines += ["", "[network]", *(_line(key, value) for key, value in table.items())]
    lines += [
        _line("standardise", True, "mean 0 and standard deviation 1"),
        _line("activation", "tanh", "tanh, relu, sigmoid, erf, sin, gaussian, hermite<k>"),
        _line("loss", loss, "squared, logistic (labels -1 and 1), huber"),
        _line("half_width", 4.0, "the box is [-4, 4] along each axis"),
        "",
        "[dynamics]",
        _line("alpha", 1.0, "birth-death rate; 0 is gradient descent"),
        _line("temperature", 0.0, "noise in the training"),
        _line("reaction", "free-energy", "balanced, unbalanced, free-energy", off=True),
    ]
    return _whole(target, lines)


def _chosen(columns: list[DataColumn], data: Path) -> tuple[dict[str, Any], list[str]]:
    """Inputs and output of a table: the last column of numbers, and up to two that vary before it."""
    import numpy as np

    numbers = [c for c in columns if c.values is not None and np.isfinite(c.values).all()]
    if len(numbers) < 2:
        raise RefusedError(f"{data}: {len(numbers)} columns hold numbers only; inputs and outputs need at least two")
    output = numbers[-1]
    varying = [c for c in numbers[:-1] if c.values is not None and np.ptp(c.values) > 0 and not _counts(c.values)]
    if not varying:
        raise RefusedError(f"{data}: no column before {output.name!r} varies; a network needs an input")
    inputs = varying[: MOST_AXES - 2]
    left = [str(c.name) for c in columns if c not in (*inputs, output)]
    most = "A mesh has four axes at most: an amplitude, two weights and a bias."
    notes = _comment(f"Not used: {', '.join(left)}. {most}") if left else []
    return {"inputs": [c.name for c in inputs], "outputs": [output.name]}, notes


def _counts(values: Any) -> bool:
    """Whether a column numbers its rows."""
    import numpy as np

    return len(values) > 2 and bool(np.all(np.diff(values) == 1.0))


def _arrays(data: Path, target: Path) -> tuple[int, int, Any]:
    """How many inputs and outputs the arrays of a file have, and the outputs if it is one."""
    from mfpde.runs.data import read_data
    from mfpde.runs.tables import NetworkTable

    found = read_data(NetworkTable(data=os.path.relpath(data, target.parent)), target.parent)
    x, y = (1 if values.ndim == 1 else values.shape[1] for values in (found.x, found.y))
    if x + y + 1 > MOST_AXES:
        raise RefusedError(
            f"{data}: {x} inputs and {y} outputs need {x + y + 1} parameters a neuron, a mesh has {MOST_AXES} axes at "
            "most; keep fewer columns of x and y"
        )
    return x, y, found.y if y == 1 else None
