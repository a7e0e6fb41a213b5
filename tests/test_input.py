"""What does not fit is refused when it is given: one line that names the value and what is wanted."""

from __future__ import annotations

import inspect
import math
import re
import warnings

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde import checks, particles, problems
from mfpde.energy import hermite

AXES = (mf.Axis("x", -1, 1),)
LINE = problems.linear_neuron()
ROW = np.zeros((2, 2, 2))


class Thing:
    """Nothing in particular."""

    def __repr__(self) -> str:
        return "<a thing>\nof two lines"


# what is no finite real number, no array of such, no function ...
NO_NUMBER = [math.nan, math.inf, -math.inf, True, False, "1", "", b"1", None, [], {}, [1.0], 1j, Thing(), int, ROW]
NO_NUMBER += [10**400, np.array([1.0, 2.0]), np.True_, "nan"]
NO_ARRAY = [
    True,
    "1",
    b"1",
    {},
    1j,
    Thing(),
    [Thing()],
    [1j],
    ["1"],
    [True],
    [[1.0], [1.0, 2.0]],
    int,
    [10**400],
    [None],
]
NO_FUNCTION = [1, "sin", b"", None, [], {}, Thing(), ROW]
NO_TEXT = [1, 1.0, True, b"x", [], {}, Thing(), int, ROW, math.nan]
NO_THING = [1, math.nan, "1", "", True, [], {}, Thing(), int, ROW, 1j]
NEGATIVE = [-1, -1e-300, -1e308]
KINDS = {
    "number": NO_NUMBER,
    "number or none": [v for v in NO_NUMBER if v is not None],
    "positive": [*NO_NUMBER, *NEGATIVE, 0, 0.0, -0.0],
    "not negative": [*NO_NUMBER, *NEGATIVE],
    "not zero": [*NO_NUMBER, 0, 0.0],
    "array": [*NO_ARRAY, [math.nan], [math.inf]],
    "array or none": [*NO_ARRAY, [math.nan], [math.inf]],
    "function": NO_FUNCTION,
    "function or none": [v for v in NO_FUNCTION if v is not None],
    "text": NO_TEXT,
    "object": [*NO_THING, None],
    "object or none": NO_THING,
}

NETWORK = {
    "x": ([0.0, 1.0, 2.0], "array"),
    "y": ([0.0, 1.0, 0.0], "array"),
    "weights": ([1.0, 1.0, 1.0], "array or none"),
    "activation": ("tanh", "object"),
    "loss": ("squared", "object"),
}
TARGETS = {"targets": ([1.0, -1.0], "array"), "weights": ([1.0, 1.0], "array or none")}
KERNEL = mf.SeparableKernel(x=mf.GaussianKernel(1.0))

