"""Many runs: one for each point of a grid or list of parameters, by any executor, into one dataset."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.problem import Problem
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.run import solve
from mfpde.mesh.solution import Solution
from mfpde.runs.identity import told
from mfpde.runs.sweep_file import FAILED, OWN, Columns, Row, fit_for_a_column
from mfpde.support.arguments import FLAG, NONE, PATH, entries, function, name_of, one_of, require, shown
from mfpde.support.files.hdf5 import check_target
from mfpde.support.files.locks import held
from mfpde.support.labels import needed
from mfpde.support.session import progress_bar, quiet
from mfpde.support.travel import Portable
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import xarray

__all__ = ["Described", "summary", "sweep"]

AIM = 0.5
"""Seconds of work, about, in what goes to a worker at once."""
MOST_AT_ONCE = 256
"""Runs in it, at most."""
AHEAD = 2
"""Such parts for each worker that are under way or wait."""
UNKNOWN = 4
"""Workers of an executor that does not say how many it has."""

Point = Mapping[str, Any]


def summary(result: Any) -> dict[str, Any]:
    """What is measured of a result unless somebody says otherwise.

    Returns
    -------
    dict of float or array
        Of a solution energy, energy_error, dissipation, gap and response at the end; of the others what they have of
        these; of a reference each observable with its bar.
    """
    if isinstance(result, Solution):
        d = result.diagnostics
        found: dict[str, Any] = {
            "energy": result.energy[-1],
            "energy_error": result.energy_error[-1],
            "dissipation": d["dissipation_transport"][-1] + d["dissipation_reaction"][-1],
            "gap": d["optimality_gap"][-1],
        }
        return found | ({"response": result.response[-1]} if result.response.shape[1] else {})
    if isinstance(result, Characteristics):
        found = {"energy": result.energy[-1], "energy_error": result.energy_error[-1]}
        return found | ({"response": result.response[-1]} if result.response.shape[1] else {})
    if isinstance(result, Equilibrium):
        return {name: getattr(result, name) for name in ("energy", "energy_error", "gap", "mass")}
    if (observables := getattr(result, "observables", None)) is not None:  # a reference, whose wing is above this one
        found = {each.name: each.value for each in observables}
        return found | {f"{each.name}_bar": each.bar for each in observables}
    raise ValueError(f"what to measure of a {type(result).__name__} is not known; pass measure=")


@dataclass(frozen=True)
class Described:
    """A problem by its name or a TOML file, with settings by dotted key.

    Attributes
    ----------
    what : str
    settings : dict
        Of all points.
    """

    what: str
    settings: dict[str, Any]

    def prepared(self, point: Point) -> tuple[Problem, dict[str, Any]]:
        """The problem of a point, and the arguments of `mfpde.solve`.

        Raises
        ------
        ConfigurationError
            If anything does not fit; one line.
        """
        from mfpde.runs.configuration import load_config, named_config

        read = load_config if self.what.endswith(".toml") else named_config
        configuration = read(self.what, self.settings | dict(point))
        arguments = configuration.solve_arguments()
        arguments.pop("checkpoint")
        return configuration.problem(), arguments


@dataclass(frozen=True)
class _Task(Portable):
    """What is done at each point."""

    factory: Any
    run: Callable[..., Any]
    measure: Callable[[Any], Mapping[str, Any]]
    arguments: dict[str, Any]
    warm: bool = False

    def prepared(self, point: Point) -> tuple[Any, dict[str, Any]]:
        """What is run at a point, and the arguments of the run."""
        if not isinstance(self.factory, Described):
            return self.factory(**point), self.arguments
        problem, own = self.factory.prepared(point)
        return problem, (own if self.run is solve else {}) | self.arguments

    def __call__(self, points: Sequence[Point]) -> list[Row]:
        """One row for each point; where runs start warm, each from the end of the one before."""
        rows, before = [], None
        for point in points:
            row, result = self._row(point, before if self.warm else None)
            rows.append(row)
            before = result
        return rows

    def _row(self, point: Point, before: Any) -> tuple[Row, Any]:
        began, host = time.perf_counter(), platform.node()
        try:
            with quiet():
                warm = {} if before is None else {"initial": before.measure()}
                problem, arguments = self.prepared(point)
                result = self.run(problem, **(arguments | warm))
                measured = self.measure(result)
                if not isinstance(measured, Mapping):
                    raise ValueError(f"measure must give numbers by name, not {shown(measured)}")
                values = {name: np.asarray(value, dtype=float) for name, value in measured.items()}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit as well: a run must not end the others
            text = one_line(error) or type(error).__name__
            return Row({}, f"{FAILED}: {type(error).__name__}", text, time.perf_counter() - began, host), None
        status, message = _status(result)
        return Row(values, status, message, time.perf_counter() - began, host), result


def _status(result: Any) -> tuple[str, str]:
    said = getattr(result, "warnings", None) or [""]
    if isinstance(result, Solution):
        return result.result.name, said[0]
    good = getattr(result, "converged", getattr(result, "reached", True))
    return ("SUCCESS" if good else "NOT_REACHED"), str(said[0])


class _Points:
    """The points of a sweep, numbered, and how they lie."""

    def __init__(self, parameters: Mapping[str, Sequence[Any]] | Sequence[Point]) -> None:
        if isinstance(parameters, Mapping):
            self.axes = {
                name: list(entries(values, f"parameter {name!r}")) for name, values in _named(parameters).items()
            }
            if empty := [name for name, values in self.axes.items() if not values]:
                raise ValueError(f"parameter {empty[0]!r} has no values")
            names, each = list(self.axes), itertools.product(*self.axes.values())
            self.points = [dict(zip(names, values, strict=True)) for values in each]
        else:
            self.axes = {}
            self.points = [_named(point) for point in entries(parameters, "parameters")]
            if odd := [k for k, point in enumerate(self.points) if point.keys() != self.points[0].keys()]:
                raise ValueError(f"point {odd[0]} has the parameters {', '.join(self.points[odd[0]])}, not those of 0")
        if not self.points or not self.points[0]:
            raise ValueError("a sweep needs at least one parameter with one value")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values there are along each axis; of a list its length."""
        return tuple(map(len, self.axes.values())) or (len(self.points),)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes; of a list `run`."""
        return tuple(self.axes) or ("run",)

    def coordinates(self) -> dict[str, Any]:
        """Values of the parameters."""
        if self.axes:
            return {name: (name, _coordinate(values)) for name, values in self.axes.items()}
        return {name: ("run", _coordinate(values)) for name, values in self.columns().items()}

    def columns(self) -> dict[str, list[Any]]:
        """Values of the parameters at each point."""
        return {name: [point[name] for point in self.points] for name in self.points[0]}

    def chains(self, warm: str | None) -> list[list[int]]:
        """Numbers of points that are run one after the other: each alone, or all along an axis."""
        numbers = np.arange(len(self.points))
        if warm is None:
            return [[int(k)] for k in numbers]
        if warm not in self.axes:
            raise ValueError(f"warm = {shown(warm)} is no axis of the sweep; it has {', '.join(self.names)}")
        along = np.moveaxis(numbers.reshape(self.shape), list(self.axes).index(warm), -1)
        return [[int(k) for k in line] for line in along.reshape(-1, along.shape[-1])]

    def said(self) -> str:
        """In words, for a file to know them by."""
        if self.axes:
            return ", ".join(f"{name} = {_listed(values)}" for name, values in self.axes.items())
        text = told([sorted(point.items()) for point in self.points])
        return f"{len(self.points)} points, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _named(parameters: Any) -> dict[str, Any]:
    """Parameters by names that a file and a dataset can have."""
    require(parameters=(parameters, one_of(Mapping)))
    for name in parameters:
        if not isinstance(name, str) or not fit_for_a_column(name) or name in OWN:
            raise ValueError(f"a sweep has no parameter {shown(name)}: names are text without '/', and not {_WORDS}")
    return dict(parameters)


_WORDS = ", ".join(map(repr, sorted(OWN)))


def _coordinate(values: Sequence[Any]) -> Any:
    """The values of a parameter as a coordinate: arrays and the like are objects, each of them one value."""
    if all(np.ndim(value) == 0 for value in values):
        return [value.item() if isinstance(value, np.ndarray) else value for value in values]
    found = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        found[k] = told(value)
    return found


def _listed(values: Sequence[Any]) -> str:
    text = told(values)
    return text if len(text) < 80 else f"{len(values)} values, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def sweep(
    factory: Callable[..., Any] | Described | str | os.PathLike[str],
    parameters: Mapping[str, Sequence[Any]] | Sequence[Point],
    *,
    measure: Callable[[Any], Mapping[str, Any]] | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    run: Callable[..., Any] = solve,
    warm: str | None = None,
    progress: bool | None = None,
    **arguments: Any,
) -> xarray.Dataset:
    """Run a problem at each point of a grid or a list of parameters.

    Parameters
    ----------
    factory : callable, str or path
        ``factory(**point)`` gives the problem of a point: a constructor of `mfpde.problems`, or a function. Or the name
        of a shipped problem, or a TOML file: parameters are then dotted keys, such as ``dynamics.alpha``, and the file
        has the arguments of the run as well.
    parameters : mapping of sequences, or sequence of mappings
        A grid, ``{"alpha": [0, 1, 2], "temperature": [0.1, 0.2]}``, or a list of points.
    measure : callable, optional
        ``measure(result)`` gives numbers or arrays by name, the same ones at all points. Default: `summary`.
    output : path, optional
        An HDF5 file, to which rows go as they come, at least once a second. The same line again goes on with it, and
        repeats nothing that has reached it.
    overwrite : bool, optional
        Whether a file that is there is begun anew.
    executor : concurrent.futures.Executor, optional
        Who runs: a thread or process pool of the standard library, or of loky, dask or mpi4py. Default: this process,
        one after the other. It is yours, and stays open. Neither it nor its number of workers changes a bit.
    run : callable, optional
        `mfpde.solve` (default), `stationary`, `characteristics`, `reference`, or anything that takes a problem.
    warm : str, optional
        An axis of the grid along which each run starts from the end of the one before (``initial=``).
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    **arguments
        Of `run`. Where it takes them, ``progress`` is False, and with an executor ``threads`` is 1.

    Returns
    -------
    xarray.Dataset
        The measured numbers over the parameters, with `status`, `message`, `seconds` and `host` of each run. A run that
        failed is a row of NaN with its message.

    Raises
    ------
    ImportError
        Without xarray.
    ValueError
        For parameters that do not fit, or a file of another sweep, with what differs.
    RuntimeError
        If the pool breaks: the rows so far are in the file, and the same line goes on.
    BlockingIOError
        If another process writes the file.

    Notes
    -----
    Workers get parts of about half a second of work, so that short runs cost less than a millisecond more than they
    take. The first part is run here, which leaves compiled code in its cache for everybody.

    Examples
    --------
    >>> import mfpde as mf
    >>> grid = {"alpha": [0.0, 1.0], "target": [1.0, 2.0, 3.0]}
    >>> found = mf.sweep(mf.problems.linear_neuron, grid, shape=60, t_end=0.5, save=2)
    >>> dict(found.sizes)["alpha"], str(found.status.values[0, 0])
    (2, 'SUCCESS')
    """
    with needed("xarray", "sweep"):
        import xarray  # noqa: F401
    require(output=(output, PATH | NONE), overwrite=(overwrite, FLAG), progress=(progress, FLAG | NONE))
    if not callable(factory) and not isinstance(factory, (Described, str, os.PathLike)):
        raise ValueError(f"factory must be a function, or the name or file of a problem, not {shown(factory)}")
    function(run, "run")
    function(measure, "measure", optional=True)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor must be one of concurrent.futures or like these, not {shown(executor)}")
    points = _Points(parameters)
    factory = factory if callable(factory) or isinstance(factory, Described) else Described(os.fspath(factory), {})
    takes = inspect.signature(run).parameters
    if warm is not None and not any(name == "initial" or kind.kind is kind.VAR_KEYWORD for name, kind in takes.items()):
        raise ValueError(f"warm = {shown(warm)}: {name_of(run)} does not start from another run, it has no initial=")
    bound = {"progress": False} | ({} if executor is None else {"threads": 1})
    arguments = {name: value for name, value in bound.items() if name in takes} | arguments
    task = _Task(factory, run, summary if measure is None else measure, arguments, warm is not None)
    columns = Columns(len(points.points), _identity(task, points, warm), points.columns())
    with ExitStack() as leaving:
        if output is not None:
            leaving.enter_context(held(output))
            target = check_target(output, overwrite=True)
            if overwrite:
                target.unlink(missing_ok=True)
            columns.open(target)
        leaving.callback(columns.close)
        _fill(task, points, columns, executor, points.chains(warm), progress)
    return _dataset(points, columns)


def _identity(task: _Task, points: _Points, warm: str | None) -> dict[str, str]:
    """What a sweep is made of, in words."""
    try:
        problem, arguments = task.prepared(points.points[0])
        known = problem.fingerprint() if isinstance(problem, Problem) else told(task.factory)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its row will say so
        known, arguments = f"none: {type(error).__name__}", task.arguments
    said = {name: told(value) for name, value in sorted(arguments.items()) if name not in ("threads", "progress")}
    return {
        "parameters": points.said(),
        "problem at the first point": known,
        "run": told(task.run),
        "measure": told(task.measure),
        "warm": str(warm),
        "arguments": ", ".join(f"{name}={value}" for name, value in said.items()),
    }


def _fill(
    task: _Task, points: _Points, columns: Columns, executor: Executor | None, chains: list[list[int]],
    progress: bool | None,
) -> None:  # fmt: skip
    """Run what is not done yet."""
    left = [chain for chain in chains if not columns.done[chain].all()]
    total = len(points.points)
    count = total - sum(map(len, left))

    def take(chain: Sequence[int], rows: Sequence[Row]) -> None:
        nonlocal count
        for index, row in zip(chain, rows, strict=True):
            if not columns.done[index]:
                columns.take(index, row)
            count += 1

    with progress_bar(progress, "sweep", 0.0, float(total)) as show:
        ahead = iter(left)
        first = next(ahead, None)
        if first is None:
            return
        began = time.perf_counter()
        take(first, task([points.points[k] for k in first]))
        each = (time.perf_counter() - began) / len(first)
        if executor is None:
            for chain in ahead:
                take(chain, task([points.points[k] for k in chain]))
                show(float(count), math.nan)
            return
        _by_executor(task, points, executor, ahead, take, each, lambda: show(float(count), math.nan))


def _by_executor(
    task: _Task, points: _Points, executor: Executor, ahead: Iterator[list[int]], take: Callable[..., None],
    each: float, show: Callable[[], None],
) -> None:  # fmt: skip
    """The same by workers: a few parts each under way, as long as there are any."""
    most = AHEAD * _workers(executor)
    under_way: dict[Future[list[Row]], list[int]] = {}

    def submit() -> bool:
        part: list[int] = []
        for chain in itertools.islice(ahead, max(1, min(MOST_AT_ONCE, int(AIM / max(each, 1e-6))))):
            part += chain
            if task.warm:
                break
        if part:
            under_way[executor.submit(task, [points.points[k] for k in part])] = part
        return bool(part)

    try:
        while len(under_way) < most and submit():
            pass
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                part = under_way.pop(future)
                rows = future.result()
                each = 0.5 * each + 0.5 * sum(row.seconds for row in rows) / len(rows)
                take(part, rows)
                submit()
            show()
    except BrokenExecutor as error:
        raise RuntimeError(
            f"the pool of the sweep broke ({one_line(error)}): a worker ended, or ran out of memory; the rows so far "
            "are kept, and the same line again goes on"
        ) from None
    finally:
        for future in under_way:
            future.cancel()


def _workers(executor: Executor) -> int:
    for name in ("_max_workers", "num_workers", "n_workers"):
        value = getattr(executor, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return UNKNOWN


def _dataset(points: _Points, columns: Columns) -> xarray.Dataset:
    import xarray

    def lie(values: Any) -> Any:
        return values.reshape(*points.shape, *values.shape[1:])

    variables: dict[str, Any] = {}
    for name, values in columns.values.items():
        inner = tuple(f"{name}_{k}" for k in range(values.ndim - 1))
        variables[name] = (points.names + inner, lie(values))
    texts = {name: np.char.decode(column, "ascii") for name, column in columns.texts.items()}
    for name, values in (*texts.items(), ("seconds", columns.seconds)):
        variables[name] = (points.names, lie(values))
    return xarray.Dataset(variables, coords=points.coordinates(), attrs=columns.identity)
