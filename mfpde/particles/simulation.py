"""Clouds of particles: simulate a problem's finite-n dynamics, many replicas at once.

Replicas are independent: replica k has its own generators, spawned from the seed, and no sum runs over two replicas.
What it computes therefore does not depend on how many replicas there are, on who works on them, or on save times.
"""

from __future__ import annotations

import math
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy import TwoLayerNetwork
from mfpde.equation.energy.base import central_difference, difference_step
from mfpde.equation.finite import NotFiniteError, check_finite, place_of, response_culprit
from mfpde.equation.grid import Axis, End, axis_number
from mfpde.equation.measures.base import Measure, wrap
from mfpde.equation.measures.particles import Particles
from mfpde.equation.problem import Problem, Reaction, ReinjectionKind
from mfpde.equation.schedules import Schedule
from mfpde.particles.checkpoint import Checkpoint, described, generator_state, set_generators
from mfpde.particles.density import KernelDensity
from mfpde.particles.dynamics import (
    SGD,
    BirthDeath,
    Dynamics,
    PopulationControl,
    Scheme,
    Weights,
    make_scheme,
)
from mfpde.particles.fields import DirectField, Field, make_field
from mfpde.support.arguments import (
    FLAG,
    NONE,
    NUMBER,
    PATH,
    POWER,
    function,
    numbers,
    one_of,
    real,
    require,
    shown,
    values_of,
    whole,
)
from mfpde.support.arrays import Array
from mfpde.support.saves import MOST_SAVES, save_index
from mfpde.support.session import check_memory, progress_bar
from mfpde.support.threads import one_blas_thread

__all__ = ["Cloud", "simulate"]

Observable = Callable[[Array, Array], Any]

MOST_STEPS = 1e10
BLOCK = 2**15
"""Particles worked on together: their arrays stay in the cache."""
OFF_WALL = 1e-9
"""How far from a wall a base measure is looked at, in lengths of the axis."""


