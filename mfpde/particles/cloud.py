"""What a simulation gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.measures.particles import Particles
from mfpde.equation.problem import Problem
from mfpde.equation.trajectory import integral, integrand
from mfpde.particles.dynamics import Scheme
from mfpde.particles.ensemble import Ensemble, effective_size
from mfpde.support.arguments import floats, shown, whole
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.saves import save_index

__all__ = ["Cloud", "Observable", "Record"]


Observable = Callable[[Array, Array], Any]


@dataclass(eq=False)
class Cloud(Labelled):
    """The result of `simulate`, a `Trajectory`: R replicas of n particles at m save times.

    Attributes
    ----------
    problem : Problem
    times : array, shape (m,)
        Save times, multiples of `dt`.
    positions : array, shape (R, m, n, d), or None
        None when not kept.
    weights : array, shape (R, m, n), or None
        Their sum is the mass. None: all equal, ``mass / n``.
    energy, mass, ess : array, shape (R, m)
        ``E`` of the cloud, without the entropy, which a cloud does not have; its mass; the effective sample size
        ``(sum w)^2 / sum w^2``.
    response : array, shape (R, m, r)
        ``u = int Phi dmu``, in the coordinates of `Solution.response_at`.
    kills, births, injections : array, shape (R, m)
        Events since the start; births are duplications by V, injections draws from ``mu_b``. Population control
        is not counted.
    observed : dict of array, shape (R, m, ...)
        What `observe` gave; arrays of objects (R, m) where its shape was not always the same.
    dt : float
    seed : int
    scheme : Scheme
    evaluation : str
        How V was computed.
    """

    problem: Problem
    times: Array
    positions: Array | None
    weights: Array | None
    energy: Array
    response: Array
    mass: Array
    ess: Array
    kills: NDArray[np.int64]
    births: NDArray[np.int64]
    injections: NDArray[np.int64]
    dt: float
    n: int
    seed: int
    scheme: Scheme
    evaluation: str = ""
    observed: dict[str, Array] = field(default_factory=dict)

    @property
    def energy_without_entropy(self) -> Array:
        """`energy`: a cloud has no entropy."""
        return self.energy

    @property
    def replicas(self) -> int:
        """R."""
        return len(self.energy)

    def _labels(self) -> Labels:
        """Replicas and save times."""
        both = ["replica", "time"]
        said = {
            "energy": "E of the cloud, without the entropy",
            "mass": "int dmu",
            "ess": "effective sample size",
            "kills": "neurons killed since the start",
            "births": "neurons duplicated since the start",
            "injections": "neurons drawn from mu_b since the start",
        }
        variables = {name: Column(both, getattr(self, name), meaning) for name, meaning in said.items()}
        if self.response.shape[2]:
            variables["response"] = Column([*both, "component"], self.response, "u = int Phi dmu")
        if self.positions is not None:
            for i, axis in enumerate(self.problem.axes):
                variables[axis.name] = Column(
                    [*both, "particle"], self.positions[..., i], f"{axis.name} of the particles"
                )
        if self.weights is not None:
            variables["weight"] = Column([*both, "particle"], self.weights, "masses of the particles")
        coordinates = {
            "replica": Column(["replica"], np.arange(self.replicas)),
            "time": Column(["time"], self.times, "save time"),
        }
        attributes = {"problem": self.problem.name, "particles": self.n, "dt": self.dt, "seed": self.seed}
        return Labels(coordinates, variables, attributes, ("replica", "time"))

    def index(self, t: float | None) -> int:
        """The position of save time `t` (the last one for None).

        Raises
        ------
        ValueError
            If `t` is no save time.
        """
        return save_index(self.times, t, "simulate")

    def response_at(self, t: float | None = None) -> Array:
        """``u = int Phi dmu`` of every replica at a save time (default: the last), shape (R, r).

        Raises
        ------
        ValueError
            If `t` is no save time, or the energy has no response.
        """
        if self.response.shape[2] == 0:
            raise ValueError("this energy has no response (its kernel does not factorise)")
        return self.response[:, self.index(t)].copy()

    def nodes_at(self, t: float | None = None, replica: int = 0) -> tuple[Array, Array]:
        """Positions (n, d) and weights (n,) of a replica at a save time (default: the last)."""
        if self.positions is None:
            raise ValueError("the positions were not kept; pass keep_positions=True to simulate")
        i = self.index(t)
        if not whole(replica) or not -self.replicas <= replica < self.replicas:
            raise ValueError(f"replicas are numbered from 0 to {self.replicas - 1}, there is no {shown(replica)}")
        if self.weights is None:
            return self.positions[replica, i], np.full(self.n, self.mass[replica, i] / self.n)
        return self.positions[replica, i], self.weights[replica, i]

    def points(self, t: float | None = None, replica: int = 0) -> tuple[Array, Array]:
        """`nodes_at` by its older name."""
        return self.nodes_at(t, replica)

    def measure(self, t: float | None = None, replica: int = 0) -> Particles:
        """A replica at a save time (default: the last), normalised, as a `Measure`."""
        return Particles(*self.nodes_at(t, replica))

    def moment(self, name: str | Callable[..., Any], power: int = 1, t: float | None = None) -> Array:
        """``int f^power dmu`` of a coordinate or of ``f(*coordinates)`` at a save time, of every replica, shape (R,).

        See `Trajectory.moment`.
        """
        clouds = [self.nodes_at(t, r) for r in range(self.replicas)]
        return np.array([integral(integrand(self.problem.axes, name, power, x.T), w) for x, w in clouds])

    def mean(self, name: str | Callable[..., Any], t: float | None = None) -> Array:
        """``int f dmu / int dmu`` of a coordinate or of ``f(*coordinates)`` at a save time, of every replica."""
        return self.moment(name, 1, t) / self.mass[:, self.index(t)]

    def predict(self, x: Any, t: float | None = None, replica: int = 0) -> Array:
        """The output of the network whose neurons are a replica's particles; see `Trajectory.predict`."""
        points, weights = self.nodes_at(t, replica)
        return self.problem.output(x, list(points.T), weights)

    def __str__(self) -> str:
        mean, spread = self.energy.mean(axis=0), self.energy.std(axis=0)
        lines = [
            f"Cloud of {self.problem.name!r}: {self.replicas} replicas of {self.n} particles",
            f"  scheme   {', '.join(map(repr, self.scheme.parts))}, dt = {self.dt:g}",
            f"  field    {self.evaluation}",
            f"  time     {self.times[0]:g} to {self.times[-1]:g}",
            f"  energy   {mean[0]:.6g} +- {spread[0]:.2g} -> {mean[-1]:.6g} +- {spread[-1]:.2g} (over replicas)",
            f"  events   {self.kills[:, -1].mean():.1f} kills, {self.births[:, -1].mean():.1f} births, "
            f"{self.injections[:, -1].mean():.1f} injections a replica",
            f"  sample   effective size {self.ess[:, -1].mean():.1f} of {self.n} at the end",
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Cloud of {self.problem.name!r}: {self.replicas} x {self.n} particles, t = {self.times[-1]:g}>"


class Record:
    """Everything that is kept, filled block by block."""

    def __init__(
        self,
        problem: Problem,
        n: int,
        replicas: int,
        saves: list[int],
        positions: bool,
        weights: bool,
        observe: Mapping[str, Observable] | None,
    ) -> None:
        m, d = len(saves), len(problem.axes)
        self.problem, self.n = problem, n
        self.positions = np.empty((replicas, m, n, d)) if positions else None
        self.weights = np.empty((replicas, m, n)) if weights and positions else None
        self.energy, self.mass, self.ess = (np.empty((replicas, m)) for _ in range(3))
        self.response = np.empty((replicas, m, problem.bound_energy.response_size))
        self.events = np.zeros((3, replicas, m), dtype=np.int64)
        self.observe = dict(observe or {})
        self.observed: dict[str, list[list[Any]]] = {
            name: [[None] * m for _ in range(replicas)] for name in self.observe
        }

    def take(self, ensemble: Ensemble, block: range, j: int) -> None:
        """Keep what the replicas of a block are at save time number `j`."""
        rows = slice(block.start, block.stop)
        X, W = ensemble.points, ensemble.weights
        if self.positions is not None:
            self.positions[rows, j] = X
        if self.weights is not None:
            self.weights[rows, j] = W
        self.energy[rows, j] = ensemble.energies
        self.response[rows, j] = ensemble.responses
        self.mass[rows, j] = ensemble.mass
        self.ess[rows, j] = [effective_size(w) for w in W]
        self.events[:, rows, j] = ensemble.events
        for name, observable in self.observe.items():
            for r, x, w in zip(block, X, W, strict=True):
                self.observed[name][r][j] = np.array(floats(observable(x.copy(), w.copy()), f"observe {name!r}"))

    def _kept(self) -> dict[str, Array]:
        names = ("positions", "weights", "energy", "mass", "ess", "response", "events")
        return {name: values for name in names if (values := getattr(self, name)) is not None}

    def arrays(self) -> dict[str, Array]:
        """All that has been recorded."""
        seen = {
            f"observed {r} {j} {name}": value
            for name, rows in self.observed.items()
            for r, row in enumerate(rows)
            for j, value in enumerate(row)
            if value is not None
        }
        return self._kept() | seen

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over what was recorded before."""
        for name, values in self._kept().items():
            if name in arrays:
                values[...] = arrays[name]
        for name, r, j, value in _observed(arrays):
            self.observed[name][r][j] = value

    def put(self, block: range, arrays: Mapping[str, Array]) -> None:
        """Take over what was recorded of a block alone."""
        rows = slice(block.start, block.stop)
        for name, values in self._kept().items():
            at = (slice(None), rows) if name == "events" else rows
            values[at] = arrays[name]
        for name, r, j, value in _observed(arrays):
            self.observed[name][block.start + r][j] = value

    def part(self, block: range) -> dict[str, Array]:
        """What has been recorded of a block, as a record of it alone has it."""
        rows = slice(block.start, block.stop)
        kept = {name: values[:, rows] if name == "events" else values[rows] for name, values in self._kept().items()}
        seen = {
            f"observed {r - block.start} {j} {name}": value
            for name, r, j, value in _observed(self.arrays())
            if r in block
        }
        return kept | seen

    def cloud(self, times: Array, dt: float, seed: int, scheme: Scheme, evaluation: str) -> Cloud:
        """The result of the simulation, once all has been kept."""
        return Cloud(
            problem=self.problem,
            times=times,
            positions=self.positions,
            weights=self.weights,
            energy=self.energy,
            response=self.response,
            mass=self.mass,
            ess=self.ess,
            kills=self.events[0],
            births=self.events[1],
            injections=self.events[2],
            dt=dt,
            n=self.n,
            seed=seed,
            scheme=scheme,
            evaluation=evaluation,
            observed={name: _stacked(rows) for name, rows in self.observed.items()},
        )


def _observed(arrays: Mapping[str, Array]) -> Iterator[tuple[str, int, int, Array]]:
    """Name, replica, save time and value of what was observed."""
    for key, value in arrays.items():
        if key.startswith("observed "):
            _, r, j, name = key.split(" ", 3)
            yield name, int(r), int(j), value


def _stacked(rows: list[list[Any]]) -> Array:
    """What was observed, (R, m, ...); an array of objects (R, m) where the shape changes from one to the next."""
    shapes = {np.shape(value) for row in rows for value in row}
    if len(shapes) == 1:
        return np.array(rows)
    stacked = np.empty((len(rows), len(rows[0])), dtype=object)
    for r, row in enumerate(rows):
        for j, value in enumerate(row):
            stacked[r, j] = value
    return stacked
