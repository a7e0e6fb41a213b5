"""Where the mass of later times comes from, in the coordinates it had at the start.

Birth-death multiplies some of the start's mass and kills the rest: what is there at time t may descend from a place
that held next to nothing. Quadrature nodes have to be there, and particles too.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.measures.base import RestrictedMeasure
from mfpde.equation.measures.quadrature import Block, Place, Rule, log_total, wants_nodes
from mfpde.equation.problem import Problem
from mfpde.support.arrays import Array

__all__ = [
    "LOST",
    "Places",
    "Watch",
    "ancestral_mass",
    "descent",
    "descent_at",
    "find_places",
    "growth",
    "looks_elsewhere",
    "nodes_of",
    "of_a_density",
    "rule_of",
    "watch",
    "watch_each",
    "worst",
    "worth_moving",
]

Places = list[list[list[Place]]]

MOST_RULES, MOST_NODES = 16, 4096
"""Rules that are kept with a problem, at most: the last ones of no more than so many nodes."""
ROUNDS = 16
"""How often places are looked for with the nodes that the last ones suggest."""
TORN = 0.1
"""Neighbours farther apart than this share of the range of all nodes are torn apart."""
TORN_MASS = 1e-6
"""The least mass times distance between them that matters."""
SHARPEST = 1e-5
"""Torn neighbours nearer than this share of all nodes' range are left alone: there the velocity may be singular."""
MOST_TORN = 4
"""Places between torn neighbours, at most: each takes nodes from the others."""
LEANING = 1e-9
"""The share of the mass that may lie beyond the outermost node; for more, a rule has to reach farther."""
WEIGHTLESS = 1e-14
"""A component with less of the mass than this needs no nodes of its own."""

_rules: weakref.WeakKeyDictionary[Problem, dict[tuple[int, ...], Rule]] = weakref.WeakKeyDictionary()


def rule_of(problem: Problem, counts: tuple[int, ...], places: Places | None = None) -> Rule:
    """The nodes of a problem's start, see `RestrictedMeasure.blocks`; small ones for its bulk are kept with it."""
    kept = _rules.setdefault(problem, {})
    found = kept.get(counts) if places is None else None
    if found is not None:
        return found
    rule = problem.mu_0.blocks(counts, places)
    if places is None and rule.size <= MOST_NODES:
        for oldest in list(kept)[: max(0, len(kept) + 1 - MOST_RULES)]:
            kept.pop(oldest, None)
        kept[counts] = rule
    return rule


def nodes_of(blocks: Sequence[Block]) -> tuple[Array, Array]:
    """Points (N, d) of all blocks, and the logarithms (N,) of their weights, which have sum 1; see `Rule.nodes`."""
    return (blocks if isinstance(blocks, Rule) else Rule(blocks)).nodes


def _by_block(blocks: Sequence[Block], weights: Array) -> list[Array]:
    """What is by nodes, shape (..., N), by blocks."""
    if len(blocks) == 1:
        return [weights]
    ends = np.cumsum([len(block.logs) for block in blocks])[:-1]
    return np.split(weights, ends, axis=-1)


def of_a_density(blocks: Sequence[Block]) -> bool:
    """Whether all nodes are those of rules, and none is an atom."""
    return all(block.placed for block in blocks)


def ancestral_mass(logs: Array, weights: Array, smooth: bool = True) -> float:
    """From how little of the start's mass half of the present mass descends.

    Parameters
    ----------
    logs : array, shape (N,)
        Logarithms of the nodes' weights at the start.
    weights : array, shape (N,)
        Their weights now.
    smooth : bool
        Whether a density lies between the nodes.

    Returns
    -------
    float
        At most 1/2, which is the value where nothing is born or dies. Its inverse is about the number of particles
        below which a run does not follow the limit: none of them starts where the mass comes from.
    """
    mass, now = np.exp(logs - log_total(logs)), weights / weights.sum()
    with np.errstate(divide="ignore"):
        # nothing that became nothing has not grown; nodes that grew alike differ by rounding
        growth = np.round(np.where(now > 0.0, np.log(now) - np.where(now > 0.0, logs, 0.0), -np.inf), 9)
    order = np.argsort(-growth, kind="stable")
    reached = np.cumsum(now[order])
    before = np.cumsum(mass[order])
    k = int(np.searchsorted(reached, 0.5))
    if k >= len(order):
        return 0.5
    last = now[order[k]]
    share = (0.5 - (reached[k] - last)) / last if last > 0.0 else 1.0
    if not smooth or k == 0 or before[k] <= 2.0 * before[k - 1] or before[k - 1] <= 0.0:
        return float(min(0.5, before[k] - (1.0 - share) * mass[order[k]]))
    # between two nodes of a tail it grows geometrically
    return float(min(0.5, before[k - 1] ** (1.0 - share) * before[k] ** share))


