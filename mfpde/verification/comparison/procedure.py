"""`compare`: particles simulated or recorded, their gaps to the reference observed, judged and reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.problem import Problem, Reaction
from mfpde.lagrangian.ancestry import descent
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.lagrangian.node_flow import NodeFlow
from mfpde.lagrangian.nodes import OutOfTime
from mfpde.mesh.solution import Solution
from mfpde.particles import Cloud, Dynamics
from mfpde.support.arguments import (
    COUNT,
    COUNTS,
    FLAG,
    NONE,
    NUMBER,
    NUMBERS,
    POSITIVE,
    SEED,
    entries,
    one_of,
    require,
    shown,
)
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.executors import check_executor
from mfpde.support.saves import distinct_times
from mfpde.support.words import one_line
from mfpde.verification.comparison.diagnosis import Fit, Gaps, VisibleError, explanation, visible_errors
from mfpde.verification.comparison.findings import ANCESTORS, Finding
from mfpde.verification.comparison.mean_field import (
    ExactLaw,
    Field,
    Quantity,
    energy_scale,
    exact_field,
    mean_field,
    starts_at_mu_0,
)
from mfpde.verification.comparison.observer import Observable, Observer
from mfpde.verification.comparison.records import ParticleRecord, checked_record
from mfpde.verification.comparison.replicas import (
    Groups,
    Replicas,
    Simulations,
    recorded,
    resampled,
    simulated,
    single_out,
)
from mfpde.verification.comparison.report import Comparison
from mfpde.verification.comparison.sensitivity import Fault, OnCells, OnNodes, Sensitivities
from mfpde.verification.comparison.statistics import Observed, Rules, make_finding

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["compare"]

RESAMPLES = 64
"""Independent samples of the mean field that give the law-of-large-numbers band, at least."""
SHOWN_TIMES = 6
"""Times compared where none are named, at most."""


def compare(
    reference: Solution | Characteristics | ExactLaw,
    particles: Cloud | ParticleRecord | Sequence[Cloud | ParticleRecord] | None = None,
    *,
    sizes: Sequence[int] = (100, 1000, 10_000),
    replicas: int = 32,
    dynamics: Dynamics | Sequence[Dynamics] | None = None,
    dt: float = 1e-2,
    control: bool = True,
    times: Sequence[float] | None = None,
    quantities: Sequence[Quantity] | None = None,
    uncertainty: Solution | Characteristics | float | None = None,
    tolerance: float = 1e-3,
    false_alarm: float = 1e-3,
    bootstrap: int = 2000,
    sensitivities: bool = True,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> Comparison:
    r"""Do particles converge to the mean field, and how fast?

    For every observable, size and time the gap to the reference is averaged over independent replicas. Its mean is
    the bias at n, its mean square falls like ``1/n`` for a right scheme. What counts is what *stays*: a right scheme
    has ``gap = c/n + O(dt)``, a wrong one a bias that does not fall with n and does not vanish with the step.

    Parameters
    ----------
    reference : Solution, Characteristics or ExactLaw
        The mean field. Its `problem` must be known.
    particles : Cloud, ParticleRecord or sequence of them, optional
        Your own. Records with the same n and dt are replicas of each other. Default: particles are simulated.
    sizes, replicas, dynamics, dt, seed, workers, executor
        Of the simulations; see `mfpde.particles.simulate`. `dt` is shortened so that all times are multiples of it.
    control : bool
        Whether the largest size is run a second time, with steps of twice the length, to know the bias of the step
        (half as much work again at that size).
    times : sequence of float, optional
        Where to compare. Default: up to six of the reference's save times, or those that your records share with it.
    quantities : sequence of Quantity, optional
        Default: all that apply.
    uncertainty : Solution, Characteristics or float, optional
        What is known about the reference's error: another solution of the same problem with the same times, whose
        difference counts (of distances, the default does where characteristics have no density on a mesh: beyond two
        dimensions, or from points); or a fraction of each observable's scale. Default: a solution is computed on
        half the cells and its whole difference counts; of characteristics, their own estimate; an exact law has none.
    tolerance : float
        Bias that does not matter, as a fraction of the observable's scale (the change of the energy, the largest
        response, the standard deviation of a coordinate).
    false_alarm : float
        The probability, at most, that a right scheme is called inconsistent by chance.
    bootstrap : int
        Draws for the interval of the slope.
    sensitivities : bool
        Whether the mean field is computed again with its clock, interaction, temperature, birth-death rate and start
        3 % off, on half the cells or from the nodes of characteristics: a run for each, and a few more where gaps are
        seen. They tell which errors would have been seen, and what the gaps look like.
    progress : bool, optional
        Progress bars of the simulations.

    Returns
    -------
    Comparison

    Raises
    ------
    BrokenPool
        If the executor breaks, a RuntimeError.
    KeyboardInterrupt
        If it is interrupted, by SIGTERM too while it solves on half the cells.
    ValueError
        For arguments that do not fit, a reference without its problem, records that share no time with it, or that
        have particles outside the box (more than 1 %; fewer are moved to the wall, and a note says so).

    Notes
    -----
    **The test.** The gap for n to infinity is the intercept of a weighted line in ``1/n`` (for distances: of the mean
    square in the mean square of n independent draws, which absorbs logarithms), plus the correction by the control
    run; standard errors come from the replicas, degrees of freedom after Welch and Satterthwaite. It is compared with
    an allowance: the reference's uncertainty, the tolerance, and the second-order rest of the step. For signed
    observables the variance over replicas has to fall as well: common noise, such as that of mini-batches, does not
    average out. And mean squared gaps have to fall: those of a right scheme are ``v/n + c^2/n^2``, less what is allowed
    and the bias of the step (for distances: like those of independent draws).

    *Inconsistent* means that an excess is beyond the threshold, a normal score at level ``false_alarm`` divided by
    the number of tests (all observables, components and times), and beyond a score of 3 also if gaps fell like
    ``n^{-1/4}`` only, through all sizes and through the two largest; or that mean squares fall more slowly than 1/n
    beyond the threshold, and beyond 3 from the second-largest size to the largest.
    *Consistent* means no excess, and that a bias of half the gap at the smallest size would have been seen.
    Everything else is *undecided*: one size, one replica, too few replicas, a significant gap that time steps (5 %
    of the scale, without a control run) or a slow fall could explain, a slow fall with a score between 3 and the
    threshold. `Comparison.plan` says what would decide.

    **The limit.** A consistent comparison names the bias that could be left, `Comparison.limit`: two standard errors
    and the reference's uncertainty above what is found, as a fraction of the energy or of its fall. And it names the
    smallest errors of five kinds that would have been seen, `Comparison.visible_errors`: the change that a factor
    makes, to first order, against the gap that is significant in 999 of 1000 draws of the replicas, the smallest over
    observables and times. *Interaction* means ``V[factor mu]``: the output of a network or the weight of a pair energy.
    *Time scale* multiplies ``s(t)``, so that rates which depend on time keep theirs.

    **What gaps look like.** The factor of each kind that fits all signed observables and times best, weighted by their
    variances over replicas, has an error from the replicas, too. A fit beyond the threshold makes *undecided* of
    *consistent*. Where that or a gap is significant, and a fit leaves nothing significant, `Comparison.looks_like` says
    so; several that do so equally well are joined by *or*.

    **Where the mass comes from.** Birth-death may make half of the mass descend from 1e-9 of the start. No thousand
    particles follow that limit, however right the scheme: where fewer than ten of the smallest size start there, a
    gap is *undecided*, the verdict and the reason say so, and no fit looks at those times. It is not known with a
    temperature.

    **Good values.** Sizes over a factor of ten or more, 32 replicas. How fast gaps fall is judged by sizes of four
    replicas or more, and a control run of four or more: the variance of fewer has no error bar. Replicas of one seed
    are no replicas. The control run is best of the same starts and the same noise, replica by replica: then the
    difference of both has little variance, and its replicas are compared in pairs, in the order given. With weights,
    look at the effective sample size: few heavy particles are a small n.

    Examples
    --------
    >>> import mfpde as mf
    >>> solution = mf.solve(mf.problems.linear_neuron(), progress=False)
    >>> found = mf.compare(solution, sizes=[100, 400], replicas=16, dt=0.02, progress=False)
    >>> found["response"].verdict is not mf.Verdict.INCONSISTENT
    True
    """
    problem = _problem_of(reference)
    require_capability(problem.bound_energy, "points", "compare")
    require(
        sizes=(sizes, COUNTS),
        dt=(dt, POSITIVE),
        control=(control, FLAG),
        sensitivities=(sensitivities, FLAG),
        times=(times, NUMBERS | NONE),
        uncertainty=(uncertainty, one_of(Solution, Characteristics) | NUMBER | NONE),
        tolerance=(tolerance, NUMBER),
        false_alarm=(false_alarm, NUMBER),
        seed=(seed, SEED),
        workers=(workers, COUNT),
        progress=(progress, FLAG | NONE),
    )
    check_executor(executor)
    _check_numbers(sizes, replicas, tolerance, false_alarm, bootstrap)
    chosen = _quantities(quantities, problem)
    notes: list[str] = []
    known = np.asarray(reference.times, dtype=float)
    known = np.array(distinct_times(known, (known.min(), known.max())))
    records = None if particles is None else _checked(particles, problem, notes)
    at = _times(known, times, records, notes)

    truth, more = mean_field(reference, problem, at, bool(chosen & {Quantity.W1, Quantity.W2, Quantity.SLICED_W2}))
    notes += more
    chosen, observer = _observer(truth, chosen, notes)
    runs = _runs(reference, truth, at)
    error = _whole_uncertainty(reference, uncertainty, observer, runs, notes)
    if records is None:
        how = Simulations(sizes, replicas, dynamics, dt, control, seed, workers, progress, executor)
        data = simulated(observer, how)
    else:
        data, more = recorded(records, observer)
        notes += more
    notes += single_out(data, problem)
    draws = resampled(observer, data.sizes, max(RESAMPLES, replicas), seed)
    answers = _answers(runs, chosen, at, notes) if sensitivities else None

    measured = _Measured(observer, data, draws, error, answers)
    return _judged(reference, measured, tolerance, false_alarm, bootstrap, seed, notes)


def _problem_of(reference: Solution | Characteristics | ExactLaw) -> Problem:
    if not isinstance(reference, (Solution, Characteristics, ExactLaw)):
        raise ValueError(f"the reference must be a Solution, Characteristics or ExactLaw, not {shown(reference)}")
    if reference.problem is None:
        raise ValueError("the solution does not know its problem; load it with mfpde.load(path, problem=problem)")
    return reference.problem


def _checked(
    particles: Cloud | ParticleRecord | Sequence[Cloud | ParticleRecord], problem: Problem, notes: list[str]
) -> list[ParticleRecord]:
    given = [particles] if isinstance(particles, (Cloud, ParticleRecord)) else entries(particles, "particles")
    if not given:
        raise ValueError("no particles were given; leave particles= out to simulate some")
    return [checked_record(item, problem, notes) for item in given]


@dataclass(frozen=True, eq=False)
class _Measured:
    """All that is judged: gaps of particles and of draws, the reference's errors by time, the answers to faults."""

    observer: Observer
    data: Replicas
    resampled: Groups
    error: _Uncertainty
    answers: Sensitivities | None

    @property
    def tests(self) -> int:
        """Components, spread and fall of every observable at every time; and the fits."""
        each = sum(self.data.components(o.name) + o.signed + 1 for o in self.observer.observables)
        return len(self.observer.field.times) * each + (0 if self.answers is None else len(self.answers.faults))


