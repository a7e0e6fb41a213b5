"""Interacting particles beside their mean-field twins: the quantities of propagation of chaos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.energy import BoundEnergy
from mfpde.equation.energy.base import difference_along
from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.measures.base import Measure
from mfpde.equation.problem import Problem
from mfpde.particles.cloud import Cloud
from mfpde.particles.dynamics import Langevin, zero
from mfpde.particles.fields import make_field
from mfpde.particles.motion import Motion
from mfpde.particles.random_streams import generator
from mfpde.particles.simulation import Steps, check_cloud, initial_positions, make_steps
from mfpde.support.arguments import FLAG, require, shown
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.threads import one_blas_thread

__all__ = ["CoupledCloud", "coupled"]


@dataclass(eq=False)
class CoupledCloud(Labelled):
    """The result of `coupled`: R replicas of n pairs at m save times.

    Attributes
    ----------
    problem : Problem
    times : array, shape (m,)
    positions, twins : array, shape (R, m, n, d)
        The interacting particles ``X_i`` and their mean-field twins ``Y_i``.
    difference : array, shape (R, m, n, d)
        ``X_i - Y_i``, the short way round on periodic axes.
    response, twin_response : array, shape (R, m, r)
        ``int Phi dmu`` of the particles, and of their twins (independent draws from ``mu_t``).
    growth : array, shape (R, m, n), or None
        The largest eigenvalue of the symmetric part of the local Hessian with the sign of growth, that is of
        ``D(-G grad V)`` at the twin, V of the mean field.
    norm : array, shape (R, m, n), or None
        Its spectral norm.
    growth_integral, norm_integral : array, shape (R, m, n), or None
        ``int_0^t s max(growth, 0) dt`` and ``int_0^t s norm dt`` along each twin: ``exp`` of them bounds how a small
        difference grows.
    """

    problem: Problem
    times: Array
    positions: Array
    twins: Array
    difference: Array
    response: Array
    twin_response: Array
    growth: Array | None
    norm: Array | None
    growth_integral: Array | None
    norm_integral: Array | None

    @property
    def delta(self) -> Array:
        """``|X_i - Y_i|``, shape (R, m, n)."""
        return np.asarray(np.linalg.norm(self.difference, axis=-1))

    @property
    def rms(self) -> Array:
        """``(mean_i Delta_i^2)^{1/2}`` of each replica, shape (R, m)."""
        return np.asarray(np.sqrt(np.mean(self.delta**2, axis=2)))

    def _labels(self) -> Labels:
        """Replicas and save times; pairs are in the dataset only."""
        both, pairs = ["replica", "time"], ["replica", "time", "pair"]
        variables = {
            "rms": Column(both, self.rms, "root mean square of |X - Y|"),
            "largest": Column(both, self.delta.max(axis=2), "largest |X - Y|"),
        }
        for i, axis in enumerate(self.problem.axes):
            variables[axis.name] = Column(pairs, self.positions[..., i], f"{axis.name} of the particles")
            variables[f"twin_{axis.name}"] = Column(pairs, self.twins[..., i], f"{axis.name} of their twins")
            short = "X - Y, the short way round on periodic axes"
            variables[f"difference_{axis.name}"] = Column(pairs, self.difference[..., i], short)
        for name, meaning in (("response", "u = int Phi dmu"), ("twin_response", "u of the twins")):
            variables[name] = Column([*both, "component"], getattr(self, name), meaning)
        said = {
            "growth": "largest eigenvalue of the symmetric part of the local Hessian",
            "norm": "its spectral norm",
            "growth_integral": "int s max(growth, 0) dt",
            "norm_integral": "int s norm dt",
        }
        curves = {name: (getattr(self, name), meaning) for name, meaning in said.items()}
        variables |= {name: Column(pairs, v, meaning) for name, (v, meaning) in curves.items() if v is not None}
        coordinates = {
            "replica": Column(["replica"], np.arange(len(self.positions))),
            "time": Column(["time"], self.times, "save time"),
        }
        attributes = {"problem": self.problem.name, "particles": self.positions.shape[2]}
        return Labels(coordinates, variables, attributes, ("replica", "time"))


@one_blas_thread()
def coupled(
    problem: Problem,
    solution: Any,
    n: int,
    *,
    dt: float = 1e-2,
    t_end: float | None = None,
    save: int | Sequence[float] = 11,
    seed: int = 0,
    replicas: int = 1,
    initial: Measure | Array | None = None,
    hessian: bool = True,
) -> CoupledCloud:
    """Gradient descent with n particles, each coupled to a twin that the mean field drives.

    ``X_i`` moves along ``-G grad V[mu^n]``, its twin ``Y_i`` along ``-G grad V[mu_t]`` with ``mu_t`` the solution's
    recorded response. They start from one point, take the same steps and, with temperature, feel the same noise. The
    difference is the error of propagation of chaos, of order ``n^{-1/2}``; the error of the steps is nearly the same on
    both sides.

    Parameters
    ----------
    problem : Problem
        Without birth-death: ``alpha = 0``.
    solution : Solution or characteristics
        Has ``response_at(t)`` on ``[0, t_end]``.
    n, dt, t_end, save, seed, replicas, initial
        As in `simulate`; the same seed gives the same starts.
    hessian : bool
        Whether the local Hessian is recorded along the twins; it costs ``4 d`` more gradients a step.

    Returns
    -------
    CoupledCloud

    Raises
    ------
    ValueError
        On a problem with birth-death, an energy without a response, or a solution that is too short.

    Notes
    -----
    The Hessian is taken by central differences of fourth order of the gradient, step 1e-3 of the axis' length: exact
    to about 1e-8 of its scale.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"coupled needs a Problem, not {shown(problem)}; see mfpde.problems")
    check_cloud(problem, n, replicas, seed)
    require(hessian=(hessian, FLAG))
    steps = make_steps(dt, problem.t_end if t_end is None else t_end, save)
    driving = _driving(problem, solution, steps)
    start = initial_positions(problem, initial, n, replicas)
    seeds = np.random.SeedSequence(int(seed)).spawn(replicas)
    starts = np.stack([start(r, s) for r, s in enumerate(seeds)])
    pairs = _Pairs(problem, starts, [generator(s, 1) for s in seeds])
    growth = _Growth(problem.bound_energy, pairs.motion) if hessian else None

    shape = (replicas, len(steps.saves), *starts.shape[1:])
    positions, twins = np.empty(shape), np.empty(shape)
    response, twin_response = (np.empty((*shape[:2], driving.shape[1])) for _ in range(2))
    curves = np.zeros((4, *shape[:3]))  # growth, norm and their integrals
    saved = 0
    for k, u in enumerate(driving):
        t = k * steps.dt
        response_now = pairs.measure()
        if growth is not None:
            growth.follow(pairs.Y, u, 0.0 if k == 0 else pairs.motion.step((k - 1) * steps.dt, steps.dt))
        if steps.saves[saved] == k:
            pairs.check_finite(t)
            positions[:, saved], twins[:, saved], response[:, saved] = pairs.X, pairs.Y, response_now
            twin_response[:, saved] = pairs.twin_response()
            if growth is not None:
                curves[:2, :, saved], curves[2:, :, saved] = growth.local, growth.integrals
            saved += 1
        if k < steps.count:
            pairs.step(t, steps.dt, u)
    difference = _short_way(problem, positions - twins)
    along = list(curves) if hessian else [None] * 4
    return CoupledCloud(problem, steps.times, positions, twins, difference, response, twin_response, *along)


