"""Functions of the user's: ``f(*coordinates)``, and how others are told from it (``docs/functions.md``)."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

import mfpde as mf
from mfpde.support.callables import Form, in_its_form, slopes_of, values_at

X, Y = mf.Axis("x", -2, 3), mf.Axis("y", -1, 4)
LINE, PLANE = [X], [X, Y]
GRIDS = {1: mf.Grid(LINE, (8,)), 2: mf.Grid(PLANE, (8, 6))}


class Callable:
    """An object that is called with whatever its function takes."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


def cells(function, axes, **options):
    return mf.Density(function, **options).restrict(axes).cells(GRIDS[len(axes)])


# ----- densities


def bell(x, y):
    return np.exp(-((x - 1.0) ** 2) / 2 - (y + 0.5 * x) ** 2)


DENSITIES = {
    "coordinates": lambda x: np.exp(-((x - 1.0) ** 2) / 2),
    "coordinates, by name": stats.norm(1.0, 1.0).pdf,
    "coordinates, any number": lambda *x: np.exp(-((x[0] - 1.0) ** 2) / 2) * np.ones(np.shape(x[0])),
    "coordinates, with options": lambda x, width=1.0, *, height=3.0: height * np.exp(-(((x - 1.0) / width) ** 2) / 2),
    "coordinates, one by one": np.vectorize(lambda x: np.exp(-((x - 1.0) ** 2) / 2)),
    "points": lambda p: np.exp(-((p[:, 0] - 1.0) ** 2) / 2),
    "points, last axis": lambda p: np.exp(-((p - 1.0) ** 2).sum(axis=-1) / 2),
    "points, a product": lambda p: np.exp(-np.prod((p - 1.0) ** 2, axis=1) / 2),
    "points, norms": lambda p: np.exp(-(np.linalg.norm(p - 1.0, axis=-1) ** 2) / 2),
    "points, one by one": lambda p: np.array([np.exp(-((q[0] - 1.0) ** 2) / 2) for q in p]),
    "points, of a library": stats.multivariate_normal([1.0], [[1.0]]).pdf,
    "points, an object": Callable(lambda p: np.exp(-((p[:, 0] - 1.0) ** 2) / 2)),
    "points, made 2-D": lambda p: np.exp(-((np.atleast_2d(p) - 1.0) ** 2).sum(axis=1) / 2),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_on_one_axis(name):
    """The normal law on the box, by SciPy, whatever form its density has."""
    faces = GRIDS[1].faces(0)
    exact = np.diff(stats.truncnorm(-3.0, 2.0, 1.0).cdf(faces)) / np.diff(faces)
    np.testing.assert_allclose(cells(DENSITIES[name], LINE), exact, rtol=1e-11)


@pytest.mark.parametrize(
    "function",
    [
        bell,
        lambda x, y, power=2: np.exp(-((x - 1.0) ** power) / 2 - (y + 0.5 * x) ** power),
        lambda *places: bell(*places),
        lambda p: bell(p[:, 0], p[:, 1]),
        lambda p, scale=3.0: scale * bell(*p.T),
        lambda *arguments: bell(*arguments[0].T),
        Callable(bell),
        Callable(lambda p: bell(*p.T)),
    ],
)
def test_a_density_on_two_axes(function):
    np.testing.assert_allclose(cells(function, PLANE), cells(bell, PLANE), rtol=1e-13)


def test_the_logarithm_of_a_density_has_both_forms():
    for function in (lambda x, y: np.log(bell(x, y)), lambda p: np.log(bell(*p.T))):
        np.testing.assert_allclose(cells(function, PLANE, log=True), cells(bell, PLANE), rtol=1e-12)


def test_coordinates_come_in_the_order_of_the_axes():
    turned = mf.Density(bell).restrict([X, Y]).cells(GRIDS[2])
    other = mf.Density(lambda y, x: bell(x, y)).restrict([Y, X]).cells(mf.Grid([Y, X], (6, 8)))
    np.testing.assert_allclose(other.T, turned, rtol=1e-13)


def broken(x):
    raise RuntimeError("no table")


def test_a_density_of_neither_form_is_refused_with_both():
    message = (
        r"the density must return shape \(5,\); called as f\(x\) it returns \(\), called as f\(points\) it returns \(\)"
    )
    with pytest.raises(ValueError, match=message):
        mf.Density(lambda p: np.exp(-np.sum(p**2))).restrict(LINE)  # of all places together
    with pytest.raises(ValueError, match=r"f\(x, y\) it fails \(.*missing 1.*\), called as f\(points\) it fails \("):
        mf.Density(lambda x, y, z: x).restrict(PLANE)
    with pytest.raises(ValueError, match=r"called as f\(x\) it fails \(no table\), called as f\(points\) it fails"):
        mf.Density(broken).restrict(LINE)
    with pytest.raises(ValueError, match=r"one value a point, shape \(\d+,\), not \(\)"):
        mf.Density(lambda x, y: 1.0).restrict(PLANE)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: None, r"<lambda> must return real numbers, not None"),
        (lambda x, y: "a", r"must return real numbers, not 'a'"),
        (lambda x, y: x + 1j * y, r"must return real numbers, not an array of shape"),
    ],
)
def test_what_is_no_real_number_is_refused(function, message):
    """None was NaN, and of complex numbers the imaginary part was left out."""
    with pytest.raises(ValueError, match=message):
        mf.External(function).bind(PLANE).on(GRIDS[2])
    with pytest.raises(ValueError, match=message):
        mf.Density(function).restrict(PLANE)


