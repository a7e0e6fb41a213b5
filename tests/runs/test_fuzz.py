"""Files from elsewhere are data: damaged ones are refused in one line, quickly, in bounded memory, and run nothing."""

from __future__ import annotations

import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

import mfpde as mf
from mfpde.runs.configuration import load_config, parse_value
from mfpde.runs.tables import ConfigurationError
from mfpde.support.files import untrusted
from mfpde.support.files.hdf5 import FileFormatError
from validation._damage import Outcome, attempts
from validation.robustness import prepared

# runs of a few cells: what is looked at is their files
pytestmark = pytest.mark.filterwarnings("ignore:the start is .* cells wide:mfpde.RunWarning")


@pytest.fixture(scope="module")
def checks():
    with tempfile.TemporaryDirectory() as folder:
        yield prepared(Path(folder))


# the long profile is the study `robustness`: 10^4 TOML files and 10^3 of each other kind
@pytest.mark.parametrize(("kind", "count"), [("TOML", 120), ("HDF5", 60), ("NPZ", 30), ("CSV", 30), ("particle", 60)])
def test_damaged_files(checks, kind, count):
    first = 50_000  # others than those of the study
    found, peak = attempts(checks[kind], range(first, first + count), batch=count, limit=60.0)
    wrong = [a for a in found if a.outcome not in (Outcome.ANSWER, Outcome.REFUSED)]
    assert not wrong, "\n".join(f"{kind} {a.case}: {a.outcome}: {a.text[-1500:]}" for a in wrong[:5])
    assert peak < 2**30
    # most are refused, and not all: damage to a comment or a number leaves a valid file
    count_of = Counter(a.outcome for a in found)
    assert count_of[Outcome.REFUSED] > 0.3 * count
    assert count_of[Outcome.ANSWER] > 0


def test_what_goes_wrong_is_seen():
    """The harness itself: each outcome is told from the others."""

    def check(case: int) -> int:
        import os

        if case == 1:
            raise RuntimeError("a bug")
        if case == 2:
            time.sleep(30)
        if case == 3:
            os.kill(os.getpid(), 9)
        if case == 4:
            print("two\nlines", file=sys.stderr)
            return 2
        if case == 5:
            print("mfpde: this is not right", file=sys.stderr)
            return 2
        if case == 6:
            np.ones(2**25)  # 256 MiB
        return 0

    found, peak = attempts(check, range(7), limit=8.0, memory=2**31)
    expected = ["ANSWER", "TRACEBACK", "HANG", "CRASH", "UNCLEAR", "REFUSED", "ANSWER"]
    assert [a.outcome.name for a in found] == expected
    assert peak > 2**27
    (refused,), _ = attempts(check, [6], memory=2**27)
    assert "MemoryError" in refused.text
    assert refused.outcome is Outcome.TRACEBACK


# ----- HDF5


@pytest.fixture
def solution(tmp_path):
    path = tmp_path / "run.h5"
    mf.solve(mf.problems.linear_neuron(), (12,), 0.01, save=2, progress=False).save(path)
    return path


def heap_of(content: bytes) -> int:
    return content.index(b"GCOL\1")


def refused_by_info(path, limit=20.0):
    """What `mfpde info` says, in a child: what is tested here would never end."""
    from mfpde import cli

    def check(_: int) -> int:
        with pytest.raises(SystemExit) as end:
            cli.main(["info", str(path)])
        return end.value.code or 0

    (attempt,), _ = attempts(check, [0], limit=limit)
    assert attempt.outcome is Outcome.REFUSED, attempt
    return attempt.text


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (16, bytes(16), "object 0 claims 0 bytes"),  # free space of no length is followed by itself
        (24, b"\xf0" + b"\xff" * 7, "claims 18446744073709551600 bytes"),  # back by the head: round and round
        (24, b"\xe0" + b"\xff" * 7, "claims 18446744073709551584 bytes"),
        (24, (2**20).to_bytes(8, "little"), "claims 1048576 bytes"),
    ],
)
def test_texts_that_go_round_in_circles(solution, offset, value, message):
    content = bytearray(solution.read_bytes())
    at = heap_of(content) + offset
    content[at : at + len(value)] = value
    solution.write_bytes(content)
    assert message in refused_by_info(solution)


