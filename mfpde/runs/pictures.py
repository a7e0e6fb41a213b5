"""Pictures of solutions and characteristics: a summary of a run, single panels, animations.

Figures are made without pyplot: nothing global changes, no window opens, nothing has to be closed. A figure
shows itself at the end of a notebook cell; elsewhere give ``path=`` or call ``figure.savefig``.
"""

from __future__ import annotations

import itertools
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.grid import box, moving
from mfpde.equation.output_panels import against_truth, backdrop, has_output, output_lines, shown_inputs
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.solution import Solution
from mfpde.runs.by_species import OneSpecies, each_species
from mfpde.runs.maps import draw_sweep, is_dataset
from mfpde.runs.panels import (
    Drawn,
    Marginals,
    Pictured,
    Shown,
    axis_names,
    base_energy,
    centres,
    density_image,
    density_label,
    drawn,
    error_band,
    footnote,
    has_energy,
    marginal,
    positive_part,
    put_heading,
    scattered,
    set_logarithmic,
    spread,
    window,
    zoom,
)
from mfpde.runs.traced import Traced
from mfpde.support.arguments import FLAG, NONE, NUMBER, NUMBERS, PATH, TEXTS, one_of, require
from mfpde.support.figures import (
    BLUE,
    CONCENTRATED,
    GREEN,
    GREY,
    PURPLE,
    TIME_MAP,
    VERMILION,
    colour_bar,
    density_norm,
    dress,
    floor,
    given_axes,
    new_figure,
    peak_values,
    subfigures,
)
from mfpde.support.files.beside import temporary_of
from mfpde.support.files.locks import held
from mfpde.support.session import drawn_bar
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["animate", "plot", "plot_density", "plot_dissipation", "plot_energy", "plot_output"]


PANELS, CURVES = 4, 7
"""How many save times small multiples and bundles of curves show."""


# ---------------------------------------------------------------------------------------------------------------------
# whole figures
# ---------------------------------------------------------------------------------------------------------------------


