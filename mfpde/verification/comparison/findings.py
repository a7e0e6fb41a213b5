"""What a comparison says of one observable: verdicts, the finding with all its numbers, the levels it is judged by."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from mfpde.support.arrays import Array

__all__ = ["ANCESTORS", "DOUBT", "FEWEST", "Finding", "STEP_SHARE", "Verdict", "overall"]


STEP_SHARE = 0.05
"""Bias, as a fraction of an observable's scale, put down to time steps where no run with other steps says."""
DOUBT = 3.0
"""Score against a fall slower than 1/n that a significant gap needs to be called lasting."""
FEWEST = 4
"""Replicas from which on a variance has an error bar: of two, both centred squares are the same number."""
ANCESTORS = 10.0
"""So many particles have to start where half of the mass descends from; a gap with fewer is no fault of the scheme."""


class Verdict(enum.Enum):
    """What the replicas say about an observable."""

    CONSISTENT = "consistent"
    """Nothing stays as n grows, and what could have been overlooked is small."""
    INCONSISTENT = "inconsistent"
    """Something stays that neither the reference's error, the time step nor chance explains."""
    UNDECIDED = "undecided"
    """The data do not tell; the reason says what would."""


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Inconsistent if one is; otherwise undecided if one is."""
    found = set(verdicts)
    for verdict in (Verdict.INCONSISTENT, Verdict.UNDECIDED):
        if verdict in found:
            return verdict
    return Verdict.CONSISTENT


@dataclass(frozen=True, eq=False)
class Finding:
    """What the replicas say about one observable. ``K`` sizes, ``m`` times, ``q`` components.

    Attributes
    ----------
    name : str
    signed : bool
        Gaps have a sign (energy, response, moments), or are distances.
    scale : float
        How large the observable is: tolerances are fractions of it.
    mean, mean_error : array, shape (K, m, q)
        The mean over replicas of the gap (the bias at n), or of the distance, and its standard error.
    mean_square, mean_square_error : array, shape (K, m)
        The mean squared gap, summed over components, and its standard error.
    resampled : array, shape (K, m)
        The same for n independent draws from ``mu_t``: the law-of-large-numbers band. At time 0 it is what the
        particles have to show.
    slope, slope_interval : array, shape (m,) and (m, 2)
        Of log mean squared gap against log n, by least squares; 95 % percentile interval of a bootstrap over the
        replicas. NaN with one size.
    limit, limit_error : array, shape (m, q)
        What is left for n to infinity and, where runs with two steps are known, for steps to zero. For distances it
        is the root of what is left of the mean square.
    step_bias : array, shape (m, q)
        The bias of the time step, from a control run with other steps; NaN without one. For distances of the mean
        square.
    uncertainty : array, shape (m, q)
        Of the reference.
    allowance : array, shape (m, q)
        What `limit` may be without any doubt about the particles: uncertainty, tolerance, remainder of the step.
        For distances, of the mean square.
    z : array, shape (m,)
        The largest excess of the bias (of the squared distance) over its allowance, in standard errors; converted to
        the normal scale from Student's t.
    spread_z : array, shape (m,)
        The score of the variance over replicas falling slower than 1/n; NaN for distances, whose `z` has it, and where
        fewer than two sizes have four replicas or the control run at the largest size has fewer.
    slope_z : array, shape (m,)
        The score of mean squared gaps falling slower than 1/n (distances: than those of independent draws), apart
        from what is allowed; NaN of too few replicas, as `spread_z`.
    unseen : array, shape (m,)
        What could be left for n to infinity: two standard errors and the reference's uncertainty above what is found.
    visible : array, shape (m, q)
        The smallest limit that is significant in 999 of 1000 draws of such replicas, at the level of the verdicts.
    verdicts : tuple of Verdict
        One for each time.
    verdict : Verdict
    reason : str
    """

    name: str
    signed: bool
    scale: float
    mean: Array
    mean_error: Array
    mean_square: Array
    mean_square_error: Array
    resampled: Array
    slope: Array
    slope_interval: Array
    limit: Array
    limit_error: Array
    step_bias: Array
    uncertainty: Array
    allowance: Array
    z: Array
    spread_z: Array
    slope_z: Array
    unseen: Array
    visible: Array
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    reason: str
