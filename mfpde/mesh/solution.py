"""What a run gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mfpde.equation.convexity import NO_CERTIFICATE, convex_on, no_certificate
from mfpde.equation.description.stored import with_output
from mfpde.equation.equilibrium import Equilibrium
from mfpde.equation.grid import Grid, box
from mfpde.equation.measures.on_mesh import GridMeasure
from mfpde.equation.species import column_of
from mfpde.equation.trajectory import integral, integrand
from mfpde.mesh.energy_errors import energy_scale, said_of_error
from mfpde.mesh.rates import Rates, rates_of
from mfpde.mesh.record import COLUMNS, ERRORS, Errors, Record, Result, State, meaning
from mfpde.support.arguments import FLAG, NONE, NUMBER, PATH, require, shown
from mfpde.support.arrays import Array
from mfpde.support.labels import Column, Labelled, Labels
from mfpde.support.saves import save_index, within_run
from mfpde.support.words import printable, with_digits

if TYPE_CHECKING:
    from os import PathLike

    from mfpde.equation.problem import Problem

__all__ = ["Result", "Solution", "State", "marginal_of"]


@dataclass(eq=False)
class Solution(Labelled, Record):
    """The result of `mfpde.solve`, a `Trajectory`.

    Attributes
    ----------
    grid : Grid
        The mesh.
    times : array, shape (m,)
        Save times.
    density : array, shape (m, *grid.shape)
        The density at the save times: cell averages, or values at the centres (`point_values`). More than 64 MiB
        of a streamed or loaded solution stay in the file: ``density[i]`` reads a frame, ``numpy.asarray(density)``
        all of them (`mfpde.support.files.frames.StoredDensity`).
    energy : array, shape (m,)
        ``E[mu]`` at the save times; at a temperature above 0 the free energy, with its entropy.
    diagnostics : dict of array
        One value a step, `mfpde.mesh.record.COLUMNS` says of what.
    response : array, shape (steps + 1, r)
        ``u = int Phi dmu`` at ``diagnostics["time"]``, in the energy's compressed coordinates; ``r`` is 0
        where the energy has none.
    result : Result
        How the run ended.
    stats : dict
        Counts and extremes of the run: steps, redone, evaluations, mass drift, energy increase, ...
    warnings : list of str
        What the run wants looked at.
    configuration : dict
        The settings, as plain values.
    provenance : dict
        Package versions (and, under ``"volatile"``, date, duration and command).
    state : State
        The last state; ``solve(..., initial=solution.state)`` goes on from it.
    problem : Problem or None
        None when loaded from a file whose problem has functions of a user's own, or data that no file holds.
    missing : str
        Why there is no problem, or no network of it, and what to do; empty where there is one.
    remarks : list of str or None
        What the run's numbers do not say: that there is no certificate, that the equation does not minimise the energy.
        None when loaded from a file of an early version; see `notes`.
    errors : Errors or None
        Estimated errors of energy, response and moments at the save times, and why there are none where there are none;
        see `error`. None when loaded from a file of an early version.
    companion : State or None
        The last state of the run that they are estimated with.
    description : Description or None
        What of a problem made in Python is numbers and text, as files hold it; None where name and parameters say all.
    """

    problem: Problem | None = None
    missing: str = ""

    def index(self, t: float | None) -> int:
        """The position of save time `t` (the last one for None).

        Raises
        ------
        ValueError
            If `t` is no save time.
        """
        return save_index(self.times, t, "solve")

    def marginal(self, *names: str, t: float | None = None) -> Array:
        """The marginal density over the named axes, in the order given, at a save time (default: the last).

        Returns
        -------
        array
            One axis for each name.
        """
        return self.marginal_of(self.density[self.index(t)], *names)

    def marginal_of(self, mu: Array, *names: str) -> Array:
        """The marginal over the named axes, in the order given, of any density on the mesh."""
        return marginal_of(self.grid, mu, *names)

    def nodes_at(self, t: float | None = None) -> tuple[Array, Array]:
        """The centres of the cells, shape (cells, d), and their masses, shape (cells,), at a save time."""
        return self.grid.points(), (self.density[self.index(t)] * self.grid.cell_volume).ravel()

    def measure(self, t: float | None = None) -> GridMeasure:
        """The normalised density at a save time (default: the last), as a `Measure`."""
        return GridMeasure(self.grid, self.density[self.index(t)])

    def moment(self, name: str | Callable[..., Any], power: int = 1, t: float | None = None) -> float:
        """``int f^power dmu`` of a coordinate or of ``f(*coordinates)`` at a save time, see `Trajectory.moment`."""
        values = integrand(self.grid.axes, name, power, self.grid.mesh())
        return integral(values, self.density[self.index(t)]) * self.grid.cell_volume

    def mean(self, name: str | Callable[..., Any], t: float | None = None) -> float:
        """``int f dmu / int dmu`` of a coordinate or of ``f(*coordinates)`` at a save time (default: the last)."""
        mu = self.density[self.index(t)]
        return integral(integrand(self.grid.axes, name, 1, self.grid.mesh()), mu) / float(mu.sum())

    @property
    def energy_error(self) -> Array:
        """The estimated error of `energy` at the save times, absolute: ``error("energy")``."""
        return self.error("energy")

    def error(self, name: str) -> Array:
        """The estimated error of what a run computes, at the save times.

        A companion run on half the cells along each axis, with longer steps, goes along with the run. What the two
        differ by, divided by 3 where errors can be expected to be of second order or better, and what the start has
        lost on the mesh, is the estimate. It is no bound: see ``docs/accuracy.md``.

        Parameters
        ----------
        name : str
            ``"energy"`` (at a temperature above 0 the free energy), ``"response"``, ``"mean"`` or
            ``"second_moment"``.

        Returns
        -------
        array, shape (m,), (m, r) or (m, d)
            Absolute, with one row a save time: for the response one column a component, for moments one an axis. NaN
            where there is no estimate, and `errors` says why.

        Raises
        ------
        ValueError
            For another name.
        """
        names = [entry for entry in ERRORS if entry != "divisor"]
        if name not in names:
            raise ValueError(f"no estimate of the error of {shown(name)}; valid: {', '.join(names)}")
        errors = self.errors
        if errors is None:
            errors = Errors.missing(len(self.times), self.grid.dimension, self.response.shape[1], "an early version")
        return np.asarray(getattr(errors, name))

    @property
    def energy_scale(self) -> Array:
        """What the error of the energy is a share of, at the save times.

        ``E(t)`` where the minimum of E is known to be 0, but at least 1e-3 of the fall of E over the run; else that
        fall.
        """
        return energy_scale(self.energy, self.known_minimum)

    @property
    def known_minimum(self) -> float | None:
        """The minimum of the energy, where it is known."""
        found = self.stats.get("minimum_energy")
        return float(found) if isinstance(found, (int, float)) else None

    @property
    def energy_without_entropy(self) -> Array:
        """``E_0[mu]`` at the save times: the energy less ``tau int log(mu/omega) dmu``, which particles do not have."""
        d = self.diagnostics
        if "entropy" not in d:  # a file from before temperatures
            return self.energy
        steps = np.searchsorted(d["time"], self.times)
        warm = d["temperature"][steps] > 0
        return self.energy - np.where(warm, d["temperature"][steps] * np.where(warm, d["entropy"][steps], 0.0), 0.0)

    def rates(
        self, begin: float | None = None, end: float | None = None, stationary: Equilibrium | None = None
    ) -> Rates:
        """How fast the run decays: exponential rates of the energy, the certificate, and the distance to the end.

        Parameters
        ----------
        begin, end : float, optional
            The stretch of time that is fitted. By default the second half of the fall, in the logarithm, down to
            rounding, or to three times the estimated error where the minimum is not that of the mesh.
        stationary : Equilibrium, optional
            ``mfpde.stationary(problem, shape)``, on the mesh of the run: it gives the minimum of the energy, where that
            is not known, the distance ``int |mu - mu*|`` at the save times, and the spectral gap.

        Returns
        -------
        Rates
            Each with the interval of its slopes on four parts of the stretch; what there is none of, and why.

        Examples
        --------
        Noise carries mass over the barrier of a double well at the spectral gap.

        >>> import mfpde as mf
        >>> problem = mf.problems.double_well_sampling(0.5, 0.02, 0.1, 0.0)
        >>> run, end = mf.solve(problem, 100, 60.0, save=25), mf.stationary(problem, 100)
        >>> rates = run.rates(stationary=end)
        >>> bool(abs(rates["distance"].value / rates.spectral_gap - 1) < 1e-3)
        True
        """
        require(begin=(begin, NUMBER | NONE), end=(end, NUMBER | NONE))
        if stationary is not None and not isinstance(stationary, Equilibrium):
            raise ValueError(f"stationary must be what mfpde.stationary gives, not {shown(stationary)}")
        return rates_of(self, begin, end, stationary)

    def response_at(self, t: float | None = None) -> Array:
        """``u = int Phi dmu`` at any time (default: the end), from a cubic spline through the recorded steps.

        Raises
        ------
        ValueError
            If `t` is outside the run, or the energy has no compressed response.
        """
        if self.response.shape[1] == 0:
            raise ValueError("this energy has no compressed response (its kernel does not factorise); save densities")
        require(t=(t, NUMBER | NONE))
        time = self.diagnostics["time"]
        t = float(time[-1]) if t is None else within_run(t, float(time[0]), float(time[-1]))
        recorded = int(np.searchsorted(time, t))
        if time[recorded] == t:  # the spline passes through it up to rounding
            return self.response[recorded].copy()
        return np.asarray(self._spline(t))

    @cached_property
    def _spline(self) -> Any:
        from scipy.interpolate import CubicSpline

        return CubicSpline(self.diagnostics["time"], self.response, axis=0)

    def _labels(self) -> Labels:
        """Save times, cells and steps."""
        names = [axis.name for axis in self.grid.axes]
        d, at = self.diagnostics, np.searchsorted(self.diagnostics["time"], self.times)
        coordinates = {"time": Column(["time"], self.times, "save time")}
        coordinates |= {name: column_of(self.grid, i) for i, name in enumerate(names)}
        variables = {
            "energy": Column(["time"], self.energy, COLUMNS["energy"]),
            "energy_error": Column(["time"], self.energy_error, "estimated error of the energy, absolute"),
        }
        more = [name for name in d if name == "regret" or name.startswith("mass_")]
        for name in ("mass", "minimum", "entropy", "optimality_gap", "end_mass", *more):
            if name in d:
                variables[name] = Column(["time"], d[name][at], meaning(name))
        variables["density"] = Column(["time", *names], self.density, "density per Lebesgue volume")
        coordinates["step_time"] = Column(["step"], d["time"], COLUMNS["time"])
        for name in d:
            if name not in ("time", "limiting_cell"):
                variables[f"step_{name}"] = Column(["step"], d[name], meaning(name))
        if self.response.shape[1]:
            variables["step_response"] = Column(["step", "component"], self.response, "u, in compressed coordinates")
        return Labels(coordinates, variables, {"problem": self.name, "result": self.result.name})

    @cached_property
    def notes(self) -> list[str]:
        """The remarks; of an early version's file, those that its problem gives."""
        if self.remarks is not None:
            return self.remarks
        if self.problem is None:
            return []
        convex = convex_on(self.problem.bound_energy, self.grid, free_mass=not self.stats["balanced"])
        return [text for text in (no_certificate(convex), self.problem.caveat) if text]

    @property
    def no_certificate(self) -> str:
        """Why the optimality gap certifies nothing; empty where it does."""
        return next((text for text in self.notes if text.startswith(NO_CERTIFICATE)), "")

    def predict(self, x: Any, t: float | None = None) -> Array:
        """The network's output ``f(x) = int unit(x, theta) dmu(theta)`` at a save time (default: the last).

        Parameters
        ----------
        x : array, shape (m,) or (m, p)
            Inputs.
        t : float, optional
            A save time.

        Returns
        -------
        array, shape (m,) or (m, q)

        Raises
        ------
        ValueError
            If the problem names no network.
        """
        problem = with_output(self.problem, self.missing, f"the file of {self.name!r}")
        return problem.output(x, self.grid.mesh(), self.density[self.index(t)] * self.grid.cell_volume)

    def save(self, path: str | PathLike[str], *, overwrite: bool = True) -> None:
        """Write an HDF5 file that `mfpde.load` and xarray read.

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
        """
        from mfpde.mesh.solution_writer import save  # only those who save pay for it
        from mfpde.support.files.locks import held

        require(path=(path, PATH), overwrite=(overwrite, FLAG))
        with held(path):
            save(self, path, overwrite=overwrite)

    def summary(self) -> Mapping[str, str]:
        """What ``print(solution)`` shows, line by line."""
        d, s, e = self.diagnostics, self.stats, self.energy_error
        steps = f"{s['steps']} ({s['redone']} redone), {s['evaluations']} potential evaluations"
        return {
            "result": f"{self.result.name.lower()}: {self.result.value}",
            "mesh": " x ".join(map(str, self.grid.shape)) + f" cells, {self.configuration.get('scheme', '?')}",
            "time": f"{d['time'][0]:g} to {d['time'][-1]:g}",
            "steps": steps,
            "energy": f"{with_digits(d['energy'][0], e[0])} -> {with_digits(d['energy'][-1], e[-1])}",
            "energy error": self.said_of_error,
            "optimality gap": self.no_certificate or f"{d['optimality_gap'][-1]:.3g}" + self._certified(),
            **({"regret": f"{d['regret'][0]:.6g} -> {d['regret'][-1]:.6g}"} if "regret" in d else {}),
            "mass drift": f"{s['mass_drift']:.2e}" if s["balanced"] else f"mass {d['mass'][-1]:.9g} (unbalanced)",
            "minimum": f"{d['minimum'].min():.3g}",
            "end mass": f"{d['end_mass'].max():.2e}",
            **({} if "regret" in d else {"energy increase": f"{s['energy_increase']:.1e} of its scale at most"}),
            "wall time": f"{self.provenance.get('volatile', {}).get('seconds', float('nan')):.2f} s",
        }

    @property
    def said_of_error(self) -> str:
        """The estimated error of the energy in words: its largest share of the scale, when, and on what meshes."""
        return said_of_error(self.errors, self.energy_scale, self.known_minimum, self.times, self.grid.shape)

    def _certified(self) -> str:
        """By what the optimality gap is a certificate, and over which measures."""
        tau = self.diagnostics.get("temperature")
        entropic = " = tau KL(mu|p_mu)" if tau is not None and tau[-1] > 0 else ""
        unknown = " if the energy is convex" if self.remarks is None and self.problem is None else ""
        return f"{entropic}, over measures on {box(self.grid.axes)}{unknown}"

    def __str__(self) -> str:
        rows = self.summary()
        width = max(map(len, rows))
        lines = [f"Solution of {self.name!r}", *(f"  {key:<{width}}  {value}" for key, value in rows.items())]
        lines += [f"  note: {text}" for text in self.notes if text != self.no_certificate]
        lines += [f"  warning: {text}" for text in self.warnings]
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        return f"<Solution of {self.name!r}: {self.result.name}, {len(self.times)} saves, t = {self.times[-1]:g}>"


def marginal_of(grid: Grid, mu: Array, *names: str) -> Array:
    """The marginal of a density on a mesh over the named axes, in the order given; see `Solution.marginal`.

    Raises
    ------
    ValueError
        If the names are not those of different axes, or the density is not one on this mesh.
    """
    order = [axis.name for axis in grid.axes]
    known = all(isinstance(name, str) and name in order for name in names)
    if not known or len(set(names)) != len(names) or not names:
        raise ValueError(f"marginal over {shown(names)}: name different axes out of {order}")
    if np.shape(mu) != grid.shape:
        raise ValueError(f"a density on this mesh has shape {grid.shape}; it is {shown(mu)}")
    mu = np.asarray(mu)
    others = tuple(i for i, name in enumerate(order) if name not in names)
    volume = float(np.prod([grid.spacing[i] for i in others]))
    reduced = mu.sum(axis=others) * volume
    kept = [name for name in order if name in names]
    return np.transpose(reduced, [kept.index(name) for name in names])
