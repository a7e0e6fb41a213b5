"""Steps on small meshes by the compiled program: against steps by hand, and against Python that goes pass by pass."""

import copy
import dataclasses
import os
import pickle
import re
import signal
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from shared import PassByPass, by_hand

import mfpde as mf
import mfpde.mesh.kept as kept_module
import mfpde.mesh.run as run_module
from mfpde.equation.energy import (
    Confinement,
    CosineKernel,
    Discrepancy,
    External,
    Features,
    GaussianKernel,
    HuberLoss,
    Interaction,
    PairKernel,
    Role,
    SeparableKernel,
    SquaredLoss,
    TranslationInvariantKernel,
    TwoLayerNetwork,
)
from mfpde.equation.grid import Axis, End
from mfpde.mesh.compiled.run_structures import R_MASS
from mfpde.mesh.descent import Descent
from mfpde.mesh.program import UNBOUNDED
from mfpde.mesh.record import Result
from mfpde.mesh.solver import Solver

pytestmark = pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
SCHEMES = [mf.Weno5(), mf.Muscl(), mf.Muscl(mf.Limiter.MC), mf.Upwind()]
QUIET = {"progress": False, "throw": False}
X, A, B = Axis("x", -3, 3), Axis("a", -2, 2), Axis("b", -2, 2)
C, D = Axis("c", -2, 2), Axis("d", -2, 3)
T = Axis("t", 0.0, 2 * np.pi, End.PERIODIC)
WIDE = GaussianKernel(1.0)
INPUTS = np.linspace(-1, 1, 30)
LABELS = np.where(INPUTS > 0.1, 1.0, -1.0)
BOTH = np.stack([LABELS, INPUTS], axis=1)
AMPLITUDE, WEIGHT, BIAS = Role.AMPLITUDE, Role.WEIGHT, Role.BIAS


def normal(axes, mean, deviation):
    return mf.Product(**{axis.name: stats.norm(mean, deviation) for axis in axes})


def gauss(x, y):
    return np.exp(-((x - y) ** 2))


def network(axes, roles, loss="squared", y=LABELS, tolerance=1e-12):
    return TwoLayerNetwork(INPUTS, y, loss=loss, axes=tuple(axes), roles=roles, tolerance=tolerance)


def huber(y, w):
    return HuberLoss(y, w, 0.3)


BY_TABLES = {
    "one axis": ([X], Interaction(SeparableKernel(x=WIDE))),
    "concave": ([X], Interaction(SeparableKernel(x=WIDE), weight=-0.5) + Confinement(x=1.0)),
    "atoms": ([X], Discrepancy(SeparableKernel(x=WIDE), np.array([[1.0], [-1.0]]), np.array([0.5, 0.5]))),
    "periodic": ([T], Interaction(SeparableKernel(t=CosineKernel([1.0])), weight=-1.0)),
    "two axes": ([X, A], Discrepancy(SeparableKernel(x=WIDE, a=WIDE), np.array([[1.0, 0.5]]), np.ones(1))),
    "three axes": ([X, A, B], Interaction(SeparableKernel(x=WIDE, a=WIDE, b=WIDE))),
    "pairs": ([X], Interaction(PairKernel(lambda x, y: np.exp(-np.abs(x - y))))),
    "pairs of two axes": ([X, A], Interaction(PairKernel(lambda x, a, y, b: np.exp(-np.hypot(x - y, a - b))))),
    "external": ([X], External(np.cos)),
    "sum": ([X], Interaction(SeparableKernel(x=WIDE)) + Interaction(PairKernel(gauss)) + External(np.cos, None, 2.0)),
    "features": ([X], Features(lambda x: np.stack([x, x**2, np.sin(x)]), SquaredLoss([0.5, 1.0, 0.0]))),
    "amplitude first": ([C, A, B], network("cab", (AMPLITUDE, WEIGHT, BIAS))),
    "amplitude last": ([A, B, C], network("cab", (AMPLITUDE, WEIGHT, BIAS))),
    "no amplitude": ([A, B], network("ab", (WEIGHT, BIAS))),
    "all samples": ([C, A], network("ca", (AMPLITUDE, WEIGHT), tolerance=0)),
    "logistic": ([C, A], network("ca", (AMPLITUDE, WEIGHT), "logistic")),
    "logistic, all samples": ([C, A], network("ca", (AMPLITUDE, WEIGHT), "logistic", tolerance=0)),
    "huber": ([C, A], network("ca", (AMPLITUDE, WEIGHT), huber)),
    "two outputs": ([C, D, A], network("cda", (AMPLITUDE, AMPLITUDE, WEIGHT), y=BOTH)),
    "two outputs last": ([A, C, D], network("cda", (AMPLITUDE, AMPLITUDE, WEIGHT), y=BOTH)),
    "two outputs, logistic": (
        [C, D, A],
        network("cda", (AMPLITUDE, AMPLITUDE, WEIGHT), "logistic", y=np.stack([LABELS, -LABELS], axis=1)),
    ),
}  # fmt: skip
CELLS = {1: (41,), 2: (17, 14), 3: (7, 8, 9)}


