"""Problems made in Python are in their files as numbers, text and formulas, and compute the same bits from there."""

from __future__ import annotations

import copy
import dataclasses
import functools
import multiprocessing
import re
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tomli_w
from scipy import stats
from shared import Gone, die, invoke

import mfpde as mf
from mfpde.equation.description import stored
from mfpde.equation.description.whole import build, describe, is_named
from mfpde.equation.energy.activations import hermite
from mfpde.support import travel
from mfpde.support.registry import plain
from mfpde.support.session import quiet

# runs of a few cells: what is looked at is their bits
pytestmark = [
    pytest.mark.filterwarnings("ignore:the start is .* cells wide:mfpde.RunWarning"),
    pytest.mark.filterwarnings("ignore:.* of the mass lies at a truncation end:mfpde.RunWarning"),
    pytest.mark.filterwarnings("ignore:the state that drift and diffusion lead to:mfpde.RunWarning"),
    pytest.mark.filterwarnings("ignore:the energy rises:mfpde.RunWarning"),
]

X = np.linspace(-1.0, 1.0, 17)
Y = np.sin(3 * X)
F = mf.Formula
NORMAL = stats.norm(0.1, 0.25)
WELL = mf.External(F("(x**2 - 1)**2 + x/7", "x"))
GAUSSIAN = mf.SeparableKernel(x=mf.GaussianKernel(0.7, 1 / 3))


def on_line(energy=WELL, **changes):
    options = {"axes": [mf.Axis("x", -2, 2)], "initial": mf.Product(x=NORMAL), "alpha": 1.0, "shape": 16}
    return mf.Problem(energy=energy, **(options | changes))


def on_plane(energy, **changes):
    options = {
        "axes": [mf.Axis("c", -2, 2), mf.Axis("a", -2, 2)],
        "initial": mf.Product(c=NORMAL, a=stats.uniform(-1 / 3, 0.7)),
        "alpha": 1.0,
        "shape": (8, 9),
    }
    return mf.Problem(energy=energy, **(options | changes))


def network(loss="squared", activation="tanh", y=Y, **options):
    axes = {"axes": ("c", "a"), "roles": ("amplitude", "weight")}
    return on_plane(mf.TwoLayerNetwork(X, y, activation=activation, loss=loss, **(axes | options)))


def weights():
    return np.linspace(1.0, 2.0, 17)


def with_network(**options):
    unit, target = F("c*tanh(a*x)", ("x", "c", "a")), F("sin(3*x)", "x")
    return on_plane(mf.Confinement(c=0.1, a=0.2), network=mf.Network(unit, target, X), **options)


