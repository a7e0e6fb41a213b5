r"""Stationary states without following the flow: the minimiser of the free energy on a mesh, with a certificate.

``J[mu] = E[mu] + tau int log(mu/omega) dmu`` over the probability measures on the cells: how it is minimised is told in
`mfpde.equation.gibbs_state` for temperatures ``tau > 0``, and in `mfpde.equation.sparse_state` for temperature 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfpde.equation.convexity import convex_on, no_certificate
from mfpde.equation.description.stored import description_for_file, with_output
from mfpde.equation.energy import GridEnergy
from mfpde.equation.energy.capabilities import require_capability, require_lyapunov
from mfpde.equation.equilibrium_record import EquilibriumRecord
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.functional import Functional, NodalFunctional
from mfpde.equation.gibbs import entropy
from mfpde.equation.gibbs_state import gibbs_state
from mfpde.equation.grid import NO_HALF, Grid, box, half
from mfpde.equation.measures.base import Measure
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.plain_attributes import plain_attributes
from mfpde.equation.problem import Problem, Reaction
from mfpde.equation.smooth import divisors, is_smooth
from mfpde.equation.sparse_state import sparse_state
from mfpde.equation.species import column_of
from mfpde.support.arguments import FLAG, NONE, NUMBER, PATH, POSITIVE, WHOLE, real, require, shown
from mfpde.support.arrays import Array
from mfpde.support.clock import working_time
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.provenance import provenance
from mfpde.support.session import warn
from mfpde.support.threads import one_blas_thread
from mfpde.support.words import one_line, printable, with_digits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from matplotlib.figure import Figure

__all__ = ["Equilibrium", "roughly_stationary", "stationary", "stationary_on_nodes"]


@dataclass(frozen=True, eq=False)
class Equilibrium(Labelled, EquilibriumRecord):
    """The result of `stationary`.

    Attributes
    ----------
    grid : Grid
        The mesh.
    mu : array, shape ``grid.shape``
        The density on the cells; sparse at temperature 0.
    log_mu : array, shape ``grid.shape``
        Its logarithm, finite also where `mu` underflows (temperature > 0).
    potential : array, shape ``grid.shape``
        ``V[mu]``, the first variation without the entropy.
    energy : float
        The free energy ``E[mu] + temperature * entropy``, constants included.
    gap : float
        ``tau KL(mu | p_mu)``, at temperature 0 ``mass * (Vbar - min V)``; of the returned `mu`. Where `convex`, the
        energy lies at most this far above the minimum over measures on the box, on this mesh. Otherwise it only
        measures how stationary `mu` is.
        Where the mass is free: ``|int V dmu| + max(mass, 1) max(-min V, 0)``, a bound against all measures of no more
        mass than that.
    entropy : float
        ``int log(mu/omega) dmu``.
    temperature : float
        ``tau``.
    convex : bool or None
        Whether the energy is convex on this mesh; None where that is not known. See `mfpde.equation.convexity`.
    converged : bool
        Whether the gap went below the tolerance.
    iterations : int
        Newton steps; at temperature 0 rounds of the active set.
    evaluations : int
        Evaluations of the energy on the mesh.
    energy_error : float
        Estimated error of the energy that the mesh makes, absolute: what the energy differs by on half the cells along
        each axis, a third of it where the density is smooth on the mesh. NaN where there is none. The gap knows
        nothing of it: it compares measures on this mesh.
    no_error : str
        Why there is no such estimate; empty where there is.
    problem : Problem or None
        What was minimised. None when loaded from a file whose problem was built of user code, or of data that are gone
        or changed.
    missing : str
        Why there is no problem, and what to do; empty where there is one.
    name, fingerprint : str
        The problem's.
    description : Description or None
        What of the problem is numbers and text; None where its name and its parameters say all.
    configuration, provenance : dict
        The settings, as plain values; versions of Python and of the packages.
    plain : dict
        What a file says in single numbers and words, `mfpde.equation.plain_attributes`.
    """

    problem: Problem | None = field(default=None, repr=False)
    missing: str = field(default="", repr=False)

    def _labels(self) -> Labels:
        """Cells, one a row."""
        names = [axis.name for axis in self.grid.axes]
        coordinates = {name: column_of(self.grid, i) for i, name in enumerate(names)}
        variables = {
            "density": Column(names, self.mu, "density per Lebesgue volume"),
            "log_density": Column(names, self.log_mu, "its logarithm"),
            "potential": Column(names, self.potential, "V[mu], without the entropy"),
        }
        scalars = ("energy", "energy_error", "gap", "entropy", "temperature")
        return Labels(coordinates, variables, {name: getattr(self, name) for name in scalars}, tuple(names))

    def measure(self) -> GridMeasure:
        """The density as a `Measure`, normalised: the initial measure of a problem, or of a further search."""
        return GridMeasure(self.grid, self.mu)

    def predict(self, x: Any) -> Array:
        """The output of the network whose neurons have this density, ``f(x) = int unit(x, theta) dmu(theta)``.

        Parameters
        ----------
        x : array, shape (m,) or (m, p)
            Inputs.

        Returns
        -------
        array, shape (m,) or (m, q)

        Raises
        ------
        ValueError
            If the problem names no network, or was not rebuilt from a file.
        """
        problem = with_output(self.problem, self.missing, f"the stationary state of {self.name!r}")
        return problem.output(x, self.grid.mesh(), self.mu * self.grid.cell_volume)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """The density and its potential, of three axes and more their marginals; the network's output if there is one.

        Parameters
        ----------
        path : path, optional
            Where to write the figure; the suffix names the format (.png, .pdf, .svg, ...).

        Returns
        -------
        matplotlib.figure.Figure
        """
        from mfpde.equation.equilibrium_picture import draw_equilibrium

        require(path=(path, PATH | NONE))
        figure = draw_equilibrium(self, self.problem, self.predict)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write an HDF5 file that `mfpde.load` and xarray read; ``docs/file-format.md`` describes it.

        Parameters
        ----------
        path : path
            Where to; the folder must exist. The name holds the old file until the new one is complete.
        overwrite : bool
            Whether a file that is there is replaced; if not, it is an error.

        Raises
        ------
        OSError
            If the file cannot be written, or is write-protected; a BlockingIOError if a run is writing it.

        Examples
        --------
        >>> import mfpde as mf, os, tempfile
        >>> state = mf.stationary(mf.problems.torus_langevin(), 40)
        >>> path = os.path.join(tempfile.mkdtemp(), "state.h5")
        >>> state.save(path)
        >>> mf.load(path).energy == state.energy
        True
        """
        from mfpde.equation.equilibrium_file import save  # only those who save pay for it
        from mfpde.support.files.locks import held

        require(path=(path, PATH), overwrite=(overwrite, FLAG))
        fingerprint, plain = self.fingerprint, self.plain
        if self.problem is not None:
            fingerprint = fingerprint or self.problem.fingerprint()
            # the temperature need not be the problem's
            plain = plain or plain_attributes(self.problem, self.grid) | {"temperature": self.temperature}
        with held(path):
            save(replace(self, fingerprint=fingerprint, plain=plain), path, overwrite=overwrite)

    def __str__(self) -> str:
        axes = " x ".join(f"{axis.name}: {n}" for axis, n in zip(self.grid.axes, self.grid.shape, strict=True))
        if self.convex:
            kind, meaning = "Minimiser", f"energy above the minimum over {box(self.grid.axes)}, on this mesh, at most"
        else:
            kind = "Stationary state, not known to be a minimiser,"
            meaning = f"residual; {no_certificate(self.convex)}"
        cells = "" if self.temperature else f", {np.count_nonzero(self.mu)} of {self.grid.size} cells occupied"
        error = f"about {self.energy_error:.2g} in the energy, from the mesh"
        if self.no_error:
            error = f"not estimated ({self.no_error})"
        ended = "converged" if self.converged else "NOT CONVERGED"
        return printable(
            f"{kind} at temperature {self.temperature:g} on {axes} cells\n"
            f"  energy   {with_digits(self.energy, self.energy_error, most=10)} "
            f"(entropy {self.entropy:.6g}, mass {self.mass:.6g}{cells})\n"
            f"  error    {error}\n"
            f"  gap      {self.gap:.3g} ({meaning})\n"
            f"  {ended} after {self.iterations} iterations, {self.evaluations} evaluations"
        )


