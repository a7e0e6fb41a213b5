"""The picture of a stationary state: its density, the potential that holds it, and what its network gives."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.output_panels import against_truth, backdrop, has_output, output_lines, shown_inputs
from mfpde.support.arrays import Array
from mfpde.support.figures import (
    BLUE,
    VERMILION,
    colour_bar,
    density_norm,
    dress,
    image,
    new_figure,
    subfigures,
)
from mfpde.support.words import one_line, printable, with_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mfpde.equation.equilibrium_record import EquilibriumRecord
    from mfpde.equation.problem import Problem

__all__ = ["draw_equilibrium"]


def draw_equilibrium(state: EquilibriumRecord, problem: Problem | None, predict: Callable[[Array], Array]) -> Figure:
    """See `Equilibrium.plot`; the output is what `predict` gives, where the problem has one."""
    output, dimension = has_output(problem), state.grid.dimension
    panels = (1 if dimension == 1 else 2 if dimension == 2 else dimension) + output
    figure = new_figure(max((4.6 if dimension < 3 else 3.6) * panels + 0.8, 7.0), 4.6)
    head, body = subfigures(figure, 2, 1, height_ratios=[0.9, 3.7])
    _heading(head, state)
    axes = list(np.ravel(body.subplots(1, panels, squeeze=False)))
    if dimension == 1:
        _curves(state, axes[0])
    elif dimension == 2:
        _planes(state, axes[:2])
    else:
        for i, ax in enumerate(axes[:dimension]):
            _marginal(state, i, ax)
    if output:
        _output(problem, predict, axes[-1])
    if state.no_error or not state.converged:
        said = "not converged; " * (not state.converged) + f"error of the energy not estimated: {state.no_error}"
        lines = textwrap.wrap(said, 110)
        figure.supxlabel(printable("\n".join(lines)), fontsize=9, color="#555555" if state.converged else VERMILION)
    return figure


def _heading(figure: Any, state: EquilibriumRecord) -> None:
    cells = " × ".join(map(str, state.grid.shape))
    energy = with_digits(state.energy, state.energy_error, most=6)
    kind = "minimiser" if state.convex else "stationary state"
    line = (
        f"{kind} at temperature {state.temperature:g}   ·   {cells} cells   ·   E = {energy}   ·   gap {state.gap:.2g}"
    )
    figure.text(0.5, 0.62, one_line(state.name), ha="center", va="center", fontsize=14, fontweight="bold")
    figure.text(0.5, 0.18, line, ha="center", va="center", fontsize=10, color="#555555")


def _curves(state: EquilibriumRecord, ax: Axes) -> None:
    """The density over one axis, and the potential on a scale of its own; atoms, at temperature 0, as bars."""
    x, name = state.grid.centres(0), state.grid.axes[0].name
    if state.temperature > 0:
        ax.plot(x, state.mu, color=BLUE, lw=2.0)
        ax.fill_between(x, 0.0, state.mu, color=BLUE, alpha=0.15, lw=0)
        label = "density"
    else:
        there = state.mu > 0
        ax.vlines(x[there], 0.0, (state.mu * state.grid.cell_volume)[there], color=BLUE, lw=1.5)
        ax.plot(x[there], (state.mu * state.grid.cell_volume)[there], "o", color=BLUE, ms=4)
        label = "mass of a cell"
    ax.set(xlabel=name, ylabel=label, xlim=(state.grid.axes[0].lower, state.grid.axes[0].upper))
    ax.set_ylim(bottom=0.0)
    dress(ax)
    ax.yaxis.label.set_color(BLUE)
    other = ax.twinx()
    other.plot(x, state.potential, color=VERMILION, lw=1.4, ls="--")
    other.set_ylabel("potential V", color=VERMILION)
    other.tick_params(labelsize=9)
    other.spines[["top"]].set_visible(False)
    ax.set_title("density and potential", fontsize=10)


def _planes(state: EquilibriumRecord, panels: list[Axes]) -> None:
    """Density and potential over two axes."""
    from matplotlib.colors import Normalize

    first, second = state.grid.axes
    extent = (first.lower, first.upper, second.lower, second.upper)
    norms = density_norm([state.mu]), Normalize(float(state.potential.min()), float(state.potential.max()))
    for ax, values, norm, label in zip(
        panels, (state.mu, state.potential), norms, ("density", "potential V"), strict=True
    ):
        drawn = image(values, extent, norm, ax)
        ax.set(xlabel=first.name, ylabel=second.name)
        ax.set_title(label, fontsize=10)
        colour_bar(ax, drawn, label)


def _marginal(state: EquilibriumRecord, i: int, ax: Axes) -> None:
    """The marginal density over axis number `i`."""
    grid = state.grid
    others = tuple(k for k in range(grid.dimension) if k != i)
    volume = float(np.prod([grid.spacing[k] for k in others]))
    values: Array = state.mu.sum(axis=others) * volume
    ax.plot(grid.centres(i), values, color=BLUE, lw=2.0)
    ax.fill_between(grid.centres(i), 0.0, values, color=BLUE, alpha=0.15, lw=0)
    ax.set(xlabel=grid.axes[i].name, ylabel="marginal density", xlim=(grid.axes[i].lower, grid.axes[i].upper))
    ax.set_ylim(bottom=0.0)
    ax.set_title(f"density over {grid.axes[i].name}", fontsize=10)
    dress(ax)


def _output(problem: Problem | None, predict: Callable[[Array], Array], ax: Axes) -> None:
    """What the network gives, beside its target or its data."""
    x, truth, data = shown_inputs(problem)
    ax.set_title("network output", fontsize=10)
    if x.ndim == 2 and x.shape[1] > 1:
        assert truth is not None
        against_truth(x, predict(x), truth, ax)
    else:
        backdrop(x, truth, data, ax)
        output_lines(ax, x, predict(x), 1.0, "network", "-")
        ax.legend(frameon=False, fontsize=9, markerscale=1.6)
    dress(ax)