def plot(
    solution: Pictured | Equilibrium | xarray.Dataset,
    path: str | os.PathLike[str] | None = None,
    *,
    times: Sequence[float] | None = None,
    variables: Sequence[str] | None = None,
) -> Figure:
    """A summary of a run: density, energy with its certificate, dissipation, network output; or the map of a sweep.

    Parameters
    ----------
    solution : Solution, Characteristics, Equilibrium or xarray.Dataset
        What to draw. Of a stationary state its density and potential. Of a sweep lines with bands over one parameter,
        or colours over two, hatched where the estimated error is above a twentieth of the range. Of characteristics the
        density is computed at the save times, where their mass is; nodes are drawn where there is none, because the run
        starts from atoms, or where it takes minutes: with two axes if no compiled program made the run, and with more.
    path : path, optional
        Where to write the figure; the suffix names the format (.png, .pdf, .svg, ...).
    times : sequence of float, optional
        Save times at which the density is drawn; default: up to 4 (2-D) or 7 (1-D), evenly chosen. With three or
        four axes, marginals are drawn at the last of them. Of several species each has its own panels.
    variables : sequence of str, optional
        Of a sweep, what is drawn; default: energy, gap, dissipation and mass, where there are these.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If one of `times` is no save time; for a sweep over more than two parameters.

    Notes
    -----
    The energy is drawn above its minimum where the problem knows it; where it does not and the energy is not
    positive, above its last value. The *optimality gap* is an upper bound of ``E - min E`` over measures on the box;
    there is none where E is not known to be convex. Densities
    whose peaks grow by more than a factor of 8 are drawn on a logarithmic scale; the colour bar says so.
    """
    if is_dataset(solution):
        require(path=(path, PATH | NONE))
        figure = draw_sweep(solution, variables)  # type: ignore[arg-type]
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure
    if isinstance(solution, Equilibrium):
        return solution.plot(path)
    require(
        solution=(solution, one_of(Solution, Characteristics, Equilibrium)),
        path=(path, PATH | NONE),
        times=(times, NUMBERS | NONE),
    )
    solution = drawn(solution)  # type: ignore[arg-type]
    dimension = len(moving(solution.grid.axes))
    count = CURVES if dimension == 1 else PANELS
    shown = spread(solution, count) if times is None else [solution.index(t) for t in times]
    if not shown:
        raise ValueError("times is empty; leave it out, or name at least one save time")
    output = has_output(solution.problem)
    drawers: list[Callable[[Drawn, Axes], Any]] = [lambda s, ax: plot_energy(s, ax=ax)]
    if has_energy(solution):
        drawers.append(lambda s, ax: plot_dissipation(s, ax=ax))
    elif "regret" in solution.diagnostics:
        drawers.append(_plot_regret)
    if output:
        drawers.append(lambda s, ax: plot_output(s, ax=ax))

    sizes = {1: (12.6, 7.4), 2: (12.6, 7.6), 3: (12.6, 8.2), 4: (13.6, 9.2)}
    figure = new_figure(*sizes[dimension])
    head, body = subfigures(figure, 2, 1, height_ratios=[0.7, sizes[dimension][1] - 0.7])
    put_heading(head, solution)
    nodes = isinstance(solution, Traced) and solution.density is None
    if dimension <= 2 or nodes:
        top, bottom = subfigures(body, 2, 1, height_ratios=[1.1, 1.0])
        if isinstance(solution, Traced) and nodes:
            _nodes(solution, shown if times is not None else spread(solution, PANELS), top)
        else:
            for one, part in _parts(solution, top):
                _densities(one, shown if dimension == 1 or times is not None else shown[:: _every(solution)], part)
        panels = bottom.subplots(1, len(drawers), squeeze=False)[0]
    else:
        left, right = subfigures(body, 1, 2, width_ratios=[1.9, 1.0])
        for one, part in _parts(solution, left):
            _corner(one, shown[-1], part)
        panels = right.subplots(len(drawers), 1, squeeze=False)[:, 0]
    for draw, ax in zip(drawers, panels, strict=True):
        draw(solution, ax)
    footnote(figure, solution)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def animate(
    solution: Pictured,
    path: str | os.PathLike[str],
    *,
    axes: Sequence[str] | None = None,
    frames_per_second: float = 8.0,
    progress: bool | None = None,
) -> None:
    """Write an animation of the density, with the network's output if there is one: one frame a save time.

    Parameters
    ----------
    solution : Solution or Characteristics
        What to draw. Ask `mfpde.solve` for enough save times: ``save=60``.
    path : path
        ``.gif`` (always works) or ``.mp4`` (needs the program ffmpeg).
    axes : sequence of str, optional
        One or two axis names, over which the marginal is drawn; default: all, the first two of three or four, with a
        panel for each species.
    frames_per_second : float, optional
        Default 8.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.

    Raises
    ------
    ValueError
        For another suffix, or ``.mp4`` without ffmpeg.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter

    require(
        solution=(solution, one_of(Solution, Characteristics)),
        path=(path, PATH),
        axes=(axes, TEXTS | NONE),
        frames_per_second=(frames_per_second, NUMBER),
        progress=(progress, FLAG | NONE),
    )
    solution = drawn(solution)
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"an animation is a .gif or a .mp4, not {target.name!r}")
    if suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise ValueError("a .mp4 needs the program ffmpeg, which is not on the path; write a .gif, or install ffmpeg")
    if not frames_per_second > 0:
        raise ValueError(f"frames_per_second must be positive, not {frames_per_second!r}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    writer = (PillowWriter if suffix == ".gif" else FFMpegWriter)(fps=frames_per_second)  # type: ignore[arg-type]

    names = axis_names(solution, axes if axes is not None else [a.name for a in solution.grid.axes if a.moves][:2])
    output = has_output(solution.problem)
    figure = new_figure(10.0 if output or len(names) < solution.grid.dimension else 6.0, 4.6)
    each = each_species(solution) if axes is None else [solution]
    panels = figure.subplots(1, len(each) + output, squeeze=False)[0]
    shows = [_moving_density(one, names, ax) for one, ax in zip(each, panels, strict=False)]
    if len(each) > 1:
        for one, ax in zip(each, panels, strict=False):
            ax.set_title(one.label, fontsize=10)
    shows += [_moving_output(solution, panels[-1])] if output else []
    heading = figure.suptitle("", fontsize=12)

    def show(i: int) -> None:
        for move in shows:
            move(i)
        heading.set_text(f"{one_line(solution.name)}   t = {solution.times[i]:.4g}   E = {solution.energy[i]:.4g}")

    frames = len(solution.times)
    show(frames - 1)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once: no frame jumps
    with held(target):
        temporary = temporary_of(target, suffix)  # which says what is written
        try:
            with drawn_bar(progress, "frames", frames) as change, writer.saving(figure, str(temporary), dpi=100):
                for i in range(frames):
                    show(i)
                    writer.grab_frame()
                    change(advance=1)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------------------------
# single panels
# ---------------------------------------------------------------------------------------------------------------------


def plot_density(
    solution: Pictured,
    t: float | Sequence[float] | None = None,
    axes: Sequence[str] | None = None,
    *,
    species: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The density over one axis (curves) or two (colours), a marginal where there are more.

    Parameters
    ----------
    solution : Solution or Characteristics
        What to draw.
    t : float or sequence of float, optional
        A save time, default the last; over one axis several, coloured by time.
    axes : sequence of str, optional
        One or two axis names; default: all, where there are no more than two.
    species : str, optional
        The label of one species; default: all of them together.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The new figure is its ``figure``.

    Raises
    ------
    ValueError
        If a time is no save time, or the axes are not one or two of the grid's.
    """
    whole = drawn(solution)
    one: Shown = whole if species is None else _species(whole, species)
    names = axis_names(one, axes)
    times = [t] if t is None or np.ndim(t) == 0 else list(t)  # type: ignore[arg-type, list-item]
    shown = [one.index(time) for time in times]  # type: ignore[arg-type]
    if not shown or (len(names) == 2 and len(shown) > 1):
        raise ValueError(f"{len(shown)} times over the axes {names}: one for colours, at least one for curves")
    ax = given_axes(ax)
    if len(names) == 1:
        _curves(one, names[0], shown, ax)
    else:
        values = [marginal(one, names, shown[0])]
        image = density_image(one, names, values[0], density_norm(values), ax)
        zoom(one, names, values, ax)
        ax.set_title(f"t = {one.times[shown[0]]:.4g}", fontsize=10)
        colour_bar(ax, image, density_label(one, names))
    return ax


