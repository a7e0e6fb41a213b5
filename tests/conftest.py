"""What all tests share; what is no fixture is in `shared.py`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

# the studies in `validation/` are no part of the package that is installed
sys.path.append(str(Path(__file__).resolve().parents[1]))


@pytest.fixture(autouse=True, scope="session")
def levels_of_references_are_no_users(tmp_path_factory):
    """References keep their levels on disk: not in the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MFPDE_CACHE_DIR", str(tmp_path_factory.mktemp("levels")))
        yield


@pytest.fixture(autouse=True, scope="session")
def workers_take_one_thread_each():
    """Where tests run side by side, matrix products do not run on all processors as well."""
    side_by_side = "PYTEST_XDIST_WORKER" in os.environ
    with threadpool_limits(limits=1) if side_by_side else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True, scope="session")
def interrupts_are_heard():
    """A shell starts jobs in the background deaf to Ctrl-C; tests send it to themselves."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def runs_have_no_companions():
    """Runs of tests that are about other things do not say how accurate they are: that would take a third longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mfpde.mesh.options.ESTIMATE", False)
        yield


@pytest.fixture(scope="module")
def companions():
    """Runs say how accurate they are, as they do for users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mfpde.mesh.options.ESTIMATE", True)
        yield


@pytest.fixture
def strict_arithmetic():
    """What is not a number, or is infinite, raises where it is made."""
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(scope="module")
def one_thread():
    """Small products are slower on several threads, much slower on a busy machine."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def path(tmp_path):
    """A file for a run that is not there yet."""
    return tmp_path / "run.h5"
