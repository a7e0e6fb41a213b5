"""Two-layer networks on data: activations, losses, compression, every layout of the axes."""

import dataclasses
import math

import numpy as np
import pytest
from shared import patchy

from mfpde.equation.energy import (
    ACTIVATIONS,
    Activation,
    Confinement,
    HuberLoss,
    LogisticLoss,
    Role,
    SquaredLoss,
    TwoLayerNetwork,
    hermite,
)
from mfpde.equation.energy.activations import activation_named
from mfpde.equation.energy.network import Skeleton
from mfpde.equation.grid import Axis, End, Grid

pytestmark = pytest.mark.usefixtures("strict_arithmetic")

BOX = {
    "c": Axis("c", -3, 3),
    "d": Axis("d", -2, 3),
    "a": Axis("a", -1.5, 2),
    "e": Axis("e", -0.5, 0.7),
    "b": Axis("b", -2, 2),
    "s": Axis("s", 0, 1),
    "t": Axis("t", 0, 2 * np.pi, End.PERIODIC),
}
A, W, B = Role.AMPLITUDE, Role.WEIGHT, Role.BIAS
CELLS = {"c": 6, "d": 5, "a": 9, "e": 7, "b": 8, "s": 4, "t": 8}
# order of the grid's axes, axes of the network, roles, number of outputs
LAYOUTS = {
    "amplitude first": ("cab", "cab", (A, W, B), 1),
    "amplitude last": ("abc", "cab", (A, W, B), 1),
    "amplitude between": ("acb", "cab", (A, W, B), 1),
    "no amplitude": ("ab", "ab", (W, B), 1),
    "no bias": ("ca", "ca", (A, W), 1),
    "weight alone": ("a", "a", (W,), 1),
    "bias before weight": ("bca", "cab", (A, W, B), 1),
    "two inputs": ("cea", "cae", (A, W, W), 1),
    "two inputs and bias": ("ceab", "cabe", (A, W, B, W), 1),
    "two outputs": ("cdab", "cabd", (A, W, B, A), 2),
    "two outputs, last": ("adc", "cad", (A, W, A), 2),
    "two outputs, between": ("acbd", "cabd", (A, W, B, A), 2),
    "unused axis": ("sca", "ca", (A, W), 1),
    "unused axis, no amplitude": ("as", "a", (W,), 1),
}


def density(grid, seed=0):
    return patchy(grid.shape, grid.cell_volume, seed)


def data(layout, seed=2):
    _, _, roles, q = LAYOUTS[layout]
    m = 300 if layout == "two inputs" else 120
    rng = np.random.default_rng(seed)
    p = roles.count(W)
    x = rng.uniform(-1, 1, (m, p))
    y = np.stack([np.sin(3 * x.sum(1) + j) for j in range(q)], axis=1)
    return (x[:, 0] if p == 1 else x), (y[:, 0] if q == 1 else y), rng.random(m) + 0.1


def units(layout, points, x, sigma):
    """phi(x_j; theta_i) by its formula: shape (q, m, n)."""
    order, names, roles, _ = LAYOUTS[layout]
    theta = {name: points[:, order.index(name)] for name in names}
    inputs = x.reshape(len(x), -1)
    t, k, c = np.zeros((len(x), len(points))), 0, []
    for name, role in zip(names, roles, strict=True):
        if role is W:
            t += inputs[:, k, None] * theta[name]
            k += 1
        elif role is B:
            t += theta[name]
        else:
            c.append(theta[name])
    values = sigma(t)
    return np.stack([values * ci for ci in c]) if c else values[None]


