"""What runs of one problem on one small mesh share: solvers that are done with, starts, nodes. No bit differs."""

import copy
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats
from shared import same_bits

import mfpde as mf
from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh import companion, run, spare
from mfpde.mesh.descent import Descent
from mfpde.mesh.layers import CompiledWidths, layer_widths
from mfpde.mesh.transport import Transport

pytestmark = pytest.mark.filterwarnings("ignore::mfpde.RunWarning")


def solved(problem, cells=24, **options):
    return mf.solve(problem, cells, **{"t_end": 0.2, "save": 3, "progress": False, "estimate": True} | options)


def fresh():
    return mf.problems.linear_neuron(alpha=3.0)


def everything(solution):
    """All that a run says, but for its date and duration."""
    provenance = {name: value for name, value in solution.provenance.items() if name != "volatile"}
    states = [s for s in (solution.state, solution.companion) if s is not None]
    return (
        [np.asarray(a).tobytes() for a in (solution.density, solution.energy, solution.response, solution.times)],
        [column.tobytes() for column in solution.diagnostics.values()],
        [solution.errors.table().tobytes(), solution.errors.unseen.tobytes(), solution.errors.reason],
        [(s.t, s.mu.tobytes(), s.n_steps, s.length, s.memory) for s in states],
        [solution.stats, solution.warnings, solution.notes, solution.configuration, provenance, solution.fingerprint],
        solution.problem is not None and solution.problem.fingerprint(),
    )


@pytest.fixture
def made(monkeypatch):
    """The solvers that runs make."""
    seen = []

    class Seen(mf.Solver):
        def __init__(self, *arguments, **named):
            seen.append(self)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(run, "Solver", Seen)
    monkeypatch.setattr(companion, "Solver", Seen)
    return seen


class TestSpareSolvers:
    def test_the_second_run_takes_those_of_the_first(self, made):
        problem = fresh()
        known = everything(solved(problem))
        assert len(made) == 2  # the run's and its companion's
        assert everything(solved(problem)) == known
        assert len(made) == 2
        assert everything(solved(problem, t_end=0.3, save=5)) == everything(solved(fresh(), t_end=0.3, save=5))
        assert len(made) == 4
        assert everything(solved(problem, estimate=False)) == everything(solved(fresh(), estimate=False))
        # that run had no companion, which is made again
        assert everything(solved(problem)) == known

    @pytest.mark.parametrize(
        "other",
        [
            {"cells": 25},
            {"scheme": mf.Weno5()},
            {"controller": mf.ErrorControl()},
            {"method": mf.Strang()},
            {"initial": mf.Product(theta=stats.norm(0.2, 0.5))},
        ],
        ids=["mesh", "scheme", "controller", "method", "start"],
    )
    def test_a_run_of_another_kind_takes_none(self, other, made):
        problem = fresh()
        solved(problem)
        count = len(made)
        assert everything(solved(problem, **other)) == everything(solved(fresh(), **other))
        assert len(made) == count + 4

    def test_those_who_go_on_by_hand_have_their_own(self):
        problem = fresh()
        solution = solved(problem)
        known = everything(solved(problem, initial=solution.state, t_end=0.4))
        assert everything(solved(fresh(), initial=solution.state, t_end=0.4)) == known
        solver = mf.Solver(problem, 24)
        state = solver.step(solver.init(), 0.2)[0]
        before = state.mu.copy()
        solved(problem)
        assert same_bits(state.mu, before)
        assert solver.problem is problem

    def test_a_run_that_fails_brings_none_back(self, made):
        def stop(snapshot):
            raise KeyError("mine")

        problem = fresh()
        for count in (2, 4):
            with pytest.raises(KeyError, match="mine"):
                solved(problem, stop=stop)
            assert len(made) == count
        assert everything(solved(problem)) == everything(solved(fresh()))

    def test_results_are_not_written_to_by_the_next_run(self):
        problem = fresh()
        one = solved(problem)
        known = everything(one)
        solved(problem, save=5)
        assert everything(one) == known

    def test_threads_have_one_each(self):
        problem, known = fresh(), everything(solved(fresh()))
        barrier = threading.Barrier(4)

        def task(_):
            barrier.wait(60)
            return [everything(solved(problem)) for _ in range(4)]

        with ThreadPoolExecutor(4) as pool:
            assert all(found == known for runs in pool.map(task, range(4)) for found in runs)
        kept = spare._spare(problem, problem.grid(24))
        assert 1 <= len(kept) <= spare.MOST_SPARE
        assert len({id(solver) for solver in kept}) == len(kept)

    def test_a_problem_goes_with_all_that_is_kept_with_it(self):
        problem = fresh()
        solved(problem)
        kept = weakref.ref(spare._spare(problem, problem.grid(24))[0])
        gone = weakref.ref(problem)
        del problem
        gc.collect()
        assert gone() is None
        assert kept() is None

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
    def test_copies_share_nothing(self, copied, made):
        problem = fresh()
        solution = solved(problem)
        other = copied(problem)
        count = len(made)
        assert everything(solved(other)) == everything(solution)
        assert len(made) == count + 2
        assert all(solver.problem is not problem for solver in made[count:])


