"""`reference`: numbers with error bars, from independent discretisations that are refined until the bars are small."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.energy.capabilities import require_capability, require_lyapunov
from mfpde.equation.problem import Problem, Reaction
from mfpde.support.arguments import FLAG, FUNCTION, NONE, POSITIVE, entries, real, require, shown
from mfpde.support.arrays import Array
from mfpde.support.executors import check_executor
from mfpde.support.session import budget_bar
from mfpde.verification.observables import (
    DecayRate,
    EnergyAt,
    Observable,
    as_times,
)
from mfpde.verification.references.ahead import Ahead
from mfpde.verification.references.certified import Certified, Reference
from mfpde.verification.references.level_cache import LevelCache, cache_folder
from mfpde.verification.references.search import Job, Search

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["reference"]


def reference(
    problem: Problem,
    tolerance: float = 1e-4,
    observables: Sequence[Observable] | None = None,
    *,
    times: Sequence[float] | None = None,
    budget: float = 120.0,
    memory: float = 2.0 * 2**30,
    progress: bool | Callable[[str], None] | None = None,
    cache: bool | str | os.PathLike[str] = False,
    executor: Executor | None = None,
) -> Reference:
    r"""Refine until every observable has an error bar within a tolerance.

    Three things are computed, one after the other.

    1. **The value**, by the better of two independent discretisations: at temperature 0 quadrature nodes along
       characteristics or a mesh with `Weno5`; above, meshes with `Weno5` or with `ScharfetterGummel`. The state in
       which a flow with a temperature ends, ``t = inf``, is the minimiser of the free energy on the centres of a mesh,
       or on Gauss nodes. It comes from the finest run.
    2. **A check at the level of the bar**: the same by differently placed nodes (another rule on another interval,
       another method in time), or another sequence of meshes. Where the two differ by more than their bars, the bar
       of the value reaches to the other one.
    3. **A check of the implementation**: the other of the two discretisations. It is stated to how much it confirms
       the value; worse than 1e-2 is not confirmed. `Muscl` takes its place where characteristics do not apply
       or converge too slowly, and for masses of regions and marginals. Where it differs by more than three times both
       bars, that is an error.

    Where nodes are moved by a compiled program (`Characteristics.engine` says where and why) they go first, and a mesh
    gives the value only where they do not get there. Differently placed nodes then begin near the number that gave the
    value. A mesh would take longer than both: it takes longer steps, whose error is seen on its first level, and is
    refined until it confirms 1e-3, or a hundred tolerances if that is more; until 1e-2 where 1e-3 is much work.

    Each level has half as many cells or nodes again along each axis. With :math:`d_1, d_2` the last two changes of a
    value :math:`v` and :math:`\rho` the ratio of typical changes at its time, of all observables, of the energy and of
    the moments,

    .. math::

       \text{bar} = 5\, \frac{\rho}{1 - \rho}\, \max(|d_2|, \rho |d_1|, \tfrac{1}{10} D) + 3\, |\delta|.

    The first part is the rest of a geometric series, five times: no order is assumed, but none above that of the
    scheme is believed. The ratio is the largest of those of one step, of two and (on meshes) of three; and as a change
    may be small by chance, a tenth of the median of all at the time, :math:`D`, is the least. :math:`\delta` is what is
    left of the error in time after the finest steps: a third of what half the steps changed on a mesh, 3 % of what a
    hundredth of the tolerance changed along characteristics. What nodes let expect that do not carry the mass is added,
    see `Characteristics.watched`; and no bar is below the round-off of the constants that an energy cancels.

    Parameters
    ----------
    problem : Problem
    tolerance : float
        Largest bar, relative to the value (of several values at a time, to the largest). Of a moment or a mass 1e-13
        of the largest that is possible on the box is always enough.
    observables : sequence of Observable, optional
        Default: `EnergyAt` the times.
    times : sequence of float, optional
        When observables that name no times are measured, ``math.inf`` included; default: the problem's end.
    budget : float
        Seconds: what is not there by then is not waited for, and the best bars so far are reported. Seconds in which
        functions are compiled, once an installation, do not count.
    memory : float
        Bytes that a level may take; the first three are made in any case.
    progress : bool or callable, optional
        Whether to show a progress bar (default: on a terminal), or a function that is told what is being done.
    cache : bool or path, optional
        Whether levels are kept on disk and found again, so that a second call with a larger budget or a smaller
        tolerance goes on (True: in the user's cache folder, or in ``$MFPDE_CACHE_DIR``); or the folder. Problems whose
        functions agree at the nodes of the start count as one, see `mfpde.verification.references.level_cache`.
        Default: not kept.
    executor : concurrent.futures.Executor, optional
        Who computes levels, each with one thread: any pool of the standard library, of loky, dask or mpi4py, which
        stays open. Levels that are known to be needed are computed at the same time: two or three workers are enough.
        The numbers are the same. Default: this process, one level after the other.

    Returns
    -------
    Reference

    Raises
    ------
    BrokenPool
        If the executor breaks, a RuntimeError.
    Disagreement
        If the independent discretisations differ by more than three times the sum of their bars, and both know the
        value to 1e-2; one that does not confirms nothing.
    KeyboardInterrupt
        When interrupted, by SIGTERM too while it is on a mesh, with what is known so far as its attribute
        ``reference``, if anything is.
    RuntimeError
        If the budget is over before anything is known.
    ValueError
        For arguments that do not fit; for ``t = inf`` without a constant temperature above 0, or with a reaction
        other than that of the free energy, which ends elsewhere.

    Notes
    -----
    A bar is an estimate, not a proof: over random problems with known answers 97 % of the values or more lie within
    theirs, and half of the bars are less than 30 times the error (``validation/coverage.py``). A feature that all
    levels miss is not seen.

    **Good values.** Smooth starts at temperature 0: 1e-6 in a tenth of a second in one dimension and in half a second
    in two where nodes are moved by a compiled program, 1e-8 in seconds. Above, 1e-5, as steps are of second order in
    time. Masses and marginals 1e-5. A start with a jump takes its bars from characteristics; the mesh then converges
    at first order and confirms two or three digits. Where the law is torn apart, the mesh gives the value. The first
    mesh has a third of the problem's own `shape`; where it suggests none, 50, 24, 12 or 8 cells along each of one to
    four axes.

    Examples
    --------
    >>> import mfpde as mf
    >>> found = mf.reference(mf.problems.linear_neuron(), 1e-5)
    >>> exact = mf.problems.linear_neuron().exact["energy"](1.0)
    >>> bool(abs(found["energy"].value[0] - exact) <= found["energy"].bar[0])
    True
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"reference needs a Problem, not {shown(problem)}; see mfpde.problems")
    if not (real(tolerance) and 1e-12 <= tolerance < 1):
        raise ValueError(f"tolerance must lie between 1e-12 and 1, not {shown(tolerance)}")
    if not (real(budget) and budget > 0):
        raise ValueError(f"budget must be a positive number of seconds, not {shown(budget)}")
    require(memory=(memory, POSITIVE), progress=(progress, FUNCTION | FLAG | NONE))
    check_executor(executor)
    wanted = _timed(problem, observables, times)
    search = Search(problem, tolerance, budget, memory, _cache(problem, cache))
    jobs = []
    for end in (False, True):
        for mesh in (False, True):
            chosen = [
                (k, tuple(t for t in observable.times if math.isinf(t) is end))  # type: ignore[attr-defined]
                for k, observable in enumerate(wanted)
                if observable.needs_mesh is mesh
            ]
            if chosen := [(k, at) for k, at in chosen if at]:
                jobs.append((Job(search, [wanted[k] for k, _ in chosen], [at for _, at in chosen], mesh), chosen))
    try:
        with contextlib.ExitStack() as leaving:
            search.say = leaving.enter_context(budget_bar(progress, f"reference of {problem.name}", budget))
            if executor is not None:
                search.ahead = leaving.enter_context(Ahead(executor, search.end))
            for i, (job, _) in enumerate(jobs):
                job.refine(len(jobs) - i)
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(RuntimeError):  # nothing is there yet
            interrupt.reference = _collected(search, wanted, jobs)  # type: ignore[attr-defined]
        raise
    return _collected(search, wanted, jobs)


