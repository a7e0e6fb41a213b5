"""Particles: exact chains, closed forms, laws of large numbers with stated bands, and bit-for-bit reproducibility.

Statistical tests use fixed seeds and a band of z standard errors. With z = 5 a right code fails once in 10^6 draws of
the seed; the chains' extinction times use the band of 4 standard errors under which they are known.
"""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats
from shared import printed_by, quadratic, quiet

import mfpde as mf
from mfpde.particles import SGD, BirthDeath, GradientDescent, Langevin, PopulationControl, Weights, coupled
from mfpde.particles.ensemble import Batches, systematic
from mfpde.particles.fields import DirectField, Mesh, MeshField, make_field, mesh_shape
from mfpde.particles.random_streams import generator

Z = 5.0

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def states(levels, alpha=1.0, **options):
    """Particles that stay where they are, at 0.5, 1.5, .. with V = levels[0], levels[1], ..: pure reaction."""
    values = np.array(levels, dtype=float)

    def potential(x):
        return values[np.clip(np.floor(x), 0, len(values) - 1).astype(int)]

    return mf.Problem(
        energy=mf.External(potential, lambda x: (0.0 * x,)),
        axes=[mf.Axis("x", 0.0, float(len(values)))],
        initial=mf.Dirac(x=0.5),
        alpha=alpha,
        **options,
    )


def two_axes_network(activation="tanh"):
    x = np.linspace(-1, 1, 12)
    network = mf.TwoLayerNetwork(
        x, np.sin(3 * x), activation=activation, axes=("a", "b"), roles=("weight", "bias"), tolerance=0.0
    )
    return mf.Problem(
        energy=network + mf.Confinement(a=0.1),
        axes=[mf.Axis("a", -4, 4), mf.Axis("b", -4, 4)],
        initial=mf.Product(a=stats.norm(0, 0.5), b=stats.norm(0, 0.5)),
        alpha=1.0,
        t_end=1.0,
    )


def circle():
    return mf.Problem(
        energy=mf.External(lambda x: -2 * np.cos(x), lambda x: (2 * np.sin(x),))
        + mf.Interaction(mf.SeparableKernel(x=mf.CosineKernel((1.0, 0.5, 0.25)))),
        axes=[mf.Axis("x", 0, 2 * np.pi, mf.End.PERIODIC)],
        initial=mf.Product(x=stats.uniform(0, 2 * np.pi)),
        alpha=1.0,
    )


def convolution():
    kernel = mf.TranslationInvariantKernel(
        lambda x: np.exp(-(np.abs(x) ** 2) / 0.02), lambda x: (-100 * x * np.exp(-(x**2) / 0.02),)
    )
    return mf.Problem(
        energy=mf.Interaction(kernel),
        axes=[mf.Axis("x", -1, 1)],
        initial=mf.Product(x=stats.uniform(-0.9, 1.8)),
    )


PROBLEMS = {
    "three-gaussians": lambda: mf.problems.three_gaussians(alpha=5.0),
    "bumps-1": mf.problems.gaussian_bumps,
    "bumps-2": lambda: mf.problems.gaussian_bumps(centres=[(-1.0, 0.5), (1.0, 0.0)]),
    "single-index": mf.problems.single_index,
    "circle": circle,
    "convolution": convolution,
}


# ---------------------------------------------------------------------------------------------- fields


@pytest.mark.parametrize("shape", [(24,), (4, 20), (20, 4), (16, 18), (4, 4, 16), (17, 4, 16)])
def test_interpolation_is_exact_for_its_polynomials_and_deposit_is_its_transpose(shape):
    rng = np.random.default_rng(3)
    d = len(shape)
    axes = [mf.Axis(name, -1.0, 1.5) for name in "xyzw"[:d]]
    grid = mf.Grid(axes, shape)
    mesh = Mesh(grid)
    factors = [np.polynomial.Polynomial(rng.standard_normal(4 if n == 4 else 8)) for n in shape]
    values = np.ones(shape)
    for i, factor in enumerate(factors):
        values = values * factor(grid.mesh()[i])
    points = np.array([-1.0] * d) + 2.5 * rng.random((2, 50, d))
    points[0, :2] = [[-1.0] * d, [1.5] * d]  # the corners
    table = np.stack([values.ravel(), 2 * values.ravel()])
    exact = math.prod(factor(points[..., i]) for i, factor in enumerate(factors))
    scale = np.max(np.abs(values))
    got = mesh.interpolate(points, table, False)
    assert np.max(np.abs(got - [[1.0], [2.0]] * exact)) < 1e-11 * scale
    slopes = mesh.interpolate(points, table, True)
    for i, factor in enumerate(factors):
        others = math.prod(f(points[..., j]) for j, f in enumerate(factors) if j != i)
        assert np.max(np.abs(slopes[..., i] - [[1.0], [2.0]] * factor.deriv()(points[..., i]) * others)) < 1e-9 * scale
    weights = rng.standard_normal((2, 50))
    density = mesh.deposit(points, weights)
    assert np.allclose(density.sum(axis=1), weights.sum(axis=1), rtol=0, atol=1e-12)
    table = rng.standard_normal(table.shape)
    assert np.sum(density * table) == pytest.approx(np.sum(weights * mesh.interpolate(points, table, False)), rel=1e-11)


@pytest.mark.parametrize("shape", [(16,), (16, 24)])
def test_periodic_meshes_have_no_ends(shape):
    """Points moved by cells see the values moved by cells; deposit is still the transpose."""
    rng = np.random.default_rng(1)
    d = len(shape)
    mesh = Mesh(mf.Grid([mf.Axis(name, 0.0, 1.0, mf.End.PERIODIC) for name in "xy"[:d]], shape))
    values = rng.standard_normal((1, *shape))
    points = rng.random((1, 200, d))
    got = mesh.interpolate(points, values.reshape(1, -1), True)
    moved = np.roll(values, 5, axis=d)  # the last axis
    points_moved = points.copy()
    points_moved[..., -1] = np.mod(points[..., -1] + 5 / shape[-1], 1.0)
    assert np.max(np.abs(mesh.interpolate(points_moved, moved.reshape(1, -1), True) - got)) < 1e-9 * np.max(np.abs(got))
    weights = rng.standard_normal((1, 200))
    total = np.sum(mesh.deposit(points, weights) * values.reshape(1, -1))
    back = np.sum(weights * mesh.interpolate(points, values.reshape(1, -1), False))
    assert abs(total - back) < 1e-12 * np.sum(np.abs(weights))


