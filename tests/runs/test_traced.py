"""Pictures of characteristics: the density where the mass is, the energy, nodes where there is no density."""

import matplotlib as mpl
import numpy as np
import pytest
from smooth import PROBLEMS

import mfpde as mf
from mfpde.runs.panels import spread
from mfpde.runs.pictures import plot_density, plot_dissipation, plot_energy, plot_output
from mfpde.runs.traced import traced

mpl.use("agg")


@pytest.fixture(scope="module")
def line():
    return mf.characteristics(mf.problems.gaussian_bumps(), save=4, tolerance=1e-5, progress=False)


@pytest.fixture(scope="module")
def plane():
    problem = mf.problems.gaussian_bumps([(-1.0, -1.0), (1.0, 0.5)])
    return mf.characteristics(problem, save=3, tolerance=1e-4, progress=False)


@pytest.fixture(scope="module")
def atoms():
    bumps = mf.problems.gaussian_bumps([(-1.0, -1.0), (1.0, 0.5)])
    start = mf.Particles(np.random.default_rng(0).normal(0, 0.8, (20, 2)))
    problem = mf.Problem(energy=bumps.energy, axes=bumps.axes, initial=start, t_end=1.0, alpha=1.0)
    return mf.characteristics(problem, save=3, tolerance=1e-4, progress=False)


def titles(figure):
    return {ax.get_title() for ax in figure.axes}


def test_curves_are_the_density(line):
    ax = plot_density(line, [float(t) for t in line.times])
    assert len(ax.lines) == 4
    for curve, t in zip(ax.lines, line.times, strict=True):
        np.testing.assert_allclose(curve.get_ydata(), line.density_at(curve.get_xdata(), float(t)), rtol=1e-9)


def test_colours_are_the_density(plane):
    ax = plot_density(plane)
    (image,) = ax.get_images()
    left, right, bottom, top = image.get_extent()
    values = image.get_array()
    n = len(values)
    x, y = (low + (high - low) * (np.arange(n) + 0.5) / n for low, high in ((left, right), (bottom, top)))
    rows = np.stack([c.ravel() for c in np.meshgrid(x, y, indexing="ij")], axis=1)
    np.testing.assert_allclose(np.ravel(values.T), plane.density_at(rows), rtol=1e-9)


def test_the_mesh_holds_the_mass(plane):
    shown = traced(plane)
    for i in range(3):
        assert shown.density[i].sum() * shown.grid.cell_volume == pytest.approx(1.0, abs=1e-3)
    assert all(part.length < whole.length for part, whole in zip(shown.grid.axes, plane.problem.axes, strict=True))


def test_a_periodic_axis_is_shown_whole():
    found = mf.characteristics(PROBLEMS["periodic"], save=2, tolerance=1e-4, progress=False)
    assert traced(found).grid.axes == found.problem.axes


def test_marginals_are_those_of_a_solution(plane):
    shown = traced(plane)
    expected = shown.density[2].sum(axis=1) * shown.grid.spacing[1]
    np.testing.assert_allclose(shown.marginal("x"), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["line", "plane"])
def test_a_summary_is_drawn_and_written(kind, request, tmp_path):
    found = request.getfixturevalue(kind)
    figure = mf.plot(found, tmp_path / "run.png")
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert titles(figure) >= {
        "energy (no certificate: this is a run of nodes)",
        "dissipation: what lowers the energy",
    }
    nodes = f"{found.points.shape[1]} nodes along characteristics"
    assert any(nodes in text.get_text() and "compiled" in text.get_text() for text in figure.subfigs[0].texts)


def test_energy_and_dissipation(line):
    np.testing.assert_allclose(plot_energy(line).lines[0].get_ydata(), line.energy)
    transport, reaction = (np.asarray(curve.get_ydata()) for curve in plot_dissipation(line).lines)
    assert (transport[1], reaction[1]) == pytest.approx(line.dissipation(float(line.times[1])))


def test_output(line):
    ax = plot_output(line)
    curve = next(curve for curve in ax.lines if curve.get_label() == "t = 2")
    np.testing.assert_allclose(curve.get_ydata(), line.predict(np.asarray(curve.get_xdata())), rtol=1e-12)


def test_nodes_are_drawn_where_there_is_no_density(atoms):
    figure = mf.plot(atoms)
    assert titles(figure) >= {"nodes at t = 0", "nodes at t = 0.5", "nodes at t = 1"}
    with pytest.raises(ValueError, match="the density of 'problem' is not drawn: it has none"):
        plot_density(atoms)
    assert spread(traced(atoms), 2) == [0, 2]


def test_nodes_on_a_line():
    bumps = mf.problems.gaussian_bumps()
    start = mf.Particles(np.linspace(-1, 1, 5)[:, None])
    problem = mf.Problem(energy=bumps.energy, axes=bumps.axes, initial=start, t_end=1.0)
    found = mf.characteristics(problem, save=2, tolerance=1e-4, progress=False)
    ax = next(ax for ax in mf.plot(found).axes if ax.get_title() == "nodes at t = 1")
    np.testing.assert_allclose(ax.lines[0].get_xdata(), found.points[-1, :, 0])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.weights[-1])


def test_more_axes_show_their_nodes():
    bumps = mf.problems.gaussian_bumps([(-1.0, -1.0, 0.0), (1.0, 0.5, 0.0)])
    with pytest.warns(mf.RunWarning, match="known to"):
        found = mf.characteristics(bumps, 0.2, save=2, nodes=6, tolerance=1e-6, max_nodes=300, progress=False)
    figure = mf.plot(found)
    assert "nodes at t = 0.2" in titles(figure)
    assert "not converged" in figure._supxlabel.get_text()


def test_an_animation(plane, tmp_path):
    mf.animate(plane, tmp_path / "run.gif", axes=["x"], progress=False)
    assert (tmp_path / "run.gif").stat().st_size > 1000
