"""The validation runner: verdicts, exit status, files. The studies themselves are run by ``python -m validation``."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
from shared import ROOT, python

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from validation import _runner
from validation._runner import Kind, Row, Study, Verdict, headlines, main, report, studies


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


def test_a_study_says_its_claims_in_their_order() -> None:
    study = Study("Title", "Text.", quick=True)
    study.claim("within", "a source", 1.0, 1.5, 0.5, note="a note")
    study.at_most("most", "a source", 1.0, 2.0, 0.5)
    study.at_least("least", "a source", 1.0, 0.5, 0.5)
    study.report("told", "a source", 7.0, expected=3.0)
    study.claim("as asked", "a source", 1.0, 5.0, kind=Kind.REPORTED)
    assert study.rows == [
        Row("within", "a source", 1.0, 1.5, 0.5, Kind.WITHIN, "a note"),
        Row("most", "a source", 1.0, 2.0, 0.5, Kind.AT_MOST),
        Row("least", "a source", 1.0, 0.5, 0.5, Kind.AT_LEAST),
        Row("told", "a source", 3.0, 7.0, 0.0, Kind.REPORTED),
        Row("as asked", "a source", 1.0, 5.0, 0.0, Kind.REPORTED),
    ]
    assert study.counts() == {Verdict.PASS: 2, Verdict.FAIL: 1, Verdict.REPORTED: 2}


def test_parts_have_their_share_of_the_progress() -> None:
    """A part that is half done counts by its share; a section within it by its part of that."""
    seen: list[tuple[float, str]] = []
    study = Study("Title", "Text.", progress=lambda fraction, text: seen.append((fraction, text)))

    def first(study: Study) -> None:
        study.progress(0.5, "first")

    def second(study: Study) -> None:
        study.progress(0.0, "second")
        with study.section(0.5, 1.0):
            study.progress(0.5, "its second half")
        study.progress(1.0, "second done")

    study.parts((first, 0.2), (second, 0.8))
    study.progress(0.25, "outside")
    # 0.5 * 0.2; 0.2; 0.2 + 0.8 * 0.75; 1
    expected = [(0.1, "first"), (0.2, "second"), (0.8, "its second half"), (1.0, "second done"), (1.0, "")]
    assert seen == [(pytest.approx(fraction), text) for fraction, text in [*expected, (0.25, "outside")]]


GOOD = """'''A study that holds.'''
import matplotlib.pyplot as plt
from validation._runner import Study

HEADLINE = "the other"

def run(quick, progress):
    study = Study("Good study", "It holds.", quick, progress)
    study.progress(0.5, "half")
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    study.claim("one | bar", "arithmetic", 1.0, 1.0 + 1e-9, 1e-8)
    study.report("quick", "itself", float(quick))
    study.at_most("the other one", "arithmetic", 1.0, 0.5, 0.25)
    study.table("Numbers", ["a", "b"], [[1, 2.5], ["x", 1e-7]])
    study.figure("line", "A line.", figure)
    return study
"""
BAD = """'''A study that fails.'''
from validation._runner import Study

def run(quick, progress):
    study = Study("Bad study", "It fails.")
    study.claim("one is one", "arithmetic", 1.0, 1.0)
    study.claim("two is one", "hope", 1, 2)
    return study
"""
RAISES = """'''A study that raises.'''
def run(quick, progress):
    raise OSError("cannot read /home/someone/secret/data.csv")
"""
EMPTY = """'''A study without a claim.'''
from validation._runner import Study

