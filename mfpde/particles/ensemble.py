"""Many replicas of a cloud at once."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy import TwoLayerNetwork
from mfpde.equation.finite import NotFiniteError, check_finite, place_of, response_culprit
from mfpde.equation.problem import Problem, Reaction, ReinjectionKind
from mfpde.particles.density import KernelDensity
from mfpde.particles.dynamics import SGD, BirthDeath, PopulationControl, Scheme, Weights
from mfpde.particles.fields import DirectField, Field, make_field
from mfpde.particles.motion import Motion, mean_over
from mfpde.particles.random_streams import generator, generator_state, set_generators
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array

__all__ = ["Ensemble", "effective_size"]


def effective_size(weights: Array) -> float:
    """``(sum w)^2 / sum w^2``; 0 without mass."""
    square = float(np.dot(weights, weights))
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


class Batches:
    """The gradient of a network on mini-batches, plus the full gradient of the other terms."""

    def __init__(self, problem: Problem, drift: SGD, generators: list[np.random.Generator]) -> None:
        (network,) = (term for term in problem.energy.terms if isinstance(term, TwoLayerNetwork))
        self._network, self._drift, self.generators = network, drift, generators
        self._axes = tuple(problem.axes)
        others = [part for term in problem.energy.terms if term is not network for part in term.bind(self._axes).parts]
        self._others = DirectField(others[0], tuple(others)) if others else None
        n = len(network.x)
        assert network.weights is not None
        self._cumulative = np.cumsum(network.weights)
        self._order = [rng.permutation(n) for rng in generators] if drift.one_pass else []
        self.used = 0

    def gradient(self, points: Array, weights: Array) -> Array:
        """The gradient of V at the points (replicas, n, d), from the samples of the present step."""
        result = np.empty(points.shape)
        size = self._drift.batch
        for r, rng in enumerate(self.generators):
            if self._drift.one_pass:
                chosen = self._order[r][self.used : self.used + size]
            else:
                chosen = np.searchsorted(self._cumulative, rng.random(size) * self._cumulative[-1], side="right")
            batch = TwoLayerNetwork(
                self._network.x[chosen],
                self._network.y[chosen],
                activation=self._network.activation,
                loss=self._network.loss,
                axes=self._network.axes,
                roles=self._network.roles,
                tolerance=0.0,
            ).bind(self._axes)
            result[r] = batch.gradient(points[r], batch.response(points[r], weights[r]))
        self.used += size
        if self._others is not None:
            self._others.measure(points, weights)
            result += self._others.gradient(points)
        return result


class Ensemble:
    """Some replicas and their state; `run` steps them."""

    def __init__(
        self, problem: Problem, scheme: Scheme, starts: list[Array], seeds: list[np.random.SeedSequence]
    ) -> None:
        self.problem, self.scheme = problem, scheme
        self.points = np.stack(starts)
        self.replicas, self.n, self.d = self.points.shape
        self.field: Field = make_field(problem, self.n)
        self.motion = Motion(problem, scheme.noise is not None)
        self._rng = [generator(seed, 1) for seed in seeds]
        self._batches: Batches | None = None
        if isinstance(scheme.drift, SGD):
            self._batches = Batches(problem, scheme.drift, [generator(seed, 2) for seed in seeds])
        self.mass = np.ones(self.replicas)
        self.weights = np.full((self.replicas, self.n), 1.0 / self.n)
        self._logs = np.log(self.weights) if isinstance(scheme.reaction, Weights) else None
        self.events = np.zeros((3, self.replicas), dtype=np.int64)
        birth = problem.reinjection
        self._mu_b = None if birth is None else birth.measure.restrict(problem.axes)
        self._kind = None if birth is None else birth.kind
        self._balanced = problem.reaction is not Reaction.UNBALANCED
        self._free_energy = problem.reaction is Reaction.FREE_ENERGY
        self._draws = np.empty((self.replicas, self.n))
        self._parts = [self._parts_of(points) for points in self.points]
        self.steps = 0

    def _parts_of(self, points: Array) -> list[tuple[slice | NDArray[np.intp], float]]:
        """Which particles keep their mass together, all or those of each species, and their share of all."""
        if self.problem.apart is None:
            return [(slice(None), 1.0)]
        position, species = self.problem.apart
        labels = species.indices(points[:, position])
        parts = [np.flatnonzero(labels == k) for k in range(len(species.labels))]
        return [(part, len(part) / self.n) for part in parts if len(part)]

    def state(self) -> dict[str, Array]:
        """Everything that the next steps depend on, as numbers and text."""
        state: dict[str, Any] = {
            "steps": np.array(self.steps),
            "points": self.points.copy(),
            "weights": self.weights.copy(),
            "mass": self.mass.copy(),
            "events": self.events.copy(),
            "generators": generator_state(self._rng),
        }
        if self._logs is not None:
            state["logs"] = self._logs.copy()
        if self._batches is not None:
            state["batches"] = generator_state(self._batches.generators)
            state["used"] = np.array(self._batches.used)
        return state

    def restore(self, state: Mapping[str, Array]) -> None:
        """Put everything where `state` says it was."""
        self.steps = int(state["steps"])
        for name in ("points", "weights", "mass", "events"):
            getattr(self, name)[...] = state[name]
        self._parts = [self._parts_of(points) for points in self.points]
        set_generators(self._rng, state["generators"])
        if self._logs is not None:
            self._logs[...] = state["logs"]
        if self._batches is not None:
            # the order of a single pass is drawn from the seed, before anything else
            set_generators(self._batches.generators, state["batches"])
            self._batches.used = int(state["used"])

    def run(
        self,
        dt: float,
        steps: int,
        saves: list[int],
        take: Callable[[int], None],
        report: Callable[[int, float], None],
        keep: Callable[[], None],
    ) -> None:
        """Make the steps that are left; `take` is called at those to be saved, `keep` before each."""
        for k in range(self.steps, steps + 1):
            self.steps = k
            keep()
            saved = bisect_left(saves, k)
            saving = saved < len(saves) and saves[saved] == k
            if saving or self._batches is None:
                self.responses = self.field.measure(self.points, self.weights)
            if saving:
                if not np.all(np.isfinite(self.points)):
                    raise FloatingPointError(f"some particles are not finite at t = {k * dt:g}; take a smaller dt")
                self.energies = self.field.energies()
                if self.problem.bound_energy.lyapunov and not np.all(np.isfinite(self.energies)):
                    self._finite(self.field.potential(self.points), "V", k * dt)
                    raise FloatingPointError(f"the energy of the particles is not finite at t = {k * dt:g}")
                take(saved)
                report(k, float(self.energies[0]))
            if k < steps:
                self.step(k * dt, dt)

    def step(self, t: float, dt: float) -> None:
        """One step; the field has taken the present measure in."""
        X = self.points
        gradient = self.field.gradient(X) if self._batches is None else self._batches.gradient(X, self.weights)
        ds = self.motion.step(t, dt)
        move = ds * self.motion.velocity(X, gradient)
        self._finite(move, "the velocity", t)
        if self.scheme.noise is not None:
            xi = np.stack([rng.standard_normal((self.n, self.d)) for rng in self._rng])
            self.motion.advance(X, move, t, dt, self.scheme.noise, xi, self._gamma)
        else:
            X += move
            self.motion.confine(X)
        reaction = self.scheme.reaction
        if reaction is None:
            return
        alpha = mean_over(self.problem.alpha, t, dt)
        if alpha == 0.0 or ds == 0.0:
            return
        self.field.measure(X, self.weights)
        V = self.field.potential(X)
        self._finite(V, "V", t + dt)
        tau = mean_over(self.problem.temperature, t, dt) if self._free_energy else 0.0
        if tau > 0.0:
            V = V + tau * self._log_density(reaction.density)
            # log(mu) relaxes at the rate alpha tau while V stays: exactly, and for any step
            ds = -math.expm1(-alpha * tau * ds) / (alpha * tau)
        if isinstance(reaction, Weights):
            self._reweigh(reaction, self._rate(V, t + dt), alpha, ds)
        else:
            injects = self._kind is not None  # at a rate of V itself
            self._select(reaction, V if injects else self._rate(V, t + dt), alpha, ds)

    def _finite(self, values: Array, what: str, t: float) -> None:
        """Refuse values (R, n, ...) at the particles that are not finite, with the place."""
        if np.isfinite(values).all():
            return
        axes, points = self.motion.axes, self.points.reshape(-1, self.d)
        culprit = response_culprit(self.problem.bound_energy, points)
        if culprit is not None:
            raise NotFiniteError("a feature of the energy", culprit[0], place_of(axes, culprit[1])).at(t)
        try:
            check_finite(values.reshape(len(points), -1), points, axes, what)
        except NotFiniteError as error:
            raise error.at(t) from None

    def _gamma(self, shapes: Array) -> Array:
        return np.stack([rng.standard_gamma(row) for rng, row in zip(self._rng, shapes, strict=True)])

    def _log_density(self, density: KernelDensity) -> Array:
        """``log(rho/omega)`` at the particles, ``rho`` the kernel estimate of each replica."""
        pairs = zip(self.points, self.weights, strict=True)
        rho = np.stack([density.estimate(x, w, self.motion.axes) for x, w in pairs])
        # a particle whose weight has underflown has no density of its own
        return np.asarray(np.log(np.maximum(rho, np.finfo(float).tiny)) - self.motion.log_base(self.points))

    def _rate(self, V: Array, t: float) -> Array:
        rate = V
        if self.problem.rate is not None:
            rate = values_of(self.problem.rate, V)
            self._finite(rate, "the birth-death rate", t)
        if self.problem.species is not None and self.problem.species[1].scaled:
            position, species = self.problem.species
            rate = species.scale(self.points[..., position]) * rate
        return rate

    def _mean(self, rate: Array) -> Array | float:
        """The mean rate that each particle (R, n) is held against."""
        if not self._balanced:
            return 0.0
        if self.problem.apart is None:
            return np.asarray(rate.mean(axis=1)[:, None])
        means = np.empty(rate.shape)
        for r, parts in enumerate(self._parts):
            for part, _ in parts:
                means[r, part] = rate[r, part].mean()
        return means

    # deterministic weights

    def _reweigh(self, reaction: Weights, rate: Array, alpha: float, ds: float) -> None:
        assert self._logs is not None
        logs = self._logs
        logs += reaction.change(rate, alpha, ds)
        for r in range(self.replicas):
            for part, share in self._parts[r]:
                self._normalise(reaction, logs, r, part, share)

    def _normalise(self, reaction: Weights, logs: Array, r: int, part: slice | NDArray[np.intp], share: float) -> None:
        """The weights of particles that keep their mass together, by their logarithms; resampled where few are left."""
        top = float(logs[r, part].max())
        w = np.exp(logs[r, part] - top)
        total, n = float(w.sum()), len(w)
        if not self._balanced:
            self.mass[r] = total * math.exp(top)
        mass = float(self.mass[r]) * share
        if mass > 0:
            logs[r, part] += math.log(mass) - math.log(total) - top
        self.weights[r, part] = w * (mass / total)
        if reaction.resample is not None and effective_size(w) < reaction.resample * n:
            chosen = systematic(w, float(self._rng[r].random()))
            self.points[r, part] = self.points[r, part][chosen]
            self.weights[r, part] = mass / n
            logs[r, part] = math.log(mass / n)

    # kill and duplicate

    def _select(self, reaction: BirthDeath, rate: Array, alpha: float, ds: float) -> None:
        if self._kind is ReinjectionKind.REPLACE:
            excess = np.maximum(reaction.excess(rate, 0.0), 0.0)
        elif self._kind is ReinjectionKind.REFILL:
            excess = reaction.excess(rate, 0.0)
        else:
            excess = reaction.excess(rate, self._mean(rate))
        for r, rng in enumerate(self._rng):
            rng.random(out=self._draws[r])
        hit = self._draws < reaction.probabilities(excess, alpha, ds)
        for r in map(int, np.flatnonzero(hit.any(axis=1))):
            kill = hit[r] & (excess[r] > 0)
            clone = hit[r] & (excess[r] < 0)
            control = self._one_for_one if reaction.control is PopulationControl.PARTNER else self._control
            for part, _ in self._parts[r]:
                self.points[r, part] = control(r, self.points[r, part], kill[part], clone[part])

    def _control(self, r: int, X: Array, kill: NDArray[np.bool_], clone: NDArray[np.bool_]) -> Array:
        """The particles X of a replica after the events, as many as before."""
        rng, n = self._rng[r], len(X)
        kills = int(np.count_nonzero(kill))
        self.events[0, r] += kills
        if self._kind is ReinjectionKind.REPLACE:
            X[kill] = self._inject(r, kills)
            return X
        # the population after the events, as indices of those they come from
        index = np.concatenate([np.flatnonzero(~kill), np.flatnonzero(clone)])
        size = len(index)
        self.events[1, r] += size - (n - kills)
        if not self._balanced:
            self.mass[r] *= size / n
            self.weights[r] = self.mass[r] / n
        if size > n:
            index = np.delete(index, rng.choice(size, size - n, replace=False, shuffle=False))
        new = X[index]
        if size < n:
            if self._kind is ReinjectionKind.REFILL:
                more = self._inject(r, n - size)
            else:
                if size == 0:
                    raise FloatingPointError(
                        "all particles of a replica died within one step; take a smaller dt or more particles"
                    )
                # whole copies of everybody first, where more than that is missing
                whole, rest = divmod(n - size, size)
                extra = rng.choice(size, rest, replace=False, shuffle=False)
                more = new[np.concatenate([np.tile(np.arange(size), whole), extra])]
            new = np.concatenate([new, more])
        return new

    def _inject(self, r: int, count: int) -> Array:
        assert self._mu_b is not None
        self.events[2, r] += count
        return self._mu_b.sample(count, self._rng[r])

    def _one_for_one(self, r: int, X: Array, kill: NDArray[np.bool_], clone: NDArray[np.bool_]) -> Array:
        """The same, each event with a partner."""
        rng, n = self._rng[r], len(X)
        pending = kill | clone
        for i in rng.permutation(np.flatnonzero(pending)):
            if not pending[i]:  # overwritten in this step: the event was that of its predecessor
                continue
            j = int(rng.integers(n - 1))
            j = j + 1 if j >= i else j
            if kill[i]:
                X[i] = X[j]
                self.events[0, r] += 1
            else:
                X[j] = X[i]
                pending[j] = False
                self.events[1, r] += 1
        return X


def systematic(weights: Array, uniform: float) -> NDArray[np.int64]:
    """Systematic resampling: n indices, index i about ``n w_i / sum w`` times, from one uniform number."""
    n = len(weights)
    cumulative = np.cumsum(weights)
    places = (uniform + np.arange(n)) * (cumulative[-1] / n)
    return np.minimum(np.searchsorted(cumulative, places, side="right"), n - 1)
