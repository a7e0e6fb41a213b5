"""Species in boxes of their own are those in one box that holds all, in all discretisations."""

import pickle
import re

import numpy as np
import pytest
from scipy import stats

import mfpde as mf

SPECIES = mf.Species("k", ("a", "b"), (1.0, 0.7))
BOXES = mf.Boxes(SPECIES, x={"a": (-5, 5), "b": (-3, 6)})
ENERGY = mf.Confinement(x=0.5) + mf.BySpecies(
    mf.Interaction(mf.SeparableKernel(k=mf.SpeciesKernel([[0, 1], [1, 0]]), x=mf.LinearKernel()), 4.0), a=1, b=-1
)
START = mf.PerSpecies(a=(2, mf.Product(x=stats.norm(1.0, 0.5))), b=mf.Product(x=stats.norm(0.2, 0.4)))


def moments(found):
    """Means and mean squares of both, whichever coordinates the box has."""
    inside = found.problem.axes[1].length == 1

    def of(power):
        def value(k, s):
            x = BOXES.coordinates(k, s)[1] if inside else s
            return x**power

        return value

    powers = of(1), of(2)
    return [found.moment(lambda k, s, i=i, f=f: f(k, s) * (k == i)) for i in (0, 1) for f in powers]


@pytest.mark.parametrize(("temperature", "alpha"), [(0.0, 0.0), (0.2, 0.0), (0.1, 0.8)])
def test_a_run_is_that_in_the_box_that_holds_all(temperature, alpha):
    named = {"temperature": temperature, "alpha": alpha, "t_end": 0.5, "reaction": "free-energy"}
    control = {"scheme": mf.Weno5(), "controller": mf.ErrorControl(1e-7), "estimate": False, "progress": False}
    whole = mf.solve(mf.Problem(ENERGY, [SPECIES, mf.Axis("x", -6, 6)], START, **named), 240, **control)
    own = mf.solve(BOXES.problem(ENERGY, START, **named), 200, **control)
    np.testing.assert_allclose(moments(own), moments(whole), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(own.energy[[0, -1]], whole.energy[[0, -1]], rtol=1e-6, atol=1e-8)
    if not temperature:
        nodes = mf.characteristics(BOXES.problem(ENERGY, START, **named), tolerance=1e-6, progress=False)
        np.testing.assert_allclose(moments(nodes), moments(whole), rtol=1e-5, atol=1e-6)


def test_starts_and_rates_of_own_coordinates():
    problem = BOXES.problem(ENERGY, START, metric=[lambda k, x: 6.0 + k + x], base=lambda k, x: np.exp(x))
    law, grid = problem.mu_0, problem.grid(300)
    np.testing.assert_allclose(law.cells(grid).sum(axis=1) / 300, [2 / 3, 1 / 3], rtol=1e-12)
    unit = np.array([0.45, 0.6])
    points = np.stack([[0.0, 1.0], unit], axis=1)
    x = np.array([-5 + 10 * 0.45, -3 + 9 * 0.6])
    density = [2 / 3 * 10 * stats.norm(1.0, 0.5).pdf(x[0]), 1 / 3 * 9 * stats.norm(0.2, 0.4).pdf(x[1])]
    np.testing.assert_allclose(np.exp(law.log_density(points)), density, rtol=1e-5)
    np.testing.assert_allclose(
        problem.mobility(1, *points.T), (6 + points[:, 0] + x) / [100, 81] * [1.0, 0.7], rtol=1e-13
    )
    np.testing.assert_allclose(problem.log_base(*points.T), np.log([10, 9]) + x, rtol=1e-13)
    np.testing.assert_allclose(law.widths(grid)[1], min(0.05, 0.4 / 9), rtol=1e-2)
    sample = law.sample(3000, np.random.default_rng(1))
    own = BOXES.coordinates(*sample.T)[1]
    assert abs(own[sample[:, 0] == 0].mean() - 1.0) < 5 * 0.5 / np.sqrt(2000)
    assert BOXES.place("b", 0.5)[0] == 1.5
    assert pickle.loads(pickle.dumps(problem)).fingerprint() == problem.fingerprint()
    assert "Boxes(x: a [-5, 5], b [-3, 6])" in repr(problem)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mf.Boxes(SPECIES), "boxes need the intervals of at least one axis"),
        (lambda: mf.Boxes(SPECIES, x={"a": (0, 1)}), "the box of 'x' names a; the species are a, b"),
        (lambda: mf.Boxes(SPECIES, x={"a": (0, 1), "b": (2, 1)}), "must be finite with lower < upper"),
        (lambda: mf.Boxes(SPECIES, {"y": mf.End.NATURAL}, x={"a": (0, 1), "b": (0, 2)}), "ends maps names of axes"),
        (lambda: mf.Boxes(SPECIES, x=(0, 1)), "the box of 'x' maps each label to its (low, high), not (0, 1)"),
        (lambda: mf.Boxes(SPECIES, x={"a": (0, 1), "b": 1}), "has a pair (low, high) for each label, not 1"),
        (lambda: mf.Boxes(SPECIES, {"x": mf.End.PERIODIC}, x={"a": (0, 1), "b": (0, 1)}), "a circle is one axis"),
        (lambda: BOXES.problem(ENERGY, mf.Dirac(x=0)), "measure must be a PerSpecies"),
        (lambda: BOXES.problem(ENERGY, START, metric=[1, 2]), "metric of boxes has 2 entries for 1 axes"),
        (lambda: BOXES.place("a", 0, 1), "2 coordinates for the axes x"),
        (lambda: BOXES.energy(ENERGY).bind([SPECIES, mf.Axis("x", 0, 2)]), "an energy in boxes is one on"),
        (lambda: BOXES.start(START).restrict([SPECIES, mf.Axis("x", 0, 2)]), "a start in boxes is one on"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        make()
    assert "\n" not in str(refused.value)
