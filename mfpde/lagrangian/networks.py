r"""Two-layer networks with any number of inner axes and outputs, as numbers of the compiled program.

A network is a sum over its data, of which few inputs determine all outputs on a box to an accuracy
(`mfpde.equation.energy.network.Skeleton`). Its activation becomes a table of one number; what is given besides is a
sum of functions of one coordinate, and a metric a product of such functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mfpde.equation.energy.base import BoundEnergy
from mfpde.equation.energy.gradients import probe_points
from mfpde.equation.energy.losses import HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.equation.energy.network import BoundNetwork, NetworkStructure, Skeleton
from mfpde.equation.grid import Axis
from mfpde.lagrangian.bulk import Bulk
from mfpde.lagrangian.compiled.network_packing import DIRECTIONS, NetworkMotion
from mfpde.lagrangian.compiled.packing import HUBER, LOGISTIC, QUADRATIC
from mfpde.lagrangian.nodes import Dynamics
from mfpde.lagrangian.tables import RoughError, table_of
from mfpde.support.arrays import Array
from mfpde.support.interpreted import FEW

__all__ = ["from_network_tables", "given_potential", "has_wide_network", "largest_units", "network_motion"]

KINDS: dict[type[Loss], int] = {SquaredLoss: QUADRATIC, LogisticLoss: LOGISTIC, HuberLoss: HUBER}
PROBES = 61
"""Points at which sums and products of functions of one coordinate are held against what they stand for."""
SHORT, LONG = 4, 8
"""Coefficients of a piece of the activation's table: a vector, or two."""
MOST_SHORT, MOST_LONG = 2**12, 2**15
"""Pieces, at most: cubics in 128 KB, which stay in the second cache, and for arguments that reach far, of data that are
not standardised, more of the others.
"""
CURVED = 0.1
"""How much more accurate few inputs have the others where second derivatives are asked for."""
FEWEST_COMPRESSED = 8
"""So few inputs are not worth compressing."""


def has_wide_network(bound: BoundEnergy) -> bool:
    """Whether an energy has a network of several inner axes, or outputs, among its parts.

    With one inner axis, all functions of it are looked up at once, and products with the amplitude cost nothing.
    """
    structures = [part.structure for part in bound.parts if isinstance(part, BoundNetwork)]
    return any(max(len(one.inner), len(one.amplitudes)) > 1 for one in structures)


@dataclass(frozen=True, eq=False)
class _Data:
    """Outputs ``A u`` of what a network gives at few inputs, and their loss."""

    inputs: Array
    matrix: Array
    loss: int
    weights: Array
    targets: Array
    delta: float


def network_motion(
    dynamics: Dynamics, accuracy: float, curved: bool = False, bulk: Bulk | None = None
) -> NetworkMotion:
    """A network, and what is given besides, as numbers.

    Parameters
    ----------
    dynamics : Dynamics
    accuracy : float
        How far units and their slopes may be off, relative to the largest.
    curved : bool, optional
        Whether their second derivatives are to be as accurate.
    bulk : Bulk, optional
        Where the mass is: few inputs have the others there.

    Raises
    ------
    RoughError
        If it is none, with the reason.
    """
    bound, problem = dynamics.bound, dynamics.problem
    networks = [part for part in bound.parts if isinstance(part, BoundNetwork)]
    others = [part for part in bound.parts if not isinstance(part, BoundNetwork)]
    if len(networks) != 1:
        raise RoughError(f"there are {len(networks)} networks")
    for part in others:
        if part.direct or part.response_size or "response" not in part.capabilities:
            raise RoughError(f"{part.label} beside a network is not compiled")
    axes, structure = tuple(problem.axes), networks[0].structure
    inner = [axes[i] for i in structure.inner]
    if max(len(inner), len(structure.amplitudes)) > DIRECTIONS:
        raise RoughError(f"there are more than {DIRECTIONS} inner axes or outputs")
    data = _data(structure, inner, CURVED * accuracy if curved else accuracy, bulk)
    rows = data.inputs.T
    if len(inner) > len(rows):
        rows = np.concatenate([rows, np.ones((1, rows.shape[1]))])
    low, high = _reach(rows, inner)
    table = _activation(structure, low, high, accuracy, curved)
    own, scaled = _own(dynamics, others, accuracy, curved)
    return NetworkMotion(
        table=table,
        ends=(low, high),
        inputs=np.ascontiguousarray(rows),
        inner=structure.inner,
        amplitudes=structure.amplitudes,
        axes=tuple((axis.lower, axis.upper, axis.periodic) for axis in axes),
        metric=tuple(1.0 if callable(g) else g for g in _metric(dynamics)),
        own=own,
        scaled=scaled,
        loss=data.loss,
        matrix=data.matrix,
        weights=data.weights,
        targets=data.targets,
        delta=data.delta,
        constant=0.0,
        reacts=dynamics.reacts,
        balanced=dynamics.balanced,
    )