@pytest.mark.parametrize("name", PROBLEMS)
def test_mesh_field_equals_the_energy_on_points(name):
    problem = PROBLEMS[name]()
    shape = mesh_shape(problem.bound_energy)
    assert shape is not None
    rng = np.random.default_rng(0)
    low = np.array([axis.lower for axis in problem.axes])
    length = np.array([axis.length for axis in problem.axes])
    points = low + length * rng.random((3, 200, len(low)))
    weights = rng.random((3, 200)) / 100
    mesh, direct = MeshField(problem.bound_energy, shape), DirectField(problem.bound_energy)
    assert np.max(np.abs(mesh.measure(points, weights) - direct.measure(points, weights)), initial=0.0) < 1e-10
    scale = np.max(np.abs(direct.potential(points)))
    assert np.max(np.abs(mesh.energies() - direct.energies())) < 1e-10 * scale
    assert np.max(np.abs(mesh.potential(points) - direct.potential(points))) < 3e-10 * scale
    slopes = direct.gradient(points)
    assert np.max(np.abs(mesh.gradient(points) - slopes)) < 1e-8 * np.max(np.abs(slopes))


def test_fields_are_chosen_by_smoothness_and_size():
    assert mesh_shape(two_axes_network("relu").bound_energy) is None
    assert mesh_shape(mf.problems.three_gaussians().bound_energy)[0] == 4  # linear in the amplitude
    bumps = mf.problems.gaussian_bumps(centres=[(-1.0, 0.5), (1.0, 0.0)])
    assert isinstance(make_field(bumps, 100), DirectField)
    assert isinstance(make_field(bumps, 10**5), MeshField)
    assert isinstance(make_field(quadratic(), 10**5), DirectField)  # one moment


# ---------------------------------------------------------------------------------------------- gradient descent


def test_quadratic_closed_form_for_every_n():
    """The mean of n particles is multiplied by 1 - (a + b) dt a step; its variance is that of the start, contracted."""
    a, b, n, dt = 1.3, 0.7, 16, 0.02
    cloud = quiet(quadratic(a, b), n, dt=dt, t_end=1.0, replicas=500, seed=2)
    assert cloud.scheme.reaction is None
    mean = cloud.positions[..., 0].mean(axis=2)
    factor = (1 - (a + b) * dt) ** np.round(cloud.times / dt)
    assert np.max(np.abs(mean - factor * mean[:, :1])) < 1e-13
    spread = cloud.positions[..., 0] - mean[..., None]
    assert np.max(np.abs(spread - ((1 - a * dt) ** np.round(cloud.times / dt))[:, None] * spread[:, :1])) < 1e-13
    assert np.max(np.abs(cloud.response[..., 0] - mean)) < 1e-13
    energy = 0.5 * a * (cloud.positions[..., 0] ** 2).mean(axis=2) + 0.5 * b * mean**2
    assert np.max(np.abs(cloud.energy - energy)) < 1e-12
    # n Var(mean) = s_0 (1 - (a+b) dt)^(2k); the sample variance of R normal draws has relative error sqrt(2/R)
    scaled = n * np.var(mean, axis=0, ddof=1) / factor**2
    assert np.all(np.abs(scaled / 0.36 - 1) < Z * math.sqrt(2 / 500))


def test_sampling_variance_of_the_start_is_exact():
    """n E |u_n - u|^2 = int |Phi|^2 dmu_0 - |u|^2 for i.i.d. particles."""
    problem = mf.problems.gaussian_bumps()
    bound = problem.bound_energy
    nodes, weights = problem.mu_0.nodes(200)
    u = bound.response(nodes, weights)
    features = np.stack([bound.response(node[None], np.ones(1)) for node in nodes])
    exact = float(weights @ (features**2).sum(axis=1) - u @ u)
    n, replicas = 128, 1500
    cloud = quiet(problem, n, t_end=0.01, dt=0.01, save=2, replicas=replicas, keep_positions=False, seed=4)
    gaps = n * ((cloud.response[:, 0] - u) ** 2).sum(axis=1)
    assert abs(gaps.mean() - exact) < Z * gaps.std() / math.sqrt(replicas)
    assert gaps.std() / math.sqrt(replicas) < 0.04 * exact  # the band is narrow


def test_gradient_steps_converge_with_order_one():
    problem = mf.problems.quadratic_well(alpha=0.0)
    start = problem.mu_0.sample(40, np.random.default_rng(0))
    steps, errors = [0.04, 0.02, 0.01], []
    for dt in steps:
        cloud = quiet(problem, 40, dt=dt, t_end=1.0, initial=start)
        errors.append(np.max(np.abs(cloud.positions[0, -1] - start * math.exp(-1.3))))
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(slope - 1) < 0.05
    assert errors[-1] < 0.012


def test_metric_and_schedule_scale_the_steps():
    base = quadratic()
    problem = mf.Problem(
        energy=base.energy,
        axes=base.axes,
        initial=base.initial,
        metric=[lambda x: 1.0 + 0.5 * x**2],
        schedule=mf.PowerLaw(-0.5),  # infinite at 0, with integral 2 sqrt(t)
    )
    x = np.array([[0.3], [1.2]])
    cloud = quiet(problem, 2, dt=0.01, t_end=0.01, initial=x)
    gradient = 1.3 * x + 0.7 * x.mean()
    expected = x - 0.2 * (1 + 0.5 * x**2) * gradient
    assert np.max(np.abs(cloud.positions[0, -1] - expected)) < 1e-14


def test_ends_wrap_stop_or_reflect():
    push = lambda sign: mf.External(lambda x: -sign * x, lambda x: (np.full_like(x, -sign),))  # noqa: E731
    start = np.array([[0.85], [0.5]])
    wall = mf.Problem(energy=push(1.0), axes=[mf.Axis("x", 0, 1)], initial=mf.Product(x=stats.uniform()))
    assert np.allclose(quiet(wall, 2, dt=0.2, t_end=0.2, initial=start).positions[0, -1, :, 0], [1.0, 0.7])
    ring = mf.Problem(
        energy=mf.External(lambda x: -x, lambda x: (np.full_like(x, -1.0),)),
        axes=[mf.Axis("x", 0, 1, mf.End.PERIODIC)],
        initial=mf.Product(x=stats.uniform()),
    )
    assert np.allclose(quiet(ring, 2, dt=0.2, t_end=0.2, initial=start).positions[0, -1, :, 0], [0.05, 0.7])

    @dataclass(frozen=True)
    class Still(Langevin):
        def amplitude(self, temperature, dt):
            return 0.0

    warm = mf.Problem(
        energy=push(1.0), axes=[mf.Axis("x", 0, 1)], initial=mf.Product(x=stats.uniform()), temperature=0.1
    )
    cloud = quiet(warm, 2, dt=0.2, t_end=0.2, initial=start, dynamics=(GradientDescent(), Still()))
    assert np.allclose(cloud.positions[0, -1, :, 0], [0.95, 0.7])


# ---------------------------------------------------------------------------------------------- birth-death


