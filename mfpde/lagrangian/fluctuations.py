r"""The central limit theorem of finitely many neurons, without a single random number.

Let ``n`` neurons start as independent draws from ``mu_0`` and follow the gradient of their own potential. Their
response ``u^n = (1/n) sum_i Phi(theta_i)`` differs from that of the mean field by ``n^{-1/2} g_t``, and ``g_t`` becomes
Gaussian as ``n`` grows. With ``T_t`` the mean field's flow, ``v = -G grad V`` and ``dT_t/dt = s v(T_t; u_t)``, two
things make it. The draws themselves would, if every neuron moved with the mean field,

.. math:: \bar g_t = \int \Phi(T_t\theta)\, W(d\theta), \qquad W \text{ Gaussian}, \quad
          E[W(f) W(h)] = \mathrm{Cov}_{\mu_0}(f, h),

which is the fluctuation of fresh draws from ``mu_t`` ("resampling"). And since ``u^n`` is not ``u``, a neuron is off
its mean-field path by ``n^{-1/2} xi_t`` with ``d xi/dt = s (Dv xi + d_u v g)``, hence
``xi_t = int_0^t s J_{t,s} d_u v(T_s) g_s ds`` with ``J_{t,s}`` the linearised flow. Together they give a linear
Volterra equation,

.. math:: g_t = \bar g_t + \int_0^t K(t, s)\, g_s\, ds, \qquad
          K(t, s) = s(s) \int D\Phi(T_t)\, J_{t,s}\, \partial_u v(T_s)\, d\mu_0,
          \qquad \partial_u v = -G\, D(L''(u_s)\,\Phi)^{\mathsf T},

for the energy ``E = L(u) + int F dmu``. Its solution is ``g_t = \bar g_t + int_0^t R(t, s) \bar g_s ds`` with the
resolvent ``R``, and hence ``g_t = int psi_t dW``: the *influence* of a neuron that starts at ``theta`` is

.. math:: \psi_t(\theta) = \Phi(T_t\theta) + \int_0^t R(t, s)\, \Phi(T_s\theta)\, ds,
          \qquad \mathrm{Cov}(g_t, g_s) = \mathrm{Cov}_{\mu_0}(\psi_t, \psi_s).

Row ``R(t, .)`` comes from one solution of the adjoint equation backward from ``t``,

.. math:: -\frac{d\lambda}{ds} = (Dv)^{\mathsf T}\lambda + D\Phi(T_s)^{\mathsf T} \rho, \quad
          \lambda_t = D\Phi(T_t)^{\mathsf T}, \quad
          R(t, s) = \rho_s = \int \lambda\, \partial_u v(T_s)\, d\mu_0,

which needs neither the two-time kernel nor products of nearly singular Jacobians. All integrals over ``mu_0`` are sums
over the nodes of `mfpde.characteristics`.

**Birth and death.** With the reaction ``-alpha (V - Vbar) mu`` the field ``omega = lim n^{1/2} (mu^n - mu)`` obeys the
linearised equation, and every death and duplication adds noise. Backward from the observable at ``t``, along the paths
of the mean field and up to constants,

.. math:: -\frac{d\psi}{ds} = \rho\cdot\Phi - \alpha\,(V - \bar V)\,(\psi - \langle\psi\rangle), \quad
          -\frac{d\lambda}{ds} = (Dv)^{\mathsf T}\lambda + D\Phi^{\mathsf T}\rho
          - \alpha\,(V - \bar V)\,\lambda - \alpha\,(\psi - \langle\psi\rangle)\,\nabla V, \quad
          \rho = \int \lambda\, \partial_u v\, d\mu_s
          - \alpha\, L'' \big(\langle\Phi\psi\rangle - \langle\Phi\rangle\langle\psi\rangle\big),

with ``<.>`` the mean under ``mu_s`` and ``lambda = grad psi``, and

.. math:: \mathrm{Cov}(g_t, g_{t'}) = \mathrm{Cov}_{\mu_0}(\psi_0, \psi'_0)
          + \int_0^{\min(t, t')} Q_s(\psi_s, \psi'_s)\, ds.

Neurons have an event at the rate ``alpha |V - Vbar|``. Where each of them moves a mass of ``1/n`` between the neuron
and another one at random (*one for one*: clocks in continuous time, as in the theory),

.. math:: Q(\psi, \psi') = \alpha \iint |V - \bar V|(\theta)\, \big(\psi(\theta) - \psi(\theta')\big)
          \big(\psi'(\theta) - \psi'(\theta')\big)\, \mu(d\theta)\, \mu(d\theta').

In steps of a length ``dt`` with many events each (Algorithm 1), deaths and duplications of a step make up for each
other but for their fluctuation, and only for what is left others are chosen at random: ``(n dt)^{-1/2}`` of all, and

.. math:: Q(\psi, \psi') = \alpha \int |V - \bar V|\, (\psi - \langle\psi\rangle)(\psi' - \langle\psi'\rangle)\, d\mu.

Neurons that carry weights instead of dying make no noise: theirs is the first term alone.

Chen, Rotskoff, Bruna, Vanden-Eijnden: A dynamical central limit theorem for shallow neural networks, arXiv:2008.09623.
The dynamics with birth and death: Rotskoff, Jelassi, Bruna, Vanden-Eijnden, arXiv:1902.01843, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from mfpde.equation.energy.capabilities import require_capability
from mfpde.equation.problem import Problem
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.node_flow import find_ancestors
from mfpde.lagrangian.nodes import Dynamics, Flow, Record, leeway, method, pieces
from mfpde.lagrangian.search import GROWTH, first_counts
from mfpde.support.arguments import COUNT, COUNTS, FLAG, NONE, real, require, shown, whole
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.saves import save_times
from mfpde.support.session import progress_bar, shows_progress, warn
from mfpde.support.threads import one_blas_thread

__all__ = ["Fluctuations", "fluctuations"]


BIRTH_DEATH, ONE_FOR_ONE, WEIGHTS = REACTIONS = "birth-death", "one-for-one", "weights"
"""How neurons follow a reaction."""
WALL = 1e-9
"""Nodes nearer to a wall than this fraction of the axis' length lie on it: they no longer feel anything across it."""


