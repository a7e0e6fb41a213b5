"""The benchmarks' own mathematics: discretisations of the peers, what counts as accurate, what is said of a race."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

import mfpde as mf
from validation.benchmarks import __main__ as command
from validation.benchmarks._work import FewBumps, FewUnits, Work, few_modes, mesh
from validation.benchmarks.peers._lines import Lines, central_weights, right_hand_side, second_weights
from validation.benchmarks.smooth import lines, ours, worker
from validation.benchmarks.smooth import race as smooth_race
from validation.benchmarks.smooth.choice import (
    SAVES,
    TARGETS,
    Curve,
    Trial,
    Way,
    cheapest,
    end_error,
    error_of,
    fewest_cells,
)
from validation.benchmarks.smooth.reference import curve_of_lines
from validation.benchmarks.smooth.table import ESTIMATED, HINDSIGHT, ratio

CENTRAL = [line for line in Lines if line.order]
BY = lines.Discretisation(Lines.CENTRAL_8, 28)


# ---------------------------------------------------------------------------------------------------------------------
# what the peers are
# ---------------------------------------------------------------------------------------------------------------------


def test_central_weights_are_those_of_the_literature() -> None:
    # Fornberg, Generation of finite difference formulas, Math. Comp. 51 (1988), table 1, first derivative
    assert central_weights(2) == pytest.approx([1 / 2], rel=1e-15)
    assert central_weights(4) == pytest.approx([2 / 3, -1 / 12], rel=1e-15)
    assert central_weights(6) == pytest.approx([3 / 4, -3 / 20, 1 / 60], rel=1e-15)
    assert central_weights(8) == pytest.approx([4 / 5, -1 / 5, 4 / 105, -1 / 280], rel=1e-15)


def test_weights_of_second_differences_are_those_of_the_literature() -> None:
    # Fornberg, the same table, second derivative
    assert second_weights(2) == pytest.approx([1], rel=1e-15)
    assert second_weights(4) == pytest.approx([4 / 3, -1 / 12], rel=1e-15)
    assert second_weights(6) == pytest.approx([3 / 2, -3 / 20, 1 / 90], rel=1e-15)
    assert second_weights(8) == pytest.approx([8 / 5, -1 / 5, 8 / 315, -1 / 560], rel=1e-15)


@pytest.mark.parametrize("line", CENTRAL)
def test_a_temperature_adds_diffusion(line: Lines) -> None:
    # what it adds to the rate is tau times the second derivative of the Gaussian start, known at each centre
    cold, warm = few_modes(Work.BUMPS_1D, 400), few_modes(Work.NOISE, 400)
    mu, x, variance = np.asarray(warm.initial), warm.x, Work.NOISE.std**2
    inside = slice(8, -8)  # the differences lose what reaches the ends
    added = right_hand_side(line, warm)(mu) - right_hand_side(line, cold)(mu)
    expected = Work.NOISE.temperature * (x**2 / variance - 1) / variance * mu
    # order two: h^2 / 12 of the fourth derivative, 3 / variance^2 of the density at most, which is 4e-4 of the second
    assert np.abs(added - expected)[inside].max() <= (5e-4 if line.order == 2 else 1e-6) * np.abs(expected).max()
    assert np.abs(expected).max() > 1e-3
    with pytest.raises(ValueError, match=r"fourier has no temperature, gaussian-bumps-1d-noise has 0\.01"):
        right_hand_side(Lines.FOURIER, warm)


@pytest.mark.parametrize("work", Work)
def test_a_work_is_the_problem_of_the_package(work: Work) -> None:
    # the same energy and potential of the same measure, and of a problem with noise the temperature: on cells of the
    # mesh the package sums as midpoint rules do, the peers' arrays are made without it
    problem, on = work.problem(), mesh(work, 24)
    assert problem.temperature(0.0) == work.temperature
    mu = np.asarray(on.initial)
    nodes = np.stack(np.meshgrid(*[on.x] * work.dimension, indexing="ij"), axis=-1).reshape(-1, work.dimension)
    bound, weights = problem.bound_energy, on.volume * mu.ravel()
    response = bound.response(nodes, weights)
    assert float(on.energy(mu)) == pytest.approx(bound.energy(nodes, weights, response), rel=1e-10)
    potential = bound.potential(nodes, response)
    np.testing.assert_allclose(on.potential(mu).ravel(), potential, atol=1e-10 * np.abs(potential).max())


@pytest.mark.parametrize(
    ("work", "line", "n"),
    [(Work.BUMPS_1D, line, 63) for line in CENTRAL]
    + [(work, Lines.CENTRAL_4, {1: 27, 2: 27, 3: 21}[work.dimension]) for work in Work],
)
def test_lines_have_their_order(work: Work, line: Lines, n: int) -> None:
    # centres of n cells are every third one of 3 n; errors of order p against `ends` times as many cells are
    # C (1 - ends^-p) and C (3^-p - ends^-p)
    rates = []
    ends = 5 if work.dimension == 3 else 9
    for cells in (n, 3 * n, ends * n):
        on = few_modes(work, cells)
        mu = np.asarray(on.initial)
        every = cells // n
        rates.append(right_hand_side(line, on)(mu)[(slice(every // 2, None, every),) * work.dimension])
    first, second = (float(np.abs(rate - rates[2]).max()) for rate in rates[:2])
    p = line.order
    shrinks = (1 - ends**-p) / (3**-p - ends**-p)
    # the finest rates round at 1e-13
    assert second < 1e-10 or math.log(first / second, 3) == pytest.approx(math.log(shrinks, 3), abs=0.35)
    assert second < first


@pytest.mark.parametrize("work", Work)
def test_few_modes_are_the_whole_kernel(work: Work) -> None:
    # modes below 1e-8 of the largest are left out
    n = {1: 60, 2: 60, 3: 24}[work.dimension]
    whole, few = mesh(work, n), few_modes(work, n)
    mu = np.asarray(whole.initial) * (1 + 0.5 * np.sin(whole.x))
    for expected, found in zip(whole.gradient(mu), few.gradient(mu), strict=True):
        assert np.abs(found - expected).max() <= 1e-8 * np.abs(expected).max()
    assert isinstance(few, FewBumps | FewUnits)
    assert len(few.modes[0]) < (50 if work is Work.NETWORK_3D else 30)
    # fewer are as good as their cut says
    fewer = few_modes(work, n, cut=1e-4)
    assert isinstance(fewer, FewBumps | FewUnits)
    assert len(fewer.modes[0]) < len(few.modes[0])
    for expected, found in zip(whole.gradient(mu), fewer.gradient(mu), strict=True):
        assert 1e-8 * np.abs(expected).max() < np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_reference_shares_nothing_with_the_nodes() -> None:
    # central differences on a mesh and nodes that move: 80 cells leave 2e-7
    energy, densities, _ = curve_of_lines(mesh(Work.BUMPS_1D, 80), Lines.CENTRAL_8, 1e-9)
    exact = mf.characteristics(Work.BUMPS_1D.problem(), save=SAVES, tolerance=1e-8, progress=False)
    assert densities.shape == (len(SAVES), 80)
    assert error_of(energy, exact.energy) < 3e-7


def test_reference_of_the_network_is_out_of_reach_of_the_walls() -> None:
    # the same cells, with and without some beyond the box: central differences lose what reaches the ends of the box,
    # 9e-11 of the mass by t = 2, but not what is two more standard deviations away
    lost = []
    for on in (mesh(Work.NETWORK, 64), mesh(Work.NETWORK, 80, margin=1.0)):
        assert on.h == pytest.approx(0.125, rel=1e-15)
        _, densities, _ = curve_of_lines(on, Lines.CENTRAL_8, 1e-9)
        lost.append(abs(float(densities[-1].sum()) * on.volume - 1))
    assert lost[1] < 1e-14 < 1e-12 < lost[0]


@pytest.mark.parametrize("method", lines.SCIPY_METHODS)
def test_scipy_gives_the_curve(method: str) -> None:
    on = mesh(Work.BUMPS_1D, 48)
    exact, *_ = curve_of_lines(on, Lines.CENTRAL_8, 1e-10)
    found = list(lines.scipy_trials(Work.BUMPS_1D, BY._replace(n=48), method, exact, tolerances=(1e-4, 1e-8)))
    assert [trial.way.tolerance for trial in found] == [1e-4, 1e-8]
    # the lower tolerance by some orders, the curve of the same mesh
    assert error_of(found[1].curve.energy, exact) < 1e-6
    assert error_of(found[1].curve.energy, exact) < error_of(found[0].curve.energy, exact)


def test_tolerances_are_lowered_as_long_as_that_brings_something() -> None:
    exact, *_ = curve_of_lines(mesh(Work.BUMPS_1D, 80), Lines.CENTRAL_8, 1e-10)
    coarse, fine = (
        [trial.way.tolerance for trial in lines.scipy_trials(Work.BUMPS_1D, BY._replace(n=n), "RK45", exact)]
        for n in (20, 72)
    )
    # 20 cells leave 2e-4, which steps of 1e-6 leave as it is; of 72 cells 3e-8 is asked for
    assert coarse == list(lines.TOLERANCES[: len(coarse)])
    assert fine == list(lines.TOLERANCES[: len(fine)])
    assert 1e-6 < min(coarse) < 1e-3
    assert min(fine) <= 1e-5


def test_known_ways_are_tried_and_no_others() -> None:
    exact = np.ones(len(SAVES))
    by = BY._replace(margin=-0.5, cut=1e-5)
    (wanted,) = lines.scipy_trials(Work.BUMPS_1D, by, "RK45", exact, tolerances=(1e-3,))
    assert str(wanted.way) == (
        "central-8, RK45, 28, box narrower by 0.5 at each end, modes above 1e-05, tolerance 1e-03"
    )
    (found,) = lines.known_trials(Work.BUMPS_1D, [wanted.way])
    assert found.way == wanted.way
    np.testing.assert_array_equal(found.curve.energy, wanted.curve.energy)


def test_what_a_search_found_is_taken_by_the_next_race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, given = "gaussian-bumps-1d", []
    ways = [
        {"method": method, "variant": "central-8, x", "size": [8], "tolerance": 1e-3, "first_step": 0.0}
        for method in ("SciPy", "diffrax")
    ]
    found = {"reference": {"energy": [0.3, 0.1]}, "ways": ways}

    def measured(name: str, quick: bool, known: Any, progress: Any) -> dict[str, Any]:
        given.append(known)
        return {**found, "curve": {}}

    monkeypatch.setattr(smooth_race, "KNOWN", tmp_path / "known.json")
    monkeypatch.setattr(smooth_race, "_worker", measured)
    for anew in (False, False, True):
        smooth_race.race(False, print, [name], anew=anew)
    assert given == [{}, found, {}]
    # without one of the peers nothing is known
    found["ways"] = ways[:1]
    smooth_race.race(False, print, ["tanh-network"])
    assert json.loads((tmp_path / "known.json").read_text(encoding="utf-8")).keys() == {name}


@pytest.mark.parametrize("work", Work)
def test_known_references_agree_with_this_package(work: Work) -> None:
    # signed differences of order eight on a mesh against nodes that move, or, with noise, against finite volumes that
    # are positive: in 1-D and 2-D known to 1e-10, in 3-D the coarser of two meshes is 1e-9 off
    known = json.loads(smooth_race.KNOWN.read_text(encoding="utf-8"))
    assert known.keys() == {each.value for each in Work}
    held = known[work.value]["reference"]
    assert held["meshes_differ"] < (2e-9 if work.dimension == 3 else 1e-10)
    assert held["package_differs"] < (1e-7 if work.dimension == 3 else 1e-9)
    energy, problem = np.array(held["energy"]), work.problem()
    if work.temperature:
        control = mf.ErrorControl(1e-8)
        solved = mf.solve(problem, 300, controller=control, save=SAVES, estimate=False, progress=False)
        assert error_of(solved.energy_without_entropy, energy) < 1e-7
    elif work.dimension < 3:
        found = mf.characteristics(problem, save=SAVES, tolerance=1e-8, progress=False)
        assert error_of(found.energy, energy) < 1e-8
    else:  # of the same kind, on a coarse mesh
        coarse, *_ = curve_of_lines(few_modes(work, 32), Lines.CENTRAL_8, 1e-7)
        assert error_of(coarse, energy) < {Work.BUMPS_3D: 7e-6, Work.NETWORK_3D: 7e-5}[work]


@pytest.mark.parametrize("work", [Work.BUMPS_1D, Work.NETWORK])
def test_densities_are_those_of_the_lines(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing in common but the points: those of the mesh are among those of the finer and wider one
    monkeypatch.setattr(ours, "DENSITY_CELLS", {Work.BUMPS_1D: 40, Work.NETWORK: 32}[work])
    found = ours.density_cost(work)
    assert found is not None
    assert found["error"] < 1e-6
    # of the network 200 cells an axis leave 2e-3, 400 leave 4e-5; points elsewhere would be apart by tenths
    assert found["apart"] < {Work.BUMPS_1D: 1e-5, Work.NETWORK: 5e-3}[work]


def test_meshes_of_high_order_are_coarser() -> None:
    exact, *_ = curve_of_lines(mesh(Work.BUMPS_1D, 128), Lines.CENTRAL_8, 1e-10)
    found = lines.meshes_of(Work.BUMPS_1D, exact, sizes=(20, 28, 36, 48, 64, 80), margins=(0.0, -1.0, -1.5))
    wide = {line: [by.n for by in found if by.lines is line and not by.margin] for line in CENTRAL}
    assert wide[Lines.CENTRAL_8]
    assert wide[Lines.CENTRAL_6]
    assert max(wide[Lines.CENTRAL_8]) < max(wide[Lines.CENTRAL_6])
    for by in found:
        energy, *_ = curve_of_lines(by.on(Work.BUMPS_1D), by.lines, 1e-9)
        # where the box is narrower by 1.5 what is beyond it is missing: no mesh is good to 1e-5
        assert (1e-5 if by.margin == -1.5 else 0.0) < error_of(energy, exact) <= 0.7 * TARGETS[0]
    assert {by.margin for by in found} == {0.0, -1.0, -1.5}


# ---------------------------------------------------------------------------------------------------------------------
# what this package does
# ---------------------------------------------------------------------------------------------------------------------


def test_a_run_of_nodes_is_one_run() -> None:
    problem = Work.BUMPS_1D.problem()
    exact = mf.characteristics(problem, save=SAVES, tolerance=1e-8, progress=False)
    run = ours.run_of_nodes(problem, (24,))(1e-9)
    assert len(run.start) == 24
    # 24 nodes: 2e-6; the result of the search has more
    once = run.go()
    assert 1e-7 < error_of(once, exact.energy) < 1e-5
    run.begin()
    assert np.array_equal(run.go(), once)


def test_with_noise_the_mesh_is_all_there_is() -> None:
    held = json.loads(smooth_race.KNOWN.read_text(encoding="utf-8"))[Work.NOISE.value]["reference"]
    exact = np.array(held["energy"])
    assert not ours.compiled(Work.NOISE)
    assert list(ours.hindsight_trials(Work.NOISE, exact)) == []
    assert list(ours.noise_trials(Work.BUMPS_1D, exact)) == []
    assert ours.density_cost(Work.NOISE) is None
    assert ours.reference_cost(Work.NOISE, exact[-1]) is None
    found = list(ours.noise_trials(Work.NOISE, exact, (64,)))
    assert {trial.way.variant for trial in found} == {"Weno5", "ScharfetterGummel"}
    assert {trial.way.tolerance for trial in found} == set(ours.STEPS)
    best = {trial.way.variant: error_of(trial.curve.energy, exact) for trial in found if trial.way.tolerance == 1e-8}
    # order five and order two on 64 cells, measured: 2.0e-4 and 3.0e-2
    assert 1e-4 < best["Weno5"] < 4e-4
    assert 1e-2 < best["ScharfetterGummel"] < 6e-2
    assert all(trial.curve.minimum >= 0.0 for trial in found)


def test_after_a_long_call_no_more_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "PATIENCE", -1.0)
    assert [trial.way.tolerance for trial in ours.estimated_trials(Work.BUMPS_1D)] == [1e-3]
    assert list(ours.estimated_trials(Work.NOISE)) == []


def test_trials_of_this_package() -> None:
    exact = mf.characteristics(Work.BUMPS_1D.problem(), save=SAVES, tolerance=1e-8, progress=False).energy
    found = list(ours.hindsight_trials(Work.BUMPS_1D, exact, sizes=(12, 16, 24), tolerances=(1e-3, 1e-5, 1e-7)))
    assert {trial.way.size for trial in found} == {(16,), (24,)}
    assert len({trial.way for trial in found}) == len(found)  # ladders differ in the tolerance only
    assert all(trial.curve.minimum == 0.0 for trial in found)
    asked = ours.estimated(Work.BUMPS_1D.problem(), 1e-4)
    assert asked.way.tolerance == 1e-4
    assert asked.curve.estimate is not None
    # the nodes' error lies below the estimate, which lies below what was asked for
    assert error_of(asked.curve.energy, exact) <= asked.curve.estimate <= 1e-4
    meshes = list(ours.mesh_trials(Work.BUMPS_1D, exact, (48, 64)))
    assert [trial.way.size for trial in meshes] == [(48,), (64,)]
    assert all(trial.curve.minimum >= 0.0 for trial in meshes)


# ---------------------------------------------------------------------------------------------------------------------
# what counts
# ---------------------------------------------------------------------------------------------------------------------

REFERENCE = np.array([2.0, 1.0])


def trial(error: float, tolerance: float, work: float = 1.0, method: str = "a", n: int = 10) -> Trial:
    return Trial(Way(method, "v", (n,), tolerance), Curve(REFERENCE * [1.0, 1.0 + error], 0.0, work), lambda: None)


def test_errors_of_curves() -> None:
    assert error_of(np.array([2.2, 1.05]), REFERENCE) == pytest.approx(0.1)
    assert end_error(np.array([2.2, 1.05]), REFERENCE) == pytest.approx(0.05)
    assert error_of(np.array([2.0, math.nan]), REFERENCE) == math.inf


def test_an_error_that_crosses_zero_does_not_count() -> None:
    ladder = [(10, 1e-9), (20, 1e-3), (30, 5e-5), (40, 2e-5), (50, 1e-7)]
    # seven tenths of an accuracy are the mesh's
    assert fewest_cells(ladder, 1e-4) == 30
    assert fewest_cells(ladder, 5e-5) == 40
    assert fewest_cells(ladder, 1e-8) is None
    steps = [trial(1e-9, 1e-1, 1.0), trial(1e-3, 1e-2, 2.0), trial(5e-5, 1e-3, 3.0), trial(1e-6, 1e-4, 4.0)]
    assert [one.way.tolerance for one in cheapest(steps, 1e-4, REFERENCE)] == [1e-3]
    assert cheapest(steps, 1e-7, REFERENCE) == []


def test_sizes_are_a_ladder_where_there_is_no_tolerance() -> None:
    meshes = [trial(1e-9, 0.0, 1.0, n=10), trial(1e-3, 0.0, 2.0, n=20), trial(1e-6, 0.0, 3.0, n=40)]
    assert [one.way.size for one in cheapest(meshes, 1e-4, REFERENCE)] == [(40,)]


def test_the_cheapest_ladder_comes_first() -> None:
    found = cheapest([trial(1e-6, 1e-3, 5.0, n=10), trial(1e-6, 1e-3, 2.0, n=20)], 1e-4, REFERENCE)
    assert [one.way.size for one in found] == [(20,), (10,)]


def test_ways_read_well() -> None:
    assert str(Way("d", "central-8, Tsit5", (32, 32), 1e-3, 0.12)) == (
        "central-8, Tsit5, 32^2, tolerance 1e-03, first step 0.12"
    )
    assert str(Way("c", "", (8, 12), 1e-5)) == "8 x 12, tolerance 1e-05"
    assert str(Way("s", "Weno5", (64,))) == "Weno5, 64"


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LEAST", 0.0)
    said: list[str] = []
    times = worker.in_turns([lambda: said.append("a"), lambda: said.append("b")], rounds=3)
    assert len(times) == 2
    # once for the length of a batch, which is of one call here; then in turns
    assert "".join(said) == "ab" + "ab" * 3


def test_the_fastest_of_a_method_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = trial(1e-6, 1e-3, n=10), trial(1e-6, 1e-3, n=20)
    asked = trial(0.5, 1e-4, method="b")
    race = worker.Race(Work.BUMPS_1D, REFERENCE)
    monkeypatch.setattr(worker.Race, "time", lambda self, trial: float(trial.way.size[0]))
    # in turns the second one is faster than it looked
    monkeypatch.setattr(worker, "in_turns", lambda calls: [float(len(calls) - i) for i in range(len(calls))])
    found = race.final({"hindsight": [slow, quick], "estimated": [asked, trial(0.0, 1e-5, method="b")]}, 1e-4)
    assert {name: one["way"] for name, one in found.items()} == {"a": str(slow.way), "b": str(asked.way)}


# ---------------------------------------------------------------------------------------------------------------------
# what is said
# ---------------------------------------------------------------------------------------------------------------------


def record() -> dict[str, Any]:
    def one(seconds: float, method: str, minimum: float = 0.0) -> dict[str, Any]:
        return {
            **{"method": method, "way": f"way of {method}", "error": 1e-5, "end_error": 1e-6, "minimum": minimum},
            **{"estimate": 2e-5 if method == ESTIMATED else None, "seconds": seconds},
        }

    found = {
        HINDSIGHT: one(1e-3, HINDSIGHT),
        ESTIMATED: one(8e-3, ESTIMATED),
        "diffrax": one(4e-3, "diffrax", -0.1),
        "SciPy": one(2.0, "SciPy", -0.2),
    }
    keys = [f"{target:.0e}" for target in TARGETS]
    return {
        **{"versions": {"jax": "1.2"}, "date": "2000-01-02", "load_at_start": 0.5, "quick": False},
        "reference": {
            **{"energy": [0.5, 0.4, 0.3, 0.2, 0.1], "sizes": [20, 40], "meshes_differ": 1e-11},
            **{"package": "the nodes", "package_differs": 2e-11, "package_estimate": 3e-10},
        },
        "curve": {key: found if key == "1e-04" else {} for key in keys},
        "tables": dict.fromkeys(keys, 5e-4),
        "points": {"diffrax": {"seconds": [4e-3, 5e-3], "errors": [1e-5, 1e-6]}},
        "density": {"cells": 64, "first": 0.03, "seconds": 0.02, "error": 2e-6, "apart": 3e-6, "lines": 192},
        "certified": {"tolerance": 1e-6, "seconds": 0.4, "bar": 3e-7, "error": 2e-8},
    }


def noisy() -> dict[str, Any]:
    """The record of a work with a temperature."""
    cold = record()
    found = cold["curve"]["1e-04"]
    own = {"solve, hindsight": {**found[HINDSIGHT], "way": "way of solve", "seconds": 2e-3}}
    reference = {**cold["reference"], "package": "the mesh", "package_estimate": None}
    curve = {**cold["curve"], "1e-04": {**own, "diffrax": found["diffrax"]}}
    left = {key: value for key, value in cold.items() if key not in ("density", "certified")}
    return {**left, "curve": curve, "reference": reference, "tables": {}}


def test_ratios_are_of_the_fastest_peer_over_ours() -> None:
    assert ratio(record(), "1e-04", HINDSIGHT) == (pytest.approx(4.0), "diffrax")
    assert ratio(record(), "1e-04", ESTIMATED) == (pytest.approx(0.5), "diffrax")
    assert ratio(record(), "1e-03", HINDSIGHT) is None


def test_the_report_has_the_race(tmp_path: Path) -> None:
    machine = {"cores": 1, "processor": "p", "memory_gib": 1, "system": "s", "threads": 1, "load_at_start": 0.1}
    without = {key: value for key, value in record().items() if key not in ("density", "certified")}
    without["tables"] = {"1e-04": 5e-4}  # below that a call took too long
    works = {
        "gaussian-bumps-1d": record(),
        "gaussian-bumps-2d": without,
        "tanh-network": {"failed": "no room"},
        "gaussian-bumps-1d-noise": noisy(),
    }
    whole = {"machine": {**machine, "versions": {}}, "date": "2000-01-01", "quick": False, "smooth": works}
    (tmp_path / "results.json").write_text(json.dumps(whole), encoding="utf-8")
    assert command.main(["smooth", "--report", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## Smooth problems: the race to an accuracy" in text
    assert "| **characteristics, hindsight** | - | 0.001 | - | - | 0.0e+00 | 1e-04: way of characteristics" in text
    assert "| diffrax | - | 0.004 | - | - | -1.0e-01 |" in text
    assert "cells an axis at t = 2: 0.02 s, the first time 0.03 s, error 2.0e-06 in L1 (distance" in text
    assert text.count("`Characteristics.density` on") == 1
    assert "| tables, once a problem | - | 5.0e-04 | - | - |" in text
    assert "the second time: 0.4 s, bar 3.0e-07, error 2.0e-08" in text
    assert "| characteristics, hindsight | - | 4 (diffrax) | - | - |" in text
    assert "| gaussian-bumps-1d | characteristics, hindsight | - | 4 (diffrax) | - | - |" in text
    assert "| gaussian-bumps-1d-noise | solve, hindsight | - | 2 (diffrax) | - | - |" in text
    assert "| **solve, hindsight** | - | 0.002 | - | - | 0.0e+00 | 1e-04: way of solve" in text
    # what nothing moves along characteristics has no row of theirs, and a reference without an estimate
    noise = text.split("### gaussian-bumps-1d-noise")[1].split("###")[0]
    assert "characteristics" not in noise
    assert "from the mesh by 2e-11." in noise
    assert "from the nodes (error estimate 3e-10) by 2e-11." in text
    assert "Measured 2000-01-02, load at the start 0.5; jax 1.2." in text
    assert "Failed: no room" in text
    assert [line for line in text.splitlines() if line.startswith("![")] == [
        f"![Error of the energy curve against processor time, {name}](smooth--{name}.png)"
        for name in ("gaussian-bumps-1d", "gaussian-bumps-2d", "gaussian-bumps-1d-noise")
    ]
    assert (tmp_path / "smooth--gaussian-bumps-1d.png").stat().st_size > 1000


def test_the_parts_of_a_run_are_measured_with_what_a_solver_has() -> None:
    """They are inside of the solver: where that changes, so has the benchmark, which says nothing by itself."""
    from validation.benchmarks import own

    problem, scheme = mf.problems.gaussian_bumps(), mf.Weno5()
    solution = mf.solve(problem, 16, 0.1, scheme=scheme, save=2, progress=False)
    parts = own._split(problem, scheme, (16,), solution, 1.0)
    assert parts["calls_rate"] >= parts["calls_outflow"] > 0
    assert parts["calls_non_local"] > 0
    assert parts["sweeps"] > 0.0
