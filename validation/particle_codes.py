"""Particle codes, right and wrong by a few per cent, held against the mean field by `mf.compare`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import mfpde as mf
from mfpde import Verdict
from mfpde.verification.comparison.diagnosis import in_words
from mfpde.verification.comparison.sensitivity import Fault
from validation._runner import Progress, Study

__all__ = ["CODES", "Code", "compared", "run"]

HEADLINE = "right codes that are inconsistent"

Array = NDArray[np.float64]

SIZES = (50, 200, 800)
REPLICAS = 24
STEP = 0.025
SEED = 771
SOURCE = "by construction: codes of a few lines, written for this study, one number of them wrong"


@dataclass(frozen=True)
class Weighted:
    """Gradient descent with birth-death by weights: four features of a coordinate, fitted to two atoms."""

    times: tuple[float, ...] = (0.0, 1.0, 2.0)
    spread: float = 0.8
    alpha: float = 1.0

    @staticmethod
    def features(x: Array) -> Array:
        return np.stack([np.cos(x), np.sin(x), np.cos(2 * x), np.sin(2 * x)])

    @property
    def targets(self) -> Array:
        return self.features(np.array([-1.2, 1.8])) @ [0.6, 0.4]

    def reference(self) -> mf.Solution:
        def slopes(x: Array) -> tuple[Array]:
            return (np.stack([-np.sin(x), np.cos(x), -2 * np.sin(2 * x), 2 * np.cos(2 * x)]),)

        problem = mf.Problem(
            energy=mf.Features(self.features, mf.SquaredLoss(self.targets, np.ones(4)), slopes),
            axes=[mf.Axis("x", -6, 6)],
            initial=mf.Product(x=stats.norm(0, self.spread)),
            alpha=self.alpha,
            name="weighted",
            exact={"minimum_energy": 0.0},
        )
        return mf.solve(problem, (160,), self.times[-1], save=list(self.times[1:]), progress=False)

    def simulate(self, n: int, count: int, rng: np.random.Generator, fault: Code) -> tuple[list[Array], list[Array]]:
        """Positions at the times, shape (count, m, n), of steps and of steps twice as long; their weights."""
        start = rng.normal(0, self.spread * fault.start, (count, n))
        found: tuple[list[Array], list[Array]] = ([], [])
        for ratio in (1, 2):
            dt, x, log = ratio * STEP, start.copy(), np.zeros((count, n))
            frames, masses = [], []
            for k in range(round(self.times[-1] / dt) + 1):
                w = np.exp(log - log.max(axis=1, keepdims=True))
                w /= w.sum(axis=1, keepdims=True)
                if any(abs(k * dt - t) < 1e-9 for t in self.times):
                    frames.append(x)
                    masses.append(w)
                c, s = np.cos(x), np.sin(x)
                c2, s2 = 2 * c * c - 1, 2 * s * c
                u = np.array([np.sum(w * f, axis=1) for f in (c, s, c2, s2)])
                r = (fault.interaction * u - self.targets[:, None])[:, :, None]
                V = r[0] * c + r[1] * s + r[2] * c2 + r[3] * s2
                slope = -r[0] * s + r[1] * c + 2 * (r[3] * c2 - r[2] * s2)
                x = x - fault.time * dt * slope
                log = log - fault.time * dt * self.alpha * fault.alpha * V
            found[0].append(np.stack(frames, axis=1))
            found[1].append(np.stack(masses, axis=1))
        return found


@dataclass(frozen=True)
class Langevin:
    """Euler-Maruyama for the Langevin dynamics on the circle, with common increments for both steps."""

    times: tuple[float, ...] = (0.0, 1.0, 2.0)
    temperature: float = 0.3

    def reference(self) -> mf.Solution:
        problem = mf.problems.torus_langevin(self.temperature)
        return mf.solve(problem, (200,), self.times[-1], save=list(self.times[1:]), progress=False)

    def simulate(self, n: int, count: int, rng: np.random.Generator, fault: Code) -> tuple[list[Array], None]:
        """Positions at the times, shape (count, m, n), of steps and of steps twice as long."""
        fine = rng.uniform(0, 2 * math.pi, (count, n))
        coarse = fine.copy()
        frames: tuple[list[Array], list[Array]] = ([fine], [coarse])
        size = math.sqrt(2 * self.temperature * fault.time * STEP) * fault.noise
        before = np.zeros_like(fine)
        for k in range(1, round(self.times[-1] / STEP) + 1):
            noise = size * rng.standard_normal(fine.shape)
            fine = fine - fault.time * STEP * self._slope(fine, fault) + noise
            if k % 2 == 0:
                coarse = coarse - 2 * fault.time * STEP * self._slope(coarse, fault) + before + noise
            before = noise
            if any(abs(k * STEP - t) < 1e-9 for t in self.times):
                frames[0].append(fine)
                frames[1].append(coarse)
        return [np.mod(np.stack(run, axis=1), 2 * math.pi) for run in frames], None

    @staticmethod
    def _slope(x: Array, fault: Code) -> Array:
        slope = 2 * np.sin(x) - 3 * np.cos(2 * x + 0.3)
        one = np.exp(1j * x)
        power = np.ones_like(one)
        for k in range(1, 5):
            power = power * one
            slope = slope + fault.interaction * k * np.imag(power.conj() * power.mean(axis=1, keepdims=True))
        return slope


@dataclass(frozen=True)
class Code:
    """A code and what is wrong with it: factors, all 1 for a right one."""

    name: str
    scheme: Weighted | Langevin = field(default_factory=Weighted)
    kind: str = ""
    interaction: float = 1.0
    noise: float = 1.0
    time: float = 1.0
    alpha: float = 1.0
    start: float = 1.0

    @property
    def size(self) -> float:
        """How wrong it is, as a relative error of `kind`."""
        return max(self.interaction, self.noise**2, self.time, self.alpha, self.start) - 1.0


RIGHT = (Code("weights, right"), Code("langevin, right", Langevin()))
CODES = (
    Code("weights, interaction x 1.02", kind="interaction", interaction=1.02),
    Code("weights, interaction x 1.05", kind="interaction", interaction=1.05),
    Code("weights, time x 1.01", kind="time scale", time=1.01),
    Code("weights, time x 1.03", kind="time scale", time=1.03),
    Code("weights, alpha x 1.05", kind="birth-death rate", alpha=1.05),
    Code("weights, start x 1.03", kind="width of the start", start=1.03),
    Code("langevin, noise x 1.05", Langevin(), "temperature", noise=1.05),
    Code("langevin, interaction x 1.05", Langevin(), "interaction", interaction=1.05),
)
DOUBLED = Code("weights, time x 2", kind="time scale", time=2.0)


def compared(code: Code, runs: int, seed: Sequence[int], replicas: int = REPLICAS) -> list[mf.Comparison]:
    """Comparisons of independent runs of a code with its mean field."""
    reference = code.scheme.reference()
    records: list[list[mf.ParticleRecord]] = [[] for _ in range(runs)]
    for n in SIZES:
        rng = np.random.default_rng([*seed, n])
        frames, weights = code.scheme.simulate(n, runs * replicas, rng, code)
        for i, (x, dt) in enumerate(zip(frames, (STEP, 2 * STEP), strict=True)):
            if i == 1 and n != SIZES[-1]:
                continue
            for k, own in enumerate(records):
                part = slice(k * replicas, (k + 1) * replicas)
                w = None if weights is None else weights[i][part]
                own.append(mf.ParticleRecord(x[part, ..., None], np.array(code.scheme.times), w, dt=dt))
    return [mf.compare(reference, own, bootstrap=100, progress=False) for own in records]


def _overlooked(code: Code, found: mf.Comparison) -> bool:
    """Consistent, though an error of that size would have been seen."""
    named = found.visible_errors.get(code.kind)
    return found.verdict is Verdict.CONSISTENT and not (named is not None and named.size > code.size)


def run(quick: bool, progress: Progress) -> Study:
    """All codes; minutes in full."""
    study = Study(
        "Particle codes",
        f"Two codes of a few lines, weights for birth-death and Langevin noise, with n = {', '.join(map(str, SIZES))}, "
        f"{REPLICAS} replicas and a control run of the step with common random numbers. Right ones must not be called "
        "inconsistent; wrong ones must not be called consistent unless the comparison itself says that an error of "
        "that size would not have been seen.",
        quick,
        progress,
    )
    runs = dict.fromkeys(RIGHT, 10 if quick else 100) | dict.fromkeys((*CODES, DOUBLED), 2 if quick else 5)
    found: dict[Code, list[mf.Comparison]] = {}
    for i, (code, count) in enumerate(runs.items()):
        study.progress(i / len(runs), code.name)
        found[code] = compared(code, count, [SEED, i])

    verdicts = Counter(one.verdict for code in RIGHT for one in found[code])
    total = sum(verdicts.values())
    study.claim(f"right codes that are inconsistent, of {total}", SOURCE, 0, verdicts[Verdict.INCONSISTENT])
    study.report(f"right codes that are undecided, of {total}", SOURCE, verdicts[Verdict.UNDECIDED])
    for code in CODES:
        overlooked = sum(_overlooked(code, one) for one in found[code])
        study.at_most(f"{code.name}: consistent, with a limit below that", SOURCE, 0, overlooked)
    said = sum(one.looks_like == in_words(Fault.TIME, one.fits[DOUBLED.kind], True) for one in found[DOUBLED])
    said = min(said, sum(one.looks_like.endswith("loss without 1/2?") for one in found[DOUBLED]))
    claim = f"{DOUBLED.name}: comparisons that name it, and nothing else"
    study.at_least(claim, SOURCE, len(found[DOUBLED]), said)
    told = [(code, one.fits[code.kind]) for code in (*CODES, DOUBLED) for one in found[code] if code.kind in one.fits]
    covered = sum(abs(fit.factor - 1.0 - code.size) < 3 * fit.error for code, fit in told)
    claim = f"fitted factors within 3 standard errors of those planted, of {len(told)}"
    study.at_least(claim, SOURCE, 0.95 * len(told), covered, note="errors are of few replicas")
    study.table(
        "Verdicts",
        ["code", "comparisons", *(verdict.value for verdict in Verdict), "error", "limit named", "factor fitted"],
        [_line(code, some) for code, some in found.items()],
        "Limits and factors: medians, of the kind of error that was planted.",
    )
    study.progress(1.0, "")
    return study


def _line(code: Code, found: Sequence[mf.Comparison]) -> list[str | float | int]:
    """A code's line in the table: verdicts, its error, and the medians of what the comparisons say of it."""
    count = Counter(one.verdict for one in found)
    named = [one.visible_errors[code.kind].size for one in found if code.kind in one.visible_errors]
    factors = [one.fits[code.kind].factor for one in found if code.kind in one.fits]
    middle = [float(np.median(values)) if values else math.nan for values in (named, factors)]
    return [code.name, len(found), *(count[verdict] for verdict in Verdict), code.size, *middle]
