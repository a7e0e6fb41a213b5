"""The same run gives the same bits, whoever works on it and whatever is saved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

import mfpde as mf
from mfpde.support.threads import at_most, product

X = np.linspace(-2, 2, 200)


def convolution() -> mf.Problem:
    """An interaction that goes by FFT."""
    kernel = mf.TranslationInvariantKernel(lambda x, y: np.exp(-(x**2 + y**2) / 4))
    return mf.Problem(
        energy=mf.External(lambda x, y: 0.5 * (x**2 + y**2)) + mf.Interaction(kernel),
        axes=[mf.Axis("x", -5, 5), mf.Axis("y", -5, 5)],
        initial=mf.Product(x=stats.norm(0, 0.8), y=stats.norm(0, 0.8)),
        alpha=1.0,
    )


@pytest.mark.parametrize(
    ("problem", "settings"),
    [
        (mf.problems.three_gaussians(), {"shape": (420, 260), "t_end": 0.02}),
        (
            mf.problems.gaussian_bumps(centres=[(-1.5, -1.0, -0.5), (1.5, 1.0, 0.5)]),
            {"shape": (50, 46, 48), "t_end": 0.02},
        ),
        (mf.problems.network(X, np.tanh(X - 0.3)), {"shape": (50, 46, 48), "t_end": 0.02}),
        (convolution(), {"shape": (340, 300), "t_end": 0.01}),
        (
            mf.problems.torus_langevin(),
            {
                "shape": 110_000,
                "t_end": 0.01,
                "controller": mf.FixedStep(0.005),
                "scheme": mf.ScharfetterGummel(),
            },
        ),
    ],
    ids=["two axes", "three axes", "network", "FFT", "dense and implicit"],
)
def test_threads_do_not_change_a_bit(problem, settings):
    one, again, two, three = (mf.solve(problem, **settings, save=2, threads=n, progress=False) for n in (1, 1, 2, 3))
    assert one.stats == again.stats == two.stats == three.stats
    for other in (again, two, three):
        for name in ("density", "energy", "response"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


def coupled() -> tuple[np.ndarray, ...]:
    """Particles and their twins."""
    problem = mf.Problem(
        energy=mf.Confinement(x=0.2) + mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.3)), 0.5),
        axes=[mf.Axis("x", -3, 3)],
        initial=mf.Product(x=stats.norm(0.3, 0.4)),
    )
    solution = mf.solve(problem, 60, 0.1, save=2, progress=False)
    found = mf.particles.coupled(problem, solution, 30, dt=0.02, t_end=0.1)
    return found.positions, found.twins, found.response, found.norm


def stationary(temperature: float) -> tuple[np.ndarray, ...]:
    """A stationary state in two dimensions."""
    found = mf.stationary(mf.problems.three_gaussians(), (32, 32), temperature=temperature)
    return found.mu, found.potential, np.array([found.energy, found.gap])


def on_nodes() -> tuple[np.ndarray, ...]:
    """An end state on Gauss nodes, with its error bar."""
    observables = [mf.EnergyAt(np.inf), mf.DensityAt(np.linspace(0, 6, 300)[:, None], np.inf)]
    found = mf.reference(mf.problems.torus_langevin(), 1e-8, observables, budget=1e6, progress=False)
    return tuple(values for certified in found.observables for values in (certified.value, certified.bar))


@pytest.mark.parametrize(
    "compute",
    [coupled, lambda: stationary(0.0), lambda: stationary(0.2), on_nodes],
    ids=["coupled", "cold", "warm", "nodes"],
)
def test_threads_of_matrix_products_do_not_change_a_bit(compute):
    # BLAS shares products among its threads, and sums then come in another order
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(compute())
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((7, 900), (900,)),
        ((5, 4), (4, 301)),
        ((301, 4), (4, 5)),
        ((4,), (4, 301)),
        ((3, 2), (2, 3)),
        ((2, 900), (900, 3)),
        ((900,), (900, 3)),
        ((301, 4), (4,)),
        ((5, 4), (20, 4, 6)),
        ((20, 5, 4), (20, 4, 6)),
        ((20, 5, 4), (4, 6)),
    ],
    ids=str,
)
@pytest.mark.parametrize("cells", [10, 10**6])
def test_products(a, b, cells):
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    expected = x @ y
    close = {"rtol": 0, "atol": 4 * np.finfo(float).eps * (np.abs(x) @ np.abs(y)).max()}
    with at_most(3):
        np.testing.assert_allclose(product(x, y, cells), expected, **close)
        out = np.full(expected.shape, np.nan)
        assert product(x, y, cells, out) is out
        np.testing.assert_allclose(out, expected, **close)
        transposed = np.asfortranarray(x)
        np.testing.assert_allclose(product(transposed, y, cells), expected, **close)


def test_save_times_change_a_result_within_its_error_only():
    problem, settings = mf.problems.gaussian_bumps(), {"shape": 100, "progress": False}
    few = mf.solve(problem, **settings, save=2)
    many = mf.solve(problem, **settings, save=38)
    exact = mf.solve(problem, **settings, save=2, controller=mf.ErrorControl(tolerance=1e-9))
    assert many.stats["steps"] > few.stats["steps"]

    def apart(a: mf.Solution, b: mf.Solution) -> float:
        return float(np.abs(a.density[-1] - b.density[-1]).sum() * a.grid.cell_volume)

    error = apart(few, exact)
    assert 0.0 < error < 1e-4
    assert apart(many, few) <= 1.5 * error


@pytest.mark.parametrize("dynamics", [None, [mf.particles.GradientDescent(), mf.particles.Weights()]])
def test_save_times_do_not_change_particles_at_all(dynamics):
    problem, settings = mf.problems.gaussian_bumps(), {"dt": 0.02, "t_end": 0.4, "seed": 2, "progress": False}
    few = mf.particles.simulate(problem, 50, dynamics=dynamics, save=2, **settings)
    many = mf.particles.simulate(problem, 50, dynamics=dynamics, save=[0.02, 0.1, 0.38], **settings)
    assert np.array_equal(few.positions[:, -1], many.positions[:, -1])
    assert np.array_equal(few.energy[:, -1], many.energy[:, -1])
