r"""Stationary states without following the flow: the minimiser of the free energy on a mesh, with a certificate.

Temperature ``tau > 0``: minimise ``J[mu] = E[mu] + tau int log(mu/omega) dmu`` over the probability measures on the
cells. The unknown is a potential ``W``, ``mu`` its Gibbs measure, so that tails are right where ``mu`` underflows.
With ``K`` the second variation of ``E`` at ``mu``, the Newton step solves

.. math::  \tau s + K(\mu s) = W - V[\mu] + \text{const}, \qquad \int s\, d\mu = 0,

by conjugate gradients in ``L2(mu)``, where the operator is symmetric with eigenvalues ``>= tau``, and moves on
``W <- V + K(mu s)``. Where the full step does not descend, the lowest ``J`` is taken among shorter ones, mirror
steps ``log mu <- (1-t) log mu + t log p_mu``, and mixtures of ``mu`` with the targets of both, each found by a line
search. Low temperatures are reached from higher ones, or from the minimiser at temperature 0.

Temperature 0: the minimiser is sparse. Cells of least ``V`` join an active set, whose weights are optimised by a
Newton method on the faces of the simplex; cells whose weight reaches 0 leave (fully corrective Frank-Wolfe).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.convexity import convex_on, no_certificate, second_variation
from mfpde.equation.energy import BoundEnergy
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.gibbs import entropy, log_gibbs
from mfpde.equation.grid import Grid, box
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.problem import Problem, Reaction
from mfpde.support.arguments import NONE, NUMBER, POSITIVE, WHOLE, real, require, shown
from mfpde.support.arrays import Array
from mfpde.support.session import warn
from mfpde.support.threads import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Equilibrium", "roughly_stationary", "stationary", "stationary_on_nodes"]


COOLING = 5.0
"""Ratio of successive temperatures on the way to a low one."""
SPARSE_STAGES = 4
"""Temperatures on the way from which on the minimiser at temperature 0 is tried as a start."""
INNER_ITERATIONS = 400
"""Conjugate-gradient steps of one Newton step; a factorised energy of rank r needs about r."""
CANDIDATES = 64
"""Cells that may join the active set at once."""
STALLED = 8
"""Rounds without a smaller gap after which the search for a sparse minimiser gives up."""


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """The result of `stationary`.

    Attributes
    ----------
    grid : Grid
        The mesh.
    mu : array, shape ``grid.shape``
        The density on the cells; sparse at temperature 0.
    log_mu : array, shape ``grid.shape``
        Its logarithm, finite also where `mu` underflows (temperature > 0).
    potential : array, shape ``grid.shape``
        ``V[mu]``, the first variation without the entropy.
    energy : float
        The free energy ``E[mu] + temperature * entropy``, constants included.
    gap : float
        ``tau KL(mu | p_mu)``, at temperature 0 ``mass * (Vbar - min V)``; of the returned `mu`. Where `convex`, the
        energy lies at most this far above the minimum over measures on the box, on this mesh. Otherwise it only
        measures how stationary `mu` is.
        Where the mass is free: ``|int V dmu| + max(mass, 1) max(-min V, 0)``, a bound against all measures of no more
        mass than that.
    entropy : float
        ``int log(mu/omega) dmu``.
    temperature : float
        ``tau``.
    convex : bool or None
        Whether the energy is convex on this mesh; None where that is not known. See `mfpde.equation.convexity`.
    converged : bool
        Whether the gap went below the tolerance.
    iterations : int
        Newton steps; at temperature 0 rounds of the active set.
    evaluations : int
        Evaluations of the energy on the mesh.
    """

    grid: Grid
    mu: Array = field(repr=False)
    log_mu: Array = field(repr=False)
    potential: Array = field(repr=False)
    energy: float
    gap: float
    entropy: float
    temperature: float
    convex: bool | None
    converged: bool
    iterations: int
    evaluations: int

    @property
    def mass(self) -> float:
        """``int dmu``; 1 except at temperature 0 with the unbalanced reaction."""
        return float(self.mu.sum()) * self.grid.cell_volume

    def measure(self) -> GridMeasure:
        """The density as a `Measure`, normalised: the initial measure of a problem, or of a further search."""
        return GridMeasure(self.grid, self.mu)

    def __str__(self) -> str:
        axes = " x ".join(f"{axis.name}: {n}" for axis, n in zip(self.grid.axes, self.grid.shape, strict=True))
        if self.convex:
            kind, meaning = "Minimiser", f"energy above the minimum over {box(self.grid.axes)}, on this mesh, at most"
        else:
            kind = "Stationary state, not known to be a minimiser,"
            meaning = f"residual; {no_certificate(self.convex)}"
        cells = "" if self.temperature else f", {np.count_nonzero(self.mu)} of {self.grid.size} cells occupied"
        ended = "converged" if self.converged else "NOT CONVERGED"
        return (
            f"{kind} at temperature {self.temperature:g} on {axes} cells\n"
            f"  energy   {self.energy:.10g} (entropy {self.entropy:.6g}, mass {self.mass:.6g}{cells})\n"
            f"  gap      {self.gap:.3g} ({meaning})\n"
            f"  {ended} after {self.iterations} iterations, {self.evaluations} evaluations"
        )


def stationary(
    problem: Problem,
    shape: Sequence[int] | int | None = None,
    *,
    temperature: float | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 300,
    initial: Measure | None = None,
    time_limit: float | None = None,
) -> Equilibrium:
    r"""The minimiser of the free energy on a mesh, found directly.

    Minimises :math:`J[\mu] = E[\mu] + \tau \int \log(\mu/\omega)\, d\mu` over the probability measures on the cells;
    at temperature 0 with the unbalanced reaction over all non-negative measures on them. No dynamics enters: metric,
    rates and schedules do not matter. The flow ends here at alpha = 0 and with the free-energy reaction. The
    balanced reaction with ``tau > 0`` has another stationary state.

    Parameters
    ----------
    problem : Problem
        What is minimised: energy, box, base measure.
    shape : sequence of int, optional
        Cells along each axis; default: what the problem suggests.
    temperature : float, optional
        ``tau >= 0``; default: the problem's, if it is constant.
    tolerance : float
        The gap to stop at, relative to the scale ``max(|E|, int |V - Vbar| dmu, tau)`` at the start. Positive.
    max_iterations : int
        Newton steps, or rounds of the active set.
    initial : Measure, optional
        Where to start; default: the problem's initial measure. Plays no part in the result where the energy is convex.
    time_limit : float, optional
        Seconds after which no step is begun any more.

    Returns
    -------
    Equilibrium
        Its `gap` is the certificate, evaluated on the density returned.

    Raises
    ------
    ValueError
        On a temperature that is missing, negative, or above 0 with the unbalanced reaction; a missing shape; a
        tolerance that is not positive; an energy that is not finite.

    Warns
    -----
    RunWarning
        If the gap is not below the tolerance at the end; the best state found is returned.

    Notes
    -----
    Good values: the default tolerance costs one or two steps more than 1e-6. About 5 steps and 30 evaluations at
    osc(V)/tau = 10, 20 and 600 at 1e3, up to 100 and 4000 at 1e5, where `V` differs by many tau between neighbouring
    cells. Where the energy is not convex the state found depends on `initial`, and a symmetric start can end in a
    saddle.

    At temperature 0 the gap is limited by round-off in V, about 1e-15 times its range, and the weights of
    neighbouring cells are hardly determined on fine meshes; energy and gap are.

    References
    ----------
    The certificate: A. Nitanda, D. Wu, T. Suzuki, "Convex analysis of the mean field Langevin dynamics",
    AISTATS 2022.

    Examples
    --------
    >>> from mfpde import Axis, Confinement, Dirac
    >>> problem = Problem(Confinement(x=1.0), [Axis("x", -6, 6)], Dirac(x=1.0), temperature=0.5)
    >>> state = stationary(problem, 120)
    >>> variance = state.grid.integrate(state.mu * state.grid.centres(0) ** 2)
    >>> round(float(variance), 6)
    0.5
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"stationary needs a Problem, not {shown(problem)}; see mfpde.problems")
    require(
        tolerance=(tolerance, NUMBER), max_iterations=(max_iterations, WHOLE), time_limit=(time_limit, POSITIVE | NONE)
    )
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    tau = _temperature(problem, temperature)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, not {tolerance!r}; 1e-12 is the default")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    if initial is not None and not isinstance(initial, Measure):
        raise ValueError(
            f"initial must be a Measure, not {type(initial).__name__}; GridMeasure(grid, values) makes one"
        )
    unbalanced = problem.reaction is Reaction.UNBALANCED
    if unbalanced and tau > 0:
        raise ValueError(
            f"temperature = {tau:g} with the unbalanced reaction: the entropy does not fix the mass; "
            "pass temperature=0, or give the problem reaction='balanced'"
        )
    grid = problem.grid(shape)
    log_base = problem.log_base(*grid.mesh())
    if log_base is not None:
        log_base = np.broadcast_to(log_base, grid.shape)
    start = (problem.mu_0 if initial is None else initial.restrict(grid.axes)).cells(grid)
    functional = _Functional(problem.bound_energy, grid)
    functional.deadline = deadline
    with one_blas_thread():
        V, energy = functional.evaluate(start)
    if not (math.isfinite(energy) and np.all(np.isfinite(V))):
        where = cell_not_finite(V, grid)
        raise ValueError(
            f"the energy or its first variation is not finite at the start (energy {energy:g}"
            + (f", V {where})" if where else ")")
        )
    spread = float(np.vdot(start, np.abs(V - float(np.vdot(V, start)) * grid.cell_volume))) * grid.cell_volume
    goal = tolerance * max(abs(energy), spread, tau)
    with one_blas_thread():  # as in every run, so that the number of threads changes no bit
        if tau > 0:
            point, iterations = _gibbs_state(functional, V, tau, log_base, goal, max_iterations)
            mu, log_mu, V, energy, gap = point.mu, point.log_mu, point.V, point.energy, point.gap
        else:
            mu, V, energy, gap, iterations = _sparse_state(functional, V, unbalanced, goal, max_iterations)
            log_mu = np.log(mu, where=mu > 0, out=np.full_like(mu, -np.inf))
    converged = gap <= goal
    if not converged:
        warn(
            f"no stationary state within the tolerance after {iterations} iterations: gap {gap:.3g}, "
            f"wanted {goal:.3g}; raise tolerance or max_iterations{' or time_limit' * functional.over}, "
            "start nearer with initial=, or take a higher temperature",
            stacklevel=3,
        )
    convex = None
    if not functional.over:
        convex = convex_on(problem.bound_energy, grid, free_mass=unbalanced, plan=functional.plan, at=mu)
    Ent = entropy(mu, grid.cell_volume, log_base)
    return Equilibrium(
        grid, mu, log_mu, V, energy, gap, Ent, tau, convex, converged, iterations, functional.evaluations
    )


