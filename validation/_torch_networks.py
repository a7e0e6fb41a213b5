"""Two-layer networks in PyTorch, and their training: the one module of the studies that imports torch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LayeredNetwork", "RampNetwork", "TanhNetwork", "half_mean_square", "mean_square", "train"]

Batch = Callable[[int], tuple[Tensor, Tensor]]


class LayeredNetwork(nn.Module):
    """``f(x) = (1/n) sum_i c_i tanh(a_i x + b_i)`` of two `torch.nn.Linear`, as people write it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, width)
        self.outer = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.hidden(x[..., None])))[..., 0] / self.outer.in_features

    def neurons(self) -> dict[str, Tensor]:
        return {"c": self.outer.weight[0], "a": self.hidden.weight[:, 0], "b": self.hidden.bias}


class TanhNetwork(nn.Module):
    """The same network with parameters of shape ``(..., n)``: leading axes are replicas, each with its own inputs."""

    def __init__(self, c: Tensor, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.c, self.a, self.b = (nn.Parameter(p.clone()) for p in (c, a, b))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(x[..., None] * self.a[..., None, :] + self.b[..., None, :])
        return (hidden @ self.c[..., None])[..., 0] / self.c.shape[-1]

    @torch.no_grad()
    def potential(self, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """``V(theta_i) = sum_j w_j (f(x_j) - y_j) c_i tanh(a_i x_j + b_i)``, shape ``(..., n)``."""
        hidden = torch.tanh(x[..., None] * self.a[..., None, :] + self.b[..., None, :])
        output = (hidden @ self.c[..., None])[..., 0] / self.c.shape[-1]
        return self.c * ((weights * (output - y))[..., None, :] @ hidden)[..., 0, :]

    @torch.no_grad()
    def replace(self, source: Tensor) -> None:
        """Neuron i becomes a copy of neuron ``source[i]``, in place: the optimizer keeps its parameters."""
        for parameter in self.parameters():
            parameter.copy_(torch.take_along_dim(parameter, source, dim=-1))


class RampNetwork(nn.Module):
    """``f(x) = (1/n) sum_i sigma(<w_i, x>)``, the ramp from -2.5 at 0.5 to 7.5 at 1.5; weights ``(..., n, d)``."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (10.0 * (self.w @ x.transpose(-1, -2)) - 7.5).clamp(-2.5, 7.5).mean(dim=-2)


def half_mean_square(output: Tensor, y: Tensor) -> Tensor:
    """The energy of the project: ``1/2 mean (f - y)^2`` over the last axis."""
    return 0.5 * ((output - y) ** 2).mean(dim=-1)


def mean_square(output: Tensor, y: Tensor) -> Tensor:
    """`torch.nn.MSELoss` over the last axis: twice the energy, which a schedule of 2 makes up for."""
    return ((output - y) ** 2).mean(dim=-1)


def train(
    network: nn.Module,
    width: int,
    batch: Batch,
    step: float,
    steps: int,
    save: Collection[int],
    record: Callable[[int], None],
    loss: Callable[[Tensor, Tensor], Tensor] = half_mean_square,
    after: Callable[[], None] | None = None,
) -> Any:
    """Plain SGD with the learning rate ``width * step``: a mean over neurons has gradients ``width`` times too small.

    The losses of replicas are added: none depends on another's parameters, so each follows its own gradient.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=width * step)
    for k in range(steps + 1):
        if k in save:
            record(k)
        if k == steps:
            break
        x, y = batch(k)
        optimizer.zero_grad()
        loss(network(x), y).sum().backward()
        optimizer.step()
        if after is not None:
            after()
