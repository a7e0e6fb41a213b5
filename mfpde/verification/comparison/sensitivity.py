"""How the mean field answers if something of it is a little off: its clock, interaction, noise, rate or start."""

from __future__ import annotations

import copy
import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from mfpde.equation.energy.base import BoundEnergy, Capability, Source
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Axis, Grid
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.measures.particles import Particles
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import Constant, PiecewiseLinear, Schedule
from mfpde.lagrangian.characteristics import Characteristics, characteristics
from mfpde.mesh.methods.base import Method
from mfpde.mesh.schemes import Scheme
from mfpde.mesh.solution import Solution
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory
from mfpde.support.session import quiet
from mfpde.support.words import one_line
from mfpde.verification.comparison.mean_field import ExactLaw, Field, MeshDensities, Quantity, starts_at_mu_0
from mfpde.verification.comparison.observer import Observer

__all__ = ["ABSENT", "Fault", "OnCells", "OnNodes", "Sensitivities"]


STEP = 1.03
"""The factor whose effect gives the sensitivities."""
ABSENT = "it is 0"
"""Why nobody looks for an error of what there is not."""
LONGEST = 20.0
"""Seconds that a run along characteristics may take."""


class Fault(enum.Enum):
    """What may be wrong by a factor in a training code."""

    TIME = "time scale"
    """All rates: a learning rate, the factor n or the 1/2 of the loss forgotten."""
    INTERACTION = "interaction"
    """The response in the potential, ``V[factor mu]``: the output of a network, the weight of a pair interaction."""
    TEMPERATURE = "temperature"
    ALPHA = "birth-death rate"
    START = "width of the start"
    """All distances from the mean along axes that are not periodic."""


class MeanFields(Protocol):
    """Runs of the reference's problem in which one thing is multiplied by a factor."""

    problem: Problem

    @property
    def base(self) -> Field:
        """The mean field without a change."""

    def run(self, problem: Problem, width: float) -> Field:
        """The mean field of a changed problem, from a start `width` times as wide, in the terms of `self.problem`."""


def faults(problem: Problem, at: Array) -> tuple[list[Fault], dict[Fault, str]]:
    """Those that change something, and why the others do not."""
    bound, left = problem.bound_energy, {}
    draws = problem.mu_0.sample(16, np.random.default_rng(0))  # on a mesh a point has the width of a cell
    if not any(np.ptp(draws[:, i]) > 0 for i, axis in enumerate(problem.axes) if not axis.periodic):
        left[Fault.START] = "the start has no width along an axis that is not periodic"
    if at[-1] == 0:
        left |= dict.fromkeys((f for f in Fault if f is not Fault.START), "only the start is compared")
        return [f for f in Fault if f not in left], left
    if not bound.interacts:
        left[Fault.INTERACTION] = "the energy has none"
    if problem.noiseless:
        left[Fault.TEMPERATURE] = ABSENT
    if not problem.reacts:
        left[Fault.ALPHA] = ABSENT
    return [f for f in Fault if f not in left], left


def changed(problem: Problem, fault: Fault, factor: float) -> Problem:
    """The problem with something multiplied by a factor; what else it has computed for itself is shared."""
    new = copy.copy(problem)
    if fault is Fault.INTERACTION:
        vars(new)["bound_energy"] = _Stronger(problem.bound_energy, factor)
    elif fault is not Fault.START:
        name = {Fault.TIME: "schedule", Fault.TEMPERATURE: "temperature", Fault.ALPHA: "alpha"}[fault]
        object.__setattr__(new, name, _times(getattr(problem, name), factor))
    return new


class Sensitivities:
    """Changes of all observables at all times if something is multiplied by a factor.

    Attributes
    ----------
    faults : list of Fault
        Those that can be looked at.
    left_out : dict of Fault to str
        Why the others cannot.
    slopes : dict of Fault to dict of str to array (m, q)
        The derivatives by the logarithm of the factor, of each observable; of distances, how far they are.
    """

    def __init__(self, fields: MeanFields, chosen: Iterable[Quantity], at: Array) -> None:
        self.fields, self.at = fields, at
        self.observer = Observer(fields.base, chosen)
        known, self.left_out = faults(fields.problem, at)
        self.slopes: dict[Fault, dict[str, Array]] = {}
        for fault in known:
            try:
                found = self.change(fault, STEP)
            except (ValueError, RuntimeError, ArithmeticError) as error:
                self.left_out[fault] = one_line(error)
                continue
            self.slopes[fault] = {name: value / math.log(STEP) for name, value in found.items()}
        self.faults = list(self.slopes)

    def change(self, fault: Fault, factor: float) -> dict[str, Array]:
        """The change of every observable, shape (m, q).

        Raises
        ------
        ValueError, RuntimeError, ArithmeticError
            If the mean field cannot be computed.
        """
        fields = self.fields
        field = fields.run(changed(fields.problem, fault, factor), factor if fault is Fault.START else 1.0)
        rows = [self.observer.change(field, j) for j in range(len(self.at))]
        return {o.name: np.stack([row[o.name] for row in rows]) for o in self.observer.observables}