def run(quick, progress):
    return Study("Empty", "Nothing.")
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
    assert record["counts"] == {"pass": 2, "FAIL": 0, "reported": 1}
    assert record["quick"] is True
    assert [row["verdict"] for row in record["rows"]] == ["pass", "reported", "pass"]
    assert record["rows"][1]["measured"] == 1.0
    assert record["rows"][0]["measured"] == 1.0 + 1e-9
    assert {"python", "mfpde", "numpy"} <= set(record["machine"]["versions"])
    picture = out / record["figures"][0]["file"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000
    text = (out / "REPORT.md").read_text()
    assert "2 claims in 1 studies: 2 are confirmed, 0 fail." in text
    # the page names the claim that HEADLINE is part of
    assert "| [good-one](#good-one) (quick) | 2 | 0 | 1 | the other one: 0.5 (at most 1 + 0.25) |" in text
    assert "| one \\| bar | 1 | 1 | 1.00e-08 | pass |" in text
    assert "![A line.](figures/good-one--line.png)" in text
    assert "## Failed" not in text
    assert str(tmp_path) not in text + json.dumps(record)
    assert not plt.get_fignums()


def test_a_failing_verdict_gives_a_failing_exit(package: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["good-one", "bad", "--output", str(out)], package) == 1
    text = (out / "REPORT.md").read_text()
    assert "4 claims in 2 studies: 3 are confirmed, 1 fail." in text
    # without a HEADLINE the first claim
    assert "| [bad](#bad) | 1 | 1 | 0 | one is one: 1 (1 +- 0) |" in text
    assert "| **all** | 3 | 1 | 1 |" in text
    assert "- **bad**: two is one: measured 2, expected within 1, tolerance 0" in text
    # what fails stands on the page before the studies
    assert text.index("## Failed") < text.index("## Bad study") < text.index("## Good study")
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
    assert json.loads((out / "results" / "good-one.json").read_text())["counts"]["pass"] == 2


def test_numbers_that_are_not_finite_reach_json_and_report(tmp_path: Path) -> None:
    study = Study("Title", "Text.")
    study.claim("a claim", "a source", 1.0, math.nan)
    study.table("T", ["a"], [[math.inf]])
    record = _runner.write_study(tmp_path, "odd", study, 0.1, False)
    assert json.loads((tmp_path / "results" / "odd.json").read_text()) == record
    assert record["rows"][0]["measured"] == "nan"
    assert "| inf |" in report([record])


def test_large_figures_are_drawn_smaller(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for cells in (130, 700):
        figure, axis = plt.subplots(figsize=(4, 4))
        axis.imshow(np.random.default_rng(0).random((cells, cells)), interpolation="nearest")
        study = Study("T", "S")
        study.claim("a claim", "a source", 1, 1)
        study.figure("x", "X.", figure)
        record = _runner.write_study(tmp_path, f"noise-{cells}", study, 0, False)
        picture = tmp_path / record["figures"][0]["file"]
        sizes.append((picture.stat().st_size, plt.imread(picture).shape[0]))
    assert sizes[1][1] == 240
    assert sizes[0][1] == 440
    assert sizes[0][0] <= _runner.FIGURE_LIMIT
    assert ("noise-700--x.png is larger" in capsys.readouterr().err) == (sizes[1][0] > _runner.FIGURE_LIMIT)
    assert not plt.get_fignums()


def test_the_report_is_written_without_running(package: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["good-one", "bad", "--output", str(out)], package)
    before = (out / "REPORT.md").read_text()
    (out / "REPORT.md").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert main(["--report", "--output", str(out)], package) == 0
    assert (out / "REPORT.md").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()} == stamps


def test_the_report_that_is_kept_is_that_of_the_results_that_are_kept() -> None:
    """REPORT.md follows the results; every study has results, and a claim that names it."""
    home = Path(_runner.__file__).parent
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((home / "results").glob("*.json"))]
    assert [record["name"] for record in records] == list(studies())
    assert (home / "REPORT.md").read_text(encoding="utf-8") == report(records, headlines())
    for record in records:
        wanted = headlines()[record["name"]]
        assert wanted
        assert any(wanted in row["claim"] and row["kind"] != "reported" for row in record["rows"])


def test_the_study_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "validation" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    folder = tmp_path / "studies_of_the_readme"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "line.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["--quick", "--output", str(tmp_path)], "studies_of_the_readme") == 0
    record = json.loads((tmp_path / "results" / "line.json").read_text())
    assert record["counts"] == {"pass": 1, "FAIL": 0, "reported": 1}


def test_module_lists_the_studies() -> None:
    done = python("-m", "validation", "--list", cwd=ROOT)
    assert done.returncode == 0, done.stderr
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


def test_robustness_finds_the_property_tests() -> None:
    """Where they are now: 40 examples of each of at least five properties, and more than 10^4 in the long profile."""
    from validation.robustness import PROPERTIES, _examples

    text = PROPERTIES.read_text(encoding="utf-8")
    assert _examples("ci") == 40 * text.count("\ndef test_")
    assert text.count("\ndef test_") >= 5
    assert _examples("long") >= 10_000


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


# ---------------------------------------------------------------------------------------------------------------------
# closed forms
# ---------------------------------------------------------------------------------------------------------------------


