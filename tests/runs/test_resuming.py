"""Runs that are killed, interrupted or prolonged, and go on as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import stats
from shared import Gone, content, die, printed_by, reinjected

import mfpde as mf
from mfpde.mesh.record import Result
from mfpde.mesh.unfinished import CHECKPOINT_COLUMNS
from mfpde.runs import resuming
from mfpde.support.files import frames
from mfpde.support.files.in_place import NumbersFile

pytestmark = pytest.mark.usefixtures("companions")


def assert_same(one: Path, other: Path) -> None:
    a, b = (content(path, volatile=False) for path in (one, other))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name] == b[name], name


def annealed() -> mf.Problem:
    return replace(
        mf.problems.torus_langevin(), temperature=mf.PiecewiseLinear([0.0, 0.2, 0.5], [0.3, 0.3, 0.05]), t_end=0.5
    )


RUNS = {
    "error control": (mf.problems.gaussian_bumps, {"shape": 60, "t_end": 1.0, "save": 7}),
    "courant": (
        mf.problems.gaussian_bumps,
        {"shape": 60, "t_end": 0.5, "save": 3, "controller": mf.CourantControl(), "scheme": mf.Muscl()},
    ),
    "fixed step": (
        mf.problems.linear_neuron,
        {"shape": 80, "t_end": 0.2, "save": [0.07, 0.15], "controller": mf.FixedStep(0.004), "method": mf.Strang()},
    ),
    "two axes": (mf.problems.three_gaussians, {"shape": (30, 40), "t_end": 0.3, "save": 4}),
    "implicit": (mf.problems.torus_langevin, {"shape": 48, "t_end": 1.0, "save": 4}),
    "annealed": (annealed, {"shape": 64, "save": 4}),
    "reinjection": (lambda: reinjected(2.0, t_end=0.3), {"shape": (30, 40), "save": 4}),
    "a schedule": (
        lambda: replace(mf.problems.gaussian_bumps(), schedule=mf.ExponentialDecay(2.0, 0.5, 1.0)),
        {"shape": 50, "t_end": 0.8, "save": 3},
    ),
    "file of frames": (mf.problems.gaussian_bumps, {"shape": 60, "t_end": 1.0, "save": 7}),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_killed_run_goes_on_bit_for_bit(kind, path, monkeypatch):
    make, settings = RUNS[kind]
    if kind == "file of frames":
        monkeypatch.setattr(frames, "IN_MEMORY", 0)
    problem = make()
    settings = settings | {"progress": False}
    whole = path.with_name("whole.h5")
    steps = mf.solve(problem, **settings, output=whole).stats["steps"]
    assert steps > 5
    given = kind in ("annealed", "reinjection", "a schedule")
    # three deaths: with checkpoints at every step, without any, and of a run that goes on
    for step, every in ((1, 1e-9), (2 * steps // 3, 1e-9), (steps // 2, None), (steps - 1, 1e-9)):
        with pytest.raises(Gone):
            mf.solve(problem, **settings, output=path, overwrite=True, stop=die(step), checkpoint=every)
        found = mf.load(path)
        assert found.result is Result.UNFINISHED
        if every is not None:
            assert found.state.n_steps >= step - 1
        if step == 1:
            with pytest.raises(Gone):
                mf.resume(path, problem=problem if given else None, stop=die(4), checkpoint=1e-9, progress=False)
            assert mf.load(path).state.n_steps == 3
        mf.resume(path, problem=problem if given else None, progress=False)
        assert_same(path, whole)
        assert sorted(os.listdir(path.parent)) == ["run.h5", "whole.h5"]


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "time", "steps"])
def test_a_run_that_was_cut_short_goes_on_bit_for_bit(place, end, path):
    settings = {"shape": 60, "t_end": 1.0, "save": 7, "progress": False}
    problem = mf.problems.gaussian_bumps()
    whole = path.with_name("whole.h5")
    mf.solve(problem, **settings, output=whole)
    output = path if place == "file" else None

    def ask(snapshot):
        if snapshot.step == 9:
            os.kill(os.getpid(), getattr(signal, end))
        return False

    if end == "time":
        cut = mf.solve(problem, **settings, output=output, time_limit=1e-9)
        assert cut.result is Result.TIME_LIMIT
        assert cut.stats["steps"] == 1
    elif end == "steps":
        cut = mf.solve(problem, **settings, output=output, max_steps=9, throw=False)
        assert cut.result is Result.MAX_STEPS
        assert cut.stats["steps"] == 9
    else:
        cut = mf.solve(problem, **settings, output=output, stop=ask)
        assert cut.result is Result.INTERRUPTED
        assert cut.stats["steps"] == 9
    assert cut.times[-1] == cut.state.t  # where it was cut short is saved, and no save time
    whole_seconds = cut.provenance["volatile"]["seconds"]
    done = mf.resume(path if place == "file" else cut, progress=False)
    assert done.result is Result.SUCCESS
    assert done.provenance["volatile"]["resumed"] == 1
    assert done.provenance["volatile"]["seconds"] > whole_seconds
    if place == "memory":
        done.save(path)
    assert_same(path, whole)


def test_a_run_goes_beyond_its_end(path):
    problem = mf.problems.gaussian_bumps()
    whole = path.with_name("whole.h5")
    mf.solve(problem, shape=60, t_end=1.0, save=[0.25, 0.5, 0.75], progress=False, output=whole)
    mf.solve(problem, shape=60, t_end=0.5, save=[0.25], progress=False, output=path)
    longer = mf.resume(path, 1.0, progress=False)
    assert longer.times.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert_same(path, whole)
    half = mf.solve(problem, shape=60, t_end=0.5, save=[0.25], progress=False)
    assert mf.resume(half, 0.6, progress=False).times.tolist() == [0.0, 0.25, 0.5, 0.6]
    assert mf.resume(half, 0.7, save=3, progress=False).times.tolist() == [0.0, 0.25, 0.5, 0.6, 0.7]
    assert mf.resume(half, 0.7, save=[0.65], progress=False).times.tolist() == [0.0, 0.25, 0.5, 0.65, 0.7]
    # what the run has may be among them, what it can no longer have may not
    assert mf.resume(half, 0.7, save=[0.25, 0.65], progress=False).times.tolist() == [0.0, 0.25, 0.5, 0.65, 0.7]
    with pytest.raises(
        ValueError, match=r"save = \[0\.1\]: the save times of the run are settled up to t = 0\.5; more"
    ):
        mf.resume(half, 0.7, save=[0.1, 0.65], progress=False)
    cut = mf.solve(problem, shape=60, t_end=0.5, save=[0.25], progress=False, stop=lambda s: s.time >= 0.25)
    with pytest.raises(
        ValueError, match=r"save = \[0\.4\]: the save times of the run are settled up to t = 0\.5; more"
    ):
        mf.resume(cut, save=[0.4], progress=False)
    kept = path.with_name("kept.h5")
    mf.resume(half, 0.7, output=kept, progress=False)
    assert mf.load(kept).times[-1] == 0.7
    with pytest.raises(FileExistsError):
        mf.resume(half, 0.7, output=kept, progress=False)


TENTHS = np.cumsum([0.1] * 10)  # the last is a unit of the last place short of 1


def as_an_early_version_left_it(result=Result.DT_MIN):
    """A run that was to save at both ends of the last unit of the last place, and made no step there."""
    run = mf.solve(mf.problems.linear_neuron(), 60, TENTHS[-1], save=TENTHS, progress=False)
    run.configuration["save"] = [*TENTHS.tolist(), 1.0]
    return replace(run, result=result)


@pytest.mark.parametrize("result", [Result.DT_MIN, Result.UNFINISHED, Result.INTERRUPTED])
def test_a_run_given_up_a_rounding_error_before_its_end_is_over(result, path):
    run = as_an_early_version_left_it(result)
    whole = mf.resume(run, progress=False)
    assert whole.result is Result.SUCCESS
    assert whole.times.tolist() == [0.0, *TENTHS]
    assert whole.configuration["save"] == TENTHS.tolist()
    run.save(path)
    assert mf.resume(path, progress=False).times.tolist() == [0.0, *TENTHS]
    assert mf.load(path).result is Result.SUCCESS


def test_a_run_given_up_there_goes_on_as_far_apart_as_its_save_times_are():
    longer = mf.resume(as_an_early_version_left_it(), 2.0, progress=False)
    assert longer.result is Result.SUCCESS
    np.testing.assert_allclose(longer.times, np.linspace(0, 2, 21), rtol=1e-14)
    assert longer.times[10] == TENTHS[-1]


def test_save_times_ahead_that_are_one_are_saved_once():
    """What is to come, from a list that an early version took as it was; the end is the last of it but for rounding."""
    run = mf.solve(
        mf.problems.linear_neuron(), 60, 1.0, save=[0.2, 0.3, 0.5], stop=lambda s: s.time == 0.2, progress=False
    )
    run.configuration["save"] = [0.2, 0.3, 0.1 + 0.2, 0.5, TENTHS[-1]]
    whole = mf.resume(run, 1.0, progress=False)
    assert whole.result is Result.SUCCESS
    assert whole.times.tolist() == [0.0, 0.2, 0.3, 0.5, 1.0]


def test_save_times_that_were_saved_stay():
    """Two that are one, but so far apart that an early version made a step between them."""
    run = mf.solve(mf.problems.linear_neuron(), 60, 0.3, save=[0.2, 0.3], progress=False)
    run.times[1] = run.configuration["save"][0] = 0.3 * (1 - 5e-13)
    whole = mf.resume(run, 0.6, progress=False)
    assert whole.times.tolist() == [0.0, 0.3 * (1 - 5e-13), 0.3, 0.6]
    np.testing.assert_array_equal(whole.density[:3], run.density)


def test_an_end_that_is_the_last_time_but_for_rounding_is_no_end():
    run = mf.solve(mf.problems.linear_neuron(), 80, TENTHS[-1], save=2, progress=False)
    with pytest.raises(ValueError, match="the run is at t = 1 and was to go to 1; t_end = 1 must lie beyond"):
        mf.resume(run, 1.0, progress=False)


def test_more_save_times_than_there_can_be_are_refused():
    """As far apart as the last two, a millionth of a millionth: they would not fit into memory."""
    run = mf.solve(mf.problems.linear_neuron(), 80, 1.0, save=[1.0 - 1e-11], progress=False)
    with pytest.raises(
        ValueError, match=r"as far apart as the last two, 1e-11, would be 1e\+11 from t = 1 to 2; give save="
    ):
        mf.resume(run, 2.0, progress=False)
    assert len(mf.resume(run, 2.0, save=2, progress=False).times) == 4


def test_what_has_changed_is_named(path):
    mf.solve(mf.problems.linear_neuron(), shape=40, t_end=0.2, output=path, progress=False)
    before = path.read_bytes()

    def refused(match: str, **changes) -> None:
        with pytest.raises(ValueError, match=match) as caught:
            mf.resume(path, 0.4, progress=False, **changes)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before

    refused(r"scheme was Weno5\(tail_ratio=10000.0\) and is Muscl\(", scheme=mf.Muscl())
    refused(
        r"method was ExponentialSSPRK3\(\) and is Lie\(.*controller was ErrorControl\(.*and is FixedStep\(dt=0.1\)",
        method=mf.Lie(),
        controller=mf.FixedStep(0.1),
    )
    alpha = mf.problems.linear_neuron().parameters["alpha"]
    refused(f"another run.*alpha was {alpha} and is 7.0", problem=mf.problems.linear_neuron(alpha=7.0))
    refused("the problem was 'linear-neuron' and is 'quadratic-well'", problem=mf.problems.quadratic_well())
    other = replace(mf.problems.linear_neuron(), initial=mf.Product(theta=stats.norm(0.5, 0.3)))
    refused("the problem's energy, axes, start or dynamics", problem=other)
    with pytest.raises(ValueError, match=r"the run is at t = 0.2 and was to go to 0.2; t_end = 0.2 must lie beyond"):
        mf.resume(path, progress=False)
    with pytest.raises(ValueError, match=r"t_end = 0.1 must lie beyond"):
        mf.resume(path, 0.1, progress=False)


def test_a_problem_of_user_code_is_asked_for(path):
    problem = replace(mf.problems.linear_neuron(), name="mine", schedule=lambda t: 1.0)
    mf.solve(problem, shape=40, t_end=0.2, output=path, progress=False)
    said = r"does not hold its problem 'mine': schedule is a function of your own, .*<lambda>; pass problem="
    with pytest.raises(ValueError, match=said):
        mf.resume(path, 0.3, progress=False)
    assert mf.resume(path, 0.3, problem=problem, progress=False).times[-1] == 0.3


def test_a_scheme_that_a_file_cannot_name_is_asked_for():
    class Mine(mf.Muscl):
        pass

    problem = mf.problems.linear_neuron()
    scheme = Mine()
    half = mf.solve(problem, shape=40, t_end=0.2, scheme=scheme, progress=False)
    with pytest.raises(ValueError, match=r"scheme = .*Mine.*which mfpde has not; pass scheme="):
        mf.resume(half, 0.3, progress=False)
    assert mf.resume(half, 0.3, scheme=scheme, progress=False).times[-1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "Weno5(tail_ratio=open('x'))", "Weno5(tail_ratio=1", "Weno5", "Weno5(1e4)", "x" * 10**5],
)
def test_text_in_a_file_is_never_executed(text):
    half = mf.solve(mf.problems.linear_neuron(), shape=40, t_end=0.2, progress=False)
    half.configuration["scheme"] = text
    with pytest.raises(ValueError, match="which mfpde has not; pass scheme="):
        mf.resume(half, 0.3, progress=False)


def test_save_times_are_compared_with_their_neighbours_alone(monkeypatch):
    """With 10^5 of them every one against every other would take longer than the run."""
    half = mf.solve(
        mf.problems.linear_neuron(), shape=40, t_end=0.2, save=2001, controller=mf.FixedStep(1.0), progress=False
    )
    compared = []
    same = resuming.same_time
    monkeypatch.setattr(resuming, "same_time", lambda *times: compared.append(times) or same(*times))
    wanted = np.linspace(0.0, 0.3, 3001).tolist()
    targets = resuming.save_targets(half, 0.3, wanted)
    assert len(targets) == 3000
    assert len(compared) < 3 * 3000
    with pytest.raises(ValueError, match=r"save = \[0\.00015\]: the save times of the run are settled up to t = 0\.2"):
        resuming.save_targets(half, 0.3, [*wanted, 0.00015])


def test_other_versions_are_mentioned():
    half = mf.solve(mf.problems.linear_neuron(), shape=40, t_end=0.2, progress=False)
    half.provenance["versions"]["numba"] = "0.0.1"
    with pytest.warns(mf.RunWarning, match=r"numba 0\.0\.1 -> .* last digits may differ"):
        mf.resume(half, 0.3, progress=False)


@pytest.mark.parametrize("damage", ["record", "density"])
def test_a_checkpoint_that_is_not_whole_leaves_the_one_before(path, damage):
    problem = mf.problems.gaussian_bumps()
    settings = {"shape": 60, "t_end": 1.0, "save": 2, "progress": False}
    whole = path.with_name("whole.h5")
    mf.solve(problem, **settings, output=whole)
    with pytest.raises(Gone):
        mf.solve(problem, **settings, output=path, checkpoint=1e-9, stop=die(9))
    assert mf.load(path).state.n_steps == 8
    with h5py.File(path, "r+") as file:
        newest = int(np.argmax(file["unfinished/checkpoints"][:, CHECKPOINT_COLUMNS.index("steps")]))
        if damage == "record":
            file["unfinished/checkpoints"][newest, CHECKPOINT_COLUMNS.index("length")] *= 1.0000001
        else:
            file["unfinished/checkpoint_mu"][newest, 30] = 0.0
    assert mf.load(path).state.n_steps == 7
    with pytest.warns(mf.RunWarning, match=rf"not whole in the file: checkpoint {newest}\. The newest whole state is"):
        mf.resume(path, progress=False)
    assert_same(path, whole)


def test_a_checkpoint_is_on_the_disk_before_it_counts(path, monkeypatch):
    log: list[object] = []
    sync = NumbersFile.sync

    def synced(self) -> None:
        with h5py.File(path, "r", locking=False) as file:
            table = file["unfinished/checkpoints"][()]
        log.append(tuple(np.where(table[:, 0] == 0.0, -1.0, table[:, CHECKPOINT_COLUMNS.index("steps")])))
        sync(self)

    with monkeypatch.context() as patch, contextlib.suppress(Gone):
        patch.setattr(NumbersFile, "sync", synced)
        mf.solve(
            mf.problems.gaussian_bumps(), shape=60, t_end=1.0, save=2, progress=False, output=path, checkpoint=1e-9,
            stop=die(4),
        )  # fmt: skip
    # for each checkpoint before it counts (-1: the slot does not) and after it; both slots have the start at first
    assert log == [(-1.0, 0.0), (1.0, 0.0), (1.0, -1.0), (1.0, 2.0), (-1.0, 2.0), (3.0, 2.0)]


KILLED = """
import os, random, signal, sys, time
import mfpde as mf
path, threads, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
problem = mf.problems.gaussian_bumps()
settings = dict(shape=200, t_end=1.0, save=4, progress=False, threads=threads, checkpoint=1e-3)
warm = mf.solve(problem, **settings)
random.seed(kills)
done, killed = False, 0
while not done:
    child = os.fork()
    if not child:
        try:
            if os.path.exists(path):
                mf.resume(path, progress=False, threads=threads, checkpoint=1e-3)
            else:
                mf.solve(problem, **settings, output=path)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if killed < kills:
        time.sleep(random.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        killed += 1
        if os.path.exists(path):
            mf.load(path)
    else:
        assert os.WEXITSTATUS(status) == 0, status
        done = mf.load(path).result is mf.Result.SUCCESS
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_and_again(path):
    whole = path.with_name("whole.h5")
    mf.solve(mf.problems.gaussian_bumps(), shape=200, t_end=1.0, save=4, progress=False, output=whole)
    assert int(json.loads(printed_by(KILLED, path, 1, 6))) >= 1
    assert_same(path, whole)


FULL = """
import resource, sys
import mfpde as mf
path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    mf.solve(
        mf.problems.linear_neuron(), shape=50, t_end=1.0, save=3, controller=mf.FixedStep(1.0 / 2500), progress=False,
        output=path, checkpoint=1e-9,
    )
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_disk_that_is_full_leaves_the_last_checkpoint(path):
    settings = {"shape": 50, "t_end": 1.0, "save": 3, "controller": mf.FixedStep(1.0 / 2500), "progress": False}
    with pytest.raises(Gone):
        mf.solve(mf.problems.linear_neuron(), **settings, output=path, stop=die(1))
    with h5py.File(path) as file:  # the finished file will not be larger
        size = 2 * file.id.get_filesize() + 3 * 2**17
    path.unlink()
    # the second block of diagnostics, of 2048 rows, does not fit any more
    said = printed_by(FULL, path, size)
    assert said.startswith(f"cannot write {path}: ")
    assert said.count("\n") == 1
    assert os.listdir(path.parent) == ["run.h5"]
    found = mf.load(path)
    assert found.result is Result.UNFINISHED
    assert found.state.n_steps > 200
    whole = path.with_name("whole.h5")
    with pytest.warns(mf.RunWarning, match="descends from a tail"):
        mf.solve(mf.problems.linear_neuron(), **settings, output=whole)
    with pytest.warns(mf.RunWarning, match="descends from a tail"):
        mf.resume(path, progress=False)
    assert_same(path, whole)
