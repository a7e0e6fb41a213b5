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
>>> runs = {n: [train(n, seed) for seed in range(16)] for n in (100, 400)}
>>> report = testing.assert_matches(reference, runs, error=2e-3)  # what the step of 1e-3 may do
>>> report.passed
True
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mfpde.certify import Certified, Reference
from mfpde.equation.problem import Problem, Reaction
from mfpde.observables import DecayRate, DensityAt, EnergyAt, Marginal, MassIn, Measured, Observable, as_times
from mfpde.refinement import largest
from mfpde.support.arguments import FLAG, entries, numbers, real, require, shown, whole
from mfpde.support.arrays import Array

__all__ = ["ParticleRecorder", "Report", "Row", "Slope", "assert_converges", "assert_matches"]


OUTSIDE = 0.01
"""Share of particles outside the box above which they are no particles of the problem."""
MASS_DRIFT = 1e-9
"""How far a mass that is conserved may be from 1, in double precision."""
POWER = 0.9
"""With what probability an error of the size that a report calls visible is seen."""
SKEW = 1.5
"""By how much the skewness that replicas show is taken larger: few of them understate it."""
SECOND = 0.25
"""The most that the second term of the bias in 1/n may be, as a share of the first, at the smallest size."""
FEW = 100.0
"""Particles in a region, over all replicas, below which the law of their number is not that of a normal one."""
SHOWN = 20
"""Rows of a table."""


# ---------------------------------------------------------------------------------------------------------------------
# arrays of other libraries
# ---------------------------------------------------------------------------------------------------------------------


def _taken(values: Any, what: str) -> tuple[Array, float]:
    """A copy of an array of any library in double precision, and the relative rounding of what it came in.

    No library is imported: NumPy asks the array for ``__array__``, its interface or its DLPack capsule.
    """
    try:
        for step in ("detach", "cpu"):  # a tensor that is being trained, or lives on a device
            if callable(getattr(values, step, None)):
                values = getattr(values, step)()
        if not hasattr(values, "__array__") and hasattr(values, "__dlpack__"):
            values = np.from_dlpack(values)
        try:
            array = np.asarray(values)
        except TypeError:
            if not callable(getattr(values, "double", None)):
                raise
            array = np.asarray(values.double())  # a precision that NumPy lacks
            return np.array(array, dtype=np.float64), 2.0**-7
    except (TypeError, ValueError, RuntimeError, AttributeError, BufferError) as error:
        if isinstance(values, (list, tuple)) and len(values) > 0 and hasattr(values[0], "__array__"):
            rows = [_taken(row, what) for row in values]  # a list of tensors
            return numbers([row for row, _ in rows], what), max(eps for _, eps in rows)
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"{what} cannot be read as an array ({type(error).__name__}: {reason}); "
            "record outside of compiled functions, and move arrays to the host"
        ) from None
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16 of ml_dtypes
        return array.astype(np.float64), 2.0**-7
    # integers are exact
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return numbers(array, what), eps


# ---------------------------------------------------------------------------------------------------------------------
# recording
# ---------------------------------------------------------------------------------------------------------------------