def chain(n, alpha_delta, dt):
    """The exact one-step matrix of the number k of bad ones under Algorithm 1, two states, K = 0."""
    P = np.zeros((n + 1, n + 1))
    P[0, 0] = P[n, n] = 1.0
    for k in range(1, n):
        kill = -math.expm1(-alpha_delta * (1 - k / n) * dt)
        clone = -math.expm1(-alpha_delta * (k / n) * dt)
        kills = stats.binom(k, kill).pmf(np.arange(min(k, 9) + 1))
        clones = stats.binom(n - k, clone).pmf(np.arange(min(n - k, 9) + 1))
        for a, pa in enumerate(kills):
            for b, pb in enumerate(clones):
                size, bad = n - a + b, k - a
                m = abs(size - n)
                for j in range(max(0, m - size + bad), min(m, bad) + 1):  # hypergeometric
                    law = math.comb(bad, j) * math.comb(size - bad, m - j) / math.comb(size, m)
                    P[k, bad - j if size > n else bad + j] += pa * pb * law
    assert np.max(np.abs(P.sum(axis=1) - 1)) < 1e-7
    return P


def extinction(control, dt, replicas, seed):
    """delta * (number of saves at which bad ones are left), a replica; n = 50, k_0 = 25, alpha = 1, Delta = 0.8."""
    start = np.full((50, 1), 0.5)
    start[:25] = 1.5
    cloud = quiet(
        states([0.0, 0.8]),
        50,
        dynamics=BirthDeath(control),
        dt=dt,
        t_end=16.0,
        save=161,
        initial=start,
        replicas=replicas,
        seed=seed,
        keep_positions=False,
        observe={"bad": lambda x, w: np.count_nonzero(x > 1)},
    )
    bad = cloud.observed["bad"]
    assert np.all(np.diff(bad, axis=1) <= 0)  # pure death
    return 0.1 * np.count_nonzero(bad > 0, axis=1)


def test_one_for_one_control_is_the_pure_death_chain():
    """E[T] = sum_j (n - 1) / (alpha Delta j (n - j)) = 5.53603, within 4 standard errors."""
    exact = sum(49 / (0.8 * j * (50 - j)) for j in range(1, 26))
    assert exact == pytest.approx(5.53603, abs=5e-6)
    times = extinction(PopulationControl.PARTNER, 0.02, 350, 1) - 0.05  # left sums count half a save too much
    error = times.std() / math.sqrt(len(times))
    assert error < 0.1
    assert abs(times.mean() - exact) < 4 * error


def test_one_for_one_partners_are_others_and_overwritten_events_are_void():
    """n = 2, exactly: the first event makes both equal, and there is no second one."""

    @dataclass(frozen=True)
    class Sure(BirthDeath):
        def probabilities(self, excess, alpha, dt):
            return np.where(excess == 0, 0.0, 1.0)

    control, problem = PopulationControl.PARTNER, states([0.0, 1.0])
    for start in ([[0.5], [1.5]], [[1.5], [0.5]]):
        options = {"initial": np.array(start), "replicas": 100}
        rare = quiet(problem, 2, dynamics=BirthDeath(control), dt=2**-8, t_end=8.0, save=2, **options)
        assert np.all(rare.positions[:, -1] == 0.5)
        assert np.all(rare.kills[:, -1] + rare.births[:, -1] == 1)
        # both events at once: a birth first overwrites the one that was to die
        sure = quiet(problem, 2, dynamics=Sure(control), dt=1.0, t_end=1.0, **options)
        assert np.all(sure.births[:, -1] == 1)
        assert abs(sure.kills[:, -1].mean() - 0.5) < Z * 0.5 / math.sqrt(100)


def test_uniform_control_is_its_own_exact_chain():
    """Algorithm 1 at a large step, against the chain of that step: within 4 standard errors."""
    dt = 0.1
    P, state, expected = chain(50, 0.8, dt), np.zeros(51), 0.0
    state[25] = 1.0
    for _ in range(161):
        expected += 0.1 * (1 - state[0])
        state = state @ P
    times = extinction(PopulationControl.UNIFORM, dt, 600, 2)
    error = times.std() / math.sqrt(len(times))
    assert error < 0.075
    assert abs(times.mean() - expected) < 4 * error


def test_kill_and_clone_have_the_mean_field_limit_of_the_weights():
    """One start, many replicas of events: the mean over replicas is the weighted dynamics, z = 5 and 0.3% of bias."""
    problem = mf.problems.quadratic_well(alpha=2.0)
    n, replicas = 1000, 100
    start = np.sort(problem.mu_0.sample(n, np.random.default_rng(5)), axis=0)
    options = {"dt": 0.005, "t_end": 0.5, "save": 3, "initial": start}
    events = quiet(problem, n, dynamics=BirthDeath(), replicas=replicas, seed=6, **options)
    weighted = quiet(problem, n, dynamics=Weights(), **options)
    assert events.kills[:, -1].min() > 100
    for power in (1, 2):
        got = events.moment("x", power)
        exact = weighted.moment("x", power)[0]
        assert abs(got.mean() - exact) < Z * got.std() / math.sqrt(replicas) + 3e-3 * abs(exact)
        assert abs(exact - (start**power).mean() * math.exp(-1.3 * 0.5 * power)) > 0.05  # selection matters


def test_weights_follow_the_closed_form_with_order_one():
    problem = mf.problems.quadratic_well()
    n = 4000
    start = stats.norm(1.5, math.sqrt(0.7)).ppf((np.arange(n) + 0.5) / n)[:, None]
    steps, errors = [0.04, 0.02, 0.01], []
    for dt in steps:
        cloud = quiet(problem, n, dynamics=Weights(), dt=dt, t_end=0.3, initial=start, save=2)
        errors.append(abs(cloud.energy[0, -1] / problem.exact["energy"](0.3) - 1))
    assert abs(np.polyfit(np.log(steps), np.log(errors), 1)[0] - 1) < 0.1
    assert errors[-1] < 0.0025


def test_weights_are_exact_without_transport():
    """log w_1 / w_2 = -alpha (f(V_1) - f(V_2)) int s dt, at round-off, with a schedule in alpha and in time."""
    options = {"rate": lambda v: v**3, "schedule": mf.PowerLaw(1.0)}
    problem = states([0.5, 2.0, -1.0], alpha=3.0, **options)
    start = np.array([[0.5], [1.5], [2.5]])
    cloud = quiet(problem, 3, dynamics=Weights(), dt=0.07, t_end=0.7, initial=start)
    w = cloud.weights[0]
    exact = -3.0 * 0.5 * cloud.times**2
    assert np.max(np.abs(np.log(w[:, 0] / w[:, 1]) - exact * (0.125 - 8.0))) < 1e-12
    assert np.max(np.abs(np.log(w[:, 2] / w[:, 1]) - exact * (-1.0 - 8.0))) < 1e-12
    assert np.max(np.abs(w.sum(axis=1) - 1)) < 1e-14
    assert np.max(np.abs(cloud.ess[0] - 1 / (w**2).sum(axis=1))) < 1e-12


