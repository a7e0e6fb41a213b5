"""`resume`: a run goes on from its file, as if it had never stopped."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.problem import Problem
from mfpde.mesh.algebra import Algebra
from mfpde.mesh.conclusion import conclude
from mfpde.mesh.controllers import Controller
from mfpde.mesh.kinds import LIMITS, PARTS
from mfpde.mesh.memory import check_run
from mfpde.mesh.methods.base import Method
from mfpde.mesh.options import RunOptions
from mfpde.mesh.outputs import written_to
from mfpde.mesh.record import Result
from mfpde.mesh.run import Integration
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.solution import Solution
from mfpde.mesh.solver import Solver
from mfpde.mesh.stopping import Limits, OnEndMass, StopCondition
from mfpde.mesh.stream import Stream
from mfpde.mesh.unfinished import NOT_WHOLE
from mfpde.runs.loading import load_solution
from mfpde.support.arguments import NONE, NUMBER, PATH, numbers, one_of, require, shown, whole
from mfpde.support.provenance import versions
from mfpde.support.saves import MOST_SAVES, contradiction, distinct_times, nearest, same_time, save_times
from mfpde.support.session import warn
from mfpde.support.threads import thread_limit
from mfpde.support.words import one_line, printable

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["made_again", "resume", "save_targets"]


def resume(
    source: str | PathLike[str] | Solution,
    t_end: float | None = None,
    *,
    problem: Problem | None = None,
    scheme: Scheme | None = None,
    method: Method | None = None,
    controller: Controller | None = None,
    save: int | Sequence[float] | None = None,
    stop: StopCondition | None = None,
    max_steps: int = 10_000_000,
    progress: bool | None = None,
    threads: int | None = None,
    throw: bool = True,
    output: str | PathLike[str] | Stream | None = None,
    checkpoint: float | None = 60.0,
    time_limit: float | None = None,
    algebra: Algebra | None = None,
) -> Solution:
    """Go on with a run that was killed, interrupted or stopped, or beyond its end.

    The result is the whole run, from its first start: bit for bit what it would have been without the break, with
    the same versions and the same save times.

    Parameters
    ----------
    source : path or Solution
        The file that `mfpde.solve` wrote with ``output=`` or `Solution.save`, whatever became of the run; or a
        solution. A file is replaced by that of the whole run, and stays until then. It is locked before it is read, so
        that of two that go on with a run one is refused.
    t_end : float, optional
        Where to go; default: where the run was to go.
    problem : Problem, optional
        The problem, where the file does not hold it (one with functions of your own).
    scheme, method, controller : optional
        As they were; only needed for classes of your own, which a file cannot name.
    save : int or sequence of float, optional
        Save times beyond the old end: how many, both ends included, or the times, among which those that the run has
        may be as well. Default: as far apart as the last two.
    stop, max_steps, progress, threads, throw, checkpoint, time_limit, algebra : optional
        As for `mfpde.solve`; `max_steps` counts the steps of this call. A stop condition is not in the file, nor is an
        algebra: a run that goes on with another one goes on to round-off.
    output : path, optional
        Another file to write to; the source is then only read, and not locked. For a solution without one, densities
        stay in memory.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If the run is already where it should go, if a save time could not be kept any more, or if what is given is not
        what the run was made with: the message names everything that differs.
    FileFormatError
        If the file is damaged, or a saved density in it is not the one whose mass and minimum were recorded; nothing is
        replaced then.
    OSError, SolveError
        As for `mfpde.solve`: a BlockingIOError if another run is writing the file.

    Warns
    -----
    RunWarning
        If packages have other versions than they had: then the bits may differ. If parts of the file of a run that was
        killed are not whole: then it goes on from the newest state of which all is whole.

    Examples
    --------
    >>> import mfpde as mf
    >>> whole = mf.solve(mf.problems.linear_neuron(), shape=(200,), t_end=1.0, save=[0.5], progress=False)
    >>> half = mf.solve(mf.problems.linear_neuron(), shape=(200,), t_end=0.5, save=2, progress=False)
    >>> further = mf.resume(half, 1.0, progress=False)
    >>> bool((further.density == whole.density).all()), len(further.energy)
    (True, 3)
    """
    options = RunOptions.of(locals())
    require(
        source=(source, PATH | one_of(Solution)),
        t_end=(t_end, NUMBER | NONE),
        problem=(problem, one_of(Problem) | NONE),
        scheme=(scheme, one_of(Scheme) | NONE),
        method=(method, one_of(Method) | NONE),
        controller=(controller, one_of(Controller) | NONE),
        output=(output, PATH | one_of(Stream) | NONE),
    )
    path = None if isinstance(source, Solution) else Path(source)
    with _held(output, path):
        solution = source if isinstance(source, Solution) else load_solution(source, thorough=True)
        given = {"scheme": scheme, "method": method, "controller": controller}
        problem = _the_same(solution, problem, given, path)
        made = {name: made_again(solution.configuration.get(name), name, thing) for name, thing in given.items()}

        state, configuration = solution.state, solution.configuration
        targets = save_targets(solution, t_end, save)
        _mind_damage(solution)
        _mind_versions(solution)
        options = dataclasses.replace(
            options,
            limits=made_again(configuration.get("limits", LIMITS.to_text(Limits())), "limits", None),
            on_end_mass=OnEndMass(configuration.get("on_end_mass", OnEndMass.WARN)),
            tolerance=configuration.get("tolerance"),
            estimate=configuration.get("estimate", True) is True,
        )
        stream = _stream(output, path, configuration)
        parts = {**made, "shape": solution.grid.shape, "save": [0.0, *targets], "output": stream}
        check_run(problem, dataclasses.replace(options, **parts))
        with thread_limit(threads, solution.grid.size):
            solver = Solver(problem, solution.grid.shape, **made, algebra=algebra)
            solver.init(state)
            run = Integration(solver, state, targets, options, stream, history=solution)
        solution = run.complete()
    return conclude(solution, throw=throw, stacklevel=3)


def _held(output: str | PathLike[str] | Stream | None, path: Path | None) -> AbstractContextManager[None]:
    """What keeps others from the file that is written; of another one that is only read it keeps nobody."""
    if output is not None:
        return written_to(output)
    # what is not there is refused when it is read
    return nullcontext() if path is None or not path.exists() else written_to(path)


def _the_same(solution: Solution, problem: Problem | None, given: Mapping[str, Any], path: Path | None) -> Problem:
    """The run's problem, unless what is given is not what the run was made with."""
    configuration = solution.configuration
    what = f"{path}" if path is not None else "this solution"
    found = solution.problem if problem is None else problem
    if found is None:
        why = solution.missing or "its problem was made of your own functions or data"
        raise ValueError(f"{what} does not hold its problem {solution.name!r}: {why}; pass problem=")
    differ = []
    if found.fingerprint() != solution.fingerprint:
        then, now = dict(configuration.get("parameters") or {}), dict(found.parameters or {})
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        differ += [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in names]
        if found.name != solution.name:
            differ.insert(0, f"the problem was {solution.name!r} and is {found.name!r}")
        if not differ:
            differ.append("the problem's energy, axes, start or dynamics")
    for name, thing in given.items():
        was = configuration.get(name)
        if thing is not None and not PARTS[name].says(was, thing):
            differ.append(f"{name} was {was} and is {PARTS[name].to_text(thing)}")
    if differ:
        raise ValueError(printable(f"{what} is of another run, which cannot go on like this: {'; '.join(differ)}"))
    return found


