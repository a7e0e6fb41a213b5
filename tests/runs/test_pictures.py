"""Pictures: they show the solution's own numbers, name the axes, and change nothing outside themselves."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

import mfpde as mf
from mfpde.mesh.record import Result
from mfpde.mesh.solution import Solution
from mfpde.runs.pictures import animate, plot, plot_density, plot_dissipation, plot_energy, plot_output
from mfpde.support.files.beside import temporary_of


def network(p: int) -> mf.Problem:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, p))
    y = np.tanh(x @ np.arange(1.0, p + 1))
    return mf.problems.network(x if p > 1 else x[:, 0], y, half_width=2.5, t_end=0.2)


# runs of a few cells: what is looked at is their pictures
pytestmark = pytest.mark.filterwarnings("ignore:the start is .* cells wide:mfpde.RunWarning")


@pytest.fixture(scope="module")
def solutions() -> dict[int, Solution]:
    bumps = mf.problems.gaussian_bumps(centres=[[-1, 0], [1, 0.5]], half_width=4, initial_std=0.6)
    quiet = {"progress": False, "save": [0.05, 0.1, 0.15]}
    with pytest.warns(mf.RunWarning):
        many = mf.solve(network(2), shape=(5, 6, 7, 6), **quiet)
    return {
        1: mf.solve(mf.problems.linear_neuron(), shape=(60,), t_end=0.2, **quiet),
        2: mf.solve(bumps, shape=(16, 18), t_end=0.2, **quiet),
        3: mf.solve(network(1), shape=(9, 10, 11), **quiet),
        4: many,
    }


@pytest.fixture(scope="module")
def figures(solutions, tmp_path_factory) -> dict[int, tuple[Figure, np.ndarray]]:
    """The summary of each solution, and its picture: drawing is what takes time here."""
    path = tmp_path_factory.mktemp("figures") / "run.png"
    return {n: (plot(solution, path), pixels(path)) for n, solution in solutions.items()}


def panels(figure: Figure) -> dict[str, object]:
    """The axes of a figure by their titles, or by their labels."""
    return {ax.get_title() or f"{ax.get_xlabel()}|{ax.get_ylabel()}": ax for ax in figure.axes}


def line(ax, label: str):
    return {one.get_label(): one for one in ax.lines}[label]


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# ----- whole figures


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_a_summary_is_drawn_and_written(solutions, figures, dimension):
    solution = solutions[dimension]
    figure, image = figures[dimension]
    assert isinstance(figure, Figure)
    assert image.shape[:2] == tuple(int(150 * size) for size in figure.get_size_inches()[::-1])
    assert image.std() > 20
    labels = {ax.get_xlabel() for ax in figure.axes} | {ax.get_ylabel() for ax in figure.axes}
    assert labels >= {axis.name for axis in solution.grid.axes}
    titles = panels(figure)
    assert {"energy and its certificate", "dissipation: what lowers the energy"} <= titles.keys()
    assert any(title.startswith("network output") for title in titles) is (dimension != 2)
    texts = [text.get_text() for sub in figure.subfigs for text in sub.texts]
    assert texts[0] == solution.name
    assert " × ".join(map(str, solution.grid.shape)) + " cells" in texts[1]


def test_other_formats(solutions, tmp_path):
    plot(solutions[2], str(tmp_path / "run.svg"))
    assert "<svg" in (tmp_path / "run.svg").read_text()[:1000]
    with pytest.raises(FileNotFoundError):
        plot(solutions[2], tmp_path / "nowhere" / "run.png")


def test_a_run_of_one_dimension_shows_its_curves(solutions, figures):
    solution = solutions[1]
    ax = panels(figures[1][0])["theta|density"]
    assert len(ax.lines) == 5
    for drawn, density in zip(ax.lines, solution.density, strict=True):
        assert np.array_equal(drawn.get_xdata(), solution.grid.centres(0))
        assert np.array_equal(drawn.get_ydata(), density)
    assert len({tuple(drawn.get_color()) for drawn in ax.lines}) == 5
    assert len(panels(plot(solution, times=[0.1, 0.2]))["theta|density"].lines) == 2


def test_a_run_of_two_dimensions_shows_small_multiples_on_one_scale(solutions):
    solution = solutions[2]
    figure = plot(solution, times=[0.0, 0.1, 0.2])
    images = [ax.images[0] for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["t = 0", "t = 0.1", "t = 0.2"]
    for image, i in zip(images, (0, 2, 4), strict=True):
        assert np.array_equal(image.get_array(), solution.density[i].T)
        assert list(image.get_extent()) == [-4, 4, -4, 4]
        assert image.origin == "lower"
    assert len({id(image.norm) for image in images}) == 1
    assert images[0].norm.vmax == solution.density[[0, 2, 4]].max()
    assert len([ax for ax in plot(solution).axes if ax.images]) == 4


@pytest.mark.parametrize("dimension", [3, 4])
def test_more_dimensions_show_every_pair(solutions, dimension):
    solution = solutions[dimension]
    names = [axis.name for axis in solution.grid.axes]
    figure = plot(solution, times=[float(solution.times[3])])
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    pairs = [(a, b) for j, b in enumerate(names) for a in names[:j]]
    assert len(images) == len(pairs)
    for image, pair in zip(images, pairs, strict=True):
        assert np.array_equal(image, solution.marginal(*pair, t=solution.times[3]).T)
    diagonal = [ax for ax in figure.axes if ax.lines and not ax.get_title()]
    assert len(diagonal) == dimension
    for ax, name in zip(diagonal, names, strict=True):
        assert np.array_equal(ax.lines[0].get_ydata(), solution.marginal(name, t=0.0))
        assert np.array_equal(ax.lines[1].get_ydata(), solution.marginal(name, t=solution.times[3]))


def test_what_the_run_wants_looked_at_is_in_the_picture(solutions, figures):
    assert figures[1][0].get_supxlabel() == ""
    warned = dataclasses.replace(solutions[1], warnings=["mass leaks " * 20, "another"], result=Result.INTERRUPTED)
    note = plot(warned).get_supxlabel()
    assert note.startswith("warning: interrupted: ")
    assert "(and 2 more)" in note
    assert figures[4][0].get_supxlabel().startswith("warning: ")


def test_wrong_times_are_refused(solutions):
    with pytest.raises(ValueError, match=r"t = 0\.123 is no save time"):
        plot(solutions[1], times=[0.123])
    with pytest.raises(ValueError, match="times is empty"):
        plot(solutions[1], times=[])


def test_a_run_that_has_not_begun_is_drawn(solutions):
    full = solutions[1]
    start = dataclasses.replace(
        full,
        times=full.times[:1],
        density=full.density[:1],
        energy=full.energy[:1],
        diagnostics={name: values[:1] for name, values in full.diagnostics.items()},
        response=full.response[:1],
        problem=None,
    )
    figure = plot(start)
    figure.draw_without_rendering()
    assert len(figure.axes) == 3
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), full.density[0])


# ----- single panels


def test_density_over_any_axes(solutions):
    solution = solutions[3]
    ax = plot_density(solution, axes=("b", "c"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("b", "c")
    assert np.array_equal(ax.images[0].get_array(), solution.marginal("b", "c").T)
    ax = plot_density(solution, t=0.0, axes=["a"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "marginal density")
    assert np.array_equal(ax.lines[0].get_ydata(), solution.marginal("a", t=0.0))
    assert plot_density(solutions[2]).get_title() == "t = 0.2"
    for wrong in (None, ["c", "c"], ["d"], [], ["c", "a", "b"]):
        with pytest.raises(ValueError, match="one or two of the axes"):
            plot_density(solution, axes=wrong)
    with pytest.raises(ValueError, match="one for colours"):
        plot_density(solutions[2], t=[0.0, 0.1])


def test_the_window_holds_the_density(solutions):
    wide = mf.Problem(
        energy=mf.Confinement(x=1.0),
        axes=[mf.Axis("x", -50, 50)],
        initial=mf.Product(x=stats.norm(10, 1)),
        t_end=0.1,
        alpha=1.0,
    )
    low, high = plot_density(mf.solve(wide, shape=(400,), progress=False)).get_xlim()
    assert 4 < low < 8
    assert 10 < high < 14
    assert plot_density(solutions[1], axes=["theta"]).get_xlim()[0] >= solutions[1].grid.axes[0].lower
    circle = dataclasses.replace(solutions[1], grid=mf.Grid([mf.Axis("theta", -50, 50, mf.End.PERIODIC)], (60,)))
    assert plot_density(circle).get_xlim() == (-50, 50)


def test_concentrating_densities_get_a_logarithmic_scale(solutions):
    spike = copy.deepcopy(solutions[1])
    spike.density[-1] = 0.0
    spike.density[-1, 20] = 100.0
    figure = plot(spike)
    figure.draw_without_rendering()
    ax = next(ax for ax in figure.axes if ax.get_xlabel() == "theta")
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "density (log scale)"
    assert np.nanmax(ax.lines[-1].get_ydata()) == 100.0
    assert np.isnan(ax.lines[-1].get_ydata()).sum() == 59
    plane = copy.deepcopy(solutions[2])
    plane.density[-1] = 0.0
    plane.density[-1, 3, 4] = 50.0
    figure = plot(plane)
    figure.draw_without_rendering()
    norms = [ax.images[0].norm for ax in figure.axes if ax.images]
    assert all(isinstance(norm, LogNorm) and norm.vmax == 50.0 for norm in norms)
    assert 0 < norms[0].vmin < solutions[2].density[0].max() / 100
    plane.density[:] = 0.0
    plot_density(plane).figure.draw_without_rendering()
    assert panels(plot(solutions[1]))["theta|density"].get_yscale() == "linear"


def test_a_band_shows_the_estimated_error():
    """From the energy less its error to the energy and its error, at the save times."""
    solution = mf.solve(mf.problems.quadratic_well(), 60, estimate=True, progress=False)
    ax = plot_energy(solution)
    assert "estimated error" in [text.get_text() for text in ax.get_legend().get_texts()]
    (band,) = ax.collections
    low, high = band.get_paths()[0].get_extents().get_points()
    assert (low[0], high[0]) == (solution.times[0], solution.times[-1])
    assert high[1] == pytest.approx((solution.energy + solution.energy_error).max())
    assert low[1] == pytest.approx(max((solution.energy - solution.energy_error).min(), 0.01 * high[1]), rel=0.5)
    assert not plot_energy(dataclasses.replace(solution, errors=None)).collections


def test_energy_and_certificate(solutions):
    solution = solutions[2]
    ax = plot_energy(solution)
    assert (ax.get_xlabel(), ax.get_yscale()) == ("time t", "log")
    for label, column in (("E", "energy"), ("optimality gap", "optimality_gap")):
        assert np.array_equal(line(ax, label).get_xdata(), solution.diagnostics["time"])
        assert np.array_equal(line(ax, label).get_ydata(), solution.diagnostics[column])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["E", "optimality gap"]
    marked = line(ax, "_saved")
    assert np.array_equal(marked.get_xdata(), solution.times)
    assert np.array_equal(marked.get_ydata(), solution.energy)


def test_energy_is_drawn_above_its_minimum(solutions):
    neuron = solutions[1]
    ax = plot_energy(neuron)
    drawn = line(ax, "E (min E = 0)").get_ydata()
    assert np.array_equal(drawn, neuron.diagnostics["energy"])
    exact = line(ax, "closed form")
    assert exact.get_ydata()[-1] == neuron.problem.exact["energy"](0.2)

    wells = mf.solve(mf.problems.double_well(), shape=(60,), t_end=0.3, progress=False)
    drawn = line(plot_energy(wells), "E − min E").get_ydata()
    assert np.array_equal(drawn, wells.diagnostics["energy"] - wells.problem.exact["minimum_energy"])
    unknown = dataclasses.replace(wells, problem=None)
    shifted = {**wells.diagnostics, "energy": wells.diagnostics["energy"] - 5.0}
    unknown = dataclasses.replace(unknown, diagnostics=shifted, energy=wells.energy - 5.0)
    drawn = line(plot_energy(unknown), "E − E(t = 0.3)").get_ydata()
    assert np.array_equal(drawn[:-1], shifted["energy"][:-1] - shifted["energy"][-1])
    assert np.isnan(drawn[-1])


def test_dissipation_is_split(solutions):
    ax = plot_dissipation(solutions[1])
    d = solutions[1].diagnostics
    assert np.array_equal(line(ax, "transport").get_ydata(), d["dissipation_transport"])
    assert np.array_equal(line(ax, "birth and death").get_ydata(), d["dissipation_reaction"])
    assert ax.get_yscale() == "log"
    still = dataclasses.replace(solutions[1], diagnostics={**d, "dissipation_reaction": 0.0 * d["time"]})
    assert [one.get_label() for one in plot_dissipation(still).lines] == ["transport"]
    dead = dataclasses.replace(still, diagnostics={**still.diagnostics, "dissipation_transport": -d["time"]})
    assert plot_dissipation(dead).get_yscale() == "linear"


def test_output_against_target(solutions):
    solution = solutions[1]
    x = solution.problem.network.inputs
    ax = plot_output(solution, t=0.1)
    assert np.array_equal(line(ax, "target").get_xdata(), x)
    assert np.array_equal(line(ax, "target").get_ydata(), 2.0 * x)
    assert np.array_equal(line(ax, "t = 0.1").get_ydata(), solution.predict(x, 0.1))
    assert np.array_equal(line(ax, "t = 0").get_ydata(), solution.predict(x, 0.0))
    assert [one.get_label() for one in plot_output(solution, t=0.0).lines] == ["target", "t = 0"]


def test_output_against_data(solutions):
    solution = solutions[3]
    term = solution.problem.energy
    ax = plot_output(solution)
    assert np.array_equal(line(ax, "data").get_xdata(), term.x[:, 0])
    assert np.array_equal(line(ax, "data").get_ydata(), term.y)
    drawn = line(ax, "t = 0.2")
    assert np.all(np.diff(drawn.get_xdata()) > 0)
    assert drawn.get_xdata()[[0, -1]].tolist() == [term.x.min(), term.x.max()]
    assert np.allclose(drawn.get_ydata(), solution.predict(drawn.get_xdata()), rtol=1e-14)

    many = solutions[4]
    term = many.problem.energy
    ax = plot_output(many)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true value", "predicted value")
    assert np.array_equal(ax.lines[1].get_xdata(), term.y)
    assert np.array_equal(ax.lines[1].get_ydata(), many.predict(term.x))


def test_several_outputs(tmp_path):
    x = np.linspace(-1, 1, 9)
    problem = mf.problems.network(x, np.stack([x, -x], axis=1), bias=False, half_width=2.0, t_end=0.1)
    problem = dataclasses.replace(problem, energy=problem.energy + mf.Confinement(a=0.1))
    solution = mf.solve(problem, shape=(8, 8, 8), save=3, progress=False)
    ax = plot_output(solution)
    second = line(ax, "t = 0.1, output 2")
    assert np.allclose(second.get_ydata(), solution.predict(second.get_xdata())[:, 1], rtol=1e-14)
    animate(solution, tmp_path / "run.gif", axes=["a"])


def test_output_needs_a_network(solutions):
    for solution in (solutions[2], dataclasses.replace(solutions[1], problem=None)):
        with pytest.raises(ValueError, match="names no network with inputs"):
            plot_output(solution)


def test_panels_are_drawn_where_told(solutions):
    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    assert plot_density(solutions[1], ax=axes[0]) is axes[0]
    assert plot_energy(solutions[1], ax=axes[1]) is axes[1]
    assert plot_dissipation(solutions[1], ax=axes[2]) is axes[2]
    assert plot_output(solutions[1], ax=axes[3]) is axes[3]
    assert plot_energy(solutions[1]).figure is not figure


# ----- animation


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_an_animation_has_one_frame_a_save(solutions, tmp_path, dimension):
    path = tmp_path / "run.gif"
    animate(solutions[dimension], path, frames_per_second=5, progress=False)
    with Image.open(path) as image:
        assert image.n_frames == 5
        assert image.info["duration"] == 200
    assert [file.name for file in tmp_path.iterdir()] == ["run.gif"]


def test_an_animation_of_any_name_removes_what_a_kill_has_left(solutions, tmp_path):
    path = tmp_path / ("\N{GRINNING FACE}" * 62 + ".gif")  # 252 bytes
    temporary_of(path, ".gif").write_bytes(b"half")
    animate(solutions[1], path, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_animation_over_one_axis_with_progress(solutions, tmp_path, capsys):
    animate(solutions[2], tmp_path / "run.gif", axes=["y"], progress=True)
    assert "frames" in capsys.readouterr().err
    with Image.open(tmp_path / "run.gif") as image:
        assert image.n_frames == 5


def test_animations_that_cannot_be_written(solutions, tmp_path, monkeypatch):
    from matplotlib.animation import FFMpegWriter, PillowWriter

    with pytest.raises(ValueError, match=r"a \.gif or a \.mp4, not 'run\.avi'"):
        animate(solutions[1], tmp_path / "run.avi")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        animate(solutions[1], tmp_path / "nowhere" / "run.gif")
    with pytest.raises(ValueError, match="must be positive"):
        animate(solutions[1], tmp_path / "run.gif", frames_per_second=0)
    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(ValueError, match="needs the program ffmpeg"):
        animate(solutions[1], tmp_path / "run.mp4")

    grab = PillowWriter.grab_frame

    def failing(self, **kwargs):
        if self._frames:
            raise RuntimeError("no more")
        grab(self, **kwargs)

    monkeypatch.setattr(PillowWriter, "grab_frame", failing)
    with pytest.raises(RuntimeError, match="no more"):
        animate(solutions[1], tmp_path / "run.gif")
    assert list(tmp_path.iterdir()) == []


# ----- nothing outside


def test_global_state_is_left_alone(solutions, tmp_path):
    before = dict(mpl.rcParams)
    plot(solutions[2]).draw_without_rendering()
    plot_energy(solutions[1])
    animate(solutions[1], tmp_path / "run.gif")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_even_loaded(solutions, tmp_path):
    run, picture, film = (str(tmp_path / name) for name in ("run.h5", "run.png", "run.gif"))
    solutions[1].save(run)
    code = (
        "import sys, mfpde as mf; s = mf.load(sys.argv[1]); assert 'matplotlib' not in sys.modules\n"
        "mf.plot(s, sys.argv[2]); mf.animate(s, sys.argv[3]); print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, run, picture, film], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert (tmp_path / "run.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def game():
    return mf.solve(mf.problems.two_player_game(), 32, 1.0, estimate=False, progress=False)


class TestSpecies:
    """A panel a species."""

    def test_each_species_has_a_panel_and_there_is_no_energy_that_falls(self, game, tmp_path):
        figure = mf.plot(game, tmp_path / "game.png")
        texts = [text.get_text() for part in figure.findobj(lambda a: hasattr(a, "get_text")) for text in [part]]
        assert {"left", "right"} <= set(texts)
        titles = [ax.get_title() for ax in figure.axes]
        assert "the value E, of which V is not the first variation" in titles
        assert "regret: mean less minimum of V, summed over species" in titles
        curves = [ax for ax in figure.axes if ax.get_xlabel() == "x"]
        drawn = [np.stack([line.get_ydata() for line in ax.lines]) for ax in curves]
        for k in (0, 1):
            np.testing.assert_array_equal(drawn[k][-1], game.density[-1][k])

    def test_one_species_or_all_together(self, game):
        alone = plot_density(game, species="right").lines[0].get_ydata()
        np.testing.assert_array_equal(alone, game.density[-1][1])
        both = plot_density(game).lines[0].get_ydata()
        np.testing.assert_allclose(both, game.density[-1].sum(axis=0), rtol=1e-14)
        with pytest.raises(ValueError, match="no species 'middle'; valid: left, right"):
            plot_density(game, species="middle")

    def test_characteristics_and_animations_too(self, game, tmp_path):
        nodes = mf.characteristics(mf.problems.two_player_game(), 0.5, save=2, tolerance=1e-4, progress=False)
        titles = [ax.get_title() for ax in mf.plot(nodes).axes]
        assert "dissipation: what lowers the energy" not in titles
        animate(game, tmp_path / "game.gif", progress=False)
        assert (tmp_path / "game.gif").stat().st_size > 1000