class ParticleRecorder:
    r"""The particles of a training loop at a few times, and the observables of a reference measured on them.

    At a time the particles are the measure :math:`\mu^n = \sum_i w_i \delta_{\theta_i}`, with :math:`w_i = 1/n` unless
    weights are given.

    Parameters
    ----------
    of : Reference or Problem
        What the particles are to follow. It knows the axes and their order; a reference also the times that `wants`
        asks for.

    Attributes
    ----------
    problem : Problem
    reference : Reference or None
    times : tuple of float
        Recorded so far.
    positions : list of array, shape (n, d)
        Copies, in double precision.
    weights : list of array, shape (n,)

    Notes
    -----
    **Rule for the mass.** Weights are taken as they are, and nothing is normalised: their sum is the mass. Where the
    problem conserves mass, `assert_matches` and `assert_converges` compare the sum with 1, so that a duplicated
    particle without a removed one is seen. Where it does not (the unbalanced reaction), weights have to be given.

    Particles that leave the box of the problem are measured on its walls, where the problem's mass stops as well;
    `values` refuses more than 1 % of them. On periodic axes they are wrapped.

    **Good values.** Record at the reference's times and nowhere else (`wants`): each frame is a copy.

    **Pitfalls.** Time is that of the equation: after ``k`` steps of ``theta -= lr * n * dE/dtheta`` it is ``k * lr``,
    with ``E`` the mean over samples *with* its factor 1/2. A reference's time has to be a multiple of the step.
    """

    def __init__(self, of: Reference | Problem) -> None:
        if not isinstance(of, (Reference, Problem)):
            raise ValueError(f"a recorder needs a Reference or a Problem, not {shown(of)}; see mfpde.reference")
        self.reference = of if isinstance(of, Reference) else None
        self.problem = of.problem if isinstance(of, Reference) else of
        self.positions: list[Array] = []
        self.weights: list[Array] = []
        self._times: list[float] = []
        self._measured: dict[int, Measured] = {}
        self._rounding = 2.0**-52
        self._weights_rounding = 2.0**-52

    @property
    def times(self) -> tuple[float, ...]:
        """Recorded so far."""
        return tuple(self._times)

    @property
    def n(self) -> int:
        """Particles of the first record; 0 before."""
        return len(self.positions[0]) if self.positions else 0

    def wants(self, t: float) -> bool:
        """Whether `t` is a time of the reference that is not recorded yet."""
        if self.reference is None:
            raise ValueError("only a recorder of a Reference knows which times it wants; this one is of a Problem")
        _check_time(t)
        wanted = {time for found in self.reference.observables for time in _times_of(found)}
        return any(_same(t, time) for time in wanted) and not any(_same(t, time) for time in self._times)

    def record(self, t: float, positions: Any, weights: Any = None) -> None:
        """Copy the particles at a time.

        Parameters
        ----------
        t : float
            In the time of the equation, later than the last record; infinity is the end state.
        positions : array-like, shape (n, d), or mapping of axis name to array-like of shape (n,)
            One row a particle, columns in the order of the problem's axes; with one axis (n,) will do. Arrays of
            NumPy, PyTorch (with a gradient or not) and JAX are taken as they are; single precision is converted.
        weights : array-like, shape (n,), optional
            Non-negative; their sum is the mass. Default: 1/n each.

        Raises
        ------
        ValueError
            For shapes that do not fit the axes, coordinates that are not finite, negative weights, times that do not
            increase, and a number of particles that changes without weights to say what each is worth.
        """
        _check_time(t)
        t = float(t)
        if self._times and t <= self._times[-1]:
            raise ValueError(f"t = {t:g} is recorded after t = {self._times[-1]:g}; times must increase")
        x = self._columns(t, positions)
        if not np.all(np.isfinite(x)):
            bad = int(np.count_nonzero(~np.isfinite(x)))
            raise ValueError(f"t = {t:g}: {bad} of {x.size} coordinates are not finite; the run blew up before")
        n = len(x)
        if weights is None:
            if self.problem.reacts and self.problem.reaction is Reaction.UNBALANCED:
                raise ValueError("the mass changes on this problem: give weights, whose sum is the mass")
            if self.positions and n != self.n:
                raise ValueError(
                    f"t = {t:g}: {n} particles, {self.n} before; give weights (1/{self.n} each where every particle "
                    "keeps its mass)"
                )
            w = np.full(n, 1.0 / n)
        else:
            w, eps = _taken(weights, "weights")
            if w.shape != (n,):
                raise ValueError(f"weights must have shape ({n},), one a particle, not {w.shape}")
            if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
                raise ValueError(f"t = {t:g}: weights must be finite and not negative, with a positive sum")
            self._weights_rounding = max(self._weights_rounding, eps)
        self._times.append(t)
        self.positions.append(x)
        self.weights.append(w)

    def values(self, what: str | Observable = "energy") -> Array:
        """An observable of the particles at its times, shape (m, ...).

        Parameters
        ----------
        what : str or Observable
            The name of one in the reference, at the reference's times (of its end state only if that is recorded); or
            any observable, without times at all that are recorded.

        Raises
        ------
        ValueError
            If one of its times is not recorded, if the particles are not in the problem's box, or if particles do
            not have it: the free energy of a problem with a temperature contains an entropy.
        """
        share = self._outside()
        if share > OUTSIDE:
            raise ValueError(
                f"{100 * share:.2g} % of the particles are outside the box (at most {100 * OUTSIDE:g} %); "
                "enlarge the axes of the problem, or check the order of the columns"
            )
        if isinstance(what, Observable):
            return self._values(what, as_times(getattr(what, "times", None)) or self.times)
        if self.reference is not None:
            found = _certified(self.reference, what)
            recorded = [t for t in found.times if math.isfinite(t) or t in self._times]
            return self._of(_restricted(found, recorded))
        if isinstance(what, str) and what == "energy":
            return self._values(EnergyAt(), self.times)
        raise ValueError(f"{shown(what)}: a recorder of a Problem knows 'energy'; pass an Observable, or a Reference")

    def _of(self, target: Certified) -> Array:
        """What a reference has, measured here at the same times."""
        observable = _observable(target)
        if not isinstance(observable, DecayRate):
            return self._values(observable, target.times.tolist())
        # each rate is between a time and the one before among those of the observable
        times = as_times(observable.times) or ()
        ends = [times.index(t) for t in target.times]
        return np.concatenate([self._values(observable, times[k - 1 : k + 1]) for k in ends])

    def _values(self, observable: Observable, times: Sequence[float]) -> Array:
        reason = _not_of_particles(self.problem, observable)
        if reason:
            raise ValueError(f"{observable.name}: {reason}")
        if len(times) == 0:
            raise ValueError("nothing is recorded yet; call record(t, positions)")
        found = np.stack([np.asarray(observable.measure(self._at(t)), dtype=float) for t in times])
        return observable.combine(found, np.asarray(times)) if isinstance(observable, DecayRate) else found

    def _at(self, t: float) -> Measured:
        """The particles at a time as a measure in the box."""
        i = next((k for k, known in enumerate(self._times) if _same(t, known)), None)
        if i is None:
            known = ", ".join(f"{time:g}" for time in self._times[:8]) + (", .." if len(self._times) > 8 else "")
            raise ValueError(f"t = {t:g} is not recorded (there are {known or 'none'}); record the reference's times")
        if i not in self._measured:
            x = self._inside(self.positions[i])
            energy = math.nan
            if self.problem.noiseless:
                energy = self.problem.bound_energy.energy(x, self.weights[i])
            self._measured[i] = Measured(self.problem, tuple(x.T), self.weights[i], energy)
        return self._measured[i]

    def _inside(self, x: Array) -> Array:
        x = x.copy()
        for i, axis in enumerate(self.problem.axes):
            if axis.periodic:
                x[:, i] = axis.lower + np.mod(x[:, i] - axis.lower, axis.length)
            else:
                np.clip(x[:, i], axis.lower, axis.upper, out=x[:, i])
        return x

    def _outside(self) -> float:
        """The largest share of particles, over the records, that are outside the box."""
        worst = 0.0
        for x in self.positions:
            outside = np.zeros(len(x), dtype=bool)
            for column, axis in zip(x.T, self.problem.axes, strict=True):
                if not axis.periodic:
                    slack = max(1e-9, 4 * self._rounding) * axis.length
                    outside |= (column < axis.lower - slack) | (column > axis.upper + slack)
            worst = max(worst, float(outside.mean()))
        return worst

    def _columns(self, t: float, positions: Any) -> Array:
        names = [axis.name for axis in self.problem.axes]
        if isinstance(positions, Mapping):
            if sorted(map(str, positions)) != sorted(names):
                given = ", ".join(map(str, positions))
                raise ValueError(f"positions name {given or 'nothing'}; the axes are {', '.join(names)}")
            columns = [_taken(positions[name], f"positions[{name!r}]") for name in names]
            shapes = {column.shape for column, _ in columns}
            if len(shapes) > 1 or columns[0][0].ndim != 1:
                raise ValueError(
                    f"t = {t:g}: positions of the axes must all have shape (n,), not {', '.join(map(str, shapes))}"
                )
            x, eps = np.stack([column for column, _ in columns], axis=1), max(e for _, e in columns)
        else:
            x, eps = _taken(positions, "positions")
            if x.ndim == 1 and len(names) == 1:
                x = x[:, None]
        d = len(names)
        if x.ndim != 2 or x.shape[1] != d or len(x) < 1:
            hint = "; transpose them" if x.ndim == 2 and x.shape[0] == d else ""
            raise ValueError(
                f"t = {t:g}: positions must have shape (n, {d}), columns {', '.join(names)}, not {x.shape}{hint}"
            )
        self._rounding = max(self._rounding, eps)
        return x

    def __repr__(self) -> str:
        return f"<ParticleRecorder of {self.problem.name!r}: {self.n} particles, {len(self._times)} times>"