def test_the_search_for_texts_finds_them_all(tmp_path, monkeypatch):
    path = tmp_path / "x"
    monkeypatch.setattr(untrusted, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    for skip in ([], [(100, 200)], [(0, 10), (500, 900)], [(150, 160), (155, 300)]):
        places = sorted(rng.choice(200, 60, replace=False) * 5)
        content = bytearray(1100)
        for at in places:
            content[at : at + 4] = b"GCOL"
        path.write_bytes(content)
        with path.open("rb") as file:
            found = set(untrusted._signatures(file, len(content), skip))
        inside = {at for at in places if any(a <= at and at + 4 <= b for a, b in skip)}
        assert set(places) - inside <= found <= set(places)


def test_numbers_that_look_like_texts_do_no_harm(tmp_path):
    """The signature and what may follow it in the values of a density."""
    solution = mf.solve(mf.problems.linear_neuron(), (12,), 0.01, save=2, progress=False)
    other_version = b"GCOL\0\0\0\0" + (4096).to_bytes(8, "little") + bytes(16)
    too_long = b"GCOL\1\0\0\0" + b"\xff" * 6 + bytes(2)
    odd = np.frombuffer(other_version + too_long, dtype="<f8")
    solution.density = solution.density.copy()
    solution.density[1, : len(odd)] = odd
    solution.save(tmp_path / "run.h5")
    np.testing.assert_array_equal(mf.load(tmp_path / "run.h5").density, solution.density)


def test_large_files_are_searched_around_their_densities(solution, monkeypatch):
    from mfpde.mesh import solution_reader

    monkeypatch.setattr(solution_reader, "_SEARCHED", 0)
    assert mf.load(solution).result is mf.Result.SUCCESS
    with h5py.File(solution) as file:
        (skipped,) = solution_reader._numbers_only(file)
        assert skipped[1] - skipped[0] == file["density"].size * 8
    content = bytearray(solution.read_bytes())
    at = heap_of(content) + 16
    content[at : at + 16] = bytes(16)
    solution.write_bytes(content)
    with pytest.raises(FileFormatError, match="do not add up"):
        mf.load(solution)


def test_chunked_densities_have_their_places_too(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        values = file.create_dataset("density", data=np.ones((6, 50)), chunks=(2, 50))
        pieces = untrusted.extents(values)
        assert len(pieces) == 3
        assert sum(b - a for a, b in pieces) == 6 * 50 * 8
        assert untrusted.extents(values, most=2) == []
        assert untrusted.extents(file.create_dataset("empty", shape=(10,), dtype="f8")) == []


# ----- TOML


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 20_000) + " = 1",
        "[" + " . ".join(["a"] * 20_000) + "]",
        ".".join(['"a b"'] * 20_000) + " = 1",
        "x = '''\"'''\n" + ".".join(["' '"] * 20_000) + " = 1",
        'x = ""\ny = """a\\"""""\n' + ".".join(["a"] * 20_000) + " = 1",
        "# it's\n" + ".".join(["a"] * 20_000) + " = 1",
    ],
)
def test_keys_of_many_parts_take_no_memory(tmp_path, text):
    """The standard parser keeps every beginning of a key: the square of its length."""
    path = tmp_path / "run.toml"
    path.write_text(text)

    def check(_: int) -> int:
        with pytest.raises(ConfigurationError, match=r"a key in line \d has more than 100 parts"):
            load_config(path)
        return 0

    (attempt,), peak = attempts(check, [0], limit=20.0, memory=2**27)
    assert attempt.outcome is Outcome.ANSWER, attempt
    assert peak < 2**26


