"""What a mesh does not carry, and how a run says so: narrow layers, and tails that birth-death amplifies."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
from scipy import stats
from shared import same_bits

import mfpde as mf
from mfpde.mesh.descent import Descent, descends
from mfpde.mesh.watch import Watch, look_at_the_end


def solved(problem, shape=None, t_end=None, **options):
    """A run whose warnings are looked at, not raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        return mf.solve(problem, shape, t_end, progress=False, **options)


def well(slopes, alpha=3.0, **changes):
    """Neurons in a linear potential on a box, from a normal law."""
    names = "xyz"[: len(slopes)]
    return mf.Problem(
        mf.External(lambda *x: sum(c * xi for c, xi in zip(slopes, x, strict=True))),
        [mf.Axis(name, -4.0, 4.0) for name in names],
        mf.Product(**{name: stats.norm(0.5, 0.6) for name in names}),
        alpha=alpha,
        **changes,
    )


def followed(problem, shape, times):
    """The markers of a problem whose potential does not change."""
    grid = problem.grid(shape)
    mu = problem.mu_0.cells(grid)
    V = problem.bound_energy.on(grid).evaluate(mu)[0]
    markers = Descent(problem, grid, times[0], mu, V)
    for t in times[1:]:
        markers.advance(t, V)
    return markers, grid


def far(distance, h, s=0.6):
    """How steep a normal law is for mass of its own spread so far out: ``E |x| h / s^2``, x normal of that mean.

    To the steeper of two neighbours ``h^2 / (2 s^2)`` comes on top.
    """
    folded = s * math.sqrt(2.0 / math.pi) * math.exp(-0.5 * (distance / s) ** 2)
    folded += distance * math.erf(distance / (s * math.sqrt(2.0)))
    return folded * h / s**2 + 0.5 * (h / s) ** 2


class TestDescent:
    @pytest.mark.parametrize(
        ("slopes", "shape"), [([1.0], 1500), ([1.0, 0.5], (40, 41)), ([1.0, 0.5, 0.1], (11, 12, 13))]
    )
    @pytest.mark.parametrize("place", [0, 1, 500, 501])
    def test_starts_in_one_cell_are_followed(self, slopes, shape, place):
        """Of more than 1024 cells not all have markers: the only one with mass has."""
        problem = well(slopes)
        grid = problem.grid(shape)
        mu = np.zeros(grid.shape)
        mu.flat[place] = 1.0 / grid.cell_volume
        V = problem.bound_energy.on(grid).evaluate(mu)[0]
        markers = Descent(problem, grid, 0.0, mu, V)
        markers.advance(0.1, V)
        np.testing.assert_array_equal(markers.weights, [1.0])
        assert markers.selection == 0.0
        assert solved(problem, shape, 1e-3, initial=mu, save=2, estimate=False).result is mf.Result.SUCCESS

    def test_in_a_linear_potential(self):
        """``V = c x``: ``z = x - c t`` and ``log w = log mu_0(x) - alpha c x t`` up to a constant.

        So the mass descends from the normal law of mean ``m - alpha c t s^2``, whose relative entropy is
        ``(alpha c t s)^2 / 2``.
        """
        markers, grid = followed(well([0.8]), 200, [0.0, 0.2, 0.5, 1.0])
        shift = 3.0 * 0.8
        assert markers.selection == pytest.approx(0.5 * (shift * 0.6) ** 2, rel=2e-3)
        assert markers.steepness == pytest.approx((far(shift * 0.36, grid.spacing[0]),), rel=2e-3)
        assert markers.weights.sum() == pytest.approx(1.0)
        assert markers.flushed == 0.0

    def test_by_axis_with_rates_of_their_own(self):
        """A metric and a clock: growth does not see the metric but through where the markers are, which do not matter
        to a linear potential; the clock multiplies both."""
        problem = well([0.5, -0.3], schedule=2.0, metric=[1.0, lambda x, y: 0.5 + 0 * x])
        markers, grid = followed(problem, (40, 50), [0.0, 1.0])
        for slope, c, h in zip(markers.steepness, (0.5, 0.3), grid.spacing, strict=True):
            assert slope == pytest.approx(far(2.0 * 3.0 * c * 0.36, h), rel=0.01)

    def test_what_is_compressed_is_not_taken_for_a_tail(self):
        """``V = x^2/2``: ``z = x exp(-t)``, ``log w = log mu_0 - alpha x^2 (1 - exp(-2 t)) / 4``.

        That is a narrower normal law. Its variance is ``v = 1 / (1/s^2 + alpha (1 - exp(-2 t)) / 2)``, its
        relative entropy ``(v/s^2 - 1 - log(v/s^2)) / 2``, and there the start has a mean slope of
        ``sqrt(2 v / pi) / s^2``, while the density itself gets steeper and steeper.
        """
        problem = dataclasses.replace(mf.problems.quadratic_well(1.0, alpha=40.0, mean=0.0, variance=0.49), t_end=3.0)
        markers, grid = followed(problem, 400, np.linspace(0.0, 3.0, 11))
        s2, h = 0.49, grid.spacing[0]
        v = 1.0 / (1.0 / s2 - 20.0 * math.expm1(-6.0))
        assert markers.selection == pytest.approx(0.5 * (v / s2 - 1.0 - math.log(v / s2)), rel=0.03)
        assert markers.steepness == pytest.approx((h * math.sqrt(2.0 * v / math.pi) / s2 + 0.5 * h**2 / s2,), rel=0.05)

    def test_on_a_circle(self):
        """Markers pass the seam: a run that is turned by a half finds the same.

        But for the side of a centre that they start on, which rounding decides: there the slope of ``V`` jumps by
        ``h V''``.
        """
        ring = mf.Axis("a", 0.0, 2 * math.pi, mf.End.PERIODIC)

        def turned(by):
            energy = mf.External(lambda a: np.cos(a - by))
            start = mf.Product(a=stats.vonmises(3.0, loc=1.0 + by))
            return mf.Problem(energy, [ring], start, alpha=6.0)

        one, other = (followed(turned(by), 120, [0.0, 0.5, 1.0, 2.0])[0] for by in (0.0, math.pi))
        assert one.selection == pytest.approx(other.selection, rel=1e-4)
        assert one.steepness == pytest.approx(other.steepness, rel=1e-4)

    def test_large_meshes_have_as_many_markers_as_small_ones(self):
        for shape in ((500,), (3000,), (100, 70), (20, 30, 25)):
            problem = well([0.2] * len(shape))
            markers, _ = followed(problem, shape, [0.0])
            assert 100 < len(markers.weights) <= 1024

    @pytest.mark.parametrize(
        ("changes", "follows"),
        [
            ({}, True),
            ({"reaction": "unbalanced"}, True),
            ({"rate": np.tanh}, True),
            ({"alpha": 0.0}, False),
            ({"temperature": 0.1}, False),
            ({"reinjection": mf.Reinjection(mf.Product(x=stats.norm(0, 1)))}, False),
        ],
    )
    def test_where_there_are_ancestors_to_follow(self, changes, follows):
        assert descends(dataclasses.replace(well([0.2]), **changes)) is follows


