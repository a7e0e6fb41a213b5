import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from shared import printed_by

from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.mixture import Mixture
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.measures.particles import Particles
from mfpde.equation.measures.product import Dirac, Product

X = Axis("x", -5, 5)
Y = Axis("y", -4, 6)
TURN = Axis("t", -math.pi, math.pi, End.PERIODIC)

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


class SinePower(stats.rv_continuous):
    """sin^k on [0, pi], given by its density only."""

    def _pdf(self, x, k):
        return np.sin(x) ** k * special.gamma(k / 2 + 1) / (math.sqrt(math.pi) * special.gamma(k / 2 + 0.5))


SINE = SinePower(a=0.0, b=math.pi, name="sine_power")


def log_normal(rows):
    """A correlated normal law in 2-D, up to a constant."""
    x, y = rows.T
    return -(x**2 - x * (y - 1) + (y - 1) ** 2)


def chi_square_z(samples, restricted, grid):
    """Wilson-Hilferty z-score of samples against the exact cell masses, cells of few expected hits pooled."""
    expected = (restricted.cells(grid) * grid.cell_volume).ravel() * len(samples)
    edges = [grid.faces(i) for i in range(grid.dimension)]
    counts = np.histogramdd(samples, bins=edges)[0].ravel()
    assert counts.sum() == len(samples)
    rich = expected >= 10
    observed = np.append(counts[rich], counts[~rich].sum())
    wanted = np.append(expected[rich], expected[~rich].sum())
    if wanted[-1] < 10:
        assert observed[-1] <= 10 + 6 * math.sqrt(10)
        observed, wanted = observed[:-1], wanted[:-1] * (observed[:-1].sum() / wanted[:-1].sum())
    freedom = len(observed) - 1
    statistic = float(np.sum((observed - wanted) ** 2 / wanted))
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))


# ------------------------------------------------------------------ cell averages


@pytest.mark.parametrize("n", [64, 401, 3000])
def test_normal_cells_have_relative_accuracy_in_both_tails(n):
    # box [-37.5, 37.5]: masses from 1 down to 1e-300 on either side
    axis = Axis("x", -37.5, 37.5)
    grid = Grid([axis], [n])
    masses = Product(x=stats.norm(0, 1)).restrict([axis]).cells(grid) * grid.cell_volume
    faces = grid.faces(0)
    a, b = faces[:-1], faces[1:]
    # upper tail: erfc differences written by the scaled function, e^{-a^2/2} (w(a) - e^{-(b^2-a^2)/2} w(b)) / 2
    right = a >= 0
    a, b = a[right], b[right]
    step = np.exp(-(b - a) * (b + a) / 2)
    exact = 0.5 * np.exp(-(a**2) / 2) * (special.erfcx(a / math.sqrt(2)) - step * special.erfcx(b / math.sqrt(2)))
    kept = exact > 1e-300
    assert exact[kept].min() < 1e-288
    np.testing.assert_allclose(masses[right][kept], exact[kept], rtol=1e-12)
    assert np.array_equal(masses, masses[::-1])
    assert abs(masses.sum() - 1) < 1e-14


def test_exponential_and_laplace_cells_against_closed_forms():
    axis = Axis("x", -200, 600)
    grid = Grid([axis], [1000])
    a, b = grid.faces(0)[:-1], grid.faces(0)[1:]
    h = grid.spacing[0]
    masses = Product(x=stats.laplace(0, 1)).restrict([axis]).cells(grid) * h
    exact = np.where(a >= 0, np.exp(-np.abs(a)), np.exp(-np.abs(b))) * (-np.expm1(-h)) / 2
    np.testing.assert_allclose(masses, exact, rtol=1e-12)
    assert exact.min() < 1e-250
    masses = Product(x=stats.expon(0, 1)).restrict([axis]).cells(grid) * h
    exact = np.where(a >= 0, np.exp(-np.maximum(a, 0)) * (-np.expm1(-h)), 0.0)
    np.testing.assert_allclose(masses, exact, rtol=1e-12)


def test_a_law_far_wider_than_the_box_does_not_cancel():
    grid = Grid([Axis("x", -1, 1)], [1000])
    cells = Product(x=stats.norm(0, 1e6)).restrict(grid.axes).cells(grid)
    np.testing.assert_allclose(cells, 0.5, rtol=1e-12)


def test_a_box_in_the_tail_is_normalised_there():
    axis = Axis("x", 20, 22)
    grid = Grid([axis], [64])
    restricted = Product(x=stats.norm(0, 1)).restrict([axis])
    assert restricted.lost_mass == 1.0
    tail = special.erfcx(grid.faces(0) / math.sqrt(2)) * np.exp(200 - grid.faces(0) ** 2 / 2)
    np.testing.assert_allclose(
        restricted.cells(grid) * grid.cell_volume, -np.diff(tail) / (tail[0] - tail[-1]), rtol=1e-12
    )
    points, weights = restricted.nodes(40)
    assert float(weights @ points[:, 0]) == pytest.approx(20.0497530685, abs=1e-9)


def test_lost_mass_is_what_lies_outside():
    box = [Axis("x", -2, 3), Axis("y", -1, 1)]
    restricted = Product(x=stats.norm(0, 1), y=stats.uniform(-2, 4)).restrict(box)
    lost_x = special.ndtr(-2) + special.ndtr(-3)
    assert restricted.lost_mass == pytest.approx(1 - (1 - lost_x) * 0.5, rel=1e-14, abs=0)
    tiny = Product(x=stats.norm(0, 1)).restrict([Axis("x", -9, 9)])
    assert tiny.lost_mass == pytest.approx(2 * special.ndtr(-9), rel=1e-12, abs=0)
    assert Product(x=stats.uniform(-1, 2)).restrict([X]).lost_mass == 0.0
    mixed = Mixture([(3, Product(x=stats.norm(0, 1))), (1, Dirac(x=9.0))]).restrict([Axis("x", -2, 2)])
    assert mixed.lost_mass == pytest.approx(0.25 + 0.75 * 2 * special.ndtr(-2), rel=1e-14, abs=0)


def test_uniform_cells_that_straddle_the_support_hold_their_share():
    grid = Grid([X], [10])
    cells = Product(x=stats.uniform(-1.5, 2)).restrict([X]).cells(grid)
    np.testing.assert_allclose(cells, [0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0, 0], rtol=1e-15)


