"""What several test files use: small meshes and densities, comparisons bit for bit, processes, runs that die."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from scipy import stats

import mfpde as mf
from mfpde.equation.grid import Axis, End, Grid
from mfpde.mesh.schemes import Limiter, Muscl, Upwind, Weno5
from mfpde.particles import simulate

ROOT = Path(__file__).resolve().parents[1]
"""Where the package is imported from."""
FILES = ROOT / "tests" / "files"
"""Files that earlier versions wrote."""
EPS = np.finfo(float).eps
EXPLICIT = [Upwind(), *(Muscl(limiter) for limiter in Limiter), Weno5()]
"""The schemes whose fluxes are explicit, each limiter once."""


# ----- meshes and densities


class PassByPass(mf.CompiledAlgebra):
    """Not the package's own algebra: there is no program for it, and `Solver.step` goes from pass to pass."""


def name_of(value):
    """How a scheme, or what else a test is parametrised by, is called in the names of tests."""
    if isinstance(value, Muscl):
        return f"{value.name}-{value.limiter.value}"
    return value.name if hasattr(value, "name") else str(value)


def box(shape, ends=End.TRUNCATION):
    """A mesh of [-1, 1] x [-1, 1.5] x ..; `ends` are those of every axis, or a list of one a axis."""
    ends = ends if isinstance(ends, list) else [ends] * len(shape)
    return Grid([Axis(f"x{i}", -1.0, 1.0 + 0.5 * i, end) for i, end in enumerate(ends)], shape)


def wavy(*coordinates):
    """A rate that depends on all coordinates and has the period of no axis."""
    return 1.2 + 0.9 * np.sin(3.0 * sum(coordinates))


def patchy(shape, volume, seed=0):
    """A density of mass 1 on cells of a volume: tall and low ones, and a fifth of them empty."""
    rng = np.random.default_rng(seed)
    mu = rng.random(shape) ** 4
    mu[rng.random(shape) < 0.2] = 0.0
    return mu / (mu.sum() * volume)


def fitted_order(steps, errors):
    """The slope of log(errors) in log(steps)."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


# ----- problems and clouds


def quadratic(a=1.3, b=0.7, temperature=0.0, *, mean=1.5, variance=0.36, half_width=12.0, **options):
    """F = a x^2/2, K = b x y: every moment in closed form, for every number of particles."""
    energy = mf.External(lambda x: 0.5 * a * x**2, lambda x: (a * x,))
    if b != 0:
        energy = energy + mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), weight=b)
    return mf.Problem(
        energy=energy,
        axes=[mf.Axis("x", -half_width, half_width)],
        initial=mf.Product(x=stats.norm(mean, math.sqrt(variance))),
        temperature=temperature,
        **options,
    )


TAILS = [
    {"target": 4.0, "alpha": 5.0, "mean": -2.0, "variance": 0.2},
    {"target": 4.0, "alpha": 4.0, "mean": -1.0, "variance": 0.25},
    {"alpha": 30.0, "mean": -3.0, "variance": 0.01},
    {"target": 20.0},
]
"""Linear neurons whose mass descends from six to sixteen spreads out in a tail of the start."""


def reinjected(alpha, **changes):
    """The three Gaussians, with neurons that are born from normal laws."""
    measure = mf.Product(c=stats.norm(0, 1), y=stats.norm(0, 1))
    return replace(mf.problems.three_gaussians(alpha=alpha), reinjection=mf.Reinjection(measure), **changes)


def quiet(problem, n, **arguments):
    """A cloud of n particles, without a bar."""
    return simulate(problem, n, progress=False, **arguments)


# ----- bit for bit


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_solution(a: mf.Solution, b: mf.Solution, *, volatile: bool = False) -> None:
    """Equality of everything but where the densities are; of date and duration too if `volatile`."""
    assert a.grid == b.grid
    for name in ("times", "energy", "response"):
        assert same_bits(getattr(a, name), getattr(b, name)), name
    assert same_bits(np.asarray(a.density), np.asarray(b.density))
    assert a.diagnostics.keys() == b.diagnostics.keys()
    for name, values in a.diagnostics.items():
        assert same_bits(values, b.diagnostics[name]), name
    for name in ("result", "stats", "warnings", "configuration", "point_values", "name", "fingerprint"):
        assert getattr(a, name) == getattr(b, name), name
    assert [type(value) for value in a.stats.values()] == [type(value) for value in b.stats.values()]
    one, other = (p.provenance if volatile else {**p.provenance, "volatile": 0} for p in (a, b))
    assert one == other
    for name in ("t", "n_steps", "length", "memory"):
        assert getattr(a.state, name) == getattr(b.state, name), name
        assert type(getattr(a.state, name)) is type(getattr(b.state, name)), name
    assert same_bits(np.array(a.state.memory), np.array(b.state.memory))
    assert same_bits(a.state.mu, b.state.mu)


def content(path: Path, *, volatile: bool = True) -> dict[str, object]:
    """Everything in a file, as bytes where it is numbers; of the volatile group the names alone, or not even these."""
    found: dict[str, object] = {}

    def plain(value):
        if isinstance(value, np.ndarray) and value.dtype.kind == "O":
            return [str(v) if isinstance(v, str) else repr(type(v)) for v in value.ravel()]
        return (value.dtype.str, value.tobytes()) if isinstance(value, (np.ndarray, np.generic)) else value

    def visit(name, node):
        if name.startswith("volatile") and not volatile:
            return
        if isinstance(node, h5py.Dataset):
            found[name] = (node.shape, node.dtype.str, node[()].tobytes(), [list(d.keys()) for d in node.dims])
        for key, value in node.attrs.items():
            # the lists of scales are addresses in the file
            differs = name == "volatile" or key in ("DIMENSION_LIST", "REFERENCE_LIST")
            found[f"{name}@{key}"] = differs or plain(value)

    with h5py.File(path, "r") as file:
        visit("", file)
        file.visititems(visit)
    return found


# ----- runs that do not end


class Gone(Exception):
    """What happens to a run in the middle."""


def die(step: int):
    """What to give as `stop` to a run that is to end in an exception after a step."""

    def stop(snapshot):
        if snapshot.step == step:
            raise Gone
        return False

    return stop


# ----- processes


def python(*arguments, timeout=120, **options) -> subprocess.CompletedProcess[str]:
    """A process of its own, ``python *arguments``, with this package and one thread; its text is caught."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment |= options.pop("environment", {})
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, **options)


def printed_by(code: str, *arguments) -> str:
    """What a program prints, in a process of its own that ends well."""
    done = python("-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def invoke(*arguments):
    """The command line in this process."""
    from typer.testing import CliRunner

    from mfpde.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result, *texts: str, code: int = 2) -> None:
    """The command line refuses: nothing on standard output, one line on the other, which says `texts`."""
    found = result.exit_code if hasattr(result, "exit_code") else result.returncode
    assert found == code, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("mfpde: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for text in texts:
        assert text in result.stderr


def by_hand(solver, times):
    """The states of a solver at some times, step by step."""
    state, states = solver.init(), []
    for t in times:
        while state.t < t:
            state, info = solver.step(state, float(t))
            assert info.result is None
        states.append(state)
    return states