@pytest.mark.parametrize(
    "text",
    [
        "x = [" + "0.5, " * 500 + "]",
        'x = "' + "a." * 500 + '"',
        "x = '''\n" + "a." * 500 + "'''",
        "# " + "a." * 500 + "\nx = 1",
        ".".join(["a"] * 100) + " = 1",
        "\n".join(f"a.b{i} = 1.5" for i in range(200)),
    ],
)
def test_many_dots_elsewhere_are_fine(text):
    import tomllib

    assert untrusted.parse_toml(text) == tomllib.loads(text)


def test_values_of_the_command_line_are_bounded_too():
    with pytest.raises(ConfigurationError, match="no TOML value"):
        parse_value("{" + ".".join(["a"] * 5000) + " = 1}")
    with pytest.raises(ConfigurationError, match="no TOML value"):
        parse_value("[" * 20_000 + "]" * 20_000)


# ----- arrays and particles


def archive(path, **members: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def npy(shape: str, kind: str = "'<f8'", rest: bytes = b"") -> bytes:
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + rest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("(10000000000,)"), "claims 80000000000 bytes"),
        (npy("(-5,)"), "shape"),
        (npy("(3,)", "'|O'"), "Python objects"),
        (npy("(3,)", "'<U100000000'"), "claims"),
        (npy("(2,)", rest=bytes(8)), "claims 16 bytes|reading array data"),
        (b"nothing", "magic string"),
        (npy("(3,)").replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09"), "version"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "EOF in multi-line statement|header"),
    ],
)
@pytest.mark.parametrize("who", ["network", "particles"])
def test_claims_of_arrays_are_checked(tmp_path, who, content, message):
    if who == "particles":
        archive(tmp_path / "x.npz", positions=content, times=content)
        with pytest.raises(ValueError, match=message) as caught:
            mf.load_particles(tmp_path / "x.npz")
    else:
        archive(tmp_path / "x.npz", x=content, y=content)
        (tmp_path / "run.toml").write_text('[network]\ndata = "x.npz"\n')
        with pytest.raises(ConfigurationError, match=message) as caught:
            load_config(tmp_path / "run.toml").problem()
    assert "x.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_beyond_the_limit_are_not_unpacked(tmp_path, monkeypatch):
    from mfpde.verification.comparison import records

    values = {"positions": np.zeros((2, 500, 1)), "times": np.arange(2.0), "other": np.zeros(10**6)}
    np.savez_compressed(tmp_path / "x.npz", **values)
    assert mf.load_particles(tmp_path / "x.npz")[0].n == 500  # what is no part of a record is not read
    monkeypatch.setattr(records, "MAX_BYTES", 5000)
    with pytest.raises(ValueError, match="bytes; the limit is 5000"):
        mf.load_particles(tmp_path / "x.npz")


@pytest.fixture
def cloud(tmp_path):
    path = tmp_path / "cloud.h5"
    with h5py.File(path, "w") as file:
        file["positions"] = np.zeros((2, 5, 1))
        file["times"] = np.arange(2.0)
        file.attrs["dt"] = 0.1
    return path


