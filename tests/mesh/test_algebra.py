"""The operations of a step: what they are, with remainders of every kind, and compiled the same bits on any threads."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

import mfpde as mf
from mfpde.mesh.algebra import Change
from mfpde.mesh.compiled import algebra as compiled
from mfpde.support.threads import in_shares

ALGEBRAS = (mf.CompiledAlgebra(), mf.NumpyAlgebra())
PASSES = mf.CompiledAlgebra()
SIZES = (1, 2, 15, 16, 17, 33, 2047, 2048, 2049, 4100, 100_003)


def arrays(size: int, count: int) -> list[np.ndarray]:
    """Random numbers; what lies behind them in memory would be seen in any result."""
    rng = np.random.default_rng(size)
    found = []
    for _ in range(count):
        room = np.resize([1e9, -1e9], size + 64)
        room[:size] = rng.standard_normal(size)
        found.append(room[:size])
    return found


def close(value: float, terms: np.ndarray) -> bool:
    """Whether `value` is the sum of the terms, up to the rounding of sums of that many."""
    return abs(value - math.fsum(terms)) <= 1e-14 * float(np.abs(terms).sum())


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
@pytest.mark.parametrize("size", SIZES)
def test_survey(algebra, size: int) -> None:
    density, V = arrays(size, 2)
    np.maximum(density, 0.1, out=density)
    density[1::3] = 0.0
    known = algebra.survey(density, V)
    assert close(known.total, density)
    assert close(known.moment, density * V)
    assert (known.low, known.high, known.least) == (V.min(), V.max(), density.min())
    assert known.held == np.min(V, where=density > 0, initial=np.inf)
    assert close(algebra.second_moment(density, V, 0.3), density * (V - 0.3) ** 2)


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
def test_survey_of_nothing(algebra) -> None:
    known = algebra.survey(np.zeros(20), np.ones(20))
    assert (known.total, known.moment, known.held, known.least) == (0.0, 0.0, np.inf, 0.0)


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
@pytest.mark.parametrize("where", [0, 15, 16, 2047, 2050])
def test_a_nan_shows(algebra, where: int) -> None:
    density, V = np.abs(arrays(2051, 2))
    broken = V.copy()
    broken[where] = np.nan
    assert math.isnan(algebra.survey(density, broken).moment)
    assert math.isnan(algebra.survey(broken, V).total)
    assert math.isnan(algebra.first_stage(density, broken, None, 0.1, np.empty(2051))[0])
    assert np.flatnonzero(np.isnan(algebra.exponential(broken, 0.0, -1.0, True, np.empty(2051)))).tolist() == [where]


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reacts", [False, True])
def test_stages(algebra, size: int, reacts: bool) -> None:
    mu, nu, rate, before, r, r_0, slope = arrays(size, 7)
    third = np.exp(-np.abs(r_0)) if reacts else None
    f = third if reacts else np.ones(size)
    h, alpha, alpha_0, constant = 0.3, 1.25, 0.75, 0.5
    delta = (alpha * r - alpha_0 * r_0 - constant) if reacts else np.zeros(size)
    change = Change(r, r_0, alpha, alpha_0, constant) if reacts else None
    if reacts:
        assert algebra.largest_change(change) == (alpha * r - alpha_0 * r_0).max() - constant

    out = np.empty(size)
    total, growth, _ = algebra.first_stage(mu, rate, third, h, out)
    assert np.array_equal(out, (mu + h * rate) * (f * f))
    assert close(total, out)
    assert close(growth, rate)

    expected_slope = slope - delta * nu
    expected = (2.0 * (f * f * mu) + nu + expected_slope * (4.0 / 3.0 * h)) * (1.0 / 3.0)
    new, changed = nu.copy(), slope.copy()
    total, growth, _ = algebra.second_stage(mu, new, third, change, h, changed)
    assert np.array_equal(new, expected)
    assert np.array_equal(changed, expected_slope)
    assert close(total, expected)
    assert close(growth, slope)

    expected = ((5.0 / 32.0 * h) * rate + (74.0 / 128.0) * mu) * (f * f)
    expected = (expected + (expected_slope * (4.0 / 3.0 * h) + nu) * (27.0 / 64.0)) * f
    end = slope.copy()
    total, growth, error = algebra.final_stage(mu, nu, third, change, h, rate, before, end)
    assert np.array_equal(end, expected)
    assert close(total, expected)
    assert close(growth, slope)
    assert close(error, np.abs(expected_slope - before) * f)

    growth = algebra.combine(mu, nu, rate, 0.25, 0.75, 0.1, out)
    assert np.array_equal(out, 0.25 * mu + 0.75 * (nu + 0.1 * rate))
    assert close(growth, rate)


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
@pytest.mark.parametrize("size", SIZES[:-1])
def test_largest_change(algebra, size: int) -> None:
    """Wherever it is. No cell's rate is taken with the earlier one of another, or with what lies behind."""
    behind = np.resize([1e9, -1e9], size + 64)
    r, r_0 = behind[:size], (-behind)[:size]
    for sign in (1.0, -1.0):
        for where in {0, size // 2, size - 1}:
            r[:] = r_0[:] = 10.0 * sign * np.arange(size)
            r[where] += 2.0
            assert algebra.largest_change(Change(r, r_0, 1.0, 1.0, 0.25)) == 1.75


@pytest.mark.parametrize("algebra", ALGEBRAS, ids=lambda a: a.name)
@pytest.mark.parametrize("size", SIZES)
def test_exponential_and_finish(algebra, size: int) -> None:
    (r,) = arrays(size, 1)
    assert np.array_equal(algebra.exponential(r, 0.1, -2.0, False, np.empty(size)), np.exp((r - 0.1) * -2.0))
    clipped = algebra.exponential(r, 0.1, -2.0, True, np.empty(size))
    assert np.array_equal(clipped, np.exp(np.minimum((r - 0.1) * -2.0, 0.0)))
    tiny = r.copy()
    tiny[::3] = 1e-291
    assert np.array_equal(algebra.finish(tiny.copy(), 0.5), np.where(np.abs(tiny) < 1e-200, 0.0, 0.5 * tiny))


def test_two_dimensions_are_swept_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "in_shares", lambda task, pieces, size: [task(k, k + 1) for k in range(pieces)])
    (r,) = arrays(6000, 1)
    plane = PASSES.exponential(r.reshape(3, 2000), 0.1, -2.0, False, np.empty((3, 2000)))
    assert np.array_equal(plane.ravel(), np.exp((r - 0.1) * -2.0))