def plot_energy(solution: Pictured, *, ax: Axes | None = None) -> Axes:
    """The energy and its certificate over time, on a logarithmic scale.

    The *optimality gap* ``mass (Vbar - min V)``, with a temperature ``tau KL(mu | p_mu)``, bounds ``E - min E`` over
    measures on the box. Where E is not known to be convex there is none, and the title says so. See `plot` for what
    the energy is drawn above. A band shows the estimated error (`Solution.energy_error`).

    Parameters
    ----------
    solution : Solution or Characteristics
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    solution = drawn(solution)
    ax = given_axes(ax)
    diagnostics = solution.diagnostics
    time = diagnostics["time"]
    if not has_energy(solution):
        ax.plot(time, diagnostics["energy"], color=BLUE, lw=2.2)
        ax.set(xlabel="time t", ylabel="E")
        ax.set_title("the value E, of which V is not the first variation", fontsize=10)
        return dress(ax)
    base, label = base_energy(solution)
    ax.plot(time, positive_part(diagnostics["energy"] - base), color=BLUE, lw=2.2, label=label)
    error_band(ax, solution, base)
    if not solution.no_certificate:
        # above the energy: without interaction the two coincide
        gap = positive_part(diagnostics["optimality_gap"])
        ax.plot(time, gap, color=VERMILION, lw=1.6, ls="--", label="optimality gap")
    if len(solution.times) <= 15:
        ax.plot(solution.times, positive_part(solution.energy - base), "o", color=BLUE, ms=4, label="_saved")
    exact = {} if solution.problem is None else solution.problem.exact
    if callable(exact.get("energy")):
        fine = np.linspace(time[0], time[-1], 200)
        values = np.array([float(exact["energy"](s)) for s in fine])
        ax.plot(fine, positive_part(values - base), color="black", lw=1.2, ls=":", label="closed form")
    set_logarithmic(ax)
    ax.set(xlabel="time t", ylabel="energy")
    if solution.no_certificate:
        ax.set_title(f"energy ({one_line(solution.no_certificate)})", fontsize=10)
        ax.legend(frameon=False, fontsize=9)
        return dress(ax)
    ax.set_title("energy and its certificate", fontsize=10)
    over = "\n".join(textwrap.wrap(f"over measures on {box(solution.grid.axes)}", 40))
    ax.legend(frameon=False, fontsize=9, title=over, title_fontsize=7)
    return dress(ax)


def plot_dissipation(solution: Pictured, *, ax: Axes | None = None) -> Axes:
    """What the transport and the reaction take from the energy per time, on a logarithmic scale.

    Parameters
    ----------
    solution : Solution or Characteristics
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    solution = drawn(solution)
    ax = given_axes(ax)
    time = solution.diagnostics["time"]
    for name, label, colour, style in (
        ("dissipation_transport", "transport", GREEN, "-"),
        ("dissipation_reaction", "birth and death", PURPLE, "-."),
    ):
        values = solution.diagnostics[name]
        if np.any(values):
            ax.plot(time, positive_part(values), color=colour, ls=style, lw=2.0, label=label)
    set_logarithmic(ax)
    ax.set(xlabel="time t", ylabel="$-dE/dt$")
    ax.set_title("dissipation: what lowers the energy", fontsize=10)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    return dress(ax)


