import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfpde as mf
from mfpde.equation.grid import Axis, End, Grid


def test_axis_keeps_what_it_was_given():
    axis = Axis("c", -4, 3)
    assert (axis.name, axis.lower, axis.upper, axis.length) == ("c", -4.0, 3.0, 7.0)
    assert axis.lower_end is axis.upper_end is End.TRUNCATION
    assert not axis.periodic
    assert repr(axis) == "Axis(c in [-4, 3], truncation)"


def test_one_end_stands_for_both_and_a_pair_is_kept():
    assert Axis("t", 0, 1, End.PERIODIC).periodic
    assert Axis("t", 0, 1, End.PERIODIC) == Axis("t", 0, 1, (End.PERIODIC, End.PERIODIC))
    half = Axis("r", 0, 3, (End.NATURAL, End.TRUNCATION))
    assert (half.lower_end, half.upper_end) == (End.NATURAL, End.TRUNCATION)
    assert repr(half) == "Axis(r in [0, 3], natural/truncation)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2c", 0, 1), "not an identifier"),
        (("", 0, 1), "not an identifier"),
        ((3, 0, 1), "not an identifier"),
        (("c", 1, 1), r"\[1.0, 1.0\] must be finite with lower < upper"),
        (("c", 2, 1), "lower < upper"),
        (("c", -math.inf, 1), "finite"),
        (("c", 0, math.nan), "finite"),
        (("c", 0, 1, "periodic"), "End"),
        (("c", -1.5e308, 1.5e308), "overflows; use other units"),
        (("c", 0, 1, (End.NATURAL,)), "pair of End"),
        (("c", 0, 1, (End.PERIODIC, End.NATURAL)), "both ends are periodic"),
        (("c", 0, 1, (End.TRUNCATION, End.PERIODIC)), "both ends are periodic"),
    ],
)
def test_bad_axes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Axis(*arguments)


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ([], [], "1 to 4 axes, not 0"),
        ([Axis(name, 0, 1) for name in "abcde"], [4] * 5, "1 to 4 axes, not 5"),
        ([Axis("a", 0, 1), Axis("a", 0, 2)], [4, 4], "must differ"),
        ([Axis("a", 0, 1), Axis("b", 0, 2)], [4], "1 entries for 2 axes"),
        ([Axis("a", 0, 1)], [3], "at least 4, not 3"),
        ([Axis("a", 0, 1)], [8.0], "integer"),
        ([Axis("a", 0, 1)], [True], "integer"),
        ([Axis("a", 0, 1), Axis("b", 0, 2)], True, "integer"),
        ([Axis("a", 0, 1), Axis("b", 0, 2)], 3, "'a': .* at least 4, not 3"),
        (["a"], [8], "Axis objects"),
    ],
)
def test_bad_grids_are_refused(axes, shape, message):
    with pytest.raises(ValueError, match=message):
        Grid(axes, shape)


@pytest.mark.parametrize("cells", [32, np.int64(32)])
def test_one_number_of_cells_stands_for_every_axis(cells):
    """In a grid, a problem, and whatever takes the shape of a mesh: ``Problem.grid`` is where they take it from."""
    axes = [Axis(name, 0, 1) for name in "abc"]
    assert Grid(axes, cells) == Grid(axes, (32, 32, 32))
    plane = mf.problems.three_gaussians()
    assert plane.grid(cells).shape == mf.Solver(plane, cells).grid.shape == (32, 32)
    suggesting = dataclasses.replace(plane, shape=cells)
    assert suggesting.shape == suggesting.grid().shape == (32, 32)
    warm = dataclasses.replace(mf.problems.torus_langevin(), shape=None)
    assert mf.stationary(warm, 12).grid.shape == (12,) * len(warm.axes)


