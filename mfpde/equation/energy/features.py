"""Energies that are a convex function of finitely many moments, ``E[mu] = L(int Phi dmu)``."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfpde.equation.energy.base import (
    FUNCTION_ARRAYS,
    MEMORY_LIMIT,
    BoundEnergy,
    Capability,
    Energy,
    Source,
    central_difference,
    difference_step,
    in_chunks,
)
from mfpde.equation.energy.gradients import check_derivative, check_gradient, probe_points
from mfpde.equation.energy.losses import LOSSES, HuberLoss, LogisticLoss, Loss, SquaredLoss, has_curvature, is_quadratic
from mfpde.equation.energy.on_grid import ByTables, GridEnergy, GridPart, Outputs, prepared_output
from mfpde.equation.finite import cell_not_finite
from mfpde.equation.formulas import Formula
from mfpde.equation.grid import Axis, Grid, as_axes
from mfpde.equation.units import FormulaUnit, Stack
from mfpde.support.arguments import floats, function, numbers, read_only, shown, values_of
from mfpde.support.arrays import Array
from mfpde.support.callables import on_shape, slopes_of
from mfpde.support.memory import Memory
from mfpde.support.threads import Turns, product

__all__ = ["Features", "FeaturesOnGrid", "LossForm", "QuadraticForm", "ResponseForm", "check_loss", "check_memory"]

BLOCK = 2**17
"""Values of features that are asked for at once on a mesh, 1 MB, in at least one layer of cells."""
SLOPE = "the gradient of the loss"
MOST_CHECKED = 64
"""Features whose gradients are looked at one by one."""


@dataclass(frozen=True, eq=False)
class Features(Energy):
    """A convex function of user-given moments: ``E[mu] = L(u)``, ``u_j = int Phi_j dmu``, ``V = sum_j dL/du_j Phi_j``.

    Parameters
    ----------
    function : callable
        ``function(*coordinates) -> (M, ...) array``: the coordinates come as arrays that broadcast, one an axis in
        the order of the box; the result has the features along its *first* axis, then the shape they broadcast to. See
        ``docs/functions.md``. Also a `Formula`, or a list of them.
    loss : Loss
        L, on responses of shape (M,): `SquaredLoss`, `LogisticLoss`, `HuberLoss` or a subclass of `Loss`.
    gradient : callable, optional
        ``gradient(*coordinates)`` gives one array like that of `function` for each axis, of one axis alone or in a
        sequence. Without it, 6-th order central differences of step 0.002 times the axis' length are used (points
        beyond the ends are evaluated).
    inputs : (M,) or (M, p) array, optional
        Then `function` is the unit of a network of one output, ``function(x, *coordinates) -> (m, ...) array`` for
        inputs x (m,) or (m, p), and `gradient` takes x first too. The features are its outputs at these inputs, and a
        problem with this energy has it as its `Network`. The first variable of a `Formula` is the input then; if they
        are called ``x1``, ``x2``, ..., the first ones are.

    Raises
    ------
    ValueError
        When bound: features that are not finite or of the wrong shape; a gradient that differences of `function`, at
        20 points of the box, show to be off by more than 1e-5 of its largest value, or the same of the gradient of
        your own loss. On a grid: features of more than 2 GiB.

    Notes
    -----
    On a grid the features are stored, M numbers a cell, and read twice an evaluation.

    Examples
    --------
    >>> from mfpde.equation.energy.losses import SquaredLoss
    >>> moments = Features(lambda x: np.stack([x, x**2]), SquaredLoss([0.0, 1.0], [1.0, 1.0]))
    >>> bound = moments.bind([Axis("x", -2, 2)])
    >>> round(bound.energy(np.array([[1.0]]), np.array([1.0])), 12)
    0.5

    A network of your own units on data, whose output a solution then predicts:

    >>> from mfpde.equation.problem import beside
    >>> def unit(x, c, w):
    ...     return c * np.cos(w * beside(x, c, w))
    >>> x = np.linspace(-1, 1, 20)
    >>> own = Features(unit, SquaredLoss(x**2), inputs=x)
    """

    function: Callable[..., Array]
    loss: Loss
    gradient: Callable[..., Sequence[Array]] | None = None
    inputs: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", _of_formulas(self.function, unit=self.inputs is not None))
        if not callable(self.function):
            raise TypeError(f"features need a function of the coordinates, not {shown(self.function)}")
        function(self.gradient, "the gradient of features", optional=True)
        if not isinstance(self.loss, Loss):
            raise TypeError(f"the loss must be a Loss such as SquaredLoss(targets), not {shown(self.loss)}")
        if self.inputs is not None:
            inputs = numbers(self.inputs, "the inputs of features")
            if inputs.ndim not in (1, 2) or not inputs.size or not np.all(np.isfinite(inputs)):
                raise ValueError(f"the inputs of features are finite, (M,) or (M, p), not {shown(self.inputs)}")
            inputs.flags.writeable = False
            object.__setattr__(self, "inputs", inputs)

    def values(self, *coordinates: Array) -> Array:
        """The features at coordinates that broadcast, first axis M: `function`, at the inputs if there are any."""
        return self.function(*coordinates) if self.inputs is None else self.function(self.inputs, *coordinates)

    def slopes(self, *coordinates: Array) -> Sequence[Array]:
        """The same of `gradient`, an array an axis."""
        assert self.gradient is not None
        return slopes_of(self.gradient, *coordinates, data=() if self.inputs is None else (self.inputs,), before=1)

    @property
    def convex(self) -> bool | None:
        """Whether the loss is."""
        return self.loss.convex

    def bind(self, axes: Sequence[Axis]) -> BoundEnergy:
        """The energy on a box."""
        return BoundFeatures(self, as_axes(axes))

    def __repr__(self) -> str:
        return f"Features({getattr(self.function, '__name__', 'function')}, {self.loss!r})"


def _of_formulas(function: Any, *, unit: bool) -> Any:
    """A formula, or several, as the function of features, or as the unit of a network; anything else as it is."""
    if unit and isinstance(function, Formula):
        return FormulaUnit.of(function)
    formulas = (function,) if isinstance(function, Formula) else function
    if isinstance(formulas, (list, tuple)) and not unit:
        return Stack(tuple(formulas))
    return function


class ResponseForm(ABC):
    """The energy as a function of the response, one number or one row of outputs a feature."""

    quadratic: bool = False
    """Whether dL/du is affine in u."""

    curved: bool = True
    """Whether the second derivative has a closed form."""

    @property
    @abstractmethod
    def outcome(self) -> tuple[Loss, Array | None]:
        """The loss, and the matrix that makes its outputs of u; see `BoundEnergy.outcome`."""

    @property
    @abstractmethod
    def outputs(self) -> Outputs | None:
        """The same as numbers, with its constant; None for a loss of somebody's own."""

    @abstractmethod
    def evaluate(self, u: Array) -> tuple[float, Array]:
        """L(u) and dL/du."""

    @abstractmethod
    def curvature(self, u: Array) -> Callable[[Array], Array]:
        """``du -> L''(u) du``, of arrays of the shape of u, where `curved`."""


