"""Panels of what a network gives, beside its target or its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.energy import TwoLayerNetwork
from mfpde.support.arrays import Array
from mfpde.support.figures import BLUE, GREEN, GREY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mfpde.equation.problem import Problem

__all__ = ["against_truth", "backdrop", "has_output", "output_lines", "shown_inputs"]

SCATTER = 2000
"""Data points drawn at most."""


def has_output(problem: Problem | None) -> bool:
    """Whether there is a network's output to draw: one with inputs on a line, or with true values."""
    network = None if problem is None else problem.network
    if problem is None or network is None or network.inputs is None:
        return False
    x, truth, _ = shown_inputs(problem)
    return x.ndim == 1 or x.shape[1] == 1 or truth is not None


def shown_inputs(problem: Problem | None) -> tuple[Array, Array | None, tuple[Array, Array] | None]:
    """Where the output is drawn, the true values there if they are known, and the data if there is any."""
    assert problem is not None
    assert problem.network is not None
    network, inputs = problem.network, np.asarray(problem.network.inputs, dtype=float)
    terms = [term for term in problem.energy.terms if isinstance(term, TwoLayerNetwork)]
    chosen = np.linspace(0, len(inputs) - 1, min(len(inputs), SCATTER)).astype(int)
    data = None
    if terms:
        x = np.asarray(terms[0].x)
        thinned = np.linspace(0, len(x) - 1, min(len(x), SCATTER)).astype(int)
        data = (x[thinned], np.asarray(terms[0].y)[thinned])
    if inputs.ndim == 2 and inputs.shape[1] > 1:
        if data is not None:
            return data[0], data[1], data
        inputs = inputs[chosen]
        return inputs, None if network.target is None else np.asarray(network.target(inputs)), None
    column = inputs.ravel()
    if data is not None or len(column) > 400 or np.any(np.diff(column) < 0):
        column = np.linspace(column.min(), column.max(), 201)
    x = column[:, None] if inputs.ndim == 2 else column
    return x, None if network.target is None else np.asarray(network.target(x)), data


def output_lines(ax: Axes, x: Array, values: Array, alpha: float, label: str, style: str) -> list[Any]:
    """Draw outputs, shape (m, q), over inputs on a line: a line for each component, three at most."""
    columns = values.reshape(len(x), -1)
    lines = []
    for j, colour in zip(range(columns.shape[1]), (BLUE, VERMILION, GREEN), strict=False):
        name = label if columns.shape[1] == 1 else f"{label}, output {j + 1}"
        lines += ax.plot(x.ravel(), columns[:, j], color=colour, ls=style, alpha=alpha, lw=2.0, label=name)
    return lines


def backdrop(x: Array, truth: Array | None, data: tuple[Array, Array] | None, ax: Axes) -> None:
    """What the output should be."""
    if data is not None:
        points = data[1].reshape(len(data[1]), -1)
        for j in range(points.shape[1]):
            ax.plot(data[0].ravel(), points[:, j], ".", color=GREY, ms=5, alpha=0.5, mew=0, label="_" if j else "data")
    if truth is not None:
        for j, column in enumerate(truth.reshape(len(x), -1).T):
            ax.plot(x.ravel(), column, color="black", ls="--", lw=1.3, label="_" if j else "target")
    ax.set(xlabel="input x", ylabel="output f(x)")
    ax.set_title("network output", fontsize=10)


def against_truth(x: Array, predicted: Array, truth: Array, ax: Axes) -> None:
    """Draw outputs against their true values, where inputs have several components."""
    truth = truth.reshape(len(x), -1)
    predicted = predicted.reshape(len(x), -1)
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    ax.plot(ends, ends, color="black", ls="--", lw=1.2)
    for j, colour in zip(range(truth.shape[1]), (BLUE, VERMILION, GREEN), strict=False):
        label = f"output {j + 1}" if truth.shape[1] > 1 else "_"
        ax.plot(truth[:, j], predicted[:, j], ".", color=colour, ms=5, alpha=0.5, mew=0, label=label)
    ax.set(xlabel="true value", ylabel="predicted value")
    if truth.shape[1] > 1:
        ax.legend(frameon=False, fontsize=9)
