"""Convex losses L(u) of a response u, each with its targets and sample weights inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfpde.support.arguments import numbers, real, shown
from mfpde.support.arrays import Array

__all__ = ["HuberLoss", "LOSSES", "LogisticLoss", "Loss", "LossFactory", "SquaredLoss", "check_size", "loss_named"]


LARGEST = 1e100
"""Largest magnitude of data: squares and their sums stay finite."""


def check_size(what: str, values: Array) -> None:
    """Refuse finite numbers whose squares may overflow."""
    if (largest := float(np.max(np.abs(values)))) > LARGEST:
        raise ValueError(f"{what} reach {largest:.3g}, beyond {LARGEST:g}: their squares overflow; rescale the data")


class Loss(ABC):
    """A convex function of the response: subclass it for your own.

    Attributes
    ----------
    convex : bool
        True. A subclass that is not convex says ``convex = False``: there are no certificates then.
    """

    convex: bool = True

    @abstractmethod
    def value(self, u: Array) -> float:
        """L(u)."""

    @abstractmethod
    def gradient(self, u: Array) -> Array:
        """dL/du, the shape of u."""


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

    def value(self, u: Array) -> float:
        """L(u)."""
        excess = u - self.targets
        return 0.5 * float(np.sum(self._columns * excess * excess))

    def gradient(self, u: Array) -> Array:
        """``w (u - y)``."""
        return self._columns * (u - self.targets)


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
