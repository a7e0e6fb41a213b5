"""What a run was made with."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import time
from typing import Any

__all__ = ["provenance", "versions"]


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what computes."""
    from importlib.metadata import PackageNotFoundError, version

    installed: dict[str, str] = {}
    for package in ("mfpde", "numpy", "scipy", "numba", "h5py"):
        with contextlib.suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def provenance(seconds: float | None, before: dict[str, Any]) -> dict[str, Any]:
    """Versions, Python, and under ``volatile`` what differs from run to run: date, seconds, command and machine.

    Parameters
    ----------
    seconds : float or None
        What the run took, in seconds; None while it goes on.
    before : dict
        Entries of ``volatile`` that a run which is gone on with has left.
    """
    words = list(getattr(sys, "argv", []))  # a host of Python's may have none
    return {
        "versions": dict(versions()),
        "python": platform.python_version(),
        "volatile": {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **({} if seconds is None else {"seconds": seconds}),
            **before,
            "command": " ".join([*map(os.path.basename, words[:1]), *words[1:]]),
            "machine": platform.machine(),
        },
    }
