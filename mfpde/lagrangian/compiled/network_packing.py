r"""What moves the nodes of a two-layer network, as numbers, and how they lie in one array for the compiled program.

.. math:: u_{mq} = \int c_q\, \sigma(z \cdot x_m)\, d\mu, \qquad V(c, z) = \sum_{mq} s_{mq}\, c_q\, \sigma(z \cdot x_m)
          + \sum_a v_a(\theta_a)

for few inputs ``x_m``, of which one component may be the 1 of a bias, with ``s = A' L'(A u)`` of a loss L. The
activation is a table, and so are the given functions ``v`` of one coordinate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mfpde.lagrangian.compiled.packing import AXIS, NODES, filled
from mfpde.support.arrays import Array
from mfpde.support.interpreted import FEW

__all__ = ["AMPLITUDES", "DIRECTIONS", "NETWORK_HEAD", "NetworkMotion", "UnitsSeen", "network_room"]

DIRECTIONS = 4
"""Inner axes for which there is room, and outputs."""
AMPLITUDES = 24
"""Where the axes of the amplitudes stand in what `NetworkMotion.packed` gives; behind them those of the inner axes."""
NETWORK_HEAD = AMPLITUDES + 2 * DIRECTIONS
"""Numbers before what tells of the axes there."""


class NetworkMotion(NamedTuple):
    """What moves the nodes of a network, as numbers.

    Attributes
    ----------
    table : array, shape (pieces, order)
        The activation: coefficients of powers of ``t`` in [-1, 1] on each piece; the order is 4 or 8.
    ends : (float, float)
        Of the arguments that it is made for.
    inputs : array, shape (k, r)
        What each inner coordinate is multiplied with, for each of the inputs.
    inner : tuple of int
        The axes of the inner coordinates.
    amplitudes : tuple of int
        The axes of the amplitudes, one an output; none where the units have none.
    axes : tuple of (float, float, bool)
        Lower end, upper end, and whether it is periodic, of each axis.
    metric : tuple of float
        Numbers that are factors of the velocities.
    own : tuple of array, shape (pieces, order, functions)
        Functions of one coordinate, for each axis: its part of what is given of the potential, and behind it, for each
        axis, its factor of the velocity there. Empty where nothing is given.
    scaled : bool
        Whether there are such factors.
    loss : int
        `QUADRATIC`, `LOGISTIC` or `HUBER`, see `mfpde.lagrangian.compiled.packing`.
    matrix : array, shape (M, r)
        A.
    weights, targets : array, shape (q, M)
        Of the outputs. The derivative of a squared loss is ``weights * o - targets``.
    delta : float
        Where Huber losses turn linear.
    constant : float
        What the energy has besides the loss and the given functions.
    reacts, balanced : bool
    """

    table: Array
    ends: tuple[float, float]
    inputs: Array
    inner: tuple[int, ...]
    amplitudes: tuple[int, ...]
    axes: tuple[tuple[float, float, bool], ...]
    metric: tuple[float, ...]
    own: tuple[Array, ...]
    scaled: bool
    loss: int
    matrix: Array
    weights: Array
    targets: Array
    delta: float
    constant: float
    reacts: bool
    balanced: bool

    @property
    def outputs(self) -> int:
        """How many numbers losses are of."""
        return self.targets.size

    @property
    def width(self) -> int:
        """How many inputs there are, in full vectors."""
        return filled(self.inputs.shape[1])

    def packed(self) -> Array:
        """All of it in one array."""
        pieces, order = self.table.shape
        (k, r), d, (low, high) = self.inputs.shape, len(self.axes), self.ends
        scale, q = pieces / (high - low), len(self.targets)
        inputs = np.zeros((DIRECTIONS, self.width))
        inputs[:k, :r] = scale * self.inputs
        matrix = np.zeros((len(self.matrix), self.width))
        matrix[:, :r] = self.matrix
        given = [np.ravel(own) for own in self.own]
        # of a piece from -1/2 to 1/2, counted by their middles
        table = self.table * 2.0 ** np.arange(order)
        arrays = [table, inputs, matrix, self.weights, self.targets, *given]
        starts = NETWORK_HEAD + (AXIS + 2) * d + np.concatenate([[0], np.cumsum([array.size for array in arrays])])
        head = [d, k, q, bool(self.amplitudes), self.width, pieces, order, -low * scale - 0.5]
        head += [self.own[0].shape[2] if self.own else 0, self.scaled, self.loss, len(self.matrix), self.delta]
        head += [self.constant, 2.0 * self.reacts + self.balanced, *starts[:5]]
        head += [0.0] * (AMPLITUDES - len(head))
        for named in (self.amplitudes, self.inner):
            head += [*named, *[0.0] * (DIRECTIONS - len(named))]
        rows: list[float] = []
        for a, (lower, upper, periodic) in enumerate(self.axes):
            count, own_order, functions = self.own[a].shape if self.own else (1, 1, 0)
            rows += [count, own_order, functions, lower, upper, count / (upper - lower), periodic, a]
        for a in range(d):  # where its functions begin, and its factor
            rows += [starts[5 + a] if self.own else 0.0, self.metric[a]]
        return np.concatenate([np.array([*head, *rows], dtype=float), *(np.ravel(array) for array in arrays)])


def network_room(motion: NetworkMotion, n: int, size: int, stages: int) -> int:
    """How many numbers of `NetworkWork`, all 0, a run of `n` nodes and a state of some size takes."""
    d, q, width = len(motion.axes), len(motion.targets), motion.width
    functions = motion.own[0].shape[2] if motion.own else 0
    by_node = (n + FEW) * (2 * width + DIRECTIONS + q)
    by_input = width * (q * (2 + DIRECTIONS) + 2)
    return (stages + 2) * size + n + by_node + by_input + NODES * (2 * d * functions + 3) + 64


class UnitsSeen:
    """What evaluating leaves in the room of a run.

    Parameters
    ----------
    motion : NetworkMotion
    n, size, stages : int
        Of nodes, of entries of a state, and of stages, see `network_room`.
    """

    def __init__(self, motion: NetworkMotion, n: int, size: int, stages: int) -> None:
        self._width, self._outputs, self._amplified = motion.width, len(motion.targets), bool(motion.amplitudes)
        self._units = (stages + 2) * size + n
        self._places = self._units + (n + FEW) * 2 * self._width
        self._amplitudes = self._places + DIRECTIONS * (n + FEW) + np.arange(self._outputs) * (n + FEW)
        self._slopes = self._places + (DIRECTIONS + self._outputs) * (n + FEW) + self._outputs * self._width

    def read(self, space: Array) -> tuple[Array, Array]:
        """How V changes with a unit at each input, and the units of the first node, times its amplitudes.

        Returns
        -------
        slopes, values : array, shape (outputs, width)
        """
        shape = self._outputs, 1 + DIRECTIONS, self._width
        slopes = space[self._slopes : self._slopes + math.prod(shape)].reshape(shape)[:, 0]
        c = space[self._amplitudes] if self._amplified else np.ones(self._outputs)
        return slopes, np.outer(c, space[self._units : self._units + self._width])
