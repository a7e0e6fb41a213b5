"""A problem as a table, and the problem of a table.

The same tables stand in the TOML file of a run and in the file of a solution: ``axes``, ``energy``, ``initial``,
``dynamics``, and what else a problem has. ``docs/configuration.md`` lists their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mfpde.equation.description.context import (
    Context,
    Refused,
    Undeclared,
    declared,
    described_function,
    described_origin,
    function_of,
    or_origin,
    table_of,
    within,
)
from mfpde.equation.description.energies import described_energy, energy_of
from mfpde.equation.description.measures import axes_of, described_axes, described_measure, measure_of
from mfpde.equation.kinds import SCHEDULES
from mfpde.equation.problem import Network, Problem, Reaction, Reinjection, ReinjectionKind, own_network
from mfpde.equation.schedules import Constant, CustomSchedule, Schedule
from mfpde.equation.units import FormulaUnit
from mfpde.support.arguments import member, name_of, real, shown
from mfpde.support.registry import plain
from mfpde.support.travel import RECIPE
from mfpde.support.words import suggestion

__all__ = ["KEYS", "Description", "build", "describe", "dynamics_of", "is_named"]

KEYS = ("name", "axes", "energy", "initial", "dynamics", "prediction", "t_end", "shape", "citation", "exact")
"""The tables and values of a description."""
DYNAMICS = ("alpha", "temperature", "schedule", "reaction", "balance", "rate", "rates", "base", "reinjection")


@dataclass(frozen=True)
class Description:
    """What of a problem is numbers and text.

    Attributes
    ----------
    tables : mapping
        See `describe`; a part that is not is a table that says so, ``{own = "a function of your own, well"}``.
    missing : tuple of str
        What is not, a line each: ``"energy[0] is a function of your own, well"``. Where there is any, the problem
        cannot be made of the tables.
    silent : str
        Why the network is not among the tables, where a problem can be made without it: it then predicts nothing.
    """

    tables: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    silent: str = ""


def is_named(problem: Problem) -> bool:
    """Whether a problem is what a constructor of `mfpde.problems` has made: its name and its parameters say all."""
    made = vars(problem).get(RECIPE)
    return made is not None and made[0] == "mfpde.problems" and problem.parameters is not None


def describe(problem: Problem) -> Description:
    """A problem as tables of numbers and text.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    Description
        ``build(description.tables)`` is the same problem, and computes the same bits.
    """
    missing: list[str] = []

    def part(describing: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return describing(*arguments)
        except Undeclared as error:
            missing.append(str(error))
            return {"own": error.own}

    names = [axis.name for axis in problem.axes]
    terms = problem.energy.terms
    energy = [part(described_energy, term, names, f"energy[{i}]") for i, term in enumerate(terms)]
    tables: dict[str, Any] = {
        "name": problem.name,
        "t_end": problem.t_end,
        "shape": None if problem.shape is None else list(problem.shape),  # type: ignore[arg-type]
        "citation": problem.citation or None,
        "axes": described_axes(problem.axes),
        "energy": energy,
        "initial": part(described_measure, problem.initial, names, "initial"),
        "dynamics": _described_dynamics(problem, names, part),
        "exact": {name: value for name, value in problem.exact.items() if real(value)} or None,
    }
    own = [Undeclared(f"terms[{i}]", "an operator", type(term).__name__) for i, term in enumerate(problem.terms)]
    missing += map(str, own)
    silent = ""
    try:
        tables["prediction"] = _described_network(problem, names)
    except Undeclared as error:
        silent = str(error)
    return Description(plain({k: v for k, v in tables.items() if v is not None}, arrays=True), tuple(missing), silent)


def build(tables: Mapping[str, Any], named: Callable[..., Problem] | None = None) -> Problem:
    """The problem of tables, which may come from anywhere: nothing in them is executed.

    Parameters
    ----------
    tables : mapping
        With the keys `KEYS`; `axes`, `energy` and `initial` are needed.
    named : callable, optional
        ``named(name, **parameters)`` gives named problems, of which an energy or a measure may be.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        For the first thing that is unknown or does not fit: one line that says where it stands.

    Examples
    --------
    >>> problem = build({
    ...     "axes": [{"name": "x", "lower": -2.0, "upper": 2.0}],
    ...     "energy": [{"kind": "external", "formula": "(x**2 - 1)**2"}],
    ...     "initial": {"x": {"distribution": "normal", "mean": 0.0, "std": 0.3}},
    ...     "dynamics": {"alpha": "1/(1 + t)"},
    ... })
    >>> problem.alpha(1.0)
    0.5
    """
    for key in tables:
        if key not in KEYS:
            raise ValueError(f"a problem has no {key!r}; {suggestion(key, KEYS)}")
    for key in ("axes", "energy", "initial"):
        if key not in tables:
            raise ValueError(f"{key} is missing; a problem needs axes, energy and initial")
    axes = axes_of(tables["axes"])
    context = Context([axis.name for axis in axes], named)
    given: dict[str, Any] = {key: tables[key] for key in ("name", "t_end", "shape", "citation") if key in tables}
    if "exact" in tables:
        given["exact"] = _exact(table_of(tables["exact"], "exact"))
    energy, initial = energy_of(tables["energy"], context), measure_of(tables["initial"], context, "initial")
    if "prediction" in tables:
        given["network"] = _network_of(tables["prediction"], context)
    dynamics = dynamics_of(tables.get("dynamics", {}), context)
    return Problem(energy=energy, axes=axes, initial=initial, **dynamics, **given)


def _exact(table: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in table.items():
        if not real(value):
            raise ValueError(f"exact.{name} must be a finite number, not {shown(value)}")
    return table


# ---------------------------------------------------------------------------------------------------------------------
# dynamics
# ---------------------------------------------------------------------------------------------------------------------


def _described_dynamics(problem: Problem, names: Sequence[str], part: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, usual in (("alpha", 0.0), ("temperature", 0.0), ("schedule", 1.0)):
        schedule = getattr(problem, name)
        if not (type(schedule) is Constant and schedule.value == usual):
            found[name] = part(_described_schedule, schedule, name)
    if problem.reaction is not Reaction.BALANCED:
        found["reaction"] = problem.reaction
    if problem.balance != "each":
        found["balance"] = problem.balance
    if problem.rate is not None:
        found["rate"] = part(described_function, problem.rate, ("V",), "rate")
    if problem.metric is not None:
        rates = zip(names, problem.metric, strict=True)
        found["rates"] = {name: part(_described_rate, g, names, f"rates.{name}") for name, g in rates if g is not None}
    if problem.base is not None:
        found["base"] = part(or_origin, lambda: described_function(problem.base, names, "base"), problem.base, "base")
    if problem.reinjection is not None:
        measure = part(described_measure, problem.reinjection.measure, names, "reinjection.measure")
        found["reinjection"] = {"kind": problem.reinjection.kind, "measure": measure}
    return found


def _described_schedule(schedule: Schedule, what: str) -> Any:
    if type(schedule) is Constant:
        return schedule.value
    if type(schedule) is CustomSchedule:
        return described_function(schedule.function, ("t",), what)
    return declared(SCHEDULES, schedule, what, "a schedule")


def _described_rate(rate: Any, names: Sequence[str], what: str) -> Any:
    return described_function(rate, names, what) if callable(rate) else float(rate)


def dynamics_of(tables: Any, context: Context) -> dict[str, Any]:
    """The fields of a problem that a table of its dynamics gives: rates, temperature, reaction."""
    with within("dynamics"):
        given = table_of(tables, "it")
        for key in given:
            if key not in DYNAMICS:
                raise ValueError(f"there is no {key!r}; {suggestion(key, DYNAMICS)}")
        fields: dict[str, Any] = {}
        for name in ("alpha", "temperature", "schedule"):
            if name in given:
                fields[name] = _schedule(given[name], name)
        if "reaction" in given:
            fields["reaction"] = member(Reaction, given["reaction"], "reaction")
        if "balance" in given:
            fields["balance"] = given["balance"]
        if "rate" in given:
            fields["rate"] = function_of(given["rate"], ("V",), "rate")
        if "rates" in given:
            fields["metric"] = _metric(table_of(given["rates"], "rates"), context)
        if "base" in given:
            fields["base"] = _base(given["base"], context)
        if "reinjection" in given:
            fields["reinjection"] = _reinjection(table_of(given["reinjection"], "reinjection"), context)
        return fields


def _schedule(value: Any, what: str) -> Any:
    with within(what):
        if isinstance(value, str) or (isinstance(value, Mapping) and "formula" in value):
            return CustomSchedule(function_of(value, ("t",), "formula"))  # type: ignore[arg-type]  # of a number
        if isinstance(value, Mapping):
            return SCHEDULES.from_table(value)
        if not real(value):
            raise ValueError(f"{shown(value)} is no number, no schedule and no formula of t")
        return value


def _metric(rates: Mapping[str, Any], context: Context) -> list[Any]:
    for name in rates:
        if name not in context.names:
            raise Refused(f"rates.{name}", f"names no axis; {suggestion(name, context.names)}")
    texts = {name: rate for name, rate in rates.items() if isinstance(rate, (str, Mapping))}
    made = {name: function_of(text, context.names, f"rates.{name}") for name, text in texts.items()}
    return [{**rates, **made}.get(name) for name in context.names]


def _base(value: Any, context: Context) -> Any:
    if isinstance(value, Mapping) and value.get("kind") == "of-problem":
        return context.problem(value.get("problem"), value.get("parameters")).base
    return function_of(value, context.names, "base")


def _reinjection(table: Mapping[str, Any], context: Context) -> Reinjection:
    if not {"measure"} <= set(table) <= {"measure", "kind"}:
        raise ValueError(f"reinjection must have measure, and may have kind; it has {', '.join(table) or 'nothing'}")
    measure = measure_of(table["measure"], context, "reinjection.measure")
    return Reinjection(measure, table.get("kind", ReinjectionKind.REFILL))


# ---------------------------------------------------------------------------------------------------------------------
# the network that predicts
# ---------------------------------------------------------------------------------------------------------------------


def _described_network(problem: Problem, names: Sequence[str]) -> dict[str, Any] | None:
    """The network of a problem, where it is not that of the energy."""
    network, own = problem.network, own_network(problem.energy, problem.axes)
    if network is None or (own is not None and network.unit == own.unit and network.target is None):
        return None
    if (origin := described_origin(network, "network")) is not None:
        return origin
    if type(network.unit) is not FormulaUnit:
        raise Undeclared("the unit of its network", "a function", name_of(network.unit))
    inputs = FormulaUnit.inputs_named(network.unit.count)
    found = {"unit": described_function(network.unit.formula, (*inputs, *names), "unit"), "count": network.unit.count}
    if network.target is not None and network.unit.count == 1:
        found["target"] = described_function(network.target, inputs, "the target of its network")
    elif network.target is not None:
        raise Undeclared("the target of its network", "a function", name_of(network.target))
    return {**found, **({} if network.inputs is None else {"inputs": network.inputs})}


def _network_of(table: Any, context: Context) -> Network | None:
    with within("prediction"):
        given = table_of(table, "it")
        if given.get("kind") == "of-problem":
            return context.problem(given.get("problem"), given.get("parameters")).network
        known = ("unit", "count", "target", "inputs")
        for key in given:
            if key not in known:
                raise ValueError(f"there is no {key!r}; {suggestion(key, known)}")
        count = given.get("count", 1)
        inputs = FormulaUnit.inputs_named(count if isinstance(count, int) and 1 <= count <= 100 else 1)
        unit = FormulaUnit(function_of(given.get("unit"), (*inputs, *context.names), "unit"), count)
        target = None if "target" not in given else function_of(given["target"], inputs, "target")
        return Network(unit, target, given.get("inputs"))