def follow(start, log_weights, gradient, potential, alpha: float, times):  # type: ignore[no-untyped-def]
    """Points and weights of nodes that move and are weighed by themselves: no code of the package."""
    from scipy.integrate import solve_ivp

    n = len(start)

    def normalised(logs):  # type: ignore[no-untyped-def]
        w = np.exp(logs - logs.max())
        return w / w.sum()

    def change(t, y):  # type: ignore[no-untyped-def]
        x, w = y[:n], normalised(y[n:])
        V = potential(x, w)
        return np.concatenate([-gradient(x, w), -alpha * (V - w @ V)])

    y = np.concatenate([start, log_weights])
    found = solve_ivp(change, (0.0, times[-1]), y, "DOP853", t_eval=times, rtol=1e-12, atol=1e-13)
    return [(y[:n], normalised(y[n:])) for y in found.y.T]


def normal_nodes(mean: float, std: float, descent: float, count: int = 200):  # type: ignore[no-untyped-def]
    """Gauss-Legendre nodes from the bulk of a normal law to `descent` standard deviations away, and logs of weights."""
    low, high = mean + std * (min(descent, 0.0) - 9), mean + std * (max(descent, 0.0) + 9)
    x, w = np.polynomial.legendre.leggauss(count)
    x = 0.5 * (low + high) + 0.5 * (high - low) * x
    return x, np.log(w) - 0.5 * ((x - mean) / std) ** 2


@pytest.mark.parametrize(
    ("target", "alpha", "mean", "variance", "t", "descent"),
    # where the mass comes from: 5.8, 8.4 and 16.4 standard deviations, by an independent measurement
    [(4.0, 5.0, -2.0, 0.2, 1.0, 5.8), (2.0, 30.0, -3.0, 0.01, 1.0, 8.4), (20.0, 3.0, -1.0, 0.5, 1.0, 16.4),
     (-3.0, 100.0, 1.0, 0.6, 0.05, -4.8)],
)  # fmt: skip
def test_linear_neurons_hold_along_nodes_from_the_tails(target, alpha, mean, variance, t, descent) -> None:  # type: ignore[no-untyped-def]
    import mfpde as mf
    from validation.closed_forms import _descent_of_neuron, _values

    problem, times = mf.problems.linear_neuron(target, alpha, mean, variance), np.array([0.4 * t, t])
    assert _descent_of_neuron(problem, t) == pytest.approx(abs(descent), abs=0.06)
    x, logs = normal_nodes(mean, math.sqrt(variance), descent)
    found = follow(
        x, logs, lambda x, w: np.full_like(x, w @ x - target), lambda x, w: (w @ x - target) * x, alpha, times
    )
    asked = (mf.EnergyAt(), mf.Moment("theta", 1), mf.Moment("theta", 2))
    energy, first, second = _values([problem], asked, times)
    for k, (x, w) in enumerate(found):
        assert 0.5 * (w @ x - target) ** 2 == pytest.approx(energy[k], rel=1e-8, abs=0)
        assert w @ x == pytest.approx(first[k], rel=1e-9, abs=0)
        assert w @ x**2 == pytest.approx(second[k], rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("strength", "alpha", "mean", "variance", "t"),
    [(2.5, 29.0, 7.5, 0.03, 2.0), (0.31, 1.1, 15.0, 0.8, 6.0), (1.0, 80.0, 1.0, 0.05, 0.3)],
)
def test_wells_hold_along_nodes_from_the_tails(strength, alpha, mean, variance, t) -> None:  # type: ignore[no-untyped-def]
    import mfpde as mf
    from validation.closed_forms import _descent_of_well, _values

    problem, times = mf.problems.quadratic_well(strength, alpha, mean, variance), np.array([0.4 * t, t])
    descent = _descent_of_well(problem, t)
    assert descent > (5 if variance != 0.05 else 2)
    x, logs = normal_nodes(mean, math.sqrt(variance), -descent)
    found = follow(x, logs, lambda x, w: strength * x, lambda x, w: 0.5 * strength * x**2, alpha, times)
    asked = (mf.EnergyAt(), mf.Moment("x", 1), mf.Moment("x", 2))
    energy, first, second = _values([problem], asked, times)
    for k, (x, w) in enumerate(found):
        assert 0.5 * strength * (w @ x**2) == pytest.approx(energy[k], rel=1e-8, abs=0)
        assert w @ x == pytest.approx(first[k], rel=1e-8, abs=0)
        assert w @ x**2 == pytest.approx(second[k], rel=1e-8, abs=0)
    # where it is now, taken back to the start along the flow
    x, w = found[-1]
    assert abs(w @ x * math.exp(strength * t) - mean) / math.sqrt(variance) == pytest.approx(descent, rel=1e-7, abs=0)


