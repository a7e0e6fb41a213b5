"""Laws that hold for every shipped problem, whichever way it is discretised: mass, energy, the start, and agreement.

Few cells, nodes and particles, and short times: what is asked is whether a law holds, not how accurate a run is.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

import mfpde as mf

P = mf.problems

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Small:
    """How a problem is computed here: a mesh that can be halved, until when, and with which steps of particles."""

    shape: tuple[int, ...]
    t_end: float
    dt: float = 0.02


SMALL = {
    "three-gaussians": Small((32, 32), 0.5),
    "gaussian-bumps": Small((60,), 1.0),
    "linear-neuron": Small((120,), 0.5),
    "quadratic-well": Small((120,), 0.5),
    "double-well": Small((120,), 0.2, 0.005),
    "single-index": Small((80,), 1.0),
    "isotropic-gaussians": Small((160,), 0.3, 0.02),
    "anisotropic-gaussians": Small((48, 48), 0.2, 0.02),
    "predicting-failure": Small((120,), 0.01, 0.002),
    "relu-gaussians": Small((8, 8, 8, 8), 0.02, 0.005),
    "torus-langevin": Small((48,), 1.0),
    "gaussian-langevin": Small((64,), 0.3),
    "gaussian-sampling": Small((64,), 0.5),
    "double-well-sampling": Small((48,), 0.2, 0.005),
    "sphere-langevin": Small((48,), 0.5),
    "student-teacher": Small((16, 16, 16), 0.5),
    "self-attention": Small((64,), 0.05, 0.001),
    "mmd-flow": Small((120,), 0.2, 0.005),
    "torus-spikes": Small((20, 20), 0.5),
    "sparse-deconvolution": Small((64,), 0.05, 0.0005),
    "two-timescale": Small((64,), 0.5),
    "ultra-fast-diffusion": Small((48,), 0.1),
    "quantization": Small((32, 32), 0.5),
    "two-player-game": Small((32,), 0.5),
}
NOISELESS = [name for name in SMALL if P.get(name).noiseless]
HOT = [name for name in SMALL if name not in NOISELESS]
SCHEMES = {"weno5": mf.Weno5(), "muscl": mf.Muscl(), "scharfetter-gummel": mf.ScharfetterGummel()}
MESHES = [
    *((name, scheme) for name in NOISELESS for scheme in ("weno5", "muscl")),
    *((name, scheme) for name in HOT for scheme in ("scharfetter-gummel", "muscl")),
]
POINTS = [name for name in SMALL if "points" in P.get(name).bound_energy.capabilities]
NODES = [(name, "characteristics") for name in NOISELESS if name in POINTS and name != "student-teacher"]
"""Noise has no characteristics, and those of a velocity that jumps, as of a ReLU, are not unique."""
CLOUDS = [(name, "particles") for name in POINTS]
FREE = [name for name in SMALL if P.get(name).reaction is mf.Reaction.UNBALANCED]
"""Their mass is theirs to choose."""
PARTICLES, REPLICAS, SEED = 40, 16, 20
Z = 5.0
"""Standard errors of a mean of replicas within which it has to be: with 15 degrees of freedom false once in 6000."""


def each(*cases):
    """A test for each (problem, discretisation)."""
    every = [case for some in cases for case in some]
    return pytest.mark.parametrize(("name", "how"), every, ids=["-".join(case) for case in every])


@cache
def on_mesh(name: str, scheme: str, quarters: int = 4) -> mf.Solution:
    """The problem on its mesh, or on so many quarters of the cells of each axis."""
    small = SMALL[name]
    shape = tuple(n * quarters // 4 for n in small.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # that cells are few
        return mf.solve(P.get(name), shape, small.t_end, scheme=SCHEMES[scheme], save=2, progress=False)


@cache
def along_nodes(name: str) -> mf.Characteristics:
    # every node sees every other one in mmd-flow
    problem, tolerance = P.get(name), 1e-3 if len(SMALL[name].shape) > 1 or name == "mmd-flow" else 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # that the tolerance is not reached with few nodes
        return mf.characteristics(
            problem, SMALL[name].t_end, save=6, tolerance=tolerance, max_nodes=5000, progress=False
        )


@cache
def as_cloud(name: str, n: int = PARTICLES, steps: int = 1, descent: bool = False) -> mf.particles.Cloud:
    """Replicas of n particles, with steps that are shorter by a factor; `descent`: along the gradient alone."""
    problem, small = P.get(name), SMALL[name]
    dynamics, saves = ([mf.particles.GradientDescent()], 6) if descent else (None, 2)
    return mf.particles.simulate(
        problem, n, dynamics=dynamics, dt=small.dt / steps, t_end=small.t_end, save=saves, seed=SEED, replicas=REPLICAS,
        progress=False,
    )  # fmt: skip


# ----- mass


@each([case for case in (*MESHES, *NODES, *CLOUDS) if case[0] not in FREE])
def test_mass_is_kept(name, how):
    """Balanced dynamics: 1 at all times, and nothing is negative. Sums of 10^4 numbers round off to 1e-12 at most."""
    if how == "particles":
        cloud = as_cloud(name)
        np.testing.assert_array_equal(cloud.mass, 1.0)
        assert cloud.positions.shape == (REPLICAS, len(cloud.times), PARTICLES, len(cloud.problem.axes))
    elif how == "characteristics":
        nodes = along_nodes(name)
        np.testing.assert_allclose(nodes.weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
        assert nodes.weights.min() >= 0
    else:
        d = on_mesh(name, how).diagnostics
        np.testing.assert_allclose(d["mass"], 1.0, rtol=0, atol=1e-12)
        assert d["minimum"].min() >= 0


@each([(name, how) for name in ("quadratic-well", "double-well") for how in ("weno5", "muscl", "characteristics")])
def test_mass_that_is_not_kept_is_bounded(name, how):
    """Without balance d log M/dt = -alpha int V dmu / M, and V is fixed: between -alpha max V and -alpha min V."""
    problem, small = dataclasses.replace(P.get(name), reaction="unbalanced"), SMALL[name]
    if how == "characteristics":
        nodes = mf.characteristics(problem, small.t_end, save=6, tolerance=1e-6, progress=False)
        times, mass = nodes.times, nodes.weights.sum(axis=1)
    else:
        solution = mf.solve(problem, small.shape, small.t_end, scheme=SCHEMES[how], save=2, progress=False)
        times, mass = solution.diagnostics["time"], solution.diagnostics["mass"]
    V = problem.bound_energy.potential(
        np.linspace(problem.axes[0].lower, problem.axes[0].upper, 4001)[:, None], np.zeros(0)
    )
    alpha = problem.alpha(0.0)
    # the time steps' own errors are of the tolerance, 1e-6 and below
    assert np.all(np.log(mass) <= -alpha * V.min() * times + 1e-5)
    assert np.all(np.log(mass) >= -alpha * V.max() * times - 1e-5)
    assert abs(mass[-1] - 1.0) > 1e-3


@each([case for case in (*MESHES, *NODES, *CLOUDS) if case[0] in FREE])
def test_free_mass_changes_and_is_not_negative(name, how):
    if how == "particles":
        assert np.all(as_cloud(name).mass > 0)
        assert np.ptp(as_cloud(name).mass) > 1e-3
    elif how == "characteristics":
        assert along_nodes(name).weights.min() >= 0
        assert np.ptp(along_nodes(name).weights.sum(axis=1)) > 1e-3
    else:
        d = on_mesh(name, how).diagnostics
        assert d["minimum"].min() >= 0
        assert np.ptp(d["mass"]) > 1e-3


# ----- energy


def falling(cases):
    """Those of the cases whose problem has an energy that falls: a game has none."""
    return [case for case in cases if P.get(case[0]).bound_energy.lyapunov]


@each(falling(MESHES), falling(NODES), falling([case for case in CLOUDS if case[0] in NOISELESS]))
def test_energy_does_not_rise(name, how):
    """A gradient flow, with birth-death too: E falls, with a temperature the free energy, and neither part of it rises.

    On the mesh after every step, up to round-off. Along nodes up to their error. Of particles along the gradient alone:
    an explicit step of length dt lowers E while dt is below 2 over the curvature, and the dt here are far below that.
    """
    if how == "particles":
        energy = as_cloud(name, descent=True).energy
        assert np.diff(energy, axis=1).max() <= 1e-13 * np.abs(energy).max()
    elif how == "characteristics":
        nodes = along_nodes(name)
        assert np.all(np.diff(nodes.energy) <= nodes.energy_error[1:] + nodes.energy_error[:-1])
        assert nodes.energy[-1] < nodes.energy[0]
    else:
        d = on_mesh(name, how).diagnostics
        assert np.diff(d["energy"]).max() <= 1e-13 * np.abs(d["energy"]).max()
        assert d["energy"][-1] < d["energy"][0]
        assert d["dissipation_transport"].min() >= 0
        assert d["dissipation_reaction"].min() >= 0


REACTING = [name for name in SMALL if P.get(name).reacts]


@each([(name, how) for name, how in MESHES if name in REACTING])
def test_energy_does_not_rise_without_birth_death(name, how):
    """The gradient flow alone, of the problems that have more: birth-death does not make up for what rises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # that cells are few
        solution = mf.solve(
            P.get(name, alpha=0.0), SMALL[name].shape, SMALL[name].t_end, scheme=SCHEMES[how], save=2, progress=False
        )
    d = solution.diagnostics
    assert np.diff(d["energy"]).max() <= 1e-13 * np.abs(d["energy"]).max()
    assert np.abs(d["mass"] - 1).max() <= 1e-12
    assert not d["dissipation_reaction"].any()