def _timed(
    problem: Problem, observables: Sequence[Observable] | None, times: Sequence[float] | None
) -> list[Observable]:
    """The observables, each with its times, also where those were the default: so the same can be measured again."""
    wanted = list(entries(observables, "observables")) if observables is not None else [EnergyAt()]
    if not wanted or not all(isinstance(observable, Observable) for observable in wanted):
        raise ValueError(f"observables must be a list of Observable, not {shown(observables)}")
    for observable in wanted:
        if not hasattr(observable, "times"):
            kind = type(observable).__name__
            raise ValueError(f"{kind} has no times: make it a frozen dataclass with a field `times: Any = None`")
    default = as_times(times) or (problem.t_end,)
    each = [as_times(observable.times) or default for observable in wanted]  # type: ignore[attr-defined]
    for observable, at in zip(wanted, each, strict=True):
        if isinstance(observable, DecayRate) and (len(at) < 2 or math.isinf(at[-1])):
            raise ValueError("a decay rate needs two finite times: DecayRate((t_0, t_1))")
    if not max(at[-1] for at in each) > 0:
        raise ValueError("some observable must be measured after t = 0")
    if any(math.isinf(at[-1]) for at in each):
        _check_end_state(problem)
    return [replace(observable, times=at) for observable, at in zip(wanted, each, strict=True)]  # type: ignore[call-arg]


