"""The operations of a step in plain NumPy: what each of them is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.mesh.algebra import Algebra, Change, Sums, Survey
from mfpde.mesh.constants import FLUSH
from mfpde.mesh.numpy_transport import NumpyTransport
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.transport_operator import Metric, TransportOperator
from mfpde.support.arrays import Array

__all__ = ["NumpyAlgebra"]


class NumpyAlgebra(Algebra):
    """Every operation as it is defined, in NumPy: slow, and compiled nowhere.

    A run with it agrees with the compiled one to round-off. It is for reading, for tests, and for places where nothing
    can be compiled.

    Examples
    --------
    >>> import mfpde as mf
    >>> problem = mf.problems.linear_neuron()
    >>> plain = mf.solve(problem, shape=(50,), algebra=mf.NumpyAlgebra())
    >>> bool(abs(plain.energy[-1] - mf.solve(problem, shape=(50,)).energy[-1]) < 1e-13)
    True
    """

    name: ClassVar[str] = "numpy"

    def transport(
        self, grid: Grid, scheme: Scheme, metric: Metric | None = None, log_base: Array | None = None
    ) -> TransportOperator:
        """The operator of `NumpyTransport`, for any scheme."""
        return NumpyTransport(grid, scheme, metric, log_base)

    def survey(self, mu: Array, V: Array) -> Survey:
        """Sums and extremes, see `Algebra.survey`."""
        held = float(np.min(V, where=mu > 0.0, initial=np.inf))
        return Survey(float(mu.sum()), float((mu * V).sum()), float(V.min()), float(V.max()), held, float(mu.min()))

    def second_moment(self, mu: Array, V: Array, about: float) -> float:
        """The sum of ``mu (V - about)^2``."""
        return float((mu * (V - about) ** 2).sum())

    def exponential(self, r: Array, shift: float, factor: float, clip: bool, out: Array) -> Array:
        """``exp(factor (r - shift))``, at most 1 where `clip` is set."""
        exponent = (r - shift) * factor
        return np.exp(np.minimum(exponent, 0.0) if clip else exponent, out=out)

    def first_stage(self, mu: Array, rate: Array, third: Array | None, c: float, nu: Array) -> Sums:
        """``nu = third^2 (mu + c rate)``."""
        nu[...] = (mu + c * rate) * _square(third)
        return Sums(float(nu.sum()), float(rate.sum()))

    def largest_change(self, change: Change) -> float:
        """The largest ``delta``."""
        return float(np.max(change.alpha * change.r - change.alpha_0 * change.r_0)) - change.constant

    def second_stage(
        self, mu: Array, nu: Array, third: Array | None, change: Change | None, h: float, slope: Array
    ) -> Sums:
        """The second stage of `ExponentialSSPRK3`, see `Algebra.second_stage`."""
        growth = float(slope.sum())
        slope -= _delta(change) * nu
        nu[...] = (2.0 * (_square(third) * mu) + nu + slope * (4.0 / 3.0 * h)) * (1.0 / 3.0)
        return Sums(float(nu.sum()), growth)

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
        """The end of a step of `ExponentialSSPRK3`, see `Algebra.final_stage`."""
        growth, factor = float(slope.sum()), 1.0 if third is None else third
        s = slope - _delta(change) * nu
        error = float((np.abs(s - before) * factor).sum())
        slope[...] = ((5.0 / 32.0 * h) * rate + (74.0 / 128.0) * mu) * _square(third)
        slope += (s * (4.0 / 3.0 * h) + nu) * (27.0 / 64.0)
        slope *= factor
        return Sums(float(slope.sum()), growth, error)

    def combine(self, start: Array, mu: Array, rate: Array, old: float, new: float, step: float, out: Array) -> float:
        """``out = old start + new (mu + step rate)``; the sum of the rate."""
        out[...] = old * start + new * (mu + step * rate)
        _flush(out)
        return float(rate.sum())

    def finish(self, mu: Array, factor: float) -> Array:
        """Scale in place, and set to zero what is about to become subnormal."""
        mu *= factor
        return _flush(mu)


def _square(third: Array | None) -> Array | float:
    return 1.0 if third is None else third * third


def _delta(change: Change | None) -> Array | float:
    return 0.0 if change is None else change.alpha * change.r - change.alpha_0 * change.r_0 - change.constant


def _flush(mu: Array) -> Array:
    mu[np.abs(mu) < FLUSH] = 0.0
    return mu
