"""Stationary states in files: bit for bit, with their problem, checked by `verify`, refused where they are damaged."""

import dataclasses
import re
import sys

import h5py
import numpy as np
import pytest
from scipy import stats
from shared import content, same_bits

import mfpde as mf
from mfpde.storage import FileFormatError
from validation._damage import Outcome, attempts

X = np.linspace(-2.0, 2.0, 12)
NUMBERS = (
    "energy",
    "gap",
    "entropy",
    "temperature",
    "energy_error",
    "iterations",
    "evaluations",
    "converged",
    "convex",
)
WORDS = ("no_error", "name", "configuration", "provenance")


def bowl(**changes):
    """Made in Python: a file has it in words."""
    options = {"energy": mf.Confinement(x=1.0), "axes": [mf.Axis("x", -6, 6)], "initial": mf.Product(x=stats.norm())}
    return mf.Problem(**(options | {"temperature": 0.5} | changes))


def network(temperature=0.1):
    return mf.problems.network(X, np.sin(X), bias=False, temperature=temperature)


STATES = {
    "noisy": lambda: mf.stationary(mf.problems.torus_langevin(temperature=0.2), 40),
    "another temperature": lambda: mf.stationary(mf.problems.torus_langevin(temperature=0.2), 40, temperature=0.3),
    "plane": lambda: mf.stationary(mf.problems.torus_spikes(), (6, 8), estimate=False),
    "sparse": lambda: mf.stationary(mf.problems.linear_neuron(), 40),
    "free mass": lambda: mf.stationary(network(temperature=0.0).replace(reaction="unbalanced"), 12),
    "network": lambda: mf.stationary(network(), 12),
    "of the user": lambda: mf.stationary(bowl(), 30),
    "axis of a taken name": lambda: mf.stationary(
        bowl(energy=mf.Confinement(density=1.0), axes=[mf.Axis("density", -6, 6)],
             initial=mf.Product(density=stats.norm())), 30),
}  # fmt: skip


def assert_same(one, other):
    assert one.grid == other.grid
    for name in ("mu", "log_mu", "potential"):
        assert same_bits(getattr(one, name), getattr(other, name)), name
    for name in (*NUMBERS, *WORDS):
        np.testing.assert_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert type(getattr(one, name)) is type(getattr(other, name)), name


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.filterwarnings("ignore::mfpde.RunWarning")
def test_round_trip(kind, path, tmp_path):
    state = STATES[kind]()
    state.save(path)
    loaded = mf.load(path)
    assert_same(loaded, state)
    assert mf.verify(path, state.problem).ok
    again = tmp_path / "again.h5"
    loaded.save(again)  # whether its problem is known or not
    assert content(again) == content(path)
    with h5py.File(path) as file:
        assert file.attrs["temperature"] == state.temperature
        assert file.attrs["shape"].tolist() == list(state.grid.shape)


def test_the_problem_comes_with_it(path):
    state = mf.stationary(mf.problems.linear_neuron(target=1.5), 40)
    state.save(path)
    loaded = mf.load(path)
    assert loaded.problem.fingerprint() == state.problem.fingerprint()
    np.testing.assert_array_equal(loaded.predict([-1.0, 2.0]), state.predict([-1.0, 2.0]))
    # E = (1.5 - mean)^2 / 2 is 0 where the neurons' mean is the target: f(x) = 1.5 x
    np.testing.assert_allclose(state.predict([-1.0, 2.0]), [-1.5, 3.0], rtol=1e-12)


def test_also_one_made_in_python(path):
    state = mf.stationary(network(), 12)
    state.save(path)
    found = mf.load(path)
    assert found.problem.fingerprint() == network().fingerprint()
    np.testing.assert_array_equal(found.predict(X), state.predict(X))
    with pytest.raises(ValueError, match="their fingerprints differ"):
        mf.load(path, problem=network().replace(temperature=0.2))
    assert mf.verify(path).unchecked == ()


def test_or_is_given(path):
    problem = network().replace(energy=network().energy + mf.External(lambda c, a: c**2))
    state = mf.stationary(problem, 12)
    state.save(path)
    with pytest.raises(ValueError, match=r"the stationary state of 'network': .*mfpde\.load\(path, problem=\.\.\.\)"):
        mf.load(path).predict(X)
    found = mf.load(path, problem=problem)
    np.testing.assert_array_equal(found.predict(X), state.predict(X))
    unchecked = mf.verify(path).unchecked
    assert len(unchecked) == 1
    assert "the file does not hold its problem" in unchecked[0]


def test_tables_have_the_labels_of_species():
    state = mf.stationary(mf.problems.sparse_deconvolution(signed=True), 16)
    assert state.to_xarray()["sign"].values.tolist() == ["positive", "negative"]


def test_what_is_no_solution_is_said(path):
    mf.stationary(bowl(), 30).save(path)
    with pytest.raises(FileFormatError, match=r"holds a stationary state, not a reference; read it with mfpde\.load$"):
        mf.load_reference(path)
    with pytest.raises(FileFormatError, match=r"holds a stationary state, not a solution; read it with mfpde\.load"):
        mf.resume(path)
    with pytest.raises(FileExistsError, match="it exists"):
        mf.stationary(bowl(), 30).save(path, overwrite=False)
    with h5py.File(path, "r+") as file:
        file.attrs["mfpde_equilibrium_schema"] = 2
    with pytest.raises(FileFormatError, match="has schema 2, this version of mfpde reads stationary states up to"):
        mf.load(path)