def test_a_narrow_law_is_not_missed_between_quadrature_points():
    grid = Grid([X], [16])
    for centre in (0.1, 0.31, 0.5, 0.02):
        cells = Product(x=stats.norm(centre, 1e-6)).restrict([X]).cells(grid) * grid.cell_volume
        assert cells[8] == pytest.approx(1.0, abs=1e-15)
    # the part that leaks over a face 300 deviations away underflows, the one 20 away does not
    axis = Axis("x", -1, 1)
    cells = Product(x=stats.norm(0.02, 1e-3)).restrict([axis]).cells(Grid([axis], [16])) / 8
    assert cells[7] == pytest.approx(special.ndtr(-20), rel=1e-12, abs=0)


class SpikeOnPlateau(stats.rv_continuous):
    """Half uniform on [0, 1], half a normal law of deviation 1e-4 about 0.31."""

    def _pdf(self, x):
        return 0.5 + 0.5 * stats.norm.pdf(x, 0.31, 1e-4)

    def _cdf(self, x):
        return 0.5 * x + 0.5 * special.ndtr((x - 0.31) / 1e-4)


def test_a_spike_that_quadrature_misses_is_seen_by_the_distribution_function():
    axis = Axis("x", 0, 1)
    masses = Product(x=SpikeOnPlateau(a=0.0, b=1.0)()).restrict([axis]).cells(Grid([axis], [10])) / 10
    np.testing.assert_allclose(masses, [0.05] * 3 + [0.55] + [0.05] * 6, rtol=1e-12)


@pytest.mark.parametrize("a", [0.5, 2.0, 5.5])
def test_beta_cells_against_the_incomplete_beta_function(a):
    axis = Axis("x", 0, 1, End.NATURAL)
    grid = Grid([axis], [50])
    masses = Product(x=stats.beta(a, 2)).restrict([axis]).cells(grid) / 50
    np.testing.assert_allclose(masses, np.diff(special.betainc(a, 2, grid.faces(0))), rtol=1e-12)


def test_a_law_given_by_its_density_only():
    axis = Axis("t", 0, math.pi, End.NATURAL)
    grid = Grid([axis], [40])
    f = grid.faces(0)
    primitive = f / 2 - np.sin(2 * f) / 4
    by_law = Product(t=SINE(2)).restrict([axis])
    np.testing.assert_allclose(by_law.cells(grid) * grid.cell_volume, np.diff(primitive) * 2 / math.pi, rtol=1e-12)
    by_density = Density(lambda rows: np.sin(rows[:, 0]) ** 2).restrict([axis])
    np.testing.assert_allclose(by_density.cells(grid), by_law.cells(grid), rtol=1e-11)
    points, weights = by_law.nodes(24)
    assert weights @ np.cos(points[:, 0]) ** 2 == pytest.approx(0.25, abs=1e-14)


@pytest.mark.parametrize("location", [0.0, 1.0, 3.0])
def test_von_mises_on_the_circle(location):
    law = Product(t=stats.vonmises(4.0, loc=location)).restrict([TURN])
    grid = Grid([TURN], [60])
    assert law.lost_mass == pytest.approx(0.0, abs=1e-15)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    faces = grid.faces(0)
    x = 0.5 * (faces[1:] + faces[:-1])[:, None] + 0.5 * grid.spacing[0] * nodes
    exact = (np.exp(4 * np.cos(x - location)) @ weights) / 2 / (2 * math.pi * special.iv(0, 4))
    np.testing.assert_allclose(law.cells(grid), exact, rtol=1e-12)
    points, weights = law.nodes(32)
    assert weights @ np.cos(points[:, 0] - location) == pytest.approx(special.iv(1, 4) / special.iv(0, 4), abs=1e-13)
    shifted = Axis("t", 0, 2 * math.pi, End.PERIODIC)
    again = Product(t=stats.vonmises(4.0, loc=location)).restrict([shifted]).cells(Grid([shifted], [60]))
    np.testing.assert_allclose(again, np.roll(exact, -30), rtol=1e-12)


def test_products_factor():
    grid = Grid([X, Y], [20, 30])
    cells = Product(y=stats.norm(1, 0.7), x=stats.uniform(-1, 2)).restrict([X, Y]).cells(grid)
    x = Product(x=stats.uniform(-1, 2)).restrict([X]).cells(Grid([X], [20]))
    y = Product(y=stats.norm(1, 0.7)).restrict([Y]).cells(Grid([Y], [30]))
    np.testing.assert_allclose(cells, np.outer(x, y), rtol=1e-14)
    assert cells.flags.c_contiguous


# ------------------------------------------------------------------ point values


def test_point_values_are_the_density_scaled_to_discrete_mass_one():
    grid = Grid([X], [50])
    restricted = Product(x=stats.norm(0.3, 0.6)).restrict([X])
    values = restricted.point_values(grid)
    pdf = stats.norm(0.3, 0.6).pdf(grid.centres(0))
    np.testing.assert_allclose(values, pdf / (pdf.sum() * grid.cell_volume), rtol=1e-13)
    assert not np.allclose(values, restricted.cells(grid), rtol=1e-3)


def test_point_values_fall_back_to_averages_where_the_density_jumps_or_is_unbounded():
    grid = Grid([X, Y], [50, 40])
    restricted = Product(x=stats.norm(0.3, 0.6), y=stats.uniform(-1.9, 3.7)).restrict([X, Y])
    values = restricted.point_values(grid)
    cells = restricted.cells(grid)
    np.testing.assert_allclose(values.sum(0), cells.sum(0), rtol=1e-13)  # y jumps: averages
    assert not np.allclose(values.sum(1), cells.sum(1), rtol=1e-3)  # x does not
    arcsine = stats.beta(0.5, 0.5, loc=-5, scale=10)  # unbounded at the ends of the box itself
    for law in (stats.expon(0.33), stats.uniform(0.33, 0.01), arcsine):
        one = Product(x=law).restrict([X])
        line = Grid([X], [50])
        assert np.array_equal(one.point_values(line), one.cells(line))
    whole = Axis("x", -1, 1)
    one = Product(x=stats.uniform(-1, 2)).restrict([whole])  # ends with the box: no jump inside
    np.testing.assert_allclose(one.point_values(Grid([whole], [8])), 0.5, rtol=1e-15)
    smooth = Product(x=stats.beta(3, 3, loc=-1, scale=2)).restrict([X])
    line = Grid([X], [64])
    pdf = stats.beta(3, 3, loc=-1, scale=2).pdf(line.centres(0))
    np.testing.assert_allclose(smooth.point_values(line), pdf / (pdf.sum() * line.cell_volume), rtol=1e-13)


# ------------------------------------------------------------------ atoms