# ----- the start


def law_of(problem: mf.Problem, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints of an axis and their masses, from the law that the problem was given: no code of the measures."""
    (low, length), count = (problem.axes[axis].lower, problem.axes[axis].length), 100_000
    x = low + length * (np.arange(count) + 0.5) / count
    if isinstance(problem.initial, mf.PerSpecies):  # of equal shares, on the axis that is not theirs
        laws = [law.function(x) for _, _, law in problem.initial.named]
        density = sum(law / law.sum() for law in laws)
    elif isinstance(problem.initial, mf.Density):
        density = np.asarray(problem.initial.function(x[:, None]), dtype=float).ravel()
        density = np.exp(density) if problem.initial.log else density
    else:
        law = dict(problem.initial.marginals)[problem.axes[axis].name]
        turns = range(-2, 3) if problem.axes[axis].periodic else (0,)
        density = sum(np.asarray(law.pdf(x + turn * length), dtype=float) for turn in turns)
    return x, density / density.sum()


def coordinates(axis: mf.Axis, x) -> tuple[np.ndarray, np.ndarray]:
    """What the first two moments are of: x and x^2 with the box as (-1, 1), cosine and sine around a circle."""
    unit = (np.asarray(x) - axis.lower) / axis.length
    if axis.periodic:
        return np.cos(2 * math.pi * unit), np.sin(2 * math.pi * unit)
    return 2 * unit - 1, (2 * unit - 1) ** 2


def moments(axis: mf.Axis, x, weights) -> np.ndarray:
    return np.array([np.sum(weights * values) for values in coordinates(axis, x)])


@each(MESHES, NODES, CLOUDS)
def test_the_start_is_that_of_the_problem(name, how):
    """The first two moments of mu_0 at t = 0 along each axis, `coordinates`, against those of its law.

    On cells of width h a coordinate is off its value at the centre by h/2 times its slope of at most 2, and the density
    off its mean by its variation in the cell, so a moment is off by h^2 times the variation of the density, and by the
    curvature, h^2/4. A mesh sees half of the variation of a peak that is narrower than a cell. Point values in place
    of means have the error of the midpoint rule, h^2/8 times the variation of the slope of coordinate times density.
    Nodes have what their run says of itself, relative to the length of the axis. Particles: Z standard errors.
    """
    problem = P.get(name)
    for k, axis in enumerate(problem.axes):
        if not axis.moves:
            continue
        x, masses = law_of(problem, k)
        exact = moments(axis, x, masses)
        if how == "particles":
            found = np.array([moments(axis, row, 1 / PARTICLES) for row in as_cloud(name).positions[:, 0, :, k]])
            found = found.mean(axis=0)
            variance = [masses @ (values - masses @ values) ** 2 for values in coordinates(axis, x)]
            bound = Z * np.sqrt(np.array(variance) / (REPLICAS * PARTICLES))
        elif how == "characteristics":
            nodes = along_nodes(name)
            found = moments(axis, nodes.points[0, :, k], nodes.weights[0])
            bound = 4 * nodes.error_estimate + 1e-8
        else:
            solution = on_mesh(name, how)
            others = tuple(i for i in range(len(problem.axes)) if i != k)
            cells = np.asarray(solution.density[0]).sum(axis=others) * solution.grid.cell_volume
            found = moments(axis, solution.grid.centres(k), cells)
            h = (2 * math.pi if axis.periodic else 2.0) / len(cells)
            rho = np.concatenate([[0.0], cells / h, [0.0]])
            bound = h**2 * (2 * np.abs(np.diff(rho)).sum() + 0.25)
            if solution.point_values:
                at = np.concatenate([[axis.lower], solution.grid.centres(k), [axis.upper]])
                bends = [np.abs(np.diff(rho * values, 2)).sum() / h for values in coordinates(axis, at)]
                bound = bound + h**2 / 8 * 2 * np.array(bends)
        assert np.all(np.abs(found - exact) <= bound), (axis.name, found - exact, bound)


# ----- agreement


def of_mesh(name: str, scheme: str, which: int) -> tuple[float, float]:
    """The energy without entropy at the start (0) or the end (-1), and its error.

    With an error of order p in the width of the cells, cells r times as wide are off r^p times as much, and the change
    is r^p - 1 times the error. With p = 1, as where a start jumps, the error is at most the change to half of the
    cells, and three times that to three quarters of them; the larger one, since one may vanish by a change of sign.
    The steps have a tolerance of 1e-5 of the mass, and V has the size of the energy: so much of that.
    """
    fine, less, half = (float(on_mesh(name, scheme, n).energy_without_entropy[which]) for n in (4, 3, 2))
    steps = 1e-5 * float(np.abs(on_mesh(name, scheme).diagnostics["energy"]).max()) if which else 0.0
    return fine, max(3 * abs(fine - less), abs(fine - half)) + steps


def of_cloud(name: str, which: int) -> tuple[float, float]:
    """The mean energy of particles and its uncertainty: Z standard errors, and twice what half the step changes.

    For an energy that is quadratic in mu, n draws have ``E[mu] + c/n``: ``2 E_2n - E_n`` is free of c.
    """
    many, few = (as_cloud(name, n).energy[:, which] for n in (2 * PARTICLES, PARTICLES))
    free = 2 * many - few
    error = Z * float(free.std(ddof=1)) / math.sqrt(REPLICAS)
    if which:
        error += 2 * abs(float((as_cloud(name, PARTICLES, 2).energy[:, which] - few).mean()))
    return float(free.mean()), error


def of(name: str, how: str, which: int) -> tuple[float, float]:
    """The energy without entropy at the start (0) or the end (-1), and its error, whichever the discretisation."""
    if how == "particles":
        return of_cloud(name, which)
    if how == "characteristics":
        nodes = along_nodes(name)
        return float(nodes.energy[which]), float(nodes.energy_error[which])
    return of_mesh(name, how, which)


@pytest.mark.parametrize("which", [0, -1], ids=["start", "end"])
@each([(name, "muscl") for name in SMALL], NODES, CLOUDS)
def test_energies_agree(name, how, which):
    """With that of the first mesh, each within its own error, which is derived above: cells, nodes, draws and steps."""
    energy, error = of(name, "weno5" if name in NOISELESS else "scharfetter-gummel", which)
    other, own = of(name, how, which)
    assert abs(energy - other) <= error + own + 1e-12, (energy, other, error, own)


def test_every_shipped_problem_is_here():
    assert set(SMALL) == set(P.names())
