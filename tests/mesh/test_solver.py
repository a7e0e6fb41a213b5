"""Stepping, control, save times, results: everything about a run that is not its accuracy."""

import dataclasses
import itertools
import os
import re
import signal
import sys
import threading
import warnings

import numpy as np
import pytest
from scipy import special, stats
from scipy.integrate import solve_ivp
from shared import PassByPass, printed_by, python
from threadpoolctl import threadpool_info, threadpool_limits

import mfpde as mf
from mfpde.equation.schedules import invert_clock
from mfpde.mesh.controllers import step_doubling
from mfpde.mesh.flow import make_flow
from mfpde.mesh.methods import implicit
from mfpde.mesh.methods.splitting import Splitting
from mfpde.mesh.record import COLUMNS
from mfpde.mesh.semidiscrete import Coefficients, Flow, Operator, Outcome
from mfpde.mesh.transport_operator import Outflow


def blas_threads():
    """How many threads BLAS has, NumPy's and SciPy's."""
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


by_both = pytest.mark.parametrize("algebra", [mf.CompiledAlgebra(), PassByPass()], ids=["program", "passes"])


@pytest.fixture
def well():
    return mf.problems.quadratic_well()


class TestSaveTimes:
    def test_are_hit_exactly(self, well):
        wanted = [0.1, 1 / 3, 0.7071, 0.9]
        solution = mf.solve(well, 100, save=wanted)
        assert solution.times.tolist() == [0.0, *wanted, 1.0]
        assert set(solution.times) <= set(solution.diagnostics["time"])

    @by_both
    def test_no_slivers(self, well, algebra):
        """The last two steps before a save time are alike, so no step is below half of its neighbours' wish."""
        solution = mf.solve(well, 100, save=[0.3082, 0.32, 0.9], controller=mf.FixedStep(0.004), algebra=algebra)
        dt = solution.diagnostics["dt"][1:]
        assert dt.min() >= 0.002 * (1 - 1e-9)
        assert dt.max() <= 0.004 * (1 + 1e-9)

    @by_both
    def test_fixed_steps_that_divide_the_interval_stay_equal(self, well, algebra):
        solution = mf.solve(well, 100, save=[0.5], controller=mf.FixedStep(0.005), algebra=algebra)
        assert solution.stats["steps"] == 200
        np.testing.assert_allclose(solution.diagnostics["dt"][1:], 0.005, rtol=1e-9)

    @by_both
    def test_do_not_shrink_later_steps(self, well, algebra):
        """A step cut by a save time does not make the next one small."""
        plain = mf.solve(well, 100, save=2, algebra=algebra)
        cut = mf.solve(well, 100, save=np.linspace(0, 1, 6), algebra=algebra)
        assert cut.stats["steps"] <= plain.stats["steps"] + 2 * 5
        # two save times far closer than a step: the one after them is of the usual length at once
        close = mf.solve(well, 100, save=[0.5, 0.5001], algebra=algebra)
        time, dt = close.diagnostics["time"], close.diagnostics["dt"]
        at = int(np.flatnonzero(time == 0.5001)[0])
        assert dt[at] == pytest.approx(1e-4)
        assert dt[at + 1] > 0.5 * dt[at - 2] > 10 * dt[at]

    @pytest.mark.parametrize(
        ("save", "kept"),
        [
            # 0.1 added up ten times is a unit of the last place short of 1
            (np.cumsum([0.1] * 10), [*np.cumsum([0.1] * 9).tolist(), 1.0]),
            # 1 less that sum is no start, and neither is a rounding error before it
            ([1.0 - sum([0.1] * 10), 0.5], [0.5, 1.0]),
            ([-1e-17, 0.5, 1.0 + 2e-16], [0.5, 1.0]),
            # 0.1 + 0.2 is the next number after 0.3
            ([0.1 + 0.2, 0.3, 1.0], [0.3, 1.0]),
            (np.concatenate([np.linspace(0, 1, 5), 0.25 * (1 + 1e-13) * np.arange(5)[:4]]), [0.25, 0.5, 0.75, 1.0]),
        ],
        ids=["summed", "start", "outside", "in between", "two grids"],
    )
    def test_that_differ_by_rounding_are_one(self, well, save, kept):
        solution = mf.solve(well, 40, 1.0, save=save)
        assert solution.result is mf.Result.SUCCESS
        assert solution.times.tolist() == [0.0, *kept]
        assert solution.configuration["save"] == kept

    @pytest.mark.parametrize("gap", [10.0**-k for k in range(9, 18)])
    @pytest.mark.parametrize("at", [1e-8, 0.3, 1.0])
    def test_however_close_end_no_run(self, well, at, gap):
        """Between the two there is a step that can be made, or there is one time."""
        solution = mf.solve(well, 40, 1.0, save=[at * (1 - gap), at, 1.0])
        assert solution.result is mf.Result.SUCCESS
        # eight units of the last place of 1 are 1.8e-15
        assert len(solution.times) == 1 + len({at, 1.0}) + (gap > 1e-12 and gap * at > 1.8e-15)

    def test_over_many_powers_of_ten_stay(self, well):
        """What counts as rounding is relative to the time, not to the end."""
        wanted = np.geomspace(1e-12, 1e2, 15)
        solution = mf.solve(well, 40, 100.0, save=wanted)
        assert solution.times.tolist() == [0.0, *wanted[:-1].tolist(), 100.0]

    def test_an_end_that_is_the_start_but_for_rounding(self, well):
        first = mf.solve(well, 40, sum([0.1] * 10), save=2)
        with pytest.raises(ValueError, match=r"t_end = 1.0 is the start, t = 0\.9999999999999999, but for rounding"):
            mf.solve(well, 40, 1.0, initial=first)

    def test_steps_by_hand_go_as_short_as_they_are_asked_to(self, well):
        solver = mf.Solver(well, 40)
        state, _ = solver.step(solver.init(), 0.01)
        new, info = solver.step(state, np.nextafter(state.t, 1.0))
        assert info.result is None
        assert new.t == np.nextafter(state.t, 1.0)
        np.testing.assert_allclose(new.mu, state.mu, rtol=1e-14)

    def test_the_response_a_rounding_error_beyond_the_end(self):
        solution = mf.solve(mf.problems.linear_neuron(), 40, 0.3, save=2)
        np.testing.assert_array_equal(solution.response_at(0.1 + 0.2), solution.response[-1])

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

    def test_a_density_of_another_mass(self, well):
        """Measures are normalised and arrays were not: twice the mass ran as another problem, without a word."""
        grid = well.grid(100)
        mu = well.mu_0.cells(grid)
        remedy = r'normalise it, mu / \(mu.sum\(\) \* grid.cell_volume\), or take a problem with reaction="unbalanced"'
        with pytest.raises(
            ValueError, match=f"the initial density has mass 2, and the problem conserves mass 1; {remedy}"
        ):
            mf.solve(well, 100, initial=2.0 * mu)
        with pytest.raises(ValueError, match=r"the initial density has mass 1\.00001"):
            mf.Solver(well, 100).init(mf.State(0.0, 1.00001 * mu))
        # cells of 2 * 7.3566 / 100
        with pytest.raises(ValueError, match=r"has mass 0.147132, .* are probabilities of cells; divide .* = 0.147132"):
            mf.solve(well, 100, initial=mu * grid.cell_volume)

    def test_a_mass_of_single_precision_is_1(self, well):
        solver = mf.Solver(well, 100)
        mu = well.mu_0.cells(solver.grid).astype(np.float32)
        assert abs(mu.sum(dtype=float) * solver.grid.cell_volume - 1.0) > 1e-12
        np.testing.assert_array_equal(solver.init(mu).mu, mu)
        np.testing.assert_array_equal(solver.init(mf.State(0.5, mu * (1.0 + 5e-7))).mu, mu * (1.0 + 5e-7))

    def test_where_mass_is_not_conserved_any_is_a_start(self, well):
        lossy = dataclasses.replace(well, reaction="unbalanced")
        mu = 2.0 * well.mu_0.cells(well.grid(100))
        assert mf.solve(lossy, 100, 0.01, initial=mu, save=2).diagnostics["mass"][0] == pytest.approx(2.0, rel=1e-12)
        ended = mf.solve(lossy, 100, 0.1, save=2)
        assert mf.solve(lossy, 100, 0.2, initial=ended, save=2).times[0] == 0.1


