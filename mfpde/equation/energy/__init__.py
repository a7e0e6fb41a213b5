"""Energies: external potentials, pair interactions, features with a convex loss, two-layer networks.

``energy.bind(axes)`` puts an energy on a box, ``.on(grid)`` on a mesh; the same response serves grid and points.
"""

from mfpde.equation.energy.activations import ACTIVATIONS, Activation, hermite
from mfpde.equation.energy.axis_kernels import AxisKernel, CallableKernel, CosineKernel, GaussianKernel, LinearKernel
from mfpde.equation.energy.base import BoundEnergy, Confinement, Energy, EnergySum, External, GridEnergy
from mfpde.equation.energy.features import Features
from mfpde.equation.energy.interaction import Discrepancy, Interaction
from mfpde.equation.energy.kernels import Kernel, PairKernel, SeparableKernel, TranslationInvariantKernel
from mfpde.equation.energy.losses import LOSSES, HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.equation.energy.network import Role, TwoLayerNetwork

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
