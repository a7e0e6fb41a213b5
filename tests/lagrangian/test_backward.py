"""Densities of compiled runs: closed forms, the way back in Python, and what happens between calls of the program."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from smooth import BUMPS, PLANE, PROBLEMS, SEVERAL, on_a_box, on_a_line

import mfpde as mf
from mfpde.lagrangian import backward
from mfpde.lagrangian.ancestry import nodes_of
from mfpde.lagrangian.backward import Backward
from mfpde.lagrangian.node_flow import NodeFlow
from mfpde.lagrangian.nodes import Dynamics, OutOfTime, Record, Stepping, density_back
from mfpde.lagrangian.tables import RoughError, table_of

COUNTS = {1: 48, 2: 16, 3: 5, 4: 3}
"""Nodes along each axis. Where both ways have the same ones, it is no matter how many there are."""


def backward_of(problem, rtol=1e-10, counts=None, **options):
    """The densities of a run with some nodes."""
    dynamics = Dynamics(problem)
    start = nodes_of(problem.mu_0.blocks(counts or COUNTS[dynamics.dimension]))
    return Backward(dynamics, start, problem.t_end, Stepping(rtol, judged=False, **options))


def inside(problem, count):
    """Points of a mesh in the box, none of them on a wall."""
    lines = [np.linspace(axis.lower, axis.upper, count + 2)[1:-1] for axis in problem.axes]
    return np.stack([c.ravel() for c in np.meshgrid(*lines, indexing="ij")], axis=1)


def both(found, rows, S):
    """The density by the program and in Python."""
    there = found.past.density(rows, S)
    return there, density_back(found.dynamics, found.record, rows, S, found.t_end, found.stepping.rtol)


def well(alpha=0.0, **options):
    """V = x^2 / 2: places shrink like exp(-t)."""
    energy = mf.External(lambda x: 0.5 * x**2, lambda x: (x,))
    return on_a_line(energy, alpha=alpha, initial=mf.Product(x=stats.norm(0.4, 0.1)), **options)


class TestTables:
    @pytest.mark.parametrize("accuracy", [1e-4, 1e-7, 1e-9, 1e-12])
    def test_second_derivatives_of_closed_forms(self, accuracy):
        """sin(5x) and a normal density."""

        def values(x):
            return np.stack([np.sin(5 * x), np.exp(-2 * (x - 0.3) ** 2)])

        def bends(x):
            y = x - 0.3
            return np.stack([-25 * np.sin(5 * x), (16 * y**2 - 4) * np.exp(-2 * y**2)])

        table = table_of(values, -2.0, 3.0, accuracy, curved=True)
        x = np.random.default_rng(0).uniform(-2, 3, 5000)
        half = 2.5 / len(table)
        i = np.minimum(((x + 2) / (2 * half)).astype(int), len(table) - 1)
        t, k = (x + 2) / half - 2 * i - 1, np.arange(table.shape[1])
        twice = (k * (k - 1))[2:] * t[:, None] ** (k[2:] - 2) / half**2
        found = np.einsum("nkr,nk->rn", table[i][:, 2:], twice)
        assert np.abs(found - bends(x)).max() <= max(accuracy, 1e-10) * 25

    def test_noise_ends_the_search(self):
        """Values with errors of 1e-14 have no second derivative to 1e-12: the best table is taken."""
        noise = np.random.default_rng(1)

        def values(x):
            return (np.cos(x) + 1e-14 * noise.standard_normal(len(x)))[None]

        assert len(table_of(values, 0.0, 3.0, 1e-12, curved=True)) <= 32

    def test_what_has_no_second_derivative(self):
        with pytest.raises(RoughError, match="not smooth enough"):
            table_of(lambda x: (np.abs(x) ** 1.5)[None], -1.0, 1.1, 1e-9, curved=True)


class TestWaysBack:
    """The same nodes and tolerance by the program and in Python; the two have no code in common."""

    @pytest.mark.parametrize("kind", PROBLEMS | SEVERAL)
    def test_they_agree(self, kind):
        problem = (PROBLEMS | SEVERAL)[kind]
        # where nodes stop at walls, steps are as good as their tolerance less often
        found = backward_of(problem, 1e-12 if kind in ("moments", "walls", "walls in space") else 1e-10)
        rows = inside(problem, {1: 25, 2: 7, 3: 3, 4: 2}[len(problem.axes)])
        S = found.dynamics.clock(0.77 * problem.t_end)
        there, python = both(found, rows, S)
        assert np.array_equal(there > 0.0, python > 0.0)
        # differences of order six are right to 1e-8 where potentials are as steep as tanh(5 x)
        np.testing.assert_allclose(there, python, rtol=3e-8)

    @pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8])
    @pytest.mark.parametrize("kind", ["kernel", "network", "metric in the plane", "schedules"])
    def test_the_tolerance_is_that_of_the_logarithm(self, kind, rtol):
        """On the way back, and of what is recorded: the best is a hundred times finer than all of them."""
        problem = PROBLEMS[kind]
        best, found = backward_of(problem, 1e-11), backward_of(problem, rtol)
        rows, S = inside(problem, 25 if len(problem.axes) == 1 else 7), best.dynamics.clock(problem.t_end)
        apart = np.log(found.past.density(rows, S)) - np.log(best.past.density(rows, S))
        assert math.sqrt(np.mean(apart**2)) <= 10 * rtol

    def test_a_run_that_nothing_compiled_makes(self):
        found = backward_of(on_a_line(mf.Interaction(mf.PairKernel(lambda x, y: np.exp(-((x - y) ** 2))))), counts=8)
        assert found.past is None
        rows = inside(found.dynamics.problem, 5)
        python = density_back(found.dynamics, found.record, rows, 1.0, 1.0, found.stepping.rtol)
        assert np.array_equal(found.density(rows, 1.0), python)

    def test_a_way_that_the_program_cannot_go_is_gone_in_python(self, monkeypatch):
        found = backward_of(PROBLEMS["kernel"])
        rows = inside(found.dynamics.problem, 5)
        expected = found.past.density(rows, 1.0)

        def fails(*_):
            raise RoughError("the compiled steps fell below round-off")

        monkeypatch.setattr(found.past, "density", fails)
        np.testing.assert_allclose(found.density(rows, 1.0), expected, rtol=1e-8)
        assert len(found.record.values) > 1  # which is what Python reads

    def test_no_gradient_is_asked_for(self, monkeypatch):
        """All of it is read from tables: that is what makes it fast."""
        found = backward_of(PROBLEMS["kernel in the plane"])
        rows = inside(found.dynamics.problem, 7)
        expected = found.density(rows, 1.0)
        for name in ("gradient", "potential", "response"):
            monkeypatch.setattr(type(found.dynamics.bound), name, None)
        again = backward_of(PROBLEMS["kernel in the plane"])
        assert np.array_equal(again.density(rows, 1.0), expected)

    def test_differently_placed_nodes_have_other_tables(self):
        """What bears a density out shares no tables with it."""
        problem = PROBLEMS["kernel"]
        flows = [NodeFlow(problem, np.array([0.6, 1.0]), other) for other in (False, True)]
        rows = inside(problem, 25)
        one, other = ([at.density(rows) for at in flow.run([40], 1e-9)] for flow in flows)
        np.testing.assert_allclose(one, other, rtol=3e-7)
        tables = [flow._recorded[2].past.lane.motion.tables[1] for flow in flows]
        assert tables[0].shape != tables[1].shape or not np.array_equal(*tables)


class TestClosedForms:
    def test_tails(self):
        """Thirty standard deviations out, where the density is 1e-195, it is as right as in the middle."""
        exact = mf.characteristics(well(), save=2, tolerance=1e-9, progress=False)
        assert exact._backward.past is not None
        law = stats.norm(0.4 * math.exp(-1), 0.1 * math.exp(-1))
        x = law.mean() + np.linspace(-30, 30, 25) * law.std()
        found = exact.density_at(x)
        assert found.min() < 1e-190
        np.testing.assert_allclose(np.log(found), law.logpdf(x), rtol=1e-9, atol=1e-9)

    def test_birth_and_death(self):
        """A normal law stays one: (1/v)' = 2/v + alpha, and m' = -(1 + alpha v) m, where alpha v = -2 - (log v)'."""
        alpha, t, v0 = 1.5, 0.8, 0.01
        exact = mf.characteristics(well(alpha), save=2, tolerance=1e-9, progress=False)
        v = 1 / ((1 / v0 + alpha / 2) * math.exp(2 * t) - alpha / 2)
        m = 0.4 * math.exp(t) * v / v0
        x = m + np.linspace(-5, 5, 21) * math.sqrt(v)
        np.testing.assert_allclose(exact.density_at(x, t), stats.norm(m, math.sqrt(v)).pdf(x), rtol=1e-8)

    def test_mass_and_sign_on_a_mesh(self):
        """The midpoint rule is exact to all digits for a density that is smooth and vanishes at the ends."""
        problem = mf.problems.gaussian_bumps()
        exact = mf.characteristics(problem, save=2, tolerance=1e-9, progress=False)
        grid = mf.Grid(problem.axes, 400)
        density = exact.density_at(grid.points())
        assert density.min() >= 0.0
        assert density.sum() * grid.cell_volume == pytest.approx(1.0, abs=1e-8)

    def test_walls_let_nothing_in(self):
        """x' = 1 on [0, 1] from a uniform law: the density is 1 where x > t, and 0 behind."""
        energy = mf.External(lambda x: -x, lambda x: (-1.0 + 0 * x,))
        start = mf.Product(x=stats.uniform(0, 1))
        problem = mf.Problem(energy=energy, axes=[mf.Axis("x", 0, 1)], initial=start, t_end=0.6)
        past = backward_of(problem, counts=20).past
        assert past is not None
        rows = np.array([[-0.1], [0.2], [0.59], [0.61], [0.99], [1.01]])
        np.testing.assert_allclose(past.density(rows, 0.6), [0, 0, 0, 1, 1, 0], atol=1e-12)

    def test_at_the_start(self):
        found = backward_of(PROBLEMS["kernel in the plane"])
        rows = inside(found.dynamics.problem, 7)
        assert np.array_equal(found.density(rows, 0.0), np.exp(found.dynamics.problem.mu_0.log_density(rows)))