def _judged(
    reference: Solution | Characteristics | ExactLaw,
    measured: _Measured,
    tolerance: float,
    false_alarm: float,
    bootstrap: int,
    seed: int,
    notes: list[str],
) -> Comparison:
    """All that is measured, judged: a finding for each observable, what they say together, and the notes."""
    from scipy import stats

    observer, data, answers = measured.observer, measured.data, measured.answers
    problem, at = observer.field.problem, observer.field.times
    ancestral = _ancestral(reference, problem, at)
    if ancestral is not None and (said := descent(at, ancestral)):
        notes.append(said)
    threshold = float(stats.norm.isf(0.5 * false_alarm / measured.tests))
    rules = Rules(tolerance, threshold, step_known=False, ancestral=ancestral)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    findings = {o.name: _finding(o, measured, rules, rng, bootstrap) for o in observer.observables}
    visible, fits, looks_like = _together(measured, findings, rules)
    scale, scale_of = energy_scale(reference, problem, observer.field.energy)
    return Comparison(
        name=problem.name,
        times=at,
        sizes=tuple(data.sizes),
        replicas=tuple(data.replicas(n) for n in data.sizes),
        dt=data.dt,
        control_dt=data.control_dt,
        findings=findings,
        threshold=threshold,
        tests=measured.tests,
        false_alarm=false_alarm,
        reference_error=measured.error.text,
        scheme=data.scheme,
        effective_size=np.array([data.effective[n] for n in data.sizes]),
        notes=tuple(dict.fromkeys(notes)),
        energy_scale=scale,
        energy_scale_of=scale_of,
        visible_errors={fault.value: error for fault, error in visible.items()},
        not_looked_for={} if answers is None else {fault.value: why for fault, why in answers.left_out.items()},
        fits={fault.value: fit for fault, fit in fits.items()},
        looks_like=looks_like,
        ancestral_mass=ancestral,
    )


