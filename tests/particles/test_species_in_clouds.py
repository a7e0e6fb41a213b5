"""Several measures as particles and nodes: each keeps its mass, at its own speed."""

import numpy as np
import pytest
from scipy import stats

import mfpde as mf

P = mf.particles
WELL = mf.Confinement(x=1.0)
SEEN = mf.Interaction(mf.SeparableKernel(k=mf.SpeciesKernel([[1, 0.4], [0.4, 2]]), x=mf.CosineKernel([1.0, 0.5])), 2.0)


def problem(energy=WELL, scales=None, **named):
    axes = [mf.Species("k", ("a", "b"), scales), mf.Axis("x", -5, 5)]
    start = mf.PerSpecies(a=(3, mf.Product(x=stats.norm(1.0, 0.5))), b=mf.Product(x=stats.norm(-0.5, 0.7)))
    return mf.Problem(energy, axes, start, **named)


def masses(nodes):
    return [[w[x[:, 0] == k].sum() for k in (0, 1)] for x, w in zip(nodes.points, nodes.weights, strict=True)]


CONTROLS = [
    [P.GradientDescent(), P.BirthDeath()],
    [P.GradientDescent(), P.BirthDeath(control=P.PopulationControl.PARTNER)],
    [P.GradientDescent(), P.Weights()],
    [P.GradientDescent(), P.Weights(resample=0.95)],
]


@pytest.mark.parametrize("dynamics", CONTROLS, ids=repr)
def test_births_and_deaths_stay_within_a_species(dynamics):
    """Normal laws in V = x^2/2 at speed s: m' = -s (1 + alpha v) m, v' = -s (2 v + alpha v^2)."""
    made = problem(scales=(1.0, 2.0), alpha=2.0, t_end=0.3)
    apart = mf.PerSpecies(a=(3, mf.Product(x=stats.norm(2.0, 0.5))), b=mf.Product(x=stats.norm(-2.0, 0.7)))
    made = made.replace(axes=[made.axes[0], mf.Axis("x", -8, 8)], initial=apart)
    cloud = P.simulate(made, 12000, dt=0.005, dynamics=dynamics, replicas=4, seed=5, progress=False)
    label, x = cloud.positions[:, -1, :, 0], cloud.positions[:, -1, :, 1]
    weights = np.full(x.shape, 1 / 12000) if cloud.weights is None else cloud.weights[:, -1]
    for k, (mean, deviation, s, share) in enumerate(((2.0, 0.5, 1.0, 0.75), (-2.0, 0.7, 2.0, 0.25))):
        own = weights * (label == k)
        np.testing.assert_allclose(own.sum(axis=1), share, rtol=0, atol=1e-12)
        # 1/v is linear in e^(2 s t), and m e^(-s t) / v stays as it is
        grown = np.exp(2 * s * 0.3)
        v = 1 / (grown / deviation**2 + 2.0 * (grown - 1) / 2)
        m = mean * np.exp(-s * 0.3) * (v * grown / deviation**2)
        found = (own * x).sum() / own.sum()
        # five errors of 48000 draws in these shares, half as much again where weights differ, and the bias of the step
        error = 5 * deviation / np.sqrt(48000 * share) * 1.5 + 0.005
        assert found == pytest.approx(m, abs=error)
        # the reaction shows, and at the species' own speed: with half of it the mean would be that
        v = 1 / (grown / deviation**2 + (grown - 1) / (2 if s == 2 else 1))
        slower = mean * np.exp(-s * 0.3) * (v * grown / deviation**2)
        assert abs(mean * np.exp(-s * 0.3) - m) > 2 * error
        assert s == 1 or abs(slower - m) > 1.5 * error


