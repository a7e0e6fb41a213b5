"""Laws narrower than a few cells: what a mesh of values at the centres starts from."""

import math

import numpy as np
import pytest
from scipy import stats
from shared import fitted_order

import mfpde as mf
from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.measures.narrow import deconvolved

X = Axis("x", -5, 5)
TURN = Axis("t", -math.pi, math.pi, End.PERIODIC)
LINE = Grid([X], [200])
H = 0.05
PLACES = (0.0, 0.125, 0.25, 0.375, 0.5)
"""Where a law lies beside a centre, in cells."""

pytestmark = pytest.mark.usefixtures("strict_arithmetic")


def start(measure, grid=LINE):
    """Values at the centres, checked to be a probability."""
    mu = measure.restrict(grid.axes).point_values(grid)
    assert mu.min() >= 0.0
    assert mu.sum() * grid.cell_volume == pytest.approx(1.0, rel=1e-14)
    return mu


def moments(mu, grid=LINE):
    """Mean and variance of values on the first axis."""
    x = grid.centres(0)
    mass = mu * grid.cell_volume
    mean = float(mass @ x)
    return mean, float(mass @ (x - mean) ** 2)


@pytest.mark.parametrize("cells", [1e-3, 0.02, 0.1, 0.2, 0.29])
@pytest.mark.parametrize("place", PLACES)
def test_the_mean_of_a_law_within_a_cell_is_right(cells, place):
    """Within a cell it was wherever the centre of the cell was, half a cell away at worst.

    Shares of the two nearest centres have the mean of what is shared: masses of cells 1/16 as wide, at their centres.
    """
    mean = 0.325 + place * H
    found, variance = moments(start(mf.Product(x=stats.norm(mean, cells * H))))
    assert abs(found - mean) <= H / 32
    # w (1 - w) of two centres is at most 1/4, and the law's own variance comes on top
    assert variance <= (0.25 + cells**2 + 1 / 32) * H**2


@pytest.mark.parametrize("place", PLACES)
def test_the_narrowest_law_is_an_atom(place):
    mean = 0.325 + place * H
    law, atom = start(mf.Product(x=stats.norm(mean, 1e-9))), start(mf.Dirac(x=mean))
    np.testing.assert_allclose(law, atom, atol=atom.max() / 16)


@pytest.mark.parametrize("cells", [0.31, 0.4, 0.5, 0.55])
@pytest.mark.parametrize("place", PLACES)
def test_masses_of_cells_stand_for_a_law_of_half_a_cell(cells, place):
    """Values at the centres had a mean 0.09 cells off at 0.4 cells, a quarter of a cell beside a centre.

    There their sum alone is right: by Poisson's formula it is wrong by ``2 exp(-2 pi^2 s^2) cos(2 pi place)``, and the
    mean by about ``(cells / pi) exp(..) sin(2 pi place)`` more. Masses of cells know the mean to
    ``sum |x - centre| mass``, which decays alike, but 4 times smaller; without the limit on what a cell gives the
    variance would be exact, with it the excess stays below 1/12 of a cell squared and the mean within 0.08 cells.
    """
    mean = 0.325 + place * H
    law = mf.Product(x=stats.norm(mean, cells * H))
    assert law.restrict([X]).by_masses(LINE)
    found, variance = moments(start(law))
    assert abs(found - mean) <= {0.31: 0.08, 0.4: 0.008, 0.5: 0.002, 0.55: 0.0022}[cells] * H
    assert abs(variance / H**2 - cells**2) <= {0.31: 0.17, 0.4: 0.091, 0.5: 0.026, 0.55: 0.023}[cells]


@pytest.mark.parametrize("cells", [0.65, 1.0, 2.0, 2.9, 10.0])
@pytest.mark.parametrize("place", PLACES)
def test_values_at_the_centres_carry_wider_ones(cells, place):
    """Poisson: mean and variance of values a cell apart are wrong by ``8 pi^2 s^2 exp(-2 pi^2 s^2)`` cells at most."""
    mean = 0.325 + place * H
    law = mf.Product(x=stats.norm(mean, cells * H))
    assert not law.restrict([X]).by_masses(LINE)
    mu = start(law)
    pdf = stats.norm(mean, cells * H).pdf(LINE.centres(0))
    np.testing.assert_allclose(mu, pdf / (pdf.sum() * H), rtol=1e-13)
    missed = 8 * math.pi**2 * cells**2 * math.exp(-2 * math.pi**2 * cells**2) + 1e-12
    found, variance = moments(mu)
    assert abs(found - mean) <= missed * H
    assert abs(variance - (cells * H) ** 2) <= (1 + cells**2) * missed * H**2


def test_half_a_law_that_ends_at_a_wall_is_carried_by_its_values():
    """Half a normal law goes on evenly beyond its wall: sums at the centres are as right as those of the whole."""
    wall = Axis("r", 0, 4)
    grid = Grid([wall], [40])
    law = mf.Product(r=stats.halfnorm(0, 0.1))
    assert not law.restrict([wall]).by_masses(grid)
    mu = start(law, grid)
    assert float(mu @ grid.centres(0) ** 2) * 0.1 == pytest.approx(0.01, rel=1e-5)  # 8 pi^2 exp(-2 pi^2) is 2e-7


