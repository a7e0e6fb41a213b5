"""The mean field that particles are compared with: which quantities of it, and how large they are.

A `Field` has what a comparison asks of the mean field at its times: energies, responses, moments, marginals, samples,
whether it comes from a solution on a mesh, from characteristics or from a law in closed form.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.energy import Discrepancy
from mfpde.equation.grid import Axis, Grid, moving
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.problem import Problem, Reaction
from mfpde.lagrangian.characteristics import Characteristics
from mfpde.mesh.solution import Solution
from mfpde.support.arrays import Array
from mfpde.verification.comparison.distances import Quantile

if TYPE_CHECKING:
    from mfpde.support.files.frames import StoredDensity

__all__ = [
    "ExactLaw",
    "Field",
    "MeshDensities",
    "Quantity",
    "energy_scale",
    "exact_field",
    "mean_field",
    "moments_along",
    "starts_at_mu_0",
]


LEAST_ENERGY = 1e-3
"""The energy counts as no smaller than this fraction of its fall over the run."""
REFINE = 8
"""Pieces that a cell of a marginal is cut into."""


class Quantity(enum.Enum):
    """What is compared."""

    ENERGY = "energy"
    """``E[mu^n] - E[mu_t]``, without entropy."""
    RESPONSE = "response"
    """``u[mu^n] - u[mu_t]``, the network output in the energy's coordinates."""
    MOMENTS = "moments"
    """Mean and mean square of every coordinate; on periodic axes of its cosine and sine."""
    W1 = "W1"
    """The 1-Wasserstein distance of every marginal, on periodic axes along the circle."""
    W2 = "W2"
    """The 2-Wasserstein distance of every marginal, not on periodic axes."""
    SLICED_W2 = "sliced W2"
    """The root of the mean squared ``W2`` over 16 projections; from two dimensions on, without periodic axes."""
    MASS = "mass"
    """The mass; compared where the reaction is unbalanced."""


@dataclass(frozen=True, eq=False)
class ExactLaw:
    """A mean field known in closed form, as a reference for `compare`.

    Parameters
    ----------
    problem : Problem
    law : callable
        ``law(t)``, a `Measure`: ``mu_t``.
    times : sequence of float
        When it is compared; the first is 0.
    shape : sequence of int, optional
        The mesh its marginals are taken on. Default: the problem's.

    Examples
    --------
    >>> import mfpde as mf
    >>> from scipy import stats
    >>> problem = mf.problems.linear_neuron()
    >>> mean, variance = problem.exact["mean"], problem.exact["variance"]
    >>> exact = mf.ExactLaw(problem, lambda t: mf.Product(theta=stats.norm(mean(t), variance(t) ** 0.5)), [0, 0.5, 1])
    """

    problem: Problem
    law: Callable[[float], Measure]
    times: Sequence[float]
    shape: Sequence[int] | int | None = None


def least_energy_is_zero(problem: Problem) -> bool:
    """Whether it is known that energies fall towards 0, so that gaps are to be seen beside the energy itself.

    At temperature 0, where the problem says so (``exact["minimum_energy"]``), or where the energy is the discrepancy
    of a positive kernel from a measure that the neurons can form: atoms in the box, of weights that are not negative
    and sum to the mass.
    """
    if not problem.noiseless:
        return False
    known = problem.exact.get("minimum_energy")
    if isinstance(known, (int, float)):
        return known == 0
    term = problem.energy
    if not isinstance(term, Discrepancy) or term.convex is not True or term.weights.min() < 0:
        return False
    low, high = ([getattr(axis, end) for axis in problem.axes] for end in ("lower", "upper"))
    free = problem.reaction is Reaction.UNBALANCED
    inside = bool(np.all((term.points >= low) & (term.points <= high)))
    return inside and (free or abs(float(term.weights.sum()) - 1.0) < 1e-9)


