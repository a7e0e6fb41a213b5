"""Problems with closed-form solutions, or closed-form rates: what a solver is checked against."""

from __future__ import annotations

import math

import numpy as np

from mfpde.equation.energy import External, Interaction, LinearKernel, SeparableKernel
from mfpde.equation.grid import Axis
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Network, Problem, beside
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import positive

__all__ = ["double_well", "linear_neuron", "quadratic_well"]


@with_parameters
def linear_neuron(
    target: float = 2.0, alpha: float = 3.0, mean: float = -1.0, variance: float = 0.5, t_end: float = 1.0
) -> Problem:
    r"""A linear neuron ``phi(x, theta) = theta x`` with ``E x^2 = 1`` learns ``target * x``.

    ``V = (m - a) theta`` with ``m = int theta dmu`` and ``a`` the target. A Gaussian start stays Gaussian with
    constant variance ``C`` and

    .. math:: m(t) = a + e^{-(1 + \alpha C) t} (m_0 - a), \qquad E = \tfrac12 (m - a)^2.

    Birth-death speeds the neuron up by the factor ``1 + alpha C``.

    Parameters
    ----------
    target : float
        ``a``.
    alpha : float
    mean, variance : float
        ``m_0`` and ``C`` of the Gaussian start.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``energy(t)``, ``mean(t)``, ``variance(t)``, ``minimum_energy = 0``. The box
    holds 7 standard deviations around the path of the mean, so the closed form holds to about 1e-10.

    **Good values.** 200 cells give the energy at t = 1 to 3e-5, 400 cells to 3e-6 (relative, default arguments).
    """
    from scipy import stats

    positive(variance=variance)
    std = math.sqrt(variance)
    rate = 1 + alpha * variance

    def gap(t: float) -> float:
        # the difference of path and target would keep none of its digits once it is below 1e-16 of them
        return math.exp(-rate * t) * (mean - target)

    def path(t: float) -> float:
        return target + gap(t)

    low, high = min(mean, target), max(mean, target)
    return Problem(
        energy=External(lambda x: -target * x, lambda x: (np.full_like(x, -target),), constant=0.5 * target**2)
        + Interaction(SeparableKernel(theta=LinearKernel())),
        axes=[Axis("theta", low - 7 * std, high + 7 * std)],
        initial=Product(theta=stats.norm(mean, std)),
        alpha=alpha,
        t_end=t_end,
        name="linear-neuron",
        shape=(200,),
        network=Network(lambda x, theta: beside(x, theta) * theta, lambda x: target * x, np.linspace(-1, 1, 41)),
        exact={
            "mean": path,
            "variance": lambda t: variance,
            "energy": lambda t: 0.5 * gap(t) ** 2,
            "minimum_energy": 0.0,
        },
    )


@with_parameters
def quadratic_well(
    strength: float = 1.3, alpha: float = 2.0, mean: float = 1.5, variance: float = 0.7, t_end: float = 1.0
) -> Problem:
    r"""Neurons that do not interact, in ``V = strength x^2 / 2``.

    A Gaussian start stays Gaussian. With ``l`` the strength and ``s = 1 / (1/C_0 + alpha (1 - e^{-2 l t}) / 2)``,

    .. math:: C(t) = e^{-2 l t} s, \qquad m(t) = e^{-l t} s\, m_0 / C_0, \qquad E = \tfrac{l}{2} (C + m^2).

    Parameters
    ----------
    strength : float
        ``l > 0``.
    alpha : float
    mean, variance : float
        ``m_0`` and ``C_0`` of the Gaussian start.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``energy(t)``, ``mean(t)``, ``variance(t)``, ``minimum_energy = 0``.

    **Good values.** 200 cells until the width ``sqrt(C)`` is down to about 3 cells.
    """
    from scipy import stats

    positive(strength=strength, variance=variance)

    def factor(t: float) -> float:
        return 1.0 / (1.0 / variance - 0.5 * alpha * math.expm1(-2 * strength * t))

    def path(t: float) -> float:
        return math.exp(-strength * t) * factor(t) * mean / variance

    def spread(t: float) -> float:
        return math.exp(-2 * strength * t) * factor(t)

    reach = abs(mean) + 7 * math.sqrt(variance)
    return Problem(
        energy=External(lambda x: 0.5 * strength * x**2, lambda x: (strength * x,)),
        axes=[Axis("x", -reach, reach)],
        initial=Product(x=stats.norm(mean, math.sqrt(variance))),
        alpha=alpha,
        t_end=t_end,
        name="quadratic-well",
        shape=(200,),
        exact={
            "mean": path,
            "variance": spread,
            "energy": lambda t: 0.5 * strength * (spread(t) + path(t) ** 2),
            "minimum_energy": 0.0,
        },
    )


@with_parameters
def double_well(tilt: float = 0.3, alpha: float = 1.0, std: float = 0.3, t_end: float = 10.0) -> Problem:
    r"""Neurons that do not interact, in the double well ``V = (x^2 - 1)^2 + tilt x``.

    Gradient flow leaves the mass in the well it started in. With birth-death the log ratio of the masses left
    and right of the barrier grows with slope ``alpha (V(x_+) - V(x_-))``: the height of the barrier does not enter.

    Parameters
    ----------
    tilt : float
        Below 1.5 in size, or one of the wells is gone.
    alpha : float
    std : float
        Standard deviation of the centred Gaussian start.
    t_end : float

    Notes
    -----
    **Exact** (``problem.exact``): ``well_difference = V(x_+) - V(x_-)``, ``barrier`` its position,
    ``minimum_energy``. For tilt 0.3 the difference is 0.5995749648.
    """
    from scipy import stats

    if not abs(tilt) < 1.5:
        raise ValueError(f"tilt must be below 1.5 in size for two wells, not {tilt!r}")
    positive(std=std)
    left, barrier, right = np.sort(np.roots([4.0, 0.0, -4.0, tilt]).real)

    def potential(x: np.ndarray) -> np.ndarray:
        return (x**2 - 1) ** 2 + tilt * x

    reach = max(6 * std, 1.6)
    return Problem(
        energy=External(potential, lambda x: (4 * x * (x**2 - 1) + tilt,)),
        axes=[Axis("x", -reach, reach)],
        initial=Product(x=stats.norm(0, std)),
        alpha=alpha,
        t_end=t_end,
        name="double-well",
        shape=(200,),
        exact={
            "well_difference": float(potential(right) - potential(left)),
            "barrier": float(barrier),
            "minimum_energy": float(min(potential(left), potential(right))),
        },
    )
