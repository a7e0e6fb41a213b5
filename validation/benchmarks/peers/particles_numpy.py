"""n particles in NumPy: gradient steps of all neurons at once, then birth and death."""

from __future__ import annotations

import numpy as np

from validation.benchmarks._work import ALPHA, T_END, Work
from validation.benchmarks.peers._cloud import LADDERS, SAMPLES, inputs, survivors
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    def solve(seed: int) -> Outcome:
        rng = np.random.default_rng(seed)
        x, target, weight = inputs(work)
        column = x[:, None]
        n, dt = rung.n, T_END / rung.steps
        z = work.std * rng.standard_normal((work.dimension, n))

        def bumps() -> list[np.ndarray]:
            return [np.exp(-0.5 * (column - row) ** 2) for row in z]

        for _ in range(rung.steps):
            if work is Work.NETWORK:
                units = np.tanh(column * z[1])
                residual = weight * (units @ z[0] / n - target)
                across = residual @ units
                V = z[0] * across
                gradient = np.stack([across, z[0] * ((residual * x) @ (1 - units**2))])
            elif work is Work.BUMPS_1D:
                (first,) = bumps()
                residual = weight * (first.mean(axis=1) - target)
                V = residual @ first
                gradient = ((residual * x) @ first - z[0] * V)[None]
            else:
                first, second = bumps()
                residual = weight * (first @ second.T / n - target)
                V = ((residual.T @ first) * second).sum(axis=0)
                one = (((residual * column).T @ first) * second).sum(axis=0) - z[0] * V
                two = (((residual * x).T @ first) * second).sum(axis=0) - z[1] * V
                gradient = np.stack([one, two])
            z = z - dt * gradient
            z = z[:, survivors(V - V.mean(), ALPHA * dt, rng)]
        if work is Work.NETWORK:
            output = np.tanh(column * z[1]) @ z[0] / n
        elif work is Work.BUMPS_1D:
            output = bumps()[0].mean(axis=1)
        else:
            first, second = bumps()
            output = first @ second.T / n
        return Outcome(float(0.5 * weight * ((output - target) ** 2).sum()))

    return solve


PEER = Peer(
    name="particles, NumPy",
    packages=("numpy",),
    variants=[Variant("Euler, algorithm 1", LADDERS)],
    prepare=prepare,
    lacks="determinism: error of order n^(-1/2), here the root mean square over seeds, one seed timed; no density",
    method="all particles by matrix products with the inputs of the network, explicit Euler, birth-death of "
    "Rotskoff et al. (2019)",
    samples=SAMPLES,
)
