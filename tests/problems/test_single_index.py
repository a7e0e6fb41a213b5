"""The single-index model on the angle: closed forms for k = 2, facts at the start, times to learn."""

import math
from functools import cache

import numpy as np
import pytest
from scipy import integrate, special

import mfpde as mf

P = mf.problems


def start_moment(j, d):
    """E u^j for u the first coordinate of a uniform point of S^{d-1}, by quadrature."""
    x, w = special.roots_jacobi(60, (d - 3) / 2, (d - 3) / 2)
    return float(w @ x**j / w.sum())


@cache
def squared_cosine(d):
    """Nodes and weights of u^2 at the start."""
    x, w = special.roots_jacobi(400, (d - 3) / 2, (d - 3) / 2)
    return x**2, w / w.sum()


def speed(s, d):
    """F of the closed form, from its definition: (d/(d-1)) E[(1-u^2) / (1 - u^2 + e^{4s} u^2)]."""
    x, w = squared_cosine(d)
    return d / (d - 1) * float(w @ ((1 - x) / (1 - x + math.exp(4 * s) * x)))


@pytest.mark.parametrize("d", [3, 5, 16, 64])
@pytest.mark.parametrize(("k", "rate"), [(2, 1.0), (3, 1.0), (4, 1.0), (4, 2.0), (6, 1.0)])
def test_initial_slope(k, d, rate):
    """dE/dt(0) = - int |grad V|^2 with V' = c k u^{k-1} sin(theta): the interaction is constant at the start."""
    problem = P.single_index(k=k, d=d, rate=rate)
    expected = -(rate**2) * k**2 * (start_moment(2 * k - 2, d) - start_moment(2 * k, d))
    assert problem.exact["initial_slope"] == pytest.approx(expected, rel=1e-11)
    exact = mf.characteristics(problem, t_end=1e-3, save=2, nodes=200, tolerance=1e-6)
    assert -sum(exact.dissipation(0.0)) == pytest.approx(expected, rel=1e-10)