@settings(max_examples=60)
@given(c=st.floats(-4.9, 4.9), n=st.integers(8, 100), data=st.data())
def test_the_mean_of_an_atom_is_exact_away_from_the_walls(c, n, data):
    grid = Grid([X], [n])
    half = grid.spacing[0] / 2
    cells = Dirac(x=c).restrict([X]).cells(grid) * grid.cell_volume
    assert abs(cells.sum() - 1) < 1e-14
    assert np.count_nonzero(cells) <= 2
    mean = float(cells @ grid.centres(0))
    assert mean == pytest.approx(np.clip(c, -5 + half, 5 - half), abs=1e-13)


@pytest.mark.parametrize("make", [lambda x: Dirac(x=x), lambda x: Particles(np.array([[x]]))], ids=["atom", "particle"])
@pytest.mark.parametrize(("x", "cell"), [(-5.0, 0), (-4.7, 0), (4.7, -1), (5.0, -1)])
def test_between_a_wall_and_its_nearest_centre_all_is_on_that_cell(make, x, cell):
    grid = Grid([X], [10])
    masses = make(x).restrict([X]).cells(grid) * grid.cell_volume
    expected = np.zeros(10)
    expected[cell] = 1.0
    assert np.array_equal(masses, expected)


def test_atoms_on_the_circle_wrap():
    grid = Grid([TURN], [16])
    h = grid.spacing[0]
    for t in (math.pi - 0.1 * h, -math.pi + 0.2 * h, 3 * math.pi - 0.1 * h):
        cells = Dirac(t=t).restrict([TURN]).cells(grid) * h
        assert np.count_nonzero(cells) == 2
        assert cells[0] > 0
        assert cells[-1] > 0
        offset = math.remainder(t - math.pi, 2 * math.pi)  # mean position about the seam
        assert 0.5 * h * (cells[0] - cells[-1]) == pytest.approx(offset, abs=1e-14)
    points, weights = Dirac(t=3 * math.pi - 0.1).restrict([TURN]).nodes(5)
    np.testing.assert_allclose(points, [[math.pi - 0.1]])
    assert weights.tolist() == [1.0]


def test_an_atom_on_a_centre_stays_in_its_cell():
    grid = Grid([X, Y], [10, 10])
    cells = Dirac(x=0.5, y=1.5).restrict([X, Y]).cells(grid)
    assert cells[5, 5] == pytest.approx(1.0, abs=1e-15)
    assert cells.sum() == pytest.approx(1.0, abs=1e-15)


def test_a_product_with_an_atom():
    measure = Product(x=stats.norm(0, 1), y=0.25)
    restricted = measure.restrict([X, Y])
    points, _ = restricted.nodes((30, 7))
    assert points.shape == (30, 2)
    assert np.all(points[:, 1] == 0.25)
    assert np.all(restricted.sample(5, np.random.default_rng(0))[:, 1] == 0.25)
    with pytest.raises(ValueError, match=r"axis 'y': the measure has an atom at 0\.25"):
        restricted.log_density(points)
    assert repr(measure) == "Product(x=norm(0, 1), y=0.25)"
    assert repr(Dirac(x=1.0)) == "Dirac(x=1)"


# ------------------------------------------------------------------ log-density


def test_log_density_is_normalised_and_minus_infinity_outside():
    box = [Axis("x", -1, 2), Axis("y", -3, 3)]
    restricted = Product(x=stats.norm(0, 1), y=stats.uniform(-1, 2)).restrict(box)
    rows = np.array([[0.5, 0.5], [2.5, 0.5], [0.5, 1.5], [-1.0, 0.0]])
    values = restricted.log_density(rows)
    mass = special.ndtr(2) - special.ndtr(-1)
    assert values[0] == pytest.approx(stats.norm.logpdf(0.5) - math.log(mass) - math.log(2), abs=1e-14)
    assert values[1] == values[2] == -math.inf
    assert math.isfinite(values[3])
    far = Product(x=stats.norm(0, 0.01)).restrict([X]).log_density([[4.9]])
    assert far[0] == pytest.approx(-0.5 * 490**2 - math.log(0.01 * math.sqrt(2 * math.pi)), rel=1e-14, abs=0)


def test_log_density_wraps_on_the_circle():
    restricted = Product(t=stats.vonmises(2.0)).restrict([TURN])
    rows = np.array([[0.3], [0.3 + 2 * math.pi], [0.3 - 4 * math.pi]])
    np.testing.assert_allclose(restricted.log_density(rows), stats.vonmises(2.0).logpdf(0.3), rtol=1e-13)


# ------------------------------------------------------------------ quadrature nodes


@pytest.mark.parametrize("deviation", [0.05, 0.8, 3.0])
def test_nodes_integrate_truncated_normals(deviation):
    restricted = Product(x=stats.norm(0.3, deviation)).restrict([X])
    points, weights = restricted.nodes(80)
    reference = stats.truncnorm((-5 - 0.3) / deviation, (5 - 0.3) / deviation, loc=0.3, scale=deviation)
    assert abs(weights.sum() - 1) < 1e-14
    assert weights.min() >= 0
    x = points[:, 0]
    a, b = (-5 - 0.3) / deviation, (5 - 0.3) / deviation
    phi = np.exp(-0.5 * np.array([a, b]) ** 2) / math.sqrt(2 * math.pi)
    mass = special.ndtr(b) - special.ndtr(a)
    mean = 0.3 + deviation * (phi[0] - phi[1]) / mass
    square = 1 + (a * phi[0] - b * phi[1]) / mass
    assert weights @ x == pytest.approx(mean, abs=1e-13)
    assert weights @ ((x - 0.3) / deviation) ** 2 == pytest.approx(square, abs=1e-13)
    assert weights @ x == pytest.approx(reference.mean(), abs=1e-8)
    if deviation < 1:  # nothing lost: the characteristic function of the whole line
        exact = math.exp(-(deviation**2) / 2) * math.cos(0.3) if deviation < 0.5 else None
        if exact is not None:
            assert weights @ np.cos(x) == pytest.approx(exact, abs=1e-13)


def test_uniform_nodes_are_exact_for_polynomials_and_start_at_the_support():
    points, weights = Product(x=stats.uniform(-1, 3)).restrict([X]).nodes(6)
    assert points.min() > -1
    assert points.max() < 2
    for power in range(12):
        exact = (2 ** (power + 1) - (-1) ** (power + 1)) / (3 * (power + 1))
        assert weights @ points[:, 0] ** power == pytest.approx(exact, rel=1e-13, abs=0)


