"""Mean-field Langevin dynamics that fits spikes on the two-dimensional torus."""

from __future__ import annotations

import math

import numpy as np

from mfpde.equation.energy import CosineKernel, Discrepancy, SeparableKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem, Reaction
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import at_least, not_negative
from mfpde.support.arrays import Array

__all__ = ["torus_spikes"]


CITATION = """@article{chizat2022mean,
  title   = {Mean-Field Langevin Dynamics: Exponential Convergence and Annealing},
  author  = {Chizat, L{\\'e}na{\\"\\i}c},
  journal = {Transactions on Machine Learning Research},
  year    = {2022},
  eprint  = {2202.01009}
}"""


@with_parameters
def torus_spikes(
    temperature: float = 0.1,
    spikes: int = 10,
    harmonics: int = 5,
    seed: int = 0,
    alpha: float = 0.0,
    t_end: float = 40.0,
) -> Problem:
    r"""A measure on the torus is fitted to random spikes, with noise.

    With ``nu`` the spikes, of equal weights and total mass 1, and a kernel that sees the lowest harmonics,

    .. math::

       E[\mu] = \tfrac12 \iint K\, d(\mu - \nu)\, d(\mu - \nu), \qquad
       K = \prod_{i=1}^2 \Big(1 + 2 \sum_{k=1}^{n} \frac{\cos k (\theta_i - \theta'_i)}{1 + k}\Big),

    from the uniform measure. The energy is convex, so the noisy flow converges exponentially to the one minimiser of
    the free energy, the faster the higher the temperature; a temperature that falls slowly finds the spikes.

    Parameters
    ----------
    temperature : float
        ``tau >= 0``.
    spikes : int
        How many, at least 1, uniformly at random.
    harmonics : int
        ``n``, 1 to 64.
    seed : int
        Of the spikes' positions.
    alpha : float
        Birth-death rate; the reaction is that of the free energy if there is a temperature.
    t_end : float

    Notes
    -----
    The defaults are a configuration after the experiments of the paper, which runs particles (m = 50, step 0.08, 1000
    steps) at temperatures 0.03, 0.1, 0.3 and with temperatures that fall like ``1/t``.

    **Exact** (``problem.exact``): ``initial_energy``; ``discrepancy``, a lower bound 0 of ``E`` without the entropy;
    ``minimum_energy = 0`` at temperature 0.

    **Good values.** 48 x 48 for temperatures from 0.03. For annealing replace the temperature:
    ``dataclasses.replace(problem, temperature=PowerLaw(-1, ..))`` or any function of time.
    """
    from scipy import stats

    at_least(1, spikes=spikes, harmonics=harmonics)
    at_least(0, seed=seed)
    if harmonics > 64:
        raise ValueError(f"harmonics must be at most 64, not {harmonics!r}")
    not_negative(temperature=temperature)
    turn = 2 * math.pi
    points = np.random.default_rng(seed).uniform(0.0, turn, (spikes, 2))
    weights = np.full(spikes, 1 / spikes)
    factor = CosineKernel(tuple(2 / (1 + k) for k in range(1, harmonics + 1)), constant=1.0)

    def one(d: Array) -> Array:
        k = np.arange(1, harmonics + 1)
        return 1 + np.cos(np.multiply.outer(d, k)) @ (2 / (1 + k))

    d = points[:, None, :] - points
    # the uniform measure sees the constant alone
    start = 0.5 * float(weights @ (one(d[..., 0]) * one(d[..., 1])) @ weights) - 0.5
    exact: dict[str, float] = {"initial_energy": start - 2 * temperature * math.log(turn)}
    if temperature == 0:
        exact["minimum_energy"] = 0.0
    return Problem(
        energy=Discrepancy(SeparableKernel(x=factor, y=factor), points, weights),
        axes=[Axis("x", 0.0, turn, End.PERIODIC), Axis("y", 0.0, turn, End.PERIODIC)],
        initial=Product(x=stats.uniform(0.0, turn), y=stats.uniform(0.0, turn)),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY if temperature > 0 else Reaction.BALANCED,
        t_end=t_end,
        name="torus-spikes",
        citation=CITATION,
        shape=(48, 48),
        exact=exact,
    )
