"""Parts of pictures that know nothing of runs: colours, scales, figures and frames.

Figures are made without pyplot: nothing global changes, no window opens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.support.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "COLOURS",
    "CONCENTRATED",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "TIME_MAP",
    "VERMILION",
    "colour_bar",
    "density_norm",
    "dress",
    "floor",
    "given_axes",
    "image",
    "new_figure",
    "peak_values",
    "subfigures",
]

# the palette of Okabe and Ito, told apart with every kind of colour vision
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
GREY = "#777777"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
"""Of one thing after the other."""
TIME_MAP, DENSITY_MAP = "viridis", "magma"

CONCENTRATED = 8.0
"""Peaks that differ by more than this factor are drawn on a logarithmic scale."""


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches that is independent of pyplot."""
    if "IPython" in sys.modules:
        import matplotlib.pyplot  # noqa: F401 -- notebooks learn from it how a figure is shown
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.09, h_pad=0.07, wspace=0.03, hspace=0.03)  # type: ignore[call-arg]
    return figure


def subfigures(figure: Any, rows: int, columns: int, **ratios: Sequence[float]) -> Any:
    """Parts of a figure in rows and columns; `ratios` are their heights or widths."""
    return figure.subfigures(rows, columns, **ratios)


def given_axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    return new_figure(6.0, 4.2).subplots() if ax is None else ax


def dress(ax: Axes) -> Axes:
    """Give a panel of curves its frame, grid and labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, which="major", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=9)
    ax.locator_params(axis="x", nbins=7)
    return ax


def peak_values(values: Sequence[Array]) -> tuple[float, float]:
    """The smallest and the largest maximum."""
    peaks = [float(v.max()) for v in values]
    positive = [peak for peak in peaks if peak > 0]
    return (min(positive), max(positive)) if positive else (1.0, 1.0)


def floor(low: float, high: float) -> float:
    """Where a logarithmic scale begins: three decades below the lowest peak."""
    return max(1e-3 * low, 1e-9 * high)


def density_norm(values: Sequence[Array]) -> Normalize:
    """The scale of colours of some densities: linear, or logarithmic where their peaks differ much."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = peak_values(values)
    if high > CONCENTRATED * low:
        return LogNorm(floor(low, high), high)
    return Normalize(0.0, high)


def image(values: Array, extent: tuple[float, float, float, float], norm: Normalize, ax: Axes) -> Any:
    """Draw values over two coordinates in colours; `extent` are the bounds of the first, then of the second."""
    import matplotlib as mpl

    colours = mpl.colormaps[DENSITY_MAP].with_extremes(bad=mpl.colormaps[DENSITY_MAP](0.0))
    drawn = ax.imshow(values.T, norm=norm, cmap=colours, origin="lower", extent=extent, aspect="auto")
    ax.tick_params(labelsize=9)
    ax.locator_params(nbins=6)
    return drawn


def colour_bar(ax: Any, image: Any, label: str) -> None:
    """A bar beside a panel, or beside several, that says what the colours of an image mean."""
    from matplotlib.colors import LogNorm

    owner = ax if not isinstance(ax, (list, np.ndarray)) else np.ravel(ax)[0]
    logarithmic = isinstance(image.norm, LogNorm)
    bar = owner.figure.colorbar(image, ax=ax, extend="min" if logarithmic else "neither", pad=0.02)
    bar.set_label(f"{label} (log scale)" if logarithmic else label, fontsize=10)
    bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)
