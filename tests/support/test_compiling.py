"""Compiled code in files: a run does not depend on them. And without a compiler the same kernels are plain Python."""

import errno
import importlib.util
import json
import os
import pickle
import time
import warnings
from typing import NamedTuple

import numba
import numpy as np
import pytest
from shared import ROOT, python

import mfpde as mf
from mfpde.support import compiling
from mfpde.support.clock import working_time
from mfpde.support.interpreted import whole


@pytest.fixture(autouse=True)
def first_of_its_kind(monkeypatch):
    """Every warning is said once in a process; here, once in a test."""
    monkeypatch.setattr(compiling, "_said", set())


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with a compiled function, imported anew at every call; compiled code goes beside it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))

    def load(added=1.0):
        path = tmp_path / "kernel.py"
        text = f"from mfpde.support.compiling import compiled\n\n\n@compiled()\ndef add(x):\n    return x + {added}\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            os.utime(path, ns=(0, int(1e9 * added)))  # another time, however fast this is
        spec = importlib.util.spec_from_file_location("kernel", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def hits(module):
    return sum(module.add.stats.cache_hits.values())


def unpacked(content):
    """What a file holds: for numba's index other than bytes, which are not compared."""
    try:
        return pickle.loads(content)
    except Exception:
        return None


def damages(file):
    """Ways in which a file of this content may be damaged."""
    content = file.read_bytes()
    yield b""
    for part in range(1, 8):
        yield content[: len(content) * part // 8]
    for place in range(3, len(content), max(1, len(content) // 12)):
        yield content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
    yield bytes(len(content))
    yield b"\x80\x05K\x00."  # a pickle of something else


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_files_are_compiled_again_and_replaced(module, tmp_path, kind):
    """Numba lets EOFError, UnpicklingError and whatever else it is out of the call; a changed bit it runs."""
    assert module().add(1.0) == 2.0
    assert hits(module()) == 0
    (file,) = (tmp_path / "__pycache__").glob(f"*.{kind}")
    seen, whole = 0, unpacked(file.read_bytes())
    for damaged in damages(file):
        file.write_bytes(damaged)
        compiling._said.clear()
        again = module()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert again.add(1.0) == 2.0
        # a changed index may still name what is there, and a bit of the wrapping may be of no matter
        assert kind == "nbi" or hits(again) == 0 or unpacked(damaged) == whole
        for warning in said:
            assert warning.category is mf.RunWarning
            for part in (str(tmp_path / "__pycache__"), "are damaged", "NUMBA_CACHE_DIR"):
                assert part in str(warning.message)
        seen += len(said)
        third = module()
        assert third.add(1.0) == 2.0
        assert hits(third) == 1
    assert seen >= 8  # or name nothing


def test_one_warning_for_all_damaged_files(module, tmp_path):
    first = module()
    assert (first.add(1.0), first.add(1)) == (2.0, 2.0)
    for file in (tmp_path / "__pycache__").glob("*.nb?"):
        file.write_bytes(b"")
    again = module()
    with pytest.warns(mf.RunWarning, match="are damaged") as said:
        assert (again.add(1.0), again.add(1)) == (2.0, 2.0)
    assert len(said) == 1


def test_no_folder_for_compiled_code(module, tmp_path, monkeypatch):
    (tmp_path / "__pycache__").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.warns(mf.RunWarning, match=f"cannot be kept in {tmp_path}/__pycache__, .* set NUMBA_CACHE_DIR") as said:
        without = module()
    assert len(said) == 1
    assert without.add(1.0) == 2.0
    assert module().add(1.0) == 2.0


def test_a_full_disk_under_the_compiled_code(module, tmp_path, monkeypatch):
    """Numba writes the index before the entry: another version's entry of that name must not be taken for it."""
    from numba.core.caching import IndexDataCacheFile

    assert module().add(1.0) == 2.0

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_save_data", full)
        new = module(added=2.0)
        with pytest.warns(mf.RunWarning, match=f"cannot be kept in {tmp_path}.* No space left on device") as said:
            assert (new.add(1.0), new.add(1)) == (3.0, 3.0)
        assert len(said) == 1
    for expected in (0, 1):
        later = module(added=2.0)
        assert later.add(1.0) == 3.0
        assert hits(later) == expected
    compiling._said.clear()
    with monkeypatch.context() as patch:  # a damaged index that cannot be replaced
        patch.setattr(IndexDataCacheFile, "_save_index", full)
        (index,) = (tmp_path / "__pycache__").glob("*.nbi")
        index.write_bytes(b"")
        with pytest.warns(mf.RunWarning, match="No space left on device") as said:
            assert module(added=2.0).add(1.0) == 3.0
        assert len(said) == 1


def test_code_of_another_version_is_not_taken(module, monkeypatch):
    """Numba looks at the file of the function, and not at those of the functions which it contains."""
    assert module().add(1.0) == 2.0
    monkeypatch.setattr(compiling, "_version_of_sources", lambda: b"another")
    for expected in (0, 1):
        again = module()
        assert again.add(1.0) == 2.0
        assert hits(again) == expected
    sources = {path for pattern in compiling._SOURCES for path in (ROOT / "mfpde").glob(pattern)}
    made = {path for path in (ROOT / "mfpde").rglob("*.py") if "compiling import" in path.read_text()}
    assert made <= sources


def test_files_that_plain_numba_has_written_are_no_damage(module):
    """Of a version before this one, say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "_Tolerant", lambda cache: cache)
        assert module().add(1.0) == 2.0
    for expected in (0, 1):
        again = module()
        assert again.add(1.0) == 2.0
        assert hits(again) == expected


def test_an_interrupt_while_files_are_read_is_one(module, monkeypatch):
    assert module().add(1.0) == 2.0

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.load", interrupt)
    again = module()
    with pytest.raises(KeyboardInterrupt):
        again.add(1.0)


def test_a_numba_that_keeps_its_code_otherwise_is_left_to_itself(monkeypatch):
    class Dispatcher:
        def enable_caching(self):
            self._cache = self

    dispatcher = Dispatcher()
    compiling._keep(dispatcher, hits)
    assert dispatcher._cache is dispatcher


INTERPRETED = """
import json, numpy as np, mfpde as mf

def numbers():
    bumps, plane = mf.problems.gaussian_bumps(), mf.problems.three_gaussians()
    torus = mf.problems.torus_langevin(temperature=0.2)
    runs = [
        mf.solve(bumps, 24, 0.2, save=2, progress=False),
        mf.solve(plane, (12, 14), 0.02, save=2, scheme=mf.Muscl(), method=mf.Strang(), progress=False),
        mf.solve(bumps, 24, 0.1, save=2, scheme=mf.Upwind(), method=mf.Lie(), progress=False),
        mf.solve(torus, 24, 0.05, save=2, scheme=mf.ScharfetterGummel(), method=mf.ImplicitStrang(), progress=False),
        mf.solve(torus, 24, 0.02, save=2, scheme=mf.ScharfetterGummel(), method=mf.Strang(), progress=False),
    ]
    yield from (run.density[-1].ravel().tolist() for run in runs)
    yield from ([*run.energy, *run.diagnostics["dissipation_transport"]] for run in runs)
    exact = mf.characteristics(bumps, t_end=0.1, save=2, tolerance=1e-4, progress=False)
    yield exact.energy.tolist()
    for problem in (bumps, plane, torus):
        cloud = mf.particles.simulate(problem, n=20, t_end=0.1, dt=0.05, seed=1, progress=False)
        yield cloud.energy.ravel().tolist()
    points, axes = np.linspace(0.1, 0.9, 14).reshape(7, 2), [mf.Axis("x", 0, 1, mf.End.PERIODIC), mf.Axis("y", 0, 1)]
    yield mf.particles.KernelDensity(0.3).estimate(points, np.ones(7), axes).tolist()

found = [list(map(float, part)) for part in numbers()]
"""


@pytest.fixture(scope="module")
def without_a_compiler(tmp_path_factory):
    code = INTERPRETED + "print(json.dumps(found))"
    return python("-c", code, timeout=300, environment={"NUMBA_DISABLE_JIT": "1"})


def test_plain_python_gives_the_compiled_numbers(without_a_compiler):
    """With NUMBA_DISABLE_JIT=1. Compiled products and sums may be contracted: the last digits differ."""
    assert without_a_compiler.returncode == 0, without_a_compiler.stderr
    here = {}
    exec(INTERPRETED, here)
    plain = json.loads(without_a_compiler.stdout)
    assert len(plain) == len(here["found"]) == 15
    assert (whole(np.nan), whole(np.inf), whole(-3.0)) == (0, 0, -3)  # of particles that are nowhere, some cell
    for one, other in zip(plain, here["found"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.max(np.abs(other)))


def test_plain_python_says_once_that_it_is_slow(without_a_compiler):
    assert without_a_compiler.stderr.count("NUMBA_DISABLE_JIT is set") == 1


class One(NamedTuple):
    x: float


class Two(NamedTuple):
    x: float
    y: float


@pytest.mark.parametrize("plain", [False, True], ids=["compiled", "interpreted"])
def test_a_variant_is_chosen_by_the_class_of_a_structure(monkeypatch, plain):
    monkeypatch.setattr(compiling, "interpreted", lambda: plain)

    @compiling.by_class(error_model="numpy")
    def area(shape, scale):
        """The area of a shape."""

    @area.register(One)
    def of_one(shape, scale):
        return scale * shape.x**2

    @area.register(Two)
    @compiling.compiled(cache=False)
    def of_two(shape, scale):
        return scale * shape.x * shape.y

    def twice(shape):
        return area(shape, 2.0)

    called = twice if plain else numba.njit(twice)
    assert (called(One(3.0)), called(Two(3.0, 5.0))) == (18.0, 30.0)
    assert area.__doc__ == "The area of a shape."
    with pytest.raises(KeyError if plain else numba.TypingError):
        called((3.0, 5.0))


def test_the_clock_of_time_limits_stands_still_while_functions_are_compiled(module):
    """By numba's own account of how long that takes."""
    with numba.core.event.install_recorder("numba:compile") as recorder:
        work, wall = working_time(), time.perf_counter()
        module().add(1.0)
        work, wall = working_time() - work, time.perf_counter() - wall
    starts = [at for at, event in recorder.buffer if event.is_start]
    ends = [at for at, event in recorder.buffer if event.is_end]
    compiling_took = max(ends) - min(starts)
    assert compiling_took > 0.0
    assert wall - work == pytest.approx(compiling_took, rel=0.05, abs=1e-3)


def test_small_time_limits_hold_for_work_alone(tmp_path):
    """The first run on a machine compiles for some seconds."""
    code = (
        "import mfpde as mf\n"
        "neuron = mf.problems.linear_neuron()\n"
        "print(mf.solve(neuron, 50, 0.01, save=2, scheme=mf.Upwind(), time_limit=4.0, estimate=False).result.name)\n"
        "print(mf.characteristics(neuron, 0.01, save=2, tolerance=1e-3, time_limit=4.0).converged)\n"
    )
    said = python("-c", code, environment={"NUMBA_CACHE_DIR": str(tmp_path)})
    assert said.stdout.split() == ["SUCCESS", "True"], said.stderr