def outputs_of(loss: Loss, matrix: Array | None) -> Outputs | None:
    """A loss of the package of outputs ``matrix @ u`` as numbers; None for one of somebody's own."""
    if not isinstance(loss, (SquaredLoss, LogisticLoss, HuberLoss)) or type(loss) not in LOSSES.values():
        return None
    weights, targets = loss.weights, loss.targets.reshape(len(loss.targets), -1)
    assert weights is not None
    return Outputs(type(loss), weights, targets, matrix, loss.delta if isinstance(loss, HuberLoss) else 0.0)


class LossForm(ResponseForm):
    """A loss, of the response itself or of ``interpolation @ u``."""

    def __init__(self, loss: Loss, interpolation: Array | None = None) -> None:
        self._loss, self._interpolation = loss, interpolation
        self.quadratic, self.curved = is_quadratic(loss), has_curvature(loss)

    @property
    def outcome(self) -> tuple[Loss, Array | None]:
        """The loss and the interpolation."""
        return self._loss, self._interpolation

    @property
    def outputs(self) -> Outputs | None:
        """Its weights and targets, where it is a loss of the package."""
        return outputs_of(self._loss, self._interpolation)

    def evaluate(self, u: Array) -> tuple[float, Array]:
        """L(u) and dL/du."""
        if self._interpolation is None:
            (u,) = read_only(u)
            return self._loss.value(u), floats(self._loss.gradient(u), SLOPE)
        size = self._interpolation.size
        (outputs,) = read_only(product(self._interpolation, u, size))
        slope = floats(self._loss.gradient(outputs), SLOPE)
        return self._loss.value(outputs), product(self._interpolation.T, slope, size)

    def curvature(self, u: Array) -> Callable[[Array], Array]:
        """``du -> L''(u) du``."""
        A = self._interpolation
        (outputs,) = read_only(u if A is None else product(A, u, A.size))
        second = self._loss.curvature(outputs)
        assert second is not None

        def of_outputs(change: Array) -> Array:
            if second.shape == change.shape:
                return second * change
            return (second @ change.reshape(-1)).reshape(change.shape)

        if A is None:
            return of_outputs
        return lambda du: product(A.T, of_outputs(product(A, du, A.size)), A.size)