class TestCost:
    """Potential evaluations, never seconds."""

    @by_both
    def test_unsplit_three(self, well, algebra):
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005), algebra=algebra)
        assert solution.stats["evaluations"] == 3 * solution.stats["steps"] + 1

    def test_strang_seven(self, well):
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005), method=mf.Strang())
        assert solution.stats["evaluations"] == 7 * solution.stats["steps"] + 1

    def test_lie_four(self, well):
        """Three stages and the end of the step, which is the start of the next."""
        solution = mf.solve(well, 100, controller=mf.FixedStep(0.005), method=mf.Lie())
        assert solution.stats["evaluations"] == 4 * solution.stats["steps"] + 1

    @by_both
    def test_default_on_a_smooth_problem(self, algebra):
        solution = mf.solve(mf.problems.gaussian_bumps(), 200, algebra=algebra)
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
            with pytest.warns(mf.RunWarning, match="the start is an atom along 'theta'"):
                solution = mf.solve(problem, 100, initial=mf.Dirac(theta=-1.0), scheme=scheme)
            assert solution.diagnostics["minimum"].min() >= 0
            assert solution.stats["mass_drift"] < 1e-12


class TestDefaults:
    """The scheme and the method follow from the problem, and the solver says why."""

    @pytest.mark.parametrize(
        ("problem", "shape", "scheme", "method", "reason"),
        [
            (mf.problems.gaussian_bumps(), 50, mf.Weno5, mf.ExponentialSSPRK3, "temperature 0"),
            (
                mf.problems.torus_langevin(),
                200,
                mf.ScharfetterGummel,
                mf.ImplicitStrang,
                "by 10, and on cells",
            ),
            (
                mf.problems.torus_langevin(),
                40,
                mf.ScharfetterGummel,
                mf.ImplicitStrang,
                "by 2.1, and on cell",
            ),
            (mf.problems.gaussian_langevin(alpha=0.0), 40, mf.Weno5, mf.ExponentialSSPRK3, "third order, unsplit"),
            (mf.problems.gaussian_langevin(), 40, mf.Weno5, mf.Strang, "free-energy reaction"),
        ],
        ids=["cold", "warm", "coarse", "drift", "drift-free-energy"],
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

    def test_steps_grow_with_the_digits_asked_for_and_no_faster(self):
        """Clusters a few cells wide, from a start of 20 000 tokens: steps of third order are 100^(1/3) = 4.6 times as
        many for a tolerance 100 times smaller, and may be 10. While the tail guard was a switch, the density was drawn
        to the place where it switches, and 1e-7 took 245 187 steps."""
        tokens = np.random.default_rng(1234).uniform(0, 2 * np.pi, 20_000)
        modes = {k: np.exp(-1j * k * tokens).mean() for k in range(1, 13)}

        def start(points):
            waves = sum((c * np.exp(1j * k * points[:, 0])).real for k, c in modes.items())
            return np.maximum(1 + 2 * waves, 1e-3)

        problem = dataclasses.replace(mf.problems.self_attention(beta=7.0), initial=mf.Density(start), t_end=0.1)
        steps, energies = [], []
        for tolerance in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
            control = mf.ErrorControl(tolerance)
            solution = mf.solve(problem, 512, save=2, controller=control, max_steps=10_000)
            steps.append(solution.stats["steps"])
            energies.append(solution.energy[-1])
        for fewer, more in itertools.pairwise(steps):
            assert more <= 10**0.5 * fewer
        # with fixed steps of 4e-6, 2e-6 and 1e-6: -26.36493967
        assert energies[0] == pytest.approx(-26.36493967, rel=1e-6)
        assert energies[-1] == pytest.approx(-26.36493967, rel=1e-8)

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
            solution = mf.solve(problem, 80, 1.0, save=21, method=method)
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


class TestFormulae:
    """One step against the published formula, written out with the flow's own potentials and fluxes."""

    ALPHA, TAU = staticmethod(lambda c: 1.5 + 0.7 * c), staticmethod(lambda c: 0.02 + 0.01 * c)

    def prepare(self, scheme=None, **changes):
        problem = dataclasses.replace(mf.problems.gaussian_bumps(temperature=0.02), alpha=1.5, **changes)
        flow = make_flow(problem, problem.grid(40), mf.Muscl() if scheme is None else scheme)
        mu = 0.8 * problem.mu_0.cells(flow.grid)
        mu[:2] = 0.0
        return flow, flow.evaluate(mu), Coefficients(self.ALPHA, self.TAU)

    @pytest.mark.parametrize("name", ["balanced", "unbalanced", "dying", "rate", "none", "on", "off"])
    def test_exponential_ssprk3(self, name, monkeypatch):
        """eSSPRK+(3,3) of Isherwood, Grant and Gottlieb (2018), with ``L = -alpha_0 (r - min r)``."""
        method = mf.ExponentialSSPRK3()
        changes = {
            "unbalanced": {"reaction": "unbalanced"},
            "dying": {"reaction": "unbalanced", "rate": lambda V: 10.0 + V},
            "rate": {"rate": np.tanh},
        }.get(name, {})
        flow, start, _ = self.prepare(**changes)
        alpha = {
            "none": lambda c: 0.0,
            "on": lambda c: 2.0 * c,  # a rate that starts from zero, and one that ends there
            "off": lambda c: max(0.0, 1.5 - 3.0 * c),
            "dying": lambda c: 1.5 - c,  # nothing of a stage empties faster than at the start
        }.get(name, self.ALPHA)
        at = Coefficients(alpha, self.TAU)
        f, mu, balanced = flow.reaction.rate_of, start.mu, flow.reaction.balanced
        sums, steps, growth, rate = [], [], [0.3, -0.2, 0.1], flow.transport.rate

        def watched(mu, V, out, dt, temperature, **known):
            steps.append(dt)
            return rate(mu, V, out, dt, temperature, **known)

        def grown(self, total, mass):
            sums.append(mass)
            return growth[len(sums) - 1]

        monkeypatch.setattr(flow.transport, "rate", watched)
        monkeypatch.setattr(Flow, "growth", grown)

        def mean(r, density):
            return float(r @ density) / float(density.sum()) if balanced else 0.0

        def change(nu, c):
            """``N``, and the largest rates at which the stage empties."""
            stage = flow.evaluate(nu * (mu.sum() / nu.sum()) if balanced else nu.copy())
            delta = alpha(c) * (f(stage.V) - mean(f(stage.V), nu)) - alpha(0.0) * (f(start.V) - mean(f(start.V), mu))
            if not balanced:
                delta = alpha(c) * f(stage.V) - alpha(0.0) * f(start.V)
            speed = flow.transport.outflow_rate(stage.V, stage.mu, self.TAU(c))[0]
            excess = max(delta.max(), 0.0)
            return rate(nu, stage.V, temperature=self.TAU(c)) - delta * nu, speed / 0.5 + excess, excess

        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        low = np.min(f(start.V), where=mu > 0, initial=np.inf) if balanced else 0.0
        E = np.exp(-alpha(0.0) * h / 3 * (f(start.V) - low))
        N_0 = rate(mu, start.V, temperature=self.TAU(0.0))
        nu_1 = E**2 * (mu + 2 / 3 * h * N_0)
        N_1, speed_1, excess_1 = change(nu_1, 2 / 3)
        nu_2 = 2 / 3 * E**2 * mu + 1 / 3 * (nu_1 + 4 / 3 * h * N_1)
        N_2, speed_2, excess_2 = change(nu_2, 2 / 3)

        def last(N):
            return E**3 * (59 / 128 * mu + 15 / 128 * (mu + 4 / 3 * h * N_0)) + 27 / 64 * E * (nu_2 + 4 / 3 * h * N)

        nu_3 = last(N_2)
        # without `first_rate` the method makes its own
        for first_rate in (None, N_0):
            sums.clear()
            steps.clear()
            outcome = method.step(flow, start, h, at, first_rate)
            leak = h * (0.25 * growth[0] + 3 / 16 * growth[1] + 9 / 16 * growth[2])
            assert outcome.leak == pytest.approx(leak, rel=1e-14)
            mass = start.mass * (1 + leak) if balanced else nu_3.sum() * flow.grid.cell_volume
            np.testing.assert_allclose(outcome.mu, nu_3 * (mass / nu_3.sum() / flow.grid.cell_volume), rtol=1e-11)
            assert outcome.error == pytest.approx(np.abs(nu_3 - last(N_1)).sum() / nu_3.sum(), rel=1e-9)
            limit = min(method.bound(flow, start, self.TAU(0.0)), 0.75 / speed_1, 0.75 / speed_2)
            assert outcome.bound == pytest.approx(limit, rel=1e-12)
            volumes = [float(nu.sum()) * flow.grid.cell_volume for nu in (mu, nu_1, nu_2)]
            assert sums == pytest.approx(volumes, rel=1e-12)
            euler = h / 0.75
            expected = [euler / (1 - euler * excess) for excess in (excess_1, excess_2)]
            assert steps == pytest.approx(([euler] if first_rate is None else []) + expected, rel=1e-12)

    def test_exponential_ssprk3_of_a_stage_without_mass(self):
        """Half the step is tried where a stage has lost its mass; a small mass is one."""
        method = mf.ExponentialSSPRK3()
        flow, start, at = self.prepare()
        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        for rate in (-3.0 * start.mu / h, np.full(40, np.nan), np.full(40, np.inf)):
            with np.errstate(invalid="ignore"):
                outcome = method.step(flow, start, h, at, rate)
            assert outcome.mu is None
            assert outcome.bound == 0.5 * h
        small = flow.evaluate(1e-6 * start.mu)
        outcome = method.step(flow, small, h, at)
        assert outcome.mu.sum() * flow.grid.cell_volume == pytest.approx(small.mass, rel=1e-12)
        assert 0.0 < outcome.error < 1.0

    def test_exponential_ssprk3_refuses_long_steps(self):
        method = mf.ExponentialSSPRK3()
        flow, start, at = self.prepare()
        bound = method.bound(flow, start, self.TAU(0.0))
        assert bound == pytest.approx(0.75 * 0.5 / flow.outflow(start, self.TAU(0.0)).rate, rel=1e-15)
        outcome = method.step(flow, start, 1.01 * bound, at)
        assert outcome.mu is None
        assert outcome.bound == bound

    def reaction(self, flow, at, mu, a, tau):
        """Predictor and corrector."""
        V = flow.evaluate(mu).V
        first = flow.reaction.apply(mu, V, a, tau)
        return flow.reaction.apply(mu, 0.5 * (V + flow.evaluate(first).V), a, tau)

    @pytest.mark.parametrize("reaction", ["balanced", "free-energy"])
    def test_strang(self, reaction, monkeypatch):
        """Half a reaction, SSPRK(3,3), half a reaction, with ``alpha`` and ``tau`` where each stage is."""
        flow, start, at = self.prepare(reaction=reaction)
        method, volume = mf.Strang(stabilised=False), flow.grid.cell_volume
        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        speeds = []

        def L(mu, c):
            stage = flow.evaluate(mu)
            speeds.append(flow.transport.outflow_rate(stage.V, mu, self.TAU(c))[0])
            return flow.transport.rate(mu, stage.V, temperature=self.TAU(c))

        u = self.reaction(flow, at, start.mu, 0.5 * self.ALPHA(0.25) * h, self.TAU(0.25))
        u_1 = u + h * L(u, 0.0)
        u_2 = 3 / 4 * u + 1 / 4 * (u_1 + h * L(u_1, 1.0))
        u_3 = 1 / 3 * u + 2 / 3 * (u_2 + h * L(u_2, 0.5))
        u = self.reaction(flow, at, u_3, 0.5 * self.ALPHA(0.75) * h, self.TAU(0.75))
        growth = iter([0.3, -0.2, 0.1])
        monkeypatch.setattr(Flow, "growth", lambda self, s, mass: next(growth))
        outcome = method.step(flow, start, h, at)
        np.testing.assert_allclose(outcome.mu, u, rtol=1e-11)
        assert outcome.leak == pytest.approx(h * (0.3 / 6 - 0.2 / 6 + 0.1 * 2 / 3), rel=1e-14)
        assert outcome.bound == pytest.approx(0.5 / max(speeds), rel=1e-12)
        assert volume * outcome.mu.sum() == pytest.approx(start.mass, rel=1e-13)

    def test_transport_in_parts(self):
        """Each half of a transport has ``tau`` of its own, and its bound counts for the whole step."""
        flow, start, at = self.prepare()
        method = Splitting(
            ((Operator.TRANSPORT, 0.5), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 0.5)), order=2, stabilised=False
        )
        h = 0.6 * method.bound(flow, start, self.TAU(0.0))
        speeds = []

        def transported(mu, c):
            def L(mu, c):
                stage = flow.evaluate(mu)
                speeds.append(flow.transport.outflow_rate(stage.V, mu, self.TAU(c))[0])
                return flow.transport.rate(mu, stage.V, temperature=self.TAU(c))

            one = mu + 0.5 * h * L(mu, c)
            two = 3 / 4 * mu + 1 / 4 * (one + 0.5 * h * L(one, c + 0.5))
            return 1 / 3 * mu + 2 / 3 * (two + 0.5 * h * L(two, c + 0.25))

        u = self.reaction(flow, at, transported(start.mu, 0.0), self.ALPHA(0.5) * h, self.TAU(0.5))
        outcome = method.step(flow, start, h, at)
        np.testing.assert_allclose(outcome.mu, transported(u, 0.5), rtol=1e-11)
        assert outcome.bound == pytest.approx(2 * 0.5 / max(speeds), rel=1e-12)
        # a rate that is known is that of the first transport only
        rate = flow.transport.rate(start.mu, start.V, temperature=self.TAU(0.0))
        np.testing.assert_array_equal(method.step(flow, start, h, at, rate).mu, outcome.mu)
        # a step over the bound is refused, with the length that would do
        refused = method.step(flow, start, 2.1 * method.bound(flow, start, self.TAU(0.0)), at)
        assert refused.mu is None
        assert refused.bound == pytest.approx(2 * method.bound(flow, start, self.TAU(0.0)), rel=1e-12)

    def test_parts_that_are_nothing(self):
        """A part of length 0 is left out; a reaction however slow is not."""
        flow, start, at = self.prepare()
        parts = ((Operator.TRANSPORT, 0.0), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 1.0))
        h = 0.5 * mf.Lie(stabilised=False).bound(flow, start, self.TAU(0.0))
        padded, plain = (Splitting(steps, order=1, stabilised=False) for steps in (parts, parts[1:]))
        one, two = (method.step(flow, start, h, at) for method in (padded, plain))
        np.testing.assert_array_equal(one.mu, two.mu)
        assert one.bound == two.bound
        for method in (plain, mf.ExponentialSSPRK3()):
            none = method.step(flow, start, h, Coefficients(lambda c: 0.0, self.TAU)).mu
            for first, then in ((1e-3, 1e-3), (1e-3, 0.0), (0.0, 1e-3)):
                slow_at = Coefficients(lambda c, first=first, then=then: then if c >= 0.5 else first, self.TAU)
                if slow_at.alpha(0.5) or method is not plain:  # a split step looks at its middle only
                    slow = method.step(flow, start, h, slow_at).mu
                    assert np.abs(slow / none - 1.0)[2:].max() > 1e-9

    def test_lie_takes_the_potential_of_the_start(self):
        flow, start, at = self.prepare()
        method = mf.Lie(stabilised=False)
        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        other = Splitting(method.steps, order=1, corrector=True, stabilised=False)
        reacted = flow.evaluate(flow.reaction.apply(start.mu, start.V, self.ALPHA(0.5) * h, self.TAU(0.5)))
        none = Coefficients(lambda c: 0.0, self.TAU)
        np.testing.assert_array_equal(method.step(flow, start, h, at).mu, method.step(flow, reacted, h, none).mu)
        assert (method.step(flow, start, h, at).mu != other.step(flow, start, h, at).mu).any()

    @pytest.mark.parametrize(
        ("stages", "need"), [(3, 9.999), (4, 10.001), (5, 27.998), (6, 28.002), (8, 69.99), (9, 70.01)]
    )
    def test_runge_kutta_legendre(self, stages, need, monkeypatch):
        """A wave decays by ``R(z) = 1 - b + b P_s(1 + w z)``, ``b = (s^2+s-2)/(2s(s+1))``, ``w = 4/(s^2+s-2)``.

        Meyer, Balsara, Aslam (2014), equation 19. With the fewest stages that the step needs.
        """
        n, tau, gain = 32, 1e-3, stages**2 + stages - 2
        problem = mf.Problem(
            mf.External(lambda x: 0.0 * x),
            [mf.Axis("x", 0.0, 2 * np.pi, mf.End.PERIODIC)],
            mf.Product(x=stats.uniform(0, 2 * np.pi)),
            temperature=tau,
        )
        flow = make_flow(problem, problem.grid(n), mf.Muscl())
        x, spacing = flow.grid.centres(0), flow.grid.spacing[0]
        wave = np.cos(3 * x)
        start = flow.evaluate(1.0 + 0.5 * wave)
        stiffness = 3.1 * tau * 2 / spacing**2
        h = need / (2 * stiffness)
        method, at = mf.Strang(), Coefficients(lambda c: 0.0, lambda c: tau * (0.5 + c))
        assert method.bound(flow, start, tau) == pytest.approx(0.5 * (40**2 + 40 - 2) / stiffness, rel=1e-14)
        plain = mf.Strang(stabilised=False)
        assert plain.bound(flow, start, tau) == pytest.approx(spacing**2 / tau / 2, rel=1e-14)
        z = -h * tau * (2 - 2 * np.cos(3 * spacing)) / spacing**2
        b = gain / (2 * stages * (stages + 1))
        factor = 1 - b + b * special.eval_legendre(stages, 1 + 4 / gain * z)
        seen, evaluate = [], Flow.evaluate
        monkeypatch.setattr(Flow, "evaluate", lambda self, mu: [seen.append(mu.copy()), evaluate(self, mu)][1])
        outcome = method.step(flow, start, h, at)
        np.testing.assert_allclose(outcome.mu - 1.0, 0.5 * factor * wave, atol=1e-14)
        assert len(seen) == stages - 1
        np.testing.assert_allclose(seen[0] - 1.0, 0.5 * (1 + z / 3 * 4 / gain) * wave, atol=1e-14)
        assert outcome.bound == method.bound(flow, start, tau)
        assert abs(outcome.leak) < 1e-14
        refused = method.step(flow, start, 1.001 * method.bound(flow, start, tau), at)
        assert refused.mu is None
        assert refused.bound == method.bound(flow, start, tau)
        # a short step needs none of this
        monkeypatch.undo()
        h = 0.5 * plain.bound(flow, start, tau)
        np.testing.assert_array_equal(method.step(flow, start, h, at).mu, plain.step(flow, start, h, at).mu)

    def test_runge_kutta_legendre_refuses_what_turns_negative(self, monkeypatch):
        """One cell below zero, or not a number: half the step is tried next. Small masses pass."""
        flow, start, at = self.prepare()
        method, tau = mf.Strang(), 1e4 * flow.outflow(start).rate / flow.transport.diffusion_rate
        at, h = Coefficients(lambda c: 0.0, lambda c: tau), 0.5 * method.bound(flow, start, tau)
        assert method.step(flow, flow.evaluate(1e-6 * start.mu), h, at).mu is not None
        for value in (-2.0 * start.mu[20] / h, np.nan):
            rate = np.zeros(40)
            rate[20] = value
            monkeypatch.setattr(flow.transport, "rate", lambda *arguments, rate=rate: rate.copy())
            outcome = method.step(flow, start, h, at)
            assert outcome.mu is None
            assert outcome.bound == 0.5 * h

    def test_runge_kutta_legendre_is_bound_by_the_drift(self, monkeypatch):
        flow, start, at = self.prepare()
        drift = flow.outflow(start).rate
        limit, diffusion = 0.5 * 0.5 / drift, flow.transport.diffusion_rate
        method = mf.Strang()
        tau = 100 * drift / diffusion
        assert method.bound(flow, start, tau) == pytest.approx(limit, rel=1e-14)
        tau = 1e4 * drift / diffusion
        stiffness = 3.1 * tau * diffusion + 2 * drift
        assert method.bound(flow, start, tau) == pytest.approx(819 / stiffness, rel=1e-14)
        # what the fluxes have left is kept, whatever the coefficients of the stages sum to
        monkeypatch.setattr(Flow, "growth", lambda self, s, mass: 0.5)
        at, h = Coefficients(lambda c: 0.0, lambda c: tau), 0.9 * 819 / stiffness
        outcome = method.step(flow, start, h, at)
        assert outcome.leak == 0.5 * h
        assert outcome.mu.sum() * flow.grid.cell_volume == pytest.approx(start.mass * (1 + 0.5 * h), rel=1e-14)

    def test_part_of_a_step(self):
        part = Coefficients(self.ALPHA, self.TAU).part(0.25, 0.5)
        assert part.alpha(0.6) == pytest.approx(self.ALPHA(0.55), rel=1e-15)
        assert part.temperature(0.6) == pytest.approx(self.TAU(0.55), rel=1e-15)

    def test_step_doubling(self):
        flow, start, at = self.prepare()
        method = mf.Strang(stabilised=False)
        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        whole = method.step(flow, start, h, at)
        half = method.step(flow, start, h / 2, at.part(0.0, 0.5))
        other = method.step(flow, flow.evaluate(half.mu), h / 2, at.part(0.5, 0.5))
        outcome = step_doubling(method, flow, start, h, at)
        np.testing.assert_array_equal(outcome.mu, other.mu)
        assert outcome.error == pytest.approx(np.abs(whole.mu - other.mu).sum() / other.mu.sum() / 3, rel=1e-12)
        assert outcome.bound == min(whole.bound, 2 * half.bound, 2 * other.bound)
        assert outcome.leak == half.leak + other.leak

    @pytest.mark.parametrize("refused", [0, 1, 2, None])
    def test_step_doubling_of_what_is_refused(self, refused):
        """The bound of a half counts twice: it is that of half the step."""
        flow, start, at = self.prepare()
        for bounds in ((7.0, 5.0, 5.0), (11.0, 5.0, 6.0), (11.0, 6.0, 5.0)):
            script = [Outcome(None if k == refused else start.mu, bound=bound) for k, bound in enumerate(bounds)]
            outcome = step_doubling(Scripted(script), flow, start, 1e-3, at)
            assert (outcome.mu is None) == (refused is not None)
            known = [bounds[0], 2 * bounds[1], 2 * bounds[2]]
            assert outcome.bound == (min(known) if refused is None else known[refused])

    @pytest.mark.parametrize(("size", "error"), [(1e-6, 0.5 / 3), (0.0, 0.0)])
    def test_step_doubling_of_hardly_anything(self, size, error):
        """The error is relative, and that of nothing is none."""
        flow, start, at = self.prepare()
        mu = size * np.ones(40)
        outcome = step_doubling(Scripted([Outcome(0.5 * mu), Outcome(mu), Outcome(mu)]), flow, start, 1e-3, at)
        assert outcome.error == pytest.approx(error)

    def test_exponential_ssprk3_refuses_what_a_stage_has_outgrown(self, monkeypatch):
        flow, start, _ = self.prepare()
        method, outflow, calls = mf.ExponentialSSPRK3(), Flow.outflow, []
        h = 0.5 * method.bound(flow, start, self.TAU(0.0))
        none = Coefficients(lambda c: 0.0, self.TAU)

        def faster(self, stage, temperature=0.0):
            calls.append(temperature)
            return Outflow(0.5 * 0.75 / (0.8 * h), 0) if len(calls) == 2 else outflow(self, stage, temperature)

        monkeypatch.setattr(Flow, "outflow", faster)
        outcome = method.step(flow, start, h, none)
        assert outcome.mu is None
        assert outcome.bound == pytest.approx(0.8 * h, rel=1e-15)


