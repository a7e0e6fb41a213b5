"""Property tests: random problems, meshes, densities and step lengths; mass, sign, energy, symmetry."""

import os
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mfpde as mf
from mfpde.flow import Flow

settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=2500, deadline=None)
# HYPOTHESIS_PROFILE=long: 10^4 examples over the four properties
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SCHEMES = [mf.Upwind(), mf.Muscl(), mf.Muscl(mf.Limiter.MINMOD), mf.Muscl(mf.Limiter.MC), mf.Weno5()]
METHODS = [mf.ExponentialSSPRK3(), mf.Strang(), mf.Lie()]

magnitudes = st.sampled_from([0.0, 1e-300, 1e-200, 1e-30, 1e-8, 1.0, 1e3])


@st.composite
def cases(draw):
    """A one-dimensional problem with a random potential and kernel, a wild density, a scheme and a method."""
    n = draw(st.integers(6, 40))
    end = draw(st.sampled_from(list(mf.End)))
    coefficients = draw(arrays(float, 4, elements=st.floats(-3, 3, width=32)))
    strength = draw(st.sampled_from([0.0, 0.5, 20.0]))
    alpha = draw(st.sampled_from([0.0, 0.1, 3.0, 1e4]))
    density = draw(arrays(float, n, elements=st.floats(0, 1, width=32))) * draw(arrays(float, n, elements=magnitudes))
    density[draw(st.integers(0, n - 1))] += draw(st.sampled_from([1e-3, 1.0, 1e4]))

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
    flow = Flow(problem, problem.grid(n), scheme)
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
    flow = Flow(problem, problem.grid(n), mf.Muscl())
    at = flow.evaluate(density)
    rate = flow.transport.rate(at.mu, at.V)
    assert float(np.vdot(at.V, rate)) <= 1e-13 * float(np.abs(at.V * rate).sum())