def problem_of(name, **settings):
    axes, energy = BY_TABLES[name]
    start = mf.Density(lambda t: 1.0 + 0.5 * np.cos(t)) if axes == [T] else normal(axes, 0.2, 0.3)
    return mf.Problem(axes=axes, energy=energy, initial=start, t_end=0.3, alpha=settings.pop("alpha", 1.5), **settings)


def same_run(one, other):
    """All bits of two runs: densities, records, estimates."""
    np.testing.assert_array_equal(np.asarray(one.density), np.asarray(other.density))
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.energy, other.energy)
    np.testing.assert_array_equal(one.response, other.response)
    np.testing.assert_array_equal(one.errors.table(), other.errors.table())
    for name, column in one.diagnostics.items():
        np.testing.assert_array_equal(column, other.diagnostics[name], err_msg=name)
    assert one.result is other.result
    assert (one.stats, one.warnings) == (other.stats, other.warnings)
    assert (one.state.t, one.state.n_steps, one.state.length, one.state.memory) == (
        other.state.t, other.state.n_steps, other.state.length, other.state.memory,
    )  # fmt: skip


class TestPotential:
    @pytest.mark.parametrize("name", BY_TABLES)
    def test_is_that_of_the_energy(self, name):
        """To round-off of sums in another order."""
        problem = problem_of(name)
        solver = Solver(problem, CELLS[len(problem.axes)], scheme=mf.Upwind())
        mu = np.random.default_rng(1).random(solver.grid.shape)
        mu /= mu.sum() * solver.grid.cell_volume
        found = solver.evaluate(solver.init(mu))
        V, energy, response = solver.flow.energy.evaluate(mu)
        scale = max(float(np.abs(V).max()), 1.0)
        np.testing.assert_allclose(found.V, V, rtol=0, atol=1e-13 * scale)
        np.testing.assert_allclose(found.response, response, rtol=0, atol=1e-13)
        assert found.energy == pytest.approx(energy, rel=1e-13, abs=1e-14)
        known = solver.flow.algebra.survey(mu, found.V)
        assert [getattr(found.survey, k) for k in known.__slots__] == [getattr(known, k) for k in known.__slots__]

    def test_belongs_to_the_state_asked_for(self):
        """Also where another one was stepped from meanwhile, and where it has the values of the one before."""
        solver = Solver(mf.problems.gaussian_bumps(), 40)
        start = solver.init()
        first = solver.evaluate(start)
        state, _ = solver.step(start, 1.0)
        state, _ = solver.step(state, 1.0)
        again = solver.evaluate(dataclasses.replace(start, mu=start.mu.copy()))
        np.testing.assert_array_equal(again.V, first.V)
        assert again.energy == first.energy > solver.evaluate(state).energy

    def test_refuses_another_mesh(self):
        solver = Solver(mf.problems.gaussian_bumps(), 40)
        with pytest.raises(ValueError, match=r"shape \(41,\), the grid \(40,\)"):
            solver.step(mf.State(0.0, np.ones(41)), 1.0)


