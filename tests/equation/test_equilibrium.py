"""Stationary states: closed forms, independent optimisers, and the inequalities that certify them."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfpde.equation.energy import (
    CallableKernel,
    Confinement,
    CosineKernel,
    Discrepancy,
    External,
    Features,
    GaussianKernel,
    HuberLoss,
    Interaction,
    LinearKernel,
    Loss,
    PairKernel,
    SeparableKernel,
    SquaredLoss,
    TwoLayerNetwork,
)
from mfpde.equation.equilibrium import stationary
from mfpde.equation.gibbs import entropy, log_gibbs, relative_entropy
from mfpde.equation.grid import Axis, End, Grid
from mfpde.equation.measures.density import Density
from mfpde.equation.measures.mixture import Mixture
from mfpde.equation.measures.product import Dirac, Product
from mfpde.equation.problem import Problem
from mfpde.equation.schedules import PowerLaw
from mfpde.equation.sparse_state import _face_direction
from mfpde.support.session import RunWarning

PI = np.pi
CIRCLE = Axis("x", 0.0, 2 * PI, End.PERIODIC)


def torus(temperature=0.15, sign=1.0, initial=None):
    """F = -2 cos x - 1.5 sin(2x + .3), K = sum_{k<=4} cos k(x - y): convex for sign 1, concave for sign -1."""
    energy = External(lambda x: -2 * np.cos(x) - 1.5 * np.sin(2 * x + 0.3))
    energy += Interaction(SeparableKernel(x=CosineKernel((1.0, 1.0, 1.0, 1.0))), weight=sign)
    start = Density(lambda p: 1 + 0.3 * np.cos(p[:, 0] - 1)) if initial is None else initial
    return Problem(energy, [CIRCLE], start, temperature=temperature, shape=(200,))


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, 50)
    return x, np.sin(2 * x) + 0.1 * rng.normal(size=50)


LOSSES = {
    "squared": (lambda y: y, "squared"),
    "logistic": (np.sign, "logistic"),
    "huber": (lambda y: 3 * y, lambda y, w: HuberLoss(y, w, delta=0.5)),
}


def network(loss, decay=0.02):
    """A tanh network of amplitude and slope on 50 samples; slopes of Huber's loss on both of its pieces."""
    x, y = data()
    change, loss = LOSSES[loss]
    energy = TwoLayerNetwork(x, change(y), activation="tanh", loss=loss, axes=("c", "a"), roles=("amplitude", "weight"))
    if decay:
        energy += Confinement(c=decay, a=decay)
    return Problem(energy, [Axis("c", -4, 4), Axis("a", -4, 4)], Product(c=0.5, a=0.5))


class Quartic(Loss):
    """A user's loss: sum (u - 1)^4."""

    def value(self, u):
        return float(np.sum((u - 1) ** 4))

    def gradient(self, u):
        return 4 * (u - 1) ** 3


def quartic():
    return Problem(
        Features(lambda x: np.stack([x, x**2]), Quartic()), [Axis("x", -3, 3)], Product(x=0.0), temperature=0.2
    )


def free_energy(problem, grid, mu, tau):
    log_base = problem.log_base(*grid.mesh())
    V, energy, _ = problem.bound_energy.on(grid).evaluate(mu)
    return V, energy + tau * entropy(mu, grid.cell_volume, log_base)


def check(state, problem, tau, tail=1e-11):
    """Everything that a result says of itself, computed anew."""
    grid, volume = state.grid, state.grid.cell_volume
    V, energy = free_energy(problem, grid, state.mu, tau)
    assert state.converged
    assert state.temperature == tau
    assert np.array_equal(V, state.potential)
    assert state.energy == pytest.approx(energy, rel=1e-13, abs=1e-13)
    assert state.mu.min() >= 0.0
    if tau:
        log_base = problem.log_base(*grid.mesh())
        assert state.mass == pytest.approx(1.0, abs=1e-14)
        assert state.entropy == pytest.approx(entropy(state.mu, volume, log_base), rel=1e-12, abs=1e-13)
        log_p = log_gibbs(V, tau, volume, log_base=log_base)
        assert np.array_equal(state.mu, np.exp(state.log_mu))
        assert state.gap == pytest.approx(tau * relative_entropy(state.mu, log_p, volume), abs=1e-12)
        # in every cell, far tails too: as potentials. tau KL = <d^2> / (2 tau) ties the differences d under the mass to
        # the gap; away from it they may be ten times larger
        left = 10.0 * math.sqrt(2.0 * tau * max(state.gap, 0.0))
        np.testing.assert_allclose(tau * state.log_mu, tau * log_p, atol=1e-10 * tau + tail + left, rtol=1e-11)