@dataclass(eq=False)
class Cloud:
    """The result of `simulate`: R replicas of n particles at m save times.

    Attributes
    ----------
    problem : Problem
    times : array, shape (m,)
        Save times, multiples of `dt`.
    positions : array, shape (R, m, n, d), or None
        None when not kept.
    weights : array, shape (R, m, n), or None
        Their sum is the mass. None: all equal, ``mass / n``.
    energy, mass, ess : array, shape (R, m)
        ``E`` of the cloud, without the entropy, which a cloud does not have; its mass; the effective sample size
        ``(sum w)^2 / sum w^2``.
    response : array, shape (R, m, r)
        ``u = int Phi dmu``, in the coordinates of `Solution.response_at`.
    kills, births, injections : array, shape (R, m)
        Events since the start; births are duplications by V, injections draws from ``mu_b``. Population control
        is not counted.
    observed : dict of array, shape (R, m, ...)
        What `observe` gave; arrays of objects (R, m) where its shape was not always the same.
    dt : float
    seed : int
    scheme : Scheme
    evaluation : str
        How V was computed.
    """

    problem: Problem
    times: Array
    positions: Array | None
    weights: Array | None
    energy: Array
    response: Array
    mass: Array
    ess: Array
    kills: NDArray[np.int64]
    births: NDArray[np.int64]
    injections: NDArray[np.int64]
    dt: float
    n: int
    seed: int
    scheme: Scheme
    evaluation: str = ""
    observed: dict[str, Array] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """R."""
        return len(self.energy)

    def index(self, t: float | None) -> int:
        """The position of save time `t` (the last one for None).

        Raises
        ------
        ValueError
            If `t` is no save time.
        """
        return save_index(self.times, t, "simulate")

    def points(self, t: float | None = None, replica: int = 0) -> tuple[Array, Array]:
        """Positions (n, d) and weights (n,) of a replica at a save time (default: the last)."""
        if self.positions is None:
            raise ValueError("the positions were not kept; pass keep_positions=True to simulate")
        i = self.index(t)
        if not whole(replica) or not -self.replicas <= replica < self.replicas:
            raise ValueError(f"replicas are numbered from 0 to {self.replicas - 1}, there is no {shown(replica)}")
        if self.weights is None:
            return self.positions[replica, i], np.full(self.n, self.mass[replica, i] / self.n)
        return self.positions[replica, i], self.weights[replica, i]

    def measure(self, t: float | None = None, replica: int = 0) -> Particles:
        """A replica at a save time (default: the last), as a `Measure`."""
        return Particles(*self.points(t, replica))

    def moment(self, name: str, power: int = 1, t: float | None = None) -> Array:
        """``int theta_name^power dmu`` of every replica at a save time (default: the last), shape (R,)."""
        require(power=(power, POWER))
        column = axis_number(tuple(self.problem.axes), name)
        pairs = [self.points(t, r) for r in range(self.replicas)]
        return np.array([float(w @ x[:, column] ** power) for x, w in pairs])

    def predict(self, x: Any, t: float | None = None, replica: int = 0) -> Array:
        """The output of the network whose neurons are a replica's particles; see `Solution.predict`."""
        if self.problem.network is None:
            raise ValueError(f"problem {self.problem.name!r} names no network; give Problem(network=Network(unit))")
        points, weights = self.points(t, replica)
        return self.problem.network.output(x, list(points.T), weights)

    def __str__(self) -> str:
        mean, spread = self.energy.mean(axis=0), self.energy.std(axis=0)
        parts = [self.scheme.drift, self.scheme.noise, self.scheme.reaction]
        lines = [
            f"Cloud of {self.problem.name!r}: {self.replicas} replicas of {self.n} particles",
            f"  scheme   {', '.join(repr(part) for part in parts if part is not None)}, dt = {self.dt:g}",
            f"  field    {self.evaluation}",
            f"  time     {self.times[0]:g} to {self.times[-1]:g}",
            f"  energy   {mean[0]:.6g} +- {spread[0]:.2g} -> {mean[-1]:.6g} +- {spread[-1]:.2g} (over replicas)",
            f"  events   {self.kills[:, -1].mean():.1f} kills, {self.births[:, -1].mean():.1f} births, "
            f"{self.injections[:, -1].mean():.1f} injections a replica",
            f"  sample   effective size {self.ess[:, -1].mean():.1f} of {self.n} at the end",
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Cloud of {self.problem.name!r}: {self.replicas} x {self.n} particles, t = {self.times[-1]:g}>"


def simulate(
    problem: Problem,
    n: int,
    *,
    dynamics: Dynamics | Sequence[Dynamics] | None = None,
    dt: float = 1e-2,
    t_end: float | None = None,
    save: int | Sequence[float] = 11,
    seed: int = 0,
    replicas: int = 1,
    initial: Measure | Array | None = None,
    observe: Mapping[str, Observable] | None = None,
    keep_positions: bool = True,
    workers: int = 1,
    progress: bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
) -> Cloud:
    r"""Run the finite-n dynamics of a problem.

    A step of length ``dt`` from ``t``, with ``ds`` the integral of the problem's schedule over it:
    ``theta_i <- theta_i - ds G grad V[mu^n](theta_i)`` (plus noise), then the reaction with V computed anew. The drift
    and the noise are first order in ``dt``. Rates and temperatures that vary in time count by their mean over a step.

    Parameters
    ----------
    problem : Problem
    n : int
        Particles a replica, at least 2.
    dynamics : Dynamics or sequence of Dynamics, optional
        What a step is made of: `GradientDescent` or `SGD`, `Langevin`, `BirthDeath` or `Weights`. What is named is
        done and nothing else. Default: what the problem asks for.
    dt : float
        Length of a step, the learning rate; shortened so that `t_end` is a multiple of it.
    t_end : float, optional
        Default: the problem's.
    save : int or sequence of float
        How many save times, equally spaced up to `dt`, or the times: multiples of `dt`. Start and end are always saved.
    seed : int
        A seed reproduces bit for bit. Replica k depends on the seed and on k, not on the number of replicas or of
        workers, nor on the save times.
    replicas : int
        Independent runs, at least 1.
    initial : Measure or array, optional
        Another start than the problem's: a measure to sample, or the positions, (n, d) or (replicas, n, d).
    observe : mapping of str to callable, optional
        ``function(points (n, d), weights (n,)) -> number or array``, evaluated at the save times.
    keep_positions : bool
        Whether the positions are kept; without them memory does not grow with n.
    workers : int
        Threads.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    checkpoint : path, optional
        A file, ``.npz``, that the state goes to while the simulation runs, generators included. If it is there, of the
        same simulation, the simulation goes on from it, bit for bit. It is removed at the end.
    checkpoint_every : float
        Seconds between two writes.

    Returns
    -------
    Cloud

    Raises
    ------
    ValueError
        For arguments that do not fit, each with the value and the remedy; for a checkpoint of another simulation.
    FloatingPointError
        If V, a derivative or a rate is not finite where particles are, with the place and the time; if all of them die
        in one step.

    Notes
    -----
    Particles wrap on periodic axes. At other ends they stop (their position is clipped), as mass does on the grid;
    with noise they are reflected.

    The cost is O(n r) for an energy of r moments, and less where `mfpde.particles.fields` can interpolate V on a mesh;
    a kernel that neither factorises nor lives on a mesh sums over pairs, O(n^2).

    **Good values.** ``dt`` of 1e-2 has a bias of about 1e-2 in the energy; halve it to see. ``alpha dt max|V|`` below
    0.1.

    Examples
    --------
    >>> import mfpde as mf
    >>> cloud = mf.particles.simulate(mf.problems.linear_neuron(), 500, dt=0.02, seed=1, replicas=4)
    >>> cloud.positions.shape, bool(cloud.energy[:, -1].max() < 0.2)
    ((4, 11, 500, 1), True)
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"simulate needs a Problem, not {shown(problem)}; see mfpde.problems")
    for name, value, least in (("n", n, 2), ("replicas", replicas, 1), ("workers", workers, 1)):
        if not whole(value) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, not {shown(value)}")
    check_memory(int(n) * int(replicas), 4 * len(problem.axes) + 8, "particles")
    if not whole(seed) or seed < 0:
        raise ValueError(f"the seed must be an integer of at least 0, not {shown(seed)}")
    require(
        observe=(observe, one_of(Mapping) | NONE),
        keep_positions=(keep_positions, FLAG),
        progress=(progress, FLAG | NONE),
        checkpoint=(checkpoint, PATH | NONE),
        checkpoint_every=(checkpoint_every, NUMBER),
    )
    for name, observable in (observe or {}).items():
        function(observable, f"observe[{name!r}]")
    dt, steps = step_length(dt, problem.t_end if t_end is None else t_end)
    scheme = make_scheme(problem, dynamics, steps)
    saves = save_steps(save, dt, steps)
    start = initial_positions(problem, initial, n, replicas)
    seeds = np.random.SeedSequence(int(seed)).spawn(replicas)
    with one_blas_thread():
        evaluation = repr(make_field(problem, n))  # finds the mesh once, before there are threads
    size = max(1, min(BLOCK // n, math.ceil(replicas / workers)))
    kept = None
    if checkpoint is not None:
        # of callables the name is all that can be told
        run = {
            "problem": f"{problem.name!r} {problem.fingerprint()}",
            "n": str(n),
            "dynamics": repr([part for part in (scheme.drift, scheme.noise, scheme.reaction) if part is not None]),
            "dt": repr(dt),
            "saves": str(saves),
            "seed": str(seed),
            "replicas": str(replicas),
            "initial": described(initial),
            "observe": str(sorted(observe or {})),
            "keep_positions": str(keep_positions),
        }
        kept = Checkpoint(checkpoint, checkpoint_every, run)
        if kept.found:
            size = int(kept.found["block_size"])  # whoever works on them
    blocks = [range(i, min(i + size, replicas)) for i in range(0, replicas, size)]

    from concurrent.futures import CancelledError, ThreadPoolExecutor

    record = _Record(problem, n, replicas, saves, keep_positions, isinstance(scheme.reaction, Weights), observe)
    done, stopped = [0.0] * len(blocks), threading.Event()
    if kept is not None:
        record.restore(kept.found)

    with progress_bar(progress, f"{problem.name}, {replicas} x {n}", 0.0, dt * steps) as show:

        def work(b: int) -> None:
            block = blocks[b]

            def report(k: int, energy: float) -> None:
                done[b] = k * dt
                show(sum(done) / len(done), energy)

            def keep() -> None:
                if stopped.is_set():
                    raise CancelledError
                if kept is not None and kept.due():
                    kept.write(b, ensemble, {"block_size": np.array(size), **record.arrays()})

            ensemble = Ensemble(problem, scheme, [start(r, seeds[r]) for r in block], [seeds[r] for r in block])
            if kept is not None:
                kept.restore(b, ensemble)
            ensemble.run(dt, steps, saves, lambda j: record.take(ensemble, block, j), report, keep)

        with one_blas_thread():
            if workers == 1 or len(blocks) == 1:
                for b in range(len(blocks)):
                    work(b)
            else:
                with ThreadPoolExecutor(workers) as pool:
                    try:
                        list(pool.map(work, range(len(blocks))))
                    except BaseException:  # an interrupt, or a block that has failed: the others need not go on
                        stopped.set()
                        raise
    cloud = record.cloud(np.array(saves) * dt, dt, int(seed), scheme, evaluation)
    if kept is not None:
        kept.remove()
    return cloud


# ---------------------------------------------------------------------------------------------- arguments


def step_length(dt: float, t_end: float) -> tuple[float, int]:
    """The largest step up to `dt` of which `t_end` is a multiple, and how many there are."""
    for name, value in (("dt", dt), ("t_end", t_end)):
        if not (real(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, not {shown(value)}")
    if not t_end / dt <= MOST_STEPS:
        raise ValueError(f"t_end = {t_end:g} in steps of dt = {dt:g} are more than {MOST_STEPS:g}; take longer steps")
    steps = max(1, math.ceil(t_end / dt * (1 - 1e-9)))
    return t_end / steps, steps


def save_steps(save: int | Sequence[float], dt: float, steps: int) -> list[int]:
    """The steps after which something is saved, 0 and the last included."""
    if whole(save):
        if not 1 <= save <= MOST_SAVES:
            raise ValueError(f"save must be 1 to {MOST_SAVES}, or a sequence of times, not {shown(save)}")
        return sorted({0, *(round(x) for x in np.linspace(0, steps, max(int(save), 2))), steps})
    chosen = {0, steps}
    for t in numbers(save, "save times").ravel():
        k = round(float(t) / dt) if math.isfinite(t) else -1
        if not 0 <= k <= steps or abs(k * dt - t) > 1e-6 * dt:
            raise ValueError(
                f"save time {t:g} is no multiple of dt = {dt:g} up to {steps * dt:g}; "
                f"choose a step that divides it, or save=<number of times>"
            )
        chosen.add(k)
    return sorted(chosen)


def initial_positions(
    problem: Problem, initial: Measure | Array | None, n: int, replicas: int
) -> Callable[[int, np.random.SeedSequence], Array]:
    """What gives the start of a replica."""
    d = len(problem.axes)
    if initial is None or isinstance(initial, Measure):
        law = problem.mu_0 if initial is None else initial.restrict(problem.axes)
        return lambda r, seed: law.sample(n, generator(seed, 0))
    given = numbers(initial, "initial positions")
    if given.shape not in ((n, d), (replicas, n, d)):
        raise ValueError(f"initial positions must have shape ({n}, {d}) or ({replicas}, {n}, {d}), not {given.shape}")
    for i, axis in enumerate(problem.axes):
        given[..., i] = x = wrap(axis, given[..., i])
        wrong = ~((x >= axis.lower) & (x <= axis.upper))
        if wrong.any():
            at = float(x[wrong][0])
            remedy = "enlarge the axis" if math.isfinite(at) else "remove it"
            raise ValueError(f"an initial position has {axis.name} = {at:g}, outside the box, {axis!r}; {remedy}")
    return lambda r, seed: given.copy() if given.ndim == 2 else given[r].copy()


def generator(seed: np.random.SeedSequence, purpose: int) -> np.random.Generator:
    """An independent stream of a replica: 0 its start, 1 its dynamics, 2 its batches."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, purpose)))
    )