def test_periodic_axes_take_the_trapezoid_rule_unless_the_law_breaks_at_the_seam():
    points, weights = Product(t=stats.uniform(-math.pi, 2 * math.pi)).restrict([TURN]).nodes(16)
    np.testing.assert_allclose(np.diff(points[:, 0]), 2 * math.pi / 16, rtol=1e-14)
    np.testing.assert_allclose(weights, 1 / 16, rtol=1e-14)
    # a normal law cut at pi goes on with a kink: Gauss-Legendre there
    points, weights = Product(t=stats.truncnorm(-math.pi, math.pi)).restrict([TURN]).nodes(32)
    cut = math.exp(-(math.pi**2) / 2) / math.sqrt(2 * math.pi)
    exact = 1 - 2 * math.pi * cut / math.erf(math.pi / math.sqrt(2))
    assert weights @ points[:, 0] ** 2 == pytest.approx(exact, abs=1e-13)
    # wound round it goes on smoothly
    points, weights = Product(t=stats.norm(0, 1)).restrict([TURN]).nodes(16)
    np.testing.assert_allclose(np.diff(points[:, 0]), 2 * math.pi / 16, rtol=1e-14)
    assert weights @ np.cos(points[:, 0]) == pytest.approx(math.exp(-0.5), abs=1e-15)


def test_tensor_nodes_follow_c_order_and_factor():
    restricted = Product(x=stats.norm(0, 1), y=stats.uniform(0, 1)).restrict([X, Y])
    points, weights = restricted.nodes((40, 3))
    assert points.shape == (120, 2)
    assert np.all(points[:3, 0] == points[0, 0])
    assert weights @ (points[:, 0] ** 2 * points[:, 1] ** 2) == pytest.approx(
        float(stats.truncnorm(-5, 5).var()) / 3, abs=1e-10
    )
    same, _ = restricted.nodes([40, 3])
    assert np.array_equal(points, same)


# ------------------------------------------------------------------ samples

