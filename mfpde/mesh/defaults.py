"""The scheme and the time stepping that a problem gets where none is named, and why."""

from __future__ import annotations

import contextlib
import math
import weakref
from dataclasses import dataclass, replace

import numpy as np

from mfpde.equation.energy import GridEnergy
from mfpde.equation.energy.capabilities import plan_on
from mfpde.equation.grid import Grid, moving
from mfpde.equation.measures.narrow import CELLS_OF_A_LAYER
from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.schedules import Constant
from mfpde.mesh.layers import layer_widths
from mfpde.mesh.methods.base import Method
from mfpde.mesh.methods.exponential import ExponentialSSPRK3
from mfpde.mesh.methods.implicit import ImplicitStrang
from mfpde.mesh.methods.splitting import Strang
from mfpde.mesh.schemes import ScharfetterGummel, Scheme, Weno5
from mfpde.support.arrays import Array
from mfpde.support.threads import one_blas_thread

__all__ = ["Outlook", "coldest", "default_method", "default_scheme", "mean_peclet", "outlook", "settled_method"]


DIFFUSION_IS_STIFF = 0.2
"""Mean cell Peclet number below which explicit steps bound by diffusion are a waste."""
IMPLICIT_STEPS = 100.0
"""Implicit steps that a run takes, about, however stiff it is: accuracy alone asks for them."""
MOST_EXPLICIT_STEPS = 2000.0
"""Explicit steps, on cells that resolve the layers, from which on they are a waste, unless drift is `OVERWHELMING`."""
OVERWHELMING = 10.0
"""Cell Peclet number from which on the most explicit steps grow with it: there fluxes of second order smear what they
transport by five times the diffusion of the problem."""
PLAIN = Weno5()
"""The scheme where nothing speaks against it."""
UNSPLIT = ExponentialSSPRK3(), "third order, unsplit"
"""The time stepping where nothing speaks against it."""
MESHES: dict[int, tuple[int, ...]] = {1: (400,), 2: (32, 32), 3: (16, 16, 16), 4: (10, 10, 10, 10)}
"""On what mesh a problem is looked at, by dimension: not the run's, or the choice would flip where that is refined."""
DENSE_MESHES: dict[int, tuple[int, ...]] = {3: (11, 11, 11), 4: (6, 6, 6, 6)}
"""The same where an energy has a matrix of all pairs of cells: 14 MB of it, where those of `MESHES` have up to 800."""


def mean_peclet(problem: Problem, grid: Grid, temperature: float) -> float:
    """The mean over ``mu_0`` of the cell Peclet number ``max_axes |V_(i+1) - V_i| / tau``."""
    mu = problem.mu_0.cells(grid)
    V = problem.bound_energy.on(grid).evaluate(mu)[0]
    peclet = np.zeros(grid.shape)
    for i in moving(grid.axes):
        jump = np.abs(np.diff(V, axis=i)) / temperature
        for cells in (slice(None, -1), slice(1, None)):
            beside = peclet[(slice(None),) * i + (cells,)]
            np.maximum(beside, jump, out=beside)
    return float(np.vdot(mu, peclet)) * grid.cell_volume


def coldest(problem: Problem, t_end: float | None = None) -> float:
    """The lowest temperature of a run to `t_end`, by default the problem's, at nine times of it."""
    if isinstance(problem.temperature, Constant):
        return problem.temperature(0.0)
    end = problem.t_end if t_end is None else t_end
    return min(problem.temperature(float(t)) for t in np.linspace(0.0, end, 9))


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of a problem with a temperature, on cells that resolve its layers, a third of their width.

    Attributes
    ----------
    layers : tuple of float
        By axis, the width of the narrowest layer of the start and of the state where the flow ends.
    end : tuple of float
        By axis, that of the state where the flow ends.
    steps : float
        Explicit steps of `Weno5` up to the end of the run, bound by drift and diffusion wherever there is mass.
    peclet : float
        The mean over the start of the largest cell Peclet number of an axis.
    """

    layers: tuple[float, ...]
    end: tuple[float, ...]
    steps: float
    peclet: float

    @property
    def worth(self) -> float:
        """How many explicit steps `Weno5` is worth: what implicit ones on finer cells cost that are as accurate.

        Fluxes of second order miss about the square of the Peclet number: they need cells smaller by three times it.
        """
        most = MOST_EXPLICIT_STEPS * max(1.0, self.peclet / OVERWHELMING)
        axes = sum(math.isfinite(width) for width in self.layers)
        return min(IMPLICIT_STEPS * (3.0 * self.peclet) ** axes, most)


_known: weakref.WeakKeyDictionary[Problem, dict[tuple[object, ...], Outlook | None]] = weakref.WeakKeyDictionary()
"""By problem, and by temperature and cells looked at, with the steps to the unit of the schedule's integral."""


