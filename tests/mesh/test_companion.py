"""The companion of a run: estimates against errors that are known, the same bits whatever interrupts, and why not."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings

import h5py
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import mfpde as mf
from mfpde.equation.grid import half
from mfpde.equation.smooth import divisors, is_smooth
from mfpde.mesh import companion as companion_module
from mfpde.mesh.companion import coarsened, looser, start_error
from mfpde.mesh.compiled.run_structures import R_TIME
from mfpde.mesh.energy_errors import energy_scale, largest_share, said_of_error
from mfpde.mesh.record import Errors
from mfpde.runs.loading import load
from mfpde.runs.resuming import resume
from mfpde.support.files.hdf5 import FileFormatError
from mfpde.support.words import with_digits

pytestmark = pytest.mark.usefixtures("companions")

QUIET = {"progress": False}


def same(one: mf.Solution, other: mf.Solution) -> None:
    """All of the estimates have the same bits, and so has what they go on from."""
    np.testing.assert_array_equal(one.errors.table(), other.errors.table())
    np.testing.assert_array_equal(one.errors.unseen, other.errors.unseen)
    assert (one.errors.cells, one.errors.reason) == (other.errors.cells, other.errors.reason)
    assert one.companion.t == other.companion.t
    assert (one.companion.length, one.companion.memory) == (other.companion.length, other.companion.memory)
    np.testing.assert_array_equal(one.companion.mu, other.companion.mu)


# ----- what is estimated


@pytest.mark.parametrize(
    ("scheme", "cells", "low", "high"),
    [
        (mf.Upwind(), 160, 0.8, 1.3),  # first order: the difference is the error
        (mf.ScharfetterGummel(), 100, 0.8, 1.2),  # second order: a third of the difference is the error
        (mf.Muscl(), 100, 1.0, 9.0),  # second order, not divided
        (mf.Weno5(), 60, 1.0, 60.0),  # fifth order: 31/3 of the error, and more where steps have errors, too
    ],
)
def test_estimates_are_about_the_errors(scheme, cells, low, high):
    """Against the closed form of a Gaussian that spreads in a quadratic well."""
    problem = mf.problems.gaussian_langevin()
    solution = mf.solve(problem, cells, scheme=scheme, **QUIET)
    exact = np.array([problem.exact["energy"](t) for t in solution.times])
    error = np.abs(solution.energy - exact)[1:].max()
    assert low < solution.energy_error[1:].max() / error < high
    mean, variance = (np.array([problem.exact[of](t) for t in solution.times]) for of in ("mean", "variance"))
    for power, name, right in ((1, "mean", mean), (2, "second_moment", variance + mean**2)):
        ours = [solution.moment("x", power, t) for t in solution.times]
        assert solution.error(name)[1:, 0].max() > 0.3 * np.abs(ours - right)[1:].max()


def test_estimates_fall_with_the_cells():
    """Scharfetter-Gummel: by 4 where the cells are halved, the steps short."""
    problem = mf.problems.gaussian_langevin()
    control = mf.ErrorControl(1e-7)
    errors = [
        mf.solve(problem, n, scheme=mf.ScharfetterGummel(), controller=control, **QUIET).energy_error[-1]
        for n in (100, 200, 400)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert 3.5 < coarse / fine < 4.5


def test_errors_of_the_response_are_those_of_linear_functionals():
    """A response of one component, ``u = int x dmu``, is the mean."""
    energy = mf.Features(lambda x: x[None], mf.SquaredLoss([1.0]), gradient=lambda x: np.ones((1, 1, *x.shape)))
    problem = mf.Problem(energy, [mf.Axis("x", -4, 4)], mf.Product(x=stats.norm(0.0, 0.5)), alpha=1.0, t_end=1.0)
    solution = mf.solve(problem, 60, **QUIET)
    assert solution.response.shape[1] == 1
    np.testing.assert_allclose(solution.error("response"), solution.error("mean"), rtol=1e-6, atol=1e-14)
    assert solution.error("response")[-1, 0] > 0


def test_an_unknown_error_is_refused():
    solution = mf.solve(mf.problems.linear_neuron(), 40, 0.1, estimate=False, **QUIET)
    with pytest.raises(ValueError, match="no estimate of the error of 'mass'; valid: energy, response, mean"):
        solution.error("mass")


def test_the_run_is_what_it_is_without():
    for problem, shape in (
        (mf.problems.three_gaussians(), (20, 24)),
        (mf.problems.double_well_sampling(), 60),
        (mf.problems.get("predicting-failure"), 60),
    ):
        one, other = (mf.solve(problem, shape, estimate=estimate, **QUIET) for estimate in (True, False))
        np.testing.assert_array_equal(one.density, other.density)
        np.testing.assert_array_equal(one.response, other.response)
        for name, column in one.diagnostics.items():
            np.testing.assert_array_equal(column, other.diagnostics[name])
        assert one.stats == other.stats
        assert other.errors.reason == "estimate = False"
        assert np.isnan(other.energy_error).all()


def test_only_the_run_is_shown_to_others():
    """Stop conditions see its steps alone."""
    seen = []
    problem = mf.problems.linear_neuron()
    solution = mf.solve(problem, 80, 0.5, stop=lambda at: bool(seen.append((at.step, at.mu.size))), **QUIET)
    assert seen == [(k + 1, 80) for k in range(solution.stats["steps"])]


# ----- the divisor


def test_differences_are_divided_where_errors_are_of_second_order():
    quiet = {"t_end": 0.2, "save": 3, **QUIET}
    bumps = mf.problems.gaussian_bumps()

    def found(problem, shape=100, **more):
        return mf.solve(problem, shape, **quiet, **more).errors.divisor.tolist()

    assert found(bumps) == [3.0] * 3
    assert found(bumps, scheme=mf.Muscl()) == [1.0] * 3
    assert found(bumps, method=mf.Lie()) == [1.0] * 3
    assert found(mf.problems.gaussian_bumps(initial_std=0.2)) == [1.0] * 3  # two cells wide
    jump = dataclasses.replace(bumps, initial=mf.Product(x=stats.uniform(-1.0, 2.0)))
    assert found(jump) == [1.0] * 3
    kinks = mf.problems.network([0.0, 1.0], [1.0, 0.0], activation="relu", half_width=2.0)
    assert set(found(kinks, (10, 10, 10))) == {1.0}


def test_what_a_jump_has_cost_is_not_made_good():
    """Diffusion makes a density smooth again, and not its errors."""
    problem = dataclasses.replace(mf.problems.gaussian_langevin(), initial=mf.Product(x=stats.uniform(-1.0, 2.0)))
    solution = mf.solve(problem, 200, 1.0, save=5, **QUIET)
    assert not is_smooth(solution.density[0], solution.grid)
    assert is_smooth(solution.density[-1], solution.grid)
    assert solution.errors.divisor.tolist() == [1.0] * 5


def test_a_difference_that_passes_through_zero_is_no_accuracy():
    """From one save time to the next an estimate falls to a tenth at most."""
    solution = mf.solve(mf.problems.double_well(), 100, **QUIET)
    errors = solution.energy_error[1:]
    assert (errors[1:] >= 0.1 * errors[:-1] * (1 - 1e-12)).all()
    table = []
    for wanted in (0.1, 1e-6, 0.2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(companion_module, "FADES", wanted)
            table.append(mf.solve(mf.problems.double_well(), 100, **QUIET).energy_error)
    assert (table[0] >= table[1]).all()
    assert (table[0] > table[1]).any()
    assert (table[2] > table[0]).any()


def test_a_normal_law_is_smooth_from_three_cells_on():
    for cells, smooth in ((2.5, False), (3.1, True)):
        line = mf.Grid([mf.Axis("x", -30.0, 30.0)], [60])
        plane = mf.Grid([mf.Axis("y", 0.0, 1.0), *line.axes], [8, 60])
        values = stats.norm.pdf(line.centres(0) / cells)
        assert is_smooth(values, line) is smooth
        assert is_smooth(np.outer(np.ones(8), values), plane) is smooth


def test_the_ends_of_a_periodic_axis_are_neighbours():
    """A slope has no jump between its ends; on a ring it has one of its whole height."""
    for ends, smooth in ((mf.End.NATURAL, True), (mf.End.PERIODIC, False)):
        ring = mf.Axis("x", 0.0, 1.0, ends)
        line, plane = mf.Grid([ring], [40]), mf.Grid([mf.Axis("y", 0.0, 1.0), ring], [8, 40])
        slope = 0.2 + line.centres(0)
        assert is_smooth(slope, line) is smooth
        assert is_smooth(np.outer(np.ones(8), slope), plane) is smooth


@pytest.mark.parametrize("cells", [5, 6, 7, 9])
def test_a_mesh_that_has_no_half_is_divided_by_less(cells):
    """The companion has 4, 4, 4 and 5 cells, and an error of second order is ``1 / ((n/m)^2 - 1)`` of the difference.

    Everything is smooth, down to the walls, so that already these few cells show the order.
    """
    box = [mf.Axis("x", 0.0, 1.0, mf.End.NATURAL)]
    start = mf.Density(lambda x: 1.0 + 0.5 * x)
    problem = mf.Problem(mf.External(lambda x: x**2), box, start, temperature=1.0, t_end=0.3)
    solution = mf.solve(problem, cells, save=6, **QUIET)
    error = np.abs(solution.energy - mf.solve(problem, 128, save=6, estimate=False, **QUIET).energy)[1:].max()
    assert 0.9 < solution.energy_error[1:].max() / error < 1.1


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        ((48, 40, 8), 1.0, 3.0),
        ((5,), 0.25, 0.5625),
        ((200, 4), 1.0, 3.0),  # where nothing changes, nothing is seen
        # errors 1/8 + 1/5 and 1/8^2 + 1/5^2 become 1/4 + 1/4 and 1/4^2 + 1/4^2
        ((8, 5), 0.5 / 0.325 - 1.0, 0.125 / 0.055625 - 1.0),
    ],
)
def test_by_what_differences_are_divided(shape, first, second):
    grid = mf.Grid([mf.Axis(name, 0.0, 1.0) for name in "abc"[: len(shape)]], shape)
    assert divisors(grid, half(grid)) == pytest.approx((first, second), rel=1e-14)
    if first == 1.0:
        assert divisors(grid, half(grid)) == (1.0, 3.0)


# ----- whatever interrupts


def whole_and_cut(problem, shape, cut, **more):
    """A run to its end, and one that was stopped on the way and goes on."""
    whole = mf.solve(problem, shape, **more, **QUIET)
    part = mf.solve(problem, shape, stop=lambda at: at.time > cut, **more, **QUIET)
    assert part.result is mf.Result.STOPPED
    assert part.times[-1] == part.state.t
    assert np.isfinite(part.errors.table()).all()  # also where it was stopped, which is no save time
    return whole, part


@pytest.mark.parametrize("cut", [0.03, 0.21, 0.5, 0.77])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_run_that_goes_on_has_the_same_estimates(cut, where, tmp_path):
    problem = mf.problems.linear_neuron()
    whole, part = whole_and_cut(problem, 50, cut, t_end=1.0, save=6)
    if where == "file":
        part.save(tmp_path / "a.h5")
        part = load(tmp_path / "a.h5")
    same(resume(part, 1.0, save=None, **QUIET), whole)


@pytest.mark.parametrize("name", ["double-well-sampling", "three-gaussians"])
def test_so_have_others(name, tmp_path):
    problem = mf.problems.get(name)
    shape = 48 if len(problem.axes) == 1 else (18, 20)
    whole, part = whole_and_cut(problem, shape, 0.37 * problem.t_end, save=5)
    same(resume(part, problem.t_end, **QUIET), whole)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 23, 40])
def test_an_unfinished_file_goes_on_with_the_same_estimates(steps, tmp_path, monkeypatch):
    """Whatever has been written when a run dies: here it raises where nothing is prepared for it."""
    problem, path = mf.problems.linear_neuron(), tmp_path / "a.h5"
    whole = mf.solve(problem, 50, 1.0, save=6, **QUIET)

    class Died(BaseException):
        pass

    def die(at):
        if at.step == steps:
            raise Died
        return False

    with pytest.raises(Died):
        mf.solve(problem, 50, 1.0, save=6, output=path, checkpoint=1e-9, stop=die, **QUIET)
    left = load(path)
    assert left.result is mf.Result.UNFINISHED
    saved = len(left.times)
    np.testing.assert_array_equal(left.errors.table(), whole.errors.table()[:saved])  # they stand when it runs
    assert left.companion.t <= left.state.t
    same(resume(path, **QUIET), whole)


def test_a_companion_that_was_not_written_to_its_end_is_not_taken(tmp_path):
    """The state before it is, from which the steps are made again."""
    problem, path = mf.problems.linear_neuron(), tmp_path / "a.h5"
    whole = mf.solve(problem, 50, 1.0, save=6, **QUIET)
    with pytest.raises(ZeroDivisionError):
        mf.solve(
            problem, 50, 1.0, save=6, output=path, checkpoint=1e-9, stop=lambda at: at.time > 0.5 and 1 / 0, **QUIET
        )
    for slot in (0, 1):
        with h5py.File(path, "r+") as file:
            densities = file["unfinished/companion_mu"]
            kept, densities[slot] = densities[slot], 0.0
        assert load(path).companion.mu.any()
        with pytest.warns(mf.RunWarning, match=rf"not whole in the file: the companion's state {slot}\. The newest"):
            same(resume(path, output=tmp_path / f"{slot}.h5", **QUIET), whole)
        with h5py.File(path, "r+") as file:
            file["unfinished/companion_mu"][slot] = kept


def test_a_state_of_the_companion_that_is_later_is_not_taken(tmp_path):
    """Where the newest state of the run is lost, that of its companion is ahead of the one before."""
    problem, path = mf.problems.linear_neuron(), tmp_path / "a.h5"
    whole = mf.solve(problem, 50, 1.0, save=6, **QUIET)
    late = {"stop": lambda at: at.time > 0.5 and 1 / 0}
    with pytest.raises(ZeroDivisionError):
        mf.solve(problem, 50, 1.0, save=6, output=path, checkpoint=None, **late, **QUIET)
    with h5py.File(path, "r+") as file:  # as if the last frame had not been written to its end
        frames, _ = file["unfinished/count"][:]
        steps = int(file["unfinished/frames"][frames - 2, 2])
        file["unfinished/count"][:] = frames - 1, steps + 1
        file["unfinished/frame_sums"][frames - 1, 0] = 0.0
    left = load(path)
    assert left.companion.t <= left.state.t < 0.4
    same(resume(path, **QUIET), whole)


def test_a_companion_that_has_ended_is_not_revived(tmp_path, monkeypatch):
    """It ends at t = 0.3, between two save times; a run that goes on from a checkpoint after that has none either."""
    problem, path = mf.problems.linear_neuron(), tmp_path / "a.h5"

    judged = companion_module.Companion._judged

    def ending(state, advanced, times, first):
        passed = advanced.rows[:, R_TIME]
        if glitches and passed[-1] > 0.3:
            return int(np.searchsorted(passed, 0.3)), "a glitch"
        return judged(state, advanced, times, first)

    glitches = True
    monkeypatch.setattr(companion_module.Companion, "_judged", staticmethod(ending))
    whole = mf.solve(problem, 50, 1.0, save=6, **QUIET)
    late = {"stop": lambda at: at.time > 0.35 and 1 / 0}
    with pytest.raises(ZeroDivisionError):
        mf.solve(problem, 50, 1.0, save=6, output=path, checkpoint=1e-9, **late, **QUIET)
    glitches = False
    assert load(path).errors.reason == "the run on half the cells ended: a glitch"
    again = resume(path, **QUIET)
    assert again.errors.reason == whole.errors.reason
    np.testing.assert_array_equal(again.errors.table(), whole.errors.table())
    assert np.isnan(again.energy_error).tolist() == [False, False, True, True, True, True]


@pytest.mark.parametrize("algebra", [None, mf.NumpyAlgebra()], ids=["compiled", "numpy"])
def test_a_companion_does_not_take_many_times_the_steps_of_its_run(monkeypatch, algebra):
    """An energy may be stiff on coarse cells only: the run does not wait for that."""
    monkeypatch.setattr(companion_module, "looser", lambda controller: mf.FixedStep(1e-4))
    solution = mf.solve(mf.problems.linear_neuron(), 50, 1.0, save=6, algebra=algebra, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert "it takes more than 4 times the steps of the run" in solution.errors.reason
    assert solution.companion is None


def test_a_longer_run_has_the_estimates_of_a_shorter_one():
    """They depend on nothing that comes later."""
    problem = mf.problems.double_well()
    short, long = (mf.solve(problem, 60, t, save=[0.5, 1.0, 1.5][: int(2 * t)], **QUIET) for t in (1.0, 1.5))
    np.testing.assert_array_equal(short.errors.table(), long.errors.table()[:3])


# ----- where there is none


def reason(problem, shape, **more):
    solution = mf.solve(problem, shape, t_end=0.1, save=3, **more, **QUIET)
    assert np.isnan(solution.energy_error[1:]).all()
    assert solution.errors.reason in str(solution)
    return solution.errors.reason


def test_why_there_is_no_estimate_is_said():
    well = mf.problems.quadratic_well()
    assert reason(well, 4) == "no axis has more than 4 cells, half of them are no mesh"
    assert reason(well, 40, estimate=False) == "estimate = False"

    class OneMesh(mf.energy.MeshEnergy):
        """A potential that is known on 40 cells only."""

        def evaluate(self, mu, grid):
            if grid.shape != (40,):
                raise ValueError("only 40 cells are tabulated")
            V = 0.5 * grid.centres(0) ** 2
            return V, float(np.vdot(V, mu) * grid.cell_volume)

    own = mf.Problem(OneMesh(), [mf.Axis("x", -4, 4)], mf.Product(x=stats.norm(0.5, 0.5)), t_end=0.1)
    assert "only 40 cells are tabulated" in reason(own, 40)


class Peculiar:
    """The potential ``x^2/2``, which does something else where it is given so many points."""

    def __init__(self, points, other):
        self.points, self.other = points, other

    def __call__(self, x):
        if np.size(x) == self.points:
            self.other()
        return 0.5 * x**2


def peculiar(points, other):
    start = mf.Product(x=stats.norm(0.3, 0.4))
    return mf.Problem(mf.External(Peculiar(points, other)), [mf.Axis("x", -3.0, 3.0)], start, t_end=0.1)


@pytest.mark.parametrize("error", [LookupError, NotImplementedError, TypeError, RuntimeWarning])
def test_an_energy_that_fails_at_the_nodes_of_the_start_costs_no_run(error):
    """What a start has lost is then not known: the two meshes tell."""

    def fail():
        raise error("no such points")

    nodes = companion_module.NODES[1]
    solution = mf.solve(peculiar(nodes, fail), 60, save=3, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert np.isfinite(solution.energy_error).all()


def test_filters_of_warnings_stay_what_they_are():
    """They are those of all threads: one that changes them for a while gives another one's back in the end."""
    outside = list(warnings.filters)
    seen = []
    for points in (30, companion_module.NODES[1]):
        problem = peculiar(points, lambda: seen.append(list(warnings.filters)))
        seen.clear()  # of making the problem, which tries how its function can be called
        mf.solve(problem, 60, save=2, **QUIET)
        assert seen
        assert all(filters == outside for filters in seen)