# Each sample is a fixed seed; |z| < 5 fails a right sampler less than once in 10^6 (two sides of a normal deviate).
SAMPLED = {
    "normal": (Product(x=stats.norm(0.3, 1)), [X]),
    "truncated": (Product(x=stats.norm(0, 1)), [Axis("x", 1, 2)]),
    "far tail": (Product(x=stats.norm(0, 1)), [Axis("x", 9, 10)]),
    "far lower tail": (Product(x=stats.norm(0, 1)), [Axis("x", -10, -9)]),
    "uniform": (Product(x=stats.uniform(-1.3, 2)), [X]),
    "arcsine": (Product(x=stats.beta(0.5, 0.5)), [Axis("x", -1, 1)]),
    "von mises": (Product(t=stats.vonmises(2.0)), [TURN]),
    "von mises shifted": (Product(t=stats.vonmises(2.0, loc=2.5)), [TURN]),
    "density only": (Product(t=SINE(3)), [Axis("t", 0, math.pi, End.NATURAL)]),
    "product": (Product(y=stats.norm(0, 1), x=stats.laplace(0, 0.5)), [X, Y]),
    "joint": (Density(log_normal, log=True), [X, Y]),
    "narrow joint": (Density(lambda r: np.exp(-0.5 * (r[:, 0] - 0.7) ** 2 / 0.01**2)), [Axis("x", 0.6, 0.8)]),
    "jump": (Density(lambda r: np.where(r[:, 0] < 0.3, 1.0, 3.0)), [Axis("x", 0, 1)]),
    "mixture": (Mixture([(1, Product(x=stats.norm(-2, 0.5))), (3, Product(x=stats.uniform(0, 4)))]), [X]),
    "mesh": (GridMeasure(Grid([X], [7]), [0, 1, 2, 0, 5, 1, 3]), [Axis("x", -4.2, 4)]),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_agree_with_the_cells(name):
    measure, axes = SAMPLED[name]
    restricted = measure.restrict(axes)
    samples = restricted.sample(40_000, np.random.default_rng(20240229))
    assert samples.shape == (40_000, len(axes))
    cells = [50] if name != "jump" else [40]
    assert abs(chi_square_z(samples, restricted, Grid(axes, cells if len(axes) == 1 else [25, 20]))) < 5
    again = restricted.sample(40_000, np.random.default_rng(20240229))
    assert np.array_equal(samples, again)
    assert restricted.sample(0, np.random.default_rng(0)).shape == (0, len(axes))


def test_the_chi_square_test_can_fail():
    restricted = Product(x=stats.norm(0, 1)).restrict([X])
    samples = Product(x=stats.norm(0.03, 1)).restrict([X]).sample(40_000, np.random.default_rng(0))
    assert chi_square_z(samples, restricted, Grid([X], [50])) > 3


def test_a_density_that_breaks_its_bound_is_sampled_all_the_same():
    # a spike of width 1e-3 on a lattice of spacing 1/1024, not centred on it
    spike = Density(lambda r: 1.0 + 50 * np.exp(-0.5 * ((r[:, 0] - 0.50049) / 2e-4) ** 2))
    axes = [Axis("x", 0, 1)]
    restricted = spike.restrict(axes)
    samples = restricted.sample(200_000, np.random.default_rng(1))
    share = np.mean(np.abs(samples[:, 0] - 0.50049) < 1e-3)
    inside = 50 * 2e-4 * math.sqrt(2 * math.pi) * math.erf(5 / math.sqrt(2)) + 2e-3
    exact = inside / (1 + 50 * 2e-4 * math.sqrt(2 * math.pi))
    assert abs(share - exact) < 5 * math.sqrt(exact * (1 - exact) / 200_000)


# ------------------------------------------------------------------ joint densities


def test_a_density_agrees_with_the_product_it_is():
    box = [X, Y]
    grid = Grid(box, [24, 32])
    product = Product(x=stats.norm(0.3, 0.7), y=stats.norm(1, 0.9)).restrict(box)
    joint = Density(
        lambda r: -0.5 * ((r[:, 0] - 0.3) / 0.7) ** 2 - 0.5 * ((r[:, 1] - 1) / 0.9) ** 2 + 2000.0, log=True
    ).restrict(box)
    np.testing.assert_allclose(joint.cells(grid), product.cells(grid), rtol=2e-7)
    np.testing.assert_allclose(joint.point_values(grid), product.point_values(grid), rtol=1e-11)
    rows = np.random.default_rng(0).uniform([-5, -4], [5, 6], (50, 2))
    np.testing.assert_allclose(joint.log_density(rows), product.log_density(rows), atol=1e-10)
    p, w = joint.nodes(64)
    q, v = product.nodes(64)
    assert w @ (p[:, 0] ** 2 * np.cos(p[:, 1])) == pytest.approx(v @ (q[:, 0] ** 2 * np.cos(q[:, 1])), abs=1e-13)


@pytest.mark.parametrize(("dimension", "n"), [(1, 9), (2, 9), (3, 7), (4, 5)])
def test_density_cells_in_every_dimension(dimension, n):
    axes = [Axis("abcd"[i], -1, 1 + i) for i in range(dimension)]
    grid = Grid(axes, [n + i for i in range(dimension)])
    cells = Density(lambda r: np.prod(1 + 0.3 * r**2, axis=1)).restrict(axes).cells(grid)
    exact = np.ones(())
    for i in range(dimension):
        f = grid.faces(i)
        masses = np.diff(f + 0.1 * f**3)
        exact = exact[..., None] * (masses / masses.sum() / grid.spacing[i])
    np.testing.assert_allclose(cells, exact, rtol=1e-12)


def test_narrow_densities_are_found_and_resolved():
    joint = Density(lambda r: -0.5 * np.sum((r - 0.123) ** 2, axis=1) / 0.002**2, log=True)
    restricted = joint.restrict([X, Y])
    p, w = restricted.nodes(60)
    assert w @ p[:, 0] == pytest.approx(0.123, abs=1e-12)
    assert w @ (p[:, 1] - 0.123) ** 2 == pytest.approx(0.002**2, rel=1e-10, abs=0)
    assert restricted.log_density([[0.123, 0.123]])[0] == pytest.approx(-math.log(2 * math.pi * 0.002**2), abs=1e-8)


def test_a_periodic_density_takes_the_trapezoid_rule():
    restricted = Density(lambda r: np.exp(3 * np.cos(r[:, 0] - 2.5))).restrict([TURN])
    points, weights = restricted.nodes(32)
    np.testing.assert_allclose(np.diff(points[:, 0]), 2 * math.pi / 32, rtol=1e-13)
    assert weights @ np.cos(points[:, 0] - 2.5) == pytest.approx(special.iv(1, 3) / special.iv(0, 3), abs=1e-13)


# ------------------------------------------------------------------ mixtures, meshes, particles


def test_mixtures_are_sums():
    a, b = Product(x=stats.norm(-1, 0.5)), Product(x=stats.norm(2, 1.5))
    both = Mixture([(1, a), (3, b)]).restrict([X])
    ra, rb = a.restrict([X]), b.restrict([X])
    # weights are those of the masses inside the box
    wa, wb = 0.25 * (1 - ra.lost_mass), 0.75 * (1 - rb.lost_mass)
    wa, wb = wa / (wa + wb), wb / (wa + wb)
    grid = Grid([X], [40])
    np.testing.assert_allclose(both.cells(grid), wa * ra.cells(grid) + wb * rb.cells(grid), rtol=1e-14)
    rows = np.linspace(-4, 4, 9)[:, None]
    density = wa * np.exp(ra.log_density(rows)) + wb * np.exp(rb.log_density(rows))
    np.testing.assert_allclose(np.exp(both.log_density(rows)), density, rtol=1e-13)
    p, w = both.nodes(40)
    q, v = ra.nodes(40), rb.nodes(40)
    assert w @ p[:, 0] == pytest.approx(wa * (q[1] @ q[0][:, 0]) + wb * (v[1] @ v[0][:, 0]), abs=1e-14)
    # components are shuffled: the first tenth of a sample has its share of each (z < 5)
    first = both.sample(4000, np.random.default_rng(0))[:400, 0]
    share = wb * np.sum(rb.cells(grid)[grid.centres(0) > 0]) * grid.cell_volume
    share += wa * np.sum(ra.cells(grid)[grid.centres(0) > 0]) * grid.cell_volume
    assert abs(np.mean(first > 0) - share) < 5 * math.sqrt(share * (1 - share) / 400)
    assert repr(Mixture([(1, a)])) == "Mixture(1 * Product(x=norm(-1, 0.5)))"


def test_log_density_of_disjoint_components():
    both = Mixture([(1, Product(x=stats.uniform(0, 1))), (1, Product(x=stats.uniform(2, 1)))]).restrict([X])
    np.testing.assert_allclose(both.log_density([0.5, 1.5, 2.5]), [-math.log(2), -math.inf, -math.log(2)])


def test_values_on_the_same_mesh_come_back_bit_for_bit():
    grid = Grid([X, Y], [8, 6])
    values = np.random.default_rng(0).random(grid.shape) ** 40
    values /= values.sum() * grid.cell_volume
    restricted = GridMeasure(grid, values).restrict(grid.axes)
    assert np.array_equal(restricted.cells(grid), values)
    assert np.array_equal(restricted.point_values(grid), values)
    assert restricted.lost_mass == 0.0
    scaled = GridMeasure(grid, 7 * values).restrict(grid.axes).cells(grid)
    np.testing.assert_allclose(scaled, values, rtol=1e-14)


@settings(max_examples=40)
@given(
    n=st.integers(4, 40), m=st.integers(4, 40), lower=st.floats(-7, -1), upper=st.floats(1, 7), seed=st.integers(0, 99)
)
def test_remapping_conserves_mass_and_agrees_with_the_primitive(n, m, lower, upper, seed):
    source = Grid([X], [n])
    values = np.random.default_rng(seed).random(n) + 1e-3
    box = Axis("x", lower, upper)
    grid = Grid([box], [m])
    restricted = GridMeasure(source, values).restrict([box])
    primitive = np.append(0.0, np.cumsum(values)) / values.sum()
    at = np.interp(grid.faces(0), source.faces(0), primitive)
    inside = at[-1] - at[0]
    assert restricted.lost_mass == pytest.approx(1 - inside, abs=1e-14)
    masses = restricted.cells(grid) * grid.cell_volume
    np.testing.assert_allclose(masses, np.diff(at) / inside, atol=1e-14)
    assert abs(masses.sum() - 1) < 1e-14


def test_a_mesh_is_matched_by_name_and_transposed():
    grid = Grid([X, Y], [8, 6])
    values = np.random.default_rng(0).random(grid.shape)
    values /= values.sum() * grid.cell_volume
    turned = GridMeasure(grid, values).restrict([Y, X]).cells(Grid([Y, X], [6, 8]))
    np.testing.assert_allclose(turned, values.T, rtol=1e-14)
    fine = GridMeasure(grid, values).restrict([X, Y]).cells(Grid([X, Y], [16, 18]))
    np.testing.assert_allclose(fine, np.repeat(np.repeat(values, 2, 0), 3, 1), rtol=1e-12)


def test_density_and_nodes_of_a_mesh():
    grid = Grid([Axis("x", 0, 4)], [4])
    restricted = GridMeasure(grid, [1, 0, 2, 1]).restrict([Axis("x", 0.5, 5)])
    assert restricted.lost_mass == pytest.approx(1 / 8)
    rows = [[0.25], [0.75], [1.5], [2.5], [4.0], [4.5]]
    with np.errstate(divide="ignore"):
        exact = np.log(np.array([0, 2, 0, 4, 2, 0]) / 7)
    np.testing.assert_allclose(restricted.log_density(rows), exact, rtol=1e-13)
    cut = GridMeasure(grid, [1, 0, 2, 1]).restrict([Axis("x", 0.5, 2.5)])  # the box ends inside a cell
    np.testing.assert_allclose(cut.log_density([2.5]), math.log(2 / 1.5), rtol=1e-13)
    points, weights = restricted.nodes(12)
    for power in range(4):
        pieces = [(0.5, 1, 1), (2, 3, 2), (3, 4, 1)]
        moment = sum(c * (b ** (power + 1) - a ** (power + 1)) / (power + 1) for a, b, c in pieces) / 3.5
        assert weights @ points[:, 0] ** power == pytest.approx(moment, rel=1e-13, abs=0)


def test_particles_on_a_mesh_keep_mass_and_mean():
    rng = np.random.default_rng(3)
    points = rng.normal([0, 1], [0.8, 0.5], (300, 2))
    weights = rng.random(300)
    restricted = Particles(points, weights).restrict([X, Y])
    grid = Grid([X, Y], [20, 25])
    masses = restricted.cells(grid) * grid.cell_volume
    x, y = grid.mesh()
    share = weights / weights.sum()
    assert abs(masses.sum() - 1) < 1e-14
    assert np.sum(masses * x) == pytest.approx(share @ points[:, 0], abs=1e-14)
    assert np.sum(masses * y) == pytest.approx(share @ points[:, 1], abs=1e-14)
    assert np.sum(masses * x * y) == pytest.approx(share @ (points[:, 0] * points[:, 1]), abs=1e-13)
    nodes, node_weights = restricted.nodes(7)
    assert np.array_equal(nodes, points)
    np.testing.assert_allclose(node_weights, share, rtol=1e-14)
    drawn = restricted.sample(50, rng)
    assert all(np.any(np.all(points == row, axis=1)) for row in drawn)
    with pytest.raises(ValueError, match="atoms and have no density"):
        restricted.log_density(points)


def test_one_particle_is_a_dirac():
    grid = Grid([X, TURN], [11, 12])
    one = Particles([[0.7, 9.0]]).restrict(grid.axes).cells(grid)
    np.testing.assert_allclose(one, Dirac(x=0.7, t=9.0).restrict(grid.axes).cells(grid), rtol=1e-14)


def test_particles_outside_are_lost():
    restricted = Particles([[0.0], [6.0]], [3, 1]).restrict([X])
    assert restricted.lost_mass == 0.25
    assert restricted.nodes(1)[0].tolist() == [[0.0]]
    drawn = Particles([[0.0], [1.0]], [3, 1]).restrict([X]).sample(10_000, np.random.default_rng(0))
    assert abs(drawn.mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 10_000)


def test_particles_of_a_law_agree_with_its_cells():
    # 40 000 points, 20 cells, cloud in cell: every cell mass within 5 deviations of the average of its hat function
    law = Product(x=stats.norm(0, 1)).restrict([X])
    grid = Grid([X], [20])
    cloud = Particles(law.sample(40_000, np.random.default_rng(5))).restrict([X]).cells(grid)
    nodes, weights = law.nodes(400)
    hat = np.maximum(0, 1 - np.abs(nodes - grid.centres(0)) / grid.spacing[0])
    expected = weights @ hat
    deviation = np.sqrt(np.maximum(weights @ hat**2 - expected**2, 0) / 40_000)
    rich = expected > 1e-3
    assert np.all(np.abs(cloud[rich] * grid.cell_volume - expected[rich]) < 5 * deviation[rich])


# ------------------------------------------------------------------ across the seam of a periodic axis

RING = Axis("x", 0, 2 * math.pi, End.PERIODIC)
WAVES = np.arange(1, 6)


def waves(x, weights):
    """E exp(i k x) for k = 1 .. 5."""
    return np.exp(1j * np.outer(WAVES, x)) @ weights


def of_cells(masses, grid):
    """The same of a density that is constant in each cell: exact."""
    return waves(grid.centres(0), masses) * np.sinc(WAVES * grid.spacing[0] / (2 * math.pi))


def normal_waves(m, s):
    return np.exp(-((WAVES * s) ** 2) / 2 + 1j * WAVES * m)


# law, its characteristic function at 1 .. 5 (which is E exp(i k x) on the circle, whatever the seam), has it jumps
AROUND = {
    "normal at the seam": (stats.norm(0, 0.3), normal_waves(0, 0.3), False),
    "normal below the seam": (stats.norm(6, 0.3), normal_waves(6, 0.3), False),
    "normal, narrow": (stats.norm(0, 0.02), normal_waves(0, 0.02), False),
    "normal, wider than the circle": (stats.norm(3, 5), normal_waves(3, 5), False),
    "normal, 16 turns away": (stats.norm(100.3, 0.3), normal_waves(100.3, 0.3), False),
    "uniform on the whole circle": (stats.uniform(-math.pi, 2 * math.pi), np.zeros(5), False),
    "uniform on 20 / (2 pi) turns": (stats.uniform(-10, 20), np.sin(10 * WAVES) / (10 * WAVES), True),
    "uniform on an arc": (stats.uniform(-1, 2), np.sin(WAVES) / WAVES, True),
    "exponential": (stats.expon(6, 1), np.exp(6j * WAVES) / (1 - 1j * WAVES), True),
    "Cauchy": (stats.cauchy(1, 0.5), np.exp(-0.5 * WAVES + 1j * WAVES), False),
    "Cauchy, unfrozen": (stats.cauchy, np.exp(-1.0 * WAVES), False),
    "wrapped Cauchy, its own seam elsewhere": (stats.wrapcauchy(0.5, loc=1), 0.5**WAVES * np.exp(1j * WAVES), False),
}


@pytest.mark.parametrize("name", AROUND)
def test_laws_are_wound_round_a_periodic_axis(name):
    law, exact, jumps = AROUND[name]
    restricted = Product(x=law).restrict([RING])
    assert restricted.lost_mass == 0
    points, weights = restricted.nodes(160)
    assert points.min() >= 0
    assert points.max() < 2 * math.pi
    np.testing.assert_allclose(waves(points[:, 0], weights), exact, atol=1e-12)
    # cells: masses are exact, so sums over cells are those of the law smeared over a cell; they fall like 1/n^2
    errors = []
    for n in (512, 1024):
        grid = Grid([RING], [n])
        errors.append(np.abs(of_cells(restricted.cells(grid) * grid.spacing[0], grid) - exact).max())
    assert errors[1] < 1e-5 * max(1.0, np.abs(exact).max() * 25)
    assert errors[1] < 0.26 * errors[0] + 1e-13 or jumps
    # values at centres: spectral where there is no jump, also with a centre on an end of the support
    for n in (1000, 1001):
        grid = Grid([RING], [n])
        values = restricted.point_values(grid) * grid.spacing[0]
        np.testing.assert_allclose(waves(grid.centres(0), values), exact, atol=2e-2 if jumps else 1e-12)
    samples = restricted.sample(40_000, np.random.default_rng(3))
    assert samples.min() >= 0
    assert samples.max() < 2 * math.pi
    assert abs(chi_square_z(samples, restricted, Grid([RING], [40]))) < 5


@pytest.mark.parametrize("name", [name for name in AROUND if "law" not in name and "Cauchy" not in name])
def test_wound_densities_are_sums_of_translates(name):
    law = AROUND[name][0]
    x = np.linspace(0.05, 6.2, 97)
    # 30 turns on each side: nothing of these laws is left beyond
    expected = sum(law.pdf(x + 2 * math.pi * k) for k in range(-30, 31))
    found = np.exp(Product(x=law).restrict([RING]).log_density(x[:, None]))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-17)


