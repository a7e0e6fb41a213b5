"""Stepping, control, save times, results: everything about a run that is not its accuracy."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

import mfpde as mf
from mfpde.diagnostics import COLUMNS
from mfpde.stepping import Operator, Outcome, Splitting


@pytest.fixture
def well():
    return mf.problems.quadratic_well()


class TestSaveTimes:
    def test_are_hit_exactly(self, well):
        wanted = [0.1, 1 / 3, 0.7071, 0.9]
        solution = mf.solve(well, 100, save=wanted)
        assert solution.times.tolist() == [0.0, *wanted, 1.0]
        assert set(solution.times) <= set(solution.diagnostics["time"])

    def test_no_slivers(self, well):
        """The last two steps before a save time are alike, so no step is below half of its neighbours' wish."""
        solution = mf.solve(well, 100, save=[0.3082, 0.32, 0.9], controller=mf.FixedStep(0.004))
        dt = solution.diagnostics["dt"][1:]
        assert dt.min() >= 0.002 * (1 - 1e-9)
        assert dt.max() <= 0.004 * (1 + 1e-9)

    def test_fixed_steps_that_divide_the_interval_stay_equal(self, well):
        solution = mf.solve(well, 100, save=[0.5], controller=mf.FixedStep(0.005))
        assert solution.stats["steps"] == 200
        np.testing.assert_allclose(solution.diagnostics["dt"][1:], 0.005, rtol=1e-9)

    def test_do_not_shrink_later_steps(self, well):
        """A step cut by a save time does not make the next one small."""
        plain = mf.solve(well, 100, save=2)
        cut = mf.solve(well, 100, save=np.linspace(0, 1, 6))
        assert cut.stats["steps"] <= plain.stats["steps"] + 2 * 5
        # two save times far closer than a step: the one after them is of the usual length at once
        close = mf.solve(well, 100, save=[0.5, 0.5001])
        time, dt = close.diagnostics["time"], close.diagnostics["dt"]
        at = int(np.flatnonzero(time == 0.5001)[0])
        assert dt[at] == pytest.approx(1e-4)
        assert dt[at + 1] > 0.5 * dt[at - 2] > 10 * dt[at]

    def test_energy_and_density_belong_to_them(self, well):
        solution = mf.solve(well, 100, save=5)
        at = np.searchsorted(solution.diagnostics["time"], solution.times)
        np.testing.assert_array_equal(solution.energy, solution.diagnostics["energy"][at])
        mass = solution.density.sum(axis=1) * solution.grid.cell_volume
        np.testing.assert_allclose(mass, solution.diagnostics["mass"][at], rtol=4e-15)  # summed in another order

    @pytest.mark.parametrize("save", [1, [2.0], [-0.1], [np.nan]])
    def test_wrong_ones_are_refused(self, well, save):
        with pytest.raises(ValueError, match="save"):
            mf.solve(well, 100, save=save)


class TestContinuation:
    def test_from_a_state_bit_for_bit(self, well):
        whole = mf.solve(well, 100, save=[0.25, 0.5])
        half = mf.solve(well, 100, t_end=0.5, save=[0.25])
        rest = mf.solve(well, 100, initial=half, save=2)
        np.testing.assert_array_equal(rest.density[-1], whole.density[-1])
        assert rest.state.n_steps == whole.state.n_steps
        assert rest.state.t == whole.state.t == 1.0

    def test_stepping_by_hand_is_what_solve_does(self, well):
        solver = mf.Solver(well, 100)
        state = solver.init()
        while state.t < 1.0:
            state, info = solver.step(state, until=1.0)
            assert info.result is None
        solution = mf.solve(well, 100, save=2)
        np.testing.assert_array_equal(state.mu, solution.density[-1])

    def test_initial_measure_and_array(self, well):
        narrow = mf.Product(x=stats.norm(0.5, 0.5))
        solution = mf.solve(well, 100, initial=narrow, t_end=0.1)
        assert solution.moment("x", t=0.0) == pytest.approx(0.5, abs=1e-6)
        again = mf.solve(well, 100, initial=solution.density[0], t_end=0.1)
        np.testing.assert_array_equal(again.density[-1], solution.density[-1])

    @pytest.mark.parametrize(
        ("initial", "message"),
        [
            (np.ones(7), "shape"),
            (-np.ones(100), "negative"),
            (np.full(100, np.nan), "not finite"),
            (np.zeros(100), "no mass"),
        ],
    )
    def test_wrong_initial(self, well, initial, message):
        with pytest.raises(ValueError, match=message):
            mf.solve(well, 100, initial=initial)


