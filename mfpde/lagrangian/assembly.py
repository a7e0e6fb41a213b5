"""A problem's potential as tables and coefficients of the compiled program, kept with the problem."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.gradients import probe_points
from mfpde.equation.energy.losses import HuberLoss, LogisticLoss
from mfpde.equation.problem import Problem
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.bulk import Bulk
from mfpde.lagrangian.compiled.network_packing import NetworkMotion, network_room
from mfpde.lagrangian.compiled.packing import (
    HUBER,
    LOGISTIC,
    QUADRATIC,
    BlockRow,
    Motion,
    filled,
    products_of_a_node,
    room,
)
from mfpde.lagrangian.networks import from_network_tables, has_wide_network, network_motion
from mfpde.lagrangian.nodes import Dynamics, Engine
from mfpde.lagrangian.separated import Block, blocks_of, products_of
from mfpde.lagrangian.tables import RoughError, table_of
from mfpde.support.arrays import Array
from mfpde.support.interpreted import FEW
from mfpde.support.words import one_line

T = TypeVar("T", bound=np.generic)

__all__ = ["Lane", "engine_of", "from_tables", "lane_of", "refuse_tables"]

INPUT = 3.0
"""What looking up a unit at an input costs, in products of functions."""
FINEST = 1e-13
"""Tables are no more accurate than this: rounding is not."""
PROBES = 64
"""Points at which tables are held against what they stand for."""
VALUES, ROUNDING = 10.0, 1e-11
"""How far potentials may be apart: so many times the accuracy, and so much for rounding."""
SLOPES, SMALL = 1e-5, 1e-12
"""How much farther velocities may be apart, which is what a user's gradient is held to as well; and which are none."""
CONSTANT, MOST_CONSTANT = {1: 24, 2: 16, 3: 10, 4: 5}, 1000
"""Nodes along each axis at which the energy's constant is found, and how many of them at most."""
MOST_BULKS = 16
"""Tables for where the mass of a run is, at most, that are kept with a problem: the last ones."""
FINER = (1.0, 0.1, 0.01)
"""Accuracies of the functions that are tried, as shares of that of the potential."""

Key = tuple[int, bool, Bulk | None]
"""By what tables are kept: digits, whether second derivatives are as accurate, and where the mass is."""