def test_threads_do_not_change_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100_003
    density, V = arrays(size, 2)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(compiled, "in_shares", partial(in_shares, threads=threads))
        known, out = PASSES.survey(density, V), np.empty(size)
        found.append([known.total, known.moment, known.held, *PASSES.first_stage(density, V, None, 0.3, out), *out])
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_threads_are_counted_without_a_lock_that_forked_processes_share(monkeypatch):
    """A process that is killed while it holds such a lock would stop its siblings for ever."""
    import numba
    from numba.np.ufunc import parallel

    from mfpde.support.threads import at_most, available

    def never() -> None:
        raise AssertionError("numba's threads are started")

    monkeypatch.setattr(parallel, "_launch_threads", never)
    assert available() == numba.config.NUMBA_NUM_THREADS
    with at_most(1):
        assert available() == 1
        with at_most(10**6):  # no more than the block around it says
            assert available() == 1
        assert available() == 1
        assert in_shares(lambda start, stop: (start, stop), 8, 10**6) == [(0, 8)]
    with at_most(10**6):
        assert available() == numba.config.NUMBA_NUM_THREADS
    assert in_shares(lambda start, stop: (start, stop), 8, 10**6, 2) == [(0, 4), (4, 8)]
    mf.solve(mf.problems.three_gaussians(), (400, 260), 1e-3, save=2, progress=False)
