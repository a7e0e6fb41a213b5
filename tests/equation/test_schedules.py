import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfpde.equation.schedules import (
    Constant,
    CustomSchedule,
    ExponentialDecay,
    InverseLog,
    PiecewiseLinear,
    PowerLaw,
    Schedule,
    as_schedule,
)

SMOOTH = [
    Constant(2.5),
    PowerLaw(0.0, 3.0),
    PowerLaw(0.7, 2.0),
    PowerLaw(-0.6),
    ExponentialDecay(2.0, 0.7, 0.3),
    ExponentialDecay(0.1, 3.0, 5.0),
    InverseLog(2.0),
    InverseLog(1.0, 1.01),
    PiecewiseLinear([0, 10], [3, 1]),
]


def gauss(function, a, b, panels=64):
    """Integral by 20-point Gauss-Legendre on geometric panels, independent of the closed forms."""
    x, w = np.polynomial.legendre.leggauss(20)
    edges = np.geomspace(a, b, panels + 1)
    total = []
    for p, q in itertools.pairwise(edges):
        half = 0.5 * (q - p)
        total += [half * wk * function(p + half * (1 + xk)) for xk, wk in zip(x, w, strict=True)]
    return math.fsum(total)


@pytest.mark.parametrize("schedule", SMOOTH, ids=repr)
def test_integrals_match_quadrature_of_the_value(schedule):
    for a, b in [(0.01, 0.02), (0.3, 5.0), (1.0, 9.0), (2.0, 2.001)]:
        assert schedule.integral(a, b) == pytest.approx(gauss(schedule, a, b), rel=2e-13, abs=0)


@pytest.mark.parametrize("schedule", SMOOTH, ids=repr)
def test_short_steps_do_not_cancel(schedule):
    for t in (0.5, 7.0):
        step = t * 2.0**-30
        assert schedule.integral(t, t + step) == pytest.approx(schedule(t + step / 2) * step, rel=1e-13, abs=0)


@pytest.mark.parametrize("schedule", [*SMOOTH, PiecewiseLinear([1, 2, 2, 5], [0, 3, 1, 0])], ids=repr)
@given(times=st.lists(st.floats(0, 20), min_size=3, max_size=3))
def test_integrals_add_up_and_change_sign(schedule, times):
    a, b, c = times
    whole = schedule.integral(a, c)
    assert schedule.integral(c, a) == -whole
    assert schedule.integral(a, a) == 0.0
    scale = schedule.integral(0, 20) + 1e-300
    assert schedule.integral(a, b) + schedule.integral(b, c) == pytest.approx(whole, abs=1e-13 * scale)
    assert schedule.integral(min(a, c), max(a, c)) >= 0.0


def test_closed_forms_from_zero():
    assert PowerLaw(-0.5).integral(0, 4) == 4.0
    assert PowerLaw(2.0, 3.0).integral(0, 2) == 8.0
    assert PowerLaw(-0.999).integral(0, 1) == pytest.approx(1000, rel=1e-12, abs=0)
    assert PowerLaw(-0.5)(0) == math.inf
    assert PowerLaw(0.0)(0) == 1.0
    assert PowerLaw(-0.5, 0.0)(0) == 0.0
    assert ExponentialDecay(2.0, 0.5).integral(0, 1) == pytest.approx(1 - math.exp(-2), rel=1e-15, abs=0)
    assert ExponentialDecay(2.0, 0.5, 1.0)(0) == 2.0
    assert ExponentialDecay(2.0, 0.5, 1.0)(1e6) == 1.0
    assert InverseLog(3.0)(0) == 3.0
    # li(e^2) - li(e), with li(e) = Ei(1) and li(e^2) = Ei(2)
    assert InverseLog(1.0).integral(0, math.e**2 - math.e) == pytest.approx(
        4.95423435600189016 - 1.89511781635593676, rel=1e-14
    )


def test_piecewise_linear_values_jumps_and_integral():
    quench = PiecewiseLinear([1, 3, 3], [4.0, 2.0, 0.0])
    assert [quench(t) for t in (0, 1, 2, 2.5, 3, 9)] == [4.0, 4.0, 3.0, 2.5, 0.0, 0.0]
    assert quench.integral(0, 10) == 4.0 + 6.0
    assert quench.integral(2, 3) == 2.5
    assert quench.integral(4, 10) == 0.0
    assert quench.integral(0.25, 0.75) == 2.0
    single = PiecewiseLinear([2], [1.5])
    assert (single(0), single(5), single.integral(1, 4)) == (1.5, 1.5, 4.5)
    assert single.constant


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0), True),
        (PowerLaw(0.0), True),
        (PowerLaw(1.0), False),
        (ExponentialDecay(1, 1, 1), True),
        (ExponentialDecay(1, 1), False),
        (InverseLog(1), False),
        (InverseLog(0), True),
        (CustomSchedule(abs), False),
        (PiecewiseLinear([0, 1], [1, 2]), False),
    ],
)
def test_constant_schedules_know_it(schedule, expected):
    assert schedule.constant is expected


