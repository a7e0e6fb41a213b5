"""The exact reaction steps against their closed forms."""

import numpy as np
import pytest
from scipy import integrate, stats

from mfpde.equation.energy import External
from mfpde.equation.gibbs import entropy, log_gibbs, relative_entropy
from mfpde.equation.grid import Axis, Grid
from mfpde.equation.measures.product import Product
from mfpde.equation.problem import Problem, Reinjection, ReinjectionKind
from mfpde.mesh.reaction import ReactionStep, exponential_step, free_energy_step, make_reaction, reinjection_step


def relative(a, b):
    return float(np.max(np.abs(a - b) / np.abs(b)))


class TestExponentialStep:
    def test_balanced_closed_form(self):
        """mu e^{-a V} / int mu e^{-a V}, computed in extended precision."""
        rng = np.random.default_rng(1)
        mu, V = rng.random(50), rng.normal(size=50)
        for a in (1e-6, 0.3, 7.0, 100.0):
            exact = mu.astype(np.longdouble) * np.exp(-np.longdouble(a) * V.astype(np.longdouble))
            exact *= mu.astype(np.longdouble).sum() / exact.sum()
            assert relative(exponential_step(mu, V, a), exact) < 1e-13

    def test_unbalanced_closed_form(self):
        rng = np.random.default_rng(2)
        mu, V = rng.random(50), rng.normal(size=50)
        exact = mu.astype(np.longdouble) * np.exp(-np.longdouble(0.7) * V.astype(np.longdouble))
        assert relative(exponential_step(mu, V, 0.7, balanced=False), exact) < 1e-13

    def test_two_point_replicator(self):
        """p/(1-p) = p0/(1-p0) e^{-a (V1 - V2)}."""
        p0, V, a = 0.3, np.array([1.7, 0.4]), 2.5
        p = exponential_step(np.array([p0, 1 - p0]), V, a)
        assert p[0] / p[1] == pytest.approx(p0 / (1 - p0) * np.exp(-a * (V[0] - V[1])), rel=1e-14)

    def test_semigroup(self):
        rng = np.random.default_rng(3)
        mu, V = rng.random(40), rng.normal(size=40)
        once = exponential_step(mu, V, 1.1)
        twice = exponential_step(exponential_step(mu, V, 0.4), V, 0.7)
        assert relative(twice, once) < 1e-13

    @pytest.mark.parametrize("a", [1e-3, 1.0, 1e4, 1e8])
    def test_mass_positivity_and_zeros_for_any_step(self, a):
        rng = np.random.default_rng(4)
        mu = rng.random(200) * (rng.random(200) < 0.5)
        mu[17] = 1e6
        V = 10 * rng.normal(size=200)
        new = exponential_step(mu, V, a)
        assert new.sum() == pytest.approx(mu.sum(), rel=1e-14)
        assert new.min() >= 0.0
        assert np.all(new[mu == 0] == 0)

    def test_tails_of_1e300(self):
        """A cell that holds 1e-300 of the mass takes over when its potential says so."""
        mu = np.array([1.0, 1e-300, 0.0])
        V = np.array([1.0, 0.0, -5.0])
        for a, share in ((690.0, 1e-300 * np.exp(690.0)), (700.0, 1e-300 * np.exp(700.0)), (5000.0, np.inf)):
            new = exponential_step(mu, V, a)
            expected = 1.0 if share == np.inf else share / (1 + share)
            assert new[1] == pytest.approx(expected, rel=1e-12)
            assert new.sum() == pytest.approx(1.0, rel=1e-14)
            assert new[2] == 0.0

    def test_constant_shift_changes_nothing(self):
        rng = np.random.default_rng(5)
        mu, V = rng.random(64), rng.integers(-8, 8, 64) / 8
        # representable sums, so that the shift is exact
        np.testing.assert_array_equal(exponential_step(mu, V, 0.5), exponential_step(mu, V + 1024.0, 0.5))

    def test_symmetry_bit_for_bit(self):
        rng = np.random.default_rng(6)
        mu, V = rng.random((12, 12)), rng.normal(size=(12, 12))
        new = exponential_step(mu, V, 0.9)
        # exponentials are equal bit for bit; the normalisation sums in another order
        flipped = exponential_step(mu[::-1].copy(), V[::-1].copy(), 0.9)[::-1]
        np.testing.assert_allclose(flipped, new, rtol=4e-16, atol=0)

    def test_no_mass(self):
        np.testing.assert_array_equal(exponential_step(np.zeros(5), np.ones(5), 3.0), np.zeros(5))