@pytest.mark.parametrize("loss", ["squared", "logistic", "huber"])
@pytest.mark.parametrize("tolerance", [0.0, 1e-12], ids=["dense", "compressed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_network_equals_its_formula(layout, tolerance, loss):
    order, names, roles, q = LAYOUTS[layout]
    x, y, weights = data(layout)
    y = np.sign(y) if loss == "logistic" else y
    net = TwoLayerNetwork(x, y, weights, "tanh", loss, tuple(names), roles, tolerance)
    axes = [BOX[name] for name in order]
    grid = Grid(axes, [CELLS[name] for name in order])
    bound = net.bind(axes)
    plan = bound.on(grid)
    r = bound.response_size // q
    compressed = r < len(x)
    assert compressed is (tolerance > 0 and "two inputs and" not in layout), "the case tests what it says"
    mu = density(grid)
    points, w = grid.points(), mu.ravel() * grid.cell_volume

    phi = units(layout, points, x, np.tanh)
    u = np.moveaxis(phi @ w, 0, -1)  # (m, q)
    share = weights / weights.sum()
    if loss == "squared":
        excess = u - y.reshape(u.shape)
        E = 0.5 * np.sum(share[:, None] * excess**2)
        slope = share[:, None] * excess
    elif loss == "logistic":
        margin = u * y.reshape(u.shape)
        E = np.sum(share[:, None] * np.log1p(np.exp(-margin)))
        slope = -share[:, None] * y.reshape(u.shape) / (1 + np.exp(margin))
    else:
        excess = u - y.reshape(u.shape)
        big = np.abs(excess) > 1.0
        E = np.sum(share[:, None] * np.where(big, np.abs(excess) - 0.5, 0.5 * excess**2))
        slope = share[:, None] * np.where(big, np.sign(excess), excess)
    V_exact = np.einsum("jq,qjn->n", slope, phi)

    V, energy, response = plan.evaluate(mu)
    assert energy == pytest.approx(E, abs=1e-12)
    np.testing.assert_allclose(V.ravel(), V_exact, rtol=0, atol=3e-12)
    np.testing.assert_allclose(response, u[bound.samples].ravel(), rtol=0, atol=1e-13)

    # points see the same
    np.testing.assert_allclose(bound.response(points, w), response, rtol=0, atol=1e-13)
    np.testing.assert_allclose(bound.potential(points, response), V_exact, rtol=0, atol=3e-12)
    assert bound.energy(points, w) == pytest.approx(E, abs=1e-12)
    h, slopes = 1e-3, bound.gradient(points, response)
    for i in range(len(axes)):
        e = h * np.eye(len(axes))[i]
        v = [bound.potential(points + k * e, response) for k in (-2, -1, 1, 2)]
        np.testing.assert_allclose(slopes[:, i], (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h), rtol=0, atol=1e-9)

    # V is the derivative of the discrete energy
    p = np.random.default_rng(1).standard_normal(mu.shape) * (1e-4 / grid.size / grid.cell_volume)
    V = plan.evaluate(mu)[0]
    change = [plan.evaluate(mu + k * p)[1] for k in (-1, 1)]
    assert (change[1] - change[0]) / 2 == pytest.approx(np.vdot(V, p) * grid.cell_volume, rel=1e-6, abs=1e-14)

    # results are not shared between calls
    kept = response.copy()
    out = np.empty(grid.shape)
    assert plan.evaluate(density(grid, 7), out)[0] is out
    np.testing.assert_array_equal(response, kept)

    # the unit as the user sees it
    values = net.unit(x[:5], *(points[:, order.index(name)] for name in names))
    np.testing.assert_allclose(np.moveaxis(values, -1, 0) if q > 1 else values[None], phi[:, :5], rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "hermite0", "hermite1", "hermite4"])
def test_derivatives_of_activations(name):
    sigma = activation_named(name)
    t = np.linspace(-3, 3, 60)  # 0 is not among them
    h = 1e-3
    v = [sigma(t + k * h) for k in (-2, -1, 1, 2)]
    np.testing.assert_allclose(sigma.slope(t), (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h), rtol=0, atol=1e-9)
    bare = Activation(sigma.function)
    np.testing.assert_allclose(bare.slope(t), sigma.slope(t), rtol=0, atol=1e-10)
    extreme = np.array([-700.0, 700.0])
    if not name.startswith("hermite"):
        assert np.all(np.isfinite(sigma(extreme)))
        assert np.all(np.isfinite(sigma.slope(extreme)))
    assert sigma.discontinuous_derivative is (name == "relu")


def test_values_of_activations():
    t = np.array([-1.0, 0.5])
    expected = {
        "tanh": [math.tanh(-1), math.tanh(0.5)],
        "relu": [0.0, 0.5],
        "sigmoid": [1 / (1 + math.e), 1 / (1 + math.exp(-0.5))],
        "erf": [math.erf(-1), math.erf(0.5)],
        "sin": [math.sin(-1), math.sin(0.5)],
        "gaussian": [math.exp(-0.5), math.exp(-0.125)],
    }
    assert set(expected) == set(ACTIVATIONS)
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](t), values, rtol=1e-15)