def plot_output(solution: Pictured, t: float | None = None, *, ax: Axes | None = None) -> Axes:
    """The network's output against its target or its data.

    Inputs of one component: curves at the start and at `t`. More components: predicted against true values.

    Parameters
    ----------
    solution : Solution
        What to draw; its problem must name a network and inputs.
    t : float, optional
        A save time; default: the last.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the problem names no network with inputs.
    """
    solution = drawn(solution)
    if not has_output(solution.problem):
        raise ValueError(f"problem {solution.name!r} names no network with inputs, or was not rebuilt from its file")
    ax = given_axes(ax)
    i = solution.index(t)
    x, truth, data = shown_inputs(solution.problem)
    if x.ndim == 2 and x.shape[1] > 1:
        assert truth is not None
        against_truth(x, solution.predict(x, float(solution.times[i])), truth, ax)
        ax.set_title(f"network output at t = {solution.times[i]:.4g}", fontsize=10)
        return dress(ax)
    backdrop(x, truth, data, ax)
    if i > 0:
        output_lines(ax, x, solution.predict(x, float(solution.times[0])), 0.6, f"t = {solution.times[0]:.4g}", ":")
    output_lines(ax, x, solution.predict(x, float(solution.times[i])), 1.0, f"t = {solution.times[i]:.4g}", "-")
    ax.legend(frameon=False, fontsize=9, markerscale=1.6)
    return dress(ax)


# ---------------------------------------------------------------------------------------------------------------------
# parts of whole figures, and of animations
# ---------------------------------------------------------------------------------------------------------------------


def _parts(solution: Drawn, figure: Any) -> list[tuple[Shown, Any]]:
    """What has panels of its own, the run or each of its species, and where these are."""
    each = each_species(solution)
    if len(each) == 1:
        return [(each[0], figure)]
    parts = list(subfigures(figure, 1, len(each)))
    for one, part in zip(each, parts, strict=True):
        part.suptitle(one.label, fontsize=11)
    return list(zip(each, parts, strict=True))


def _species(solution: Drawn, label: str) -> Any:
    """One species of a run."""
    each = {one.label: one for one in each_species(solution) if isinstance(one, OneSpecies)}
    if label not in each:
        raise ValueError(f"no species {label!r}; {'valid: ' + ', '.join(each) if each else 'there is one measure'}")
    return each[label]


