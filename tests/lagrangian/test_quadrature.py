"""Rules of nodes: exact integrals, observed rates, and where the nodes are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

import mfpde as mf
from mfpde.equation.grid import Axis
from mfpde.equation.measures.mixture import Mixture
from mfpde.equation.measures.product import Product
from mfpde.equation.measures.quadrature import Block, Place, density_rule, gauss, log_total, node_rule
from mfpde.lagrangian.ancestry import ancestral_mass, nodes_of, watch

NORMAL = Place(0.0, 1.0)


@pytest.mark.parametrize("vanishing", [True, False])
@pytest.mark.parametrize("places", [[NORMAL], [NORMAL, Place(6.0, 1.0)], [NORMAL, Place(-3.0, 0.1), Place(5.0, 0.4)]])
def test_a_rule_integrates_normal_laws_at_all_its_places(places, vanishing):
    for place in places:
        x, w = node_rule(-12.0, 16.0, places, 160 if vanishing else 300, vanishing)
        assert np.all(np.diff(x) > 0)
        assert -12.0 < x[0] < x[-1] < 16.0
        p = stats.norm(place.mean, place.spread).pdf(x)
        assert w @ p == pytest.approx(1.0, abs=1e-13)
        assert w @ (p * x) == pytest.approx(place.mean, abs=1e-12)
        assert w @ (p * (x - place.mean) ** 2) == pytest.approx(place.spread**2, rel=1e-12)


@pytest.mark.parametrize(
    ("places", "n", "vanishing"),
    [
        # Newton's method alone comes to a circle of two for one of the nodes of each
        ([Place(3.7, 0.41), Place(-3.4, 0.55)], 35, True),
        ([Place(2.8, 0.54), Place(3.8, 0.13)], 115, True),
        ([Place(0.6, 0.65), Place(4.3, 0.25), Place(0.3, 0.38)], 123, True),
        ([Place(-1.8, 0.38), Place(1.6, 1.27)], 158, False),
        ([Place(-4.1, 0.05), Place(-4.8, 0.31), Place(1.1, 0.89)], 177, False),
    ],
)
def test_nodes_of_several_places_are_those_of_the_map(places, n, vanishing):
    """u(x) = sum_k asinh((x - m_k)/a_k) at the nodes is what a rule for u has, whatever the places are."""
    from scipy.optimize import brentq

    low, high = -7.0, 8.0
    scales = []
    for place in places:
        L = max(high - place.mean, place.mean - low)
        wide = 3 * place.spread if vanishing else min(max(0.37 * L, 2.2 * place.spread), 3 * place.spread)
        b = brentq(lambda b, L=L, wide=wide: L * b / math.sinh(b) - wide, 1e-3, 50)
        scales.append(L / math.sinh(b))

    def u(x):
        return sum(np.arcsinh((x - place.mean) / a) for place, a in zip(places, scales, strict=True))

    x, _ = node_rule(low, high, places, n, vanishing)
    middle, half = 0.5 * (u(high) + u(low)), 0.5 * (u(high) - u(low))
    wanted = (2 * np.arange(n) + 1) / n - 1 if vanishing else np.polynomial.legendre.leggauss(n)[0]
    assert np.all(np.diff(x) > 0)
    np.testing.assert_allclose((u(x) - middle) / half, wanted, atol=1e-11)


def test_the_sinh_rule_converges_geometrically():
    """E cos(2 x) = e^-2: errors fall at least a thousandfold from 12 to 24 nodes, and to round-off at 48."""
    errors = []
    for n in (12, 24, 48):
        x, w = node_rule(-9.3, 9.3, [NORMAL], n, True)
        errors.append(abs(w @ (stats.norm.pdf(x) * np.cos(2 * x)) - math.exp(-2.0)))
    assert errors[1] < 1e-3 * errors[0]
    assert errors[2] < 1e-13
    # the rule that it replaces needs more than twice as many for the same
    x, w = gauss(-9.3, 9.3, 24)
    assert abs(w @ (stats.norm.pdf(x) * np.cos(2 * x)) - math.exp(-2.0)) > 100 * errors[1]


def test_one_place_is_the_sinh_rule():
    """x = c + L sinh(b u)/sinh(b) with u = (2 i + 1)/n - 1, and 6 s/n between nodes in the middle."""
    n, L, s = 41, 9.3, 0.8
    x, w = node_rule(1.0 - L, 1.0 + L, [Place(1.0, s)], n, True)
    # b from L b / sinh b = 3 s, by another root search
    from scipy.optimize import brentq

    b = brentq(lambda b: L * b / math.sinh(b) - 3 * s, 1e-3, 50)
    u = (2 * np.arange(n) + 1) / n - 1
    np.testing.assert_allclose(x, 1.0 + L * np.sinh(b * u) / math.sinh(b), atol=1e-12)
    np.testing.assert_allclose(w, L * b * np.cosh(b * u) / math.sinh(b) * 2 / n, rtol=1e-11)
    assert w[n // 2] == pytest.approx(6 * s / n, rel=1e-11)


def test_laws_that_do_not_vanish_keep_gauss_legendre_nodes():
    x, w, cut = density_rule((-1.0, 1.0), (-1.0, 1.0), Place(0.0, 0.68), 1.0, [], 9)
    assert np.array_equal(x, gauss(-1.0, 1.0, 9)[0])
    assert cut == (False, False)
    # with another place the nodes gather there, and polynomials of moderate degree are still exact to round-off
    x, w, _ = density_rule((-1.0, 1.0), (-1.0, 1.0), Place(0.0, 0.68), 1.0, [Place(0.7, 0.01)], 60)
    assert np.sum(np.abs(x - 0.7) < 0.03) > 10
    assert w @ x**6 == pytest.approx(2 / 7, abs=1e-12)


def test_rules_reach_beyond_the_bulk_but_not_beyond_the_bounds():
    bulk, far = Place(0.0, 1.0), Place(15.0, 1.0)
    x, _, cut = density_rule((-9.0, 9.0), (-40.0, 40.0), bulk, 1e-20, [far], 80)
    assert x[-1] > 15.0 + 8.0
    assert cut == (True, True)
    x, _, cut = density_rule((-9.0, 9.0), (-40.0, 18.0), bulk, 1e-20, [far], 80)
    assert 17.0 < x[-1] < 18.0
    assert cut == (True, False)


def test_weights_beyond_all_numbers():
    """A rule that reaches 60 spreads out: logarithms of weights carry what floats do not."""
    measure = Product(x=stats.norm(0, 0.1)).restrict((Axis("x", -8, 8),))
    (block,) = measure.blocks(120, [[[Place(6.0, 0.1)]]])
    assert log_total(block.logs) == pytest.approx(0.0, abs=1e-13)
    far = np.argmin(np.abs(block.points[:, 0] - 6.0))
    assert block.logs[far] < -1700
    # tilted by exp(600 x) the law is normal around 6: E = 0.1^2 600
    logs = block.logs + 600 * block.points[:, 0]
    weights = np.exp(logs - log_total(logs))
    assert weights @ block.points[:, 0] == pytest.approx(6.0, rel=1e-12)
    assert watch([block], weights).error < 1e-12
    assert ancestral_mass(block.logs, weights) == 0.0
    assert measure.nodes(120)[1].sum() == pytest.approx(1.0, abs=1e-14)


def test_components_have_rules_of_their_own():
    law = Mixture([(1.0, Product(x=stats.norm(-3, 0.1))), (3.0, Mixture([(1.0, Product(x=stats.norm(3, 0.5)))]))])
    measure = law.restrict((Axis("x", -8, 8),))
    one, two = measure.blocks(24)
    assert (one.share, two.share) == pytest.approx((0.25, 0.75))
    points, logs = nodes_of((one, two))
    assert np.exp(logs) @ points[:, 0] == pytest.approx(0.25 * -3 + 0.75 * 3, abs=1e-12)
    a, b = measure.blocks(24, [[[Place(0.0, 0.2)]], [[]]])
    assert a.points[:, 0].max() > 1.2
    assert np.array_equal(b.points, two.points)


@pytest.mark.parametrize("tilt", [0.0, 2.0, 6.0, 20.0])
def test_ancestral_mass_of_a_tilted_normal_law(tilt):
    """exp(t x) shifts a normal law by t, and grows with x: half of it descends from the mass beyond t."""
    x, w = node_rule(-9.3, 9.3 + tilt, [NORMAL, Place(tilt, 1.0)], 4000, True)
    logs = np.log(w) + stats.norm.logpdf(x)
    weights = np.exp(logs + tilt * x - log_total(logs + tilt * x))
    expected = special.ndtr(-tilt)
    assert ancestral_mass(logs, weights) == pytest.approx(expected, rel=0.05)
    # from few nodes the order of magnitude: they are a fifth of a spread apart there, a factor e^4 in a tail of 20
    x, w = node_rule(-9.3, 9.3 + tilt, [NORMAL, Place(tilt, 1.0)], 30, True)
    logs = np.log(w) + stats.norm.logpdf(x)
    weights = np.exp(logs + tilt * x - log_total(logs + tilt * x))
    assert math.log(ancestral_mass(logs, weights)) == pytest.approx(math.log(expected), abs=max(1.0, 0.2 * tilt))


def test_ancestral_mass_of_atoms():
    """Nothing lies between atoms: of 1e-8 at 0 and the rest at 1, which both stay, half descends from about a half."""
    logs = np.log(np.array([1e-8, 1.0]))
    assert ancestral_mass(logs, np.array([1.6e-8, 1.0]), smooth=False) == pytest.approx(0.5, abs=1e-6)


def test_ancestral_mass_without_birth_is_a_half():
    logs = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    assert ancestral_mass(logs, np.exp(logs)) == pytest.approx(0.5, abs=1e-15)
    # all that is left descends from one node of a tenth: half of that
    assert ancestral_mass(logs, np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.05)


@pytest.mark.parametrize("nodes", [2.0, 2.5, 3.0])
def test_the_error_that_few_nodes_let_expect_is_that_of_midpoints(nodes):
    """Midpoints h apart under a normal law of spread s are off by at most 2 exp(-2 pi^2 s^2/h^2): Poisson's formula."""
    h = 1.0
    s = nodes * h / (2 * math.sqrt(math.pi))
    worst, seen = 0.0, []
    for shift in np.linspace(0, 1, 21):
        x = np.arange(-40, 41) + shift
        mass = h * stats.norm(0, s).pdf(x)
        worst = max(worst, abs(mass.sum() - 1.0))
        block = Block.of(1.0, x[:, None], np.log(np.maximum(mass, 1e-300)), (81,), ((False, False),))
        seen.append(watch([block], mass / mass.sum()).error)
    assert worst == pytest.approx(2 * math.exp(-2 * math.pi**2 * s**2), rel=1e-2)
    # by chance the nodes lie better or worse; the estimate is of the right size all the same
    assert 0.1 * worst < min(seen)
    assert max(seen) < 10 * worst


