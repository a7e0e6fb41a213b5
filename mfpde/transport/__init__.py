"""Transport ``div(mu G grad V)`` on a grid: schemes, and the operator that applies them.

Importing costs numpy only; the compiled sweeps are loaded when a `Transport` is made.
"""

from __future__ import annotations

from .operator import Metric, Transport
from .schemes import Limiter, Muscl, Scheme, Upwind, Weno5

__all__ = ["Limiter", "Metric", "Muscl", "Scheme", "Transport", "Upwind", "Weno5"]
