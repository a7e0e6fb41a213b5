"""Solutions on the command line: read from a file, printed as a table, drawn."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfpde.cli.output import columns, listed, one_line_warnings, reason, refusing, say
from mfpde.support.words import with_digits

if TYPE_CHECKING:
    from mfpde.equation.equilibrium import Equilibrium
    from mfpde.mesh.solution import Solution

__all__ = ["any_numbers", "draw", "load_any", "load_file", "report"]


def load_file(path: Path) -> Solution:
    """The solution in a file."""
    from mfpde.runs.loading import load_solution

    with refusing(), one_line_warnings():
        return load_solution(path)


def load_any(path: Path) -> Solution | Equilibrium:
    """The solution or the stationary state in a file."""
    from mfpde.runs.loading import load

    with refusing(), one_line_warnings():
        return load(path)


def report(solution: Solution) -> str:
    """What a run has found: its summary, its notes, and a line a save time."""
    notes = [f"  note: {text}" for text in solution.notes if text != solution.no_certificate]
    head = f"Solution of {solution.name!r}"
    return "\n".join([head, *listed(solution.summary()), *notes, "", *_saves(solution)])


def _saves(solution: Solution) -> list[str]:
    """A line a save time."""
    import numpy as np

    d = solution.diagnostics
    at = np.minimum(np.searchsorted(d["time"], solution.times), len(d["time"]) - 1)
    errors = solution.energy_error
    estimated = bool(np.isfinite(errors).any())
    certificate = "regret" if "regret" in d else "optimality gap"
    table = [("t", "energy", *["error"] * estimated, certificate, "mass", "minimum")]
    for i, t, error in zip(at, solution.times, errors, strict=True):
        gap, mass, least = (float(d[name][i]) for name in (certificate.replace(" ", "_"), "mass", "minimum"))
        # early versions wrote a number all the same
        shown = "nan" if solution.no_certificate and "regret" not in d else f"{gap:.3g}"
        energy = with_digits(float(d["energy"][i]), float(error))
        table.append((f"{t:g}", energy, *[f"{error:.1e}"] * estimated, shown, f"{mass:.12g}", f"{least:.3g}"))
    return ["  " + row for row in columns(table, str.rjust)]


def draw(solution: Solution, path: Path) -> bool:
    """Draw the picture; whether that worked. A run is not lost when it fails."""
    from mfpde.runs.pictures import plot

    try:
        with any_numbers():
            plot(solution, path)
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        say(f"warning: no picture: {reason(error)}", err=True)
        return False
    return True


def any_numbers() -> contextlib.AbstractContextManager[Any]:
    """Draw whatever a file holds: axes of 1e300 overflow where ticks are made, which is nobody's business."""
    import numpy as np

    return np.errstate(all="ignore")