class TestImplicit:
    """What an implicit step does where the iteration for its potential fails."""

    def prepare(self, monkeypatch, fails):
        problem = mf.problems.torus_langevin()
        flow = make_flow(problem, problem.grid(40), mf.ScharfetterGummel())
        method = mf.ImplicitStrang()
        solve, lengths = mf.ImplicitStrang._solve, []

        def picky(self, flow, start, length, at):
            lengths.append(length)
            return (None, None) if fails(lengths) else solve(self, flow, start, length, at)

        monkeypatch.setattr(mf.ImplicitStrang, "_solve", picky)
        at = Coefficients(lambda c: 0.0, lambda c: 0.5 + c)
        return flow, method, flow.evaluate(problem.mu_0.cells(flow.grid)), at, lengths

    def test_two_halves(self, monkeypatch):
        flow, method, start, at, lengths = self.prepare(monkeypatch, lambda lengths: lengths[-1] > 0.1)
        outcome = method.step(flow, start, 0.2, at)
        assert lengths == [0.2, 0.1, 0.1]
        half = method.step(flow, start, 0.1, at.part(0.0, 0.5))
        other = method.step(flow, half.end, 0.1, at.part(0.5, 0.5))
        np.testing.assert_array_equal(outcome.mu, other.mu)
        assert outcome.leak == half.leak + other.leak
        assert outcome.end.mu is outcome.mu

    def test_never(self, monkeypatch):
        flow, method, start, at, lengths = self.prepare(monkeypatch, lambda lengths: True)
        outcome = method.step(flow, start, 0.2, at)
        assert (outcome.mu, outcome.bound) == (None, 0.1)
        assert lengths == [0.2 * 0.5**k for k in range(13)]

    def test_not_the_second_half(self, monkeypatch):
        flow, method, start, at, lengths = self.prepare(monkeypatch, lambda lengths: len(lengths) != 2)
        outcome = method.step(flow, start, 0.2, at)
        assert (outcome.mu, outcome.bound) == (None, 0.1)
        assert lengths[:3] == [0.2, 0.1, 0.1]

    def test_iterations_are_bounded(self, monkeypatch):
        """Without the iterations it needs, or with a potential that is not finite, a step has not been found."""
        flow, method, start, at, _ = self.prepare(monkeypatch, lambda lengths: False)
        assert method._solve(flow, start, 0.2, at)[0] is not None
        bad = dataclasses.replace(start, V=np.where(np.arange(40) == 7, np.nan, start.V))
        assert method._solve(flow, bad, 0.2, at) == (None, None)
        monkeypatch.setattr(implicit, "MOST_ITERATIONS", 1)
        assert method._solve(flow, start, 0.2, at) == (None, None)


