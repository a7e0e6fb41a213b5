"""Sparse deconvolution: its energy, its optimum by a convex programme, one spike in closed form, two signs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import mfpde as mf
from validation._convex_programme import deconvolved

P = mf.problems
PLANE = {1.0: 2.766578807, 4.0: 10.070304179}
"""The least J with the default spikes in two dimensions, by penalty; another implementation's."""

pytestmark = pytest.mark.usefixtures("one_thread")


def kernel(p, q, harmonics):
    """The kernel as written, between points (m, d) and (n, d)."""
    d = p[:, None, :] - q[None, :, :]
    return np.prod(1 + 2 * sum(np.cos(k * d) for k in range(1, harmonics + 1)), axis=-1)


def target(problem):
    weights = np.array(problem.parameters["weights"])
    return np.array(problem.parameters["centres"]).reshape(len(weights), -1), weights


def optimum(problem):
    return deconvolved(*target(problem), problem.parameters["penalty"], problem.parameters["harmonics"])


def masses_near(points, weights, places):
    """What lies nearest to each of the places, around the circles."""
    apart = (points[:, None, :] - places + math.pi) % (2 * math.pi) - math.pi
    return np.bincount(np.argmin((apart**2).sum(axis=2), axis=1), weights, minlength=len(places))


def lattice(problem, n):
    """The problem from n^d equal atoms on a lattice."""
    places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) * 2 * math.pi / n] * len(problem.axes)), -1)
    start = mf.Particles(places.reshape(-1, len(problem.axes)))
    return dataclasses.replace(problem, initial=start, parameters=None)


@pytest.mark.parametrize("parameters", [{}, {"dimension": 2, "penalty": 1.0}, {"weights": [0.5, -0.3, 0.2]}])
def test_energy(parameters):
    """J and V of a mesh and of points against sums over the kernel as written; the constants are in J."""
    problem = P.sparse_deconvolution(**parameters)
    (nu, a), n, penalty = target(problem), problem.parameters["harmonics"], problem.parameters["penalty"]
    grid = problem.grid((12,) * len(problem.axes))
    mu = np.random.default_rng(1).random(grid.shape)
    points, w = grid.points(), mu.ravel() * grid.cell_volume
    both, charges = np.concatenate([points, nu]), np.concatenate([w, -a])
    J = 0.5 * charges @ kernel(both, both, n) @ charges + penalty * w.sum()
    expected = kernel(points, both, n) @ charges + penalty
    V, energy, _ = problem.bound_energy.on(grid).evaluate(mu)
    assert energy == pytest.approx(J, rel=1e-12)
    np.testing.assert_allclose(V.ravel(), expected, atol=1e-11)
    u = problem.bound_energy.response(points, w)
    np.testing.assert_allclose(problem.bound_energy.potential(points, u), expected, atol=1e-11)
    assert problem.exact["empty_energy"] == pytest.approx(problem.bound_energy.energy(nu, 0 * a), rel=1e-12)
    fine = problem.grid((64,) * len(problem.axes))
    start = problem.bound_energy.on(fine).evaluate(problem.mu_0.cells(fine))[1]
    assert problem.exact["initial_energy"] == pytest.approx(start, rel=1e-12)


def test_optimum_on_a_line():
    """Nodes, the mesh and the minimiser on it against the convex programme: energy, masses, certificate."""
    problem = P.sparse_deconvolution()
    best = optimum(problem)
    assert best.energy == pytest.approx(0.2841738691, abs=1e-10)
    assert best.least >= -1e-9
    nodes = mf.characteristics(problem, tolerance=1e-6, save=2, progress=False)
    assert nodes.energy[-1] == pytest.approx(best.energy, abs=1e-9)
    found = masses_near(nodes.points[-1], nodes.weights[-1], best.places)
    np.testing.assert_allclose(found, best.masses, rtol=1e-4)
    excess = []
    for n in (128, 256):
        state = mf.stationary(problem, n)
        assert state.converged
        assert state.convex
        assert state.potential.min() >= -1e-12
        excess.append(state.energy - best.energy)
        masses = masses_near(state.grid.points(), state.mu.ravel() * state.grid.cell_volume, best.places)
        np.testing.assert_allclose(masses, best.masses, rtol=0.01)
    # above the continuum's, by the square of a cell times the curvature of V at the spikes
    assert 0 < excess[1] < excess[0] / 2 < 2e-4
    solution = mf.solve(problem, save=2, progress=False)
    d = solution.diagnostics
    assert d["minimum"].min() >= 0
    assert np.all(d["energy"] >= best.energy)
    assert np.all(d["optimality_gap"] >= d["energy"] - state.energy - 1e-12)
    assert solution.energy[-1] == pytest.approx(state.energy, abs=1e-5)