def _activation(structure: NetworkStructure, low: float, high: float, accuracy: float, curved: bool) -> Array:
    """A table of the activation, of cubics where these do: many pieces cost less than long ones."""

    def values(t: Array) -> Array:
        return structure.activation(t)[None]

    if curved:
        return table_of(values, low, high, accuracy, curved=True, most=MOST_LONG)[:, :, 0]
    try:
        return table_of(values, low, high, accuracy, most=MOST_SHORT, order=SHORT)[:, :, 0]
    except RoughError:
        return table_of(values, low, high, accuracy, most=MOST_LONG, order=LONG)[:, :, 0]


def _reach(rows: Array, inner: Sequence[Axis]) -> tuple[float, float]:
    """Between which numbers all arguments of units are, and 0."""
    ends = np.array([(axis.lower, axis.upper) for axis in inner])
    products = rows[:, :, None] * ends[:, None, :]
    low, high = float(products.min(axis=2).sum(axis=0).min()), float(products.max(axis=2).sum(axis=0).max())
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high > low else (-1.0, 1.0)


def _data(structure: NetworkStructure, inner: Sequence[Axis], accuracy: float, bulk: Bulk | None) -> _Data:
    """Few inputs, and what the loss sees of the units at these."""
    x, loss, matrix = structure.inputs, structure.loss, structure.matrix
    kind = KINDS.get(type(loss))
    if kind is None or not isinstance(loss, (SquaredLoss, LogisticLoss, HuberLoss)):
        raise RoughError(f"the loss {type(loss).__name__} of a network is not compiled")
    rows = np.eye(len(x)) if matrix is None else matrix
    if len(x) > FEWEST_COMPRESSED:
        worth = None if bulk is None else partial(bulk.shares, which=structure.inner)
        skeleton = Skeleton(x, structure.activation, inner, accuracy, len(x) - FEW, worth)
        if skeleton.error <= accuracy:
            rows = rows @ skeleton.interpolation(x).T
            x = x[skeleton.samples]
    targets = loss.targets.reshape(len(loss.targets), -1)
    weights = np.asarray(loss.weights)
    if kind == QUADRATIC:  # of weight 1, and as few outputs as there are inputs
        root = np.sqrt(weights)[:, None]
        rows, targets, weights = root * rows, root * targets, np.ones(len(rows))
        if len(rows) > rows.shape[1]:
            back, rows = np.linalg.qr(rows)
            targets, weights = back.T @ targets, np.ones(len(rows))
    delta = loss.delta if isinstance(loss, HuberLoss) else 1.0
    q = targets.shape[1]
    return _Data(x, rows, kind, np.tile(weights, (q, 1)), np.ascontiguousarray(targets.T), delta)


def _metric(dynamics: Dynamics) -> list[float | Callable[..., Array]]:
    """The factor of the velocity along each axis: a number, or a function of all coordinates."""
    problem = dynamics.problem
    given = problem.metric or (None,) * dynamics.dimension
    return [g if callable(g) else float(problem.mobility(i)) for i, g in enumerate(given)]


