"""Property tests: random problems, meshes, densities and step lengths; mass, sign, energy, symmetry."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mfpde as mf
from mfpde.mesh.flow import make_flow

EXAMPLES = {"ci": 40, "long": 1500}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=EXAMPLES["ci"], deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=EXAMPLES["long"], deadline=None, suppress_health_check=SLOW)
# HYPOTHESIS_PROFILE=long: beyond 10^4 examples, as the study `robustness` runs them
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def examples(profile: str) -> int:
    """How many random examples a profile tries over all properties."""
    return EXAMPLES[profile] * sum(name.startswith("test_") for name in globals())


SCHEMES = [mf.Upwind(), mf.Muscl(), mf.Muscl(mf.Limiter.MINMOD), mf.Muscl(mf.Limiter.MC), mf.Weno5()]
METHODS = [mf.ExponentialSSPRK3(), mf.Strang(), mf.Lie()]

magnitudes = st.sampled_from([0.0, 1e-300, 1e-200, 1e-30, 1e-8, 1.0, 1e3])


@st.composite
def densities(draw, shape):
    """Zeros, tails down to 1e-300, and a spike."""
    size = int(np.prod(shape))
    values = draw(arrays(float, size, elements=st.floats(0, 1, width=32)))
    values = values * draw(arrays(float, size, elements=magnitudes))
    values[draw(st.integers(0, size - 1))] += draw(st.sampled_from([1e-3, 1.0, 1e4]))
    return values.reshape(shape)


@st.composite
def cases(draw):
    """A one-dimensional problem with a random potential and kernel, a wild density, a scheme and a method."""
    n = draw(st.integers(6, 40))
    end = draw(st.sampled_from(list(mf.End)))
    coefficients = draw(arrays(float, 4, elements=st.floats(-3, 3, width=32)))
    strength = draw(st.sampled_from([0.0, 0.5, 20.0]))
    alpha = draw(st.sampled_from([0.0, 0.1, 3.0, 1e4]))
    density = draw(densities((n,)))

    def potential(x):
        return sum(a * np.cos((k + 1) * np.pi * x) for k, a in enumerate(coefficients)) * strength

    t_end = draw(st.sampled_from([1e-3, 0.1]))
    energy = mf.External(potential)
    if draw(st.booleans()):
        energy = energy + mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(variance=0.3)))
    problem = mf.Problem(
        energy,
        [mf.Axis("x", -1, 1, end)],
        mf.Particles(np.zeros((1, 1))),
        alpha=alpha,
        t_end=t_end,
    )
    return problem, n, density / (density.sum() * 2 / n), draw(st.sampled_from(SCHEMES)), draw(st.sampled_from(METHODS))


@given(cases())
def test_runs_keep_mass_and_sign(case):
    problem, n, density, scheme, method = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        solution = mf.solve(
            problem,
            n,
            scheme=scheme,
            method=method,
            controller=mf.CourantControl(),
            initial=density,
            save=2,
            max_steps=300,
            throw=False,
        )
    assert solution.result in (mf.Result.SUCCESS, mf.Result.MAX_STEPS)
    assert solution.diagnostics["minimum"].min() >= 0.0
    assert solution.stats["mass_drift"] <= 1e-12
    assert np.all(np.isfinite(solution.diagnostics["energy"]))


@given(cases())
def test_mirrored_problem_gives_the_mirrored_rate(case):
    """Bit for bit, one application of the local operators."""
    problem, n, density, scheme, _ = case
    flow = make_flow(problem, problem.grid(n), scheme)
    V = flow.evaluate(density).V
    rate = flow.transport.rate(density, V, dt=1e-3)
    mirrored = flow.transport.rate(density[::-1].copy(), V[::-1].copy(), dt=1e-3)
    np.testing.assert_array_equal(mirrored[::-1], rate)


@given(cases(), st.floats(-1e3, 1e3))
def test_a_constant_in_the_potential_changes_nothing(case, constant):
    problem, n, density, scheme, method = case
    if problem.alpha(0.0) > 100:
        return  # round-off of V + const times a stiff alpha is not small
    shifted = mf.Problem(
        problem.energy + mf.External(lambda x: constant + 0.0 * x), problem.axes, problem.initial, alpha=problem.alpha
    )
    outcomes = []
    for p in (problem, shifted):
        solver = mf.Solver(p, n, scheme=scheme, method=method, controller=mf.CourantControl())
        state = solver.init(density)
        state, info = solver.step(state, until=1e-3)
        assert info.result is None
        outcomes.append((state.t, state.mu))
    assert outcomes[1][0] == pytest.approx(outcomes[0][0], rel=1e-9)
    np.testing.assert_allclose(outcomes[1][1], outcomes[0][1], rtol=1e-8, atol=1e-11 * density.max())


@given(cases())
def test_gradient_flow_lowers_the_energy_of_its_own_mesh(case):
    """Muscl's two-point velocity makes the semi-discrete energy fall; a Courant step keeps that."""
    problem, n, density, _, _ = case
    flow = make_flow(problem, problem.grid(n), mf.Muscl())
    at = flow.evaluate(density)
    rate = flow.transport.rate(at.mu, at.V)
    assert float(np.vdot(at.V, rate)) <= 1e-13 * float(np.abs(at.V * rate).sum())


