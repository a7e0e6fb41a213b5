"""Objects as text: every kind that has a name goes into a table and a line and comes back, and nothing else does."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import math
import pkgutil
import sys
import tomllib
from dataclasses import dataclass, field

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import mfpde as mf
from mfpde.equation.kinds import LAWS, SCHEDULES
from mfpde.equation.schedules import CustomSchedule
from mfpde.mesh.kinds import CONTROLLERS, LIMITS, METHODS, PARTS, TRANSPORTS
from mfpde.support.registry import Kind, Registry, described
from mfpde.verification.references.file_observables import (
    KINDS,
    observable_named,
    same_observable,
)
from mfpde.verification.references.file_observables import (
    described as observable_described,
)

# numbers as users have them: Python's and NumPy's, which texts must not tell apart
positive = st.floats(1e-6, 1e6) | st.floats(1e-6, 1e6).map(np.float64)
share = st.floats(1e-3, 1.0)
growth = st.floats(1.001, 1e3)
times = st.none() | st.floats(0.0, 10.0) | st.lists(st.floats(0.0, 10.0), min_size=1, max_size=4).map(tuple)
values = st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=4).map(np.array)
edges = st.lists(st.floats(-10.0, 10.0), min_size=2, max_size=5, unique=True).map(sorted)
ends = st.tuples(st.floats(-10.0, 0.0), st.floats(0.1, 10.0))
limits = st.floats(0.0, 1.0) | st.just(math.inf)
points = st.lists(st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 9.0)), min_size=1, max_size=4, unique_by=lambda p: p[0])
turns = (mf.Operator.TRANSPORT, 0.5), (mf.Operator.REACTION, 1.0), (mf.Operator.TRANSPORT, 0.5)

OBJECTS = {
    "transport": {
        "weno5": st.builds(mf.Weno5, st.floats(1.5, 1e8)),
        "muscl": st.builds(mf.Muscl, st.sampled_from(mf.Limiter)),
        "upwind": st.builds(mf.Upwind),
        "scharfetter-gummel": st.builds(mf.ScharfetterGummel),
    },
    "method": {
        "exponential-ssprk3": st.builds(mf.ExponentialSSPRK3),
        "strang": st.builds(mf.Strang, stabilised=st.booleans(), steps=st.sampled_from([mf.Strang().steps, turns])),
        "lie": st.builds(mf.Lie, stabilised=st.booleans(), corrector=st.booleans()),
        "implicit-strang": st.builds(mf.ImplicitStrang, st.sampled_from(mf.Potential), st.floats(1e-9, 0.5)),
        "implicit-euler": st.builds(mf.ImplicitEuler, st.sampled_from(mf.Potential), st.floats(1e-9, 0.5)),
    },
    "controller": {
        "error": st.builds(mf.ErrorControl, positive, share, positive, growth),
        "courant": st.builds(mf.CourantControl, share, positive, growth),
        "fixed": st.builds(mf.FixedStep, positive),
    },
    "set of limits": {"limits": st.builds(mf.Limits, limits, limits, limits)},
    "schedule": {
        "constant": st.builds(mf.Constant, positive),
        "piecewise-linear": points.map(lambda p: mf.PiecewiseLinear(*zip(*sorted(p), strict=True))),
        "power-law": st.builds(mf.PowerLaw, st.floats(-0.9, 3.0), positive),
        "exponential-decay": st.builds(mf.ExponentialDecay, positive, positive, positive),
        "inverse-log": st.builds(mf.InverseLog, positive, st.floats(1.5, 100.0)),
    },
    "law": {
        "normal": st.builds(stats.norm, st.floats(-10.0, 10.0), positive) | st.builds(stats.norm, scale=positive),
        "uniform": st.builds(lambda low, n: stats.uniform(low, n / 4), st.integers(-9, 9), st.integers(1, 99)),
        "atom": st.floats(-10.0, 10.0) | st.integers(-9, 9),
        "scipy": st.builds(stats.gamma, positive, st.floats(-10.0, 10.0), positive) | st.builds(stats.logistic),
    },
    "observable": {
        "energy": st.builds(mf.EnergyAt, times),
        "moment": st.builds(mf.Moment, st.sampled_from("xy"), st.integers(0, 9), times),
        "output": st.builds(mf.OutputAt, values, times),
        "mass": st.builds(mf.MassIn, st.dictionaries(st.sampled_from("xy"), ends, min_size=1), times),
        "marginal": st.builds(mf.Marginal, st.sampled_from("xy"), edges, times),
        "decay-rate": st.builds(mf.DecayRate, times),
        "density": st.builds(mf.DensityAt, values.map(lambda x: x[:, None]), times),
    },
}
REGISTRIES = {
    registry.what: registry for registry in (TRANSPORTS, METHODS, CONTROLLERS, LIMITS, SCHEDULES, LAWS, KINDS)
}
ALL = [(what, name) for what in REGISTRIES for name in REGISTRIES[what]]


def objects(what, name):
    return OBJECTS["transport" if what == "transport scheme" else what][name]


def same(one, other):
    """Whether two objects are the same, of kinds that have equality or have not."""
    if isinstance(one, mf.EnergyAt.__base__):
        return same_observable(one, other)
    if hasattr(one, "dist"):
        # SciPy's distributions are equal where their numbers are; the ends of the tested ones are exact
        return LAWS.to_table(one) == LAWS.to_table(other)
    return one == other


def test_every_registry_of_the_package_is_here():
    for module in pkgutil.walk_packages(mf.__path__, "mfpde."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {
        thing.what: thing
        for name, module in list(sys.modules.items())
        if name.startswith("mfpde.")
        for thing in vars(module).values()
        if isinstance(thing, Registry)
    }
    assert found == REGISTRIES


@pytest.mark.parametrize(("what", "name"), ALL)
def test_every_kind_goes_into_a_table_and_comes_back(what, name):
    registry = REGISTRIES[what]

    @settings(max_examples=30, deadline=None, database=None)
    @given(objects(what, name))
    def check(thing):
        assert registry.name_of(thing) == name
        table = tomllib.loads(tomli_w.dumps(registry.to_table(thing)))
        assert table[registry.key] == name
        again = registry.from_table(table)
        assert type(again) is type(thing) or what == "law"
        assert same(again, thing)
        assert registry.to_table(again) == registry.to_table(thing)

    check()


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, name in ALL if what not in ("law", "observable")])
def test_every_kind_goes_into_a_line_and_comes_back(what, name):
    registry = REGISTRIES[what]

    @settings(max_examples=30, deadline=None, database=None)
    @given(objects(what, name))
    def check(thing):
        line = registry.to_text(thing)
        assert line.startswith(f"{type(thing).__name__}(")
        assert "np." not in line
        again = registry.from_text(line)
        assert type(again) is type(thing)
        assert again == thing

    check()


@pytest.mark.parametrize("name", KINDS)
def test_observables_go_into_a_file_and_come_back(name):
    @settings(max_examples=30, deadline=None, database=None)
    @given(objects("observable", name))
    def check(thing):
        kind, parameters, array = observable_described(thing)
        assert kind == name
        assert same_observable(observable_named(kind, tomllib.loads(tomli_w.dumps(parameters)), array), thing)

    check()


def test_lines_are_those_of_early_files():
    """What files of version 0.1 say, letter by letter."""
    for thing, line in {
        mf.Weno5(): "Weno5(tail_ratio=10000.0)",
        mf.Muscl(): "Muscl(limiter=Limiter.VAN_LEER)",
        mf.Upwind(): "Upwind()",
        mf.Strang(): "Strang(corrector=True, stabilised=True)",
        mf.ImplicitStrang(): "ImplicitStrang(potential=Potential.AVERAGE, convergence=0.001)",
        mf.ErrorControl(np.float64(1e-7)): "ErrorControl(tolerance=1e-07, fraction=0.95, reaction=5.0, growth=2.0)",
        mf.FixedStep(1): "FixedStep(dt=1)",
        mf.Limits(): "Limits(energy_increase=inf, mass_drift=1e-08, end_mass=1e-06)",
    }.items():
        registry = next(registry for registry in PARTS.values() if registry.name_of(thing))
        assert registry.to_text(thing) == line
        assert registry.from_text(line) == thing


@pytest.mark.parametrize(
    ("registry", "table", "message"),
    [
        (TRANSPORTS, {"transport": "wenno5"}, r"unknown transport scheme 'wenno5'; did you mean 'weno5'\? valid: 'we"),
        (METHODS, {}, "unknown method None; valid: 'exponential-ssprk3', 'strang', 'lie'"),
        (SCHEDULES, {"kind": ["x"]}, r"unknown schedule \['x'\]; valid: 'constant', 'piecewise-linear'"),
        (TRANSPORTS, {"transport": "weno5", "tail": 2}, "transport scheme 'weno5' has no 'tail'.*valid: 'tail_ratio'"),
        (
            TRANSPORTS,
            {"transport": "muscl", "limiter": "me"},
            "unknown limiter 'me'; valid: 'minmod', 'van-leer', 'mc'",
        ),
        (CONTROLLERS, {"controller": "fixed"}, "controller 'fixed' needs dt; 'dt' is missing"),
        (CONTROLLERS, {"controller": "fixed", "dt": -1}, "dt must be a finite positive number, not -1"),
        (LAWS, {"distribution": "gamma"}, "unknown law 'gamma'; valid: 'normal', 'uniform', 'atom'"),
    ],
)
def test_tables_that_name_nothing_are_refused_with_what_there_is(registry, table, message):
    with pytest.raises(ValueError, match=message) as caught:
        registry.from_table(table)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "Mine()", "Weno5", "Weno5(1e4)", "Weno5(tail_ratio=open('x'))", "Weno5(tail_ratio=1e4)", "Weno5()", "Weno5(",
        "Weno5(tail_ratio=10000.0, order=9)", "Muscl(limiter=Limiter.NONE)", "Muscl(limiter=os.MC)", "", None, "\0",
        "Weno5(**{'tail_ratio': 10000.0})", "(" * 10**4,
    ],
)  # fmt: skip
def test_lines_that_are_not_whole_are_refused(line):
    with pytest.raises(ValueError, match="is no transport scheme that mfpde has; valid: Weno5, Muscl, Upwind, Scharf"):
        TRANSPORTS.from_text(line)


class Lopsided(stats.rv_continuous):
    """A law of one's own that calls itself like one of SciPy's."""


def test_what_has_no_name_is_in_no_table():
    for registry, thing in (
        (TRANSPORTS, mf.Lie()),
        (SCHEDULES, CustomSchedule(math.exp)),
        (LAWS, Lopsided(name="gamma")()),
        (LAWS, True),
    ):
        assert registry.name_of(thing) is None
        with pytest.raises(ValueError, match=f"is no {registry.what} that has a name; valid: "):
            registry.to_table(thing)


class Shade(enum.Enum):
    DARK = "dark"


@dataclass(frozen=True, eq=False)
class Painted(mf.Muscl):
    """A scheme as a user may have it."""

    shade: Shade = Shade.DARK
    weights: tuple[float, ...] = (0.5,)
    table: np.ndarray = field(default_factory=lambda: np.arange(3.0))
    function: object = math.sin
    own: object = field(default_factory=lambda: lambda x: x)


class Plain(mf.Muscl):
    """A scheme that is no dataclass of its own, and has no words."""

    __repr__ = object.__repr__


class Bare:
    """Nothing but attributes."""

    def __init__(self) -> None:
        self.width = np.float64(0.25)
        self.function = lambda x: x


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError


# a class of one's own that is called like one of mfpde's
Muscl = type("Muscl", (mf.Muscl,), {"__module__": __name__, "__qualname__": "Muscl"})


def test_objects_of_any_class_have_a_line_that_lasts():
    line = described(Painted())
    assert line.startswith("Painted(limiter=Limiter.VAN_LEER, shade=Shade.DARK, weights=(0.5,), table=array((3,), ")
    assert line == described(Painted())
    assert line != described(Painted(table=np.arange(4.0)))
    assert described(Bare()) == "Bare(width=0.25, function=<function Bare.__init__.<locals>.<lambda>>)"
    assert described(Silent()) == "Silent"
    assert len(described(Painted(weights=(0.1,) * 10**5))) < 4000
    assert described(Painted(weights=(0.1,) * 10**5)) != described(Painted(weights=(0.1,) * 10**5 + (0.2,)))
    assert TRANSPORTS.to_text(mf.Muscl()) == "Muscl(limiter=Limiter.VAN_LEER)"
    assert TRANSPORTS.to_text(Muscl()) == f"{__name__}.Muscl(limiter=Limiter.VAN_LEER)"


@pytest.mark.parametrize("kind", [Painted, Plain, Muscl])
def test_a_scheme_of_a_users_own_is_named_in_a_file_and_given_to_resume(kind, tmp_path):
    path, problem = tmp_path / "run.h5", mf.problems.linear_neuron()
    run = {"shape": 40, "scheme": kind(), "progress": False}
    whole = mf.solve(problem, t_end=0.2, save=[0.1], **run)
    mf.solve(problem, t_end=0.1, save=2, output=path, **run)
    with pytest.raises(
        ValueError, match=rf"the file says scheme = .*{kind.__name__}.*which mfpde has not; pass scheme="
    ):
        mf.resume(path, 0.2, progress=False)
    # another object of the class, as another process makes it
    again = mf.resume(path, 0.2, scheme=kind(), progress=False)
    np.testing.assert_array_equal(again.density, whole.density)


def test_a_splitting_with_steps_of_its_own_is_not_taken_for_the_usual_one():
    """Its own words leave the steps out, and so did files: a run went on with other steps in silence."""
    problem = mf.problems.linear_neuron()
    run = {"shape": 40, "method": mf.Strang(steps=turns), "progress": False}
    whole = mf.solve(problem, t_end=0.2, save=[0.1], **run)
    again = mf.resume(mf.solve(problem, t_end=0.1, save=2, **run), 0.2, progress=False)
    assert "steps=((Operator.TRANSPORT, 0.5), " in whole.configuration["method"]
    np.testing.assert_array_equal(again.density, whole.density)


def test_what_early_files_say_of_other_classes_is_known():
    """Lines were the repr: members of enums in their long form, addresses and all."""
    steps = mf.Splitting(turns, 2)
    assert METHODS.says(repr(steps), steps)
    assert METHODS.says(METHODS.to_text(steps), steps)
    assert TRANSPORTS.says(f"<{__name__}.Plain object at 0x7f00>", Plain())
    assert not METHODS.says(repr(steps), dataclasses.replace(steps, corrector=False))


def test_kinds_of_any_class():
    """Objects that are no dataclasses bring their own way in and out."""
    numbers = Registry(
        "number", {"complex": Kind(complex, lambda z: {"real": z.real, "imag": z.imag}, ("real",), ("imag",))}
    )
    assert numbers.to_table(1 + 2j) == {"kind": "complex", "real": 1.0, "imag": 2.0}
    assert numbers.from_table({"kind": "complex", "real": 1.0}) == 1.0
    assert (list(numbers), len(numbers), numbers.keys_of({"imag": 0})) == (["complex"], 1, {"complex": ([], ["imag"])})
