"""Clouds of particles: simulate a problem's finite-n dynamics, many replicas at once.

Replicas are independent: replica k has its own generators, spawned from the seed, and no sum runs over two replicas.
What it computes therefore does not depend on how many replicas there are, on who works on them, or on save times.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.measures.base import Measure, wrap
from mfpde.equation.problem import Problem
from mfpde.particles.checkpoint import Checkpoint, described
from mfpde.particles.cloud import Cloud, Observable, Record
from mfpde.particles.dynamics import Dynamics, Scheme, Weights, make_scheme
from mfpde.particles.ensemble import Ensemble
from mfpde.particles.fields import make_field
from mfpde.particles.random_streams import generator
from mfpde.support.arguments import (
    COUNT,
    FLAG,
    NONE,
    NUMBER,
    PATH,
    SEED,
    function,
    numbers,
    one_of,
    real,
    require,
    shown,
    whole,
)
from mfpde.support.arrays import Array
from mfpde.support.executors import check_executor, each, workers_of
from mfpde.support.files.locks import held
from mfpde.support.memory import check_memory
from mfpde.support.saves import MOST_SAVES
from mfpde.support.session import progress_bar
from mfpde.support.threads import one_blas_thread
from mfpde.support.travel import Portable

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Steps", "check_cloud", "initial_positions", "make_steps", "simulate"]


MOST_STEPS = 1e10
BLOCK = 2**15
"""Particles worked on together: their arrays stay in the cache."""


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
    executor: Executor | None = None,
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
        ``function(points (n, d), weights (n,)) -> number or array``, evaluated at the save times: of a whole cloud, not
        of a place, see ``docs/functions.md``.
    keep_positions : bool
        Whether the positions are kept; without them memory does not grow with n.
    workers : int
        Threads.
    executor : concurrent.futures.Executor, optional
        Who runs the replicas instead of threads: any pool of the standard library, of loky, dask or mpi4py. It stays
        open. Each of its tasks has one thread.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.
    checkpoint : path, optional
        A file, ``.npz``, that the state goes to while the simulation runs, generators included. If it is there, of the
        same simulation, the simulation goes on from it, bit for bit. It is removed at the end. Nobody else may go on
        from it meanwhile. With an executor it has the replicas that are complete.
    checkpoint_every : float
        Seconds between two writes.

    Returns
    -------
    Cloud

    Raises
    ------
    ValueError
        For arguments that do not fit, each with the value and the remedy; for an energy without values at points; for
        a checkpoint of another simulation.
    BrokenPool
        If the executor breaks, a RuntimeError; a checkpoint has the replicas that were complete.
    OSError
        If the checkpoint cannot be read or written; a BlockingIOError if another simulation goes on from it.
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
    check_cloud(problem, n, replicas, seed)
    require(
        workers=(workers, COUNT),
        observe=(observe, one_of(Mapping) | NONE),
        keep_positions=(keep_positions, FLAG),
        progress=(progress, FLAG | NONE),
        checkpoint=(checkpoint, PATH | NONE),
        checkpoint_every=(checkpoint_every, NUMBER),
    )
    check_executor(executor)
    if executor is not None and workers != 1:
        raise ValueError(
            f"workers = {workers} are threads, and an executor has workers of its own: give one of the two"
        )
    for name, observable in (observe or {}).items():
        function(observable, f"observe[{name!r}]")
    steps = make_steps(dt, problem.t_end if t_end is None else t_end, save)
    require_capability(problem.bound_energy, "points", "particles.simulate")
    scheme = make_scheme(problem, dynamics, steps.count)
    start = initial_positions(problem, initial, n, replicas)
    with one_blas_thread():
        evaluation = repr(make_field(problem, n))  # finds the mesh once, before there are threads
    size = max(1, min(BLOCK // n, math.ceil(replicas / (workers if executor is None else workers_of(executor)))))
    record = Record(problem, n, replicas, steps.saves, keep_positions, isinstance(scheme.reaction, Weights), observe)
    seeds = np.random.SeedSequence(int(seed)).spawn(replicas)
    # nobody else goes on from the file, from before it is read to when it is removed
    with nullcontext() if checkpoint is None else held(checkpoint):
        kept = None
        if checkpoint is not None:
            kept = Checkpoint(checkpoint, checkpoint_every, _identity(record, scheme, steps, seed, initial))
        _Blocks(scheme, steps, record, size, start, seeds, kept).complete(workers, executor, progress)
        cloud = record.cloud(steps.times, steps.dt, int(seed), scheme, evaluation)
        if kept is not None:
            kept.remove()
    return cloud


def _identity(
    record: Record, scheme: Scheme, steps: Steps, seed: int, initial: Measure | Array | None
) -> dict[str, str]:
    """By what a checkpoint is known to be of the same simulation."""
    return {
        "problem": f"{record.problem.name!r} {record.problem.fingerprint()}",
        "n": str(record.n),
        "dynamics": repr(scheme.parts),
        "dt": repr(steps.dt),
        "saves": str(steps.saves),
        "seed": str(seed),
        "replicas": str(len(record.energy)),
        "initial": described(initial),
        "observe": str(sorted(record.observe)),  # of callables the name is all that can be told
        "keep_positions": str(record.positions is not None),
    }


class _Blocks:
    """Replicas in blocks that are worked on together.

    Parameters
    ----------
    scheme : Scheme
    steps : Steps
    record : Record
        What is kept of all of them.
    size : int
        Replicas a block, unless the file says how many.
    start : callable
        What gives the positions of a replica from its number and its seed.
    seeds : list of SeedSequence
        One a replica.
    kept : Checkpoint, optional
        The file that the blocks go on from, and are written to.
    """

    def __init__(
        self,
        scheme: Scheme,
        steps: Steps,
        record: Record,
        size: int,
        start: Callable[[int, np.random.SeedSequence], Array],
        seeds: list[np.random.SeedSequence],
        kept: Checkpoint | None,
    ) -> None:
        if kept is not None and kept.contents:
            size = int(kept.contents["block_size"])  # whoever works on them
            record.restore(kept.contents)
        self.scheme, self.steps, self.record, self.size, self.kept = scheme, steps, record, size, kept
        self.start, self.seeds = start, seeds
        self.blocks = [range(i, min(i + size, len(seeds))) for i in range(0, len(seeds), size)]
        self.times = [0.0] * len(self.blocks)
        """How far each of them is."""
        self.stopped = threading.Event()

    def complete(self, workers: int, executor: Executor | None, progress: bool | None) -> None:
        """Run all blocks to the end, several of them at a time where there are workers."""
        from concurrent.futures import ThreadPoolExecutor

        record = self.record
        label = f"{record.problem.name}, {len(self.seeds)} x {record.n}"
        with progress_bar(progress, label, 0.0, self.steps.dt * self.steps.count) as show, one_blas_thread():
            if executor is not None:
                self._complete_by(executor, show)
                return
            if workers == 1 or len(self.blocks) == 1:
                for b in range(len(self.blocks)):
                    self._work(b, show)
                return
            with ThreadPoolExecutor(workers) as pool:
                try:
                    list(pool.map(lambda b: self._work(b, show), range(len(self.blocks))))
                except BaseException:  # an interrupt, or a block that has failed: the others need not go on
                    self.stopped.set()
                    raise

    def _work(self, b: int, show: Callable[[float, float], None]) -> None:
        """Run one block to the end."""
        from concurrent.futures import CancelledError

        record, kept, block = self.record, self.kept, self.blocks[b]
        seeds = [self.seeds[r] for r in block]
        ensemble = Ensemble(record.problem, self.scheme, [self.start(r, self.seeds[r]) for r in block], seeds)
        if kept is not None and (state := kept.state(b)):
            ensemble.restore(state)

        def report(k: int, energy: float) -> None:
            self.times[b] = k * self.steps.dt
            show(sum(self.times) / len(self.times), energy)

        def keep() -> None:
            if self.stopped.is_set():
                raise CancelledError
            if kept is not None and kept.due():
                kept.write({b: ensemble.state()}, self._recorded())

        steps = self.steps
        ensemble.run(steps.dt, steps.count, steps.saves, lambda j: record.take(ensemble, block, j), report, keep)

    def _recorded(self) -> dict[str, Array]:
        return {"block_size": np.array(self.size), **self.record.arrays()}

    def _complete_by(self, executor: Executor, show: Callable[[float, float], None]) -> None:
        """Run all blocks by an executor, and keep each when it is complete."""
        record, kept, held_back = self.record, self.kept, {}

        def tasks() -> Iterator[_Block]:
            for b, block in enumerate(self.blocks):
                state = {} if kept is None else kept.state(b)
                starts = [self.start(r, self.seeds[r]) for r in block]
                yield _Block(b, starts, [self.seeds[r] for r in block], state, record.part(block) if state else {})

        weighted = isinstance(self.scheme.reaction, Weights)
        work = _BlockRun(
            record.problem, self.scheme, self.steps, record.positions is not None, weighted, record.observe,
            state=kept is not None,
        )  # fmt: skip
        try:
            for done, (block, (arrays, state)) in enumerate(each(executor, work, tasks(), "the simulation"), 1):
                record.put(self.blocks[block.number], arrays)
                if kept is not None:
                    held_back[block.number] = state
                show(self.steps.t_end * done / len(self.blocks), float(arrays["energy"][0, -1]))
                if kept is not None and kept.due():
                    kept.write(held_back, self._recorded())
        except BaseException:
            if kept is not None and held_back:
                kept.write(held_back, self._recorded())
            raise


class _Block(NamedTuple):
    """Replicas that a worker runs: their starts and seeds, and where they were and what was recorded before."""

    number: int
    starts: list[Array]
    seeds: list[np.random.SeedSequence]
    state: dict[str, Array]
    recorded: dict[str, Array]


@dataclass(frozen=True)
class _BlockRun(Portable):
    """What a worker does with a block; see `_Blocks`."""

    problem: Problem
    scheme: Scheme
    steps: Steps
    positions: bool
    weights: bool
    observe: dict[str, Observable]
    state: bool

    def __call__(self, block: _Block) -> tuple[dict[str, Array], dict[str, Array]]:
        """What was recorded, and, where `state` asks for it, where the replicas are at the end."""
        steps, here = self.steps, range(len(block.starts))
        record = Record(
            self.problem, len(block.starts[0]), len(here), steps.saves, self.positions, self.weights, self.observe
        )
        ensemble = Ensemble(self.problem, self.scheme, block.starts, block.seeds)
        if block.state:
            record.restore(block.recorded)
            ensemble.restore(block.state)
        take = functools.partial(record.take, ensemble, here)
        ensemble.run(steps.dt, steps.count, steps.saves, take, lambda k, energy: None, lambda: None)
        return record.arrays(), ensemble.state() if self.state else {}


# ---------------------------------------------------------------------------------------------- arguments


def check_cloud(problem: Problem, n: int, replicas: int, seed: int) -> None:
    """Refuse problems that clouds cannot carry, numbers of particles and replicas that are none, and such a seed."""
    problem.refuse_terms("particles")
    if not whole(n) or n < 2:
        raise ValueError(f"n must be a whole number of at least 2, not {shown(n)}")
    require(replicas=(replicas, COUNT), seed=(seed, SEED))
    check_memory(int(n) * int(replicas), 4 * len(problem.axes) + 8, "particles")


@dataclass(frozen=True)
class Steps:
    """The steps of a run.

    Attributes
    ----------
    dt : float
        Their length.
    count : int
    saves : list of int
        After which of them something is saved, 0 and the last included.
    t_end : float
        The end of the run.
    """

    dt: float
    count: int
    saves: list[int]
    t_end: float

    @property
    def times(self) -> Array:
        """The save times."""
        return np.array(self.saves) * self.dt


def make_steps(dt: float, t_end: float, save: int | Sequence[float]) -> Steps:
    """The longest steps up to `dt` of which `t_end` is a multiple, and those after which something is saved.

    Raises
    ------
    ValueError
        For lengths that are not positive, more than `MOST_STEPS` steps, and save times that are no multiples of a step.
    """
    for name, value in (("dt", dt), ("t_end", t_end)):
        if not (real(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, not {shown(value)}")
    if not t_end / dt <= MOST_STEPS:
        raise ValueError(f"t_end = {t_end:g} in steps of dt = {dt:g} are more than {MOST_STEPS:g}; take longer steps")
    count = max(1, math.ceil(t_end / dt * (1 - 1e-9)))
    return Steps(t_end / count, count, _save_steps(save, t_end / count, count), t_end)


def _save_steps(save: int | Sequence[float], dt: float, steps: int) -> list[int]:
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
    points = numbers(initial, "initial positions")
    if points.shape not in ((n, d), (replicas, n, d)):
        raise ValueError(f"initial positions must have shape ({n}, {d}) or ({replicas}, {n}, {d}), not {points.shape}")
    for i, axis in enumerate(problem.axes):
        points[..., i] = x = wrap(axis, points[..., i])
        wrong = ~((x >= axis.lower) & (x <= axis.upper))
        if wrong.any():
            at = float(x[wrong][0])
            remedy = "enlarge the axis" if math.isfinite(at) else "remove it"
            raise ValueError(f"an initial position has {axis.name} = {at:g}, outside the box, {axis!r}; {remedy}")
    return lambda r, seed: points.copy() if points.ndim == 2 else points[r].copy()
