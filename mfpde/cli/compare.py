"""The command that compares particles with the mean field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mfpde.cli.words import (
    DATA_SUFFIXES,
    FAILED,
    INCONSISTENT,
    PICTURE_SUFFIXES,
    UNDECIDED,
    RefusedError,
    check_target,
    complain,
    floats,
    integers,
    load_file,
    one_line_warnings,
    refusing,
    say,
)

__all__ = ["compare"]


def compare(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    particles: Annotated[
        list[Path] | None,
        typer.Option(
            "--particles",
            metavar="FILE",
            help="Your own particles, NPZ or HDF5 (docs/your-particles.md). Repeatable. Without it some are simulated.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[str, typer.Option(help="Numbers of particles.", metavar="N,N,..")] = "100,1000,10000",
    replicas: Annotated[int, typer.Option(help="Independent runs of each size.")] = 32,
    dt: Annotated[float, typer.Option(help="Time step of the simulations.")] = 1e-2,
    dynamics: Annotated[
        str | None,
        typer.Option(
            help="What a step is made of: gradient-descent, langevin, birth-death, weights [default: the problem's].",
            metavar="NAME,NAME,..",
            show_default=False,
        ),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option(help="Save times to compare at [default: up to six].", metavar="T,T,..", show_default=False),
    ] = None,
    no_control: Annotated[bool, typer.Option("--no-control", help="Do not run the longer steps.")] = False,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            help="The solution's error: a fraction, or the file of a second solution [default: half the cells].",
            metavar="X|FILE",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Bias that does not matter, a fraction of the scale.")] = 1e-3,
    false_alarm: Annotated[float, typer.Option(help="Probability that a right scheme fails, at most.")] = 1e-3,
    no_sensitivities: Annotated[
        bool, typer.Option("--no-sensitivities", help="Do not find which errors would have been seen: no further runs.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulations.")] = 0,
    workers: Annotated[int, typer.Option(help="Threads of the simulations.")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all numbers to this file (JSON).", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the gaps against n (.png, .pdf, .svg).", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of the table.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 6 if it is undecided.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the verdict only.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Overwrite files.")] = False,
) -> None:
    """Compare particles with a solution: rates in n, bias, a verdict with its limit.

    Exit code 4 if they are inconsistent; with --strict 6 if that is undecided.
    """
    with one_line_warnings(), refusing():
        if output is not None:
            check_target(output, force=force, example="report.json")
        if picture is not None:
            if picture.suffix.lower() not in PICTURE_SUFFIXES:
                raise RefusedError(f"{picture}: a picture must end in {' or '.join(PICTURE_SUFFIXES)}")
            check_target(picture, force=force, example="gaps.png")
        solution = load_file(file)
        if solution.problem is None:
            from mfpde.runs.loading import data_of

            if data := data_of(solution):
                raise RefusedError(f"{file}: the data of its network, {data}, have changed or are gone; put them back")
            raise RefusedError(f"{file} holds a problem built of user code; use mfpde.compare in Python")
        import mfpde as mf

        records = None
        if particles:
            records = [r for path in particles for r in mf.load_particles(path, solution.problem.axes)]
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
        written = []
        if output is not None:
            found.to_json(output)
            written.append(output)
        if picture is not None:
            found.plot(picture)
            written.append(picture)
    say(found.to_json().rstrip() if json else found.verdict.value if quiet else str(found))
    if written and not quiet and not json:
        say(f"written: {', '.join(map(str, written))}")
    if found.verdict is mf.Verdict.INCONSISTENT:
        raise typer.Exit(INCONSISTENT)
    if strict and found.verdict is mf.Verdict.UNDECIDED:
        raise typer.Exit(UNDECIDED)


def _dynamics(text: str) -> list[Any]:
    """The parts of a particle scheme, by name."""
    from mfpde import particles
    from mfpde.runs.tables import suggestion

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
    if Path(text).suffix.lower() in DATA_SUFFIXES:
        return load_file(Path(text))
    try:
        return float(text)
    except ValueError:
        raise RefusedError(f"--uncertainty {text!r}: needs a fraction such as 1e-4, or a solution's file") from None
