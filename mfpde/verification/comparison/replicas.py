"""Gaps of replicas to the mean field: of simulated particles, of recorded ones, and of independent draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.particles import Dynamics, simulate
from mfpde.support.arrays import Array
from mfpde.verification.comparison.observer import Observer
from mfpde.verification.comparison.records import ParticleRecord, weights_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Groups", "Replicas", "Simulations", "common_step", "recorded", "resampled", "simulated", "single_out"]

Groups = dict[int, dict[str, Array]]
"""Gaps by size and by name of the observable, arrays (R, m, q)."""


@dataclass(eq=False)
class Replicas:
    """Gaps of all replicas.

    Attributes
    ----------
    groups : dict of int to dict of str to array, shape (R, m, q)
        By size and by observable: R replicas, m times, q components.
    control : dict of str to array, shape (R, m, q), or None
        Those of the control run at the largest size.
    dt, control_dt : float or None
        The steps; None where not known.
    effective : dict of int to array, shape (m,)
        By size the effective number of particles, the mean over replicas.
    scheme : str
        What a step was made of, where that is known.
    """

    groups: Groups
    control: dict[str, Array] | None
    dt: float | None
    control_dt: float | None
    effective: dict[int, Array]
    scheme: str = ""

    @property
    def sizes(self) -> list[int]:
        """The numbers of particles, increasing."""
        return sorted(self.groups)

    @property
    def control_ratio(self) -> float:
        """The step of the control run in units of the others; 1 where there is none."""
        return 1.0 if self.dt is None or self.control_dt is None else self.control_dt / self.dt

    def replicas(self, n: int) -> int:
        """How many there are of a size."""
        return len(next(iter(self.groups[n].values())))

    def components(self, name: str) -> int:
        """How many components an observable has."""
        return int(self.groups[self.sizes[0]][name].shape[2])


def common_step(times: Array, limit: float) -> tuple[float, float]:
    """The largest step up to `limit` of whose double all times are multiples; and the last time."""
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"dt must be finite and positive, not {limit!r}")
    end = float(times[-1])
    if end == 0:
        return limit, limit
    first = max(1, math.ceil(end / (2 * limit) * (1 - 1e-9)))
    for count in range(first, 20 * first + 2000):
        k = times * (count / end)
        if np.all(np.abs(k - np.round(k)) <= 4e-7):
            return end / (2 * count), end
    raise ValueError(
        f"no step near {limit:g} divides all times {', '.join(f'{t:g}' for t in times)}; give times= that one does"
    )


@dataclass(frozen=True)
class Simulations:
    """How particles are simulated; see `mfpde.particles.simulate`.

    Attributes
    ----------
    sizes : sequence of int
        Numbers of particles.
    replicas : int
        Independent runs of each size.
    dynamics : Dynamics, sequence of them, or None
        What a step is made of.
    dt : float
        The longest step; it is shortened so that all times are multiples of twice its length.
    control : bool
        Whether the largest size is run a second time, with steps of twice the length.
    seed, workers : int
    progress : bool or None
    executor : Executor or None
        Who runs the replicas instead of threads.
    """

    sizes: Sequence[int]
    replicas: int
    dynamics: Dynamics | Sequence[Dynamics] | None
    dt: float
    control: bool
    seed: int
    workers: int
    progress: bool | None
    executor: Executor | None = None


def simulated(observer: Observer, how: Simulations) -> Replicas:
    """Gaps of particles that are simulated here."""
    at = observer.field.times
    dt, end = common_step(at, how.dt)
    names: list[str] = []

    def run(n: int, step: float, key: int) -> tuple[dict[str, Array], Array]:
        # sizes are independent of each other; the control run shares starts and seeds with the run it controls
        own = int(np.random.SeedSequence([how.seed, 1, key]).generate_state(1)[0])
        cloud = simulate(
            observer.field.problem,
            n,
            dynamics=how.dynamics,
            dt=step,
            t_end=end,
            save=[float(t) for t in at],
            seed=own,
            replicas=how.replicas,
            workers=how.workers,
            executor=how.executor,
            progress=how.progress,
        )
        parts = (cloud.scheme.drift, cloud.scheme.noise, cloud.scheme.reaction)
        names[:] = [repr(part) for part in parts if part is not None]
        index = [int(np.argmin(np.abs(cloud.times - t))) for t in at]
        assert cloud.positions is not None
        return _observe(observer, cloud.positions, weights_of(cloud), index), cloud.ess[:, index].mean(axis=0)

    groups: Groups = {}
    effective = {}
    order = sorted(int(n) for n in how.sizes)
    for key, n in enumerate(order):
        groups[n], effective[n] = run(n, dt, key)
    coarse = run(order[-1], 2 * dt, len(order) - 1)[0] if how.control and at[-1] > 0 else None
    return Replicas(groups, coarse, dt, 2 * dt if coarse is not None else None, effective, ", ".join(names))


def _observe(observer: Observer, positions: Array, weights: Array | None, index: Sequence[int]) -> dict[str, Array]:
    """All gaps: for every observable an array (R, m, q)."""
    rows = [
        [observer(x[i], None if weights is None else weights[r, i], j) for j, i in enumerate(index)]
        for r, x in enumerate(positions)
    ]
    return {
        o.name: np.stack([np.stack([found[o.name] for found in row]) for row in rows]) for o in observer.observables
    }


def resampled(observer: Observer, sizes: Sequence[int], count: int, seed: int) -> Groups:
    """Gaps of independent draws from ``mu_t``."""
    groups: Groups = {}
    for key, n in enumerate(sizes):
        rows = []
        for j in range(len(observer.field.times)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, 3, key, j]))
            mass = observer.field.mass[j]
            # draws carry the mass of the field: what remains is sampling
            w = None if abs(mass - 1.0) < 1e-9 else np.full(n, mass / n)
            rows.append([observer(observer.field.sample(j, n, rng), w, j) for _ in range(count)])
        groups[n] = {
            o.name: np.stack([np.stack([found[o.name] for found in row]) for row in rows], axis=1)
            for o in observer.observables
        }
    return groups


def recorded(records: Sequence[ParticleRecord], observer: Observer) -> tuple[Replicas, list[str]]:
    """Gaps of particles that are recorded, and notes.

    Replicas of one n and dt count together; of two steps the shorter one counts and the longer one is its control.
    """
    at, notes = observer.field.times, []
    found: dict[float | None, Groups] = {}
    ess: dict[int, list[Array]] = {}
    for record in records:
        index = [int(np.argmin(np.abs(record.times - t))) for t in at]
        values = _observe(observer, record.positions, record.weights, index)
        group = found.setdefault(record.dt, {})
        if record.n in group:
            group[record.n] = {name: np.concatenate([group[record.n][name], v]) for name, v in values.items()}
        else:
            group[record.n] = values
        w = np.ones(record.positions.shape[:3]) if record.weights is None else record.weights
        w = w[:, index]
        ess.setdefault(record.n, []).append(np.mean(w.sum(axis=2) ** 2 / (w**2).sum(axis=2), axis=0))
    steps = sorted(dt for dt in found if dt is not None)
    if None in found and steps:
        raise ValueError("some records have a dt and some have none; give all of them theirs, or none")
    if len(steps) > 2:
        raise ValueError(f"records with {len(steps)} different dt {steps}; give those of one, or of two for a control")
    effective = {n: np.mean(rows, axis=0) for n, rows in ess.items()}
    if not steps:
        notes.append("the records have no dt: a bias of time steps cannot be told from one of the scheme")
        return Replicas(found[None], None, None, None, effective), notes
    groups = found[steps[0]]
    if len(steps) == 1:
        notes.append("one dt: a bias of time steps cannot be told from one of the scheme; add records of another dt")
        return Replicas(groups, None, steps[0], None, effective), notes
    largest = max(groups)
    if largest not in found[steps[1]]:
        raise ValueError(
            f"the records with dt = {steps[1]:g} control the step at the largest n = {largest}, "
            f"but have n = {', '.join(map(str, sorted(found[steps[1]])))}; record them with that n"
        )
    return Replicas(groups, found[steps[1]][largest], steps[0], steps[1], effective), notes


def single_out(data: Replicas, problem: Problem) -> list[str]:
    """Keep one of replicas that are equal to the last digit: together they are one; and say so.

    Where all start at one point they have to be equal, and one is as good as many.
    """
    draws = problem.mu_0.sample(8, np.random.default_rng(0))
    if problem.noiseless and np.all(draws == draws[0]):
        return []
    equal = []
    named = {f"n = {n}": group for n, group in data.groups.items()}
    for name, values in (named | {"the control run": data.control or {}}).items():
        count = max((len(gaps) for gaps in values.values()), default=1)
        if count > 1 and all(np.all(gaps == gaps[:1]) for gaps in values.values()):
            values.update({key: gaps[:1] for key, gaps in values.items()})
            equal.append(name)
    if not equal:
        return []
    return [f"replicas that do not differ count as one ({', '.join(equal)}); give each a seed of its own"]