def test_hermite_units_are_orthonormal_and_overlap_as_powers():
    t, w = np.polynomial.hermite_e.hermegauss(40)
    w = w / w.sum()
    table = np.stack([hermite(k)(t) for k in range(8)])
    np.testing.assert_allclose((table * w) @ table.T, np.eye(8), rtol=0, atol=1e-12)
    # E he_k(w.x) he_k(w'.x) = (w.w')^k over a standard Gaussian in the plane
    angle = 0.7
    weights = w[:, None] * w
    turned = np.cos(angle) * t[:, None] + np.sin(angle) * t
    for k in (1, 2, 3, 4):
        overlap = np.sum(weights * hermite(k)(t)[:, None] * hermite(k)(turned))
        assert overlap == pytest.approx(np.cos(angle) ** k, abs=1e-12)


@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("kind", [SquaredLoss, LogisticLoss, HuberLoss])
def test_gradients_of_losses(kind, q):
    rng = np.random.default_rng(0)
    y = np.sign(rng.standard_normal((7, q)))
    y = y[:, 0] if q == 1 else y
    loss, u, w = kind(y, rng.random(7)), 3 * rng.standard_normal(y.shape), None
    h, g = 1e-5, loss.gradient(u)
    assert g.shape == u.shape
    for index in np.ndindex(*u.shape):
        e = np.zeros_like(u)
        e[index] = h
        assert (loss.value(u + e) - loss.value(u - e)) / (2 * h) == pytest.approx(g[index], abs=1e-9)
    assert np.isfinite(loss.value(1e4 * u))
    np.testing.assert_array_equal(kind(y, w).weights, np.full(7, 1 / 7))


@pytest.mark.parametrize(("name", "rank"), [("tanh", 60), ("sigmoid", 40), ("erf", 45), ("sin", 25), ("hermite3", 4)])
def test_compression_is_exact_to_its_tolerance(name, rank):
    rng = np.random.default_rng(1)
    x = rng.uniform(-1.7, 1.7, 300)
    y = np.sin(2 * x) + 0.1 * rng.standard_normal(300)
    axes = [BOX["c"], BOX["a"], BOX["b"]]
    grid = Grid(axes, (7, 20, 18))
    mu = density(grid)
    errors, ranks = [], []
    exact = TwoLayerNetwork(x, y, activation=name, tolerance=0).bind(axes).on(grid).evaluate(mu)
    for tolerance in (1e-3, 1e-6, 1e-9, 1e-12):
        bound = TwoLayerNetwork(x, y, activation=name, tolerance=tolerance).bind(axes)
        assert bound.compression_error <= 100 * tolerance
        V, energy, _ = bound.on(grid).evaluate(mu)
        scale = max(1.0, np.abs(exact[0]).max())
        errors.append(max(abs(energy - exact[1]), np.abs(V - exact[0]).max()) / scale)
        assert errors[-1] <= 10 * tolerance
        ranks.append(bound.response_size)
    assert ranks == sorted(ranks)
    assert ranks[-1] <= rank
    assert f"compressed to {ranks[-1]}" in repr(bound)


def test_order_and_repetition_of_the_data_do_not_matter():
    rng = np.random.default_rng(1)
    x, axes = rng.standard_normal(120), [BOX["c"], BOX["a"], BOX["b"]]
    y, w = np.sin(2 * x), rng.integers(1, 4, 120)
    grid = Grid(axes, (7, 12, 10))
    mu = density(grid)
    V, energy, _ = TwoLayerNetwork(x, y, w).bind(axes).on(grid).evaluate(mu)
    shuffle = rng.permutation(int(w.sum()))
    long_x, long_y = np.repeat(x, w)[shuffle], np.repeat(y, w)[shuffle]
    bound = TwoLayerNetwork(long_x, long_y).bind(axes)
    V_long, energy_long, _ = bound.on(grid).evaluate(mu)
    assert energy_long == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(V_long, V, rtol=0, atol=1e-11)
    padded = TwoLayerNetwork(np.append(x, 0.3), np.append(y, 99.0), np.append(w, 0)).bind(axes)
    assert padded.on(grid).evaluate(mu)[1] == pytest.approx(energy, rel=1e-11)


