"""The scheme that is taken where none is named: the better one, whatever the mesh, and what it says of itself."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm

import mfpde as mf
from mfpde.mesh.defaults import default_scheme, outlook
from mfpde.mesh.layers import layer_widths, unresolved
from mfpde.runs.configuration import Configuration

SCHEMES = (mf.ScharfetterGummel(), mf.Weno5())


def channel(stiffness, temperature, start, std, t_end=1.0, dimension=1):
    """Wells ``x^2/2`` along x, ``stiffness x^2/2`` along the last axis, and a start beside the middle."""
    names = "xy"[2 - dimension :]
    strengths = (1.0, stiffness)[2 - dimension :]
    return mf.Problem(
        mf.External(
            lambda *x: sum(0.5 * k * q**2 for k, q in zip(strengths, x, strict=True)),
            lambda *x: tuple(k * q + 0 * sum(x) for k, q in zip(strengths, x, strict=True)),
        ),
        [mf.Axis(name, -2.0, 2.0) for name in names],
        mf.Product(**{name: stats.norm(start, std) for name in names}),
        temperature=temperature,
        t_end=t_end,
    )


def cold():
    """A well in which drift overwhelms diffusion."""
    well = mf.External(lambda x: 0.5 * x**2, lambda x: (x,))
    start = mf.Product(x=stats.norm(1.5, 0.3))
    return mf.Problem(well, [mf.Axis("x", -4.0, 4.0)], start, temperature=1e-4, t_end=2.0)


def run(problem, shape, **options):
    return mf.solve(problem, shape, save=3, progress=False, **options)


class TestLayers:
    """Fisher information of laws that have it in closed form; meshes of the second order, hence the tolerances."""

    def test_a_gaussian_has_its_standard_deviation(self):
        grid = mf.Grid([mf.Axis("x", -3, 3), mf.Axis("y", -30, 30)], [120, 100])
        mu = mf.Product(x=stats.norm(0.1, 0.25), y=stats.norm(-1.0, 4.0)).restrict(grid.axes).cells(grid)
        assert layer_widths(mu, grid) == pytest.approx((0.25, 4.0), rel=0.02)
        assert layer_widths(3.0 * mu, grid) == pytest.approx(layer_widths(mu, grid), rel=1e-14)

    def test_of_two_apart_that_of_one(self):
        grid = mf.Grid([mf.Axis("x", -3, 3)], [240])
        one, other = (mf.Product(x=stats.norm(x, 0.2)).restrict(grid.axes).cells(grid) for x in (-1.5, 1.5))
        assert layer_widths(one + other, grid) == pytest.approx((0.2,), rel=0.02)

    def test_at_a_wall_the_length_of_the_exponential(self):
        """``exp(-V/tau)`` of ``V = 3 x`` at 0 < x: ``tau/|grad V|``."""
        grid = mf.Grid([mf.Axis("x", 0, 2)], [400])
        assert layer_widths(np.exp(-3.0 * grid.centres(0) / 0.15), grid) == pytest.approx((0.05,), rel=0.06)

    def test_across_the_seam_of_a_circle(self):
        grid = mf.Grid([mf.Axis("a", 0, 2 * np.pi, mf.End.PERIODIC)], [100])
        mu = np.exp(np.cos(grid.centres(0)) / 0.04)
        for shift in (0, 50):
            assert layer_widths(np.roll(mu, shift), grid) == pytest.approx((0.2,), rel=0.03)
        assert layer_widths(np.ones(100), grid) == (2 * np.pi,)

    def test_what_is_narrower_than_a_cell_is_said(self):
        grid = mf.Grid([mf.Axis("x", 0, 1), mf.Axis("y", 0, 1)], [10, 10])
        mu = np.zeros((10, 10))
        mu[4] = 1.0  # two faces, across each all of the mass: I = 4/h^2
        assert layer_widths(mu, grid) == pytest.approx((0.05, 1.0))
        assert (
            unresolved(layer_widths(mu, grid), grid, "it")
            == "it is 0.5 cells wide along 'x', which the mesh does not resolve; take at least 60 cells"
        )
        # all of the mass on five rows, a fifth of it across each of two faces: I = 4/5 / h^2
        mu[3:8] = 1.0
        assert (
            unresolved(layer_widths(mu, grid), grid, "it")
            == "it is 1.1 cells wide along 'x', which the mesh resolves poorly; take about 27 cells"
        )
        wide = mf.Grid(grid.axes, [100, 10])
        assert unresolved(layer_widths(np.repeat(mu, 10, axis=0), wide), wide, "it") == ""

    def test_widths_of_several_axes_and_of_atoms(self):
        grid = mf.Grid([mf.Axis("x", 0, 1), mf.Axis("y", 0, 1), mf.Axis("z", 0, 1)], [10, 10, 20])
        assert unresolved((0.2, 0.25, 0.05), grid, "it") == (
            "it is 2 cells wide along 'x', 2.5 cells wide along 'y' and 1 cells wide along 'z', "
            "which the mesh resolves poorly; take about 15, 12 and 60 cells"
        )
        assert unresolved((0.3, 0.0, math.inf), grid, "it") == (
            "it is an atom along 'y', which the mesh does not resolve; no mesh does"
        )


class TestOutlook:
    def test_of_a_quadratic_well(self):
        """Layers sqrt(tau/k) or the start's; cells of a third; drift of the start k |x| there."""
        problem = channel(4.0, 0.04, 0.8, 0.2)
        known = outlook(problem, problem.grid(50), 0.04)
        assert known.layers == pytest.approx((0.1,), rel=0.02)
        assert known.peclet == pytest.approx(4.0 * 0.8 * (0.1 / 3) / 0.04, rel=0.02)
        # the fastest drift where there is mass is at the end of the box
        rate = 4.0 * 2.0 / (0.1 / 3) + 2 * mf.Weno5.diffusion_share * 0.04 / (0.1 / 3) ** 2
        assert known.steps == pytest.approx(rate / 0.75, rel=0.03)

    def test_rates_and_clocks_count(self):
        problem = channel(4.0, 0.04, 0.8, 0.2)
        steps = outlook(problem, problem.grid(50), 0.04).steps
        for other, factor in (({"metric": [3.0]}, 3), ({"metric": [lambda x: 3.0 + 0 * x]}, 3), ({"schedule": 2.0}, 2)):
            quicker = dataclasses.replace(problem, **other)
            assert outlook(quicker, quicker.grid(50), 0.04).steps == pytest.approx(factor * steps)

    def test_interacting_layers_are_those_of_the_end(self):
        """The repulsion on the circle makes them two and a half times as wide as the potential of the start would."""
        problem = mf.problems.torus_langevin(temperature=0.05)
        known = outlook(problem, problem.grid(40), 0.05)
        state = mf.stationary(problem, 400)
        assert known.layers == pytest.approx(layer_widths(state.mu, state.grid), rel=0.02)

    def test_an_energy_that_knows_one_mesh_only(self):
        problem = channel(4.0, 0.04, 0.8, 0.2)
        bound, on = problem.bound_energy, problem.bound_energy.on

        def only(grid):
            if grid.shape != (60,):
                raise RuntimeError("no such mesh")
            return on(grid)

        bound.on = only
        assert outlook(problem, problem.grid(60), 0.04).layers == pytest.approx((0.1,), rel=0.1)

    @pytest.mark.parametrize(("n", "dimension", "cells"), [(40, 2, 32), (8, 3, 8), (40, 3, 11), (5, 4, 5), (20, 4, 6)])
    def test_a_dense_kernel_is_looked_at_on_few_cells(self, n, dimension, cells):
        """Its matrix has an entry for each pair of cells: 1331 at most, and in 3-D and 4-D no more than the run."""
        kernel = mf.PairKernel(lambda p, q: np.exp(-0.5 * ((p[:, None] - q[None]) ** 2).sum(axis=-1)))
        names = "xyzw"[:dimension]
        problem = mf.Problem(
            mf.Interaction(kernel),
            [mf.Axis(name, -2.0, 2.0) for name in names],
            mf.Product(**{name: stats.norm(0.0, 0.3) for name in names}),
            temperature=0.1,
        )
        bound, looked = problem.bound_energy, []

        def count(grid):
            looked.append(grid.shape)
            raise RuntimeError("counted")

        bound.on = count
        grid = problem.grid((n,) * dimension)
        assert outlook(problem, grid, 0.1) is None
        assert looked == [(cells,) * dimension, grid.shape]

    def test_what_is_not_finite_is_said_by_the_run(self):
        """The choice of a scheme does not hide where."""
        problem = channel(4.0, 0.04, 0.8, 0.2)
        energy = mf.External(lambda y: np.where(y > 1.9, np.nan, y**2), lambda y: (2 * y,))
        problem = dataclasses.replace(problem, energy=energy)
        with pytest.raises(ValueError, match="the external potential is nan at y = 1"):
            mf.Solver(problem, 60)


