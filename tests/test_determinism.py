"""The same run gives the same bits, whoever works on it and whatever is saved."""

from __future__ import annotations

import numpy as np
import pytest

import mfpde as mf


@pytest.mark.parametrize(
    ("problem", "settings"),
    [
        (mf.problems.three_gaussians(), {"shape": (420, 260), "t_end": 0.02, "save": 2}),
        (mf.problems.torus_langevin(), {"shape": 110_000, "t_end": 0.01, "save": 2, "controller": mf.FixedStep(0.005)}),
    ],
    ids=["separable", "dense and implicit"],
)
def test_threads_change_nothing_beyond_round_off(problem, settings):
    one, again, two = (mf.solve(problem, **settings, threads=n, progress=False) for n in (1, 1, 2))
    for name in ("density", "energy", "response"):
        assert np.array_equal(getattr(one, name), getattr(again, name)), name
    assert one.stats == again.stats
    largest = one.density.max()
    assert np.abs(one.density - two.density).max() <= 1e-12 * largest
    assert np.abs(one.energy - two.energy).max() <= 1e-12 * np.abs(one.energy).max()


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