def stationary(
    problem: Problem,
    shape: Sequence[int] | int | None = None,
    *,
    temperature: float | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 300,
    initial: Measure | None = None,
    time_limit: float | None = None,
    estimate: bool = True,
) -> Equilibrium:
    r"""The minimiser of the free energy on a mesh, found directly.

    Minimises :math:`J[\mu] = E[\mu] + \tau \int \log(\mu/\omega)\, d\mu` over the probability measures on the cells;
    at temperature 0 with the unbalanced reaction over all non-negative measures on them. No dynamics enters: metric,
    rates and schedules do not matter. The flow ends here at alpha = 0 and with the free-energy reaction. The
    balanced reaction with ``tau > 0`` has another stationary state.

    Parameters
    ----------
    problem : Problem
        What is minimised: energy, box, base measure.
    shape : sequence of int, optional
        Cells along each axis; default: what the problem suggests.
    temperature : float, optional
        ``tau >= 0``; default: the problem's, if it is constant.
    tolerance : float
        The gap to stop at, relative to the scale ``max(|E|, int |V - Vbar| dmu, tau)`` at the start. Positive.
    max_iterations : int
        Newton steps, or rounds of the active set.
    initial : Measure, optional
        Where to start; default: the problem's initial measure. Plays no part in the result where the energy is convex.
    time_limit : float, optional
        Seconds after which no step is begun any more.
    estimate : bool, optional
        Whether the error that the mesh makes is estimated, from the same on half the cells.

    Returns
    -------
    Equilibrium
        Its `gap` is the certificate, evaluated on the density returned.

    Raises
    ------
    ValueError
        On a temperature that is missing, negative, or above 0 with the unbalanced reaction; a missing shape; a
        tolerance that is not positive; an energy that is not finite; a potential that is the first variation of none.

    Warns
    -----
    RunWarning
        If the gap is not below the tolerance at the end; the best state found is returned.

    Notes
    -----
    Good values: the default tolerance costs one or two steps more than 1e-6. About 5 steps and 30 evaluations at
    osc(V)/tau = 10, 20 and 600 at 1e3, up to 100 and 4000 at 1e5, where `V` differs by many tau between neighbouring
    cells. Where the energy is not convex the state found depends on `initial`, and a symmetric start can end in a
    saddle.

    At temperature 0 the gap is limited by round-off in V, about 1e-15 times its range, and the weights of
    neighbouring cells are hardly determined on fine meshes; energy and gap are.

    References
    ----------
    The certificate: A. Nitanda, D. Wu, T. Suzuki, "Convex analysis of the mean field Langevin dynamics",
    AISTATS 2022.

    Examples
    --------
    >>> from mfpde import Axis, Confinement, Dirac
    >>> problem = Problem(Confinement(x=1.0), [Axis("x", -6, 6)], Dirac(x=1.0), temperature=0.5)
    >>> state = stationary(problem, 120)
    >>> variance = state.grid.integrate(state.mu * state.grid.centres(0) ** 2)
    >>> round(float(variance), 6)
    0.5
    """
    _check(problem, tolerance, max_iterations, initial, time_limit, estimate)
    began = working_time()
    deadline = math.inf if time_limit is None else began + time_limit
    require_lyapunov(problem.bound_energy, "stationary")
    if problem.apart is not None:
        raise ValueError(
            f"stationary minimises over all measures, and {problem.apart[1]!r} keep their masses: run solve until the "
            "density is steady (stop=SteadyState), or give the problem balance='all'"
        )
    require_capability(problem.bound_energy, "mesh", "stationary")
    tau = _temperature(problem, temperature)
    if problem.reaction is Reaction.UNBALANCED and tau > 0:
        raise ValueError(
            f"temperature = {tau:g} with the unbalanced reaction: the entropy does not fix the mass; "
            "pass temperature=0, or give the problem reaction='balanced'"
        )
    grid = problem.grid(shape)
    start = (problem.mu_0 if initial is None else initial.restrict(grid.axes)).cells(grid)
    search = _Search(tau, tolerance, max_iterations, deadline)
    state, goal, over = _found(problem, grid, start, search)
    if not state.converged:
        warn(
            f"no stationary state within the tolerance after {state.iterations} iterations: gap {state.gap:.3g}, "
            f"wanted {goal:.3g}; raise tolerance or max_iterations{' or time_limit' * over}, "
            "start nearer with initial=, or take a higher temperature",
            stacklevel=3,
        )
    state = _with_error(problem, state, search) if estimate else replace(state, no_error="estimate = False")
    settings: dict[str, Any] = {"problem": problem.name, "parameters": dict(problem.parameters or {})}
    settings |= {"shape": list(grid.shape), "temperature": tau}
    made = provenance(working_time() - began, {})
    described = description_for_file(problem)
    return replace(
        state, problem=problem, name=problem.name, configuration=settings, provenance=made, description=described
    )


