"""Files of runs that were killed, and damaged since: what is not whole is noticed, and what is whole is not lost."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

import h5py
import numpy as np
import pytest
from shared import Gone, assert_same_solution, die, same_bits

import mfpde as mf
from mfpde.mesh import solution_reader
from mfpde.mesh import stream as streaming
from mfpde.mesh.record import Result
from mfpde.mesh.solution import Solution
from mfpde.mesh.solution_reader import wrong_checksums
from mfpde.mesh.stream import Stream
from mfpde.mesh.unfinished import CHECKPOINT_COLUMNS, FRAME_COLUMNS, FRAME_SUMS
from mfpde.support.files import frames as stored
from mfpde.support.files.hdf5 import FileFormatError

pytestmark = pytest.mark.usefixtures("companions")

LINE = mf.problems.gaussian_bumps()
SETTINGS = {"shape": 600, "t_end": 0.1, "save": 9, "progress": False}
"""A density takes more than a page of 4 KiB, and there are steps between save times."""
SAVED = 6
"""Densities of the runs that are killed here."""


@pytest.fixture(scope="module")
def reference() -> Solution:
    """The whole run."""
    return mf.solve(LINE, **SETTINGS)


def killed(path, checkpoint: float | None = None):
    """The file of a run that ended without a word right after a save time."""
    add = Stream.add

    def added(self, *given):
        add(self, *given)
        if self.frames == SAVED:
            raise Gone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "add", added)
        with pytest.raises(Gone):
            mf.solve(LINE, **SETTINGS, output=path, checkpoint=checkpoint)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Killed without checkpoints but those of the start."""
    return killed(tmp_path_factory.mktemp("plain") / "run.h5")


@pytest.fixture(scope="module")
def with_checkpoints(tmp_path_factory):
    """Killed with a checkpoint at every step between save times."""
    return killed(tmp_path_factory.mktemp("checkpoints") / "run.h5", checkpoint=1e-9)


def offset(path, name: str, row: int = 0) -> int:
    """Where a row of a dataset lies in the file."""
    with h5py.File(path) as file:
        return file[name].id.get_offset() + row * 8 * int(np.prod(file[name].shape[1:]))


