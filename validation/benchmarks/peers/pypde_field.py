"""py-pde: a PDE class with a compiled rate, its Runge-Kutta solver with adaptive steps."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from pde import CartesianGrid, PDEBase, ScalarField
from pde.solvers import RungeKuttaSolver

from validation.benchmarks._work import ALPHA, T_END, Bumps, Mesh, TanhNetwork, Work, mesh
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

# few rungs: each is compiled anew, for minutes in 2-D
LADDERS = {
    Work.BUMPS_1D: [Rung(100, 1e-4), Rung(400, 1e-5), Rung(1600, 1e-6), Rung(3200, 1e-7)],
    Work.BUMPS_2D: [Rung(64, 1e-4), Rung(128, 1e-4), Rung(256, 1e-5), Rung(512, 1e-6)],
    Work.NETWORK: [Rung(64, 1e-4), Rung(128, 1e-4), Rung(256, 1e-5), Rung(512, 1e-6)],
}


def compiled_potential(on: Mesh) -> Any:
    """`Mesh.potential`, compiled; BLAS does the products there too."""
    if isinstance(on, TanhNetwork):
        c, units, volume, targets = on.c, np.ascontiguousarray(on.units), on.volume, on.targets

        @nb.njit
        def network(mu: Any) -> Any:
            residual = (np.dot(units, np.dot(c, mu)) * volume - targets) / targets.size
            return np.outer(c, np.dot(residual, units))

        return network
    assert isinstance(on, Bumps)
    kernel, target = on.kernel, on.target
    if on.work.dimension == 1:

        @nb.njit
        def line(mu: Any) -> Any:
            return np.dot(kernel, mu) - target

        return line

    @nb.njit
    def plane(mu: Any) -> Any:
        return np.dot(np.dot(kernel, mu), kernel) - target

    return plane


class MeanFieldPDE(PDEBase):
    """``d_t mu = div(mu grad V) - alpha (V - mean V) mu``."""

    def __init__(self, on: Mesh) -> None:
        super().__init__()
        self.on = on

    def evolution_rate(self, state: ScalarField, t: float = 0) -> ScalarField:
        """The rate, interpreted."""
        V = ScalarField(state.grid, self.on.potential(state.data))
        bc = "auto_periodic_neumann"
        transport = (state * V.gradient(bc)).divergence(bc)
        mean = float((V.data * state.data).sum() / state.data.sum())
        return transport - ALPHA * (V - mean) * state

    def make_evolution_rate(self, state: ScalarField, backend: Any) -> Any:
        """The rate, compiled."""
        bc = "auto_periodic_neumann"
        args: dict[str, Any] = {"bc": bc, "backend": backend, "dtype": state.dtype}
        gradient = state.grid.make_operator("gradient", **args)
        laplace = state.grid.make_operator("laplace", **args)
        potential = compiled_potential(self.on)

        def rate(mu: Any, t: float = 0) -> Any:
            V = potential(np.ascontiguousarray(mu))
            # div(mu grad V) with the compact Laplacian: half the error of the divergence of the gradient
            result = mu * laplace(V)
            result += (gradient(mu) * gradient(V)).sum(axis=0)
            result -= ALPHA * (V - (V * mu).sum() / mu.sum()) * mu
            return result

        return rate


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    on = mesh(work, rung.n)
    grid = CartesianGrid([(-work.box, work.box)] * work.dimension, rung.n)
    equation = MeanFieldPDE(on)
    start = ScalarField(grid, on.initial)
    solver = RungeKuttaSolver(equation, adaptive=True, tolerance=rung.tolerance, backend="numba")
    stepper = solver.make_stepper(start, dt=1e-3)

    def solve(seed: int) -> Outcome:
        state = start.copy()
        solver.info["dt"] = 1e-3
        stepper(state, 0.0, T_END)
        mu = state.data
        return Outcome(float(on.energy(mu)), float(mu.sum() * on.volume), float(mu.min() / mu.max()))

    return solve


PEER = Peer(
    name="py-pde",
    packages=("py-pde", "numba"),
    variants=[Variant("Runge-Kutta, compiled", LADDERS)],
    prepare=prepare,
    compiles=True,
    lacks="positivity, conservation of mass, energy decay (central differences, divergence expanded)",
    method="PDEBase with make_evolution_rate on the numba backend, adaptive Runge-Kutta solver; the compiled stepper "
    "is reused, as Controller does within one solve",
)