def _runs(reference: Solution | Characteristics | ExactLaw, truth: Field, at: Array) -> OnCells | OnNodes:
    """What computes the mean field again, a little changed."""
    if isinstance(reference, Characteristics):
        return OnNodes(reference, at)
    return OnCells(reference, truth.problem, truth.densities.grid.free_shape, at)


def _answers(runs: OnCells | OnNodes, chosen: set[Quantity], at: Array, notes: list[str]) -> Sensitivities | None:
    try:
        return Sensitivities(runs, chosen, at)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        notes.append(f"no sensitivities: {one_line(error)}")
        return None


def _finding(o: Observable, measured: _Measured, rules: Rules, rng: np.random.Generator, bootstrap: int) -> Finding:
    """What the replicas say of one observable."""
    data = measured.data
    observed = Observed(
        np.array(data.sizes, dtype=float),
        [data.groups[n][o.name] for n in data.sizes],
        [measured.resampled[n][o.name] for n in data.sizes],
        None if data.control is None else data.control[o.name],
        data.control_dt,
        data.dt,
        np.stack([error[o.name] for error in measured.error.by_time]),
    )
    return make_finding(o, measured.observer.field.times, observed, rules, rng, bootstrap)


def _together(
    measured: _Measured, findings: dict[str, Finding], rules: Rules
) -> tuple[dict[Fault, VisibleError], dict[Fault, Fit], str]:
    """What all gaps together say of errors of a kind: the smallest visible ones, the fits, what they look like.

    Times whose limit no particles of the smallest size follow have gaps of their own, whatever the scheme: they would
    look like an error of some kind, too.
    """
    observer, data, answers = measured.observer, measured.data, measured.answers
    at, threshold, sizes = observer.field.times, rules.threshold, np.array(data.sizes, dtype=float)
    if answers is None or not any(data.replicas(n) > 1 for n in data.sizes):
        return {}, {}, ""
    followed = np.flatnonzero([rules.follows(sizes, j) >= ANCESTORS for j in range(len(at))])
    if not any(o.signed for o in observer.observables) or not len(followed):
        return visible_errors(findings, at, answers, None, threshold), {}, ""
    gaps = Gaps(findings, at, followed, data, answers)
    fits = {fault: gaps.fit(fault) for fault in answers.faults if gaps.answers(fault)}
    seen = any(np.any(np.append(f.z[followed], f.slope_z[followed]) > threshold) for f in findings.values())
    seen = seen or any(fit.z > threshold for fit in fits.values())
    looks_like = explanation(gaps, fits, observer.field.problem.noiseless) if seen else ""
    return visible_errors(findings, at, answers, gaps, threshold), fits, looks_like


