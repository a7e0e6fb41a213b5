"""The method of lines on a `Mesh`, in NumPy's words: right-hand sides that scipy and diffrax integrate alike."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from validation.benchmarks._work import ALPHA, Mesh

__all__ = ["Lines", "central_weights", "right_hand_side", "second_weights"]


class Lines(enum.Enum):
    """A discretisation in space."""

    MUSCL = "muscl"
    """Finite volumes, van Leer's limiter, upwind by the face velocity."""
    CENTRAL_2 = "central-2"
    """Central differences of ``mu grad V``, the gradient from the kernel's derivative; nothing limits their sign."""
    CENTRAL_4 = "central-4"
    """The same of order four."""
    CENTRAL_6 = "central-6"
    """The same of order six."""
    CENTRAL_8 = "central-8"
    """The same of order eight."""
    FOURIER = "fourier"
    """``mu grad V`` differentiated by FFT: it vanishes at the ends of the box."""

    @property
    def order(self) -> int:
        """Order of the central differences; 0 for the others."""
        return int(self.value[-1]) if self.name.startswith("CENTRAL") else 0


def central_weights(order: int) -> list[float]:
    """Weights of ``f(x + k h) - f(x - k h)``, k = 1, 2, .., in h times the central difference of an even order.

    They are ``(-1)^(k+1) m!^2 / (k (m-k)! (m+k)!)`` with m half of the order (Fornberg 1988, equation 3.5).
    """
    m = order // 2
    square = math.factorial(m) ** 2
    return [(-1) ** (k + 1) * square / (k * math.factorial(m - k) * math.factorial(m + k)) for k in range(1, m + 1)]


def second_weights(order: int) -> list[float]:
    """Weights of ``f(x + k h) - 2 f(x) + f(x - k h)``, k = 1, 2, .., in h^2 times the second difference of an order.

    They are twice those of `central_weights`, divided by k (Fornberg 1988, table 1).
    """
    return [2.0 * weight / k for k, weight in enumerate(central_weights(order), start=1)]


def right_hand_side(lines: Lines, on: Mesh, xp: Any = np) -> Callable[[Any], Any]:
    """``mu -> d mu / dt`` on the mesh, `xp` being numpy or jax.numpy."""
    if on.work.temperature and not lines.order:
        raise ValueError(f"{lines.value} has no temperature, {on.work.value} has {on.work.temperature:g}")
    if lines.order:
        transport = _central(on, xp, lines.order)
    else:
        transport = {Lines.MUSCL: _muscl, Lines.FOURIER: _fourier}[lines](on, xp)

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


def _central(on: Mesh, xp: Any, order: int) -> Callable[[Any], tuple[Any, Any]]:
    d, n, m = on.work.dimension, on.n, order // 2
    tau = on.work.temperature
    weights = [weight / on.h for weight in central_weights(order)]
    seconds = [tau * weight / on.h**2 for weight in second_weights(order)]

    def shifted(values: Any, axis: int) -> Callable[[int], Any]:
        rim = [(0, 0)] * d
        rim[axis] = (m, m)
        wide = xp.pad(values, rim)
        return lambda k: wide[(slice(None),) * axis + (slice(m + k, m + k + n),)]

    def difference(flux: Any, axis: int) -> Any:
        at = shifted(flux, axis)
        return sum(w * (at(k) - at(-k)) for k, w in enumerate(weights, start=1))

    def spread(mu: Any, axis: int) -> Any:
        at = shifted(mu, axis)
        return sum(w * (at(k) + at(-k)) for k, w in enumerate(seconds, start=1)) - 2 * sum(seconds) * mu

    def transport(mu: Any) -> tuple[Any, Any]:
        V, *gradient = on.gradient(mu)
        divergence = sum(difference(mu * g, axis) for axis, g in enumerate(gradient))
        if tau:
            divergence = divergence + sum(spread(mu, axis) for axis in range(d))
        return V, divergence

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
