"""The peers at their best: unlimited central differences, the kernel by few modes, stepped by diffrax and by SciPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import odeint

from validation.benchmarks._work import CUT, T_END, Mesh, Work, few_modes
from validation.benchmarks.peers._lines import Lines, right_hand_side
from validation.benchmarks.smooth.choice import SAVES, TARGETS, Curve, Trial, Way, error_of, fewest_cells
from validation.benchmarks.smooth.reference import curve_of_lines

__all__ = [
    "CUTS",
    "DIFFRAX_SOLVERS",
    "SCIPY_METHODS",
    "Discretisation",
    "diffrax_trials",
    "known_trials",
    "meshes_of",
    "scipy_trials",
]

Array = NDArray[np.float64]

SIZES = {
    Work.BUMPS_1D: (16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64, 72, 80, 100, 128, 160, 200, 256),
    Work.BUMPS_2D: (16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64, 72, 80, 96, 112, 128),
    Work.BUMPS_3D: (14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56),
    Work.NETWORK: (16, 20, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192),
    Work.NETWORK_3D: (14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64),
    Work.NOISE: (16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 56, 64, 72, 80, 100, 128, 160, 200, 256),
}
ORDERS = {
    **dict.fromkeys((1, 2), (Lines.CENTRAL_8, Lines.CENTRAL_6, Lines.CENTRAL_4, Lines.CENTRAL_2)),
    3: (Lines.CENTRAL_8, Lines.CENTRAL_6),
}
"""By dimension, the highest first: it tells how many cells are worth a try. In 3-D lower ones need too many."""
MARGINS = (0.0, -0.5, -1.0, -1.5)
"""Of the box: who knows the answer knows how far out the density matters. Walls further in are felt at 1e-3."""
WASTE = {1: 2.5, 2: 1.4, 3: 1.15}
"""How many times the fewest cells an axis that any order needs are still tried, by dimension."""
FINE_STEPS = {1: 1e-9, 2: 1e-9, 3: 1e-8}
"""Tolerance of steps that are as good as exact here, by dimension."""
CUTS = (1e-6, 1e-5, 1e-4)
"""Of modes, on the meshes that are the best with all that matter."""

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


class Discretisation(NamedTuple):
    """A method of lines but for its steps.

    Attributes
    ----------
    lines : Lines
        The differences.
    n : int
        Cells along each axis.
    margin : float
        By how much its box is wider at each end; negative where it is narrower.
    cut : float
        Modes below it, relative to the largest, are left out.
    """

    lines: Lines
    n: int
    margin: float = 0.0
    cut: float = CUT

    def on(self, work: Work, convert: Callable[[Array], Any] = np.asarray) -> Mesh:
        """Its mesh."""
        return few_modes(work, self.n, convert, self.margin, self.cut)

    def way(self, work: Work, method: str, integrator: str, tolerance: float, first_step: float = 0.0) -> Way:
        """What it is called with a method in time."""
        cut = self.cut if self.cut != CUT else 0.0
        variant, size = f"{self.lines.value}, {integrator}", (self.n,) * work.dimension
        return Way(method, variant, size, tolerance, first_step, self.margin, cut)


def meshes_of(
    work: Work, reference: Array, sizes: Sequence[int] | None = None, margins: Sequence[float] = MARGINS
) -> list[Discretisation]:
    """The discretisations worth timing: by order, box and accuracy the coarsest mesh that leaves the steps room.

    The errors come from steps that are as good as exact. What needs many more cells than another one for all
    accuracies is left out, as it cannot be the cheapest: the cost of an evaluation of all orders is about the same.
    """
    needed: list[tuple[float, Discretisation]] = []
    fewest: dict[float, int] = {}
    for lines, margin in itertools.product(ORDERS[work.dimension], margins):
        errors: list[tuple[int, float]] = []
        for n in SIZES[work] if sizes is None else sizes:
            on = few_modes(work, n, margin=margin)
            energy, *_ = curve_of_lines(on, lines, FINE_STEPS[work.dimension])
            errors.append((n, error_of(energy, reference)))
            exact = errors[-1][1] < 0.1 * TARGETS[-1]
            beyond = len(fewest) == len(TARGETS) and n >= WASTE[work.dimension] * max(fewest.values())
            if exact or beyond or _stands_still([error for _, error in errors], 4, 1.3):
                break
        for target in TARGETS:
            cells = fewest_cells(errors, target)
            if cells is not None:
                needed.append((target, Discretisation(lines, cells, margin)))
                fewest[target] = min(cells, fewest.get(target, cells))
    found = {each: None for target, each in needed if each.n <= WASTE[work.dimension] * fewest[target]}
    return sorted(found, key=lambda each: (-each.lines.order, -each.margin, each.n))


def _stands_still(errors: Sequence[float], count: int, ratio: float) -> bool:
    """Whether the last `count` errors differ by no more than a ratio: what is refined is not what is left of them."""
    last = errors[-count:]
    return len(errors) > count and max(last) < ratio * min(last)


def _curve(energy: Any, densities: Any, work: float) -> Curve:
    states = np.asarray(densities).reshape(len(SAVES), -1)
    return Curve(np.asarray(energy), float((states.min(axis=1) / states.max(axis=1)).min()), work)


def _while_useful(trials: Iterable[Trial], reference: Array) -> Iterator[Trial]:
    """Trials by tolerance, the largest first, as long as lower ones may still bring something."""
    errors: list[float] = []
    for trial in trials:
        yield trial
        errors.append(error_of(trial.curve.energy, reference))
        if errors[-1] <= 0.1 * TARGETS[-1] or _stands_still(errors, 3, 1.03):
            return


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
    work: Work, by: Discretisation, solver: str, reference: Array, tolerances: Sequence[float] = TOLERANCES
) -> Iterator[Trial]:
    """All tolerances and first steps of a discretisation and a solver, which compile once."""
    for first in FIRST_STEPS:
        trials = (_diffrax_trial(work, by, solver, rtol, first) for rtol in tolerances)
        yield from _while_useful(trials, reference)


@cache
def _compiled(work: Work, by: Discretisation, solver: str) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """The start and the run of a discretisation and a solver."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    on = by.on(work, jnp.asarray)
    return on.initial, _diffrax_run(on, by.lines, solver)


