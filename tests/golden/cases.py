"""What is computed: every kind of problem, scheme, method, reaction and controller in small, and what reads results.

A case is a frozen object with ``outcome()``. Only public names are used, so that modules may be moved.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import mfpde as mf
from tests.golden.recording import ADAPTIVE, FIXED, Outcome

Array = NDArray[np.float64]
Maker = Callable[[], mf.Problem]


class Case(Protocol):
    """Something that is computed."""

    def outcome(self) -> Outcome:
        """Compute it, and keep what is compared."""


# ---------------------------------------------------------------------------------------------------------------------
# kinds of cases
# ---------------------------------------------------------------------------------------------------------------------


def moments(axes: Sequence[mf.Axis], points: Sequence[Array], weights: Array) -> dict[str, list[float]]:
    """Mass, and the first two moments of every coordinate counted from the lower end in lengths of the axis.

    All are positive, so that none is compared relative to a number that symmetry makes 0.
    """
    found = {"mass": [float(weights.sum())]}
    for axis, x in zip(axes, points, strict=True):
        unit = (x - axis.lower) / axis.length
        found[f"moments of {axis.name}"] = [float((weights * unit**power).sum()) for power in (1, 2)]
    return found


def on_mesh(grid: mf.Grid, mu: Array) -> dict[str, list[float]]:
    """Moments of a density, and its mean height, which sees its shape."""
    masses = np.asarray(mu) * grid.cell_volume
    return moments(grid.axes, grid.mesh(), masses) | {"int mu^2": [float((masses * mu).sum())]}


def of_solution(solution: mf.Solution, tolerance: float) -> Outcome:
    """What is kept of a run on a mesh."""
    columns = [solution.diagnostics[name] for name in sorted(solution.diagnostics) if name != "energy"]
    arrays = {
        "density": solution.density[-1],
        "energy": solution.diagnostics["energy"],
        "other diagnostics": np.stack(columns),
        "response": solution.response,
    }
    numbers = {"energy": list(solution.energy), **on_mesh(solution.grid, solution.density[-1])}
    return Outcome.of(tolerance, arrays, numbers)


@dataclass(frozen=True)
class Run:
    """Some steps of `mfpde.solve`, of one length unless there is a controller among the settings.

    ``end`` is the time it goes to; ``then`` may do something with the solution first.
    """

    problem: Maker
    shape: Sequence[int] | int
    end: float
    steps: int = 4
    settings: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = FIXED
    then: Callable[[mf.Solution], mf.Solution] | None = None

    def outcome(self) -> Outcome:
        settings = {"controller": mf.FixedStep(self.end / self.steps), "save": 3, "progress": False} | {**self.settings}
        with warnings.catch_warnings():
            # what a run says about its own quality is no number
            warnings.simplefilter("ignore", mf.RunWarning)
            solution = mf.solve(self.problem(), self.shape, self.end, **settings)
        if self.then is not None:
            solution = self.then(solution)
        return of_solution(solution, self.tolerance)


@dataclass(frozen=True)
class Operator:
    """What `mfpde.Transport` computes for a density and a potential, without any run."""

    scheme: mf.Scheme
    shape: tuple[int, ...]
    temperature: float

    def outcome(self) -> Outcome:
        problem = cylinder(temperature=self.temperature)
        grid = mf.Grid(problem.axes, self.shape)
        x, a = grid.mesh()
        mu = np.exp(-(x**2)) * (1.3 + np.cos(a))
        V = np.sin(x + a) + 0.2 * x**2
        transport = mf.Transport(grid, self.scheme, METRIC, 0.1 * x + np.cos(a))
        rate = transport.rate(mu, V, dt=0.01, temperature=self.temperature)
        speed, cell = transport.outflow_rate(V, mu, self.temperature)
        fluxes = transport.fluxes(mu, V, temperature=self.temperature)
        arrays = {"rate": rate, "speed": [speed, cell], "fluxes": np.concatenate([flux.ravel() for flux in fluxes])}
        if isinstance(self.scheme, mf.ScharfetterGummel):
            pairs = [(axis, order) for axis in range(2) for order in (1, 2)]
            arrays["implicit"] = np.stack(
                [transport.implicit(axis, mu, V, 0.3, self.temperature, order=order) for axis, order in pairs]
            )
        numbers = {f"size of {name}": [float(np.abs(values).sum())] for name, values in arrays.items()}
        return Outcome.of(FIXED, arrays, numbers | {"size of speed": [speed]})


@dataclass(frozen=True)
class Stationary:
    """The state of least energy, by `mfpde.stationary`."""

    problem: Maker
    shape: Sequence[int] | int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        found = mf.stationary(self.problem(), self.shape, **self.settings)
        arrays = {"density": found.mu, "potential": found.potential, "energy": [found.energy, found.gap, found.entropy]}
        numbers = {"energy": [found.energy], "mass": [found.mass]}
        if found.temperature > 0.0:  # without, round-off decides how mass is shared by neighbouring cells
            numbers |= on_mesh(found.grid, found.mu)
        return Outcome.of(ADAPTIVE, arrays, numbers)


@dataclass(frozen=True)
class Nodes:
    """A problem along its characteristics."""

    problem: Maker
    end: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        found = mf.characteristics(self.problem(), self.end, save=3, progress=False, **self.settings)
        arrays = {"nodes": found.points, "weights": found.weights, "energy": found.energy, "response": found.response}
        numbers = {"energy": list(found.energy), "dissipation": list(found.dissipation())}
        last = found.points[-1], found.weights[-1]
        return Outcome.of(ADAPTIVE, arrays, numbers | moments(found.problem.axes, list(last[0].T), last[1]))


@dataclass(frozen=True)
class Cloud:
    """Particles, by `mfpde.particles.simulate`."""

    problem: Maker
    end: float = 0.2
    dynamics: Sequence[mf.particles.Dynamics] | None = None
    n: int = 40
    settings: Mapping[str, Any] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        settings = {"dt": 0.05, "save": 3, "seed": 7, "replicas": 2, "progress": False} | {**self.settings}
        cloud = mf.particles.simulate(self.problem(), self.n, dynamics=self.dynamics, t_end=self.end, **settings)
        events = np.stack([cloud.kills, cloud.births, cloud.injections])
        points, weights = cloud.points()
        arrays = {"positions": cloud.positions, "weights": weights, "energy": cloud.energy, "events": events}
        numbers = {"energy": list(cloud.energy[0]), "events": [float(events.sum())]}
        return Outcome.of(FIXED, arrays, numbers | moments(cloud.problem.axes, list(points.T), weights))


@dataclass(frozen=True)
class Twins:
    """Particles and their mean-field twins, by `mfpde.particles.coupled`."""

    problem: Maker

    def outcome(self) -> Outcome:
        problem = self.problem()
        scheme = mf.Weno5() if problem.noiseless else mf.ScharfetterGummel()
        solution = mf.solve(problem, 60, 0.2, scheme=scheme, controller=mf.FixedStep(0.01), save=2, progress=False)
        found = mf.particles.coupled(problem, solution, 30, dt=0.05, t_end=0.2, save=3, seed=7, replicas=2)
        arrays = {
            field.name: value
            for field in dataclasses.fields(found)
            if isinstance(value := getattr(found, field.name), np.ndarray)
        }
        last = found.positions[0, -1]
        numbers = {"distance": list(found.rms[:, -1]), "growth": list(np.abs(arrays["growth"][0]).mean(axis=1))}
        return Outcome.of(
            FIXED, arrays, numbers | moments(problem.axes, list(last.T), np.full(len(last), 1 / len(last)))
        )


@dataclass(frozen=True)
class Fluctuation:
    """The limit of fluctuations, by `mfpde.fluctuations`."""

    problem: Maker
    end: float
    settings: Mapping[str, Any] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        found = mf.fluctuations(self.problem(), self.end, save=3, progress=False, **self.settings)
        arrays = {"covariance": found.covariance, "influence": found.influence, "energy": found.energy_variance}
        numbers = {"gap": list(found.gap), "fresh draws": list(found.resampling_gap)}
        return Outcome.of(ADAPTIVE, arrays, numbers | {"energy": list(found.energy_variance)})


@dataclass(frozen=True)
class Certificate:
    """A number with its error bar, by `mfpde.reference`; with so much time that the clock decides nothing."""

    problem: Maker
    tolerance: float
    observables: Sequence[Any]

    def outcome(self) -> Outcome:
        found = mf.reference(
            self.problem(), self.tolerance, self.observables, budget=1e6, memory=1e9, progress=False, cache=False
        )
        arrays, numbers = {}, {}
        for certified in found.observables:
            arrays[certified.name] = np.stack([certified.value, certified.bar, certified.other_value])
            numbers[certified.name] = list(certified.value)
        return Outcome.of(ADAPTIVE, arrays, numbers)


# ---------------------------------------------------------------------------------------------------------------------
# problems
# ---------------------------------------------------------------------------------------------------------------------

METRIC = (None, lambda x, a: 1.0 + 0.3 * np.cos(a) + 0.0 * x)
ANGLES = stats.vonmises(1.5, loc=0.4)


def cylinder(**changes: Any) -> mf.Problem:
    """One axis that is cut off and one that closes on itself, a potential, an interaction, a metric that varies."""
    kernel = mf.SeparableKernel(x=mf.GaussianKernel(0.5), a=mf.CosineKernel([0.5, -0.2], 0.3))
    arguments: dict[str, Any] = {
        "energy": mf.External(lambda x, a: 0.5 * x**2 + 0.4 * np.cos(a - 0.3 * x)) + mf.Interaction(kernel),
        "axes": [mf.Axis("x", -4, 4), mf.Axis("a", -math.pi, math.pi, mf.End.PERIODIC)],
        "initial": mf.Product(x=stats.norm(0.6, 0.5), a=ANGLES),
        "alpha": 1.5,
        "metric": METRIC,
        "name": "cylinder",
    }
    return mf.Problem(**(arguments | changes))


def line(**changes: Any) -> mf.Problem:
    """One axis: a double well and a repulsion."""
    arguments: dict[str, Any] = {
        "energy": mf.External(lambda x: 0.1 * (x**2 - 1) ** 2, lambda x: (0.4 * x * (x**2 - 1),))
        + mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(0.3)), 0.5),
        "axes": [mf.Axis("x", -3, 3)],
        "initial": mf.Product(x=stats.norm(0.3, 0.4)),
        "alpha": 1.0,
        "name": "line",
    }
    return mf.Problem(**(arguments | changes))


def box(dimension: int, **changes: Any) -> mf.Problem:
    """Up to four axes with ends of all kinds."""
    axes = [
        mf.Axis("x", -3, 3),
        mf.Axis("r", 0, 3, (mf.End.NATURAL, mf.End.TRUNCATION)),
        mf.Axis("a", 0, 2, mf.End.PERIODIC),
        mf.Axis("y", -3, 3),
    ][:dimension]
    marginals = {
        "x": stats.norm(0.2, 0.4),
        "r": stats.halfnorm(0, 0.45),
        "a": stats.norm(0.7, 0.3),
        "y": stats.norm(0, 0.4),
    }
    external = mf.External(lambda *z: sum(0.5 * (1 - 0.2 * i) * np.sin(math.pi * q) ** 2 for i, q in enumerate(z)))
    kernels = {
        "x": mf.GaussianKernel(1.0),
        "r": mf.LinearKernel(),
        "a": mf.CosineKernel([0.5], 0.2, math.pi),
        "y": mf.GaussianKernel(2.0),
    }
    kernel = mf.SeparableKernel({axis.name: kernels[axis.name] for axis in axes})
    arguments: dict[str, Any] = {
        "energy": external + mf.Interaction(kernel),
        "axes": axes,
        "initial": mf.Product(**{axis.name: marginals[axis.name] for axis in axes}),
        "alpha": 1.0,
        "name": "box",
    }
    return mf.Problem(**(arguments | changes))


def reinjected(kind: mf.ReinjectionKind) -> Callable[..., mf.Problem]:
    """The cylinder, with births from a fixed measure."""

    def problem(**changes: Any) -> mf.Problem:
        measure = mf.Product(x=stats.norm(-0.5, 0.5), a=stats.vonmises(1.0))
        return cylinder(reinjection=mf.Reinjection(measure, kind), **changes)

    return problem


INPUTS = np.linspace(-2.0, 2.0, 30)
TARGETS = np.sin(2.0 * INPUTS)


def network(targets: Array = TARGETS, **changes: Any) -> mf.Problem:
    """A two-layer network on a little data."""
    return mf.problems.network(INPUTS, targets, half_width=3.0, **changes)


def with_energy(energy: mf.Energy, **changes: Any) -> Maker:
    """The line with another energy, and a well that keeps its mass together."""
    return lambda: line(energy=energy + mf.Confinement(x=0.2), **changes)


# ---------------------------------------------------------------------------------------------------------------------
# the cases
# ---------------------------------------------------------------------------------------------------------------------

SHIPPED: dict[str, tuple[Sequence[int] | int, float]] = {
    # cells, and a length of four steps that all schemes and methods can take
    "three-gaussians": ((24, 20), 0.01),
    "gaussian-bumps": (60, 0.1),
    "linear-neuron": (60, 0.04),
    "quadratic-well": (60, 0.02),
    "double-well": (60, 0.004),
    "single-index": (60, 0.04),
    "isotropic-gaussians": (60, 0.01),
    "anisotropic-gaussians": ((24, 20), 0.008),
    "predicting-failure": (60, 0.004),
    "relu-gaussians": ((8, 7, 6, 5), 0.004),
    "torus-langevin": (60, 0.02),
    "gaussian-langevin": (60, 0.02),
    "gaussian-sampling": (60, 0.02),
    "double-well-sampling": (60, 0.004),
    "sphere-langevin": (60, 0.004),
    "student-teacher": ((12, 10, 8), 0.02),
    "self-attention": (60, 0.01),
    "mmd-flow": (60, 0.01),
    "torus-spikes": ((24, 20), 0.02),
    "sparse-deconvolution": (60, 0.001),
    "two-timescale": (60, 0.02),
    "ultra-fast-diffusion": (60, 0.002),
    "quantization": ((24, 20), 0.05),
    "two-player-game": (60, 0.02),
}

SCHEMES: dict[str, mf.Scheme] = {
    "upwind": mf.Upwind(),
    "muscl minmod": mf.Muscl(mf.Limiter.MINMOD),
    "muscl van Leer": mf.Muscl(),
    "muscl MC": mf.Muscl(mf.Limiter.MC),
    "weno5": mf.Weno5(),
    "weno5 with a cautious guard": mf.Weno5(10.0),
    "scharfetter-gummel": mf.ScharfetterGummel(),
}
EXPLICIT: dict[str, Any] = {
    "Lie": mf.Lie(),
    "Strang": mf.Strang(),
    "ExponentialSSPRK3": mf.ExponentialSSPRK3(),
    "Strang around the reaction": mf.Splitting(
        [(mf.Operator.TRANSPORT, 0.5), (mf.Operator.REACTION, 1.0), (mf.Operator.TRANSPORT, 0.5)], order=2
    ),
}
IMPLICIT: dict[str, Any] = {
    f"{method.__name__} {potential.value}": method(potential)
    for method in (mf.ImplicitEuler, mf.ImplicitStrang)
    for potential in mf.Potential
}
TEMPERATURES = {"cold": 0.0, "warm": 0.2}

REACTIONS: dict[str, Callable[..., mf.Problem]] = {
    "none": lambda **changes: cylinder(alpha=0.0, **changes),
    "unbalanced": lambda **changes: cylinder(reaction=mf.Reaction.UNBALANCED, **changes),
    "free-energy": lambda **changes: cylinder(
        reaction=mf.Reaction.FREE_ENERGY, base=lambda x, a: np.exp(-0.1 * x**2 + 0.0 * a), **changes
    ),
    "rate tanh": lambda **changes: cylinder(rate=np.tanh, **changes),
    "unbalanced rate tanh": lambda **changes: cylinder(rate=np.tanh, reaction=mf.Reaction.UNBALANCED, **changes),
    "refill": reinjected(mf.ReinjectionKind.REFILL),
    "replace": reinjected(mf.ReinjectionKind.REPLACE),
}

SCHEDULES: dict[str, Any] = {
    "PowerLaw": mf.PowerLaw(0.5, 2.0),
    "PiecewiseLinear": mf.PiecewiseLinear([0.0, 0.02, 0.02, 0.1], [1.0, 0.5, 0.8, 0.2]),
    "ExponentialDecay": mf.ExponentialDecay(1.0, 0.1, 0.2),
    "InverseLog": mf.InverseLog(0.5),
    "a function": lambda t: 0.5 + 0.3 * math.cos(20.0 * t),
}

ATOMS = mf.Discrepancy(mf.SeparableKernel(x=mf.GaussianKernel(0.5)), np.array([[-0.5], [0.8]]), np.array([0.4, 0.6]))
ENERGIES: dict[str, Maker] = {
    "linear kernel": with_energy(mf.Interaction(mf.SeparableKernel(x=mf.LinearKernel()), -0.1)),
    "cosine kernel": with_energy(mf.Interaction(mf.SeparableKernel(x=mf.CosineKernel([1.0, 0.5], 0.2, 0.7)))),
    "kernel of one's own": with_energy(
        mf.Interaction(mf.SeparableKernel(x=mf.CallableKernel(lambda x, y: 1 / (1 + (x - y) ** 2))))
    ),
    "narrow kernel": with_energy(mf.Interaction(mf.SeparableKernel(x=mf.GaussianKernel(1e-3)))),
    "invariant kernel": with_energy(
        mf.Interaction(mf.TranslationInvariantKernel(lambda d: np.exp(-np.sqrt(d**2 + 0.1))))
    ),
    "pair kernel": with_energy(
        mf.Interaction(mf.PairKernel(lambda p, q: np.minimum(p[:, :1], q[:, 0]) + p[:, :1] * q[:, 0]))
    ),
    "discrepancy": with_energy(ATOMS),
    "features, squared loss": with_energy(
        mf.Features(lambda x: np.stack([x, x**2, np.sin(x)]), mf.SquaredLoss(np.array([0.1, 0.5, 0.2])))
    ),
    "features, Huber loss": with_energy(
        mf.Features(lambda x: np.stack([x, np.cos(x)]), mf.HuberLoss(np.array([0.8, 0.2])))
    ),
    "network, logistic loss": lambda: network(np.sign(INPUTS + 0.1), loss="logistic", bias=False),
    "network, Huber loss": lambda: network(loss="huber", activation="relu", bias=False),
    "network, Hermite units": lambda: network(activation="hermite2", bias=False),
    "network without compression": lambda: network(tolerance=0.0, bias=False),
}

STARTS: dict[str, mf.Measure] = {
    "mixture": mf.Mixture([(0.3, mf.Product(x=stats.norm(-1, 0.3))), (0.7, mf.Product(x=stats.uniform(0, 1)))]),
    "atom": mf.Dirac(x=0.33),
    "joint density": mf.Density(lambda z: np.exp(-(z[:, 0] ** 2)) * (1 + z[:, 0] ** 2)),
    "particles": mf.Particles(np.linspace(-1, 1, 7)[:, None], np.arange(1.0, 8.0)),
    "on a mesh": mf.GridMeasure(mf.Grid([mf.Axis("x", -3, 3)], (16,)), np.exp(-((np.arange(16) - 7.5) ** 2))),
}


def allowed(method: Any, reaction: str, temperature: float) -> bool:
    """Whether an unsplit method integrates a reaction."""
    if not isinstance(method, mf.ExponentialSSPRK3):
        return True
    return reaction not in ("refill", "replace") and not (reaction == "free-energy" and temperature > 0.0)


def saved_and_loaded(solution: mf.Solution) -> mf.Solution:
    """What a file gives back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        solution.save(path)
        loaded = mf.load(path)
        return dataclasses.replace(loaded, density=np.asarray(loaded.density))


