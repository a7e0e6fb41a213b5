"""Runs that write their densities as they go: nothing is held, nothing is lost, and the file is like any other."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import tracemalloc
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from shared import Gone, assert_same_solution, content, die, printed_by, same_bits

import mfpde as mf
from mfpde.mesh import solution_writer
from mfpde.mesh import stream as streaming
from mfpde.mesh.memory import run_memory
from mfpde.mesh.options import RunOptions
from mfpde.mesh.record import COLUMNS, Result
from mfpde.mesh.run import _room
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_reader import wrong_checksums
from mfpde.mesh.stream import Stream
from mfpde.support.files import frames as stored
from mfpde.support.files import hdf5, in_place
from mfpde.support.files.frames import IN_MEMORY, StoredDensity
from mfpde.support.files.hdf5 import FileFormatError
from mfpde.support.files.in_place import NumbersFile

pytestmark = pytest.mark.usefixtures("companions")

PLANE = mf.problems.gaussian_bumps(centres=((-2.0, -1.0), (1.5, 1.0)))
LINE = mf.problems.gaussian_bumps()
WATCHED = {"narrowest_layer", "steepest_descent"}
"""Numbers of a run that its file has once it has ended."""
SETTINGS = {"shape": 60, "t_end": 0.3, "save": 7, "progress": False}


def run(problem: mf.Problem = LINE, **changes) -> Solution:
    return mf.solve(problem, **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def reference() -> Solution:
    """The run as it is without a file."""
    return run()


@pytest.fixture
def stays(monkeypatch):
    """Densities stay in the file however few they are."""
    monkeypatch.setattr(stored, "IN_MEMORY", 0)


# ----- the file of a run


@pytest.mark.parametrize("place", ["memory", "file", "small blocks"])
@pytest.mark.parametrize("end", ["success", "stopped", "failed", "interrupted", "before the first save"])
def test_the_file_is_what_save_would_write(path, monkeypatch, place, end):
    if place != "memory":
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    if place == "small blocks":
        monkeypatch.setattr(streaming, "_ROWS", 4)
    changes: dict[str, object] = {}
    if end == "stopped":
        changes["stop"] = lambda snapshot: snapshot.step == 8
    elif end == "failed":
        changes |= {"max_steps": 9, "throw": False}
    elif end == "interrupted":
        changes["stop"] = lambda snapshot: snapshot.step == 7 and os.kill(os.getpid(), signal.SIGINT)
    elif end == "before the first save":
        changes["stop"] = lambda snapshot: True
    plain = run(**changes)
    names = {"failed": "MAX_STEPS", "before the first save": "STOPPED"}
    assert plain.result.name == names.get(end, end.upper())
    assert len(plain.times) == {"success": 7, "before the first save": 2}.get(end, 4)

    streamed = run(**changes, output=path)
    assert isinstance(streamed.density, np.ndarray if place == "memory" else StoredDensity)
    assert_same_solution(streamed, plain)
    loaded = mf.load(path)
    assert isinstance(loaded.density, np.ndarray if place == "memory" else StoredDensity)
    assert_same_solution(loaded, plain)
    assert streamed.provenance == loaded.provenance
    plain.save(path.with_name("saved.h5"))
    assert content(path) == content(path.with_name("saved.h5"))
    assert len(content(path)) > 100
    with h5py.File(path) as file:
        assert file["density"].chunks is None
    assert sorted(os.listdir(path.parent)) == ["run.h5", "saved.h5"]


def test_xarray_opens_it(path, reference, stays):
    run(output=path)
    with xr.open_dataset(path, engine="h5netcdf") as data:
        assert data.density.dims == ("time", "x")
        assert same_bits(data.density.values, reference.density)
        assert same_bits(data.density.sel(time=0.1, method="nearest").values, reference.density[2])
    with xr.open_dataset(path, engine="h5netcdf", group="steps") as steps:
        assert same_bits(steps.energy.values, reference.diagnostics["energy"])


def test_a_failure_that_raises_leaves_the_file(path):
    with pytest.raises(mf.SolveError, match="limit on the number of steps") as caught:
        run(max_steps=9, output=str(path))
    assert_same_solution(mf.load(path), caught.value.solution)


def test_attempts_at_a_step_that_was_given_up_are_counted(path):
    streamed = run(controller=mf.FixedStep(50.0), t_end=100.0, throw=False, output=path)
    assert streamed.result is Result.STEP_TOO_LARGE
    assert streamed.stats["redone"] == mf.load(path).stats["redone"] == 1
    assert streamed.diagnostics["redone"].tolist() == [0]


def test_a_stream_adds_to_the_configuration(path):
    stream = Stream(path, overwrite=True, configuration={"data": "points.csv"})
    for _ in range(2):  # it may be used again
        streamed = run(output=stream)
        assert streamed.configuration["data"] == mf.load(path).configuration["data"] == "points.csv"
        assert stream.frames == 7


@pytest.mark.filterwarnings("ignore:the start is .* cells wide")
@pytest.mark.parametrize("shape", [(300,), (40, 30), (12, 10, 8)])
def test_frames_of_any_shape(path, shape, stays):
    centres = [(-1.0, 0.0, 0.5), (1.0, 0.5, 0.0)] if len(shape) > 1 else None
    problem = LINE if centres is None else mf.problems.gaussian_bumps([c[: len(shape)] for c in centres])
    settings = {"shape": shape, "t_end": 0.02, "save": 8}
    plain = run(problem, **settings)
    assert_same_solution(run(problem, **settings, output=path), plain)
    assert_same_solution(mf.load(path), plain)


# ----- before anything runs


def refused(error: type[Exception], match: str, output: object, **changes) -> None:
    def evaluated(*args, **kwargs):
        raise AssertionError("something was computed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mf.Solver, "evaluate", evaluated)
        with pytest.raises(error, match=match) as caught:
            run(output=output, **changes)
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written_are_refused_before_the_run(path, reference, monkeypatch):
    refused(ValueError, r"run\.csv' must end in \.h5 or \.hdf5", path.with_suffix(".csv"))
    refused(FileNotFoundError, "the folder .*nowhere does not exist", path.parent / "nowhere" / "run.h5")
    (path.parent / "folder.h5").mkdir()
    refused(IsADirectoryError, "it is a folder", path.parent / "folder.h5")
    path.write_bytes(b"dear")
    refused(FileExistsError, r"run\.h5: it exists; give another name, or overwrite=True", path)
    assert path.read_bytes() == b"dear"
    with pytest.raises(FileExistsError, match="it exists"):
        reference.save(path, overwrite=False)
    assert path.read_bytes() == b"dear"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "access", lambda *args: False)
        refused(PermissionError, "cannot be written to", path.with_name("new.h5"))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, (9 + 8) * 60 * 8 - 1))
    refused(
        OSError,
        "7 densities and two checkpoints of 60 cells, and the finished file .* use fewer save times or cells",
        path.with_name("new.h5"),
    )
    assert sorted(os.listdir(path.parent)) == ["folder.h5", "run.h5"]
    reference.save(path)
    assert_same_solution(mf.load(path), reference)


def test_an_old_file_stays_until_there_is_a_density(path, reference):
    path.write_bytes(b"dear")
    settings = {**SETTINGS, "output": path, "overwrite": True}
    start = np.ones(60)
    start[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        mf.solve(LINE, **settings, initial=start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mf.Solver, "evaluate", lambda *args: exit_with(Gone))
        with pytest.raises(Gone):
            mf.solve(LINE, **settings)
    assert path.read_bytes() == b"dear"
    assert os.listdir(path.parent) == ["run.h5"]
    assert_same_solution(mf.solve(LINE, **settings), reference)
    assert_same_solution(mf.load(path), reference)


def test_memory_that_is_not_there_is_asked_for_before_the_run():
    for saves in (2**40, 2**58):
        with pytest.raises(MemoryError, match=r"\d+ saved densities of 1048576 .* GiB of memory; write them to a file"):
            _room(saves, mf.Grid(LINE.axes, (2**20,)))


# ----- a run that does not end


def exit_with(error: type[Exception]) -> None:
    raise error


@pytest.mark.parametrize("place", ["memory", "file"])
def test_what_an_exception_leaves_can_be_loaded_and_continued(path, reference, monkeypatch, place):
    if place == "file":
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    stream = Stream(path)
    with pytest.raises(Gone):
        run(output=stream, stop=die(8))
    assert stream._file is None  # not open any more
    found = mf.load(path)
    assert found.result is Result.UNFINISHED
    assert not found.result.ok
    assert "killed" in str(found)
    assert isinstance(found.density, np.ndarray if place == "memory" else StoredDensity)
    frames = len(found.times)
    assert frames == 3
    assert same_bits(found.times, reference.times[:3])
    assert same_bits(found.energy, reference.energy[:3])
    assert same_bits(np.asarray(found.density), reference.density[:3])
    rows = found.stats["steps"] + 1
    assert found.diagnostics.keys() == reference.diagnostics.keys()
    assert found.diagnostics["time"][-1] == found.times[-1] == found.state.t
    leaving = ("dissipation_transport", "dissipation_reaction", "relative_fisher_information", "limiting_cell")
    for name, values in found.diagnostics.items():
        whole = rows - (name in leaving)
        assert same_bits(values[:whole], reference.diagnostics[name][:whole]), name
        if name in leaving:
            assert values[-1] == -1 or np.isnan(values[-1]), name
    assert same_bits(found.response, reference.response[:rows])
    assert found.stats.keys() == reference.stats.keys() - WATCHED
    assert found.stats["evaluations"] == 1 + 3 * found.stats["steps"] > 10
    assert 0 < abs(found.stats["leak"]) < 1e-14
    assert found.configuration == reference.configuration
    assert found.problem is not None
    assert found.state.length is not None
    assert len(found.state.memory) == 1

    rest = run(initial=found.state, save=reference.times[3:])
    assert same_bits(rest.density[1:], reference.density[3:])
    assert same_bits(rest.state.mu, reference.state.mu)

    # what was saved can be made a file like others, also in its own place
    for other in (path.with_name("other.h5"), path):
        found.save(other)
        assert_same_solution(mf.load(other), found)
        with xr.open_dataset(other, engine="h5netcdf") as data:
            assert data.density.shape == (3, 60)
    assert same_bits(found.density[2], reference.density[2])


@pytest.mark.parametrize("memory", [(), (1.0,) * 8, (1.0,) * 9])
def test_what_the_controller_remembers_is_kept_if_there_is_room(path, memory):
    state = mf.State(0.0, LINE.mu_0.cells(LINE.grid(60)), 0, 0.01, memory)
    with pytest.raises(Gone):
        run(initial=state, output=path, stop=die(1))
    found = mf.load(path).state
    assert (found.length, found.memory) == ((None, ()) if len(memory) > 8 else (0.01, memory))


def test_a_run_that_goes_on_can_be_looked_at(path, reference, stays):
    seen: list[Solution] = []

    def look(snapshot):
        if snapshot.step in (5, 12):
            seen.append(mf.load(path))
            for found in seen:  # what was seen stays there while more is written
                assert same_bits(found.density[-1], reference.density[len(found.times) - 1])
        return False

    run(output=path, stop=look)
    assert [found.result for found in seen] == [Result.UNFINISHED] * 2
    assert 1 < len(seen[0].times) < len(seen[1].times) < 7
    # the run has put a finished file in the place of the one that was looked at
    with pytest.raises(OSError, match="it was changed; load it again"):
        seen[0].density[0]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs a system that tells where open files lie")
@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("what", ["moved", "moved and replaced", "deleted", "deleted and replaced", "linked"])
def test_a_file_that_loses_its_name_during_the_run(path, reference, monkeypatch, what, small):
    """It is completed where it is; what has its name by then stays as it is."""
    if not small:
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    other, moved = path.with_name("other.h5"), path.parent / "elsewhere" / "moved.h5"
    moved.parent.mkdir()
    reference.save(other)
    before = content(other)

    def interfere(snapshot):
        if snapshot.step == 8:
            path.unlink() if what.startswith("deleted") else path.rename(moved)
            if what.endswith("replaced"):
                other.rename(path)
            elif what == "linked":
                path.symlink_to(moved)
            monkeypatch.chdir(moved.parent)
        return False

    monkeypatch.chdir(path.parent)
    lost = what == "deleted and replaced"
    said = pytest.warns(mf.RunWarning, match="was deleted .* another file has its name by now, which stays as it is")
    with said if lost else contextlib.nullcontext():
        solution = run(PLANE, shape=(30, 30), output=path.name, stop=interfere)
    assert solution.result is Result.SUCCESS
    plain = run(PLANE, shape=(30, 30))
    if not lost:
        assert_same_solution(mf.load(path if what == "deleted" else moved), plain)
    if lost and not small:
        with pytest.raises(OSError, match="was changed"):
            solution.density[0]
    else:
        assert same_bits(np.asarray(solution.density), plain.density)
    if what.endswith("replaced"):
        assert content(path) == before
    assert path.exists() == (what != "moved")
    assert not [name for folder in (path.parent, moved.parent) for name in os.listdir(folder) if name[0] == "."]


def test_a_file_that_the_system_does_not_find_again_is_left_whole(path, reference, monkeypatch):
    """As on macOS, where nothing tells where an open file lies."""
    moved = path.with_name("moved.h5")
    monkeypatch.setattr(os, "readlink", lambda path: exit_with(OSError))
    with pytest.warns(mf.RunWarning, match="was moved during the run, and is not found again: where it is now"):
        solution = run(output=path, stop=lambda snapshot: snapshot.step == 8 and path.rename(moved) and False)
    assert same_bits(solution.density, reference.density)
    assert not path.exists()
    assert len(mf.load(moved).times) == 7
    assert_same_solution(mf.resume(moved, progress=False), reference)


@pytest.mark.parametrize("small", [False, True])
def test_the_working_folder_may_change(path, reference, monkeypatch, small):
    if not small:
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    monkeypatch.chdir(path.parent)
    (path.parent / "inside").mkdir()
    run(output=path.name, stop=lambda snapshot: monkeypatch.chdir(path.parent / "inside"))
    assert_same_solution(mf.load(path), reference)
    assert os.listdir() == []


def recorded(path: Path, patch: pytest.MonkeyPatch, log: list[tuple[int, bytes | None]], images: list[bytes]) -> None:
    """Keep what the growing file is when it gets its name, and every change of it after that, in order."""

    class Recording(io.FileIO):
        def write(self, data):
            if images:
                log.append((self.tell(), bytes(data)))
            return super().write(data)

    class Lasting(Recording, in_place._Lasting):
        def truncate(self, size=None):
            before = os.fstat(self.fileno()).st_size
            found = super().truncate(size)
            if images and os.fstat(self.fileno()).st_size != before:
                log.append((os.fstat(self.fileno()).st_size, None))
            return found

    def opened(name, mode, **settings):
        if Path(name) != path:
            return open(name, mode, **settings)
        images.append(path.read_bytes())
        return Recording(name, "r+")

    def resized(change):
        def changed(file, *where):
            change(file, *where)
            if images and os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                log.append((os.fstat(file).st_size, None))

        return changed

    patch.setattr(in_place, "open", opened, raising=False)
    patch.setattr(in_place, "_Lasting", Lasting)
    for name in ("posix_fallocate", "ftruncate"):  # not every system has the first
        if hasattr(os, name):
            patch.setattr(os, name, resized(getattr(os, name)))


def images_of(log: list[tuple[int, bytes | None]], image: bytes) -> Iterator[bytearray]:
    """The file as it is before the first change, and after each."""
    now = bytearray(image)
    for position, data in [(0, b""), *log]:
        if data is None:
            del now[position:]
            now.extend(bytes(position - len(now)))
        else:
            now.extend(bytes(max(0, position + len(data) - len(now))))
            now[position : position + len(data)] = data
        yield now


@pytest.mark.parametrize("checkpoint", [None, 1e-9])
def test_a_kill_between_any_two_writes_leaves_all_that_was_saved(path, reference, stays, monkeypatch, checkpoint):
    """Nothing in what it leaves is taken for damage, and a checkpoint that was whole stays until the next one is."""
    monkeypatch.setattr(streaming, "_ROWS", 4)
    log: list[tuple[int, bytes | None]] = []
    images: list[bytes] = []
    states: list[mf.State] = []
    with monkeypatch.context() as patch:
        recorded(path, patch, log, images)
        run(output=path, checkpoint=checkpoint, stop=lambda snapshot: states.append(snapshot))
    assert len(images) == 1
    assert len(log) > 70
    counts, killed = [], path.with_name("killed.h5")
    for image in images_of(log, images[0]):
        killed.write_bytes(image)
        found = mf.load(killed)
        assert found.warnings == []
        assert wrong_checksums(killed) == []
        frames, rows = len(found.times), len(found.diagnostics["time"])
        assert same_bits(np.asarray(found.density), reference.density[:frames])
        assert found.state.n_steps == rows - 1
        mu = states[rows - 2].mu if rows > 1 else reference.density[0]
        assert same_bits(found.state.mu, np.asarray(mu))
        assert same_bits(found.response, reference.response[:rows])
        for name, values in found.diagnostics.items():
            assert same_bits(values[: rows - 1], reference.diagnostics[name][: rows - 1]), name
        counts.append((frames, rows))
    assert counts == sorted(counts)
    assert {frames for frames, _ in counts} == {1, 2, 3, 4, 5, 6, 7}
    steps = {rows for _, rows in counts}
    assert counts[-1][1] == len(reference.diagnostics["time"])
    assert len(steps) == (len(reference.diagnostics["time"]) if checkpoint else 7)


def test_a_kill_in_the_final_write_leaves_the_growing_file(path, reference, monkeypatch):
    """Whatever is done for the finished file, up to its move, leaves the other as it is."""
    replace, seen = os.replace, []

    def moved(source, target):
        seen.append(source)
        if len(seen) == 2:
            assert mf.load(path).result is Result.UNFINISHED
            raise Gone
        return replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", moved)
        with pytest.raises(Gone):
            run(output=path)
    found = mf.load(path)
    assert same_bits(found.density, reference.density)
    assert wrong_checksums(path) == []
    assert_same_solution(mf.resume(path, progress=False), reference)


KILLED = """
import json, os, random, signal, sys, time
import numpy as np
import mfpde as mf
from mfpde.support.files import frames as stored
path, place = sys.argv[1:]
stored.IN_MEMORY = 0
problem = mf.problems.gaussian_bumps()
settings = dict(shape=60, t_end=1.0, save=400, progress=False)
whole = mf.solve(problem, **settings)
random.seed(1)
found = []
for _ in range(12):
    if os.path.exists(path):
        os.unlink(path)
    child = os.fork()
    if not child:
        mf.solve(problem, **settings, output=path)
        os._exit(0)
    while not os.path.exists(path):
        time.sleep(0.001)
    time.sleep(random.uniform(0.0, 0.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    solution = mf.load(path)
    n, k = len(solution.times), len(solution.diagnostics["time"]) - 1
    assert np.array_equal(np.asarray(solution.density), whole.density[:n])
    assert np.array_equal(solution.energy, whole.energy[:n])
    assert np.array_equal(solution.diagnostics["mass"][:k], whole.diagnostics["mass"][:k])
    assert np.array_equal(solution.state.mu, whole.density[n - 1])
    assert not any("not whole" in text for text in solution.warnings)
    found.append((solution.result.name, n))
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9(path):
    found = json.loads(printed_by(KILLED, path, ""))
    killed = [frames for result, frames in found if result == "UNFINISHED"]
    assert len(killed) >= 3
    assert max(killed) > 1
    assert {name for name in os.listdir(path.parent) if not name.startswith(".")} == {"run.h5"}


def without_sums(edit):
    """The same in a file of an early version, which had no checksums of what is in the making."""

    def edited(file):
        del file["unfinished/frame_sums"]
        edit(file)

    return edited


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda file: file.pop("unfinished"), "the number 'steps' of attribute 'stats'|/time is missing"),
        (without_sums(lambda file: file["unfinished/count"].__setitem__(0, 8)), "8 frames and 7 rows are no run"),
        (without_sums(lambda file: file["unfinished/count"].__setitem__(0, 0)), "0 frames"),
        (without_sums(lambda file: file["unfinished/count"].__setitem__(1, -1)), "-1 rows"),
        (without_sums(lambda file: file["unfinished/count"].__setitem__(1, 2**60)), "claims"),
        (without_sums(lambda file: file["unfinished/frames"].__setitem__((2, 6), 9.0)), "the last row of"),
        (lambda file: file["unfinished"].pop("count"), "/unfinished/count is missing"),
        (lambda file: file["unfinished"].pop("frames"), "/unfinished/frames is missing"),
        (lambda file: file["unfinished"].pop("errors"), "/unfinished/errors is missing"),
        (lambda file: file["unfinished"].pop("checkpoints"), "/unfinished/checkpoints is missing"),
        (lambda file: file["unfinished"].pop("rows_00"), "/unfinished/rows_00 is missing"),
        (lambda file: file["unfinished"].attrs.pop("columns"), "'columns' of /unfinished is missing"),
        (lambda file: file["unfinished"].attrs.pop("checksums"), "'checksums' of /unfinished is missing"),
        (lambda file: file["unfinished"].attrs.__setitem__("columns", ["time"]), "are missing or twice there"),
        (lambda file: file.pop("density"), "/density is missing"),
        (lambda file: file.pop("x"), "/x is missing"),
        (lambda file: file["x"].__setitem__(3, np.nextafter(file["x"][3], 9.0)), "the checksum of x is not the one"),
        (lambda file: file["unfinished/errors_unseen"].__setitem__(0, 1.0), "the checksum of errors_unseen is not"),
        (lambda file: file.attrs.__setitem__("fingerprint", "0"), "the checksum of attributes is not the one"),
        (lambda file: file["volatile"].attrs.__setitem__("date", "now"), "the checksum of attributes is not the one"),
    ],
)
def test_odd_unfinished_files_are_refused(path, edit, match):
    with pytest.raises(Gone):
        run(output=path, stop=die(8))
    with h5py.File(path, "r+") as file:
        assert file["unfinished/count"][:].tolist() == [3, 7]
        if "frame_sums" not in file["unfinished"] or edit.__name__ == "edited":
            del file["unfinished/checkpoints"], file["unfinished/companions"]
        edit(file)
    with pytest.raises(FileFormatError, match=match) as caught:
        mf.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("moment", ["frame", "checkpoint", "block", "end", "end without space"])