def _check_time(t: Any) -> None:
    if not (isinstance(t, (int, float, np.number)) and (t == math.inf or (real(t) and t >= 0))):
        raise ValueError(f"the time of a record must be a number that is not negative, not {shown(t)}")


def _same(s: float, t: float) -> bool:
    """Whether two times are one, up to the rounding of many additions of a step."""
    return s == t or abs(s - t) <= 1e-9 * max(1.0, min(abs(s), abs(t)))


def _times_of(found: Certified) -> list[float]:
    """When it has to be measured; a rate also where it begins."""
    rate = isinstance(found.observable, DecayRate)
    return list(as_times(found.observable.times) or ()) if rate else found.times.tolist()  # type: ignore[union-attr]


def _restricted(found: Certified, times: Sequence[float]) -> Certified:
    """At those of its times that are among the given ones."""
    keep = [j for j, t in enumerate(found.times) if any(_same(t, other) for other in times)]
    return replace(found, times=found.times[keep], value=found.value[keep], bar=found.bar[keep])


def _certified(reference: Reference, name: Any) -> Certified:
    for found in reference.observables:
        if isinstance(name, str) and found.name == name:
            return found
    valid = ", ".join(repr(found.name) for found in reference.observables)
    raise ValueError(f"the reference has no {shown(name)}; valid: {valid}")


def _observable(certified: Certified) -> Observable:
    if certified.observable is None:
        raise ValueError(f"the reference does not say how {certified.name!r} is measured; give its values yourself")
    return certified.observable


