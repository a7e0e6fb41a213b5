"""Particles at a temperature: noise, base measures, annealing, and the free-energy reaction by a density estimate.

Gaussian problems stay Gaussian under the discrete scheme as well, so that its own recursion is the target and the step
no excuse. Statistical tests have a fixed seed and a band of 4 standard errors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special, stats
from shared import quadratic, quiet

import mfpde as mf
from mfpde.particles import BirthDeath, GradientDescent, KernelDensity, Langevin, PopulationControl, Weights, coupled

Z = 4.0
TAU = 2 * np.pi

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def last(cloud):
    """Final positions of all replicas along the first axis, (R, n)."""
    return cloud.positions[:, -1, :, 0]


def near(sample, exact, allowance=0.0):
    """Whether the mean of independent numbers is within 4 standard errors of what it should be."""
    sample = np.asarray(sample)
    error = sample.std(ddof=1) / math.sqrt(sample.size)
    assert abs(sample.mean() - exact) < Z * error + allowance, (sample.mean(), exact, error)
    return error


def gaussian(a=1.3, b=0.0, tau=0.4, **options):
    return quadratic(a, b, tau, **{"variance": 0.3, "half_width": 9.0, **options})


def euler(a, tau, dt, steps, start):
    """``s <- (1 - a dt)^2 s + 2 tau dt``, tau a number or one a step."""
    s = start
    for tau_k in np.broadcast_to(tau, steps):
        s = (1 - a * dt) ** 2 * s + 2 * tau_k * dt
    return s


# ---------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize(("dt", "replicas"), [(0.1, 200), (0.005, 40)])
def test_stationary_variance_of_a_well(dt, replicas):
    """tau/a in continuous time, tau/a / (1 - a dt/2) for Euler-Maruyama: the coarse run tells them apart."""
    a, tau, n = 1.3, 0.4, 1000
    cloud = quiet(gaussian(a, 0.0, tau), n, dt=dt, t_end=4.0, save=2, replicas=replicas, seed=1)
    second = (last(cloud) ** 2).mean(axis=1)
    discrete = tau / a / (1 - a * dt / 2)
    steps = round(4.0 / dt)
    error = near(second, euler(a, tau, dt, steps, 0.3) + (1.5 * (1 - a * dt) ** steps) ** 2)
    near(second, discrete)
    if dt > 0.05:
        assert discrete - tau / a > 12 * error
    else:
        near(second, tau / a)
        assert error < 0.01 * tau / a


@pytest.mark.parametrize("dt", [0.1, 0.02])
def test_bias_of_n_particles(dt):
    """E mbar^2 = m^2 + v and Var X_i = (1 - 1/N) s + v, by the scheme's recursion and by the flow's closed form."""
    a, b, tau, n, replicas, t = 1.3, 0.7, 0.4, 4, 3000 if dt > 0.05 else 500, 1.6
    steps = round(t / dt)
    cloud = quiet(gaussian(a, b, tau), n, dt=dt, t_end=t, save=2, replicas=replicas, seed=3)
    x = last(cloud)
    m = 1.5 * (1 - (a + b) * dt) ** steps
    s, v = euler(a, tau, dt, steps, 0.3), euler(a + b, tau / n, dt, steps, 0.3 / n)
    own = ((x - m) ** 2).mean(axis=1)
    near(x.mean(axis=1) ** 2, m**2 + v)
    error = near(own, (1 - 1 / n) * s + v)
    if dt > 0.05:
        assert abs(own.mean() - s) > 4 * error  # what is tested is not the mean field
    if dt < 0.05:
        decay = math.exp(-2 * (a + b) * t)
        m, v = 1.5 * math.exp(-(a + b) * t), 0.3 / n * decay + tau / (n * (a + b)) * (1 - decay)
        s = 0.3 * math.exp(-2 * a * t) + tau / a * (1 - math.exp(-2 * a * t))
        near(x.mean(axis=1) ** 2, m**2 + v)
        near(((x - m) ** 2).mean(axis=1), (1 - 1 / n) * s + v)


@pytest.mark.parametrize("clock", [1.0, mf.PowerLaw(-0.5)])
def test_annealing(clock):
    """s' = -2as + 2 tau(t): the step takes the mean of the temperature, exactly where the schedule is constant."""
    a, n, replicas, t = 1.3, 1000, 100, 1.2
    tau = mf.ExponentialDecay(1.0, 0.4) if clock == 1.0 else mf.Constant(0.4)
    for dt in (0.1, 0.01):
        steps = round(t / dt)
        cloud = quiet(gaussian(a, 0.0, tau, schedule=clock), n, dt=dt, t_end=t, save=2, replicas=replicas, seed=4)
        variance = last(cloud).var(axis=1, ddof=1)
        s = 0.3
        for k in range(steps):
            ds = dt if clock == 1.0 else clock.integral(k * dt, (k + 1) * dt)
            s = (1 - a * ds) ** 2 * s + 2 * ds * tau.integral(k * dt, (k + 1) * dt) / dt
        error = near(variance, s)
        assert error < 0.006 * s
    if clock == 1.0:
        exact = integrate.quad(lambda u: 2 * math.exp(-2 * a * (t - u)) * tau(u), 0, t)[0] + 0.3 * math.exp(-2 * a * t)
        assert tau(t) / a < 0.5 * exact < 0.5 / a  # far from the stationary law of either end
        near(variance, exact, allowance=0.01 * a * exact)