@pytest.mark.parametrize("penalty", PLANE)
def test_optimum_in_the_plane(penalty):
    """From a lattice of 100 atoms, as in the paper's code, to ten digits; without penalty the least J is 0."""
    problem = P.sparse_deconvolution(2, penalty=penalty)
    best = optimum(problem)
    assert best.energy == pytest.approx(PLANE[penalty], abs=1e-9)
    run = mf.characteristics(lattice(problem, 10), tolerance=1e-6, progress=False)
    assert run.energy[-1] == pytest.approx(best.energy, abs=1e-8)
    np.testing.assert_allclose(masses_near(run.points[-1], run.weights[-1], best.places), best.masses, rtol=1e-4)


def test_exact_minimum_without_penalty():
    problem = P.sparse_deconvolution(2, penalty=0.0)
    nu, a = target(problem)
    assert problem.exact["minimum_energy"] == 0.0
    assert problem.bound_energy.energy(nu, a) < 1e-14
    assert "minimum_energy" not in P.sparse_deconvolution(penalty=0.0, weights=[1.0, -1.0, 1.0]).exact


class TestOneSpike:
    """An atom where the spike is stays there, and its mass is logistic."""

    CELL = 40
    PLACE = 2 * math.pi * (CELL + 0.5) / 256

    def problem(self, **parameters):
        problem = P.sparse_deconvolution(1, [self.PLACE], [2.0], **parameters)
        return dataclasses.replace(problem, initial=mf.Particles([[self.PLACE]]), parameters=None)

    def test_minimum(self):
        """Of ``K_0 (c - a)^2 / 2 + lambda c``; V is 0 there and nowhere below."""
        problem = self.problem()
        c = np.linspace(1.9, 2.0, 100_001)
        values = 0.5 * 9 * (c - 2) ** 2 + 0.3 * c
        assert problem.exact["minimum_energy"] == pytest.approx(values.min(), rel=1e-9)
        assert problem.exact["mass"] == pytest.approx(c[values.argmin()], abs=1e-6)
        state = mf.stationary(problem, 256)
        assert state.energy == pytest.approx(problem.exact["minimum_energy"], rel=1e-12)
        assert state.mass == pytest.approx(problem.exact["mass"], rel=1e-12)
        assert "mass" not in P.sparse_deconvolution(1, [1.0], [0.03]).exact

    def test_logistic_law(self):
        """Of one cell, one node and one particle. Time scale 1/706: errors of time steps are of their tolerance."""
        problem, times = self.problem(), np.linspace(0.001, 0.008, 8)
        exact = problem.exact["spike_mass"](times, 1.0)
        assert exact[0] < 1.5
        assert exact[-1] > 1.95
        nodes = mf.characteristics(problem, times[-1], save=times, tolerance=1e-9, progress=False)
        np.testing.assert_allclose(nodes.weights[1:, 0], exact, rtol=1e-7)
        assert np.abs(nodes.points[:, 0, 0] - self.PLACE).max() < 1e-12
        mesh = mf.solve(problem, 256, times[-1], save=times, progress=False, controller=mf.ErrorControl(1e-7))
        cell = mesh.grid.cell_volume * np.array([mu[self.CELL] for mu in mesh.density[1:]])
        np.testing.assert_allclose(cell, exact, rtol=1e-5)
        cloud = mf.particles.simulate(
            problem, 2, dynamics=[mf.particles.Weights()], dt=5e-6, t_end=times[-1], save=times, progress=False
        )
        # V is frozen over a step: first order in dt times the rate 706
        np.testing.assert_allclose(cloud.mass[0, 1:], exact, rtol=2e-3)


