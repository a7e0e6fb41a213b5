"""The file that a run writes, if there is one, and what keeps others from it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mfpde.support.arguments import PATH, one_of, require

if TYPE_CHECKING:
    from mfpde.mesh.stream import Stream

__all__ = ["stream_to", "written_to"]


@contextlib.contextmanager
def stream_to(output: str | os.PathLike[str] | Stream | None, *, overwrite: bool) -> Iterator[Stream | None]:
    """Where saved densities go, if to a file, which nobody else writes as long as the block lasts."""
    if output is None:
        yield None
        return
    from mfpde.mesh.stream import Stream

    require(output=(output, one_of(Stream) | PATH))
    with written_to(output):
        yield output if isinstance(output, Stream) else Stream(output, overwrite=overwrite)


def written_to(output: str | os.PathLike[str] | Stream) -> AbstractContextManager[None]:
    """What keeps others from the file that a run writes."""
    from mfpde.mesh.stream import Stream
    from mfpde.support.files.locks import held

    if isinstance(output, Stream):  # who made it may hold its file already
        return held(output.path, again=True)
    return held(output)
