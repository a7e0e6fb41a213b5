"""Convex losses L(u) of a response u, each with its targets and sample weights inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfpde.support.arguments import numbers, real, shown
from mfpde.support.arrays import Array
from mfpde.support.travel import Portable

__all__ = [
    "HuberLoss",
    "LOSSES",
    "LogisticLoss",
    "Loss",
    "LossFactory",
    "SquaredLoss",
    "check_size",
    "has_curvature",
    "is_quadratic",
    "loss_named",
]


LARGEST = 1e100
"""Largest magnitude of data: squares and their sums stay finite."""


def check_size(what: str, values: Array) -> None:
    """Refuse finite numbers whose squares may overflow."""
    if (largest := float(np.max(np.abs(values)))) > LARGEST:
        raise ValueError(f"{what} reach {largest:.3g}, beyond {LARGEST:g}: their squares overflow; rescale the data")


class Loss(Portable, ABC):
    """A convex function of the response: subclass it for your own.

    Attributes
    ----------
    convex : bool
        True. A subclass that is not convex says ``convex = False``: there are no certificates then.
    quadratic : bool
        False. A subclass whose gradient is affine says ``quadratic = True``: second variations are then exact.
    """

    convex: bool = True
    quadratic: bool = False

    @abstractmethod
    def value(self, u: Array) -> float:
        """L(u)."""

    @abstractmethod
    def gradient(self, u: Array) -> Array:
        """dL/du, the shape of u."""

    def curvature(self, u: Array) -> Array | None:
        """The second derivative of L at u, where you write it; None, the default: it is taken by differences.

        Returns
        -------
        array or None
            Of the shape of u where L is a sum over its entries, else of shape ``(u.size, u.size)``.
        """
        return None


@dataclass(frozen=True, eq=False)
class _DataLoss(Loss):
    targets: Array
    weights: Array | None = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        targets = numbers(self.targets, f"{name}: the targets")
        if targets.ndim not in (1, 2) or not targets.size:
            raise ValueError(f"{name}: the targets must have shape (M,) or (M, q), not {targets.shape}")
        if not np.all(np.isfinite(targets)):
            raise ValueError(f"{name}: {np.count_nonzero(~np.isfinite(targets))} targets are not finite; remove them")
        check_size(f"{name}: the targets", targets)
        n = len(targets)
        weights = np.full(n, 1.0 / n) if self.weights is None else numbers(self.weights, f"{name}: the weights")
        if weights.shape != (n,) or not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights):
            raise ValueError(f"{name}: the weights must be {n} finite numbers >= 0, not all zero")
        check_size(f"{name}: the weights", weights)
        targets.flags.writeable = weights.flags.writeable = False
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "weights", weights)

    @property
    def _columns(self) -> Array:
        assert self.weights is not None
        return self.weights if self.targets.ndim == 1 else self.weights[:, None]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.targets)} samples)"


@dataclass(frozen=True, eq=False, repr=False)
class SquaredLoss(_DataLoss):
    """``L(u) = 1/2 sum_j w_j |u_j - y_j|^2``.

    Parameters
    ----------
    targets : (M,) or (M, q) array
        y.
    weights : (M,) array, optional
        w >= 0; default 1/M each.
    """

    quadratic = True

    def value(self, u: Array) -> float:
        """L(u)."""
        excess = u - self.targets
        return 0.5 * float(np.sum(self._columns * excess * excess))

    def gradient(self, u: Array) -> Array:
        """``w (u - y)``."""
        return self._columns * (u - self.targets)

    def curvature(self, u: Array) -> Array:
        """``w``."""
        return self._columns + np.zeros_like(u)


@dataclass(frozen=True, eq=False, repr=False)
class LogisticLoss(_DataLoss):
    """``L(u) = sum_j w_j log(1 + exp(-y_j u_j))`` for labels -1 and 1.

    Parameters
    ----------
    targets : (M,) or (M, q) array
        Labels, -1 or 1.
    weights : (M,) array, optional
        w >= 0; default 1/M each.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not np.all(np.abs(self.targets) == 1.0):
            wrong = np.unique(self.targets[np.abs(self.targets) != 1.0])[:3]
            raise ValueError(f"LogisticLoss: labels must be -1 or 1, found {wrong}; map 0/1 labels by 2*y - 1")

    def value(self, u: Array) -> float:
        """L(u)."""
        return float(np.sum(self._columns * np.logaddexp(0.0, -self.targets * u)))

    def gradient(self, u: Array) -> Array:
        """``-w y / (1 + exp(y u))``."""
        from scipy.special import expit

        return np.asarray(-self._columns * self.targets * expit(-self.targets * u))

    def curvature(self, u: Array) -> Array:
        """``w p (1 - p)`` with ``p = 1 / (1 + exp(u))``, as ``y^2 = 1``."""
        from scipy.special import expit

        return np.asarray(self._columns * expit(u) * expit(-u))


