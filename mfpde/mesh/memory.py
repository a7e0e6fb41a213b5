"""What a run on a mesh takes of memory, before anything of it is made.

Energies and methods say what they take (`BoundEnergy.memory`, `Method.work`); here it is put together in the order in
which a run makes its things, and the most that is held at a time is what the run needs. It is never less
than what runs take, and at most 1.5 times as much (``tests/mesh/test_run_memory.py``), implicit steps apart that are so
short that their potential is found at once. What grows with the steps of a run, a row of ``response_size + 15`` numbers
for each, is not in it, as nobody knows how many there will be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mfpde.equation.convexity import convexity_memory
from mfpde.equation.grid import Grid, half
from mfpde.equation.problem import Problem, Reaction
from mfpde.mesh.companion import NODES
from mfpde.mesh.controllers import Controller, ErrorControl
from mfpde.mesh.defaults import coldest, default_scheme, settled_method
from mfpde.mesh.descent import descends
from mfpde.mesh.kept import kept
from mfpde.mesh.methods.base import Method, Work
from mfpde.mesh.methods.exponential import ExponentialSSPRK3
from mfpde.mesh.methods.splitting import Strang
from mfpde.mesh.schemes import Scheme, is_compiled
from mfpde.support.arguments import shown, whole
from mfpde.support.memory import Memory, available, refuse
from mfpde.support.saves import MOST_SAVES
from mfpde.support.threads import THREADED_SIZE
from mfpde.support.threads import available as available_threads

if TYPE_CHECKING:
    from mfpde.mesh.options import RunOptions

__all__ = ["RunMemory", "check_run", "run_memory"]


ALWAYS = 24 * 2**20
"""Bytes that do not grow with the mesh: code that is loaded, nodes that a start is held against, blocks of factors."""
OF_A_THREAD = 3 * 2**20
"""Bytes of the buffers of a thread: 1.2 MB of the transport, and what is transformed at once."""
SMALL = 64 * 2**20
"""Bytes for which nobody is asked whether they are there."""
OF_A_START = 8
"""Arrays, besides one for each axis, that a start takes while it is put on the mesh and looked at."""
PLAIN = 8
"""Arrays by which `NumpyTransport` takes more than compiled code, for each ghost row of the scheme."""
PAIRS, PAIR_ARRAYS = 2**21, 7
"""Pairs of nodes at which a kernel without a factorisation is evaluated at once, at most, and numbers for each."""


@dataclass(frozen=True)
class RunMemory:
    """Bytes that a run holds at most at a time, by what they are for.

    Attributes
    ----------
    energy : float
        The energy on the mesh.
    steps : float
        The state, the transport operator and the arrays that steps are made of.
    saved : float
        Densities that stay in memory.
    companion : float
        The run on half the cells that estimates the errors.
    always : float
        What does not grow with the mesh.
    """

    energy: float
    steps: float
    saved: float
    companion: float
    always: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.energy + self.steps + self.saved + self.companion + self.always

    def __str__(self) -> str:
        words = {"energy": "the energy", "steps": "steps", "saved": "saved densities", "companion": "the estimate"}
        parts = {text: getattr(self, name) / self.total for name, text in words.items()}
        return ", ".join(f"{text} {share:.0%}" for text, share in parts.items() if share >= 0.005)


@dataclass(frozen=True)
class _Parts:
    """What a solver is made of, as far as its memory depends on it."""

    scheme: Scheme
    method: Method | None
    controller: Controller
    plain: bool

    def work(self, problem: Problem) -> Work:
        """What steps take; where a look at the mesh is to settle the method, the more.

        A scheme that does not state what it must is refused where a solver is made of it.
        """
        methods = [ExponentialSSPRK3(), Strang()] if self.method is None else [self.method]
        needs = [m.work(problem, doubled=self.controller.needs_error and not m.embedded) for m in methods]
        most = max(work.most for work in needs) + (PLAIN * getattr(self.scheme, "ghost", 1) if self.plain else 0)
        return Work(most, most - min(work.most - work.evaluating for work in needs), max(work.left for work in needs))


def check_run(problem: Any, options: RunOptions, grid: Grid | None = None) -> None:
    """Refuse a run that does not fit into memory, before anything of it is made.

    Parameters
    ----------
    problem : Problem
        Anything else is refused elsewhere, and so are options that are none.
    options : RunOptions
    grid : Grid, optional
        The mesh, where it is made already.

    Raises
    ------
    MemoryError
        With what is needed, what there is, and the remedies: cells that fit, and what of the run may be left out.
    """
    if not isinstance(problem, Problem):
        return
    grid = problem.grid(options.shape) if grid is None else grid
    needs = _needs(problem, options, grid)
    if needs.total <= SMALL or (there := available()) is None or needs.total <= there:
        return
    what = f"{grid.size} cells" + (f" and {shown(_saves(options))} saved densities" if needs.saved else "")
    remedies = []
    if options.tolerance is None and (fits := _shape_that_fits(problem, options, grid, there)):
        remedies.append(f"at most {' x '.join(map(str, fits))} cells")
    if needs.saved > 0.1 * needs.total:
        remedies.append("output= (a file, for the saved densities)")
    if options.estimate and options.tolerance is None and needs.companion > 0.1 * needs.total:
        remedies.append("estimate=False")
    refuse(f"{what} ({needs})", needs.total, there, f"use {' or '.join(remedies) or 'a coarser mesh'}")


def _needs(problem: Problem, options: RunOptions, grid: Grid) -> RunMemory:
    """What a run takes; of small ones without parts of their own it is kept."""
    if options.with_parts:
        return run_memory(problem, options, grid)
    t_end = None if options.t_end is None else float(options.t_end)
    what = "memory", t_end, bool(options.estimate), _saves(options), options.output is None
    return kept(problem, grid, what, lambda: run_memory(problem, options, grid))


def _shape_that_fits(problem: Problem, options: RunOptions, grid: Grid, there: float) -> tuple[int, ...]:
    """Nearly the most cells that fit, in the proportions of a mesh; none where 4 along each axis do not."""

    def shape(share: float) -> tuple[int, ...]:
        pairs = zip(grid.axes, grid.shape, strict=True)
        return tuple(max(4, int(share * n)) if axis.own_cells is None else n for axis, n in pairs)

    low, high = 0.0, 1.0
    if run_memory(problem, options, Grid(grid.axes, shape(low))).total > there:
        return ()
    for _ in range(30):
        middle = 0.5 * (low + high)
        fits = run_memory(problem, options, Grid(grid.axes, shape(middle))).total <= there
        low, high = (middle, high) if fits else (low, middle)
    return shape(low)


def _saves(options: RunOptions) -> int:
    """How many densities are saved, about."""
    save = options.save
    if whole(save):
        return max(int(save), 2)
    return len(save) + 2 if hasattr(save, "__len__") else 2


def run_memory(problem: Problem, options: RunOptions, grid: Grid) -> RunMemory:
    """What a run takes.

    Parameters
    ----------
    problem : Problem
    options : RunOptions
        How it is made.
    grid : Grid
        On which mesh.
    """
    parts, array, bound = _parts(problem, options, grid), 8.0 * grid.size, problem.bound_energy
    cells = half(grid) if options.estimate else None
    work, flow, energy = parts.work(problem), array * _of_the_flow(problem), bound.memory(grid)
    coarse = Memory(0.0) if cells is None else _companion(problem, parts, cells)
    convexity = convexity_memory(bound, grid, free_mass=not _balanced(problem))
    # the density, its potential, what a temperature adds, and what follows where the mass descends from
    state = flow + array * (3 + descends(problem) + (coldest(problem, options.t_end) > 0.0))
    # more are refused where they are made
    saved = array * (min(_saves(options), MOST_SAVES) if options.output is None else 2)
    # a job that was given one processor of a hundred has one thread
    threads = 1 if grid.size < THREADED_SIZE else min(available_threads(), options.threads or os.cpu_count() or 1)
    always = ALWAYS + OF_A_THREAD * threads * (1 + (cells is not None))
    if cells is not None and bound.direct:  # the start is held against nodes
        always += 8 * PAIR_ARRAYS * min(PAIRS, NODES[grid.dimension] ** (2 * grid.dimension))
    moments = [  # energy, steps, saved, companion
        (energy.kept + energy.making, flow, 0.0, 0.0),
        (energy.kept, flow + array * (grid.dimension + OF_A_START), 0.0, 0.0),
        (energy.kept, state + convexity, saved, 0.0),
        (energy.kept, state + array * work.most, saved, coarse.kept),
        (energy.kept + energy.working, state + array * work.evaluating, saved, coarse.kept),
        (energy.kept, state + array * work.left, saved, coarse.kept + max(coarse.making, coarse.working)),
    ]
    return RunMemory(*max(moments, key=sum), always)


def _companion(problem: Problem, parts: _Parts, grid: Grid) -> Memory:
    """What the run on half the cells takes: its solver and its states; its steps."""
    array, energy, work = 8.0 * grid.size, problem.bound_energy.memory(grid), parts.work(problem)
    kept = array * (_of_the_flow(problem) + 3 + work.left) + energy.kept
    # it is made before it steps
    making, most = (
        max(energy.making, array * (grid.dimension + OF_A_START)) - array * work.left,
        work.most - work.left + 1,
    )
    return Memory(
        kept, max(making, 0.0), max(array * most, array * (most - work.most + work.evaluating) + energy.working)
    )


def _parts(problem: Problem, options: RunOptions, grid: Grid) -> _Parts:
    scheme, method, controller = options.scheme, options.method, options.controller
    if not isinstance(scheme, Scheme):
        scheme = default_scheme(problem, grid, options.t_end)[0]
    if not isinstance(method, Method):
        settled = settled_method(problem, scheme, options.t_end)
        method = None if settled is None else settled[0]
    if not isinstance(controller, Controller):
        controller = ErrorControl()
    algebra = options.algebra
    plain = not is_compiled(scheme) or (algebra is not None and getattr(algebra, "name", "") != "compiled")
    return _Parts(scheme, method, controller, plain)


def _of_the_flow(problem: Problem) -> float:
    """Arrays that the transport and the reaction keep: speeds, the base measure, rates of axes, what is reinjected."""
    rates = sum(callable(rate) for rate in problem.rates or ())
    return 1 + (3 if problem.base is not None else 0) + 2 * rates + (problem.reinjection is not None)


def _balanced(problem: Problem) -> bool:
    return problem.reaction is not Reaction.UNBALANCED and all(term.balanced for term in problem.terms)