def _every(solution: Drawn) -> int:
    """Of several species every how many of the densities are drawn."""
    return 1 if len(each_species(solution)) == 1 else PANELS - 1


def _densities(solution: Shown, shown: Sequence[int], figure: Any) -> None:
    """The densities at some save times over one axis or two."""
    if solution.grid.dimension == 1:
        _curves(solution, solution.grid.axes[0].name, shown, figure.subplots())
    else:
        _small_multiples(solution, shown, figure)


def _plot_regret(solution: Drawn, ax: Axes) -> Axes:
    """What all species together would gain by another strategy."""
    diagnostics = solution.diagnostics
    ax.plot(diagnostics["time"], positive_part(diagnostics["regret"]), color=VERMILION, lw=2.0)
    set_logarithmic(ax)
    ax.set(xlabel="time t", ylabel="regret")
    ax.set_title("regret: mean less minimum of V, summed over species", fontsize=10)
    return dress(ax)


def _nodes(solution: Traced, shown: Sequence[int], figure: Any) -> None:
    """Nodes over the first two axes, or their weights over the only one, a panel a save time."""
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    largest = float(solution.trajectory.weights[list(shown)].max())
    for ax, i in zip(panels, shown, strict=True):
        scattered(solution, i, largest, ax)
        ax.label_outer()


def _small_multiples(solution: Shown, shown: Sequence[int], figure: Any) -> None:
    """The density over both axes, a panel a save time, with one scale of colours."""
    names = axis_names(solution, None)
    panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    values = [marginal(solution, names, i) for i in shown]
    norm = density_norm(values)
    for ax, i, density in zip(panels, shown, values, strict=True):
        image = density_image(solution, names, density, norm, ax)
        zoom(solution, names, values, ax)
        ax.set_title(f"t = {solution.times[i]:.4g}", fontsize=10)
        ax.label_outer()
    colour_bar(panels, image, density_label(solution, names))


