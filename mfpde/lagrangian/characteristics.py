"""Characteristics: the measure as quadrature nodes that move and change their weights. No mesh, no diffusion.

An integral over ``mu_t`` is an integral over ``mu_0`` along the flow. Quadrature nodes of ``mu_0`` therefore carry the
whole solution, with spectral accuracy where ``mu_0`` and the velocity are smooth, and share no discretisation with the
mesh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.grid import Axis, Grid, axis_number, moving
from mfpde.equation.measures.particles import Particles
from mfpde.equation.problem import Problem
from mfpde.equation.trajectory import integral, integrand
from mfpde.lagrangian.ancestry import Watch, ancestral_mass, descent, of_a_density
from mfpde.lagrangian.assembly import refuse_tables
from mfpde.lagrangian.backward import Backward
from mfpde.lagrangian.bulk import Bulk
from mfpde.lagrangian.lane import integrate
from mfpde.lagrangian.nodes import (
    RTOL_FLOOR,
    Dynamics,
    Engine,
    Stepping,
    leeway,
    method,
    pieces,
)
from mfpde.lagrangian.search import (
    ENERGY_FLOOR,
    FEWEST,
    ROUND_OFF,
    Change,
    Refinement,
    Search,
    fewer,
    first_counts,
    responses,
)
from mfpde.support.arguments import COUNT, COUNTS, FLAG, NONE, NUMBER, POSITIVE, numbers, one_of, require, shown
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.saves import same_time, save_index, save_times, within_run
from mfpde.support.session import warn
from mfpde.support.threads import one_blas_thread
from mfpde.support.travel import Portable

__all__ = ["Characteristics", "characteristics"]

SHAPES = {1: 256, 2: 64, 3: 24, 4: 12}
"""Cells along each axis of the mesh of a density, by dimension."""


@dataclass(frozen=True, eq=False)
class Characteristics(Labelled, Portable):
    r"""The result of `mfpde.characteristics`, a `Trajectory` of nodes, ``mu_t = sum_j w_j(t) delta_{theta_j(t)}``.

    The nodes give integrals; `density_at` gives the density, and `density` has it on a mesh.

    Attributes
    ----------
    problem : Problem
    times : array, shape (m,)
        Save times.
    points : array, shape (m, N, d)
        Positions of the nodes at the save times.
    weights : array, shape (m, N)
        Their weights; the sum is the mass.
    energy : array, shape (m,)
        ``E[mu]``.
    error_estimate : float
        The sum of the relative changes of the observables when the nodes along each axis, and the tolerance in time,
        were last refined, or of their change when all of these were, and twice the tolerance of the steps; and of the
        error of the tables of a compiled run.
        Observables are the energy, the response, the mass and the first two moments of the coordinates, at all save
        times; relative means: to the largest response, to the length of the axis, to ``E(t)`` or a thousandth of the
        largest energy.
    energy_error : array, shape (m,)
        The same as absolute changes of the energy at each save time, relative to its size at least a tenth of the
        largest at any of them: a change may be small by chance.
    converged : bool
        Whether `error_estimate` is within the tolerance asked for.
    refinements : tuple of Refinement
        The runs that led here.
    drift : float
        Deviation from 1 of the mass before normalising (0 without birth-death): an error of the time integration.
    rtol : float
        The tolerance of the last run.
    watched : tuple of Watch
        For each save time how many nodes carry the mass, how much of it lies beyond them, and the error that
        these let expect, which is part of the estimates.
    engine : Engine
        Whether a compiled program made the last run, ``engine.compiled``, and of how many functions of each coordinate,
        or why it did not, ``engine.reason``.

    Notes
    -----
    The changes measure the error of the run *before* the last refinement. The result comes from the run after it, and
    where convergence is spectral its error is smaller by orders of magnitude. It is an estimate, not a bound: a
    feature that two sets of nodes both miss is not seen.
    """

    problem: Problem
    times: Array
    points: Array
    weights: Array
    energy: Array
    error_estimate: float
    energy_error: Array
    converged: bool
    refinements: tuple[Refinement, ...]
    drift: float
    rtol: float
    watched: tuple[Watch, ...]
    engine: Engine
    _dynamics: Dynamics = field(repr=False)
    _start: tuple[Array, Array] = field(repr=False)
    _changes: tuple[Change, ...] = field(repr=False)
    _blind: Array = field(repr=False)
    _smooth: bool = field(repr=False, default=True)
    _accuracy: float | None = field(repr=False, default=None)
    _bulk: Bulk | None = field(repr=False, default=None)

    @cached_property
    def response(self) -> Array:
        """``u = int Phi dmu`` at the save times, shape (m, r), in the energy's coordinates; r = 0 where it has none."""
        return responses(self._dynamics.bound, self.points, self.weights)

    @cached_property
    def response_error(self) -> Array:
        """The error of the response (maximum norm) at each save time, shape (m,), found as `energy_error` is."""
        error = np.zeros(len(self.times))
        for change in self._changes:
            if change.runs is None:
                return np.full(len(self.times), math.inf)
            coarse, fine = (responses(self._dynamics.bound, run.points, run.weights) for run in change.runs)
            error = error + np.abs(fine - coarse).max(axis=1, initial=0.0)
        return _by_chance(error) + self._blind * float(np.abs(self.response).max(initial=0.0))

    def _labels(self) -> Labels:
        """Save times and nodes."""
        variables = {
            "energy": Column(["time"], self.energy, "E[mu], constant included"),
            "energy_error": Column(["time"], self.energy_error, "estimated error of the energy, absolute"),
            "mass": Column(["time"], self.weights.sum(axis=1), "int dmu"),
            "ancestral_mass": Column(["time"], self.ancestral_mass, "share of the start that half of the mass is from"),
            "weight": Column(["time", "node"], self.weights, "masses of the nodes"),
        }
        for i, axis in enumerate(self.problem.axes):
            variables[axis.name] = Column(["time", "node"], self.points[:, :, i], f"{axis.name} of the nodes")
        if self.response.shape[1]:
            variables["response"] = Column(["time", "component"], self.response, "u, in compressed coordinates")
        coordinates = {"time": Column(["time"], self.times, "save time")}
        return Labels(coordinates, variables, {"problem": self.problem.name, "error_estimate": self.error_estimate})

    @property
    def energy_without_entropy(self) -> Array:
        """``E[mu]``, of which the entropy is no part: there is no temperature."""
        return self.energy

    @property
    def evaluations(self) -> int:
        """Evaluations of the velocity of all nodes, over all runs."""
        return sum(run.evaluations for run in self.refinements)

    @property
    def seconds(self) -> float:
        """Wall time of all runs."""
        return sum(run.seconds for run in self.refinements)

    @cached_property
    def ancestral_mass(self) -> Array:
        """From how little of the start half of the mass at each save time descends, shape (m,); at most 1/2.

        A run of fewer particles than its inverse has none where the mass comes from, and does not follow the limit.
        """
        return np.array([ancestral_mass(self._start[1], weights, self._smooth) for weights in self.weights])

    def _clock(self, t: float) -> float:
        require(t=(t, NUMBER))
        return self._dynamics.clock(within_run(t, 0.0, float(self.times[-1])))

    @cached_property
    def _backward(self) -> Backward:
        """What moved the nodes at all times, from the last run repeated."""
        stepping = Stepping(self.rtol, accuracy=self._accuracy, judged=False)
        return Backward(self._dynamics, self._start, float(self.times[-1]), stepping)

    def response_at(self, t: float | None = None) -> Array:
        """The response at any time of the run (default: its end), to about the accuracy of the save times.

        A compiled run is repeated up to then. Otherwise the first call of this method, of `density_at`, or of another
        one between save times repeats the last run to record it. Where an energy has no factorisation this is the
        measure itself, as from `BoundEnergy.response`.

        Raises
        ------
        ValueError
            If `t` is outside the run, or the record was too large to keep.
        """
        if self.engine.compiled:
            return self._dynamics.bound.response(*self.nodes_at(t))
        S = self._clock(float(self.times[-1]) if t is None else t)
        with one_blas_thread():
            return self._backward.record(S)[:-1]

    def nodes_at(self, t: float | None = None) -> tuple[Array, Array]:
        """Nodes and weights at any time (default: the last).

        Between save times a compiled run is repeated up to then; other nodes move from the save time before, driven by
        the recorded response.

        Returns
        -------
        points : array, shape (N, d)
        weights : array, shape (N,)
        """
        require(t=(t, NUMBER | NONE))
        t = float(self.times[-1]) if t is None else within_run(t, 0.0, float(self.times[-1]))
        # a save time but for rounding is that save time
        t = next((float(s) for s in self.times if same_time(t, float(s), float(self.times[-1]))), t)
        S = self._clock(t)
        i = int(np.searchsorted(self.times, t, side="right")) - 1
        points, weights = self.points[i], self.weights[i]
        if self.times[i] == t or self._clock(float(self.times[i])) == S:
            return points.copy(), weights.copy()
        if self.engine.compiled:
            stepping = Stepping(self.rtol, accuracy=self._accuracy, quick=True, judged=False, bulk=self._bulk)
            with one_blas_thread():
                run = integrate(self._dynamics, self._start, np.array([0.0, t]), stepping)
            return run.points[-1], run.weights[-1]
        return self._moved_on(i, S)

    def _moved_on(self, i: int, S: float) -> tuple[Array, Array]:
        """The nodes of save time number `i` when the clock shows `S`, driven by the recorded response."""
        points, weights = self.points[i], self.weights[i]
        with one_blas_thread():
            dynamics, record = self._dynamics, self._backward.record
        n, d = points.shape
        t_end = float(self.times[-1])

        def flow(S: float, y: Array) -> Array:
            response, means = dynamics.groups.split(record(S))
            place = dynamics.place(y[: n * d].reshape(d, n))
            change = np.zeros_like(y)
            change[: n * d] = dynamics.velocity(place, response).ravel()
            if dynamics.reacts:
                rate = dynamics.rate(place, response) - dynamics.groups.at(means, place)
                change[n * d :] = -dynamics.alpha(S, t_end) * rate
            return change

        y = np.concatenate([points.T.ravel(), np.zeros(n)])
        for a, b in pieces(dynamics, t_end, self._clock(float(self.times[i])), S):
            for solver, _ in method(flow, a, y, b, self.rtol, leeway(weights, d + 1)):
                rows = solver.y[: n * d].reshape(d, n)
                np.clip(rows, dynamics.floor, dynamics.ceiling, out=rows)
                y = solver.y
        return np.ascontiguousarray(dynamics.place(y[: n * d].reshape(d, n))), weights * np.exp(y[n * d :])

    def index(self, t: float | None) -> int:
        """The position of save time `t` (the last one for None).

        Raises
        ------
        ValueError
            If `t` is no save time.
        """
        return save_index(self.times, t, "characteristics")

    def measure(self, t: float | None = None) -> Particles:
        """The nodes at any time (default: the last), normalised, as a `Measure`."""
        return Particles(*self.nodes_at(t))

    def moment(self, name: str | Callable[..., Any], power: int = 1, t: float | None = None) -> float:
        """``int f^power dmu`` of a coordinate or of ``f(*coordinates)`` at any time, see `Trajectory.moment`."""
        points, weights = self.nodes_at(t)
        return integral(integrand(self.problem.axes, name, power, points.T), weights)

    def mean(self, name: str | Callable[..., Any], t: float | None = None) -> float:
        """``int f dmu / int dmu`` of a coordinate or of ``f(*coordinates)`` at any time (default: the last)."""
        points, weights = self.nodes_at(t)
        return integral(integrand(self.problem.axes, name, 1, points.T), weights) / float(weights.sum())

    def dissipation(self, t: float | None = None) -> tuple[float, float]:
        r"""``-dE/dt`` at any time: of the transport, ``s int sum_i g_i (d_i V)^2 dmu``, and of the reaction.

        The reaction's part is ``s alpha Cov(f(V), V)``, or ``s alpha int V f(V) dmu`` where it is unbalanced.
        """
        t = float(self.times[-1]) if t is None else t
        points, weights = self.nodes_at(t)
        dynamics, bound = self._dynamics, self._dynamics.bound
        response = bound.response(points, weights)
        gradient = bound.gradient(points, response)
        square = sum(self.problem.mobility(i, *points.T) * gradient[:, i] ** 2 for i in range(points.shape[1]))
        speed = self.problem.schedule(t)
        transport = speed * float(weights @ square)
        if not dynamics.reacts:
            return transport, 0.0
        V, rate = bound.potential(points, response), dynamics.rate(points, response)
        if dynamics.balanced:
            rate = rate - dynamics.groups.mean(points, weights, rate)
            V = V - dynamics.groups.mean(points, weights, V)
        return transport, speed * self.problem.alpha(t) * float(weights @ (V * rate))

    def predict(self, x: Any, t: float | None = None) -> Array:
        """The network's output ``f(x) = int unit(x, theta) dmu(theta)`` at any time (default: the last).

        Parameters
        ----------
        x : array, shape (m,) or (m, p)
            Inputs.
        t : float, optional

        Returns
        -------
        array, shape (m,) or (m, q)
        """
        points, weights = self.nodes_at(t)
        return self.problem.output(x, list(points.T), weights)

    def density_at(self, points: ArrayLike, t: float | None = None) -> Array:
        r"""The density of ``mu_t`` at any points and time (default: the last).

        The points move back to time 0 through the recorded response, and

        .. math::

           \log\mu_t(\theta_t) = \log\mu_0(\theta_0)
           + \int_0^t s\,\{\nabla\cdot(G\nabla V) - \alpha (f(V) - \bar f)\}\,dt'.

        Parameters
        ----------
        points : array_like, shape (n, d)
            Rows in the order of the axes (in one dimension also shape ``(n,)``).
        t : float, optional

        Returns
        -------
        array, shape (n,)
            0 outside the support: also where the characteristic comes out of a wall, which lets no mass in. Mass that
            has stopped at a wall is not part of it.

        Raises
        ------
        ValueError
            If ``mu_0`` has atoms, or the record was too large to keep.

        Notes
        -----
        Where a compiled program made the run (`engine`), points go back in it, 256 together, with second derivatives
        from tables of degree seven or eleven: some microseconds a point. The first call repeats the run to record what
        moved the nodes. Otherwise ``div(G grad V)`` comes from differences of order six of the gradient, of step 0.002
        times the length of the axis (one-sided within three steps of a wall), and costs ``7 d + 1`` gradients a point
        and evaluation. **Good values.** Where the nodes are right the logarithm of the density is to about `rtol`, at
        best 1e-10 times how much it changes, in Python 1e-9 for potentials that vary over a twentieth of the box.
        """
        S = self._clock(self.times[-1] if t is None else t)
        dynamics = self._dynamics
        d = dynamics.dimension
        rows = numbers(points, "points")
        rows = rows[:, None] if rows.ndim == 1 and d == 1 else rows
        if rows.ndim != 2 or rows.shape[1] != d:
            raise ValueError(f"points must have shape (n, {d}), one row a point, not {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(
                f"points must be finite, not {rows[int(np.argmin(np.isfinite(rows).all(axis=1)))].tolist()}"
            )
        self.problem.mu_0.log_density(rows[:1])  # a measure with atoms refuses here, before the work
        with one_blas_thread():
            return self._backward.density(rows, S)

    def grid(
        self, shape: int | Sequence[int] | None = None, box: Mapping[str, tuple[float, float]] | None = None
    ) -> Grid:
        """The mesh of `density`.

        Parameters
        ----------
        shape : int or sequence of int, optional
            Cells along each axis, at least 4; default 256, 64, 24 and 12 along each of 1 to 4 axes.
        box : mapping of str to (float, float), optional
            The part of an axis, ``{"c": (0, 1)}``; axes that are not named count whole.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError
            If the shape does not fit, or the box is not a part of that of the problem.
        """
        axes = list(self.problem.axes)
        require(box=(box, one_of(Mapping) | NONE))
        for name, edges in (box or {}).items():
            i = axis_number(axes, name)
            ends = numbers(edges, f"the ends of {name!r}")
            if ends.shape != (2,):
                raise ValueError(f"a box maps names of axes to (low, high), not {name!r} to {shown(edges)}")
            if not axes[i].moves:
                raise ValueError(f"a box is a part of axes that move, {name!r} is {axes[i]!r}; leave it out")
            whole, part = axes[i], Axis(name, float(ends[0]), float(ends[1]))
            if part.lower < whole.lower or part.upper > whole.upper:
                raise ValueError(f"the box [{part.lower:g}, {part.upper:g}] of {name!r} is not a part of {whole}")
            axes[i] = part if part.length < whole.length else whole
        return Grid(axes, SHAPES[len(moving(axes))] if shape is None else shape)

    def density(
        self,
        shape: int | Sequence[int] | None = None,
        t: float | None = None,
        box: Mapping[str, tuple[float, float]] | None = None,
    ) -> Array:
        """The density of ``mu_t`` at the centres of a mesh, at any time (default: the last); see `density_at`.

        Parameters
        ----------
        shape : int or sequence of int, optional
            Cells along each axis; see `grid`.
        t : float, optional
        box : mapping of str to (float, float), optional
            Where, see `grid`; default: everywhere.

        Returns
        -------
        array, shape ``grid(shape, box).shape``
            Non-negative, and not normalised: times the volume of a cell the values add up to the mass but for the error
            of the midpoint rule, which is that of all other errors where the density is smooth, the mesh resolves it,
            and it vanishes at the walls.

        Raises
        ------
        ValueError
            As `grid` and `density_at`.

        Examples
        --------
        >>> import mfpde as mf
        >>> exact = mf.characteristics(mf.problems.gaussian_bumps(), t_end=1.0, tolerance=1e-6)
        >>> density = exact.density(100)
        >>> bool(abs(density.sum() * exact.grid(100).cell_volume - 1) < 1e-5)
        True
        """
        grid = self.grid(shape, box)
        return self.density_at(grid.points(), t).reshape(grid.shape)

    def __str__(self) -> str:
        last = self.refinements[-1]
        rows = {
            "result": "converged" if self.converged else "not converged",
            "nodes": " x ".join(map(str, last.nodes)) + f" ({last.size})",
            "time": f"0 to {self.times[-1]:g}",
            "energy": f"{self.energy[0]:.12g} -> {self.energy[-1]:.12g}",
            "error estimate": f"{self.error_estimate:.1e} (energy at the end {self.energy_error[-1]:.1e})",
            "runs": f"{len(self.refinements)}, {self.evaluations} evaluations of all nodes",
            "wall time": f"{self.seconds:.2f} s",
            "engine": str(self.engine),
        }
        if said := descent(self.times, self.ancestral_mass):
            rows["ancestors"] = said
        return "\n".join(
            [f"Characteristics of {self.problem.name!r}", *(f"  {key:<14}  {value}" for key, value in rows.items())]
        )

    def __repr__(self) -> str:
        return (
            f"<Characteristics of {self.problem.name!r}: {self.points.shape[1]} nodes, {len(self.times)} saves, "
            f"t = {self.times[-1]:g}, error {self.error_estimate:.1e}, {self.engine}>"
        )