def _not_of_particles(problem: Problem, observable: Observable) -> str:
    """Why particles do not have an observable; empty if they do."""
    if isinstance(observable, (EnergyAt, DecayRate)) and not problem.noiseless:
        return (
            "with a temperature the energy contains an entropy, which particles do not have; compare moments, outputs"
        )
    if isinstance(observable, DensityAt):
        return "particles have no density; compare moments, outputs, masses"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# reports
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A number of mine beside that of the reference.

    Attributes
    ----------
    observable : str
    component : tuple of int
        Which of several values; empty for one.
    time : float
    mine, reference : float
        With several sizes mine is the limit of many particles.
    bar : float
        Of the reference.
    allowed : float
        How far they may be apart: the bar, the caller's errors, the bias of n particles, and the interval of the
        replicas.
    visible : float
        An error of mine of this size would have been seen: surely for a single run, with probability 0.9 for replicas.
    sanity : bool
        Whether this is the mass, or the share of particles in the box, and no observable of the reference.
    """

    observable: str
    component: tuple[int, ...]
    time: float
    mine: float
    reference: float
    bar: float
    allowed: float
    visible: float
    sanity: bool = False

    @property
    def what(self) -> str:
        """The observable and the component."""
        return self.observable + (f" [{', '.join(map(str, self.component))}]" if self.component else "")

    @property
    def difference(self) -> float:
        """Mine less the reference's."""
        return self.mine - self.reference

    @property
    def in_bars(self) -> float:
        """The difference in units of what is allowed; a test fails above 1."""
        if self.difference == 0:
            return 0.0
        return abs(self.difference) / self.allowed if self.allowed > 0 else math.inf

    @property
    def fails(self) -> bool:
        """Whether the difference is larger than allowed; NaN is."""
        return not abs(self.difference) <= self.allowed


@dataclass(frozen=True)
class Slope:
    """How fast the root-mean-square error of an observable falls: like ``n^slope``.

    Attributes
    ----------
    what : str
    time : float
    slope : float
        Of log root-mean-square error on log n; minus infinity where nothing is above the reference's bars.
    low, high : float
        Interval of the slope at the stated level; the bars are in it.
    rate : float
        What it should be.
    visible : float
        A fall slower than ``n^visible`` would have been seen with probability 0.9.
    fails : bool
    """

    what: str
    time: float
    slope: float
    low: float
    high: float
    rate: float
    visible: float
    fails: bool


@dataclass(frozen=True)
class Report:
    """What `assert_matches` and `assert_converges` found; ``print`` shows it.

    Attributes
    ----------
    problem : str
    rows : tuple of Row
    slopes : tuple of Slope
    left_out : dict of str to str
        Observables of the reference that were not compared, and why.
    runs : tuple of (int or None, int)
        Particles and replicas of each size; None where the number of particles is not known.
    false_alarm : float or None
        Probability that a right code fails; None for single runs, where nothing is left to chance.
    """

    problem: str
    rows: tuple[Row, ...]
    slopes: tuple[Slope, ...]
    left_out: dict[str, str]
    runs: tuple[tuple[int | None, int], ...]
    false_alarm: float | None

    @property
    def passed(self) -> bool:
        """Whether nothing fails."""
        return not any(row.fails for row in self.rows) and not any(slope.fails for slope in self.slopes)

    @property
    def visible(self) -> dict[str, float]:
        """For each observable the smallest error, in its units, that would have been seen wherever it is."""
        found: dict[str, float] = {}
        for row in (row for row in self.rows if not row.sanity):
            found[row.observable] = max(found.get(row.observable, 0.0), row.visible)
        return found

    def __str__(self) -> str:
        wrong = sum(row.fails for row in self.rows) + sum(slope.fails for slope in self.slopes)
        count = len(self.rows) + len(self.slopes)
        if wrong:
            lines = [f"particles do not match the reference for {self.problem!r}: {wrong} of {count} checks fail"]
        else:
            lines = [f"particles match the reference for {self.problem!r}: {count} checks"]
        lines += _table(self.rows) + _slopes_table(self.slopes)
        if self.runs and any(replicas > 1 for _, replicas in self.runs):
            sizes = ", ".join(f"{r} x {'?' if n is None else n}" for n, r in self.runs)
            lines.append(f"replicas x particles: {sizes}; a right code fails with probability {self.false_alarm:g}")
        seen = "; ".join(f"{name} {size:.2g}" for name, size in self.visible.items())
        chance = f", with probability {POWER:g}" if self.false_alarm is not None else ""
        lines.append(f"smallest error that would be seen{chance}: {seen}")
        blind = [slope for slope in self.slopes if math.isnan(slope.visible)]
        if self.slopes and len(blind) < len(self.slopes):
            worst = max(slope.visible for slope in self.slopes if not math.isnan(slope.visible))
            if worst < 0:
                lines.append(f"a fall as slow as n^{worst:.2g} would be seen{chance}, wherever it is")
            else:
                lines.append("an error that does not fall at all may stay unseen somewhere: more replicas, or sizes")
        if blind:
            lines.append(
                f"no rate is seen for {', '.join(sorted({s.what for s in blind}))}: errors are within the bars"
            )
        for why in dict.fromkeys(self.left_out.values()):
            lines.append(f"not compared: {', '.join(n for n, other in self.left_out.items() if other == why)} ({why})")
        return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (not row.fails, -row.in_bars if math.isfinite(row.in_bars) else -1e300))
    # the worst of every observable before what is worse of the same one
    worst = {row.observable: row for row in reversed(ordered)}
    ordered.sort(key=lambda row: (not row.fails, row is not worst[row.observable]))
    width = max(len("what"), *(len(row.what) for row in ordered[:SHOWN]))
    columns = f"{'time':>8} {'mine':>14} {'reference':>14} {'bar':>9} {'allowed':>9} {'difference':>11} {'in bars':>8}"
    lines = [f"  {'what':<{width}} {columns}"]
    for row in ordered[:SHOWN]:
        lines.append(
            f"{'! ' if row.fails else '  '}{row.what:<{width}} {row.time:>8g} {row.mine:>14.8g} "
            f"{row.reference:>14.8g} {row.bar:>9.2g} {row.allowed:>9.2g} {row.difference:>+11.3g} {row.in_bars:>8.3g}"
        )
    if len(ordered) > SHOWN:
        rest = ordered[SHOWN:]
        lines.append(f"  and {len(rest)} more, {sum(row.fails for row in rest)} of them wrong")
    return lines