class TestCost:
    """Potential evaluations, never seconds."""

    def test_unsplit_three(self, well):
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005))
        assert solution.stats["evaluations"] == 3 * solution.stats["steps"] + 1

    def test_strang_seven(self, well):
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005), method=mf.Strang())
        assert solution.stats["evaluations"] == 7 * solution.stats["steps"] + 1

    def test_lie_four(self, well):
        """Three stages and the end of the step, which is the start of the next."""
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005), method=mf.Lie())
        assert solution.stats["evaluations"] == 4 * solution.stats["steps"] + 1

    def test_default_on_a_smooth_problem(self):
        solution = mf.solve(mf.problems.gaussian_bumps(), 200)
        assert solution.stats["evaluations"] < 300


class TestMethods:
    def test_fractions_must_sum_to_one(self):
        with pytest.raises(ValueError, match=r"reaction fractions .* sum to 1\.5"):
            Splitting(((Operator.REACTION, 0.5), (Operator.TRANSPORT, 1.0), (Operator.REACTION, 1.0)), order=2)
        with pytest.raises(ValueError, match="transport fractions"):
            Splitting(((Operator.REACTION, 1.0),), order=1)
        with pytest.raises(ValueError, match="negative"):
            Splitting(((Operator.REACTION, 1.5), (Operator.TRANSPORT, 1.0), (Operator.REACTION, -0.5)), order=2)

    def test_strang_is_data(self, well):
        """The other Strang splitting, transport on the outside, gives the same to second order."""
        other = Splitting(((Operator.TRANSPORT, 0.5), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 0.5)), order=2)
        reference = mf.solve(well, 100, controller=mf.ErrorControl(1e-8)).energy[-1]
        errors = [
            abs(mf.solve(well, 100, method=other, controller=mf.FixedStep(dt)).energy[-1] - reference)
            for dt in (8e-3, 4e-3, 2e-3)
        ]
        assert np.polyfit(np.log([8e-3, 4e-3, 2e-3]), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)

    def test_unsplit_refuses_reinjection(self):
        problem = mf.problems.three_gaussians("bad", reinjection="refill")
        with pytest.raises(ValueError, match="use Strang"):
            mf.Solver(problem, (16, 16), method=mf.ExponentialSSPRK3())
        assert isinstance(mf.Solver(problem, (16, 16)).method, mf.Strang)

    def test_stiff_reaction(self):
        """alpha = 1e4: no overflow, mass and sign kept; the minimiser is reached at once."""
        problem = mf.problems.double_well(alpha=1e4, t_end=0.01)
        solution = mf.solve(problem, 200, scheme=mf.Muscl())
        assert solution.stats["mass_drift"] < 1e-12
        assert solution.diagnostics["minimum"].min() >= 0
        assert solution.energy[-1] == pytest.approx(problem.exact["minimum_energy"], abs=0.02)

    def test_zero_potential(self):
        problem = mf.Problem(
            mf.External(lambda x: 0.0 * x), [mf.Axis("x", -1, 1)], mf.Product(x=stats.uniform(-0.5, 1)), alpha=2.0
        )
        for method in (mf.ExponentialSSPRK3(), mf.Strang(), mf.Lie()):
            solution = mf.solve(problem, 40, method=method)
            np.testing.assert_allclose(solution.density[-1], solution.density[0], rtol=1e-15)
            assert solution.result is mf.Result.SUCCESS

    def test_start_from_a_single_cell(self):
        problem = mf.problems.linear_neuron()
        for scheme in (mf.Upwind(), mf.Muscl(), mf.Weno5()):
            solution = mf.solve(problem, 100, initial=mf.Dirac(theta=-1.0), scheme=scheme)
            assert solution.diagnostics["minimum"].min() >= 0
            assert solution.stats["mass_drift"] < 1e-12