class TestWalls:
    def test_points_that_leave_the_box_do_not_set_the_steps(self, monkeypatch):
        """Beyond a wall the motion is not smooth. Their density is 0, whatever their steps are."""
        from mfpde.lagrangian.compiled import tracing

        found = backward_of(PROBLEMS["network"], 1e-9)  # amplitudes shrink: on the way back many grow out of the box
        rows, evaluations, made = inside(found.dynamics.problem, 40), [], tracing.trace
        assert found.past is not None

        def counted(*arguments):
            status = made(*arguments)
            evaluations.append(int(arguments[6][backward.Counts.EVALUATIONS]))
            return status

        monkeypatch.setattr(tracing, "trace", counted)
        density = found.past.density(rows, 1.0)
        assert 10 < np.count_nonzero(density == 0.0) < len(rows) - 10
        assert max(evaluations) <= 120

    def test_a_point_is_out_when_it_is_so_for_sure(self):
        """Starts next to the wall come from inside or out by the sign of the velocity there, x' = c."""
        for c in (-0.5, 0.5):
            energy = mf.External(lambda x, c=c: -c * x, lambda x, c=c: (-c + 0 * x,))
            problem = mf.Problem(energy=energy, axes=[mf.Axis("x", 0, 1)], initial=mf.Product(x=stats.uniform(0, 1)))
            past = backward_of(replace(problem, t_end=1e-3, parameters=None), counts=20).past
            x = np.array([[1e-9], [4e-4], [6e-4], [1 - 6e-4], [1 - 4e-4], [1 - 1e-9]])
            origin = x[:, 0] - 1e-3 * c
            expected = ((origin > -1e-8) & (origin < 1 + 1e-8)).astype(float)
            np.testing.assert_allclose(past.density(x, 1e-3), expected, atol=1e-12)