def test_many_samples_with_a_few_far_out():
    rng = np.random.default_rng(3)
    x = np.concatenate([0.1 * rng.standard_normal(30_000), [2.5, -3.0, 2.9]])
    y, axes = np.cos(x), [BOX["c"], BOX["a"], BOX["b"]]
    net = TwoLayerNetwork(x, y)
    bound = net.bind(axes)
    assert bound.response_size < 100
    assert bound.compression_error < 1e-10
    theta, w = rng.uniform([-3, -3, -2], [3, 3, 2], (50, 3)), rng.random(50) / 50
    u = np.tanh(x[:, None] * theta[:, 1] + theta[:, 2]) @ (w * theta[:, 0])
    assert bound.energy(theta, w) == pytest.approx(0.5 * np.mean((u - y) ** 2), rel=1e-12)


def test_samples_that_are_represented_badly_are_added(monkeypatch):
    monkeypatch.setattr(Skeleton, "CANDIDATES", 24)
    x = np.random.default_rng(3).uniform(-1, 1, 2000)
    bound = TwoLayerNetwork(x, np.cos(x)).bind([BOX["c"], BOX["a"], BOX["b"]])
    assert 24 < bound.response_size < 60
    assert bound.compression_error < 1e-10


def test_prediction_from_the_response():
    rng = np.random.default_rng(3)
    axes = [BOX["c"], BOX["a"], BOX["b"]]
    x = np.linspace(-1, 1, 200)
    net = TwoLayerNetwork(x, np.sin(3 * x))
    bound = net.bind(axes)
    theta, w = rng.uniform([-3, -3, -2], [3, 3, 2], (50, 3)), rng.random(50) / 50
    response = bound.response(theta, w)
    new = rng.uniform(-1, 1, 30)
    np.testing.assert_allclose(bound.predict(response, new), net.unit(new, *theta.T) @ w, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="beyond the data"):
        bound.predict(response, np.array([0.0, 3.0]))
    dense = dataclasses.replace(net, tolerance=0.0).bind(axes)
    response = dense.response(theta, w)
    np.testing.assert_allclose(dense.predict(response, x[[7, 3]]), net.unit(x[[7, 3]], *theta.T) @ w, rtol=1e-13)
    with pytest.raises(ValueError, match="not compressed"):
        dense.predict(response, np.array([0.0123]))


def test_relu_is_flagged_and_keeps_every_sample():
    x = np.linspace(-1, 1, 40)
    axes = [BOX["c"], BOX["a"], BOX["b"]]
    net = TwoLayerNetwork(x, np.abs(x), activation="relu")
    bound = (net + Confinement(c=0.1)).bind(axes)
    assert bound.discontinuous_gradient
    assert bound.response_size == 40
    assert "not compressed" in repr(net.bind(axes).on(Grid(axes, (4, 5, 6))))
    assert not (dataclasses.replace(net, activation="tanh") + Confinement(c=0.1)).bind(axes).discontinuous_gradient


def test_plan_says_what_an_evaluation_does():
    x = np.linspace(-1, 1, 90)
    axes = [BOX["c"], BOX["a"], BOX["b"]]
    text = repr(TwoLayerNetwork(x, np.sign(x + 0.01), loss="logistic").bind(axes).on(Grid(axes, (4, 5, 6))))
    for part in ("the loss needs all 90 outputs", "tanh", "amplitudes reduced first (4 cells)", " x 30 ", "twice"):
        assert part in text