def test_the_seam_is_no_matter():
    """The same circle, cut elsewhere: the same density."""
    other = Axis("x", -2, 2 * math.pi - 2, End.PERIODIC)
    law = Mixture([(0.5, Product(x=stats.norm(0, 0.3))), (0.5, Product(x=stats.uniform(5, 3)))])
    rows = np.linspace(-1.99, 6, 301)[:, None]
    one, two = (law.restrict([axis]).log_density(rows) for axis in (RING, other))
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_wound_laws_in_a_product_and_with_natural_axes():
    joint = Product(x=stats.norm(0, 0.3), y=stats.norm(0, 1)).restrict([RING, Axis("y", -1, 1)])
    alone = Product(y=stats.norm(0, 1)).restrict([Axis("y", -1, 1)])
    assert joint.lost_mass == pytest.approx(alone.lost_mass, rel=1e-12)  # cut off as ever: P(|y| > 1) = 0.317
    grid = Grid([RING, Axis("y", -1, 1)], [64, 8])
    np.testing.assert_allclose(
        joint.cells(grid).sum(axis=0) * grid.spacing[0], alone.cells(Grid([Axis("y", -1, 1)], [8])), rtol=1e-13
    )


@pytest.mark.parametrize("law", [stats.t(3), stats.levy(), stats.norm(0, 1e6)])
def test_laws_that_cannot_be_summed_are_refused(law):
    with pytest.raises(ValueError, match=r"beyond 1024 turns of \[0, 6\.28319\), .*; give its density on the circle"):
        Product(x=law).restrict([RING])


