"""FiPy: finite volumes with its convection terms and implicit Euler steps."""

from __future__ import annotations

import os

# its choice of solvers is made when it is imported
os.environ.setdefault("FIPY_SOLVERS", "scipy")

import numpy as np
from fipy import (
    CellVariable,
    CentralDifferenceConvectionTerm,
    Grid1D,
    Grid2D,
    LinearLUSolver,
    TransientTerm,
    VanLeerConvectionTerm,
)

from validation.benchmarks._work import ALPHA, T_END, Work, mesh
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

TERMS = {"van Leer, explicit": VanLeerConvectionTerm, "central, implicit": CentralDifferenceConvectionTerm}
LADDERS = {
    # Euler steps are first order, cells second
    Work.BUMPS_1D: [Rung(n, steps=s) for n, s in ((50, 50), (100, 200), (200, 800), (200, 3200), (400, 12800))],
    Work.BUMPS_2D: [Rung(n, steps=s) for n, s in ((32, 50), (64, 200), (128, 800), (256, 3200))],
    Work.NETWORK: [Rung(n, steps=s) for n, s in ((32, 100), (64, 400), (128, 1600), (256, 6400))],
}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    def solve(seed: int) -> Outcome:
        on = mesh(work, rung.n)
        n, h = rung.n, on.h
        # FiPy numbers cells with the first coordinate fastest: arrays are transposed
        cells = Grid1D(nx=n, dx=h) if work.dimension == 1 else Grid2D(nx=n, ny=n, dx=h, dy=h)
        mu = CellVariable(mesh=cells, value=on.initial.T.ravel(), hasOld=True)
        V = CellVariable(mesh=cells)
        source = CellVariable(mesh=cells)
        # its convection terms are div(u mu) on the left: u = -grad V
        equation = TransientTerm() + TERMS[variant](coeff=-V.faceGrad) == source * mu
        solver = LinearLUSolver()
        dt = T_END / rung.steps
        for _ in range(rung.steps):
            mu.updateOld()
            density = mu.value.reshape(on.shape).T
            potential = on.potential(density)
            V.setValue(potential.T.ravel())
            mean = (potential * density).sum() / density.sum()
            source.setValue(-ALPHA * (potential - mean).T.ravel())
            equation.solve(var=mu, dt=dt, solver=solver)
        density = np.asarray(mu.value).reshape(on.shape).T
        return Outcome(
            float(on.energy(density)), float(density.sum() * on.volume), float(density.min() / density.max())
        )

    return solve


PEER = Peer(
    name="FiPy",
    packages=("FiPy",),
    variants=[Variant(name, LADDERS) for name in TERMS],
    prepare=prepare,
    lacks="positivity of the central term; mass of the reaction to first order in dt; energy decay",
    method="TransientTerm + convection term with face velocity -grad V of the last step, LU of SciPy; Euler in time",
)
