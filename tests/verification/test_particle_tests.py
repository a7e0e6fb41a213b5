"""`mfpde.testing`: what is recorded, what is allowed, how often a right code fails and a wrong one is seen."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats
from shared import ROOT, printed_by, python

import mfpde as mf
from mfpde import testing
from mfpde.verification.estimates import combine
from mfpde.verification.particle_tests import cases, statistics
from mfpde.verification.references.certified import Certified, Reference

CASE = mf.problems.linear_neuron(alpha=0.0)


def made(value, bar=0.0, observable=None, times=None, problem=CASE, name="energy"):
    """A reference with one observable."""
    value = np.asarray(value, dtype=float)
    times = np.arange(1.0, len(value) + 1) if times is None else np.asarray(times, dtype=float)
    bars = np.broadcast_to(np.asarray(bar, dtype=float), value.shape).copy()
    return Reference(problem, 1e-3, (Certified(name, times, value, bars, "x", observable=observable),), (), True)


def fails(check, *arguments, **named):
    try:
        check(*arguments, **named)
    except AssertionError:
        return True
    return False


# ---------------------------------------------------------------------------------------------------------------------
# recording
# ---------------------------------------------------------------------------------------------------------------------


class Trained:
    """A tensor that is being trained: NumPy may have it after `detach` and `cpu`."""

    def __init__(self, values, detached=False, on_host=False):
        self.values, self.detached, self.on_host = values, detached, on_host

    def detach(self):
        return Trained(self.values, True, self.on_host)

    def cpu(self):
        return Trained(self.values, self.detached, True)

    def __array__(self, dtype=None, copy=None):
        if not (self.detached and self.on_host):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.values


class Capsule:
    """An array that only speaks DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **named):
        return self.values.__dlpack__(**named)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class HalfPrecision:
    """A precision that NumPy lacks."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Got unsupported ScalarType BFloat16")

    def double(self):
        return self.values


class Traced:
    """An array inside a compiled function."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("The numpy.ndarray conversion method __array__() was called on traced array")


@pytest.mark.parametrize("wrap", [np.asarray, Trained, Capsule, HalfPrecision, list, lambda x: x.astype(np.float32)])
def test_arrays_of_any_library_are_copied(wrap):
    recorder = testing.ParticleRecorder(mf.problems.three_gaussians())
    original = np.array([[0.25, -0.5], [1.0, 0.75], [-2.0, 1.5]])
    x = original.copy()
    recorder.record(0.0, wrap(x))
    x[:] = 99.0
    assert recorder.positions[0].dtype == np.float64
    assert recorder.positions[0].tolist() == original.tolist()
    recorder.record(
        1.0, {"y": wrap(original[:, 1]), "c": wrap(original[:, 0])}, weights=wrap(np.array([0.5, 0.25, 0.25]))
    )
    assert recorder.positions[1].tolist() == original.tolist()
    assert recorder.weights[1].tolist() == [0.5, 0.25, 0.25]
    assert recorder.weights[0].tolist() == [1 / 3] * 3
    assert recorder.times == (0.0, 1.0)
    assert recorder.n == 3
    assert "'three-gaussians': 3 particles, 2 times" in repr(recorder)


def test_a_list_of_tensors_is_read_row_by_row():
    recorder = testing.ParticleRecorder(CASE)
    recorder.record(0.0, [Trained(np.array([0.5])), Trained(np.array([1.5]))])
    assert recorder.positions[0].tolist() == [[0.5], [1.5]]


def test_observables_of_recorded_particles():
    """Against sums written out: V = (m - a) theta has E = (m - a)^2 / 2."""
    problem = mf.problems.linear_neuron(target=2.0, mean=0.0)
    recorder = testing.ParticleRecorder(problem)
    first, second = np.array([0.0, 1.0, -0.5, 0.7]), np.array([1.0, 1.5, 0.2])
    w = np.array([0.5, 0.3, 0.2])
    recorder.record(0.0, first)
    recorder.record(0.1 + 0.2, second, w)
    means = np.array([first.mean(), w @ second])
    energies = 0.5 * (means - 2.0) ** 2
    assert recorder.values("energy") == pytest.approx(energies, rel=1e-12)
    assert recorder.values(mf.Moment("theta")) == pytest.approx(means, rel=1e-13)
    # 0.1 + 0.2 is 0.3
    assert recorder.values(mf.Moment("theta", 2, times=0.3)) == pytest.approx([w @ second**2], rel=1e-13)
    assert recorder.values(mf.MassIn({"theta": (0.0, 1.0)})) == pytest.approx([0.5, 0.2], rel=1e-13)
    found = recorder.values(mf.Marginal("theta", [0.0, 1.2, 2.0]))
    assert found == pytest.approx(np.array([[0.75 / 1.2, 0.0], [0.7 / 1.2, 0.3 / 0.8]]), rel=1e-13)
    rate = math.log(energies[0] / energies[1]) / 0.3
    assert recorder.values(mf.DecayRate((0.0, 0.3))) == pytest.approx([rate], rel=1e-12)


def test_rates_are_between_successive_times():
    """E = (m - 2)^2 / 2 at three times; the reference has a rate for the second and the third."""
    times, means = (0.5, 1.0, 2.0), np.array([0.0, 1.0, 1.25])
    rates = -np.diff(np.log((means - 2.0) ** 2)) / np.diff(times)
    reference = made(rates, 1e-9, observable=mf.DecayRate(times), times=times[1:], name="rate")
    recorder = testing.ParticleRecorder(reference)
    for t, mean in zip(times, means, strict=True):
        recorder.record(t, [mean])
    assert recorder.values("rate") == pytest.approx(rates, rel=1e-12)
    assert len(testing.assert_matches(reference, recorder, error=1e-9).rows) == 3
    report = testing.assert_matches(reference, recorder, error=1e-9, times=[2.0])
    assert [row.time for row in report.rows if not row.sanity] == [2.0]


