"""What particle methods need of a work: inputs, targets and weights of a network that has the energy as its loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from validation.benchmarks._work import BUMP_CENTRES, BUMP_WEIGHTS, PEER_WORKS, Work, network_data
from validation.benchmarks.peers._peer import Rung

__all__ = ["LADDERS", "SAMPLES", "inputs", "survivors"]

Array = NDArray[np.float64]

SAMPLES = 8
LADDERS = {
    work: [Rung(n, steps=steps) for n, steps in ((100, 50), (1000, 100), (10_000, 200), (100_000, 400))]
    for work in PEER_WORKS
}
SPACING, RANGE = 0.7, 9.1
"""Of the inputs of the bumps: the trapezoid rule over products of two unit Gaussians is exact to 1e-8."""


def inputs(work: Work) -> tuple[Array, Array, float]:
    """Inputs along one axis, targets (a matrix over both axes in 2-D), and the weight of an input in the loss."""
    if work is Work.NETWORK:
        x, y = network_data()
        return x, y, 1 / len(x)
    x = np.arange(-RANGE, RANGE + 0.5 * SPACING, SPACING)
    target = np.zeros((len(x),) * work.dimension)
    for amount, centre in zip(BUMP_WEIGHTS, BUMP_CENTRES[work.dimension], strict=True):
        parts = [np.exp(-((x - m) ** 2) / 2) for m in centre]
        target += amount * (parts[0] if len(parts) == 1 else np.multiply.outer(*parts))
    return x, target, SPACING**work.dimension


def survivors(excess: Array, a: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Birth and death (Rotskoff et al. 2019, algorithm 1): which particles go on, their number kept."""
    n = len(excess)
    event = rng.random(n) < -np.expm1(-a * np.abs(excess))
    keep = np.repeat(np.arange(n), np.where(event, np.where(excess > 0, 0, 2), 1))
    if len(keep) >= n:
        return np.delete(keep, rng.choice(len(keep), len(keep) - n, replace=False))
    return np.append(keep, rng.choice(keep, n - len(keep)))