def energy_scale(
    reference: Solution | Characteristics | ExactLaw, problem: Problem, energy: Array
) -> tuple[Array, str]:
    """What gaps of the energy at each of the compared times are a fraction of, and what that is called.

    The energy itself where its least value is known to be 0, but not less than `LEAST_ENERGY` of how far it falls over
    the run; otherwise that fall.
    """
    path = energy if isinstance(reference, ExactLaw) else reference.energy_without_entropy
    fall = max(float(np.ptp(path)), float(np.ptp(energy)))
    if least_energy_is_zero(problem):
        return np.maximum(np.abs(energy), LEAST_ENERGY * fall), "E"
    if fall > 1e-12 * float(np.abs(energy).max()):
        return np.full(len(energy), fall), "the fall of E"
    return np.abs(energy), "E"


class _Frames(Sequence[Array]):
    """Some of a run's densities. Those in a file are read when they are asked for; the last one is kept."""

    def __init__(self, density: Array | StoredDensity, chosen: Sequence[int]) -> None:
        self.density, self.chosen = density, chosen
        self.last: tuple[int, Array] | None = None

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, j: Any) -> Any:
        i = self.chosen[j]
        if isinstance(self.density, np.ndarray):
            return self.density[i]
        if self.last is None or self.last[0] != i:
            self.last = None  # before the next one is read
            self.last = i, self.density[i]
        return self.last[1]


class _Cells(Sequence[tuple[Array, Array]]):
    """Densities as points, the centres of the cells, and their masses."""

    def __init__(self, grid: Grid, density: Sequence[Array]) -> None:
        self.grid, self.density, self.centres = grid, density, grid.points()

    def __len__(self) -> int:
        return len(self.density)

    def __getitem__(self, j: Any) -> Any:
        return self.centres, (self.density[j] * self.grid.cell_volume).ravel()


class MeshDensities:
    """Densities on a mesh, one for each of the compared times: their marginals, projections and samples.

    Parameters
    ----------
    grid : Grid
    frames : sequence of array, shape (m, *grid.shape)
        Cell averages, or values at the centres.
    point_values : bool
        Which of the two.
    """

    def __init__(self, grid: Grid, frames: Sequence[Array], point_values: bool) -> None:
        self.grid, self.frames, self.point_values = grid, frames, point_values
        self._marginals: dict[tuple[int, int], tuple[Quantile, tuple[Array, Array]]] = {}

    def points(self) -> Sequence[tuple[Array, Array]]:
        """The centres of the cells and their masses, at each time."""
        return _Cells(self.grid, self.frames)

    def marginal(self, i: int, j: int) -> tuple[Quantile, tuple[Array, Array]]:
        """Along axis `i` at time number `j`: the quantile function, and the distribution function as a curve."""
        if (i, j) not in self._marginals:
            self._marginals[i, j] = self._marginal(i, j)
        return self._marginals[i, j]

    def _marginal(self, i: int, j: int) -> tuple[Quantile, tuple[Array, Array]]:
        """The distribution function interpolated monotonically between the faces, finer than the cells."""
        others = tuple(k for k in range(self.grid.dimension) if k != i)
        f = np.asarray(self.frames[j].sum(axis=others))
        if self.point_values:  # averages of the cells from values at their centres
            padded = np.pad(f, 1, mode="wrap" if self.grid.axes[i].periodic else "edge")
            f = np.maximum(f + (padded[2:] - 2 * f + padded[:-2]) / 24.0, 0.0)
        faces = self.grid.faces(i)
        c = np.concatenate([[0.0], np.cumsum(f)])
        c /= c[-1]
        from scipy.interpolate import PchipInterpolator

        x = np.interp(np.arange(REFINE * len(f) + 1) / REFINE, np.arange(len(f) + 1), faces)
        curve = (x, np.clip(PchipInterpolator(faces, c)(x), 0.0, 1.0))
        return Quantile.of_curve(*curve), curve

    @cached_property
    def _centres(self) -> Array:
        return self.grid.points()

    def projected(self, direction: Array, j: int) -> Quantile:
        """The quantile function of the projection on a direction at time number `j`.

        The masses of the cells lie at their centres, spread as widely as a cell is.
        """
        w = self.frames[j].ravel()
        keep = w > 1e-12 * w.max()
        along, w = self._centres[keep] @ direction, w[keep]
        order = np.argsort(along, kind="stable")
        along, w = along[order], w[order] / w.sum()
        mass = np.concatenate([[0.0], np.cumsum(w)])
        moment = np.concatenate([[0.0], np.cumsum(w * along)])
        width = math.sqrt(sum((e * h) ** 2 for e, h in zip(direction, self.grid.spacing, strict=True)))

        def integral(y: Array) -> Array:  # of the distribution function
            k = np.searchsorted(along, y, side="right")
            return np.asarray(y * mass[k] - moment[k])

        low, high = along[0] - 0.5 * width, along[-1] + 0.5 * width
        x = np.linspace(low, high, min(4096, 4 * math.ceil((high - low) / width) + 1))
        return Quantile.of_curve(x, (integral(x + 0.5 * width) - integral(x - 0.5 * width)) / width)

    def sample(self, j: int, n: int, rng: np.random.Generator) -> Array:
        """Independent draws at time number `j`, shape (n, d): in one dimension by the quantile function."""
        if self.grid.dimension > 1:
            return GridMeasure(self.grid, self.frames[j]).restrict(self.grid.axes).sample(n, rng)
        q = self.marginal(0, j)[0]
        u = rng.random(n)
        s = np.clip(np.searchsorted(q.c, u, side="right") - 1, 0, len(q.low) - 1)
        share = (u - q.c[s]) / (q.c[s + 1] - q.c[s])
        return np.asarray(q.low[s] + share * (q.high[s] - q.low[s]))[:, None]