class Scripted(mf.Strang):
    """A method whose outcomes are given."""

    def __init__(self, outcomes):
        super().__init__()
        object.__setattr__(self, "outcomes", iter(outcomes))

    def step(self, flow, start, length, at, first_rate=None):
        return next(self.outcomes)


class TestControl:
    """The controllers' arithmetic."""

    def test_courant(self):
        control = mf.CourantControl(fraction=0.8, reaction=0.5, growth=1.5)
        assert control.first(3.0, 1.0) == np.inf
        assert control.cap(2.0, 0.0) == 1.6
        assert control.cap(2.0, 0.1) == 1.6
        assert control.cap(2.0, 5.0) == 0.1
        assert control.cap(100.0, 0.1) == 5.0
        assert control.cap(2.0, 1e-3) == 1.6
        assert control.after(0.1, Outcome(np.ones(1)), (7.0,)) == (True, pytest.approx(0.15), (7.0,))
        # a stage that outgrew its bound: the bound it met, and in any case less than before
        assert control.after(0.1, Outcome(None, bound=0.05), (7.0,)) == (False, pytest.approx(0.04), (7.0,))
        assert control.after(0.1, Outcome(None, bound=1.0), (7.0,)) == (False, pytest.approx(0.09), (7.0,))

    def test_fixed(self):
        control = mf.FixedStep(0.25)
        assert (control.first(1.0, 1.0), control.cap(1.0, 1.0)) == (0.25, np.inf)
        assert control.after(0.1, Outcome(np.ones(1)), ()) == (True, 0.25, ())
        assert control.after(0.1, Outcome(None), ()) == (False, 0.25, ())

    def test_errors(self):
        """Soderlind's PI control: ``0.9 (tol/e)^(0.7/3) (e_before/tol)^(0.4/3)``."""
        tol = 1e-4
        control = mf.ErrorControl(tol, growth=3.0)
        assert control.first(2.0, 0.0) == pytest.approx(0.1 * 0.95 * 2.0)
        assert control.first(2.0, 100.0) == pytest.approx(0.1 * 0.05)
        mu = np.ones(1)
        for error, before in ((0.5e-4, 0.2e-4), (0.9e-4, 0.9e-4), (0.05e-4, 1.0e-4), (1e-4, 0.3e-4)):
            accepted, following, memory = control.after(2.0, Outcome(mu, error=error), (before,))
            assert accepted
            factor = 0.9 * (tol / error) ** (0.7 / 3) * (before / tol) ** (0.4 / 3)
            assert following == pytest.approx(2.0 * min(factor, 3.0), rel=1e-14)
            assert memory == (error,)
        # the first step has no step before
        factor = 0.9 * 2.0 ** (0.3 / 3)
        assert control.after(2.0, Outcome(mu, error=0.5e-4), ())[1] == pytest.approx(2.0 * factor, rel=1e-14)
        assert control.after(2.0, Outcome(mu, error=1e-9), ())[2] == (pytest.approx(1e-6),)
        assert control.after(2.0, Outcome(mu, error=0.0), (0.1,)) == (True, 6.0, (0.1,))
        # refused: by the order of the estimate, and never a step as long as this one
        following = 2.0 * 0.9 * 0.125 ** (1 / 3)
        assert control.after(2.0, Outcome(mu, error=8e-4), (0.1,)) == (False, pytest.approx(following), (0.1,))
        assert control.after(2.0, Outcome(mu, error=1.0001e-4), (0.1,)) == (
            False,
            pytest.approx(1.8, rel=1e-4),
            (0.1,),
        )
        for bad in (None, np.nan, np.inf):
            assert control.after(2.0, Outcome(mu, error=bad), (0.1,)) == (False, 0.5, (0.1,))
        assert control.after(2.0, Outcome(None, bound=1.0), (0.1,)) == (False, pytest.approx(0.95), (0.1,))

    @pytest.mark.parametrize(
        ("make", "accepted"),
        [
            (lambda x: mf.CourantControl(fraction=x), (1e-3, 1.0)),
            (lambda x: mf.CourantControl(growth=x), (1.001, 50.0)),
            (lambda x: mf.CourantControl(reaction=x), (1e-3, 50.0)),
            (lambda x: mf.ErrorControl(x), (1e-14, 2.0)),
            (mf.FixedStep, (1e-9, 2.0)),
        ],
        ids=["fraction", "growth", "reaction", "tolerance", "dt"],
    )
    def test_what_is_allowed(self, make, accepted):
        for value in accepted:
            make(value)
        for value in (0.0, -1.0, np.nan, np.inf, True):
            with pytest.raises(ValueError, match="must"):
                make(value)
        with pytest.raises(ValueError, match="fraction must lie in"):
            mf.ErrorControl(fraction=1.001)

    def test_fractions_of_a_splitting_may_round(self):
        """Thirds do not sum to 1 in binary."""
        third = 1 / 3
        steps = ((Operator.TRANSPORT, 0.1), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 0.9 - 1e-13))
        assert Splitting(steps, order=1).steps[0] == (Operator.TRANSPORT, 0.1)
        assert len(Splitting(((Operator.REACTION, 1.0), *[(Operator.TRANSPORT, third)] * 3), order=1).steps) == 4
        with pytest.raises(ValueError, match="sum to 1"):
            Splitting(((Operator.TRANSPORT, 0.1), (Operator.REACTION, 1.0), (Operator.TRANSPORT, 0.9 - 1e-11)), order=1)
        with pytest.raises(ValueError, match="stabilised must be True or False"):
            Splitting(((Operator.TRANSPORT, 1.0), (Operator.REACTION, 1.0)), order=1, stabilised=1)


