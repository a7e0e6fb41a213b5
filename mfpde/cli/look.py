"""The commands that look at what there is: `verify`, `problems`, `info` and `plot`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.files import ANIMATION_SUFFIXES, PICTURE_SUFFIXES, check_suffix
from mfpde.cli.options import SolutionFile
from mfpde.cli.output import UNSOUND, RefusedError, listed, one_line_warnings, refusing, say
from mfpde.cli.readable import readable
from mfpde.cli.solutions import any_numbers, load_any, load_file, report
from mfpde.equation.description.words import in_words
from mfpde.support.words import one_line, suggestion

if TYPE_CHECKING:
    from mfpde.equation.equilibrium import Equilibrium
    from mfpde.equation.problem import Problem
    from mfpde.mesh.solution import Solution

__all__ = ["info", "list_problems", "plot", "problem_constructor", "verify"]


def verify(
    file: SolutionFile,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing; the exit code says it.")] = False,
) -> None:
    """Check a solution's file: checksums, and the laws its numbers must keep. Exit code 5 if something is wrong."""
    from mfpde.verification import laws

    with one_line_warnings(), refusing():
        found = laws.verify(file)
    if not quiet:
        say(found)
    if not found.ok:
        raise typer.Exit(UNSOUND)


def problem_constructor(name: str) -> Callable[..., Problem]:
    """The function of `mfpde.problems` that makes the problem of a name; `network` is one of them here."""
    from mfpde import problems

    if name == "network":
        return problems.network
    if name.replace("_", "-") not in problems.names():
        raise RefusedError(f"unknown problem {name!r}; {suggestion(name, [*problems.names(), 'network'])}")
    return problems.constructor(name)


def list_problems(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show all about this one.")] = None,
) -> None:
    """List the problems with their parameters, or show one with its equation, good values and exact facts."""
    if name is not None:
        say(readable(inspect.getdoc(problem_constructor(name)) or ""))
        return
    from mfpde import problems

    for title in [*problems.names(), "network"]:
        function = problem_constructor(title)
        first = (inspect.getdoc(function) or "").partition("\n")[0]
        say(f"{title}\n    {readable(first)}")
        if title == "network":
            say("    described by a TOML file with a [network] table: mfpde run FILE.toml")
        else:
            parameters = inspect.signature(function).parameters.values()
            say(f"    {', '.join(f'{p.name}={_default(p.default)}' for p in parameters)}")


def _default(value: Any) -> str:
    return str(getattr(value, "value", value))


def info(
    file: SolutionFile,
    toml: Annotated[bool, typer.Option("--toml", help="Print the TOML text from which the same run is made.")] = False,
) -> None:
    """Show what is in the file of a solution or of a stationary state."""
    from mfpde.equation.equilibrium import Equilibrium

    found = load_any(file)
    if isinstance(found, Equilibrium):
        if toml:
            raise RefusedError(f"{file} holds a stationary state, which is not made from TOML text")
        say(f"{found}\n")
        rows, remarks = {"problem": found.name, **_what(file, found), **_origin(found)}, []
    else:
        if toml:
            from mfpde.runs.again import toml_of

            with refusing():
                say(toml_of(found), nl=False)
            return
        say(f"{report(found)}\n")
        rows, remarks = {**_what(file, found), **_how(found), **_origin(found)}, found.warnings
    if found.problem is None and found.missing and "not held" not in rows:
        rows["problem"] = f"not known: {found.missing}"
    for row in listed(rows):
        say(row)
    for text in remarks:
        say(f"  warning: {one_line(text)}")


def _what(file: Path, found: Solution | Equilibrium) -> dict[str, str]:
    """What a file says of its problem."""
    from mfpde.equation.plain_attributes import own_parameters

    # those of a network are keys of its table
    parameters = found.configuration.get("parameters") or own_parameters(found.plain)
    described = {} if found.description is None else in_words(found.description)
    if parameters:
        described.pop("parameters", None)
    # of a problem made in Python the words say the rate and the temperature
    said = described.get("parameters", "")
    names = (name for name in ("alpha", "temperature", "reaction") if f"{name} = " not in said)
    dynamics = ", ".join(f"{name} = {found.plain[name]}" for name in names if name in found.plain)
    return {
        "file": f"{file} ({file.stat().st_size} bytes)",
        "axes": "; ".join(repr(axis) for axis in found.grid.axes),
        "parameters": ", ".join(f"{key} = {value}" for key, value in parameters.items()) or "none",
        "dynamics": dynamics or "?",
        **described,
    }


def _how(solution: Solution) -> dict[str, str]:
    """What a file says of how a run was made."""
    left = ("toml", "problem", "shape", "parameters", "save", "t_end")
    return {
        **{key: one_line(value) for key, value in solution.configuration.items() if key not in left},
        "values": "at the cell centres" if solution.point_values else "cell averages",
        "save times": ", ".join(f"{t:g}" for t in solution.times),
    }


def _origin(found: Solution | Equilibrium) -> dict[str, str]:
    """What a file says of where it comes from."""
    volatile, versions = found.provenance.get("volatile", {}), found.provenance.get("versions", {})
    return {
        "made": f"{volatile.get('date', '?')} by {volatile.get('command', '?')}",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()) or "?",
        "fingerprint": found.fingerprint or "none",
    }


def plot(
    file: SolutionFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The picture [default: FILE.png].", show_default=False)
    ] = None,
    animation: Annotated[
        Path | None,
        typer.Option("--animate", help="Write an animation to this file (.gif or .mp4).", show_default=False),
    ] = None,
) -> None:
    """Draw a solution: density, energy with its certificate, network output; or a stationary state."""
    picture = output
    if picture is None and animation is None:
        picture = file.with_suffix(".png")
    for what, path, suffixes in (
        ("a picture", picture, PICTURE_SUFFIXES),
        ("an animation", animation, ANIMATION_SUFFIXES),
    ):
        if path is None:
            continue
        check_suffix(path, suffixes, what)
        if not path.parent.is_dir():
            raise RefusedError(f"{path}: the folder {path.parent} does not exist")
    from mfpde.runs import pictures

    solution = load_file(file) if animation is not None else load_any(file)
    with one_line_warnings(), refusing(), any_numbers():
        if picture is not None:
            pictures.plot(solution, picture)
            say(f"written: {picture}")
        if animation is not None:
            pictures.animate(solution, animation)  # type: ignore[arg-type]  # it is a solution, see above
            say(f"written: {animation}")
