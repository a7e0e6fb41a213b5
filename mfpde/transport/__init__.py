"""Drift and diffusion, ``div(mu G grad V) + tau div(G omega grad(mu/omega))``, on a grid: schemes and operator.

Importing costs numpy only; the compiled sweeps are loaded when a `Transport` is made.
"""

from __future__ import annotations

from mfpde.transport.operator import Metric, Transport
from mfpde.transport.schemes import Limiter, Muscl, ScharfetterGummel, Scheme, Upwind, Weno5

__all__ = ["Limiter", "Metric", "Muscl", "ScharfetterGummel", "Scheme", "Transport", "Upwind", "Weno5"]