class TestTails:
    @staticmethod
    def steepness(problem, gap, alpha, variance, t=1.0):
        """How steep the start of a linear neuron is where its mass descends from.

        Drift carries all mass by ``gap (1 - exp(-r t)) / r``, ``r = 1 + alpha C``, and birth-death its mean by the rest
        of ``gap (1 - exp(-r t))``: so far out the mass was, in a normal law of variance C.
        """
        r = 1.0 + alpha * variance
        h = problem.grid().spacing[0]
        return gap * -math.expm1(-r * t) * (1.0 - 1.0 / r) * h / variance

    @pytest.mark.parametrize("target", [4.0, 6.0, 10.0, 20.0])
    def test_of_a_linear_neuron(self, target):
        """On 200 cells its energy is 0.1, 1, 24 and 120 % off, which 0.4, 0.7, 1.3 and 4 foretell."""
        problem = mf.problems.linear_neuron(target=target)
        solution = solved(problem)
        steep = self.steepness(problem, target + 1.0, 3.0, 0.5)
        # the potential comes from the run, which is wrong itself where the tail is not carried
        assert solution.stats["steepest_descent"] == pytest.approx(steep, rel=0.05 if target < 7 else 0.25)
        wrong = abs(solution.energy[-1] / problem.exact["energy"](1.0) - 1.0)
        said = [text for text in solution.warnings if "descends from a tail" in text]
        assert len(said) == (wrong > 0.1)

    def test_what_is_said(self):
        with pytest.warns(mf.RunWarning) as caught:
            solution = mf.solve(mf.problems.linear_neuron(target=10.0), save=3, progress=False)
        assert [str(warning.message) for warning in caught] == solution.warnings
        s = solution.stats["steepest_descent"]
        assert solution.warnings == [
            f"the mass at t = 1 descends from a tail of the start that changes from cell to cell by exp({s:.2g}) along "
            "'theta': there numerical diffusion decides what birth-death amplifies; "
            f"take about {math.ceil(400 * s)} cells along 'theta', or mfpde.characteristics"
        ]

    def test_on_as_many_cells_as_it_asks_for_all_is_well(self):
        problem = mf.problems.linear_neuron(target=10.0)
        solution = mf.solve(problem, 520, progress=False)  # twice 1.27 times 200 cells, and a few
        assert solution.warnings == []
        assert solution.energy[-1] == pytest.approx(problem.exact["energy"](1.0), rel=5e-3)

    @pytest.mark.parametrize("name", ["gaussian_bumps", "quadratic_well", "linear_neuron"])
    def test_where_nothing_is_amplified_nothing_is_said(self, name):
        solution = mf.solve(getattr(mf.problems, name)(), progress=False)
        assert solution.warnings == []
        assert solution.stats["steepest_descent"] < 0.25

    def test_a_start_that_is_steep_itself_is_no_tail(self):
        """Half a cell wide, it changes by more than a factor e from cell to cell; but nothing is selected."""
        solution = solved(mf.problems.gaussian_bumps(alpha=1e-3, initial_std=0.03), t_end=0.5, save=3)
        assert solution.stats["steepest_descent"] == 0.0
        assert not any("tail" in text for text in solution.warnings)

    def test_without_birth_death_the_potential_is_not_asked_for(self):
        problem = well([0.2], alpha=0.0)
        grid = problem.grid(100)
        watch = Watch(problem, grid)
        watch.see(0.0, problem.mu_0.cells(grid), lambda: pytest.fail("V is not needed"))
        assert watch.narrowest == pytest.approx(0.6 / grid.spacing[0], rel=0.01)

    def test_flushed_densities_that_birth_death_would_have_amplified(self):
        """``41 (1 - exp(-2 t)) / 2`` from the mean: 36.5 standard deviations of 0.316 at t = 0.41, exp(-667).

        A thousandth of the mass comes from three of them farther out, which it does from t = 0.37 on.
        """
        solution = solved(mf.problems.linear_neuron(target=40.0, alpha=10.0, variance=0.1), 400)
        assert solution.warnings[-1] == (
            "from t = 0.4 on mass descends from densities below 1e-290, which a mesh sets to 0; "
            "take a start with wider tails, or mfpde.characteristics"
        )
        assert not any("1e-290" in text for text in solved(mf.problems.linear_neuron(target=20.0)).warnings)

    def test_a_run_that_goes_on_finds_the_same_bits(self, path):
        problem = mf.problems.linear_neuron(target=10.0, mean=0.0)
        whole = solved(problem, 60, save=7)
        solved(problem, 60, save=7, output=path, max_steps=whole.stats["steps"] // 2, throw=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mf.RunWarning)
            rest = mf.resume(path, progress=False)
        assert rest.result is mf.Result.SUCCESS
        assert same_bits(rest.density[-1], whole.density[-1])
        assert rest.stats["steepest_descent"] == whole.stats["steepest_descent"] > 1.0
        assert rest.stats["narrowest_layer"] == whole.stats["narrowest_layer"]
        assert rest.stats["evaluations"] == whole.stats["evaluations"]
        assert (rest.warnings, rest.remarks) == (whole.warnings, whole.remarks)


class TestWidths:
    def test_a_start_knows_its_width_better_than_its_mesh(self):
        """200 cells of 0.05; a standard deviation of 0.02 shows as two thirds of a cell there."""
        solution = solved(mf.problems.gaussian_bumps(initial_std=0.02), t_end=0.01, save=2)
        # 3/0.4 of the cells
        assert solution.warnings == [
            "the start is 0.4 cells wide along 'x', which the mesh does not resolve; take at least 1500 cells "
            "(it enters by the masses of its cells)"
        ]

    def test_of_a_cell_and_a_half(self):
        """It costs 2e-3 of the energy."""
        problem = mf.problems.gaussian_bumps(initial_std=0.075)
        solution = solved(problem)
        assert solution.warnings == [
            "the start is 1.5 cells wide along 'x', which the mesh resolves poorly; take about 400 cells"
        ]
        exact = mf.characteristics(problem, save=2, progress=False).energy[-1]
        assert solution.energy[-1] == pytest.approx(exact, rel=3e-3)

    def test_of_two_to_three_cells(self):
        """It costs 1e-4 of the energy."""
        problem = mf.problems.gaussian_bumps(initial_std=0.12)
        solution = solved(problem)
        assert solution.warnings == [
            "the start is 2.4 cells wide along 'x', which the mesh resolves poorly; take about 250 cells"
        ]
        exact = mf.characteristics(problem, save=2, progress=False).energy[-1]
        assert solution.energy[-1] == pytest.approx(exact, rel=1e-4)
        wide = mf.solve(mf.problems.gaussian_bumps(initial_std=0.151), t_end=0.01, progress=False)
        assert wide.warnings == wide.remarks == []

    @pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl()])
    def test_an_atom(self, scheme):
        problem = dataclasses.replace(mf.problems.gaussian_bumps(), initial=mf.Dirac(x=0.3), parameters=None)
        masses = " (it enters by the masses of its cells)" if scheme.point_values else ""
        assert solved(problem, t_end=0.01, save=2, scheme=scheme).warnings == [
            f"the start is an atom along 'x', which the mesh does not resolve; no mesh does{masses}"
        ]

    def test_another_start_than_the_problems(self):
        problem = mf.problems.gaussian_bumps()
        narrow = mf.Product(x=stats.norm(0.0, 0.02))
        said = solved(problem, t_end=0.01, save=2, initial=narrow).warnings
        assert said[0].startswith("the start is 0.4 cells wide")
        # of an array its values are all that is known: two cells of equal mass, I = 2/h^2, and 0.6 % in the next ones
        array = narrow.restrict(problem.axes).cells(problem.grid())
        said = solved(problem, t_end=0.01, save=2, initial=array).warnings
        assert said == [
            "the start is 0.72 cells wide along 'x', which the mesh does not resolve; take at least 833 cells"
        ]

    def test_a_density_that_concentrates_says_so_once(self):
        """``sqrt(C(t))`` of the quadratic well falls below three of its cells of 0.0736 between two save times."""
        problem = mf.problems.quadratic_well()
        solution = mf.solve(problem, save=11, progress=False)  # no warning: the start and the energy are right
        h = solution.grid.spacing[0]
        narrow = [t for t in solution.times if math.sqrt(problem.exact["variance"](t)) < 3.0 * h]
        assert solution.remarks == [
            f"from t = {narrow[0]:g} on the density is less than 3 cells wide along 'x', where its shape is the mesh's "
            "own; means and energies are off by about the square of a cell"
        ]
        # differences across faces of a normal law: 1/8 of a cell squared on top of its variance, twice
        least = math.sqrt(problem.exact["variance"](1.0) / h**2 + 0.25)
        assert solution.stats["narrowest_layer"] == pytest.approx(least, rel=0.01)
        assert f"note: {solution.remarks[0]}" in str(solution)

    def test_a_density_that_is_handed_on_is_no_start(self):
        problem = mf.problems.quadratic_well()
        first = solved(problem, 100, 0.9, save=2)
        assert first.stats["narrowest_layer"] < 2.0
        rest = mf.solve(problem, 100, 1.0, initial=first, save=2, progress=False)
        assert rest.warnings == []

    def test_with_a_temperature_the_last_density_is_warned_of(self):
        """On cells of 1/24 a well of ``sqrt(tau) = 1/16`` shows ``sqrt(1.5^2 + 1/4) = 1.58`` cells."""
        well = mf.External(lambda x: 0.5 * x**2)
        start = mf.Product(x=stats.norm(0.0, 1.0 / 16.0))
        problem = mf.Problem(well, [mf.Axis("x", -1.0, 1.0)], start, temperature=1.0 / 256.0, t_end=0.1)
        found = look_at_the_end(problem, problem.grid(48), 0.1, problem.mu_0.cells(problem.grid(48)), 0.1)
        # it does not get narrower: what drift and diffusion lead to is the start, seen on finer cells
        assert [text.split(" is ")[0] for text in found] == ["the state that drift and diffusion lead to"]
        wider = dataclasses.replace(problem, temperature=1.0 / 64.0)
        found = look_at_the_end(wider, wider.grid(48), 0.1, problem.mu_0.cells(problem.grid(48)), 0.1)
        assert len(found) == 1
        assert found[0].startswith("the density at t = 0.1 is 1.6 cells wide along 'x', which the mesh resolves")

    def test_of_a_state_ahead(self):
        """The state ``exp(-V/tau)`` of ``V = x^2/2``; at t = 1.5 the density is still twice as wide."""
        for cells in (2.4, 0.8):
            problem = dataclasses.replace(
                mf.problems.quadratic_well(1.0, alpha=0.0, mean=0.0, variance=0.0625), temperature=1e-3, parameters=None
            )
            n = round(cells * problem.axes[0].length / math.sqrt(1e-3))
            solution = solved(problem, n, 1.5, save=2, scheme=mf.ScharfetterGummel())
            (text,) = (
                text for text in solution.warnings if text.startswith("the state that drift and diffusion lead to is ")
            )
            assert float(text.split(" is ")[1].split(" ")[0]) == pytest.approx(cells, rel=0.03)