def gone_on(solution: mf.Solution) -> mf.Solution:
    """The run, resumed to twice its time."""
    return mf.resume(solution, 2.0 * solution.times[-1], progress=False)


def shipped() -> dict[str, Case]:
    """Every problem that is shipped, with its default scheme and method."""
    found: dict[str, Case] = {
        f"problem {name}": Run(partial(mf.problems.get, name), shape, end) for name, (shape, end) in SHIPPED.items()
    }
    found["problem network"] = Run(network, (12, 10, 8), 0.1)
    return found


def schemes() -> dict[str, Case]:
    """Every scheme with every method that takes it, with and without a temperature; and the operators themselves."""
    found: dict[str, Case] = {}
    for warmth, temperature in TEMPERATURES.items():
        for scheme_name, scheme in SCHEMES.items():
            methods = EXPLICIT | (IMPLICIT if isinstance(scheme, mf.ScharfetterGummel) else {})
            for method_name, method in methods.items():
                problem, settings = partial(cylinder, temperature=temperature), {"scheme": scheme, "method": method}
                name = f"scheme {scheme_name}, {method_name}, {warmth}"
                found[name] = Run(problem, (24, 20), 0.04, settings=settings)
            for columns, shape in {"few": (24, 20), "many": (8, 200)}.items():
                found[f"operator {scheme_name}, {columns} columns, {warmth}"] = Operator(scheme, shape, temperature)
    return found


