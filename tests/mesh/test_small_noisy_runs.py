"""Steps on small meshes with a temperature, or rates that vary, by the compiled program; as in `test_small_runs`."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from shared import PassByPass, by_hand

import mfpde as mf
from mfpde.equation.energy import Confinement, CosineKernel, External, GaussianKernel, Interaction, SeparableKernel
from mfpde.equation.grid import Axis, End
from mfpde.equation.schedules import CustomSchedule
from mfpde.mesh.compiled.run_structures import AT_TEMPERATURE
from mfpde.mesh.constants import MOST_ITERATIONS
from mfpde.mesh.packing import numbers_of
from mfpde.mesh.record import Result
from mfpde.mesh.solver import Solver

pytestmark = pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
QUIET = {"progress": False, "throw": False}
X, A = Axis("x", -3, 3), Axis("a", -2, 2)
T = Axis("t", 0.0, 2 * np.pi, End.PERIODIC)
WIDE = GaussianKernel(1.0)
FITTED, UNSPLIT = {"scheme": mf.ScharfetterGummel()}, {"method": mf.ExponentialSSPRK3()}
SPLIT = {"scheme": mf.Weno5(), "method": mf.Strang()}
LINE, PLANE = ([X], Interaction(SeparableKernel(x=WIDE)) + External(np.cos)), ([X, A], Confinement(x=1.0, a=0.5))
CIRCLE = [T], Interaction(SeparableKernel(t=CosineKernel([1.0])), weight=-1.0)
PAIR = [X, A], Interaction(SeparableKernel(x=WIDE, a=WIDE)) + Confinement(x=0.2, a=0.3)


def base(x):
    return np.exp(-0.3 * x**2)


def rate(x):
    return 1.2 + 0.5 * np.sin(x)


def problem_of(place, **settings):
    axes, energy = place
    start = (
        mf.Density(lambda t: 1.0 + 0.5 * np.cos(t))
        if axes == [T]
        else mf.Product(**{axis.name: stats.norm(0.2, 0.3) for axis in axes})
    )
    return mf.Problem(
        axes=axes,
        energy=energy,
        initial=start,
        **({"t_end": 0.3, "alpha": 1.5, "temperature": 0.2} | settings),
    )


CASES = {
    "weno": (problem_of(LINE), {"scheme": mf.Weno5(), **UNSPLIT}),
    "muscl": (problem_of(LINE, metric=[rate]), {"scheme": mf.Muscl(), **UNSPLIT}),
    "upwind": (problem_of(CIRCLE), {"scheme": mf.Upwind(), **UNSPLIT}),
    "weno, two axes": (problem_of(PAIR), {"scheme": mf.Weno5(), **UNSPLIT}),
    "weno, base": (problem_of(LINE, base=base), {"scheme": mf.Weno5(), **UNSPLIT}),
    "weno, unbalanced": (problem_of(LINE, reaction="unbalanced"), {"scheme": mf.Weno5(), **UNSPLIT}),
    "weno, rates that vary": (
        problem_of(LINE, alpha=mf.PowerLaw(1.0, 4.0), temperature=mf.PiecewiseLinear([0, 0.1, 0.1], [0.3, 0.2, 0.1])),
        {"scheme": mf.Weno5(), **UNSPLIT},
    ),
    "no temperature, alpha that varies": (problem_of(LINE, temperature=0.0, alpha=mf.ExponentialDecay(3, 0.1)), {}),
    "no reaction until 0.1": (
        problem_of(LINE, temperature=0.0, alpha=mf.PiecewiseLinear([0.0, 0.1, 0.1], [0.0, 0.0, 3.0])),
        {},
    ),
    "implicit": (problem_of(LINE), FITTED),
    "implicit, circle": (problem_of(CIRCLE, alpha=0.0), FITTED),
    "implicit, two axes": (problem_of(PAIR), FITTED),
    "implicit, two axes, no pairs": (problem_of(PLANE), FITTED),
    "implicit, base": (problem_of(LINE, base=base), FITTED),
    "implicit, metric": (problem_of(LINE, metric=[rate]), FITTED),
    "implicit, unbalanced": (problem_of(LINE, reaction="unbalanced"), FITTED),
    "implicit, free energy": (problem_of(LINE, reaction="free-energy"), FITTED),
    "implicit, free energy, base": (problem_of(PAIR, reaction="free-energy", base=lambda x, a: base(x)), FITTED),
    "implicit, rates that vary": (
        problem_of(LINE, alpha=mf.InverseLog(2.0), temperature=mf.ExponentialDecay(0.4, 0.1, 0.05)),
        FITTED,
    ),
    "implicit Euler": (problem_of(PAIR), FITTED | {"method": mf.ImplicitEuler()}),
    "from the start": (problem_of(LINE), FITTED | {"method": mf.ImplicitStrang(mf.Potential.START)}),
    "from the end": (problem_of(LINE), FITTED | {"method": mf.ImplicitStrang(mf.Potential.END)}),
    "split": (problem_of(LINE), SPLIT),
    "split, stiff": (problem_of(PAIR, temperature=2.0), SPLIT),
    "split, base, free energy": (problem_of(LINE, base=base, reaction="free-energy", temperature=1.0), SPLIT),
    "split, unbalanced": (problem_of(LINE, reaction="unbalanced"), SPLIT | {"scheme": mf.Muscl()}),
    "split, rates that vary": (
        problem_of(LINE, alpha=mf.InverseLog(2.0), temperature=mf.ExponentialDecay(2.0, 0.1, 0.05)),
        SPLIT | {"scheme": mf.Upwind()},
    ),
    "split, no temperature": (problem_of(PAIR, temperature=0.0), SPLIT),
    "split, no reaction": (problem_of(LINE, temperature=1.0, alpha=0.0), SPLIT),
    "split, not stabilised": (problem_of(LINE), SPLIT | {"method": mf.Strang(stabilised=False)}),
    "split, order one": (problem_of(LINE, temperature=1.0), SPLIT | {"method": mf.Lie()}),
    "split otherwise": (
        problem_of(LINE, temperature=1.0),
        SPLIT
        | {"method": mf.Splitting([("transport", 0.25), ("reaction", 1.0), ("transport", 0.75)], 1, corrector=False)},
    ),
    "split, fixed steps": (problem_of(LINE, temperature=1.0), SPLIT | {"controller": mf.FixedStep(0.01)}),
    "fixed steps": (problem_of(LINE), FITTED | {"controller": mf.FixedStep(0.02)}),
    "Courant's steps": (problem_of(LINE), {"scheme": mf.Weno5(), "controller": mf.CourantControl(), **UNSPLIT}),
}
CELLS = {1: (40,), 2: (14, 12)}


@pytest.mark.parametrize("name", CASES)
class TestSteps:
    def test_by_hand_have_the_bits_of_a_run(self, name):
        problem, settings = CASES[name]
        shape = CELLS[len(problem.axes)]
        run = mf.solve(problem, shape, save=3, estimate=False, **settings, **QUIET)
        solver = Solver(problem, shape, **settings)
        assert solver.program is not None
        for state, density in zip(by_hand(solver, run.times[1:]), run.density[1:], strict=True):
            np.testing.assert_array_equal(state.mu, density)
        assert state.n_steps == run.stats["steps"] >= 2
        assert solver.flow.evaluations == run.stats["evaluations"]

    def test_are_those_pass_by_pass(self, name):
        """The same steps, to what round-off becomes where an error estimate chooses their lengths."""
        problem, settings = CASES[name]
        shape = CELLS[len(problem.axes)]
        runs = [mf.solve(problem, shape, algebra=a, save=3, **settings, **QUIET) for a in (None, PassByPass())]
        assert runs[0].result is runs[1].result is Result.SUCCESS
        assert runs[0].stats["steps"] == runs[1].stats["steps"]
        assert runs[0].stats["evaluations"] == runs[1].stats["evaluations"]
        np.testing.assert_allclose(runs[0].density, runs[1].density, rtol=0, atol=1e-9)
        np.testing.assert_allclose(runs[0].errors.table(), runs[1].errors.table(), rtol=1e-5, atol=1e-12)
        for key, column in runs[0].diagnostics.items():
            allowed = 1e-6 if key in ("dt", "error", "minimum") else 1e-8
            np.testing.assert_allclose(
                column, runs[1].diagnostics[key], rtol=allowed, atol=1e-12, err_msg=key, equal_nan=True
            )


SCHEDULES = [
    mf.Constant(0.7),
    mf.PowerLaw(0.0, 2.0),
    mf.PowerLaw(1.5, 2.0),
    mf.PiecewiseLinear([0.5], [3.0]),
    mf.PiecewiseLinear([0.25, 1.0, 1.0, 2.0], [1.0, 2.0, 5.0, 0.0]),
    mf.ExponentialDecay(3.0, 0.7, 0.5),
    mf.InverseLog(2.0, 1.5),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_values_of_schedules(schedule):
    from mfpde.mesh.compiled.clocks import _value
    from mfpde.mesh.compiled.options import uncached

    @uncached
    def value(numbers, t, out):
        out[0] = _value(numbers, t)

    found = np.empty(1)
    for t in (0.0, 1e-9, 0.25, 0.3, 0.5, np.nextafter(1.0, 0.0), 1.0, 1.7, 2.0, 3.0, 1e6):
        value(numbers_of(schedule), t, found)
        assert found[0] == pytest.approx(schedule(t), rel=4e-16, abs=0.0)


@pytest.mark.parametrize("schedule", [mf.PowerLaw(-0.5), CustomSchedule(math.cosh)], ids=repr)
def test_schedules_without_numbers(schedule):
    assert numbers_of(schedule) is None


def test_cells_without_mass_do_not_shift_a_reaction():
    """Where V is lower by thousands in an empty cell, all that there is would be multiplied by 0."""
    from mfpde.mesh.compiled.options import uncached
    from mfpde.mesh.compiled.reacting import _exponent

    @uncached
    def exponent(mu, V, a, balanced, out):
        _exponent(mu, V, a, balanced, out)

    mu, V, found = np.array([1.0, 0.0, 2.0]), np.array([3000.0, 0.0, 3001.0]), np.empty(3)
    exponent(mu, V, 0.5, True, found)
    assert found.tolist() == [0.0, 0.0, -0.5]
    exponent(mu, V, 0.5, False, found)
    assert found.tolist() == [-1500.0, 0.0, -1500.5]


def test_steps_whose_potential_is_not_found_are_halved():
    """A steep repulsion, and steps a thousand times too long for it: more iterations than two steps may take."""
    problem = problem_of(
        ([X], Interaction(SeparableKernel(x=GaussianKernel(0.3)), weight=50.0)), alpha=0.0, temperature=0.02, t_end=2.0
    )
    settings = FITTED | {"controller": mf.FixedStep(1.0)}
    runs = [mf.solve(problem, 60, algebra=a, save=2, estimate=False, **settings, **QUIET) for a in (None, PassByPass())]
    assert runs[0].result is runs[1].result is Result.SUCCESS
    assert runs[0].stats["steps"] == runs[1].stats["steps"] == 2
    assert runs[0].stats["evaluations"] == runs[1].stats["evaluations"] > 2 * (MOST_ITERATIONS + 1)
    np.testing.assert_allclose(runs[0].density, runs[1].density, rtol=0, atol=1e-9)
    assert runs[0].stats["mass_drift"] < 1e-12
    solver = Solver(problem, 60, **settings)
    state = by_hand(solver, [2.0])[-1]
    np.testing.assert_array_equal(state.mu, runs[0].density[-1])


@pytest.mark.parametrize(
    "settings", [FITTED, {"scheme": mf.Weno5(), **UNSPLIT}, SPLIT], ids=["implicit", "unsplit", "split"]
)
class TestRuns:
    def run(self, problem=None, **settings):
        given = {"save": 4, "estimate": False} | QUIET | settings
        return mf.solve(problem_of(LINE) if problem is None else problem, 40, **given)

    @pytest.mark.parametrize(
        ("condition", "by_function"),
        [
            (mf.EnergyBelow(1.1), lambda at: at.energy <= 1.1),
            (mf.GapBelow(2.4), lambda at: at.optimality_gap <= 2.4),
            (mf.SteadyState(2.5), lambda at: at.change <= 2.5),
        ],
        ids=["energy", "gap", "change"],
    )
    def test_stop_where_a_function_of_the_users_stops_them(self, settings, condition, by_function):
        run, other = self.run(stop=condition, **settings), self.run(stop=by_function, **settings)
        assert run.result is other.result is Result.STOPPED
        assert 0.0 < run.state.t < 0.3
        np.testing.assert_array_equal(run.density[-1], other.density[-1])
        for name, column in run.diagnostics.items():
            np.testing.assert_array_equal(column, other.diagnostics[name], err_msg=name)

    def test_resumed(self, settings):
        whole, begun = self.run(**settings), self.run(max_steps=4, **settings)
        resumed = mf.resume(begun, progress=False)
        np.testing.assert_array_equal(resumed.density, whole.density)
        for name, column in whole.diagnostics.items():
            np.testing.assert_array_equal(column, resumed.diagnostics[name], err_msg=name)

    def test_until_all_mass_is_gone(self, settings):
        """V is above 500 everywhere."""
        problem = problem_of(([X], External(lambda x: 500.0 + x**2)), reaction="unbalanced", t_end=5.0)
        runs = [self.run(problem, algebra=a, **settings) for a in (None, PassByPass())]
        assert runs[0].result is runs[1].result is Result.EXTINCT
        assert runs[0].stats["steps"] == runs[1].stats["steps"]
        assert np.isnan(runs[0].diagnostics["entropy"][-1])
        assert runs[0].diagnostics["energy"][-1] == runs[1].diagnostics["energy"][-1] == 0.0

    def test_while_the_clock_stands_still(self, settings):
        problem = problem_of(LINE, schedule=0.0, temperature=mf.ExponentialDecay(0.4, 0.1, 0.05))
        run, other = (self.run(problem, algebra=a, **settings) for a in (None, PassByPass()))
        np.testing.assert_array_equal(run.density[-1], run.density[0])
        for name in ("energy", "entropy", "optimality_gap", "temperature"):
            np.testing.assert_allclose(run.diagnostics[name], other.diagnostics[name], rtol=1e-12)

    def test_of_one_density_at_another_time(self, settings):
        """The temperature is another one, and what it adds to the energy."""
        problem = problem_of(LINE, temperature=mf.ExponentialDecay(0.4, 0.1, 0.05))
        one, other = (Solver(problem, 40, **settings) for _ in range(2))
        start = one.init()
        one.step(start, 0.2)
        later = dataclasses.replace(start, t=0.1)
        np.testing.assert_array_equal(one.step(later, 0.3)[0].mu, other.step(later, 0.3)[0].mu)
        assert one.program._numbers[AT_TEMPERATURE] == other.program._numbers[AT_TEMPERATURE]
