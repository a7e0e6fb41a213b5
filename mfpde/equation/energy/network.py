"""Two-layer networks on data: units, their compression to numerical rank, and the energy of the data's loss."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfpde.equation.energy.activations import Activation, activation_named
from mfpde.equation.energy.base import BoundEnergy, Capability, Energy, Last, Source, axis_positions, in_chunks
from mfpde.equation.energy.features import (
    FeaturesOnGrid,
    LossForm,
    QuadraticForm,
    ResponseForm,
    check_loss,
    check_memory,
)
from mfpde.equation.energy.gradients import check_derivative, probe_points
from mfpde.equation.energy.losses import Loss, LossFactory, SquaredLoss, check_size, loss_named
from mfpde.equation.energy.on_grid import GridEnergy
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.support.arguments import entries, floats, numbers, real, shown
from mfpde.support.arrays import Array
from mfpde.support.memory import Memory

__all__ = ["BoundNetwork", "NetworkStructure", "Role", "Skeleton", "TwoLayerNetwork"]

BLOCK = 2**20
"""Outputs of units that are made at once on a mesh, 8 MB."""
UNIT_ARRAYS = 4
"""Arrays like a block of them that an activation takes, its arguments included."""


class Role(enum.Enum):
    """What a parameter is to its unit ``c sigma(a.x + b)``."""

    AMPLITUDE = "amplitude"
    """c, one an output."""
    WEIGHT = "weight"
    """a, one an input."""
    BIAS = "bias"
    """b, at most one."""


@dataclass(frozen=True, eq=False)
class TwoLayerNetwork(Energy):
    """The loss of a wide two-layer network on data.

    The network is ``u(x) = int c sigma(a.x + b) dmu(c, a, b)``, the energy ``E[mu] = L(u(x_1), ..., u(x_M))``, with
    ``L = 1/2 sum_j w_j |u_j - y_j|^2`` for the squared loss, ``sum w = 1``.

    Parameters
    ----------
    x : (M,) or (M, p) array
        Inputs; one weight axis an input.
    y : (M,) or (M, q) array
        Targets, or labels -1 and 1 for the logistic loss. With q > 1 outputs there are q amplitude axes, one an
        output, in the order of `axes`; a single output may do without.
    weights : (M,) array, optional
        Sample weights >= 0, normalised to sum 1. Default: equal.
    activation : Activation or str
        `Activation` object or one of tanh, relu, sigmoid, erf, sin, gaussian, hermite<k>.
    loss : callable or str
        squared, logistic, huber, or what makes a `Loss` from (targets, weights), such as the class `HuberLoss`.
    axes : sequence of str
        The names of the axes that are parameters of the units. Axes of the box beyond these change nothing.
    roles : sequence of Role or str
        The role of each of `axes`: amplitude, weight, bias.
    tolerance : float
        The relative accuracy to which units on the box are represented by their outputs at few samples, between
        1e-15 and 1e-2; 0 switches the compression off.

    Raises
    ------
    ValueError
        On shapes that do not fit, data that is not finite, unknown names, roles that do not fit the data; on a grid:
        a feature matrix of more than 2 GiB.

    Notes
    -----
    **Compression.** On a bounded box, smooth units of any number of samples span few dimensions: the outputs at all
    samples are linear in those at r chosen ones, ``u = T' u_J`` to the tolerance (an interpolative decomposition).
    These r outputs are the response. A squared loss is then exactly ``1/2 |R u_J - q|^2 + const``; every other loss
    sees all ``T' u_J``, 2 M r flops more an evaluation. It is left out where r > M / 2.

    **Good values.** tanh, erf, sin, gaussian with |a| |x| up to 10: r of 20 to 100 at 1e-12. relu is not smooth: r is
    about the number of distinct samples, so a relu network on more than some thousand samples needs a tolerance of
    1e-4 or so. Standardise the data.

    Examples
    --------
    >>> from mfpde.equation.grid import Axis
    >>> x = np.linspace(-1, 1, 100)
    >>> net = TwoLayerNetwork(x, np.sin(3 * x), activation="tanh")
    >>> bound = net.bind([Axis("c", -2, 2), Axis("a", -2, 2), Axis("b", -2, 2)])
    >>> bound.response_size < 40
    True
    """

    x: Array
    y: Array
    weights: Array | None = None
    activation: Activation | str = "tanh"
    loss: LossFactory | str = "squared"
    axes: tuple[str, ...] = ("c", "a", "b")
    roles: tuple[Role | str, ...] = (Role.AMPLITUDE, Role.WEIGHT, Role.BIAS)
    tolerance: float = 1e-12

    def __post_init__(self) -> None:
        x, y = numbers(self.x, "data: x"), numbers(self.y, "data: y")
        if x.ndim not in (1, 2) or y.ndim not in (1, 2) or len(x) != len(y) or not x.size or not y.size:
            raise ValueError(f"data must be x (M,) or (M, p) and y (M,) or (M, q), not {x.shape} and {y.shape}")
        for name, data in (("x", x), ("y", y)):
            if not np.all(np.isfinite(data)):
                rows = np.flatnonzero(~np.isfinite(data).reshape(len(data), -1).all(axis=1))
                raise ValueError(f"data: {name} is not finite in {rows.size} rows, the first is {rows[0]}; remove them")
            check_size(f"data: the values of {name}", data)
        x = x.reshape(len(x), -1)
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        weights = np.ones(len(x)) if self.weights is None else numbers(self.weights, "the sample weights")
        if weights.shape != (len(x),) or not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights):
            raise ValueError(f"sample weights must be {len(x)} finite numbers >= 0, not all zero")
        check_size("the sample weights", weights)
        weights = weights / weights.sum()
        names = (self.axes,) if isinstance(self.axes, str) else entries(self.axes, "the axes of a network")
        kinds = (self.roles,) if isinstance(self.roles, (str, Role)) else entries(self.roles, "the roles of a network")
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"the axes of a network are given by their names, not {shown(names)}")
        if len(names) != len(kinds) or len(set(names)) != len(names):
            both = f"{shown(names)}, {shown(kinds)}"
            raise ValueError(f"the network needs one role for each of its differing axes: {both}")
        try:
            roles = tuple(Role(role) for role in kinds)
        except ValueError as error:
            valid = ", ".join(role.value for role in Role)
            raise ValueError(f"roles of the axes must be among {valid}, not {kinds}") from error
        p, q = x.shape[1], 1 if y.ndim == 1 else y.shape[1]
        amplitudes, inputs = roles.count(Role.AMPLITUDE), roles.count(Role.WEIGHT)
        if inputs != p:
            raise ValueError(f"the data has {p} inputs, the roles {inputs} weight axes; give one weight axis an input")
        if amplitudes != q and not (q == 1 and amplitudes == 0):
            raise ValueError(f"the data has {q} outputs, the roles {amplitudes} amplitude axes; give one an output")
        if roles.count(Role.BIAS) > 1:
            raise ValueError("a unit has at most one bias axis")
        if not real(self.tolerance) or (self.tolerance != 0 and not 1e-15 <= self.tolerance <= 1e-2):
            raise ValueError(f"the tolerance must be 0 or lie between 1e-15 and 1e-2, not {shown(self.tolerance)}")
        for array in (x, y, weights):
            array.flags.writeable = False
        factory = loss_named(self.loss)
        factory(y, weights)  # refuses what does not fit, now
        for name, value in (
            ("x", x),
            ("y", y),
            ("weights", weights),
            ("axes", names),
            ("roles", roles),
            ("loss", factory),
            ("activation", activation_named(self.activation)),
        ):
            object.__setattr__(self, name, value)

    @property
    def convex(self) -> bool | None:
        """Whether the loss is."""
        assert callable(self.loss)
        assert self.weights is not None
        return self.loss(self.y, self.weights).convex

    @property
    def outputs(self) -> int:
        """The number q of outputs."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    def names(self, role: Role) -> tuple[str, ...]:
        """The names of the axes of a role."""
        return tuple(name for name, r in zip(self.axes, self.roles, strict=True) if r is role)

    def unit(self, x: Array, *coordinates: Array) -> Array:
        """``phi(x; theta) = c sigma(a.x + b)``.

        Parameters
        ----------
        x : (m,) or (m, p) array
            Inputs.
        *coordinates : arrays
            The parameters, in the order of `axes`; they broadcast together, to shape (...).

        Returns
        -------
        (m, ...) array, or (m, ..., q) with q > 1 outputs.
        """
        if len(coordinates) != len(self.axes):
            raise ValueError(f"the unit has {len(self.axes)} parameters {self.axes}, not {len(coordinates)}")
        theta = np.broadcast_arrays(*(floats(c, "the parameters of a unit") for c in coordinates))
        x = self._inputs(x)
        by_role = {role: [t for t, r in zip(theta, self.roles, strict=True) if r is role] for role in Role}
        z = np.stack([t.ravel() for t in by_role[Role.WEIGHT] + by_role[Role.BIAS]])
        assert isinstance(self.activation, Activation)
        values = self.activation(arguments(x, z)).reshape(len(x), *theta[0].shape)
        c = by_role[Role.AMPLITUDE]
        if not c:
            return values
        return values * c[0] if len(c) == 1 else np.stack([values * ci for ci in c], axis=-1)

    @property
    def named_axes(self) -> tuple[str, ...]:
        """The axes that it names: a box has to have them."""
        return tuple(self.axes)

    def bind(self, axes: Sequence[Axis]) -> BoundNetwork:
        """The network on a box: units compressed to their numerical rank there."""
        return BoundNetwork(self, as_axes(axes))

    def _inputs(self, x: Array) -> Array:
        x = floats(x, "inputs")
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.x.shape[1]:
            raise ValueError(f"inputs must have shape (m, {self.x.shape[1]}), not {x.shape}")
        return x

    def __repr__(self) -> str:
        roles = ", ".join(f"{n}={r.value}" for n, r in zip(self.axes, self.roles, strict=True))  # type: ignore[union-attr]
        name = getattr(self.loss, "__name__", "loss")
        return f"TwoLayerNetwork({len(self.x)} samples, {self.activation!r}, {name}, {roles})"


