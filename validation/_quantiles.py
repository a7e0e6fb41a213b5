"""Ultra-fast diffusion as an equation of quantiles, by Fourier series in their level: no density and no mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantile_energy", "quantiles", "spectral_gap"]

Array = NDArray[np.float64]
TURN = 2 * np.pi


def _slope(values: Array) -> Array:
    """The derivative of a function of period 1 on n equal steps."""
    n = len(values)
    return np.fft.irfft(
        1j * TURN * np.fft.rfftfreq(n, 1 / n) * np.fft.rfft(values) * (np.arange(n // 2 + 1) < n / 2), n
    )


def _ratio(target: Callable[[Array], Array], X: Array) -> Array:
    """``mu*(X) X_s``, which is ``mu*/mu`` at X."""
    level = np.arange(len(X)) / len(X)
    return target(X) * (_slope(X - TURN * level) + TURN)


def quantiles(target: Callable[[Array], Array], times: Array, n: int) -> Array:
    """X(s, t), s = 0, 1/n, .., of ``X_t = mu*(X) d_s(mu*(X) X_s)`` from the uniform measure on a circle: (times, n)."""
    from scipy.integrate import solve_ivp

    start = TURN * np.arange(n) / n - np.pi
    run = solve_ivp(
        lambda t, X: target(X) * _slope(_ratio(target, X)),
        (0.0, times[-1]),
        start,
        "BDF",
        times,
        rtol=1e-9,
        atol=1e-11,
    )
    return np.asarray(run.y.T)


def quantile_energy(target: Callable[[Array], Array], X: Array) -> float:
    """``1/2 int mu*^2/mu``."""
    return 0.5 * float(np.mean(_ratio(target, X) ** 2))


def spectral_gap(target: Callable[[Array], Array], n: int) -> tuple[float, Callable[[Array], Array]]:
    """The least eigenvalue above 0 of ``-(mu* h')' = k mu* h`` on the circle, by 2 n + 1 harmonics, and h."""
    from scipy.linalg import eigh

    c = np.fft.fft(target(np.arange(8 * n) * TURN / (8 * n))) / (8 * n)
    k = np.arange(-n, n + 1)
    mass = c[k[:, None] - k]
    values, vectors = eigh(k[:, None] * k * mass, mass, subset_by_index=[0, 1])
    # a real function up to a phase, which the coefficients of a harmonic and of its conjugate tell
    phase = vectors[n + 1, 1] * vectors[n - 1, 1]
    real = vectors[:, 1] * np.sqrt(np.conj(phase) / abs(phase))
    return float(values[1]), lambda x: np.asarray((np.exp(1j * np.multiply.outer(x, k)) @ real).real)
