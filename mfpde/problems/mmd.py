"""Gradient flow of a maximum mean discrepancy: the energy distance on the line."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np

from mfpde.equation.energy import External, Interaction, TranslationInvariantKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array

__all__ = ["Profile", "mmd_flow"]


CITATION = """@inproceedings{arbel2019maximum,
  title     = {Maximum Mean Discrepancy Gradient Flow},
  author    = {Arbel, Michael and Korba, Anna and Salim, Adil and Gretton, Arthur},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2019},
  eprint    = {1906.04370}
}"""


class Profile(enum.Enum):
    """How the start looks."""

    BLOCK = "block"
    """Uniform on ``[low, high]``: its edges stay jumps."""
    WAVE = "wave"
    """``1 + a cos(2 pi x)``: smooth, and stays so."""


def mmd_flow(
    start: Profile | str = Profile.BLOCK,
    low: float = 0.2,
    high: float = 0.6,
    amplitude: float = 0.8,
    alpha: float = 0.0,
    t_end: float = 1.0,
) -> Problem:
    r"""Gradient flow of the energy distance to the uniform law on [0, 1].

    With the kernel ``-|x - y|``,

    .. math::

       E[\mu] = \tfrac12 MMD^2(\mu, \pi) = \mathbb{E}|X - Y| - \tfrac12 \mathbb{E}|X - X'| - \tfrac12 \mathbb{E}|Y - Y'|
              = \int (F_\mu - F_\pi)^2 dx,

    so that :math:`V' = 2 (F_\pi - F_\mu)`. Each quantile moves on its own, :math:`\dot X = 2 (s - X)`, ``s`` its level.

    Parameters
    ----------
    start : {"block", "wave"}
        Uniform on ``[low, high]``, or ``1 + a cos(2 pi x)``.
    low, high : float
        ``0 <= low < high <= 1``.
    amplitude : float
        ``a``, below 1 in size.
    alpha : float
        Birth-death rate.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``), without birth-death: ``quantile(s, t)``, :math:`X = s + (X_0(s) - s) e^{-2t}`;
    ``density(x, t)``; ``distance(t)``, the Wasserstein distance :math:`W_2(\mu, \pi) = e^{-2t} W_2(\mu_0, \pi)`, and
    ``energy(t) = distance(t)**2``, as a law on [0, 1] is as far from the uniform one in its quantiles as in its
    distribution function. ``minimum_energy = 0``.

    The kernel has a kink. On a mesh it is sampled at differences of cell centres, and then the two-point difference of
    ``V`` over a face is ``2 (x - F_mu)`` there exactly for cell averages: nothing is lost to the kink. Schemes for
    point values see a quadrature rule with a kink, which is of second order.

    **Good values.** 400 cells. The edges of a block are smeared over a few cells, and so refinement is of first order
    at most there; the wave is of second order.
    """
    from scipy import stats

    try:
        start = Profile(start)
    except ValueError:
        raise ValueError(f"unknown start {start!r}; valid: {', '.join(repr(s.value) for s in Profile)}") from None
    if not 0 <= low < high <= 1:
        raise ValueError(f"the block must satisfy 0 <= low < high <= 1, not [{low!r}, {high!r}]")
    if not abs(amplitude) < 1:
        raise ValueError(f"amplitude must be below 1 in size, not {amplitude!r}")
    block = start is Profile.BLOCK

    def cdf(x: Array) -> Array:
        if block:
            return np.clip((x - low) / (high - low), 0.0, 1.0)
        return x + amplitude / (2 * math.pi) * np.sin(2 * math.pi * x)

    def pdf(x: Array) -> Array:
        if block:
            return np.where((x >= low) & (x <= high), 1 / (high - low), 0.0)
        return 1 + amplitude * np.cos(2 * math.pi * x)

    def first_quantile(s: Array) -> Array:
        if block:
            return low + (high - low) * s
        return _increasing(cdf, np.asarray(s, dtype=float))

    def quantile(s: Any, t: float) -> Array:
        s = np.asarray(s, dtype=float)
        return np.asarray(s + (first_quantile(s) - s) * math.exp(-2 * t))

    def density(x: Any, t: float) -> Array:
        x, kept = np.asarray(x, dtype=float), math.exp(-2 * t)
        if block:
            left, right = low * kept, 1 - (1 - high) * kept
            return np.where((x >= left) & (x <= right), 1 / (right - left), 0.0)
        # where a point was at the start: x = cdf(z) + (z - cdf(z)) kept
        z = _increasing(lambda z: cdf(z) + (z - cdf(z)) * kept, x)
        return np.asarray(1 / (1 + (1 / pdf(z) - 1) * kept))

    if block:
        # int (low + (high - low) s - s)^2 ds, the third of the cubes' sum over the two ends' distances
        a, b = low, high - 1
        square = (a * a + a * b + b * b) / 3
    else:
        # int (F - x)^2 dx of a sine
        square = 0.5 * (amplitude / (2 * math.pi)) ** 2
    exact: dict[str, Any] = {"minimum_energy": 0.0}
    if alpha == 0:
        exact |= {
            "quantile": quantile,
            "density": density,
            "distance": lambda t: math.sqrt(square) * math.exp(-2 * t),
            "energy": lambda t: square * math.exp(-4 * t),
        }
    return Problem(
        # int |x - y| dy = (x^2 + (1 - x)^2)/2, less E|Y - Y'|/2 = 1/6
        energy=External(lambda x: 0.5 * (x**2 + (1 - x) ** 2), lambda x: (2 * x - 1,), constant=-1 / 6)
        + Interaction(TranslationInvariantKernel(lambda d: -np.abs(d), lambda d: (-np.sign(d),))),
        axes=[Axis("x", 0.0, 1.0, End.NATURAL)],
        initial=Product(x=stats.uniform(low, high - low)) if block else Density(lambda points: pdf(points[:, 0])),
        alpha=alpha,
        t_end=t_end,
        name="mmd-flow",
        citation=CITATION,
        shape=(400,),
        exact=exact,
        parameters={
            "start": start.value,
            "low": low,
            "high": high,
            "amplitude": amplitude,
            "alpha": alpha,
            "t_end": t_end,
        },
    )


def _increasing(function: Any, values: Array) -> Array:
    """Where an increasing function of [0, 1] onto itself takes values, by bisection to round-off."""
    low, high = np.zeros_like(values), np.ones_like(values)
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = function(middle) < values
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)
