"""Diffusion: the Bernoulli function, Gibbs states, implicit steps in extended precision, positivity, orders."""

import math

import numpy as np
import pytest
import scipy.linalg
from numba import njit
from shared import EPS, EXPLICIT, box, name_of, wavy

from mfpde.equation.gibbs import log_gibbs
from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh.compiled.bernoulli import bernoulli
from mfpde.mesh.schemes import Muscl, ScharfetterGummel, Upwind, Weno5
from mfpde.mesh.transport import Transport

GAMMA = 1.0 - 1.0 / math.sqrt(2.0)
DTS = (1e-6, 1e-3, 1.0, 1e3)
ENDS = (End.TRUNCATION, End.NATURAL, End.PERIODIC, (End.NATURAL, End.TRUNCATION))
SCHEMES = [*EXPLICIT, ScharfetterGummel()]


def end_name(ends):
    return "-".join(end.value for end in ends) if isinstance(ends, tuple) else ends.value


def operators(grid, seed, scheme=None):
    """Plain, with a metric, and with a metric and a base measure."""
    rng = np.random.default_rng(seed)
    scheme = ScharfetterGummel() if scheme is None else scheme
    metric = [0.7 if i % 2 else wavy for i in range(grid.dimension)]
    base = rng.standard_normal(grid.shape)
    return [
        (Transport(grid, scheme), None),
        (Transport(grid, scheme, metric), None),
        (Transport(grid, scheme, metric, base), base),
    ]


def matrix(transport, V, temperature):
    """The rate as a dense matrix."""
    shape = transport.grid.shape
    units = np.eye(transport.grid.size)
    return np.stack([transport.rate(u.reshape(shape), V, temperature=temperature).ravel() for u in units], axis=1)


