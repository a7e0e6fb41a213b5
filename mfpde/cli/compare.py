"""The command `compare`: particles, simulated or recorded, against the mean field of a solution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde.cli.files import PICTURE_SUFFIXES, check_suffix, check_target
from mfpde.cli.options import Force, SolutionFile, floats, integers
from mfpde.cli.output import FAILED, INCONSISTENT, UNDECIDED, RefusedError, complain, one_line_warnings, refusing, say
from mfpde.cli.solutions import load_file
from mfpde.support.files import SUFFIXES
from mfpde.support.words import suggestion

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem
    from mfpde.mesh.solution import Solution
    from mfpde.verification.comparison.records import ParticleRecord
    from mfpde.verification.comparison.report import Comparison

__all__ = ["compare"]


_Particles = Annotated[
    list[Path] | None,
    typer.Option(
        "--particles",
        metavar="FILE",
        help="Your own particles, NPZ or HDF5 (docs/your-particles.md). Repeatable. Without it some are simulated.",
        show_default=False,
    ),
]
_Sizes = Annotated[str, typer.Option(help="Numbers of particles.", metavar="N,N,..")]
_Replicas = Annotated[int, typer.Option(help="Independent runs of each size.")]
_Step = Annotated[float, typer.Option(help="Time step of the simulations.")]
_Dynamics = Annotated[
    str | None,
    typer.Option(
        help="What a step is made of: gradient-descent, langevin, birth-death, weights [default: the problem's].",
        metavar="NAME,NAME,..",
        show_default=False,
    ),
]
_Times = Annotated[
    str | None,
    typer.Option(help="Save times to compare at [default: up to six].", metavar="T,T,..", show_default=False),
]
_NoControl = Annotated[bool, typer.Option("--no-control", help="Do not run the longer steps.")]
_Uncertainty = Annotated[
    str | None,
    typer.Option(
        help="The solution's error: a fraction, or the file of a second solution [default: half the cells].",
        metavar="X|FILE",
        show_default=False,
    ),
]
_Tolerance = Annotated[float, typer.Option(help="Bias that does not matter, a fraction of the scale.")]
_FalseAlarm = Annotated[float, typer.Option(help="Probability that a right scheme fails, at most.")]
_NoSensitivities = Annotated[
    bool, typer.Option("--no-sensitivities", help="Do not find which errors would have been seen: no further runs.")
]
_Seed = Annotated[int, typer.Option(help="Seed of the simulations.")]
_Workers = Annotated[int, typer.Option(help="Threads of the simulations.")]
_Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write all numbers to this file (JSON).", show_default=False)
]
_Picture = Annotated[
    Path | None, typer.Option("--plot", help="Draw the gaps against n (.png, .pdf, .svg).", show_default=False)
]
_Json = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of the table.")]
_Strict = Annotated[bool, typer.Option("--strict", help="Exit code 6 if it is undecided.")]
_VerdictOnly = Annotated[bool, typer.Option("-q", "--quiet", help="Print the verdict only.")]


def compare(
    file: SolutionFile,
    particles: _Particles = None,
    sizes: _Sizes = "100,1000,10000",
    replicas: _Replicas = 32,
    dt: _Step = 1e-2,
    dynamics: _Dynamics = None,
    times: _Times = None,
    no_control: _NoControl = False,
    uncertainty: _Uncertainty = None,
    tolerance: _Tolerance = 1e-3,
    false_alarm: _FalseAlarm = 1e-3,
    no_sensitivities: _NoSensitivities = False,
    seed: _Seed = 0,
    workers: _Workers = 1,
    output: _Output = None,
    picture: _Picture = None,
    json: _Json = False,
    strict: _Strict = False,
    quiet: _VerdictOnly = False,
    force: Force = False,
) -> None:
    """Compare particles with a solution: rates in n, bias, a verdict with its limit.

    Exit code 4 if they are inconsistent; with --strict 6 if that is undecided.
    """
    import mfpde as mf

    with one_line_warnings(), refusing():
        _check_targets(output, picture, force=force)
        solution, problem = _reference(file)
        records = _records(particles, problem)
        try:
            found = mf.compare(
                solution,
                records,
                sizes=integers(sizes, "--sizes"),
                replicas=replicas,
                dynamics=None if dynamics is None else _dynamics(dynamics),
                dt=dt,
                control=not no_control,
                times=None if times is None else floats(times, "--times"),
                uncertainty=None if uncertainty is None else _second(uncertainty),
                tolerance=tolerance,
                false_alarm=false_alarm,
                sensitivities=not no_sensitivities,
                seed=seed,
                workers=workers,
                progress=False if quiet else None,
            )
        except FloatingPointError as error:
            complain(error)
            raise typer.Exit(FAILED) from None
        written = _write(found, output, picture)
    say(found.to_json().rstrip() if json else found.verdict.value if quiet else str(found))
    if written and not quiet and not json:
        say(f"written: {', '.join(map(str, written))}")
    if found.verdict is mf.Verdict.INCONSISTENT:
        raise typer.Exit(INCONSISTENT)
    if strict and found.verdict is mf.Verdict.UNDECIDED:
        raise typer.Exit(UNDECIDED)


def _check_targets(output: Path | None, picture: Path | None, *, force: bool) -> None:
    """Refuse, before anything is computed, what could not be written after it."""
    if output is not None:
        check_target(output, force=force, example="report.json")
    if picture is not None:
        check_suffix(picture, PICTURE_SUFFIXES, "a picture")
        check_target(picture, force=force, example="gaps.png")


def _reference(file: Path) -> tuple[Solution, Problem]:
    """The solution that is compared with, and its problem, without which nothing can be simulated or measured."""
    solution = load_file(file)
    if solution.problem is not None:
        return solution, solution.problem
    raise RefusedError(f"{file}: {solution.missing}; use mfpde.compare in Python, with the problem")


def _records(files: Sequence[Path] | None, problem: Problem) -> list[ParticleRecord] | None:
    """The particles in the files; None where there are none, and some are simulated."""
    from mfpde.verification.comparison.records import load_particles

    return [record for path in files for record in load_particles(path, problem.axes)] if files else None


def _write(found: Comparison, output: Path | None, picture: Path | None) -> list[Path]:
    """Write the numbers and the picture where they are asked for; the files written."""
    if output is not None:
        found.to_json(output)
    if picture is not None:
        found.plot(picture)
    return [path for path in (output, picture) if path is not None]


def _dynamics(text: str) -> list[Any]:
    """The parts of a particle scheme, by name."""
    from mfpde import particles

    parts = {
        "gradient-descent": particles.GradientDescent,
        "langevin": particles.Langevin,
        "birth-death": particles.BirthDeath,
        "weights": particles.Weights,
    }
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in parts:
            raise RefusedError(f"--dynamics {name!r}: {suggestion(name, list(parts))}")
    return [parts[name]() for name in names]


def _second(text: str) -> Any:
    """A fraction, or a second solution."""
    if Path(text).suffix.lower() in SUFFIXES:
        return load_file(Path(text))
    try:
        return float(text)
    except ValueError:
        raise RefusedError(f"--uncertainty {text!r}: needs a fraction such as 1e-4, or a solution's file") from None
