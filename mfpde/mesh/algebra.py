"""What methods need of a mesh, as one list of operations: the passes over its cells and the transport operator.

A method is written in these operations alone. `mfpde.mesh.numpy_algebra` is the readable definition of each, and the
oracle of the tests; `mfpde.mesh.compiled.algebra` reads every array once and uses all threads. Another device is a
third one. Arrays are of the algebra's own kind, with NumPy's arithmetic; numbers come back once a stage, in one `Sums`
or `Survey`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.transport_operator import Metric, TransportOperator
from mfpde.support.arrays import Array

__all__ = ["Algebra", "Change", "Sums", "Survey"]


class Survey:
    """Sums and extremes of a density and its potential.

    Attributes
    ----------
    total, moment : float
        Sums of ``mu`` and ``mu V``.
    low, high : float
        Extremes of V.
    held : float
        The least V where ``mu > 0``; inf for an empty density.
    least : float
        The least entry of ``mu``.
    """

    __slots__ = ("held", "high", "least", "low", "moment", "total")

    def __init__(self, total: float, moment: float, low: float, high: float, held: float, least: float) -> None:
        self.total, self.moment, self.low, self.high, self.held, self.least = total, moment, low, high, held, least


class Sums(NamedTuple):
    """What an operation that makes a stage has summed.

    Attributes
    ----------
    total : float
        The sum of the stage.
    growth : float
        The sum of the transport's rate of change in it: round-off.
    error : float
        The sum of the error estimate's absolute values, where there is one.
    """

    total: float
    growth: float
    error: float = 0.0


class Change(NamedTuple):
    """``delta = alpha r - alpha_0 r_0 - constant``: what the integrating factor of a step has left out.

    Attributes
    ----------
    r, r_0 : (grid.shape) array
        The rates now and at the start.
    alpha, alpha_0 : float
        Their factors now and at the start.
    constant : float
        What is taken off so that the mass stays.
    """

    r: Array
    r_0: Array
    alpha: float
    alpha_0: float
    constant: float


class Algebra(ABC):
    """The operations of a step; a NaN in an array shows in the numbers that come back.

    Attributes
    ----------
    name : str
        For texts and tables.
    """

    name: ClassVar[str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def transport(
        self, grid: Grid, scheme: Scheme, metric: Metric | None = None, log_base: Array | None = None
    ) -> TransportOperator:
        """The transport operator of a grid, scheme and metric, see `TransportOperator`."""

    def empty(self, shape: tuple[int, ...]) -> Array:
        """An array without contents."""
        return np.empty(shape)

    def dot(self, a: Array, b: Array) -> float:
        """The sum of ``a b``."""
        return float(np.vdot(a, b))

    @abstractmethod
    def survey(self, mu: Array, V: Array) -> Survey:
        """What a step and its record need to know of a density and its potential."""

    @abstractmethod
    def second_moment(self, mu: Array, V: Array, about: float) -> float:
        """The sum of ``mu (V - about)^2``."""

    @abstractmethod
    def exponential(self, r: Array, shift: float, factor: float, clip: bool, out: Array) -> Array:
        """``exp(factor (r - shift))``, at most 1 where `clip` is set."""

    @abstractmethod
    def first_stage(self, mu: Array, rate: Array, third: Array | None, c: float, nu: Array) -> Sums:
        """``nu = third^2 (mu + c rate)``."""

    @abstractmethod
    def largest_change(self, change: Change) -> float:
        """The largest ``delta``."""

    @abstractmethod
    def second_stage(
        self, mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, slope: Array
    ) -> Sums:
        """``slope -= delta nu``, then ``nu = (2 third^2 mu + nu + 4/3 h slope) / 3``."""

    @abstractmethod
    def final_stage(
        self,
        mu: Array,
        nu: Array,
        third: Array | None,
        change: Change | None,
        h: float,
        rate: Array,
        before: Array,
        slope: Array,
    ) -> Sums:
        """The end of the step, written over `slope`, and its error.

        ``third (third^2 (5/32 h rate + 74/128 mu) + 27/64 (4/3 h s + nu))`` with ``s = slope - delta nu``, and
        ``third |s - before|``.
        """

    @abstractmethod
    def combine(self, start: Array, mu: Array, rate: Array, old: float, new: float, step: float, out: Array) -> float:
        """``out = old start + new (mu + step rate)``, a stage in Shu and Osher's form; the sum of the rate."""

    @abstractmethod
    def finish(self, mu: Array, factor: float) -> Array:
        """Scale in place, and set to zero what is about to become subnormal."""
