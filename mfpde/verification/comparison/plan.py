"""Which replicas and sizes would decide what a comparison leaves open, from the variances that it has seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mfpde.support.arrays import Array
from mfpde.verification.comparison.findings import ANCESTORS, DOUBT, FEWEST, Finding, Verdict
from mfpde.verification.estimates import line_weights

__all__ = ["Plan", "plan"]


FACTORS = (1, 2, 4, 8, 16, 32, 64)
"""More replicas that are considered; and a larger size, so many times as large."""
LARGER = (1, 4, 16, 64)
GOOD_REPLICAS = 32


@dataclass(frozen=True)
class Plan:
    """What to run next.

    Attributes
    ----------
    sizes : tuple of int
    replicas : int
        Of every size.
    control : bool
        Whether a run with other steps at the largest size is missing.
    observable, time : str, float
        Which observable needs it most, and when.
    work : float
        Particles altogether, in units of those that were compared; infinity where no plan within 64 times as many
        replicas and sizes decides.
    aim : str
        What it is to show.
    """

    sizes: tuple[int, ...]
    replicas: int
    control: bool
    observable: str
    time: float
    work: float
    aim: str

    def __str__(self) -> str:
        ns = ", ".join(map(str, self.sizes))
        where = f"{self.observable} at t = {self.time:g} needs it most" if self.observable else ""
        if not math.isfinite(self.work):
            return f"no replicas and particles within 64 times as many {self.aim}: {where}"
        parts = [f"{self.replicas} replicas of n = {ns} ({self.work:.2g} times the particles) {self.aim}"]
        if where:
            parts.append(where)
        if self.control:
            parts.append(f"a run with steps of twice the length at n = {self.sizes[-1]} is missing")
        return "; ".join(parts)


@dataclass(frozen=True)
class _Design:
    """Sizes and replicas of each that could be compared."""

    sizes: Array
    replicas: Array

    @property
    def work(self) -> float:
        return float(self.sizes @ self.replicas)

    def errors(self, signed: bool) -> list[float]:
        """Standard errors of the limits along each line, up to one factor: variances are those of 1/n, or of 1/n^2."""
        x = 1.0 / self.sizes
        variance = (x if signed else x**2) / self.replicas
        lines = line_weights(x, 1.0 / variance, 0.25 if signed else 0.5)
        return [math.sqrt(float(weights**2 @ variance)) for weights in lines]


class Compared(Protocol):
    """What a plan asks of a comparison: how it was made, what it found, and at which level it judged."""

    @property
    def times(self) -> Array: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def replicas(self) -> tuple[int, ...]: ...

    @property
    def control_dt(self) -> float | None: ...

    @property
    def findings(self) -> Mapping[str, Finding]: ...

    @property
    def threshold(self) -> float: ...

    @property
    def verdict(self) -> Verdict: ...

    @property
    def ancestral_mass(self) -> Array | None: ...


def plan(found: Compared, limiting: str) -> Plan:
    """The least work that decides every observable; that halves the limit, on `limiting`, where all are consistent."""
    sizes, replicas = np.array(found.sizes, dtype=float), np.array(found.replicas, dtype=float)
    control = found.control_dt is None and bool(found.times[-1] > 0)
    open_ = [
        (f, j) for f in found.findings.values() for j, verdict in enumerate(f.verdicts) if verdict is Verdict.UNDECIDED
    ]
    if replicas.max() < 2 or len(sizes) < 2:
        more = tuple(found.sizes) if len(sizes) > 1 else (found.sizes[0], 8 * found.sizes[0])
        count = max(GOOD_REPLICAS, int(replicas.max()))
        work = count * sum(more) / float(sizes @ replicas)
        return Plan(more, count, control, "", math.nan, work, "tell what falls with n, and have error bars")
    if (followed := _followed(found, open_, control)) is not None:
        return followed
    now = _Design(sizes, replicas)
    aim = "decide" if open_ else "halve the limit" if found.verdict is Verdict.CONSISTENT else "halve the errors"
    if not open_:
        f = found.findings[limiting]
        open_ = [(f, int(np.nanargmax(f.unseen)))]
    designs = sorted((_larger(now, more, n) for more, n in itertools.product(FACTORS, LARGER)), key=lambda d: d.work)
    best, hardest = None, open_[0]
    for design in designs:
        left = [case for case in open_ if not _decides(*case, now, design, found.threshold, aim)]
        if not left:
            best = design
            break
        hardest = left[0]
    chosen = best or designs[-1]
    return Plan(
        tuple(int(n) for n in chosen.sizes),
        int(chosen.replicas.max()),
        control,
        hardest[0].name,
        float(found.times[hardest[1]]),
        math.inf if best is None else chosen.work / now.work,
        aim,
    )


def _followed(found: Compared, open_: list[tuple[Finding, int]], control: bool) -> Plan | None:
    """Sizes that have particles where the mass descends from; None where those compared have, or nothing is seen."""
    source = found.ancestral_mass
    seen = [] if source is None else [(f, j) for f, j in open_ if max(f.z[j], f.slope_z[j]) > found.threshold]
    if source is None or not seen:
        return None
    f, j = min(seen, key=lambda case: source[case[1]])
    if source[j] * min(found.sizes) >= ANCESTORS:
        return None
    factor = ANCESTORS / (source[j] * min(found.sizes)) if source[j] > 0 else math.inf
    sizes = tuple(math.ceil(factor * n) for n in found.sizes) if math.isfinite(factor) else found.sizes
    aim = "have particles where the mass descends from"
    return Plan(sizes, max(found.replicas), control, f.name, float(found.times[j]), factor, aim)


def _larger(now: _Design, more: int, n: int) -> _Design:
    """More replicas everywhere, and one size more."""
    sizes = now.sizes if n == 1 else np.append(now.sizes, n * now.sizes[-1])
    return _Design(sizes, np.full(len(sizes), more * now.replicas.max()))


def _decides(f: Finding, j: int, now: _Design, design: _Design, threshold: float, aim: str) -> bool:
    """Whether a design would settle an observable at a time, if what is seen is what there is."""
    then, before = design.errors(f.signed), now.errors(f.signed)[0]
    limit, error, allowance = f.limit[j], f.limit_error[j], f.allowance[j]
    if not f.signed:  # in squares
        limit, error = limit**2, np.maximum(2 * limit * error, error**2)
    total = math.sqrt(float(np.sum(error**2)))
    if aim != "decide":
        return then[0] <= 0.5 * before
    if design.replicas.max() < FEWEST:
        return False
    excess = float(np.max((np.abs(limit) - allowance) / np.maximum(error, 1e-300)))
    if all(excess * before / e > (threshold if k == 0 else DOUBT) for k, e in enumerate(then)):
        return True
    if f.z[j] > threshold:
        return False
    if f.slope_z[j] > DOUBT:
        gained = math.sqrt(float(design.replicas.max() / now.replicas.max()))
        return f.slope_z[j] * gained * _lever(design) / _lever(now) > threshold
    size = math.sqrt(max(0.0, float(np.sum(limit**2 - error**2)))) if f.signed else max(0.0, float(limit[0]))
    bar = 0.5 * math.sqrt(f.mean_square[0, j]) if f.signed else 0.25 * f.mean_square[0, j]
    bar = max(bar, math.sqrt(float(np.sum(allowance**2))))
    return size + 2 * total * then[0] / before <= bar


def _lever(design: _Design) -> float:
    """How well sizes tell a slope."""
    x = np.log(design.sizes)
    return float(np.linalg.norm(x - x.mean()))