GRID = mf.Grid([mf.Axis("x", -1, 1)], [7])
TURN = mf.Axis("x", 0, 2 * np.pi, mf.End.PERIODIC)
PROBLEMS = {
    # energies
    "external": lambda: on_line(),
    "external of some axes": lambda: on_plane(mf.External(F("a**2/3", "a"), constant=1 / 3, axes=("a",))),
    "external with names of its own": lambda: on_plane(mf.External(F("u**2/3 + v", ("u", "v")))),
    "external of numpy": lambda: on_line(mf.External(np.cos)),
    "confinement": lambda: on_plane(mf.Confinement(a=0.1, c=1 / 3)),
    "interaction": lambda: on_line(mf.Interaction(GAUSSIAN, 1 / 7, 1e-12)),
    "discrepancy": lambda: on_line(mf.Discrepancy(GAUSSIAN, [[0.1], [1 / 3]], [1.0, -0.5])),
    "sum": lambda: on_line(WELL + mf.Interaction(GAUSSIAN) + mf.Confinement(x=0.3)),
    "features": lambda: on_line(mf.Features([F("x", "x"), F("x**2", "x")], mf.SquaredLoss([0.1, 1 / 3], [1.0, 2.0]))),
    "one feature": lambda: on_line(mf.Features(F("x**3", "x"), mf.HuberLoss([1 / 3], delta=0.7))),
    "unit": lambda: on_plane(mf.Features(F("c*sin(a*x)", ("x", "c", "a")), mf.SquaredLoss(X**2), inputs=X)),
    "unit of two inputs": lambda: on_plane(
        mf.Features(F("c*x1 + a*x2", ("x1", "x2", "c", "a")), mf.LogisticLoss(np.sign(X + 0.01)), inputs=np.c_[X, X**2])
    ),
    # networks
    "network": lambda: network(),
    "network with weights": lambda: network(weights=weights(), tolerance=1e-8),
    "network of a loss": lambda: network("logistic", "relu", np.sign(X + 0.01)),
    "network of Huber": lambda: network(functools.partial(mf.HuberLoss, delta=0.3), "erf"),
    "network of two outputs": lambda: on_plane(
        mf.TwoLayerNetwork(np.c_[X], np.c_[X, X**2], axes=("c", "a", "b"), roles=("amplitude", "amplitude", "weight")),
        axes=[mf.Axis(name, -2, 2) for name in "cab"],
        initial=mf.Product(c=NORMAL, a=NORMAL, b=NORMAL),
        shape=6,
    ),
    "hermite": lambda: network(activation=hermite(3)),
    "activation of one's own": lambda: network(activation=mf.Activation(F("z/(1 + z**2)", "z"), name="rational")),
    "activation with its slope": lambda: network(activation=mf.Activation(F("t*t", "t"), F("2*t", "t"), "square")),
    # kernels
    "cosine kernel": lambda: on_line(
        mf.Interaction(mf.SeparableKernel(x=mf.CosineKernel([1.0, -1 / 3], 0.1, 2.0))), axes=[TURN],
        initial=mf.Product(x=stats.vonmises(2.0)),
    ),
    "product of kernels": lambda: on_plane(
        mf.Interaction(mf.SeparableKernel(c=mf.LinearKernel(), a=mf.GaussianKernel(1)))
    ),
    "kernel of a formula": lambda: on_line(
        mf.Interaction(mf.SeparableKernel(x=mf.CallableKernel(F("exp(-abs(x - y))", ("x", "y")), None, True)))
    ),
    "kernel with its slope": lambda: on_line(
        mf.Interaction(mf.SeparableKernel(x=mf.CallableKernel(F("x*y", ("x", "y")), F("y", ("x", "y")))))
    ),
    "kernel of differences": lambda: on_line(mf.Interaction(mf.TranslationInvariantKernel(F("exp(-x**2)", "x")))),
    "kernel of pairs": lambda: on_line(mf.Interaction(mf.PairKernel(F("1/(1 + (x - other_x)**2)", ("x", "other_x"))))),
    # starts
    "dirac": lambda: on_line(initial=mf.Dirac(x=0.1)),
    "atom and law": lambda: on_plane(mf.Confinement(c=0.1), initial=mf.Product(a=NORMAL, c=1 / 3)),
    "laws of scipy": lambda: on_plane(
        mf.Confinement(c=0.1), initial=mf.Product(c=stats.gamma(2.5, -1, 0.1), a=stats.truncnorm(-1, 2, scale=1 / 3))
    ),
    "uniform that ends nowhere": lambda: on_line(initial=mf.Product(x=stats.uniform(-1 / 3, 1.1))),
    "density": lambda: on_line(initial=mf.Density(F("exp(-x**2) + 1/9", "x"))),
    "logarithm of a density": lambda: on_line(initial=mf.Density(F("-x**2/0.3", "x"), log=True)),
    "mixture": lambda: on_line(initial=mf.Mixture([(1 / 3, mf.Product(x=NORMAL)), (2.0, mf.Density(F("1", "x")))])),
    "on a mesh": lambda: on_line(initial=mf.GridMeasure(GRID, np.arange(1.0, 8.0))),
    "particles": lambda: on_line(initial=mf.Particles(X[:, None])),
    "particles with weights": lambda: on_line(initial=mf.Particles(X[:, None], weights())),
    # axes
    "natural ends": lambda: on_line(
        axes=[mf.Axis("x", 0, 2, (mf.End.NATURAL, mf.End.TRUNCATION))], initial=mf.Product(x=stats.uniform(0, 2))
    ),
    # dynamics
    "reaction": lambda: on_line(reaction="free-energy", temperature=0.3),
    "unbalanced": lambda: on_line(reaction="unbalanced"),
    "rate": lambda: on_line(rate=F("V**3 + V", "V")),
    "rate of numpy": lambda: on_line(rate=np.tanh),
    "metric": lambda: on_plane(mf.Confinement(c=0.1, a=0.2), metric=[F("1 + c**2", ("c", "a")), None]),
    "number as metric": lambda: on_plane(mf.Confinement(c=0.1, a=0.2), metric=[None, 1 / 3]),
    "base": lambda: on_line(base=F("exp(-x**2)", "x"), temperature=0.2),
    "refill": lambda: on_line(reinjection=mf.Reinjection(mf.Product(x=NORMAL))),
    "replace": lambda: on_line(reinjection=mf.Reinjection(mf.Density(F("2 + x", "x")), "replace")),
    "piecewise linear": lambda: on_line(alpha=mf.PiecewiseLinear([0.0, 0.02, 0.02], [1 / 3, 1.0, 0.0])),
    "power law": lambda: on_line(schedule=mf.PowerLaw(-0.25, 2.0)),
    "exponential decay": lambda: on_line(temperature=mf.ExponentialDecay(0.3, 1.0, 0.1), alpha=0.0),
    "inverse log": lambda: on_line(temperature=mf.InverseLog(0.1, 3.0), alpha=0.0),
    "formulas of time": lambda: on_line(alpha=F("1/(1 + t)", "t"), schedule=F("2 - exp(-s)", "s")),
    # the rest
    "words": lambda: on_line(name='"quotes" \n and θ', citation="@book{x}", t_end=1 / 3, exact={"minimum_energy": 0.1}),
    "no mesh": lambda: on_line(shape=None),
    "network of one's own": lambda: with_network(),
    "changed": lambda: mf.problems.three_gaussians().replace(alpha=1 / 3),
    "parts of others": lambda: on_line(
        mf.problems.double_well().energy + mf.Confinement(x=0.1), initial=mf.problems.double_well().initial
    ),
    "extended": lambda: dataclasses.replace(network(), axes=[mf.Axis("c", -3, 3), mf.Axis("a", -3, 3)]),
}  # fmt: skip