class TestStarts:
    def test_what_is_said_of_a_start_is_a_run_s_own(self):
        problem = mf.problems.gaussian_bumps(initial_std=0.1)
        one = solved(problem, 30)
        assert any("the start" in text for text in one.warnings)
        said = list(one.warnings)
        one.warnings.append("mine")
        assert solved(problem, 30).warnings == said

    def test_markers_of_one_start_are_each_run_s_own(self):
        problem = fresh()
        solver = mf.Solver(problem, 30)
        mu = solver.init().mu
        V = solver.evaluate(solver.init()).V
        one, other = (Descent(problem, solver.grid, 0.0, mu, V, compiled=compiled) for compiled in (True, False))
        points = other._points.copy()
        one.advance(0.2, V)
        assert np.abs(one._points - points).max() > 0.01
        assert same_bits(other._points, points)
        again = Descent(problem, solver.grid, 0.0, mu, V)
        assert same_bits(again._points, points)
        assert again.selection == 0.0 < one.selection
        # another start has markers of its own
        assert Descent(problem, solver.grid, 0.0, np.where(mu > mu.max() / 2, mu, 0.0), V)._points.shape < points.shape

    def test_nodes_are_those_of_the_temperature(self):
        """What a start has lost is asked of nodes once for each temperature, of a start of its own every time."""
        problem = fresh()
        solver = mf.Solver(problem, 20)
        found = companion.functionals(solver.evaluate(solver.init()), None, solver.grid)
        for temperature in (0.0, 0.5, 0.0):
            alone = companion.start_error(problem, problem.mu_0, found, temperature)
            shared = companion.start_error(problem, problem.mu_0, found, temperature, 0.0, solver.grid)
            assert same_bits(alone, shared)
        other = mf.Product(theta=stats.norm(0.2, 0.5)).restrict(solver.grid.axes)
        lost = companion.start_error(problem, other, found, 0.0, 0.0, solver.grid)
        assert not np.array_equal(lost, companion.start_error(problem, problem.mu_0, found, 0.0))


@pytest.mark.parametrize("shape", [(4,), (7,), (9,), (137,), (5, 4), (33, 40), (6, 7, 5), (4, 5, 4, 6)])
@pytest.mark.parametrize("periodic", [False, True])
def test_compiled_widths_have_the_bits_of_those_in_numpy(shape, periodic):
    rng, names = np.random.default_rng(0), "abcd"
    kinds = [End.PERIODIC if periodic and i % 2 == 0 else End.TRUNCATION for i in range(len(shape))]
    grid = Grid([Axis(names[i], -1.3, 2.0 + i, kind) for i, kind in enumerate(kinds)], shape)
    widths = CompiledWidths(grid)
    some = rng.random(shape)
    for mu in (some, np.where(some < 0.5, 0.0, some), np.exp(-50.0 * some), np.ones(shape)):
        assert widths(mu) == (float(mu.min()), float(mu.sum()), layer_widths(mu, grid))
    assert widths(some - 0.5)[::2] == (some.min() - 0.5, ())


def test_what_takes_no_compiled_code_is_looked_at_in_numpy(monkeypatch):
    """A start of single precision, which a file may have: for its type all would be compiled once more."""
    seen, compiled = [], CompiledWidths.__call__
    monkeypatch.setattr(CompiledWidths, "__call__", lambda self, mu: seen.append(mu.dtype) or compiled(self, mu))
    problem = fresh()
    mu = mf.Solver(problem, 24).init().mu.astype(np.float32)
    assert solved(problem, initial=mf.State(0.0, mu)).result is mf.Result.SUCCESS
    assert set(seen) == {np.dtype(float)}  # those of later times, and not the start


@pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl(), mf.ScharfetterGummel()])
@pytest.mark.parametrize("shape", [(40,), (9, 140)])
def test_buffers_may_hold_anything_before_they_are_written_to(scheme, shape, monkeypatch):
    """They are not set to 0, which would take as long as several sweeps."""
    grid = Grid([Axis(f"x{i}", -1.0, 1.0 + i) for i in range(len(shape))], shape)
    rng = np.random.default_rng(0)
    mu, V = rng.random(shape), rng.standard_normal(shape)

    def found(junk):
        transport = Transport(grid, scheme)
        transport._work(0)[:] = junk
        outflow = transport.outflow(V, mu, 0.1)
        return [transport.rate(mu, V, None, 1e-3, 0.1, outflow=outflow), *transport.fluxes(mu, V, 1e-3, 0.1)]

    for zero, nan in zip(found(0.0), found(np.nan), strict=True):
        assert same_bits(zero, nan)
