"""Gradients that users give, held against differences of their functions when an energy is bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.base import BoundEnergy, difference_along
from mfpde.equation.finite import place_of
from mfpde.equation.grid import Axis
from mfpde.support.arguments import floats, read_only
from mfpde.support.arrays import Array

__all__ = [
    "PLACES",
    "check_derivative",
    "check_first_variation",
    "check_gradient",
    "check_second_variation",
    "check_statements",
    "probe_points",
]


PLACES = 20
"""Points at which a gradient is looked at."""
WRONG = 1e-5
"""Difference, relative to the largest slope along an axis, from which a gradient is wrong."""
STEPS = (2e-3, 2.57e-4, 3.31e-5, 4.3e-6)
"""Steps of the differences, relative to the axis: for functions from a hundredth to a millionth of it. No multiples of
each other, so that no periodic function looks constant to all of them."""
STENCIL = ((1, 0.75), (2, -0.15), (3, 1.0 / 60.0))
"""Offsets and weights of the 6-th order central difference."""
ALONG = 1e-5
"""Step along a change of a measure, of about its size, of the differences of an energy."""
OFF = 1e-4
"""Difference of their slope and ``int V dh``, relative to ``int |V| d|h|``, from which V is not the first variation."""
MARGIN = 0.01
"""Share of an axis at either end that is left alone: a function need not be defined beyond."""
BESIDE = (0.0137, 0.0411, 0.0873, 0.1291)
"""Where a gradient that looks wrong is looked at again, relative to the axis: a kink is not there as well."""


def probe_points(axes: Sequence[Axis], n: int) -> Array:
    """Points of a box that fill it evenly: a Kronecker sequence, the same in every run."""
    golden = 2.0
    for _ in range(60):
        golden = (1.0 + golden) ** (1.0 / (len(axes) + 1))
    steps = golden ** -np.arange(1.0, len(axes) + 1)
    unit = (0.5 + np.arange(1, n + 1)[:, None] * steps) % 1.0
    return np.stack([axis.at(unit[:, i]) for i, axis in enumerate(axes)], axis=1)


def check_first_variation(what: str, energy: Callable[[float], float], pieces: Array) -> None:
    """Hold the potential that a user gives against differences of the energy, along one change h of a measure.

    Parameters
    ----------
    what : str
        Where V comes from, for the message.
    energy : callable
        ``energy(s)``, E of the measure ``mu + s h``.
    pieces : array
        ``V dh`` in all cells, or of all points. What is not finite is left to whoever runs it.

    Raises
    ------
    ValueError
        Where the slope of E is not ``int V dh``, by more than 1e-4 of ``int |V| d|h|``.
    """
    slope = float(difference_along(lambda s: np.array(energy(s)), ALONG))
    expected = float(pieces.sum())
    if abs(slope - expected) > OFF * float(np.abs(pieces).sum()) + 1e-9 * abs(energy(0.0)):
        raise ValueError(
            f"{what}: the potential is not the first variation of the energy: along a change h of a random measure the "
            f"energy changes at the rate {slope:.9g}, where int V dh is {expected:.9g}; correct one of them, or state "
            "lyapunov = False"
        )


def check_statements(bound: BoundEnergy, potential: Callable[[float], Array], change: Array) -> None:
    """Hold against V along one change of a measure what an energy states: that V is affine, that E is convex.

    A statement that holds there may still be wrong elsewhere; one that does not is no slip of rounding.

    Parameters
    ----------
    bound : BoundEnergy
    potential : callable
        ``potential(s)``, V of the measure ``mu + s h`` where `change` is, for s from -1 to 1. What is not finite says
        nothing.
    change : array
        h, per cell or point.

    Raises
    ------
    ValueError
        Where `quadratic`, for a V that is off its chord by more than 1e-4 of its change; where `convex`, for an
        ``int (V[mu + h] - V[mu - h]) dh`` that is negative by more than 1e-4 of what it has without signs.
    """
    if not (bound.quadratic or bound.convex):
        return
    below, at, above = (potential(s) for s in (-1.0, 0.0, 1.0))
    rounding = 1e-9 * float(np.abs(at).max())
    moved = above - below
    bend = float(np.abs(above + below - 2.0 * at).max())
    if bound.quadratic and bend > OFF * float(np.abs(moved).max()) + rounding:
        raise ValueError(
            f"{bound.label} says quadratic = True, and its potential is not affine in the measure: along a change of a "
            f"random measure it is off its chord by {bend:.3g}; correct it, or leave that out"
        )
    work = float((moved * change).sum())
    if bound.convex and work < -(OFF * float(np.abs(moved * change).sum()) + rounding * float(np.abs(change).sum())):
        raise ValueError(
            f"{bound.label} says convex = True, and its potential falls along a change of a random measure; correct "
            "it, or leave that out"
        )


def check_second_variation(what: str, potential: Callable[[float], Array], along: Array) -> None:
    """Hold the second variation that a user gives along one change of a measure against differences of V.

    Parameters
    ----------
    what : str
        The energy, for the message.
    potential : callable
        ``potential(s)``, V of the measure ``mu + s h``. What is not finite says nothing.
    along : array
        What is given for the derivative at s = 0.

    Raises
    ------
    ValueError
        Where it is off by more than 1e-4 of the largest difference.
    """
    slope = difference_along(potential, 1e-3)
    off = float(np.abs(slope - along).max())
    if off > OFF * float(np.abs(slope).max()) + 1e-9 * float(np.abs(potential(0.0)).max()):
        raise ValueError(
            f"{what}.second_variation is not the derivative of V: along a change of a random density it is off by "
            f"{off:.3g}; correct it, or leave it out"
        )


def check_derivative(
    what: str, function: Callable[[Array], Array], derivative: Callable[[Array], Array], axis: Axis
) -> None:
    """Hold the derivative of a function of one number, elementwise, against its differences on an interval."""
    check_gradient(what, [axis], lambda x: function(x[:, 0]), lambda x: derivative(x[:, 0])[..., None])


def check_gradient(
    what: str,
    axes: Sequence[Axis],
    value: Callable[[Array], Array],
    gradient: Callable[[Array], Array],
    width: int = 1,
    labels: Sequence[str] = (),
) -> None:
    """Hold a gradient against differences of its function at 20 points of a box, the same ones in every run.

    Parameters
    ----------
    what : str
        What the gradient is of, for the message.
    axes : sequence of Axis
        The box.
    value : callable
        ``value(points (n, d)) -> (n,)`` or ``(m, n)`` array: one or several functions.
    gradient : callable
        ``gradient(points (n, d)) -> (n, d)`` or ``(m, n, d)`` array.
    width : int
        m.
    labels : sequence of str, optional
        What each of the m functions is called in the message.

    Raises
    ------
    ValueError
        Where the gradient is off by more than 1e-5 of the largest slope of its function along that axis, or fails.

    Notes
    -----
    A point counts only where differences of two step sizes agree to a tenth of that: kinks, jumps, noise, single
    precision and what oscillates within a millionth of an axis say nothing. At a kink itself central differences
    agree on the mean of both slopes; so the gradient must also look wrong at two of four points beside.
    """
    length = np.array([axis.length for axis in axes])
    middle = np.array([axis.lower for axis in axes]) + 0.5 * length
    moves = np.array([axis.moves for axis in axes])
    points = probe_points(axes, PLACES)
    points = np.where(moves, middle + (1.0 - 2.0 * MARGIN) * (points - middle), points)
    test = _Test(what, value, gradient, length, max(width, 1))
    wrong, slopes, differences = test.at(points)
    for i, axis in enumerate(axes):
        if not axis.moves:
            continue
        for j, k in zip(*np.nonzero(wrong[..., i]), strict=True):
            beside = np.repeat(points[k : k + 1], len(BESIDE), axis=0)
            # towards the middle: no place is rounder than another, where functions from tables have their kinks
            beside[:, i] += np.multiply(BESIDE, length[i]) * np.sign(middle[i] - points[k, i])
            if np.count_nonzero(test.at(beside)[0][j, :, i]) < 2:
                continue
            which, place = f" of {labels[j]}" if labels else "", place_of(axes, points[k])
            raise ValueError(
                f"{what}: the derivative along {axis.name}{which} is {slopes[j, k, i]:.9g} at {place}, where "
                f"differences of the function give {differences[j, k, i]:.9g}; correct the gradient, or leave it out"
            )


class _Test:
    """A gradient and the differences of its function."""

    def __init__(
        self, what: str, value: Callable[[Array], Array], gradient: Callable[[Array], Array], length: Array, width: int
    ) -> None:
        self.what, self.value, self.gradient, self.length, self.width = what, value, gradient, length, width
        self.scale: Array | None = None

    def at(self, points: Array) -> tuple[NDArray[np.bool_], Array, Array]:
        """Whether each slope looks wrong, shape (m, n, d); the slopes that are given, and the differences."""
        n, d = points.shape
        try:
            slopes = floats(self.gradient(*read_only(points)), f"the gradient of {self.what}")
        except Exception as failure:
            text = " ".join(str(failure).split())
            wanted = "it takes what the function takes, and gives an array for each axis"
            raise ValueError(
                f"{self.what}: its gradient fails with {type(failure).__name__}: {text}; {wanted}"
            ) from failure
        slopes = slopes.reshape(-1, n, d)
        with np.errstate(all="ignore"):  # what is not finite says nothing
            along = [self._differences(points, i) for i in range(d)]
            differences, error, largest = (np.stack(arrays, axis=-1) for arrays in zip(*along, strict=True))
            if self.scale is None:
                sure = np.where(error < 0.1 * np.abs(differences), np.abs(differences), 0.0)
                steepest = sure.max(axis=1)
                # of a function that is constant but for round-off, and of one that is small beside the others
                floor = np.maximum(1e-5 * largest.max(axis=1) / self.length, 1e-3 * steepest.max(axis=0))
                self.scale = np.maximum(steepest, floor)[:, None, :]
            allowed = WRONG * self.scale
            # a slope that is not finite is named where a run comes upon it, with the time
            wrong = np.isfinite(slopes) & (np.abs(slopes - differences) > allowed + 5.0 * error)
            return (error <= 0.1 * allowed) & wrong, slopes, differences

    def _differences(self, points: Array, i: int) -> tuple[Array, Array, Array]:
        """The slopes along an axis, what they may be off by, and the size of the functions, shape (m, n) each."""
        n, h = len(points), self.length[i]
        offsets = [sign * k * step * h for step in STEPS for k, _ in STENCIL for sign in (1.0, -1.0)]
        moved = np.repeat(points[None], len(offsets), axis=0)
        moved[:, :, i] += np.array(offsets)[:, None]
        rows = moved.reshape(-1, points.shape[1])
        several = max(n, 2**19 // self.width)
        pieces = []
        for k in range(0, len(rows), several):
            piece = rows[k : k + several].copy()  # the user's function may write into it
            pieces.append(np.asarray(self.value(piece), dtype=float).reshape(-1, len(piece)))
        values = np.concatenate(pieces, axis=1)
        values = values.reshape(len(values), len(STEPS), len(STENCIL), 2, n)
        largest = np.abs(values).max(axis=(1, 2, 3))
        change = values[:, :, :, 0] - values[:, :, :, 1]
        weights = np.array([weight for _, weight in STENCIL])
        step = np.array(STEPS)[:, None] * h
        slopes = np.einsum("mskn,k->smn", change, weights) / step[:, None]
        error = np.abs(np.diff(slopes, axis=0)) + 1e-15 * largest / step[1:, None]
        error = np.where(np.isfinite(error), error, np.inf)
        best = np.argmin(error, axis=0)[None]  # of all pairs of successive steps
        slope, error = (np.take_along_axis(array, best, axis=0)[0] for array in (slopes[1:], error))
        return slope, error, np.where(np.isfinite(largest), largest, 0.0)