class TestDefaults:
    """The scheme and the method follow from the problem, and the solver says why."""

    @pytest.mark.parametrize(
        ("problem", "shape", "scheme", "method", "reason"),
        [
            (mf.problems.gaussian_bumps(), 50, mf.Weno5, mf.ExponentialSSPRK3, "temperature 0"),
            (mf.problems.torus_langevin(), 200, mf.ScharfetterGummel, mf.ImplicitStrang, "Peclet number 0.46 <= 1"),
            (mf.problems.torus_langevin(), 40, mf.Weno5, mf.ExponentialSSPRK3, "drift dominates diffusion"),
            (mf.problems.torus_langevin(alpha=1.0), 40, mf.Weno5, mf.Strang, "free-energy reaction"),
        ],
        ids=["cold", "warm", "coarse", "coarse-free-energy"],
    )
    def test_of_a_problem(self, problem, shape, scheme, method, reason):
        solver = mf.Solver(problem, shape)
        assert type(solver.scheme) is scheme
        assert type(solver.method) is method
        assert reason in repr(solver)

    def test_stiff_diffusion_takes_stages(self):
        """On a fine mesh explicit steps would be bound by h^2."""
        solver = mf.Solver(mf.problems.torus_langevin(), 1000, scheme=mf.Weno5())
        assert type(solver.method) is mf.Strang
        assert "diffusion is stiff" in repr(solver)
        steps = [
            mf.solve(mf.problems.torus_langevin(), 400, 0.1, scheme=mf.Weno5(), method=method, save=2).stats["steps"]
            for method in (mf.Strang(), mf.Strang(stabilised=False))
        ]
        assert 3 * steps[0] < steps[1]

    def test_annealing_counts_its_coldest_time(self):
        """At tau -> 0 Scharfetter-Gummel is Upwind: E x^2 = 0.08167 (moment equations) would be missed by a third."""
        problem = mf.Problem(
            mf.Confinement(x=1.0),
            [mf.Axis("x", -6, 6)],
            mf.Product(x=stats.norm(1, 0.5)),
            alpha=1.0,
            temperature=lambda t: 0.5 * np.maximum(0, 1 - np.asarray(t)),
            t_end=1.5,
        )

        def moments(t, y):
            mean, variance = y
            tau = 0.5 * max(0.0, 1 - t)
            return [-(1 + variance) * mean, -2 * variance - variance**2 + 2 * tau]

        exact = solve_ivp(moments, (0, 1.5), [1.0, 0.25], rtol=1e-10, atol=1e-12, max_step=0.05).y[:, -1]
        solution = mf.solve(problem, 160, save=2)
        assert "Weno5" in solution.configuration["scheme"]
        assert solution.moment("x", 2) == pytest.approx(exact[1] + exact[0] ** 2, rel=1e-3)

    def test_implicit_methods_need_their_fluxes(self):
        with pytest.raises(ValueError, match=r"ImplicitEuler needs scheme=ScharfetterGummel\(\), not Muscl"):
            mf.Solver(mf.problems.torus_langevin(), 40, scheme=mf.Muscl(), method=mf.ImplicitEuler())
        with pytest.raises(ValueError, match=r"potential must be one of Potential\.START"):
            mf.ImplicitStrang(potential="start")

    def test_the_unsplit_method_refuses_the_free_energy_reaction(self):
        with pytest.raises(ValueError, match=r"use ImplicitStrang\(\) or Strang\(\)"):
            mf.Solver(mf.problems.torus_langevin(alpha=1.0), 40, method=mf.ExponentialSSPRK3(), scheme=mf.Weno5())


