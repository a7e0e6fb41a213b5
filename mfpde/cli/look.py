"""Commands that look at what there is."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfpde import __version__
from mfpde.cli.words import (
    ANIMATION_SUFFIXES,
    DATA_SUFFIXES,
    PICTURE_SUFFIXES,
    UNSOUND,
    RefusedError,
    any_numbers,
    configuration_of,
    is_file,
    line,
    load_file,
    one_line_warnings,
    refusing,
    report,
    say,
)

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem

__all__ = ["cite", "info", "list_problems", "plot", "verify"]


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
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


def _constructor(name: str) -> Callable[..., Problem]:
    from mfpde import problems

    if name == "network":
        return problems.network
    if name.replace("_", "-") not in problems.names():
        from mfpde.runs.tables import suggestion

        raise RefusedError(f"unknown problem {name!r}; {suggestion(name, [*problems.names(), 'network'])}")
    return problems.constructor(name)


def list_problems(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show all about this one.")] = None,
) -> None:
    """List the problems with their parameters, or show one with its equation, good values and exact facts."""
    if name is not None:
        from mfpde.cli.readable import readable

        say(readable(inspect.getdoc(_constructor(name)) or ""))
        return
    from mfpde import problems
    from mfpde.cli.readable import readable

    for title in [*problems.names(), "network"]:
        function = _constructor(title)
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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print the TOML text from which the same run is made.")] = False,
) -> None:
    """Show what is in a solution's file."""
    from mfpde.runs.loading import load

    with refusing():
        solution = load(file)
    if toml:
        text = solution.configuration.get("toml")
        if not isinstance(text, str):
            raise RefusedError(f"{file} holds no TOML text; it was not written by mfpde run")
        say(text, nl=False)
        return
    volatile = solution.provenance.get("volatile", {})
    versions = solution.provenance.get("versions", {})
    settings = {
        key: value
        for key, value in solution.configuration.items()
        if key not in ("toml", "problem", "shape", "parameters", "save", "t_end")
    }
    parameters = solution.configuration.get("parameters") or {}
    rows = {
        "file": f"{file} ({file.stat().st_size} bytes)",
        "axes": "; ".join(repr(axis) for axis in solution.grid.axes),
        "parameters": ", ".join(f"{key} = {value}" for key, value in parameters.items()) or "none",
        **{key: line(value) for key, value in settings.items()},
        "values": "at the cell centres" if solution.point_values else "cell averages",
        "save times": ", ".join(f"{t:g}" for t in solution.times),
        "made": f"{volatile.get('date', '?')} by {volatile.get('command', '?')}",
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()) or "?",
        "fingerprint": solution.fingerprint or "none",
    }
    width = max(map(len, rows))
    say(report(solution))
    say("")
    for key, value in rows.items():
        say(f"  {key:<{width}}  {value}")
    for text in solution.warnings:
        say(f"  warning: {line(text)}")


def plot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A solution's file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The picture [default: FILE.png].", show_default=False)
    ] = None,
    animation: Annotated[
        Path | None,
        typer.Option("--animate", help="Write an animation to this file (.gif or .mp4).", show_default=False),
    ] = None,
) -> None:
    """Draw a solution: density, energy with its certificate, network output."""
    solution = load_file(file)
    picture = output
    if picture is None and animation is None:
        picture = file.with_suffix(".png")
    for what, path, suffixes in (
        ("a picture", picture, PICTURE_SUFFIXES),
        ("an animation", animation, ANIMATION_SUFFIXES),
    ):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise RefusedError(f"{path}: {what} must end in {' or '.join(suffixes)}")
        if not path.parent.is_dir():
            raise RefusedError(f"{path}: the folder {path.parent} does not exist")
    from mfpde.runs import pictures

    with one_line_warnings(), refusing(), any_numbers():
        if picture is not None:
            pictures.plot(solution, picture)
            say(f"written: {picture}")
        if animation is not None:
            pictures.animate(solution, animation)
            say(f"written: {animation}")


