"""Several measures on a mesh: nothing moves along labels, and each keeps its mass."""

import itertools

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.cli.solutions import report

# coarse meshes and small boxes serve here: what is compared has the same
pytestmark = [
    pytest.mark.filterwarnings("ignore::mfpde.RunWarning"),
    pytest.mark.filterwarnings("ignore::mfpde.TruncationWarning"),
]

NARROW, WIDE = stats.norm(0.2, 0.3), stats.norm(-0.1, 0.5)
AXES = {"k": mf.Species("k", ("a", "b"), (1.0, 2.5)), "x": mf.Axis("x", -2, 2), "y": mf.Axis("y", -2, 2)}
FINE = mf.ErrorControl(1e-7)


def pairs(table, **kernels):
    return mf.SeparableKernel(k=mf.SpeciesKernel(table), **kernels)


def problem(order="kxy", **named):
    kernel = pairs([[1, 0.4], [0.4, 2]], x=mf.GaussianKernel(0.5), y=mf.GaussianKernel(0.5))
    start = mf.PerSpecies(a=(2, mf.Product(x=NARROW, y=WIDE)), b=mf.Product(x=WIDE, y=NARROW))
    return mf.Problem(mf.Interaction(kernel, 2.0) + mf.Confinement(x=0.5), [AXES[i] for i in order], start, **named)


def line(energy=None, scales=None, **named):
    axes = [mf.Species("k", ("a", "b"), scales), mf.Axis("x", -4, 4)]
    start = mf.PerSpecies(a=mf.Product(x=stats.norm(0.5, 0.5)), b=mf.Product(x=stats.norm(-0.5, 0.7)))
    return mf.Problem(mf.Confinement(x=1.0) if energy is None else energy, axes, start, **named)


def drift(solution):
    masses = [values for name, values in solution.diagnostics.items() if name.startswith("mass_")]
    return max(float(np.abs(values / values[0] - 1).max()) for values in masses)


@pytest.mark.parametrize("scheme", [mf.Weno5(), mf.Muscl(), mf.Upwind(), mf.ScharfetterGummel()], ids=lambda s: s.name)
def test_the_place_of_the_labels_changes_nothing_and_neither_does_the_algebra(scheme):
    named = {"alpha": 1.0, "t_end": 0.02, "temperature": 0.1 if isinstance(scheme, mf.ScharfetterGummel) else 0.0}
    made = []
    for order, algebra in itertools.product(("kxy", "xky", "xyk"), (None, mf.NumpyAlgebra())):
        if algebra is None or order == "kxy":
            run = mf.solve(problem(order, **named), 12, scheme=scheme, algebra=algebra, estimate=False, progress=False)
            made.append(run.marginal("k", "x", "y"))
            assert drift(run) < 1e-12
            assert run.diagnostics["minimum"].min() >= 0
    assert max(np.abs(other - made[0]).max() for other in made[1:]) < 1e-12


@pytest.mark.parametrize("axes", ["kx", "xk"])
def test_no_fluxes_along_labels(axes):
    grid = mf.Grid([AXES[i] for i in axes], 12)
    rng = np.random.default_rng(0)
    mu, V = rng.random(grid.shape), 1e3 * rng.standard_normal(grid.shape)
    k = axes.index("k")
    for make in (mf.Transport, mf.NumpyTransport):
        for scheme in (mf.Weno5(), mf.Muscl(), mf.ScharfetterGummel()):
            transport = make(grid, scheme)
            tau = 0.1 * isinstance(scheme, mf.ScharfetterGummel)
            fluxes = transport.fluxes(mu, V, temperature=tau)
            assert not fluxes[k].any()
            assert fluxes[1 - k].any()
            rate = transport.rate(mu, V, temperature=tau)
            assert np.abs(rate.sum(axis=1 - k)).max() < 1e-9 * np.abs(rate).max()
            assert transport.diffusion_rate == make(mf.Grid([AXES["x"]], 12), scheme).diffusion_rate
    with pytest.raises(ValueError, match="nothing moves along Species"):
        mf.Transport(grid, mf.ScharfetterGummel()).implicit(k, mu, V, 0.1, 0.1)


