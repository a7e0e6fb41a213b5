"""The systems of the literature, ready to run: one file a paper, one function a problem.

``problems.get("three-gaussians", alpha=0)`` finds a problem by its name; ``problems.names()``
lists them. Each function's docstring gives the equation, good values and the exact facts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mfpde.equation.problem import Problem
from mfpde.problems.attention import self_attention
from mfpde.problems.bumps import gaussian_bumps
from mfpde.problems.classic import double_well, linear_neuron, quadratic_well
from mfpde.problems.data import network
from mfpde.problems.deconvolution import sparse_deconvolution
from mfpde.problems.games import two_player_game
from mfpde.problems.langevin import (
    double_well_sampling,
    gaussian_langevin,
    gaussian_sampling,
    sphere_langevin,
    torus_langevin,
)
from mfpde.problems.mei2018 import (
    PiecewiseLinearUnit,
    anisotropic_gaussians,
    isotropic_gaussians,
    predicting_failure,
    relu_gaussians,
)
from mfpde.problems.mmd import mmd_flow
from mfpde.problems.quantization import quantization
from mfpde.problems.rotskoff2019 import student_teacher, three_gaussians
from mfpde.problems.single_index import single_index
from mfpde.problems.spikes import torus_spikes
from mfpde.problems.two_timescale import two_timescale, ultra_fast_diffusion
from mfpde.support.arguments import checked, shown
from mfpde.support.travel import recipe
from mfpde.support.words import near_miss

__all__ = [
    "PiecewiseLinearUnit",
    "anisotropic_gaussians",
    "double_well",
    "double_well_sampling",
    "gaussian_bumps",
    "gaussian_langevin",
    "gaussian_sampling",
    "get",
    "isotropic_gaussians",
    "linear_neuron",
    "mmd_flow",
    "names",
    "network",
    "predicting_failure",
    "quadratic_well",
    "quantization",
    "relu_gaussians",
    "self_attention",
    "single_index",
    "sparse_deconvolution",
    "sphere_langevin",
    "student_teacher",
    "three_gaussians",
    "torus_langevin",
    "torus_spikes",
    "two_player_game",
    "two_timescale",
    "ultra_fast_diffusion",
]

_REGISTRY: dict[str, Callable[..., Problem]] = {
    "three-gaussians": three_gaussians,
    "gaussian-bumps": gaussian_bumps,
    "linear-neuron": linear_neuron,
    "quadratic-well": quadratic_well,
    "double-well": double_well,
    "single-index": single_index,
    "isotropic-gaussians": isotropic_gaussians,
    "anisotropic-gaussians": anisotropic_gaussians,
    "predicting-failure": predicting_failure,
    "relu-gaussians": relu_gaussians,
    "torus-langevin": torus_langevin,
    "gaussian-langevin": gaussian_langevin,
    "gaussian-sampling": gaussian_sampling,
    "double-well-sampling": double_well_sampling,
    "sphere-langevin": sphere_langevin,
    "student-teacher": student_teacher,
    "self-attention": self_attention,
    "mmd-flow": mmd_flow,
    "torus-spikes": torus_spikes,
    "sparse-deconvolution": sparse_deconvolution,
    "two-timescale": two_timescale,
    "ultra-fast-diffusion": ultra_fast_diffusion,
    "quantization": quantization,
    "two-player-game": two_player_game,
}

# what a file, a command line or a slip of the pen puts into them is refused in one line
for _name, _constructor in _REGISTRY.items():
    _REGISTRY[_name] = globals()[_constructor.__name__] = recipe(checked(_constructor), __name__)
network = recipe(network, __name__)


def names() -> list[str]:
    """The names of the problems that need no data."""
    return list(_REGISTRY)


def constructor(name: str) -> Callable[..., Problem]:
    """The function behind a name.

    Raises
    ------
    ValueError
        For an unknown name, with the one that was probably meant.
    """
    try:
        return _REGISTRY[name.replace("_", "-")]
    except (KeyError, AttributeError, TypeError):
        near = near_miss(name, _REGISTRY)
        raise ValueError(f"unknown problem {shown(name)}; {near}mfpde.problems.names() lists what there is") from None


def get(name: str, **parameters: Any) -> Problem:
    """A problem by its name, with its constructor's arguments.

    Raises
    ------
    ValueError
        For an unknown name or argument, with the valid ones.
    """
    function = constructor(name)
    valid = inspect.signature(function).parameters
    unknown = [key for key in parameters if key not in valid]
    if unknown:
        raise ValueError(f"problem {name!r} has no parameter {unknown[0]!r}; valid: {', '.join(valid)}")
    return function(**parameters)