def test_a_cloud_goes_on_as_it_would_have(tmp_path):
    made = problem(SEEN + WELL, alpha=1.0, t_end=0.2)
    given = {"dt": 0.01, "seed": 1, "save": 5, "progress": False}
    seen = []

    def stops(x, w):
        seen.append(x[0])
        if len(seen) == 3:
            raise KeyboardInterrupt
        return x[0]

    whole = P.simulate(made, 200, observe={"first": lambda x, w: x[0]}, **given)
    kept = {"checkpoint": tmp_path / "cloud.npz", "checkpoint_every": 0.0}
    with pytest.raises(KeyboardInterrupt):
        P.simulate(made, 200, observe={"first": stops}, **kept, **given)
    again = P.simulate(made, 200, observe={"first": lambda x, w: x[0]}, **kept, **given)
    assert np.array_equal(whole.positions, again.positions)
    assert not kept["checkpoint"].exists()
    assert np.array_equal(np.count_nonzero(whole.positions[0, :, :, 0] == 0, axis=-1), [150] * len(whole.times))


def test_what_particles_cannot_do_they_refuse():
    made = problem(alpha=1.0, temperature=0.1, reaction="free-energy")
    with pytest.raises(ValueError, match="particles estimate one density, and Species"):
        P.simulate(made, 10, dt=0.1, progress=False)


@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
@pytest.mark.parametrize("balance", ["each", "all"])
def test_nodes_keep_the_mass_of_each_and_agree_with_the_mesh(balance):
    scales = (1.0, 2.0) if balance == "each" else None
    made = problem(SEEN + WELL, scales=scales, alpha=1.0, t_end=0.4, balance=balance)
    nodes = mf.characteristics(made, tolerance=1e-6, progress=False)
    run = mf.solve(made, 160, controller=mf.ErrorControl(1e-7), estimate=False, progress=False)
    if balance == "each":
        np.testing.assert_allclose(masses(nodes), [[0.75, 0.25]] * len(nodes.times), rtol=0, atol=1e-12)
    else:
        found = [run.diagnostics[f"mass_{label}"][-1] for label in "ab"]
        np.testing.assert_allclose(masses(nodes)[-1], found, rtol=1e-5)
        assert abs(found[0] - 0.75) > 0.01
    assert nodes.energy[-1] == pytest.approx(run.energy[-1], rel=1e-5)
    some = slice(64, 96, 8)
    points = run.grid.points().reshape(2, 160, 2)[:, some]
    found = nodes.density_at(points.reshape(-1, 2)).reshape(2, 4)
    np.testing.assert_allclose(found, run.density[-1][:, some], atol=2e-4)
    # what the energy loses is its slope, by differences of it on the mesh
    d = run.diagnostics
    lost = d["dissipation_transport"][0], d["dissipation_reaction"][0]
    np.testing.assert_allclose(nodes.dissipation(0.0), lost, rtol=1e-3)
    early = (d["energy"][0] - d["energy"][1]) / (d["time"][1] - d["time"][0])
    assert sum(lost) == pytest.approx(early, rel=0.1)
    points, weights = nodes.nodes_at(0.37)
    assert weights[points[:, 0] == 0].sum() == pytest.approx(masses(nodes)[-1][0], rel=2e-2)


def test_densities_of_nodes_of_species_that_react_one_by_one():
    """Without transport the law of each is mu_0 exp(-alpha s t V), at its mass."""
    made = problem(scales=(1.0, 3.0), metric=[0.0], alpha=1.5, t_end=0.5)
    nodes = mf.characteristics(made, tolerance=1e-8, progress=False)
    x = np.linspace(-2, 2, 41)
    for k, (law, s, share) in enumerate(((stats.norm(1.0, 0.5), 1.0, 0.75), (stats.norm(-0.5, 0.7), 3.0, 0.25))):
        points = np.stack([np.full(41, float(k)), x], axis=1)
        fine = np.linspace(-5, 5, 20001)
        tilted = law.pdf(fine) * np.exp(-1.5 * s * 0.5 * fine**2 / 2)
        exact = law.pdf(x) * np.exp(-1.5 * s * 0.5 * x**2 / 2) * share / (tilted.sum() * (fine[1] - fine[0]))
        np.testing.assert_allclose(nodes.density_at(points), exact, rtol=1e-5)
