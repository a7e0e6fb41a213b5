"""Self-attention on the circle: tokens that attract each other, and the clusters they form."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from mfpde.equation.energy import CosineKernel, Functional, Interaction, SeparableKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.measures.density import Density
from mfpde.equation.problem import Problem, Reaction
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import at_least, not_negative, positive
from mfpde.support.arguments import shown
from mfpde.support.arrays import Array

__all__ = ["self_attention"]


def _attention(beta: float, points: Array, others: Array, weights: Array) -> tuple[Array, Array]:
    """Weights of the attention that points (n, 1) pay to others, and the angles between them: each (n, N)."""
    angle = points[:, 0, None] - others[None, :, 0]
    return np.exp(beta * (np.cos(angle) - 1.0)) * weights, angle


def _softmax(beta: float, points: Array, others: Array, weights: Array) -> Array:
    attention, _ = _attention(beta, points, others, weights)
    return np.asarray(-np.log(attention.sum(axis=1)) / beta)


def _softmax_slope(beta: float, points: Array, others: Array, weights: Array) -> Array:
    attention, angle = _attention(beta, points, others, weights)
    return np.asarray((attention * np.sin(angle)).sum(axis=1) / attention.sum(axis=1))[:, None]


CITATION = """@article{geshkovski2023mathematical,
  title  = {A mathematical perspective on Transformers},
  author = {Geshkovski, Borjan and Letrouit, Cyril and Polyanskiy, Yury and Rigollet, Philippe},
  year   = {2023},
  eprint = {2312.10794}
}
@article{bruno2024emergence,
  title  = {Emergence of meta-stable clustering in mean-field transformer models},
  author = {Bruno, Giuseppe and Pasqualotto, Federico and Agazzi, Andrea},
  year   = {2024},
  eprint = {2410.23228}
}"""

NEGLIGIBLE = 1e-17
"""Harmonics of the kernel below this fraction of its mean are left out."""


@with_parameters
def self_attention(
    beta: float = 5.0,
    perturbation: float = 1e-3,
    modes: int = 8,
    alpha: float = 0.0,
    temperature: float = 0.0,
    t_end: float | None = None,
    normalised: bool = False,
) -> Problem:
    r"""Tokens on the circle under self-attention (value and key-query matrices the identity).

    Particles move by :math:`\dot\theta_i = -\frac1n \sum_j e^{\beta\cos(\theta_i - \theta_j)} \sin(\theta_i -
    \theta_j)`, which is gradient flow of

    .. math::

       E[\mu] = -\tfrac{1}{2\beta} \iint e^{\beta \cos(\theta - \theta')}\, d\mu\, d\mu, \qquad
       \mu_0 = \tfrac{1}{2\pi} \Big(1 + \varepsilon \sum_{k=1}^{m} \cos(k\theta - k^2)\Big).

    The energy is concave in the density's harmonics: there is no certificate, ``optimality_gap`` is nan.

    With `normalised`, the softmax of each row, tokens move by the mean of the sines with weights
    :math:`e^{\beta\cos}` over the sum of these: down the gradient of
    :math:`V[\mu] = -\tfrac1\beta \log \int e^{\beta(\cos(\theta - \theta') - 1)}\, d\mu(\theta')`, which is the first
    variation of no energy; `energy` is NaN then.

    Parameters
    ----------
    beta : float
        The inverse temperature of the attention, above 0, at most 100.
    perturbation : float
        ``epsilon``, of each of the harmonics, with ``epsilon m < 1``.
    modes : int
        ``m``, at least 0. 0 is the uniform measure, which is stationary.
    alpha : float
        Birth-death rate; the reaction is that of the free energy if there is a temperature.
    temperature : float
        Weight of the entropy; the growth rates fall by ``k^2 tau``.
    t_end : float, optional
        Default: until the fastest mode, by its linear growth, would have reached the size 0.3.
    normalised : bool
        Whether each row of the attention has the sum 1.

    Notes
    -----
    **Exact** (``problem.exact``): ``growth_rate(k)`` is the rate of the k-th harmonic of a small perturbation of the
    uniform measure, :math:`k^2 (I_k(\beta)/\beta - \tau)`, normalised
    :math:`k^2 (I_k(\beta)/(\beta I_0(\beta)) - \tau)`, at ``alpha = 0``; ``fastest_mode`` maximises it, and is 1,
    2, 2, 3, 3, 3, 4, 4 for beta 1, 2, 3, 4, 5, 6, 7, 9 at temperature 0. ``initial_energy`` (without the entropy);
    ``minimum_energy`` = :math:`-e^\beta/(2\beta)` at temperature 0, of one cluster.

    Two clusters at an angle ``phi`` obey :math:`\dot\varphi = -e^{\beta\cos\varphi} \sin\varphi` whatever their masses:
    several clusters live for a time of order :math:`e^{-\beta\cos\varphi}`.

    **Good values.** 256 cells as long as the density is smooth. Error control measures errors relative to the mass and
    does not see the growth of a perturbation below its tolerance: start those with ``FixedStep``, a twentieth of
    ``1/growth_rate(fastest_mode)`` or less. Clusters sharpen without end; a mesh keeps them a few
    cells wide, and so cannot be asked for the times at which they merge: characteristics of atoms can
    (``dataclasses.replace(problem, initial=Particles(...))``).
    """
    from scipy.special import ive

    positive(beta=beta, **({} if t_end is None else {"t_end": t_end}))
    if beta > 100:
        raise ValueError(f"beta must be at most 100, not {beta!r}: e^beta sets the time scale and would overflow")
    at_least(0, modes=modes)
    if not (math.isfinite(perturbation) and abs(perturbation) * modes < 1):
        raise ValueError(f"perturbation must be below 1/modes = {1 / max(modes, 1):g} in size, not {perturbation!r}")
    not_negative(temperature=temperature)
    if not isinstance(normalised, bool):
        raise ValueError(f"normalised is True or False, not {shown(normalised)}")
    # e^{beta cos} = I_0 + 2 sum_k I_k cos(k .)
    scale = 1.0 / (beta * ive(0, beta)) if normalised else math.exp(beta) / beta
    orders = np.arange(0, 64 + int(12 * math.sqrt(beta)) + int(beta))
    bessel = ive(orders, beta)
    bessel = bessel[bessel > NEGLIGIBLE * bessel[0]]
    series = CosineKernel(tuple(-2 * scale * bessel[1:]), constant=-scale * float(bessel[0]))

    def growth_rate(k: int) -> float:
        return k * k * (scale * float(ive(k, beta)) - temperature)

    rates = [growth_rate(k) for k in range(1, len(bessel))]
    fastest = 1 + int(np.argmax(rates))
    if t_end is None:
        growth = math.log(max(0.3 / max(abs(perturbation), 1e-12), math.e))
        t_end = growth / max(rates) if max(rates) > 0 else 1.0

    def start(theta: Array) -> Array:
        return 1 + perturbation * sum((np.cos(k * theta - k * k) for k in range(1, modes + 1)), np.zeros_like(theta))

    squares = 0.25 * perturbation**2 * 2 * float(sum(scale * ive(k, beta) for k in range(1, modes + 1)))
    exact: dict[str, Any] = {"growth_rate": growth_rate, "fastest_mode": fastest}
    if not normalised:
        exact["initial_energy"] = -0.5 * (scale * float(bessel[0]) + squares)
        if temperature == 0:
            exact["minimum_energy"] = -0.5 * scale
    softmax = Functional(partial(_softmax, beta), gradient=partial(_softmax_slope, beta))
    return Problem(
        energy=softmax if normalised else Interaction(SeparableKernel(theta=series)),
        axes=[Axis("theta", 0.0, 2 * math.pi, End.PERIODIC)],
        initial=Density(start),
        alpha=alpha,
        temperature=temperature,
        reaction=Reaction.FREE_ENERGY if temperature > 0 else Reaction.BALANCED,
        t_end=t_end,
        name="self-attention",
        citation=CITATION,
        shape=(256,),
        exact=exact,
        parameters={"t_end": t_end},
    )
