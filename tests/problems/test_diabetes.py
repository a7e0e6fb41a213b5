"""Real data, end to end: body-mass index against the progression of diabetes (scikit-learn's bundled data)."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.datasets import load_diabetes

import mfpde as mf

SHAPE = (16, 16, 16)


@pytest.fixture(scope="module")
def data():
    bundle = load_diabetes()
    x, y = bundle.data[:, bundle.feature_names.index("bmi")], bundle.target
    return (x - x.mean()) / x.std(), (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def solution(data):
    return mf.solve(mf.problems.network(*data, half_width=5.0), SHAPE, 5.0)


def test_the_loss_falls_at_every_step(solution):
    energy = solution.diagnostics["energy"]
    assert np.all(np.diff(energy) <= 1e-13 * energy[0])
    # standardised targets and a start of mean amplitude zero: half the variance
    assert energy[0] == pytest.approx(0.5, abs=1e-12)
    assert energy[-1] < 0.37


def test_the_certificate_brackets_the_best_loss_of_the_mesh(data, solution):
    """min over measures of the mesh: a convex programme, solved by non-negative least squares on its own terms.

    SciPy 1.13's `nnls` goes in circles on some processors; `lsq_linear` does not.

    The amplitude enters linearly, so its two extreme cells carry every optimum.
    """
    x, y = data
    c, a, b = (solution.grid.centres(i) for i in range(3))
    hidden = np.tanh(x[:, None] * np.repeat(a, b.size) + np.tile(b, a.size))
    columns = np.hstack([c[0] * hidden, c[-1] * hidden])
    weight = 1e4  # of the row that makes the masses sum to one
    rows = np.vstack([columns / np.sqrt(x.size), np.full(columns.shape[1], weight)])
    wanted = np.append(y / np.sqrt(x.size), weight)
    masses = optimize.lsq_linear(rows, wanted, (0.0, np.inf), method="bvls", tol=1e-14, max_iter=10_000).x
    residual = columns @ masses - y
    best = 0.5 * np.mean(residual**2)
    # the optimality conditions of the programme itself: it was solved
    slope = columns.T @ residual / x.size
    assert masses.sum() == pytest.approx(1.0, abs=1e-6)
    assert slope @ masses - slope.min() < 1e-6

    energy, gap = solution.diagnostics["energy"], solution.diagnostics["optimality_gap"]
    assert np.all(energy - gap <= best + 1e-9)
    assert np.all(best - 1e-9 <= energy)
    # and it is no trivial bracket at the end
    assert gap[-1] < 0.35


def test_the_order_of_the_samples_does_not_matter(data, solution):
    order = np.random.default_rng(0).permutation(data[0].size)
    shuffled = mf.solve(mf.problems.network(data[0][order], data[1][order], half_width=5.0), SHAPE, 5.0)
    np.testing.assert_allclose(shuffled.energy, solution.energy, rtol=0, atol=1e-10)


def test_compression_changes_the_energy_by_less_than_its_tolerance(data):
    exact = mf.solve(mf.problems.network(*data, half_width=5.0, tolerance=0), SHAPE, 5.0)
    assert exact.response.shape[1] == data[0].size
    ranks = []
    for tolerance in (1e-4, 1e-8, 1e-12):
        compressed = mf.solve(mf.problems.network(*data, half_width=5.0, tolerance=tolerance), SHAPE, 5.0)
        ranks.append(compressed.response.shape[1])
        assert np.abs(compressed.energy - exact.energy).max() < max(tolerance, 1e-11)
    assert ranks == sorted(ranks)
    assert ranks[-1] < 120


def test_the_output_is_that_of_the_loss(data, solution):
    x, y = data
    residual = solution.predict(x) - y
    assert 0.5 * np.mean(residual**2) == pytest.approx(solution.energy[-1], abs=1e-10)


@pytest.mark.filterwarnings("ignore:the start is .* cells wide")
def test_repeated_samples_are_weights(data):
    """Two copies of a sample and one of double weight are the same data."""
    x, y = data[0][:40], data[1][:40]
    weights = np.ones(40)
    weights[7] = 2.0
    weighted = mf.solve(mf.problems.network(x, y, weights=weights, half_width=5.0), (12, 12, 12), 0.5)
    repeated = mf.solve(mf.problems.network(np.append(x, x[7]), np.append(y, y[7]), half_width=5.0), (12, 12, 12), 0.5)
    np.testing.assert_allclose(repeated.energy, weighted.energy, rtol=0, atol=1e-10)


def test_a_problem_finds_the_network_in_its_energy(data, solution):
    """Written out by hand, with the axes in another order."""
    from scipy import stats

    x, y = data
    law = stats.norm(0, 5 / 8)
    problem = mf.Problem(
        energy=mf.TwoLayerNetwork(x, y),
        axes=[mf.Axis(name, -5, 5) for name in ("b", "c", "a")],
        initial=mf.Product(a=law, b=law, c=law),
        alpha=1.0,
    )
    other = mf.solve(problem, SHAPE, 5.0)
    np.testing.assert_allclose(other.energy, solution.energy, rtol=1e-10)
    np.testing.assert_allclose(other.predict(x[:5]), solution.predict(x[:5]), atol=1e-9)
