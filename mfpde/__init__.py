"""mfpde: a grid-based solver for the mean-field PDE of wide two-layer networks.

>>> import mfpde as mf
>>> solution = mf.solve(mf.problems.three_gaussians(), shape=(48, 48), t_end=0.5, progress=False)
>>> bool(solution.energy[-1] < 0.6 * solution.energy[0])
True

Names are imported when they are first used, so that importing the package costs numpy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "mfpde.equation.grid": ("Axis", "End", "Grid"),
    "mfpde.equation.measures.base": ("Density", "Dirac", "GridMeasure", "Measure", "Mixture", "Particles", "Product"),
    "mfpde.equation.energy": (
        "Activation",
        "CallableKernel",
        "Confinement",
        "CosineKernel",
        "Discrepancy",
        "Energy",
        "External",
        "Features",
        "GaussianKernel",
        "HuberLoss",
        "Interaction",
        "LinearKernel",
        "LogisticLoss",
        "PairKernel",
        "Role",
        "SeparableKernel",
        "SquaredLoss",
        "TranslationInvariantKernel",
        "TwoLayerNetwork",
    ),
    "mfpde.equation.schedules": (
        "Constant",
        "ExponentialDecay",
        "InverseLog",
        "PiecewiseLinear",
        "PowerLaw",
        "Schedule",
    ),
    "mfpde.equation.problem": ("Network", "Problem", "Reaction", "Reinjection", "ReinjectionKind", "TruncationWarning"),
    "mfpde.transport": ("Limiter", "Muscl", "ScharfetterGummel", "Scheme", "Transport", "Upwind", "Weno5"),
    "mfpde.mesh.methods.base": (
        "CourantControl",
        "ErrorControl",
        "ExponentialSSPRK3",
        "FixedStep",
        "Lie",
        "Operator",
        "Splitting",
        "Strang",
    ),
    "mfpde.mesh.methods.implicit": ("ImplicitEuler", "ImplicitStrang", "Potential"),
    "mfpde.mesh.recorder": ("EnergyBelow", "GapBelow", "Limits", "OnEndMass", "Snapshot", "SteadyState"),
    "mfpde.mesh.record": ("Result", "State"),
    "mfpde.mesh.solution": ("Solution",),
    "mfpde.support.session": ("RunWarning",),
    "mfpde.mesh.solver": ("Solver",),
    "mfpde.mesh.run": ("SolveError", "solve"),
    "mfpde.runs.resuming": ("resume",),
    "mfpde.verification.laws": ("Check", "Verified", "verify"),
    "mfpde.equation.equilibrium": ("Equilibrium", "stationary"),
    "mfpde.lagrangian.characteristics": ("Characteristics", "characteristics"),
    "mfpde.lagrangian.fluctuations": ("Fluctuations", "fluctuations"),
    "mfpde.verification.comparison": (
        "Comparison",
        "ExactLaw",
        "Finding",
        "ParticleRecord",
        "Quantity",
        "Verdict",
        "compare",
        "load_particles",
    ),
    "mfpde.runs.loading": ("load",),
    "mfpde.verification.references.reference": (
        "Certified",
        "DecayRate",
        "DensityAt",
        "Disagreement",
        "EnergyAt",
        "Marginal",
        "MassIn",
        "Moment",
        "OutputAt",
        "Reference",
        "reference",
    ),
    "mfpde.verification.references.pack": ("load_reference", "reference_names"),
    "mfpde.runs.pictures": ("animate", "plot"),
}
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*sorted(_WHERE), "particles", "problems", "testing"]

if TYPE_CHECKING:
    from mfpde import particles, problems, testing
    from mfpde.equation.energy import (
        Activation,
        CallableKernel,
        Confinement,
        CosineKernel,
        Discrepancy,
        Energy,
        External,
        Features,
        GaussianKernel,
        HuberLoss,
        Interaction,
        LinearKernel,
        LogisticLoss,
        PairKernel,
        Role,
        SeparableKernel,
        SquaredLoss,
        TranslationInvariantKernel,
        TwoLayerNetwork,
    )
    from mfpde.equation.equilibrium import Equilibrium, stationary
    from mfpde.equation.grid import Axis, End, Grid
    from mfpde.equation.measures.base import Measure
    from mfpde.equation.measures.density import Density
    from mfpde.equation.measures.mixture import Mixture
    from mfpde.equation.measures.on_mesh import GridMeasure
    from mfpde.equation.measures.particles import Particles
    from mfpde.equation.measures.product import Dirac, Product
    from mfpde.equation.problem import Network, Problem, Reaction, Reinjection, ReinjectionKind, TruncationWarning
    from mfpde.equation.schedules import Constant, ExponentialDecay, InverseLog, PiecewiseLinear, PowerLaw, Schedule
    from mfpde.lagrangian.characteristics import Characteristics, characteristics
    from mfpde.lagrangian.fluctuations import Fluctuations, fluctuations
    from mfpde.mesh.controllers import CourantControl, ErrorControl, FixedStep
    from mfpde.mesh.methods.exponential import ExponentialSSPRK3
    from mfpde.mesh.methods.implicit import ImplicitEuler, ImplicitStrang, Potential
    from mfpde.mesh.methods.splitting import Lie, Operator, Splitting, Strang
    from mfpde.mesh.record import Result, State
    from mfpde.mesh.run import SolveError, solve
    from mfpde.mesh.schemes import Limiter, Muscl, ScharfetterGummel, Scheme, Upwind, Weno5
    from mfpde.mesh.solution import Solution
    from mfpde.mesh.solver import Solver
    from mfpde.mesh.stopping import EnergyBelow, GapBelow, Limits, OnEndMass, Snapshot, SteadyState
    from mfpde.mesh.transport import Transport
    from mfpde.runs.loading import load
    from mfpde.runs.pictures import animate, plot
    from mfpde.runs.resuming import resume
    from mfpde.support.session import RunWarning
    from mfpde.verification.comparison import (
        Comparison,
        ExactLaw,
        Finding,
        ParticleRecord,
        Quantity,
        Verdict,
        compare,
        load_particles,
    )
    from mfpde.verification.laws import Check, Verified, verify
    from mfpde.verification.references.certified import Certified, Reference
    from mfpde.verification.references.pack import load_reference
    from mfpde.verification.references.recipes import reference_names
    from mfpde.verification.observables import DecayRate, DensityAt, EnergyAt, Marginal, MassIn, Moment, OutputAt
    from mfpde.verification.references.reference import reference
    from mfpde.verification.references.search import Disagreement


def __getattr__(name: str) -> Any:
    if name in ("particles", "problems", "testing"):
        return importlib.import_module(f"mfpde.{name}")
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mfpde' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
