"""Sparse deconvolution: a measure of free mass, of one sign or two, explains a few spikes behind a low-pass filter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mfpde.equation.energy import AxisKernel, CosineKernel, Discrepancy, External, SeparableKernel, SpeciesKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.product import Product
from mfpde.equation.measures.species import PerSpecies
from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.species import Species
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import at_least, not_negative
from mfpde.support.arrays import Array

__all__ = ["sparse_deconvolution"]


CITATION = """@article{chizat2022sparse,
  title   = {Sparse optimization on measures with over-parameterized gradient descent},
  author  = {Chizat, L{\\'e}na{\\"\\i}c},
  journal = {Mathematical Programming},
  volume  = {194},
  pages   = {487--532},
  year    = {2022},
  eprint  = {1907.10300}
}"""

TURN = 2 * math.pi
PLANE = [[math.pi + x, math.pi + y] for x, y in ((0.0, 0.0), (1.7, -0.3), (0.7, 1.3))]
DEFAULTS: dict[int, dict[str, Any]] = {
    1: {"centres": [1.0, 2.5, 4.5], "weights": [0.5, 0.3, 0.2], "harmonics": 4, "alpha": 40.0, "t_end": 5.0},
    2: {"centres": PLANE, "weights": [1.21, 0.64, 1.0], "harmonics": 2, "alpha": 4.0, "t_end": 30.0},
}
"""What arguments that are left out are, by dimension."""


@with_parameters
def sparse_deconvolution(
    dimension: int = 1,
    centres: Sequence[float] | Sequence[Sequence[float]] | None = None,
    weights: Sequence[float] | None = None,
    penalty: float = 0.3,
    signed: bool = False,
    harmonics: int | None = None,
    alpha: float | None = None,
    t_end: float | None = None,
) -> Problem:
    r"""A measure on the torus, of any mass, explains filtered spikes at the price of its mass.

    With ``nu = sum_k a_k delta_{m_k}`` and a filter that lets the harmonics up to ``n`` pass,

    .. math::

       J[\mu] = \tfrac12 \iint K\, d(\mu - \nu)\, d(\mu - \nu) + \lambda\, \mu(\Theta), \qquad
       K = \prod_{i=1}^d \Big(1 + 2 \sum_{k=1}^n \cos k(\theta_i - \theta'_i)\Big), \qquad
       \partial_t \mu = \nabla\cdot(\mu \nabla V) - \alpha V \mu,

    with :math:`V = K(\mu - \nu) + \lambda`, from the uniform measure of mass 1. Weights ``w_i = r_i^2`` make this
    conic particle gradient descent. J is convex; ``mu`` is its minimiser where :math:`V \ge 0` and
    :math:`\int V d\mu = 0`. Measures of two signs, `signed`, are two species: ``mu+ - mu-`` explains, both have a
    price, :math:`V_\pm = \pm K(\mu_+ - \mu_- - \nu) + \lambda`, and each has the mass 1/2 at the start.

    Parameters
    ----------
    dimension : int
        1 or 2.
    centres : sequence of float or of points, optional
        ``m_k``, in [0, 2 pi): numbers in one dimension, pairs in two. Default: 1, 2.5, 4.5; in two dimensions ``pi``
        and (0, 0), (1.7, -0.3), (0.7, 1.3).
    weights : sequence of float, optional
        ``a_k``, of any sign. Default: 0.5, 0.3, 0.2; in two dimensions 1.21, 0.64, 1. Signed, the second is negative.
    penalty : float
        ``lambda >= 0``.
    signed : bool
        Whether the measure may have negative parts: an axis ``sign`` of the species ``positive`` and ``negative``.
    harmonics : int, optional
        ``n``, 1 to 64. Default: 4; in two dimensions 2.
    alpha : float, optional
        How fast mass changes against transport, ``4 alpha / beta`` in the paper's learning rates. Default: 40; in two
        dimensions 4. With 0 the mass stays 1.
    t_end : float, optional
        Default: 5; in two dimensions 30.

    Notes
    -----
    The defaults in two dimensions are an experiment of the paper's code, which has penalties 0, 1 and 4; those in one
    dimension are its filter, penalty and rates with three spikes of one sign.

    **Exact** (``problem.exact``): ``initial_energy``, and ``empty_energy`` of the measure 0;
    ``minimum_energy = 0`` without penalty for weights of signs that the measure may have; for one spike of weight
    :math:`a > \lambda/K_0`, :math:`K_0 = (2n+1)^d`, ``minimum_energy`` = :math:`\lambda a - \lambda^2/(2 K_0)`,
    its ``mass`` :math:`c^* = a - \lambda/K_0`, and ``spike_mass(t, c0)``, the logistic law
    :math:`c = c^*/(1 + (c^*/c_0 - 1) e^{-\alpha K_0 c^* t})` of an atom that starts there with a mass ``c0``.
    Other minima are convex programmes: with the default spikes in two dimensions 2.766578807 and 10.070304179 for
    penalties 1 and 4, in one dimension 0.2841738692 and, signed, 0.2815973720.

    **Good values.** 256 cells, 48 x 48 in two dimensions: a mesh has a spike on two cells a coordinate, and its energy
    lies above the minimum by the square of a cell; masses beside a spike are right, densities are not. Nodes need no
    cells: ``mf.characteristics`` gives ten digits of the energy. ``mf.stationary`` finds the minimum on a mesh.
    """
    from scipy import stats

    at_least(1, dimension=dimension)
    if dimension > 2:
        raise ValueError(f"dimension must be 1 or 2, not {dimension!r}")
    given = {"centres": centres, "weights": weights, "harmonics": harmonics, "alpha": alpha, "t_end": t_end}
    chosen = DEFAULTS[dimension] | {name: value for name, value in given.items() if value is not None}
    n = chosen["harmonics"]
    points, amounts = (np.asarray(chosen[name], dtype=float) for name in ("centres", "weights"))
    points = points[:, None] if points.ndim == 1 else points
    if amounts.ndim != 1 or points.shape != (len(amounts), dimension):
        what, found = "a number" if dimension == 1 else "a pair", np.shape(chosen["centres"])
        raise ValueError(
            f"centres have {what} for each weight in dimension {dimension}, not shapes {found} and {amounts.shape}"
        )
    if signed and weights is None:
        amounts[1] = -amounts[1]
        chosen["weights"] = amounts.tolist()
    at_least(1, harmonics=n)
    if n > 64:
        raise ValueError(f"harmonics must be at most 64, not {n!r}")
    not_negative(penalty=penalty)
    names = ("x", "y")[:dimension]
    factors: dict[str, AxisKernel] = dict.fromkeys(names, CosineKernel((2.0,) * n, constant=1.0))
    axes = [Axis(name, 0.0, TURN, End.PERIODIC) for name in names]
    initial: Measure = Product(**dict.fromkeys(names, stats.uniform(0.0, TURN)))
    places = points
    if signed:
        factors = {"sign": SpeciesKernel(((1.0, -1.0), (-1.0, 1.0)))} | factors
        axes, initial = [Species("sign", ("positive", "negative")), *axes], PerSpecies(initial)
        places = np.column_stack([np.zeros(len(points)), points])
    energy = Discrepancy(SeparableKernel(factors), places, amounts)

    def price(*x: Array) -> Array:
        return np.full(np.broadcast(*x).shape, penalty)

    return Problem(
        energy=energy + External(price) if penalty > 0 else energy,
        axes=axes,
        initial=initial,
        alpha=chosen["alpha"],
        reaction=Reaction.UNBALANCED,
        t_end=chosen["t_end"],
        name="sparse-deconvolution",
        citation=CITATION,
        shape=256 if dimension == 1 else 48,
        exact=_exact(points, amounts, penalty, signed, n, chosen["alpha"]),
        parameters=chosen,
    )


def _exact(points: Array, weights: Array, penalty: float, signed: bool, harmonics: int, alpha: float) -> dict[str, Any]:
    """What is known in closed form."""
    angles = np.multiply.outer(points[:, None, :] - points, np.arange(1, harmonics + 1))
    matrix = np.prod(1 + 2 * np.cos(angles).sum(axis=-1), axis=-1)
    empty = 0.5 * float(weights @ matrix @ weights)
    # the uniform measure sees the constant alone, and halves of two signs are nothing together
    uniform = 0.0 if signed else 0.5 - float(weights.sum())
    exact: dict[str, Any] = {"empty_energy": empty, "initial_energy": empty + uniform + penalty}
    peak = float((2 * harmonics + 1) ** points.shape[1])
    weight = abs(float(weights[0])) if signed else float(weights[0])
    mass = weight - penalty / peak
    if penalty == 0 and (signed or weights.min() >= 0):
        exact["minimum_energy"] = 0.0
    if len(weights) == 1 and mass > 0:
        exact["mass"], exact["minimum_energy"] = mass, penalty * weight - penalty**2 / (2 * peak)
        exact["spike_mass"] = lambda t, c0: mass / (1 + (mass / c0 - 1) * np.exp(-alpha * peak * mass * t))
    return exact