class TestSteps:
    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    @pytest.mark.parametrize("name", ["one axis", "two axes", "pairs", "amplitude first", "periodic", "sum"])
    def test_by_hand_have_the_bits_of_a_run(self, name, scheme):
        problem = problem_of(name)
        shape = CELLS[len(problem.axes)]
        run = mf.solve(problem, shape, scheme=scheme, save=4, **QUIET)
        solver = Solver(problem, shape, scheme=scheme)
        for state, density in zip(by_hand(solver, run.times[1:]), run.density[1:], strict=True):
            np.testing.assert_array_equal(state.mu, density)
        assert state.n_steps == run.stats["steps"] > 5
        assert solver.flow.evaluations == run.stats["evaluations"]

    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    @pytest.mark.parametrize("controller", [mf.FixedStep(2e-3), mf.CourantControl(), mf.ErrorControl()], ids=str)
    @pytest.mark.parametrize("alpha", [0.0, 2.0])
    @pytest.mark.parametrize("reaction", [mf.Reaction.BALANCED, mf.Reaction.UNBALANCED])
    def test_are_those_pass_by_pass(self, scheme, controller, alpha, reaction):
        """The same steps, to what round-off becomes where an error estimate chooses their lengths."""
        problem = problem_of("atoms", alpha=alpha, reaction=reaction)
        runs = [
            mf.solve(problem, 60, 0.1, scheme=scheme, controller=controller, algebra=algebra, save=3, **QUIET)
            for algebra in (None, PassByPass())
        ]
        chosen = isinstance(controller, mf.ErrorControl)
        assert runs[0].stats["steps"] == runs[1].stats["steps"]
        assert runs[0].stats["evaluations"] == runs[1].stats["evaluations"]
        np.testing.assert_allclose(runs[0].density, runs[1].density, rtol=0, atol=1e-8 if chosen else 1e-13)
        for name, column in runs[0].diagnostics.items():
            allowed = 1e-6 if chosen else 1e-9 if name == "error" else 1e-12
            np.testing.assert_allclose(
                column, runs[1].diagnostics[name], rtol=allowed, atol=1e-14, err_msg=name, equal_nan=True
            )

    @pytest.mark.parametrize("alpha", [200.0, 500.0])
    def test_stiff_reactions_are_redone_alike(self, alpha):
        problem = problem_of("atoms", alpha=alpha)
        run, other = (mf.solve(problem, 60, 0.1, algebra=a, save=3, **QUIET) for a in (None, PassByPass()))
        assert run.result is Result.SUCCESS
        assert (run.stats["steps"], run.stats["redone"]) == (other.stats["steps"], other.stats["redone"])
        np.testing.assert_allclose(run.density, other.density, rtol=0, atol=1e-7)

    def test_rejected_ones_are_counted_alike(self):
        """A first step a thousand times too long for the tolerance, and one beyond the positivity bound."""
        problem = problem_of("one axis", alpha=5.0)
        for length in (0.5, 1e3):
            made = []
            for algebra in (None, PassByPass()):
                solver = Solver(problem, 40, algebra=algebra, controller=mf.ErrorControl(1e-9))
                made.append(solver.step(dataclasses.replace(solver.init(), length=length), 10.0))
            (state, info), (other, expected) = made
            assert info.redone == expected.redone > 0
            assert (info.dt, info.error, info.bound) == pytest.approx(
                (expected.dt, expected.error, expected.bound), rel=1e-6
            )
            np.testing.assert_allclose(info.first_rate, expected.first_rate, rtol=0, atol=1e-12)
            assert (info.cell, state.n_steps) == (expected.cell, other.n_steps)

    def test_too_long_a_fixed_step(self):
        solver = Solver(problem_of("one axis"), 40, controller=mf.FixedStep(10.0))
        start = solver.init()
        state, info = solver.step(start, 20.0)
        assert state is start
        assert (info.result, info.redone, info.error) == (Result.STEP_TOO_LARGE, 1, None)
        run = mf.solve(problem_of("one axis"), 40, 20.0, controller=mf.FixedStep(10.0), **QUIET)
        assert (run.result, run.stats["redone"], run.stats["steps"]) == (Result.STEP_TOO_LARGE, 1, 0)

    def test_potential_that_is_not_finite(self):
        """The density of the second state overflows the potential."""
        problem = mf.Problem(axes=[X], energy=External(lambda x: 1e305 * x), initial=normal([X], 0.0, 0.4), t_end=1.0)
        runs = [mf.solve(problem, 40, algebra=a, **QUIET) for a in (None, PassByPass())]
        assert runs[0].result is runs[1].result
        assert not runs[0].result.ok

    def test_while_the_clock_stands_still(self):
        problem = dataclasses.replace(problem_of("one axis"), schedule=0.0)
        run, other = (mf.solve(problem, 40, algebra=a, save=3, **QUIET) for a in (None, PassByPass()))
        assert run.stats["steps"] == other.stats["steps"] == 2
        np.testing.assert_array_equal(run.density[-1], run.density[0])
        for name in ("time", "dt", "error", "dissipation_transport", "limiting_cell"):
            np.testing.assert_allclose(run.diagnostics[name], other.diagnostics[name], rtol=1e-12)

    def test_until_all_mass_is_gone(self):
        """V is above 500 everywhere."""
        energy = External(lambda x: 500.0 + x**2)
        problem = mf.Problem(
            axes=[X], energy=energy, initial=normal([X], 0.0, 0.4), t_end=5.0, alpha=1.0, reaction="unbalanced"
        )
        run, other = (mf.solve(problem, 40, algebra=a, estimate=True, **QUIET) for a in (None, PassByPass()))
        assert run.result is other.result is Result.EXTINCT
        assert run.stats["steps"] == other.stats["steps"]

    def test_give_the_mass_back_that_rounding_has_taken(self):
        """Where a run has lost more than 1e-13 of it by rounding alone, and less than a step may lose."""
        solver = Solver(problem_of("one axis"), 40)
        start = solver.init()
        assert solver.program is not None
        mass = solver.evaluate(start).mass
        for share, given in ((1.02e-13, True), (0.9e-13, False), (1.2e-13, False)):
            solver.program.leak = 0.0
            bounds = UNBOUNDED._replace(mass=mass * (1.0 + share))
            _, advanced = solver.program.advance(start, [1.0], 1.0, 1, bounds)
            assert bool(abs(advanced.rows[0, R_MASS] / bounds.mass - 1.0) < 1e-15) is given


