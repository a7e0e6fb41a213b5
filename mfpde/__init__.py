"""mfpde: a grid-based solver for the mean-field PDE of wide two-layer networks.

>>> import mfpde as mf
>>> solution = mf.solve(mf.problems.three_gaussians(), shape=(48, 48), t_end=0.5, progress=False)
>>> bool(solution.energy[-1] < 0.6 * solution.energy[0])
True

Names are imported when they are first used, so that importing the package costs numpy only.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from typing import Any

__version__ = "0.1.0"


def _homes() -> dict[str, str]:
    """Where each public name is, from the stub beside this file, which type checkers read as well: "" is a module."""
    stub = ast.parse(pkgutil.get_data(__name__, "__init__.pyi") or b"")
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {name.name: node.module or "" for node in imports for name in node.names}


_HOMES = _homes()

# a star does not bring the module of energies: users call an energy so
__all__ = sorted(set(_HOMES) - {"energy"})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mfpde' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    if not _HOMES[name]:
        return importlib.import_module(f"mfpde.{name}")
    value = getattr(importlib.import_module(f"mfpde.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
