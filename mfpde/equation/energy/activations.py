"""Activations sigma(t) of a unit, with their derivatives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfpde.equation.energy.base import central_difference
from mfpde.support.arguments import shown, whole
from mfpde.support.arrays import Array
from mfpde.support.callables import values_at
from mfpde.support.travel import Portable

__all__ = ["ACTIVATIONS", "Activation", "activation_named", "hermite"]


@dataclass(frozen=True)
class Activation(Portable):
    """An activation: a function of one number, applied to arrays.

    Parameters
    ----------
    function : callable
        sigma, elementwise.
    derivative : callable, optional
        sigma', elementwise. Without it, 6-th order central differences of step 0.005.
    name : str
        For display.
    discontinuous_derivative : bool
        Whether sigma' jumps, as that of relu does: velocities may then jump, and schemes are of low order there.

    Examples
    --------
    >>> softplus = Activation(lambda t: np.logaddexp(0, t), lambda t: 1 / (1 + np.exp(-t)), "softplus")
    >>> float(softplus(np.array(0.0)).round(6))
    0.693147
    """

    function: Callable[[Array], Array]
    derivative: Callable[[Array], Array] | None = None
    name: str = "custom"
    discontinuous_derivative: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function) or not (self.derivative is None or callable(self.derivative)):
            raise TypeError("an activation needs a function and, better, its derivative, both of one array")
        if not isinstance(self.name, str):
            raise ValueError(f"the name of an activation is text, not {shown(self.name)}")

    def __call__(self, t: Array) -> Array:
        """sigma(t)."""
        return values_at(self.function, (np.asarray(t),), f"the function of {self!r}")

    def slope(self, t: Array) -> Array:
        """sigma'(t)."""
        if self.derivative is None:
            return central_difference(self.__call__, t, 5e-3)
        return values_at(self.derivative, (np.asarray(t),), f"the derivative of {self!r}")

    def __repr__(self) -> str:
        return f"Activation({self.name})"


def _sech2(t: Array) -> Array:
    value = np.tanh(t)
    return (1.0 - value) * (1.0 + value)


def _sigmoid(t: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(t))


def _sigmoid_slope(t: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(t) * expit(-t))


def _erf(t: Array) -> Array:
    from scipy.special import erf

    return np.asarray(erf(t))


def _erf_slope(t: Array) -> Array:
    return np.asarray((2.0 / math.sqrt(math.pi)) * np.exp(-t * t))


def _relu(t: Array) -> Array:
    return np.maximum(t, 0.0)


def _step(t: Array) -> Array:
    return np.where(t > 0, 1.0, 0.0)


def _gaussian(t: Array) -> Array:
    return np.asarray(np.exp(-0.5 * t * t))


def _gaussian_slope(t: Array) -> Array:
    return np.asarray(-t * np.exp(-0.5 * t * t))


def _hermite(t: Array, k: int) -> Array:
    previous, current = np.zeros_like(t, dtype=float), np.ones_like(t, dtype=float)
    for j in range(k):  # sqrt(j+1) he_{j+1} = t he_j - sqrt(j) he_{j-1}
        previous, current = current, (t * current - math.sqrt(j) * previous) / math.sqrt(j + 1)
    return current


def _hermite_slope(t: Array, k: int) -> Array:
    return math.sqrt(k) * _hermite(t, k - 1) if k else np.zeros_like(t, dtype=float)


def hermite(degree: int) -> Activation:
    """The orthonormal probabilists' Hermite polynomial ``He_k(t) / sqrt(k!)``.

    For standard Gaussian inputs and unit weights w, w', ``E he_k(w.x) he_k(w'.x) = (w.w')^k``.

    Parameters
    ----------
    degree : int
        k, from 0 to 1000; above about 30 it overflows for arguments of size 10 and more.

    Raises
    ------
    ValueError
        On a degree that is no integer in this range.
    """
    if not whole(degree) or not 0 <= degree <= MAX_DEGREE:
        limits = f"an integer from 0 to {MAX_DEGREE}"
        raise ValueError(f"the degree of a Hermite activation must be {limits}, not {shown(degree)}")

    k = int(degree)
    return Activation(functools.partial(_hermite, k=k), functools.partial(_hermite_slope, k=k), f"hermite{k}")


MAX_DEGREE = 1000
"""Of a Hermite polynomial: the recurrence takes a pass over the array for each degree."""

ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(np.tanh, _sech2, "tanh"),
    "relu": Activation(_relu, _step, "relu", True),
    "sigmoid": Activation(_sigmoid, _sigmoid_slope, "sigmoid"),
    "erf": Activation(_erf, _erf_slope, "erf"),
    "sin": Activation(np.sin, np.cos, "sin"),
    "gaussian": Activation(_gaussian, _gaussian_slope, "gaussian"),
}
"""The activations that have a name; ``hermite4`` and the like are understood besides."""


def activation_named(activation: str | Activation) -> Activation:
    """An activation by its name (an object is passed through); unknown names are refused with the list."""
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str):
        if activation in ACTIVATIONS:
            return ACTIVATIONS[activation]
        if activation.startswith("hermite") and activation[7:].isdecimal() and len(activation) < 20:
            return hermite(int(activation[7:]))
    names = ", ".join([*ACTIVATIONS, "hermite<k>"])
    raise ValueError(f"unknown activation {shown(activation)}; known are {names}, or pass an Activation object")