def test_numbers_one_by_one_are_not_rounded_to_integers():
    """`np.vectorize` makes all results integers where the first is one."""
    ramp = mf.External(np.vectorize(lambda x: 0 if x < 0 else x / 2)).bind(LINE)
    points = np.array([[-1.0], [0.5], [2.5]])
    assert ramp.potential(points, np.empty(0)).tolist() == [0.0, 0.25, 1.25]
    cut = np.vectorize(lambda x: 0 if x < 0 else np.exp(-x))
    exact = cells(lambda x: np.where(x < 0, 0.0, np.exp(-x)), LINE)
    np.testing.assert_allclose(cells(cut, LINE), exact, rtol=1e-13)


# ----- kernels


def kernel(x, y, other_x, other_y):
    return np.exp(-((x - other_x) ** 2) - 0.3 * (y - other_y) ** 2) + x * other_x


def kernel_gradient(x, y, other_x, other_y):
    bump = np.exp(-((x - other_x) ** 2) - 0.3 * (y - other_y) ** 2)
    return -2 * (x - other_x) * bump + other_x, -0.6 * (y - other_y) * bump


def of_points(function):
    """The same function of points as rows."""
    return lambda p, q: function(p[:, :1], p[:, 1:], q[None, :, 0], q[None, :, 1])


@pytest.mark.parametrize("slopes", [None, kernel_gradient, lambda p, q: np.stack(of_points(kernel_gradient)(p, q), -1)])
@pytest.mark.parametrize("function", [kernel, of_points(kernel), lambda *places: kernel(*places)])
def test_a_kernel_on_two_axes(function, slopes):
    rng = np.random.default_rng(1)
    points, weights = rng.uniform([-2, -1], [3, 4], (7, 2)), rng.random(7)
    bound = mf.Interaction(mf.PairKernel(function, slopes)).bind(PLANE)
    # E = 1/2 sum w_i w_j K_ij and V = sum w_j K(., j), with the sums written out
    K = np.array([[kernel(*p, *q) for q in points] for p in points])
    response = bound.response(points, weights)
    assert bound.energy(points, weights) == pytest.approx(0.5 * weights @ K @ weights, rel=1e-13)
    np.testing.assert_allclose(bound.potential(points, response), K @ weights, rtol=1e-12)
    pairs = list(zip(points, weights, strict=True))
    G = np.array([sum(w * np.array(kernel_gradient(*p, *q)) for q, w in pairs) for p in points])
    np.testing.assert_allclose(bound.gradient(points, response), G, rtol=0, atol=1e-9 if slopes is None else 1e-13)
    V, energy, _ = bound.on(GRIDS[2]).evaluate(np.ones((8, 6)))
    assert energy == pytest.approx(0.5 * float(V.sum()) * GRIDS[2].cell_volume, rel=1e-12)