def test_user_activation_and_loss():
    x = np.linspace(-1, 1, 30)
    axes = [BOX["c"], BOX["a"], BOX["b"]]
    theta, w = np.array([[1.0, 2.0, 0.5], [-0.5, 1.0, -1.0]]), np.array([0.4, 0.6])
    own = Activation(lambda t: t / (1 + t * t), lambda t: (1 - t * t) / (1 + t * t) ** 2, "witch")
    net = TwoLayerNetwork(x, x**2, activation=own, loss=lambda y, w: HuberLoss(y, w, 0.1))
    u = own(x[:, None] * theta[:, 1] + theta[:, 2]) @ (w * theta[:, 0])
    r = np.abs(u - x**2)
    expected = np.mean(np.where(r > 0.1, 0.1 * (r - 0.05), r**2 / 2))
    assert net.bind(axes).energy(theta, w) == pytest.approx(expected, rel=1e-12)
    assert "witch" in repr(net)


X = np.linspace(-1, 1, 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoLayerNetwork(X, X[:-1]), "data must be"),
        (lambda: TwoLayerNetwork(X.reshape(2, 3, 2), X), "data must be"),
        (lambda: TwoLayerNetwork([], []), "data must be"),
        (lambda: TwoLayerNetwork(np.where(X > 0.9, np.nan, X), X), "x is not finite in 1 rows, the first is 11"),
        (lambda: TwoLayerNetwork(X, np.where(X > 0.5, np.inf, X)), "y is not finite in 3 rows"),
        (lambda: TwoLayerNetwork(X, X, weights=-X), "12 finite numbers >= 0"),
        (lambda: TwoLayerNetwork(X, X, weights=np.zeros(12)), "not all zero"),
        (lambda: TwoLayerNetwork(X, X, weights=[1.0]), "12 finite numbers"),
        (lambda: TwoLayerNetwork(X, X, activation="tahn"), "'tahn'; known are tanh, relu"),
        (lambda: TwoLayerNetwork(X, X, loss="l2"), "'l2'; known are squared, logistic, huber"),
        (lambda: TwoLayerNetwork(X, X, loss="logistic"), "labels must be -1 or 1"),
        (lambda: TwoLayerNetwork(X, X, roles=("amplitude", "slope", "bias")), "among amplitude, weight, bias"),
        (lambda: TwoLayerNetwork(X, X, axes=("c", "a")), "one role for each"),
        (lambda: TwoLayerNetwork(X, X, axes=("c", "a", "a")), "one role for each"),
        (lambda: TwoLayerNetwork(np.stack([X, X], 1), X), "2 inputs, the roles 1"),
        (lambda: TwoLayerNetwork(X, np.stack([X, X], 1)), "2 outputs, the roles 1"),
        (lambda: TwoLayerNetwork(X, np.stack([X, X], 1), axes=("a", "b"), roles=(W, B)), "2 outputs, the roles 0"),
        (lambda: TwoLayerNetwork(X, X, axes=("a", "b", "d"), roles=(W, B, B)), "at most one bias"),
        (lambda: TwoLayerNetwork(X, X, tolerance=0.5), "0 or lie between"),
        (lambda: TwoLayerNetwork(X, X).bind([BOX["c"], BOX["a"]]), r"'b'.*\['c', 'a'\]"),
        (lambda: TwoLayerNetwork(X, X).unit(X, X), "3 parameters"),
        (lambda: TwoLayerNetwork(X, X).unit(np.zeros((3, 2)), X, X, X), r"\(m, 1\)"),
        (
            lambda: (
                TwoLayerNetwork(np.arange(400.0), np.zeros(400), axes=("a", "b"), roles=(W, B), tolerance=0)
                .bind([BOX["a"], BOX["b"]])
                .on(Grid([BOX["a"], BOX["b"]], (1000, 1000)))
            ),
            "400 features.*3.0 GiB.*larger tolerance",
        ),
        (lambda: hermite(-1), "not -1"),
        (lambda: hermite(2.5), "not 2.5"),
        (lambda: HuberLoss(X, delta=0.0), "delta must be positive"),
        (lambda: SquaredLoss([]), "must have shape"),
        (lambda: SquaredLoss([np.nan]), "1 targets are not finite"),
        (lambda: SquaredLoss(X, np.ones(3)), "12 finite numbers"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: Activation(3.0), lambda: TwoLayerNetwork(X, X, loss=SquaredLoss(X))])
def test_wrong_types(make):
    with pytest.raises(TypeError):
        make()