class TestRefused:
    """One line each."""

    def test_times(self, well):
        solver = mf.Solver(well, 20)
        state = solver.init()
        with pytest.raises(ValueError, match="until = 0 must lie after the state's time 0"):
            solver.step(state, until=0.0)
        with pytest.raises(ValueError, match=r"t_end = -1\.0 must be finite and lie after the start"):
            mf.solve(well, 20, -1.0)
        late = dataclasses.replace(state, t=5.0)
        with pytest.raises(ValueError, match="the start, t = 5, is not before the problem's t_end = 1; pass t_end="):
            mf.solve(well, 20, initial=late)

    def test_a_mesh_of_another_problem(self, well):
        with pytest.raises(ValueError, match=r"use problem\.grid\(shape\)"):
            make_flow(well, mf.Grid([mf.Axis("other", 0, 1)], [8]), mf.Muscl())

    @pytest.mark.parametrize("name", ["scheme", "method", "controller"])
    def test_kinds(self, well, name):
        with pytest.raises(ValueError, match=f"{name} must be a .* object such as mf"):
            mf.solve(well, 20, **{name: "weno5"})

    def test_a_potential_that_is_not_finite_at_the_start(self):
        class Loss(mf.SquaredLoss):
            def value(self, u):
                return super().value(u) if u[0] > 1 else np.nan

        problem = mf.Problem(
            mf.Features(lambda x: x[None], Loss([0.0], [1.0])), [mf.Axis("x", -2, 5)], mf.Product(x=stats.norm(0, 0.3))
        )
        with pytest.raises(ValueError, match="the potential of the initial measure is not finite; look at the energy"):
            mf.solve(problem, 20)
        large = mf.Features(lambda x: np.where(x < 0.1, 1e200, x)[None], mf.SquaredLoss([0.0], [1.0]))
        problem = mf.Problem(large, [mf.Axis("x", 0, 2)], mf.Dirac(x=0.05))
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"functions \(V is inf at x = 0\.05\)"):
            mf.solve(problem, 20)

    def test_what_was_not_saved(self, well):
        solution = mf.solve(well, 40, 0.1, save=2)
        with pytest.raises(ValueError, match=r"t = 0\.05 is no save time; the nearest is 0"):
            solution.moment("x", 2, t=0.05)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, "two", 10**9])
    def test_threads(self, well, threads):
        with pytest.raises(ValueError, match="threads must be a whole number from 1 to"):
            mf.solve(well, 20, threads=threads)


