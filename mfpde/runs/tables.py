"""The tables of a run's TOML file: which keys there are, what they may be, and what is said of those that do not fit.

Every key is listed in ``docs/configuration.md``.
"""

from __future__ import annotations

import contextlib
import math
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from mfpde.equation.energy.activations import ACTIVATIONS, activation_named
from mfpde.equation.energy.losses import LOSSES
from mfpde.equation.kinds import LAWS, SCHEDULES
from mfpde.equation.problem import Reaction, ReinjectionKind
from mfpde.equation.schedules import Schedule
from mfpde.mesh.kinds import CONTROLLERS, METHODS, TRANSPORTS
from mfpde.mesh.methods.implicit import Potential
from mfpde.mesh.schemes import Limiter
from mfpde.mesh.stopping import OnEndMass
from mfpde.problems import constructor, names
from mfpde.support.registry import Registry
from mfpde.support.words import one_line, suggestion

__all__ = [
    "ConfigurationError",
    "DynamicsTable",
    "FileTable",
    "LawTable",
    "NetworkTable",
    "OutputTable",
    "ReinjectionTable",
    "ScheduleTable",
    "SchemeTable",
    "explain",
    "short",
    "typed_parameters",
]

MAX_SAVES = 100_000


class ConfigurationError(ValueError):
    """A run that cannot be made: one line with the key, the value and what is valid."""


# ---------------------------------------------------------------------------------------------------------------------
# values and errors that validators share
# ---------------------------------------------------------------------------------------------------------------------


def short(value: Any) -> str:
    """The value as Python writes it, its middle left out where it is long."""
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


class Table(BaseModel):
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