def _slopes_table(slopes: Sequence[Slope]) -> list[str]:
    if not slopes:
        return []
    ordered = sorted(slopes, key=lambda slope: (not slope.fails, -slope.low))
    width = max(len("error of"), *(len(slope.what) for slope in ordered[:SHOWN]))
    lines = [f"  {'error of':<{width}} {'time':>8} {'falls like':>11} {'interval':>17} {'expected':>9}"]
    for slope in ordered[:SHOWN]:
        lines.append(
            f"{'! ' if slope.fails else '  '}{slope.what:<{width}} {slope.time:>8g} {f'n^{slope.slope:.2f}':>11} "
            f"{f'[{slope.low:.2f}, {slope.high:.2f}]':>17} {f'n^{slope.rate:g}':>9}"
        )
    if len(ordered) > SHOWN:
        lines.append(f"  and {len(ordered) - SHOWN} more, {sum(s.fails for s in ordered[SHOWN:])} of them wrong")
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# what the caller hands in
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Runs:
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
class _Case:
    """What is compared with what."""

    reference: Reference
    targets: dict[str, Certified]
    left_out: dict[str, str]
    sizes: list[_Runs]

    @property
    def numbers(self) -> int:
        """How many are compared."""
        return sum(target.value.size for target in self.targets.values())

    def report(self, rows: Iterable[Row], slopes: Iterable[Slope], false_alarm: float | None) -> Report:
        """What was found."""
        runs = tuple((runs.n, runs.replicas) for runs in self.sizes)
        return Report(self.reference.name, tuple(rows), tuple(slopes), self.left_out, runs, false_alarm)


def _case(reference: Any, values: Any, observables: Any, times: Any, *, at_least: int = 1) -> _Case:
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
    return _Case(reference, targets, left_out, [take(reference, targets, runs, n) for n, runs in sizes])


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
        chosen = [_certified(reference, name).name for name in entries(observables, "observables")]
    at = None if times is None else as_times(times)
    if at is not None:
        known = {float(t) for found in reference.observables for t in found.times}
        for t in at:
            if not any(_same(t, other) for other in known):
                raise ValueError(f"the reference has no t = {t:g}; it has {', '.join(f'{t:g}' for t in sorted(known))}")
    names = None
    if isinstance(runs[0], Mapping):
        names = [_certified(reference, name).name for name in runs[0]]
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
            reason = _not_of_particles(reference.problem, _observable(found))
            if reason:
                left_out[found.name] = reason
                continue
            end = [run for run in runs if math.inf not in run.times]
            if end and not np.all(np.isfinite(found.times)):
                left_out[f"{found.name} at t = inf"] = "the end state is not recorded"
                found = _restricted(found, [t for t in found.times if math.isfinite(t)])
        if at is not None:
            found = _restricted(found, at)
        if len(found.times) > 0:
            targets[found.name] = found
        else:
            left_out.setdefault(found.name, "not at these times")
    if not targets:
        raise ValueError(f"nothing is left to compare: {'; '.join(f'{n}: {why}' for n, why in left_out.items())}")
    return targets, left_out


def _given(reference: Reference, targets: Mapping[str, Certified], given: Sequence[Any], n: int | None) -> _Runs:
    runs = _Runs(n, {})
    for name, target in targets.items():
        shape = target.value.shape
        arrays = []
        for run in given:
            array, eps = _taken(run[name], f"values[{name!r}]")
            runs.rounding[name] = max(runs.rounding.get(name, 0.0), eps)
            several = len(given) == 1 and array.ndim == len(shape) + 1 and array.shape[1:] == shape and len(array)
            if not several and array.shape != shape:
                wanted = f"{shape} or (replicas, {', '.join(map(str, shape))})" if len(given) == 1 else f"{shape}"
                at = ", ".join(f"{t:g}" for t in target.times)
                raise ValueError(f"{name!r} must have shape {wanted}, of the times {at}; not {array.shape}")
            arrays.append(array if several else array[None])
        runs.values[name] = np.concatenate(arrays)
    return runs