def test_resampling_keeps_the_measure_and_the_sample_size():
    w = np.array([0.5, 0.1, 0.2, 0.2])
    assert systematic(w, 0.1).tolist() == [0, 0, 1, 2]  # at 0.025, 0.275, 0.525, 0.775
    assert systematic(7 * w, 0.9).tolist() == [0, 0, 2, 3]  # at 0.225, 0.475, 0.725, 0.975
    rng = np.random.default_rng(0)
    w = rng.random(50) ** 3
    for uniform in (0.0, 0.4, 0.999999):
        counts = np.bincount(systematic(w, uniform), minlength=50)
        assert np.all(np.abs(counts - 50 * w / w.sum()) < 1 + 1e-12)
    problem = mf.problems.quadratic_well(alpha=6.0)
    cloud = quiet(problem, 400, dynamics=Weights(resample=0.7), dt=0.02, t_end=1.0, seed=1, replicas=50)
    plain = quiet(problem, 400, dynamics=Weights(), dt=0.02, t_end=1.0, seed=1, replicas=50)
    assert cloud.ess.min() >= 0.7 * 400 * 0.9
    assert plain.ess[:, -1].max() < 0.5 * 400
    assert np.max(np.abs(cloud.mass - 1)) < 1e-12
    gap = cloud.moment("x") - plain.moment("x")
    assert abs(gap.mean()) < Z * gap.std() / math.sqrt(50)


def test_unbalanced_reaction_changes_the_mass():
    problem = states([0.7, 0.7], alpha=2.0, reaction="unbalanced")
    weighted = quiet(problem, 10, dynamics=Weights(), dt=0.05, t_end=1.0)
    assert np.max(np.abs(weighted.mass[0] - np.exp(-1.4 * weighted.times))) < 1e-14
    assert np.max(np.abs(weighted.weights[0].sum(axis=1) - weighted.mass[0])) < 1e-14
    growing = states([-0.7, -0.7], alpha=2.0, reaction="unbalanced")
    for case, rate in ((problem, -1.4), (growing, 1.4)):
        events = quiet(case, 500, dynamics=BirthDeath(), dt=0.01, t_end=0.5, replicas=60, seed=3, save=2)
        mass = events.mass[:, -1]
        bias = 1.01 if rate > 0 else 1.0  # births of probability 1 - exp(-x) make exp(x) only to first order
        assert abs(mass.mean() / math.exp(0.5 * rate) - 1) < Z * mass.std() / mass.mean() / math.sqrt(60) + bias - 1
        assert mass.std() > 0
        assert np.max(np.abs(events.points(replica=3)[1].sum() - mass[3])) < 1e-12


def reinjected(levels, kind):
    return states(levels, alpha=2.0, reinjection=mf.Reinjection(mf.Dirac(x=0.5), kind))


@pytest.mark.parametrize("kind", ["refill", "replace"])
def test_deaths_are_refilled_from_the_measure(kind):
    """V = 1 dies, V = 0 holds mu_b: the fraction left is exp(-alpha t), binomial, for any step."""
    n, replicas = 400, 100
    start = np.full((n, 1), 1.5)
    cloud = quiet(reinjected([0.0, 1.0], kind), n, dt=0.1, t_end=0.5, save=2, initial=start, replicas=replicas, seed=8)
    left = np.count_nonzero(cloud.positions[:, -1] > 1, axis=(1, 2))
    p = math.exp(-1.0)
    assert abs(left.mean() - n * p) < Z * math.sqrt(n * p * (1 - p) / replicas)
    assert abs(left.var() / (n * p * (1 - p)) - 1) < Z * math.sqrt(2 / replicas)
    assert np.array_equal(cloud.injections[:, -1], n - left)
    assert np.array_equal(cloud.kills[:, -1], n - left)
    assert cloud.births.max() == 0


def test_births_beside_reinjection_are_paid_by_everybody():
    """V = -1 duplicates, all are killed uniformly: the logistic law (refill). Under replace nothing happens."""
    n, replicas = 1000, 40
    start = np.full((n, 1), 0.5)
    start[:200] = 1.5
    options = {"dt": 0.01, "t_end": 0.5, "save": 2, "initial": start, "replicas": replicas, "seed": 9}
    cloud = quiet(reinjected([0.0, -1.0], "refill"), n, **options)
    share = np.mean(cloud.positions[:, -1] > 1, axis=(1, 2))
    exact = 1 / (1 + 4 * math.exp(-1.0))
    assert abs(share.mean() - exact) < Z * share.std() / math.sqrt(replicas) + 0.01 * exact
    assert cloud.injections.max() == 0
    assert cloud.births.min(axis=0)[-1] > 0
    still = quiet(reinjected([0.0, -1.0], "replace"), n, **options)
    assert np.array_equal(still.positions[:, -1], still.positions[:, 0])


def test_general_rate_decides_who_dies():
    """A step function as rate: two states on one side of it are neutral, though their V differ."""
    problem = states([0.0, 1.0, 5.0], rate=lambda v: np.where(v > 2, 1.0, 0.0))
    start = np.repeat([[0.5], [1.5], [2.5]], 100, axis=0)
    neutral = quiet(problem, 200, dynamics=BirthDeath(), dt=0.1, t_end=1.0, initial=start[:200])
    assert neutral.kills[0, -1] == neutral.births[0, -1] == 0
    cloud = quiet(problem, 300, dynamics=BirthDeath(), dt=0.02, t_end=1.0, initial=start, replicas=40, seed=1)
    counts = [np.count_nonzero(np.floor(cloud.positions[:, -1, :, 0]) == k, axis=1) for k in range(3)]
    exact = 300 * 0.5 * math.exp(-1.0) / (1 + 0.5 * math.exp(-1.0))
    assert abs(counts[2].mean() - exact) < Z * counts[2].std() / math.sqrt(40) + 0.01 * exact
    gap = counts[0] - counts[1]
    assert abs(gap.mean()) < Z * gap.std() / math.sqrt(40)


@pytest.mark.parametrize("control", PopulationControl)
def test_a_constant_added_to_the_potential_changes_nothing(control):
    """Bit for bit: all numbers are dyadic. Without the mean the limit is the same, the events are not."""
    start = np.repeat([[0.5], [1.5]], 64, axis=0)
    options = {"dynamics": BirthDeath(control), "dt": 2**-5, "t_end": 2.0, "initial": start, "replicas": 3}
    plain, shifted = (quiet(states(levels), 128, **options) for levels in ([0.0, 0.75], [64.0, 64.75]))
    assert plain.kills[:, -1].min() > 0
    assert np.array_equal(plain.positions, shifted.positions)
    assert np.array_equal(plain.births, shifted.births)


def test_a_wrong_scheme_is_a_subclass():
    @dataclass(frozen=True)
    class Reversed(BirthDeath):
        def excess(self, values, mean):
            return mean - values

    start = np.repeat([[0.5], [1.5]], 100, axis=0)
    right, wrong = (
        quiet(states([0.0, 1.0]), 200, dynamics=scheme, dt=0.02, t_end=1.0, initial=start).energy[0, -1]
        for scheme in (BirthDeath(), Reversed())
    )
    assert right < 0.4
    assert wrong > 0.6


# ---------------------------------------------------------------------------------------------- noise


