"""The plain operator against the compiled one, entry by entry: every scheme, end, dimension, rate and temperature."""

import numpy as np
import pytest
from shared import EXPLICIT, box, name_of, wavy

import mfpde as mf
from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh.numpy_transport import NumpyTransport
from mfpde.mesh.schemes import ScharfetterGummel, Scheme, Upwind, Weno5
from mfpde.mesh.transport import Transport

SCHEMES = [*EXPLICIT, ScharfetterGummel()]
ENDS = [(End.NATURAL, End.TRUNCATION), End.PERIODIC, End.TRUNCATION, End.NATURAL]
SHAPES = [(23,), (21, 9), (6, 130), (7, 6, 8), (5, 4, 6, 5)]


def fields(shape, seed=0):
    """A density with deep tails and empty cells, and a potential."""
    rng = np.random.default_rng(seed)
    mu = np.exp(1.5 * rng.standard_normal(shape))
    mu.flat[rng.integers(mu.size, size=max(1, mu.size // 20))] = 1e-9
    mu.flat[rng.integers(mu.size, size=max(1, mu.size // 20))] = 0.0
    return mu, rng.standard_normal(shape)


def pair(grid, scheme, metric=None, log_base=None):
    return tuple(kind(grid, scheme, metric, log_base) for kind in (NumpyTransport, Transport))


def agree(one, other):
    """Up to the rounding of a few operations on terms of this size."""
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-14 * np.abs(other).max())


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_rates_fluxes_and_outflow(scheme, shape, temperature):
    grid = box(shape, ENDS[: len(shape)])
    rng = np.random.default_rng(1)
    bases = [None] if temperature == 0.0 else [None, rng.standard_normal(shape)]
    for metric in (None, [2.0] * len(shape), [wavy] * len(shape)):
        for log_base in bases:
            plain, compiled = pair(grid, scheme, metric, log_base)
            mu, V = fields(shape)
            one, other = (t.outflow(V, mu, temperature) for t in (plain, compiled))
            assert one.cell == other.cell
            assert one.rate == pytest.approx(other.rate, rel=1e-14)
            assert plain.diffusion_rate == compiled.diffusion_rate
            # without the limiter, where it has its short formula, where it cuts
            for dt in (None, 0.3 / other.rate, 3.0 / other.rate) if scheme.limited else (None,):
                agree(plain.rate(mu, V, dt=dt, temperature=temperature), compiled.rate(mu, V, None, dt, temperature))
                for a, b in zip(*(t.fluxes(mu, V, dt, temperature) for t in (plain, compiled)), strict=True):
                    agree(a, b)


def plain_sdirk(transport, axis, mu, V, dt):
    """The step of second order without its blending: two stages, each an implicit Euler step."""
    gamma = 1.0 - 0.5**0.5
    stage = transport.implicit(axis, mu, V, gamma * dt, 0.4)
    return transport.implicit(axis, stage + 2**0.5 * (stage - mu), V, gamma * dt, 0.4)


@pytest.mark.parametrize("shape", [(40,), (9, 8), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("order", [1, 2])
def test_implicit_steps(shape, order):
    """Short and long ones, with lines that have to be blended, entry by entry also in tails."""
    blended = 0
    for seed, ends in enumerate((End.NATURAL, End.PERIODIC)):
        grid = Grid([Axis(f"x{i}", -1.0, 1.0, ends) for i in range(len(shape))], shape)
        plain, compiled = pair(grid, ScharfetterGummel(), [wavy] * len(shape))
        mu, V = fields(shape, seed)
        V *= 30.0
        for axis in range(len(shape)):
            for number in (0.1, 3.0, 1e4):
                dt = number / compiled.outflow(V, mu, 0.4).rate
                a, b = (t.implicit(axis, mu, V, dt, 0.4, order=order) for t in (plain, compiled))
                assert (a >= 0.0).all()
                # where shares of fluxes are given back, small entries are differences of large ones
                freely = order == 1 or plain_sdirk(plain, axis, mu, V, dt).min() >= 0.0
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=0.0 if freely else 1e-13 * b.max())
                blended += not freely
    assert blended > 0 or order == 1


@pytest.mark.parametrize("ends", [End.NATURAL, End.TRUNCATION, End.PERIODIC], ids=lambda end: end.value)
@pytest.mark.parametrize("dimension", [1, 2])
def test_any_fluxes_keep_the_mass(ends, dimension):
    """Whatever a scheme says: nothing leaves through a wall, and a seam is one face."""

    class Wild(Scheme):
        name, order, ghost = "wild", 1, 3

        def faces(self, at):
            return np.random.default_rng(0).standard_normal(at.mu[0].shape)

    grid = Grid([Axis(f"x{i}", -1.0, 1.0, ends) for i in range(dimension)], (9,) * dimension)
    transport, (mu, V) = NumpyTransport(grid, Wild()), fields(grid.shape)
    rate = transport.rate(mu, V)
    assert abs(rate.sum()) <= 1e-14 * np.abs(rate).sum()
    assert np.abs(rate).min() > 0.0


def test_what_a_scheme_is_told():
    """Rows, ghost rows, rates and marks of the faces of a mesh that is written out."""
    seen = []

    class Curious(Scheme):
        name, order, ghost = "curious", 1, 2

        def faces(self, at):
            seen.append(at)
            return at.mu[0]

    x, y = Axis("x", 0.0, 4.0, (End.NATURAL, End.TRUNCATION)), Axis("y", 0.0, 4.0, End.PERIODIC)
    grid = Grid([x, y], (4, 4))
    mu = np.arange(16.0).reshape(4, 4)
    transport = NumpyTransport(grid, Curious(), [None, lambda x, y: 10.0 * x + y])
    transport.rate(mu, -mu, temperature=0.0)
    across_x, across_y = seen
    # faces 0 to 4 across x: the rows are mirrored at both ends
    expected = [[5, 1, 1, 5, 9], [1, 1, 5, 9, 13], [1, 5, 9, 13, 13], [5, 9, 13, 13, 9]]
    assert [row[:, 1].tolist() for row in across_x.mu] == expected
    assert (across_x.V[1] == -across_x.mu[1]).all()
    assert (across_x.g, across_x.h, across_x.dimension) == (1.0, 1.0, 2)
    assert across_x.truncated[:, 0].tolist() == [False, False, True, True, True]
    # faces 0 to 4 across y, which comes first: the rows are wrapped, and so is the seam's rate
    assert [row[:, 0].tolist() for row in across_y.mu] == [
        [2, 3, 0, 1, 2],
        [3, 0, 1, 2, 3],
        [0, 1, 2, 3, 0],
        [1, 2, 3, 0, 1],
    ]
    assert across_y.g[:, 2].tolist() == [25.0, 26.0, 27.0, 28.0, 25.0]
    assert not across_y.truncated.any()
    further = across_y.shifted(1)
    assert [row[:, 0].tolist() for row in further.mu] == [[0, 1, 2, 3, 0], [1, 2, 3, 0, 1]]
    assert further.g[:, 2].tolist() == [26.0, 27.0, 28.0, 25.0, 26.0]


@pytest.mark.parametrize(
    ("offsets", "derivative", "expected"),
    [
        ((-0.5, 0.5), 0, (1 / 2, 1 / 2)),
        ((-1.5, -0.5, 0.5, 1.5), 1, (1 / 24, -27 / 24, 27 / 24, -1 / 24)),
        ((-1.0, 0.0, 1.0), 2, (1.0, -2.0, 1.0)),
    ],
)
def test_stencil_weights(offsets, derivative, expected):
    """Those of interpolation and of central differences, as any textbook has them."""
    assert mf.stencil_weights(offsets, derivative) == pytest.approx(expected, rel=1e-14)


def test_constants_of_the_fluxes_are_those_of_findiff():
    """The staggered difference, the candidates' sum and the flux correction of Weno5, NumPy and compiled."""
    from mfpde.mesh.compiled import options
    from mfpde.mesh.schemes import CORRECTION

    staggered = mf.stencil_weights((-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), 1)
    assert staggered[3:] == pytest.approx([options.STAGGERED_1, options.STAGGERED_3, options.STAGGERED_5], rel=1e-14)
    # the average over a cell of the function whose point values are G: 1 - d^2/24 + 7 d^4/5760
    second, fourth = (np.array(mf.stencil_weights((-2, -1, 0, 1, 2), k)) for k in (2, 4))
    expected = np.array([0, 0, 1, 0, 0]) - second / 24 + 7 / 5760 * fourth
    np.testing.assert_allclose(CORRECTION, expected, rtol=1e-13)
    np.testing.assert_allclose(sum(CORRECTION), 1.0, rtol=1e-15)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"order": 1, "ghost": 1}, "Mine does not state its name; see mfpde.Scheme"),
        ({"name": "mine", "ghost": 1}, "Mine does not state its order"),
        ({"name": "mine", "order": 1}, "Mine does not state its ghost"),
        ({"name": "mine", "order": 1, "ghost": 0}, "ghost must be an integer of at least 1, not 0"),
        ({"name": "mine", "order": 1, "ghost": 1}, "Mine has no fluxes: a scheme needs `row` or `faces`"),
    ],
)
def test_what_a_scheme_has_to_state(attributes, message):
    mine = type("Mine", (Scheme,), attributes)()
    with pytest.raises(TypeError, match=message):
        mf.solve(mf.problems.quadratic_well(), 20, scheme=mine)


def test_fluxes_of_another_shape_are_refused():
    class Short(Scheme):
        name, order, ghost = "short", 1, 1

        def faces(self, at):
            return at.mu[0][1:]

        def __repr__(self):
            return "Short()"

    grid = box((8,), [End.NATURAL])
    with pytest.raises(ValueError, match=r"the fluxes of Short\(\) have shape \(8,\), the faces across 'x0' \(9,\)"):
        NumpyTransport(grid, Short()).rate(*fields((8,)))


def test_a_scheme_that_is_not_compiled_has_no_compiled_operator():
    class Mine(Upwind):
        compiled = False

    with pytest.raises(TypeError, match="is not compiled; NumpyTransport runs it"):
        Transport(box((8,), [End.NATURAL]), Mine())


def test_nan_shows():
    grid = box((12,), [End.NATURAL])
    mu, V = fields((12,))
    V[3] = np.nan
    for scheme in SCHEMES:
        assert np.isnan(NumpyTransport(grid, scheme).rate(mu, V)).any()
        assert np.isnan(NumpyTransport(grid, scheme).outflow(V).rate)
    assert np.isnan(NumpyTransport(grid, Weno5()).rate(mu, V, dt=0.1)).any()