REFERENCES = {
    "Weno5": (
        """@article{borges2008improved,
  title   = {An improved weighted essentially non-oscillatory scheme for hyperbolic conservation laws},
  author  = {Borges, Rafael and Carmona, Monique and Costa, Bruno and Don, Wai Sun},
  journal = {Journal of Computational Physics},
  volume  = {227},
  number  = {6},
  pages   = {3191--3211},
  year    = {2008}
}""",
        """@article{jiang2013alternative,
  title   = {An alternative formulation of finite difference weighted {ENO} schemes with {L}ax--{W}endroff time
             discretization for conservation laws},
  author  = {Jiang, Yan and Shu, Chi-Wang and Zhang, Mengping},
  journal = {SIAM Journal on Scientific Computing},
  volume  = {35},
  number  = {2},
  pages   = {A1137--A1160},
  year    = {2013}
}""",
    ),
    "Muscl": (
        """@article{vanleer1979towards,
  title   = {Towards the ultimate conservative difference scheme. {V}. {A} second-order sequel to {G}odunov's method},
  author  = {van Leer, Bram},
  journal = {Journal of Computational Physics},
  volume  = {32},
  number  = {1},
  pages   = {101--136},
  year    = {1979}
}""",
    ),
    "Upwind": (
        """@article{courant1952solution,
  title   = {On the solution of nonlinear hyperbolic differential equations by finite differences},
  author  = {Courant, Richard and Isaacson, Eugene and Rees, Mina},
  journal = {Communications on Pure and Applied Mathematics},
  volume  = {5},
  number  = {3},
  pages   = {243--255},
  year    = {1952}
}""",
    ),
    "ScharfetterGummel": (
        """@article{scharfetter1969large,
  title   = {Large-signal analysis of a silicon {R}ead diode oscillator},
  author  = {Scharfetter, Donald L. and Gummel, Hermann K.},
  journal = {IEEE Transactions on Electron Devices},
  volume  = {16},
  number  = {1},
  pages   = {64--77},
  year    = {1969}
}""",
        """@article{schlichting2022scharfetter,
  title   = {The {S}charfetter--{G}ummel scheme for aggregation--diffusion equations},
  author  = {Schlichting, Andr{\\'e} and Seis, Christian},
  journal = {IMA Journal of Numerical Analysis},
  volume  = {42},
  number  = {3},
  pages   = {2361--2402},
  year    = {2022}
}""",
    ),
    "ExponentialSSPRK3": (
        """@article{isherwood2018strong,
  title   = {Strong stability preserving integrating factor {R}unge--{K}utta methods},
  author  = {Isherwood, Leah and Grant, Zachary J. and Gottlieb, Sigal},
  journal = {SIAM Journal on Numerical Analysis},
  volume  = {56},
  number  = {6},
  pages   = {3276--3307},
  year    = {2018}
}""",
    ),
    "Strang": (
        """@article{strang1968construction,
  title   = {On the construction and comparison of difference schemes},
  author  = {Strang, Gilbert},
  journal = {SIAM Journal on Numerical Analysis},
  volume  = {5},
  number  = {3},
  pages   = {506--517},
  year    = {1968}
}""",
    ),
}
"""BibTeX of the schemes, by the name of their class."""

YEAR = 2026
"""Of this version."""


def cite(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A problem's name, a TOML file, or a solution's file.")
    ],
) -> None:
    """Print BibTeX for the problem, the schemes used, and mfpde."""
    from mfpde import problems
    from mfpde.problems import rotskoff2019

    entries: list[str] = []
    with refusing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if Path(what).suffix.lower() in DATA_SUFFIXES:
            solution = load_file(Path(what))
            problem = solution.problem
            if problem is None and solution.name in problems.names():
                problem = problems.get(solution.name)
            schemes = [str(solution.configuration.get(key, "")) for key in ("scheme", "method")]
        elif what == "network":
            problem, schemes = None, ["Weno5", "ExponentialSSPRK3"]
        else:
            from_file = is_file(what)
            if not from_file:
                _constructor(what)
            configuration = configuration_of(what, {}, from_file=from_file)
            problem = configuration.problem()
            arguments = configuration.completed(problem).solve_arguments()
            schemes = [repr(arguments[key]) for key in ("scheme", "method")]
    if problem is not None and problem.citation:
        entries.append(problem.citation)
    entries.append(rotskoff2019.CITATION)
    for scheme in schemes:
        entries += REFERENCES.get(scheme.partition("(")[0], ())
    entries.append(f"""@software{{mfpde,
  title   = {{mfpde: a grid-based solver for the mean-field PDE of wide two-layer networks}},
  author  = {{{{The mfpde developers}}}},
  version = {{{__version__}}},
  year    = {{{YEAR}}}
}}""")
    say("\n\n".join(dict.fromkeys(entries)))