class TestClosedForms:
    def test_torus(self):
        """E* of an independent computation, six digits of which are known."""
        state = stationary(torus())
        check(state, torus(), 0.15)
        assert state.energy == pytest.approx(-1.949098, abs=5e-7)
        assert state.convex
        assert state.gap < 1e-20
        assert state.evaluations < 60

    @pytest.mark.parametrize("tau", [3.0, 0.4, 0.02])
    def test_gaussian(self, tau):
        """F = a x^2/2, K = b x y: N(0, tau/a); midpoint sums of a Gaussian are exact to round-off."""
        a, b = 1.3, 0.7
        energy = Confinement(x=a) + Interaction(SeparableKernel(x=LinearKernel()), weight=b)
        problem = Problem(energy, [Axis("x", -16, 16)], Product(x=1.0), temperature=tau)
        state = stationary(problem, 800)
        check(state, problem, tau)
        x = state.grid.centres(0)
        assert state.grid.integrate(state.mu * x) == pytest.approx(0.0, abs=1e-13)
        assert state.grid.integrate(state.mu * x**2) == pytest.approx(tau / a, rel=1e-12)
        assert state.energy == pytest.approx(tau / 2 - tau / 2 * np.log(2 * PI * np.e * tau / a), abs=1e-12)
        # ends of the box: at tau = 0.02 the density there is e^-8000
        exact = -a * x**2 / (2 * tau) - 0.5 * np.log(2 * PI * tau / a)
        np.testing.assert_allclose(state.log_mu, exact, rtol=1e-12, atol=1e-12)

    def test_linear_energy_is_solved_by_one_gibbs_measure(self):
        problem = Problem(External(lambda x: 5 * np.sin(x)), [CIRCLE], Product(x=0.0), temperature=0.01)
        state = stationary(problem, 64)
        F = 5 * np.sin(state.grid.centres(0))
        np.testing.assert_allclose(state.log_mu, log_gibbs(F, 0.01, state.grid.cell_volume), rtol=1e-13, atol=1e-12)

    def test_dirac_at_temperature_zero(self):
        """K = 0: all mass in the cell of least F."""
        problem = Problem(External(lambda x: np.cos(x - 0.1)), [CIRCLE], Product(x=0.0))
        state = stationary(problem, 64)
        best = int(np.argmin(np.cos(state.grid.centres(0) - 0.1)))
        assert np.flatnonzero(state.mu).tolist() == [best]
        assert state.energy == pytest.approx(np.cos(state.grid.centres(0)[best] - 0.1), rel=1e-15)
        assert state.gap == 0.0
        assert state.log_mu[best] == np.log(state.mu[best])
        assert state.log_mu[best - 1] == -np.inf

    @pytest.mark.parametrize(("n", "error"), [(100, 2e-4), (200, 5e-5), (400, 1.2e-5)])
    def test_a_minimiser_that_is_not_sparse(self, n, error):
        """F = x^2/2, K = -|x - y|: density 1/2 on [-1, 1], E* = -1/6; the kernel is positive on mass 0 only."""
        energy = Confinement(x=1.0) + Interaction(
            SeparableKernel(x=CallableKernel(lambda x, y: -np.abs(x - y), translation_invariant=True))
        )
        state = stationary(Problem(energy, [Axis("x", -3, 3)], Product(x=0.5)), n)
        inside = np.abs(state.grid.centres(0)) < 1 - 2 * state.grid.spacing[0]
        np.testing.assert_allclose(state.mu[inside], 0.5, rtol=1e-9)
        assert state.energy == pytest.approx(-1 / 6, abs=error)
        assert state.convex
        assert state.gap < 1e-12


class TestBaseMeasure:
    def test_a_gaussian_prior_is_a_confinement(self):
        """tau int log(mu/omega) with omega = exp(-k x^2/2) equals the entropy plus a confinement of tau k."""
        tau, k = 0.3, 2.0
        well = External(lambda x: np.cos(3 * x)) + Interaction(SeparableKernel(x=GaussianKernel(0.2)))
        axes, start = [Axis("x", -4, 4)], Product(x=0.5)
        prior = Problem(well, axes, start, temperature=tau, base=lambda x: np.exp(-k * x**2 / 2))
        plain = Problem(well + Confinement(x=tau * k), axes, start, temperature=tau)
        a, b = stationary(prior, 160), stationary(plain, 160)
        check(a, prior, tau)
        np.testing.assert_allclose(a.log_mu, b.log_mu, rtol=1e-11, atol=1e-11)
        assert a.energy == pytest.approx(b.energy, rel=1e-13)
        assert a.entropy != pytest.approx(b.entropy, rel=0.1)

    def test_low_temperature_and_two_axes(self):
        problem = Problem(
            network("squared").energy,
            [Axis("c", -4, 4), Axis("a", -4, 4)],
            Product(c=0.5, a=0.5),
            base=lambda c, a: np.exp(-(c**2)) * (1 + a**2),
        )
        check(stationary(problem, (24, 30), temperature=1e-3), problem, 1e-3)

    def test_no_part_at_temperature_zero(self):
        plain = torus(temperature=0.0)
        weighted = Problem(plain.energy, plain.axes, plain.initial, base=lambda x: 2 + np.cos(x))
        a, b = stationary(plain, 60), stationary(weighted, 60)
        assert a.energy == b.energy
        assert np.array_equal(a.mu, b.mu)


