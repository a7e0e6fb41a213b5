"""What energies have, asked before anything is computed; energies of a user's own; second variations."""

import math
import re
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats
from shared import name_of

import mfpde as mf
from mfpde.equation.convexity import convex_on
from mfpde.equation.energy.base import difference_along
from mfpde.equation.energy.capabilities import has_points, plan_on, require_capability

QUIET = {"progress": False}
LINE = [mf.Axis("x", -2.0, 2.0)]
FORMS = {"mesh", "points", "response", "curvature"}


@dataclass(frozen=True)
class PorousMedium(mf.energy.MeshEnergy):
    """``E = int mu^m / (m - 1)``."""

    m: float = 2.0
    convex: bool | None = True

    def evaluate(self, mu, grid):
        V = self.m / (self.m - 1) * mu ** (self.m - 1)
        return V, (mu**self.m).sum() * grid.cell_volume / (self.m - 1)


def problem_of(energy, **options):
    options = {"initial": mf.Product(x=stats.norm(0.3, 0.3)), "t_end": 0.1} | options
    return mf.Problem(energy, LINE, **options)


# ---------------------------------------------------------------------------------------------------------------------
# a form that is not there
# ---------------------------------------------------------------------------------------------------------------------


class OnMesh(mf.energy.Energy):
    """A well on a mesh; what is there at points is up to the class `at_points`, from outside as a user's is."""

    def __init__(self, at_points):
        self.at_points = at_points

    def bind(self, axes):
        return self.at_points(tuple(axes))


class Bare(mf.energy.BoundEnergy):
    """Nothing at points."""

    def __init__(self, axes):
        self.axes = axes
        self.well = mf.External(lambda x: 3.0 * x**2).bind(axes)

    def on(self, grid):
        return self.well.on(grid)


class Zero(Bare):
    """Zero at points, because something had to be there."""

    def _potential(self, points, moments, source):
        return np.zeros(len(points))

    def _gradient(self, points, moments, source):
        return np.zeros(points.shape)

    def _energy(self, points, weights, moments):
        return 0.0


class Raising(Zero):
    def _potential(self, points, moments, source):
        raise NotImplementedError("values on a mesh only")


class Dividing(Zero):
    def _energy(self, points, weights, moments):
        return 1 / 0


class Scaled(Zero):
    """Another potential than on the mesh."""

    def _potential(self, points, moments, source):
        return -3.0 * points[:, 0] ** 2


class Driftless(Bare):
    """The right potential, without a slope."""

    def _potential(self, points, moments, source):
        return 3.0 * points[:, 0] ** 2

    def _gradient(self, points, moments, source):
        return np.zeros(points.shape)

    def _energy(self, points, weights, moments):
        return float(weights @ self._potential(points, moments, source=None))


class Right(Driftless):
    """Everything that is said is right; the gradient is by differences."""

    _gradient = mf.energy.BoundEnergy._gradient


def simulated(problem):
    return mf.particles.simulate(problem, 4, t_end=0.01, **QUIET)


def compared(problem):
    return mf.compare(mf.solve(problem, 20, 0.01, save=2, **QUIET), sizes=[4], replicas=2, dt=0.01, **QUIET)


NEEDING = {
    "particles.simulate": simulated,
    "characteristics": lambda problem: mf.characteristics(problem, 0.01, **QUIET),
    "fluctuations": lambda problem: mf.fluctuations(problem, 0.01, **QUIET),
    "compare": compared,
}
LACKING = {
    "nothing": (OnMesh(Bare), "Bare has values on a mesh only; "),
    "zero": (OnMesh(Zero), "Zero has values on a mesh only: at points its potential varies by 0 over the box"),
    "raises": (OnMesh(Raising), "Raising has values on a mesh only: at points there is NotImplementedError"),
    "fails": (OnMesh(Dividing), "Dividing has values on a mesh only: at points there is ZeroDivisionError"),
    "another": (OnMesh(Scaled), "Scaled has values on a mesh only: at points its potential varies by"),
    "no slope": (OnMesh(Driftless), "Driftless: the derivative along x is 0 at x"),
    "mesh energy": (PorousMedium(), "PorousMedium has values on a mesh only; "),
    "in a sum": (mf.Confinement(x=1.0) + OnMesh(Zero), "Zero has values on a mesh only: at points"),
}


@pytest.mark.parametrize("who", NEEDING)
@pytest.mark.parametrize("case", LACKING)
def test_a_form_that_is_not_there_is_refused(case, who, monkeypatch):
    """Before anything is computed, by name: a run without a drift looked like one with it."""
    energy, message = LACKING[case]
    problem = problem_of(energy)
    for computes in ("mfpde.particles.simulation.make_field", "mfpde.lagrangian.nodes.Dynamics.velocity"):
        monkeypatch.setattr(computes, lambda *arguments: pytest.fail("it computes"))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        NEEDING[who](problem)
    text = str(refused.value)
    assert text.startswith(message)
    if case != "no slope":
        assert f"; {who} needs its potential at points: solve it on a mesh, or implement points" in text