@dataclass(frozen=True, eq=False, repr=False)
class HuberLoss(_DataLoss):
    """``L(u) = sum_j w_j h(u_j - y_j)``, h(r) = r^2/2 up to |r| = delta and delta (|r| - delta/2) beyond.

    Parameters
    ----------
    targets : (M,) or (M, q) array
        y.
    weights : (M,) array, optional
        w >= 0; default 1/M each.
    delta : float
        Where the loss turns linear, positive. Good values: one to two standard deviations of the noise.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (real(self.delta) and self.delta > 0):
            raise ValueError(f"HuberLoss: delta must be positive, not {shown(self.delta)}")

    def value(self, u: Array) -> float:
        """L(u)."""
        size = np.abs(u - self.targets)
        inside = np.minimum(size, self.delta)
        return float(np.sum(self._columns * inside * (size - 0.5 * inside)))

    def gradient(self, u: Array) -> Array:
        """``w clip(u - y, -delta, delta)``."""
        return self._columns * np.clip(u - self.targets, -self.delta, self.delta)

    def curvature(self, u: Array) -> Array:
        """``w`` where ``|u - y| < delta``, 0 elsewhere."""
        return self._columns * (np.abs(u - self.targets) < self.delta)


def _belongs_to_its_gradient(loss: Loss, name: str) -> bool:
    """Whether what a loss says of its second derivative is of the class of its gradient, or of one below."""
    classes = type(loss).__mro__
    said, gradient = (next(i for i, c in enumerate(classes) if what in vars(c)) for what in (name, "gradient"))
    return said <= gradient


def is_quadratic(loss: Loss) -> bool:
    """Whether the gradient of a loss is affine; a subclass with a gradient of its own has to say it anew."""
    return bool(loss.quadratic) and ("quadratic" in vars(loss) or _belongs_to_its_gradient(loss, "quadratic"))


def has_curvature(loss: Loss) -> bool:
    """Whether a loss has its second derivative; a subclass with a gradient of its own has to give it anew."""
    return type(loss).curvature is not Loss.curvature and _belongs_to_its_gradient(loss, "curvature")


LossFactory = Callable[[Array, Array], Loss]

LOSSES: dict[str, LossFactory] = {"squared": SquaredLoss, "logistic": LogisticLoss, "huber": HuberLoss}
"""The losses that have a name."""


def loss_named(loss: str | LossFactory) -> LossFactory:
    """What makes the loss from targets and weights, by name; unknown names are refused with the list."""
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"unknown loss {loss!r}; known are {', '.join(LOSSES)}, or pass a class such as HuberLoss")
        return LOSSES[loss]
    if not callable(loss) or isinstance(loss, Loss) or (isinstance(loss, type) and not issubclass(loss, Loss)):
        what = "a name or a function of targets and weights such as HuberLoss"
        raise TypeError(f"the loss must be {what}, not {shown(loss)}")
    return loss