CONSTRUCTORS = {
    mf.Axis: {
        "name": ("x", "text"),
        "lower": (-1.0, "number"),
        "upper": (1.0, "number"),
        "ends": (mf.End.NATURAL, "object"),
    },
    mf.Grid: {"axes": (AXES, "object"), "shape": ((8,), "object")},
    mf.Dirac: {"x": (0.5, "number")},
    mf.Product: {"x": (stats.norm(0, 1), "number")},
    mf.Mixture: {"components": ([(1.0, mf.Dirac(x=0.0))], "object")},
    mf.Density: {"function": (lambda x: np.ones(len(x)), "function")},
    mf.GridMeasure: {"grid": (mf.Grid(AXES, 8), "object"), "values": (np.ones(8), "array")},
    mf.Particles: {"points": (np.zeros((3, 1)), "array"), "weights": (np.ones(3), "array or none")},
    mf.External: {
        "function": (np.cos, "function"),
        "gradient": (None, "function or none"),
        "constant": (0.0, "number"),
    },
    mf.Confinement: {"x": (1.0, "not negative")},
    mf.GaussianKernel: {"variance": (1.0, "positive"), "amplitude": (1.0, "not zero")},
    mf.CosineKernel: {"amplitudes": ((1.0,), "array"), "constant": (0.0, "number"), "frequency": (1.0, "positive")},
    mf.CallableKernel: {
        "function": (np.multiply, "function"),
        "derivative": (None, "function or none"),
        "translation_invariant": (False, "text"),
    },
    mf.SeparableKernel: {"x": (mf.GaussianKernel(1.0), "object")},
    mf.TranslationInvariantKernel: {"function": (np.cos, "function"), "gradient": (None, "function or none")},
    mf.PairKernel: {"function": (np.dot, "function"), "gradient": (None, "function or none")},
    mf.Interaction: {"kernel": (KERNEL, "object"), "weight": (1.0, "not zero")},
    mf.Discrepancy: {
        "kernel": (KERNEL, "object"),
        "points": (np.zeros((2, 1)), "array"),
        "weights": (np.ones(2), "array"),
    },
    mf.Features: {
        "function": (np.cos, "function"),
        "loss": (mf.SquaredLoss([1.0]), "object"),
        "gradient": (None, "function or none"),
    },
    mf.SquaredLoss: TARGETS,
    mf.LogisticLoss: TARGETS,
    mf.HuberLoss: {**TARGETS, "delta": (1.0, "positive")},
    mf.Activation: {
        "function": (np.tanh, "function"),
        "derivative": (np.cos, "function or none"),
        "name": ("a", "text"),
    },
    hermite: {"degree": (3, "not negative")},
    mf.TwoLayerNetwork: {
        **NETWORK,
        "axes": (("c", "a", "b"), "object"),
        "roles": (("amplitude", "weight", "bias"), "object"),
        "tolerance": (1e-12, "not negative"),
    },
    problems.network: {
        **NETWORK,
        "half_width": (4.0, "array"),
        "alpha": (1.0, "not negative"),
        "t_end": (5.0, "positive"),
    },
    mf.Constant: {"value": (1.0, "not negative")},
    mf.PowerLaw: {"exponent": (1.0, "number"), "scale": (1.0, "not negative")},
    mf.PiecewiseLinear: {"times": ([0.0, 1.0], "array"), "values": ([1.0, 0.0], "array")},
    mf.ExponentialDecay: {
        "initial": (1.0, "not negative"),
        "time_constant": (1.0, "positive"),
        "final": (0.0, "not negative"),
    },
    mf.InverseLog: {"scale": (1.0, "not negative"), "offset": (3.0, "positive")},
    mf.Network: {
        "unit": (np.multiply, "function"),
        "target": (None, "function or none"),
        "inputs": (None, "array or none"),
    },
    mf.Reinjection: {"measure": (mf.Dirac(theta=0.0), "object"), "kind": ("refill", "object")},
    mf.Problem: {
        "energy": (LINE.energy, "object"),
        "axes": (LINE.axes, "object"),
        "initial": (LINE.initial, "object"),
        "alpha": (1.0, "not negative"),
        "temperature": (0.0, "not negative"),
        "t_end": (1.0, "positive"),
        "reaction": ("balanced", "object"),
        "rate": (None, "function or none"),
        "reinjection": (None, "object or none"),
        "schedule": (1.0, "not negative"),
        "metric": (None, "object or none"),
        "base": (None, "function or none"),
        "name": ("x", "text"),
        "citation": ("", "text"),
        "shape": ((8,), "object or none"),
        "network": (None, "object or none"),
        "exact": ({}, "text"),
        "parameters": (None, "text"),
    },
    mf.Muscl: {"limiter": (mf.Limiter.MC, "object")},
    mf.Weno5: {"tail_ratio": (1e3, "positive")},
    mf.ImplicitStrang: {"potential": (mf.Potential.START, "object"), "convergence": (1e-3, "positive")},
    mf.EnergyBelow: {"value": (1.0, "number")},
    mf.GapBelow: {"value": (1.0, "positive")},
    mf.SteadyState: {"rate": (1.0, "positive")},
    mf.ParticleRecord: {
        "positions": (np.zeros((2, 3, 1)), "array"),
        "times": ([0.0, 1.0], "array"),
        "weights": (None, "array or none"),
        "dt": (0.1, "number or none"),
        "label": ("x", "text"),
    },
    mf.load: {"path": ("nowhere.h5", "text")},
    particles.SGD: {"batch": (4, "positive")},
    particles.Weights: {"resample": (0.5, "positive")},
    particles.BirthDeath: {"control": (particles.PopulationControl.UNIFORM, "object")},
    particles.KernelDensity: {"bandwidth": (0.5, "positive")},
}