def _driving(problem: Problem, solution: Any, steps: Steps) -> Array:
    """The mean field's response at every step, shape (steps + 1, r); it is what drives the twins.

    Raises
    ------
    ValueError
        If the problem's particles have no twins, or the solution is none of it.
    """
    if not callable(getattr(solution, "response_at", None)) or isinstance(solution, (type, Cloud)):
        raise ValueError(f"solution must be a Solution or Characteristics of the problem, not {shown(solution)}")
    if not zero(problem.alpha):
        raise ValueError("coupled particles follow gradient descent; use a problem with alpha=0")
    bound = problem.bound_energy
    require_capability(bound, "response", "particles.coupled")
    ends = (min(k * steps.dt, steps.t_end) for k in range(steps.count + 1))
    driving = np.stack([np.asarray(solution.response_at(t)) for t in ends])
    if driving.shape[1] != bound.response_size:
        raise ValueError(
            f"the solution's response has {driving.shape[1]} moments, the problem's {bound.response_size}; "
            "pass the solution of this problem"
        )
    return driving


class _Pairs:
    """R replicas of n interacting particles ``X`` and their twins ``Y``, both (R, n, d), and their steps."""

    def __init__(self, problem: Problem, starts: Array, generators: list[np.random.Generator]) -> None:
        self.X, self.Y = starts, starts.copy()
        self._bound, self._generators = problem.bound_energy, generators
        self._noise = None if zero(problem.temperature) else Langevin()
        self._based = problem.base is not None
        self._weights = np.full(starts.shape[:2], 1.0 / starts.shape[1])
        self.motion = Motion(problem, self._noise is not None)
        self._field = make_field(problem, starts.shape[1])

    def measure(self) -> Array:
        """Take in the present particles; their response, shape (R, r)."""
        return self._field.measure(self.X, self._weights)

    def twin_response(self) -> list[Array]:
        """The response of the twins of each replica."""
        return [self._bound.response(y, w) for y, w in zip(self.Y, self._weights, strict=True)]

    def check_finite(self, t: float) -> None:
        """Refuse particles that are lost."""
        if not (np.all(np.isfinite(self.X)) and np.all(np.isfinite(self.Y))):
            raise FloatingPointError(f"some particles are not finite at t = {t:g}; take a smaller dt")

    def step(self, t: float, dt: float, u: Array) -> None:
        """One step of both, the twins in the field of the response `u`, with the same noise."""
        motion, X, Y = self.motion, self.X, self.Y
        ds = motion.step(t, dt)
        move = ds * motion.velocity(X, self._field.gradient(X))
        twin_move = ds * motion.velocity(Y, _gradient(self._bound, Y, u))
        if self._noise is None:
            X += move
            Y += twin_move
            motion.confine(X)
            motion.confine(Y)
            return
        xi = np.stack([rng.standard_normal(X.shape[1:]) for rng in self._generators])
        uniform = np.stack([rng.random(X.shape[1:]) for rng in self._generators]) if self._based else np.empty(0)
        motion.advance(X, move, t, dt, self._noise, xi, _common_gamma(uniform))
        motion.advance(Y, twin_move, t, dt, self._noise, xi, _common_gamma(uniform))


