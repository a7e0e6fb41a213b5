"""Comparison: distances against closed forms, the statistics against what they promise, wrong schemes caught.

Statistical tests have fixed seeds. Bands are of 5 standard errors: a right code fails once in 10^6 draws of the seed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde import ParticleRecord, Quantity, Verdict
from mfpde.mesh import run as integration
from mfpde.particles import BirthDeath, GradientDescent, Langevin, Weights
from mfpde.verification.comparison.distances import Quantile, circle_distance
from mfpde.verification.comparison.mean_field import Field, MeshDensities, exact_field, mean_field
from mfpde.verification.comparison.replicas import common_step
from mfpde.verification.comparison.statistics import Rules, _Data, _extrapolate, _judge, _slope
from mfpde.verification.estimates import Estimate, combine, intercept, line_weights

Z = 5.0
SIZES = [50, 200, 800]

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def compare(reference, particles=None, **arguments):
    return mf.compare(reference, particles, progress=False, **arguments)


@pytest.fixture(scope="module")
def bumps():
    return mf.solve(mf.problems.gaussian_bumps(), (100,), save=[0.5, 1.0, 2.0], progress=False)


@pytest.fixture(scope="module")
def right(bumps):
    return compare(bumps, sizes=SIZES, replicas=24, dt=0.025)


# ----- distances


def uniform(low, high):
    return Quantile.of_curve(np.array([low, high]), np.array([0.0, 1.0]))


def test_distances_of_points_are_the_discrete_ones():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(size=11)
    w = rng.random(7)
    a, b = Quantile.of_points(x, w), Quantile.of_points(y, None)
    assert a.distances(b)[0] == pytest.approx(stats.wasserstein_distance(x, y, w), abs=1e-14)
    same = Quantile.of_points(x + 0.75, w).distances(a)
    assert same == pytest.approx((0.75, 0.75**2), abs=1e-14)
    assert a.distances(a) == pytest.approx((0.0, 0.0), abs=1e-15)


def test_distances_to_a_density_are_integrals():
    # an atom and a uniform law: int |a - q|, int (a - q)^2
    w1, w2 = Quantile.of_points(np.array([0.25]), None).distances(uniform(0.0, 1.0))
    assert w1 == pytest.approx((0.25**2 + 0.75**2) / 2, abs=1e-15)
    assert w2 == pytest.approx((0.25**3 + 0.75**3) / 3, abs=1e-15)
    # a hole in the support: halves on [0, 1] and [3, 4]
    holed = Quantile.of_curve(np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 0.5, 0.5, 1.0]))
    q = (np.arange(200000) + 0.5) / 200000
    direct = np.where(q < 0.5, 2 * q, 3 + 2 * (q - 0.5)) - q
    assert holed.distances(uniform(0.0, 1.0)) == pytest.approx((np.abs(direct).mean(), (direct**2).mean()), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_distance_on_a_circle_goes_the_short_way(shift):
    rng = np.random.default_rng(1)
    x = np.sort(np.mod(rng.normal(0.02, 0.05, 40) + shift, 1.0))  # some on each side of the seam
    knots = np.linspace(0, 1, 401)
    law = stats.norm(0.05 + shift, 0.03)
    curve = (knots, sum(law.cdf(knots + k) - law.cdf(k) for k in (-1, 0, 1)))
    found = circle_distance((knots, curve[1] / curve[1][-1]), (x, np.arange(1, 41) / 40), steps=True)
    # brute force: unroll where neither has mass
    cut = np.mod(0.5 + shift, 1.0)
    unrolled = Quantile.of_points(np.mod(x - cut, 1.0), None)
    q = (np.arange(40000) + 0.5) / 40000
    target = Quantile.of_points(np.mod(law.ppf(q) - cut, 1.0), None)
    assert found == pytest.approx(unrolled.distances(target)[0], abs=2e-4)
    assert found < 0.1


@pytest.mark.parametrize("point_values", [False, True])
def test_marginals_of_a_mesh_are_accurate_to_high_order(point_values):
    law = stats.norm(0.3, 0.7)
    problem = mf.problems.gaussian_bumps()
    q = (np.arange(200) + 0.5) / 200
    points = Quantile.of_points(law.ppf(q), None)
    x = np.linspace(-5, 5, 200001)
    exact = points.distances(Quantile.of_curve(x, law.cdf(x)))
    errors = []
    for n in (40, 80):
        grid, measure = problem.grid((n,)), mf.Product(x=law).restrict(problem.axes)
        mu = measure.point_values(grid) if point_values else measure.cells(grid)
        field = Field(problem, np.zeros(1), [None], MeshDensities(grid, [mu], point_values))
        found = points.distances(field.marginal(0, 0)[0])
        errors.append(abs(math.sqrt(found[1]) - math.sqrt(exact[1])))
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 4


def test_projections_of_a_mesh_have_the_law_of_the_projection():
    problem = mf.problems.gaussian_bumps(centres=[(-1.0, 0.0), (1.0, 1.0)], weights=[0.5, 0.5])
    law = mf.Product(x=stats.norm(0.4, 0.5), y=stats.norm(-0.2, 0.9))
    field = exact_field(mf.ExactLaw(problem, lambda t: law, [0.0]), np.zeros(1), (96, 96))
    for angle in (0.0, 0.3, 1.2):
        e = np.array([math.cos(angle), math.sin(angle)])
        along = stats.norm(e @ [0.4, -0.2], math.hypot(0.5 * e[0], 0.9 * e[1]))
        x = np.linspace(-7, 7, 20001)
        first, square = field.projected(e, 0).distances(Quantile.of_curve(x, along.cdf(x)))
        assert first < 0.01
        assert math.sqrt(square) < 0.012


# ----- statistics


def test_intercepts_reproduce_lines_and_errors_are_those_of_student():
    x, precision = 1 / np.array([50.0, 200.0, 800.0]), np.array([1.0, 4.0, 16.0])
    for w, power in zip(line_weights(x, precision, 0.25), (1, 0.25, 0.25), strict=True):
        assert w.sum() == pytest.approx(1, abs=1e-12)
        assert w @ x**power == pytest.approx(0, abs=1e-12)
    assert intercept(np.array([0.1]), np.ones(1)) == pytest.approx([1.0])
    y = np.random.default_rng(2).normal(1.0, 1.0, 8)
    single = combine([y], 0.0)
    exact = stats.ttest_1samp(y, 0.0)
    assert single.z(0.0, one_sided=True) == pytest.approx(stats.norm.isf(exact.pvalue / 2), rel=1e-9)
    assert single.freedom == pytest.approx(7)
    a, b = y, np.random.default_rng(3).normal(0.5, 3.0, 5)
    welch = stats.ttest_ind(a, b, equal_var=False)
    both = combine([a, -b], 0.0)
    assert both.value / both.error == pytest.approx(welch.statistic, rel=1e-12)
    assert both.freedom == pytest.approx(welch.df, rel=1e-12)
    assert Estimate(1.0, 1e-9, 1e9).z(0.0) == 37.0
    assert Estimate(-1.0, 1e-9, 30).z(0.0, one_sided=True) == 0.0
    assert Estimate(-1.0, 1e-9, 30).z(2.0, one_sided=False) == 0.0


def test_scores_have_the_level_they_state():
    """Four replicas of three sizes with c/n: beyond z = 1.96 two-sided in 5 % of 4000 draws, within 5 sigma."""
    rng = np.random.default_rng(4)
    sizes = np.array([50.0, 200.0, 800.0])
    w = intercept(1 / sizes, sizes)
    hits = 0
    for _ in range(4000):
        y = [3.0 / n + rng.normal(size=4) / math.sqrt(n) for n in sizes]
        hits += _extrapolate(w, y, None, 0.0, 0.0, 1 / sizes, None).z(0.0, one_sided=False) > 1.959964
    assert abs(hits - 200) < Z * math.sqrt(4000 * 0.05 * 0.95)


def test_slope_and_its_interval():
    rng = np.random.default_rng(5)
    sizes = np.array([50.0, 200.0, 800.0])
    covered = 0
    for _ in range(200):
        squares = [rng.chisquare(4, 32) / 4 * n**-1.0 for n in sizes]
        slope, (low, high) = _slope(sizes, squares, rng, 400)
        assert low < slope < high
        covered += low <= -1.0 <= high
    # the percentile bootstrap of 32 replicas covers a little less than its nominal 95 %
    assert 175 <= covered <= 200
    exact = [np.full(4, 7.0 * n**-1.5) for n in sizes]
    assert _slope(sizes, exact, rng, 100)[0] == pytest.approx(-1.5, abs=1e-12)
    assert math.isnan(_slope(sizes[:1], exact[:1], rng, 100)[0])


def judged(gaps, *, signed=True, control=None, scale=1.0, tolerance=1e-3, sizes=(50, 200, 800), **more):
    rng = np.random.default_rng(6)
    sizes = np.array(sizes[: len(gaps)], dtype=float)
    draws = [np.abs(rng.normal(size=(64, 1))) / math.sqrt(n) for n in sizes]
    gaps = [np.asarray(g, dtype=float)[:, None] for g in gaps]
    control = None if control is None else np.asarray(control)[:, None]
    data = _Data(sizes, gaps, draws, control, 2.0, 1.0)
    rules = Rules(tolerance, 4.0, more.pop("step_known", False))
    return _judge(data, signed, scale, np.zeros(1), rules, at_start=False)


def synthetic(bias, n, replicas=24, seed=7, spread=0.3):
    return bias + spread * np.random.default_rng([seed, n]).normal(size=replicas) / math.sqrt(n)


def test_verdicts_on_synthetic_gaps():
    sizes = (50, 200, 800)
    falling = [synthetic(2.0 / n, n) for n in sizes]
    staying = [synthetic(0.3, n) for n in sizes]
    same = synthetic(2.0 / 800, 800)  # steps without bias, shared noise
    assert judged(falling, control=same).verdict is Verdict.CONSISTENT
    found = judged(staying, control=synthetic(0.3, 800))
    assert found.verdict is Verdict.INCONSISTENT
    assert found.limit[0] == pytest.approx(0.3, abs=Z * found.error[0])
    mirrored = judged([-g for g in staying], control=-synthetic(0.3, 800))
    assert mirrored.verdict is Verdict.INCONSISTENT
    assert mirrored.z == found.z
    # a bias of the step of first order: 0.1 at dt, 0.2 at 2 dt
    stepped = [synthetic(0.04 + 2.0 / n, n) for n in sizes]
    known = judged(stepped, control=synthetic(0.08 + 2.0 / 800, 800))
    assert known.step[0] == pytest.approx(0.04, abs=1e-12)
    assert known.verdict is Verdict.CONSISTENT
    assert judged(stepped).verdict is Verdict.UNDECIDED
    assert "other steps" in judged(stepped).reason
    assert judged(staying, step_known=True).verdict is Verdict.INCONSISTENT
    assert judged(staying).verdict is Verdict.INCONSISTENT  # more than steps are given
    # a bias that falls like n^{-1/2} is not lasting, and its square falls like 1/n
    slow = [synthetic(1.0 * n**-0.5, n) for n in sizes]
    assert judged(slow, control=synthetic(800**-0.5, 800)).verdict is Verdict.UNDECIDED
    # one that falls like n^{-1/4} excludes the law of large numbers
    slower = judged([synthetic(1.0 * n**-0.25, n) for n in sizes], control=synthetic(800**-0.25, 800))
    assert slower.verdict is Verdict.INCONSISTENT
    assert "more slowly than 1/n" in slower.reason
    # one size, one replica, too much noise
    assert judged(staying[:1], control=None).verdict is Verdict.INCONSISTENT
    assert judged(falling[:1]).verdict is Verdict.UNDECIDED
    assert "one replica" in judged([g[:1] for g in falling]).reason
    noisy = [synthetic(0.0, 800, 4, spread=3.0, seed=k) for k in range(3)]
    assert judged(noisy, control=noisy[-1]).verdict is Verdict.UNDECIDED
    # a tolerance above the bias
    assert judged(staying, control=synthetic(0.3, 800), tolerance=0.5).verdict is Verdict.CONSISTENT


def test_common_noise_that_does_not_average_out_is_inconsistent():
    rng = np.random.default_rng(8)
    gaps = [rng.normal(0.0, 0.3, 32) for _ in range(3)]
    found = judged(gaps, control=gaps[-1], sizes=(10, 1000, 100000))
    assert found.verdict is Verdict.INCONSISTENT
    assert found.z < 4.0 < found.spread_z
    assert "replicas differ" in found.reason


def test_distances_are_judged_against_independent_draws():
    rng = np.random.default_rng(9)
    sizes = (50, 200, 800)
    for factor, verdict in ((1.0, Verdict.CONSISTENT), (2.0, Verdict.CONSISTENT)):
        gaps = [factor * np.abs(rng.normal(size=32)) / math.sqrt(n) for n in sizes]
        assert judged(gaps, signed=False, control=gaps[-1]).verdict is verdict
    gaps = [np.sqrt(0.2**2 + rng.normal(size=32) ** 2 / n) for n in sizes]
    found = judged(gaps, signed=False, control=gaps[-1])
    assert found.verdict is Verdict.INCONSISTENT
    assert found.limit[0] == pytest.approx(0.2, abs=Z * found.error[0])


@pytest.mark.parametrize(
    ("times", "limit", "dt"),
    [
        ([0, 0.5, 1.0], 0.02, 1 / 52),
        ([0, 0.3, 1.0], 0.05, 0.05),
        ([0, 1.0], 10.0, 0.5),
        ([0, 0.25, 1.0], 0.0625, 0.0625),
    ],
)
def test_step_divides_the_times_twice_over(times, limit, dt):
    step, end = common_step(np.array(times), limit)
    assert step == pytest.approx(dt, rel=1e-12)
    assert end == times[-1]


def test_step_refuses_times_without_a_common_one():
    with pytest.raises(ValueError, match=r"divides all times 0, 0\.3141\S+, 1"):
        common_step(np.array([0.0, 0.1 * math.pi, 1.0]), 0.01)


# ----- right schemes


def test_birth_death_is_consistent(right):
    assert right.verdict is Verdict.CONSISTENT
    assert list(right.findings) == ["energy", "response", "mean of x", "mean square of x", "W1 of x", "W2 of x"]
    for name in ("response", "W1 of x", "W2 of x"):
        finding = right[name]
        low, high = finding.slope_interval[-1]
        assert low < -1.0 < high or abs(finding.slope[-1] + 1) < 0.15
        assert high < -0.6
    # at the start particles are independent draws: the ratio to these is one, within sampling errors
    for name, finding in right.findings.items():
        error = Z * (finding.mean_square_error[:, 0] + 0.3 * finding.resampled[:, 0])
        assert np.all(np.abs(finding.mean_square[:, 0] - finding.resampled[:, 0]) < error), name
    # observables, components and times; spreads and falls; fits
    by_time = sum(f.limit.shape[1] + f.signed + 1 for f in right.findings.values())
    assert right.tests == 4 * by_time + len(right.fits)
    assert right.threshold == pytest.approx(stats.norm.isf(0.5e-3 / right.tests))


def test_weights_are_consistent_and_report_their_effective_size(bumps):
    found = compare(bumps, sizes=SIZES, replicas=16, dt=0.025, dynamics=(GradientDescent(), Weights()), times=[0, 2.0])
    assert found.verdict is not Verdict.INCONSISTENT
    assert found["response"].verdict is Verdict.CONSISTENT
    assert found.effective_size[:, 0] == pytest.approx(SIZES)
    assert np.all(found.effective_size[:, 1] < SIZES)


def test_at_the_start_the_mean_square_is_the_sampling_variance():
    """Response of a linear neuron: the mean of theta, variance C / n."""
    problem = mf.problems.linear_neuron()
    solution = mf.solve(problem, save=[0.1], t_end=0.1, progress=False)
    found = compare(solution, sizes=[64, 256], replicas=200, dt=0.05, quantities=[Quantity.RESPONSE, Quantity.ENERGY])
    finding = found["response"]
    expected = 0.5 / np.array([64, 256])
    unit = finding.scale and problem.bound_energy.response(np.ones((1, 1)), np.ones(1))[0]
    assert np.all(np.abs(finding.mean_square[:, 0] / unit**2 - expected) < Z * expected * math.sqrt(2 / 200))


def test_the_bias_of_the_step_is_found_and_no_bias_of_the_scheme():
    """Explicit Euler in a quadratic well: the mean is m_0 (1 - l dt)^k instead of m_0 exp(-l t)."""
    problem = mf.problems.quadratic_well(alpha=0.0)

    def law(t):
        return mf.Product(x=stats.norm(problem.exact["mean"](t), problem.exact["variance"](t) ** 0.5))

    def euler(dt):
        return 1.5 * (1 - 1.3 * dt) ** round(1 / dt)

    exact = mf.ExactLaw(problem, law, [0.0, 0.5, 1.0])
    found = compare(exact, sizes=SIZES, replicas=16, dt=0.05)
    mean = found["mean of x"]
    first = euler(found.dt) - euler(found.control_dt)
    # replicas have their own starts, which scale the bias: its spread over 16 replicas of 800 is 2 percent
    assert mean.step_bias[-1, 0] == pytest.approx(-first, rel=0.05)
    assert mean.step_bias[-1, 0] == pytest.approx(euler(found.dt) - 1.5 * math.exp(-1.3), rel=0.15)
    assert found.verdict is Verdict.CONSISTENT
    # more particles do not remove it: without the control it is seen, and not blamed on the scheme
    blind = compare(exact, sizes=[800, 3200], replicas=32, dt=0.1, control=False, quantities=[Quantity.MOMENTS])
    assert blind.control_dt is None
    assert np.isnan(blind["mean of x"].step_bias).all()
    assert blind["mean of x"].verdict is Verdict.UNDECIDED
    assert "time step" in blind["mean of x"].reason


def test_the_error_of_the_reference_is_not_taken_for_bias(bumps):
    """Draws from a fine solution are right particles; a crude solution is wrong, not they."""
    crude = mf.solve(bumps.problem, (20,), scheme=mf.Upwind(), save=[1.0, 2.0], progress=False)
    field, _ = mean_field(bumps, bumps.problem, np.array([1.0, 2.0]))
    rng = np.random.default_rng(12)
    records = [
        ParticleRecord([[field.sample(j, n, rng) for j in range(2)] for _ in range(32)], [1.0, 2.0], dt=dt)
        for n, dt in ((60, 0.1), (400, 0.1), (2500, 0.1), (2500, 0.2))
    ]
    blamed = compare(crude, records, uncertainty=0.0)
    for name in ("response", "mean square of x"):
        assert blamed[name].verdict is Verdict.INCONSISTENT
    found = compare(crude, records)
    assert found.verdict is not Verdict.INCONSISTENT
    assert "half the cells (10)" in found.reference_error
    assert compare(crude, records, uncertainty=bumps).verdict is not Verdict.INCONSISTENT
    assert compare(bumps, records).verdict is Verdict.CONSISTENT


def test_characteristics_as_reference():
    problem = mf.problems.gaussian_bumps()
    exact = mf.characteristics(problem, 1.0, save=[0.5, 1.0], progress=False)
    found = compare(exact, sizes=[50, 400], replicas=16, dt=0.025)
    assert found.verdict is not Verdict.INCONSISTENT
    assert {"energy", "response", "W1 of x", "W2 of x"} <= set(found.findings)
    assert "characteristics" in found.reference_error


@pytest.mark.parametrize("start", ["three dimensions", "points"])
def test_characteristics_without_a_density_tell_no_error_of_distances(start):
    """Half the cells do instead: an error of 0 would make every gap of the mesh one of the particles."""
    axes = [mf.Axis(name, -3, 3) for name in ("xyz" if start == "three dimensions" else "xy")]
    law = mf.Product(**{axis.name: stats.norm(0.3, 0.4) for axis in axes})
    if start == "points":
        law = mf.Particles(0.6 * np.random.default_rng(0).normal(size=(200, 2)))
    problem = mf.Problem(mf.Confinement(**{axis.name: 1.0 for axis in axes}), axes, law)
    solution = mf.solve(problem, (16,) * len(axes), 0.5, save=[0.5], scheme=mf.Upwind(), progress=False)
    exact = mf.characteristics(problem, 0.5, save=[0.5], tolerance=1e-2, progress=False)
    few = {"sizes": [20, 80], "replicas": 4, "dt": 0.25, "sensitivities": False}
    found, own = (compare(solution, uncertainty=given, **few) for given in (exact, None))
    for name in ("W1 of x", "W2 of y", "sliced W2"):
        assert np.array_equal(found[name].uncertainty, own[name].uncertainty)
        assert found[name].uncertainty[-1] > 0
    assert not np.array_equal(found["mean of x"].uncertainty, own["mean of x"].uncertainty)
    assert any("no density on a mesh: of distances, error from a run on half the cells" in note for note in found.notes)


def test_two_dimensions_have_a_sliced_distance():
    problem = mf.problems.gaussian_bumps(centres=[(-1.0, 0.0), (1.0, 1.0)], weights=[0.5, 0.5])
    solution = mf.solve(problem, (48, 48), t_end=0.5, save=2, progress=False)
    found = compare(solution, sizes=[50, 400], replicas=12, dt=0.05)
    sliced = found["sliced W2"]
    assert found.verdict is not Verdict.INCONSISTENT
    assert np.all(np.abs(sliced.slope + 1) < 0.3)
    # a slice is no longer than the whole
    whole = found["W2 of x"].mean_square + found["W2 of y"].mean_square
    assert np.all(sliced.mean_square < whole)


def test_periodic_axes_and_changing_mass():
    problem = mf.Problem(
        energy=mf.External(lambda a: 1 + np.cos(a), lambda a: (-np.sin(a),)),
        axes=[mf.Axis("a", 0, 2 * math.pi, mf.End.PERIODIC)],
        initial=mf.Density(lambda x: 1 + 0.5 * np.cos(x[:, 0] - 1)),
        alpha=0.5,
        reaction="unbalanced",
        t_end=1.0,
    )
    solution = mf.solve(problem, (128,), save=2, progress=False)
    found = compare(solution, sizes=[100, 800], replicas=16, dt=0.025)
    assert (
        list(found.findings) == ["energy", "mass", "cosine of a", "sine of a", "W1 of a"]
        or "response" in found.findings
    )
    assert found.verdict is not Verdict.INCONSISTENT
    assert found["mass"].mean_square[0, 0] == pytest.approx(0, abs=1e-20)
    assert np.all(np.abs(found["W1 of a"].slope + 1) < 0.45)


# ----- wrong schemes


class Reversed(BirthDeath):
    """Kills what is good and duplicates what is bad."""

    def excess(self, values, mean):
        return mean - values


class WithoutStep(BirthDeath):
    """Forgets dt in the probabilities."""

    def probabilities(self, excess, alpha, dt):
        return -np.expm1(-alpha * np.abs(excess))


class HalfTheNoise(Langevin):
    """sqrt(tau dt) instead of sqrt(2 tau dt)."""

    def amplitude(self, temperature, dt):
        return float(np.sqrt(temperature * dt))


@pytest.mark.parametrize("wrong", [Reversed(), WithoutStep()], ids=["reversed", "without dt"])
def test_wrong_birth_death_is_caught(bumps, wrong):
    found = compare(bumps, sizes=SIZES, replicas=16, dt=0.025, dynamics=(GradientDescent(), wrong))
    assert found.verdict is Verdict.INCONSISTENT
    for name in ("energy", "response", "mean of x", "mean square of x"):
        finding = found[name]
        assert finding.verdict is Verdict.INCONSISTENT, name
        # the start is right, and said to be
        assert finding.verdicts[0] is not Verdict.INCONSISTENT
        assert finding.slope[-1] > -0.4
        assert "stays as n grows" in finding.reason


def gaussian_langevin():
    """F = a x^2 / 2, K = b x y, temperature tau: m' = -(a + b) m, s' = -2 a s + 2 tau."""
    a, b, tau, mean, variance = 1.0, 0.5, 0.5, 1.0, 0.2
    problem = mf.Problem(
        energy=mf.External(lambda x: 0.5 * a * x**2, lambda x: (a * x,))
        + mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), weight=b),
        axes=[mf.Axis("x", -7, 7)],
        initial=mf.Product(x=stats.norm(mean, math.sqrt(variance))),
        temperature=tau,
        t_end=1.0,
        shape=(280,),
    )

    def law(t):
        spread = tau / a + (variance - tau / a) * math.exp(-2 * a * t)
        return mf.Product(x=stats.norm(mean * math.exp(-(a + b) * t), math.sqrt(spread)))

    return mf.ExactLaw(problem, law, [0.0, 0.5, 1.0])


def test_langevin_noise_right_and_wrong():
    exact = gaussian_langevin()
    good = compare(exact, sizes=SIZES, replicas=24, dt=0.025)
    assert good.verdict is not Verdict.INCONSISTENT
    assert good["energy"].verdict is Verdict.CONSISTENT
    bad = compare(exact, sizes=SIZES, replicas=24, dt=0.025, dynamics=(GradientDescent(), HalfTheNoise()))
    assert bad.verdict is Verdict.INCONSISTENT
    # half the noise: the variance lacks (tau / 2 a)(1 - exp(-2 a t)), the mean is right
    square = bad["mean square of x"]
    assert square.verdict is Verdict.INCONSISTENT
    expected = -0.25 * (1 - math.exp(-2.0))
    assert square.limit[-1, 0] == pytest.approx(expected, abs=Z * square.limit_error[-1, 0] + 0.01)
    assert bad["mean of x"].verdict is not Verdict.INCONSISTENT
    for name in ("energy", "W1 of x", "W2 of x"):
        assert bad[name].verdict is Verdict.INCONSISTENT


# ----- one's own particles


def own(bumps, n, replicas, seed=0, dt=0.05, alpha=1.0):
    """A training loop as a user writes it, for bumps in one dimension with the kernel's potential."""
    bound = bumps.problem.bound_energy
    rng = np.random.default_rng([seed, n])
    frames = []
    for _ in range(replicas):
        x = rng.normal(0, 0.8, (n, 1))
        w = np.full(n, 1 / n)
        run = [x.copy()]
        for k in range(1, round(1.0 / dt) + 1):
            x = x - dt * bound.gradient(x, bound.response(x, w))
            if alpha:
                V = bound.potential(x, bound.response(x, w))
                r = alpha * (V - V.mean())
                kill = rng.random(n) < -np.expm1(-dt * np.abs(r))
                alive = np.concatenate([np.flatnonzero(~(kill & (r > 0))), np.flatnonzero(kill & (r < 0))])
                if len(alive) >= n:
                    x = x[rng.choice(alive, n, replace=False)]
                else:
                    x = x[np.concatenate([alive, rng.choice(alive, n - len(alive))])]
            if abs(k * dt - 0.5) < 1e-9 or abs(k * dt - 1.0) < 1e-9:
                run.append(x.copy())
        frames.append(run)
    return ParticleRecord(np.array(frames), [0.0, 0.5, 1.0], dt=dt, label=f"own {n}")