class TestNetworks:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_against_damped_fixed_point(self, loss):
        """mu = p_mu by plain damping, thousands of steps, no Newton."""
        problem, tau = network(loss), 0.3
        state = stationary(problem, (24, 20), temperature=tau)
        check(state, problem, tau)
        plan, log_mu = problem.bound_energy.on(state.grid), np.zeros(state.grid.shape)
        for _ in range(4000):
            V = plan.evaluate(np.exp(log_mu))[0]
            log_mu = 0.95 * log_mu + 0.05 * log_gibbs(V, tau, state.grid.cell_volume)
            log_mu -= np.log(np.exp(log_mu).sum() * state.grid.cell_volume)
        np.testing.assert_allclose(state.log_mu, log_mu, atol=1e-8)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("tau", [1e-2, 1e-3, 1e-4])
    def test_low_temperature(self, loss, tau):
        """osc(V)/tau from a hundred to a hundred thousand."""
        problem = network(loss)
        state = stationary(problem, (40, 40), temperature=tau)
        check(state, problem, tau)
        assert state.iterations < 120

    def test_noiseless_squared_loss_against_nnls(self):
        """min |Phi w - y| over the simplex is a non-negative least-squares problem: its solution has free scale."""
        from scipy.optimize import nnls

        problem = network("squared", decay=0.0)
        x, y = data()
        state = stationary(problem, (21, 21))
        (term,) = problem.energy.terms
        B = term.unit(x, *state.grid.mesh()).reshape(len(x), -1) - y[:, None]
        # the last row asks for mass 1; which mass comes out does not matter, as |B w|^2 is homogeneous
        w = nnls(np.vstack([B, np.ones(B.shape[1])]), np.append(np.zeros(len(x)), 1.0), maxiter=10000)[0]
        w /= w.sum()
        check(state, problem, 0.0)
        assert state.mass == pytest.approx(1.0, abs=1e-14)
        assert state.energy == pytest.approx(0.5 * np.mean((B @ w) ** 2), rel=1e-9, abs=1e-13)
        ours = B @ (state.mu.ravel() * state.grid.cell_volume)
        np.testing.assert_allclose(ours, B @ w, atol=1e-6)

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("decay", [0.0, 0.02])
    def test_noiseless_certificate(self, loss, decay):
        """E[nu] >= E[mu] + <V, nu - mu>: loss and V from the definitions, without the package's evaluation."""
        problem = network(loss, decay)
        x, y = data()
        state = stationary(problem, (30, 30))
        check(state, problem, 0.0)
        network_term = problem.energy.terms[0]
        phi = network_term.unit(x, *state.grid.mesh()).reshape(len(x), -1)
        w = state.mu.ravel() * state.grid.cell_volume
        change, kind = LOSSES[loss]
        form = kind(change(y), None) if callable(kind) else {"squared": SquaredLoss}.get(kind, _logistic)(change(y))
        F = decay / 2 * np.add(*(c**2 for c in state.grid.mesh())).ravel()
        V = form.gradient(phi @ w) @ phi + F
        assert form.value(phi @ w) + F @ w == pytest.approx(state.energy, rel=1e-11)
        assert w @ V - V.min() == pytest.approx(state.gap, abs=1e-11)
        assert w @ V - V.min() < 1e-11
        assert np.count_nonzero(w) < 30

    def test_noiseless_with_relu_and_random_data(self):
        """Units that are parallel to each other and losses without curvature."""
        for seed in range(4):
            rng = np.random.default_rng(seed)
            X, y = rng.normal(size=(60, 2)), rng.normal(size=60)
            for loss, targets in (("squared", y), ("logistic", np.sign(y)), ("huber", 9 + y)):
                energy = TwoLayerNetwork(
                    X,
                    targets,
                    activation="relu",
                    loss=loss,
                    axes=("c", "a", "b"),
                    roles=("amplitude",) + ("weight",) * 2,
                )
                axes = [Axis("c", -3, 3), Axis("a", -2, 2), Axis("b", -2, 2)]
                state = stationary(Problem(energy, axes, Product(c=0.5, a=0.5, b=0.5)), (8, 10, 10))
                check(state, state_problem(energy, axes), 0.0)

    def test_a_direction_without_curvature(self):
        """Two atoms on a linear piece of the loss: finite, down, mass kept; the ratio test sets its length."""
        d = _face_direction(np.zeros((2, 2)), np.array([1.0, 3.0]), False)
        assert np.all(np.isfinite(d))
        assert d[0] == pytest.approx(-d[1])
        assert 1.0 < d[0] < 1e10

    def test_users_loss(self):
        problem = quartic()
        check(stationary(problem, 120), problem, 0.2)
        state = stationary(problem, 121, temperature=0.0)
        # int x = int x^2 = 1 is reached by a mixture of two cells around 1, and only in the limit of one
        assert state.energy < 1e-8


