"""A pytest plugin: the compiled kernels run as plain Python, so that coverage and breaks of one place reach them.

    PYTHONPATH=tests python -m coverage run --branch --source=mfpde -m pytest -p interpreted tests/mesh/test_algebra.py

Compiled code is invisible to coverage, and every break of it costs half a minute of compilation. Here the kernels of
the solver are imported as `NUMBA_DISABLE_JIT=1` has them, see `mfpde/support/interpreted.py`; what tests compile
themselves is compiled. A thousand times slower: for small meshes. What no compiled function may do shows as NaN:
reading where there is nothing.
"""

import warnings

import numba

_before = numba.config.DISABLE_JIT
numba.config.DISABLE_JIT = True
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that this is slow
    from mfpde.lagrangian.compiled import stepping, tracing  # noqa: F401
    from mfpde.mesh.compiled import algebra, outflow, rows, sweep, tridiagonal  # noqa: F401
numba.config.DISABLE_JIT = _before