SECONDS = 10.0
"""How long nodes may take that tell where the mass descends from."""
ENOUGH = {1: 48, 2: 20, 3: 10, 4: 7}
"""How many of them there are along each axis, by dimension."""


def _ancestral(reference: Solution | Characteristics | ExactLaw, problem: Problem, at: Array) -> Array | None:
    """Ancestral masses at the times, from the reference or from a few nodes; None where there are no characteristics.

    Diffusion has none: with a temperature mass may come from everywhere.
    """
    if isinstance(reference, Characteristics):
        return reference.ancestral_mass[[int(np.argmin(np.abs(reference.times - t))) for t in at]]
    if (
        not problem.reacts
        or not at[-1] > 0
        or (isinstance(reference, Solution) and not starts_at_mu_0(reference, problem))
    ):
        return None
    try:
        flow = NodeFlow(problem, at)
        counts = (ENOUGH[len(problem.axes)],) * len(problem.axes)
        return np.array([now.ancestral for now in flow.run(counts, 1e-4, working_time() + SECONDS)])
    except (ValueError, RuntimeError, ArithmeticError, OutOfTime):
        return None


def _check_numbers(sizes: Sequence[int], replicas: int, tolerance: float, false_alarm: float, bootstrap: int) -> None:
    """Refuse counts that are too small, sizes that repeat, and levels outside their ranges."""
    for name, values, least in (("sizes", sizes, 2), ("replicas", [replicas], 1), ("bootstrap", [bootstrap], 100)):
        if len(values) == 0:
            raise ValueError(f"{name} is empty; give at least one")
        for value in values:
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: integers of at least {least}, not {shown(value)}")
    if len(set(sizes)) != len(sizes):
        raise ValueError(f"sizes {list(sizes)} repeat; give each once")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is a fraction in [0, 1), not {tolerance!r}")
    if not 0 < false_alarm < 0.5:
        raise ValueError(f"false_alarm is a probability in (0, 0.5), not {false_alarm!r}")


