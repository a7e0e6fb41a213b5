"""The validation runner: verdicts, exit status, files. The studies themselves are run by ``python -m validation``."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from validation import _runner  # noqa: E402
from validation._runner import Figure, Kind, Row, Study, Table, Verdict, main, report, studies  # noqa: E402


def row(expected: float, measured: float, tolerance: float = 0.0, kind: Kind = Kind.WITHIN) -> Row:
    return Row("a claim", "a source", expected, measured, tolerance, kind)


@pytest.mark.parametrize(
    ("kind", "expected", "measured", "tolerance", "verdict"),
    [
        (Kind.WITHIN, 1.0, 1.25, 0.25, Verdict.PASS),
        (Kind.WITHIN, 1.0, 0.75, 0.25, Verdict.PASS),
        (Kind.WITHIN, 1.0, 1.2500001, 0.25, Verdict.FAIL),
        (Kind.WITHIN, 1.0, 0.7499999, 0.25, Verdict.FAIL),
        (Kind.WITHIN, -1.0, 1.0, 0.5, Verdict.FAIL),
        (Kind.AT_MOST, 1.0, -100.0, 0.0, Verdict.PASS),
        (Kind.AT_MOST, 1.0, 1.5, 0.5, Verdict.PASS),
        (Kind.AT_MOST, 1.0, 1.5000001, 0.5, Verdict.FAIL),
        (Kind.AT_LEAST, 1.0, 100.0, 0.0, Verdict.PASS),
        (Kind.AT_LEAST, 1.0, 0.5, 0.5, Verdict.PASS),
        (Kind.AT_LEAST, 1.0, 0.4999999, 0.5, Verdict.FAIL),
        (Kind.WITHIN, 1.0, math.nan, 1.0, Verdict.FAIL),
        (Kind.AT_MOST, 1.0, math.nan, 1.0, Verdict.FAIL),
        (Kind.AT_LEAST, math.nan, 1.0, 1.0, Verdict.FAIL),
        (Kind.AT_MOST, math.inf, 1.0, 0.0, Verdict.FAIL),
        (Kind.AT_LEAST, 1.0, math.inf, 0.0, Verdict.FAIL),
        (Kind.REPORTED, 1.0, 5.0, 0.0, Verdict.REPORTED),
        (Kind.REPORTED, 1.0, math.nan, 0.0, Verdict.REPORTED),
    ],
)
def test_verdict(kind: Kind, expected: float, measured: float, tolerance: float, verdict: Verdict) -> None:
    assert row(expected, measured, tolerance, kind).verdict is verdict


def test_rows_take_numpy_numbers() -> None:
    found = row(np.float64(1.0), np.float32(1.0))  # type: ignore[arg-type]
    assert type(found.expected) is type(found.measured) is float
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_rows_refuse_tolerances(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        row(1.0, 1.0, tolerance)


def test_rows_refuse_empty_texts() -> None:
    with pytest.raises(ValueError, match="claim"):
        Row(" ", "a source", 1.0, 1.0)
    with pytest.raises(ValueError, match="source"):
        Row("a claim", "", 1.0, 1.0)


GOOD = """'''A study that holds.'''
import matplotlib.pyplot as plt
from validation._runner import Figure, Kind, Row, Study, Table

def run(quick, progress):
    progress(0.5, "half")
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    rows = [
        Row("one | bar", "arithmetic", 1.0, 1.0 + 1e-9, 1e-8),
        Row("quick", "itself", 0.0, float(quick), kind=Kind.REPORTED),
    ]
    return Study("Good study", "It holds.", rows, [Table("Numbers", ["a", "b"], [[1, 2.5], ["x", 1e-7]])],
                 [Figure("line", "A line.", figure)])
"""
BAD = """'''A study that fails.'''
from validation._runner import Row, Study

def run(quick, progress):
    return Study("Bad study", "It fails.", [Row("one is one", "arithmetic", 1.0, 1.0), Row("two is one", "hope", 1, 2)])
"""
RAISES = """'''A study that raises.'''
def run(quick, progress):
    raise OSError("cannot read /home/someone/secret/data.csv")