def test_langevin_has_the_exact_finite_n_law():
    """Euler-Maruyama in a quadratic: n Var(mean) and Var X_i in closed form for every n and dt."""
    a, b, tau, n, dt, steps, replicas = 1.3, 0.7, 0.4, 8, 0.05, 30, 1200
    problem = quadratic(a, b, temperature=tau)
    cloud = quiet(problem, n, dt=dt, t_end=dt * steps, save=2, replicas=replicas, seed=7)
    assert isinstance(cloud.scheme.noise, Langevin)
    x = cloud.positions[:, -1, :, 0]
    q, p = (1 - (a + b) * dt) ** 2, (1 - a * dt) ** 2
    v = 0.36 / n * q**steps + 2 * tau * dt / n * (1 - q**steps) / (1 - q)
    within = (1 - 1 / n) * (0.36 * p**steps + 2 * tau * dt * (1 - p**steps) / (1 - p))
    mean = x.mean(axis=1)
    assert abs(mean.mean() - 1.5 * (1 - (a + b) * dt) ** steps) < Z * math.sqrt(v / replicas)
    assert abs(np.var(mean, ddof=1) / v - 1) < Z * math.sqrt(2 / replicas)
    assert abs(x.var(axis=1).mean() / within - 1) < Z * math.sqrt(2 / replicas / (n - 1))


def test_langevin_on_curved_rates_keeps_the_flat_measure():
    """F = 0: the uniform law is stationary for every metric; without the drift tau dg it would be 1/g."""
    problem = mf.Problem(
        energy=mf.External(lambda x: 0.0 * x, lambda x: (0.0 * x,)),
        axes=[mf.Axis("x", 0, 2 * np.pi, mf.End.PERIODIC)],
        initial=mf.Product(x=stats.uniform(0, 2 * np.pi)),
        metric=[lambda x: 1 + 0.6 * np.sin(x)],
        temperature=1.0,
    )
    n = 10000
    cloud = quiet(problem, n, dt=0.01, t_end=2.0, save=2, seed=11)
    x = cloud.positions[0, -1, :, 0]
    for moment in (np.sin(x), np.cos(x), np.sin(2 * x), np.cos(2 * x)):
        assert abs(moment.mean()) < Z * math.sqrt(0.5 / n) + 0.01


def test_langevin_reflects_at_walls():
    """F = 0: the uniform law is stationary between walls; particles that stopped there would pile up."""
    problem = mf.Problem(
        energy=mf.External(lambda x: 0.0 * x, lambda x: (0.0 * x,)),
        axes=[mf.Axis("x", 0, 1)],
        initial=mf.Product(x=stats.uniform()),
        temperature=0.2,
    )
    n = 20000
    x = quiet(problem, n, dt=0.05, t_end=2.0, save=2, seed=12).positions[0, -1, :, 0]
    counts = np.histogram(x, 20, (0, 1))[0]
    assert np.max(np.abs(counts - n / 20)) < Z * math.sqrt(n / 20 * 0.95) + 1
    assert np.all((x > 0) & (x < 1))


# ---------------------------------------------------------------------------------------------- mini-batches


def test_batches_are_unbiased_and_one_pass_uses_every_sample_once():
    problem = two_axes_network()
    points = problem.mu_0.sample(5, np.random.default_rng(1))[None]
    weights = np.full((1, 5), 0.2)
    direct = DirectField(problem.bound_energy)
    direct.measure(points, weights)
    full = direct.gradient(points)[0]
    whole = Batches(problem, SGD(12, one_pass=True), [np.random.default_rng(0)])
    assert np.max(np.abs(whole.gradient(points, weights)[0] - full)) < 1e-13
    draws = Batches(problem, SGD(3), [np.random.default_rng(2)])
    sample = np.stack([draws.gradient(points, weights)[0] for _ in range(1500)])
    band = Z * sample.std(axis=0) / math.sqrt(1500)
    assert np.all(np.abs(sample.mean(axis=0) - full) < band)
    assert np.all(sample[:, :, 1].std(axis=0) > 1e-3)
    # four batches of three, no sample twice: the gradients average to the full one at fixed particles
    passes = Batches(problem, SGD(3, one_pass=True), [np.random.default_rng(3)])
    sample = np.stack([passes.gradient(points, weights)[0] for _ in range(4)])
    assert np.max(np.abs(sample.mean(axis=0) - full)) < 1e-13


def test_weighted_samples_are_drawn_by_their_weights():
    x = np.linspace(-1, 1, 6)
    network = mf.TwoLayerNetwork(x, x**2, weights=[1, 2, 3, 4, 0, 6], axes=("a",), roles=("weight",), tolerance=0.0)
    problem = mf.Problem(energy=network, axes=[mf.Axis("a", -4, 4)], initial=mf.Product(a=stats.norm(0, 0.5)))
    points, weights = np.array([[[0.5], [-1.0]]]), np.full((1, 2), 0.5)
    direct = DirectField(problem.bound_energy)
    direct.measure(points, weights)
    draws = Batches(problem, SGD(4), [np.random.default_rng(4)])
    sample = np.stack([draws.gradient(points, weights)[0] for _ in range(1500)])
    assert np.all(np.abs(sample.mean(axis=0) - direct.gradient(points)[0]) < Z * sample.std(axis=0) / math.sqrt(1500))


def test_sgd_noise_vanishes_with_the_step():
    """The spread over batch draws from one start falls like dt^(1/2)."""
    problem = two_axes_network()
    start = problem.mu_0.sample(10, np.random.default_rng(0))
    steps, spread = [0.05, 0.0125], []
    for dt in steps:
        cloud = quiet(problem, 10, dynamics=SGD(2), dt=dt, t_end=0.5, save=2, initial=start, replicas=60, seed=5)
        assert cloud.scheme.reaction is None
        spread.append(cloud.positions[:, -1].std(axis=0).mean())
    slope = math.log(spread[0] / spread[1]) / math.log(4)
    assert abs(slope - 0.5) < 0.2


# ---------------------------------------------------------------------------------------------- reproducibility

SCHEMES = {
    "events": (lambda: mf.problems.three_gaussians(alpha=5.0), None, 60),
    "injected": (lambda: mf.problems.three_gaussians(alpha=5.0, reinjection="refill"), None, 60),
    "weights": (mf.problems.gaussian_bumps, Weights(resample=0.9), 60),
    "noise": (lambda: quadratic(temperature=0.3), None, 60),
    "batches": (two_axes_network, (SGD(3), BirthDeath(PopulationControl.PARTNER)), 20),
    "direct": (lambda: two_axes_network("relu"), None, 20),
    "circle": (circle, None, 60),
}


def same(a, b, replicas=slice(None), times=slice(None)):
    for name in ("positions", "energy", "response", "mass", "ess", "kills", "births", "injections"):
        left, right = getattr(a, name), getattr(b, name)
        assert np.array_equal(left, right[replicas][:, times]), name


