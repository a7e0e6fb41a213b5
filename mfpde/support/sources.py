"""Where the package's own code is: what was kept for one version of it is of no use to another."""

from __future__ import annotations

from pathlib import Path

__all__ = ["PACKAGE"]

PACKAGE = Path(__file__).parents[1]
"""The folder of the package."""