@pytest.mark.parametrize("case", LACKING)
def test_on_a_mesh_they_run(case):
    assert mf.solve(problem_of(LACKING[case][0]), 40, 0.01, save=2, **QUIET).result is mf.Result.SUCCESS


def test_a_form_that_is_there_is_not_refused():
    """Against the same well as an `External`, for particles and along characteristics."""
    own, well = problem_of(OnMesh(Right)), problem_of(mf.External(lambda x: 3.0 * x**2))
    for run in (simulated, lambda problem: mf.characteristics(problem, 0.05, save=2, **QUIET)):
        np.testing.assert_allclose(run(own).energy, run(well).energy, rtol=1e-9)


def test_coupled_twins_need_a_response():
    problem = problem_of(PorousMedium())
    solution = mf.solve(problem, 40, 0.05, save=2, **QUIET)
    with pytest.raises(
        ValueError, match=r"PorousMedium has values on a mesh only; particles\.coupled needs its potential"
    ):
        mf.particles.coupled(problem, solution, 4, t_end=0.05)
    pairs = problem_of(mf.Interaction(mf.PairKernel(lambda p, q: np.exp(-((p - q.T) ** 2)))))
    with pytest.raises(ValueError, match=r"does not factorise; particles\.coupled needs"):
        mf.particles.coupled(pairs, solution, 4, t_end=0.05)


class PointsAlone(Right):
    """It says so itself, whatever is implemented."""

    capabilities = frozenset({"points", "response"})


@pytest.mark.parametrize("run", [mf.Solver, mf.stationary, lambda *arguments: mf.solve(*arguments, **QUIET)])
def test_an_energy_at_points_only_is_not_solved_on_a_mesh(run):
    with pytest.raises(
        ValueError, match=r"PointsAlone has values at points only; .* needs its potential on a mesh: foll"
    ):
        run(problem_of(OnMesh(PointsAlone)), 40)
    assert simulated(problem_of(OnMesh(PointsAlone))).energy[0, 0] > 0.0


def test_references_of_an_energy_on_a_mesh():
    """Two schemes on meshes bear each other out; the end state on nodes is refused."""
    problem = problem_of(OnMesh(Zero))
    found = mf.reference(problem, 1e-2, [mf.Moment("x", 1, 0.05)], budget=30, progress=False)
    well = mf.reference(problem_of(mf.External(lambda x: 3.0 * x**2)), 1e-2, [mf.Moment("x", 1, 0.05)], progress=False)
    one, other = found["moment x^1"], well["moment x^1"]
    assert abs(one.value[0] - other.value[0]) <= one.bar[0] + other.bar[0]
    warm = problem_of(PorousMedium(), temperature=0.1)
    with pytest.raises(ValueError, match="PorousMedium has values on a mesh only; reference at t = inf needs"):
        mf.reference(warm, 1e-2, [mf.Moment("x", 2, np.inf)], progress=False)


@pytest.mark.parametrize("name", mf.problems.names())
def test_shipped_energies_say_what_they_have(name):
    """All have values on meshes and at points, and their second variation; a response unless they sum over pairs.

    But for the one whose potential is a function of the density, and the one whose potential belongs to no energy.
    """
    bound = mf.problems.get(name).bound_energy
    if name == "ultra-fast-diffusion":
        assert bound.capabilities == {"mesh", "curvature"}
        return
    if name == "two-player-game":
        assert bound.capabilities == {"mesh", "points"}
        return
    assert bound.capabilities == (FORMS - {"response"} if bound.direct else FORMS)
    assert bound.interacts == (bound.direct or bound.response_size > 0)
    assert has_points(bound)
    for who in ("points", "mesh"):
        require_capability(bound, who, "a test")


# ---------------------------------------------------------------------------------------------------------------------
# energies of one's own, on a mesh
# ---------------------------------------------------------------------------------------------------------------------


def test_a_sum_has_what_all_parts_have():
    bound = (PorousMedium() + mf.Confinement(x=1.0)).bind(LINE)
    assert bound.capabilities == {"mesh"}
    assert bound.label == "PorousMedium + Confinement(x=1)"
    assert bound.lyapunov
    assert bound.convex
    assert not bound.quadratic
    mu = np.random.default_rng(1).random(30)
    V, energy, response = bound.on(mf.Grid(LINE, (30,))).evaluate(mu)
    x, h = mf.Grid(LINE, (30,)).centres(0), 4.0 / 30
    np.testing.assert_allclose(V, 2.0 * mu + x**2 / 2, rtol=1e-14)
    assert energy == pytest.approx(h * (mu**2 + mu * x**2 / 2).sum(), rel=1e-14)
    assert response.shape == (0,)