def test_own_particles_right_and_wrong(bumps):
    records = [own(bumps, n, 16) for n in (50, 400)] + [own(bumps, 400, 16, seed=1, dt=0.1)]
    found = compare(bumps, records)
    assert found.sizes == (50, 400)
    assert found.replicas == (16, 16)
    assert (found.dt, found.control_dt) == (0.05, 0.1)
    assert found.times == pytest.approx([0.0, 0.5, 1.0])
    assert found.verdict is not Verdict.INCONSISTENT
    without = [own(bumps, n, 16, alpha=0.0) for n in (50, 400)] + [own(bumps, 400, 16, seed=1, dt=0.1, alpha=0.0)]
    assert compare(bumps, without).verdict is Verdict.INCONSISTENT


def test_single_runs_are_merged_into_replicas(bumps):
    whole = own(bumps, 60, 6)
    parts = [ParticleRecord(x, whole.times, dt=0.05, label=str(k)) for k, x in enumerate(whole.positions)]
    a, b = compare(bumps, whole), compare(bumps, parts)
    assert a.to_json() == b.to_json()
    assert a.replicas == (6,)
    assert a.verdict is Verdict.UNDECIDED
    assert any("one dt" in note for note in a.notes)
    alone = compare(bumps, parts[0])
    assert all("one replica" in f.reason for f in alone.findings.values())