def _own(
    dynamics: Dynamics, others: Sequence[BoundEnergy], accuracy: float, curved: bool
) -> tuple[tuple[Array, ...], bool]:
    """Tables of functions of one coordinate, for each axis, and whether there are factors of the velocity in them."""
    axes, metric = tuple(dynamics.problem.axes), _metric(dynamics)
    factors = [i for i, g in enumerate(metric) if callable(g)]
    if not others and not factors:
        return (), False

    def given(points: Array) -> Array:
        return np.asarray(sum((part.potential(points, np.empty(0)) for part in others), np.zeros(len(points))))

    def mobility(i: int) -> Callable[[Array], Array]:
        return lambda points: np.broadcast_to(dynamics.problem.mobility(i, *points.T), (len(points),))

    what = " + ".join(part.label for part in others)
    summands = _summands(given, axes, accuracy, f"{what} is no sum of functions of one coordinate")
    products = {
        i: _factors(mobility(i), axes, accuracy, f"the metric of axis {axes[i].name!r} is no product of functions")
        for i in factors
    }
    count = 1 + len(axes) if factors else 1
    tables = []
    for a, axis in enumerate(axes):
        parts = [summands[a], *(products[i][a] if i in products else np.ones_like for i in range(len(axes)))][:count]
        tables.append(_table(parts, axis, accuracy, curved))
    return tuple(tables), bool(factors)


Part = Callable[[Array], Array]


def _table(parts: Sequence[Part], axis: Axis, accuracy: float, curved: bool) -> Array:
    """A table of functions of one coordinate, each as accurate as the others, in full vectors."""
    probes = np.linspace(axis.lower, axis.upper, 257)
    scales = np.array([float(np.abs(part(probes)).max()) or 1.0 for part in parts])

    def values(x: Array) -> Array:
        return np.stack([part(x) / scale for part, scale in zip(parts, scales, strict=True)])

    table = table_of(values, axis.lower, axis.upper, accuracy, curved=curved) * scales
    return np.ascontiguousarray(np.pad(table, [(0, 0), (0, 0), (0, -len(parts) % FEW)]))


def _sections(values: Part, axes: Sequence[Axis], place: Array) -> list[Part]:
    """A function of a place along lines through one place, one an axis."""

    def along(a: int) -> Part:
        def section(x: Array) -> Array:
            points = np.tile(place, (len(x), 1))
            points[:, a] = x
            return values(points)

        return section

    return [along(a) for a in range(len(axes))]


def _held(found: Array, wanted: Array, accuracy: float, what: str) -> None:
    """Refuse what is not what it stands for."""
    if not np.isfinite(wanted).all():
        raise RoughError("not finite everywhere")
    if not float(np.abs(found - wanted).max()) <= max(10.0 * accuracy, 1e-13) * float(np.abs(wanted).max()):
        raise RoughError(what)


def _summands(values: Part, axes: Sequence[Axis], accuracy: float, what: str) -> list[Part]:
    """Functions of one coordinate of which a function of a place is the sum.

    Raises
    ------
    RoughError
        If it is none.
    """
    probes = probe_points(axes, PROBES)
    wanted = values(probes)
    place = probes[0]
    there = float(wanted[0])
    sections = _sections(values, axes, place)
    share = there * (len(axes) - 1) / len(axes)

    def less(section: Part) -> Part:
        return lambda x: section(x) - share

    parts = [less(section) for section in sections]
    _held(sum((part(probes[:, a]) for a, part in enumerate(parts)), np.zeros(PROBES)), wanted, accuracy, what)
    return parts


def _factors(values: Part, axes: Sequence[Axis], accuracy: float, what: str) -> list[Part]:
    """Functions of one coordinate of which a function of a place is the product.

    Raises
    ------
    RoughError
        If it is none.
    """
    probes = probe_points(axes, PROBES)
    wanted = values(probes)
    best = int(np.argmax(np.abs(wanted)))
    there = float(wanted[best])
    if there == 0.0:
        raise RoughError(what)
    sections = _sections(values, axes, probes[best])

    def relative(section: Part) -> Part:
        return lambda x: section(x) / there

    parts = [sections[0], *map(relative, sections[1:])]
    _held(np.prod([part(probes[:, a]) for a, part in enumerate(parts)], axis=0), wanted, accuracy, what)
    return parts