_refused: weakref.WeakKeyDictionary[Problem, str] = weakref.WeakKeyDictionary()
_lanes: weakref.WeakKeyDictionary[Problem, dict[Key, Lane | str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Lane:
    """A problem's tables.

    Attributes
    ----------
    motion : Motion or NetworkMotion
        Without the birth-death rate and f, which come with a run.
    packed : array
        The same in one array.
    accuracy : float
    text : str
        What it is made of.
    outputs : int
        How many numbers a run's moments are.
    work : float
        Products of functions that an evaluation takes for a node.
    rates : dict
        Tables of the birth-death rate, or why there is none, by the clock values between which they are and the end of
        the run: these are filled by runs.
    """

    motion: Motion | NetworkMotion
    packed: Array
    accuracy: float
    text: str
    outputs: int
    work: float
    rates: dict[tuple[float, float, float], Array | str] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """How many entries the matrices have that make outputs of moments: work that is no node's."""
        motion = self.motion
        return motion.matrix.size if isinstance(motion, NetworkMotion) else motion.matrices.size

    def seconds(self, n: float) -> float:
        """How long an evaluation takes for `n` nodes, about."""
        return 5e-6 + 1e-9 * self.entries + n * (8e-8 + 4e-10 * self.work)

    def room(self, n: int, size: int, stages: int) -> int:
        """How many numbers of room, all 0, a run of `n` nodes and a state of some size takes."""
        if isinstance(self.motion, NetworkMotion):
            return network_room(self.motion, n, size, stages)
        return room(self.motion, n, size, stages)


def lane_of(dynamics: Dynamics, accuracy: float, curved: bool = False, bulk: Bulk | None = None) -> Lane | str:
    """The tables of a problem to an accuracy, made when first asked for, or why there are none.

    Parameters
    ----------
    dynamics : Dynamics
    accuracy : float
        How far the velocity may be off, relative to the largest; what is made is as accurate or up to ten times more.
    curved : bool
        Whether its divergence is to be as accurate.
    bulk : Bulk, optional
        Where the mass of a run is: elsewhere the tables are less accurate. Default: they are the same everywhere.
    """
    if dynamics.problem.species is not None:
        return "labels of species are no numbers to tabulate along"
    if dynamics.problem in _refused:
        return _refused[dynamics.problem]
    digits = math.ceil(-math.log10(max(accuracy, FINEST)) - 1e-9)
    kept = _lanes.setdefault(dynamics.problem, {})
    key = digits, curved, bulk
    found = kept.get(key)
    if found is None:
        others = [other for other in list(kept) if other[2] is not None]
        if bulk is not None and len(others) >= MOST_BULKS:
            kept.pop(others[0], None)
        try:
            with np.errstate(all="ignore"):
                found = _made(dynamics, 10.0**-digits, curved, bulk)
        except RoughError as error:
            found = str(error)
        except MemoryError:
            raise
        except Exception as error:  # whatever a user's function does where no node may ever go
            found = f"a function of the problem cannot be tabulated ({one_line(error)})"
        kept[key] = found
    return found


def refuse_tables(problem: Problem, reason: str) -> None:
    """Let a problem have no tables from now on, whatever the accuracy: what they miss is seen where its nodes go."""
    _refused[problem] = reason


def engine_of(dynamics: Dynamics, accuracy: float) -> Engine:
    """What moves a problem's nodes at an accuracy, and why."""
    lane = lane_of(dynamics, accuracy)
    return Engine(False, lane) if isinstance(lane, str) else Engine(True, lane.text)


def _made(dynamics: Dynamics, accuracy: float, curved: bool, bulk: Bulk | None) -> Lane:
    if has_wide_network(dynamics.bound):
        try:
            return _tried(dynamics, accuracy, bulk, lambda finer: _of_network(dynamics, finer, curved, bulk))
        except RoughError:
            if dynamics.dimension > 2:
                raise
    return _tried(dynamics, accuracy, bulk, lambda finer: _of_blocks(dynamics, finer, curved, bulk))


def _tried(dynamics: Dynamics, accuracy: float, bulk: Bulk | None, make: Callable[[float], Lane]) -> Lane:
    """Tables to accuracies of the functions, until the potential is as accurate as it is to be."""
    apart = RoughError("not tried")
    for finer in FINER:  # many functions that are each as good as this may be less so together
        lane = _with_constant(dynamics, make(max(finer * accuracy, FINEST)))
        try:
            _check(dynamics, lane.motion, accuracy, bulk)
        except RoughError as error:
            apart = error
            continue
        return lane if bulk is None else replace(lane, text=f"{lane.text}, where the mass is")
    raise apart


def _of_network(dynamics: Dynamics, accuracy: float, curved: bool, bulk: Bulk | None) -> Lane:
    """Tables of a network's units to an accuracy."""
    motion = network_motion(dynamics, accuracy, curved, bulk)
    text = f"{motion.inputs.shape[1]} inputs of a network"
    return Lane(motion, motion.packed(), accuracy, text, motion.outputs, INPUT * motion.width)


def _of_blocks(dynamics: Dynamics, accuracy: float, curved: bool, bulk: Bulk | None) -> Lane:
    """Tables of functions to an accuracy."""
    energies = blocks_of(dynamics.bound, accuracy, bulk)
    along = {i: _metric(dynamics, i, accuracy) for i in range(dynamics.dimension)}
    metric = [1.0 if isinstance(g, Block) else g for g in along.values()]
    factors = {i: g for i, g in along.items() if isinstance(g, Block)}
    return _assembled(dynamics, energies, factors, metric, accuracy, curved)


def _with_constant(dynamics: Dynamics, lane: Lane) -> Lane:
    """The same with the constant of its energy, which is that of the problem at the start of a run."""
    points, logs = nodes_of(dynamics.problem.mu_0.blocks((CONSTANT[dynamics.dimension],) * dynamics.dimension))
    points, weights = points[:MOST_CONSTANT], np.exp(logs[:MOST_CONSTANT])
    weights /= weights.sum()
    energy = dynamics.bound.energy(points, weights)
    if not math.isfinite(energy):
        raise RoughError("the energy at the start is not finite")
    motion = lane.motion._replace(constant=energy - from_tables(lane.motion, points, weights)[2])
    return replace(lane, motion=motion, packed=motion.packed())


def _check(dynamics: Dynamics, motion: Motion | NetworkMotion, accuracy: float, bulk: Bulk | None) -> None:
    """Hold potential, velocity and energy of the tables against those of the problem.

    Derivatives of tables are those of the potential. A gradient of the user's may be that of something else, or not
    finite somewhere: Python asks it, and says so.
    """
    points = probe_points(tuple(dynamics.problem.axes), PROBES) if bulk is None else bulk.probes(PROBES)
    weights = np.full(PROBES, 1.0 / PROBES)
    response = dynamics.bound.response(points, weights)
    near = max(VALUES * accuracy, ROUNDING)
    found = from_tables(motion, points, weights)
    wanted = dynamics.bound.potential(points, response), dynamics.velocity(points, response)
    for here, there, apart, what in zip(
        found[:2], wanted, (near, near + SLOPES), ("potential", "velocity"), strict=True
    ):
        size = max(float(np.abs(there).max()), SMALL)
        if not _distance(here - there, bulk) <= apart * size:
            raise RoughError(f"the {what} is not that of its tables: a gradient may be that of another function")
    energy = dynamics.bound.energy(points, weights)
    size = max(abs(energy), abs(motion.constant), float(np.abs(wanted[0]).max()), SMALL)
    if not abs(found[2] - energy) <= near * size:
        raise RoughError("the energy is not that of its tables: it may be that of another potential")


def _distance(errors: Array, bulk: Bulk | None) -> float:
    """The largest of errors at probes (..., n); the mean where these lie as the mass does."""
    return float(np.abs(errors).max() if bulk is None else np.abs(errors).mean(axis=-1).max())


def from_tables(motion: Motion | NetworkMotion, points: Array, weights: Array) -> tuple[Array, Array, float]:
    """What the compiled program computes, in NumPy: potential (n,), velocity (d, n), and energy of weighted points.

    The two have no code in common: it is what the program is tested against.
    """
    if isinstance(motion, NetworkMotion):
        return from_network_tables(motion, points, weights)
    (outer, steep_outer), inner, steep_inner = _functions_of(motion, 0, points), *_inner_functions(motion, points)
    moments = np.einsum("n,nk,nj->kj", weights, outer, inner)
    C, energy = motion.given[0].copy(), motion.constant + float(np.sum(motion.given[0] * moments))
    for block in motion.blocks:
        at = slice(block.first, block.last), slice(block.low, block.high)
        U = moments[at].ravel()
        A = np.eye(U.size)
        if block.outputs:
            A = motion.matrices[block.matrix : block.matrix + block.outputs * U.size].reshape(-1, U.size)
        w, y = (values[block.start : block.start + len(A)] for values in (motion.weights, motion.targets))
        C[at] = (A.T @ _derivative(block.loss, A @ U, w, y, motion.delta)).reshape(C[at].shape)
        energy += _loss(block.loss, A @ U, w, y, motion.delta)
    V, V_outer = (np.einsum("nj,nj->n", p @ C, inner) for p in (outer, steep_outer))
    slopes = [V_outer, *(np.einsum("nj,nj->n", outer @ C, steep) for steep in steep_inner)]
    velocity = np.zeros((points.shape[1], len(points)))
    for a, slope in enumerate(slopes):
        if motion.columns[a] >= 0:
            which = motion.factors[a]
            factor = np.einsum("nj,nj->n", outer @ motion.given[which], inner) if which else 1.0
            velocity[motion.columns[a]] = -motion.metric[a] * factor * slope
    return V, velocity, energy


def _inner_functions(motion: Motion, points: Array) -> tuple[Array, list[Array]]:
    """Values of all inner functions (n, functions), and their slopes along each axis but the outer one."""
    every = [_functions_of(motion, a, points) for a in range(1, len(motion.tables))]
    slopes = [
        motion.of_products([steep if j == i else values for j, (values, steep) in enumerate(every)])
        for i in range(len(every))
    ]
    return motion.of_products([values for values, _ in every]), slopes


def _functions_of(motion: Motion, a: int, points: Array) -> tuple[Array, Array]:
    """Values and slopes, each (n, functions), of all functions of an axis, the outer one first."""
    table, ends, column = motion.tables[a], motion.ends[a], motion.columns[a]
    x = points[:, column] if column >= 0 else np.zeros(len(points))
    length = (ends[1] - ends[0]) / len(table)
    i = np.clip(((x - ends[0]) / length).astype(int), 0, len(table) - 1)
    t = 2.0 * ((x - ends[0]) / length - i) - 1.0
    powers = np.arange(table.shape[1])
    values = np.einsum("nkr,nk->nr", table[i], t[:, None] ** powers)
    steep = np.arange(1, table.shape[1]) * t[:, None] ** powers[:-1]
    return values, np.einsum("nkr,nk->nr", table[i, 1:], steep) * (2.0 / length)


def _loss(loss: int, u: Array, w: Array, y: Array, delta: float) -> float:
    if loss == LOGISTIC:
        return float(np.sum(w * np.logaddexp(0.0, -y * u)))
    if loss == HUBER:
        r = np.abs(u - y)
        return float(np.sum(w * np.where(r > delta, delta * (r - 0.5 * delta), 0.5 * r * r)))
    r, curved = w * u - y, w != 0.0
    return float(np.sum(np.where(curved, 0.5 * r * r / np.where(curved, w, 1.0), -y * u)))


def _derivative(loss: int, u: Array, w: Array, y: Array, delta: float) -> Array:
    if loss == LOGISTIC:
        return np.asarray(-w * y / (1.0 + np.exp(y * u)))
    return np.asarray(w * np.clip(u - y, -delta, delta) if loss == HUBER else w * u - y)


def _metric(dynamics: Dynamics, i: int, accuracy: float) -> Block | float:
    """The factor of the velocity along an axis: a number, or a block that has it as its value."""
    problem = dynamics.problem
    if problem.metric is None or not callable(problem.metric[i]):
        return float(problem.mobility(i))

    def values(points: Array) -> Array:
        return np.broadcast_to(problem.mobility(i, *points.T), (1, len(points)))

    return products_of(values, dynamics.bound.axes, accuracy, f"the metric of axis {problem.axes[i].name!r}")


class _Assembly:
    """All blocks in one set of tables and coefficients.

    Parameters
    ----------
    dynamics : Dynamics
    blocks : list of Block
    order : tuple of int
        The axes, the outer one first and last the one along which vectors run; -1 where there is none.
    """

    def __init__(self, dynamics: Dynamics, blocks: list[Block], order: tuple[int, ...]) -> None:
        self.dynamics, self.blocks, self.order = dynamics, blocks, order
        self.ranks = [tuple(1 if i < 0 else block.ranks[i] for i in order) for block in blocks]

    def shared(self, a: int) -> bool:
        """Whether all blocks have the same functions of an axis: the number 1."""
        return self.order[a] < 0

    @cached_property
    def places(self) -> list[tuple[slice, ...]]:
        """Where the functions of each block stand among those of each axis, of the last one in full groups."""
        found, at = [], [0] * len(self.order)
        for ranks in self.ranks:
            found.append(tuple(slice(start, start + rank) for start, rank in zip(at, ranks, strict=True)))
            steps = [0 if self.shared(a) else rank for a, rank in enumerate(ranks)]
            steps[-1] = filled(ranks[-1])
            at = [start + step for start, step in zip(at, steps, strict=True)]
        return found

    @cached_property
    def widths(self) -> list[int]:
        """How many functions there are in the table of each axis, in full groups."""
        return [filled(max(place[a].stop for place in self.places)) for a in range(len(self.order))]

    @cached_property
    def groups(self) -> list[NDArray[np.int64]]:
        """Of each block the groups of inner functions, by its own functions: see `Motion.inner`."""
        if len(self.order) == 2:
            return [np.arange(0, inner, FEW)[:, None] for _, inner in self.ranks]
        return [self._groups(block, ranks) for block, ranks in zip(self.blocks, self.ranks, strict=True)]

    def _groups(self, block: Block, ranks: tuple[int, ...]) -> NDArray[np.int64]:
        """Those with coefficients, such next to each other that are multiplied with as many outer functions."""
        own = np.ones(ranks, dtype=bool) if block.used is None else block.used.transpose(self.order)
        used = np.asarray(_in_groups(own).any(axis=-1))
        at = np.argwhere(used.any(axis=0))
        if not len(at):
            at = np.zeros((1, len(ranks) - 1), dtype=np.int64)
        outer = used[(slice(None), *at.T)]
        first, last = outer.argmax(axis=0), len(outer) - outer[::-1].argmax(axis=0)
        at = at[np.lexsort((first, first - last))]
        at[:, -1] *= FEW
        return at

    @cached_property
    def inner(self) -> NDArray[np.int64]:
        """See `Motion.inner`."""
        starts = [[part.start for part in place[1:]] for place in self.places]
        return np.concatenate([own + np.array(start) for own, start in zip(self.groups, starts, strict=True)])

    @cached_property
    def parts(self) -> list[tuple[slice, slice]]:
        """Where the products of each block stand among outer and inner functions."""
        ends = FEW * np.cumsum([0, *(len(own) for own in self.groups)])
        counts = [
            ranks[1] if len(self.order) == 2 else FEW * len(own)
            for ranks, own in zip(self.ranks, self.groups, strict=True)
        ]
        return [
            (place[0], slice(int(end), int(end) + count))
            for place, end, count in zip(self.places, ends, counts, strict=False)
        ]

    @property
    def shape(self) -> tuple[int, int]:
        """How many outer functions there are, in full groups, and inner ones."""
        return self.widths[0], FEW * len(self.inner)

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which products have coefficients that matter."""
        used = np.zeros(self.shape, dtype=bool)
        for i, (block, part) in enumerate(zip(self.blocks, self.parts, strict=True)):
            own = np.ones(block.ranks, dtype=bool) if block.used is None else block.used
            used[part] |= self.turned(own.ravel(), i).reshape(used[part].shape)
        return used

    def turned(self, values: NDArray[T], i: int) -> NDArray[T]:
        """What is by the products of the functions of block number `i`, outer ones first; shape (..., products)."""
        front, ranks = values.shape[:-1], self.blocks[i].ranks
        if len(self.order) == 2:
            if self.order != (1, 0):
                return values
            return np.ascontiguousarray(values.reshape(*front, *ranks).swapaxes(-1, -2)).reshape(values.shape)
        axes = [*range(len(front)), *(len(front) + axis for axis in self.order)]
        wide = _in_groups(values.reshape(*front, *ranks).transpose(axes))
        at = self.groups[i] // np.array([1] * (len(ranks) - 2) + [FEW])
        return np.ascontiguousarray(wide[(..., slice(None), *at.T, slice(None))]).reshape(*front, -1)

    def given(self, factors: list[Block]) -> Array:
        """The coefficients that are given: of V, and of each factor of the velocity."""
        result = np.zeros((1 + len(factors), *self.shape))
        for i, (block, part) in enumerate(zip(self.blocks, self.parts, strict=True)):
            own = result[1 + factors.index(block) if block in factors else 0][part]
            own[:] = self.turned(block.coefficients.ravel(), i).reshape(own.shape)
        return result

    def computed(self) -> dict[str, Any]:
        """What computes the others, as fields of `Motion`."""
        rows, matrices, weights, targets = [], [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
        deltas = {block.outputs.delta for block in self.blocks if block.outputs and block.outputs.kind is HuberLoss}
        if len(deltas) > 1:
            raise RoughError("there are Huber losses of several delta")
        for i, (block, part) in enumerate(zip(self.blocks, self.parts, strict=True)):
            if (outputs := block.outputs) is None:
                continue
            loss = {LogisticLoss: LOGISTIC, HuberLoss: HUBER}.get(outputs.kind, QUADRATIC)
            count = 0 if outputs.matrix is None else len(outputs.matrix)
            ends = part[0].start, part[0].stop, part[1].start, part[1].stop
            rows.append(BlockRow(*ends, loss, count, sum(map(len, matrices)), sum(map(len, weights))))
            if outputs.matrix is None:
                weights.append(self.turned(outputs.weights, i))
                targets.append(self.turned(outputs.targets, i))
            else:
                matrices.append(self.turned(outputs.matrix, i).ravel())
                weights.append(outputs.weights)
                targets.append(outputs.targets)
        return {
            "blocks": tuple(rows),
            "matrices": np.concatenate(matrices),
            "weights": np.concatenate(weights),
            "targets": np.concatenate(targets),
            "delta": next(iter(deltas), 1.0),
        }


def _assembled(
    dynamics: Dynamics, energies: list[Block], factors: dict[int, Block], metric: list[float], accuracy: float,
    curved: bool,
) -> Lane:  # fmt: skip
    """All blocks in one set of tables."""
    blocks = [*energies, *factors.values()]
    assembly = _ordered(dynamics, blocks)
    order = assembly.order
    axes = [dynamics.problem.axes[axis] if axis >= 0 else None for axis in order]
    which = {i: 1 + k for k, i in enumerate(factors)}
    motion = Motion(
        tables=tuple(_table(assembly, a, accuracy, curved) for a in range(len(order))),
        ends=tuple((axis.lower, axis.upper) if axis else (0.0, 1.0) for axis in axes),
        periodic=tuple(axis is not None and axis.periodic for axis in axes),
        columns=order,
        inner=assembly.inner,
        used=assembly.used,
        given=assembly.given(list(factors.values())),
        factors=tuple(which.get(axis, 0) for axis in order),
        metric=tuple(metric[axis] if axis >= 0 else 0.0 for axis in order),
        constant=0.0,
        reacts=dynamics.reacts,
        balanced=dynamics.balanced,
        **assembly.computed(),
    )
    sizes = [sum(block.ranks[i] for block in blocks) for i in range(dynamics.dimension)]
    pairs = zip(sizes, dynamics.problem.axes, strict=True)
    text = " x ".join(f"{size} functions of {axis.name}" for size, axis in pairs)
    work = float(np.count_nonzero(motion.used) + sum(assembly.widths))
    return Lane(motion, motion.packed(), accuracy, text, motion.outputs, work)


def _ordered(dynamics: Dynamics, blocks: list[Block]) -> _Assembly:
    """The blocks with that outer axis and that last one with which the fewest numbers are multiplied.

    Of two axes the last one is that with more functions: vectors run along it.
    """
    d = dynamics.dimension
    if d <= 2:
        sizes = [sum(block.ranks[i] for block in blocks) for i in range(d)]
        return _Assembly(dynamics, blocks, (-1, 0) if d == 1 else (1, 0) if sizes[0] > sizes[1] else (0, 1))
    found = []
    for outer, last in itertools.permutations(range(d), 2):
        middle = (i for i in range(d) if i not in (outer, last))
        found.append(_Assembly(dynamics, blocks, (outer, *middle, last)))
    return min(found, key=lambda one: products_of_a_node(one.used))


def _in_groups(values: NDArray[T]) -> NDArray[T]:
    """The last axis of an array as two: full groups, and what is in each."""
    more = filled(values.shape[-1]) - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, more)]).reshape(*values.shape[:-1], -1, FEW)


def _table(assembly: _Assembly, a: int, accuracy: float, curved: bool) -> Array:
    """The table of all functions of an axis, the outer one first; of no axis the number 1."""
    blocks, axis = assembly.blocks, assembly.order[a]
    table = np.zeros((1, 1, assembly.widths[a]))
    if axis < 0:
        table[:, :, 0] = 1.0
        return table
    ends = assembly.dynamics.problem.axes[axis]
    probes = np.linspace(ends.lower, ends.upper, 257)
    largest = [np.abs(block.bases[axis](probes)).max(axis=1) for block in blocks]
    scales = [float(each.max()) or 1.0 for each in largest]
    matter = np.concatenate(
        [
            each / scale if block.shrinking else np.ones(len(each))
            for block, each, scale in zip(blocks, largest, scales, strict=True)
        ]
    )

    def values(x: Array) -> Array:
        return np.concatenate([block.bases[axis](x) / scale for block, scale in zip(blocks, scales, strict=True)])

    found = table_of(values, ends.lower, ends.upper, accuracy, matter, curved)
    table = np.zeros((*found.shape[:2], assembly.widths[a]))
    columns = np.concatenate([np.arange(place[a].start, place[a].stop) for place in assembly.places])
    table[:, :, columns] = found * np.repeat(scales, [block.ranks[axis] for block in blocks])
    return table