# what other libraries say when they get what they did not expect
FOREIGN = re.compile(
    r"object is not|could not convert|truth value|isfinite|not supported|has no attribute|setting an array|only 0-dim|"
    r"invalid literal|cannot unpack|unexpected keyword|not subscriptable|argument must be|cannot be interpreted"
)
ELSEWHERE = (
    # enums, results and what the library makes
    "Comparison Equilibrium Finding Solution Snapshot State Result Verdict Quantity Characteristics "
    "Check Fluctuations Reference "
    "End Limiter Potential Reaction ReinjectionKind Role RunWarning SolveError TruncationWarning OnEndMass "
    # abstract, or without arguments
    "Energy Measure Schedule Scheme Operator Splitting Transport "
    "LinearKernel ScharfetterGummel Upwind ExponentialSSPRK3 "
    # in the tests of their own modules
    "Solver solve resume verify stationary characteristics compare load_particles ExactLaw plot animate "
    "CourantControl ErrorControl FixedStep Strang Lie ImplicitEuler Limits Stream Moment particles problems"
)
# valid in spite of the kind: (constructor, argument) -> values
FINE = {
    (mf.CallableKernel, "translation_invariant"): [True],
    (mf.Problem, "axes"): [],
    (mf.Problem, "exact"): [{}],
    (mf.Problem, "parameters"): [{}],
    (mf.GapBelow, "value"): [],
    (mf.ImplicitStrang, "convergence"): [],
    (mf.Grid, "shape"): [],
    (mf.CosineKernel, "amplitudes"): [],
    (particles.KernelDensity, "bandwidth"): [None, [1.0], np.array([1.0, 2.0])],
    (particles.Weights, "resample"): [None],
}


def name_of(constructor):
    return constructor.__name__


def same(a, b):
    return type(a) is type(b) and (a is b or (not isinstance(a, np.ndarray) and a == b) or np.array_equal(a, b))


@pytest.mark.parametrize("constructor", CONSTRUCTORS, ids=name_of)
def test_bad_input_is_refused_in_one_line(constructor):
    table = CONSTRUCTORS[constructor]
    valid = {name: value for name, (value, _) in table.items()}
    if constructor is not mf.load:
        constructor(**valid)
    wrong = []
    for name, (_, kind) in table.items():
        for value in KINDS[kind]:
            if any(same(value, fine) for fine in FINE.get((constructor, name), ())):
                continue
            if kind == "array or none" and value is None:
                continue
            try:
                constructor(**{**valid, name: value})
            except (ValueError, TypeError) as error:
                text = str(error)
                if "\n" in text or not 10 < len(text) < 300 or FOREIGN.search(text):
                    wrong.append(f"{name} = {checks.shown(value)}: says {text[:200]!r}")
            except Exception as error:
                wrong.append(f"{name} = {checks.shown(value)}: {type(error).__name__}: {error}")
            else:
                wrong.append(f"{name} = {checks.shown(value)} is accepted")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", problems.names())
def test_problems_refuse_bad_parameters_in_one_line(name):
    """Every parameter of every problem, from Python and from files."""
    constructor = problems.constructor(name)
    bad = [math.nan, Thing(), 1j, int, 10**400, 1e308, -1e308, b"1", {}]
    wrong = []
    for parameter in inspect.signature(constructor).parameters:
        for value in bad:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    problems.get(name, **{parameter: value})
                except (ValueError, TypeError) as error:
                    text = str(error)
                    if "\n" in text or not 10 < len(text) < 300 or FOREIGN.search(text):
                        wrong.append(f"{parameter} = {checks.shown(value)}: says {text[:200]!r}")
                except Exception as error:
                    wrong.append(f"{parameter} = {checks.shown(value)}: {type(error).__name__}: {error}")
                else:
                    wrong.append(f"{parameter} = {checks.shown(value)} is accepted")
    assert not wrong, "\n".join(wrong)