def outlook(problem: Problem, grid: Grid, temperature: float, t_end: float | None = None) -> Outlook | None:
    """What is to be expected of a run to `t_end`, by default the problem's, whatever the mesh.

    The run's `grid` serves where the energy has values on it only. None where it has no finite values on either:
    whoever runs it is told.
    """
    known = _known.setdefault(problem, {})
    cells = _cells_looked_at(problem, grid)
    key = (temperature, cells)
    if key not in known:
        made: Outlook | None = None
        for mesh in (Grid(grid.axes, [cells[i] for i in moving(grid.axes)]), grid):
            with one_blas_thread():
                plan = plan_on(problem.bound_energy, mesh)
            if plan is None:
                continue
            with contextlib.suppress(ValueError, ArithmeticError):  # a metric or a base measure that is not there
                made = _outlook(problem, plan, temperature)
                break
        known[key] = made  # when it is whole: another thread may look
    found = known[key]
    if found is None:
        return None
    length = problem.schedule.integral(0.0, problem.t_end if t_end is None else t_end)
    return replace(found, steps=found.steps * length)


def _cells_looked_at(problem: Problem, grid: Grid) -> tuple[int, ...]:
    """On how many cells a problem is looked at; of a dense kernel on no more than the run will have."""
    axes, d, direct = moving(grid.axes), grid.dimension, problem.bound_energy.direct
    n = MESHES[len(axes)][0]
    if direct and (d in DENSE_MESHES or len(axes) < d):  # pairs of species are pairs of cells, too
        n = DENSE_MESHES.get(d, MESHES[2])[0]
        return tuple(min(n, cells) if i in axes else cells for i, cells in enumerate(grid.shape))
    return tuple(n if i in axes else cells for i, cells in enumerate(grid.shape))


def _outlook(problem: Problem, plan: GridEnergy, temperature: float) -> Outlook:
    from mfpde.equation.equilibrium import roughly_stationary

    grid = plan.grid
    with one_blas_thread(), np.errstate(all="ignore"):
        start, V, end, V_end = roughly_stationary(problem, grid, temperature, plan=plan)
    at_last = layer_widths(end, grid)
    layers = tuple(min(pair) for pair in zip(layer_widths(start, grid), at_last, strict=True))
    cells = [width / CELLS_OF_A_LAYER for width in layers]
    held = (start > 1e-30 * start.max()) | (end > 1e-30 * end.max())
    at_start, at_end = (_slopes(problem, grid, W, temperature) for W in (V, V_end))
    axes = moving(grid.axes)
    peclet = np.max([at_start[i] * cells[i] for i in axes], axis=0) / temperature
    rate = np.zeros(grid.shape)
    for i in axes:
        h = cells[i]
        drift = np.maximum(at_start[i], at_end[i]) / h
        rate += problem.mobility(i, *grid.mesh()) * (drift + 2.0 * Weno5.diffusion_share * temperature / h**2)
    steps = float(rate.max(where=held, initial=0.0)) / ExponentialSSPRK3().ssp
    return Outlook(layers, at_last, steps, float(np.vdot(start, peclet)) * grid.cell_volume)


