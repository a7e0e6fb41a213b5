"""n particles in PyTorch: the network as a module, autograd and SGD, birth and death between the steps."""

from __future__ import annotations

import numpy as np
import torch

from validation.benchmarks._work import ALPHA, T_END, Work
from validation.benchmarks.peers._cloud import LADDERS, SAMPLES, inputs, survivors
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant


class Neurons(torch.nn.Module):
    """A network of n units, its output the mean over them."""

    def __init__(self, work: Work, x: torch.Tensor, z: torch.Tensor) -> None:
        super().__init__()
        self.work, self.x = work, x[:, None]
        self.z = torch.nn.Parameter(z)

    def units(self) -> tuple[torch.Tensor, ...]:
        """Outputs of the units, the factors of a product where there are two."""
        if self.work is Work.NETWORK:
            return (self.z[0] * torch.tanh(self.x * self.z[1]),)
        return tuple(torch.exp(-0.5 * (self.x - row) ** 2) for row in self.z)

    @staticmethod
    def output(units: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The network's output."""
        n = units[0].shape[1]
        return units[0].mean(dim=1) if len(units) == 1 else units[0] @ units[1].T / n

    @staticmethod
    def potential(units: tuple[torch.Tensor, ...], residual: torch.Tensor) -> torch.Tensor:
        """``V`` of each unit."""
        return residual @ units[0] if len(units) == 1 else ((residual.T @ units[0]) * units[1]).sum(dim=0)


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    def solve(seed: int) -> Outcome:
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        n, dt = rung.n, T_END / rung.steps
        x, y, weight = inputs(work)
        target = torch.from_numpy(y).float()
        start = work.std * torch.randn((work.dimension, n), generator=generator)
        neurons = Neurons(work, torch.from_numpy(x).float(), start)
        # a neuron's share of the loss is 1/n: the mean-field time step is dt * n
        optimiser = torch.optim.SGD(neurons.parameters(), lr=dt * n)
        for _ in range(rung.steps):
            optimiser.zero_grad()
            units = neurons.units()
            residual = neurons.output(units) - target
            loss = 0.5 * weight * (residual**2).sum()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                V = weight * neurons.potential(units, residual)
                keep = survivors((V - V.mean()).numpy().astype(float), ALPHA * dt, rng)
                neurons.z.copy_(neurons.z[:, torch.from_numpy(keep)])
        with torch.no_grad():
            residual = (neurons.output(neurons.units()) - target).double()
            return Outcome(float(0.5 * weight * (residual**2).sum()))

    return solve


PEER = Peer(
    name="particles, PyTorch",
    packages=("torch",),
    variants=[Variant("SGD, algorithm 1", LADDERS)],
    prepare=prepare,
    lacks="determinism: error of order n^(-1/2), here the root mean square over seeds, one seed timed; no density",
    method="a module with autograd and torch.optim.SGD in float32 on the CPU, birth-death of Rotskoff et al. (2019)",
    samples=SAMPLES,
)
