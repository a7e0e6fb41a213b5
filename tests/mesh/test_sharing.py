"""What threads share: solvers, energies on a mesh, problems, filters of warnings. Each gets what it gets alone."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from shared import ROOT, same_bits

import mfpde as mf
from mfpde.mesh import defaults
from mfpde.support.session import RunWarning, quiet, warn
from mfpde.support.threads import Turns

THREADS = 4


@pytest.fixture(autouse=True)
def threads_alternate():
    """As often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(task, count=THREADS):
    """What `task(k)` gives for each of some threads that begin at the same time."""
    barrier = threading.Barrier(count)

    def run(k):
        barrier.wait(60)
        return task(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def starts(solver):
    """A density for each thread, of mass 1."""
    rng = np.random.default_rng(0)
    for _ in range(THREADS):
        mu = solver.init().mu * (0.5 + rng.random(solver.grid.shape))
        yield mu / (mu.sum() * solver.grid.cell_volume)


def mixed_order():
    """A network whose amplitude stands between its weight and its bias: densities are copied to another order."""
    x = np.linspace(-2, 2, 30)
    axes = [mf.Axis(name, -2, 2) for name in "acb"]
    law = mf.Product(**{name: stats.norm(0.0, 0.3) for name in "acb"})
    return mf.Problem(mf.TwoLayerNetwork(x, np.sin(x)), axes, law)


def convolution():
    kernel = mf.TranslationInvariantKernel(lambda x, y: np.exp(-(x**2 + y**2)))
    law = mf.Product(x=stats.norm(0, 0.5), y=stats.norm(0, 0.5))
    return mf.Problem(
        mf.Interaction(kernel) + mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.5))) + mf.Confinement(x=1.0),
        [mf.Axis("x", -3, 3), mf.Axis("y", -3, 3)],
        law,
        alpha=1.0,
    )


@pytest.mark.parametrize(
    ("problem", "shape", "parts"),
    [
        (mf.problems.three_gaussians(alpha=5.0), (60, 50), {}),
        (mf.problems.three_gaussians(alpha=5.0), (60, 50), {"method": mf.Strang()}),
        (convolution(), (40, 30), {"algebra": mf.NumpyAlgebra()}),
        (mf.problems.torus_langevin(), 400, {"method": mf.ImplicitStrang(), "scheme": mf.ScharfetterGummel()}),
        (mixed_order(), (14, 12, 16), {}),
    ],
    ids=["exponential", "Strang", "NumPy", "implicit", "mixed order"],
)
def test_threads_that_share_a_solver_get_what_each_gets_alone(problem, shape, parts):
    solver = mf.Solver(problem, shape, **parts)
    densities = list(starts(solver))

    def run(k, own):
        state, seen = own.init(densities[k]), []
        for _ in range(12):
            state, info = own.step(state, 1.0)
            at = own.evaluate(state)
            seen.append((state.t, state.length, info.dt, info.error, info.cell, at.energy))
        return state.mu, np.array(seen, dtype=float)

    alone = [run(k, mf.Solver(problem, shape, **parts)) for k in range(THREADS)]
    for one, other in zip(alone, in_threads(lambda k: run(k, solver)), strict=True):
        assert same_bits(one[0], other[0])
        assert same_bits(one[1], other[1])


@pytest.mark.parametrize(
    ("problem", "shape"),
    [
        (mf.problems.three_gaussians(), (200, 150)),
        (convolution(), (150, 140)),
        (mixed_order(), (30, 28, 26)),
        (mf.problems.mmd_flow(), (5000,)),
    ],
    ids=["product", "FFT and a sum", "mixed order", "a line"],
)
def test_threads_that_share_an_energy_on_a_mesh(problem, shape):
    grid = problem.grid(shape)
    plan = problem.bound_energy.on(grid)
    rng = np.random.default_rng(1)
    densities = [rng.random(shape) for _ in range(THREADS)]

    def evaluated(mu):
        V, energy, response = plan.evaluate(mu)
        along = plan.curvature(mu)
        return V.copy(), np.array(energy), response, np.zeros(1) if along is None else along(mu).copy()

    alone = [evaluated(mu) for mu in densities]
    for _ in range(10):
        for one, other in zip(alone, in_threads(lambda k: evaluated(densities[k])), strict=True):
            assert all(map(same_bits, one, other))


@pytest.mark.parametrize("name", ["three-gaussians", "torus-langevin", "mmd-flow"])
def test_threads_that_share_a_problem(name):
    """A problem that nobody has asked for anything yet, solved by four at once."""
    arguments = {"t_end": 0.01, "save": 3, "progress": False, "estimate": True}
    alone = mf.solve(mf.problems.get(name), **arguments)
    problem = mf.problems.get(name)
    for solution in in_threads(lambda k: mf.solve(problem, **arguments)):
        assert same_bits(solution.density, alone.density)
        assert same_bits(solution.energy, alone.energy)
        assert same_bits(solution.energy_error, alone.energy_error)
        assert solution.configuration == alone.configuration
        assert solution.stats == alone.stats


def test_who_asks_while_a_problem_is_looked_at_gets_the_same_scheme(monkeypatch):
    """The second thread asks while the first one looks: it waits or looks itself, and takes nothing unfinished."""
    problem, looking, asked = mf.problems.double_well_sampling(), threading.Event(), threading.Event()
    look = defaults._outlook

    def slowly(*arguments):
        looking.set()
        asked.wait(2)
        return look(*arguments)

    monkeypatch.setattr(defaults, "_outlook", slowly)

    def chosen(k):
        if k:
            assert looking.wait(60)
            asked.set()
        return defaults.default_scheme(problem, problem.grid())

    first, second = in_threads(chosen, 2)
    assert first == second
    assert "layers of" in second[1]


def test_warnings_that_are_not_said_leave_the_filters_as_they_are():
    """One thread is quiet while another comes to be and leaves before; filters are the whole process's."""
    before, entered, left = list(warnings.filters), threading.Event(), threading.Event()

    def quietly(k):
        if k:
            assert entered.wait(60)
        with quiet():
            entered.set()
            if k:
                left.set()
            assert left.wait(60)
            warn("nobody hears this")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        in_threads(quietly, 2)
        assert warnings.filters == inside
        assert caught == []
        with quiet(RunWarning):
            warn("nor this")
            warn("but this", category=UserWarning)
        warn("and this")
    assert [str(warning.message) for warning in caught] == ["but this", "and this"]
    assert warnings.filters == before


def test_nothing_but_the_command_line_changes_the_filters():
    """It has a process of its own; a library shares its one with the threads of others."""
    files = [path for path in Path(ROOT, "mfpde").rglob("*.py") if "catch_warnings" in path.read_text("utf-8")]
    assert [path.relative_to(ROOT).as_posix() for path in files] == ["mfpde/cli/output.py"]


def _enters(turns, queue):
    with turns:
        queue.put("entered")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no process is forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have():
    turns, context = Turns(), multiprocessing.get_context("fork")
    held, done = threading.Event(), threading.Event()

    def hold():
        with turns:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    queue = context.Queue()
    child = context.Process(target=_enters, args=(turns, queue))
    child.start()
    try:
        assert queue.get(timeout=30) == "entered"
    finally:
        done.set()
        thread.join()
        child.join(30)


def test_turns_come_out_of_a_pickle_as_new_ones():
    turns = Turns()
    with turns, turns, pickle.loads(pickle.dumps(turns)):
        pass
