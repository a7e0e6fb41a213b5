"""Products of laws along the axes, and atoms."""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.measures.base import (
    NEGLIGIBLE_MASS,
    Empty,
    Measure,
    RestrictedMeasure,
    axis_names,
    cloud_in_cell,
    midpoints,
    outer,
    refuse_labels,
    tensor,
    wrap,
)
from mfpde.equation.measures.density import Envelope
from mfpde.equation.measures.narrow import IN_DOUBT, MISSED, by_masses, too_narrow
from mfpde.equation.measures.quadrature import Block, Place, density_rule
from mfpde.support.arguments import real, shown
from mfpde.support.arrays import Array

__all__ = ["Dirac", "Product"]


LEFT_OUT = 2.5e-16
"""The mass of a law, on each side, whose translates are left out where it is wound round a circle: round-off of
``1 - cdf``."""
BLOCK = 4096
"""Intervals whose masses are found at once."""
MOST_TURNS = 1024
"""Turns on each side beyond which a law is too wide for that, or its tails too heavy."""


class _Law:
    """The few functions needed of a scipy distribution, old style (`stats.norm(0, 1)`) or new (`stats.Normal()`)."""

    def __init__(self, distribution: Any) -> None:
        self.distribution = distribution
        self.cdf = distribution.cdf
        self.pdf = distribution.pdf
        self.logpdf = distribution.logpdf
        self.sf = getattr(distribution, "sf", None) or distribution.ccdf
        self.ppf = getattr(distribution, "ppf", None) or distribution.icdf
        self.isf = getattr(distribution, "isf", None) or distribution.iccdf
        self.median = float(distribution.median())
        low, high = distribution.support()
        self.support = float(low), float(high)

    @property
    def quick_quantile(self) -> bool:
        """Whether the quantile function is a formula, not a root search for each value."""
        from scipy.stats import rv_continuous

        family = getattr(self.distribution, "dist", None)
        return isinstance(family, rv_continuous) and type(family)._ppf is not rv_continuous._ppf

    def log_values(self, x: Array) -> Array:
        """`logpdf` of points of the support, for laws of old style without what that looks at first."""
        from scipy.stats import rv_continuous

        family = getattr(self.distribution, "dist", None)
        if not isinstance(family, rv_continuous):
            return np.asarray(self.logpdf(x))
        shapes, place, scale = family._parse_args(*self.distribution.args, **self.distribution.kwds)
        return np.asarray(family._logpdf((x - place) / scale, *shapes) - np.log(scale))

    def masses(self, edges: Array) -> Array:
        """Masses of the intervals between ascending edges, with relative accuracy in both tails.

        Two estimates are at hand. Differences of the distribution function (left of the median) or of
        the survival function (right of it) are right for any law, but cancel where an interval holds
        little of the tail beyond it, and many laws take ``sf = 1 - cdf``. Gauss-Legendre of
        the density is accurate to round-off wherever the density is smooth over the interval, tails
        included. So Gauss where two orders agree and the difference does not contradict it.
        """
        starts = range(0, len(edges) - 1, BLOCK)  # a block at a time: each interval takes tens of numbers meanwhile
        return np.concatenate([self._masses(edges[start : start + BLOCK + 1]) for start in starts] or [np.empty(0)])

    def _masses(self, edges: Array) -> Array:
        with np.errstate(all="ignore"):
            edges = np.clip(edges, *self.support)
            below, above = np.asarray(self.cdf(edges), dtype=float), np.asarray(self.sf(edges), dtype=float)
            left, right = edges[:-1], edges[1:]
            difference = np.where(
                right <= self.median,
                below[1:] - below[:-1],
                np.where(left >= self.median, above[:-1] - above[1:], 1.0 - (below[:-1] + above[1:])),
            )
            difference = np.maximum(difference, 0.0)
            coarse, fine = self._gauss(left, right, 6), self._gauss(left, right, 10)
            good = (fine > 0.0) & (np.abs(fine - coarse) <= 1e-13 * fine)
            good &= np.abs(fine - difference) <= 1e-10 + 1e-6 * fine
        return np.where(good, fine, difference)

    def _gauss(self, left: Array, right: Array, n: int) -> Array:
        nodes, weights = np.polynomial.legendre.leggauss(n)
        middle, half = 0.5 * (left + right), 0.5 * (right - left)
        values = np.asarray(self.pdf(middle[:, None] + half[:, None] * nodes), dtype=float)
        # mirrored nodes are added first, so that a mirrored law has bit for bit mirrored masses
        paired = values[:, : n // 2] + values[:, : (n - 1) // 2 : -1]
        return half * (paired * weights[: n // 2]).sum(axis=1)


class _OfALaw(abc.ABC):
    """The law of one parameter on its axis, normalised."""

    axis: Axis

    @property
    @abc.abstractmethod
    def width(self) -> float:
        """Half of what holds the middle 68 %."""

    @abc.abstractmethod
    def cells(self, n: int) -> Array:
        """Averages of the density over n cells of the axis."""

    @abc.abstractmethod
    def density(self, x: Array) -> Array:
        """The density at points of the axis."""

    @abc.abstractmethod
    def _jumps(self) -> bool: ...

    def point_values(self, n: int) -> Array:
        """The density at the centres of n cells, or what stands for it there; see `RestrictedMeasure.point_values`."""
        if self._jumps():
            return self.cells(n)
        values, total = self._at_centres(n)
        if self._too_narrow(values, total):
            return by_masses(self.axis, n, self.width, self.cells)
        # a law too rough for the mesh: its centre values mean nothing
        return values / total if abs(total - 1.0) < 0.1 else self.cells(n)

    def by_masses(self, n: int) -> bool:
        """Whether masses of cells stand for a law that is too narrow for n of them."""
        return not self._jumps() and self._too_narrow(*self._at_centres(n))

    def _at_centres(self, n: int) -> tuple[Array, float]:
        """The density at the centres of n cells, and what it sums up to: NaN or infinity where it is not finite."""
        grid = Grid([self.axis], [n])
        values = self.density(grid.centres(0))
        return values, float(values.sum() * grid.cell_volume)

    def _too_narrow(self, values: Array, total: float) -> bool:
        h = self.axis.length / len(values)
        # the width takes milliseconds, which are spent only where values are in doubt
        if abs(total - 1.0) <= MISSED and values.max() * h < IN_DOUBT:
            return False
        return too_narrow(total, self.width, h)


class _Marginal(_OfALaw):
    """A law restricted to one axis and normalised."""

    atom = False

    def __init__(self, axis: Axis, law: _Law, label: str) -> None:
        self.axis, self.law = axis, law
        low, high = max(axis.lower, law.support[0]), min(axis.upper, law.support[1])
        self.low, self.high = low, high
        below, above = float(law.cdf(axis.lower)), float(law.sf(axis.upper))
        if not (math.isfinite(below) and math.isfinite(above) and math.isfinite(law.median)):
            raise ValueError(f"axis {axis.name!r}: {label} has NaN probabilities; check its parameters")
        # cdf of a law on the circle (von Mises) goes on beyond [0, 1] from turn to turn
        self.circular = below < 0.0 or above < 0.0
        if self.circular and not (axis.periodic and abs(below + above) < 1e-9):
            raise ValueError(
                f"axis {axis.name!r}: {label} is a law on the circle; give it a periodic axis of one period in length"
            )
        self.below, self.above = below, above
        self.lost = min(max(below + above, 0.0), 1.0)
        edges = np.linspace(low, high, 65) if low < high else np.zeros(0)
        self.mass = float(law.masses(edges).sum()) if low < high else 0.0
        if not self.mass > 0.0:
            raise Empty(
                f"axis {axis.name!r}: {label} has no mass inside [{axis.lower:g}, {axis.upper:g}]; "
                "move the axis to where the measure is"
            )

    def cells(self, n: int) -> Array:
        axis = self.axis
        return self.law.masses(Grid([axis], [n]).faces(0)) * (n / (axis.length * self.mass))

    def density(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.law.pdf(x), dtype=float) / self.mass

    @property
    def width(self) -> float:
        """The spread of the law."""
        return self.bulk[0].spread

    def _jumps(self) -> bool:
        """Whether the density jumps strictly inside the box, or is unbounded at an end."""
        span = self.high - self.low
        with np.errstate(all="ignore"):
            ends = np.asarray(self.law.pdf(np.array([self.low, self.high])), dtype=float)
            # a support end may count as outside: look one part in 1e9 inside as well
            inner = np.asarray(self.law.pdf(np.array([self.low + 1e-9 * span, self.high - 1e-9 * span])), dtype=float)
        if not np.all(np.isfinite(ends)):
            return True
        inside = np.array([self.low > self.axis.lower, self.high < self.axis.upper])
        return bool(np.any(inside & (inner > 1e-6 / span)))

    def log_density(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.law.logpdf(x), dtype=float) - math.log(self.mass)

    @cached_property
    def effective(self) -> tuple[float, float]:
        """The interval outside which each side holds less than `NEGLIGIBLE_MASS`."""
        low, high = self.low, self.high
        for _ in range(20):
            edges = np.linspace(low, high, 257)
            masses = self.law.masses(edges) / self.mass
            heavy = np.cumsum(masses) > NEGLIGIBLE_MASS
            first = int(np.argmax(heavy))
            last = 255 - int(np.argmax(np.cumsum(masses[::-1]) > NEGLIGIBLE_MASS))
            length = high - low
            low, high = float(edges[first]), float(edges[last + 1])
            if high - low > 0.9 * length or high - low < 1e-12 * max(abs(low), abs(high)):
                break
        return low, high

    @cached_property
    def bulk(self) -> tuple[Place, float]:
        """Middle and spread (half of what holds the middle 68 %), and the density at the ends, the maximum being 1."""
        low, high = self.effective
        edges = np.linspace(low, high, 1025)
        mass = self.law.masses(edges) / self.mass
        below = np.concatenate([[0.0], np.cumsum(mass)])
        left, middle, right = np.interp([0.16, 0.5, 0.84], below / below[-1], edges)
        with np.errstate(all="ignore"):
            # also a little inside: a density that vanishes like a power is not smooth where it goes on as 0
            ends = low + (high - low) * np.array([0.0, 0.02, 0.98, 1.0])
            ratio = float(np.max(self.law.pdf(ends))) * (high - low) / 1024 / (float(mass.max()) * self.mass)
        return Place(float(middle), float(max(0.5 * (right - left), 1e-3 * (high - low)))), ratio

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        """Nodes, logarithms of weights up to a factor, and at which ends the rule stops and the density does not."""
        with np.errstate(all="ignore"):
            x, w, cut = density_rule(self.effective, (self.low, self.high), *self.bulk, places, n, other)
            logs = np.log(w) + self.law.log_values(x)
            # a law that jumps inside may have the right mass by chance
            if self.axis.periodic and not self._jumps():
                # spectral when the law goes on smoothly across the ends, second order when it does not
                y, v = midpoints(self.axis, n, 0.25 if other else 0.0)
                even = np.log(v) + self.law.logpdf(y)
                error = abs(np.exp(even).sum() - self.mass)
                if error <= max(abs(np.exp(logs).sum() - self.mass), 1e-13 * self.mass):
                    x, logs, cut = y, even, (False, False)
        if not math.isfinite(logs.max()):  # NaN included
            raise ValueError(f"axis {self.axis.name!r}: {n} nodes do not resolve the density; take more nodes")
        return x, logs, cut

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        axis, law = self.axis, self.law
        if not law.quick_quantile or self.circular:
            return self._envelope.sample(n, rng)[:, 0]
        u = rng.random(n)
        mass = max(1.0 - (self.below + self.above), 0.0) or self.mass
        lower_tail, upper_tail = self.below + u * mass, self.above + (1.0 - u) * mass
        with np.errstate(all="ignore"):
            x = np.where(lower_tail <= 0.5, law.ppf(np.minimum(lower_tail, 1.0)), law.isf(np.minimum(upper_tail, 1.0)))
        return np.clip(x, axis.lower, axis.upper)

    @cached_property
    def _envelope(self) -> Envelope:
        low, high = self.effective
        return Envelope(self._log_values, np.array([low]), np.array([high]))

    def _log_values(self, points: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.law.logpdf(points[:, 0]), dtype=float)


class _Wrapped(_OfALaw):
    """A law wound round a periodic axis: the density is the sum of its translates by the period.

    It is taken apart on whole turns of the line, as many as hold all but `LEFT_OUT` of it, and folded.
    """

    atom = False
    lost = 0.0

    def __init__(self, axis: Axis, law: _Law, label: str) -> None:
        self.axis, self.law = axis, law
        first = math.floor((law.median - axis.lower) / axis.length)  # the turn that holds the middle
        low, high = axis.lower + first * axis.length, axis.upper + first * axis.length
        below = _turns(lambda turns: float(law.cdf(low - turns * axis.length)), axis, label)
        above = _turns(lambda turns: float(law.sf(high + turns * axis.length)), axis, label)
        self.turns = first + np.arange(-below, above + 1)
        lower, upper = low - below * axis.length, high + above * axis.length
        self.line = _Marginal(Axis(axis.name, lower, upper), law, label)

    def cells(self, n: int) -> Array:
        return self._folded(self.line.cells(n * len(self.turns)))

    @property
    def width(self) -> float:
        """The spread of the law on the line."""
        return self.line.width

    def _folded(self, values: Array) -> Array:
        return values.reshape(len(self.turns), -1).sum(axis=0)

    def _jumps(self) -> bool:
        """Whether the density on the circle jumps where the support of the law ends, or is unbounded there."""
        ends = np.array([end for end in self.law.support if math.isfinite(end)])
        near = 1e-9 * self.axis.length
        with np.errstate(all="ignore"):
            at = np.asarray(self.law.pdf(ends), dtype=float)
            jump = np.abs(self.density(wrap(self.axis, ends + near)) - self.density(wrap(self.axis, ends - near)))
        return not (np.all(np.isfinite(at)) and np.all(jump * self.axis.length <= 1e-6))

    def _logs(self, x: Array) -> Array:
        """The logarithms of the density on the line at the translates of points of the axis, (turns, n)."""
        low, high = self.law.support
        places = x + self.axis.length * self.turns[:, None]
        # the ends of a support of whole turns meet in one point, which counts once
        near = 1e-12 * self.axis.length
        places = np.where(np.abs(places - low) <= near, max(low, -np.finfo(float).max), places)
        with np.errstate(all="ignore"):
            logs = np.asarray(self.law.logpdf(places), dtype=float)
        return np.where(places < high - near, logs, -np.inf)

    def log_density(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.logaddexp.reduce(self._logs(x), axis=0)) - math.log(self.line.mass)

    def density(self, x: Array) -> Array:
        return np.asarray(np.exp(self.log_density(x)))

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        if not self._jumps():
            y, v = midpoints(self.axis, n, 0.25 if other else 0.0)
            with np.errstate(all="ignore"):
                logs = np.log(v) + self.log_density(y)
            if abs(np.exp(logs).sum() - 1.0) <= 1e-13:
                return y, logs, (False, False)
        # a narrow law is better integrated over its own interval, across the seam
        x, logs, _ = self.line.nodes(n, (), other)
        return wrap(self.axis, x), logs, (False, False)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return wrap(self.axis, self.line.sample(n, rng))


def _turns(tail: Callable[[int], float], axis: Axis, label: str) -> int:
    """After how many turns a law has next to no mass left, on one side."""
    turns = 0
    while tail(turns) > LEFT_OUT:
        turns = max(1, 2 * turns)
        if turns > MOST_TURNS:
            raise ValueError(
                f"axis {axis.name!r}: {label} holds {tail(MOST_TURNS):.2g} of its mass beyond {MOST_TURNS} turns of "
                f"[{axis.lower:g}, {axis.upper:g}), so that its translates cannot be summed; give its density on the "
                "circle as a Density, or where it is even there stats.uniform"
            )
    return turns


def _on_axis(axis: Axis, distribution: Any) -> _Marginal | _Wrapped:
    """A law on an axis: cut off at its ends, or wound round it."""
    law, label = _Law(distribution), _label(distribution)
    below, above = float(law.cdf(axis.lower)), float(law.sf(axis.upper))
    # laws on the circle have negative tails
    if not (axis.periodic and min(below, above) >= 0.0 and below + above > LEFT_OUT):
        return _Marginal(axis, law, label)
    from scipy.stats import cauchy, wrapcauchy

    if isinstance(getattr(distribution, "dist", distribution), type(cauchy)):
        # its tails are too heavy for a sum, but the sum is known: Mardia and Jupp, Directional Statistics, 3.5.7
        turn = axis.length / (2.0 * math.pi)
        width = 0.5 * float(law.isf(0.25) - law.ppf(0.25)) / turn
        law = _Law(wrapcauchy(max(math.exp(-width), 1e-300), law.median, turn))
    return _Wrapped(axis, law, label)


class _Atom:
    """A Dirac mass along one axis."""

    atom = True
    lost = 0.0
    width = 0.0

    def __init__(self, axis: Axis, x: float) -> None:
        x = float(wrap(axis, np.array([x]))[0])
        if not axis.lower <= x <= axis.upper:
            raise Empty(
                f"axis {axis.name!r}: the atom at {x:g} lies outside [{axis.lower:g}, {axis.upper:g}]; "
                "widen the axis or move the atom"
            )
        self.axis, self.x = axis, x

    def cells(self, n: int) -> Array:
        values = np.zeros(n)
        left, right, weight = cloud_in_cell(self.axis, n, np.array([self.x]))
        values[left] += 1.0 - weight
        values[right] += weight
        return values * (n / self.axis.length)

    point_values = cells

    def by_masses(self, n: int) -> bool:
        return True

    def nodes(
        self, n: int, places: Sequence[Place] = (), other: bool = False
    ) -> tuple[Array, Array, tuple[bool, bool]]:
        return np.array([self.x]), np.zeros(1), (False, False)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.full(n, self.x)


@dataclass(frozen=True, init=False)
class Product(Measure):
    """Independent parameters: ``mu(dz) = prod_i m_i(dz_i)``.

    Parameters
    ----------
    **marginals : frozen scipy.stats distribution or float
        The law of each parameter by name; a number is a Dirac mass there.

    Raises
    ------
    ValueError
        If there is none, or one is neither a continuous distribution nor a finite number.

    Notes
    -----
    Cell averages come from the distribution and survival functions and from Gauss-Legendre quadrature
    of the density, so that they keep their relative accuracy in both tails.
    On a periodic axis a law is wound round: its density there is the sum of its translates by the period, of which all
    but 2.5e-16 of the mass on each side is kept. The Cauchy law has that sum in closed form; other laws that reach
    beyond 1024 turns are refused. Laws on the circle such as ``stats.vonmises`` need an axis of one period; atoms are
    wrapped.
    A Dirac mass on a mesh is shared linearly by the two nearest centres of each axis, so that its mean
    is exact unless it lies within half a cell of a wall.

    Examples
    --------
    >>> from scipy import stats
    >>> Product(c=stats.norm(0, 1), b=0.5)
    Product(c=norm(0, 1), b=0.5)
    """

    marginals: tuple[tuple[str, Any], ...]

    def __init__(self, /, **marginals: Any) -> None:
        if not marginals:
            raise ValueError("a product needs at least one marginal, such as Product(c=stats.norm(0, 1))")
        for name, marginal in marginals.items():
            if isinstance(marginal, numbers.Real) and not isinstance(marginal, bool):
                if not real(marginal):
                    raise ValueError(f"marginal {name!r}: the atom {shown(marginal)} must be a finite number")
            elif hasattr(marginal, "pmf") and not hasattr(marginal, "pdf"):
                raise ValueError(
                    f"marginal {name!r}: {_label(marginal)} is a discrete law; write it as a Mixture of Dirac measures"
                )
            elif isinstance(marginal, type) or not all(hasattr(marginal, f) for f in ("cdf", "pdf", "support")):
                raise ValueError(
                    f"marginal {name!r} must be a frozen scipy.stats distribution such as stats.norm(0, 1) "
                    f"or a number, not {shown(marginal)}"
                )
        object.__setattr__(self, "marginals", tuple(marginals.items()))

    def restrict(self, axes: Sequence[Axis]) -> RestrictedMeasure:
        """Restrict to the box of `axes`, matched by name; see `Measure.restrict`."""
        axes = as_axes(axes)
        laws, names = dict(self.marginals), axis_names(axes)
        refuse_labels(axes, laws, repr(self))
        if set(laws) != set(names):
            missing, extra = sorted(set(names) - set(laws)), sorted(set(laws) - set(names))
            raise ValueError(
                f"the measure is over {list(laws)}, the axes are {names}"
                + (f"; give a marginal for {missing}" if missing else "")
                + (f"; no axis is named {extra}" if extra else "")
            )
        factors: list[_Marginal | _Wrapped | _Atom] = []
        for axis in axes:
            law = laws[axis.name]
            if isinstance(law, numbers.Real):
                factors.append(_Atom(axis, float(law)))
            else:
                factors.append(_on_axis(axis, law))
        return _RestrictedProduct(axes, factors)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_label(law)}' for name, law in self.marginals)})"


def _label(law: Any) -> str:
    if isinstance(law, numbers.Real):
        return f"{float(law):g}"
    family = getattr(law, "dist", None)
    if family is None:
        return repr(law)
    arguments = [f"{x}" for x in law.args] + [f"{key}={x}" for key, x in law.kwds.items()]
    return f"{family.name}({', '.join(arguments)})"


class Dirac(Product):
    """All mass in one point.

    Parameters
    ----------
    **coordinates : float
        The coordinates of the point by name. On a periodic axis they are wrapped into the box.

    Examples
    --------
    >>> Dirac(c=0.0, a=1.5)
    Dirac(c=0, a=1.5)
    """

    def __init__(self, /, **coordinates: float) -> None:
        for name, x in coordinates.items():
            if not isinstance(x, numbers.Real) or isinstance(x, bool):
                raise ValueError(f"coordinate {name!r} of a Dirac measure must be a number, not {shown(x)}")
        super().__init__(**coordinates)


class _RestrictedProduct(RestrictedMeasure):
    def __init__(self, axes: tuple[Axis, ...], factors: list[_Marginal | _Wrapped | _Atom]) -> None:
        self.axes, self.factors = axes, factors
        with np.errstate(divide="ignore"):
            kept = np.sum(np.log1p([-factor.lost for factor in factors]))
        self.lost_mass = abs(float(np.expm1(kept)))

    def _cells(self, grid: Grid) -> Array:
        return outer([factor.cells(n) for factor, n in zip(self.factors, grid.shape, strict=True)])

    def _point_values(self, grid: Grid) -> Array:
        return outer([factor.point_values(n) for factor, n in zip(self.factors, grid.shape, strict=True)])

    def _widths(self) -> tuple[float, ...]:
        return tuple(factor.width for factor in self.factors)

    def _by_masses(self, grid: Grid) -> bool:
        return any(factor.by_masses(n) for factor, n in zip(self.factors, grid.shape, strict=True))

    def _log_density(self, points: Array) -> Array:
        total = np.zeros(len(points))
        for i, factor in enumerate(self.factors):
            if isinstance(factor, _Atom):
                raise ValueError(
                    f"axis {factor.axis.name!r}: the measure has an atom at {factor.x:g}, hence no density; "
                    "give this parameter a narrow law instead, such as stats.norm"
                )
            total += factor.log_density(points[:, i])
        return total

    def _block(self, share: float, counts: tuple[int, ...], places: Sequence[Sequence[Place]], other: bool) -> Block:
        rules = [factor.nodes(n, at, other) for factor, n, at in zip(self.factors, counts, places, strict=True)]
        logs = reduce(np.add.outer, [logs for _, logs, _ in rules]).ravel()
        shape = tuple(len(x) for x, _, _ in rules)
        return Block.of(share, tensor([x for x, _, _ in rules]), logs, shape, tuple(cut for _, _, cut in rules))

    def _sample(self, n: int, rng: np.random.Generator) -> Array:
        return np.stack([factor.sample(n, rng) for factor in self.factors], axis=1)
