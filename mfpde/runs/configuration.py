"""Runs described in TOML: names become objects here, and what does not fit is refused in one line.

Every key is listed in ``docs/configuration.md``. A `Configuration` gives the problem and the
arguments of `mfpde.solve`, and writes itself back as TOML from which the same run is made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from mfpde.equation.description.context import Context
from mfpde.equation.description.energies import energy_of
from mfpde.equation.description.whole import KEYS, build, dynamics_of
from mfpde.equation.energy import HuberLoss
from mfpde.equation.energy.losses import LOSSES
from mfpde.equation.grid import Axis
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.mesh.defaults import default_method, default_scheme
from mfpde.mesh.kinds import CONTROLLERS, METHODS, TRANSPORTS
from mfpde.mesh.options import OPTIONS
from mfpde.problems import get, network
from mfpde.runs.data import Data, read_data, read_file
from mfpde.runs.tables import (
    ConfigurationError,
    DynamicsTable,
    FileTable,
    LawTable,
    NetworkTable,
    SchemeTable,
    explain,
    short,
    typed_parameters,
)
from mfpde.support.files.untrusted import parse_toml
from mfpde.support.registry import plain
from mfpde.support.words import one_line, suggestion

__all__ = ["Configuration", "load_config", "named_config", "parse_value"]

MAX_FILE_BYTES = 1 << 20
"""Largest TOML file."""

TABLES = ("parameters", "network", "dynamics", "scheme", "output")
"""What dotted keys begin with; any others are the problem's own."""
TOP_LEVEL = tuple(name for name in FileTable.model_fields if name not in ("parameters", "network", *FileTable.OWN))


