"""What replicas say of gaps: limits in n with errors, slopes, and a verdict with its false alarm."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mfpde.comparison.reference import Observable

__all__ = ["Finding", "Verdict"]

Array = NDArray[np.float64]

STEP_SHARE = 0.05
"""Bias, as a fraction of an observable's scale, put down to time steps where no run with other steps says."""
DOUBT = 3.0
"""Score against a fall slower than 1/n that a significant gap needs to be called lasting."""


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
        The score of the variance over replicas falling slower than 1/n; NaN for distances, whose `z` has it.
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
    verdicts: tuple[Verdict, ...]
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class _Estimate:
    """A linear combination of means of independent groups: value, standard error, degrees of freedom."""

    value: float
    error: float
    freedom: float

    def __rmul__(self, sign: float) -> _Estimate:
        return _Estimate(sign * self.value, self.error, self.freedom)

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


def _combine(groups: Sequence[Array], floor: float) -> _Estimate:
    """The sum of the means of groups of independent values; errors after Welch and Satterthwaite."""
    value = sum(float(g.mean()) for g in groups)
    parts = np.array([float(g.var(ddof=1)) / len(g) for g in groups])
    total = float(parts.sum())
    counts = np.array([len(g) - 1 for g in groups], dtype=float)
    freedom = total**2 / float((parts**2 / counts).sum()) if total > 0 else float(counts.sum())
    return _Estimate(value, math.sqrt(total) + floor, freedom)


def _intercept(x: Array, precision: Array) -> Array:
    """Weights w of the groups' means with ``sum w y`` the value at x = 0 of the fitted line; one group: as it is."""
    if len(x) == 1:
        return np.ones(1)
    x = x / x.max()
    X = np.stack([np.ones_like(x), x], axis=1)
    return np.asarray(np.linalg.solve(X.T @ (precision[:, None] * X), X.T * precision)[0])


def _lines(x: Array, precision: Array, power: float) -> list[Array]:
    """Weights of the limit of many particles: the line in x; and, if gaps fall slower, in ``x^power``.

    The first is what a right scheme has where n is large enough. A gap is only called lasting if the others see it
    too, the last of them through the two largest sizes alone.
    """
    slow = x**power
    lines = [_intercept(x, precision), _intercept(slow, precision)]
    if len(x) > 2:
        last = np.zeros_like(x)
        last[-2:] = _intercept(slow[-2:], precision[-2:])
        lines.append(last)
    return lines


def _extrapolate(
    weights: Array,
    y: Sequence[Array],
    control: Array | None,
    first: float,
    floor: float,
    x: Array,
    draws: Sequence[Array] | None,
) -> _Estimate:
    """``sum_k w_k mean(y_k)``, plus `first` times the mean of the last y less the control; with its error.

    `draws` are samples whose means are the x, where those are not exact.
    """
    groups = [w * v for w, v in zip(weights, y, strict=True)]
    extra: list[Array] = []
    if control is not None:
        if len(control) == len(y[-1]):  # may share their starts: one group of differences
            groups[-1] = groups[-1] + first * (y[-1] - control)
        else:
            groups[-1] = groups[-1] + first * y[-1]
            extra = [-first * control]
    if draws is not None and len(x) > 1:
        slope = max(0.0, (float(y[0].mean()) - sum(float(g.mean()) for g in groups)) / x[0])
        extra += [slope * w * (x_k - d) for w, x_k, d in zip(weights, x, draws, strict=True)]
    return _combine([*groups, *extra], floor)


@dataclass(frozen=True, eq=False)
class _Data:
    """All gaps of one observable at one time: one array (R, q) for each size, resampled ones, control."""

    sizes: Array
    gaps: list[Array]
    resampled: list[Array]
    control: Array | None
    control_dt: float
    dt: float


@dataclass(frozen=True)
class Rules:
    tolerance: float
    threshold: float
    step_known: bool
    ancestral: Array | None = None
    """From how little of the start half of the mass at each time descends, where that is known."""

    def follows(self, sizes: Array, j: int) -> float:
        """How many particles of the smallest size start where half of the mass at a time descends from."""
        return math.inf if self.ancestral is None else float(sizes.min() * self.ancestral[j])

    @property
    def doubt(self) -> float:
        """The score that a gap needs against a slower fall with n; it guards the model, not the level."""
        return min(DOUBT, self.threshold)