def _logistic(y):
    from mfpde.equation.energy import LogisticLoss

    return LogisticLoss(y)


def state_problem(energy, axes):
    return Problem(energy, axes, Product(c=0.5, a=0.5, b=0.5))


# one problem of each kind, small; the states are computed once
SANDWICH = {
    "torus": (torus(), 40, 0.15),
    "torus, cold": (torus(), 40, 0.01),
    "gaussian": (
        Problem(
            Confinement(x=1.0) + Interaction(SeparableKernel(x=LinearKernel())), [Axis("x", -3, 3)], Product(x=1.0)
        ),
        30,
        0.4,
    ),
    "squared": (network("squared"), (12, 9), 0.05),
    "logistic": (network("logistic"), (12, 9), 0.05),
    "huber": (network("huber"), (12, 9), 0.05),
    "users loss": (quartic(), 30, 0.2),
    "base": (
        Problem(torus().energy, [CIRCLE], Product(x=1.0), base=lambda x: 1.1 + np.cos(x)),
        40,
        0.3,
    ),
}


@functools.cache
def solved(name):
    problem, shape, tau = SANDWICH[name]
    return stationary(problem, shape, temperature=tau)


class TestSandwich:
    @settings(max_examples=150, deadline=None)
    @given(
        name=st.sampled_from(sorted(SANDWICH)),
        seed=st.integers(0, 2**32 - 1),
        spread=st.floats(0, 30),
        empty=st.sampled_from([0.0, 0.5, 0.95]),
        near=st.booleans(),
    )
    def test_entropy_sandwich(self, name, seed, spread, empty, near):
        """tau KL(mu|mu*) <= E[mu] - E* <= tau KL(mu|p_mu), exactly, for every mu."""
        problem, _, tau = SANDWICH[name]
        state = solved(name)
        grid, volume, rng = state.grid, state.grid.cell_volume, np.random.default_rng(seed)
        log_mu = spread * rng.normal(size=grid.shape)
        if near:
            log_mu = state.log_mu + 1e-3 * log_mu
        mu = np.exp(log_mu - log_mu.max()) * (rng.random(grid.shape) >= empty)
        mu.flat[rng.integers(grid.size)] += 0.1
        mu /= mu.sum() * volume
        V, energy = free_energy(problem, grid, mu, tau)
        log_base = problem.log_base(*grid.mesh())
        above = energy - state.energy
        lower = tau * relative_entropy(mu, state.log_mu, volume)
        upper = tau * relative_entropy(mu, log_gibbs(V, tau, volume, log_base=log_base), volume)
        slack = 1e-12 * max(1.0, upper)
        assert lower - slack <= above <= upper + slack
        assert lower >= -1e-15

    def test_both_sides_are_tight_for_a_linear_energy(self):
        problem = Problem(External(lambda x: np.sin(x)), [CIRCLE], Product(x=0.0), temperature=0.5)
        state = stationary(problem, 30)
        mu = np.random.default_rng(0).random(30)
        mu /= mu.sum() * state.grid.cell_volume
        above = free_energy(problem, state.grid, mu, 0.5)[1] - state.energy
        assert 0.5 * relative_entropy(mu, state.log_mu, state.grid.cell_volume) == pytest.approx(above, rel=1e-12)