def test_a_metric_does_not_move_the_gibbs_measure():
    """g(x) = 1 + 0.7 sin(x) with its drift tau g': the law stays exp(-V/tau)."""
    k, tau = 1.1, 0.5
    problem = mf.Problem(
        energy=mf.External(lambda x: -k * tau * np.cos(x), lambda x: (k * tau * np.sin(x),)),
        axes=[mf.Axis("x", 0, TAU, mf.End.PERIODIC)],
        initial=mf.Density(lambda p: np.exp(k * np.cos(p[:, 0]))),
        metric=[lambda x: 1 + 0.7 * np.sin(x)],
        temperature=tau,
    )
    x = last(quiet(problem, 1000, dt=0.01, t_end=1.5, save=2, replicas=16, seed=5))
    near(np.cos(x).ravel(), special.iv(1, k) / special.iv(0, k), allowance=0.003)
    near(np.sin(x).ravel(), 0.0, allowance=0.003)


# ---------------------------------------------------------------------------------------------- base measures


def radius(d, a=1.3, tau=0.4, upper=6.0, **options):
    return mf.Problem(
        energy=mf.External(lambda r: 0.5 * a * r**2, lambda r: (a * r,)),
        axes=[mf.Axis("r", 0, upper, (mf.End.NATURAL, mf.End.TRUNCATION))],
        initial=mf.Product(r=stats.uniform(0.5, 1.0)),
        base=lambda r: r ** (d - 1),
        temperature=tau,
        **options,
    )


