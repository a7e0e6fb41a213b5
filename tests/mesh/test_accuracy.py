"""`solve(problem, tolerance=...)`: the error is below it where it says so, and it says so where it is not."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from shared import assert_same_solution, invoke

import mfpde as mf
from mfpde.mesh import accuracy, memory
from mfpde.mesh.first_mesh import FEWEST, first_mesh
from mfpde.mesh.memory import run_memory
from mfpde.mesh.options import RunOptions
from mfpde.mesh.run import Integration, solve

PAIR = {"centres": [[-1.0, -1.0], [1.0, 1.0]]}
ONE = {"centres": [[0.5, 1.0]], "weights": [1.0]}


def share(solution, energy):
    """The largest true error over the save times, as a share of the scale there."""
    return float((np.abs(solution.energy - energy) / solution.energy_scale).max())


def exact_energy(problem, times):
    """In closed form, or along characteristics to 1e-8, where there is no mesh."""
    if "energy" in problem.exact:
        return np.array([problem.exact["energy"](t) for t in times])
    found = mf.characteristics(problem, float(times[-1]), save=times[1:].tolist(), tolerance=1e-8, progress=False)
    assert found.error_estimate < 1e-7
    return found.energy


def sought(problem, tolerance, **arguments):
    return mf.solve(problem, tolerance=tolerance, **{"progress": False, **arguments})


@pytest.fixture
def prepared(monkeypatch):
    """The runs that are made: cells, whether they have an estimate, a stop condition, a file."""
    found = []

    class Seen(Integration):
        def complete(self):
            options = self.options
            found.append((self.solver.grid.shape, options.estimate, options.stop is not None, self.stream is not None))
            return super().complete()

    monkeypatch.setattr("mfpde.mesh.run.Integration", Seen)
    return found


# ----- it is reached


@pytest.mark.parametrize(
    ("problem", "tolerance"),
    [
        (mf.problems.linear_neuron(), 1e-3),
        (mf.problems.linear_neuron(), 1e-5),
        (mf.problems.quadratic_well(), 1e-3),
        (mf.problems.gaussian_langevin(), 1e-3),
        (mf.problems.gaussian_sampling(), 1e-3),
        (mf.problems.mmd_flow(), 1e-2),
        (mf.problems.gaussian_bumps(), 1e-2),
        (mf.problems.gaussian_bumps(), 1e-4),
        (mf.problems.gaussian_bumps(initial_std=0.02), 1e-3),
        (mf.problems.isotropic_gaussians(), 1e-3),
        (mf.problems.single_index(), 1e-3),
        (mf.problems.self_attention(), 1e-3),
        (mf.problems.gaussian_bumps(**PAIR), 1e-3),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_true_error_is_within_the_tolerance(problem, tolerance):
    solution = sought(problem, tolerance)
    assert solution.result is mf.Result.SUCCESS
    assert share(solution, exact_energy(problem, solution.times)) <= tolerance
    assert (solution.energy_error / solution.energy_scale).max() <= tolerance
    tried = solution.configuration["tried"]
    # never on the word of one mesh
    assert len({tuple(level["shape"]) for level in tried}) > 1
    assert list(solution.grid.shape) in [level["shape"] for level in tried]
    assert solution.configuration["tolerance"] == tolerance


def test_a_jump_takes_as_many_cells_as_its_first_order_needs():
    """`predicting_failure` has mass that an end absorbs: on 300 cells it is 5 % off (characteristics, 1e-8)."""
    problem = mf.problems.predicting_failure()
    solution = sought(problem, 1e-2)
    assert solution.result is mf.Result.SUCCESS
    assert share(solution, exact_energy(problem, solution.times)) <= 1e-2


@pytest.mark.parametrize(("where", "scheme"), [(PAIR, mf.Muscl()), (ONE, mf.Muscl())])
def test_an_odd_mesh_leads_to_one_with_less_than_twice_the_best_ones_cells(where, scheme):
    """From 16 x 256; the best mesh is that of the fewest cells of a lattice whose true error is small enough."""
    problem, times, tolerance = mf.problems.gaussian_bumps(**where), np.linspace(0.0, 1.0, 5), 1e-3
    energy = exact_energy(problem, times)
    solution = sought(problem, tolerance, shape=(16, 256), t_end=1.0, save=5, scheme=scheme)
    assert share(solution, energy) <= tolerance
    lattice = [(n, m) for n in (48, 64, 80, 96, 112) for m in (48, 64, 80, 96, 112) if 2 * n * m <= solution.grid.size]
    assert len(lattice) > 5
    for shape in lattice:
        coarse = mf.solve(problem, shape, 1.0, save=5, scheme=scheme, estimate=False, progress=False)
        assert share(coarse, energy) > tolerance, shape


def test_steps_are_as_short_as_the_accuracy_needs_and_not_shorter():
    """The energy of self-attention changes by 2 % of its value: the steps of 1e-5 would be wrong by more than 1e-4."""
    first = accuracy.STEP * 1e-3
    fine = sought(mf.problems.self_attention(), 1e-3).configuration["tried"]
    assert fine[0]["step"] == first
    assert fine[-1]["step"] < 0.1 * first
    assert {level["step"] for level in sought(mf.problems.linear_neuron(), 1e-3).configuration["tried"]} == {first}
    assert {level["step"] for level in sought(mf.problems.linear_neuron(), 0.1).configuration["tried"]} == {1e-4}
    own = sought(mf.problems.linear_neuron(), 1e-3, controller=mf.ErrorControl(1e-7, fraction=0.5))
    assert own.configuration["controller"] == repr(mf.ErrorControl(1e-7, fraction=0.5))


def test_one_call_has_one_result():
    one, other = (sought(mf.problems.gaussian_bumps(**ONE), 1e-2, t_end=0.5, save=3) for _ in range(2))
    assert_same_solution(one, other)


def test_a_well_that_coarse_meshes_miss_is_seen():
    """A well as wide as a hundredth of the box: between 24 cells there is room for four of it, and mass falls in."""
    width = 0.02
    axes = [mf.Axis("x", -2.0, 2.0)]
    energy = mf.External(lambda x: 0.5 * x**2 - 1.0 * np.exp(-0.5 * ((x - 0.7) / width) ** 2))
    problem = mf.Problem(energy, axes, mf.Product(x=stats.norm(0.5, 0.2)), t_end=0.2)
    assert 4.0 / first_mesh(problem)[0] < 2.0 * width
    straight = replace(problem, energy=mf.External(lambda x: 0.5 * x**2))
    assert first_mesh(straight)[0] < 80
    # three cells to the width of the start, and a floor
    assert first_mesh(straight, mf.Product(x=stats.norm(0.0, 0.1)))[0] == pytest.approx(3.0 * 4.0 / 0.1, rel=0.1)
    assert first_mesh(straight, mf.Product(x=stats.uniform(-2.0, 4.0))) == (FEWEST[1],)


# ----- the box


def test_the_box_is_extended_where_mass_reaches_its_ends():
    """A drift of -3 for a time of 1: the mass of N(0, 0.3) goes to N(-3, 0.3), and the box ended at -2."""
    problem = mf.Problem(
        mf.External(lambda x: 3.0 * x), [mf.Axis("x", -2.0, 2.0)], mf.Product(x=stats.norm(0, 0.3)), t_end=1.0
    )
    with pytest.warns(mf.RunWarning, match="started again with x from"):
        solution = sought(problem, 1e-3)
    assert solution.result is mf.Result.SUCCESS
    assert solution.grid.axes[0].lower < -4.0
    # E = 3 int x dmu = -9 t
    assert share(solution, -9.0 * solution.times) <= 1e-3
    assert solution.diagnostics["end_mass"].max() <= accuracy.END_MASS * 1e-3


@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
def test_a_box_that_cannot_be_extended_or_is_not_to_be(small_root):
    """An energy without values outside: the run is made as it can be, and says so; and as the user says."""
    solution = sought(small_root, 1e-2)
    assert solution.grid.axes == small_root.axes
    assert any("truncation end" in note for note in solution.warnings)
    stopped = sought(small_root, 1e-2, on_end_mass="stop", throw=False)
    assert stopped.result is mf.Result.END_MASS
    with pytest.raises(mf.SolveError, match="mass reached a truncation end"):
        sought(small_root, 1e-2, on_end_mass="stop")


@pytest.fixture
def small_root():
    energy = mf.External(lambda x: 3.0 * np.sqrt(np.where(np.abs(x) <= 2.0, 2.0 + x, np.nan)))
    return mf.Problem(energy, [mf.Axis("x", -2, 2)], mf.Product(x=stats.norm(0.5, 0.2)), t_end=1.0)


# ----- it is not reached


def of_levels(prepare):
    """A search on `linear_neuron` with runs that are made by `prepare`."""
    problem = mf.problems.linear_neuron()
    options = RunOptions(tolerance=1e-3, save=3, progress=False)
    return accuracy.solve_within(problem, options, None, prepare)


def run_of(problem, options, stream, notes=()):
    from mfpde.mesh.run import _prepared

    return _prepared(problem, options, stream, notes)


class Changed:
    """A run whose energies are changed before the search sees them."""

    def __init__(self, run, change):
        self.run, self.change, self.times = run, change, run.times

    def complete(self):
        solution = self.run.complete()
        self.change(solution)
        return solution


def test_small_estimates_of_levels_that_differ_are_not_believed(monkeypatch):
    """Every mesh says that it is right to 1e-9, and no two agree: an energy that depends on the cells erratically."""
    monkeypatch.setattr(accuracy, "MOST_LEVELS", 5)

    def change(solution):
        erratic = np.random.default_rng(solution.grid.size).uniform(-0.1, 0.1)
        solution.energy = solution.energy + erratic * solution.energy_scale
        if solution.errors is not None:
            solution.errors = replace(solution.errors, energy=1e-9 * solution.energy_scale)

    found = of_levels(lambda *arguments: Changed(run_of(*arguments), change))
    assert found.result is mf.Result.NOT_REACHED
    assert "which no other mesh has borne out" in found.warnings[-1]
    assert "5 meshes were not enough" in found.warnings[-1]


def test_estimates_that_the_levels_show_to_be_too_small_are_not_believed():
    """All of them a hundredth: the error falls by the same factors, and the differences of the levels tell."""

    def change(solution):
        if solution.errors is not None:
            solution.errors = replace(solution.errors, energy=0.01 * solution.errors.energy)

    found = of_levels(lambda *arguments: Changed(run_of(*arguments), change))
    assert share(found, exact_energy(mf.problems.linear_neuron(), found.times)) <= 1e-3


@pytest.fixture
def out_of_time(monkeypatch):
    """A third mesh would take longer than there is time."""
    monkeypatch.setattr(accuracy._Search, "_forecast", lambda self, shape: 1e9 if len(self.levels) == 2 else 0.0)


def test_a_budget_that_ends_gives_the_best_run_and_says_so(out_of_time):
    """What there is comes back, with its estimate, and what was missing."""
    text = (
        r"tolerance = 1e-05 was not reached: .* of its scale .*all meshes.* would take about 1e\+09 s, of which .* left"
    )
    with pytest.warns(mf.RunWarning, match=text) as caught:
        solution = sought(mf.problems.linear_neuron(), 1e-5, scheme=mf.Upwind())
    assert solution.result is mf.Result.NOT_REACHED
    assert solution.result.cut_short
    assert not solution.result.ok
    tried = solution.configuration["tried"]
    assert len(tried) == 2
    assert min(level["error"] for level in tried) > 1e-5
    assert list(solution.grid.shape) == min(tried, key=lambda level: level["error"])["shape"]
    assert solution.state.t == solution.times[-1] == 1.0
    assert "time_limit" in solution.result.value
    assert str(caught[-1].message) == solution.warnings[-1]


def test_a_budget_that_ends_before_the_first_mesh_gives_what_it_has():
    solution = sought(mf.problems.linear_neuron(), 1e-3, time_limit=1e-9)
    assert solution.result is mf.Result.TIME_LIMIT
    assert solution.stats["steps"] == 1


def test_memory_that_ends_gives_the_best_run_and_says_so(monkeypatch):
    problem = mf.problems.gaussian_bumps(**PAIR)
    most = run_memory(problem, RunOptions(save=2, estimate=True), problem.grid((3000 // 50, 50))).total
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "available", lambda: most)
    with pytest.warns(mf.RunWarning, match="was not reached.* GiB of memory"):
        solution = sought(problem, 1e-5, t_end=0.2, save=2)
    assert solution.result is mf.Result.NOT_REACHED
    assert solution.grid.size <= 3000
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    with pytest.raises(MemoryError, match="use a coarser mesh"):
        sought(problem, 1e-3)


# ----- what the user watches


def test_stop_conditions_and_files_see_the_last_run_only(path, prepared):
    """From its start on; what is searched with has neither, and half cells and other steps have no estimates."""
    seen = []

    def stop(snapshot):
        seen.append(snapshot.time)
        return snapshot.time >= 0.5

    solution = sought(mf.problems.linear_neuron(), 1e-3, save=[0.25, 1.0], stop=stop, output=path)
    assert solution.result is mf.Result.STOPPED
    assert seen == sorted(seen) == solution.diagnostics["time"][1:].tolist()
    assert [entry[2:] for entry in prepared] == [(False, False)] * (len(prepared) - 1) + [(True, True)]
    assert prepared[-1][0] == solution.grid.shape
    assert_same_solution(mf.load(path), solution)
    with pytest.raises(ValueError, match="GapBelow"):  # before anything is run
        sought(mf.problems.self_attention(), 1e-3, stop=mf.GapBelow(1e-3))


def test_a_file_holds_the_run_that_comes_back(path, prepared):
    solution = sought(mf.problems.linear_neuron(), 1e-3, save=3, output=path)
    assert [shape for shape, estimate, _, file in prepared if file]
    assert not prepared[0][3]
    loaded = mf.load(path)
    assert_same_solution(loaded, solution)
    assert loaded.configuration == solution.configuration
    in_memory = sought(mf.problems.linear_neuron(), 1e-3, save=3)
    assert_same_solution(in_memory, solution)


@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
def test_a_file_holds_the_best_run_where_none_is_good_enough(path, out_of_time):
    solution = sought(mf.problems.linear_neuron(), 1e-5, save=3, scheme=mf.Upwind(), output=path)
    assert solution.result is mf.Result.NOT_REACHED
    assert_same_solution(mf.load(path), solution)
    with pytest.raises(ValueError, match="t_end = 1 must lie beyond"):
        mf.resume(path)


def test_a_run_goes_on_with_the_mesh_that_was_found(path):
    sought(mf.problems.linear_neuron(), 1e-3, t_end=0.5, save=2, output=path)
    shape = mf.load(path).grid.shape
    further = mf.resume(path, 1.0, progress=False)
    assert further.result is mf.Result.SUCCESS
    assert further.grid.shape == shape
    whole = mf.solve(mf.problems.linear_neuron(), shape, save=3, progress=False)
    assert np.array_equal(further.density[:2], whole.density[:2])
    assert further.configuration["tried"] == mf.load(path).configuration["tried"]
    # what goes on is held against the accuracy that was asked for
    loose = sought(mf.problems.gaussian_bumps(), 0.3, t_end=0.2, save=2)
    claimed = replace(loose, configuration={**loose.configuration, "tolerance": 1e-7})
    with pytest.warns(mf.RunWarning, match="tolerance = 1e-07 was not reached"):
        assert mf.resume(claimed, 1.0, progress=False).result is mf.Result.NOT_REACHED


@pytest.mark.parametrize("run", [1, 2, 4])
def test_an_interrupt_ends_the_search_with_what_there_is(run, monkeypatch):
    """While the first mesh, a run beside it, or a later mesh is computed: Ctrl-C, which comes within a step."""
    made = []
    begin = Integration._begin

    def interrupted(self):
        made.append(self.solver.grid.shape)
        if len(made) == run:
            os.kill(os.getpid(), signal.SIGINT)
        return begin(self)

    monkeypatch.setattr(Integration, "_begin", interrupted)
    if run == 1:
        found = sought(mf.problems.linear_neuron(), 1e-3)
        assert found.stats["steps"] == 1
    else:
        with pytest.warns(mf.RunWarning, match="was not reached"):
            found = sought(mf.problems.linear_neuron(), 1e-3)
        assert found.times[-1] == 1.0
    assert found.result is mf.Result.INTERRUPTED
    assert found.grid.shape == made[0]
    assert len(made) == run
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_failures_are_those_of_a_run(path):
    with pytest.raises(mf.SolveError, match="limit on the number of steps"):
        sought(mf.problems.linear_neuron(), 1e-3, max_steps=3, output=path)
    assert mf.load(path).result is mf.Result.MAX_STEPS


# ----- what is refused, text, commands


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.0}, "tolerance = 0.0 must lie between 0 and 1: .* 1e-3 is a good value"),
        ({"tolerance": -1e-3}, "tolerance = -0.001 must lie between 0 and 1"),
        ({"tolerance": 1.0}, "tolerance = 1.0 must lie between 0 and 1"),
        ({"tolerance": float("nan")}, "tolerance = nan must lie between 0 and 1"),
        ({"tolerance": True}, "tolerance = True must lie between 0 and 1"),
        ({"tolerance": "fine"}, "tolerance = 'fine' must lie between 0 and 1"),
        ({"controller": mf.FixedStep(0.1)}, r"settles how long steps are: .*ErrorControl.*not FixedStep\(dt=0.1\)"),
        ({"controller": mf.CourantControl()}, "settles how long steps are"),
        ({"estimate": False}, "leave out estimate = False"),
        ({"initial": np.ones(40)}, r"initial must be a measure, such as solution.measure\(\)"),
        ({"t_end": -1.0}, "t_end = -1.0 must be finite"),
        ({"shape": (10, 10)}, "2 entries for 1 axes"),
        ({"save": 0}, "save"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_run(arguments, message, prepared):
    with pytest.raises(ValueError, match=message):
        mf.solve(mf.problems.linear_neuron(), **{"tolerance": 1e-3, "progress": False, **arguments})
    assert prepared == []


def test_what_is_no_problem_is_refused_as_ever():
    with pytest.raises(TypeError, match="solve needs a Problem"):
        solve(1, tolerance=1e-3)


@pytest.mark.parametrize("text", ["nan", "0", "1", "-1e-3", "two"])
def test_commands_refuse_it_in_one_line(text, folder):
    result = invoke("run", "linear-neuron", "--tolerance", text)
    assert result.exit_code == 2
    assert "tolerance" in result.stderr
    assert list(Path().iterdir()) == []


def test_files_and_commands_say_the_same(folder):
    arguments = ["--tolerance", "1e-2", "--save", "3", "--no-plot"]
    result = invoke("run", "linear-neuron", *arguments, "-o", "flag.h5")
    assert result.exit_code == 0, result.stderr
    Path("a.toml").write_text('problem = "linear-neuron"\ntolerance = 1e-2\n[output]\nsave = 3\nplot = false\n')
    assert invoke("run", "a.toml", "-o", "key.h5", "-q").exit_code == 0
    flag, key, code = mf.load("flag.h5"), mf.load("key.h5"), sought(mf.problems.linear_neuron(), 1e-2, save=3)
    assert_same_solution(flag, key)
    assert np.array_equal(flag.density, code.density)
    assert flag.configuration["tried"] == code.configuration["tried"]
    # the text of a run makes the same search again, and says nothing of the mesh that is to be found
    text = flag.configuration["toml"]
    assert "tolerance = 0.01" in text
    assert "shape" not in text
    Path("again.toml").write_text(text)
    assert invoke("run", "again.toml", "-o", "again.h5", "-q", "--no-plot").exit_code == 0
    assert np.array_equal(mf.load("again.h5").density, flag.density)
    for words in (["--resume"], ["--resume", "-q"]):
        assert invoke("run", "linear-neuron", *arguments, "-o", "flag.h5", *words).exit_code == 0


def test_a_command_that_does_not_reach_it_ends_as_one_that_is_out_of_time(folder, out_of_time):
    line = ["run", "linear-neuron", "--tolerance", "1e-5", "--scheme", "upwind", "--no-plot"]
    result = invoke(*line)
    assert result.exit_code == 124
    assert re.search(
        "the accuracy that was asked for was not reached .*the best run is in linear-neuron.h5", result.stderr
    )
    assert mf.load("linear-neuron.h5").result is mf.Result.NOT_REACHED
    assert "nothing to do" in invoke(*line, "--resume").stdout


def test_what_a_search_may_use_is_what_a_run_is():
    """The same bits as the run on the mesh that was found, with the same steps."""
    problem = mf.problems.gaussian_bumps()
    found = sought(problem, 1e-3)
    step = found.configuration["tried"][-1]["step"]
    same = mf.solve(problem, found.grid.shape, controller=mf.ErrorControl(step), progress=False)
    assert np.array_equal(found.density, same.density)
    assert np.array_equal(found.energy, same.energy)