KERNELS = {
    "coordinates": lambda x, other: np.exp(-((x - other) ** 2)),
    "coordinates, with an option": lambda x, other, width=1.0: np.exp(-(((x - other) / width) ** 2)),
    "points, transposed": lambda p, q: np.exp(-((p - q.T) ** 2)),
    "points, broadcast": lambda p, q: np.exp(-((p[:, None] - q[None]) ** 2).sum(axis=-1)),
    "points, columns": lambda p, q: np.exp(-((p[:, :1] - q[:, 0]) ** 2)),
    "points, of a library": lambda p, q: np.exp(-cdist(p, q, "sqeuclidean")),
    "points, one by one": lambda p, q: np.array([[np.exp(-((a[0] - b[0]) ** 2)) for b in q] for a in p]),
    "either": lambda p, q: np.exp(-((np.ravel(p)[:, None] - np.ravel(q)) ** 2)),
}
SLOPES = {
    "coordinates": lambda x, other: -2 * (x - other) * np.exp(-((x - other) ** 2)),
    "coordinates, a tuple": lambda x, other: (-2 * (x - other) * np.exp(-((x - other) ** 2)),),
    "points": lambda p, q: (-2 * (p - q.T) * np.exp(-((p - q.T) ** 2)))[:, :, None],
    "points, broadcast": lambda p, q: -2 * (p[:, None] - q[None]) * np.exp(-((p[:, None] - q[None]) ** 2)),
}


@pytest.mark.parametrize("slopes", [None, *SLOPES])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_on_one_axis(name, slopes):
    points, weights = np.array([[-1.5], [0.25], [2.0], [2.5]]), np.array([0.1, 0.4, 0.2, 0.3])
    bound = mf.Interaction(mf.PairKernel(KERNELS[name], SLOPES.get(slopes))).bind(LINE)
    d = points - points.T
    response = bound.response(points, weights)
    np.testing.assert_allclose(bound.potential(points, response), np.exp(-(d**2)) @ weights, rtol=1e-13)
    exact = (-2 * d * np.exp(-(d**2))) @ weights
    np.testing.assert_allclose(bound.gradient(points, response)[:, 0], exact, rtol=1e-7 if slopes is None else 1e-12)


def test_a_kernel_of_neither_form_is_refused_with_both():
    message = (
        r"the pair kernel must return shape \(5, 3\); called as k\(x, other_x\) it returns \(5, 1\), "
        r"called as k\(points, others\) it returns \(5, 1\)"
    )
    with pytest.raises(ValueError, match=message):
        mf.Interaction(mf.PairKernel(lambda p, q: p)).bind(LINE)
    with pytest.raises(ValueError, match=r"k\(x, y, other_x, other_y\) it fails \(.*k\(points, others\) it fails \("):
        mf.Interaction(mf.PairKernel(lambda a, b, c: a)).bind(PLANE)
    with pytest.raises(ValueError, match=r"the gradient of the pair kernel must return shape \(5, 3, 1\); called as"):
        mf.Interaction(mf.PairKernel(KERNELS["coordinates"], lambda p, q: np.ones(2))).bind(LINE)


def of_rows(p):
    return bell(p[:, 0], p[:, 1])


@pytest.mark.parametrize("function", [bell, of_rows])
def test_what_knows_its_form_can_be_pickled(function):
    """A problem goes to another process, whichever form its functions have."""
    start = mf.Density(function).restrict(PLANE)
    energy = mf.Interaction(mf.PairKernel(kernel, kernel_gradient)).bind(PLANE)
    again, same = pickle.loads(pickle.dumps((start, energy)))
    np.testing.assert_array_equal(again.cells(GRIDS[2]), start.cells(GRIDS[2]))
    points, weights = np.array([[0.0, 1.0], [2.0, 3.0]]), np.ones(2)
    np.testing.assert_array_equal(
        same.gradient(points, same.response(points, weights)), energy.gradient(points, energy.response(points, weights))
    )