class TestControllers:
    def test_a_lucky_step_does_not_shrink_the_next(self):
        """An error far below the tolerance is remembered as one a hundred times below at most."""
        control = mf.ErrorControl(1e-5)
        _, _, memory = control.after(1.0, Outcome(np.ones(1), error=1e-16), ())
        accepted, following, _ = control.after(1.0, Outcome(np.ones(1), error=6e-7), memory)
        assert accepted
        assert following > 0.9

    def test_coarse_periodic_mesh(self):
        """The tail guard switches on and off here; steps used to shrink until nothing moved."""
        problem = mf.Problem(
            mf.External(lambda x: np.cos(np.pi * x / 3)),
            [mf.Axis("x", -3, 3, mf.End.PERIODIC)],
            mf.Product(x=stats.uniform(-3, 6)),
            temperature=1.0,
        )
        solution = mf.solve(problem, 8, 1.0, scheme=mf.Weno5(), method=mf.ExponentialSSPRK3(), save=2)
        assert solution.stats["steps"] < 200

    def test_a_clock_that_stands_still(self):
        """s(t) = 0 from t = 1/2 on: the density stays, the run goes on."""
        problem = mf.Problem(
            mf.Confinement(x=1.0),
            [mf.Axis("x", -6, 6)],
            mf.Product(x=stats.norm(1, 0.5)),
            alpha=1.0,
            schedule=lambda t: np.maximum(0.0, 1 - 2 * np.asarray(t)),
        )
        for method in (None, mf.Strang()):
            solution = mf.solve(problem, 40, 1.0, save=21, method=method)
            assert solution.result is mf.Result.SUCCESS
            np.testing.assert_array_equal(solution.density[-1], solution.density[11])
            assert solution.energy[5] < solution.energy[0]

    @pytest.mark.parametrize("controller", [mf.CourantControl(), mf.ErrorControl(1e-4), mf.ErrorControl(1e-7)])
    @pytest.mark.parametrize("method", [mf.ExponentialSSPRK3(), mf.Strang()])
    def test_positive_within_the_bound(self, well, controller, method):
        solution = mf.solve(well, 100, controller=controller, method=method, scheme=mf.Muscl())
        assert solution.diagnostics["minimum"].min() >= 0

    def test_error_follows_the_tolerance(self, well):
        reference = mf.solve(well, 200, controller=mf.ErrorControl(1e-10)).density[-1]
        errors = []
        for tolerance in (1e-6, 1e-7, 1e-8):
            density = mf.solve(well, 200, controller=mf.ErrorControl(tolerance)).density[-1]
            errors.append(np.abs(density - reference).sum() * mf.Grid(well.axes, 200).cell_volume)
        assert errors[0] > 3 * errors[1] > 9 * errors[2]
        assert errors[2] < 2e-8

    def test_growth_is_limited(self, well):
        dt = mf.solve(well, 100, save=2).diagnostics["dt"][1:-2]
        assert (dt[1:] / dt[:-1]).max() <= 2.0 * (1 + 1e-12)
        # errors of a run rarely ask for more than twice the step; one that is nearly zero does
        accepted, following, _ = mf.ErrorControl(1e-5).after(1.0, Outcome(np.ones(1), error=1e-30), ())
        assert accepted
        assert following == 2.0

    @pytest.mark.parametrize("error", [np.nan, np.inf, 2e-5])
    def test_a_bad_error_is_no_success(self, error):
        accepted, following, _ = mf.ErrorControl(1e-5).after(1.0, Outcome(np.ones(1), error=error), ())
        assert not accepted
        assert following < 1.0

    @pytest.mark.parametrize(
        "make",
        [
            lambda: mf.FixedStep(0.0),
            lambda: mf.FixedStep(np.nan),
            lambda: mf.CourantControl(fraction=1.5),
            lambda: mf.CourantControl(reaction=-1.0),
            lambda: mf.CourantControl(growth=1.0),
            lambda: mf.ErrorControl(tolerance=0.0),
            lambda: mf.ErrorControl(fraction=0.0),
        ],
    )
    def test_wrong_settings(self, make):
        with pytest.raises(ValueError, match=r"must"):
            make()


