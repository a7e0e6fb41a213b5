"""A two-layer network on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mfpde.equation.energy import TwoLayerNetwork
from mfpde.equation.grid import Axis
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem
from mfpde.problems.ranges import positive
from mfpde.support.arguments import numbers, shown

__all__ = ["network"]


def network(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    activation: Any = "tanh",
    loss: Any = "squared",
    amplitude: bool = True,
    bias: bool = True,
    half_width: float | Sequence[float] = 4.0,
    initial: Measure | None = None,
    alpha: float = 1.0,
    temperature: float = 0.0,
    t_end: float = 5.0,
    tolerance: float = 1e-12,
    name: str = "network",
) -> Problem:
    r"""A two-layer network ``f(x) = int c sigma(a . x + b) dmu(c, a, b)`` trained on data ``(x_j, y_j)``.

    .. math:: E = \sum_j w_j\, \ell(f(x_j), y_j), \qquad \sum_j w_j = 1

    Parameters
    ----------
    x : array, shape (m,) or (m, p)
        Inputs; the box resolves weights of order ``half_width``, so standardise them.
    y : array, shape (m,) or (m, q)
        Outputs; each of the ``q`` outputs has an amplitude axis of its own.
    weights : array, shape (m,), optional
        Sample weights, normalised to sum 1.
    activation, loss : str or object
        See `mfpde.TwoLayerNetwork`.
    amplitude, bias : bool
        Whether the units have an amplitude ``c`` and a bias ``b``.
    half_width : float or sequence of float
        The box is ``[-half_width, half_width]`` along each axis.
    initial : Measure, optional
        Default: independent centred Gaussians of standard deviation ``half_width / 8``.
    alpha : float
        Birth-death rate.
    temperature : float
        Of the noise in the training; 0, the default, is none.
    t_end : float
    tolerance : float
        Of the compression of the samples.
    name : str

    Notes
    -----
    Axes are called ``c`` (``c1, c2, ..``), ``a`` (``a1, a2, ..``) and ``b``. A mesh holds at most 4 of them: inputs
    of one or two components, or a projection of the data.

    **Good values.** 32 cells an axis for a look, 64 for two digits.
    """
    inputs, outputs = numbers(x, "data: x"), numbers(y, "data: y")
    if inputs.ndim not in (1, 2) or outputs.ndim not in (1, 2):
        raise ValueError(f"data must be x (M,) or (M, p) and y (M,) or (M, q), not {inputs.shape} and {outputs.shape}")
    for option, value in (("amplitude", amplitude), ("bias", bias)):
        if not isinstance(value, bool):
            raise ValueError(f"{option} is True or False, not {shown(value)}")
    p = 1 if inputs.ndim == 1 else inputs.shape[1]
    q = 1 if outputs.ndim == 1 else outputs.shape[1]
    names = (_names("c", q) if amplitude else []) + _names("a", p) + (["b"] if bias else [])
    roles = ["amplitude"] * (q if amplitude else 0) + ["weight"] * p + (["bias"] if bias else [])
    if len(names) > 4:
        raise ValueError(
            f"{len(names)} parameters a neuron ({', '.join(names)}) are more than the 4 axes a mesh can hold; "
            "project the inputs onto fewer components, or drop the bias"
        )
    widths = _half_widths(half_width, names)
    energy = TwoLayerNetwork(
        inputs,
        outputs,
        weights=None if weights is None else numbers(weights, "the sample weights"),
        activation=activation,
        loss=loss,
        axes=tuple(names),
        roles=tuple(roles),
        tolerance=tolerance,
    )
    if initial is None:
        from scipy import stats

        initial = Product(**{axis: stats.norm(0, width / 8) for axis, width in zip(names, widths, strict=True)})
    return Problem(
        energy=energy,
        axes=[Axis(axis, -width, width) for axis, width in zip(names, widths, strict=True)],
        initial=initial,
        alpha=alpha,
        temperature=temperature,
        t_end=t_end,
        name=name,
        shape={1: (200,), 2: (96, 96), 3: (32, 32, 32), 4: (20, 20, 20, 20)}[len(names)],
    )


def _half_widths(half_width: float | Sequence[float], names: list[str]) -> list[float]:
    """Half the width of the box along each axis."""
    values = numbers(half_width, "half_width")
    if values.shape not in ((), (1,), (len(names),)):
        wanted = f"one number, or one for each of {', '.join(names)}"
        raise ValueError(f"half_width must be {wanted}, not {shown(half_width)}")
    widths = [float(width) for width in np.broadcast_to(values, len(names))]
    positive(**{f"half_width of axis {axis!r}": width for axis, width in zip(names, widths, strict=True)})
    return widths


def _names(letter: str, n: int) -> list[str]:
    return [letter] if n == 1 else [f"{letter}{i}" for i in range(1, n + 1)]