@pytest.mark.parametrize("d", [2.0, 3.7, 25.0])
def test_single_index_holds_along_nodes(d: float) -> None:
    """With q = E u^2, E = c d/(d-1) (1-q)^2/2 and dV/du = -2 c d/(d-1) (1-q) u: the kernel of the docstring, summed."""
    from scipy.special import roots_jacobi

    import mfpde as mf
    from validation.coverage import circle_integral

    rate, times = 1.3, np.array([0.3, 1.2])
    problem = mf.problems.single_index(k=2, d=d, rate=rate)
    # the start is sin^(d-2): powers at the ends belong to the rule, what is left is smooth
    y, w = roots_jacobi(300, d - 2, d - 2)
    start = 0.5 * math.pi * (1 + y)
    logs = np.log(w) + (d - 2) * np.log(np.sin(start) / (1 - y**2))
    c = 2 * rate * d / (d - 1)

    def gradient(x, w):  # type: ignore[no-untyped-def]
        u = np.cos(x)
        return c * (1 - w @ u**2) * u * np.sin(x)

    found = follow(start, logs, gradient, lambda x, w: 0 * x, 0.0, times)
    for t, (x, w) in zip(times, found, strict=True):
        assert 0.25 * c * (1 - w @ np.cos(x) ** 2) ** 2 == pytest.approx(problem.exact["energy"](t), rel=1e-9, abs=0)
        second = circle_integral(problem.exact["density"], np.square, t, 0.0, math.pi)
        assert w @ x**2 == pytest.approx(second, rel=1e-9, abs=0)
        assert circle_integral(problem.exact["density"], np.ones_like, t, 0.0, math.pi) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "given", "t"),
    [
        ("gaussian-langevin", {"alpha": 60.0, "mean": 4.0, "variance": 0.02, "temperature": 1.5}, 0.05),
        ("gaussian-langevin", {"alpha": 20.0, "mean": 3.0, "variance": 0.1, "reaction": "balanced"}, 0.1),
        ("gaussian-langevin", {"alpha": 0.0, "mean": 6.0, "coupling": -0.5}, 2.0),
        ("gaussian-sampling", {"alpha": 50.0, "target_mean": 3.0, "variance": 0.04, "target_variance": 0.8}, 0.02),
        ("gaussian-sampling", {"alpha": 0.3, "target_mean": -5.0, "variance": 0.9, "target_variance": 0.02}, 0.03),
    ],
)
def test_gaussians_with_noise_solve_the_equation_at_every_point(name: str, given: dict[str, float], t: float) -> None:
    """For l = log mu: dl/dt = V'' + tau l'' + (V' + tau l') l' - alpha (r - E r); r is V + tau l or V."""
    import mfpde as mf

    problem = mf.problems.get(name, **given)
    p, exact = problem.parameters, problem.exact
    assert p is not None
    if name == "gaussian-sampling":
        tau, free, a, b, centre = 1.0, True, 1 / p["target_variance"], 0.0, p["target_mean"]
    else:
        tau, free, a, b, centre = p["temperature"], p["reaction"] == "free-energy", p["strength"], p["coupling"], 0.0

    def law(x, t):  # type: ignore[no-untyped-def]
        m, s = exact["mean"](t), exact["variance"](t)
        return -0.5 * (x - m) ** 2 / s - 0.5 * math.log(2 * math.pi * s)

    m, s = exact["mean"](t), exact["variance"](t)
    z, w = np.polynomial.hermite_e.hermegauss(12)
    x, w = m + math.sqrt(s) * z, w / w.sum()
    potential = 0.5 * a * (x - centre) ** 2 + b * m * x
    slope, log_slope = a * (x - centre) + b * m, -(x - m) / s
    reacts = potential + (tau * law(x, t) if free else 0.0)
    right = a - tau / s + (slope + tau * log_slope) * log_slope - p["alpha"] * (reacts - w @ reacts)
    h = 1e-4 * t  # differences of fourth order: 1e-15 of the size, and round-off 1e-11
    left = (8 * (law(x, t + h) - law(x, t - h)) - (law(x, t + 2 * h) - law(x, t - 2 * h))) / (12 * h)
    assert np.abs(left - right).max() < 1e-8 * np.abs(right).max()
    assert (exact["mean"](0.0), exact["variance"](0.0)) == pytest.approx((p["mean"], p["variance"]), rel=1e-14)
    energy = w @ (0.5 * a * (x - centre) ** 2 + tau * law(x, t)) + 0.5 * b * m**2
    if name == "gaussian-sampling":
        energy += 0.5 * math.log(2 * math.pi * p["target_variance"])
    assert energy == pytest.approx(exact["energy"](t), rel=1e-11, abs=0)