# ---------------------------------------------------------------------------------------------------------------------
# where nodes are needed
# ---------------------------------------------------------------------------------------------------------------------


def find_places(
    measure: RestrictedMeasure, counts: Sequence[int], follow: Callable[[Array, Array], tuple[Array, Array]]
) -> Places | None:
    """The places, for each component and axis of a measure, where nodes are needed besides the bulk.

    A coarse run shows where the weights sit in the starting coordinates. Where that is not among the nodes, or leans
    on the outermost of them, the next run has nodes there, until nothing changes any more. The same where neighbours
    are torn apart, in one dimension: in between lies what separates them.

    Parameters
    ----------
    measure : RestrictedMeasure
    counts : sequence of int
        Nodes along each axis of the coarse runs.
    follow : callable
        ``follow(points, logs)`` gives positions (m, N, d) and weights (m, N) of these nodes at some times.

    Returns
    -------
    list of list of list of Place, optional
        See `RestrictedMeasure.blocks`. None where the bulk of the start will do.
    """
    places: Places | None = None
    torn: list[list[Place]] = []
    for _ in range(ROUNDS):
        blocks = measure.blocks(counts, places)
        start, logs = nodes_of(blocks)
        points, weights = follow(start, logs)
        latest = _places(blocks, weights)
        torn = torn or [[] for _ in blocks]
        if start.shape[1] == 1 and not measure.axes[0].periodic:
            ends = np.cumsum([0, *(len(block.logs) for block in blocks)])
            for k, block in enumerate(blocks):
                part = slice(ends[k], ends[k + 1])
                if block.shape is not None and len(block.logs) > 2:
                    torn[k] = _torn(block.points[:, 0], points[:, part, 0], weights[:, part], torn[k])
                    latest[k][0] += torn[k]
        previous = places if places is not None else [[[] for _ in axes] for axes in latest]
        settled = all(
            not place.new(before)
            for axes, olds in zip(latest, previous, strict=True)
            for news, before in zip(axes, olds, strict=True)
            for place in news
        )
        if settled:
            break
        places = latest
    if places is None or not any(axis for component in places for axis in component):
        return None
    return places


def growth(blocks: Sequence[Block], weights: Array) -> list[Array]:
    """By how much the logarithms of the weights (m, N) of nodes have grown at most since the start, block by block."""
    logs = nodes_of(blocks)[1]
    with np.errstate(divide="ignore"):
        most = np.maximum(np.max(np.log(weights) - logs, axis=0), 0.0)
    return _by_block(blocks, most)


def worth_moving(
    coarse: Sequence[Block], grown: Sequence[Array], fine: Sequence[Block], share: float
) -> NDArray[np.intp]:
    """Which of finer nodes may hold more than a share of the mass at any time, together with those that hold less.

    Parameters
    ----------
    coarse : sequence of Block
    grown : sequence of array
        See `growth`.
    fine : sequence of Block
        Finer rules for the same laws.
    share : float

    Returns
    -------
    array of int
        Their numbers. Between coarse nodes the mass grows as at the one where it grows more, beyond the outermost one
        as from the one before.
    """
    logs = nodes_of(fine)[1]
    most = np.concatenate([_between(*one) for one in zip(coarse, grown, fine, strict=True)])
    mass = np.exp(logs + most)
    order = np.argsort(mass)
    return np.sort(order[np.cumsum(mass[order]) > share])


def _between(coarse: Block, grown: Array, fine: Block) -> Array:
    """What has grown at coarse nodes, at finer ones."""
    assert coarse.shape is not None
    assert fine.shape is not None
    values = grown.reshape(coarse.shape)
    for i in range(len(coarse.shape)):
        x, y = coarse.lines[i], fine.lines[i]
        at = np.searchsorted(x, y)
        values = values.swapaxes(i, 0)
        below, above = values[np.maximum(at - 1, 0)], values[np.minimum(at, len(x) - 1)]
        most = np.maximum(below, above)
        if len(x) > 1:
            most[at == 0] += np.maximum(values[0] - values[1], 0.0)
            most[at == len(x)] += np.maximum(values[-1] - values[-2], 0.0)
        values = most.swapaxes(0, i)
    return np.ascontiguousarray(values).ravel()