def refused_cloud(path, message, axes=None):
    with pytest.raises(ValueError, match=message) as caught:
        mf.load_particles(path, axes)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_particles_in_other_files_are_not_read(cloud, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(10).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["positions"] = np.zeros((2, 5, 1))

    def changed(change):
        with h5py.File(cloud, "r+") as file:
            del file["positions"]
            change(file)

    changed(lambda file: file.create_dataset("positions", (2, 5, 1), "f8", external=[(str(secret), 0, 80)]))
    refused_cloud(cloud, "'positions' keeps its values in another file")

    def virtual(file):
        layout = h5py.VirtualLayout(shape=(2, 5, 1), dtype="f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "positions", shape=(2, 5, 1))
        file.create_virtual_dataset("positions", layout)

    changed(virtual)
    refused_cloud(cloud, "'positions' keeps its values in another file")
    for link in (h5py.ExternalLink("other.h5", "positions"), h5py.SoftLink("/times")):
        changed(lambda file, link=link: file.__setitem__("positions", link))
        refused_cloud(cloud, "positions must be real numbers, not a link")


def test_claims_of_particles_are_checked(cloud):
    with h5py.File(cloud, "r+") as file:
        del file["positions"]
        file.create_dataset("positions", shape=(2, 2**38, 1), dtype="f8")
    refused_cloud(cloud, "'positions' claims 4398046511104 bytes, the file holds 0")
    with h5py.File(cloud, "r+") as file:
        del file["positions"]
        plan = {"chunks": (1, 512, 1), "compression": "gzip"}
        values = file.create_dataset("positions", shape=(2, 2**31, 1), dtype="f8", **plan)
        values[0, :512] = 1.0
    refused_cloud(cloud, "'positions' claims")


def test_groups_that_hold_themselves(cloud):
    with h5py.File(cloud, "r+") as file:
        file["again"] = file["/"]
    refused_cloud(cloud, "is there twice")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", np.zeros((2, 5, 1), dtype=complex), "positions must be real numbers, not complex128"),
        ("positions", np.full((2, 5, 1), b"1"), "positions must be real numbers"),
        ("positions", np.zeros((2, 5, 1), dtype=[("a", "f8")]), "positions must be real numbers"),
        ("times", np.array([b"0", b"1"]), "times must be real numbers"),
        ("times", np.array([True, False]), "times must be real numbers, not bool"),
        ("weights", np.full((2, 5), b"1"), "weights must be real numbers"),
        ("dt", np.zeros(0), "dt must be one number"),
        ("dt", np.ones(2), "dt must be one number"),
        ("dt", "0.1", "dt must be real numbers"),
        ("axes", np.arange(500), "the columns are 0, 1, 2, 3, 4, 5, 6, 7, .."),
        ("axes", ["c", "y"], "the columns are c, y"),
    ],
)
def test_odd_particles(cloud, name, value, message):
    with h5py.File(cloud, "r+") as file:
        if name in file:
            del file[name]
        file.attrs.pop(name, None)
        file[name] = value
    refused_cloud(cloud, message, ["c"])


def test_columns_without_names(cloud):
    with h5py.File(cloud, "r+") as file:
        file.attrs["axes"] = ["c", "y"]
    refused_cloud(cloud, "1 columns, but 'axes' names 2", ["c", "y"])


def test_a_folder_and_a_pipe_are_no_files_of_particles(tmp_path):
    import os

    os.mkfifo(tmp_path / "x.npz")  # opening it would wait for ever
    (tmp_path / "x.h5").mkdir()
    refused_cloud(tmp_path / "x.npz", "not a regular file")
    refused_cloud(tmp_path / "x.h5", "not a regular file")


@pytest.mark.parametrize("odd", ["empty", "scalar", "text", "external", "huge", "soft", "group"])
def test_verify_counts_odd_datasets_as_wrong(solution, tmp_path, odd):
    """A dataset that a run does not need is hashed all the same, if it is what it says."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(80))
    with h5py.File(solution, "r+") as file:
        if odd == "empty":
            file["extra"] = h5py.Empty("f8")
        elif odd == "scalar":
            file["extra"] = 1.0
        elif odd == "text":
            file["extra"] = ["a", "b"]
        elif odd == "external":
            file.create_dataset("extra", (10,), "f8", external=[(str(secret), 0, 80)])
        elif odd == "huge":
            file.create_dataset("extra", (2**40,), "f8")
        elif odd == "soft":
            file["extra"] = h5py.SoftLink("/time")
        else:
            file.create_group("extra")
    found = mf.verify(solution)
    assert not found.ok
    (check,) = (check for check in found.checks if "checksum" in check.name)
    assert check.measured == 1


def test_attributes_of_odd_types_are_refused(solution):
    for value in (np.complex128(1), np.void(b"ab"), np.zeros(2, dtype=[("a", "f8")])):
        with h5py.File(solution, "r+") as file:
            file.attrs["warnings"] = value
        with pytest.raises(FileFormatError):
            mf.load(solution)


def test_a_number_is_no_path():
    """The system would take it for a file that is open, and close it."""
    with pytest.raises(ValueError, match="a path is text, not 1"):
        mf.load(1)
