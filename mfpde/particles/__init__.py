"""Particles: the finite-n dynamics whose limit the grid solves.

`simulate` runs clouds of n neurons, many replicas at once, by any of the schemes in `mfpde.particles.dynamics`;
`coupled` pairs each interacting particle with its mean-field twin.
"""

from __future__ import annotations

from mfpde.particles.cloud import Cloud
from mfpde.particles.coupling import CoupledCloud, coupled
from mfpde.particles.density import KernelDensity
from mfpde.particles.dynamics import (
    SGD,
    BirthDeath,
    Dynamics,
    GradientDescent,
    Langevin,
    PopulationControl,
    Scheme,
    Weights,
)
from mfpde.particles.simulation import simulate

__all__ = [
    "SGD",
    "BirthDeath",
    "Cloud",
    "CoupledCloud",
    "Dynamics",
    "GradientDescent",
    "KernelDensity",
    "Langevin",
    "PopulationControl",
    "Scheme",
    "Weights",
    "coupled",
    "simulate",
]