def _quantities(wanted: Sequence[Quantity] | None, problem: Problem) -> set[Quantity]:
    """The quantities that are compared: the wanted ones, or all; the mass only where it changes."""
    if wanted is None:
        unbalanced = problem.reaction is Reaction.UNBALANCED or problem.reinjection is not None
        return {q for q in Quantity if q is not Quantity.MASS or unbalanced}
    for q in entries(wanted, "quantities"):
        if not isinstance(q, Quantity):
            raise ValueError(f"quantities are members of mfpde.Quantity, such as Quantity.ENERGY, not {shown(q)}")
    return set(wanted)


def _observer(truth: Field, wanted: set[Quantity], notes: list[str]) -> tuple[set[Quantity], Observer]:
    """What is left of the wanted quantities, and what observes them."""
    chosen = set(wanted)
    if Quantity.ENERGY in chosen and not np.isfinite(truth.energy).all():
        chosen.remove(Quantity.ENERGY)
        notes.append("the energy of the reference is not finite (lyapunov = False): it is not compared")
    observer = Observer(truth, chosen)
    if not observer.observables:
        raise ValueError(f"none of {', '.join(q.value for q in wanted)} exists for this problem and reference")
    return chosen, observer


def _times(
    known: Array,
    wanted: Sequence[float] | None,
    records: Sequence[ParticleRecord] | None,
    notes: list[str],
) -> Array:
    """The times that are compared, out of those of the reference: the wanted ones, or some that the records have."""

    def among(values: Array, t: float) -> bool:
        return bool(np.any(np.abs(values - t) <= 1e-6 * max(1.0, abs(t))))

    if records is not None:
        shared = [t for t in known if all(among(record.times, t) for record in records)]
        if not shared:
            theirs = ", ".join(f"{t:g}" for t in records[0].times[:8])
            raise ValueError(
                f"the records share no save time with the reference, which has {', '.join(f'{t:g}' for t in known)} "
                f"({records[0].label}: {theirs}); solve with save=[the times of the records]"
            )
        left = sorted({float(t) for record in records for t in record.times if not among(np.array(shared), t)})
        if left:
            notes.append(
                f"times of the records without a shared save time are left out: {', '.join(f'{t:g}' for t in left[:8])}"
                f"{', ...' if len(left) > 8 else ''}; solve with save=[the times of the records]"
            )
        known = np.array(shared)
    if wanted is None:
        pick = np.unique(np.round(np.linspace(0, len(known) - 1, min(len(known), SHOWN_TIMES))).astype(int))
        return np.asarray(known[pick])
    result = []
    for t in np.unique(np.asarray(wanted, dtype=float)):
        if not among(known, float(t)):
            raise ValueError(
                f"t = {t:g} is not among the times {', '.join(f'{s:g}' for s in known)} "
                "of the reference (and the records); solve with save="
            )
        result.append(float(known[np.argmin(np.abs(known - t))]))
    if not result:
        raise ValueError("times is empty; leave it out, or name at least one")
    return np.unique(result)  # two that are one but for rounding are the same of the reference


