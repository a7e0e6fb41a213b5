"""Which numbers and slopes of replicas are within what is allowed: a right code fails with a stated probability.

The limit of many particles gets an interval after Student and Hall, a count of particles one after Bernstein, and a
slope one from the law of sums of logarithms of squares.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfpde.equation.problem import Reaction
from mfpde.support.arrays import Array
from mfpde.verification.estimates import intercept
from mfpde.verification.observables import Marginal, MassIn
from mfpde.verification.particle_tests.cases import Case, Runs
from mfpde.verification.particle_tests.report import POWER, Row, Slope
from mfpde.verification.references.certified import Certified
from mfpde.verification.walls import OUTSIDE

__all__ = ["limit_rows", "sanity_rows", "slope_rows"]

MASS_DRIFT = 1e-9
"""How far a mass that is conserved may be from 1, in double precision."""
SKEW = 1.5
"""By how much the skewness that replicas show is taken larger: few of them understate it."""
SECOND = 0.25
"""The most that the second term of the bias in 1/n may be, as a share of the first, at the smallest size."""
FEW = 100.0
"""Particles in a region, over all replicas, below which the law of their number is not that of a normal one."""


@dataclass(frozen=True)
class _Combined:
    """A linear combination of means of independent groups: value, standard error, degrees of freedom, skewness."""

    value: Array
    error: Array
    freedom: Array
    skew: Array

    def margin(self, sign: Array, tail: float) -> Array:
        r"""How many standard errors a deviation of this sign must have to be due to chance with probability `tail`.

        Student's quantile q; and where the replicas are skew also the deviation at which the statistic of Hall (1992)
        without its skewness g,

        .. math:: T + g (2 T^2 + 1)/6 + g^2 T^3 / 27 = \frac{(1 + g T/3)^3 - 1}{g} + \frac g6,

        has reached it.
        """
        from scipy import special

        q = -special.stdtrit(self.freedom, tail)
        g = np.where(np.abs(self.skew) < 1e-6, 1.0, self.skew)
        straight = np.cbrt(1.0 + g * (sign * q - g / 6.0))
        hall = np.where(np.abs(self.skew) < 1e-6, q, sign * 3.0 / g * (straight - 1.0))
        return np.asarray(np.maximum(q, hall))


def _combined(weights: Array, groups: Sequence[Array]) -> _Combined:
    """The sum of weighted means of groups (R_k, ...); freedom after Welch and Satterthwaite."""
    value = sum(w * g.mean(axis=0) for w, g in zip(weights, groups, strict=True))
    parts, thirds, counts = [], [], []
    for w, g in zip(weights, groups, strict=True):
        centred, r = g - g.mean(axis=0), len(g)
        parts.append(w**2 * (centred**2).sum(axis=0) / (r - 1) / r)
        thirds.append(w**3 * (centred**3).mean(axis=0) / r**2)
        counts.append(r - 1.0)
    total = np.asarray(sum(parts))
    # a group whose values are all alike up to rounding has no spread
    flat = (
        total
        <= (1e-14 * np.asarray(sum(np.abs(w) * np.abs(g).max(axis=0) for w, g in zip(weights, groups, strict=True))))
        ** 2
    )
    safe = np.where(flat, 1.0, total)
    freedom = np.where(
        flat, sum(counts), safe**2 / np.where(flat, 1.0, sum(p**2 / c for p, c in zip(parts, counts, strict=True)))
    )
    skew = np.where(flat, 0.0, SKEW * np.asarray(sum(thirds)) / safe**1.5)
    return _Combined(np.asarray(value), np.where(flat, 0.0, np.sqrt(safe)), freedom, skew)


def limit_rows(case: Case, tolerances: Mapping[str, Array], bias: Mapping[str, Array], tail: float) -> list[Row]:
    """The limit of many particles, or the mean at one size, beside the reference. `tail`: for each number, one side."""
    rows, sizes = [], case.sizes
    for name, allowance in tolerances.items():
        certified = case.targets[name]
        groups = [runs.values[name] for runs in sizes]
        allowed = allowance
        if len(sizes) == 1:
            weights = np.ones(1)
            if np.any(bias[name] > 0):
                allowed = allowed + bias[name] / float(sizes[0].n)  # type: ignore[arg-type]
        else:
            n = np.array([float(runs.n) for runs in sizes])  # type: ignore[arg-type]
            precision = n * [len(group) for group in groups]
            weights = intercept(1.0 / n, precision)
            # of the line at the largest size, less at infinity: the bias there
            at_largest = intercept(1.0 / n - 1.0 / n[-1], precision)
            first = n[-1] * np.abs(
                sum((a - b) * g.mean(axis=0) for a, b, g in zip(at_largest, weights, groups, strict=True))
            )
            allowed = allowed + SECOND * n[0] * first * abs(float(weights @ n**-2.0))
        if all(len(group) == 1 for group in groups) and len(groups) == 1:
            mine = groups[0][0]
            visible = allowed + certified.bar
        else:
            found = _combined(weights, groups)
            mine = found.value
            sign = np.where(mine >= certified.value, 1.0, -1.0)
            counts = [_of_counts(certified, sizes, weights, p) for p in (tail, 1.0 - POWER)]
            # what chance may do towards the side that is seen, and towards the other one
            here, there = (np.maximum(found.margin(side, tail) * found.error, counts[0]) for side in (sign, -sign))
            missed = np.maximum(
                np.maximum(found.margin(sign, 1.0 - POWER), found.margin(-sign, 1.0 - POWER)) * found.error, counts[1]
            )
            visible = allowed + certified.bar + np.maximum(here, there) + missed
            allowed = allowed + here
        for index in np.ndindex(certified.value.shape):
            rows.append(
                Row(
                    observable=name,
                    component=index[1:],
                    time=float(certified.times[index[0]]),
                    mine=float(mine[index]),
                    reference=float(certified.value[index]),
                    bar=float(certified.bar[index]),
                    allowed=float(allowed[index]),
                    visible=float(visible[index]),
                )
            )
    return rows


def _widths(target: Certified) -> Array | None:
    """By what a count of particles is divided, if the observable is one: masses of regions, and marginals."""
    if isinstance(target.observable, MassIn):
        return np.ones(())
    return np.diff(target.observable.edges) if isinstance(target.observable, Marginal) else None


def _of_counts(target: Certified, sizes: Sequence[Runs], weights: Array, tail: float) -> Array:
    r"""What a count of particles may be off: few of them are not normal, and none at all have no spread.

    After Bernstein :math:`|k/n - p| > \sqrt{2 L p/n} + L/n` with a probability of at most :math:`e^{-L}` for n
    independent particles.
    """
    widths = _widths(target)
    if widths is None:
        return np.zeros(())
    many = np.array([runs.effective for runs in sizes])
    log = -math.log(tail)
    p = np.clip(target.value * widths, 0.0, 1.0)
    spread = np.sqrt(2.0 * log * p * float(np.sum(weights**2 / many)))
    return np.asarray((spread + log * float(np.max(np.abs(weights) / many))) / widths)


def sanity_rows(case: Case) -> list[Row]:
    """Mass where it is conserved, and particles in the box: the worst of all replicas and sizes."""
    recorders = [recorder for runs in case.sizes for recorder in runs.recorders]
    if not recorders:
        return []
    rows = []
    problem = case.reference.problem
    if not (problem.reacts and problem.reaction is Reaction.UNBALANCED):
        masses = [(float(w.sum()), t) for r in recorders for w, t in zip(r.weights, r.times, strict=True)]
        mass, t = max(masses, key=lambda pair: abs(pair[0] - 1.0))
        allowed = max(MASS_DRIFT, *(64 * r.weights_rounding for r in recorders))
        rows.append(Row("mass", (), t, mass, 1.0, 0.0, allowed, allowed, True))
    outside = max(recorder.share_outside() for recorder in recorders)
    if outside > 0:
        t = recorders[0].times[-1]
        rows.append(Row("share of particles in the box", (), t, 1.0 - outside, 1.0, 0.0, OUTSIDE, OUTSIDE, True))
    return rows


@functools.lru_cache(maxsize=4096)
def _log_chi_square(weights: tuple[float, ...], freedom: tuple[float, ...], tail: float) -> float:
    r"""The value that :math:`\sum_k c_k \log(\chi^2_{\nu_k}/\nu_k)` exceeds with probability `tail` < 1/4.

    By the saddlepoint approximation of Lugannani and Rice (1980), from the cumulant function
    :math:`K(t) = \sum_k \log\Gamma(\nu_k/2 + c_k t) - \log\Gamma(\nu_k/2) - c_k t \log(\nu_k/2)`.
    """
    from scipy import optimize, special

    c, half = np.array(weights), np.array(freedom) / 2.0

    def at(t: float) -> tuple[float, float]:
        """``K'(t)`` and the probability beyond it."""
        a = half + c * t
        first = float(c @ (special.digamma(a) - np.log(half)))
        k = float(np.sum(special.gammaln(a) - special.gammaln(half) - c * t * np.log(half)))
        w = math.sqrt(2.0 * max(t * first - k, 1e-300))
        u = t * math.sqrt(float(c**2 @ special.polygamma(1, a)))
        return first, float(special.ndtr(-w)) + math.exp(-0.5 * w * w) / math.sqrt(2 * math.pi) * (1.0 / u - 1.0 / w)

    negative = c < 0
    end = float(np.min(half[negative] / -c[negative])) if negative.any() else 1e6
    low, high = 1e-3 * end, (1.0 - 1e-9) * end
    if at(low)[1] <= tail:
        return at(low)[0]
    return at(float(optimize.brentq(lambda t: math.log(max(at(t)[1], 1e-300)) - math.log(tail), low, high)))[0]