def looks_elsewhere(measure: RestrictedMeasure, blocks: Sequence[Block], points: Array, weights: Array) -> bool:
    """Whether mass of some times may descend from where the nodes of the bulk are not, see `find_places`.

    Parameters
    ----------
    measure : RestrictedMeasure
    blocks : sequence of Block
        Its nodes, without places.
    points, weights : array, shapes (m, N, d) and (m, N)
        Their nodes at some times.
    """
    total, d = weights.sum(axis=1), points.shape[2]
    for block, place, part in zip(blocks, _by_block(blocks, points[:, :, 0]), _by_block(blocks, weights), strict=True):
        if block.shape is None:
            continue
        some = part if len(blocks) == 1 else part[part.sum(axis=1) > WEIGHTLESS * total]
        for i, count in enumerate(block.shape):
            if count < 2 or measure.axes[i].periodic:
                continue
            if _leaves(block, i, block.layers(some, i)):
                return True
            if d == 1 and count > 2 and _tears(block.lines[0], place, part):
                return True
    return False


def _leaves(block: Block, i: int, layers: Array) -> bool:
    """Whether one of some layers of weights (m, n) is no longer where the block's own is, or leans on an end."""
    x, sums = block.lines[i], layers.sum(axis=1)
    means = layers @ x / sums
    spreads = np.sqrt(np.einsum("mn,mn->m", layers, (x - means[:, None]) ** 2) / sums)
    spreads = np.maximum(spreads, 0.5 * _steps(x)[x[1:-1].searchsorted(means)])
    if wants_nodes(means, spreads, block.middles[i]).any():
        return True
    return any((beyond > LEANING * sums).any() for _, beyond in _beyond(x, layers, block.cut[i]))


def _tears(x: Array, points: Array, weights: Array) -> bool:
    """Whether neighbours that carry mass end far apart, and were not so at the start."""
    apart = _apart(points)
    torn = apart > np.maximum(TORN, 2.0 * _steps(x) / float(x[-1] - x[0]))
    return bool(torn.any() and (_unseen(apart, weights)[torn] > TORN_MASS).any())


def _steps(x: Array) -> Array:
    """From one number to the next, along the last axis."""
    return np.asarray(x[..., 1:] - x[..., :-1])


def _apart(points: Array) -> Array:
    """How far apart neighbours (m, n) are, as shares of the range of all of them."""
    return np.abs(_steps(points)) / max(float(points.max() - points.min()), 1e-300)


def _unseen(apart: Array, weights: Array) -> Array:
    """How much mass between neighbours is how far apart where they are torn, else 0."""
    between = 0.5 * (weights[:, 1:] + weights[:, :-1]) / weights.sum(axis=1, keepdims=True)
    return np.where(apart > TORN, between * apart, 0.0)


def _torn(start: Array, points: Array, weights: Array, before: Sequence[Place]) -> list[Place]:
    """Where neighbours that carry mass end far apart, and where they did so before nodes were put between them."""
    order = np.argsort(start)
    x, points, weights = start[order], points[:, order], weights[:, order]
    unseen = np.max(_unseen(_apart(points), weights), axis=0)
    tears = list(before)
    for j in np.argsort(-unseen)[:MOST_TORN]:
        if unseen[j] <= TORN_MASS:
            break
        place = Place(0.5 * float(x[j] + x[j + 1]), float(x[j + 1] - x[j]) / 6.0)
        if place.spread < SHARPEST * float(x[-1] - x[0]):
            continue
        # the same place as before, seen better
        tears = [old for old in tears if abs(old.mean - place.mean) > 4.0 * old.spread]
        if len(tears) < MOST_TORN:
            tears.append(place)
    return tears


def _places(blocks: Sequence[Block], weights: Array) -> Places:
    """Where the weights of some times are, apart from the start's own place."""
    parts = [_by_block(blocks, now) for now in weights]
    result: Places = []
    for k, block in enumerate(blocks):
        d = block.points.shape[1]
        by_axis: list[list[Place]] = [[] for _ in range(d)]
        if block.shape is not None:
            for i in range(d):
                x = block.lines[i]
                if len(x) < 2:
                    continue
                so_far = [block.middles[i]]
                for part, now in zip(parts, weights, strict=True):
                    if not part[k].sum() > WEIGHTLESS * now.sum():
                        continue
                    layer = block.layers(part[k], i)
                    for place in (Place.of(x, layer), *_leaning(x, layer, block.cut[i], so_far[0].spread)):
                        if place.new(so_far):
                            so_far.append(place)
                by_axis[i] = so_far[1:]
        result.append(by_axis)
    return result


def _beyond(x: Array, layers: Array, cut: tuple[bool, bool]) -> list[tuple[float, Array]]:
    """The ends of a rule at which the density goes on, with about what lies beyond, for layers of shape (..., n).

    That is the rest of a geometric series which the outermost two nodes begin; nodes farther out would be farther
    apart, and hold less.
    """
    ends = []
    for cut_off, last, before in ((cut[0], 0, 1), (cut[1], -1, -2)):
        if cut_off:
            outermost, inner = layers[..., last], layers[..., before]
            ratio = np.minimum(np.divide(outermost, inner, out=np.full_like(inner, 0.99), where=inner > 0.0), 0.99)
            ends.append((float(x[last]), outermost * ratio / (1.0 - ratio)))
    return ends


