"""Markers that follow drift and birth-death, compiled: what `mfpde.mesh.descent` says in NumPy, marker by marker."""

from __future__ import annotations

import math

from mfpde.mesh.compiled.options import uncounted, uncounted_kernel
from mfpde.mesh.constants import CELLS_A_SUBSTEP, FARTHEST

__all__ = ["advance", "advance_along"]


@uncounted
def _looked(begin, end, share, x, axes, rates, places, velocity):  # type: ignore[no-untyped-def]
    """The potential at a point, a share of the way from one to another, and ``-G grad V`` there to `velocity`."""
    d, nearest = x.size, 0
    for i in range(d):
        lower, upper, n, stride = axes[i, 0], axes[i, 1], axes[i, 2], int(axes[i, 4])
        position = (x[i] - 0.5 * (lower + upper)) * (n / (upper - lower)) + 0.5 * (n - 1.0)
        if axes[i, 3] > 0.0:
            left = math.floor(position)
            weight, first, second = position - left, int(left) % int(n), int(left + 1.0) % int(n)
        else:
            position = 0.0 if position < 0.0 else n - 1.0 if position > n - 1.0 else position
            left = math.floor(position)
            left = n - 2.0 if left > n - 2.0 else left
            weight, first, second = position - left, int(left), int(left) + 1
        places[i, 0], places[i, 1], places[i, 2] = first * stride, second * stride, weight
        nearest += (second if weight > 0.5 else first) * stride
        velocity[i] = 0.0
    potential = 0.0
    for corner in range(1 << d):
        index = 0
        for i in range(d):
            index += int(places[i, (corner >> i) & 1])
        value = (1.0 - share) * begin[index] + share * end[index]
        whole = value
        for i in range(d):
            whole *= places[i, 2] if (corner >> i) & 1 else 1.0 - places[i, 2]
            others = value
            for k in range(d):
                if k != i:
                    others *= places[k, 2] if (corner >> k) & 1 else 1.0 - places[k, 2]
            velocity[i] += others if (corner >> i) & 1 else -others
        potential += whole
    for i in range(d):
        velocity[i] *= rates[i, nearest if rates.shape[1] > 1 else 0]
    return potential


@uncounted
def _moved(x, velocity, length, axes, target):  # type: ignore[no-untyped-def]
    """The point after a while, in the box: at walls no farther than the outermost centres."""
    for i in range(x.size):
        lower, upper, h = axes[i, 0], axes[i, 1], axes[i, 5]
        change, most = length * velocity[i], FARTHEST * h
        y = x[i] + (-most if change < -most else most if change > most else change)
        if axes[i, 3] > 0.0:
            y = lower + (y - lower) % (upper - lower)
        else:
            least, last = lower + 0.5 * h, upper - 0.5 * h
            y = least if y < least else last if y > last else y
        target[i] = y


@uncounted
def _timed(clock, fastest, lengths):  # type: ignore[no-untyped-def]
    """How many steps take the markers along, none where no time passes; their lengths, see `advance`."""
    begin, end, speed, alpha, before = clock
    if not end > begin:
        return 0
    passed = speed * (end - begin) * (fastest if fastest > before else before) / CELLS_A_SUBSTEP
    steps = 1
    while steps < passed and steps < len(lengths):
        steps += 1
    for j in range(steps):
        first, last = begin + (end - begin) * j / steps, begin + (end - begin) * (j + 1) / steps
        lengths[j, 0], lengths[j, 1] = speed * (last - first), alpha * (speed * (last - first))
    return steps


@uncounted
def _weighed(marks):  # type: ignore[no-untyped-def]
    """Fill the last two rows of `marks`, see `advance`; the largest logarithm."""
    most = -math.inf
    for k in range(marks.shape[1]):
        most = marks[0, k] if marks[0, k] > most or math.isnan(marks[0, k]) else most
    for k in range(marks.shape[1]):
        marks[2, k], marks[3, k] = marks[0, k] - most, marks[0, k] - marks[1, k]
    return most