def test_a_cloud_is_compared_as_it_is(bumps):
    cloud = mf.particles.simulate(
        bumps.problem, 100, dt=0.05, t_end=1.0, save=[0.5], replicas=8, seed=3, progress=False
    )
    found = compare(bumps, cloud, quantities=[Quantity.ENERGY])
    expected = cloud.energy.mean(axis=0) - bumps.energy[[0, 1, 2]]
    assert found["energy"].mean[0, :, 0] == pytest.approx(expected, abs=1e-7)
    assert found.dt == 0.05


def test_weighted_particles_are_those_many(bumps):
    x = np.random.default_rng(5).normal(0, 0.5, (3, 1, 10, 1))
    twice = np.concatenate([x, x[:, :, :5]], axis=2)
    w = np.concatenate([np.full((3, 1, 5), 2 / 15), np.full((3, 1, 5), 1 / 15)], axis=2)
    a = compare(bumps, ParticleRecord(twice, [0.5]))
    b = compare(bumps, ParticleRecord(x, [0.5], w))
    for name in a.findings:
        assert a[name].mean == pytest.approx(b[name].mean, abs=1e-10), name
    assert b.effective_size[0, 0] == pytest.approx(1 / (5 * (2 / 15) ** 2 + 5 / 15**2))


def test_particles_outside_the_box(bumps):
    x = np.zeros((2, 1, 1000, 1))
    x[:, :, 0] = 5.5
    found = compare(bumps, ParticleRecord(x, [0.5], label="mine"))
    assert any("mine: 0.1 % of the particles were outside the box" in note for note in found.notes)
    x[:, :, :20] = 5.5
    with pytest.raises(ValueError, match=r"mine: 2 % of the particles are outside the box"):
        compare(bumps, ParticleRecord(x, [0.5], label="mine"))


