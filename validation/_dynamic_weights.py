"""The energy of particles with dynamic weights (DPVI, "Blob" smoothing) as a user writes it: one `mf.Functional`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import mfpde as mf

__all__ = ["blob"]

Array = NDArray[np.float64]


def blob(potential: Callable[[Array], Array], bandwidth: float) -> mf.Functional:
    r"""``E[mu] = int (U + log k * mu) dmu`` on a line, k the normal density: the divergence from ``e^{-U}``, smoothed.

    Its first variation is ``U + log k * mu + k * (mu / (k * mu))``. Particles that are far apart see themselves alone.
    Accelerated variants (GAD-PVI) give the places momenta; their weights follow the same law.
    """
    scale = 1 / (math.sqrt(2 * math.pi) * bandwidth)

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray(scale * np.exp(-0.5 * ((x[:, None, 0] - y[:, 0]) / bandwidth) ** 2))

    def variation(points: Array, others: Array, weights: Array) -> Array:
        seen, own = kernel(points, others), kernel(others, others) @ weights
        return np.asarray(potential(points[:, 0]) + np.log(seen @ weights) + seen @ (weights / own))

    def value(others: Array, weights: Array) -> float:
        return float(weights @ (potential(others[:, 0]) + np.log(kernel(others, others) @ weights)))

    return mf.Functional(variation, value)
