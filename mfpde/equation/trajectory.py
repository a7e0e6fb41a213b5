"""What every discretisation gives back, `Trajectory`: a measure that moves, asked in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mfpde.equation.grid import Axis, axis_number
from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.support.arguments import POWER, require, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import on_shape

__all__ = ["Trajectory", "integral", "integrand"]


@runtime_checkable
class Trajectory(Protocol):
    """The measure ``mu_t`` of a run, whichever discretisation made it: `Solution`, `Characteristics` or `Cloud`.

    Of a cloud of R replicas, what is a number of a measure has R as its first axis, and what is of one measure (nodes,
    a `Measure`, a prediction) is that of replica 0 unless ``replica=`` says which.

    Notes
    -----
    Every method takes the times in `times`, and None for the last of them. Between them, characteristics know all, a
    solution on a mesh its response, a cloud nothing.
    """

    @property
    def problem(self) -> Problem | None:
        """What was solved; None of a file that does not hold it."""

    @property
    def times(self) -> Array:
        """The save times, shape (m,)."""

    @property
    def energy(self) -> Array:
        """``E[mu_t]`` at the save times, shape (m,), of a cloud (R, m); on a mesh with the entropy if tau > 0."""

    @property
    def energy_without_entropy(self) -> Array:
        """``E[mu_t]`` without ``tau int log(mu/omega) dmu``, which nodes and particles do not have: as `energy`."""

    def index(self, t: float | None) -> int:
        """The position of a save time in `times`: the energy there is ``energy[..., trajectory.index(t)]``.

        Raises
        ------
        ValueError
            If `t` is no save time; the message has the nearest one.
        """

    def response_at(self, t: float | None = None) -> Array:
        """``u = int Phi dmu_t``, shape (r,), of a cloud (R, r), in the coordinates of `BoundEnergy.response`.

        Raises
        ------
        ValueError
            If `t` is none of its times, or the energy has no response.
        """

    def nodes_at(self, t: float | None = None) -> tuple[Array, Array]:
        """The measure as points, shape (n, d), and their masses, shape (n,): centres of cells, nodes, particles."""

    def measure(self, t: float | None = None) -> Measure:
        """The measure, normalised, as something to start from: ``solve(problem, initial=cloud.measure(1.0))``."""

    def moment(self, name: str | Callable[..., Any], power: int = 1, t: float | None = None) -> Any:
        """``int f^power dmu_t`` of a coordinate or a function: a number, of a cloud an array (R,).

        Parameters
        ----------
        name : str or callable
            The name of an axis, or ``f(*coordinates)``, see ``docs/functions.md``.
        power : int
            0 to 1000; 0 gives the mass.
        t : float, optional
            Default: the last time.
        """

    def mean(self, name: str | Callable[..., Any], t: float | None = None) -> Any:
        """``int f dmu_t / int dmu_t`` of a coordinate or a function, see `moment`."""

    def predict(self, x: Any, t: float | None = None) -> Array:
        """The network's output ``int unit(x, theta) dmu_t`` at inputs (k,) or (k, p): shape (k,) or (k, q).

        Raises
        ------
        ValueError
            If the problem names no network.
        """


def integrand(
    axes: Sequence[Axis], name: str | Callable[..., Any], power: int, coordinates: Sequence[Array] | Array
) -> Array:
    """A coordinate, or a function ``f(*coordinates)``, to a power: on the shape that the coordinates broadcast to.

    Raises
    ------
    ValueError
        For an axis that is not there, a power that is no whole number from 0 to 1000, a result of another shape.
    """
    require(power=(power, POWER))
    coordinates = tuple(coordinates)
    if callable(name) and not isinstance(name, type):
        values = values_of(name, *coordinates) ** power
        return on_shape(values, np.broadcast(*coordinates).shape, "the function of a moment")
    x = coordinates[axis_number(axes, name)]  # type: ignore[arg-type]  # a class is refused like any other name
    return np.broadcast_to(x**power, np.broadcast(*coordinates).shape)


def integral(values: Array, weights: Array) -> float:
    """``sum_i weights_i values_i``; along axes on which the values only repeat, the weights are summed first."""
    repeats = tuple(i for i, stride in enumerate(values.strides) if stride == 0)
    once = tuple(slice(None) if stride else 0 for stride in values.strides)
    return float(np.vdot(weights.sum(axis=repeats) if repeats else weights, values[once]))