def rough(shape, seed):
    """Densities with zeros, a delta, tails of 1e-300, smooth hills."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    kinds = [
        rng.random(size),
        np.where(rng.random(size) < 0.5, 0.0, rng.random(size)),
        np.eye(1, size, size // 3)[0] * 1e6,
        10.0 ** rng.uniform(-300, 0, size),
        1.0 + 0.1 * np.sin(np.arange(size)),
    ]
    return [kind.reshape(shape) for kind in kinds]


# --- the Bernoulli function -----------------------------------------------------------------------------------------


@njit(error_model="numpy")
def bernoulli_of(x, out):
    for j in range(x.size):
        out[j] = bernoulli(x[j])


def bernoulli_values(x):
    x = np.asarray(x, dtype=float)
    out = np.empty_like(x)
    bernoulli_of(x, out)
    return out


def bernoulli_exact(x):
    """By integers: x and the sums of the exponential series are exact rationals to 2^-200."""
    shift = 200
    unit = 1 << shift
    n, d = float(x).as_integer_ratio()
    halvings = max(0, math.frexp(x)[1] + 4)
    r = (n << shift) // (d << halvings)
    term, total = unit, 0
    for k in range(1, 60):
        term = term * r // (unit * k)
        total += term
    for _ in range(halvings):
        total = (total * total >> shift) + 2 * total
    return (n << shift) / (d * total) if total else 1.0


def test_bernoulli_to_round_off():
    rng = np.random.default_rng(0)
    multiples = math.log(2.0) / 2 * np.arange(1, 300)
    x = np.concatenate([10.0 ** rng.uniform(-30, math.log10(700), 1500), rng.uniform(0, 3, 500), multiples])
    exact = np.array([bernoulli_exact(value) for value in x])
    np.testing.assert_array_less(np.abs(bernoulli_values(x) / exact - 1), 4.5e-16)


def test_bernoulli_at_the_extremes():
    tiny = 10.0 ** np.arange(-300.0, -17.0)
    np.testing.assert_array_equal(bernoulli_values(tiny), np.ones(tiny.size))
    np.testing.assert_array_equal(bernoulli_values([0.0, 5e-324, 1e4, 1e308, np.inf]), [1.0, 1.0, 0.0, 0.0, 0.0])
    assert np.isnan(bernoulli_values([np.nan]))[0]
    near = np.array([700.0, 708.0, 709.5, 720.0, 740.0])
    # e^-x in two halves, each a normal number
    np.testing.assert_allclose(
        bernoulli_values(near), (near * np.exp(-near / 2)) * np.exp(-near / 2), rtol=1e-13, atol=5e-324
    )


def test_bernoulli_is_decreasing_between_zero_and_one():
    value = bernoulli_values(np.linspace(0.0, 800.0, 40001))
    assert value[0] == 1.0
    assert value[-1] == 0.0
    assert np.all(np.diff(value) <= 0)


def test_detailed_balance_to_round_off():
    x = np.concatenate([10.0 ** np.linspace(-300, 2.8, 500), np.linspace(0.01, 600, 500)])
    value = bernoulli_values(x)
    ratio = (value + x) / value
    np.testing.assert_allclose(ratio[x < 0.5], np.exp(x[x < 0.5]), rtol=6e-16)
    np.testing.assert_allclose(np.log(ratio[x > 0.5]), x[x > 0.5], rtol=1.2e-15)


# --- the flux -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [2.0, 1e-5])
def test_flux_is_the_formula(drift):
    n, tau = 23, 0.31
    rng = np.random.default_rng(5)
    grid = box((n,), End.TRUNCATION)
    transport = Transport(grid, ScharfetterGummel(), [wavy], base := 0.5 * drift * rng.standard_normal(n))
    mu, V, h = rng.random(n), drift * rng.standard_normal(n), grid.spacing[0]
    d = np.diff(V) / tau - np.diff(base)
    g = wavy(grid.faces(0))[1:-1]
    expected = tau * g / h * (d / np.expm1(d) * mu[:-1] + d / np.expm1(-d) * mu[1:])
    (flux,) = transport.fluxes(mu, V, temperature=tau)
    np.testing.assert_allclose(flux[1:-1], expected, rtol=1e-13, atol=1e-13)
    assert flux[0] == flux[-1] == 0.0
    np.testing.assert_allclose(transport.rate(mu, V, temperature=tau), -np.diff(flux) / h, rtol=1e-12)


@pytest.mark.parametrize("scheme", [Upwind(), Muscl()], ids=name_of)
def test_diffusion_of_cell_averages_is_two_point(scheme):
    n, tau = 19, 0.4
    rng = np.random.default_rng(6)
    for ends in ENDS:
        grid = box((n,), ends)
        base = rng.standard_normal(n)
        transport = Transport(grid, scheme, [wavy], base)
        mu, V, h = rng.random(n), rng.standard_normal(n), grid.spacing[0]
        (flux,) = transport.fluxes(mu, V, temperature=tau)
        (drift,) = Transport(grid, scheme, [wavy]).fluxes(mu, V - tau * base)
        padded = np.concatenate([mu[-1:], mu, mu[:1]]) if grid.axes[0].periodic else np.pad(mu, 1, mode="edge")
        g = wavy(grid.faces(0))
        if grid.axes[0].periodic:
            g[-1] = g[0]
        np.testing.assert_allclose(flux - drift, -tau * g * np.diff(padded) / h, atol=2e-14 / h)


@pytest.mark.parametrize("shape", [(37,), (13, 17), (7, 6, 9)])
def test_scharfetter_gummel_at_zero_temperature_is_upwind(shape):
    grid = box(shape, list(ENDS[1:4])[: len(shape)])
    rng = np.random.default_rng(0)
    V, metric, base = rng.standard_normal(shape), [wavy] * len(shape), rng.standard_normal(shape)
    one, two = Transport(grid, ScharfetterGummel(), metric, base), Transport(grid, Upwind(), metric)
    for mu in rough(shape, 1):
        np.testing.assert_array_equal(one.rate(mu, V), two.rate(mu, V))
        np.testing.assert_array_equal(one.rate(mu, V, temperature=0.0), two.rate(mu, V))
        # and the limit is reached continuously, without overflow on the way
        np.testing.assert_array_equal(one.rate(mu, V, temperature=1e-30), two.rate(mu, V))
        assert np.isfinite(one.rate(mu, V, temperature=5e-324)).all()
    assert one.outflow_rate(V) == two.outflow_rate(V)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_temperature_zero_gives_the_same_bits(scheme):
    grid = box((15, 18), [End.PERIODIC, End.TRUNCATION])
    rng = np.random.default_rng(2)
    V = rng.standard_normal(grid.shape)
    base = Transport(grid, scheme, [wavy, None], rng.standard_normal(grid.shape))
    plain = Transport(grid, scheme, [wavy, None])
    for mu in rough(grid.shape, 3):
        for dt in (None, 1e-3, 1.0):
            np.testing.assert_array_equal(base.rate(mu, V, dt=dt, temperature=0.0), plain.rate(mu, V, dt=dt))
            for a, b in zip(base.fluxes(mu, V, dt=dt, temperature=0.0), plain.fluxes(mu, V, dt=dt), strict=True):
                np.testing.assert_array_equal(a, b)
    assert base.outflow_rate(V, temperature=0.0) == plain.outflow_rate(V)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("ends", ENDS, ids=end_name)
def test_rates_sum_to_zero_and_difference_the_fluxes(scheme, ends):
    grid = box((17, 12), [ends, End.PERIODIC])
    rng = np.random.default_rng(4)
    V = rng.standard_normal(grid.shape)
    transport = Transport(grid, scheme, [wavy, None], rng.standard_normal(grid.shape))
    for mu in rough(grid.shape, 5):
        for dt in (None, 0.02):
            rate = transport.rate(mu, V, dt=dt, temperature=0.3)
            fluxes = transport.fluxes(mu, V, dt=dt, temperature=0.3)
            expected = -sum(np.diff(f, axis=i) / h for i, (f, h) in enumerate(zip(fluxes, grid.spacing, strict=True)))
            np.testing.assert_allclose(rate, expected, rtol=1e-12, atol=1e-11 * np.abs(rate).max())
            assert abs(rate.sum()) <= 20 * EPS * np.abs(rate).sum()
            assert np.array_equal(fluxes[1][:, 0], fluxes[1][:, -1])
            if not grid.axes[0].periodic:
                assert not fluxes[0][[0, -1]].any()


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_permuting_and_mirroring_axes_permutes_and_mirrors_bits(scheme):
    shape = (14, 21)
    rng = np.random.default_rng(7)
    V, base = rng.standard_normal(shape), rng.standard_normal(shape)
    ends = [End.PERIODIC, (End.NATURAL, End.TRUNCATION)]
    grid = box(shape, ends)
    turned = Grid(grid.axes[::-1], shape[::-1])
    low, high = grid.axes[1].ends
    axis = grid.axes[1]
    mirrored = Grid([grid.axes[0], Axis(axis.name, axis.lower, axis.upper, (high, low))], shape)
    one, two = Transport(grid, scheme, None, base), Transport(turned, scheme, None, base.T)
    three = Transport(mirrored, scheme, None, base[:, ::-1])
    for mu in rough(shape, 8):
        rate = one.rate(mu, V, dt=0.01, temperature=0.7)
        np.testing.assert_array_equal(two.rate(mu.T.copy(), V.T.copy(), dt=0.01, temperature=0.7), rate.T)
        mirror = three.rate(mu[:, ::-1].copy(), V[:, ::-1].copy(), dt=0.01, temperature=0.7)
        np.testing.assert_array_equal(mirror, rate[:, ::-1])


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("everything", [True, False])
def test_long_rows_and_short_ones_give_the_same_bits(scheme, everything):
    """The first axis of one mesh is swept by rows, that of the other by tiles; with a metric and a base or without."""
    shape = (9, 130)
    rng = np.random.default_rng(15)
    V, base = rng.standard_normal(shape), rng.standard_normal(shape)
    metric = [wavy, wavy] if everything else None
    grid = box(shape, [(End.NATURAL, End.TRUNCATION), End.PERIODIC] if everything else [End.PERIODIC, End.NATURAL])
    turned = Grid(grid.axes[::-1], shape[::-1])
    one = Transport(grid, scheme, metric, base if everything else None)
    two = Transport(turned, scheme, metric, base.T if everything else None)
    for temperature in (0.0, 0.7):
        assert one.outflow_rate(V, temperature=temperature)[0] == two.outflow_rate(V.T, temperature=temperature)[0]
        for mu in rough(shape, 16)[:4:3]:
            for dt in (None, 1e-4):
                settings = {"dt": dt, "temperature": temperature}
                np.testing.assert_array_equal(one.rate(mu, V, **settings), two.rate(mu.T, V.T, **settings).T)
                for a, b in zip(one.fluxes(mu, V, **settings), two.fluxes(mu.T, V.T, **settings)[::-1], strict=True):
                    np.testing.assert_array_equal(a, b.T)


# --- forward Euler: positivity at the stated bound ------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_forward_euler_is_positive_at_the_bound(scheme, temperature):
    for shape, ends in [((41,), ENDS[3]), ((40,), End.PERIODIC), ((11, 13), End.TRUNCATION), ((6, 5, 7), End.NATURAL)]:
        grid = box(shape, ends)
        rng = np.random.default_rng(9)
        for transport, _ in operators(grid, 10, scheme):
            V = rng.standard_normal(shape)
            rate, cell = transport.outflow_rate(V, temperature=temperature)
            dt = scheme.positivity / rate
            delta = np.zeros(grid.size)
            delta[cell] = 1.0
            for mu in [*rough(shape, 11), delta.reshape(shape)]:
                for factor in (1.0, 1e3) if isinstance(scheme, Weno5) else (1.0,):
                    step = factor * dt
                    new = mu + step * transport.rate(mu, V, dt=step, temperature=temperature)
                    assert new.min() >= 0.0
                    assert abs(new.sum() / mu.sum() - 1) < 1e-13


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("shape", [(12, 10), (5, 130)], ids=str)
def test_outflow_rate_is_homogeneous(scheme, shape):
    """Potential and temperature in other units of energy: the same bits, also where both hardly move anything."""
    transport = Transport(box(shape, [End.NATURAL, End.PERIODIC]), scheme)
    downhill = np.add.outer(-(np.arange(shape[0]) ** 2.0), np.zeros(shape[1]))
    for V in (np.random.default_rng(17).standard_normal(shape), downhill):
        rate, cell = transport.outflow_rate(V, temperature=0.7)
        for unit in (8.0, 2.0**-40):
            assert transport.outflow_rate(unit * V, temperature=unit * 0.7) == (unit * rate, cell)


@pytest.mark.parametrize("scheme", [Upwind(), ScharfetterGummel()], ids=name_of)
def test_outflow_rate_is_the_largest_exit_rate(scheme):
    """The bound is sharp: the diagonal of the matrix of rates."""
    for shape, ends in [((17,), ENDS[3]), ((16,), End.PERIODIC), ((7, 6), End.TRUNCATION)]:
        grid = box(shape, ends)
        rng = np.random.default_rng(12)
        for transport, _ in operators(grid, 13, scheme):
            V = rng.standard_normal(shape)
            exits = -np.diag(matrix(transport, V, 0.4))
            rate, cell = transport.outflow_rate(V, temperature=0.4)
            assert abs(rate / exits.max() - 1) < 1e-13
            assert exits[cell] >= exits.max() * (1 - 1e-14)
            # a delta in that cell goes below zero right behind the bound
            delta = np.zeros(grid.size)
            delta[cell] = 1.0
            delta = delta.reshape(shape)
            new = delta + 1.001 / rate * transport.rate(delta, V, temperature=0.4)
            assert new.min() < 0.0


def test_outflow_rate_of_muscl_counts_half_the_diffusion():
    n, tau = 30, 0.5
    grid = box((n,), End.TRUNCATION)
    V, h = np.random.default_rng(14).standard_normal(n), grid.spacing[0]
    v = np.pad(-np.diff(V) / h, 1)
    inside = np.pad(np.ones(n - 1), 1)
    expected = (np.maximum(v[1:], 0) - np.minimum(v[:-1], 0)) / h + 0.5 * tau / h**2 * (inside[1:] + inside[:-1])
    assert abs(Transport(grid, Muscl()).outflow_rate(V, temperature=tau)[0] / expected.max() - 1) < 1e-13


def test_outflow_rate_of_weno_bounds_the_spectrum_of_its_diffusion():
    """Forward Euler at an outflow number of 1 is stable on pure diffusion, and only just."""
    n, tau = 32, 0.3
    grid = box((n,), End.PERIODIC)
    transport = Transport(grid, Weno5())
    V = np.zeros(n)
    mu = 1.0 + 0.5 * (-1.0) ** np.arange(n)
    rate = transport.rate(mu, V, temperature=tau)
    symbol = -rate / (mu - 1.0)
    np.testing.assert_allclose(symbol, symbol[0])
    assert abs(symbol[0] / transport.outflow_rate(V, temperature=tau)[0] - 2.0) < 1e-12


def test_limiter_of_weno_leaves_resolved_data_alone():
    grid = Grid([Axis("x", 0, 2 * np.pi, End.PERIODIC), Axis("y", 0, np.pi, End.NATURAL)], [48, 32])
    x, y = grid.mesh()
    mu, V = np.exp(np.sin(x) * np.cos(y)), np.cos(x) * np.cos(2 * y)
    transport = Transport(grid, Weno5(), None, 0.2 * np.sin(x) * np.cos(y))
    for temperature in (0.01, 1.0):
        dt = 0.49 / transport.outflow_rate(V, temperature=temperature)[0]
        limited = transport.rate(mu, V, dt=dt, temperature=temperature)
        np.testing.assert_array_equal(limited, transport.rate(mu, V, temperature=temperature))


# --- Gibbs states ---------------------------------------------------------------------------------------------------


def deep(grid, temperature, depth, base):
    """A potential whose Gibbs state falls to exp(-depth)."""
    V = sum(
        np.cos(np.pi * (x - a.lower) / a.length * 2) + 0.3 * np.sin(5.0 * x)
        for x, a in zip(grid.mesh(), grid.axes, strict=True)
    )
    V = (V - V.min()) / np.ptp(V) * depth * temperature
    return V if base is None else V + temperature * base


@pytest.mark.parametrize("ends", ENDS, ids=end_name)
@pytest.mark.parametrize("depth", [3.0, 690.0])
def test_one_implicit_step_keeps_gibbs(ends, depth):
    tau = 0.37
    for shape in ((64,), (12, 40)):
        grid = box(shape, ends)
        for transport, base in operators(grid, 20):
            V = deep(grid, tau, depth, base)
            p = np.exp(log_gibbs(V, tau, grid.cell_volume, log_base=base))
            assert p.min() < (1e-290 if depth > 600 else 1.0)
            for axis in range(len(shape)):
                for dt in DTS:
                    for order in (1, 2):
                        new = transport.implicit(axis, p, V, dt, tau, order=order)
                        assert np.abs(new - p).sum() * grid.cell_volume < 1e-14
                        # entry by entry to the round-off of V/tau
                        assert np.abs(new / p - 1).max() < 1e-13 + 4 * EPS * depth
                        assert abs(new.sum() / p.sum() - 1) < 6e-15


@pytest.mark.parametrize("scheme", [ScharfetterGummel()], ids=name_of)
def test_explicit_rate_vanishes_on_gibbs(scheme):
    grid = box((20, 15), [End.PERIODIC, End.NATURAL])
    for transport, base in operators(grid, 21, scheme):
        V = deep(grid, 0.3, 40.0, base)
        p = np.exp(log_gibbs(V, 0.3, grid.cell_volume, log_base=base))
        rate, _ = transport.outflow_rate(V, temperature=0.3)
        assert np.abs(transport.rate(p, V, temperature=0.3)).max() < 1e-13 * rate * p.max()


# --- the implicit matrix --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ENDS, ids=end_name)
def test_implicit_equals_a_dense_solve(ends):
    tau = 0.6
    for shape in ((4,), (5,), (31,), (70,), (5, 4), (3 + 4, 5, 4)):
        grid = box(shape, ends)
        rng = np.random.default_rng(22)
        for transport, _ in operators(grid, 23):
            V, mu = 2.0 * rng.standard_normal(shape), rng.random(shape)
            axis = len(shape) // 2
            for dt in (1e-4, 0.02, 10.0):
                x = transport.implicit(axis, mu, V, dt, tau)
                # the residual with the rate along that axis alone
                fluxes = transport.fluxes(x, V, temperature=tau)
                rate = -np.diff(fluxes[axis], axis=axis) / grid.spacing[axis]
                size = transport.outflow_rate(V, temperature=tau)[0]
                np.testing.assert_allclose(x - dt * rate, mu, atol=20 * EPS * (1 + dt * size) * x.max())
            if len(shape) == 1:
                generator = matrix(transport, V, tau)
                for dt in (1e-4, 0.02, 10.0):
                    dense = scipy.linalg.solve(np.eye(grid.size) - dt * generator, mu)
                    np.testing.assert_allclose(transport.implicit(0, mu, V, dt, tau), dense, rtol=1e-10)
                    resolvent = scipy.linalg.inv(np.eye(grid.size) - GAMMA * dt * generator)
                    y = resolvent @ mu
                    second = resolvent @ ((1 + math.sqrt(2)) * y - math.sqrt(2) * mu)
                    if second.min() >= 0:
                        result = transport.implicit(0, mu, V, dt, tau, order=2)
                        np.testing.assert_allclose(result, second, rtol=1e-9, atol=1e-12)


def rational_solve(ahead, back, mu, dt):
    """``(I - dt A) x = mu`` in integers of 400 bits, by elimination with subtractions."""
    from fractions import Fraction

    n = len(mu)
    A = [[Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    for k in range(n):
        a, b = Fraction(ahead[k]) * Fraction(dt), Fraction(back[k]) * Fraction(dt)
        A[k - 1][k - 1] += a
        A[k][k - 1] -= a
        A[k][k] += b
        A[k - 1][k] -= b
    x = [Fraction(value) for value in mu]
    for k in range(n):
        for i in range(k + 1, n):
            f = A[i][k] / A[k][k]
            if f:
                A[i] = [u - f * v for u, v in zip(A[i], A[k], strict=True)]
                x[i] -= f * x[k]
    for k in reversed(range(n)):
        x[k] = (x[k] - sum(A[k][j] * x[j] for j in range(k + 1, n))) / A[k][k]
    return x


@pytest.mark.parametrize("ends", [End.TRUNCATION, End.PERIODIC], ids=end_name)
@pytest.mark.parametrize("dt", [1e-6, 1e-2, 1e3])
def test_every_entry_has_small_relative_error(ends, dt):
    """Against exact rational arithmetic with the same rates, tails of 1e-300 included."""
    n, tau = 12, 0.25
    grid = box((n,), ends)
    rng = np.random.default_rng(24)
    V = tau * rng.uniform(0, 25, n)
    transport = Transport(grid, ScharfetterGummel())
    h = grid.spacing[0]
    d = np.diff(V, prepend=V[-1]) / tau
    weight = bernoulli_values(np.abs(d)) * tau / h**2
    ahead, back = weight + np.maximum(-d, 0) * tau / h**2, weight + np.maximum(d, 0) * tau / h**2
    if not grid.axes[0].periodic:
        ahead[0] = back[0] = 0.0
    starts = [10.0 ** rng.uniform(-300, 0, n), np.eye(1, n, 7)[0], 10.0 ** np.linspace(-300, 0, n)]
    for mu in starts:
        exact = rational_solve(ahead, back, mu, dt)
        result = transport.implicit(0, mu, V, dt, tau)
        error = [abs(float(value / reference) - 1) for value, reference in zip(map(Exact, result), exact, strict=True)]
        assert max(error) < 1e-14


def Exact(value):
    from fractions import Fraction

    return Fraction(float(value))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("ends", ENDS, ids=end_name)
def test_implicit_is_positive_and_keeps_mass(ends, order):
    for shape in ((61,), (9, 33)):
        grid = box(shape, ends)
        rng = np.random.default_rng(25)
        for transport, _ in operators(grid, 26):
            for V in (rng.standard_normal(shape), 200.0 * rng.random(shape), np.zeros(shape)):
                for mu in rough(shape, 27):
                    for dt in (*DTS, 1e9):
                        for axis in range(len(shape)):
                            new = transport.implicit(axis, mu, V, dt, 0.2, order=order)
                            assert new.min() >= 0.0
                            total = mu.sum(axis=axis)
                            np.testing.assert_allclose(new.sum(axis=axis), total, rtol=6e-15, atol=1e-320)


def test_implicit_residual_is_the_explicit_rate():
    """``(x - mu)/dt`` is the rate at ``x`` to round-off, also of the second order: the same matrix."""
    grid = box((90,), End.PERIODIC)
    rng = np.random.default_rng(28)
    V, mu = rng.standard_normal(90), 1 + rng.random(90)
    for transport, _ in operators(grid, 29):
        size = transport.outflow_rate(V, temperature=0.3)[0]
        dt = 1.0 / size
        x = transport.implicit(0, mu, V, dt, 0.3)
        np.testing.assert_allclose((x - mu) / dt, transport.rate(x, V, temperature=0.3), atol=20 * EPS * size)


def test_implicit_in_place_and_at_length_zero():
    grid = box((10, 71), [End.NATURAL, End.PERIODIC])
    rng = np.random.default_rng(30)
    V, mu = rng.standard_normal(grid.shape), rng.random(grid.shape)
    transport = Transport(grid, ScharfetterGummel(), [wavy, 2.0])
    for axis in (0, 1):
        for order in (1, 2):
            expected = transport.implicit(axis, mu, V, 0.3, 0.2, order=order)
            work = mu.copy()
            assert transport.implicit(axis, work, V, 0.3, 0.2, order=order, out=work) is work
            np.testing.assert_array_equal(work, expected)
            np.testing.assert_array_equal(transport.implicit(axis, mu, V, 0.0, 0.2, order=order), mu)


@pytest.mark.parametrize("order", [1, 2])
def test_lines_do_not_see_each_other(order):
    """Axes permuted, lines alone, tiles of any width: the same bits."""
    shape = (70, 9, 8)
    ends = [End.PERIODIC, End.TRUNCATION, End.NATURAL]
    grid = box(shape, ends)
    rng = np.random.default_rng(31)
    V, mu = 3.0 * rng.standard_normal(shape), rough(shape, 32)[1]
    transport = Transport(grid, ScharfetterGummel())
    for axis in range(3):
        result = transport.implicit(axis, mu, V, 0.5, 0.3, order=order)
        for permutation in ((1, 2, 0), (2, 1, 0)):
            turned = Grid([grid.axes[i] for i in permutation], [shape[i] for i in permutation])
            other = Transport(turned, ScharfetterGummel()).implicit(
                permutation.index(axis), mu.transpose(permutation), V.transpose(permutation), 0.5, 0.3, order=order
            )
            np.testing.assert_array_equal(other, result.transpose(permutation))
        line = Transport(Grid([grid.axes[axis]], [shape[axis]]), ScharfetterGummel())
        for index in ((0, 0), (3, 5)):
            at = tuple(np.insert(np.array(index, dtype=object), axis, slice(None)))
            alone = line.implicit(0, mu[at].copy(), V[at].copy(), 0.5, 0.3, order=order)
            np.testing.assert_array_equal(alone, result[at])


@pytest.mark.parametrize("ends", ENDS, ids=end_name)
def test_mirrored_line_gives_the_mirrored_result(ends):
    n = 33
    grid = box((n,), ends)
    axis = grid.axes[0]
    mirrored = Grid([Axis("x0", -axis.upper, -axis.lower, axis.ends[::-1])], [n])
    rng = np.random.default_rng(33)
    V, mu = rng.standard_normal(n), rng.random(n)
    for order in (1, 2):
        for dt in (1e-3, 1.0):
            one = Transport(grid, ScharfetterGummel()).implicit(0, mu, V, dt, 0.2, order=order)
            two = Transport(mirrored, ScharfetterGummel()).implicit(0, mu[::-1], V[::-1], dt, 0.2, order=order)
            np.testing.assert_allclose(two[::-1], one, rtol=1e-12, atol=1e-13)


def test_seam_of_a_periodic_axis_does_not_show():
    n = 40
    grid = box((n,), End.PERIODIC)
    transport = Transport(grid, ScharfetterGummel())
    rng = np.random.default_rng(34)
    V = 0.5 * rng.standard_normal(n)
    for mu in rough((n,), 35):
        for order, rtol in ((1, 1e-12), (2, 1e-8)):
            for dt in (1e-3, 0.05):
                one = transport.implicit(0, mu, V, dt, 0.2, order=order)
                for shift in (1, 17):
                    two = transport.implicit(0, np.roll(mu, shift), np.roll(V, shift), dt, 0.2, order=order)
                    np.testing.assert_allclose(
                        np.roll(two, -shift), one, rtol=rtol, atol=1e-9 * one.max() * (order - 1)
                    )


def test_threads_give_the_same_bits():
    grid = box((330, 310), [End.PERIODIC, End.TRUNCATION])
    rng = np.random.default_rng(36)
    V, mu = rng.standard_normal(grid.shape), rough(grid.shape, 37)[1]
    metric = [wavy, None]
    one, three = (Transport(grid, ScharfetterGummel(), metric, threads=t) for t in (1, 3))
    for axis in (0, 1):
        for order in (1, 2):
            a, b = (t.implicit(axis, mu, V, 0.01, 0.2, order=order) for t in (one, three))
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.rate(mu, V, temperature=0.2), three.rate(mu, V, temperature=0.2))
    assert one.outflow_rate(V, temperature=0.2) == three.outflow_rate(V, temperature=0.2)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_nan_stays(scheme):
    grid = box((24, 12), [End.PERIODIC, End.NATURAL])
    transport = Transport(grid, scheme)
    mu, V = np.ones(grid.shape), np.zeros(grid.shape)
    for spoilt in (0, 1):
        arrays = [mu.copy(), V.copy()]
        arrays[spoilt][5, 4] = np.nan
        assert np.isnan(transport.rate(*arrays, temperature=0.1)[5, 4])
        assert np.isnan(transport.rate(*arrays, dt=1e-3, temperature=0.1)[5, 4])
        if spoilt:
            assert math.isnan(transport.outflow_rate(arrays[1], temperature=0.1)[0])
        if isinstance(scheme, ScharfetterGummel):
            for axis in (0, 1):
                for order in (1, 2):
                    result = transport.implicit(axis, *arrays, 0.1, 0.1, order=order)
                    line = (slice(None), 4) if axis == 0 else (5, slice(None))
                    assert np.isnan(result[line]).all()
                    assert np.isnan(result).sum() == result[line].size


# --- the blend of the second order ----------------------------------------------------------------------------------


def second_order_exact(generator, mu, dt):
    resolvent = scipy.linalg.inv(np.eye(mu.size) - GAMMA * dt * generator)
    return resolvent @ ((1 + math.sqrt(2)) * (resolvent @ mu) - math.sqrt(2) * mu)


@pytest.mark.parametrize("ends", [End.TRUNCATION, End.PERIODIC], ids=end_name)
def test_second_order_is_untouched_where_nothing_is_negative(ends):
    """Cells whose donors stay positive, all the way upstream, have the SDIRK value; the others lie between."""
    n, tau = 60, 0.3
    grid = box((n,), ends)
    transport = Transport(grid, ScharfetterGummel())
    x = grid.centres(0)
    V = 0.2 * np.cos(2 * np.pi * x / grid.axes[0].length)
    generator = matrix(transport, V, tau)
    rate = transport.outflow_rate(V, temperature=tau)[0]
    mu = 1e-3 + np.exp(-((x / 0.1) ** 2))
    seen_limited = 0
    for number in (1.0, 2.4, 30.0, 300.0):
        dt = number / rate
        plain = second_order_exact(generator, mu, dt)
        result = transport.implicit(0, mu, V, dt, tau, order=2)
        if plain.min() >= 0:
            np.testing.assert_allclose(result, plain, rtol=1e-12)
        else:
            seen_limited += 1
            euler = transport.implicit(0, mu, V, dt, tau)
            same = np.isclose(result, plain, rtol=1e-10)
            assert same.any()
            assert not same[plain < 0].any()
            assert np.abs(result - plain).sum() < np.abs(euler - plain).sum()
    assert seen_limited == 1


@pytest.mark.parametrize("ends", [End.TRUNCATION, End.NATURAL], ids=end_name)
def test_blend_takes_no_more_than_it_must(ends):
    """A cell that SDIRK would make negative gives all it has and gets, and is left empty."""
    n, tau = 45, 0.3
    grid = box((n,), ends)
    transport = Transport(grid, ScharfetterGummel(), [wavy])
    seen = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        V = rng.standard_normal(n)
        generator = matrix(transport, V, tau)
        mu = np.where(rng.random(n) < 0.8, 0.0, rng.random(n))
        for number in (10.0, 100.0, 1000.0):
            dt = number / -np.diag(generator).min()
            plain = second_order_exact(generator, mu, dt)
            result = transport.implicit(0, mu, V, dt, tau, order=2)
            negative = plain < -1e-10
            seen += negative.sum()
            assert result[negative].max(initial=0.0) < 1e-11
            assert abs(result.sum() / mu.sum() - 1) < 1e-14
    assert seen > 50


def test_a_delta_goes_negative_right_above_the_stated_number():
    """``dt * exit rate = 1 + sqrt(2)`` is where the SDIRK method first needs the blend."""
    grid = box((4,), End.PERIODIC)
    transport = Transport(grid, ScharfetterGummel())
    generator = matrix(transport, np.zeros(4), 1.0)
    mu = np.array([0.0, 1.0, 0.0, 0.0])
    exit_rate = transport.outflow_rate(np.zeros(4), temperature=1.0)[0]
    first = scipy.linalg.inv(np.eye(4) - GAMMA * (1 + math.sqrt(2)) / exit_rate * generator)
    stage = (1 + math.sqrt(2)) * first @ mu - math.sqrt(2) * mu
    assert stage.min() >= 0.0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        V = rng.standard_normal((30,))
        line = Transport(box((30,), End.TRUNCATION), ScharfetterGummel())
        dt = (1 + math.sqrt(2)) / line.outflow_rate(V, temperature=0.5)[0]
        assert second_order_exact_matrix(matrix(line, V, 0.5), dt).min() > -1e-16


def second_order_exact_matrix(generator, dt):
    return np.stack([second_order_exact(generator, unit, dt) for unit in np.eye(len(generator))], axis=1)


def free_energy(mu, V, tau):
    positive = mu > 0
    return float((mu * V).sum() + tau * (mu[positive] * np.log(mu[positive])).sum())


@pytest.mark.parametrize("ends", ENDS, ids=end_name)
def test_free_energy_does_not_rise(ends):
    """Order 1 at every step; order 2 up to the stated number, and here beyond."""
    n, tau = 50, 0.2
    grid = box((n,), ends)
    rng = np.random.default_rng(40)
    for transport, base in operators(grid, 41):
        V = rng.standard_normal(n)
        number = transport.outflow_rate(V, temperature=tau)[0]
        total = V if base is None else V - tau * base
        for mu in rough((n,), 42):
            mu = mu / mu.sum()
            before = free_energy(mu, total, tau)
            for dt in (1e-6, 1e-2, 1.0, 1e3):
                after = free_energy(transport.implicit(0, mu, V, dt, tau), total, tau)
                assert after <= before + 1e-13 * (1 + abs(before))
            for factor in (0.01, 1.0, 1 + math.sqrt(2), 30.0, 1e3, 1e5):
                new = transport.implicit(0, mu, V, factor / number, tau, order=2)
                assert free_energy(new, total, tau) <= before + 1e-13 * (1 + abs(before))


# --- orders in space ------------------------------------------------------------------------------------------------


def case_periodic(n):
    grid = Grid([Axis("x", 0.0, 2 * np.pi, End.PERIODIC)], [n])
    x = grid.centres(0)
    g, g1 = 1.3 + 0.4 * np.cos(x), -0.4 * np.sin(x)
    mu = np.exp(np.sin(x))
    m1, m2 = np.cos(x) * mu, (np.cos(x) ** 2 - np.sin(x)) * mu
    V, v1, v2 = np.cos(x), -np.sin(x), -np.cos(x)
    b, b1, b2 = 0.3 * np.sin(2 * x), 0.6 * np.cos(2 * x), -1.2 * np.sin(2 * x)
    return grid, [lambda x: 1.3 + 0.4 * np.cos(x)], (g, g1), (mu, m1, m2), (V, v1, v2), (b, b1, b2)


def case_natural(n):
    grid = Grid([Axis("x", 0.0, np.pi, End.NATURAL)], [n])
    x = grid.centres(0)
    g, g1 = 1.0 + 0.3 * np.cos(2 * x), -0.6 * np.sin(2 * x)
    mu = np.exp(np.cos(x))
    m1, m2 = -np.sin(x) * mu, (np.sin(x) ** 2 - np.cos(x)) * mu
    V, v1, v2 = np.cos(2 * x), -2 * np.sin(2 * x), -4 * np.cos(2 * x)
    b, b1, b2 = 0.4 * np.cos(x), -0.4 * np.sin(x), -0.4 * np.cos(x)
    return grid, [lambda x: 1.0 + 0.3 * np.cos(2 * x)], (g, g1), (mu, m1, m2), (V, v1, v2), (b, b1, b2)


def case_vanishing(n):
    grid = Grid([Axis("x", -6.5, 6.5)], [n])
    x = grid.centres(0)
    mu = np.exp(-((x - 0.3) ** 2))
    m1, m2 = -2 * (x - 0.3) * mu, (4 * (x - 0.3) ** 2 - 2) * mu
    V, v1, v2 = np.sin(x) + 0.1 * x**2, np.cos(x) + 0.2 * x, -np.sin(x) + 0.2
    zero = 0.0 * x
    return grid, None, (1 + zero, zero), (mu, m1, m2), (V, v1, v2), (zero, zero, zero)


CELLS = (64, 96, 144, 216)


def order_of(case, scheme, temperature, cells=CELLS):
    errors = []
    for n in cells:
        grid, metric, (g, g1), (mu, m1, m2), (V, v1, v2), (b, b1, b2) = case(n)
        w1, w2 = v1 - temperature * b1, v2 - temperature * b2
        exact = g1 * mu * w1 + g * (m1 * w1 + mu * w2) + temperature * (g1 * m1 + g * m2)
        rate = Transport(grid, scheme, metric, b).rate(mu, V, temperature=temperature)
        errors.append(np.abs(rate - exact).sum() / np.abs(exact).sum())
    return -np.polyfit(np.log(cells), np.log(errors), 1)[0], errors[-1]


@pytest.mark.parametrize("case", [case_periodic, case_natural, case_vanishing], ids=lambda case: case.__name__)
def test_order_of_scharfetter_gummel(case):
    slope, finest = order_of(case, ScharfetterGummel(), 0.5)
    assert abs(slope - 2.0) < 0.1
    assert finest < 2e-3
    # the drift limit: first order, the error that of Upwind
    slope, finest = order_of(case, ScharfetterGummel(), 1e-4)
    assert abs(slope - 1.0) < 0.15
    assert 1e-3 < finest < 6e-2


@pytest.mark.parametrize("case", [case_periodic, case_natural, case_vanishing], ids=lambda case: case.__name__)
@pytest.mark.parametrize("temperature", [0.02, 1.0])
def test_order_of_weno_with_diffusion(case, temperature):
    slope, finest = order_of(case, Weno5(), temperature)
    assert slope > 4.5
    assert finest < (1e-6 if case is case_vanishing else 6e-9)


@pytest.mark.parametrize("case", [case_periodic, case_natural], ids=lambda case: case.__name__)
def test_order_of_muscl_and_upwind_with_diffusion(case):
    slope, finest = order_of(case, Muscl(), 0.5)
    assert abs(slope - 2.0) < 0.2
    assert finest < 2e-3
    slope, finest = order_of(case, Upwind(), 0.02)
    assert abs(slope - 1.0) < 0.2


# --- orders in time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [End.TRUNCATION, End.PERIODIC], ids=end_name)
@pytest.mark.parametrize("order", [1, 2])
def test_order_in_time(ends, order):
    """Against the matrix exponential of the same mesh."""
    n, tau, t_end = 48, 0.5, 0.5
    grid = Grid([Axis("x", -4, 4, ends)], [n])
    x = grid.centres(0)
    V = 1.0 - np.cos(np.pi * x / 4) if ends is End.PERIODIC else 0.5 * x**2
    transport = Transport(grid, ScharfetterGummel())
    start = np.exp(-((x - 0.7) ** 2))
    exact = scipy.linalg.expm(t_end * matrix(transport, V, tau)) @ start
    counts, errors = (16, 24, 36, 54), []
    for count in counts:
        mu = start
        for _ in range(count):
            mu = transport.implicit(0, mu, V, t_end / count, tau, order=order)
        errors.append(np.abs(mu - exact).sum() / exact.sum())
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.1
    assert errors[-1] < (4e-3, 3e-5)[order - 1]


def test_long_steps_reach_equilibrium():
    """L-stability: one huge step of either order lands on the Gibbs state."""
    grid = box((80,), End.TRUNCATION)
    V = grid.centres(0) ** 2
    p = np.exp(log_gibbs(V, 0.3, grid.cell_volume))
    mu = np.eye(1, 80, 5)[0] / grid.cell_volume
    transport = Transport(grid, ScharfetterGummel())
    for order, bound in ((1, 1e-8), (2, 1e-8)):
        assert np.abs(transport.implicit(0, mu, V, 1e10, 0.3, order=order) - p).sum() * grid.cell_volume < bound


# --- refusals -------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_refused():
    grid = box((8, 6), End.TRUNCATION)
    V = mu = np.ones(grid.shape)
    transport = Transport(grid, ScharfetterGummel())
    with pytest.raises(ValueError, match="log_base has shape"):
        Transport(grid, ScharfetterGummel(), None, np.ones(8))
    with pytest.raises(ValueError, match="log_base must be finite"):
        Transport(grid, ScharfetterGummel(), None, np.full(grid.shape, -np.inf))
    for temperature in (-1.0, np.nan, np.inf):
        for call in (transport.rate, transport.fluxes):
            with pytest.raises(ValueError, match="temperature is"):
                call(mu, V, temperature=temperature)
        with pytest.raises(ValueError, match="temperature is"):
            transport.outflow_rate(V, temperature=temperature)
        with pytest.raises(ValueError, match="temperature is"):
            transport.implicit(0, mu, V, 1.0, temperature)
    for axis in (-1, 2):
        with pytest.raises(ValueError, match="axis is"):
            transport.implicit(axis, mu, V, 1.0, 0.1)
    for dt in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="dt is"):
            transport.implicit(0, mu, V, dt, 0.1)
    with pytest.raises(ValueError, match="order is 3"):
        transport.implicit(0, mu, V, 1.0, 0.1, order=3)
    with pytest.raises(ValueError, match="V has shape"):
        transport.implicit(0, mu, V[0], 1.0, 0.1)
    with pytest.raises(ValueError, match="out must be"):
        transport.implicit(0, mu, V, 1.0, 0.1, out=np.empty((6, 8)))
    for scheme in EXPLICIT:
        with pytest.raises(TypeError, match="ScharfetterGummel"):
            Transport(grid, scheme).implicit(0, mu, V, 1.0, 0.1)
