"""Neuron birth-death: the three Gaussians by parts of their dynamics, and a student that learns from a teacher."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

import mfpde as mf

P = mf.problems

pytestmark = pytest.mark.usefixtures("one_thread")


def covered(alpha=5.0):
    """The good start on the strip where its density is positive, without transport."""
    axes = [mf.Axis("c", -7, 7, mf.End.NATURAL), mf.Axis("y", -2, 2, mf.End.NATURAL)]
    return dataclasses.replace(
        P.three_gaussians(alpha=alpha), axes=axes, metric=(0.0, 0.0), shape=None, parameters=None
    )


class TestReactionAlone:
    def test_distances_to_any_measure(self):
        """d KL(nu|mu_t)/dt = alpha (int V dnu - Vbar) for every nu; the last step of the 1/t bound."""
        problem = covered()
        times = np.linspace(0.9, 1.1, 5)
        s = mf.solve(problem, (40, 40), 1.1, controller=mf.ErrorControl(1e-9), save=times, progress=False)
        rng = np.random.default_rng(0)
        nu = rng.random((40, 40))
        nu /= nu.sum()
        h = s.grid.cell_volume
        kl = [float((nu * (np.log(nu / h) - np.log(mu))).sum()) for mu in s.density[-5:]]
        slope = (kl[0] - 8 * kl[1] + 8 * kl[3] - kl[4]) / (12 * 0.05)
        mu = s.density[-3]
        V = problem.bound_energy.on(s.grid).evaluate(np.ascontiguousarray(mu))[0]
        exact = 5.0 * (float((V * nu).sum()) - float((V * mu).sum()) * h)
        assert abs(slope / exact - 1) < 1e-5

    def test_bound(self):
        """E(mu_t) <= min over nu of E(nu) + KL(nu|mu_0)/(alpha t), at every time, on the mesh."""
        problem = covered()
        times = np.geomspace(0.1, 20.0, 6)
        s = mf.solve(problem, (32, 32), 20.0, controller=mf.ErrorControl(1e-8), save=times, progress=False)
        density = 0.25
        warm = dataclasses.replace(
            problem, base=lambda c, y: density * stats.norm.pdf(c) + 0.0 * y, temperature=1.0, metric=None
        )
        bounds = [mf.stationary(warm, (32, 32), temperature=1 / (5.0 * t)).energy for t in s.times[1:]]
        assert np.all(s.energy[1:] <= np.array(bounds) + 1e-9)
        # it says something: close at first, and not too far later
        ratio = s.energy[1:] / bounds
        assert ratio[0] > 0.9
        assert ratio.min() > 0.05


class TestPlateau:
    def test_two_atoms(self):
        """The best fit by two atoms is a stationary point of gradient flow of two neurons."""
        problem = P.three_gaussians("bad", alpha=0.0)
        # masses and places found by minimisation of the loss of two units
        from scipy import optimize

        def loss(z):
            points = np.array([[2 * z[0], z[1]], [2 * z[2], z[3]]])
            return problem.bound_energy.energy(points, np.array([0.5, 0.5]))

        options = {"xatol": 1e-9, "fatol": 1e-14, "maxiter": 4000}
        best = optimize.minimize(loss, [0.3, -2.0, -0.5, 0.0], method="Nelder-Mead", options=options)
        assert abs(best.fun - 0.0137234) < 1e-7
        z = best.x
        atoms = mf.Particles(np.array([[2 * z[0], z[1]], [2 * z[2], z[3]]]))
        still = mf.characteristics(dataclasses.replace(problem, initial=atoms, parameters=None), 5.0, progress=False)
        assert abs(still.energy[-1] / best.fun - 1) < 1e-8


class TestStudentTeacher:
    def test_energy(self):
        """The mesh against a direct sum over samples."""
        problem = P.student_teacher(teachers=2, samples=12, seed=3)
        rng = np.random.default_rng(3)
        directions, signs = rng.uniform(0, 2 * math.pi, 2), rng.choice([-1.0, 1.0], 2)
        angle = 2 * math.pi * np.arange(12) / 12
        y = sum(s * np.maximum(np.cos(angle - d), 0) for s, d in zip(signs, directions, strict=True)) / 2
        points = rng.normal(size=(7, 3))
        weights = rng.random(7)
        f = (weights * points[:, 0]) @ np.maximum(
            points[:, 1, None] * np.cos(angle) + points[:, 2, None] * np.sin(angle), 0.0
        )
        assert abs(problem.bound_energy.energy(points, weights) - 0.5 * np.mean((f - y) ** 2)) < 1e-12
        # the teacher itself
        atoms = np.stack([signs, np.cos(directions), np.sin(directions)], axis=1)
        assert abs(problem.bound_energy.energy(atoms, np.array([0.5, 0.5]))) < 1e-14

    def test_start(self):
        problem = P.student_teacher()
        s = mf.solve(problem, (20, 20, 20), 0.1, save=2, progress=False)
        assert abs(s.energy[0] / problem.exact["initial_energy"] - 1) < 1e-12

    def test_invariant(self):
        """Gradient flow keeps int (c^2 - |a|^2) dmu: within 1 % on 32 cells an axis, while int c^2 dmu moves."""
        s = mf.solve(P.student_teacher(alpha=0.0), (32, 32, 32), 5.0, save=2, progress=False)
        c, a, b = ([float(s.moment(name, 2, t)) for t in (0.0, 5.0)] for name in ("c", "a1", "a2"))
        assert abs(c[0] - a[0] - b[0] - s.problem.exact["invariant"]) < 1e-12
        assert abs(c[1] - a[1] - b[1] - s.problem.exact["invariant"]) < 0.01 * 0.4**2
        assert c[1] - c[0] > 0.1 * 0.4**2

    def test_particles(self):
        """Every neuron keeps c^2 - |a|^2 under gradient descent, up to the square of the step."""
        drifts = []
        for dt in (0.05, 0.025):
            cloud = mf.particles.simulate(
                P.student_teacher(alpha=0.0), 100, dt=dt, t_end=5.0, save=2, seed=1, progress=False
            )
            value = [c[:, 0] ** 2 - (c[:, 1:] ** 2).sum(axis=1) for c in cloud.positions[0]]
            drifts.append(np.abs(value[1] - value[0]).max())
        assert drifts[0] < 0.05
        assert abs(drifts[0] / drifts[1] - 2) < 0.2

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"teachers": 0}, "teachers must be an integer of at least 1"),
            ({"samples": 4}, "samples must be an integer of at least 8"),
            ({"std": 0.0}, "std must be finite and positive"),
            ({"amplitude": 0.5}, "loses .* of the initial measure"),
            ({"reinjection": "some"}, "unknown reinjection kind"),
        ],
    )
    def test_refused(self, parameters, message):
        with pytest.raises(ValueError, match=message):
            P.student_teacher(**parameters)
