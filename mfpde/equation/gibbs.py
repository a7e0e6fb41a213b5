"""Entropy on a mesh, and the Gibbs measures that minimise it.

All sums run over cells: with ``p_mu`` the proximal Gibbs measure of ``mu``, the inequality
``E[mu] - min E <= tau KL(mu | p_mu)`` (convex ``E``) holds for these sums exactly, not to the
order of a scheme. In one line, with ``E = E_0 + tau Ent`` and ``nu`` any measure of the same mass,

    E[nu] >= E_0[mu] + <V, nu - mu> + tau Ent(nu) >= E[mu] - tau KL(mu | p_mu),

the last step because ``p_mu`` minimises ``<V, nu> + tau Ent(nu)``.
"""

from __future__ import annotations

import numpy as np

from mfpde.support.arrays import Array

__all__ = ["entropy", "log_gibbs", "relative_entropy"]


def log_gibbs(
    V: Array, temperature: float, volume: float, *, log_base: Array | None = None, mass: float = 1.0
) -> Array:
    r"""Logarithm of the Gibbs density ``p \propto \omega e^{-V/\tau}`` of a given mass on a mesh.

    Parameters
    ----------
    V : array
        Potential on the cells.
    temperature : float
        ``tau > 0``.
    volume : float
        Cell volume.
    log_base : array, optional
        ``log omega`` on the cells; default 0.
    mass : float
        ``sum(p) * volume``.

    Returns
    -------
    array
        Finite also where the density itself underflows.
    """
    log_p = V * (-1.0 / temperature)
    if log_base is not None:
        log_p += log_base
    log_p -= float(log_p.max())  # first: a large common constant would cost digits
    log_p += np.log(mass / (float(np.exp(log_p).sum()) * volume))
    return log_p


def entropy(mu: Array, volume: float, log_base: Array | None = None) -> float:
    """``int log(mu/omega) dmu`` on a mesh; empty cells count zero."""
    return relative_entropy(mu, 0.0 if log_base is None else log_base, volume)


def relative_entropy(mu: Array, log_p: Array | float, volume: float) -> float:
    """``KL(mu | p) = int log(mu/p) dmu`` on a mesh, `p` by its logarithm; empty cells count zero."""
    log_ratio = np.log(mu, where=mu > 0, out=np.zeros_like(mu))
    log_ratio -= log_p
    return float(np.vdot(mu, log_ratio)) * volume