def said_of(problem):
    return tomli_w.dumps(plain(describe(problem).tables))


def left(problem, **arguments):
    """All that a short run leaves, to the bit; and what its network gives, and what the problem says of itself."""
    arguments = {"t_end": 0.02, "save": 2, "progress": False, "throw": False} | arguments
    with quiet():
        solution = mf.solve(problem, {1: 16, 2: (8, 9), 3: 6}[len(problem.axes)], **arguments)
    network = problem.network
    output = b"" if network is None else solution.predict(network.inputs[:3]).tobytes()
    return *(a.tobytes() for a in (solution.density, solution.energy, solution.response)), output, said_of(problem)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_piece_is_numbers_and_text(name):
    """As tables, as TOML, and as tables again: the same problem each time."""
    problem = PROBLEMS[name]()
    found = describe(problem)
    assert found.missing == ()
    assert found.silent == ""
    with quiet():
        again = build(tomllib.loads(tomli_w.dumps(plain(found.tables))), mf.problems.get)
    assert again.fingerprint() == problem.fingerprint()
    assert (again.name, again.t_end, again.shape, again.citation) == (
        problem.name, problem.t_end, problem.shape, problem.citation,
    )  # fmt: skip
    assert said_of(again) == said_of(problem)
    assert again.axes == problem.axes
    assert (again.network is None) == (problem.network is None)
    assert {k: v for k, v in problem.exact.items() if not callable(v)} == dict(again.exact)


def test_numbers_come_back_to_the_bit():
    """Where what a constructor does with them a second time would move their last digits, too."""
    rng, moved = np.random.default_rng(1), np.zeros(2)
    for _ in range(20):
        made = network(weights=rng.random(17))
        given = made.energy.weights
        low, length = rng.random(2)
        moved += (given / given.sum() != given).any(), (low + length) - low != length
        made = made.replace(initial=mf.Product(c=NORMAL, a=stats.uniform(low, length)))
        again = build(tomllib.loads(tomli_w.dumps(plain(describe(made).tables))))
        assert np.array_equal(again.energy.weights, given)
        law = dict(again.initial.marginals)["a"]
        loc, scale = law.args if law.args else (law.kwds["loc"], law.kwds["scale"])
        assert (loc, scale) == (low, length)
    assert moved.min() > 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The files of short runs of all problems, and their bits."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for i, (name, make) in enumerate(PROBLEMS.items()):
        path = folder / f"{i}.h5"
        found[name] = path, left(make(), output=path)
    return found


def left_in_file(path):
    """What another process makes of a file alone."""
    with quiet():
        loaded = mf.load(path)
    assert loaded.missing == ""
    return left(loaded.problem)


def test_every_piece_comes_back_from_its_file_in_another_process(runs):
    """Nothing goes there but the name of the file; the run that is made of it is the same to the bit."""
    paths = {name: path for name, (path, _) in runs.items()}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(paths, pool.map(left_in_file, paths.values()), strict=True))
    for name, (_, wanted) in runs.items():
        assert found[name] == wanted, name


