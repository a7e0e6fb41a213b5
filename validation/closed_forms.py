"""References against closed forms in hard places: no wrong number without a word, and no bar far wider than its error.

``python -m validation.closed_forms 60`` prints the rows for 60 problems of the tuning seed and writes nothing.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mfpde as mf
from mfpde.verification.observables import Observable
from validation._runner import Progress, Study
from validation.coverage import NEGLIGIBLE, WIDTH, circle_integral, on_the_way, two_wells, wide

HEADLINE = "wrong in silence"

Array = NDArray[np.float64]

TUNING, CONFIRMING = 31, 20267
"""Seeds: the first may be looked at as often as one likes (the quick version does), the second is run once, in full."""
PROBLEMS = 300
"""Random problems in full; the `KNOWN` ones come on top."""
BUDGET = 6.0
"""Seconds a problem."""
MEDIAN, NEARLY_ALL = 30.0, 300.0
"""How much wider than the error a bar may be, in the median and for 95 % of the values."""
JUDGED_ABOVE = 1e-12
"""Relative errors below this say nothing of a bar: round-off."""
HARD = 5.0
"""Standard deviations from the start's mean to where present mass descends from: beyond, a problem counts as hard."""
FAINT, FAINTEST = 1e-8, 1e-20
"""Energies are asked for down to this share of the start's, in one of five problems to the second: below round-off."""
ASKED, ALLOWED = 5.0, 6.0
"""Seconds that are given to each shipped problem, and within which the call has to end."""