class _Search(NamedTuple):
    """How a minimiser is searched for."""

    temperature: float
    tolerance: float
    max_iterations: int
    deadline: float


def _found(problem: Problem, grid: Grid, start: Array, search: _Search) -> tuple[Equilibrium, float, bool]:
    """The minimiser on a mesh, the gap that was asked for, and whether the time was over."""
    tau, unbalanced = search.temperature, problem.reaction is Reaction.UNBALANCED
    log_base = _log_base(problem, grid)
    functional = Functional(problem.bound_energy, grid, search.deadline)
    with one_blas_thread():  # as in every run, so that the number of threads changes no bit
        V, energy = _evaluate_start(functional, start)
        spread = float(np.vdot(start, np.abs(V - float(np.vdot(V, start)) * grid.cell_volume))) * grid.cell_volume
        goal = search.tolerance * max(abs(energy), spread, tau)
        if tau > 0:
            point, iterations = gibbs_state(functional, V, tau, log_base, goal, search.max_iterations)
            mu, log_mu, V, energy, gap = point.mu, point.log_mu, point.V, point.energy, point.gap
        else:
            sparse = sparse_state(functional, V, unbalanced, goal, search.max_iterations)
            mu, V, energy, gap, iterations = sparse.mu, sparse.V, sparse.energy, sparse.gap, sparse.rounds
            log_mu = np.log(mu, where=mu > 0, out=np.full_like(mu, -np.inf))
    convex = None
    if not functional.over:
        convex = convex_on(problem.bound_energy, grid, free_mass=unbalanced, plan=functional.plan, at=mu)
    entropic, converged, evaluations = entropy(mu, grid.cell_volume, log_base), gap <= goal, functional.evaluations
    state = Equilibrium(grid, mu, log_mu, V, energy, gap, entropic, tau, convex, converged, iterations, evaluations)
    return state, goal, functional.over