def test_a_law_that_jumps_keeps_its_averages():
    law = mf.Product(x=stats.uniform(0.31, 0.07))
    np.testing.assert_array_equal(start(law), law.restrict([X]).cells(LINE))


def test_across_the_seam_of_a_circle():
    grid = Grid([TURN], [100])
    h = TURN.length / 100
    for cells in (0.1, 0.45):
        mu = start(mf.Product(t=stats.norm(math.pi, cells * h)), grid)
        np.testing.assert_allclose(mu, mu[::-1], rtol=1e-12, atol=1e-12)  # it lies on the seam, which is a face
        middle = start(mf.Product(t=stats.norm(0.0, cells * h)), grid)  # a face as well
        np.testing.assert_allclose(np.roll(mu, 50), middle, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cells", [0.35, 0.5])
def test_a_density_of_two_coordinates_as_the_product_of_its_laws(cells):
    axes = [Axis("x", -1, 1), Axis("y", -1, 1)]
    grid = Grid(axes, [40, 40])
    s = cells * 0.05
    law = mf.Product(x=stats.norm(0.11, s), y=stats.norm(0.0, 0.15))
    own = mf.Density(lambda x, y: -0.5 * ((x - 0.11) / s) ** 2 - 0.5 * (y / 0.15) ** 2, log=True)
    assert own.restrict(axes).by_masses(grid)
    # along y, 3 cells wide, averages are deconvolved: 3/640 times the fourth derivative, at most 3 / 3^4, is left
    np.testing.assert_allclose(start(own, grid), start(law, grid), atol=1.1 * 9 / 640 / 3**4 * start(law, grid).max())


def test_components_enter_by_themselves():
    wide, narrow = mf.Product(x=stats.norm(-1.0, 0.5)), mf.Product(x=stats.norm(1.01, 0.004))
    both = mf.Mixture([(0.75, wide), (0.25, narrow)])
    np.testing.assert_allclose(start(both), 0.75 * start(wide) + 0.25 * start(narrow), rtol=1e-14)


class TestWidths:
    def test_of_laws_are_those_of_normal_ones(self):
        axes = [Axis("x", -5, 5), Axis("y", -5, 5)]
        law = mf.Product(x=stats.norm(0.3, 0.2), y=stats.uniform(-1.0, 2.0)).restrict(axes)
        # the middle 68 % of a normal law are 0.99446 standard deviations on each side, of a uniform one 0.34 lengths
        assert law.widths(Grid(axes, [20, 20])) == pytest.approx((0.2, 0.68 / 0.99446), rel=2e-3)

    def test_of_atoms_are_0_and_of_masses_on_cells_unknown(self):
        assert mf.Dirac(x=0.2).restrict([X]).widths(LINE) == (0.0,)
        assert mf.GridMeasure(LINE, np.ones(200)).restrict([X]).widths(LINE) == (math.inf,)
        assert mf.Particles(np.array([0.1, 0.2])).restrict([X]).widths(LINE) == (math.inf,)

    def test_the_narrowest_component_that_matters_counts(self):
        wide, narrow = mf.Product(x=stats.norm(-1.0, 0.5)), mf.Product(x=stats.norm(1.0, 0.01))
        for share, width in ((0.02, 0.01), (0.005, 0.5)):
            both = mf.Mixture([(1.0 - share, wide), (share, narrow)]).restrict([X])
            assert both.widths(LINE) == pytest.approx((width,), rel=0.01)
            assert both.by_masses(LINE) is (share > 0.01)


class TestDeconvolution:
    def test_is_of_fourth_order(self):
        """Averages of ``2 + sin t`` are ``2 + sin(t) sin(h/2) / (h/2)``; what is left is ``3/640 h^4``."""
        errors, sizes = [], []
        for n in (20, 40, 80):
            h = TURN.length / n
            t = Grid([TURN], [n]).centres(0)
            averages = 2.0 + np.sin(t) * math.sin(h / 2) / (h / 2)
            errors.append(float(np.abs(deconvolved(averages, 0, periodic=True) - 2.0 - np.sin(t)).max()))
            sizes.append(h)
            assert errors[-1] <= 1.01 * 3 / 640 * h**4
        assert fitted_order(sizes, errors) == pytest.approx(4.0, abs=0.02)

    @pytest.mark.parametrize("periodic", [False, True])
    def test_keeps_mass_sign_and_what_is_even(self, periodic):
        rng = np.random.default_rng(3)
        averages = rng.random((30, 20)) ** 8
        averages[rng.random((30, 20)) < 0.3] = 0.0
        for axis in (0, 1):
            values = deconvolved(averages, axis, periodic=periodic)
            assert values.min() >= 0.0
            np.testing.assert_allclose(values.sum(axis), averages.sum(axis), rtol=1e-14)
            np.testing.assert_array_equal(
                np.flip(deconvolved(np.flip(averages, axis), axis, periodic=periodic), axis), values
            )
        np.testing.assert_array_equal(deconvolved(np.ones(7), 0, periodic=periodic), np.ones(7))

    def test_no_mass_crosses_the_ends_and_none_comes_from_empty_cells(self):
        averages = np.array([0.0, 0.0, 1.0, 4.0])
        np.testing.assert_allclose(deconvolved(averages, 0, periodic=False), [0, 0, 1 - 3 / 24, 4 + 3 / 24])