def _slope(sizes: Array, squares: Sequence[Array], rng: np.random.Generator, count: int) -> tuple[float, Array]:
    nothing = math.nan, np.full(2, math.nan)
    means = np.array([s.mean() for s in squares])
    if len(sizes) < 2 or np.any(means <= 0):
        return nothing
    x = np.log(sizes) - np.log(sizes).mean()
    x /= x @ x
    slope = float(x @ np.log(means))
    if min(len(s) for s in squares) < 2:
        return slope, np.full(2, math.nan)
    drawn = np.zeros(count)
    for weight, s in zip(x, squares, strict=True):
        again = s[rng.integers(len(s), size=(count, len(s)))].mean(axis=1)
        drawn += weight * np.log(np.maximum(again, 1e-300))
    return slope, np.asarray(np.percentile(drawn, [2.5, 97.5]))


@dataclass(frozen=True, eq=False)
class _Judgement:
    """The outcome at one time."""

    limit: Array
    error: Array
    step: Array
    allowance: Array
    z: float
    spread_z: float
    verdict: Verdict
    reason: str


def _judge(data: _Data, signed: bool, scale: float, uncertainty: Array, rules: Rules, at_start: bool) -> _Judgement:
    """Bias for n to infinity and dt to 0, its test, and whether the data could have shown one."""
    q = data.gaps[0].shape[1]
    used = [k for k, g in enumerate(data.gaps) if len(g) > 1]
    nan = np.full(q, math.nan)
    if not used:
        text = "one replica has no error bar; give several, with independent starts"
        return _Judgement(nan, nan, nan, nan, math.nan, math.nan, Verdict.UNDECIDED, text)
    sizes = data.sizes[used]
    gaps = [data.gaps[k] for k in used]
    counts = np.array([len(g) for g in gaps], dtype=float)
    resampled = [data.resampled[k] for k in used]
    control = data.control if data.control is not None and len(data.control) > 1 and not at_start else None
    if len(data.gaps) - 1 not in used:
        control = None
    step_known = control is not None or at_start or rules.step_known
    ratio = data.control_dt / data.dt if control is not None else math.nan
    floor = 1e-12 * scale

    if signed:
        first = 1.0 / (ratio - 1.0) if control is not None else 0.0
        x = 1.0 / sizes
        values, against = gaps, control
        precision = counts * sizes
        base = uncertainty + rules.tolerance * scale
        soft_step = STEP_SHARE * scale
        single = np.sqrt(np.mean(resampled[-1] ** 2, axis=0))
        bar = 0.5 * math.sqrt(float(np.mean(np.sum(gaps[0] ** 2, axis=1))))
    else:
        first = 1.0 / (ratio**2 - 1.0) if control is not None else 0.0
        x = np.array([float(np.mean(r**2)) for r in resampled])
        values, against = [g**2 for g in gaps], None if control is None else control**2
        if not np.all(x > 0):  # atoms: draws have no distance
            x = 1.0 / sizes * scale**2
        precision = counts / x**2
        root = math.sqrt(float(values[-1].mean()))
        e = uncertainty + rules.tolerance * scale
        base = e**2 + 2 * e * root
        soft_step = (STEP_SHARE * scale) ** 2 + 2 * STEP_SHARE * scale * root
        single = np.full(q, 3.0 * x[-1])
        bar = 0.25 * float(values[0].mean())
        floor = 1e-12 * scale**2

    # the slow line is that of gaps that fall like n^{-1/4}, their squares like n^{-1/2}
    lines = _lines(x, precision, 0.25 if signed else 0.5)
    limit, error, step, allowance = (np.empty(q) for _ in range(4))
    z = lasting = 0.0
    draws = None
    if not signed and all(np.ptp(r) != 0 for r in resampled):
        draws = [r[:, 0] ** 2 for r in resampled]
    for c in range(q):
        y = [v[:, c] for v in values]
        step[c] = math.nan if against is None else first * float(against[:, c].mean() - y[-1].mean())
        estimates = [
            _extrapolate(w, y, None if against is None else against[:, c], first, floor, x, draws if k == 0 else None)
            for k, w in enumerate(lines)
        ]
        remainder = min(abs(step[c]) / 4, step[c] ** 2 / (scale if signed else scale**2)) if step_known else 0.0
        remainder = 0.0 if math.isnan(remainder) else remainder
        best = estimates[0]
        limit[c], error[c], allowance[c] = best.value, best.error, base[c] + remainder
        soft = (0.0 if step_known else soft_step) + (float(single[c]) if len(x) == 1 else 0.0)
        sign = math.copysign(1.0, best.value)
        z = max(z, best.z(allowance[c], one_sided=not signed))
        scores = [(sign * e if signed else e).z(allowance[c] + soft) for e in estimates]
        if scores[0] > lasting and min(scores) > rules.doubt:
            lasting = scores[0]

    spread_z, spread_lasting = math.nan, 0.0
    if signed:
        spread_z, spread_lasting = _spread(gaps, control, ratio, sizes, scale, rules, step_known)
        excess = max(0.0, float(np.sum(limit**2 - error**2)))
        size, upper = math.sqrt(excess), math.sqrt(excess) + 2 * math.sqrt(float(np.sum(error**2)))
        allowed = math.sqrt(float(np.sum(allowance**2)))
    else:
        size, upper = max(0.0, float(limit[0])), max(0.0, float(limit[0])) + 2 * float(error[0])
        allowed = float(allowance[0])
        limit, error = _root(limit, error)
    shown = size if signed else math.sqrt(size)
    last = int(sizes[-1])
    if max(lasting, spread_lasting) > rules.threshold:
        verdict = Verdict.INCONSISTENT
        if spread_lasting > lasting:
            reason = f"replicas differ by an amount that does not fall with n (z = {spread_lasting:.1f})"
        else:
            shape = "stays as n grows" if len(x) > 1 else f"is there at n = {last}"
            reason = f"a gap of {shown:.3g} {shape} (z = {lasting:.1f})"
            if not step_known:
                reason += ", more than time steps are given"
    elif z > rules.threshold or (signed and spread_z > rules.threshold):
        verdict = Verdict.UNDECIDED
        if not step_known:
            remedy = "it may be the time step: add a run with other steps and give both their dt"
        elif len(x) == 1:
            remedy = "one size cannot tell a gap that falls with n from one that stays: add sizes"
        else:
            remedy = "a slow fall with n could explain it: add larger sizes or replicas"
        what = z if z > rules.threshold else spread_z
        reason = f"a gap of {shown:.3g} is seen (z = {what:.1f}); {remedy}"
    elif len(x) == 1:
        verdict = Verdict.UNDECIDED
        reason = f"nothing speaks against it at n = {last}; whether the gap falls with n needs two sizes"
    elif upper > max(bar, allowed):
        verdict = Verdict.UNDECIDED
        a, b = (upper, 2 * bar) if signed else (math.sqrt(upper), math.sqrt(4 * bar))
        gap = f"a gap of {b:.2g} at n = {int(sizes[0])}"
        reason = f"up to {a:.2g} could stay unseen, beside {gap}: add replicas or larger sizes"
    else:
        verdict = Verdict.CONSISTENT
        a = upper if signed else math.sqrt(upper)
        reason = f"nothing stays as n grows; what could be unseen is below {a:.2g}"
    return _Judgement(limit, error, step, allowance, z, spread_z, verdict, reason)