@dataclass(frozen=True, eq=False)
class Fluctuations(Labelled):
    r"""The result of `mfpde.fluctuations`: the Gaussian limit of ``n^{1/2} (u^n_t - u_t)`` and of the energy.

    Attributes
    ----------
    problem : Problem
    times : array, shape (m,)
    covariance : array, shape (m, r, r)
        ``lim n Cov(u^n_t)`` of the response.
    resampling : array, shape (m, r, r)
        ``n Cov`` of fresh independent draws from ``mu_t``: what the covariance would be without interaction.
    gap : array, shape (m,)
        ``lim n E [D^2 L (u^n_t - u_t)^2 / 2] = tr(L'' covariance) / 2``: for a squared loss, n times half the mean
        squared distance between the network of n neurons and its limit, as the loss measures distance.
    resampling_gap : array, shape (m,)
        The same of fresh draws.
    energy_variance : array, shape (m,)
        ``lim n Var E[mu^n_t]``.
    error_estimate : float
        The largest relative change of covariance, gap and energy variance in the last refinement of the nodes.
    converged : bool
        Whether it is within the tolerance.
    points : array, shape (N, d)
        Nodes of ``mu_0``.
    weights : array, shape (N,)
    influence : array, shape (m, r, N)
        ``psi_t`` at the nodes, of mean 0: for n neurons that start at ``theta_i``,
        ``u^n_t = u_t + (1/n) sum_i psi_t(theta_i)`` up to ``O(1/n)``.
    energy_influence : array, shape (m, N)
        The same for the energy.
    noise : array, shape (m, r, m, r)
        What deaths and duplications add to ``lim n Cov(u^n, u^n)`` of two save times; 0 where there are none.
    """

    problem: Problem
    times: Array
    covariance: Array
    resampling: Array
    gap: Array
    resampling_gap: Array
    energy_variance: Array
    error_estimate: float
    converged: bool
    points: Array = field(repr=False)
    weights: Array = field(repr=False)
    influence: Array = field(repr=False)
    energy_influence: Array = field(repr=False)
    noise: Array = field(repr=False)

    def _labels(self) -> Labels:
        """Save times."""
        pair = ["time", "component", "other"]
        variables = {
            "gap": Column(["time"], self.gap, "lim n E[D^2 L (u^n - u)^2 / 2]"),
            "resampling_gap": Column(["time"], self.resampling_gap, "the same of fresh draws"),
            "energy_variance": Column(["time"], self.energy_variance, "lim n Var E"),
            "covariance": Column(pair, self.covariance, "lim n Cov(u^n)"),
            "resampling": Column(pair, self.resampling, "the same of fresh draws"),
        }
        attributes = {"problem": self.problem.name, "error_estimate": self.error_estimate}
        return Labels({"time": Column(["time"], self.times)}, variables, attributes)

    @property
    def variance(self) -> Array:
        """``lim n Var(u^n_k)`` of every moment of the response, shape (m, r)."""
        return np.diagonal(self.covariance, axis1=1, axis2=2)

    @property
    def resampling_variance(self) -> Array:
        """The same of fresh draws, shape (m, r)."""
        return np.diagonal(self.resampling, axis1=1, axis2=2)

    def between(self, i: int, j: int) -> Array:
        """``lim n Cov(u^n, u^n)`` between save times `i` and `j`, shape (r, r)."""
        m = len(self.times)
        for k in (i, j):
            if not whole(k) or not -m <= k < m:
                raise ValueError(f"save times are numbered from 0 to {m - 1}, there is no {shown(k)}")
        return np.asarray((self.influence[i] * self.weights) @ self.influence[j].T + self.noise[i, :, j])

    def __str__(self) -> str:
        lines = [
            f"Fluctuations of {self.problem.name!r}: {len(self.times)} times up to {self.times[-1]:g}, "
            f"{self.covariance.shape[1]} moments, {len(self.weights)} nodes, error {self.error_estimate:.1e}",
            f"{'time':>10}{'n x gap':>14}{'fresh draws':>14}{'ratio':>10}{'n Var E':>14}",
        ]
        for t, gap, fresh, energy in zip(self.times, self.gap, self.resampling_gap, self.energy_variance, strict=True):
            ratio = gap / fresh if fresh > 0 else math.nan
            lines.append(f"{t:10.4g}{gap:14.5g}{fresh:14.5g}{ratio:10.3g}{energy:14.5g}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Fluctuations of {self.problem.name!r}: {len(self.times)} times up to {self.times[-1]:g}>"


def fluctuations(
    problem: Problem,
    t_end: float | None = None,
    *,
    save: int | Sequence[float] = 11,
    reaction: str = BIRTH_DEATH,
    nodes: int | Sequence[int] | None = None,
    tolerance: float | None = None,
    rtol: float | None = None,
    max_nodes: int = 20_000,
    progress: bool | None = None,
) -> Fluctuations:
    r"""The limiting covariance of ``n`` neurons about their mean field, as ``n`` times the covariance.

    See the module for the equation. The start of the ``n`` neurons is ``n`` independent draws from ``mu_0``, their
    dynamics the gradient flow of their own energy, with birth-death where the problem has it; covariances are those of
    their response, the moments that `Characteristics.response` has too.

    Parameters
    ----------
    problem : Problem
        Without temperature, reinjection or a rate f(V), its reaction balanced, its velocity continuous, its energy
        factorised.
    t_end : float, optional
        Default: the problem's.
    save : int or sequence of float, optional
        How many equally spaced times, or the times. The start and the end are always among them.
    reaction : {"birth-death", "one-for-one", "weights"}, optional
        How neurons follow the reaction: killed and duplicated in steps with many events (default;
        `mfpde.particles.BirthDeath`, first n large, then steps short), each event with another neuron at random
        (``PopulationControl.PARTNER``, or steps so short that they have one event at most), or each with a weight
        (`mfpde.particles.Weights`). Nothing where `alpha` is 0.
    nodes : int or sequence of int, optional
        Nodes of ``mu_0`` along each axis to begin with; they grow by half until the result stops changing.
    tolerance : float, optional
        Limit for the relative change in the last refinement, 1e-8 or larger. Default: 1e-5; 1e-3 with birth-death,
        where the rate of events ``|V - Vbar|`` has a kink, and nodes converge to second order only.
    rtol : float, optional
        Tolerance of the time integration of the adjoint fields; default: a hundredth of `tolerance`.
    max_nodes : int, optional
        Limit on the number of nodes.
    progress : bool, optional
        A progress bar; default: when standard error is a terminal.

    Returns
    -------
    Fluctuations

    Raises
    ------
    ValueError
        For a problem of another kind, each reason by name.

    Warns
    -----
    RunWarning
        If the tolerance is not reached within `max_nodes`.

    Notes
    -----
    At ``t = 0`` both are the variance of the draws. ``gap`` below ``resampling_gap`` means that
    training corrects its own draws; where the target is interpolated it removes what they did to the loss.

    The cost is a few hundred evaluations of ``r + 1`` adjoint fields on ``N`` nodes for each save time still ahead, of
    ``O(N r^2)`` each. The Hessian of V and the slopes of the features are seven-point differences, exact to about 1e-9.
    ``L''`` is the energy's own; of a loss of yours without `curvature` it is taken by differences, to about 1e-10.
    Nodes that stop at a truncation end no longer feel anything across it.

    **Good values.** Smooth starts in one dimension: the defaults, a second. Networks in two or three dimensions: a
    tolerance of 1e-3 and few save times.

    Examples
    --------
    A linear neuron forgets its draws at the rate at which it learns: ``n Var = C_0 exp(-2 t)``.

    >>> import mfpde as mf
    >>> limit = mf.fluctuations(mf.problems.linear_neuron(alpha=0.0, variance=0.5), save=[0.5, 1.0])
    >>> bool(np.allclose(2 * limit.gap, 0.5 * np.exp(-2 * limit.times), rtol=1e-7))
    True
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem must be a Problem, not {shown(problem)}")
    require(nodes=(nodes, COUNT | COUNTS | NONE), progress=(progress, FLAG | NONE))
    if reaction not in REACTIONS:
        raise ValueError(f"reaction must be one of {', '.join(map(repr, REACTIONS))}, not {shown(reaction)}")
    dynamics = Dynamics(problem, "fluctuations")
    _check_problem(dynamics)
    noisy = dynamics.reacts and reaction != WEIGHTS
    tolerance = (1e-3 if noisy else 1e-5) if tolerance is None else tolerance
    t_end = problem.t_end if t_end is None else t_end
    if not (real(t_end) and t_end > 0):
        raise ValueError(f"t_end must be finite and positive, not {shown(t_end)}")
    t_end = float(t_end)
    if not (real(tolerance) and 1e-8 <= tolerance <= 0.1):
        raise ValueError(f"tolerance must lie between 1e-8 and 0.1, not {shown(tolerance)}")
    rtol = 1e-2 * tolerance if rtol is None else rtol
    if not (real(rtol) and 1e-11 <= rtol <= 1e-3):
        raise ValueError(f"rtol must lie between 1e-11 and 1e-3, not {shown(rtol)}")
    if not (whole(max_nodes) and max_nodes > 0):
        raise ValueError(f"max_nodes must be a positive integer, not {shown(max_nodes)}")
    times = np.array([0.0, *save_times(save, 0.0, t_end)])
    counts = first_counts(nodes, dynamics.dimension)
    places = find_ancestors(dynamics, t_end) if dynamics.reacts else None
    current = nodes_of(problem.mu_0.blocks(counts, places))
    if len(current[1]) > max_nodes:
        raise ValueError(f"{len(current[1])} nodes exceed max_nodes = {max_nodes}; raise it or begin with fewer")
    visible = shows_progress(progress)

    def run(at: tuple[Array, Array]) -> Fluctuations:
        label = f"{problem.name}, {len(at[1])} nodes"
        with one_blas_thread(), progress_bar(visible, label, 0.0, t_end) as show:
            return _solve(dynamics, at, times, rtol, reaction, show if visible else None)

    def finer_ones(counts: tuple[int, ...]) -> tuple[Array, Array]:
        return nodes_of(problem.mu_0.blocks(counts, places))

    best, change = _refined(run, finer_ones, current, counts, tolerance, max_nodes)
    converged = change <= tolerance
    if not converged:
        warn(
            f"fluctuations of {problem.name!r} changed by {change:.1e} in the last refinement, above tolerance = "
            f"{tolerance:g}, at the limit of {max_nodes} nodes; raise max_nodes or the tolerance, or shorten t_end",
            stacklevel=3,
        )
    return replace(best, error_estimate=change, converged=converged)


def _refined(
    run: Callable[[tuple[Array, Array]], Fluctuations], nodes: Callable[[tuple[int, ...]], tuple[Array, Array]],
    current: tuple[Array, Array], counts: tuple[int, ...], tolerance: float, most: int,
) -> tuple[Fluctuations, float]:  # fmt: skip
    """The result with as many nodes as it takes, and its change in the last refinement."""
    best, change = run(current), math.inf
    while change > tolerance:
        counts = tuple(math.ceil(GROWTH * n) for n in counts)
        trial = nodes(counts)
        if np.array_equal(trial[0], current[0]):  # atoms: there is nothing to refine
            return best, 0.0
        if len(trial[1]) > most:
            break
        before, best, current = best, run(trial), trial
        change = _change(before, best)
    return best, change


def _check_problem(dynamics: Dynamics) -> None:
    """Refuse problems whose response does not fluctuate, or not in a way that is known."""
    if dynamics.problem.species is not None:
        raise ValueError(f"the fluctuations of {dynamics.problem.species[1]!r} are not known; simulate particles")
    if dynamics.reacts and not dynamics.balanced:
        raise ValueError(
            "the unbalanced reaction: the limit of fluctuations is known where the number of neurons is kept; use the "
            "balanced reaction, or alpha=0"
        )
    if dynamics.reacts and dynamics.problem.rate is not None:
        raise ValueError(
            f"rate {shown(dynamics.problem.rate)}: the limit of fluctuations is that of the rate V - Vbar; leave it out"
        )
    require_capability(dynamics.bound, "response", "fluctuations")
    if dynamics.bound.response_size == 0:
        raise ValueError("the energy has no interaction: particles are independent, and their law stays a fresh draw's")


def _change(coarse: Fluctuations, fine: Fluctuations) -> float:
    """Relative change, at each time against the largest covariance of that time."""
    changes = []
    for name in ("covariance", "gap", "energy_variance"):
        a, b = (getattr(x, name).reshape(len(fine.times), -1) for x in (coarse, fine))
        # what vanishes in time is compared with a millionth of what it was
        scale = np.maximum(np.abs(b).max(axis=1), 1e-6 * np.abs(b).max())
        changes.append(float(np.divide(np.abs(b - a).max(axis=1), scale, out=np.zeros(len(b)), where=scale > 0).max()))
    return max(changes)


# ---------------------------------------------------------------------------------------------------------------------
# forward: the paths of the nodes; backward: the adjoint fields of all save times ahead, in one sweep
# ---------------------------------------------------------------------------------------------------------------------


class _Linear:
    """The linearised equation along the flow, at one clock time.

    Parameters
    ----------
    dynamics : Dynamics
    points : array, shape (N, d)
    weights : array, shape (N,)
        Now.
    curvature : array, optional
        ``L''`` where it is the same everywhere.
    alpha : float
        The birth-death rate now.
    """

    def __init__(
        self, dynamics: Dynamics, points: Array, weights: Array, curvature: Array | None, alpha: float
    ) -> None:
        bound = dynamics.bound
        n, d = points.shape
        self.weights, self.points, self.alpha = weights, points, alpha
        self.response = bound.response(points, weights)
        self.features = bound.features(points)
        self.curvature = bound.curvature(self.response) if curvature is None else curvature
        # nodes on a wall stay there
        near = WALL * dynamics.length
        walled = ~dynamics.periodic & ((points < dynamics.lower + near) | (points > dynamics.upper - near))
        self.free = np.where(walled, 0.0, 1.0)
        self.slopes = np.empty((len(self.features), n, d))
        self.jacobian = np.empty((n, d, d))  # of the velocity: component, then direction
        for i in range(d):
            moved, stencil = dynamics.stencil(points, i)
            self.slopes[:, :, i] = (bound.features(moved).reshape(-1, 7, n) * stencil).sum(axis=1)
            velocity = dynamics.velocity(moved, self.response).reshape(d, 7, n)
            self.jacobian[:, :, i] = (velocity * stencil).sum(axis=1).T
        rates = (dynamics.problem.mobility(i, *points.T) for i in range(d))
        mobility = np.stack([np.broadcast_to(rate, (n,)) for rate in rates], axis=1)
        force = np.tensordot(self.curvature, self.slopes, 1)
        self.forcing = (-weights[:, None] * mobility * self.free * force).reshape(len(force), -1)
        self.slopes *= self.free
        if alpha:
            V = bound.potential(points, self.response)
            self.excess = V - weights @ V
            self.push = bound.gradient(points, self.response) * self.free
            centred = self.features - (self.features @ weights)[:, None]
            self.selection = self.curvature @ (centred * weights)

    def row(self, adjoint: Array, influence: Array) -> Array:
        """``rho``: (q, N d) and (q, N) -> (q, r)."""
        rho = adjoint @ self.forcing.T
        if self.alpha:
            rho -= self.alpha * (influence @ self.selection.T)
        return rho

    def change(self, adjoint: Array, influence: Array) -> tuple[Array, Array]:
        """Minus the derivatives of adjoint (q, N d) and influence (q, N)."""
        q = len(adjoint)
        n, d = self.points.shape
        rho = self.row(adjoint, influence)
        fields = adjoint.reshape(q, n, d) * self.free
        back = np.einsum("qjk,jki->qji", fields, self.jacobian) if d > 1 else fields * self.jacobian[:, :, 0]
        back *= self.free
        back += np.tensordot(rho, self.slopes, 1)
        grows = rho @ self.features
        if self.alpha:
            centred = influence - (influence @ self.weights)[:, None]
            grows -= self.alpha * self.excess * centred
            back -= self.alpha * (self.excess[:, None] * fields + self.push * centred[:, :, None])
        return back.reshape(q, -1), grows


@dataclass(frozen=True, eq=False)
class _Fields:
    """Fields of the save times ahead, the last time first, q + 1 rows a time: the moments, and the energy.

    Attributes
    ----------
    adjoint : array, shape (rows, N d)
    influence : array, shape (rows, N)
    size : array, shape (rows,)
        What their errors refer to.
    noise : array, shape (rows, rows)
        ``int Q ds`` from the clock value at which they are to the earlier one of their save times.
    """

    adjoint: Array
    influence: Array
    size: Array
    noise: Array

    def with_those_of(self, at: _Linear, dynamics: Dynamics, least: float) -> _Fields:
        """Add the terminal values of a save time; `least` is the least size of the energy's row."""
        bound = dynamics.bound
        V = bound.potential(at.points, at.response)
        outputs = np.concatenate([at.features, V[None]])
        push = bound.gradient(at.points, at.response) * at.free
        terminal = np.concatenate([at.slopes, push[None]]).reshape(len(outputs), -1)
        size = np.abs(outputs).max(axis=1)
        size[-1] = max(size[-1], least)
        return _Fields(
            np.concatenate([self.adjoint, terminal]),
            np.concatenate([self.influence, outputs]),
            np.concatenate([self.size, np.maximum(size, 1e-12)]),
            np.pad(self.noise, (0, len(outputs))),
        )


class _Along:
    """The linearised equation at any clock value, along the paths of the nodes.

    Parameters
    ----------
    dynamics : Dynamics
    nodes : (array, array)
        Points (N, d) and logarithms of weights (N,).
    t_end : float
    rtol : float
        Of the paths.
    reaction : str
        How neurons follow it.
    """

    def __init__(
        self, dynamics: Dynamics, nodes: tuple[Array, Array], t_end: float, rtol: float, reaction: str
    ) -> None:
        self.dynamics, self.reaction, self.t_end = dynamics, reaction, t_end
        self.flow = Flow(dynamics, *nodes, t_end)
        self.mass = np.exp(nodes[1])
        self._record = self._paths(rtol)
        bound = dynamics.bound
        # of a quadratic energy it is the same everywhere
        self._curvature = bound.curvature(bound.response(nodes[0], self.mass)) if bound.quadratic else None

    def _paths(self, rtol: float) -> Record:
        """Positions and growth of the nodes at all clock values."""
        flow, dynamics, end = self.flow, self.dynamics, self.dynamics.clock(self.t_end)
        record, y = Record(0.0), flow.initial()
        lengths = [*dynamics.length, 1.0] if dynamics.reacts else dynamics.length
        for a, b in pieces(dynamics, self.t_end, 0.0, end):
            scale = leeway(flow.unpack(y)[1], flow.fields) * np.repeat(lengths, flow.n)
            for solver, before in method(flow, a, y, b, rtol, scale):
                inside = solver.dense_output()
                at = record.places(before, solver.t)
                values = [solver.y.copy() if k == len(at) - 1 else inside(S) for k, S in enumerate(at)]
                record.append(float(solver.t), np.array(values))
                flow.confine(solver.y)
                y = solver.y
        return record

    def place(self, S: float) -> tuple[Array, Array]:
        """Points and weights when the clock shows `S`."""
        return self.flow.unpack(self._record(S) if S > 0.0 else self.flow.initial())[:2]

    def __call__(self, S: float) -> _Linear:
        """The equation of clock value `S`."""
        alpha = self.dynamics.alpha(S, self.t_end) if self.dynamics.reacts else 0.0
        return _Linear(self.dynamics, *self.place(S), self._curvature, alpha)

    def noise(self, S: float, influence: Array) -> Array:
        """``Q`` of the clock value `S`: (rows, rows)."""
        bound = self.dynamics.bound
        points, weights = self.place(S)
        V = bound.potential(points, bound.response(points, weights))
        often = np.abs(V - weights @ V) * weights
        # a constant in psi makes no noise, and where its mean is 0 the mixed products are
        psi = influence - (influence @ weights)[:, None]
        if self.reaction == ONE_FOR_ONE:
            often += often.sum() * weights
        return np.asarray((psi * (self.dynamics.alpha(S, self.t_end) * often)) @ psi.T)

    def carry_back(
        self, fields: _Fields, start: float, end: float, rtol: float, show: Callable[[float], None]
    ) -> _Fields:
        """Fields of the earlier clock value `end` from those of `start`; `show` is told the clock after each step."""
        for a, b in pieces(self.dynamics, self.t_end, start, end):
            fields = self._carried(fields, a, b, rtol, show)
        return fields

    def _carried(
        self, fields: _Fields, start: float, end: float, rtol: float, show: Callable[[float], None]
    ) -> _Fields:
        rows, n = fields.influence.shape
        split, noise = fields.adjoint.size, fields.noise
        # weights that have grown count as they are, and those that have shrunk as they were
        each = np.outer(fields.size, leeway(np.maximum(self.mass, self.place(start)[1]), 1))
        scale = np.concatenate([(each[:, :, None] / self.dynamics.length).ravel(), each.ravel()])
        y = np.concatenate([fields.adjoint.ravel(), fields.influence.ravel()])

        def back(S: float, y: Array) -> Array:
            adjoint, psi = self(S).change(y[:split].reshape(rows, -1), y[split:].reshape(rows, n))
            return -np.concatenate([adjoint.ravel(), psi.ravel()])

        for solver, before in method(back, start, y, end, rtol, scale):
            y = solver.y
            if self.dynamics.reacts and self.reaction != WEIGHTS:
                inside, length = solver.dense_output(), before - solver.t
                for x, share in zip(*_gauss(), strict=True):
                    S = solver.t + x * length
                    noise = noise + share * length * self.noise(S, inside(S)[split:].reshape(rows, n))
            show(solver.t)
        return _Fields(y[:split].reshape(rows, -1), y[split:].reshape(rows, n), fields.size, noise)


@cache
def _gauss() -> tuple[Array, Array]:
    """Nodes and weights on [0, 1], exact to degree nine: more than the dense output of a step."""
    x, w = np.polynomial.legendre.leggauss(5)
    return 0.5 * (x + 1.0), 0.5 * w


def _solve(
    dynamics: Dynamics, nodes: tuple[Array, Array], times: Array, rtol: float, reaction: str, show: Any = None
) -> Fluctuations:
    """The fluctuations with these nodes: their paths forward, and the adjoint fields backward."""
    n, d = nodes[0].shape
    bound, weights = dynamics.bound, np.exp(nodes[1])
    m, r = len(times), bound.response_size
    clocks = [dynamics.clock(t) for t in times]
    linear = _Along(dynamics, nodes, float(times[-1]), max(1e-3 * rtol, 1e-13), reaction)

    def report(S: float) -> None:
        if show is not None:
            show(float(times[-1] * (1.0 - S / clocks[-1])), 0.0)

    resampling, curvature = np.empty((m, r, r)), np.empty((m, r, r))
    fields = _Fields(np.empty((0, n * d)), np.empty((0, n)), np.empty(0), np.empty((0, 0)))
    least = 1e-3 * float(np.abs(bound.potential(nodes[0], bound.response(nodes[0], weights))).max())
    for i in range(m - 1, -1, -1):
        at = linear(clocks[i])
        resampling[i] = _covariance(at.features, at.weights)
        curvature[i] = at.curvature
        fields = fields.with_those_of(at, dynamics, least)
        if i > 0 and clocks[i - 1] < clocks[i]:  # else the schedule stands still
            fields = linear.carry_back(fields, clocks[i], clocks[i - 1], rtol, report)
    influence = fields.influence.reshape(m, r + 1, n)[::-1].copy()
    influence -= (influence @ weights)[:, :, None]
    noise = fields.noise.reshape(m, r + 1, m, r + 1)[::-1, :, ::-1].copy()
    covariance = np.stack([_covariance(psi, weights) + noise[i, :, i] for i, psi in enumerate(influence)])
    moments = covariance[:, :r, :r]
    return Fluctuations(
        problem=dynamics.problem,
        times=times,
        covariance=moments,
        resampling=resampling,
        gap=0.5 * np.einsum("tkl,tkl->t", curvature, moments),
        resampling_gap=0.5 * np.einsum("tkl,tkl->t", curvature, resampling),
        energy_variance=covariance[:, r, r].copy(),
        error_estimate=math.inf,
        converged=False,
        points=nodes[0],
        weights=weights,
        influence=influence[:, :r],
        energy_influence=influence[:, r],
        noise=noise[:, :r, :, :r],
    )


def _covariance(values: Array, weights: Array) -> Array:
    """The covariance under the nodes' measure of functions (q, N)."""
    centred = values - (values @ weights)[:, None]
    return np.asarray((centred * weights) @ centred.T)