class Field:
    """What `compare` knows of ``mu_t`` at its times: numbers, marginals, samples.

    Parameters
    ----------
    problem : Problem
    times : array, shape (m,)
    laws : sequence of RestrictedMeasure or None
        ``mu_t`` where it can be sampled itself.
    mesh : MeshDensities, optional
        Its densities; without them distances are left out.
    source : sequence of (array, array), optional
        Points, shape (n, d), and weights, shape (n,), at each time. Default: the cells of the mesh.
    energy : array, shape (m,), optional
        ``E[mu_t]``, without entropy. Default: that of the source.

    Attributes
    ----------
    mass : array, shape (m,)
    response : array, shape (m, r), or None
        ``u = int Phi dmu_t``; None where the energy has none.
    """

    def __init__(
        self,
        problem: Problem,
        times: Array,
        laws: Sequence[RestrictedMeasure | None],
        mesh: MeshDensities | None,
        source: Sequence[tuple[Array, Array]] | None = None,
        energy: Array | None = None,
    ) -> None:
        self.problem, self.times, self.mesh, self.laws = problem, times, mesh, laws
        self.axes = tuple(problem.axes)
        bound = problem.bound_energy
        if source is None:
            source = self.densities.points()
        self.source = source
        self.energy = np.array([bound.energy(x, w) for x, w in source]) if energy is None else np.asarray(energy)
        self._moments: dict[tuple[int, int], tuple[float, float]] = {}
        self.mass = np.array([float(w.sum()) for _, w in source])
        self.response = None
        if bound.response_size > 0 and not bound.direct:
            self.response = np.stack([bound.response(x, w) for x, w in source])

    @property
    def densities(self) -> MeshDensities:
        """The densities on a mesh, where it is known that there are some."""
        assert self.mesh is not None
        return self.mesh

    def moments(self, i: int, j: int) -> tuple[float, float]:
        """Mean and mean square along axis `i` at time number `j`; of a periodic axis those of cosine and sine."""
        if (i, j) not in self._moments:
            x, w = self.source[j]
            self._moments[i, j] = moments_along(self.axes[i], x[:, i], w)
        return self._moments[i, j]

    def spread(self, i: int) -> float:
        """The largest standard deviation of a coordinate."""
        found = []
        for x, w in self.source:
            w = w / w.sum()
            mean = float(w @ x[:, i])
            found.append(float(w @ (x[:, i] - mean) ** 2))
        return math.sqrt(max(found))

    def marginal(self, i: int, j: int) -> tuple[Quantile, tuple[Array, Array]]:
        """The quantile function of a marginal, and its distribution function as a curve."""
        return self.densities.marginal(i, j)

    def projected(self, direction: Array, j: int) -> Quantile:
        """The quantile function of the projection on a direction."""
        return self.densities.projected(direction, j)

    def sample(self, j: int, n: int, rng: np.random.Generator) -> Array:
        """Independent draws from ``mu_t``, normalised."""
        law = self.laws[j]
        if law is not None:
            return law.sample(n, rng)
        if self.mesh is not None:
            return self.mesh.sample(j, n, rng)
        x, w = self.source[j]
        return np.asarray(x[rng.choice(len(w), n, p=w / w.sum())])


