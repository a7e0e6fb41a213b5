"""Damaged files, and random problems by the ten thousand: no traceback, no hang, no mass lost."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mfpde as mf
from mfpde import cli
from validation import _damage
from validation._damage import Attempt, Outcome
from validation._runner import Progress, Study

HEADLINE = "damaged TOML files: tracebacks"

HOME = Path(__file__).resolve().parents[1]
PROPERTIES = HOME / "tests" / "laws" / "test_properties.py"
SOURCE = "what the documentation promises"
MEMORY = 2**31
"""Bytes that the reading of a damaged file may take at most; the system refuses more."""
LIMIT = 30.0
"""Seconds after which a case counts as hanging; valid runs are stopped after three steps."""
CELLS = 20_000
"""A mutation may ask for a run that is valid and large: it is built, and its first steps are taken up to this size."""


def run(quick: bool, progress: Progress) -> Study:
    """All kinds of files, and the property tests."""
    study = Study(
        "Robustness",
        "Valid files are damaged at random - bytes flipped, cut, moved; tokens, keys, types and shapes exchanged; "
        "nested, enlarged, linked elsewhere - and handed to the command line in children of this process with a limit "
        "on memory and time. Then the property tests of `tests/laws/test_properties.py` in their long profile.",
        quick,
        progress,
    )
    study.parts((_damaged, 0.6), (_properties, 0.4))
    return study


def _damaged(study: Study) -> None:
    """All kinds of files."""
    lines: list[Sequence[str | float | int]] = []
    counts = {"TOML": 10_000, "HDF5": 1_000, "NPZ": 1_000, "CSV": 1_000, "particle": 1_000}
    with tempfile.TemporaryDirectory() as folder:
        checks = prepared(Path(folder))
        for k, (kind, count) in enumerate(counts.items()):
            n = count // 40 if study.quick else count
            found: list[Attempt] = []
            peak = 0
            for first in range(0, n, 50):
                study.progress((k + first / n) / len(counts), f"{kind} files")
                some, used = _damage.attempts(
                    checks[kind], range(first, min(first + 50, n)), batch=50, limit=LIMIT, memory=MEMORY
                )
                found += some
                peak = max(peak, used)
            lines.append(_judge(study, kind, found, peak))
    study.table(
        "Damaged files",
        ("kind", "files", *(outcome.value for outcome in Outcome), "slowest, s", "memory, MiB"),
        lines,
        "*answer*: what was read is what a valid file says; a flipped bit in a number is another valid number, "
        "which `mfpde verify` finds and reading does not. *refused*: one line, exit code 2.",
    )


def _judge(study: Study, kind: str, found: Sequence[Attempt], peak: int) -> Sequence[str | float | int]:
    """The claims on one kind of files, and its line in the table."""
    count = Counter(attempt.outcome for attempt in found)
    slowest = max(attempt.seconds for attempt in found)
    for attempt in found:
        if attempt.outcome not in (Outcome.ANSWER, Outcome.REFUSED):
            said = " ".join(attempt.text.split())[-300:]
            print(f"{kind} {attempt.case}: {attempt.outcome.value}: {said}", file=sys.stderr)
    name = f"{len(found)} damaged {kind} files"
    for outcome, what in (
        (Outcome.TRACEBACK, "tracebacks"),
        (Outcome.HANG, f"hangs (over {LIMIT:g} s)"),
        (Outcome.CRASH, "crashes"),
        (Outcome.UNCLEAR, "refused otherwise than in one line with exit code 2"),
    ):
        study.at_most(f"{name}: {what}", SOURCE, 0, count[outcome])
    note = "resident; the address space is limited by the system to the same number"
    study.at_most(f"{name}: memory beyond the start, GiB", SOURCE, MEMORY / 2**30, peak / 2**30, note=note)
    study.report(f"{name}: share that is refused", SOURCE, count[Outcome.REFUSED] / len(found))
    return kind, len(found), *(count[outcome] for outcome in Outcome), round(slowest, 2), round(peak / 2**20, 1)


# ---------------------------------------------------------------------------------------------------------------------
# cases
# ---------------------------------------------------------------------------------------------------------------------

CSV = "a,b,y\n" + "".join(f"{0.1 * i:.2f},{(-1) ** i * 0.3:.2f},{(i * 7 % 5) / 5:.2f}\n" for i in range(12))

TOML = (
    'problem = "linear-neuron"\nshape = [24]\nt_end = 0.1\n[parameters]\nalpha = 0.5\ntarget = 1.5\n[scheme]\n'
    'transport = "weno5"\ntail_ratio = 1e3\nmethod = "exponential-ssprk3"\ncontroller = "error"\ntolerance = 1e-5\n'
    "[output]\nsave = 3\nplot = false\n",
    'problem = "three-gaussians"\nshape = [12, 12]\nmax_steps = 100\nthreads = 1\n[parameters]\nstart = "good"\n'
    '[scheme]\ntransport = "muscl"\nlimiter = "mc"\nmethod = "strang"\ncontroller = "courant"\nfraction = 0.4\n'
    'growth = 1.5\n[output]\npath = "out.h5"\nsave = [0.0, 0.01, 0.02]\n',
    'problem = "torus-langevin"\nshape = 16\n[scheme]\ntransport = "scharfetter-gummel"\nmethod = "implicit-strang"\n'
    'potential = "start"\nconvergence = 1e-8\ncontroller = "fixed"\ndt = 0.01\n',
    'problem = "gaussian-bumps"\nshape = [10, 10]\n[parameters]\ncentres = [[-1.0, 0.5], [1.5, -1.0]]\n'
    "weights = [0.6, 0.4]\nbandwidth = 1.0\ntemperature = 0.1\nhalf_width = 6.0\n",
    "shape = [10, 10, 10]\nt_end = 0.05\n[network]\n"
    'data = "points.csv"\ninputs = ["a"]\noutputs = ["y"]\nstandardise = true\nactivation = "tanh"\n'
    'loss = "huber"\ndelta = 0.5\nhalf_width = 4.0\n[network.initial]\nc = {distribution = "normal", mean = 0.0, '
    "std = 0.5}\n"
    'a = {distribution = "uniform", lower = -1.0, upper = 1.0}\n[dynamics]\nalpha = {kind = "exponential-decay", '
    "initial = 1.0, final = 0.1, time_constant = 0.3}\ntemperature = 0.01\n",
    'shape = [14, 14]\n[network]\ndata = "points.npz"\nbias = false\nactivation = "hermite2"\nalpha = 0.5\n'
    '[network.axes]\nc = [-3.0, 3.0]\n[dynamics]\nschedule = {kind = "piecewise-linear", times = [0.0, 1.0], values = '
    '[1.0, 0.5]}\nrates = {a = 2.0}\n[dynamics.reinjection]\nkind = "replace"\n'
    'measure = {c = {atom = 0.0}, a = {distribution = "normal", mean = 0.0, std = 0.5}}\n',
)


def _arrays() -> dict[str, Any]:
    x = np.linspace(-1, 1, 12)
    return {"x": x, "y": np.sin(3 * x), "weights": np.linspace(1, 2, 12)}


def prepared(place: Path) -> dict[str, Callable[[int], int]]:
    """Valid files in a folder, and for each kind what is done with a case: it is made, and read."""
    (place / "points.csv").write_text(CSV)
    np.savez(place / "points.npz", **_arrays())
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        valid = [_solution(place), _plane(place), _killed(place), _of_data(place)]
        for text in TOML:  # also loads what is compiled, before children are made
            (place / "valid.toml").write_text(text)
            if _run(place / "valid.toml") not in (0, 3):
                raise RuntimeError(f"this is a valid file: {text}")
    solutions = [path.read_bytes() for path in valid]
    npz = (place / "points.npz").read_bytes()
    clouds = _clouds(place)
    folder = str(place)

    def toml(case: int) -> int:
        rng = random.Random(f"toml {case}")
        path = place / "case.toml"
        path.write_bytes(_damage.mutated_toml(rng, rng.choice(TOML)))
        return _run(path)

    def data(kind: str) -> Callable[[int], int]:
        def check(case: int) -> int:
            rng = random.Random(f"{kind} {case}")
            changed = _damage.mutated_csv(rng, CSV.encode()) if kind == "csv" else _damage.mutated_npz(rng, npz)
            (place / f"case.{kind}").write_bytes(changed)
            path = place / "data.toml"
            inputs, extra = 1, ""
            if kind == "csv":
                extra, inputs = rng.choice(
                    (
                        ("", 2),
                        ('outputs = ["y"]\n', 2),
                        ('inputs = ["a"]\noutputs = ["y"]\n', 1),
                        ('weights = "b"\n', 1),
                    )
                )
            more, bias = rng.choice(
                (("", 1), ("standardise = true\n", 1), ("bias = false\n", 0), ('loss = "huber"\n', 1))
            )
            text = f'shape = {[6] * (1 + inputs + bias)}\n[network]\ndata = "case.{kind}"\n{extra}{more}'
            path.write_text(text + '[scheme]\ntransport = "upwind"\n')
            return _run(path)

        return check

    def hdf5(case: int) -> int:
        rng = random.Random(f"hdf5 {case}")
        path = place / "case.h5"
        _damage.mutated_hdf5(rng, rng.choice(solutions), path)
        code = _command("info", str(path))
        if code != 0:
            return code
        solution = mf.load(path)
        np.asarray(solution.density).sum()
        solution.summary()
        words = rng.choice(
            (["info", "--toml"], ["cite"], ["verify"], ["verify"], ["resume"], ["plot", "-o", f"{folder}/x.png"])
        )
        if words == ["resume"]:
            words += ["--time-limit", "1s", "-o", f"{folder}/resumed.h5", "-f", "-q", "--no-plot"]
        return _command(*words, str(path))

    def particle(case: int) -> int:
        rng = random.Random(f"particle {case}")
        kind = rng.choice((".npz", ".h5"))
        path = place / f"cloud{kind}"
        if kind == ".h5":
            _damage.mutated_hdf5(rng, clouds[kind], path)
        else:
            path.write_bytes(_damage.mutated_npz(rng, clouds[kind]))
        with cli_refusals() as code:
            mf.load_particles(path, ["c", "y"])
        if code or case % 20:
            return 2 if code else 0
        words = ["compare", str(valid[1]), "--particles", str(path), "--uncertainty", "1e-3", "-q"]
        return min(_command(*words), 3)

    return {"TOML": toml, "HDF5": hdf5, "NPZ": data("npz"), "CSV": data("csv"), "particle": particle}


@contextlib.contextmanager
def cli_refusals() -> Any:
    """What the command line makes of the errors that the library may raise."""
    code: list[int] = []
    try:
        yield code
    except (ValueError, OSError, MemoryError) as error:
        print("mfpde: " + " ".join(str(error).split()), file=sys.stderr)
        if "\n" in str(error):
            print("and more lines", file=sys.stderr)
        code.append(2)


def _command(*words: str) -> int:
    try:
        cli.main(list(words))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _run(path: Path) -> int:
    """Build the run, and take three steps if it is not large."""
    from mfpde.runs.configuration import load_config
    from mfpde.runs.tables import ConfigurationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            configuration = load_config(path)
            problem = configuration.problem()
            cells = problem.grid(configuration.solve_arguments().get("shape")).size
            save = configuration.solve_arguments()["save"]
    except (ConfigurationError, ValueError):
        cells, save = 0, 2  # the command says why
    many = save if isinstance(save, int) else len(save)
    if cells * many > 50 * CELLS or cells > CELLS:
        return 0
    target = path.with_suffix(".h5")
    return _command("run", str(path), "-o", str(target), "-q", "-f", "--no-plot", "--max-steps", "3")


def _solution(place: Path) -> Path:
    path = place / "line.h5"
    _save(mf.solve(mf.problems.linear_neuron(), (16,), 0.2, save=3, progress=False), path)
    return path


def _plane(place: Path) -> Path:
    path = place / "plane.h5"
    _save(mf.solve(mf.problems.three_gaussians(), (8, 8), 0.05, save=3, progress=False), path)
    return path


def _save(solution: mf.Solution, path: Path) -> None:
    """Without what differs from run to run, so that a case is the same file every time."""
    solution.provenance["volatile"] = {"date": "today"}
    solution.save(path)


def _of_data(place: Path) -> Path:
    path = place / "data.h5"
    text = 'shape = [8, 8, 8]\nt_end = 0.02\n[network]\ndata = "points.csv"\ninputs = ["a"]\n'
    (place / "valid.toml").write_text(text)
    _command("run", str(place / "valid.toml"), "-o", str(path), "-q", "-f", "--no-plot")
    _save(mf.load(path), path)
    return path


def _killed(place: Path) -> Path:
    """The file of a run that was killed."""
    path = place / "killed.h5"
    pid = os.fork()
    if pid == 0:
        seen = 0

        def stop(_: Any) -> bool:
            nonlocal seen
            seen += 1
            if seen == 200:
                os._exit(0)
            return False

        save = [0.02, 0.05, 0.08, 3.0]
        with contextlib.suppress(BaseException):
            mf.solve(
                mf.problems.linear_neuron(),
                (16,),
                3.0,
                controller=mf.FixedStep(1e-3),
                save=save,
                stop=stop,
                output=path,
                progress=False,
            )
        os._exit(1)
    os.waitpid(pid, 0)
    import h5py

    with h5py.File(path, "r+") as file:
        for name in file["volatile"].attrs:
            file["volatile"].attrs[name] = "today"
    return path


def _clouds(place: Path) -> dict[str, bytes]:
    """Particles in both formats."""
    import h5py

    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "positions": 0.3 * rng.standard_normal((2, 3, 40, 2)),
        "times": np.array([0.0, 0.025, 0.05]),
        "weights": np.full((2, 3, 40), 1 / 40),
        "dt": 1e-2,
        "axes": np.array(["c", "y"]),
    }
    np.savez(place / "valid.npz", **arrays)
    with h5py.File(place / "cloud-valid.h5", "w") as file:
        for name in ("positions", "times", "weights"):
            file[f"run/{name}"] = arrays[name]
        file["run"].attrs["dt"] = 1e-2
        file.attrs["axes"] = ["c", "y"]
    return {".npz": (place / "valid.npz").read_bytes(), ".h5": (place / "cloud-valid.h5").read_bytes()}


# ---------------------------------------------------------------------------------------------------------------------
# properties
# ---------------------------------------------------------------------------------------------------------------------


def _properties(study: Study) -> None:
    study.progress(0.0, "property tests")
    began = time.monotonic()
    environment = dict(os.environ, HYPOTHESIS_PROFILE="ci" if study.quick else "long", OMP_NUM_THREADS="1")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROPERTIES)]
    done = subprocess.run(words, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr)
    examples = _examples("ci" if study.quick else "long")
    name = "property tests: mass, sign, energy, symmetry"
    study.claim(f"{name}: exit status", SOURCE, 0, done.returncode)
    least = 0 if study.quick else 10_000
    study.at_least(f"{name}: random examples", SOURCE, least, examples)
    study.report(f"{name}: seconds", SOURCE, time.monotonic() - began)


def _examples(profile: str) -> int:
    """How many random examples the property tests try in a profile, as they say themselves."""
    spec = importlib.util.spec_from_file_location("properties", PROPERTIES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(module.examples(profile))