def reactions() -> dict[str, Case]:
    """Every reaction with every method that integrates it."""
    found: dict[str, Case] = {}
    pairs = [(mf.Weno5(), name) for name in EXPLICIT] + [(mf.ScharfetterGummel(), name) for name in IMPLICIT]
    for warmth, temperature in TEMPERATURES.items():
        for reaction, problem in REACTIONS.items():
            for scheme, method_name in pairs:
                method = (EXPLICIT | IMPLICIT)[method_name]
                if allowed(method, reaction, temperature):
                    settings = {"scheme": scheme, "method": method}
                    name = f"reaction {reaction}, {method_name}, {warmth}"
                    found[name] = Run(partial(problem, temperature=temperature), (20, 18), 0.04, settings=settings)
    return found


def steps() -> dict[str, Case]:
    """Every controller, stabilised steps, schedules of everything."""
    found: dict[str, Case] = {}
    controllers = {"CourantControl": (mf.CourantControl(), FIXED), "ErrorControl": (mf.ErrorControl(), ADAPTIVE)}
    for warmth, temperature in TEMPERATURES.items():
        pairs = [(mf.Weno5(), name) for name in EXPLICIT] + [(mf.ScharfetterGummel(), "ImplicitStrang average")]
        for scheme, method_name in pairs:
            for name, (controller, tolerance) in controllers.items():
                method = (EXPLICIT | IMPLICIT)[method_name]
                settings = {"scheme": scheme, "method": method, "controller": controller}
                problem = partial(line, temperature=temperature)
                name = f"controller {name}, {method_name}, {warmth}"
                found[name] = Run(problem, 60, 0.3, settings=settings, tolerance=tolerance)
    for scheme_name in ("muscl van Leer", "weno5", "scharfetter-gummel"):
        settings = {"scheme": SCHEMES[scheme_name], "method": mf.Strang()}
        name = f"method Strang, stabilised, {scheme_name}"
        found[name] = Run(partial(cylinder, temperature=2.0, alpha=0.2), (40, 30), 0.04, settings=settings)
    cold = {"method": mf.Strang(), "controller": mf.CourantControl()}
    warm = {"scheme": mf.ScharfetterGummel(), "method": mf.ImplicitStrang()}
    for name, schedule in SCHEDULES.items():
        for what, settings in {"schedule": cold, "alpha": cold, "temperature": warm}.items():
            found[f"{what} {name}"] = Run(partial(line, **{what: schedule}), 60, 0.08, settings=settings)
    return found