def test_everything_public_is_in_the_table():
    """A new constructor has to be added above, or be named here with where its input is tested."""
    elsewhere = {*ELSEWHERE.split()}
    named = {constructor.__name__ for constructor in CONSTRUCTORS}
    public = set(mf.__all__) - elsewhere - named
    # what is added by others is theirs to test, unless it is a class that is made of numbers
    numeric = set()
    for name in public:
        value = getattr(mf, name)
        if inspect.isclass(value) and not inspect.isabstract(value) and hasattr(value, "__dataclass_fields__"):
            hints = {str(field.type) for field in value.__dataclass_fields__.values() if field.init}
            if hints & {"float", "int"}:
                numeric.add(name)
    assert not numeric


# ----- the checks themselves


@pytest.mark.parametrize("value", [0, 1, -1.5, np.float64(2), np.float32(2), np.int8(3), np.array(1.0), 2**60])
def test_real_numbers(value):
    assert checks.real(value)


@pytest.mark.parametrize("value", NO_NUMBER, ids=lambda v: type(v).__name__)
def test_no_real_numbers(value):
    assert not checks.real(value)


def test_whole_numbers():
    assert checks.whole(3)
    assert checks.whole(np.int64(3))
    assert not checks.whole(True)
    assert not checks.whole(3.0)


def test_values_are_shown_in_a_short_line():
    assert checks.shown("a") == "'a'"
    assert checks.shown(np.zeros((3, 4))) == "an array of shape (3, 4)"
    assert checks.shown(Thing()) == "<a thing> of two lines"
    assert len(checks.shown("x" * 10_000)) < 90


def test_arrays_of_numbers():
    given = np.arange(3)
    made = checks.numbers(given, "x")
    assert made.dtype == np.float64
    made[0] = 7
    assert given[0] == 0
    assert checks.numbers([1, 2.5], "x").tolist() == [1.0, 2.5]
    assert checks.numbers([], "x").shape == (0,)


def test_numbers_of_a_problem_have_the_types_of_its_signature():
    with pytest.raises(ValueError, match="alpha must be a number of at most 1e\\+50, not '1'"):
        problems.linear_neuron(alpha="1")
    with pytest.raises(ValueError, match="alpha must be a number of at most 1e\\+50, not True"):
        problems.linear_neuron(alpha=True)
    with pytest.raises(ValueError, match="unknown start 3; valid: 'good', 'bad'"):
        problems.three_gaussians(start=3)
    with pytest.raises(ValueError, match="out of range"):
        problems.double_well_sampling(barrier=1e50)
    assert problems.get("linear-neuron", alpha=1).alpha == problems.linear_neuron(1.0, 1.0).alpha
    assert str(inspect.signature(problems.linear_neuron)).startswith("(target: 'float'")


def test_data_that_overflows_is_refused():
    for bad in ({"y": [1e200, 0.0]}, {"x": [1e200, 0.0]}, {"weights": [1e308, 1e308]}):
        with pytest.raises(ValueError, match=r"overflow; rescale the data"):
            mf.TwoLayerNetwork(**{"x": [0.0, 1.0], "y": [0.0, 1.0], **bad})
    with pytest.raises(ValueError, match="the targets reach 1e\\+200"):
        mf.SquaredLoss([1e200])


def test_high_degrees_are_refused():
    with pytest.raises(ValueError, match="from 0 to 1000, not 1000000000"):
        hermite(10**9)
    with pytest.raises(ValueError, match="from 0 to 1000"):
        mf.TwoLayerNetwork([0.0], [0.0], activation="hermite1000000000")
    with pytest.raises(ValueError, match="unknown activation"):
        mf.TwoLayerNetwork([0.0], [0.0], activation="hermite" + "9" * 10_000)


# ----- the fingerprint


def test_the_measure_of_reinjection_is_part_of_the_fingerprint():
    def made(measure, kind="refill"):
        reinjection = None if measure is None else mf.Reinjection(measure, kind)
        return mf.Problem(LINE.energy, LINE.axes, LINE.initial, alpha=1.0, reinjection=reinjection).fingerprint()

    one, other = mf.Product(theta=stats.norm(0, 0.3)), mf.Product(theta=stats.norm(0.2, 0.3))
    assert made(one) == made(mf.Product(theta=stats.norm(0, 0.3)))
    assert len({made(one), made(other), made(mf.Dirac(theta=0.0)), made(None), made(one, "replace")}) == 5