class TestTemperature:
    TAUS = (1.0, 0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-4, 1e-5)

    @pytest.mark.parametrize("name", ["torus", *LOSSES])
    def test_limit_of_cold(self, name):
        """The entropy lies between that of the uniform measure and that of the sparse minimiser."""
        problem, shape = (torus(), 60) if name == "torus" else (network(name), (16, 16))
        cold = stationary(problem, shape, temperature=0.0)
        floor = -np.log(cold.grid.cell_volume * cold.grid.size)
        for tau in self.TAUS:
            warm = stationary(problem, shape, temperature=tau)
            check(warm, problem, tau, tail=1e-11 if tau > 1e-4 else 1e-6)
            difference = warm.energy - cold.energy
            assert tau * floor - 1e-12 <= difference <= tau * cold.entropy + 1e-12
            assert warm.entropy <= cold.entropy + 1e-12
        assert abs(difference) < 1e-4

    def test_derivative_by_the_temperature_is_the_entropy(self):
        """Envelope theorem, by a central difference of 4th order."""
        h = 1e-3
        e = {k: stationary(torus(), temperature=0.15 + k * h).energy for k in (-2, -1, 1, 2)}
        slope = (8 * (e[1] - e[-1]) - (e[2] - e[-2])) / (12 * h)
        assert slope == pytest.approx(stationary(torus()).entropy, abs=1e-9)

    def test_very_cold(self):
        """osc(V)/tau of 1e3 and far beyond what the mesh resolves; the counts are about twice those measured."""
        for tau, iterations in ((3e-3, 40), (1e-3, 40), (3e-4, 120), (1e-4, 30), (1e-5, 60)):
            state = stationary(torus(), temperature=tau)
            check(state, torus(), tau, tail=1e-6)
            assert np.ptp(state.potential) / tau > 1e3
            assert state.iterations < iterations
            assert state.evaluations < 60 * state.iterations + 200

    def test_hot(self):
        state = stationary(torus(), temperature=1e4)
        np.testing.assert_allclose(state.mu, 1 / (2 * PI), rtol=1e-3)
        assert state.iterations <= 3


class TestStart:
    @pytest.mark.parametrize("tau", [0.15, 0.003, 0.0])
    def test_plays_no_part_where_convex(self, tau):
        starts = [None, Dirac(x=2.0), Density(lambda p: np.exp(3 * np.cos(p[:, 0] - 4))), stationary(torus()).measure()]
        states = [stationary(torus(), 100, temperature=tau, initial=start) for start in starts]
        for state in states[1:]:
            assert state.energy == pytest.approx(states[0].energy, abs=1e-12)
            if tau:
                np.testing.assert_allclose(state.log_mu, states[0].log_mu, atol=1e-6, rtol=1e-8)

    def test_of_the_result_ends_at_once(self):
        first = stationary(torus())
        assert stationary(torus(), initial=first.measure()).iterations <= 1


class TestNotConvex:
    def test_two_clusters_of_a_double_well(self):
        """Attraction and a symmetric double well: the start decides in which well the mass ends."""
        energy = External(lambda x: 2 * np.cos(2 * x)) + Interaction(SeparableKernel(x=CosineKernel((1.0,))), weight=-4)
        left, right = Dirac(x=PI / 2), Dirac(x=3 * PI / 2)
        found = {}
        for start in (left, right):
            problem = Problem(energy, [CIRCLE], start, temperature=0.2)
            state = stationary(problem, 128)
            check(state, problem, 0.2)
            assert not state.convex
            assert "not known to be a minimiser" in str(state)
            assert "residual" in str(state)
            found[start] = state
        mirrored = found[left].mu[::-1]
        np.testing.assert_allclose(mirrored, found[right].mu, atol=1e-9)
        x = found[left].grid.centres(0)
        assert found[left].mu[x < PI].sum() > 0.9 * found[left].mu.sum()

    @pytest.mark.parametrize("tau", [1.0, 0.15, 0.01])
    def test_concave_torus(self, tau):
        problem = torus(sign=-1.0)
        state = stationary(problem, temperature=tau)
        check(state, problem, tau)
        assert not state.convex
        # negative curvature ends the inner iteration at once
        assert state.evaluations < 60

    def test_concave_and_noiseless(self):
        state = stationary(torus(sign=-1.0), temperature=0.0)
        assert state.converged
        assert not state.convex
        assert np.count_nonzero(state.mu) == 1

    @pytest.mark.parametrize(("sign", "convex"), [(1.0, True), (-1.0, False)])
    def test_kernels_without_factorisation(self, sign, convex):
        """exp(-|x - y|) is positive; its negative is found out by the spectrum."""
        kernel = PairKernel(lambda p, q: sign * np.exp(-np.abs(p[:, None, 0] - q[None, :, 0])))
        problem = Problem(Interaction(kernel) + Confinement(x=1.0), [Axis("x", -2, 2)], Product(x=0.3), temperature=0.1)
        state = stationary(problem, 80)
        check(state, problem, 0.1)
        assert state.convex is convex

    def test_a_little_negative_curvature_is_seen(self):
        def kernel(p, q):
            d = p[:, None, 0] - q[None, :, 0]
            return np.exp(-np.abs(d)) - 0.3 * np.cos(5 * d)

        problem = Problem(Interaction(PairKernel(kernel)), [Axis("x", -2, 2)], Product(x=0.3), temperature=0.1)
        assert not stationary(problem, 80).convex