@pytest.mark.parametrize(
    ("positions", "times", "more", "text"),
    [
        (np.zeros(3), [0.0], {}, r"positions must have shape .* not \(3,\)"),
        (np.zeros((2, 1, 1)), [0.0, 1.0], {}, "n >= 2"),
        (np.zeros((2, 5, 1)), [0.0], {}, "1 times for positions at 2 times"),
        (np.zeros((2, 5, 1)), [1.0, 0.0], {}, "finite and increase"),
        (np.full((1, 5, 1), np.nan), [0.0], {}, "5 coordinates are not finite"),
        (np.zeros((1, 5, 1)), [0.0], {"weights": np.ones((1, 4))}, r"weights must have shape \(1, 1, 5\)"),
        (np.zeros((1, 5, 1)), [0.0], {"weights": -np.ones((1, 5))}, "positive sum"),
        (np.zeros((1, 5, 1)), [0.0], {"dt": 0.0}, "dt must be finite and positive, not 0.0"),
    ],
)
def test_records_refuse_what_does_not_fit(positions, times, more, text):
    with pytest.raises(ValueError, match=text):
        ParticleRecord(positions, times, **more)


def test_records_of_one_dimension_need_no_last_axis():
    record = ParticleRecord(np.zeros((3, 7)), [0.0, 1.0, 2.0], np.full((3, 7), 1 / 7))
    assert record.positions.shape == (1, 3, 7, 1)
    assert (record.n, record.replicas) == (7, 1)
    assert "1 x 7 particles" in repr(record)