class _Growth:
    """How the velocity's Jacobian lets a small difference grow along the twins."""

    local: Array
    """Growth and norm, shape (2, R, n), where the twins are now."""

    def __init__(self, bound: BoundEnergy, motion: Motion) -> None:
        self._bound, self._motion = bound, motion
        self._before: Array | None = None
        self.integrals: Array | float = 0.0
        """``int s max(growth, 0) dt`` and ``int s norm dt`` so far, by the trapezoidal rule, shape (2, R, n)."""

    def follow(self, Y: Array, u: Array, ds: float) -> None:
        """Look where the twins are, a step `ds` of the schedule's integral after the last time."""
        self.local = _local(self._bound, self._motion, Y, u)
        now = np.stack([np.maximum(self.local[0], 0.0), self.local[1]])
        if self._before is None:
            self.integrals = np.zeros_like(now)
        else:
            self.integrals += 0.5 * ds * (now + self._before)
        self._before = now


def _short_way(problem: Problem, difference: Array) -> Array:
    """Differences (..., d), the short way round on periodic axes, in place."""
    for i, axis in enumerate(problem.axes):
        if axis.periodic:
            difference[..., i] -= axis.length * np.round(difference[..., i] / axis.length)
    return difference


def _common_gamma(uniform: Array) -> Callable[[Array], Array]:
    """Draws of Gamma laws by their quantiles, axis after axis: nearly equal shapes get nearly equal draws."""
    from scipy.special import gammaincinv

    columns = iter(np.moveaxis(uniform, -1, 0))
    return lambda shapes: np.asarray(gammaincinv(shapes, next(columns)))


def _gradient(bound: BoundEnergy, points: Array, u: Array) -> Array:
    """The gradient of V at points (R, n, d), one response for all."""
    return bound.gradient(points.reshape(-1, points.shape[-1]), u).reshape(points.shape)


def _local(bound: BoundEnergy, motion: Motion, points: Array, u: Array) -> Array:
    """Growth and norm of the velocity's Jacobian at points (R, n, d): shape (2, R, n)."""
    d = points.shape[-1]
    jacobian = np.empty((*points.shape, d))
    for j, axis in enumerate(motion.axes):

        def velocity(shift: float, j: int = j) -> Array:
            moved = points.copy()
            moved[..., j] += shift
            return motion.velocity(moved, _gradient(bound, moved, u))

        jacobian[..., j] = difference_along(velocity, 1e-3 * axis.length)
    symmetric = 0.5 * (jacobian + np.swapaxes(jacobian, -1, -2))
    growth = np.linalg.eigvalsh(symmetric)[..., -1]
    norm = np.linalg.svd(jacobian, compute_uv=False)[..., 0]
    return np.stack([growth, norm])