@st.composite
def planes(draw):
    """A two-dimensional problem as a function of the order of its axes, a density and a scheme."""
    shape = draw(st.tuples(st.integers(5, 12), st.integers(5, 12)))
    ends = draw(st.tuples(*[st.sampled_from(list(mf.End))] * 2))
    k = draw(arrays(float, (2, 2), elements=st.floats(-3, 3, width=32)))
    alpha = draw(st.sampled_from([0.0, 3.0, 1e4]))
    temperature = draw(st.sampled_from([0.0, 1e-8, 0.05, 3.0]))
    density = draw(densities(shape))
    density /= density.sum() * 4 / density.size
    kernel = mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.3), y=mf.GaussianKernel(0.5)))
    axes = [mf.Axis("x", -1, 1, ends[0]), mf.Axis("y", -1, 1, ends[1])]

    def potential(x, y):
        return sum(k[i, j] * np.cos((i + 1) * np.pi * x) * np.cos((j + 1) * np.pi * y) for i in (0, 1) for j in (0, 1))

    def problem(order):
        function = potential if order == (0, 1) else lambda y, x: potential(x, y)
        named = [axes[i] for i in order]
        energy = mf.External(function) + kernel
        start = mf.Particles(np.zeros((1, 2)))
        return mf.Problem(energy, named, start, alpha=alpha, temperature=temperature, t_end=0.01)

    return problem, density, draw(st.sampled_from(SCHEMES))


@given(planes())
def test_the_order_of_the_axes_does_not_matter(case):
    """Two axes: the sum of their fluxes is the same number in either order."""
    make, density, scheme = case
    rates = []
    for order, mu in (((0, 1), density), ((1, 0), np.ascontiguousarray(density.T))):
        problem = make(order)
        flow = make_flow(problem, problem.grid(mu.shape), scheme)
        V = problem.energy.terms[0].bind(problem.axes).on(flow.grid).evaluate(mu)[0]
        rates.append(flow.transport.rate(mu, V, dt=1e-4, temperature=problem.temperature(0.0)))
    assert np.all(np.isfinite(rates[0]))
    np.testing.assert_allclose(rates[1].T, rates[0], rtol=1e-12, atol=1e-14 * np.abs(rates[0]).max())


