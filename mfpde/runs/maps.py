"""Pictures of sweeps: lines with bands over one parameter, colours with hatching over two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_sweep", "is_dataset"]

SHOWN = ("energy", "gap", "dissipation", "mass")
"""What is drawn unless somebody says otherwise, of what there is."""
MOST = 4
"""Panels."""
DOUBTFUL = 0.05
"""Errors above this share of the range of all values are hatched."""


def is_dataset(thing: Any) -> bool:
    """Whether something is a dataset of xarray, which need not be installed to know."""
    return type(thing).__module__.startswith("xarray") and hasattr(thing, "data_vars")


def draw_sweep(data: xarray.Dataset, names: Sequence[str] | None) -> Figure:
    """A panel for each of some variables of a sweep.

    Raises
    ------
    ValueError
        For a variable that is none or no number at each point, and for more than two parameters with several values.
    """
    from matplotlib.figure import Figure

    data = data.squeeze(drop=True)
    axes = [str(name) for name in data.seconds.dims]
    plain = [str(name) for name, values in data.items() if set(values.dims) == set(axes) and values.dtype.kind == "f"]
    chosen = [name for name in SHOWN if name in plain] or plain[:MOST] if names is None else list(names)
    if bad := [name for name in chosen if name not in plain]:
        raise ValueError(f"{bad[0]!r} is no number at each point of the sweep; there are {', '.join(plain)}")
    if len(axes) not in (1, 2):
        over = f"a sweep over {', '.join(axes)}" if axes else "a single run"
        raise ValueError(f"{over} has no picture; one or two parameters have: take others at a value, dataset.sel(...)")
    figure = Figure(figsize=(4.6 * len(chosen) + 0.4, 4.0), layout="constrained")
    for name, ax in zip(chosen, figure.subplots(1, len(chosen), squeeze=False)[0], strict=True):
        error = data.get(f"{name}_error")
        (_lines if len(axes) == 1 else _colours)(data, name, error, axes, ax)
        ax.set_title(name.replace("_", " "), fontsize=10)
    failed = int(np.count_nonzero(~np.isfinite(data.get("energy", data.seconds))))
    total = int(np.prod([data.sizes[axis] for axis in axes]))
    figure.suptitle(f"{total} runs" + (f", {failed} of them without an energy" if failed else ""), fontsize=11)
    return figure


def _lines(data: xarray.Dataset, name: str, error: Any, axes: list[str], ax: Axes) -> None:
    along = _parameter(data, axes[0])
    x, values = np.asarray(data[along]), np.asarray(data[name])
    if x.dtype.kind not in "fiu":
        x = np.arange(len(x))
    order = np.argsort(x, kind="stable")
    ax.plot(x[order], values[order], "o-", markersize=3)
    if error is not None and np.isfinite(error).any():
        e = np.asarray(error)
        ax.fill_between(x[order], (values - e)[order], (values + e)[order], alpha=0.3, label="estimated error")
        ax.legend(fontsize=8, frameon=False)
    ax.set_xlabel(along)


def _parameter(data: xarray.Dataset, axis: str) -> str:
    """The parameter along an axis: of a list of points the first that varies."""
    if axis in data.coords:
        return axis
    varied = [str(name) for name in data.coords if len(np.unique(np.asarray(data[name]))) > 1]
    return varied[0] if varied else str(next(iter(data.coords)))


def _colours(data: xarray.Dataset, name: str, error: Any, axes: list[str], ax: Axes) -> None:
    from matplotlib.patches import Rectangle

    across, up = axes[1], axes[0]
    values = np.asarray(data[name].transpose(up, across))
    x, y = (np.arange(data.sizes[axis]) for axis in (across, up))
    image = ax.pcolormesh(x, y, np.ma.masked_invalid(values), shading="nearest")
    assert ax.figure is not None
    ax.figure.colorbar(image, ax=ax)
    ax.set_facecolor("0.85")  # runs that failed
    for axis, ticks, name_ in ((ax.xaxis, x, across), (ax.yaxis, y, up)):
        step = -(-len(ticks) // 8)
        axis.set_ticks(ticks[::step], [_tick(value) for value in np.asarray(data[name_])[::step]])
        axis.set_label_text(name_)
    if error is not None:
        finite = values[np.isfinite(values)]
        doubtful = np.asarray(error.transpose(up, across)) > DOUBTFUL * (np.ptp(finite) if finite.size else 0.0)
        for j, i in np.argwhere(doubtful):
            dark = np.dot(image.to_rgba(values[j, i])[:3], (0.3, 0.6, 0.1)) < 0.5
            cell = Rectangle((i - 0.5, j - 0.5), 1.0, 1.0, fill=False, hatch="///", linewidth=0.0)
            cell.set_edgecolor("white" if dark else "black")
            ax.add_patch(cell)
        if doubtful.any():
            ax.set_xlabel(f"{across} (hatched: error above {DOUBTFUL:.0%} of the range)")


def _tick(value: Any) -> str:
    return f"{value:g}" if np.issubdtype(type(value), np.number) else str(value)