def places() -> dict[str, Case]:
    """Boxes of one to four axes, metrics, base measures, energies, starts."""
    found: dict[str, Case] = {}
    for dimension, shape in enumerate([(40,), (16, 18), (10, 12, 9), (7, 8, 6, 9)], start=1):
        for warmth, temperature in TEMPERATURES.items():
            problem = partial(box, dimension, temperature=temperature)
            scheme = mf.ScharfetterGummel() if temperature else mf.Weno5()
            found[f"axes {dimension}, {warmth}"] = Run(problem, shape, 0.02, settings={"scheme": scheme})
    found["axes 2, threads"] = Run(mf.problems.three_gaussians, (330, 310), 0.002, 2, settings={"threads": 2})
    metrics = {"none": None, "numbers": (0.5, 2.0), "functions": (lambda x, a: np.exp(-(x**2)) + 0.0 * a, METRIC[1])}
    for name, metric in metrics.items():
        found[f"metric {name}"] = Run(partial(cylinder, metric=metric), (24, 20), 0.04)
    for name, problem in ENERGIES.items():
        shape = (16, 14) if name.startswith("network") else 60
        found[f"energy {name}"] = Run(problem, shape, 0.04, settings={"scheme": mf.Muscl()})
    for name, start in STARTS.items():
        found[f"start {name}"] = Run(partial(line, initial=start), 60, 0.012, settings={"scheme": mf.Muscl()})
    shipped = mf.problems.gaussian_bumps
    found["file saved and loaded"] = Run(shipped, 40, 0.04, then=saved_and_loaded)
    found["file resumed"] = Run(shipped, 40, 0.04, then=lambda solution: gone_on(saved_and_loaded(solution)))
    return found


