"""Descriptions of problems in words, for people: a line for what a problem has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mfpde.equation.description.whole import Description
from mfpde.support.words import one_line

__all__ = ["in_words"]

MOST = 6
"""Entries of a list that are written out."""
_HEADS = ("kind", "distribution")
"""Keys whose value says what a table is."""


def in_words(description: Description) -> dict[str, str]:
    """What a problem made in Python has, by what it is: its parameters, its energy, its start."""
    tables = description.tables
    dynamics = {"alpha": 0.0, "temperature": 0.0, **tables.get("dynamics", {})}
    found = {
        "parameters": _entries(dynamics),
        "energy": " + ".join(_word(term) for term in tables.get("energy", ())),
        "start": _word(tables["initial"]).strip("{}") if "initial" in tables else "",
        "not held": "; ".join(part for part in (*description.missing, description.silent) if part),
    }
    return {name: one_line(text) for name, text in found.items() if text}


def _entries(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_word(value)}" for key, value in table.items())


def _word(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape))} numbers"
    if isinstance(value, Mapping):
        if set(value) == {"own"}:
            return str(value["own"])
        head = next((key for key in _HEADS if isinstance(value.get(key), str)), None)
        inside = _entries({key: part for key, part in value.items() if key != head})
        if head is not None:
            return f"{value[head]}({inside})"
        return f"{{{inside}}}"
    if isinstance(value, list):
        inside = ", ".join(map(_word, value[:MOST]))
        return f"[{inside}{', ...' if len(value) > MOST else ''}]"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
