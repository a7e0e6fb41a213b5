"""Energies against dense references: on grids, on points, by every path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import patchy, printed_by

from mfpde.equation.energy import (
    CallableKernel,
    Confinement,
    CosineKernel,
    Discrepancy,
    External,
    Features,
    GaussianKernel,
    HuberLoss,
    Interaction,
    LinearKernel,
    LogisticLoss,
    PairKernel,
    SeparableKernel,
    SquaredLoss,
    TranslationInvariantKernel,
    TwoLayerNetwork,
    convolution,
)
from mfpde.equation.energy.base import Last
from mfpde.equation.grid import Axis, End, Grid

PI = np.pi

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def line(name="x", lower=-5.0, upper=5.0, ends=End.TRUNCATION):
    return Axis(name, lower, upper, ends)


def circle(name="x", length=2 * PI):
    return Axis(name, 0.0, length, End.PERIODIC)


def image_sum(d, variance, length):
    return sum(np.exp(-((d + m * length) ** 2) / (2 * variance)) for m in range(-60, 61))


def single_index(u, v):
    # k = 4, d = 8: the overlap of Hermite units on the sphere, on the angle
    cu, cv = np.cos(u), np.cos(v)
    s = (1 - cu**2) * (1 - cv**2)
    return (cu * cv) ** 4 + 6 * (cu * cv) ** 2 * s / 7 + 3 * s**2 / (7 * 9)


def torus_bump(x, y):
    return np.exp(2 * np.cos(x) - y**2 / 0.6)


def torus_bump_gradient(x, y):
    return -2 * np.sin(x) * torus_bump(x, y), -y / 0.3 * torus_bump(x, y)


def pair(p, q):
    return np.exp(-0.3 * np.abs(p[:, None, 0] * q[None, :, 1] - p[:, None, 1] * q[None, :, 0])) * (p @ q.T)


def smooth_pair(p, q):
    return np.exp(-0.1 * (p[:, None] - q[None]).sum(axis=2) ** 2) + p @ q.T


G2 = GaussianKernel(2.0, 1.7)
# name: axes, shape, kernel, its dense reference K(points, points), whether it factorises
CASES = {
    "gaussian": ([line()], (60,), SeparableKernel(x=G2), lambda p, q: 1.7 * np.exp(-((p - q.T) ** 2) / 4), True),
    "amplitude": (
        [line("c", -4, 4), line("y", -5, 5)],
        (9, 40),
        SeparableKernel(y=GaussianKernel(1.0), c=LinearKernel()),
        lambda p, q: p[:, :1] * q[:, 0] * np.exp(-((p[:, 1:] - q[:, 1]) ** 2) / 2),
        True,
    ),
    "amplitude last": (
        [line("y", -5, 5), line("c", -4, 4)],
        (40, 9),
        SeparableKernel(y=GaussianKernel(1.0), c=LinearKernel()),
        lambda p, q: p[:, 1:] * q[:, 1] * np.exp(-((p[:, :1] - q[:, 0]) ** 2) / 2),
        True,
    ),
    "three axes": (
        [line("x", -3, 3), line("y", -2, 3), line("z", -3, 3)],
        (9, 10, 11),
        SeparableKernel({name: GaussianKernel(2.0) for name in "xyz"}),
        lambda p, q: np.exp(-((p[:, None] - q[None]) ** 2).sum(axis=2) / 4),
        True,
    ),
    "unused axis": (
        [line("x", -3, 3), line("s", 0, 1), line("c", -1, 2)],
        (10, 5, 6),
        SeparableKernel(c=LinearKernel(), x=GaussianKernel(0.5)),
        lambda p, q: p[:, 2:] * q[:, 2] * np.exp(-((p[:, :1] - q[:, 0]) ** 2)),
        True,
    ),
    "cosine": (
        [circle()],
        (24,),
        SeparableKernel(x=CosineKernel((1.0, 0.0, -0.5), constant=-0.25)),
        lambda p, q: np.cos(p - q.T) - 0.5 * np.cos(3 * (p - q.T)) - 0.25,
        True,
    ),
    "wrapped": (
        [circle(length=1.3)],
        (30,),
        SeparableKernel(x=GaussianKernel(0.9)),
        lambda p, q: image_sum(p - q.T, 0.9, 1.3),
        True,
    ),
    "attention": (
        [circle("t")],
        (40,),
        SeparableKernel(t=CallableKernel(lambda x, y: np.exp(5 * np.cos(x - y)))),
        lambda p, q: np.exp(5 * np.cos(p - q.T)),
        True,
    ),
    "two frequencies": (  # which are one at 24 nodes
        [circle("t")],
        (120,),
        SeparableKernel(
            t=CallableKernel(
                lambda x, y: np.cos(x - y) + np.cos(25 * (x - y)),
                lambda x, y: -np.sin(x - y) - 25 * np.sin(25 * (x - y)),
            )
        ),
        lambda p, q: np.cos(p - q.T) + np.cos(25 * (p - q.T)),
        True,
    ),
    "single index": (
        [line("theta", 0, PI, End.NATURAL)],
        (50,),
        SeparableKernel(theta=CallableKernel(single_index)),
        lambda p, q: single_index(p, q.T),
        True,
    ),
    "rough": (
        [line("x", -1, 1)],
        (50,),
        SeparableKernel(x=CallableKernel(lambda x, y: -np.abs(x - y), lambda x, y: -np.sign(x - y), True)),
        lambda p, q: -np.abs(p - q.T),
        False,
    ),
    "narrow, FFT": (
        [line("x", 0, 100)],
        (1030,),
        SeparableKernel(x=GaussianKernel(1e-2)),
        lambda p, q: np.exp(-((p - q.T) ** 2) / 0.02),
        False,
    ),
    "narrow, periodic, FFT": (
        [circle("x", 100.0)],
        (1025,),
        SeparableKernel(x=GaussianKernel(1e-2)),
        lambda p, q: np.exp(-(np.minimum(np.abs(p - q.T), 100 - np.abs(p - q.T)) ** 2) / 0.02),
        False,
    ),
    "rough and smooth": (
        [line("c", -1, 2), line("x", -1, 1), line("y", -2, 2)],
        (6, 20, 10),
        SeparableKernel(c=LinearKernel(), x=CallableKernel(lambda x, y: np.exp(-np.abs(x - y))), y=GaussianKernel(1.0)),
        lambda p, q: p[:, :1] * q[:, 0] * np.exp(-np.abs(p[:, 1:2] - q[:, 1]) - 0.5 * (p[:, 2:] - q[:, 2]) ** 2),
        False,
    ),
    "FFT": (
        [line("x", -2, 3), line("y", 0, 2)],
        (15, 22),
        TranslationInvariantKernel(lambda x, y: np.exp(-(x**2) - x * y - y**2)),
        lambda p, q: np.exp(-((p[:, None] - q[None]) ** 2).sum(2) - np.prod(p[:, None] - q[None], axis=2)),
        False,
    ),
    "FFT, torus": (
        [circle(), line("y", -2, 2)],
        (16, 15),
        TranslationInvariantKernel(torus_bump, torus_bump_gradient),
        lambda p, q: torus_bump(p[:, :1] - q[:, 0], p[:, 1:] - q[:, 1]),
        False,
    ),
    "FFT, three axes": (
        [line("x", -2, 3), circle("y"), line("z", 0, 2)],
        (7, 6, 9),
        TranslationInvariantKernel(lambda x, y, z: np.exp(-(x**2) - x * z - z**2 + 0.3 * np.cos(y))),
        lambda p, q: np.exp(
            -np.sum(np.delete(p[:, None] - q[None], 1, axis=2) ** 2, axis=2)
            - np.prod(np.delete(p[:, None] - q[None], 1, axis=2), axis=2)
            + 0.3 * np.cos(p[:, 1:2] - q[:, 1])
        ),
        False,
    ),
    "pair": ([line("x", 0.5, 2), line("y", -1, 1)], (8, 12), PairKernel(pair), pair, False),
    "smooth pair": ([line("x", 0.5, 2), line("y", -1, 1)], (8, 12), PairKernel(smooth_pair), smooth_pair, False),
}


def gradient_by_differences(bound, points, response, h=1e-4):
    columns = []
    for i in range(points.shape[1]):
        e = np.zeros(points.shape[1])
        e[i] = h
        v = [bound.potential(points + k * e, response) for k in (-2, -1, 1, 2)]
        columns.append((v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h))
    return np.stack(columns, axis=1)


def assert_is_derivative(plan, mu, seed=1):
    """V is the derivative of the discrete energy, which is quadratic: central differences are exact."""
    p = np.random.default_rng(seed).standard_normal(mu.shape) * mu.max()
    V = plan.evaluate(mu)[0]
    up, down = (plan.evaluate(mu + s * p)[1] for s in (1.0, -1.0))
    slope = np.vdot(V, p) * plan.grid.cell_volume
    assert abs((up - down) / 2 - slope) <= 1e-12 * (abs(up) + abs(down))


@pytest.mark.parametrize("weight", [1.0, -0.7])
@pytest.mark.parametrize("case", CASES)
def test_interaction_equals_the_dense_one(case, weight):
    axes, shape, kernel, dense, factorises = CASES[case]
    grid = Grid(axes, shape)
    bound = Interaction(kernel, weight).bind(axes)
    plan = bound.on(grid)
    mu = patchy(shape, grid.cell_volume)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    K = dense(points, points)
    V_exact = weight * (K @ w)
    E_exact = 0.5 * float(w @ V_exact)
    scale = np.abs(K).max()

    V, energy, u = plan.evaluate(mu)
    assert V.shape == shape
    np.testing.assert_allclose(V.ravel(), V_exact, rtol=0, atol=2e-12 * scale)
    assert abs(energy - E_exact) <= 1e-12 * scale

    response = bound.response(points, w)
    assert bound.direct is not factorises
    assert plan.response_size == bound.response_size == u.size
    assert (u.size > 0) is factorises
    np.testing.assert_allclose(response[: u.size], u, rtol=0, atol=1e-10 * np.sqrt(scale))
    np.testing.assert_allclose(bound.potential(points, response), V_exact, rtol=0, atol=2e-12 * scale)
    assert abs(bound.energy(points, w) - E_exact) <= 1e-12 * scale
    assert bound.energy(points, w, response) == bound.energy(points, w)

    # at points between the centres
    rng = np.random.default_rng(3)
    between = np.stack([a.lower + a.length * (0.02 + 0.96 * rng.random(37)) for a in axes], axis=1)
    exact = weight * (dense(between, points) @ w)
    np.testing.assert_allclose(bound.potential(between, response), exact, rtol=0, atol=2e-12 * scale)
    if "rough" not in case and case != "pair":
        slopes = bound.gradient(between, response)
        assert slopes.shape == between.shape
        approximate = gradient_by_differences(bound, between, response)
        np.testing.assert_allclose(slopes, approximate, rtol=0, atol=1e-7 * (1 + np.abs(slopes).max()))

    assert_is_derivative(plan, mu)


@pytest.mark.parametrize(
    ("axes", "kernels"),
    [
        ([Axis("x", -5, 5)], {"x": GaussianKernel(0.005, 1.3)}),
        ([Axis("x", -3, 3, End.PERIODIC)], {"x": GaussianKernel(0.01, 0.7)}),
        (
            [Axis("x", -5, 5), Axis("y", -3, 3, End.PERIODIC)],
            {"x": GaussianKernel(0.02, 2.0), "y": GaussianKernel(0.01)},
        ),
        ([Axis("x", -5, 5), Axis("y", -3, 3)], {"y": GaussianKernel(0.002, -0.5)}),
    ],
    ids=["line", "circle", "strip", "one of two axes"],
)
def test_sums_by_near_terms_are_those_of_all(axes, kernels):
    """What is left out is below round-off; on a circle a term acts by the nearest image."""
    bound, rng = SeparableKernel(kernels).bind(tuple(axes), 1e-13), np.random.default_rng(7)

    def cloud(n):
        at = np.stack([rng.uniform(axis.lower, axis.upper, n) for axis in axes], axis=1)
        at[0], at[1] = [axis.lower for axis in axes], [axis.upper for axis in axes]  # both sides of a seam
        return at

    x, y, w = cloud(211), cloud(307), rng.normal(size=307)
    values, slopes = bound.near(x, y, w)
    # 307 terms of at most 1.3 |w| / sqrt(variance) each, rounded
    np.testing.assert_allclose(values, bound.matrix(x, y) @ w, rtol=0, atol=1e-13)
    for i in range(len(axes)):
        np.testing.assert_allclose(slopes[:, i], bound.derivatives(x, y, i) @ w, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("axis", "kernel"),
    [
        (line(lower=-1.0, upper=1.0), LinearKernel()),
        (line(lower=-1.0, upper=1.0, ends=End.PERIODIC), GaussianKernel(0.02)),
    ],
    ids=["not Gaussian", "half a period away it is 1e-11"],
)
def test_sums_by_near_terms_are_for_narrow_gaussians(axis, kernel):
    assert SeparableKernel(x=kernel).bind((axis,), 1e-13).near is None


@pytest.mark.parametrize("case", CASES)
def test_discrepancy_equals_the_dense_one(case):
    axes, shape, kernel, dense, _ = CASES[case]
    grid = Grid(axes, shape)
    rng = np.random.default_rng(5)
    atoms = np.stack([a.lower + a.length * rng.random(4) for a in axes], axis=1)
    a = np.array([0.6, -0.4, 1.1, 0.2])
    bound = Discrepancy(kernel, atoms, a).bind(axes)
    plan = bound.on(grid)
    mu = patchy(shape, grid.cell_volume)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    V_exact = dense(points, points) @ w - dense(points, atoms) @ a
    E_exact = 0.5 * w @ dense(points, points) @ w - w @ dense(points, atoms) @ a + 0.5 * a @ dense(atoms, atoms) @ a
    scale = np.abs(dense(points, points)).max()
    V, energy, _ = plan.evaluate(mu)
    np.testing.assert_allclose(V.ravel(), V_exact, rtol=0, atol=5e-12 * scale)
    assert abs(energy - E_exact) <= 5e-12 * scale
    response = bound.response(points, w)
    np.testing.assert_allclose(bound.potential(points, response), V_exact, rtol=0, atol=5e-12 * scale)
    assert abs(bound.energy(points, w) - E_exact) <= 5e-12 * scale
    if "rough" not in case and case != "pair":
        slopes = bound.gradient(atoms, response)
        approximate = gradient_by_differences(bound, atoms, response)
        np.testing.assert_allclose(slopes, approximate, rtol=0, atol=1e-7 * (1 + np.abs(slopes).max()))
    assert_is_derivative(plan, mu)


def test_discrepancy_does_not_cancel_near_its_minimum():
    axes = [line("x", -5, 5), line("y", -5, 5)]
    grid = Grid(axes, (40, 40))
    atoms = np.array([[grid.centres(0)[11], grid.centres(1)[30]], [grid.centres(0)[25], grid.centres(1)[7]]])
    a = np.array([0.6, 0.4])
    bound = Discrepancy(SeparableKernel(x=GaussianKernel(2.0), y=GaussianKernel(2.0)), atoms, a).bind(axes)
    mu = np.zeros(grid.shape)
    mu[11, 30], mu[25, 7] = a / grid.cell_volume
    V, energy, _ = bound.on(grid).evaluate(mu)
    assert 0 <= energy < 1e-19
    assert np.abs(V).max() < 1e-12
    # a small displacement: E = 1/2 a_0^2 eps^2 / variance to leading order
    moved = atoms + np.array([[1e-6, 0.0], [0.0, 0.0]])
    assert bound.energy(moved, a) == pytest.approx(0.5 * 0.36 * 1e-12 / 2.0, rel=1e-6)


def test_discrepancy_is_half_the_squared_distance_of_two_networks():
    # phi = exp(-|x - z|^2 / (2 s^2)) in two dimensions, over Lebesgue measure, by quadrature over x
    s, axes = 0.8, [line("x", -4, 4), line("y", -4, 4)]
    kernel = GaussianKernel(2 * s**2, np.sqrt(PI) * s)
    atoms, a = np.array([[-1.0, 0.5], [1.2, -0.3]]), np.array([0.6, 0.4])
    z, w = np.array([[0.1, 0.2], [0.7, -1.5], [-0.4, 0.9]]), np.array([0.5, 0.3, 0.2])
    bound = Discrepancy(SeparableKernel(x=kernel, y=kernel), atoms, a).bind(axes)
    t = np.linspace(-9, 9, 181)
    X = np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    f = np.exp(-((X - z) ** 2).sum(-1) / (2 * s**2)) @ w - np.exp(-((X - atoms) ** 2).sum(-1) / (2 * s**2)) @ a
    assert bound.energy(z, w) == pytest.approx(0.5 * float(f @ f) * 0.1**2, rel=1e-11)


@pytest.mark.parametrize("case", ["gaussian", "cosine", "wrapped"])
def test_atoms_outside_the_box_are_represented(case):
    axes, shape, kernel, dense, _ = CASES[case]
    grid = Grid(axes, shape)
    far = 40 * axes[0].length if axes[0].periodic else 0.0  # atoms on a circle may have wound around
    atoms, a = np.array([[axes[0].upper + 2.5 + far], [axes[0].lower - 1.0]]), np.array([0.6, 0.4])
    bound = Discrepancy(kernel, atoms, a).bind(axes)
    points, w = grid.points(), np.full(grid.size, 1.0 / grid.size)
    exact = dense(points, points) @ w - dense(points, atoms) @ a
    np.testing.assert_allclose(bound.on(grid).evaluate(np.full(shape, 1 / axes[0].length))[0], exact, atol=1e-11)


def test_ranks():
    def rank(axis, kernel, tolerance=1e-13):
        return Interaction(SeparableKernel({axis.name: kernel}), tolerance=tolerance).bind([axis]).response_size

    assert rank(line("c"), LinearKernel()) == 1
    assert rank(circle(), CosineKernel((1.0, 0.0, -0.5))) == 4
    assert rank(circle(), CosineKernel((1.0,), constant=2.0)) == 3
    assert rank(line("t", 0, PI, End.NATURAL), CallableKernel(single_index)) == 3
    ranks = [rank(line(), GaussianKernel(2.0), tolerance) for tolerance in (1e-4, 1e-8, 1e-12)]
    assert ranks == sorted(ranks)
    assert ranks[0] < 13
    assert ranks[-1] < 26


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_the_tolerance_bounds_the_error(tolerance):
    axes, shape, _, dense, _ = CASES["three axes"]
    grid = Grid(axes, shape)
    kernel = SeparableKernel({name: GaussianKernel(2.0) for name in "xyz"})
    mu = patchy(shape, grid.cell_volume)
    V = Interaction(kernel, tolerance=tolerance).bind(axes).on(grid).evaluate(mu)[0].ravel()
    error = np.abs(V - dense(grid.points(), grid.points()) @ mu.ravel() * grid.cell_volume).max()
    assert tolerance * 1e-3 < error < tolerance * 100


def test_a_factorisation_serves_every_mesh_and_stray_points():
    axes, _, kernel, dense, _ = CASES["gaussian"]
    bound = Interaction(kernel).bind(axes)
    rng = np.random.default_rng(0)
    points, w = rng.uniform(-5, 5, (40, 1)), rng.random(40)
    response = bound.response(points, w)
    # outside the box, the potential of sources inside is exact, and everything stays bounded
    outside = np.array([[5.4], [-6.5], [9.0], [30.0]])
    exact = dense(outside, points) @ w
    np.testing.assert_allclose(bound.potential(outside, response), exact, rtol=0, atol=1e-6)
    np.testing.assert_allclose(bound.potential(outside[:1], response), exact[:1], rtol=0, atol=1e-9)
    assert np.all(np.abs(bound.response(outside, np.ones(4))) < 10)


def test_sums_concatenate_and_add():
    axes, shape, kernel, _, _ = CASES["amplitude"]
    grid = Grid(axes, shape)
    terms = [
        Interaction(kernel),
        External(lambda c, y: c * np.sin(y), constant=0.25),
        Interaction(SeparableKernel(y=CosineKernel((0.3,))), -2.0),
        Confinement(c=0.1, y=0.2),
        Interaction(SeparableKernel(y=CallableKernel(lambda x, y: np.exp(-np.abs(x - y))))),
        Interaction(PairKernel(smooth_pair), 0.1),
    ]
    total = (terms[0] + terms[1]) + (terms[2] + terms[3]) + terms[4] + terms[5]
    assert total.terms == tuple(terms)
    bound, parts = total.bind(axes), [term.bind(axes) for term in terms]
    mu = patchy(shape, grid.cell_volume)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    V, energy, u = bound.on(grid).evaluate(mu)
    each = [part.on(grid).evaluate(mu) for part in parts]
    np.testing.assert_allclose(V, sum(v for v, _, _ in each), rtol=0, atol=1e-13)
    assert energy == pytest.approx(sum(e for _, e, _ in each), abs=1e-13)
    np.testing.assert_array_equal(u, np.concatenate([r for _, _, r in each]))
    assert [u[piece].size for piece in bound.slices] == [part.response_size for part in parts]
    response = bound.response(points, w)
    assert bound.direct
    assert response.size == u.size + 3 * grid.size
    np.testing.assert_allclose(bound.potential(points, response), V.ravel(), rtol=0, atol=1e-12)
    assert bound.energy(points, w) == pytest.approx(energy, abs=1e-12)
    slopes = bound.gradient(points, response)
    np.testing.assert_allclose(
        slopes, sum(p.gradient(points, p.response(points, w)) for p in parts), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="carries the measure itself"):
        bound.potential(points, u)


def test_external_potential():
    axes = [line("c", -2, 2), line("x", 0, 3)]
    grid = Grid(axes, (7, 9))
    F = lambda c, x: np.sin(x) * c + x**2  # noqa: E731
    dF = lambda c, x: (np.sin(x), c * np.cos(x) + 2 * x)  # noqa: E731
    mu = patchy(grid.shape, grid.cell_volume)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    exact = points[:, 0] * np.sin(points[:, 1]) + points[:, 1] ** 2
    for energy in (External(F, dF, 0.5), External(F, None, 0.5), External(lambda x, c: F(c, x), None, 0.5, ("x", "c"))):
        bound = energy.bind(axes)
        V, e, u = bound.on(grid).evaluate(mu)
        np.testing.assert_allclose(V.ravel(), exact, rtol=1e-15, atol=1e-15)
        assert e == pytest.approx(w @ exact + 0.5, rel=1e-14)
        assert u.size == bound.response_size == 0
        none = bound.response(points, w)
        np.testing.assert_allclose(bound.potential(points, none), exact, rtol=1e-15, atol=1e-15)
        np.testing.assert_allclose(bound.gradient(points, none), np.stack(dF(*points.T), axis=1), rtol=0, atol=1e-11)
        assert bound.energy(points, w) == pytest.approx(e, rel=1e-14)
    doubled = (External(F, dF, 0.5) + External(F, dF, 0.25)).bind(axes)
    V, e, _ = doubled.on(grid).evaluate(mu)
    np.testing.assert_allclose(V.ravel(), 2 * exact, rtol=1e-14, atol=1e-14)
    assert e == pytest.approx(2 * w @ exact + 0.75, rel=1e-14)
    flat = External(lambda c, x: 3.0).bind(axes)
    np.testing.assert_array_equal(flat.on(grid).evaluate(mu)[0], np.full(grid.shape, 3.0))
    np.testing.assert_array_equal(flat.potential(points, np.empty(0)), np.full(grid.size, 3.0))


def test_confinement():
    axes = [line("c", -2, 2), line("x", 0, 3)]
    points = np.array([[1.0, 2.0], [-0.5, 1.0]])
    for energy in (Confinement(x=0.3), Confinement({"x": 0.3})):
        bound = energy.bind(axes)
        np.testing.assert_allclose(bound.potential(points, np.empty(0)), 0.15 * points[:, 1] ** 2, rtol=1e-15)
        np.testing.assert_array_equal(bound.gradient(points, np.empty(0)), [[0.0, 0.6], [0.0, 0.3]])
    assert repr(Confinement(c=0.1, x=2)) == "Confinement(c=0.1, x=2)"


def moments(x, y):
    return np.stack(np.broadcast_arrays(x * y, np.sin(x), x**2 + 0 * y, np.cos(x - y)))


def moments_gradient(x, y):
    zero = 0.0 * (x + y)
    return (
        np.stack([y + zero, np.cos(x) + zero, 2 * x + zero, -np.sin(x - y)]),
        np.stack([x + zero, zero, zero, np.sin(x - y)]),
    )


@pytest.mark.parametrize(
    "loss",
    [
        SquaredLoss([0.1, 0.2, -0.3, 0.4], [1.0, 0.5, 2.0, 0.0]),
        HuberLoss([0.1, 3.0, -3.0, 0.4], delta=0.5),
        LogisticLoss([1.0, -1.0, 1.0, 1.0]),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_features(loss):
    axes = [line("x", -2, 2), line("y", -1, 2)]
    grid = Grid(axes, (11, 8))
    mu = patchy(grid.shape, grid.cell_volume)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    phi = moments(*points.T)
    for energy in (Features(moments, loss, moments_gradient), Features(moments, loss)):
        bound = energy.bind(axes)
        V, e, u = bound.on(grid).evaluate(mu)
        np.testing.assert_allclose(u, phi @ w, rtol=0, atol=1e-14)
        assert e == pytest.approx(loss.value(phi @ w), rel=1e-14)
        np.testing.assert_allclose(V.ravel(), loss.gradient(phi @ w) @ phi, rtol=0, atol=1e-13)
        response = bound.response(points, w)
        np.testing.assert_allclose(response, u, rtol=0, atol=1e-14)
        np.testing.assert_allclose(bound.potential(points, response), V.ravel(), rtol=0, atol=1e-13)
        exact = np.stack([loss.gradient(u) @ d for d in moments_gradient(*points.T)], axis=1)
        np.testing.assert_allclose(bound.gradient(points, response), exact, rtol=0, atol=1e-11)
        p = np.random.default_rng(1).standard_normal(mu.shape) * 1e-4
        plan = bound.on(grid)
        slope = (plan.evaluate(mu + p)[1] - plan.evaluate(mu - p)[1]) / 2
        assert slope == pytest.approx(np.vdot(V, p) * grid.cell_volume, rel=1e-5)


def test_evaluate_writes_where_it_is_told_and_shares_nothing():
    for case in ("gaussian", "amplitude", "amplitude last", "three axes", "unused axis", "FFT", "pair"):
        axes, shape, kernel, _, _ = CASES[case]
        grid = Grid(axes, shape)
        plan = (Interaction(kernel) + Confinement({axes[0].name: 1.0})).bind(axes).on(grid)
        mu, other = patchy(shape, grid.cell_volume), patchy(shape, grid.cell_volume, seed=9)
        before = mu.copy()
        V, energy, u = plan.evaluate(mu)
        kept_V, kept_u = V.copy(), u.copy()
        out = np.empty(shape)
        assert plan.evaluate(other, out)[0] is out
        np.testing.assert_array_equal(V, kept_V)
        np.testing.assert_array_equal(u, kept_u)
        np.testing.assert_array_equal(mu, before)
        again = plan.evaluate(mu, out)
        np.testing.assert_array_equal(again[0], kept_V)
        assert again[1] == energy
        # a density that is not contiguous is read rightly
        wide = np.zeros((*shape[:-1], 2 * shape[-1]))
        wide[..., ::2] = mu
        np.testing.assert_allclose(plan.evaluate(wide[..., ::2])[0], kept_V, rtol=1e-12, atol=1e-14)
        with pytest.raises(ValueError, match="shape"):
            plan.evaluate(mu.ravel()[:-1])
        with pytest.raises(ValueError, match="contiguous"):
            plan.evaluate(mu, wide[..., ::2])


BUMPS = Discrepancy(CASES["gaussian"][2], [[-2.0], [1.5]], [0.6, 0.4]).bind(CASES["gaussian"][0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spike=st.integers(0, 59), size=st.sampled_from([0.0, 1e-300, 1.0, 1e8]))
def test_a_positive_kernel_has_a_convex_energy(seed, spike, size):
    axes, shape, _, _, _ = CASES["gaussian"]
    plan = BUMPS.on(Grid(axes, shape))
    rng = np.random.default_rng(seed)
    mu, nu = rng.random(60), rng.random(60) * (rng.random(60) < 0.5)
    mu[spike] += size
    V, E, _ = plan.evaluate(mu)
    E_other = plan.evaluate(nu)[1]
    assert E >= 0
    lower = E + np.vdot(V, nu - mu) * plan.grid.cell_volume
    assert E_other >= lower - 1e-12 * (E + E_other)


def test_permuted_axes_and_mirrored_measures():
    x, y = line("x", -3, 3), line("y", -2, 2)
    energy = Interaction(SeparableKernel(x=GaussianKernel(1.0), y=GaussianKernel(0.5)))
    energy += Confinement(x=1.0)
    grid, turned = Grid([x, y], (20, 14)), Grid([y, x], (14, 20))
    mu = patchy(grid.shape, grid.cell_volume)
    V, e, _ = energy.bind([x, y]).on(grid).evaluate(mu)
    V_turned, e_turned, _ = energy.bind([y, x]).on(turned).evaluate(np.ascontiguousarray(mu.T))
    np.testing.assert_allclose(V_turned.T, V, rtol=0, atol=1e-14)
    assert e_turned == pytest.approx(e, rel=1e-14)
    V_mirror, e_mirror, _ = energy.bind([x, y]).on(grid).evaluate(np.ascontiguousarray(mu[::-1]))
    np.testing.assert_allclose(V_mirror[::-1], V, rtol=0, atol=1e-13)
    assert e_mirror == pytest.approx(e, rel=1e-13)


def test_repr_shows_the_plan():
    axes, shape, kernel, _, _ = CASES["amplitude"]
    text = repr((Interaction(kernel) + Confinement(c=1.0)).bind(axes).on(Grid(axes, shape)))
    assert "c: 1" in text
    assert "flops" in text
    assert "external potential" in text
    axes, shape, kernel, _, _ = CASES["rough and smooth"]
    assert "x: dense 20 x 20" in repr(Interaction(kernel).bind(axes).on(Grid(axes, shape)))
    axes, shape, kernel, _, _ = CASES["narrow, FFT"]
    assert "FFT of" in repr(Interaction(kernel).bind(axes).on(Grid(axes, shape)))
    axes, shape, kernel, _, _ = CASES["FFT"]
    assert "real FFT of" in repr(Interaction(kernel).bind(axes).on(Grid(axes, shape)))


X, T = line("x"), circle("t", 3.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianKernel(0.0), "variance must be positive"),
        (lambda: GaussianKernel(1.0, np.nan), "amplitude must be finite"),
        (lambda: CosineKernel((0.0,)), "leave the interaction out"),
        (lambda: CosineKernel((1.0,), frequency=0.0), "frequency must be positive"),
        (lambda: SeparableKernel(), "at least one axis"),
        (lambda: SeparableKernel(x=np.exp), "no one-parameter kernel"),
        (lambda: Interaction(SeparableKernel(x=LinearKernel()), 0.0), "not 0"),
        (lambda: Interaction(SeparableKernel(x=LinearKernel()), tolerance=0.1), "between 1e-15 and 1e-3"),
        (lambda: Interaction(SeparableKernel(z=LinearKernel())).bind([X]), r"'z'.*\['x'\]"),
        (lambda: Interaction(SeparableKernel(t=LinearKernel())).bind([T]), "jumps where"),
        (lambda: Interaction(SeparableKernel(t=CosineKernel((1.0,)))).bind([T]), "turns around its length 3"),
        (lambda: Interaction(SeparableKernel(x=CallableKernel(lambda x, y: x - y))).bind([X]), "not symmetric"),
        (lambda: Interaction(SeparableKernel(x=CallableKernel(lambda x, y: np.nan * x * y))).bind([X]), "not finite"),
        (
            lambda: Interaction(SeparableKernel(t=CallableKernel(lambda x, y: x * y))).bind([T]),
            "use a kernel of period 3",
        ),
        (lambda: Interaction(TranslationInvariantKernel(lambda d: d)).bind([X]), "not even"),
        (lambda: Interaction(PairKernel(lambda p, q: p + 0 * q.T)).bind([X]), "not symmetric"),
        (lambda: Interaction(PairKernel(lambda p, q: p)).bind([X]), "must return shape"),
        (
            lambda: Interaction(PairKernel(lambda p, q: p * q.T)).bind([X]).on(Grid([X], (20000,))),
            "3.0 GiB.*TranslationInvariantKernel",
        ),
        (
            lambda: (
                Interaction(SeparableKernel(x=CallableKernel(lambda x, y: np.exp(-np.abs(x - y)))))
                .bind([X])
                .on(Grid([X], (20000,)))
            ),
            "3.0 GiB.*translation_invariant=True",
        ),
        (lambda: Discrepancy(SeparableKernel(x=LinearKernel()), [1.0], [1.0]), "shape"),
        (lambda: Discrepancy(SeparableKernel(x=LinearKernel()), [[np.inf]], [1.0]), "finite"),
        (lambda: Discrepancy(SeparableKernel(x=LinearKernel()), [[1.0, 2.0]], [1.0]).bind([X]), "2 coordinates for 1"),
        (lambda: Confinement(), "at least one axis"),
        (lambda: Confinement(x=-1.0), "'x'.*not -1"),
        (lambda: Confinement(y=1.0).bind([X]), "'y'"),
        (lambda: External(np.sin, constant=np.inf), "finite"),
        (lambda: External(lambda x: np.where(x > 4, np.inf, x)).bind([X]).on(Grid([X], (10,))), "is inf at x = 4.5"),
        (lambda: Confinement(x=1.0).bind([X]).on(Grid([line("x", -5, 6)], (10,))), "bound to the axes"),
        (lambda: Confinement(x=1.0).bind([X]).potential(np.zeros(3), np.empty(0)), r"\(n, 1\)"),
        (lambda: Confinement(x=1.0).bind([X]).response(np.zeros((3, 1)), np.ones(2)), r"\(3,\)"),
        (lambda: Confinement(x=1.0).bind([X]).potential(np.zeros((3, 1)), np.ones(2)), r"\(0,\)"),
        (lambda: Features(lambda x: np.stack([x, x]), SquaredLoss([1.0, 2.0, 3.0])).bind([X]), "2 features|broadcast"),
        (lambda: Features(lambda x: 1.0, SquaredLoss([1.0])).bind([X]), "first axis"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Interaction(GaussianKernel(1.0)),
        lambda: External(3.0),
        lambda: Features(np.sin, np.cos),
        lambda: Confinement(x=1.0) + 3.0,
    ],
)
def test_wrong_types(make):
    with pytest.raises(TypeError):
        make()


def test_importing_energies_costs_numpy_only():
    code = "import mfpde.equation.energy, sys; print([m for m in ('scipy', 'numba', 'sympy') if m in sys.modules])"
    assert printed_by(code) == "[]\n"


@pytest.mark.parametrize("entries", [1, 200, 2**16])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((40, 30), (0, 1)), ((9, 10, 11), (0, 1, 2)), ((40, 30), (0,)), ((40, 30), (1,)), ((5, 70, 6), (1,))],
)
def test_a_convolution_by_strips_is_that_of_everything_at_once(monkeypatch, entries, shape, axes):
    monkeypatch.setattr(convolution, "FFT_ENTRIES", entries)
    rng = np.random.default_rng(0)
    half = rng.normal(size=[2 * shape[i] for i in axes])
    samples = half + np.roll(np.flip(half), 1, range(len(axes)))  # even
    values = rng.normal(size=shape)
    padded = np.fft.fftn(samples)
    where = [padded.shape[axes.index(i)] if i in axes else 1 for i in range(len(shape))]
    sizes = [2 * shape[i] for i in axes]
    image = np.fft.fftn(values, s=sizes, axes=axes) * padded.reshape(where)
    whole = np.fft.ifftn(image, axes=axes).real[tuple(slice(n) for n in shape)]
    found = convolution.convolution(samples, axes, shape)(values)
    assert np.abs(found - whole).max() <= 1e-14 * np.abs(whole).max()


# --- what is kept between calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["product", "network"])
def test_points_that_moved_in_place_are_seen(kind):
    axes = [Axis("x", -2.0, 2.0), Axis("y", -2.0, 2.0)]
    if kind == "product":
        energy = Interaction(SeparableKernel(x=GaussianKernel(0.5), y=GaussianKernel(0.7)))
    else:
        x = np.linspace(-1, 1, 30)
        energy = TwoLayerNetwork(x, np.sin(3 * x), axes=("x", "y"), roles=("amplitude", "weight"))
    rng = np.random.default_rng(3)
    points, weights = rng.uniform(-1, 1, (40, 2)), rng.random(40)
    bound = energy.bind(axes)
    for _ in range(3):
        fresh = energy.bind(axes)
        u = bound.response(points, weights)
        np.testing.assert_array_equal(u, fresh.response(points.copy(), weights))
        np.testing.assert_array_equal(bound.potential(points, u), energy.bind(axes).potential(points, u))
        np.testing.assert_array_equal(bound.gradient(points, u), energy.bind(axes).gradient(points, u))
        points += rng.normal(0, 0.1, points.shape)
        points[7, 1] = np.nextafter(points[7, 1], 2)


def test_the_same_points_are_evaluated_once():
    calls = []

    def double(points):
        calls.append(len(points))
        return [2 * points]

    last = Last(double)
    points = np.arange(6.0).reshape(3, 2)
    (a,), (b,) = last(points), last(points.copy())
    assert a is b
    with pytest.raises(ValueError, match="read-only"):
        a += 1
    assert last(points[:2])[0].shape == (2, 2)
    last(np.full((2, 2), np.nan))
    last(np.full((2, 2), np.nan))
    assert calls == [3, 2, 2, 2]
