"""What a run is said to take of memory against what it takes: never less, and at most 1.5 times as much.

`tracemalloc` counts NumPy's arrays, those that are made within compiled code (buffers of a megabyte) not among them.
"""

from __future__ import annotations

import dataclasses
import os
import tracemalloc

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.equation.energy import features, kernels
from mfpde.equation.energy.convolution import convolution_memory, is_awkward
from mfpde.mesh import memory
from mfpde.mesh.memory import run_memory
from mfpde.mesh.options import RunOptions

CELLS = 50_000
pytestmark = pytest.mark.filterwarnings("ignore::mfpde.RunWarning", "ignore::mfpde.TruncationWarning")


def network(axes, samples=50, outputs=1):
    """A network of so many axes: amplitudes, weights and a bias."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, axes - 1 - outputs))
    y = np.stack([np.sin((k + 1) * x[:, 0]) for k in range(outputs)], axis=1)
    return mf.problems.network(x if x.shape[1] > 1 else x[:, 0], y if outputs > 1 else y[:, 0])


def of(energy, axes=2, **options):
    """A problem of an energy on a box."""
    names = "xyz"[:axes]
    law = mf.Product(**{name: stats.norm(0.0, 0.5) for name in names})
    return mf.Problem(energy, [mf.Axis(name, -3, 3) for name in names], law, t_end=0.5, **options)


@dataclasses.dataclass(frozen=True)
class Porous(mf.energy.MeshEnergy):
    convex = True

    def evaluate(self, mu, grid):
        return 2.0 * mu, float((mu * mu).sum()) * grid.cell_volume


class Attracted(mf.energy.PointEnergy):
    """Half the mean square: V = |x|^2 / 2."""

    convex = True

    def potential(self, points, others, weights):
        return 0.5 * (points**2).sum(axis=1)

    def energy(self, others, weights):
        return 0.5 * float(weights @ (others**2).sum(axis=1))


def twenty(x, y):
    return np.stack([np.cos(k * x) * np.sin(y) for k in range(20)])


PROBLEMS = {
    **{name: lambda name=name: mf.problems.get(name) for name in mf.problems.names()},
    "3 axes": lambda: network(3),
    "4 axes": lambda: network(4),
    "2000 samples": lambda: network(4, 2000),
    "2 outputs": lambda: network(4, 200, 2),
}
OWN = {
    "user's on a mesh": lambda: of(Porous() + mf.Confinement(x=1.0)),
    "user's features": lambda: of(mf.Features(twenty, mf.SquaredLoss(np.ones(20)))),
    "two narrow kernels": lambda: of(
        mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(1e-6), y=mf.GaussianKernel(1e-6)))
    ),
    "transform of a plane": lambda: of(
        mf.Interaction(mf.TranslationInvariantKernel(lambda a, b: np.exp(-np.hypot(a, b))))
    ),
    "base measure": lambda: of(mf.Confinement(x=1.0, y=1.0), temperature=0.5, base=lambda x, y: 1.0 + x * x + y * y),
}


def shape_of(problem, cells):
    d = sum(axis.moves for axis in problem.axes)
    n = round(cells ** (1 / d)) // 2 * 2
    return (n,) * d


def said_and_used(problem, shape, **options):
    """What is said of a run, and the peak of what it holds."""
    options = {"save": 2, "max_steps": 3, "throw": False, "progress": False, "threads": 1} | options
    mf.solve(problem, (8,) * len(shape) if len(shape) > 1 else (40,), problem.t_end, **options)  # compiles
    said = run_memory(problem, RunOptions(shape=shape, **options), problem.grid(shape))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        mf.solve(problem, shape, problem.t_end, **options)
        used = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return said, used


def check(said, used):
    assert used <= said.total
    # what does not grow with the mesh is no part of it on meshes that matter
    assert said.total - said.always <= 1.5 * used


@pytest.fixture(autouse=True)
def blocks_are_small(monkeypatch):
    """So that on meshes as small as these they are as little of a run as they are on large ones."""
    monkeypatch.setattr(features, "BLOCK", 2**12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_shipped_problems_and_networks(name):
    problem = PROBLEMS[name]()
    check(*said_and_used(problem, shape_of(problem, CELLS), estimate=True))


@pytest.mark.parametrize("name", OWN)
def test_energies_of_ones_own(name):
    problem = OWN[name]()
    check(*said_and_used(problem, shape_of(problem, CELLS), estimate=False))


@pytest.mark.parametrize("name", ["three-gaussians", "torus-langevin", "mmd-flow"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": mf.Strang()},
        {"scheme": mf.Weno5()},
        {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitStrang()},
        {"save": 11},
    ],
    ids=["default", "Strang", "Weno5", "implicit", "saves"],
)
def test_methods_and_saves(name, options):
    problem = PROBLEMS[name]()
    if problem.temperature(0.0) == 0.0 and "scheme" in options and "method" in options:
        problem = dataclasses.replace(problem, temperature=0.1)
    check(*said_and_used(problem, shape_of(problem, CELLS), estimate=False, **options))


@pytest.mark.parametrize("algebra", [mf.NumpyAlgebra()])
def test_plain_arrays(algebra):
    problem = mf.problems.three_gaussians()
    check(*said_and_used(problem, (100, 100), estimate=False, algebra=algebra))


def test_more_threads_take_buffers_of_their_own():
    problem = mf.problems.three_gaussians()
    check(*said_and_used(problem, (400, 400), estimate=True, threads=2))


def test_threads_are_those_that_a_job_may_have(monkeypatch):
    """A machine of 128 processors of which a job was given one, as numba knows: 3 MiB for each would be 768 MiB."""
    problem = mf.problems.three_gaussians()
    grid = problem.grid((400, 400))
    alone = run_memory(problem, RunOptions(threads=1), grid)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 1)
    assert run_memory(problem, RunOptions(), grid) == alone


def test_a_dense_matrix_of_all_pairs_of_cells():
    problem = of(mf.Interaction(mf.PairKernel(lambda x, other: np.exp(-np.abs(x - other)))), axes=1)
    check(*said_and_used(problem, (1500,), estimate=False))


def test_densities_that_go_to_a_file_take_no_memory(path):
    problem = mf.problems.three_gaussians()
    said, used = said_and_used(problem, (200, 200), estimate=False, save=30, output=path, overwrite=True)
    check(said, used)
    assert said.saved < 3 * 8 * 200**2


def test_what_the_user_says_of_an_energy_of_his_own_counts(monkeypatch):
    class Heavy(Porous):
        def evaluation_bytes(self, grid):
            return 24.0 * grid.size**2

    light, heavy = (
        run_memory(problem, RunOptions(estimate=False), problem.grid((100, 100)))
        for problem in (of(Porous()), of(Heavy()))
    )
    assert heavy.total - light.total == pytest.approx(24.0 * 10**8 - 32.0 * 10**4)
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    with pytest.raises(MemoryError, match=r"the energy 99%.*use at most .* cells"):
        mf.solve(of(Heavy()), (100, 100), estimate=False, progress=False)


@pytest.mark.parametrize("said", [-1, np.nan, np.inf, "much", None, True, np.ones(2)], ids=str)
@pytest.mark.parametrize("kind", [Porous, Attracted])
def test_what_the_user_says_is_a_number_of_bytes(kind, said):
    class Odd(kind):
        def evaluation_bytes(self, grid):
            return said

    with pytest.raises(ValueError, match=r"^Odd\.evaluation_bytes\(grid\) must give a number of bytes >= 0, not .*$"):
        mf.solve(of(Odd()), (8, 8), progress=False)


@pytest.mark.parametrize("there", [2**27, 2**28])
def test_what_a_refusal_names_fits(there, monkeypatch):
    """The mesh that it names is not refused; without the estimate and with a file there is room for more."""
    monkeypatch.setattr(memory, "available", lambda: there)
    problem = mf.problems.student_teacher()
    with pytest.raises(MemoryError, match=r"use at most (\d+) x \1 x \1 cells or .*output= ") as refused:
        mf.solve(problem, (200, 200, 200), estimate=True, progress=False)
    n = int(str(refused.value).split("use at most ")[1].split()[0])
    sizes = [run_memory(problem, RunOptions(estimate=True), problem.grid((m,) * 3)).total for m in (n, n + 2)]
    assert sizes[0] <= there < sizes[1]
    assert "cells and 11 saved densities (the energy" in str(refused.value)


def test_where_the_estimate_takes_much_it_may_be_left_out(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**27)
    with pytest.raises(MemoryError, match="estimate=False"):
        mf.solve(mf.problems.self_attention(), (400_000,), estimate=True, save=2, progress=False)


def test_resuming_asks_as_well(path, monkeypatch):
    problem = mf.problems.linear_neuron()
    half = mf.solve(problem, (400,), 0.5, save=2, progress=False)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    with pytest.raises(MemoryError, match="400 cells"):
        mf.resume(half, 1.0, progress=False)


@pytest.mark.parametrize(
    ("n", "awkward"), [(2**20, False), (1514376, False), (1514369, True), (1499977, True), (1968688, True), (49, False)]
)
def test_awkward_lengths_are_known(n, awkward):
    """1514376 = 2^3 3^5 19 41; 1514369 = 53 * 28573; 1968688 = 2^4 71 1733; 1499977 is a prime."""
    assert is_awkward(n) is awkward


def test_an_awkward_length_is_counted_or_avoided():
    """A transform of 2^17 + 29 numbers, a prime, took 16 more arrays of them, which none of Python's counts sees."""
    n = 2**17 + 29
    prime, smooth = (convolution_memory((size,), (0,), (size,)) for size in (n, 2**17))
    assert prime.kept - smooth.kept > 10 * 8 * 2**17
    assert prime.making - smooth.making > 6 * 8 * 2**17
    problem = of(mf.Interaction(mf.TranslationInvariantKernel(lambda d: -np.abs(d))), axes=1)
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(kernels, "sign_of_spectrum", lambda samples, level: asked.append(samples.size) or 0)
        problem.bound_energy.sign_on(
            problem.grid((65538,)), free_mass=False
        )  # 65537, half the smallest circle, is prime
    assert len(asked) > 1
    assert not any(is_awkward(size) for size in asked)