def roughly_stationary(
    problem: Problem, grid: Grid, temperature: float, max_iterations: int = 10
) -> tuple[Array, Array, Array, Array]:
    """The start and about where it goes: enough to know how wide and how steep both are, and cheap.

    Returns the start's density and potential on the mesh, and those of a Gibbs state near the minimiser of the free
    energy, exact where V does not depend on the density. Nothing is checked.
    """
    log_base = problem.log_base(*grid.mesh())
    if log_base is not None:
        log_base = np.broadcast_to(log_base, grid.shape)
    functional = _Functional(problem.bound_energy, grid)
    start = problem.mu_0.cells(grid)
    V = np.array(functional.evaluate(start)[0])
    point, _ = _gibbs_state(functional, V, temperature, log_base, 0.1 * temperature, max_iterations)
    return start, V, point.mu, point.V


def _temperature(problem: Problem, temperature: float | None) -> float:
    if temperature is None:
        if not problem.temperature.constant:
            raise ValueError(
                f"the temperature of {problem.name!r} is a schedule ({problem.temperature!r}) and a stationary state "
                f"has one value; pass temperature=, for instance {problem.temperature(problem.t_end):g}, "
                f"that at t = {problem.t_end:g}"
            )
        return float(problem.temperature(0.0))
    if not (real(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be a finite number >= 0, not {shown(temperature)}")
    return float(temperature)


# ---------------------------------------------------------------------------------------------------------------------
# the energy and its second variation
# ---------------------------------------------------------------------------------------------------------------------


class _Functional:
    """The energy on a mesh and on points, with its second variation from differences of V."""

    deadline = math.inf
    """When no step is begun any more, on the clock of `time.perf_counter`."""

    def __init__(self, bound: BoundEnergy, grid: Grid) -> None:
        self.bound, self.grid, self.volume = bound, grid, grid.cell_volume
        self.plan = bound.on(grid)
        self.evaluations = 0
        self.quadratic = bound.quadratic

    def evaluate(self, mu: Array) -> tuple[Array, float]:
        self.evaluations += 1
        V, energy, _ = self.plan.evaluate(mu)
        return V, energy

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() > self.deadline

    def second_variation(self, mu: Array, V: Array) -> Callable[[Array], Array]:
        """``h -> K h``, the derivative of V at `mu` along a density of mass 0."""
        return second_variation(lambda density: self.evaluate(density)[0], mu, V, self.volume, self.quadratic)


# ---------------------------------------------------------------------------------------------------------------------
# temperature > 0
# ---------------------------------------------------------------------------------------------------------------------


class _Point:
    """The Gibbs measure of a potential, and what the search needs to know there."""

    def __init__(self, functional: _Functional, W: Array, tau: float, log_base: Array | None) -> None:
        volume = functional.volume
        self.W = W - W.min()
        self.log_mu = log_gibbs(self.W, tau, volume, log_base=log_base)
        self.mu = np.exp(self.log_mu)
        self.V, energy = functional.evaluate(self.mu)
        self.weights = self.mu * volume
        log_ratio = self.log_mu if log_base is None else self.log_mu - log_base
        self.energy = energy + tau * self.mean(log_ratio)
        # what the sums of the energy carry of round-off
        self.noise = 1e-13 * (abs(energy) + self.mean(np.abs(self.V)) + tau * self.mean(np.abs(log_ratio)))
        self.slope = self.V - self.W
        self.slope -= self.mean(self.slope)
        # sum of mu (r + e^-r - 1), r = log(mu/p): no term is negative, so nothing cancels near the solution
        log_p = log_gibbs(self.V, tau, volume, log_base=log_base)
        r = self.log_mu - log_p
        near = np.maximum(r, -1.0)
        terms = np.where(r > -1.0, self.mu * (near + np.expm1(-near)), np.exp(log_p) - self.mu * (1.0 - r))
        self.gap = tau * max(float(terms.sum()) * volume, 0.0)
        self.length = 0.0
        self.finite = math.isfinite(self.energy) and math.isfinite(self.gap)

    def mean(self, f: Array) -> float:
        return float(np.vdot(self.weights, f))


def _gibbs_state(
    functional: _Functional, W: Array, tau: float, log_base: Array | None, goal: float, max_iterations: int
) -> tuple[_Point, int]:
    """The minimiser of the free energy, by way of higher temperatures where `tau` is low; see the module."""
    stages = max(0, math.ceil(math.log(max(float(np.ptp(W)) / (10.0 * tau), 1e-300)) / math.log(COOLING)))
    starts = [W]
    if stages >= SPARSE_STAGES:
        starts.append(_nearly_sparse(functional, W, tau, log_base))
    for start in starts:
        if _Search(functional, tau, log_base).point(start).gap < tau:
            W, stages = start, 0  # near already
    used = 0
    for stage in range(stages, -1, -1):
        search = _Search(functional, tau * COOLING**stage, log_base)
        point = search.point(W)
        # on the way a state is good enough when the next temperature changes more than what is missing
        wanted = goal if stage == 0 else 0.5 * search.tau
        while used < max_iterations and point.gap > wanted and not functional.over:
            new = search.step(point)
            if new is None:
                break
            point = new
            used += 1
        # between the same potential and the same measure at the next temperature
        W = point.W / math.sqrt(COOLING)
    # steps beyond the goal: the gap is a square, tails follow its root
    for _ in range(2):
        if point.gap > goal or used >= max_iterations or functional.over:
            break
        new = search.point(point.W + search.newton(point))
        if not (new.finite and new.gap < 0.5 * point.gap):
            break
        point = new
        used += 1
    return point, used


def _nearly_sparse(functional: _Functional, W: Array, tau: float, log_base: Array | None) -> Array:
    """The potential whose Gibbs measure is the sparse minimiser at temperature 0, its empty cells filled a little.

    At a temperature that the mesh does not resolve, neighbouring cells differing by many tau, this is close.
    """
    mu, V, *_ = _sparse_state(functional, W, False, 1e-3 * tau, 50)
    held = mu > 0.0
    log_mu = np.log(mu[held] * functional.volume)
    W = V.copy()
    W[held] = float(np.vdot(mu, V)) * functional.volume - tau * log_mu
    if log_base is not None:
        W[held] += tau * log_base[held]
    return W


class _Search:
    """Descent of the free energy at one temperature."""

    def __init__(self, functional: _Functional, tau: float, log_base: Array | None) -> None:
        self.functional, self.tau, self.log_base = functional, tau, log_base

    def point(self, W: Array) -> _Point:
        return _Point(self.functional, W, self.tau, self.log_base)

    def step(self, point: _Point) -> _Point | None:
        """The next point, None where nothing gets any lower: a full Newton step, or the best of four searches."""
        newton = self.newton(point)
        found: list[_Point] = []
        for change in (newton, point.slope):
            # dJ/dt along W + t change, where log mu moves by -t change / tau
            rate = -point.mean(point.slope * (change - point.mean(change))) / self.tau
            new = self.shorten(point, lambda t, change=change: point.W + t * change, rate, 1.0)  # type: ignore[misc]
            if new is not None:
                found.append(new)
                if change is newton and new.length == 1.0:
                    return new
            # an empty cell that has to fill: along e^(t s) it holds nothing, then everything; a mixture is linear in t
            log_target = log_gibbs(point.W + change, self.tau, self.functional.volume, log_base=self.log_base)
            rate = float(np.vdot(point.slope, np.exp(log_target))) * self.functional.volume
            new = self.shorten(point, lambda t, target=log_target: self.mixed(point, target, t), rate, 0.5)  # type: ignore[misc]
            if new is not None:
                found.append(new)
        return min(found, key=lambda new: new.energy, default=None)

    def mixed(self, point: _Point, log_target: Array, t: float) -> Array:
        """The potential of the mixture ``(1-t) mu + t target``."""
        log_mu = np.logaddexp(math.log1p(-t) + point.log_mu, math.log(t) + log_target)
        return (log_mu if self.log_base is None else log_mu - self.log_base) * -self.tau

    def shorten(self, point: _Point, path: Callable[[float], Array], rate: float, t: float) -> _Point | None:
        """Halve the step until it descends enough; `rate` is dJ/dt at 0."""
        if rate < 0.0:
            for _ in range(24):
                new = self.point(path(t))
                if _lower(point, new, t * rate):
                    new.length = t
                    return new
                t *= 0.5
        return None

    def newton(self, point: _Point) -> Array:
        """The change of W: conjugate gradients in L2(mu), up to the first negative curvature."""
        tau = self.tau
        K = self.functional.second_variation(point.mu, point.V)
        s = np.zeros_like(point.mu)
        Ks = np.zeros_like(s)
        r = -point.slope
        p = r.copy()
        square = first = point.mean(r * r)
        # an inner accuracy like the distance to the solution makes the outer convergence quadratic
        forcing = min(0.1, max(math.sqrt(point.gap / tau), 1e-6)) ** 2
        noise = (1e-14 * float(np.max(np.abs(point.V)))) ** 2
        for _ in range(INNER_ITERATIONS):
            if self.functional.over or not square > max(forcing * first, noise):
                break
            Kp = K(point.mu * p)
            Kp -= point.mean(Kp)
            q = tau * p + Kp
            curvature = point.mean(p * q)
            if not curvature > 1e-10 * tau * point.mean(p * p):
                # not convex here: what has been found so far descends; the first direction is the mirror step's
                return -tau * s if s.any() else point.slope
            length = square / curvature
            s += length * p
            Ks += length * Kp
            r -= length * q
            old, square = square, point.mean(r * r)
            p *= square / old
            p += r
        return point.slope + Ks


def _lower(old: _Point, new: _Point, predicted: float) -> bool:
    """Whether a step descends enough; where the energy cannot tell for round-off, the gap does."""
    if not new.finite:
        return False
    drop = new.energy - old.energy
    if -predicted > 100.0 * old.noise:
        return drop <= 1e-4 * predicted
    return new.gap < old.gap and drop <= old.noise


# ---------------------------------------------------------------------------------------------------------------------
# temperature 0
# ---------------------------------------------------------------------------------------------------------------------


def _sparse_state(
    functional: _Functional, V: Array, free_mass: bool, goal: float, max_iterations: int
) -> tuple[Array, Array, float, float, int]:
    """Density, potential, energy, gap and rounds of a minimiser over measures on the cells; see the module."""
    grid, volume = functional.grid, functional.volume
    mu = np.zeros(grid.shape)
    cells = np.empty(0, dtype=np.intp) if free_mass else np.array([int(np.argmin(V))])
    weights = np.ones(len(cells))
    best: tuple[float, Array, Array, float] | None = None
    stalled = 0
    for rounds in range(max_iterations + 1):
        mu = np.zeros(grid.shape)
        mu.flat[cells] = weights / volume
        V, energy = functional.evaluate(mu)
        mass, mean = float(weights.sum()), float(weights @ V.flat[cells])
        least = float(V.min())
        gap = abs(mean) + max(mass, 1.0) * max(0.0, -least) if free_mass else mean - mass * least
        if best is None or gap < best[0]:
            best, stalled = (max(gap, 0.0), mu, V, energy), 0
        else:
            stalled += 1
        if gap <= goal or stalled >= STALLED or rounds == max_iterations or functional.over:
            break
        level = 0.0 if free_mass else mean / mass
        new = np.setdiff1d(_least_cells(V, level), cells)
        cells = np.concatenate([cells, new])
        weights = np.concatenate([weights, np.zeros(len(new))])
        cells, weights = _optimise_weights(functional, cells, weights, free_mass, 0.02 * goal)
    assert best is not None
    gap, mu, V, energy = best
    return mu, V, energy, gap, rounds


def _least_cells(V: Array, level: float) -> NDArray[np.intp]:
    """The local minima of V below a level, the lowest first."""
    from scipy.ndimage import minimum_filter

    # across periodic ends nothing is compared: a candidate too many does no harm
    found = np.flatnonzero(((minimum_filter(V, 3, mode="nearest") == V) & (V - level < 0.0)).ravel())
    return found[np.argsort(V.flat[found], kind="stable")[:CANDIDATES]]


def _optimise_weights(
    functional: _Functional, cells: NDArray[np.intp], weights: Array, free_mass: bool, goal: float
) -> tuple[NDArray[np.intp], Array]:
    """Minimise over the weights of an active set, by Newton steps on the faces of the simplex (or orthant)."""
    bound, grid = functional.bound, functional.grid
    index = np.unravel_index(cells, grid.shape)
    points = np.stack([grid.centres(i)[index[i]] for i in range(grid.dimension)], axis=1)

    def potential(w: Array) -> Array:
        # `points` shrinks with the active set
        return bound.potential(points, bound.response(points, w))

    last = math.inf
    for _ in range(100 + len(cells)):
        V = potential(weights)
        if not len(weights):
            break
        H = np.array([_row_of_hessian(potential, V, weights, j, functional.quadratic) for j in range(len(weights))])
        H = 0.5 * (H + H.T)
        small = max(0.1 * goal / max(float(weights.sum()), 1.0), 1e-15 * float(np.max(np.abs(V))))
        keep = np.ones(len(weights), dtype=bool)
        while True:
            d = np.zeros(len(weights))
            d[keep] = _face_direction(H[np.ix_(keep, keep)], V[keep], free_mass)
            wrong = keep & (weights == 0.0) & (d < 0.0)
            if not wrong.any():
                break
            keep &= ~wrong
        rate = float(V @ d)
        held = V[weights > 0.0] if weights.any() else V
        level = 0.0 if free_mass else float(V.min())
        missing = float(max(np.max(np.abs(held - level)), level - V.min()))
        if missing <= small or (-rate <= 1e-3 * goal and missing > 0.5 * last):  # there, or as near as round-off lets
            break
        last = missing
        shrinking = d < 0.0
        t = min(1.0, float(np.min(-weights[shrinking] / d[shrinking]))) if shrinking.any() else 1.0
        longest = t
        if not functional.quadratic:
            t = _line_search(partial(bound.energy, points), potential, weights, d, t, rate)
            if t == 0.0:
                break
        moved = weights + t * d
        if t == longest and shrinking.any():
            # exactly on the face reached
            moved[shrinking & (moved <= 1e-15 * float(weights.sum()))] = 0.0
        weights = np.maximum(moved, 0.0)
        if not free_mass:
            weights /= weights.sum()
        keep &= (weights > 0.0) | (d > 0.0)
        cells, weights, points = cells[keep], weights[keep], points[keep]
    keep = weights > 0.0
    return cells[keep], weights[keep]


def _row_of_hessian(potential: Callable[[Array], Array], V: Array, weights: Array, j: int, quadratic: bool) -> Array:
    """The derivative of V at the points by the weight of point j."""
    unit = np.zeros(len(weights))
    unit[j] = 1.0
    if quadratic:
        return potential(weights + unit) - V
    unit *= 1e-5 * max(float(weights.sum()), 1e-3)
    return (potential(weights + unit) - potential(weights - unit)) / (2.0 * unit[j])


def _face_direction(H: Array, V: Array, free_mass: bool) -> Array:
    """Newton's direction among weights of a face; curvatures by their size, so that it descends whatever H is."""
    n = len(V)
    if not free_mass:
        if n == 1:
            return np.zeros(1)
        # an orthonormal basis of the changes that keep the mass, from a Householder reflection of (1, ..., 1)
        u = np.ones(n)
        u[0] += math.sqrt(n)
        basis = (np.eye(n) - np.outer(u, u) * (2.0 / float(u @ u)))[:, 1:]
        return np.asarray(basis @ _face_direction(basis.T @ H @ basis, basis.T @ V, True))
    if n == 0:
        return np.zeros(0)
    values, vectors = np.linalg.eigh(H)
    size, slope = np.abs(values), vectors.T @ V
    top = max(float(size.max()), 1e-300)
    # where the energy is linear the ratio test or the line search sets the length, not the curvature
    least = max(1e-14 * top, 1e-8 * float(np.max(np.abs(slope))))
    return np.asarray(-vectors @ (slope / np.maximum(size, max(least, 1e-300))))


def _line_search(
    energy: Callable[[Array], float], potential: Callable[[Array], Array], w: Array, d: Array, t: float, rate: float
) -> float:
    """A length up to t that descends: by the energy, or, where round-off hides that, by the slope there."""
    start = energy(w)
    for _ in range(40):
        there = w + t * d
        slope = float(potential(there) @ d)
        if abs(slope) <= 0.1 * abs(rate) or (energy(there) <= start + 1e-4 * t * rate):
            return t
        t *= 0.5
    return 0.0


# ---------------------------------------------------------------------------------------------------------------------
# another quadrature
# ---------------------------------------------------------------------------------------------------------------------


class _NodalFunctional(_Functional):
    """The energy of densities at quadrature nodes, each of the same nominal volume."""

    def __init__(self, bound: BoundEnergy, points: Array, volume: float) -> None:
        self.bound, self.points, self.volume = bound, points, volume
        self.evaluations = 0
        self.quadratic = bound.quadratic

    def evaluate(self, mu: Array) -> tuple[Array, float]:
        self.evaluations += 1
        weights = mu * self.volume
        response = self.bound.response(self.points, weights)
        return self.bound.potential(self.points, response), self.bound.energy(self.points, weights, response)


@one_blas_thread()
def stationary_on_nodes(
    problem: Problem, counts: Sequence[int], tolerance: float = 1e-12, max_iterations: int = 300,
    deadline: float = math.inf,
) -> tuple[Array, Array, float, Callable[[Array], Array]]:  # fmt: skip
    """The end state on a tensor product of Gauss-Legendre nodes of the box, for a constant temperature above 0.

    Returns points (N, d), weights (N,), the free energy, and the density at any points (n, d): the Gibbs formula with
    the potential of the nodes.
    """
    tau = _temperature(problem, None)
    lines = [np.polynomial.legendre.leggauss(n) for n in counts]
    places = [
        0.5 * (axis.lower + axis.upper + axis.length * x) for axis, (x, _) in zip(problem.axes, lines, strict=True)
    ]
    points = np.stack([x.ravel() for x in np.meshgrid(*places, indexing="ij")], axis=1)
    shares = np.ones(1)
    for axis, (_, w) in zip(problem.axes, lines, strict=True):
        shares = np.multiply.outer(shares, 0.5 * axis.length * w).reshape(-1)
    volume = float(shares.mean())
    log_omega = problem.log_base(*points.T)
    # each node counts as a cell of the same volume; the base measure knows how much it really stands for
    log_base = np.log(shares / volume) + (0.0 if log_omega is None else log_omega)
    functional = _NodalFunctional(problem.bound_energy, points, volume)
    functional.deadline = deadline
    start, weights = problem.mu_0.nodes(tuple(counts))
    V = problem.bound_energy.potential(points, problem.bound_energy.response(start, weights))
    goal = tolerance * max(float(np.ptp(V)) * 1e-3, tau)
    state, _ = _gibbs_state(functional, V, tau, log_base, goal, max_iterations)
    response = problem.bound_energy.response(points, state.weights)
    low = state.V.min()
    total = float(np.exp(log_base - (state.V - low) / tau).sum()) * volume

    @one_blas_thread()
    def density(at: Array) -> Array:
        omega = problem.log_base(*at.T)
        potential = problem.bound_energy.potential(at, response)
        return np.asarray(np.exp((0.0 if omega is None else omega) - (potential - low) / tau) / total)

    return points, state.weights, state.energy, density
