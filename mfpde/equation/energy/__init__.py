"""Energies: external potentials, pair interactions, features with a convex loss, two-layer networks.

``energy.bind(axes)`` puts an energy on a box, ``.on(grid)`` on a mesh; the same response serves grid and points. One of
your own is a subclass of `MeshEnergy`, of `PointEnergy`, or `Features` with your own `Loss`.
"""

from mfpde.equation.energy.activations import ACTIVATIONS, Activation, hermite
from mfpde.equation.energy.axis_kernels import (
    AxisKernel,
    CallableKernel,
    CosineKernel,
    GaussianKernel,
    LinearKernel,
    SpeciesKernel,
)
from mfpde.equation.energy.base import BoundEnergy, Energy, EnergySum
from mfpde.equation.energy.by_species import BySpecies
from mfpde.equation.energy.custom import Functional, MeshEnergy, PointEnergy
from mfpde.equation.energy.external import Confinement, External
from mfpde.equation.energy.features import Features
from mfpde.equation.energy.interaction import Discrepancy, Interaction
from mfpde.equation.energy.kernels import Kernel, PairKernel, SeparableKernel, TranslationInvariantKernel
from mfpde.equation.energy.losses import LOSSES, HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.equation.energy.network import Role, TwoLayerNetwork
from mfpde.equation.energy.on_grid import GridEnergy

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "Activation",
    "AxisKernel",
    "BoundEnergy",
    "BySpecies",
    "CallableKernel",
    "Confinement",
    "CosineKernel",
    "Discrepancy",
    "Energy",
    "EnergySum",
    "External",
    "Features",
    "Functional",
    "GaussianKernel",
    "GridEnergy",
    "HuberLoss",
    "Interaction",
    "Kernel",
    "LinearKernel",
    "LogisticLoss",
    "Loss",
    "MeshEnergy",
    "PairKernel",
    "PointEnergy",
    "Role",
    "SeparableKernel",
    "SpeciesKernel",
    "SquaredLoss",
    "TranslationInvariantKernel",
    "TwoLayerNetwork",
    "hermite",
]