class _Uncertainty(NamedTuple):
    """What the reference is uncertain of.

    Attributes
    ----------
    by_time : list of dict of str to array, shape (q,)
        For each time that of every observable; NaN of distances from characteristics whose density is not known.
    text : str
        Where it comes from.
    """

    by_time: list[dict[str, Array]]
    text: str


def _whole_uncertainty(
    reference: Solution | Characteristics | ExactLaw,
    given: Solution | Characteristics | float | None,
    observer: Observer,
    runs: OnCells | OnNodes,
    notes: list[str],
) -> _Uncertainty:
    """The reference's uncertainty; where the one that is given says nothing of an observable, its own."""
    error = _uncertainty(reference, given, observer, runs)
    if not any(np.isnan(value).any() for at_time in error.by_time for value in at_time.values()):
        return error
    own = _uncertainty(reference, None, observer, runs)
    notes.append(f"the characteristics of uncertainty= have no density on a mesh: of distances, {own.text}")
    return error._replace(by_time=[_filled(*both) for both in zip(error.by_time, own.by_time, strict=True)])


def _uncertainty(
    reference: Solution | Characteristics | ExactLaw,
    given: Solution | Characteristics | float | None,
    observer: Observer,
    runs: OnCells | OnNodes,
) -> _Uncertainty:
    """What a second solution, a fraction, or the reference itself says of its error."""
    problem, at = observer.field.problem, observer.field.times
    other: Field
    if isinstance(given, (Solution, Characteristics)):
        other, _ = mean_field(given, problem, at, bool(observer.distances))
        text = "error from characteristics"
        if isinstance(given, Solution):
            text = f"error from a second solution, on {' x '.join(map(str, given.grid.shape))} cells"
    elif given is not None:
        if not (isinstance(given, (int, float)) and 0 <= given < 1):
            raise ValueError(f"uncertainty is a fraction in [0, 1), a Solution or Characteristics, not {given!r}")
        return _Uncertainty(_fraction(observer, float(given)), f"error given as {given:g} of each observable's scale")
    elif isinstance(reference, Characteristics):
        value = float(reference.error_estimate)
        text = f"error of the characteristics' own estimate, {value:.1g} of each scale"
        return _Uncertainty(_fraction(observer, value), text)
    elif isinstance(reference, ExactLaw):
        other = exact_field(reference, at, [max(4, n // 2) for n in observer.field.densities.grid.free_shape])
        text = "an exact law; error of its mesh from half the cells"
    else:
        assert isinstance(runs, OnCells)
        try:
            coarse = runs.solution
        except ValueError as error:
            raise ValueError(
                f"{error}; it tells the error: pass uncertainty=, a second solution or a fraction"
            ) from None
        other, _ = mean_field(coarse, problem, at)
        text = f"error from a run on half the cells ({' x '.join(map(str, coarse.grid.shape))}), an estimate from above"
    return _Uncertainty([observer.between(other, j) for j in range(len(at))], text)


def _fraction(observer: Observer, value: float) -> list[dict[str, Array]]:
    """At every time a fraction of each observable's scale."""
    field = observer.field
    sizes = {o.name: 1 for o in observer.observables}
    if field.response is not None:
        sizes["response"] = field.response.shape[1]
    return [{o.name: np.full(sizes[o.name], value * o.scale) for o in observer.observables} for _ in field.times]


def _filled(error: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
    """An uncertainty whose NaN are replaced by another one."""
    return {name: np.where(np.isnan(value), other[name], value) for name, value in error.items()}