@uncounted_kernel
def advance(points, marks, begin, end, clock, lengths, axes, rates, room):  # type: ignore[no-untyped-def]
    """Take markers along by midpoint steps.

    Parameters
    ----------
    points : (n, d) array
        Where they are; changed.
    marks : (4, n) array
        The logarithms of their weights, which change; those at the start; by how much the former are less than the
        largest of them, and more than the latter, both filled.
    begin, end : (cells,) array
        The potential before the first step and after the last one.
    clock : tuple of five float
        The time before and after, the speed of the clock, the birth-death rate, and what was the fastest before.
    lengths : (most steps, 2) array
        Filled: of each step its length in the clock, and the birth-death rate times that.
    axes : (d, 6) array
        Lower and upper end, cells, whether it is periodic, stride and spacing.
    rates : (d, cells) or (d, 1) array
        The mobility by the spacing, with the sign of the velocity.
    room : (d + 2, 3 or more) array
        To work in.

    Returns
    -------
    fastest : float
        How many cells the fastest marker passed in a unit of the clock, where they were, in the potential `end`.
    most : float
        The largest logarithm.
    """
    d, fastest = points.shape[1], 0.0
    velocity, halfway = room[-1, :d], room[-2, :d]
    for k in range(len(points)):
        _looked(end, end, 0.0, points[k], axes, rates, room, velocity)
        for i in range(d):
            speed = abs(velocity[i] / axes[i, 5])
            fastest = speed if speed > fastest or math.isnan(speed) else fastest
    steps = _timed(clock, fastest, lengths)
    for k in range(len(points)):
        x = points[k]
        for j in range(steps):
            middle = (j + 0.5) / steps
            _looked(begin, end, middle, x, axes, rates, room, velocity)
            _moved(x, velocity, 0.5 * lengths[j, 0], axes, halfway)
            potential = _looked(begin, end, middle, halfway, axes, rates, room, velocity)
            _moved(x, velocity, lengths[j, 0], axes, x)
            marks[0, k] -= lengths[j, 1] * potential
    return fastest, _weighed(marks)


@uncounted
def _line(axes):  # type: ignore[no-untyped-def]
    """What `_looked_along` asks of an axis, as numbers: in arrays that others are written to, they are read again."""
    lower, upper, n, h = axes[0, 0], axes[0, 1], axes[0, 2], axes[0, 5]
    return lower, upper, n, axes[0, 3] > 0.0, 0.5 * (lower + upper), n / (upper - lower), 0.5 * (n - 1.0), h


@uncounted
def _looked_along(begin, end, share, x, line, rates):  # type: ignore[no-untyped-def]
    """`_looked` along the only axis: the potential and the velocity."""
    position = (x - line[4]) * line[5] + line[6]
    if line[3]:
        left = math.floor(position)
        weight, n = position - left, int(line[2])
        first, second = int(left) % n, int(left + 1.0) % n
    else:
        last = line[2] - 1.0
        position = 0.0 if position < 0.0 else last if position > last else position
        left = math.floor(position)
        left = last - 1.0 if left > last - 1.0 else left
        weight, first = position - left, int(left)
        second = first + 1
    low = (1.0 - share) * begin[first] + share * end[first]
    high = (1.0 - share) * begin[second] + share * end[second]
    rate = rates[0, (second if weight > 0.5 else first) if rates.shape[1] > 1 else 0]
    return low * (1.0 - weight) + high * weight, (high - low) * rate


@uncounted
def _moved_along(x, change, line, most):  # type: ignore[no-untyped-def]
    """`_moved` along the only axis."""
    y = x + (-most if change < -most else most if change > most else change)
    if line[3]:
        return line[0] + (y - line[0]) % (line[1] - line[0])
    least, last = line[0] + 0.5 * line[7], line[1] - 0.5 * line[7]
    return least if y < least else last if y > last else y


@uncounted_kernel
def advance_along(points, marks, begin, end, clock, lengths, axes, rates, room):  # type: ignore[no-untyped-def]
    """`advance` along the only axis; `room` serves that one alone."""
    line, fastest = _line(axes), 0.0
    most = FARTHEST * line[7]
    for k in range(len(points)):
        speed = abs(_looked_along(end, end, 0.0, points[k, 0], line, rates)[1] / line[7])
        fastest = speed if speed > fastest or math.isnan(speed) else fastest
    steps = _timed(clock, fastest, lengths)
    for k in range(len(points)):
        x, log = points[k, 0], marks[0, k]
        for j in range(steps):
            middle, length = (j + 0.5) / steps, lengths[j, 0]
            velocity = _looked_along(begin, end, middle, x, line, rates)[1]
            halfway = _moved_along(x, velocity * (0.5 * length), line, most)
            potential, velocity = _looked_along(begin, end, middle, halfway, line, rates)
            x = _moved_along(x, velocity * length, line, most)
            log -= lengths[j, 1] * potential
        points[k, 0], marks[0, k] = x, log
    return fastest, _weighed(marks)
