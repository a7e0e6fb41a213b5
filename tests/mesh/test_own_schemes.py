"""Transport schemes of users' own, by public names: NumPy and compiled, with the sign and without it."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats
from shared import box, wavy

import mfpde as mf
from mfpde.equation.grid import End


def upwind(mu, V, g, h, tau):
    """`mf.Upwind` as a formula."""
    v = -g * (V[1] - V[0]) / h
    return np.maximum(v, 0.0) * mu[0] + np.minimum(v, 0.0) * mu[1] - tau * g * (mu[1] - mu[0]) / h


def third_order(mu, V, g, h, tau):
    """Quadratic reconstruction from two cells upwind and one downwind."""
    v = -g * (V[0] - 27 * V[1] + 27 * V[2] - V[3]) / (24 * h)
    left, right = -mu[0] + 5 * mu[1] + 2 * mu[2], 2 * mu[1] + 5 * mu[2] - mu[3]
    drift = (np.maximum(v, 0.0) * left + np.minimum(v, 0.0) * right) / 6
    return drift - tau * g * (mu[0] - 15 * mu[1] + 15 * mu[2] - mu[3]) / (12 * h)


def central_six(mu, V, g, h, tau):
    """Sixth order from three cells on each side, of point values that are taken as they are."""
    v = -g * ((75 * (V[3] - V[2]) / 64 - 25 * (V[4] - V[1]) / 384) + 3 * (V[5] - V[0]) / 640) / h
    mean = (150 * (mu[2] + mu[3]) - 25 * (mu[1] + mu[4]) + 3 * (mu[0] + mu[5])) / 256
    return v * mean - tau * g * (mu[3] - mu[2]) / h


FORMULAE = {1: upwind, 2: third_order, 3: central_six}


def scheme(ghost, compiled, **attributes):
    own = {"name": f"own-{ghost}", "order": ghost, "ghost": ghost, "row": staticmethod(FORMULAE[ghost])}
    return dataclass(frozen=True)(type("Own", (mf.Scheme,), {**own, "compiled": compiled, **attributes}))()


SHAPES = [(37,), (5000,), (12, 9), (9, 140), (6, 5, 7), (4, 5, 130)]


@pytest.mark.parametrize("ghost", [1, 2, 3])
def test_both_walks_and_numpy_give_the_same_fluxes(ghost):
    """By tiles and by rows, with rates that vary, heat, a base measure, and every kind of end."""
    ends = [(End.NATURAL, End.TRUNCATION), End.PERIODIC, End.NATURAL]
    rng = np.random.default_rng(ghost)
    for shape in SHAPES:
        grid = box(shape, ends[: len(shape)])
        mu, V, base = rng.random(shape), rng.standard_normal(shape), rng.standard_normal(shape)
        for metric, tau, log_base in (
            (None, 0.0, None),
            ([wavy] * len(shape), 0.3, base),
            ([2.0] * len(shape), 0.1, None),
        ):
            plain = mf.NumpyTransport(grid, scheme(ghost, False), metric, log_base)
            fast = mf.Transport(grid, scheme(ghost, True), metric, log_base)
            one, other = (t.outflow(V, mu, tau) for t in (plain, fast))
            assert (one.cell, one.rate) == (other.cell, pytest.approx(other.rate, rel=1e-14))
            for a, b in zip(plain.fluxes(mu, V, None, tau), fast.fluxes(mu, V, None, tau), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-14 * np.abs(a).max())
            rate = fast.rate(mu, V, None, None, tau)
            np.testing.assert_allclose(
                rate, plain.rate(mu, V, None, None, tau), rtol=0, atol=1e-14 * np.abs(rate).max()
            )
            assert abs(rate.sum()) <= 1e-14 * np.abs(rate).sum()


def test_a_formula_of_upwind_fluxes_is_upwind():
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        grid = box(shape, [End.PERIODIC, End.NATURAL, End.TRUNCATION][: len(shape)])
        mu, V = rng.random(shape), rng.standard_normal(shape)
        own, ours = (mf.Transport(grid, s, [wavy] * len(shape)) for s in (scheme(1, True), mf.Upwind()))
        expected = ours.rate(mu, V, None, None, 0.2)
        np.testing.assert_allclose(
            own.rate(mu, V, None, None, 0.2), expected, rtol=0, atol=1e-13 * np.abs(expected).max()
        )


def in_a_well(tau=0.0):
    """All of it moves to 0 as exp(-t): a Gaussian stays one, of variance ``tau + (s^2 - tau) exp(-2 t)``."""
    return mf.Problem(
        mf.External(lambda x: x**2 / 2),
        [mf.Axis("x", -5, 5)],
        mf.Product(x=stats.norm(0.5, 0.8)),
        temperature=tau,
        t_end=0.5,
    )


@pytest.mark.filterwarnings("ignore:.*does not keep the sign:mfpde.RunWarning")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("tau", [0.0, 0.05])
def test_third_order(compiled, tau):
    exact = mf.Product(x=stats.norm(0.5 * np.exp(-0.5), np.sqrt(tau + (0.64 - tau) * np.exp(-1))))
    errors = []
    for cells in (100, 200, 400):
        solution = mf.solve(
            in_a_well(tau),
            cells,
            scheme=scheme(2, compiled, positive=False),
            controller=mf.ErrorControl(1e-9),
            progress=False,
        )
        grid = solution.grid
        errors.append(np.abs(solution.density[-1] - exact.restrict(grid.axes).cells(grid)).sum() * grid.cell_volume)
        assert solution.stats["mass_drift"] < 1e-13
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders.min() > 2.9
    assert errors[-1] < 2e-5


NARROW = mf.problems.quadratic_well(variance=0.003, mean=0.5)
"""A start that three cells of 60 have to carry."""


def narrow(own, **settings):
    message = r"Own\(\) does not keep the sign: the density fell to -\d.*, where its mean over the box is \d"
    with pytest.warns(mf.RunWarning, match=message):
        return mf.solve(NARROW, 60, scheme=own, progress=False, **settings)


@pytest.mark.filterwarnings("ignore:the start is 1.9 cells wide")
def test_without_the_sign_nothing_is_certified(tmp_path):
    """Undershoots are recorded and said; the gap, which needs a density, is NaN; a stop on the gap is refused."""
    own = scheme(2, False, positive=False)
    solution = narrow(own, t_end=0.3)
    assert solution.diagnostics["minimum"].min() < -1e-3
    assert np.isnan(solution.diagnostics["optimality_gap"]).all()
    solution.save(tmp_path / "own.h5")
    assert mf.verify(tmp_path / "own.h5", NARROW).ok
    with pytest.raises(ValueError, match=r"GapBelow\(0.001\): Own\(\) does not keep mu >= 0"):
        mf.solve(NARROW, 60, scheme=own, stop=mf.GapBelow(1e-3))
    positive = mf.solve(NARROW, 60, scheme=mf.Muscl(), t_end=0.3, progress=False)
    assert np.isfinite(positive.diagnostics["optimality_gap"]).all()


@pytest.mark.filterwarnings("ignore:the start is 1.9 cells wide")
def test_a_run_goes_on_from_a_negative_density():
    own = scheme(2, False, positive=False)
    first = narrow(own, t_end=0.1)
    assert narrow(own, initial=first, t_end=0.2).state.t == 0.2
    with pytest.raises(ValueError, match="negative somewhere"):
        mf.solve(NARROW, 60, scheme=mf.Muscl(), initial=first, t_end=0.2)


def test_a_compiled_scheme_needs_a_formula():
    for changes in ({"row": None}, {"ghost": 4}):
        own = type(
            "Own", (mf.Scheme,), {"name": "own", "order": 1, "ghost": 1, "row": upwind, "compiled": True, **changes}
        )()
        with pytest.raises(TypeError, match="a compiled scheme has a formula `row` of at most 3 rows on each side"):
            mf.Transport(box((8,)), own)


def test_structures_of_formulae_have_names_of_their_own():
    """By its name numba tells one from another; with one for both every call would be looked up anew, in 170 us."""
    from mfpde.mesh.compiled.rows import kernels_of

    one, other = (type(kernels_of(FORMULAE[ghost], ghost).structure) for ghost in (1, 2))
    assert one.__name__ != other.__name__
    assert kernels_of(FORMULAE[1], 1) is kernels_of(FORMULAE[1], 1)


def with_row(row, **attributes):
    own = {"name": "mine", "order": 1, "ghost": 1, "row": staticmethod(row), **attributes}
    return type("Mine", (mf.Scheme,), own)()


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        (with_row(lambda mu, V, g, h, tau: mu[0] if V[0] > V[1] else mu[1]), ValueError, "np.where and np.maximum"),
        (with_row(lambda mu, V, g, h, tau: 1j * mu[0]), ValueError, "must be real numbers, not complex128"),
        (with_row(lambda mu, V, g, h, tau: mu.sum(), compiled=True), TypeError, "cannot be compiled .* runs in NumPy"),
        (with_row(upwind, positivity=0.0), TypeError, "positivity must be above 0, not 0.0"),
    ],
)
def test_what_a_scheme_does_wrong_is_said(own, error, message):
    with pytest.raises(error, match=message):
        mf.solve(mf.problems.quadratic_well(), 20, scheme=own, progress=False)


def test_fluxes_that_are_no_numbers_end_a_run_by_name():
    own = with_row(lambda mu, V, g, h, tau: np.nan * mu[0])
    solution = mf.solve(mf.problems.quadratic_well(), 40, scheme=own, progress=False, throw=False)
    assert solution.result is mf.Result.NOT_FINITE


def test_a_subclass_of_ours_with_fluxes_of_its_own_runs_with_them():
    """Compiled code has those of the parent: they would be taken in silence."""

    @dataclass(frozen=True)
    class Still(mf.Muscl):
        def faces(self, at):
            return 0.0 * super().faces(at)

    @dataclass(frozen=True)
    class Slower(mf.Upwind):
        def velocity(self, at):
            return 0.5 * super().velocity(at)

    @dataclass(frozen=True)
    class Renamed(mf.Muscl):
        name = "renamed"

    well = mf.problems.quadratic_well(alpha=0.0)
    still = mf.solve(well, 40, scheme=Still(), progress=False)
    np.testing.assert_allclose(still.density[0], still.density[-1], atol=1e-14)
    slow, plain, half = (
        mf.solve(well, 40, t_end, scheme=scheme, controller=mf.FixedStep(t_end / 64), progress=False).density[-1]
        for t_end, scheme in ((0.5, Slower()), (0.5, mf.Upwind()), (0.25, mf.Upwind()))
    )
    assert np.abs(slow - plain).max() > 0.01
    np.testing.assert_allclose(slow, half, atol=1e-13)
    assert isinstance(mf.Solver(well, 40, scheme=Renamed()).flow.transport, mf.Transport)
    with pytest.raises(TypeError, match="is not compiled; NumpyTransport runs it"):
        mf.Transport(box((8,)), Still())


@pytest.mark.parametrize("parent", [mf.Upwind, mf.Muscl, mf.Weno5, mf.ScharfetterGummel])
def test_a_row_in_a_subclass_of_ours_is_refused(parent):
    """Their fluxes are `faces`, which do not ask for a row: it would be left out in silence."""
    own = type("Own", (parent,), {"row": staticmethod(upwind)})
    with pytest.raises(TypeError, match=f"Own has a `row` that nothing asks: .* `faces` of {parent.__name__}"):
        mf.solve(mf.problems.double_well_sampling(), 20, scheme=own())


@pytest.mark.parametrize("more", [{"velocity": lambda self, at: 0.0}, {"limited": True}])
def test_what_a_compiled_row_would_leave_out_is_refused(more):
    with pytest.raises(TypeError, match="what is compiled is a `row`, with the velocity and the conductance"):
        mf.solve(mf.problems.quadratic_well(), 20, scheme=with_row(upwind, compiled=True, **more))


def test_rows_cannot_be_written_to():
    """They are views of the same cells: what is written to one is read in the next."""

    def row(mu, V, g, h, tau):
        mu[0][...] = 0.0
        return upwind(mu, V, g, h, tau)

    with pytest.raises(ValueError, match="read-only"):
        mf.solve(mf.problems.quadratic_well(), 20, scheme=with_row(row), progress=False)
