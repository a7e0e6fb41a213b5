"""Names of files with values of a run in them: ``-o "runs/{problem}-alpha={alpha}.h5"``."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfpde.cli.output import RefusedError
from mfpde.support.words import one_line, suggestion

if TYPE_CHECKING:
    from mfpde.equation.problem import Problem
    from mfpde.runs.configuration import Configuration

__all__ = ["expanded", "run_values"]

SHORT = {"scheme.transport": "scheme", "scheme.method": "method", "scheme.controller": "controller"}
"""Keys that have a shorter name."""
OWN = ("parameters.", "network.", "dynamics.", "output.")
"""What names are given without."""
UNFIT = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
"""What is not to stand in a name of a file: it would lead elsewhere, or some system has no such names."""


def expanded(output: Path, values: Callable[[], Mapping[str, Any]]) -> Path:
    """A name of a file with its fields filled in; as it is where there are none.

    Parameters
    ----------
    output : path
        ``{name}`` stands for a value, ``{name:.2f}`` for one in a format of Python, ``{{`` and ``}}`` for braces.
    values : callable
        Gives the values by name; not called where there are no fields.

    Raises
    ------
    RefusedError
        For a name that there is not, with those that there are; for braces and formats that do not fit.
    """
    text = str(output)
    if "{" not in text and "}" not in text:
        return output
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise RefusedError(f"-o {text!r}: {one_line(error)}; write {{{{ and }}}} for braces of the name") from None
    known = values() if any(field is not None for _, field, _, _ in parts) else {}
    return Path("".join(before + _filled(text, known, *field) for before, *field in parts))


def _filled(text: str, known: Mapping[str, Any], name: str | None, form: str | None, conversion: str | None) -> str:
    """What stands for one field."""
    if name is None:
        return ""
    if name not in known:
        raise RefusedError(f"-o {text!r}: there is no {{{name}}} in this run; {suggestion(name, known)}")
    if conversion or "{" in (form or ""):
        raise RefusedError(f"-o {text!r}: {{{name}}} takes a format such as {{{name}:.2f}}, and nothing else")
    try:
        filled = format(known[name], form) if form else _text(known[name])
    except ValueError:
        raise RefusedError(f"-o {text!r}: {form!r} is no format for {name} = {_text(known[name])}") from None
    return UNFIT.sub("_", filled)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "x".join(map(_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def run_values(configuration: Configuration, problem: Problem) -> dict[str, Any]:
    """What a name can have in it: every value of the run by its key in a TOML file, and shorter names.

    ``problem``, ``alpha`` and ``temperature`` (at the start, where they are schedules), ``shape``, ``t_end``,
    ``scheme``, ``method``, ``controller``, and the problem's own parameters, or the keys of a network.
    """
    from mfpde.support.files.untrusted import flat, parse_toml

    found: dict[str, Any] = {"problem": configuration.name}
    for key, value in flat(parse_toml(configuration.completed(problem).toml())).items():
        if key not in ("network.sha256", "output.plot") and not (isinstance(value, list) and _nested(value)):
            own = next((key.removeprefix(table) for table in OWN if key.startswith(table)), key)
            found.setdefault(SHORT.get(key, own), value)
    # where a file of data lies does not belong into a name
    found |= {"data": Path(found["data"]).stem} if isinstance(found.get("data"), str) else {}
    return found | {name: float(getattr(problem, name)(0.0)) for name in ("alpha", "temperature")}


def _nested(value: list[Any]) -> bool:
    return any(isinstance(entry, (list, dict)) for entry in value)
