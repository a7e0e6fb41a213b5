"""What a cloud of particles does in a step, one object for each part of it.

A scheme is one drift (`GradientDescent`, `SGD`), at most one noise (`Langevin`) and at most one reaction
(`BirthDeath`, `Weights`). What is named is done and nothing else; `dynamics_of` names what a problem asks for.
The formulas are methods, so that a variant (or a deliberate mistake, for a test) is a subclass of five lines.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfpde.equation.energy import TwoLayerNetwork
from mfpde.equation.problem import Problem, Reaction
from mfpde.particles.density import KernelDensity
from mfpde.support.arguments import entries, real, shown, whole
from mfpde.support.arrays import Array

__all__ = [
    "BirthDeath",
    "Dynamics",
    "GradientDescent",
    "Langevin",
    "PopulationControl",
    "SGD",
    "Scheme",
    "Weights",
    "dynamics_of",
    "make_scheme",
    "zero",
]


class PopulationControl(enum.Enum):
    """How birth-death keeps the number of particles."""

    UNIFORM = "uniform"
    """All events of a step first; then particles in excess are killed, missing ones duplicated, chosen uniformly."""
    PARTNER = "partner"
    """One for one: who is killed becomes a copy of, who duplicates overwrites, another particle chosen uniformly."""

    def __repr__(self) -> str:
        return str(self)


class Dynamics:
    """A part of a particle scheme."""


@dataclass(frozen=True)
class GradientDescent(Dynamics):
    """Explicit steps ``theta <- theta - ds G grad V``, ``ds = int s dt`` over the step. Alone: no events, no noise."""


@dataclass(frozen=True)
class SGD(Dynamics):
    """Gradient descent on mini-batches, for energies with a `TwoLayerNetwork`.

    Every replica draws its own batch in every step, with the probabilities of the sample weights: the gradient is
    unbiased. Other terms of the energy keep their full gradient, and so does the ``V`` of birth-death.

    Parameters
    ----------
    batch : int
        Samples a batch, at least 1.
    one_pass : bool
        Whether every sample is used at most once (online learning): the data is shuffled and run through. It must
        hold ``batch * steps`` samples, of equal weights. Otherwise samples are drawn with replacement.

    Raises
    ------
    ValueError
        On a batch below 1.

    Notes
    -----
    **Good values.** The extra diffusion is of order ``dt / batch``: it vanishes with the step, not with the number of
    particles, since all particles of a replica see one batch.
    """

    batch: int
    one_pass: bool = False

    def __post_init__(self) -> None:
        if not whole(self.batch) or not 1 <= self.batch < 2**63:
            raise ValueError(f"SGD: the batch must be an integer of at least 1, not {shown(self.batch)}")
        if not isinstance(self.one_pass, bool):
            raise ValueError(f"SGD: one_pass is True or False, not {shown(self.one_pass)}")


@dataclass(frozen=True)
class Langevin(Dynamics):
    r"""Noise of the problem's temperature, for ``tau div(G omega grad(mu/omega))``.

    .. math::  \theta \leftarrow \theta + \tau\, (\nabla\cdot G + G \nabla\log\omega)\, ds
               + \sqrt{2 \tau G\, ds}\; \xi, \qquad \xi \sim N(0, 1),

    with ``omega`` the problem's base measure, ``ds`` the integral of its schedule and ``tau`` the mean of its
    temperature over the step (annealing is a temperature that falls). At walls particles are reflected.

    Notes
    -----
    **Base measures.** Where one vanishes at a natural end like ``r^k``, r the distance, its drift ``tau k / r`` is
    singular. With ``k = r d_r log(omega) > 0`` at the particle and a natural end next to it, the step is therefore

    .. math::  r \leftarrow \sqrt{(r + \text{drift of } V + \text{noise})^2 + 2 \tau g\, ds\, \chi^2_k},

    ``chi^2_k`` a draw of the law of that name: exact in law for ``omega = r^k`` and V = 0, whatever the step, and the
    formula above up to O(ds^2) away from the end. Declare such ends natural: at truncations the drift is explicit.

    **Good values.** The stationary law has an error of first order in ``dt``: for a well of curvature k its variance is
    too large by ``k dt / 2``, relatively.
    """

    def amplitude(self, temperature: float, dt: float) -> float:
        """The standard deviation of a step where the metric is 1: ``sqrt(2 tau dt)``."""
        return float(np.sqrt(2.0 * temperature * dt))


@dataclass(frozen=True)
class BirthDeath(Dynamics):
    """Kill and duplicate: Algorithm 1 of Rotskoff, Jelassi, Bruna and Vanden-Eijnden.

    After the gradient step V is computed anew. A particle with ``r_i = f(V_i) - mean f(V) > 0`` is killed, one with
    ``r_i < 0`` duplicated, each with probability ``1 - exp(-alpha |r_i| dt)``; then the population is brought back to
    n particles. The limit of many particles and short steps is ``-alpha (f(V) - mean f(V)) mu``.

    What the problem's reaction changes: *unbalanced* takes ``r = f(V)`` and turns the change of the population into a
    change of mass; *refill* takes ``r = V`` and draws what is missing from ``mu_b``; *replace* takes ``r = max(V, 0)``
    and replaces each particle that dies by a draw from ``mu_b``.

    The *free-energy* reaction takes ``r = V + tau log(rho/omega) - mean`` with ``rho`` the kernel density estimate of
    the cloud; with `Langevin` noise that is birth-death Langevin dynamics. Since the deaths themselves relax ``rho``,
    the step counts as ``(1 - exp(-alpha tau dt)) / (alpha tau)``, which is exact for V frozen.

    Parameters
    ----------
    control : PopulationControl
        How the number of particles is kept. `PARTNER` is for the balanced reaction without reinjection.
    density : KernelDensity
        The estimate of ``rho``, for the free-energy reaction at a positive temperature. It biases the stationary state
        by O(bandwidth^2); see there.

    Notes
    -----
    **Good values.** ``alpha dt max|r|`` below 0.1: the probabilities are first order in it.
    """

    control: PopulationControl = PopulationControl.UNIFORM
    density: KernelDensity = field(default_factory=KernelDensity)

    def __post_init__(self) -> None:
        if not isinstance(self.control, PopulationControl):
            raise ValueError(f"BirthDeath: control must be a PopulationControl, not {shown(self.control)}")
        _check_density(self)

    def excess(self, values: Array, mean: Array | float) -> Array:
        """``r``: positive kills, negative duplicates."""
        return values - mean

    def probabilities(self, excess: Array, alpha: float, dt: float) -> Array:
        """The probability of an event in a step."""
        return -np.expm1(-(alpha * dt) * np.abs(excess))


@dataclass(frozen=True)
class Weights(Dynamics):
    """No events: log-weights follow ``d log w = -alpha (f(V) - mean f(V)) dt``, the mean under the weights.

    The exact exponential for V frozen over the step, as on the grid; the mass is kept to round-off, or follows
    ``d log w = -alpha f(V) dt`` where the problem is unbalanced. The free-energy reaction follows
    ``d log w = -alpha (V + tau log(rho/omega) - mean) dt``, with ``rho`` the weighted kernel density estimate.

    Parameters
    ----------
    resample : float, optional
        Resample (systematically) when the effective sample size ``(sum w)^2 / sum w^2`` falls below this fraction of
        n, in (0, 1]. Default: never; the weights then degenerate in time, look at `Cloud.ess`.
    density : KernelDensity
        As in `BirthDeath`.

    Raises
    ------
    ValueError
        On a fraction out of range.
    """

    resample: float | None = None
    density: KernelDensity = field(default_factory=KernelDensity)

    def __post_init__(self) -> None:
        if self.resample is not None and not (real(self.resample) and 0.0 < self.resample <= 1.0):
            raise ValueError(f"Weights: resample must be a fraction of n in (0, 1], not {shown(self.resample)}")
        _check_density(self)

    def change(self, values: Array, alpha: float, dt: float) -> Array:
        """What is added to the log-weights, up to a constant."""
        return (-alpha * dt) * values


@dataclass(frozen=True)
class Scheme:
    """A drift, a noise and a reaction that fit a problem.

    Attributes
    ----------
    drift : GradientDescent or SGD
    noise : Langevin or None
    reaction : BirthDeath, Weights or None
    """

    drift: GradientDescent | SGD
    noise: Langevin | None
    reaction: BirthDeath | Weights | None

    @property
    def parts(self) -> list[Dynamics]:
        """Those that there are, in the order of a step."""
        return [part for part in (self.drift, self.noise, self.reaction) if part is not None]


def dynamics_of(problem: Problem) -> tuple[Dynamics, ...]:
    """The problem's own dynamics: gradient steps, birth-death unless alpha is 0, noise unless the temperature is."""
    parts: list[Dynamics] = [GradientDescent()]
    if not zero(problem.temperature):
        parts.append(Langevin())
    if not zero(problem.alpha):
        parts.append(BirthDeath())
    return tuple(parts)