def test_a_disk_that_fills_up_is_named_and_what_was_saved_is_there(path, reference, monkeypatch, moment):
    def full(*args, **settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streaming, "_ROWS", 8)
    put, reserve = NumbersFile.put, in_place.reserve
    stream = Stream(path)

    def put_or_full(self, offset, values):
        return full() if stream.frames == 4 else put(self, offset, values)

    def reserve_or_full(file, size):
        # the file in the making, a second block of rows, the finished file
        sizes.append(size)
        return full() if len(sizes) == {"block": 2, "end without space": 3}.get(moment, 0) else reserve(file, size)

    sizes: list[int] = []
    monkeypatch.setattr(in_place, "reserve", reserve_or_full)
    if moment == "end":
        monkeypatch.setattr(solution_writer, "write", full)
    elif moment in ("frame", "checkpoint"):
        monkeypatch.setattr(NumbersFile, "put", put_or_full)
    said = (
        r"^cannot write .*run\.h5: No space left on device; .*run\.h5 holds the run up to t = 0\.\d+, from where mfpde"
    )
    with pytest.raises(OSError, match=said) as caught:
        run(output=stream, checkpoint=1e-9 if moment == "checkpoint" else None)
    assert "\n" not in str(caught.value)
    assert stream._file is None
    found = mf.load(path)
    assert found.result is Result.UNFINISHED
    assert found.warnings == []
    assert f"up to t = {found.state.t:g}," in str(caught.value)
    frames = {"frame": 4, "checkpoint": 4, "block": 3}.get(moment, 7)
    assert same_bits(found.density, reference.density[:frames])
    assert os.listdir(path.parent) == ["run.h5"]
    monkeypatch.undo()
    assert_same_solution(mf.resume(path, progress=False), reference)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that reserves space")