@pytest.mark.parametrize("name", ["sum", "network with weights", "kernel of pairs", "mixture", "base", "extended"])
def test_a_run_goes_on_from_its_file(name, runs, tmp_path):
    path, _ = runs[name]
    with quiet():
        further = mf.resume(path, 0.03, output=tmp_path / "further.h5", progress=False, throw=False)
    assert further.times[-1] == pytest.approx(0.03)
    assert np.array_equal(mf.load(tmp_path / "further.h5").density, further.density)
    # the file of a run that was gone on with holds its problem, too
    assert mf.load(tmp_path / "further.h5").problem.fingerprint() == further.problem.fingerprint()


# ---------------------------------------------------------------------------------------------------------------------
# problems that have names, and parts of such
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", mf.problems.names())
def test_parts_of_named_problems_are_known(name):
    """A copy is no named problem any more; its energy and its start still say whose they are."""
    problem = mf.problems.get(name)
    assert is_named(problem)
    assert stored.description_for_file(problem) is None
    found = describe(copy.copy(problem))
    assert not is_named(copy.copy(problem))
    assert found.missing == ()
    with quiet():
        again = build(tomllib.loads(tomli_w.dumps(plain(found.tables))), mf.problems.get)
    assert again.fingerprint() == problem.fingerprint()


def test_copies_of_parts_are_parts_no_more():
    """They may have been changed since."""
    term = mf.problems.double_well().energy
    assert travel.ORIGIN in vars(term)
    for other in (copy.copy(term), copy.deepcopy(term), dataclasses.replace(term, constant=1.0)):
        assert travel.ORIGIN not in vars(other)
        said = describe(on_line(other)).missing
        assert said == (f"energy[0] is a function of your own, {term.function.__qualname__}",)


# ---------------------------------------------------------------------------------------------------------------------
# what is not numbers and text
# ---------------------------------------------------------------------------------------------------------------------


def well(x):
    return (x**2 - 1) ** 2


class Mine(mf.External):
    """An energy of one's own."""


class Decay(mf.Term):
    """An operator of one's own."""

    def rate(self, mu, at):
        return -mu

    def advance(self, mu, at, length):
        return np.exp(-length) * mu


class Loss(mf.SquaredLoss):
    """A loss of one's own."""


UNDECLARED = {
    "energy[0] is a function of your own, well": {"energy": mf.External(well)},
    "the gradient of energy[0] is a function of your own, well": {"energy": mf.External(F("x", "x"), well)},
    "energy[1] is an energy of your own, Mine": {"energy": WELL + Mine(F("x", "x"))},
    "the loss of energy[0] is a loss of your own, Loss": {"energy": mf.Features(F("x", "x"), Loss([1.0]))},
    "the kernel of energy[0] is a function of your own, well": {
        "energy": mf.Interaction(mf.TranslationInvariantKernel(well))
    },
    "the kernel of energy[0], axis 'x' is a function of your own, multiply": {
        "energy": mf.Interaction(mf.SeparableKernel(x=mf.CallableKernel(np.multiply)))
    },
    "initial is a function of your own, well": {"initial": mf.Density(well)},
    "initial.components[1] is a function of your own, well": {
        "initial": mf.Mixture([(1.0, mf.Product(x=NORMAL)), (1.0, mf.Density(well))])
    },
    "alpha is a function of your own, well": {"alpha": well},
    "rate is a function of your own, cbrt": {"rate": np.cbrt},
    "rates.x is a function of your own, well": {"metric": [well]},
    "base is a function of your own, cbrt": {
        "base": np.cbrt,
        "axes": [mf.Axis("x", 0, 2)],
        "initial": mf.Product(x=1.0),
        "temperature": 0.1,
    },
    "reinjection.measure is a function of your own, well": {"reinjection": mf.Reinjection(mf.Density(well))},
    "terms[0] is an operator of your own, Decay": {"terms": [Decay()]},
}


@pytest.mark.parametrize("said", UNDECLARED)
def test_what_is_of_a_users_own_is_named(said):
    changes = UNDECLARED[said]
    assert describe(on_line(**changes)).missing == (said,)