def test_as_schedule():
    assert as_schedule(2) == Constant(2.0)
    assert as_schedule(np.float64(0.5)) == Constant(0.5)
    law = PowerLaw(1.0)
    assert as_schedule(law) is law
    custom = as_schedule(lambda t: 1 + math.sin(t))
    assert isinstance(custom, Schedule)
    assert custom(0.5) == 1 + math.sin(0.5)
    assert custom.integral(0, 3) == pytest.approx(3 + 1 - math.cos(3), rel=1e-13, abs=0)
    assert custom.integral(3, 0) == -custom.integral(0, 3)
    assert as_schedule(lambda t: 0.0).integral(0, 5) == 0.0
    assert as_schedule(lambda t: 1.0 if t < 1.3 else 0.0).integral(0, 5) == pytest.approx(1.3, rel=1e-10, abs=0)
    for bad in ("fast", None, True, [1.0], float):
        with pytest.raises(ValueError, match="a schedule is a number, a Schedule or a function of time"):
            as_schedule(bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1), "value = -1 must be finite and non-negative"),
        (lambda: Constant(math.nan), "value = nan"),
        (lambda: Constant("1"), "must be a number"),
        (lambda: as_schedule(-0.5), "non-negative"),
        (lambda: PowerLaw(-1.0), "exponent = -1.0 must be finite and above -1"),
        (lambda: PowerLaw(math.inf), "exponent = inf"),
        (lambda: PowerLaw("1"), "exponent must be a number"),
        (lambda: PowerLaw(1.0, -2.0), "scale = -2.0"),
        (lambda: PiecewiseLinear([], []), "0 times and 0 values"),
        (lambda: PiecewiseLinear([0, 1], [1]), "2 times and 1 values"),
        (lambda: PiecewiseLinear([1, 0], [1, 1]), r"time 0\.0 follows 1\.0; sort the times"),
        (lambda: PiecewiseLinear([1, 1, 1], [1, 2, 3]), "more than twice"),
        (lambda: PiecewiseLinear([-1, 1], [1, 2]), "time -1.0 must be finite and non-negative"),
        (lambda: PiecewiseLinear([0, 1], [1, -2]), "value -2.0 must be finite and non-negative"),
        (lambda: PiecewiseLinear([0, math.nan], [1, 2]), "time nan"),
        (lambda: ExponentialDecay(1, 0), "time_constant = 0 must be finite and positive"),
        (lambda: ExponentialDecay(-1, 1), "initial = -1"),
        (lambda: InverseLog(1, 1.0), r"offset = 1\.0 must be above 1"),
        (lambda: InverseLog(-1), "scale = -1"),
        (lambda: CustomSchedule(3), "function of time is needed"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("schedule", [*SMOOTH, CustomSchedule(abs)], ids=repr)
def test_bad_times_are_refused(schedule):
    for bad in (-1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite times t >= 0"):
            schedule(bad)
        with pytest.raises(ValueError, match="finite times t >= 0"):
            schedule.integral(0.0, bad)


def test_a_custom_schedule_that_goes_negative_or_nan_is_refused_with_the_time():
    falling = as_schedule(lambda t: 1 - t)
    assert falling.integral(0, 1) == pytest.approx(0.5, rel=1e-14, abs=0)
    with pytest.raises(ValueError, match=r"the value at t = 3\.0 is -2\.0"):
        falling(3)
    with pytest.raises(ValueError, match="must be finite and non-negative"):
        falling.integral(0, 3)
    with pytest.raises(ValueError, match="is nan"):
        as_schedule(lambda t: math.nan)(0)


def test_schedules_are_frozen_values_and_print_themselves():
    assert Constant(1) == Constant(1.0)
    assert hash(PiecewiseLinear([0, 1], [1, 0])) == hash(PiecewiseLinear((0.0, 1.0), (1.0, 0.0)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Constant(1).value = 2.0
    assert [repr(s) for s in SMOOTH] == [
        "Constant(2.5)",
        "PowerLaw(3 t^0)",
        "PowerLaw(2 t^0.7)",
        "PowerLaw(1 t^-0.6)",
        "ExponentialDecay(2 -> 0.3, time constant 0.7)",
        "ExponentialDecay(0.1 -> 5, time constant 3)",
        "InverseLog(2 / log(2.71828 + t))",
        "InverseLog(1 / log(1.01 + t))",
        "PiecewiseLinear(0: 3, 10: 1)",
    ]
    assert repr(CustomSchedule(math.exp)) == "CustomSchedule(exp)"