def own(evaluate, **stated):
    return type("Own", (mf.energy.MeshEnergy,), {"evaluate": lambda self, mu, grid: evaluate(mu, grid), **stated})()


def energy_of(mu, grid):
    return float((mu**2).sum() * grid.cell_volume)


def cubic(mu, grid):
    return 3 * mu**2, float((mu**3).sum() * grid.cell_volume)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (
            own(lambda mu, grid: (mu, energy_of(mu, grid))),
            "Own.evaluate, V = .* the potential is not the first variation of the energy",
        ),
        (own(lambda mu, grid: (2.002 * mu, energy_of(mu, grid))), "where int V dh is"),
        (
            own(lambda mu, grid: (2 * mu * grid.cell_volume, energy_of(mu, grid))),
            r"V = \(dE/dmu_i\) / grid.cell_volume",
        ),
        (own(lambda mu, grid: 2 * mu), r"must return \(V, energy\), not an array of shape \(40,\)"),
        (own(lambda mu, grid: (mu[:-1], 1.0)), r"V of the mesh's shape \(40,\) and a number, not of shapes \(39,\)"),
        (own(lambda mu, grid: (mu, mu)), r"not of shapes \(40,\) and \(40,\)"),
        (own(lambda mu, grid: (mu, 1.0), convex="yes"), "Own.convex must be True or False or None, not 'yes'"),
        (own(lambda mu, grid: (mu, 1.0), lyapunov=None), "Own.lyapunov must be True or False, not None"),
        (own(lambda mu, grid: (mu, 1.0), lyapunov=False, convex=True), "lyapunov = False says there is none"),
        (own(lambda mu, grid: (np.multiply(mu, 2, out=mu), energy_of(mu, grid))), "read-only"),
        (own(lambda mu, grid: (2j * mu, 1.0)), "must return real numbers: V of type complex128"),
        (own(lambda mu, grid: (2 * mu, None)), "and the energy None are not"),
        (own(lambda mu, grid: (2 * mu, "3")), "and the energy '3' are not"),
        (own(cubic, quadratic=True), "Own says quadratic = True, and its potential is not affine in the measure"),
        (own(cubic, quadratic=True, lyapunov=False), "says quadratic = True"),
        (
            own(lambda mu, grid: (-2 * mu, -energy_of(mu, grid)), convex=True),
            "says convex = True, and its potential fa",
        ),
        (
            own(cubic, second_variation=lambda self, mu, h, grid: 3 * mu * h),
            "second_variation is not the derivative of V",
        ),
        (own(cubic, second_variation=lambda self, mu, h, grid: h[1:]), r"the mesh's shape \(40,\), not \(39,\)"),
    ],
)
def test_what_is_wrong_is_said_when_it_is_put_on_a_mesh(energy, message):
    with pytest.raises(ValueError, match=message):
        mf.Solver(problem_of(energy), 40)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (None, "Own.energy must return real numbers, not None"),
        (1j, "Own.energy must return real numbers, not 1j"),
        (np.ones(1), r"Own.energy must return shape \(\) here, not \(1,\)"),
    ],
)
def test_an_energy_at_points_is_a_number(energy, message):
    made = {"potential": lambda self, points, others, weights: 0 * weights, "energy": lambda self, *measure: energy}
    with pytest.raises(ValueError, match=message):
        type("Own", (mf.energy.PointEnergy,), made)().bind(LINE)
    made["potential"] = lambda self, points, others, weights: 1j * weights
    with pytest.raises(ValueError, match=r"Own.potential must return real numbers, not an array of shape"):
        type("Own", (mf.energy.PointEnergy,), made)().bind(LINE)


def test_what_is_right_is_accepted_as_it_is_said():
    """Comparisons of numbers of NumPy are no bool of Python; a second variation may be that of a curved energy."""
    energy = own(cubic, convex=np.float64(3.0) > 1, second_variation=lambda self, mu, h, grid: 6 * mu * h)
    bound = energy.bind(LINE)
    assert bound.convex is True
    assert convex_on(bound, mf.Grid(LINE, (40,)), free_mass=True)


