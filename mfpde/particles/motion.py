"""How particles move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mfpde.equation.energy.base import central_difference, difference_step
from mfpde.equation.grid import Axis, End
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import Schedule
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array

__all__ = ["Motion", "mean_over"]

OFF_WALL = 1e-9
"""How far from a wall a base measure is looked at, in lengths of the axis."""


class Motion:
    """How particles move: metric, ends, schedule and noise of a problem."""

    def __init__(self, problem: Problem, noisy: bool) -> None:
        self.axes = tuple(problem.axes)
        self.noisy = noisy
        self._schedule, self._temperature = problem.schedule, problem.temperature
        self._metric = (None,) * len(self.axes) if problem.rates is None else problem.rates
        self._mobility = problem.mobility
        self._log_base = None if problem.base is None else problem.log_base

    def rates(self, points: Array, i: int) -> Array | float:
        """``g_i`` at points (..., d)."""
        return self._mobility(i, *np.moveaxis(points, -1, 0))

    def velocity(self, points: Array, gradient: Array) -> Array:
        """``-G grad V``."""
        result = -gradient
        for i, g in enumerate(self._metric):
            if g is not None:
                result[..., i] *= self.rates(points, i)
        return result

    def step(self, t: float, dt: float) -> float:
        """``ds``, the schedule's integral."""
        return self._schedule.integral(t, t + dt)

    def advance(
        self, points: Array, move: Array, t: float, dt: float, noise: Any, xi: Array, gamma: Callable[[Array], Array]
    ) -> None:
        """Displace points (R, n, d) in place by `move`, noise and base measure, and `confine` them.

        `xi` are standard normal numbers, one a coordinate; `gamma` draws from Gamma laws of given shapes (R, n).
        """
        move += self.kick(points, t, dt, noise, xi)
        amount = mean_over(self._temperature, t, dt) * self.step(t, dt)
        if self._log_base is not None and amount > 0.0:
            inside = self.inside(points)
            for i, axis in enumerate(self.axes):
                slope = self._slope(self._log_base, points, i)
                push = amount * self.rates(points, i) * slope
                wall = _natural_end(axis, points[..., i])
                if wall is None:
                    move[..., i] += push
                    continue
                # see `Langevin`: half the exponent of the base measure in the distance from the end
                half = np.maximum(0.5 * slope * (inside[..., i] - wall), 0.0)
                widened = 4.0 * amount * self.rates(points, i) * gamma(half)
                distance = np.sqrt((points[..., i] + move[..., i] - wall) ** 2 + widened)
                away = wall + np.copysign(distance, inside[..., i] - wall) - points[..., i]
                move[..., i] = np.where(half > 0.0, away, move[..., i] + push)
        points += move
        self.confine(points)

    def kick(self, points: Array, t: float, dt: float, noise: Any, xi: Array) -> Array:
        """The displacement by noise: ``tau dg ds + sqrt(2 tau g ds) xi``."""
        ds = self.step(t, dt)
        tau = mean_over(self._temperature, t, dt)
        result = noise.amplitude(tau, ds) * xi
        for i, g in enumerate(self._metric):
            if g is None:
                continue
            result[..., i] *= np.sqrt(self.rates(points, i))
            if callable(g):
                result[..., i] += tau * ds * self._slope(g, points, i)
        return result

    def log_base(self, points: Array) -> Array | float:
        """``log omega`` at points (..., d)."""
        if self._log_base is None:
            return 0.0
        return np.asarray(self._log_base(*np.moveaxis(self.inside(points), -1, 0)), dtype=float)

    def inside(self, points: Array) -> Array:
        """Points a little off the walls, where a base measure may vanish."""
        result = points.copy()
        for i, axis in enumerate(self.axes):
            if not axis.periodic:
                least = OFF_WALL * axis.length
                np.clip(result[..., i], axis.lower + least, axis.upper - least, out=result[..., i])
        return result

    def _slope(self, function: Any, points: Array, i: int) -> Array:
        """The derivative along axis i of a function of the coordinates, by values inside the box only."""
        axis, x = self.axes[i], list(np.moveaxis(self.inside(points), -1, 0))

        def along(z: Array) -> Array:
            z = axis.lower + np.mod(z - axis.lower, axis.length) if axis.periodic else z
            return values_of(function, *x[:i], z, *x[i + 1 :]) + 0.0 * z

        h: Any = difference_step(axis)
        if not axis.periodic:
            # a sixteenth of the distance resolves a power of it to 1e-7
            h = np.minimum(h, np.minimum(x[i] - axis.lower, axis.upper - x[i]) / 16.0)
        return central_difference(along, x[i], h)

    def confine(self, points: Array) -> None:
        """Bring points back into the box, in place: wrap, stop at walls, or with noise reflect."""
        for i, axis in enumerate(self.axes):
            x = points[..., i]
            if axis.periodic:
                outside = (x < axis.lower) | (x >= axis.upper)
                if outside.any():
                    x[outside] = axis.lower + np.mod(x[outside] - axis.lower, axis.length)
            elif self.noisy:
                outside = (x < axis.lower) | (x > axis.upper)
                if outside.any():
                    y = np.mod(x[outside] - axis.lower, 2 * axis.length)
                    x[outside] = axis.lower + np.minimum(y, 2 * axis.length - y)
            else:
                np.clip(x, axis.lower, axis.upper, out=x)


def _natural_end(axis: Axis, x: Array) -> Array | None:
    """The natural end next to each point, None where an axis has none."""
    if axis.lower_end is End.NATURAL and axis.upper_end is End.NATURAL:
        return np.where(x - axis.lower <= axis.upper - x, axis.lower, axis.upper)
    if End.NATURAL in (axis.lower_end, axis.upper_end):
        return np.full(x.shape, axis.lower if axis.lower_end is End.NATURAL else axis.upper)
    return None


def mean_over(schedule: Schedule, t: float, dt: float) -> float:
    """The mean of a schedule over a step."""
    return schedule(t) if schedule.constant else schedule.integral(t, t + dt) / dt