def overwrite(path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def changed(path, name: str, index, change) -> None:
    """Change one number of a dataset in its place, and nothing else of the file."""
    with h5py.File(path) as file:
        values = file[name][()]
        start = file[name].id.get_offset()
    flat = np.ravel_multi_index(index, values.shape)
    overwrite(path, start + 8 * int(flat), np.array(change(values[index]), values.dtype).tobytes())


# ----- what a crash of the machine leaves


@pytest.mark.parametrize("page", range(1, 5))
@pytest.mark.parametrize("small", [True, False])
def test_a_torn_page_costs_what_came_after_the_newest_whole_state(
    with_checkpoints, path, reference, page, small, monkeypatch
):
    """A page of zeros in the last saved density, with whole checkpoints before it: they are not less than it was."""
    if not small:
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    shutil.copy(with_checkpoints, path)
    before = mf.load(path)
    assert before.warnings == []
    overwrite(path, (offset(path, "density", SAVED - 1) + 1024 * page), bytes(1024))
    found = mf.load(path)
    assert found.result is Result.UNFINISHED
    assert re.match(rf"not whole in the file: saved density number {SAVED - 1} of {SAVED}\. ", found.warnings[-1])
    assert found.times[-1] < found.state.t  # that of the checkpoint of the step before
    assert found.state.n_steps == before.state.n_steps - 1
    assert len(found.times) == SAVED - 1
    assert same_bits(np.asarray(found.density), np.asarray(reference.density[: SAVED - 1]))
    assert not mf.verify(path).ok
    assert f"not whole: saved density number {SAVED - 1} of {SAVED}" in str(mf.verify(path))
    with pytest.warns(mf.RunWarning, match=r"not whole in the file: .* The newest whole state is taken, t = "):
        whole = mf.resume(path, progress=False)
    assert_same_solution(whole, reference)
    assert mf.verify(path).ok


def test_a_page_of_an_earlier_moment_is_damage_where_a_checkpoint_speaks_of_more(with_checkpoints, path, reference):
    """What it holds fits together, and is what a kill would have left then; the checkpoint is on another page."""
    shutil.copy(with_checkpoints, path)
    for row in (SAVED - 2, SAVED - 1):
        overwrite(path, offset(path, "unfinished/frame_sums", row), bytes(64))
    changed(path, "unfinished/count", (0,), lambda count: SAVED - 2)
    with h5py.File(path) as file:
        sums = file["unfinished/frame_sums"][SAVED - 3]
    changed(path, "unfinished/count", (1,), lambda rows: sums[4])
    said = f"saved densities from number {SAVED - 2} on, of which a checkpoint speaks"
    assert re.match(f"not whole in the file: {said}", mf.load(path).warnings[-1])
    assert not mf.verify(path).ok
    with pytest.warns(mf.RunWarning, match=said):
        assert_same_solution(mf.resume(path, progress=False), reference)


@pytest.mark.parametrize("file", ["plain", "with_checkpoints"])
def test_a_torn_density_in_the_middle_costs_what_came_after_it(request, file, path, reference):
    """Checkpoints after it, too: nobody has what was saved in between."""
    shutil.copy(request.getfixturevalue(file), path)
    overwrite(path, offset(path, "density", 2) + 512, bytes(512))
    found = mf.load(path)
    assert found.times.tolist() == reference.times[:2].tolist()
    assert found.state.t == reference.times[1]
    assert same_bits(found.state.mu, reference.density[1])


def test_densities_that_are_not_read_at_once_are_checked_when_a_run_goes_on(plain, path, reference, monkeypatch):
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    shutil.copy(plain, path)
    overwrite(path, offset(path, "density", 2) + 512, bytes(512))
    assert mf.load(path).warnings == []  # the last one is whole
    assert len(mf.load(path, thorough=True).times) == 2
    assert wrong_checksums(path) == [f"saved density number 2 of {SAVED}"]
    with pytest.warns(mf.RunWarning, match="saved density number 2"):
        again = mf.resume(path, progress=False)
    assert same_bits(np.asarray(again.density), np.asarray(reference.density))


def test_a_file_without_a_whole_state_is_refused(plain, path):
    shutil.copy(plain, path)
    overwrite(path, offset(path, "density", 0), bytes(512))
    before = path.read_bytes()
    for read in (mf.load, mf.verify, lambda path: mf.resume(path, progress=False)):
        with pytest.raises(FileFormatError, match=r"holds no state that is whole, .*: saved density number 0 of 6$"):
            read(path)
    assert path.read_bytes() == before


# ----- damage of any kind

COLUMN = {name: i for i, name in enumerate(FRAME_COLUMNS)}
LAST = SAVED - 1
KINDS = {
    "a bit of the exponent": ("density", (LAST, 300), lambda x: x * 2.0**16),
    "a bit of the mantissa": ("density", (LAST, 300), lambda x: np.nextafter(x, np.inf)),
    "of a density before": ("density", (3, 300), lambda x: np.nextafter(x, np.inf)),
    "a cell of the tail": ("density", (3, 0), lambda x: 2.0 * x + 1e-300),
    "a time": ("unfinished/frames", (LAST, COLUMN["time"]), lambda x: x + 1e-3),
    "an energy": ("unfinished/frames", (LAST, COLUMN["energy"]), lambda x: 2.0 * x),
    "the number of steps": ("unfinished/frames", (LAST, COLUMN["steps"]), lambda x: x + 5.0),
    "the length of the next step": ("unfinished/frames", (LAST, COLUMN["length"]), lambda x: 0.5 * x),
    "what the controller remembers": ("unfinished/frames", (LAST, len(FRAME_COLUMNS)), lambda x: 0.5 * x),
    "a row": ("unfinished/rows_00", (2, 4), lambda x: 1.5 * x),
    "an error": ("unfinished/errors", (LAST, 1), lambda x: 0.5 * x),
    "a checksum": ("unfinished/frame_sums", (LAST, FRAME_SUMS.index("density")), lambda x: x + 1.0),
    "a checksum of checksums": ("unfinished/frame_sums", (1, 0), lambda x: x + 1.0),
    "a frame that never was": ("unfinished/frame_sums", (1, 0), lambda x: 0.0),
    "the count of densities": ("unfinished/count", (0,), lambda x: x - 2),
    "the count of rows": ("unfinished/count", (1,), lambda x: x + 1),
    "a checkpoint": ("unfinished/checkpoints", (1, CHECKPOINT_COLUMNS.index("time")), lambda x: x + 1e-3),
    "the density of a checkpoint": ("unfinished/checkpoint_mu", (0, 17), lambda x: x + 1.0),
    "the companion": ("unfinished/companion_mu", (0, 17), lambda x: x + 1.0),
    "the time of the companion": ("unfinished/companions", (1, 2), lambda x: 0.5 * x),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_before_a_run_goes_on(plain, path, reference, kind):
    """And what is whole is enough for the whole run, bit for bit."""
    shutil.copy(plain, path)
    assert mf.verify(path).ok
    changed(path, *KINDS[kind])
    assert mf.load(path).warnings[-1].startswith("not whole in the file: ")
    assert not mf.verify(path).ok
    with pytest.warns(mf.RunWarning, match="not whole in the file"):
        again = mf.resume(path, progress=False)
    assert_same_solution(again, reference)
    assert mf.verify(path).ok


def numbers_that_count(path) -> list[tuple[str, int]]:
    """All numbers of a killed file that a run which goes on depends on: dataset, and place within it."""
    with h5py.File(path) as file:
        group = file["unfinished"]
        rows, width = int(group["count"][1]), group["rows_00"].shape[1]
        written = {f"unfinished/{name}": SAVED for name in ("frames", "errors", "frame_sums")}
        written |= {"density": SAVED, "unfinished/rows_00": rows}
        # further blocks of rows have nothing yet, and no reason has been given
        names = ["x", "density", *(f"unfinished/{name}" for name in group)]
        names = [name for name in names if not re.search("reason|rows_0[1-9]|rows_[12]", name)]
        places = {(n, i) for n in names for i in range(written.get(n, len(file[n])) * int(np.prod(file[n].shape[1:])))}
        # what is known of the newest state only when it is left is not known yet
        late = [list(group.attrs["columns"]).index(name) for name in group.attrs["departure"]]
        return sorted(places - {("unfinished/rows_00", (rows - 1) * width + k) for k in late})


def test_no_change_of_a_number_is_accepted(plain, path, monkeypatch):
    """One number of each dataset after the other, and many at random; not the first number of a slot made zero.

    That is what a kill leaves there while a slot is written.
    """
    monkeypatch.setattr("mfpde.verification.laws._laws", lambda solution, unchecked: iter(()))  # checksums alone
    places = numbers_that_count(plain)
    random = np.random.default_rng(21)
    one = {name: (name, i) for name, i in places}  # the last of each
    chosen = [*one.values(), *(places[i] for i in random.choice(len(places), 300, replace=False))]
    assert len(one) == 12
    whole = plain.read_bytes()
    for name, i in chosen:
        at = offset(plain, name) + 8 * i
        old = int.from_bytes(whole[at : at + 8], "little")
        new = old ^ (1 << int(random.integers(64)))
        path.write_bytes(whole[:at] + new.to_bytes(8, "little") + whole[at + 8 :])
        try:
            accepted = mf.verify(path).ok
        except FileFormatError:
            accepted = False
        assert not accepted, (name, i, old, new)


def test_the_reason_why_there_are_no_estimates_has_a_checksum(path):
    """The companion has ended between two save times; the text is of every later state."""
    problem = mf.problems.gaussian_bumps()
    stream, beside = Stream(path), Stream.add

    def ended(self, state, rows, responses, stats, given):
        beside(self, state, rows, responses, stats, given._replace(state=None, reason="it had no mass left"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "add", ended)
        with pytest.raises(Gone):
            mf.solve(problem, shape=60, t_end=0.3, save=7, progress=False, output=stream, stop=die(8))
    assert mf.load(path).errors.reason == "it had no mass left"
    assert mf.load(path).warnings == []
    changed(path, "unfinished/reason", (3,), lambda x: x + 1)
    found = mf.load(path)
    assert found.errors.reason == "unknown, it is not whole in the file"
    assert "the reason why there are no estimates any more" in found.warnings[-1]
    assert not mf.verify(path).ok


# ----- finished files that a run goes on from


@pytest.mark.parametrize("small", [True, False])
def test_a_finished_file_that_has_changed_is_not_gone_on_from(path, reference, monkeypatch, small):
    if not small:
        monkeypatch.setattr(stored, "IN_MEMORY", 0)
    reference.save(path)
    changed(path, "density", (3, 300), lambda x: np.nextafter(x, np.inf))
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match="the checksum of density is not the one in the file"):
        mf.resume(path, 0.2, progress=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["mass", "minimum"])
def test_densities_that_are_copied_keep_their_laws(path, what):
    """In files without checksums, too: mass and minimum of a density are those that were recorded for its time."""
    solution = mf.solve(LINE, shape=60, t_end=0.1, save=3, progress=False)
    mu = solution.density[1]
    low, high = np.argsort(mu)[[0, -1]]
    mu[high] += 1e-9 if what == "mass" else mu[low] * 0.5
    mu[low] *= 1.0 if what == "mass" else 0.5
    solution.save(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["checksums"]
    before = path.read_bytes()
    with pytest.raises(FileFormatError, match=r"the saved density at t = 0.05 has mass .* it has changed since"):
        mf.resume(path, 0.2, progress=False)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["run.h5"]


# ----- files that change while they are read


def changing(monkeypatch, path, change) -> None:
    """Let something happen to the file when the next reader has opened it, and with it its end as HDF5 knows it."""
    opened, changes = solution_reader._reading, [change]

    @contextlib.contextmanager
    def opened_then_changed(given, **options):
        with opened(given, **options) as reader:
            if changes:
                changes.pop()(path)
            yield reader

    monkeypatch.setattr(solution_reader, "_reading", opened_then_changed)


def test_a_block_of_rows_that_is_added_during_the_reading_is_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_ROWS", 4)  # the second block begins with row 4, the third with row 12
    path, contents = tmp_path / "run.h5", {}

    def stop(snapshot) -> bool:
        contents[snapshot.step] = path.read_bytes()
        return snapshot.step == 20

    settings = {**SETTINGS, "shape": 60, "t_end": 3.0, "controller": mf.FixedStep(0.01)}
    mf.solve(LINE, **settings, output=path, checkpoint=1e-9, stop=stop)
    early, late = contents[2], contents[20]

    def grows(path) -> None:
        with open(path, "r+b") as file:  # the same file: HDF5 has its old end in memory
            file.write(late)

    path.write_bytes(late)
    wanted = mf.load(path)
    path.write_bytes(early)
    changing(monkeypatch, path, grows)
    assert_same_solution(mf.load(path), wanted)
    path.write_bytes(early)
    changing(monkeypatch, path, grows)
    assert wrong_checksums(path) == []


def test_a_run_that_ends_during_the_reading_is_no_damage(tmp_path, monkeypatch, with_checkpoints, reference):
    path, finished = tmp_path / "run.h5", tmp_path / "finished.h5"
    reference.save(finished)
    shutil.copy(with_checkpoints, path)
    for at in ("count", "checkpoints"):  # what is looked up once more in the file, as other numbers are there
        overwrite(path, offset(path, f"unfinished/{at}"), b"\1")
    changing(monkeypatch, path, lambda path: os.replace(finished, path))
    assert_same_solution(mf.load(path), reference)


def test_a_large_density_is_checked_when_it_is_read(tmp_path, monkeypatch, with_checkpoints, reference):
    """`load` leaves those of more than 64 MiB in the file; a run that goes on from them, or saves them, would go on."""
    path = tmp_path / "run.h5"
    shutil.copy(with_checkpoints, path)
    overwrite(path, offset(path, "density", 2), bytes(4096))
    monkeypatch.setattr(stored, "IN_MEMORY", 0)
    solution = mf.load(path)
    assert len(solution.times) == SAVED
    assert same_bits(solution.density[3:], reference.density[3:SAVED])
    message = rf"saved density number 2 of {SAVED} is not whole in .*run\.h5; load it with thorough=True"
    for read in (
        lambda: solution.density[2],
        lambda: solution.density[1:4, 5],
        lambda: np.asarray(solution.density),
        lambda: mf.resume(solution, progress=False),
        lambda: solution.save(tmp_path / "other.h5"),
    ):
        with pytest.raises(OSError, match=message):
            read()
    assert sorted(os.listdir(tmp_path)) == ["run.h5"]