def largest_units(motion: NetworkMotion) -> Array:
    """How large a unit is at an input, times its amplitudes: shape (outputs, width)."""
    unit = float(np.abs(motion.table).sum(axis=1).max())
    reach = [max(abs(low), abs(high)) for low, high, _ in (motion.axes[a] for a in motion.amplitudes)]
    return np.outer(reach or [1.0], np.full(motion.width, unit))


# ---------------------------------------------------------------------------------------------------------------------
# the same in NumPy
# ---------------------------------------------------------------------------------------------------------------------


def from_network_tables(motion: NetworkMotion, points: Array, weights: Array) -> tuple[Array, Array, float]:
    """What the compiled program computes: potential (n,), velocity (d, n), and energy of weighted points."""
    z, q = points[:, list(motion.inner)], len(motion.targets)
    units, slopes = _read(motion.table[:, :, None], *motion.ends, (z @ motion.inputs).ravel())
    units, slopes = units.reshape(len(z), -1), slopes.reshape(len(z), -1)
    c = points[:, list(motion.amplitudes)] if motion.amplitudes else np.ones((len(points), 1))
    outputs = motion.matrix @ ((weights[:, None] * c).T @ units).T  # (M, q)
    s = motion.matrix.T @ _slope_of_loss(motion, outputs)  # (r, q)
    V = np.einsum("nq,rq,nr->n", c, s, units)
    gradient = np.zeros((points.shape[1], len(points)))
    for k, a in enumerate(motion.inner):
        gradient[a] = np.einsum("nq,rq,nr,r->n", c, s, slopes, motion.inputs[k])
    for j, a in enumerate(motion.amplitudes[:q]):
        gradient[a] = units @ s[:, j]
    given, factors = given_potential(motion, points), np.ones_like(gradient)
    V, energy = V + given, motion.constant + _value_of_loss(motion, outputs) + float(weights @ given)
    for a in range(len(motion.own)):
        gradient[a] += _own_function(motion, a, 0, points)[1]
        if motion.scaled:
            factors *= np.stack([_own_function(motion, a, 1 + i, points)[0] for i in range(len(gradient))])
    return V, -np.array(motion.metric)[:, None] * factors * gradient, energy


def given_potential(motion: NetworkMotion, points: Array) -> Array:
    """What is given of the potential at points (n, d): shape (n,)."""
    parts = (_own_function(motion, a, 0, points)[0] for a in range(len(motion.own)))
    return np.asarray(sum(parts, np.zeros(len(points))))


def _own_function(motion: NetworkMotion, a: int, j: int, points: Array) -> tuple[Array, Array]:
    """Values and slopes (n,) of an own function of an axis."""
    return _read(motion.own[a][:, :, j : j + 1], *motion.axes[a][:2], points[:, a])


def _read(table: Array, low: float, high: float, x: Array) -> tuple[Array, Array]:
    """Values and slopes (n,) of a table of one function."""
    length = (high - low) / len(table)
    i = np.clip(((x - low) / length).astype(int), 0, len(table) - 1)
    t = 2.0 * ((x - low) / length - i) - 1.0
    powers = np.arange(table.shape[1])
    values = np.einsum("nk,nk->n", table[i, :, 0], t[:, None] ** powers)
    steep = np.arange(1, table.shape[1]) * t[:, None] ** powers[:-1]
    return values, np.einsum("nk,nk->n", table[i, 1:, 0], steep) * (2.0 / length)


def _loss_of(motion: NetworkMotion) -> SquaredLoss | LogisticLoss | HuberLoss:
    weights, targets = motion.weights[0], motion.targets.T
    if motion.loss == LOGISTIC:
        return LogisticLoss(targets, weights)
    if motion.loss == HUBER:
        return HuberLoss(targets, weights, motion.delta)
    return SquaredLoss(targets, weights)


def _slope_of_loss(motion: NetworkMotion, outputs: Array) -> Array:
    return _loss_of(motion).gradient(outputs)


def _value_of_loss(motion: NetworkMotion, outputs: Array) -> float:
    return _loss_of(motion).value(outputs)
