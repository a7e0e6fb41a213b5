"""Runs described in TOML: names become objects here, and what does not fit is refused in one line.

Every key is listed in ``docs/configuration.md``. A `Configuration` gives the problem and the
arguments of `mfpde.solve`, and writes itself back as TOML from which the same run is made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import functools
import hashlib
import io
import math
import os
import re
import stat
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from mfpde import schedules
from mfpde.defaults import default_method, default_scheme
from mfpde.diagnostics import OnEndMass
from mfpde.energy import HuberLoss
from mfpde.energy.activations import ACTIVATIONS, activation_named
from mfpde.energy.losses import LOSSES, check_size
from mfpde.foreign import parse_toml, read_npz
from mfpde.grid import Axis
from mfpde.implicit import ImplicitEuler, ImplicitStrang, Potential
from mfpde.measures import Product
from mfpde.problem import Problem, Reaction, Reinjection, ReinjectionKind
from mfpde.problems import constructor, get, names, network
from mfpde.stepping import Controller, CourantControl, ErrorControl, ExponentialSSPRK3, FixedStep, Lie, Method, Strang
from mfpde.transport import Limiter, Muscl, ScharfetterGummel, Scheme, Upwind, Weno5

__all__ = ["Configuration", "ConfigurationError", "load_config", "named_config"]

Array = NDArray[np.float64]

MAX_FILE_BYTES = 1 << 20
"""Largest TOML file."""
MAX_DATA_BYTES = 512 << 20
"""Largest data file, and largest content of a compressed one."""
MAX_SAVES = 100_000

TRANSPORTS: dict[str, type[Scheme]] = {
    "weno5": Weno5,
    "muscl": Muscl,
    "upwind": Upwind,
    "scharfetter-gummel": ScharfetterGummel,
}
METHODS: dict[str, type[Method]] = {
    "exponential-ssprk3": ExponentialSSPRK3,
    "strang": Strang,
    "lie": Lie,
    "implicit-strang": ImplicitStrang,
    "implicit-euler": ImplicitEuler,
}
METHOD_KEYS: dict[str | None, tuple[str, ...]] = {
    "strang": ("stabilised",),
    "lie": ("stabilised",),
    "implicit-strang": ("potential", "convergence"),
    "implicit-euler": ("potential", "convergence"),
}
"""The arguments of methods that a file can give."""
CONTROLLERS: dict[str, type[Controller]] = {"error": ErrorControl, "courant": CourantControl, "fixed": FixedStep}
SCHEDULES: dict[str, type[schedules.Schedule]] = {
    "piecewise-linear": schedules.PiecewiseLinear,
    "power-law": schedules.PowerLaw,
    "exponential-decay": schedules.ExponentialDecay,
    "inverse-log": schedules.InverseLog,
}


class ConfigurationError(ValueError):
    """A run that cannot be made: one line with the key, the value and what is valid."""


# ---------------------------------------------------------------------------------------------------------------------
# words
# ---------------------------------------------------------------------------------------------------------------------


def suggestion(value: Any, valid: Iterable[Any]) -> str:
    """``did you mean 'x'? valid: ...``, the first half for near misses only."""
    options = [str(option) for option in valid]
    folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(str(value).casefold(), folded, n=1, cutoff=0.6)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return f"{hint}valid: {', '.join(map(repr, options)) if options else 'none'}"


def one_line(text: object) -> str:
    """The text without line breaks."""
    return " ".join(str(text).split())


def _short(value: Any) -> str:
    text = one_line(repr(value))
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-12:]}"


def _bad(message: str, key: str = "") -> PydanticCustomError:
    """An error at the key that is being read, or at a key inside it."""
    # the message passes through a template in which braces mean something
    return PydanticCustomError("mfpde", "{message}", {"message": message, "key": key})


def _one_of(valid: Iterable[str]) -> BeforeValidator:
    options = tuple(valid)

    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in options:
            raise _bad(f"is unknown; {suggestion(value, options)}")
        return value

    return BeforeValidator(check)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad("must be a number")
    with contextlib.suppress(OverflowError):
        if math.isfinite(value):
            return float(value)
    raise _bad("must be finite")


# ---------------------------------------------------------------------------------------------------------------------
# tables
# ---------------------------------------------------------------------------------------------------------------------


class _Table(BaseModel):
    """A table of the file: every key is known, every value has its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise _bad("must be a table")
        for key in data:
            if key not in cls.model_fields:
                raise _bad(f"is an unknown key; {suggestion(key, cls.model_fields)}", key)
        return data


