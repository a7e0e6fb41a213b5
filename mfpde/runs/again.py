"""The TOML text from which a solution is computed again, also of a run that was made in Python."""

from __future__ import annotations

from typing import Any

from mfpde.mesh.kinds import CONTROLLERS, METHODS, TRANSPORTS
from mfpde.mesh.record import Record
from mfpde.runs.configuration import MAX_FILE_BYTES, Configuration
from mfpde.runs.tables import SchemeTable
from mfpde.support.registry import plain

__all__ = ["toml_of"]


def toml_of(record: Record) -> str:
    """The text of a run: as ``mfpde run`` has written it, else made of the description of its problem.

    Raises
    ------
    ValueError
        If there is none: the problem has functions of a user's own, the scheme is one, or the data are too many.
    """
    said = record.configuration
    if isinstance(said.get("toml"), str):
        return str(said["toml"])
    description = record.description
    tables: dict[str, Any]
    if description is None:
        tables = {
            "problem": record.name,
            "parameters": {k: v for k, v in said.get("parameters", {}).items() if v is not None},
        }
    elif missing := "; ".join(part for part in (*description.missing, description.silent) if part):
        raise ValueError(f"no TOML text says all of the problem {record.name!r}: {missing}")
    else:
        tables = plain(description.tables)
    parts = (("scheme", TRANSPORTS), ("method", METHODS), ("controller", CONTROLLERS))
    scheme = SchemeTable.saying(*(registry.to_table(registry.from_text(said.get(name))) for name, registry in parts))
    tables |= {"shape": list(record.grid.shape), "t_end": said.get("t_end"), "scheme": scheme}
    tables |= {key: said[key] for key in ("estimate", "on_end_mass") if key in said}
    tables["output"] = {"save": list(said.get("save", record.times[1:].tolist()))}
    text = Configuration.from_tables(tables, ".", f"the run of {record.name!r}").toml()
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"the text would have {len(text)} letters, a TOML file has at most {MAX_FILE_BYTES}")
    return text