def characteristics(
    problem: Problem,
    t_end: float | None = None,
    *,
    save: int | Sequence[float] = 11,
    nodes: int | Sequence[int] | None = None,
    tolerance: float = 1e-9,
    rtol: float | None = None,
    max_nodes: int = 60_000,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Characteristics:
    r"""Solve a problem along its characteristics, without a mesh.

    Quadrature nodes of ``mu_0`` move and change their weights,

    .. math:: \dot\theta = -s\,G\nabla V(\theta), \qquad \frac{d}{dt}\log w = -s\,\alpha\,(f(V) - \bar f),

    with ``V`` from the nodes themselves. The nodes are a tensor product of rules weighted with the density: midpoints
    of a sinh map where it vanishes at both ends, Gauss nodes where it does not, trapezoid rules along periodic axes;
    the particles themselves if ``mu_0`` consists of atoms. They stop at walls and wrap on periodic axes. Coarse runs
    show first from where in ``mu_0`` the mass of later times descends, and the nodes are laid there, too. Time is
    integrated by Runge-Kutta methods of order eight, or five for large tolerances, in a compiled program where the
    potential is made of few functions of one coordinate: kernels that factorise, networks, moments with the losses of
    the package, external potentials, all of them smooth (`Characteristics.engine`). Then nodes along all axes grow by
    two fifths, or by a quarter with three axes or more, and steps shrink, until the observables stop changing; nodes
    that hold next to nothing at any time are left out. Otherwise, and where `nodes` or `rtol` are given, the tolerance
    of the steps falls first, and nodes along each axis in turn grow by half.

    Parameters
    ----------
    problem : Problem
        At temperature 0 and without reinjection, its velocity continuous.
    t_end : float, optional
        Default: the problem's.
    save : int or sequence of float, optional
        How many equally spaced save times, both ends included (default 11), or the times. The start and
        the end are always saved. They do not cut the steps.
    nodes : int or sequence of int, optional
        Nodes along each axis to begin with; default four for each digit of the tolerance where all axes are refined
        together, else 32, 24, 16, 10 in 1 to 4 dimensions.
    tolerance : float, optional
        Limit for the relative change of energy, response and moments, 1e-11 or larger; see
        `Characteristics.error_estimate`.
    rtol : float, optional
        Tolerance of the time integration to begin with; default: a hundredth of `tolerance`, at least 1e-13. It is
        lowered as long as the observables depend on it by more than half of `tolerance`.
    max_nodes : int, optional
        Limit on the number of nodes that are moved.
    time_limit : float, optional
        Seconds after which no step is begun any more; the best result so far is returned with what is known of its
        error, which may be nothing (infinity). Seconds in which functions are compiled do not count.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.

    Returns
    -------
    Characteristics

    Raises
    ------
    ValueError
        For temperature, reinjection or a discontinuous velocity, each by name, and for arguments out of range.
    FloatingPointError
        If a function of the problem, such as a derivative, is not finite where nodes go: with the place and the time.
    RuntimeError
        If the velocity blows up, or `time_limit` is over before the first run is.

    Warns
    -----
    RunWarning
        If the tolerance is not reached within `max_nodes` and `time_limit`, or the nodes do not carry the mass; the
        result says how far it got.

    Notes
    -----
    **Good values.** Smooth starts reach 1e-9 with 30 to 100 nodes along an axis as long as the flow does not stretch
    them much; strong concentration in time needs more nodes, not smaller steps. Where nodes that matter reach a
    truncation end, or ``mu_0`` is a `GridMeasure`, convergence is algebraic. Mass may descend from where ``mu_0`` has a
    density of 1e-300; `Characteristics.ancestral_mass` says from how little of the start it does. An evaluation costs
    ``O(N r)`` for ``N`` nodes and a response of ``r`` moments, ``O(N^2)`` for energies without factorisation.

    Examples
    --------
    >>> import mfpde as mf
    >>> exact = mf.characteristics(mf.problems.gaussian_bumps(), t_end=1.0)
    >>> exact.converged, exact.error_estimate < 1e-9
    (True, True)
    """
    require(
        problem=(problem, one_of(Problem)),
        t_end=(t_end, NUMBER | NONE),
        nodes=(nodes, COUNT | COUNTS | NONE),
        tolerance=(tolerance, NUMBER),
        rtol=(rtol, NUMBER | NONE),
        max_nodes=(max_nodes, COUNT),
        time_limit=(time_limit, POSITIVE | NONE),
        progress=(progress, FLAG | NONE),
    )
    dynamics = Dynamics(problem)
    t_end = problem.t_end if t_end is None else float(t_end)
    if not (math.isfinite(t_end) and t_end > 0):
        raise ValueError(f"t_end = {t_end:g} must be finite and positive")
    if not 1e-11 <= tolerance <= 1e-2:
        raise ValueError(f"tolerance must lie between 1e-11 and 1e-2, not {tolerance!r}")
    given, rtol = rtol, min(max(1e-2 * tolerance, RTOL_FLOOR), 1e-6) if rtol is None else float(rtol)
    if not RTOL_FLOOR <= rtol <= 1e-3:
        raise ValueError(f"rtol must lie between {RTOL_FLOOR:g} and 1e-3, not {rtol!r}")
    times = np.array([0.0, *save_times(save, 0.0, t_end)])
    if not dynamics.clock(t_end) > 0:
        raise ValueError(f"the schedule is zero up to t_end = {t_end:g}: nothing moves")
    search = _searched(Search(dynamics, times, tolerance, max_nodes, time_limit, progress), nodes, given, rtol)
    while _misses_something(search) and search.limit != "clock":
        again = Search(dynamics, times, tolerance, max_nodes, time_limit, progress)
        again.deadline, again.everywhere = search.deadline, True
        if search.best.bulk is None:
            refuse_tables(problem, "its potential has something narrow, which tables miss")
        search = _searched(again, nodes, given, rtol)
    result = _result(search)
    if not result.converged:
        warn(_complaint(search, result), stacklevel=3)
    return result


IN_SPACE = 2.5
"""Nodes of a refinement along three axes one after the other over those of one along all together, about: its steps are
smaller, and nodes that hold next to nothing are not moved. With four axes the first run is better a coarse one."""
NARROW = 2.0
"""So many times as much as tables may leave out of an energy is something that they do not know of."""


def _misses_something(search: Search) -> bool:
    """Whether tables leave more out of the energies than they may."""
    if search.best.bulk is not None:
        return search.missed > search.tolerance
    # what tables and rounding leave out anyway is a share of an energy that may have fallen to its floor
    return search.missed > max(search.tolerance, NARROW * max(search.accuracy, ROUND_OFF) / ENERGY_FLOOR)


def _searched(search: Search, nodes: int | Sequence[int] | None, given: float | None, rtol: float) -> Search:
    """A search from its first nodes to its end; a tolerance of the steps may be `given`."""
    max_nodes = search.max_nodes
    together = nodes is None and given is None and search.may_refine_together()
    counts = first_counts(search.nodes_by_tolerance() if together else nodes, search.dynamics.dimension)
    if nodes is None:
        # fewer than these leave room for a refinement, without which nothing is known of the error
        room = max_nodes * (IN_SPACE if together and search.dynamics.dimension == 3 else 1.0)
        while min(counts) > FEWEST and search.one_by_one(counts) > room:
            counts = fewer(counts)
    if search.size(counts) > max_nodes:
        raise ValueError(f"{search.size(counts)} nodes exceed max_nodes = {max_nodes}; raise it or begin with fewer")
    search.refine(counts, rtol, together)
    return search


def _result(search: Search) -> Characteristics:
    """The best run, and what is known of its error."""
    best, changes = search.best, [search.together] if search.together else [search.in_time, *search.by_axis]
    energy = search.energy
    watched = search.watched()
    blind = np.array([one.error for one in watched]) + max(search.unseen, search.missed)
    estimate = sum(change.relative for change in changes) + float(blind.max())
    size = np.maximum(np.abs(energy), ENERGY_FLOOR * np.abs(energy).max())
    apart = sum((change.energy for change in changes), np.zeros(len(size)))
    apart = np.divide(apart, size, out=np.zeros_like(apart), where=size > 0.0)
    return Characteristics(
        problem=search.dynamics.problem,
        times=search.times,
        points=best.points,
        weights=best.weights,
        energy=energy,
        error_estimate=estimate,
        energy_error=size * (_by_chance(apart) + blind),
        converged=estimate <= search.tolerance,
        refinements=tuple(search.done),
        drift=best.drift,
        rtol=search.rtol,
        watched=tuple(watched),
        engine=best.engine,
        _dynamics=search.dynamics,
        _start=search.start(search.blocks, search.kept),
        _changes=tuple(changes),
        _blind=blind,
        _smooth=of_a_density(search.blocks),
        _accuracy=search.accuracy,
        _bulk=best.bulk,
    )


BY_CHANCE = 0.1
"""Share of the largest change over a run that is the least at any time: where an error changes its sign, so does what
is seen of it, and not at the same time."""


def _by_chance(changes: Array) -> Array:
    """Changes (m,) at the save times, none of them small by chance."""
    return np.maximum(changes, BY_CHANCE * float(changes.max(initial=0.0)))


def _complaint(search: Search, result: Characteristics) -> str:
    """Why the tolerance was not reached, and what helps."""
    said = (
        f"characteristics of {result.problem.name!r} are known to {result.error_estimate:.1e} only, "
        f"above tolerance = {search.tolerance:g}"
    )
    blind = max(result.watched, key=lambda one: one.error)
    if blind.error > 0.5 * result.error_estimate:
        return f"{said}: {blind.reason}; shorten t_end, or use solve()"
    remedy = {
        "nodes": f"the limit of {search.max_nodes} nodes; raise max_nodes or",
        "clock": f"time_limit = {search.time_limit} s; raise it or",
        "time": f"the limit of the time integration, rtol = {search.rtol:g}; raise",
        "round-off": "round-off; raise",
        "tolerance": "what the time integration left; raise",
    }[search.limit]
    return f"{said}, at {remedy} the tolerance, or shorten t_end"