def test_an_energy_without_values_below_zero_runs():
    """``E = int mu (log mu - 1)`` has none: where curvature is looked for, nothing is known."""

    def entropy(mu, grid):
        V = np.log(mu)
        return V, float((mu * (V - 1)).sum() * grid.cell_volume)

    solution = mf.solve(problem_of(own(entropy), initial=mf.Product(x=stats.norm(0.3, 0.3))), 40, 0.01, save=2, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert "not known to be convex" in solution.no_certificate


@pytest.mark.parametrize(
    ("stated", "message"),
    [({"quadratic": True}, "its potential is not affine"), ({"convex": True}, "its potential falls")],
)
def test_what_is_said_of_an_energy_at_points_is_looked_at(stated, message):
    """``E = -(int x^2 dmu)^3 / 3`` is neither quadratic nor convex."""

    def potential(self, points, others, weights):
        return -(((others[:, 0] ** 2) @ weights) ** 2) * points[:, 0] ** 2

    def energy(self, others, weights):
        return -(((others[:, 0] ** 2) @ weights) ** 3) / 3

    kind = type("Own", (mf.energy.PointEnergy,), {"potential": potential, "energy": energy} | stated)
    with pytest.raises(ValueError, match=message):
        kind().bind(LINE)


def test_the_check_of_the_first_variation_takes_a_handful_of_evaluations():
    seen = []

    def evaluate(mu, grid):
        seen.append(grid.shape)
        return 2 * mu, energy_of(mu, grid)

    bound = own(evaluate).bind(LINE)
    assert seen == []
    bound.on(mf.Grid(LINE, (40,)))
    assert len(seen) <= 6


class Barenblatt:
    """The source-type solution of ``d_t u = (u^2)_xx`` on the line, of mass 1.

    Vazquez, The Porous Medium Equation, Oxford 2007, section 4.4.2: ``u = t^-a (C - k |x|^2 t^-2b)_+^(1/(m-1))`` with
    ``a = d / (d (m-1) + 2)``, ``b = a / d`` and ``k = a (m-1) / (2 m d)``. For d = 1 and m = 2 that is a = b = 1/3,
    k = 1/12. With ``r = sqrt(12 C)`` its mass ``int (C - y^2/12)_+ dy = 4 C r / 3`` is 1 for
    ``C^(3/2) = 3 / (4 sqrt 12)``, and ``E = int u^2 = t^-1/3 int (C - y^2/12)_+^2 dy = t^-1/3 16 C^2 r / 15``.
    """

    C = (3.0 / (4.0 * math.sqrt(12.0))) ** (2.0 / 3.0)
    r = math.sqrt(12.0 * C)

    def averages(self, grid, t):
        """Over the cells: differences of ``C y - y^3 / 36`` at their faces, ``y = x t^-1/3`` cut off at ``+-r``."""
        faces = np.linspace(grid.axes[0].lower, grid.axes[0].upper, grid.shape[0] + 1)
        y = np.clip(faces * t ** (-1.0 / 3.0), -self.r, self.r)
        return np.diff(self.C * y - y**3 / 36.0) / grid.cell_volume

    def energy(self, t):
        return t ** (-1.0 / 3.0) * 16.0 * self.C**2 * self.r / 15.0


@pytest.mark.parametrize("scheme", [mf.Weno5(), *map(mf.Muscl, mf.Limiter)], ids=name_of)
def test_porous_medium_against_barenblatt(scheme):
    """From t = 1 to 2 the support grows from +-2.08 to +-2.62, in a box to +-3: 1e-4 of the mass in L1 on 400 cells.

    Measured are 3.6e-6 (Weno5, van Leer), 4.1e-6 (MC) and 1.7e-5 (minmod); the front is a kink, so all are of second
    order. The steps, 4500 to 6900, are bound by the diffusion that is hidden in V, which only `ErrorControl` sees.
    """
    exact = Barenblatt()
    problem = mf.Problem(PorousMedium(), [mf.Axis("x", -3, 3)], mf.Dirac(x=0.0), t_end=1.0)
    grid = problem.grid(400)
    solution = mf.solve(problem, 400, scheme=scheme, initial=exact.averages(grid, 1.0), save=2, **QUIET)
    error = np.abs(solution.density[-1] - exact.averages(grid, 2.0)).sum() * grid.cell_volume
    assert error <= 1e-4
    assert solution.stats["mass_drift"] < 1e-13
    assert solution.energy[-1] == pytest.approx(exact.energy(2.0), rel=1e-4)
    assert np.all(np.diff(solution.diagnostics["energy"]) < 0)


@pytest.mark.parametrize("m", [1.5, 2.0, 3.0])
def test_the_energy_falls_and_is_certified(m):
    solution = mf.solve(problem_of(PorousMedium(m) + mf.Confinement(x=1.0)), 50, 0.2, **QUIET)
    energy, gap = solution.diagnostics["energy"], solution.diagnostics["optimality_gap"]
    assert np.all(np.diff(energy) < 0)
    assert np.all(gap > 0)
    assert solution.no_certificate == ""


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_the_minimiser_of_a_confined_porous_medium(temperature):
    """``2 mu + x^2/2 + tau log mu`` is one number where mu > 0: at tau = 0, ``mu = (c - x^2/2)_+ / 2`` with mass 1."""
    problem = problem_of(PorousMedium() + mf.Confinement(x=1.0), temperature=temperature)
    state = mf.stationary(problem, 40)
    assert state.converged
    assert state.convex
    x, h = state.grid.centres(0), state.grid.cell_volume
    if temperature:
        level = 2 * state.mu + x**2 / 2 + temperature * state.log_mu
        np.testing.assert_allclose(level, level[20], atol=1e-6)
        return
    levels = np.linspace(0.5, 2.0, 400_001)  # the mass is piecewise linear in c, and increasing
    order = np.sort(x**2 / 2)
    below = np.searchsorted(order, levels)
    mass = h / 2 * (levels * below - np.concatenate([[0.0], np.cumsum(order)])[below])
    c = np.interp(1.0, mass, levels)
    np.testing.assert_allclose(state.mu, np.maximum(c - x**2 / 2, 0.0) / 2, atol=1e-5)


def test_meshes_of_any_dimension_and_reactions():
    axes = [mf.Axis("x", -1, 1), mf.Axis("y", -1, 1)]
    initial = mf.Product(x=stats.uniform(-0.3, 0.6), y=stats.uniform(-0.3, 0.6))
    problem = mf.Problem(PorousMedium(), axes, initial, alpha=1.0, t_end=0.005)
    solution = mf.solve(problem, (16, 12), **QUIET)
    assert np.all(np.diff(solution.diagnostics["energy"]) < 0)


def test_a_mesh_energy_is_known_by_its_values():
    one = problem_of(PorousMedium(2.0)).fingerprint()
    assert one == problem_of(PorousMedium(2.0)).fingerprint()
    assert one != problem_of(PorousMedium(3.0)).fingerprint()
    # a class that is zero at points had the same fingerprint whatever it was on a mesh
    assert problem_of(OnMesh(Zero)).fingerprint() == problem_of(OnMesh(Bare)).fingerprint()
    assert not has_points(OnMesh(Zero).bind(LINE))


def test_a_mesh_that_an_energy_does_not_know():
    made_for = own(lambda mu, grid: (mu * np.ones(40), float(mu.sum())), lyapunov=False).bind(LINE)
    assert plan_on(made_for, mf.Grid(LINE, (40,))) is not None
    assert plan_on(made_for, mf.Grid(LINE, (30,))) is None


def test_an_outlook_of_a_mesh_energy():
    """What scheme is taken with a temperature is judged from its values on a mesh."""
    solver = mf.Solver(problem_of(PorousMedium() + mf.Confinement(x=1.0), temperature=0.2), 40)
    assert "resolve layers" in repr(solver)


# ---------------------------------------------------------------------------------------------------------------------
# potentials that belong to no energy
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rising(mf.energy.MeshEnergy):
    """The well's potential with an energy that is something else, and rises."""

    value: float = -1.0
    lyapunov = False

    def evaluate(self, mu, grid):
        x = grid.centres(0)
        return x**2 / 2, self.value * float((mu * x**2).sum()) * grid.cell_volume


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_a_potential_without_an_energy(value, tmp_path):
    """It may rise or be NaN, without a warning and without a certificate; the flow is that of the well all the same."""
    problem = problem_of(Rising(value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = mf.solve(problem, 40, 0.1, **QUIET)
    assert solution.result is mf.Result.SUCCESS
    assert np.all(np.isnan(solution.diagnostics["optimality_gap"]))
    assert solution.no_certificate == "no certificate: the potential is not said to be the first variation of an energy"
    well = mf.solve(problem_of(mf.Confinement(x=1.0)), 40, 0.1, **QUIET)
    np.testing.assert_allclose(solution.density[-1], well.density[-1], atol=1e-12)
    if value == -1.0:
        assert solution.energy[-1] > solution.energy[0]
    solution.save(tmp_path / "run.h5")
    assert mf.verify(tmp_path / "run.h5", problem=problem).ok
    assert "nan" in str(solution) or value == -1.0


def test_where_nothing_is_minimised():
    problem = problem_of(Rising())
    with pytest.raises(ValueError, match="Rising is a potential that is not the first variation of an energy"):
        mf.stationary(problem, 40)
    with pytest.raises(
        ValueError, match=r"GapBelow.*not said to be the first variation of an energy; use SteadyState$"
    ):
        mf.solve(problem, 40, stop=mf.GapBelow(1e-3), **QUIET)
    both = PorousMedium() + Rising()
    assert not both.lyapunov
    assert not both.bind(LINE).lyapunov
    assert convex_on(both.bind(LINE), mf.Grid(LINE, (20,)), free_mass=False) is None


# ---------------------------------------------------------------------------------------------------------------------
# energies of one's own, at points
# ---------------------------------------------------------------------------------------------------------------------


def kernel(p, q):
    return np.exp(-0.5 * (p[:, None, 0] - q[None, :, 0]) ** 2)


@dataclass(frozen=True)
class Pairs(mf.energy.PointEnergy):
    """Half the double sum of a Gaussian."""

    factor: float = 1.0
    quadratic = True

    def potential(self, points, others, weights):
        return kernel(points, others) @ weights

    def energy(self, others, weights):
        return self.factor * 0.5 * weights @ kernel(others, others) @ weights


class SlopedPairs(Pairs):
    """With its gradient."""

    sign = -1.0

    def gradient(self, points, others, weights):
        distance = points[:, None, 0] - others[None, :, 0]
        return (self.sign * distance * kernel(points, others) @ weights)[:, None]


@pytest.mark.parametrize("pairs", [Pairs(), SlopedPairs()], ids=["differences", "gradient"])
def test_an_energy_at_points_is_everywhere(pairs):
    """The pair kernel of the package is the oracle: on a mesh, for particles, along characteristics, for convexity."""
    own, known = pairs + mf.Confinement(x=0.5), mf.Interaction(mf.PairKernel(kernel)) + mf.Confinement(x=0.5)
    bound = own.bind(LINE)
    assert bound.capabilities == FORMS - {"response"}
    grid = mf.Grid(LINE, (30,))
    mu = np.random.default_rng(2).random(30)
    for a, b in zip(bound.on(grid).evaluate(mu), known.bind(LINE).on(grid).evaluate(mu), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert convex_on(bound, grid, free_mass=True) is True
    one, other = problem_of(own), problem_of(known)
    for run in (simulated, lambda problem: mf.characteristics(problem, 0.1, save=2, **QUIET)):
        np.testing.assert_allclose(run(one).energy, run(other).energy, rtol=1e-9)
    assert one.fingerprint() == other.fingerprint()


class Chase(mf.energy.PointEnergy):
    """A drift towards a place ahead of the others, ``dx/dt = mean + 1/2 - x``: the mean moves at 1/2."""

    lyapunov = False

    def potential(self, points, others, weights):
        return 0.5 * (points[:, None, 0] - others[None, :, 0] - 0.5) ** 2 @ weights

    def energy(self, others, weights):
        return np.nan


def test_a_potential_at_points_without_an_energy():
    problem = problem_of(Chase())
    cloud = mf.particles.simulate(problem, 50, dt=0.02, t_end=0.4, **QUIET)
    means = cloud.positions[0].mean(axis=(1, 2))
    np.testing.assert_allclose(means - means[0], 0.5 * cloud.times, atol=1e-12)
    assert np.all(np.isnan(cloud.energy))
    solution = mf.solve(problem, 100, 0.4, **QUIET)
    x, h = solution.grid.centres(0), solution.grid.cell_volume
    np.testing.assert_allclose(solution.density @ x * h - solution.density[0] @ x * h, 0.5 * solution.times, atol=1e-4)


class TestFunctional:
    """The same motions as those of classes, from functions."""

    def chase(self, points, others, weights):
        return 0.5 * (points[:, None, 0] - others[None, :, 0] - 0.5) ** 2 @ weights

    def test_without_an_energy(self):
        one, other = problem_of(mf.Functional(self.chase)), problem_of(Chase())
        assert one.energy.lyapunov is False
        for run in (lambda p: mf.solve(p, 40, 0.1, save=2, **QUIET), lambda p: mf.characteristics(p, 0.1, **QUIET)):
            found, wanted = run(one), run(other)
            np.testing.assert_array_equal(found.moment("x"), wanted.moment("x"))
        assert "not said to be the first variation of an energy" in str(mf.solve(one, 40, 0.1, **QUIET))

    def test_with_an_energy_and_a_gradient(self):
        def potential(points, others, weights):
            return points[:, 0] * (weights @ others[:, 0])

        def value(others, weights):
            return 0.5 * (weights @ others[:, 0]) ** 2

        def gradient(points, others, weights):
            return np.full(points.shape, weights @ others[:, 0])

        given = problem_of(mf.Functional(potential, value, gradient))
        shipped = problem_of(mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel())))
        one, other = (mf.solve(problem, 40, 0.2, save=2, **QUIET) for problem in (given, shipped))
        np.testing.assert_allclose(one.density, other.density, rtol=1e-9)
        np.testing.assert_allclose(one.energy, other.energy, rtol=1e-12)

    def test_refusals(self):
        with pytest.raises(ValueError, match="the potential of a Functional"):
            mf.Functional(3.0)
        wrong = mf.Functional(self.chase, gradient=lambda points, others, weights: 0.0 * points)
        with pytest.raises(ValueError, match="the derivative along x is"):
            wrong.bind(LINE)
        with pytest.raises(ValueError, match="not the first variation of the energy"):
            mf.Functional(self.chase, lambda others, weights: 0.0).bind(LINE)


def test_an_energy_that_is_no_number_is_nowhere_taken_for_one():
    """It neither stands still nor differs from itself; what is judged by it says so."""
    problem = problem_of(Chase())
    solution = mf.solve(problem, 40, 0.1, save=2, **QUIET)
    assert np.isnan(solution.stats["energy_increase"])
    assert "energy increase" not in str(solution)
    assert "regret" in str(solution)
    arguments = {"sizes": [50, 100], "replicas": 2, "dt": 0.05, **QUIET}
    found = mf.compare(solution, sensitivities=False, **arguments)
    assert "energy" not in found.findings
    assert found.verdict is not mf.Verdict.INCONSISTENT
    assert "the energy of the reference is not finite (lyapunov = False): it is not compared" in found.notes
    with pytest.raises(ValueError, match="none of energy exists for this problem and reference"):
        mf.compare(solution, quantities=[mf.Quantity.ENERGY], **arguments)
    with pytest.raises(
        ValueError, match=r"energy is not finite .* it is watched besides what is asked for: give a number"
    ):
        mf.reference(problem, 1e-2, [mf.Moment("x", 1, 0.05)], budget=10, progress=False)
    exact = mf.characteristics(problem, 0.1, tolerance=1e-6, **QUIET)
    assert exact.converged
    assert np.isnan(exact.energy).all()
    assert np.isnan(exact.energy_error).all()
    np.testing.assert_allclose(exact.moment("x") - exact.moment("x", t=0.0), 0.05, atol=1e-8)  # at half the distance


def test_records_of_particles_without_an_energy():
    """Moments are measured all the same; the energy is refused by name."""
    recorder = mf.testing.ParticleRecorder(problem_of(PorousMedium()))
    recorder.record(0.0, np.full((4, 1), 0.5))
    np.testing.assert_allclose(recorder.values(mf.Moment("x", 1)), 0.5)
    with pytest.raises(ValueError, match="energy: PorousMedium has values on a mesh only; compare moments, outputs"):
        recorder.values("energy")


def test_wrong_energies_at_points():
    with pytest.raises(ValueError, match="Pairs: the potential is not the first variation of the energy"):
        Pairs(2.0).bind(LINE)
    wrong = type("Wrong", (SlopedPairs,), {"sign": 1.0})
    with pytest.raises(ValueError, match="Wrong: the derivative along x is"):
        wrong().bind(LINE)
    short = type("Short", (Pairs,), {"lyapunov": False, "potential": lambda self, points, others, weights: weights[1:]})
    with pytest.raises(ValueError, match=r"Short.potential must return shape \(12,\) here, not \(11,\)"):
        mf.solve(problem_of(short()), 40, **QUIET)


# ---------------------------------------------------------------------------------------------------------------------
# second variations
# ---------------------------------------------------------------------------------------------------------------------


class Cosh(mf.energy.Loss):
    """Without a second derivative of its own."""

    def value(self, u):
        return float(np.cosh(u).sum())

    def gradient(self, u):
        return np.sinh(u)


class CurvedCosh(Cosh):
    factor = 1.0

    def curvature(self, u):
        return self.factor * np.cosh(u)


class FullCosh(Cosh):
    def curvature(self, u):
        return np.diag(np.cosh(u))


class Flatter(mf.SquaredLoss):
    """Another gradient than the class whose second derivative it inherits."""

    def value(self, u):
        return float(np.sum(np.log(np.cosh(u - self.targets))))

    def gradient(self, u):
        return np.tanh(u - self.targets)


def bumps(x):
    return np.stack([np.exp(-((x - c) ** 2)) for c in (-1.0, 0.2, 1.1)])


def network(loss, outputs, tolerance):
    x = np.linspace(-1, 1, 30)
    y = np.sign(np.sin(3 * x + 0.1))
    names, roles = ("c", "a", "b"), ("amplitude", "weight", "bias")
    if outputs == 2:
        y, names, roles = np.stack([y, -y], axis=1), ("c", "e", "a"), ("amplitude", "amplitude", "weight")
    energy = mf.TwoLayerNetwork(x, y, axes=names, roles=roles, loss=loss, tolerance=tolerance)
    return energy, [mf.Axis(name, -2, 2) for name in names]


CURVED = {
    "Gaussian": (mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.5)), weight=-2.0), LINE),
    "discrepancy": (mf.Discrepancy(mf.SeparableKernel(x=mf.GaussianKernel(0.5)), [[0.5]], [1.0]), LINE),
    "pairs": (mf.Interaction(mf.PairKernel(kernel), weight=0.3), LINE),
    "cosh": (mf.Features(bumps, CurvedCosh()), LINE),
    "cosh, full": (mf.Features(bumps, FullCosh()), LINE),
    "porous medium": (replace(PorousMedium(), convex=None), LINE),
    **{
        f"{loss}, {outputs}, {tolerance}": network(loss, outputs, tolerance)
        for loss in ("squared", "logistic", mf.HuberLoss)
        for outputs in (1, 2)
        for tolerance in (0.0, 1e-9)
    },
}