class TestScheme:
    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    @pytest.mark.parametrize(
        ("problem", "meshes"),
        [
            (mf.problems.double_well_sampling(alpha=0.0), (24, 48)),
            (mf.problems.double_well_sampling(), (32,)),
            (mf.problems.torus_langevin(), (48,)),
            (mf.problems.torus_langevin(t_end=2.0), (24, 48, 96)),
            (mf.problems.sphere_langevin(), (24, 48, 96)),
        ],
        ids=["double-well", "double-well-reacting", "torus", "torus-early", "sphere"],
    )
    def test_no_mesh_where_the_other_is_better(self, problem, meshes):
        """The better scheme is the one with less work, steps times cells, for the same error: fluxes of second order
        need cells finer by the square root of a ratio of errors. The default is that one, or within 3 times its steps
        and twice its error."""
        control = mf.ErrorControl(1e-6)
        fine, coarse = (run(problem, n, scheme=SCHEMES[0], controller=control).energy for n in (400, 200))
        reference = fine + (fine - coarse) / 3
        for n in meshes:
            solutions = [run(problem, n, scheme=scheme) for scheme in SCHEMES]
            steps = [solution.stats["steps"] for solution in solutions]
            errors = [np.abs(solution.energy - reference)[1:].max() for solution in solutions]
            better = 0 if steps[0] * math.sqrt(errors[0] / errors[1]) <= steps[1] else 1
            chosen = SCHEMES.index(mf.Solver(problem, n).scheme)
            assert steps[chosen] <= 3 * steps[better]
            assert errors[chosen] <= 2 * errors[better]

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_of_a_double_well_on_few_cells(self):
        """Mass that has crossed the barrier by t = 20, by the exponential of the generator between 500 states with
        rates ``tau/h^2 exp((V_i - V_j)/(2 tau))``. The other scheme has 5.4 and 1.28 times the mass on these meshes."""
        problem = mf.problems.double_well_sampling(alpha=0.0, t_end=20.0)
        fine, tau = problem.grid(500), 0.1
        x, h = fine.centres(0), fine.spacing[0]
        half = np.diff((x**2 - 1) ** 2 + 0.05 * x) / (2 * tau)
        generator = tau / h**2 * (np.diag(np.exp(-half), -1) + np.diag(np.exp(half), 1))
        generator -= np.diag(generator.sum(axis=0))
        later = expm(20.0 * generator) @ problem.mu_0.cells(fine)
        right = later[x < problem.exact["top"]].sum() * h
        for n, off in ((25, 0.12), (50, 0.03), (100, 0.01)):
            solution = run(problem, n)
            left = solution.grid.centres(0) - 0.5 * solution.grid.spacing[0]
            share = np.clip((problem.exact["top"] - left) / solution.grid.spacing[0], 0.0, 1.0)
            mass = float(share @ solution.density[-1]) * solution.grid.cell_volume
            assert mass == pytest.approx(right, rel=off)
            assert solution.stats["steps"] < 100

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    @pytest.mark.parametrize(
        ("problem", "meshes", "tolerance"),
        [
            (mf.problems.gaussian_langevin(), (24, 32, 48, 64, 96, 128), 1e-5),
            (mf.problems.gaussian_langevin(temperature=0.1, alpha=0.0), (24, 32, 48, 64, 96, 128), 1e-5),
            (mf.problems.double_well_sampling(alpha=0.0, t_end=2.0), (24, 32, 48, 64, 96, 128), 1e-5),
            (channel(1.0, 0.05, 0.8, 0.2, 0.5, dimension=2), (24, 32, 48, (96, 48), 96), 1e-5),
            (channel(100.0, 0.1, 1.0, 0.05, 0.1), (24, 32, 48, 64, 96, 128), 1e-5),
        ],
        ids=["gaussian", "cool", "double-well", "two-axes", "channel"],
    )
    def test_the_error_falls_where_a_mesh_is_refined(self, problem, meshes, tolerance):
        """But for what the steps miss, a finer mesh is not worse, be it finer along one axis only."""
        dimension = len(problem.axes)
        fine = (1000,) if dimension == 1 else (200, 200)
        control = mf.ErrorControl(1e-6)
        reference = run(problem, fine, scheme=SCHEMES[0], controller=control).energy
        coarser = run(problem, tuple(n // 2 for n in fine), scheme=SCHEMES[0], controller=control).energy
        reference = reference + (reference - coarser) / 3
        errors, kinds = [], set()
        for n in meshes:
            shape = (n,) * dimension if isinstance(n, int) else n
            kinds.add(type(mf.Solver(problem, shape).scheme))
            errors.append(np.abs(run(problem, shape).energy - reference)[1:].max() / np.ptp(reference))
        assert len(kinds) == 1
        for before, after in itertools.pairwise(errors):
            assert after <= 1.05 * before + tolerance
        assert errors[-1] < 0.2 * errors[0]

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_a_stiff_channel_beside_which_the_run_starts(self):
        """Cells a third wider than the layer: implicit steps, ten times fewer, and an error that is not larger."""
        problem = channel(100.0, 0.1, 1.0, 0.05, dimension=2)
        default, other = run(problem, (48, 48)), run(problem, (48, 48), scheme=mf.Weno5())
        assert 10 * default.stats["steps"] < other.stats["steps"]
        # the wells do not know of each other: the energy is that of Gaussians, E = sum of k (s + m^2)/2 + tau Ent
        exact = 0.0
        for k in (1.0, 100.0):
            decay = math.exp(-k)
            s = 0.1 / k + (0.05**2 - 0.1 / k) * decay**2
            exact += 0.5 * k * (s + decay**2) - 0.05 * math.log(2 * math.pi * math.e * s)
        errors = [abs(solution.energy[-1] - exact) for solution in (default, other)]
        assert errors[0] < 0.5 * errors[1]

    def test_where_drift_dominates(self):
        """A wide start far from its well: 5 to 5000 times the error with the other scheme, for a third of the steps."""
        problem = channel(1.0, 0.05, 0.8, 0.2, 3.0, dimension=2)
        scheme, why = default_scheme(problem, problem.grid((48, 48)))
        assert scheme == mf.Weno5()
        layers = "cells of 0.083 resolve layers of 0.21 by 2.5"
        assert why == f"{layers}, and on cells of 0.071 a drift of cell Peclet number 1.3 is worth 459 explicit steps"

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_where_drift_overwhelms_diffusion(self):
        """A cell Peclet number of 73: more than 2000 steps are worth it. The other scheme smears what it transports by
        diffusion of ``|V'| h/2``, 150 times that of the problem, and has 52 times the error on this mesh.

        Gaussians stay Gaussians, of mean ``1.5 exp(-t)`` and variance ``tau + (0.09 - tau) exp(-2 t)``.
        """
        solution = run(cold(), 400)
        law = stats.norm(1.5 * math.exp(-2.0), math.sqrt(1e-4 + (0.09 - 1e-4) * math.exp(-4.0)))
        exact = np.diff(law.cdf(np.linspace(-4.0, 4.0, 401)))
        assert np.abs(solution.density[-1] * solution.grid.cell_volume - exact).sum() < 0.01
        assert solution.stats["steps"] < 1000

    def test_the_end_of_the_run_counts(self):
        """108 steps to t = 5, worth 411; to t = 100 they are 20 times as many, where implicit steps go on as before."""
        problem = mf.problems.gaussian_langevin(temperature=0.05)
        grid = problem.grid(50)
        near, far = (outlook(problem, grid, 0.05, t_end).steps for t_end in (problem.t_end, 20.0 * problem.t_end))
        assert far == pytest.approx(20.0 * near, rel=1e-14)
        assert outlook(problem, grid, 0.05).steps == near
        assert mf.Solver(problem, 50).scheme == mf.Weno5()
        assert mf.Solver(problem, 50, t_end=20.0 * problem.t_end).scheme == mf.ScharfetterGummel()
        solution = run(problem, 150, t_end=20.0 * problem.t_end)
        assert solution.configuration["scheme"] == "ScharfetterGummel()"
        assert solution.stats["steps"] < 200

    def test_the_coldest_of_the_run_counts(self):
        """A temperature that falls to 0 at t = 2 has not done so by t = 1, where the problem ends."""
        cooling = dataclasses.replace(channel(4.0, 0.04, 0.8, 0.2), temperature=mf.PiecewiseLinear([0, 2], [0.04, 0]))
        assert "falls to 0" in default_scheme(cooling, cooling.grid(50), 2.0)[1]
        assert "explicit steps" in default_scheme(cooling, cooling.grid(50))[1]
        early, late = (outlook(cooling, cooling.grid(50), tau).end for tau in (0.04, 0.01))
        assert (*early, *late) == pytest.approx((0.1, 0.05), rel=0.03)  # sqrt(tau/k)

    def test_a_configuration_counts_to_its_own_end(self):
        text = 'problem = "gaussian-langevin"\nt_end = 100.0\nshape = [50]\n[parameters]\ntemperature = 0.05\n'
        configuration = Configuration.from_toml(text)
        completed = configuration.completed(configuration.problem())
        assert completed.tables.scheme.transport == "scharfetter-gummel"

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_a_run_that_goes_on_keeps_the_scheme_of_its_file(self, tmp_path):
        problem = mf.problems.gaussian_langevin(temperature=0.05)
        run(problem, 20, t_end=1.0).save(tmp_path / "run.h5")
        later = mf.resume(tmp_path / "run.h5", t_end=100.0, max_steps=3, throw=False, progress=False)
        assert later.configuration["scheme"].startswith("Weno5")


class TestWhatIsSaid:
    def test_of_cells_wider_than_the_layers(self):
        """The choice's own cells of ``h = 0.02`` have ``exp(-x^2/(2 tau))`` at ``x = (j + 1/2) h``: terms in the ratios
        ``1 : exp(-4) : exp(-12)`` to both sides, and with ``q = exp(-4)`` to 1e-3 a width of
        ``h sqrt((1 + q)/(q + (1 - q)^2/(1 + q)))/sqrt(2) = 0.0145``.
        """
        problem = cold()
        why = default_scheme(problem, problem.grid(100))[1]
        assert why.startswith("cells of 0.08 do not resolve layers of 0.015, and")

    def test_layers_ahead_that_the_scheme_smears(self):
        """The density of each run is wider than a cell, but where it is led it is not: 0.0146 < 8/n, as above."""
        for n, wide in ((100, 0.18), (200, 0.36), (400, 0.73)):
            for scheme in SCHEMES:
                with pytest.warns(mf.RunWarning) as caught:
                    solution = run(cold(), n, scheme=scheme)
                assert layer_widths(solution.density[-1], solution.grid)[0] > solution.grid.spacing[0]
                state = f"the state that drift and diffusion lead to is {wide} cells wide along 'x'"
                (said,) = (str(warning.message) for warning in caught)
                text, needed = said.rsplit(" at least ", 1)
                assert text == f"{state}, which the mesh does not resolve; take"
                assert int(needed.split(" ")[0]) == pytest.approx(3.0 * 8.0 / 0.0146, rel=0.01)

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_layers_ahead_are_said_by_a_run_that_goes_on(self, tmp_path):
        whole = run(cold(), 100)
        run(cold(), 100, max_steps=10, throw=False).save(tmp_path / "part.h5")
        rest = mf.resume(tmp_path / "part.h5", problem=cold(), progress=False)
        assert len(rest.warnings) == 1
        assert rest.warnings == whole.warnings

    def test_layers_ahead_are_not_said_twice(self):
        """On 50 cells the density itself is 0.9 cells wide, and says so; the start has 0.3 / 0.16 of them."""
        with pytest.warns(mf.RunWarning) as caught:
            solution = run(cold(), 50)
        said = [str(warning.message) for warning in caught]
        assert said == solution.warnings
        assert [text.split(" is ")[0] for text in said] == ["the start", "the density at t = 2"]
        assert said[0].startswith("the start is 1.9 cells wide")

    def test_why(self):
        problem = mf.problems.double_well_sampling(alpha=0.0)
        text = repr(mf.Solver(problem, 50))
        # layers sqrt(tau/V'') = sqrt(0.1/8) = 0.112 and the asymmetry of the wells; cells of 3.9/50
        assert (
            "ScharfetterGummel()  (cells of 0.079 resolve layers of 0.11 by 1.4, and on cells of 0.038 explicit" in text
        )
        text = repr(mf.Solver(mf.problems.gaussian_sampling(), 50))
        assert "and on cells of 0.24 a drift of cell Peclet number 0.95 is not worth 351 explicit steps)" in text

    def test_a_start_or_an_end_that_the_mesh_does_not_resolve(self):
        with pytest.warns(mf.RunWarning) as caught:
            solution = run(channel(100.0, 0.01, 1.0, 0.01, 0.1), 48)
        said = [str(warning.message) for warning in caught]
        assert said == solution.warnings
        assert [text.split(" is ")[0] for text in said] == ["the start", "the density at t = 0.1"]
        # cells of 4/48: 0.12 to the start, which says so itself, 0.1/(1/12) = 1.2 to the state ahead
        assert said[0].startswith("the start is 0.12 cells wide along 'y', which the mesh")
        assert all("wide along 'y', which the mesh does not resolve; take at least" in text for text in said)

    @pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
    def test_a_run_that_goes_on_says_it_too(self, tmp_path):
        problem = channel(100.0, 0.01, 1.0, 0.01, 0.1)
        whole = run(problem, 48)
        run(problem, 48, max_steps=10, throw=False).save(tmp_path / "part.h5")
        rest = mf.resume(tmp_path / "part.h5", problem=problem, progress=False)
        assert len(rest.warnings) == 2
        assert rest.warnings == whole.warnings

    def test_nothing_of_layers_ahead_that_are_far_off(self):
        """At t = 0.2 the density is ``0.3 exp(-0.2) = 0.25``, 12 cells, wide: nothing of it is lost."""
        assert run(cold(), 400, t_end=0.2).warnings == []

    def test_nothing_where_it_does(self):
        """0.2 and 0.316 are more than three cells of 4/64."""
        assert run(channel(1.0, 0.1, 0.5, 0.2, 0.1), 64).warnings == []
        assert run(dataclasses.replace(channel(1.0, 0.1, 0.5, 0.2, 0.1), temperature=0.0), 64).warnings == []

    def test_at_temperature_0_a_narrow_start_is_said_as_well(self):
        """It was not: a run of a start of a tenth of a cell went without a word."""
        with pytest.warns(mf.RunWarning, match=r"the start is 0\.12 cells wide along 'y', which"):
            run(dataclasses.replace(channel(1.0, 0.1, 0.5, 0.01, 0.1), temperature=0.0), 48)