@pytest.mark.parametrize("name", SCHEMES)
def test_results_depend_on_nothing_but_seed_and_replica(name):
    make, dynamics, n = SCHEMES[name]
    problem = make()
    options = {"dynamics": dynamics, "dt": 0.02, "t_end": 0.4, "seed": 17}
    full = quiet(problem, n, replicas=5, save=5, **options)
    assert full.kills[:, -1].any() or full.weights is not None or full.scheme.noise is not None
    same(quiet(problem, n, replicas=5, save=5, **options), full)
    same(quiet(problem, n, replicas=2, save=5, **options), full, slice(2))
    same(quiet(problem, n, replicas=5, save=5, workers=3, **options), full)
    same(quiet(problem, n, replicas=5, save=[0.2], **options), full, times=[0, 2, 4])
    other = quiet(problem, n, replicas=5, save=5, **{**options, "seed": 18})
    assert not np.array_equal(other.positions, full.positions)
    assert len({x.tobytes() for x in full.positions[:, 0]}) == 5  # replicas differ


def test_blocks_of_replicas_change_nothing(monkeypatch):
    problem = mf.problems.three_gaussians(alpha=5.0)
    options = {"dt": 0.02, "t_end": 0.2, "replicas": 7, "seed": 3}
    full = quiet(problem, 50, **options)
    monkeypatch.setattr("mfpde.particles.simulation.BLOCK", 100)
    same(quiet(problem, 50, **options), full)


# ---------------------------------------------------------------------------------------------- against the grid


@pytest.mark.parametrize("dynamics", [BirthDeath(), Weights(), GradientDescent()], ids=["events", "weights", "descent"])
def test_response_gap_falls_like_one_over_n(dynamics):
    """Slope -1 of the mean squared response gap to the mean field: within 5 standard deviations of the fit, 0.17."""
    alpha = 0.0 if isinstance(dynamics, GradientDescent) else 1.0
    problem = mf.problems.gaussian_bumps(alpha=alpha)
    dt, t_end, sizes, replicas = 0.025, 0.5, (32, 128, 512), 200
    m = 6000
    start = stats.norm(0, 0.8).ppf((np.arange(m) + 0.5) / m)[:, None]
    limit = quiet(problem, m, dynamics=Weights() if alpha else GradientDescent(), dt=dt, t_end=t_end, initial=start)
    gaps = []
    for n in sizes:
        cloud = quiet(
            problem, n, dynamics=dynamics, dt=dt, t_end=t_end, save=2, replicas=replicas, seed=21, keep_positions=False
        )
        gaps.append(np.mean(((cloud.response[:, -1] - limit.response[0, -1]) ** 2).sum(axis=1)))
    slope = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    assert abs(slope + 1) < 0.17
    assert gaps[-1] * sizes[-1] < 4.0


def test_mean_field_limit_is_the_grid_solution():
    """Quantile starts, halving dt: the response extrapolated to dt = 0 is the solution's."""
    problem = mf.problems.gaussian_bumps(alpha=1.0)
    solution = mf.solve(problem, shape=(200,), t_end=0.5, progress=False)
    m = 20000
    start = stats.norm(0, 0.8).ppf((np.arange(m) + 0.5) / m)[:, None]
    u = [
        quiet(problem, m, dynamics=Weights(), dt=dt, t_end=0.5, save=2, initial=start).response[0, -1]
        for dt in (0.02, 0.01)
    ]
    exact = solution.response_at(0.5)
    assert np.linalg.norm(u[1] - exact) < 2e-2
    assert np.linalg.norm(2 * u[1] - u[0] - exact) < 3e-4


# ---------------------------------------------------------------------------------------------- coupling


class Exact:
    """The mean field of `quadratic`: its response is the mean."""

    def __init__(self, rate):
        self.rate = rate

    def response_at(self, t):
        return np.array([1.5 * math.exp(-self.rate * t)])


def test_coupled_quadratic_in_closed_form():
    a, b, dt, n = 1.3, 0.7, 0.02, 9
    cloud = coupled(quadratic(a, b), Exact(a + b), n, dt=dt, t_end=1.0, save=51, replicas=4, seed=1)
    mean = cloud.positions[:, :, :, 0].mean(axis=2)
    gap = np.zeros((4, 51))
    for k in range(50):
        gap[:, k + 1] = (1 - a * dt) * gap[:, k] - b * dt * (mean[:, k] - 1.5 * math.exp(-(a + b) * k * dt))
    assert np.max(np.abs(cloud.difference[..., 0] - gap[:, :, None])) < 1e-13
    assert np.max(np.abs(cloud.rms - np.abs(gap))) < 1e-13
    assert np.max(np.abs(cloud.response[..., 0] - mean)) < 1e-13
    assert np.max(np.abs(cloud.twin_response[..., 0] - cloud.twins[..., 0].mean(axis=2))) < 1e-13
    assert np.max(np.abs(cloud.growth + a)) < 1e-9
    assert np.max(np.abs(cloud.norm - a)) < 1e-9
    assert np.max(np.abs(cloud.norm_integral - a * cloud.times[:, None])) < 1e-9
    assert np.max(np.abs(cloud.growth_integral)) == 0.0
    # the same starts as simulate
    plain = quiet(quadratic(a, b), n, dt=dt, t_end=1.0, save=51, replicas=4, seed=1)
    assert np.max(np.abs(plain.positions - cloud.positions)) < 1e-13
    # shared noise cancels
    warm = coupled(quadratic(a, b, temperature=0.3), Exact(a + b), n, dt=dt, t_end=1.0, replicas=4, seed=1)
    assert np.max(np.ptp(warm.difference, axis=2)) < 1e-12
    assert np.max(np.abs(warm.positions[:, -1] - cloud.positions[:, -1])) > 0.1


def test_particles_without_interaction_are_their_twins():
    problem = mf.problems.double_well(alpha=0.0)
    solution = type("None_", (), {"response_at": lambda self, t: np.empty(0)})()
    cloud = coupled(problem, solution, 20, dt=0.01, t_end=0.5, seed=2)
    assert np.max(np.abs(cloud.difference)) == 0.0
    hessian = 12 * cloud.twins[..., 0] ** 2 - 4
    assert np.max(np.abs(cloud.growth + hessian)) < 1e-6
    assert np.max(np.abs(cloud.norm - np.abs(hessian))) < 1e-6


def test_coupled_error_scales_like_the_root_of_n():
    problem = mf.problems.gaussian_bumps(alpha=0.0)
    solution = mf.solve(problem, shape=(200,), t_end=0.5, progress=False)
    sizes = (50, 200, 800)
    rms = [
        np.sqrt(
            np.mean(
                coupled(problem, solution, n, dt=0.025, replicas=60, seed=3, save=2, t_end=0.5, hessian=False).rms[
                    :, -1
                ]
                ** 2
            )
        )
        for n in sizes
    ]
    # the mean square over R replicas has relative error sqrt(2/R): 5 of them over the fit is 0.17
    assert abs(np.polyfit(np.log(sizes), np.log(rms), 1)[0] + 0.5) < 0.17
    assert rms[-1] < 0.02


