"""What the gaps of a comparison look like together, and the smallest errors that it would have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfpde.support.arrays import Array
from mfpde.verification.comparison.findings import Finding
from mfpde.verification.comparison.mean_field import Quantity
from mfpde.verification.comparison.replicas import Replicas
from mfpde.verification.comparison.sensitivity import Fault, Sensitivities
from mfpde.verification.estimates import MARGIN, Estimate, combine, intercept

__all__ = ["Fit", "Gaps", "VisibleError", "explanation", "visible_errors"]


NOTHING = 1e-6
"""Changes below this fraction of the scale are none."""
LARGEST = math.log(8.0)
"""Logarithm of the largest factor that is looked for."""
ROUNDS = 8
LIKELY = 2.0
"""The score that a fit needs to explain gaps which are significant themselves."""
RIVAL = 2.0
"""An explanation divides the misfit by so much at least; others within this factor of the best are named too."""


@dataclass(frozen=True)
class VisibleError:
    """The smallest error of a kind that a comparison would have shown.

    Attributes
    ----------
    size : float
        Relative: 0.02 is 2 %.
    observable : str
        The observable that shows it; "all together" for the fit.
    time : float
        When; NaN for the fit.
    """

    size: float
    observable: str
    time: float


@dataclass(frozen=True)
class Fit:
    """The factor that makes the mean field fit the particles' limit best, all observables and times together.

    Attributes
    ----------
    factor, error : float
        The factor and its standard error.
    z : float
        The score of its distance from 1, beyond what is allowed.
    misfit : float
        The sum of squares of what is left of the gaps, each in units of its variance and allowance.
    explains : bool
        Nothing significant is left of any gap, or less than a fiftieth of the misfit.
    """

    factor: float
    error: float
    z: float
    misfit: float
    explains: bool


def visible_errors(
    findings: Mapping[str, Finding],
    times: Array,
    sensitivities: Sensitivities,
    gaps: Gaps | None,
    threshold: float,
) -> dict[Fault, VisibleError]:
    """For each fault the smallest one that would have been significant somewhere, in 999 of 1000 draws.

    An error shows where the change of an observable exceeds what is `visible` in it, or in the fit of that error. Not
    in ``W1``: the mean square of it grows by less than the square of a small shift, that of ``W2`` by just as much.
    """
    result = {}
    for fault in sensitivities.faults:
        candidates = []
        for name, slope in sensitivities.slopes[fault].items():
            finding = findings[name]
            if name.startswith(Quantity.W1.value):
                continue
            slope = np.where(np.abs(slope) > NOTHING * finding.scale, np.abs(slope), np.nan)
            least = finding.visible / slope
            if np.isfinite(least).any():
                j = int(np.nanargmin(np.nanmin(np.where(np.isfinite(least), least, np.inf), axis=1)))
                candidates.append(VisibleError(float(np.nanmin(least[j])), name, float(times[j])))
        if gaps is not None and (shown := gaps.visible(fault, threshold)) is not None:
            candidates.append(VisibleError(shown, "all together", math.nan))
        if candidates:
            result[fault] = min(candidates, key=lambda found: found.size)
    return result


class Gaps:
    """The limits of all observables with a sign as one vector, with the errors they have together.

    Parameters
    ----------
    findings : mapping of str to Finding
    times : array, shape (m,)
    followed : array of int
        The numbers of the times that count: those whose limit particles can follow.
    replicas : Replicas
        All gaps.
    sensitivities : Sensitivities
    """

    def __init__(
        self,
        findings: Mapping[str, Finding],
        times: Array,
        followed: NDArray[np.intp],
        replicas: Replicas,
        sensitivities: Sensitivities,
    ) -> None:
        self.names, self.followed = [name for name, f in findings.items() if f.signed], followed
        self.sensitivities = sensitivities
        self._combine(times, replicas)
        self.limit = np.sum([g.mean(axis=0) for g in self.groups], axis=0)
        self.allowance = self._vector({name: findings[name].allowance for name in self.names})
        visible = {name: findings[name].visible - MARGIN * findings[name].limit_error for name in self.names}
        self.insignificant = self._vector(visible)
        self.scale = self._vector({n: np.full(findings[n].limit.shape, findings[n].scale) for n in self.names})
        variance = np.sum([g.var(axis=0, ddof=1) / len(g) for g in self.groups], axis=0)
        self.variance = variance + self.allowance**2 + (1e-12 * self.scale) ** 2 + 1e-300
        self.slopes = {fault: self._vector(sensitivities.slopes[fault]) for fault in sensitivities.faults}

    def _combine(self, times: Array, replicas: Replicas) -> None:
        """Groups of independent vectors: their means add up to the limit for many particles and short steps."""
        sizes, control = np.array(replicas.sizes, dtype=float), replicas.control
        groups = [replicas.groups[n] for n in replicas.sizes]
        used = [k for k, group in enumerate(groups) if len(group[self.names[0]]) > 1]
        rows = [self._vector(groups[k]) for k in used]
        weights = intercept(1.0 / sizes[used], np.array([len(y) for y in rows]) * sizes[used])
        self.groups = [w * y for w, y in zip(weights, rows, strict=True)]
        if control is None or not len(control[self.names[0]]) > 1 or used[-1] != len(groups) - 1:
            return
        # at the start there is no step to correct for
        moved = {n: np.zeros(groups[0][n].shape[1:]) + (times[:, None] > 0) for n in self.names}
        first, other = self._vector(moved) / (replicas.control_ratio - 1.0), self._vector(control)
        if len(other) == len(rows[-1]):
            self.groups[-1] = self.groups[-1] + first * (rows[-1] - other)
        else:
            self.groups[-1] = self.groups[-1] + first * rows[-1]
            self.groups.append(-first * other)

    def _vector(self, parts: Mapping[str, Array]) -> Array:
        """Times that count and components of the observables, flat; replicas, where there are any, first."""
        chosen = [parts[name][..., self.followed, :] for name in self.names]
        flat = [part.reshape(*part.shape[:-2], -1) for part in chosen]
        return np.concatenate(flat, axis=-1).astype(float)

    def misfit(self, left: Array) -> float:
        """The sum of squares in units of what each gap may be."""
        return float(np.sum(left**2 / self.variance))

    def _along(self, slope: Array, change: Array) -> tuple[Estimate, float]:
        """The multiple of a direction in the gaps less a change; what is allowed of it.

        Every gap is weighted by its own variance. Weights by their covariance would be better, had it not to be
        estimated from fewer replicas than there are gaps: what seems to have no variance then gets all the weight.
        """
        weights = slope / self.variance
        weights = weights / float(slope @ weights)
        fitted = combine([g @ weights for g in self.groups], 1e-12)
        value = fitted.value - float(weights @ change)
        return Estimate(value, fitted.error, fitted.freedom), float(np.abs(weights) @ self.allowance)

    def visible(self, fault: Fault, threshold: float) -> float | None:
        """The smallest relative error of a kind that its fit shows in 999 of 1000 draws; None if it changes nothing."""
        if not self.answers(fault):
            return None
        slope = self.slopes[fault]
        estimate, allowed = self._along(slope, np.zeros_like(slope))
        return allowed + estimate.beyond(threshold)

    def answers(self, fault: Fault) -> bool:
        """Whether an error of the kind changes anything."""
        return bool(np.any(np.abs(self.slopes[fault]) > NOTHING * self.scale))

    def fit(self, fault: Fault) -> Fit:
        """To first order."""
        return self._fit(fault, 0.0, np.zeros_like(self.limit), self.slopes[fault])[0]

    def _fit(self, fault: Fault, at: float, change: Array, slope: Array) -> tuple[Fit, float]:
        """From the change that a factor, whose logarithm is `at`, makes; also the step to the next one."""
        estimate, allowed = self._along(slope, change)
        step = estimate.value
        left = self.limit - change - step * slope
        factor = math.exp(min(max(at + step, -LARGEST), LARGEST))
        z = Estimate(at + step, estimate.error, estimate.freedom).z(allowed, one_sided=False)
        misfit = self.misfit(left)
        explains = bool(np.all(np.abs(left) <= self.insignificant)) or misfit < self.misfit(self.limit) / 50
        return Fit(factor, factor * estimate.error, z, misfit, explains), step

    def refine(self, fault: Fault) -> Fit:
        """With runs at the factors found, until these stay (a secant method).

        Raises
        ------
        ValueError, RuntimeError, ArithmeticError
            If the mean field cannot be computed.
        """
        at, change, slope = 0.0, np.zeros_like(self.limit), self.slopes[fault]
        for _ in range(ROUNDS):
            fit, step = self._fit(fault, at, change, slope)
            target = min(max(at + min(max(step, -1.0), 1.0), -LARGEST), LARGEST)
            if (at != 0 and abs(step) < max(0.3 * fit.error / fit.factor, 1e-4)) or target == at:
                break
            new = self._vector(self.sensitivities.change(fault, math.exp(target)))
            if abs(target - at) > 1e-3:
                slope = (new - change) / (target - at)
            at, change = target, new
        return fit


def explanation(gaps: Gaps, fits: dict[Fault, Fit], noiseless: bool) -> str:
    """What gaps that are there look like, in words; empty if no single fault explains them.

    Fits with a score beyond `LIKELY` are refined, and replace those given.
    """
    found, before = [], gaps.misfit(gaps.limit)
    for fault in [fault for fault in fits if fits[fault].z > LIKELY]:
        try:
            refined = gaps.refine(fault)
        except (ValueError, RuntimeError, ArithmeticError):
            continue
        if refined.misfit < before:
            fits[fault] = refined
        if refined.explains and refined.z > LIKELY and RIVAL * refined.misfit < before:
            found.append(fault)
    found.sort(key=lambda fault: fits[fault].misfit)
    near = [fault for fault in found if fits[fault].misfit <= RIVAL * fits[found[0]].misfit]
    return " or ".join(in_words(fault, fits[fault], noiseless) for fault in near)


def in_words(fault: Fault, fit: Fit, noiseless: bool) -> str:
    """A fault that has the factor of a fit."""
    digits = min(4, max(2, math.ceil(-math.log10(max(fit.error, 1e-9)))))
    factor = f"{fit.factor:.{digits}f}"
    near = min(max(3 * fit.error / fit.factor, 0.02), 0.1)
    twice, half = (abs(math.log(fit.factor / value)) < near for value in (2.0, 0.5))
    if fault is Fault.TIME:
        hint = ": loss without 1/2?" if twice and noiseless else ": a factor 1/2 too many?" if half else ""
        return f"the mean field at {factor} t{hint}"
    if fault is Fault.START:
        return f"a start {factor} times as wide"
    if fault is Fault.TEMPERATURE:
        hint = ": noise of sqrt(tau dt) instead of sqrt(2 tau dt)?" if half else ""
        return f"a temperature {factor} times as high{hint}"
    what = "an interaction" if fault is Fault.INTERACTION else "a birth-death rate"
    return f"{what} {factor} times as {'strong' if fault is Fault.INTERACTION else 'high'}"
