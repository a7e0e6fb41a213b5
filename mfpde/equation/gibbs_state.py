r"""Temperature above 0: the minimiser of the free energy on a mesh, as the Gibbs measure of a potential.

Minimise ``J[mu] = E[mu] + tau int log(mu/omega) dmu`` over the probability measures on the cells. The unknown is a
potential ``W``, ``mu`` its Gibbs measure, so that tails are right where ``mu`` underflows. With ``K`` the second
variation of ``E`` at ``mu``, the Newton step solves

.. math::  \tau s + K(\mu s) = W - V[\mu] + \text{const}, \qquad \int s\, d\mu = 0,

by conjugate gradients in ``L2(mu)``, where the operator is symmetric with eigenvalues ``>= tau``, and moves on
``W <- V + K(mu s)``. Where the full step does not descend, the lowest ``J`` is taken among shorter ones, mirror
steps ``log mu <- (1-t) log mu + t log p_mu``, and mixtures of ``mu`` with the targets of both, each found by a line
search. Low temperatures are reached from higher ones, or from the minimiser at temperature 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mfpde.equation.functional import Functional
from mfpde.equation.gibbs import log_gibbs
from mfpde.equation.sparse_state import sparse_state
from mfpde.support.arrays import Array

__all__ = ["Point", "gibbs_state"]


COOLING = 5.0
"""Ratio of successive temperatures on the way to a low one."""
SPARSE_STAGES = 4
"""Temperatures on the way from which on the minimiser at temperature 0 is tried as a start."""
INNER_ITERATIONS = 400
"""Conjugate-gradient steps of one Newton step; a factorised energy of rank r needs about r."""


class Point:
    """The Gibbs measure of a potential, and what the search needs to know there."""

    def __init__(self, functional: Functional, W: Array, tau: float, log_base: Array | None) -> None:
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
        """``int f dmu``."""
        return float(np.vdot(self.weights, f))


def gibbs_state(
    functional: Functional, W: Array, tau: float, log_base: Array | None, goal: float, max_iterations: int
) -> tuple[Point, int]:
    """The minimiser of the free energy, by way of higher temperatures where `tau` is low; see the module.

    Parameters
    ----------
    functional : Functional
    W : array
        The potential whose Gibbs measure is the start.
    tau : float
        The temperature, above 0.
    log_base : array, optional
        ``log omega`` on the cells; None is 0.
    goal : float
        The gap to stop at.
    max_iterations : int
        Newton steps.

    Returns
    -------
    point : Point
    iterations : int
    """
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


def _nearly_sparse(functional: Functional, W: Array, tau: float, log_base: Array | None) -> Array:
    """The potential whose Gibbs measure is the sparse minimiser at temperature 0, its empty cells filled a little.

    At a temperature that the mesh does not resolve, neighbouring cells differing by many tau, this is close.
    """
    sparse = sparse_state(functional, W, False, 1e-3 * tau, 50)
    occupied = sparse.mu > 0.0
    log_mu = np.log(sparse.mu[occupied] * functional.volume)
    W = sparse.V.copy()
    W[occupied] = float(np.vdot(sparse.mu, sparse.V)) * functional.volume - tau * log_mu
    if log_base is not None:
        W[occupied] += tau * log_base[occupied]
    return W


class _Search:
    """Descent of the free energy at one temperature."""

    def __init__(self, functional: Functional, tau: float, log_base: Array | None) -> None:
        self.functional, self.tau, self.log_base = functional, tau, log_base

    def point(self, W: Array) -> Point:
        """The Gibbs measure of a potential."""
        return Point(self.functional, W, self.tau, self.log_base)

    def step(self, point: Point) -> Point | None:
        """The next point, None where nothing gets any lower: a full Newton step, or the best of four searches."""
        newton = self.newton(point)
        lower: list[Point] = []
        for change in (newton, point.slope):
            # dJ/dt along W + t change, where log mu moves by -t change / tau
            rate = -point.mean(point.slope * (change - point.mean(change))) / self.tau
            new = self.shorten(point, lambda t, change=change: point.W + t * change, rate, 1.0)  # type: ignore[misc]
            if new is not None:
                lower.append(new)
                if change is newton and new.length == 1.0:
                    return new
            # an empty cell that has to fill: along e^(t s) it holds nothing, then everything; a mixture is linear in t
            log_target = log_gibbs(point.W + change, self.tau, self.functional.volume, log_base=self.log_base)
            rate = float(np.vdot(point.slope, np.exp(log_target))) * self.functional.volume
            new = self.shorten(point, lambda t, target=log_target: self.mixed(point, target, t), rate, 0.5)  # type: ignore[misc]
            if new is not None:
                lower.append(new)
        return min(lower, key=lambda new: new.energy, default=None)

    def mixed(self, point: Point, log_target: Array, t: float) -> Array:
        """The potential of the mixture ``(1-t) mu + t target``."""
        log_mu = np.logaddexp(math.log1p(-t) + point.log_mu, math.log(t) + log_target)
        return (log_mu if self.log_base is None else log_mu - self.log_base) * -self.tau

    def shorten(self, point: Point, path: Callable[[float], Array], rate: float, t: float) -> Point | None:
        """Halve the step until it descends enough; `rate` is dJ/dt at 0."""
        if rate < 0.0:
            for _ in range(24):
                new = self.point(path(t))
                if _lower(point, new, t * rate):
                    new.length = t
                    return new
                t *= 0.5
        return None

    def newton(self, point: Point) -> Array:
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
                # not convex here: what there is so far descends; the first direction is the mirror step's
                return -tau * s if s.any() else point.slope
            length = square / curvature
            s += length * p
            Ks += length * Kp
            r -= length * q
            old, square = square, point.mean(r * r)
            p *= square / old
            p += r
        return point.slope + Ks


def _lower(old: Point, new: Point, predicted: float) -> bool:
    """Whether a step descends enough; where the energy cannot tell for round-off, the gap does."""
    if not new.finite:
        return False
    drop = new.energy - old.energy
    if -predicted > 100.0 * old.noise:
        return drop <= 1e-4 * predicted
    return new.gap < old.gap and drop <= old.noise