def save_targets(solution: Solution, t_end: float | None, save: int | Sequence[float] | None) -> list[float]:
    """The save times after its start of the whole run that `resume` makes; parameters as there."""
    now, first = float(solution.state.t), float(solution.times[0])
    if "save" in solution.configuration:
        said = contradiction(solution.times.tolist(), now, solution.configuration["save"])
        if said:
            raise ValueError(
                f"the save times of the run do not fit its configuration: {said}; "
                "begin a new run from its state: mfpde.solve(problem, initial=solution.state)"
            )
    old = [float(t) for t in solution.configuration.get("save", solution.times[1:])]
    end = old[-1] if t_end is None and old else float(solution.times[-1] if t_end is None else t_end)
    if same_time(end, now, end):
        end = now  # where the run is stands for the times that are the same: it has been saved
    # nothing is left of a run that was killed after its last step, or that was given up a rounding error before its end
    unsaid = solution.result in (Result.INTERRUPTED, Result.TIME_LIMIT, Result.UNFINISHED, Result.DT_MIN)
    if not (math.isfinite(end) and (end > now or (end == now and unsaid))):
        raise ValueError(
            f"the run is at t = {now:g} and was to go to {old[-1] if old else now:g}; "
            f"t_end = {end:g} must lie beyond (--until)"
        )
    # what has been saved stays as it is, also where early versions saved times that are one
    saved = [t for t in old if t <= now]
    if now not in saved and any(same_time(t, now, end) for t in old):
        saved.append(now)
    ahead = [t for t in old if now < t < end or same_time(t, end, end)]
    last = max((*saved, *ahead), default=first)
    if last < end and not same_time(last, end, end):
        ahead += _beyond(distinct_times([first, *saved, *ahead], (now,)), end, save)
    before = {*saved}
    targets = saved + [t for t in distinct_times(ahead, (now, end)) if t >= now and t not in before]
    if save is not None and not whole(save):
        wanted, known = np.ravel(numbers(save, "save times")), np.sort([first, *targets])
        near = known[nearest(known, wanted)]
        lost = [t for t, s in zip(wanted.tolist(), near.tolist(), strict=True) if not same_time(t, s, end)]
        if lost:
            raise ValueError(
                f"save = {shown(lost)}: the save times of the run are settled up to t = {last:g}; more can only be "
                "added beyond (--save)"
            )
    return targets


