"""Numbers that what is NumPy and what is compiled share."""

__all__ = [
    "CELLS_A_SUBSTEP",
    "DT_FLOOR",
    "EMPTY",
    "EPSILON",
    "FARTHEST",
    "FLUSH",
    "LARGEST",
    "MEMORY",
    "MOST_HALVINGS",
    "MOST_ITERATIONS",
    "MOST_STAGES",
    "ROUNDED",
    "ROUND_UP",
    "SAFE",
    "TAIL_WIDTH",
    "TINY",
]

FLUSH = 1e-290
"""Smaller densities are no mass, and do not move: round-off there would not be relative any more."""
EMPTY = 1e-300
"""The density whose logarithm stands for that of an empty cell in the slope of the free energy."""
TINY = 2.2250738585072014e-308
"""The smallest normal number."""
LARGEST = 1.7976931348623157e308
"""The largest number: the inverse of a temperature next to 0 is no larger."""
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
MOST_ITERATIONS = 40
"""Of an implicit step for its potential."""
MOST_HALVINGS = 12
"""How often an implicit step is halved whose potential is not found."""
MEMORY = 4
"""Earlier iterates that the acceleration combines."""
MOST_STAGES = 40
"""Stages of a stabilised step at most: beyond, an implicit method is the better choice."""
CELLS_A_SUBSTEP = 2.0
"""Cells that the fastest marker passes in a step of the markers, about."""
FARTHEST = 4.0
"""Cells that a marker moves in such a step, at most: where the velocity is stiff it would swing."""