def _curves(solution: Shown, name: str, shown: Sequence[int], ax: Axes) -> None:
    """The density over one axis, a curve a save time."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values = [marginal(solution, [name], i) for i in shown]
    times = solution.times[list(shown)]
    # the yellow end of the map is hard to see on white
    colours = ListedColormap(mpl.colormaps[TIME_MAP](np.linspace(0.0, 0.88, 256)))
    norm = Normalize(times.min(), times.max() if len(shown) > 1 else times.min() + 1.0)
    x = centres(solution, name)
    low, high = peak_values(values)
    logarithmic = high > CONCENTRATED * low
    for time, curve in zip(times, values, strict=True):
        shape = positive_part(curve) if logarithmic else curve
        ax.plot(x, shape, color=colours(norm(time)) if len(shown) > 1 else BLUE, lw=1.8)
    zoom(solution, [name], values, ax)
    ax.set_xlabel(name)
    label = density_label(solution, [name])
    if logarithmic:
        ax.set(yscale="log", ylim=(floor(low, high), 2 * high), ylabel=f"{label} (log scale)")
    else:
        ax.set(ylim=(0, 1.05 * high), ylabel=label)
    if len(shown) > 1:
        bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, pad=0.02)
        bar.set_label("time t", fontsize=10)
        bar.ax.tick_params(labelsize=9)
        bar.outline.set_visible(False)
    else:
        ax.set_title(f"t = {times[0]:.4g}", fontsize=10)
    dress(ax)


def _corner(solution: Shown, i: int, figure: Any) -> None:
    """Marginals over every axis (on the diagonal, with the start) and every pair of axes (below it)."""
    names = [axis.name for axis in solution.grid.axes]
    n = len(names)
    panels = figure.subplots(n, n, squeeze=False)
    curves, planes = [], {}
    assert solution.density is not None  # with none, nodes are drawn
    for k in (0, i):  # two densities, each read once
        mu = solution.density[k]
        curves.append({name: solution.marginal_of(mu, name) for name in names})
        if k == i:
            planes = {pair: solution.marginal_of(mu, *pair) for pair in itertools.combinations(names, 2)}
        del mu
    for row, column in np.ndindex(n, n):
        ax = panels[row, column]
        if column > row:
            ax.remove()
            continue
        if column == row:
            values = [found[names[row]] for found in curves]
            x = centres(solution, names[row])
            ax.plot(x, values[0], color=GREY, lw=1.3, ls=":", label="t = 0" if i else "_")
            ax.plot(x, values[1], color=BLUE, lw=1.8, label=f"t = {solution.times[i]:.4g}")
            ax.set(yticks=[], ylim=(0, None), xlabel=names[row])
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.tick_params(labelsize=9)
            ax.locator_params(axis="x", nbins=6)
        else:
            plane = planes[names[column], names[row]]
            density_image(solution, [names[column], names[row]], plane, density_norm([plane]), ax)
        # one window an axis, so that rows and columns line up
        pair = (names[column], names[row])
        for name, set_limits in list(zip(pair, (ax.set_xlim, ax.set_ylim), strict=True))[: 1 + (column < row)]:
            both = [found[name] for found in curves]
            set_limits(window(solution, name, both, 5e-3 * max(float(v.max()) for v in both)))
        if column and column < row:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
        if row < n - 1:
            ax.tick_params(labelbottom=False)
            ax.set_xlabel("")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title="marginal densities", loc="upper right", frameon=False, fontsize=10, title_fontsize=11
    )


def _moving_density(solution: Shown, names: list[str], ax: Axes) -> Callable[[int], None]:
    """Draw the density and return what moves it to a save time."""
    frames = Marginals(solution, names)
    low, high = peak_values(frames)
    if len(names) == 2:
        image = density_image(solution, names, frames[0], density_norm(frames), ax)
        zoom(solution, names, frames, ax)
        colour_bar(ax, image, density_label(solution, names))
        return lambda i: image.set_data(frames[i].T)
    x = centres(solution, names[0])
    logarithmic = high > CONCENTRATED * low
    ax.plot(x, positive_part(frames[0]) if logarithmic else frames[0], color=GREY, ls=":", lw=1.3)
    (line,) = ax.plot(x, frames[0], color=BLUE, lw=2.0)
    label = density_label(solution, names)
    ax.set(ylim=(0, 1.05 * high), xlabel=names[0], ylabel=label)
    zoom(solution, names, frames, ax)
    if logarithmic:
        ax.set(yscale="log", ylim=(floor(low, high), 2 * high), ylabel=f"{label} (log scale)")
    dress(ax)
    return lambda i: line.set_ydata(positive_part(frames[i]) if logarithmic else frames[i])


def _moving_output(solution: Drawn, ax: Axes) -> Callable[[int], None]:
    """Draw the network's output and return what moves it to a save time."""
    x, truth, data = shown_inputs(solution.problem)
    frames = [solution.predict(x, float(t)).reshape(len(x), -1) for t in solution.times]
    parity = x.ndim == 2 and x.shape[1] > 1
    if parity:
        assert truth is not None
        truth = truth.reshape(len(x), -1)
        ends = [float(truth.min()), float(truth.max())]
        ax.plot(ends, ends, color="black", ls="--", lw=1.2)
        colours = zip(range(truth.shape[1]), (BLUE, VERMILION, GREEN), strict=False)
        lines = [
            ax.plot(truth[:, j], frames[0][:, j], ".", color=colour, ms=5, alpha=0.5, mew=0)[0] for j, colour in colours
        ]
        ax.set(xlabel="true value", ylabel="predicted value")
        ax.set_title("network output", fontsize=10)
    else:
        backdrop(x, truth, data, ax)
        lines = output_lines(ax, x, frames[0], 1.0, "network", "-")
        ax.set_title("")
        # above the panel: the curves come by everywhere inside
        ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, markerscale=1.6)
    seen = [*frames, *(() if truth is None else (truth,)), *(() if data is None else (data[1],))]
    low, high = min(float(v.min()) for v in seen), max(float(v.max()) for v in seen)
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    dress(ax)

    def show(i: int) -> None:
        for j, line in enumerate(lines):
            line.set_ydata(frames[i][:, j])

    return show