def others() -> dict[str, Case]:
    """What is not computed by steps on a mesh, particles apart."""
    p = mf.problems
    loose = {"tolerance": 1e-6}
    return {
        "stationary warm, convex": Stationary(p.torus_langevin, 40),
        "stationary warm, two axes": Stationary(partial(cylinder, temperature=0.2), (20, 18)),
        "stationary warm, base measure": Stationary(p.sphere_langevin, 40),
        "stationary cold": Stationary(p.gaussian_bumps, 40),
        "stationary cold, two axes": Stationary(p.three_gaussians, (12, 10)),
        "stationary cold, free mass": Stationary(partial(line, energy=ATOMS, reaction=mf.Reaction.UNBALANCED), 40),
        "characteristics gaussian-bumps": Nodes(p.gaussian_bumps, 0.5, loose),
        "characteristics three-gaussians": Nodes(p.three_gaussians, 0.1, loose),
        "characteristics self-attention": Nodes(p.self_attention, 0.1, loose),
        "characteristics mmd-flow": Nodes(p.mmd_flow, 0.1, {"tolerance": 1e-4}),
        "characteristics, unbalanced": Nodes(REACTIONS["unbalanced"], 0.1, loose),
        "characteristics, rate tanh": Nodes(REACTIONS["rate tanh"], 0.1, loose),
        "characteristics, particles": Nodes(partial(line, initial=STARTS["particles"]), 0.2, loose),
        "fluctuations linear-neuron": Fluctuation(partial(p.linear_neuron, alpha=0.0), 0.5),
        "fluctuations network": Fluctuation(
            partial(network, bias=False, alpha=0.0), 0.02, {"tolerance": 0.1, "nodes": 10}
        ),
        "reference linear-neuron": Certificate(p.linear_neuron, 1e-3, [mf.EnergyAt(0.5), mf.Moment("theta", 2, 0.5)]),
        "reference torus-langevin": Certificate(p.torus_langevin, 1e-2, [mf.EnergyAt(0.1)]),
    }