def test_species_that_do_not_see_each_other_are_runs_of_their_own():
    """At the speed of their scales, the reaction and the noise included."""
    own = mf.Interaction(pairs([[1, 0], [0, 2]], x=mf.GaussianKernel(1.0)), 4.0) + mf.Confinement(x=1.0)
    named = {"alpha": 0.7, "temperature": 0.2, "reaction": "free-energy"}
    both, implicit = (
        mf.solve(line(own, (1.0, 2.0), t_end=0.4, **named), 80, scheme=scheme, controller=FINE, progress=False)
        for scheme in (mf.Weno5(), mf.ScharfetterGummel())
    )
    for k, (law, factor) in enumerate(((stats.norm(0.5, 0.5), 1.0), (stats.norm(-0.5, 0.7), 2.0))):
        energy = mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(1.0)), 2.0 * factor) + mf.Confinement(x=1.0)
        alone = mf.Problem(energy, mf.Axis("x", -4, 4), mf.Product(x=law), t_end=0.4 * factor, **named)
        run = mf.solve(alone, 80, scheme=mf.Weno5(), method=mf.Strang(), controller=FINE, progress=False)
        assert np.abs(2 * both.density[-1][k] - run.density[-1]).max() < 2e-6
        assert np.abs(2 * implicit.density[-1][k] - run.density[-1]).max() < 2e-3


def test_the_mean_potential_is_that_of_each_species_or_of_all():
    """With V = x^2/2 alone, for each: exp(-alpha t x^2/2) at the mass that it has; for all, at that of both."""
    x = mf.Grid([mf.Axis("x", -4, 4)], 64).centres(0)
    gained = np.exp(-0.5 * 1.5 * 0.2 * x**2)
    for balance in ("each", "all"):
        made = line(alpha=1.5, metric=[0.0], t_end=0.2, balance=balance)
        run = mf.solve(made, 64, controller=mf.FixedStep(0.02), progress=False)
        expected = run.density[0] * gained
        mass = expected.sum(axis=1, keepdims=True)
        expected = expected / (2 * mass if balance == "each" else mass.sum()) / run.grid.cell_volume
        assert np.abs(run.density[-1] - expected).max() < 1e-12
        assert (drift(run) < 1e-13) == (balance == "each")
    with pytest.raises(ValueError, match="ExponentialSSPRK3 does not integrate the reaction of each species"):
        mf.Solver(line(alpha=1.5), 64, method=mf.ExponentialSSPRK3())


def test_the_default_scheme_does_not_depend_on_the_mesh():
    """It is that of one measure of the same kind, also where the mesh is coarser than the one that is looked at."""
    made = line(temperature=0.03, t_end=3.0)
    start = mf.Product(x=stats.norm(0.5, 0.5))
    alone = mf.Problem(mf.Confinement(x=1.0), mf.Axis("x", -4, 4), start, temperature=0.03, t_end=3.0)
    schemes = [mf.Solver(problem, n).scheme for problem in (made, alone) for n in (16, 128)]
    assert schemes == [mf.ScharfetterGummel()] * 4


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_certificates_are_over_measures_of_the_same_masses(temperature):
    """In wells of other depths: where they may not change places, the minimum is that of each."""
    wells = mf.External(lambda k, x: 0.5 * x**2 + 3.0 * k)
    run = mf.solve(line(wells, temperature=temperature, t_end=6.0), 64, progress=False)
    least = 1.5 if temperature == 0 else 1.5 - 0.3 * np.log(2 * np.sqrt(2 * np.pi * 0.3))
    gap, energy = run.diagnostics["optimality_gap"], run.energy
    assert gap[-1] < 0.05
    assert np.all(gap[[0, -1]] >= energy[[0, -1]] - least - 2e-2)
    assert energy[-1] - least < 2e-2