@pytest.mark.parametrize("name", ["density", "log_density", "potential", "x"])
def test_changed_numbers_are_noticed(path, name):
    mf.stationary(bowl(), 30).save(path)
    with h5py.File(path, "r+") as file:
        file[name][3] = file[name][3] + 1e-9
    with pytest.raises(FileFormatError, match=f"the checksum of {name} is not the one in the file"):
        mf.load(path)
    assert not mf.verify(path, bowl()).ok


@pytest.mark.parametrize("name", ["energy", "gap", "converged", "convex", "problem", "title", "alpha", "no_error"])
def test_changed_words_are_noticed(path, name):
    mf.stationary(bowl(), 30).save(path)
    with h5py.File(path, "r+") as file:
        old = file.attrs[name]
        file.attrs[name] = "no" if name == "convex" else old + "x" if isinstance(old, str) else old + 1
    with pytest.raises(FileFormatError, match=r"the checksum of (plain )?attributes is not the one in the file"):
        mf.load(path)


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"energy": 0.7}, "energy of the density"),
        ({"entropy": 0.1}, "entropy of the density"),
        ({"gap": 0.1}, "gap of the density"),
        ({"potential": np.zeros(30)}, "potential of the density"),
        ({"log_mu": np.zeros(30)}, "density against its logarithm"),
        ({"gap": -1e-3}, "negative gap"),
        ({"plain": {"alpha": 7.0}}, r"plain attributes that are not those of the state \(alpha\)"),
    ],
)
def test_laws(path, changes, law):
    """Numbers that are whole, and not those of the state."""
    dataclasses.replace(mf.stationary(bowl(), 30), **changes).save(path)
    wrong = [check.name for check in mf.verify(path, bowl()).checks if not check.holds]
    assert wrong
    assert any(re.match(law, name) for name in wrong), wrong


@pytest.mark.parametrize("kind", ["noisy", "plane", "sparse", "network"])
def test_pictures(kind, tmp_path):
    state = STATES[kind]()
    figure = state.plot(tmp_path / "state.png")
    assert (tmp_path / "state.png").read_bytes()[:4] == b"\x89PNG"
    titles = [ax.get_title() for ax in figure.get_axes()]
    assert ("network output" in titles) is (kind in ("sparse", "network"))
    assert mf.plot(state, tmp_path / "again.pdf").get_axes()
    if kind == "noisy":
        drawn = figure.get_axes()[0].lines[0].get_ydata()
        np.testing.assert_array_equal(drawn, state.mu)


def test_damage(tmp_path):
    """A byte, a stretch or the end of a file: it is refused in one line, or all numbers in it are what they were."""
    path, whole = tmp_path / "damaged.h5", tmp_path / "whole.h5"
    state = mf.stationary(bowl(), 30)
    state.save(whole)
    valid = whole.read_bytes()

    def check(case: int) -> int:
        rng = np.random.default_rng(case)
        data = bytearray(valid)
        at = int(rng.integers(len(data)))
        if case % 4 == 0:
            data = data[:at]
        else:
            stretch = slice(at, at + (1, 8, 200)[case % 4 - 1])
            data[stretch] = rng.bytes(len(data[stretch]))
        path.write_bytes(data)
        try:
            assert_same(mf.load(path), state)
        except (ValueError, OSError) as error:
            print(f"mfpde: {error}", file=sys.stderr)
            return 2
        return 0

    found, _ = attempts(check, range(80), batch=80, limit=60.0)
    wrong = [a for a in found if a.outcome not in (Outcome.ANSWER, Outcome.REFUSED)]
    assert not wrong, "\n".join(f"{a.case}: {a.outcome}: {a.text[-1000:]}" for a in wrong[:3])
    assert sum(a.outcome is Outcome.REFUSED for a in found) > 20


def test_an_attribute_of_a_type_that_is_not_read(path):
    """The library follows pointers of such types wherever damage sends them."""
    mf.stationary(bowl(), 30).save(path)
    with h5py.File(path, "a") as file:
        del file.attrs["no_error"]
        values = np.empty(1, dtype=object)
        values[0] = np.array([1, 2])
        file.attrs.create("no_error", values, dtype=h5py.vlen_dtype(np.int64))
    with pytest.raises(FileFormatError, match="attribute 'no_error' of / is neither a number nor text"):
        mf.load(path)


def test_a_network_of_functions_of_ones_own_is_missed_by_name(path):
    problem = bowl(network=mf.Network(lambda x, theta: np.multiply.outer(x, theta)))
    mf.stationary(problem, 30).save(path)
    found = mf.load(path)
    assert found.problem is not None
    with pytest.raises(ValueError, match=r"the stationary state of 'problem': .* own, .*lambda.*load it with"):
        found.predict([1.0])
    assert mf.load(path, problem=problem).predict([1.0]).shape == (1,)