def _exact_reinjection(mu, V, a, mu_b, kind):
    """The frozen-V reaction by a stiff-tolerance ODE solver."""

    def rhs(t, m):
        if kind is ReinjectionKind.REPLACE:
            rate = np.maximum(V, 0)
            return -rate * m + (rate @ m) / mu_b.sum() * mu_b
        mean = V @ m
        total = m.sum()
        return -V * m + max(mean, 0) / mu_b.sum() * mu_b - max(-mean, 0) * m / total

    return integrate.solve_ivp(rhs, (0, a), mu, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


@pytest.mark.parametrize("kind", list(ReinjectionKind))
class TestReinjection:
    def setup_method(self):
        rng = np.random.default_rng(7)
        self.mu = rng.random(30)
        self.mu /= self.mu.sum()
        self.mu_b = np.zeros(30)
        self.mu_b[10:15] = [1, 2, 3, 2, 1]
        self.mu_b /= self.mu_b.sum()
        self.V = rng.normal(size=30) + 0.8

    @pytest.mark.parametrize("a", [1e-3, 1.0, 1e3])
    def test_mass_and_positivity(self, kind, a):
        for V in (self.V, -self.V, 50 * self.V):
            new = reinjection_step(self.mu, V, a, self.mu_b, kind)
            assert new.sum() == pytest.approx(self.mu.sum(), rel=1e-14)
            assert new.min() >= 0

    def test_exact_where_V_vanishes_on_the_reinjected(self, kind):
        V = np.abs(self.V)
        V[10:15] = 0.0
        new = reinjection_step(self.mu, V, 2.0, self.mu_b, kind)
        exact = _exact_reinjection(self.mu, V, 2.0, self.mu_b, kind)
        np.testing.assert_allclose(new, exact, rtol=1e-11)

    def test_second_order_elsewhere(self, kind):
        V = self.V + 0.5
        steps = np.array([0.2, 0.1, 0.05, 0.025])
        errors = []
        for a in steps:
            new = reinjection_step(self.mu, V, a, self.mu_b, kind)
            errors.append(np.abs(new - _exact_reinjection(self.mu, V, a, self.mu_b, kind)).sum())
        order = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert order == pytest.approx(3.0, abs=0.15)  # local error of a second-order step
        assert errors[-1] < 2e-6

    def test_restores_support(self, kind):
        mu = self.mu.copy()
        mu[10:15] = 0.0
        assert reinjection_step(mu, np.abs(self.V), 0.1, self.mu_b, kind)[10:15].min() > 0

    def test_small_losses_return_too(self, kind):
        """What decays in a short step is found where it is reinjected, and nowhere else."""
        mu = self.mu.copy()
        mu[10:15] = 0.0
        V = np.abs(self.V)
        a = 1e-6
        new = reinjection_step(mu, V, a, self.mu_b, kind)
        lost = -mu * np.expm1(-a * V)
        np.testing.assert_allclose(new[10:15], self.mu_b[10:15] * lost.sum(), rtol=2 * a * V.max())
        np.testing.assert_allclose(np.delete(mu - new, range(10, 15)), np.delete(lost, range(10, 15)), rtol=1e-8)

    def test_without_mass(self, kind):
        np.testing.assert_array_equal(reinjection_step(np.zeros(30), self.V, 1.0, self.mu_b, kind), 0.0)


class TestFreeEnergyStep:
    """log mu <- q log mu + (1-q)(log omega - V/tau) + const, q = exp(-a tau)."""

    def setup_method(self):
        rng = np.random.default_rng(11)
        self.mu, self.V, self.log_base = rng.random(60), rng.normal(size=60), rng.normal(size=60)

    @pytest.mark.parametrize("a", [1e-8, 0.3, 5.0, 400.0])
    def test_closed_form(self, a):
        """mu^q (omega e^{-V/tau})^{1-q} in extended precision, to 1e-12."""
        tau = 0.37
        q = np.exp(-np.longdouble(a * tau))
        log_pi = self.log_base.astype(np.longdouble) - self.V.astype(np.longdouble) / np.longdouble(tau)
        exact = np.exp(q * np.log(self.mu.astype(np.longdouble)) + (1 - q) * log_pi)
        exact *= self.mu.sum() / exact.sum()
        assert relative(free_energy_step(self.mu, self.V, a, tau, self.log_base), exact) < 1e-13

    def test_semigroup(self):
        one = free_energy_step(self.mu, self.V, 0.9, 0.4, self.log_base)
        two = free_energy_step(
            free_energy_step(self.mu, self.V, 0.2, 0.4, self.log_base), self.V, 0.7, 0.4, self.log_base
        )
        assert relative(one, two) < 1e-13

    def test_cold_limit_is_the_plain_step(self):
        plain = exponential_step(self.mu, self.V, 2.0)
        assert relative(free_energy_step(self.mu, self.V, 2.0, 1e-14), plain) < 1e-12
        np.testing.assert_array_equal(free_energy_step(self.mu, self.V, 2.0, 0.0), plain)

    @pytest.mark.parametrize("a", [0.1, 1e4])
    def test_gibbs_stays(self, a):
        """Also where its tails reach 1e-300: to round-off times |V|/tau, in L1 to 1e-14."""
        V = np.linspace(0, 690, 200)
        mu = np.exp(log_gibbs(V, 1.0, 0.1))
        new = free_energy_step(mu, V, a, 1.0)
        assert mu.min() < 1e-298
        assert np.abs(new - mu).sum() * 0.1 < 1e-14
        assert relative(new, mu) < 690 * 2.3e-16 * 4

    def test_empty_cells_stay_empty(self):
        mu = self.mu.copy()
        mu[::3] = 0.0
        for a in (0.5, 1e5):
            new = free_energy_step(mu, -100 * self.V, a, 0.5, self.log_base)
            assert np.all(new[::3] == 0)
            assert np.all(np.isfinite(new))
            assert new.sum() == pytest.approx(mu.sum(), rel=1e-14)
        np.testing.assert_array_equal(free_energy_step(np.zeros(60), self.V, 1.0, 0.5), 0.0)

    def test_relative_entropy_decays(self):
        """KL(mu | pi) falls along the step, to its closed form in q for the two-point measure."""
        log_pi = log_gibbs(self.V, 0.5, 1.0, mass=float(self.mu.sum()))
        values = [
            relative_entropy(free_energy_step(self.mu, self.V, a, 0.5), log_pi, 1.0) for a in (0, 0.1, 1, 10, 100)
        ]
        assert np.all(np.diff(values) < 0) or values[-1] < 1e-13
        assert values[0] > 0.1


class TestGibbs:
    def test_minimises_the_free_energy_of_a_frozen_potential(self):
        """<V, p> + tau Ent(p) = -tau log Z, and less than at any other measure by exactly tau KL."""
        rng = np.random.default_rng(5)
        V, log_base, tau, volume = rng.normal(size=50), rng.normal(size=50), 0.3, 0.07
        p = np.exp(log_gibbs(V, tau, volume, log_base=log_base))
        assert p.sum() * volume == pytest.approx(1, rel=1e-14)
        least = float(V @ p) * volume + tau * entropy(p, volume, log_base)
        assert least == pytest.approx(-tau * np.log(np.exp(log_base - V / tau).sum() * volume), rel=1e-13)
        for _ in range(20):
            mu = rng.random(50) * (rng.random(50) < 0.8)
            mu /= mu.sum() * volume
            value = float(V @ mu) * volume + tau * entropy(mu, volume, log_base)
            gap = tau * relative_entropy(mu, log_gibbs(V, tau, volume, log_base=log_base), volume)
            assert value - least == pytest.approx(gap, rel=1e-12)

    def test_survives_potentials_of_any_size(self):
        log_p = log_gibbs(np.array([1e6, 1e6 + 1, 3e6]), 1.0, 0.5, mass=2.0)
        assert np.exp(log_p).sum() * 0.5 == pytest.approx(2.0, rel=1e-14)
        assert log_p[1] - log_p[0] == pytest.approx(-1, rel=1e-9)
        assert np.isfinite(log_p).all()


class TestDissipation:
    """-dE/dt = alpha int V R, by differentiating the step itself for a frozen linear energy int V dmu."""

    def setup_method(self):
        rng = np.random.default_rng(8)
        self.grid = Grid([Axis("x", -1, 1)], [40])
        self.mu = rng.random(40)
        self.mu /= self.mu.sum() * self.grid.cell_volume
        self.V = rng.normal(size=40) + 0.3

    def check(self, step, V):
        volume = self.grid.cell_volume
        mean = float(V @ self.mu) * volume
        a = 1e-4
        energies = [float(V @ step.apply(self.mu, V, s)) * volume for s in (a, 2 * a)]
        # second-order one-sided difference
        slope = -(-3 * mean + 4 * energies[0] - energies[1]) / (2 * a)
        assert step.dissipation(self.mu, V, mean) == pytest.approx(slope, rel=2e-6)

    def test_balanced(self):
        self.check(ReactionStep(self.grid), self.V)
        centred = self.V - self.V @ self.mu * self.grid.cell_volume
        variance = float(centred**2 @ self.mu) * self.grid.cell_volume
        mean = float(self.V @ self.mu) * self.grid.cell_volume
        assert ReactionStep(self.grid).dissipation(self.mu, self.V, mean) == pytest.approx(variance, rel=1e-13)

    def test_rate(self):
        self.check(ReactionStep(self.grid, rate=np.tanh), self.V)

    def test_a_constant_in_the_rate_costs_no_digits(self):
        """Cov(V + 2^30, V) = Var V; without a shift the constant times the round-off of the mean would be seen."""
        V = np.round(self.V * 256) / 256  # V + 2^30 is exact
        mean = float(V @ self.mu) * self.grid.cell_volume
        variance = float((V - mean) ** 2 @ self.mu) * self.grid.cell_volume
        step = ReactionStep(self.grid, rate=lambda V: V + 2.0**30)
        assert step.dissipation(self.mu, V, mean) == pytest.approx(variance, rel=1e-12)

    def test_unbalanced(self):
        self.check(ReactionStep(self.grid, balanced=False), self.V)

    @pytest.mark.parametrize("kind", list(ReinjectionKind))
    @pytest.mark.parametrize("sign", [1, -1])
    def test_reinjection(self, kind, sign):
        step = ReactionStep(self.grid, reinjection=Reinjection(Product(x=stats.norm(0, 0.1)), kind))
        self.check(step, sign * (np.abs(self.V) + 0.1))

    @pytest.mark.parametrize("kind", ["balanced", "rate", "unbalanced", "free-energy", *ReinjectionKind])
    def test_of_the_free_energy(self, kind):
        """By differentiating the step for the frozen energy int V dmu + tau int log(mu/omega) dmu."""
        log_base, tau = np.sin(np.arange(40.0)), 0.6
        options = {
            "balanced": {},
            "rate": {"rate": np.tanh},
            "unbalanced": {"balanced": False},
            "free-energy": {"free_energy": True},
        }.get(kind) or ({} if kind == "balanced" else {"reinjection": Reinjection(Product(x=stats.norm(0, 0.1)), kind)})
        step = ReactionStep(self.grid, log_base=log_base, **options)
        volume = self.grid.cell_volume

        def value(mu):
            return float(self.V @ mu) * volume + tau * entropy(mu, volume, log_base)

        a = 1e-4
        energies = [value(step.apply(self.mu, self.V, s, tau)) for s in (0, a, 2 * a)]
        slope = -(-3 * energies[0] + 4 * energies[1] - energies[2]) / (2 * a)
        psi = self.V + tau * (np.log(self.mu) - log_base)
        assert step.free_dissipation(self.mu, self.V, psi, tau) == pytest.approx(slope, rel=2e-6)

    @pytest.mark.parametrize("kind", list(ReinjectionKind))
    @pytest.mark.parametrize("sign", [1, -1])
    def test_of_a_mass_other_than_one(self, kind, sign):
        """Refill removes a gain uniformly: per unit of mass."""
        step = ReactionStep(self.grid, reinjection=Reinjection(Product(x=stats.norm(0, 0.1)), kind))
        mu, V, tau, volume = 2 * self.mu, sign * (np.abs(self.V) + 0.1), 0.6, self.grid.cell_volume

        def value(nu):
            return float(V @ nu) * volume + tau * entropy(nu, volume)

        a = 1e-4
        energies = [value(step.apply(mu, V, s)) for s in (0, a, 2 * a)]
        slope = -(-3 * energies[0] + 4 * energies[1] - energies[2]) / (2 * a)
        assert step.free_dissipation(mu, V, V + tau * np.log(mu), tau) == pytest.approx(slope, rel=1e-5)
        energies = [float(V @ step.apply(mu, V, s)) * volume for s in (0, a, 2 * a)]
        slope = -(-3 * energies[0] + 4 * energies[1] - energies[2]) / (2 * a)
        mean = float(V @ mu) / float(mu.sum())
        assert step.dissipation(mu, V, mean) == pytest.approx(slope, rel=1e-5)


class TestStep:
    """What is made of a problem, and what the controllers ask for."""

    def setup_method(self):
        self.grid = Grid([Axis("x", -1, 1)], [8])

    def test_range_of_the_rate(self):
        assert ReactionStep(self.grid).range_of(-1.0, 3.0) == 4.0
        assert ReactionStep(self.grid, rate=np.tanh).range_of(-1.0, 3.0) == np.tanh(3.0) - np.tanh(-1.0)

    def test_any_length_but_zero_moves(self):
        """Over no time nothing moves, to the last bit; over 1e-3 everything does."""
        rng = np.random.default_rng(9)
        mu, V = rng.random(8), rng.normal(size=8)
        for step in (ReactionStep(self.grid), ReactionStep(self.grid, free_energy=True)):
            np.testing.assert_array_equal(step.apply(mu, V, 0.0, 0.7), mu)
            assert step.apply(mu, V, 0.0, 0.7) is not mu
            assert (step.apply(mu, V, 1e-3, 0.7) != mu).all()

    @pytest.mark.parametrize("kind", ["balanced", "unbalanced", "free-energy"])
    def test_of_a_problem(self, kind):
        problem = Problem(
            External(lambda x: x), [Axis("x", -1, 1)], Product(x=stats.norm(0, 0.1)), alpha=1.0, reaction=kind
        )
        step = make_reaction(problem, self.grid, False)
        assert (step.balanced, step.free_energy) == (kind != "unbalanced", kind == "free-energy")