SPIKES = PI + np.array([[0, 0], [1.7, -0.3], [0.7, 1.3]])
MASSES = np.array([1.21, 0.64, 1.0])
OPTIMA = {1.0: (2.766578807, (1.15015, 0.58158, 0.95152)), 4.0: (10.070304179, (0.97083, 0.40660, 0.80963))}


def deconvolution(penalty, spikes=SPIKES, masses=MASSES):
    """J = 1/2 |phi * (nu - nu_0)|^2 + penalty |nu| on the 2-D torus, all nu >= 0."""
    kernel = CosineKernel((2.0, 2.0), constant=1.0)
    energy = Discrepancy(SeparableKernel(x=kernel, y=kernel), spikes, masses)
    energy += External(lambda x, y: penalty + 0 * x + 0 * y)
    axes = [Axis(name, 0, 2 * PI, End.PERIODIC) for name in "xy"]
    return Problem(energy, axes, Product(x=1.0, y=1.0), alpha=1.0, reaction="unbalanced")


class TestFreeMass:
    @pytest.mark.parametrize("penalty", OPTIMA)
    def test_deconvolution(self, penalty):
        """Meshes of 3^k cells are nested, so J decreases to the optimum over all measures: second order, from above."""
        optimum, masses = OPTIMA[penalty]
        above = []
        for n in (27, 81, 243):
            state = stationary(deconvolution(penalty), (n, n))
            assert state.converged
            assert state.potential.min() > -1e-12
            assert abs(np.vdot(state.potential, state.mu)) * state.grid.cell_volume < 1e-11
            above.append(state.energy - optimum)
        assert above[0] > above[1] > above[2] > 0.0
        assert above[2] < 4e-4 * optimum
        assert above[0] / above[2] > 20.0
        points, weights = state.grid.points(), state.mu.ravel() * state.grid.cell_volume
        near = np.argmin(((points[:, None] - SPIKES) ** 2).sum(-1), axis=1)
        np.testing.assert_allclose(np.bincount(near, weights), masses, atol=2e-3)
        assert np.count_nonzero(weights) < 30

    def test_one_spike(self):
        """On a cell centre: mass a - penalty/K(0), J = penalty a - penalty^2 / (2 K(0)), K(0) = 25."""
        grid = Grid([Axis(name, 0, 2 * PI, End.PERIODIC) for name in "xy"], (20, 20))
        spike = np.array([[grid.centres(0)[7], grid.centres(1)[12]]])
        state = stationary(deconvolution(3.0, spike, np.array([1.4])), (20, 20))
        assert state.mass == pytest.approx(1.4 - 3 / 25, rel=1e-12)
        assert state.energy == pytest.approx(3 * 1.4 - 9 / 50, rel=1e-12)
        assert state.mu[7, 12] * grid.cell_volume == pytest.approx(state.mass, rel=1e-6)

    def test_nothing(self):
        """A penalty that no spike can pay: the zero measure, J(0)."""
        state = stationary(deconvolution(100.0), (20, 20))
        assert state.mass == 0.0
        assert state.converged
        assert state.energy == pytest.approx(30.249650, abs=5e-6)

    def test_convexity_counts_all_masses(self):
        """-|x - y| is positive among densities of mass 0 only: with free mass the energy is not convex."""
        kernel = CallableKernel(lambda x, y: 0.1 - np.abs(x - y), translation_invariant=True)
        energy = Interaction(SeparableKernel(x=kernel)) + External(lambda x: 1 + x**2)
        for reaction, convex in (("balanced", True), ("unbalanced", False)):
            problem = Problem(energy, [Axis("x", -1, 1)], Product(x=0.0), reaction=reaction)
            assert stationary(problem, 40).convex is convex