def _excused(case: _Judgement, sizes: Array, j: int, rules: Rules) -> _Judgement:
    """No right scheme follows a limit whose mass descends from where it has no particles."""
    there = rules.follows(sizes, j)
    if case.verdict is not Verdict.INCONSISTENT or there >= ANCESTORS:
        return case
    assert rules.ancestral is not None
    source = rules.ancestral[j]
    least = f"sizes of {ANCESTORS / source:.1g} and more" if source > 0 else "no size"
    reason = (
        f"{case.reason}; but half of the mass descends from {source:.1g} of the start, where {there:.1g} of "
        f"{int(sizes.min())} particles are: {least} can follow this limit"
    )
    return replace(case, verdict=Verdict.UNDECIDED, reason=reason)


def _root(square: Array, error: Array) -> tuple[Array, Array]:
    """The root of a squared distance that may come out negative, and its error."""
    root = np.sqrt(np.maximum(square, 0.0))
    return root, np.minimum(error / np.maximum(2 * root, 1e-300), np.sqrt(error))


def _spread(
    gaps: Sequence[Array],
    control: Array | None,
    ratio: float,
    sizes: Array,
    scale: float,
    rules: Rules,
    step_known: bool,
) -> tuple[float, float]:
    """Scores of a variance over replicas that falls slower than ``1/n``, and than ``n^{-1/2}``."""

    def squares(g: Array) -> Array:
        centred = np.sum((g - g.mean(axis=0)) ** 2, axis=1)
        return np.asarray(centred * (len(g) / (len(g) - 1)))

    if len(sizes) == 1:
        return 0.0, 0.0
    y = [squares(g) for g in gaps]
    allowance = (rules.tolerance * scale) ** 2
    if not step_known:
        allowance += (STEP_SHARE * scale) ** 2
    if control is not None:  # noise of the steps (batches) is a variance of first order in dt
        a, first = squares(control), 1.0 / (ratio - 1.0)
        correction = first * float(a.mean() - y[-1].mean())
        allowance += min(abs(correction) / 4, correction**2 / scale**2)
        if len(a) == len(y[-1]):
            y[-1] = y[-1] + first * (y[-1] - a)
        else:
            y[-1] = y[-1] * (1 + first) - first * a.mean()
    y[-1] = y[-1] - allowance
    means = np.array([v.mean() for v in y])
    if np.any(means <= 0):
        return 0.0, 0.0

    def score(used: slice, power: float) -> float:
        """That of a slope above ``-power``."""
        x = np.log(sizes[used]) - np.log(sizes[used]).mean()
        x = x / (x @ x)
        slope = float(x @ np.log(means[used]))
        groups = [c * v / m for c, v, m in zip(x, y[used], means[used], strict=True)]
        fall = _combine(groups, 1e-12)
        return _Estimate(slope + power, fall.error, fall.freedom).z(0.0)

    found = score(slice(None), 1.0)
    slow = min(score(slice(None), 0.5), score(slice(-2, None), 0.5))
    return found, found if slow > rules.doubt else 0.0