class TestBetweenCalls:
    def test_calls_of_the_program_do_not_change_a_bit(self, monkeypatch):
        problem = PROBLEMS["kernel in the plane"]
        rows = inside(problem, 20)  # two blocks
        expected = backward_of(problem).density(rows, 1.0)
        monkeypatch.setattr(backward, "FIRST_SLICE", 0.0)  # one step a call
        monkeypatch.setattr(backward, "SLICE", 0.0)
        assert np.array_equal(backward_of(problem).density(rows, 1.0), expected)

    def test_the_deadline_is_kept(self):
        found = backward_of(PROBLEMS["kernel in the plane"])
        rows = inside(found.dynamics.problem, 7)
        assert found.past is not None
        with pytest.raises(OutOfTime):
            found.density(rows, 1.0, deadline=0.0)
        with pytest.raises(OutOfTime):
            backward_of(PROBLEMS["kernel in the plane"], deadline=0.0).density(rows, 1.0)

    def test_a_table_of_the_rate_grows_with_what_is_asked(self):
        """Far from all nodes V is larger than where they are."""
        problem = on_a_line(mf.External(lambda x: 0.1 * x**2), rate=lambda V: V**3)
        found = backward_of(replace(problem, initial=mf.Product(x=stats.uniform(-0.2, 0.4)), parameters=None))
        before = found.past.rate[3]
        rows = np.array([[0.1], [3.9]])
        there, python = both(found, rows, 0.5)
        assert found.past.rate[3] > before
        np.testing.assert_allclose(there, python, rtol=1e-8)