def _leaning(x: Array, layer: Array, cut: tuple[bool, bool], spread: float) -> list[Place]:
    """Places at the ends on which mass leans although the density goes on there."""
    return [Place(end, spread) for end, beyond in _beyond(x, layer, cut) if beyond > LEANING * layer.sum()]


# ---------------------------------------------------------------------------------------------------------------------
# what nodes carry
# ---------------------------------------------------------------------------------------------------------------------


class Watch(NamedTuple):
    """How well nodes carry the mass of a time.

    Attributes
    ----------
    beyond : float
        Share of the mass beyond the outermost nodes of an axis, at ends where the rule stops and the density does not.
    nodes : float
        Effective number of nodes, ``1 / sum w^2`` of weights with sum 1: the least along an axis.
    by_axis : tuple of float
        Relative error that these two let expect, for each axis.
    """

    beyond: float
    nodes: float
    by_axis: tuple[float, ...]

    @property
    def error(self) -> float:
        """Relative error of all axes, at most 1."""
        return min(sum(self.by_axis), 1.0)

    @property
    def reason(self) -> str:
        """What is wrong, in a few words."""
        if LOST * self.beyond > 0.5 * self.error:
            return f"{self.beyond:.1e} of the mass descends from beyond the nodes"
        return f"the mass sits on about {self.nodes:.1f} nodes along an axis"


_ALIASING = 0.5 * math.pi
"""Midpoints ``h`` apart integrate a normal law of spread ``s`` up to ``2 exp(-2 pi^2 s^2 / h^2)``. Its effective number
of nodes is ``2 sqrt(pi) s / h``, so that this is ``2 exp(-(pi/2) nodes^2)``."""
LOST = 100.0
"""By how much a relative error may be larger than the share of the mass beyond the nodes: sixty times in cases seen."""


def watch_each(blocks: Sequence[Block], weights: Array) -> list[Watch]:
    """Look at what is beyond the outermost nodes, and at how many carry the mass, at each of some times.

    Parameters
    ----------
    blocks : sequence of Block
    weights : array, shape (m, N)
    """
    total = weights.sum(axis=1)
    beyond, fewest = np.zeros(len(weights)), np.full(len(weights), math.inf)
    errors = np.zeros((len(weights), blocks[0].points.shape[1]))
    for block, part in zip(blocks, _by_block(blocks, weights), strict=True):
        share = part.sum(axis=1) / total
        counts = share > WEIGHTLESS
        if block.shape is None or not counts.any():
            continue
        if not counts.all():
            share, part = np.where(counts, share, 0.0), np.where(counts[:, None], part, 0.0)
        for i, count in enumerate(block.shape):
            if count < 2:  # an atom
                continue
            layers = block.layers(part, i) / total[:, None]
            squares = np.einsum("mn,mn->m", layers, layers)
            effective = share**2 / np.where(counts, squares, 1.0)
            error = 2.0 * share * np.exp(-_ALIASING * effective**2)
            if tails := [tail for _, tail in _beyond(block.lines[i], layers, block.cut[i])]:
                lost = sum(tails)
                beyond, error = np.maximum(beyond, lost), error + LOST * lost
            errors[:, i] = np.maximum(errors[:, i], error)
            fewest = np.minimum(fewest, np.where(share > 1e-3, effective, math.inf))
    return list(map(Watch, beyond.tolist(), fewest.tolist(), map(tuple, errors.tolist())))


def watch(blocks: Sequence[Block], weights: Array) -> Watch:
    """The same at one time: weights have shape (N,)."""
    return watch_each(blocks, weights[None])[0]


def worst(each: Sequence[Watch]) -> Watch:
    """The worst of some times."""
    beyond, nodes, errors = zip(*each, strict=True)
    return Watch(max(beyond), min(nodes), tuple(np.max(errors, axis=0).tolist()))


FEW = 1e-3
"""Ancestral masses above this are nothing to speak of."""


def descent(times: Array, masses: Array) -> str:
    """What ancestral masses mean for particles; empty where nothing has to be said."""
    k = int(np.argmin(masses))
    return descent_at(f"at t = {times[k]:g}", float(masses[k]))


def descent_at(when: str, mass: float) -> str:
    """The same of one ancestral mass, at a time given in words."""
    if not mass < FEW:
        return ""
    if mass <= 0.0:
        return f"half of the mass {when} descends from less than 1e-300 of the start"
    return (
        f"half of the mass {when} descends from {mass:.1g} of the start: "
        f"fewer than about {1.0 / mass:.1g} neurons do not follow this limit"
    )