def _diffrax_trial(work: Work, by: Discretisation, solver: str, rtol: float, first: float) -> Trial:
    import jax.numpy as jnp

    start, run = _compiled(work, by, solver)
    given = (start, jnp.asarray(rtol), jnp.asarray(first))
    energy, densities, steps = run(*given)
    curve = _curve(energy, densities, STAGES[solver] * float(steps) * start.size)
    return Trial(by.way(work, "diffrax", solver, rtol, first), curve, partial(_finished, run, given))


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
    work: Work, by: Discretisation, method: str, reference: Array, tolerances: Sequence[float] = TOLERANCES
) -> Iterator[Trial]:
    """All tolerances of a discretisation and a method; LSODA by `scipy.integrate.odeint`, which is its fastest form."""
    on = by.on(work)
    if method == "LSODA" and on.initial.size > MOST_UNKNOWNS:
        return
    yield from _while_useful((_scipy_trial(work, on, by, method, rtol) for rtol in tolerances), reference)


def _scipy_trial(work: Work, on: Mesh, by: Discretisation, method: str, rtol: float) -> Trial:
    lsoda = method == "LSODA"
    call = partial(_odeint, on, by.lines, rtol) if lsoda else partial(curve_of_lines, on, by.lines, rtol, method)
    energy, densities, evaluations = call()
    curve = _curve(energy, densities, float(evaluations) * on.initial.size)
    return Trial(by.way(work, "SciPy", method, rtol), curve, call)


# ---------------------------------------------------------------------------------------------------------------------
# what is known to be good
# ---------------------------------------------------------------------------------------------------------------------


def known_trials(work: Work, ways: Iterable[Way]) -> Iterator[Trial]:
    """Trials of ways that an earlier race found, of one method or of both."""
    for way in ways:
        order, integrator = way.variant.split(", ")
        by = Discretisation(Lines(order), way.size[0], way.margin, way.cut or CUT)
        if way.method == "diffrax":
            yield _diffrax_trial(work, by, integrator, way.tolerance, way.first_step)
        else:
            yield _scipy_trial(work, by.on(work), by, integrator, way.tolerance)
