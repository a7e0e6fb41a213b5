"""The ways that the pages on particles and references describe, with a problem made in Python and files in between.

Whoever comes to a file later has nothing but it: what needs the problem finds it there.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from shared import invoke, printed_by

import mfpde as mf
from mfpde.pack import save_reference

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = [
    pytest.mark.filterwarnings("ignore:the start is .* cells wide:mfpde.RunWarning"),
    pytest.mark.filterwarnings("ignore:.* of the mass lies at a truncation end:mfpde.RunWarning"),
]


def blocks(page):
    """The code of a page in Python, block by block."""
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def block_with(page, words):
    (found,) = [code for code in blocks(page) if words in code]
    return found


def trained(n, seed, lr, x, y, times):
    """The loop of the page, with gradients by hand: gradient descent of ``1/2 mean (f - y)^2`` with ``lr n``."""
    rng = np.random.default_rng(seed)
    c, a, b = rng.standard_normal(n), rng.standard_normal(n), 4 * rng.random(n) - 2
    steps, frames = {round(t / lr) for t in times}, []
    for k in range(max(steps) + 1):
        if k in steps:
            frames.append(np.stack([c, a, b], axis=1))
        unit = np.tanh(x[:, None] * a + b)
        residual = (unit @ c / n - y)[:, None] / len(x)
        slope = residual * c * (1 - unit**2)
        c, a, b = c - lr * (residual * unit).sum(0), a - lr * (slope * x[:, None]).sum(0), b - lr * slope.sum(0)
    return np.stack(frames)


def test_particles_of_ones_own_are_compared_with_the_file_of_a_run(tmp_path, monkeypatch):
    """`docs/your-particles.md`: its problem, its layout of particles, its lines; solved here, compared elsewhere."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(-1, 1, 20)
    y = np.sin(2 * x)
    names = {"mf": mf, "x": x, "y": y}
    problem_of_the_page = block_with("your-particles.md", "problem = mf.Problem(")
    assert "shape=(24, 24, 24)" in problem_of_the_page
    exec(problem_of_the_page.replace("24, 24, 24", "10, 10, 10"), names)
    times, arrays = (0.0, 0.5, 1.0), {}
    for n in (40, 160):
        arrays[f"n{n}/positions"] = np.stack([trained(n, (n, seed), 0.05, x, y, times) for seed in range(8)])
        arrays[f"n{n}/times"], arrays[f"n{n}/dt"] = np.array(times), 0.05
    np.savez("runs.npz", axes=["c", "a", "b"], **arrays)
    solution = mf.solve(names["problem"], save=[0.5, 1.0], t_end=1.0, output="run.h5", progress=False)

    compared = block_with("your-particles.md", "report = mf.compare(solution, records)")
    lines = [line.split("#")[0] for line in compared.splitlines() if re.match(r"records|report =", line)]
    code = "import mfpde as mf\nsolution = mf.load('run.h5')\nproblem = solution.problem\n" + "\n".join(lines)
    code = code.replace("solution, records", "solution, records, sensitivities=False, uncertainty=0.1")
    told = printed_by(f"{code}\nprint(report.verdict.name, len(records), repr(problem))").strip()
    verdict, count, rest = told.split(" ", 2)
    records = mf.load_particles("runs.npz", names["problem"].axes)
    here = mf.compare(solution, records, sensitivities=False, uncertainty=0.1)
    assert (verdict, count, rest) == (here.verdict.name, "2", repr(names["problem"]))
    done = invoke("compare", "run.h5", "--particles", "runs.npz", "--no-sensitivities", "--uncertainty", "0.1", "-q")
    assert done.exit_code == {"CONSISTENT": 0, "UNDECIDED": 0, "INCONSISTENT": 4}[verdict], done.output
    recorder = mf.testing.ParticleRecorder(mf.load("run.h5").problem)
    recorder.record(0.5, arrays["n40/positions"][0, 1])
    assert recorder.problem.axes == names["problem"].axes


def bumps():
    """A problem with no name, of parts that files hold."""
    kernel = mf.SeparableKernel(x=mf.GaussianKernel(2.0, 1.5))
    return mf.Problem(
        energy=mf.Discrepancy(kernel, [[-1.0], [1.5]], [0.6, 0.4]) + mf.External(mf.Formula("x**2/50", "x")),
        axes=[mf.Axis("x", -5, 5)],
        initial=mf.Product(x=stats.norm(0, 0.8)),
        t_end=1.0,
        shape=100,
    )


class MyCode:
    """A particle code: gradient descent of independent starts in the problem's potential, by finite widths."""

    @staticmethod
    def train(n, seed, step):
        points, weights = np.array([-1.0, 1.5]), np.array([0.6, 0.4])
        x = np.random.default_rng(seed).normal(0, 0.8, n)
        slope = lambda x, y: -1.5 * (x[:, None] - y) / 2.0 * np.exp(-((x[:, None] - y) ** 2) / 4.0)  # noqa: E731
        for k in range(round(1.0 / step) + 1):
            yield k * step, x[:, None]
            x = x - step * (slope(x, x).mean(axis=1) - slope(x, points) @ weights + x / 25)


TEN_LINES = "def test_my_training_follows_the_mean_field_limit(mean_field_reference)"


def test_a_reference_of_ones_own_problem_is_used_in_a_test(tmp_path, mean_field_reference):
    """`docs/references.md`: the test of the page, for the file of a reference that no package brings."""
    path = tmp_path / "mine.h5"
    wanted = [mf.EnergyAt([0.5, 1.0]), mf.Moment("x", 1, [0.5, 1.0]), mf.Moment("x", 2, [0.5, 1.0])]
    found = mf.reference(bumps(), 1e-3, wanted, cache=False)
    save_reference(found, path)
    code = block_with("references.md", TEN_LINES).replace('"gaussian-bumps"', repr(str(path)))
    code = code.replace("import mfpde, my_code", "import mfpde").replace("step=0.01", "step=0.05")
    code = code.replace("error=0.01", "error=0.03")  # five times the step of the page
    names = {"my_code": MyCode}
    exec(code, names)
    names["test_my_training_follows_the_mean_field_limit"](mean_field_reference)
    reference = mean_field_reference(str(path))
    assert reference.problem.fingerprint() == found.problem.fingerprint()
    assert mf.testing.ParticleRecorder(reference).wants(0.5)

    class Wrong(MyCode):
        @staticmethod
        def train(n, seed, step):
            for t, x in MyCode.train(n, seed, step):
                yield t, 1.3 * x

    names["my_code"] = Wrong
    with pytest.raises(AssertionError, match="particles do not match the reference for 'problem'"):
        names["test_my_training_follows_the_mean_field_limit"](mean_field_reference)
    assert invoke("verify", path).exit_code == 0


def test_a_reference_whose_problem_no_file_holds_says_why(tmp_path):
    path = tmp_path / "mine.h5"
    made = bumps()
    own = mf.External(lambda x: x**2 / 50)
    found = mf.reference(made.replace(energy=made.energy.terms[0] + own), 1e-1, [mf.EnergyAt([0.5])], cache=False)
    save_reference(found, path)
    loaded = mf.load_reference(path)
    with pytest.raises(ValueError, match=r"energy\[1\] is a function of your own, .*<lambda>; pass it, ") as caught:
        mf.testing.ParticleRecorder(loaded)
    assert "\n" not in str(caught.value)
    assert mf.testing.ParticleRecorder(mf.load_reference(path, found.problem)).wants(0.5)
