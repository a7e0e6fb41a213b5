"""Gradients of users' functions, held against differences when they are bound: wrong ones refused, right ones never."""

import warnings

import numpy as np
import pytest

import mfpde as mf
from mfpde.equation.energy.activations import ACTIVATIONS, Activation, hermite
from mfpde.equation.energy.losses import Loss

X, Y = mf.Axis("x", -3, 3), mf.Axis("y", 0, 2, mf.End.PERIODIC)
DATA = np.linspace(-1, 1, 12)


class OwnLoss(Loss):
    def __init__(self, factor=1.0):
        self.factor = factor

    def value(self, u):
        return 0.25 * float(np.sum(u**4))

    def gradient(self, u):
        return self.factor * u**3


def pair_gradient(p, q, factor=1.0):
    d = p[:, None] - q[None]
    return factor * -d * np.exp(-0.5 * (d * d).sum(-1))[..., None]


def pair(p, q):
    return np.exp(-0.5 * ((p[:, None] - q[None]) ** 2).sum(-1))


def interaction(kernel):
    return mf.Interaction(kernel)


# what a gradient off by a factor is refused for, and the energy with it
GIVEN = {
    "external": lambda k: mf.External(lambda x, y: np.sin(x) * y, lambda x, y: (np.cos(x) * y, k * np.sin(x))),
    "named axis": lambda k: mf.External(np.sin, lambda y: (k * np.cos(y),), axes=("y",)),
    "features": lambda k: mf.Features(
        lambda x, y: np.stack([x * y, np.sin(x), 1 + 0 * x * y]),
        mf.SquaredLoss([0.0, 1.0, 1.0]),
        lambda x, y: ([y + 0 * x, k * np.cos(x), 0 * x], [x + 0 * y, 0 * x, 0 * x]),
    ),
    "axis kernel": lambda k: interaction(
        mf.SeparableKernel(
            x=mf.CallableKernel(
                lambda x, y: np.exp(-((x - y) ** 2)), lambda x, y: -2 * k * (x - y) * np.exp(-((x - y) ** 2))
            )
        )
    ),
    "differences": lambda k: interaction(
        mf.TranslationInvariantKernel(
            lambda x, y: np.exp(-x * x) * np.cos(np.pi * y),
            lambda x, y: (
                -2 * k * x * np.exp(-x * x) * np.cos(np.pi * y),
                -np.pi * np.exp(-x * x) * np.sin(np.pi * y),
            ),
        )
    ),
    "pair": lambda k: interaction(mf.PairKernel(pair, lambda p, q: pair_gradient(p, q, k))),
    "activation": lambda k: mf.TwoLayerNetwork(
        DATA,
        DATA,
        activation=Activation(np.sin, lambda t: k * np.cos(t)),
        axes=("y", "x"),
        roles=("amplitude", "weight"),
    ),
    "loss": lambda k: mf.Features(lambda x, y: np.stack([x * y, np.sin(x)]), OwnLoss(k)),
    "loss of a network": lambda k: mf.TwoLayerNetwork(
        DATA, DATA, loss=lambda y, w: OwnLoss(k), axes=("y", "x"), roles=("amplitude", "weight")
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_wrong_by_one_part_in_ten_thousand(name):
    """Refused with the place and both numbers; the right one is not, nor one off by a hundredth of that."""
    GIVEN[name](1.0).bind([X, Y])
    GIVEN[name](1.0 + 1e-6).bind([X, Y])
    for factor in (1.0 + 1e-4, 1.0 - 1e-4, -1.0, 0.0):
        with pytest.raises(
            ValueError, match=r"along [xyts].* is \S+ at [xyts] = .*, where differences of the function give"
        ):
            GIVEN[name](factor).bind([X, Y])


def test_what_is_said():
    """One line: what, along which axis, where, both numbers and the remedy. The place is one of 20 fixed ones."""
    with pytest.raises(ValueError, match="differences") as caught:
        mf.External(np.sin, lambda x: (1.001 * np.cos(x),)).bind([X])
    text = str(caught.value)
    at = float(text.partition("x = ")[2].partition(",")[0])
    # the numbers follow from the place, which is printed to six digits
    assert text.startswith("External(sin): the derivative along x is ")
    wrong, right = (float(text.partition(before)[2].split()[0].rstrip(";")) for before in ("x is ", "function give "))
    assert wrong == pytest.approx(1.001 * np.cos(at), abs=1e-5)
    assert right == pytest.approx(np.cos(at), abs=1e-5)
    assert wrong / right == pytest.approx(1.001, rel=1e-8)
    assert text.endswith("; correct the gradient, or leave it out")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (lambda x: (1 / 0,), "its gradient fails with ZeroDivisionError: division by zero; it takes what"),
        (lambda x: (x, x), "gives an array for each axis"),
        (lambda x, y: (x, y), "its gradient fails with TypeError"),
    ],
)
def test_gradients_that_fail(gradient, message):
    with pytest.raises(ValueError, match=message):
        mf.External(np.sin, gradient).bind([X])


