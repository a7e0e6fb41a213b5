"""Limits of many particles, estimated from groups of independent replicas: values, errors, scores, weights of lines.

Comparisons with the mean field and tests of particle codes rest on these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["MARGIN", "Estimate", "combine", "intercept", "line_weights"]


MARGIN = 3.0
"""Standard errors by which a gap that is sure to be seen lies above what is just significant."""
WELCH = 8
"""Replicas from which on degrees of freedom may be estimated where other groups have twice as many and more."""


@dataclass(frozen=True)
class Estimate:
    """A linear combination of means of independent groups: value, standard error, degrees of freedom."""

    value: float
    error: float
    freedom: float

    def __rmul__(self, sign: float) -> Estimate:
        return Estimate(sign * self.value, self.error, self.freedom)

    def z(self, allowance: float, *, one_sided: bool = True) -> float:
        """The excess over the allowance as a normal score, of the same tail probability as its t statistic."""
        from scipy import stats

        excess = (self.value if one_sided else abs(self.value)) - allowance
        if excess <= 0:
            return 0.0
        if not self.error > 0:
            return math.inf
        tail = float(stats.t.logsf(excess / self.error, self.freedom))
        # beyond the range of doubles a score of 37 is as good as any
        return 37.0 if tail < -690 else float(stats.norm.isf(math.exp(tail)))

    def beyond(self, threshold: float) -> float:
        """The excess over an allowance that has a score above the threshold in 999 of 1000 draws."""
        from scipy import special

        return (MARGIN - float(special.stdtrit(self.freedom, special.ndtr(-threshold)))) * self.error


def combine(groups: Sequence[Array], floor: float) -> Estimate:
    """The sum of the means of groups of independent values; errors after Welch and Satterthwaite.

    A few values may have a small variance by chance. Beside groups of many they would seem not to matter then, and the
    degrees of freedom were those of the others; the least degrees of freedom of all are always on the safe side.
    """
    value = sum(float(g.mean()) for g in groups)
    parts = np.array([float(g.var(ddof=1)) / len(g) for g in groups])
    total = float(parts.sum())
    counts = np.array([len(g) - 1 for g in groups], dtype=float)
    freedom = total**2 / float((parts**2 / counts).sum()) if total > 0 else float(counts.sum())
    few = (counts + 1 < WELCH) & (counts + 1 <= (counts.max() + 1) / 2)
    freedom = min(freedom, float(counts[few].min(initial=math.inf)))
    return Estimate(value, math.sqrt(total) + floor, freedom)


def intercept(x: Array, precision: Array) -> Array:
    """Weights w of the groups' means with ``sum w y`` the value at x = 0 of the fitted line; one group: as it is."""
    if len(x) == 1:
        return np.ones(1)
    x = x / x.max()
    X = np.stack([np.ones_like(x), x], axis=1)
    return np.asarray(np.linalg.solve(X.T @ (precision[:, None] * X), X.T * precision)[0])


def line_weights(x: Array, precision: Array, power: float) -> list[Array]:
    """Weights of the limit of many particles: the line in x; and, if gaps fall slower, in ``x^power``.

    The first is what a right scheme has where n is large enough. A gap is only called lasting if the others see it
    too, the last of them through the two largest sizes alone.
    """
    slow = x**power
    lines = [intercept(x, precision), intercept(slow, precision)]
    if len(x) > 2:
        last = np.zeros_like(x)
        last[-2:] = intercept(slow[-2:], precision[-2:])
        lines.append(last)
    return lines
