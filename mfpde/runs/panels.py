"""Parts of pictures: colours, scales, figures, labels, and what each panel of a run shows.

`mfpde.runs.pictures` puts them together; reports of comparisons use the same colours and frames.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.grid import moving
from mfpde.equation.species import species_axis
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.solution import Solution
from mfpde.runs.by_species import OneSpecies
from mfpde.runs.traced import Traced, traced
from mfpde.support.arrays import Array
from mfpde.support.figures import BLUE, COLOURS, CONCENTRATED, VERMILION, dress, floor, image, peak_values
from mfpde.support.words import one_line, printable, with_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

__all__ = [
    "Drawn",
    "Pictured",
    "Marginals",
    "Shown",
    "axis_names",
    "base_energy",
    "centres",
    "density_image",
    "density_label",
    "drawn",
    "error_band",
    "footnote",
    "has_energy",
    "marginal",
    "positive_part",
    "put_heading",
    "scattered",
    "set_logarithmic",
    "spread",
    "window",
    "zoom",
]


Drawn = Solution | Traced
"""What panels show."""
Shown = Drawn | OneSpecies
"""What panels of densities show."""
Pictured = Drawn | Characteristics
"""What pictures are drawn of."""


def drawn(solution: Pictured) -> Drawn:
    """What panels show of it."""
    return traced(solution) if isinstance(solution, Characteristics) else solution


def axis_names(solution: Shown, axes: Sequence[str] | None) -> list[str]:
    """The axes that a picture is drawn over: those given, or all that move of a mesh of one or two.

    Raises
    ------
    ValueError
        If they are not one or two axes of the mesh.
    """
    order = [axis.name for axis in solution.grid.axes]
    own = [axis.name for axis in solution.grid.axes if axis.moves]
    names = own if axes is None else [axes] if isinstance(axes, str) else list(axes)
    if not 1 <= len(names) <= 2 or len(set(names)) != len(names) or any(name not in order for name in names):
        raise ValueError(f"axes {names}: a picture is drawn over one or two of the axes {order}; pass axes=")
    return names


def marginal(solution: Shown, names: Sequence[str], i: int) -> Array:
    """The marginal density over the named axes at save time number `i`."""
    return solution.marginal(*names, t=float(solution.times[i]))


class Marginals(Sequence[Array]):
    """The marginals at all save times; those of densities in a file are read when they are looked at."""

    def __init__(self, solution: Shown, names: Sequence[str]) -> None:
        self.solution, self.names = solution, names
        self.held = None
        if isinstance(solution.density, np.ndarray) or len(names) < min(2, solution.grid.dimension):
            self.held = [marginal(solution, names, i) for i in range(len(solution.times))]

    def __len__(self) -> int:
        return len(self.solution.times)

    def __getitem__(self, i: Any) -> Any:
        if self.held is not None:
            return self.held[i]
        if not 0 <= i < len(self):
            raise IndexError(i)
        return marginal(self.solution, self.names, i)


def centres(solution: Shown, name: str) -> Array:
    """The centres of the cells along an axis, shape (n,)."""
    return solution.grid.centres([axis.name for axis in solution.grid.axes].index(name))


def density_label(solution: Shown, names: Sequence[str]) -> str:
    """What a density over the named axes is called."""
    return "density" if len(names) == solution.grid.dimension else "marginal density"


def spread(solution: Drawn, count: int) -> list[int]:
    """Up to `count` save times, both ends among them, between which the density moves about equally far in L1.

    Where it jumps in few of them, the others are spread over the longest waits.
    """
    last = len(solution.times) - 1
    if solution.density is None:
        return sorted({int(i) for i in np.linspace(0, last, count).round()})
    # two frames at a time, each read once: the densities may be in a file
    steps = [0.0] + [float(np.abs(after - before).sum()) for before, after in itertools.pairwise(solution.density)]
    moved = np.cumsum(steps)
    if last < count or not moved[-1] > 0:
        return sorted({int(i) for i in np.linspace(0, last, count).round()})
    nearest = [int(np.argmin(np.abs(moved / moved[-1] - share))) for share in np.linspace(0, 1, count)]
    chosen = sorted({0, *nearest[1:-1], last})
    while len(chosen) < count:
        gap = int(np.argmax(np.diff(chosen)))
        chosen.insert(gap + 1, (chosen[gap] + chosen[gap + 1]) // 2)
    return chosen


def density_image(solution: Shown, names: Sequence[str], values: Array, norm: Normalize, ax: Axes) -> Any:
    """Draw a density over two axes in colours."""
    by_name = {axis.name: axis for axis in solution.grid.axes}
    first, second = (by_name[name] for name in names)
    ax.set(xlabel=names[0], ylabel=names[1])
    return image(values, (first.lower, first.upper, second.lower, second.upper), norm, ax)


def window(
    solution: Shown, name: str, values: Sequence[Array], threshold: float, along: int = 0
) -> tuple[float, float]:
    """The part of an axis (number `along` of the marginals) on which some of the marginals exceed `threshold`.

    The whole axis, where that is most of it: a box is no news, an empty one is.
    """
    i = [axis.name for axis in solution.grid.axes].index(name)
    axis, faces = solution.grid.axes[i], solution.grid.faces(i)
    others = tuple(k for k in range(values[0].ndim) if k != along)
    seen = np.flatnonzero(np.any([v.max(axis=others) > threshold for v in values], axis=0))
    if not seen.size or axis.periodic:
        return axis.lower, axis.upper
    low, high = float(faces[seen[0]]), float(faces[seen[-1] + 1])
    margin = 0.08 * (high - low)
    if high - low + 2 * margin > 0.8 * axis.length:
        return axis.lower, axis.upper
    return max(axis.lower, low - margin), min(axis.upper, high + margin)


def zoom(solution: Shown, names: Sequence[str], values: Sequence[Array], ax: Axes) -> None:
    """Show the part of the box where the densities `values` over `names` are."""
    low, high = peak_values(values)
    threshold = floor(low, high) if high > CONCENTRATED * low else 5e-3 * high
    ax.set_xlim(window(solution, names[0], values, threshold))
    if len(names) == 2:
        ax.set_ylim(window(solution, names[1], values, threshold, along=1))


def scattered(solution: Traced, i: int, largest: float, ax: Axes) -> None:
    """Draw nodes at save time number `i`: over two axes as large as they are heavy, over one as high."""
    points, weights = solution.trajectory.points[i], solution.trajectory.weights[i]
    places = moving(solution.grid.axes)
    axes = [solution.grid.axes[k] for k in places]
    for own, colour, label in _of_species(solution, points):
        x, w = points[own][:, places], weights[own]
        if len(axes) == 1:
            ax.vlines(x[:, 0], 0.0, w, color=colour, lw=1.0, alpha=0.6)
            ax.plot(x[:, 0], w, "o", color=colour, ms=3, label=label)
        else:
            ax.scatter(x[:, 0], x[:, 1], s=60.0 * w / largest, color=colour, alpha=0.6, lw=0, label=label)
    if len(axes) == 1:
        ax.set(xlabel=axes[0].name, ylabel="weight", ylim=(0, 1.08 * largest))
    else:
        ax.set(xlabel=axes[0].name, ylabel=axes[1].name, ylim=(axes[1].lower, axes[1].upper))
    ax.set_xlim(axes[0].lower, axes[0].upper)
    if len(axes) < solution.grid.dimension:
        ax.legend(frameon=False, fontsize=9)
    ax.set_title(f"nodes at t = {solution.times[i]:.4g}", fontsize=10)
    dress(ax)


def _of_species(solution: Traced, points: Array) -> list[tuple[Any, str, str]]:
    """Which of the nodes are drawn in which colour: all in one, or those of each species."""
    found = species_axis(solution.grid.axes)
    if found is None:
        return [(slice(None), BLUE, "_")]
    numbers = found[1].indices(points[:, found[0]])
    return [
        (numbers == k, colour, label)
        for (k, label), colour in zip(enumerate(found[1].labels), itertools.cycle(COLOURS), strict=False)
    ]


def has_energy(solution: Drawn) -> bool:
    """Whether the potential is the first variation of an energy, as far as is known."""
    if solution.problem is None:
        return "regret" not in solution.diagnostics
    return solution.problem.bound_energy.lyapunov


def positive_part(values: Array) -> Array:
    """What a logarithmic scale can show; the rest is left out."""
    return np.where(values > 0, values, np.nan)


def set_logarithmic(ax: Axes) -> None:
    """A logarithmic scale, as long as there is something to show on it."""
    if any(np.any(np.isfinite(np.asarray(line.get_ydata(), dtype=float))) for line in ax.lines):
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high < 50 * low:  # few decades, few of them round: plain numbers read better
            from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())


def base_energy(solution: Drawn) -> tuple[float, str]:
    """What the energy is drawn above, and what to call the difference."""
    exact = {} if solution.problem is None else solution.problem.exact
    energy = solution.diagnostics["energy"]
    minimum = exact.get("minimum_energy")
    if isinstance(minimum, (int, float)) and energy.min() > minimum:
        return (float(minimum), "E (min E = 0)") if minimum == 0 else (float(minimum), "E − min E")
    if energy.min() > 0:
        return 0.0, "E"
    return float(energy[-1]), f"E − E(t = {solution.times[-1]:.4g})"


def error_band(ax: Axes, solution: Drawn, base: float) -> None:
    """Draw the energy with its estimated error at the save times, down to a hundredth of it where that reaches 0."""
    error, energy = solution.energy_error, solution.energy - base
    shown = np.isfinite(error) & (energy + error > 0)
    if not shown.any():
        return
    t, upper = solution.times[shown], (energy + error)[shown]
    lower = np.maximum((energy - error)[shown], 0.01 * upper)
    ax.fill_between(t, lower, upper, color=BLUE, alpha=0.2, lw=0, label="estimated error")


def put_heading(figure: Any, solution: Drawn) -> None:
    """Write what was solved and how above a figure."""
    line = solution.summary if isinstance(solution, Traced) else _summary(solution)
    figure.text(0.5, 0.60, one_line(solution.name), ha="center", va="center", fontsize=14, fontweight="bold")
    figure.text(0.5, 0.16, one_line(line), ha="center", va="center", fontsize=10, color="#555555")


def _summary(solution: Solution) -> str:
    cells = " × ".join(map(str, solution.grid.shape))
    scheme = str(solution.configuration.get("scheme", "")).split("(")[0]
    steps = len(solution.diagnostics["time"]) - 1
    end = f"E = {with_digits(solution.energy[-1], solution.energy_error[-1], most=4)} at t = {solution.times[-1]:.4g}"
    return "   ·   ".join(part for part in (f"{cells} cells", scheme, f"{steps} steps", end) if part)


def footnote(figure: Figure, solution: Drawn) -> None:
    """What the run wants looked at: a picture must not hide it."""
    notes = list(solution.warnings)
    lines = []
    if isinstance(solution, Solution):
        if not solution.result.ok:
            notes.insert(0, f"{solution.result.name.lower()}: {solution.result.value}")
        # the panel says that one
        lines = [f"note: {text}" for text in solution.notes if text != solution.no_certificate]
    if notes:
        more = f" (and {len(notes) - 1} more)" if notes[1:] else ""
        lines += textwrap.wrap(f"warning: {notes[0]}{more}", 140)
    if lines:
        figure.supxlabel(printable("\n".join(lines)), fontsize=9, color=VERMILION if notes else "#555555")