def test_outputs_of_recorded_particles_and_two_axes():
    recorder = testing.ParticleRecorder(mf.problems.three_gaussians())
    points, inputs = np.array([[1.0, 0.5], [-0.4, -1.0]]), np.array([-1.0, 0.0, 2.0])
    recorder.record(0.0, points)
    exact = 0.5 * sum(c * np.exp(-((inputs - y) ** 2)) / math.sqrt(math.pi) for c, y in points)
    assert recorder.values(mf.OutputAt(inputs))[0] == pytest.approx(exact, rel=1e-12)


def test_periodic_axes_are_wrapped_and_walls_hold():
    axis = mf.Axis("x", -math.pi, math.pi, mf.End.PERIODIC)
    circle = testing.ParticleRecorder(mf.Problem(mf.External(np.cos), [axis], mf.Dirac(x=0.0)))
    inside = np.array([-3.0, 2.0])
    circle.record(0.0, inside + 6 * math.pi)
    assert circle.values(mf.Moment("x"))[0] == pytest.approx(-0.5, abs=1e-12)
    wall = testing.ParticleRecorder(CASE)
    end = CASE.axes[0].upper
    wall.record(0.0, np.r_[end + 5.0, np.zeros(199)])
    assert wall.values(mf.Moment("theta"))[0] == pytest.approx(end / 200, rel=1e-13)
    wall.record(1.0, np.r_[np.full(3, end + 5.0), np.zeros(197)])
    with pytest.raises(ValueError, match=r"1\.5 % of the particles are outside the box"):
        wall.values("energy")


def test_what_a_recorder_wants():
    parts = [
        Certified("energy", np.array([0.5, 1.0]), np.zeros(2), np.zeros(2), "x", observable=mf.EnergyAt((0.5, 1.0))),
        Certified("rate", np.array([1.0]), np.zeros(1), np.zeros(1), "x", observable=mf.DecayRate((0.25, 1.0))),
    ]
    recorder = testing.ParticleRecorder(Reference(CASE, 1e-3, tuple(parts), (), True))
    t, wanted = 0.0, []
    for k in range(101):
        if recorder.wants(t):
            recorder.record(t, np.zeros(5) + 0.01 * k)
            wanted.append(k)
        t += 0.01
    assert wanted == [25, 50, 100]
    assert recorder.values("energy").shape == (2,)
    assert recorder.values("rate").shape == (1,)
    assert not recorder.wants(1.0)
    with pytest.raises(ValueError, match="only a recorder of a Reference"):
        testing.ParticleRecorder(CASE).wants(0.0)


@pytest.mark.parametrize(
    ("t", "positions", "weights", "match"),
    [
        (-1.0, [0.0], None, "must be a number that is not negative, not -1"),
        (math.nan, [0.0], None, "must be a number that is not negative"),
        (0.5, [0.0, 1.0], None, r"t = 0\.5 is recorded after t = 1; times must increase"),
        (2.0, [[0.0, 1.0]], None, r"positions must have shape \(n, 1\), columns theta, not \(1, 2\); transpose them"),
        (2.0, np.zeros((0, 1)), None, r"must have shape \(n, 1\)"),
        (2.0, [0.0, math.inf], None, "1 of 2 coordinates are not finite; the run blew up"),
        (2.0, [0.0, 1j], None, "must be real numbers"),
        (2.0, ["a", "b"], None, "cannot be read as an array|must be real numbers"),
        (2.0, Traced(), None, r"positions cannot be read as an array \(TypeError: .*record outside of compiled"),
        (2.0, {"x": [0.0, 1.0]}, None, "positions name x; the axes are theta"),
        (2.0, {"theta": [[0.0], [1.0]]}, None, r"must all have shape \(n,\)"),
        (2.0, [0.0, 1.0, 2.0], None, r"3 particles, 2 before; give weights \(1/2 each"),
        (2.0, [0.0, 1.0], [1.0], r"weights must have shape \(2,\), one a particle, not \(1,\)"),
        (2.0, [0.0, 1.0], [1.5, -0.5], "weights must be finite and not negative"),
        (2.0, [0.0, 1.0], [0.0, 0.0], "with a positive sum"),
    ],
)
def test_what_is_no_record(t, positions, weights, match):
    recorder = testing.ParticleRecorder(CASE)
    recorder.record(1.0, [0.0, 1.0])
    with pytest.raises(ValueError, match=match) as caught:
        recorder.record(t, positions, weights)
    assert "\n" not in str(caught.value)
    assert recorder.times == (1.0,)
    assert len(recorder.positions) == len(recorder.weights) == 1


def test_what_a_recorder_does_not_have():
    recorder = testing.ParticleRecorder(CASE)
    with pytest.raises(ValueError, match="nothing is recorded yet"):
        recorder.values("energy")
    recorder.record(1.0, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"t = 0\.5 is not recorded \(there are 1\); record the reference's times"):
        recorder.values(mf.EnergyAt(0.5))
    with pytest.raises(ValueError, match="a recorder of a Problem knows 'energy'"):
        recorder.values("moment theta^1")
    with pytest.raises(ValueError, match="a recorder needs a Reference or a Problem, not 3"):
        testing.ParticleRecorder(3)
    with pytest.raises(ValueError, match="the reference has no 'mass'; valid: 'energy'"):
        testing.ParticleRecorder(made([1.0])).values("mass")
    with pytest.raises(ValueError, match="does not say how 'energy' is measured"):
        testing.ParticleRecorder(made([1.0])).values("energy")
    unbalanced = testing.ParticleRecorder(replace(mf.problems.linear_neuron(), reaction=mf.Reaction.UNBALANCED))
    with pytest.raises(ValueError, match="the mass changes on this problem: give weights"):
        unbalanced.record(0.0, [0.0])
    unbalanced.record(0.0, [0.0], [0.7])
    assert unbalanced.values(mf.Moment("theta", 0)).tolist() == [0.7]