def _choose(table: _Table, key: str, choices: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Check that exactly the numbers of the chosen kind are given: (required, optional) for each choice."""
    choice = getattr(table, key)
    required, optional = choices.get(choice, ((), ()))
    all_keys = {name for pair in choices.values() for names_ in pair for name in names_}
    given = {name for name in all_keys if getattr(table, name) is not None}
    for name in sorted(given - {*required, *optional}):
        owners = [repr(c) for c, pair in choices.items() if name in (*pair[0], *pair[1])]
        given_instead = "the default" if choice is None else f"{key} = {choice!r}"
        raise _bad(f"belongs to {key} = {' or '.join(owners)}, not to {given_instead}", name)
    for name in required:
        if name not in given:
            raise _bad(f"is missing; {key} = {choice!r} needs {', '.join(required)}", name)


def _keys(kind: type) -> tuple[list[str], list[str]]:
    """The required and the optional arguments of a dataclass."""
    own = [f for f in dataclasses.fields(kind) if f.init]
    optional = [f.name for f in own if f.default is not dataclasses.MISSING]
    return [f.name for f in own if f.name not in optional], optional


Number = Annotated[float, BeforeValidator(_number)]


class _Law(_Table):
    """A marginal: a distribution with its numbers, or an atom."""

    CHOICES: ClassVar[dict[str, tuple[list[str], list[str]]]] = {
        "normal": (["mean", "std"], []),
        "uniform": (["lower", "upper"], []),
    }

    distribution: Annotated[str, _one_of(CHOICES)] | None = None
    mean: Number | None = None
    std: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    lower: Number | None = None
    upper: Number | None = None
    atom: Number | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> _Law:
        if self.atom is not None:
            others = [name for name in type(self).model_fields if name != "atom" and getattr(self, name) is not None]
            if others:
                raise _bad("cannot stand beside an atom; drop one of them", others[0])
            return self
        if self.distribution is None:
            raise _bad(
                'needs a distribution or an atom, such as {distribution = "normal", mean = 0.0, std = 1.0}, '
                '{distribution = "uniform", lower = -1.0, upper = 1.0} or {atom = 0.0}'
            )
        _choose(self, "distribution", self.CHOICES)
        if self.distribution == "uniform" and not self.lower < self.upper:  # type: ignore[operator]
            raise _bad(f"must lie above lower = {self.lower:g}", "upper")
        return self

    def marginal(self) -> Any:
        if self.atom is not None:
            return self.atom
        from scipy import stats

        if self.distribution == "normal":
            return stats.norm(self.mean, self.std)
        assert self.lower is not None
        assert self.upper is not None
        return stats.uniform(self.lower, self.upper - self.lower)


class _Schedule(_Table):
    """A function of time."""

    kind: Annotated[str, _one_of(SCHEDULES)]
    times: list[Number] | None = None
    values: list[Number] | None = None
    exponent: Number | None = None
    scale: Number | None = None
    initial: Number | None = None
    final: Number | None = None
    time_constant: Number | None = None
    offset: Number | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> _Schedule:
        _choose(self, "kind", {name: _keys(kind) for name, kind in SCHEDULES.items()})
        try:
            self.schedule()
        except ValueError as error:
            raise _bad(f"is refused: {one_line(error)}") from None
        return self

    def schedule(self) -> schedules.Schedule:
        return SCHEDULES[self.kind](**self.model_dump(exclude={"kind"}, exclude_none=True))


def _number_or_schedule(value: Any) -> Any:
    if isinstance(value, (dict, _Schedule)):
        return value
    number = _number(value)
    if number < 0:
        raise _bad("must not be negative")
    return number


# the function decides, so that an error speaks of one of the two only
NumberOrSchedule = Annotated[
    Annotated[float, pydantic.Tag("<number>")] | Annotated[_Schedule, pydantic.Tag("<table>")],
    pydantic.Discriminator(lambda value: "<table>" if isinstance(value, (dict, _Schedule)) else "<number>"),
    BeforeValidator(_number_or_schedule),
]


class _Reinjection(_Table):
    kind: Annotated[str, _one_of(kind.value for kind in ReinjectionKind)] = ReinjectionKind.REFILL.value
    measure: dict[str, _Law]


class _Dynamics(_Table):
    alpha: NumberOrSchedule | None = None
    temperature: NumberOrSchedule | None = None
    schedule: NumberOrSchedule | None = None
    reaction: Annotated[str, _one_of(reaction.value for reaction in Reaction)] | None = None
    reinjection: _Reinjection | None = None
    rates: dict[str, Annotated[float, BeforeValidator(_number), Field(ge=0)]] | None = None


def _columns(value: Any) -> Any:
    columns = value if isinstance(value, list) else [value]
    for column in columns:
        if isinstance(column, bool) or not isinstance(column, (str, int)):
            raise _bad('must be a list of column names or numbers from 0, such as ["bmi"]')
    if not columns:
        raise _bad("must name at least one column")
    return columns


def _activation(value: Any) -> Any:
    try:
        activation_named(value if isinstance(value, str) else "")
    except ValueError:
        raise _bad(f"is unknown; {suggestion(value, [*ACTIVATIONS, 'hermite<k>'])}") from None
    return value


def _half_width(value: Any) -> Any:
    widths = [_number(width) for width in (value if isinstance(value, list) else [value])]
    if not widths or min(widths) <= 0:
        raise _bad("must be positive")
    return widths if isinstance(value, list) else widths[0]


def _interval(value: Any) -> Any:
    if not (isinstance(value, list) and len(value) == 2):
        raise _bad("must be an interval such as [-4, 4]")
    lower, upper = map(_number, value)
    if not lower < upper:
        raise _bad("must be an interval [lower, upper] with lower < upper")
    return [lower, upper]


def _standardise(value: Any) -> Any:
    if not isinstance(value, bool) and value not in ("inputs", "outputs"):
        raise _bad("must be true, false, 'inputs' or 'outputs'")
    return value


class _Network(_Table):
    data: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    inputs: Annotated[Any, BeforeValidator(_columns)] | None = None
    outputs: Annotated[Any, BeforeValidator(_columns)] | None = None
    weights: str | int | None = None
    standardise: Annotated[Any, BeforeValidator(_standardise)] = False
    activation: Annotated[str, BeforeValidator(_activation)] = "tanh"
    loss: Annotated[str, _one_of(LOSSES)] = "squared"
    delta: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    amplitude: bool = True
    bias: bool = True
    half_width: Annotated[Any, BeforeValidator(_half_width)] = 4.0
    axes: dict[str, Annotated[list[float], BeforeValidator(_interval)]] | None = None
    initial: dict[str, _Law] | None = None
    alpha: Annotated[float, BeforeValidator(_number), Field(ge=0)] | None = None
    tolerance: Number = 1e-12

    @pydantic.model_validator(mode="after")
    def _fits(self) -> _Network:
        if self.delta is not None and self.loss != "huber":
            raise _bad(f"belongs to loss = 'huber', not to loss = {self.loss!r}", "delta")
        if self.tolerance != 0 and not 1e-15 <= self.tolerance <= 1e-2:
            raise _bad("must be 0 or lie between 1e-15 and 1e-2", "tolerance")
        return self


class _Scheme(_Table):
    transport: Annotated[str, _one_of(TRANSPORTS)] | None = None
    limiter: Annotated[str, _one_of(limiter.value for limiter in Limiter)] | None = None
    tail_ratio: Number | None = None
    method: Annotated[str, _one_of(METHODS)] | None = None
    stabilised: bool | None = None
    potential: Annotated[str, _one_of(p.value for p in Potential)] | None = None
    convergence: Number | None = None
    controller: Annotated[str, _one_of(CONTROLLERS)] = "error"
    tolerance: Number | None = None
    fraction: Number | None = None
    reaction: Number | None = None
    growth: Number | None = None
    dt: Number | None = None

    @pydantic.model_validator(mode="after")
    def _fits(self) -> _Scheme:
        for key, kinds in (("transport", TRANSPORTS), ("controller", CONTROLLERS)):
            _choose(self, key, {name: _keys(kind) for name, kind in kinds.items()})
            try:
                self.objects(key, kinds)
            except ValueError as error:
                raise _bad(f"is refused: {one_line(error)}", key) from None
        _choose(self, "method", {str(name): ([], names_) for name, names_ in METHOD_KEYS.items()})
        try:
            self.stepping()
        except ValueError as error:
            raise _bad(f"is refused: {one_line(error)}", "method") from None
        return self

    def stepping(self) -> Method | None:
        """The method, or None where the problem chooses."""
        if self.method is None:
            return None
        values = {name: getattr(self, name) for name in METHOD_KEYS.get(self.method, ())}
        if values.get("potential") is not None:
            values["potential"] = Potential(values["potential"])
        return METHODS[self.method](**{name: value for name, value in values.items() if value is not None})

    def objects(self, key: str, kinds: Mapping[str, type]) -> Any:
        """The transport or the controller, or None where the problem chooses."""
        if getattr(self, key) is None:
            return None
        kind = kinds[getattr(self, key)]
        values = {name: getattr(self, name) for group in _keys(kind) for name in group}
        if values.get("limiter") is not None:
            values["limiter"] = Limiter(values["limiter"])
        return kind(**{name: value for name, value in values.items() if value is not None})


def _save(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 2 <= value <= MAX_SAVES:
            raise _bad(f"must be at least 2 (the start and the end) and at most {MAX_SAVES}")
        return value
    if not isinstance(value, list):
        raise _bad("must be a number of save times or a list of them")
    if len(value) > MAX_SAVES:
        raise _bad(f"must be at most {MAX_SAVES} times")
    return [_number(t) for t in value]


def _plot(value: Any) -> Any:
    formats = ("png", "pdf", "svg")
    if not isinstance(value, bool) and value not in formats:
        raise _bad(f"must be true, false or a format: {', '.join(map(repr, formats))}")
    return value


class _Output(_Table):
    path: Annotated[str, Field(min_length=1)] | None = None
    save: Annotated[Any, BeforeValidator(_save)] = 11
    plot: Annotated[Any, BeforeValidator(_plot)] = True
    checkpoint: Annotated[float, BeforeValidator(_number), Field(ge=0)] = 60.0


def _shape(value: Any) -> Any:
    cells = value if isinstance(value, list) else [value]
    if not 1 <= len(cells) <= 4 or not all(isinstance(n, int) and not isinstance(n, bool) for n in cells):
        raise _bad("must be a list of 1 to 4 numbers of cells, such as [96, 96]")
    if min(cells) < 4:
        raise _bad("must be at least 4 cells along each axis")
    return cells


class _File(_Table):
    problem: str | None = None
    shape: Annotated[list[int], BeforeValidator(_shape)] | None = None
    t_end: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_steps: Annotated[int, Field(ge=1)] | None = None
    time_limit: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    on_end_mass: Annotated[str, _one_of(mode.value for mode in OnEndMass)] | None = None
    parameters: dict[str, Any] | None = None
    network: _Network | None = None
    dynamics: _Dynamics | None = None
    scheme: _Scheme = _Scheme()
    output: _Output = _Output()

    @pydantic.model_validator(mode="after")
    def _one_problem(self) -> _File:
        if self.problem is None and self.network is None:
            raise _bad(f'needs a problem: problem = "name" ({", ".join(names())}) or a [network] table')
        if self.problem is not None and self.network is not None:
            raise _bad("cannot stand beside a [network] table; drop one of them", "problem")
        if self.network is not None:
            if self.parameters is not None:
                raise _bad('belongs to problem = "name"; a network\'s keys stand in [network]', "parameters")
            if self.network.alpha is not None and self.dynamics is not None and self.dynamics.alpha is not None:
                raise _bad("is given in [network] and in [dynamics]; drop one of them", "dynamics.alpha")
        elif self.dynamics is not None:
            raise _bad("belongs to a [network]; a named problem takes its dynamics from [parameters]", "dynamics")
        if self.problem is not None:
            if self.problem.replace("_", "-") not in names():
                raise _bad(f"is unknown; {suggestion(self.problem, names())}", "problem")
            _typed_parameters(self.problem, self.parameters or {})
        return self


TOP_LEVEL = tuple(name for name in _File.model_fields if name not in ("parameters", "network"))
TABLES = ("parameters", "network", "dynamics", "scheme", "output")


def _typed_parameters(problem: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a problem's constructor in the types of its signature."""
    typed: dict[str, Any] = {}
    function = constructor(problem)
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    for key, value in parameters.items():
        if key not in hints:
            raise _bad(f"is an unknown parameter of {problem!r}; {suggestion(key, hints)}", f"parameters.{key}")
        adapter = pydantic.TypeAdapter(hints[key], config=ConfigDict(strict=True, allow_inf_nan=False))
        try:
            typed[key] = adapter.validate_python(value)
        except pydantic.ValidationError as error:
            # of a union, the branch that got furthest says most
            first = max(error.errors(include_url=False), key=lambda item: len(item["loc"]))
            raise _bad(_said(first["msg"]), f"parameters.{key}") from None
    return typed


# ---------------------------------------------------------------------------------------------------------------------
# errors
# ---------------------------------------------------------------------------------------------------------------------

_PHRASES = (
    (r"^Input should be a valid number.*", "must be a number"),
    (r"^Input should be a valid integer.*", "must be an integer"),
    (r"^Input should be a valid boolean.*", "must be true or false"),
    (r"^Input should be a valid string.*", "must be text"),
    (r"^Input should be a valid list.*", "must be a list"),
    (r"^Input should be a valid dictionary.*", "must be a table"),
    (r"^Input should be a finite number.*", "must be finite"),
    (r"^Input should be an instance of Sequence.*|.*not allowed as a Sequence value", "must be a list"),
    (r"^Input should be ", "must be "),
    (r"^Field required.*", "is missing"),
    (r"^String should match pattern.*", "must be 64 hexadecimal digits"),
    (r"^String should have at least 1 character.*", "must not be empty"),
)


def _said(message: str) -> str:
    for pattern, phrase in _PHRASES:
        if re.search(pattern, message):
            return re.sub(pattern, phrase, message)
    return message


def _explain(error: pydantic.ValidationError, tables: Any) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    message = _said(first["msg"])
    if first["type"] == "mfpde" and first["ctx"]["key"]:
        path += first["ctx"]["key"].split(".")
    value: Any = tables
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        else:
            value = value[int(part)] if isinstance(value, list) and part.isdecimal() else None
    plain = value is not None and not isinstance(value, dict)
    name = ".".join(path) or "the file"
    return f"{name} = {_short(value)} {message}" if plain else f"{name} {message}"


# ---------------------------------------------------------------------------------------------------------------------
# data
# ---------------------------------------------------------------------------------------------------------------------


class _Data(NamedTuple):
    x: Array
    y: Array
    weights: Array | None
    sha256: str


def _read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file that is not too large."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a regular file")
        if status.st_size > limit:
            raise ConfigurationError(f"{path} has {status.st_size} bytes; the limit is {limit}")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ConfigurationError(f"{path} cannot be read: {reason}") from None
    if len(content) > limit:
        raise ConfigurationError(f"{path} has more than {limit} bytes, the limit")
    return content


