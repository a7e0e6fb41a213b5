"""Many files of runs as one dataset."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.plain_attributes import own_parameters
from mfpde.mesh.solution import Solution
from mfpde.runs.loading import load
from mfpde.runs.sweeps import summary
from mfpde.support.arguments import entries, function, shown
from mfpde.support.labels import needed

if TYPE_CHECKING:
    import xarray

__all__ = ["open_many"]


def open_many(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    measure: Callable[[Any], Mapping[str, Any]] | None = None,
) -> xarray.Dataset:
    """One row for each of many files of runs or stationary states, with what they are of as coordinates.

    Parameters
    ----------
    files : path, pattern, or several of them
        ``"runs/*.h5"``.
    measure : callable, optional
        ``measure(result)`` gives numbers or arrays by name. Default: `mfpde.runs.sweeps.summary`.

    Returns
    -------
    xarray.Dataset
        Along ``run``: what was measured, `status`, and as coordinates `path`, `problem`, `t_end` (of a run, the time
        that it has reached), `cells`, `alpha` and `temperature` where these are numbers, and the problem's own
        parameters, or the keys of the ``[network]`` table of a file that ``mfpde run`` has written. A file has them
        whether its problem can be built again or not. NaN or empty text where a run has none.

    Raises
    ------
    FileNotFoundError
        If a pattern fits no file.
    ValueError
        For a file that is neither, by name, and numbers whose shapes differ.
    ImportError
        Without xarray.
    """
    with needed("xarray", "open_many"):
        import xarray
    function(measure, "measure", optional=True)
    measured, told, status = [], [], []
    for path in _found([files] if isinstance(files, (str, os.PathLike)) else entries(files, "files")):
        run = load(path)
        found = (measure or summary)(run)
        if not isinstance(found, Mapping):
            raise ValueError(f"measure must give numbers by name, not {shown(found)}")
        measured.append({name: np.asarray(value) for name, value in found.items()})
        told.append({"path": str(path)} | _told(run))
        status.append(run.result.name if isinstance(run, Solution) else "SUCCESS" if run.converged else "NOT_REACHED")
    variables = {name: ("run", values) for name, values in _columns(told).items()}
    data: dict[str, Any] = {"status": ("run", status)}
    for name in dict.fromkeys(name for each in measured for name in each):
        if name in ("run", "status", *variables):
            raise ValueError(f"measure gave {name!r}, which a run has already; call it something else")
        shape = next(each[name].shape for each in measured if name in each)
        values = [each.get(name, np.full(shape, np.nan)) for each in measured]
        if len({value.shape for value in values}) > 1:
            there = {value.shape: k for k, value in enumerate(values)}
            (one, i), (other, j) = list(there.items())[:2]
            raise ValueError(
                f"{name} has the shape {one} in {told[i]['path']} and {other} in {told[j]['path']}; pass measure="
            )
        data[name] = (("run", *(f"{name}_{k}" for k in range(values[0].ndim))), np.stack(values))
    return xarray.Dataset(data, coords=variables)


def _found(files: Iterable[str | os.PathLike[str]]) -> list[Path]:
    found: list[Path] = []
    for pattern in files:
        text = os.fspath(pattern)
        paths = [text] if os.path.exists(text) else sorted(glob.glob(text, recursive=True))
        if not paths:
            raise FileNotFoundError(f"no file fits {text!r}")
        found += [Path(path) for path in paths]
    return found


def _told(run: Solution | Equilibrium) -> dict[str, Any]:
    """What a run was of, in single numbers and words."""
    said: dict[str, Any] = {"problem": run.name}
    if isinstance(run, Solution):
        said["t_end"] = float(run.times[-1])
    said["cells"] = " x ".join(map(str, run.grid.shape))
    # those of a problem may be called like these; its end is not that of the run
    own = own_parameters(run.plain)
    numbers = {name: run.plain[name] for name in ("alpha", "temperature") if isinstance(run.plain.get(name), float)}
    own.pop("t_end", None)
    return {**own, **said, **numbers}


def _columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as columns: numbers where all are, else text."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        numbers = all(value is None or isinstance(value, (int, float)) for value in values)
        gap: Any = np.nan if numbers else ""
        columns[name] = [gap if value is None else value if numbers else str(value) for value in values]
    return columns