@given(planes(), st.sampled_from([mf.ExponentialSSPRK3(), mf.Strang(), mf.Lie()]))
def test_runs_in_the_plane_keep_mass_and_sign(case, method):
    make, density, scheme = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)
        solution = mf.solve(
            make((0, 1)),
            density.shape,
            scheme=scheme,
            method=method,
            controller=mf.CourantControl(),
            initial=density,
            save=2,
            max_steps=40,
            throw=False,
        )
    assert solution.result in (mf.Result.SUCCESS, mf.Result.MAX_STEPS)
    assert solution.diagnostics["minimum"].min() >= 0.0
    assert solution.stats["mass_drift"] <= 1e-12


@st.composite
def hot(draw):
    """A problem with a temperature, a density, an implicit method, and a step of any length."""
    n = draw(st.integers(5, 40))
    end = draw(st.sampled_from(list(mf.End)))
    coefficients = draw(arrays(float, 3, elements=st.floats(-3, 3, width=32)))
    strength = draw(st.sampled_from([0.0, 1.0, 30.0]))
    temperature = draw(st.sampled_from([1e-3, 0.05, 1.0, 100.0]))
    alpha = draw(st.sampled_from([0.0, 1.0, 1e4]))
    density = draw(densities((n,)))

    def potential(x):
        return strength * sum(a * np.cos((k + 1) * np.pi * x) for k, a in enumerate(coefficients))

    problem = mf.Problem(
        mf.External(potential),
        [mf.Axis("x", -1, 1, end)],
        mf.Particles(np.zeros((1, 1))),
        alpha=alpha,
        temperature=temperature,
        reaction="free-energy",
    )
    method = draw(st.sampled_from([mf.ImplicitEuler, mf.ImplicitStrang]))(draw(st.sampled_from(list(mf.Potential))))
    return problem, density / (density.sum() * 2 / n), method, draw(st.sampled_from([1e-14, 1e-6, 1e-2, 1.0, 1e6]))


def relative(mu, V, temperature, volume):
    """The free energy less what the equilibrium has, in units of the temperature: a relative entropy, without
    the round-off of two large numbers."""
    weight = -V / temperature
    log_pi = weight - weight.max() - np.log(np.sum(np.exp(weight - weight.max())) * volume)
    inside = mu > 0
    return float(np.sum(mu[inside] * (np.log(mu[inside]) - log_pi[inside])) * volume)


@given(hot())
def test_implicit_steps_of_any_length_keep_mass_and_sign_and_lower_the_free_energy(case):
    problem, density, method, dt = case
    n = len(density)
    solver = mf.Solver(problem, n, scheme=mf.ScharfetterGummel(), method=method, controller=mf.FixedStep(dt))
    state = solver.init(density)
    volume = solver.grid.cell_volume
    V = solver.evaluate(state).V
    tau = problem.temperature(0.0)
    values = [relative(state.mu, V, tau, volume)]
    for _ in range(3):
        state, info = solver.step(state, until=10 * dt)
        assert info.result is None
        assert state.mu.min() >= 0.0
        assert state.mu.sum() * volume == pytest.approx(1.0, abs=1e-12)
        values.append(relative(state.mu, V, tau, volume))
    # round-off of V / tau times the mass
    scale = 1e-13 * (1.0 + np.ptp(V) / tau + 700.0)
    assert np.all(np.diff(values) <= scale)
    assert values[-1] >= -scale


@given(hot())
def test_the_gibbs_measure_stays_where_it_is(case):
    problem, density, method, dt = case
    n = len(density)
    solver = mf.Solver(problem, n, scheme=mf.ScharfetterGummel(), method=method, controller=mf.FixedStep(dt))
    V = solver.evaluate(solver.init(density)).V
    tau = problem.temperature(0.0)
    gibbs = np.exp(-(V - V.min()) / tau)
    gibbs /= gibbs.sum() * solver.grid.cell_volume
    state, info = solver.step(solver.init(gibbs), until=10 * dt)
    assert info.result is None
    np.testing.assert_allclose(state.mu, gibbs, rtol=1e-9, atol=1e-13 * gibbs.max())