def _read_data(table: _Network, directory: Path) -> _Data:
    path = directory / table.data
    kind = path.suffix.lower()
    if kind not in (".csv", ".npz"):
        raise ConfigurationError(f"{path} is neither .csv nor .npz")
    content = _read_file(path, MAX_DATA_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    if table.sha256 is not None and table.sha256 != digest:
        raise ConfigurationError(f"{path} has changed: its sha256 is {digest}, not {table.sha256}")
    try:
        x, y, weights = (_read_csv if kind == ".csv" else _read_npz)(content, table)
        for what, values in (("inputs", x), ("outputs", y), ("weights", weights)):
            if values is not None:
                check_size(f"the {what}", values)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if table.standardise in (True, "inputs"):
        x = _standardised(x, "input", path)
    # labels are no numbers to be scaled
    if table.standardise == "outputs" or (table.standardise is True and table.loss != "logistic"):
        y = _standardised(y, "output", path)
    return _Data(x, y, weights, digest)


def _standardised(values: Array, what: str, path: Path) -> Array:
    std = np.atleast_1d(values.std(axis=0))
    scale = np.abs(values).max(axis=0)
    flat = np.flatnonzero(std <= 1e-12 * scale)
    if flat.size:
        raise ConfigurationError(f"{path}: {what} {flat[0]} is constant and cannot be standardised")
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))