def arguments(x: Array, z: Array) -> Array:
    """``a.x + b`` for inputs (m, p) and inner parameters (p,) or (p + 1, n), the bias last: shape ``(m, n)``."""
    p = x.shape[1]
    # a product of inner dimension one is much faster as an outer product
    t = x * z[:1] if p == 1 else x @ z[:p]
    if len(z) > p:
        t += z[p]
    return t


class Skeleton:
    """Few samples whose outputs determine those of all samples, for every unit of a box.

    With units at probe positions z as rows and samples as columns, Phi, the chosen columns J come from a pivoted QR of
    a sketch of Phi, and Phi ~ Phi[:, J] T. T is solved from few rows I, picked in the same way, so that it can be
    found for any sample, new ones included, without forming Phi.

    Parameters
    ----------
    x : array, shape (M, p)
    activation : Activation
    box : sequence of Axis
        Of the weights, and of the bias, if there is one.
    tolerance : float
        Relative to the largest output.
    most : int, optional
        With more samples it does not pay, and there are none. Default: half of all.
    worth : callable, optional
        By what the outputs of a unit count, from positions (n, d). Default: all the same.

    Attributes
    ----------
    samples : (r,) array of int
        J.
    error : float
        The largest error of a unit's output over all samples and check positions, relative to the largest output.
    """

    CANDIDATES = 4096
    CHECKS = 48

    def __init__(
        self, x: Array, activation: Activation, box: Sequence[Axis], tolerance: float, most: int | None = None,
        worth: Callable[[Array], Array] | None = None,
    ) -> None:  # fmt: skip
        from scipy.linalg import qr

        most = len(x) // 2 if most is None else most
        self._activation, self._worth = activation, worth
        n = min(max(4 * len(x), 600), 2500)
        probes = np.concatenate([chebyshev_points(box, (3 * n) // 5), probe_points(box, (2 * n) // 5)])
        checks = probe_points(box, 1000 + self.CHECKS)[1000:]
        candidates = spread_samples(x, self.CANDIDATES)
        self.samples, self.error = np.empty(0, dtype=int), np.inf
        best: tuple[float, NDArray[np.intp], Array, Array, Array] | None = None
        cut = 0.1 * tolerance
        for _ in range(4):
            pivots, scale = self._pivots(x[candidates], probes, cut, most)
            rank = len(pivots)
            if rank == 0:
                break
            samples = candidates[pivots]
            columns = self._units(probes, x[samples])
            rows = qr(columns.T, mode="r", pivoting=True, check_finite=False)[1]
            # some more rows than columns: a least-squares fit
            chosen = rows[: rank + max(8, rank // 4)]
            Q, R = np.linalg.qr(columns[chosen])
            self._solve, self._positions, self.samples = (Q, R), probes[chosen], samples
            worst = self._errors(x, checks)
            error = float(worst.max()) / scale
            if best is None or error < best[0]:
                best = (error, samples, Q, R, probes[chosen])
            if error <= 10 * tolerance:
                break
            more = np.unique(np.concatenate([candidates, np.argsort(-worst, kind="stable")[:256]]))
            if len(more) == len(candidates):  # nothing to add: go deeper
                cut *= 0.1
            candidates = more
        if best is not None:
            self.error, self.samples, self._positions = best[0], best[1], best[4]
            self._solve = (best[2], best[3])

    def _units(self, z: Array, x: Array) -> Array:
        units = self._activation(arguments(x, z.T).T)
        return units if self._worth is None else self._worth(z)[:, None] * units

    def _pivots(self, x: Array, probes: Array, cut: float, limit: int) -> tuple[NDArray[np.intp], float]:
        """The samples picked by a pivoted QR of a sketch of Phi, none if there are more than `limit`; the largest unit.

        The rows of the sketch are random combinations of those of Phi: as many as its numerical rank needs.
        """
        from scipy.linalg import qr

        rows = 192
        while True:
            rng = np.random.default_rng(20190521)
            full = rows >= min(len(probes), len(x))
            mix = None if full else rng.standard_normal((rows, len(probes))) / np.sqrt(len(probes))
            pieces, scale = [], 0.0
            for chunk in in_chunks(len(x), len(probes), 2**20):
                units = self._units(probes, x[chunk])
                scale = max(scale, float(np.max(np.abs(units))))
                pieces.append(units if mix is None else mix @ units)
            R, pivots = qr(np.concatenate(pieces, axis=1), mode="r", pivoting=True, check_finite=False)
            diagonal = np.abs(np.diagonal(R))
            rank = int(np.count_nonzero(diagonal > cut * diagonal[0]))
            if rank > limit:  # does not pay
                return pivots[:0], scale
            if full or rank <= 0.8 * rows:
                return pivots[:rank], scale
            if rows >= 768:
                return pivots[:0], scale
            rows *= 2

    def interpolation(self, x: Array) -> Array:
        """T for the inputs x (m, p): shape ``(r, m)``; outputs at x are ``T' u_J``."""
        from scipy.linalg import solve_triangular

        Q, R = self._solve
        # the right-hand sides as columns in Fortran order: solved in place
        right = (self._units(self._positions, x).T @ Q).T
        return np.asarray(solve_triangular(R, right, overwrite_b=True, check_finite=False))

    def chunks(self, n: int) -> Iterator[slice]:
        """Pieces of the samples that keep memory small."""
        yield from in_chunks(n, 3 * len(self.samples), 2**22)

    def _errors(self, x: Array, checks: Array) -> Array:
        at_samples = self._units(checks, x[self.samples])
        errors = np.empty(len(x))
        for chunk in self.chunks(len(x)):
            error = self._units(checks, x[chunk]) - at_samples @ self.interpolation(x[chunk])
            errors[chunk] = np.max(np.abs(error), axis=0)
        return errors


def spread_samples(x: Array, n: int) -> NDArray[np.intp]:
    """About n samples (all, if there are no more), even in rank and in value along every input, extremes included."""
    total, p = x.shape
    if total <= n:
        return np.arange(total)
    chosen = []
    for column in x.T:
        order = np.argsort(column, kind="stable")
        by_rank = np.linspace(0, total - 1, n // (2 * p)).astype(int)
        values = np.linspace(column[order[0]], column[order[-1]], n // (2 * p))
        by_value = np.minimum(np.searchsorted(column[order], values), total - 1)
        chosen += [order[by_rank], order[by_value]]
    return np.unique(np.concatenate(chosen))


def chebyshev_points(box: Sequence[Axis], n: int) -> Array:
    """About n points of a box, a product of Chebyshev points, ends included."""
    m = max(3, int(n ** (1 / len(box))))
    unit = np.sin(0.5 * np.pi * np.arange(1 - m, m, 2) / (m - 1))
    lines = [0.5 * (axis.lower + axis.upper) + 0.5 * axis.length * unit for axis in box]
    return np.stack([c.ravel() for c in np.meshgrid(*lines, indexing="ij")], axis=1)


class NetworkStructure(NamedTuple):
    """What a network on a box is made of: units at few inputs, and a loss of what these determine.

    Attributes
    ----------
    inputs : array, shape (r, p)
    activation : Activation
    inner : tuple of int
        The axes of the weights, and behind them that of the bias, if there is one.
    amplitudes : tuple of int
        The axes of the amplitudes, one an output; none where the units have none.
    loss : Loss
        Of outputs (M,) or (M, q); the energy has a constant besides.
    matrix : array, shape (M, r), optional
        What makes these of the outputs at the inputs; None where they are the same.
    """

    inputs: Array
    activation: Activation
    inner: tuple[int, ...]
    amplitudes: tuple[int, ...]
    loss: Loss
    matrix: Array | None


class BoundNetwork(BoundEnergy):
    """A network on a box; see `BoundEnergy`. The response is the outputs at the samples chosen, row by row.

    Attributes
    ----------
    network : TwoLayerNetwork
        What is bound.
    samples : (r,) array of int
        The samples whose outputs are the response.
    compression_error : float
        The largest error of a unit's output over all samples, relative to the largest output; 0 without compression.
    """

    def __init__(self, network: TwoLayerNetwork, axes: tuple[Axis, ...]) -> None:
        self.axes, self.network = axes, network
        assert isinstance(network.activation, Activation)
        self._activation = network.activation
        self.discontinuous_gradient = network.activation.discontinuous_derivative
        what = "the network"
        self._amplitudes = axis_positions(network.names(Role.AMPLITUDE), axes, what)
        self._inner = axis_positions(network.names(Role.WEIGHT) + network.names(Role.BIAS), axes, what)
        x, y, weights = network.x, network.y, network.weights
        assert weights is not None
        assert callable(network.loss)
        loss = network.loss(y, weights)
        self._check_activation(x)
        n = len(x)
        self._skeleton: Skeleton | None = None
        self.samples, self.compression_error = np.arange(n), 0.0
        if network.tolerance and n > 8:
            skeleton = Skeleton(x, self._activation, [axes[i] for i in self._inner], network.tolerance)
            if skeleton.error <= 100 * network.tolerance and len(skeleton.samples) <= n / 2:
                self._skeleton, self.samples = skeleton, skeleton.samples
                self.compression_error = skeleton.error
        self._form: ResponseForm = LossForm(loss)
        if self._skeleton is not None:
            if type(loss) is SquaredLoss:
                self._form = self._compressed_squares(self._skeleton)
            else:
                pieces = [self._skeleton.interpolation(x[chunk]) for chunk in self._skeleton.chunks(n)]
                self._form = LossForm(loss, np.ascontiguousarray(np.concatenate(pieces, axis=1).T))
        self._x = np.ascontiguousarray(x[self.samples])
        self._last_units = Last(self._new_units)
        self.response_size = len(self.samples) * network.outputs
        self.quadratic = self._form.quadratic
        self.convex = check_loss(loss, self._probed_outputs) or None

    def _check_activation(self, x: Array) -> None:
        """Hold the activation's derivative against differences over the arguments that the box and the data give."""
        if self._activation.derivative is None:
            return
        box = [self.axes[i] for i in self._inner]
        t = arguments(x[spread_samples(x, 256)], probe_points(box, 64).T)
        if (low := float(t.min())) < (high := float(t.max())):
            check_derivative(repr(self._activation), self._activation, self._activation.slope, Axis("t", low, high))

    def _probed_outputs(self, points: int) -> Array:
        """The outputs of single units at all data, (points, M) or (points, M, q)."""
        theta = [probe_points(self.axes, points)[:, i] for i in axis_positions(self.network.axes, self.axes, "")]
        return np.moveaxis(self.network.unit(self.network.x, *theta), 1, 0)

    def _compressed_squares(self, skeleton: Skeleton) -> QuadraticForm:
        # the R factor of [sqrt(W) T', sqrt(W) y], one piece of the data after the other
        x, y, weights = self.network.x, self.network.y, self.network.weights
        assert weights is not None
        r, q = len(skeleton.samples), self.network.outputs
        R = np.zeros((0, r + q))
        for chunk in skeleton.chunks(len(x)):
            rows = np.column_stack([skeleton.interpolation(x[chunk]).T, y[chunk]])
            rows *= np.sqrt(weights[chunk])[:, None]
            R = np.asarray(np.linalg.qr(np.concatenate([R, rows]), mode="r"))
        target, rest = R[:r, r:], R[r:, r:]
        return QuadraticForm(R[:r, :r], target[:, 0] if y.ndim == 1 else target, 0.5 * float(np.sum(rest * rest)))

    @property
    def outcome(self) -> tuple[Loss, Array | None] | None:
        """The loss of its outputs at all data; of several outputs there is no such matrix."""
        return self._form.outcome if self.network.outputs == 1 else None

    @property
    def structure(self) -> NetworkStructure:
        """What it is made of."""
        return NetworkStructure(self._x, self._activation, self._inner, self._amplitudes, *self._form.outcome)

    # responses are (r,) for one output and (r, q) for several

    def _shaped(self, moments: Array) -> Array:
        q = self.network.outputs
        return moments if q == 1 else moments.reshape(-1, q)

    def _factors(self, points: Array) -> Array:
        """The amplitudes, (n, q)."""
        return points[:, list(self._amplitudes)] if self._amplitudes else np.ones((len(points), 1))

    def _arguments(self, points: Array) -> Array:
        return arguments(self._x, points[:, list(self._inner)].T)

    def _new_units(self, points: Array) -> list[Array]:
        return [self._activation(self._arguments(points))]

    def _units(self, points: Array) -> Array:
        return self._last_units(points)[0]

    def _moments(self, points: Array, weights: Array) -> Array:
        total = np.zeros((len(self._x), self.network.outputs))
        factors = self._factors(points) * weights[:, None]
        for chunk in in_chunks(len(points), len(self._x), 2**18):
            total += self._units(points[chunk]) @ factors[chunk]
        return total.reshape(-1)

    def _moments_of_each(self, points: Array, weights: Array) -> Array:
        m, n = weights.shape
        rows = points.reshape(m * n, -1)
        factors = (self._factors(rows) * weights.reshape(-1, 1)).reshape(m, n, -1)
        return np.matmul(self._new_units(rows)[0].reshape(-1, m, n).swapaxes(0, 1), factors).reshape(m, -1)

    def _features(self, points: Array) -> Array:
        values = self._units(points)[:, None, :] * self._factors(points).T
        return values.reshape(self.response_size, -1)

    def _slope(self, moments: Array) -> Array:
        slope = self._form.evaluate(self._shaped(moments))[1]
        return slope.reshape(len(self._x), -1)

    def _curvature(self, moments: Array, changes: Array) -> Array:
        if not self._form.curved:
            return super()._curvature(moments, changes)
        along = self._form.curvature(self._shaped(moments))
        columns = [along(self._shaped(change)).reshape(-1) for change in np.ascontiguousarray(changes.T)]
        return np.stack(columns, axis=1)

    @property
    def label(self) -> str:
        """What the user wrote."""
        return "TwoLayerNetwork"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything; the curvature if its loss has one."""
        return super().capabilities - (set() if self._form.curved or self.quadratic else {"curvature"})

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        slope, factors = self._slope(moments), self._factors(points)
        result = np.empty(len(points))
        for chunk in in_chunks(len(points), len(self._x), 2**18):
            result[chunk] = np.einsum("qn,nq->n", slope.T @ self._units(points[chunk]), factors[chunk])
        return result

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        slope, factors = self._slope(moments), self._factors(points)
        p, q = self._x.shape[1], slope.shape[1]
        # dV/da_k = sum_jq c_q slope_jq sigma'_j x_jk, dV/db the same without x
        outer = [slope * self._x[:, k, None] for k in range(p)] + ([slope] if len(self._inner) > p else [])
        rows = np.ascontiguousarray(np.concatenate(outer, axis=1).T)
        result = np.zeros(points.shape)
        for chunk in in_chunks(len(points), len(self._x), 2**18):
            products = (rows @ self._activation.slope(self._arguments(points[chunk]))).reshape(len(self._inner), q, -1)
            result[chunk, list(self._inner)] = np.einsum("iqn,nq->ni", products, factors[chunk])
            if self._amplitudes:
                result[chunk, list(self._amplitudes)] = (slope.T @ self._units(points[chunk])).T
        return result

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return self._form.evaluate(self._shaped(moments))[0]

    def predict(self, response: Array, x: Array) -> Array:
        """The network's output at new inputs from a response of this network alone.

        Parameters
        ----------
        response : (response_size,) array
            As `response` gives it (in a sum of energies: the slice of this part).
        x : (m,) or (m, p) array
            New inputs.

        Returns
        -------
        (m,) or (m, q) array

        Raises
        ------
        ValueError
            Where the outputs at the data do not determine those at `x` to 1000 times the tolerance, at least 1e-8
            (inputs beyond the data, or no compression): sum ``network.unit(x, ...)`` over the density instead.
        """
        x = self.network._inputs(x)
        moments = self._shaped(self._split(response)[0])
        if self._skeleton is None:
            places = {row.tobytes(): j for j, row in enumerate(self._x)}
            rows = [places.get(row.tobytes(), -1) for row in np.ascontiguousarray(x)]
            if -1 in rows:
                raise ValueError(
                    "this network is not compressed: its response holds the outputs at the data only; "
                    "sum network.unit(x, ...) over the density for other inputs"
                )
            return moments[rows]
        box = [self.axes[i] for i in self._inner]
        checks = probe_points(box, 64)
        units = self._skeleton._units(checks, x)
        T = self._skeleton.interpolation(x)
        error = np.max(np.abs(units - self._skeleton._units(checks, self._x) @ T)) / max(np.max(np.abs(units)), 1e-300)
        if error > max(1e-8, 1e3 * self.network.tolerance):
            raise ValueError(
                f"the response determines the output at these inputs only to {error:.1e} "
                "(they go beyond the data, or lie in a gap of it); "
                "sum network.unit(x, ...) over the density instead"
            )
        return T.T @ moments

    def on(self, grid: Grid) -> GridEnergy:
        """The units at the centres of a grid."""
        self._check_grid(grid)
        inner = sorted(self._inner)
        outer = tuple(i for i in range(grid.dimension) if i not in inner)
        shape = tuple(grid.shape[i] for i in inner)
        remedy = "use a coarser mesh, fewer samples, or a larger tolerance"
        check_memory(len(self._x), int(np.prod(shape)), remedy)
        mesh = np.ix_(*(grid.centres(i) for i in inner))
        z = np.stack([np.broadcast_to(mesh[inner.index(i)], shape).ravel() for i in self._inner])
        matrix = np.empty((len(self._x), z.shape[1]))
        # some samples at a time: the arguments of all would be another matrix, and so would be what an activation makes
        several = max(1, BLOCK // z.shape[1])
        for first in range(0, len(matrix), several):
            units = matrix[first : first + several]
            units[...] = self._activation(arguments(self._x[first : first + several], z))
            if not np.all(np.isfinite(units)):
                raise ValueError("some units are not finite on the grid; use a smaller box or scale the data")
        amplitudes = None
        if outer:
            cells = np.ix_(*(grid.centres(i) for i in outer))
            outer_shape = tuple(grid.shape[i] for i in outer)
            rows = [np.broadcast_to(cells[outer.index(i)], outer_shape).ravel() for i in self._amplitudes]
            amplitudes = np.stack(rows) if rows else np.ones((1, int(np.prod(outer_shape))))
        return FeaturesOnGrid(grid, matrix, self._form, amplitudes, outer, repr(self))

    def memory(self, grid: Grid) -> Memory:
        """An output for each sample that is kept and each cell of the inner axes, and the factors of the outer ones."""
        outer = tuple(i for i in range(grid.dimension) if i not in self._inner)
        samples, outputs = len(self._x), self.network.outputs
        kept = FeaturesOnGrid.memory(grid, samples, outputs, outer)
        cells = math.prod(grid.shape[i] for i in self._inner)
        # coordinates of the inner cells, and a block of samples with what its activation takes
        making = 8.0 * (2 * len(self._inner) * cells + UNIT_ARRAYS * min(samples * cells, max(BLOCK, cells)))
        return kept._replace(making=making)

    def __repr__(self) -> str:
        n = len(self.network.x)
        name = getattr(self.network.loss, "__name__", "loss")
        start = f"{self._activation.name} network, {name}, {n} samples"
        if self._skeleton is None:
            return f"{start}, not compressed"
        how = "" if isinstance(self._form, QuadraticForm) else f"; the loss needs all {n} outputs, {n} x {len(self._x)}"
        return f"{start} compressed to {len(self._x)} (error {self.compression_error:.1e}{how})"