# ---------------------------------------------------------------------------------------------- records


class _Record:
    """Everything that is kept, filled block by block."""

    def __init__(
        self,
        problem: Problem,
        n: int,
        replicas: int,
        saves: list[int],
        positions: bool,
        weights: bool,
        observe: Mapping[str, Observable] | None,
    ) -> None:
        m, d = len(saves), len(problem.axes)
        self.problem, self.n = problem, n
        self.positions = np.empty((replicas, m, n, d)) if positions else None
        self.weights = np.empty((replicas, m, n)) if weights and positions else None
        self.energy, self.mass, self.ess = (np.empty((replicas, m)) for _ in range(3))
        self.response = np.empty((replicas, m, problem.bound_energy.response_size))
        self.events = np.zeros((3, replicas, m), dtype=np.int64)
        self.observe = dict(observe or {})
        self.observed: dict[str, list[list[Any]]] = {
            name: [[None] * m for _ in range(replicas)] for name in self.observe
        }

    def take(self, ensemble: Ensemble, block: range, j: int) -> None:
        rows = slice(block.start, block.stop)
        X, W = ensemble.points, ensemble.weights
        if self.positions is not None:
            self.positions[rows, j] = X
        if self.weights is not None:
            self.weights[rows, j] = W
        self.energy[rows, j] = ensemble.energies
        self.response[rows, j] = ensemble.responses
        self.mass[rows, j] = ensemble.mass
        self.ess[rows, j] = [effective_size(w) for w in W]
        self.events[:, rows, j] = ensemble.events
        for name, observable in self.observe.items():
            for r, x, w in zip(block, X, W, strict=True):
                self.observed[name][r][j] = np.array(observable(x.copy(), w.copy()), dtype=float)

    def _kept(self) -> dict[str, Array]:
        names = ("positions", "weights", "energy", "mass", "ess", "response", "events")
        return {name: values for name in names if (values := getattr(self, name)) is not None}

    def arrays(self) -> dict[str, Array]:
        """All that has been recorded."""
        seen = {
            f"observed {r} {j} {name}": value
            for name, rows in self.observed.items()
            for r, row in enumerate(rows)
            for j, value in enumerate(row)
            if value is not None
        }
        return self._kept() | seen

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over what was recorded before."""
        for name, values in self._kept().items():
            if name in arrays:
                values[...] = arrays[name]
        for key, value in arrays.items():
            if key.startswith("observed "):
                _, r, j, name = key.split(" ", 3)
                self.observed[name][int(r)][int(j)] = value

    def cloud(self, times: Array, dt: float, seed: int, scheme: Scheme, evaluation: str) -> Cloud:
        return Cloud(
            problem=self.problem,
            times=times,
            positions=self.positions,
            weights=self.weights,
            energy=self.energy,
            response=self.response,
            mass=self.mass,
            ess=self.ess,
            kills=self.events[0],
            births=self.events[1],
            injections=self.events[2],
            dt=dt,
            n=self.n,
            seed=seed,
            scheme=scheme,
            evaluation=evaluation,
            observed={name: _stacked(rows) for name, rows in self.observed.items()},
        )


def _stacked(rows: list[list[Any]]) -> Array:
    """What was observed, (R, m, ...); an array of objects (R, m) where the shape changes from one to the next."""
    shapes = {np.shape(value) for row in rows for value in row}
    if len(shapes) == 1:
        return np.array(rows)
    stacked = np.empty((len(rows), len(rows[0])), dtype=object)
    for r, row in enumerate(rows):
        for j, value in enumerate(row):
            stacked[r, j] = value
    return stacked


def effective_size(weights: Array) -> float:
    """``(sum w)^2 / sum w^2``; 0 without mass."""
    square = float(np.dot(weights, weights))
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


# ---------------------------------------------------------------------------------------------- the dynamics


class Motion:
    """How particles move: metric, ends, schedule and noise of a problem."""

    def __init__(self, problem: Problem, noisy: bool) -> None:
        self.axes = tuple(problem.axes)
        self.noisy = noisy
        self._schedule, self._temperature = problem.schedule, problem.temperature
        metric = (None,) * len(self.axes) if problem.metric is None else tuple(problem.metric)
        self._metric = tuple(None if g is None else g if callable(g) else float(g) for g in metric)
        self._log_base = None if problem.base is None else problem.log_base

    def rates(self, points: Array, i: int) -> Array | float:
        """``g_i`` at points (..., d)."""
        g = self._metric[i]
        if g is None or isinstance(g, float):
            return 1.0 if g is None else g
        found = values_of(g, *np.moveaxis(points, -1, 0))
        if not (np.isfinite(found).all() and (found >= 0.0).all()):
            found = np.broadcast_to(found, points.shape[:-1])
            bad = np.unravel_index(int(np.argmin(np.isfinite(found) & (found >= 0.0))), found.shape)
            raise ValueError(
                f"the metric of axis {self.axes[i].name!r} is {found[bad]:g} at {place_of(self.axes, points[bad])}; "
                "it must be finite and not negative in the box"
            )
        return found

    def velocity(self, points: Array, gradient: Array) -> Array:
        """``-G grad V``."""
        result = -gradient
        for i, g in enumerate(self._metric):
            if g is not None:
                result[..., i] *= self.rates(points, i)
        return result

    def step(self, t: float, dt: float) -> float:
        """``ds``, the schedule's integral."""
        return self._schedule.integral(t, t + dt)

    def advance(
        self, points: Array, move: Array, t: float, dt: float, noise: Any, xi: Array, gamma: Callable[[Array], Array]
    ) -> None:
        """Displace points (R, n, d) in place by `move`, noise and base measure, and `confine` them.

        `xi` are standard normal numbers, one a coordinate; `gamma` draws from Gamma laws of given shapes (R, n).
        """
        move += self.kick(points, t, dt, noise, xi)
        amount = mean_over(self._temperature, t, dt) * self.step(t, dt)
        if self._log_base is not None and amount > 0.0:
            inside = self.inside(points)
            for i, axis in enumerate(self.axes):
                slope = self._slope(self._log_base, points, i)
                push = amount * self.rates(points, i) * slope
                wall = _natural_end(axis, points[..., i])
                if wall is None:
                    move[..., i] += push
                    continue
                # see `Langevin`: half the exponent of the base measure in the distance from the end
                half = np.maximum(0.5 * slope * (inside[..., i] - wall), 0.0)
                widened = 4.0 * amount * self.rates(points, i) * gamma(half)
                distance = np.sqrt((points[..., i] + move[..., i] - wall) ** 2 + widened)
                away = wall + np.copysign(distance, inside[..., i] - wall) - points[..., i]
                move[..., i] = np.where(half > 0.0, away, move[..., i] + push)
        points += move
        self.confine(points)

    def kick(self, points: Array, t: float, dt: float, noise: Any, xi: Array) -> Array:
        """The displacement by noise: ``tau dg ds + sqrt(2 tau g ds) xi``."""
        ds = self.step(t, dt)
        tau = mean_over(self._temperature, t, dt)
        result = noise.amplitude(tau, ds) * xi
        for i, g in enumerate(self._metric):
            if g is None:
                continue
            result[..., i] *= np.sqrt(self.rates(points, i))
            if callable(g):
                result[..., i] += tau * ds * self._slope(g, points, i)
        return result

    def log_base(self, points: Array) -> Array | float:
        """``log omega`` at points (..., d)."""
        if self._log_base is None:
            return 0.0
        return np.asarray(self._log_base(*np.moveaxis(self.inside(points), -1, 0)), dtype=float)

    def inside(self, points: Array) -> Array:
        """Points a little off the walls, where a base measure may vanish."""
        result = points.copy()
        for i, axis in enumerate(self.axes):
            if not axis.periodic:
                least = OFF_WALL * axis.length
                np.clip(result[..., i], axis.lower + least, axis.upper - least, out=result[..., i])
        return result

    def _slope(self, function: Any, points: Array, i: int) -> Array:
        """The derivative along axis i of a function of the coordinates, by values inside the box only."""
        axis, x = self.axes[i], list(np.moveaxis(self.inside(points), -1, 0))

        def along(z: Array) -> Array:
            z = axis.lower + np.mod(z - axis.lower, axis.length) if axis.periodic else z
            return values_of(function, *x[:i], z, *x[i + 1 :]) + 0.0 * z

        h: Any = difference_step(axis)
        if not axis.periodic:
            # a sixteenth of the distance resolves a power of it to 1e-7
            h = np.minimum(h, np.minimum(x[i] - axis.lower, axis.upper - x[i]) / 16.0)
        return central_difference(along, x[i], h)

    def confine(self, points: Array) -> None:
        """Bring points back into the box, in place: wrap, stop at walls, or with noise reflect."""
        for i, axis in enumerate(self.axes):
            x = points[..., i]
            if axis.periodic:
                outside = (x < axis.lower) | (x >= axis.upper)
                if outside.any():
                    x[outside] = axis.lower + np.mod(x[outside] - axis.lower, axis.length)
            elif self.noisy:
                outside = (x < axis.lower) | (x > axis.upper)
                if outside.any():
                    y = np.mod(x[outside] - axis.lower, 2 * axis.length)
                    x[outside] = axis.lower + np.minimum(y, 2 * axis.length - y)
            else:
                np.clip(x, axis.lower, axis.upper, out=x)


