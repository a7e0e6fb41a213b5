"""Objects that go to other processes by plain pickle, and come back the same."""

import dataclasses
import pickle

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.support import travel

P = mf.problems
X = np.linspace(-2.0, 2.0, 12)


def through(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.fixture
def plain(monkeypatch):
    """Without cloudpickle."""
    monkeypatch.setattr(travel, "_has_cloudpickle", lambda: False)


def network(**changes):
    """One that is made in Python, of parts that have names."""
    options = {
        "energy": mf.TwoLayerNetwork(
            X, np.sin(X), activation="hermite2", axes=("c", "a"), roles=("amplitude", "weight")
        ),
        "axes": [mf.Axis("c", -3, 3), mf.Axis("a", -3, 3)],
        "initial": mf.Product(c=stats.norm(0, 0.5), a=stats.norm(0, 0.5)),
        "alpha": mf.PiecewiseLinear([0.0, 1.0], [1.0, 2.0]),
    }
    return mf.Problem(**(options | changes))


def of_the_user(**changes):
    options = {
        "energy": mf.External(lambda x: x**4, lambda x: (4 * x**3,))
        + mf.Interaction(mf.PairKernel(lambda x, other: np.exp(-np.abs(x - other)))),
        "axes": [mf.Axis("x", -1, 1)],
        "initial": mf.Density(lambda x: np.exp(-(x**2))),
        "metric": (lambda x: 1 + x**2,),
        "rate": lambda V: V**3,
        "alpha": lambda t: 1.0 + t,
    }
    return mf.Problem(**(options | changes))


@pytest.mark.parametrize("name", P.names())
def test_shipped_problems(name, plain):
    """As their constructors, in a few hundred bytes."""
    problem = P.get(name)
    again = through(problem)
    assert again.fingerprint() == problem.fingerprint()
    assert repr(again) == repr(problem)
    assert len(pickle.dumps(problem)) < 500


def test_networks_on_data(plain):
    x, y = X.copy(), np.sin(X)
    problem = P.network(x, y, activation="erf")
    before = problem.fingerprint()
    x[:] = 0.0  # arrays of the caller are the caller's
    assert through(problem).fingerprint() == before
    problem = network()
    assert through(problem).fingerprint() == problem.fingerprint()
    assert np.array_equal(
        through(problem).network.output(X, [1.0, 0.5], 1.0), problem.network.output(X, [1.0, 0.5], 1.0)
    )


class TestReplace:
    def test_it_travels(self, plain):
        problem = P.three_gaussians().replace(alpha=2.0).replace(t_end=0.5, schedule=mf.PowerLaw(0.5, 1.0))
        again = through(problem)
        assert again.fingerprint() == problem.fingerprint()
        assert (again.alpha(0.0), again.t_end) == (2.0, 0.5)

    def test_closed_forms_of_another_problem_are_left_out(self):
        problem = P.linear_neuron()
        assert problem.replace(t_end=3.0).exact.keys() == problem.exact.keys()
        assert problem.replace(t_end=3.0).parameters == problem.parameters
        assert dict(problem.replace(alpha=0.0).exact) == {}
        assert problem.replace(alpha=0.0).parameters is None

    def test_the_network_is_that_of_the_energy(self):
        """Of the new one where it was that of the old one; one that was given stays."""
        other = mf.TwoLayerNetwork(X, np.cos(X), axes=("c", "a"), roles=("amplitude", "weight"), activation="tanh")
        problem = network()
        assert problem.replace(energy=other).network.output(X, [1.0, 0.5], 1.0) == pytest.approx(np.tanh(0.5 * X))
        given = network(network=mf.Network(lambda x, c, a: x[:, None] + 0 * c))
        assert given.replace(energy=other).network is given.network

    def test_refusals(self):
        with pytest.raises(ValueError, match="a problem has no 'temprature'; it has energy, axes"):
            P.linear_neuron().replace(temprature=0.1)
        with pytest.raises(ValueError, match="alpha"):
            P.linear_neuron().replace(alpha=-1.0)


class TestFunctionsOfTheUser:
    def test_by_value(self):
        pytest.importorskip("cloudpickle")
        problem = of_the_user()
        assert through(problem).fingerprint() == problem.fingerprint()
        changed = dataclasses.replace(P.gaussian_bumps(), t_end=0.5)
        assert through(changed).fingerprint() == changed.fingerprint()

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({}, r"Problem\.rate is the function .*<lambda>"),
            ({"rate": None, "metric": None}, r"External\.function"),
            ({"rate": None, "metric": None, "energy": mf.Confinement(x=1.0)}, r"Density\.function"),
            (
                {
                    "rate": None,
                    "metric": None,
                    "energy": mf.Confinement(x=1.0),
                    "initial": mf.Product(x=stats.norm(0, 0.1)),
                },
                r"CustomSchedule\.",
            ),
        ],
        ids=["rate", "energy", "start", "schedule"],
    )
    def test_they_are_named(self, changes, where, plain):
        """Without cloudpickle, with what to do."""
        with pytest.raises(TypeError, match=where + ".*install cloudpickle, or define it at the top of a module"):
            pickle.dumps(of_the_user(**changes))

    def test_names_go_as_names(self, plain):
        problem = mf.Problem(
            energy=mf.External(np.square), axes=[mf.Axis("x", -1, 1)], initial=mf.Product(x=stats.norm(0, 0.1))
        )
        assert through(problem).energy.terms[0].function is np.square


def test_settings():
    for thing in (
        mf.Weno5(), mf.Muscl(), mf.Upwind(), mf.ScharfetterGummel(), mf.ErrorControl(1e-3), mf.CourantControl(),
        mf.FixedStep(0.1), mf.ExponentialSSPRK3(), mf.Strang(), mf.ImplicitStrang(), mf.SteadyState(1e-3), mf.Limits(),
        mf.EnergyBelow(0.1), mf.GapBelow(0.1), mf.NumpyAlgebra(), mf.CompiledAlgebra(), mf.Axis("x", 0, 1),
        mf.Grid([mf.Axis("x", 0, 1)], 10), mf.particles.BirthDeath(), mf.particles.Weights(), mf.SquaredLoss(X),
        mf.GaussianKernel(0.3), mf.Product(x=stats.norm(0, 1)), mf.Particles(X[:, None]), mf.PowerLaw(0.5, 1.0),
    ):  # fmt: skip
        assert repr(through(thing)) == repr(thing)


def test_copies_are_not_what_a_constructor_has_made():
    """Somebody may change them; and their functions are those of the original, whatever is installed."""
    import copy

    problem = P.linear_neuron()
    for other in (copy.copy(problem), copy.deepcopy(problem)):
        object.__setattr__(other, "alpha", mf.Constant(7.0))
        assert through(other).alpha(0.0) == 7.0
        assert problem.alpha(0.0) != 7.0
    bound = problem.bound_energy
    assert copy.copy(problem).bound_energy is bound  # what is computed goes along
    mine = of_the_user()
    assert copy.deepcopy(mine).rate is mine.rate