def test_what_a_box_changes_is_bounded() -> None:
    """Nodes of the start cut off at the box's ends against the closed form of the whole line."""
    import mfpde as mf
    from validation.closed_forms import KNOWN, _doubt, _values, cut

    # the suggested box ends 7 standard deviations beyond the two means, at all times
    known = mf.problems.linear_neuron(**KNOWN[0])
    assert cut(known, 1.0) == pytest.approx(2 * 7 * math.exp(-24.5) / math.sqrt(2 * math.pi), rel=1e-9)
    target, alpha, mean, variance = -1.0, 5.0, -2.0, 0.2
    problem, times = mf.problems.linear_neuron(target, alpha, mean, variance), np.array([0.1])
    std, asked = math.sqrt(variance), (mf.EnergyAt(), mf.Moment("theta", 1))
    true = _values([problem], asked, times)
    for reach in (3.5, 5.0):
        axis = mf.Axis("theta", mean - reach * std, 6.0)
        part = SimpleNamespace(
            name=problem.name, axes=[axis], exact=problem.exact, parameters=problem.parameters
        )  # no Problem: that warns of such a box
        doubt = _doubt([part], asked, times)
        x, w = np.polynomial.legendre.leggauss(300)
        x = 0.5 * (axis.lower + axis.upper) + 0.5 * axis.length * x
        logs = np.log(w) - 0.5 * ((x - mean) / std) ** 2
        ((x, w),) = follow(
            x, logs, lambda x, w: np.full_like(x, w @ x - target), lambda x, w: (w @ x - target) * x, alpha, times
        )
        for error, bound in zip((0.5 * (w @ x - target) ** 2 - true[0], w @ x - true[1]), doubt, strict=True):
            assert 0.01 * bound[0] < abs(error[0]) <= bound[0]


def answer(
    trial, shift: float = 0.0, bar: float = 1e-6, reached: bool = True  # type: ignore[no-untyped-def]
):  # fmt: skip
    """What a reference would look like that is off by so much, relatively."""
    observables = [
        SimpleNamespace(name=o.name, value=true * (1 + shift), bar=bar * np.abs(true), relative=bar)
        for o, true in zip(trial.asked, trial.true or [np.ones(1)], strict=True)
    ]
    return SimpleNamespace(reached=reached, observables=observables)


def test_wrong_in_silence_is_outside_the_bar_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    import mfpde as mf
    from validation import closed_forms
    from validation.closed_forms import KNOWN, Ended, _known, judge

    trial = _known(KNOWN[0])

    def told(act):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(closed_forms, "_reference", lambda trial, budget: act())
        found = judge(trial)
        return found.ended, found.outside, found.silent

    def warns(category):  # type: ignore[no-untyped-def]
        warnings.warn("the tails", category, stacklevel=1)
        return answer(trial, 1e-3)

    def raises(error):  # type: ignore[no-untyped-def]
        raise error

    assert told(lambda: answer(trial, 0.9e-6)) == (Ended.REACHED, False, False)
    assert told(lambda: answer(trial, 1.1e-6)) == (Ended.REACHED, True, True)
    assert told(lambda: answer(trial, math.nan)) == (Ended.REACHED, True, True)
    assert told(lambda: answer(trial, 0.0, math.nan)) == (Ended.REACHED, True, True)
    assert told(lambda: answer(trial, 1e-3, reached=False)) == (Ended.NOT_REACHED, True, False)
    assert told(lambda: warns(mf.RunWarning)) == (Ended.WARNED, True, False)
    assert told(lambda: warns(RuntimeWarning)) == (Ended.REACHED, True, True)  # not one that the package means
    assert told(lambda: raises(mf.Disagreement("apart"))) == (Ended.DISAGREEMENT, False, False)
    assert told(lambda: raises(ValueError("no"))) == (Ended.RAISED, False, False)
    # what the box cuts off is no error of the reference
    monkeypatch.setattr(closed_forms, "_reference", lambda trial, budget: answer(trial, 1e-3))
    unsure = dataclasses.replace(trial, doubt=(2e-3 * trial.true[0],))
    assert not judge(unsure).outside
    assert not len(judge(unsure).ratios)
    assert judge(trial).ratios == pytest.approx([1e-3], rel=1e-9)
    # errors of round-off say nothing of a bar
    monkeypatch.setattr(closed_forms, "_reference", lambda trial, budget: answer(trial, 0.5e-12))
    assert not len(judge(trial).ratios)