def test_a_file_says_what_it_does_not_hold(tmp_path):
    """The numbers are all there, and so is what is numbers of the problem; what needs the rest says in a line what."""
    path = tmp_path / "run.h5"
    problem = on_line(mf.External(well) + mf.Confinement(x=1 / 3), alpha=lambda t: 1 + t, temperature=0.25)
    solution = mf.solve(problem, 16, 0.01, output=path, progress=False)
    loaded = mf.load(path)
    said = "energy[0] is a function of your own, well; alpha is a function of your own, "
    assert loaded.problem is None
    assert loaded.missing.startswith(said)
    assert np.array_equal(loaded.density, solution.density)
    for needs in (lambda: loaded.predict([0.1]), lambda: mf.resume(path, 0.02, progress=False)):
        with pytest.raises(ValueError, match=r"energy\[0\] is a function of your own, well; alpha is") as caught:
            needs()
        assert "\n" not in str(caught.value)
        assert "problem=" in str(caught.value)
    info = invoke("info", path)
    assert info.exit_code == 0
    rows = dict(line.strip().split("  ", 1) for line in info.stdout.splitlines() if line.strip().count("  "))
    assert rows["parameters"].strip().startswith("alpha = a function of your own, ")
    assert rows["parameters"].endswith(", temperature = 0.25")
    assert rows["dynamics"].strip() == "reaction = balanced"
    assert rows["energy"].strip() == "a function of your own, well + confinement(strengths = {x = 0.333333333})"
    assert said in rows["not held"]
    toml = invoke("info", path, "--toml")
    assert toml.exit_code == 2
    assert said in toml.stderr
    assert mf.load(path, problem=problem).problem is problem
    assert mf.resume(path, 0.02, problem=problem, progress=False).times[-1] == 0.02


def test_a_network_that_only_predicts_is_not_needed_to_go_on(tmp_path):
    path = tmp_path / "run.h5"
    problem = on_plane(mf.Confinement(c=0.1), network=mf.Network(lambda x, c, a: c * x[:, None, None]))
    mf.solve(problem, (8, 9), 0.01, output=path, progress=False)
    loaded = mf.load(path)
    assert loaded.problem.fingerprint() == problem.fingerprint()
    with pytest.raises(ValueError, match=r"the unit of its network is a function of your own.*problem=\.\.\.\)$"):
        loaded.predict([0.1])
    assert "the unit of its network" in invoke("info", path).stdout
    assert mf.resume(path, 0.02, progress=False).times[-1] == 0.02


def test_data_of_many_samples_stay_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MOST_BYTES", 2**14)
    x = np.linspace(-1, 1, 500)
    problem = on_plane(mf.TwoLayerNetwork(np.c_[x, x], x, axes=("c", "a"), roles=("weight", "weight")))
    mf.solve(problem, (8, 9), 0.01, progress=False).save(tmp_path / "run.h5")
    loaded = mf.load(tmp_path / "run.h5")
    assert loaded.problem is None
    assert loaded.missing == "its data have 0.0347 MiB, a file holds at most 0.0156 MiB of them"
    assert loaded.description.tables["energy"][0]["x"] == "an array of shape (500, 2)"
    assert "an array of shape (500, 2)" in invoke("info", tmp_path / "run.h5").stdout
    monkeypatch.setattr(stored, "MOST_BYTES", 2**16)
    mf.solve(problem, (8, 9), 0.01, progress=False).save(tmp_path / "run.h5")
    assert mf.load(tmp_path / "run.h5").problem is not None


# ---------------------------------------------------------------------------------------------------------------------
# tables from anywhere
# ---------------------------------------------------------------------------------------------------------------------

TABLES = {
    "name": "mine",
    "axes": [{"name": "x", "lower": -2.0, "upper": "2"}],
    "energy": [
        {"kind": "external", "formula": "x**2"},
        {
            "kind": "interaction",
            "kernel": {"kind": "separable", "factors": {"x": {"kind": "gaussian", "variance": 1.0}}},
        },
    ],
    "initial": {"x": {"distribution": "normal", "mean": 0.0, "std": 0.2}},
    "dynamics": {"alpha": "1 + t", "rates": {"x": 2.0}},
}