def moments_along(axis: Axis, x: Array, w: Array) -> tuple[float, float]:
    """Mean and mean square of coordinates `x` with weights `w`; along a periodic axis those of cosine and sine."""
    if axis.periodic:
        angle = (2 * math.pi / axis.length) * (x - axis.lower)
        return float(w @ np.cos(angle)), float(w @ np.sin(angle))
    return float(w @ x), float(w @ (x * x))


def mean_field(
    reference: Solution | Characteristics | ExactLaw, problem: Problem, times: Array, distances: bool = True
) -> tuple[Field, list[str]]:
    """The mean field that a reference has at some of its times, and notes; with densities where `distances` ask."""
    if isinstance(reference, ExactLaw):
        return exact_field(reference, times), []
    if isinstance(reference, Characteristics):
        source = [reference.nodes_at(float(t)) for t in times]
        mesh, notes = _density_of(reference, times, source) if distances else (None, [])
        return Field(problem, times, [problem.mu_0 if t == 0 else None for t in times], mesh, source), notes
    index = [reference.index(float(t)) for t in times]
    laws = [problem.mu_0 if t == 0 and starts_at_mu_0(reference, problem) else None for t in times]
    mesh = MeshDensities(reference.grid, _Frames(reference.density, index), reference.point_values)
    return Field(problem, times, laws, mesh, energy=reference.energy_without_entropy[index]), []


def starts_at_mu_0(solution: Solution, problem: Problem) -> bool:
    """Whether the run began with the problem's own measure, up to the mesh."""
    mu_0 = problem.mu_0
    own = mu_0.point_values(solution.grid) if solution.point_values else mu_0.cells(solution.grid)
    return bool(np.abs(solution.density[0] - own).sum() * solution.grid.cell_volume < 1e-6)


def _density_of(
    found: Characteristics, times: Array, source: Sequence[tuple[Array, Array]]
) -> tuple[MeshDensities | None, list[str]]:
    """The density of characteristics on a mesh; None, and a note why, where there is none of the right mass."""
    problem = found.problem
    d = len(moving(problem.axes))
    if d > 2:
        why = (
            "no distances: characteristics give a density on a mesh in one and two dimensions only; "
            "compare with a solution on a mesh"
        )
        return None, [why]
    grid = problem.grid(problem.shape if problem.shape is not None else 400 if d == 1 else 96)
    points = grid.points()
    try:
        problem.mu_0.log_density(points[:1])
    except ValueError as error:
        return None, [f"no distances: {error}"]
    density = [found.density_at(points, float(t)).reshape(grid.shape) for t in times]
    off = max(
        abs(float(mu.sum()) * grid.cell_volume / float(w.sum()) - 1) for mu, (_, w) in zip(density, source, strict=True)
    )
    if off > 1e-3:
        why = (
            f"the density of the characteristics on a mesh of {' x '.join(map(str, grid.shape))} has a mass that "
            f"is off by {off:.1g}; distances are left out (compare with a solution on a mesh)"
        )
        return None, [why]
    return MeshDensities(grid, density, point_values=True), []


def exact_field(exact: ExactLaw, times: Array, shape: Sequence[int] | int | None = None) -> Field:
    """The mean field of a law in closed form, its distances on a mesh of `shape` (default: that of the law)."""
    problem = exact.problem
    grid = problem.grid(shape if shape is not None else exact.shape)
    laws = [exact.law(float(t)).restrict(problem.axes) for t in times]
    count = {1: 400, 2: 60, 3: 24, 4: 12}[len(problem.axes)]
    mesh = MeshDensities(grid, [law.cells(grid) for law in laws], point_values=False)
    return Field(problem, times, laws, mesh, [law.nodes(count) for law in laws])