def test_files_of_particles(tmp_path):
    import h5py

    rng = np.random.default_rng(0)
    x, times = rng.normal(size=(3, 10, 2)), np.array([0.0, 1.0, 2.0])
    w = rng.random((3, 10))
    np.savez(tmp_path / "one.npz", positions=x, times=times, weights=w, dt=0.1, axes=["c", "a"])
    (record,) = mf.load_particles(tmp_path / "one.npz", ["a", "c"])
    assert np.array_equal(record.positions[0], x[..., ::-1])
    assert np.array_equal(record.weights[0], w)
    assert record.dt == 0.1
    (plain,) = mf.load_particles(tmp_path / "one.npz")
    assert np.array_equal(plain.positions[0], x)
    np.savez(
        tmp_path / "two.npz",
        **{f"n{n}/{k}": v for n in (5, 10) for k, v in (("positions", x[:, :n]), ("times", times))},
    )
    assert [r.n for r in mf.load_particles(tmp_path / "two.npz")] == [10, 5]
    with h5py.File(tmp_path / "run.h5", "w") as file:
        for n in (4, 8):
            group = file.create_group(f"deep/n{n}")
            group["positions"], group["times"] = x[:, :n], times
            group.attrs["dt"] = 0.2
            group.attrs["axes"] = ["c", "a"]
    records = mf.load_particles(tmp_path / "run.h5", [mf.Axis("a", -9, 9), mf.Axis("c", -9, 9)])
    assert [(r.n, r.dt) for r in records] == [(4, 0.2), (8, 0.2)]
    assert np.array_equal(records[0].positions[0], x[:, :4, ::-1])
    with pytest.raises(ValueError, match="the columns are c, a, the problem's axes a, b"):
        mf.load_particles(tmp_path / "one.npz", ["a", "b"])
    np.savez(tmp_path / "bad.npz", x=x)
    with pytest.raises(ValueError, match=r"holds no 'positions' \(it has x\)"):
        mf.load_particles(tmp_path / "bad.npz")
    np.savez(tmp_path / "bad.npz", positions=x)
    with pytest.raises(ValueError, match=r"bad\.npz: positions without 'times'"):
        mf.load_particles(tmp_path / "bad.npz")
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "text.h5").write_text("no archive")
    for name, text in (("text.npz", "no NPZ"), ("text.h5", "cannot be read as HDF5"), ("text.csv", "read from")):
        with pytest.raises(ValueError, match=text):
            mf.load_particles(tmp_path / name)
    for name in ("none.npz", "none.h5"):
        with pytest.raises(FileNotFoundError):
            mf.load_particles(tmp_path / name)