def changed(where, value):
    """The tables with another value somewhere."""
    tables = copy.deepcopy(TABLES)
    *parents, last = where
    functools.reduce(lambda inner, key: inner[key], parents, tables)[last] = value
    return tables


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        (("colour",), 1, "a problem has no 'colour'; valid: 'name', 'axes', 'energy'"),
        (("axes",), [], "axes is empty; a box has one to four Axis objects"),
        (("axes",), 3, "axes must be a sequence, not 3"),
        (("axes", 0), "x", "axes[0]: an axis must be a table, not 'x'"),
        (("axes", 0, "ends"), "open", "axes[0]: unknown end of an axis 'open'; valid: 'truncation', 'natural', 'perio"),
        (("axes", 0, "upper"), "__import__('os')", "axes[0]: formula \"__import__('os')\": \"'\" has no place here"),
        (("axes", 0, "upper"), -3.0, "axes[0]: axis 'x': the interval [-2.0, -3.0] must be finite with lower < upper"),
        (("axes", 0, "step"), 1.0, "axes[0]: axis 'axis' has no 'step'; valid: 'name', 'lower', 'upper', 'ends'"),
        (("energy",), [], "energy is empty"),
        (("energy", 0), "x**2", "energy[0]: an energy must be a table, not 'x**2'"),
        (("energy", 0, "kind"), "eval", "energy[0]: unknown energy 'eval'; valid: 'external', 'confinement'"),
        (("energy", 0, "kind"), ["external"], "energy[0]: unknown energy ['external']"),
        (("energy", 0, "formula"), "y**2", "energy[0].formula: formula 'y**2': 'y' is unknown; valid: 'x', 'pi', 'e'"),
        (("energy", 0, "formula"), 3, "energy[0].formula: a formula that is no text must be a table, not 3"),
        (("energy", 0, "formula"), {"code": "x"}, "energy[0].formula: {'code': 'x'} is no formula; write text"),
        (("energy", 0, "axes"), ["z"], "energy[0].formula: formula 'x**2': 'x' is unknown; valid: 'z', 'pi', 'e'"),
        (("energy", 0, "constant"), "1", "energy[0]: the constant of an external potential must be finite, not '1'"),
        (("energy", 1, "kernel"), "gaussian", "energy[1].kernel: a kernel must be a table, not 'gaussian'"),
        (("energy", 1, "kernel", "kind"), "x", "energy[1].kernel: unknown kernel 'x'; valid: 'separable'"),
        (
            ("energy", 1, "kernel", "factors", "x", "variance"), -1,
            "energy[1].kernel.factors.x: GaussianKernel: the variance must be positive, not -1",
        ),
        (("energy", 1, "weight"), 0, "energy[1]: the weight of an interaction must be finite and not 0, not 0"),
        (("energy", 1), {"kind": "network", "x": [1.0], "y": ["a"]}, "energy[1]: data: y must be real numbers, not"),
        (("energy", 1), {"kind": "network", "x": [[1.0], [2.0, 3.0]], "y": [1.0]}, "energy[1]: data: x must be"),
        (
            ("energy", 1), {"kind": "network", "x": [1.0], "y": [1.0], "activation": "__class__"},
            "energy[1]: unknown activation '__class__'",
        ),
        (("energy", 1), {"kind": "network", "x": [1.0], "y": [1.0], "loss": "os"}, "energy[1]: unknown loss 'os'"),
        (("energy", 1), {"kind": "of-problem", "problem": "os.system"}, "energy[1]: unknown problem 'os.system'"),
        (
            ("energy", 1), {"kind": "of-problem", "problem": "double-well", "term": 1},
            "energy[1]: the energy of 'double-well' has terms 0 to 0, not 1",
        ),
        (
            ("energy", 1), {"kind": "of-problem", "problem": "double-well", "parameters": {"cost": "x"}},
            "energy[1]: problem 'double-well' has no parameter 'cost'",
        ),
        (("energy", 1), {"kind": "features", "loss": "squared", "targets": [1.0]}, "energy[1]: features are a list"),
        (("initial",), "normal", "initial: a measure must be a table, not 'normal'"),
        (("initial", "y"), {"atom": 1.0}, "initial.y: names no axis; valid: 'x'"),
        (("initial",), {}, "initial: axis 'x' is missing"),
        (("initial", "x"), {"distribution": "os"}, "initial.x: unknown law 'os'; valid: 'normal', 'uniform', 'atom'"),
        (
            ("initial", "x"), {"distribution": "scipy", "family": "rv_continuous"},
            "initial.x: family = 'rv_continuous' is no continuous law of scipy.stats",
        ),
        (
            ("initial", "x"), {"distribution": "scipy", "family": "gamma"},
            "initial.x: the law 'gamma' has 1 shape parameters (a), not 0",
        ),
        (
            ("initial", "x"), {"distribution": "scipy", "family": "gamma", "shapes": [-1.0]},
            "initial.x: the law 'gamma' does not take shapes = [-1.0] and scale = 1.0",
        ),
        (
            ("initial",), {"kind": "mixture", "components": [{"weight": 1.0, "measure": {"kind": "os"}}]},
            "initial.components[0].measure: unknown measure 'os'; valid: 'density', 'mixture', 'grid', 'particles'",
        ),
        (("initial",), {"kind": "mixture", "components": [{"weight": 1.0}]}, "initial: components[0] must have weight"),
        (("initial",), {"kind": "density", "formula": "x", "log": 1}, "initial: log = 1 must be true or false"),
        (("initial",), {"kind": "grid", "axes": TABLES["axes"], "values": [[1.0]]}, "initial: values of 2 dimensions"),
        (("initial",), {"kind": "particles", "points": [["x"]]}, "initial: the points of particles must be real"),
        (("dynamics",), 3, "dynamics: it must be a table, not 3"),
        (("dynamics", "beta"), 3, "dynamics: there is no 'beta'; valid: 'alpha', 'temperature'"),
        (("dynamics", "alpha"), "open('x')", "dynamics.alpha.formula: formula \"open('x')\": \"'\" has no place here"),
        (("dynamics", "alpha"), "x", "dynamics.alpha.formula: formula 'x': 'x' is unknown; valid: 't', 'pi', 'e'"),
        (("dynamics", "alpha"), [1.0], "dynamics.alpha: [1.0] is no number, no schedule and no formula of t"),
        (("dynamics", "alpha"), {"kind": "x"}, "dynamics.alpha: unknown schedule 'x'; valid: 'constant'"),
        (("dynamics", "alpha"), "t - 1", "CustomSchedule(t - 1): the value at t = 0.1 is -0.9; it must be finite and"),
        (("dynamics", "rate"), "-V", "rate must be increasing"),
        (("dynamics", "rates"), {"y": 1.0}, "dynamics.rates.y: names no axis; valid: 'x'"),
        (("dynamics", "reaction"), "x", "dynamics: unknown reaction 'x'; valid: 'balanced'"),
        (("dynamics", "base"), "-1 + y", "dynamics.base: formula '-1 + y': 'y' is unknown"),
        (("dynamics", "reinjection"), {"kind": "refill"}, "dynamics: reinjection must have measure, and may have kind"),
        (("prediction",), {"code": "x"}, "prediction: there is no 'code'; valid: 'unit', 'count', 'target', 'inputs'"),
        (("prediction",), {}, "prediction.unit: a formula that is no text must be a table, not None"),
        (("exact",), 3, "exact must be a table, not 3"),
        (("t_end",), "now", "t_end must be a finite positive time, not 'now'"),
        (("shape",), {}, "shape"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused_in_one_line(where, value, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}") as caught:
        build(changed(where, value), mf.problems.get).fingerprint()
    assert "\n" not in str(caught.value)


def test_tables_that_fit():
    problem = build(TABLES)
    assert problem.alpha(2.0) == 3.0
    assert problem.metric == (2.0,)
    assert build({key: TABLES[key] for key in ("axes", "energy", "initial")}).alpha(0.0) == 0.0
    for key in ("axes", "energy", "initial"):
        with pytest.raises(ValueError, match=f"^{key} is missing; a problem needs axes, energy and initial$"):
            build({name: value for name, value in TABLES.items() if name != key})
    with pytest.raises(ValueError, match=r"^energy\[1\]: there is no problem 'double-well'$"):
        build(changed(("energy", 1), {"kind": "of-problem", "problem": "double-well"}))


def test_named_problems_whose_long_arrays_differ_inside_are_two():
    """NumPy writes only the ends of an array of more than 1000 numbers."""
    asked = []

    def named(name, places):
        asked.append(places)
        return mf.problems.get(name)

    both = np.zeros((2, 1001))
    both[1, 500] = 1.0
    parts = [{"kind": "of-problem", "problem": "quadratic-well", "parameters": {"places": p}} for p in (*both, *both)]
    build({**TABLES, "energy": parts}, named)
    assert np.array_equal(asked, both)


def places(value, where=()):
    """Where values stand in tables."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*where, key)
        yield from places(part, (*where, key))


def refusal(tables):
    """What tables are refused for; empty where they make a problem."""
    try:
        with quiet(), np.errstate(all="ignore"):
            build(tables, mf.problems.get)
    except ValueError as error:
        return str(error)
    return ""


def test_torn_tables_are_refused_in_one_line():
    """Whatever stands anywhere: a problem, or one line."""
    tables = plain(describe(PROBLEMS["mixture"]()).tables) | TABLES
    tables["prediction"] = {"unit": {"formula": "u*v", "variables": ["u", "v"]}, "count": 1, "inputs": [1.0, 2.0]}
    rng, refused = np.random.default_rng(3), 0
    every = [*places(tables)]
    odd = [None, True, -1, 10**400, 1e300, "", "x", "os", [], {}, [[]], [1, [2]], {"kind": "external"}, {"own": "x"}]
    for _ in range(300):
        torn = copy.deepcopy(tables)
        for _ in range(rng.integers(1, 3)):
            *parents, last = every[rng.integers(len(every))]
            try:
                functools.reduce(lambda inner, key: inner[key], parents, torn)[last] = odd[rng.integers(len(odd))]
            except (KeyError, IndexError, TypeError):  # torn already
                continue
        said = refusal(torn)
        assert "\n" not in said
        refused += bool(said)
    assert refused > 200


def test_words_of_a_file_that_were_changed(tmp_path):
    """With another checksum the file is refused; with a right one it is read, and what it says is refused."""
    path = tmp_path / "run.h5"
    mf.solve(on_line(), 16, 0.01, progress=False).save(path)
    for text, why in (
        ("axes = 3", "energy is missing"),
        ('energy = [{kind = "external", formula = "open(x)"}]', "axes is missing"),
        ("x" * 10, None),
        ("own = 1", "a problem has no 'own'"),
        ('[[energy]]\nkind = "external"\nformula = {array = "../../time"}', None),
        ('[[energy]]\nkind = "external"\nformula = {array = "array_7"}', None),
    ):
        for whole in (False, True):
            with h5py.File(path, "r+") as file:
                file["problem"].attrs["tables"] = text
                if whole:
                    file["problem"].attrs["checksum"] = stored._sha256(file)
            if whole and why is not None:
                loaded = mf.load(path)
                assert loaded.problem is None
                assert why in loaded.missing
                assert "\n" not in loaded.missing
            else:
                with pytest.raises(ValueError, match=r"has changed since|no complete mfpde solution") as caught:
                    mf.load(path)
                assert "\n" not in str(caught.value)


def test_numbers_of_a_file_that_were_changed(tmp_path):
    path = tmp_path / "run.h5"
    mf.solve(network(), (8, 9), 0.01, progress=False).save(path)
    assert mf.verify(path).ok
    with h5py.File(path, "r+") as file:
        file["problem/array_0"][3] = 7.0
    with pytest.raises(ValueError, match="the checksum of problem/array_0 is not the one in the file"):
        mf.load(path)
    assert not mf.verify(path).ok


def test_a_run_that_was_killed_goes_on_from_its_file(tmp_path):
    path = tmp_path / "run.h5"
    arguments = {"t_end": 0.02, "save": [0.005, 0.02], "progress": False, "controller": mf.FixedStep(0.001)}
    with pytest.raises(Gone), quiet():
        mf.solve(network(), (8, 9), stop=die(12), output=path, checkpoint=None, **arguments)
    loaded = mf.load(path)
    assert loaded.result is mf.Result.UNFINISHED
    assert loaded.problem.fingerprint() == network().fingerprint()
    with quiet():
        whole = mf.solve(network(), (8, 9), **arguments)
        further = mf.resume(path, output=tmp_path / "further.h5", progress=False)
    assert further.density.tobytes() == whole.density.tobytes()
    kept = path.read_bytes()
    for place, change in (
        ("problem/array_0", lambda group: group["array_0"].write_direct(np.zeros((17, 1)))),
        ("problem", lambda group: group.attrs.modify("silent", "other")),
    ):
        path.write_bytes(kept)
        with h5py.File(path, "r+") as file:
            change(file["problem"])
        with pytest.raises(ValueError, match=f"the checksum of {place} is not the one in the file"):
            mf.load(path)


def test_the_example_of_the_page_on_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).resolve().parents[2] / "docs" / "file-format.md").read_text(encoding="utf-8")
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "mf.Formula" in text]
    names: dict[str, object] = {}
    with quiet():
        exec(code, names)
    assert names["solution"].problem.fingerprint() == names["problem"].fingerprint()
    assert names["further"].times[-1] == 2.0


def test_what_another_version_has_written_is_held_against_its_fingerprint(tmp_path):
    """The same version makes the same problem, and does not take seconds to look."""
    path, other = tmp_path / "run.h5", tmp_path / "other.h5"
    solution = mf.solve(on_line(), 16, 0.01, progress=False)
    solution.save(path)
    assert "bound_energy" not in vars(mf.load(path).problem)
    solution.provenance["versions"] = solution.provenance["versions"] | {"mfpde": "0.0.1"}
    solution.save(other)
    assert mf.load(other).problem.fingerprint() == solution.fingerprint
    solution.fingerprint = "another"
    solution.save(other)
    loaded = mf.load(other)
    assert loaded.problem is None
    assert loaded.missing == "this version makes another problem of its words"
    with pytest.raises(ValueError, match="this version makes another problem of its words; pass problem="):
        mf.resume(other, 0.02, progress=False)