# ---------------------------------------------------------------------------------------------------------------------
# problems
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One call of `mfpde.reference`, and what it should find.

    `doubt` bounds the error of `true`: what the box cuts off, and round-off. `descent` is how far from the start's mean
    the mass at the end comes from, in standard deviations of the start; 0 where that is not known in closed form.
    """

    kind: str
    name: str
    problem: mf.Problem
    tolerance: float
    times: Array
    asked: tuple[Observable, ...]
    true: tuple[Array, ...]
    doubt: tuple[Array, ...]
    descent: float = 0.0


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _rate(rng: np.random.Generator) -> float:
    """A rate of birth-death: none in one of ten problems."""
    return 0.0 if rng.random() < 0.1 else _log_uniform(rng, 0.1, 100.0)


def _distance(rng: np.random.Generator, std: float, longest: float) -> float:
    """How far apart two means are: to 20 standard deviations, or in lengths of its own and then to 60 of them."""
    if rng.random() < 2 / 3:
        return rng.uniform(0.0, 20.0) * std
    return min(rng.uniform(0.5, longest), 60.0 * std)


def _time(rng: np.random.Generator, least: float = 0.05) -> float:
    return _log_uniform(rng, least, 10.0)


def _times(rng: np.random.Generator, t: float, energy: Callable[[float], float]) -> Array:
    """One time or two, up to `t`, which is halved until the energy is not too faint."""
    share, two = rng.uniform(0.2, 0.8), rng.random() < 0.5
    least = (FAINTEST if rng.random() < 0.2 else FAINT) * abs(energy(0.0))
    while abs(energy(t)) < least:
        t /= 2
    return np.array([share * t, t] if two else [t])


def _observables(names: Sequence[str], rng: np.random.Generator) -> tuple[Observable, ...]:
    """The energy; in half of the problems the first two moments along each axis, too."""
    if rng.random() < 0.5:
        return (mf.EnergyAt(),)
    return (mf.EnergyAt(), *(mf.Moment(name, power) for name in names for power in (1, 2)))


def _names(parts: Sequence[mf.Problem]) -> Sequence[str]:
    """What the axes are called together."""
    return "xy" if len(parts) > 1 else [parts[0].axes[0].name]


def _values(parts: Sequence[mf.Problem], asked: Sequence[Observable], times: Array) -> list[Array]:
    """Closed forms of independent parameters: energies add, and each axis has the moments of its part."""
    by_axis = dict(zip(_names(parts), (part.exact for part in parts), strict=True))
    found = []
    for observable in asked:
        if isinstance(observable, mf.Moment):
            exact = by_axis[observable.axis]
            mean = np.array([exact["mean"](t) for t in times])
            spread = np.array([exact["variance"](t) for t in times])
            found.append(mean if observable.power == 1 else spread + mean**2)
        else:
            found.append(np.array([sum(part.exact["energy"](t) for part in parts) for t in times]))
    return found


def _round_off(parts: Sequence[mf.Problem], asked: Sequence[Observable], times: Array) -> list[Array]:
    """Some last digits of the largest term that values are sums of."""
    found = []
    for observable, value in zip(asked, _values(parts, asked, times), strict=True):
        size = np.abs(value)
        for part in parts:
            if isinstance(observable, mf.Moment):  # a mean may vanish between the target and the distance to it
                target = part.parameters.get("target", part.parameters.get("target_mean", 0.0))
                size = size + abs(target) ** observable.power
            elif "entropy" in part.exact:  # a free energy may vanish between potential and entropy
                size = size + 2 * part.parameters["temperature"] * np.abs([part.exact["entropy"](t) for t in times])
        found.append(2e-14 * size)
    return found


def cut(problem: mf.Problem, t_end: float) -> float:
    """By how much a box changes mean (in standard deviations) and variance (relatively) of the Gaussian in it, at most.

    A normal law cut off at z standard deviations on one side has its mean off by ``phi(z)`` and its variance by
    ``z phi(z)``; both sides count. Birth-death and linear drifts keep the law an exponential of a square on the box,
    and the mass at any time descends from between its own place and the start's mean: so the box matters as much as
    it cuts off the law of any time.
    """
    (axis,), exact = problem.axes, problem.exact
    z = min(
        min(exact["mean"](t) - axis.lower, axis.upper - exact["mean"](t)) / math.sqrt(exact["variance"](t))
        for t in on_the_way(t_end)
    )
    return math.inf if z < 1 else 2 * z * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _doubt(parts: Sequence[mf.Problem], asked: Sequence[Observable], times: Array) -> list[Array]:
    """What the boxes of the parts change in the closed forms, to first order, and round-off."""
    step = 1e-6
    total = _round_off(parts, asked, times)
    plain = _values(parts, asked, times)
    for k, part in enumerate(parts):
        share = cut(part, float(times[-1]))
        start = part.parameters
        moved = {"mean": start["mean"] + step * math.sqrt(start["variance"])}
        for change in (moved, {"variance": start["variance"] * (1 + step)}):
            shaken = mf.problems.get(part.name, **{**start, **change})
            values = _values([*parts[:k], shaken, *parts[k + 1 :]], asked, times)
            total = [t + share / step * np.abs(v - p) for t, v, p in zip(total, values, plain, strict=True)]
    return total


def _trial(
    kind: str, parts: Sequence[mf.Problem], rng: np.random.Generator, times: Array, descent: float,
) -> Trial:  # fmt: skip
    """A problem that Gaussians solve, in its own box or in a wider one.

    Its own box is widened, too, where the closed form in it is uncertain by more than a tenth of the tolerance.
    """
    asked, tolerance = _observables(_names(parts), rng), _log_uniform(rng, 1e-8, 1e-3)
    wider, width = rng.random() < 0.5, rng.uniform(WIDTH, 15.0)
    t_end = float(times[-1])
    own = [dataclasses.replace(part, t_end=t_end) for part in parts]
    true, doubt = _values(own, asked, times), _doubt(own, asked, times)
    cuts = any(bool((d > 0.1 * tolerance * np.abs(v)).any()) for d, v in zip(doubt, true, strict=True))
    if wider or cuts:
        own = [wide(part, t_end, width) for part in parts]
        doubt = _doubt(own, asked, times)
    box = f"box {width:.3g} sd" if wider or cuts else "own box"
    told = ["strength", "coupling", "temperature", "reaction", "target", "target_mean", "target_variance", "alpha",
            "mean", "variance"]  # fmt: skip
    given = [f"{key}={_short(part.parameters[key])}" for part in parts for key in told if key in part.parameters]
    problem = own[0] if len(own) == 1 else two_wells(own)
    return Trial(
        kind, f"{', '.join(given)}; {box}", problem, tolerance, times, asked, tuple(true), tuple(doubt), descent
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _descent_of_neuron(problem: mf.Problem, t: float) -> float:
    """The mass has moved by ``(a - m_0)(1 - e^{-r t})/r``, the mean r times as far: the difference is birth-death."""
    p = problem.parameters
    r = 1 + p["alpha"] * p["variance"]
    return abs(p["target"] - p["mean"]) * -math.expm1(-r * t) * (1 - 1 / r) / math.sqrt(p["variance"])


def _descent_of_well(problem: mf.Problem, t: float) -> float:
    """Positions shrink by ``e^{-l t}``: so far out was the mean of today."""
    p = problem.parameters
    return abs(problem.exact["mean"](t) * math.exp(p["strength"] * t) - p["mean"]) / math.sqrt(p["variance"])


def _linear_neuron(rng: np.random.Generator) -> Trial:
    alpha, variance, mean = _rate(rng), _log_uniform(rng, 0.01, 1.0), rng.uniform(-3.0, 1.0)
    return _neuron(rng, alpha, variance, mean, _distance(rng, math.sqrt(variance), 21.0), _time(rng))


def _neuron_from_tails(rng: np.random.Generator) -> Trial:
    """The distance is such that the mass descends from 4 to 18 standard deviations away."""
    variance, mean, t = _log_uniform(rng, 0.01, 1.0), rng.uniform(-3.0, 1.0), _time(rng, 0.3)
    alpha = _log_uniform(rng, 0.5 / variance, 100.0)
    r = 1 + alpha * variance
    descent = rng.uniform(4.0, 18.0) * math.sqrt(variance)
    return _neuron(rng, alpha, variance, mean, descent / (-math.expm1(-r * t) * (1 - 1 / r)), t)


def _neuron(rng: np.random.Generator, alpha: float, variance: float, mean: float, distance: float, t: float) -> Trial:
    target = mean + (distance if rng.random() < 0.5 else -distance)
    problem = mf.problems.linear_neuron(target, alpha, mean, variance)
    times = _times(rng, t, problem.exact["energy"])
    return _trial("linear neuron", [problem], rng, times, _descent_of_neuron(problem, times[-1]))


def _quadratic_well(rng: np.random.Generator) -> Trial:
    return _in_wells(rng, "quadratic well", [_well(rng, _rate(rng))], _time(rng))


def _two_wells(rng: np.random.Generator) -> Trial:
    alpha = _rate(rng)
    return _in_wells(rng, "two wells, 2-D", [_well(rng, alpha), _well(rng, alpha)], _time(rng))


def _well_from_tails(rng: np.random.Generator) -> Trial:
    """The mean is such that the mass descends from 4 to 18 standard deviations away."""
    variance, strength, t = _log_uniform(rng, 0.01, 1.0), _log_uniform(rng, 0.3, 3.0), _time(rng, 0.3)
    alpha = _log_uniform(rng, 0.5 / variance, 100.0)
    shrinks = 0.5 * alpha * variance * -math.expm1(-2 * strength * t)
    mean = rng.uniform(4.0, 18.0) * math.sqrt(variance) * (1 + 1 / shrinks)
    return _in_wells(rng, "quadratic well", [mf.problems.quadratic_well(strength, alpha, mean, variance)], t)


def _well(rng: np.random.Generator, alpha: float) -> mf.Problem:
    variance = _log_uniform(rng, 0.01, 1.0)
    mean = _distance(rng, math.sqrt(variance), 8.0)
    return mf.problems.quadratic_well(_log_uniform(rng, 0.3, 3.0), alpha, mean, variance)


def _in_wells(rng: np.random.Generator, kind: str, parts: Sequence[mf.Problem], t: float) -> Trial:
    times = _times(rng, t, lambda t: sum(part.exact["energy"](t) for part in parts))
    return _trial(kind, parts, rng, times, max(_descent_of_well(part, times[-1]) for part in parts))


def _langevin(rng: np.random.Generator) -> Trial:
    strength, variance = _log_uniform(rng, 0.3, 3.0), _log_uniform(rng, 0.01, 1.0)
    problem = mf.problems.gaussian_langevin(
        strength, strength * rng.uniform(-0.5, 1.5), _log_uniform(rng, 0.05, 2.0), _rate(rng),
        "balanced" if rng.random() < 0.3 else "free-energy", _distance(rng, math.sqrt(variance), 8.0), variance,
    )  # fmt: skip
    times = _times(rng, _time(rng), lambda t: problem.exact["mean"](t) ** 2)
    return _trial("Gaussian Langevin", [problem], rng, times, 0.0)


def _sampling(rng: np.random.Generator) -> Trial:
    variance = _log_uniform(rng, 0.01, 1.0)
    problem = mf.problems.gaussian_sampling(
        0.0, variance, _distance(rng, math.sqrt(variance), 8.0), _log_uniform(rng, 0.01, 1.0), _rate(rng)
    )
    return _trial("Gaussian sampling", [problem], rng, _times(rng, _time(rng), problem.exact["energy"]), 0.0)


def _single_index(rng: np.random.Generator) -> Trial:
    d = 2.0 if rng.random() < 0.2 else _log_uniform(rng, 2.0, 60.0)
    problem = mf.problems.single_index(k=2, d=d, rate=rng.uniform(0.5, 2.0))
    times = _times(rng, _time(rng), lambda t: 1.0)  # the energy falls like 1/t^2
    asked: tuple[Observable, ...] = (mf.EnergyAt(), mf.Moment("theta", 2))[: 1 + int(rng.integers(2))]
    density = problem.exact["density"]
    second = np.array([circle_integral(density, np.square, t, 0.0, math.pi) for t in times])
    true = (np.array([problem.exact["energy"](t) for t in times]), second)[: len(asked)]
    # the closed form is itself an integral of a hypergeometric function: good to 13 digits
    doubt = tuple(2e-13 * np.abs(v) for v in true)
    problem = dataclasses.replace(problem, t_end=float(times[-1]))
    name = f"d={d:.6g}, rate={problem.parameters['rate']:.6g}"
    return Trial("single index, k = 2", name, problem, _log_uniform(rng, 1e-8, 1e-3), times, asked, true, doubt)


KNOWN = (
    {"target": 4.0, "alpha": 5.0, "mean": -2.0, "variance": 0.2},
    {"target": 4.0, "alpha": 4.0, "mean": -1.0, "variance": 0.25},
    {"alpha": 30.0, "mean": -3.0, "variance": 0.01},
    {"target": 20.0},
)
"""Linear neurons at t = 1 on which references were once wrong: mass descends from up to 16 standard deviations away."""


def _known(arguments: dict[str, float]) -> Trial:
    problem = mf.problems.linear_neuron(**arguments)
    times, asked = np.array([1.0]), (mf.EnergyAt(),)
    true, doubt = _values([problem], asked, times), _doubt([problem], asked, times)
    name = ", ".join(f"{key}={value:g}" for key, value in arguments.items())
    descent = _descent_of_neuron(problem, 1.0)
    return Trial("once wrong", f"{name}; own box", problem, 1e-5, times, asked, tuple(true), tuple(doubt), descent)


CLASSES: dict[Callable[[np.random.Generator], Trial], int] = {
    _linear_neuron: 50,
    _neuron_from_tails: 45,
    _quadratic_well: 35,
    _well_from_tails: 35,
    _langevin: 45,
    _sampling: 45,
    _two_wells: 15,
    _single_index: 30,
}
"""How many of the 300 are of each class."""


def trials(seed: int, problems: int = PROBLEMS) -> list[Trial]:
    """The known problems, and so many random ones, each from a generator of its own: fewer are the first of more."""
    shares = [problems * count / PROBLEMS for count in CLASSES.values()]
    counts = [max(int(share), 1) for share in shares]
    for k in sorted(range(len(counts)), key=lambda k: counts[k] - shares[k])[: max(problems - sum(counts), 0)]:
        counts[k] += 1
    found = [_known(arguments) for arguments in KNOWN]
    for k, (make, count) in enumerate(zip(CLASSES, counts, strict=True)):
        for i in range(count):
            found.append(make(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k, i)))))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# verdicts
# ---------------------------------------------------------------------------------------------------------------------


class Ended(enum.Enum):
    """How a call ended; the first that applies, from below."""

    REACHED = "reached"
    WARNED = "reached, with a warning"
    NOT_REACHED = "not reached"
    DISAGREEMENT = "Disagreement"
    RAISED = "another error"


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: errors, bars and doubts of all its values, relative to what is true."""

    trial: Trial
    ended: Ended
    seconds: float
    text: str = ""
    labels: tuple[str, ...] = ()
    error: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    bar: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    doubt: Array = dataclasses.field(default_factory=lambda: np.zeros(0))

    @functools.cached_property
    def outside(self) -> bool:
        """Whether a value is farther from the truth than its bar says; one that is no number is."""
        return not bool((self.error <= self.bar + self.doubt).all())

    @property
    def silent(self) -> bool:
        """Wrong, and no word of it."""
        return self.ended is Ended.REACHED and self.outside

    @property
    def ratios(self) -> Array:
        """Bar over error of the values whose error tells something and is known well enough."""
        known = self.doubt <= NEGLIGIBLE * np.maximum(self.error, self.bar)
        seen = known & (self.error > JUDGED_ABOVE)
        return np.asarray(self.bar[seen] / self.error[seen])


