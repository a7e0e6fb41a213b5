"""scipy.integrate.solve_ivp on a NumPy method of lines."""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp

from validation.benchmarks._work import T_END, Work, mesh
from validation.benchmarks.peers._lines import Lines, right_hand_side
from validation.benchmarks.peers._peer import Outcome, Peer, Rung, Solve, Variant

MUSCL = {
    Work.BUMPS_1D: [Rung(n, 1e-4) for n in (50, 100, 200, 400)] + [Rung(800, 1e-5), Rung(1600, 1e-6), Rung(3200, 1e-6)],
    Work.BUMPS_2D: [Rung(64, 1e-4), Rung(128, 1e-4), Rung(256, 1e-5), Rung(512, 1e-5), Rung(1024, 1e-6)],
    Work.NETWORK: [Rung(64, 1e-4), Rung(128, 1e-4), Rung(256, 1e-5), Rung(512, 1e-5), Rung(1024, 1e-6)],
}
CENTRAL = {
    Work.BUMPS_1D: [
        Rung(20, 1e-2),
        Rung(24, 1e-2),
        Rung(32, 1e-3),
        Rung(40, 1e-3),
        Rung(50, 1e-4),
        Rung(75, 1e-4),
        Rung(100, 1e-5),
        Rung(150, 1e-6),
        Rung(200, 1e-7),
        Rung(300, 1e-8),
        Rung(400, 1e-9),
    ],
    Work.BUMPS_2D: [
        Rung(20, 1e-2),
        Rung(24, 1e-2),
        Rung(32, 1e-3),
        Rung(40, 1e-4),
        Rung(48, 1e-4),
        Rung(64, 1e-5),
        Rung(96, 1e-6),
        Rung(128, 1e-7),
        Rung(192, 1e-8),
    ],
    Work.NETWORK: [
        Rung(24, 1e-2),
        Rung(32, 1e-2),
        Rung(48, 1e-3),
        Rung(64, 1e-4),
        Rung(96, 1e-4),
        Rung(144, 1e-5),
        Rung(192, 1e-6),
        Rung(256, 1e-7),
        Rung(384, 1e-8),
        Rung(512, 1e-8),
    ],
}
FOURIER = {
    Work.BUMPS_1D: [
        Rung(20, 1e-2),
        Rung(24, 1e-2),
        Rung(32, 1e-3),
        Rung(40, 1e-4),
        Rung(50, 1e-5),
        Rung(64, 1e-6),
        Rung(80, 1e-7),
        Rung(100, 1e-8),
    ],
    Work.BUMPS_2D: [
        Rung(16, 1e-2),
        Rung(20, 1e-2),
        Rung(24, 1e-3),
        Rung(32, 1e-4),
        Rung(40, 1e-5),
        Rung(48, 1e-6),
        Rung(64, 1e-7),
        Rung(80, 1e-8),
    ],
    Work.NETWORK: CENTRAL[Work.NETWORK],
}
# the implicit methods hold dense Jacobians: 64^2 cells are 134 MB and 4096 right-hand sides each
IMPLICIT = {
    Work.BUMPS_1D: CENTRAL[Work.BUMPS_1D],
    Work.BUMPS_2D: CENTRAL[Work.BUMPS_2D][:6],
    Work.NETWORK: CENTRAL[Work.NETWORK][:4],
}

PARTS = {
    "muscl, RK45": (Lines.MUSCL, "RK45"),
    "central-6, RK45": (Lines.CENTRAL_6, "RK45"),
    "central-6, DOP853": (Lines.CENTRAL_6, "DOP853"),
    "central-6, LSODA": (Lines.CENTRAL_6, "LSODA"),
    "central-6, BDF": (Lines.CENTRAL_6, "BDF"),
    "fourier, DOP853": (Lines.FOURIER, "DOP853"),
}


def prepare(work: Work, variant: str, rung: Rung) -> Solve:
    lines, method = PARTS[variant]

    def solve(seed: int) -> Outcome:
        on = mesh(work, rung.n)
        rate = right_hand_side(lines, on)
        shape = on.shape
        result = solve_ivp(
            lambda t, y: rate(y.reshape(shape)).ravel(),
            (0.0, T_END),
            on.initial.ravel(),
            method=method,
            t_eval=[T_END],
            rtol=rung.tolerance,
            atol=0.1 * rung.tolerance,
        )
        if not result.success:
            raise RuntimeError(result.message)
        mu: np.ndarray = result.y[:, -1].reshape(shape)
        return Outcome(float(on.energy(mu)), float(mu.sum() * on.volume), float(mu.min() / mu.max()))

    return solve


PEER = Peer(
    name="scipy solve_ivp",
    packages=("scipy", "numpy"),
    variants=[
        Variant("muscl, RK45", MUSCL),
        Variant("central-6, RK45", CENTRAL),
        Variant("central-6, DOP853", CENTRAL),
        Variant("central-6, LSODA", IMPLICIT),
        Variant("central-6, BDF", IMPLICIT),
        Variant("fourier, DOP853", FOURIER),
    ],
    prepare=prepare,
    lacks="positivity (Runge-Kutta stages are not limited; central and Fourier oscillate); mass only to the tolerance "
    "of the walls (central, Fourier); energy decay",
    method="vectorised NumPy right-hand side, kernel along each axis by BLAS, atol = rtol / 10; LSODA and BDF with the "
    "dense difference Jacobian, small meshes only in 2-D",
)