def test_wrong_in_a_part_of_the_box_only():
    """A branch with the wrong sign."""
    with pytest.raises(ValueError, match="differences of the function"):
        mf.External(lambda x: x * x, lambda x: (np.where(x > 2, -2 * x, 2 * x),)).bind([X])


def test_a_constant_has_no_gradient():
    mf.External(lambda x: 1.0 + 0 * x, lambda x: (0 * x,)).bind([X])
    with pytest.raises(ValueError, match=r"is 0\.3 at"):
        mf.External(lambda x: 1.0 + 0 * x, lambda x: (0.3 + 0 * x,)).bind([X])


def relus(x, kinks):
    return np.maximum(np.subtract.outer(x, kinks), 0.0).sum(-1)


KINKS = np.linspace(-3, 3, 1501)


def places():
    """Where a gradient is looked at: the same places every time."""
    seen = []
    mf.External(np.sin, lambda x: (seen.append(x.copy()) or np.cos(x),)).bind([X])
    return seen[0]


PROBES = places()

# right gradients of functions that differences do not do justice to
RIGHT = {
    "kink": (np.abs, np.sign),
    "kinks at the very points": (
        lambda x: relus(x, PROBES),
        lambda x: (np.subtract.outer(x, PROBES) > 0).sum(-1) * 1.0,
    ),
    "1501 kinks": (lambda x: relus(x, KINKS), lambda x: (np.subtract.outer(x, KINKS) > 0).sum(-1) * 1.0),
    "steps": (lambda x: np.floor(5 * x), lambda x: 0 * x),
    "jump": (lambda x: np.where(x > 0, 1e6, 0.0), lambda x: 0 * x),
    "narrow": (lambda x: np.exp(-((1e4 * (x - 1)) ** 2)), lambda x: -2e8 * (x - 1) * np.exp(-((1e4 * (x - 1)) ** 2))),
    "fast": (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x)),
    "too fast to see": (lambda x: np.sin(1e7 * x), lambda x: 1e7 * np.cos(1e7 * x)),
    "a wave as long as the steps": (
        lambda x: np.sin(2e3 * np.pi * x / 6),
        lambda x: np.pi / 3e-3 * np.cos(2e3 * np.pi * x / 6),
    ),
    "on a large constant": (lambda x: 1e9 + np.sin(x), np.cos),
    "single precision": (lambda x: np.sin(x).astype("f4"), lambda x: np.cos(x).astype("f4")),
    "rounded": (lambda x: np.round(np.sin(x), 6), np.cos),
    "huge": (lambda x: 1e300 * x * x, lambda x: 2e300 * x),
    "overflows": (lambda x: np.exp(250 * x), lambda x: 250 * np.exp(250 * x)),
    "pole": (lambda x: 1 / (x - PROBES[3]), lambda x: -1 / (x - PROBES[3]) ** 2),
    "root": (lambda x: np.sqrt(np.abs(x)), lambda x: 0.5 * np.sign(x) / np.sqrt(np.maximum(np.abs(x), 1e-300))),
    "not a number beyond the box": (lambda x: np.arcsin(x / 3), lambda x: 1 / np.sqrt(9 - x * x)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_gradients_are_not_refused(name):
    value, slope = RIGHT[name]
    with np.errstate(all="ignore"):
        mf.External(value, lambda x: (slope(x),)).bind([X])


def test_noise_says_nothing():
    rng = np.random.default_rng(3)
    mf.External(lambda x: np.sin(x) + 1e-3 * rng.standard_normal(x.shape), lambda x: (np.cos(x),)).bind([X])


@pytest.mark.parametrize("name", [*ACTIVATIONS, "hermite0", "hermite1", "hermite9", "hermite30"])
@pytest.mark.parametrize("width", [0.1, 2.0, 50.0])
def test_activations(name, width):
    """Of every network, relu included, on narrow and wide boxes."""
    activation = ACTIVATIONS[name] if name in ACTIVATIONS else hermite(int(name[7:]))
    axes = [mf.Axis(name, -width, width) for name in "cab"]
    with np.errstate(over="ignore"):
        mf.TwoLayerNetwork(DATA, DATA, activation=activation).bind(axes)


@pytest.mark.parametrize("seed", range(8))
def test_relu_units_as_features(seed):
    """A relu network written by hand, on random data, with more features than are looked at one by one."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 700))

    def features(c, a, b):
        return c * np.maximum(np.multiply.outer(x, a) + b, 0.0)

    def gradient(c, a, b):
        t = np.multiply.outer(x, a) + b
        on = np.where(t > 0, 1.0, 0.0)
        return np.maximum(t, 0.0), c * on * x.reshape((-1,) + (1,) * (t.ndim - 1)), c * on

    axes = [mf.Axis(name, -2, 2) for name in "cab"]
    mf.Features(features, mf.SquaredLoss(y), gradient).bind(axes)
    wrong = lambda c, a, b: (*gradient(c, a, b)[:2], 1.0001 * gradient(c, a, b)[2])  # noqa: E731
    with pytest.raises(ValueError, match="the derivative along b of feature"):
        mf.Features(features, mf.SquaredLoss(y), wrong).bind(axes)


def test_shipped_problems():
    for name in mf.problems.names():
        assert mf.problems.get(name).bound_energy is not None


def test_it_is_looked_at_once():
    """When bound: 20 places, a few calls of either function, and none of the gradient when a mesh is made."""
    calls = {"value": 0, "gradient": 0}

    def value(x):
        calls["value"] += 1
        return np.sin(x)

    def gradient(x):
        calls["gradient"] += 1
        assert x.shape == (20,)
        return (np.cos(x),)

    bound = mf.External(value, gradient).bind([X])
    assert calls == {"value": 1, "gradient": 1}
    bound.on(mf.Grid([X], 50))
    assert calls == {"value": 2, "gradient": 1}


# ---------------------------------------------------------------------------------------------------------------------
# one argument serves unit and features
# ---------------------------------------------------------------------------------------------------------------------


def unit(x, c, w):
    from mfpde.equation.problem import beside

    return c * np.cos(w * beside(x, c, w))


def unit_gradient(x, c, w):
    from mfpde.equation.problem import beside

    t = w * beside(x, c, w)
    return np.cos(t), -c * np.sin(t) * beside(x, c, w)


@pytest.mark.parametrize("gradient", [None, unit_gradient])
def test_a_unit_on_data_is_features_and_network(gradient):
    """The same energy as with the features written out, and the network comes with it."""
    from scipy import stats

    x = np.linspace(-1, 1, 17)
    targets = 0.3 * np.cos(1.3 * x)
    energy = mf.Features(unit, mf.SquaredLoss(targets), gradient, inputs=x)
    written = mf.Features(lambda *theta: unit(x, *theta), mf.SquaredLoss(targets))
    axes = [mf.Axis("c", -3, 3), mf.Axis("w", -4, 4)]
    points = np.random.default_rng(1).uniform(-2, 2, (6, 2))
    one, other = energy.bind(axes), written.bind(axes)
    u = one.response(points, np.full(6, 1 / 6))
    np.testing.assert_allclose(u, other.response(points, np.full(6, 1 / 6)), rtol=1e-14)
    np.testing.assert_allclose(one.potential(points, u), other.potential(points, u), rtol=1e-13)
    np.testing.assert_allclose(one.gradient(points, u), other.gradient(points, u), rtol=1e-8, atol=1e-10)

    initial = mf.Product(c=stats.norm(0, 0.4), w=stats.norm(1, 0.4))
    problem = mf.Problem(energy, axes, initial, alpha=1.0, t_end=1.0)
    solution = mf.solve(problem, (24, 24), progress=False)
    np.testing.assert_allclose(solution.predict(x), solution.response[-1], rtol=1e-12, atol=1e-14)
    assert problem.network is not None
    np.testing.assert_array_equal(problem.network.inputs, x)
    assert solution.predict([0.25]).shape == (1,)


def test_inputs_are_checked():
    for wrong in ([np.nan], [], "abc", np.zeros((2, 2, 2))):
        with pytest.raises(ValueError, match="inputs of features"):
            mf.Features(unit, mf.SquaredLoss([0.0]), inputs=wrong)


def test_no_warning_at_the_ends():
    """The differences stay inside the box: a function need not be defined beyond."""
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        mf.External(lambda x: np.sqrt(3 - x), lambda x: (-0.5 / np.sqrt(3 - x),)).bind([X])
    # a hundredth of the axis from its ends; the longest difference takes six thousandths
    assert np.abs(PROBES).max() < 3 - 0.06