class TestQuadratic:
    """k = 2: one scalar equation, every dimension."""

    @pytest.mark.parametrize("d", [2, 3, 8, 7.5, 32])
    def test_energy(self, d):
        problem = P.single_index(k=2, d=d)
        exact = mf.characteristics(problem, t_end=2.0, save=[0.5, 2.0])
        expected = [problem.exact["energy"](t) for t in exact.times]
        np.testing.assert_allclose(exact.energy, expected, rtol=1e-9)

    @pytest.mark.parametrize("d", [3, 8, 7.5, 32])
    def test_density(self, d):
        problem = P.single_index(k=2, d=d)
        exact = mf.characteristics(problem, t_end=1.0, save=2)
        theta = np.array([0.2, 0.9, 1.5, 2.8])
        np.testing.assert_allclose(exact.density_at(theta, 1.0), problem.exact["density"](theta, 1.0), rtol=1e-8)

    def test_scalar_equation(self):
        """s' = F(s) integrated by an ODE method, F from its definition as an expectation."""
        d = 8
        run = integrate.solve_ivp(
            lambda t, s: [speed(s[0], d)], (0, 3), [0.0], "DOP853", [1.0, 3.0], rtol=1e-11, atol=1e-13
        )
        energy = [0.5 * (1 - 1 / d) * speed(s, d) ** 2 for s in run.y[0]]
        found = [P.single_index(k=2, d=d).exact["energy"](t) for t in (1.0, 3.0)]
        np.testing.assert_allclose(found, energy, rtol=1e-9)

    def test_three_dimensions(self):
        """p = e^{4s}/G (1 - arctan(sqrt G)/sqrt G), G = e^{4s} - 1, and F = 3/2 (1 - p)."""
        closed = P.single_index(k=2, d=3).exact
        for t in (0.3, 1.0, 4.0):
            ratio = closed["energy"](t) / (1 / 3)

            def slope(s):
                G = math.expm1(4 * s)
                return 1.5 * (1 - math.exp(4 * s) / G * (1 - math.atan(math.sqrt(G)) / math.sqrt(G)))

            assert integrate.quad(lambda s: 1 / slope(s), 1e-9, self.root(slope, math.sqrt(ratio)))[0] == pytest.approx(
                t, abs=1e-7
            )
        assert 2 * closed["energy"](1.0) == pytest.approx(0.136457, abs=5e-7)

    @staticmethod
    def root(function, value):
        from scipy.optimize import brentq

        return brentq(lambda s: function(s) - value, 1e-6, 20.0, xtol=1e-14)

    def test_circle(self):
        """d = 2: r + log r = 1 + 4 c t."""
        for rate in (1.0, 2.5):
            closed = P.single_index(k=2, d=2, rate=rate).exact
            for t in (0.0, 0.7, 40.0, 1e4):
                r = math.sqrt(rate / closed["energy"](t)) - 1
                assert r + math.log(r) == pytest.approx(1 + 4 * rate * t, rel=1e-11)

    @pytest.mark.parametrize("d", [2, 3, 16, 128, 400])
    def test_time_to_energy(self, d):
        closed = P.single_index(k=2, d=d).exact
        for t in (0.0, 0.1, 2.0, 30.0):
            assert closed["time_to_energy"](closed["energy"](t)) == pytest.approx(t, rel=1e-9, abs=1e-9)
        with pytest.raises(ValueError, match="at most the one at the start"):
            closed["time_to_energy"](closed["energy"](0.0) * 1.01)

    @pytest.mark.parametrize("d", [250, 400])
    def test_high_dimension(self, d):
        """On both sides of where the hypergeometric series overflows."""
        run = integrate.solve_ivp(lambda t, s: [speed(s[0], d)], (0, 1.8), [0.0], "DOP853", rtol=1e-11, atol=1e-13)
        s = run.y[0, -1]
        expected = 0.5 * (1 - 1 / d) * speed(s, d) ** 2
        assert P.single_index(k=2, d=d).exact["energy"](1.8) == pytest.approx(expected, rel=1e-8)

    def test_rate(self):
        """c scales the energy and the clock."""
        one, fast = (P.single_index(k=2, d=5, rate=rate) for rate in (1.0, 2.5))
        assert fast.exact["energy"](0.8) == pytest.approx(2.5 * one.exact["energy"](2.0), rel=1e-11)
        assert fast.exact["time_to_energy"](0.5) == pytest.approx(one.exact["time_to_energy"](0.2) / 2.5, rel=1e-11)
        exact = mf.characteristics(fast, t_end=0.8, save=2)
        assert exact.energy[-1] == pytest.approx(fast.exact["energy"](0.8), rel=1e-9)

    def test_with_birth_death_there_is_none(self):
        assert set(P.single_index(k=2, d=4, alpha=1.0).exact) == {"initial_energy", "minimum_energy"}


TIMES = {
    2: {8: 0.4938, 16: 0.6935, 32: 0.8838, 64: 1.0678, 128: 1.2477},
    3: {8: 1.810, 16: 2.751, 32: 4.030, 64: 5.787},
    4: {8: 1.159, 16: 2.310, 32: 4.532, 64: 8.879},
}
"""Times to 2 E = 1/2, by integration of 800 quantiles; good to half a percent."""


@pytest.mark.parametrize(("k", "d"), [(k, d) for k, row in TIMES.items() for d in row])
def test_half_loss_times(k, d):
    end = 1.2 * TIMES[k][d]
    solution = mf.solve(P.single_index(k=k, d=d), (400,), end, save=2, progress=False)
    found = np.interp(-0.5, -2 * solution.diagnostics["energy"], solution.diagnostics["time"])
    assert found == pytest.approx(TIMES[k][d], rel=5e-3)
    if k == 2:  # four decimals are shown, and the closed form has more
        assert P.single_index(k=k, d=d).exact["time_to_energy"](0.25) == pytest.approx(TIMES[k][d], abs=5.1e-5)