class TestHonesty:
    @pytest.mark.parametrize("tau", [0.15, 0.0])
    def test_too_little_time(self, tau):
        """No step is begun after the limit, and what is there by then comes with its gap."""
        with pytest.warns(RunWarning, match=r"raise tolerance or max_iterations or time_limit"):
            state = stationary(torus(), temperature=tau, time_limit=1e-9)
        assert not state.converged
        assert state.convex is None  # was not looked at
        assert stationary(torus(), temperature=tau).energy <= state.energy
        with pytest.raises(ValueError, match="time_limit must be"):
            stationary(torus(), time_limit=-1.0)

    @pytest.mark.parametrize("tau", [0.15, 0.0])
    def test_too_few_iterations(self, tau):
        with pytest.warns(RunWarning, match=r"gap .* wanted .*; raise tolerance or max_iterations"):
            state = stationary(torus(), temperature=tau, max_iterations=1)
        assert not state.converged
        assert "NOT CONVERGED after 1 iterations" in str(state)
        best = stationary(torus(), temperature=tau)
        # the gap certifies all the same
        assert 0.0 < state.energy - best.energy <= state.gap
        V, _ = free_energy(torus(), state.grid, state.mu, tau)
        volume = state.grid.cell_volume
        if tau:
            gap = tau * relative_entropy(state.mu, log_gibbs(V, tau, volume), volume)
        else:
            gap = float(np.vdot(V, state.mu)) * volume - V.min()
        assert state.gap == pytest.approx(gap, rel=1e-9)

    @pytest.mark.parametrize("tau", [0.15, 0.0])
    def test_tolerance_out_of_reach(self, tau):
        with pytest.warns(RunWarning, match="no stationary state within the tolerance"):
            state = stationary(torus(), temperature=tau, tolerance=1e-300)
        assert not state.converged
        assert state.gap < 1e-14

    def test_tolerance_is_relative(self):
        loose = stationary(torus(), tolerance=1e-2)
        assert loose.iterations < stationary(torus()).iterations + 1
        big = Problem(
            External(lambda x: -2e6 * np.cos(x)) + Interaction(SeparableKernel(x=CosineKernel((1e6,)))),
            [CIRCLE],
            Product(x=1.0),
            temperature=1e5,
        )
        assert stationary(big, 64).converged


class TestRefusals:
    def test_schedule(self):
        problem = torus(temperature=PowerLaw(-0.5))
        with pytest.raises(ValueError, match=r"is a schedule .* has one value; pass temperature=, for instance 1"):
            stationary(problem)
        assert stationary(problem, temperature=0.15).temperature == 0.15

    @pytest.mark.parametrize("temperature", [-0.1, np.inf, np.nan])
    def test_temperature(self, temperature):
        with pytest.raises(ValueError, match=r"temperature must be a finite number >= 0, not"):
            stationary(torus(), temperature=temperature)

    def test_shape(self):
        problem = Problem(Confinement(x=1.0), [Axis("x", -1, 1)], Product(x=0.0), temperature=1.0)
        with pytest.raises(ValueError, match="suggests no mesh; pass shape="):
            stationary(problem)

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ({"tolerance": 0.0}, "tolerance must be positive, not 0.0"),
            ({"max_iterations": 0}, "max_iterations must be at least 1, not 0"),
            ({"initial": np.ones(200)}, "initial must be a Measure, not ndarray; GridMeasure"),
        ],
    )
    def test_options(self, extra, message):
        with pytest.raises(ValueError, match=message):
            stationary(torus(), **extra)

    def test_unbalanced_with_temperature(self):
        with pytest.raises(ValueError, match="the entropy does not fix the mass; pass temperature=0"):
            stationary(deconvolution(1.0), (20, 20), temperature=0.1)

    def test_energy_that_overflows(self):
        features = Features(lambda x: np.stack([np.exp(300 * x)]), SquaredLoss([0.0]))
        problem = Problem(features, [Axis("x", 0, 2)], Mixture([(1.0, Dirac(x=1.9))]), temperature=1.0)
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="not finite at the start"):
            stationary(problem, 32)

    def test_the_place_is_named(self):
        """The square of a feature of 1e200 overflows, in the first two cells."""
        features = Features(lambda x: np.where(x < 0.1, 1e200, x)[None], SquaredLoss([0.0]))
        problem = Problem(features, [Axis("x", 0, 2)], Dirac(x=0.05), temperature=1.0)
        match = r"not finite at the start \(energy inf, V inf at x = 0\.03125\)"
        with np.errstate(over="ignore"), pytest.raises(ValueError, match=match):
            stationary(problem, 32)
        hole = Features(lambda x: np.where(x > 1, np.nan, x)[None], SquaredLoss([0.0]))
        problem = Problem(hole, [Axis("x", 0, 2)], Dirac(x=0.5), temperature=1.0)
        with pytest.raises(ValueError, match=r"features are not finite at the centres .*: nan at x = 1\.03125"):
            stationary(problem, 32)