class TestRuns:
    PROBLEM = staticmethod(mf.problems.gaussian_bumps)

    def run(self, **settings):
        return mf.solve(self.PROBLEM(), 50, 1.0, **({"save": 4, "estimate": True} | QUIET | settings))

    @pytest.mark.parametrize("most", [1, 3, 4096])
    def test_do_not_depend_on_how_they_are_cut(self, monkeypatch, most):
        whole = self.run()
        monkeypatch.setattr(run_module, "MOST_ROWS", most)
        same_run(self.run(), whole)

    @pytest.mark.parametrize("kind", ["plain", "noise", "from a tail"])
    def test_do_not_depend_on_how_many_saves_they_pass_at_once(self, monkeypatch, tmp_path, kind):
        """Those that go to a file are looked at one by one, where the run is then."""
        import mfpde.mesh.companion as companion

        problem, runs = self.PROBLEM().replace(temperature=0.05 if kind == "noise" else 0.0), []
        if kind == "from a tail":
            problem = mf.problems.linear_neuron(target=6.0)
        for most, output in ((64, None), (7, None), (1, None), (64, tmp_path / "a.h5")):
            for module in (run_module, companion):
                monkeypatch.setattr(module, "MOST_SAVES", most)
            runs.append(mf.solve(problem, 50, 1.0, save=30, output=output, **QUIET | {"estimate": True}))
        assert runs[0].errors.reason == ""
        assert (runs[0].stats["steepest_descent"] > 0.0) is (kind == "from a tail")
        for run in runs[1:]:
            same_run(run, runs[0])

    def test_companion_that_goes_from_pass_to_pass_is_asked_at_each_save(self, monkeypatch):
        """Its estimates are those of the save times, however many of these the run passes at once."""
        import mfpde.mesh.solver as solver_module

        program_of, problem, runs = solver_module.program_of, self.PROBLEM().replace(temperature=0.05), []
        fine_alone = lambda flow, *others: program_of(flow, *others) if flow.grid.shape == (50,) else None  # noqa: E731
        monkeypatch.setattr(solver_module, "program_of", fine_alone)
        for most in (64, 1):
            monkeypatch.setattr(run_module, "MOST_SAVES", most)
            runs.append(mf.solve(problem, 50, 1.0, save=30, **QUIET | {"estimate": True}))
        assert runs[0].errors.reason == ""
        same_run(*runs)

    def test_companion_gives_up_between_saves_that_are_passed_at_once(self, monkeypatch):
        """What it has been till then counts."""
        import mfpde.mesh.companion as companion

        monkeypatch.setattr(companion, "MOST_STEPS", 0.2)
        monkeypatch.setattr(companion, "FREE_STEPS", 6)
        run = self.run(save=30)
        where = re.search(r"at t = ([0-9.]+) it takes more than 0.2 times the steps", run.errors.reason)
        np.testing.assert_array_equal(np.isfinite(run.errors.energy), run.times <= float(where[1]) + 1e-6)
        for module in (run_module, companion):
            monkeypatch.setattr(module, "MOST_SAVES", 1)
        same_run(self.run(save=30), run)

    def test_come_back_for_the_clock(self, monkeypatch):
        """Steps that take long are made a few at a time."""
        paces = []
        monkeypatch.setattr(run_module, "STRETCH", 0.0)
        monkeypatch.setattr(run_module, "FIRST_WORK", 0.0)
        stretch = run_module.Integration._stretch

        def watched(self, *arguments):
            result = stretch(self, *arguments)
            paces.append(self.pace)
            return result

        monkeypatch.setattr(run_module.Integration, "_stretch", watched)
        run = self.run()
        assert set(paces) == {1}
        assert len(paces) == run.stats["steps"]

    @pytest.mark.parametrize(
        ("condition", "by_function"),
        [
            (mf.EnergyBelow(0.2), lambda at: at.energy <= 0.2),
            (mf.GapBelow(0.9), lambda at: at.optimality_gap <= 0.9),
            (mf.SteadyState(0.8), lambda at: at.change <= 0.8),
        ],
        ids=["energy", "gap", "change"],
    )
    def test_stop_where_a_function_of_the_users_stops_them(self, condition, by_function):
        run = self.run(stop=condition)
        assert run.result is Result.STOPPED
        assert 0.0 < run.state.t < 1.0
        same_run(run, self.run(stop=by_function))

    def test_a_function_sees_every_step(self):
        seen = []
        run = self.run(stop=lambda at: seen.append(at))
        rows = run.diagnostics
        assert [at.time for at in seen] == rows["time"][1:].tolist()
        assert [at.energy for at in seen] == rows["energy"][1:].tolist()
        assert [at.optimality_gap for at in seen] == rows["optimality_gap"][1:].tolist()
        lost = rows["dissipation_transport"] + rows["dissipation_reaction"]
        assert [at.dissipation for at in seen] == lost[:-1].tolist()
        assert [at.step for at in seen] == list(range(1, len(seen) + 1))
        np.testing.assert_array_equal(seen[-1].mu, run.density[-1])
        same_run(run, self.run())

    @pytest.mark.parametrize(
        ("settings", "result"),
        [
            ({"limits": mf.Limits(energy_increase=0.0)}, Result.ENERGY_ROSE),
            ({"limits": mf.Limits(mass_drift=1e-17)}, Result.MASS_DRIFTED),
            ({"limits": mf.Limits(end_mass=1e-9), "on_end_mass": "stop"}, Result.END_MASS),
            ({"max_steps": 7}, Result.MAX_STEPS),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_limits(self, settings, result):
        """As without a program, after as many steps where that is no matter of rounding."""
        problem = problem_of("concave")
        if result is Result.ENERGY_ROSE:  # or did not fall by a fiftieth: there is no telling an energy to rise
            object.__setattr__(settings["limits"], "energy_increase", -0.02)
        if result is Result.END_MASS:
            axes = [Axis("x", -4.0, 1.5)]
            problem = mf.Problem(axes=axes, energy=External(lambda x: -x), initial=normal([X], -1, 0.3), t_end=3.0)
        runs = [mf.solve(problem, 40, algebra=a, **QUIET, **settings) for a in (None, PassByPass())]
        assert runs[0].result is result
        assert runs[1].result is result
        if result is not Result.MASS_DRIFTED:
            assert runs[0].stats["steps"] == runs[1].stats["steps"]

    def test_max_steps_and_on(self):
        whole, begun = self.run(), self.run(max_steps=9)
        assert (begun.result, begun.stats["steps"]) == (Result.MAX_STEPS, 9)
        same_run(mf.resume(begun, progress=False), whole)

    def test_interrupted_and_on(self):
        whole = self.run()
        begun = self.run(stop=lambda at: at.step == 11 and os.kill(os.getpid(), signal.SIGINT))
        assert (begun.result, begun.stats["steps"]) == (Result.INTERRUPTED, 11)
        same_run(mf.resume(begun, progress=False), whole)

    def test_time_limit_and_on(self):
        whole, begun = self.run(), self.run(time_limit=1e-9)
        assert (begun.result, begun.stats["steps"]) == (Result.TIME_LIMIT, 1)
        same_run(mf.resume(begun, progress=False), whole)

    def test_through_a_file_and_its_checkpoints(self, tmp_path, monkeypatch):
        whole = self.run()
        monkeypatch.setattr(run_module, "MOST_ROWS", 2)
        path = tmp_path / "a.h5"
        with pytest.raises(ZeroDivisionError):
            self.run(output=path, checkpoint=1e-9, stop=lambda at: at.step == 15 and 1 / 0)
        assert mf.load(path).stats["steps"] == 14
        resumed = mf.resume(path, progress=False)
        same_run(dataclasses.replace(resumed, stats=whole.stats | resumed.stats), whole)

    def test_in_threads_that_share_a_solver(self):
        """They take turns, and get what each would get alone."""
        solver = Solver(self.PROBLEM(), 50)
        alone = [by_hand(Solver(self.PROBLEM(), 50), [t])[-1].mu for t in (0.2, 0.3)]
        got = {}
        threads = [
            threading.Thread(target=lambda k=k, t=t: got.update({k: by_hand(solver, [t])[-1].mu}))
            for k, t in enumerate((0.2, 0.3))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for k in (0, 1):
            np.testing.assert_array_equal(got[k], alone[k])

    def test_companion_gives_up_at_the_same_step(self, monkeypatch):
        """Wherever it is when the run comes back."""
        import mfpde.mesh.companion as companion

        monkeypatch.setattr(companion, "MOST_STEPS", 0.5)
        monkeypatch.setattr(companion, "FREE_STEPS", 3)
        run = self.run()
        assert "it takes more than 0.5 times the steps of the run" in run.errors.reason
        monkeypatch.setattr(run_module, "MOST_ROWS", 1)
        same_run(self.run(), run)
        assert self.run().errors.reason == run.errors.reason


@pytest.mark.parametrize(
    ("there", "problem", "settings"),
    [
        (True, {}, {}),
        (True, {}, {"scheme": mf.Muscl()}),
        (True, {}, {"controller": mf.FixedStep(1e-3)}),
        (False, {}, {"scheme": mf.ScharfetterGummel()}),
        (True, {}, {"method": mf.Strang()}),
        (False, {}, {"algebra": mf.NumpyAlgebra()}),
        (False, {}, {"algebra": PassByPass()}),
        (False, {}, {"shape": 5001}),
        (False, {"schedule": mf.ExponentialDecay(1.0, 1.0)}, {}),
        (True, {"alpha": mf.ExponentialDecay(1.0, 1.0)}, {}),
        (False, {"alpha": mf.PowerLaw(-0.5)}, {}),
        (False, {"alpha": lambda t: 1.0}, {}),
        (True, {"temperature": 0.1}, {"scheme": mf.Weno5(), "method": mf.ExponentialSSPRK3()}),
        (True, {"temperature": 0.1}, {"scheme": mf.ScharfetterGummel()}),
        (True, {"temperature": 0.1}, {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitEuler()}),
        (True, {"temperature": mf.ExponentialDecay(0.2, 1.0, 0.1)}, {"scheme": mf.ScharfetterGummel()}),
        (False, {"temperature": mf.ExponentialDecay(0.2, 1.0)}, {"scheme": mf.ScharfetterGummel()}),
        (False, {"temperature": mf.PiecewiseLinear([0, 1], [1, 0])}, {"scheme": mf.ScharfetterGummel()}),
        (False, {"temperature": mf.PowerLaw(1.0)}, {"scheme": mf.ScharfetterGummel()}),
        (True, {"temperature": 0.1}, {"scheme": mf.Weno5(), "method": mf.Strang()}),
        (False, {"temperature": 0.1}, {"scheme": mf.ScharfetterGummel(), "method": mf.Strang()}),
        (False, {"rate": np.tanh}, {}),
        (False, {"energy": Interaction(TranslationInvariantKernel(lambda x: np.exp(-np.abs(x))))}, {}),
    ],
)
def test_who_has_a_program(there, problem, settings):
    solver = Solver(dataclasses.replace(problem_of("one axis"), **problem), **({"shape": 40} | settings))
    assert (solver.program is not None) is there


class TestWhatGoesWithThem:
    @pytest.mark.parametrize("name", ["one axis", "periodic", "two axes", "three axes"])
    @pytest.mark.parametrize("metric", [False, True], ids=["", "metric"])
    def test_compiled_markers_are_where_those_in_numpy_are(self, name, metric):
        problem = problem_of(name, alpha=3.0)
        d = len(problem.axes)
        if metric:
            problem = dataclasses.replace(problem, metric=[lambda *x: 1.2 + 0.5 * np.sin(sum(x))] + [None] * (d - 1))
        grid = problem.grid(CELLS[d])
        solver = Solver(problem, grid.shape, scheme=mf.Upwind())
        states = by_hand(solver, [0.1, 0.3])
        start = solver.init()
        V = [solver.evaluate(state).V for state in (start, *states)]
        found = [Descent(problem, grid, 0.0, start.mu, 30.0 * V[0], compiled=c) for c in (True, False)]
        for one in found:
            one.advance(0.1, 30.0 * V[1])
            one.advance(0.3, 30.0 * V[2])
        compiled, plain = found
        np.testing.assert_allclose(compiled._points, plain._points, rtol=0, atol=1e-12)
        np.testing.assert_allclose(compiled.weights, plain.weights, rtol=1e-10, atol=1e-14)
        assert compiled.selection == pytest.approx(plain.selection, rel=1e-10)
        assert compiled.steepness == pytest.approx(plain.steepness, rel=1e-10)
        assert np.abs(plain._points - Descent(problem, grid, 0.0, start.mu, V[0])._points).max() > 0.1

    def test_exponentials(self):
        """To two units of the last place, down to 0 and up to what overflows."""
        from mfpde.mesh.compiled.bernoulli import exponentials
        from mfpde.mesh.compiled.options import uncached
        from mfpde.support.pointers import pointer

        @uncached
        def made(x):
            exponentials(pointer(x, 0), x.size)

        x = np.concatenate([np.linspace(-800, 800, 4001), np.linspace(-1, 1, 2001), [-1e9, 1e9, -np.inf, np.inf, 0.0]])
        found = x.copy()
        made(found)
        with np.errstate(over="ignore", under="ignore"):
            expected = np.exp(x)
        normal = (expected > 1e-300) & np.isfinite(expected)
        np.testing.assert_allclose(found[normal], expected[normal], rtol=2 * np.finfo(float).eps)
        np.testing.assert_allclose(found[~normal], expected[~normal], rtol=1e-13, atol=1e-300)
        nan = np.array([np.nan, 0.0])
        made(nan)
        assert np.isnan(nan[0])
        assert nan[1] == 1.0

    def test_runs_of_a_problem_share_what_they_have_in_common(self, monkeypatch):
        """The energy on the mesh and the start, but no array that a run changes, nor anything of the user's own."""
        problem = problem_of("one axis")
        one, other = Solver(problem, 40), Solver(problem, 40)
        assert one.flow.energy is other.flow.energy
        assert Solver(problem, 41).flow.energy is not one.flow.energy
        states = [solver.init() for solver in (one, other)]
        assert states[0].mu is not states[1].mu
        states[0].mu[:] = 0.0
        np.testing.assert_array_equal(one.init().mu, states[1].mu)
        fresh = problem_of("one axis")
        np.testing.assert_array_equal(mf.solve(problem, 40, **QUIET).density, mf.solve(fresh, 40, **QUIET).density)
        own = dataclasses.replace(
            problem, energy=Features(lambda x: np.stack([x]), type("Own", (SquaredLoss,), {})([0.5]))
        )
        assert Solver(own, 40).flow.energy is not Solver(own, 40).flow.energy


def test_numbers_of_any_kind_are_of_one_compiled_program():
    """What is compiled depends on the types of what is handed over, and is compiled for ten seconds."""
    from mfpde.mesh.compiled.stepping import advance

    problem = problem_of("one axis")
    solver = Solver(problem, 16)
    state = solver.init()
    known = solver.step(state, 0.25)[0]
    compiled = len(getattr(advance, "signatures", ()))
    for until in (np.float32(0.25), np.float16(0.25), np.longdouble(0.25), Fraction(1, 4)):
        np.testing.assert_array_equal(solver.step(state, until)[0].mu, known.mu)
    assert solver.step(state, 1)[1].result is None
    limits = mf.Limits(energy_increase=1, mass_drift=1, end_mass=1)
    stop = mf.EnergyBelow(-1)
    mf.solve(problem, 16, limits=limits, on_end_mass="stop", stop=stop, max_steps=np.int32(3), **QUIET)
    assert len(getattr(advance, "signatures", ())) == compiled


def test_densities_that_are_written_to_between_steps():
    problem = problem_of("one axis")
    solver = Solver(problem, 16)
    state = solver.step(solver.init(), 0.3)[0]
    state.mu[:] = np.roll(state.mu, 1)
    new = solver.step(state, 0.3)[0]
    fresh = Solver(problem, 16).step(dataclasses.replace(state, mu=state.mu.copy()), 0.3)[0]
    np.testing.assert_array_equal(new.mu, fresh.mu)
    assert (new.t, new.length, new.memory) == (fresh.t, fresh.length, fresh.memory)


@pytest.mark.parametrize("algebra", [None, PassByPass()])
@pytest.mark.parametrize(("t", "until"), [(-1.0, 0.5), (0.0, np.inf)])
def test_times_that_there_are_not(algebra, t, until):
    solver = Solver(problem_of("one axis"), 16, algebra=algebra)
    with pytest.raises(ValueError, match=r"schedules are defined for finite times t >= 0, not t = (-1\.0|inf)"):
        solver.step(dataclasses.replace(solver.init(), t=t), until)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda solver: pickle.loads(pickle.dumps(solver))])
def test_copies_of_solvers_that_have_made_a_step(copied):
    """Addresses of compiled code are no part of them: in another process they lead nowhere."""
    problem = mf.Problem(axes=[X], energy=Confinement(x=1.0), initial=normal([X], 0.2, 0.3), alpha=1.5)
    solver = Solver(problem, 16)
    state = solver.step(solver.init(), 0.3)[0]
    known = solver.step(state, 0.3)[0]
    other = copied(solver)
    assert other.program is not solver.program
    assert other.program._steps.at.move is None
    np.testing.assert_array_equal(other.step(state, 0.3)[0].mu, known.mu)


def test_threads_that_keep_things_of_one_problem(monkeypatch):
    """Others come and go between any two steps of the interpreter, also while the first one is looked for."""
    monkeypatch.setattr(kept_module, "MOST_THINGS", 2)
    problem, failures = problem_of("one axis"), []
    grids = [problem.grid(n) for n in range(8, 28)]

    def keep(first):
        try:
            for k in range(100000):
                n = (first + 7 * k) % len(grids)
                assert kept_module.kept(problem, grids[n], "size", lambda n=n: grids[n].size) == grids[n].size
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(5 * i,)) for i in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