@pytest.mark.parametrize("d", [1.4, 2, 3])
@pytest.mark.parametrize("start", [0.0, 0.3, 1.1])
def test_one_step_of_a_radius_without_a_force_is_exact(d, start):
    """The transition of a Bessel process: a noncentral chi law, whatever the step; at an upper end as well."""
    tau, n = 0.4, 20000
    none = mf.External(lambda r: 0.0 * r, lambda r: (0.0 * r,))
    for ends, sign in (((mf.End.NATURAL, mf.End.TRUNCATION), 1), ((mf.End.TRUNCATION, mf.End.NATURAL), -1)):
        problem = mf.Problem(
            energy=none,
            axes=[mf.Axis("r", *sorted((0, 8 * sign)), ends)],
            initial=mf.Dirac(r=sign),
            base=lambda r: np.abs(r) ** (d - 1),
            temperature=tau,
        )
        x = last(quiet(problem, n, dt=0.3, t_end=0.3, seed=16, initial=np.full((n, 1), sign * start)))[0]
        scaled = (sign * x) ** 2 / (2 * tau * 0.3)
        law = stats.ncx2(d, start**2 / (2 * tau * 0.3)) if start > 0 else stats.chi2(d)
        assert stats.kstest(scaled, law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("d", [2, 3, 12])
def test_a_radius_in_a_well_is_the_length_of_a_vector(d):
    """Euler-Maruyama in d dimensions at a coarse step, its whole law: chi, with s <- (1 - a dt)^2 s + 2 tau dt."""
    a, tau, dt, n = 1.3, 0.4, 0.05, 20000
    cloud = quiet(radius(d), n, dt=dt, t_end=3.0, save=[dt, 0.5], seed=6, initial=np.zeros((n, 1)))
    for j in (1, 2, 3):
        r = cloud.positions[0, j, :, 0]
        s = euler(a, tau, dt, round(cloud.times[j] / dt), 0.0)
        near(r**2, d * s)
        assert stats.kstest(r, stats.chi(d, scale=math.sqrt(s)).cdf).pvalue > 1e-4
    assert s == pytest.approx(tau / a / (1 - a * dt / 2), rel=1e-3)
    fine = last(quiet(radius(d), n, dt=0.01, t_end=2.5, save=2, seed=8))[0]
    assert stats.kstest(fine, stats.chi(d, scale=math.sqrt(tau / a)).cdf).pvalue > 1e-4  # of the equation


@pytest.mark.parametrize("d", [3, 5])
def test_an_angle_of_the_sphere(d):
    """The law sin^{d-2} exp(k cos): natural ends at both poles."""
    k, tau = 1.4, 0.5
    problem = mf.Problem(
        energy=mf.External(lambda x: -k * tau * np.cos(x), lambda x: (k * tau * np.sin(x),)),
        axes=[mf.Axis("x", 0, np.pi, mf.End.NATURAL)],
        initial=mf.Product(x=stats.uniform(1, 1)),
        base=lambda x: np.sin(x) ** (d - 2),
        temperature=tau,
    )
    x = last(quiet(problem, 1000, dt=0.01, t_end=3.0, save=2, replicas=10, seed=9)).ravel()
    density = lambda x: np.sin(x) ** (d - 2) * np.exp(k * np.cos(x))  # noqa: E731
    total = integrate.quad(density, 0, np.pi)[0]
    for f in (np.cos, lambda x: np.cos(x) ** 2, lambda x: 1.0 * (x < 0.4), lambda x: 1.0 * (x > 2.5)):
        exact = integrate.quad(lambda x, f=f: f(x) * density(x), 0, np.pi, points=[0.4, 2.5])[0] / total
        near(f(x), exact, allowance=0.005)


def test_both_poles_are_alike():
    """From pole to pole, F = 0: the mirrored cloud."""
    problem = mf.Problem(
        energy=mf.External(lambda x: 0.0 * x, lambda x: (0.0 * x,)),
        axes=[mf.Axis("x", 0, np.pi, mf.End.NATURAL)],
        initial=mf.Product(x=stats.uniform(1, 1)),
        base=lambda x: np.sin(x) ** 2,
        temperature=0.5,
    )
    north, south = (
        last(quiet(problem, 500, dt=0.02, t_end=0.02, seed=17, initial=np.full((500, 1), pole)))[0]
        for pole in (0.0, np.pi)
    )
    assert np.max(np.abs(north + south - np.pi)) < 1e-6
    assert north.min() > 0.0


def test_polar_coordinates_are_the_plane():
    """Base r, metric (1, 1/r^2): a Gaussian in the plane, off the origin."""
    tau, shift = 0.4, 0.5
    problem = mf.Problem(
        energy=mf.External(
            lambda r, p: 0.5 * r**2 - shift * r * np.cos(p),
            lambda r, p: (r - shift * np.cos(p), shift * r * np.sin(p)),
        ),
        axes=[mf.Axis("r", 0, 6, (mf.End.NATURAL, mf.End.TRUNCATION)), mf.Axis("p", 0, TAU, mf.End.PERIODIC)],
        initial=mf.Product(r=stats.uniform(0.5, 1.0), p=stats.uniform(0, TAU)),
        base=lambda r, p: r + 0 * p,
        metric=[None, lambda r, p: 1 / np.maximum(r, 1e-2) ** 2 + 0 * p],
        temperature=tau,
    )
    r, p = np.moveaxis(quiet(problem, 1000, dt=0.01, t_end=4.0, save=2, replicas=6, seed=10).positions[:, -1], -1, 0)
    near((r * np.cos(p)).ravel(), shift, allowance=0.01)
    near((r * np.sin(p)).ravel(), 0.0)
    near((r**2).ravel(), 2 * tau + shift**2, allowance=0.01)


def test_a_base_measure_is_a_potential():
    """omega = exp(-F/tau) in place of F, on a circle and in the reaction: the same particles."""
    tau = 0.5
    force = mf.External(lambda x: -np.cos(x), lambda x: (np.sin(x),))
    none = mf.External(lambda x: 0.0 * x, lambda x: (0.0 * x,))
    common = {
        "axes": [mf.Axis("x", 0, TAU, mf.End.PERIODIC)],
        "initial": mf.Product(x=stats.uniform(0, TAU)),
        "metric": [lambda x: 1 + 0.5 * np.sin(x)],
        "temperature": tau,
        "alpha": 2.0,
        "reaction": "free-energy",
    }
    by_force = mf.Problem(energy=force, **common)
    by_base = mf.Problem(energy=none, base=lambda x: np.exp(np.cos(x) / tau), **common)
    options = {"dt": 0.01, "t_end": 0.5, "seed": 2, "dynamics": (Langevin(), Weights())}
    one, two = quiet(by_force, 200, **options), quiet(by_base, 200, **options)
    assert np.max(np.abs(one.positions - two.positions)) < 1e-7
    assert np.max(np.abs(one.weights / two.weights - 1)) < 1e-6
    assert np.ptp(one.weights[0, -1] * 200) > 0.3


def test_coupled_twins_feel_the_base():
    """Without interaction particle and twin are the same, whatever the base."""

    class Nothing:
        def response_at(self, t):
            return np.zeros(0)

    cloud = coupled(radius(3), Nothing(), 20, dt=0.02, t_end=0.4, hessian=False)
    assert np.array_equal(cloud.positions, cloud.twins)
    # the same law as alone, exactly
    many = coupled(radius(3), Nothing(), 4000, dt=0.05, t_end=0.15, hessian=False, initial=np.zeros((4000, 1)))
    near(many.positions[0, -1, :, 0] ** 2, 3 * euler(1.3, 0.4, 0.05, 3, 0.0))


# ---------------------------------------------------------------------------------------------- density estimate


def pairs(points, weights, axes, h, at):
    """The sum over pairs, mirror images and copies."""
    total = np.ones((len(at), len(points)))
    for i, axis in enumerate(axes):
        y, x = at[:, None, i], points[None, :, i]
        kernel = np.zeros(total.shape)
        for m in range(-4, 5):
            if axis.periodic:
                kernel += stats.norm.pdf(y - x + m * axis.length, scale=h[i])
            else:
                shift = 2 * m * axis.length
                kernel += stats.norm.pdf(y - x + shift, scale=h[i])
                kernel += stats.norm.pdf(y + x - 2 * axis.lower + shift, scale=h[i])
        total *= kernel
    return total @ weights


BOX = {
    "x": mf.Axis("x", -1, 2),
    "p": mf.Axis("p", 0, TAU, mf.End.PERIODIC),
    "z": mf.Axis("z", 0, 1, mf.End.NATURAL),
}


@pytest.mark.parametrize("names", ["x", "p", "xz", "xp", "pz", "xpz"])
@pytest.mark.parametrize("relative", [0.03, 0.15, 0.6])
def test_estimate_is_the_sum_over_pairs(names, relative):
    axes = [BOX[name] for name in names]
    rng = np.random.default_rng(0)
    low, length = np.array([axis.lower for axis in axes]), np.array([axis.length for axis in axes])
    points = low + length * rng.beta(0.7, 0.7, (300, len(axes)))  # many near the walls
    points[:2] = low, low + length * (1 - 1e-16)
    weights = (1 + rng.random(300)) / 450
    h = relative * length
    density = KernelDensity(tuple(h))
    exact = pairs(points, weights, axes, h, points)
    got = density.estimate(points, weights, axes)
    assert np.max(np.abs(got / exact - 1)) < 3e-3
    assert np.max(np.abs(got - exact)) < 5e-4 * len(axes) * exact.max()
    at = low + length * rng.random((100, len(axes)))
    exact = pairs(points, weights, axes, h, at)
    assert np.max(np.abs(density.estimate(points, weights, axes, at=at) - exact)) < 1e-3 * exact.max()


@pytest.mark.parametrize("off", [0.0, 0.06, 0.15, 0.5])
@pytest.mark.parametrize("width", [0.3, 1.5])
def test_estimate_near_one_wall(off, width):
    """The mesh holds the cloud and, where it feels one, its wall; mirrored clouds have mirrored densities."""
    rng = np.random.default_rng(4)
    weights, h = np.full(200, 1 / 200), 0.06
    points = -1.0 + off + width * rng.random((200, 1))
    got = KernelDensity(h).estimate(points, weights, [BOX["x"]])
    assert np.max(np.abs(got / pairs(points, weights, [BOX["x"]], [h], points) - 1)) < 2e-3
    mirrored = KernelDensity(h).estimate(1.0 - points, weights, [BOX["x"]])
    assert np.max(np.abs(mirrored / got - 1)) < 1e-9


@pytest.mark.parametrize("names", ["x", "p", "xp"])
def test_estimate_integrates_to_the_mass(names):
    axes = [BOX[name] for name in names]
    grid = mf.Grid(axes, [160] * len(axes))
    low, length = np.array([axis.lower for axis in axes]), np.array([axis.length for axis in axes])
    points = low + length * np.random.default_rng(1).beta(0.5, 0.5, (50, len(axes)))
    weights = np.random.default_rng(2).random(50)
    values = KernelDensity(0.3).estimate(points, weights, axes, at=grid.points())
    assert values.min() >= 0.0
    assert np.sum(values) * grid.cell_volume == pytest.approx(weights.sum(), rel=1e-4)


def test_estimate_has_the_kernels_variance_wherever_a_particle_sits():
    """One particle, moved through a cell: the second moment is h^2, to the cut of the kernel."""
    axis, h = mf.Axis("x", -6, 6), 0.5
    grid = mf.Grid([axis], [4000])
    x = grid.centres(0)
    for place in 0.31 + np.linspace(0, h / 3, 7):
        values = KernelDensity(h).estimate(np.array([[place]]), np.ones(1), [axis], at=x[:, None]) * grid.cell_volume
        assert abs(values @ x - place) < 1e-4
        assert abs(values @ (x - place) ** 2 / h**2 - 1) < 1e-4


def test_estimate_knows_only_the_cloud():
    """A cloud far from the walls: the box does not matter, nor does an isolated particle miss its own kernel."""
    rng = np.random.default_rng(3)
    points, weights = rng.standard_normal((400, 2)), np.full(400, 1 / 400)
    points[0] = 8.0, -8.0
    got = [
        KernelDensity(0.4).estimate(points, weights, [mf.Axis("x", -w, w), mf.Axis("y", -w, w)]) for w in (9.6, 38.4)
    ]
    assert np.max(np.abs(got[0] / got[1] - 1)) < 1e-9
    assert got[0][0] == pytest.approx(1 / 400 / (TAU * 0.16), rel=1e-3)


def test_bandwidth_rule():
    axes = [mf.Axis("x", -20, 20), mf.Axis("p", 0, TAU, mf.End.PERIODIC)]
    n = 20001
    normal = stats.norm.ppf((np.arange(n) + 0.5) / n)
    points = np.stack([1.5 * normal, np.mod(0.2 + 0.3 * normal, TAU)], axis=1)  # across the cut of the circle
    rule = KernelDensity().bandwidths
    expected = 0.9 * np.array([1.5, 0.3]) * n ** (-1 / 6)
    assert rule(points, np.full(n, 1 / n), axes) == pytest.approx(expected, rel=2e-3)
    # weights count: half of the normal law twice, a mass of 3; a particle without weight does not
    twice, weights = np.concatenate([points, points[:1] * 0 + 3]), np.append(np.full(n, 3 / n), 0.0)
    assert rule(twice, weights, axes) == pytest.approx(expected, rel=2e-3)
    heavy = np.where(np.abs(points[:, 0]) < 0.5, 1.0, 1e-12)
    size = np.count_nonzero(heavy == 1.0)
    assert rule(points, heavy, axes)[0] < 0.9 * 0.3 * size ** (-1 / 6) * 1.01
    # outliers do not stretch it, and a collapsed cloud has a least width
    outliers = np.concatenate([normal, np.full(n // 20, 18.0)])[:, None]
    assert rule(outliers, np.ones(len(outliers)), axes[:1])[0] < 1.1 * 0.9 * len(outliers) ** -0.2
    assert rule(np.full((9, 2), 1.0), np.ones(9), axes) == pytest.approx([0.04, 1e-3 * TAU])


# ---------------------------------------------------------------------------------------------- free energy


def reaction_step(m, s, a, b, alpha, tau, h, dt):
    """``mu exp(-kappa (V + tau log(K_h mu)))`` of a Gaussian, kappa = (1 - exp(-alpha tau dt)) / tau."""
    kappa = -math.expm1(-alpha * tau * dt) / tau
    smooth = tau / (s + h**2)
    new = 1 / (1 / s + kappa * (a - smooth))
    return new * m * (1 / s - kappa * (b + smooth)), new


PARTS = {
    "uniform": lambda h: BirthDeath(density=KernelDensity(h)),
    "partner": lambda h: BirthDeath(PopulationControl.PARTNER, KernelDensity(h)),
    "weights": lambda h: Weights(density=KernelDensity(h)),
}


@pytest.mark.parametrize("name", PARTS)
def test_birth_death_langevin_in_closed_form(name):
    """Drift, noise, interaction and reaction on: the Gaussian recursion with the kernel in it, and the Riccati flow."""
    a, b, tau, alpha, h, dt, t = 1.3, 0.7, 0.4, 0.9, 0.2, 0.01, 1.0
    n, replicas = 4000, 8
    problem = gaussian(a, b, tau, alpha=alpha, reaction="free-energy")
    dynamics = (GradientDescent(), Langevin(), PARTS[name](h))
    cloud = quiet(problem, n, dynamics=dynamics, dt=dt, t_end=t, save=2, replicas=replicas, seed=11)
    found = [cloud.points(replica=r) for r in range(replicas)]
    mean = np.array([w @ x[:, 0] for x, w in found])
    second = np.array([w @ x[:, 0] ** 2 for x, w in found])

    def recursion(h, dt):
        m, s = 1.5, 0.3
        for _ in range(round(t / dt)):
            m, s = (1 - (a + b) * dt) * m, (1 - a * dt) ** 2 * s + 2 * tau * dt
            m, s = reaction_step(m, s, a, b, alpha, tau, h, dt)
        return m, s

    m, s = recursion(h, dt)
    near(mean, m, allowance=2 / (n * h))  # of finite n
    error = near(second - mean**2, s, allowance=2 / (n * h))
    assert error < 0.006
    # the flow's own Riccati solution, and that the kernel's bias is what is documented
    exact = recursion(0.0, 1e-4)
    assert exact == pytest.approx((0.117192, 0.307293), abs=5e-5)
    biased = recursion(h, 1e-4)
    assert exact[1] - biased[1] > 0.004
    near(second - mean**2, exact[1], allowance=exact[1] - biased[1] + 2 / (n * h))


def test_free_energy_birth_death_does_not_move_the_minimiser_and_the_plain_one_does():
    """Stationary variance: tau/a with the logarithm (and a small kernel), smaller without."""
    a, tau, alpha, h = 1.3, 0.4, 4.0, 0.1
    variance = {}
    for reaction in ("free-energy", "balanced"):
        problem = gaussian(a, 0.0, tau, mean=0.0, alpha=alpha, reaction=reaction)
        dynamics = (Langevin(), BirthDeath(density=KernelDensity(h)))
        cloud = quiet(problem, 4000, dynamics=dynamics, dt=0.01, t_end=1.5, save=2, replicas=6, seed=12)
        variance[reaction] = last(cloud).var(axis=1)
    plain = (-1 + math.sqrt(1 + 2 * alpha * tau / a)) / alpha
    near(variance["balanced"], plain, allowance=0.01 * plain)
    s = tau / a
    for _ in range(400):  # with the kernel
        s += 0.05 * (-2 * a * s + 2 * tau - alpha * s**2 * (a - tau / (s + h**2)))
    assert 0.003 < tau / a - s < 0.02
    near(variance["free-energy"], s, allowance=0.01 * s + 2 / (4000 * h))
    assert plain < 0.8 * s


@pytest.mark.parametrize("resample", [None, 0.5])
def test_weights_follow_pure_fisher_rao(resample):
    """No motion: mu_0^q pi^{1-q}, q = exp(-alpha tau t), its moments with the kernel's recursion and without."""
    tau, alpha, dt, t, h, n, replicas = 0.5, 2.0, 0.02, 0.6, 0.3, 4000, 20
    centre, width = 0.6, 0.8  # pi = N(0.6, 0.8)
    problem = mf.Problem(
        energy=mf.External(lambda x: tau * (x - centre) ** 2 / (2 * width), lambda x: (tau * (x - centre) / width,)),
        axes=[mf.Axis("x", -9, 9)],
        initial=mf.Product(x=stats.norm(-0.4, math.sqrt(0.5))),
        metric=[0.0],
        temperature=tau,
        alpha=alpha,
        reaction="free-energy",
    )
    dynamics = Weights(resample, KernelDensity(h))
    cloud = quiet(problem, n, dynamics=dynamics, dt=dt, t_end=t, save=2, replicas=replicas, seed=13)
    assert np.max(np.abs(cloud.mass - 1)) < 1e-12
    mean, second = cloud.moment("x"), cloud.moment("x", 2)

    def recursion(h):
        m, s = -0.4, 0.5
        for _ in range(round(t / dt)):
            # V = tau ((x - m) + (m - centre))^2 / (2 width): seen from m, a force and no mean
            moved, new = reaction_step(0.0, s, tau / width, 0.0, alpha, tau, h, dt)
            kappa = -math.expm1(-alpha * tau * dt) / tau
            m, s = m + moved - new * kappa * tau * (m - centre) / width, new
        return m, s

    q = math.exp(-alpha * tau * t)
    exact = 1 / (q / 0.5 + (1 - q) / width)
    centre_exact = exact * (q * -0.4 / 0.5 + (1 - q) * centre / width)
    assert recursion(0.0) == pytest.approx((centre_exact, exact), rel=1e-12)
    m, s = recursion(h)
    near(mean, m, allowance=4 / (n * h))
    near(second, s + m**2, allowance=4 / (n * h))
    assert abs(m - centre_exact) + abs(s - exact) < 0.8 * h**2


def test_the_free_energy_step_has_no_limit():
    """alpha tau dt = 40 at once: weights that make the cloud's own estimate the Gibbs measure, not its mirror image."""
    tau, n = 0.5, 4000
    problem = mf.Problem(
        energy=mf.External(lambda x: tau * x**2 / 2, lambda x: (tau * x,)),
        axes=[mf.Axis("x", -9, 9)],
        initial=mf.Product(x=stats.norm(0.3, 1.2)),
        metric=[0.0],
        temperature=tau,
        alpha=80.0,
        reaction="free-energy",
    )
    cloud = quiet(problem, n, dynamics=Weights(density=KernelDensity(0.2)), dt=1.0, t_end=1.0, save=2, seed=14)
    assert abs(cloud.moment("x")[0]) < 0.05
    assert abs(cloud.moment("x", 2)[0] - 1.0) < 0.08


def test_a_double_well_is_crossed_by_birth_death_alone():
    """A barrier of 17 tau: Langevin keeps the start's tenth in the deep well, birth-death brings nine tenths there."""
    tau = 0.25
    V = lambda x: x**4 - 4 * x**2 + 0.2 * x  # noqa: E731
    problem = mf.Problem(
        energy=mf.External(V, lambda x: (4 * x**3 - 8 * x + 0.2,)),
        axes=[mf.Axis("x", -3, 3)],
        initial=mf.Mixture([(0.1, mf.Product(x=stats.norm(-1.4, 0.12))), (0.9, mf.Product(x=stats.norm(1.4, 0.12)))]),
        temperature=tau,
        alpha=4.0,
        reaction="free-energy",
    )
    gibbs = lambda x: np.exp(-(V(x) - V(-1.426552)) / tau)  # noqa: E731
    left, right = (
        integrate.quad(gibbs, *ends, points=[middle])[0] for ends, middle in (((-3, 0), -1.4), ((0, 3), 1.4))
    )
    exact = left / (left + right)
    assert 0.88 < exact < 0.92
    options = {"dt": 0.01, "t_end": 4.0, "save": 2, "replicas": 2, "seed": 15}
    stuck = last(quiet(problem, 1500, dynamics=Langevin(), **options))
    assert abs(np.mean(stuck < 0) - 0.1) < 0.03
    for density in (KernelDensity(0.04), KernelDensity()):
        crossed = last(quiet(problem, 1500, dynamics=(Langevin(), BirthDeath(density=density)), **options))
        assert abs(np.mean(crossed < 0) - exact) < 0.04


@pytest.mark.parametrize("name", PARTS)
def test_bits(name):
    """Seeds reproduce; workers, the number of replicas and save times do not matter."""
    problem = gaussian(1.3, 0.7, 0.4, alpha=2.0, reaction="free-energy", base=lambda x: np.exp(-(x**2) / 8))
    dynamics = (Langevin(), PARTS[name](None))
    run = lambda **options: quiet(problem, 300, dynamics=dynamics, dt=0.02, t_end=0.4, **options)  # noqa: E731
    full = run(replicas=5, seed=3, save=3)
    for other in (run(replicas=5, seed=3, save=3, workers=3), run(replicas=2, seed=3, save=11)):
        rows = other.replicas
        assert np.array_equal(full.positions[:rows, -1], other.positions[:, -1])
        assert np.array_equal(full.kills[:rows, -1], other.kills[:, -1])
        if full.weights is not None:
            assert np.array_equal(full.weights[:rows, -1], other.weights[:, -1])
    assert not np.array_equal(full.positions, run(replicas=5, seed=4, save=3).positions)
    if name != "weights":
        assert full.kills[:, -1].min() > 0


def test_bits_at_a_natural_end():
    run = lambda **options: quiet(radius(3), 100, dt=0.02, t_end=0.2, seed=3, save=2, **options).positions  # noqa: E731
    full = run(replicas=4)
    assert np.array_equal(full, run(replicas=4, workers=3))
    assert np.array_equal(full[:2], run(replicas=2))


def test_three_axes_and_an_end_of_the_temperature():
    """Three axes work; where a schedule has brought the temperature to 0 the reaction is the plain one."""
    axes = [mf.Axis(name, -4, 4) for name in "xyz"]
    energy = mf.Confinement(x=1.0, y=1.0, z=1.0)
    initial = mf.Product(**{name: stats.norm(0.5, 0.6) for name in "xyz"})
    options = {"axes": axes, "energy": energy, "initial": initial, "alpha": 1.0}
    warm = mf.Problem(temperature=0.3, reaction="free-energy", **options)
    cloud = quiet(warm, 500, dt=0.02, t_end=0.1, seed=1)
    assert cloud.kills[0, -1] > 0
    quench = mf.PiecewiseLinear([0.0, 0.1], [0.3, 0.0])
    dynamics = (GradientDescent(), Weights())
    start = quiet(warm, 60, dt=0.02, t_end=0.02, seed=1).positions[0, -1]
    cold = quiet(mf.Problem(**options), 60, dynamics=dynamics, dt=0.1, t_end=0.2, initial=start)
    quenched = mf.Problem(temperature=quench, reaction="free-energy", **options)
    ended = quiet(quenched, 60, dynamics=dynamics, dt=0.1, t_end=0.2, initial=start)
    first, second = np.log(ended.weights[0, 1]), np.log(ended.weights[0, 2])
    plain = np.log(cold.weights[0, 2]) - np.log(cold.weights[0, 1])
    assert np.ptp(second - first - plain) < 1e-12  # up to a constant
    assert np.ptp(first - np.log(cold.weights[0, 1])) > 1e-3


# ---------------------------------------------------------------------------------------------- refusals


def four_axes():
    axes = [mf.Axis(name, -1, 1) for name in "abcd"]
    return mf.Problem(
        energy=mf.Confinement(a=1.0),
        axes=axes,
        initial=mf.Product(**{name: stats.uniform(-0.5, 1) for name in "abcd"}),
        temperature=0.1,
        alpha=1.0,
        reaction="free-energy",
    )


def free():
    return gaussian(alpha=1.0, reaction="free-energy")


@pytest.mark.parametrize(
    ("match", "call"),
    [
        (r"one to three axes, not 4 \(a, b, c, d\); use", lambda: quiet(four_axes(), 4)),
        ("positive and finite", lambda: KernelDensity(0.0)),
        ("positive and finite", lambda: KernelDensity((0.1, -1.0))),
        ("positive and finite", lambda: KernelDensity(math.nan)),
        ("positive and finite", lambda: KernelDensity("silverman")),
        ("2 bandwidths for 1 axes", lambda: quiet(free(), 4, dynamics=BirthDeath(density=KernelDensity((0.1, 0.2))))),
        (r"KernelDensity\(h\)", lambda: BirthDeath(density=0.1)),
        (r"KernelDensity\(h\)", lambda: Weights(density=0.1)),
        ("larger bandwidth", lambda: quiet(free(), 4, dynamics=Weights(density=KernelDensity(1e-9)), dt=0.1)),
        ("outside x", lambda: KernelDensity(0.1).estimate(np.full((1, 1), 3.0), np.ones(1), [BOX["x"]])),
        ("base is", lambda: quiet(gaussian(base=lambda x: x), 4)),
    ],
)
def test_refusals_name_the_reason(match, call):
    with pytest.raises(ValueError, match=match):
        call()


def test_a_blow_up_is_an_error_not_a_place_in_memory():
    with pytest.raises(FloatingPointError, match="not finite"):
        KernelDensity(0.1).estimate(np.array([[0.0], [np.nan]]), np.ones(2) / 2, [BOX["x"]])


def test_four_axes_run_without_the_density():
    """The limit is the estimate's: Langevin and the plain reaction have none."""
    cloud = quiet(four_axes(), 20, dynamics=Langevin(), dt=0.05, t_end=0.1)
    assert cloud.positions.shape == (1, 3, 20, 4)
    four = {
        "energy": mf.Confinement(a=1.0),
        "axes": [mf.Axis(name, -1, 1) for name in "abcd"],
        "initial": mf.Product(**{name: stats.uniform(-0.5, 1) for name in "abcd"}),
    }
    cold = mf.Problem(alpha=1.0, reaction="free-energy", **four)
    assert quiet(cold, 20, dt=0.05, t_end=0.1).kills.shape == (1, 3)