class TestResults:
    @pytest.mark.parametrize("scheme", [None, mf.Weno5()], ids=["default", "weno5"])
    @pytest.mark.parametrize(("alpha", "temperature"), [(200.0, 0.0), (2000.0, 0.5)])
    def test_extinction(self, alpha, temperature, scheme):
        """An unbalanced reaction with V > 0 everywhere removes all mass in the end."""
        problem = mf.Problem(
            mf.External(lambda x: 0.5 * x**2 + 3),
            [mf.Axis("x", -6, 6)],
            mf.Product(x=stats.norm(1, 0.5)),
            alpha=alpha,
            temperature=temperature,
            reaction="unbalanced",
            t_end=10.0,
        )
        solution = mf.solve(problem, 60, scheme=scheme, throw=False, save=[9.0])
        assert solution.result is mf.Result.EXTINCT
        assert solution.diagnostics["mass"][-1] == 0.0
        with pytest.raises(mf.SolveError, match="removed all mass"):
            mf.solve(problem, 60, scheme=scheme)

    def test_a_rising_energy_names_its_cause(self):
        frozen = mf.ImplicitEuler(mf.Potential.START)
        with pytest.warns(mf.RunWarning, match=r"take Potential\.AVERAGE"):
            mf.solve(
                mf.problems.torus_langevin(),
                100,
                100.0,
                scheme=mf.ScharfetterGummel(),
                method=frozen,
                controller=mf.FixedStep(10.0),
            )

    def test_fixed_step_over_the_bound(self, well):
        with pytest.raises(mf.SolveError, match="smaller dt") as caught:
            mf.solve(well, 100, controller=mf.FixedStep(0.5), scheme=mf.Muscl())
        assert caught.value.solution.result is mf.Result.STEP_TOO_LARGE
        assert caught.value.solution.times.tolist() == [0.0]

    def test_not_finite(self):
        """A feature that turns NaN once the mean has moved: stopped, named, the last good state kept."""

        def poisoned(x):
            return np.where(x.mean() > 1e9, np.nan, x)[None]

        class Loss(mf.SquaredLoss):
            def value(self, u):
                return super().value(u) if u[0] > 1.2 else np.nan

            def evaluate(self, u):
                return (super().evaluate(u)) if u[0] > 1.2 else (np.nan, np.full_like(u, np.nan))

        problem = mf.Problem(
            mf.Features(lambda x: x[None], Loss([0.0], [1.0])),
            [mf.Axis("x", -2, 5)],
            mf.Product(x=stats.norm(1.5, 0.3)),
        )
        solution = mf.solve(problem, 60, throw=False)
        assert solution.result is mf.Result.NOT_FINITE
        assert np.all(np.isfinite(solution.density))
        assert 0 < solution.times[-1] < 1
        assert all(len(values) == len(solution.diagnostics["time"]) for values in solution.diagnostics.values())

    def test_max_steps(self, well):
        solution = mf.solve(well, 100, max_steps=7, throw=False)
        assert solution.result is mf.Result.MAX_STEPS
        assert solution.stats["steps"] == 7
        assert solution.state.n_steps == 7

    def test_stop(self, well):
        solution = mf.solve(well, 100, stop=mf.EnergyBelow(0.5))
        assert solution.result is mf.Result.STOPPED
        assert solution.energy[-1] <= 0.5 < solution.diagnostics["energy"][-2]
        solution = mf.solve(well, 100, stop=mf.GapBelow(0.2), throw=True)
        assert solution.diagnostics["optimality_gap"][-1] <= 0.2
        seen = []
        mf.solve(well, 100, stop=lambda snapshot: seen.append(snapshot) or False)
        assert all(snapshot.dissipation > 0 for snapshot in seen)

    def test_interrupt_keeps_what_is_there(self, well):
        def press(snapshot):
            if snapshot.step == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return False

        before = signal.getsignal(signal.SIGINT)
        solution = mf.solve(well, 100, stop=press)
        assert signal.getsignal(signal.SIGINT) is before
        assert solution.result is mf.Result.INTERRUPTED
        assert solution.state.n_steps == 5
        rest = mf.solve(well, 100, initial=solution, save=2)
        whole = mf.solve(well, 100, save=2)
        np.testing.assert_array_equal(rest.density[-1], whole.density[-1])

    def test_runs_in_a_thread(self, well):
        out = []
        thread = threading.Thread(target=lambda: out.append(mf.solve(well, 50)))
        thread.start()
        thread.join()
        assert out[0].result is mf.Result.SUCCESS

    def test_every_step_is_recorded(self, well):
        solution = mf.solve(well, 100)
        assert set(solution.diagnostics) == set(COLUMNS)
        n = solution.stats["steps"] + 1
        assert all(values.shape == (n,) for values in solution.diagnostics.values())
        assert solution.response.shape[0] == n

    def test_end_mass_warns(self):
        problem = mf.problems.linear_neuron(target=2.0, mean=-1.0)
        tight = mf.Problem(problem.energy, [mf.Axis("theta", -6, 1.0)], mf.Product(theta=stats.norm(-2, 0.5)), alpha=0)
        with pytest.warns(mf.RunWarning, match="truncation end"):
            solution = mf.solve(tight, 100)
        assert solution.warnings
        natural = mf.Problem(
            problem.energy,
            [mf.Axis("theta", -6, 1.0, mf.End.NATURAL)],
            mf.Product(theta=stats.norm(-2, 0.5)),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert mf.solve(natural, 100).diagnostics["end_mass"].max() == 0.0


class TestProblem:
    def test_lost_mass(self):
        energy, axes = mf.External(lambda x: x**2), [mf.Axis("x", -4, 4)]
        with pytest.warns(mf.TruncationWarning, match=r"6\.33e-05"):
            mf.Problem(energy, axes, mf.Product(x=stats.norm(0, 1)))
        with pytest.raises(ValueError, match=r"loses 0\.0455"):
            mf.Problem(energy, axes, mf.Product(x=stats.norm(0, 2)))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"alpha": -1.0}, "alpha: .*-1.0"),
            ({"schedule": np.nan}, "schedule: "),
            ({"temperature": "hot"}, "temperature: "),
            ({"t_end": 0.0}, "t_end"),
            ({"reaction": "sideways"}, "balanced"),
            ({"metric": [1.0, 1.0]}, "metric"),
            ({"rate": lambda v: -v}, "increasing"),
            ({"shape": (3,)}, "at least 4"),
            ({"initial": mf.Product(y=stats.norm(0, 0.1))}, "y"),
        ],
    )
    def test_wrong_arguments(self, change, message):
        arguments = {
            "energy": mf.External(lambda x: x**2),
            "axes": [mf.Axis("x", -4, 4)],
            "initial": mf.Product(x=stats.norm(0, 0.5)),
        }
        with pytest.raises(ValueError, match=message):
            mf.Problem(**(arguments | change))

    def test_fingerprint(self):
        a = mf.problems.three_gaussians()
        assert a.fingerprint() == mf.problems.three_gaussians().fingerprint()
        assert a.fingerprint() != mf.problems.three_gaussians(alpha=4.0).fingerprint()
        assert a.fingerprint() != mf.problems.three_gaussians("bad", amplitude=7.0).fingerprint()

    def test_unknown_names(self):
        with pytest.raises(ValueError, match="valid: three-gaussians"):
            mf.problems.get("four-gaussians")
        with pytest.raises(ValueError, match="valid: start"):
            mf.problems.get("three-gaussians", beta=1)

    @pytest.mark.parametrize("what", ["linear-neuron", None])
    def test_what_is_no_problem(self, what):
        with pytest.raises(TypeError, match=r"needs a Problem.*mfpde\.problems"):
            mf.solve(what)

    def test_repr_says_what_is_solved(self):
        text = repr(mf.problems.three_gaussians())
        assert "three-gaussians" in text
        assert "alpha 5" in text
        assert "c in [-7, 7]" in text


class TestThreads:
    def test_result_does_not_depend_on_them(self):
        problem = mf.problems.gaussian_bumps(centres=[(-1.0, 0.5)], weights=[1.0])
        one, two = (mf.solve(problem, (64, 64), 0.2, threads=n) for n in (1, 2))
        np.testing.assert_allclose(two.density[-1], one.density[-1], rtol=1e-12, atol=1e-16)


class TestImport:
    def run(self, code):
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    def test_is_light(self):
        heavy = ("sympy", "matplotlib", "scipy", "scipy.stats", "numba", "h5py", "findiff", "pydantic")
        out = self.run(f"import sys, mfpde; print([m for m in {heavy} if m in sys.modules])")
        assert out.strip() == "[]"

    def test_every_public_name_exists(self):
        for name in mf.__all__:
            assert getattr(mf, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            mf.nothing  # noqa: B018

    def test_modules_do_not_hide_functions(self):
        """A module named like a public function would replace it on the second access."""
        import importlib.util

        names = [name for name in mf.__all__ if name not in ("problems", "particles")]
        assert [name for name in names if importlib.util.find_spec(f"mfpde.{name}")] == []