def _recorded(reference: Reference, targets: Mapping[str, Certified], recorders: Sequence[Any], n: int | None) -> _Runs:
    for recorder in recorders:
        other = recorder.problem
        if other is not reference.problem and other.fingerprint() != reference.problem.fingerprint():
            raise ValueError(f"a recorder is of another problem {other.name!r} than the reference; see the parameters")
    sizes = {recorder.n for recorder in recorders}
    if len(sizes) > 1 or (n is not None and sizes != {n}):
        found = " and ".join(map(str, sorted(sizes)))
        raise ValueError(f"replicas of one size have {found} particles" + ("" if n is None else f", under the key {n}"))
    runs = _Runs(sizes.pop(), {}, list(recorders))
    eps = max(max(recorder._rounding, recorder._weights_rounding) for recorder in recorders)
    for name, target in targets.items():
        runs.values[name] = np.stack([recorder._of(target) for recorder in recorders])
        runs.rounding[name] = eps
    return runs


def _stated(given: Any, what: str, names: Sequence[str]) -> dict[str, Array]:
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


def _tolerances(case: _Case, error: Any, absolute: Any) -> dict[str, Array]:
    """What a bar and the caller's own errors allow, for each observable: an array like its values."""
    names = list(case.targets)
    relative, extra = _stated(error, "error", names), _stated(absolute, "absolute", names)
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


# ---------------------------------------------------------------------------------------------------------------------
# statistics
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Combined:
    """A linear combination of means of independent groups: value, standard error, degrees of freedom, skewness."""

    value: Array
    error: Array
    freedom: Array
    skew: Array

    def margin(self, sign: Array, tail: float) -> Array:
        r"""How many standard errors a deviation of this sign must have to be due to chance with probability `tail`.

        Student's quantile q; and where the replicas are skew also the deviation at which the statistic of Hall (1992)
        without its skewness g,

        .. math:: T + g (2 T^2 + 1)/6 + g^2 T^3 / 27 = \frac{(1 + g T/3)^3 - 1}{g} + \frac g6,

        has reached it.
        """
        from scipy import special

        q = -special.stdtrit(self.freedom, tail)
        g = np.where(np.abs(self.skew) < 1e-6, 1.0, self.skew)
        straight = np.cbrt(1.0 + g * (sign * q - g / 6.0))
        hall = np.where(np.abs(self.skew) < 1e-6, q, sign * 3.0 / g * (straight - 1.0))
        return np.asarray(np.maximum(q, hall))


def _combined(weights: Array, groups: Sequence[Array]) -> _Combined:
    """The sum of weighted means of groups (R_k, ...); freedom after Welch and Satterthwaite."""
    value = sum(w * g.mean(axis=0) for w, g in zip(weights, groups, strict=True))
    parts, thirds, counts = [], [], []
    for w, g in zip(weights, groups, strict=True):
        centred, r = g - g.mean(axis=0), len(g)
        parts.append(w**2 * (centred**2).sum(axis=0) / (r - 1) / r)
        thirds.append(w**3 * (centred**3).mean(axis=0) / r**2)
        counts.append(r - 1.0)
    total = np.asarray(sum(parts))
    # a group whose values are all alike up to rounding has no spread
    flat = (
        total
        <= (1e-14 * np.asarray(sum(np.abs(w) * np.abs(g).max(axis=0) for w, g in zip(weights, groups, strict=True))))
        ** 2
    )
    safe = np.where(flat, 1.0, total)
    freedom = np.where(
        flat, sum(counts), safe**2 / np.where(flat, 1.0, sum(p**2 / c for p, c in zip(parts, counts, strict=True)))
    )
    skew = np.where(flat, 0.0, SKEW * np.asarray(sum(thirds)) / safe**1.5)
    return _Combined(np.asarray(value), np.where(flat, 0.0, np.sqrt(safe)), freedom, skew)


def _limit_rows(case: _Case, tolerances: Mapping[str, Array], bias: Mapping[str, Array], tail: float) -> list[Row]:
    """The limit of many particles, or the mean at one size, beside the reference. `tail`: for each number, one side."""
    from mfpde.comparison.statistics import _intercept

    rows, sizes = [], case.sizes
    for name, allowance in tolerances.items():
        certified = case.targets[name]
        groups = [runs.values[name] for runs in sizes]
        allowed = allowance
        if len(sizes) == 1:
            weights = np.ones(1)
            if np.any(bias[name] > 0):
                allowed = allowed + bias[name] / float(sizes[0].n)  # type: ignore[arg-type]
        else:
            n = np.array([float(runs.n) for runs in sizes])  # type: ignore[arg-type]
            precision = n * [len(group) for group in groups]
            weights = _intercept(1.0 / n, precision)
            # of the line at the largest size, less at infinity: the bias there
            at_largest = _intercept(1.0 / n - 1.0 / n[-1], precision)
            first = n[-1] * np.abs(
                sum((a - b) * g.mean(axis=0) for a, b, g in zip(at_largest, weights, groups, strict=True))
            )
            allowed = allowed + SECOND * n[0] * first * abs(float(weights @ n**-2.0))
        if all(len(group) == 1 for group in groups) and len(groups) == 1:
            mine = groups[0][0]
            visible = allowed + certified.bar
        else:
            found = _combined(weights, groups)
            mine = found.value
            sign = np.where(mine >= certified.value, 1.0, -1.0)
            counts = [_of_counts(certified, sizes, weights, p) for p in (tail, 1.0 - POWER)]
            # what chance may do towards the side that is seen, and towards the other one
            here, there = (np.maximum(found.margin(side, tail) * found.error, counts[0]) for side in (sign, -sign))
            missed = np.maximum(
                np.maximum(found.margin(sign, 1.0 - POWER), found.margin(-sign, 1.0 - POWER)) * found.error, counts[1]
            )
            visible = allowed + certified.bar + np.maximum(here, there) + missed
            allowed = allowed + here
        for index in np.ndindex(certified.value.shape):
            rows.append(
                Row(
                    name,
                    index[1:],
                    float(certified.times[index[0]]),
                    float(mine[index]),
                    float(certified.value[index]),
                    float(certified.bar[index]),
                    float(allowed[index]),
                    float(visible[index]),
                )
            )
    return rows


