"""The problem: an energy, a box, an initial measure and the dynamics between them.

A `Problem` says *what* is solved and nothing about how: mesh, scheme and step size are
chosen when it is handed to `mfpde.solve`, and the same problem feeds every discretisation.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mfpde.equation.energy import BoundEnergy, Energy, Features, TwoLayerNetwork
from mfpde.equation.energy.base import axis_positions
from mfpde.equation.energy.capabilities import has_points, plan_on
from mfpde.equation.finite import first_place
from mfpde.equation.formulas import Formula
from mfpde.equation.grid import Axis, Grid, box
from mfpde.equation.measures.base import Measure, RestrictedMeasure
from mfpde.equation.metric import as_metric, rates_of
from mfpde.equation.schedules import Constant, Schedule, as_schedule
from mfpde.equation.species import Species, species_axis
from mfpde.equation.terms import Frozen, Term
from mfpde.equation.units import FormulaUnit
from mfpde.support.arguments import entries, function, member, numbers, read_only, real, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import on_shape, values_at
from mfpde.support.session import warn
from mfpde.support.threads import one_blas_thread
from mfpde.support.travel import RECIPE, Portable, made_by, packed, remember

__all__ = [
    "Network",
    "Problem",
    "Reaction",
    "Reinjection",
    "ReinjectionKind",
    "TruncationWarning",
    "beside",
    "own_network",
]


LOST_MASS_WARN = 1e-8
LOST_MASS_REFUSE = 1e-3


class TruncationWarning(UserWarning):
    """The box cuts off a part of a measure that may matter."""


class Reaction(enum.Enum):
    """How neurons die and duplicate. ``Vbar`` is the mean of ``V`` under ``mu``."""

    BALANCED = "balanced"
    """``-alpha (V - Vbar) mu``: deaths and births balance, mass is conserved.

    With a temperature its stationary state is not the minimiser of the free energy, which it may raise: for
    ``V = a x^2 / 2`` the variance tends to ``(sqrt(1 + 2 alpha tau / a) - 1) / alpha`` instead of ``tau / a``."""
    UNBALANCED = "unbalanced"
    """``-alpha V mu``: mass changes."""
    FREE_ENERGY = "free-energy"
    """``-alpha (V + tau log(mu/omega) - mean) mu``: the reaction of the full Wasserstein-Fisher-Rao flow."""


class ReinjectionKind(enum.Enum):
    """What reinjection from a measure ``mu_b`` makes up for."""

    REFILL = "refill"
    """Die and duplicate at rate ``alpha V`` (no mean removed). A loss of mass is refilled from
    ``mu_b``, a gain is removed uniformly:
    ``-alpha V mu + alpha max(Vbar, 0) mu_b - alpha max(-Vbar, 0) mu``."""
    REPLACE = "replace"
    """Only deaths, at rate ``alpha max(V, 0)``, and each dead neuron is replaced by one from ``mu_b``:
    ``-alpha V_+ mu + alpha (int V_+ dmu) mu_b``."""


@dataclass(frozen=True)
class Reinjection(Portable):
    """Birth from a fixed measure, which restores the support that birth-death alone cannot enlarge.

    Parameters
    ----------
    measure : Measure
        ``mu_b``, restricted to the problem's box and normalised. The energy decays when ``V = 0``
        on its support, which holds for units of zero amplitude.
    kind : ReinjectionKind or str
        ``"refill"`` or ``"replace"``.

    Notes
    -----
    Neither kind is invariant under ``V -> V + const``.
    """

    measure: Measure
    kind: ReinjectionKind = ReinjectionKind.REFILL

    def __post_init__(self) -> None:
        if not isinstance(self.measure, Measure):
            raise ValueError(f"reinjection needs a Measure, not {type(self.measure).__name__}")
        object.__setattr__(self, "kind", member(ReinjectionKind, self.kind, "reinjection kind"))


@dataclass(frozen=True)
class Network(Portable):
    """The network behind the measure: its output is ``f(x) = int unit(x, theta) dmu(theta)``.

    Parameters
    ----------
    unit : callable
        ``unit(x, *coordinates)``, the response of single neurons: ``x`` of shape ``(m,)`` or ``(m, p)``, the
        parameters as arrays that broadcast to some shape ``(...)``, in the order of the axes; the result has
        shape ``(m, ...)``, or ``(m, ..., q)`` for ``q > 1`` outputs. See ``docs/functions.md``. Also a `Formula` whose
        first variable is the input; if they are called ``x1``, ``x2``, ..., the first ones are.
    target : callable, optional
        ``target(x)``, what the network is trained to.
    inputs : array, optional
        Where to look at the output: shape ``(m,)`` or ``(m, p)``.
    """

    unit: Callable[..., Array]
    target: Callable[[Array], Array] | None = None
    inputs: Array | None = None

    def __post_init__(self) -> None:
        if isinstance(self.unit, Formula):
            object.__setattr__(self, "unit", FormulaUnit.of(self.unit))
        function(self.unit, "the unit of a network")
        function(self.target, "the target of a network", optional=True)
        if self.inputs is not None:
            inputs = numbers(self.inputs, "the inputs of a network")
            if inputs.ndim not in (1, 2) or not np.all(np.isfinite(inputs)):
                raise ValueError(f"the inputs of a network are finite, of shape (m,) or (m, p), not {shown(inputs)}")

    def output(self, x: Array, coordinates: Sequence[Array], weights: Array) -> Array:
        """``sum_i weights_i unit(x, theta_i)`` over the broadcast shape of the coordinates, in chunks of inputs.

        Parameters
        ----------
        x : array, shape (m,) or (m, p)
        coordinates : sequence of array
            The parameters; they broadcast to the shape of `weights`.
        weights : array
            Masses of the cells or particles.

        Returns
        -------
        array, shape (m,) or (m, q)
        """
        x, weights = numbers(x, "inputs"), numbers(weights, "weights")
        if x.ndim not in (1, 2) or len(x) == 0 or not np.all(np.isfinite(x)):
            raise ValueError(f"inputs must be finite, of shape (m,) or (m, p), not {shown(x)}")
        coordinates = [numbers(theta, "coordinates") for theta in entries(coordinates, "the coordinates")]
        shape = _common_shape(coordinates)
        if shape != weights.shape:
            raise ValueError(f"weights have shape {weights.shape}, the coordinates {shape or '() or none in common'}")
        step = max(1, 2**22 // weights.size)
        chunks = []
        for i in range(0, len(x), step):
            values = np.asarray(self.unit(*read_only(x[i : i + step], *coordinates)))
            if values.ndim == weights.ndim + 2:
                chunks.append(np.tensordot(weights, np.moveaxis(values, 0, -1), weights.ndim).T)
            else:
                values = np.broadcast_to(values, (len(values), *weights.shape))
                chunks.append(values.reshape(len(values), -1) @ weights.ravel())
        return np.concatenate(chunks)


def _common_shape(coordinates: Sequence[Array]) -> tuple[int, ...] | None:
    """The shape that arrays broadcast to, None if to none."""
    try:
        return np.broadcast_shapes(*(theta.shape for theta in coordinates))
    except ValueError:
        return None


def beside(x: Array, *coordinates: Array) -> Array:
    """Scalar inputs with as many trailing axes as the coordinates broadcast to, for writing units."""
    return np.reshape(x, (-1,) + (1,) * np.broadcast(*coordinates).ndim)


@dataclass(frozen=True, eq=False)
class Problem(Portable):
    r"""A mean-field training problem on a box.

    The measure over neuron parameters evolves by

    .. math::

       \partial_t \mu = s(t)\,\{\nabla\cdot(\mu\, G\, \nabla V)
           + \tau(t)\,\nabla\cdot(G\,\omega\nabla(\mu/\omega)) - \alpha(t)\, R[\mu]\},
       \qquad V = \frac{\delta E}{\delta \mu}[\mu],

    with no flux through the ends of the box. ``V`` is the first variation without the entropy.

    Parameters
    ----------
    energy : Energy
        ``E[mu]``, a sum of the terms in `mfpde.equation.energy`.
    axes : sequence of Axis
        The box, one to four axes; one of them may be a `Species`, whose labels are several measures.
    initial : Measure
        ``mu_0``. It is restricted to the box and normalised, for every discretisation alike. Of species a `PerSpecies`.
    alpha : float or Schedule or callable, optional
        The birth-death rate ``alpha(t) >= 0``; 0, the default, is plain gradient flow.
    temperature : float or Schedule or callable, optional
        The entropy's weight ``tau(t) >= 0``; 0, the default, is noiseless training. A schedule anneals.
    t_end : float, optional
        The time a run goes to unless told otherwise.
    reaction : Reaction or str, optional
        ``"balanced"`` (default), ``"unbalanced"`` or ``"free-energy"``.
    rate : callable, optional
        An increasing ``f``: the reaction is ``(f(V) - mean f(V)) mu`` instead of ``(V - Vbar) mu``.
    reinjection : Reinjection, optional
        Birth from a fixed measure.
    terms : sequence of Term, optional
        Operators of your own that are added to transport and reaction, see `Term`; on a mesh only.
    schedule : float or Schedule or callable, optional
        ``s(t) >= 0``, a common factor of everything: a learning-rate schedule.
    metric : sequence of (None or float or callable), optional
        ``g_i(*coordinates) >= 0`` for each axis, the diagonal of ``G``: learning rates, or the inverse
        metric of curved coordinates. For functions of the coordinates see ``docs/functions.md``.
    base : callable, optional
        ``omega(*coordinates) > 0``, the measure against which the entropy ``int log(mu/omega) dmu`` is taken: the
        volume element of curved coordinates (``sin(theta)**(d-2)`` of an angle, ``r**(d-1)`` of a radius), or a prior.
        Called with the coordinates of cell centres, faces and particles, never at the ends. Default: 1. It plays no
        part at temperature 0.
    name : str, optional
        What the problem is called in files and pictures.
    citation : str, optional
        BibTeX of where the problem comes from.
    shape : int or sequence of int, optional
        A mesh that gives a useful answer within seconds.
    network : Network, optional
        What the neurons compute, for predictions and pictures. Default: that of the energy, if it has one: of its
        `TwoLayerNetwork`, or of its `Features` with inputs.
    exact : mapping, optional
        Closed forms: names to numbers, or to functions of time.
    parameters : mapping, optional
        The constructor's arguments when the problem comes from `mfpde.problems`, so that files can name it.
    balance : str, optional
        With species, over what the reaction keeps the mass and ``Vbar`` is the mean: ``"each"`` species, the default,
        or ``"all"`` of them.

    Raises
    ------
    ValueError
        If the box loses more than 1e-3 of the initial measure, a rate is negative or not finite, or
        the reaction is not defined for the given options.

    Warns
    -----
    TruncationWarning
        If the box loses more than 1e-8 of the initial measure.
    """

    energy: Energy
    axes: Sequence[Axis]
    initial: Measure
    alpha: Any = 0.0
    temperature: Any = 0.0
    t_end: float = 1.0
    reaction: Any = Reaction.BALANCED
    rate: Callable[[Array], Array] | None = None
    reinjection: Reinjection | None = None
    schedule: Any = 1.0
    metric: Sequence[Any] | None = None
    base: Callable[..., Array] | None = None
    name: str = "problem"
    citation: str = ""
    shape: Sequence[int] | int | None = None
    network: Network | None = None
    exact: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] | None = None
    terms: Sequence[Term] = ()
    balance: str = "each"

    def __post_init__(self) -> None:
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        if not isinstance(self.energy, Energy):
            raise ValueError(f"energy must be an Energy, not {type(self.energy).__name__}; see mfpde.energy")
        if not isinstance(self.initial, Measure):
            raise ValueError(f"initial must be a Measure such as mfpde.Product, not {type(self.initial).__name__}")
        axes = (self.axes,) if isinstance(self.axes, Axis) else entries(self.axes, "the axes of a problem")
        Grid(axes, 4)  # checks number and names
        species_axis(axes)
        set_("axes", axes)
        for term in self.energy.terms:
            axis_positions(term.named_axes, axes, f"{type(term).__name__} in the energy")
        for name in ("alpha", "temperature", "schedule"):
            try:
                set_(name, as_schedule(getattr(self, name)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from None
        if not (real(self.t_end) and self.t_end > 0):
            raise ValueError(f"t_end must be a finite positive time, not {shown(self.t_end)}")
        set_("t_end", float(self.t_end))
        set_("reaction", member(Reaction, self.reaction, "reaction"))
        if self.metric is not None:
            set_("metric", as_metric(self.metric, axes))
        set_("terms", _as_terms(self.terms))
        self._check_kinds()
        self._check_reaction()
        if self.shape is not None:
            set_("shape", Grid(axes, self.shape).shape)
        vars(self)["_derived"] = self.network is None
        if self.network is None:
            set_("network", own_network(self.energy, axes))
        self._check_lost_mass(stacklevel=4)

    def _check_kinds(self) -> None:
        """Refuse arguments that are not of their kind."""
        if self.base is not None and not callable(self.base):
            raise ValueError(
                f"base must be a function omega(*coordinates) > 0, not {shown(self.base)}; leave it out for 1"
            )
        expected: dict[str, tuple[tuple[type, ...], str]] = {
            "name": ((str,), "text"),
            "citation": ((str,), "text"),
            "exact": ((Mapping,), "a mapping"),
            "parameters": ((Mapping, type(None)), "a mapping or None"),
            "network": ((Network, type(None)), "a Network or None"),
            "reinjection": ((Reinjection, type(None)), "a Reinjection or None"),
        }
        for name, (types, what) in expected.items():
            if not isinstance(value := getattr(self, name), types):
                raise ValueError(f"{name} must be {what}, not {shown(value)}")
        function(self.rate, "rate", optional=True)

    def _check_reaction(self) -> None:
        """Refuse a rate or a reinjection that the reaction does not have."""
        if self.rate is not None:
            _check_increasing(self.rate)
            if self.reaction is Reaction.FREE_ENERGY:
                raise ValueError("the free-energy reaction has no general rate; drop rate, or take reaction='balanced'")
        if self.balance not in ("each", "all"):
            raise ValueError(f"balance is 'each' species or 'all' of them, not {shown(self.balance)}")
        if self.one_by_one is not None:
            species = self.one_by_one[1]
            if self.reinjection is not None:
                raise ValueError("reinjection is for all species together; give balance='all' and no scales")
            if self.reacts and self.balance == "all" and self.reaction is not Reaction.UNBALANCED:
                raise ValueError(f"scales of {species!r} do not keep the mass of all species; leave balance='each'")
        if self.reinjection is not None:
            if self.reaction is not Reaction.BALANCED:
                raise ValueError(f"reinjection replaces the {self.reaction.value} reaction; leave reaction='balanced'")
            if self.rate is not None:
                raise ValueError("reinjection and a general rate cannot be combined; drop one of them")

    def _check_lost_mass(self, stacklevel: int) -> None:
        """Refuse a box that loses much of the initial measure, warn of one that loses a little."""
        lost, where = self.mu_0.lost_mass, box(self.axes)
        if lost > LOST_MASS_REFUSE:
            raise ValueError(
                f"the box {where} loses {lost:.3g} of the initial measure "
                f"(limit {LOST_MASS_REFUSE:g}); enlarge the axes"
            )
        if lost > LOST_MASS_WARN:
            warn(
                f"the box {where} loses {lost:.3g} of the initial measure; "
                "what is left is normalised. Enlarge the axes if that matters.",
                stacklevel=stacklevel + 1,
                category=TruncationWarning,
            )

    @cached_property
    def mu_0(self) -> RestrictedMeasure:
        """The initial measure restricted to the box and normalised."""
        return self.initial.restrict(tuple(self.axes))

    def log_base(self, *coordinates: Array) -> Array | None:
        """``log omega`` at coordinates that broadcast, or None where the base measure is Lebesgue's.

        Raises
        ------
        ValueError
            If the base measure is not positive and finite there.
        """
        if self.base is None:
            return None
        omega = values_at(self.base, tuple(map(np.asarray, coordinates)), "base")
        fine = np.isfinite(omega) & (omega > 0)
        if not fine.all():
            where = first_place(self.axes, coordinates, omega, fine)
            raise ValueError(f"base is {where}; it must be positive and finite in the box")
        return np.log(omega)

    @cached_property
    def species(self) -> tuple[int, Species] | None:
        """The axis of species and its position; None where there is one measure."""
        return species_axis(self.axes)

    @property
    def apart(self) -> tuple[int, Species] | None:
        """The same where each of them keeps its mass."""
        return self.species if self.balance == "each" and self.reaction is not Reaction.UNBALANCED else None

    @property
    def one_by_one(self) -> tuple[int, Species] | None:
        """The same where they react one by one: each keeps its mass, or they have time scales."""
        return self.species if self.species is not None and self.species[1].scaled else self.apart

    @cached_property
    def rates(self) -> tuple[Any, ...] | None:
        """`metric` with what species add: 0 along their axis, elsewhere the factors of their time scales."""
        return rates_of(self.metric, self.species, len(self.axes))

    def mobility(self, i: int, *coordinates: Array) -> Array | float:
        """``g_i``, the entry of axis `i` in `metric`, at coordinates that broadcast: a number where it is constant.

        Raises
        ------
        ValueError
            If a function is negative or not finite there.
        """
        g = None if self.rates is None else self.rates[i]
        if not callable(g):
            return 1.0 if g is None else float(g)
        rate = values_of(g, *coordinates)
        fine = np.isfinite(rate) & (rate >= 0.0)
        if np.count_nonzero(fine) < fine.size:
            name = f"the metric of axis {self.axes[i].name!r}"
            where = first_place(self.axes, coordinates, on_shape(rate, np.broadcast(*coordinates).shape, name), fine)
            raise ValueError(f"{name} is {where}; it must be finite and not negative in the box")
        return rate

    @cached_property
    def bound_energy(self) -> BoundEnergy:
        """The energy bound to the box; its factorisations are computed once and shared."""
        with one_blas_thread():  # threads wait for each other longer than factorisations of this size take
            return self.energy.bind(tuple(self.axes))

    @property
    def noiseless(self) -> bool:
        """Whether the temperature is 0 at all times."""
        return isinstance(self.temperature, Constant) and self.temperature(0.0) == 0.0

    @property
    def reacts(self) -> bool:
        """Whether there is any birth and death at all."""
        return not (isinstance(self.alpha, Constant) and self.alpha(0.0) == 0.0)

    @property
    def caveat(self) -> str:
        """What the equation does not do though one might think so; empty where nothing is to be said."""
        descends = self.reaction is Reaction.FREE_ENERGY or not self.reacts or self.noiseless
        return "" if descends else "birth-death on V does not minimise the free energy; reaction='free-energy' does"

    def output(self, x: Array, coordinates: Sequence[Array], weights: Array) -> Array:
        """What the network whose neurons have these parameters and masses gives for inputs; see `Network.output`.

        Raises
        ------
        ValueError
            If the problem names no network.
        """
        if self.network is None:
            raise ValueError(f"problem {self.name!r} names no network; give Problem(network=Network(unit))")
        return self.network.output(x, coordinates, weights)

    def refuse_terms(self, what: str) -> None:
        """Raise a `ValueError` where the problem has terms of its own, which `what` cannot carry."""
        if self.terms:
            names = ", ".join(map(repr, self.terms))
            raise ValueError(f"terms of the problem's own ({names}) act on a mesh only, not on {what}; use mfpde.solve")

    def grid(self, shape: Sequence[int] | int | None = None) -> Grid:
        """A mesh on the box: `shape`, or the one the problem suggests.

        Raises
        ------
        ValueError
            If no shape is given and the problem suggests none.
        """
        if shape is None:
            if self.shape is None:
                raise ValueError(
                    f"problem {self.name!r} suggests no mesh; pass shape=, one entry for each axis or a number for all"
                )
            shape = self.shape
        return Grid(tuple(self.axes), shape)  # type: ignore[arg-type]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As what a constructor has made, where one has, else by its fields."""
        if (made := vars(self).get(RECIPE)) is None:
            return super().__reduce_ex__(protocol)
        module, name, arguments, named = made
        return made_by, (
            module,
            name,
            packed(arguments, f"an argument of {name}"),
            packed(named, f"an argument of {name}"),
        )

    def replace(self, **changes: Any) -> Problem:
        """The problem with some fields changed.

        Closed forms (`exact`) and the constructor's `parameters` are those of the problem as it was: they stay where
        only `t_end`, `name`, `citation`, `shape` or themselves change, and are left out otherwise. A network that is
        that of the energy becomes that of the new one.

        Parameters
        ----------
        **changes
            Fields by name.

        Returns
        -------
        Problem

        Raises
        ------
        ValueError
            For a name that is no field, and for what `Problem` refuses.

        Examples
        --------
        >>> import mfpde as mf
        >>> mf.problems.gaussian_bumps().replace(alpha=2.0, t_end=3.0).alpha(0.0)
        2.0
        """
        valid = [field.name for field in dataclasses.fields(self)]
        if unknown := [name for name in changes if name not in valid]:
            raise ValueError(f"a problem has no {unknown[0]!r}; it has {', '.join(valid)}")
        return replaced(self, changes)

    def fingerprint(self) -> str:
        """A hash of what the problem does: values of its energy, initial measure and rates at fixed points.

        Two problems built from different code that compute the same numbers have the same
        fingerprint; it identifies problems made of callables, which no file can hold.

        An energy that has values on a mesh only, and none at points, is known by its energy and potential of three
        densities on a mesh of 8 cells along each axis, or if it has none there on the mesh that the problem suggests;
        one that has neither, by the name of its class.
        """
        return self._fingerprint

    @cached_property
    def energy_values(self) -> list[Array]:
        """Values by which an energy is known: of 16 points, or of some densities on a mesh where it has no points.

        Empty where it has values on no mesh that is tried, see `fingerprint`.
        """
        bound = self.bound_energy
        if has_points(bound):
            points, weights = self._probes(), np.full(16, 1 / 16)
            u = bound.response(points, weights)
            return [np.array(bound.energy(points, weights)), bound.potential(points, u)]
        shapes: list[Any] = [8, *([] if self.shape is None else [self.shape])]
        plans = (plan_on(bound, self.grid(shape)) for shape in shapes)
        plan = next((plan for plan in plans if plan is not None), None)
        if plan is None:
            return []
        grid, rng, found = plan.grid, np.random.default_rng(0), []
        for _ in range(3):
            mu = rng.random(grid.shape)
            V, energy, _ = plan.evaluate(mu / (mu.sum() * grid.cell_volume))
            found += [np.array(energy), np.ravel(V)[:: -(-grid.size // 64)].copy()]
        return found

    def _probes(self) -> Array:
        """16 points of the box, the same in every run."""
        unit = np.random.default_rng(0).random((16, len(self.axes)))
        return np.stack([axis.at(unit[:, i]) for i, axis in enumerate(self.axes)], axis=1)

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()

        def add(values: Any) -> None:
            # eight digits: equal across machines, different for different problems
            digest.update(" ".join(f"{v:.8e}" for v in np.ravel(np.asarray(values, dtype=float))).encode())

        digest.update("|".join(f"{a!r}" for a in self.axes).encode())
        digest.update(f"|{self.reaction.value}|{None if self.reinjection is None else self.reinjection.kind}".encode())
        points = self._probes()
        for values in self.energy_values:
            add(values)
        if not self.energy_values:
            # files of earlier versions have the names from before the package was in wings
            home = type(self.energy).__module__.replace("mfpde.equation.", "mfpde.")
            digest.update(f"|{home}.{type(self.energy).__qualname__}".encode())
        add(self.mu_0.cells(Grid(tuple(self.axes), 8)))
        times = np.array([0.1, 0.3, 0.7, 1.0]) * self.t_end
        for schedule in (self.alpha, self.temperature, self.schedule):
            add([schedule(t) for t in times])
        if self.rate is not None:
            add(self.rate(np.linspace(-1, 1, 9)))
        for i in range(len(self.rates or ())):
            add(self.mobility(i, *points.T))
        if self.balance != "each":
            digest.update(f"|{self.balance}".encode())
        if self.base is not None:
            add(self.log_base(*points.T))
        small = Grid(tuple(self.axes), 8)
        if self.reinjection is not None:
            add(self.reinjection.measure.restrict(tuple(self.axes)).cells(small))
        if self.terms:
            V, mu = np.random.default_rng(0).standard_normal(small.shape), self.mu_0.cells(small)
            at = Frozen(small, V, 1.0, lambda measure: measure.restrict(tuple(self.axes)).cells(small))
            for term in self.terms:
                add(term.rate(mu, at))
        return digest.hexdigest()

    def __repr__(self) -> str:
        lines = [f"Problem {self.name!r}"]
        lines += [f"  {axis!r}" for axis in self.axes]
        lines.append(f"  energy       {self.energy!r}")
        reaction = f"reinjection ({self.reinjection.kind.value})" if self.reinjection else self.reaction.value
        if self.apart is not None and self.reacts:
            reaction += " for each species"
        lines.append(f"  dynamics     alpha {_show(self.alpha)}, {reaction}, temperature {_show(self.temperature)}")
        if self.terms:
            lines.append(f"  terms        {', '.join(map(repr, self.terms))}")
        if self.caveat:
            lines.append(f"  note         {self.caveat}")
        if self.metric is not None:
            lines.append(f"  metric       {self.metric!r}")
        if self.base is not None:
            lines.append(f"  base         {getattr(self.base, '__name__', repr(self.base))}")
        if not (isinstance(self.schedule, Constant) and self.schedule(0.0) == 1.0):
            lines.append(f"  schedule     {_show(self.schedule)}")
        lines.append(f"  t_end        {self.t_end:g}")
        return "\n".join(lines)


def _as_terms(terms: Sequence[Term]) -> tuple[Term, ...]:
    """The terms of a problem's own."""
    found = (terms,) if isinstance(terms, Term) else entries(terms, "the terms of a problem")
    for term in found:
        if not isinstance(term, Term):
            raise ValueError(f"terms must be Term objects, not {shown(term)}; see mfpde.Term")
    return found


SAME = frozenset(["t_end", "name", "citation", "shape", "network", "exact", "parameters"])
"""Fields that closed forms and the arguments of a constructor do not depend on."""


def replaced(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    """See `Problem.replace`; the result remembers how it was made."""
    given = dict(changes)
    if not set(changes) <= SAME:
        given = {"exact": {}, "parameters": None} | given
    if vars(problem)["_derived"] and set(changes) & {"energy", "axes"}:
        given.setdefault("network", None)
    made = dataclasses.replace(problem, **given)
    if RECIPE in vars(problem):
        remember(made, __name__, "replaced", (problem, changes), {})
    return made


def own_network(energy: Energy, axes: Sequence[Axis]) -> Network | None:
    """The network that an energy trains, with its parameters in the order of the axes."""
    units = [term for term in energy.terms if isinstance(term, Features) and term.inputs is not None]
    names = [axis.name for axis in axes]
    networks = [term for term in energy.terms if isinstance(term, TwoLayerNetwork) and set(term.axes) <= set(names)]
    if not networks:
        return Network(units[0].function, None, units[0].inputs) if units else None
    term = networks[0]
    order = [names.index(name) for name in term.axes]
    inputs = term.x[:, 0] if term.x.shape[1] == 1 else term.x
    return Network(_Unit(term, tuple(order)), None, inputs)


@dataclass(frozen=True)
class _Unit:
    """The unit of a network with the coordinates of a problem, in whose order its own stand at `order`."""

    network: TwoLayerNetwork
    order: tuple[int, ...]

    def __call__(self, x: Array, *coordinates: Array) -> Array:
        return self.network.unit(x, *(coordinates[i] for i in self.order))


def _show(schedule: Schedule) -> str:
    return f"{schedule(0.0):g}" if isinstance(schedule, Constant) else repr(schedule)


def _check_increasing(rate: Callable[[Array], Array]) -> None:
    probe = np.concatenate([-np.logspace(2, -3, 40), [0.0], np.logspace(-3, 2, 40)])
    values = values_of(rate, probe)
    if values.shape != probe.shape or not np.all(np.isfinite(values)):
        raise ValueError("rate must map an array of V to a finite array of the same shape")
    if np.any(np.diff(values) < 0):
        at = probe[int(np.argmin(np.diff(values)))]
        raise ValueError(f"rate must be increasing, or birth-death raises the energy; it decreases near V = {at:g}")
