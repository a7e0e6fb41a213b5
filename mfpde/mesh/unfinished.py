"""What the file of a run that is not over holds besides the head of a solution: its columns and its checksums.

The writer is `mfpde.mesh.stream`, the reader `mfpde.mesh.unfinished_reader`; ``docs/file-format.md`` describes it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.description.stored import description_sums
from mfpde.mesh.solution_writer import ATTRIBUTES, WORDS
from mfpde.support.arrays import Array
from mfpde.support.files.frames import crc
from mfpde.support.files.hdf5 import attributes_sha256, sha256

if TYPE_CHECKING:
    import h5py

__all__ = [
    "CHECKPOINT_COLUMNS",
    "CHECKPOINT_SUMS",
    "COMPANION_COLUMNS",
    "FRAME_COLUMNS",
    "FRAME_SUMS",
    "MEMORIES",
    "NOT_WHOLE",
    "RowSums",
    "head_sums",
]

MEMORIES = 8
"""Numbers that a controller may remember. More are not kept: a run that goes on then finds its step anew."""
FRAME_COLUMNS = ("time", "energy", "steps", "length", "evaluations", "leak", "memories")
"""What is said about each frame; the controller's memory follows."""
COMPANION_COLUMNS = ("record", "checksum", "time", "steps", "length", "memories")
"""What is said about each of two states of the companion, likewise."""
CHECKPOINT_COLUMNS = ("record", "checksum", "frames", "rows", *FRAME_COLUMNS)
"""What is said about each checkpoint: checksums of the rest and of the density, what was written, and the same."""
CHECKPOINT_SUMS = ("rows_before", "newest_row", "reason")
"""Checksums that follow the controller's memory in a checkpoint; as in `FRAME_SUMS`."""
FRAME_SUMS = ("record", "density", "errors", "frame", "rows", *CHECKPOINT_SUMS)
"""Checksums of each frame.

``record`` is that of the rest of the row, and 0 as long as the frame is not whole; ``density``, ``errors`` and
``frame`` are those of what is said about it; ``rows`` is the number of rows of diagnostics up to it, ``rows_before``
the checksum of all but the newest of them, ``newest_row`` that of what is known of the newest one on arrival;
``reason`` that of the text why there are no estimates.
"""
NOT_WHOLE = "not whole in the file: "
"""What the warning of a damaged file begins with."""


class RowSums:
    """CRC-32 of rows of diagnostics, as they become more.

    Parameters
    ----------
    arrival : array of bool
        The columns that are known of a state when it arrives; the others follow when it is left.
    """

    def __init__(self, arrival: NDArray[np.bool_]) -> None:
        self._arrival = arrival
        self._sum = self._rows = 0  # of the rows that are complete

    def of(self, values: Array, first: int, count: int) -> tuple[int, int] | None:
        """The checksum of all but the newest of `count` rows, and that of the newest as it is on arrival.

        Parameters
        ----------
        values : array
            The rows from number `first` on, which must be all that are new since the last call.
        first, count : int

        Returns
        -------
        (int, int) or None
            None where there were more rows before.
        """
        complete = count - 1
        if complete < self._rows:
            return None
        new = np.ascontiguousarray(values[self._rows - first : complete - first])
        if new.size:
            self._sum = zlib.crc32(new.data.cast("B"), self._sum)
        self._rows = complete
        return self._sum, crc(values[complete - first][self._arrival])


def head_sums(file: h5py.File, axes: Sequence[str]) -> dict[str, str]:
    """Checksums of what is written once at the start of a run.

    Parameters
    ----------
    file : h5py.File
    axes : sequence of str
        The datasets of the axes.
    """
    places = [
        ("", (*ATTRIBUTES[""], *WORDS)),
        ("density", ATTRIBUTES["density"]),
        ("unfinished", ("columns", "integers", "departure")),
        ("volatile", sorted(file["volatile"].attrs)),
        *((axis, ATTRIBUTES["axis"]) for axis in axes),
    ]
    sums = {axis: sha256(file[axis]) for axis in axes}
    return {
        **sums,
        **description_sums(file),
        "errors_unseen": sha256(file["unfinished/errors_unseen"]),
        "attributes": attributes_sha256(file, places),
    }
