"""Gradient flow of a maximum mean discrepancy: the energy distance on the line."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.energy import External, Interaction, TranslationInvariantKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.problems.monotone import inverse
from mfpde.problems.parameters import with_parameters
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


@dataclass(frozen=True)
class _Block:
    """The flow that starts uniform on ``[low, high]``, and stays uniform."""

    low: float
    high: float

    def initial(self) -> Measure:
        """The start."""
        from scipy import stats

        return Product(x=stats.uniform(self.low, self.high - self.low))

    def quantile(self, s: Any, t: float) -> Array:
        """The place of the level s."""
        s = np.asarray(s, dtype=float)
        return _relaxed(s, self.low + (self.high - self.low) * s, t)

    def density(self, x: Any, t: float) -> Array:
        """The density, 0 outside of the block."""
        x, kept = np.asarray(x, dtype=float), math.exp(-2 * t)
        left, right = self.low * kept, 1 - (1 - self.high) * kept
        return np.where((x >= left) & (x <= right), 1 / (right - left), 0.0)

    def square(self) -> float:
        """The square of the distance at the start, ``int (low + (high - low) s - s)^2 ds``."""
        # the third of the cubes' sum over the two ends' distances
        a, b = self.low, self.high - 1
        return (a * a + a * b + b * b) / 3


@dataclass(frozen=True)
class _Wave:
    """The flow that starts with the density ``1 + a cos(2 pi x)``."""

    amplitude: float

    def initial(self) -> Measure:
        """The start."""
        return Density(self.pdf)

    def cdf(self, x: Array) -> Array:
        """The distribution function at the start."""
        return x + self.amplitude / (2 * math.pi) * np.sin(2 * math.pi * x)

    def pdf(self, x: Array) -> Array:
        """The density at the start."""
        return 1 + self.amplitude * np.cos(2 * math.pi * x)

    def quantile(self, s: Any, t: float) -> Array:
        """The place of the level s."""
        s = np.asarray(s, dtype=float)
        return _relaxed(s, inverse(self.cdf, s), t)

    def density(self, x: Any, t: float) -> Array:
        """The density."""
        x, kept = np.asarray(x, dtype=float), math.exp(-2 * t)
        # where a point was at the start: x = cdf(z) + (z - cdf(z)) kept
        z = inverse(lambda z: self.cdf(z) + (z - self.cdf(z)) * kept, x)
        return np.asarray(1 / (1 + (1 / self.pdf(z) - 1) * kept))

    def square(self) -> float:
        """The square of the distance at the start, ``int (F - x)^2 dx`` of a sine."""
        return 0.5 * (self.amplitude / (2 * math.pi)) ** 2


def _relaxed(s: Array, quantile: Array, t: float) -> Array:
    """Where the quantiles of the levels s have come from the start in a time t."""
    return np.asarray(s + (quantile - s) * math.exp(-2 * t))


@with_parameters
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
    try:
        start = Profile(start)
    except ValueError:
        raise ValueError(f"unknown start {start!r}; valid: {', '.join(repr(s.value) for s in Profile)}") from None
    if not 0 <= low < high <= 1:
        raise ValueError(f"the block must satisfy 0 <= low < high <= 1, not [{low!r}, {high!r}]")
    if not abs(amplitude) < 1:
        raise ValueError(f"amplitude must be below 1 in size, not {amplitude!r}")
    flow: _Block | _Wave = _Block(low, high) if start is Profile.BLOCK else _Wave(amplitude)
    square = flow.square()
    exact: dict[str, Any] = {"minimum_energy": 0.0}
    if alpha == 0:
        exact |= {
            "quantile": flow.quantile,
            "density": flow.density,
            "distance": lambda t: math.sqrt(square) * math.exp(-2 * t),
            "energy": lambda t: square * math.exp(-4 * t),
        }
    return Problem(
        # int |x - y| dy = (x^2 + (1 - x)^2)/2, less E|Y - Y'|/2 = 1/6
        energy=External(lambda x: 0.5 * (x**2 + (1 - x) ** 2), lambda x: (2 * x - 1,), constant=-1 / 6)
        + Interaction(TranslationInvariantKernel(lambda d: -np.abs(d), lambda d: (-np.sign(d),))),
        axes=[Axis("x", 0.0, 1.0, End.NATURAL)],
        initial=flow.initial(),
        alpha=alpha,
        t_end=t_end,
        name="mmd-flow",
        citation=CITATION,
        shape=(400,),
        exact=exact,
    )