def _natural_end(axis: Axis, x: Array) -> Array | None:
    """The natural end next to each point, None where an axis has none."""
    if axis.lower_end is End.NATURAL and axis.upper_end is End.NATURAL:
        return np.where(x - axis.lower <= axis.upper - x, axis.lower, axis.upper)
    if End.NATURAL in (axis.lower_end, axis.upper_end):
        return np.full(x.shape, axis.lower if axis.lower_end is End.NATURAL else axis.upper)
    return None


def mean_over(schedule: Schedule, t: float, dt: float) -> float:
    """The mean of a schedule over a step."""
    return schedule(t) if schedule.constant else schedule.integral(t, t + dt) / dt


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
        self.steps = 0

    def state(self) -> dict[str, Array]:
        """Everything that the next steps depend on, as numbers and text."""
        found: dict[str, Any] = {
            "steps": np.array(self.steps),
            "points": self.points.copy(),
            "weights": self.weights.copy(),
            "mass": self.mass.copy(),
            "events": self.events.copy(),
            "generators": generator_state(self._rng),
        }
        if self._logs is not None:
            found["logs"] = self._logs.copy()
        if self._batches is not None:
            found["batches"] = generator_state(self._batches.generators)
            found["used"] = np.array(self._batches.used)
        return found

    def restore(self, state: Mapping[str, Array]) -> None:
        """Put everything where `state` says it was."""
        self.steps = int(state["steps"])
        for name in ("points", "weights", "mass", "events"):
            getattr(self, name)[...] = state[name]
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
                if not np.all(np.isfinite(self.energies)):
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
        if self.problem.rate is None:
            return V
        found = values_of(self.problem.rate, V)
        self._finite(found, "the birth-death rate", t)
        return found

    # deterministic weights

    def _reweigh(self, reaction: Weights, rate: Array, alpha: float, ds: float) -> None:
        assert self._logs is not None
        logs = self._logs
        logs += reaction.change(rate, alpha, ds)
        for r in range(self.replicas):
            top = float(logs[r].max())
            w = np.exp(logs[r] - top)
            total = float(w.sum())
            if not self._balanced:
                self.mass[r] = total * math.exp(top)
            if self.mass[r] > 0:
                logs[r] += math.log(self.mass[r]) - math.log(total) - top
            self.weights[r] = w * (self.mass[r] / total)
            if reaction.resample is not None and effective_size(w) < reaction.resample * self.n:
                chosen = systematic(w, float(self._rng[r].random()))
                self.points[r] = self.points[r][chosen]
                self.weights[r] = self.mass[r] / self.n
                logs[r] = math.log(self.mass[r] / self.n)

    # kill and duplicate

    def _select(self, reaction: BirthDeath, rate: Array, alpha: float, ds: float) -> None:
        if self._kind is ReinjectionKind.REPLACE:
            excess = np.maximum(reaction.excess(rate, 0.0), 0.0)
        elif self._kind is ReinjectionKind.REFILL:
            excess = reaction.excess(rate, 0.0)
        else:
            excess = reaction.excess(rate, rate.mean(axis=1)[:, None] if self._balanced else 0.0)
        for r, rng in enumerate(self._rng):
            rng.random(out=self._draws[r])
        hit = self._draws < reaction.probabilities(excess, alpha, ds)
        for r in map(int, np.flatnonzero(hit.any(axis=1))):
            kill = hit[r] & (excess[r] > 0)
            clone = hit[r] & (excess[r] < 0)
            if reaction.control is PopulationControl.PARTNER:
                self._one_for_one(r, kill, clone)
            else:
                self._control(r, kill, clone)

    def _control(self, r: int, kill: NDArray[np.bool_], clone: NDArray[np.bool_]) -> None:
        rng, n, X = self._rng[r], self.n, self.points[r]
        kills = int(np.count_nonzero(kill))
        self.events[0, r] += kills
        if self._kind is ReinjectionKind.REPLACE:
            X[kill] = self._inject(r, kills)
            return
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
        self.points[r] = new

    def _inject(self, r: int, count: int) -> Array:
        assert self._mu_b is not None
        self.events[2, r] += count
        return self._mu_b.sample(count, self._rng[r])

    def _one_for_one(self, r: int, kill: NDArray[np.bool_], clone: NDArray[np.bool_]) -> None:
        rng, X = self._rng[r], self.points[r]
        pending = kill | clone
        for i in rng.permutation(np.flatnonzero(pending)):
            if not pending[i]:  # overwritten in this step: the event was that of its predecessor
                continue
            j = int(rng.integers(self.n - 1))
            j = j + 1 if j >= i else j
            if kill[i]:
                X[i] = X[j]
                self.events[0, r] += 1
            else:
                X[j] = X[i]
                pending[j] = False
                self.events[1, r] += 1


def systematic(weights: Array, uniform: float) -> NDArray[np.int64]:
    """Systematic resampling: n indices, index i about ``n w_i / sum w`` times, from one uniform number."""
    n = len(weights)
    cumulative = np.cumsum(weights)
    places = (uniform + np.arange(n)) * (cumulative[-1] / n)
    return np.minimum(np.searchsorted(cumulative, places, side="right"), n - 1)