class TestRecords:
    def test_polynomials_follow_what_they_record(self):
        """Of cos(3 t) on a panel of length 3/2, degree twelve leaves (9/4)^13 / (2^11 13!) = 3e-9."""
        record = Record(0.0, 12)
        for a, b in ((0.0, 1.0), (1.0, 2.5)):
            record.append(b, np.cos(3 * record.places(a, b))[:, None])
        for S in np.linspace(0, 2.5, 17):
            assert record(S)[0] == pytest.approx(math.cos(3 * S), abs=3e-9)

    def test_smooth_runs_take_few_panels(self):
        assert len(backward_of(PROBLEMS["kernel"]).past.record.values) <= 4

    def test_panels_end_where_the_rate_jumps(self):
        knots = backward_of(PROBLEMS["jumps of the rate"]).past.record.knots
        assert {0.3, 0.7} <= {round(knot, 12) for knot in knots}

    def test_roughness_of_the_run_is_not_resolved(self, monkeypatch):
        """Each node that stops at a wall bends the moments: no polynomial follows all of them, and none need."""
        runs = []
        made = backward.integrate
        monkeypatch.setattr(backward, "integrate", lambda *a, **k: runs.append(1) or made(*a, **k))
        past = backward_of(PROBLEMS["walls"], 1e-11, counts=400).past
        assert past is not None
        assert len(runs) <= 16

    def test_between_save_times_a_run_is_made_anew(self):
        """What the nodes are there is what they are when they are saved there."""
        problem = PROBLEMS["kernel in the plane"]
        exact = mf.characteristics(problem, save=2, tolerance=1e-7, progress=False)
        points, weights = exact.nodes_at(0.37)
        counts = exact.refinements[-1].nodes
        there = mf.characteristics(problem, save=[0.37, 1.0], tolerance=1e-7, nodes=counts, progress=False)
        assert "record" not in vars(exact._backward)  # which takes a run in Python
        response = exact.response_at(0.37)
        np.testing.assert_allclose(response, there.response[1], atol=1e-7 * np.abs(response).max())
        assert exact.energy[0] > problem.bound_energy.energy(points, weights) > exact.energy[-1]
        assert "record" not in vars(exact._backward)


