"""What the replicas of one observable say: its limit for many particles, how gaps fall with n, and a verdict.

`make_finding` judges an observable at every time. A gap is tested against what is allowed (`_limits`), variances and
mean squares against their fall with n (`_falls`); `_verdict` puts the scores into a word and a reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mfpde.support.arrays import Array
from mfpde.verification.comparison.findings import ANCESTORS, DOUBT, FEWEST, STEP_SHARE, Finding, Verdict, overall
from mfpde.verification.comparison.observer import Observable
from mfpde.verification.estimates import Estimate, combine, line_weights

__all__ = ["Observed", "Rules", "make_finding"]


def _extrapolate(
    weights: Array,
    y: Sequence[Array],
    control: Array | None,
    first: float,
    floor: float,
    x: Array,
    draws: Sequence[Array] | None,
) -> Estimate:
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
    return combine([*groups, *extra], floor)


@dataclass(frozen=True, eq=False)
class Observed:
    """All gaps of one observable. ``K`` sizes, ``m`` times, ``q`` components.

    Attributes
    ----------
    sizes : array, shape (K,)
    gaps : sequence of array, shape (R, m, q)
        Those of the replicas, for each size.
    resampled : sequence of array, shape (S, m, q)
        Those of independent draws from the mean field, for each size.
    control : array, shape (R, m, q), or None
        Those of the control run at the largest size.
    control_dt, dt : float or None
        The steps of the control run and of the others.
    uncertainty : array, shape (m, q)
        What the reference itself is uncertain of.
    """

    sizes: Array
    gaps: Sequence[Array]
    resampled: Sequence[Array]
    control: Array | None
    control_dt: float | None
    dt: float | None
    uncertainty: Array

    def at(self, j: int) -> _Data:
        """The gaps at time number `j`."""
        return _Data(
            self.sizes,
            [g[:, j] for g in self.gaps],
            [g[:, j] for g in self.resampled],
            None if self.control is None else self.control[:, j],
            math.nan if self.control_dt is None else self.control_dt,
            math.nan if self.dt is None else self.dt,
        )


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
    """What findings are judged by."""

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
    """The slope of the log mean square in log n, and its bootstrap interval; NaN where there is none."""
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
    slope_z: float = math.nan
    unseen: float = math.nan
    visible: Array = field(default_factory=lambda: np.full(1, math.nan))


@dataclass(frozen=True, eq=False)
class _Case:
    """One observable at one time: the groups of more than one replica, and what is known of the steps.

    `first` is what the difference of the control run is multiplied with: ``1 / (ratio - 1)`` for what is of first
    order in the step, ``1 / (ratio^2 - 1)`` for squared distances; 0 without a control run.
    """

    signed: bool
    scale: float
    rules: Rules
    sizes: Array
    gaps: list[Array]
    resampled: list[Array]
    control: Array | None
    ratio: float
    first: float
    step_known: bool
    uncertainty: Array

    @property
    def tolerated(self) -> float:
        """The bias that does not matter."""
        return self.rules.tolerance * self.scale

    @property
    def components(self) -> int:
        return int(self.gaps[0].shape[1])


def _case(data: _Data, signed: bool, scale: float, uncertainty: Array, rules: Rules, at_start: bool) -> _Case | None:
    """What can be judged; None where no size has a second replica."""
    used = [k for k, g in enumerate(data.gaps) if len(g) > 1]
    if not used:
        return None
    control = data.control if data.control is not None and len(data.control) > 1 and not at_start else None
    if len(data.gaps) - 1 not in used:
        control = None
    ratio = math.nan if control is None else data.control_dt / data.dt
    first = 0.0 if control is None else 1.0 / ((ratio if signed else ratio**2) - 1.0)
    return _Case(
        signed,
        scale,
        rules,
        data.sizes[used],
        [data.gaps[k] for k in used],
        [data.resampled[k] for k in used],
        control,
        ratio,
        first,
        control is not None or at_start or rules.step_known,
        uncertainty,
    )


@dataclass(frozen=True, eq=False)
class _Terms:
    """What is extrapolated, gaps or squared distances, in what variable, and what it may be.

    Attributes
    ----------
    values, control : arrays (R, q), one for each size, and those of the control run
    x, power : the variable that vanishes with many particles; its power in which a slow fall is linear
    precision : of the mean at each size, up to a factor
    base, soft_step, single : what the limit may be, what is put down to unknown steps, what one size may have
    bar : the limit that has to be seen for *consistent*
    unit : what the scale is in these terms
    """

    values: list[Array]
    control: Array | None
    x: Array
    power: float
    precision: Array
    base: Array
    soft_step: float
    single: Array
    bar: float
    unit: float


def _terms(case: _Case) -> _Terms:
    """What is extrapolated: gaps in 1/n, or squared distances in those of independent draws."""
    counts = np.array([len(g) for g in case.gaps], dtype=float)
    if case.signed:
        x = 1.0 / case.sizes
        return _Terms(
            values=case.gaps,
            control=case.control,
            x=x,
            power=0.25,  # a slow line: gaps that fall like n^{-1/4}, their squares like n^{-1/2}
            precision=counts * case.sizes,
            base=case.uncertainty + case.tolerated,
            soft_step=STEP_SHARE * case.scale,
            single=np.sqrt(np.mean(case.resampled[-1] ** 2, axis=0)),
            bar=0.5 * math.sqrt(float(np.mean(np.sum(case.gaps[0] ** 2, axis=1)))),
            unit=case.scale,
        )
    x = np.array([float(np.mean(r**2)) for r in case.resampled])
    single = 3.0 * x[-1]
    if not all(np.ptp(r) > 1e-9 * r.max() for r in case.resampled):  # an atom: draws do not differ
        x, single = 1.0 / case.sizes, 3.0 / case.sizes[-1] * case.scale**2
    values = [g**2 for g in case.gaps]
    root = math.sqrt(float(values[-1].mean()))
    e, step = case.uncertainty + case.tolerated, STEP_SHARE * case.scale
    return _Terms(
        values=values,
        control=None if case.control is None else case.control**2,
        x=x,
        power=0.5,
        precision=counts / (x / x.max()) ** 2,
        base=e**2 + 2 * e * root,
        soft_step=step**2 + 2 * step * root,
        single=np.full(case.components, single),
        bar=0.25 * float(values[0].mean()),
        unit=case.scale**2,
    )


@dataclass(frozen=True, eq=False)
class _Limits:
    """For n to infinity and dt to 0: estimates, the bias of the step, what is allowed; scores against it.

    `visible` is the smallest limit that is significant in 999 of 1000 draws of the replicas; `z` the largest score,
    `lasting` the largest of those that slow falls and unknown steps do not explain.
    """

    limit: Array
    error: Array
    step: Array
    allowance: Array
    visible: Array
    z: float
    lasting: float


def _limits(case: _Case, terms: _Terms) -> _Limits:
    """The limit of every component, what it may be, and the scores of what exceeds that."""
    q, signed = case.components, case.signed
    limit, error, step, allowance, visible = (np.empty(q) for _ in range(5))
    z = lasting = 0.0
    lines = line_weights(terms.x, terms.precision, terms.power)
    draws = None
    if not signed and all(np.ptp(r) != 0 for r in case.resampled):
        draws = [r[:, 0] ** 2 for r in case.resampled]
    floor = 1e-12 * terms.unit
    for c in range(q):
        y = [v[:, c] for v in terms.values]
        against = None if terms.control is None else terms.control[:, c]
        step[c] = math.nan if against is None else case.first * float(against.mean() - y[-1].mean())
        estimates = [
            _extrapolate(w, y, against, case.first, floor, terms.x, draws if k == 0 else None)
            for k, w in enumerate(lines)
        ]
        allowance[c] = terms.base[c] + _remainder(float(step[c]), terms.unit)
        soft = 0.0 if case.step_known else terms.soft_step
        soft += float(terms.single[c]) if len(terms.x) == 1 else 0.0
        best = estimates[0]
        limit[c], error[c] = best.value, best.error
        visible[c] = allowance[c] + best.beyond(case.rules.threshold)
        sign = math.copysign(1.0, best.value)
        z = max(z, best.z(allowance[c], one_sided=not signed))
        scores = [(sign * e if signed else e).z(allowance[c] + soft) for e in estimates]
        if scores[0] > lasting and min(scores) > case.rules.doubt:
            lasting = scores[0]
    return _Limits(limit, error, step, allowance, visible, z, lasting)


def _remainder(step: float, unit: float) -> float:
    """What is left of a bias of the step once its first order is removed."""
    if math.isnan(step) or not unit > 0:
        return 0.0
    return min(abs(step) / 4, step**2 / unit)


@dataclass(frozen=True)
class _Bound:
    """What is left for many particles and what could be: in the terms of the test, and as a gap.

    `upper` is two standard errors above `size`; `unseen` adds what the reference itself is uncertain of.
    """

    size: float
    upper: float
    allowed: float
    shown: float
    unseen: float


def _bound(case: _Case, found: _Limits) -> _Bound:
    known = math.sqrt(float(np.sum(case.uncertainty**2)))
    if case.signed:
        size = math.sqrt(max(0.0, float(np.sum(found.limit**2 - found.error**2))))
        upper = size + 2 * math.sqrt(float(np.sum(found.error**2)))
        return _Bound(size, upper, math.sqrt(float(np.sum(found.allowance**2))), size, upper + known)
    size = max(0.0, float(found.limit[0]))
    upper = size + 2 * float(found.error[0])
    return _Bound(size, upper, float(found.allowance[0]), math.sqrt(size), math.sqrt(upper) + known)


def _judge(data: _Data, signed: bool, scale: float, uncertainty: Array, rules: Rules, at_start: bool) -> _Judgement:
    """Bias for n to infinity and dt to 0, its test, and whether the data could have shown one."""
    case = _case(data, signed, scale, uncertainty, rules, at_start)
    if case is None:
        nan = np.full(data.gaps[0].shape[1], math.nan)
        text = "one replica has no error bar; give several, with independent starts"
        return _Judgement(nan, nan, nan, nan, math.nan, math.nan, Verdict.UNDECIDED, text, visible=nan)
    terms = _terms(case)
    found = _limits(case, terms)
    bound = _bound(case, found)
    falls = _falls(case, terms, found)
    verdict, reason = _verdict(case, terms, found, bound, falls)
    limit, error, visible = found.limit, found.error, found.visible
    if not signed:
        limit, error = _root(limit, error)
        visible = np.sqrt(visible)
    return _Judgement(
        limit,
        error,
        found.step,
        found.allowance,
        found.z,
        falls.spread if signed and falls.told else math.nan,
        verdict,
        reason,
        falls.mean_square if falls.told else math.nan,
        bound.unseen,
        visible,
    )


def _verdict(case: _Case, terms: _Terms, found: _Limits, bound: _Bound, falls: _Falls) -> tuple[Verdict, str]:
    """What the scores amount to, and why."""
    threshold, single, last = case.rules.threshold, len(terms.x) == 1, int(case.sizes[-1])
    if max(found.lasting, falls.spread_lasting) > threshold:
        if falls.spread_lasting > found.lasting:
            text = f"replicas differ by an amount that does not fall with n (z = {falls.spread_lasting:.1f})"
            return Verdict.INCONSISTENT, text
        shape = f"is there at n = {last}" if single else "stays as n grows"
        more = "" if case.step_known else ", more than time steps are given"
        return Verdict.INCONSISTENT, f"a gap of {bound.shown:.3g} {shape} (z = {found.lasting:.1f}){more}"
    slow = f"mean squared gaps fall more slowly than {'1/n' if case.signed else 'those of independent draws'}"
    if falls.slow > threshold:
        return Verdict.INCONSISTENT, f"{slow} (z = {falls.slow:.1f})"
    if found.z > threshold or falls.spread > threshold:
        score = found.z if found.z > threshold else falls.spread
        text = f"a gap of {bound.shown:.3g} is seen (z = {score:.1f}); {_remedy(case, single)}"
        return Verdict.UNDECIDED, text
    if falls.mean_square > case.rules.doubt:
        text = f"{slow} (z = {falls.mean_square:.1f}), by chance or not: {_remedy(case, single, chance=True)}"
        return Verdict.UNDECIDED, text
    if single:
        text = f"nothing speaks against it at n = {last}; whether the gap falls with n needs two sizes"
        return Verdict.UNDECIDED, text
    if not falls.told:
        text = f"nothing speaks against it; how fast gaps fall with n needs {FEWEST} replicas of every size"
        return Verdict.UNDECIDED, text if case.control is None else f"{text} and of the control run"
    if bound.upper > max(terms.bar, bound.allowed):
        a, b = (bound.upper, 2 * terms.bar) if case.signed else (math.sqrt(bound.upper), math.sqrt(4 * terms.bar))
        gap = f"a gap of {b:.2g} at n = {int(case.sizes[0])}"
        text = f"up to {a:.2g} could stay unseen, beside {gap}: add replicas or larger sizes"
        return Verdict.UNDECIDED, text
    return Verdict.CONSISTENT, f"nothing stays as n grows; what could be unseen is below {bound.unseen:.2g}"


def _remedy(case: _Case, single: bool, chance: bool = False) -> str:
    if not case.step_known:
        return "it may be the time step: add a run with other steps and give both their dt"
    if chance:
        return "add replicas or larger sizes"
    if single:
        return "one size cannot tell a gap that falls with n from one that stays: add sizes"
    return "a slow fall with n could explain it: add larger sizes or replicas"


def _excused(case: _Judgement, sizes: Array, j: int, rules: Rules) -> _Judgement:
    """No right scheme follows a limit whose mass descends from where it has no particles."""
    there = rules.follows(sizes, j)
    seen = case.verdict is Verdict.UNDECIDED and bool(np.nanmax([case.z, case.slope_z, 0.0]) > DOUBT)
    if there >= ANCESTORS or not (seen or case.verdict is Verdict.INCONSISTENT):
        return case
    assert rules.ancestral is not None
    source = rules.ancestral[j]
    least = f"sizes of {ANCESTORS / source:.1g} and more" if source > 0 else "no size"
    reason = (
        f"{case.reason}; but half of the mass descends from {source:.1g} of the start, where {there:.2g} of "
        f"{int(sizes.min())} particles are: {least} can follow this limit"
    )
    return replace(case, verdict=Verdict.UNDECIDED, reason=reason)


def _root(square: Array, error: Array) -> tuple[Array, Array]:
    """The root of a squared distance that may come out negative, and its error."""
    root = np.sqrt(np.maximum(square, 0.0))
    return root, np.minimum(error / np.maximum(2 * root, 1e-300), np.sqrt(error))


@dataclass(frozen=True)
class _Falls:
    """Scores of what falls more slowly than it does for a right scheme.

    Attributes
    ----------
    spread, spread_lasting : of the variance over replicas against 1/n; against ``n^{-1/2}`` too
    mean_square, slow : of the mean squared gap; where the two largest sizes by themselves say so too
    told : whether there are replicas enough to say it
    """

    spread: float = 0.0
    spread_lasting: float = 0.0
    mean_square: float = 0.0
    slow: float = 0.0
    told: bool = True


def _falls(case: _Case, terms: _Terms, found: _Limits) -> _Falls:
    """How fast variances and mean squares fall.

    A right scheme has the mean square ``v/n + c^2/n^2``, which falls like 1/n or faster. What does not fall is
    lasting: the two largest sizes have to say so as well, as at small ones the law of large numbers may not yet hold.
    """
    used = [k for k, g in enumerate(case.gaps) if len(g) >= FEWEST]
    corrected = case.control is None or (len(case.gaps) - 1 in used and len(case.control) >= FEWEST)
    if len(used) < 2 or not corrected:  # without its error bar the control run corrects nothing
        return _Falls(told=False)
    if len(used) < len(case.gaps):
        few = replace(
            case,
            sizes=case.sizes[used],
            gaps=[case.gaps[k] for k in used],
            resampled=[case.resampled[k] for k in used],
        )
        return _falls(few, _terms(few), found)
    if not case.signed:
        y = _squared_distances(case, terms, found)
        draws = [r[:, 0] ** 2 for r in case.resampled]
        if not all(np.ptp(d) > 0 for d in draws):  # an atom
            return _Falls()
        total = _slower(case.sizes, y, 0.0, draws)
        return _Falls(mean_square=total, slow=_both(total, _slower(case.sizes[-2:], y[-2:], 0.0, draws[-2:]), case))
    variances = _variances(case)
    spread = _slower(case.sizes, variances, 1.0)
    slow = min(_slower(case.sizes, variances, 0.5), _slower(case.sizes[-2:], variances[-2:], 0.5))
    squares, extra = _mean_squares(case, found, variances)
    total = _slower(case.sizes, squares, 1.0, extra=extra)
    last = _slower(case.sizes[-2:], squares[-2:], 1.0, extra=extra)
    return _Falls(spread, spread if slow > case.rules.doubt else 0.0, total, _both(total, last, case))


def _both(total: float, last: float, case: _Case) -> float:
    return total if last > case.rules.doubt else 0.0


def _slower(
    sizes: Array, y: Sequence[Array], power: float, draws: Sequence[Array] | None = None, extra: Array | None = None
) -> float:
    """The score of means that fall more slowly than ``n^-power``; with `draws`, than theirs.

    `extra` are values of mean 0 that the last mean depends on as well.
    """
    means = [float(v.mean()) for v in y]
    if min(means) <= 0:
        return 0.0
    x = np.log(sizes) - np.log(sizes).mean()
    x = x / (x @ x)
    slope = float(x @ np.log(means))
    groups = [c * v / m for c, v, m in zip(x, y, means, strict=True)]
    if draws is not None:
        slope -= float(x @ np.log([d.mean() for d in draws]))
        groups += [-c * d / d.mean() for c, d in zip(x, draws, strict=True)]
    if extra is not None:
        groups.append(x[-1] * extra / means[-1])
    fall = combine(groups, 1e-12)
    return Estimate(slope + power, fall.error, fall.freedom).z(0.0)


def _variances(case: _Case) -> list[Array]:
    """Values whose means are the variances over replicas; of the largest size less what is allowed."""

    def squares(g: Array) -> Array:
        centred = np.sum((g - g.mean(axis=0)) ** 2, axis=1)
        return np.asarray(centred * (len(g) / (len(g) - 1)))

    y = [squares(g) for g in case.gaps]
    allowance = case.tolerated**2
    if not case.step_known:
        allowance += (STEP_SHARE * case.scale) ** 2
    if case.control is not None:  # noise of the steps (batches) is a variance of first order in dt
        a, first = squares(case.control), case.first
        correction = first * float(a.mean() - y[-1].mean())
        allowance += _remainder(correction, case.scale**2)
        if len(a) == len(y[-1]):
            y[-1] = y[-1] + first * (y[-1] - a)
        else:
            y[-1] = y[-1] * (1 + first) - first * a.mean()
    y[-1] = y[-1] - allowance
    return y


def _mean_squares(case: _Case, found: _Limits, variances: Sequence[Array]) -> tuple[list[Array], Array | None]:
    """Values whose means are the mean squared gaps; of the largest size less what is allowed and what steps make.

    Its mean gap, corrected by the control run, counts as far as it exceeds the allowance, and its own error.
    """
    y = [v + float(np.sum(g.mean(axis=0) ** 2)) for v, g in zip(variances, case.gaps, strict=True)]
    last, control, first = case.gaps[-1], case.control, case.first
    mean = last.mean(axis=0) - (0.0 if control is None else found.step)
    soft = 0.0 if case.step_known else STEP_SHARE * case.scale
    excess = np.maximum(np.abs(mean) - found.allowance - soft, 0.0) * np.sign(mean)
    own, extra = 2 * (last - last.mean(axis=0)) @ excess, None
    noise = _noise(last)
    if control is not None:
        other = 2 * first * (control - control.mean(axis=0)) @ excess
        if len(control) == len(last):
            own = (1 + first) * own - other
            noise = _noise(last + first * (last - control))
        else:
            own, extra = (1 + first) * own, -other
            noise = (1 + first) ** 2 * noise + first**2 * _noise(control)
    y[-1] = variances[-1] + max(float(np.sum(excess**2)) - noise, 0.0) + own
    return y, extra


def _noise(gaps: Array) -> float:
    """The squared error of the mean over replicas, summed over components."""
    return float(np.sum(gaps.var(axis=0, ddof=1))) / len(gaps)


def _squared_distances(case: _Case, terms: _Terms, found: _Limits) -> list[Array]:
    """Squared distances; of the largest size corrected by the control run and less what is allowed."""
    y = [v[:, 0] for v in terms.values]
    allowed = float(found.allowance[0]) + (0.0 if case.step_known else terms.soft_step)
    if terms.control is not None:
        other, first = terms.control[:, 0], case.first
        y[-1] = y[-1] + first * (y[-1] - (other if len(other) == len(y[-1]) else other.mean()))
    y[-1] = y[-1] - allowed
    return y


def _standard_error(x: Array) -> Array:
    """Of the mean over the first axis; NaN for a single value."""
    if len(x) == 1:
        return np.full_like(x[0], math.nan)
    return np.asarray(x.std(axis=0, ddof=1) / math.sqrt(len(x)))


def make_finding(
    o: Observable, at: Array, observed: Observed, rules: Rules, rng: np.random.Generator, bootstrap: int
) -> Finding:
    """Judge an observable at every time.

    Parameters
    ----------
    o : Observable
    at : array, shape (m,)
        The times.
    observed : Observed
        Its gaps.
    rules : Rules
    rng : numpy.random.Generator
        Draws the bootstrap.
    bootstrap : int
        How many draws.
    """
    gaps, sizes = observed.gaps, observed.sizes
    with np.errstate(under="ignore"):
        squares = [np.sum(g**2, axis=2) for g in gaps]
        judged = [_at_time(o, observed, rules, j, at_start=bool(t == 0)) for j, t in enumerate(at)]
        slopes = [_slope(sizes, [s[:, j] for s in squares], rng, bootstrap) for j in range(len(at))]
        mean_error = np.stack([_standard_error(g) for g in gaps])
        mean_square_error = np.stack([_standard_error(s) for s in squares])
    verdicts = tuple(case.verdict for case in judged)
    worst = overall(verdicts)
    j = _most_telling(judged, worst)
    return Finding(
        name=o.name,
        signed=o.signed,
        scale=o.scale,
        mean=np.stack([g.mean(axis=0) for g in gaps]),
        mean_error=mean_error,
        mean_square=np.stack([s.mean(axis=0) for s in squares]),
        mean_square_error=mean_square_error,
        resampled=np.stack([np.mean(np.sum(g**2, axis=2), axis=0) for g in observed.resampled]),
        slope=np.array([slope for slope, _ in slopes]),
        slope_interval=np.array([interval for _, interval in slopes]),
        limit=np.stack([case.limit for case in judged]),
        limit_error=np.stack([case.error for case in judged]),
        step_bias=np.stack([case.step for case in judged]),
        uncertainty=observed.uncertainty,
        allowance=np.stack([case.allowance for case in judged]),
        z=np.array([case.z for case in judged]),
        spread_z=np.array([case.spread_z for case in judged]),
        slope_z=np.array([case.slope_z for case in judged]),
        unseen=np.array([case.unseen for case in judged]),
        visible=np.stack([case.visible for case in judged]),
        verdicts=verdicts,
        verdict=worst,
        reason=f"at t = {at[j]:g}: {judged[j].reason}",
    )


def _at_time(o: Observable, observed: Observed, rules: Rules, j: int, *, at_start: bool) -> _Judgement:
    """The outcome at time number `j`."""
    case = _judge(observed.at(j), o.signed, o.scale, observed.uncertainty[j], rules, at_start)
    return _excused(case, observed.sizes, j, rules)


def _most_telling(judged: Sequence[_Judgement], worst: Verdict) -> int:
    """The number of the time at which the worst verdict has the highest score."""
    score = [
        np.nan_to_num(np.nanmax([case.z, case.spread_z, case.slope_z, -1.0]), nan=-1.0)
        if case.verdict is worst
        else -2.0
        for case in judged
    ]
    return int(np.argmax(score))
