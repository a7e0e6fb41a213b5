"""Fitted rates of decay, and the spectral gap of a potential: closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.equation.poincare import spectral_gap
from mfpde.mesh.rates import decay_rate


class TestDecayRate:
    times = np.linspace(0.0, 10.0, 101)

    def test_an_exponential(self):
        """From half of its fall, in the logarithm, to the end."""
        rate = decay_rate(self.times, 3.0 * np.exp(-0.7 * self.times))
        assert rate.value == pytest.approx(0.7, rel=1e-12)
        assert rate.low == pytest.approx(0.7, rel=1e-12)
        assert rate.high == pytest.approx(0.7, rel=1e-12)
        assert (rate.begin, rate.end) == (5.0, 10.0)
        assert rate.fall == pytest.approx(math.exp(3.5), rel=1e-12)

    def test_the_interval_tells_that_it_is_none(self):
        """Slopes of 1/t on quarters of [5, 10]: ln(b / a) / (b - a)."""
        t = np.linspace(1.0, 10.0, 9001)
        rate = decay_rate(t, 1.0 / t, begin=5.0)
        ends = np.linspace(5.0, 10.0, 5)
        slopes = np.log(ends[1:] / ends[:-1]) / np.diff(ends)
        assert (rate.low, rate.high) == pytest.approx((slopes[-1], slopes[0]), rel=1e-6)
        assert rate.low < rate.value < rate.high

    def test_rounding_and_errors_end_it(self):
        values = np.exp(-5.0 * self.times) + 1e-14
        assert decay_rate(self.times, values).end == pytest.approx(12 * math.log(10) / 5, abs=0.1)
        assert decay_rate(self.times, values, 1e-3).end == pytest.approx(3 * math.log(10) / 5, abs=0.1)
        assert decay_rate(self.times, values, 1e-3).value == pytest.approx(5.0, rel=1e-9)

    def test_a_stretch(self):
        """Fast first, slow later."""
        values = np.where(self.times < 4.0, np.exp(-2.0 * self.times), np.exp(-8.0 - 0.5 * (self.times - 4.0)))
        assert decay_rate(self.times, values, begin=0.0, end=4.0).value == pytest.approx(2.0)
        assert decay_rate(self.times, values, begin=4.0).value == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("values", "message"),
        [(np.zeros(101), "5 are needed"), (np.linspace(1, 2, 101), "does not fall"), (np.full(101, np.nan), "5 are")],
        ids=["nothing", "rises", "nan"],
    )
    def test_refusals(self, values, message):
        with pytest.raises(ValueError, match=message):
            decay_rate(self.times, values, begin=0.0)


def well(curvatures, temperature, metric=None, n=80):
    """Normal laws of variance tau / k, whose Langevin dynamics forget at the smallest of ``g k``."""
    axes = [
        mf.Axis(name, -7 * math.sqrt(temperature / k), 7 * math.sqrt(temperature / k))
        for name, k in zip("xy", curvatures, strict=False)
    ]
    problem = mf.Problem(
        energy=mf.Confinement(**{axis.name: k for axis, k in zip(axes, curvatures, strict=True)}),
        axes=axes,
        initial=mf.Product(**{axis.name: stats.norm(0.1, 0.3) for axis in axes}),
        temperature=temperature,
        metric=metric,
    )
    grid = problem.grid((n,) * len(axes))
    log_mu = -sum(0.5 * k * x**2 for k, x in zip(curvatures, grid.mesh(), strict=True)) / temperature
    return problem, grid, log_mu


class TestSpectralGap:
    @pytest.mark.parametrize("curvature", [0.5, 3.0])
    def test_order(self, curvature):
        """Second order, to the curvature of a well: off by (h / s)^2 / 6, with s^2 = tau / k and h = 14 s / n."""
        errors = [abs(spectral_gap(*well([curvature], 0.3, n=n), 0.3) / curvature - 1.0) for n in (25, 50, 100)]
        orders = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all(np.abs(orders - 2.0) < 0.1)
        assert errors[-1] == pytest.approx((14 / 100) ** 2 / 6, rel=0.02)

    def test_planes(self):
        """The slower axis, as in one dimension; by the sparse method, for there are 6400 cells."""
        share = 1.0 - (14 / 80) ** 2 / 6
        assert spectral_gap(*well([2.0, 0.7], 0.5), 0.5) == pytest.approx(0.7 * share, rel=2e-4)
        assert spectral_gap(*well([2.0, 0.7], 0.5, metric=(0.1, 1.0)), 0.5) == pytest.approx(0.2 * share, rel=2e-4)

    def test_both_methods(self, monkeypatch):
        problem = well([2.0, 0.7], 0.5, metric=(None, lambda x, y: 1.0 + 0.3 * np.cos(x)), n=20)
        dense = spectral_gap(*problem, 0.5)
        monkeypatch.setattr("mfpde.equation.poincare.DENSE", 10)
        assert spectral_gap(*problem, 0.5) == pytest.approx(dense, rel=1e-9)

    def test_circle(self):
        """The uniform law: ``tau (2 sin(h / 2) / h)^2`` of the first wave."""
        problem = mf.problems.torus_langevin(temperature=0.2)
        grid = problem.grid((40,))
        h = 2 * math.pi / 40
        found = spectral_gap(problem, grid, np.zeros(40), 0.2)
        assert found == pytest.approx(0.2 * (2 * math.sin(h / 2) / h) ** 2, rel=1e-10)


class TestRatesOfARun:
    def test_a_barrier(self):
        """Langevin dynamics in a double well: the distance decays at the spectral gap of the mesh, the energy at twice
        that once the distance is small.
        """
        problem = mf.problems.double_well_sampling(0.5, 0.02, 0.1, 0.0)
        run, end = mf.solve(problem, 100, 400.0, save=41), mf.stationary(problem, 100)
        rates = run.rates(200.0, stationary=end)
        assert rates["distance"].value == pytest.approx(rates.spectral_gap, rel=1e-5)
        assert rates["energy"].value == pytest.approx(2 * rates.spectral_gap, rel=0.1)
        assert rates["certificate"].value == pytest.approx(rates["energy"].value, rel=1e-6)  # E is linear
        assert "spectral gap" in str(rates)
        assert list(rates) == ["energy", "certificate", "distance"]

    def test_what_there_is_not(self):
        run = mf.solve(mf.problems.gaussian_bumps(), 60, save=3)
        rates = run.rates()
        assert set(rates.missing) == {"energy", "distance"}
        assert "stationary=" in rates.missing["energy"]
        assert math.isnan(rates.spectral_gap)
        with pytest.raises(KeyError, match="pass stationary"):
            rates["distance"]

    def test_a_known_minimum(self):
        """The linear neuron of alpha = 0: E = E_0 exp(-2 t), and the fit ends where the error of the mesh begins."""
        run = mf.solve(mf.problems.linear_neuron(alpha=0.0), 100, 4.0, save=9)
        assert run.known_minimum == 0.0
        assert run.rates()["energy"].value == pytest.approx(2.0, rel=1e-3)

    def test_another_mesh(self):
        problem = mf.problems.double_well_sampling(0.5, 0.02, 0.1, 0.0)
        run, end = mf.solve(problem, 60, 2.0, save=9), mf.stationary(problem, 80)
        assert "same mesh" in run.rates(stationary=end).missing["distance"]

    def test_refusals(self):
        run = mf.solve(mf.problems.linear_neuron(), 40, 0.1, save=2)
        with pytest.raises(ValueError, match=r"what mfpde\.stationary gives, not 3"):
            run.rates(stationary=3)
        with pytest.raises(ValueError, match="begin"):
            run.rates("soon")
        loaded = replace(run, problem=None)
        assert math.isnan(loaded.rates().spectral_gap)