"""
EMPTY = """'''A study without a claim.'''
from validation._runner import Study

def run(quick, progress):
    return Study("Empty", "Nothing.", [])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package of studies of a name of its own."""
    name = f"studies_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    folder.mkdir()
    for module, text in (("good_one", GOOD), ("bad", BAD), ("raises", RAISES), ("empty", EMPTY), ("_hidden", BAD)):
        (folder / f"{module}.py").write_text(text)
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_list_and_names(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(studies(package)) == ["bad", "empty", "good-one", "raises"]
    assert main(["--list"], package) == 0
    printed = capsys.readouterr().out
    assert "good-one" in printed
    assert "A study that holds." in printed
    assert "hidden" not in printed


def test_unknown_name_runs_nothing(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["good-one", "nonsense", "--output", str(tmp_path / "out")], package) == 2
    error = capsys.readouterr().err
    assert "nonsense" in error
    assert "good-one" in error
    assert not (tmp_path / "out").exists()


def test_a_study_that_holds(package: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["good_one", "--quick", "--output", str(out)], package) == 0
    record = json.loads((out / "results" / "good-one.json").read_text())
    assert record["counts"] == {"pass": 1, "FAIL": 0, "reported": 1}
    assert record["quick"] is True
    assert [row["verdict"] for row in record["rows"]] == ["pass", "reported"]
    assert record["rows"][1]["measured"] == 1.0
    assert record["rows"][0]["measured"] == 1.0 + 1e-9
    assert {"python", "mfpde", "numpy"} <= set(record["machine"]["versions"])
    picture = out / record["figures"][0]["file"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000
    text = (out / "REPORT.md").read_text()
    assert "| [good-one](#good-one) (quick) | 1 | 0 | 1 |" in text
    assert "one \\| bar" in text
    assert "![A line.](figures/good-one--line.png)" in text
    assert "## Failed" not in text
    assert str(tmp_path) not in text + json.dumps(record)
    assert not plt.get_fignums()


def test_a_failing_verdict_gives_a_failing_exit(package: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["good-one", "bad", "--output", str(out)], package) == 1
    text = (out / "REPORT.md").read_text()
    assert "## Failed" in text
    assert "- **bad**: two is one: measured 2, expected within 1, tolerance 0" in text
    assert "| **all** | 2 | 1 | 1 |" in text
    # the report keeps what other runs left, and what is run again is replaced
    (out / "figures" / "good-one--old.png").write_bytes(b"")
    assert main(["good-one", "--output", str(out)], package) == 0
    assert (out / "REPORT.md").read_text().count("two is one") == 2
    assert not (out / "figures" / "good-one--old.png").exists()


@pytest.mark.parametrize("name", ["raises", "empty"])
def test_no_study_passes_by_saying_nothing(name: str, package: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([name, "good-one", "--output", str(out)], package) == 1
    text = (out / "REPORT.md").read_text()
    assert "/home/someone" not in text
    assert ("OSError: cannot read <path>" in text) == (name == "raises")
    assert json.loads((out / "results" / "good-one.json").read_text())["counts"]["pass"] == 1


def test_numbers_that_are_not_finite_reach_json_and_report(tmp_path: Path) -> None:
    study = Study("Title", "Text.", [row(1.0, math.nan)], [Table("T", ["a"], [[math.inf]])])
    record = _runner.write_study(tmp_path, "odd", study, 0.1, False)
    assert json.loads((tmp_path / "results" / "odd.json").read_text()) == record
    assert record["rows"][0]["measured"] == "nan"
    assert "| inf |" in report([record])


def test_large_figures_are_drawn_smaller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for cells in (130, 700):
        figure, axis = plt.subplots(figsize=(4, 4))
        axis.imshow(np.random.default_rng(0).random((cells, cells)), interpolation="nearest")
        study = Study("T", "S", [row(1, 1)], [], [Figure("x", "X.", figure)])
        record = _runner.write_study(tmp_path, f"noise-{cells}", study, 0, False)
        picture = tmp_path / record["figures"][0]["file"]
        sizes.append((picture.stat().st_size, plt.imread(picture).shape[0]))
    assert sizes[1][1] == 240
    assert sizes[0][1] == 440
    assert sizes[0][0] <= _runner.FIGURE_LIMIT
    assert ("noise-700--x.png is larger" in capsys.readouterr().err) == (sizes[1][0] > _runner.FIGURE_LIMIT)
    assert not plt.get_fignums()


def test_module_lists_the_studies() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "validation", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "cross-validation" in done.stdout
    assert "sgd " in done.stdout
    assert "coverage " in done.stdout


def test_cross_validation_says_what_the_limit_of_a_scheme_is() -> None:
    """The mean-field limit that takes the time step's effect off: exact for a linear neuron, whose V is linear."""
    import mfpde as mf
    from validation.cross_validation import _limit, _sampling_variance, _slope

    problem = mf.problems.linear_neuron(alpha=0.0)
    found = _limit(problem, None, 0.1, (0.0, 0.3, 1.0))
    mean = 2.0 - 3.0 * 0.9 ** np.array([0, 3, 10])
    scale = found[0, 0] / mean[0]
    assert np.abs(found[:, 0] / scale - mean).max() < 1e-9
    points, weights = problem.mu_0.nodes(60)
    assert abs(_sampling_variance(problem, points, weights) / scale**2 - 0.5) < 1e-9
    slope, error = _slope(np.log([1.0, 10.0, 100.0]), -np.log([2.0, 20.0, 200.0]), np.array([0.1, 0.0, 0.1]))
    assert abs(slope + 1.0) < 1e-14
    assert abs(error - 0.1 * math.sqrt(2) / (2 * math.log(10))) < 1e-14