def slope_rows(case: Case, tolerances: Mapping[str, Array], rate: float, tail: float, two_sided: bool) -> list[Slope]:
    """The fall of the root-mean-square error of every observable at every time. `tail`: for each, one side."""
    found, sizes = [], case.sizes
    n = np.array([float(runs.n) for runs in sizes])  # type: ignore[arg-type]
    counts = np.array([runs.replicas for runs in sizes], dtype=float)
    x = np.log(n) - float(counts @ np.log(n)) / counts.sum()
    c = counts * x / float(counts @ x**2)
    for name, allowance in tolerances.items():
        certified = case.targets[name]
        axes = tuple(range(1, certified.value.ndim))
        allowed = np.sqrt((allowance**2).sum(axis=axes)) + 1e-14 * np.sqrt((certified.value**2).sum(axis=axes))
        squares = []
        for runs in sizes:
            gap = (runs.values[name] - certified.value) ** 2
            squares.append(gap.sum(axis=tuple(range(2, gap.ndim))))
        widths = _widths(certified)
        for j, t in enumerate(certified.times):
            if widths is not None and float(np.max(certified.value[j] * widths)) * float(np.min(n * counts)) < FEW:
                case.left_out[f"rate of {name} at t = {t:g}"] = f"fewer than {FEW:g} particles are expected there"
                continue
            y = [s[:, j] for s in squares]
            rms = np.array([math.sqrt(float(s.mean())) for s in y])
            nu = tuple(float(r) for r in counts * _freedom(y))
            # by the triangle inequality the error against the truth is within the bars of the one that is seen
            slope = float(c @ np.log(rms)) if np.all(rms > 0) else math.nan
            least = _extreme(c, rms, float(allowed[j]))
            most = -_extreme(-c, rms, float(allowed[j]))
            over = 0.5 * _log_chi_square(tuple(c), nu, tail)
            under = 0.5 * _log_chi_square(tuple(-c), nu, tail)
            miss = 0.5 * _log_chi_square(tuple(-c), nu, 1.0 - POWER)
            low, high = least - over, most + under
            told = math.isfinite(least) and math.isfinite(slope)
            found.append(
                Slope(
                    what=name,
                    time=float(t),
                    slope=slope if math.isfinite(slope) else -math.inf,
                    low=low,
                    high=high,
                    rate=rate,
                    visible=rate + over + miss + (slope - least) if told else math.nan,
                    fails=low > rate or (two_sided and high < rate),
                )
            )
    return found


def _freedom(squares: Sequence[Array]) -> float:
    """Degrees of freedom of a squared error: 1 for a normal number, less for heavier tails; in steps of 0.1."""
    ratios = [float(s.var(ddof=1)) / max(float(s.mean()) ** 2, 1e-300) for s in squares if s.mean() > 0]
    spread = float(np.mean(ratios)) if ratios else 2.0
    # several components have more of them, but that few replicas cannot tell
    return min(1.0, max(0.1, math.floor(20.0 / max(spread, 1e-3)) / 10.0))


def _extreme(c: Array, rms: Array, allowed: float) -> float:
    """The least slope that errors within `allowed` of the given ones can have; minus infinity if they may be none."""
    moved = np.where(c > 0, rms - allowed, rms + allowed)
    if np.any(moved[c > 0] <= 0):
        return -math.inf
    return float(c[c != 0] @ np.log(moved[c != 0]))
