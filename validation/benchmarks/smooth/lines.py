"""The peers at their best: unlimited central differences, the kernel by few modes, stepped by diffrax and by SciPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import odeint

from validation.benchmarks._work import T_END, Mesh, Work, few_modes
from validation.benchmarks.peers._lines import Lines, right_hand_side
from validation.benchmarks.smooth.choice import SAVES, TARGETS, Curve, Trial, Way, error_of, fewest_cells
from validation.benchmarks.smooth.reference import curve_of_lines

__all__ = ["DIFFRAX_SOLVERS", "SCIPY_METHODS", "diffrax_trials", "known_trials", "meshes_of", "scipy_trials"]

Array = NDArray[np.float64]

SIZES = {
    Work.BUMPS_1D: (16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 72, 80, 100, 128, 160, 200, 256),
    Work.BUMPS_2D: (16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 72, 80, 96, 112, 128),
    Work.NETWORK: (24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192),
}
ORDERS = (Lines.CENTRAL_8, Lines.CENTRAL_6, Lines.CENTRAL_4, Lines.CENTRAL_2)
"""The highest first: it tells how many cells are worth a try."""
WASTE = {1: 2.5, 2: 1.4}
"""How many times the fewest cells an axis that any order needs are still tried, by dimension."""
FINE_STEPS = 1e-9
"""Tolerance of steps that are as good as exact here."""

STAGES = {"Tsit5": 6, "Dopri5": 6, "Dopri8": 13}
"""Evaluations of a step of diffrax's solvers."""
DIFFRAX_SOLVERS = tuple(STAGES)
SCIPY_METHODS = ("DOP853", "RK45", "LSODA")
MOST_UNKNOWNS = 2500
"""Of LSODA: it sets room aside for a dense Jacobian."""
TOLERANCES = tuple(10.0 ** (-k / 2) for k in range(3, 17))
"""3e-2 to 1e-8, half a decade apart."""
FIRST_STEPS = (0.03, 0.06, 0.12, 0.25)
"""Of diffrax: to know a good one saves the two evaluations by which it would find its own."""


def meshes_of(work: Work, reference: Array, sizes: Sequence[int] | None = None) -> dict[Lines, list[int]]:
    """The meshes worth timing: for each order and accuracy the coarsest whose error in space leaves the steps room.

    The errors come from steps that are as good as exact. An order that needs many more cells than another one for all
    accuracies is left out, as it cannot be the cheapest: the cost of an evaluation of all orders is about the same.
    """
    needed: dict[Lines, dict[float, int]] = {}
    fewest: dict[float, int] = {}
    for lines in ORDERS:
        errors: list[tuple[int, float]] = []
        for n in SIZES[work] if sizes is None else sizes:
            energy, *_ = curve_of_lines(few_modes(work, n), lines, FINE_STEPS)
            errors.append((n, error_of(energy, reference)))
            exact = errors[-1][1] < 0.1 * TARGETS[-1]
            beyond = len(fewest) == len(TARGETS) and n >= WASTE[work.dimension] * max(fewest.values())
            if exact or beyond:
                break
        enough = {target: fewest_cells(errors, target) for target in TARGETS}
        needed[lines] = {target: cells for target, cells in enough.items() if cells is not None}
        for target, cells in needed[lines].items():
            fewest[target] = min(cells, fewest.get(target, cells))
    return {
        lines: sorted({n for t, n in found.items() if n <= WASTE[work.dimension] * fewest[t]})
        for lines, found in needed.items()
    }


def _curve(energy: Any, densities: Any, work: float) -> Curve:
    states = np.asarray(densities).reshape(len(SAVES), -1)
    return Curve(np.asarray(energy), float((states.min(axis=1) / states.max(axis=1)).min()), work)


def _useful(trial: Trial, reference: Array) -> bool:
    """Whether lower tolerances may still bring something."""
    return error_of(trial.curve.energy, reference) > 0.1 * TARGETS[-1]


# ---------------------------------------------------------------------------------------------------------------------
# diffrax
# ---------------------------------------------------------------------------------------------------------------------


