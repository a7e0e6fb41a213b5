"""What comparisons name: limits, errors that would have been seen, what the gaps look like, what would decide.

Seeds are fixed. The codes are those of ``validation/particle_codes.py``, which counts verdicts over hundreds of runs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde import ParticleRecord, Verdict
from mfpde.mesh.schemes import Limiter
from mfpde.verification.comparison.diagnosis import Fit, VisibleError, in_words
from mfpde.verification.comparison.mean_field import energy_scale, least_energy_is_zero
from mfpde.verification.comparison.sensitivity import STEP, Fault, OnCells, OnNodes, Sensitivities, _widened, changed
from mfpde.verification.comparison.statistics import Rules, _Data, _judge
from mfpde.verification.estimates import MARGIN, combine
from validation.particle_codes import DOUBLED, RIGHT, Code, Langevin, compared


@pytest.fixture(scope="module")
def right():
    return compared(RIGHT[0], 1, [7])[0]


@pytest.fixture(scope="module")
def wells():
    """A quadratic well without birth-death: the mean is m_0 exp(-k t), and so is every distance from it."""
    problem = mf.problems.quadratic_well(alpha=0.0)
    return problem, mf.solve(problem, (200,), 1.0, save=[0.5, 1.0], progress=False)


def normal(law: mf.Product) -> mf.Problem:
    return mf.Problem(mf.Confinement(x=1.0), [mf.Axis("x", -6, 6)], law)


# ----- slopes


def judged(gaps, draws=None, *, signed=True, control=None, sizes=(50, 200, 800), tolerance=1e-3):
    rng = np.random.default_rng(6)
    sizes = np.array(sizes, dtype=float)
    draws = [np.abs(rng.normal(size=(64, 1))) / math.sqrt(n) for n in sizes] if draws is None else draws
    gaps = [np.asarray(g, dtype=float)[:, None] for g in gaps]
    control = gaps[-1] if control is None else np.asarray(control)[:, None]
    data = _Data(sizes, gaps, draws, control, 2.0, 1.0)
    return _judge(data, signed, 1.0, np.zeros(1), Rules(tolerance, 4.0, False), at_start=False)


def falling(power, replicas, sizes=(50, 200, 800), seed=3):
    """Gaps of mean 0 whose variance falls like ``n^power``."""
    rng = np.random.default_rng(seed)
    return [0.3 * (n / sizes[0]) ** (power / 2) * rng.normal(size=replicas) for n in sizes]


def test_a_fall_that_excludes_the_law_of_large_numbers_is_inconsistent():
    found = judged(falling(-0.3, 64))
    assert found.verdict is Verdict.INCONSISTENT
    assert found.slope_z > 4.0
    assert "more slowly than 1/n" in found.reason
    # at a lower level only it is undecided: a weaker case with fewer replicas
    fewer = judged(falling(-0.4, 28))
    assert 3.0 < fewer.slope_z < 4.0
    assert fewer.verdict is Verdict.UNDECIDED
    assert "by chance or not: add replicas" in fewer.reason
    assert judged(falling(-1.0, 64)).verdict is Verdict.CONSISTENT


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("replicas", "control"),
    [
        ((2, 2), 2),
        ((2, 2, 2), None),
        ((3, 3, 3), 3),
        ((4, 4, 4), 4),
        ((32, 32, 2), 2),
        ((32, 32, 2), None),
        ((32, 32, 4), 4),
        ((32, 32, 32), 2),
        ((32, 8, 2), None),
        ((32, 8, 2), 2),
    ],
)
def test_a_right_code_of_few_replicas_is_never_inconsistent(replicas, control, signed):
    """Normal gaps of variance 1/n: at a score of 4 one in 30 000 tests may fail, here are 1200 comparisons or so.

    Of two replicas both centred squares are the same number, which is no error bar for a variance.
    """
    rng = np.random.default_rng(0)
    sizes, sign = np.array([50.0, 200.0, 800.0][: len(replicas)]), (lambda g: g) if signed else np.abs

    def normal_gaps(count, n):
        return sign(rng.normal(size=(count, 3 if signed else 1)) / math.sqrt(n))

    for _ in range(60):
        gaps = [normal_gaps(count, n) for count, n in zip(replicas, sizes, strict=True)]
        draws = [np.abs(rng.normal(size=(64, 1))) / math.sqrt(n) for n in sizes]
        other = None if control is None else normal_gaps(control, sizes[-1])
        found = _judge(
            _Data(sizes, gaps, draws, other, 2.0, 1.0), signed, 1.0, np.zeros(3), Rules(1e-3, 4.0, False), False
        )
        assert found.verdict is not Verdict.INCONSISTENT, found.reason
        if max(replicas) < 4:
            assert math.isnan(found.slope_z)
            assert found.verdict is Verdict.UNDECIDED


def test_few_replicas_are_told_how_many_it_takes(wells):
    """A control run is of as many replicas as the others."""
    _, solution = wells
    found = mf.compare(solution, sizes=[50, 200], replicas=2, dt=0.05, quantities=[mf.Quantity.MOMENTS], progress=False)
    assert found.verdict is Verdict.UNDECIDED
    assert "how fast gaps fall with n needs 4 replicas of every size and of the control run" in str(found)
    assert found.plan().replicas >= 4


def test_small_sizes_may_fall_slowly_if_the_large_ones_do_not():
    """The law of large numbers need not hold yet at the smallest size: the two largest have to say so as well."""
    rng = np.random.default_rng(5)
    spread = {50: 0.1, 200: 0.1, 800: 0.05}
    found = judged([spread[n] * rng.normal(size=128) for n in spread])
    assert found.slope_z > 4.0
    assert found.verdict is not Verdict.INCONSISTENT


def test_distances_fall_as_those_of_independent_draws_do():
    """Squared distances like n^{-1/2}, in two ways: draws do the same, or fall like 1/n."""
    rng = np.random.default_rng(1)
    sizes = (50, 200, 800)
    gaps = [np.sqrt(n**-0.5 * rng.chisquare(4, 64) / 4) for n in sizes]
    same = [np.sqrt(n**-0.5 * rng.chisquare(4, (64, 1)) / 4) for n in sizes]
    assert judged(gaps, same, signed=False).verdict is Verdict.CONSISTENT
    faster = [np.sqrt(n**-1.0 * rng.chisquare(4, (64, 1)) / 4) for n in sizes]
    found = judged(gaps, faster, signed=False)
    assert found.verdict is Verdict.INCONSISTENT
    assert found.slope_z > 4.0


def test_a_bias_of_the_step_is_no_slow_fall():
    """It stays as n grows, the control run measures it, and it is taken off before the fall is judged."""
    rng = np.random.default_rng(2)
    noise = [rng.normal(size=64) / math.sqrt(n) for n in (50, 200, 800)]
    biased = [0.1 + g for g in noise]
    assert judged(biased, control=0.2 + noise[-1]).slope_z < 3.0
    assert judged(biased).slope_z > 4.0  # a control run of the same bias: it is not of the step


def test_common_random_numbers_halve_the_error_that_the_control_run_costs():
    """``2 g - c`` has five times the variance of g if the control run is independent, the same with common numbers."""
    rng = np.random.default_rng(4)
    gaps = [rng.normal(size=200) / math.sqrt(n) for n in (50, 800)]
    other = rng.normal(size=200) / math.sqrt(800)
    coupled, apart = (judged(gaps, control=0.01 + c, sizes=(50, 800)).error[0] for c in (gaps[-1], other))
    # the line through 50 and 800 takes 16/15 of the last mean and -1/15 of the first
    last, first = 1 / 800, 1 / 50
    assert coupled == pytest.approx(math.sqrt((16**2 * last + first) / 15**2 / 200), rel=0.15)
    assert apart == pytest.approx(math.sqrt(((31 / 15) ** 2 + 1) * last / 200 + first / 15**2 / 200), rel=0.15)


def test_visible_gaps_are_seen():
    """Of gaps as large as `visible`, MARGIN standard errors above what is significant, none in 2000 is overlooked."""
    rng = np.random.default_rng(0)
    threshold, seen = 3.5, 0
    for _ in range(2000):
        y = rng.normal(size=24)
        visible = combine([y], 0.0).beyond(threshold)
        seen += combine([y + visible], 0.0).z(0.0) > threshold
    # the error is estimated as well: normal tails at 3 of 24 replicas
    assert seen >= 2000 * (1 - 5 * stats.t.sf(MARGIN, 23))


# ----- limits


def test_a_consistent_comparison_names_its_limit(right):
    assert right.verdict is Verdict.CONSISTENT
    energy = right["energy"]
    # two standard errors above what is found, and the reference's uncertainty
    size = np.sqrt(np.maximum(energy.limit**2 - energy.limit_error**2, 0))
    unseen = (size + 2 * energy.limit_error + energy.uncertainty)[:, 0]
    assert energy.unseen == pytest.approx(unseen, rel=1e-12)
    limit = right.limit
    assert limit.value == energy.unseen.max()
    assert (limit.observable, limit.of) == ("energy", "E")
    assert limit.share == pytest.approx(np.max(energy.unseen / right.energy_scale))
    first = str(right).splitlines()[0]
    assert first.endswith(f"consistent to {limit.value:.2g} ({100 * limit.share:.2g} % of E)")
    for part in (
        first.split(": ")[1],
        "a time scale off by more than",
        "an interaction off by",
        "would have been seen",
    ):
        assert part in right.headline


def test_energies_are_fractions_of_themselves_where_their_minimum_is_zero():
    problem = mf.problems.gaussian_bumps()
    assert least_energy_is_zero(problem)
    energy = problem.energy
    for weights, zero in (([0.6, 0.4], True), ([0.6, 0.5], False), ([1.2, -0.2], False)):
        other = mf.Discrepancy(energy.kernel, energy.points, np.array(weights))
        assert least_energy_is_zero(dataclasses.replace(problem, energy=other, parameters=None)) is zero
    outside = mf.Discrepancy(energy.kernel, np.array([[-7.0], [1.0]]), np.array([0.6, 0.4]))
    assert not least_energy_is_zero(dataclasses.replace(problem, energy=outside, parameters=None))
    confined = dataclasses.replace(problem, energy=energy + mf.Confinement(x=0.1), parameters=None)
    assert not least_energy_is_zero(confined)
    assert least_energy_is_zero(dataclasses.replace(confined, exact={"minimum_energy": 0.0}))
    warm = dataclasses.replace(problem, temperature=0.1, exact={"minimum_energy": 0.0}, parameters=None)
    assert not least_energy_is_zero(warm)  # that is the minimum of the free energy


def test_small_energies_are_fractions_of_a_thousandth_of_their_fall(wells):
    problem, solution = wells
    zero = dataclasses.replace(problem, exact={"minimum_energy": 0.0})
    energy = np.array([1.0, 0.5, 1e-9]) * solution.energy[0]
    fall = energy[0] - energy[-1]
    scale, name = energy_scale(mf.ExactLaw(zero, lambda t: None, [0, 0.5, 1]), zero, energy)
    assert scale == pytest.approx([energy[0], energy[1], 1e-3 * fall])
    assert name == "E"
    other = dataclasses.replace(problem, exact={"minimum_energy": -1.0})
    scale, name = energy_scale(mf.ExactLaw(other, lambda t: None, [0, 0.5, 1]), other, energy)
    assert scale == pytest.approx(fall)
    assert name == "the fall of E"


# ----- sensitivities


def test_sensitivities_of_a_well_are_closed_forms(wells):
    """m(t) = m_0 exp(-k t), v(t) = v_0 exp(-2 k t): by log t the mean changes by -k t m, by log width v by 2 v."""
    problem, solution = wells
    at = solution.times
    found = Sensitivities(OnCells(solution, problem, solution.grid.shape, at), [mf.Quantity.MOMENTS], at)
    assert set(found.faults) == {Fault.TIME, Fault.START}
    assert found.left_out == {
        Fault.INTERACTION: "the energy has none",
        Fault.TEMPERATURE: "it is 0",
        Fault.ALPHA: "it is 0",
    }
    mean = np.array([solution.moment("x", 1, t) for t in at])
    square = np.array([solution.moment("x", 2, t) for t in at])
    k = -math.log(mean[-1] / mean[0]) / at[-1]
    # one-sided with a factor of 1.03: 3 % off, and the mesh of 100 cells
    assert found.slopes[Fault.TIME]["mean of x"][:, 0] == pytest.approx(-k * at * mean, rel=0.05, abs=1e-6)
    wider = found.slopes[Fault.START]["mean square of x"][:, 0]
    assert wider == pytest.approx(2 * (square - mean**2), rel=0.05)
    assert found.slopes[Fault.START]["mean of x"][:, 0] == pytest.approx(0, abs=5e-3)


TURN = 0.435
"""A temperature of `warm_well` just below the one where another scheme becomes the default."""


def warm_well(temperature: float) -> mf.Problem:
    law = mf.Product(x=stats.norm(1, 0.5))
    return mf.Problem(mf.Confinement(x=1.0), [mf.Axis("x", -6, 6)], law, temperature=temperature)


@pytest.mark.parametrize(
    ("scheme", "method"),
    [
        (mf.ScharfetterGummel(), mf.ImplicitStrang(convergence=1e-4)),
        (mf.Muscl(Limiter.MINMOD), mf.Strang()),
        (mf.Weno5(tail_ratio=1e5), mf.ExponentialSSPRK3()),
        (None, None),
    ],
    ids=["scharfetter-gummel", "muscl", "weno", "default"],
)
def test_runs_with_something_changed_have_the_scheme_and_method_of_the_reference(scheme, method, monkeypatch):
    """At this temperature the default is Weno5, at STEP times as much ScharfetterGummel: runs apart by their errors."""
    problem, made = warm_well(TURN), []
    solution = mf.solve(problem, (200,), 0.2, save=[0.2], scheme=scheme, method=method, progress=False)
    solve = OnCells.solve
    monkeypatch.setattr(OnCells, "solve", lambda *given: made.append(solve(*given)) or made[-1])
    Sensitivities(OnCells(solution, problem, (200,), solution.times), [mf.Quantity.MOMENTS], solution.times)
    assert len(made) == 4  # the base, its clock, its temperature, its start
    for run in made:
        assert [run.configuration[name] for name in ("scheme", "method")] == [
            solution.configuration[name] for name in ("scheme", "method")
        ]


def test_an_exact_law_has_one_scheme_for_all_changes(monkeypatch):
    """The default of the problem without a change; near this temperature another one is the default."""
    kinds = [type(mf.Solver(warm_well(tau), (100,)).scheme) for tau in (TURN, STEP * TURN)]
    assert kinds == [mf.Weno5, mf.ScharfetterGummel]
    problem, made, at = warm_well(TURN), [], np.array([0.0, 0.2])
    law = mf.ExactLaw(problem, lambda t: problem.initial, at, (200,))
    solve = OnCells.solve
    monkeypatch.setattr(OnCells, "solve", lambda *given: made.append(solve(*given)) or made[-1])
    Sensitivities(OnCells(law, problem, (200,), at), [mf.Quantity.MOMENTS], at)
    assert {run.configuration["scheme"].partition("(")[0] for run in made} == {"Weno5"}


def test_an_interaction_is_stronger_where_the_potential_has_a_response():
    """``V[f mu]``: for a squared loss the potential with f times the output, for an external potential the same."""
    x = np.linspace(-1, 1, 9)
    network = mf.TwoLayerNetwork(x, np.sin(x), axes=("c", "a", "b"))
    axes = [mf.Axis("c", -2, 2), mf.Axis("a", -2, 2), mf.Axis("b", -2, 2)]
    law = mf.Product(c=stats.norm(0, 0.3), a=stats.norm(0, 0.3), b=stats.norm(0, 0.3))
    problem = mf.Problem(network + mf.Confinement(c=0.3), axes, law)
    points = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    w = np.full(30, 1 / 30)
    f = 1.05
    strong = changed(problem, Fault.INTERACTION, f).bound_energy
    output = network.unit(x, *points.T) @ w
    slope = (f * output - np.sin(x)) / len(x)
    expected = slope @ network.unit(x, *points.T) + 0.15 * points[:, 0] ** 2
    assert strong.potential(points, strong.response(points, w)) == pytest.approx(expected, abs=1e-10)
    # the potential is the derivative of the energy
    e, h = np.eye(30)[3], 1e-6
    difference = (strong.energy(points, w + h * e) - strong.energy(points, w - h * e)) / (2 * h)
    assert difference == pytest.approx(expected[3], rel=1e-6)
    grid = mf.Grid(axes, (6, 6, 6))
    mu = law.restrict(axes).cells(grid)
    V, energy, _ = strong.on(grid).evaluate(mu)
    cells, masses = grid.points(), mu.ravel() * grid.cell_volume
    assert V.ravel() == pytest.approx(strong.potential(cells, strong.response(cells, masses)), abs=1e-9)
    assert energy == pytest.approx(strong.energy(cells, masses), abs=1e-10)
    # without a factorisation too
    kernel = mf.PairKernel(lambda p, q: np.exp(-((p - q.T) ** 2)))
    direct = mf.Problem(mf.Interaction(kernel, 2.0), [mf.Axis("x", -6, 6)], mf.Product(x=stats.norm()))
    pair = changed(direct, Fault.INTERACTION, f).bound_energy
    z = points[:, :1]
    matrix = np.exp(-((z - z.T) ** 2))
    assert pair.potential(z, pair.response(z, w)) == pytest.approx(2.0 * f * matrix @ w, abs=1e-12)


def test_schedules_are_multiplied():
    law = mf.Product(x=stats.norm())
    steps = mf.PiecewiseLinear([0.0, 1.0], [1.0, 0.5])
    problem = dataclasses.replace(normal(law), alpha=0.5, temperature=steps, schedule=lambda t: 1.0 / (1.0 + t))
    assert changed(problem, Fault.ALPHA, 1.1).alpha(0.3) == pytest.approx(0.55)
    warm = changed(problem, Fault.TEMPERATURE, 1.1).temperature
    assert isinstance(warm, mf.PiecewiseLinear)
    assert warm(1.0) == pytest.approx(0.55)
    fast = changed(problem, Fault.TIME, 2.0).schedule
    assert fast(1.0) == pytest.approx(1.0)
    assert fast.integral(0.0, 1.0) == pytest.approx(2.0 * math.log(2.0))
    assert problem.schedule(1.0) == pytest.approx(0.5)  # the problem itself is as it was


def test_a_wider_density_has_the_wider_law():
    """N(0.3, 0.8^2) stretched by 1.1 about its mean; the mass stays."""
    grid = mf.Grid([mf.Axis("x", -6, 6)], (120,))
    mu, expected = (mf.Product(x=stats.norm(0.3, s)).restrict(grid.axes).cells(grid) for s in (0.8, 0.88))
    wide = _widened(mu, grid, 1.1)
    assert wide.sum() == pytest.approx(mu.sum(), rel=1e-9)  # 5e-11 are beyond the box
    assert np.abs(wide - expected).max() < 2e-3 * expected.max()
    assert _widened(mu, grid, 1.0) == pytest.approx(mu, abs=1e-13)


def test_nodes_and_cells_give_the_same_sensitivities():
    problem = mf.problems.gaussian_bumps()
    solution = mf.solve(problem, (200,), 1.0, save=[1.0], progress=False)
    exact = mf.characteristics(problem, 1.0, save=[1.0], progress=False)
    chosen = [mf.Quantity.ENERGY, mf.Quantity.MOMENTS]
    pair = [
        Sensitivities(runs, chosen, solution.times)
        for runs in (OnCells(solution, problem, solution.grid.shape, solution.times), OnNodes(exact, exact.times))
    ]
    for fault in (Fault.TIME, Fault.INTERACTION, Fault.ALPHA, Fault.START):
        for name in ("energy", "mean of x", "mean square of x"):
            one, two = (found.slopes[fault][name][-1, 0] for found in pair)
            assert one == pytest.approx(two, rel=0.05, abs=2e-4), (fault, name)


# ----- planted faults


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code("interaction", interaction=1.05), "interaction"),
        (Code("start", start=1.1), "width of the start"),
        (Code("noise", Langevin(), noise=1.15), "temperature"),
    ],
    ids=["interaction", "start", "noise"],
)
def test_planted_faults_are_seen_and_named(code, kind):
    found = compared(code, 1, [11])[0]
    size = max(code.interaction, code.start, code.noise**2) - 1.0
    assert found.visible_errors[kind].size < size
    assert found.verdict is not Verdict.CONSISTENT
    fit = found.fits[kind]
    assert abs(fit.factor - 1 - size) < 4 * fit.error
    assert fit.explains
    assert {"interaction": "an interaction", "width of the start": "a start", "temperature": "a temperature"}[
        kind
    ] in found.looks_like


@pytest.mark.parametrize(
    "code",
    [
        Code("interaction", kind="interaction", interaction=1.02),
        Code("slow clock", kind="time scale", time=1.01),
        Code("clock", kind="time scale", time=1.03),
        Code("rate", kind="birth-death rate", alpha=1.05),
        Code("noise", Langevin(), "temperature", noise=1.05),
    ],
    ids=lambda code: code.name,
)
def test_small_faults_are_not_consistent_below_the_limit_named(code):
    found = compared(code, 1, [12])[0]
    assert found.verdict is not Verdict.CONSISTENT or found.visible_errors[code.kind].size > code.size


def test_a_training_twice_as_fast_is_one_line():
    found = compared(DOUBLED, 1, [13])[0]
    assert found.verdict is Verdict.INCONSISTENT
    fit = found.fits["time scale"]
    assert abs(fit.factor - 2.0) < 4 * fit.error
    said = re.fullmatch(r"the mean field at ([0-9.]+) t: loss without 1/2\?", found.looks_like)
    assert said is not None
    assert float(said[1]) == pytest.approx(fit.factor, abs=0.006)  # two digits
    assert found.headline.startswith(f"inconsistent: looks like {found.looks_like}")
    assert not any("stays as n grows" in line or "stay unseen" in line for line in str(found).splitlines())
    assert sum("looks like" in line for line in str(found).splitlines()[1:]) == 1


@pytest.mark.parametrize(
    ("fault", "fit", "noiseless", "text"),
    [
        (Fault.TIME, (2.004, 0.005), True, "the mean field at 2.004 t: loss without 1/2?"),
        (Fault.TIME, (2.004, 0.005), False, "the mean field at 2.004 t"),  # noise does not double with the loss
        (Fault.TIME, (0.5, 0.01), True, "the mean field at 0.50 t: a factor 1/2 too many?"),
        (Fault.TIME, (0.2, 0.2), True, "the mean field at 0.20 t"),  # an error too large for hints
        (Fault.TEMPERATURE, (0.5, 0.01), False, "a temperature 0.50 times as high: noise of sqrt(tau dt) instead of"),
        (Fault.ALPHA, (1.19, 0.02), True, "a birth-death rate 1.19 times as high"),
        (Fault.START, (1.0254, 0.0043), True, "a start 1.025 times as wide"),
        (Fault.INTERACTION, (1.05, 0.003), True, "an interaction 1.050 times as strong"),
    ],
)
def test_faults_in_words(fault, fit, noiseless, text):
    found = in_words(fault, Fit(*fit, z=9.0, misfit=1.0, explains=True), noiseless)
    assert found.startswith(text)
    assert ("?" in found) is ("?" in text or "instead of" in text)


def test_right_codes_are_not_inconsistent(right):
    for found in (right, compared(RIGHT[1], 1, [14])[0]):
        assert found.verdict is not Verdict.INCONSISTENT
        assert found.looks_like == ""
        assert all(fit.z < found.threshold for fit in found.fits.values())
        for kind, error in found.visible_errors.items():
            assert abs(found.fits[kind].factor - 1) < error.size


# ----- the result


def test_sensitivities_can_be_left_out(monkeypatch):
    from mfpde.verification.comparison import procedure

    solution = mf.solve(mf.problems.gaussian_bumps(), (60,), 0.5, save=[0.5], progress=False)
    monkeypatch.setattr(procedure, "Sensitivities", None)  # nothing may ask for them
    settings = {"sizes": [20, 80], "replicas": 6, "dt": 0.1, "progress": False}
    found = mf.compare(solution, sensitivities=False, **settings)
    assert (found.visible_errors, found.fits, found.not_looked_for) == ({}, {}, {})
    assert "would" not in found.headline
    with pytest.raises(ValueError, match="sensitivities"):
        mf.compare(solution, sensitivities="no", **settings)


def test_what_cannot_be_looked_for_is_named(wells):
    _, solution = wells
    found = mf.compare(solution, sizes=[20, 80], replicas=6, dt=0.1, progress=False)
    assert found.not_looked_for["interaction"] == "the energy has none"
    assert set(found.visible_errors) == {"time scale", "width of the start"}
    assert isinstance(found.visible_errors["time scale"], VisibleError)


def test_all_of_it_is_json(right):
    loaded = json.loads(right.to_json())
    assert loaded["headline"] == right.headline
    assert loaded["limit"]["value"] == right.limit.value
    assert loaded["visible_errors"]["interaction"]["size"] == right.visible_errors["interaction"].size
    assert loaded["fits"]["time scale"]["factor"] == right.fits["time scale"].factor
    assert loaded["findings"]["energy"]["unseen"] == right["energy"].unseen.tolist()
    assert loaded["plan"]["sizes"] == list(right.plan().sizes)


def test_plans_follow_the_variances(right):
    plan = right.plan()
    # four times the replicas halve a standard error
    assert (plan.sizes, plan.replicas, plan.work) == (right.sizes, 4 * right.replicas[0], 4.0)
    assert not plan.control
    assert str(plan).startswith(f"{plan.replicas} replicas of n = 50, 200, 800 (4 times the particles) halve the limit")


def test_plans_say_what_is_missing():
    solution = mf.solve(mf.problems.gaussian_bumps(), (60,), 0.5, save=[0.5], progress=False)
    x = np.random.default_rng(0).normal(0, 0.8, (12, 1, 40, 1))
    start = mf.compare(solution, [ParticleRecord(x, [0.0])], progress=False)
    assert start.verdict is Verdict.UNDECIDED
    # one size: another, eight times as large; at the start there are no steps
    assert (start.plan().sizes, start.plan().replicas, start.plan().control) == ((40, 320), 32, False)
    later = mf.compare(solution, [ParticleRecord(x, [0.5])], progress=False)
    assert later.plan().control
    assert "a run with steps of twice the length at n = 320 is missing" in str(later.plan())
    # few replicas: more of them, and these decide
    few = [ParticleRecord(np.random.default_rng(n).normal(0, 0.8, (4, 1, n, 1)), [0.0]) for n in (40, 320)]
    undecided = mf.compare(solution, few, progress=False)
    assert undecided.verdict is Verdict.UNDECIDED
    more = undecided.plan()
    assert math.isfinite(more.work)
    rng = np.random.default_rng(5)
    many = [ParticleRecord(rng.normal(0, 0.8, (2 * more.replicas, 1, n, 1)), [0.0]) for n in more.sizes]
    assert mf.compare(solution, many, progress=False).verdict is Verdict.CONSISTENT


# ----- replicas that do not differ


def test_a_start_at_a_point_has_replicas_that_do_not_differ():
    """They are right to, and there is nothing to divide by: the gaps are those of mesh and steps."""
    problem = dataclasses.replace(mf.problems.linear_neuron(), initial=mf.Dirac(theta=-1.0), parameters=None)
    for reference in (
        mf.solve(problem, (100,), save=[0.5, 1.0], progress=False),
        mf.characteristics(problem, save=[0.5, 1.0], progress=False),
    ):
        found = mf.compare(reference, sizes=[20, 80], replicas=4, dt=0.05, progress=False)
        assert found.verdict is not Verdict.INCONSISTENT
        assert np.all(found["mean of theta"].mean_error == 0)
        assert found.fits["time scale"].factor == pytest.approx(1.0, abs=0.2)
        assert found.not_looked_for["width of the start"].startswith("the start has no width")
        found.to_json()
    assert any("no distances: axis 'theta': the measure has an atom" in note for note in found.notes)


def test_replicas_of_one_seed_are_one(wells):
    _, solution = wells
    x = np.random.default_rng(0).normal(1.5, 0.5, (1, 3, 80, 1))
    records = [ParticleRecord(np.repeat(x[:, :, :n], 4, axis=0), [0.0, 0.5, 1.0]) for n in (20, 80)]
    found = mf.compare(solution, records, progress=False)
    assert found.replicas == (1, 1)
    assert found.verdict is Verdict.UNDECIDED
    assert "replicas that do not differ count as one (n = 20, n = 80); give each a seed of its own" in found.notes