class TestTwoSigns:
    """The parts of a signed measure are two species."""

    def test_energy(self):
        """J and V of both signs against sums over the kernel as written."""
        problem = P.sparse_deconvolution(signed=True)
        nu, a = target(problem)
        np.testing.assert_array_equal(a, [0.5, -0.3, 0.2])
        grid = problem.grid(12)
        mu = np.random.default_rng(2).random(grid.shape)
        x, w = grid.points(), mu.ravel() * grid.cell_volume
        sign = np.where(x[:, 0] == 0, 1.0, -1.0)
        both, charges = np.concatenate([x[:, 1:], nu]), np.concatenate([sign * w, -a])
        J = 0.5 * charges @ kernel(both, both, 4) @ charges + 0.3 * w.sum()
        V, energy, _ = problem.bound_energy.on(grid).evaluate(mu)
        assert energy == pytest.approx(J, rel=1e-12)
        np.testing.assert_allclose(V.ravel(), sign * (kernel(x[:, 1:], both, 4) @ charges) + 0.3, atol=1e-11)
        fine = problem.grid(64)
        start = problem.bound_energy.on(fine).evaluate(problem.mu_0.cells(fine))[1]
        assert problem.exact["initial_energy"] == pytest.approx(start, rel=1e-12)

    def test_optimum(self):
        """Nodes of both signs and the minimiser on a mesh against the convex programme, masses of both signs too."""
        problem = P.sparse_deconvolution(signed=True)
        best = deconvolved(*target(problem), 0.3, 4, signed=True)
        assert best.energy == pytest.approx(0.2815973720, abs=1e-10)
        assert sorted(np.sign(best.masses)) == [-1, 1, 1]
        places = mf.Particles((np.arange(12) + 0.5)[:, None] * 2 * math.pi / 12)
        start = dataclasses.replace(problem, initial=mf.PerSpecies(places), parameters=None)
        run = mf.characteristics(start, 8.0, tolerance=1e-3, save=2, progress=False)
        assert run.energy[-1] == pytest.approx(best.energy, abs=1e-7)
        state = mf.stationary(problem, 192)
        assert state.converged
        assert state.potential.min() >= -1e-12
        assert 0 < state.energy - best.energy < 2e-4
        for points, weights, rtol in (
            (run.points[-1], run.weights[-1], 1e-4),
            (state.grid.points(), state.mu.ravel() * state.grid.cell_volume, 0.01),
        ):
            for sign, label in ((1.0, 0), (-1.0, 1)):
                own, its = best.masses * sign > 0, points[:, 0] == label
                found = masses_near(points[its, 1:], weights[its], best.places[own])
                np.testing.assert_allclose(found, np.abs(best.masses[own]), rtol=rtol)

    def test_mesh(self):
        problem = P.sparse_deconvolution(signed=True, t_end=0.3)
        solution = mf.solve(problem, 96, save=2, progress=False, estimate=False)
        d = solution.diagnostics
        assert d["minimum"].min() >= 0
        assert np.all(np.diff(d["energy"]) < 0)
        assert np.all(d["energy"] - mf.stationary(problem, 96).energy <= d["optimality_gap"] + 1e-12)
        nodes = mf.characteristics(problem, tolerance=1e-3, save=2, progress=False)
        assert solution.energy[-1] == pytest.approx(nodes.energy[-1], rel=1e-3)

    def test_exact(self):
        problem = P.sparse_deconvolution(1, [1.0], [-2.0], signed=True)
        assert problem.exact["mass"] == 2 - 0.3 / 9
        one = np.array([[1.0, 1.0]])
        energy = problem.bound_energy.energy(one, np.array([problem.exact["mass"]]))
        assert energy == pytest.approx(problem.exact["minimum_energy"], rel=1e-12)
        assert P.sparse_deconvolution(penalty=0.0, signed=True).exact["minimum_energy"] == 0.0
        assert not {"mass", "minimum_energy"} & P.sparse_deconvolution(1, [1.0], [-2.0], penalty=0.0).exact.keys()


def test_neither_transport_nor_birth_death_alone():
    """From a lattice of nine atoms: nodes that only move keep their mass, those that only weigh keep their places."""
    problem = lattice(P.sparse_deconvolution(weights=[1.0, 0.6, 0.4]), 9)
    best = deconvolved(*target(P.sparse_deconvolution(weights=[1.0, 0.6, 0.4])), 0.3, 4).energy
    still = dataclasses.replace(problem, metric=[0.0])
    moving = dataclasses.replace(problem, alpha=0.0)
    both, fixed, kept = (
        mf.characteristics(which, tolerance=1e-5, progress=False) for which in (problem, still, moving)
    )
    assert both.energy[-1] - best < 1e-7
    assert min(fixed.energy[-1], kept.energy[-1]) - best > 1e-3
    np.testing.assert_array_equal(fixed.points[-1], fixed.points[0])
    np.testing.assert_allclose(kept.weights.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dimension": 3}, "dimension must be 1 or 2, not 3"),
        (
            {"dimension": 2, "centres": [1.0], "weights": [1.0]},
            r"centres have a pair for each weight in dimension 2, not shapes \(1,\)",
        ),
        ({"centres": [1.0]}, r"centres have a number for each weight in dimension 1, not shapes \(1,\) and \(3,\)"),
        ({"penalty": -1.0}, "penalty must be finite and not negative"),
        ({"harmonics": 65}, "harmonics must be at most 64"),
        ({"alpha": -1.0}, "alpha: .*-1.0 must be finite and non-negative"),
        ({"centres": [1.0, math.nan, 2.0]}, "^centres must be a list of numbers of at most 1e.50 or None, not"),
    ],
)
def test_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        P.sparse_deconvolution(**parameters)