def _choose(table: Table, key: str, choices: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
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


Number = Annotated[float, BeforeValidator(_number)]


class LawTable(Table):
    """A marginal: a distribution with its numbers, or an atom."""

    # a number has a key of its own: {atom = 0.0}
    NAMED: ClassVar[list[str]] = [name for name in LAWS if name != "atom"]

    distribution: Annotated[str, _one_of(NAMED)] | None = None
    mean: Number | None = None
    std: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    lower: Number | None = None
    upper: Number | None = None
    atom: Number | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> LawTable:
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
        choices = LAWS.keys_of(type(self).model_fields)
        _choose(self, "distribution", {name: choices[name] for name in self.NAMED})
        if self.distribution == "uniform" and not self.lower < self.upper:  # type: ignore[operator]
            raise _bad(f"must lie above lower = {self.lower:g}", "upper")
        return self

    def marginal(self) -> Any:
        """A distribution of SciPy, or the place of an atom."""
        return LAWS.from_table({"distribution": "atom", **self.model_dump(exclude_none=True)})


class ScheduleTable(Table):
    """A function of time that is not constant: one that is has a number in its place."""

    NAMED: ClassVar[list[str]] = [name for name in SCHEDULES if name != "constant"]

    kind: Annotated[str, _one_of(NAMED)]
    times: list[Number] | None = None
    values: list[Number] | None = None
    exponent: Number | None = None
    scale: Number | None = None
    initial: Number | None = None
    final: Number | None = None
    time_constant: Number | None = None
    offset: Number | None = None

    @pydantic.model_validator(mode="after")
    def _complete(self) -> ScheduleTable:
        choices = SCHEDULES.keys_of(type(self).model_fields)
        _choose(self, "kind", {name: choices[name] for name in self.NAMED})
        try:
            self.schedule()
        except ValueError as error:
            raise _bad(f"is refused: {one_line(error)}") from None
        return self

    def schedule(self) -> Schedule:
        """The function of time."""
        return SCHEDULES.from_table(self.model_dump(exclude_none=True))


def _not_negative(value: Any) -> Any:
    if _is_formula(value) or isinstance(value, (dict, ScheduleTable)):
        return value
    number = _number(value)
    if number < 0:
        raise _bad("must not be negative")
    return number


def _is_formula(value: Any) -> bool:
    """Whether a value is a formula, as text or with the names of its variables: the problem reads it."""
    return isinstance(value, str) or (isinstance(value, dict) and "formula" in value)


def _number_kind(value: Any) -> str:
    return "<formula>" if _is_formula(value) else "<table>" if isinstance(value, (dict, ScheduleTable)) else "<number>"


# the function decides, so that an error speaks of one of them only
NumberOrSchedule = Annotated[
    Annotated[float, pydantic.Tag("<number>")]
    | Annotated[ScheduleTable, pydantic.Tag("<table>")]
    | Annotated[Any, pydantic.Tag("<formula>")],
    pydantic.Discriminator(_number_kind),
    BeforeValidator(_not_negative),
]


def _laws_or_kind(value: Any) -> str:
    return "<kind>" if isinstance(value, dict) and isinstance(value.get("kind"), str) else "<laws>"


Measure = Annotated[
    Annotated[dict[str, LawTable], pydantic.Tag("<laws>")] | Annotated[dict[str, Any], pydantic.Tag("<kind>")],
    pydantic.Discriminator(_laws_or_kind),
]
"""Laws by axis, or a measure of another kind, which the problem reads."""


def _rate(value: Any) -> Any:
    if _is_formula(value):
        return value
    number = _number(value)
    if number < 0:
        raise _bad("must be greater than or equal to 0")
    return number


class ReinjectionTable(Table):
    """Where mass comes back, and how."""

    kind: Annotated[str, _one_of(kind.value for kind in ReinjectionKind)] = ReinjectionKind.REFILL.value
    measure: Measure


class DynamicsTable(Table):
    """What an equation is besides its energy: rates, temperature, reaction."""

    alpha: NumberOrSchedule | None = None
    temperature: NumberOrSchedule | None = None
    schedule: NumberOrSchedule | None = None
    reaction: Annotated[str, _one_of(reaction.value for reaction in Reaction)] | None = None
    balance: Annotated[str, _one_of(("each", "all"))] | None = None
    rate: str | dict[str, Any] | None = None
    reinjection: ReinjectionTable | None = None
    rates: dict[str, Annotated[Any, BeforeValidator(_rate)]] | None = None
    base: str | dict[str, Any] | None = None


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


class NetworkTable(Table):
    """A two-layer network and the file of data that it is trained on."""

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
    initial: dict[str, LawTable] | None = None
    alpha: Annotated[float, BeforeValidator(_number), Field(ge=0)] | None = None
    temperature: Annotated[float, BeforeValidator(_number), Field(ge=0)] | None = None
    tolerance: Number = 1e-12

    @pydantic.model_validator(mode="after")
    def _fits(self) -> NetworkTable:
        if self.delta is not None and self.loss != "huber":
            raise _bad(f"belongs to loss = 'huber', not to loss = {self.loss!r}", "delta")
        if self.tolerance != 0 and not 1e-15 <= self.tolerance <= 1e-2:
            raise _bad("must be 0 or lie between 1e-15 and 1e-2", "tolerance")
        return self


class SchemeTable(Table):
    """How the equation is solved: transport, method and controller with their numbers."""

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
    def _fits(self) -> SchemeTable:
        for registry in (TRANSPORTS, CONTROLLERS, METHODS):
            _choose(self, registry.key, registry.keys_of(type(self).model_fields))
            try:
                self.made(registry)
            except ValueError as error:
                raise _bad(f"is refused: {one_line(error)}", registry.key) from None
        return self

    @property
    def names_controller(self) -> bool:
        """Whether a controller, or a number of one, is given."""
        required, optional = CONTROLLERS.keys_of(type(self).model_fields)[self.controller]
        return bool(self.model_fields_set & {CONTROLLERS.key, *required, *optional})

    def made(self, registry: Registry) -> Any:
        """The transport, the method or the controller, or None where the problem chooses."""
        name = getattr(self, registry.key)
        if name is None:
            return None
        required, optional = registry.keys_of(type(self).model_fields)[name]
        values = {key: getattr(self, key) for key in (*required, *optional)}
        return registry.from_table(
            {registry.key: name, **{key: value for key, value in values.items() if value is not None}}
        )

    @classmethod
    def saying(cls, *tables: Mapping[str, Any]) -> dict[str, Any]:
        """The tables of a transport, a method and a controller in one, with the keys that a file can give."""
        return {key: value for table in tables for key, value in table.items() if key in cls.model_fields}


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


class OutputTable(Table):
    """Where the solution goes, and what is saved of it."""

    path: Annotated[str, Field(min_length=1)] | None = None
    save: Annotated[Any, BeforeValidator(_save)] = 11
    plot: Annotated[Any, BeforeValidator(_plot)] = True
    checkpoint: Annotated[float, BeforeValidator(_number), Field(ge=0)] = 60.0


def _shape(value: Any) -> Any:
    """Cells by axis, or one number for every axis; how many axes there are, the problem knows."""
    cells = value if isinstance(value, list) else [value]
    if not 1 <= len(cells) <= 4 or not all(isinstance(n, int) and not isinstance(n, bool) for n in cells):
        raise _bad("must be a number of cells or a list of 1 to 4 of them, such as [96, 96]")
    if min(cells) < 2 or max(cells) < 4:  # of labels of species there may be 2
        raise _bad("must be at least 4 cells along each axis")
    return value


class FileTable(Table):
    """The whole file: a problem or a network, and how it is solved."""

    problem: str | None = None
    shape: Annotated[list[int] | int, BeforeValidator(_shape)] | None = None
    t_end: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    tolerance: Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1)] | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_steps: Annotated[int, Field(ge=1)] | None = None
    time_limit: Annotated[float, BeforeValidator(_number), Field(gt=0)] | None = None
    estimate: bool | None = None
    on_end_mass: Annotated[str, _one_of(mode.value for mode in OnEndMass)] | None = None
    parameters: dict[str, Any] | None = None
    network: NetworkTable | None = None
    name: Annotated[str, Field(min_length=1)] | None = None
    axes: list[dict[str, Any]] | None = None
    energy: list[dict[str, Any]] | None = None
    initial: Measure | None = None
    dynamics: DynamicsTable | None = None
    prediction: dict[str, Any] | None = None
    exact: dict[str, Any] | None = None
    citation: str | None = None
    scheme: SchemeTable = SchemeTable()
    output: OutputTable = OutputTable()

    OWN: ClassVar[tuple[str, ...]] = ("name", "axes", "energy", "initial", "prediction", "exact", "citation")
    """What only a problem of its own has; a network may have further terms of its energy."""

    @pydantic.model_validator(mode="after")
    def _one_problem(self) -> FileTable:
        own = [key for key in self.OWN if getattr(self, key) is not None]
        if self.problem is not None:
            self._is_named(own)
        elif self.network is not None:
            self._is_network([key for key in own if key != "energy"])
        elif own:
            for key in ("axes", "energy", "initial"):
                if getattr(self, key) is None:
                    raise _bad(f"is missing: a problem of {' and '.join(own)} needs axes, energy and initial", key)
            if self.parameters is not None:
                raise _bad('belongs to problem = "name"', "parameters")
        else:
            raise _bad(
                f'needs a problem: problem = "name" ({", ".join(names())}), a [network] table, '
                "or [[axes]], [[energy]] and [initial]"
            )
        return self

    def _is_named(self, own: Sequence[str]) -> None:
        assert self.problem is not None
        if self.network is not None:
            raise _bad("cannot stand beside a [network] table; drop one of them", "problem")
        if self.dynamics is not None:
            raise _bad("belongs to a [network]; a named problem takes its dynamics from [parameters]", "dynamics")
        if own:
            raise _bad(f"cannot stand beside problem = {self.problem!r}, which has its own; drop one of them", own[0])
        if self.problem.replace("_", "-") not in names():
            raise _bad(f"is unknown; {suggestion(self.problem, names())}", "problem")
        typed_parameters(self.problem, self.parameters or {})

    def _is_network(self, own: Sequence[str]) -> None:
        assert self.network is not None
        if own:
            raise _bad("cannot stand beside a [network], which has its own keys for it", own[0])
        if self.parameters is not None:
            raise _bad('belongs to problem = "name"; a network\'s keys stand in [network]', "parameters")
        for key in ("alpha", "temperature"):
            if getattr(self.network, key) is not None and getattr(self.dynamics, key, None) is not None:
                raise _bad("is given in [network] and in [dynamics]; drop one of them", f"dynamics.{key}")


_OF_EVERY_PROBLEM = ("alpha", "temperature", "schedule")
"""What every problem has, and not every constructor takes."""


def typed_parameters(problem: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a problem's constructor in the types of its signature."""
    typed: dict[str, Any] = {}
    function = constructor(problem)
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    for key, value in parameters.items():
        if key not in hints:
            other = f"; in Python: problems.get({problem!r}).replace({key}=...)" if key in _OF_EVERY_PROBLEM else ""
            raise _bad(f"is an unknown parameter of {problem!r}; {suggestion(key, hints)}{other}", f"parameters.{key}")
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


def explain(error: pydantic.ValidationError, tables: Any) -> str:
    """The first thing that does not fit, in one line: its key, its value and what is valid."""
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
    return f"{name} = {short(value)} {message}" if plain else f"{name} {message}"