def _with_error(problem: Problem, state: Equilibrium, search: _Search) -> Equilibrium:
    """The state with the estimated error of its energy, from that on half the cells, searched for from this one."""
    grid = half(state.grid)
    if grid is None:
        return replace(state, no_error=NO_HALF)
    if not state.converged:
        return replace(state, no_error="not converged")
    try:
        empty = not state.mass > 0.0  # where the mass is free, the least energy may be that of nothing
        start = problem.mu_0.cells(grid) if empty else state.mass * state.measure().restrict(grid.axes).cells(grid)
        other, _, over = _found(problem, grid, start, search)
    except Exception as error:  # whatever an energy does on a mesh that it is not made for
        return replace(state, no_error=f"on half the cells: {one_line(error)}")
    if not other.converged:
        return replace(state, no_error="the time was over" if over else "not converged on half the cells")
    smooth = not problem.bound_energy.discontinuous_gradient and is_smooth(state.mu, state.grid)
    first, second = divisors(state.grid, grid)
    return replace(
        state, energy_error=abs(other.energy - state.energy) / (second if smooth and state.temperature > 0 else first)
    )


def _check(
    problem: Problem,
    tolerance: float,
    max_iterations: int,
    initial: Measure | None,
    time_limit: float | None,
    estimate: bool,
) -> None:
    """Refuse arguments of `stationary` that do not fit, each with the value and the remedy."""
    if not isinstance(problem, Problem):
        raise ValueError(f"stationary needs a Problem, not {shown(problem)}; see mfpde.problems")
    problem.refuse_terms("minimisers")
    require(
        tolerance=(tolerance, NUMBER),
        max_iterations=(max_iterations, WHOLE),
        time_limit=(time_limit, POSITIVE | NONE),
        estimate=(estimate, FLAG),
    )
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, not {tolerance!r}; 1e-12 is the default")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, not {max_iterations}")
    if initial is not None and not isinstance(initial, Measure):
        raise ValueError(
            f"initial must be a Measure, not {type(initial).__name__}; GridMeasure(grid, values) makes one"
        )


def _log_base(problem: Problem, grid: Grid) -> Array | None:
    """``log omega`` on all cells, None where it is 0."""
    log_base = problem.log_base(*grid.mesh())
    return None if log_base is None else np.broadcast_to(log_base, grid.shape)