@pytest.mark.parametrize("case", CURVED)
def test_second_variations_are_derivatives(case):
    """Central differences of slope and potential are the oracle; Huber's kinks lie on none of these paths."""
    energy, axes = CURVED[case]
    bound = (energy + mf.Confinement({axes[0].name: 0.1})).bind(axes)
    rng = np.random.default_rng(5)
    grid = mf.Grid(axes, (11, 6, 5)[: len(axes)])
    plan, mu, h = bound.on(grid), rng.random(grid.shape), rng.standard_normal(grid.shape)
    closed = plan.curvature(mu)
    if case == "porous medium":
        assert closed is None
        assert "curvature" not in bound.capabilities
        return
    assert "curvature" in bound.capabilities
    # so small that no output passes a kink of Huber's loss, where it does not lie on one
    step = 1e-6 if "Huber" in case else 1e-3
    found = difference_along(lambda s: plan.evaluate(mu + s * h)[0], step)
    np.testing.assert_allclose(closed(h), found, atol=1e-8 * np.abs(found).max())
    if "response" in bound.capabilities:
        u = bound.response(rng.uniform(-2, 2, (7, len(axes))), np.full(7, 1 / 7))
        rows = [difference_along(lambda s, e=e: bound.slope(u + s * e), step) for e in np.eye(len(u))]
        np.testing.assert_allclose(bound.curvature(u), np.array(rows), atol=1e-8 * np.abs(rows).max())