def _diffrax_run(on: Mesh, lines: Lines, solver: str) -> Callable[[Any, Any, Any], Any]:
    """``(mu, rtol, first step) -> (energies, densities, steps)``, the whole of it in one jit."""
    import diffrax
    import jax
    import jax.numpy as jnp

    rate = right_hand_side(lines, on, jnp)
    rate(on.initial), on.energy(on.initial)  # the mesh makes its arrays once, outside the jit
    saves = jnp.asarray(SAVES)

    @jax.jit
    def run(mu: Any, rtol: Any, first: Any) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: rate(y)),
            getattr(diffrax, solver)(),
            t0=0.0,
            t1=T_END,
            dt0=first,
            y0=mu,
            saveat=diffrax.SaveAt(ts=saves),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=0.1 * rtol),
            adjoint=diffrax.ForwardMode(),
            max_steps=100_000,
            throw=False,
        )
        return jax.vmap(on.energy)(solution.ys), solution.ys, solution.stats["num_steps"]

    return run


def diffrax_trials(
    work: Work, lines: Lines, n: int, solver: str, reference: Array, tolerances: Sequence[float] = TOLERANCES
) -> Iterator[Trial]:
    """All tolerances and first steps of a discretisation and a solver, which compile once."""
    for first in FIRST_STEPS:
        for rtol in tolerances:
            trial = _diffrax_trial(work, lines, n, solver, rtol, first)
            yield trial
            if not _useful(trial, reference):
                break


@cache
def _compiled(work: Work, lines: Lines, n: int, solver: str) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """The start and the run of a discretisation and a solver."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    on = few_modes(work, n, jnp.asarray)
    return on.initial, _diffrax_run(on, lines, solver)


def _diffrax_trial(work: Work, lines: Lines, n: int, solver: str, rtol: float, first: float) -> Trial:
    import jax.numpy as jnp

    start, run = _compiled(work, lines, n, solver)
    given = (start, jnp.asarray(rtol), jnp.asarray(first))
    energy, densities, steps = run(*given)
    curve = _curve(energy, densities, STAGES[solver] * float(steps) * start.size)
    way = Way("diffrax", f"{lines.value}, {solver}", (n,) * work.dimension, rtol, first)
    return Trial(way, curve, partial(_finished, run, given))


def _finished(run: Callable[..., Any], given: Sequence[Any]) -> None:
    import jax

    jax.block_until_ready(run(*given))


# ---------------------------------------------------------------------------------------------------------------------
# SciPy
# ---------------------------------------------------------------------------------------------------------------------


def _odeint(on: Mesh, lines: Lines, tolerance: float) -> tuple[Array, Array, int]:
    """As `curve_of_lines`, by the one call into ODEPACK, which comes back to Python for the right-hand side only."""
    rate, shape = right_hand_side(lines, on), on.shape
    start = np.asarray(on.initial).ravel()
    states, info = odeint(
        lambda y, t: rate(y.reshape(shape)).ravel(),
        start,
        SAVES,
        rtol=tolerance,
        atol=0.1 * tolerance,
        full_output=True,
        mxstep=100_000,
    )
    densities = states.reshape(-1, *shape)
    return np.array([float(on.energy(mu)) for mu in densities]), densities, int(info["nfe"][-1])


def scipy_trials(
    work: Work, lines: Lines, n: int, method: str, reference: Array, tolerances: Sequence[float] = TOLERANCES
) -> Iterator[Trial]:
    """All tolerances of a discretisation and a method; LSODA by `scipy.integrate.odeint`, which is its fastest form."""
    on = few_modes(work, n)
    if method == "LSODA" and on.initial.size > MOST_UNKNOWNS:
        return
    for rtol in tolerances:
        trial = _scipy_trial(on, lines, method, rtol)
        yield trial
        if not _useful(trial, reference):
            return


def _scipy_trial(on: Mesh, lines: Lines, method: str, rtol: float) -> Trial:
    call = partial(_odeint, on, lines, rtol) if method == "LSODA" else partial(curve_of_lines, on, lines, rtol, method)
    energy, densities, evaluations = call()
    curve = _curve(energy, densities, float(evaluations) * on.initial.size)
    return Trial(Way("SciPy", f"{lines.value}, {method}", on.shape, rtol), curve, call)


# ---------------------------------------------------------------------------------------------------------------------
# what is known to be good
# ---------------------------------------------------------------------------------------------------------------------


def known_trials(work: Work, ways: Iterable[Way]) -> Iterator[Trial]:
    """Trials of ways that an earlier race found, of one method or of both."""
    for way in ways:
        order, solver = way.variant.split(", ")
        lines, n = Lines(order), way.size[0]
        if way.method == "diffrax":
            yield _diffrax_trial(work, lines, n, solver, way.tolerance, way.first_step)
        else:
            yield _scipy_trial(few_modes(work, n), lines, solver, way.tolerance)
