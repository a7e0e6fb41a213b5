"""The recorder that a particle code hands its particles to, and what becomes of arrays, times and names from outside.

An array of any library is read as one of NumPy, with the rounding it came in; particles are measured in the box of
the problem, with the observables of a reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mfpde.equation.energy.capabilities import has_points
from mfpde.equation.problem import Problem, Reaction
from mfpde.support.arguments import numbers, real, shown
from mfpde.support.arrays import Array
from mfpde.support.words import one_line
from mfpde.verification.observables import DecayRate, DensityAt, EnergyAt, Measured, Observable, as_times
from mfpde.verification.references.certified import Certified, Reference
from mfpde.verification.walls import beyond_walls, check_inside, within_walls

__all__ = [
    "ParticleRecorder",
    "certified_named",
    "not_of_particles",
    "observable_of",
    "read_array",
    "restricted",
    "same_time",
]


def read_array(values: Any, what: str) -> tuple[Array, float]:
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
            array = np.ma.asanyarray(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
        except TypeError:
            if not callable(getattr(values, "double", None)):
                raise
            array = np.asarray(values.double())  # a precision that NumPy lacks
            return np.array(array, dtype=np.float64), 2.0**-7
    except (TypeError, ValueError, RuntimeError, AttributeError, BufferError) as error:
        if isinstance(values, (list, tuple)) and len(values) > 0 and hasattr(values[0], "__array__"):
            rows = [read_array(row, what) for row in values]  # a list of tensors
            return numbers([row for row, _ in rows], what), max(eps for _, eps in rows)
        reason = one_line(error)[:120]
        raise ValueError(
            f"{what} cannot be read as an array ({type(error).__name__}: {reason}); "
            "record outside of compiled functions, and move arrays to the host"
        ) from None
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16 of ml_dtypes
        return array.astype(np.float64), 2.0**-7
    # integers are exact
    eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
    return numbers(array, what), eps


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
    rounding, weights_rounding : float
        The coarsest relative rounding of the arrays that positions and weights came in.

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
        self.rounding = 2.0**-52
        self.weights_rounding = 2.0**-52

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
        return any(same_time(t, time) for time in wanted) and not any(same_time(t, time) for time in self._times)

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
            w, eps = read_array(weights, "weights")
            if w.shape != (n,):
                raise ValueError(f"weights must have shape ({n},), one a particle, not {w.shape}")
            if not np.all(np.isfinite(w)) or np.any(w < 0) or not np.any(w > 0):
                raise ValueError(f"t = {t:g}: weights must be finite and not negative, with a positive sum")
            self.weights_rounding = max(self.weights_rounding, eps)
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
        check_inside(self.share_outside())
        if isinstance(what, Observable):
            return self._values(what, as_times(getattr(what, "times", None)) or self.times)
        if self.reference is not None:
            found = certified_named(self.reference, what)
            recorded = [t for t in found.times if math.isfinite(t) or t in self._times]
            return self.values_of(restricted(found, recorded))
        if isinstance(what, str) and what == "energy":
            return self._values(EnergyAt(), self.times)
        raise ValueError(f"{shown(what)}: a recorder of a Problem knows 'energy'; pass an Observable, or a Reference")

    def values_of(self, target: Certified) -> Array:
        """What a reference has, measured here at the same times."""
        observable = observable_of(target)
        if not isinstance(observable, DecayRate):
            return self._values(observable, target.times.tolist())
        # each rate is between a time and the one before among those of the observable
        times = as_times(observable.times) or ()
        ends = [times.index(t) for t in target.times]
        return np.concatenate([self._values(observable, times[k - 1 : k + 1]) for k in ends])

    def _values(self, observable: Observable, times: Sequence[float]) -> Array:
        reason = not_of_particles(self.problem, observable)
        if reason:
            raise ValueError(f"{observable.name}: {reason}")
        if len(times) == 0:
            raise ValueError("nothing is recorded yet; call record(t, positions)")
        found = np.stack([np.asarray(observable.measure(self._at(t)), dtype=float) for t in times])
        return observable.combine(found, np.asarray(times)) if isinstance(observable, DecayRate) else found

    def _at(self, t: float) -> Measured:
        """The particles at a time as a measure in the box."""
        i = next((k for k, known in enumerate(self._times) if same_time(t, known)), None)
        if i is None:
            known = ", ".join(f"{time:g}" for time in self._times[:8]) + (", .." if len(self._times) > 8 else "")
            raise ValueError(f"t = {t:g} is not recorded (there are {known or 'none'}); record the reference's times")
        if i not in self._measured:
            x = within_walls(self.positions[i], self.problem.axes)
            energy = math.nan
            if self.problem.noiseless and has_points(self.problem.bound_energy):
                energy = self.problem.bound_energy.energy(x, self.weights[i])
            self._measured[i] = Measured(self.problem, tuple(x.T), self.weights[i], energy)
        return self._measured[i]

    def share_outside(self) -> float:
        """The largest share of particles, over the records, that are outside the box."""
        axes = self.problem.axes
        shares = [float(beyond_walls(x, axes, self.rounding).mean()) for x in self.positions]
        return max(shares, default=0.0)

    def _columns(self, t: float, positions: Any) -> Array:
        """Positions as an array, shape (n, d), columns in the order of the axes."""
        names = [axis.name for axis in self.problem.axes]
        if isinstance(positions, Mapping):
            if sorted(map(str, positions)) != sorted(names):
                given = ", ".join(map(str, positions))
                raise ValueError(f"positions name {given or 'nothing'}; the axes are {', '.join(names)}")
            columns = [read_array(positions[name], f"positions[{name!r}]") for name in names]
            shapes = {column.shape for column, _ in columns}
            if len(shapes) > 1 or columns[0][0].ndim != 1:
                raise ValueError(
                    f"t = {t:g}: positions of the axes must all have shape (n,), not {', '.join(map(str, shapes))}"
                )
            x, eps = np.stack([column for column, _ in columns], axis=1), max(e for _, e in columns)
        else:
            x, eps = read_array(positions, "positions")
            if x.ndim == 1 and len(names) == 1:
                x = x[:, None]
        d = len(names)
        if x.ndim != 2 or x.shape[1] != d or len(x) < 1:
            hint = "; transpose them" if x.ndim == 2 and x.shape[0] == d else ""
            raise ValueError(
                f"t = {t:g}: positions must have shape (n, {d}), columns {', '.join(names)}, not {x.shape}{hint}"
            )
        self.rounding = max(self.rounding, eps)
        return x

    def __repr__(self) -> str:
        return f"<ParticleRecorder of {self.problem.name!r}: {self.n} particles, {len(self._times)} times>"


def _check_time(t: Any) -> None:
    if not (isinstance(t, (int, float, np.number)) and (t == math.inf or (real(t) and t >= 0))):
        raise ValueError(f"the time of a record must be a number that is not negative, not {shown(t)}")


def same_time(s: float, t: float) -> bool:
    """Whether two times are one, up to the rounding of many additions of a step."""
    return s == t or abs(s - t) <= 1e-9 * max(1.0, min(abs(s), abs(t)))


def _times_of(found: Certified) -> list[float]:
    """When it has to be measured; a rate also where it begins."""
    rate = isinstance(found.observable, DecayRate)
    return list(as_times(found.observable.times) or ()) if rate else found.times.tolist()  # type: ignore[union-attr]


def restricted(found: Certified, times: Sequence[float]) -> Certified:
    """At those of its times that are among the given ones."""
    keep = [j for j, t in enumerate(found.times) if any(same_time(t, other) for other in times)]
    return replace(found, times=found.times[keep], value=found.value[keep], bar=found.bar[keep])


def certified_named(reference: Reference, name: Any) -> Certified:
    """What a reference has under a name.

    Raises
    ------
    ValueError
        If it has nothing of that name; the names there are.
    """
    for found in reference.observables:
        if isinstance(name, str) and found.name == name:
            return found
    valid = ", ".join(repr(found.name) for found in reference.observables)
    raise ValueError(f"the reference has no {shown(name)}; valid: {valid}")


def observable_of(certified: Certified) -> Observable:
    """How something in a reference is measured.

    Raises
    ------
    ValueError
        If the reference does not say.
    """
    if certified.observable is None:
        raise ValueError(f"the reference does not say how {certified.name!r} is measured; give its values yourself")
    return certified.observable


def not_of_particles(problem: Problem, observable: Observable) -> str:
    """Why particles do not have an observable; empty if they do."""
    if isinstance(observable, (EnergyAt, DecayRate)) and not problem.noiseless:
        return (
            "with a temperature the energy contains an entropy, which particles do not have; compare moments, outputs"
        )
    if isinstance(observable, (EnergyAt, DecayRate)) and not has_points(problem.bound_energy):
        return f"{problem.bound_energy.label} has values on a mesh only; compare moments, outputs"
    if isinstance(observable, DensityAt):
        return "particles have no density; compare moments, outputs, masses"
    return ""