def test_energies_that_are_added_up():
    """A kernel and an external potential: given and computed coefficients side by side, in the plane with a metric."""
    energy = PLANE + mf.External(lambda c, z: 0.1 * c * c + 0.2 * np.cos(z))
    problem = on_a_box(energy, metric=[lambda c, z: 1 + 0.1 * c * np.exp(-(z**2)), 0.5], rate=np.tanh)
    found = backward_of(problem)
    there, python = both(found, inside(problem, 7), 1.0)
    np.testing.assert_allclose(there, python, rtol=3e-8)


def test_no_reaction_takes_no_rate():
    problem = on_a_line(BUMPS, alpha=0.0, rate=np.sinh)
    there, python = both(backward_of(problem), inside(problem, 25), 1.0)
    np.testing.assert_allclose(there, python, rtol=1e-8)


class TestOnAMesh:
    @pytest.fixture(scope="class")
    @classmethod
    def bumps(cls):
        problem = mf.problems.gaussian_bumps([(-1.0, -1.0), (1.0, 0.5)])
        return mf.characteristics(problem, save=2, tolerance=1e-6, progress=False)

    def test_mass_and_moments(self, bumps):
        """The midpoint rule has no error to speak of: the density is smooth, and 1e-6 of the mass is next to walls."""
        grid, density = bumps.grid((60, 50)), bumps.density((60, 50))
        assert density.shape == grid.shape == (60, 50)
        assert density.min() >= 0.0
        mass = density * grid.cell_volume
        assert mass.sum() == pytest.approx(1.0, abs=1e-5)
        x, y = grid.mesh()
        assert (mass * x).sum() == pytest.approx(bumps.mean("x"), abs=1e-5)
        assert (mass * y).sum() == pytest.approx(bumps.mean("y"), abs=1e-5)

    def test_centres_and_times(self, bumps):
        grid = bumps.grid(8)
        expected = bumps.density_at(grid.points(), 0.5).reshape(8, 8)
        np.testing.assert_allclose(bumps.density(8, 0.5), expected, rtol=1e-12)

    def test_part_of_the_box(self, bumps):
        part = {"y": (-1.0, 2.0)}
        grid = bumps.grid((10, 12), part)
        assert [(axis.lower, axis.upper) for axis in grid.axes] == [(-5.0, 5.0), (-1.0, 2.0)]
        expected = bumps.density_at(grid.points()).reshape(10, 12)
        np.testing.assert_allclose(bumps.density((10, 12), box=part), expected, rtol=1e-12)

    def test_defaults(self, bumps):
        assert bumps.grid().shape == (64, 64)
        assert bumps.grid().axes == tuple(bumps.problem.axes)

    def test_a_solution_on_a_mesh_is_the_same_density(self):
        """The two have nothing in common but the problem; that of the mesh has an error of 1e-3 or less."""
        problem = mf.problems.gaussian_bumps()
        exact = mf.characteristics(problem, 1.0, save=2, tolerance=1e-7, progress=False)
        solution = mf.solve(problem, 100, t_end=1.0, save=2, progress=False)
        density = exact.density(100)
        apart = np.abs(density - solution.density[-1]).sum() * solution.grid.cell_volume
        assert apart < 1e-3

    @pytest.mark.parametrize(
        ("shape", "box", "message"),
        [
            (3, None, "at least 4"),
            ((8, 8, 8), None, "3 entries"),
            (8, {"z": (0, 1)}, "no axis 'z'; valid: x, y"),
            (8, {"x": (0, 6)}, r"the box \[0, 6\] of 'x' is not a part of Axis\(x in \[-5, 5\], truncation\)"),
            (8, {"x": (1, 0)}, "must be finite with lower < upper"),
            (8, {"x": 1}, "a box maps names of axes"),
            (8, [(0, 1)], "box must be"),
        ],
    )
    def test_what_is_no_mesh(self, bumps, shape, box, message):
        with pytest.raises((ValueError, TypeError), match=message):
            bumps.density(shape, box=box)