def test_local_hessian_in_two_dimensions():
    """Eigenvalues of -D(G grad V) against differences of the potential."""
    problem = mf.problems.three_gaussians(alpha=0.0)
    u = problem.bound_energy.response(*problem.mu_0.nodes(24))
    frozen = type("Frozen", (), {"response_at": lambda self, t: u})()
    cloud = coupled(problem, frozen, 6, dt=0.01, t_end=0.01, save=2, seed=4)
    y, h = cloud.twins[0, 0], 1e-3
    bound = problem.bound_energy
    hessian = np.empty((6, 2, 2))
    for i in range(2):
        for j in range(2):
            e, f = h * np.eye(2)[i], h * np.eye(2)[j]
            V = [bound.potential(y + s * e + r * f, u) for s in (1, -1) for r in (1, -1)]
            hessian[:, i, j] = (V[0] - V[1] - V[2] + V[3]) / (4 * h * h)
    assert np.max(np.abs(cloud.growth[0, 0] + np.linalg.eigvalsh(hessian)[:, 0])) < 1e-5
    assert np.max(np.abs(cloud.norm[0, 0] - np.max(np.abs(np.linalg.eigvalsh(hessian)), axis=1))) < 1e-5


# ---------------------------------------------------------------------------------------------- the cloud


def test_cloud_gives_measures_moments_and_outputs():
    problem = mf.problems.three_gaussians(alpha=5.0)
    cloud = quiet(
        problem,
        30,
        dt=0.03,
        t_end=0.1,
        save=3,
        replicas=2,
        seed=0,
        observe={"mean": lambda x, w: w @ x, "n": lambda x, w: len(x)},
    )
    assert cloud.dt == pytest.approx(0.025)
    assert np.allclose(cloud.times, [0, 0.05, 0.1])
    points, weights = cloud.points(0.05, 1)
    assert cloud.observed["mean"].shape == (2, 3, 2)
    assert np.allclose(cloud.observed["mean"][1, 1], points.mean(axis=0))
    assert cloud.observed["n"].shape == (2, 3)
    assert np.allclose(cloud.moment("c", 2, 0.05)[1], (points[:, 0] ** 2).mean())
    assert isinstance(cloud.measure(0.05, 1), mf.Particles)
    u = problem.bound_energy.response(points, weights)
    assert np.max(np.abs(cloud.response[1, 1] - u)) < 1e-10
    assert cloud.energy[1, 1] == pytest.approx(problem.bound_energy.energy(points, weights), abs=1e-11)
    x = np.array([0.0, 1.0])
    bumps = np.exp(-((x[:, None] - points[:, 1]) ** 2)) / math.sqrt(math.pi)
    assert np.allclose(cloud.predict(x, 0.05, 1), bumps @ points[:, 0] / 30)
    assert "2 replicas of 30 particles" in str(cloud)
    assert "4 x 384 cells" in cloud.evaluation
    with pytest.raises(ValueError, match="no save time"):
        cloud.points(0.04)
    with pytest.raises(ValueError, match="no axis"):
        cloud.moment("z")
    light = quiet(problem, 30, dt=0.05, t_end=0.1, keep_positions=False)
    with pytest.raises(ValueError, match="keep_positions"):
        light.points()


def test_an_interrupt_stops_all_workers():
    """Ctrl-C reaches one thread; the others stop at their next step, and not at the end."""
    seen = []

    def observe(points, weights):
        seen.append(len(seen))
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # all of it would take four seconds
        return 0.0

    line = mf.problems.linear_neuron()
    with pytest.raises(KeyboardInterrupt):
        quiet(line, 10, dt=1 / 400, save=401, replicas=2, workers=2, observe={"slowly": observe})
    assert len(seen) < 2 * 401


def test_observables_whose_shape_changes_do_not_cost_the_simulation():
    """The particles that are left of the middle, whose number is never twice the same."""
    line = mf.problems.linear_neuron()
    cloud = quiet(line, 30, t_end=0.2, save=3, replicas=2, observe={"left": lambda x, w: x[x < 0.5]})
    left = cloud.observed["left"]
    assert left.shape == (2, 3)
    assert left.dtype == object
    for r in range(2):
        for j, t in enumerate(cloud.times):
            points, _ = cloud.points(t, r)
            np.testing.assert_array_equal(left[r, j], points[points < 0.5])


def test_measures_and_arrays_as_starts():
    problem = quadratic()
    other = quiet(problem, 50, t_end=0.01, initial=mf.Product(x=stats.norm(-2, 0.1)))
    assert np.all(other.positions[0, 0] < -1)
    given = np.arange(12.0).reshape(2, 6, 1) / 10
    cloud = quiet(problem, 6, t_end=0.01, replicas=2, initial=given)
    assert np.array_equal(cloud.positions[:, 0], given)