def test_mass_on_the_outermost_nodes_counts_where_the_density_goes_on_only():
    x = np.linspace(0, 1, 11)
    mass = np.full(11, 1 / 11)
    free, cut = (
        watch([Block.of(1.0, x[:, None], np.log(mass), (11,), ((False, end),))], mass) for end in (False, True)
    )
    assert free.beyond == 0.0
    assert cut.beyond > 1.0  # as much on the last node as on the one before: no end is in sight
    assert free.error < 1e-12
    assert cut.error == 1.0
    assert "descends from beyond the nodes" in cut.reason
    # halves from node to node: what follows is as much as the last one
    mass = 0.5 ** np.arange(1, 12)
    cut = watch([Block.of(1.0, x[:, None], np.log(mass), (11,), ((False, True),))], mass)
    assert cut.beyond == pytest.approx(mass[-1] / mass.sum(), rel=1e-12)


@pytest.mark.parametrize("spread", [0.3, 0.55, 0.7, 0.8])
def test_other_rules_are_other_rules(spread):
    """Also where both end at the walls: a check by the same nodes is none."""
    axes = [mf.Axis("x", -5.0, 5.0)]
    measure = mf.Problem(mf.External(lambda x: x), axes, mf.Product(x=stats.norm(0.1, spread))).mu_0
    one, other = (measure.blocks(40, other=other)[0].points[:, 0] for other in (False, True))
    # all but a few in the middle by more than a tenth of their distance
    assert np.mean(np.abs(one - other) > 0.1 * np.gradient(one)) > 0.8
