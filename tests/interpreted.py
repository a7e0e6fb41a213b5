"""A pytest plugin: the compiled kernels run as plain Python, so that coverage and breaks of one place reach them.

    PYTHONPATH=tests python -m coverage run --branch --source=mfpde -m pytest -p interpreted tests/test_passes.py

Compiled code is invisible to coverage, and every break of it costs half a minute of compilation. Here `njit` leaves
functions as they are, and the loads, stores and vectors they are made of are those of numpy. A thousand times slower:
for small meshes. What no compiled function may do shows as NaN: reading where there is nothing.
"""

import struct

import numba
import numpy as np

_compile = numba.njit


def _njit(*function, **options):
    return function[0] if function else (lambda f: f)


numba.njit = _njit
from mfpde import lanes  # noqa: E402
from mfpde.transport import bernoulli, pointers  # noqa: E402


def pytest_runtest_setup(item):
    """Compiled code raises no floating-point warnings."""
    np.seterr(all="ignore")


# --- pointers: an array and an offset


def pointer(array, offset):
    return array.reshape(-1), int(offset)


def shift(p, offset):
    return p[0], p[1] + int(offset)


def at(p, j):
    k = p[1] + j
    return p[0][k] if 0 <= k < p[0].size else np.float64(np.nan)


def put(p, j, x):
    k = p[1] + j
    if 0 <= k < p[0].size:
        p[0][k] = x
    else:
        raise IndexError("a compiled function would have written beyond its array")


def _as_integer(x):
    return struct.unpack("<q", struct.pack("<d", x))[0]


def _as_double(k):
    return np.float64(struct.unpack("<d", struct.pack("<Q", int(k) & 0xFFFFFFFFFFFFFFFF))[0])


# --- lanes: vectors of numpy


def load(p, j, left, beyond):
    out = np.full(lanes.COUNT, beyond, dtype=float)
    n = min(max(left, 0), lanes.COUNT)
    out[:n] = [at(p, j + k) for k in range(n)]
    return out


def store(p, j, left, x):
    for k in range(min(max(left, 0), lanes.COUNT)):
        put(p, j + k, x[k])


def _first(order):
    def chosen(x):
        best = x[0]
        for other in x[1:]:
            best = other if order(other, best) else best
        return best

    return chosen


REPLACED = {
    pointers: {
        "pointer": pointer,
        "shift": shift,
        "at": at,
        "peek": at,
        "put": put,
        "put_second": put,
        "put_third": put,
        "put_fourth": put,
        "fetch": lambda p, j: None,
        "smaller": lambda i, j: i if i < j else j,
        "larger": lambda i, j: i if i > j else j,
    },
    bernoulli: {"_as_integer": _as_integer, "_as_double": _as_double},
    lanes: {
        "load": load,
        "store": store,
        "spread": lambda x: np.full(lanes.COUNT, x, dtype=float),
        "lesser": lambda x, y: np.where(x < y, x, y),
        "greater": lambda x, y: np.where(x > y, x, y),
        "where": lambda m, x, y: np.where(m > 0, x, y),
        "magnitude": np.abs,
        "flushed": lambda x, limit: np.where(np.abs(x) < limit, 0.0, x),
        "summed": lambda x: np.add.accumulate(x)[-1],
        "least": _first(lambda x, y: x < y),
        "greatest": _first(lambda x, y: x > y),
    },
}
for module, names in REPLACED.items():
    vars(module).update(names)
from mfpde import passes  # noqa: E402, F401
from mfpde.transport import kernels  # noqa: E402, F401

numba.njit = _compile
