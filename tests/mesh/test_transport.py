"""Transport: orders, conservation, positivity, the energy law, symmetries, and an independent reference."""

import dataclasses
import itertools

import numpy as np
import pytest
from shared import EPS, EXPLICIT, box, name_of, printed_by, wavy

from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh import transport as module
from mfpde.mesh.schemes import Limiter, Muscl, ScharfetterGummel, Upwind, Weno5
from mfpde.mesh.transport import Transport
from mfpde.support.threads import THREADED_SIZE

SHAPES = [(37,), (4,), (131,), (19, 23), (7, 129), (150, 5), (9, 8, 11), (6, 4, 5, 7)]


def rough(shape, seed):
    """Densities with zeros, single-cell spikes, smooth hills and 1e-300 tails."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    kinds = [
        rng.random(size),
        np.where(rng.random(size) < 0.5, 0.0, rng.random(size)),
        np.eye(1, size, size // 2)[0] * 1e6,
        np.exp(-690.0 * rng.random(size)),
        np.where(rng.random(size) < 0.3, 1e-323, 10.0 ** rng.integers(-30, 3, size)),
        1.0 + 0.1 * np.sin(np.arange(size)),
    ]
    return [kind.reshape(shape) for kind in kinds]


def potentials(shape, seed):
    rng = np.random.default_rng(seed + 1)
    x = np.add.outer(np.linspace(-1, 1, shape[0]), np.zeros(shape[1:]))
    return [rng.standard_normal(shape), 30.0 * x**2, 1e-3 * rng.standard_normal(shape) + x]


def mixed_ends(dimension):
    return [End.TRUNCATION, End.PERIODIC, End.NATURAL, (End.NATURAL, End.TRUNCATION)][:dimension]


# --- orders ---------------------------------------------------------------------------------------------------------


def periodic_1d(n):
    grid = Grid([Axis("x", 0.0, 2 * np.pi, End.PERIODIC)], [n])
    x = grid.centres(0)
    g, g1 = 1.3 + 0.4 * np.cos(x), -0.4 * np.sin(x)
    mu = np.exp(np.sin(x))
    m1 = np.cos(x) * mu
    v, v1, v2 = (
        np.cos(x) + 0.3 * np.sin(2 * x),
        -np.sin(x) + 0.6 * np.cos(2 * x),
        -np.cos(x) - 1.2 * np.sin(2 * x),
    )
    return grid, [lambda x: 1.3 + 0.4 * np.cos(x)], mu, v, g1 * mu * v1 + g * m1 * v1 + g * mu * v2


def vanishing_1d(n, shift=0.0):
    grid = Grid([Axis("x", -6.5 + 13 / n * shift, 6.5 + 13 / n * shift)], [n])
    x = grid.centres(0)
    mu = np.exp(-((x - 0.3) ** 2))
    m1 = -2 * (x - 0.3) * mu
    v, v1, v2 = np.sin(x) + 0.1 * x**2, np.cos(x) + 0.2 * x, -np.sin(x) + 0.2
    return grid, None, mu, v, m1 * v1 + mu * v2


def natural_1d(n):
    grid = Grid([Axis("x", 0.0, np.pi, End.NATURAL)], [n])
    x = grid.centres(0)
    g, g1 = 1.0 + 0.3 * np.cos(2 * x), -0.6 * np.sin(2 * x)
    mu = np.exp(np.cos(x))
    m1 = -np.sin(x) * mu
    v, v1, v2 = (
        np.cos(2 * x) + 0.5 * np.cos(x),
        -2 * np.sin(2 * x) - 0.5 * np.sin(x),
        -4 * np.cos(2 * x) - 0.5 * np.cos(x),
    )
    return grid, [lambda x: 1.0 + 0.3 * np.cos(2 * x)], mu, v, g1 * mu * v1 + g * m1 * v1 + g * mu * v2


def mixed_2d(n):
    """Periodic in x, natural in y, coupled, with a metric that depends on both."""
    grid = Grid([Axis("x", 0.0, 2 * np.pi, End.PERIODIC), Axis("y", 0.0, np.pi, End.NATURAL)], [n, n // 2])
    x, y = grid.mesh()
    sx, cx, sy, cy = np.sin(x), np.cos(x), np.sin(y), np.cos(y)
    mu = np.exp(sx * cy)
    mx, my = cx * cy * mu, -sx * sy * mu
    v = cx * np.cos(2 * y) + 0.4 * cy
    vx, vxx = -sx * np.cos(2 * y), -cx * np.cos(2 * y)
    vy, vyy = -2 * cx * np.sin(2 * y) - 0.4 * sy, -4 * cx * np.cos(2 * y) - 0.4 * cy
    g, gx = 1.2 + 0.3 * cx * cy, -0.3 * sx * cy
    h, hy = 1.5 + 0.5 * sx * cy, -0.5 * sx * sy
    exact = gx * mu * vx + g * mx * vx + g * mu * vxx + hy * mu * vy + h * my * vy + h * mu * vyy
    metric = [lambda x, y: 1.2 + 0.3 * np.cos(x) * np.cos(y), lambda x, y: 1.5 + 0.5 * np.sin(x) * np.cos(y)]
    return grid, metric, mu, v, exact


def vanishing_2d(n):
    grid = Grid([Axis("x", -6.0, 6.0), Axis("y", -6.5, 5.5)], [n, n])
    x, y = grid.mesh()
    mu = np.exp(-(x**2) - 0.8 * (y + 0.4) ** 2)
    mx, my = -2 * x * mu, -1.6 * (y + 0.4) * mu
    v = np.sin(x) * np.cos(0.5 * y) + 0.1 * y**2
    vx, vxx = np.cos(x) * np.cos(0.5 * y), -np.sin(x) * np.cos(0.5 * y)
    vy = -0.5 * np.sin(x) * np.sin(0.5 * y) + 0.2 * y
    vyy = -0.25 * np.sin(x) * np.cos(0.5 * y) + 0.2
    return grid, [2.0, 0.5], mu, v, 2.0 * (mx * vx + mu * vxx) + 0.5 * (my * vy + mu * vyy)


def constant_metric_3d(n):
    grid = Grid([Axis(name, 0.0, 2 * np.pi, End.PERIODIC) for name in "xyz"], [n, n, n])
    s = sum(grid.mesh())
    mu, v1, v2 = np.exp(np.sin(s)), -np.sin(s), -np.cos(s)
    return grid, [1.0, 0.5, None], mu, np.cos(s), 2.5 * (np.cos(s) * mu * v1 + mu * v2)


CELLS = (64, 80, 100, 128, 160, 200, 256)
CAPS = {  # cells, and the finest relative L1 error of upwind, MUSCL, WENO5
    periodic_1d: ((64, 128, 256, 512), (5e-3, 1.2e-4, 6e-11)),
    vanishing_1d: ((100, 200, 400), (3e-2, 2e-3, 4e-8)),
    natural_1d: (CELLS, (5e-3, 7e-5, 4e-11)),
    mixed_2d: (CELLS, (6e-3, 2.6e-4, 5e-10)),
    vanishing_2d: ((96, 144, 216), (5e-2, 4.5e-3, 6e-7)),
    constant_metric_3d: ((32, 48, 72), (5e-2, 5e-3, 1.3e-6)),
}


def errors(case, scheme):
    # where in its cell the top of the density falls matters to the limiters: averaged over
    shifts = [(k / 16,) for k in range(16)] if case is vanishing_1d else [()]
    ns = CAPS[case][0]
    result = []
    for n in ns:
        total = 0.0
        for shift in shifts:
            grid, metric, mu, v, exact = case(n, *shift)
            rate = Transport(grid, scheme, metric).rate(mu, v)
            total += np.abs(rate - exact).sum() / np.abs(exact).sum()
        result.append(total / len(shifts))
    return -np.polyfit(np.log(ns), np.log(result), 1)[0], result[-1]


@pytest.mark.parametrize("case", CAPS, ids=lambda case: case.__name__)
def test_order_upwind(case):
    slope, finest = errors(case, Upwind())
    assert abs(slope - 1.0) < 0.15
    assert finest < CAPS[case][1][0]


@pytest.mark.parametrize("case", CAPS, ids=lambda case: case.__name__)
@pytest.mark.parametrize("limiter", Limiter)
def test_order_muscl(case, limiter):
    slope, finest = errors(case, Muscl(limiter))
    assert abs(slope - 2.0) < 0.2
    assert finest < CAPS[case][1][1]


@pytest.mark.parametrize("case", CAPS, ids=lambda case: case.__name__)
def test_order_weno(case):
    slope, finest = errors(case, Weno5())
    assert slope > 4.5
    assert finest < CAPS[case][1][2]


def test_limiter_of_weno_leaves_resolved_data_alone():
    grid, metric, mu, v, _ = mixed_2d(64)
    transport = Transport(grid, Weno5(), metric)
    dt = 0.45 / transport.outflow_rate(v)[0]
    np.testing.assert_array_equal(transport.rate(mu, v, dt=dt), transport.rate(mu, v))


# --- an independent reference ---------------------------------------------------------------------------------------


def extended(values, ghost, periodic):
    return np.pad(values, ghost, mode="wrap" if periodic else "symmetric")


def reference_muscl(mu, v, axis_ends, h, limiter):
    """Plain numpy, line by line."""
    periodic = axis_ends[0] is End.PERIODIC
    m, p = extended(mu, 2, periodic), extended(v, 2, periodic)
    a, b = np.diff(m)[:-1], np.diff(m)[1:]
    same = a * b > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = {
            Limiter.MINMOD: np.where(same, np.sign(a) * np.minimum(abs(a), abs(b)), 0.0),
            Limiter.VAN_LEER: np.where(same, 2 * a * b / (a + b), 0.0),
            Limiter.MC: np.where(same, np.sign(a) * np.minimum(2 * np.minimum(abs(a), abs(b)), abs(a + b) / 2), 0.0),
        }[limiter]
    speed = -np.diff(p)[1:-1] / h
    left, right = (m[1:-1] + slope / 2)[:-1], (m[1:-1] - slope / 2)[1:]
    return np.maximum(speed, 0) * left + np.minimum(speed, 0) * right


def reference_weno(mu, v, axis_ends, h, muscl, ratio=1e4):
    """Candidates and differences from findiff, smoothness by exact integration of the candidate's derivatives.

    `muscl` is the fallback; its share at every face comes with the fluxes.
    """
    from findiff import coefficients

    def interpolation(offsets, derivative=0):
        return np.array(coefficients(deriv=derivative, offsets=list(offsets), analytic_inv=True)["coefficients"])

    staggered = interpolation([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], 1)
    candidates = [interpolation(np.arange(k - 2.5, k + 0.5)) for k in range(3)]
    full = interpolation(np.arange(-2.5, 2.5))
    # linear weights: the candidates' combination that is the five-point interpolation
    matrix = np.zeros((5, 3))
    for k, weights in enumerate(candidates):
        matrix[k : k + 3, k] = weights
    linear = np.linalg.lstsq(matrix, full, rcond=None)[0]
    curvature, fourth = interpolation(np.arange(-2, 3), 2), interpolation(np.arange(-2, 3), 4)
    correction = np.array([0.0, 0, 1, 0, 0]) - curvature / 24 + 7 / 5760 * fourth

    periodic = axis_ends[0] is End.PERIODIC
    n = len(mu)
    m, p = extended(mu, 5, periodic), extended(v, 5, periodic)
    points, shares = [], []
    for f in range(-2, n + 3):  # faces; cell i is entry i + 5
        cells = slice(f + 2, f + 8)
        speed = -(staggered @ p[cells]) / h
        stencil = m[cells] if speed > 0 else m[cells][::-1]
        unit = stencil / max(stencil.max(), 1e-300)
        betas = []
        for k in range(3):
            x = np.arange(k - 2, k + 1)  # relative to the upwind cell
            quadratic = np.polynomial.Polynomial.fit(x, unit[k : k + 3], 2).convert()
            first, second = quadratic.deriv(1) ** 2, quadratic.deriv(2) ** 2
            total = (first + second).integ()
            betas.append(total(0.5) - total(-0.5))
        betas = np.array(betas) + 1e-40
        alpha = linear * (1 + ((betas[0] - betas[2]) / betas) ** 2)
        values = [candidates[k] @ stencil[k : k + 3] for k in range(3)]
        points.append(speed * (alpha @ values) / alpha.sum())
        # linear in min/max: 0 where max/min is the ratio, 1 where it is ten times the ratio
        share = np.interp(m[cells].min() / max(m[cells].max(), 1e-300), [0.1 / ratio, 1 / ratio], [1.0, 0.0])
        cut_off = (axis_ends[0] is End.TRUNCATION and f < 3) or (axis_ends[1] is End.TRUNCATION and f > n - 3)
        shares.append(1.0 if cut_off else share)
    share = np.array([max(shares[f : f + 5]) for f in range(n + 1)])
    weno = np.array([correction @ points[f : f + 5] for f in range(n + 1)])
    return share * muscl + (1 - share) * weno, share


ALL_ENDS = [
    (End.PERIODIC, End.PERIODIC),
    (End.NATURAL, End.NATURAL),
    (End.TRUNCATION, End.TRUNCATION),
    (End.NATURAL, End.TRUNCATION),
]


@pytest.mark.parametrize("n", [60, 150])
@pytest.mark.parametrize("ends", ALL_ENDS, ids=lambda ends: "-".join(end.value for end in ends))
def test_fluxes_against_reference(ends, n):
    rng = np.random.default_rng(5)
    grid = Grid([Axis("x", -2.0, 1.0, ends)], [n])
    h = grid.spacing[0]
    x = grid.centres(0)
    samples = [
        rng.random(n) + 0.5,
        np.exp(3 * rng.standard_normal(n)),
        np.exp(-3 * x**2 + 0.3 * np.sin(7 * x)),
        1e-200 * np.exp(-20 * x**2),
        np.where(abs(x) < 0.5, 1 + x**3, 0.0),
    ]
    seen = np.zeros(3, dtype=int)
    for mu, v in itertools.product(samples, [rng.standard_normal(n), np.cos(3 * x) + x]):
        scale = mu.max() * np.abs(v).max() / h
        for limiter in Limiter:
            (flux,) = Transport(grid, Muscl(limiter)).fluxes(mu, v)
            if mu.max() > 1e-100:  # the textbook formula underflows
                np.testing.assert_allclose(
                    flux, reference_muscl(mu, v, ends, h, limiter), rtol=1e-13, atol=1e-14 * scale
                )
        (flux,) = Transport(grid, Weno5()).fluxes(mu, v)
        tiny = mu.max() < 1e-100
        low = Transport(grid, Muscl()).fluxes(mu, v)[0] if tiny else reference_muscl(mu, v, ends, h, Limiter.VAN_LEER)
        expected, share = reference_weno(mu, v, ends, h, low)
        np.testing.assert_allclose(flux, expected, rtol=2e-12, atol=2e-14 * scale)
        seen += [(share == 0).sum(), (share == 1).sum(), ((share > 0) & (share < 1)).sum()]
    assert min(seen) > 30  # each scheme alone and their blend were met


def test_coefficients_are_those_of_findiff():
    from findiff import coefficients

    from mfpde.mesh.compiled import options

    staggered = coefficients(deriv=1, offsets=[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], analytic_inv=True)["coefficients"]
    ours = np.array([options.STAGGERED_1, options.STAGGERED_3, options.STAGGERED_5])
    np.testing.assert_allclose(ours, staggered[3:], rtol=1e-14)
    np.testing.assert_allclose(-ours[::-1], staggered[:3], rtol=1e-14)
    assert tuple(ours) == (75 / 64, -25 / 384, 3 / 640)


# --- conservation, faces --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conservation_and_one_flux_per_face(scheme, shape):
    grid = box(shape, mixed_ends(len(shape)))
    transport = Transport(grid, scheme)
    for seed, (mu, v) in enumerate(itertools.product(rough(shape, 1), potentials(shape, 1))):
        for dt in (None, 10.0 ** (seed % 5 - 3)):
            rate = transport.rate(mu, v, dt=dt)
            fluxes = transport.fluxes(mu, v, dt=dt)
            difference = np.zeros(shape)
            total = 0.0
            for i, (flux, h) in enumerate(zip(fluxes, grid.spacing, strict=True)):
                assert flux.shape == tuple(n + (j == i) for j, n in enumerate(shape))
                first, last = flux.take(0, axis=i), flux.take(-1, axis=i)
                if grid.axes[i].periodic:
                    np.testing.assert_array_equal(first, last)
                else:
                    assert not first.any()
                    assert not last.any()
                difference -= np.diff(flux, axis=i) * (1.0 / h)
                total += np.abs(flux).sum() / h
            np.testing.assert_array_equal(rate, difference)
            assert abs(rate.sum()) <= 4 * EPS * total


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_rate_writes_into_out_and_checks(scheme):
    grid = box((6, 9))
    transport = Transport(grid, scheme)
    mu, v = rough(grid.shape, 3)[0], potentials(grid.shape, 3)[0]
    out = np.full(grid.shape, np.nan)
    assert transport.rate(mu, v, out=out) is out
    np.testing.assert_array_equal(out, transport.rate(np.asfortranarray(mu), v.T.copy().T))
    with pytest.raises(ValueError, match=r"mu has shape \(9, 6\), the grid \(6, 9\)"):
        transport.rate(mu.T, v)
    with pytest.raises(ValueError, match="V has shape"):
        transport.rate(mu, v[:5])
    with pytest.raises(ValueError, match="C-contiguous"):
        transport.rate(mu, v, out=np.empty((9, 6)).T)


def test_dt_of_the_limiter_is_checked():
    transport = Transport(box((8,)), Weno5())
    for dt in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="dt is"):
            transport.rate(np.ones(8), np.ones(8), dt=dt)


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_not_a_number_is_not_hidden(scheme):
    transport = Transport(box((40,)), scheme)
    mu, v = np.ones(40), np.linspace(0, 1, 40) ** 2
    for bad_mu, bad_v in itertools.product((False, True), repeat=2):
        if bad_mu or bad_v:
            a, b = mu.copy(), v.copy()
            if bad_mu:
                a[20] = np.nan
            if bad_v:
                b[20] = np.nan
                assert np.isnan(transport.outflow_rate(b)[0])
            for dt in (None, 1e-3):
                assert np.isnan(transport.rate(a, b, dt=dt)[20])


# --- positivity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_euler_is_positive_at_the_bound(scheme, shape):
    for ends in (End.TRUNCATION, End.PERIODIC, End.NATURAL, mixed_ends(len(shape))):
        grid = box(shape, ends)
        transport = Transport(grid, scheme, [2.0, *[None] * (len(shape) - 1)])
        for seed in range(3):
            for mu, v in itertools.product(rough(shape, seed), potentials(shape, seed)):
                bound, _ = transport.outflow_rate(v)
                factors = [1.0, 0.3] if scheme.order < 5 else [1e-3, 0.3, 0.7, 1.0, 1.3, 10.0, 1e5]
                for factor in factors:
                    dt = factor * scheme.positivity / bound
                    assert (mu + dt * transport.rate(mu, v, dt=dt)).min() >= 0.0


def test_bounds_are_sharp():
    """Half as much again loses positivity somewhere: the numbers are not merely safe."""
    grid = box((60,))
    rng = np.random.default_rng(0)
    lost = {"upwind": 0, "muscl": 0}
    for _ in range(50):
        mu, v = np.exp(3 * rng.standard_normal(60)), -grid.centres(0)
        for scheme in (Upwind(), Muscl(Limiter.MC)):
            transport = Transport(grid, scheme)
            dt = 1.5 * scheme.positivity / transport.outflow_rate(v)[0]
            lost[scheme.name] += (mu + dt * transport.rate(mu, v)).min() < 0
    assert min(lost.values()) > 0


def test_weno_without_limiter_goes_negative():
    """The limiter is what keeps the sign: otherwise the positivity test above would prove nothing about it."""
    rng = np.random.default_rng(1)
    transport = Transport(box((60,), End.PERIODIC), Weno5())
    worst = 0.0
    for _ in range(50):
        mu, v = np.exp(1.5 * rng.standard_normal(60)), rng.standard_normal(60)
        dt = 1.0 / transport.outflow_rate(v)[0]
        worst = min(worst, (mu + dt * transport.rate(mu, v)).min())
    assert worst < 0


def test_allowance_of_the_limiter():
    """What a donor may give through all faces of a cell is what it has, and twice the drift's share below nu = 1/2."""
    from mfpde.mesh.compiled import faces

    allowance = getattr(faces._allowance, "py_func", faces._allowance)
    for nu in (0.0, 0.2, 0.4996, 0.5, 0.503, 1.0, 7.0):
        kappa = min(2.0, 1.0 / nu) if nu else 2.0
        for mu, speed, room in ((0.3, 1.7, 2.5), (2.0, 0.0, 0.7)):
            expected = (1.0 - 1e-13) * mu * (kappa * speed + room * max(0.0, 1.0 - kappa * nu))
            assert allowance(mu, nu, speed, room) == pytest.approx(expected, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize("shape", [(60,), (60, 130)], ids=str)
def test_limiter_sees_its_own_cells_only(shape):
    """A fast drift elsewhere takes the general formula where the short one would do: the same bits."""
    rng = np.random.default_rng(6)
    transport = Transport(box(shape, End.PERIODIC), Weno5())
    mu, v = np.exp(1.5 * rng.standard_normal(shape)), rng.standard_normal(shape)
    dt = 0.499 / transport.outflow_rate(v)[0]
    fast = v.copy()
    fast[45:] *= 10.0
    limited = transport.rate(mu, v, dt=dt)
    assert (limited != transport.rate(mu, v)).any()
    near = slice(8, 37)  # no stencil reaches the fast part
    np.testing.assert_array_equal(transport.rate(mu, fast, dt=dt)[near], limited[near])


@pytest.mark.parametrize("nu", [0.3, 0.4996, 0.503, 3.0])
def test_limiter_cuts_to_the_allowance(nu):
    """The limited flux is the free one between what its two donors may give, written out."""
    n = 400
    grid = Grid([Axis("x", 0.0, 2 * np.pi, End.PERIODIC)], [n])
    h = grid.spacing[0]
    mu, v = np.exp(1.5 * np.random.default_rng(7).standard_normal(n)), np.cos(grid.centres(0))
    ahead, behind = ([np.roll(v, s * k) for k in range(4)] for s in (-1, 1))
    pairs = [(75 / 64, ahead[1] - v), (-25 / 384, ahead[2] - behind[1]), (3 / 640, ahead[3] - behind[2])]
    speed = -sum(weight * difference for weight, difference in pairs) / h  # of the face on the right
    forth, back = np.maximum(speed, 0.0), np.maximum(-speed, 0.0)
    outflow = (forth + np.roll(back, 1)) / h
    dt = nu / outflow.max()
    kappa = np.minimum(2.0, 1.0 / np.maximum(dt * outflow, 0.1))
    slack = h / (2.0 * dt) * np.maximum(0.0, 1.0 - kappa * dt * outflow)
    most, least = mu * (kappa * forth + slack), -np.roll(mu * (kappa * np.roll(back, 1) + slack), -1)
    transport = Transport(grid, Weno5())
    free, limited = transport.fluxes(mu, v)[0][1:], transport.fluxes(mu, v, dt=dt)[0][1:]
    assert min(np.sum(free > most), np.sum(free < least)) > 5
    rounding = 1e-15 * mu.max() * h / dt
    np.testing.assert_allclose(limited, np.clip(free, least, most), rtol=1e-12, atol=rounding)


# --- outflow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (1500,), (3, 4, 700)][:-1], ids=str)
def test_outflow_rate_is_the_definition(shape):
    grid = box(shape, mixed_ends(len(shape)))
    for v in potentials(shape, 7):
        total = np.zeros(shape)
        for i, h in enumerate(grid.spacing):
            face = -np.diff(np.pad(v, [(int(j == i),) * 2 for j in range(v.ndim)], mode="wrap"), axis=i) / h
            if not grid.axes[i].periodic:
                index = [slice(None)] * v.ndim
                for k in (0, -1):
                    index[i] = k
                    face[tuple(index)] = 0.0
            low, high = (face.take(range(k, shape[i] + k), axis=i) for k in (0, 1))
            total += (np.maximum(high, 0) - np.minimum(low, 0)) / h
        for scheme in (Upwind(), Muscl()):
            rate, cell = Transport(grid, scheme).outflow_rate(v)
            assert rate == pytest.approx(total.max(), rel=1e-12)
            assert rate > total.max() * (1 - EPS)
            assert total.flat[cell] == pytest.approx(total.max(), rel=1e-14)


@pytest.mark.parametrize("scheme", [Upwind(), Muscl(), Weno5(), ScharfetterGummel()], ids=name_of)
@pytest.mark.parametrize(
    "shape", [(37,), (13, 12), (5, 4, 6), (9, 130), (5000,), (263, 17), (4, 4095), (4, 5, 130), (1400, 7)], ids=str
)
def test_outflow_speed_of_every_cell(scheme, shape):
    """Written out, with a metric and diffusion, whatever tiles, strips and bands the mesh is cut into."""
    grid = box(shape, mixed_ends(len(shape))[::-1])
    v = potentials(shape, 10)[0]
    coefficients = (75 / 64, -25 / 384, 3 / 640) if scheme.order == 5 else (1.0, 0.0, 0.0)
    for metric, tau in (([None] * v.ndim, 0.0), ([None] * v.ndim, 0.7), ([wavy, lambda *x: 1.5 + x[1], 0.3], 0.7)):
        transport = Transport(grid, scheme, metric[: v.ndim])
        total = np.zeros(shape)
        for i, h in enumerate(grid.spacing):
            periodic, n = grid.axes[i].periodic, shape[i]
            around = np.pad(v, [(3 * (j == i),) * 2 for j in range(v.ndim)], mode="wrap" if periodic else "symmetric")
            beside = [around.take(range(k, k + n + 1), axis=i) for k in range(6)]
            differences = [beside[3 + k] - beside[2 - k] for k in range(3)]
            rate = metric[i](*grid.face_mesh(i)) if callable(metric[i]) else metric[i]
            g = np.moveaxis(np.array(np.broadcast_to(1.0 if rate is None else rate, beside[0].shape)), i, 0)
            g[-1] = g[0] if periodic else g[-1]
            speed = -g / h * np.moveaxis(sum(c * d for c, d in zip(coefficients, differences, strict=True)), i, 0)
            weight = scheme.diffusion_share * tau * g / h
            if scheme.name == "scharfetter-gummel" and tau > 0.0:
                d = np.maximum(np.abs(np.moveaxis(differences[0], i, 0)) / tau, 1e-300)
                weight = weight * d / np.expm1(d)
            if not periodic:
                weight[0] = weight[-1] = 0.0
            out = np.maximum(speed[1:], 0) - np.minimum(speed[:-1], 0) + weight[1:] + weight[:-1]
            total += np.moveaxis(out, 0, i) / h
        for rows in (shape[0], 3):
            transport._mesh, transport._bands = transport._mesh._replace(band=rows), -(-shape[0] // rows)
            fastest, cell = transport.outflow_rate(v, temperature=tau)
            speeds = transport._speeds.reshape(shape)
            np.testing.assert_allclose(speeds, total, rtol=1e-12, atol=1e-14 * total.max())
            assert fastest >= speeds.max()
            assert cell == speeds.argmax()


def test_outflow_rate_details():
    grid = Grid([Axis("x", 0.0, 1.0, End.PERIODIC)], [1200])
    v = np.cos(2 * np.pi * grid.centres(0))
    speed, _ = Transport(grid, Weno5()).outflow_rate(v)
    # two faces of a cell are h apart, one of them lets mass out
    assert speed == pytest.approx(2 * np.pi * 1200, rel=1e-5)
    assert Transport(grid, Weno5()).outflow_rate(np.full(1200, 3.0)) == (0.0, 0)
    mu = np.exp(-0.5 * ((grid.centres(0) - 0.5) / 0.01) ** 2)
    near, cell = Transport(grid, Weno5()).outflow_rate(v, mu)
    assert mu[cell] >= 1e-30
    assert near < speed
    # of equals the first, also when they lie far apart
    twice = np.tile(np.random.default_rng(0).standard_normal(600), 2)
    assert Transport(grid, Muscl()).outflow_rate(twice)[1] < 600
    # schemes without a limiter are bound by every cell
    assert Transport(grid, Muscl()).outflow_rate(v, mu) == Transport(grid, Muscl()).outflow_rate(v)


def test_outflow_rate_of_cells_that_count(monkeypatch):
    """Of equals the first that holds mass; a share of the mesh without such a cell says zero."""
    transport = Transport(box((40,), End.PERIODIC), Weno5())
    v, mu = np.tile(np.random.default_rng(18).standard_normal(20), 2), np.repeat([0.0, 1.0], 20)
    rate, cell = transport.outflow_rate(v)
    assert cell < 20
    assert transport.outflow_rate(v, mu) == (rate, cell + 20)
    transport._mesh, transport._bands = transport._mesh._replace(band=10), 4
    monkeypatch.setattr(module, "in_shares", lambda task, *rest: [task(0, 2)])
    monkeypatch.setattr(module, "THREADED_SIZE", 1)
    assert transport.outflow_rate(v, mu)[0] == 0.0


# --- the energy law of Muscl ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", EXPLICIT[:-1], ids=name_of)
@pytest.mark.parametrize("ends", [End.TRUNCATION, End.PERIODIC])
def test_discrete_energy_identity(scheme, ends):
    """dE_h/dt = -sum |v|^2 mu_f h^d / g, with E_h itself differentiated: it is quadratic, so the centred
    difference of any length along the rate is its exact derivative."""
    rng = np.random.default_rng(11)
    grid = box((7, 6), ends)
    volume = grid.cell_volume
    factor = rng.standard_normal((grid.size, 20))
    kernel = factor @ factor.T
    forcing = rng.standard_normal(grid.size)
    rates = [lambda x, y: 1.5 + np.sin(x) * np.cos(y), lambda x, y: 0.5 + y**2]
    transport = Transport(grid, scheme, rates)

    def energy(density):
        m = volume * density.ravel()
        return forcing @ m + 0.5 * m @ kernel @ m

    for mu in rough(grid.shape, 2):
        mu = mu / grid.integrate(mu)
        v = (forcing + volume * (kernel @ mu.ravel())).reshape(grid.shape)
        rate = transport.rate(mu, v)
        s = 1.0 / np.abs(rate).max()
        derivative = (energy(mu + s * rate) - energy(mu - s * rate)) / (2 * s)
        dissipation = 0.0
        for i, (flux, h) in enumerate(zip(transport.fluxes(mu, v), grid.spacing, strict=True)):
            pad = [(int(j == i),) * 2 for j in range(2)]
            around = np.pad(v, pad, mode="wrap" if ends is End.PERIODIC else "edge")
            g = np.array(np.broadcast_to(rates[i](*grid.face_mesh(i)), flux.shape))
            if ends is End.PERIODIC:
                g[(slice(None),) * i + (-1,)] = g[(slice(None),) * i + (0,)]
            speed = -g * np.diff(around, axis=i) / h
            moving = speed != 0
            mu_f = np.divide(flux, speed, out=np.zeros_like(flux), where=moving)
            assert mu_f.min() >= 0
            terms = speed**2 * mu_f / g * volume
            if ends is End.PERIODIC:
                terms = terms.take(range(grid.shape[i]), axis=i)  # the seam counts once
            dissipation += terms.sum()
        scale = max(abs(energy(mu + s * rate)), abs(energy(mu))) / s
        assert dissipation > 0
        assert abs(derivative + dissipation) < 200 * EPS * max(scale, dissipation)


# --- symmetries -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mirror_and_permutation_bit_for_bit(scheme, shape):
    dimension = len(shape)
    ends = mixed_ends(dimension)
    grid = Grid([Axis(f"x{i}", -1.0, 1.0, end) for i, end in enumerate(ends)], shape)
    transport = Transport(grid, scheme)
    for mu, v in itertools.product(rough(shape, 4), potentials(shape, 4)):
        for dt in (None, 0.01) if dimension < 3 else (None,):
            rate, fluxes = transport.rate(mu, v, dt=dt), transport.fluxes(mu, v, dt=dt)
            for i in range(dimension):
                axes = list(grid.axes)
                axes[i] = dataclasses.replace(axes[i], ends=axes[i].ends[::-1])
                mirrored = Transport(Grid(axes, shape), scheme)
                flipped = mirrored.rate(np.flip(mu, i).copy(), np.flip(v, i).copy(), dt=dt)
                np.testing.assert_array_equal(np.flip(flipped, i), rate)
            for order in itertools.permutations(range(dimension)):
                other = Transport(Grid([grid.axes[j] for j in order], [shape[j] for j in order]), scheme)
                a, b = mu.transpose(order).copy(), v.transpose(order).copy()
                for k, flux in zip(order, other.fluxes(a, b, dt=dt), strict=True):
                    np.testing.assert_array_equal(flux, fluxes[k].transpose(order))
                permuted = other.rate(a, b, dt=dt)
                if dimension <= 2:
                    np.testing.assert_array_equal(permuted, rate.transpose(order))
                else:  # the sum over axes is taken in their order
                    scale = sum(np.abs(f).max() / h for f, h in zip(fluxes, grid.spacing, strict=True))
                    np.testing.assert_allclose(permuted, rate.transpose(order), rtol=0, atol=8 * EPS * scale)


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize(
    ("shape", "shift"),
    [((5000,), 1234), ((50_000,), 1234), ((300, 70), 41), ((70, 300), 41), ((140, 9, 10), 3), ((9, 10, 140), 3)],
)
def test_translation_bit_for_bit(scheme, shape, shift):
    """On periodic axes a shift of the data shifts the rate: no tile, band or ghost shows."""
    grid = Grid([Axis(f"x{i}", 0.0, 1.0, End.PERIODIC) for i in range(len(shape))], shape)
    transport = Transport(grid, scheme)
    mu = np.exp(np.random.default_rng(8).standard_normal(shape))
    v = np.random.default_rng(9).standard_normal(shape)
    rate = transport.rate(mu, v, dt=1e-4)
    shifts = tuple(shift + i for i in range(len(shape)))
    axes = tuple(range(len(shape)))
    moved = transport.rate(np.roll(mu, shifts, axes), np.roll(v, shifts, axes), dt=1e-4)
    np.testing.assert_array_equal(moved, np.roll(rate, shifts, axes))


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", [(4,), (4, 130)], ids=str)
def test_four_cells_are_half_of_eight(scheme, shape):
    """More ghosts than rows. A period is a copy and a wall a mirror: the bits of the periodic mesh that has both."""
    others = [Axis("y", 0.0, 1.0, End.PERIODIC)] * (len(shape) - 1)
    v = potentials(shape, 13)[0]
    for end, turn, folded in ((End.PERIODIC, 1, lambda x: x % 1.0), (End.NATURAL, -1, lambda x: 1.0 - abs(1.0 - x))):
        grids = [Grid([Axis("x", 0.0, 1.0, end), *others], shape)]
        grids.append(Grid([Axis("x", 0.0, 2.0, End.PERIODIC), *others], [8, *shape[1:]]))
        metric = [lambda x, *y, folded=folded: wavy(folded(x), *y), *[None] * len(others)]
        for mu, g in itertools.product(rough(shape, 13)[:4:3], (None, metric)):
            once, twice = (Transport(grid, scheme, g) for grid in grids)
            a, b = (np.concatenate([values, values[::turn]]) for values in (mu, v))
            assert once.outflow_rate(v)[0] == twice.outflow_rate(b)[0]
            for settings in ({}, {"dt": 1e-3}, {"temperature": 0.3}):
                np.testing.assert_array_equal(once.rate(mu, v, **settings), twice.rate(a, b, **settings)[:4])


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", [(10, 6), (10, 130)], ids=str)
def test_a_share_keeps_to_its_rows(scheme, shape, monkeypatch):
    """The bands of one thread: what is not in them is left as it was."""
    transport = Transport(box(shape, mixed_ends(2)), scheme)
    mu, v = rough(shape, 17)[0], potentials(shape, 17)[0]
    expected = transport.rate(mu, v)
    transport.outflow_rate(v)
    speeds = transport._speeds.copy().reshape(shape)
    transport._mesh, transport._bands = transport._mesh._replace(band=3), 4
    monkeypatch.setattr(module, "in_shares", lambda task, *rest: [task(1, 3)])
    monkeypatch.setattr(module, "THREADED_SIZE", 1)
    transport._speeds[:] = np.nan
    assert transport.outflow_rate(v)[0] >= speeds[3:9].max()
    rate = transport.rate(mu, v, out=np.full(shape, np.nan))
    for values, all_of_them in ((rate, expected), (transport._speeds.reshape(shape), speeds)):
        np.testing.assert_array_equal(values[3:9], all_of_them[3:9])
        assert np.isnan(values[[0, 1, 2, 9]]).all()


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("shape", [(20, 150), (150, 140), (4, 5000), (150, 4)], ids=str)
def test_a_line_of_a_mesh_is_a_line_alone(scheme, shape):
    """Whatever stands beside it: many lines share a buffer, and one of them may be guarded for all."""
    grid = box(shape, End.TRUNCATION)
    transport = Transport(grid, scheme)
    smooth, v = 1.5 + np.sin(np.arange(grid.size).reshape(shape)), potentials(shape, 4)[0]
    spiked = smooth.copy()
    spiked[shape[0] // 2, shape[1] // 3] = 1e6
    for mu in (smooth, spiked, *rough(shape, 4)[3:5]):
        fluxes = transport.fluxes(mu, v)
        for i, n in enumerate(shape):
            alone = Transport(Grid([grid.axes[i]], [n]), scheme)
            for k in {0, 1, shape[1 - i] // 2, shape[1 - i] // 3, shape[1 - i] - 1}:
                (expected,) = alone.fluxes(mu.take(k, axis=1 - i), v.take(k, axis=1 - i))
                np.testing.assert_array_equal(fluxes[i].take(k, axis=1 - i), expected)
        x, y = (-np.diff(flux, axis=i) / h for i, (flux, h) in enumerate(zip(fluxes, grid.spacing, strict=True)))
        scale = sum(np.abs(flux).max() / h for flux, h in zip(fluxes, grid.spacing, strict=True))
        np.testing.assert_allclose(transport.rate(mu, v), x + y, rtol=0, atol=4 * EPS * scale)


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
@pytest.mark.parametrize("power", [-600, -60, 1, 100, 800])
@pytest.mark.parametrize("shape", [(30, 20), (9, 130)], ids=str)
def test_homogeneous_of_degree_one(scheme, shape, power):
    rng = np.random.default_rng(2)
    grid = box(shape, [End.NATURAL, End.PERIODIC])
    transport = Transport(grid, scheme)
    hill = np.exp(-10 * np.add.outer(np.linspace(-1, 1, shape[0]) ** 2, np.zeros(shape[1])))
    for mu in (rng.random(grid.shape), hill):
        v = rng.standard_normal(grid.shape)
        scale = 2.0**power
        np.testing.assert_array_equal(transport.rate(scale * mu, v), scale * transport.rate(mu, v))
        for factor in (8.0, 2.0**-40):  # slow drift is drift
            np.testing.assert_array_equal(transport.rate(mu, factor * v), factor * transport.rate(mu, v))
            for dt in (0.01, 0.49 / transport.outflow_rate(v)[0]):  # with and without outflow numbers above 1/2
                slow = transport.rate(mu, factor * v, dt=dt / factor)
                np.testing.assert_array_equal(slow, factor * transport.rate(mu, v, dt=dt))
        np.testing.assert_array_equal(transport.rate(scale * mu, v, dt=0.01), scale * transport.rate(mu, v, dt=0.01))


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_constant_in_the_potential_is_nothing(scheme):
    rng = np.random.default_rng(3)
    grid = box((21, 18), [End.TRUNCATION, End.PERIODIC])
    transport = Transport(grid, scheme)
    v = rng.integers(-(2**20), 2**20, grid.shape) * 2.0**-20
    for mu in rough(grid.shape, 5):
        for constant in (1.0, -700.0, 2.0**20):
            np.testing.assert_array_equal(transport.rate(mu, v + constant, dt=0.1), transport.rate(mu, v, dt=0.1))


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_threads_do_not_change_a_bit(scheme):
    shape = (520, 210)
    grid = box(shape, [End.TRUNCATION, End.PERIODIC])
    mu = np.exp(np.random.default_rng(8).standard_normal(shape))
    v = np.random.default_rng(9).standard_normal(shape)
    one, two, five = (Transport(grid, scheme, threads=k) for k in (1, 2, 5))
    assert grid.size >= THREADED_SIZE  # large enough to be shared
    reference = one.rate(mu, v, dt=1e-4)
    for other in (two, five):
        np.testing.assert_array_equal(other.rate(mu, v, dt=1e-4), reference)
        assert other.outflow_rate(v) == one.outflow_rate(v)
        low, high = mu.copy(), mu.copy()
        low[200:], high[:400] = 0.0, 0.0  # whole shares without a cell that counts
        for density in (low, high):
            assert other.outflow_rate(v, density) == one.outflow_rate(v, density)
            if scheme.order == 5:
                assert density.flat[one.outflow_rate(v, density)[1]] > 0
        for a, b in zip(other.fluxes(mu, v), one.fluxes(mu, v), strict=True):
            np.testing.assert_array_equal(a, b)


# --- tails ----------------------------------------------------------------------------------------------------------


def test_empty_cells_are_reached_no_faster_than_with_muscl():
    """A Gaussian cut off where it is 1e-13, next to empty cells: one cell a step along each axis, and the first flux
    into the empty cells is Muscl's."""
    grid = Grid([Axis("x", -4.0, 4.0), Axis("y", -4.0, 4.0)], [64, 60])
    x, y = grid.mesh()
    r2 = x**2 + y**2
    mu = np.where(r2 < 60 / 9, np.exp(-4.5 * r2), 0.0)
    v = np.sin(3 * x) * np.cos(2 * y) - 0.3 * r2
    high, low = Transport(grid, Weno5()), Transport(grid, Muscl())
    for i, (a, b) in enumerate(zip(high.fluxes(mu, v), low.fluxes(mu, v), strict=True)):
        inner = a.take(range(1, grid.shape[i]), axis=i)
        muscl = b.take(range(1, grid.shape[i]), axis=i)
        beside = [mu.take(range(k, grid.shape[i] - 1 + k), axis=i) == 0 for k in (0, 1)]
        np.testing.assert_array_equal(inner[beside[0] | beside[1]], muscl[beside[0] | beside[1]])
        assert np.count_nonzero(beside[0] ^ beside[1]) > 50
    reach = mu > 0
    dt = 0.4 / high.outflow_rate(v)[0]
    state = {high: mu, low: mu}
    for _ in range(6):
        wider = reach.copy()
        wider[1:] |= reach[:-1]
        wider[:-1] |= reach[1:]
        wider[:, 1:] |= reach[:, :-1]
        wider[:, :-1] |= reach[:, 1:]
        reach = wider
        for transport in state:
            state[transport] = state[transport] + dt * transport.rate(state[transport], v, dt=dt)
        assert state[high].min() >= 0
        assert not state[high][~reach].any()
        assert not state[high][state[low] == 0].any()
    outside = mu == 0
    assert state[high][outside].sum() < 1.05 * state[low][outside].sum()


def test_guard_leaves_the_resolved_part_alone():
    grid = Grid([Axis("x", -8.0, 8.0)], [400])
    x = grid.centres(0)
    mu = np.where(abs(x) < 5, np.exp(-0.5 * x**2), 0.0)
    smooth, v = np.exp(-0.5 * x**2), np.sin(x)
    transport = Transport(grid, Weno5())
    inner = abs(x) < 4.5
    np.testing.assert_array_equal(transport.rate(mu, v)[inner], transport.rate(smooth, v)[inner])


@pytest.mark.parametrize("shape", [(14,), (14, 130)], ids=str)
def test_one_unsafe_face_guards_five(shape):
    """One stencil alone spans more than the ratio, in one of many columns."""
    profile = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 20.0, 200.0, 2e3, 4e3, 1.5e5, 1.5e5, 1.5e5, 1.5e5, 1.5e5])
    grid, column = box(shape, End.NATURAL), (slice(None), 77)[: len(shape)]
    mu, v = np.ones(shape), potentials(shape, 9)[0]
    mu[column] = profile
    weno, low = (Transport(grid, scheme).fluxes(mu, v)[0][column] for scheme in (Weno5(), Muscl()))
    assert np.flatnonzero(weno == low).tolist() == [0, 5, 6, 7, 8, 9, len(weno) - 1]  # the face between 200 and 2e3


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("shape", [(14,), (14, 5), (14, 130)], ids=str)
def test_guard_has_no_jump(shape, temperature):
    """Across the ratio, and across ten times it, the fluxes go on: a jump would be a place from which no time step,
    however short, is better than first order."""
    grid, v = box(shape, End.NATURAL), potentials(shape, 9)[0]

    def fluxes(scheme, top):
        mu = np.ones(shape)
        mu[9:] = top
        return Transport(grid, scheme).fluxes(mu, v, temperature=temperature)[0]

    for ratio in (1e4, 1e5):
        below, above = (fluxes(Weno5(), ratio * (1 + sign * 1e-10)) for sign in (-1, 1))
        np.testing.assert_allclose(below, above, rtol=0, atol=1e-8 * abs(above).max())
    near = slice(6, 12)  # faces whose stencils see both
    between, high, low = (fluxes(scheme, 3e4)[near] for scheme in (Weno5(), Weno5(1e5), Muscl()))
    np.testing.assert_array_less(np.minimum(high, low), between)
    np.testing.assert_array_less(between, np.maximum(high, low))


@pytest.mark.parametrize("shape", [(14,), (14, 5), (4, 14, 5), (14, 130)], ids=str)
def test_truncated_ends_guard_five_faces(shape):
    """At a truncated end only, in every line, also where a spike in the last of them has the others looked at."""
    axis, low, high = shape.index(14), list(range(5)), list(range(10, 15))
    v = potentials(shape, 15)[0]
    for ends, guarded in (((True, True), low + high), ((True, False), [*low, 14]), ((False, True), [0, *high])):
        kinds = tuple(End.TRUNCATION if end else End.NATURAL for end in ends)
        grid = box(shape, [kinds if i == axis else End.PERIODIC for i in range(len(shape))])
        for spike in (1.0, 1e6)[: len(shape)]:
            mu = 0.5 + np.random.default_rng(15).random(shape)
            mu[tuple(7 if i == axis else -1 for i in range(len(shape)))] *= spike
            weno, muscl = (Transport(grid, scheme).fluxes(mu, v)[axis] for scheme in (Weno5(), Muscl()))
            same = np.moveaxis(weno == muscl, axis, 0).reshape(15, -1)
            same = same if spike == 1.0 else same[:, :-1]
            assert np.flatnonzero(same.all(axis=1)).tolist() == np.flatnonzero(same.any(axis=1)).tolist() == guarded


@pytest.mark.parametrize("shape", [(20_000,), (300, 140)], ids=str)
def test_truncated_ends_do_not_reach_inside(shape):
    """Through many tiles and rows, with alarms everywhere: but for the cells at the ends a periodic mesh."""
    mu, v = np.exp(3.0 * np.random.default_rng(16).standard_normal(shape)), potentials(shape, 16)[0]
    others = [End.PERIODIC] * (len(shape) - 1)
    cut, whole = (Transport(box(shape, [end, *others]), Weno5()) for end in (End.TRUNCATION, End.PERIODIC))
    for dt in (None, 1e-6):
        np.testing.assert_array_equal(cut.rate(mu, v, dt=dt)[8:-8], whole.rate(mu, v, dt=dt)[8:-8])


@pytest.mark.parametrize("metric", [None, wavy], ids=["plain", "metric"])
@pytest.mark.parametrize("shape", [(14,), (14, 5), (14, 130)], ids=str)
def test_guarded_faces_have_the_diffusion_of_muscl(shape, metric):
    """Between cells of which every fourth is empty all faces are guarded."""
    mu, v = np.random.default_rng(14).random(shape), potentials(shape, 14)[0]
    mu[::4] = 0.0
    grid, metric = box(shape, mixed_ends(2)[::-1][: len(shape)]), [metric] * len(shape)
    weno, muscl = (Transport(grid, scheme, metric) for scheme in (Weno5(), Muscl()))
    a, b = (transport.fluxes(mu, v, temperature=0.7)[0] for transport in (weno, muscl))
    np.testing.assert_array_equal(a, b)
    assert (a != muscl.fluxes(mu, v)[0]).mean() > 0.5


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_an_axis_along_which_nothing_changes_adds_nothing(scheme):
    """Two axes of the mesh are swept by rows, the second adds to what the first left: the bits of two dimensions."""
    shape = (5, 130)
    ends = [(End.NATURAL, End.TRUNCATION), End.PERIODIC]
    flat, thick = (
        Transport(box(shape, ends), scheme),
        Transport(Grid([Axis("y", 0.0, 1.0), *box(shape, ends).axes], [4, *shape]), scheme),
    )
    for mu, v in itertools.product(rough(shape, 11), potentials(shape, 11)):
        a, b = (np.broadcast_to(values, (4, *shape)).copy() for values in (mu, v))
        np.testing.assert_array_equal(thick.rate(a, b), np.broadcast_to(flat.rate(mu, v), (4, *shape)))
        assert thick.outflow_rate(b)[0] == flat.outflow_rate(v)[0]


# --- metric, construction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", EXPLICIT, ids=name_of)
def test_metric_forms_agree_bit_for_bit(scheme):
    grid = box((33, 80, 5), [End.PERIODIC, End.NATURAL, End.TRUNCATION])
    rng = np.random.default_rng(4)
    mu, v = rng.random(grid.shape), rng.standard_normal(grid.shape)

    def rates(*metric):
        return Transport(grid, scheme, metric).rate(mu, v, dt=0.01)

    plain = Transport(grid, scheme).rate(mu, v, dt=0.01)
    np.testing.assert_array_equal(rates(None, 1.0, lambda *x: 1.0), plain)
    np.testing.assert_array_equal(rates(2.0, 2.0, lambda *x: 2 + 0 * x[2]), rates(2, lambda *x: 2 + 0 * x[0], 2.0))
    line, full = (lambda *x: 1 + x[1] ** 2), (lambda *x: 1 + x[1] ** 2 + 0 * x[0] * x[2])
    np.testing.assert_array_equal(rates(line, line, line), rates(full, full, full))
    assert not rates(0.0, 0, lambda *x: 0.0 * x[0]).any()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ([1.0], "1 entries for 2 axes"),
        ([-1.0, None], "'x0' is -1.0"),
        ([None, float("nan")], "'x1' is nan"),
        ([None, lambda x, y: y], "'x1' is -1.0 at the face"),
        ([lambda x, y: np.full_like(x, np.inf), None], "inf at the face"),
        ([lambda x, y: np.ones(3), None], "does not broadcast"),
    ],
)
def test_metric_is_checked(metric, message):
    with pytest.raises(ValueError, match=message):
        Transport(box((8, 9)), Upwind(), metric)