# ----- gradients


def test_a_gradient_on_one_axis_may_be_the_array_alone():
    """For potentials, features and kernels alike; a wrong number of arrays is named."""
    points = np.array([[-1.0], [0.3], [2.0]])
    sine = [lambda x: np.cos(x), lambda x: (np.cos(x),), lambda x: [np.cos(x)], lambda x: np.cos(x)[None]]
    for slopes in sine:
        bound = mf.External(np.sin, slopes).bind(LINE)
        np.testing.assert_array_equal(bound.gradient(points, np.empty(0)), np.cos(points))
    for slopes in (lambda x: np.cos(x)[None], lambda x: (np.cos(x)[None],)):
        features = mf.Features(lambda x: np.sin(x)[None], mf.SquaredLoss([0.0], [1.0]), slopes).bind(LINE)
        np.testing.assert_allclose(features.gradient(points, np.array([2.0])), 2 * np.cos(points), rtol=1e-15)
    for slopes in (lambda d: -2 * d * np.exp(-(d**2)), lambda d: (-2 * d * np.exp(-(d**2)),)):
        invariant = mf.Interaction(mf.TranslationInvariantKernel(lambda d: np.exp(-(d**2)), slopes)).bind(LINE)
        d = points - points.T
        found = invariant.gradient(points, invariant.response(points, np.ones(3)))
        np.testing.assert_allclose(found[:, 0], (-2 * d * np.exp(-(d**2))).sum(axis=1), rtol=1e-13)
    with pytest.raises(ValueError, match="one array for each of the 2 axes, not 1"):
        mf.External(lambda x, y: x + y, lambda x, y: (x,)).bind(PLANE)
    with pytest.raises(ValueError, match="one array for each of the 2 axes, not 3"):
        slopes_of(lambda x, y: (x, y, x), np.ones(2), np.ones(2))


def test_a_result_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"the external potential returned shape \(2,\), which does not broadcast to"):
        mf.External(lambda x, y: np.ones(2)).bind(PLANE).on(GRIDS[2])
    with pytest.raises(ValueError, match=r"kernel returned shape \(2,\), which does not broadcast"):
        mf.Interaction(mf.TranslationInvariantKernel(lambda d: np.ones(2))).bind(LINE)
    one = values_at(lambda x, y: 2.0, (np.ones((3, 1)), np.ones((1, 4))), "f")
    np.testing.assert_array_equal(one, np.full((3, 4), 2.0))


# ----- which form it is


def forms():
    return Form("f(x)", 1, lambda f, p: np.asarray(f(p[:, 0]))), Form("f(points)", 1, lambda f, p: np.asarray(f(p)))


def test_where_both_forms_fit_and_differ_the_first_is_taken_and_said():
    places = np.arange(5.0)[:, None]

    def either(z):
        return z if z.ndim == 1 else -z[:, 0]

    with pytest.warns(UserWarning, match=r"the f can be called as f\(x\) and as f\(points\), and gives different"):
        found = in_its_form(either, forms(), (places,), (5,), "the f")
    np.testing.assert_array_equal(found(places), np.arange(5.0))


def test_where_both_forms_agree_nothing_is_said():
    places = np.arange(5.0)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = in_its_form(np.ravel, forms(), (places,), (5,), "the f")
    np.testing.assert_array_equal(found(places), np.arange(5.0))


def test_no_memory_is_no_matter_of_form():
    def hungry(x):
        raise MemoryError("too much")

    with pytest.raises(MemoryError, match="too much"):
        in_its_form(hungry, forms(), (np.ones((5, 1)),), (5,), "the f")


def test_a_form_that_the_parameters_tell_costs_no_call():
    calls = []

    def counted(x, y):
        calls.append(x.shape)
        return bell(x, y)

    two = Form("f(x, y)", 2, lambda f, p: f(*p.T)), Form("f(points)", 1, lambda f, p: f(p))
    found = in_its_form(counted, two, (np.ones((5, 2)),), (5,), "the f")
    assert calls == []
    assert found(np.ones((3, 2))).shape == (3,)