@dataclass(frozen=True)
class Configuration:
    """A run: a problem and how it is solved.

    Attributes
    ----------
    tables : FileTable
        The content of the file, checked.
    directory : Path
        What paths in it are relative to.
    source : str
        What error messages call it.

    See Also
    --------
    load_config : from a TOML file.
    named_config : from the name of a problem.
    """

    tables: FileTable
    directory: Path
    source: str

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], directory: str | Path, source: str) -> Configuration:
        """Check the content of a file.

        Raises
        ------
        ConfigurationError
            For the first thing that does not fit.
        """
        try:
            return cls(FileTable.model_validate(dict(tables)), Path(directory), source)
        except pydantic.ValidationError as error:
            raise ConfigurationError(f"{source}: {explain(error, tables)}") from None

    @classmethod
    def from_toml(cls, text: str, directory: str | Path = ".", source: str = "configuration") -> Configuration:
        """Read and check TOML text.

        Raises
        ------
        ConfigurationError
            For text that is no TOML, and for the first thing that does not fit.
        """
        return cls.from_tables(_parse(text, source), directory, source)

    @property
    def name(self) -> str:
        """The problem's name."""
        if self.tables.problem is not None:
            return self.tables.problem.replace("_", "-")
        return "network" if self.tables.network is not None else self.tables.name or "problem"

    @property
    def output(self) -> Path | None:
        """Where the file says that the solution goes; None if it does not say."""
        return None if self.tables.output.path is None else self.directory / self.tables.output.path

    @property
    def plot(self) -> str | None:
        """The format of the picture; None for no picture."""
        plot = self.tables.output.plot
        return "png" if plot is True else plot or None

    def problem(self) -> Problem:
        """Build the problem; a network's data are read now.

        Raises
        ------
        ConfigurationError
            If the problem refuses its parameters or the data do not fit.

        Warns
        -----
        TruncationWarning
            If the box loses more than 1e-8 of the initial measure.
        """
        named, network = self.tables.problem is not None, self.tables.network
        where = self.source if not (named or network) else f"{self.source}: {'parameters' if named else 'network'}"
        try:
            if named:
                return get(self.name, **typed_parameters(self.name, self.tables.parameters or {}))
            if network is not None:
                return self._network_problem(network, self._data)
            return build({key: value for key, value in self._plain().items() if key in KEYS}, get)
        except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
            raise ConfigurationError(f"{where}: {one_line(error)}") from None
        except MemoryError as error:
            raise ConfigurationError(f"{where}: not enough memory ({one_line(error)})") from None

    @functools.cached_property
    def _data(self) -> Data:
        assert self.tables.network is not None
        return read_data(self.tables.network, self.directory)

    def _network_problem(self, table: NetworkTable, data: Data) -> Problem:
        """The problem of a network on data, with the measure and the box that the tables say."""
        loss: Callable[..., Any] = LOSSES[table.loss]
        if table.delta is not None:
            loss = functools.partial(HuberLoss, delta=table.delta)
        problem = network(
            data.x,
            data.y,
            weights=data.weights,
            activation=table.activation,
            loss=loss,
            amplitude=table.amplitude,
            bias=table.bias,
            half_width=table.half_width,
            alpha=1.0 if table.alpha is None else table.alpha,
            temperature=0.0 if table.temperature is None else table.temperature,
            t_end=5.0 if self.tables.t_end is None else self.tables.t_end,
            tolerance=table.tolerance,
        )
        changes, own = self._box_changes(table, problem), self._plain()
        context = Context([axis.name for axis in problem.axes], get)
        changes |= dynamics_of(own.get("dynamics", {}), context)
        if "energy" in own:
            changes["energy"] = problem.energy + energy_of(own["energy"], context)
        # fields are replaced once all are known: in between the box may lose mass that it does not lose in the end
        return dataclasses.replace(problem, **changes) if changes else problem

    @staticmethod
    def _by_axis(table: Mapping[str, Any] | None, axis_names: Sequence[str], key: str) -> dict[str, Any]:
        for name in table or {}:
            if name not in axis_names:
                raise ConfigurationError(f"{key}.{name} names no axis; {suggestion(name, axis_names)}")
        return dict(table or {})

    def _box_changes(self, table: NetworkTable, problem: Problem) -> dict[str, Any]:
        """The axes and the start that a table names, where it names any."""
        axis_names = [axis.name for axis in problem.axes]
        if table.axes is None and table.initial is None:
            return {}
        intervals = self._by_axis(table.axes, axis_names, "axes")
        axes = [Axis(a.name, *intervals.get(a.name, (a.lower, a.upper))) for a in problem.axes]
        # the default start has an eighth of the half width, centred, whatever the interval
        laws = self._by_axis(table.initial, axis_names, "initial")
        for axis in axes:
            default = LawTable(
                distribution="normal", mean=0.5 * (axis.lower + axis.upper), std=(axis.upper - axis.lower) / 16
            )
            laws.setdefault(axis.name, default)
        return {"axes": axes, "initial": Product(**{name: laws[name].marginal() for name in axis_names})}

    def solve_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `mfpde.solve` besides the problem; what the file leaves open is left out."""
        tables = self.tables
        parts = {"scheme": TRANSPORTS, "method": METHODS, "controller": CONTROLLERS}
        arguments: dict[str, Any] = {}
        for name, option in OPTIONS.items():
            if name in parts:
                arguments[name] = tables.scheme.made(parts[name])
            elif isinstance(option.toml, str) and name != "output":  # the file has a name by default
                arguments[name] = functools.reduce(getattr, option.toml.split("."), tables)
        if tables.tolerance is not None and not tables.scheme.names_controller:
            del arguments["controller"]  # the search has its own
        arguments = {name: value for name, value in arguments.items() if value is not None}
        return {**arguments, "checkpoint": arguments["checkpoint"] or None}

    def completed(self, problem: Problem) -> Configuration:
        """The same run with every choice made explicit, for the file that it leads to.

        Parameters
        ----------
        problem : Problem
            What `problem` gave.

        Returns
        -------
        Configuration
            With the mesh, end time, parameters and scheme that defaults stand for, the hash of the data, and
            without the output's path.
        """
        tables = self._plain()
        tables.pop("time_limit", None)  # how the run was made, not what it computes
        if (
            self.tables.tolerance is None or self.tables.shape is not None
        ):  # a search finds the mesh, and the scheme on it
            tables["shape"] = list(problem.grid(self.tables.shape).shape)
        tables["t_end"] = problem.t_end if self.tables.t_end is None else self.tables.t_end
        if self.tables.problem is not None:
            tables["problem"] = self.name
            tables["parameters"] = {k: v for k, v in (problem.parameters or {}).items() if v is not None}
        if self.tables.network is not None:
            tables["network"]["sha256"] = self._data.sha256
        if self.tables.tolerance is None:
            own, grid = self.tables.scheme, problem.grid(self.tables.shape)
            chosen = own.made(TRANSPORTS) or default_scheme(problem, grid, tables["t_end"])[0]
            method = own.made(METHODS) or default_method(problem, grid, chosen, tables["t_end"])[0]
            tables["scheme"] = SchemeTable.saying(
                TRANSPORTS.to_table(chosen), METHODS.to_table(method), CONTROLLERS.to_table(own.made(CONTROLLERS))
            )
        tables["output"] = {"save": self.tables.output.save, "plot": self.tables.output.plot}
        return self.from_tables(plain(tables), self.directory, self.source)

    def toml(self, directory: str | Path | None = None) -> str:
        """The configuration as TOML text.

        Parameters
        ----------
        directory : path, optional
            Where the text will stand: the path to the data is written relative to it. Default: the
            configuration's own directory.
        """
        import tomli_w

        tables = self._plain()
        table = self.tables.network
        if directory is not None and table is not None and not Path(table.data).is_absolute():
            data = self.directory / table.data
            # on another drive there is no relative path
            with contextlib.suppress(ValueError):
                data = Path(os.path.relpath(data, directory))
            tables["network"]["data"] = data.as_posix()
        return tomli_w.dumps(tables)

    def _plain(self) -> dict[str, Any]:
        tables = self.tables.model_dump(exclude_unset=True, exclude_none=True)
        return {key: value for key, value in plain(tables).items() if value != {}}


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:  # among them numbers with too many digits
        raise ConfigurationError(f"{source} is no TOML: {one_line(error)}") from None


def _with(tables: dict[str, Any], changes: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Put values into the tables by dotted key; keys that stand in no table are the problem's."""
    described = "energy" in tables and "network" not in tables
    scheme = tables.get("scheme")
    for registry in (TRANSPORTS, CONTROLLERS):
        chosen = changes.get(f"scheme.{registry.key}")
        if isinstance(scheme, dict) and chosen is not None and chosen != scheme.get(registry.key):
            # the numbers of the old choice mean nothing to the new one
            for kind in registry.values():
                for name in (*kind.required, *kind.optional):
                    scheme.pop(name, None)
    for key, value in changes.items():
        parts = key.split(".")
        if parts[0] not in TABLES and key not in TOP_LEVEL and not (described and parts[0] in FileTable.OWN):
            parts.insert(0, _owner(tables, parts[0], value))
        table = tables
        for parent in parts[:-1]:
            inner = table.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{source}: {key}: {parent} = {short(inner)} must be a table")
            table = inner
        table[parts[-1]] = value
    return tables