def test_default_dynamics_are_the_problems():
    assert quiet(quadratic(), 4, t_end=0.01).scheme.reaction is None
    assert quiet(mf.problems.gaussian_bumps(alpha=1.0), 4, t_end=0.01).scheme.reaction == BirthDeath()
    warm = quiet(quadratic(temperature=0.1), 4, t_end=0.01).scheme
    assert warm.noise == Langevin()
    cold = quiet(quadratic(temperature=0.1), 4, t_end=0.01, dynamics=GradientDescent()).scheme
    assert cold.noise is None


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("n must be", lambda: quiet(quadratic(), 1)),
        ("replicas must be", lambda: quiet(quadratic(), 4, replicas=0)),
        ("workers must be", lambda: quiet(quadratic(), 4, workers=0)),
        ("seed must be", lambda: quiet(quadratic(), 4, seed=-1)),
        ("dt must be", lambda: quiet(quadratic(), 4, dt=0.0)),
        ("t_end must be", lambda: quiet(quadratic(), 4, t_end=math.inf)),
        ("no multiple of dt", lambda: quiet(quadratic(), 4, dt=0.1, t_end=1.0, save=[0.25])),
        ("no multiple of dt", lambda: quiet(quadratic(), 4, dt=0.1, t_end=1.0, save=[2.0])),
        ("save must be", lambda: quiet(quadratic(), 4, save=0)),
        ("must have shape", lambda: quiet(quadratic(), 4, initial=np.zeros((3, 1)))),
        ("outside the box", lambda: quiet(quadratic(), 4, initial=np.full((4, 1), 99.0))),
        ("one reaction", lambda: quiet(quadratic(), 4, dynamics=(BirthDeath(), Weights()))),
        ("no part of", lambda: quiet(quadratic(), 4, dynamics=("birth-death",))),
        ("temperature > 0", lambda: quiet(quadratic(), 4, dynamics=Langevin())),
        ("one TwoLayerNetwork", lambda: quiet(quadratic(), 4, dynamics=SGD(2))),
        ("the data has 12", lambda: quiet(two_axes_network(), 4, dynamics=SGD(2, one_pass=True))),
        ("batch must be", lambda: SGD(0)),
        ("fraction of n", lambda: Weights(resample=1.5)),
        ("PopulationControl", lambda: BirthDeath("partner")),
        ("weights cannot", lambda: quiet(reinjected([0.0, 1.0], "refill"), 4, dynamics=Weights())),
        (
            "one-for-one",
            lambda: quiet(reinjected([0.0, 1.0], "refill"), 4, dynamics=BirthDeath(PopulationControl.PARTNER)),
        ),
        ("alpha=0", lambda: coupled(mf.problems.gaussian_bumps(alpha=1.0), Exact(1.0), 4)),
        ("needs a response|need a response", lambda: coupled(convolution(), Exact(1.0), 4)),
        ("moments", lambda: coupled(mf.problems.gaussian_bumps(alpha=0.0), Exact(1.0), 4)),
    ],
)
def test_refusals_name_the_reason(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def test_total_extinction_and_blow_up_are_errors():
    doomed = states([9.0, 9.0], alpha=100.0, reaction="unbalanced")
    with pytest.raises(FloatingPointError, match="died within one step"):
        quiet(doomed, 4, dt=1.0, t_end=1.0)
    wild = mf.Problem(
        energy=mf.External(lambda x: 0.0 * x, lambda x: (np.where(x > 0, np.nan, 0.0),)),
        axes=[mf.Axis("x", -1, 1)],
        initial=mf.Product(x=stats.uniform(-1, 2)),
    )
    with pytest.raises(FloatingPointError, match="not finite"):
        quiet(wild, 20, dt=0.1, t_end=0.1)


def to_the_right(x):
    """V = -x up to a wall at 1; beyond, nothing is known."""
    return np.where(x < 1, -x, np.nan)


def broken(function, slope, **options):
    energy = mf.External(function, lambda x: (slope(x),))
    return mf.Problem(energy, [mf.Axis("x", -2, 2)], mf.Dirac(x=0.75), **options)


@pytest.mark.parametrize(
    ("problem", "arguments", "match"),
    [
        # x = 0.75 + t reaches the wall at t = 0.25
        (
            broken(lambda x: -x, lambda x: np.where(x < 1, -1.0, np.nan)),
            {},
            r"velocity is not finite at x = 1, t = 0\.25",
        ),
        (
            broken(lambda x: -x, lambda x: np.where(x < 1, -1.0, -np.inf)),
            {},
            r"velocity is not finite at x = 1, t = 0\.25 \(inf\)",
        ),
        # without an effect on the motion: events would stay away in silence, weights become nan
        (broken(to_the_right, lambda x: -np.ones_like(x), alpha=1.0), {}, r"V is not finite at x = 1, t = 0\.25"),
        (
            broken(to_the_right, lambda x: -np.ones_like(x), alpha=1.0),
            {"dynamics": Weights()},
            r"V is not finite at x = 1, t = 0\.25",
        ),
        (
            broken(
                lambda x: -200 * x,
                lambda x: np.full_like(x, -200.0),
                alpha=1.0,
                rate=lambda v: np.where(v < -190, np.nan, v),
                metric=[1 / 200],
            ),
            {"dynamics": BirthDeath()},
            r"birth-death rate is not finite at x = 1, t = 0\.25",
        ),
        (broken(to_the_right, lambda x: -np.ones_like(x)), {"save": [0.25]}, r"V is not finite at x = 1, t = 0\.25"),
        (
            mf.Problem(
                mf.Features(
                    lambda x: np.where(x < 1, x, np.nan)[None],
                    mf.SquaredLoss([2.0]),
                    lambda x: (np.ones_like(x)[None],),
                ),
                [mf.Axis("x", -2, 2)],
                mf.Product(x=stats.uniform(-1, 2.5)),
            ),
            {},
            r"a feature of the energy is not finite at x = 1\.\d+, t = 0",
        ),
    ],
)
def test_what_is_not_finite_is_named_with_its_place(problem, arguments, match):
    with pytest.raises(FloatingPointError, match=match) as caught:
        quiet(problem, 64, **{"dt": 0.125, "t_end": 1.0, "save": 2, **arguments})
    assert "smaller dt" not in str(caught.value)


def test_a_metric_out_of_range_is_named_with_its_place():
    problem = mf.Problem(
        mf.External(lambda x: -x, lambda x: (-np.ones_like(x),)), [mf.Axis("x", -2, 2)], mf.Dirac(x=0.75),
        metric=[lambda x: np.where(x < 1, 1.0, -1.0)],
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"the metric of axis 'x' is -1 at x = 1; it must be finite and not negative"):
        quiet(problem, 64, dt=0.125, t_end=1.0)


def test_streams_are_independent_of_their_number():
    few, many = np.random.SeedSequence(5).spawn(2), np.random.SeedSequence(5).spawn(9)
    assert generator(few[1], 1).random() == generator(many[1], 1).random()
    assert generator(few[1], 0).random() != generator(few[1], 1).random()


def test_evaluations_a_step(monkeypatch):
    """Birth-death needs two measures a step, gradient descent one: the cost, in counts."""
    counts = []
    measure = DirectField.measure
    monkeypatch.setattr(DirectField, "measure", lambda self, *a: counts.append(1) or measure(self, *a))
    quiet(quadratic(), 4, dt=0.1, t_end=1.0)
    assert len(counts) == 11
    counts.clear()
    quiet(mf.problems.quadratic_well(alpha=1.0), 4, dt=0.1, t_end=1.0)
    assert len(counts) == 21


def test_import_is_lazy():
    code = """
import sys, mfpde
assert 'mfpde.particles' not in sys.modules
mfpde.particles.simulate
assert 'numba' not in sys.modules
"""
    assert printed_by(code) == ""


def test_starts_across_the_seam_of_a_periodic_axis():
    """A law is wound round, positions are wrapped; only the motion after that is the simulation's."""
    axis = mf.Axis("x", 0, 2 * np.pi, mf.End.PERIODIC)
    flat = mf.Problem(mf.External(lambda x: 0 * x, lambda x: (0 * x,)), [axis], mf.Product(x=stats.norm(0, 0.3)))
    cloud = quiet(flat, 20_000, dt=0.1, t_end=0.1)
    # E exp(i x) = exp(-0.045) and E exp(2 i x) = exp(-0.18): the variances of cos x and sin x follow
    waves = np.exp(1j * cloud.points()[0][:, 0])
    first, second = np.exp(-0.045), np.exp(-0.18)
    assert abs(waves.mean().real - first) < Z * np.sqrt((0.5 + 0.5 * second - first**2) / 20_000)
    assert abs(waves.mean().imag) < Z * np.sqrt((0.5 - 0.5 * second) / 20_000)
    cloud = quiet(flat, 2, initial=np.array([[-0.5], [7.0]]), dt=0.1, t_end=0.1)
    np.testing.assert_allclose(cloud.points()[0][:, 0], [2 * np.pi - 0.5, 7 - 2 * np.pi], rtol=1e-15)
    with pytest.raises(ValueError, match=r"an initial position has x = nan, outside the box, Axis\(x in .*; remove it"):
        quiet(flat, 2, initial=np.array([[np.nan], [7.0]]))
    with pytest.raises(
        ValueError, match=r"an initial position has x = 13, outside the box, Axis\(x in .*; enlarge the axis"
    ):
        quiet(quadratic(), 2, initial=np.array([[13.0], [7.0]]))