class QuadraticForm(ResponseForm):
    """``1/2 |R u - q|^2 + constant``, exactly a squared loss on all data once these are interpolated."""

    quadratic = True

    def __init__(self, root: Array, target: Array, constant: float) -> None:
        self._root, self._transposed = np.ascontiguousarray(root), np.ascontiguousarray(root.T)
        self._target, self._constant = np.ascontiguousarray(target), constant

    @property
    def outcome(self) -> tuple[Loss, Array | None]:
        """A squared loss of ``R u``, each output of weight 1."""
        return SquaredLoss(self._target, np.ones(len(self._target))), self._root

    @property
    def outputs(self) -> Outputs:
        """The same with its constant."""
        targets = self._target.reshape(len(self._target), -1)
        return Outputs(SquaredLoss, np.ones(len(targets)), targets, self._root, constant=self._constant)

    def evaluate(self, u: Array) -> tuple[float, Array]:
        """L(u) and dL/du."""
        excess = np.dot(self._root, u)
        excess -= self._target
        flat = excess.reshape(-1)
        return 0.5 * float(np.dot(flat, flat)) + self._constant, np.dot(self._transposed, excess)

    def curvature(self, u: Array) -> Callable[[Array], Array]:
        """``du -> R' R du``, the same everywhere."""
        return lambda du: np.dot(self._transposed, np.dot(self._root, du))