def make_scheme(problem: Problem, dynamics: Dynamics | Sequence[Dynamics] | None, steps: int) -> Scheme:
    """Sort the parts and check them against the problem.

    Raises
    ------
    ValueError
        For two parts of a kind, or a part that the problem does not allow.
    """
    if dynamics is None:
        dynamics = dynamics_of(problem)
    parts = (dynamics,) if isinstance(dynamics, Dynamics) else entries(dynamics, "dynamics")
    drift = _only(parts, (GradientDescent, SGD), "drift") or GradientDescent()
    noise = _only(parts, (Langevin,), "noise")
    reaction = _only(parts, (BirthDeath, Weights), "reaction")
    kinds = (GradientDescent, SGD, Langevin, BirthDeath, Weights)
    for part in parts:
        if not isinstance(part, kinds):
            names = ", ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"{shown(part)} is no part of a particle scheme; use {names}")
    if noise is not None and zero(problem.temperature):
        raise ValueError("Langevin noise needs a problem with temperature > 0; leave it out")
    if reaction is not None:
        if problem.reaction is Reaction.FREE_ENERGY and not zero(problem.temperature):
            if problem.species is not None:
                raise ValueError(
                    f"particles estimate one density, and {problem.species[1]!r} have several; take solve() for the "
                    "free-energy reaction, or reaction='balanced'"
                )
            reaction.density.check(problem.axes)
        if isinstance(reaction, Weights) and problem.reinjection is not None:
            raise ValueError("weights cannot put particles where there are none; use BirthDeath with reinjection")
        partner = isinstance(reaction, BirthDeath) and reaction.control is PopulationControl.PARTNER
        if partner and (problem.reinjection is not None or problem.reaction is Reaction.UNBALANCED):
            raise ValueError("one-for-one control is for the balanced reaction; use PopulationControl.UNIFORM")
    if isinstance(drift, SGD):
        networks = [term for term in problem.energy.terms if isinstance(term, TwoLayerNetwork)]
        if len(networks) != 1:
            raise ValueError(f"SGD needs an energy with one TwoLayerNetwork, this one has {len(networks)}")
        if drift.one_pass:
            samples, weights = len(networks[0].x), networks[0].weights
            if drift.batch * steps > samples:
                raise ValueError(
                    f"one pass of {steps} steps with batches of {drift.batch} needs {drift.batch * steps} samples, "
                    f"the data has {samples}; take larger steps, smaller batches, or one_pass=False"
                )
            if weights is not None and np.ptp(weights) > 1e-12 * np.max(weights):
                raise ValueError("one pass over samples of different weights is biased; use one_pass=False")
    return Scheme(drift, noise, reaction)


def _only(parts: Sequence[Dynamics], kinds: tuple[type, ...], what: str) -> Any:
    of_the_kind = [part for part in parts if isinstance(part, kinds)]
    if len(of_the_kind) > 1:
        raise ValueError(f"a scheme has one {what}, not {' and '.join(map(repr, of_the_kind))}; drop one")
    return of_the_kind[0] if of_the_kind else None


def _check_density(part: BirthDeath | Weights) -> None:
    if not isinstance(part.density, KernelDensity):
        raise ValueError(
            f"{type(part).__name__}: density must be a KernelDensity, not {shown(part.density)}; "
            "for a bandwidth h it is KernelDensity(h)"
        )


def zero(schedule: Any) -> bool:
    """Whether a schedule is 0 at all times."""
    return bool(schedule.constant and schedule(1.0) == 0.0)