def test_construction_is_checked():
    with pytest.raises(TypeError, match=r"Limiter\.VAN_LEER"):
        Muscl("van-leer")
    for ratio in (1.0, -3.0, float("inf"), float("nan"), "a", True):
        with pytest.raises(ValueError, match="tail_ratio"):
            Weno5(tail_ratio=ratio)
    with pytest.raises(TypeError, match=r"scheme must be a Scheme such as Weno5\(\), not 'muscl'"):
        Transport(box((8,)), "muscl")
    with pytest.raises(ValueError, match="threads"):
        Transport(box((8,)), Muscl(), threads=0)
    assert [(s.order, s.positivity, s.point_values, s.ghost) for s in (Upwind(), Muscl(), Weno5())] == [
        (1, 1.0, False, 1),
        (2, 0.5, False, 2),
        (5, 1.0, True, 5),
    ]
    assert Muscl() == Muscl(Limiter.VAN_LEER)


def test_import_is_cheap():
    heavy = "numba", "scipy", "findiff", "sympy"
    code = f"import sys, mfpde.mesh.transport; print([m for m in {heavy} if m in sys.modules])"
    assert printed_by(code) == "[]\n"


def test_known_outflow_changes_nothing(monkeypatch):
    """Speeds are taken over only while the operator still holds them."""
    rng = np.random.default_rng(12)
    transport = Transport(box((30, 20)), Weno5())
    mu = np.exp(1.5 * rng.standard_normal((30, 20)))
    v, other = rng.standard_normal((2, 30, 20))
    reference = {}
    for temperature in (0.0, 0.3):
        for w in (v, other):
            reference[temperature, w is v] = transport.rate(mu, w, dt=0.01, temperature=temperature)
    assert (reference[0.0, True] != transport.rate(mu, v)).any()  # the limiter is at work
    known = {}
    for key in reference:
        known[key] = transport.outflow(v if key[1] else other, mu, key[0])
        for k, outflow in list(known.items()):
            w = v if k[1] else other
            rate = transport.rate(mu, w, dt=0.01, temperature=k[0], outflow=outflow)
            np.testing.assert_array_equal(rate, reference[k])
            known[key] = transport.outflow(v if key[1] else other, mu, key[0])
    # what it is for: speeds are not found again
    outflow, found, find = transport.outflow(v, mu), [], transport._find_speeds
    monkeypatch.setattr(transport, "_find_speeds", lambda *arguments: [found.append(1), find(*arguments)])
    transport.rate(mu, v, dt=0.01, outflow=outflow)
    assert not found
    transport.rate(mu, v, dt=0.01)
    assert found