def _read_npz(content: bytes, table: _Network) -> tuple[Array, Array, Array | None]:
    for key in ("inputs", "outputs", "weights"):
        if getattr(table, key) is not None:
            raise ConfigurationError(f"{key} selects columns of a .csv file; an .npz file has arrays x, y[, weights]")
    names_ = ("x", "y", "weights")
    try:
        found = read_npz(io.BytesIO(content), names_, MAX_DATA_BYTES)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"is not a readable .npz file of numbers: {one_line(error)}") from None
    arrays = {name: found[name] for name in names_ if name in found}
    for name in ("x", "y"):
        if name not in arrays:
            raise ConfigurationError(f"holds no array {name!r}; it holds {', '.join(map(repr, found)) or 'nothing'}")
    m = len(arrays["x"]) if arrays["x"].ndim else 0
    for name, values in arrays.items():
        if values.dtype.kind not in "iuf":
            raise ConfigurationError(f"array {name!r} holds {values.dtype}, not real numbers")
        if values.ndim not in ((1,) if name == "weights" else (1, 2)) or not values.size:
            form = "(m,)" if name == "weights" else "(m,) or (m, p)"
            raise ConfigurationError(f"array {name!r} has shape {values.shape}; it must be {form} and not empty")
        if len(values) != m:
            raise ConfigurationError(f"array {name!r} has {len(values)} rows, array 'x' has {m}")
        with np.errstate(over="ignore"):
            values = values.astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(values.reshape(m, -1)).all(axis=1))
        if wrong.size:
            raise ConfigurationError(f"row {wrong[0]} of array {name!r} is not finite; remove or fill it")
        if name == "weights" and values.min() < 0:
            raise ConfigurationError(f"row {int(values.argmin())} of array 'weights' is negative")
        arrays[name] = values
    return arrays["x"], arrays["y"], arrays.get("weights")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _csv_rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, without empty ones and comments."""
    import csv

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"line {line} is not UTF-8 text") from None
    head = next((line for line in io.StringIO(text) if line.strip() and not line.startswith("#")), "")
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ConfigurationError(f"line {reader.line_num} is no CSV: {error}") from None


def _read_csv(content: bytes, table: _Network) -> tuple[Array, Array, Array | None]:
    rows = _csv_rows(content)
    first = next(rows, None)
    if first is None:
        raise ConfigurationError("is empty")
    line, cells = first
    numeric = [_is_number(cell) for cell in cells]
    header = None if any(numeric) else cells
    if header is None and not all(numeric):
        column = numeric.index(False)
        raise ConfigurationError(f"line {line}, column {column}: {_short(cells[column])} is not a number")
    count = len(cells)
    if count < 2:
        raise ConfigurationError("has one column; inputs and outputs need at least two")
    column_of = functools.partial(_column, header=header, count=count)
    weights = [] if table.weights is None else [column_of(table.weights, "weights")]
    outputs = None if table.outputs is None else [column_of(column, "outputs") for column in table.outputs]
    inputs = None if table.inputs is None else [column_of(column, "inputs") for column in table.inputs]
    if outputs is None:
        outputs = [[i for i in range(count) if i not in weights][-1]]
        if inputs is not None and outputs[0] in inputs:
            raise ConfigurationError("outputs is missing and the last column is an input; name the outputs")
    if inputs is None:
        inputs = [i for i in range(count) if i not in (*outputs, *weights)]
        if not inputs:
            raise ConfigurationError("no column is left for the inputs")
    wanted = [*inputs, *outputs, *weights]

    def label(i: int) -> str:
        return f"column {i}" if header is None else f"column {header[i]!r}"

    values: list[list[float]] = []
    lines: list[int] = []
    for line, cells in rows if header is not None else _chain(first, rows):
        if len(cells) != count:
            raise ConfigurationError(f"line {line} has {len(cells)} columns, the first line {count}")
        try:
            values.append([float(cells[i]) for i in wanted])
        except ValueError:
            i = next(i for i in wanted if not _is_number(cells[i]))
            what = f"{_short(cells[i])} is not a number" if cells[i] else "is empty"
            raise ConfigurationError(f"line {line} (row {len(values) + 1}), {label(i)}: {what}") from None
        lines.append(line)
    if not values:
        raise ConfigurationError("has a header and no rows")
    array = np.array(values)
    wrong = np.argwhere(~np.isfinite(array))
    if wrong.size:
        row, k = map(int, wrong[0])
        raise ConfigurationError(
            f"line {lines[row]} (row {row + 1}), {label(wanted[k])}: {array[row, k]:g} is not finite; remove or fill it"
        )
    p, q = len(inputs), len(outputs)
    sample_weights = array[:, -1].copy() if weights else None
    if sample_weights is not None and sample_weights.min() < 0:
        row = int(sample_weights.argmin())
        raise ConfigurationError(f"line {lines[row]} (row {row + 1}): the weight {sample_weights[row]:g} is negative")
    return array[:, :p].copy(), array[:, p : p + q].copy(), sample_weights


def _chain(first: tuple[int, list[str]], rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rows


def _column(column: str | int, key: str, header: list[str] | None, count: int) -> int:
    if isinstance(column, int):
        if not 0 <= column < count:
            raise ConfigurationError(f"{key} names column {column}; the columns are 0 to {count - 1}")
        return column
    if header is None:
        raise ConfigurationError(f"{key} names column {column!r}, but the file has no header; give numbers from 0")
    if header.count(column) != 1:
        found = "occurs more than once" if column in header else f"does not exist; {suggestion(column, header)}"
        raise ConfigurationError(f"{key} names column {column!r}, which {found}")
    return header.index(column)


# ---------------------------------------------------------------------------------------------------------------------
# configuration
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Configuration:
    """A run: a problem and how it is solved.

    Attributes
    ----------
    tables : _File
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

    tables: _File
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
            return cls(_File.model_validate(dict(tables)), Path(directory), source)
        except pydantic.ValidationError as error:
            raise ConfigurationError(f"{source}: {_explain(error, tables)}") from None

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
        return self.tables.problem.replace("_", "-") if self.tables.problem is not None else "network"

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
        where = f"{self.source}: {'parameters' if self.tables.network is None else 'network'}"
        try:
            if self.tables.network is None:
                return get(self.name, **_typed_parameters(self.name, self.tables.parameters or {}))
            return self._network_problem(self.tables.network, self._data)
        except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
            raise ConfigurationError(f"{where}: {one_line(error)}") from None
        except MemoryError as error:
            raise ConfigurationError(f"{where}: not enough memory ({one_line(error)})") from None

    @functools.cached_property
    def _data(self) -> _Data:
        assert self.tables.network is not None
        return _read_data(self.tables.network, self.directory)

    def _network_problem(self, table: _Network, data: _Data) -> Problem:
        dynamics = self.tables.dynamics or _Dynamics()
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
            t_end=5.0 if self.tables.t_end is None else self.tables.t_end,
            tolerance=table.tolerance,
        )
        axis_names = [axis.name for axis in problem.axes]
        changes: dict[str, Any] = {}
        if table.axes is not None or table.initial is not None:
            intervals = self._by_axis(table.axes, axis_names, "axes")
            axes = [Axis(a.name, *intervals.get(a.name, (a.lower, a.upper))) for a in problem.axes]
            # the default start has an eighth of the half width, centred, whatever the interval
            laws = self._by_axis(table.initial, axis_names, "initial")
            for axis in axes:
                default = _Law(
                    distribution="normal", mean=0.5 * (axis.lower + axis.upper), std=(axis.upper - axis.lower) / 16
                )
                laws.setdefault(axis.name, default)
            changes["axes"] = axes
            changes["initial"] = Product(**{name: laws[name].marginal() for name in axis_names})
        for name in ("alpha", "temperature", "schedule"):
            value = getattr(dynamics, name)
            if value is not None:
                changes[name] = value.schedule() if isinstance(value, _Schedule) else value
        if dynamics.reaction is not None:
            changes["reaction"] = Reaction(dynamics.reaction)
        if dynamics.reinjection is not None:
            laws = self._by_axis(dynamics.reinjection.measure, axis_names, "dynamics.reinjection.measure")
            missing = [name for name in axis_names if name not in laws]
            if missing:
                raise ConfigurationError(f"dynamics.reinjection.measure: axis {missing[0]!r} is missing")
            measure = Product(**{name: laws[name].marginal() for name in axis_names})
            changes["reinjection"] = Reinjection(measure, ReinjectionKind(dynamics.reinjection.kind))
        if dynamics.rates is not None:
            rates = self._by_axis(dynamics.rates, axis_names, "dynamics.rates")
            changes["metric"] = [rates.get(name) for name in axis_names]
        # fields are replaced once all are known: in between the box may lose mass that it does not lose in the end
        return dataclasses.replace(problem, **changes) if changes else problem

    @staticmethod
    def _by_axis(table: Mapping[str, Any] | None, axis_names: Sequence[str], key: str) -> dict[str, Any]:
        for name in table or {}:
            if name not in axis_names:
                raise ConfigurationError(f"{key}.{name} names no axis; {suggestion(name, axis_names)}")
        return dict(table or {})

    def solve_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `mfpde.solve` besides the problem; what the file leaves open is left out."""
        tables = self.tables
        scheme = tables.scheme
        arguments: dict[str, Any] = {
            "shape": tables.shape,
            "t_end": tables.t_end,
            "scheme": scheme.objects("transport", TRANSPORTS),
            "method": scheme.stepping(),
            "controller": scheme.objects("controller", CONTROLLERS),
            "save": tables.output.save,
            "max_steps": tables.max_steps,
            "threads": tables.threads,
            "time_limit": tables.time_limit,
            "on_end_mass": tables.on_end_mass,
        }
        found = {name: value for name, value in arguments.items() if value is not None}
        return {**found, "checkpoint": tables.output.checkpoint or None}

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
        tables["shape"] = list(problem.grid(self.tables.shape).shape)
        tables["t_end"] = problem.t_end if self.tables.t_end is None else self.tables.t_end
        if self.tables.network is None:
            tables["problem"] = self.name
            tables["parameters"] = {k: v for k, v in (problem.parameters or {}).items() if v is not None}
        else:
            tables["network"]["sha256"] = self._data.sha256
        own = self.tables.scheme
        chosen = own.objects("transport", TRANSPORTS)
        grid = problem.grid(self.tables.shape)
        if chosen is None:
            chosen = default_scheme(problem, grid, tables["t_end"])[0]
        method = own.stepping() or default_method(problem, grid, chosen, tables["t_end"])[0]
        scheme = {
            "transport": _named(TRANSPORTS, chosen),
            "method": _named(METHODS, method),
            **own.model_dump(exclude_none=True),
        }
        for name in METHOD_KEYS.get(scheme["method"], ()):
            scheme[name] = _value(getattr(method, name))
        for part in (chosen, own.objects("controller", CONTROLLERS)):
            for group in _keys(type(part)):
                scheme.update({name: _value(getattr(part, name)) for name in group})
        tables["scheme"] = scheme
        tables["output"] = {"save": self.tables.output.save, "plot": self.tables.output.plot}
        return self.from_tables(_value(tables), self.directory, self.source)

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
        return {key: value for key, value in _value(tables).items() if value != {}}


def _value(value: Any) -> Any:
    """A value in the types of TOML."""
    if isinstance(value, Mapping):
        return {str(key): _value(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(entry) for entry in value]
    if isinstance(value, enum.Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def _named(kinds: Mapping[str, type], thing: object) -> str:
    """The name of an object's kind."""
    return next(name for name, kind in kinds.items() if kind is type(thing))


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:  # among them numbers with too many digits
        raise ConfigurationError(f"{source} is no TOML: {one_line(error)}") from None