@pytest.mark.parametrize(("error", "said"), [(KeyError("late"), "late"), (ValueError(), "ValueError")])
def test_what_ended_the_companion_is_said_without_quotes_and_never_empty(error, said):
    class Late(mf.energy.MeshEnergy):
        """The potential ``x^2/2``, which fails on 30 cells after 20 evaluations."""

        evaluations = 0

        def evaluate(self, mu, grid):
            self.evaluations += grid.shape == (30,)
            if grid.shape == (30,) and self.evaluations > 20:
                raise error
            V = 0.5 * grid.centres(0) ** 2
            return V, float(np.vdot(V, mu) * grid.cell_volume)

    problem = mf.Problem(Late(), [mf.Axis("x", -3.0, 3.0)], mf.Product(x=stats.norm(0.3, 0.4)), t_end=0.3)
    solution = mf.solve(problem, 60, save=3, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert solution.errors.reason == f"the run on half the cells ended: {said}"


def test_a_run_that_dies_out_before_its_companion_ends_as_it_would():
    """The least potential is at a centre of the companion's cells: there is mass left when the run has none."""
    start = mf.Product(x=stats.norm(0.3, 0.4))
    well = mf.External(lambda x: (x - 0.1) ** 2 + 1e-8)
    problem = mf.Problem(
        well, [mf.Axis("x", -3.0, 3.0)], start, alpha=1e6, metric=[0.0], reaction="unbalanced", t_end=5.0
    )
    runs = [
        mf.solve(problem, 60, controller=mf.FixedStep(0.1), throw=False, estimate=estimate, **QUIET)
        for estimate in (False, True)
    ]
    assert [run.result for run in runs] == [mf.Result.EXTINCT] * 2
    np.testing.assert_array_equal(runs[0].energy, runs[1].energy)
    assert runs[1].errors.reason == f"at t = {runs[1].times[-1]:g} the run has no mass left"
    assert np.isnan(runs[1].energy_error[-1])


def test_a_run_that_goes_on_without_its_companion_names_the_meshes_of_its_estimates():
    well = mf.problems.quadratic_well()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(companion_module, "looser", lambda controller: mf.FixedStep(1.0))
        solution = mf.solve(well, 40, 1.0, controller=mf.FixedStep(1e-3), save=3, **QUIET)
    further = resume(solution, 2.0, **QUIET)
    assert further.errors.cells == solution.errors.cells == (20,)
    assert "40 cells against 20 cells; later not estimated" in further.said_of_error


def test_a_companion_whose_fixed_step_is_too_long_is_named():
    """Twice the step, on cells twice as large, may exceed the bound where the velocity does not halve."""
    well = mf.problems.quadratic_well()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(companion_module, "looser", lambda controller: mf.FixedStep(1.0))
        solution = mf.solve(well, 40, 1.0, controller=mf.FixedStep(1e-3), save=3, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert "the run on half the cells ended: at t = 0, the fixed step exceeds" in solution.errors.reason
    assert np.isfinite(solution.energy_error[0])
    assert np.isnan(solution.energy_error[1:]).all()
    assert "later not estimated" in solution.said_of_error


def test_steps_of_the_companion_are_longer():
    assert looser(mf.ErrorControl(1e-6, reaction=2.0)) == mf.ErrorControl(8e-6, reaction=2.0)
    assert looser(mf.FixedStep(0.01)) == mf.FixedStep(0.02)
    assert looser(mf.CourantControl(0.5)) == mf.CourantControl(0.5)


def test_files_of_early_versions_have_no_estimates(tmp_path):
    solution = mf.solve(mf.problems.linear_neuron(), 40, 0.5, save=3, **QUIET)
    early = dataclasses.replace(solution, errors=None, companion=None)
    early.save(tmp_path / "a.h5")
    loaded = load(tmp_path / "a.h5")
    assert loaded.errors is None
    assert np.isnan(loaded.energy_error).all()
    assert "energy error     not estimated (a file of an early version)" in str(loaded)
    further = resume(loaded, 1.0, **QUIET)
    assert further.errors.reason == "the run was begun by an early version"
    assert np.isnan(further.energy_error).all()


# ----- files


def test_files_hold_estimates(tmp_path):
    solution = mf.solve(mf.problems.three_gaussians(), (20, 22), 1.0, save=4, **QUIET)
    path = tmp_path / "a.h5"
    solution.save(path)
    loaded = load(path)
    same(loaded, solution)
    assert str(loaded) == str(solution)
    with xr.open_dataset(path, engine="h5netcdf") as data:
        np.testing.assert_array_equal(data["energy_error"], solution.energy_error)
        assert data["energy_error"].dims == ("time",)
    with h5py.File(path, "r+") as file:
        file["errors/mean"][1, 0] *= 1.5
    with pytest.raises(FileFormatError, match="errors/mean"):
        load(path)


# ----- the start


def test_what_a_start_has_lost_on_a_mesh():
    """The second moment of cell averages is too large by ``h^2/12`` where they stand for their centres."""
    problem = mf.problems.gaussian_langevin()
    solver = mf.Solver(problem, 40, scheme=mf.ScharfetterGummel())
    state = solver.init()
    found = companion_module.functionals(solver.evaluate(state), None, solver.grid)
    lost = start_error(problem, problem.mu_0, found, 0.0)
    h = solver.grid.spacing[0]
    assert lost[-1] == pytest.approx(h**2 / 12.0, rel=1e-6)
    assert lost[-2] < 1e-12


def test_nodes_that_do_not_agree_tell_nothing():
    """An energy with a scale far below the distance of nodes: two rules have other values of it."""
    ripples = mf.External(lambda x: np.cos(400.0 * x))
    problem = mf.Problem(ripples, [mf.Axis("x", -5.0, 5.0)], mf.Product(x=stats.norm(0.0, 0.7)), t_end=0.1)
    solver = mf.Solver(problem, 40)
    found = companion_module.functionals(solver.evaluate(solver.init()), None, solver.grid)
    assert start_error(problem, problem.mu_0, found, 0.0) is None


def test_a_start_that_no_mesh_sees_is_in_every_estimate():
    """An atom lies in one cell of both meshes: what is lost of it is known, and stays."""
    problem = dataclasses.replace(mf.problems.gaussian_bumps(), initial=mf.Dirac(x=0.313))
    solution = mf.solve(problem, 100, 0.5, save=3, **QUIET)
    coarse = half(solution.grid)
    assert coarse.shape == (50,)
    exact = mf.characteristics(problem, 0.5, save=3, **QUIET)
    error = np.abs(solution.energy - exact.energy)
    assert (solution.energy_error >= error / 3.0).all()
    assert solution.energy_error[0] == pytest.approx(error[0], rel=1e-9)


def test_what_the_companion_sees_of_it_is_not_added_twice(monkeypatch):
    """What is added is by how much the start has lost more than the two meshes differ by."""
    problem = mf.problems.gaussian_bumps()
    plain = mf.solve(problem, 60, 0.5, save=3, estimate=True, **QUIET)
    monkeypatch.setattr(companion_module, "start_error", lambda *of: None)  # then it is what they differ by
    differ = mf.solve(problem, 60, 0.5, save=3, **QUIET).energy_error[0]
    for lost in (0.5 * differ, 3.0 * differ):
        monkeypatch.setattr(companion_module, "start_error", lambda _, __, found, *more, lost=lost: 0.0 * found + lost)
        more = mf.solve(problem, 60, 0.5, save=3, **QUIET)
        unseen = max(lost - differ, 0.0)
        assert more.energy_error[0] == lost
        assert more.errors.unseen[0] == pytest.approx(unseen, rel=1e-12)
        seen = plain.energy_error[1:] - plain.errors.unseen[0]
        np.testing.assert_allclose(more.energy_error[1:], seen + unseen, rtol=1e-12)


def test_values_are_what_they_are():
    """Of an array nobody knows what it has lost."""
    problem = mf.problems.gaussian_bumps()
    start = mf.Solver(problem, 60).init().mu
    solution = mf.solve(problem, 60, 0.5, save=3, initial=start, **QUIET)
    assert solution.energy_error[0] == 0.0
    assert not solution.errors.unseen.any()
    assert solution.energy_error[-1] == pytest.approx(
        mf.solve(problem, 60, 0.5, save=3, **QUIET).energy_error[-1], rel=0.2
    )


@pytest.mark.parametrize("ends", [mf.End.PERIODIC, mf.End.NATURAL])
def test_densities_on_half_the_cells(ends):
    """Of sixth order at the centres, of the same mass; exact averages of averages."""
    axes = [mf.Axis("x", 0.0, 2.0 * math.pi, ends), mf.Axis("y", 0.0, 2.0 * math.pi, ends)]
    errors = []
    for n in (16, 32, 64):
        fine = mf.Grid(axes, (n, n))
        coarse = half(fine)
        mu, wanted = (2.0 + np.cos(grid.mesh()[0]) * np.cos(grid.mesh()[1]) for grid in (fine, coarse))
        got = coarsened(mu, fine, coarse, point_values=True)
        assert got.sum() * coarse.cell_volume == pytest.approx(mu.sum() * fine.cell_volume, rel=1e-14)
        errors.append(np.abs(got - wanted).max())
        averages = coarsened(mu, fine, coarse, point_values=False)
        np.testing.assert_allclose(averages, mu.reshape(n // 2, 2, n // 2, 2).mean(axis=(1, 3)), rtol=1e-13)
    assert errors[-1] < 1e-8
    for one, other in itertools.pairwise(errors):
        assert one / other > 50.0  # 2^6 = 64


@pytest.mark.parametrize("shape", [(16, 12), (15, 9)])
@pytest.mark.parametrize("point_values", [True, False])
def test_densities_with_another_sign_have_half_the_cells_too(shape, point_values):
    """A scheme of one's own may not keep it, and a run goes on from what it left: the mass stays."""
    fine = mf.Grid([mf.Axis("x", -1.0, 1.0), mf.Axis("y", -1.0, 1.0)], shape)
    mu = 1.0 - 3.0 * fine.mesh()[0] * fine.mesh()[1]
    assert mu.min() < 0.0
    coarse = half(fine)
    got = coarsened(mu, fine, coarse, point_values=point_values)
    assert got.min() < 0.0
    assert got.sum() * coarse.cell_volume == pytest.approx(mu.sum() * fine.cell_volume, rel=1e-13)


def test_densities_on_half_the_cells_stay_positive():
    fine = mf.Grid([mf.Axis("x", 0.0, 1.0)], 20)
    mu = np.zeros(20)
    mu[7] = 20.0
    got = coarsened(mu, fine, half(fine), point_values=True)
    assert got.min() == 0.0
    assert got.sum() * half(fine).cell_volume == pytest.approx(1.0, rel=1e-14)


# ----- what is said


def test_the_scale_of_an_energy():
    energy = np.array([2.0, 0.5, 1e-4])
    np.testing.assert_allclose(energy_scale(energy, 0.0), [2.0, 0.5, 1e-3 * (2.0 - 1e-4)])
    np.testing.assert_allclose(energy_scale(energy, None), 2.0 - 1e-4)
    np.testing.assert_allclose(energy_scale(np.full(2, -3.0), None), 3.0)
    rounded = np.array([3.0, np.nextafter(3.0, 0.0)])  # it has not fallen but by rounding
    np.testing.assert_array_equal(energy_scale(rounded, None), rounded)
    assert np.isnan(energy_scale(np.full(2, np.nan), None)).all()
    share, k = largest_share(np.array([0.0, 0.1, np.nan]), np.array([1.0, 2.0, 3.0]))
    assert (share, k) == (0.05, 1)
    assert math.isnan(largest_share(np.full(2, np.nan), np.ones(2))[0])
    assert largest_share(np.zeros(2), np.zeros(2))[0] == 0.0
    assert largest_share(np.array([0.0, 1e-3]), np.zeros(2)) == (math.inf, 1)


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (0.123456, 0.0004, "0.1235"),
        (0.123456, 0.2, "0.1"),
        (-12.3456, 0.03, "-12.35"),
        (1.6e-7, 1e-3, "2e-07"),
        (0.0, 0.1, "0"),
        (math.pi, 1e-15, "3.14159265"),
        (math.pi, math.nan, "3.14159265"),
        (math.nan, 0.1, "nan"),
    ],
)
def test_numbers_have_the_digits_that_their_errors_leave(value, error, said):
    assert with_digits(value, error) == said


def test_errors_in_words():
    errors = Errors.of(np.array([[3.0, 0.0], [3.0, 0.02]]), np.zeros(1), 0, (24, 20), "")
    times, scale = np.array([0.0, 1.5]), np.array([1.0, 0.5])
    assert said_of_error(errors, scale, 0.0, times, (48, 40)) == "about 4 % of E at t = 1.5, 48 x 40 against 24 x 20"
    tiny = dataclasses.replace(errors, energy=errors.energy * 1e-5, cells=(50,))
    said = said_of_error(tiny, scale, None, times, (100,))
    assert said == "about 4.0e-07 of the fall of E at t = 1.5, 100 cells against 50 cells"
    said = said_of_error(errors, 1e-4 * scale, None, times, (48, 40))
    assert said == "about 4e+02 times the fall of E at t = 1.5, 48 x 40 against 24 x 20"
    said = said_of_error(errors, 0.0 * scale, None, times, (48, 40))
    assert said == "about 0.02 at t = 1.5, where E is 0 and has not fallen, 48 x 40 against 24 x 20"


def test_large_errors_are_warned_of():
    with pytest.warns(mf.RunWarning, match="the energy has an error of about .* %"):
        coarse = mf.solve(mf.problems.three_gaussians(), (12, 12), 1.0, **QUIET)
    share = (coarse.energy_error / coarse.energy_scale).max()
    assert share > 0.01
    fine = mf.solve(mf.problems.gaussian_bumps(), **QUIET)
    assert (fine.energy_error / fine.energy_scale).max() < 0.01
    assert not [note for note in fine.warnings if "error" in note]