def _owner(tables: dict[str, Any], key: str, value: Any) -> str:
    """The table that a key of the problem's own stands in.

    A network has two, ``[network]`` and ``[dynamics]``, and its rate may stand in either: the new one takes the place
    of the old one. A schedule, which is a table, can stand in ``[dynamics]`` only.
    """
    if "network" not in tables:
        return "dynamics" if "energy" in tables else "parameters"
    network, dynamics = (tables.get(name) for name in ("network", "dynamics"))
    if key not in DynamicsTable.model_fields:
        return "network"
    if key not in NetworkTable.model_fields or isinstance(value, dict):
        if isinstance(network, dict):
            network.pop(key, None)
        return "dynamics"
    return "dynamics" if isinstance(dynamics, dict) and key in dynamics else "network"


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Configuration:
    r"""Read a run from a TOML file.

    Parameters
    ----------
    path : path
        The file, at most 1 MiB.
    changes : mapping, optional
        Values that replace those of the file, by dotted key: ``{"scheme.transport": "muscl"}``. Keys that begin with
        no table's name are the problem's: of ``[parameters]``, or of a network's ``[network]`` and ``[dynamics]``.

    Returns
    -------
    Configuration

    Raises
    ------
    ConfigurationError
        If the file cannot be read or anything in it does not fit; one line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.toml"
    >>> _ = path.write_text('problem = "linear-neuron"\nshape = [100]\n[parameters]\nalpha = 0.0\n')
    >>> load_config(path).problem().name
    'linear-neuron'
    """
    path = Path(path)
    content = read_file(path, MAX_FILE_BYTES)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no TOML: it is not UTF-8 text") from None
    tables = _with(_parse(text, str(path)), changes or {}, str(path))
    return Configuration.from_tables(tables, path.parent, str(path))


def named_config(name: str, changes: Mapping[str, Any] | None = None) -> Configuration:
    """A run of a named problem.

    Parameters
    ----------
    name : str
        One of `mfpde.problems.names`.
    changes : mapping, optional
        Settings by dotted key: ``{"alpha": 0.0, "scheme.transport": "muscl"}``; see `load_config`.

    Raises
    ------
    ConfigurationError
        If anything does not fit; one line.
    """
    return Configuration.from_tables(_with({"problem": name}, changes or {}, name), Path(), name)


def parse_value(text: str) -> Any:
    """A value from a command line: as in TOML, and text where quotes are left out.

    Raises
    ------
    ConfigurationError
        For text that begins like a list, a table or a quotation and is none.

    Examples
    --------
    >>> parse_value("0.5"), parse_value("[-2, 1.5]"), parse_value("bad"), parse_value("true")
    (0.5, [-2, 1.5], 'bad', True)
    """
    try:
        tables = parse_toml(f"value = {text}")
    except ValueError:
        if text[:1] in "[{\"'" or not text.strip():
            raise ConfigurationError(f"{short(text)} is no TOML value") from None
        return text
    if set(tables) != {"value"}:
        raise ConfigurationError(f"{short(text)} is no TOML value")
    return tables["value"]