def test_a_law_that_jumps_has_nodes_of_its_own_on_a_periodic_axis():
    """8 cells: the trapezoid rule has the right mass by chance, and errors of second order elsewhere."""
    points, weights = Product(x=stats.uniform(0, math.pi)).restrict([RING]).nodes(8)
    assert points.max() < math.pi
    np.testing.assert_allclose(waves(points[:, 0], weights)[:2], [2j / math.pi, 0], atol=1e-9)


def test_grid_measures_are_wound_round():
    rng = np.random.default_rng(11)
    values = rng.random((12, 4))
    y = Axis("y", 0, 1)
    # -pi .. pi: the cells of the second half come first; a third of them is cut by the seam of the other ring
    half = GridMeasure(Grid([Axis("x", -math.pi, math.pi, End.PERIODIC), y], [12, 4]), values)
    found = half.restrict([RING, y])
    assert found.lost_mass == pytest.approx(0, abs=1e-15)
    grid = Grid([RING, y], [12, 4])
    expected = np.roll(values, 6, axis=0)
    np.testing.assert_allclose(found.cells(grid), expected / expected.sum() / grid.cell_volume, rtol=1e-12)
    # one and a half turns, cell by cell: what lies in a cell of the ring is the sum
    long = GridMeasure(Grid([Axis("x", -math.pi, 2 * math.pi)], [18]), np.arange(18.0))
    ring = Grid([RING], [12])
    sums = np.arange(18.0)[6:] + np.append(np.zeros(6), np.arange(6.0))
    np.testing.assert_allclose(long.restrict([RING]).cells(ring) * ring.spacing[0], sums / sums.sum(), rtol=1e-12)
    # cells of which the seam and the mesh cut pieces: the mean direction is that of the cells on the line
    odd = Grid([Axis("x", -0.7, 1.9)], [7])
    odd_values = rng.random(7)
    exact = of_cells(odd_values / odd_values.sum(), odd)
    restricted = GridMeasure(odd, odd_values).restrict([RING])
    points, weights = restricted.nodes(200)
    np.testing.assert_allclose(waves(points[:, 0], weights), exact, atol=1e-12)
    samples = restricted.sample(40_000, np.random.default_rng(5))
    assert abs(chi_square_z(samples, restricted, Grid([RING], [40]))) < 5
    density = np.exp(restricted.log_density(np.array([[6.0], [1.0], [3.0]])))
    share = odd_values / odd_values.sum() / odd.spacing[0]
    np.testing.assert_allclose(density, [share[1], share[4], 0], rtol=1e-12)