def test_a_disk_without_space_for_both_files_is_refused_at_the_start(path, reference, monkeypatch):
    """Nothing is replaced, and HDF5 has not been asked to write."""
    monkeypatch.setattr(streaming, "_ROWS", 4)  # as few rows as the run has
    path.write_bytes(b"dear")
    asked: list[int] = []

    def full(file, position, size):
        asked.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for write in (lambda: run(output=path, overwrite=True), lambda: reference.save(path)):
        with pytest.raises(OSError, match=r"^cannot write .*run\.h5: No space left on device for \d+ bytes$"):
            write()
        assert path.read_bytes() == b"dear"
        assert os.listdir(path.parent) == ["run.h5"]
    both, one = asked
    assert both > 1.8 * one > 2**17


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that reserves space")
def test_the_space_for_the_finished_file_stays_while_the_run_goes_on(path, monkeypatch):
    """Also where HDF5 has added a block of rows; it is given back by whatever ends the run but a kill."""
    monkeypatch.setattr(streaming, "_ROWS", 4)
    room: list[int] = []

    def look(snapshot):
        with h5py.File(path, locking=False) as file:
            ends = [file[name].id.get_offset() for name in ("density", *(f"unfinished/rows_0{i}" for i in range(4)))]
        # the numbers of the finished file fit beyond everything that is in this one
        room.append(path.stat().st_size - max(end for end in ends if end is not None) - 8 * 32 * len(COLUMNS))
        return snapshot.step == 14 and exit_with(Gone)

    with pytest.raises(Gone):
        run(output=path, stop=look)
    assert len(room) == 14
    assert min(room) > 8 * 60 * 8 + solution_writer._METADATA
    assert path.stat().st_size < 2**17 + solution_writer._METADATA


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that reserves space")
def test_space_is_asked_for_once(path, monkeypatch):
    """Where the C library does that block by block, all that is there would be read for each further block of rows."""
    monkeypatch.setattr(streaming, "_ROWS", 4)
    asked: list[tuple[int, int, int]] = []
    allocate = os.posix_fallocate

    def noted(file, position, size):
        asked.append((os.fstat(file).st_size, position, size))
        allocate(file, position, size)

    monkeypatch.setattr(os, "posix_fallocate", noted)
    run(output=path)
    assert len(asked) > 3  # the growing file, blocks of rows, the finished file
    assert all(position == there and size > 0 for there, position, size in asked)


