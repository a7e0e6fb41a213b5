"""The pytest plugin of mfpde: the fixture `mean_field_reference`. It costs nothing until a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mfpde.verification.references.certified import Reference

__all__ = ["mean_field_reference"]


@pytest.fixture(scope="session")
def mean_field_reference() -> Callable[[str], Reference]:
    """The function that gives a mean-field reference: ``mean_field_reference("three-gaussians")``.

    It takes a name from ``mfpde reference --list`` or the path of a reference file, see `mfpde.load_reference`; each
    is read once in a session.
    """
    found: dict[str, Reference] = {}

    def load(name: str) -> Reference:
        import mfpde

        if name not in found:
            found[name] = mfpde.load_reference(name)
        return found[name]

    return load