def test_closed_forms_are_the_same_problems_each_time() -> None:
    from validation.closed_forms import CLASSES, KNOWN, PROBLEMS, TUNING, _neuron_from_tails, _well_from_tails, trials

    assert sum(CLASSES.values()) == PROBLEMS == 300
    few, again, more = trials(TUNING, 12), trials(TUNING, 12), trials(TUNING, 20)
    assert (len(few), len(more)) == (12 + len(KNOWN), 20 + len(KNOWN))
    assert [t.name for t in few] == [t.name for t in again]
    assert {t.name for t in few} < {t.name for t in more}
    for a, b in zip(few, again, strict=True):
        assert a.tolerance == b.tolerance
        assert all(np.array_equal(x, y) for x, y in zip(a.true, b.true, strict=True))
    for trial in more:
        assert 1e-8 <= trial.tolerance <= 1e-3
        assert 0 < trial.times[-1] <= 10
        assert all(np.isfinite(v).all() for v in (*trial.true, *trial.doubt))
    # in the tails on purpose, whatever the seed
    for make in (_neuron_from_tails, _well_from_tails):
        descents = [make(np.random.default_rng(k)).descent for k in range(20)]
        assert min(descents) > 3.5
        assert max(descents) < 19
        assert sum(d > 9 for d in descents) >= 5


def test_a_study_of_closed_forms_counts_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are right, but for one that is wrong in silence and one whose bars are far too wide."""
    from validation import closed_forms
    from validation.closed_forms import TUNING, run, trials

    names = [trial.name for trial in trials(TUNING, 12)]

    def reference(trial, budget):  # type: ignore[no-untyped-def]
        shift = 1e-3 if trial.name == names[5] else 1e-7
        return answer(trial, shift, 1e-2 if trial.name == names[6] else 1e-6)

    monkeypatch.setattr(closed_forms, "_reference", reference)
    monkeypatch.setattr(closed_forms, "CONFIRMING", None)  # the quick version does not look at it
    study = run(True, lambda fraction, text: None)
    rows = {row.claim: row for row in study.rows}
    silent = rows["problems that are wrong in silence"]
    assert silent.measured == 1
    assert silent.verdict is Verdict.FAIL
    assert names[5] in silent.note
    assert rows["median of bar over error"].measured == pytest.approx(10, rel=1e-3)
    assert rows["median of bar over error"].verdict is Verdict.PASS
    assert rows["problems"].measured == len(names)
    assert rows["share of calls that end: reached"].measured == 1.0
    (seconds,) = (row for claim, row in rows.items() if claim.startswith("seconds that a call"))
    assert seconds.verdict is Verdict.PASS
    worst = next(table for table in study.tables if table.title == "Worst cases")
    assert names[5] in str(worst.rows[0][0])
    assert "wrong in silence" in str(worst.rows[0][4])
    for figure in study.figures:
        plt.close(figure.figure)


def test_quantiles_are_values_that_occur() -> None:
    from validation.closed_forms import _quantile

    values = np.array([1.0, 2.0, 3.0, math.inf])
    assert _quantile(values, 0.5) == 2.0
    assert _quantile(values, 0.75) == 3.0
    assert _quantile(values, 0.95) == math.inf
    assert math.isnan(_quantile(np.zeros(0), 0.5))


def test_a_slow_first_call_may_compile_a_slow_second_one_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from validation import closed_forms

    for takes, expected, calls in (([5.5], 5.5, 1), ([40.0, 5.2], 5.2, 2), ([40.0, 9.0], 9.0, 2)):
        clock, made = [0.0], []

        def reference(trial, budget, takes=takes, made=made, clock=clock):  # type: ignore[no-untyped-def]
            clock[0] += takes[len(made)]
            made.append(budget)
            return answer(trial)

        monkeypatch.setattr(closed_forms, "_reference", reference)
        monkeypatch.setattr(closed_forms, "time", SimpleNamespace(perf_counter=lambda clock=clock: clock[0]))
        study = Study("Title", "Text.")
        closed_forms._timed(study, ["linear-neuron"])
        (line,) = study.tables[0].rows
        assert (line[1], line[2], made) == (expected, "reached", [5.0] * calls)
        # a second over the budget of 5 s is allowed
        assert study.rows[0].measured == expected
        assert study.rows[0].verdict is (Verdict.PASS if expected <= 6.0 else Verdict.FAIL)


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