def _slopes(problem: Problem, grid: Grid, V: Array, temperature: float) -> list[Array]:
    """``|d_i (V - tau log omega)|`` on the cells."""
    log_base = problem.log_base(*grid.mesh())
    driving = V if log_base is None else V - temperature * np.broadcast_to(log_base, grid.shape)
    found = []
    for i, (axis, h) in enumerate(zip(grid.axes, grid.spacing, strict=True)):
        if axis.periodic:
            slope = (np.roll(driving, -1, i) - np.roll(driving, 1, i)) / (2.0 * h)
        else:
            slope = np.gradient(driving, h, axis=i)
        found.append(np.abs(slope))
    return found


def default_scheme(problem: Problem, grid: Grid, t_end: float | None = None) -> tuple[Scheme, str]:
    """The transport scheme for a run of a problem from 0 to `t_end`, by default the problem's, and why.

    `Weno5` at temperature 0. Above, it depends on the problem and the end, and not on the mesh, so that a finer mesh is
    never worse because the scheme changed. `ScharfetterGummel` keeps Gibbs states and takes implicit steps, about 100
    in a run; `Weno5` is far more accurate where drift dominates, with explicit steps. It is taken where those, counted
    on cells that resolve the narrowest layers of the start and of the state where the flow ends (`Outlook`), are fewer
    than what implicit steps cost on cells so fine that they are as accurate, and than 2000, or 200 times the cell
    Peclet number.
    """
    tau = coldest(problem, t_end)
    if tau == 0.0:
        return PLAIN, "temperature 0" if problem.noiseless else "the temperature falls to 0"
    known = outlook(problem, grid, tau, t_end)
    if known is None:
        return ScharfetterGummel(), "temperature above 0"
    width, h = min(zip(known.layers, grid.spacing, strict=True), key=lambda pair: pair[0] / pair[1])
    seen = f"cells of {h:.2g} resolve layers of {width:.2g} by {width / h:.2g}, and"
    if width < h:
        seen = f"cells of {h:.2g} do not resolve layers of {width:.2g}, and"
    there = f"on cells of {width / CELLS_OF_A_LAYER:.2g}"
    drift, steps = f"a drift of cell Peclet number {known.peclet:.2g}", f"{known.steps:.0f} explicit steps"
    if known.steps <= known.worth:
        return Weno5(), f"{seen} {there} {drift} is worth {steps}"
    if known.steps < 10.0 * IMPLICIT_STEPS:
        return ScharfetterGummel(), f"{seen} {there} {drift} is not worth {steps}"
    shorter = f"{known.steps / IMPLICIT_STEPS:.0f} times shorter"
    return ScharfetterGummel(), f"{seen} {there} explicit steps would be {shorter}"


def default_method(problem: Problem, grid: Grid, scheme: Scheme, t_end: float | None = None) -> tuple[Method, str]:
    """The time stepping for a run of a problem with a scheme to `t_end`, by default the problem's, and why.

    `ImplicitStrang` for `ScharfetterGummel`. Otherwise `ExponentialSSPRK3` where it applies, unless diffusion is stiff:
    then, and for reinjection, the free-energy reaction and terms of the problem's own, `Strang`.
    """
    settled = settled_method(problem, scheme, t_end)
    if settled is not None:
        return settled
    mean = mean_peclet(problem, grid, coldest(problem, t_end))
    if mean < DIFFUSION_IS_STIFF:
        return Strang(), f"diffusion is stiff: mean cell Peclet number {mean:.2g}"
    return UNSPLIT


def settled_method(problem: Problem, scheme: Scheme, t_end: float | None = None) -> tuple[Method, str] | None:
    """The same where nothing on the mesh has to be looked at; None where it is `Strang` or `ExponentialSSPRK3`."""
    if problem.terms:
        return Strang(), "terms of the problem's own"
    if isinstance(scheme, ScharfetterGummel):
        return ImplicitStrang(), "steps of any length keep sign, mass and Gibbs states"
    if problem.reinjection is not None:
        return Strang(), "reinjection"
    if problem.reacts and problem.one_by_one is not None:
        return Strang(), "species react one by one"
    if problem.reacts and problem.reaction is Reaction.FREE_ENERGY and not problem.noiseless:
        return Strang(), "free-energy reaction"
    return None if coldest(problem, t_end) > 0.0 else UNSPLIT
