"""Compiled implicit steps of the Scharfetter-Gummel fluxes along one axis.

A tile is `width` lines side by side: entry ``j * width + q`` of a buffer is row ``j`` of line ``q``. The recurrences
run along ``j`` and vectorise over ``q``, the last axis of the mesh included, whose lines are transposed on the way in
and out. The way up the rows goes by blocks that stay in the first cache levels; only what the way back needs is
kept for all rows. Every line is worked on by itself, so that neither tiles nor threads show in the result.

The matrix of a line has rates ``a_k`` from row ``k-1`` to ``k`` and ``l_k`` back, both times the step, through the
face ``k`` on the left of row ``k``; on a periodic axis face 0 joins the last row to the first. It is eliminated from
row 0 upwards *without subtractions*: not the diagonal is carried along but ``c``, what is left of the column sum 1.
All quantities are positive, so that every entry of the result has a small relative error, whatever the step and
however deep the tail, and mass is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mfpde.mesh.compiled.bernoulli import bernoulli
from mfpde.mesh.compiled.lines import axis_of
from mfpde.mesh.compiled.options import inlined, jit, kernel
from mfpde.mesh.compiled.structures import Axis, Heat, Mesh
from mfpde.mesh.constants import SAFE
from mfpde.support.arrays import Array
from mfpde.support.pointers import at

__all__ = ["solve", "tile_width"]

WIDTH = 64  # most lines of a tile: the recurrences have a long latency, hidden by that many at a time
BLOCK = 32  # rows of a block

GAMMA = 1.0 - 1.0 / np.sqrt(2.0)  # of the L-stable SDIRK method of two stages
KEEP = np.sqrt(2.0)  # the second stage starts from (1 + KEEP) Y_1 - KEEP mu


class _System(NamedTuple):
    """The equations of all lines of an axis.

    Attributes
    ----------
    axis : Axis
        Along which.
    heat : Heat
        The temperature, which may be 0 here.
    mu, potential : (cells,) array
        The density, and the potential that drives the drift.
    """

    axis: Axis
    heat: Heat
    mu: Array
    potential: Array


class _Carried(NamedTuple):
    """What the elimination carries from row to row, (width,) arrays.

    Attributes
    ----------
    c, b : array
        The column sum and the right-hand side of the row in hand.
    p, s : array
        On a periodic axis the rates from the row in hand to the last one and back.
    last, e : array
        The column sum of the last row, and on a periodic axis its right-hand side.
    """

    c: Array
    b: Array
    p: Array
    s: Array
    last: Array
    e: Array


class _Factors(NamedTuple):
    """An eliminated matrix, entry ``j * width + q`` for row ``j`` of line ``q``, in units of the pivots ``D``.

    Attributes
    ----------
    up, inverse : array
        The rate from a row to the next one, and ``1/D``; before the elimination the rates there and back. Of a block
        of rows, or of all where another right-hand side follows.
    home : array
        On a periodic axis the rate from a row to the last one; of as many rows.
    down : array
        The rate from a row to the one before, of all rows.
    away : array
        On a periodic axis the rate from the last row to this one, of all rows.
    """

    up: Array
    inverse: Array
    home: Array
    down: Array
    away: Array


class _Workspace(NamedTuple):
    """Scratch arrays of a tile.

    Attributes
    ----------
    cells, potential : array
        A block of rows, and one row more.
    factors : _Factors
        For all rows.
    carried : _Carried
        For one row.
    solution : array
        Of all rows.
    rates : (2, width) array
        The rates through face 0, ahead and back.
    seam : (width,) array
        The flux through face 0.
    line : (4, rows + 1) array
        For single lines.
    keep : bool
        Whether all factors are for all rows, and not only `down` and `away`: another right-hand side follows.
    """

    cells: Array
    potential: Array
    factors: _Factors
    carried: _Carried
    solution: Array
    rates: Array
    seam: Array
    line: Array
    keep: bool


@jit
def _copy(source, target):  # type: ignore[no-untyped-def]
    for j in range(target.size):
        target[j] = source[j]


@jit
def _move(mesh, axis, line, width, r0, rows, tile, inward):  # type: ignore[no-untyped-def]
    """Copy rows ``r0 .. r0 + rows`` of lines ``line .. line + width`` into a tile (`inward`) or back."""
    n, inner = axis.rows, axis.inner
    if inner == 1:
        for b in range(width):
            s = (line + b) * n + r0
            along, across = mesh[s : s + rows], tile[b : rows * width : width]
            if inward:
                for r in range(rows):
                    across[r] = along[r]
            else:
                for r in range(rows):
                    along[r] = across[r]
        return
    q = 0
    while q < width:
        o = (line + q) // inner
        c = (line + q) % inner
        run = min(inner - c, width - q)
        for r in range(rows):
            s = (o * n + r0 + r) * inner + c
            t = r * width + q
            if inward:
                _copy(mesh[s : s + run], tile[t : t + run])
            else:
                _copy(tile[t : t + run], mesh[s : s + run])
        q += run


@jit
def _rates(lower, upper, scale, heat, ahead, back):  # type: ignore[no-untyped-def]
    """``scale tau B(+-d)`` as drift plus conductance, ``tau B(-|d|) = tau B(|d|) + |dV|``."""
    temperature, inverse_temperature = heat.temperature, heat.inverse
    for j in range(lower.size):
        x = upper[j] - lower[j]
        k = temperature * bernoulli(abs(x) * inverse_temperature)
        ahead[j] = scale * (k - (0.0 if x > 0.0 else x))
        back[j] = scale * (k + (0.0 if x < 0.0 else x))


@jit
def _scale_rates(axis, line, width, face, faces, ahead, back):  # type: ignore[no-untyped-def]
    """Multiply the rates through faces ``face .. face + faces`` by the metric."""
    q = 0
    while q < width:
        o = (line + q) // axis.inner
        c = (line + q) % axis.inner
        run = min(axis.inner - c, width - q)
        for k in range(faces):
            s = o * axis.line_stride + c * axis.column_stride + (face + k) * axis.face_stride
            t = k * width + q
            for b in range(run):
                g = at(axis.rates, s + b * axis.column_stride)
                ahead[t + b] *= g
                back[t + b] *= g
        q += run


@jit
def _eliminate(rows, w, mu, factors, x, carried):  # type: ignore[no-untyped-def]
    """Eliminate some rows: in `factors` and the solution `x` the first of them comes first, except that `down` and the
    right-hand side `mu` belong to the next row.
    """
    ahead, back, down, c, b = factors.up, factors.inverse, factors.down, carried.c, carried.b
    for j in range(rows):
        t = j * w
        # slices, because an index that might be negative does not vectorise; few at a time, since all are checked
        # for overlap
        up, inverse, d_f = ahead[t : t + w], back[t : t + w], down[t : t + w]
        for q in range(w):
            a = up[q]
            i = 1.0 / (c[q] + a)
            d = inverse[q] * i
            up[q] = a * i
            inverse[q] = i
            d_f[q] = d
            c[q] = 1.0 + d * c[q]
        m, x_c = mu[t : t + w], x[t : t + w]
        for q in range(w):
            y = b[q]
            x_c[q] = y * inverse[q]
            b[q] = m[q] + up[q] * y


@jit
def _eliminate_round(rows, w, mu, factors, x, carried):  # type: ignore[no-untyped-def]
    """`_eliminate` on a periodic axis, against the last row too."""
    ahead, back, down, home, away = factors.up, factors.inverse, factors.down, factors.home, factors.away
    c, b, p, s, last, e = carried
    for j in range(rows):
        t = j * w
        up, inverse, d_f = ahead[t : t + w], back[t : t + w], down[t : t + w]
        h_c, g_c = home[t : t + w], away[t : t + w]
        for q in range(w):
            a = up[q]
            i = 1.0 / (c[q] + a + p[q])
            d = inverse[q] * i
            h_c[q] = p[q] * i
            p[q] = d * p[q]
            up[q] = a * i
            inverse[q] = i
            d_f[q] = d
        for q in range(w):
            g = s[q] * inverse[q]
            g_c[q] = g
            s[q] = s[q] * up[q]
            last[q] += g * c[q]
            c[q] = 1.0 + d_f[q] * c[q]
        m, x_c = mu[t : t + w], x[t : t + w]
        for q in range(w):
            y = b[q]
            x_c[q] = y * inverse[q]
            e[q] += h_c[q] * y
            b[q] = m[q] + up[q] * y


@inlined
def _begin(system, scale, line, w, space):  # type: ignore[no-untyped-def]
    """Take the first row in hand, and on a periodic axis its rates to the last one and back, which are kept."""
    axis, carried, pv = system.axis, space.carried, space.potential
    n, zero, one = axis.rows, np.int64(0), np.int64(1)  # literals would compile the same functions again
    _move(system.mu, axis, line, w, zero, one, carried.b, True)
    if axis.periodic:
        _move(system.potential, axis, line, w, n - one, one, pv, True)
        _move(system.potential, axis, line, w, zero, one, pv[w:], True)
        _move(system.mu, axis, line, w, n - one, one, carried.e, True)
        _rates(pv[:w], pv[w : 2 * w], scale, system.heat, carried.s, carried.p)
        if axis.scaled:
            _scale_rates(axis, line, w, zero, one, carried.s, carried.p)
    for q in range(w):
        carried.c[q] = 1.0
        carried.last[q] = 1.0
        space.rates[0, q] = carried.s[q]
        space.rates[1, q] = carried.p[q]


@inlined
def _before_last(w, factors, x, carried):  # type: ignore[no-untyped-def]
    """`_eliminate` the row before the last one of a periodic axis: the next row and the last are the same."""
    for q in range(w):
        factors.up[q] += carried.p[q]
        factors.inverse[q] += carried.s[q]
    _eliminate(np.int64(1), w, carried.e, factors, x, carried)
    for q in range(w):
        carried.last[q] += carried.c[q] - 1.0


@inlined
def _from(factors, k, t, w):  # type: ignore[no-untyped-def]
    """The factors from entry `t` on, those of a block from `k` on; `down` from the next row on."""
    return _Factors(factors.up[k:], factors.inverse[k:], factors.home[k:], factors.down[t + w :], factors.away[t:])


@jit
def _ascend(system, dt, line, w, space, x):  # type: ignore[no-untyped-def]
    """Set up and eliminate all rows of a tile, and find the last entry of the solution.

    The rates of face 0 are left in `space.rates`.
    """
    axis, carried, pv, right = system.axis, space.carried, space.potential, space.cells
    n, periodic = axis.rows, axis.periodic
    scale = -axis.speed * axis.inverse_h * dt
    _begin(system, scale, line, w, space)
    eliminated = n - 2 if periodic else n - 1
    for r in range(0, n - 1, BLOCK):
        faces = min(BLOCK, n - 1 - r)
        size = faces * w
        t = r * w
        factors = _from(space.factors, t if space.keep else 0, t, w)
        ahead, back = factors.up[:size], factors.inverse[:size]
        _move(system.potential, axis, line, w, r, faces + 1, pv, True)
        _move(system.mu, axis, line, w, r + 1, faces, right, True)
        _rates(pv[:size], pv[w : size + w], scale, system.heat, ahead, back)
        if axis.scaled:
            _scale_rates(axis, line, w, r + 1, faces, ahead, back)
        rows = min(faces, eliminated - r)
        if periodic:
            _eliminate_round(rows, w, right, factors, x[t:], carried)
            if rows < faces:
                u = rows * w
                _before_last(w, _from(factors, u, u, np.int64(0)), x[t + u :], carried)
        else:
            _eliminate(rows, w, right, factors, x[t:], carried)
    end = x[(n - 1) * w : n * w]
    for q in range(w):
        carried.last[q] = carried.last[q] if periodic else carried.c[q]
        end[q] = carried.b[q] / carried.last[q]


@jit
def _ascend_again(axis, w, space, x):  # type: ignore[no-untyped-def]
    """Another right-hand side, in place, for a tile whose elimination was kept."""
    n, periodic, up, inverse, home = (
        axis.rows,
        axis.periodic,
        space.factors.up,
        space.factors.inverse,
        space.factors.home,
    )
    b, last, e = space.carried.b, space.carried.last, space.carried.e
    t = (n - 1) * w
    for q in range(w):
        b[q] = x[q]
        e[q] = x[t + q]
    for j in range(n - 1):
        t = j * w
        here, right, i_c, u_c = x[t : t + w], x[t + w : t + 2 * w], inverse[t : t + w], up[t : t + w]
        if periodic and j < n - 2:
            h_c = home[t : t + w]
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                e[q] += h_c[q] * y
                b[q] = right[q] + u_c[q] * y
        elif periodic:
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                b[q] = e[q] + u_c[q] * y
        else:
            for q in range(w):
                y = b[q]
                here[q] = y * i_c[q]
                b[q] = right[q] + u_c[q] * y
    end = x[(n - 1) * w : n * w]
    for q in range(w):
        end[q] = b[q] / last[q]


@jit
def _descend(axis, w, factors, low, high, x):  # type: ignore[no-untyped-def]
    """Back substitution for rows ``high - 1 .. low``, those above being known."""
    n, periodic, down, away = axis.rows, axis.periodic, factors.down, factors.away
    end = x[(n - 1) * w : n * w]
    for j in range(min(high, n - 1) - 1, low - 1, -1):
        t = j * w
        here, above, d = x[t : t + w], x[t + w : t + 2 * w], down[t + w : t + 2 * w]
        if periodic and j < n - 2:
            g = away[t : t + w]
            for q in range(w):
                here[q] = here[q] + d[q] * above[q] + g[q] * end[q]
        else:
            for q in range(w):
                here[q] = here[q] + d[q] * above[q]


@jit
def _second_stage(system, line, w, before, stage):  # type: ignore[no-untyped-def]
    """``(1 + KEEP) Y - KEEP mu`` in place of ``Y``."""
    n = system.axis.rows
    for r in range(0, n, BLOCK):
        rows = min(BLOCK, n - r)
        _move(system.mu, system.axis, line, w, r, rows, before, True)
        y = stage[r * w : (r + rows) * w]
        for j in range(rows * w):
            y[j] = y[j] + KEEP * (y[j] - before[j])


@jit
def _any_negative(x, m):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(m):
        count += 1 if x[j] < 0.0 else 0
    return count > 0


@jit
def _pass(flux, have, want, n, step, start, keep):  # type: ignore[no-untyped-def]
    """The factors of the faces through which `flux` goes in one direction, donors visited along it.

    Face ``k`` is on the left of row ``k``. `start` is the factor of the face through which the first row is entered.
    A donor gives what it has and what it has just been given; where the whole leaves nothing negative, the whole.
    """
    given = start
    for k in range(n):
        j = k if step > 0 else n - 1 - k
        entry, leave = (j, j + 1) if step > 0 else (j + 1, j)
        inflow, outflow = step * flux[entry], step * flux[leave]
        if not outflow > 0.0:
            given = 1.0
            continue
        if inflow < 0.0:
            outflow -= inflow  # gives to both sides
            inflow = 0.0
        if want[j] >= 0.0 and (inflow == 0.0 or given == 1.0):
            given = 1.0
        else:
            room = SAFE * (have[j] + given * inflow)
            given = room / outflow if room < outflow else 1.0
        keep[leave] = given
    return given


@jit
def _blend(have, want, n, periodic, seam, flux, keep):  # type: ignore[no-untyped-def]
    """Replace the line `want` by one without negative entries between it and the positive line `have`.

    Their face fluxes differ by `flux`, with ``have_k - want_k = flux_(k+1) - flux_k`` and `seam` at face 0; of it
    each face keeps what its donor can pay. Where nothing is negative, nor anything upstream, that is exactly all.
    """
    # summed from both ends to the heaviest row: nothing in the tails is lost to the round-off of the bulk
    top = 0
    for j in range(n):
        if have[j] > have[top]:
            top = j
    flux[0] = seam
    flux[n] = seam
    for j in range(top):
        flux[j + 1] = flux[j] + (have[j] - want[j])
    for j in range(n - 1, top, -1):
        flux[j] = flux[j + 1] - (have[j] - want[j])
    for k in range(n + 1):
        keep[k] = 1.0
    for step in (1, -1):
        given = _pass(flux, have, want, n, step, 1.0, keep)
        if periodic and step * seam > 0.0:
            if given < 1.0:
                # the first row cannot count on all that comes round: on what is certain only
                given = _pass(flux, have, want, n, step, 0.0, keep)
                _pass(flux, have, want, n, step, given, keep)
            keep[0] = given
            keep[n] = given
    for j in range(n):
        if keep[j] < 1.0 or keep[j + 1] < 1.0 or want[j] < 0.0:
            value = have[j] - (keep[j + 1] * flux[j + 1] - keep[j] * flux[j])
            want[j] = 0.0 if value < 0.0 else value


@jit
def _make_positive(axis, w, low, space, x):  # type: ignore[no-untyped-def]
    """Blend the lines of a tile that have negative entries with those of `low`, the implicit Euler step.

    `space.seam` is the flux of `x` through face 0, `space.rates` are those of `low` there.
    """
    n, seam, rates = axis.rows, space.seam, space.rates
    euler, sdirk, flux, keep = space.line[0], space.line[1], space.line[2], space.line[3]
    for q in range(w):
        negative = False
        for j in range(n):
            euler[j] = low[j * w + q]
            sdirk[j] = x[j * w + q]
            negative = negative or sdirk[j] < 0.0
        if negative:
            difference = 0.0
            if axis.periodic:
                difference = seam[q] - (rates[0, q] * euler[n - 1] - rates[1, q] * euler[0])
            _blend(euler, sdirk, n, axis.periodic, difference, flux, keep)
            for j in range(n):
                x[j * w + q] = sdirk[j]


@kernel
def tile_width(lines):  # type: ignore[no-untyped-def]
    """Lines of a tile."""
    return min(WIDTH, lines)


@inlined
def _workspace(axis, width, second):  # type: ignore[no-untyped-def]
    """Scratch arrays for tiles of `width` lines, and steps of first or `second` order."""
    size = axis.rows * width
    kept = size if second else BLOCK * width
    away, home = np.empty(size if axis.periodic else 0), np.empty(kept if axis.periodic else 0)
    block, row = np.empty((2, (BLOCK + 1) * width)), np.empty((6, width))
    return _Workspace(
        block[1],
        block[0],
        _Factors(np.empty(kept), np.empty(kept), home, np.empty(size), away),
        _Carried(row[0], row[1], row[2], row[3], row[4], row[5]),
        np.empty(size),
        np.empty((2, width)),
        np.zeros(width),
        np.empty((4, axis.rows + 1 if second else 0)),
        second,
    )


@inlined
def _euler(system, dt, line, w, space, out):  # type: ignore[no-untyped-def]
    """Implicit Euler on a tile."""
    axis, x = system.axis, space.solution
    n = axis.rows
    _ascend(system, dt, line, w, space, x)
    for r in range(((n - 1) // BLOCK) * BLOCK, -1, -BLOCK):
        high = min(n, r + BLOCK)
        _descend(axis, w, space.factors, r, high, x)
        _move(out, axis, line, w, r, high - r, x[r * w :], False)


@inlined
def _sdirk(system, dt, line, w, space, out):  # type: ignore[no-untyped-def]
    """The two-stage method on a tile; where it leaves a negative entry, blended with implicit Euler."""
    axis, x, rates, seam = system.axis, space.solution, space.rates, space.seam
    n, zero = axis.rows, np.int64(0)  # a literal would compile the same function again
    _ascend(system, GAMMA * dt, line, w, space, x)
    _descend(axis, w, space.factors, zero, n, x)
    t = (n - 1) * w
    if axis.periodic:
        for q in range(w):
            seam[q] = (1.0 + KEEP) * (rates[0, q] * x[t + q] - rates[1, q] * x[q])
    _second_stage(system, line, w, space.potential, x)
    _ascend_again(axis, w, space, x)
    _descend(axis, w, space.factors, zero, n, x)
    if _any_negative(x, n * w):
        if axis.periodic:
            for q in range(w):
                seam[q] += rates[0, q] * x[t + q] - rates[1, q] * x[q]
        low = np.empty(n * w)
        _ascend(system, dt, line, w, space, low)
        _descend(axis, w, space.factors, zero, n, low)
        _make_positive(axis, w, low, space, x)
    _move(out, axis, line, w, zero, n, x, False)


@kernel
def solve(  # type: ignore[no-untyped-def]
    order,
    dt,
    temperature,
    inverse_temperature,
    ints,
    floats,
    metric,
    i,
    mu,
    potential,
    start,
    stop,
    out,
):
    """One implicit step on tiles ``start <= j < stop`` of the lines of an axis.

    The signature is wide because structures take their time on the way from Python, see `structures`.

    Parameters
    ----------
    order : int
        1 or 2.
    dt : float
        Length of the step.
    temperature, inverse_temperature : float
        As in `Heat`, or both 0.
    ints, floats, metric
        As in `Mesh`.
    i : int
        The axis.
    mu, potential : (cells,) array
        The density, and the potential that drives the drift.
    start, stop : int
        Tiles of `tile_width` lines.
    out : (cells,) array
        Where the density goes; it may be `mu`.
    """
    axis, second = axis_of(Mesh(ints, floats, metric, 0), i), order == 2
    system = _System(axis, Heat(temperature, inverse_temperature, 1.0), mu, potential)
    lines = axis.outer * axis.inner
    width = tile_width(lines)
    space = _workspace(axis, width, second)
    for tile in range(start, stop):
        line = tile * width
        w = min(width, lines - line)
        if second:
            _sdirk(system, dt, line, w, space, out)
        else:
            _euler(system, dt, line, w, space, out)