def test_compare_refuses_what_does_not_fit(bumps):
    x = np.zeros((1, 5, 1))
    cases = [
        ({"particles": [ParticleRecord(x, [0.7])]}, "share no save time.*0, 0.5, 1, 2.*0.7.*save="),
        ({"particles": [ParticleRecord(np.zeros((1, 5, 2)), [0.5])]}, "2 coordinates for the 1 axes x"),
        ({"particles": [ParticleRecord(x, [0.5]), ParticleRecord(x, [0.5], dt=1.0)]}, "some have none"),
        ({"particles": [ParticleRecord(x, [0.5], dt=t) for t in (1.0, 2.0, 3.0)]}, "3 different dt"),
        ({"particles": [ParticleRecord(x, [0.5], dt=1.0), ParticleRecord(x[:, :4], [0.5], dt=2.0)]}, "largest n = 5"),
        ({"particles": []}, "no particles"),
        ({"particles": [3]}, "not int"),
        ({"sizes": [1]}, "sizes: integers of at least 2, not 1"),
        ({"sizes": []}, "sizes is empty"),
        ({"sizes": [5, 5]}, "repeat"),
        ({"replicas": 0}, "replicas: integers of at least 1, not 0"),
        ({"times": [0.7]}, "t = 0.7 is not among the times 0, 0.5, 1, 2"),
        ({"times": []}, "times is empty"),
        ({"tolerance": -1}, "tolerance"),
        ({"false_alarm": 0}, "false_alarm"),
        ({"uncertainty": 2.0}, "uncertainty"),
        ({"quantities": ["energy"]}, "members of mfpde.Quantity"),
        ({"quantities": [Quantity.SLICED_W2]}, "none of sliced W2"),
        ({"dt": 0.0, "times": [0, 1.0]}, "dt must be"),
    ]
    for arguments, text in cases:
        with pytest.raises(ValueError, match=text):
            compare(bumps, **arguments)
    with pytest.raises(ValueError, match="the reference must be"):
        compare(3)


