"""The method of lines on a `Mesh`, in NumPy's words: right-hand sides that scipy and diffrax integrate alike."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from validation.benchmarks._work import ALPHA, Mesh

__all__ = ["Lines", "right_hand_side"]


class Lines(enum.Enum):
    """A discretisation in space."""

    MUSCL = "muscl"
    """Finite volumes, van Leer's limiter, upwind by the face velocity."""
    CENTRAL = "central-6"
    """Sixth-order central differences of ``mu grad V``, the gradient from the kernel's derivative."""
    FOURIER = "fourier"
    """``mu grad V`` differentiated by FFT: it vanishes at the ends of the box."""


def right_hand_side(lines: Lines, on: Mesh, xp: Any = np) -> Callable[[Any], Any]:
    """``mu -> d mu / dt`` on the mesh, `xp` being numpy or jax.numpy."""
    transport = {Lines.MUSCL: _muscl, Lines.CENTRAL: _central, Lines.FOURIER: _fourier}[lines](on, xp)

    def rate(mu: Any) -> Any:
        V, divergence = transport(mu)
        return divergence - ALPHA * (V - (V * mu).sum() / mu.sum()) * mu

    return rate


def _muscl(on: Mesh, xp: Any) -> Callable[[Any], tuple[Any, Any]]:
    d, h = on.work.dimension, on.h

    def one(mu: Any, V: Any, axis: int) -> Any:
        def cut(values: Any, start: int | None, stop: int | None) -> Any:
            return values[(slice(None),) * axis + (slice(start, stop),)]

        velocity = -xp.diff(V, axis=axis) / h
        jump = xp.diff(mu, axis=axis)
        left, right = cut(jump, None, -1), cut(jump, 1, None)
        product = left * right
        total = left + right
        slope = xp.where(product > 0, 2 * product / xp.where(product > 0, total, 1.0), 0.0)
        rim = [(0, 0)] * d
        rim[axis] = (1, 1)
        half = 0.5 * xp.pad(slope, rim)
        face = xp.where(velocity > 0, cut(mu + half, None, -1), cut(mu - half, 1, None))
        return -xp.diff(xp.pad(velocity * face, rim), axis=axis) / h

    def transport(mu: Any) -> tuple[Any, Any]:
        V = on.potential(mu)
        return V, sum(one(mu, V, axis) for axis in range(d))

    return transport


def _central(on: Mesh, xp: Any) -> Callable[[Any], tuple[Any, Any]]:
    d, n = on.work.dimension, on.n

    def difference(flux: Any, axis: int) -> Any:
        rim = [(0, 0)] * d
        rim[axis] = (3, 3)
        wide = xp.pad(flux, rim)

        def at(k: int) -> Any:
            return wide[(slice(None),) * axis + (slice(3 + k, 3 + k + n),)]

        weights = ((1, 45 / 60), (2, -9 / 60), (3, 1 / 60))
        return sum(w * (at(k) - at(-k)) for k, w in weights) / on.h

    def transport(mu: Any) -> tuple[Any, Any]:
        V, *gradient = on.gradient(mu)
        return V, sum(difference(mu * g, axis) for axis, g in enumerate(gradient))

    return transport


def _fourier(on: Mesh, xp: Any) -> Callable[[Any], tuple[Any, Any]]:
    d, n = on.work.dimension, on.n
    if xp is np:
        from scipy import fft
    else:
        fft = xp.fft
    k = 2j * np.pi * np.fft.rfftfreq(n, on.h)
    if n % 2 == 0:
        k[-1] = 0.0
    factors = [k.reshape((1,) * axis + (-1,) + (1,) * (d - 1 - axis)) for axis in range(d)]

    def transport(mu: Any) -> tuple[Any, Any]:
        V, *gradient = on.gradient(mu)
        return V, sum(
            fft.irfft(factors[axis] * fft.rfft(mu * g, axis=axis), n=n, axis=axis) for axis, g in enumerate(gradient)
        )

    return transport
