"""An energy on a mesh as two arrays that compiled runs read: see `mfpde.mesh.compiled.potential`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.losses import HuberLoss, LogisticLoss, Loss, SquaredLoss
from mfpde.equation.energy.on_grid import ByMatrix, ByTables, GridPart
from mfpde.equation.schedules import Constant, ExponentialDecay, InverseLog, PiecewiseLinear, PowerLaw, Schedule
from mfpde.mesh.compiled import run_structures as r
from mfpde.mesh.compiled import structures as s
from mfpde.support.arrays import Array

__all__ = ["MOST_NUMBERS", "Packed", "numbers_of", "packed"]

MOST_NUMBERS = 2**20
"""Numbers of an energy (8 MB) above which it is left where it is."""
LOSSES: dict[type[Loss], int] = {SquaredLoss: s.SQUARED, LogisticLoss: s.LOGISTIC, HuberLoss: s.HUBER}


class Packed(NamedTuple):
    """An energy as arrays.

    Attributes
    ----------
    codes : (parts, WIDTH_OF_CODE) int array
        What each part is, and where its numbers stand.
    data : array
        The numbers.
    room : int
        Numbers that an evaluation works in.
    """

    codes: NDArray[np.int64]
    data: Array
    room: int


class _Numbers:
    """Arrays one after the other."""

    def __init__(self) -> None:
        self.pieces: list[Array] = []
        self.size = 0

    def add(self, values: object) -> int:
        """Where they begin."""
        start, flat = self.size, np.ravel(np.asarray(values, dtype=float))
        self.pieces.append(flat)
        self.size += flat.size
        return start


def packed(parts: Sequence[GridPart], cells: int) -> Packed | None:
    """The arrays of an energy on a mesh of so many cells; None where there are too many numbers, or groups of axes."""
    codes, numbers = np.zeros((len(parts), s.WIDTH_OF_CODE), dtype=np.int64), _Numbers()
    room = used = 0
    for code, part in zip(codes, parts, strict=True):
        code[s.OFFSET], code[s.MATRIX] = used, -1
        if isinstance(part, ByTables):
            if len(part.tables) > s.MOST_GROUPS:
                return None
            room = max(room, _tables(code, part, numbers))
            used += part.places.size
        elif isinstance(part, ByMatrix):
            code[s.KIND], code[s.MATRIX] = s.BY_MATRIX, numbers.add(part.matrix)
        else:
            code[s.KIND], code[s.MATRIX] = s.BY_VALUES, numbers.add(part.values)
            code[s.CONSTANT] = numbers.add(part.constant)
        if numbers.size > MOST_NUMBERS:
            return None
    return Packed(codes, np.concatenate(numbers.pieces), cells + room)


def _tables(code: NDArray[np.int64], part: ByTables, numbers: _Numbers) -> int:
    """Fill the code of a part; the room that it needs."""
    shapes, outputs = [table.shape for table in part.tables], part.outputs
    full = math.prod(r for r, _ in shapes)
    between = [
        math.prod(r for r, _ in shapes[: i + 1]) * math.prod(n for _, n in shapes[i + 1 :]) for i in range(len(shapes))
    ]
    code[s.KIND], code[s.GROUPS], code[s.FULL], code[s.RESPONSES] = s.BY_TABLES, len(shapes), full, part.places.size
    code[s.PLACES], code[s.ROOM] = numbers.add(part.places), max(between)
    code[s.SAMPLES], code[s.OUTPUTS] = outputs.targets.shape
    code[s.LOSS], code[s.DELTA] = LOSSES[outputs.loss], numbers.add(outputs.delta)
    code[s.WEIGHTS], code[s.TARGETS] = numbers.add(outputs.weights), numbers.add(outputs.targets)
    code[s.CONSTANT] = numbers.add(outputs.constant)
    if outputs.matrix is not None:
        code[s.MATRIX] = numbers.add(outputs.matrix)
    for i, table in enumerate(part.tables):
        place = s.FIRST_TABLE + 3 * i
        code[place], code[place + 1] = table.shape
        code[place + 2] = numbers.add(table)
    return 2 * max(between) + full + part.places.size


def numbers_of(schedule: Schedule) -> Array | None:
    """A schedule as `mfpde.mesh.compiled.clocks` reads it; None where it has no finite value at 0, or is a function."""
    match schedule:
        case Constant():
            numbers = [r.AT_REST, schedule.value]
        case PowerLaw() if schedule.exponent >= 0.0:
            numbers = [r.POWER, schedule.exponent, schedule.scale]
        case PiecewiseLinear():
            numbers = [r.LINEAR, len(schedule.times), *schedule.times, *schedule.values]
        case ExponentialDecay():
            numbers = [r.DECAYING, schedule.initial, schedule.time_constant, schedule.final]
        case InverseLog():
            numbers = [r.LOGARITHMIC, schedule.scale, schedule.offset]
        case _:
            return None
    return np.array(numbers, dtype=float)