def _with(tables: dict[str, Any], changes: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Put values into the tables by dotted key; keys that stand in no table are the problem's."""
    own = "network" if "network" in tables else "parameters"
    scheme = tables.get("scheme")
    for key, kinds in (("transport", TRANSPORTS), ("controller", CONTROLLERS)):
        chosen = changes.get(f"scheme.{key}")
        if isinstance(scheme, dict) and chosen is not None and chosen != scheme.get(key):
            # the numbers of the old choice mean nothing to the new one
            for name in {name for kind in kinds.values() for group in _keys(kind) for name in group}:
                scheme.pop(name, None)
    for key, value in changes.items():
        parts = key.split(".")
        if parts[0] not in TABLES and key not in TOP_LEVEL:
            parts.insert(0, own)
        table = tables
        for parent in parts[:-1]:
            inner = table.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{source}: {key}: {parent} = {_short(inner)} must be a table")
            table = inner
        table[parts[-1]] = value
    return tables


def load_config(path: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Configuration:
    r"""Read a run from a TOML file.

    Parameters
    ----------
    path : path
        The file, at most 1 MiB.
    changes : mapping, optional
        Values that replace those of the file, by dotted key: ``{"scheme.transport": "muscl"}``. Keys that
        begin with no table's name are the problem's: of ``[network]`` or ``[parameters]``.

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
    content = _read_file(path, MAX_FILE_BYTES)
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

    Examples
    --------
    >>> parse_value("0.5"), parse_value("[-2, 1.5]"), parse_value("bad"), parse_value("true")
    (0.5, [-2, 1.5], 'bad', True)
    """
    try:
        tables = parse_toml(f"value = {text}")
    except ValueError:
        if text[:1] in "[{\"'" or not text.strip():
            raise ConfigurationError(f"{_short(text)} is no TOML value") from None
        return text
    if set(tables) != {"value"}:
        raise ConfigurationError(f"{_short(text)} is no TOML value")
    return tables["value"]
