"""Outputs that several processes want: the first has the file until it ends, the others are told so at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading

import pytest
from shared import Gone, assert_refused, assert_same_solution, content, die, invoke

import mfpde as mf
from mfpde.mesh import accuracy, solution_writer
from mfpde.mesh.record import Result
from mfpde.mesh.stream import Stream
from mfpde.particles.checkpoint import Checkpoint
from mfpde.support.files.hdf5 import check_target
from mfpde.support.files.locks import held
from mfpde.verification.references.file import save_reference
from mfpde.verification.references.recipes import RECIPES

LINE = mf.problems.gaussian_bumps()
SETTINGS = {"shape": 60, "t_end": 0.3, "save": 4, "progress": False}
MATCH = r"run\.h5: this process, \d+, has been writing it since .*; wait until it has ended, or give another name$"


def run(problem=LINE, **changes):
    return mf.solve(problem, **{**SETTINGS, **changes})


def is_held(path) -> bool:
    """Whether another thread would be refused."""
    found = []

    def look() -> None:
        try:
            with held(path):
                found.append(False)
        except BlockingIOError:
            found.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def nothing_runs(monkeypatch):
    """No state is evaluated."""

    def evaluated(*args, **kwargs):
        raise AssertionError("something was computed")

    monkeypatch.setattr(mf.Solver, "evaluate", evaluated)


# ----- runs


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}, {"tolerance": 0.1}, {"on_end_mass": "extend"}], ids=str)
@pytest.mark.parametrize("there", [True, False])
def test_a_second_run_is_refused_before_it_computes(path, nothing_runs, settings, there):
    if there:
        path.write_text("dear")
    with held(path), pytest.raises(BlockingIOError, match=MATCH):
        run(output=path, **settings)
    assert os.listdir(path.parent) == (["run.h5"] if there else [])


def test_a_run_holds_its_file_from_before_it_looks_at_it_until_it_is_complete(path, monkeypatch):
    seen = []

    def look(name, function):
        def looking(*args, **kwargs):
            found = function(*args, **kwargs)
            seen.append((name, is_held(path)))
            return found

        return looking

    monkeypatch.setattr(Stream, "__init__", look("stream", Stream.__init__))
    monkeypatch.setattr(mf.Solver, "init", look("solver", mf.Solver.init))
    monkeypatch.setattr(Stream, "finish", look("finish", Stream.finish))
    run(output=path, stop=lambda snapshot: look("step", lambda: False)())
    assert [name for name, _ in seen][:3] == ["stream", "solver", "step"]
    assert seen[-1][0] == "finish"
    assert all(there for _, there in seen)
    assert os.listdir(path.parent) == ["run.h5"]


@pytest.mark.parametrize("error", [Gone, KeyboardInterrupt, SystemExit])
def test_an_exception_lets_go_of_the_file(path, error):
    def stop(snapshot):
        raise error

    with pytest.raises(error):
        run(output=path, stop=stop)
    assert os.listdir(path.parent) == ["run.h5"]
    assert mf.load(path).result is Result.UNFINISHED
    assert mf.resume(path, progress=False).result is Result.SUCCESS


def test_a_search_for_an_accuracy_holds_its_file_throughout(path, monkeypatch):
    seen, complete = [], accuracy._Search._complete

    def looking(self, options, stream):
        seen.append((stream is None, is_held(path)))
        return complete(self, options, stream)

    monkeypatch.setattr(accuracy._Search, "_complete", looking)
    assert run(tolerance=0.05, shape=None, output=path).result is Result.SUCCESS
    assert {streamed for streamed, _ in seen} == {True, False}
    assert all(there for _, there in seen)
    assert not is_held(path)


def test_runs_on_larger_boxes_hold_their_file_throughout(path, monkeypatch):
    seen, start = [], Stream.start

    def looking(self, first, room):
        seen.append(is_held(path))
        start(self, first, room)

    monkeypatch.setattr(Stream, "start", looking)
    with pytest.warns(mf.TruncationWarning, match="loses"):
        small = mf.problems.gaussian_bumps(half_width=4.0, centres=(-3.5, 1.5))
    with pytest.warns(mf.RunWarning, match="started again"):
        mf.solve(small, 60, 3.0, save=3, progress=False, on_end_mass="extend", output=path)
    assert len(seen) > 1
    assert all(seen)


def test_who_made_the_stream_may_hold_its_file(path):
    """As the command line does, which reads the file before the run."""
    with held(path):
        run(output=Stream(path))
        assert is_held(path)
        with pytest.raises(BlockingIOError, match=MATCH):  # a path says nothing of who holds it
            run(output=path, overwrite=True)
    assert mf.load(path).result is Result.SUCCESS


def test_a_run_within_a_run_does_not_take_its_file(path):
    def stop(snapshot):
        with pytest.raises(BlockingIOError, match=MATCH):
            run(output=path, overwrite=True)
        return True

    assert run(output=path, stop=stop).result is Result.STOPPED


# ----- resuming


def test_a_second_resume_is_refused_before_it_reads(path, monkeypatch):
    run(output=path)
    before = path.read_bytes()
    monkeypatch.setattr("mfpde.runs.resuming.load_solution", lambda path: pytest.fail("it was read"))
    with held(path), pytest.raises(BlockingIOError, match=MATCH):
        mf.resume(path, 0.6)
    assert path.read_bytes() == before


def test_a_resume_sees_what_the_one_before_has_written(path):
    """The shorter of two does not win: it finds that the run is further by then."""
    run(output=path)
    mf.resume(path, 0.9, progress=False)
    with pytest.raises(ValueError, match=r"the run is at t = 0.9"):
        mf.resume(path, 0.6, progress=False)
    assert mf.load(path).times[-1] == 0.9


def test_a_file_that_is_only_read_is_not_locked(path):
    run(output=path)
    other = path.with_name("other.h5")
    with held(path):
        further = mf.resume(path, 0.4, output=other, progress=False)
        assert_same_solution(mf.load(path), run())
    assert_same_solution(mf.load(other), further)
    with held(other), pytest.raises(BlockingIOError, match=r"other\.h5: this process"):
        mf.resume(path, 0.4, output=other)
    # in memory nothing is written
    with held(path):
        assert mf.resume(mf.load(path), 0.4, progress=False).times[-1] == 0.4


def test_a_file_that_is_not_there_leaves_no_lock(path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        mf.resume(path)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        mf.resume(path.parent / "nowhere" / "run.h5")
    assert os.listdir(path.parent) == []


def test_what_a_kill_leaves_is_removed_by_the_next_run(path, monkeypatch):
    """A kill while the final copy is written leaves the growing file, the copy, and the lock."""
    with pytest.raises(Gone):
        run(output=path, stop=die(5))
    for name in (".run.h5.01234567.tmp", ".run.h5.89abcdef.tmp", ".run.h5.lock"):
        path.with_name(name).write_bytes(b"half")
    mf.resume(path, progress=False)
    assert os.listdir(path.parent) == ["run.h5"]
    path.with_name(".run.h5.01234567.tmp").write_bytes(b"half")
    run().save(path)
    assert os.listdir(path.parent) == ["run.h5"]


# ----- modes of files


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_what_goes_on_keeps_the_mode_of_its_file(path):
    run(output=path)
    path.chmod(0o600)
    modes = []

    def stop(snapshot):
        modes.append(path.stat().st_mode & 0o777)
        return False

    mf.resume(path, 0.4, stop=stop, progress=False)
    assert set(modes) == {0o600}  # of the growing file, too
    assert path.stat().st_mode & 0o777 == 0o600
    run(output=path, overwrite=True)
    assert path.stat().st_mode & 0o777 == 0o600
    run().save(path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_a_write_protected_file_is_refused_before_anything_is_computed(path, monkeypatch):
    solution = run(output=path)
    path.chmod(0o444)
    before = content(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mf.Solver, "evaluate", lambda *args: pytest.fail("something was computed"))
        for refused in (
            lambda: mf.resume(path, 0.4),
            lambda: run(output=path, overwrite=True),
            lambda: solution.save(path),
        ):
            with pytest.raises(PermissionError, match=r"cannot write .*run\.h5: it is write-protected \(mode 444\)"):
                refused()
    assert content(path) == before
    other = path.with_name("other.h5")
    mf.resume(path, 0.4, output=other, progress=False)
    assert other.stat().st_mode & 0o222


@pytest.mark.skipif(os.name != "posix", reason="needs modes")
def test_a_command_does_not_replace_a_write_protected_file(folder):
    run(output="run.h5")
    os.chmod("run.h5", 0o444)
    before = content("run.h5")
    for arguments in ([*RUN, "-f"], [*RUN, "--resume"], ["resume", "run.h5", "--until", "1"]):
        assert_refused(
            invoke(*arguments), "cannot write run.h5: it is write-protected (mode 444); chmod u+w it, or give"
        )
    assert content("run.h5") == before
    assert os.listdir(folder) == ["run.h5"]


# ----- saving, references, clouds


def test_a_solution_is_not_saved_over_a_file_that_grows(path):
    solution = run()

    def stop(snapshot):
        with pytest.raises(BlockingIOError, match=MATCH):
            solution.save(path)
        return False

    run(output=path, stop=stop)
    assert_same_solution(mf.load(path), solution)


def test_a_reference_is_not_saved_over_a_file_that_grows(path):
    found = mf.load_reference(next(iter(RECIPES)))
    failures = []

    def second() -> None:
        with contextlib.suppress(BlockingIOError):
            save_reference(found, path)
            failures.append("two writers")

    with held(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        save_reference(found, path, overwrite=True)  # by who has computed it under the lock
    assert failures == []


def test_a_simulation_holds_its_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "cloud.npz"
    seen, write = [], Checkpoint.write

    def looking(self, *given):
        write(self, *given)
        seen.append((threading.get_ident(), is_held(path)))

    monkeypatch.setattr(Checkpoint, "write", looking)
    simulate = mf.particles.simulate
    settings = {"dt": 0.1, "t_end": 0.3, "replicas": 2, "workers": 2, "progress": False, "checkpoint_every": 0.0}
    simulate(LINE, 2**15, **settings, checkpoint=path)
    assert seen
    assert all(there for _, there in seen)
    assert os.listdir(tmp_path) == []
    with held(path), pytest.raises(BlockingIOError, match=r"cloud\.npz: this process"):
        simulate(LINE, 10, **settings, checkpoint=path)


# ----- the command line

RUN = ["run", "gaussian-bumps", "--shape", "60", "--t-end", "0.2", "--save", "3", "-q", "-o", "run.h5"]


@pytest.fixture
def in_use(folder):
    """A thread that writes ``run.h5``."""
    began, ends = threading.Event(), threading.Event()

    def write() -> None:
        with held("run.h5"):
            began.set()
            ends.wait()

    thread = threading.Thread(target=write)
    thread.start()
    assert began.wait(60)
    yield
    ends.set()
    thread.join()


@pytest.mark.usefixtures("in_use", "nothing_runs")
@pytest.mark.parametrize(
    "arguments",
    [
        [*RUN],
        [*RUN, "-f"],
        [*RUN, "--resume"],
        ["resume", "run.h5", "--until", "1"],
        ["resume", "other.h5", "-o", "run.h5"],
        ["resume", "other.h5", "-o", "run.h5", "-f"],
        ["reference", "linear-neuron", "--save", "run.h5"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("there", [True, False])
def test_commands_are_refused_in_one_line(folder, arguments, there):
    if arguments[:2] == ["resume", "run.h5"] and not there:
        return
    if there:
        (folder / "run.h5").write_text("dear")
    assert_refused(
        invoke(*arguments), "cannot write run.h5: this process, ", "; wait until it has ended, or give another"
    )
    assert sorted(os.listdir(folder)) == [".run.h5.lock", *["run.h5"] * there]


def test_a_command_looks_at_the_file_once_nobody_else_can_write_it(folder, monkeypatch):
    """Of two that begin together the second finds the file of the first, which was not there when it began."""

    @contextlib.contextmanager
    def after_the_first(path, **options):
        if not options:
            shutil.copy("first.h5", path)
        with held(path, **options):
            yield

    run().save("first.h5")
    monkeypatch.setattr("mfpde.support.files.locks.held", after_the_first)
    assert_refused(invoke(*RUN), "run.h5 exists; use another name (-o) or --force to overwrite it")
    assert_same_solution(mf.load("run.h5"), run())


def test_a_command_leaves_the_file_alone_and_no_lock(folder):
    for arguments in (RUN, [*RUN, "-f"], [*RUN, "--resume"], ["resume", "run.h5", "--until", "0.3", "-q", "--no-plot"]):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert {"run.h5"} <= set(os.listdir(folder)) <= {"run.h5", "run.png"}


# ----- a working folder that was deleted


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a folder in use stays")
def test_a_working_folder_that_was_deleted_is_named_by_every_entry(tmp_path, monkeypatch):
    solution = run()
    cloud = {"checkpoint": "cloud.npz", "progress": False}
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    monkeypatch.chdir(doomed)
    doomed.rmdir()
    writes = {
        "a.h5": [
            lambda: run(output="a.h5"),
            lambda: solution.save("a.h5"),
            lambda: check_target("a.h5", overwrite=True),
        ],
        "b.h5": [lambda: solution_writer.save(solution, "b.h5"), lambda: mf.resume(solution, 0.4, output="b.h5")],
        "cloud.npz": [lambda: mf.particles.simulate(LINE, 10, **cloud)],
    }
    for name, calls in writes.items():
        for call in calls:
            with pytest.raises(FileNotFoundError, match=f"^cannot write {name}: the working folder was deleted; go to"):
                call()
    for call in (mf.load, mf.resume, mf.verify, mf.load_reference):
        with pytest.raises(FileNotFoundError, match=r"^cannot read \./c\.h5: the working folder was deleted$"):
            call("./c.h5")
    assert_refused(invoke(*RUN), "cannot write run.h5: the working folder was deleted; go to another one, or give the")
    for command in ("resume", "info", "verify", "plot", "compare"):
        assert_refused(invoke(command, "c.h5"), "cannot read c.h5: the working folder was deleted")
    assert_refused(
        invoke("reference", "linear-neuron", "--save", "r.h5"), "cannot write r.h5: the working folder was del"
    )
    whole = tmp_path / "whole.h5"
    run(output=whole)
    assert_same_solution(mf.load(whole), solution)
