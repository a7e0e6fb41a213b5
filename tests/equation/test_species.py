"""Several measures in one problem: the axis of labels, measures, kernels and factors."""

import pickle
import re

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.equation.measures.species import apportioned

PLAYERS = mf.Species("player", ("left", "right"))
X = mf.Axis("x", -3, 3)


def test_an_axis_of_labels():
    grid = mf.Grid([PLAYERS, X], 12)
    assert grid.shape == (2, 12) == mf.Grid([PLAYERS, X], [12]).shape == mf.Grid([PLAYERS, X], [2, 12]).shape
    assert grid.centres(0).tolist() == [0.0, 1.0]
    assert grid.spacing[0] == 1.0
    assert PLAYERS.number("right") == 1
    assert PLAYERS.indices(np.array([0.0, 1.0])).tolist() == [0, 1]
    assert pickle.loads(pickle.dumps(PLAYERS)) == PLAYERS != mf.Species("player", ("left", "right"), (1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mf.Species("k", ("a",)), "species need at least two different labels, not ['a']"),
        (lambda: mf.Species("k", ("a", "a")), "species need at least two different labels, not ['a', 'a']"),
        (lambda: mf.Species("k", "ab"), "species need at least two different labels, not ['ab']"),
        (lambda: mf.Species("k", ("a", "1")), "label '1' of species is no identifier"),
        (lambda: mf.Species("k", ("a", "b"), (1, 0)), "scales of species are 2 positive numbers, not (1, 0)"),
        (lambda: mf.Grid([PLAYERS, X], [3, 12]), "axis 'player' has 2 labels, one cell each, not 3"),
        (lambda: PLAYERS.number("middle"), "no species 'middle' along 'player'; valid: left, right"),
        (lambda: mf.SpeciesKernel([[0, 1], [2, 0]]), "the table is not symmetric"),
        (lambda: mf.SpeciesKernel([[1.0]]).on_axis(PLAYERS), "SpeciesKernel of 1 labels on Species(player: left"),
        (lambda: mf.SpeciesKernel([[1, 0], [0, 1]]).on_axis(X), "it needs an axis of so many species"),
        (lambda: mf.PerSpecies(), "PerSpecies takes one measure for all species, or one for each"),
        (lambda: mf.PerSpecies(left=(0.0, mf.Dirac(x=0))), "left is a Measure, or a positive share and a Measure"),
        (lambda: mf.PerSpecies(mf.Dirac(x=0)).restrict([X]), "PerSpecies needs a box with an axis of species"),
        (lambda: mf.PerSpecies(up=mf.Dirac(x=0)).restrict([PLAYERS, X]), "names up; the species are left, right"),
        (lambda: mf.BySpecies(mf.Confinement(x=1), left=np.nan, right=1), "the factor of left is a finite number"),
        (lambda: mf.BySpecies(mf.Confinement(x=1), left=1).bind([PLAYERS, X]), "names left; the species are left"),
        (lambda: mf.BySpecies(mf.Confinement(x=1), left=1, right=1).bind([X]), "needs a box with an axis of species"),
        (lambda: mf.Product(x=stats.norm(0, 1)).restrict([PLAYERS, X]), "give each species one by PerSpecies(label="),
        (lambda: mf.Density(lambda k, x: 1 + x**2).restrict([PLAYERS, X]), "a Density has no law of Species(player"),
        (lambda: game(axes=[PLAYERS]), "need an axis that they move along"),
        (lambda: game(axes=[PLAYERS, mf.Species("k", ("a", "b")), X]), "a box has one axis of species"),
        (lambda: game(metric=[2.0, 1.0]), "nothing moves along species; leave that entry out"),
        (lambda: game(balance="none"), "balance is 'each' species or 'all' of them, not 'none'"),
        (lambda: game(alpha=1, reinjection=mf.Reinjection(START)), "reinjection is for all species together"),
        (lambda: game(axes=[SCALED, X], alpha=1, balance="all"), "do not keep the mass of all species"),
        (lambda: mf.stationary(game(mf.Confinement(x=1)), 12), "keep their masses: run solve until"),
        (lambda: mf.fluctuations(game(), [0.1]), "the fluctuations of Species(player: left, right) are not known"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        make()
    assert "\n" not in str(refused.value)


SCALED = mf.Species("player", ("left", "right"), (1.0, 2.0))
START = mf.PerSpecies(left=(3, mf.Product(x=stats.norm(0, 0.5))), right=mf.Product(x=stats.uniform(-1, 1)))


def game(energy=None, axes=(PLAYERS, X), **named):
    pairs = mf.SeparableKernel(player=mf.SpeciesKernel([[0, 1], [1, 0]]), x=mf.LinearKernel())
    energy = mf.BySpecies(mf.Interaction(pairs, 2.0), left=1, right=-1) if energy is None else energy
    return mf.Problem(energy, axes, START, **named)


@pytest.mark.parametrize("order", [1, -1])
def test_a_start_is_that_of_each_species(order):
    axes = [PLAYERS, X][::order]
    law = START.restrict(axes)
    grid = mf.Grid(axes, 60)
    density = np.moveaxis(law.cells(grid), order == -1, 0)
    alone = mf.Product(x=stats.norm(0, 0.5)).restrict([X]).cells(mf.Grid([X], 60))
    assert np.abs(density[0] - 0.75 * alone).max() < 1e-15
    assert np.abs(density.sum(axis=1) * 0.1 - [0.75, 0.25]).max() < 1e-15
    points, weights = law.nodes(40)
    label, x = points.T[::order]
    assert np.abs([weights[label == k].sum() - m for k, m in enumerate((0.75, 0.25))]).max() < 1e-14
    assert abs(weights[label == 0] @ x[label == 0] ** 2 - 0.75 * 0.25) < 1e-6
    inside = np.stack([label, x][::order], axis=1)[label == 0]
    expected = np.log(0.75) + stats.norm(0, 0.5).logpdf(x[label == 0])
    assert np.abs(law.log_density(inside) - expected).max() < 1e-6
    assert law.widths(grid)[order == -1] == np.inf


def test_samples_have_exactly_the_shares():
    sample = START.restrict([PLAYERS, X]).sample(1000, np.random.default_rng(0))
    assert np.count_nonzero(sample[:, 0] == 0) == 750
    assert sample[sample[:, 0] == 1, 1].min() >= -1
    for shares in ([0.5, 0.5], [0.75, 0.25], [0.2, 0.3, 0.5]):
        for n in (20, 100):
            assert np.bincount(apportioned(np.array(shares), n)).tolist() == [round(n * s) for s in shares]


def test_a_table_between_labels_is_its_kernel():
    table = [[1.0, -0.5, 0], [-0.5, 2.0, 0.25], [0, 0.25, -1.0]]
    box = [mf.Species("k", ("a", "b", "c")), X]
    kernel = mf.SeparableKernel(k=mf.SpeciesKernel(table), x=mf.LinearKernel())
    bound = mf.Interaction(kernel).bind(box)
    points = np.array([[i, x] for i in range(3) for x in (0.5, -1.25)], dtype=float)
    expected = np.array(table)[np.ix_(points[:, 0].astype(int), points[:, 0].astype(int))]
    expected = expected * np.outer(points[:, 1], points[:, 1])
    assert np.abs(bound.kernel_matrix(points) - expected).max() < 1e-14
    signs = [mf.SpeciesKernel(t).definite for t in (table, [[1, 0], [0, 1]], [[0, 0], [0, -1]], [[1, -1], [-1, 1]])]
    assert signs == [0, 1, -1, 1]


def test_factors_of_species_are_those_of_the_potential_everywhere():
    pairs = mf.SeparableKernel(player=mf.SpeciesKernel([[0, 1], [1, 0]]), x=mf.LinearKernel())
    problem, plain = game(), game(mf.Interaction(pairs, 2.0))
    bound, inner = problem.bound_energy, plain.bound_energy
    points, weights = np.array([[0, 1.0], [1, 0.5], [0, -2.0]]), np.array([0.5, 0.3, 0.2])
    u, factors = bound.response(points, weights), np.array([1, -1, 1])
    assert np.array_equal(bound.potential(points, u), factors * inner.potential(points, u))
    assert np.array_equal(bound.gradient(points, u), factors[:, None] * inner.gradient(points, u))
    assert bound.energy(points, weights) == inner.energy(points, weights)
    grid = problem.grid(24)
    mu = problem.mu_0.cells(grid)
    V, energy, _ = bound.on(grid).evaluate(mu)
    assert np.array_equal(V, inner.on(grid).evaluate(mu)[0] * [[1], [-1]])
    assert energy == inner.on(grid).evaluate(mu)[1]
    assert not bound.lyapunov
    assert "response" not in bound.capabilities
    assert mf.BySpecies(mf.Confinement(x=1), left=1, right=1).bind([PLAYERS, X]).lyapunov


def test_a_problem_is_known_by_its_species():
    prints = {game(**named).fingerprint() for named in ({}, {"balance": "all"}, {"axes": [SCALED, X]})}
    assert len(prints) == 3
    problem = game(axes=[SCALED, X], metric=[3.0], alpha=1.0)
    assert problem.mobility(0, 1.0, 0.0) == 0.0
    assert problem.mobility(1, np.array([0.0, 1.0]), np.zeros(2)).tolist() == [3.0, 6.0]
    assert problem.replace(t_end=2.0).mobility(1, np.array([1.0]), np.zeros(1)).tolist() == [6.0]
    assert pickle.loads(pickle.dumps(problem)).fingerprint() == problem.fingerprint()
    assert "balanced for each species" in repr(problem)
    assert "Species(player: left (1), right (2))" in repr(problem)