def test_grids_and_axes_are_frozen_values():
    axes = [Axis("a", 0, 1), Axis("b", -1, 1)]
    grid = Grid(axes, (4, np.int64(6)))
    assert grid == Grid(tuple(axes), [4, 6])
    assert hash(grid) == hash(Grid(axes, [4, 6]))
    assert grid != Grid(axes, [6, 4])
    assert type(grid.shape[1]) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.shape = (3, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        axes[0].lower = -1.0
    assert repr(grid) == "Grid(4 x 6: Axis(a in [0, 1], truncation), Axis(b in [-1, 1], truncation))"


def test_a_number_of_cells_and_an_axis_stand_for_one_dimension():
    assert Grid(Axis("a", 0, 1), 8) == Grid([Axis("a", 0, 1)], [8])


def test_centres_faces_and_volumes():
    grid = Grid([Axis("a", 0, 2), Axis("b", -1, 2)], [4, 6])
    assert (grid.dimension, grid.size) == (2, 24)
    assert grid.spacing == (0.5, 0.5)
    assert grid.cell_volume == 0.25
    np.testing.assert_array_equal(grid.centres(0), [0.25, 0.75, 1.25, 1.75])
    np.testing.assert_array_equal(grid.faces(1), [-1, -0.5, 0, 0.5, 1, 1.5, 2])


@given(
    lower=st.floats(-1e3, 1e3),
    length=st.floats(1e-2, 1e3),
    n=st.integers(4, 300),
)
def test_faces_enclose_their_centres(lower, length, n):
    axis = Axis("a", lower, lower + length)
    grid = Grid([axis], [n])
    faces, centres = grid.faces(0), grid.centres(0)
    assert (faces[0], faces[-1]) == (axis.lower, axis.upper)
    scale = 4e-15 * (abs(lower) + length)
    np.testing.assert_allclose(centres, 0.5 * (faces[1:] + faces[:-1]), rtol=0, atol=scale)
    np.testing.assert_allclose(np.diff(faces), grid.spacing[0], rtol=0, atol=scale)
    assert np.all(np.diff(faces) > 0)


@given(half=st.floats(1e-3, 1e3), n=st.integers(4, 300))
def test_symmetric_axes_are_mirror_images_bit_for_bit(half, n):
    grid = Grid([Axis("a", -half, half)], [n])
    assert np.array_equal(grid.centres(0), -grid.centres(0)[::-1])
    assert np.array_equal(grid.faces(0), -grid.faces(0)[::-1])


def test_meshes_broadcast_and_points_follow_c_order():
    grid = Grid([Axis("a", 0, 1), Axis("b", 0, 3), Axis("c", 0, 2)], [4, 6, 5])
    a, b, c = grid.mesh()
    assert np.broadcast_shapes(a.shape, b.shape, c.shape) == grid.shape
    field = a + 10 * b + 100 * c
    points = grid.points()
    assert points.shape == (120, 3)
    np.testing.assert_allclose(points @ [1, 10, 100], field.ravel(), rtol=1e-14)
    np.testing.assert_array_equal(points[1], [grid.centres(0)[0], grid.centres(1)[0], grid.centres(2)[1]])
    a, b, c = grid.face_mesh(1)
    assert np.broadcast_shapes(a.shape, b.shape, c.shape) == (4, 7, 5)
    np.testing.assert_array_equal(b.ravel(), grid.faces(1))
    np.testing.assert_array_equal(a.ravel(), grid.centres(0))


def test_integrate_is_the_midpoint_sum_over_the_last_axes():
    grid = Grid([Axis("a", 0, 1), Axis("b", -1, 1)], [4, 8])
    a, b = grid.mesh()
    value = grid.integrate(a * (1 + b))
    assert type(value) is float
    assert value == pytest.approx(1.0, abs=1e-15)
    stack = np.stack([np.ones(grid.shape), np.broadcast_to(a, grid.shape)])
    np.testing.assert_allclose(grid.integrate(stack), [2.0, 1.0], atol=1e-15)
