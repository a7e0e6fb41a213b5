"""Ctrl-C in the kernel of a notebook: the cell ends with what was computed, and the kernel goes on."""

from __future__ import annotations

import os

import pytest
from jupyter_client import KernelManager
from shared import ROOT, assert_same_solution

import mfpde as mf

SETUP = """
import time
import warnings

import mfpde as mf

warnings.simplefilter("ignore")  # the mesh is coarse
problem = mf.problems.linear_neuron()
asked = dict(shape=40, t_end=0.1, save=5, controller=mf.FixedStep(1e-3), estimate=False)
calls = 0

def tell(snapshot):  # of a run that would take 20 seconds
    global calls
    calls += 1
    if calls % 5 == 0:
        print("under way", flush=True)
    time.sleep(0.2)
    return False
"""


@pytest.fixture
def kernel(folder, monkeypatch):
    """A client of a kernel that keeps what is its own in the folder of the test."""
    own = {name: str(folder.parent / "jupyter") for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
    own |= {"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client, manager
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()


def run(kernel, code, until=None):
    """What a cell prints: all of it, once it has ended, or what came `until` some text and the name of the cell."""
    client, _ = kernel
    return heard(kernel, client.execute(code), until)


def heard(kernel, cell, until=None):
    printed = ""
    while True:
        message = kernel[0].get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != cell:
            continue
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content["traceback"])
        if kind == "stream":
            printed += content["text"]
            if until is not None and until in printed:
                return cell
        if kind == "status" and content["execution_state"] == "idle":
            return printed


def interrupted(kernel, cell, folder):
    """The step that a cell ended with after an interrupt in the midst of it; an error is none of the answers."""
    started = run(kernel, cell, until="under way")
    assert sorted(os.listdir(folder)) == [".run.h5.lock", "run.h5"]
    kernel[1].interrupt_kernel()
    heard(kernel, started)
    result, step = run(kernel, "print(solution.result.name, solution.state.n_steps)").split()
    assert result == "INTERRUPTED"
    assert os.listdir(folder) == ["run.h5"]
    found = mf.load("run.h5")
    assert (found.result, found.state.n_steps) == (mf.Result.INTERRUPTED, int(step))
    return int(step)


def test_an_interrupted_cell_ends_with_what_it_computed(kernel, folder):
    run(kernel, SETUP)
    first = interrupted(
        kernel, "solution = mf.solve(problem, **asked, stop=tell, progress=True, output='run.h5')", folder
    )
    # the kernel lives: its next cells go on with the file, as often as somebody likes
    second = interrupted(kernel, "solution = mf.resume('run.h5', stop=tell)", folder)
    assert 0 < first < second < 100
    assert run(kernel, "print(mf.resume('run.h5').result.name)") == "SUCCESS\n"
    assert os.listdir(folder) == ["run.h5"]
    whole = mf.solve(
        mf.problems.linear_neuron(), 40, 0.1, save=5, controller=mf.FixedStep(1e-3), estimate=False, progress=False
    )
    assert_same_solution(mf.load("run.h5"), whole)