def _reference(trial: Trial, budget: float) -> mf.Reference:
    """All calls of the study, in one place."""
    return mf.reference(
        trial.problem, trial.tolerance, trial.asked, times=trial.times.tolist(), budget=budget, cache=False
    )


def ask(trial: Trial, budget: float) -> tuple[mf.Reference | None, Ended, str, float]:
    """What a call gives, how it ends, what it says of that, and its seconds."""
    began = time.perf_counter()
    found, text = None, ""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = _reference(trial, budget)
        text = "; ".join(str(w.message) for w in caught if issubclass(w.category, mf.RunWarning))
        ended = Ended.NOT_REACHED if not found.reached else Ended.WARNED if text else Ended.REACHED
    except mf.Disagreement as error:
        ended, text = Ended.DISAGREEMENT, str(error)
    except Exception as error:
        ended, text = Ended.RAISED, f"{type(error).__name__}: {error}"
    return found, ended, text, time.perf_counter() - began


def judge(trial: Trial, budget: float = BUDGET) -> Outcome:
    """Ask, and hold the answer against the truth."""
    found, ended, text, seconds = ask(trial, budget)
    if found is None:
        return Outcome(trial, ended, seconds, text)
    labels, error, bar, doubt = [], [], [], []
    for certified, true, uncertain in zip(found.observables, trial.true, trial.doubt, strict=True):
        scale = np.maximum(np.abs(true), 1e-300)
        labels += [f"{certified.name} at t = {t:.4g}" for t in trial.times]
        error.append(np.abs(certified.value - true) / scale)
        bar.append(certified.bar / scale)
        doubt.append(uncertain / scale)
    return Outcome(
        trial, ended, seconds, text, tuple(labels),
        np.concatenate(error), np.concatenate(bar), np.concatenate(doubt),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# the study
# ---------------------------------------------------------------------------------------------------------------------


def run(quick: bool, progress: Progress) -> Study:
    """In full the confirming seed, twenty minutes; the quick version has few problems of the tuning seed."""
    if quick:
        return held_against(TUNING, 12, ("linear-neuron", "gaussian-langevin"), quick, progress)
    return held_against(CONFIRMING, PROBLEMS, (*mf.problems.names(), "network"), quick, progress)


def held_against(seed: int, problems: int, shipped: Sequence[str], quick: bool, progress: Progress | None) -> Study:
    """So many random problems from a seed, then the time that calls take on shipped problems."""
    study = Study(
        "References against closed forms",
        f"{problems} random problems with closed forms, and the {len(KNOWN)} on which references were once wrong: "
        "laws with standard deviations of 0.1 to 1, means and targets to 20 of them away and more, rates of "
        "birth-death to 100, times to 10, tolerances of 1e-3 to 1e-8. Half are posed in the problem's own box, unless "
        "what that cuts off changes a closed form by a tenth of the tolerance; the others in boxes of "
        f"{WIDTH:g} to 15 standard deviations around the law of every time. A call has {BUDGET:g} s. The truth has to "
        "be within the bar, unless the call ends in a Disagreement, in a warning or without reaching the tolerance. "
        f"Problems are the same each time (seed {seed}; tuned on {TUNING}, 77 and 20266). How far a call comes in "
        "its budget depends on the machine, and with it whether the tolerance is reached, which level the values and "
        "bars are of, and all seconds.",
        quick,
        progress,
    )
    wanted = trials(seed, problems)
    share = BUDGET * len(wanted) / (BUDGET * len(wanted) + ASKED * len(shipped))
    with study.section(0.0, share):
        outcomes = _outcomes(study, wanted)
    _claims(study, outcomes, problems)
    _by_class(study, outcomes)
    _worst(study, outcomes)
    _figure(study, outcomes)
    if shipped:
        with study.section(share, 1.0):
            _timed(study, shipped)
    study.progress(1.0, "")
    return study


def _outcomes(study: Study, wanted: Sequence[Trial]) -> list[Outcome]:
    """What became of each, once one of each kind has had what it runs compiled."""
    for trial in {trial.kind: trial for trial in reversed(wanted)}.values():
        study.progress(0.0, "compiling")
        judge(trial, 0.5)
    outcomes = []
    for k, trial in enumerate(wanted):
        study.progress(k / len(wanted), f"{trial.kind}, tolerance {trial.tolerance:.1e}")
        outcomes.append(judge(trial))
    return outcomes


def _claims(study: Study, outcomes: Sequence[Outcome], problems: int) -> None:
    """What is claimed, and how the calls ended."""
    source, count = "closed forms", len(outcomes)
    silent = [o for o in outcomes if o.silent]
    raised = [o for o in outcomes if o.ended is Ended.RAISED]
    hard = sum(o.trial.descent > HARD for o in outcomes)
    ratios = np.concatenate([o.ratios for o in outcomes])
    plain = np.concatenate([o.ratios for o in outcomes if o.ended is Ended.REACHED] or [np.zeros(0)])
    study.at_least("problems", "what is claimed", problems + len(KNOWN), count)
    claim = f"of them with mass that descends from beyond {HARD:g} standard deviations"
    note = "by the draw of the problems alone"
    study.at_least(claim, "closed forms of the flow", problems // 6, hard, note=note)
    names = "; ".join(f"{o.trial.kind}: {o.trial.name}" for o in silent[:10])
    study.at_most("problems that are wrong in silence", source, 0, len(silent), note=names)
    texts = "; ".join(f"{o.trial.name}: {o.text}" for o in raised[:3])
    study.at_most("problems that end in another error", source, 0, len(raised), note=texts)
    note = f"{len(ratios)} values whose error is above {JUDGED_ABOVE:g}"
    study.at_most("median of bar over error", source, MEDIAN, _quantile(ratios, 0.5), note=note)
    claim = "bar over error, of 95 % of the values at most"
    study.at_most(claim, source, NEARLY_ALL, _quantile(ratios, 0.95), note="however the call ended")

    note = f"{len(plain)} values"
    study.report("median of bar over error, reached without a warning", source, _quantile(plain, 0.5), note=note)
    study.report("the same of 95 % of the values at most", source, _quantile(plain, 0.95))
    for ended in Ended:
        share = float(np.mean([o.ended is ended for o in outcomes]))
        study.report(f"share of calls that end: {ended.value}", source, share)
    said = float(np.mean([o.outside and not o.silent for o in outcomes]))
    study.report("share of calls outside the bar with a word of it", source, said, note="not reached, or a warning")
    warned = float(np.mean([o.ended is Ended.WARNED and not o.outside for o in outcomes]))
    study.report("share of calls warned of though the truth is inside the bar", source, warned)
    study.report(f"longest call, seconds (budget {BUDGET:g})", source, max(o.seconds for o in outcomes))


def _quantile(values: Array, q: float) -> float:
    """A value that occurs, so that infinite ones do no harm below it."""
    return float(np.quantile(values, q, method="inverted_cdf")) if len(values) else math.nan


def _by_class(study: Study, outcomes: Sequence[Outcome]) -> None:
    lines = []
    for kind in dict.fromkeys(o.trial.kind for o in outcomes):
        some = [o for o in outcomes if o.trial.kind == kind]
        ratios = np.concatenate([o.ratios for o in some])
        counts = [sum(o.ended is ended for o in some) for ended in Ended]
        lines.append(
            (kind, len(some), sum(o.trial.descent > HARD for o in some), *counts, sum(o.silent for o in some),
             f"{_quantile(ratios, 0.5):.2g}", f"{_quantile(ratios, 0.95):.2g}", f"{sum(o.seconds for o in some):.0f}")
        )  # fmt: skip
    ends = tuple(ended.value for ended in Ended)
    header = ("class", "problems", "hard", *ends, "wrong in silence", "bar/error", "95 %", "seconds")
    study.table("By class of problem", header, lines)


def _worst(study: Study, outcomes: Sequence[Outcome], most: int = 15) -> None:
    """The values that are farthest outside their bars, the silent ones first, and those nearest to the bar inside."""
    found = []
    for o in outcomes:
        if len(o.error):
            margin = o.error / np.maximum(o.bar + o.doubt, 1e-300)
            k = int(np.argmax(np.where(np.isnan(margin), np.inf, margin)))
            found.append((o.silent, margin[k], o, k))
    found.sort(key=lambda line: (not line[0], -np.nan_to_num(line[1], nan=np.inf)))
    lines = [
        (f"{o.trial.kind}: {o.trial.name}", o.labels[k], f"{o.trial.tolerance:.1e}", f"{o.trial.descent:.1f}",
         "**wrong in silence**" if silent else o.ended.value, f"{o.error[k]:.2e}", f"{o.bar[k]:.2e}", f"{margin:.3g}")
        for silent, margin, o, k in found[:most]
    ]  # fmt: skip
    header = ("problem", "value", "tolerance", "descent, sd", "ended", "error", "bar", "error/bar")
    study.table("Worst cases", header, lines, "Relative to the true value; the worst value of each problem.")


def _figure(study: Study, outcomes: Sequence[Outcome]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.4, 5.2), constrained_layout=True)
    low, high = 1e-16, 10.0
    groups = [
        ("wrong in silence", "red", "X", [o for o in outcomes if o.silent]),
        *((ended.value, colour, marker, [o for o in outcomes if o.ended is ended and not o.silent])
          for ended, colour, marker in ((Ended.REACHED, "tab:blue", "o"), (Ended.WARNED, "tab:orange", "^"),
                                        (Ended.NOT_REACHED, "tab:gray", "s"))),
    ]  # fmt: skip
    for label, colour, marker, some in groups[::-1]:
        if some:
            error, bar = (np.clip(np.concatenate([getattr(o, n) for o in some]), low, high) for n in ("error", "bar"))
            label = f"{label} ({len(some)})"
            axes.loglog(error, bar, marker, ms=7 if marker == "X" else 4, color=colour, alpha=0.7, mew=0, label=label)
    x = np.array([low, high])
    axes.loglog(x, x, "k-", lw=1)
    axes.loglog(x, MEDIAN * x, "k:", lw=1)
    axes.set(xlabel="true error", ylabel="bar", xlim=(low / 2, 2 * high), ylim=(1e-14, 2 * high))
    figure.legend(fontsize="small", loc="outside right center", title="ended (calls)")
    caption = (
        "Each value of each call, relative to the true one; larger than 10 is drawn at 10. Below the full line the bar "
        f"is too short; the dotted one is {MEDIAN:g} times as high. Calls that end in Disagreement give no values."
    )
    study.figure("scatter", caption, figure)


def _shipped(name: str) -> mf.Problem:
    """A problem by its name, those that need data with a little of it."""
    if name == "network":
        x = np.linspace(-2.0, 2.0, 8)
        return mf.problems.network(x, np.sin(x), bias=False, alpha=1.0, t_end=2.0)
    return mf.problems.get(name)


def _timed(study: Study, names: Sequence[str]) -> None:
    """How long calls take that could use more than they are given.

    The second call is what counts where the first one takes too long: that one may have had to compile.
    """
    lines, longest, raised = [], 0.0, []
    for k, name in enumerate(names):
        study.progress(k / len(names), f"{name}, {ASKED:g} s")
        problem = _shipped(name)
        trial = Trial("shipped", name, problem, 1e-9, np.array([problem.t_end]), (mf.EnergyAt(),), (), ())
        for _ in range(2):
            found, ended, text, seconds = ask(trial, ASKED)
            if seconds <= ALLOWED:
                break
        longest = max(longest, round(seconds, 2))
        raised += [name] if ended is Ended.RAISED else []
        bar = f"{found.observables[0].relative:.1e}" if found is not None else ""
        lines.append((name, round(seconds, 2), ended.value, bar, text))
    claim = f"seconds that a call with a budget of {ASKED:g} takes"
    study.at_most(claim, "the budget, and a second", ALLOWED, longest, note=f"{len(lines)} problems")
    claim = "of these calls, those that end in another error"
    study.at_most(claim, "the package's problems", 0, len(raised), note=", ".join(raised))
    study.table(
        f"Calls with a budget of {ASKED:g} s, tolerance 1e-9",
        ("problem", "seconds", "ended", "relative bar", "saying"),
        lines,
    )


if __name__ == "__main__":
    from validation._runner import print_study

    began = time.perf_counter()
    found = held_against(TUNING, int(sys.argv[1]) if len(sys.argv) > 1 else 60, (), False, None)
    print_study("closed-forms", found, time.perf_counter() - began)
    for table in found.tables:
        print("\n".join(" | ".join(map(str, line)) for line in (table.header, *table.rows)), end="\n\n")
