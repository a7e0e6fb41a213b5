"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def levels_of_references_are_no_users(tmp_path_factory):
    """References keep their levels on disk: not in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFPDE_CACHE_DIR", str(tmp_path_factory.mktemp("levels")))
        yield
