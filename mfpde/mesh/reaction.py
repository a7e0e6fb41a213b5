"""Birth-death and reinjection: the exact solution of the reaction for a frozen potential.

For ``V`` frozen, every step here is positive for any step length and conserves what the
reaction conserves. Freezing ``V`` is the stepper's business (`mfpde.mesh.methods.base`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mfpde.equation.grid import Grid
from mfpde.equation.problem import Problem, Reaction, Reinjection, ReinjectionKind
from mfpde.equation.species import Species, slices_of
from mfpde.mesh.algebra import Algebra
from mfpde.support.arguments import values_of
from mfpde.support.arrays import Array

__all__ = ["ReactionStep", "exponential_step", "free_energy_step", "make_reaction", "reinjection_step"]


def exponential_step(mu: Array, rate: Array, a: float, *, balanced: bool = True) -> Array:
    r"""Solve ``d_t mu = -(r - rbar) mu`` (balanced) or ``d_t mu = -r mu`` over a time `a`, `r` frozen.

    .. math::  \mu \leftarrow \mu\, e^{-a r} \cdot \frac{\int \mu}{\int \mu e^{-a r}}
               \qquad\text{or}\qquad \mu \leftarrow \mu\, e^{-a r}

    Parameters
    ----------
    mu : array
        Density on the cells, ``>= 0``; zeros stay zeros.
    rate : array
        ``r`` on the cells, for instance ``V`` or ``f(V)``.
    a : float
        ``alpha * dt >= 0``, of any size.
    balanced : bool
        Whether the total mass is kept; it is kept at the value it has, not reset to 1.

    Returns
    -------
    array
        A new array.

    Notes
    -----
    The exponent is shifted by the smallest rate on the support of `mu`: nothing overflows, and the cell with
    that rate keeps its value, so a tail of 1e-300 can take over the mass without a loss of digits.
    """
    if not balanced:
        return mu * np.exp(-a * rate)
    shift = float(np.min(rate, where=mu > 0, initial=np.inf))
    if shift == np.inf:  # no mass: nothing happens
        return mu.copy()
    exponent = rate - shift
    exponent *= -a
    # a cell without mass may have a rate below the shift: its exponential must not overflow
    np.minimum(exponent, 0.0, out=exponent)
    new = np.exp(exponent, out=exponent)
    new *= mu
    new *= float(mu.sum()) / float(new.sum())
    return new


def free_energy_step(mu: Array, V: Array, a: float, temperature: float, log_base: Array | None = None) -> Array:
    r"""Solve ``d_t mu = -(V + tau log(mu/omega) - mean) mu`` over a time `a`, `V` frozen.

    With the Gibbs measure ``pi = omega exp(-V/tau)`` and ``q = exp(-a tau)`` the solution is the geometric mean

    .. math::  \mu \leftarrow \mathrm{const} \cdot \mu^{\,q}\, \pi^{1-q}
               = \mathrm{const} \cdot e^{\,q \log\mu + (1-q) \log\omega - \frac{1-q}{\tau} V} .

    Parameters
    ----------
    mu : array
        Density on the cells, ``>= 0``; zeros stay zeros.
    V : array
        The potential without the entropy.
    a : float
        ``alpha * dt >= 0``, of any size.
    temperature : float
        ``tau >= 0``; at 0 this is `exponential_step`.
    log_base : array, optional
        ``log omega`` on the cells.

    Returns
    -------
    array
        A new array of the same mass.
    """
    if temperature == 0.0:
        return exponential_step(mu, V, a)
    support = mu > 0
    if not support.any():
        return mu.copy()
    kept = -np.expm1(-a * temperature)  # 1 - q, without cancellation for small a tau
    exponent = np.log(mu, where=support, out=np.zeros(mu.shape))
    exponent *= 1.0 - kept
    exponent -= V * (kept / temperature)
    if log_base is not None:
        exponent += kept * log_base
    exponent[~support] = -np.inf
    exponent -= exponent.max()
    new = np.exp(exponent, out=exponent)
    new *= float(mu.sum()) / float(new.sum())
    return new


def reinjection_step(mu: Array, V: Array, a: float, mu_b: Array, kind: ReinjectionKind) -> Array:
    r"""One step of birth-death with reinjection from ``mu_b``, ``V`` frozen, over ``a = alpha * dt``.

    What decays is multiplied by its exact exponential; the mass that the decay releases returns with
    the shape ``mu_b (1 - e^{-a r}) / (a r)``, the average over the step of what was injected and has
    decayed since (``r = V`` or ``V_+``). The step is positive and conserves mass for any `a`, exact
    where ``r = 0`` on the support of ``mu_b``, and second order in `a` elsewhere.
    """
    refill = kind is ReinjectionKind.REFILL
    rate = V if refill else np.maximum(V, 0.0)
    support = mu > 0
    if not support.any():
        return mu.copy()
    if refill and -a * float(np.min(rate, where=support, initial=np.inf)) > 500.0:
        return exponential_step(mu, rate, a)  # a gain that would overflow here
    new = mu * np.exp(-a * np.where(support, rate, 0.0))
    lost = float(mu.sum()) - float(new.sum())
    if lost < 0.0:
        return exponential_step(mu, rate, a)  # a net gain is removed uniformly, which is the balanced step
    shape = mu_b * _decay_average(a * np.where(mu_b > 0, rate, 0.0))
    new += shape * (lost / float(shape.sum()))
    return new


def _decay_average(x: Array) -> Array:
    """``(1 - exp(-x)) / x``, 1 at 0."""
    safe = np.where(x == 0.0, 1.0, x)
    return np.where(x == 0.0, 1.0, -np.expm1(-np.clip(safe, -500.0, None)) / safe)


class ReactionStep:
    """The reaction of a problem on a mesh.

    Attributes
    ----------
    balanced : bool
        Whether it conserves mass.
    free_energy : bool
        Whether ``V + tau log(mu/omega)`` takes the place of ``V``.
    mu_b : array or None
        The reinjected measure on the cells.
    species : (int, Species) or None
        The axis along which species react one by one, each with its own mass, mean and time scale.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        balanced: bool = True,
        rate: Callable[[Array], Array] | None = None,
        reinjection: Reinjection | None = None,
        point_values: bool = False,
        free_energy: bool = False,
        log_base: Array | None = None,
        algebra: Algebra | None = None,
        species: tuple[int, Species] | None = None,
    ) -> None:
        self.grid = grid
        self.species = species
        self._algebra = algebra
        self.balanced = balanced
        self.free_energy = free_energy
        self.log_base = log_base
        self.reinjection = reinjection
        self._rate = rate
        self.mu_b: Array | None = None
        if reinjection is not None:
            restricted = reinjection.measure.restrict(grid.axes)
            self.mu_b = restricted.point_values(grid) if point_values else restricted.cells(grid)

    def rate_of(self, V: Array) -> Array:
        """``f(V)``; ``V`` itself when the problem names no rate."""
        return V if self._rate is None else values_of(self._rate, V)

    def range_of(self, low: float, high: float) -> float:
        """``max f - min f`` for a potential between `low` and `high`; rates increase."""
        if self._rate is None:
            return high - low
        ends = values_of(self._rate, np.array([low, high]))
        return float(ends[1] - ends[0])

    def apply(self, mu: Array, V: Array, a: float, temperature: float = 0.0) -> Array:
        """The solution over ``a = alpha * dt`` with `V` frozen, as a new array."""
        if a == 0.0:
            return mu.copy()
        if self.species is not None:
            new = np.empty(mu.shape)
            for part, scale in self._each():
                base = None if self.log_base is None else np.broadcast_to(self.log_base, mu.shape)[part]
                new[part] = self._solution(mu[part], V[part], scale * a, temperature, base)
            return new
        return self._solution(mu, V, a, temperature, self.log_base)

    def _each(self) -> list[tuple[tuple[slice | int, ...], float]]:
        """Where the cells of each species are, and its time scale."""
        assert self.species is not None
        return list(zip(slices_of(*self.species), self.species[1].scales, strict=True))

    def _solution(self, mu: Array, V: Array, a: float, temperature: float, log_base: Array | None) -> Array:
        if self.free_energy:
            return free_energy_step(mu, V, a, temperature, log_base)
        if self.mu_b is not None:
            assert self.reinjection is not None
            return reinjection_step(mu, V, a, self.mu_b, self.reinjection.kind)
        return exponential_step(mu, self.rate_of(V), a, balanced=self.balanced)

    def dissipation(self, mu: Array, V: Array, mean: float) -> float:
        r"""``-dE/dt`` of the reaction divided by ``alpha``, that is ``int V R dmu``.

        ``Var V`` (balanced), ``Cov(f(V), V)`` (rate f), ``int V f(V) dmu`` (unbalanced),
        ``int V^2 dmu - Vbar_+ int V dmu_b - Vbar_-^2`` (refill),
        ``int V V_+ dmu - int V_+ dmu int V dmu_b`` (replace).

        Parameters
        ----------
        mean : float
            ``Vbar``, the mean of `V` under `mu` (already known to the caller).
        """
        volume = self.grid.cell_volume
        if self.species is not None:
            each = ((mu[part], V[part], scale) for part, scale in self._each() if mu[part].any())
            return sum(scale * self._dissipation(u, W, float(np.vdot(u, W) / u.sum()), volume) for u, W, scale in each)
        return self._dissipation(mu, V, mean, volume)

    def _dissipation(self, mu: Array, V: Array, mean: float, volume: float) -> float:
        if self.mu_b is not None:
            assert self.reinjection is not None
            mean_b = float(np.vdot(V, self.mu_b)) * volume
            if self.reinjection.kind is ReinjectionKind.REPLACE:
                positive = np.maximum(V, 0.0)
                killed = float(np.vdot(positive, mu)) * volume
                return float(np.vdot(positive * V, mu)) * volume - killed * mean_b
            mass = float(mu.sum()) * volume
            integral = mean * mass
            square = float(np.vdot(V * V, mu)) * volume
            return square - max(integral, 0.0) * mean_b + max(-integral, 0.0) * mean
        rate = self.rate_of(V)
        if not self.balanced:
            return float(np.vdot(V * rate, mu)) * volume
        if rate is V:
            if self._algebra is not None and self.species is None:
                return self._algebra.second_moment(mu, V, mean) * volume
            return float(np.vdot(mu, (V - mean) ** 2)) * volume
        centred = V - mean
        # Cov(f, V) = int f (V - Vbar) dmu, with f shifted by its value at Vbar against cancellation
        centred *= rate - float(self.rate_of(np.array([mean]))[0])
        return float(np.vdot(centred, mu)) * volume

    def free_dissipation(self, mu: Array, V: Array, slope: Array, temperature: float) -> float:
        r"""The same for the free energy: ``int psi R``, ``psi = V + tau log(mu/omega)`` its first variation.

        ``Cov(f(V), psi)`` (balanced), which has no sign, and ``Var psi`` (free energy).

        Parameters
        ----------
        slope : array
            ``psi`` on the cells.
        """
        volume = self.grid.cell_volume
        if self.species is not None:
            each = ((mu[part], V[part], slope[part], scale) for part, scale in self._each() if mu[part].any())
            return sum(scale * self._free_dissipation(u, W, psi, temperature, volume) for u, W, psi, scale in each)
        return self._free_dissipation(mu, V, slope, temperature, volume)

    def _free_dissipation(self, mu: Array, V: Array, slope: Array, temperature: float, volume: float) -> float:
        if self.mu_b is not None:
            assert self.reinjection is not None
            if self.reinjection.kind is ReinjectionKind.REPLACE:
                killed = np.maximum(V, 0.0) * mu
                change = killed - (float(killed.sum()) * volume) * self.mu_b
            else:
                change = V * mu
                integral, mass = float(change.sum()) * volume, float(mu.sum()) * volume
                change += (max(-integral, 0.0) / mass) * mu - max(integral, 0.0) * self.mu_b
        else:
            rate = slope if self.free_energy else self.rate_of(V)
            if self.balanced:
                rate = rate - float(np.vdot(rate, mu)) / float(mu.sum())
            else:
                slope = slope + temperature  # the mass changes: the variation of mu log mu is log mu + 1
            change = rate * mu
        return float(np.vdot(slope, change)) * volume


def make_reaction(
    problem: Problem,
    grid: Grid,
    point_values: bool,
    log_base: Array | None = None,
    algebra: Algebra | None = None,
) -> ReactionStep:
    """The `ReactionStep` of a problem."""
    return ReactionStep(
        grid,
        balanced=problem.reaction is not Reaction.UNBALANCED,
        rate=problem.rate,
        reinjection=problem.reinjection,
        point_values=point_values,
        free_energy=problem.reaction is Reaction.FREE_ENERGY,
        log_base=log_base,
        algebra=algebra,
        species=problem.one_by_one,
    )