def clouds() -> dict[str, Case]:
    """Particles: every drift, noise and reaction."""
    p, q = mf.problems, mf.particles
    drift, noise = q.GradientDescent(), q.Langevin()
    partner = q.PopulationControl.PARTNER
    own = q.BirthDeath(density=q.KernelDensity(0.2))
    free = partial(cylinder, temperature=0.2, reaction=mf.Reaction.FREE_ENERGY)
    return {
        "particles, what the problem asks for": Cloud(p.three_gaussians),
        "particles, descent alone": Cloud(p.three_gaussians, dynamics=[drift]),
        "particles, descent, metric": Cloud(partial(cylinder, alpha=0.0)),
        "particles, ends of all kinds": Cloud(partial(box, 4, alpha=0.0, temperature=0.1)),
        "particles, noise": Cloud(partial(cylinder, temperature=0.2), dynamics=[drift, noise]),
        "particles, noise, base measure": Cloud(p.sphere_langevin),
        "particles, birth-death": Cloud(partial(cylinder, alpha=20.0)),
        "particles, birth-death one for one": Cloud(
            partial(cylinder, alpha=20.0), dynamics=[drift, q.BirthDeath(partner)]
        ),
        "particles, birth-death, unbalanced": Cloud(partial(REACTIONS["unbalanced"], alpha=20.0)),
        "particles, birth-death, rate tanh": Cloud(partial(REACTIONS["rate tanh"], alpha=20.0)),
        "particles, birth-death, refill": Cloud(partial(REACTIONS["refill"], alpha=20.0)),
        "particles, birth-death, replace": Cloud(partial(REACTIONS["replace"], alpha=20.0)),
        "particles, birth-death, free-energy": Cloud(partial(free, alpha=20.0)),
        "particles, birth-death, free-energy, own bandwidth": Cloud(
            partial(free, alpha=20.0), dynamics=[drift, noise, own]
        ),
        "particles, weights": Cloud(cylinder, dynamics=[drift, q.Weights()]),
        "particles, weights, resampled": Cloud(partial(cylinder, alpha=20.0), dynamics=[drift, q.Weights(0.9)]),
        "particles, weights, free-energy": Cloud(free, dynamics=[drift, noise, q.Weights()]),
        "particles, batches": Cloud(network, dynamics=[q.SGD(5)]),
        "particles, batches, one pass": Cloud(network, dynamics=[q.SGD(5, one_pass=True)]),
        "particles, schedules": Cloud(partial(line, schedule=SCHEDULES["PowerLaw"], alpha=SCHEDULES["InverseLog"])),
        "particles, many": Cloud(partial(line, alpha=0.0), n=3000),
        "particles, workers": Cloud(partial(cylinder, alpha=20.0), settings={"replicas": 4, "workers": 2}),
        "particles, sums over pairs": Cloud(ENERGIES["pair kernel"]),
        "particles, narrow kernel": Cloud(ENERGIES["narrow kernel"]),
        "particles, invariant kernel": Cloud(ENERGIES["invariant kernel"]),
        "particles, twins": Twins(partial(line, alpha=0.0, temperature=0.1)),
    }


CASES: dict[str, Case] = shipped() | schemes() | reactions() | steps() | places() | others() | clouds()