# ---------------------------------------------------------------------------------------------------------------------
# runs
# ---------------------------------------------------------------------------------------------------------------------


class OnCells:
    """Runs on half the cells of a solution, or of the mesh of an exact law."""

    def __init__(self, reference: Solution | ExactLaw, problem: Problem, shape: Sequence[int], at: Array) -> None:
        self.problem, self.at = problem, at
        self.shape = [max(8, -(-n // 2)) for n in shape]
        self.reference, self.initial = reference, None
        if isinstance(reference, Solution) and not starts_at_mu_0(reference, problem):
            self.initial = GridMeasure(reference.grid, np.asarray(reference.density[0]))

    @cached_property
    def numerics(self) -> tuple[Scheme, Method]:
        """The scheme and the method of all runs: the reference's, or the default ones of the problem without a change.

        Chosen anew for every changed problem they could differ, and so would the errors of the runs that are compared.
        """
        from mfpde.mesh.defaults import default_method, default_scheme
        from mfpde.runs.resuming import made_again

        if isinstance(self.reference, Solution):
            described = self.reference.configuration
            try:
                scheme, method = (made_again(described.get(name), name, None) for name in ("scheme", "method"))
                return scheme, method
            except ValueError:  # of someone's own making, known by its name only
                pass
        grid = self.problem.grid(self.shape)
        scheme = default_scheme(self.problem, grid)[0]
        return scheme, default_method(self.problem, grid, scheme)[0]

    @cached_property
    def solution(self) -> Solution:
        """The run without a change."""
        return self.solve(self.problem, self.initial)

    @cached_property
    def base(self) -> Field:
        """The mean field without a change."""
        return self._field(self.solution)

    def run(self, problem: Problem, width: float) -> Field:
        """The mean field of a changed problem, solved on half the cells from a start `width` times as wide."""
        initial = self.initial
        if width != 1.0:
            base = self.solution
            initial = GridMeasure(base.grid, _widened(np.asarray(base.density[0]), base.grid, width))
        return self._field(self.solve(problem, initial))

    def solve(self, problem: Problem, initial: GridMeasure | None) -> Solution:
        """A solution at the compared times.

        Raises
        ------
        KeyboardInterrupt
            If it is interrupted.
        ValueError
            If it fails.
        """
        from mfpde.mesh.conclusion import uninterrupted
        from mfpde.mesh.run import solve

        scheme, method = self.numerics
        end = float(self.at[-1]) or min(problem.t_end, 1e-3)
        with quiet(), np.errstate(all="ignore"):
            # what the fine run said is known, the coarse one is only an error bar
            coarse = uninterrupted(
                solve(
                    problem,
                    self.shape,
                    end,
                    scheme=scheme,
                    method=method,
                    save=[float(t) for t in self.at if t > 0] or [end],
                    initial=initial,
                    throw=False,
                    progress=False,
                    estimate=False,
                )
            )
        if not coarse.result.ok:
            raise ValueError(f"the run on half the cells failed ({coarse.result.value})")
        return coarse

    def _field(self, solution: Solution) -> Field:
        """In the terms of the problem itself: energies are those of its own energy."""
        problem = self.problem
        density = [np.asarray(solution.density[solution.index(float(t))]) for t in self.at]
        energy = np.array([self._energy.evaluate(mu)[1] for mu in density])
        mesh = MeshDensities(solution.grid, density, solution.point_values)
        return Field(problem, self.at, [None] * len(density), mesh, energy=energy)

    @cached_property
    def _energy(self) -> GridEnergy:
        return self.problem.bound_energy.on(self.solution.grid)


class OnNodes:
    """Runs along characteristics, from the nodes of those that are the reference."""

    def __init__(self, reference: Characteristics, at: Array) -> None:
        self.problem, self.at = reference.problem, at
        self.start = reference.nodes_at(0.0)

    @cached_property
    def base(self) -> Field:
        """The mean field without a change."""
        return self.run(self.problem, 1.0)

    def run(self, problem: Problem, width: float) -> Field:
        """The mean field of a changed problem along the nodes, moved apart by `width`; it has no densities."""
        x, w = self.start
        for i, axis in enumerate(problem.axes if width != 1.0 else ()):
            if not axis.periodic:
                mean = float(w @ x[:, i]) / float(w.sum())
                moved = np.clip(mean + width * (x[:, i] - mean), axis.lower, axis.upper)
                x = np.concatenate([x[:, :i], moved[:, None], x[:, i + 1 :]], axis=1)
        if not self.at[-1] > 0:
            return self._field([(x, w)])
        new = copy.copy(problem)
        measure = Particles(x, w)
        object.__setattr__(new, "initial", measure)
        vars(new)["mu_0"] = measure.restrict(tuple(problem.axes))
        with quiet(), np.errstate(all="ignore"):
            # the nodes are those of the reference, which has said what they lack
            found = characteristics(
                new,
                float(self.at[-1]),
                save=[float(t) for t in self.at if t > 0],
                tolerance=1e-2,
                rtol=1e-7,
                max_nodes=max(60_000, len(x)),
                time_limit=LONGEST,
                progress=False,
            )
        return self._field([found.nodes_at(float(t)) for t in self.at])

    def _field(self, source: list[tuple[Array, Array]]) -> Field:
        return Field(self.problem, self.at, [None] * len(source), None, source)


def _widened(density: Array, grid: Grid, factor: float) -> Array:
    """The density stretched about its mean along every axis that is not periodic; what leaves the box is cut off.

    Along each axis the distribution functions are interpolated monotonically, which keeps the sign and the mass.
    """
    from scipy.interpolate import PchipInterpolator

    for i, axis in enumerate(grid.axes):
        if axis.periodic:
            continue
        faces, lines = grid.faces(i), np.moveaxis(density, i, 0)
        marginal = lines.reshape(len(lines), -1).sum(axis=1)
        mean = float(marginal @ grid.centres(i)) / float(marginal.sum())
        cumulative = np.concatenate([np.zeros((1, *lines.shape[1:])), np.cumsum(lines, axis=0)])
        at = np.clip(mean + (faces - mean) / factor, faces[0], faces[-1])
        density = np.moveaxis(np.maximum(np.diff(PchipInterpolator(faces, cumulative)(at), axis=0), 0.0), 0, i)
    return density


# ---------------------------------------------------------------------------------------------------------------------
# factors
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scaled(Schedule):
    """Another schedule times a factor."""

    schedule: Schedule
    factor: float

    @property
    def constant(self) -> bool:
        return self.schedule.constant

    def _value(self, t: float) -> float:
        return self.factor * self.schedule(t)

    def _integral(self, t0: float, t1: float) -> float:
        return self.factor * self.schedule.integral(t0, t1)


def _times(schedule: Schedule, factor: float) -> Schedule:
    if isinstance(schedule, Constant):
        return Constant(factor * schedule.value)
    if isinstance(schedule, PiecewiseLinear):  # its kinks are looked for elsewhere
        return PiecewiseLinear(schedule.times, tuple(factor * value for value in schedule.values))
    return _Scaled(schedule, factor)


class _Stronger(BoundEnergy):
    """``E[f mu] / f``, whose first variation is ``V[f mu]``: linear parts stay, responses are f times as large."""

    def __init__(self, inner: BoundEnergy, factor: float) -> None:
        self.inner, self.factor = inner, factor
        self.axes: tuple[Axis, ...] = inner.axes
        self.response_size, self.direct = inner.response_size, inner.direct
        self.discontinuous_gradient = inner.discontinuous_gradient
        self.convex, self.quadratic, self.lyapunov = inner.convex, inner.quadratic, inner.lyapunov

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the inner energy."""
        return self.inner.capabilities

    def _curvature(self, moments: Array, changes: Array) -> Array:
        return self.inner._curvature(moments, changes) / self.factor

    def _moments(self, points: Array, weights: Array) -> Array:
        return self.inner._moments(points, self.factor * weights)

    def _features(self, points: Array) -> Array:
        return self.factor * self.inner._features(points)

    def _slope(self, moments: Array) -> Array:
        return self.inner._slope(moments) / self.factor

    def _source(self, source: Source | None) -> Source | None:
        return None if source is None else (source[0], self.factor * source[1])

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self.inner._potential(points, moments, self._source(source))

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        return self.inner._gradient(points, moments, self._source(source))

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return self.inner._energy(points, self.factor * weights, moments) / self.factor

    def on(self, grid: Grid) -> GridEnergy:
        """On a mesh."""
        return _StrongerOnGrid(self.inner.on(grid), self.factor)

    def memory(self, grid: Grid) -> Memory:
        """That of the inner energy, and a density that is scaled."""
        kept, making, working = self.inner.memory(grid)
        return Memory(kept, making, working + 8.0 * grid.size)


class _StrongerOnGrid(GridEnergy):
    def __init__(self, inner: GridEnergy, factor: float) -> None:
        self.inner, self.factor = inner, factor
        self.grid, self.response_size = inner.grid, inner.response_size

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        V, energy, response = self.inner.evaluate(self.factor * mu, out)
        return V, energy / self.factor, response

    def _describe(self) -> list[str]:
        return [f"V[{self.factor:g} mu] of", *self.inner._describe()]
