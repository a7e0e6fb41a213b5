"""Many runs: one for each point of a grid or list of parameters, by any executor, into one dataset."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.problem import Problem
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.run import solve
from mfpde.mesh.solution import Solution
from mfpde.runs.identity import told
from mfpde.runs.sweep_file import DONE, FAILED, SUSPECT, Columns, Row
from mfpde.runs.sweep_points import Point, Points, Shard, shards_of
from mfpde.support.arguments import FLAG, NONE, PATH, function, name_of, require, shown
from mfpde.support.executors import BrokenPool, check_executor, each
from mfpde.support.files.hdf5 import check_target
from mfpde.support.files.locks import held
from mfpde.support.labels import needed
from mfpde.support.session import progress_bar, quiet
from mfpde.support.threads import one_blas_thread
from mfpde.support.travel import Portable
from mfpde.support.words import one_line

if TYPE_CHECKING:
    import xarray

__all__ = ["Described", "summary", "sweep"]

AIM = 0.5
"""Seconds of work, about, in what goes to a worker at once."""
MOST_AT_ONCE = 256
"""Runs in it, at most."""


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
        found = {one.name: one.value for one in observables}
        return found | {f"{one.name}_bar": one.bar for one in observables}
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


class _Part(NamedTuple):
    """What goes to a worker at once: numbers of points, and the points."""

    numbers: list[int]
    points: list[Point]


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
        with one_blas_thread():
            for point in points:
                row, result = self._row(point, before if self.warm else None)
                rows.append(row)
                before = result
        return rows

    def rows(self, part: _Part) -> list[Row]:
        """The same in a worker."""
        return self(part.points)

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
    shard: tuple[int, int] | None = None,
    merge: bool = False,
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
        An axis of the grid along which each run starts from the end of the one before (``initial=``); after one that
        failed the next starts as the first did.
    shard : (int, int), optional
        ``(k, n)``, k from 1 to n: only every n-th of the points (or of the chains of warm starts) is run, and the rows
        go to a file of their own, ``phase.2-of-8.h5`` for ``output="phase.h5"``. For job arrays: the same line
        everywhere, but for k.
    merge : bool, optional
        Run nothing: the files of all shards become `output`, which is then that of a sweep without shards, bit for bit
        but for hosts and seconds. They stay.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    **arguments
        Of `run`. Where it takes one, ``progress`` is False. With an executor a run has as many threads as ``threads``
        says, 1 by default.

    Returns
    -------
    xarray.Dataset
        The measured numbers over the parameters, with `status`, `message`, `seconds` and `host` of each run. A run that
        failed is a row of NaN with its message. Of a shard its rows, along ``run``, their number in the whole sweep.

    Raises
    ------
    ImportError
        Without xarray.
    ValueError
        For parameters that do not fit, or a file of another sweep, with what differs; for shards of which one is
        missing, not complete, or of another sweep, with its name.
    BrokenPool
        If the pool breaks, a RuntimeError: the rows so far are in the file, and the same line goes on. Runs that were
        under way then are made one at a time; one that breaks a pool again is a row that says so.
    BlockingIOError
        If another process writes the file.

    Notes
    -----
    Workers get parts of about half a second of work, so that short runs cost less than a millisecond more than they
    take. The first run has half a minute for itself, which leaves compiled code in its cache for the others. Runs that
    start warm go to a worker a chain at a time; a chain that was not complete is begun again.

    A file knows its sweep by the parameters, the problems at the first and the last point, and by the arguments;
    functions count with their code where no module has them by name.

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
    require(output=(output, PATH | NONE), progress=(progress, FLAG | NONE))
    require(overwrite=(overwrite, FLAG), merge=(merge, FLAG))
    if not callable(factory) and not isinstance(factory, (Described, str, os.PathLike)):
        raise ValueError(f"factory must be a function, or the name or file of a problem, not {shown(factory)}")
    function(run, "run")
    function(measure, "measure", optional=True)
    check_executor(executor)
    if merge and (output is None or shard is not None):
        raise ValueError("merge=True puts the shards of output= together: name that file, and no shard=")
    points = Points(parameters)
    factory = factory if callable(factory) or isinstance(factory, Described) else Described(os.fspath(factory), {})
    task = _task(factory, run, measure, warm, arguments)
    identity, chains = _identity(task, points, warm), points.chains(warm)
    part = None if shard is None else Shard.of(shard)
    numbers, own = (None, chains) if part is None else part.of_chains(chains)
    here = points if numbers is None else points.some(numbers)
    columns = Columns(identity | ({} if part is None else {"shard": str(part)}), points.columns(), numbers)
    with ExitStack() as leaving:
        if output is not None:
            target = check_target(output, overwrite=True)
            target = target if part is None else check_target(part.file(target), overwrite=True)
            leaving.enter_context(held(target))
            if merge:
                _merge(target, points, chains, columns, overwrite)
                return _dataset(points, columns)
            if overwrite:
                target.unlink(missing_ok=True)
            columns.open(target)
        leaving.callback(columns.close)
        _Rest(task, here, columns, own).fill(executor, progress)
    return _dataset(here, columns)


def _merge(
    target: Path, points: Points, chains: Sequence[Sequence[int]], columns: Columns, overwrite: bool
) -> None:  # fmt: skip
    """Write the rows of all shards into one file; each of them is read before that."""
    if target.exists() and not overwrite:
        Columns(columns.identity, points.columns(), None).read(target)
    for shard, path in shards_of(target):
        part = Columns(columns.identity | {"shard": str(shard)}, points.columns(), shard.of_chains(chains)[0])
        part.read(path)
        columns.adopt(part, path)
    columns.create(target)
    columns.close()


def _task(
    factory: Any, run: Callable[..., Any], measure: Callable[..., Any] | None, warm: str | None,
    arguments: dict[str, Any],
) -> _Task:  # fmt: skip
    """What is done at each point, and whether it can start warm."""
    takes = inspect.signature(run).parameters
    if warm is not None and not any(name == "initial" or kind.kind is kind.VAR_KEYWORD for name, kind in takes.items()):
        raise ValueError(f"warm = {shown(warm)}: {name_of(run)} does not start from another run, it has no initial=")
    arguments = ({"progress": False} if "progress" in takes else {}) | arguments
    return _Task(factory, run, summary if measure is None else measure, arguments, warm is not None)


def _identity(task: _Task, points: Points, warm: str | None) -> dict[str, str]:
    """What a sweep is made of, in words."""
    first, arguments = _known(task, points.points[0])
    said = {name: told(value) for name, value in sorted(arguments.items()) if name not in ("threads", "progress")}
    return {
        "parameters": points.said(),
        "problem at the first point": first,
        "problem at the last point": _known(task, points.points[-1])[0],
        "run": told(task.run),
        "measure": told(task.measure),
        "warm": str(warm),
        "arguments": ", ".join(f"{name}={value}" for name, value in said.items()),
    }


def _known(task: _Task, point: Point) -> tuple[str, dict[str, Any]]:
    """What tells the problem of a point from others, and the arguments of its run."""
    try:
        problem, arguments = task.prepared(point)
        return problem.fingerprint() if isinstance(problem, Problem) else told(task.factory), arguments
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its row will say so
        return f"none: {type(error).__name__}", task.arguments


class _Rest:
    """What is left of a sweep, and who runs it.

    Parameters
    ----------
    task : callable
        What is done at some points, one after the other.
    points : Points
    columns : Columns
        Where rows go.
    chains : sequence of sequences of int
        Points that are run one after the other.
    """

    def __init__(self, task: _Task, points: Points, columns: Columns, chains: Sequence[Sequence[int]]) -> None:
        self.task, self.points, self.columns = task, points, columns
        left = [list(chain) for chain in chains if not (columns.done[chain] == DONE).all()]
        self.suspects = [chain for chain in left if (columns.done[chain] == SUSPECT).any()]
        """Those that were under way when a pool broke."""
        self.fresh = [chain for chain in left if not (columns.done[chain] == SUSPECT).any()]
        self.each = math.nan
        """Seconds of a run, about."""
        self.count = int(np.count_nonzero(columns.done == DONE))
        self.show: Callable[[], None] = lambda: None

    def fill(self, executor: Executor | None, progress: bool | None) -> None:
        """Run it."""
        with progress_bar(progress, "sweep", 0.0, float(self.columns.size)) as show:
            self.show = lambda: show(float(self.count), math.nan)
            if executor is not None:
                self._by_executor(executor)
                return
            for chain in [*self.fresh, *self.suspects]:
                self._take(chain, self._work(chain))

    def _work(self, part: Sequence[int]) -> list[Row]:
        return self.task(self._of(part))

    def _of(self, part: Sequence[int]) -> list[Point]:
        return [self.points.points[k] for k in part]

    def _take(self, part: Sequence[int], rows: Sequence[Row]) -> None:
        for index, row in zip(part, rows, strict=True):
            if self.columns.done[index] != DONE:  # runs that start warm begin with the first of their chain again
                self.columns.take(index, row)
                self.count += 1
        self.show()

    def _parts(self) -> Iterator[_Part]:
        """What goes to a worker at once, as long as it is known to take; the first runs alone."""
        ahead = iter(self.fresh)
        while True:
            several = 1 if self.task.warm or math.isnan(self.each) else int(AIM / max(self.each, 1e-6))
            chains = list(itertools.islice(ahead, max(1, min(MOST_AT_ONCE, several))))
            if not chains:
                return
            part = list(itertools.chain(*chains))
            yield _Part(part, self._of(part))

    def _by_executor(self, executor: Executor) -> None:
        """By workers; a run during which a pool breaks for the second time, when it was alone, is a row."""
        self._by(executor, self._parts())
        for chain in self.suspects:
            try:
                self._by(executor, [_Part(chain, self._of(chain))])
            except BrokenPool as error:
                if error.worked:
                    row = Row({}, f"{FAILED}: worker ended", f"twice, the second time alone: {error}", math.nan, "")
                    self._take(chain, [row] * len(chain))
                raise

    def _by(self, executor: Executor, parts: Iterable[_Part]) -> None:
        threads = self.task.arguments.get("threads") or 1
        try:
            done = each(executor, self.task.rows, parts, "the sweep", threads=threads, look=self.columns.look)
            for part, rows in done:
                took = sum(row.seconds for row in rows) / len(rows)
                self.each = took if math.isnan(self.each) else 0.5 * (self.each + took)
                self._take(part.numbers, rows)
        except BrokenPool as error:
            self.columns.suspect([index for part in error.under_way for index in part.numbers])
            said = f"{error}; the rows so far are kept, and the same line again goes on"
            raise BrokenPool(said, error.worked) from None


def _dataset(points: Points, columns: Columns) -> xarray.Dataset:
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