def _standard_error(x: Array) -> Array:
    """Of the mean over the first axis; NaN for a single value."""
    if len(x) == 1:
        return np.full_like(x[0], math.nan)
    return np.asarray(x.std(axis=0, ddof=1) / math.sqrt(len(x)))


def make_finding(
    o: Observable,
    at: Array,
    sizes: Array,
    gaps: Sequence[Array],
    resampled: Sequence[Array],
    control: Array | None,
    dt: float | None,
    control_dt: float | None,
    uncertainty: Array,
    rules: Rules,
    rng: np.random.Generator,
    bootstrap: int,
) -> Finding:
    """Judge an observable at every time: gaps (R, m, q) at each size, resampled ones, those of the control run."""
    judged, slopes, intervals = [], [], []
    with np.errstate(under="ignore"):
        for j, t in enumerate(at):
            data = _Data(
                sizes,
                [g[:, j] for g in gaps],
                [g[:, j] for g in resampled],
                None if control is None else control[:, j],
                math.nan if control_dt is None else control_dt,
                math.nan if dt is None else dt,
            )
            case = _judge(data, o.signed, o.scale, uncertainty[j], rules, at_start=bool(t == 0))
            judged.append(_excused(case, sizes, j, rules))
            slope, interval = _slope(sizes, [np.sum(g[:, j] ** 2, axis=1) for g in gaps], rng, bootstrap)
            slopes.append(slope)
            intervals.append(interval)
        squares = [np.sum(g**2, axis=2) for g in gaps]
        mean_error = np.stack([_standard_error(g) for g in gaps])
        mean_square_error = np.stack([_standard_error(s) for s in squares])
    verdicts = tuple(case.verdict for case in judged)
    worst = overall(verdicts)
    score = [
        np.nan_to_num(np.nanmax([case.z, case.spread_z, -1.0]), nan=-1.0) if case.verdict is worst else -2.0
        for case in judged
    ]
    j = int(np.argmax(score))
    return Finding(
        name=o.name,
        signed=o.signed,
        scale=o.scale,
        mean=np.stack([g.mean(axis=0) for g in gaps]),
        mean_error=mean_error,
        mean_square=np.stack([s.mean(axis=0) for s in squares]),
        mean_square_error=mean_square_error,
        resampled=np.stack([np.mean(np.sum(g**2, axis=2), axis=0) for g in resampled]),
        slope=np.array(slopes),
        slope_interval=np.array(intervals),
        limit=np.stack([case.limit for case in judged]),
        limit_error=np.stack([case.error for case in judged]),
        step_bias=np.stack([case.step for case in judged]),
        uncertainty=uncertainty,
        allowance=np.stack([case.allowance for case in judged]),
        z=np.array([case.z for case in judged]),
        spread_z=np.array([case.spread_z for case in judged]),
        verdicts=verdicts,
        verdict=worst,
        reason=f"at t = {at[j]:g}: {judged[j].reason}",
    )


ANCESTORS = 10.0
"""So many particles have to start where half of the mass descends from; a gap with fewer is no fault of the scheme."""
