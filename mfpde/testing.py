"""Other people's particle codes held against references, in tests: a right code fails with a stated probability.

>>> import numpy as np
>>> import mfpde as mf
>>> from mfpde import testing
>>> problem = mf.problems.linear_neuron(alpha=0.0)
>>> reference = mf.reference(problem, 1e-6, times=[0.5, 1.0])
>>> def train(n, seed):
...     theta = problem.mu_0.sample(n, np.random.default_rng(seed))[:, 0]
...     recorder = testing.ParticleRecorder(reference)
...     for step in range(1001):
...         if recorder.wants(1e-3 * step):
...             recorder.record(1e-3 * step, theta)
...         theta = theta - 1e-3 * (theta.mean() - 2.0)
...     return recorder
>>> runs = testing.run_replicas(train, (100, 400), 16)  # or by an executor, with the same seeds
>>> report = testing.assert_matches(reference, runs, error=2e-3)  # what the step of 1e-3 may do
>>> report.passed
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.support.arguments import COUNT, COUNTS, FLAG, SEED, function, real, require, shown
from mfpde.support.executors import check_executor, each
from mfpde.support.travel import Portable
from mfpde.verification.particle_tests.cases import Runs, make_case, stated_arrays, tolerances_of
from mfpde.verification.particle_tests.recorder import ParticleRecorder
from mfpde.verification.particle_tests.report import Report, Row, Slope
from mfpde.verification.particle_tests.statistics import limit_rows, sanity_rows, slope_rows
from mfpde.verification.references.certified import Reference

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["ParticleRecorder", "Report", "Row", "Slope", "assert_converges", "assert_matches", "run_replicas"]


MOST_REPLICAS = 100_000
"""Of one size."""


def run_replicas(
    train: Callable[[int, int], Any],
    sizes: Sequence[int],
    replicas: int,
    *,
    seed: int = 0,
    executor: Executor | None = None,
) -> dict[int, list[Any]]:
    """Run a training code for some sizes and replicas, each with a seed of its own: what `assert_converges` takes.

    Parameters
    ----------
    train : callable
        ``train(n, seed)`` gives a run of n particles: a `ParticleRecorder`, or a mapping of names to arrays. The seed
        is a whole number below 2^32.
    sizes : sequence of int
        The n.
    replicas : int
        Runs of each size.
    seed : int
        Of all of them: replica k of n particles depends on the seed, on n and on k, not on what else is run, nor on who
        runs it.
    executor : concurrent.futures.Executor, optional
        Who runs: any pool of the standard library, of loky, dask or mpi4py, which stays open. BLAS and compiled code of
        this package have one thread in a run. Default: this process, one run after the other.

    Returns
    -------
    dict of int to list
        n to its runs, in the order of their seeds.

    Raises
    ------
    BrokenPool
        If the executor breaks, a RuntimeError.
    ValueError
        For arguments that do not fit.

    Examples
    --------
    >>> from mfpde import testing
    >>> runs = testing.run_replicas(lambda n, seed: {"seed": seed}, (100, 400), 2)
    >>> [len(several) for several in runs.values()], runs[100][0]["seed"] != runs[400][0]["seed"]
    ([2, 2], True)
    """
    function(train, "train")
    require(sizes=(sizes, COUNTS), replicas=(replicas, COUNT), seed=(seed, SEED))
    if replicas > MOST_REPLICAS:
        raise ValueError(f"replicas = {shown(replicas)}: at most {MOST_REPLICAS}; a few hundred tell all")
    check_executor(executor)
    tasks = [(int(n), k, own) for n in sizes for k, own in enumerate(_seeds(seed, int(n), replicas))]
    runs: dict[int, list[Any]] = {n: [None] * replicas for n, _, _ in tasks}
    work = _Training(train)
    done = ((task, work(task)) for task in tasks) if executor is None else each(executor, work, tasks, "the replicas")
    for (n, k, _), run in done:
        runs[n][k] = run
    return runs


def _seeds(seed: int, n: int, count: int) -> list[int]:
    """Different seeds of so many runs of n particles."""
    found: dict[int, None] = {}
    for child in np.random.SeedSequence([seed, n]).spawn(count):
        words = (int(word) for word in child.generate_state(64))
        found[next(word for word in words if word not in found)] = None
    return list(found)


class _Training(Portable):
    """A training code in a worker."""

    def __init__(self, train: Callable[[int, int], Any]) -> None:
        self.train = train

    def __call__(self, task: tuple[int, int, int]) -> Any:
        n, _, seed = task
        return self.train(n, seed)


def assert_matches(
    reference: Reference,
    values: Any,
    *,
    error: float | Mapping[str, Any] = 0.0,
    absolute: float | Mapping[str, Any] = 0.0,
    bias: float | Mapping[str, Any] | None = None,
    false_alarm: float = 1e-3,
    observables: Sequence[str] | None = None,
    times: Sequence[float] | None = None,
) -> Report:
    r"""Assert that values agree with a reference within all that is known of the errors of both.

    With the reference's value :math:`v \pm b`, of one run the value :math:`x` has to fulfil

    .. math:: |x - v| \le b + e,

    where :math:`e` is the error that the caller states. Of :math:`R` replicas of :math:`n` particles it is the mean
    :math:`\bar x`, with the sample deviation :math:`s` and Student's t,

    .. math:: |\bar x - v| \le b + e + C/n + t_{R-1}\, s/\sqrt R,

    and with several sizes the limit :math:`n \to \infty` of the line in :math:`1/n` through the means, which has no
    bias of order :math:`1/n`; of the next order up to a quarter of the first, at the smallest size, is allowed. The
    quantile is such that a right code fails with probability `false_alarm` at most, over all numbers together (each
    gets its share).

    Parameters
    ----------
    reference : Reference
        From `mfpde.reference` or `mfpde.load_reference`.
    values : mapping, ParticleRecorder, or several
        One run: a `ParticleRecorder`, or a mapping of names of observables to arrays of the shape of the reference's
        values, (m, ...) with m times. Replicas: a sequence of those, or a mapping to arrays (R, m, ...). Several
        sizes: a mapping of n to replicas. Observables that a mapping does not name are not compared, and the report
        says so.
    error : float or mapping of names to floats
        The caller's own error (of the time step, say), relative to the value, of several at a time to the largest.
    absolute : float or mapping of names to floats or arrays
        The same in units of the observable.
    bias : float or mapping of names to floats, optional
        ``C`` in units of the observable: the mean of an observable over replicas is off by ``C/n`` at most. Needed
        for replicas of one size: 0 says that there is none, which is true of moments at time 0.
    false_alarm : float
        Between 1e-12 and 0.5.
    observables : sequence of str, optional
        Names of those to compare; default: all that there are values of.
    times : sequence of float, optional
        Those of the reference's to compare at; default: all. Arrays then have these times only.

    Returns
    -------
    Report
        With the smallest error that would have been seen.

    Raises
    ------
    AssertionError
        With a table.
    ValueError
        If something does not fit together: the test is wrong, not the code that is tested.

    Notes
    -----
    *What n particles can show.* One run of n particles is ``s / sqrt(n)`` off, and does not know s. R replicas average
    that away: errors of about ``5 s / sqrt(n R)`` are seen, until the bias ``C/n`` of a finite width is reached; two
    sizes remove that as well. A smaller error than `Report.visible` says is not seen: look at it once.

    The stated probability holds if replicas are independent, the bars and the stated errors hold, and the values of a
    replica are nearly normal, as means over many particles are. Where they are not (an energy close to its minimum is a
    sum of squares), the skewness is taken out; measured with exponential replicas and 1e-3: 0.0021 for 16 replicas,
    0.0007 for 32, and 0.005 for 8.

    **Good values.** 16 replicas or more, two sizes a factor of two to eight apart, a few observables at a few times:
    each number more widens all intervals a little. State `error` by running once with half the step.

    **Pitfalls.** Replicas that share their seed. A relative `error` of a value that is close to 0: use `absolute`.
    Running a failing test again with other seeds until it passes.

    References
    ----------
    Hall (1992), *On the removal of skewness by transformation*, J. R. Statist. Soc. B 54, 221-228.

    Examples
    --------
    >>> import mfpde as mf
    >>> reference = mf.reference(mf.problems.linear_neuron(), 1e-6)
    >>> print(mf.testing.assert_matches(reference, {"energy": reference["energy"].value}).passed)
    True
    >>> mf.testing.assert_matches(reference, {"energy": 1.001 * reference["energy"].value})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: particles do not match the reference for 'linear-neuron': 1 of 1 checks fail
    ...
    """
    __tracebackhide__ = True
    case = make_case(reference, values, observables, times)
    sizes = case.sizes
    _check_false_alarm(false_alarm)
    tolerances = tolerances_of(case, error, absolute)
    several = any(len(group) > 1 for runs in sizes for group in runs.values.values())
    if len(sizes) > 1 or several:
        _check_replicas(sizes)
    if len(sizes) > 1 and bias is not None:
        raise ValueError("with several sizes the bias is estimated: leave bias= out")
    if len(sizes) == 1 and several and bias is None:
        raise ValueError(
            "replicas of one size: state bias= (C of a bias C/n; 0 if there is none), or give several sizes, {n: runs}"
        )
    if not several and sizes[0].recorders and _nothing(error) and _nothing(absolute):
        raise ValueError("one run of particles says nothing of its error: give replicas, or state error= or absolute=")
    stated = stated_arrays(0.0 if bias is None else bias, "bias", list(tolerances))
    for name, c in stated.items():
        if c.ndim > 0:
            raise ValueError(f"the bias of {name!r} must be one number, not {shown(c)}")
        if c > 0 and sizes[0].n is None:
            raise ValueError("a bias C/n needs n: give the replicas as {n: replicas}")
    rows = limit_rows(case, tolerances, stated, 0.5 * false_alarm / case.numbers)
    report = case.report((*sanity_rows(case), *rows), (), false_alarm if several else None)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def assert_converges(
    reference: Reference,
    runs_by_size: Mapping[int, Any],
    rate: float = -0.5,
    false_alarm: float = 1e-3,
    *,
    error: float | Mapping[str, Any] = 0.0,
    absolute: float | Mapping[str, Any] = 0.0,
    two_sided: bool = False,
    observables: Sequence[str] | None = None,
    times: Sequence[float] | None = None,
) -> Report:
    r"""Assert that particles converge to a reference, at a rate and to the right limit.

    Two things are tested, each with half of `false_alarm`:

    - *the rate*: the root-mean-square error over replicas,
      :math:`r_n = (\frac1R \sum_k |x_k - v|^2)^{1/2}`, falls like :math:`n^{\mathrm{rate}}` and not more slowly. The
      slope of :math:`\log r_n` on :math:`\log n` gets an interval from the law of the replicas' squares, as those of
      one normal number each; bars and stated errors widen it;
    - *the limit*: as in `assert_matches` with several sizes.

    Parameters
    ----------
    reference : Reference
    runs_by_size : mapping of int to replicas
        n to the replicas with n particles: two sizes or more, two replicas or more of each. See `assert_matches`.
    rate : float
        Negative; -1/2 for independent neurons and for mean-field particles.
    false_alarm : float
        Probability that a right code fails; between 1e-12 and 0.5.
    error, absolute : float or mapping of names to floats
        The caller's own error, of the time step say; see `assert_matches`.
    two_sided : bool
        Whether a faster fall fails, too. At small n the bias ``C/n`` falls faster than the spread: a right code may
        then fail.
    observables, times : sequences, optional
        What is compared, and when; see `assert_matches`.

    Returns
    -------
    Report
        With the slopes, the limits, the smallest error and the slowest fall that would have been seen.

    Raises
    ------
    AssertionError
        With a table.
    ValueError
        If something does not fit together.

    Notes
    -----
    A wrong code that has a wrong limit fails the second test first; the rate alone finds errors that average to
    nothing over replicas: noise that does not fall with n, such as that of batches or of a common random draw.

    Where an error falls below the bars or the stated `error`, nothing can be said of its rate, and the report says so.

    **Good values.** Three sizes over a factor of eight or more, 16 replicas or more each, with a smallest size of 50 or
    more: the expansion in 1/n has to have set in. At ``n = 64, 256, 1024`` with 16 replicas, 10 numbers and
    `false_alarm` 1e-3, a fall slower than about ``n^-0.2`` is seen.
    """
    __tracebackhide__ = True
    require(two_sided=(two_sided, FLAG))
    case = make_case(reference, runs_by_size, observables, times, at_least=2)
    _check_false_alarm(false_alarm)
    _check_replicas(case.sizes)
    if not (real(rate) and -10 <= rate < 0):
        raise ValueError(f"rate must be negative, -0.5 for mean-field particles, not {shown(rate)}")
    tolerances = tolerances_of(case, error, absolute)
    curves = sum(len(target.times) for target in case.targets.values())
    nothing = stated_arrays(0.0, "bias", list(tolerances))
    rows = limit_rows(case, tolerances, nothing, 0.25 * false_alarm / case.numbers)
    tail = 0.5 * false_alarm / curves / (2 if two_sided else 1)
    slopes = slope_rows(case, tolerances, float(rate), tail, two_sided)
    report = case.report((*sanity_rows(case), *rows), slopes, false_alarm)
    if not report.passed:
        raise AssertionError(str(report))
    return report


def _nothing(given: Any) -> bool:
    """Whether an error that is stated is none."""
    values = given.values() if isinstance(given, Mapping) else [given]
    return all(not np.any(np.asarray(value)) for value in values)


def _check_false_alarm(false_alarm: Any) -> None:
    if not (real(false_alarm) and 1e-12 <= false_alarm <= 0.5):
        raise ValueError(f"false_alarm must lie between 1e-12 and 0.5, not {shown(false_alarm)}")


def _check_replicas(sizes: Sequence[Runs]) -> None:
    for runs in sizes:
        if runs.replicas < 2:
            raise ValueError(
                f"{'one size' if runs.n is None else f'n = {runs.n}'} has one replica and thus no error bar; "
                "give 16 or more, with independent seeds"
            )
