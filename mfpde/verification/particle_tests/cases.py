"""Cases of a test: the replicas that are handed in, in whatever form, beside the numbers of the reference.

`make_case` sorts both by observable and size; `tolerances_of` adds up what bars and stated errors allow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfpde.support.arguments import entries, numbers, shown, whole
from mfpde.support.arrays import Array
from mfpde.verification.observables import as_times
from mfpde.verification.particle_tests.recorder import (
    ParticleRecorder,
    certified_named,
    not_of_particles,
    observable_of,
    read_array,
    restricted,
    same_time,
)
from mfpde.verification.particle_tests.report import Report, Row, Slope
from mfpde.verification.references.certified import Certified, Reference
from mfpde.verification.references.refinement import largest

__all__ = ["Case", "Runs", "make_case", "stated_arrays", "tolerances_of"]


@dataclass
class Runs:
    """Replicas of one size: an array (R, m, ...) for each observable, what else there is to check, and rounding."""

    n: int | None
    values: dict[str, Array]
    recorders: list[ParticleRecorder] = field(default_factory=list)
    rounding: dict[str, float] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """The least, over observables."""
        return min(len(values) for values in self.values.values())

    @property
    def effective(self) -> float:
        """Particles of all replicas, those with weights by their effective number; infinite if not known."""
        if self.n is None:
            return math.inf
        if not self.recorders:
            return float(self.n * self.replicas)
        return sum(min(float(w.sum() ** 2 / (w @ w)) for w in recorder.weights) for recorder in self.recorders)


@dataclass
class Case:
    """What is compared with what."""

    reference: Reference
    targets: dict[str, Certified]
    left_out: dict[str, str]
    sizes: list[Runs]

    @property
    def numbers(self) -> int:
        """How many are compared."""
        return sum(target.value.size for target in self.targets.values())

    def report(self, rows: Iterable[Row], slopes: Iterable[Slope], false_alarm: float | None) -> Report:
        """What was found."""
        runs = tuple((runs.n, runs.replicas) for runs in self.sizes)
        return Report(self.reference.name, tuple(rows), tuple(slopes), self.left_out, runs, false_alarm)


def make_case(reference: Any, values: Any, observables: Any, times: Any, *, at_least: int = 1) -> Case:
    """All sizes, from the smallest to the largest, in whatever form they come."""
    if not isinstance(reference, Reference):
        raise ValueError(f"the first argument must be a Reference, not {shown(reference)}; see mfpde.load_reference")
    by_size = isinstance(values, Mapping) and len(values) > 0 and all(whole(key) for key in values)
    if at_least > 1 and not by_size:
        raise ValueError(f"runs_by_size must map numbers of particles to replicas, not {shown(values)}")
    given = dict(values) if by_size else {None: values}
    if len(given) < at_least:
        raise ValueError(f"a rate needs {at_least} sizes or more, not {len(given)}; best a factor of 8 or more apart")
    if by_size and min(given) < 1:
        raise ValueError(f"a number of particles must be at least 1, not {min(given)}")
    sizes = [(n, _listed(given[n], n)) for n in (sorted(given) if by_size else given)]
    first = sizes[0][1][0]
    kind = ParticleRecorder if isinstance(first, ParticleRecorder) else Mapping
    if not all(isinstance(run, kind) for _, runs in sizes for run in runs):
        raise ValueError("replicas must all be mappings of names to arrays, or all ParticleRecorder")
    targets, left_out = _targets(reference, observables, times, [run for _, runs in sizes for run in runs])
    take = _recorded if kind is ParticleRecorder else _given
    return Case(reference, targets, left_out, [take(reference, targets, runs, n) for n, runs in sizes])


def _listed(given: Any, n: int | None) -> list[Any]:
    """The replicas of one size."""
    if isinstance(given, (ParticleRecorder, Mapping)):
        return [given]
    found = [] if isinstance(given, (str, bytes)) or not isinstance(given, Iterable) else list(given)
    if not (found and all(isinstance(run, (ParticleRecorder, Mapping)) for run in found)):
        where = "values" if n is None else f"the replicas of {n} particles"
        raise ValueError(f"{where} must be a ParticleRecorder or a mapping of names to arrays, or several of them")
    return found


def _targets(
    reference: Reference, observables: Any, times: Any, runs: Sequence[Any]
) -> tuple[dict[str, Certified], dict[str, str]]:
    """What is compared, by name; and what is not, and why."""
    chosen = None
    if observables is not None:
        chosen = [certified_named(reference, name).name for name in entries(observables, "observables")]
    at = None if times is None else as_times(times)
    if at is not None:
        known = {float(t) for found in reference.observables for t in found.times}
        for t in at:
            if not any(same_time(t, other) for other in known):
                raise ValueError(f"the reference has no t = {t:g}; it has {', '.join(f'{t:g}' for t in sorted(known))}")
    names = None
    if isinstance(runs[0], Mapping):
        names = [certified_named(reference, name).name for name in runs[0]]
        if any(set(run) != set(names) for run in runs):
            raise ValueError("all replicas of all sizes must have the same observables")
    targets, left_out = {}, {}
    for found in reference.observables:
        if chosen is not None and found.name not in chosen:
            left_out[found.name] = "not asked for"
            continue
        if names is not None and found.name not in names:
            left_out[found.name] = "no values are given"
            continue
        if names is None:
            reason = not_of_particles(reference.problem, observable_of(found))
            if reason:
                left_out[found.name] = reason
                continue
            end = [run for run in runs if math.inf not in run.times]
            if end and not np.all(np.isfinite(found.times)):
                left_out[f"{found.name} at t = inf"] = "the end state is not recorded"
                found = restricted(found, [t for t in found.times if math.isfinite(t)])
        if at is not None:
            found = restricted(found, at)
        if len(found.times) > 0:
            targets[found.name] = found
        else:
            left_out.setdefault(found.name, "not at these times")
    if not targets:
        raise ValueError(f"nothing is left to compare: {'; '.join(f'{n}: {why}' for n, why in left_out.items())}")
    return targets, left_out


def _given(reference: Reference, targets: Mapping[str, Certified], given: Sequence[Any], n: int | None) -> Runs:
    """Replicas that are mappings of names to arrays, of the shapes of the reference."""
    runs = Runs(n, {})
    for name, target in targets.items():
        shape = target.value.shape
        arrays = []
        for run in given:
            array, eps = read_array(run[name], f"values[{name!r}]")
            runs.rounding[name] = max(runs.rounding.get(name, 0.0), eps)
            several = len(given) == 1 and array.ndim == len(shape) + 1 and array.shape[1:] == shape and len(array)
            if not several and array.shape != shape:
                wanted = f"{shape} or (replicas, {', '.join(map(str, shape))})" if len(given) == 1 else f"{shape}"
                at = ", ".join(f"{t:g}" for t in target.times)
                raise ValueError(f"{name!r} must have shape {wanted}, of the times {at}; not {array.shape}")
            arrays.append(array if several else array[None])
        runs.values[name] = np.concatenate(arrays)
    return runs


def _recorded(reference: Reference, targets: Mapping[str, Certified], recorders: Sequence[Any], n: int | None) -> Runs:
    """Replicas that are recorders, of the problem of the reference and with one number of particles."""
    for recorder in recorders:
        other = recorder.problem
        if other is not reference.problem and other.fingerprint() != reference.problem.fingerprint():
            raise ValueError(f"a recorder is of another problem {other.name!r} than the reference; see the parameters")
    sizes = {recorder.n for recorder in recorders}
    if len(sizes) > 1 or (n is not None and sizes != {n}):
        found = " and ".join(map(str, sorted(sizes)))
        raise ValueError(f"replicas of one size have {found} particles" + ("" if n is None else f", under the key {n}"))
    runs = Runs(sizes.pop(), {}, list(recorders))
    eps = max(max(recorder.rounding, recorder.weights_rounding) for recorder in recorders)
    for name, target in targets.items():
        runs.values[name] = np.stack([recorder.values_of(target) for recorder in recorders])
        runs.rounding[name] = eps
    return runs


def stated_arrays(given: Any, what: str, names: Sequence[str]) -> dict[str, Array]:
    """A number for each observable, from one for all or from a mapping of names; names that are not there have 0."""
    each = given if isinstance(given, Mapping) else dict.fromkeys(names, given)
    for name in each:
        if name not in names:
            raise ValueError(f"{what} names {shown(name)}; the observables compared are {', '.join(names)}")
    found = {name: numbers(value, what) for name, value in each.items()}
    for value in found.values():
        if not (np.all(np.isfinite(value)) and np.all(value >= 0)):
            raise ValueError(f"{what} must be finite and not negative, not {shown(given)}")
    return {name: found.get(name, np.zeros(())) for name in names}


def tolerances_of(case: Case, error: Any, absolute: Any) -> dict[str, Array]:
    """What a bar and the caller's own errors allow, for each observable: an array like its values."""
    names = list(case.targets)
    relative, extra = stated_arrays(error, "error", names), stated_arrays(absolute, "absolute", names)
    found = {}
    for name, target in case.targets.items():
        scale = largest(target.value)
        rounding = 8 * max(runs.rounding.get(name, 0.0) for runs in case.sizes)
        try:
            own = np.broadcast_to(relative[name] * scale + extra[name], target.value.shape)
        except ValueError:
            raise ValueError(f"the error of {name!r} must be one number, or {target.value.shape} of them") from None
        found[name] = target.bar + own + rounding * scale
    return found
