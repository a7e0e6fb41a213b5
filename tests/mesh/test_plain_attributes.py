"""What a file says of its run in single numbers and words, beside its texts."""

import h5py
import numpy as np
import pytest
from shared import FILES, Gone, content, die

import mfpde as mf
from mfpde.storage import FileFormatError

SAID = {
    "alpha": 2.0, "temperature": 0.0, "reaction": "balanced", "t_end": 0.2, "parameter_target": 1.5,
    "method": repr(mf.ExponentialSSPRK3()), "scheme": repr(mf.Weno5()),
}  # fmt: skip


def attributes(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


@pytest.fixture
def problem():
    return mf.problems.linear_neuron(alpha=2.0, target=1.5)


@pytest.mark.parametrize("ends", [True, False], ids=["finished", "growing"])
def test_they_stand_at_the_root(problem, path, ends):
    if ends:
        mf.solve(problem, 40, 0.2, save=2, output=path)
    else:
        with pytest.raises(Gone):
            mf.solve(problem, 40, 0.2, save=2, output=path, stop=die(3))
    found = attributes(path)
    assert {name: found[name] for name in SAID} == SAID
    assert found["shape"].tolist() == [40]
    loaded = mf.load(path)
    assert {name: loaded.plain[name] for name in SAID} == SAID
    assert loaded.plain["shape"] == (40,)


def test_schedules_and_problems_made_in_python(path):
    """Text where there is no number; nothing of a constructor that was not called."""
    problem = mf.Problem(
        energy=mf.External(lambda x: x**2, lambda x: (2 * x,)),
        axes=[mf.Axis("x", -1, 1)],
        initial=mf.Density(lambda x: 1 - x**2),
        alpha=mf.PowerLaw(0.5, 2.0),
        temperature=0.25,
    )
    run = mf.solve(problem, 30, 0.01, save=2)
    run.save(path)
    loaded = mf.load(path)
    assert loaded.plain["alpha"] == "PowerLaw(exponent=0.5, scale=2.0)"
    assert loaded.plain["temperature"] == 0.25
    assert loaded.plain == run.plain
    assert not [name for name in loaded.plain if name.startswith("parameter_")]
    before = content(path)
    loaded.save(path)  # without the problem, which is not known
    assert content(path) == before
    assert mf.verify(path).ok


@pytest.mark.parametrize("name", ["alpha", "parameter_target", "scheme", "shape", "t_end"])
def test_changes_are_noticed(problem, path, name):
    mf.solve(problem, 40, 0.2, save=2, output=path)
    with h5py.File(path, "r+") as file:
        old = file.attrs[name]
        file.attrs[name] = old + "x" if isinstance(old, str) else old + 1
    with pytest.raises(FileFormatError, match="the checksum of plain attributes is not the one in the file"):
        mf.load(path)
    found = mf.verify(path)
    assert [check.name for check in found.checks if not check.holds] == [
        "datasets whose checksum is wrong (plain attributes)",
        f"plain attributes that are not those of the run ({name}), of 12",
    ]


def test_what_is_gone_is_noticed(problem, path):
    mf.solve(problem, 40, 0.2, save=2, output=path)
    with h5py.File(path, "r+") as file:
        for name in attributes(path):
            if name in ("shape", *SAID) or name.startswith("parameter_"):
                del file.attrs[name]
    assert not mf.verify(path).ok


def test_growing_files_are_refused_with_others(problem, path):
    with pytest.raises(Gone):
        mf.solve(problem, 40, 0.2, save=2, output=path, stop=die(3))
    with h5py.File(path, "r+") as file:
        file.attrs["alpha"] = 7.0
    with pytest.raises(FileFormatError, match="the checksum of plain attributes is not the one"):
        mf.load(path)


def test_early_files(tmp_path):
    """They have none, and get them when they are saved again."""
    path = FILES / "schema-1-checksums.h5"
    assert "alpha" not in attributes(path)
    loaded = mf.load(path)
    assert loaded.plain["alpha"] == loaded.problem.alpha(0.0)
    loaded.save(tmp_path / "again.h5")
    assert attributes(tmp_path / "again.h5")["alpha"] == loaded.problem.alpha(0.0)
    assert mf.verify(tmp_path / "again.h5").ok


def test_no_type_of_theirs(path, problem):
    """What is neither a number nor text is refused, and read no further."""
    mf.solve(problem, 40, 0.2, save=2, output=path)
    with h5py.File(path, "r+") as file:
        file.attrs["alpha"] = np.zeros((3, 3))
    with pytest.raises(FileFormatError, match="attribute 'alpha'"):
        mf.load(path)


def test_references_have_them(problem, tmp_path):
    from mfpde.pack import save_reference

    path = tmp_path / "mine.h5"
    save_reference(mf.reference(problem, 1e-2, times=[0.1]), path)
    assert attributes(path)["parameter_target"] == 1.5
    before = content(path)
    save_reference(mf.load_reference(path), path)
    assert content(path) == before
    with h5py.File(path, "r+") as file:
        file.attrs["alpha"] = 3.0
    with pytest.raises(FileFormatError, match="the checksum of plain attributes"):
        mf.load_reference(path)
    assert not mf.verify(path).ok
    assert mf.load_reference("three-gaussians").plain == {}  # an early file
