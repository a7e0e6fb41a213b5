"""Quantisation: weighted nodes that stand for many data points, by the maximum mean discrepancy between the two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mfpde.equation.energy import Discrepancy, GaussianKernel, SeparableKernel
from mfpde.equation.grid import Axis
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem, Reaction
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import at_least, positive
from mfpde.support.arrays import Array

__all__ = ["quantization"]


CITATION = """@article{belhadji2025weighted,
  title  = {Weighted quantization using {MMD}: From mean field to mean shift via gradient flows},
  author = {Belhadji, Ayoub and Sharp, Daniel and Marzouk, Youssef},
  year   = {2025},
  eprint = {2502.10600}
}"""

MODES = np.array([0.5, 0.3, 0.2])
"""Shares of the three modes of the data."""
SPREAD = 0.5
"""Their standard deviation; they lie 2 from the origin."""
HALF_WIDTH = 6.0


def _data(dimension: int, samples: int, seed: int) -> Array:
    """Draws from a mixture of three Gaussians: shape (samples, dimension)."""
    rng = np.random.default_rng(seed)
    angles = 2 * math.pi * np.arange(3) / 3
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1) if dimension == 2 else np.array([[-2.0], [0], [2]])
    return centres[rng.choice(3, samples, p=MODES)] + SPREAD * rng.standard_normal((samples, dimension))


@with_parameters
def quantization(
    dimension: int = 2,
    samples: int = 1000,
    seed: int = 0,
    bandwidth: float = 1.0,
    alpha: float = 1.0,
    t_end: float = 5.0,
) -> Problem:
    r"""Weighted nodes approach the law of data, by the Wasserstein-Fisher-Rao flow of half a squared MMD.

    With data ``x_1 .. x_N`` from a mixture of three Gaussians, a Gaussian kernel and
    :math:`v_0(y) = \tfrac1N \sum_k k(y, x_k)`,

    .. math::

       E[\mu] = \tfrac12 \iint k\, d(\mu - \nu)\, d(\mu - \nu), \qquad k = e^{-|y - y'|^2 / 2 h^2}, \qquad
       \partial_t \mu = h^2 \nabla\cdot(\mu \nabla V) - \alpha V \mu, \qquad V = k \mu - v_0,

    from a standard normal law. The mass is free: it need not be 1 for few nodes. Nodes ``y_i`` of weights ``w_i`` obey
    :math:`\dot w_i = -\alpha w_i (\sum_j k_{ij} w_j - v_0(y_i))`, and where they rest they are a fixed point of
    mean shift interacting particles.

    Parameters
    ----------
    dimension : int
        1 or 2.
    samples : int
        ``N``, at least 1, at most 1e5.
    seed : int
        Of the data.
    bandwidth : float
        ``h``, 0.2 to 100.
    alpha : float
        How fast weights change against places.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``), of nodes (n, d): ``weights(nodes)``, the weights >= 0 of least E where the nodes do
    not move, :math:`K^{-1} v_0` where that is positive; weights that are 0 there die. ``mean_shift(nodes)``, the map
    :math:`y_i \mapsto (K^{-1} v_1)_i / (K^{-1} v_0)_i`, :math:`v_1(y) = \tfrac1N \sum_k k(y, x_k) x_k`, of which
    resting nodes are fixed points; of one node the mean shift. ``minimum_energy = 0``, of the data themselves.

    **Good values.** 64 x 64 cells, 200 in one dimension. Nodes of your own: ``dataclasses.replace(problem,
    initial=Particles(nodes), parameters=None)``, with ``metric=[0, 0]`` too where they shall not move. They have the
    mass 1 at the start.
    """
    from scipy import stats

    at_least(1, dimension=dimension, samples=samples)
    at_least(0, seed=seed)
    if dimension > 2 or samples > 100_000:
        raise ValueError(f"dimension must be 1 or 2 and samples at most 1e5, not {dimension!r} and {samples!r}")
    positive(bandwidth=bandwidth)
    if not 0.2 <= bandwidth <= 100:
        raise ValueError(f"bandwidth must lie between 0.2 and 100, not {bandwidth!r}")
    names = ("x", "y")[:dimension]
    data = _data(dimension, samples, seed)
    kernel = SeparableKernel(dict.fromkeys(names, GaussianKernel(bandwidth**2)))
    return Problem(
        energy=Discrepancy(kernel, data, np.full(samples, 1 / samples)),
        axes=[Axis(name, -HALF_WIDTH, HALF_WIDTH) for name in names],
        initial=Product(**dict.fromkeys(names, stats.norm(0.0, 1.0))),
        alpha=alpha,
        reaction=Reaction.UNBALANCED,
        metric=[bandwidth**2] * dimension,
        t_end=t_end,
        name="quantization",
        citation=CITATION,
        shape=(64, 64) if dimension == 2 else (200,),
        exact=_exact(data, bandwidth),
    )


def _exact(data: Array, bandwidth: float) -> dict[str, Any]:
    """What is known of a few nodes."""
    from scipy import optimize

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray(np.exp(-((x[:, None, :] - y) ** 2).sum(axis=2) / (2 * bandwidth**2)))

    def weights(nodes: Array) -> Array:
        # w'Kw/2 - v_0'w = |R w - R^-T v_0|^2/2 - ..., R'R = K
        root = np.linalg.cholesky(kernel(nodes, nodes)).T
        return np.asarray(optimize.nnls(root, np.linalg.solve(root.T, kernel(nodes, data).mean(axis=1)))[0])

    def mean_shift(nodes: Array) -> Array:
        seen = kernel(nodes, data) / len(data)
        solved = np.linalg.solve(kernel(nodes, nodes), np.column_stack([seen.sum(axis=1), seen @ data]))
        return np.asarray(solved[:, 1:] / solved[:, :1])

    return {"weights": weights, "mean_shift": mean_shift, "minimum_energy": 0.0}