class TestResult:
    def test_prints(self):
        text = str(stationary(torus(), 50))
        assert text.splitlines()[0] == "Minimiser at temperature 0.15 on x: 50 cells"
        assert "energy   -1.9491 " in text
        assert "above the minimum over x in [0, 6.28319], on this mesh, at most" in text
        assert "converged after" in text
        cold = str(stationary(torus(), 50, temperature=0.0))
        assert "of 50 cells occupied" in cold

    def test_measure(self):
        state = stationary(torus(), 50)
        problem = torus(initial=state.measure())
        np.testing.assert_allclose(problem.mu_0.cells(state.grid), state.mu, rtol=1e-14)

    def test_no_floating_point_trouble(self):
        with np.errstate(all="raise", under="ignore"):
            for tau in (0.15, 1e-3, 0.0):
                stationary(torus(), temperature=tau)
                stationary(network("logistic"), (16, 16), temperature=tau)
            stationary(deconvolution(1.0), (20, 20))


# ----- the error that the mesh makes


def test_the_error_of_the_mesh_is_estimated():
    """Against closed forms: of ``x^2/2`` it is ``-tau log(sqrt(2 pi tau))``, where sums over a mesh are spectral.

    Next to a wall they have errors of second order.
    """
    tau = 0.5
    state = stationary(Problem(Confinement(x=1.0), [Axis("x", -6, 6)], Dirac(x=1.0), temperature=tau), 48)
    assert abs(state.energy + tau * math.log(math.sqrt(2.0 * math.pi * tau))) < 1e-12
    assert state.energy_error < 1e-12
    slope = Problem(External(lambda x: 3.0 * x), [Axis("x", 0, 2)], Dirac(x=1.0), temperature=tau)
    exact = -tau * math.log(tau / 3.0 * (1.0 - math.exp(-6.0 / tau)))
    errors = []
    for n in (80, 160, 320):
        state = stationary(slope, n)
        error = abs(state.energy - exact)
        assert 0.9 < state.energy_error / error < 1.3  # a third of the difference, as errors fall by 4
        errors.append(error)
    assert 3.8 < errors[0] / errors[1] < 4.2
    assert 3.8 < errors[1] / errors[2] < 4.2


@pytest.mark.parametrize("cells", [5, 6, 7, 9])
def test_a_mesh_that_has_no_half_is_divided_by_less(cells):
    """4, 4, 4 and 5 cells instead: an error of second order is ``1 / ((n/m)^2 - 1)`` of the difference."""
    slope = Problem(External(lambda x: x), [Axis("x", 0, 1)], Dirac(x=0.5), temperature=1.0)
    state = stationary(slope, cells)
    exact = -math.log(1.0 - math.exp(-1.0))  # -tau log int exp(-x/tau) dx
    assert 0.95 < state.energy_error / abs(state.energy - exact) < 1.05


def test_where_nothing_is_best_so_it_is_on_half_the_cells():
    """The mass is free and the potential positive: the least energy is that of no mass, on any mesh."""
    positive = External(lambda x: 1.0 + x**2)
    problem = Problem(positive, [Axis("x", -3, 3)], Dirac(x=0.5), alpha=1.0, reaction="unbalanced")
    state = stationary(problem, 60)
    assert (state.mass, state.energy, state.energy_error, state.no_error) == (0.0, 0.0, 0.0, "")


def test_errors_of_sparse_states_are_those_of_their_meshes():
    """An atom off the centres: at temperature 0 the minimiser of ``(x - a)^2/2`` sits in the nearest cell."""
    problem = Problem(External(lambda x: 0.5 * (x - 0.1) ** 2), [Axis("x", -1, 1)], Dirac(x=0.3))
    for n in (10, 22, 46):
        state = stationary(problem, n)
        h = 2.0 / n
        nearest = np.abs(state.grid.centres(0) - 0.1).min()
        assert state.energy == pytest.approx(0.5 * nearest**2, abs=1e-15)
        assert state.energy_error <= 0.5 * h**2  # of a cell of the coarse mesh


def test_why_there_is_no_error_of_the_mesh():
    problem = Problem(Confinement(x=1.0), [Axis("x", -6, 6)], Dirac(x=1.0), temperature=0.5)
    assert stationary(problem, 60, estimate=False).no_error == "estimate = False"
    four = stationary(problem, 4)
    assert math.isnan(four.energy_error)
    assert "error    not estimated (no axis has more than 4 cells" in str(four)
    with pytest.warns(RunWarning, match="no stationary state"):
        assert stationary(torus(), tolerance=1e-300).no_error == "not converged"