def test_particles_have_no_free_energy():
    problem = mf.problems.torus_langevin()
    name = problem.axes[0].name
    value = np.array([0.5])
    parts = [
        Certified("energy", np.ones(1), value, value, "x", observable=mf.EnergyAt(1.0)),
        Certified("moment", np.array([1.0, math.inf]), np.zeros(2), np.full(2, 9.0), "x", observable=mf.Moment(name)),
    ]
    reference = Reference(problem, 1e-3, tuple(parts), (), True)
    recorder = testing.ParticleRecorder(reference)
    recorder.record(1.0, np.zeros((3, len(problem.axes))))
    with pytest.raises(ValueError, match="energy: with a temperature the energy contains an entropy, which particles"):
        recorder.values("energy")
    report = testing.assert_matches(reference, recorder, error=0.1)
    assert {row.what for row in report.rows} == {"moment", "mass"}
    assert "entropy" in report.left_out["energy"]
    assert report.left_out["moment at t = inf"] == "the end state is not recorded"
    assert "not compared: energy (with a temperature" in str(report)
    recorder.record(math.inf, np.zeros((3, len(problem.axes))))
    assert recorder.values("moment").shape == (2,)
    assert len(testing.assert_matches(reference, recorder, error=0.1).rows) == 3
    alone = Reference(problem, 1e-3, tuple(parts[:1]), (), True)
    with pytest.raises(ValueError, match="nothing is left to compare: energy: with a temperature"):
        testing.assert_matches(alone, recorder, error=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# one run
# ---------------------------------------------------------------------------------------------------------------------


def test_one_run_may_be_off_by_the_bar_and_what_is_stated():
    reference = made([2.0, -4.0], [0.25, 0.5])
    assert testing.assert_matches(reference, {"energy": [2.25, -4.5]}).passed
    report = testing.assert_matches(reference, {"energy": [2.2, -4.0]})
    assert [row.allowed for row in report.rows] == pytest.approx([0.25, 0.5], rel=1e-12)
    assert [row.visible for row in report.rows] == pytest.approx([0.5, 1.0], rel=1e-12)
    assert report.rows[0].in_bars == pytest.approx(0.8, rel=1e-12)
    assert report.visible == {"energy": pytest.approx(1.0)}
    assert report.false_alarm is None
    assert fails(testing.assert_matches, reference, {"energy": [2.25001, -4.5]})
    assert fails(testing.assert_matches, reference, {"energy": [2.0, -3.4999]})
    assert fails(testing.assert_matches, reference, {"energy": [math.nan, -4.0]})
    # error is relative, absolute is not; names choose
    assert testing.assert_matches(reference, {"energy": [2.449, -4.899]}, error=0.1).passed
    assert fails(testing.assert_matches, reference, {"energy": [2.451, -4.0]}, error=0.1)
    assert testing.assert_matches(reference, {"energy": [2.349, -4.599]}, absolute={"energy": 0.1}).passed
    assert fails(testing.assert_matches, reference, {"energy": [2.351, -4.0]}, absolute={"energy": [0.1, 3.0]})
    assert testing.assert_matches(reference, {"energy": [2.349, -7.4]}, absolute={"energy": [0.1, 3.0]}).passed


def test_errors_of_several_values_are_relative_to_the_largest_of_the_time():
    reference = made([[1.0, 0.0], [0.1, -0.2]])
    assert testing.assert_matches(reference, {"energy": [[1.0, 0.099], [0.119, -0.2]]}, error=0.1).passed
    assert fails(testing.assert_matches, reference, {"energy": [[1.0, 0.0], [0.121, -0.2]]}, error=0.1)
    with pytest.raises(AssertionError, match=r"! energy \[1\] +2 .* -0.2 .* \+0.05 "):
        testing.assert_matches(reference, {"energy": [[1.0, 0.0], [0.1, -0.15]]}, error=0.1)


def test_single_precision_is_no_mistake():
    values = np.array([0.1, 0.7, 1e-3])
    assert testing.assert_matches(made(values), {"energy": values.astype(np.float32)}).passed
    assert fails(testing.assert_matches, made(values), {"energy": values * (1 + 1e-7)})


def test_the_table():
    reference = made([2.0, 4.0], 0.25)
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches(reference, {"energy": [2.0, 5.0]})
    lines = str(caught.value).splitlines()
    assert lines[0] == "particles do not match the reference for 'linear-neuron': 1 of 2 checks fail"
    assert lines[1].split() == ["what", "time", "mine", "reference", "bar", "allowed", "difference", "in", "bars"]
    assert lines[2].split() == ["!", "energy", "2", "5", "4", "0.25", "0.25", "+1", "4"]
    assert lines[3].split() == ["energy", "1", "2", "2", "0.25", "0.25", "+0", "0"]
    assert lines[4] == "smallest error that would be seen: energy 0.5"
    many = made(np.zeros((1, 50)), 1.0)
    parts = [made([0.0] * 30, 1.0, name=name).observables[0] for name in ("a", "b")]
    both = Reference(CASE, 1e-3, tuple(parts), (), True)
    with pytest.raises(AssertionError) as caught:
        testing.assert_matches(both, {"a": np.full(30, 9.0), "b": np.r_[2.0, 3.0, np.zeros(28)]})
    lines = [line.split()[:4] for line in str(caught.value).splitlines()[2:5]]
    assert [line[1] for line in lines] == ["a", "b", "a"]
    assert lines[1] == ["!", "b", "2", "3"]
    boxes = made(np.zeros((1, 2)), 1.0, name="mass in x [0, 5]")
    report = testing.assert_matches(boxes, {"mass in x [0, 5]": [[0.5, 0.25]]})
    assert [row.what for row in report.rows] == ["mass in x [0, 5] [0]", "mass in x [0, 5] [1]"]
    assert report.visible == {"mass in x [0, 5]": 2.0}
    with pytest.raises(AssertionError, match=r"and 30 more, 1 of them wrong"):
        testing.assert_matches(many, {"energy": np.r_[np.full(21, 2.0), np.zeros(29)][None]})


def test_replicas_that_blew_up_fail():
    x = np.ones((4, 1))
    x[2] = math.nan
    assert fails(testing.assert_matches, made([1.0]), {9: {"energy": x}}, bias=0.0)
    assert fails(testing.assert_matches, made([1.0]), {n: {"energy": x} for n in (10, 20)})
    assert fails(testing.assert_converges, made([1.0]), {n: {"energy": x} for n in (10, 20)})


def test_what_is_compared():
    parts = [
        Certified("a", np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.zeros(2), "x"),
        Certified("b", np.array([2.0]), np.array([3.0]), np.zeros(1), "x"),
    ]
    reference = Reference(CASE, 1e-3, tuple(parts), (), True)
    both = {"a": [1.0, 2.0], "b": [3.0]}
    assert len(testing.assert_matches(reference, both).rows) == 3
    report = testing.assert_matches(reference, {"a": [1.0, 2.0]})
    assert report.left_out == {"b": "no values are given"}
    assert testing.assert_matches(reference, both, observables=["b"]).left_out == {"a": "not asked for"}
    assert [row.time for row in testing.assert_matches(reference, {"a": [2.0], "b": [3.0]}, times=[2.0]).rows] == [2, 2]
    assert testing.assert_matches(reference, {"a": [1.0]}, times=[1.0]).left_out == {"b": "no values are given"}
    assert fails(testing.assert_matches, reference, both | {"b": [3.1]})
    with pytest.raises(ValueError, match="the reference has no 'c'; valid: 'a', 'b'"):
        testing.assert_matches(reference, both | {"c": [3.0]})
    with pytest.raises(ValueError, match=r"the reference has no t = 3; it has 1, 2"):
        testing.assert_matches(reference, both, times=[3.0])


# ---------------------------------------------------------------------------------------------------------------------
# replicas
# ---------------------------------------------------------------------------------------------------------------------


def symmetric(rng, shape):
    """Replicas without any skewness."""
    half = rng.standard_normal((shape[0] // 2, *shape[1:]))
    return np.concatenate([half, -half])


def test_replicas_have_the_interval_of_student():
    rng = np.random.default_rng(3)
    x = 1.0 + 0.1 * symmetric(rng, (12, 3))
    report = testing.assert_matches(
        made(np.ones(3), 0.01), {250: {"energy": x}}, bias=5.0, error=0.02, absolute=0.03, false_alarm=0.01
    )
    error = x.std(axis=0, ddof=1) / math.sqrt(12)
    t = stats.t.isf(0.01 / 2 / 3, 11)
    assert [row.mine for row in report.rows] == pytest.approx(x.mean(axis=0), rel=1e-13)
    allowed = 0.01 + 0.02 + 0.03 + 5.0 / 250 + t * error
    assert [row.allowed for row in report.rows] == pytest.approx(allowed, rel=1e-6)
    seen = allowed + 0.01 + stats.t.isf(0.1, 11) * error
    assert [row.visible for row in report.rows] == pytest.approx(seen, rel=1e-6)
    assert report.runs == ((250, 12),)
    assert "12 x 250; a right code fails with probability 0.01" in str(report)
    # the same as a sequence of mappings, one a replica
    again = testing.assert_matches(
        made(np.ones(3), 0.01), {250: [{"energy": row} for row in x]}, bias=5.0, error=0.02, absolute=0.03,
        false_alarm=0.01,
    )  # fmt: skip
    assert again.rows == report.rows


@pytest.mark.parametrize("skew", [-2.0, -0.5, -1e-4, 0.0, 1e-8, 0.3, 1.5])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_margin_is_where_both_statistics_reach_the_quantile(skew, sign):
    found = statistics._Combined(np.zeros(1), np.ones(1), np.array([9.0]), np.array([skew]))
    q = stats.t.isf(1e-3, 9)
    margin = float(found.margin(np.array([sign]), 1e-3)[0])
    T = sign * margin
    hall = T + skew * (2 * T**2 + 1) / 6 + skew**2 * T**3 / 27
    assert margin >= q * (1 - 1e-9)
    assert sign * hall >= q * (1 - 1e-6)
    assert min(margin - q, abs(sign * hall - q)) == pytest.approx(0.0, abs=1e-6)


def test_the_skewness_of_a_mean():
    """That of the values over the root of their number, and half as much again; of a combination by its cumulants."""
    rng = np.random.default_rng(2)
    x, y = rng.exponential(size=(20, 2)), rng.exponential(size=(30, 2))
    one = statistics._combined(np.array([-2.0]), [x])
    spread = x.std(axis=0, ddof=1)
    third = ((x - x.mean(axis=0)) ** 3).mean(axis=0)
    assert one.skew == pytest.approx(-1.5 * third / spread**3 / math.sqrt(20), rel=1e-12)
    both = statistics._combined(np.array([-1.0, 2.0]), [x, y])
    fourth = ((y - y.mean(axis=0)) ** 3).mean(axis=0)
    error = np.sqrt(spread**2 / 20 + 4 * y.var(axis=0, ddof=1) / 30)
    assert both.error == pytest.approx(error, rel=1e-12)
    assert both.skew == pytest.approx(1.5 * (-third / 20**2 + 8 * fourth / 30**2) / error**3, rel=1e-12)


def test_two_sizes_remove_the_bias():
    """The line through two means, its error after Welch and Satterthwaite."""
    rng = np.random.default_rng(4)
    runs = {
        100: {"energy": 1.0 + 3.0 / 100 + 0.1 * symmetric(rng, (16, 1))},
        400: {"energy": 1.0 + 3.0 / 400 + 0.05 * symmetric(rng, (12, 1))},
    }
    row = testing.assert_matches(made([1.0], 0.001), runs, false_alarm=0.02).rows[0]
    assert row.mine == pytest.approx(1.0, abs=1e-12)
    a, b = runs[100]["energy"][:, 0], runs[400]["energy"][:, 0]
    both = combine([-a / 3, 4 * b / 3], 0.0)
    # the second term of the bias: a quarter of the first, 3/100, at n = 100; here 3/4 * 100/n^2, in the limit 3/4/400
    expected = 0.001 + 0.75 / 400 + stats.t.isf(0.01, both.freedom) * both.error
    assert row.allowed == pytest.approx(expected, rel=1e-9)
    # of a test of convergence half is for the limits, half for the rates
    again = testing.assert_converges(made([1.0], 0.001), runs, false_alarm=0.04)
    assert again.rows == (row,)


def test_replicas_that_are_all_alike():
    """Deterministic starts: there is no spread, and nothing but the bars is allowed."""
    same = {n: {"energy": np.full((8, 1), 0.3)} for n in (10, 40)}
    report = testing.assert_matches(made([0.3 + 1e-9], 1.01e-9), same)
    assert report.rows[0].allowed == pytest.approx(1.01e-9, rel=1e-3)
    assert fails(testing.assert_matches, made([0.3 + 1e-9], 0.9e-9), same)
    assert testing.assert_converges(made([0.3], 1e-9), same).passed
    assert fails(testing.assert_converges, made([0.31], 1e-9), same)


def trials(rng, draw, reference, check, count, **named):
    return sum(fails(check, reference, draw(rng), **named) for _ in range(count))


TRUTH = np.array([1.0, 0.4, -0.2])


def particles(rng, n, replicas, bias, gap=0.0, law="normal"):
    """Means over n particles."""
    shape = (replicas, 3)
    z = {
        "normal": rng.standard_normal,
        "gamma": lambda s: (rng.gamma(8.0, size=s) - 8) / math.sqrt(8),
    }[law](shape)
    return {"energy": TRUTH + gap + bias / n + z / math.sqrt(n)}


COUNT = 300
LEVEL = 0.05
# more alarms than this come once in a million tests of a procedure of the stated level
MOST = int(stats.binom.isf(1e-6, COUNT, LEVEL))


@pytest.mark.parametrize("law", ["normal", "gamma"])
@pytest.mark.parametrize("replicas", [6, 16])
def test_a_right_code_fails_as_rarely_as_stated(replicas, law):
    rng = np.random.default_rng(replicas)
    if law == "gamma" and replicas == 6:
        replicas = 32
    exact, edge = made(TRUTH), made(TRUTH + 0.01 * np.array([1, -1, 1]), 0.01)
    found = {
        "one size": trials(
            rng, lambda r: {200: particles(r, 200, replicas, 0.0, law=law)}, exact, testing.assert_matches, COUNT,
            bias=0.0, false_alarm=LEVEL,
        ),
        "edge of the bars": trials(
            rng, lambda r: {9000: particles(r, 9000, replicas, 9.0, law=law)}, edge, testing.assert_matches, COUNT,
            bias=9.0, false_alarm=LEVEL,
        ),
        "two sizes": trials(
            rng, lambda r: {n: particles(r, n, replicas, 2.0, law=law) for n in (100, 400)}, exact,
            testing.assert_matches, COUNT, false_alarm=LEVEL,
        ),
        "rate": trials(
            rng, lambda r: {n: particles(r, n, replicas, 1.0, law=law) for n in (64, 256, 1024)}, exact,
            testing.assert_converges, COUNT, false_alarm=LEVEL,
        ),
    }  # fmt: skip
    assert all(count <= MOST for count in found.values()), (found, MOST)
    # and it is no test that never alarms
    assert found["one size"] >= stats.binom.isf(1 - 1e-4, COUNT, LEVEL / 4), found


def test_the_rate_alone_fails_as_rarely_as_stated():
    """Of one curve, on both sides, with bars that the errors use up."""
    rng = np.random.default_rng(11)
    sizes = (50, 100, 400)
    count = 0
    for _ in range(COUNT):
        case = cases.make_case(
            made([1.0]), {n: {"energy": 1 + rng.standard_normal((12, 1)) / math.sqrt(n)} for n in sizes}, None, None
        )
        (slope,) = statistics.slope_rows(case, {"energy": np.zeros(1)}, -0.5, LEVEL / 2, True)
        count += slope.fails
        assert slope.low <= slope.slope <= slope.high
    assert stats.binom.isf(1 - 1e-4, COUNT, LEVEL / 2) <= count <= MOST


def test_an_error_that_is_called_visible_is_seen():
    """At least nine times out of ten; the bound fails a right procedure once in a million."""
    rng = np.random.default_rng(5)
    least = int(stats.binom.isf(1 - 1e-6, 200, 0.88))
    reference = made(TRUTH)
    at = np.array([0, 0, 1])
    one = two = 0
    for _ in range(200):
        runs = {200: particles(rng, 200, 16, 0.0)}
        size = _visible(reference, runs, bias=0.0)
        one += fails(testing.assert_matches, reference, {200: particles(rng, 200, 16, 0.0, size * at)}, bias=0.0)
        runs = {n: particles(rng, n, 16, 2.0) for n in (100, 400)}
        size = _visible(reference, runs)
        again = {n: particles(rng, n, 16, 2.0, size * at) for n in (100, 400)}
        two += fails(testing.assert_matches, reference, again)
    assert one >= least
    assert two >= least


def _visible(reference, runs, **named):
    return testing.assert_matches(reference, runs, false_alarm=1e-3, **named).visible["energy"]


def test_what_does_not_converge_is_seen():
    """A lasting gap; noise that does not fall with n, though its mean is right; and one that falls faster."""
    rng = np.random.default_rng(6)
    sizes = (64, 256, 1024)

    def share(draw, count=60, **named):
        return trials(rng, draw, made(TRUTH), testing.assert_converges, count, **named) / count

    def noise(power):
        return lambda r: {n: {"energy": TRUTH + 0.1 * n**power * r.standard_normal((32, 3))} for n in sizes}

    assert share(lambda r: {n: particles(r, n, 16, 1.0, gap=0.08) for n in sizes}) > 0.95
    assert share(noise(0.0)) > 0.95
    assert share(noise(-0.2)) > 0.8
    assert share(noise(-0.5)) < 0.1
    assert share(noise(-1.0)) < 0.1
    assert share(noise(-1.0), two_sided=True) > 0.95
    assert share(noise(-0.25), rate=-0.25) < 0.1


def test_errors_within_the_bars_have_no_rate():
    rng = np.random.default_rng(7)
    runs = {n: {"energy": 1.0 + 1e-3 * rng.standard_normal((16, 1))} for n in (64, 256, 1024)}
    report = testing.assert_converges(made([1.0], 0.01), runs)
    assert report.slopes[0].low == -math.inf
    assert math.isnan(report.slopes[0].visible)
    assert "no rate is seen for energy: errors are within the bars" in str(report)
    with pytest.raises(AssertionError, match=r"! energy +1 +n\^-?0\.\d\d"):
        testing.assert_converges(made([1.0], 1e-5), runs)


@pytest.mark.parametrize("tail", [0.2, 0.01, 1e-4, 1e-7])
@pytest.mark.parametrize(("replicas", "accuracy"), [((8, 8), 0.005), ((16, 6), 0.005), ((3, 40), 0.02)])
def test_two_sizes_have_the_law_of_fisher(replicas, accuracy, tail):
    """The ratio of two mean squares of normal numbers."""
    half = 1 / math.log(4)
    found = statistics._log_chi_square((-half, half), tuple(map(float, replicas)), tail)
    assert found == pytest.approx(half * math.log(stats.f.isf(tail, replicas[1], replicas[0])), rel=accuracy)


def test_three_sizes_have_their_law():
    weights, freedom = (-0.4, 0.1, 0.3), (12.0, 6.0, 9.0)
    rng = np.random.default_rng(8)
    drawn = sum(c * np.log(rng.chisquare(v, 400_000) / v) for c, v in zip(weights, freedom, strict=True))
    for tail in (0.1, 1e-2, 1e-3):
        share = float(np.mean(drawn > statistics._log_chi_square(weights, freedom, tail)))
        assert share == pytest.approx(tail, rel=0.02, abs=5 * math.sqrt(tail / 400_000))


def test_slopes_and_what_bars_may_do_to_them():
    """Errors of n^-1/2 exactly, seen through a reference that is off by its bar."""
    n = np.array([100.0, 400.0])
    x = np.log(n) - np.log(n).mean()
    c = x / (x @ x)
    rms = n**-0.5
    assert statistics._extreme(c, rms, 0.0) == pytest.approx(-0.5, rel=1e-13)
    low = math.log((0.05 - 0.01) / (0.1 + 0.01)) / math.log(4)
    assert statistics._extreme(c, rms, 0.01) == pytest.approx(low, rel=1e-13)
    high = math.log((0.05 + 0.01) / (0.1 - 0.01)) / math.log(4)
    assert -statistics._extreme(-c, rms, 0.01) == pytest.approx(high, rel=1e-13)
    assert statistics._extreme(c, rms, 0.05) == -math.inf
    signs = np.array([1.0, -1.0] * 4)
    runs = {int(m): {"energy": (1.0 + signs / math.sqrt(m))[:, None]} for m in n}
    (slope,) = testing.assert_converges(made([1.0], 0.01), runs).slopes
    assert slope.slope == pytest.approx(-0.5, rel=1e-9)
    # all squares are equal: one degree of freedom a replica, level 1e-3 / 2
    f = math.log(stats.f.isf(5e-4, 8, 8)) / 2 / math.log(4)
    assert slope.low == pytest.approx(low - f, rel=0.01)
    assert slope.high == pytest.approx(high + f, rel=0.01)


@pytest.mark.parametrize(("ratio", "freedom"), [(0.5, 1.0), (2.0, 1.0), (4.0, 0.5), (100.0, 0.1)])
def test_heavy_tails_count_as_fewer_replicas(ratio, freedom):
    """A variance of the squares of `ratio` times their mean squared; 2 for a normal number."""
    half = math.sqrt(ratio * 15 / 16)
    squares = 1.0 + half * np.array([1.0, -1.0] * 8)
    assert statistics._freedom([squares, 3 * squares]) == pytest.approx(freedom, abs=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# recorded runs
# ---------------------------------------------------------------------------------------------------------------------


def train(reference, n, seed, *, weights=None, speed=1.0, shift=0.0, dtype=float):
    """Gradient descent on the linear neuron: exact, as the mean decays exponentially."""
    problem = reference.problem
    theta = problem.mu_0.sample(n, np.random.default_rng((n, seed)))[:, 0]
    recorder = testing.ParticleRecorder(reference)
    for t in (0.5, 1.0):
        moved = theta + (2.0 - theta.mean()) * (1 - math.exp(-speed * t)) + shift * t
        recorder.record(t, moved.astype(dtype), None if weights is None else weights(n, t))
    return recorder


@pytest.fixture(scope="module")
def reference():
    return mf.reference(CASE, 1e-6, [mf.EnergyAt(), mf.Moment("theta"), mf.Moment("theta", 2)], times=[0.5, 1.0])


def recorded(reference, sizes=(50, 200), replicas=12, **named):
    return {n: [train(reference, n, seed, **named) for seed in range(replicas)] for n in sizes}


def test_recorders_are_compared(reference):
    report = testing.assert_matches(reference, recorded(reference))
    assert report.runs == ((50, 12), (200, 12))
    assert {row.what for row in report.rows} == {"mass", "energy", "moment theta^1", "moment theta^2"}
    assert testing.assert_matches(reference, recorded(reference, (300,))[300], bias=3.0).runs == ((300, 12),)
    assert testing.assert_converges(reference, recorded(reference, (50, 200, 800), dtype=np.float32)).passed
    # one run, with a stated error, at one time
    assert testing.assert_matches(reference, train(reference, 400, 1), absolute=0.5, times=[1.0]).passed
    for mistake in ({"speed": 0.8}, {"shift": 0.3}):
        with pytest.raises(AssertionError, match="! energy"):
            testing.assert_matches(reference, recorded(reference, **mistake))
        with pytest.raises(AssertionError, match="! energy"):
            testing.assert_converges(reference, recorded(reference, **mistake))


@pytest.mark.parametrize("check", [testing.assert_matches, testing.assert_converges])
def test_mass_that_is_lost_is_seen(reference, check):
    assert check(reference, recorded(reference, weights=lambda n, t: np.full(n, 1 / n))).passed
    single = lambda n, t: np.full(n, 1 / n, dtype=np.float32)  # noqa: E731
    assert check(reference, recorded(reference, weights=single)).passed
    with pytest.raises(AssertionError, match=r"! mass +1 +1 +1 +0 +1e-09 +\+1e-08"):
        check(reference, recorded(reference, weights=lambda n, t: np.full(n, (1 + 1e-8 * (t > 0.5)) / n)))
    with pytest.raises(AssertionError, match=r"! mass"):
        check(reference, recorded(reference, weights=lambda n, t: np.ones(n)))


def test_particles_that_run_away_fail(reference):
    with pytest.raises(AssertionError, match=r"! share of particles in the box"):
        testing.assert_matches(reference, recorded(reference, shift=100.0))


def test_regions_that_hold_few_particles():
    """A share of 1e-3: of 12 runs of 50 there is often none in it, and none has no spread."""
    law = stats.norm()
    edge = float(law.isf(1e-3))
    box = mf.MassIn({"theta": (edge, 9.0)}, 1.0)
    bins = mf.Marginal("theta", [0.0, edge, edge + 2.0], 1.0)
    p = 1e-3 - law.sf(edge + 2.0)
    tail = Certified("tail", np.ones(1), np.array([1e-3]), np.zeros(1), "x", observable=box)
    density = np.array([[(0.5 - 1e-3) / edge, p / 2]])
    marginal = Certified("marginal", np.ones(1), density, np.zeros((1, 2)), "x", observable=bins)
    reference = Reference(replace(CASE, axes=[mf.Axis("theta", -9.0, 9.0)]), 1e-3, (tail, marginal), (), True)
    rng = np.random.default_rng(9)

    def draw(n, shift=0.0):
        recorder = testing.ParticleRecorder(reference)
        recorder.record(1.0, rng.standard_normal(n) + shift)
        return recorder

    alarms = empty = 0
    for _ in range(100):
        runs = {n: [draw(n) for _ in range(12)] for n in (50, 100)}
        empty += all(run.values("tail")[0] == 0 for run in runs[100])
        alarms += fails(testing.assert_converges, reference, runs, false_alarm=LEVEL)
        alarms += fails(testing.assert_matches, reference, runs[50], bias=0.0, false_alarm=LEVEL)
    assert empty > 15
    assert alarms <= stats.binom.isf(1e-6, 200, LEVEL)
    report = testing.assert_converges(reference, runs, false_alarm=LEVEL)
    assert report.left_out == {"rate of tail at t = 1": "fewer than 100 particles are expected there"}
    assert [slope.what for slope in report.slopes] == ["marginal"]
    # the inequality of Bernstein, for the 600 particles there are
    log = -math.log(1e-3 / 2 / 3)
    report = testing.assert_matches(reference, runs[50], bias=0.0)
    (row,) = (row for row in report.rows if row.what == "tail")
    assert row.allowed >= math.sqrt(2 * log * 1e-3 / 600) + log / 600
    # weights count as the particles they are worth
    heavy = [testing.ParticleRecorder(reference) for _ in range(4)]
    for run in heavy:
        run.record(1.0, rng.standard_normal(50), np.r_[np.full(10, 0.1), np.zeros(40)])
    report = testing.assert_matches(reference, heavy, bias=0.0, absolute=0.2)
    (row,) = (row for row in report.rows if row.what == "tail")
    assert row.allowed >= 0.2 + math.sqrt(2 * log * 1e-3 / 40) + log / 40
    # none where there should be 48 of 48000 is seen
    with pytest.raises(AssertionError, match="! tail "):
        testing.assert_matches(reference, [draw(4000, shift=-3.0) for _ in range(12)], bias=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# what does not fit
# ---------------------------------------------------------------------------------------------------------------------

ONE = {"energy": [1.0, 2.0]}
MANY = {"energy": np.array([[1.0, 2.0], [1.1, 1.9]])}


@pytest.mark.parametrize(
    ("values", "named", "match"),
    [
        (ONE, {"error": -0.1}, "error must be finite and not negative"),
        (ONE, {"error": {"mass": 0.1}}, "error names 'mass'; the observables compared are energy"),
        (ONE, {"absolute": {"energy": [1.0, 2.0, 3.0]}}, r"must be one number, or \(2,\) of them"),
        (ONE, {"false_alarm": 0.0}, "false_alarm must lie between 1e-12 and 0.5, not 0.0"),
        ({"energy": [1.0]}, {}, r"'energy' must have shape \(2,\) or \(replicas, 2\), of the times 1, 2; not \(1,\)"),
        ([{"energy": [1.0]}, {"energy": [2.0]}], {}, r"'energy' must have shape \(2,\), of the times"),
        ({"energy": ["a", "b"]}, {}, r"values\['energy'\] (cannot|must)"),
        ([], {}, "values must be a ParticleRecorder or a mapping"),
        ({}, {}, "nothing is left to compare: energy: no values are given"),
        ("energy", {}, "values must be a ParticleRecorder or a mapping"),
        ([ONE, 3], {}, "values must be a ParticleRecorder or a mapping"),
        ([ONE, {}], {}, "must have the same observables"),
        ([ONE, testing.ParticleRecorder(CASE)], {}, "replicas must all be mappings"),
        ({0: MANY}, {}, "a number of particles must be at least 1, not 0"),
        (MANY, {}, r"replicas of one size: state bias="),
        (MANY, {"bias": 1.0}, "a bias C/n needs n"),
        ({5: MANY}, {"bias": {"energy": [1.0, 2.0]}}, "the bias of 'energy' must be one number"),
        ({5: MANY, 9: MANY}, {"bias": 0.0}, "with several sizes the bias is estimated"),
        ({5: MANY, 9: ONE}, {}, "n = 9 has one replica and thus no error bar; give 16"),
    ],
)
def test_arguments_that_do_not_fit(values, named, match):
    with pytest.raises(ValueError, match=match) as caught:
        testing.assert_matches(made([1.0, 2.0]), values, **named)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runs", "named", "match"),
    [
        (MANY, {}, "runs_by_size must map numbers of particles to replicas"),
        ({9: MANY}, {}, "a rate needs 2 sizes or more, not 1"),
        ({9: MANY, 90: MANY}, {"rate": 0.5}, "rate must be negative"),
        ({9: ONE, 90: MANY}, {}, "n = 9 has one replica"),
    ],
)
def test_runs_that_do_not_fit(runs, named, match):
    with pytest.raises(ValueError, match=match):
        testing.assert_converges(made([1.0, 2.0]), runs, **named)


def test_recorders_that_do_not_fit(reference):
    one = train(reference, 30, 0)
    with pytest.raises(ValueError, match="one run of particles says nothing of its error"):
        testing.assert_matches(reference, one)
    with pytest.raises(ValueError, match="replicas of one size have 30 and 40 particles"):
        testing.assert_matches(reference, [one, train(reference, 40, 0)], bias=0.0)
    with pytest.raises(ValueError, match="have 30 particles, under the key 40"):
        testing.assert_matches(reference, {40: [one, train(reference, 30, 1)]}, bias=0.0)
    with pytest.raises(ValueError, match="must be a Reference, not"):
        testing.assert_matches(CASE, one)
    other = testing.ParticleRecorder(mf.problems.linear_neuron(alpha=1.0))
    with pytest.raises(ValueError, match="a recorder is of another problem 'linear-neuron' than the reference"):
        testing.assert_matches(reference, other, error=0.1)
    with pytest.raises(ValueError, match=r"t = 0\.5 is not recorded \(there are none\)"):
        testing.assert_matches(reference, testing.ParticleRecorder(reference), error=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# the plugin
# ---------------------------------------------------------------------------------------------------------------------


MY_CODE = """
import numpy as np

def train(n, seed, step):
    rng = np.random.default_rng(seed)
    x, dx = np.linspace(-7, 7, 29, retstep=True)
    target = 0.6 * np.exp(-((x + 2) ** 2) / 2) + 0.4 * np.exp(-((x - 1.5) ** 2) / 2)
    z = rng.normal(0, 0.8, n)
    for k in range(round(2 / step) + 1):
        yield k * step, z
        units = np.exp(-((x - z[:, None]) ** 2) / 2)
        gap = (units.mean(axis=0) - target) * dx
        V = units @ gap
        z = z - step * ((x - z[:, None]) * units) @ gap
        rate = V - V.mean()
        happens = rng.random(n) < step * abs(rate)
        dies, doubles = np.flatnonzero(happens & (rate > 0)), np.flatnonzero(happens & (rate < 0))
        z[dies] = z[rng.integers(n, size=len(dies))]
        z[rng.integers(n, size=len(doubles))] = z[doubles]
"""


FIXTURE = """
import mfpde
import pytest

def test_one(mean_field_reference):
    reference = mean_field_reference("mine.h5")
    assert isinstance(reference, mfpde.Reference)
    assert reference.problem.name == "linear-neuron"
    assert reference is mean_field_reference("mine.h5")
    mfpde.testing.assert_matches(reference, {"energy": reference["energy"].value})

def test_failure(mean_field_reference):
    reference = mean_field_reference("mine.h5")
    mfpde.testing.assert_matches(reference, {"energy": 2 * reference["energy"].value})

def test_shipped(mean_field_reference):
    assert mean_field_reference("three-gaussians").problem.name == "three-gaussians"

def test_unknown(mean_field_reference):
    with pytest.raises(ValueError, match="unknown reference 'nothing'; valid: "):
        mean_field_reference("nothing")
"""


def test_the_plugin_gives_references(tmp_path, reference):
    """In a process of its own: pytest within pytest takes modules apart that were imported meanwhile."""
    from mfpde.verification.references.file import save_reference

    save_reference(reference, tmp_path / "mine.h5")
    example = (ROOT / "docs" / "references.md").read_text().split("```python\n")[1].split("```")[0]
    for name, text in (("my_code.py", MY_CODE), ("test_example.py", example), ("test_fixture.py", FIXTURE)):
        (tmp_path / name).write_text(text)
    found = python("-m", "pytest", "-p", "mfpde.pytest_plugin", "-p", "no:cacheprovider", "--color=no", cwd=tmp_path)
    assert "1 failed, 4 passed" in found.stdout, found.stdout + found.stderr
    assert "FAILED test_fixture.py::test_failure - AssertionError: particles do not" in found.stdout
    assert "what       time           mine" in found.stdout
    # the failure is shown where the user's test is
    assert "raise AssertionError" not in found.stdout


def test_the_plugin_is_light():
    code = (
        "import sys, mfpde.pytest_plugin\n"
        "names = 'numpy', 'scipy', 'numba', 'mfpde.testing', 'mfpde.verification.references.reference'\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert printed_by(code) == "[]\n"
    code = (
        "import sys, mfpde\nmfpde.testing\nprint([name for name in ('pytest', 'torch', 'jax') if name in sys.modules])"
    )
    assert printed_by(code) == "[]\n"


def test_the_plugin_is_found_by_the_name_of_its_module():
    """Under another name pytest would refuse it where somebody names the module with -p as well."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"mfpde.pytest_plugin": "mfpde.pytest_plugin"}
    assert not any(requirement.startswith("pytest") for requirement in project["dependencies"])


def test_the_quantile_of_student_is_the_one_of_scipy():
    assert -special.stdtrit(7.3, 1e-6) == pytest.approx(stats.t.isf(1e-6, 7.3), rel=1e-8)
