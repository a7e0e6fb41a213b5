"""How runs are stopped: limits, ends of the mesh that mass reaches, memory that is not there, time that is over."""

from __future__ import annotations

import math
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import mfpde as mf
from mfpde.mesh import memory
from mfpde.mesh.memory import run_memory
from mfpde.mesh.options import RunOptions
from mfpde.mesh.record import Result


def small(**changes) -> mf.Problem:
    """Mass that flows towards the lower end of a box."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.TruncationWarning)
        problem = mf.problems.gaussian_bumps(centres=(-3.5, 1.5), half_width=4.0, t_end=3.0)
        return replace(problem, **changes) if changes else problem


def rising() -> dict:
    """A run whose energy rises: an explicit potential, and steps that are too long for it."""
    return {
        "problem": mf.problems.torus_langevin(weight=20.0),
        "t_end": 10.0,
        "scheme": mf.ScharfetterGummel(),
        "method": mf.ImplicitStrang(mf.Potential.START),
        "controller": mf.FixedStep(1.0),
        "progress": False,
    }


@pytest.mark.filterwarnings("ignore:.*which the mesh does not resolve")
def test_an_energy_that_rises_is_a_warning_or_a_failure():
    with pytest.warns(mf.RunWarning, match=r"the energy rose by .* take Potential.AVERAGE"):
        whole = mf.solve(**rising())
    energy = whole.diagnostics["energy"]
    first = int(np.argmax(np.diff(energy) > 0.0)) + 1
    rise = (energy[first] - energy[first - 1]) / np.abs(energy[: first + 1]).max()
    assert rise > 1e-3
    worst = (np.diff(energy) / np.maximum.accumulate(np.abs(energy))[1:]).max()
    with (
        pytest.warns(mf.RunWarning, match="the energy rose"),
        pytest.raises(mf.SolveError, match="rose in a step") as caught,
    ):
        mf.solve(**rising(), limits=mf.Limits(energy_increase=0.999 * rise))
    stopped = caught.value.solution
    assert stopped.result is Result.ENERGY_ROSE
    assert np.array_equal(stopped.diagnostics["energy"], energy[: first + 1])
    assert stopped.times[-1] == stopped.state.t == whole.diagnostics["time"][first]
    with pytest.warns(mf.RunWarning, match="the energy rose"):
        allowed = mf.solve(**rising(), limits=mf.Limits(energy_increase=1.001 * worst))
    assert allowed.result is Result.SUCCESS


def test_mass_that_drifts_is_a_failure(tmp_path):
    settings = {"shape": 60, "t_end": 1.0, "progress": False}
    whole = mf.solve(mf.problems.gaussian_bumps(), **settings)
    drift = np.abs(whole.diagnostics["mass"] / whole.diagnostics["mass"][0] - 1.0)
    assert 0.0 < drift.max() < 1e-12
    limit = 0.5 * drift.max()
    path = tmp_path / "run.h5"
    with pytest.raises(mf.SolveError, match="mass drifted"):
        mf.solve(mf.problems.gaussian_bumps(), **settings, limits=mf.Limits(mass_drift=limit), output=path)
    stopped = mf.load(path)
    assert stopped.result is Result.MASS_DRIFTED
    assert stopped.stats["steps"] == int(np.argmax(drift > limit))
    assert stopped.configuration["limits"] == repr(mf.Limits(mass_drift=float(limit)))
    # the limit is the file's, and still holds when the run goes on
    assert mf.resume(path, throw=False, progress=False).result in (Result.MASS_DRIFTED, Result.SUCCESS)
    unbalanced = replace(mf.problems.gaussian_bumps(), reaction=mf.Reaction.UNBALANCED)
    assert mf.solve(unbalanced, **settings, limits=mf.Limits(mass_drift=limit)).result is Result.SUCCESS


@pytest.mark.parametrize("name", ["energy_increase", "mass_drift", "end_mass"])
@pytest.mark.parametrize("value", [-1e-3, math.nan, "1e-3", None, True])
def test_odd_limits_are_refused(name, value):
    with pytest.raises(ValueError, match=f"Limits: {name} must be a number of at least 0, not {value!r}"):
        mf.Limits(**{name: value})


def test_mass_at_an_end_is_a_warning_or_stops_the_run():
    with pytest.warns(mf.RunWarning, match="of the mass lies at a truncation end"):
        whole = mf.solve(small(), 60, progress=False)
    assert whole.result is Result.SUCCESS
    ends = whole.diagnostics["end_mass"]
    first = int(np.argmax(ends > max(1e-6, 2 * ends[0])))
    assert 0 < first < len(ends) - 1
    for mode in (mf.OnEndMass.STOP, "stop"):
        with pytest.warns(mf.RunWarning), pytest.raises(mf.SolveError, match='on_end_mass="extend"') as caught:
            mf.solve(small(), 60, on_end_mass=mode, progress=False)
        assert caught.value.solution.result is Result.END_MASS
        assert caught.value.solution.stats["steps"] == first
    later = mf.Limits(end_mass=1e-4)
    with pytest.warns(mf.RunWarning):
        stopped = mf.solve(small(), 60, on_end_mass="stop", limits=later, throw=False, progress=False)
    assert stopped.stats["steps"] == int(np.argmax(ends > 1e-4)) > first
    assert not mf.solve(small(), 60, limits=mf.Limits(end_mass=1.0), progress=False).warnings


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_box_that_is_too_small_is_extended(place, tmp_path):
    output = tmp_path / "run.h5" if place == "file" else None
    with pytest.warns(mf.RunWarning, match=r"started again with x from \[-4, 4\] to \[-6, 6\]"):
        found = mf.solve(small(), 60, on_end_mass="extend", output=output, progress=False)
    assert found.result is Result.SUCCESS
    assert found.grid.shape == (90,)
    assert found.grid.spacing == pytest.approx((8 / 60,), rel=1e-14)
    larger = replace(small(), axes=[mf.Axis("x", -6, 6)])
    same = mf.solve(larger, 90, progress=False)
    assert np.array_equal(found.density, same.density)
    assert found.problem.fingerprint() == larger.fingerprint()
    if output is not None:
        loaded = mf.load(output)
        assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]
        assert np.array_equal(loaded.density, same.density)
        assert loaded.problem.fingerprint() == larger.fingerprint()
        assert loaded.warnings == found.warnings
        assert mf.resume(output, 4.0, progress=False).grid.shape == (90,)


def test_only_the_ends_that_mass_has_reached_move():
    problem = mf.Problem(
        energy=mf.External(lambda x, y: 3.0 * x + 0.0 * y),
        axes=[mf.Axis("x", -2, 2, (mf.End.TRUNCATION, mf.End.TRUNCATION)), mf.Axis("y", 0, 1, mf.End.PERIODIC)],
        initial=mf.Product(x=stats.norm(0, 0.3), y=stats.uniform(0, 1)),
        t_end=1.0,
    )
    with pytest.warns(mf.RunWarning, match="started again") as caught:
        found = mf.solve(problem, (40, 8), on_end_mass="extend", progress=False)
    assert found.grid.axes[1] == problem.axes[1]
    assert found.grid.axes[0].upper == 2.0
    assert found.grid.axes[0].lower < -4.0
    assert len(caught) == len(found.warnings) > 1
    assert found.diagnostics["end_mass"].max() < 1e-6


def test_what_cannot_be_extended_says_so():
    problem = small()
    start = problem.mu_0.point_values(problem.grid(60))
    with pytest.raises(ValueError, match="initial must be a measure, or left out"):
        mf.solve(problem, 60, on_end_mass="extend", initial=start, progress=False)
    with pytest.raises(ValueError, match="unknown on_end_mass 'sometimes'; valid: 'warn', 'stop', 'extend'"):
        mf.solve(problem, 60, on_end_mass="sometimes", progress=False)


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_box_that_cannot_be_extended_keeps_the_run(place, tmp_path):
    """The energy has no values beyond the box: what there is comes with the failure, and says why."""
    output = tmp_path / "run.h5" if place == "file" else None
    axes = [mf.Axis("x", -2, 2)]
    energy = mf.External(lambda x: 3.0 * np.sqrt(np.where(np.abs(x) <= 2.0, 2.0 + x, np.nan)))
    problem = mf.Problem(energy, axes, mf.Product(x=stats.norm(0.5, 0.2)), t_end=1.0)
    arguments = {"on_end_mass": "extend", "output": output, "progress": False}
    reason = "could not be extended: the external potential is nan at x = -"
    with pytest.warns(mf.RunWarning, match="lies at a truncation end"), pytest.warns(mf.RunWarning, match=reason):
        found = mf.solve(problem, 60, throw=False, **arguments)
    assert found.result is Result.END_MASS
    assert found.stats["steps"] > 3
    assert found.grid.axes == tuple(axes)
    assert np.all(np.isfinite(found.density))
    if output is not None:
        assert np.array_equal(mf.load(output).density, found.density)
    with pytest.warns(mf.RunWarning), pytest.raises(mf.SolveError, match="mass reached a truncation end"):
        mf.solve(problem, 60, overwrite=True, **arguments)


def test_memory_that_is_not_there_is_named_before_it_is_taken(monkeypatch):
    problem = mf.problems.three_gaussians()
    there = int(run_memory(problem, RunOptions(estimate=False), problem.grid((70, 70))).total)
    monkeypatch.setattr(memory, "available", lambda: there)
    mf.solve(problem, (30, 40), t_end=1e-3, progress=False)  # so few that nobody asks
    monkeypatch.setattr(memory, "SMALL", 0)
    message = r"10000 cells and 11 saved densities \(.*\) need about .* GiB of memory, there are .* GiB .*; "
    with pytest.raises(MemoryError, match=message + r"use at most (69 x 69|70 x 70) cells"):
        mf.solve(problem, (100, 100), progress=False)
    monkeypatch.setattr(memory, "available", lambda: None)
    mf.solve(problem, (30, 40), t_end=1e-3, progress=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("time_limit", 0.0), ("time_limit", math.nan), ("checkpoint", -1), ("max_steps", 0), ("max_steps", 1.5)],
)
def test_odd_manners_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* not {value!r}"):
        mf.solve(mf.problems.linear_neuron(), 40, **{name: value})


def test_signals_are_as_before_after_a_run():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mf.solve(mf.problems.linear_neuron(), 40, t_end=0.1, progress=False)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_rounding_does_not_add_up():
    """Short steps all round the mass the same way; what a step loses by more than rounding is not given back."""

    class Losing(mf.CompiledAlgebra):
        def finish(self, mu, factor):
            return super().finish(mu, factor * (1 - self.loss))

    losing = Losing()

    def run(loss, **settings):
        losing.loss = loss
        return mf.solve(
            mf.problems.gaussian_bumps(), 26, t_end=2e-3, scheme=mf.Muscl(), controller=mf.FixedStep(1e-6),
            progress=False, save=2, algebra=losing, **settings,
        )  # fmt: skip

    whole = run(4e-16)
    assert 9e-14 < whole.stats["mass_drift"] < 1.05e-13
    assert abs(whole.stats["leak"]) < 1e-17
    begun = run(4e-16, max_steps=1100, throw=False)
    assert begun.result is Result.MAX_STEPS
    resumed = mf.resume(begun, max_steps=10_000, progress=False, algebra=losing)
    np.testing.assert_array_equal(resumed.state.mu, whole.state.mu)
    np.testing.assert_array_equal(resumed.diagnostics["mass"], whole.diagnostics["mass"])

    with pytest.warns(mf.RunWarning, match="mass"):
        assert run(3e-14).stats["mass_drift"] == pytest.approx(2000 * 3e-14, rel=1e-2)