def test_points_just_below_the_seam_stay_on_the_axis():
    """-1e-20 plus a turn rounds to the upper end, which is the lower one."""
    for measure in (Dirac(x=-1e-20), Particles([[-1e-20], [-1e-20]])):
        points, _ = measure.restrict([RING]).nodes(1)
        assert points.max() == 0.0


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Product(), "at least one marginal"),
        (lambda: Product(x=math.nan), "atom nan must be a finite number"),
        (lambda: Product(x="norm"), "frozen scipy.stats distribution"),
        (lambda: Product(x=stats.norm), None),
        (lambda: Product(x=stats.poisson(3)), "discrete law"),
        (lambda: Dirac(x=stats.norm(0, 1)), "must be a number"),
        (lambda: Mixture([]), "at least one component"),
        (lambda: Mixture([(-1, Dirac(x=0.0))]), "weight -1 must be finite and non-negative"),
        (lambda: Mixture([(math.nan, Dirac(x=0.0))]), "weight nan"),
        (lambda: Mixture([(1, 3.0)]), "is not a Measure"),
        (lambda: Density(3.0), "needs a function"),
        (lambda: GridMeasure(Grid([X], [4]), [1, 2, 3]), r"shape \(3,\) on a grid of shape \(4,\)"),
        (lambda: GridMeasure(Grid([X], [4]), [1, -2, 3, 1]), r"value -2.0 at index \(1,\)"),
        (lambda: GridMeasure(Grid([X], [4]), [1, 2, 3, math.nan]), r"value nan at index \(3,\)"),
        (lambda: GridMeasure(Grid([X], [4]), [0, 0, 0, 0]), "every value is zero"),
        (lambda: Particles([[math.inf]]), "particle 0 at .* is not finite"),
        (lambda: Particles(np.zeros((0, 2))), "n >= 1"),
        (lambda: Particles([[0.0], [1.0]], [1.0]), r"weights of shape \(1,\) for 2 particles"),
        (lambda: Particles([[0.0], [1.0]], [1.0, math.nan]), "weight nan"),
        (lambda: Particles([[0.0], [1.0]], [1.0, -1.0]), "weight -1.0"),
        (lambda: Particles([[0.0], [1.0]], [0.0, 0.0]), "every weight is zero"),
    ],
)
def test_bad_descriptions_are_refused(make, message):
    if message is None:  # an unfrozen law without shape parameters is as good as a frozen one
        make().restrict([X])
        return
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("measure", "axes", "message"),
    [
        (Product(x=stats.norm(0, 1)), [X, Y], r"over \['x'\], the axes are \['x', 'y'\]; give a marginal for \['y'\]"),
        (Product(x=0.0, z=1.0), [X], r"no axis is named \['z'\]"),
        (Product(x=stats.norm(0, -1)), [X], "NaN probabilities"),
        (Product(x=stats.uniform(7, 1)), [X], r"no mass inside \[-5, 5\]"),
        (Product(x=stats.norm(0, 1)), [Axis("x", 60, 61)], "no mass inside"),
        (Product(x=stats.vonmises(1.0)), [Axis("x", -7, 7)], "law on the circle"),
        (Dirac(x=7.0), [X], r"atom at 7 lies outside \[-5, 5\]"),
        (Mixture([(1, Dirac(x=7.0)), (1, Dirac(x=9.0))]), [X], "no component of the mixture has mass"),
        (Mixture([(1, Dirac(x=0.0)), (1, Dirac(z=0.0))]), [X], r"no axis is named \['z'\]"),
        (Density(lambda r: np.zeros(len(r))), [X], "is zero at all"),
        (Density(lambda r: -np.ones(len(r))), [X], "is -1.0; it must be finite and non-negative"),
        (Density(lambda r: np.full(len(r), math.nan)), [X], "is nan"),
        (Density(lambda r: np.full(len(r), math.inf), log=True), [X], r"must be a number below \+inf"),
        (Density(lambda x: x), [X], "it must be finite and non-negative"),
        (Density(lambda r: r[:2]), [X], r"must return shape \(5,\)"),
        (GridMeasure(Grid([X], [4]), [0, 0, 1, 1]), [Axis("x", -5, -1)], "no mass inside the box"),
        (GridMeasure(Grid([X], [4]), [0, 0, 1, 1]), [Y], r"given on axes \['x'\], the axes are \['y'\]"),
        (Particles([[7.0]]), [X], "none of the 1 particles"),
        (Particles([[7.0]]), [X, Y], "1 dimensions on 2 axes"),
    ],
)
def test_bad_restrictions_are_refused(measure, axes, message):
    with pytest.raises(ValueError, match=message):
        measure.restrict(axes)


def test_bad_questions_are_refused():
    restricted = Product(x=stats.norm(0, 1)).restrict([X])
    with pytest.raises(ValueError, match="restrict the measure to the grid's axes"):
        restricted.cells(Grid([Axis("x", -5, 4)], [8]))
    with pytest.raises(ValueError, match="restrict the measure to the grid's axes"):
        restricted.point_values(Grid([X, Y], [8, 8]))
    with pytest.raises(ValueError, match=r"shape \(n, 1\)"):
        restricted.log_density(np.zeros((3, 2)))
    for bad in (0, 2.5, True, -1):
        with pytest.raises(ValueError, match="integer of at least 1"):
            restricted.nodes([bad])
    with pytest.raises(ValueError, match="2 node counts"):
        restricted.nodes([3, 4])
    with pytest.raises(ValueError, match="integer of at least 0"):
        restricted.sample(-1, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"numpy\.random\.Generator"):
        restricted.sample(3, np.random.RandomState(0))


def uniform_without_quantiles(logarithm):
    """Uniform on [0, 1], without a formula for quantiles, and with a logarithm of its density that may be wrong."""

    class Law(stats.rv_continuous):
        def _pdf(self, x):
            return np.ones_like(x)

        def _cdf(self, x):
            return x

        def _logpdf(self, x):
            return logarithm(x)

    return Law(a=0.0, b=1.0)()


@pytest.mark.parametrize(
    ("logarithm", "message"),
    [
        (lambda x: np.full_like(x, np.nan), "largest logarithm on a lattice of 1025 points is nan"),
        (lambda x: np.full_like(x, -np.inf), "largest logarithm on a lattice of 1025 points is -inf"),
        # on no point of the lattice
        (lambda x: np.where(np.abs(x * 1024 % 1 - 0.5) < 0.3, np.nan, 0.0), "is nan; it must be a number"),
    ],
)
def test_a_density_that_is_no_number_is_not_sampled_for_ever(logarithm, message):
    calls = []

    def counted(x):
        calls.append(len(x))
        assert len(calls) < 1000, "for ever"
        return logarithm(x)

    restricted = Product(x=uniform_without_quantiles(counted)).restrict([Axis("x", 0, 1)])
    with pytest.raises(ValueError, match=message):
        restricted.sample(100, np.random.default_rng(0))


def test_importing_measures_loads_no_scipy():
    code = "import sys, mfpde.equation.measures.base; print('scipy' in {name.split('.')[0] for name in sys.modules})"
    assert printed_by(code) == "False\n"
