"""The command `cite`: BibTeX for a problem, the schemes that solve it, and the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfpde import __version__
from mfpde.cli.files import configuration_of, is_file
from mfpde.cli.look import problem_constructor
from mfpde.cli.output import refusing, say
from mfpde.cli.solutions import load_any
from mfpde.support.files import SUFFIXES
from mfpde.support.session import quiet

__all__ = ["cite"]


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
    with refusing(), quiet():
        if Path(what).suffix.lower() in SUFFIXES:
            solution = load_any(Path(what))
            problem = solution.problem
            if problem is None and solution.name in problems.names():
                problem = problems.get(solution.name)
            schemes = [str(solution.configuration.get(key, "")) for key in ("scheme", "method")]
        elif what == "network":
            problem, schemes = None, ["Weno5", "ExponentialSSPRK3"]
        else:
            from_file = is_file(what)
            if not from_file:
                problem_constructor(what)
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