# ----- the result


def test_result_prints_saves_and_draws(right, tmp_path):
    text = str(right)
    for part in (
        "consistent",
        "n = 50 (x 24) 200 (x 24) 800 (x 24)",
        "W2 of x",
        "fails once in 1000",
        "half the cells (50)",
    ):
        assert part in text
    assert "gaussian-bumps" in repr(right)
    saved = right.to_json(tmp_path / "report.json")
    loaded = json.loads((tmp_path / "report.json").read_text())
    assert json.loads(saved) == loaded
    assert loaded["verdict"] == "consistent"
    assert loaded["findings"]["energy"]["mean"] == right["energy"].mean.tolist()
    assert loaded["findings"]["W1 of x"]["spread_z"][0] is None
    figure = right.plot(tmp_path / "gaps.png", t=0.5)
    assert (tmp_path / "gaps.png").stat().st_size > 1000
    assert next(ax.get_title() for ax in figure.axes if ax.get_visible()) == "energy: consistent"
    with pytest.raises(ValueError, match=r"t = 0\.7 was not compared"):
        right.plot(t=0.7)
    with pytest.raises(KeyError, match="W1 of x"):
        right["W3"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_of_the_coarse_run_is_one_of_the_whole(number, bumps, monkeypatch):
    """The run that tells the reference's error takes it for its own; it has not failed."""
    solve = integration.solve

    def interrupted(*arguments, **named):
        return solve(*arguments, **named, stop=lambda snapshot: os.kill(os.getpid(), number))

    monkeypatch.setattr(integration, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(bumps, sizes=[20, 40], replicas=2, dt=0.25)


def test_a_seed_reproduces_and_workers_do_not_matter(bumps):
    arguments = {"sizes": [40, 80], "replicas": 6, "dt": 0.05, "times": [0, 0.5], "uncertainty": 0.0, "bootstrap": 100}
    a, b = compare(bumps, **arguments), compare(bumps, workers=3, **arguments)
    assert a.to_json() == b.to_json()
    c = compare(bumps, seed=1, **arguments)
    assert not np.any(a["response"].mean == c["response"].mean)


def test_samples_of_the_field_have_its_moments(bumps):
    field, _ = mean_field(bumps, bumps.problem, bumps.times)
    rng = np.random.default_rng(11)
    for j in (0, 3):
        x = field.sample(j, 40000, rng)[:, 0]
        for power, exact in zip((1, 2), field.moments(0, j), strict=True):
            values = x**power
            assert abs(values.mean() - exact) < Z * values.std() / 200 + 1e-4


def test_a_training_loop_needs_the_learning_rate_times_n():
    """Plain back-propagation through ``f(x) = mean_i tanh(a_i x + b_i)``, as docs/your-particles.md has it."""
    x = np.linspace(-2, 2, 24)
    y = np.sin(1.5 * x)
    problem = mf.Problem(
        energy=mf.TwoLayerNetwork(x, y, activation="tanh", axes=("a", "b"), roles=("weight", "bias")),
        axes=[mf.Axis("a", -5, 5), mf.Axis("b", -5, 5)],
        initial=mf.Product(a=stats.norm(0, 0.7), b=stats.norm(0, 0.7)),
        t_end=2.0,
    )
    solution = mf.solve(problem, (48, 48), save=[1.0, 2.0], progress=False)

    def train(n, lr, seed, factor):
        rng = np.random.default_rng([n, seed])
        a, b = rng.normal(0, 0.7, (2, n))
        frames = []
        for k in range(round(2.0 / lr) + 1):
            if round(k * lr, 9) in (0.0, 1.0, 2.0):
                frames.append(np.stack([a, b], axis=1))
            hidden = np.tanh(x[:, None] * a + b)
            error = (hidden.mean(axis=1) - y) / len(x)
            back = error[:, None] * (1 - hidden**2) / n
            a, b = a - lr * factor * n * (x @ back), b - lr * factor * n * back.sum(axis=0)
        return frames

    def records(factor):
        return [
            ParticleRecord([train(n, lr, seed, factor) for seed in range(16)], [0.0, 1.0, 2.0], dt=lr)
            for n, lr in ((50, 0.1), (800, 0.1), (800, 0.2))
        ]

    quantities = [Quantity.ENERGY, Quantity.RESPONSE, Quantity.W1]
    assert compare(solution, records(1.0), quantities=quantities).verdict is Verdict.CONSISTENT
    assert compare(solution, records(0.5), quantities=quantities).verdict is Verdict.INCONSISTENT


def test_times_that_differ_by_rounding_are_compared_once(bumps):
    """0.1 added up five times is 0.5; records and exact laws with the times of two grids have both."""
    summed = 0.5 * (1 + 2e-16)
    x = np.random.default_rng(3).normal(0, 0.8, (4, 3, 40, 1))
    found = compare(bumps, ParticleRecord(x, [0.5, summed, 1.0]), times=[0.5, summed])
    assert found.times.tolist() == [0.5]
    assert compare(bumps, ParticleRecord(x, [0.5, summed, 1.0])).times.tolist() == [0.5, 1.0]
    problem = mf.problems.linear_neuron()
    mean, variance = problem.exact["mean"], problem.exact["variance"]
    exact = mf.ExactLaw(
        problem, lambda t: mf.Product(theta=stats.norm(mean(t), variance(t) ** 0.5)), [0, 0.3, 0.1 + 0.2, 1]
    )
    found = compare(exact, sizes=[20, 40], replicas=4, dt=0.1)
    assert found.times.tolist() == [0.0, 0.3, 1.0]


def test_times_that_the_reference_did_not_save_are_named(bumps):
    x = np.random.default_rng(3).normal(0, 0.8, (4, 2, 40, 1))
    found = compare(bumps, ParticleRecord(x, [0.5, 0.7]))
    assert found.times.tolist() == [0.5]
    assert any("left out: 0.7" in note for note in found.notes)


def test_a_limit_that_no_particles_follow_is_named():
    """Half of the mass descends from 3.31e-9 of the start, by 1600 nodes: a right code of 2000 particles is not called
    inconsistent, and ten of them are there from 3e9 on.
    """
    problem = mf.problems.linear_neuron(target=4.0, alpha=5.0, mean=-2.0, variance=0.2)
    reference = mf.characteristics(problem, save=[0.05, 1.0], tolerance=1e-7, progress=False)
    found = mf.compare(
        reference, sizes=[200, 2000], replicas=12, dt=5e-3, quantities=[mf.Quantity.ENERGY], progress=False
    )
    energy = found["energy"]
    assert energy.z[-1] > found.threshold  # the gap is there
    assert energy.verdict is mf.Verdict.UNDECIDED
    assert "half of the mass descends from 3e-09 of the start" in energy.reason
    assert "sizes of 3e+09 and more can follow this limit" in energy.reason
    assert any("fewer than about 3e+08 neurons" in note for note in found.notes)
    # ten particles of the smallest size where half of the mass comes from
    plan = found.plan()
    assert plan.sizes[0] == pytest.approx(10 / found.ancestral_mass[-1], rel=1e-6)
    assert plan.work == pytest.approx(plan.sizes[0] / 200, rel=1e-6)
    assert "have particles where the mass descends from" in str(found)


def test_gaps_of_few_ancestors_look_like_no_fault():
    """A right code, 0.486 of whose 50 particles start where half of the mass at t = 1 comes from (0.00973 of the start,
    by 1600 nodes; the few that are asked here know it to a twentieth).

    Such gaps look like an interaction 1.1 times as strong, and like other faults; the cause is the one that is named.
    """
    solution = mf.solve(mf.problems.linear_neuron(), progress=False)
    for seed in (2, 3):
        found = mf.compare(solution, sizes=[50, 400], replicas=32, dt=0.025, seed=seed, progress=False)
        assert found.looks_like == ""
        assert all(fit.z <= found.threshold for fit in found.fits.values())
        line = str(found).splitlines()[0]
        said = re.search(r"undecided: (0\.\d+) of 50 particles start where half of the mass comes from", line)
        assert said is not None
        assert float(said.group(1)) == pytest.approx(0.486, rel=0.05)
        assert "half of the mass descends from 0.0" in found["W2 of theta"].reason


def test_where_the_mass_comes_from_is_found_for_a_mesh_too():
    from mfpde.verification.comparison.procedure import _ancestral

    problem = mf.problems.linear_neuron(target=4.0, alpha=5.0, mean=-2.0, variance=0.2)
    at = np.array([0.0, 0.1, 1.0])
    solution = mf.solve(problem, save=at[1:].tolist(), progress=False)
    exact = mf.characteristics(problem, save=at[1:].tolist(), tolerance=1e-7, progress=False).ancestral_mass
    # a few nodes tell the order of magnitude
    np.testing.assert_allclose(np.log10(_ancestral(solution, problem, at)), np.log10(exact), atol=0.2)
    assert _ancestral(solution, dataclasses.replace(problem, temperature=0.1, parameters=None), at) is None
    assert _ancestral(mf.solve(problem, save=3, initial=solution.density[-1], progress=False), problem, at) is None


def test_an_excuse_is_for_gaps_where_no_particles_start_only():
    """The same gap, with enough particles where the mass comes from, is inconsistent."""
    from mfpde.verification.comparison.findings import ANCESTORS, Verdict
    from mfpde.verification.comparison.statistics import _excused, _Judgement

    one = np.ones(1)
    case = _Judgement(one, one, one, one, 9.0, 0.0, Verdict.INCONSISTENT, "a gap")
    sizes = np.array([100.0, 1000.0])
    for there, verdict in ((0.9 * ANCESTORS, Verdict.UNDECIDED), (1.1 * ANCESTORS, Verdict.INCONSISTENT)):
        rules = Rules(1e-3, 4.0, False, np.array([there / 100.0]))
        assert _excused(case, sizes, 0, rules).verdict is verdict
    assert _excused(case, sizes, 0, Rules(1e-3, 4.0, False)).verdict is Verdict.INCONSISTENT
    # it is said of what is undecided as well, where there is a gap
    few = Rules(1e-3, 4.0, False, np.array([0.01]))
    for score, said in ((9.0, True), (1.0, False)):
        undecided = _Judgement(one, one, one, one, score, 0.0, Verdict.UNDECIDED, "a gap")
        assert ("descends from" in _excused(undecided, sizes, 0, few).reason) is said
