"""The walks through the mesh: strips, tiles, bands."""

import numpy as np
import pytest
from shared import EXPLICIT, box, name_of, wavy

from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh.schemes import Muscl, ScharfetterGummel, Weno5
from mfpde.mesh.transport import Transport

SCHEMES = [*EXPLICIT, ScharfetterGummel()]
ENDS = [(End.NATURAL, End.TRUNCATION), End.PERIODIC, End.TRUNCATION]


def fields(shape, seed=0):
    """A density whose tails are guarded in places, and a potential."""
    rng = np.random.default_rng(seed)
    mu = np.exp(1.5 * rng.standard_normal(shape))
    mu.flat[rng.integers(mu.size, size=max(1, mu.size // 60))] = 1e-9
    return mu, rng.standard_normal(shape)


def steps(transport, v, temperature):
    """Without the limiter, with its short formula, with its general one."""
    rate = transport.outflow_rate(v, temperature=temperature)[0]
    return [None, 0.49 / rate, 3.0 / rate] if transport.scheme.order == 5 else [None]


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("shape", [(23,), (21, 4), (9, 4, 5), (8, 130), (4, 4, 130)], ids=str)
def test_bands_do_not_show(scheme, shape):
    """Bands of few rows of the first axis give the bits of one band, and the rate is the difference of the fluxes."""
    grid = box(shape, ENDS[: len(shape)])
    mu, v = fields(shape)
    for metric, temperature in ((None, 0.0), (None, 0.3), ([wavy] * len(shape), 0.3)):
        transport = Transport(grid, scheme, metric)
        for dt in steps(transport, v, temperature):
            transport._mesh, transport._bands = transport._mesh._replace(band=shape[0]), 1
            fluxes = transport.fluxes(mu, v, dt=dt, temperature=temperature)
            rate = np.zeros(shape)
            for i, (flux, h) in enumerate(zip(fluxes, grid.spacing, strict=True)):
                rate -= np.diff(flux, axis=i) * (1.0 / h)
            np.testing.assert_array_equal(transport.rate(mu, v, dt=dt, temperature=temperature), rate)
            transport._mesh, transport._bands = transport._mesh._replace(band=3), -(-shape[0] // 3)
            np.testing.assert_array_equal(transport.rate(mu, v, dt=dt, temperature=temperature), rate)
            for a, b in zip(fluxes, transport.fluxes(mu, v, dt=dt, temperature=temperature), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("shape", [(20, 4), (5, 6, 7), (4, 5, 130), (4, 2100)], ids=str)
def test_every_line_is_swept_as_if_alone(scheme, shape):
    """With rates that depend on the place, and diffusion: by rows, by tiles of many lines, and one line by itself."""
    grid = box(shape, ENDS[: len(shape)])
    mu, v = fields(shape, 1)
    for metric in (None, [wavy] * len(shape)):
        for temperature in (0.0, 0.3):
            fluxes = Transport(grid, scheme, metric).fluxes(mu, v, temperature=temperature)
            for i, n in enumerate(shape):
                others = [size for j, size in enumerate(shape) if j != i]
                for place in {tuple(0 for _ in others), tuple(k // 2 for k in others), tuple(k - 1 for k in others)}:
                    at = (*place[:i], slice(None), *place[i:])
                    rates = None
                    if metric is not None:
                        fixed = [grid.centres(j)[k] for j, k in enumerate(at) if j != i]
                        rates = [lambda x, i=i, fixed=fixed: wavy(*fixed[:i], x, *fixed[i:])]
                    line = Transport(Grid([grid.axes[i]], [n]), scheme, rates)
                    (alone,) = line.fluxes(mu[at].copy(), v[at].copy(), temperature=temperature)
                    np.testing.assert_array_equal(fluxes[i][at], alone)


@pytest.mark.parametrize("metric", [None, wavy], ids=["plain", "metric"])
def test_limiter_by_rows_and_by_tiles(metric):
    """The same bits where it cuts, slow rows beside fast ones, and drift alone after drift with diffusion."""
    grid = Grid([Axis("x", -1.0, 1.0, End.NATURAL), Axis("y", 0.0, 40.0, End.NATURAL)], (9, 130))
    mu = np.exp(1.5 * np.random.default_rng(2).standard_normal(grid.shape))
    x, y = grid.mesh()
    v = np.where(x < 0, 0.05, 1.0) * x + 0.1 * y
    rates = None if metric is None else [metric] * 2
    rows, tiles = (Transport(g, Weno5(), rates) for g in (grid, Grid(grid.axes[::-1], grid.shape[::-1])))
    for temperature in (0.3, 0.0):
        free = rows.fluxes(mu, v, temperature=temperature)
        for dt in steps(rows, v, temperature):
            a = rows.fluxes(mu, v, dt=dt, temperature=temperature)
            b = tiles.fluxes(mu.T.copy(), v.T.copy(), dt=dt, temperature=temperature)[::-1]
            for one, other, unlimited in zip(a, b, free, strict=True):
                np.testing.assert_array_equal(one, other.T)
                assert dt is None or np.count_nonzero(one != unlimited) > 5


@pytest.mark.parametrize("shape", [(25,), (5000,), (4, 25), (25, 4), (14, 130)], ids=str)
@pytest.mark.parametrize("lower", [End.NATURAL, End.TRUNCATION], ids=lambda end: end.value)
@pytest.mark.parametrize("upper", [End.NATURAL, End.TRUNCATION], ids=lambda end: end.value)
def test_five_faces_are_guarded_at_a_truncated_end(shape, lower, upper):
    """Where nothing else is unsafe: those have the flux of Muscl, all others that between natural ends."""
    grids = [
        Grid([Axis(f"x{i}", -1.0, 1.0, ends) for i in range(len(shape))], shape)
        for ends in (End.NATURAL, (lower, upper))
    ]
    rng = np.random.default_rng(5)
    mu, v = 1.0 + rng.random(shape), rng.standard_normal(shape)
    for temperature in (0.0, 0.3):
        free, guarded = (Transport(grid, Weno5()).fluxes(mu, v, temperature=temperature) for grid in grids)
        low = Transport(grids[0], Muscl()).fluxes(mu, v, temperature=temperature)
        for i, n in enumerate(shape):
            face = np.arange(n + 1).reshape([-1 if j == i else 1 for j in range(len(shape))])
            marked = (face <= 4) & (lower is End.TRUNCATION) | (face >= n - 4) & (upper is End.TRUNCATION)
            np.testing.assert_array_equal(guarded[i], np.where(marked, low[i], free[i]))


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("shape", [(4, 4099), (33, 130)], ids=str)
def test_last_tiles_are_smaller(scheme, shape):
    """Neither the rows of a line nor the lines of a mesh are a multiple of those of a tile."""
    grid = box(shape, ENDS[: len(shape)])
    mu, v = fields(shape, 3)
    transport = Transport(grid, scheme)
    x, y = (
        np.diff(flux, axis=i) * (1.0 / h)
        for i, (flux, h) in enumerate(zip(transport.fluxes(mu, v), grid.spacing, strict=True))
    )
    np.testing.assert_array_equal(transport.rate(mu, v), -x - y)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_fluxes_are_those_of_the_cells_around(scheme):
    """A long line of several tiles, guarded in places, against pieces of it."""
    n = 4099
    mu, v = fields((n,), 4)
    for ends in (End.NATURAL, End.TRUNCATION):
        (whole,) = Transport(Grid([Axis("x", 0.0, float(n), ends)], [n]), scheme).fluxes(mu, v)
        for low in range(10, n - 700, 600):
            piece = Grid([Axis("x", 0.0, 600.0, End.NATURAL)], [600])
            (flux,) = Transport(piece, scheme).fluxes(mu[low : low + 600], v[low : low + 600])
            np.testing.assert_array_equal(flux[10:-10], whole[low + 10 : low + 591])