@pytest.mark.parametrize("shape", [(60,), (12, 10, 8)])
@pytest.mark.filterwarnings("ignore:the start is .* cells wide")
def test_the_space_that_is_taken_is_enough(path, shape):
    """A file that outgrew its space would have HDF5 meet the full disk; half of what is left for its structures is."""
    centres = [(-1.0, 0.0, 0.5), (1.0, 0.5, 0.0)]
    problem = LINE if len(shape) == 1 else mf.problems.gaussian_bumps(centres)
    solution = mf.solve(problem, shape=shape, t_end=0.05, save=4, progress=False)
    solution.warnings.append("a warning" * 1000)
    solution.save(path)
    room = solution_writer.room_for(solution, 4, len(solution.diagnostics["time"]))
    assert path.stat().st_size < room - solution_writer._METADATA / 2


# ----- densities in a file

KEYS = [
    0,
    -1,
    np.int64(3),
    slice(None),
    slice(1, 3),
    slice(None, None, -1),
    slice(5, 1, -2),
    slice(5, 2),
    slice(0, None, -1),
    slice(2, 4, -1),
    slice(None, 10, -1),
    (slice(4, 1), slice(9, 7, -1), 0),
    slice(None, None, 4),
    slice(-3, 100),
    ...,
    (),
    (2, slice(None), 0),
    (..., 1),
    (1, ..., -1),
    (None, 2),
    (slice(None), None, 1),
    (3, 2, 1),
    (slice(None), slice(3, 0, -1), slice(-2, None)),
    (slice(None), 2, slice(None, None, 3), None),
    [0, 2, -1],
    [],
    ([1, 1], slice(None), 2),
    ([], slice(1, 3), None, 0),
    np.array([True, False] * 3),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("stored") / "made.h5"
    values = np.random.default_rng(0).random((9, 4, 5))
    with h5py.File(path, "w") as file:
        file["density"] = values
    return path, values[:6]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_that_of_an_array(made, key):
    path, values = made
    found = StoredDensity(path, values.shape)[key]
    assert type(found) is type(values[key])
    assert same_bits(found, np.ascontiguousarray(values[key]) if np.ndim(found) else values[key])


@pytest.mark.parametrize(
    "key", [6, -7, (0, 4), (0, 0, 0, 0), "a", 1.0, True, (0, [1]), ([0], [1]), [[0]], [0.5], (..., ...)]
)
def test_what_cannot_be_indexed(made, key):
    path, values = made
    with pytest.raises(IndexError):
        StoredDensity(path, values.shape)[key]


def test_it_looks_like_an_array(made):
    path, values = made
    density = StoredDensity(path, values.shape)
    assert (density.shape, density.ndim, density.size, density.nbytes) == ((6, 4, 5), 3, 120, 960)
    assert density.dtype == np.dtype(float)
    assert len(density) == 6
    assert all(same_bits(one, other) for one, other in zip(density, values, strict=True))
    assert same_bits(np.asarray(density), values)
    assert np.asarray(density, dtype=np.float32).dtype == np.float32
    assert same_bits(np.maximum(density, 0.5), np.maximum(values, 0.5))
    assert np.shape(density) == values.shape
    with pytest.raises(ValueError, match="without a copy"):
        np.array(density, copy=False)
    with pytest.raises(AttributeError, match=r"take a frame, density\[i\]\.sum, or read all"):
        _ = density.sum
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = density.colour
    with pytest.raises(TypeError):
        density[0] = 1.0
    assert repr(density) == f"<StoredDensity of shape (6, 4, 5) in {os.path.realpath(path)}>"


def test_no_more_is_read_than_was_asked_for(made, monkeypatch):
    path, values = made
    asked = []
    read = h5py.Dataset.__getitem__

    def noting(self, key, **settings):
        found = read(self, key, **settings)
        asked.append(np.size(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noting)
    density = StoredDensity(path, values.shape)
    for key, size in ((2, 20), ((-1, 0), 5), ((slice(None), 0, 0), 6), (slice(4, None, -2), 60)):
        asked.clear()
        density[key]
        assert asked == [size]
    asked.clear()
    density[[0, 3]]
    assert asked == [20, 20]
    asked.clear()
    list(density)
    assert asked == [20] * 6


def test_a_file_that_is_gone_or_another_is_noticed(path, reference, stays, monkeypatch):
    density = run(output=path).density
    monkeypatch.chdir(path.parent.parent)
    assert same_bits(density[1], reference.density[1])
    monkeypatch.chdir(path.parent)
    loaded = mf.load("run.h5")
    monkeypatch.chdir(path.parent.parent)
    assert same_bits(loaded.density[-1], reference.density[-1])
    moved = path.rename(path.with_name("moved.h5"))
    with pytest.raises(FileNotFoundError, match=r"run\.h5 holds .*, but it was moved or deleted; load the solution"):
        density[0]
    moved.rename(path)
    assert same_bits(density[-1], reference.density[-1])
    run(alpha_problem := mf.problems.gaussian_bumps(alpha=0.0), output=path, overwrite=True)
    assert alpha_problem.fingerprint() != LINE.fingerprint()
    with pytest.raises(OSError, match=r"run\.h5 .* it was changed; load it again"):
        density[0]
    again = mf.load(path).density
    with h5py.File(path, "r+") as file:
        file["density"][0, 0] = 1.0
    with pytest.raises(OSError, match="changed"):
        again[0]


def test_a_loaded_solution_is_saved_frame_by_frame(path, reference, stays, monkeypatch):
    monkeypatch.setattr(hdf5, "_BLOCK", 2 * 8 * 60)
    run(output=path)
    loaded = mf.load(path)
    held = []
    read = StoredDensity.__getitem__

    def noting(self, key):
        found = read(self, key)
        held.append(found.shape[0])
        return found

    monkeypatch.setattr(StoredDensity, "__getitem__", noting)
    loaded.save(path.with_name("other.h5"))
    assert held == [2, 2, 2, 1]
    assert content(path) == content(path.with_name("other.h5"))
    loaded.save(path)  # over the file it is read from
    assert same_bits(loaded.density[3], reference.density[3])
    assert_same_solution(mf.load(path), reference)


def test_small_densities_are_read_at_once(path):
    assert 2**20 < IN_MEMORY < 2**30
    run(output=path)
    with h5py.File(path, "r+") as file:
        del file["density"]
        del file.attrs["checksums"]
        density = file.create_dataset("density", shape=(7, 60), dtype="f8")
        density[:] = 1.0
        density.attrs["representation"] = "cell averages"
    assert isinstance(mf.load(path).density, np.ndarray)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "IN_MEMORY", 7 * 60 * 8 - 1)
        assert isinstance(mf.load(path).density, StoredDensity)
        patch.setattr(stored, "IN_MEMORY", 7 * 60 * 8)
        assert isinstance(mf.load(path).density, np.ndarray)


# ----- everything else works on them alike


@pytest.fixture
def pair(tmp_path, stays, monkeypatch) -> tuple[Solution, Solution]:
    """A run in memory, and the same in a file, of which reading all at once is an error."""
    settings = {"shape": (40, 30), "t_end": 0.5, "save": 6}
    stored = run(PLANE, **settings, output=tmp_path / "plane.h5")

    def everything(*args, **settings):
        raise AssertionError("all densities were read at once")

    monkeypatch.setattr(StoredDensity, "__array__", everything)
    return run(PLANE, **settings), stored


def test_numbers_of_a_solution(pair):
    plain, stored = pair
    for t in (None, 0.1):
        assert same_bits(plain.marginal("x", t=t), stored.marginal("x", t=t))
        assert same_bits(plain.marginal("y", "x", t=t), stored.marginal("y", "x", t=t))
        assert plain.moment("y", 2, t) == stored.moment("y", 2, t)
    said, again = ([line for line in str(one).splitlines() if "wall time" not in line] for one in pair)
    assert said == again
    assert plain.index(0.2) == stored.index(0.2)
    again = run(PLANE, shape=(40, 30), t_end=0.6, save=2, initial=stored)
    assert same_bits(again.density[-1], run(PLANE, shape=(40, 30), t_end=0.6, save=2, initial=plain).density[-1])


def test_pictures(pair, tmp_path):
    for name, draw in (("a.png", mf.plot), ("b.gif", mf.animate)):
        drawn = []
        for solution in pair:
            draw(solution, tmp_path / name)
            drawn.append((tmp_path / name).read_bytes())
            (tmp_path / name).unlink()
        assert drawn[0] == drawn[1], name


def test_comparison(pair):
    settings = {"sizes": [20, 40], "replicas": 4, "control": False, "uncertainty": 1e-3, "seed": 1, "progress": False}
    one, two = (mf.compare(solution, dt=0.1, times=[0.1, 0.5], **settings) for solution in pair)
    assert str(one) == str(two)


# ----- memory


def test_saved_densities_are_not_held(path, stays, monkeypatch):
    """The peak of a run does not know how often it saves."""
    monkeypatch.setattr(hdf5, "_BLOCK", 1)

    def peak(saves: int, output: Path | None, problem: mf.Problem = PLANE, n: int = 160) -> float:
        tracemalloc.start()
        run(problem, shape=(n, n), t_end=1e-3, save=saves, output=output, overwrite=True)
        try:
            return tracemalloc.get_traced_memory()[1] / (8 * n * n)
        finally:
            tracemalloc.stop()

    warm = mf.problems.gaussian_bumps(centres=((-2.0, -1.0), (1.5, 1.0)), temperature=0.5)
    for problem, n in itertools.product((PLANE, warm), (30, 160)):
        peak(2, path, problem, n)  # imports, and compiles the ways through short lines and long ones
    few, many = peak(3, path), peak(30, path)
    assert many - few < 1.5
    assert 25 < peak(30, None) - peak(3, None) < 28.5

    def growth(problem: mf.Problem) -> float:
        """Arrays of the mesh's size; besides, a thread has buffers of one size for all meshes."""
        small, large = (8 * n * n * peak(3, path, problem, n) for n in (160, 256))
        return (large - small) / (8 * (256**2 - 160**2))

    def expected(problem: mf.Problem) -> float:
        """What is said of it before the run."""
        said = run_memory(problem, RunOptions(save=3, output=path), mf.Grid(problem.axes, (256, 256)))
        return (said.total - said.always) / (8 * 256**2)

    assert growth(PLANE) <= expected(PLANE) <= 1.5 * growth(PLANE)
    # of steps as short as these the potential is found at once: the iterates that are counted in are not made
    assert growth(PLANE) < growth(warm) <= expected(warm)
    # buffers of the sweeps in two solvers, 1.2 MB each, and what the programs of 900 and 225 cells work on
    assert 8 * 30**2 * peak(3, path, warm, 30) < 3.2e6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.parametrize("child", ["ends", "goes on"])
def test_a_forked_child_leaves_the_file_to_its_parent(path, monkeypatch, child):
    """It has the file open, and an old end of it in mind: what it cut off would be rows of its parent."""
    monkeypatch.setattr(streaming, "_ROWS", 4)
    parent, (there, here) = os.getpid(), os.pipe()
    children, found = [], []

    def stop(snapshot) -> bool:
        if snapshot.step == 2:
            children.append(os.fork())
            if children[0] == 0:
                os.close(here)
                os.read(there, 1)  # until the parent has gone on
                if child == "ends":
                    raise SystemExit
        if snapshot.step == 10 and os.getpid() == parent:
            before = path.stat().st_size
            os.close(here)
            os.waitpid(children[0], 0)
            found.append((path.stat().st_size - before, wrong_checksums(path), mf.load(path).state.n_steps))
        return False

    try:
        run(output=path, checkpoint=1e-9, stop=stop, controller=mf.FixedStep(0.01))
    except BaseException:
        if os.getpid() == parent:
            raise
    finally:
        if os.getpid() != parent:
            os._exit(0)
    os.close(there)
    # the checkpoint of step 9: that of step 10 comes after `stop`
    assert found == [(0, [], 9)]