class BoundFeatures(BoundEnergy):
    """User features on a box; see `BoundEnergy`."""

    def __init__(self, source: Features, axes: tuple[Axis, ...]) -> None:
        self.axes, self._source, self._form = axes, source, LossForm(source.loss)
        centre = np.array([[float(axis.at(np.array(0.5))) for axis in axes]])
        probe = values_of(source.values, *centre.T)
        if probe.ndim == 0:
            raise ValueError("the features must have their index along the first axis of the result, found a scalar")
        self.response_size = probe.shape[0]
        value, slope = self._form.evaluate(self._phi(centre)[:, 0])
        if np.shape(slope) != (self.response_size,) or not np.isfinite(value):
            raise ValueError(
                f"{self.response_size} features, but the gradient of the loss has shape {np.shape(slope)} "
                f"and its value is {value}"
            )
        self.quadratic = self._form.quadratic
        self.convex = check_loss(source.loss, lambda n: self._phi(probe_points(axes, n)).T) or None
        if source.gradient is not None:
            self._check_gradient()

    def _check_gradient(self) -> None:
        """Hold the gradient against differences: of few features each, of many some and a sum of all."""
        M = self.response_size
        rows = np.unique(np.linspace(0, M - 1, MOST_CHECKED).astype(int))
        signs = np.where(np.arange(M) * 0.6180339887498949 % 1.0 < 0.5, 1.0, -1.0)
        labels = [f"feature {j}" for j in rows] + ["a sum of all features, of either sign"]

        def some(values: Array) -> Array:
            return np.concatenate([values[rows], np.tensordot(signs, values, 1)[None]])

        def slopes(points: Array) -> Array:
            by_axis = self._source.slopes(*points.T)
            pairs = zip(by_axis, self.axes, strict=True)
            return np.stack([some(self._shaped(values, (len(points),))) for values, _ in pairs], axis=-1)

        check_gradient(repr(self._source), self.axes, lambda points: some(self._phi(points)), slopes, M, labels)

    def _shaped(self, values: Array, shape: tuple[int, ...]) -> Array:
        values = np.asarray(values, dtype=float)
        missing = 1 + len(shape) - values.ndim  # constants such as np.array([1., 2.]) are features too
        values = values.reshape(values.shape[:1] + (1,) * max(missing, 0) + values.shape[1:])
        return on_shape(values, (self.response_size, *shape), "features")

    @property
    def outcome(self) -> tuple[Loss, Array | None]:
        """Its loss, of the moments themselves."""
        return self._form.outcome

    def _phi(self, points: Array) -> Array:
        return self._shaped(values_of(self._source.values, *points.T), (len(points),))

    def _moments(self, points: Array, weights: Array) -> Array:
        chunks = in_chunks(len(points), self.response_size)
        return np.asarray(sum((self._phi(points[c]) @ weights[c] for c in chunks), np.zeros(self.response_size)))

    def _features(self, points: Array) -> Array:
        return self._phi(points)

    def _slope(self, moments: Array) -> Array:
        return self._form.evaluate(moments)[1]

    def _curvature(self, moments: Array, changes: Array) -> Array:
        if not self._form.curved:
            return super()._curvature(moments, changes)
        along = self._form.curvature(moments)
        return np.stack([along(change) for change in np.ascontiguousarray(changes.T)], axis=1)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything; the curvature if its loss has one."""
        return super().capabilities - (set() if self._form.curved or self.quadratic else {"curvature"})

    @property
    def label(self) -> str:
        """What the user wrote."""
        return "Features"

    def _potential(self, points: Array, moments: Array, source: Source | None) -> Array:
        slope = self._form.evaluate(moments)[1]
        return np.concatenate([slope @ self._phi(points[c]) for c in in_chunks(len(points), self.response_size)])

    def _gradient(self, points: Array, moments: Array, source: Source | None) -> Array:
        slope = self._form.evaluate(moments)[1]
        result = np.empty(points.shape)
        for chunk in in_chunks(len(points), self.response_size):
            x = read_only(*points[chunk].T)
            if self._source.gradient is not None:
                for i, values in enumerate(self._source.slopes(*x)):
                    result[chunk, i] = slope @ self._shaped(values, (len(x[0]),))
                continue
            for i, axis in enumerate(self.axes):
                if not axis.moves:
                    result[chunk, i] = 0.0
                    continue

                def along(t: Array, i: int = i, x: tuple[Array, ...] = x) -> Array:
                    return slope @ self._shaped(values_of(self._source.values, *x[:i], t, *x[i + 1 :]), (t.size,))

                result[chunk, i] = central_difference(along, x[i], difference_step(axis))
        return result

    def _energy(self, points: Array, weights: Array, moments: Array) -> float:
        return self._form.evaluate(moments)[0]

    def on(self, grid: Grid) -> GridEnergy:
        """The features at the centres of a grid."""
        self._check_grid(grid)
        check_memory(self.response_size, grid.size, "use a coarser mesh or fewer features")
        matrix = np.empty((self.response_size, *grid.shape))
        # a slab of the first axis at a time: what a function makes on its way may be tens of times what it returns
        first, *others = grid.mesh()
        thick = max(1, BLOCK // (self.response_size * (grid.size // grid.shape[0])))
        for start in range(0, grid.shape[0], thick):
            slab = matrix[:, start : start + thick]
            values = values_of(self._source.values, first[start : start + thick], *others)
            slab[...] = self._shaped(values, slab.shape[1:])
        if where := cell_not_finite(matrix, grid):
            raise ValueError(f"some features are not finite at the centres of the grid: {where}")
        return FeaturesOnGrid(
            grid, matrix.reshape(self.response_size, -1), self._form, description=f"{self.response_size} features"
        )

    def memory(self, grid: Grid) -> Memory:
        """A number for each feature and cell; while it is made a truth value for each, and what the function takes."""
        entries = self.response_size * grid.size
        slab = min(entries, max(BLOCK, entries // grid.shape[0]))
        return Memory(8.0 * entries, entries + 8.0 * 2 * FUNCTION_ARRAYS * slab)

    def __repr__(self) -> str:
        return repr(self._source)


def check_loss(loss: Loss, outputs: Callable[[int], Array]) -> bool:
    """Whether a loss is convex, as far as its gradient shows; refuse a gradient that is not that of its value.

    Parameters
    ----------
    loss : Loss
        Those of the package are known.
    outputs : callable
        ``outputs(n)``: the responses, or outputs at all data, of n measures, ``(n, ...)``.
    """
    if type(loss) in LOSSES.values():
        return True
    samples = np.asarray(outputs(12), dtype=float)
    # means of several, of one mass; a path that bends through them
    few = np.stack([samples[k::4].mean(axis=0) for k in range(4)] + [samples[k::6].mean(axis=0) for k in range(6)])
    start, towards, bend = few[0], few[1] - few[0], few[2] - few[3]

    def value(s: Array) -> Array:
        return np.array([loss.value(*read_only(start + t * towards + t * t * bend)) for t in s])

    def slope(s: Array) -> Array:
        path = ((start + t * towards + t * t * bend, towards + 2.0 * t * bend) for t in s)
        return np.array([np.vdot(loss.gradient(*read_only(u)), direction) for u, direction in path])

    check_derivative(f"{type(loss).__name__}, along a path s of responses", value, slope, Axis("s", 0.0, 1.0))
    if has_curvature(loss):
        _check_curvature(loss, start, towards)
    slopes = [np.asarray(loss.gradient(*read_only(u)), dtype=float) for u in few]
    for i, j in itertools.combinations(range(len(few)), 2):
        steps, change = few[j] - few[i], slopes[j] - slopes[i]
        size = float(np.linalg.norm(steps)) * max(float(np.linalg.norm(slopes[i])), float(np.linalg.norm(slopes[j])))
        if not float(np.vdot(steps, change)) >= -1e-10 * size:
            return False
    return loss.convex


def _check_curvature(loss: Loss, start: Array, towards: Array) -> None:
    """Refuse a second derivative that is not that of the gradient, and one that says nothing."""
    name = type(loss).__name__
    probe = loss.curvature(*read_only(start))
    if probe is None or np.shape(probe) not in (start.shape, (start.size, start.size)):
        raise ValueError(
            f"{name}: the curvature at a response of shape {start.shape} must have that shape, or "
            f"{(start.size, start.size)}, not {None if probe is None else np.shape(probe)}; correct it, or leave it out"
        )

    def slope(s: Array) -> Array:
        return np.array([np.vdot(loss.gradient(*read_only(start + t * towards)), towards) for t in s])

    def second(s: Array) -> Array:
        forms = [LossForm(loss).curvature(start + t * towards)(towards) for t in s]
        return np.array([np.vdot(form, towards) for form in forms])

    check_derivative(f"the curvature of {name}, along a line s of responses", slope, second, Axis("s", 0.0, 1.0))


def check_memory(features: int, cells: int, remedy: str) -> None:
    """Refuse a feature matrix that would not fit."""
    if (size := 8 * features * cells) > 2 * MEMORY_LIMIT:
        raise ValueError(
            f"{features} features on {cells} cells would take {size / 2**30:.1f} GiB "
            f"(limit {2 * MEMORY_LIMIT / 2**30:.0f} GiB); {remedy}"
        )


class FeaturesOnGrid(GridEnergy):
    """Features ``C_q(amplitudes) phi_j(z)`` on a grid; see `GridEnergy`.

    Parameters
    ----------
    grid : Grid
        The grid.
    matrix : (r, N_z) array
        phi_j at the cells of the inner axes, in C order.
    form : ResponseForm
        The energy as a function of the response, (r,) or, with q > 1 amplitudes, (r, q).
    amplitudes : (q, N_c) array, optional
        The factor of each output at the cells of the outer axes, in C order. Default: no outer axes.
    outer : tuple of int
        The outer axes, ascending.
    description : str
        For the plan.
    """

    def __init__(
        self,
        grid: Grid,
        matrix: Array,
        form: ResponseForm,
        amplitudes: Array | None = None,
        outer: tuple[int, ...] = (),
        description: str = "",
    ) -> None:
        self.grid, self._matrix, self._form, self._description = grid, np.ascontiguousarray(matrix), form, description
        d = grid.dimension
        inner = tuple(i for i in range(d) if i not in outer)
        self._amplitudes = None if amplitudes is None else np.ascontiguousarray(amplitudes)
        self._transposed = None if amplitudes is None else np.ascontiguousarray(amplitudes.T)
        self._outputs = 1 if amplitudes is None else len(amplitudes)
        self.response_size = len(matrix) * self._outputs
        n_inner, n_outer = matrix.shape[1], grid.size // matrix.shape[1]
        self._cells = (n_outer, n_inner)
        # three layouts: amplitudes slowest, amplitudes fastest, or mixed (which costs a copy each way)
        self._fast = bool(outer) and outer == tuple(range(d - len(outer), d)) and len(inner) > 0
        order = outer + inner
        self._order = None if self._fast or order == tuple(range(d)) else order
        if self._order is not None:
            self._shape = tuple(grid.shape[i] for i in order)
            self._copy = np.empty(self._shape)
            self._back = tuple(int(i) for i in np.argsort(order))
        self._turns = Turns()

    @staticmethod
    def memory(grid: Grid, features: int, outputs: int, outer: tuple[int, ...]) -> Memory:
        """What a plan of so many features and outputs takes, in bytes, the making of its arguments apart."""
        n_outer = math.prod(grid.shape[i] for i in outer)
        n_inner = grid.size // n_outer
        order = outer + tuple(i for i in range(grid.dimension) if i not in outer)
        fast = bool(outer) and outer == tuple(range(grid.dimension - len(outer), grid.dimension))
        mixed = not fast and order != tuple(range(grid.dimension))
        amplitudes = 2.0 * outputs * n_outer if outer else 0.0
        # what is reduced over the outer axes, and the weights of the inner cells
        between = 2.0 * outputs * n_inner if outer else 0.0
        return Memory(8.0 * (features * n_inner + amplitudes + (grid.size if mixed else 0)), 0.0, 8.0 * between)

    def evaluate(self, mu: Array, out: Array | None = None) -> tuple[Array, float, Array]:
        """V, E and the response of a density, by products with the features' matrix; V is written to `out` if there."""
        V = prepared_output(self.grid, mu, out)
        u = self._moments(mu)
        energy, slope = self._form.evaluate(u)
        self._spread(slope, V)
        return V, energy, u.reshape(-1)

    def curvature(self, mu: Array) -> Callable[[Array], Array] | None:
        """The moments of the change, the second derivative of the form there, and the potential that this makes."""
        if not self._form.curved:
            return None
        second = self._form.curvature(self._moments(mu))

        def along(h: Array) -> Array:
            result = np.empty(self.grid.shape)
            self._spread(second(self._moments(np.ascontiguousarray(h))), result)
            return result

        return along

    @property
    def parts(self) -> tuple[GridPart, ...] | None:
        """Its matrix and its amplitudes as tables; None for a loss of somebody's own, or axes that are mixed."""
        outputs = self._form.outputs
        if outputs is None or self._order is not None:
            return None
        r, q = len(self._matrix), self._outputs
        if self._amplitudes is None:
            return (ByTables((self._matrix,), np.arange(r), outputs),)
        if self._fast:
            return (ByTables((self._matrix, self._amplitudes), np.arange(r * q), outputs),)
        places = np.arange(r * q).reshape(q, r).T.reshape(-1)
        return (ByTables((self._amplitudes, self._matrix), places, outputs),)

    def _moments(self, mu: Array) -> Array:
        """The response of a density, (r,) or, with q > 1 amplitudes, (r, q)."""
        with self._turns:
            return self._reduced(mu)

    def _reduced(self, mu: Array) -> Array:
        n_outer, n_inner = self._cells
        size, C = self.grid.size, self._amplitudes
        if C is None:
            u = product(self._matrix, mu.reshape(-1), size)
            u *= self.grid.cell_volume
            return u
        single = self._outputs == 1
        if self._fast:  # (N_z, N_c)
            assert self._transposed is not None
            cells = mu.reshape(n_inner, n_outer)
            reduced = product(cells, C[0] if single else self._transposed, size)
        else:
            if self._order is not None:
                np.copyto(self._copy, mu.transpose(self._order))
                cells = self._copy.reshape(n_outer, n_inner)
            else:
                cells = mu.reshape(n_outer, n_inner)
            reduced = product(C[0], cells, size) if single else product(C, cells, size).T
        u = product(self._matrix, reduced, size)
        u *= self.grid.cell_volume
        return u

    def _spread(self, slope: Array, V: Array) -> None:
        """Write ``sum_k slope_k Phi_k`` on the cells to V."""
        with self._turns:
            self._write(slope, V)

    def _write(self, slope: Array, V: Array) -> None:
        n_outer, n_inner = self._cells
        size, C = self.grid.size, self._amplitudes
        if C is None:
            product(slope, self._matrix, size, V.reshape(-1))
            return
        single = self._outputs == 1
        g = product(slope.T, self._matrix, size)
        if self._fast:
            target = V.reshape(n_inner, n_outer)
            if single:
                np.multiply(g[:, None], C, out=target)
            else:
                product(g.T, C, size, target)
            return
        target = (V if self._order is None else self._copy).reshape(n_outer, n_inner)
        assert self._transposed is not None
        if single:
            np.multiply(self._transposed, g, out=target)
        else:
            product(self._transposed, g, size, target)
        if self._order is not None:
            np.copyto(V, self._copy.transpose(self._back))

    def _describe(self) -> list[str]:
        r, n = self._matrix.shape
        lines = f"{self._description}; matrix {r} x {n} ({self._matrix.nbytes:,} bytes) read twice an evaluation"
        return [
            lines + (f", amplitudes reduced first ({self._cells[0]} cells)" if self._amplitudes is not None else "")
        ]
