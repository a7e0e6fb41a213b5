"""What does not fit is refused when it is given: one line that names the value and what is wanted."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde import particles, problems, testing
from mfpde.equation.energy import hermite
from mfpde.equation.problem import beside
from mfpde.support import arguments as checks
from mfpde.verification.observables import Observable

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
    mf.Species: {
        "name": ("k", "text"),
        "labels": (("a", "b"), "object"),
        "scales": ((1.0, 2.0), "array or none"),
    },
    mf.SpeciesKernel: {"table": ([[0.0, 1.0], [1.0, 0.0]], "array")},
    mf.PerSpecies: {"a": (mf.Dirac(x=0.0), "object"), "b": (mf.Dirac(x=0.5), "object")},
    mf.Boxes: {
        "species": (mf.Species("k", ("a", "b")), "object"),
        "ends": (None, "object or none"),
        "x": ({"a": (0, 1), "b": (0, 2)}, "object"),
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
    r"invalid literal|cannot unpack|unexpected keyword|not subscriptable|argument must be a string|"
    r"cannot be interpreted"
)
# and what Python and NumPy say when nobody has looked
RAW = re.compile(
    r"object is not|not iterable|is not in list|unhashable|unsupported operand|only integer|is not a valid|"
    r"expected str|too large to|cannot fit|integer division|index out of range|out of bounds|embedded null|"
    r"inhomogeneous|not aligned|must be real number, not|to integer"
)
ELSEWHERE = (
    # enums, results and what the library makes
    "Comparison Equilibrium Finding Solution Snapshot State Result Verdict Quantity Characteristics "
    "Check Fluctuations Reference Certified Faces Frozen "
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


# ----- everything else that is public: functions, and the methods of what they return

WRONG = [None, "x", "", b"x", 3, 1.0, [], {}, ROW, Thing(), math.nan, math.inf, -1, -2.5, True, int, [None], ["x"]]
WRONG += [10**400, 1j, [math.nan]]
NEVER = (Thing, complex)
"""What no argument of anything may be."""


@pytest.fixture(scope="module")
def entries_by_name(tmp_path_factory):
    """Callables with arguments that are right, all of them small."""
    folder = tmp_path_factory.mktemp("input")
    line = problems.linear_neuron(alpha=0.0, variance=0.5)
    network = mf.Network(lambda x, theta: np.multiply.outer(x, theta))
    small = mf.Problem(line.energy, line.axes, line.initial, t_end=0.1, shape=(16,), network=network)
    warm = mf.Problem(line.energy, line.axes, line.initial, t_end=0.1, shape=(16,), temperature=0.5)
    solution = mf.solve(small, save=3, progress=False)
    solution.save(folder / "s.h5")
    nodes = mf.characteristics(small, save=3, progress=False)
    cloud = particles.simulate(small, 20, dt=0.05, replicas=2, save=3, progress=False)
    np.savez(folder / "p.npz", positions=cloud.positions, times=cloud.times)
    limit = mf.fluctuations(small, save=3, progress=False)
    reference = mf.reference(small, 1e-2, [mf.EnergyAt(), mf.Moment("theta")], times=[0.0, 0.05, 0.1], budget=5.0)
    numbers = {"sizes": (20, 40), "replicas": 2, "dt": 0.05, "bootstrap": 100, "control": False, "seed": 0}
    numbers |= {"sensitivities": False}
    numbers |= {"tolerance": 1e-3, "false_alarm": 1e-3, "times": [0.1], "workers": 1, "progress": False}
    comparison = mf.compare(solution, **numbers)
    solver = mf.Solver(small)
    state = solver.init()
    restricted, axes = small.mu_0, small.axes

    def recorder(n=0):
        found = testing.ParticleRecorder(reference)
        for i, t in enumerate(cloud.times if n else ()):
            found.record(float(t), np.tile(cloud.positions[0, i], (n // 20, 1)))
        return found

    def confined(**strengths):
        return mf.Problem(mf.Confinement(**strengths), axes, small.initial)

    none = dict.fromkeys
    run = {"shape": (16,), "t_end": 0.05, "save": 2, "max_steps": 1000, "progress": False, "threads": 1, "throw": True}
    run |= {"checkpoint": 60.0, "limits": None, "on_end_mass": "warn", "overwrite": False}
    run |= none(["scheme", "method", "controller", "initial", "stop", "output", "time_limit"])
    again = {**none(["problem", "scheme", "method", "controller", "save", "stop", "output", "time_limit"])}
    again |= {"t_end": 0.15, "max_steps": 1000, "progress": False, "threads": 1, "throw": True, "checkpoint": 60.0}
    adaptive = {"problem": small, "t_end": 0.05, "save": 2, "nodes": 16, "progress": False, "max_nodes": 1000}
    states = {"n": 10, "dt": 0.05, "t_end": 0.1, "save": 2, "seed": 0, "replicas": 1, "initial": None}
    checks_of = {"error": 0.1, "absolute": 0.1, "false_alarm": 1e-3, "observables": None, "times": None}
    box = {"axes": [mf.Axis("x", 0, 2)]}
    return {
        "solve": (mf.solve, {"problem": small, **run}),
        "resume": (mf.resume, {"source": solution, **again}),
        "Solver": (mf.Solver, {"problem": small, "shape": (16,), **none(["scheme", "method", "controller"])}),
        "Solver.init": (solver.init, {"initial": None}),
        "Solver.evaluate": (solver.evaluate, {"state": state}),
        "Solver.free_energy": (solver.free_energy, {"at": solver.evaluate(state), "temperature": 0.1}),
        "Solver.step": (solver.step, {"state": state, "until": 0.1}),
        "load": (mf.load, {"path": folder / "s.h5", "problem": None}),
        "verify": (mf.verify, {"path": folder / "s.h5", "problem": None}),
        "load_particles": (mf.load_particles, {"path": folder / "p.npz", "axes": None}),
        "load_reference": (mf.load_reference, {"name": "gaussian-bumps", "problem": None}),
        "characteristics": (mf.characteristics, {**adaptive, "tolerance": 1e-4, "rtol": 1e-6}),
        "fluctuations": (mf.fluctuations, {**adaptive, "tolerance": 1e-3, "rtol": 1e-5}),
        "stationary": (
            mf.stationary,
            {
                "problem": warm,
                "shape": 16,
                "temperature": 0.5,
                "tolerance": 1e-8,
                "max_iterations": 20,
                "initial": None,
            },
        ),
        "reference": (
            mf.reference,
            {"problem": small, "tolerance": 1e-1, "observables": [mf.EnergyAt()], "times": [0.05], "budget": 2.0}
            | {"memory": 2e9, "progress": None, "executor": None},
        ),
        "compare": (
            mf.compare,
            {"reference": solution, **none(["particles", "dynamics", "quantities", "uncertainty", "executor"])}
            | numbers,
        ),
        "plot": (mf.plot, {"solution": solution, "path": folder / "a.png", "times": None}),
        "animate": (
            mf.animate,
            {"solution": solution, "path": folder / "a.gif", "axes": None, "frames_per_second": 8, "progress": False},
        ),
        "simulate": (
            particles.simulate,
            {"problem": small, **states, **none(["dynamics", "observe", "checkpoint", "executor"])}
            | {"keep_positions": True, "workers": 1, "progress": False, "checkpoint_every": 60.0},
        ),
        "coupled": (particles.coupled, {"problem": small, "solution": nodes, **states, "hessian": False}),
        "Solution.index": (solution.index, {"t": 0.1}),
        "Solution.marginal": (lambda name, t: solution.marginal(name, t=t), {"name": "theta", "t": 0.1}),
        "Solution.marginal_of": (
            lambda mu, name: solution.marginal_of(mu, name),
            {"mu": solution.density[0], "name": "theta"},
        ),
        "Solution.moment": (solution.moment, {"name": "theta", "power": 1, "t": 0.1}),
        "Solution.response_at": (solution.response_at, {"t": 0.05}),
        "Solution.nodes_at": (solution.nodes_at, {"t": 0.1}),
        "Solution.measure": (solution.measure, {"t": 0.1}),
        "Solution.mean": (solution.mean, {"name": "theta", "t": 0.1}),
        "Solution.predict": (solution.predict, {"x": np.ones(3), "t": 0.1}),
        "Solution.save": (solution.save, {"path": folder / "b.h5", "overwrite": True}),
        "Characteristics.index": (nodes.index, {"t": 0.05}),
        "Characteristics.measure": (nodes.measure, {"t": 0.05}),
        "Characteristics.response_at": (nodes.response_at, {"t": 0.05}),
        "Characteristics.nodes_at": (nodes.nodes_at, {"t": 0.05}),
        "Characteristics.moment": (nodes.moment, {"name": "theta", "power": 1, "t": 0.1}),
        "Characteristics.mean": (nodes.mean, {"name": "theta", "t": 0.1}),
        "Characteristics.dissipation": (nodes.dissipation, {"t": 0.1}),
        "Characteristics.predict": (nodes.predict, {"x": np.ones(3), "t": 0.1}),
        "Characteristics.density_at": (nodes.density_at, {"points": [0.1], "t": 0.1}),
        "Cloud.index": (cloud.index, {"t": 0.1}),
        "Cloud.points": (cloud.points, {"t": 0.1, "replica": 0}),
        "Cloud.measure": (cloud.measure, {"t": 0.1, "replica": 0}),
        "Cloud.moment": (cloud.moment, {"name": "theta", "power": 1, "t": 0.1}),
        "Cloud.response_at": (cloud.response_at, {"t": 0.1}),
        "Cloud.nodes_at": (cloud.nodes_at, {"t": 0.1, "replica": 0}),
        "Cloud.mean": (cloud.mean, {"name": "theta", "t": 0.1}),
        "Cloud.predict": (cloud.predict, {"x": np.ones(3), "t": 0.1, "replica": 0}),
        "Comparison.to_json": (comparison.to_json, {"path": folder / "c.json"}),
        "Comparison.plot": (comparison.plot, {"path": folder / "c.png", "t": 0.1}),
        "Fluctuations.between": (limit.between, {"i": 0, "j": 1}),
        "Reference[]": (reference.__getitem__, {"name": "energy"}),
        "Problem.grid": (small.grid, {"shape": (16,)}),
        "Grid.centres": (solution.grid.centres, {"i": 0}),
        "Grid.faces": (solution.grid.faces, {"i": 0}),
        "Grid.face_mesh": (solution.grid.face_mesh, {"i": 0}),
        "Grid.integrate": (solution.grid.integrate, {"values": np.ones(16)}),
        "Network.output": (network.output, {"x": np.ones(3), "coordinates": [np.ones(4)], "weights": np.ones(4)}),
        "EnergyAt": (mf.EnergyAt, {"times": [0.0]}),
        "Moment": (mf.Moment, {"axis": "theta", "power": 1, "times": None}),
        "OutputAt": (mf.OutputAt, {"x": np.ones(3), "times": None}),
        "MassIn": (mf.MassIn, {"box": {"theta": (0, 1)}, "times": None}),
        "Marginal": (mf.Marginal, {"axis": "theta", "edges": [0, 1, 2], "times": None}),
        "DecayRate": (mf.DecayRate, {"times": None}),
        "Limits": (mf.Limits, {"energy_increase": 1.0, "mass_drift": 1e-8, "end_mass": 1e-6}),
        "Strang": (mf.Strang, {name: getattr(mf.Strang(), name) for name in ("steps", "order", "corrector")}),
        "CourantControl": (mf.CourantControl, {"fraction": 0.9, "reaction": 0.5, "growth": 2.0}),
        "ErrorControl": (mf.ErrorControl, {"tolerance": 1e-5, "fraction": 0.95, "reaction": 5.0, "growth": 2.0}),
        "FixedStep": (mf.FixedStep, {"dt": 0.1}),
        "Transport": (mf.Transport, {"grid": solution.grid, "scheme": mf.Upwind(), "metric": None, "threads": 1}),
        "ParticleRecorder": (testing.ParticleRecorder, {"of": reference}),
        "ParticleRecorder.wants": (recorder().wants, {"t": 0.05}),
        "ParticleRecorder.record": (
            lambda **frame: recorder().record(**frame),
            {"t": 0.0, "positions": cloud.positions[0, 0], "weights": None},
        ),
        "ParticleRecorder.values": (recorder(20).values, {"what": "energy"}),
        "run_replicas": (
            testing.run_replicas,
            {"train": lambda n, seed: n, "sizes": (3, 4), "replicas": 2, "seed": 0, "executor": None},
        ),
        "assert_matches": (
            testing.assert_matches,
            {"reference": reference, "values": {"energy": reference["energy"].value}, "bias": None, **checks_of},
        ),
        "KernelDensity.estimate": (
            particles.KernelDensity(0.5).estimate,
            {"points": np.zeros((3, 1)), "weights": np.ones(3) / 3, "axes": axes},
        ),
        "KernelDensity.bandwidths": (
            particles.KernelDensity().bandwidths,
            {"points": np.arange(3.0)[:, None], "weights": np.ones(3) / 3, "axes": axes},
        ),
        "Product.restrict": (mf.Product(x=1.0).restrict, box),
        "Mixture.restrict": (mf.Mixture([(1.0, mf.Dirac(x=1.0))]).restrict, box),
        "Density.restrict": (mf.Density(lambda x: np.ones(len(x))).restrict, box),
        "Particles.restrict": (mf.Particles([[1.0]]).restrict, box),
        "GridMeasure.restrict": (mf.GridMeasure(mf.Grid(box["axes"], 4), np.ones(4)).restrict, box),
        "RestrictedMeasure.cells": (restricted.cells, {"grid": solution.grid}),
        "RestrictedMeasure.point_values": (restricted.point_values, {"grid": solution.grid}),
        "RestrictedMeasure.log_density": (restricted.log_density, {"points": [[0.0]]}),
        "RestrictedMeasure.nodes": (restricted.nodes, {"n": 4}),
        "RestrictedMeasure.sample": (restricted.sample, {"n": 4, "rng": np.random.default_rng(0)}),
        "Energy.bind": (small.energy.bind, {"axes": axes}),
        "Confinement of a problem": (confined, {"theta": 1.0}),
        "problems.get": (problems.get, {"name": "linear-neuron"}),
        "Schedule()": (mf.PowerLaw(1.0), {"t": 1.0}),
    }


ENTRIES = (
    "solve resume Solver Solver.init Solver.evaluate Solver.free_energy Solver.step load verify load_particles "
    "load_reference characteristics fluctuations stationary reference compare plot animate simulate coupled "
    "Solution.index Solution.marginal Solution.marginal_of Solution.moment Solution.response_at Solution.predict "
    "Solution.nodes_at Solution.measure Solution.mean Characteristics.index Characteristics.measure "
    "Cloud.response_at Cloud.nodes_at Cloud.mean "
    "Solution.save Characteristics.response_at Characteristics.nodes_at Characteristics.moment Characteristics.mean "
    "Characteristics.dissipation Characteristics.predict Characteristics.density_at Cloud.index Cloud.points "
    "Cloud.measure Cloud.moment Cloud.predict Comparison.to_json Comparison.plot Fluctuations.between Reference[] "
    "Problem.grid Grid.centres Grid.faces Grid.face_mesh Grid.integrate Network.output EnergyAt Moment OutputAt "
    "MassIn Marginal DecayRate Limits Strang CourantControl ErrorControl FixedStep Transport ParticleRecorder "
    "run_replicas "
    "ParticleRecorder.wants ParticleRecorder.record ParticleRecorder.values assert_matches KernelDensity.estimate "
    "KernelDensity.bandwidths Product.restrict Mixture.restrict Density.restrict Particles.restrict "
    "GridMeasure.restrict RestrictedMeasure.cells RestrictedMeasure.point_values RestrictedMeasure.log_density "
    "RestrictedMeasure.nodes RestrictedMeasure.sample Energy.bind problems.get Schedule() "
)
NAMES = [*ENTRIES.split(), "Confinement of a problem"]


def test_every_entry_has_a_test(entries_by_name):
    assert set(NAMES) == set(entries_by_name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_refused_in_one_line(name, entries_by_name, tmp_path, monkeypatch):
    """Whatever is given for an argument while the others are right: it is fine, or one line says what is not."""
    monkeypatch.chdir(tmp_path)  # "x" is a good name of a file
    call, right = entries_by_name[name]
    call(**right)
    wrong = []
    for argument in right:
        for value in WRONG:
            said = f"{argument} = {checks.shown(value)}"
            try:
                call(**{**right, argument: value})
            except (AssertionError, mf.SolveError):
                continue  # a report, a failed run: not about the argument
            except (ValueError, OSError, MemoryError, FloatingPointError, KeyError, TypeError) as error:
                text = str(error)
                if "\n" in text or not 10 < len(text) < 500 or FOREIGN.search(text) or RAW.search(text):
                    wrong.append(f"{said}: {type(error).__name__}: {text[:200]!r}")
            except Exception as error:
                wrong.append(f"{said}: {type(error).__name__}: {error}")
            else:
                if isinstance(value, NEVER):
                    wrong.append(f"{said} is accepted")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mf.characteristics("x"), "problem must be a Problem, not 'x'"),
        (lambda: mf.plot("x"), "solution must be a Solution or Characteristics or Equilibrium, not 'x'"),
        (lambda: mf.resume(3), "source must be a path or a Solution, not 3"),
        (lambda: mf.solve(LINE, 8, stop=1.0), "stop must be a function or None, not 1.0"),
        (lambda: mf.solve(LINE, 8, on_end_mass="foo"), "unknown on_end_mass 'foo'; valid: 'warn', 'stop', 'extend'"),
        (lambda: mf.solve(LINE, 8, 0.01, save=2).moment("q"), "no axis 'q'; valid: theta"),
        # every part of an energy that names axes
        (
            lambda: mf.Problem(LINE.energy + mf.Confinement(q=1.0), LINE.axes, LINE.initial),
            "Confinement in the energy names the axis 'q', but the axes are ['theta']",
        ),
        (
            lambda: mf.Problem(mf.External(np.cos, axes=["q"]), LINE.axes, LINE.initial),
            "External in the energy names the axis 'q'",
        ),
        (
            lambda: mf.Problem(mf.Interaction(KERNEL), LINE.axes, LINE.initial),
            "Interaction in the energy names the axis 'x'",
        ),
        (
            lambda: mf.Problem(mf.Discrepancy(KERNEL, np.zeros((2, 1)), np.ones(2)), LINE.axes, LINE.initial),
            "Discrepancy in the energy names the axis 'x'",
        ),
        (
            lambda: mf.Problem(mf.TwoLayerNetwork([0.0], [0.0]), LINE.axes, LINE.initial),
            "TwoLayerNetwork in the energy names the axis 'c'",
        ),
    ],
)
def test_the_line_says_what_is_wrong_and_what_is_right(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


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


class OnMeshes(mf.energy.Energy):
    """A potential that has values on a mesh only, of at least so many cells."""

    def __init__(self, strength: float, least: int = 4, fails: type[Exception] = NotImplementedError) -> None:
        self.strength, self.least, self.fails = strength, least, fails

    def bind(self, axes):
        return OnMeshesOfABox(self, tuple(axes))


class OnMeshesOfABox(mf.energy.BoundEnergy):
    def __init__(self, source, axes):
        self.source, self.axes = source, axes

    def _none(self, *arguments):
        raise self.source.fails("values on a mesh only")

    _potential = _gradient = _energy = _none

    def on(self, grid):
        if grid.size < self.source.least:
            raise ValueError("too few cells")
        return mf.External(lambda x: self.source.strength * x**2).bind(self.axes).on(grid)


def on_meshes(*arguments, **changes):
    return replace(LINE, energy=OnMeshes(*arguments), network=None, **changes)


@pytest.mark.parametrize("fails", [NotImplementedError, AttributeError, ZeroDivisionError])
def test_an_energy_without_values_at_points_keeps_its_run(fails, tmp_path):
    """It is known by its values on a mesh: a file takes the right problem, and goes on, and no other one."""
    problem = on_meshes(0.5, 4, fails)
    half = mf.solve(problem, 40, 0.05, save=2, output=tmp_path / "run.h5", progress=False)
    assert half.result is mf.Result.SUCCESS
    assert half.fingerprint == on_meshes(0.5).fingerprint()
    loaded = mf.load(tmp_path / "run.h5", problem=on_meshes(0.5))
    whole = mf.resume(loaded, 0.1, progress=False)
    np.testing.assert_array_equal(whole.density, mf.solve(problem, 40, 0.1, save=[0.05, 0.1], progress=False).density)
    with pytest.raises(ValueError, match="their fingerprints differ"):
        mf.load(tmp_path / "run.h5", problem=on_meshes(0.6))


def test_the_fingerprint_of_an_energy_on_meshes():
    """8 cells, or the mesh that the problem suggests; where it has values on neither, what it is called."""
    small, suggested = on_meshes(0.5), on_meshes(0.5, 100, shape=(120,))
    assert small.fingerprint() == on_meshes(0.5).fingerprint()
    assert small.fingerprint() != on_meshes(0.6).fingerprint()
    assert suggested.fingerprint() == on_meshes(0.5, 100, shape=(120,)).fingerprint()
    assert suggested.fingerprint() != on_meshes(0.6, 100, shape=(120,)).fingerprint()
    nowhere = on_meshes(0.5, 100, shape=None)
    assert nowhere.fingerprint() == on_meshes(0.6, 100, shape=None).fingerprint()
    assert len({small.fingerprint(), suggested.fingerprint(), nowhere.fingerprint()}) == 3
    assert mf.solve(nowhere, 120, 0.01, progress=False).result is mf.Result.SUCCESS


# ----- functions that write into their arguments


def doubled(x):
    """What somebody writes who has forgotten that arrays are not numbers."""
    x *= 2.0
    return x**2


def moved(x):
    """Not far: by nothing at all, but in place."""
    x += 0.0
    return x


def gently(function):
    """The same function of a copy."""
    return lambda *arrays: function(*(a.copy() for a in arrays))


def free(energy, **changes):
    initial = mf.Product(x=stats.norm(0.1, 0.2))
    return mf.Problem(energy=energy, axes=[mf.Axis("x", -2, 2)], initial=initial, t_end=0.05, **changes)


def well(x):
    return x**2 / 2


class Forgetful(mf.SquaredLoss):
    """A loss that subtracts the targets in place."""

    def value(self, u):
        u -= self.targets
        return 0.5 * float(u @ u)


@dataclass(frozen=True)
class Moments(Observable):
    times: object = None
    name = "moments"

    def measure(self, at):
        at.weights[...] /= at.weights.sum()
        return np.array(1.0)


def solved(problem):
    return mf.solve(problem, 40, save=2, progress=False).energy


def simulated(problem):
    return mf.particles.simulate(problem, 20, save=2, progress=False, seed=1).energy


def followed(problem):
    return mf.characteristics(problem, save=2, tolerance=1e-6).energy


def kernel(of, **more):
    return mf.Interaction(mf.SeparableKernel(x=mf.energy.CallableKernel(of, **more)))


WRITERS = {
    "potential on a mesh": (solved, lambda f: free(mf.External(f)), doubled),
    "potential of particles": (simulated, lambda f: free(mf.External(f)), doubled),
    "gradient of particles": (
        simulated,
        lambda f: free(mf.External(lambda x: 4 * x**3 / 3, f)),
        lambda x: (doubled(x),),
    ),
    "potential along characteristics": (followed, lambda f: free(mf.External(f)), doubled),
    "features": (solved, lambda f: free(mf.Features(f, mf.SquaredLoss([0.3]))), lambda x: doubled(x)[None]),
    "features of particles": (
        simulated,
        lambda f: free(mf.Features(f, mf.SquaredLoss([0.3]))),
        lambda x: doubled(x)[None],
    ),
    "kernel": (solved, lambda f: free(kernel(f)), lambda x, y: np.exp(-((moved(x) - y) ** 2))),
    "derivative of a kernel": (
        followed,
        lambda f: free(kernel(lambda x, y: x * y, derivative=f)),
        lambda x, y: y + 0.0 * moved(x),
    ),
    "translation-invariant kernel": (
        solved,
        lambda f: free(mf.Interaction(mf.TranslationInvariantKernel(f))),
        lambda d: np.exp(-np.square(d, out=d)),
    ),
    "pair kernel": (
        solved,
        lambda f: free(mf.Interaction(mf.PairKernel(f))),
        lambda p, q: np.exp(-doubled(p)) @ np.exp(-doubled(q)).T,
    ),
    "rate": (solved, lambda f: free(mf.External(well), alpha=1.0, rate=f), lambda V: np.arctan(V, out=V)),
    "rate of particles": (
        simulated,
        lambda f: free(mf.External(well), alpha=1.0, rate=f),
        lambda V: np.arctan(V, out=V),
    ),
    "metric": (solved, lambda f: free(mf.External(well), metric=[f]), doubled),
    "metric of particles": (simulated, lambda f: free(mf.External(well), metric=[f]), doubled),
    "base measure": (
        solved,
        lambda f: free(mf.External(well), base=f, temperature=0.1),
        lambda x: np.exp(-doubled(x)),
    ),
    "density": (
        solved,
        lambda f: mf.Problem(mf.External(well), [mf.Axis("x", -2, 2)], mf.Density(f), t_end=0.05),
        lambda rows: np.exp(-doubled(rows)[:, 0]),
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_function_cannot_write_into_its_arguments(name):
    """What it wrote would be in the mesh, the particles or the density; of a copy it gives what it is to give."""
    compute, problem, function = WRITERS[name]
    with pytest.raises(ValueError, match="read-only"):
        compute(problem(function))
    assert np.all(np.isfinite(compute(problem(gently(function)))))


def test_a_loss_cannot_write_into_the_response():
    with pytest.raises(ValueError, match="read-only"):
        solved(free(mf.Features(lambda x: x[None], Forgetful([0.3]))))
    with pytest.raises(ValueError, match="read-only"):
        mf.solve(mf.problems.network([0.1, 0.5, 0.9], [0.0, 1.0, 0.0], loss=Forgetful), (8, 8, 8), 0.1, progress=False)


def test_an_activation_cannot_write_into_its_argument():
    wavy = mf.Activation(lambda t: np.sin(t, out=t), np.cos)
    with pytest.raises(ValueError, match="read-only"):
        mf.solve(mf.problems.network([0.1, 0.5, 0.9], [0.0, 1.0, 0.0], activation=wavy), (8, 8, 8), 0.1)


def test_a_unit_cannot_write_into_the_particles():
    def unit(x, theta):
        theta *= 2.0
        return beside(x, theta) * theta

    problem = replace(LINE, network=mf.Network(unit))
    cloud = mf.particles.simulate(problem, 20, t_end=0.01, save=2, progress=False)
    before = cloud.positions.copy()
    with pytest.raises(ValueError, match="read-only"):
        cloud.predict([1.0])
    np.testing.assert_array_equal(cloud.positions, before)


def test_an_observable_cannot_write_into_the_measure():
    with pytest.raises(ValueError, match="read-only"):
        mf.reference(LINE, 1e-3, [Moments()], times=[0.1])


def test_what_a_function_gives_back_is_an_array_of_its_own():
    x = np.arange(3.0)
    for function in (lambda x: x, lambda x: x[:], lambda x: np.broadcast_to(x[0], 3), lambda x: x + 1):
        values = checks.values_of(function, x)
        assert values.flags.writeable
        assert not np.shares_memory(values, x)
    assert checks.read_only(x)[0].base is x