def test_a_box_is_not_extended_for_ever(monkeypatch):
    """Mass that runs away is followed so many times, and then the run ends as with "stop"."""
    monkeypatch.setattr("mfpde.mesh.box.MOST_EXTENSIONS", 2)
    problem = mf.Problem(
        mf.External(lambda x: 30.0 * x), [mf.Axis("x", -2, 2)], mf.Product(x=stats.norm(0, 0.3)), t_end=1.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        found = mf.solve(problem, 40, on_end_mass="extend", throw=False)
    assert found.result is mf.Result.END_MASS
    assert sum("started again" in note for note in found.warnings) == 2
    assert found.grid.shape == (63,)  # 40 + 10, and a quarter more


class TestClocks:
    def test_inverse(self):
        """To the last bit, and where the answer is below what bisection resolves, not above that."""
        clock = mf.PowerLaw(1.0)
        t = invert_clock(clock, 0.5, 2.0, 0.75)
        assert clock.integral(0.5, t) >= 0.75 > clock.integral(0.5, np.nextafter(t, 0))
        assert 0.0 < invert_clock(mf.PowerLaw(-0.5), 0.0, 1.0, 1e-50) < 1e-60

    @pytest.mark.parametrize("clock", [mf.Constant(2.0), mf.PowerLaw(1.0)], ids=str)
    def test_fixed_steps_are_steps_of_time(self, clock):
        """... whatever the clock, and with a rate that varies within them."""
        problem = dataclasses.replace(
            mf.problems.quadratic_well(), schedule=clock, alpha=mf.PiecewiseLinear([0.0, 1.0], [1.0, 0.5])
        )
        settings = {"controller": mf.FixedStep(0.01), "method": mf.Strang(), "scheme": mf.Muscl(), "save": 2}
        solution = mf.solve(problem, 40, 0.04, **settings)
        np.testing.assert_allclose(solution.diagnostics["dt"][1:], [0.01] * 4, rtol=1e-9)


class TestProgress:
    def test_bar(self, well, capsys):
        mf.solve(well, 40, 0.1, save=2, progress=True)
        said = capsys.readouterr().err
        assert "quadratic-well" in said
        assert "t = 0.1" in said
        mf.solve(well, 40, 0.1, save=2, progress=False)
        assert capsys.readouterr().err == ""


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

    @pytest.mark.parametrize("name", ["mu", "potential"])
    @pytest.mark.parametrize("write", [lambda a: a.fill(0.0), lambda a: a.sort(), lambda a: np.multiply(a, 2.0, out=a)])
    def test_a_stop_condition_cannot_write_into_the_run(self, well, name, write):
        with pytest.raises(ValueError, match="read-only"):
            mf.solve(well, 40, stop=lambda snapshot: write(getattr(snapshot, name)))

    def test_a_stop_condition_sees_the_run_and_no_copy(self, well):
        seen = []
        mf.solve(well, 40, stop=lambda snapshot: seen.append((snapshot.mu, snapshot.potential)))
        assert not any(a.flags.owndata or a.flags.writeable for pair in seen for a in pair)
        assert all(len(pair[0]) == 40 for pair in seen)

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

    def test_warnings_that_are_errors_do_not_cost_the_run(self):
        problem = mf.problems.linear_neuron(target=2.0, mean=-1.0)
        tight = mf.Problem(problem.energy, [mf.Axis("theta", -6, 1.0)], mf.Product(theta=stats.norm(-2, 0.5)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(mf.RunWarning, match="truncation end") as caught:
                mf.solve(tight, 100)
        assert caught.value.solution.result is mf.Result.SUCCESS
        assert caught.value.solution.times[-1] == 1.0

    def test_what_is_asked_at_the_end_is_asked_at_the_start(self, well):
        """A rate that has no value at the end is refused before the first step."""
        steps = []
        problem = dataclasses.replace(well, alpha=lambda t: 0.1 / (0.5 - t), t_end=5.0)
        with pytest.raises(ZeroDivisionError):
            mf.solve(problem, 40, 0.5, stop=lambda snapshot: steps.append(snapshot.step))
        assert steps == []

    def test_settings_of_single_precision_are_computed_with_in_double(self, well):
        """They would make the lengths of steps, and with them the mass, as inaccurate as they are."""
        for single, double in (
            (mf.ErrorControl(np.float32(1e-4)), mf.ErrorControl(float(np.float32(1e-4)))),
            (mf.FixedStep(np.float32(0.01)), mf.FixedStep(float(np.float32(0.01)))),
            (mf.CourantControl(np.float32(0.9)), mf.CourantControl(float(np.float32(0.9)))),
        ):
            one, other = (mf.solve(well, 40, 0.1, controller=controller) for controller in (single, double))
            np.testing.assert_array_equal(one.state.mu, other.state.mu)

    def test_words_of_its_own_that_fail_cost_no_run(self, well):
        """What has no words, a controller of the user's or what it holds, has a line of its class and its fields."""

        class Silent:
            def __repr__(self):
                raise KeyError("no name")

        @dataclasses.dataclass(frozen=True, repr=False)
        class Nameless(mf.ErrorControl):
            label: object = None

            def __repr__(self):
                raise KeyError("no name")

        solution = mf.solve(well, 40, 0.1, controller=Nameless(1e-4, label=Silent()))
        assert re.search(r"Nameless\(tolerance=0.0001, .*label=.*Silent\)$", solution.configuration["controller"])

    @pytest.mark.parametrize("words", [None, []])
    def test_a_host_without_a_command_line(self, well, words, monkeypatch):
        """Python within another program need not have ``sys.argv``."""
        if words is None:
            monkeypatch.delattr(sys, "argv")
        else:
            monkeypatch.setattr(sys, "argv", words)
        assert mf.solve(well, 40, 0.1).provenance["volatile"]["command"] == ""

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
        with pytest.raises(ValueError, match=r"did you mean '.*-gaussians'\? mfpde\.problems\.names"):
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

    @pytest.mark.parametrize(
        "compute",
        [
            lambda problem: mf.Solver(problem, 40),
            lambda problem: mf.solve(problem, 40, 0.01, save=2),
            lambda problem: mf.characteristics(problem, 0.01, save=2),
            lambda problem: mf.particles.simulate(problem, 20, t_end=0.01, save=2, progress=False),
            lambda problem: mf.fluctuations(problem, 0.01, save=2),
            lambda problem: problem.fingerprint(),
        ],
        ids=["solver", "solve", "characteristics", "simulate", "fluctuations", "fingerprint"],
    )
    def test_energies_are_bound_with_one_thread_of_blas(self, compute):
        """Also before the first step: the factorisations of a small run took three times as long on all of them."""
        seen = []

        class Watched(mf.energy.Energy):
            def bind(self, axes):
                seen.append(blas_threads())
                return mf.problems.linear_neuron().energy.bind(axes)

        problem = dataclasses.replace(mf.problems.linear_neuron(), alpha=0.0, energy=Watched())
        with threadpool_limits(limits=2):
            compute(problem)
            assert seen == [{1}]
            assert blas_threads() == {2}

    def test_a_resumed_run_is_set_up_with_one_thread_of_blas(self, monkeypatch):
        seen = []
        half = mf.solve(mf.problems.linear_neuron(), 40, 0.01, save=2)
        init = mf.Solver.init
        monkeypatch.setattr(mf.Solver, "init", lambda *arguments: seen.append(blas_threads()) or init(*arguments))
        with threadpool_limits(limits=2):
            mf.resume(half, 0.02)
        assert seen == [{1}]

    def test_runs_at_a_time_leave_blas_as_it_was(self, well):
        """The first run to begin is the first to end; the other still has one thread of BLAS, and leaves two."""
        first_began, second_began, first_ended = threading.Event(), threading.Event(), threading.Event()
        during, failed = [], []

        def first(snapshot):
            first_began.set()
            return second_began.wait(60)

        def second(snapshot):
            second_began.set()
            assert first_ended.wait(60)
            during.append(blas_threads())
            return True

        def run(stop, ended):
            try:
                mf.solve(well, 40, stop=stop)
            except BaseException as error:
                failed.append(error)
            ended.set()

        with threadpool_limits(limits=2):
            one = threading.Thread(target=run, args=(first, first_ended))
            other = threading.Thread(target=run, args=(second, threading.Event()))
            one.start()
            assert first_began.wait(60)
            other.start()
            one.join()
            other.join()
            assert failed == []
            assert during == [{1}]
            assert blas_threads() == {2}

    def test_the_blas_that_scipy_brings_is_limited_when_it_comes(self):
        """NumPy and SciPy have one each, as their wheels do; what comes in the middle is restored as well."""
        code = """
import sys, mfpde
from threadpoolctl import threadpool_info, threadpool_limits
from mfpde.support.threads import one_blas_thread

def threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

assert "scipy.linalg" not in sys.modules
before = threads()
with one_blas_thread():
    assert threads() == {1}
    import scipy.linalg
    with one_blas_thread():
        assert threads() == {1}
    assert threads() == {1}
print(threads() == before)
"""
        done = python("-c", code, environment={"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"})
        assert done.stdout == "True\n", done.stderr


class TestImport:
    def test_is_light(self):
        heavy = ("sympy", "matplotlib", "scipy", "scipy.stats", "numba", "h5py", "findiff", "pydantic")
        assert printed_by(f"import sys, mfpde; print([m for m in {heavy} if m in sys.modules])") == "[]\n"

    def test_every_public_name_exists(self):
        for name in mf.__all__:
            assert getattr(mf, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            mf.nothing  # noqa: B018

    def test_modules_do_not_hide_functions(self):
        """A module named like a public function would replace it on the second access."""
        import importlib.util

        names = [name for name in mf.__all__ if name not in ("energy", "problems", "particles", "testing")]
        assert [name for name in names if importlib.util.find_spec(f"mfpde.{name}")] == []