def _widths(target: Certified) -> Array | None:
    """By what a count of particles is divided, if the observable is one: masses of regions, and marginals."""
    if isinstance(target.observable, MassIn):
        return np.ones(())
    return np.diff(target.observable.edges) if isinstance(target.observable, Marginal) else None


def _of_counts(target: Certified, sizes: Sequence[_Runs], weights: Array, tail: float) -> Array:
    r"""What a count of particles may be off: few of them are not normal, and none at all have no spread.

    After Bernstein :math:`|k/n - p| > \sqrt{2 L p/n} + L/n` with a probability of at most :math:`e^{-L}` for n
    independent particles.
    """
    widths = _widths(target)
    if widths is None:
        return np.zeros(())
    many = np.array([runs.effective for runs in sizes])
    log = -math.log(tail)
    p = np.clip(target.value * widths, 0.0, 1.0)
    spread = np.sqrt(2.0 * log * p * float(np.sum(weights**2 / many)))
    return np.asarray((spread + log * float(np.max(np.abs(weights) / many))) / widths)


def _sanity_rows(case: _Case) -> list[Row]:
    """Mass where it is conserved, and particles in the box: the worst of all replicas and sizes."""
    recorders = [recorder for runs in case.sizes for recorder in runs.recorders]
    if not recorders:
        return []
    rows = []
    problem = case.reference.problem
    if not (problem.reacts and problem.reaction is Reaction.UNBALANCED):
        masses = [(float(w.sum()), t) for r in recorders for w, t in zip(r.weights, r.times, strict=True)]
        mass, t = max(masses, key=lambda pair: abs(pair[0] - 1.0))
        allowed = max(MASS_DRIFT, *(64 * r._weights_rounding for r in recorders))
        rows.append(Row("mass", (), t, mass, 1.0, 0.0, allowed, allowed, True))
    outside = max(recorder._outside() for recorder in recorders)
    if outside > 0:
        t = recorders[0].times[-1]
        rows.append(Row("share of particles in the box", (), t, 1.0 - outside, 1.0, 0.0, OUTSIDE, OUTSIDE, True))
    return rows


@functools.lru_cache(maxsize=4096)
def _log_chi_square(weights: tuple[float, ...], freedom: tuple[float, ...], tail: float) -> float:
    r"""The value that :math:`\sum_k c_k \log(\chi^2_{\nu_k}/\nu_k)` exceeds with probability `tail` < 1/4.

    By the saddlepoint approximation of Lugannani and Rice (1980), from the cumulant function
    :math:`K(t) = \sum_k \log\Gamma(\nu_k/2 + c_k t) - \log\Gamma(\nu_k/2) - c_k t \log(\nu_k/2)`.
    """
    from scipy import optimize, special

    c, half = np.array(weights), np.array(freedom) / 2.0

    def at(t: float) -> tuple[float, float]:
        """``K'(t)`` and the probability beyond it."""
        a = half + c * t
        first = float(c @ (special.digamma(a) - np.log(half)))
        k = float(np.sum(special.gammaln(a) - special.gammaln(half) - c * t * np.log(half)))
        w = math.sqrt(2.0 * max(t * first - k, 1e-300))
        u = t * math.sqrt(float(c**2 @ special.polygamma(1, a)))
        return first, float(special.ndtr(-w)) + math.exp(-0.5 * w * w) / math.sqrt(2 * math.pi) * (1.0 / u - 1.0 / w)

    negative = c < 0
    end = float(np.min(half[negative] / -c[negative])) if negative.any() else 1e6
    low, high = 1e-3 * end, (1.0 - 1e-9) * end
    if at(low)[1] <= tail:
        return at(low)[0]
    return at(float(optimize.brentq(lambda t: math.log(max(at(t)[1], 1e-300)) - math.log(tail), low, high)))[0]