def _evaluate_start(functional: Functional, start: Array) -> tuple[Array, float]:
    """Potential and energy of the start, which must be finite."""
    V, energy = functional.evaluate(start)
    if not (math.isfinite(energy) and np.all(np.isfinite(V))):
        where = cell_not_finite(V, functional.grid)
        raise ValueError(
            f"the energy or its first variation is not finite at the start (energy {energy:g}"
            + (f", V {where})" if where else ")")
        )
    return V, energy


class Course(NamedTuple):
    """Where a flow begins and about where it ends: densities on a mesh, and their potentials."""

    start: Array
    V_start: Array
    end: Array
    V_end: Array


def roughly_stationary(
    problem: Problem, grid: Grid, temperature: float, max_iterations: int = 10, plan: GridEnergy | None = None
) -> Course:
    """The start and about where it goes: enough to know how wide and how steep both are, and cheap.

    The end is a Gibbs state near the minimiser of the free energy, exact where V does not depend on the density.
    Nothing is checked. `plan` is the energy on the mesh, if that is there already.
    """
    functional = Functional(problem.bound_energy, grid, plan=plan)
    start = problem.mu_0.cells(grid)
    V = np.array(functional.evaluate(start)[0])
    point, _ = gibbs_state(functional, V, temperature, _log_base(problem, grid), 0.1 * temperature, max_iterations)
    return Course(start, V, point.mu, point.V)


def _temperature(problem: Problem, temperature: float | None) -> float:
    if temperature is None:
        if not problem.temperature.constant:
            raise ValueError(
                f"the temperature of {problem.name!r} is a schedule ({problem.temperature!r}) and a stationary state "
                f"has one value; pass temperature=, for instance {problem.temperature(problem.t_end):g}, "
                f"that at t = {problem.t_end:g}"
            )
        return float(problem.temperature(0.0))
    if not (real(temperature) and temperature >= 0):
        raise ValueError(f"temperature must be a finite number >= 0, not {shown(temperature)}")
    return float(temperature)


class NodalState(NamedTuple):
    """An end state on quadrature nodes: points (N, d), weights (N,), the free energy, the density at points (n, d).

    The density is the Gibbs formula with the potential of the nodes.
    """

    points: Array
    weights: Array
    energy: float
    density: Callable[[Array], Array]


@one_blas_thread()
def stationary_on_nodes(
    problem: Problem, counts: Sequence[int], tolerance: float = 1e-12, max_iterations: int = 300,
    deadline: float = math.inf,
) -> NodalState:  # fmt: skip
    """The end state on a tensor product of Gauss-Legendre nodes of the box, for a constant temperature above 0."""
    require_lyapunov(problem.bound_energy, "the end state")
    require_capability(problem.bound_energy, "points", "the end state on nodes")
    tau = _temperature(problem, None)
    lines = [np.polynomial.legendre.leggauss(n) for n in counts]
    places = [
        0.5 * (axis.lower + axis.upper + axis.length * x) for axis, (x, _) in zip(problem.axes, lines, strict=True)
    ]
    points = np.stack([x.ravel() for x in np.meshgrid(*places, indexing="ij")], axis=1)
    shares = np.ones(1)
    for axis, (_, w) in zip(problem.axes, lines, strict=True):
        shares = np.multiply.outer(shares, 0.5 * axis.length * w).reshape(-1)
    volume = float(shares.mean())
    log_omega = problem.log_base(*points.T)
    # each node counts as a cell of the same volume; the base measure knows how much it really stands for
    log_base = np.log(shares / volume) + (0.0 if log_omega is None else log_omega)
    functional = NodalFunctional(problem.bound_energy, points, volume, deadline)
    start, weights = problem.mu_0.nodes(tuple(counts))
    V = problem.bound_energy.potential(points, problem.bound_energy.response(start, weights))
    goal = tolerance * max(float(np.ptp(V)) * 1e-3, tau)
    state, _ = gibbs_state(functional, V, tau, log_base, goal, max_iterations)
    response = problem.bound_energy.response(points, state.weights)
    low = state.V.min()
    total = float(np.exp(log_base - (state.V - low) / tau).sum()) * volume

    @one_blas_thread()
    def density(at: Array) -> Array:
        omega = problem.log_base(*at.T)
        potential = problem.bound_energy.potential(at, response)
        return np.asarray(np.exp((0.0 if omega is None else omega) - (potential - low) / tau) / total)

    return NodalState(points, state.weights, state.energy, density)