def test_a_game_records_its_regret_and_no_certificate():
    """Of l = x y with laws of means 1/2 and -1/2: max_y x0 y - min_x x y0 over |x|, |y| <= 4 - h/2."""
    payoff = mf.Interaction(pairs([[0, 1], [1, 0]], x=mf.LinearKernel()), 2.0)
    run = mf.solve(line(mf.BySpecies(payoff, a=1, b=-1), t_end=0.2), 64, progress=False)
    edge = 4 - 4 / 64
    assert abs(run.diagnostics["regret"][0] - (0.5 * edge + 0.5 * edge)) < 1e-3
    assert np.isnan(run.diagnostics["optimality_gap"]).all()
    assert "no certificate" in run.summary()["optimality gap"]
    assert run.summary()["regret"].startswith("3.93")
    assert "regret" not in mf.solve(line(), 16, 0.01, progress=False).diagnostics


def test_files_and_labels_know_species(tmp_path):
    run = mf.solve(problem("xky", t_end=0.02), 12, progress=False, output=tmp_path / "run.h5")
    again = mf.load(tmp_path / "run.h5")
    assert again.grid == run.grid
    assert isinstance(again.grid.axes[1], mf.Species)
    assert again.grid.axes[1].scales == (1.0, 2.5)
    assert np.array_equal(again.diagnostics["mass_b"], run.diagnostics["mass_b"])
    assert mf.verify(tmp_path / "run.h5").ok
    data = run.to_xarray()
    assert data["density"].sel(k="b").dims == ("time", "x", "y")
    assert np.array_equal(data["density"].sel(k="b").values, np.asarray(run.density)[:, :, 1])
    longer = mf.resume(run, problem=problem("xky", t_end=0.02), t_end=0.04, progress=False)
    whole = mf.solve(problem("xky", t_end=0.04), 12, save=longer.times, progress=False)
    assert np.abs(longer.density[-1] - whole.density[-1]).max() < 1e-6


def test_a_mesh_is_found_for_an_accuracy_and_particles_are_compared():
    """Along labels there is nothing to refine, and no law to be far from."""
    made = mf.problems.two_player_game(t_end=1.0)
    run = mf.solve(made, tolerance=1e-3, progress=False)
    assert run.grid.shape[0] == 2
    assert run.grid.shape[1] >= 24
    assert np.isfinite(run.energy_error).all()
    assert run.warnings == []
    said = mf.compare(run, sizes=[20, 80], replicas=4, dt=0.1, seed=1, progress=False)
    assert {"energy", "cosine of x", "W1 of x"} <= set(said.findings)
    assert not any("player" in name for name in said.findings)


def test_tables_show_the_regret():
    run = mf.solve(mf.problems.two_player_game(), 16, 0.1, save=2, estimate=False, progress=False)
    text = report(run)
    head, *rows = text[text.index("    t") :].splitlines()
    assert head.split()[:4] == ["t", "energy", "regret", "mass"]
    assert float(rows[0].split()[2]) == pytest.approx(run.diagnostics["regret"][0], rel=1e-2)
    assert "energy increase" not in text


@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_a_species_may_be_without_mass(temperature):
    """Then the other one is alone."""
    axes, named = [mf.Species("k", ("a", "b")), mf.Axis("x", -4, 4)], {"alpha": 1.0, "temperature": temperature}
    made = mf.Problem(mf.Confinement(x=1.0), axes, mf.Dirac(k=0, x=1.0), reaction="free-energy", **named)
    run = mf.solve(made, 32, 0.2, scheme=mf.Muscl(), estimate=False, progress=False)
    d = run.diagnostics
    assert np.all(d["mass_b"] == 0.0)
    assert np.isfinite(d["energy"]).all()
    assert np.isfinite(d["dissipation_reaction"][:-1]).all()
    assert np.isfinite(d["optimality_gap"]).all()