def _slopes(case: _Case, tolerances: Mapping[str, Array], rate: float, tail: float, two_sided: bool) -> list[Slope]:
    """The fall of the root-mean-square error of every observable at every time. `tail`: for each, one side."""
    found, sizes = [], case.sizes
    n = np.array([float(runs.n) for runs in sizes])  # type: ignore[arg-type]
    counts = np.array([runs.replicas for runs in sizes], dtype=float)
    x = np.log(n) - float(counts @ np.log(n)) / counts.sum()
    c = counts * x / float(counts @ x**2)
    for name, allowance in tolerances.items():
        certified = case.targets[name]
        axes = tuple(range(1, certified.value.ndim))
        allowed = np.sqrt((allowance**2).sum(axis=axes)) + 1e-14 * np.sqrt((certified.value**2).sum(axis=axes))
        squares = []
        for runs in sizes:
            gap = (runs.values[name] - certified.value) ** 2
            squares.append(gap.sum(axis=tuple(range(2, gap.ndim))))
        widths = _widths(certified)
        for j, t in enumerate(certified.times):
            if widths is not None and float(np.max(certified.value[j] * widths)) * float(np.min(n * counts)) < FEW:
                case.left_out[f"rate of {name} at t = {t:g}"] = f"fewer than {FEW:g} particles are expected there"
                continue
            y = [s[:, j] for s in squares]
            rms = np.array([math.sqrt(float(s.mean())) for s in y])
            nu = tuple(float(r) for r in counts * _freedom(y))
            # by the triangle inequality the error against the truth is within the bars of the one that is seen
            slope = float(c @ np.log(rms)) if np.all(rms > 0) else math.nan
            least = _extreme(c, rms, float(allowed[j]))
            most = -_extreme(-c, rms, float(allowed[j]))
            over = 0.5 * _log_chi_square(tuple(c), nu, tail)
            under = 0.5 * _log_chi_square(tuple(-c), nu, tail)
            miss = 0.5 * _log_chi_square(tuple(-c), nu, 1.0 - POWER)
            low, high = least - over, most + under
            found.append(
                Slope(
                    name,
                    float(t),
                    slope if math.isfinite(slope) else -math.inf,
                    low,
                    high,
                    rate,
                    rate + over + miss + (slope - least) if math.isfinite(least) and math.isfinite(slope) else math.nan,
                    low > rate or (two_sided and high < rate),
                )
            )
    return found


def _freedom(squares: Sequence[Array]) -> float:
    """Degrees of freedom of a squared error: 1 for a normal number, less for heavier tails; in steps of 0.1."""
    ratios = [float(s.var(ddof=1)) / max(float(s.mean()) ** 2, 1e-300) for s in squares if s.mean() > 0]
    spread = float(np.mean(ratios)) if ratios else 2.0
    # several components have more of them, but that few replicas cannot tell
    return min(1.0, max(0.1, math.floor(20.0 / max(spread, 1e-3)) / 10.0))


def _extreme(c: Array, rms: Array, allowed: float) -> float:
    """The least slope that errors within `allowed` of the given ones can have; minus infinity if they may be none."""
    moved = np.where(c > 0, rms - allowed, rms + allowed)
    if np.any(moved[c > 0] <= 0):
        return -math.inf
    return float(c[c != 0] @ np.log(moved[c != 0]))


# ---------------------------------------------------------------------------------------------------------------------
# the assertions
# ---------------------------------------------------------------------------------------------------------------------


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
    case = _case(reference, values, observables, times)
    sizes = case.sizes
    _check_false_alarm(false_alarm)
    tolerances = _tolerances(case, error, absolute)
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
    stated = _stated(0.0 if bias is None else bias, "bias", list(tolerances))
    for name, c in stated.items():
        if c.ndim > 0:
            raise ValueError(f"the bias of {name!r} must be one number, not {shown(c)}")
        if c > 0 and sizes[0].n is None:
            raise ValueError("a bias C/n needs n: give the replicas as {n: replicas}")
    rows = _limit_rows(case, tolerances, stated, 0.5 * false_alarm / case.numbers)
    report = case.report((*_sanity_rows(case), *rows), (), false_alarm if several else None)
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
    case = _case(reference, runs_by_size, observables, times, at_least=2)
    _check_false_alarm(false_alarm)
    _check_replicas(case.sizes)
    if not (real(rate) and -10 <= rate < 0):
        raise ValueError(f"rate must be negative, -0.5 for mean-field particles, not {shown(rate)}")
    tolerances = _tolerances(case, error, absolute)
    curves = sum(len(target.times) for target in case.targets.values())
    nothing = _stated(0.0, "bias", list(tolerances))
    rows = _limit_rows(case, tolerances, nothing, 0.25 * false_alarm / case.numbers)
    tail = 0.5 * false_alarm / curves / (2 if two_sided else 1)
    slopes = _slopes(case, tolerances, float(rate), tail, two_sided)
    report = case.report((*_sanity_rows(case), *rows), slopes, false_alarm)
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


def _check_replicas(sizes: Sequence[_Runs]) -> None:
    for runs in sizes:
        if runs.replicas < 2:
            raise ValueError(
                f"{'one size' if runs.n is None else f'n = {runs.n}'} has one replica and thus no error bar; "
                "give 16 or more, with independent seeds"
            )