def _beyond(before: Sequence[float], end: float, save: int | Sequence[float] | None) -> list[float]:
    """Save times after the last of those before, up to the end: as they are given, or as far apart as the last two."""
    last = before[-1]
    if save is not None:
        return save_times(save, last, end)
    step = last - before[-2] if len(before) > 1 else end - last
    count = (end - last) / step * (1 - 1e-9)
    if not count <= MOST_SAVES:
        raise ValueError(
            f"save times as far apart as the last two, {step:g}, would be {count:.3g} from t = {last:g} to {end:g}; "
            "give save= (--save)"
        )
    return [*(last + step * (i + 1) for i in range(math.ceil(count) - 1)), end]


def _mind_damage(solution: Solution) -> None:
    for text in solution.warnings:
        if text.startswith(NOT_WHOLE):
            warn(text, stacklevel=5)


def _mind_versions(solution: Solution) -> None:
    then, now = solution.provenance.get("versions", {}), versions()
    changed = [f"{name} {then[name]} -> {now[name]}" for name in now if name in then and then[name] != now[name]]
    if changed:
        text = f"packages have changed since the run began ({', '.join(changed)}): its last digits may differ"
        warn(text, stacklevel=5)


def _stream(
    output: str | PathLike[str] | Stream | None, path: Path | None, configuration: Mapping[str, Any]
) -> Stream | None:
    if isinstance(output, Stream):
        return output
    target = path if output is None else Path(os.fspath(output))
    if target is None:
        return None
    own = {name: configuration[name] for name in ("toml",) if name in configuration}
    return Stream(target, overwrite=target == path, configuration=own)


def made_again(text: Any, name: str, given: Any) -> Any:
    """The scheme, method, controller or limits that a file describes, unless they are given.

    Raises
    ------
    ValueError
        For what a file cannot name, as an object of a user's own class: it is to be given.
    """
    if given is not None:
        return given
    try:
        return PARTS[name].from_text(text)
    except ValueError:
        raise ValueError(f"the file says {name} = {one_line(text)}, which mfpde has not; pass {name}=") from None
