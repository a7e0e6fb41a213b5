"""The default scheme with a temperature against the other one, mesh by mesh, and steps against the tolerance."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import mfpde as mf
from validation._runner import Progress, Study

HEADLINE = "double well, alpha = 10: meshes"

Array = NDArray[np.float64]

SCHEMES: tuple[Any, ...] = (mf.ScharfetterGummel(), mf.Weno5())
MESHES = (24, 32, 48, 64, 100, 150, 200, 300, 400)
MOST = 100
"""How many times the implicit steps the explicit scheme is given."""
MORE_STEPS, MORE_ERROR = 3.0, 2.0

RULE = "better: less work, steps times cells, for the same error, order 2 in the cells for Scharfetter-Gummel"
CAP = f"Weno5 is stopped at {MOST} times the steps: it would have to be {MOST**2} times as accurate to be the better"


def run(quick: bool, progress: Progress) -> Study:
    """All parts; the criteria stand in the constants above and in the rows."""
    study = Study(
        "Default schemes and steps",
        "With a temperature there are two candidates: Scharfetter-Gummel fluxes with implicit steps, and fluxes of "
        "high order with explicit ones. On every mesh between 24 and 400 cells of the double well, torus and sphere "
        "problems both are run, and the default must not take 3 times the steps or have twice the error of the better "
        "one. Since what one has in accuracy the other has in steps, the better one is that which needs less work for "
        "the same error. Then: the error with the default falls where a mesh is refined, and the number of steps grows "
        "with the digits asked for no faster than tolerance^(-1/2) where a density has concentrated to few cells.",
        quick,
        progress,
    )
    study.parts((_both_candidates, 0.6), (_refinement, 0.1), (_ladder, 0.3))
    return study


def _both_candidates(study: Study) -> None:
    """The default against the better one of both schemes."""
    found = _problems()
    for i, (name, problem, times) in enumerate(found):
        study.progress(i / len(found), name)
        _against_the_other(study, name, problem, times, MESHES[1:5:3] if study.quick else MESHES)


def _problems() -> list[tuple[str, mf.Problem, list[float]]]:
    return [
        ("double well, alpha = 0", mf.problems.double_well_sampling(alpha=0.0, t_end=20.0), [0.6, 6.0, 20.0]),
        ("double well, alpha = 10", mf.problems.double_well_sampling(t_end=20.0), [0.6, 6.0, 20.0]),
        ("torus", mf.problems.torus_langevin(), [2.0, 6.0, 20.0]),
        ("sphere, short", mf.problems.sphere_langevin(), [0.3, 1.0, 3.0]),
        ("sphere", mf.problems.sphere_langevin(t_end=20.0), [0.3, 3.0, 20.0]),
        ("stiff channel, start beside it", _channel(0.1), [0.01, 0.1, 1.0]),
    ]


def _channel(temperature: float) -> mf.Problem:
    """A well of strength 100, and a start of standard deviation 0.05 far outside of it."""
    return mf.Problem(
        mf.External(lambda x: 50.0 * x**2, lambda x: (100.0 * x,)),
        [mf.Axis("x", -2.0, 2.0)],
        mf.Product(x=stats.norm(1.0, 0.05)),
        temperature=temperature,
        t_end=1.0,
        name="channel",
    )


def _solve(problem: mf.Problem, shape: int | Sequence[int], times: Sequence[float], **options: Any) -> mf.Solution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mf.RunWarning)  # coarse meshes are what this is about
        return mf.solve(problem, shape, save=[0.0, *times], progress=False, throw=False, **options)


def _energies(problem: mf.Problem, times: Sequence[float], cells: int) -> Array:
    """Energies at the times, extrapolated from two fine meshes."""
    fine, coarse = (
        _solve(problem, (n,) * len(problem.axes), times, scheme=SCHEMES[0], controller=mf.ErrorControl(1e-7)).energy
        for n in (cells, cells // 2)
    )
    return np.asarray(fine + (fine - coarse) / 3.0)


@dataclass(frozen=True)
class _Run:
    steps: int
    error: float


def _measured(problem: mf.Problem, n: int, times: Sequence[float], reference: Array) -> list[_Run]:
    """Steps and the largest error of the energy, relative to its fall, of both schemes."""
    runs: list[_Run] = []
    for scheme in SCHEMES:
        most = MOST * runs[0].steps if runs else 100_000
        solution = _solve(problem, n, times, scheme=scheme, max_steps=most)
        error = math.inf
        if solution.result is mf.Result.SUCCESS:
            error = float(np.abs(solution.energy - reference)[1:].max() / np.ptp(reference))
        runs.append(_Run(solution.stats["steps"], error))
    return runs


def _against_the_other(study: Study, name: str, problem: mf.Problem, times: list[float], meshes: Sequence[int]) -> None:
    reference = _energies(problem, times, 1600)
    lines: list[list[Any]] = []
    bad = 0
    for n in meshes:
        runs = _measured(problem, n, times, reference)
        better = 0 if runs[0].steps * math.sqrt(runs[0].error / runs[1].error) <= runs[1].steps else 1
        chosen = SCHEMES.index(mf.Solver(problem, n).scheme)
        steps, error = runs[chosen].steps / runs[better].steps, runs[chosen].error / runs[better].error
        bad += steps > MORE_STEPS or error > MORE_ERROR
        cells = [f"{r.steps}, {r.error:.1e}" if math.isfinite(r.error) else f"over {r.steps}" for r in runs]
        lines.append([n, *cells, type(SCHEMES[better]).__name__, type(SCHEMES[chosen]).__name__])
    claim = f"{name}: meshes of {len(meshes)} with 3 times the steps or twice the error of the better scheme"
    study.at_most(claim, RULE, 0.0, float(bad), note=CAP)
    header = ["cells", "ScharfetterGummel: steps, error", "Weno5: steps, error", "better", "default"]
    text = f"Largest error of the free energy at t = {', '.join(f'{t:g}' for t in times)}, relative to its fall."
    study.table(f"Steps and errors: {name}", header, lines, text)


def _refinement(study: Study) -> None:
    """Refined meshes with the default."""
    study.progress(0.0, "refinement")
    meshes: list[tuple[int, ...]] = [(24, 24), (32, 32), (48, 48), (64, 64), (128, 64)]
    well = mf.Problem(
        mf.External(lambda x, y: 0.5 * (x**2 + y**2), lambda x, y: (x + 0 * y, y + 0 * x)),
        [mf.Axis("x", -2.0, 2.0), mf.Axis("y", -2.0, 2.0)],
        mf.Product(x=stats.norm(0.8, 0.2), y=stats.norm(0.8, 0.2)),
        temperature=0.05,
        name="well",
    )
    spikes = mf.problems.torus_spikes(temperature=0.05, t_end=10.0)
    lines = []
    for name, problem in (("well", well), ("torus-spikes", spikes)):
        times = [0.1 * problem.t_end, problem.t_end]
        reference = _energies(problem, times, 96 if study.quick else 256)
        errors = []
        for shape in meshes[: 3 if study.quick else None]:
            energy = _solve(problem, shape, times).energy
            errors.append(float(np.abs(energy - reference)[1:].max() / np.ptp(reference)))
        worst = max((after - 1e-5) / before for before, after in itertools.pairwise(errors))
        claim = f"{name} at temperature 0.05: largest ratio of the errors on a mesh and on the next coarser one"
        note = "less 1e-5 of the fall, the tolerance of a step; 64 x 64 to 128 x 64 included"
        study.at_most(claim, "two fine meshes, extrapolated", 1.05, worst, note=note)
        lines.append([name, *(f"{error:.1e}" for error in errors)])
    header = ["problem", *(" x ".join(map(str, shape)) for shape in meshes[: len(lines[0]) - 1])]
    study.table("Errors with the default", header, lines)


def _tokens(seed: int) -> mf.Density:
    """The first twelve harmonics of 20 000 tokens."""
    tokens = np.random.default_rng(seed).uniform(0, 2 * np.pi, 20_000)
    modes = {k: np.exp(-1j * k * tokens).mean() for k in range(1, 13)}

    def start(points: Array) -> Array:
        waves = sum((c * np.exp(1j * k * points[:, 0])).real for k, c in modes.items())
        return np.asarray(np.maximum(1 + 2 * waves, 1e-3))

    return mf.Density(start)


def _ladder(study: Study) -> None:
    """Self-attention once its clusters are a few cells wide."""
    study.progress(0.0, "tolerances")
    tolerances = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
    lines = []
    for beta, t_end, seed, cells in ((7.0, 0.1, 1234, 512), (5.0, 0.6, 2, 1024))[: 1 if study.quick else None]:
        attention = mf.problems.self_attention(beta=beta)
        problem = dataclasses.replace(attention, initial=_tokens(seed), t_end=t_end)
        runs = [
            _solve(problem, cells, [t_end], controller=mf.ErrorControl(tolerance), max_steps=50_000)
            for tolerance in tolerances
        ]
        fixed = _solve(problem, cells, [t_end], controller=mf.FixedStep(t_end / 50_000)).energy[-1]
        steps = [solution.stats["steps"] for solution in runs]
        name = f"self-attention, beta = {beta:g}, {cells} cells"
        worst = max(after / before for before, after in itertools.pairwise(steps))
        claim = f"{name}: largest growth of the steps for a digit more"
        study.at_most(claim, "tolerance^(-1/2)", math.sqrt(10.0), worst, note="third order: 2.15")
        for tolerance, solution in zip(tolerances, runs, strict=True):
            off = abs(solution.energy[-1] / fixed - 1.0)
            claim = f"{name}: relative error of the energy at tolerance {tolerance:.0e}"
            note = "ten steps' worth of the tolerance"
            study.at_most(claim, "50 000 fixed steps", 10 * tolerance, off, note=note)
        lines.append([name, *steps])
    study.table("Steps against the tolerance", ["problem", *(f"{t:.0e}" for t in tolerances)], lines)
