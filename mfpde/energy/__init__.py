"""Energies: external potentials, pair interactions, features with a convex loss, two-layer networks.

``energy.bind(axes)`` puts an energy on a box, ``.on(grid)`` on a mesh; the same response serves grid and points.
"""

from mfpde.energy.activations import ACTIVATIONS, Activation, hermite
from mfpde.energy.base import BoundEnergy, Confinement, Energy, EnergySum, External, GridEnergy
from mfpde.energy.features import Features
from mfpde.energy.kernels import (
    AxisKernel,
    CallableKernel,
    CosineKernel,
    GaussianKernel,
    Kernel,
    LinearKernel,
    PairKernel,
    SeparableKernel,
    TranslationInvariantKernel,
)
from mfpde.energy.losses import LOSSES, HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.energy.network import Role, TwoLayerNetwork
from mfpde.energy.pair import Discrepancy, Interaction

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "Activation",
    "AxisKernel",
    "BoundEnergy",
    "CallableKernel",
    "Confinement",
    "CosineKernel",
    "Discrepancy",
    "Energy",
    "EnergySum",
    "External",
    "Features",
    "GaussianKernel",
    "GridEnergy",
    "HuberLoss",
    "Interaction",
    "Kernel",
    "LinearKernel",
    "LogisticLoss",
    "Loss",
    "PairKernel",
    "Role",
    "SeparableKernel",
    "SquaredLoss",
    "TranslationInvariantKernel",
    "TwoLayerNetwork",
    "hermite",
]