def _check_end_state(problem: Problem) -> None:
    """Refuse t = infinity where the minimiser of the free energy is not known to be the end, or not at points."""
    require_lyapunov(problem.bound_energy, "t = inf")
    if problem.species is not None:
        raise ValueError(f"t = inf: the end states of {problem.species[1]!r} are not computed; give finite times")
    require_capability(problem.bound_energy, "points", "reference at t = inf")
    if not problem.temperature.constant or problem.noiseless:
        raise ValueError(f"t = inf needs a constant temperature above 0, not {problem.temperature!r}")
    if problem.reinjection is not None or (problem.reacts and problem.reaction is not Reaction.FREE_ENERGY):
        raise ValueError(f"t = inf needs alpha = 0 or reaction 'free-energy', not {problem.reaction.value!r}")


def _cache(problem: Problem, cache: bool | str | os.PathLike[str]) -> LevelCache | None:
    """Where levels are kept, if at all."""
    if isinstance(cache, (bool, np.bool_)):
        return LevelCache(problem, cache_folder()) if cache else None
    if not isinstance(cache, (str, os.PathLike)):
        raise ValueError(f"cache must be True, False or a folder, not {shown(cache)}")
    return LevelCache(problem, Path(cache))


def _collected(
    search: Search, wanted: Sequence[Observable], jobs: Sequence[tuple[Job, Sequence[tuple[int, tuple[float, ...]]]]]
) -> Reference:
    """All observables of all jobs, as far as they were refined."""
    parts: dict[int, list[Certified]] = {k: [] for k in range(len(wanted))}
    begun = [(job, chosen) for job, chosen in jobs if job.best.levels] or jobs[:1]
    for job, chosen in begun:
        for (k, _), certified in zip(chosen, job.result(), strict=True):
            parts[k].append(certified)
    every = tuple(replace(_joined(parts[k]), observable=observable) for k, observable in enumerate(wanted) if parts[k])
    masses = [job.ancestral for job, _ in jobs if job.ancestral is not None]
    return Reference(
        search.problem,
        search.tolerance,
        every,
        tuple(search.levels),
        all(job.reached for job, _ in jobs),
        min(masses, default=None),
    )


def _joined(parts: Sequence[Certified]) -> Certified:
    """Finite times and the end state of one observable."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts

    def both(name: str) -> Array | None:
        a, b = getattr(first, name), getattr(second, name)
        if a is None and b is None:
            return None
        # what was not computed for the one is not known
        a = np.full(first.value.shape, np.nan) if a is None else a
        b = np.full(second.value.shape, np.nan) if b is None else b
        return np.concatenate([a, b])

    def words(name: str) -> str:
        said = [text for text in (getattr(first, name), getattr(second, name)) if text]
        return "; ".join(said) if len(said) == 2 or name == "route" else ""

    changed: dict[str, Any] = {name: both(name) for name in _ARRAYS} | {name: words(name) for name in _WORDS}
    changed["sizes"] = tuple("; ".join(filter(None, pair)) for pair in zip(first.sizes, second.sizes, strict=True))
    return replace(first, **changed)


_ARRAYS = ("times", "value", "bar", "other_value", "other_bar", "check_value", "check_bar")
_WORDS = ("route", "check", "other")
