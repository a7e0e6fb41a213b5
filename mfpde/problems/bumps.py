"""Gaussian bumps that learn a sum of Gaussian bumps: smooth, of any dimension, with a known minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mfpde.equation.energy import Discrepancy, GaussianKernel, SeparableKernel
from mfpde.equation.grid import Axis
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Network, Problem, beside
from mfpde.problems.parameters import with_parameters
from mfpde.problems.ranges import positive

__all__ = ["gaussian_bumps"]

NAMES = ("x", "y", "z")


@with_parameters
def gaussian_bumps(
    centres: Sequence[float] | Sequence[Sequence[float]] = (-2.0, 1.5),
    weights: Sequence[float] = (0.6, 0.4),
    bandwidth: float = 1.0,
    alpha: float = 1.0,
    temperature: float = 0.0,
    initial_std: float = 0.8,
    half_width: float = 5.0,
    t_end: float = 2.0,
) -> Problem:
    r"""Bumps ``phi(x, z) = exp(-|x - z|^2 / (2 s^2))`` on ``R^d`` learn ``sum_k a_k phi(x, m_k)``.

    With Lebesgue measure over ``x`` the loss is a maximum mean discrepancy,

    .. math::

       E = \tfrac12 \iint K\, d(\mu - \nu)\, d(\mu - \nu), \quad \nu = \sum_k a_k \delta_{m_k}, \quad
       K(z, z') = (\pi s^2)^{d/2} e^{-|z - z'|^2 / (4 s^2)}.

    Parameters
    ----------
    centres : sequence of float or of points
        ``m_k``; floats in one dimension, points of 2 or 3 coordinates otherwise.
    weights : sequence of float
        ``a_k``; with sum 1 the minimum 0 is approached by measures that concentrate on the centres.
    bandwidth : float
        ``s > 0``.
    alpha, temperature : float
        Birth-death rate and entropy weight.
    initial_std : float
        ``mu_0`` is a centred isotropic Gaussian of this standard deviation, restricted to the box.
    half_width : float
        The box is ``[-half_width, half_width]^d``; at least 6 standard deviations, or mass is lost.
    t_end : float

    Notes
    -----
    **Good values.** 200 cells in 1-D give seven digits of the energy at t = 2, 128^2 in 2-D five to six.
    Density concentrates at the centres as time goes on; a mesh follows it until its width is a few cells.
    """
    from scipy import stats

    points = np.atleast_1d(np.asarray(centres, dtype=float))
    if points.ndim == 1:
        points = points[:, None]
    amounts = np.asarray(weights, dtype=float)
    if points.ndim != 2 or points.shape[1] > len(NAMES):
        raise ValueError(
            f"centres must be numbers or points of 2 or 3 coordinates, not an array of shape {points.shape}"
        )
    if amounts.shape != points.shape[:1]:
        raise ValueError(f"{len(points)} centres need as many weights, got shape {amounts.shape}")
    positive(bandwidth=bandwidth, initial_std=initial_std, half_width=half_width)
    d = points.shape[1]
    names = NAMES[:d]
    factor = GaussianKernel(variance=2 * bandwidth**2, amplitude=math.sqrt(math.pi) * bandwidth)

    def bump(x: np.ndarray, *z: np.ndarray) -> np.ndarray:
        parts = np.reshape(x, (-1, d)).T
        return np.exp(-sum((beside(a, *z) - b) ** 2 for a, b in zip(parts, z, strict=True)) / (2 * bandwidth**2))

    def target(x: np.ndarray) -> np.ndarray:
        at = np.asarray(x, dtype=float).reshape(-1, d)
        square = ((at[:, None, :] - points) ** 2).sum(axis=2)
        return np.exp(-square / (2 * bandwidth**2)) @ amounts

    return Problem(
        energy=Discrepancy(SeparableKernel(dict.fromkeys(names, factor)), points, amounts),
        axes=[Axis(name, -half_width, half_width) for name in names],
        initial=Product(**{name: stats.norm(0, initial_std) for name in names}),
        alpha=alpha,
        temperature=temperature,
        t_end=t_end,
        name="gaussian-bumps",
        shape=((200,), (128, 128), (48, 48, 48))[d - 1],
        network=Network(bump, target, np.linspace(-half_width, half_width, 201) if d == 1 else None),
    )
