"""Numbers that the NumPy fluxes and the compiled ones share."""

__all__ = ["DT_FLOOR", "EPSILON", "FLUSH", "ROUNDED", "ROUND_UP", "SAFE", "TAIL_WIDTH", "TINY"]

FLUSH = 1e-290
"""Smaller densities are no mass, and do not move: round-off there would not be relative any more."""
TINY = 2.2250738585072014e-308
"""The smallest normal number."""
ROUND_UP = 1.0 + 2.0**-45
"""Of outflow rates, so that forward Euler at ``dt = positivity / rate`` stays non-negative in round-off too."""
SAFE = 1.0 - 1e-13
"""Room for round-off in the positivity limiter."""
TAIL_WIDTH = 10.0
"""Factor of max/min over a stencil within which `Weno5` goes over to its fallback."""
EPSILON = 1e-40
"""Of the WENO weights, for stencils scaled to order one: sixth powers stay normal numbers."""
DT_FLOOR = 1e-13
"""Smallest step relative to the run's length."""
ROUNDED = 1e-13
"""The relative mass that rounding may add up to before it is given back, and by less than a twentieth a step."""
