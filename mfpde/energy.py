"""Energies, and what those of one's own are made of: see `mfpde.equation.energy`."""

from mfpde.equation.energy import *  # noqa: F403
from mfpde.equation.energy import __all__ as __all__