def test_differences_are_left_where_a_loss_has_no_second_derivative():
    bound = mf.Features(bumps, Cosh()).bind(LINE)
    assert "curvature" not in bound.capabilities
    u = np.array([0.2, -0.4, 1.0])
    np.testing.assert_allclose(bound.curvature(u), np.diag(np.cosh(u)), atol=1e-10)
    assert bound.on(mf.Grid(LINE, (9,))).curvature(np.ones(9)) is None


def test_a_second_derivative_that_is_not_that_of_the_gradient_is_not_taken():
    """Neither one that is inherited from another loss, nor one that is wrong."""
    bound = mf.Features(bumps, Flatter([0.0, 0.1, 0.2])).bind(LINE)
    assert not bound.quadratic
    u = np.array([0.2, -0.4, 1.0])
    np.testing.assert_allclose(bound.curvature(u), np.diag(np.cosh(u - [0.0, 0.1, 0.2]) ** -2.0), atol=1e-10)
    doubled = type("Doubled", (CurvedCosh,), {"factor": 2.0})
    with pytest.raises(ValueError, match="the curvature of Doubled, along a line s of responses: the derivative"):
        mf.Features(bumps, doubled()).bind(LINE)
    shapeless = type("Shapeless", (Cosh,), {"curvature": lambda self, u: np.float64(1.0)})
    with pytest.raises(
        ValueError, match=r"Shapeless: the curvature at a response of shape \(3,\) must have that shape"
    ):
        mf.Features(bumps, shapeless()).bind(LINE)


@pytest.mark.parametrize(("sign", "convex"), [(1.0, True), (-1.0, False)])
def test_convexity_of_a_mesh_energy_is_found(sign, convex):
    """``int mu^2`` is convex and its negative is not: by the columns of its second variation."""
    stated = {"quadratic": True}
    energy = own(lambda mu, grid: (2 * sign * mu, sign * energy_of(mu, grid)), **stated) + mf.Confinement(x=1.0)
    grid = mf.Grid(LINE, (40,))
    assert convex_on(energy.bind(LINE), grid, free_mass=False) is convex
    assert (
        own(lambda mu, grid: (2 * sign * mu, sign * energy_of(mu, grid))).bind(LINE).on(grid).curvature(mu=None) is None
    )


def test_fluctuations_by_the_energy_s_own_second_derivative():
    """A loss with and without its second derivative: the same limit, to what the differences are good for."""
    results = []
    for loss in (Cosh(), CurvedCosh()):
        problem = problem_of(mf.Features(bumps, loss))
        results.append(mf.fluctuations(problem, 0.2, save=2, tolerance=1e-3, **QUIET))
    assert results[0].gap == pytest.approx(results[1].gap, rel=1e-8)