def test_coverage_counts_what_it_says() -> None:
    """Values and observables within their bars, and those left out whose truth is not certain."""
    from validation.coverage import CLASSES, Judged, _shares, cases

    def judged(error: list[float], certain: list[bool]) -> Judged:
        two = np.array(error)
        return Judged("any", False, two, np.ones(2), 2 * two, np.ones(2), np.array(certain))

    found = _shares(
        [judged([0.1, 0.4], [True, True]), judged([0.6, 2.0], [True, True]), judged([9.0, 9.0], [False] * 2)]
    )
    assert (found["observables"], found["values"]) == (2, 4)
    assert (found["by value"], found["by observable"]) == (0.75, 0.5)
    assert (found["confirming, by value"], found["confirming, by observable"]) == (0.5, 0.5)
    assert found["median"] == pytest.approx(0.5 * (1 / 0.4 + 1 / 0.6))
    assert sum(full for full, _ in CLASSES.values()) >= 100
    assert len(cases(True)) == sum(quick for _, quick in CLASSES.values())
    # the same problems each time
    first, second = (cases(True)[0][0].problem.parameters for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("module", "package"), [("torch", "torch"), ("sklearn", "scikit-learn")])
def test_what_is_not_installed_is_said_and_claims_nothing(
    module: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reported by name in one row: no failure, and no verdict either."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else object())
    study, seconds = _runner.run_study("sgd", "validation.sgd", True, lambda fraction, text: None)
    assert [row.claim for row in study.rows] == [f"not run: {package} is not installed"]
    assert study.counts() == {Verdict.PASS: 0, Verdict.FAIL: 0, Verdict.REPORTED: 1}
    record = _runner.write_study(tmp_path, "sgd", study, seconds, True)
    text = report([record])
    assert "| [sgd](#sgd) (quick) | 0 | 0 | 1 |" in text
    assert f"not run: {package} is not installed" in text


def test_birth_death_one_for_one() -> None:
    """Equal potentials change nothing; the share of the worse of two falls by rate p (1 - p) in a step."""
    from validation.sgd import events

    rng = np.random.default_rng(8)
    assert np.array_equal(events(np.full(50, 0.3), 5.0, rng), np.arange(50))
    # of two neurons the worse becomes the better unless neither has an event: the other one is never itself
    few = np.stack([events(np.array([1.0, 0.0]), 1.0, rng) for _ in range(4000)])
    assert np.array_equal(few[:, 1], np.ones(4000))
    share = math.exp(-1.0)
    assert abs((few[:, 0] == 0).mean() - share) < 5 * math.sqrt(share * (1 - share) / 4000)
    n, bad, rate, count = 400, 100, 0.05, 400
    V = np.where(np.arange(n) < bad, 1.0, 0.0)
    source = np.stack([events(V, rate, rng) for _ in range(count)])
    assert source.min() >= 0
    assert source.max() < n
    change = V[source].mean(axis=1) - bad / n
    p = bad / n
    # who is killed becomes one of the n - 1 others, who duplicates overwrites one of them; events of a step that meet
    # change this by its square, 1e-4 at most
    expected = -(p * -math.expm1(-rate * (1 - p)) * (1 - p) + (1 - p) * -math.expm1(-rate * p) * p) * n / (n - 1)
    assert abs(change.mean() - expected) < 5 * change.std(ddof=1) / math.sqrt(count) + 1e-4
    assert expected < -20 * change.std(ddof=1) / math.sqrt(count)


def test_slopes_and_limits_of_the_sgd_study() -> None:
    from validation.sgd import _toward_zero, centred, slope

    sizes = [10.0, 100.0, 1000.0]
    found, error = slope(sizes, [np.array([4.0, 6.0]) / 10**k for k in (0, 1, 2)])
    assert abs(found + 0.5) < 1e-14
    # the log of a mean of two squares of normal numbers has the variance pi^2/6, of an exponential law
    assert abs(error - 0.5 * math.pi / math.sqrt(6) * math.sqrt(2) / (2 * math.log(10))) < 1e-14
    wild = [np.array([0.0] * 31 + [32.0]) / 10**k for k in (0, 1, 2)]  # each mean is known to itself only
    assert abs(slope(sizes, wild)[1] - 0.5 * math.sqrt(2) / (2 * math.log(10))) < 1e-14
    # two replicas count less than sixty: the slope is nearly that of the two good points
    uneven = [np.ones(60), np.full(60, 0.1), np.full(2, 1.0)]
    assert slope(sizes, uneven)[0] < -0.4
    steps = np.array([4.0, 2.0, 1.0])
    values = np.array([[[1.0], [2.0]]]) + steps[:, None, None] * np.array([[[0.5], [-3.0]]])
    assert np.abs(_toward_zero(steps, values) - [[1.0], [2.0]]).max() < 1e-14
    responses = np.array([[[1.0, 5.0]], [[3.0, 5.0]]])
    assert np.abs(centred(responses, np.array([0.5, 0.5])) - 0.5).max() < 1e-14


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_infinitely_many_neurons_take_the_steps_of_the_package(alpha: float) -> None:
    """Energy, outputs and moment after two steps: formulas of the study against the energy bound to its box."""
    from validation.sgd import MOMENT, _Data, _euler, _named

    data = _Data.load()
    problem, h, inputs = data.problem(alpha), 0.25, np.array([-1.0, 0.5])
    bound = problem.bound_energy
    points, weights = problem.mu_0.nodes(5)
    for _ in range(2):
        points = points - h * bound.gradient(points, bound.response(points, weights))
        V = bound.potential(points, bound.response(points, weights))
        excess = V - weights @ V
        weights = weights * np.where(excess > 0, np.exp(-alpha * h * excess), 2 - np.exp(alpha * h * excess))
        weights = weights / weights.sum()
    found = _euler(data, h, alpha, np.array([0.0, 2 * h]), inputs, order=5)
    assert abs(found["energy"][0] - 0.5) < 1e-12  # targets of variance 1, amplitudes of mean 0
    assert abs(found["energy"][1] - bound.energy(points, weights)) < 1e-10
    output = problem.network.output(inputs, list(points.T), weights)
    assert np.abs(found[_named(inputs)][1] - output).max() < 1e-10
    assert abs(found[MOMENT][1] - weights @ points[:, 0] ** 2) < 1e-10
